"""Choosing: utilities, bounds, and an order that depends on nothing but the numbers."""

from __future__ import annotations

import math

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.errors import MissingPriceError, NoEligibleModelError
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import Policy


def utilities(estimates: Estimates, policy: Policy) -> Float64Array:
    """(N, M) utility of each pair in dollars; NaN where a price is missing."""
    value = policy.value_of_correct_usd * estimates.p_correct.astype(np.float64)
    value -= estimates.cost_usd
    if policy.value_of_second_usd:
        value -= policy.value_of_second_usd * estimates.latency_s
    return value


def within_bounds(estimates: Estimates, policy: Policy) -> BoolArray:
    """(N, M) whether each pair keeps the policy's bounds."""
    kept = np.ones(estimates.p_correct.shape, dtype=np.bool_)
    if policy.min_accuracy is not None:
        kept &= estimates.p_correct >= policy.min_accuracy
    if policy.max_cost_usd is not None:
        kept &= estimates.cost_usd <= policy.max_cost_usd
    if policy.max_latency_s is not None:
        kept &= estimates.latency_s <= policy.max_latency_s
    return kept


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
    values = utility[allowed]
    top = values.max()
    tied = allowed[values == top]
    if len(tied) == 1:
        return int(tied[0])
    return int(ranked(estimates, row, utility, tied)[0])


def require_prices(estimates: Estimates, row: int, allowed: IntArray) -> None:
    """Refuse to weigh costs that nobody knows.

    Raises:
        MissingPriceError: a candidate has no price; says how to set one.
    """
    unpriced = np.isnan(estimates.cost_usd[row])
    if unpriced.any() and unpriced[allowed].any():
        name = estimates.models[int(allowed[unpriced[allowed]][0])]
        raise MissingPriceError(
            f"model {name!r} has no price, and a policy in dollars needs one; set it under "
            f"'prices:' in the configuration, or leave the model out with --exclude {name}"
        )


def _reached(nearness: float) -> str:
    """A bound that would do, in four digits: rounded to the side on which it still does.

    ``nearness`` is a cost or a latency, which may be rounded up, or minus a probability.
    """
    if nearness == 0:
        return "0"
    digits = min(max(3 - math.floor(math.log10(abs(nearness))), 0), 12)
    return f"{abs(math.ceil(nearness * 10**digits) / 10**digits):.{digits}f}"


def infeasible(
    estimates: Estimates, row: int, policy: Policy, allowed: IntArray
) -> NoEligibleModelError:
    """The error for bounds that no candidate keeps: the binding one and the nearest value.

    Each bound is loosened alone; the first that makes the request feasible is named with the
    value and the model that would do. Where none alone suffices, all nearest values are told.
    """
    p = estimates.p_correct[row, allowed]
    cost, latency = estimates.cost_usd[row, allowed], estimates.latency_s[row, allowed]
    keeps = {
        "min_accuracy": np.full(len(allowed), True)
        if policy.min_accuracy is None
        else p >= policy.min_accuracy,
        "max_cost_usd": np.full(len(allowed), True)
        if policy.max_cost_usd is None
        else cost <= policy.max_cost_usd,
        "max_latency_s": np.full(len(allowed), True)
        if policy.max_latency_s is None
        else latency <= policy.max_latency_s,
    }
    nearness = {"min_accuracy": -p, "max_cost_usd": cost, "max_latency_s": latency}
    wanted = {
        "min_accuracy": policy.min_accuracy,
        "max_cost_usd": policy.max_cost_usd,
        "max_latency_s": policy.max_latency_s,
    }
    told = []
    for bound, value in wanted.items():
        if value is None or keeps[bound].all():
            continue
        others = np.logical_and.reduce([kept for name, kept in keeps.items() if name != bound])
        pool = np.flatnonzero(others)
        if len(pool) == 0:
            pool = np.arange(len(allowed))
        at = pool[np.argmin(nearness[bound][pool])]
        model, nearest = estimates.models[int(allowed[at])], _reached(float(nearness[bound][at]))
        told.append(f"{bound}={value:g} is out of reach: the nearest is {nearest} ({model})")
    return NoEligibleModelError("no model keeps the bounds; " + "; ".join(told))
