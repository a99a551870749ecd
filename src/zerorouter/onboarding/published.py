r"""Published benchmark scores as pseudo-observations of a model's ability.

On the logit scale, where a mean of sigmoids is close to linear in the ability, the score of model
u on benchmark b is

.. math:: \operatorname{logit} s_{ub} = h_b(\theta_u) + \delta_u + \epsilon_{ub}, \qquad
          \delta_u \sim N(0, \omega^2), \quad \epsilon_{ub} \sim N(0, \tau_b^2 + v(s_{ub})),

- :math:`h_b(\theta) = c_b + \operatorname{logit} \bar P_b(\theta)` where the space has calibrated
  items of the benchmark (*linked*; :math:`\bar P_b` is the mean of P(correct) over them and
  :math:`c_b`, near 0, is what other shots, graders and subsets make of it),
- :math:`h_b(\theta) = \lambda_b \cdot \theta + c_b` where it has none (*learned*).

:math:`\delta_u` is what all scores of one model have in common beyond its ability: its maker's
way of measuring, prompts tuned to the benchmarks. Without it ten scores would pretend to ten
independent witnesses. :math:`v` is one point of the score, which counts near 0 and 1.

Loadings and offsets are fitted by expectation and maximisation over a matrix of published scores,
jointly with the abilities: those of respondents of the space enter at their posterior, those of
others at their card's prior. It is a linear factor analysis with partly known factors (Rubin &
Thayer 1982); small samples are shrunk towards what benchmarks have in common, and what is left
uncertain of a loading widens the pseudo-observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
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
SHARED_VARIANCE, SHARED_WEIGHT = 0.05, 5.0  # of delta, and its models


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
        shared_variance: omega^2.
        n_models: (B,) published scores that a benchmark's figures rest on.
        links: Items of linked benchmarks.
    """

    benchmarks: tuple[str, ...]
    loading: Float64Array
    offset: Float64Array
    uncertainty: Float64Array
    variance: Float64Array
    shared_variance: float
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

        The precision that is added is positive semidefinite: no variance ever grows.
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
        weight = np.linalg.inv(np.diag(noise) + self.shared_variance)
        target = np.array([logit(score) for score in seen])
        precision = np.linalg.inv(scale)
        theta, folded = centre, scale
        for _ in range(LINEARISATIONS):
            read = [self.expected(name, theta) for name in known]
            slopes = np.array([gradient for _, gradient in read])
            off = target - np.array([value for value, _ in read]) + slopes @ theta
            folded = np.linalg.inv(precision + slopes.T @ weight @ slopes)
            step = folded @ (precision @ centre + slopes.T @ weight @ off) - theta
            theta = theta + step
            if float(np.max(np.abs(step))) < SETTLED or not self.links.keys() & known.keys():
                break
        return theta, (folded + folded.T) / 2


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


@dataclass(kw_only=True, eq=False)
class _Sums:
    """What the maximisation of one benchmark needs of its models."""

    rows: np.ndarray  # models with a score
    target: Float64Array
    noise: Float64Array  # v(s)


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
        known: (M,) whether a model is a respondent; the shared variance is told by these alone.
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
    linked = dict(links or {})
    counts = dict(
        zip(matrix.benchmarks, (~np.isnan(matrix.scores)).sum(axis=0).tolist(), strict=True)
    )
    names = tuple(
        name
        for name in sorted({*matrix.benchmarks, *linked})
        if name in linked or counts[name] >= LEAST_MODELS
    )
    scores = np.full((m, len(names)), np.nan)
    for b, name in enumerate(names):
        if name in matrix.benchmarks:
            scores[:, b] = matrix.scores[:, matrix.benchmarks.index(name)]
    return _Fitting(
        names=names,
        scores=scores,
        means=np.asarray(means, dtype=np.float64),
        covariances=np.asarray(covariances, dtype=np.float64),
        known=np.asarray(known, dtype=np.bool_),
        links=linked,
    ).run()


