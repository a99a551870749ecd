r"""Which calibrated items to ask a new respondent: optimal design for an ability.

An item tells of an ability :math:`\theta` by its Fisher information, which has rank one,
:math:`I_i(\theta) = w_i(\theta)\,a_i a_i^T` (see `ability.item_information`). Before anything is
asked the ability is only known to be :math:`N(m, S)`, so the expected weight
:math:`\bar w_i = E\,w_i(\theta)` is used. A weight depends on :math:`\theta` through the item's
logit alone, which is Gaussian with mean :math:`a_i \cdot m + d_i` and variance
:math:`a_i^T S a_i`: the expectation is one-dimensional in any number of dimensions, and is taken
by Gauss-Hermite quadrature. The posterior covariance after a set C is then expected to be

.. math:: \Sigma_C = \bigl(S^{-1} + \textstyle\sum_{i \in C} \bar w_i a_i a_i^T\bigr)^{-1}.

Two Bayesian criteria are grown greedily, one item at a time:

- **D-optimal**: the largest :math:`\log\det \Sigma_C^{-1}`. One more item adds
  :math:`\log(1 + \bar w_i a_i^T \Sigma a_i)`, by the matrix determinant lemma. It is submodular,
  so greedy choice comes within 1 - 1/e of the best gain (Nemhauser, Wolsey & Fisher 1978).
- **I-optimal** (also V-optimal): the smallest mean variance of P(correct) over target prompts,
  :math:`\operatorname{tr}(\Sigma_C M)` with :math:`M` the mean of :math:`\bar s_t a_t a_t^T` and
  :math:`\bar s_t` the expected square of the slope :math:`dP/d\text{logit}` (delta method). One
  more item takes off :math:`\bar w_i\,a_i^T \Sigma M \Sigma a_i / (1 + \bar w_i a_i^T \Sigma a_i)`,
  by Sherman and Morrison.

Both quadratic forms of all candidates are carried along by rank-one updates, so an anchor costs
two products of the candidates with a vector, however many dimensions there are.

Where an item's parameters are uncertain, its discrimination and intercept are attenuated at the
prior mean exactly as `ability.ability_posterior` does, so that an item is credited here with what
the estimator will later make of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import InputError, UnknownNameError
from zerorouter.irt.model import ItemParameters

AnchorStrategy: TypeAlias = Literal["i_optimal", "d_optimal", "stratified", "random"]
STRATEGIES: tuple[str, ...] = get_args(AnchorStrategy)

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)  # within 1% for logits of SD 4
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def select_anchors(
    items: ItemParameters,
    n: int,
    *,
    prior_mean: FloatArray,
    prior_covariance: FloatArray,
    rng: np.random.Generator,
    strategy: AnchorStrategy = "i_optimal",
    strata: IntArray | None = None,
    targets: ItemParameters | None = None,
    cost: FloatArray | None = None,
    eligible: BoolArray | None = None,
) -> IntArray:
    """Positions of ``n`` items to ask, in order of choice: every prefix is a choice of its own.

    Args:
        items: (N, K) candidates.
        n: How many to choose.
        prior_mean: (K,) mean of the ability before asking; after some answers, the posterior's.
        prior_covariance: (K, K) covariance of the same, positive definite.
        rng: Draws the random and the stratified set; the optimal ones use none of it.
        strategy: ``i_optimal``, ``d_optimal``, ``stratified`` or ``random``.
        strata: (N,) group of each candidate, for ``stratified``: every prefix takes from each
            group in proportion to its eligible candidates, to within one.
        targets: Prompts whose predictive variance ``i_optimal`` minimises; by default all
            candidates, the ineligible ones too.
        cost: (N,) positive price of asking each candidate. The optimal strategies then choose by
            gain per dollar; only ratios of prices matter. The random ones ignore it.
        eligible: (N,) mask of the candidates that may be chosen; None for all.

    Ties go to the first candidate.

    Raises:
        InputError: more anchors are asked for than are eligible, shapes disagree, a price is not
            positive, or ``stratified`` comes without strata.
        UnknownNameError: nobody has heard of the strategy.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError("anchor strategy", strategy, STRATEGIES)
    allowed = _eligible(items, n, eligible)
    if strategy == "random":
        return rng.permutation(np.flatnonzero(allowed))[:n]
    if strategy == "stratified":
        return _stratified(_strata(items, strata), n, allowed, rng)
    design = _Design.of(items, prior_mean, prior_covariance)
    prices = _prices(items, cost)
    if strategy == "d_optimal":
        return design.d_optimal(n, allowed, prices)
    wanted = items if targets is None else targets
    return design.i_optimal(n, allowed, prices, wanted)


