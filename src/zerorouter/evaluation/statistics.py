"""How sure a number is, and whether one method beat another: bootstrap, Holm, verdicts.

The rules of METHOD section 5, as code:

- **Paired bootstrap**, 2,000 replicates: a replicate is a set of weights (how often each prompt,
  model and anchor draw was drawn), and every method is measured under the *same* weights.
- **Three crossed factors.** Prompts, held-out models and anchor draws are resampled
  independently of one another and their weights multiplied (the pigeonhole bootstrap, Owen 2007,
  which errs on the wide side), because all models and all draws meet the same prompts.
- **Clusters, not rows.** Prompts of one duplicate group are drawn together. Models of one family
  are drawn together where there are at least 8 families; with fewer, models are drawn one by one,
  and the number of families is carried along to be printed.
- **Pooling over data sets** takes the plain mean of their differences, every data set counting
  the same: no weights to choose, and a large easy data set cannot outvote a small one.
- **Holm** over the cells that are judged together; verdicts use the intervals at Holm's level.

Intervals are percentile ones. Far in the tail, where fewer than `TAIL` replicates lie beyond an
end, as at Holm's levels over many cells, the end is the wider of the percentile and the normal
one: replicates alone cannot tell p = 1e-4 from p = 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import DataError

REPLICATES = 2000
ALPHA = 0.05
MINIMUM_FAMILIES = 8
MINIMUM_N = 30
"""With fewer independent prompts (clusters) than this no verdict is given."""

MAXIMUM_UNDEFINED = 0.05
"""A result that is undefined in a larger share of replicates has no interval."""

TAIL = 10
_BLOCK = 2_000_000  # draws made at a time, to bound memory

MARGINS: Mapping[str, float] = {"accuracy_at_matched_cost": 0.01, "cost_save": 0.05}
"""What counts as equal, by metric: one point of accuracy, five of cost."""

Axis: TypeAlias = Literal["draws", "models"]
Verdict: TypeAlias = Literal["won", "tied", "lost", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = ("won", "tied", "lost", "inconclusive")


# --- resampling ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Resamples:
    """B replicates, each a count of how often everything was drawn.

    Attributes:
        prompts: (B, N) counts of prompts, equal within a duplicate group.
        models: (B, M) counts of held-out models, or None where models are not resampled.
        draws: (B, D) counts of anchor draws, or None where there is one or none.
        n_clusters: Independent groups of prompts.
        n_families: Families among the held-out models; None where models are not resampled.
        model_unit: What was drawn of the models: ``"family"``, ``"model"`` or None.
    """

    prompts: Float64Array
    models: Float64Array | None
    draws: Float64Array | None
    n_clusters: int
    n_families: int | None
    model_unit: Literal["family", "model"] | None

    def __len__(self) -> int:
        return len(self.prompts)

    def whole(self) -> Resamples:
        """The sample itself: one replicate in which everything counts once."""

        def ones(counts: Float64Array | None) -> Float64Array | None:
            return None if counts is None else np.ones((1, counts.shape[1]))

        return replace(
            self,
            prompts=np.ones((1, self.prompts.shape[1])),
            models=ones(self.models),
            draws=ones(self.draws),
        )

    def mean(self, values: FloatArray, axes: Sequence[Axis] = ()) -> Float64Array:
        """(B,) means over prompts, then over models and draws, of cells given one by one.

        Args:
            values: (..., N) with one leading axis for each of ``axes``; NaN cells do not count.
            axes: What the leading axes are, such as ``("draws", "models")``.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape[-1:] != self.prompts.shape[1:]:
            raise DataError(f"values {values.shape} do not fit {self.prompts.shape[1]} prompts")
        rows = values.reshape(-1, values.shape[-1])
        seen = ~np.isnan(rows)
        top = self.prompts @ np.where(seen, rows, 0.0).T
        if seen.all():
            count = np.broadcast_to(self.prompts.sum(axis=1)[:, None], top.shape)
        else:
            count = self.prompts @ seen.T.astype(np.float64)
        means = np.divide(top, count, out=np.full(top.shape, math.nan), where=count > 0)
        return self.average(means.reshape(len(self), *values.shape[:-1]), axes)

    def average(self, replicates: FloatArray, axes: Sequence[Axis] = ()) -> Float64Array:
        """(B,) averages over models and draws of a metric computed for each of them.

        Args:
            replicates: (B, ...) with one more axis for each of ``axes``: the metric of each
                draw and model under this object's weights over prompts. NaN (a model for which
                it is not defined) does not count.
            axes: What the further axes are.
        """
        values = np.asarray(replicates, dtype=np.float64)
        if values.ndim != 1 + len(axes) or len(values) != len(self):
            raise DataError(
                f"replicates {values.shape} do not fit {len(self)} of them over {list(axes)}"
            )
        weights: FloatArray = np.ones(values.shape)
        for position, axis in enumerate(axes, start=1):
            counts = self.models if axis == "models" else self.draws
            if counts is None:
                continue
            if counts.shape[1] != values.shape[position]:
                raise DataError(
                    f"{values.shape[position]} {axis} given, {counts.shape[1]} were resampled"
                )
            shape = [len(self)] + [1] * len(axes)
            shape[position] = counts.shape[1]
            weights = weights * counts.reshape(tuple(shape))
        used = (weights > 0) & ~np.isnan(values)
        values = np.where(used, values, 0.0).reshape(len(self), -1)
        weights = np.where(used, weights, 0.0).reshape(len(self), -1)
        total = weights.sum(axis=1)
        out: Float64Array = np.divide(
            (weights * values).sum(axis=1),
            total,
            out=np.full(len(self), math.nan),
            where=total > 0,
        )
        return out


