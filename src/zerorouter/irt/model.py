r"""The response model: a compensatory multidimensional 2PL with an optional guess floor.

For a respondent with ability :math:`\theta \in R^K` and an item with discrimination
:math:`a \in R^K`, intercept :math:`d` and guessing :math:`c`,

.. math:: P(\text{correct}) = c + (1 - c)\,\sigma(a \cdot \theta + d).

An item's parameters may be uncertain: :math:`(a, d)` then has covariance
:math:`s_i \Psi`, with one matrix :math:`\Psi` for all items and a scale per item, and
an ability has covariance :math:`S_u`. The variance of the logit is, to first order,

.. math:: v_{ui} = s_i\,(\theta_u, 1)\,\Psi\,(\theta_u, 1)^T + a_i^T S_u a_i,

and integrating the logistic over it is approximated by MacKay's (1992) probit matching,
:math:`\sigma(\mu / \sqrt{1 + \pi v / 8})`.

Where respondents have leanings :math:`w_u` along the items' facets :math:`\psi_i`, the logit is
:math:`a \cdot \theta + d + \psi \cdot w` (see `leanings`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray

PI_OVER_8 = np.float32(np.pi / 8.0)
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)


@dataclass(frozen=True, kw_only=True)
class ItemParameters:
    """N items in the latent space; a predicted prompt is the same type as a calibrated item.

    Attributes:
        discrimination: (N, K), how sharply an item separates abilities along each dimension.
        intercept: (N,), the constant of the logit (easiness).
        guessing: (N,) in [0, 1), the chance of being right by guessing.
        effect_scale: (N,) >= 0, multiplies ``effect_covariance``: 0 means known exactly.
        shift_variance: (N,) >= 0, variance of an error that prompts like this one share.
        effect_covariance: (K+1, K+1), covariance of (a, d) around its prediction.
        facets: (N, R) what leanings are about (see `leanings`); None where there are none.
    """

    discrimination: Float32Array
    intercept: Float32Array
    guessing: Float32Array
    effect_scale: Float32Array
    shift_variance: Float32Array
    effect_covariance: Float32Array
    facets: Float32Array | None = None

    @classmethod
    def exact(
        cls, discrimination: FloatArray, intercept: FloatArray, guessing: FloatArray | None = None
    ) -> ItemParameters:
        """Items known without error; ``guessing`` defaults to zero."""
        a = np.asarray(discrimination, dtype=np.float32)
        d = np.asarray(intercept, dtype=np.float32)
        c = np.zeros_like(d) if guessing is None else np.asarray(guessing, dtype=np.float32)
        k = a.shape[1]
        return cls(
            discrimination=a,
            intercept=d,
            guessing=c,
            effect_scale=np.zeros_like(d),
            shift_variance=np.zeros_like(d),
            effect_covariance=np.zeros((k + 1, k + 1), dtype=np.float32),
        )

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return len(self.discrimination)

    @property
    def n_dims(self) -> int:
        """K, the number of latent dimensions."""
        return int(self.discrimination.shape[1])

    @property
    def mdisc(self) -> Float32Array:
        """(N,) sharpness of each item, the norm of its discrimination (Reckase 1985)."""
        return np.asarray(np.linalg.norm(self.discrimination, axis=1), dtype=np.float32)

    @property
    def difficulty(self) -> Float32Array:
        """(N,) MDIFF = -d / |a|: how far along ``a`` an ability must lie for sigma = 1/2."""
        return np.asarray(-self.intercept / np.maximum(self.mdisc, 1e-6), dtype=np.float32)

    def take(self, index: slice | np.ndarray) -> ItemParameters:
        """The items at ``index``, in that order."""
        return ItemParameters(
            discrimination=self.discrimination[index],
            intercept=self.intercept[index],
            guessing=self.guessing[index],
            effect_scale=self.effect_scale[index],
            shift_variance=self.shift_variance[index],
            effect_covariance=self.effect_covariance,
            facets=None if self.facets is None else self.facets[index],
        )

    def joined(self, others: ItemParameters) -> ItemParameters:
        """These items and then the others, which share their effects' covariance."""
        return ItemParameters(
            discrimination=np.vstack([self.discrimination, others.discrimination]),
            intercept=np.append(self.intercept, others.intercept),
            guessing=np.append(self.guessing, others.guessing),
            effect_scale=np.append(self.effect_scale, others.effect_scale),
            shift_variance=np.append(self.shift_variance, others.shift_variance),
            effect_covariance=self.effect_covariance,
            facets=_stacked(self.facets, others.facets),
        )


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """M respondents in the latent space.

    Attributes:
        mean: (M, K) posterior mean.
        covariance: (M, K, K) posterior covariance.
        leanings: (M, R) what sets each apart along the items' facets (see `leanings`); None
            where nothing is known of it.
        leaning_variance: (M,) mean variance of a respondent's leanings.
    """

    mean: Float32Array
    covariance: Float32Array
    leanings: Float32Array | None = None
    leaning_variance: Float32Array | None = None

    @property
    def n_respondents(self) -> int:
        """How many respondents there are."""
        return len(self.mean)

    @property
    def sd(self) -> Float32Array:
        """(M, K) standard errors, the roots of the covariance's diagonals."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)).astype(np.float32)

    def take(self, index: slice | np.ndarray) -> Abilities:
        """The respondents at ``index``, in that order."""
        return Abilities(
            mean=self.mean[index],
            covariance=self.covariance[index],
            leanings=None if self.leanings is None else self.leanings[index],
            leaning_variance=(
                None if self.leaning_variance is None else self.leaning_variance[index]
            ),
        )

    def joined(self, others: Abilities) -> Abilities:
        """These respondents and then the others; both with leanings or both without."""
        return Abilities(
            mean=np.vstack([self.mean, others.mean]),
            covariance=np.concatenate([self.covariance, others.covariance]),
            leanings=_stacked(self.leanings, others.leanings),
            leaning_variance=_stacked(self.leaning_variance, others.leaning_variance),
        )


def _stacked(first: Float32Array | None, second: Float32Array | None) -> Float32Array | None:
    if first is None or second is None:
        return None
    return np.concatenate([first, second])


@dataclass(frozen=True, kw_only=True)
class ResponseForecast:
    """P(correct) for N items and M respondents, with the error that the estimates carry.

    Attributes:
        p_correct: (N, M) probability with all uncertainty integrated out.
        logit: (N, M) logit at the posterior means.
        effect_variance: (N, M) variance of the logit from one prompt to the next like it.
        error_variance: (N, M) variance of the error that such prompts share.
        guessing: (N,) the floor below which no probability falls.
    """

    p_correct: Float32Array
    logit: Float32Array
    effect_variance: Float32Array
    error_variance: Float32Array
    guessing: Float32Array

    def row(self, index: int) -> ResponseForecast:
        """The forecast of one item, as a forecast of a single row."""
        at = slice(index, index + 1)
        return ResponseForecast(
            p_correct=self.p_correct[at],
            logit=self.logit[at],
            effect_variance=self.effect_variance[at],
            error_variance=self.error_variance[at],
            guessing=self.guessing[at],
        )

    def interval(self, z: float = 1.645) -> tuple[Float32Array, Float32Array]:
        """(N, M) lower and upper bounds of P(correct) at ``z`` standard errors (90%).

        The bounds are widened to hold ``p_correct``, which lies outside where an extreme logit
        is very uncertain: the mean of a skewed spread is then beyond its quantiles.
        """
        damping = 1 / np.sqrt(1 + PI_OVER_8 * self.effect_variance)
        reach = np.float32(z) * np.sqrt(self.error_variance)
        floor = self.guessing[:, None]
        low = floor + (1 - floor) * sigmoid((self.logit - reach) * damping)
        high = floor + (1 - floor) * sigmoid((self.logit + reach) * damping)
        return np.minimum(low, self.p_correct), np.maximum(high, self.p_correct)

    def interval_at(self, item: int, respondent: int, z: float = 1.645) -> tuple[float, float]:
        """`interval` of one pair, in plain floats: a tenth of the time of the arrays."""
        p, logit = float(self.p_correct[item, respondent]), float(self.logit[item, respondent])
        effect = float(self.effect_variance[item, respondent])
        reach = z * math.sqrt(float(self.error_variance[item, respondent]))
        damping, floor = 1 / math.sqrt(1 + math.pi / 8 * effect), float(self.guessing[item])
        low, high = (
            floor + (1 - floor) * (0.5 + 0.5 * math.tanh(0.5 * (logit + side) * damping))
            for side in (-reach, reach)
        )
        return min(low, p), max(high, p)


def sigmoid(x: FloatArray) -> Float32Array:
    """The logistic function in float32, without overflow at either end."""
    # tanh saturates instead of overflowing and is vectorised where exp would need a guard.
    out: Float32Array = np.tanh(np.float32(0.5) * np.asarray(x, dtype=np.float32))
    out += np.float32(1.0)
    out *= np.float32(0.5)
    return out


@dataclass(frozen=True, kw_only=True)
class Panel:
    """M abilities laid out for forecasting: what does not depend on the item, worked out once.

    Logits and the variances of their errors are linear in the same figures of an item (`terms`),
    so one product with ``columns`` gives both: for one prompt a NumPy call costs more than its
    arithmetic.

    Attributes:
        columns: (T, 2 M) what each term adds to the logits, and behind them to the variances.
        n_dims: K.
        n_facets: R, of those that respondents have leanings along; 0 where there are none.
        effect: (M,) the quadratic form (theta, 1) Psi (theta, 1) of the items' covariance.
    """

    columns: Float32Array
    n_dims: int
    n_facets: int
    effect: Float32Array

    @classmethod
    def of(cls, abilities: Abilities, effect_covariance: Float32Array) -> Panel:
        """Lay out abilities for items whose effects have this covariance (K+1, K+1)."""
        theta = abilities.mean.astype(np.float64)
        m, k = theta.shape
        extended = np.column_stack([theta, np.ones(m)])
        effect = np.einsum("mk,kl,ml->m", extended, effect_covariance, extended)
        n_facets = 0 if abilities.leanings is None else abilities.leanings.shape[1]
        columns = np.zeros((k + n_facets + 3 + k * k, 2 * m), dtype=np.float32)
        logit, error = columns[:, :m], columns[:, m:]
        logit[:k] = theta.T
        if abilities.leanings is not None:
            logit[k : k + n_facets] = abilities.leanings.T
            if abilities.leaning_variance is not None:
                error[k + n_facets + 2] = abilities.leaning_variance
        logit[k + n_facets] = 1.0
        error[k + n_facets + 1] = 1.0
        error[k + n_facets + 3 :] = abilities.covariance.reshape(m, k * k).T
        return cls(
            columns=columns,
            n_dims=k,
            n_facets=n_facets,
            effect=np.asarray(effect, dtype=np.float32),
        )

    def __len__(self) -> int:
        return len(self.effect)

    @property
    def facet_terms(self) -> slice:
        """Where the facets stand among the terms."""
        return slice(self.n_dims, self.n_dims + self.n_facets)

    def terms(self, items: ItemParameters, *, room: int = 0) -> Float32Array:
        """(N, T + room) a, facets, d, shift variance, squared length of the facets, a a^T.

        Args:
            items: The items.
            room: Columns at the end that the caller fills.
        """
        k, r = self.n_dims, self.n_facets
        a = items.discrimination  # (N, K)
        n, end = len(a), len(self.columns)
        out = np.empty((n, end + room), dtype=np.float32)
        out[:, :k] = a
        if r:
            facets = out[:, k : k + r]
            if items.facets is None:
                facets[:] = 0.0
            else:
                facets[:] = items.facets
            for i in range(n):
                out[i, k + r + 2] = facets[i].dot(facets[i])
        else:
            out[:, k + 2] = 0.0
        out[:, k + r] = items.intercept
        out[:, k + r + 1] = items.shift_variance
        out[:, k + r + 3 : end] = (a[:, :, None] * a[:, None, :]).reshape(n, k * k)
        return out

    def forecast(self, items: ItemParameters) -> ResponseForecast:
        """P(correct) of the panel on every item, uncertainty included; shapes (N, M)."""
        linear = row_products(self.terms(items), self.columns)
        m = len(self)
        return self.integrated(items, linear[:, :m], linear[:, m:])

    def integrated(
        self, items: ItemParameters, logit: Float32Array, error: Float32Array
    ) -> ResponseForecast:
        """The forecast from logits and the variances of their errors, both (N, M)."""
        np.maximum(error, _ZERO, out=error)
        effect = items.effect_scale[:, None] * self.effect
        p = effect + error
        p *= PI_OVER_8
        p += _ONE
        np.sqrt(p, out=p)
        np.divide(logit, p, out=p)
        # c + (1 - c) sigma(x) with sigma(x) = (1 + tanh(x / 2)) / 2; see `sigmoid`.
        p *= _HALF
        np.tanh(p, out=p)
        half = (_HALF - _HALF * items.guessing)[:, None]
        p *= half
        p += _ONE - half
        return ResponseForecast(
            p_correct=p,
            logit=logit,
            effect_variance=effect,
            error_variance=error,
            guessing=items.guessing,
        )


def row_products(rows: Float32Array, columns: Float32Array) -> Float32Array:
    """``rows @ columns``, row by row.

    A matrix product may round a row by its neighbours, and a row is to come out the same to the
    last bit alone or in a batch.
    """
    out = np.empty((len(rows), columns.shape[1]), dtype=np.float32)
    for i in range(len(rows)):
        np.dot(rows[i], columns, out=out[i])
    return out


def forecast(items: ItemParameters, abilities: Abilities) -> ResponseForecast:
    """P(correct) of every respondent on every item, uncertainty included.

    Shapes: items (N, K), abilities (M, K) -> forecasts (N, M).
    """
    return Panel.of(abilities, items.effect_covariance).forecast(items)


def log_loss(p: FloatArray, score: FloatArray) -> float:
    """Mean Bernoulli log-loss of probabilities against scores in [0, 1], in nats.

    Fractional scores are taken as they are; cells where ``score`` is NaN do not count.
    """
    observed = ~np.isnan(score)
    q = np.clip(np.asarray(p, dtype=np.float64)[observed], 1e-6, 1 - 1e-6)
    y: Float64Array = np.asarray(score, dtype=np.float64)[observed]
    return float(-np.mean(y * np.log(q) + (1 - y) * np.log1p(-q)))
