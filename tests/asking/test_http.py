"""One request: what servers may answer, and what becomes of it. The server is a local function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zerorouter.asking.engine import Ask, Asking, Engine, worst_cost_usd
from zerorouter.asking.http import Endpoint, retry_after
from zerorouter.asking.journal import Journal
from zerorouter.prices import Price, PriceTier, TokenCounts, request_cost_usd

Handler = Callable[[dict], Awaitable[tuple[int, dict[str, str], list[bytes]]]]
PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(text: str, **fields: object) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text, **fields}}])


END = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 9})
DONE = b"data: [DONE]\n\n"
STREAM = {"Content-Type": "text/event-stream"}
JSON = {"Content-Type": "application/json"}


async def _serve(handler: Handler) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                body = json.loads(await reader.readexactly(size))
                body["authorization"] = next(
                    (
                        line.partition(b":")[2].strip().decode()
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"authorization:")
                    ),
                    None,
                )
                status, headers, parts = await handler(body)
                payload = b"".join(parts)
                told = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{told}Content-Length: {len(payload)}\r\n\r\n".encode()
                )
                writer.write(payload)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    return await asyncio.start_server(connected, "127.0.0.1", 0)


def run(handler: Handler, tmp_path: Path, n: int = 1, **asking: object):
    """Ask n prompts; returns the journal's state and why the run stopped."""

    async def main():
        server = await _serve(handler)
        port = server.sockets[0].getsockname()[1]
        told = {
            "endpoint": Endpoint(base_url=f"http://127.0.0.1:{port}/v1/", model="up"),
            "price": PRICE,
            "max_tokens": 50,
            "retries": 1,
            **asking,
        }
        if "key" in told:
            told["endpoint"] = Endpoint(
                base_url=f"http://127.0.0.1:{port}/v1", model="up", api_key_env=told.pop("key")
            )
        asks = [
            Ask(ref=f"q{i}", key="", messages=({"role": "user", "content": f"question {i}"},))
            for i in range(n)
        ]
        with Journal.create(tmp_path / "run.jsonl", {}) as journal:
            async with Engine(Asking(**told), journal) as engine:
                stop = await engine.run(asks)
        server.close()
        await server.wait_closed()
        return journal.state, stop

    return asyncio.run(main())


def always(status: int, headers: dict[str, str], *parts: bytes) -> Handler:
    async def handler(body: dict) -> tuple[int, dict[str, str], list[bytes]]:
        del body
        return status, headers, list(parts)

    return handler


def test_a_stream_is_put_together_and_measured(tmp_path):
    handler = always(200, STREAM, delta("for"), delta("ty"), END, USAGE, DONE)
    state, stop = run(handler, tmp_path)
    got = state.answers["q0"]
    assert (got.text, got.finish, got.input_tokens, got.output_tokens) == ("forty", "stop", 7, 9)
    assert got.counted
    assert 0 < got.ttft_s <= got.end_to_end_s
    assert got.usd == pytest.approx(7e-6 + 18e-6)
    assert stop is None


@pytest.mark.parametrize(
    "parts",
    [
        (b"data: " + delta("hi")[6:].replace(b"\n\n", b"\r\n\r\n"), END, DONE),  # CRLF
        (b": comment\n\n", b"event: x\nid: 1\n", delta("hi"), END),  # no [DONE]
        (delta("hi"), DONE),  # no finish reason
        (
            event(choices=[{"index": 0, "delta": {"content": [{"type": "text", "text": "hi"}]}}]),
            DONE,
        ),
        (event(choices=[]), event(choices=None), delta("hi"), DONE),
        (delta("hi"), event(choices=[{"index": 1, "delta": {"content": "other"}}]), DONE),
    ],
)
def test_streams_of_every_dialect_are_read(tmp_path, parts):
    state, _ = run(always(200, STREAM, *parts), tmp_path)
    assert state.answers["q0"].text == "hi"