def resample(
    rng: np.random.Generator,
    n_prompts: int,
    *,
    groups: IntArray | None = None,
    families: Sequence[str] | None = None,
    n_draws: int = 1,
    replicates: int = REPLICATES,
) -> Resamples:
    """Draw the weights of a paired bootstrap; the same generator state gives the same weights.

    Args:
        rng: Source of randomness.
        n_prompts: N test prompts. Where draws have different test prompts, their union.
        groups: (N,) duplicate groups; each prompt its own if not given.
        families: Family of each held-out model, if models are to be resampled.
        n_draws: Anchor draws (repetitions); resampled if more than one.
        replicates: B.
    """
    if n_prompts < 1:
        raise DataError("there are no prompts to resample")
    ids = np.arange(n_prompts) if groups is None else np.asarray(groups)
    if ids.shape != (n_prompts,):
        raise DataError(f"groups {ids.shape} do not fit {n_prompts} prompts")
    clusters = np.unique(ids, return_inverse=True)[1]
    n_clusters = int(clusters.max()) + 1
    prompts = _counts(rng, n_clusters, replicates)
    models: Float64Array | None = None
    n_families: int | None = None
    unit: Literal["family", "model"] | None = None
    if families:
        codes = np.unique(np.asarray(families), return_inverse=True)[1]
        n_families = int(codes.max()) + 1
        unit = "family" if n_families >= MINIMUM_FAMILIES else "model"
        if unit == "family":
            models = _counts(rng, n_families, replicates)[:, codes]
        else:
            models = _counts(rng, len(families), replicates)
    return Resamples(
        prompts=prompts if n_clusters == n_prompts and groups is None else prompts[:, clusters],
        models=models,
        draws=_counts(rng, n_draws, replicates) if n_draws > 1 else None,
        n_clusters=n_clusters,
        n_families=n_families,
        model_unit=unit,
    )


