"""A decision: the chosen model, the estimates behind it, and why.

Its fields carry the same words in Python, in ``route --json`` and in ``/v1/route``. What a
caller rarely reads (all candidates, reasons, the counterfactual) is worked out on first
use, which keeps the deciding itself fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.predict.items import PromptReadings
from zerorouter.routing import choice
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import AUGMENTATION, Policy
from zerorouter.routing.wording import bound_text, percent, seconds, usd

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
        readings: What the prompt was read as, for learning from its answer; None for nothing.
        row: Where it stands in them.
    """

    estimates: Estimates
    utility: Float64Array
    allowed: IntArray
    chosen: int
    policy: Policy
    filtered: Mapping[str, str]
    crowded: IntArray
    readings: PromptReadings | None = None
    row: int = 0

    @cached_property
    def order(self) -> IntArray:
        """Allowed columns from best to worst."""
        return choice.ranked(self.estimates, 0, self.utility, self.allowed)

    @cached_property
    def strongest(self) -> int:
        """The allowed column with the largest P(correct); the cheapest of equals."""
        e = self.estimates
        return int(min(self.allowed, key=lambda j: (-e.p_correct[0, j], e.cost_usd[0, j], j)))

    @cached_property
    def bounded_out(self) -> IntArray:
        """Columns that lists, capabilities and context left, but a bound did not."""
        left = set(self.allowed.tolist()) | set(self.crowded.tolist())
        names = self.estimates.models
        out = [j for j, name in enumerate(names) if j not in left and name not in self.filtered]
        return np.array(out, dtype=np.int64)


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
    def latency_p50_s(self) -> float:
        """Seconds to the last token that half of such requests stay within."""
        return float(self.weighing.estimates.latency_p50_s[0, self.weighing.chosen])

    @cached_property
    def latency_p95_s(self) -> float:
        """Seconds to the last token that nineteen in twenty such requests stay within."""
        return float(self.weighing.estimates.latency_p95_s[0, self.weighing.chosen])

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
            reason = "its context window is too small" if j in crowded else _bound_reason(w, j)
            out.append(Exclusion(model=model, reason=reason))
        return tuple(sorted(out, key=lambda x: x.model))

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why this model, in sentences a person can check."""
        w, e = self.weighing, self.weighing.estimates
        out = [
            f"{self.model} {_why(w)}: {percent(self.p_correct)} likely to be right "
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
            "latency_p50_s": self.latency_p50_s,
            "latency_p95_s": self.latency_p95_s,
        }


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A change of one number at which a rival draws level with the chosen model.

    Attributes:
        model: The rival, chosen as soon as the change goes any farther.
        value_of_correct_usd: What a correct answer would have to be worth, or None.
        cost_share: The share of its cost that the rival would have to charge, or None.
        bound: The bound that would have to be loosened, or None.
        bound_value: To which value.
        size: |log| of the ratio of the new number to the old.
    """

    model: str
    value_of_correct_usd: float | None = None
    cost_share: float | None = None
    bound: str | None = None
    bound_value: float | None = None
    size: float


def nearest_flip(w: Weighing) -> Flip | None:
    """The smallest change of a value, of a rival's price or of a bound that flips the choice.

    With rewards V p - k, where k is what cost and waiting take, rival j overtakes the chosen
    model i where V = (k_i - k_j) / (p_i - p_j). A price flips it where the rival's cost falls
    by the gap in utility, a bound where it lets in a model of larger utility.
    """
    found = [*_value_flips(w), *_price_flips(w), *_bound_flips(w)]
    return min(found, key=lambda flip: flip.size, default=None)


def _value_flips(w: Weighing) -> Iterator[Flip]:
    """Values of a correct answer at which a rival draws level; of summed utilities alone."""
    e, policy, i = w.estimates, w.policy, w.chosen
    value = policy.value_of_correct_usd
    if policy.objective != "utility" or policy.scalarisation != "sum" or value <= 0:
        return
    p = choice.probabilities(e, policy)[0].astype(np.float64)
    k = e.cost_usd[0] + policy.value_of_second_usd * e.latency_s[0]
    for j in (int(j) for j in w.allowed if j != i):
        if p[i] != p[j]:
            flip = float((k[i] - k[j]) / (p[i] - p[j]))
            if flip > 0:
                size = abs(math.log(flip / value))
                yield Flip(model=e.models[j], value_of_correct_usd=flip, size=size)


def _price_flips(w: Weighing) -> Iterator[Flip]:
    """Shares of their cost at which rivals draw level."""
    e, policy, i = w.estimates, w.policy, w.chosen
    if policy.objective == "accuracy":
        return
    target = float(w.utility[i])
    for j in (int(j) for j in w.allowed if j != i):
        cost = float(e.cost_usd[0, j])
        if policy.scalarisation == "chebyshev":
            share = _chebyshev_share(w, j, target)
        else:
            gap = target - float(w.utility[j])
            share = 1 - gap / cost if 0 < gap < cost else None
        if share is not None and 0 < share < 1:
            yield Flip(model=e.models[j], cost_share=share, size=-math.log(share))