def test_reasoning_starts_the_clock_and_is_no_part_of_the_answer(tmp_path):
    thought = event(choices=[{"index": 0, "delta": {"reasoning_content": "let me see"}}])
    state, _ = run(always(200, STREAM, thought, delta("42"), END, DONE), tmp_path)
    got = state.answers["q0"]
    assert (got.text, got.ttft_s is not None) == ("42", True)


def test_an_endpoint_that_does_not_stream_is_read_as_well(tmp_path):
    body = {
        "choices": [{"message": {"content": "42"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5},
    }
    state, _ = run(always(200, JSON, json.dumps(body).encode()), tmp_path)
    got = state.answers["q0"]
    assert (got.text, got.finish, got.ttft_s) == ("42", "length", None)


def test_without_usage_the_worst_is_counted(tmp_path):
    state, _ = run(always(200, STREAM, delta("42"), END, DONE), tmp_path)
    got = state.answers["q0"]
    assert not got.counted
    assert got.usd == pytest.approx((len("question 0") + 128) * 1e-6 + 50 * 2e-6)


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ("max_tokens", {"max_completion_tokens": 50, "stream_options": {"include_usage": True}}),
        ("stream_options", {"max_tokens": 50}),
    ],
)
def test_a_field_that_is_refused_is_renamed_or_left_out(tmp_path, refused, expected):
    """As OpenAI's reasoning models and some older servers want it, at any concurrency."""
    seen = []

    async def handler(body):
        if refused in body:
            text = f"Unsupported parameter: '{refused}'. Use 'max_completion_tokens' instead."
            if refused == "stream_options":
                text = "unknown field stream_options"
            return 400, JSON, [json.dumps({"error": {"message": text}}).encode()]
        seen.append(body)
        return 200, STREAM, [delta("ok"), END, USAGE, DONE]

    state, stop = run(handler, tmp_path, n=20, concurrency=10, retries=0)
    assert (len(state.answers), stop) == (20, None)
    sent = {k: seen[0].get(k) for k in expected}
    assert sent == expected
    assert refused not in seen[0]


def test_a_limit_refused_under_both_names_gives_up(tmp_path):
    text = json.dumps({"error": {"message": "max_tokens and max_completion_tokens too large"}})
    state, _ = run(always(400, JSON, text.encode()), tmp_path)
    assert "HTTP 400" in state.failed["q0"]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_prompt_that_is_refused_is_not_asked_again(tmp_path, status):
    state, stop = run(always(status, JSON, b'{"error": "too long"}'), tmp_path, n=3, retries=5)
    assert (state.calls, len(state.failed), stop) == (3, 3, None)
    assert state.spent_usd == 0


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404, 405])
def test_what_no_prompt_can_mend_ends_the_run(tmp_path, status):
    state, stop = run(always(status, JSON, b'{"error": {"message": "no"}}'), tmp_path, n=50)
    assert stop is not None
    assert stop.reason == "endpoint"
    assert f"HTTP {status}" in stop.told
    assert state.calls <= 8


def test_an_account_without_money_ends_the_run(tmp_path):
    body = b'{"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}'
    _, stop = run(always(429, JSON, body), tmp_path, n=50)
    assert stop is not None
    assert "exceeded your quota" in stop.told


def test_everybody_waits_as_long_as_a_rate_limit_wants(tmp_path):
    begun: list[float] = []

    async def handler(body):
        del body
        begun.append(asyncio.get_running_loop().time())
        if len(begun) == 1:
            return 429, {**JSON, "Retry-After": "0.3"}, [b"{}"]
        return 200, STREAM, [delta("ok"), END, USAGE, DONE]

    state, _ = run(handler, tmp_path, n=3, concurrency=1, retries=0)
    assert len(state.answers) == 3
    assert begun[1] - begun[0] >= 0.3