def log_det_information(
    items: ItemParameters,
    chosen: IntArray,
    theta: FloatArray,
    prior_covariance: FloatArray,
    *,
    averaged: bool = True,
) -> float:
    """Log determinant of the prior precision plus the information of the chosen items.

    Args:
        items: (N, K) items.
        chosen: Positions of the items asked; a position that stands twice counts twice.
        theta: (K,) where information is taken, the prior mean.
        prior_covariance: (K, K)
        averaged: Whether information is averaged over N(theta, prior_covariance), the criterion
            of ``d_optimal``, or taken at theta alone.
    """
    mean, covariance = _prior(items, theta, prior_covariance)
    information = _information(items.take(chosen), mean, covariance if averaged else None)
    return float(np.linalg.slogdet(np.linalg.inv(covariance) + information)[1])


def expected_covariance(
    items: ItemParameters,
    chosen: IntArray,
    *,
    prior_mean: FloatArray,
    prior_covariance: FloatArray,
) -> Float64Array:
    """(K, K) posterior covariance of the ability to be expected once ``chosen`` are answered."""
    mean, covariance = _prior(items, prior_mean, prior_covariance)
    information = _information(items.take(chosen), mean, covariance)
    return np.asarray(np.linalg.inv(np.linalg.inv(covariance) + information), dtype=np.float64)


def predictive_variance(
    targets: ItemParameters,
    items: ItemParameters,
    chosen: IntArray,
    *,
    prior_mean: FloatArray,
    prior_covariance: FloatArray,
) -> Float64Array:
    """(T,) variance of P(correct) on each target to be expected once ``chosen`` are answered.

    The delta method, slopes averaged over the prior; the mean of it is what ``i_optimal``
    minimises. It is the variance that the ability leaves, not that of the prompts themselves.
    With ``chosen`` empty and a posterior for the prior, it is the variance as of now.
    """
    mean, covariance = _prior(items, prior_mean, prior_covariance)
    left = expected_covariance(
        items, chosen, prior_mean=prior_mean, prior_covariance=prior_covariance
    )
    a, slope_squared = _squared_slopes(targets, mean, covariance)
    out: Float64Array = slope_squared * np.einsum("tk,kl,tl->t", a, left, a)
    return out


# -- the greedy search -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Design:
    """Candidates in coordinates where the prior is standard normal.

    Attributes:
        b: (N, K) rows with information ``b b^T``: root weight times a L, with L L^T the prior
            covariance.
        root: (K, K) the factor L.
        mean: (K,) prior mean.
        covariance: (K, K) prior covariance.
    """

    b: Float64Array
    root: Float64Array
    mean: Float64Array
    covariance: Float64Array

    @classmethod
    def of(
        cls, items: ItemParameters, prior_mean: FloatArray, prior_covariance: FloatArray
    ) -> _Design:
        mean, covariance = _prior(items, prior_mean, prior_covariance)
        root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        a, weight = _weights(items, mean, covariance)
        b = np.sqrt(weight)[:, None] * (a @ root)
        return cls(b=b, root=root, mean=mean, covariance=covariance)

    def d_optimal(self, n: int, allowed: BoolArray, prices: Float64Array) -> IntArray:
        """Greedy largest gain of log det per dollar."""
        b, open_ = self.b, allowed.copy()
        sigma = np.eye(b.shape[1])
        spread = np.einsum("nk,nk->n", b, b)  # b' sigma b
        chosen = np.empty(n, dtype=np.intp)
        for step in range(n):
            best = _best(np.log1p(spread) / prices, open_)
            chosen[step], open_[best] = best, False
            u = sigma @ b[best]
            scale = 1 + b[best] @ u
            sigma -= np.outer(u, u) / scale
            spread -= (b @ u) ** 2 / scale
            np.maximum(spread, 0.0, out=spread)
        return chosen

    def i_optimal(
        self, n: int, allowed: BoolArray, prices: Float64Array, targets: ItemParameters
    ) -> IntArray:
        """Greedy largest fall of the targets' mean predictive variance per dollar."""
        a, slope_squared = _squared_slopes(targets, self.mean, self.covariance)
        t = np.sqrt(slope_squared / len(a))[:, None] * (a @ self.root)
        m = t.T @ t  # (K, K)
        b, open_ = self.b, allowed.copy()
        sigma = np.eye(b.shape[1])
        spread = np.einsum("nk,nk->n", b, b)  # b' sigma b
        leverage = np.einsum("nk,kl,nl->n", b, m, b, optimize=True)  # b' sigma m sigma b
        chosen = np.empty(n, dtype=np.intp)
        for step in range(n):
            best = _best(leverage / (1 + spread) / prices, open_)
            chosen[step], open_[best] = best, False
            u = sigma @ b[best]
            scale = 1 + b[best] @ u
            h = sigma @ (m @ u)
            along, across = b @ u, b @ h
            leverage += along / scale * ((u @ m @ u) / scale * along - 2 * across)
            spread -= along**2 / scale
            sigma -= np.outer(u, u) / scale
            np.maximum(leverage, 0.0, out=leverage)
            np.maximum(spread, 0.0, out=spread)
        return chosen


def _best(gain: Float64Array, open_: BoolArray) -> int:
    return int(np.argmax(np.where(open_, gain, -np.inf)))


