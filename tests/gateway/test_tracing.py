"""Traces: off by default; spans with the GenAI names and nothing that is private."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.conftest import GPT, SECRET, Start, fetch

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from zerorouter.gateway.running import RunningGateway
from zerorouter.gateway.tracing import open_tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.clear()


def traced(start: Start, spans: InMemorySpanExporter) -> RunningGateway:
    gateway = start()
    assert gateway.gateway.tracing is None
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    gateway.gateway.tracing = open_tracing(provider)
    return gateway


def chat(gateway: RunningGateway, **more: Any):
    body = {"model": "zerorouter/auto", "messages": [{"role": "user", "content": "17 * 23?"}]}
    return fetch(
        f"{gateway.openai_url}/chat/completions",
        {**body, **more},
        headers={"traceparent": PARENT, "authorization": "Bearer sk-client-secret"},
    )


def test_a_request_is_a_span_with_the_names_of_the_conventions(
    start: Start, spans: InMemorySpanExporter
) -> None:
    gateway = traced(start, spans)
    answer = chat(gateway, stream=True, max_tokens=50, stream_options={"include_usage": True})
    assert answer.status == 200
    upstream, request = spans.get_finished_spans()
    told = dict(request.attributes or {})
    model = answer.headers["x-zerorouter-model"]
    assert request.name == f"chat {model}"
    assert request.kind.name == "SERVER"
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.model"] == "zerorouter/auto"
    assert told["gen_ai.response.model"] == model
    assert told["gen_ai.provider.name"] in ("claude-house", "open-house")
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["gen_ai.request.max_tokens"] == 50
    assert 0 < told["gen_ai.server.time_to_first_token"] < 60
    assert told["zerorouter.decision_id"] == answer.headers["x-zerorouter-decision-id"]
    assert upstream.kind.name == "CLIENT"
    assert upstream.parent is not None
    assert upstream.parent.span_id == request.context.span_id
    assert request.start_time <= upstream.start_time <= upstream.end_time
    assert upstream.end_time <= request.end_time + 1_000_000
    # A trace that the client began is continued.
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]


def test_failures_are_marked_and_each_attempt_has_its_span(
    start: Start, sandbox, spans: InMemorySpanExporter
) -> None:
    gateway = traced(start, spans)
    sandbox.set_faults([f"{GPT}:500"])
    assert chat(gateway, model=GPT).status >= 500
    *attempts, request = spans.get_finished_spans()
    assert len(attempts) >= 2
    assert request.status.status_code.name == "ERROR"
    for attempt in attempts:
        assert attempt.attributes is not None
        assert attempt.attributes["http.response.status_code"] == 500
        assert attempt.status.status_code.name == "ERROR"


def test_spans_hold_no_prompt_answer_key_or_session(
    start: Start, spans: InMemorySpanExporter
) -> None:
    gateway = traced(start, spans)
    answer = chat(gateway, zerorouter={"session_id": "session-of-a-person"})
    content = answer.json()["choices"][0]["message"]["content"]
    text = " ".join(span.to_json() for span in spans.get_finished_spans())
    for private in ("17 * 23", content, SECRET, "sk-client-secret", "session-of-a-person"):
        assert private not in text


def test_a_broken_exporter_harms_no_request(start: Start, spans: InMemorySpanExporter) -> None:
    gateway = traced(start, spans)
    tracing = gateway.gateway.tracing
    assert tracing is not None
    tracing._tracer = None  # type: ignore[assignment]
    assert chat(gateway).status == 200
    assert tracing.errors == 1
