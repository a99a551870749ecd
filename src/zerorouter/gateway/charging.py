"""What requests cost, at worst and in the end, from their tokens."""

from __future__ import annotations

from typing import Final, NamedTuple, cast

from zerorouter.gateway.budgets import to_usd, worst_nusd
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


def charge(setup: Setup, record: RequestRecord) -> None:
    """Price what each attempt took; the request's cost is that of all of them."""
    if record.usage is not None and record.model and record.attempts:
        record.attempts[-1].usage = record.usage
    total: float | None = None
    for attempt in record.attempts:
        if attempt.usage is None:
            continue
        price = setup.price(attempt.model)
        if price is not None:
            attempt.cost_usd = cost_usd(price, attempt.usage)
            total = attempt.cost_usd if total is None else total + attempt.cost_usd
    record.cost_usd = total


def worst_usd(setup: Setup, request: WireRequest, model: str) -> float | None:
    """The most that a request can cost at a model; None without a price.

    A text has no more tokens than bytes (it has a quarter as many as a rule, but one for each digit
    that stands alone), and all of them may be of the dearest kind. What is put aside too much is
    free again as soon as the request is over.
    """
    price = setup.price(model)
    if price is None:
        return None
    most = most_tokens(setup, request, model)
    worst = worst_nusd(price, input_tokens=len(request.raw), max_output_tokens=most.output_tokens)
    return to_usd(worst)


def most_tokens(setup: Setup, request: WireRequest, model: str) -> TokenUsage:
    """Tokens that a request may take of a model: input rounded up, all the output it may have."""
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
