"""`assign_file`: the prompts of a file, assigned jointly, written as a file.

Up to `IN_MEMORY` prompts are held at once (their estimates, not their texts) and assigned as
`Router.assign` does. Longer files are never held: see `streaming`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.bulk.prompts import PromptFile, PromptRow, Scan
from zerorouter.bulk.streaming import Stream
from zerorouter.bulk.writing import Sink, check_place, whole_file
from zerorouter.errors import InfeasibleError, InputError
from zerorouter.router import Router
from zerorouter.routing.assignment.assigning import (
    Case,
    Goal,
    assign,
    cost_inflation,
    find_goal,
)
from zerorouter.routing.assignment.jobs import Jobs, assign_jobs
from zerorouter.routing.assignment.latency import ALLOWED_EXCESS, exceedance
from zerorouter.routing.assignment.limits import crowded, nearest_values, rounded, told
from zerorouter.routing.assignment.offers import Bounds, Capacity, Offers
from zerorouter.routing.assignment.programme import chosen_cells
from zerorouter.routing.assignment.result import Assignment, Totals
from zerorouter.routing.assignment.solution import Unreachable, relative_gap
from zerorouter.routing.assignment.solving import solve
from zerorouter.routing.assignment.spend import CostErrors, SpendSums
from zerorouter.routing.policy import Policy

Report: TypeAlias = Callable[[str, float], None]
"""Told the stage and the share done."""

IN_MEMORY = 50_000  # prompts
SAMPLE = 20_000  # prompts on which a longer file's multipliers are solved
TAIL = 8_192  # prompts at the end of a longer file that are assigned jointly
CAUTIONS = (0.0, 0.01, 0.05)  # tried in turn where the end of a stream cannot be assigned
INFLATION_ROUNDS = 8
WIDE = 0.03  # share by which a sample may exceed bounds that the whole just keeps


@dataclass(frozen=True, kw_only=True)
class BulkSettings:
    """How a file is assigned.

    Attributes:
        goal: What is sought; by default the most correct answers under the budget.
        policy: Whose utility is sought; implies the goal utility.
        confidence: With which the realised spend is to keep the budget.
        jobs: Whether rows of one ``group_id`` count only if all of them succeed.
        models: Patterns of models to allow.
        exclude: Patterns of models to leave out.
        in_memory: Prompts up to which all estimates are held at once.
    """

    goal: Goal | None = None
    policy: str | Policy | None = None
    confidence: float | None = None
    jobs: bool = False
    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    in_memory: int = IN_MEMORY

    def __post_init__(self) -> None:
        """Refuse a confidence that is none before anything is read.

        Raises:
            InputError: it is out of range.
        """
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise InputError(
                f"confidence is {self.confidence!r}; a probability of at least 0.5 and below 1 is "
                "wanted, such as 0.9"
            )


def assign_file(
    router: Router,
    source: Path,
    out: Path,
    bounds: Bounds,
    settings: BulkSettings | None = None,
    report: Report | None = None,
) -> Totals:
    """Assign the prompts of a file and write the assignment to another.

    The file at ``out`` has ``prompt_id, model, p_correct, cost_usd, latency_s`` in the order of
    the prompts; it appears whole, once all is assigned, or not at all.

    Args:
        router: Estimates the prompts.
        source: ``.jsonl`` or ``.parquet``, see `prompts`.
        out: ``.jsonl``, ``.csv`` or ``.parquet``.
        bounds: What the batch has to keep.
        settings: How to assign.
        report: Told the stage and the share done.

    Raises:
        DataError: the file of prompts is malformed; names the row.
        InputError: a prompt or a bound cannot be used, or ``out`` cannot be written.
        NoEligibleModelError: no model may take a prompt.
        MissingPriceError: a model has no price.
        InfeasibleError: the bounds cannot all be kept; names the nearest value that can.
        MissingExtraError: a Parquet file is met and pyarrow is not installed.
    """
    settings = settings or BulkSettings()
    check_place(out, source if source.exists() else None)
    run = _Run(router, PromptFile(source), bounds, settings, report or (lambda _s, _d: None))
    for caution in CAUTIONS:
        try:
            with whole_file(out) as sink:
                return run.into(sink, caution)
        except _StartAgain:
            continue
    raise AssertionError("the last attempt says why it failed")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Some rows with their offers."""

    ids: list[str]
    groups: list[str]
    offers: Offers