def _chebyshev_share(w: Weighing, j: int, target: float) -> float | None:
    """The share of its cost at which column j reaches the Chebyshev utility ``target``.

    With A the larger and B the sum of the other two losses, the utility at cost x is
    ``-(max(A, x) + r (B + x))``: one line below A, a steeper one above.
    """
    e, policy, r = w.estimates, w.policy, AUGMENTATION
    cost = float(e.cost_usd[0, j])
    if cost <= 0 or float(w.utility[j]) >= target:
        return None
    wrong = policy.value_of_correct_usd * (1 - float(choice.probabilities(e, policy)[0, j]))
    waiting = policy.value_of_second_usd * float(e.latency_s[0, j])
    largest, others = max(wrong, waiting), wrong + waiting
    flat = (-target - largest) / r - others  # where the cost is not the largest loss
    x = flat if flat <= largest else (-target - r * others) / (1 + r)
    return x / cost if x > 0 else None


def _bound_flips(w: Weighing) -> Iterator[Flip]:
    """Bounds that, loosened alone, let in a model of larger utility."""
    e, policy, i = w.estimates, w.policy, w.chosen
    bounds = choice.bounds_of(policy)
    if not bounds:
        return
    utility = choice.utilities(e, policy)[0]
    kept = {bound.name: bound.kept(e, policy)[0] for bound in bounds}
    for j in (int(j) for j in w.bounded_out):
        broken = [bound for bound in bounds if not kept[bound.name][j]]
        if len(broken) != 1 or not utility[j] > utility[i]:
            continue
        limit, value = broken[0].limit(policy), float(broken[0].values(e, policy)[0, j])
        if limit and value > 0:
            yield Flip(
                model=e.models[j],
                bound=broken[0].name,
                bound_value=value,
                size=abs(math.log(value / limit)),
            )


def _counterfactual(w: Weighing) -> str:
    flip = nearest_flip(w)
    if flip is None:
        why = "no other model is allowed" if len(w.allowed) == 1 else "the others are too far off"
        return f"no single change of value, price or bound flips the choice: {why}"
    if flip.cost_share is not None:
        return f"{flip.model} would be chosen if it cost {percent(1 - flip.cost_share)} less"
    if flip.bound is not None:
        limit = getattr(w.policy, flip.bound)
        return (
            f"{flip.model} would be chosen if {flip.bound} were "
            f"{bound_text(flip.bound, flip.bound_value or 0.0)} "
            f"(now {bound_text(flip.bound, limit)})"
        )
    p = choice.probabilities(w.estimates, w.policy)[0]
    dearer = p[w.estimates.models.index(flip.model)] > p[w.chosen]
    return (
        f"{flip.model} would be chosen if a correct answer were worth "
        f"{'more' if dearer else 'less'} than {usd(flip.value_of_correct_usd or 0.0)} "
        f"(now {usd(w.policy.value_of_correct_usd)})"
    )


def _why(w: Weighing) -> str:
    """Why the chosen model was chosen, as the predicate of a sentence."""
    policy, allowed = w.policy, "" if not w.policy.has_bounds else " that keeps the bounds"
    sure = "" if policy.confidence is None else f", P(correct) taken at {policy.confidence:g}"
    if policy.objective == "cost":
        return f"is the cheapest model{allowed}{sure}"
    if policy.objective == "accuracy":
        return f"is the model most likely to be right{allowed}{sure}"
    return f"has the largest utility under {policy.name!r}{sure}"


def _bound_reason(w: Weighing, j: int) -> str:
    """The first bound that a model breaks."""
    e, policy = w.estimates, w.policy
    if policy.min_accuracy is not None:
        p = float(choice.probabilities(e, policy)[0, j])
        if p < policy.min_accuracy:
            sure = "" if policy.confidence is None else f" at confidence {policy.confidence:g}"
            return f"P(correct) {p:.2f}{sure} is below {policy.min_accuracy:g}"
    cost, latency = float(e.cost_usd[0, j]), float(e.latency_s[0, j])
    if policy.max_cost_usd is not None and not cost <= policy.max_cost_usd:
        return f"costs {usd(cost)}, above {usd(policy.max_cost_usd)}"
    if policy.max_latency_s is not None and not latency <= policy.max_latency_s:
        return f"takes {seconds(latency)}, above {policy.max_latency_s:g} s"
    p95 = float(e.latency_p95_s[0, j])
    return f"takes up to {seconds(p95)} (p95), above {policy.max_p95_latency_s:g} s"
