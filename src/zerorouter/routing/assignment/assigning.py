"""`assign`: a table of offers and the bounds on a batch in, an assignment with its proof out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import InfeasibleError, InputError
from zerorouter.routing.assignment import limits
from zerorouter.routing.assignment.latency import ALLOWED_EXCESS, exceedance, percentile_95
from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.assignment.programme import Prices, Programme, Side, chosen_cells
from zerorouter.routing.assignment.result import Assignment, Totals
from zerorouter.routing.assignment.single import thriftiest_choice
from zerorouter.routing.assignment.solution import Solution, Unreachable
from zerorouter.routing.assignment.solving import least_usage, solve
from zerorouter.routing.assignment.spend import CostErrors, SpendSums, inflation, spend_of

Goal: TypeAlias = Literal["accuracy", "cost", "utility"]
"""What is sought: the most correct answers, the least cost, or the most of `Offers.utility`."""

FAST_CELLS = 4_000_000  # above, scores of float32 offers are computed in float32
INFLATION_ROUNDS = 12
INFLATION_SAMPLE = 20_000  # prompts on which the inflation is sought
WITHIN = 1e-4  # of the budget that the inflated spend may leave free
EVERY = slice(None)


def assign(
    offers: Offers,
    bounds: Bounds,
    *,
    goal: Goal | None = None,
    confidence: float | None = None,
    cost_errors: CostErrors | None = None,
    exact: bool | None = None,
) -> Assignment:
    """The best model for each prompt of a batch, jointly under bounds on the whole.

    Args:
        offers: What each model would do with each prompt.
        bounds: What the batch has to keep.
        goal: ``"accuracy"`` for the most correct answers, ``"cost"`` for the least dollars,
            ``"utility"`` for the most of the offers' utility. By default accuracy, or cost where
            an accuracy floor is the only bound.
        confidence: With which the realised spend is to keep the budget; None to let the expected
            spend keep it.
        cost_errors: How far costs may be off; wanted with ``confidence``.
        exact: Whether to end with branch and bound: always, never, or (None) where the gap leaves
            room, few pairs are in question and SciPy is installed.

    Raises:
        InputError: the offers or bounds cannot be reckoned with.
        MissingPriceError: a model that may be chosen has no price.
        NoEligibleModelError: there is no model, or none for some prompt.
        InfeasibleError: no assignment keeps the bounds; names the nearest value that does.
        UnknownNameError: a capacity names an unknown model.
        MissingExtraError: ``exact`` is True and SciPy is not installed.
    """
    sought = find_goal(goal, bounds)
    if sought == "utility" and offers.utility is None:
        raise InputError("the goal is utility and the offers have none")
    requests, tokens = bounds.of_models(offers.models)
    offers.check(
        prices=True,
        latency=bounds.max_mean_latency_s is not None or bounds.max_p95_latency_s is not None,
        tokens=bool(np.isfinite(tokens).any()),
    )
    error = limits.crowded(offers.n_prompts, requests)
    if error is not None:
        raise error
    case = Case(offers=offers, goal=sought)
    if confidence is None or bounds.budget_usd is None:
        programme, found = _solved(case, bounds, exact)
    else:
        if not 0.5 <= confidence < 1:
            raise InputError(f"confidence is {confidence!r}; a number from 0.5 to 1 is wanted")
        if cost_errors is None:
            raise InputError("a confidence is given and no cost_errors; both or neither")
        programme, found = _solved_with_confidence(case, bounds, confidence, cost_errors, exact)
    _require_floor(case, bounds, found)
    return reported(offers, bounds, sought, programme, found, confidence, cost_errors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What stays the same while bounds are varied.

    Attributes:
        offers: The batch.
        goal: What is sought.
        inflation: (M,) factors on costs where they count against the budget, or None.
    """

    offers: Offers
    goal: Goal
    inflation: Float64Array | None = None

    def programme(self, bounds: Bounds) -> Programme:
        """The programme of some bounds."""
        offers, goal = self.offers, self.goal
        n, weight = offers.n_prompts, offers.weight
        requests, tokens = bounds.of_models(offers.models)
        p: FloatArray = offers.p_correct
        if weight is not None:
            p = p * weight.astype(p.dtype)[:, None]
        gain = {"accuracy": p, "cost": offers.cost_usd, "utility": offers.utility}[goal]
        assert gain is not None
        largest: float | None = None
        if goal == "accuracy" and gain.size > FAST_CELLS and gain.dtype == np.float32:
            largest = 1.0 if weight is None else float(weight.max())
        sides = []
        if bounds.budget_usd is not None or goal == "accuracy":
            sides.append(
                Side(
                    name="budget_usd",
                    amount=offers.cost_usd,
                    limit=np.inf if bounds.budget_usd is None else bounds.budget_usd,
                    factor=1.0 if self.inflation is None else self.inflation,
                )
            )
        if bounds.max_mean_latency_s is not None and offers.latency_s is not None:
            limit = bounds.max_mean_latency_s * n
            sides.append(Side(name="max_mean_latency_s", amount=offers.latency_s, limit=limit))
        if bounds.max_p95_latency_s is not None and offers.latency_s is not None:
            excess = exceedance(offers.latency_s, offers.latency_p95_s, bounds.max_p95_latency_s)
            limit = ALLOWED_EXCESS * n
            sides.append(Side(name="max_p95_latency_s", amount=excess, limit=limit))
        if bounds.min_accuracy is not None and goal != "accuracy":
            total = n if weight is None else float(weight.sum())
            limit = -bounds.min_accuracy * total
            sides.append(Side(name="min_accuracy", amount=p, limit=limit, factor=-1.0))
            largest = None
        finite = tuple(side for side in sides if np.isfinite(side.limit))
        allowed = offers.allowed
        closed = (requests == 0) | (tokens == 0)
        if closed.any():
            allowed = np.broadcast_to(~closed, p.shape) if allowed is None else allowed & ~closed
        return Programme(
            gain=gain,
            gain_sign=-1.0 if goal == "cost" else 1.0,
            largest_gain=largest,
            sides=finite or tuple(sides),
            request_limit=np.where(requests < n, requests, np.inf),
            tokens=offers.tokens if np.isfinite(tokens).any() else None,
            token_limit=tokens,
            allowed=allowed,
        )

    def loosened(self, bounds: Bounds) -> Programme:
        """The programme in which an accuracy floor is a bound like the others, to be varied."""
        goal: Goal = "cost" if self.goal == "accuracy" else self.goal
        return replace(self, goal=goal).programme(bounds)


