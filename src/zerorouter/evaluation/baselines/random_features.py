"""`random_features`: a control that must learn nothing, by features that describe nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array
from zerorouter.evaluation.baselines._hashing import prompt_hashes, salt_of
from zerorouter.evaluation.baselines._pool import Remembering
from zerorouter.evaluation.baselines.knn import Knn
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
from zerorouter.predict.features import PromptFeatures


class RandomFeatures(Method):
    """Another method that sees Gaussian noise in place of every prompt's features.

    The noise has the features' shapes (embeddings at unit length) and belongs to the prompt: the
    same text has the same noise wherever it stands. The number of input tokens is kept, since
    costs need it. Subclass with another ``inner``; it is kNN in the tables.
    """

    id: ClassVar[str] = "random_features"
    reference: ClassVar[str] = "control: kNN on noise"
    inner: ClassVar[type[Method]] = Knn

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Those of the method within."""
        return self.inner().candidates(n_labels)

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Replace the features, then fit."""
        salt = salt_of(rng)
        noisy = replace(data, prompts=_noise(data.prompts, salt))
        return _Noisy(self.inner().fit(noisy, settings, rng), salt)


class _Noisy(FittedMethod):
    def __init__(self, inner: FittedMethod, salt: int) -> None:
        self._inner, self._salt = inner, salt
        self._noisy = Remembering(lambda prompts: _noise(prompts, salt))

    def predict(self, prompts: PromptSet) -> Forecast:
        return self._inner.predict(self._noisy(prompts))

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        return _Noisy(self._inner.onboard(newcomers), self._salt)

    def operating_points(
        self, prompts: PromptSet, eligible: BoolArray
    ) -> Sequence[OperatingPoint] | None:
        return self._inner.operating_points(self._noisy(prompts), eligible)


def _noise(prompts: PromptSet, salt: int) -> PromptSet:
    """The same prompts with noise for features."""
    shapes = [
        prompts.features.embedding.shape[1],
        prompts.features.structure.shape[1],
        *(rows.shape[1] for rows in prompts.embeddings.values()),
    ]
    drawn = np.empty((len(prompts), sum(shapes)), dtype=np.float32)
    for row, seed in zip(drawn, prompt_hashes(prompts, salt).tolist(), strict=True):
        np.random.Generator(np.random.PCG64(seed)).standard_normal(out=row, dtype=np.float32)
    embedding, structure, *others = np.split(drawn, np.cumsum(shapes)[:-1], axis=1)
    return PromptSet(
        features=PromptFeatures(embedding=_unit(embedding), structure=structure),
        input_tokens=prompts.input_tokens,
        embeddings={
            name: _unit(rows) for name, rows in zip(prompts.embeddings, others, strict=True)
        },
    )


def _unit(rows: Float32Array) -> Float32Array:
    out: Float32Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return out
