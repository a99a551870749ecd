"""Money in whole nano-dollars, and the UTC days and months that budgets hold for.

A token at $0.0375 per million costs 37.5 nano-dollars: finer than a micro-dollar, so sums in
micro-dollars would be off by percents. A signed 64-bit number holds nine billion dollars of them.

What a request may cost at worst is rounded up, what it did cost to the nearest nano-dollar. Times
are nanoseconds since 1970 in UTC and are passed in, never read here.
"""

from __future__ import annotations

import datetime
from functools import lru_cache
from math import ceil, isfinite
from typing import Final

from zerorouter.errors import InputError
from zerorouter.prices import Price

NUSD: Final = 1_000_000_000  # nano-dollars in a dollar
DAY_NS: Final = 86_400_000_000_000
MAX_NUSD: Final = 1_000_000_000 * NUSD  # a billion dollars: sums stay far below 2**63
_EPOCH: Final = datetime.date(1970, 1, 1)


def to_nusd(usd: float, *, up: bool = False) -> int:
    """Dollars as whole nano-dollars: the nearest, or the next above with ``up``.

    Raises:
        InputError: the amount is negative, not finite or beyond a billion dollars.
    """
    if not (isfinite(usd) and 0 <= usd <= MAX_NUSD / NUSD):
        raise InputError(f"an amount of {usd!r} USD; a number from 0 to a billion is wanted")
    # A float is off by up to one part in 2**52, which must not push 0.1 USD over a whole number.
    return ceil(usd * NUSD * (1 - 2**-52)) if up else round(usd * NUSD)


def to_usd(nusd: int) -> float:
    """Whole nano-dollars as dollars."""
    return nusd / NUSD


def worst_nusd(price: Price, *, input_tokens: int, max_output_tokens: int) -> int:
    """The most a request can cost: nothing cached, all of the input the dearest kind, all written.

    With several prices of a kind the dearest is taken (input: fresh, written to the cache, sound;
    output: plain or reasoning), at the dearest tier that so long an input reaches.
    """
    rate = price.at(input_tokens)
    dear_in = max(
        rate.input_usd_per_mtok,
        rate.cached_input_usd_per_mtok or 0.0,
        rate.cache_write_usd_per_mtok or 0.0,
        price.audio_input_usd_per_mtok or 0.0,
    )
    dear_out = max(rate.output_usd_per_mtok, price.reasoning_usd_per_mtok or 0.0)
    # As request_cost_usd with all tokens of one kind each; no objects, being on every request.
    return to_nusd((input_tokens * dear_in + max_output_tokens * dear_out) / 1e6, up=True)


def day_of(now_ns: int) -> int:
    """Days since 1970-01-01, in UTC."""
    return now_ns // DAY_NS


@lru_cache(maxsize=64)
def month_of(day: int) -> int:
    """Months since year 0 of the day ``day`` days after 1970-01-01."""
    date = _EPOCH + datetime.timedelta(days=day)
    return date.year * 12 + date.month - 1


@lru_cache(maxsize=64)
def day_text(day: int) -> str:
    """``YYYY-MM-DD`` of the day ``day`` days after 1970-01-01."""
    return (_EPOCH + datetime.timedelta(days=day)).isoformat()


def month_text(month: int) -> str:
    """``YYYY-MM`` of a month counted as `month_of` does."""
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def day_from_text(text: str) -> int:
    """The reverse of `day_text`.

    Raises:
        InputError: the text is no date.
    """
    try:
        return (datetime.date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        raise InputError(f"{text!r} is no date; wanted YYYY-MM-DD, in UTC") from None


def day_ends_ns(day: int) -> int:
    """The first nanosecond after a day."""
    return (day + 1) * DAY_NS


def month_ends_ns(month: int) -> int:
    """The first nanosecond after a month."""
    following = month + 1
    return (datetime.date(following // 12, following % 12 + 1, 1) - _EPOCH).days * DAY_NS
