"""Numbers as people read them, in reasons and in tables."""

from __future__ import annotations

import math


def percent(p: float) -> str:
    """0.873 as ``87%``; never rounded to a certainty."""
    if 0.995 <= p < 1:
        return ">99%"
    if 0 < p < 0.005:
        return "<1%"
    return f"{100 * p:.0f}%"


def usd(value: float) -> str:
    """Dollars with two significant digits, however small; ``?`` where unknown."""
    if math.isnan(value):
        return "?"
    if value == 0:
        return "$0"
    if math.isinf(value):
        return "any sum"
    digits = max(2, 1 - math.floor(math.log10(abs(value))))
    return f"${value:,.{digits}f}"


def seconds(value: float) -> str:
    """Seconds with one decimal, minutes beyond two of them."""
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def bound_text(name: str, value: float) -> str:
    """The value of a bound in its unit, by the policy's field."""
    if name == "max_cost_usd":
        return usd(value)
    if name == "min_accuracy":
        return f"{value:.3f}"
    return seconds(value)
