"""`best_single`: the most accurate priced model, for every prompt. The honest baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray
from zerorouter.evaluation.baselines._pool import Costs, is_priced, require_answers
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Method,
    Newcomers,
    OperatingPoint,
    PromptSet,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.costs import MeanCosts

ROUNDS = 200
TOLERANCE = 1e-9
LEAST_SPREAD = 0.05  # models are not assumed closer together than this, in accuracy


class AdditiveMeans:
    """Models compared on common prompts: score = level of the model + level of the prompt.

    The two-way least-squares fit is the plain mean where all models answered all prompts, and
    compares on common prompts where they did not. A newcomer's level is the mean of what it
    scored beyond its prompts' levels, shrunk to the mean level by the ratio of the noise of one
    answer to the spread of levels (empirical Bayes), so that five lucky answers win nothing.
    """

    def __init__(self, scores: FloatArray) -> None:
        y = np.asarray(scores, dtype=np.float64)
        observed = ~np.isnan(y)
        filled = np.where(observed, y, 0.0)
        per_model, per_prompt = observed.sum(axis=1), observed.sum(axis=0)
        prompt = np.zeros(y.shape[1])
        level = np.zeros(len(y))
        for _ in range(ROUNDS):
            total = filled.sum(axis=1) - observed @ prompt
            updated = total / np.maximum(per_model, 1)
            total = filled.sum(axis=0) - updated @ observed
            prompt = total / np.maximum(per_prompt, 1)
            moved = float(np.max(np.abs(updated - level), initial=0.0))
            level = updated
            if moved < TOLERANCE:
                break
        answered = per_model > 0
        # Prompt levels are centred on their mean over prompts: levels of models are accuracies.
        shift = float(prompt[per_prompt > 0].mean()) if per_prompt.any() else 0.0
        self.prompt: Float64Array = np.where(per_prompt > 0, prompt - shift, 0.0)
        self.mean = float(level[answered].mean()) + shift if answered.any() else 0.5
        self.level: Float64Array = np.where(answered, level + shift, self.mean)
        residual = np.where(observed, y - self.level[:, None] - self.prompt, 0.0)
        noise = float((residual**2).sum() / max(observed.sum(), 1))
        spread = float(np.var(self.level[answered])) if answered.any() else 0.0
        self.prior_cells = noise / max(spread, LEAST_SPREAD**2)

    def newcomers(self, scores: FloatArray) -> Float64Array:
        """(M',) shrunk levels of newcomers from scores (M', N) on the same prompts."""
        observed = ~np.isnan(scores)
        beyond = np.where(observed, scores - self.prompt, 0.0).sum(axis=1, dtype=np.float64)
        out: Float64Array = (beyond + self.prior_cells * self.mean) / (
            observed.sum(axis=1) + self.prior_cells
        ).clip(1e-12)
        return np.where(observed.any(axis=1), out, self.mean)


class BestSingle(Method):
    """One model for all prompts: the best *priced* one by accuracy on the training prompts.

    Where no model at all is priced the best of all is taken: cost metrics are then absent.
    """

    id: ClassVar[str] = "best_single"
    has_probabilities: ClassVar[bool] = False
    reference: ClassVar[str] = "highest training accuracy on common prompts"

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Compare the models on common prompts."""
        del settings, rng
        require_answers(data)
        means = AdditiveMeans(data.labels.scores)
        costs = Costs(data)
        priced = is_priced(data.models, data.labels)
        return _Fitted(means, means.level, priced, [costs.known], costs)


class _Fitted(FittedMethod):
    def __init__(
        self,
        means: AdditiveMeans,
        level: Float64Array,
        priced: BoolArray,
        mean_costs: Sequence[MeanCosts],
        costs: Costs,
    ) -> None:
        self._means, self._level, self._priced = means, level, priced
        self._mean_costs, self._costs = tuple(mean_costs), costs

    def predict(self, prompts: PromptSet) -> Forecast:
        cost = np.hstack([means.predict(prompts) for means in self._mean_costs])
        return Forecast(p_correct=None, cost_usd=cost)

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        level = np.concatenate([self._level, self._means.newcomers(newcomers.labels.scores)])
        priced = np.concatenate([self._priced, is_priced(newcomers.models, newcomers.labels)])
        mean_costs = (*self._mean_costs, self._costs.of(newcomers))
        return _Fitted(self._means, level, priced, mean_costs, self._costs)

    def operating_points(self, prompts: PromptSet, eligible: BoolArray) -> Sequence[OperatingPoint]:
        priced = self._priced & eligible
        usable = priced if priced.any() else eligible
        chosen = int(np.argmax(np.where(usable, self._level, -np.inf)))
        return [OperatingPoint(policy="best_single", choice=np.full(len(prompts), chosen))]
