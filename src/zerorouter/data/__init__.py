"""Evaluation records: reading, checking, grouping and importing them."""
