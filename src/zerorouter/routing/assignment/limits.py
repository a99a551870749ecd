"""Why no assignment keeps the bounds, and the nearest value of each that would do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.errors import InfeasibleError
from zerorouter.routing.assignment.offers import Bounds, Capacity, Offers
from zerorouter.routing.assignment.programme import Programme
from zerorouter.routing.assignment.solution import Unreachable
from zerorouter.routing.assignment.solving import least_usage, solve

BOUNDS = ("budget_usd", "max_mean_latency_s", "max_p95_latency_s", "min_accuracy", "capacity")
P95_STEPS = 14  # halvings of the interval in which the nearest 95th percentile is sought
DIGITS = 4

Build = Callable[[Bounds], Programme]


def crowded(n_prompts: int, requests: Float64Array) -> InfeasibleError | None:
    """The error for request limits (M,) that cannot hold the prompts, whatever the rest."""
    total = float(requests.sum())
    if total >= n_prompts:
        return None
    return InfeasibleError(
        f"the capacities take {total:,.0f} requests and there are {n_prompts:,} prompts; raise "
        f"them by {n_prompts - total:,.0f} in all, or leave prompts out",
        bound="capacity",
        value=total,
        nearest=float(n_prompts),
    )


def explained(offers: Offers, bounds: Bounds, build: Build, *, proven: bool) -> InfeasibleError:
    """The error for bounds that no assignment keeps.

    Args:
        offers: The batch.
        bounds: That cannot be kept.
        build: Makes the programme of some bounds.
        proven: Whether it is known that none is possible.
    """
    opening = "no assignment keeps the bounds" if proven else "no assignment was found"
    return told(bounds, nearest_values(offers, bounds, build), opening)


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """What would do.

    Attributes:
        values: The nearest value of bounds, by name.
        alone: Whether each would do with the other bounds as they are, or only without them.
    """

    values: dict[str, float]
    alone: bool


def nearest_values(offers: Offers, bounds: Bounds, build: Build) -> Nearest:
    """The nearest value of each bound that makes the batch possible, the others as they are.

    Where no bound alone suffices, that of each with the others left out.
    """
    given = _given(bounds)
    found = {name: _nearest(offers, bounds, name, build) for name in given}
    alone = any(value is not None for value in found.values()) or len(given) == 1
    if not alone:
        only = {name: Bounds(**{name: getattr(bounds, name)}) for name in given}
        found = {name: _nearest(offers, only[name], name, build) for name in given}
    return Nearest(values={k: v for k, v in found.items() if v is not None}, alone=alone)


def told(
    bounds: Bounds, nearest: Nearest, opening: str, source: str = "it takes"
) -> InfeasibleError:
    """The error that names them, with how they are known."""
    given, values = _given(bounds), nearest.values
    if not values:
        return InfeasibleError(
            f"{opening}: {', '.join(given)} leave no room; loosen several of them, or allow more "
            "models",
            bound=given[0],
        )
    first = next(iter(values))
    parts = [_told(bounds, name, value) for name, value in values.items()]
    how = "" if nearest.alone else " (each with the other bounds left out)"
    return InfeasibleError(
        f"{opening}; {source} {(', or ' if nearest.alone else '; ').join(parts)}{how}",
        bound=first,
        value=None if first == "capacity" else float(getattr(bounds, first)),
        nearest=values[first],
    )


def _given(bounds: Bounds) -> list[str]:
    named = [name for name in BOUNDS[:-1] if getattr(bounds, name) is not None]
    return [*named, "capacity"] if bounds.capacity else named


def _told(bounds: Bounds, name: str, nearest: float) -> str:
    if name == "capacity":
        return f"capacities of {nearest:.{DIGITS}g} times the given ones"
    word = "at most" if name == "min_accuracy" else "at least"
    return f"{name} of {word} {nearest:.10g} instead of {getattr(bounds, name):g}"


def _nearest(offers: Offers, bounds: Bounds, name: str, build: Build) -> float | None:
    """The nearest value of one bound that works with the others as they are."""
    try:
        if name == "max_p95_latency_s":
            return _nearest_p95(offers, bounds, build)
        if name == "capacity":
            return _nearest_capacity(bounds, build)
        programme = build(bounds)
        places = [k for k, side in enumerate(programme.sides) if side.name == name]
        if not places:
            return None
        used = -least_usage(programme, places[0]).objective
    except Unreachable:
        return None
    if name == "min_accuracy":
        total = offers.n_prompts if offers.weight is None else float(offers.weight.sum())
        return rounded(-used / total, up=False)
    return rounded(used / (1 if name == "budget_usd" else offers.n_prompts), up=True)


def _nearest_p95(offers: Offers, bounds: Bounds, build: Build) -> float | None:
    """Halve the interval between the bound and the longest latency."""
    if offers.latency_s is None or bounds.max_p95_latency_s is None:
        return None
    tail = offers.latency_s if offers.latency_p95_s is None else offers.latency_p95_s
    shown = tail if offers.allowed is None else tail[offers.allowed]
    low, high = bounds.max_p95_latency_s, float(shown.max()) * 1.001
    if high <= low or not _is_possible(build(replace(bounds, max_p95_latency_s=high))):
        return None
    for _ in range(P95_STEPS):
        middle = (low + high) / 2
        if _is_possible(build(replace(bounds, max_p95_latency_s=middle))):
            high = middle
        else:
            low = middle
    return rounded(high, up=True)


def _nearest_capacity(bounds: Bounds, build: Build) -> float | None:
    """The least common factor on all capacities, found by doubling and halving."""

    def works(factor: float) -> bool:
        grown = {
            name: Capacity(
                requests=None if c.requests is None else c.requests * factor,
                tokens=None if c.tokens is None else c.tokens * factor,
            )
            for name, c in bounds.capacity.items()
        }
        return _is_possible(build(replace(bounds, capacity=grown)))

    high = 2.0
    while not works(high):
        high *= 2
        if high > 1e6:
            return None
    low = high / 2
    for _ in range(P95_STEPS):
        middle = (low + high) / 2
        if works(middle):
            high = middle
        else:
            low = middle
    return rounded(high, up=True)


def _is_possible(programme: Programme) -> bool:
    places = [k for k, side in enumerate(programme.sides) if np.isfinite(side.limit)]
    try:
        if places:
            limit = programme.sides[places[0]].limit
            return -least_usage(programme, places[0]).objective <= limit
        solve(programme, exact=False)
    except Unreachable:
        return False
    return True


def rounded(value: float, *, up: bool) -> float:
    """In four digits, to the side on which the bound still holds."""
    if value == 0 or not math.isfinite(value):
        return value
    scale = 10.0 ** (DIGITS - 1 - math.floor(math.log10(abs(value))))
    whole = math.ceil(value * scale) if up else math.floor(value * scale)
    return whole / scale