def _stratified(strata: IntArray, n: int, allowed: BoolArray, rng: np.random.Generator) -> IntArray:
    """Items dealt out so that every prefix holds each stratum in proportion.

    The members of a stratum, in random order, stand evenly spaced on the unit interval from a
    random start; reading all strata along the interval gives the order.
    """
    order = rng.permutation(np.flatnonzero(allowed))
    place = np.empty(len(order))
    for stratum in np.unique(strata[order]):
        members = np.flatnonzero(strata[order] == stratum)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return order[np.argsort(place, kind="stable")][:n]


# -- information -------------------------------------------------------------------------------


def _information(
    items: ItemParameters, mean: Float64Array, covariance: Float64Array | None
) -> Float64Array:
    a, weight = _weights(items, mean, covariance)
    information: Float64Array = (a.T * weight) @ a
    return information


def _weights(
    items: ItemParameters, mean: Float64Array, covariance: Float64Array | None
) -> tuple[Float64Array, Float64Array]:
    """Attenuated discriminations (N, K) and expected information weights (N,)."""
    a, sigma, weight = _curve(items, mean, covariance)
    c = items.guessing.astype(np.float64)[:, None]
    # With p = c + (1 - c) sigma: ((p - c) / (1 - c))^2 (1 - p) / p
    p = c + (1 - c) * sigma
    information = sigma**2 * (1 - c) * (1 - sigma) / np.maximum(p, 1e-300)
    return a, information @ weight


def _squared_slopes(
    items: ItemParameters, mean: Float64Array, covariance: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Attenuated discriminations (N, K) and expected squares of dP/dlogit (N,)."""
    a, sigma, weight = _curve(items, mean, covariance)
    c = items.guessing.astype(np.float64)[:, None]
    return a, ((1 - c) * sigma * (1 - sigma)) ** 2 @ weight


def _curve(
    items: ItemParameters, mean: Float64Array, covariance: Float64Array | None
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Attenuated discriminations (N, K), sigma(logit) at nodes (N, Q), weights of nodes (Q,)."""
    extended = np.append(mean, 1.0)
    variance = items.effect_scale * float(extended @ items.effect_covariance @ extended)
    shrink = 1 / np.sqrt(1 + np.pi / 8 * variance.astype(np.float64))
    a = items.discrimination * shrink[:, None]
    logit = a @ mean + items.intercept * shrink
    if covariance is None:
        return a, _sigmoid(logit[:, None]), np.ones(1)
    sd = np.sqrt(np.maximum(np.einsum("nk,nk->n", a @ covariance, a), 0.0))
    return a, _sigmoid(logit[:, None] + sd[:, None] * _NODES), _WEIGHTS


def _sigmoid(x: Float64Array) -> Float64Array:
    out: Float64Array = 0.5 + 0.5 * np.tanh(0.5 * x)
    return out


# -- checks ------------------------------------------------------------------------------------


def _eligible(items: ItemParameters, n: int, eligible: BoolArray | None) -> BoolArray:
    allowed = np.ones(items.n_items, dtype=np.bool_) if eligible is None else np.array(eligible)
    if allowed.shape != (items.n_items,) or allowed.dtype != np.bool_:
        raise InputError(
            f"eligible has shape {allowed.shape} and type {allowed.dtype}; a mask of "
            f"{items.n_items} booleans is wanted, one per item"
        )
    available = int(allowed.sum())
    if not 0 <= n <= available:
        raise InputError(
            f"{n} anchors were asked for and {available} eligible items exist; "
            f"ask for 0 to {available}"
        )
    return allowed


def _prior(
    items: ItemParameters, mean: FloatArray, covariance: FloatArray
) -> tuple[Float64Array, Float64Array]:
    k = items.n_dims
    m, s = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if m.shape != (k,) or s.shape != (k, k):
        raise InputError(
            f"the prior has a mean of shape {m.shape} and a covariance of shape {s.shape}; "
            f"items of {k} dimensions need ({k},) and ({k}, {k})"
        )
    return m, s


def _prices(items: ItemParameters, cost: FloatArray | None) -> Float64Array:
    if cost is None:
        return np.ones(items.n_items)
    prices = np.asarray(cost, dtype=np.float64)
    if prices.shape != (items.n_items,):
        raise InputError(f"{prices.shape} prices came with {items.n_items} items; one each is due")
    wrong = ~(np.isfinite(prices) & (prices > 0))
    if wrong.any():
        raise InputError(
            f"item {int(np.argmax(wrong))} costs {prices[wrong][0]}; prices are finite and above 0"
        )
    relative: Float64Array = prices / prices.mean()
    return relative


def _strata(items: ItemParameters, strata: IntArray | None) -> IntArray:
    if strata is None:
        raise InputError("stratified anchors need strata, one group number per item")
    if strata.shape != (items.n_items,):
        raise InputError(f"{strata.shape} strata came with {items.n_items} items; one each is due")
    return strata
