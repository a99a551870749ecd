r"""How long the answers are.

.. math:: \log L_{ui} = \ell_i + \text{offset}_u + \text{slope}_u\,b_i
          + \text{stretch}_u\,(\ell_i - \ell_0) + \psi_i \cdot w_u + \epsilon,
          \quad \epsilon \sim N(0, \sigma_u^2)

The level :math:`\ell` is shared by all models and read from the prompt, b is the prompt's
difficulty in standard units. The rest is a model's own: how wordy it is, how much more it writes
on what is hard, how far it follows the others when they write much, and its leanings
:math:`w_u` along facets :math:`\psi` of the prompts (those of `irt.leanings`), under a prior that
keeps them near 0 until hundreds of outputs say otherwise. :math:`\sigma_u` is that of unseen
prompts, the error of the level included.

The mean is the median times a smearing factor: the ratio of what a model wrote to what its
medians add up to, shrunk towards the log-normal :math:`\exp(\sigma_u^2/2)`, so that forecast
dollars add up to real ones. A quantile is the median times :math:`\exp(z_q \sigma_u)`.

A newcomer's numbers are the posterior under a prior that the known models give
(`LengthPrior`): pooled by family, reasoning models apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from zerorouter.predict.quantiles import normal_quantile

LEAST_STRETCH = -0.8  # nobody writes less where everybody else writes more
LONGEST = 32_000.0  # tokens; expectations beyond the usual output limits are not meant
ALTERNATIONS = 30
FARTHEST_DIFFICULTY = 3.0  # standard units; answer lengths are not extrapolated beyond
OFFSET_PRIOR_CELLS = 5.0  # a model's offset and slope count as if this many cells were at 0


def standard_difficulty(intercept: FloatArray, scale: tuple[float, float]) -> Float64Array:
    """(N,) difficulty, in the standard units that lengths depend on, of items.

    Args:
        intercept: (N,) of the items.
        scale: Mean and standard deviation of the intercepts that lengths were fitted with.
    """
    mean, sd = scale
    standard = (mean - np.asarray(intercept, dtype=np.float64)) / sd
    return np.asarray(np.clip(standard, -FARTHEST_DIFFICULTY, FARTHEST_DIFFICULTY))


@dataclass(frozen=True, kw_only=True)
class AnswerLengths:
    """Fitted two-way decomposition of log output lengths.

    Attributes:
        level: (N,) shared log length of each prompt, NaN where none was seen.
        offset: (M,) log length of each respondent relative to the others, NaN where unseen.
        slope: (M,) change of log length per standard unit of difficulty.
        sd: (M,) standard deviation of the residual log length.
        n_cells: (M,) lengths that each respondent rests on.
    """

    level: Float64Array
    offset: Float64Array
    slope: Float64Array
    sd: Float64Array
    n_cells: Float64Array


def fit_answer_lengths(log_length: FloatArray, difficulty: FloatArray) -> AnswerLengths:
    """Alternate between prompt levels and respondents' offsets and slopes.

    Args:
        log_length: (M, N) natural logs of output tokens; NaN where unknown.
        difficulty: (N,) in standard units.
    """
    y = np.asarray(log_length, dtype=np.float64)
    seen = ~np.isnan(y)
    filled = np.where(seen, y, 0.0)
    per_item = np.maximum(seen.sum(axis=0), 1)
    n_cells = seen.sum(axis=1).astype(np.float64)
    offset, slope = np.zeros(len(y)), np.zeros(len(y))
    level = filled.sum(axis=0) / per_item
    b = np.asarray(difficulty, dtype=np.float64)
    design = np.stack([np.ones_like(b), b])  # (2, N)
    # Normal equations of each respondent: cells weighted by the mask, two unknowns.
    gram = np.einsum("pn,mn,qn->mpq", design, seen.astype(np.float64), design)
    gram += OFFSET_PRIOR_CELLS * np.eye(2)
    for _ in range(ALTERNATIONS):
        left = np.where(seen, y - level, 0.0)
        effects = np.linalg.solve(gram, (left @ design.T)[:, :, None])[:, :, 0]
        offset, slope = effects[:, 0], effects[:, 1]
        # The level takes the mean; what remains of it in the effects is removed.
        offset = offset - np.average(offset, weights=n_cells)
        slope = slope - np.average(slope, weights=n_cells)
        fitted = offset[:, None] + slope[:, None] * b
        level = np.where(seen, y - fitted, 0.0).sum(axis=0) / per_item
    residual = np.where(seen, y - level - offset[:, None] - slope[:, None] * b, 0.0)
    pooled = np.sqrt(np.sum(residual**2) / max(seen.sum(), 1))
    sd = np.sqrt((np.sum(residual**2, axis=1) + 5 * pooled**2) / (n_cells + 5))
    unseen = n_cells == 0
    return AnswerLengths(
        level=np.where(seen.any(axis=0), level, np.nan),
        offset=np.where(unseen, np.nan, offset),
        slope=np.where(unseen, np.nan, slope),
        sd=np.where(unseen, np.nan, sd),
        n_cells=n_cells,
    )


@dataclass(frozen=True, kw_only=True)
class LengthProfile:
    """What it takes to forecast output tokens of M models.

    Attributes:
        offset: (M,) including the log of the smearing factor, at a level of 0.
        slope: (M,) change of the log length per standard unit of difficulty.
        stretch: (M,) change per unit of the level; None for zeros.
        leanings: (R, M) change per unit of each facet; None for zeros.
        sd: (M,) of the log length of an unseen prompt; None where no quantile is asked for.
        smear: (M,) log of the mean over the median; None for that of a log-normal, sd^2 / 2.
    """

    offset: Float64Array
    slope: Float64Array
    stretch: Float64Array | None = None
    leanings: Float32Array | None = None
    sd: Float64Array | None = None
    smear: Float64Array | None = None

    def expected_tokens(
        self, level: FloatArray, difficulty: FloatArray, facets: Float32Array | None = None
    ) -> Float64Array:
        """(N, M) expected output tokens.

        Args:
            level: (N,) of the prompts.
            difficulty: (N,) in standard units.
            facets: (N, R) of the prompts, where there are any.
        """
        log_mean: Float64Array = difficulty[:, None] * self.slope
        log_mean += self.offset
        log_mean += level[:, None] * self.growth
        if self.leanings is not None and facets is not None:
            for i in range(len(facets)):  # row by row: a product may round a row by its neighbours
                log_mean[i] += np.dot(facets[i], self.leanings)
        np.exp(log_mean, out=log_mean)
        return np.minimum(log_mean, LONGEST, out=log_mean)

    @cached_property
    def growth(self) -> Float64Array:
        """(M,) or (1,) change of a model's log length per unit of the level."""
        return np.ones(1) if self.stretch is None else 1.0 + self.stretch

    def spread(self, q: float) -> Float64Array:
        """(M,) the ``q``-quantile of output tokens over their expectation.

        Raises:
            ValueError: the profile carries no standard deviations.
        """
        if self.sd is None:
            raise ValueError("a length profile without sd has no quantiles")
        smear = self.sd**2 / 2 if self.smear is None else self.smear
        out: Float64Array = np.exp(normal_quantile(q) * self.sd - smear)
        return out

    def quantile(self, expected: FloatArray, q: float) -> Float64Array:
        """(N, M) the ``q``-quantile of output tokens whose expectation is ``expected``."""
        out: Float64Array = np.minimum(expected * self.spread(q), LONGEST)
        return out


