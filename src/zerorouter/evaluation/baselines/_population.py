"""The population that newcomers come from, and their abilities in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.model import Abilities, ItemParameters, Panel

LEAST_VARIANCE = 0.05  # of an ability; one model alone says nothing of how far others lie
SHRINK = 0.5  # how much of the covariances between dimensions is given up


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """A Gaussian over abilities, learned from those of the calibration models.

    Attributes:
        mean: (K,)
        covariance: (K, K)
    """

    mean: Float64Array
    covariance: Float64Array

    @classmethod
    def of(cls, abilities: FloatArray, *, inflate: float = 1.0) -> Population:
        """Moments of abilities (M, K), the covariance shrunk towards its diagonal."""
        theta = np.asarray(abilities, dtype=np.float64)
        mean = theta.mean(axis=0)
        if len(theta) < 2:
            covariance = np.eye(theta.shape[1])
        else:
            off = theta - mean
            covariance = off.T @ off / (len(theta) - 1)
        diagonal = np.diag(np.maximum(np.diag(covariance), LEAST_VARIANCE))
        off_diagonal = covariance - np.diag(np.diag(covariance))
        return cls(mean=mean, covariance=inflate * (diagonal + (1 - SHRINK) * off_diagonal))

    def posteriors(self, items: ItemParameters, scores: FloatArray) -> Abilities:
        """Abilities of models from scores (M, N) on items, each for itself; NaN is not known.

        A model without answers is given the population's mean and covariance.
        """
        k = len(self.mean)
        mean = np.empty((len(scores), k), dtype=np.float32)
        covariance = np.empty((len(scores), k, k), dtype=np.float32)
        for u, row in enumerate(scores):
            answered = np.flatnonzero(~np.isnan(row))
            found = ability_posterior(
                items.take(answered),
                row[answered],
                prior_mean=self.mean,
                prior_covariance=self.covariance,
            )
            mean[u], covariance[u] = found.mean, found.covariance
        return Abilities(mean=mean, covariance=covariance)


def probabilities(items: ItemParameters, abilities: Abilities) -> Float64Array:
    """(N, M) P(correct), the abilities' uncertainty integrated out."""
    panel = Panel.of(abilities, items.effect_covariance)
    return panel.forecast(items).p_correct.astype(np.float64)
