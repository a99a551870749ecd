"""`knn`: a model will do on a prompt as it did on the prompts like it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, IntArray
from zerorouter.evaluation.baselines._neighbours import (
    OUT_OF_REACH,
    Metric,
    by_mask,
    chunks,
    weighted_means,
    weights,
)
from zerorouter.evaluation.baselines._pool import (
    Costs,
    Part,
    Pool,
    clip_p,
    pooled_mean,
    require_answers,
    shrunk_means,
)
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

DEFAULTS: Settings = {
    "k": 120,
    "share": 0.5,
    "encoder": "static",
    "structure": 1.5,
    "smoothing": 3.0,
    "newcomer_smoothing": 10.0,
}


class Knn(Method):
    """Nearest neighbours, each model by its own labelled prompts.

    The router that independent benchmarks find hard to beat on a static, fully labelled pool
    (Li 2025, arXiv 2505.12601; RouterBench, arXiv 2403.12031). Settings:

    - ``k``: neighbours, at most ``share`` of the prompts a model has answered;
    - ``structure``: weight of the structural features beside the embedding, 0 for none;
    - ``encoder``: ``"static"``, or another embedding that the prompt sets carry;
    - ``smoothing`` / ``newcomer_smoothing``: answers' worth of the model's own mean that is
      mixed into every forecast of calibration models / newcomers.

    Deviations, all in the method's favour: weights decline to zero at the k-th neighbour
    (see `_neighbours`), forecasts are smoothed towards the model's own mean, and structural
    features join the metric. A newcomer without any answer is forecast as the mean of the
    calibration models.
    """

    id: ClassVar[str] = "knn"
    reference: ClassVar[str] = "k nearest neighbours (arXiv 2505.12601, arXiv 2403.12031)"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """With all labels k, metric and smoothing; with few, what only newcomers depend on."""
        if n_labels is None:
            grid = itertools.product((120, 50, 250), (1.5, 0.0), (3.0, 15.0))
            return [
                {**DEFAULTS, "k": k, "structure": structure, "smoothing": smoothing}
                for k, structure, smoothing in grid
            ]
        few = itertools.product((0.5, 0.2, 1.0), (10.0, 2.0, 5.0, 30.0))
        return [{**DEFAULTS, "share": share, "newcomer_smoothing": c} for share, c in few]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Lay out the labelled prompts."""
        del rng
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        metric = Metric.fit(
            data.prompts, encoder=str(chosen["encoder"]), structure=float(chosen["structure"])
        )
        vectors = metric(data.prompts)
        costs = Costs(data)
        centre = pooled_mean(data.labels.scores)

        def part(labels: Labels, means: MeanCosts, smoothing: float, base: Part | None) -> Part:
            return NeighbourPart(
                metric=metric,
                vectors=vectors,
                labels=labels,
                costs=means,
                most=int(chosen["k"]),
                share=float(chosen["share"]),
                smoothing=smoothing,
                centre=centre,
                base=base,
            )

        old = part(data.labels, costs.known, float(chosen["smoothing"]), None)

        def join(newcomers: Newcomers) -> Part:
            smoothing = float(chosen["newcomer_smoothing"])
            return part(newcomers.labels, costs.of(newcomers), smoothing, old)

        return Pool([old], join)


class NeighbourPart(Part):
    """Forecasts from labelled neighbours, for models with labels (M, N) on the same prompts."""

    def __init__(
        self,
        *,
        metric: Metric,
        vectors: Float32Array,
        labels: Labels,
        costs: MeanCosts,
        most: int,
        share: float,
        smoothing: float,
        centre: float,
        base: Part | None,
    ) -> None:
        super().__init__()
        used = labels.observed.any(axis=0)
        self._metric, self._vectors = metric, np.ascontiguousarray(vectors[used])
        self._scores = np.asarray(labels.scores[:, used], dtype=np.float32)
        self._groups = by_mask(~np.isnan(self._scores))
        self._costs, self._most, self._share = costs, most, share
        self._smoothing, self._base = smoothing, base
        self._means = shrunk_means(labels.scores, centre)

    def compute(self, prompts: PromptSet) -> Forecast:
        """Search per set of models that answered the same prompts."""
        p = self._unlabelled(prompts)
        x = self._metric(prompts)
        for rows in chunks(len(x)):
            similarity = x[rows] @ self._vectors.T
            for models, columns in self._groups:
                k = max(1, min(self._most, math.ceil(self._share * len(columns))))
                among, scores = self._among(similarity, models, columns)
                mean, n = weighted_means(weights(among, k), scores)
                n = n[:, None]
                own = self._means[models]
                p[rows, models] = (mean * n + self._smoothing * own) / (n + self._smoothing)
        return Forecast(p_correct=clip_p(p), cost_usd=self._costs.predict(prompts))

    def _among(
        self, similarity: Float32Array, models: IntArray, columns: IntArray
    ) -> tuple[Float32Array, Float32Array]:
        """Similarities to the prompts that models answered, for changing, and the scores there."""
        if 2 * len(columns) < similarity.shape[1]:
            return similarity[:, columns], self._scores[np.ix_(models, columns)]
        # Where most are answered, putting the others out of reach is faster than picking.
        among, scores = similarity.copy(), self._scores[models]
        unanswered = np.isnan(scores[0])
        among[:, unanswered] = OUT_OF_REACH
        scores[:, unanswered] = 0.0
        return among, scores

    def _unlabelled(self, prompts: PromptSet) -> Float64Array:
        """(N, M) what is forecast of models without a single answer."""
        p = np.tile(self._means, (len(prompts), 1))
        silent = np.isnan(self._scores).all(axis=1)
        if silent.any() and self._base is not None:
            known = self._base.forecast(prompts).p_correct
            if known is not None:
                p[:, silent] = known.mean(axis=1, keepdims=True)
        return p
