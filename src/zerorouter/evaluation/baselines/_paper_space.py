"""The latent space of the published system, fitted by stochastic variational inference.

A D-dimensional 2PL with positive discriminations, P = sigmoid(alpha . (theta - b)) and
alpha = exp(.). All of theta, log alpha and b have Gaussian priors whose mean and standard
deviation, one per dimension, are learned beside them; the posterior is taken as a product of
Gaussians. Each of Adam's steps draws once from it (Kingma & Welling 2014), and its gradients are
written out: with r = y - P at the draw,

    d/d theta_u     = sum_i r_ui alpha_i
    d/d log alpha_i = alpha_i (sum_u r_ui theta_u - b_i sum_u r_ui)
    d/d b_i         = -alpha_i sum_u r_ui
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from zerorouter.irt.model import ItemParameters

STEPS = 500
PEAK_RATE = 0.1  # of Adam, after a short warm-up; then a cosine to nearly zero
MAX_LOG_ALPHA = np.float32(4.0)  # of a draw; guards the exponential, never reached by a fit
GEMM_CELLS = 2**18  # larger products are split over threads, which contend for this little work
NOISE_POOL = 2**20


def difficulty(log_alpha: FloatArray, b: FloatArray) -> Float64Array:
    """(N,) s = alpha . b."""
    out: Float64Array = np.einsum("nd,nd->n", np.exp(log_alpha), b, dtype=np.float64)
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperSpace:
    """A fitted space; posterior means of the variational family.

    Attributes:
        theta: (M, D) abilities.
        log_alpha: (N, D) log discriminations.
        b: (N, D) difficulties.
        theta_mean: (D,) mean of the abilities' prior.
        theta_sd: (D,) its standard deviations.
        answered: (N,) whether any model answered the prompt; the others stand at their prior.
    """

    theta: Float32Array
    log_alpha: Float32Array
    b: Float32Array
    theta_mean: Float32Array
    theta_sd: Float32Array
    answered: BoolArray

    @property
    def items(self) -> ItemParameters:
        """The N items in slope-intercept form: a = alpha, d = -alpha . b."""
        return ItemParameters.exact(np.exp(self.log_alpha), -difficulty(self.log_alpha, self.b))

    @property
    def covariance(self) -> Float64Array:
        """(D, D) prior covariance of an ability."""
        return np.diag(self.theta_sd.astype(np.float64) ** 2)


@dataclass(kw_only=True, eq=False)
class _Gaussians:
    """Mean-field Gaussians under a hierarchical prior, moved by Adam.

    Attributes:
        state: (n, 2, D) means and log standard deviations.
        first: Moving mean of the gradient.
        second: Moving mean of its square.
        centre: (D,) prior mean.
        sd: (D,) prior standard deviation.
    """

    state: Float32Array
    first: Float32Array
    second: Float32Array
    centre: Float32Array
    sd: Float32Array

    @classmethod
    def start(cls, means: Float64Array) -> _Gaussians:
        state = np.stack([means, np.full_like(means, math.log(0.1))], axis=1).astype(np.float32)
        return cls(
            state=state,
            first=np.zeros_like(state),
            second=np.zeros_like(state),
            centre=state[:, 0].mean(axis=0),
            sd=np.ones(means.shape[1], dtype=np.float32),
        )

    def draw(self, rows: slice, noise: Float32Array) -> tuple[Float32Array, Float32Array]:
        """A draw and its offset from the mean, (n, D) each."""
        state = self.state[rows]
        offset = np.exp(state[:, 1])
        offset *= noise
        return state[:, 0] + offset, offset

    def step(self, rows: slice, slope: Float32Array, offset: Float32Array, rate: _Rate) -> None:
        """Climb the evidence bound, given the log-likelihood's slope at the draw (n, D)."""
        state = self.state[rows]
        precision = 1 / self.sd**2
        gradient = np.empty_like(state)
        np.subtract(slope, (state[:, 0] - self.centre) * precision, out=gradient[:, 0])
        # slope * offset is the path's derivative; the entropy adds 1, the prior pulls.
        np.multiply(slope, offset, out=gradient[:, 1])
        gradient[:, 1] += 1 - np.exp(2 * state[:, 1]) * precision
        first, second = self.first[rows], self.second[rows]
        first *= rate.decay
        first += (1 - rate.decay) * gradient
        gradient *= gradient
        second *= rate.decay_squares
        second += (1 - rate.decay_squares) * gradient
        move = np.sqrt(second)
        move *= rate.unbias_squares
        move += np.float32(1e-8)
        np.divide(first, move, out=move)
        move *= rate.size
        state += move

    def learn_prior(self, fixed_sd: float | None) -> None:
        """Prior mean and sd at their mode: the mean is free, 1 / sd ~ Gamma(1, 1)."""
        means, log_sd = self.state[:, 0], self.state[:, 1]
        self.centre = means.mean(axis=0)
        if fixed_sd is not None:
            self.sd = np.full_like(self.sd, fixed_sd)
            return
        n = len(means)
        spread = ((means - self.centre) ** 2 + np.exp(2 * log_sd)).sum(axis=0, dtype=np.float64)
        # With u = 1 / sd: n log u - u^2 spread / 2 - u is largest at
        u = (np.sqrt(1 + 4 * n * spread) - 1) / (2 * spread)
        self.sd = (1 / u).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class _Rate:
    """Adam's figures at one step."""

    size: float
    unbias_squares: float
    decay: float = 0.9
    decay_squares: float = 0.99

    @classmethod
    def at(cls, step: int, n_steps: int) -> _Rate:
        """Warm-up over ten steps, then a cosine down to 3%."""
        cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        size = PEAK_RATE * min(1.0, step / 10) * cosine / (1 - 0.9**step)
        return cls(size=size, unbias_squares=1 / math.sqrt(1 - 0.99**step))


