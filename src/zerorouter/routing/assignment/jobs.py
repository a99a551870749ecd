r"""Jobs of several subtasks under one budget, worth something only if every subtask succeeds.

An agent's job g with weight :math:`W_g` succeeds with the product of its subtasks' P(correct); the
budget is shared by all jobs. In logs a job is separable: sorting the hull edges of its subtasks
in (cost, log p) by ratio gives a path of outcomes from the cheapest to the best, whose corners lie
on the concave envelope L of all outcomes.

These corners are all that the dual needs. For any multiplier,
:math:`W e^{\ell} - \lambda C \le W e^{L(C)} - \lambda C`, and between two corners L is a straight
line, so the right side is convex in C and largest at a corner, which is an outcome itself. The
budget is then shared among jobs as among prompts, with corners in the place of models
(`single`), and the bound is proven in the same way. For few jobs a second bound is often smaller:
no job does better than :math:`W e^{L}` at what the others' cheapest outcomes leave of the budget.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import InfeasibleError, InputError
from zerorouter.routing.assignment.assigning import reported
from zerorouter.routing.assignment.limits import rounded
from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.assignment.programme import Prices, Programme, Side, chosen_cells
from zerorouter.routing.assignment.result import Assignment
from zerorouter.routing.assignment.single import (
    hull_edges,
    solve_single,
    thriftiest_choice,
)
from zerorouter.routing.assignment.solution import Solution, Unreachable, no_prices

MOST_CELLS = 50_000_000  # corners of all jobs, laid out in a table
MOST_OUTCOMES = 5_000  # of a job, when all its efficient outcomes are listed
MOST_STATES = 200_000  # of efficient outcomes of several jobs together
CLIMB_CELLS = 2_000_000  # pairs up to which single moves are tried at the end
CLIMBS = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Jobs:
    """Which prompts belong together.

    Attributes:
        names: (G,) of the jobs.
        job: (N,) position of each prompt's job.
        weight: (G,) what a job is worth if all its subtasks succeed.
    """

    names: tuple[Hashable, ...]
    job: IntArray
    weight: Float64Array

    @classmethod
    def of(cls, group_ids: Sequence[Hashable], weights: Mapping[Any, float] | None = None) -> Jobs:
        """Jobs of prompts, in the order in which they first appear.

        Args:
            group_ids: (N,) the job of each prompt.
            weights: What jobs are worth; 1 where not given.

        Raises:
            InputError: a weight is negative or belongs to no job.
        """
        place: dict[Hashable, int] = {}
        job = np.array([place.setdefault(g, len(place)) for g in group_ids], dtype=np.int64)
        given: dict[Any, float] = dict(weights or {})
        weight = np.array([float(given.pop(name, 1.0)) for name in place])
        if given:
            raise InputError(f"a weight is given for {next(iter(given))!r}, which has no subtask")
        if not (np.all(np.isfinite(weight)) and np.all(weight >= 0)):
            raise InputError("a job's weight is no number >= 0")
        return cls(names=tuple(place), job=job, weight=weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class JobAssignment:
    """A model for each subtask, and each job's chance.

    Attributes:
        assignment: The subtasks' models; its objective is the expected weight of succeeding jobs.
        jobs: Which subtasks belong together.
        success: (G,) P(all subtasks succeed), by the product rule.
        spend_usd: (G,) expected dollars of each job.
    """

    assignment: Assignment
    jobs: Jobs
    success: Float64Array
    spend_usd: Float64Array


def assign_jobs(
    offers: Offers, jobs: Jobs, *, budget_usd: float, exact: bool = True
) -> JobAssignment:
    """The best model for each subtask, when jobs count only if all their subtasks succeed.

    Subtasks are taken to succeed independently, given the estimates.

    Args:
        offers: What each model would do with each subtask.
        jobs: Which subtasks belong together.
        budget_usd: Most that all may cost.
        exact: Whether to list all efficient outcomes where they are few, which closes the gap.

    Raises:
        InputError: the offers cannot be reckoned with.
        MissingPriceError: a model that may be chosen has no price.
        NoEligibleModelError: there is no model, or none for some subtask.
        InfeasibleError: the budget is below the least that works, which it names.
    """
    bounds = Bounds(budget_usd=budget_usd)
    offers.check(prices=True, latency=False, tokens=False)
    if len(jobs.job) != offers.n_prompts:
        raise InputError(
            f"{len(jobs.job)} prompts are in jobs and {offers.n_prompts} are offered; one each"
        )
    logs, hopeless = _logs(offers, jobs)
    side = Side(name="budget_usd", amount=offers.cost_usd, limit=budget_usd)
    m = offers.n_models
    programme = Programme(
        gain=logs,
        sides=(side,),
        request_limit=np.full(m, np.inf),
        token_limit=np.full(m, np.inf),
        allowed=offers.allowed,
    )
    start = thriftiest_choice(programme, side)
    least = float(side.of(slice(None), start).sum())
    if least > budget_usd:
        nearest = rounded(least, up=True)
        raise InfeasibleError(
            "no assignment keeps the bounds; it takes budget_usd of at least "
            f"{nearest:.10g} instead of {budget_usd:g}",
            bound="budget_usd",
            value=budget_usd,
            nearest=nearest,
        )
    paths = _Paths.of(programme, side, start, replace(jobs, weight=hopeless))
    found = paths.shared(budget_usd)
    choice = _climbed(programme, side, found.choice, paths.jobs, budget_usd)
    worth = _worth(programme, choice, paths.jobs)
    best = Solution(
        choice=choice,
        objective=worth,
        bound=max(found.bound, worth),
        prices=no_prices(programme),
    )
    if exact and best.gap > 0:
        best = _listed(programme, side, paths, best, budget_usd)
    assignment = reported(offers, bounds, "accuracy", programme, best)
    g = len(jobs.names)
    chances = chosen_cells(np.asarray(offers.p_correct), slice(None), best.choice)
    with np.errstate(divide="ignore"):
        success = np.exp(per_job(jobs.job, np.log(chances), g))
    return JobAssignment(
        assignment=replace(
            assignment, totals=replace(assignment.totals, goal="jobs", multipliers={})
        ),
        jobs=jobs,
        success=success,
        spend_usd=per_job(jobs.job, assignment.cost_usd, g),
    )


def _logs(offers: Offers, jobs: Jobs) -> tuple[Float64Array, Float64Array]:
    """(N, M) log P(correct), and (G,) weights: 0 for jobs with a subtask that nobody can do."""
    p = np.asarray(offers.p_correct, dtype=np.float64)
    if offers.allowed is not None:
        p = np.where(offers.allowed, p, 0.0)
    lost = ~(p > 0).any(axis=1)
    weight = jobs.weight.copy()
    weight[jobs.job[lost]] = 0.0
    with np.errstate(divide="ignore"):
        logs = np.log(p)
    logs[lost] = 0.0
    # A model that surely fails is worse than none that may succeed, and still a finite number.
    logs[np.isneginf(logs)] = -1e6
    return logs, weight


def per_job(job: IntArray, amount: FloatArray, n_jobs: int) -> Float64Array:
    """(G,) sums over each job's prompts."""
    return np.asarray(np.bincount(job, amount, minlength=n_jobs), dtype=np.float64)


