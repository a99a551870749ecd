"""`random`: any model of the pool, each as likely as the next. The floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray
from zerorouter.evaluation.baselines._hashing import prompt_hashes, salt_of
from zerorouter.evaluation.baselines._pool import Costs
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

N_SEEDS = 5


class Random(Method):
    """Uniform choice, by `N_SEEDS` seeds as operating points.

    A prompt's choice depends on the prompt and the seed alone, never on its place in the batch.
    """

    id: ClassVar[str] = "random"
    has_probabilities: ClassVar[bool] = False
    reference: ClassVar[str] = "uniform choice"

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Count the models and draw the seeds."""
        del settings
        costs = Costs(data)
        return _Fitted([costs.known], [len(data.models)], costs, salt_of(rng))


class _Fitted(FittedMethod):
    def __init__(
        self, means: Sequence[MeanCosts], sizes: Sequence[int], costs: Costs, salt: int
    ) -> None:
        self._means, self._sizes = tuple(means), tuple(sizes)
        self._costs, self._salt = costs, salt

    def predict(self, prompts: PromptSet) -> Forecast:
        cost = np.hstack([means.predict(prompts) for means in self._means])
        return Forecast(p_correct=None, cost_usd=cost)

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        means = (*self._means, self._costs.of(newcomers))
        return _Fitted(means, (*self._sizes, len(newcomers.models)), self._costs, self._salt)

    def operating_points(self, prompts: PromptSet, eligible: BoolArray) -> Sequence[OperatingPoint]:
        pool = np.flatnonzero(eligible)
        return [
            OperatingPoint(
                policy=f"seed={seed}",
                choice=pool[prompt_hashes(prompts, (self._salt + seed) % 2**63) % len(pool)],
            )
            for seed in range(N_SEEDS)
        ]
