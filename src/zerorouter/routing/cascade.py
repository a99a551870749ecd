r"""Cascades: ask a cheap model first, and a strong one where a signal says so.

Model A answers. A signal fires with probability :math:`s` (sensitivity) where A is wrong and
:math:`1 - r` (r the specificity) where it is right. Where it fires, B answers instead. With
:math:`p_A` = P(A right), the plan escalates and is right with

.. math:: \alpha &= s\,(1 - p_A) + (1 - r)\,p_A, \\
          P &= r\,p_A + (1 - r)\,P(A \wedge B) + s\,P(\bar A \wedge B),

and costs :math:`c_A + \alpha c_B`. Given whether A is right, the signal is taken to say nothing
more about B.

**What B gets right where A is wrong.** A prompt that A fails is probably hard, so
:math:`P(B \mid \bar A) < p_B`; taking the two for independent makes cascades look far better than
they are. What the models share is the prompt: its own effect on discrimination and intercept,
which no feature tells (covariance :math:`\Psi`), and the shift of prompts like it (variance
:math:`\sigma^2`). Their logits thus have the covariance

.. math:: c_{AB} = s_i\,(\theta_A, 1)\,\Psi\,(\theta_B, 1)^T + \sigma_i^2
                 = \rho_{AB} \sqrt{v^e_A v^e_B} + \sigma_i^2,

with :math:`v^e` the variances of the prompt's effect that a forecast carries and :math:`\rho` their
correlation, a property of the space. With one factor z for what is shared and loadings
:math:`l_A l_B = c_{AB}` that leave residual variances :math:`v_u - l_u^2 \ge 0`,

.. math:: P(A \wedge B) = E_z \prod_{u \in \{A, B\}} \Bigl(g + (1 - g)\,\sigma\bigl(
          (\mu_u + l_u z) / \sqrt{1 + \pi (v_u - l_u^2) / 8}\bigr)\Bigr), \quad z \sim N(0, 1),

by Gauss-Hermite quadrature; v is the whole variance of a logit and g the guess floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.errors import InputError, NoEligibleModelError
from zerorouter.prices import missing_price
from zerorouter.routing.choice import probabilities
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import AUGMENTATION, Policy
from zerorouter.routing.signals import Answer, Signal, SignalQuality
from zerorouter.routing.wording import percent, usd
from zerorouter.space import LatentSpace

NODES = 15  # of the quadrature over what two models share


# -- what two models get right together --------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedEffects:
    """What prompts do to models together.

    Attributes:
        correlation: (M, M) of a prompt's own effect on the models' logits.
        shift_variance: Variance of the error that similar prompts share; the same for all models.
    """

    correlation: Float64Array
    shift_variance: float = 0.0

    @classmethod
    def of(
        cls, space: LatentSpace, models: Sequence[str], shift_variance: float | None = None
    ) -> SharedEffects:
        """Those of models in a space; by default with the shift of prompts of full support.

        Raises:
            UnknownNameError: the space does not know a model.
        """
        at = space.index(tuple(models))
        theta = space.abilities.mean[at].astype(np.float64)
        extended = np.column_stack([theta, np.ones(len(theta))])  # (M, K+1)
        covariance = extended @ space.predictor.effect_covariance.astype(np.float64) @ extended.T
        sd = np.sqrt(np.maximum(np.diagonal(covariance), 1e-12))
        near, _ = space.predictor.shift_variance
        return cls(
            correlation=np.clip(covariance / np.outer(sd, sd), -1.0, 1.0),
            shift_variance=near if shift_variance is None else shift_variance,
        )

    @classmethod
    def independent(cls, n_models: int) -> SharedEffects:
        """Models whose errors have nothing to do with each other: for comparison."""
        return cls(correlation=np.eye(n_models))


@dataclass(frozen=True, kw_only=True, eq=False)
class Logits:
    """What a forecast says of M models on one prompt.

    Attributes:
        mean: (M,) logits.
        effect_variance: (M,) of the prompt's own effect.
        error_variance: (M,) of what is not known of the model and of prompts like this one.
        guessing: The floor of P(correct).
    """

    mean: Float64Array
    effect_variance: Float64Array
    error_variance: Float64Array
    guessing: float = 0.0

    @classmethod
    def of(cls, estimates: Estimates, row: int = 0) -> Logits:
        """Those of one prompt of a table of estimates."""
        forecast = estimates.forecast
        return cls(
            mean=forecast.logit[row].astype(np.float64),
            effect_variance=forecast.effect_variance[row].astype(np.float64),
            error_variance=forecast.error_variance[row].astype(np.float64),
            guessing=float(forecast.guessing[row]),
        )


@lru_cache(maxsize=4)
def _quadrature(n: int) -> tuple[Float64Array, Float64Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()


def right_where_wrong(
    logits: Logits, effects: SharedEffects, first: IntArray, second: IntArray
) -> Float64Array:
    """P(second right | first wrong) for pairs of models (P,)."""
    one, two, both = _joint(logits, effects, first, second)
    wrong = np.maximum(1 - one, 1e-12)
    return np.clip((two - both) / wrong, 0.0, 1.0)


def _joint(
    logits: Logits, effects: SharedEffects, first: IntArray, second: IntArray
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """P(first right), P(second right) and P(both right) of pairs, by the same quadrature."""
    v = logits.effect_variance + logits.error_variance
    scale = np.sqrt(logits.effect_variance[first] * logits.effect_variance[second])
    shared = effects.correlation[first, second] * scale
    # No more can be shared as an error than there is of it.
    error = logits.error_variance
    shared = shared + np.minimum(effects.shift_variance, np.minimum(error[first], error[second]))
    same = first == second
    shared = np.where(same, v[first], shared)
    va, vb = np.maximum(v[first], 1e-12), np.maximum(v[second], 1e-12)
    size = np.minimum(np.abs(shared), np.sqrt(va * vb))
    loading_a = np.sqrt(size * np.sqrt(va / vb))
    loading_b = np.sign(shared) * np.sqrt(size * np.sqrt(vb / va))
    z, weight = _quadrature(NODES)

    def right(which: IntArray, loading: Float64Array, variance: Float64Array) -> Float64Array:
        rest = np.maximum(variance - loading**2, 0.0)
        damped = np.sqrt(1 + np.pi / 8 * rest)
        inner = (logits.mean[which][:, None] + loading[:, None] * z) / damped[:, None]
        floor = logits.guessing
        return np.asarray(floor + (1 - floor) * (0.5 + 0.5 * np.tanh(0.5 * inner)))  # (P, nodes)

    a, b = right(first, loading_a, va), right(second, loading_b, vb)
    return a @ weight, b @ weight, (a * b) @ weight


# -- plans -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OfferedSignal:
    """A signal that plans may use.

    Attributes:
        signal: How it looks at an answer.
        quality: How far it can be trusted; by first model, or one for all.
        cost_usd: What looking costs, beyond the answers it needs.
        latency_s: How long looking takes.
    """

    signal: Signal
    quality: SignalQuality | dict[str, SignalQuality]
    cost_usd: float = 0.0
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.cost_usd >= 0 and self.latency_s >= 0):
            raise InputError("a signal's cost and latency are numbers >= 0")

    def quality_of(self, model: str) -> SignalQuality | None:
        """Its quality on the answers of a model; None where that is not known."""
        return self.quality if isinstance(self.quality, SignalQuality) else self.quality.get(model)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One model, or a first one and a second where a signal fires.

    Attributes:
        first: The model that is asked.
        second: The model that is asked where the signal fires; None for a single model.
        signal: The signal; None for a single model.
        p_correct: P(correct) of the plan.
        cost_usd: Expected dollars.
        latency_s: Expected seconds.
        utility: What the policy maximises.
        p_escalate: P(the second model is asked).
        p_rescue: P(the second model is right | the first is wrong); None for a single model.
        direct: The best single model, for comparison; None where this is it.
    """

    first: str
    second: str | None = None
    signal: Signal | None = None
    p_correct: float
    cost_usd: float
    latency_s: float
    utility: float
    p_escalate: float = 0.0
    p_rescue: float | None = None
    direct: Plan | None = None

    @property
    def is_cascade(self) -> bool:
        """Whether a second model may be asked."""
        return self.second is not None

    def describe(self) -> str:
        """The plan in a sentence."""
        if self.signal is None or self.second is None:
            return (
                f"{self.first}: {percent(self.p_correct)} likely to be right for "
                f"{usd(self.cost_usd)}"
            )
        return (
            f"{self.first}, then {self.second} if {self.signal.name!r} fires "
            f"({percent(self.p_escalate)} of the time): {percent(self.p_correct)} likely to be "
            f"right for {usd(self.cost_usd)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            "signal": None if self.signal is None else self.signal.name,
            "p_correct": self.p_correct,
            "cost_usd": self.cost_usd,
            "latency_s": self.latency_s,
            "utility": self.utility,
            "p_escalate": self.p_escalate,
            "p_rescue": self.p_rescue,
            "direct": None if self.direct is None else self.direct.to_dict(),
        }