class _Run:
    """One file on its way."""

    def __init__(
        self,
        router: Router,
        file: PromptFile,
        bounds: Bounds,
        settings: BulkSettings,
        report: Report,
    ) -> None:
        self._router, self._file, self._bounds = router, file, bounds
        self._settings, self._report = settings, report
        self._goal = find_goal(
            "utility" if settings.goal is None and settings.policy is not None else settings.goal,
            bounds,
        )
        report("reading the prompts", 0.0)
        self._scan = file.scan()
        self._drawn: tuple[Offers, IntArray] | None = None

    def into(self, sink: Sink, caution: float) -> Totals:
        """Assign everything and write it."""
        if self._scan.n_prompts <= self._settings.in_memory or self._settings.jobs:
            return self._at_once(self._scan, sink)
        return self._streamed(self._scan, sink, caution)

    def _block(self, rows: Sequence[PromptRow], scan: Scan) -> _Block:
        """Estimates of some rows."""
        s = self._settings
        ids = [row.prompt_id for row in rows]
        offers = self._router.offers(
            [self._file.prompt(row) for row in rows],
            policy=s.policy if self._goal == "utility" else None,
            models=s.models,
            exclude=s.exclude,
            prompt_ids=ids,
        )
        if scan.has_weights and not s.jobs:
            offers = replace(offers, weight=np.array([self._file.weight(row) for row in rows]))
        groups = [_group(row) for row in rows] if s.jobs else []
        return _Block(ids=ids, groups=groups, offers=offers)

    # -- all at once -------------------------------------------------------------------------

    def _at_once(self, scan: Scan, sink: Sink) -> Totals:
        blocks, weights, done = [], dict[Any, float](), 0
        for rows in self._file.blocks():
            blocks.append(self._block(rows, scan))
            if self._settings.jobs:
                for row in rows:
                    _note_weight(self._file, row, weights)
            done += len(rows)
            self._report("estimating", done / scan.n_prompts)
        offers = Offers.stacked([block.offers for block in blocks]).narrowed()
        ids = [name for block in blocks for name in block.ids]
        groups = [name for block in blocks for name in block.groups]
        del blocks
        self._report("assigning", 0.0)
        if self._settings.jobs:
            found = self._jobs(offers, groups, weights)
        else:
            confidence = self._settings.confidence
            errors = None
            if confidence is not None:
                errors = self._router.cost_errors(offers.models, offers.support)
            found = assign(
                offers, self._bounds, goal=self._goal, confidence=confidence, cost_errors=errors
            )
        names = [found.models[j] for j in found.choice.tolist()]
        latency = [None] * len(ids) if found.latency_s is None else found.latency_s.tolist()
        sink.write(ids, names, found.p_correct.tolist(), found.cost_usd.tolist(), latency)
        return found.totals

    def _jobs(
        self, offers: Offers, groups: Sequence[str], weights: Mapping[Any, float]
    ) -> Assignment:
        b = self._bounds
        others = (b.max_mean_latency_s, b.max_p95_latency_s, b.min_accuracy)
        if b.budget_usd is None or b.capacity or any(v is not None for v in others):
            raise InputError(
                "jobs that need all their subtasks are assigned under a budget and nothing else; "
                "set a budget and leave the other bounds out"
            )
        if self._settings.confidence is not None or self._goal != "accuracy":
            raise InputError("jobs have no confidence and no other goal; leave both out")
        jobs = Jobs.of(groups, dict(weights))
        return assign_jobs(offers, jobs, budget_usd=b.budget_usd).assignment

    # -- streamed ----------------------------------------------------------------------------

    def _sample(self, scan: Scan) -> tuple[Offers, IntArray]:
        rng = np.random.default_rng(0)
        size = min(SAMPLE, scan.n_prompts)
        positions = np.sort(rng.choice(scan.n_prompts, size=size, replace=False))
        parts, done = [], 0
        for rows in self._file.blocks(positions):
            parts.append(self._block(rows, scan).offers)
            done += len(rows)
            self._report("estimating a sample", done / size)
        return Offers.stacked(parts), positions

    def _streamed(self, scan: Scan, sink: Sink, caution: float) -> Totals:
        if self._drawn is None:  # an attempt before has drawn it
            self._drawn = self._sample(scan)
        sample, positions = self._drawn
        bounds, n = self._bounds, scan.n_prompts
        sample.check(
            prices=True,
            latency=bounds.max_mean_latency_s is not None or bounds.max_p95_latency_s is not None,
            tokens=any(c.tokens is not None for c in bounds.capacity.values()),
        )
        error = crowded(n, bounds.of_models(sample.models)[0])
        if error is not None:
            raise error
        case = Case(offers=sample, goal=self._goal)
        errors, confidence = None, self._settings.confidence
        if confidence is not None and bounds.budget_usd is not None:
            errors = self._router.cost_errors(sample.models, sample.support)
            scale = n / len(positions)
            factors = cost_inflation(case, bounds.budget_usd, confidence, errors, scale)
            case = replace(case, inflation=factors)
        self._check_sample(case, positions)
        stream = Stream(
            sample, positions, n, bounds, case, total_weight=scan.total_weight, caution=caution
        )
        sums = _Sums(sample.models, errors)
        held: list[_Block] = []
        for rows in self._file.blocks():
            block = self._block(rows, scan)
            if stream.done + sum(len(b.ids) for b in held) + len(rows) > n - TAIL:
                held.append(block)
            else:
                try:
                    choice = stream.assign(block.offers)
                except InfeasibleError:
                    raise self._no_way(case, caution) from None
                self._emit(sink, sums, block, choice)
            self._report("assigning", (stream.done + sum(len(b.ids) for b in held)) / n)
        tail = _Block(
            ids=[name for block in held for name in block.ids],
            groups=[],
            offers=Offers.stacked([block.offers for block in held]),
        )
        try:
            choice = self._tail(stream, tail, sums, errors)
        except InfeasibleError:
            raise self._no_way(case, caution) from None
        self._emit(sink, sums, tail, choice)
        totals = sums.totals(
            goal=self._goal, bound=stream.bound(), bounds=bounds, confidence=confidence
        )
        floor = bounds.min_accuracy
        if floor is not None and self._goal == "accuracy":
            reached = totals.objective / scan.total_weight
            if reached < floor:
                raise InfeasibleError(
                    "no assignment was found; it takes min_accuracy of at most "
                    f"{rounded(reached, up=False):.10g} instead of {floor:g}",
                    bound="min_accuracy",
                    value=floor,
                    nearest=rounded(reached, up=False),
                )
        return totals

    def _tail(
        self, stream: Stream, tail: _Block, sums: _Sums, errors: CostErrors | None
    ) -> IntArray:
        """The last prompts; with a confidence, so that the whole spend's quantile keeps it."""
        budget, confidence = self._bounds.budget_usd, self._settings.confidence
        if errors is None or budget is None or confidence is None:
            return stream.finish(tail.offers)
        before, limits = stream.left, stream.left.sides.copy()
        for _ in range(INFLATION_ROUNDS):
            choice = stream.finish(tail.offers, limits)
            cost = chosen_cells(tail.offers.cost_usd, slice(None), choice)
            own = SpendSums.of(cost, choice, errors, len(tail.offers.models))
            reached = (sums.spent + own).spend(errors).quantile(confidence)
            if reached <= budget:
                return choice
            limits[0] -= (reached - budget) * 1.05
            stream.left = before
        raise InfeasibleError("the spend is too uncertain", bound="budget_usd", value=budget)

    def _emit(self, sink: Sink, sums: _Sums, block: _Block, choice: IntArray) -> None:
        rows = sums.add(block.offers, choice)
        sink.write(block.ids, [sums.models[j] for j in choice.tolist()], *rows)

    def _no_way(self, case: Case, caution: float) -> Exception:
        """Start again with more caution, or give up with what would do by the sample."""
        if caution != CAUTIONS[-1]:
            return _StartAgain()
        return self._short_by_sample(
            case, f"no assignment of the {self._scan.n_prompts:,} prompts was found"
        )

    def _short_by_sample(self, case: Case, opening: str) -> InfeasibleError:
        """The error with the nearest values that the sample knows."""
        assert self._drawn is not None
        sample, positions = self._drawn
        share = len(positions) / self._scan.n_prompts
        small = _scaled(self._bounds, share)
        found = nearest_values(sample, small, case.loosened)
        values = dict(found.values)
        if "budget_usd" in values:
            values["budget_usd"] = rounded(values["budget_usd"] / share, up=True)
        source = f"by a sample of {len(positions):,} it takes"
        return told(self._bounds, replace(found, values=values), opening, source)

    def _check_sample(self, case: Case, positions: IntArray) -> None:
        """Refuse what the sample rules out by a wide margin, before hours of work.

        Raises:
            InfeasibleError: even under bounds loosened beyond what chance explains.
        """
        sample, bounds = case.offers, self._bounds
        share = len(positions) / self._scan.n_prompts
        cost = np.where(
            True if sample.allowed is None else sample.allowed, sample.cost_usd, np.inf
        ).min(axis=1)
        error = 4 * float(cost.std()) / max(float(cost.mean()), 1e-300) / math.sqrt(len(cost))
        wide = 1 + max(error, WIDE)
        loose = _scaled(bounds, share * wide)
        loose = replace(
            loose,
            **{
                name: value * wide
                for name in ("max_mean_latency_s", "max_p95_latency_s")
                if (value := getattr(bounds, name)) is not None
            },
            min_accuracy=None if bounds.min_accuracy is None else bounds.min_accuracy / wide,
        )
        try:
            solve(case.loosened(loose), exact=False)
        except Unreachable as error:
            if error.proven:
                raise self._short_by_sample(case, "no assignment keeps the bounds") from None


