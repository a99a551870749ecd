r"""Joint calibration of items and respondents, with prompt features and a population prior.

The model. With :math:`\beta_i = (a_i, d_i)` the parameters of item i, :math:`\phi_i` its
features, :math:`\delta_b` the intercept of its data set, :math:`z_u` the covariates of
respondent u,

.. math::

    \text{logit } P_{ui} &= a_i \cdot \theta_u + d_i \\
    \beta_i &= W^T \phi_i + (0, \delta_{b(i)}) + e_i, \quad e_i \sim N(0, \Psi) \\
    \theta_u &\sim N(B^T z_u, I)

This is explanatory item response theory (De Boeck & Wilson 2004): a regression of the item
parameters on features, fitted together with the responses, and a shrunken random effect for
what the features do not tell.

How it is fitted, and why so:

- **Majorise, then minimise.** The curvature of the logistic likelihood is at most 1/4
  (Böhning 1992), so one quadratic with a *shared* Hessian majorises all items of a block: an
  update of 20,000 items is a handful of matrix products and one small solve. A cell that was
  not administered has gradient zero and the same curvature bound, so scattered missing cells
  need no Hessian of their own. Every step lowers the bound; steps are over-relaxed
  (:math:`\omega < 2` keeps the descent).
- **Uncertainty shrinks.** Posterior covariances of items and respondents enter each other's
  updates, as in variational EM, with the average curvature found in the data in place of 1/4.
  Joint maximum a posteriori fits without this overfit discriminations when respondents are few.
- **Variances are learned.** :math:`\Psi` is the mean outer product of the item effects plus
  their posterior covariance; the ridge of W is chosen per output by generalised
  cross-validation.
- **A block** is a set of items given to the same respondents, in practice a data set;
  blocks may share respondents, which is what links their scales.

The scale is fixed by the unit population variance, the rest by `identification.rotate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray, IntArray
from zerorouter.errors import CalibrationError
from zerorouter.irt.model import Abilities, ItemParameters
from zerorouter.irt.ridge import RidgeRegression

BOUND = np.float32(0.25)  # largest curvature of the logistic log-likelihood (Böhning 1992)
CHUNK = 1024  # items handled at a time: the chunk's responses stay in the processor's cache


class Convergence(Enum):
    """What came of the fit; the value is the advice to a person."""

    CONVERGED = "the logits stopped moving; the fit can be used"
    ITERATION_LIMIT = (
        "the iteration limit was reached before the logits settled; raise max_iterations, "
        "or lower n_dims if respondents are few"
    )


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """How to fit; the defaults suit tens to hundreds of respondents.

    Attributes:
        n_dims: K, the number of latent dimensions.
        max_iterations: Alternations of items and respondents at most.
        tolerance: Stop when the root mean square change of a sample of logits from one
            iteration to the next falls below it. Logits are compared because abilities may
            drift along directions that change no probability.
        relaxation: Over-relaxation of the majorised steps, in [1, 2).
        feature_ridge: Penalty of the feature weights in units of items; None chooses it per
            output by generalised cross-validation.
        effect_prior_items: Weight, in items, of the prior on the item effects' covariance.
        seed: Seed of the start (only ties in the spectrum depend on it).
    """

    n_dims: int = 4
    max_iterations: int = 60
    tolerance: float = 1e-2
    relaxation: float = 1.7
    feature_ridge: float | None = None
    effect_prior_items: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.n_dims < 1:
            raise CalibrationError(f"n_dims is {self.n_dims}; at least 1 is needed")
        if not 1.0 <= self.relaxation < 2.0:
            raise CalibrationError(
                f"relaxation is {self.relaxation}; the descent holds for 1 <= relaxation < 2"
            )


@dataclass(frozen=True, kw_only=True)
class FeatureRegression:
    """The regression of item parameters on features: the predictor of unseen prompts.

    Attributes:
        weights: (F+1, K+1); the last row is the constant, the last column the intercept d.
        effect_covariance: (K+1, K+1), Psi, what the features leave unexplained.
        ridge: (K+1,) penalties used, in units of items.
    """

    weights: Float32Array
    effect_covariance: Float32Array
    ridge: Float64Array


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A fitted latent space, in the order of the rows and columns it was given.

    Attributes:
        abilities: Posterior of the M respondents.
        items: The N calibrated items; their ``effect_scale`` is the share of Psi left.
        regression: The feature regression; without features only its constant.
        population: (C+1, K) regression of abilities on covariates, the last row the constant.
        block_intercepts: (B,) intercept of each block around their item-weighted mean of 0.
        status: Whether it converged.
        n_iterations: Alternations made.
        log_loss: Mean log-loss of the observed cells at the posterior means, in nats.
        n_responses: Observed cells.
    """

    abilities: Abilities
    items: ItemParameters
    regression: FeatureRegression
    population: Float32Array
    block_intercepts: Float32Array
    status: Convergence
    n_iterations: int
    log_loss: float
    n_responses: int


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Items answered by the same respondents, with their responses laid out for speed.

    With w the mask and y the scores, ``centred = (y - 1/2) w`` and ``half = w / 2``, so that
    the score residual without guessing is ``centred - half * tanh(logit / 2)``.
    """

    items: IntArray  # (n,) positions in the full order
    respondents: IntArray  # (m,)
    centred: Float32Array  # (n, m)
    half: Float32Array  # (n, m)
    share: Float64Array  # (m,) share of the items that each respondent answered
    guessing: Float32Array | None  # (n,)

    @property
    def density(self) -> float:
        """Share of observed cells."""
        return float(self.share.mean())


def calibrate(
    scores: FloatArray,
    *,
    features: FloatArray | None = None,
    covariates: FloatArray | None = None,
    blocks: IntArray | None = None,
    guessing: FloatArray | None = None,
    settings: CalibrationSettings | None = None,
) -> Calibration:
    """Fit the model of this module to a response matrix.

    Args:
        scores: (M, N) scores in [0, 1]; NaN where an item was not administered.
        features: (N, F) prompt features, best standardised; None fits item effects alone.
        covariates: (M, C) respondent covariates of the population prior; None for none.
        blocks: (N,) block of each item, 0-based; None for a single block.
        guessing: (N,) guess floors in [0, 1); None for no floor.
        settings: How to fit.

    Raises:
        CalibrationError: shapes disagree, scores leave [0, 1], nothing was observed, or all
            observed scores are equal.
    """
    chosen = settings or CalibrationSettings()
    _check(scores, features, covariates, blocks, guessing)
    n_respondents, n_items = scores.shape
    block_of: IntArray = np.zeros(n_items, np.int64) if blocks is None else np.asarray(blocks)
    laid_out = _lay_out(scores, block_of, guessing)
    fit = _Fit(chosen, laid_out, n_respondents, block_of, features, covariates)
    status, n_iterations = fit.run()
    return fit.result(status, n_iterations)


def score_residual(
    logit: Float32Array,
    centred: Float32Array,
    half: Float32Array,
    guessing: Float32Array | None = None,
) -> Float32Array:
    """Gradient of the log-likelihood in the logit, cell by cell; zero where not observed.

    Without a floor it is y - P. With floor c, dL/dlogit = (y - P)(P - c) / (P (1 - c)), where
    P = c + (1-c) sigma. Shapes: all (n, m), guessing (n,). ``logit`` is used as scratch.
    """
    logit *= np.float32(0.5)
    tanh = np.tanh(logit, out=logit)
    if guessing is None:
        tanh *= half
        return np.subtract(centred, tanh, out=tanh)
    sigma = np.float32(0.5) + np.float32(0.5) * tanh
    floor = guessing[:, None]
    p = floor + (1 - floor) * sigma
    scored = centred + half * (1 - 2 * p)  # w (y - p)
    gradient: Float32Array = scored * sigma / np.maximum(p, 1e-6)
    return gradient


def _check(
    scores: FloatArray,
    features: FloatArray | None,
    covariates: FloatArray | None,
    blocks: IntArray | None,
    guessing: FloatArray | None,
) -> None:
    if scores.ndim != 2 or min(scores.shape) == 0:
        raise CalibrationError(
            f"the response matrix has shape {scores.shape}; (respondents, items) is needed"
        )
    n_respondents, n_items = scores.shape
    if features is not None and len(features) != n_items:
        raise CalibrationError(f"{len(features)} feature rows for {n_items} items")
    if features is not None and not np.isfinite(features).all():
        raise CalibrationError("features hold NaN or infinity; impute them before calibrating")
    if covariates is not None and len(covariates) != n_respondents:
        raise CalibrationError(f"{len(covariates)} covariate rows for {n_respondents} respondents")
    if covariates is not None and not np.isfinite(covariates).all():
        raise CalibrationError("covariates hold NaN or infinity; impute them before calibrating")
    if blocks is not None and len(blocks) != n_items:
        raise CalibrationError(f"{len(blocks)} block labels for {n_items} items")
    if guessing is not None and not ((guessing >= 0) & (guessing < 1)).all():
        raise CalibrationError("guess floors must lie in [0, 1)")
    low, high = np.fmin.reduce(scores, axis=None), np.fmax.reduce(scores, axis=None)
    if np.isnan(low):
        raise CalibrationError("no response was observed: every cell is NaN")
    if low < 0 or high > 1:
        raise CalibrationError(f"scores run from {low:g} to {high:g}; they must lie in [0, 1]")
    if low == high:
        raise CalibrationError(
            f"every observed score is {low:g}: nothing tells items or respondents apart; "
            "add records with both right and wrong answers"
        )


def _lay_out(
    scores: FloatArray, block_of: IntArray, guessing: FloatArray | None
) -> tuple[_Block, ...]:
    laid_out = []
    for block in range(int(block_of.max()) + 1):
        items = np.flatnonzero(block_of == block)
        part = scores if len(items) == scores.shape[1] else scores[:, items]
        observed = ~np.isnan(part)
        respondents = np.flatnonzero(observed.any(axis=1))
        if len(respondents) < len(part):
            part, observed = part[respondents], observed[respondents]
        centred = np.array(part.T, dtype=np.float32, order="C")
        missing = np.isnan(centred)
        centred -= np.float32(0.5)
        centred[missing] = 0.0
        half = np.where(missing, np.float32(0.0), np.float32(0.5))
        floors = None
        if guessing is not None and np.any(guessing[items] > 0):
            floors = np.asarray(guessing[items], dtype=np.float32)
        laid_out.append(
            _Block(
                items=items,
                respondents=respondents,
                centred=centred,
                half=half,
                share=2 * half.mean(axis=0, dtype=np.float64),
                guessing=floors,
            )
        )
    return tuple(laid_out)


class _Fit:
    """The state of one fit. Private: `calibrate` is the way in, `Calibration` the way out."""

    def __init__(
        self,
        settings: CalibrationSettings,
        blocks: tuple[_Block, ...],
        n_respondents: int,
        block_of: IntArray,
        features: FloatArray | None,
        covariates: FloatArray | None,
    ) -> None:
        k = settings.n_dims
        self.settings = settings
        self.blocks = blocks
        self.block_of = block_of
        n_items = len(block_of)
        self.ridge = None if features is None else RidgeRegression(features)
        self.covariates = _with_constant(covariates, n_respondents)
        self.beta = np.zeros((n_items, k + 1), dtype=np.float32)  # item parameters (a, d)
        self.prior = np.zeros((n_items, k + 1), dtype=np.float32)  # their predicted means
        self.theta = np.zeros((n_respondents, k), dtype=np.float32)
        self.theta_prior = np.zeros((n_respondents, k), dtype=np.float32)
        self.theta_covariance = np.tile(np.eye(k, dtype=np.float32), (n_respondents, 1, 1))
        self.population = np.zeros((self.covariates.shape[1], k), dtype=np.float32)
        self.effect = np.eye(k + 1) * 0.5  # Psi
        self.effect[k, k] = 1.0
        self.beta_covariance = [self.effect.copy() for _ in blocks]
        self.curvature = [0.18 for _ in blocks]  # mean p (1 - p), refreshed at every pass
        self.intercepts = np.zeros(len(blocks))
        self.weights = np.zeros((1, k + 1), dtype=np.float32)
        self.penalties = np.zeros(k + 1)
        self.weight_variance = np.full(k + 1, 1e-3)
        self.probes: tuple[Float32Array, ...] = ()  # logits of each block's first items
        self._start()

    # -- start -----------------------------------------------------------------------------

    def _start(self) -> None:
        """Spectral start: leading directions of the centred responses of each block.

        Blocks are started one after another, the largest first; respondents already placed
        keep their place, so that the blocks begin on one scale.
        """
        rng = np.random.default_rng(self.settings.seed)
        k = self.settings.n_dims
        placed = np.zeros(len(self.theta), dtype=bool)
        for block in sorted(self.blocks, key=lambda b: -b.centred.size):
            administered = np.maximum(2 * block.half.sum(axis=1), 1)  # (n,)
            easiness = block.centred.sum(axis=1) / administered
            # Residuals of scattered missing cells are zero, as if answered on average.
            residual = block.centred - 2 * block.half * easiness[:, None]
            gram = residual.T @ residual  # (m, m)
            _, vectors = np.linalg.eigh(gram.astype(np.float64))
            lead = vectors[:, ::-1][:, :k] * np.sqrt(len(gram))  # (m, k), unit mean square
            if lead.shape[1] < k:
                filler = 0.1 * rng.standard_normal((len(gram), k - lead.shape[1]))
                lead = np.hstack([lead, filler])
            ability = residual.sum(axis=0) / np.maximum(2 * block.half.sum(axis=0), 1)
            lead *= np.where(ability @ lead < 0, -1.0, 1.0)  # more ability, higher scores
            known = placed[block.respondents]
            if known.any():
                lead = _carry_over(lead, self.theta[block.respondents], known)
            fresh = block.respondents[~known]
            self.theta[fresh] = lead[~known]
            placed[block.respondents] = True
            p = np.clip(easiness + 0.5, 0.02, 0.98)
            self.beta[block.items, k] = np.log(p / (1 - p))
        self.theta_covariance *= np.float32(0.1)
        self.prior[:, k] = self.beta[:, k].mean()
        self.prior[:, 0] = 0.5

    # -- iterations ------------------------------------------------------------------------

    def run(self) -> tuple[Convergence, int]:
        """Alternate until the logits settle or the limit is reached."""
        for iteration in range(1, self.settings.max_iterations + 1):
            before = self.probes
            gradient, hessian = self._update_items()
            self._update_respondents(gradient, hessian)
            self._update_regression()
            self._update_effect()
            self._update_population()
            if iteration >= 3 and self._moved(before) < self.settings.tolerance:
                return Convergence.CONVERGED, iteration
        return Convergence.ITERATION_LIMIT, self.settings.max_iterations

    def _moved(self, before: tuple[Float32Array, ...]) -> float:
        """Root mean square change of the probed logits since ``before``."""
        total = sum(
            float(np.sum((new - old) ** 2)) for new, old in zip(self.probes, before, strict=True)
        )
        return float(np.sqrt(total / sum(probe.size for probe in self.probes)))

    def _update_items(self) -> tuple[Float64Array, Float64Array]:
        """One relaxed step of all items; returns the respondents' gradient and Hessian.

        Shapes: gradient (M, K), Hessian (M, K, K), both of the log-likelihood's majoriser at
        the items' new place.
        """
        m, k = self.theta.shape
        gradient = np.zeros((m, k))
        hessian = np.zeros((m, k, k))
        probes = []
        precision = np.linalg.inv(self.effect)
        for index, block in enumerate(self.blocks):
            extended = np.column_stack(
                [self.theta[block.respondents], np.ones(len(block.respondents))]
            )
            extended = extended.astype(np.float32)  # (m_b, K+1)
            outer = (extended.T @ extended).astype(np.float64)
            spread = np.zeros_like(outer)
            spread[:k, :k] = self.theta_covariance[block.respondents].sum(axis=0)
            kappa = self.curvature[index] * block.density
            bound = float(BOUND) * outer
            step = np.linalg.inv(bound + kappa * spread + precision)
            self.beta_covariance[index] = np.linalg.inv(kappa * (outer + spread) + precision)
            # new = step (bound old + g + precision prior) = old + step (g - penalty terms)
            pull = (precision @ step).astype(np.float32)
            shrink = ((kappa * spread + precision) @ step).astype(np.float32)
            push = step.astype(np.float32)
            block_gradient, probe = self._sweep(block, extended, push, pull, shrink)
            curvature = _mean_curvature(probe, block.half[: len(probe)])
            probes.append(probe)
            gradient[block.respondents] += block_gradient
            self.curvature[index] = curvature
            a = self.beta[block.items, :k]
            held = float(BOUND) * (a.T @ a).astype(np.float64)
            loose = curvature * block.density * len(a) * self.beta_covariance[index]
            hessian[block.respondents] += held + loose[:k, :k]
            # The items' spread shrinks the abilities; it enters the gradient as a penalty.
            gradient[block.respondents] -= extended @ loose[:, :k]
        self.probes = tuple(probes)
        return gradient, hessian

    def _sweep(
        self,
        block: _Block,
        extended: Float32Array,
        push: Float32Array,
        pull: Float32Array,
        shrink: Float32Array,
    ) -> tuple[Float64Array, Float32Array]:
        """Step the items of one block, chunk by chunk; returns gradient and first logits."""
        omega = np.float32(self.settings.relaxation)
        k = self.settings.n_dims
        transposed = np.ascontiguousarray(extended.T)
        total = np.zeros((len(extended), k + 1), dtype=np.float64)
        probe = np.zeros((0, len(extended)), dtype=np.float32)
        contiguous = len(block.items) == len(self.beta)
        for start in range(0, len(block.items), CHUNK):
            rows = slice(start, start + CHUNK)
            where = rows if contiguous else block.items[rows]
            floor = None if block.guessing is None else block.guessing[rows]
            centred, half = block.centred[rows], block.half[rows]
            beta = self.beta[where]
            residual = score_residual(beta @ transposed, centred, half, floor)
            beta += omega * (
                (residual @ extended) @ push + self.prior[where] @ pull - beta @ shrink
            )
            self.beta[where] = beta
            logit = beta @ transposed
            if start == 0:
                probe = logit.copy()
            residual = score_residual(logit, centred, half, floor)
            total += residual.T @ beta
        return total[:, :k], probe

    def _update_respondents(self, gradient: Float64Array, hessian: Float64Array) -> None:
        """One relaxed step of all abilities towards the optimum of their majoriser."""
        k = self.settings.n_dims
        precision = hessian + np.eye(k)
        target = gradient - (self.theta - self.theta_prior)
        move = np.linalg.solve(precision, target[:, :, None])[:, :, 0]
        self.theta += (self.settings.relaxation * move).astype(np.float32)
        information = np.tile(np.eye(k), (len(self.theta), 1, 1))
        for index, block in enumerate(self.blocks):
            a = self.beta[block.items, :k].astype(np.float64)
            spread = len(a) * self.beta_covariance[index][:k, :k]
            weight = self.curvature[index] * block.share
            information[block.respondents] += weight[:, None, None] * (a.T @ a + spread)
        self.theta_covariance = np.linalg.inv(information).astype(np.float32)

    def _update_regression(self) -> None:
        """Regress the item parameters on the features; refresh the items' predicted means."""
        k = self.settings.n_dims
        offset = self.intercepts[self.block_of]
        target = self.beta.copy()
        target[:, k] -= offset
        if self.ridge is None:
            self.weights = target.mean(axis=0, keepdims=True)
            self.prior[:] = self.weights
        else:
            noise = np.diagonal(self.effect)
            fixed = self.settings.feature_ridge
            variance = self.weight_variance if fixed is None else noise / fixed
            self.weights, self.weight_variance, self.prior = self.ridge.fit(target, noise, variance)
            self.penalties = noise / variance
        left = self.beta[:, k] - self.prior[:, k]
        counts = np.bincount(self.block_of, minlength=len(self.blocks))
        sums = np.bincount(self.block_of, weights=left, minlength=len(self.blocks))
        # Shrunken like any random effect: a block of n items against the items' own variance.
        intercepts = sums / (counts + self.effect[k, k] / 0.25)
        self.intercepts = intercepts - np.average(intercepts, weights=counts)
        self.prior[:, k] += self.intercepts[self.block_of]

    def _update_effect(self) -> None:
        """Learn Psi from the item effects and their posterior covariance."""
        effect = (self.beta - self.prior).astype(np.float64)
        scatter = effect.T @ effect
        for index, block in enumerate(self.blocks):
            scatter += len(block.items) * self.beta_covariance[index]
        weight = self.settings.effect_prior_items
        base = np.diag(np.diagonal(scatter) / len(effect))
        self.effect = (scatter + weight * base) / (len(effect) + weight)

    def _update_population(self) -> None:
        """Ridge regression of abilities on covariates: where a respondent is expected."""
        z = self.covariates
        penalty = np.eye(z.shape[1])
        penalty[-1, -1] = 1e-6  # the constant is free
        self.population = np.linalg.solve(z.T @ z + penalty, z.T @ self.theta).astype(np.float32)
        self.theta_prior = (z @ self.population).astype(np.float32)

    # -- result ----------------------------------------------------------------------------

    def result(self, status: Convergence, n_iterations: int) -> Calibration:
        """Freeze the state."""
        k = self.settings.n_dims
        scale = np.zeros(len(self.beta), dtype=np.float32)
        for index, block in enumerate(self.blocks):
            # The share of the logits' variance that is left, for a respondent at theta ~ N(0, I).
            share = np.trace(self.beta_covariance[index]) / np.trace(self.effect)
            scale[block.items] = share
        loss, count = self._log_loss()
        floor = np.zeros(len(self.beta), dtype=np.float32)
        for block in self.blocks:
            if block.guessing is not None:
                floor[block.items] = block.guessing
        psi = self.effect.astype(np.float32)
        return Calibration(
            abilities=Abilities(mean=self.theta.copy(), covariance=self.theta_covariance),
            items=ItemParameters(
                discrimination=self.beta[:, :k].copy(),
                intercept=self.beta[:, k].copy(),
                guessing=floor,
                effect_scale=scale,
                shift_variance=np.zeros_like(scale),
                effect_covariance=psi,
            ),
            regression=FeatureRegression(
                weights=self.weights.astype(np.float32),
                effect_covariance=psi,
                ridge=self.penalties,
            ),
            population=self.population,
            block_intercepts=self.intercepts.astype(np.float32),
            status=status,
            n_iterations=n_iterations,
            log_loss=loss,
            n_responses=count,
        )

    def _log_loss(self) -> tuple[float, int]:
        k = self.settings.n_dims
        total, count = 0.0, 0
        for block in self.blocks:
            theta = self.theta[block.respondents]
            for start in range(0, len(block.items), CHUNK):
                rows = slice(start, start + CHUNK)
                beta = self.beta[block.items[rows]]
                half, centred = block.half[rows], block.centred[rows]
                floor = 0.0 if block.guessing is None else block.guessing[rows, None]
                tanh = np.tanh(0.5 * (beta[:, :k] @ theta.T + beta[:, k:]))
                p = np.clip(floor + (1 - floor) * (0.5 + 0.5 * tanh), 1e-6, 1 - 1e-6)
                y = centred + 0.5
                cell = 2 * half * (y * np.log(p) + (1 - y) * np.log1p(-p))
                total -= float(cell.sum(dtype=np.float64))
                count += round(2 * float(half.sum(dtype=np.float64)))
        return total / max(count, 1), count


def _carry_over(lead: FloatArray, theta: Float32Array, known: np.ndarray) -> Float64Array:
    """Map a block's own directions onto the scale of the respondents placed before.

    A ridge regression of the known abilities on the block's directions; with few common
    respondents it falls back towards the identity.
    """
    x, y = lead[known], theta[known]
    eye = np.eye(lead.shape[1])
    mapping = np.linalg.solve(x.T @ x + eye, x.T @ y + eye)
    carried = np.asarray(lead @ mapping, dtype=np.float64)
    carried[known] = y
    return carried


def _with_constant(covariates: FloatArray | None, n: int) -> Float64Array:
    constant = np.ones((n, 1))
    if covariates is None:
        return constant
    return np.hstack([np.asarray(covariates, dtype=np.float64), constant])


def _mean_curvature(logit: Float32Array, half: Float32Array) -> float:
    """Mean p (1 - p) over observed cells, kept off zero."""
    p = 0.5 + 0.5 * np.tanh(0.5 * logit)
    weight = float(half.sum(dtype=np.float64))
    mean = float((p * (1 - p) * half).sum(dtype=np.float64)) / max(weight, 1e-9)
    return max(mean, 0.02)