def best_plan(
    estimates: Estimates,
    policy: Policy,
    signals: Sequence[OfferedSignal],
    effects: SharedEffects,
    *,
    row: int = 0,
    allowed: IntArray | None = None,
) -> Plan:
    """The plan of the largest utility for one prompt: a single model unless a cascade is better.

    The policy's bounds are kept in expectation, that on the 95th percentile of the latency as if
    every request escalated. P(correct) is taken as the policy takes it.

    Args:
        estimates: Of the prompt.
        policy: What a correct answer and a second are worth, and bounds.
        signals: That plans may use.
        effects: What the models share, in the order of the estimates' models.
        row: The prompt's row.
        allowed: Columns that may be asked; all by default.

    Raises:
        InputError: the effects are those of other models.
        MissingPriceError: a model has no price.
        NoEligibleModelError: no plan keeps the bounds.
    """
    m = len(estimates.models)
    if effects.correlation.shape != (m, m):
        raise InputError(
            f"the shared effects are those of {len(effects.correlation)} models and the estimates "
            f"of {m}; make them with SharedEffects.of(space, estimates.models)"
        )
    columns = np.arange(m) if allowed is None else np.asarray(allowed)
    singles = _Prospects(
        p=probabilities(estimates, policy)[row].astype(np.float64),
        cost=estimates.cost_usd[row],
        latency=estimates.latency_s[row],
        tail=estimates.latency_p95_s[row],
    )
    unpriced = columns[np.isnan(singles.cost[columns])]
    if len(unpriced):
        raise missing_price(estimates.models[int(unpriced[0])])
    names = estimates.models
    mine = singles.take(columns)
    value = mine.utility(policy)
    single = None
    at = _largest(value, mine.cost)
    if at is not None:
        single = Plan(
            first=names[int(columns[at])],
            p_correct=float(mine.p[at]),
            cost_usd=float(mine.cost[at]),
            latency_s=float(mine.latency[at]),
            utility=float(value[at]),
        )
    best = single
    pairs = _Pairs.of(Logits.of(estimates, row), effects, singles.p, columns)
    for offered in signals if len(pairs.first) else ():
        plan = _best_cascade(offered, names, policy, pairs, singles)
        if plan is not None and (best is None or plan.utility > best.utility):
            best = plan
    if best is None:
        raise NoEligibleModelError(
            "no single model and no cascade keeps the policy's bounds; loosen them"
        )
    return replace(best, direct=single) if best.is_cascade else best


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """All ordered pairs of different models, with what they get right together.

    Attributes:
        first, second: (P,) columns.
        rescue: (P,) P(second right | first wrong).
        saved: (P,) P(first wrong and second right).
        both: (P,) P(both right).
    """

    first: IntArray
    second: IntArray
    rescue: Float64Array
    saved: Float64Array
    both: Float64Array

    @classmethod
    def of(
        cls, logits: Logits, effects: SharedEffects, p: Float64Array, columns: IntArray
    ) -> _Pairs:
        grid = np.meshgrid(columns, columns, indexing="ij")
        first, second = (side[grid[0] != grid[1]] for side in grid)
        rescue = right_where_wrong(logits, effects, first, second)
        # Marginals are those of the estimates; the quadrature tells how they hang together.
        saved = np.minimum((1 - p[first]) * rescue, p[second])
        return cls(
            first=first,
            second=second,
            rescue=rescue,
            saved=saved,
            both=np.clip(p[second] - saved, 0.0, p[first]),
        )


