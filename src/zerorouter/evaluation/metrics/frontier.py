"""The cost-accuracy frontier of a method: the non-decreasing concave hull of what it attains.

A method is run at P operating points (values of an answer, mixing weights and so on). Each has a
mean cost and a mean accuracy on the test prompts. Mixing two operating points at random attains
every point of the line between them, so the frontier is the upper concave hull (RouterBench,
arXiv 2403.12031, section 3: linear interpolation and the non-decreasing convex hull), cut where it
would fall: more money never has to buy less.

- Beyond its dearest useful point the frontier is flat: money may be left unspent.
- Below its cheapest point a method can only leave prompts unanswered, each a wrong answer for
  nothing, so the frontier falls in a straight line to (0, 0). RouterBench's code counts such
  costs as height 0; a line keeps the metric continuous, which the bootstrap needs, and it agrees
  with that code wherever the range begins at a method's cheapest point.

The hull is taken on the test prompts, for every method alike, so it is each method's curve with
hindsight about its own operating points, never about prompts.

Shapes: P operating points, N prompts, B weight vectors (bootstrap replicates), V hull vertices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.errors import DataError, MissingPriceError

_TOLERANCE = 1e-9  # relative; an accuracy this close counts as reached


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """B frontiers at once, one per weight vector.

    Attributes:
        cost_usd: (B, V) cost of the vertices, rising; the last is repeated to fill the row.
        accuracy: (B, V) their accuracy, rising, with falling slopes.
    """

    cost_usd: Float64Array
    accuracy: Float64Array

    @classmethod
    def from_points(cls, cost_usd: FloatArray, accuracy: FloatArray) -> Frontier:
        """The frontier through operating points, (B, P) each or (P,) for one.

        A march over all replicates together: from the cheapest point always to the one of the
        steepest gain.
        """
        cost = np.atleast_2d(np.asarray(cost_usd, dtype=np.float64))
        quality = np.atleast_2d(np.asarray(accuracy, dtype=np.float64))
        if cost.shape != quality.shape or cost.ndim != 2 or cost.shape[1] == 0:
            raise DataError(
                f"costs {cost.shape} and accuracies {quality.shape} must be (replicates, points), "
                "with at least one point"
            )
        if not np.isfinite(quality).all():
            raise DataError("an operating point has no accuracy")
        if not np.isfinite(cost).all():
            raise MissingPriceError("an operating point has no cost, so it has no frontier")
        if cost.min() < 0:
            raise DataError(f"an operating point costs {cost.min()} dollars; want 0 or more")
        rows = np.arange(len(cost))
        at = np.lexsort((-quality, cost), axis=1)[:, 0]
        vertices = [at]
        while True:
            run = cost - cost[rows, at][:, None]
            rise = quality - quality[rows, at][:, None]
            onward = (run > 0) & (rise > 0)
            if not onward.any():
                break
            with np.errstate(over="ignore"):  # costs that differ by next to nothing
                slope = np.divide(rise, run, out=np.full(run.shape, -math.inf), where=onward)
            at = np.where(onward.any(axis=1), slope.argmax(axis=1), at)
            vertices.append(at)
        index = np.stack(vertices, axis=1)
        return cls(
            cost_usd=np.take_along_axis(cost, index, axis=1),
            accuracy=np.take_along_axis(quality, index, axis=1),
        )

    @classmethod
    def from_outcomes(
        cls, accuracy: FloatArray, cost_usd: FloatArray, weights: FloatArray | None = None
    ) -> Frontier:
        """The frontier of a method from what its operating points realised on each prompt.

        Args:
            accuracy: (P, N) score of the model that each operating point chose.
            cost_usd: (P, N) its cost; all known, or `MissingPriceError`.
            weights: (B, N) weights of prompts; all one (B = 1) if not given.
        """
        accuracy, cost_usd = np.atleast_2d(accuracy), np.atleast_2d(cost_usd)
        return cls.from_points(mean_cost_usd(cost_usd, weights), mean_accuracy(accuracy, weights))

    def __len__(self) -> int:
        return len(self.cost_usd)

    @property
    def vertices(self) -> tuple[Float64Array, Float64Array]:
        """(V,) costs and accuracies of the first frontier without the filling, to draw it."""
        keep = np.append(True, np.diff(self.cost_usd[0]) > 0)
        return self.cost_usd[0][keep], self.accuracy[0][keep]

    @property
    def best_accuracy(self) -> Float64Array:
        """(B,) the accuracy of the best operating point."""
        return self.accuracy[:, -1]

    def accuracy_at(self, cost_usd: FloatArray | float) -> Float64Array:
        """(B,) accuracy for a mean cost per prompt, one for all or one per replicate."""
        cost = _per_row(cost_usd, len(self))
        start = self.cost_usd[:, 0]
        share = np.divide(cost, start, out=np.ones(len(self)), where=start > cost)
        climbed = _steps(cost, self.cost_usd) * np.diff(self.accuracy, axis=1)
        out: Float64Array = self.accuracy[:, 0] * np.clip(share, 0, 1) + climbed.sum(axis=1)
        return out

    def cost_at(self, accuracy: FloatArray | float) -> Float64Array:
        """(B,) least mean cost per prompt that reaches an accuracy; infinite where none does."""
        wanted = _per_row(accuracy, len(self))
        climbed = _steps(wanted, self.accuracy) * np.diff(self.cost_usd, axis=1)
        cost = self.cost_usd[:, 0] + climbed.sum(axis=1)
        missed = wanted > self.best_accuracy + _TOLERANCE * np.maximum(1, np.abs(wanted))
        out: Float64Array = np.where(missed, math.inf, cost)
        return out

    def mean_height(self, low: FloatArray | float, high: FloatArray | float) -> Float64Array:
        """(B,) mean accuracy over costs from low to high, exactly; NaN for an empty range."""
        low, high = _per_row(low, len(self)), _per_row(high, len(self))
        area = self._area(high) - self._area(low)
        undefined = np.full(len(self), math.nan)
        out: Float64Array = np.divide(area, high - low, out=undefined, where=high > low)
        return out

    def _area(self, cost: Float64Array) -> Float64Array:
        """(B,) area under the frontier from 0 to a cost."""
        start, first = self.cost_usd[:, 0], self.accuracy[:, 0]
        below = np.minimum(cost, start)
        ramp = np.divide(below**2, 2 * start, out=np.zeros(len(self)), where=start > 0)
        base = first * (ramp + np.maximum(cost - start, 0))
        share = _steps(cost, self.cost_usd)
        run, rise = np.diff(self.cost_usd, axis=1), np.diff(self.accuracy, axis=1)
        past = np.maximum(cost[:, None] - self.cost_usd[:, 1:], 0)
        out: Float64Array = base + (rise * (share**2 / 2 * run + past)).sum(axis=1)
        return out


def mean_accuracy(accuracy: FloatArray, weights: FloatArray | None = None) -> Float64Array:
    """(B, P) mean score of each operating point, or (B,) for a vector of prompts.

    Raises:
        DataError: a chosen model was never asked; routing metrics use complete blocks only.
    """
    unknown = int(np.isnan(accuracy).sum())
    if unknown:
        raise DataError(
            f"{unknown} of {np.size(accuracy)} routed prompts have no score for the chosen model; "
            "routing metrics use complete blocks of prompts and models only"
        )
    return _means(accuracy, weights)


def mean_cost_usd(cost_usd: FloatArray, weights: FloatArray | None = None) -> Float64Array:
    """(B, P) mean dollars per prompt of each operating point, or (B,) for a vector of prompts.

    Raises:
        MissingPriceError: a chosen model's cost is not known; it is never taken as zero.
    """
    unknown = int(np.isnan(cost_usd).sum())
    if unknown:
        raise MissingPriceError(
            f"{unknown} of {np.size(cost_usd)} routed prompts have no known cost; "
            "leave models without a price out of the block, or leave cost metrics out"
        )
    return _means(cost_usd, weights)


def mean_latency_s(latency_s: FloatArray, weights: FloatArray | None = None) -> Float64Array:
    """(B, P) mean seconds of each operating point; NaN where any latency is not known."""
    return _means(latency_s, weights)


def _means(values: FloatArray, weights: FloatArray | None) -> Float64Array:
    values = np.asarray(values, dtype=np.float64)
    w = np.ones((1, values.shape[-1])) if weights is None else np.atleast_2d(weights)
    if w.shape[1] != values.shape[-1]:
        raise DataError(f"weights {w.shape} do not fit {values.shape[-1]} prompts")
    if values.shape[-1] == 0:
        raise DataError("there are no prompts to average over")
    total = w.sum(axis=1)
    if not (total > 0).all():
        raise DataError("a weight vector is zero everywhere")
    out: Float64Array = (w @ values.T) / (total[:, None] if values.ndim == 2 else total)
    return out


def _per_row(value: FloatArray | float, n_rows: int) -> Float64Array:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (n_rows,))


def _steps(value: Float64Array, grid: Float64Array) -> Float64Array:
    """(B, V - 1) how much of each step of a rising grid lies below a value, from 0 to 1."""
    length = np.diff(grid, axis=1)
    along = value[:, None] - grid[:, :-1]
    share = np.divide(along, length, out=np.zeros(length.shape), where=length > 0)
    out: Float64Array = np.clip(share, 0, 1)
    return out
