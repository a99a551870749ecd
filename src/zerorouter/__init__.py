"""ZeroRouter."""