# -- the population of models ----------------------------------------------------------------------

N_EFFECTS = 3  # offset, slope, stretch
POPULATION_ROUNDS = 50
LEANING_ROUNDS = 20
FIRST_VARIANCE = (0.09, 0.01, 0.01)  # where the rounds start
FIRST_LEANING_VARIANCE = 0.1
LEAST_VARIANCE = 1e-4
NOISE_DOF = 8.0  # an unknown model's noise variance counts as if seen on so many outputs
# Records leave out the hidden tokens of reasoning models. Until a profile measures them they are
# assumed to write eight times the visible length, give or take a factor e.
REASONING_LENGTH_FACTOR = 8.0
REASONING_LENGTH_SD = 1.0


@dataclass(frozen=True, kw_only=True)
class LengthPrior:
    """What is expected of a model's offset, slope and stretch before it has answered.

    Attributes:
        mean: (3,) of models that do not reason.
        variance: (3,) between models, within a family.
        family_variance: Variance of the offset between families.
        families: A family's own offset and its error variance, relative to ``mean``.
        leaning_variance: Variance of a leaning along one facet.
        noise_sd: Standard deviation of the log length around all this, pooled over models.
        pivot: The level at which a stretch changes nothing.
        reasoning_offset: Mean offset of models that reason, hidden tokens included.
        reasoning_variance: Variance of their offsets.
    """

    mean: Float64Array
    variance: Float64Array
    family_variance: float
    families: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    leaning_variance: float = 0.0
    noise_sd: float
    pivot: float
    reasoning_offset: float = float(np.log(REASONING_LENGTH_FACTOR))
    reasoning_variance: float = REASONING_LENGTH_SD**2

    def of(self, family: str = "", *, reasoning: bool = False) -> tuple[Float64Array, Float64Array]:
        """Mean (3,) and variance (3,) of the effects of a model of that family."""
        mean, variance = self.mean.copy(), self.variance.copy()
        if reasoning:  # a pool of its own: what it hides outweighs what runs in a family
            mean[0], variance[0] = self.reasoning_offset, self.reasoning_variance
        elif family in self.families:
            shift, error = self.families[family]
            mean[0] += shift
            variance[0] += error
        else:
            variance[0] += self.family_variance
        return mean, variance


