"""What methods see, what they return, and the interface that all of them share.

A method is fitted to a `TrainingSet` (calibration models on calibration prompts), may take in
newcomers of whom only a few answers are known, and forecasts P(correct) and cost of every
model on unseen prompts. It never sees a test prompt's answers, its task, or its reference.

Shapes: M models, N prompts, D embedding dimensions, F structural features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from zerorouter.linking import RespondentCard
from zerorouter.onboarding.published import ScoreMatrix
from zerorouter.predict.features import PromptFeatures

TUNING_BUDGET = 12
"""Settings that a method may try on calibration data; the same for every method."""

Settings: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptSet:
    """N prompts as a request shows them.

    Attributes:
        features: Embedding (N, D) unit vectors and structural features (N, F) of the raw request.
        input_tokens: (N,) estimated input tokens.
        embeddings: Embeddings by other encoders where available, such as ``"minilm"`` (N, 384).
    """

    features: PromptFeatures
    input_tokens: Float64Array
    embeddings: Mapping[str, Float32Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_tokens)

    def take(self, index: IntArray | BoolArray) -> PromptSet:
        """The prompts at ``index``, in that order."""
        return PromptSet(
            features=self.features.take(index),
            input_tokens=self.input_tokens[index],
            embeddings={name: rows[index] for name, rows in self.embeddings.items()},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """What M models did on N prompts; NaN where not administered or not known.

    Attributes:
        scores: (M, N) in [0, 1].
        output_tokens: (M, N) output tokens, counted, or characters over four.
        cost_usd: (M, N) dollars, real where the records have them, else derived from prices.
    """

    scores: FloatArray
    output_tokens: FloatArray
    cost_usd: FloatArray

    @property
    def observed(self) -> BoolArray:
        """(M, N) whether the model was asked."""
        return ~np.isnan(self.scores)

    def take(
        self,
        models: IntArray | BoolArray | slice = slice(None),
        prompts: IntArray | BoolArray | slice = slice(None),
    ) -> Labels:
        """Some models' labels on some prompts."""
        return Labels(
            scores=self.scores[models][:, prompts],
            output_tokens=self.output_tokens[models][:, prompts],
            cost_usd=self.cost_usd[models][:, prompts],
        )

    def only(self, prompts: IntArray) -> Labels:
        """The same shapes with everything unknown but the given prompts."""
        hidden = np.ones(self.scores.shape[1], dtype=np.bool_)
        hidden[prompts] = False
        return Labels(
            scores=np.where(hidden, np.nan, self.scores),
            output_tokens=np.where(hidden, np.nan, self.output_tokens),
            cost_usd=np.where(hidden, np.nan, self.cost_usd),
        )

    def stacked(self, others: Labels) -> Labels:
        """These models and then the others, on the same prompts."""
        return Labels(
            scores=np.vstack([self.scores, others.scores]),
            output_tokens=np.vstack([self.output_tokens, others.output_tokens]),
            cost_usd=np.vstack([self.cost_usd, others.cost_usd]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """Published benchmark scores, for the one method that reads them beside answers.

    Attributes:
        matrix: Scores of models, whether they are in the data set or not.
        tasks: Name of each stratum of the training set, as ``data set/task``.
    """

    matrix: ScoreMatrix
    tasks: tuple[str, ...]

    def without(self, models: Sequence[str]) -> Published:
        """The same with the rows of these models taken out."""
        return Published(matrix=self.matrix.without(models), tasks=self.tasks)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """All that a method may learn from.

    Attributes:
        prompts: N calibration prompts.
        models: (M,) cards of the calibration models: family, release, price and so on.
        labels: Their answers, (M, N).
        strata: (N,) coarse task of each prompt, only to stratify folds and anchors by.
        groups: (N,) duplicate groups, which folds must not cut.
        published: Published scores, those of newcomers left out; None where there are none.
    """

    prompts: PromptSet
    models: tuple[RespondentCard, ...]
    labels: Labels
    strata: IntArray
    groups: IntArray
    published: Published | None = None

    def take_prompts(self, index: IntArray) -> TrainingSet:
        """The same models on some of the prompts."""
        return TrainingSet(
            prompts=self.prompts.take(index),
            models=self.models,
            labels=self.labels.take(prompts=index),
            strata=self.strata[index],
            groups=self.groups[index],
            published=self.published,
        )

    def take_models(self, index: IntArray) -> TrainingSet:
        """Some of the models on the same prompts."""
        return TrainingSet(
            prompts=self.prompts,
            models=tuple(self.models[int(i)] for i in index),
            labels=self.labels.take(models=index),
            strata=self.strata,
            groups=self.groups,
            published=self.published,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Newcomers:
    """Models that join after the fit.

    Attributes:
        models: (M',) their cards.
        labels: (M', N) on the training prompts, NaN everywhere but on the anchors asked.
        published: Their published scores, and nobody else's; None where there are none.
    """

    models: tuple[RespondentCard, ...]
    labels: Labels
    published: ScoreMatrix | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """What a method expects of M models on N prompts.

    Attributes:
        p_correct: (N, M) probabilities, or None for a method that has none.
        cost_usd: (N, M) expected dollars; NaN where no price and no cost is known.
        interval: (N, M) bounds of P(correct) at 90%, or None for a method without error bars.
    """

    p_correct: Float64Array | None
    cost_usd: Float64Array
    interval: tuple[FloatArray, FloatArray] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class OperatingPoint:
    """One way of running a method.

    Attributes:
        policy: Its name, such as ``value=0.01`` or ``alpha=0.3``.
        choice: (N,) column of the model that each prompt is sent to.
    """

    policy: str
    choice: IntArray


class FittedMethod(ABC):
    """A method after its fit; columns are the models it knows, newcomers last."""

    @abstractmethod
    def predict(self, prompts: PromptSet) -> Forecast:
        """P(correct) and cost of every known model for each prompt."""

    @abstractmethod
    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        """The same method knowing the newcomers too, from their anchors and cards alone."""

    def select_anchors(self, n: int, rng: np.random.Generator) -> IntArray | None:
        """Positions of ``n`` training prompts to ask newcomers; None for the common draw."""
        del n, rng
        return None

    def operating_points(
        self, prompts: PromptSet, eligible: BoolArray
    ) -> Sequence[OperatingPoint] | None:
        """The method's own frontier; None for the common sweep over the value of an answer.

        Args:
            prompts: N prompts.
            eligible: (M,) models that may be chosen.
        """
        del prompts, eligible
        return None


class Method(ABC):
    """A routing method. Subclasses are listed in `baselines.METHODS`.

    Class attributes:
        id: Its id in result rows.
        has_probabilities: Whether forecasts carry P(correct).
        needs_prices: Whether it can run at all without prices.
        needs_embedding: An encoder it cannot do without, such as ``"minilm"``.
        needs_published: Whether it is of use for newcomers with published scores alone.
        reference: The paper or idea it follows, in a line.
    """

    id: ClassVar[str]
    has_probabilities: ClassVar[bool] = True
    needs_prices: ClassVar[bool] = False
    needs_embedding: ClassVar[str | None] = None
    needs_published: ClassVar[bool] = False
    reference: ClassVar[str] = ""

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Settings to be tuned over, at most `TUNING_BUDGET`.

        Args:
            n_labels: Labels per newcomer that it is tuned for; None for all labels.
        """
        del n_labels
        return ({},)

    @abstractmethod
    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Learn from the training set; the same generator state gives the same fit."""
