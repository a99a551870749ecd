"""Routing on a complete block of models and prompts, and the metrics of a frontier on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import CalibrationError
from zerorouter.evaluation.benchmark import Benchmark
from zerorouter.evaluation.metrics import (
    Frontier,
    aiq,
    apgr,
    best_single,
    cheapest_single,
    cost_save,
    cpt,
    matched_accuracy_saving,
    matched_cost_difference,
    perf_gain,
    pgr,
    routerarena,
)
from zerorouter.evaluation.splits import Split

VALUES_USD = np.logspace(-5, 2, 43)  # of a correct answer: the sweep that methods share


@dataclass(frozen=True, kw_only=True, eq=False)
class Swept:
    """What P operating points realised on n prompts, with the bootstrap weights (B, n)."""

    policies: tuple[str, ...]
    accuracy: Float64Array
    cost: Float64Array
    weights: Float64Array

    def frontier(self, weights: FloatArray) -> Frontier:
        """The frontier under weights (B, n); that of its own is made once for all metrics."""
        if weights is self.weights:
            return self._resampled
        return Frontier.from_outcomes(self.accuracy, self.cost, weights)

    @cached_property
    def _resampled(self) -> Frontier:
        return Frontier.from_outcomes(self.accuracy, self.cost, self.weights)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """A complete block of m models and n test prompts.

    Attributes:
        columns: (m,) positions among the split's models.
        rows: (n,) positions among the test prompts.
        scores: (m, n)
        cost: (m, n)
    """

    columns: IntArray
    rows: IntArray
    scores: Float64Array
    cost: Float64Array

    @classmethod
    def of(cls, benchmark: Benchmark, split: Split, models: IntArray) -> Block:
        """The block of these models' answers to the test prompts.

        Raises:
            CalibrationError: fewer than two models have complete answers and costs.
        """
        routed = np.isin(models, benchmark.routing_models())
        columns = np.flatnonzero(routed)
        if len(columns) < 2:
            raise CalibrationError(
                f"{len(columns)} of {len(models)} models have answers, prices and lengths on one "
                "set of prompts; 2 are needed"
            )
        labels = benchmark.labels.take(models[columns], split.test)
        complete = labels.observed.all(axis=0) & ~np.isnan(labels.cost_usd).any(axis=0)
        rows = np.flatnonzero(complete)
        if len(rows) < 2:
            raise CalibrationError(f"{len(rows)} prompts were answered by all models of the block")
        return cls(
            columns=columns,
            rows=rows,
            scores=labels.scores[:, rows].astype(np.float64),
            cost=labels.cost_usd[:, rows].astype(np.float64),
        )

    @cached_property
    def strong(self) -> int:
        """The best single model."""
        return int(best_single(self.scores, self.cost) or 0)

    @cached_property
    def weak(self) -> int:
        """The cheapest single model."""
        return int(cheapest_single(self.scores, self.cost) or 0)

    def mean(self, model: int, weights: FloatArray) -> tuple[Float64Array, Float64Array]:
        """(B,) accuracy and cost of one model."""
        return weighted(self.scores[model], weights), weighted(self.cost[model], weights)


FrontierMetric: TypeAlias = Callable[[Frontier, Block, FloatArray], Float64Array]
FrontierComparison: TypeAlias = Callable[[Frontier, Frontier, Block, FloatArray], Float64Array]


class Ends(NamedTuple):
    """The cheapest and the best single model, (B,) each."""

    weak: Float64Array
    strong: Float64Array
    weak_cost_usd: Float64Array
    strong_cost_usd: Float64Array


def sweep_choices(p: FloatArray, cost: FloatArray) -> IntArray:
    """(V, n) the model with the largest ``V p - cost`` for each value of a correct answer."""
    spend = np.where(np.isnan(cost), np.inf, cost).astype(np.float64)
    return np.array([np.argmax(value * p - spend, axis=1) for value in VALUES_USD])


def weighted(values: FloatArray, weights: FloatArray) -> Float64Array:
    """(B,) weighted means of (n,) values."""
    out: Float64Array = (weights @ values) / np.maximum(weights.sum(axis=1), 1e-12)
    return out


def frontier_metric(
    of: FrontierMetric, swept: Swept, block: Block, weights: FloatArray
) -> Float64Array:
    """(B,) a metric of the frontier that operating points realise under weights (B, n)."""
    return of(swept.frontier(weights), block, weights)


def frontier_comparison(
    of: FrontierComparison, ours: Swept, theirs: Swept, block: Block, weights: FloatArray
) -> Float64Array:
    """(B,) a comparison of two frontiers under the same weights (B, n)."""
    return of(
        ours.frontier(weights),
        theirs.frontier(weights),
        block,
        weights,
    )


def _aiq(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    costs = [weighted(row, weights) for row in block.cost]
    return aiq(frontier, np.min(costs, axis=0), np.max(costs, axis=0))


def _saving(level: float) -> FrontierMetric:
    def of(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
        accuracy, cost = block.mean(block.strong, weights)
        return cost_save(frontier, accuracy, cost, level=level)

    return of


def _perf_gain(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    return perf_gain(frontier, block.mean(block.strong, weights)[0])


def _matched(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    return frontier.accuracy_at(block.mean(block.strong, weights)[1])


def _apgr(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    return apgr(frontier, **_ends(block, weights)._asdict())


def _cpt(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    ends = _ends(block, weights)
    return cpt(
        frontier,
        weak=ends.weak,
        strong=ends.strong,
        weak_cost_usd=ends.weak_cost_usd,
        strong_cost_usd=ends.strong_cost_usd,
    )


def _pgr(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    """At the cost half-way between the cheapest and the best single model."""
    ends = _ends(block, weights)
    middle = (ends.weak_cost_usd + ends.strong_cost_usd) / 2
    return pgr(frontier.accuracy_at(middle), ends.weak, ends.strong)


def _arena(frontier: Frontier, block: Block, weights: FloatArray) -> Float64Array:
    """At 99% of the best single model's accuracy, or at the best reached."""
    wanted = np.minimum(0.99 * block.mean(block.strong, weights)[0], frontier.best_accuracy)
    return routerarena(wanted, frontier.cost_at(wanted))