def _best_cascade(
    offered: OfferedSignal,
    names: Sequence[str],
    policy: Policy,
    pairs: _Pairs,
    singles: _Prospects,
) -> Plan | None:
    """The best pair under one signal; None where none keeps the policy's bounds."""
    one, two, samples = (
        singles.take(pairs.first),
        singles.take(pairs.second),
        offered.signal.samples,
    )
    qualities = [offered.quality_of(name) for name in names]
    known = np.array([quality is not None for quality in qualities])[pairs.first]
    sensitivity = np.array([0.0 if q is None else q.sensitivity for q in qualities])[pairs.first]
    specificity = np.array([1.0 if q is None else q.specificity for q in qualities])[pairs.first]
    escalate = sensitivity * (1 - one.p) + (1 - specificity) * one.p
    plans = _Prospects(
        p=specificity * one.p + (1 - specificity) * pairs.both + sensitivity * pairs.saved,
        cost=samples * one.cost + offered.cost_usd + escalate * two.cost,
        # Samples of one model are asked for at the same time.
        latency=one.latency + offered.latency_s + escalate * two.latency,
        tail=one.tail + offered.latency_s + np.where(escalate > 0, two.tail, 0.0),
    )
    value = np.where(known, plans.utility(policy), -np.inf)
    at = _largest(value, plans.cost)
    if at is None:
        return None
    return Plan(
        first=names[int(pairs.first[at])],
        second=names[int(pairs.second[at])],
        signal=offered.signal,
        p_correct=float(plans.p[at]),
        cost_usd=float(plans.cost[at]),
        latency_s=float(plans.latency[at]),
        utility=float(value[at]),
        p_escalate=float(escalate[at]),
        p_rescue=float(pairs.rescue[at]),
    )