@dataclass(frozen=True, kw_only=True)
class LengthPosterior:
    """What is known of a model's answer lengths, with the error bar of its offset.

    Attributes:
        mean: (3,) offset, slope and stretch.
        covariance: (3, 3)
        leanings: (R,) along the facets; empty where there are none.
        sd: Standard deviation of a log length around them.
        pivot: The level at which the stretch changes nothing.
        n_outputs: Outputs that it rests on.
    """

    mean: Float64Array
    covariance: Float64Array
    leanings: Float64Array
    sd: float
    pivot: float
    n_outputs: int

    @property
    def offset(self) -> float:
        """Posterior mean of the offset."""
        return float(self.mean[0])

    @property
    def offset_sd(self) -> float:
        """Its standard error."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def predictive_sd(self) -> float:
        """Standard deviation of the log length of an unseen prompt at the pivot."""
        return float(np.hypot(self.sd, self.offset_sd))

    def profile(self) -> LengthProfile:
        """The forecast of this one model, what is not known of it included."""
        sd, stretch = np.array([self.predictive_sd]), np.maximum(self.mean[2:3], LEAST_STRETCH)
        return LengthProfile(
            offset=self.mean[:1] - stretch * self.pivot + sd**2 / 2,
            slope=self.mean[1:2],
            stretch=stretch,
            leanings=self.leanings[:, None].astype(np.float32) if len(self.leanings) else None,
            sd=sd,
        )


def length_posterior(
    prior: LengthPrior,
    log_length: FloatArray,
    level: FloatArray,
    difficulty: FloatArray,
    facets: FloatArray | None = None,
    *,
    family: str = "",
    reasoning: bool = False,
) -> LengthPosterior:
    """A model's effects from n outputs, five or five thousand.

    Bayesian regression of ``log_length - level`` on (1, difficulty, level - pivot, facets) with
    the noise variance shrunk towards the pooled one.

    Args:
        prior: Of the pool it joins.
        log_length: (n,) natural logs of output tokens; NaN for prompts without one.
        level: (n,) shared levels of the prompts, as the predictor reads them.
        difficulty: (n,) in standard units.
        facets: (n, R) of the prompts; None to leave leanings at 0.
        family: Its family, where known.
        reasoning: Whether it reasons; its output tokens have to count the hidden ones.
    """
    given = np.asarray(log_length, dtype=np.float64)
    seen = ~np.isnan(given)
    y, levels = given[seen], np.asarray(level, dtype=np.float64)[seen]
    mean, variance = prior.of(family, reasoning=reasoning)
    design = _design(levels - prior.pivot, np.asarray(difficulty, dtype=np.float64)[seen])
    if facets is not None and prior.leaning_variance > 0:
        design = np.hstack([design, np.asarray(facets, dtype=np.float64)[seen]])  # (n, 3 + R)
        n_facets = design.shape[1] - N_EFFECTS
        mean = np.append(mean, np.zeros(n_facets))
        variance = np.append(variance, np.full(n_facets, prior.leaning_variance))
    target = y - levels
    noise = prior.noise_sd**2
    effects: Float64Array = mean
    covariance: Float64Array = np.diag(variance)
    for _ in range(4 if len(y) else 0):
        precision = design.T @ design / noise + np.diag(1 / variance)
        covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        moment = design.T @ target / noise + mean / variance
        effects = np.asarray(covariance @ moment, dtype=np.float64)
        squares = np.sum((target - design @ effects) ** 2)
        squares += np.sum((design @ covariance) * design)  # what the effects may yet be off by
        noise = (NOISE_DOF * prior.noise_sd**2 + squares) / (NOISE_DOF + len(y))
    return LengthPosterior(
        mean=effects[:N_EFFECTS],
        covariance=covariance[:N_EFFECTS, :N_EFFECTS],
        leanings=effects[N_EFFECTS:],
        sd=float(np.sqrt(noise)),
        pivot=prior.pivot,
        n_outputs=len(y),
    )


@dataclass(frozen=True, kw_only=True)
class LengthPopulation:
    """M models' effects and the prior that they make up.

    Attributes:
        effects: (M, 3) posterior means; the prior's where nothing was seen.
        variance: (M, 3) posterior variances.
        leanings: (M, R) along the facets, 0 where nothing was seen; R is 0 without facets.
        prior: Of newcomers.
    """

    effects: Float64Array
    variance: Float64Array
    leanings: Float64Array
    prior: LengthPrior


def fit_length_population(
    relative: FloatArray,
    level: FloatArray,
    difficulty: FloatArray,
    facets: FloatArray | None = None,
    *,
    families: Sequence[str],
    reasoning: BoolArray,
    noise_sd: Float64Array,
) -> LengthPopulation:
    """Learn the effects of M models together with the population that they come from.

    Expectation-maximisation of a random-effects model: offsets are a family's plus the model's
    own, slopes and stretches the model's own; then leanings on what is left, all of one
    variance. Models that reason are no part of it.

    Args:
        relative: (M, N) log lengths less the shared level of the prompts; NaN where unknown.
        level: (N,) levels as the predictor reads them.
        difficulty: (N,) in standard units.
        facets: (N, R) of the prompts; None for no leanings.
        families: (M,) family names; "" where unknown.
        reasoning: (M,) whether a model reasons.
        noise_sd: (M,) standard deviation of ``relative`` around the effects.
    """
    y = np.asarray(relative, dtype=np.float64)
    seen = ~np.isnan(y)
    heights = np.asarray(level, dtype=np.float64)
    counted = seen.sum(axis=0)
    pivot = float(np.average(heights, weights=counted)) if counted.any() else 0.0
    design = _design(heights - pivot, np.asarray(difficulty, np.float64))
    weight = 1 / np.asarray(noise_sd, np.float64) ** 2
    gram = np.einsum("np,mn,nq->mpq", design, seen.astype(np.float64), design, optimize=True)
    gram *= weight[:, None, None]
    moment = (np.where(seen, y, 0.0) @ design) * weight[:, None]
    used = np.flatnonzero(seen.any(axis=1) & ~reasoning)
    known = [families[int(i)] for i in used]
    names = sorted(set(known) - {""})
    member = np.array([names.index(name) if name else -1 for name in known], dtype=np.int64)
    mean, variance, between = np.zeros(N_EFFECTS), np.array(FIRST_VARIANCE), 0.04
    shift, shift_error = np.zeros(len(names)), np.full(len(names), between)
    effects = np.zeros((len(used), N_EFFECTS))
    errors = np.tile(variance, (len(used), 1))
    for _ in range(POPULATION_ROUNDS if len(used) > 1 else 0):
        centre = np.tile(mean, (len(used), 1))
        centre[:, 0] += np.where(member >= 0, np.append(shift, 0.0)[member], 0.0)
        covariance = np.linalg.inv(gram[used] + np.diag(1 / variance))
        effects = np.einsum("mpq,mq->mp", covariance, moment[used] + centre / variance)
        errors = np.diagonal(covariance, axis1=1, axis2=2)
        own = effects - centre
        mean = mean + own.mean(axis=0)
        for f in range(len(names)):
            away = effects[member == f, 0] - mean[0]
            shift_error[f] = 1 / (len(away) / variance[0] + 1 / between)
            shift[f] = shift_error[f] * away.sum() / variance[0]
        spread = own**2 + errors
        spread[:, 0] += np.where(member >= 0, np.append(shift_error, 0.0)[member], 0.0)
        variance = np.maximum(spread.mean(axis=0), LEAST_VARIANCE)
        if names:
            between = max(float(np.mean(shift**2 + shift_error)), LEAST_VARIANCE)
    n_facets = 0 if facets is None else np.asarray(facets).shape[1]
    leanings, leaning_variance = np.zeros((len(y), n_facets)), 0.0
    if facets is not None and len(used):
        left = y[used] - effects @ design.T
        leanings[used], leaning_variance = _fit_leanings(
            left, np.asarray(facets, dtype=np.float64), np.asarray(noise_sd)[used] ** 2
        )
    pooled = float(np.sqrt(np.mean(np.asarray(noise_sd)[used] ** 2))) if len(used) else 1.0
    prior = LengthPrior(
        mean=mean,
        variance=variance,
        family_variance=between,
        families={name: (float(shift[f]), float(shift_error[f])) for f, name in enumerate(names)},
        leaning_variance=leaning_variance,
        noise_sd=pooled,
        pivot=pivot,
    )
    means, variances = np.empty((len(y), N_EFFECTS)), np.empty((len(y), N_EFFECTS))
    for i in range(len(y)):
        means[i], variances[i] = prior.of(families[i], reasoning=bool(reasoning[i]))
    means[used], variances[used] = effects, errors
    return LengthPopulation(effects=means, variance=variances, leanings=leanings, prior=prior)


def _fit_leanings(
    left: Float64Array, facets: Float64Array, noise: Float64Array
) -> tuple[Float64Array, float]:
    """Leanings (M, R) on residuals (M, N), and their variance, by EM; noise (M,) is a start."""
    n_models, n_facets = len(left), facets.shape[1]
    parts = []
    for row in left:
        seen = ~np.isnan(row)
        x, y = facets[seen], row[seen]
        parts.append((x.T @ x, x.T @ y, float(y @ y), int(seen.sum())))
    noise, variance = noise.copy(), FIRST_LEANING_VARIANCE
    leanings = np.zeros((n_models, n_facets))
    for _ in range(LEANING_ROUNDS):
        squares = 0.0
        for u, (gram, moment, total, n) in enumerate(parts):
            covariance = np.linalg.inv(gram / noise[u] + np.eye(n_facets) / variance)
            w = covariance @ moment / noise[u]
            leanings[u] = w
            squares += float(w @ w + np.trace(covariance))
            rest = total - 2 * w @ moment + w @ gram @ w + np.sum(covariance * gram)
            noise[u] = max(float(rest), 0.0) / n + 1e-6
        variance = max(squares / (n_models * n_facets), LEAST_VARIANCE**2)
    return leanings, variance


def _design(height: Float64Array, difficulty: Float64Array) -> Float64Array:
    """(N, 3) what offset, slope and stretch multiply."""
    return np.column_stack([np.ones_like(height), difficulty, height])
