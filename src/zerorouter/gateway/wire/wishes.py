"""What a client wants of the router: the ``zerorouter`` object of a body, or headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from zerorouter.errors import WireError, nearest_name

HEADER_PREFIX: Final = "x-zerorouter-"

_LONGEST_WORD: Final = 512
_MOST_PATTERNS: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestWishes:
    """Wishes of one request; None and empty where nothing is wished.

    Attributes:
        policy: A policy's name.
        max_cost_usd: Largest expected cost.
        max_latency_s: Largest expected latency.
        max_p95_latency_s: Largest 95th percentile of the latency.
        min_accuracy: Least P(correct), in [0, 1].
        confidence: At which P(correct) is taken, in [0.5, 1).
        allow: Patterns of models that may serve; empty for all.
        deny: Patterns of models that may not.
        session_id: Requests of one session stay with one model where that pays.
    """

    policy: str | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    max_p95_latency_s: float | None = None
    min_accuracy: float | None = None
    confidence: float | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    session_id: str | None = None

    def over(self, other: RequestWishes) -> RequestWishes:
        """These wishes, filled up with those of ``other``; bans of both hold."""
        merged = {f.name: getattr(self, f.name) or getattr(other, f.name) for f in fields(self)}
        for name in _NUMBERS:
            mine = getattr(self, name)
            merged[name] = mine if mine is not None else getattr(other, name)
        merged["deny"] = tuple(dict.fromkeys((*other.deny, *self.deny)))
        return RequestWishes(**merged)


NO_WISHES: Final = RequestWishes()

# name -> (least, largest, what is wanted)
_NUMBERS: Final[Mapping[str, tuple[float, float, str]]] = {
    "max_cost_usd": (0.0, math.inf, "a number of dollars >= 0"),
    "max_latency_s": (0.0, math.inf, "a number of seconds >= 0"),
    "max_p95_latency_s": (0.0, math.inf, "a number of seconds >= 0"),
    "min_accuracy": (0.0, 1.0, "a probability from 0 to 1"),
    "confidence": (0.5, math.nextafter(1.0, 0.0), "a probability from 0.5 to below 1"),
}
_LISTS: Final = ("allow", "deny")
_WORDS: Final = ("policy", "session_id")
_KNOWN: Final = (*_WORDS, *_NUMBERS, *_LISTS)


def read_wishes(value: Any) -> RequestWishes:
    """The ``zerorouter`` object of a request's body; None wishes nothing.

    Raises:
        WireError: It is no object, a name in it is unknown or a value is out of range.
    """
    if value is None:
        return NO_WISHES
    if not isinstance(value, Mapping):
        raise WireError(
            f"zerorouter: found {_shown(value)}; wanted an object such as "
            '{"policy": "cost", "min_accuracy": 0.8}',
            param="zerorouter",
        )
    read: dict[str, Any] = {}
    for name, found in value.items():
        if name in _NUMBERS:
            read[name] = _number(f"zerorouter.{name}", name, found)
        elif name in _LISTS:
            read[name] = _patterns(f"zerorouter.{name}", found)
        elif name in _WORDS:
            read[name] = _word(f"zerorouter.{name}", found)
        else:
            raise WireError(_unknown("zerorouter.", str(name)), param=f"zerorouter.{name}")
    return RequestWishes(**read)


def wishes_from_headers(headers: Mapping[str, str]) -> RequestWishes:
    """Wishes out of request headers such as ``x-zerorouter-max-cost-usd: 0.01``.

    ``allow`` and ``deny`` are lists with commas. Headers of the prefix that are not known here
    are left alone: the gateway's own answers use the prefix, too, and proxies echo them.

    Args:
        headers: Names in lower case.

    Raises:
        WireError: A value is out of range.
    """
    read: dict[str, Any] = {}
    for name in _KNOWN:
        header = HEADER_PREFIX + name.replace("_", "-")
        found = headers.get(header)
        if found is None or not found.strip():
            continue
        if name in _LISTS:
            listed = [part.strip() for part in found.split(",")]
            read[name] = _patterns(header, [part for part in listed if part])
        elif name in _WORDS:
            read[name] = _word(header, found.strip())
        else:
            try:
                number: Any = float(found)
            except ValueError:
                number = found
            read[name] = _number(header, name, number)
    return RequestWishes(**read) if read else NO_WISHES


def _number(where: str, name: str, found: Any) -> float | None:
    if found is None:
        return None
    least, largest, wanted = _NUMBERS[name]
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or not math.isfinite(found) or not least <= found <= largest:
        raise WireError(f"{where}: found {_shown(found)}; wanted {wanted}", param=where)
    return float(found)


def _word(where: str, found: Any) -> str | None:
    if found is None:
        return None
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_WORD:
        raise WireError(
            f"{where}: found {_shown(found)}; wanted a text of 1 to {_LONGEST_WORD} characters",
            param=where,
        )
    return found


def _patterns(where: str, found: Any) -> tuple[str, ...]:
    if found is None:
        return ()
    listed = [found] if isinstance(found, str) else found
    if (
        not isinstance(listed, list)
        or len(listed) > _MOST_PATTERNS
        or not all(isinstance(one, str) and 0 < len(one) <= _LONGEST_WORD for one in listed)
    ):
        raise WireError(
            f"{where}: found {_shown(found)}; wanted at most {_MOST_PATTERNS} names or patterns "
            "of models",
            param=where,
        )
    return tuple(listed)


def _unknown(prefix: str, name: str) -> str:
    near = nearest_name(name, _KNOWN)
    advice = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(_KNOWN))}"
    return f"{prefix}{name[:80]}: no such wish; {advice}"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
