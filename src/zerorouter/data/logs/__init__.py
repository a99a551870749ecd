"""Evaluation logs of other tools, read into one record type: see `reading.read_logs`."""