def find_goal(goal: Goal | None, bounds: Bounds) -> Goal:
    """The goal that is asked for, or the one that the bounds suggest.

    Raises:
        InputError: there is no such goal.
    """
    if goal is not None:
        if goal not in ("accuracy", "cost", "utility"):
            raise InputError(f"the goal is {goal!r}; 'accuracy', 'cost' or 'utility' is wanted")
        return goal
    others = (
        bounds.budget_usd,
        bounds.max_mean_latency_s,
        bounds.max_p95_latency_s,
    )
    only_a_floor = bounds.min_accuracy is not None and all(bound is None for bound in others)
    return "cost" if only_a_floor else "accuracy"


def _solved(case: Case, bounds: Bounds, exact: bool | None) -> tuple[Programme, Solution]:
    programme = case.programme(bounds)
    try:
        return programme, solve(programme, exact=exact)
    except Unreachable as error:
        raise limits.explained(case.offers, bounds, case.loosened, proven=error.proven) from None


def _require_floor(case: Case, bounds: Bounds, found: Solution) -> None:
    """Where accuracy is the goal, its floor binds nothing: it is reached or it cannot be."""
    if bounds.min_accuracy is None or case.goal != "accuracy":
        return
    weight = case.offers.weight
    total = case.offers.n_prompts if weight is None else float(weight.sum())
    if found.objective < bounds.min_accuracy * total * (1 - 1e-12):
        proven = found.bound < bounds.min_accuracy * total
        raise limits.explained(case.offers, bounds, case.loosened, proven=proven)


# -- budgets that the realised spend keeps -----------------------------------------------------


def _solved_with_confidence(
    case: Case, bounds: Bounds, confidence: float, errors: CostErrors, exact: bool | None
) -> tuple[Programme, Solution]:
    """Inflate costs until the quantile of the spend keeps the budget."""
    offers, budget = case.offers, bounds.budget_usd
    assert budget is not None
    n = offers.n_prompts
    rows = np.arange(n)
    if n > INFLATION_SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(n, size=INFLATION_SAMPLE, replace=False))
    sample = case if len(rows) == n else replace(case, offers=offers.take(rows))
    factors = cost_inflation(sample, budget, confidence, errors.take(rows), n / len(rows))
    scale = 1.0
    for _ in range(INFLATION_ROUNDS):
        programme = replace(case, inflation=factors * scale).programme(bounds)
        try:
            found = solve(programme, exact=exact)
        except Unreachable:
            break
        reached = _quantile(offers, found.choice, errors, confidence)
        if reached <= budget:
            return programme, found
        scale *= reached / budget * (1 + WITHIN / 10)
    return _thriftiest(case, bounds, confidence, errors)


def _quantile(offers: Offers, choice: IntArray, errors: CostErrors, confidence: float) -> float:
    """What the realised spend of a choice stays below with that confidence."""
    cost = chosen_cells(offers.cost_usd, EVERY, choice)
    return spend_of(cost, choice, errors, offers.n_models).quantile(confidence)


