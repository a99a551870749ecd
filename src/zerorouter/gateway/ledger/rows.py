"""What the ledger keeps: a row per request with one per attempt, feedback, admin actions.

Money is in nano-dollars, times are nanoseconds since 1970 in UTC, durations are seconds. None means
not known. The text of a prompt is kept only where the ledger was told to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_TEXT: Final = 2_000  # characters of an error, a name or a detail


@dataclass(kw_only=True, slots=True)  # not frozen: see `RequestRow`
class AttemptRow:
    """One call of an upstream for a request.

    Attributes:
        n: 0 for the first attempt.
        model: Asked for.
        upstream: Name of the endpoint that was called.
        started_ns: When it was sent.
        status: HTTP status; None where no answer came.
        outcome: ``ok``, or a word for what went wrong: ``timeout``, ``connect``, ``cancelled`` ...
        error: What was said, at most `MAX_TEXT` characters.
        input_tokens: As billed, cached ones included.
        cached_input_tokens: Of those, read from the upstream's prompt cache.
        cache_write_tokens: Of those, written to it.
        output_tokens: As billed, reasoning included.
        reasoning_tokens: Of those, reasoning.
        cost_nusd: What it cost; None without a price.
        ttft_s: Seconds to the first content.
        latency_s: Seconds to its last byte.
    """

    n: int
    model: str
    upstream: str
    started_ns: int
    status: int | None = None
    outcome: str = "ok"
    error: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nusd: int | None = None
    ttft_s: float | None = None
    latency_s: float | None = None


@dataclass(kw_only=True, slots=True)  # not frozen: made for each request (docs/decisions/0010)
class RequestRow:
    """One request, however many attempts it took.

    Attributes:
        id: Request id, as `zerorouter.gateway.accounts.new_id` makes them; a row is kept once.
        started_ns: When it was received; its UTC day is charged. With a reservation, the time that
            was given to `reserve`.
        decision_id: Of the router's decision; None where a concrete model was asked for.
        key_id: Public id of the virtual key; None without keys.
        policy: The policy it was routed by.
        session: The client's session id.
        api: ``chat``, ``messages``, ``responses``, ``embeddings`` ...
        asked_model: What the client asked for, such as ``zerorouter/auto``.
        model: What answered; None where nothing did.
        upstream: Where that is served.
        stream: Whether the client asked for a stream.
        status: HTTP status the client got; None where it had gone.
        outcome: ``ok``, or a word for what went wrong.
        error: What was said, at most `MAX_TEXT` characters.
        input_tokens: As billed, over all attempts; cached ones included.
        cached_input_tokens: Of those, read from the upstream's prompt cache.
        cache_write_tokens: Of those, written to it.
        output_tokens: As billed, over all attempts; reasoning included.
        reasoning_tokens: Of those, reasoning.
        estimated: Whether tokens or cost are estimates, the upstream having told none.
        cost_nusd: What all attempts cost; None without a price.
        expected_cost_nusd: What the router expected.
        baseline_cost_nusd: What the strongest eligible model would have cost.
        p_correct: What the router expected, in [0, 1].
        expected_output_tokens: What the router expected.
        expected_latency_s: What the router expected.
        latency_s: Request received to last byte sent.
        ttft_s: Seconds from the upstream request to the first content.
        tpot_s: Seconds per output token after the first.
        overhead_s: What the gateway added before the upstream request was sent.
        profile_version: Of the profiles that the decision was made with.
        attempts: In their order.
        prompt: The text; kept only where the ledger was told to.
    """

    id: str
    started_ns: int
    decision_id: str | None = None
    key_id: str | None = None
    policy: str | None = None
    session: str | None = None
    api: str = "chat"
    asked_model: str = ""
    model: str | None = None
    upstream: str | None = None
    stream: bool = False
    status: int | None = None
    outcome: str = "ok"
    error: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    cost_nusd: int | None = None
    expected_cost_nusd: int | None = None
    baseline_cost_nusd: int | None = None
    p_correct: float | None = None
    expected_output_tokens: float | None = None
    expected_latency_s: float | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    overhead_s: float | None = None
    profile_version: str | None = None
    attempts: tuple[AttemptRow, ...] = ()
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackRow:
    """How good an answer was, as its reader says.

    Attributes:
        id: As `new_id` makes them; a row is kept once.
        received_ns: When it came.
        decision_id: Of the decision it is about.
        score: In [0, 1].
        key_id: Whose key sent it.
        model: What had answered.
        comment: At most `MAX_TEXT` characters.
    """

    id: str
    received_ns: int
    decision_id: str
    score: float
    key_id: str | None = None
    model: str | None = None
    comment: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdminRow:
    """A change made through the admin endpoints.

    Attributes:
        id: As `new_id` makes them; a row is kept once.
        at_ns: When.
        action: A word such as ``keys.make``.
        target: What it was done to.
        detail: JSON; never a secret.
    """

    id: str
    at_ns: int
    action: str
    target: str | None = None
    detail: str | None = None


LedgerRow = RequestRow | FeedbackRow | AdminRow
KINDS: Final[dict[type, str]] = {
    RequestRow: "request",
    FeedbackRow: "feedback",
    AdminRow: "admin",
}