def _counts(rng: np.random.Generator, n: int, replicates: int) -> Float64Array:
    """(B, n) how often each of n was drawn in n draws with replacement."""
    out = np.empty((replicates, n))
    block = max(1, _BLOCK // n)
    for first in range(0, replicates, block):
        rows = min(block, replicates - first)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        out[first : first + rows] = np.bincount(drawn.ravel(), minlength=n * rows).reshape(rows, n)
    return out


# --- intervals and comparisons ------------------------------------------------------------------

Statistic: TypeAlias = Callable[[Resamples], FloatArray]
"""A metric of one method under weights: (B,) numbers, all by `Resamples` methods or metrics that
take weights. Infinite where a level is never reached, NaN where not defined."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number and its 95% interval; an end is None where it cannot be had."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """One method minus another, measured on the same replicates.

    Attributes:
        difference: Ours minus theirs, larger being better; None where not defined.
        ci_low: Lower end of its 95% interval; minus infinity where ours may never get there.
        ci_high: Upper end.
        p_value: Two-sided: the level at which the interval first touches 0.
        n: Prompts behind it.
        n_clusters: Independent groups of prompts among them.
        n_families: Families of the held-out models; None where models were not resampled.
        replicates: (B,) differences, sorted by nothing: position b is replicate b.
    """

    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    n: int
    n_clusters: int
    n_families: int | None = None
    replicates: Float64Array

    @classmethod
    def from_replicates(
        cls,
        difference: float,
        replicates: FloatArray,
        *,
        n: int,
        n_clusters: int | None = None,
        n_families: int | None = None,
    ) -> Comparison:
        """Interval and p-value of a difference from its replicates.

        One cluster of prompts, or too many undefined replicates, leave no interval.
        """
        values = np.asarray(replicates, dtype=np.float64)
        clusters = n if n_clusters is None else n_clusters
        ends: tuple[float, float] | None = None
        p_value: float | None = None
        if not math.isnan(difference) and clusters > 1:
            ends = _interval(difference, values, ALPHA)
            p_value = None if ends is None else _p_value(difference, values)
        return cls(
            difference=None if math.isnan(difference) else float(difference),
            ci_low=None if ends is None else ends[0],
            ci_high=None if ends is None else ends[1],
            p_value=p_value,
            n=n,
            n_clusters=clusters,
            n_families=n_families,
            replicates=values,
        )

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """The interval at level ``1 - alpha``; None where there is none."""
        if self.difference is None or self.ci_low is None:
            return None
        return _interval(self.difference, self.replicates, alpha)

    def swapped(self) -> Comparison:
        """Theirs minus ours."""
        return replace(
            self,
            difference=None if self.difference is None else -self.difference,
            ci_low=None if self.ci_high is None else -self.ci_high,
            ci_high=None if self.ci_low is None else -self.ci_low,
            replicates=-self.replicates,
        )


def bootstrap_interval(
    value: float | None, replicates: FloatArray, *, n: int, n_clusters: int | None = None
) -> Interval:
    """The 95% interval of one number from its bootstrap replicates.

    Args:
        value: The number on the sample itself; None or NaN where not defined.
        replicates: (B,) the number in each replicate.
        n: Observations behind it, for the row.
        n_clusters: Independent ones among them, if fewer.
    """
    found = Comparison.from_replicates(
        math.nan if value is None else value, replicates, n=n, n_clusters=n_clusters
    )
    return Interval(
        value=_finite(found.difference),
        ci_low=_finite(found.ci_low),
        ci_high=_finite(found.ci_high),
        n=n,
    )


def estimate(statistic: Statistic, resamples: Resamples) -> Interval:
    """A metric of one method and its interval."""
    return bootstrap_interval(
        float(statistic(resamples.whole())[0]),
        statistic(resamples),
        n=resamples.prompts.shape[1],
        n_clusters=resamples.n_clusters,
    )


def compare(ours: Statistic, theirs: Statistic, resamples: Resamples) -> Comparison:
    """A metric of ours minus that of theirs, under the same weights.

    For metrics where less is better (log-loss, cost) pass their negatives, so that a positive
    difference is always a win. Where both are infinite in the same direction the replicate is
    undefined.
    """
    whole = resamples.whole()
    return Comparison.from_replicates(
        float(_difference(ours(whole), theirs(whole))[0]),
        _difference(ours(resamples), theirs(resamples)),
        n=resamples.prompts.shape[1],
        n_clusters=resamples.n_clusters,
        n_families=resamples.n_families,
    )


def paired_difference(
    ours: FloatArray,
    theirs: FloatArray,
    rng: np.random.Generator,
    *,
    axes: Sequence[Axis] = (),
    groups: IntArray | None = None,
    families: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> Comparison:
    """Mean of ours minus mean of theirs, cell by cell, with a paired nested bootstrap.

    Args:
        ours: (N,) outcomes per prompt, or (..., N) with leading ``axes``; larger is better. A cell
            that is NaN in either is left out of both.
        theirs: The same shape.
        rng: Source of randomness.
        axes: What the leading axes are: ``("draws", "models")``, one of them, or none.
        groups: (N,) duplicate groups of prompts.
        families: Family of each model, if there is an axis of models to resample.
        replicates: How many.
    """
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.shape != theirs.shape or ours.ndim != 1 + len(axes):
        raise DataError(
            f"outcomes {ours.shape} and {theirs.shape} must be of one shape: {[*axes, 'prompts']}"
        )
    gap = ours - theirs
    resamples = resample(
        rng,
        gap.shape[-1],
        groups=groups,
        families=families if "models" in axes else None,
        n_draws=gap.shape[list(axes).index("draws")] if "draws" in axes else 1,
        replicates=replicates,
    )
    seen = np.flatnonzero(~np.isnan(gap).reshape(-1, gap.shape[-1]).all(axis=0))
    clusters = np.arange(gap.shape[-1]) if groups is None else np.asarray(groups)
    return Comparison.from_replicates(
        float(resamples.whole().mean(gap, axes)[0]),
        resamples.mean(gap, axes),
        n=len(seen),
        n_clusters=len(np.unique(clusters[seen])),
        n_families=resamples.n_families,
    )


def pool(comparisons: Sequence[Comparison]) -> Comparison:
    """The plain mean of independent comparisons (data sets), each counting the same.

    Replicate b of the mean is the mean of one replicate of each. They are paired off in a shuffled
    order, so that data sets that were resampled from one seed still count as independent.
    Comparisons without an interval are left out.
    """
    usable = [c for c in comparisons if c.difference is not None and c.ci_low is not None]
    if not usable:
        return Comparison.from_replicates(math.nan, np.empty(0), n=0)
    sizes = {len(c.replicates) for c in usable}
    if len(sizes) > 1:
        raise DataError(f"comparisons with {sorted(sizes)} replicates cannot be pooled; use one")
    shuffled = [
        np.random.default_rng(position).permutation(c.replicates)
        for position, c in enumerate(usable)
    ]
    families = [c.n_families for c in usable if c.n_families is not None]
    with np.errstate(invalid="ignore"):
        return Comparison.from_replicates(
            float(np.mean([c.difference for c in usable])),
            np.mean(shuffled, axis=0),
            n=sum(c.n for c in usable),
            n_clusters=sum(c.n_clusters for c in usable),
            n_families=sum(families) if families else None,
        )


def _difference(ours: FloatArray, theirs: FloatArray) -> Float64Array:
    """Elementwise; NaN, without a warning, where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        out: Float64Array = np.asarray(ours, dtype=np.float64) - theirs
    return out


def _interval(value: float, replicates: Float64Array, alpha: float) -> tuple[float, float] | None:
    """Percentile interval, widened to the normal one where the tail holds too few replicates.

    Order statistics only: replicates may be infinite, and swapping signs swaps the ends exactly.
    """
    defined = np.sort(replicates[~np.isnan(replicates)])
    if len(defined) == 0 or len(defined) < (1 - MAXIMUM_UNDEFINED) * len(replicates):
        return None
    cut = math.floor(alpha / 2 * (len(defined) - 1))
    low, high = float(defined[cut]), float(defined[len(defined) - 1 - cut])
    if alpha / 2 * len(defined) < TAIL and math.isfinite(value):
        reach = NormalDist().inv_cdf(1 - alpha / 2) * _standard_error(defined)
        low, high = min(low, value - reach), max(high, value + reach)
    return low, high


def _p_value(value: float, replicates: Float64Array) -> float:
    """The level at which `_interval` first touches 0, twice the share of replicates beyond it."""
    defined = replicates[~np.isnan(replicates)]
    beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    p_value = 2 * beyond / len(defined)
    if beyond < TAIL and math.isfinite(value):
        spread = _standard_error(defined)
        if spread > 0:
            p_value = max(p_value, 2 * NormalDist().cdf(-abs(value) / spread))
        elif value == 0:
            p_value = 1.0
    return min(1.0, p_value)


def _standard_error(replicates: Float64Array) -> float:
    finite = replicates[np.isfinite(replicates)]
    return float(finite.std(ddof=1)) if len(finite) > 1 else 0.0


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# --- many cells ---------------------------------------------------------------------------------


def holm(p_values: Sequence[float | None]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given.

    ``p_(i) * (k - i + 1)`` for the i-th smallest of k, made to rise, capped at 1. A missing
    p-value counts as 1: a cell that could not be judged still belongs to the family.
    """
    order, p = _ranked(p_values)
    adjusted = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    out = np.empty(len(p))
    out[order] = adjusted
    return [float(x) for x in out]


def holm_levels(p_values: Sequence[float | None], alpha: float = ALPHA) -> list[float]:
    """The level at which each cell is judged by Holm's procedure, in the order given.

    ``alpha / k`` for the smallest p-value, ``alpha / (k - 1)`` for the next, until the first that
    is not rejected; all that follow are judged at that one's level. A cell is rejected exactly if
    its p-value lies below its level.
    """
    order, p = _ranked(p_values)
    out = np.empty(len(p))
    level, stopped = alpha, False
    for rank, index in enumerate(order):
        if not stopped:
            level = alpha / (len(p) - rank)
            stopped = p[index] >= level
        out[index] = level
    return [float(x) for x in out]


def _ranked(p_values: Sequence[float | None]) -> tuple[IntArray, Float64Array]:
    p = np.array([1.0 if x is None else x for x in p_values], dtype=np.float64)
    if len(p) and (np.isnan(p).any() or p.min() < 0 or p.max() > 1):
        raise DataError("p-values must lie in [0, 1]")
    return np.argsort(p, kind="stable"), p


def verdict(
    comparison: Comparison,
    *,
    margin: float,
    minimum_n: int = MINIMUM_N,
    alpha: float = ALPHA,
) -> Verdict:
    """What a comparison says about our method.

    - ``won`` or ``lost``: the interval excludes 0, however small the difference;
    - ``tied``: it does not, and lies wholly within ``margin`` of 0;
    - ``inconclusive``: anything else, fewer than ``minimum_n`` independent prompts, or no interval.

    Args:
        comparison: Ours minus theirs, larger being better.
        margin: The largest difference that does not matter, in units of the metric.
        minimum_n: Clusters of prompts needed for any verdict.
        alpha: Level of the interval, Holm's where several cells are judged (`holm_levels`).
    """
    if margin < 0:
        raise DataError(f"a margin of {margin} was given; want 0 or more")
    ends = comparison.interval(alpha)
    if ends is None or comparison.n_clusters < minimum_n:
        return "inconclusive"
    low, high = ends
    if low > 0:
        return "won"
    if high < 0:
        return "lost"
    return "tied" if -margin <= low and high <= margin else "inconclusive"


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One comparison with a baseline.

    Attributes:
        dataset: Data set (and split); ``""`` once pooled.
        baseline: Method id of the baseline.
        policy: Preset at which both were run.
        metric: ``accuracy_at_matched_cost`` (difference at matched cost) or ``cost_save`` (saving
            at matched accuracy), or another for which a margin is given.
        comparison: Ours minus the baseline's, larger being better.
    """

    dataset: str
    baseline: str
    policy: str
    metric: str
    comparison: Comparison

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.dataset, self.policy, self.metric) if part)
        return f"{self.baseline} ({where})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A cell with its verdict.

    Attributes:
        cell: What was compared.
        verdict: The outcome for our method.
        ci_low: Lower end of the interval at Holm's level; None where there is none.
        ci_high: Its upper end.
        p_adjusted: Holm's adjusted p-value.
    """

    cell: Cell
    verdict: Verdict
    ci_low: float | None
    ci_high: float | None
    p_adjusted: float

    def __str__(self) -> str:
        found = self.cell.comparison
        if found.difference is None or self.ci_low is None or self.ci_high is None:
            return f"{self.cell}: not measurable, n = {found.n}"
        families = "" if found.n_families is None else f", {found.n_families} families"
        return (
            f"{self.cell}: {found.difference:+.4f} [{self.ci_low:+.4f}, {self.ci_high:+.4f}], "
            f"n = {found.n}{families}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Acceptance:
    """Whether the sentence may be written, and everything that speaks for and against it.

    Attributes:
        allowed: Whether "outperforms all baselines" may be written.
        reasons: Why not, in words; empty where it may.
        cells: Every cell of every data set, judged together.
        pooled: One cell per baseline, policy and metric over data sets, judged together.
        worse_before_correction: Cells whose plain 95% interval lies below 0 though Holm's does
            not: they do not forbid the sentence, and are printed all the same.
        summary: The outcome in plain words, ties and losses named like wins.
    """

    allowed: bool
    reasons: tuple[str, ...]
    cells: tuple[Judged, ...]
    pooled: tuple[Judged, ...]
    worse_before_correction: tuple[Judged, ...]
    summary: str

    def counts(self) -> dict[Verdict, int]:
        """How many cells were won, tied, lost and inconclusive."""
        return {name: sum(j.verdict == name for j in self.cells) for name in VERDICTS}


def acceptance(
    cells: Sequence[Cell],
    *,
    method: str = "zerorouter",
    baselines: Sequence[str] | None = None,
    margins: Mapping[str, float] = MARGINS,
    minimum_n: int = MINIMUM_N,
) -> Acceptance:
    """The acceptance rule of METHOD section 5.

    "Outperforms all baselines" may be written only where for each baseline and preset the pooled
    accuracy difference at matched cost, or the pooled cost saving at matched accuracy, has a 95%
    interval above zero, and no cell is significantly worse. Holm's correction runs over the cells
    of all data sets, and apart from them over the pooled ones.

    Args:
        cells: Comparisons per data set, baseline, preset and metric.
        method: Our method's id, for the words.
        baselines: Baselines that must be there; one without cells forbids the sentence.
        margins: Margin of a tie, by metric.
        minimum_n: Clusters of prompts needed for a verdict.
    """
    judged = judge(cells, margins=margins, minimum_n=minimum_n)
    together: dict[tuple[str, str, str], list[Comparison]] = {}
    for cell in cells:
        key = (cell.baseline, cell.policy, cell.metric)
        together.setdefault(key, []).append(cell.comparison)
    pooled = judge(
        [
            Cell(dataset="", baseline=b, policy=p, metric=m, comparison=pool(found))
            for (b, p, m), found in together.items()
        ],
        margins=margins,
        minimum_n=minimum_n,
    )
    reasons = _objections(judged, pooled, baselines)
    slips = tuple(
        j
        for j in judged
        if j.verdict != "lost"
        and j.cell.comparison.ci_high is not None
        and j.cell.comparison.ci_high < 0
    )
    return Acceptance(
        allowed=not reasons,
        reasons=reasons,
        cells=judged,
        pooled=pooled,
        worse_before_correction=slips,
        summary=_summary(method, judged, pooled, slips, reasons),
    )


def judge(
    cells: Sequence[Cell], *, margins: Mapping[str, float] = MARGINS, minimum_n: int = MINIMUM_N
) -> tuple[Judged, ...]:
    """A verdict on each cell, with Holm's correction over all of them."""
    unknown = sorted({cell.metric for cell in cells} - set(margins))
    if unknown:
        raise DataError(f"no margin of a tie is given for {', '.join(unknown)}")
    p_values = [cell.comparison.p_value for cell in cells]
    out = []
    for cell, level, p in zip(cells, holm_levels(p_values), holm(p_values), strict=True):
        ends = cell.comparison.interval(level)
        out.append(
            Judged(
                cell=cell,
                verdict=verdict(
                    cell.comparison, margin=margins[cell.metric], minimum_n=minimum_n, alpha=level
                ),
                ci_low=None if ends is None else ends[0],
                ci_high=None if ends is None else ends[1],
                p_adjusted=p,
            )
        )
    return tuple(out)


