"""From outcomes to rows: every metric with its interval, and every comparison with its verdict.

All repetitions of a split share one set of bootstrap weights over the data set's prompts, so that
a prompt tested in two repetitions counts alike in both and methods are compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import ZeroRouterError
from zerorouter.evaluation.baselines import METHODS
from zerorouter.evaluation.batches import BUDGET_SHARES, assigned
from zerorouter.evaluation.benchmark import Benchmark
from zerorouter.evaluation.blocks import (
    COMPARISONS,
    FRONTIER_METRICS,
    VALUES_USD,
    Block,
    Swept,
    frontier_comparison,
    frontier_metric,
    sweep_choices,
    weighted,
)
from zerorouter.evaluation.coverage import covered, prompt_groups, shares
from zerorouter.evaluation.metrics import (
    PER_MODEL,
    auc,
    bad_newcomer_harm,
    per_model,
    realised,
    regret_usd,
    reliability,
    utility_usd,
)
from zerorouter.evaluation.rows import Row
from zerorouter.evaluation.running import Outcome
from zerorouter.evaluation.splits import Split
from zerorouter.evaluation.statistics import (
    Cell as ComparedCell,
)
from zerorouter.evaluation.statistics import (
    Comparison,
    bootstrap_interval,
    judge,
    resample,
)

OURS = "zerorouter"
WITH_SCORES = "zerorouter_scores"
NOT_BASELINES = frozenset(
    {"oracle", "shuffled_labels", "random_features"}
    | {"zerorouter_scores", "zerorouter_onnx", "zerorouter_full", OURS}
)
PRESET_VALUES_USD = {"cost": 0.005, "balanced": 0.1, "quality": 10.0}
HEAVY_REPLICATES = 100  # for metrics that sort: AUC and ECE
# What counts as equal: half a hundredth of a nat, one point of AUC or accuracy, five of cost.
MARGINS_OF_A_TIE = {
    "log_loss": 0.005,
    "auc": 0.01,
    "accuracy_at_matched_cost": 0.01,
    "cost_save": 0.05,
}
SINGLE_MODELS = "single_models"
BIN_COUNT = 10  # of reliability diagrams


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One split with the outcomes of all methods on it."""

    split: Split
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A metric's value over the repetitions, its replicates, and the values of each."""

    value: float
    replicates: Float64Array
    by_seed: Mapping[int, float]
    n: int
    n_clusters: int

    def against(self, other: Measured, *, sign: float = 1.0) -> Comparison:
        """Ours minus theirs; ``sign`` -1 where less is better."""
        return Comparison.from_replicates(
            sign * (self.value - other.value),
            sign * (self.replicates - other.replicates),
            n=self.n,
            n_clusters=self.n_clusters,
        )


