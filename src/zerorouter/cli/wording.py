"""Numbers as people read them."""

from __future__ import annotations

import math


def percent(p: float) -> str:
    """0.873 as ``87%``; never rounded up to a certainty."""
    if 0.995 <= p < 1:
        return ">99%"
    return f"{100 * p:.0f}%"


def usd(value: float) -> str:
    """Dollars with two significant digits, however small; ``?`` where unknown."""
    if math.isnan(value):
        return "?"
    if value == 0:
        return "$0"
    digits = max(2, 1 - math.floor(math.log10(abs(value))))
    return f"${value:,.{digits}f}"


def seconds(value: float) -> str:
    """Seconds with one decimal, minutes beyond two of them."""
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def bar(mean: float, sd: float, low: float, high: float, width: int = 21) -> str:
    """A dot with a 90% error bar on a line from ``low`` to ``high``."""

    def at(value: float) -> int:
        share = (value - low) / max(high - low, 1e-9)
        return round(min(max(share, 0.0), 1.0) * (width - 1))

    left, middle, right = at(mean - 1.645 * sd), at(mean), at(mean + 1.645 * sd)
    cells = [" "] * width
    for i in range(left, right + 1):
        cells[i] = "─"
    cells[middle] = "●"
    return "".join(cells)
