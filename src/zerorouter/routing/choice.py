"""Choosing: utilities, bounds, and an order that depends on nothing but the numbers.

The laws that hold, each a property test: the utility of a model depends on its own estimates and
the policy alone, so adding a model never re-ranks the others; scaling all prices and both values
of a policy in dollars changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import NoModelInBoundsError
from zerorouter.prices import missing_price
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import AUGMENTATION, Policy

CAUTION_Z = 1.2816
"""Standard errors of the bound at which models on probation are taken: 90% lie above it."""


def probabilities(estimates: Estimates, policy: Policy) -> FloatArray:
    """(N, M) P(correct) as the policy takes it.

    Without a confidence the expectation; with one the lower bound that the truth exceeds with
    that probability. The bound carries what is not known of the model and of prompts like
    this one, so it lies lower for newcomers and where support is low. Models on probation are
    taken at such a bound under every policy, until enough is known of them.
    """
    p: FloatArray = estimates.p_correct
    if policy.confidence is not None:
        p = estimates.forecast.interval(policy.confidence_z)[0]
    if estimates.cautious is not None and (policy.confidence_z or 0.0) < CAUTION_Z:
        bound = estimates.forecast.interval(CAUTION_Z)[0]
        p = np.where(estimates.cautious, bound, p)
    return p


def utilities(estimates: Estimates, policy: Policy) -> Float64Array:
    """(N, M) what the policy maximises; NaN where a price is missing that it needs.

    Dollars in policy mode; minus the cost, or P(correct), in constraint mode. The Chebyshev
    scalarisation takes minus the largest of what is lost by being wrong, V (1 - p), by paying, c,
    and by waiting, eta t: measured from the one point that is ideal whatever the pool is.
    """
    if policy.objective == "cost":
        out: Float64Array = -estimates.cost_usd
        return out
    p = probabilities(estimates, policy)
    if policy.objective == "accuracy":
        return p.astype(np.float64)
    worth, second = policy.value_of_correct_usd, policy.value_of_second_usd
    if policy.scalarisation == "chebyshev":
        wrong = worth * (1 - p.astype(np.float64))
        waiting = second * estimates.latency_s
        largest = np.maximum(np.maximum(wrong, estimates.cost_usd), waiting)
        return -(largest + AUGMENTATION * (wrong + estimates.cost_usd + waiting))
    value: Float64Array = np.multiply(p, worth, dtype=np.float64)
    value -= estimates.cost_usd
    if second:
        value -= second * estimates.latency_s
    return value


# -- bounds ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound of a policy.

    Attributes:
        name: The policy's field.
        is_floor: Whether values have to be at least that large; else at most.
        values: (N, M) of the estimates, as the policy takes them.
    """

    name: str
    is_floor: bool
    values: Callable[[Estimates, Policy], FloatArray]

    def limit(self, policy: Policy) -> float | None:
        """The policy's number; None where it sets none."""
        value: float | None = getattr(policy, self.name)
        return value

    def kept(self, estimates: Estimates, policy: Policy) -> BoolArray:
        """(N, M) whether each pair keeps it; an unknown cost keeps no bound."""
        values, limit = self.values(estimates, policy), self.limit(policy)
        assert limit is not None
        out: BoolArray = values >= limit if self.is_floor else values <= limit
        return out


BOUNDS: tuple[Bound, ...] = (
    Bound("min_accuracy", True, probabilities),
    Bound("max_cost_usd", False, lambda estimates, _policy: estimates.cost_usd),
    Bound("max_latency_s", False, lambda estimates, _policy: estimates.latency_s),
    Bound("max_p95_latency_s", False, lambda estimates, _policy: estimates.latency_p95_s),
)


def bounds_of(policy: Policy) -> tuple[Bound, ...]:
    """The bounds that a policy sets."""
    return tuple(bound for bound in BOUNDS if bound.limit(policy) is not None)


def within_bounds(estimates: Estimates, policy: Policy) -> BoolArray:
    """(N, M) whether each pair keeps the policy's bounds."""
    kept = np.ones(estimates.cost_usd.shape, dtype=np.bool_)
    for bound in bounds_of(policy):
        kept &= bound.kept(estimates, policy)
    return kept


# -- order -----------------------------------------------------------------------------------------