@dataclass(kw_only=True, eq=False)
class _Fitting:
    names: tuple[str, ...]
    scores: Float64Array
    means: Float64Array
    covariances: Float64Array
    known: np.ndarray
    links: Mapping[str, Link]

    def run(self) -> ScoreModel:
        m, k = self.means.shape
        n = len(self.names)
        seen = ~np.isnan(self.scores)
        clipped = np.clip(np.where(seen, self.scores, 0.5), FARTHEST_SCORE, 1 - FARTHEST_SCORE)
        target = np.log(clipped) - np.log1p(-clipped)
        rounding = rounding_variance(clipped)
        # The state of a model: its ability, and what its scores have in common beyond it.
        x = np.hstack([self.means, np.zeros((m, 1))])
        spread = np.zeros((m, k + 1, k + 1))
        loading = np.zeros((n, k))
        loading[:, 0] = [0.0 if name in self.links else LOADING_MEAN for name in self.names]
        offset = np.zeros(n)
        uncertainty = np.zeros((n, k + 1, k + 1))
        variance, shared = np.full(n, VARIANCE), SHARED_VARIANCE
        centre = np.zeros(k)
        centre[0] = LOADING_MEAN
        pooled = VARIANCE
        for b, name in enumerate(self.names):
            if name not in self.links and seen[:, b].any():
                rows = seen[:, b]
                offset[b] = np.mean(target[rows, b] - self.means[rows] @ loading[b])
        for _ in range(ROUNDS):
            values, slopes = self._read(x[:, :k], loading, offset)
            for u in range(m):
                at = np.flatnonzero(seen[u])
                prior = np.zeros((k + 1, k + 1))
                prior[:k, :k] = np.linalg.inv(self.covariances[u])
                prior[k, k] = 1 / shared
                jacobian = np.hstack([slopes[u, at], np.ones((len(at), 1))])
                weight = 1 / (variance[at] + rounding[u, at])
                off = target[u, at] - values[u, at] + slopes[u, at] @ x[u, :k]
                precision = prior + (jacobian.T * weight) @ jacobian
                start = np.append(self.means[u], 0.0)
                spread[u] = np.linalg.inv(precision)
                x[u] = spread[u] @ (prior @ start + jacobian.T @ (weight * off))
            values, slopes = self._read(x[:, :k], loading, offset)
            learned = []
            residual = np.zeros(n)
            for b, name in enumerate(self.names):
                rows = np.flatnonzero(seen[:, b])
                weight = 1 / (variance[b] + rounding[rows, b])
                free = target[rows, b] - x[rows, k]
                if name in self.links:
                    left = free - (values[rows, b] - offset[b])
                    precision = weight.sum() + 1 / self.links[name].offset_sd ** 2
                    offset[b] = float(weight @ left) / precision
                    uncertainty[b] = 0.0
                    uncertainty[b, k, k] = 1 / precision
                    error = left - offset[b]
                    lead = np.hstack([slopes[rows, b], np.ones((len(rows), 1))])
                else:
                    z = np.hstack([x[rows, :k], np.ones((len(rows), 1))])
                    gram = (z.T * weight) @ z
                    gram[:k, :k] += np.einsum("u,uij->ij", weight, spread[rows, :k, :k])
                    # Where the ability is uncertain, so is what it shares with delta.
                    cross = -np.einsum("u,ui->i", weight, spread[rows, :k, k])
                    prior_precision = np.diag(
                        [LOADING_SD**-2, *[SPECIFIC_SD**-2] * (k - 1), OFFSET_SD**-2]
                    )
                    right = z.T @ (weight * free) + prior_precision @ np.append(centre, 0.0)
                    right[:k] += cross
                    uncertainty[b] = np.linalg.inv(gram + prior_precision)
                    found = uncertainty[b] @ right
                    loading[b], offset[b] = found[:k], float(found[k])
                    learned.append(found[:k])
                    error = free - z @ found
                    lead = np.hstack([np.tile(loading[b], (len(rows), 1)), np.ones((len(rows), 1))])
                squares = error**2 + np.einsum("ui,uij,uj->u", lead, spread[rows], lead)
                # What rounding explains of a residual is not the benchmark's own.
                share = variance[b] / (variance[b] + rounding[rows, b])
                own = share**2 * squares + (1 - share) * variance[b]
                residual[b] = float(own.sum())
            counts = seen.sum(axis=0)
            pooled = float(
                (residual.sum() + VARIANCE_WEIGHT * VARIANCE) / (counts.sum() + VARIANCE_WEIGHT)
            )
            variance = (residual + VARIANCE_WEIGHT * pooled) / (counts + VARIANCE_WEIGHT)
            if learned:
                total = np.sum(learned, axis=0)
                start = np.zeros(k)
                start[0] = LOADING_WEIGHT * LOADING_MEAN
                centre = (total + start) / (len(learned) + LOADING_WEIGHT)
                centre[1:] = 0.0
            told = self.known & (seen.sum(axis=1) > 1)
            second = x[told, k] ** 2 + spread[told, k, k]
            shared = float(
                (second.sum() + SHARED_WEIGHT * SHARED_VARIANCE) / (told.sum() + SHARED_WEIGHT)
            )
        return ScoreModel(
            benchmarks=self.names,
            loading=loading,
            offset=offset,
            uncertainty=uncertainty,
            variance=variance,
            shared_variance=shared,
            n_models=seen.sum(axis=0).astype(np.float64),
            links=dict(self.links),
        )

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
