"""What each metric is called, in which unit it is read, and which direction is good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from zerorouter.routing.wording import usd

Unit: TypeAlias = Literal["plain", "share", "usd", "seconds", "count", "points"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How one metric is read.

    Attributes:
        label: Heading of its column.
        unit: Unit of its values; a share is shown in percent.
        higher_is_better: Direction; None where neither end is good.
        meaning: One line for the glossary of the page.
    """

    label: str
    unit: Unit = "plain"
    higher_is_better: bool | None = None
    meaning: str = ""


MEASURES: Mapping[str, Measure] = {
    "log_loss": Measure(
        label="log-loss",
        higher_is_better=False,
        meaning="mean negative log-likelihood of the answers under P(correct), per newcomer",
    ),
    "brier": Measure(
        label="Brier",
        higher_is_better=False,
        meaning="mean squared distance between P(correct) and the score",
    ),
    "auc": Measure(
        label="AUC",
        higher_is_better=True,
        meaning="chance that a prompt answered well ranks above one that was not, per model",
    ),
    "auc_pooled": Measure(
        label="AUC pooled", higher_is_better=True, meaning="AUC over all models at once"
    ),
    "ece": Measure(
        label="ECE",
        higher_is_better=False,
        meaning="mean gap between P(correct) and frequency over bins of equal width",
    ),
    "cost_save_100": Measure(
        label="saved at 100%",
        unit="share",
        higher_is_better=True,
        meaning="cost saved at the accuracy of the best single model",
    ),
    "cost_save_99": Measure(
        label="saved at 99%",
        unit="share",
        higher_is_better=True,
        meaning="cost saved at 99% of that accuracy",
    ),
    "cost_save_95": Measure(
        label="saved at 95%",
        unit="share",
        higher_is_better=True,
        meaning="cost saved at 95% of that accuracy",
    ),
    "cost_save": Measure(
        label="cost saved",
        unit="share",
        higher_is_better=True,
        meaning="cost saved at matched accuracy",
    ),
    "aiq": Measure(
        label="AIQ",
        higher_is_better=True,
        meaning="mean height of the non-decreasing convex hull of cost and accuracy",
    ),
    "accuracy_at_matched_cost": Measure(
        label="acc. at cost",
        unit="share",
        higher_is_better=True,
        meaning="accuracy at the cost of the best single model",
    ),
    "perf_gain": Measure(
        label="PerfGain",
        unit="share",
        higher_is_better=True,
        meaning="best accuracy of any operating point over that of the best single model, minus 1",
    ),
    "routerarena": Measure(
        label="RouterArena",
        higher_is_better=True,
        meaning="1.1 A C / (0.1 A + C): A the accuracy, C the thrift on a logarithmic scale",
    ),
    "regret": Measure(
        label="regret",
        unit="usd",
        higher_is_better=False,
        meaning="utility lost per prompt, in dollars, against the router that has all labels",
    ),
    "pgr": Measure(
        label="PGR",
        higher_is_better=True,
        meaning="share of the gap between the cheapest and the best single model that is closed",
    ),
    "apgr": Measure(
        label="APGR", higher_is_better=True, meaning="PGR averaged over costs between those two"
    ),
    "cpt": Measure(
        label="CPT",
        unit="share",
        higher_is_better=False,
        meaning="least share of the extra money, from the weak model's cost to the strong one's, "
        "that recovers half the gap between them",
    ),
    "mean_accuracy": Measure(label="accuracy", unit="share", higher_is_better=True),
    "mean_cost_usd": Measure(label="cost / prompt", unit="usd", higher_is_better=False),
    "mean_latency_s": Measure(label="latency", unit="seconds", higher_is_better=False),
    "bad_newcomer_harm": Measure(
        label="newcomer harm",
        higher_is_better=False,
        meaning="what a bad newcomer costs the pool that takes it in",
    ),
    "interval_coverage": Measure(
        label="coverage",
        unit="share",
        meaning="share of truths inside the 95% intervals; 95% is right",
    ),
    "constraint_violation": Measure(label="violation", unit="share", higher_is_better=False),
    "duality_gap": Measure(label="duality gap", unit="share", higher_is_better=False),
    "overhead_p50_s": Measure(
        label="overhead p50",
        unit="seconds",
        higher_is_better=False,
        meaning="time that a decision adds to a request: median",
    ),
    "overhead_p99_s": Measure(
        label="overhead p99",
        unit="seconds",
        higher_is_better=False,
        meaning="the same: 99th percentile",
    ),
    "calls": Measure(
        label="calls", unit="count", higher_is_better=False, meaning="benchmark calls per newcomer"
    ),
    "usd": Measure(label="dollars", unit="usd", higher_is_better=False),
}
"""Known metrics, in the order of columns."""


