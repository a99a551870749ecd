"""`avengers_pro`: clusters, and a mix of normalised accuracy and cost with its own frontier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, IntArray
from zerorouter.evaluation.baselines._clusters import (
    closest,
    closest_few,
    fit_centroids,
    sums_per_cluster,
)
from zerorouter.evaluation.baselines._neighbours import Metric
from zerorouter.evaluation.baselines._pool import (
    Costs,
    is_priced,
    pooled_mean,
    require_answers,
)
from zerorouter.evaluation.baselines.kmeans import smoothed_table
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
from zerorouter.evaluation.costs import MeanCosts
from zerorouter.linking import RespondentCard

ALPHAS = tuple(round(i / 20, 2) for i in range(21))
DEFAULTS: Settings = {
    "clusters": 60,
    "nearest": 4,
    "encoder": "static",
    "structure": 1.5,
    "smoothing": 2.0,
}


class AvengersPro(Method):
    r"""Avengers-Pro (Zhang et al. 2025, arXiv 2508.12631).

    Prompts are clustered (k = 60). In cluster j model i has accuracy :math:`p^i_j` and cost
    :math:`q^i_j`; both are scaled to [0, 1] over the models of the cluster, and
    :math:`x^i_j = \alpha \tilde p^i_j + (1 - \alpha)(1 - \tilde q^i_j)`. A prompt goes to the
    model with the largest sum over its four nearest clusters. Operating points: alpha = 0,
    0.05, ... 1.

    Deviations: our static encoder and structural features for Qwen3-embedding-8B; accuracies are
    lightly smoothed towards the model's own mean, since with few labels most clusters hold none;
    a cluster's cost is the mean over its calibration prompts of what the records say, or of the
    mean cost forecast where they say nothing. Models without a known cost are never chosen;
    where no model has one the only point is alpha = 1. Scores are scaled over all models
    present, so a newcomer may move the others', as in the paper.
    """

    id: ClassVar[str] = "avengers_pro"
    has_probabilities: ClassVar[bool] = False
    reference: ClassVar[str] = "Avengers-Pro (arXiv 2508.12631)"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """The paper's setting first; clusters, how many are summed, smoothing."""
        del n_labels
        grid = itertools.product((60, 30, 100), (4, 1), (2.0, 10.0))
        return [
            {**DEFAULTS, "clusters": k, "nearest": n, "smoothing": smoothing}
            for k, n, smoothing in grid
        ]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Cluster the prompts; profile the models in each cluster."""
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        metric = Metric.fit(
            data.prompts, encoder=str(chosen["encoder"]), structure=float(chosen["structure"])
        )
        vectors = metric(data.prompts)
        centroids = fit_centroids(vectors, int(chosen["clusters"]), rng)
        clusters = _Clusters(
            metric=metric,
            centroids=centroids,
            member=closest(vectors, centroids),
            calibration=data.prompts,
            nearest=int(chosen["nearest"]),
            smoothing=float(chosen["smoothing"]),
            centre=pooled_mean(data.labels.scores),
        )
        costs = Costs(data)
        old = clusters.profile(data.models, data.labels, costs.known)
        return _Fitted(clusters, costs, (old,))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Profile:
    """Some models as the clusters know them."""

    accuracy: Float64Array  # (M, K)
    cost_usd: Float64Array  # (M, K), NaN where not known
    costs: MeanCosts


@dataclass(frozen=True, kw_only=True, eq=False)
class _Clusters:
    metric: Metric
    centroids: Float32Array  # (K, D)
    member: IntArray  # (N,)
    calibration: PromptSet
    nearest: int
    smoothing: float
    centre: float

    def profile(
        self, models: Sequence[RespondentCard], labels: Labels, costs: MeanCosts
    ) -> _Profile:
        """Accuracy and cost of models in each cluster."""
        k = len(self.centroids)
        priced: BoolArray = is_priced(models, labels)
        expected = costs.predict(self.calibration).T
        dollars = np.where(np.isnan(labels.cost_usd), expected, labels.cost_usd)
        dollars[~priced] = np.nan
        total, count = sums_per_cluster(self.member, dollars, k)
        overall = total.sum(axis=1) / np.maximum(count.sum(axis=1), 1)
        cost = (total + 1e-6 * overall[:, None]) / (count + 1e-6)
        cost[~priced | (count.sum(axis=1) == 0)] = np.nan
        return _Profile(
            accuracy=smoothed_table(self.member, labels, k, self.smoothing, self.centre),
            cost_usd=cost,
            costs=costs,
        )

    def mix(self, prompts: PromptSet) -> Float64Array:
        """(N, K) ones at the nearest clusters of each prompt."""
        near = closest_few(self.metric(prompts), self.centroids, self.nearest)
        out = np.zeros((len(prompts), len(self.centroids)))
        np.put_along_axis(out, near, 1.0, axis=1)
        return out


class _Fitted(FittedMethod):
    def __init__(self, clusters: _Clusters, costs: Costs, profiles: Sequence[_Profile]) -> None:
        self._clusters, self._costs, self._profiles = clusters, costs, tuple(profiles)

    def predict(self, prompts: PromptSet) -> Forecast:
        cost = np.hstack([profile.costs.predict(prompts) for profile in self._profiles])
        return Forecast(p_correct=None, cost_usd=cost)

    def onboard(self, newcomers: Newcomers) -> FittedMethod:
        found = self._clusters.profile(
            newcomers.models, newcomers.labels, self._costs.of(newcomers)
        )
        silent = ~newcomers.labels.observed.any(axis=1)
        accuracy = found.accuracy.copy()
        accuracy[silent] = self._profiles[0].accuracy.mean(axis=0)
        joined = (*self._profiles, replace(found, accuracy=accuracy))
        return _Fitted(self._clusters, self._costs, joined)

    def operating_points(self, prompts: PromptSet, eligible: BoolArray) -> Sequence[OperatingPoint]:
        accuracy = np.vstack([profile.accuracy for profile in self._profiles])
        cost = np.vstack([profile.cost_usd for profile in self._profiles])
        usable = ~np.isnan(cost).any(axis=1) & eligible
        mix = self._clusters.mix(prompts)
        if not usable.any():
            best = np.where(eligible, mix @ accuracy.T, -np.inf).argmax(axis=1)
            return [OperatingPoint(policy="alpha=1.00", choice=best)]
        where = np.flatnonzero(usable)
        quality = mix @ _scaled(accuracy[where]).T  # (N, models with a cost)
        thrift = mix @ (1 - _scaled(cost[where])).T
        return [
            OperatingPoint(
                policy=f"alpha={alpha:.2f}",
                choice=where[np.argmax(alpha * quality + (1 - alpha) * thrift, axis=1)],
            )
            for alpha in ALPHAS
        ]


def _scaled(table: Float64Array) -> Float64Array:
    """(M, K) each column from 0 to 1; a column without spread becomes 0."""
    low, high = table.min(axis=0), table.max(axis=0)
    spread = high - low
    out: Float64Array = (table - low) / np.where(spread > 0, spread, 1.0)
    return out
