"""What requests cost, at worst and in the end, from their tokens."""

from __future__ import annotations

from typing import Final, NamedTuple, cast

from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.setup import Setup
from zerorouter.gateway.wire.peek import WireRequest
from zerorouter.gateway.wire.scanning import AnswerFacts
from zerorouter.gateway.wire.usage import TokenUsage
from zerorouter.prices import Price, TokenCounts, request_cost_usd

USUAL_MAX_TOKENS: Final = 4_096
"""Output tokens assumed of a request without a limit, to a model whose own limit is not known."""


class _Billed(NamedTuple):
    """`TokenCounts` of a usage, whose numbers were checked as they were read."""

    input_tokens: float
    output_tokens: float
    cached_input_tokens: float
    cache_write_tokens: float
    reasoning_tokens: float
    audio_input_tokens: float = 0.0


def cost_usd(price: Price, usage: TokenUsage) -> float:
    """Dollars for what an upstream told; parts that exceed their whole make it as large."""
    counts = _Billed(
        input_tokens=max(usage.input_tokens, usage.cached_tokens + usage.cache_write_tokens),
        output_tokens=max(usage.output_tokens, usage.reasoning_tokens),
        cached_input_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    return request_cost_usd(price, cast(TokenCounts, counts))


def most_tokens(setup: Setup, request: WireRequest, model: str) -> TokenUsage:
    """The most tokens that a request can take of a model."""
    tokens_in = len(request.raw) // 3 + 1  # above what four characters a token would give
    spec = setup.catalog.get(model) if model in setup.catalog else None
    longest = (spec.max_output_tokens if spec else None) or USUAL_MAX_TOKENS
    tokens_out = (request.max_tokens or longest) * request.n
    return TokenUsage(input_tokens=tokens_in, output_tokens=tokens_out)


def streamed_tokens(
    facts: AnswerFacts, record: RequestRecord, request: WireRequest
) -> tuple[TokenUsage, bool]:
    """Tokens of a stream: as told, else estimated from what has passed; and whether they are."""
    usage = facts.usage
    if usage is not None and (usage.output_tokens or not facts.content_chars):
        return usage, False
    tokens_in = _input_tokens(record, request) if usage is None else usage.input_tokens
    return TokenUsage(input_tokens=tokens_in, output_tokens=facts.output_tokens()), True


def _input_tokens(record: RequestRecord, request: WireRequest) -> int:
    """Estimated input: the decision's estimate for the model that served, else a count."""
    decision = record.decision
    if decision is not None and (counted := decision.weighing.estimates.input_tokens) is not None:
        models = decision.weighing.estimates.models
        if counted.ndim == 1:
            return int(counted[0])
        if record.model in models:
            return int(counted[0, models.index(record.model)])
    from zerorouter.gateway.wire.count_tokens import count_tokens

    return count_tokens(request.body)
