r"""Published benchmark scores as pseudo-observations of a model's ability.

On the logit scale, where a mean of sigmoids is close to linear in the ability, the score of model
u on benchmark b is

.. math:: \operatorname{logit} s_{ub} = h_b(\theta_u + \delta_u) + \epsilon_{ub}, \qquad
          \delta_u \sim N(0, \Omega), \quad \epsilon_{ub} \sim N(0, \tau_b^2 + v(s_{ub})),

- :math:`h_b(\theta) = c_b + \operatorname{logit} \bar P_b(\theta)` where the space has calibrated
  items of the benchmark (*linked*; :math:`\bar P_b` is the mean of P(correct) over them and
  :math:`c_b`, near 0, is what other shots, graders and subsets make of it),
- :math:`h_b(\theta) = \lambda_b \cdot \theta + c_b` where it has none (*learned*).

:math:`\delta_u` is how the model that its maker measured differs from the one that answers here, in
all its scores at once: the way of asking, prompts tuned to the benchmarks, another version. Without
it thirty scores would pretend to thirty independent witnesses; with it no number of scores places
a model more surely than :math:`\Omega` allows. :math:`v` is one point of the score, which counts
near 0 and 1.

Loadings and offsets are fitted by expectation and maximisation over a matrix of published scores,
jointly with the abilities: a linear factor analysis with partly known factors (Rubin & Thayer
1982). Respondents of the space enter at their posterior and come first: benchmarks that enough of
them have published are fitted on them alone. Other models then enter at their card's prior, are
placed by those benchmarks, and tell the loadings of the rest; were they to have a say in the
first step, what cards get wrong of all of them would pass into the offsets
(docs/results/scores.md). Small samples are shrunk towards what benchmarks have in common, and what
is left uncertain of a loading widens the pseudo-observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import CalibrationError
from zerorouter.irt.model import ItemParameters

LEAST_MODELS = 5
"""Models with a published score of a benchmark from which on its loading is learned."""

ONE_POINT = 0.01
"""Standard deviation of a score on its own scale, whatever the benchmark: sampling, rounding."""

FARTHEST_SCORE = 0.005  # a score of 0 or 1 is taken for this much off it
MOST_ITEMS = 200
"""Items by which a benchmark's mean P(correct) is told."""

ROUNDS = 25  # of expectation and maximisation
LINEARISATIONS = 25
SETTLED = 1e-5
# Priors, on the logit scale and in standard deviations of the population of respondents.
LOADING_MEAN, LOADING_SD, SPECIFIC_SD = 1.0, 0.5, 0.3
LOADING_WEIGHT = 5.0  # benchmarks that the prior of the mean loading counts for
OFFSET_SD = 2.0  # of a learned benchmark
VARIANCE, VARIANCE_WEIGHT = 0.15, 4.0  # of one score around its benchmark, and its observations
TAILS = 3.0  # variance over scale of a card's Student prior of 3 degrees of freedom
SHARED_VARIANCE, SHARED_WEIGHT = 0.15, 5.0  # of delta in each dimension, and its models


