"""Rate limits: never more than N in any 60 seconds, to the last one.

What was let in is counted by the second it came in; a request passes if it and all of the running
second and the 60 before it are no more than N. Any 60 seconds lie within these 61, so the limit is
never exceeded, by nobody's way of spreading requests (a bucket that drains all the time lets 2 N
through in its first minute; fixed minutes do so at their border). The price is that a place is free
again only when its whole second is over: a second late at most.

Times are seconds of a monotonic clock, and are passed in. One that jumps back (a container that was
moved) frees nothing for the moment and never lengthens a wait beyond `SECONDS`.
"""

from __future__ import annotations

from typing import Final

SECONDS: Final = 61
"""Counted back from the running one, which is the first."""
MAX_PER_MINUTE: Final = 100_000_000
_MOST: Final = 2**31 - 1  # what a place in the file holds
_S: Final = 1_000_000_000


class Window:
    """What was counted in the last seconds.

    Attributes:
        last_s: The latest second in which anything was counted.
        counts: By second, that of second ``s`` at ``s % SECONDS``.
    """

    __slots__ = ("counts", "last_s")

    def __init__(self, last_s: int = 0, counts: list[int] | None = None) -> None:
        self.last_s = last_s
        self.counts = [0] * SECONDS if counts is None else counts

    def move_to(self, now_s: int) -> None:
        """Forget what is too long ago."""
        ahead = now_s - self.last_s
        if ahead == 0:
            return
        counts = self.counts
        if ahead < 0:  # the clock jumped back: all of it happened just now
            total = min(sum(counts), _MOST)
            counts[:] = [0] * SECONDS
            counts[now_s % SECONDS] = total
        elif ahead >= SECONDS:
            counts[:] = [0] * SECONDS
        else:
            for second in range(self.last_s + 1, now_s + 1):
                counts[second % SECONDS] = 0
        self.last_s = now_s

    def wait_ns(self, units: int, per_minute: int, mono_ns: int) -> int | None:
        """Nanoseconds until ``units`` more pass, after `move_to`; 0 where they do now.

        None where they never do, being more than the limit.
        """
        if units > per_minute:
            return None
        excess = sum(self.counts) + units - per_minute
        if excess <= 0:
            return 0
        for second in range(self.last_s - SECONDS + 1, self.last_s + 1):
            excess -= self.counts[second % SECONDS]
            if excess <= 0:
                return max((second + SECONDS) * _S - mono_ns, 1)
        raise AssertionError("all of it together is what was summed up")

    def add(self, units: int, at_s: int | None = None) -> None:
        """Count ``units`` in the latest second, or change what was counted in another.

        A second that is not remembered any more stays forgotten; no count falls below 0.
        """
        second = self.last_s if at_s is None else at_s
        if self.last_s - SECONDS < second <= self.last_s:
            at = second % SECONDS
            self.counts[at] = min(max(self.counts[at] + units, 0), _MOST)


def second_of(mono_ns: int) -> int:
    """The second that an instant lies in."""
    return mono_ns // _S