def measure(metric: str) -> Measure:
    """The measure of a metric; an unknown one is shown as it is named."""
    return MEASURES.get(metric) or Measure(label=shown(metric))


def shown(text: str) -> str:
    """Text from data on one line, with everything that does not print replaced: no escape codes."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def number(value: float, unit: Unit = "plain", *, signed: bool = False, like: float = 0.0) -> str:
    """One value as people read it.

    Args:
        value: The value.
        unit: Its unit.
        signed: Whether a gain carries its plus sign.
        like: A larger number beside it, whose digits it takes.

    >>> number(0.44249), number(0.318, "share"), number(0.00031, "seconds")
    ('0.442', '31.8%', '310 µs')
    >>> number(0.000123), number(0.000123, like=0.01)
    ('0.00012', '0.000')
    """
    sign = "-" if value < 0 else "+" if signed and value > 0 else ""
    text = _magnitude(abs(value), unit, abs(like))
    # A value that rounds to nothing has no sign: "-0.000" is not a number anyone wants to read.
    return sign + text if any(digit in text for digit in "123456789") else text


def _magnitude(value: float, unit: Unit, like: float) -> str:
    if unit == "share":
        return f"{100 * value:.1f}%"
    if unit == "points":
        return f"{100 * value:.1f} pp"
    if unit == "usd":
        return usd(value)
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "seconds":
        return _seconds(value)
    if value >= 1000:
        return f"{value:,.0f}"
    if 1e-9 < max(value, like) < 0.0005:
        return f"{value:.{1 - math.floor(math.log10(max(value, like)))}f}"
    return f"{value:.3f}"


def _seconds(value: float) -> str:
    if value < 0.9995e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        digits = 2 if value < 0.01 else 1 if value < 0.1 else 0
        return f"{value * 1e3:.{digits}f} ms"
    return f"{value:.2f} s"


def _ends(low: float, high: float, unit: Unit) -> tuple[str, str]:
    like = max(abs(low), abs(high))
    return number(low, unit, like=like), number(high, unit, like=like)


def interval(low: float, high: float, unit: Unit = "plain") -> str:
    """An interval in words that fit beside its value: ``0.436 to 0.449``."""
    left, right = _ends(low, high, unit)
    return f"{_without_unit(left, right)} to {right}"


def short_interval(low: float, high: float, unit: Unit = "plain") -> str:
    """An interval for narrow tables: no leading zeros, no unit that the value already has.

    >>> short_interval(0.436, 0.449), short_interval(-0.09, 0.02, "share")
    ('.436–.449', '-9.0 to 2.0')
    """
    left, right = _ends(low, high, unit)
    left = _without_unit(left, right)
    if unit == "plain":
        left, right = without_zero(left), without_zero(right)
    elif unit == "usd":
        left, right = left.replace("$", ""), right.replace("$", "")
    elif unit != "seconds":
        left, right = left.rstrip("%p "), right.rstrip("%p ")
    return (" to " if low < 0 or high < 0 else "–").join((left, right))


def _without_unit(left: str, right: str) -> str:
    """The left end of a range without the unit that its right end repeats."""
    words, others = left.split(), right.split()
    return words[0] if len(words) == len(others) == 2 and words[1] == others[1] else left


def half_width(low: float, high: float, unit: Unit = "plain") -> str:
    """Half the width of an interval, for the narrowest tables: ``±.006``."""
    text = number((high - low) / 2, unit, like=max(abs(low), abs(high)))
    return "±" + (without_zero(text) if unit == "plain" else text.rstrip("%p "))


def without_zero(text: str) -> str:
    """``0.442`` as ``.442``, for narrow tables."""
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def difference(read: Measure) -> Measure:
    """How a difference of two values is read: of shares in percentage points."""
    return replace(read, unit="points") if read.unit == "share" else read
