"""What baselines share: a pool that newcomers join without disturbing it, and small tables.

A fitted baseline is a tuple of parts, each forecasting its own columns: the calibration models
first, then every group of newcomers. Since a part never changes, onboarding cannot move the
columns of the others, and forecasts of the calibration models are made once per prompt set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray
from zerorouter.errors import CalibrationError
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Labels,
    Newcomers,
    PromptSet,
    TrainingSet,
)
from zerorouter.evaluation.costs import MeanCosts
from zerorouter.linking import RespondentCard

LEAST_P = 1e-3
"""Probabilities are kept within [LEAST_P, 1 - LEAST_P]: one surprise costs 6.9 nats at most."""

MEAN_PRIOR_CELLS = 2.0  # the pooled mean counts as this many of a model's own answers


T = TypeVar("T")


class Remembering(Generic[T]):
    """A function of prompt sets that remembers what it said of the last one.

    Many newcomers are judged on the same test prompts: what depends on the prompts alone is
    worked out once. Prompt sets are told apart by identity, and are not to be changed.
    """

    def __init__(self, function: Callable[[PromptSet], T]) -> None:
        self._function = function
        self._last: tuple[PromptSet, T] | None = None

    def __call__(self, prompts: PromptSet) -> T:
        """The function's value."""
        if self._last is None or self._last[0] is not prompts:
            self._last = (prompts, self._function(prompts))
        return self._last[1]


class Part(ABC):
    """Forecasts of some of a pool's models."""

    def __init__(self) -> None:
        self.forecast = Remembering(self.compute)

    @abstractmethod
    def compute(self, prompts: PromptSet) -> Forecast:
        """P(correct) and cost of this part's models alone; the arrays are not to be changed."""


class Pool(FittedMethod):
    """Parts side by side; ``join`` makes a part of newcomers."""

    def __init__(self, parts: Sequence[Part], join: Callable[[Newcomers], Part]) -> None:
        self.parts = tuple(parts)
        self.join = join

    def predict(self, prompts: PromptSet) -> Forecast:
        """The parts' forecasts, side by side."""
        return beside([part.forecast(prompts) for part in self.parts])

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        """The same pool with one more part."""
        return Pool((*self.parts, self.join(newcomers)), self.join)


def beside(forecasts: Sequence[Forecast]) -> Forecast:
    """Forecasts of several groups of models as one; without probabilities if one has none."""
    known = [f.p_correct for f in forecasts if f.p_correct is not None]
    return Forecast(
        p_correct=np.hstack(known) if len(known) == len(forecasts) else None,
        cost_usd=np.hstack([f.cost_usd for f in forecasts]),
    )


class Costs:
    """`MeanCosts` of the calibration models, and of newcomers one by one.

    A newcomer's means shrink to those of the calibration models alone, so that who else joins
    does not matter.
    """

    def __init__(self, data: TrainingSet) -> None:
        self._models, self._labels = data.models, data.labels
        self.known = MeanCosts(data.models, data.labels)

    def of(self, newcomers: Newcomers) -> MeanCosts:
        """The newcomers' forecasts."""
        out = MeanCosts(newcomers.models, newcomers.labels)
        for u, card in enumerate(newcomers.models):
            labels = newcomers.labels.take(models=slice(u, u + 1))
            one = MeanCosts((*self._models, card), self._labels.stacked(labels))
            out.output_tokens[u], out.mean_cost[u] = one.output_tokens[-1], one.mean_cost[-1]
        return out


def require_answers(data: TrainingSet) -> None:
    """Raise unless there is a model, a prompt and an answer to learn from."""
    if data.labels.scores.size == 0 or not data.labels.observed.any():
        m, n = data.labels.scores.shape
        raise CalibrationError(
            f"found no scored answer among {m} models and {n} prompts; wanted at least one"
        )


def clip_p(p: FloatArray) -> Float64Array:
    """Probabilities kept `LEAST_P` away from 0 and 1."""
    return np.clip(np.asarray(p, dtype=np.float64), LEAST_P, 1 - LEAST_P)


def pooled_mean(scores: FloatArray) -> float:
    """Mean over models of their mean scores; models without answers do not count."""
    observed = ~np.isnan(scores)
    count = observed.sum(axis=1)
    total = np.where(observed, scores, 0.0).sum(axis=1, dtype=np.float64)
    if not count.any():
        return 0.5
    return float(np.mean(total[count > 0] / count[count > 0]))


def shrunk_means(scores: FloatArray, centre: float) -> Float64Array:
    """(M,) mean scores, with `MEAN_PRIOR_CELLS` answers of mean ``centre`` added."""
    observed = ~np.isnan(scores)
    total = np.where(observed, scores, 0.0).sum(axis=1, dtype=np.float64)
    out: Float64Array = (total + MEAN_PRIOR_CELLS * centre) / (
        observed.sum(axis=1) + MEAN_PRIOR_CELLS
    )
    return out


def is_priced(models: Sequence[RespondentCard], labels: Labels) -> BoolArray:
    """(M,) whether a model's cost is known: both prices on its card, or dollars in the records."""
    on_card = [
        m.input_usd_per_mtok is not None and m.output_usd_per_mtok is not None for m in models
    ]
    out: BoolArray = np.array(on_card, dtype=np.bool_) | (~np.isnan(labels.cost_usd)).any(axis=1)
    return out