def _worth(p: Programme, choice: IntArray, jobs: Jobs) -> float:
    """Expected weight of the jobs that succeed."""
    logs = per_job(jobs.job, p.gains(slice(None), choice), len(jobs.weight))
    return float(jobs.weight @ np.exp(logs))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Paths:
    """Each job's outcomes along its concave envelope, from the cheapest to the best.

    Attributes:
        programme: Of the subtasks, gains in logs.
        side: The budget.
        jobs: With weights of 0 for jobs that cannot succeed.
        start: (N,) the cheapest choice.
        row, to: (E,) the upgrades, job by job and in the order of the path.
        first: (G + 1,) where each job's upgrades begin.
        log: (E,) log of the job's P(success) after each upgrade.
        cost: (E,) its cost after each upgrade.
        start_log, start_cost: (G,) of the cheapest outcomes.
    """

    programme: Programme
    side: Side
    jobs: Jobs
    start: IntArray
    row: IntArray
    to: IntArray
    first: IntArray
    log: Float64Array
    cost: Float64Array
    start_log: Float64Array
    start_cost: Float64Array

    @classmethod
    def of(cls, p: Programme, side: Side, start: IntArray, jobs: Jobs) -> _Paths:
        g, every = len(jobs.weight), slice(None)
        start_log = per_job(jobs.job, p.gains(every, start), g)
        start_cost = per_job(jobs.job, side.of(every, start), g)
        edges = hull_edges(p, side, start)
        of_job = jobs.job[edges.row]
        order = np.lexsort((np.arange(len(of_job)), -edges.ratio, of_job))
        first = np.searchsorted(of_job[order], np.arange(g + 1))
        log, cost = np.cumsum(edges.gain[order]), np.cumsum(edges.amount[order])
        place = of_job[order]
        before = np.concatenate([[0.0], log])[first[:-1]], np.concatenate([[0.0], cost])[first[:-1]]
        return cls(
            programme=p,
            side=side,
            jobs=jobs,
            start=start,
            row=edges.row[order],
            to=edges.to[order],
            first=first,
            log=log - before[0][place] + start_log[place],
            cost=cost - before[1][place] + start_cost[place],
            start_log=start_log,
            start_cost=start_cost,
        )

    def table(self) -> tuple[Float64Array, Float64Array]:
        """(G, K) worth and cost of every corner; a row's last corner is repeated to the end."""
        g = len(self.jobs.weight)
        length = np.diff(self.first)
        k = int(length.max(initial=0)) + 1
        if g * k > MOST_CELLS:
            raise InputError(
                f"{g:,} jobs with up to {k:,} outcomes are more than fit; assign them in parts"
            )
        at = self.first[:-1, None] + np.minimum(np.arange(k), length[:, None]) - 1
        begun = np.minimum(np.arange(k), length[:, None]) > 0
        at = np.where(begun, at, 0)
        log, cost = self.log, self.cost
        if len(log) == 0:
            log = cost = np.zeros(1)
        logs = np.where(begun, log[at], self.start_log[:, None])
        worth = self.jobs.weight[:, None] * np.exp(logs)
        return worth, np.where(begun, cost[at], self.start_cost[:, None])

    def applied(self, corner: IntArray) -> IntArray:
        """(N,) the choice in which each job stands at its corner (G,)."""
        choice = self.start.copy()
        taken = np.concatenate(
            [np.arange(a, a + c) for a, c in zip(self.first[:-1], corner, strict=True)]
            or [np.zeros(0, dtype=np.int64)]
        ).astype(np.int64)
        choice[self.row[taken]] = self.to[taken]  # a subtask's later upgrades stand later
        return choice

    def shared(self, budget: float) -> Solution:
        """The budget shared among jobs along their paths; its bound holds for all outcomes."""
        worth, cost = self.table()
        k = worth.shape[1]
        outcomes = Programme(
            gain=worth,
            sides=(Side(name="budget_usd", amount=cost, limit=budget),),
            request_limit=np.full(k, np.inf),
            token_limit=np.full(k, np.inf),
        )
        try:
            found = solve_single(outcomes)
        except Unreachable:  # by the rounding of sums
            found = Solution(
                choice=np.zeros(len(worth), dtype=np.int64),
                objective=float(worth[:, 0].sum()),
                bound=float(worth.max(axis=1).sum()),
                prices=_no_price(k),
            )
        corner = self._advanced(worth, cost, found.choice.astype(np.int64), budget)
        bound = min(found.bound, self._alone(budget))
        choice = self.applied(np.minimum(corner, np.diff(self.first)))
        return Solution(choice=choice, objective=0.0, bound=bound, prices=found.prices)

    def _advanced(
        self, worth: Float64Array, cost: Float64Array, corner: IntArray, budget: float
    ) -> IntArray:
        """Go on along the paths with what is left, the largest gain first."""
        every = np.arange(len(corner))
        for _ in range(CLIMBS):
            slack = budget - float(cost[every, corner].sum()) - 1e-12 * abs(budget)
            more = worth - worth[every, corner][:, None]
            more[cost - cost[every, corner][:, None] > slack] = -np.inf
            g, k = np.unravel_index(int(more.argmax()), more.shape)
            if more[g, k] <= 0:
                break
            corner[g] = k
        return corner

    def _alone(self, budget: float) -> float:
        """Sum of what each job reaches at most with all that the others can leave it."""
        spare = budget - float(self.start_cost.sum())
        total = 0.0
        for g, weight in enumerate(self.jobs.weight.tolist()):
            steps = slice(self.first[g], self.first[g + 1])
            cost = np.concatenate([self.start_cost[g : g + 1], self.cost[steps]])
            logs = np.concatenate([self.start_log[g : g + 1], self.log[steps]])
            log = float(np.interp(self.start_cost[g] + spare, cost, logs))
            total += weight * float(np.exp(log))
        return total * (1 + 1e-12)


