"""Ridge regression of many targets on one set of features."""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray

PENALTY_GRID = np.logspace(-1, 5, 25)  # candidates, in units of rows


class RidgeRegression:
    """Ridge regression on fixed features for many targets, its penalty chosen by GCV.

    The Gram matrix is decomposed once; every later fit costs two products with the features.
    GCV after Golub, Heath & Wahba (1979).
    """

    def __init__(self, features: FloatArray, penalty: float | None) -> None:
        self.x = np.ascontiguousarray(features, dtype=np.float32)  # (N, F)
        self.mean = self.x.mean(axis=0, dtype=np.float64)
        n = len(self.x)
        gram = (self.x.T @ self.x).astype(np.float64) - n * np.outer(self.mean, self.mean)
        values, self.vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0.0)
        self.penalty = penalty

    def fit(self, target: Float32Array) -> tuple[Float32Array, Float64Array, Float32Array]:
        """Weights (F+1, T) with the constant last, penalties (T,), and fitted values (N, T)."""
        n = len(self.x)
        centre = target.mean(axis=0, dtype=np.float64)  # (T,)
        moment = (self.x.T @ target).astype(np.float64) - n * np.outer(self.mean, centre)
        projected = self.vectors.T @ moment  # (F, T)
        energy: Float64Array = np.square(target - centre).sum(axis=0, dtype=np.float64)
        if self.penalty is None:
            penalties = np.array(
                [self._choose(p, e) for p, e in zip(projected.T, energy, strict=True)]
            )
        else:
            penalties = np.full(target.shape[1], self.penalty)
        weights = self.vectors @ (projected / (self.values[:, None] + penalties))
        constant = centre - self.mean @ weights
        fitted = self.x @ weights.astype(np.float32) + constant.astype(np.float32)
        return np.vstack([weights, constant]).astype(np.float32), penalties, fitted

    def _choose(self, projected: Float64Array, energy: float) -> float:
        n = len(self.x)
        shrunk = self.values[:, None] / (self.values[:, None] + PENALTY_GRID)  # (F, G)
        freedom = shrunk.sum(axis=0)
        share = projected**2 / np.maximum(self.values, 1e-9)  # energy along each direction
        explained = share @ (2 * shrunk - shrunk**2)
        residual = np.maximum(energy - explained, 1e-12)
        gcv = residual / np.maximum(1 - freedom / n, 1e-3) ** 2
        return float(PENALTY_GRID[int(np.argmin(gcv))])