def ranked(estimates: Estimates, row: int, utility: Float64Array, allowed: IntArray) -> IntArray:
    """The ``allowed`` columns from best to worst for one prompt.

    Equal utilities are ordered by lower cost, then higher P(correct), then lower latency,
    then name, so that neither the order of the pool nor a dominated model decides.
    """
    names = np.array(estimates.models)[allowed]
    order = np.lexsort(
        (
            names,
            estimates.latency_s[row, allowed],
            -estimates.p_correct[row, allowed],
            estimates.cost_usd[row, allowed],
            -utility[allowed],
        )
    )
    out: IntArray = allowed[order]
    return out


def best(estimates: Estimates, row: int, utility: Float64Array, allowed: IntArray) -> int:
    """The first of `ranked`, found without sorting unless there is a tie."""
    values = utility if len(allowed) == len(utility) else utility[allowed]
    at = int(values.argmax())
    tied = values == values[at]
    if np.count_nonzero(tied) == 1:
        return int(allowed[at])
    return int(ranked(estimates, row, utility, allowed[tied])[0])


LEAST_LIMIT = 1e-9  # stands for a bound of zero where ratios to it are compared

# -- what cannot be done ---------------------------------------------------------------------------


def require_prices(estimates: Estimates, row: int, allowed: IntArray) -> None:
    """Refuse to weigh costs that nobody knows.

    Raises:
        MissingPriceError: a candidate has no price; says how to set one.
    """
    unpriced = np.isnan(estimates.cost_usd[row])
    if unpriced.any() and unpriced[allowed].any():
        raise missing_price(estimates.models[int(allowed[unpriced[allowed]][0])])


def _reached(value: float, *, is_floor: bool) -> str:
    """A bound that would do, in four digits: rounded to the side on which it still does."""
    if value == 0:
        return "0"
    digits = min(max(3 - math.floor(math.log10(abs(value))), 0), 12)
    towards = math.floor if is_floor else math.ceil
    return f"{towards(value * 10**digits) / 10**digits:.{digits}f}"


def infeasible(
    estimates: Estimates, row: int, policy: Policy, allowed: IntArray
) -> NoModelInBoundsError:
    """The error for bounds that no candidate keeps: the binding one and the nearest value.

    Each bound is loosened alone; those whose loosening makes the request feasible are named with
    the value and the model that would do. Where none alone suffices, the model that misses its
    bounds by the least (in logs) is named with all the values it would take.
    """
    bounds = bounds_of(policy)
    values = [
        np.asarray(b.values(estimates, policy), dtype=np.float64)[row, allowed] for b in bounds
    ]
    kept = np.array([b.kept(estimates, policy)[row, allowed] for b in bounds])  # (B, M)
    found: list[tuple[Bound, int]] = []
    for i, bound in enumerate(bounds):
        others = np.delete(kept, i, axis=0).all(axis=0)
        if others.any() and not kept[i][others].any():
            pool = np.flatnonzero(others)
            at = np.argmax(values[i][pool]) if bound.is_floor else np.argmin(values[i][pool])
            found.append((bound, int(pool[at])))
    if not found:
        excess = np.zeros(len(allowed))
        for bound, value, keeps in zip(bounds, values, kept, strict=True):
            wanted = max(bound.limit(policy) or 0.0, LEAST_LIMIT)
            away = np.abs(np.log(np.maximum(value, LEAST_LIMIT) / wanted))
            excess += np.where(keeps, 0.0, away)
        nearest = int(np.argmin(excess))
        found = [(b, nearest) for b, keeps in zip(bounds, kept, strict=True) if not keeps[nearest]]
        joined = " and "
    else:
        joined = "; "
    told = []
    for bound, j in found:
        limit = bound.limit(policy)
        value = float(values[bounds.index(bound)][j])
        sure = (
            f" at confidence {policy.confidence:g}"
            if bound.name == "min_accuracy" and policy.confidence is not None
            else ""
        )
        told.append(
            f"{bound.name}={limit:g}{sure} is out of reach: the nearest is "
            f"{_reached(value, is_floor=bound.is_floor)} ({estimates.models[int(allowed[j])]})"
        )
    first, j = found[0]
    return NoModelInBoundsError(
        f"no model keeps the bounds; {joined.join(told)}",
        bound=first.name,
        value=first.limit(policy) or 0.0,
        nearest=float(values[bounds.index(first)][j]),
        model=estimates.models[int(allowed[j])],
    )