def _no_price(m: int) -> Prices:
    return Prices(sides=np.zeros(1), requests=np.zeros(m), tokens=np.zeros(m))


def _climbed(p: Programme, side: Side, choice: IntArray, jobs: Jobs, budget: float) -> IntArray:
    """Single moves with what is left: those that cost nothing more, then the best per dollar."""
    if p.gain.size > CLIMB_CELLS:
        return choice
    choice = choice.copy()
    logs, cost = p.gain_table(slice(None)), np.asarray(side.table(slice(None)), np.float64)
    every = np.arange(len(choice))
    for _ in range(CLIMBS):
        slack = budget - float(side.of(slice(None), choice).sum()) - 1e-12 * abs(budget)
        now = np.exp(per_job(jobs.job, logs[every, choice], len(jobs.weight)))
        worth = (jobs.weight * now)[jobs.job][:, None]
        more = worth * np.expm1(np.minimum(logs - logs[every, choice][:, None], 700.0))
        dearer = cost - cost[every, choice][:, None]
        more[(dearer > slack) | (more <= 1e-15)] = -np.inf
        rate = np.where(dearer > 0, more / np.where(dearer > 0, dearer, 1.0), np.inf)
        rate[np.isneginf(more)] = -np.inf
        best = np.unravel_index(int(rate.argmax()), rate.shape)
        if not rate[best] > 0:
            break
        choice[best[0]] = best[1]
    return choice


