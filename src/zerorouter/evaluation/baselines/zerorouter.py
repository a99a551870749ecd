"""ZeroRouter itself, fitted inside the split by the code that fits the shipped space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.errors import MissingExtraError
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Labels,
    Method,
    Newcomers,
    PromptSet,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.costs import MeanCosts
from zerorouter.fitting.core import Fitted, fit
from zerorouter.fitting.evidence import Evidence, FittingSettings
from zerorouter.fitting.lengths import length_prior, style_of
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.leanings import with_leanings
from zerorouter.irt.model import Abilities, ItemParameters, Panel
from zerorouter.irt.population import DEGREES_OF_FREEDOM
from zerorouter.linking import RespondentCard
from zerorouter.predict.features import PromptFeatures
from zerorouter.predict.items import Accuracy
from zerorouter.predict.tokens import length_posterior, standard_difficulty
from zerorouter.space import AnswerStyle

FOLDS = 3


class ZeroRouter(Method):
    """The shipped method: joint explanatory IRT, population prior, Laplace onboarding.

    Newcomers are placed by `ability_posterior` on the calibrated parameters of their anchors,
    around the mean that the population prior expects of their card.
    """

    id: ClassVar[str] = "zerorouter"
    reference: ClassVar[str] = "this project; METHOD section 3"
    embedding: ClassVar[str | None] = None
    accuracy: ClassVar[Accuracy] = "fast"

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Fit the space to the training set."""
        chosen = FittingSettings(
            n_dims=int(settings.get("n_dims", 3)),
            guess_floor=bool(settings.get("guess_floor", True)),
            n_units=int(settings.get("n_units", FittingSettings.n_units)),
            folds=FOLDS,
            fit_domains=False,
            seed=int(rng.integers(2**31)),
        )
        n = len(data.prompts)
        with np.errstate(divide="ignore"):
            log_length = np.log(data.labels.output_tokens)
        evidence = Evidence(
            features=_features(data.prompts, self.embedding),
            scores=data.labels.scores,
            log_length=np.where(np.isfinite(log_length), log_length, np.nan),
            scored=np.ones(n, dtype=np.bool_),
            datasets=np.zeros(n, dtype=np.int64),
            tasks=data.strata,
            domains=np.zeros(n, dtype=np.int64),
            domain_names=("any",),
            groups=np.unique(data.groups, return_inverse=True)[1],
            cards=data.models,
        )
        fitted = fit(evidence, chosen)
        return FittedZeroRouter(
            fitted=fitted,
            abilities=fitted.abilities,
            training=data,
            models=data.models,
            labels=data.labels,
            styles=fitted.styles,
            embedding=self.embedding,
            accuracy=self.accuracy,
        )


class ZeroRouterFull(ZeroRouter):
    """The same read by the forest itself instead of its student (``accuracy="full"``)."""

    id: ClassVar[str] = "zerorouter_full"
    accuracy: ClassVar[Accuracy] = "full"