def fit_space(
    scores: FloatArray,
    *,
    n_dims: int,
    rng: np.random.Generator,
    prior_sd: float | None = None,
    n_steps: int = STEPS,
) -> PaperSpace:
    """Fit the D-dimensional 2PL by stochastic variational inference.

    Args:
        scores: (M, N) in [0, 1]; NaN where not administered.
        n_dims: D.
        rng: Draws the start and the noise.
        prior_sd: Standard deviation of all priors; None learns one per family and dimension.
        n_steps: Steps of Adam, each over all responses.
    """
    observed = ~np.isnan(scores)
    half = (0.5 * observed.T).astype(np.float32)  # (N, M)
    centred = np.where(observed, scores - 0.5, 0.0).T.astype(np.float32)  # (N, M)
    n_items, n_models = half.shape
    theta, log_alpha, b = _start(half, centred, n_dims, rng)
    pool = rng.standard_normal(NOISE_POOL, dtype=np.float32)
    chunk = max(1, min(GEMM_CELLS // (n_dims * n_models), NOISE_POOL // (4 * n_dims)))
    everyone = slice(0, n_models)

    def noise(n: int) -> Float32Array:
        # Drawn anew for every step, the noise would cost more than the gradients.
        first = int(rng.integers(0, len(pool) - n * n_dims))
        return pool[first : first + n * n_dims].reshape(n, n_dims)

    for step in range(1, n_steps + 1):
        rate = _Rate.at(step, n_steps)
        ability, ability_offset = theta.draw(everyone, noise(n_models))
        ability_slope = np.zeros_like(ability)
        for start in range(0, n_items, chunk):
            rows = slice(start, min(start + chunk, n_items))
            n = rows.stop - rows.start
            drawn, log_alpha_offset = log_alpha.draw(rows, noise(n))
            place, b_offset = b.draw(rows, noise(n))
            alpha = np.exp(np.minimum(drawn, MAX_LOG_ALPHA, out=drawn), out=drawn)
            slopes = likelihood_slopes(ability, alpha, place, centred[rows], half[rows])
            ability_slope += slopes[0]
            log_alpha.step(rows, slopes[1], log_alpha_offset, rate)
            b.step(rows, slopes[2], b_offset, rate)
        theta.step(everyone, ability_slope, ability_offset, rate)
        if step >= 10 and step % 5 == 0:
            for family in (theta, log_alpha, b):
                family.learn_prior(prior_sd)
    return PaperSpace(
        theta=theta.state[:, 0].copy(),
        log_alpha=log_alpha.state[:, 0].copy(),
        b=b.state[:, 0].copy(),
        theta_mean=theta.centre,
        theta_sd=theta.sd,
        answered=np.asarray(observed.any(axis=0), dtype=np.bool_),
    )


def likelihood_slopes(
    theta: Float32Array,
    alpha: Float32Array,
    b: Float32Array,
    centred: Float32Array,
    half: Float32Array,
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Slopes of the log-likelihood in theta (M, D), log alpha (n, D) and b (n, D).

    With w the mask of the answers and y the scores, ``centred`` is (y - 1/2) w and ``half`` w / 2,
    both (n, M): then (y - P) w = centred - half tanh(logit / 2).
    """
    product = alpha * b
    residual: Float32Array = alpha @ theta.T  # (n, M), a logit first
    residual -= product.sum(axis=1)[:, None]
    residual *= np.float32(0.5)
    np.tanh(residual, out=residual)
    residual *= half
    np.subtract(centred, residual, out=residual)
    total: Float32Array = residual.sum(axis=1)[:, None]
    on_log_alpha: Float32Array = (residual @ theta) * alpha
    on_log_alpha -= total * product
    on_theta: Float32Array = residual.T @ alpha
    on_b: Float32Array = -total * alpha
    return on_theta, on_log_alpha, on_b


def _start(
    half: Float32Array, centred: Float32Array, n_dims: int, rng: np.random.Generator
) -> tuple[_Gaussians, _Gaussians, _Gaussians]:
    """Abilities and difficulties by their mean scores in every dimension, plus a little noise."""
    root = math.sqrt(n_dims)
    asked = 2 * half.sum(axis=1, dtype=np.float64)
    easiness = (centred.sum(axis=1, dtype=np.float64) + asked / 2 + 1) / (asked + 2)  # (N,)
    hardness = np.log((1 - easiness) / easiness)
    answered = 2 * half.sum(axis=0, dtype=np.float64)
    ability = centred.sum(axis=0, dtype=np.float64) / np.maximum(answered, 1)  # (M,)
    ability = (ability - ability.mean()) / max(float(ability.std()), 1e-3)
    n_items, n_models = half.shape
    return (
        _Gaussians.start(
            0.7 * ability[:, None] / root + 0.1 * rng.standard_normal((n_models, n_dims))
        ),
        _Gaussians.start(-math.log(root) + 0.1 * rng.standard_normal((n_items, n_dims))),
        _Gaussians.start(hardness[:, None] / root + 0.1 * rng.standard_normal((n_items, n_dims))),
    )
