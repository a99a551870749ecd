"""Placing a new model: evidence and its posterior, which anchor next, when to stop, what to doubt.

Pure: no clock, no network, no files. `zerorouter.asking` asks, `zerorouter.profiles` keeps.
"""
