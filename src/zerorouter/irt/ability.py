r"""Ability of one respondent from its answers to items with known parameters.

The posterior :math:`p(\theta \mid y) \propto N(\theta; m, S) \prod_i P_i^{y_i}(1-P_i)^{1-y_i}` is
approximated at its mode (Laplace): mean = mode, covariance = inverse of the observed
information plus the prior's. Where an item's parameters are uncertain, its logit is
attenuated by :math:`1/\sqrt{1 + \pi v/8}`, so that a vague item tells less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.irt.calibration import Convergence
from zerorouter.irt.model import Abilities, ItemParameters

MAX_STEPS = 50
TOLERANCE = 1e-6
WIDENING_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class AbilityPosterior:
    """A Gaussian over one respondent's ability.

    Attributes:
        mean: (K,)
        covariance: (K, K)
        n_answers: Answers it rests on beside the prior.
        status: Whether Newton's iterations settled.
    """

    mean: Float64Array
    covariance: Float64Array
    n_answers: int
    status: Convergence

    @property
    def sd(self) -> Float64Array:
        """(K,) standard errors."""
        return np.sqrt(np.diagonal(self.covariance))

    def as_abilities(self) -> Abilities:
        """The same as a collection of one respondent."""
        return Abilities(
            mean=self.mean[None].astype(np.float32),
            covariance=self.covariance[None].astype(np.float32),
        )


def ability_posterior(
    items: ItemParameters,
    scores: FloatArray,
    *,
    prior_mean: FloatArray,
    prior_covariance: FloatArray,
    degrees_of_freedom: float | None = None,
) -> AbilityPosterior:
    """Laplace posterior of an ability given scores on items.

    Args:
        items: (N, K) items; vague ones (``effect_scale`` > 0) count for less.
        scores: (N,) in [0, 1]; NaN where the item was not answered.
        prior_mean: (K,)
        prior_covariance: (K, K), positive definite; the scale matrix of a Student prior.
        degrees_of_freedom: Of a Student prior, whose tails let answers overrule a wrong mean;
            None for a Gaussian prior. The Student is a Gaussian of unknown width, and the
            width is estimated together with the ability (Lange, Little & Taylor 1989).

    With no answer at all the prior comes back unchanged.
    """
    answered = ~np.isnan(scores)
    y = np.asarray(scores, dtype=np.float64)[answered]
    centre = np.asarray(prior_mean, dtype=np.float64)
    scale = np.asarray(prior_covariance, dtype=np.float64)
    a, d = _attenuated(items.take(answered), centre)
    likelihood = _Likelihood(a=a, d=d, c=items.guessing[answered].astype(np.float64), y=y)
    widening = 1.0
    found = _mode(likelihood, centre, _inverse(scale))
    if degrees_of_freedom is not None and len(y):
        for _ in range(WIDENING_ROUNDS):
            off = found.mean - centre
            distance = float(off @ np.linalg.solve(scale, off))
            # The posterior's own spread counts as distance too: it is not known to be nearer.
            distance += float(np.trace(np.linalg.solve(scale, found.covariance)))
            widening = (degrees_of_freedom + distance) / (degrees_of_freedom + len(centre))
            found = _mode(likelihood, centre, _inverse(widening * scale), found.mean)
    return found


@dataclass(frozen=True, kw_only=True)
class _Likelihood:
    """n answers to items of known parameters."""

    a: Float64Array  # (n, K)
    d: Float64Array  # (n,)
    c: Float64Array  # (n,)
    y: Float64Array  # (n,)


def _mode(
    likelihood: _Likelihood,
    centre: Float64Array,
    precision: Float64Array,
    start: Float64Array | None = None,
) -> AbilityPosterior:
    """Newton's method with step halving to the posterior mode under a Gaussian prior."""
    theta = centre.copy() if start is None else start.copy()
    value = _log_posterior(theta, likelihood, centre, precision)
    status = Convergence.ITERATION_LIMIT
    for _ in range(MAX_STEPS):
        gradient, information = _derivatives(theta, likelihood, centre, precision)
        step = np.linalg.solve(information, gradient)
        # Halve until the posterior rises: with a guess floor it need not be concave.
        for _ in range(30):
            proposed = theta + step
            reached = _log_posterior(proposed, likelihood, centre, precision)
            if reached >= value - 1e-12:
                break
            step = step / 2
        theta, value = proposed, reached
        if float(np.max(np.abs(step))) < TOLERANCE:
            status = Convergence.CONVERGED
            break
    _, information = _derivatives(theta, likelihood, centre, precision)
    return AbilityPosterior(
        mean=theta,
        covariance=_inverse(information),
        n_answers=len(likelihood.y),
        status=status,
    )


def item_information(items: ItemParameters, theta: FloatArray) -> Float64Array:
    r"""(N, K, K) expected Fisher information of each item about an ability at ``theta``.

    :math:`I_i = a_i a_i^T\,\frac{(P_i - c_i)^2}{(1 - c_i)^2}\,\frac{1 - P_i}{P_i}`
    (Reckase 2009, ch. 7, for the 3PL; with c = 0 it is P (1 - P) a a^T).
    """
    a = items.discrimination.astype(np.float64)
    c = items.guessing.astype(np.float64)
    p = c + (1 - c) / (1 + np.exp(-(a @ theta + items.intercept)))
    weight = ((p - c) / (1 - c)) ** 2 * (1 - p) / np.maximum(p, 1e-12)
    information: Float64Array = weight[:, None, None] * a[:, :, None] * a[:, None, :]
    return information


def _attenuated(items: ItemParameters, theta: Float64Array) -> tuple[Float64Array, Float64Array]:
    extended = np.append(theta, 1.0)
    v = items.effect_scale * float(extended @ items.effect_covariance @ extended)
    shrink = 1 / np.sqrt(1 + np.pi / 8 * v.astype(np.float64))
    return items.discrimination * shrink[:, None], items.intercept * shrink


def _log_posterior(
    theta: Float64Array, likelihood: _Likelihood, centre: Float64Array, precision: Float64Array
) -> float:
    p, _ = _response(theta, likelihood)
    y, off = likelihood.y, theta - centre
    return float(np.sum(y * np.log(p) + (1 - y) * np.log1p(-p)) - 0.5 * off @ precision @ off)


def _derivatives(
    theta: Float64Array, likelihood: _Likelihood, centre: Float64Array, precision: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Gradient of the log-posterior and its expected information plus the prior's."""
    p, slope = _response(theta, likelihood)
    a = likelihood.a
    gradient = a.T @ ((likelihood.y - p) * slope / (p * (1 - p))) - precision @ (theta - centre)
    information = (a.T * (slope**2 / (p * (1 - p)))) @ a + precision
    return gradient, information


def _response(theta: Float64Array, likelihood: _Likelihood) -> tuple[Float64Array, Float64Array]:
    """P(correct) of each item, kept off 0 and 1, and its derivative in the logit."""
    logit = np.clip(likelihood.a @ theta + likelihood.d, -60, 60)
    sigma = 1 / (1 + np.exp(-logit))
    p = likelihood.c + (1 - likelihood.c) * sigma
    return np.clip(p, 1e-12, 1 - 1e-12), (1 - likelihood.c) * sigma * (1 - sigma)


def _inverse(matrix: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
