"""`cheapest`: the model with the lowest expected cost, for every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray
from zerorouter.errors import MissingPriceError
from zerorouter.evaluation.baselines._pool import Costs, is_priced
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


class Cheapest(Method):
    """One model for all prompts: the lowest cost forecast at the mean number of input tokens.

    The mean is that of the calibration prompts, so the choice does not depend on the batch.
    Models whose cost is unknown are never chosen.
    """

    id: ClassVar[str] = "cheapest"
    has_probabilities: ClassVar[bool] = False
    needs_prices: ClassVar[bool] = True
    reference: ClassVar[str] = "lowest mean expected cost"

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Take the mean costs."""
        del settings, rng
        priced = is_priced(data.models, data.labels)
        if not priced.any():
            raise MissingPriceError(
                f"found no price and no cost of any of {len(data.models)} models; the cheapest "
                "one needs at least one: add prices to the models' cards"
            )
        costs = Costs(data)
        return _Fitted([costs.known], priced, costs, data.prompts)


class _Fitted(FittedMethod):
    def __init__(
        self, means: Sequence[MeanCosts], priced: BoolArray, costs: Costs, calibration: PromptSet
    ) -> None:
        self._means, self._priced = tuple(means), priced
        self._costs, self._calibration = costs, calibration

    def predict(self, prompts: PromptSet) -> Forecast:
        cost = np.hstack([means.predict(prompts) for means in self._means])
        return Forecast(p_correct=None, cost_usd=cost)

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        priced = np.concatenate([self._priced, is_priced(newcomers.models, newcomers.labels)])
        means = (*self._means, self._costs.of(newcomers))
        return _Fitted(means, priced, self._costs, self._calibration)

    def operating_points(self, prompts: PromptSet, eligible: BoolArray) -> Sequence[OperatingPoint]:
        mean = self.predict(self._calibration).cost_usd.mean(axis=0)
        usable = self._priced & ~np.isnan(mean) & eligible
        if not usable.any():
            raise MissingPriceError("no model of the pool has a cost forecast; add prices")
        chosen = int(np.argmin(np.where(usable, mean, np.inf)))
        return [OperatingPoint(policy="cheapest", choice=np.full(len(prompts), chosen))]