class Judge:
    """Metrics of one data set under one kind of split.

    Args:
        benchmark: The data set.
        repetitions: Its splits and outcomes.
        replicates: Bootstrap replicates.
    """

    def __init__(
        self, benchmark: Benchmark, repetitions: Sequence[Repetition], replicates: int
    ) -> None:
        self.benchmark = benchmark
        self.repetitions = tuple(repetitions)
        self.kind = repetitions[0].split.kind
        rng = np.random.default_rng(41)
        newcomers = self.repetitions[0].split.newcomers
        self.common_newcomers = self.kind != "family" and len(newcomers) > 0
        self.resamples = resample(
            rng, len(benchmark.prompts), groups=benchmark.groups, replicates=replicates
        )
        # Models are resampled where all repetitions hold out the same ones.
        self.model_counts: Float64Array | None = None
        self.model_unit = ""
        if self.common_newcomers:
            families = [benchmark.models[int(i)].family or str(i) for i in newcomers]
            drawn = resample(rng, 1, families=families, replicates=replicates)
            self.model_counts, self.model_unit = drawn.models, drawn.model_unit or ""
        self.compared: list[ComparedCell] = []
        self._weights: dict[tuple[int, int], tuple[Float64Array, Float64Array]] = {}

    # -- rows ------------------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        """Every row of this data set and split."""
        yield from self._exclusions()
        if self.common_newcomers or self.kind == "family":
            yield from self._onboarding_rows()
        else:
            yield from self._probability_rows()
        if self.kind in ("random", "task"):
            yield from self._routing_rows()

    def _row(self, method: str, metric: str, value: float | None, **more: object) -> Row:
        return Row(
            dataset=self.benchmark.name,
            split=self.kind,
            method=method,
            metric=metric,
            value=value,
            **more,  # type: ignore[arg-type]  # the fields of Row
        )

    def _exclusions(self) -> Iterator[Row]:
        for repetition in self.repetitions:
            split = repetition.split
            for metric in ("dropped_prompts", "dropped_models"):
                yield self._row(
                    "", metric, float(getattr(split, metric)), seed=split.seed, n=len(split.test)
                )
        for method in self._methods(lambda outcome: "overhead_p50_s" in outcome.facts):
            for metric in ("overhead_p50_s", "overhead_p99_s"):
                taken = [r.outcomes[method].facts[metric] for r in self.repetitions]
                yield self._row(
                    method,
                    metric,
                    float(np.median(taken)),
                    ci_low=float(min(taken)),
                    ci_high=float(max(taken)),
                    n=len(taken),
                    note="features given; range over repetitions",
                )
        for method, outcome in self.repetitions[0].outcomes.items():
            if outcome.reason:
                yield self._row(method, "status", None, note=outcome.reason)

    def _measured_rows(
        self, method: str, metric: str, measured: Measured, **more: object
    ) -> Iterator[Row]:
        for seed, value in measured.by_seed.items():
            yield self._row(method, metric, value, seed=seed, n=measured.n, **more)
        interval = bootstrap_interval(
            measured.value, measured.replicates, n=measured.n, n_clusters=measured.n_clusters
        )
        yield self._row(
            method,
            metric,
            interval.value,
            ci_low=interval.ci_low,
            ci_high=interval.ci_high,
            n=measured.n,
            **more,
        )

    # -- probabilities ---------------------------------------------------------------------

    def _probability_rows(self) -> Iterator[Row]:
        """Log-loss and the rest over all models, all labels known."""
        ours: dict[str, Measured] = {}
        theirs: dict[tuple[str, str], Measured] = {}
        for method in self._methods(lambda o: o.p_known is not None):
            for metric in PER_MODEL:
                measured = self._probability(
                    metric, [self._known(r, method) for r in self.repetitions]
                )
                yield from self._measured_rows(method, metric, measured)
                if method == OURS:
                    ours[metric] = measured
                else:
                    theirs[method, metric] = measured
            yield from self._reliability_rows(method)
        for method in self._methods(lambda o: o.interval_known is not None):
            yield from self._coverage_rows(method, None, None)
        yield from self._probability_comparisons(ours, theirs, None)

    def _onboarding_rows(self) -> Iterator[Row]:
        """The same for newcomers, at every number of labels."""
        by_cell = self._cells()
        for n_anchors, keys in by_cell.items():
            ours: dict[str, Measured] = {}
            theirs: dict[tuple[str, str], Measured] = {}
            for method in self._methods(lambda o: bool(o.p_new)):
                for metric in PER_MODEL:
                    parts = [self._new(r, method, keys) for r in self.repetitions]
                    measured = self._probability(metric, parts)
                    yield from self._measured_rows(method, metric, measured, n_anchors=n_anchors)
                    if method == OURS:
                        ours[metric] = measured
                    else:
                        theirs[method, metric] = measured
            yield from self._probability_comparisons(ours, theirs, n_anchors)
            for method in self._methods(lambda o: bool(o.interval_new)):
                yield from self._coverage_rows(method, keys, n_anchors)
        yield from self._regret_rows(by_cell)

    def _cells(self) -> dict[int | None, list[str]]:
        """Cell keys by number of labels, in rising order, all labels last."""
        outcome = next(o for o in self.repetitions[0].outcomes.values() if o.p_new)
        found: dict[int | None, list[str]] = {}
        for key in outcome.p_new:
            count = key.split(".")[0]
            found.setdefault(None if count == "all" else int(count), []).append(key)
        return dict(sorted(found.items(), key=lambda x: (x[0] is None, x[0] or 0)))

    def _known(self, repetition: Repetition, method: str) -> _Part:
        split, outcome = repetition.split, repetition.outcomes[method]
        assert outcome.p_known is not None
        return _Part(
            seed=split.seed,
            test=split.test,
            p=outcome.p_known.T[None],
            y=self.benchmark.labels.scores[split.calibration][:, split.test],
        )

    def _new(self, repetition: Repetition, method: str, keys: Sequence[str]) -> _Part:
        split, outcome = repetition.split, repetition.outcomes[method]
        return _Part(
            seed=split.seed,
            test=split.test,
            p=np.stack([outcome.p_new[key].T for key in keys if key in outcome.p_new]),
            y=self.benchmark.labels.scores[split.newcomers][:, split.test],
        )

    def _probability(self, metric: str, parts: Sequence[_Part]) -> Measured:
        """A per-model metric averaged over models, draws and repetitions."""
        values, replicates = {}, []
        for part in parts:
            linear = LINEAR.get(metric)
            found = (
                self._sorted_replicates(metric, part)
                if linear is None
                else self._linear_replicates(linear, part)
            )
            averaged = self._average(found)
            values[part.seed] = float(averaged[0])
            replicates.append(averaged[1:])
        return self._pooled(values, replicates, parts)

    def _linear_replicates(self, loss: _Loss, part: _Part) -> Float64Array:
        """(1 + B, D, M) means of a per-cell loss; the first is the sample itself.

        One matrix product serves all draws and models; the counts of observed cells are the
        same for every method and kept.
        """
        d, m, n = part.p.shape
        seen = ~np.isnan(part.y)
        y = np.where(seen, part.y, 0.0)
        cells = np.where(seen, loss(part.p.astype(np.float64), y), 0.0).reshape(d * m, n)
        key = (part.seed, m)
        if key not in self._weights:
            weights = np.vstack([np.ones((1, n)), self.resamples.prompts[:, part.test]])
            self._weights[key] = (weights, weights @ seen.T.astype(np.float64))
        weights, count = self._weights[key]
        top = (weights @ cells.T).reshape(len(weights), d, m)
        out = np.full(top.shape, np.nan)
        np.divide(top, count[:, None, :], out=out, where=count[:, None, :] > 0)
        return out

    def _sorted_replicates(self, metric: str, part: _Part) -> Float64Array:
        """The same for metrics that sort, with fewer replicates."""
        b = min(HEAVY_REPLICATES, len(self.resamples))
        weights = np.vstack([np.ones((1, len(part.test))), self.resamples.prompts[:b, part.test]])
        draws = [
            per_model(PER_MODEL[metric], p.astype(np.float64), part.y, weights) for p in part.p
        ]
        return np.stack(draws, axis=1)

    def _average(self, found: Float64Array) -> Float64Array:
        """(1 + B,) averages of (1 + B, D, M); the first is the sample itself."""
        weights = np.ones((len(found), found.shape[2]))
        if self.model_counts is not None and found.shape[2] == self.model_counts.shape[1]:
            weights[1:] = self.model_counts[: len(found) - 1]
        counts = weights[:, None, :] * ~np.isnan(found)
        if found.shape[1] > 1:
            rng = np.random.default_rng(43)
            d = found.shape[1]
            draws = rng.multinomial(d, np.full(d, 1 / d), size=len(found) - 1)
            counts[1:] *= draws[:, :, None]
        total = counts.sum(axis=(1, 2))
        top = (np.nan_to_num(found) * counts).sum(axis=(1, 2))
        out = np.full(len(found), np.nan)
        np.divide(top, total, out=out, where=total > 0)
        return out

    def _pooled(
        self,
        values: Mapping[int, float],
        replicates: Sequence[Float64Array],
        parts: Sequence[_Part] | Sequence[Repetition],
    ) -> Measured:
        tests = [p.test if isinstance(p, _Part) else p.split.test for p in parts]
        tested = np.unique(np.concatenate(tests))
        return Measured(
            value=float(np.mean(list(values.values()))),
            replicates=np.mean(replicates, axis=0),
            by_seed=dict(values),
            n=len(tested),
            n_clusters=len(np.unique(self.benchmark.groups[tested])),
        )

    def _coverage_rows(
        self, method: str, keys: Sequence[str] | None, n_anchors: int | None
    ) -> Iterator[Row]:
        """Share of 90% intervals that hold a group's mean score (see `coverage`)."""
        values, replicates = {}, []
        for repetition in self.repetitions:
            split, outcome = repetition.split, repetition.outcomes[method]
            part = (
                self._known(repetition, method)
                if keys is None
                else self._new(repetition, method, keys)
            )
            bounds = (
                [outcome.interval_known]
                if keys is None
                else [outcome.interval_new[key] for key in keys if key in outcome.interval_new]
            )
            held = np.stack(
                [
                    covered(p, interval[0].T, interval[1].T, part.y, self._groups[split.test])
                    for p, interval in zip(part.p, bounds, strict=True)
                    if interval is not None
                ]
            )
            found = shares(held, len(self.resamples))
            if np.isnan(found[0]):
                return
            values[split.seed] = float(found[0])
            replicates.append(found[1:])
        measured = self._pooled(values, replicates, self.repetitions)
        yield from self._measured_rows(method, "interval_coverage", measured, n_anchors=n_anchors)

    @cached_property
    def _groups(self) -> IntArray:
        """(N,) groups of alike prompts."""
        return prompt_groups(self.benchmark.prompts.features.embedding)

    def _probability_comparisons(
        self,
        ours: Mapping[str, Measured],
        theirs: Mapping[tuple[str, str], Measured],
        n_anchors: int | None,
    ) -> Iterator[Row]:
        """Rows ``difference:log_loss`` and ``difference:auc``, positive where ours is better."""
        cells = []
        for (method, metric), measured in theirs.items():
            if metric not in ("log_loss", "auc") or metric not in ours or method == "oracle":
                continue
            sign = -1.0 if metric == "log_loss" else 1.0
            cells.append(self._cell(method, "", metric, ours[metric].against(measured, sign=sign)))
        yield from self._comparison_rows(cells, n_anchors)

    def _cell(self, method: str, policy: str, metric: str, comparison: Comparison) -> ComparedCell:
        return ComparedCell(
            dataset=f"{self.benchmark.name}/{self.kind}",
            baseline=method,
            policy=policy,
            metric=metric,
            comparison=comparison,
        )

    def _comparison_rows(
        self, cells: Sequence[ComparedCell], n_anchors: int | None = None, note: str = ""
    ) -> Iterator[Row]:
        """Rows of compared cells, their intervals and verdicts corrected over all of them."""
        for judged in judge(cells, margins=MARGINS_OF_A_TIE):
            cell = judged.cell
            at = f"@{cell.policy}" if cell.policy else ""
            yield self._row(
                OURS,
                f"difference:{cell.metric}{at}",
                cell.comparison.difference,
                policy=f"against={cell.baseline}",
                n_anchors=n_anchors,
                ci_low=judged.ci_low,
                ci_high=judged.ci_high,
                n=cell.comparison.n,
                note=judged.verdict + (f"; {note}" if note else ""),
            )

    def _reliability_rows(self, method: str) -> Iterator[Row]:
        p, y = [], []
        for repetition in self.repetitions:
            part = self._known(repetition, method)
            p.append(part.p[0].ravel())
            y.append(part.y.ravel())
        joined_p, joined_y = np.concatenate(p).astype(np.float64), np.concatenate(y)
        curve = reliability(joined_p, joined_y, n_bins=BIN_COUNT)
        for i in range(len(curve.n)):
            for metric, values in (
                ("reliability_p", curve.mean_p),
                ("reliability_y", curve.mean_y),
                ("reliability_n", curve.n),
            ):
                yield self._row(
                    method, metric, float(values[i]), policy=f"bin={i}", n=int(curve.n[i])
                )
        pooled = auc(joined_p, joined_y)
        yield self._row(method, "auc_pooled", pooled, n=int((~np.isnan(joined_y)).sum()))

    # -- routing with all labels -----------------------------------------------------------

    def _routing_rows(self) -> Iterator[Row]:
        if self.benchmark.cost_kind == "none":
            yield self._row(
                "", "status", None, note="no prices and no costs: cost metrics are left out"
            )
            return
        try:
            blocks = [
                Block.of(self.benchmark, r.split, r.split.calibration) for r in self.repetitions
            ]
        except ZeroRouterError as error:
            yield self._row("", "status", None, note=f"no routing block: {error}")
            return
        note = "derived cost" if self.benchmark.cost_kind == "derived" else ""
        yield from self._single_model_rows(blocks, note)
        # One set of weights for all methods: each is as large as the replicates by the prompts.
        weights = [
            self.resamples.prompts[:, r.split.test[block.rows]]
            for r, block in zip(self.repetitions, blocks, strict=True)
        ]
        frontiers: dict[str, list[Swept]] = {}
        for method in self._methods(lambda o: o.cost_known is not None):
            frontiers[method] = [
                self._sweep(r, block, method, w)
                for r, block, w in zip(self.repetitions, blocks, weights, strict=True)
            ]
            yield from self._frontier_rows(method, frontiers[method], blocks, note)
            yield from self._batch_rows(method, blocks, weights, note)
        yield from self._routing_comparisons(frontiers, blocks, note)

    def _sweep(
        self, repetition: Repetition, block: Block, method: str, weights: Float64Array
    ) -> Swept:
        """What the method's operating points realise on the block."""
        outcome = repetition.outcomes[method]
        if outcome.choices is not None:
            column = np.full(len(repetition.split.calibration), -1)
            column[block.columns] = np.arange(len(block.columns))
            choice = column[outcome.choices[:, block.rows]]  # it chose within the block
            policies = outcome.policies
        else:
            assert outcome.p_known is not None
            assert outcome.cost_known is not None
            at = np.ix_(block.rows, block.columns)
            choice = sweep_choices(outcome.p_known[at], outcome.cost_known[at])
            policies = tuple(f"value={value:.3g}" for value in VALUES_USD)
        return Swept(
            policies=policies,
            accuracy=realised(block.scores, choice),
            cost=realised(block.cost, choice),
            weights=weights,
        )

    def _single_model_rows(self, blocks: Sequence[Block], note: str) -> Iterator[Row]:
        block = blocks[0]
        for column, model in enumerate(block.columns):
            name = self.benchmark.models[int(self.repetitions[0].split.calibration[model])].id
            for metric, values in (("mean_accuracy", block.scores), ("mean_cost_usd", block.cost)):
                per_prompt = values[column]
                se = 1.96 * float(per_prompt.std() / np.sqrt(len(per_prompt)))
                mean = float(per_prompt.mean())
                yield self._row(
                    SINGLE_MODELS,
                    metric,
                    mean,
                    policy=f"single:{name}",
                    ci_low=mean - se,
                    ci_high=mean + se,
                    n=len(per_prompt),
                    note=note,
                )

    def _frontier_rows(
        self, method: str, swept: Sequence[Swept], blocks: Sequence[Block], note: str
    ) -> Iterator[Row]:
        for p, policy in enumerate(swept[0].policies):
            for metric in ("mean_accuracy", "mean_cost_usd"):
                parts = [s.accuracy[p] if metric == "mean_accuracy" else s.cost[p] for s in swept]
                measured = self._routing([partial(weighted, v) for v in parts], swept)
                interval = bootstrap_interval(
                    measured.value,
                    measured.replicates,
                    n=measured.n,
                    n_clusters=measured.n_clusters,
                )
                yield self._row(
                    method,
                    metric,
                    interval.value,
                    policy=policy,
                    ci_low=interval.ci_low,
                    ci_high=interval.ci_high,
                    n=measured.n,
                    note=note,
                )
        for metric, of in FRONTIER_METRICS.items():
            statistics = [
                partial(frontier_metric, of, s, b) for s, b in zip(swept, blocks, strict=True)
            ]
            measured = self._routing(statistics, swept)
            yield from self._measured_rows(method, metric, measured, note=note)

    def _batch_rows(
        self, method: str, blocks: Sequence[Block], weights: Sequence[Float64Array], note: str
    ) -> Iterator[Row]:
        """How a budget for the whole batch was kept, and the proven gap of the assignment."""
        if any(r.outcomes[method].p_known is None for r in self.repetitions):
            return
        for share in BUDGET_SHARES:
            policy = f"budget {share:.0%} of the best single model"
            values, gaps, replicates = {}, [], []
            for repetition, block, w in zip(self.repetitions, blocks, weights, strict=True):
                outcome = repetition.outcomes[method]
                assert outcome.p_known is not None
                assert outcome.cost_known is not None
                at = np.ix_(block.rows, block.columns)
                batch = assigned(block, outcome.p_known[at], outcome.cost_known[at], share)
                if batch is None:
                    yield self._row(
                        method,
                        "status",
                        None,
                        policy=policy,
                        note="the forecast costs of the cheapest models exceed the budget",
                    )
                    return
                values[repetition.split.seed] = float(batch.violations(np.ones_like(w[:1]))[0])
                replicates.append(batch.violations(w))
                gaps.append(batch.gap)
            measured = self._pooled(values, replicates, self.repetitions)
            yield from self._measured_rows(
                method, "constraint_violation", measured, policy=policy, note=note
            )
            yield self._row(
                method,
                "duality_gap",
                float(np.mean(gaps)),
                policy=policy,
                ci_low=min(gaps),
                ci_high=max(gaps),
                n=measured.n,
                note="range over repetitions",
            )

    def _routing(
        self,
        statistics: Sequence[Callable[[FloatArray], Float64Array]],
        swept: Sequence[Swept],
    ) -> Measured:
        """Average a statistic of weights over the repetitions."""
        values, replicates = {}, []
        for repetition, statistic, part in zip(self.repetitions, statistics, swept, strict=True):
            ones = np.ones((1, part.weights.shape[1]))
            values[repetition.split.seed] = float(statistic(ones)[0])
            replicates.append(statistic(part.weights))
        return self._pooled(values, replicates, self.repetitions)

    def _routing_comparisons(
        self, frontiers: Mapping[str, Sequence[Swept]], blocks: Sequence[Block], note: str
    ) -> Iterator[Row]:
        """Cells of the acceptance rule: saving at 99% and 95%, accuracy at matched cost."""
        if OURS not in frontiers:
            return
        ours, found = frontiers[OURS], []
        for method, theirs in frontiers.items():
            if method in NOT_BASELINES:
                continue
            for policy, metric, of in COMPARISONS:
                statistics = [
                    partial(frontier_comparison, of, a, t, b)
                    for a, t, b in zip(ours, theirs, blocks, strict=True)
                ]
                measured = self._routing(statistics, ours)
                comparison = Comparison.from_replicates(
                    measured.value,
                    measured.replicates,
                    n=measured.n,
                    n_clusters=measured.n_clusters,
                )
                found.append(self._cell(method, policy, metric, comparison))
        self.compared += found
        yield from self._comparison_rows(found, note=note)

    # -- regret of onboarding --------------------------------------------------------------

    def _regret_rows(self, by_cell: Mapping[int | None, Sequence[str]]) -> Iterator[Row]:
        """What few labels cost in routing, against the same router with all labels."""
        if self.benchmark.cost_kind == "none":
            yield self._row("", "status", None, note="no prices and no costs: regret is left out")
            return
        yield from self._asking_rows(by_cell)
        for method in self._methods(lambda o: bool(o.p_new)):
            for name, value in PRESET_VALUES_USD.items():
                for n_anchors, keys in by_cell.items():
                    measured = self._regret(method, keys, value)
                    if measured is not None:
                        yield from self._measured_rows(
                            method, "regret", measured, policy=name, n_anchors=n_anchors
                        )
            for n_anchors, keys in by_cell.items():
                harm = self._harm(method, keys)
                if harm is not None:
                    yield from self._measured_rows(
                        method, "bad_newcomer_harm", harm, policy="balanced", n_anchors=n_anchors
                    )

    def _asking_rows(self, by_cell: Mapping[int | None, Sequence[str]]) -> Iterator[Row]:
        """What labels cost: calls per newcomer, and dollars at its prices."""
        split = self.repetitions[0].split
        per_call = np.nanmean(self.benchmark.labels.cost_usd[split.newcomers])
        asked = [(OURS, n_anchors) for n_anchors in by_cell]
        if 0 in by_cell and WITH_SCORES in self._methods(lambda o: bool(o.p_new)):
            asked.append((WITH_SCORES, 0))  # scores are for who asks nothing
        for method, n_anchors in asked:
            calls = len(split.train) if n_anchors is None else n_anchors
            for metric, value in (("calls", float(calls)), ("usd", float(calls * per_call))):
                yield self._row(
                    method, metric, value, n_anchors=n_anchors, ci_low=value, ci_high=value, n=calls
                )

    def _pool(self, repetition: Repetition) -> Block | None:
        split = repetition.split
        try:
            return Block.of(
                self.benchmark, split, np.concatenate([split.calibration, split.newcomers])
            )
        except ZeroRouterError:
            return None

    def _regret(self, method: str, keys: Sequence[str], value: float) -> Measured | None:
        values, replicates = {}, []
        for repetition in self.repetitions:
            block = self._pool(repetition)
            if block is None:
                return None
            full = self._utility(repetition, block, method, "all.0", value)
            lost = np.mean(
                [
                    regret_usd(self._utility(repetition, block, method, key, value), full)
                    for key in keys
                    if key in repetition.outcomes[method].p_new
                ],
                axis=0,
            )
            values[repetition.split.seed] = float(lost.mean())
            weights = self.resamples.prompts[:, repetition.split.test[block.rows]]
            replicates.append(weighted(lost, weights))
        return self._pooled(values, replicates, self.repetitions)

    def _harm(self, method: str, keys: Sequence[str]) -> Measured | None:
        """Accuracy lost when the worst newcomer joins the calibration pool."""
        value = PRESET_VALUES_USD["balanced"]
        values, replicates = {}, []
        for repetition in self.repetitions:
            block = self._pool(repetition)
            n_old = len(repetition.split.calibration)
            if block is None or not (block.columns >= n_old).any():
                return None
            new = np.flatnonzero(block.columns >= n_old)
            worst = int(new[np.argmin(block.scores[new].mean(axis=1))])
            old = np.flatnonzero(block.columns < n_old)
            if len(old) == 0:
                return None
            lost = []
            for key in keys:
                if key not in repetition.outcomes[method].p_new:
                    continue
                p, cost = self._joined(repetition, block, method, key)
                utility = value * p - cost
                without = old[np.argmax(utility[:, old], axis=1)]
                pool = np.append(old, worst)
                joined = pool[np.argmax(utility[:, pool], axis=1)]
                lost.append(
                    bad_newcomer_harm(
                        realised(block.scores, without), realised(block.scores, joined)
                    )
                )
            per_prompt = np.mean(lost, axis=0)
            weights = self.resamples.prompts[:, repetition.split.test[block.rows]]
            values[repetition.split.seed] = float(np.mean(per_prompt))
            replicates.append(weighted(per_prompt, weights))
        return self._pooled(values, replicates, self.repetitions)

    def _utility(
        self, repetition: Repetition, block: Block, method: str, key: str, value: float
    ) -> Float64Array:
        """(n,) realised utility of routing the block's prompts at a value of an answer."""
        p, cost = self._joined(repetition, block, method, key)
        choice = np.argmax(value * p - cost, axis=1)
        return utility_usd(realised(block.scores, choice), realised(block.cost, choice), value)

    def _joined(
        self, repetition: Repetition, block: Block, method: str, key: str
    ) -> tuple[Float64Array, Float64Array]:
        """Forecasts (n, m) on the block, newcomers included; unknown costs are never chosen."""
        outcome = repetition.outcomes[method]
        assert outcome.p_known is not None
        assert outcome.cost_known is not None
        at = np.ix_(block.rows, block.columns)
        p = np.hstack([outcome.p_known, outcome.p_new[key]])[at]
        cost = np.hstack([outcome.cost_known, outcome.cost_new[key]])[at]
        return p.astype(np.float64), np.where(np.isnan(cost), np.inf, cost).astype(np.float64)

    def _methods(self, ready: Callable[[Outcome], bool]) -> list[str]:
        """Methods that ran in every repetition and have what is asked for, in table order."""
        return [
            method
            for method in METHODS
            if all(
                method in r.outcomes and not r.outcomes[method].reason and ready(r.outcomes[method])
                for r in self.repetitions
            )
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Forecasts and answers of one repetition: p (D, M, N), y (M, N), positions of the prompts."""

    seed: int
    test: IntArray
    p: FloatArray
    y: FloatArray


_Loss: TypeAlias = Callable[[FloatArray, FloatArray], Float64Array]


def _log_loss_cells(p: FloatArray, y: FloatArray) -> Float64Array:
    q = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(-(y * np.log(q) + (1 - y) * np.log1p(-q)))


def _brier_cells(p: FloatArray, y: FloatArray) -> Float64Array:
    return np.asarray((p - y) ** 2)


LINEAR: Mapping[str, _Loss] = {"log_loss": _log_loss_cells, "brier": _brier_cells}