def _largest(value: Float64Array, cost: Float64Array) -> int | None:
    """Position of the largest value, the cheapest of equals; None where all are barred."""
    if len(value) == 0 or np.isneginf(value.max()):
        return None
    top = np.flatnonzero(value == value.max())
    return int(top[cost[top].argmin()])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prospects:
    """What to expect of some plans, (P,) each; of single models where they are columns."""

    p: Float64Array
    cost: Float64Array
    latency: Float64Array
    tail: Float64Array

    def utility(self, policy: Policy) -> Float64Array:
        """What the policy maximises, minus infinity where a bound is broken."""
        wrong = policy.value_of_correct_usd * (1 - self.p)
        waiting = policy.value_of_second_usd * self.latency
        if policy.objective == "cost":
            value = -self.cost
        elif policy.objective == "accuracy":
            value = self.p
        elif policy.scalarisation == "chebyshev":
            largest = np.maximum(np.maximum(wrong, self.cost), waiting)
            value = -(largest + AUGMENTATION * (wrong + self.cost + waiting))
        else:
            value = policy.value_of_correct_usd - wrong - self.cost - waiting
        kept = np.ones(len(self.p), dtype=np.bool_)
        if policy.min_accuracy is not None:
            kept &= self.p >= policy.min_accuracy
        if policy.max_cost_usd is not None:
            kept &= self.cost <= policy.max_cost_usd
        if policy.max_latency_s is not None:
            kept &= self.latency <= policy.max_latency_s
        if policy.max_p95_latency_s is not None:
            kept &= self.tail <= policy.max_p95_latency_s
        return np.where(kept, value, -np.inf)

    def take(self, columns: IntArray) -> _Prospects:
        """Some of them."""
        return _Prospects(
            p=self.p[columns],
            cost=self.cost[columns],
            latency=self.latency[columns],
            tail=self.tail[columns],
        )


# -- following a plan --------------------------------------------------------------------------

Ask: TypeAlias = Callable[[str, int], Sequence[Answer]]
"""Asks a model (by name) for so many answers to the prompt at hand."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What came of a plan.

    Attributes:
        answer: The answer that counts.
        model: Who gave it.
        first: The first model's answer.
        escalated: Whether the signal fired.
    """

    answer: Answer
    model: str
    first: Answer
    escalated: bool


def follow(plan: Plan, ask: Ask) -> Followed:
    """Ask the first model, look at its answer, and ask the second where the signal fires.

    Args:
        plan: What to do.
        ask: How models are asked.

    Raises:
        InputError: ``ask`` handed back no answer.
    """
    samples = 1 if plan.signal is None else plan.signal.samples
    given = list(ask(plan.first, samples))
    if not given:
        raise InputError(f"{plan.first} gave no answer; at least one is wanted")
    first = replace(given[0], others=(*given[0].others, *(other.text for other in given[1:])))
    if plan.signal is None or plan.second is None or not plan.signal.fires(first):
        return Followed(answer=first, model=plan.first, first=first, escalated=False)
    second = list(ask(plan.second, 1))
    if not second:
        raise InputError(f"{plan.second} gave no answer; at least one is wanted")
    return Followed(answer=second[0], model=plan.second, first=first, escalated=True)
