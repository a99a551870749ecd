"""`length_only`: how long a prompt is, and nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.evaluation.baselines._pool import Costs, Part, Pool, clip_p, require_answers
from zerorouter.evaluation.baselines._population import Population, probabilities
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Method,
    Newcomers,
    PromptSet,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.costs import MeanCosts
from zerorouter.irt.model import Abilities, ItemParameters

DEFAULTS: Settings = {"slope_sd": 0.3}
ROUNDS = 2


class LengthOnly(Method):
    r"""Logistic regression of correctness on the standardised log of input tokens, per model.

    :math:`P = \sigma(\beta_u + \gamma_u z)`. Slopes and intercepts come from a Gaussian
    population learned from the calibration models (``slope_sd`` is where its spread of slopes
    starts), so a newcomer needs no more labels than for a mean. Shows how much of a gain is
    nothing but length.
    """

    id: ClassVar[str] = "length_only"
    reference: ClassVar[str] = "control: logistic on log length"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """How far slopes may differ between models."""
        del n_labels
        return [{"slope_sd": sd} for sd in (0.3, 0.1, 1.0)]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Fit all models, learn the population, and fit them again in it."""
        del rng
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        length = _Length(data.prompts.input_tokens)
        items = length.items(data.prompts)
        population = Population(
            mean=np.zeros(2), covariance=np.diag([4.0, float(chosen["slope_sd"]) ** 2])
        )
        answered = np.flatnonzero(data.labels.observed.any(axis=1))
        for _ in range(ROUNDS):
            found = population.place(items, data.models, data.labels.scores)
            population = Population.of(
                [data.models[int(u)] for u in answered], found.mean[answered]
            )
        costs = Costs(data)
        known = population.place(items, data.models, data.labels.scores)

        def join(newcomers: Newcomers) -> Part:
            joined = population.place(items, newcomers.models, newcomers.labels.scores)
            return _Lengths(length, joined, costs.of(newcomers))

        return Pool([_Lengths(length, known, costs.known)], join)


class _Length:
    """Standardised log input tokens."""

    def __init__(self, input_tokens: Float64Array) -> None:
        logs = np.log1p(np.maximum(input_tokens, 0.0))
        self._centre = float(logs.mean())
        self._scale = max(float(logs.std()), 1e-6)

    def items(self, prompts: PromptSet) -> ItemParameters:
        """Prompts as items whose discrimination is (1, z)."""
        logs = np.log1p(np.maximum(prompts.input_tokens, 0.0))
        z = np.clip((logs - self._centre) / self._scale, -4.0, 4.0)
        return ItemParameters.exact(np.column_stack([np.ones_like(z), z]), np.zeros_like(z))


class _Lengths(Part):
    def __init__(self, length: _Length, abilities: Abilities, costs: MeanCosts) -> None:
        super().__init__()
        self._length, self._abilities, self._costs = length, abilities, costs

    def compute(self, prompts: PromptSet) -> Forecast:
        p = probabilities(self._length.items(prompts), self._abilities)
        return Forecast(p_correct=clip_p(p), cost_usd=self._costs.predict(prompts))
