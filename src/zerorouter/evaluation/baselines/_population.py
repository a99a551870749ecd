"""The population that newcomers come from, and their abilities in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray
from zerorouter.covariates import CovariateTable
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.model import Abilities, ItemParameters, Panel
from zerorouter.irt.population import DEGREES_OF_FREEDOM, fit_population
from zerorouter.linking import RespondentCard

LEAST_VARIANCE = 0.05  # of an ability; a handful of models may lie close together by chance
SHRINK = 0.5  # how much of the covariances between dimensions is given up
FEWEST_FOR_CARDS = 8  # models; a regression on the cards of fewer is noise


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """A prior over abilities, learned from those of the calibration models.

    Attributes:
        mean: (K,) where a model of which nothing is known is expected.
        covariance: (K, K) around the expectation.
        table: How cards are read; None if they are not.
        weights: (C, K) how expectations depend on cards, around ``mean``.
        degrees_of_freedom: Of Student tails; None for a Gaussian.
    """

    mean: Float64Array
    covariance: Float64Array
    table: CovariateTable | None = None
    weights: Float64Array | None = None
    degrees_of_freedom: float | None = None

    @classmethod
    def of(
        cls, models: Sequence[RespondentCard], abilities: FloatArray, *, cards: bool = False
    ) -> Population:
        """Learn the prior from abilities (M, K).

        Without ``cards`` it is the Gaussian of their mean and covariance, shrunk towards its
        diagonal. With them it is the product's own prior, a ridge regression on the cards with
        Student tails (`irt.population`), so that a baseline has the same facts to start from.
        """
        theta = np.asarray(abilities, dtype=np.float64)
        if cards and len(theta) >= FEWEST_FOR_CARDS:
            table = CovariateTable.fit(models)
            fitted = fit_population(theta, table.rows(models))
            return cls(
                mean=fitted.weights[-1],
                covariance=_at_least(fitted.covariance),
                table=table,
                weights=fitted.weights[:-1],
                degrees_of_freedom=DEGREES_OF_FREEDOM,
            )
        mean = theta.mean(axis=0)
        if len(theta) < 2:
            return cls(mean=mean, covariance=np.eye(theta.shape[1]))
        off = theta - mean
        covariance = off.T @ off / (len(theta) - 1)
        shrunk = (1 - SHRINK) * covariance + SHRINK * np.diag(np.diag(covariance))
        return cls(mean=mean, covariance=_at_least(shrunk))

    def expected(self, models: Sequence[RespondentCard]) -> Float64Array:
        """(M, K) abilities expected of models before any answer."""
        out: Float64Array = np.tile(self.mean, (len(models), 1))
        if self.table is not None and self.weights is not None:
            out += self.table.rows(models) @ self.weights
        return out

    def place(
        self, items: ItemParameters, models: Sequence[RespondentCard], scores: FloatArray
    ) -> Abilities:
        """Posterior abilities given scores (M, N) on N items, each model for itself.

        NaN is not known; a model without answers keeps its prior.
        """
        centre = self.expected(models)
        covariance = np.tile(self.covariance, (len(models), 1, 1))
        for u, row in enumerate(scores):
            answered = np.flatnonzero(~np.isnan(row))
            found = ability_posterior(
                items.take(answered),
                row[answered],
                prior_mean=centre[u],
                prior_covariance=self.covariance,
                degrees_of_freedom=self.degrees_of_freedom,
            )
            centre[u], covariance[u] = found.mean, found.covariance
        return Abilities(mean=centre.astype(np.float32), covariance=covariance.astype(np.float32))

    def known(self, models: Sequence[RespondentCard], theta: FloatArray) -> Abilities:
        """Fitted abilities (M, K) taken as exact; NaN rows, models without answers, as expected."""
        silent: BoolArray = np.asarray(np.isnan(theta).any(axis=1))
        covariance = np.where(silent[:, None, None], self.covariance, 0.0)
        mean = np.where(silent[:, None], self.expected(models), theta)
        return Abilities(mean=mean.astype(np.float32), covariance=covariance.astype(np.float32))


def probabilities(items: ItemParameters, abilities: Abilities) -> Float64Array:
    """(N, M) P(correct), the abilities' uncertainty integrated out."""
    panel = Panel.of(abilities, items.effect_covariance)
    return panel.forecast(items).p_correct.astype(np.float64)


def _at_least(covariance: Float64Array) -> Float64Array:
    """The same with variances of `LEAST_VARIANCE` or more."""
    lacking = np.maximum(LEAST_VARIANCE - np.diag(covariance), 0.0)
    out: Float64Array = covariance + np.diag(lacking)
    return out
