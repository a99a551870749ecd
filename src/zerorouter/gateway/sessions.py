"""Which model holds a session's prompt cache: a bounded memory of what has been served.

A session is named by the client and lives under its key, so that nobody reads another's. What is
remembered is how many tokens of its conversation each model has seen lately; the router bills
these at the price of cached input, so that a switch has to pay for the cache that it loses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from zerorouter.serving_config import SessionSettings

MODELS_PER_SESSION = 4
"""A session that jumps about keeps the caches of this many models in mind."""


class Sessions:
    """The memory, least recently used first out.

    Attributes:
        on_note: Told of each note that is made here: other workers take it over by `take`.
    """

    def __init__(self, settings: SessionSettings) -> None:
        self.on_note: Callable[[tuple[str, str, str, float, float]], None] | None = None
        self._settings = settings
        self._held: OrderedDict[tuple[str, str], dict[str, tuple[float, float]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def cached_tokens(self, key: str, session: str, now: float) -> dict[str, float] | None:
        """Tokens that models' caches still hold of a session; None where none does.

        Args:
            key: Name of the client's key.
            session: The client's name of the session.
            now: Seconds of a monotonic clock.
        """
        held = self._held.get((key, session))
        if held is None:
            return None
        since = now - self._settings.cache_lifetime_s
        return {model: tokens for model, (tokens, at) in held.items() if at >= since} or None

    def note(self, key: str, session: str, model: str, tokens: float, now: float) -> None:
        """A model has served a session and now holds ``tokens`` of it."""
        if self.on_note is not None:
            self.on_note((key, session, model, tokens, now))
        self.take(key, session, model, tokens, now)

    def take(self, key: str, session: str, model: str, tokens: float, now: float) -> None:
        """As `note`, of what was served by another worker; its clock is ours."""
        if not self._settings.keep:
            return
        held = self._held.setdefault((key, session), {})
        self._held.move_to_end((key, session))
        held.pop(model, None)
        held[model] = (tokens, now)
        while len(held) > MODELS_PER_SESSION:
            del held[next(iter(held))]
        while len(self._held) > self._settings.keep:
            self._held.popitem(last=False)
        self._drop_cold(now - self._settings.cache_lifetime_s)

    def _drop_cold(self, since: float) -> None:
        """Let go of the two sessions that have waited longest, if no cache holds them any more.

        Two for each that comes: so those that are held are hardly more than those that are warm.
        """
        for _ in range(2):
            name, models = next(iter(self._held.items()))
            if next(reversed(models.values()))[1] >= since:
                return
            del self._held[name]

    def resized(self, settings: SessionSettings) -> None:
        """Take other settings; what is too much goes."""
        self._settings = settings
        while len(self._held) > settings.keep:
            self._held.popitem(last=False)