# -- all efficient outcomes, where they are few -----------------------------------------------


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """Efficient outcomes: none costs no more than another and is worth as much.

    Attributes:
        cost: (S,) rising.
        log: (S,) or worth; rising.
        came_from: (S,) position before the last step.
        step: (S,) what the last step chose.
    """

    cost: Float64Array
    value: Float64Array
    came_from: IntArray
    step: IntArray


def _merged(
    before: _Outcomes, cost: Float64Array, value: Float64Array, most_cost: float, most: int
) -> _Outcomes | None:
    """All sums of an outcome and a step (s,), without those that another beats."""
    if len(before.cost) * len(cost) > 4_000_000:
        return None
    costs = (before.cost[:, None] + cost).ravel()
    values = (before.value[:, None] + value).ravel()
    kept = np.flatnonzero(costs <= most_cost)
    order = kept[np.lexsort((-values[kept], costs[kept]))]
    ahead = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]])
    order = order[values[order] > ahead]
    if len(order) > most or len(order) == 0:
        return None
    return _Outcomes(costs[order], values[order], order // len(cost), order % len(cost))


_NOTHING = _Outcomes(np.zeros(1), np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int64))


def _listed(p: Programme, side: Side, paths: _Paths, known: Solution, budget: float) -> Solution:
    """The best of all outcomes, or the known one where there are too many to list."""
    jobs, g = paths.jobs, len(paths.jobs.weight)
    spare = (budget - float(paths.start_cost.sum())) * (1 + 1e-12) + 1e-300
    members = [np.flatnonzero(jobs.job == k) for k in range(g)] if g <= 200 else []
    if not members:
        return known
    chains: list[list[_Outcomes]] = []
    total, totals = _NOTHING, []
    spent = 0.0  # by the cheapest outcomes of the jobs before
    for k, rows in enumerate(members):
        chain = [_NOTHING]
        least = 0.0
        for row in rows:
            at_row = np.array([row])
            logs, cost = p.gain_table(at_row)[0], side.table(at_row)[0]
            least += float(cost[np.isfinite(logs)].min())
            log = np.where(np.isfinite(logs), logs, -1e9)
            merged = _merged(chain[-1], np.asarray(cost), log, least + spare, MOST_OUTCOMES)
            if merged is None:
                return known
            chain.append(merged)
        chains.append(chain)
        last = chain[-1]
        spent += float(paths.start_cost[k])
        merged = _merged(
            total, last.cost, jobs.weight[k] * np.exp(last.value), spent + spare, MOST_STATES
        )
        if merged is None:
            return known
        total = merged
        totals.append(merged)
    at = int(np.searchsorted(total.cost, budget, side="right")) - 1
    while at >= 0:
        choice = _traced(members, chains, totals, at, p.n_prompts)
        if p.keeps(choice):
            worth = _worth(p, choice, jobs)
            if worth < known.objective:
                return known
            exact = at == int(np.searchsorted(total.cost, budget, side="right")) - 1
            bound = worth if exact else known.bound
            return replace(
                known, choice=choice, objective=worth, bound=max(bound, worth), exact=exact
            )
        at -= 1
    return known


def _traced(
    members: Sequence[IntArray],
    chains: list[list[_Outcomes]],
    totals: list[_Outcomes],
    at: int,
    n: int,
) -> IntArray:
    """(N,) the choice behind an outcome of all jobs."""
    choice = np.zeros(n, dtype=np.int64)
    for rows, chain, total in zip(members[::-1], chains[::-1], totals[::-1], strict=True):
        outcome, at = int(total.step[at]), int(total.came_from[at])
        for row, stage in zip(rows[::-1], chain[:0:-1], strict=True):
            choice[row] = stage.step[outcome]
            outcome = int(stage.came_from[outcome])
    return choice
