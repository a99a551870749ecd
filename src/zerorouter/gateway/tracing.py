"""OpenTelemetry traces of requests, by the GenAI conventions; off unless switched on.

A request is a span ``chat MODEL`` of kind server; each call of an upstream is a child of kind
client. Spans are made once a request is over, with the times it had, so that a request pays for
one look at a variable while it runs. Prompts, answers, keys and session ids are in none of them.
The exporter and its target are OpenTelemetry's own (``OTEL_EXPORTER_OTLP_ENDPOINT`` ...). A
client's ``traceparent`` is continued.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zerorouter._version import __version__
from zerorouter.errors import require_extra
from zerorouter.gateway.records import AttemptRecord, RequestRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

_NS: Final = 1_000_000_000
_OPERATIONS: Final = {"embeddings": "embeddings"}  # of the conventions; all others are chat


class Tracing:
    """Makes spans of requests. Made by `open_tracing`.

    Args:
        provider: Takes the spans.

    Attributes:
        errors: Requests that could not be told of.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self.errors = 0
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("zerorouter", __version__)

    def observe(self, record: RequestRecord) -> None:
        """Tell of a request that is over; whatever goes wrong here is counted, never raised."""
        try:
            self._observe(record)
        except Exception:
            self.errors += 1

    def _observe(self, record: RequestRecord) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        operation = _OPERATIONS.get(record.api.value, "chat")
        end_ns = record.started_ns + int(record.seconds * _NS)
        span = self._tracer.start_span(
            f"{operation} {record.model or record.requested[:100] or 'unknown'}",
            context=_context_of(record.traceparent),
            kind=SpanKind.SERVER,
            start_time=record.started_ns,
            attributes=_of_request(record, operation),
        )
        inside = set_span_in_context(span)
        for attempt in record.attempts:
            self._of_attempt(attempt, record, operation, inside)
        if record.status >= 500 or record.outcome in ("broken", "internal"):
            span.set_status(Status(StatusCode.ERROR, record.error or record.outcome))
        span.end(end_time=max(end_ns, record.started_ns))

    def close(self) -> None:
        """Send what is waiting."""
        self._provider.shutdown()

    def _of_attempt(
        self, attempt: AttemptRecord, record: RequestRecord, operation: str, inside: Any
    ) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        start_ns = record.started_ns + int(attempt.started_s * _NS)
        last = attempt is record.attempts[-1]
        # Of an answer that was passed on, `seconds` ends with its first byte.
        seconds = record.seconds - attempt.started_s if last else attempt.seconds
        span = self._tracer.start_span(
            f"{operation} {attempt.model}",
            context=inside,
            kind=SpanKind.CLIENT,
            start_time=start_ns,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": attempt.upstream,
                "gen_ai.request.model": attempt.served_as,
                "zerorouter.outcome": attempt.outcome,
                "zerorouter.probe": attempt.probe,
                **({} if attempt.status is None else {"http.response.status_code": attempt.status}),
            },
        )
        if attempt.outcome not in ("ok", "left", "client"):
            span.set_attribute("error.type", attempt.outcome)
            span.set_status(Status(StatusCode.ERROR, attempt.outcome))
        span.end(end_time=start_ns + int(max(seconds, 0.0) * _NS))


def open_tracing(provider: TracerProvider | None = None) -> Tracing:
    """Tracing by OpenTelemetry's SDK.

    Args:
        provider: Takes the spans; None for one that exports by OTLP over HTTP in batches.

    Raises:
        MissingExtraError: the packages are not installed.
    """
    require_extra("opentelemetry.sdk", "otel", "Traces")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if provider is None:
        require_extra("opentelemetry.exporter.otlp.proto.http", "otel", "Traces")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # type: ignore[import-not-found, unused-ignore]
            OTLPSpanExporter,
        )

        provider = TracerProvider(
            resource=Resource.create({"service.name": "zerorouter", "service.version": __version__})
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _of_request(record: RequestRecord, operation: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": record.requested[:200],
        "gen_ai.provider.name": record.upstream or "zerorouter",
        "http.response.status_code": record.status,
        "zerorouter.request_id": record.request_id,
        "zerorouter.outcome": record.outcome,
        "zerorouter.stream": record.stream,
        "zerorouter.overhead_s": record.overhead_s,
    }
    if record.model:
        told["gen_ai.response.model"] = record.model
    if record.max_tokens is not None:
        told["gen_ai.request.max_tokens"] = record.max_tokens
    if record.usage is not None:
        told["gen_ai.usage.input_tokens"] = record.usage.input_tokens
        told["gen_ai.usage.output_tokens"] = record.usage.output_tokens
    if record.ttft_s is not None:
        told["gen_ai.server.time_to_first_token"] = record.ttft_s
    if (tpot := record.tpot_s) is not None:
        told["gen_ai.server.time_per_output_token"] = tpot
    if record.cost_usd is not None:
        told["zerorouter.cost_usd"] = record.cost_usd
    if record.error is not None:
        told["error.type"] = record.error
    decision = record.decision
    if decision is not None:
        told |= {
            "zerorouter.decision_id": decision.decision_id,
            "zerorouter.policy": decision.policy,
            "zerorouter.p_correct": decision.p_correct,
            "zerorouter.expected_cost_usd": decision.cost_usd,
            "zerorouter.profile_version": decision.space_version,
        }
    return told


def _context_of(traceparent: bytes | None) -> Any:
    if traceparent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent.decode("latin-1")})
