r"""The population prior: where a respondent is expected before it answers anything.

:math:`\theta_u \sim t_\nu(W^T (z_u, 1), \Sigma)`, a ridge regression of abilities on covariates.
Respondents are few and covariates many, so everything is judged on respondents left out: the
ridge by their mean squared error, and :math:`\Sigma` as the mean outer product of their errors,
which counts what the regression itself does not know. Newcomers are often of a kind that no
calibrated model was of, and then a card can be badly wrong: :math:`\Sigma` is doubled, and the
tails are those of Student's t, so that a few dozen answers overrule it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray

PENALTIES = np.logspace(-1, 3, 17)
LEAST_VARIANCE = 1e-3
LEAST_FREEDOM = 0.05  # of a respondent that its own covariates nearly explain away
DEGREES_OF_FREEDOM = 3.0  # of the prior's tails
WIDENING = 2.0  # newcomers lie outside of what was calibrated, those left out lie inside


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


def fit_population(abilities: FloatArray, covariates: FloatArray) -> PopulationFit:
    """Regress abilities (M, K) on standardised covariates (M, C).

    The error of a respondent left out is e_i / (1 - h_ii), with h the hat matrix.
    """
    theta = np.asarray(abilities, dtype=np.float64)
    m, k = theta.shape
    z = np.hstack([np.asarray(covariates, dtype=np.float64), np.ones((m, 1))])
    best: tuple[float, float, Float64Array] | None = None
    for penalty in PENALTIES:
        smoother = z @ _ridge(z, np.eye(m), penalty)  # (M, M) hat matrix
        kept = np.maximum(1 - np.diagonal(smoother), LEAST_FREEDOM)
        errors = (theta - smoother @ theta) / kept[:, None]
        loss = float(np.mean(errors**2))
        if best is None or loss < best[0]:
            best = (loss, float(penalty), errors)
    assert best is not None
    loss, penalty, errors = best
    covariance = errors.T @ errors / m
    # Few errors make correlations that are not there: half of each is kept.
    covariance = 0.5 * covariance + 0.5 * np.diag(np.diagonal(covariance))
    total = float(np.mean((theta - theta.mean(axis=0)) ** 2))
    return PopulationFit(
        weights=_ridge(z, theta, penalty),
        covariance=WIDENING * covariance + LEAST_VARIANCE * np.eye(k),
        penalty=penalty,
        explained=1 - loss / max(total, 1e-9),
    )


def _ridge(z: Float64Array, theta: Float64Array, penalty: float) -> Float64Array:
    ridge = np.eye(z.shape[1]) * penalty
    ridge[-1, -1] = 1e-6  # the constant is free
    return np.asarray(np.linalg.solve(z.T @ z + ridge, z.T @ theta), dtype=np.float64)
