"""The outcome of an assignment: one model per prompt, totals, and the proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from zerorouter.arrays import Float64Array, IntArray


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a batch comes to; the JSON of ``zerorouter assign``.

    Attributes:
        n: Prompts.
        goal: What was sought: ``accuracy``, ``cost`` or ``utility``.
        objective: What was reached: the expected number of correct answers (weighted), or minus
            the dollars spent, or dollars of utility; for jobs that need all their subtasks, the
            expected weight of the jobs that succeed.
        bound: No assignment that keeps the bounds reaches more.
        gap: ``(bound - objective) / |bound|``.
        exact: Whether the assignment was proven optimal.
        spend_usd: Expected dollars.
        budget_usd: The budget, or None.
        confidence: With which the spend that is realised keeps the budget, or None.
        spend_at_confidence_usd: What the realised spend stays below with that confidence.
        mean_latency_s: Mean latency, or None where it was not asked about.
        p95_latency_s: 95th percentile of the latency over the batch, or None.
        mean_p_correct: Mean P(correct), unweighted.
        by_model: How many prompts each model takes, most first.
        multipliers: What one more unit of each binding bound would add to the objective: a dollar
            of budget, a second of mean latency, 1 of mean accuracy, a request or token of a
            model's capacity; for the 95th percentile, one more request that may be late.
    """

    n: int
    goal: str
    objective: float
    bound: float
    gap: float
    exact: bool = False
    spend_usd: float
    budget_usd: float | None = None
    confidence: float | None = None
    spend_at_confidence_usd: float | None = None
    mean_latency_s: float | None = None
    p95_latency_s: float | None = None
    mean_p_correct: float
    by_model: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    multipliers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in the documented order."""
        return {
            "n": self.n,
            "goal": self.goal,
            "objective": self.objective,
            "bound": self.bound,
            "gap": self.gap,
            "exact": self.exact,
            "spend_usd": self.spend_usd,
            "budget_usd": self.budget_usd,
            "confidence": self.confidence,
            "spend_at_confidence_usd": self.spend_at_confidence_usd,
            "mean_latency_s": self.mean_latency_s,
            "p95_latency_s": self.p95_latency_s,
            "mean_p_correct": self.mean_p_correct,
            "by_model": dict(self.by_model),
            "multipliers": dict(self.multipliers),
        }


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt's line of an assignment."""

    model: str
    p_correct: float
    cost_usd: float
    latency_s: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Assignment:
    """A model for each of N prompts, in their order.

    Attributes:
        models: (M,) names of the columns.
        choice: (N,) column of each prompt's model.
        p_correct: (N,) P(correct) with it.
        cost_usd: (N,) expected dollars.
        latency_s: (N,) expected seconds, or None.
        totals: What it comes to, and the proof.
    """

    models: tuple[str, ...]
    choice: IntArray
    p_correct: Float64Array
    cost_usd: Float64Array
    latency_s: Float64Array | None
    totals: Totals

    def __len__(self) -> int:
        return len(self.choice)

    def model(self, prompt: int) -> str:
        """The model of the prompt at that position."""
        return self.models[int(self.choice[prompt])]

    def rows(self) -> Iterator[Row]:
        """One row per prompt, in order."""
        latency = [None] * len(self) if self.latency_s is None else self.latency_s.tolist()
        for j, p, cost, seconds in zip(
            self.choice.tolist(),
            self.p_correct.tolist(),
            self.cost_usd.tolist(),
            latency,
            strict=True,
        ):
            yield Row(model=self.models[j], p_correct=p, cost_usd=cost, latency_s=seconds)

    def to_dict(self) -> dict[str, Any]:
        """The totals as plain values for JSON."""
        return self.totals.to_dict()