def _ends(block: Block, weights: FloatArray) -> Ends:
    weak, weak_cost = block.mean(block.weak, weights)
    strong, strong_cost = block.mean(block.strong, weights)
    return Ends(weak, strong, weak_cost, strong_cost)


FRONTIER_METRICS: Mapping[str, FrontierMetric] = {
    "cost_save_100": _saving(1.0),
    "cost_save_99": _saving(0.99),
    "cost_save_95": _saving(0.95),
    "accuracy_at_matched_cost": _matched,
    "aiq": _aiq,
    "perf_gain": _perf_gain,
    "pgr": _pgr,
    "apgr": _apgr,
    "cpt": _cpt,
    "routerarena": _arena,
}


def _compare_saving(level: float) -> FrontierComparison:
    def of(ours: Frontier, theirs: Frontier, block: Block, weights: FloatArray) -> Float64Array:
        accuracy, _ = block.mean(block.strong, weights)
        return matched_accuracy_saving(ours, theirs, level * accuracy)

    return of


def _compare_accuracy(share: float) -> FrontierComparison:
    def of(ours: Frontier, theirs: Frontier, block: Block, weights: FloatArray) -> Float64Array:
        _, cost = block.mean(block.strong, weights)
        return matched_cost_difference(ours, theirs, share * cost)

    return of


COMPARISONS: tuple[tuple[str, str, FrontierComparison], ...] = (
    ("99% accuracy", "cost_save", _compare_saving(0.99)),
    ("95% accuracy", "cost_save", _compare_saving(0.95)),
    ("half the cost", "accuracy_at_matched_cost", _compare_accuracy(0.5)),
    ("a tenth of the cost", "accuracy_at_matched_cost", _compare_accuracy(0.1)),
)