def _objections(
    cells: Sequence[Judged], pooled: Sequence[Judged], baselines: Sequence[str] | None
) -> tuple[str, ...]:
    """All that forbids the sentence."""
    reasons = []
    if not cells:
        reasons.append("nothing was compared")
    present = {j.cell.baseline for j in cells}
    reasons += [f"{b} was not compared" for b in baselines or () if b not in present]
    won = {(j.cell.baseline, j.cell.policy) for j in pooled if j.verdict == "won"}
    asked = dict.fromkeys((j.cell.baseline, j.cell.policy) for j in pooled)
    reasons += [
        f"against {baseline}{f' at {policy}' if policy else ''} neither the pooled accuracy at "
        "matched cost nor the pooled saving at matched accuracy is above zero"
        for baseline, policy in asked
        if (baseline, policy) not in won
    ]
    reasons += [f"significantly worse than {j}" for j in (*cells, *pooled) if j.verdict == "lost"]
    return tuple(reasons)


def _summary(
    method: str,
    cells: Sequence[Judged],
    pooled: Sequence[Judged],
    slips: Sequence[Judged],
    reasons: Sequence[str],
) -> str:
    """Several lines of plain words."""
    n_baselines = len({j.cell.baseline for j in cells})
    tally = ", ".join(f"{sum(j.verdict == v for j in cells)} {v}" for v in VERDICTS)
    lines = [
        f"{method} against {_count(n_baselines, 'baseline')} in {_count(len(cells), 'cell')}: "
        f"{tally}."
    ]
    for title, group in (("Pooled over data sets", pooled), ("Per data set", cells)):
        for name in VERDICTS:
            found = [str(j) for j in group if j.verdict == name]
            if found:
                lines.append(f"{title}, {name}: {'; '.join(found)}.")
    if slips:
        named = "; ".join(str(j.cell) for j in slips)
        lines.append(f"Worse before correction for many cells: {named}.")
    families = [j.cell.comparison.n_families for j in cells]
    few = [n for n in families if n is not None and n < MINIMUM_FAMILIES]
    if few:
        lines.append(
            f"Fewer than {MINIMUM_FAMILIES} held-out families in {_count(len(few), 'cell')} "
            f"(as few as {min(few)}): models, not families, were resampled there."
        )
    if reasons:
        lines.append(
            f'"{method} outperforms all baselines" may not be written: {"; ".join(reasons)}.'
        )
    else:
        lines.append(f"{method} outperforms all baselines.")
    return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
