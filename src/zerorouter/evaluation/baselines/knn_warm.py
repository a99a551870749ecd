"""`knn_warm`: neighbours' easiness from the old models, and one ability per newcomer.

The honest control of METHOD 3.3: what transfer between models is worth without a latent space
of features, so that the rest of a gain over cold kNN can be ascribed to the predictor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray, IntArray
from zerorouter.evaluation.baselines._neighbours import (
    OUT_OF_REACH,
    Metric,
    chunks,
    weights,
)
from zerorouter.evaluation.baselines._pool import (
    Costs,
    Part,
    Pool,
    Remembering,
    clip_p,
    require_answers,
)
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

DEFAULTS: Settings = {
    "k": 120,
    "encoder": "static",
    "structure": 1.5,
    "smoothing": 3.0,
    "cards": True,
}
FURTHEST = 8.0  # logits: an easiness beyond is no different
ROUNDS = 3
NEWTON = 12


class KnnWarm(Method):
    r"""A Rasch model whose easiness is read off the neighbours by the calibration models.

    Easiness :math:`e(x)` of a prompt solves
    :math:`\sum_u \sum_j w_j (y_{uj} - \sigma(\theta_u + e)) = 0` over its k nearest calibration
    prompts j and the models u that answered them: the logit of the smoothed mean score, adjusted
    for who answered. ``smoothing`` prompts of average easiness are added. Calibration prompts,
    and so the anchors, read theirs off *other* prompts than themselves and their duplicates,
    as test prompts do. Then :math:`P = \sigma(\theta_u + s\,e(x))`, with one slope s for all;
    a newcomer's :math:`\theta` has the posterior of `irt.ability`, integrated out in the forecast.
    Its prior is N(mean, variance) of the old ones, or with ``cards`` the product's own prior from
    release date, price, size and so on, so that the control starts from the same facts as the
    method it checks.

    With all labels it is the same one-dimensional model, and so cannot route by kind of prompt.
    """

    id: ClassVar[str] = "knn_warm"
    reference: ClassVar[str] = "control: old models' smoothed easiness + ability update"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Neighbours and metric; where labels are few, whether cards shape the prior."""
        if n_labels is None:
            grid = itertools.product((120, 50, 250), (1.5, 0.0))
            return [{**DEFAULTS, "k": k, "structure": s} for k, s in grid]
        few = itertools.product((120, 50), (True, False))
        return [{**DEFAULTS, "k": k, "cards": cards} for k, cards in few]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Easiness of every calibration prompt from the others, then abilities and the slope."""
        del rng
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        metric = Metric.fit(
            data.prompts, encoder=str(chosen["encoder"]), structure=float(chosen["structure"])
        )
        scores = np.asarray(data.labels.scores, dtype=np.float32)
        observed = ~np.isnan(scores)
        asked = observed.any(axis=0)
        vectors = metric(data.prompts)
        groups = np.asarray(data.groups)
        reader = _Reader(
            vectors=np.ascontiguousarray(vectors[asked]),
            groups=groups[asked],
            scores=np.where(observed, scores, np.float32(0.0))[:, asked],
            observed=observed[:, asked].astype(np.float32),
            k=int(chosen["k"]),
            smoothing=float(chosen["smoothing"]),
        )
        right, seen = reader.sums(vectors, groups)
        theta = _logit(_mean_scores(scores))
        slope = 1.0
        for _ in range(ROUNDS):
            easiness = _easiness(right, seen, theta, reader.smoothing)
            theta = _abilities(scores, slope * easiness, theta)
        theta_read = theta
        easiness = _easiness(right, seen, theta_read, reader.smoothing)
        theta, slope = _fit_slope(scores, easiness, theta)
        items = _items(slope * easiness)
        answered = np.flatnonzero(observed.any(axis=1))
        population = Population.of(
            [data.models[int(u)] for u in answered],
            theta[answered, None],
            cards=bool(chosen["cards"]),
        )
        theta[~observed.any(axis=1)] = np.nan
        old = population.known(data.models, theta[:, None])
        costs = Costs(data)

        @Remembering
        def items_of(prompts: PromptSet) -> ItemParameters:
            right, seen = reader.sums(metric(prompts), None)
            return _items(slope * _easiness(right, seen, theta_read, reader.smoothing))

        def join(newcomers: Newcomers) -> Part:
            found = population.place(items, newcomers.models, newcomers.labels.scores)
            return _Warm(items_of, found, costs.of(newcomers))

        return Pool([_Warm(items_of, old, costs.known)], join)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reader:
    """Weighted sums over the neighbours of a prompt: what was right, and what was asked."""

    vectors: Float32Array  # (N, D)
    groups: IntArray  # (N,)
    scores: Float32Array  # (M, N), 0 where not observed
    observed: Float32Array  # (M, N)
    k: int
    smoothing: float

    def sums(self, x: Float32Array, groups: IntArray | None) -> tuple[Float64Array, Float64Array]:
        """Two (n, M) sums over neighbours, in units of effective prompts.

        Args:
            x: (n, D) unit vectors.
            groups: (n,) duplicate groups: prompts of the same group are no neighbours.
        """
        m = len(self.scores)
        right, seen = np.empty((len(x), m)), np.empty((len(x), m))
        stacked = np.ascontiguousarray(np.vstack([self.scores, self.observed]).T)
        for rows in chunks(len(x)):
            similarity = x[rows] @ self.vectors.T
            if groups is not None:
                similarity[groups[rows, None] == self.groups] = OUT_OF_REACH
            weight = weights(similarity, self.k)
            total = weight.sum(axis=1, dtype=np.float64)
            square = np.einsum("ij,ij->i", weight, weight, dtype=np.float64)
            # Weights whose squares sum to their sum: the sum is Kish's effective number.
            scale = total / np.maximum(square, 1e-24)
            both = (weight @ stacked) * scale[:, None]
            right[rows], seen[rows] = both[:, :m], both[:, m:]
        return right, seen


class _Warm(Part):
    def __init__(
        self,
        items: Callable[[PromptSet], ItemParameters],
        abilities: Abilities,
        costs: MeanCosts,
    ) -> None:
        super().__init__()
        self._items, self._abilities, self._costs = items, abilities, costs

    def compute(self, prompts: PromptSet) -> Forecast:
        p = probabilities(self._items(prompts), self._abilities)
        return Forecast(p_correct=clip_p(p), cost_usd=self._costs.predict(prompts))


def _items(easiness: Float64Array) -> ItemParameters:
    return ItemParameters.exact(np.ones((len(easiness), 1)), easiness)


def _sigmoid(x: Float64Array) -> Float64Array:
    out: Float64Array = 0.5 + 0.5 * np.tanh(0.5 * x)
    return out


def _logit(p: Float64Array) -> Float64Array:
    out: Float64Array = np.log(p / (1 - p))
    return out


def _mean_scores(scores: FloatArray) -> Float64Array:
    """(M,) mean scores with one right and one wrong answer added."""
    observed = ~np.isnan(scores)
    total = np.where(observed, scores, 0.0).sum(axis=1, dtype=np.float64)
    out: Float64Array = (total + 1.0) / (observed.sum(axis=1) + 2.0)
    return out


def _easiness(
    right: Float64Array, seen: Float64Array, theta: Float64Array, smoothing: float
) -> Float64Array:
    """(n,) root of the estimating equation of the class, by safeguarded Newton steps."""
    right = right + smoothing * _sigmoid(theta)
    seen = seen + smoothing
    e = np.zeros(len(right))
    low, high = np.full(len(right), -FURTHEST), np.full(len(right), FURTHEST)
    for _ in range(NEWTON):
        p = _sigmoid(theta + e[:, None])
        gap = (right - seen * p).sum(axis=1)
        low, high = np.where(gap > 0, e, low), np.where(gap > 0, high, e)
        step = e + gap / np.maximum((seen * p * (1 - p)).sum(axis=1), 1e-9)
        e = np.where((step > low) & (step < high), step, (low + high) / 2)
    return e


def _abilities(scores: FloatArray, offset: Float64Array, theta: Float64Array) -> Float64Array:
    """(M,) abilities given easiness (N,); one right and one wrong answer keep them finite."""
    observed = ~np.isnan(scores)
    y = np.where(observed, scores, 0.0).astype(np.float64)
    theta = theta.copy()
    for _ in range(NEWTON):
        p = _sigmoid(theta[:, None] + offset)
        own = _sigmoid(theta)
        gradient = (y - p * observed).sum(axis=1) + 1.0 - 2.0 * own
        curvature = (p * (1 - p) * observed).sum(axis=1) + 2.0 * own * (1 - own)
        theta += np.clip(gradient / np.maximum(curvature, 1e-9), -2.0, 2.0)
    return np.clip(theta, -FURTHEST, FURTHEST)


def _fit_slope(
    scores: FloatArray, easiness: Float64Array, theta: Float64Array
) -> tuple[Float64Array, float]:
    """Abilities (M,) and the one slope of easiness, by alternating Newton steps."""
    observed = ~np.isnan(scores)
    y = np.where(observed, scores, 0.0).astype(np.float64)
    slope = 1.0
    for _ in range(ROUNDS):
        theta = _abilities(scores, slope * easiness, theta)
        p = _sigmoid(theta[:, None] + slope * easiness)
        gradient = ((y - p * observed) * easiness).sum() + (1.0 - slope)  # slope ~ N(1, 1)
        curvature = (p * (1 - p) * observed * easiness**2).sum() + 1.0
        slope = float(np.clip(slope + gradient / curvature, 0.0, 3.0))
    return _abilities(scores, slope * easiness, theta), slope
