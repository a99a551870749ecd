"""`kmeans`: a model is the vector of its accuracies per cluster of prompts (UniRoute)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, IntArray
from zerorouter.evaluation.baselines._clusters import closest, fit_centroids, sums_per_cluster
from zerorouter.evaluation.baselines._neighbours import Metric
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
    "clusters": 50,
    "encoder": "static",
    "structure": 1.5,
    "smoothing": 5.0,
    "newcomer_smoothing": 5.0,
}


class KMeans(Method):
    """UniRoute by clusters (Jitkrittum et al. 2025, arXiv 2502.08773, "K-Means Gamma").

    Prompts are clustered without labels; a model, old or new, is represented by its mean score
    in each cluster, and a prompt reads the entry of its nearest centroid. Deviations: cluster
    means are smoothed towards the model's own mean (the paper assumes enough labels in each),
    structural features may join the embedding, and the clusters are those of the training
    prompts themselves. A newcomer without any answer is forecast as the mean of the
    calibration models.
    """

    id: ClassVar[str] = "kmeans"
    reference: ClassVar[str] = "UniRoute, K-means (arXiv 2502.08773)"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Number of clusters, metric and smoothing."""
        if n_labels is None:
            grid = itertools.product((50, 25, 100), (1.5, 0.0), (5.0, 20.0))
            return [
                {**DEFAULTS, "clusters": k, "structure": structure, "smoothing": smoothing}
                for k, structure, smoothing in grid
            ]
        few = itertools.product((50, 10, 25), (5.0, 1.5, 15.0, 50.0))
        return [{**DEFAULTS, "clusters": k, "newcomer_smoothing": c} for k, c in few]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Cluster the prompts and average the labels in each cluster."""
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        metric = Metric.fit(
            data.prompts, encoder=str(chosen["encoder"]), structure=float(chosen["structure"])
        )
        vectors = metric(data.prompts)
        centroids = fit_centroids(vectors, int(chosen["clusters"]), rng)
        member = closest(vectors, centroids)
        costs = Costs(data)
        centre = pooled_mean(data.labels.scores)

        def table(labels: Labels, smoothing: float) -> Float64Array:
            return smoothed_table(member, labels, len(centroids), smoothing, centre)

        old = _Clustered(
            metric, centroids, table(data.labels, float(chosen["smoothing"])), costs.known
        )

        def join(newcomers: Newcomers) -> Part:
            found = table(newcomers.labels, float(chosen["newcomer_smoothing"]))
            silent = ~newcomers.labels.observed.any(axis=1)
            found[silent] = old.table.mean(axis=0)
            return _Clustered(metric, centroids, found, costs.of(newcomers))

        return Pool([old], join)


def smoothed_table(
    member: IntArray, labels: Labels, k: int, smoothing: float, centre: float
) -> Float64Array:
    """(M, K) mean scores per cluster, with ``smoothing`` answers of the model's own mean added."""
    total, count = sums_per_cluster(member, labels.scores, k)
    own = shrunk_means(labels.scores, centre)[:, None]
    weight = max(smoothing, 1e-9)
    out: Float64Array = (total + weight * own) / (count + weight)
    return out


class _Clustered(Part):
    def __init__(
        self, metric: Metric, centroids: Float32Array, table: Float64Array, costs: MeanCosts
    ) -> None:
        super().__init__()
        self._metric, self._centroids, self._costs = metric, centroids, costs
        self.table = table  # (M, K)

    def compute(self, prompts: PromptSet) -> Forecast:
        member = closest(self._metric(prompts), self._centroids)
        return Forecast(
            p_correct=clip_p(self.table[:, member].T), cost_usd=self._costs.predict(prompts)
        )
