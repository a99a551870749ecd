"""How good probabilities are: log-loss, Brier score, AUC, calibration error, reliability.

Every metric comes twice. The plain one takes one set of cells and returns a float, or None where
it is not defined. Its twin ending in ``_replicates`` takes B weight vectors at once, as the
bootstrap has them, and returns B numbers, NaN where not defined; an integer weight k counts a
cell k times. Rules common to all:

- A cell whose score is NaN was never administered. It is left out, never taken for wrong.
- A cell with a score but no probability is an error: a method may not skip what is hard.
- Scores may be fractions. Log-loss and Brier take them as they are; AUC and calibration treat a
  cell of weight w as mass ``w y`` of right answers and ``w (1 - y)`` of wrong ones.

Shapes: p and y (N,) cells, weights (B, N); models in rows, (M, N), where a function says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import DataError

Binning: TypeAlias = Literal["mass", "width"]
ReplicatedMetric: TypeAlias = Callable[[FloatArray, FloatArray, FloatArray], Float64Array]

CLIP = 1e-6
"""Probabilities are clipped this far from 0 and 1 in log-loss, so that one sure and wrong cell
costs at most 13.8 nats. Methods that return exact zeros (kNN with few neighbours) would
otherwise be judged by those cells alone."""

N_BINS = 15
"""As in Guo et al. 2017."""

_BLOCK = 60_000  # weights handled at a time: what fits the cache is three times as fast


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """A reliability curve: the non-empty bins, in order of probability.

    Attributes:
        mean_p: (K,) mean probability in each bin.
        mean_y: (K,) mean score in each bin.
        n: (K,) weight in each bin; a number of cells where no weights were given.
    """

    mean_p: Float64Array
    mean_y: Float64Array
    n: Float64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelAverage:
    """A metric computed per model and then averaged, each model counting the same.

    Attributes:
        value: The average over models for which the metric is defined; None if there is none.
        per_model: (M,) the metric of each model, NaN where not defined.
        n_models: Models behind the average.
        n_cells: Their cells.
    """

    value: float | None
    per_model: Float64Array
    n_models: int
    n_cells: int


# --- one set of cells ---------------------------------------------------------------------------


def log_loss(p: FloatArray, y: FloatArray, weights: FloatArray | None = None) -> float | None:
    """Mean of ``-(y log p + (1 - y) log(1 - p))`` in nats; p clipped by `CLIP`.

    The negative log-likelihood of METHOD section 1, which takes fractional scores as they are.
    """
    return _once(log_loss_replicates, p, y, weights)


def brier(p: FloatArray, y: FloatArray, weights: FloatArray | None = None) -> float | None:
    """Mean of ``(p - y)^2`` (Brier 1950, one class of two)."""
    return _once(brier_replicates, p, y, weights)


def auc(p: FloatArray, y: FloatArray, weights: FloatArray | None = None) -> float | None:
    """Probability that a right answer was given a higher p than a wrong one, ties counting half.

    The Mann-Whitney form of the area under the ROC curve (Hanley and McNeil 1982), with mid-ranks
    for ties. Fractional scores are weights::

        sum_ij w_i y_i w_j (1 - y_j) [p_i > p_j, or 1/2 if equal] / (sum_i w_i y_i sum_j w_j (1 - y_j))

    A fractional cell therefore meets itself as a tie. None where all answers are right or all
    wrong.
    """  # noqa: E501
    return _once(auc_replicates, p, y, weights)


def ece(
    p: FloatArray,
    y: FloatArray,
    weights: FloatArray | None = None,
    *,
    n_bins: int = N_BINS,
    binning: Binning = "mass",
) -> float | None:
    """Expected calibration error: mean over cells of their bin's ``|mean y - mean p|``.

    Bins hold equal mass by default: with equal widths (Guo et al. 2017, ``binning="width"``) most
    cells of a sharp method fall in two bins and the error is understated; equal mass is the less
    biased choice (Nixon et al. 2019; Roelofs et al. 2022). Equal probabilities are never cut
    apart: a run of ties goes to the bin in which the middle of its mass lies. Any binned estimate
    is biased upwards for few cells; compare only methods on the same cells.
    """
    cells = _cells(p, y, weights)
    return _scalar(_ece(*cells, n_bins=n_bins, binning=binning))


def reliability(
    p: FloatArray,
    y: FloatArray,
    weights: FloatArray | None = None,
    *,
    n_bins: int = N_BINS,
    binning: Binning = "mass",
) -> Reliability:
    """The bins of `ece`, for a reliability diagram; empty where there is no cell."""
    p, y, w = _cells(p, y, weights)
    order = np.argsort(p, kind="stable")
    p, y, w = p[order], y[order], w[:, order]
    bins = _bins(p, w, n_bins, binning)[0]
    mass, sum_p, sum_y = (
        np.bincount(bins, weights=rows, minlength=n_bins).astype(np.float64)
        for rows in (w[0], w[0] * p, w[0] * y)
    )
    keep = mass > 0
    return Reliability(
        mean_p=sum_p[keep] / mass[keep], mean_y=sum_y[keep] / mass[keep], n=mass[keep]
    )


# --- many weight vectors at once ----------------------------------------------------------------


def log_loss_replicates(p: FloatArray, y: FloatArray, weights: FloatArray) -> Float64Array:
    """(B,) `log_loss` under each row of the weights (B, N)."""
    p, y, w = _cells(p, y, weights)
    p = np.clip(p, CLIP, 1 - CLIP)
    return _weighted_mean(-(y * np.log(p) + (1 - y) * np.log1p(-p)), w)


def brier_replicates(p: FloatArray, y: FloatArray, weights: FloatArray) -> Float64Array:
    """(B,) `brier` under each row of the weights (B, N)."""
    p, y, w = _cells(p, y, weights)
    return _weighted_mean((p - y) ** 2, w)


def auc_replicates(p: FloatArray, y: FloatArray, weights: FloatArray) -> Float64Array:
    """(B,) `auc` under each row of the weights (B, N): one sort, then sums."""
    p, y, w = _cells(p, y, weights)
    if len(p) == 0:
        return np.full(len(w), math.nan)
    order = np.argsort(p, kind="stable")
    starts = _tie_starts(p[order])
    y = y[order]
    block = max(1, _BLOCK // len(p))
    parts = [
        _auc_sorted(y, w[first : first + block][:, order], starts)
        for first in range(0, len(w), block)
    ]
    return np.concatenate(parts)


def ece_replicates(p: FloatArray, y: FloatArray, weights: FloatArray) -> Float64Array:
    """(B,) `ece` with the default bins under each row of the weights (B, N)."""
    return _ece(*_cells(p, y, weights), n_bins=N_BINS, binning="mass")


PER_MODEL: Mapping[str, ReplicatedMetric] = {
    "log_loss": log_loss_replicates,
    "brier": brier_replicates,
    "auc": auc_replicates,
    "ece": ece_replicates,
}
"""By metric id, what is computed per model on its test prompts and then averaged over models."""


# --- models in rows -----------------------------------------------------------------------------


def per_model(
    metric: ReplicatedMetric, p: FloatArray, y: FloatArray, weights: FloatArray
) -> Float64Array:
    """(B, M) the metric of each model under each weight vector over prompts.

    Args:
        metric: One of `PER_MODEL`.
        p: (M, N) probabilities, models in rows: a forecast's ``p_correct`` transposed.
        y: (M, N) scores, NaN where not administered.
        weights: (B, N) weights of prompts.
    """
    p, y = np.asarray(p), np.asarray(y)
    if p.shape != y.shape or p.ndim != 2:
        raise DataError(
            f"probabilities {p.shape} and scores {y.shape} must both be (models, prompts)"
        )
    out = np.full((len(weights), len(y)), math.nan)
    for model in range(len(y)):
        out[:, model] = metric(p[model], y[model], weights)
    return out


def average_over_models(
    metric: ReplicatedMetric, p: FloatArray, y: FloatArray, weights: FloatArray | None = None
) -> ModelAverage:
    """The metric per model on its own prompts, then the plain average over models.

    METHOD section 5: a model with many prompts does not outvote one with few, and differences
    *between* models, which any mean accuracy predicts, do not pass for knowledge of prompts (they
    do in `auc_pooled`). Models for which the metric is not defined (one class only, or never
    asked) are left out; ``n_models`` says how many remain.

    Args:
        metric: One of `PER_MODEL`.
        p: (M, N) probabilities, models in rows.
        y: (M, N) scores, NaN where not administered.
        weights: (N,) weights of prompts; all one if not given.
    """
    rows = np.ones((1, np.shape(y)[1])) if weights is None else np.atleast_2d(weights)
    values = per_model(metric, p, y, rows)[0]
    defined = ~np.isnan(values)
    return ModelAverage(
        value=float(values[defined].mean()) if defined.any() else None,
        per_model=values,
        n_models=int(defined.sum()),
        n_cells=int((~np.isnan(np.asarray(y)[defined])).sum()),
    )


def auc_pooled(p: FloatArray, y: FloatArray, weights: FloatArray | None = None) -> float | None:
    """`auc` over all cells of all models together; p and y (M, N), weights (N,) over prompts.

    Higher than the average per model for any method that knows which models are strong.
    """
    rows = np.ones((1, np.shape(y)[1])) if weights is None else np.atleast_2d(weights)
    return _scalar(auc_pooled_replicates(p, y, rows))


def auc_pooled_replicates(
    p: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    model_weights: FloatArray | None = None,
) -> Float64Array:
    """(B,) `auc_pooled` under prompt weights (B, N) times model weights (B, M), if given."""
    p, y, weights = np.asarray(p), np.asarray(y), np.asarray(weights)
    seen = ~np.isnan(y)
    models, prompts = np.nonzero(seen)
    block = max(1, _BLOCK // max(1, len(models)))
    parts = []
    for first in range(0, len(weights), block):
        rows = weights[first : first + block][:, prompts]
        if model_weights is not None:
            rows = rows * model_weights[first : first + block][:, models]
        parts.append(auc_replicates(p[seen], y[seen], rows))
    return np.concatenate(parts)


# --- inside -------------------------------------------------------------------------------------


def _cells(
    probabilities: FloatArray, scores: FloatArray, weights: FloatArray | None
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """The administered cells, checked: p (n,), y (n,) and weights (B, n)."""
    p: Float64Array = np.asarray(probabilities, dtype=np.float64)
    y: Float64Array = np.asarray(scores, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape:
        raise DataError(f"probabilities {p.shape} and scores {y.shape} must be vectors of a length")
    w = np.ones((1, len(y))) if weights is None else np.atleast_2d(np.asarray(weights, np.float64))
    if w.shape[1] != len(y):
        raise DataError(f"weights {w.shape} do not fit {len(y)} cells; want (replicates, cells)")
    seen = ~np.isnan(y)
    if not seen.all():
        p, y, w = p[seen], y[seen], w[:, seen]
    if np.isnan(p).any():
        raise DataError(
            f"{int(np.isnan(p).sum())} of {len(p)} administered cells have no probability; "
            "a method must forecast every cell it is judged on"
        )
    if len(p) and (p.min() < 0 or p.max() > 1 or y.min() < 0 or y.max() > 1):
        raise DataError("probabilities and scores must lie in [0, 1]")
    if w.size and w.min() < 0:
        raise DataError("weights must not be negative")
    return p, y, w


def _once(
    metric: ReplicatedMetric, p: FloatArray, y: FloatArray, weights: FloatArray | None
) -> float | None:
    rows = np.ones((1, len(y))) if weights is None else np.atleast_2d(weights)
    return _scalar(metric(p, y, rows))


def _scalar(values: Float64Array) -> float | None:
    value = float(values[0])
    return None if math.isnan(value) else value


def _weighted_mean(values: Float64Array, w: Float64Array) -> Float64Array:
    return _ratio(w @ values, w.sum(axis=1))


def _ratio(top: Float64Array, bottom: Float64Array) -> Float64Array:
    """Elementwise quotient, NaN where the denominator is not positive."""
    out: Float64Array = np.divide(
        top, bottom, out=np.full(np.shape(top), math.nan), where=bottom > 0
    )
    return out


def _tie_starts(sorted_p: Float64Array) -> IntArray:
    """Where each run of equal probabilities begins."""
    new = np.ones(len(sorted_p), dtype=np.bool_)
    new[1:] = sorted_p[1:] != sorted_p[:-1]
    return np.flatnonzero(new)


def _auc_sorted(y: Float64Array, w: Float64Array, starts: IntArray) -> Float64Array:
    right = w * y
    wrong = w - right
    if len(starts) < len(y):
        right = np.add.reduceat(right, starts, axis=1)
        wrong = np.add.reduceat(wrong, starts, axis=1)
    below = np.cumsum(wrong, axis=1)
    total = below[:, -1].copy()
    below -= wrong / 2  # wrong answers below, those tied counting half
    return _ratio(np.einsum("bg,bg->b", right, below), right.sum(axis=1) * total)


def _bins(sorted_p: Float64Array, w: Float64Array, n_bins: int, binning: Binning) -> IntArray:
    """(B, n) the bin of each cell, the cells being sorted by probability."""
    if n_bins < 1:
        raise DataError(f"{n_bins} bins asked for; want at least 1")
    if binning == "width":
        fixed = np.minimum((sorted_p * n_bins).astype(np.int64), n_bins - 1)
        return np.broadcast_to(fixed, w.shape)
    if len(sorted_p) == 0:
        return np.zeros(w.shape, dtype=np.int64)
    starts = _tie_starts(sorted_p)
    mass = np.add.reduceat(w, starts, axis=1)
    middle = np.cumsum(mass, axis=1) - mass / 2
    total = np.maximum(mass.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    runs = np.minimum((n_bins * (middle / total)).astype(np.int64), n_bins - 1)
    lengths = np.diff(np.append(starts, len(sorted_p)))
    return np.repeat(runs, lengths, axis=1)


def _ece(
    p: Float64Array, y: Float64Array, w: Float64Array, *, n_bins: int, binning: Binning
) -> Float64Array:
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    block = max(1, _BLOCK // max(1, len(p)))
    out = np.full(len(w), math.nan)
    for first in range(0, len(w), block):
        rows = w[first : first + block][:, order]
        bins = _bins(p, rows, n_bins, binning) + n_bins * np.arange(len(rows))[:, None]
        gaps = np.bincount(
            bins.ravel(), weights=(rows * (y - p)).ravel(), minlength=n_bins * len(rows)
        )
        error = np.abs(gaps.reshape(len(rows), n_bins)).sum(axis=1)
        out[first : first + block] = _ratio(error, rows.sum(axis=1))
    return out
