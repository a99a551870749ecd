"""`oracle`: the cheapest model that answers correctly, known afterwards. The ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray
from zerorouter.errors import InputError
from zerorouter.evaluation.baselines.best_single import BestSingle
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Labels,
    Method,
    Newcomers,
    OperatingPoint,
    PromptSet,
    Settings,
    TrainingSet,
)

VALUES_USD = tuple(float(v) for v in np.geomspace(1e-6, 10.0, 29))


class Oracle(Method):
    """Choices made with the test answers in hand, which the harness passes to `reveal`.

    Operating points: ``accuracy`` takes the best score and, among equals, the lowest real cost;
    ``value=V`` maximises ``V * score - cost``. Until `reveal` it is the best single model.
    """

    id: ClassVar[str] = "oracle"
    has_probabilities: ClassVar[bool] = False
    reference: ClassVar[str] = "the test answers themselves"

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedOracle:
        """Nothing but the costs is learned."""
        return FittedOracle(BestSingle().fit(data, settings, rng))


class FittedOracle(FittedMethod):
    """An oracle that has not seen the answers yet."""

    def __init__(self, blind: FittedMethod) -> None:
        self._blind = blind

    def predict(self, prompts: PromptSet) -> Forecast:
        """Mean costs."""
        return self._blind.predict(prompts)

    def onboard(self, newcomers: Newcomers) -> FittedOracle:
        """Newcomers join."""
        return FittedOracle(self._blind.onboard(newcomers))

    def operating_points(
        self, prompts: PromptSet, eligible: BoolArray
    ) -> Sequence[OperatingPoint] | None:
        """Those of the best single model."""
        return self._blind.operating_points(prompts, eligible)

    def reveal(self, labels: Labels) -> FittedMethod:
        """The oracle with the answers (M, N) of all its models to the prompts to be routed."""
        return _Revealed(self._blind, labels)


class _Revealed(FittedMethod):
    def __init__(self, blind: FittedMethod, labels: Labels) -> None:
        self._blind, self._labels = blind, labels

    def predict(self, prompts: PromptSet) -> Forecast:
        self._check(prompts)
        expected = self._blind.predict(prompts).cost_usd
        real = self._labels.cost_usd.T.astype(np.float64)
        return Forecast(p_correct=None, cost_usd=np.where(np.isnan(real), expected, real))

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        del newcomers
        raise InputError("the oracle has seen the answers; onboard newcomers before reveal")

    def operating_points(self, prompts: PromptSet, eligible: BoolArray) -> Sequence[OperatingPoint]:
        cost = self.predict(prompts).cost_usd
        known = np.where(np.isnan(self._labels.scores), -np.inf, self._labels.scores).T
        known = np.where(eligible, known, -np.inf)
        score = np.asarray(known, dtype=np.float64)  # (N, M)
        dearest = np.where(np.isnan(cost) | ~eligible, np.inf, cost)
        best = score == score.max(axis=1, keepdims=True)
        cheapest_best = np.where(best, dearest, np.inf)
        # All costs unknown: any of the best.
        unknown = np.isinf(cheapest_best).all(axis=1)
        choice = np.where(unknown, best.argmax(axis=1), cheapest_best.argmin(axis=1))
        points = [OperatingPoint(policy="accuracy", choice=choice)]
        if np.isnan(cost).all():
            return points
        for value in VALUES_USD:
            utility = value * score - dearest
            stuck = np.isinf(utility).all(axis=1)
            at = np.where(stuck, choice, utility.argmax(axis=1))
            points.append(OperatingPoint(policy=f"value={value:.3g}", choice=at))
        return points

    def _check(self, prompts: PromptSet) -> None:
        if self._labels.scores.shape[1] != len(prompts):
            raise InputError(
                f"found answers to {self._labels.scores.shape[1]} prompts and {len(prompts)} "
                "prompts to route; reveal the answers to exactly the prompts to be routed"
            )