class ZeroRouterOnnx(ZeroRouter):
    """The same over MiniLM's embeddings instead of the static table."""

    id: ClassVar[str] = "zerorouter_onnx"
    needs_embedding: ClassVar[str | None] = "minilm"
    embedding: ClassVar[str | None] = "minilm"


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedZeroRouter(FittedMethod):
    """A fitted space and everybody in it.

    Attributes:
        fitted: The predictor and its diagnostics.
        abilities: Of all known models, newcomers last.
        training: What it was fitted to; anchors refer to its prompts.
        models: Cards of all known models.
        labels: Their labels on the training prompts.
        styles: Answer lengths of all known models.
        embedding: Which embedding it reads.
        accuracy: How item parameters are read.
    """

    fitted: Fitted
    abilities: Abilities
    training: TrainingSet
    models: tuple[RespondentCard, ...]
    labels: Labels
    styles: AnswerStyle
    embedding: str | None
    accuracy: Accuracy

    def predict(self, prompts: PromptSet) -> Forecast:
        """Forecasts by the predictor, as the product makes them."""
        predictor = self.fitted.predictor
        readings = predictor.read(_features(prompts, self.embedding), self.accuracy)
        panel = Panel.of(self.abilities, predictor.effect_covariance)
        tokens = self.styles.profile().expected_tokens(
            readings.log_length.astype(np.float64),
            self._difficulty(readings.items),
            readings.items.facets,
        )
        means = MeanCosts(self.models, self.labels)
        cost = prompts.input_tokens[:, None] * means.input_usd + tokens * means.output_usd
        forecast = panel.forecast(readings.items)
        return Forecast(
            p_correct=np.clip(forecast.p_correct, 1e-3, 1 - 1e-3).astype(np.float64),
            cost_usd=np.where(np.isnan(cost), means.mean_cost, cost),
            interval=forecast.interval(),
        )

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        """Place newcomers by their cards and anchors."""
        centre, scale = self.prior(newcomers)
        items = self.fitted.calibration.items
        level, difficulty = self._levels()
        prior_of_lengths = length_prior(self.fitted.styles, self.training.models)
        means, covariances, styles = [], [], self.styles
        for i in range(len(newcomers.models)):
            posterior = ability_posterior(
                items,
                newcomers.labels.scores[i],
                prior_mean=centre[i],
                prior_covariance=scale[i],
                degrees_of_freedom=DEGREES_OF_FREEDOM,
            )
            means.append(posterior.mean)
            covariances.append(posterior.covariance)
            lengths = length_posterior(
                prior_of_lengths,
                np.log(np.maximum(newcomers.labels.output_tokens[i], 1.0)),
                level,
                difficulty,
                family=newcomers.models[i].family,
                reasoning=newcomers.models[i].reasoning,
            )
            styles = styles.joined(style_of(lengths))
        arrived = with_leanings(
            self.fitted.expected,
            Abilities(
                mean=np.array(means, dtype=np.float32),
                covariance=np.array(covariances, dtype=np.float32),
            ),
            newcomers.labels.scores,
            self.fitted.leaning_variance,
        )
        return replace(
            self,
            abilities=self.abilities.joined(arrived),
            models=self.models + newcomers.models,
            labels=self.labels.stacked(newcomers.labels),
            styles=styles,
        )

    def prior(self, newcomers: Newcomers) -> tuple[Float64Array, Float64Array]:
        """(M', K) where newcomers are expected before they answer anything, and how surely."""
        return self.by_card(newcomers.models)

    def by_card(self, cards: Sequence[RespondentCard]) -> tuple[Float64Array, Float64Array]:
        """(M', K) means and (M', K, K) scales that cards tell."""
        prior = self.fitted.population
        centre = prior.table.rows(cards) @ prior.weights[:-1] + prior.weights[-1]
        scale = np.repeat(prior.covariance[None].astype(np.float64), len(cards), axis=0)
        return np.asarray(centre, dtype=np.float64), scale

    def _difficulty(self, items: ItemParameters) -> Float64Array:
        return standard_difficulty(items.intercept, self.fitted.difficulty_scale)

    def _levels(self) -> tuple[Float64Array, Float64Array]:
        """(N,) log-length levels of the training prompts, as read, and (N,) their difficulty."""
        features = _features(self.training.prompts, self.embedding)
        return (
            self.fitted.predictor.read(features).log_length.astype(np.float64),
            self._difficulty(self.fitted.calibration.items),
        )


def _features(prompts: PromptSet, embedding: str | None) -> PromptFeatures:
    if embedding is None:
        return prompts.features
    if embedding not in prompts.embeddings:
        raise MissingExtraError(
            f"no {embedding!r} embeddings of the prompts; export the encoder with "
            "scripts/export_minilm.py and install zerorouter[onnx]"
        )
    return PromptFeatures(
        embedding=prompts.embeddings[embedding], structure=prompts.features.structure
    )
