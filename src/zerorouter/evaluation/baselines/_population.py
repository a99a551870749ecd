"""The population that newcomers come from, and their abilities in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.model import Abilities, ItemParameters, Panel
from zerorouter.linking import RespondentCard

LEAST_VARIANCE = 0.05  # of an ability; one model alone says nothing of how far others lie
SHRINK = 0.5  # how much of the covariances between dimensions is given up
FEWEST_FOR_CARDS = 8  # models; with fewer a regression on their cards is noise
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)


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

    def posteriors(
        self, items: ItemParameters, scores: FloatArray, centres: Float64Array | None = None
    ) -> Abilities:
        """Abilities of models from scores (M, N) on items, each for itself; NaN is not known.

        A model without answers is given its prior: the population's covariance around its row of
        ``centres`` (M, K), by default the population's mean.
        """
        k = len(self.mean)
        if centres is None:
            centres = np.tile(self.mean, (len(scores), 1))
        mean = np.empty((len(scores), k), dtype=np.float32)
        covariance = np.empty((len(scores), k, k), dtype=np.float32)
        for u, row in enumerate(scores):
            answered = np.flatnonzero(~np.isnan(row))
            found = ability_posterior(
                items.take(answered),
                row[answered],
                prior_mean=centres[u],
                prior_covariance=self.covariance,
            )
            mean[u], covariance[u] = found.mean, found.covariance
        return Abilities(mean=mean, covariance=covariance)


@dataclass(frozen=True, kw_only=True, eq=False)
class CardRegression:
    """Abilities (one dimension) regressed on what cards say; the mean where that is better.

    Ridge on release date, log price, log parameters and the reasoning flag; facts not known
    count as average. The penalty, or no regression at all, is chosen by the leave-one-out error,
    whose mean square is the prior's variance.

    Attributes:
        centre: (C,) means of the facts.
        inverse_scale: (C,) one over their standard deviations; 0 where all are alike.
        weights: (C,)
        mean: Mean ability.
        variance: Of a newcomer's ability around its prediction.
    """

    centre: Float64Array
    inverse_scale: Float64Array
    weights: Float64Array
    mean: float
    variance: float

    @classmethod
    def fit(cls, models: Sequence[RespondentCard], theta: Float64Array) -> CardRegression:
        """Regress abilities (M,) on the models' cards."""
        raw = _facts(models)
        known = ~np.isnan(raw)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, raw, 0.0).sum(axis=0) / count
        off = np.where(known, raw - centre, 0.0)
        sd = np.sqrt((off**2).sum(axis=0) / count)
        inverse = np.where(sd > 1e-6, 1 / np.where(sd > 1e-6, sd, 1.0), 0.0)
        z, m = off * inverse, len(theta)
        z_mean = z.mean(axis=0)
        mean = float(theta.mean())
        best = np.zeros(z.shape[1])
        variance = float(np.mean(((theta - mean) * m / max(m - 1, 1)) ** 2)) if m > 1 else 1.0
        if m >= FEWEST_FOR_CARDS:
            spread = z - z_mean
            for penalty in PENALTIES:
                gram = spread.T @ spread + penalty * np.eye(z.shape[1])
                hat = spread @ np.linalg.solve(gram, spread.T) + 1 / m
                left_out = (theta - hat @ theta) / np.maximum(1 - np.diag(hat), 1e-3)
                error = float(np.mean(left_out**2))
                if error < variance:
                    variance = error
                    best = np.linalg.solve(gram, spread.T @ (theta - mean))
        return cls(
            centre=centre,
            inverse_scale=inverse,
            weights=best,
            mean=mean - float(z_mean @ best),
            variance=max(variance, LEAST_VARIANCE),
        )

    def __call__(self, models: Sequence[RespondentCard]) -> Float64Array:
        """(M,) expected abilities."""
        raw = _facts(models)
        z = np.where(np.isnan(raw), 0.0, (raw - self.centre) * self.inverse_scale)
        out: Float64Array = self.mean + np.clip(z, -3.0, 3.0) @ self.weights
        return out


def _facts(models: Sequence[RespondentCard]) -> Float64Array:
    """(M, 4) facts of cards, NaN where not known."""
    rows = []
    for card in models:
        released = math.nan
        if card.released:
            month = card.released[5:7]
            released = int(card.released[:4]) + ((int(month) - 0.5) / 12 if month else 0.5)
        price, size = card.output_usd_per_mtok, card.params_b
        rows.append(
            [
                released,
                math.log(price) if price else math.nan,
                math.log(size) if size else math.nan,
                float(card.reasoning),
            ]
        )
    return np.array(rows, dtype=np.float64).reshape(len(rows), 4)


def probabilities(items: ItemParameters, abilities: Abilities) -> Float64Array:
    """(N, M) P(correct), the abilities' uncertainty integrated out."""
    panel = Panel.of(abilities, items.effect_covariance)
    return panel.forecast(items).p_correct.astype(np.float64)
