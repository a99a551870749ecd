"""Circuit breakers: an upstream that keeps failing is left alone, then probed.

    closed --(failures in a row)--> open --(open_s)--> half-open --(one probe)--> closed or open

A circuit belongs to one model at one upstream. While it is half-open one probe is under way; its
success closes the circuit, its failure opens it for twice as long. A Retry-After makes it rest
without counting as a failure. Pure: the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

from zerorouter.serving_config import Circuits

PROBE_LIFETIME_S = 600.0
"""After which a probe that never reported is given up."""


class State(IntEnum):
    """Of a circuit; the numbers are the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Circuit:
    """One circuit.

    Attributes:
        failures: In a row.
        open_until: When it may be probed.
        rest_until: Until when its upstream asked to be left alone.
    """

    __slots__ = ("_probe_since", "_rules", "_times_opened", "failures", "open_until", "rest_until")

    def __init__(self, rules: Circuits) -> None:
        self._rules = rules
        self.failures = 0
        self.open_until = 0.0
        self.rest_until = 0.0
        self._times_opened = 0
        self._probe_since: float | None = None

    def state(self, now: float) -> State:
        """What it is at ``now``."""
        if not self._times_opened:
            return State.CLOSED
        return State.OPEN if now < self.open_until else State.HALF_OPEN

    def admits(self, now: float) -> bool:
        """Whether a call may be made; of a half-open circuit only while no probe is under way."""
        if now < self.rest_until:
            return False
        if not self._times_opened:
            return True
        if now < self.open_until:
            return False
        since = self._probe_since
        return since is None or now - since > PROBE_LIFETIME_S

    def begin(self, now: float) -> None:
        """A call goes out; of a circuit that is not closed it is the probe."""
        if self._times_opened:
            self._probe_since = now

    def succeed(self) -> None:
        """A call was answered."""
        if self.failures or self._times_opened:
            self.failures = 0
            self._times_opened = 0
            self._probe_since = None
        self.rest_until = 0.0

    def abandon(self) -> None:
        """A call ended without saying anything of the upstream: its client left."""
        self._probe_since = None

    def rest(self, now: float, seconds: float) -> None:
        """The upstream asked for a pause. A probe that hears this is over."""
        self.rest_until = max(self.rest_until, now + seconds)
        self._probe_since = None

    def fail(self, now: float) -> None:
        """A call failed by the upstream's fault."""
        self.failures += 1
        probing = self._times_opened > 0
        self._probe_since = None
        if probing and now < self.open_until:
            return  # a call from before it opened
        if probing or self.failures >= self._rules.failures:
            length = self._rules.open_s * 2.0 ** min(self._times_opened, 30)
            self._times_opened += 1
            self.open_until = now + min(length, max(self._rules.longest_open_s, self._rules.open_s))

    @property
    def ready_at(self) -> float:
        """When it admits a call at the earliest."""
        return max(self.open_until, self.rest_until)


T = TypeVar("T")


def least_bad(circuits: Sequence[tuple[T, Circuit]]) -> T:
    """Of candidates that admit no call the one that will soonest; the first of equals."""
    return min(circuits, key=lambda pair: pair[1].ready_at)[0]
