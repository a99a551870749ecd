"""The three numbers that every decision rests on, for N prompts and M models."""

from __future__ import annotations

from dataclasses import dataclass

from zerorouter.arrays import Float32Array, Float64Array


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """P(correct), cost and latency of every (prompt, model) pair.

    Attributes:
        models: (M,) names, in the order of the columns.
        p_correct: (N, M) probability of a correct answer, all uncertainty integrated out.
        p_low: (N, M) lower end of its 90% interval.
        p_high: (N, M) upper end of its 90% interval.
        cost_usd: (N, M) expected cost of the request in US dollars; NaN without a price.
        latency_s: (N, M) expected seconds to the last token.
        output_tokens: (N, M) expected output tokens.
    """

    models: tuple[str, ...]
    p_correct: Float32Array
    p_low: Float32Array
    p_high: Float32Array
    cost_usd: Float64Array
    latency_s: Float64Array
    output_tokens: Float64Array

    @property
    def n_prompts(self) -> int:
        """How many prompts there are."""
        return len(self.p_correct)

    def row(self, index: int) -> Estimates:
        """The estimates of one prompt, as a table of one row."""
        rows = slice(index, index + 1)
        return Estimates(
            models=self.models,
            p_correct=self.p_correct[rows],
            p_low=self.p_low[rows],
            p_high=self.p_high[rows],
            cost_usd=self.cost_usd[rows],
            latency_s=self.latency_s[rows],
            output_tokens=self.output_tokens[rows],
        )