@dataclass(frozen=True, kw_only=True, eq=False)
class Link:
    """The calibrated items of a benchmark.

    Attributes:
        items: (n, K) them, or a sample.
        offset_sd: Prior standard deviation of ``c_b``: how alike they are to the benchmark.
    """

    items: ItemParameters
    offset_sd: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreMatrix:
    """Published scores.

    Attributes:
        models: (M,) names.
        benchmarks: (B,) names.
        scores: (M, B) in [0, 1]; NaN where nothing was published.
    """

    models: tuple[str, ...]
    benchmarks: tuple[str, ...]
    scores: Float64Array

    def of(self, model: str) -> dict[str, float]:
        """The scores of a model by benchmark; empty where none are known."""
        if model not in self.models:
            return {}
        row = self.scores[self.models.index(model)]
        return {
            name: float(score)
            for name, score in zip(self.benchmarks, row, strict=True)
            if not np.isnan(score)
        }

    def without(self, models: Sequence[str]) -> ScoreMatrix:
        """The matrix without the rows of these models."""
        left = [i for i, name in enumerate(self.models) if name not in set(models)]
        return replace(self, models=tuple(self.models[i] for i in left), scores=self.scores[left])


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreModel:
    """How published scores read an ability of K dimensions.

    Attributes:
        benchmarks: (B,) names.
        loading: (B, K) on the ability; 0 for linked benchmarks, which read it by their items.
        offset: (B,) c_b.
        uncertainty: (B, K+1, K+1) posterior covariance of (loading, offset).
        variance: (B,) tau_b^2.
        shared_variance: (K,) diagonal of Omega.
        n_models: (B,) published scores that a benchmark's figures rest on.
        links: Items of linked benchmarks.
    """

    benchmarks: tuple[str, ...]
    loading: Float64Array
    offset: Float64Array
    uncertainty: Float64Array
    variance: Float64Array
    shared_variance: Float64Array
    n_models: Float64Array
    links: Mapping[str, Link] = field(default_factory=dict)

    def restricted(self, kept: Sequence[bool], links: Mapping[str, Link]) -> ScoreModel:
        """Some of its benchmarks, with other links.

        Args:
            kept: (B,) which ones.
            links: Items of linked benchmarks.
        """
        at = np.flatnonzero(kept)
        names = tuple(self.benchmarks[int(b)] for b in at)
        return replace(
            self,
            benchmarks=names,
            loading=self.loading[at],
            offset=self.offset[at],
            uncertainty=self.uncertainty[at],
            variance=self.variance[at],
            n_models=self.n_models[at],
            links={name: links[name] for name in names if name in links},
        )

    def known(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Those of the scores that it can read, in its own order."""
        return {name: scores[name] for name in self.benchmarks if name in scores}

    def expected(self, name: str, theta: FloatArray) -> tuple[float, Float64Array]:
        """The logit of a benchmark's score at an ability (K,), and its gradient."""
        b = self.benchmarks.index(name)
        where = np.asarray(theta, dtype=np.float64)
        if name not in self.links:
            return float(self.loading[b] @ where + self.offset[b]), self.loading[b]
        mean, gradient = mean_accuracy(self.links[name].items, where)
        return logit(mean) + float(self.offset[b]), gradient / max(mean * (1 - mean), 1e-9)

    def fold(
        self, scores: Mapping[str, float], mean: FloatArray, covariance: FloatArray
    ) -> tuple[Float64Array, Float64Array]:
        """A Gaussian prior (K,), (K, K) sharpened by published scores; unknown names are skipped.

        No variance ever grows.
        """
        centre = np.asarray(mean, dtype=np.float64)
        scale = np.asarray(covariance, dtype=np.float64)
        known = self.known(scores)
        if not known:
            return centre, scale
        at = [self.benchmarks.index(name) for name in known]
        extended = np.append(centre, 1.0)
        seen = np.array(list(known.values()))
        noise = (
            self.variance[at]
            + np.einsum("bij,i,j->b", self.uncertainty[at], extended, extended)
            + rounding_variance(seen)
        )
        target = np.array([logit(score) for score in seen])
        # The ability that the scores show, theta + delta, and then theta given it.
        shown = scale + np.diag(self.shared_variance)
        precision = np.linalg.inv(shown)
        where, left = centre, shown
        for _ in range(LINEARISATIONS):
            read = [self.expected(name, where) for name in known]
            slopes = np.array([gradient for _, gradient in read])
            off = target - np.array([value for value, _ in read]) + slopes @ where
            weighted = slopes.T / noise
            left = np.linalg.inv(precision + weighted @ slopes)
            step = left @ (precision @ centre + weighted @ off) - where
            where = where + step
            if float(np.max(np.abs(step))) < SETTLED or not self.links.keys() & known.keys():
                break
        gain = scale @ precision
        folded = scale - gain @ scale + gain @ left @ gain.T
        return centre + gain @ (where - centre), (folded + folded.T) / 2


def sample_of_items(items: ItemParameters, at: IntArray) -> ItemParameters:
    """At most `MOST_ITEMS` of the items at positions ``at``, evenly spread."""
    step = max(len(at) // MOST_ITEMS, 1)
    return items.take(at[::step][:MOST_ITEMS])


def logit(p: float) -> float:
    """ln(p / (1 - p)), kept off the ends."""
    q = min(max(p, FARTHEST_SCORE), 1 - FARTHEST_SCORE)
    return float(np.log(q) - np.log1p(-q))


def rounding_variance(scores: FloatArray) -> Float64Array:
    """Variance on the logit scale of `ONE_POINT` of each score."""
    s = np.clip(np.asarray(scores, dtype=np.float64), FARTHEST_SCORE, 1 - FARTHEST_SCORE)
    out: Float64Array = (ONE_POINT / (s * (1 - s))) ** 2
    return out


def mean_accuracy(items: ItemParameters, theta: FloatArray) -> tuple[float, Float64Array]:
    """Mean P(correct) over items at an ability, item effects integrated out, and its gradient."""
    means, gradients = _mean_accuracies(items, np.asarray(theta, dtype=np.float64)[None])
    return float(means[0]), gradients[0]


def _mean_accuracies(
    items: ItemParameters, theta: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """The same at (M, K) abilities: (M,) means and (M, K) gradients."""
    extended = np.hstack([theta, np.ones((len(theta), 1))])
    spread = np.einsum("mi,ij,mj->m", extended, items.effect_covariance, extended)
    shrink = 1 / np.sqrt(1 + np.pi / 8 * spread[:, None] * items.effect_scale.astype(np.float64))
    a = items.discrimination.astype(np.float64)
    sigma = 0.5 + 0.5 * np.tanh(0.5 * shrink * (theta @ a.T + items.intercept))
    c = items.guessing.astype(np.float64)
    slope = (1 - c) * sigma * (1 - sigma) * shrink
    return (c + (1 - c) * sigma).mean(axis=1), slope @ a / len(c)


# -- fitting -------------------------------------------------------------------------------------


def fit_scores(
    matrix: ScoreMatrix,
    means: FloatArray,
    covariances: FloatArray,
    known: Sequence[bool],
    links: Mapping[str, Link] | None = None,
) -> ScoreModel:
    """Loadings, offsets and variances from published scores.

    Args:
        matrix: (M, B) scores.
        means: (M, K) abilities: posterior means of respondents, prior means of other models.
        covariances: (M, K, K) theirs.
        known: (M,) whether a model is a respondent.
        links: Items of linked benchmarks. One without any score keeps its prior.

    Raises:
        CalibrationError: shapes differ.
    """
    m, k = np.shape(means)
    if matrix.scores.shape[0] != m or np.shape(covariances) != (m, k, k) or len(known) != m:
        raise CalibrationError(
            f"published scores of {matrix.scores.shape[0]} models and abilities of {m}; wanted as "
            "many abilities, covariances and flags as rows of the matrix"
        )
    told = np.asarray(known, dtype=np.bool_)
    centre, scale = np.asarray(means, np.float64), np.asarray(covariances, np.float64)
    if told.all() or not told.any():
        return _fitted(matrix, centre, scale, dict(links or {}))
    others = [name for name, is_known in zip(matrix.models, told, strict=True) if not is_known]
    first = _fitted(matrix.without(others), centre[told], scale[told], dict(links or {}))
    wide = np.where(told[:, None, None], scale, TAILS * scale)
    return _fitted(matrix, centre, wide, dict(links or {}), first)


def _fitted(
    matrix: ScoreMatrix,
    means: Float64Array,
    covariances: Float64Array,
    links: Mapping[str, Link],
    first: ScoreModel | None = None,
) -> ScoreModel:
    """A fit over all models alike; what ``first`` knows stays as it is."""
    counts = dict(
        zip(matrix.benchmarks, (~np.isnan(matrix.scores)).sum(axis=0).tolist(), strict=True)
    )
    names = tuple(
        name
        for name in sorted({*matrix.benchmarks, *links})
        if name in links or counts[name] >= LEAST_MODELS
    )
    scores = np.full((len(matrix.models), len(names)), np.nan)
    for b, name in enumerate(names):
        if name in matrix.benchmarks:
            scores[:, b] = matrix.scores[:, matrix.benchmarks.index(name)]
    return _Fitting(
        names=names, scores=scores, means=means, covariances=covariances, links=links, first=first
    ).run()


@dataclass(kw_only=True, eq=False)
class _State:
    """What the rounds improve; see `ScoreModel`. ``centre`` is the mean of learned loadings."""

    loading: Float64Array
    offset: Float64Array
    uncertainty: Float64Array
    variance: Float64Array
    shared: Float64Array
    centre: Float64Array


@dataclass(kw_only=True, eq=False)
class _Fitting:
    names: tuple[str, ...]
    scores: Float64Array
    means: Float64Array
    covariances: Float64Array
    links: Mapping[str, Link]
    first: ScoreModel | None

    def run(self) -> ScoreModel:
        m, k = self.means.shape
        n = len(self.names)
        seen = ~np.isnan(self.scores)
        counts = seen.sum(axis=0).astype(np.float64)
        clipped = np.clip(np.where(seen, self.scores, 0.5), FARTHEST_SCORE, 1 - FARTHEST_SCORE)
        target = np.log(clipped) - np.log1p(-clipped)
        rounding = rounding_variance(clipped)
        linked = np.array([name in self.links for name in self.names], dtype=np.bool_)
        told = seen.sum(axis=1) > 1
        x = self.means.copy()  # what scores show of each model, theta + delta
        spread = np.zeros((m, k, k))
        state = _State(
            loading=np.zeros((n, k)),
            offset=np.zeros(n),
            uncertainty=np.zeros((n, k + 1, k + 1)),
            variance=np.full(n, VARIANCE),
            shared=np.full(k, SHARED_VARIANCE),
            centre=np.append(LOADING_MEAN, np.zeros(k - 1)),
        )
        state.loading[~linked] = state.centre
        for b in range(n):
            rows = seen[:, b]
            if not linked[b] and rows.any():
                state.offset[b] = np.mean(target[rows, b] - x[rows] @ state.loading[b])
        fixed = self._take_over(state)
        for _ in range(ROUNDS):
            self._expect(state, target, rounding, seen, x, spread)
            values, slopes = self._read(x, state.loading, state.offset)
            own = np.zeros(n)
            for b in np.flatnonzero(~fixed).tolist():
                rows = np.flatnonzero(seen[:, b])
                if linked[b]:
                    free = target[rows, b] - (values[rows, b] - state.offset[b])
                    self._place_link(state, b, free, rounding[rows, b])
                    error, lead = free - state.offset[b], slopes[rows, b]
                else:
                    error = self._regress(
                        state, b, target[rows, b], rounding[rows, b], x[rows], spread[rows]
                    )
                    lead = np.broadcast_to(state.loading[b], (len(rows), k))
                squares = error**2 + np.einsum("ui,uij,uj->u", lead, spread[rows], lead)
                # What rounding explains of a residual is not the benchmark's own.
                share = state.variance[b] / (state.variance[b] + rounding[rows, b])
                own[b] = float((share**2 * squares + (1 - share) * state.variance[b]).sum())
            free_counts = np.where(fixed, 0.0, counts)
            pooled = (own.sum() + VARIANCE_WEIGHT * VARIANCE) / (
                free_counts.sum() + VARIANCE_WEIGHT
            )
            found = (own + VARIANCE_WEIGHT * pooled) / (counts + VARIANCE_WEIGHT)
            state.variance = np.where(fixed, state.variance, found)
            general = state.loading[~linked, 0]
            state.centre[0] = (general.sum() + LOADING_WEIGHT * LOADING_MEAN) / (
                len(general) + LOADING_WEIGHT
            )
            if self.first is None:
                state.shared = self._shared(state.shared, told, x, spread)
        return ScoreModel(
            benchmarks=self.names,
            loading=state.loading,
            offset=state.offset,
            uncertainty=state.uncertainty,
            variance=state.variance,
            shared_variance=state.shared,
            n_models=counts,
            links=dict(self.links),
        )

    def _take_over(self, state: _State) -> BoolArray:
        """(B,) benchmarks that an earlier fit settled; their figures are copied."""
        fixed = np.zeros(len(self.names), dtype=np.bool_)
        if self.first is None:
            return fixed
        state.shared = self.first.shared_variance
        for b, name in enumerate(self.names):
            # One without scores in the earlier fit was left at its prior there.
            if name not in self.first.benchmarks:
                continue
            at = self.first.benchmarks.index(name)
            if self.first.n_models[at] >= LEAST_MODELS:
                fixed[b] = True
                state.loading[b], state.offset[b] = self.first.loading[at], self.first.offset[at]
                state.uncertainty[b] = self.first.uncertainty[at]
                state.variance[b] = self.first.variance[at]
        return fixed

    def _expect(
        self,
        state: _State,
        target: Float64Array,
        rounding: Float64Array,
        seen: BoolArray,
        x: Float64Array,
        spread: Float64Array,
    ) -> None:
        """Posterior of what each model's scores show; writes ``x`` and ``spread``."""
        values, slopes = self._read(x, state.loading, state.offset)
        for u in range(len(x)):
            at = np.flatnonzero(seen[u])
            prior = np.linalg.inv(self.covariances[u] + np.diag(state.shared))
            jacobian = slopes[u, at]
            weighted = jacobian.T / (state.variance[at] + rounding[u, at])
            off = target[u, at] - values[u, at] + jacobian @ x[u]
            spread[u] = np.linalg.inv(prior + weighted @ jacobian)
            x[u] = spread[u] @ (prior @ self.means[u] + weighted @ off)

    def _place_link(
        self, state: _State, b: int, free: Float64Array, rounding: Float64Array
    ) -> None:
        """The offset of a linked benchmark."""
        weight = 1 / (state.variance[b] + rounding)
        precision = weight.sum() + 1 / self.links[self.names[b]].offset_sd ** 2
        state.offset[b] = float(weight @ free) / precision
        state.uncertainty[b, -1, -1] = 1 / precision

    def _regress(
        self,
        state: _State,
        b: int,
        target: Float64Array,
        rounding: Float64Array,
        x: Float64Array,
        spread: Float64Array,
    ) -> Float64Array:
        """Loading and offset of a learned benchmark; returns its residuals."""
        k = x.shape[1]
        weight = 1 / (state.variance[b] + rounding)
        z = np.hstack([x, np.ones((len(x), 1))])
        precision = (z.T * weight) @ z
        precision[:k, :k] += np.einsum("u,uij->ij", weight, spread)
        prior = np.array([LOADING_SD**-2, *[SPECIFIC_SD**-2] * (k - 1), OFFSET_SD**-2])
        precision += np.diag(prior)
        state.uncertainty[b] = np.linalg.inv(precision)
        found = state.uncertainty[b] @ (
            z.T @ (weight * target) + prior * np.append(state.centre, 0)
        )
        state.loading[b], state.offset[b] = found[:k], float(found[k])
        out: Float64Array = target - z @ found
        return out

    def _shared(
        self, shared: Float64Array, told: BoolArray, x: Float64Array, spread: Float64Array
    ) -> Float64Array:
        """The diagonal of Omega, from models whose answers tell theta."""
        total = SHARED_WEIGHT * SHARED_VARIANCE + np.zeros_like(shared)
        for u in np.flatnonzero(told):
            gain = np.diag(shared) @ np.linalg.inv(self.covariances[u] + np.diag(shared))
            delta = gain @ (x[u] - self.means[u])
            left = np.diag(shared) - gain @ np.diag(shared) + gain @ spread[u] @ gain.T
            total += delta**2 + np.diagonal(left)
        out: Float64Array = total / (told.sum() + SHARED_WEIGHT)
        return out

    def _read(
        self, theta: Float64Array, loading: Float64Array, offset: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """(M, B) expected logits and (M, B, K) gradients."""
        values = theta @ loading.T + offset
        slopes = np.broadcast_to(loading, (len(theta), *loading.shape)).copy()
        for b, name in enumerate(self.names):
            if name in self.links:
                mean, gradient = _mean_accuracies(self.links[name].items, theta)
                safe = np.clip(mean, 1e-6, 1 - 1e-6)
                values[:, b] = np.log(safe) - np.log1p(-safe) + offset[b]
                slopes[:, b] = gradient / (safe * (1 - safe))[:, None]
        return values, slopes
