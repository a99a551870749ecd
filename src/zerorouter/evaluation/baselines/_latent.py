r"""Bilinear logistic models whose item side is linear in the prompt: MIRT, RADAR, factorisation.

All three are :math:`P = \sigma(a(x) \cdot \theta_u + d(x))` and differ in how a and d come from a
linear map of the features, :math:`(\alpha, \beta) = W^T(\phi(x), 1)`:

=========  ==========================  =================  =====================
link       a                           d                  theta
=========  ==========================  =================  =====================
``mirt``   softplus(alpha), K of them  -beta              K abilities
``radar``  alpha, one                  -alpha beta        one ability
``mf``     (alpha, 1)                  beta               K factors and a bias
=========  ==========================  =================  =====================

W and theta are fitted jointly by penalised maximum likelihood (L-BFGS, analytic gradients).
The calibration models' thetas then are the population from which newcomers come: theirs is the
Laplace posterior given their anchors, and its uncertainty is integrated out in forecasts. With
the setting ``cards`` the population depends on what the models' cards say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray
from zerorouter.errors import require_extra
from zerorouter.evaluation.baselines._inputs import Inputs
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

Link: TypeAlias = Literal["mirt", "radar", "mf"]
MAX_ITERATIONS = 150
START_SD = 0.3  # of the random part of the abilities' start, which breaks the symmetry


class LatentMethod(Method):
    """A method of this family: its link, its defaults and what is tried with all labels.

    Settings: ``dims``, the penalty ``ridge``, ``encoder``, ``structure`` (whether structural
    features stand beside the embedding) and ``cards``.
    """

    link: ClassVar[Link]
    defaults: ClassVar[Settings]
    tried: ClassVar[Sequence[Settings]]

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Penalty, dimensions and features; where labels are few, whether cards matter."""
        if n_labels is None:
            return [{**self.defaults, **tried} for tried in self.tried]
        first = [{**self.defaults, **tried} for tried in self.tried[:4]]
        return [{**tried, "cards": cards} for tried in first for cards in (True, False)]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Fit items' map and abilities jointly, then the population of abilities."""
        require_answers(data)
        chosen = {**self.defaults, **settings}
        inputs = Inputs.fit(
            data.prompts, encoder=str(chosen["encoder"]), structure=bool(chosen["structure"])
        )
        x = inputs(data.prompts)
        space = fit_space(
            self.link,
            x,
            data.labels.scores,
            dims=int(chosen["dims"]),
            ridge=float(chosen["ridge"]),
            rng=rng,
        )
        items = space.items(x)
        answered = np.flatnonzero(data.labels.observed.any(axis=1))
        population = Population.of(
            [data.models[int(u)] for u in answered],
            space.theta[answered],
            cards=bool(chosen["cards"]),
        )
        theta = np.full_like(space.theta, np.nan)
        theta[answered] = space.theta[answered]
        known = population.known(data.models, theta)
        costs = Costs(data)
        items_of = Remembering(lambda prompts: space.items(inputs(prompts)))

        def join(newcomers: Newcomers) -> Part:
            found = population.place(items, newcomers.models, newcomers.labels.scores)
            return _Placed(items_of, found, costs.of(newcomers))

        return Pool([_Placed(items_of, known, costs.known)], join)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearSpace:
    """A fitted map from features to items, and the abilities it was fitted with.

    Attributes:
        link: See the module.
        weights: (F+1, C), C columns alpha and then beta; the last row is the constant.
        theta: (M, K) abilities; with ``mf`` the last one is the bias.
    """

    link: Link
    weights: Float64Array
    theta: Float64Array

    def items(self, x: Float32Array) -> ItemParameters:
        """Items of prompts with features (N, F)."""
        read = x @ self.weights[:-1] + self.weights[-1]
        a, d = _link(self.link, read)
        return ItemParameters.exact(a, d)


class _Placed(Part):
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


def fit_space(
    link: Link,
    x: Float32Array,
    scores: FloatArray,
    *,
    dims: int,
    ridge: float,
    rng: np.random.Generator,
) -> LinearSpace:
    """Penalised joint fit to scores (M, N) on prompts with features (N, F).

    The penalty is ``ridge / 2`` times the squared weights (constants free) plus half the squared
    distance of abilities from a common centre: a prior N(centre, 1).
    """
    require_extra("scipy", "fit", f"the baseline {link!r}")
    from scipy.optimize import minimize

    observed = ~np.isnan(scores)
    mask = np.ascontiguousarray(observed.T, dtype=np.float32)  # (N, M)
    y = np.ascontiguousarray(np.where(observed, scores, 0.0).T, dtype=np.float32)
    problem = _Problem(link, x, y, mask, dims, ridge)
    start = problem.start(rng)
    found = minimize(
        problem.value_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "maxcor": 10, "ftol": 1e-6},
    )
    weights, theta = problem.unpack(np.asarray(found.x, dtype=np.float64))
    return LinearSpace(link=link, weights=weights, theta=theta)


