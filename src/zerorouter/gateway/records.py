"""What happened to a request: the material of the ledger, the log line and the metrics.

A record is filled in while its request runs and read when it is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zerorouter.gateway.accounts import Reservation
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.usage import TokenUsage
from zerorouter.routing.decision import Decision


@dataclass(kw_only=True, slots=True)
class AttemptRecord:
    """One call of an upstream.

    Attributes:
        upstream: Its name.
        model: Our name of the model.
        served_as: The upstream's name of it.
        started_s: Since the request came in.
        status: The upstream's status; None where none came.
        outcome: ``ok``, ``status``, ``connect``, ``first_byte``, ``idle``, ``deadline``,
            ``broken``, ``garbage``, ``too_long``, ``client`` or ``left``.
        seconds: How long it took; of an answer that is passed on, up to its first byte.
        retry_after_s: What the upstream asked for.
        probe: Whether its circuit was not closed.
        usage: Tokens that it took; None where that is not known.
        cost_usd: At the model's price; None where tokens or price are not known.
    """

    upstream: str
    model: str
    served_as: str
    started_s: float
    status: int | None = None
    outcome: str = "running"
    seconds: float = 0.0
    retry_after_s: float | None = None
    probe: bool = False
    usage: TokenUsage | None = None
    cost_usd: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For the log."""
        out: dict[str, Any] = {
            "upstream": self.upstream,
            "model": self.model,
            "status": self.status,
            "outcome": self.outcome,
            "s": round(self.seconds, 6),
        }
        if self.retry_after_s is not None:
            out["retry_after_s"] = self.retry_after_s
        return out


@dataclass(kw_only=True, slots=True)
class RequestRecord:
    """One request of a client.

    Attributes:
        request_id: Ours.
        api: The API it came by.
        started: On the monotonic clock, in seconds.
        started_ns: Nanoseconds since 1970, in UTC.
        key_id: Public id of the client's key; empty without keys.
        session_id: The client's name of the session.
        requested: The model asked for.
        policy: In force; None where a concrete model was asked for.
        decision: The router's; None where a concrete model was asked for.
        model: Our name of the model that served.
        upstream: That served it.
        stream: Whether the answer was streamed.
        max_tokens: Of the answer, as the client limited it.
        n_answers: That the client asked for.
        traceparent: The client's header of that name, where traces are made.
        attempts: Calls of upstreams, in order.
        status: The status that the client got; 499 where it left before.
        outcome: ``ok``, ``refused`` by us, ``upstream`` for an upstream's error passed on,
            ``broken`` after the first byte, or ``left`` by the client.
        error: A word for what went wrong.
        overhead_s: From the last byte of the request to the first upstream call.
        ttft_s: From the upstream call to the first bytes of its answer.
        seconds: From the request to its last byte.
        usage: Tokens, as the upstream told; None where it did not.
        is_estimated: Whether tokens are our estimate.
        cost_usd: Of all attempts, at the models' prices; None where tokens or price are not known.
        prompt: The request's body, where the ledger keeps such texts.
        reservation: What is put aside for it.
    """

    request_id: str
    api: Api
    started: float
    started_ns: int
    key_id: str = ""
    session_id: str | None = None
    requested: str = ""
    policy: str | None = None
    decision: Decision | None = None
    model: str = ""
    upstream: str = ""
    stream: bool = False
    max_tokens: int | None = None
    n_answers: int = 1
    traceparent: bytes | None = None
    attempts: list[AttemptRecord] = field(default_factory=list)
    status: int = 0
    outcome: str = "running"
    error: str | None = None
    overhead_s: float = 0.0
    ttft_s: float | None = None
    seconds: float = 0.0
    usage: TokenUsage | None = None
    is_estimated: bool = False
    cost_usd: float | None = None
    prompt: bytes | None = None
    reservation: Reservation | None = None
    _strongest_usd: float | None = field(default=None, init=False, repr=False)

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None where it cannot be told."""
        usage = self.usage
        if usage is None or self.ttft_s is None or usage.output_tokens < 2 or not self.stream:
            return None
        serving = self.seconds - (self.attempts[-1].started_s if self.attempts else 0.0)
        return max(serving - self.ttft_s, 0.0) / (usage.output_tokens - 1)

    @property
    def strongest_cost_usd(self) -> float:
        """Expected cost of the allowed model most likely to be right; NaN without a price.

        Metrics and ledger want it, so it is kept once a request that was routed is over.
        """
        found = self._strongest_usd
        if found is None:
            assert self.decision is not None
            weighing = self.decision.weighing
            p_correct = weighing.estimates.p_correct[0, weighing.allowed]
            strongest = int(weighing.allowed[p_correct.argmax()])
            found = self._strongest_usd = float(weighing.estimates.cost_usd[0, strongest])
        return found

    def to_log(self) -> dict[str, Any]:
        """One line of the log: no prompt, no answer, no secret."""
        out: dict[str, Any] = {
            "event": "request",
            "request_id": self.request_id,
            "api": self.api.value,
            "status": self.status,
            "outcome": self.outcome,
            "requested": self.requested[:200],
            "model": self.model,
            "upstream": self.upstream,
            "stream": self.stream,
            "seconds": round(self.seconds, 6),
            "overhead_ms": round(self.overhead_s * 1000, 3),
        }
        if self.key_id:
            out["key"] = self.key_id
        if self.error:
            out["error"] = self.error
        if self.ttft_s is not None:
            out["ttft_s"] = round(self.ttft_s, 6)
        if self.decision is not None:
            d = self.decision
            out["decision_id"] = d.decision_id
            out["policy"] = d.policy
            out["p_correct"] = round(d.p_correct, 4)
            out["expected_cost_usd"] = d.cost_usd
        if self.usage is not None:
            out["input_tokens"] = self.usage.input_tokens
            out["output_tokens"] = self.usage.output_tokens
        if self.cost_usd is not None:
            out["cost_usd"] = self.cost_usd
        if len(self.attempts) != 1 or self.attempts[0].outcome != "ok":
            out["attempts"] = [attempt.to_dict() for attempt in self.attempts]
        return out