def _scaled(bounds: Bounds, share: float) -> Bounds:
    """Bounds on that share of the prompts."""
    capacity = {
        name: Capacity(
            requests=None if c.requests is None else math.ceil(c.requests * share),
            tokens=None if c.tokens is None else c.tokens * share,
        )
        for name, c in bounds.capacity.items()
    }
    budget = None if bounds.budget_usd is None else bounds.budget_usd * share
    return replace(bounds, budget_usd=budget, capacity=capacity)


class _StartAgain(Exception):  # noqa: N818  # control flow within this module
    """The stream could not be finished; what was written so far is dropped."""


_GRID = np.geomspace(1e-3, 1e4, 400)  # seconds; neighbours differ by 4%


class _Sums:
    """What a stream comes to, kept while it passes."""

    def __init__(self, models: tuple[str, ...], errors: CostErrors | None) -> None:
        self.models = models
        self._errors = errors
        zeros = np.zeros(len(models))
        self.spent = SpendSums(total=zeros, loose=zeros)
        self._counts = np.zeros(len(models), dtype=np.int64)
        self._n, self._objective = 0, {"accuracy": 0.0, "cost": 0.0, "utility": 0.0}
        self._cost = self._p = self._latency = 0.0
        self._excess = np.zeros(len(_GRID))

    def add(
        self, offers: Offers, choice: IntArray
    ) -> tuple[list[float], list[float], list[float | None]]:
        """Take in a block; hands back its columns for writing."""
        every = slice(None)
        p, cost = (chosen_cells(t, every, choice) for t in (offers.p_correct, offers.cost_usd))
        errors = self._errors or CostErrors(own_sd=0.0)
        self.spent += SpendSums.of(cost, choice, errors, len(self.models))
        self._counts += np.bincount(choice, minlength=len(self.models))
        self._n += len(choice)
        self._p += float(p.sum())
        self._cost += float(cost.sum())
        weight = 1.0 if offers.weight is None else offers.weight
        self._objective["accuracy"] += float((p * weight).sum())
        self._objective["cost"] -= float(cost.sum())
        if offers.utility is not None:
            utility = chosen_cells(offers.utility, every, choice)
            self._objective["utility"] += float(utility.sum())
        assert offers.latency_s is not None
        latency = chosen_cells(offers.latency_s, every, choice)
        self._latency += float(latency.sum())
        tails = offers.latency_p95_s
        tail = None if tails is None else chosen_cells(tails, every, choice)
        self._excess += _excess(latency, tail)
        return p.tolist(), cost.tolist(), latency.tolist()

    def totals(
        self, *, goal: Goal, bound: float, bounds: Bounds, confidence: float | None
    ) -> Totals:
        """The totals of everything taken in."""
        objective = self._objective[goal]
        over = self._excess / self._n  # falling
        p95 = float(np.exp(np.interp(-ALLOWED_EXCESS, -over, np.log(_GRID))))
        order = sorted(
            range(len(self.models)), key=lambda j: (-int(self._counts[j]), self.models[j])
        )
        at_confidence = None
        if confidence is not None and self._errors is not None:
            at_confidence = self.spent.spend(self._errors).quantile(confidence)
        return Totals(
            n=self._n,
            goal=goal,
            objective=objective,
            bound=max(bound, objective),
            gap=relative_gap(objective, bound),
            spend_usd=self._cost,
            budget_usd=bounds.budget_usd,
            confidence=confidence if at_confidence is not None else None,
            spend_at_confidence_usd=at_confidence,
            mean_latency_s=self._latency / self._n,
            p95_latency_s=p95,
            mean_p_correct=self._p / self._n,
            by_model={self.models[j]: int(self._counts[j]) for j in order if self._counts[j]},
        )


def _excess(latency: Float64Array, tail: Float64Array | None) -> Float64Array:
    """How many of the requests are expected to take longer than each point of the grid."""
    if tail is None:
        counted = np.histogram(latency, bins=np.append(_GRID, np.inf))[0]
        return np.asarray(np.cumsum(counted[::-1])[::-1], dtype=np.float64)
    return np.array([float(exceedance(latency, tail, float(s)).sum()) for s in _GRID])


def _group(row: PromptRow) -> str:
    value = row.values.get("group_id")
    # A subtask without a job is a job of its own.
    return f"prompt {row.prompt_id}" if value is None else f"job {value}"


def _note_weight(file: PromptFile, row: PromptRow, weights: dict[Any, float]) -> None:
    """A job's weight is told by any of its rows, or by several that agree."""
    if row.values.get("weight") is None:
        return
    group, weight = _group(row), file.weight(row)
    if not math.isclose(weights.setdefault(group, weight), weight):
        raise InputError(
            f"{file.path}, {row.where}: the weight is {weight:g} and another row of the same "
            f"group_id has {weights[group]:g}; a job has one weight"
        )
