"""Ridge regression of many targets on one set of features, its penalty learned from the data."""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray


class RidgeRegression:
    """Ridge regression on fixed features for many targets.

    The Gram matrix is decomposed once; every later fit costs two products with the features.
    Weights of target t have the prior N(0, prior_variance[t]), the targets the noise variance
    noise[t]; the penalty is their ratio. `fit` returns the updated prior variance, the mean
    square of the weights under their posterior, which makes repeated fits the EM algorithm for
    the evidence (MacKay 1992).
    """

    def __init__(self, features: FloatArray) -> None:
        self.x = np.ascontiguousarray(features, dtype=np.float32)  # (N, F)
        self.mean = self.x.mean(axis=0, dtype=np.float64)
        gram = (self.x.T @ self.x).astype(np.float64) - len(self.x) * np.outer(self.mean, self.mean)
        values, self.vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0.0)

    def fit(
        self, target: Float32Array, noise: Float64Array, prior_variance: Float64Array
    ) -> tuple[Float32Array, Float64Array, Float32Array]:
        """Weights (F+1, T) with the constant last, new prior variances (T,), fitted (N, T)."""
        n = len(self.x)
        centre = target.mean(axis=0, dtype=np.float64)  # (T,)
        moment = (self.x.T @ target).astype(np.float64) - n * np.outer(self.mean, centre)
        precision = self.values[:, None] + noise / prior_variance  # (F, T), over the noise
        weights = self.vectors @ ((self.vectors.T @ moment) / precision)
        spread = noise * np.sum(1 / precision, axis=0)
        updated = (np.sum(weights**2, axis=0) + spread) / len(weights)
        constant = centre - self.mean @ weights
        fitted = self.x @ weights.astype(np.float32) + constant.astype(np.float32)
        return np.vstack([weights, constant]).astype(np.float32), updated, fitted
