r"""The population prior: where a respondent is expected before it answers anything.

:math:`\theta_u \sim N(W^T (z_u, 1), \Sigma)`, a ridge regression of abilities on covariates.
Respondents are few and covariates many, so everything is judged on respondents left out: the
ridge by their mean squared error, and :math:`\Sigma` as the mean outer product of their errors,
which counts what the regression itself does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray

PENALTIES = np.logspace(-1, 3, 17)
LEAST_VARIANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationFit:
    """The fitted prior.

    Attributes:
        weights: (C+1, K), the last row the constant.
        covariance: (K, K) of a new respondent around its expectation.
        penalty: The ridge chosen.
        explained: Share of the abilities' variance explained on respondents left out.
    """

    weights: Float64Array
    covariance: Float64Array
    penalty: float
    explained: float

    def mean(self, covariates: FloatArray) -> Float64Array:
        """(M, K) expected abilities for covariates (M, C)."""
        out: Float64Array = covariates @ self.weights[:-1] + self.weights[-1]
        return out


def fit_population(
    abilities: FloatArray, covariates: FloatArray, importance: FloatArray | None = None
) -> PopulationFit:
    """Regress abilities (M, K) on standardised covariates (M, C).

    Left-out errors come from the hat matrix, e_i / (1 - h_ii). ``importance`` (K,) weighs the
    dimensions when the ridge is chosen; the spread of each by default.
    """
    theta = np.asarray(abilities, dtype=np.float64)
    z = np.hstack([np.asarray(covariates, dtype=np.float64), np.ones((len(theta), 1))])
    weight = theta.var(axis=0) if importance is None else np.asarray(importance)
    weight = weight / np.maximum(theta.var(axis=0), LEAST_VARIANCE)
    best: tuple[float, float, Float64Array, Float64Array] | None = None
    for penalty in PENALTIES:
        ridge = np.eye(z.shape[1]) * penalty
        ridge[-1, -1] = 1e-6
        solve = np.linalg.solve(z.T @ z + ridge, z.T)  # (C+1, M)
        weights = solve @ theta
        leverage = np.einsum("ij,ji->i", z, solve)
        left_out = (theta - z @ weights) / np.maximum(1 - leverage, 0.05)[:, None]
        loss = float(np.mean(left_out**2, axis=0) @ weight)
        if best is None or loss < best[0]:
            best = (loss, float(penalty), weights, left_out)
    assert best is not None
    _, penalty, weights, left_out = best
    covariance = left_out.T @ left_out / len(theta) + LEAST_VARIANCE * np.eye(theta.shape[1])
    total = float(np.mean((theta - theta.mean(axis=0)) ** 2))
    return PopulationFit(
        weights=weights,
        covariance=covariance,
        penalty=penalty,
        explained=1 - float(np.mean(left_out**2)) / max(total, 1e-9),
    )