def test_a_pace_is_kept(tmp_path):
    begun: list[float] = []

    async def handler(body):
        del body
        begun.append(asyncio.get_running_loop().time())
        return 200, STREAM, [delta("ok"), END, USAGE, DONE]

    run(handler, tmp_path, n=5, concurrency=5, requests_per_minute=1_200.0)
    assert begun[-1] - begun[0] >= 4 * 0.05 - 0.01


def test_no_more_requests_are_under_way_than_allowed(tmp_path):
    now = peak = 0

    async def handler(body):
        nonlocal now, peak
        del body
        now += 1
        peak = max(peak, now)
        await asyncio.sleep(0.01)
        now -= 1
        return 200, STREAM, [delta("ok"), END, USAGE, DONE]

    state, _ = run(handler, tmp_path, n=30, concurrency=4)
    assert (len(state.answers), peak) == (30, 4)


def test_the_key_is_sent_and_taken_out_of_what_comes_back(tmp_path, monkeypatch):
    key = "sk-abcdefghijklmnopqrstuvwxyz"
    monkeypatch.setenv("A_KEY", key)
    sent = []

    async def handler(body):
        sent.append(body["authorization"])
        message = f"Incorrect API key provided: {key}, or {key[:8]}****{key[-8:]}"
        return 401, JSON, [json.dumps({"error": {"message": message}}).encode()]

    _, stop = run(handler, tmp_path, key="A_KEY")
    assert sent == [f"Bearer {key}"]
    assert stop is not None
    assert key[:8] not in stop.told + (tmp_path / "run.jsonl").read_text()
    assert key[-8:] not in stop.told


def test_a_reply_without_an_end_is_cut_short(tmp_path, monkeypatch):
    monkeypatch.setattr("zerorouter.asking.http.LONGEST_REPLY", 100)
    state, _ = run(always(200, STREAM, *[delta("x" * 30)] * 9, END, DONE), tmp_path)
    assert state.failed == {"q0": "the reply does not end"}


def test_what_a_server_says_is_passed_on_bounded_and_on_one_line(tmp_path):
    text = json.dumps({"error": {"message": "bad\n\n\tthing " * 500}}).encode()
    _, stop = run(always(404, JSON, text), tmp_path)
    assert stop is not None
    assert len(stop.told) < 350
    assert "\n" not in stop.told


def test_failures_in_a_row_end_the_run(tmp_path):
    state, stop = run(always(500, JSON, b"{}"), tmp_path, n=50, retries=0, concurrency=1)
    assert stop is not None
    assert "5 prompts in a row brought nothing: HTTP 500" in stop.told
    assert state.calls == 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(value, seconds):
    assert retry_after(value, datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)) == seconds


def test_the_worst_cost_is_above_every_way_to_bill():
    price = Price(
        input_usd_per_mtok=3.0,
        output_usd_per_mtok=15.0,
        cached_input_usd_per_mtok=0.3,
        cache_write_usd_per_mtok=3.75,
        reasoning_usd_per_mtok=20.0,
        tiers=(PriceTier(above_input_tokens=100, input_usd_per_mtok=6.0, output_usd_per_mtok=1.0),),
    )
    for size in (50, 100, 101, 500):
        worst = worst_cost_usd(price, size, 1_000)
        for n_in in range(0, size + 1, 25):
            for written in (0, n_in):
                for thought in (0, 400):
                    counts = TokenCounts(
                        input_tokens=n_in,
                        output_tokens=1_000,
                        cache_write_tokens=written,
                        reasoning_tokens=thought,
                    )
                    assert request_cost_usd(price, counts) <= worst + 1e-15


def test_no_text_has_more_tokens_than_are_set_aside():
    asking = Asking(
        endpoint=Endpoint(base_url="http://127.0.0.1/v1", model="m"), price=PRICE, max_tokens=1
    )
    text = "äöü 漢字 🙂" * 10
    worst = asking.worst_usd([{"role": "user", "content": text}])
    assert worst == pytest.approx((len(text.encode()) + 128) * 1e-6 + 2e-6)