class _Problem:
    """The objective of `fit_space` over one flat vector of weights and abilities."""

    def __init__(
        self,
        link: Link,
        x: Float32Array,
        y: Float32Array,
        mask: Float32Array,
        dims: int,
        ridge: float,
    ) -> None:
        self.link, self.x, self.y, self.mask = link, x, y, mask
        self.ridge = ridge
        self.n_alpha = 1 if link == "radar" else dims
        self.n_theta = self.n_alpha + (link == "mf")
        self.shape_w = (x.shape[1] + 1, self.n_alpha + 1)
        self.shape_theta = (y.shape[1], self.n_theta)
        count = mask.sum(axis=0)
        mean = (y.sum(axis=0) + 1.0) / (count + 2.0)
        level = np.log(mean / (1 - mean)).astype(np.float64)
        self.level = level  # (M,) logit of each model's mean score
        self.centre = np.full(self.n_theta, level.mean())  # of the prior of abilities
        if link == "mf":
            self.centre[:-1] = 0.0

    def start(self, rng: np.random.Generator) -> Float64Array:
        """Every item alike, every model at its mean score, and a little noise."""
        weights = np.zeros(self.shape_w)
        theta = START_SD * rng.standard_normal(self.shape_theta)
        if self.link == "mf":
            theta[:, -1] = self.level
            weights[-1, :-1] = 0.1
        else:
            # Discriminations start at one over K, so that logits start at the models' levels.
            one = 1.0 if self.link == "radar" else _softplus_inverse(1 / self.n_alpha)
            weights[-1, :-1] = one
            theta += self.level[:, None]
        return np.concatenate([weights.ravel(), theta.ravel()])

    def unpack(self, flat: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Weights and abilities."""
        cut = self.shape_w[0] * self.shape_w[1]
        return flat[:cut].reshape(self.shape_w), flat[cut:].reshape(self.shape_theta)

    def value_and_gradient(self, flat: Float64Array) -> tuple[float, Float64Array]:
        """Penalised negative log-likelihood and its gradient."""
        weights, theta = self.unpack(flat)
        w32, t32 = weights.astype(np.float32), theta.astype(np.float32)
        read = self.x @ w32[:-1] + w32[-1]  # (N, C)
        a, d = _link(self.link, read)
        logit = a @ t32.T + d[:, None]  # (N, M)
        half = np.tanh(np.float32(0.5) * logit)
        p = np.float32(0.5) + np.float32(0.5) * half
        # log(1 + e^l) - y l, without overflow
        loss = np.maximum(logit, 0) - self.y * logit + np.log1p(np.exp(-np.abs(logit)))
        value = float(np.sum(loss * self.mask, dtype=np.float64))
        off = (p - self.y) * self.mask  # (N, M)
        g_theta = (off.T @ a).astype(np.float64)
        g_read = _pull_back(self.link, read, off @ t32, off.sum(axis=1))
        g_weights = np.vstack([self.x.T @ g_read, g_read.sum(axis=0)]).astype(np.float64)
        value += 0.5 * self.ridge * float(np.sum(weights[:-1] ** 2))
        g_weights[:-1] += self.ridge * weights[:-1]
        apart = theta - self.centre
        value += 0.5 * float(np.sum(apart**2))
        g_theta += apart
        return value, np.concatenate([g_weights.ravel(), g_theta.ravel()])


def _link(link: Link, read: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Discriminations (N, K) and intercepts (N,) from what was read, (N, C)."""
    alpha, beta = read[:, :-1], read[:, -1]
    if link == "mirt":
        return np.logaddexp(0, alpha), -beta
    if link == "radar":
        return alpha, -alpha[:, 0] * beta
    return np.hstack([alpha, np.ones((len(alpha), 1), dtype=alpha.dtype)]), beta


def _pull_back(link: Link, read: FloatArray, g_a: FloatArray, g_d: FloatArray) -> FloatArray:
    """Gradient in what was read, (N, C), from those in a (N, K) and d (N,)."""
    alpha, beta = read[:, :-1], read[:, -1]
    if link == "mirt":
        slope = 0.5 + 0.5 * np.tanh(0.5 * alpha)
        return np.column_stack([g_a * slope, -g_d])
    if link == "radar":
        return np.column_stack([g_a[:, 0] - g_d * beta, -g_d * alpha[:, 0]])
    return np.column_stack([g_a[:, :-1], g_d])


def _softplus_inverse(value: float) -> float:
    return float(np.log(np.expm1(value)))
