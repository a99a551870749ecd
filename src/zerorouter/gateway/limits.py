"""Rate limits: a leaky bucket in whole numbers, so that the boundary is exact.

A limit of N a minute is a bucket that holds N and drains evenly, N in 60 s: a burst of N passes at
once, after which one more passes every 60/N seconds. The level is kept in *unit-nanoseconds*, 60e9
to a unit; N of them drain each nanosecond, so nothing is ever rounded and a limit that changes
counts at once.

Times are of a monotonic clock, in nanoseconds, and are passed in. One that jumps back (a reboot, a
container moved) drains nothing for the moment and never lengthens a wait beyond a minute.
"""

from __future__ import annotations

from typing import Final

MINUTE_NS: Final = 60_000_000_000
MAX_PER_MINUTE: Final = 100_000_000  # its full bucket still fits a signed 64-bit number


def drained(level: int, last_ns: int, now_ns: int, per_minute: int) -> int:
    """The level now of a bucket that stood at ``level`` at ``last_ns``."""
    return max(0, level - max(0, now_ns - last_ns) * per_minute)


def wait_ns(level: int, units: int, per_minute: int) -> int | None:
    """Nanoseconds until ``units`` more fit into a bucket at ``level``; 0 where they do now.

    None where they never do, being more than the bucket holds.
    """
    if units > per_minute:
        return None
    excess = level + (units - per_minute) * MINUTE_NS
    return -(-excess // per_minute) if excess > 0 else 0


def filled(level: int, units: int, per_minute: int) -> int:
    """The level after ``units`` more; negative ones give back what was taken too much.

    What turned out larger than it was announced may exceed the bucket (it delays what follows),
    by at most one more bucket.
    """
    return min(max(0, level + units * MINUTE_NS), 2 * per_minute * MINUTE_NS)
