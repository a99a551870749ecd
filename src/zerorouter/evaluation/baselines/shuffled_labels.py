"""`shuffled_labels`: a control that must learn nothing, by labels that belong to no prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray, FloatArray
from zerorouter.evaluation.baselines.knn import Knn
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


class ShuffledLabels(Method):
    """Another method fitted to scores permuted within each model, among the prompts it answered.

    Each model keeps its mean and which prompts it was asked; what it can do on which prompt is
    lost. Beating the per-model mean here would show a leak. Subclass with another ``inner``
    to put any method to this test; `inner` is kNN in the tables.
    """

    id: ClassVar[str] = "shuffled_labels"
    reference: ClassVar[str] = "control: kNN on permuted labels"
    inner: ClassVar[type[Method]] = Knn

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Those of the method within."""
        return self.inner().candidates(n_labels)

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Permute, then fit."""
        seed = int(rng.integers(2**63))
        shuffled = replace(data, labels=_shuffled(data.labels, seed))
        return _Shuffled(self.inner().fit(shuffled, settings, rng), seed)


class _Shuffled(FittedMethod):
    def __init__(self, inner: FittedMethod, seed: int) -> None:
        self._inner, self._seed = inner, seed

    def predict(self, prompts: PromptSet) -> Forecast:
        return self._inner.predict(prompts)

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        labels = _shuffled(newcomers.labels, self._seed)
        return _Shuffled(self._inner.onboard(replace(newcomers, labels=labels)), self._seed)

    def operating_points(
        self, prompts: PromptSet, eligible: BoolArray
    ) -> Sequence[OperatingPoint] | None:
        return self._inner.operating_points(prompts, eligible)


def _shuffled(labels: Labels, seed: int) -> Labels:
    """Scores permuted within each model's answered prompts, by a permutation of its own.

    It is drawn for the model's scores, not for its place, so that company does not matter.
    """
    scores: FloatArray = labels.scores.copy()
    for row in scores:
        answered = np.flatnonzero(~np.isnan(row))
        own = hashlib.blake2b(row.tobytes(), key=seed.to_bytes(8, "little"), digest_size=8)
        generator = np.random.default_rng(int.from_bytes(own.digest(), "little"))
        order = generator.permutation(len(answered))
        row[answered] = row[answered[order]]
    return replace(labels, scores=scores)