def _thriftiest(
    case: Case, bounds: Bounds, confidence: float, errors: CostErrors
) -> tuple[Programme, Solution]:
    """The choice whose spend is surest to keep the budget, where hardly any does.

    Raises:
        InfeasibleError: not even that keeps it; names the budget that it would.
    """
    offers, budget = case.offers, bounds.budget_usd
    assert budget is not None
    programme, plain = _solved(case, bounds, False)  # tells where the bounds alone leave no room
    (k,) = [k for k, side in enumerate(programme.sides) if side.name == "budget_usd"]
    choice = least_usage(programme, k).choice
    cost = chosen_cells(offers.cost_usd, EVERY, choice)
    factors = inflation(spend_of(cost, choice, errors, offers.n_models), errors, confidence)
    careful = least_usage(replace(case, inflation=factors).programme(bounds), k).choice
    reached, choice = min(
        ((_quantile(offers, c, errors, confidence), c) for c in (choice, careful)),
        key=lambda pair: pair[0],
    )
    if reached > budget:
        nearest = limits.rounded(reached, up=True)
        raise InfeasibleError(
            f"no assignment was found whose spend keeps the budget with confidence "
            f"{confidence:g}; it takes budget_usd of at least {nearest:.10g} instead of "
            f"{budget:g}, or a lower confidence",
            bound="budget_usd",
            value=budget,
            nearest=nearest,
        )
    return programme, replace(plain, choice=choice, objective=programme.value(choice), exact=False)


def cost_inflation(
    case: Case, budget_usd: float, confidence: float, errors: CostErrors, scale: float = 1.0
) -> Float64Array:
    """(M,) factors on costs under which the spend's quantile keeps the budget.

    Solving and reckoning are alternated; what is spent on each model is averaged over the
    rounds, so that they settle.

    Args:
        case: The batch, or a sample of it.
        budget_usd: Of the whole batch.
        confidence: With which it is to be kept.
        errors: How far the costs may be off.
        scale: How many times as many prompts the batch has.
    """
    offers = case.offers
    m = offers.n_models
    some = Bounds(budget_usd=budget_usd / scale)
    mixed, factors = None, np.ones(m)
    for k in range(INFLATION_ROUNDS):
        programme = replace(case, inflation=factors).programme(some)
        try:
            choice = solve(programme, exact=False).choice
        except Unreachable:  # the budget is close to the least: what is spent then decides
            choice = thriftiest_choice(programme, programme.sides[0])
        cost = chosen_cells(offers.cost_usd, EVERY, choice)
        sums = SpendSums.of(cost, choice, errors, m).times(scale)
        weight = 2 / (k + 2)
        mixed = sums if mixed is None else mixed.times(1 - weight) + sums.times(weight)
        updated = inflation(mixed.spend(errors), errors, confidence)
        settled = np.abs(updated - factors).max() < WITHIN
        factors = updated
        if settled:
            break
    return factors


# -- the report --------------------------------------------------------------------------------


def reported(
    offers: Offers,
    bounds: Bounds,
    goal: Goal,
    programme: Programme,
    found: Solution,
    confidence: float | None = None,
    cost_errors: CostErrors | None = None,
) -> Assignment:
    """The assignment of a solution, with its totals."""
    choice = found.choice
    p = chosen_cells(offers.p_correct, EVERY, choice)
    cost = chosen_cells(offers.cost_usd, EVERY, choice)
    latency = p95 = None
    if offers.latency_s is not None:
        latency = chosen_cells(offers.latency_s, EVERY, choice)
        tails = offers.latency_p95_s
        p95 = percentile_95(latency, None if tails is None else chosen_cells(tails, EVERY, choice))
    counts = np.bincount(choice, minlength=offers.n_models)
    order = sorted(range(offers.n_models), key=lambda j: (-counts[j], offers.models[j]))
    at_confidence = None
    if confidence is not None and cost_errors is not None:
        spend = spend_of(cost, choice, cost_errors, offers.n_models)
        at_confidence = spend.quantile(confidence)
    totals = Totals(
        n=offers.n_prompts,
        goal=goal,
        objective=float(found.objective),
        bound=float(found.bound),
        gap=float(found.gap),
        exact=found.exact,
        spend_usd=float(cost.sum()),
        budget_usd=None if bounds.budget_usd is None else float(bounds.budget_usd),
        confidence=confidence if at_confidence is not None else None,
        spend_at_confidence_usd=at_confidence,
        mean_latency_s=None if latency is None else float(latency.mean()),
        p95_latency_s=p95,
        mean_p_correct=float(p.mean()),
        by_model={offers.models[j]: int(counts[j]) for j in order if counts[j]},
        multipliers=_multipliers(offers, programme, found.prices),
    )
    return Assignment(
        models=offers.models,
        choice=choice,
        p_correct=p,
        cost_usd=cost,
        latency_s=latency,
        totals=totals,
    )


def _multipliers(offers: Offers, programme: Programme, prices: Prices) -> dict[str, float]:
    """What one more unit of each binding bound would add to the objective."""
    n = offers.n_prompts
    weight = n if offers.weight is None else float(offers.weight.sum())
    # Means are bounded as sums; of a 95th percentile what is priced is one more late request.
    scale = {"max_mean_latency_s": n, "min_accuracy": -weight}
    out = {
        side.name: float(price) * scale.get(side.name, 1.0)
        for side, price in zip(programme.sides, prices.sides, strict=True)
        if price > 0
    }
    for unit, column in (("requests", prices.requests), ("tokens", prices.tokens)):
        for name, price in zip(offers.models, column.tolist(), strict=True):
            if price > 0:
                out[f"capacity {name} {unit}"] = price
    return out
