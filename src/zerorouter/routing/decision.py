"""A decision: the chosen model, the estimates behind it, and why.

Its fields carry the same words in Python, in ``route --json`` and in ``/v1/route``. What a
caller rarely reads (all candidates, reasons, the counterfactual) is worked out on first
use, which keeps the deciding itself fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.routing import choice
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import Policy
from zerorouter.routing.wording import percent, seconds, usd

LOW_SUPPORT = 0.25  # below this share of calibrated prompts lie farther out than this one


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that was weighed; ``utility`` is in dollars under the policy."""

    model: str
    p_correct: float
    cost_usd: float
    latency_s: float
    utility: float


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A model that was not weighed, and why."""

    model: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighing:
    """Everything that was weighed for one prompt; the material of a decision's lazy fields.

    Attributes:
        estimates: One row.
        utility: (M,) dollars.
        allowed: Columns that passed every filter and bound.
        chosen: Column of the chosen model.
        policy: The policy in force.
        filtered: Reason by model for those that lists and capabilities left out.
        crowded: Columns whose context window the request does not fit in.
    """

    estimates: Estimates
    utility: Float64Array
    allowed: IntArray
    chosen: int
    policy: Policy
    filtered: Mapping[str, str]
    crowded: IntArray

    @cached_property
    def order(self) -> IntArray:
        """Allowed columns from best to worst."""
        return choice.ranked(self.estimates, 0, self.utility, self.allowed)

    @cached_property
    def strongest(self) -> int:
        """The allowed column with the largest P(correct); the cheapest of equals."""
        e = self.estimates
        return int(min(self.allowed, key=lambda j: (-e.p_correct[0, j], e.cost_usd[0, j], j)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """Where one prompt goes.

    Attributes:
        decision_id: Names this decision in feedback and logs.
        model: The chosen model.
        policy: Name of the policy in force.
        p_correct: P(correct) of the chosen model.
        p_correct_low: Lower end of its 90% interval.
        p_correct_high: Upper end of its 90% interval.
        cost_usd: Expected cost of the request.
        latency_s: Expected seconds to the last token.
        difficulty: MDIFF of the prompt, in standard deviations of ability.
        domain: The domain it reads like, of `predict.domains.DOMAINS`.
        requirements: Capabilities that the request needs.
        support: Share of calibrated prompts that lie farther from the rest than this one:
            near 0 means unlike anything calibrated; low support widens the interval.
        space_version: Version of the space that estimated it.
    """

    decision_id: str
    model: str
    policy: str
    p_correct: float
    p_correct_low: float
    p_correct_high: float
    cost_usd: float
    latency_s: float
    difficulty: float
    domain: str
    requirements: tuple[str, ...]
    support: float
    space_version: str
    weighing: Weighing = field(repr=False)

    @cached_property
    def fallbacks(self) -> tuple[str, ...]:
        """The other allowed models, best first."""
        w = self.weighing
        return tuple(w.estimates.models[int(j)] for j in w.order if j != w.chosen)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every model that was weighed and allowed, best first."""
        w, e = self.weighing, self.weighing.estimates
        return tuple(
            Candidate(
                model=e.models[int(j)],
                p_correct=float(e.p_correct[0, j]),
                cost_usd=float(e.cost_usd[0, j]),
                latency_s=float(e.latency_s[0, j]),
                utility=float(w.utility[j]),
            )
            for j in w.order
        )

    @cached_property
    def excluded(self) -> tuple[Exclusion, ...]:
        """Models left out by lists, capabilities, context or bounds, with the reason."""
        w, e = self.weighing, self.weighing.estimates
        out = [Exclusion(model=m, reason=r) for m, r in w.filtered.items()]
        allowed, crowded = set(w.allowed.tolist()), set(w.crowded.tolist())
        for j, model in enumerate(e.models):
            if j in allowed or model in w.filtered:
                continue
            reason = (
                "its context window is too small" if j in crowded else _bound_reason(e, j, w.policy)
            )
            out.append(Exclusion(model=model, reason=reason))
        return tuple(sorted(out, key=lambda x: x.model))

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why this model, in sentences a person can check."""
        w, e = self.weighing, self.weighing.estimates
        out = [
            f"{self.model} has the largest utility under {w.policy.name!r}: "
            f"{percent(self.p_correct)} likely to be right "
            f"({percent(self.p_correct_low)} to {percent(self.p_correct_high)}), "
            f"{usd(self.cost_usd)}, about {seconds(self.latency_s)}"
        ]
        strongest = w.strongest
        if strongest == w.chosen:
            out.append("no allowed model is more likely to be right")
        else:
            gain = 100 * (float(e.p_correct[0, strongest]) - self.p_correct)
            cost = float(e.cost_usd[0, strongest])
            times = f", {cost / self.cost_usd:.1f} times as much" if self.cost_usd > 0 else ""
            out.append(
                f"{e.models[strongest]} would be right {gain:.1f} points more often "
                f"and cost {usd(cost)}{times}"
            )
        out.append(f"reads as {self.domain}, difficulty {self.difficulty:+.1f}")
        if self.requirements:
            out.append(f"needs {', '.join(self.requirements)}")
        if self.support < LOW_SUPPORT:
            out.append(
                f"unlike most calibrated prompts (support {self.support:.2f}), "
                "which widens the interval"
            )
        return tuple(out)

    @cached_property
    def counterfactual(self) -> str:
        """The smallest change, in relative terms, that would flip the choice."""
        return _counterfactual(self.weighing)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in the documented order."""
        return {
            "decision_id": self.decision_id,
            "model": self.model,
            "policy": self.policy,
            "p_correct": self.p_correct,
            "p_correct_low": self.p_correct_low,
            "p_correct_high": self.p_correct_high,
            "cost_usd": self.cost_usd,
            "latency_s": self.latency_s,
            "difficulty": self.difficulty,
            "domain": self.domain,
            "requirements": list(self.requirements),
            "support": self.support,
            "fallbacks": list(self.fallbacks),
            "excluded": [dict(vars(x)) for x in self.excluded],
            "candidates": [dict(vars(c)) for c in self.candidates],
            "reasons": list(self.reasons),
            "counterfactual": self.counterfactual,
            "space_version": self.space_version,
        }


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A change of one number at which a rival draws level with the chosen model.

    Attributes:
        model: The rival, chosen as soon as the change goes any farther.
        value_of_correct_usd: What a correct answer would have to be worth, or None.
        cost_share: The share of its cost that the rival would have to charge, or None.
        size: |log| of the ratio of the new number to the old.
    """

    model: str
    value_of_correct_usd: float | None = None
    cost_share: float | None = None
    size: float


def nearest_flip(w: Weighing) -> Flip | None:
    """The smallest change of the value of a correct answer, or of a rival's price, that flips.

    With rewards V p - k, where k is what cost and waiting take, rival j overtakes the chosen
    model i where V = (k_i - k_j) / (p_i - p_j). A price flips it where the rival's cost falls
    by the gap in utility.
    """
    e, policy, i = w.estimates, w.policy, w.chosen
    value = policy.value_of_correct_usd
    p = e.p_correct[0].astype(np.float64)
    k = e.cost_usd[0] + policy.value_of_second_usd * e.latency_s[0]
    found = []
    for j in (int(j) for j in w.allowed if j != i):
        name, c_j = e.models[j], float(e.cost_usd[0, j])
        if p[i] != p[j] and value > 0:
            flip = float((k[i] - k[j]) / (p[i] - p[j]))
            if flip > 0:
                size = abs(math.log(flip / value))
                found.append(Flip(model=name, value_of_correct_usd=flip, size=size))
        gap = float(w.utility[i] - w.utility[j])
        if 0 < gap < c_j:
            share = 1 - gap / c_j
            found.append(Flip(model=name, cost_share=share, size=-math.log(share)))
    return min(found, key=lambda flip: flip.size, default=None)


def _counterfactual(w: Weighing) -> str:
    flip = nearest_flip(w)
    if flip is None:
        why = "no other model is allowed" if len(w.allowed) == 1 else "the others are too far off"
        return f"no single change of value or price flips the choice: {why}"
    if flip.cost_share is not None:
        return f"{flip.model} would be chosen if it cost {percent(1 - flip.cost_share)} less"
    p = w.estimates.p_correct[0]
    dearer = p[w.estimates.models.index(flip.model)] > p[w.chosen]
    return (
        f"{flip.model} would be chosen if a correct answer were worth "
        f"{'more' if dearer else 'less'} than {usd(flip.value_of_correct_usd or 0.0)} "
        f"(now {usd(w.policy.value_of_correct_usd)})"
    )


def _bound_reason(e: Estimates, j: int, policy: Policy) -> str:
    if policy.min_accuracy is not None and e.p_correct[0, j] < policy.min_accuracy:
        return f"P(correct) {e.p_correct[0, j]:.2f} is below {policy.min_accuracy:g}"
    if policy.max_cost_usd is not None and not e.cost_usd[0, j] <= policy.max_cost_usd:
        return f"costs {usd(float(e.cost_usd[0, j]))}, above {usd(policy.max_cost_usd)}"
    return f"takes {seconds(float(e.latency_s[0, j]))}, above {policy.max_latency_s:g} s"
