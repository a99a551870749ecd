"""Which solver takes which programme, and what is tried where none of the bounds gives way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zerorouter.arrays import IntArray
from zerorouter.routing.assignment import exact as branching
from zerorouter.routing.assignment.joint import minimise_dual
from zerorouter.routing.assignment.programme import Prices, Programme, Side
from zerorouter.routing.assignment.repair import relinked, repaired
from zerorouter.routing.assignment.single import solve_single
from zerorouter.routing.assignment.solution import Solution, Unreachable, no_prices

GOOD_GAP = 1e-6  # an assignment this close to the bound is not worth branching for


def solve(programme: Programme, *, exact: bool | None = None) -> Solution:
    """The best choice that keeps the programme's bounds, with its proof.

    Args:
        programme: What is bounded.
        exact: Whether to end with branch and bound: always, never, or, with None, where the gap
            leaves room, few pairs are in question and SciPy is installed.

    Raises:
        Unreachable: no choice keeps the bounds, or none was found.
        MissingExtraError: ``exact`` is True and SciPy is not installed.
    """
    try:
        found = _by_dual(programme)
    except Unreachable as error:
        small = programme.gain.size <= branching.MOST_PAIRS
        if error.proven or exact is False or not small or not branching.available():
            raise
        return branching.solve_exact(programme)
    if exact is False or (exact is None and found.gap <= GOOD_GAP):
        return found
    if exact is None:
        if programme.n_prompts > branching.MOST_PAIRS or not branching.available():
            return found
        row, _ = branching.surviving_pairs(programme, found.prices, found.bound, found.objective)
        if len(row) > branching.MOST_PAIRS:
            return found
    return branching.solve_exact(programme, incumbent=found)


def least_usage(programme: Programme, k: int) -> Solution:
    """The choice that uses the least of side ``k`` among those that keep all other bounds.

    Its objective is minus what it uses of that side.

    Raises:
        Unreachable: no choice keeps the other bounds, or none was found.
    """
    side = programme.sides[k]
    amount, sign = side.amount, -1.0
    if isinstance(side.factor, float):
        sign *= np.sign(side.factor)
        if abs(side.factor) != 1.0:
            amount = amount * abs(side.factor)
    else:
        amount = amount * side.factor.astype(amount.dtype)
    others = tuple(s for i, s in enumerate(programme.sides) if i != k)
    inner = replace(programme, gain=amount, gain_sign=float(sign), sides=others, largest_gain=None)
    return solve(inner, exact=False)


def _by_dual(p: Programme) -> Solution:
    finite = [k for k, side in enumerate(p.sides) if np.isfinite(side.limit)]
    if not p.is_capped and len(finite) <= 1:
        return _single(p, finite[0] if finite else None)
    return _joint(p, finite)


def _single(p: Programme, k: int | None) -> Solution:
    """At most one bound on a sum; without any, the first side breaks ties."""
    if k is None:
        side = p.sides[0] if p.sides else Side(name="", amount=p.gain, limit=np.inf, factor=-1.0)
    else:
        side = p.sides[k]
    found = solve_single(replace(p, sides=(side,)))
    prices = no_prices(p)
    if k is not None:
        prices.sides[k] = found.prices.sides[0]
    return replace(found, prices=prices)


def _joint(p: Programme, finite: list[int]) -> Solution:
    dual = minimise_dual(p)
    if dual.impossible:
        raise Unreachable(proven=True)
    choice = repaired(p, dual.prices, dual.choice)
    if choice is None:
        choice = _from_thrift(p, finite, dual.prices, dual.choice)
    return Solution(
        choice=choice,
        objective=p.value(choice),
        bound=max(dual.bound, p.value(choice)),
        prices=dual.prices,
    )


def _from_thrift(p: Programme, finite: list[int], prices: Prices, wanted: IntArray) -> IntArray:
    """Start from the choice that uses least of one bound, and move towards the wanted one.

    Raises:
        Unreachable: no start keeps the bounds.
    """
    for k in finite:
        start = least_usage(p, k)
        if -start.bound > p.sides[k].limit + 1e-9 * abs(p.sides[k].limit):
            raise Unreachable(proven=True)
        if p.keeps(start.choice):
            return relinked(p, prices, start.choice, wanted)
    raise Unreachable(proven=False)
