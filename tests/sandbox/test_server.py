"""The server beside its answers: keys, limits, the log, stopping, and the bytes it sends."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.raw import ANTHROPIC, OPENAI, asked, connection, exchange, read_all, request
from sandbox.records import make_sandbox
from zerorouter.errors import ZeroRouterError
from zerorouter.sandbox import RunningSandbox, running_sandbox, serve_in_thread
from zerorouter.sandbox.faults import parse_rule
from zerorouter.sandbox.plan import Ask
from zerorouter.sandbox.wire import Identity, Wire

GOLDEN = Path(__file__).parent / "golden"
KEY = "sk-sandbox-1"


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[RunningSandbox]:
    keys = frozenset({KEY, "sk-sandbox-2"})
    with serve_in_thread(sandbox=make_sandbox(folder, api_keys=keys)) as server:
        yield server


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"x-api-key": "wr"}])
def test_without_a_right_key_the_answer_is_a_401_in_the_client_form(
    locked: RunningSandbox, headers: dict[str, str]
):
    ours = exchange(locked.url, request(OPENAI, asked(), headers))
    assert (ours.status, ours.json["error"]["code"]) == (401, "invalid_api_key")
    theirs = exchange(locked.url, request(ANTHROPIC, asked(), headers))
    assert (theirs.status, theirs.json["error"]["type"]) == (401, "authentication_error")
    for seen in (ours, theirs):
        assert b"wrong" not in seen.data


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"x-api-key": "sk-sandbox-2"}],
)
def test_a_right_key_opens_both_apis(locked: RunningSandbox, headers: dict[str, str]):
    for path in (OPENAI, ANTHROPIC):
        assert exchange(locked.url, request(path, asked(), headers)).status == 200


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/able", "/sandbox/calls", "/sandbox/faults"]
)
def test_the_keys_guard_the_other_pages_too(locked: RunningSandbox, path: str):
    assert exchange(locked.url, request(path, b"", method="GET")).status == 401
    opened = request(path, b"", {"x-api-key": KEY}, method="GET")
    assert exchange(locked.url, opened).status == 200


def test_health_needs_no_key(locked: RunningSandbox):
    seen = exchange(locked.url, request("/health", b"", method="GET"))
    assert seen.json == {"status": "ok"}


def test_refused_requests_are_counted_too(locked: RunningSandbox):
    locked.forget_calls()
    exchange(locked.url, request(OPENAI, asked()))
    assert locked.calls()["statuses"] == {"401": 1}


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"model": 7}', b"{}"])
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_body_that_is_no_request_is_a_400(running: RunningSandbox, path: str, body: bytes):
    seen = exchange(running.url, request(path, body))
    assert seen.status == 400
    assert "wanted" in seen.json["error"]["message"] or "JSON" in seen.json["error"]["message"]


def test_a_deeply_nested_body_is_a_400(running: RunningSandbox):
    body = b'{"model":"able","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert exchange(running.url, request(OPENAI, body)).status == 400


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_body_beyond_the_limit_is_a_413_that_arrives(folder: Path, path: str):
    with serve_in_thread(sandbox=make_sandbox(folder, max_body_bytes=1_000_000)) as server:
        fits = exchange(server.url, request(path, asked("word " * 10_000, model="thinker")))
        assert fits.status == 200
        big = asked("x" * 3_000_000)
        announced = exchange(server.url, request(path, big))
        assert announced.status == 413
        assert "1000000" in announced.json["error"]["message"]
        raw = json.dumps(big).encode()
        pieces = b"".join(
            b"%x\r\n%s\r\n" % (len(part), part)
            for part in (raw[i : i + 65_536] for i in range(0, len(raw), 65_536))
        )
        head = (
            f"POST {path} HTTP/1.1\r\nhost: sandbox\r\nanthropic-version: 1\r\n"
            "transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        )
        unannounced = exchange(server.url, head.encode() + pieces + b"0\r\n\r\n")
        assert unannounced.status == 413


def test_ten_megabytes_are_taken_by_default_and_a_byte_more_is_not(running: RunningSandbox):
    frame = len(json.dumps(asked("", model="thinker")))
    limit = 10 * 2**20
    fits = asked("x" * (limit - frame), model="thinker")
    assert exchange(running.url, request(OPENAI, fits)).status == 200
    more = asked("x" * (limit - frame + 1), model="thinker")
    assert exchange(running.url, request(OPENAI, more)).status == 413


def test_a_body_that_does_not_come_is_a_408(folder: Path):
    with serve_in_thread(sandbox=make_sandbox(folder, body_timeout_s=0.2)) as server:
        seen = exchange(server.url, request(OPENAI, b'{"model":', length=1_000))
    assert seen.status == 408


def test_no_more_bytes_are_held_than_allowed(folder: Path):
    sandbox = make_sandbox(
        folder, max_body_bytes=100_000, max_held_bytes=100_000, faults=["able:hang"]
    )
    with serve_in_thread(sandbox=sandbox) as server, connection(server.url) as line:
        line.sendall(request(OPENAI, asked("x" * 60_000)))
        wait_until(lambda: server.calls()["models"].get("able", {}).get("in_flight") == 1)
        busy = exchange(server.url, request(OPENAI, asked("x" * 60_000, model="thinker")))
        assert busy.status == 503
        assert exchange(server.url, request(OPENAI, asked(model="thinker"))).status == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(
    running: RunningSandbox,
):
    running.forget_calls()
    with connection(running.url) as line:
        line.sendall(request(OPENAI, b'{"model":', length=1_000))
    wait_until(lambda: running.calls()["outcomes"] == {"left": 1})
    assert running.calls()["in_flight"] == 0


def test_anthropic_wants_its_version_named(running: RunningSandbox):
    head = (
        f"POST {ANTHROPIC} HTTP/1.1\r\nhost: sandbox\r\ncontent-length: 2\r\n"
        "connection: close\r\n\r\n{}"
    )
    seen = exchange(running.url, head.encode())
    assert seen.status == 400
    assert seen.json["error"]["message"] == "anthropic-version: header is required"


def test_unknown_pages_and_methods_have_an_envelope_too(running: RunningSandbox):
    lost = exchange(running.url, request("/v1/nothing", b"", method="GET"))
    assert (lost.status, lost.json["error"]["type"]) == (404, "invalid_request_error")
    wrong = exchange(running.url, request(OPENAI, b"", method="GET"))
    assert wrong.status == 405


def test_one_connection_serves_many_requests(running: RunningSandbox):
    sent = request(OPENAI, asked(), {"connection": "keep-alive"})
    with connection(running.url) as line:
        for i in range(20):
            line.sendall(sent if i < 19 else request(OPENAI, asked()))
            if i < 19:
                seen = b""
                while not seen.endswith(b"}"):
                    seen += line.recv(65_536)
                assert seen.startswith(b"HTTP/1.1 200")
        assert read_all(line).status == 200


# -- leaving and stopping --------------------------------------------------------------------------


def test_a_client_that_leaves_a_slow_stream_ends_it_at_once(running: RunningSandbox):
    running.forget_calls()
    with connection(running.url) as line:
        slow = {"x-sandbox-fault": "slow_chunks=600"}
        line.sendall(request(OPENAI, asked(stream=True), slow))
        line.recv(1_000)
        assert running.calls()["in_flight"] == 1
    wait_until(lambda: not running.calls()["in_flight"])
    assert running.calls()["outcomes"] == {"left": 1}


def test_stopping_lets_answers_out_and_closes_what_hangs(folder: Path):
    sandbox = make_sandbox(folder, faults=["able:slow_start=600", "thinker:hang"])
    server = serve_in_thread(sandbox=sandbox)
    seen: dict[str, Any] = {}

    def ask(model: str) -> None:
        seen[model] = exchange(server.url, request(OPENAI, asked(model=model)))

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("able", "thinker")]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.calls()["in_flight"] == 2)
    server.stop()
    for thread in threads:
        thread.join(10)
    assert (seen["able"].status, seen["able"].whole) == (200, True)
    assert seen["thinker"].data == b""
    with pytest.raises(OSError, match="refused"):
        exchange(server.url, request(OPENAI, asked()))
    server.stop()  # twice does no harm


def test_a_taken_port_is_named(running: RunningSandbox, folder: Path):
    port = int(running.url.rpartition(":")[2])
    with pytest.raises(ZeroRouterError, match=f"127.0.0.1:{port}"):
        serve_in_thread(sandbox=make_sandbox(folder), port=port)


def test_a_block_of_code_gets_a_base_url(folder: Path):
    with running_sandbox(p_correct=1.0, models=["newcomer"], seed=3) as url:
        assert url.startswith("http://127.0.0.1:")
        seen = exchange(url, request(OPENAI, asked(model="newcomer")))
        assert "counts as right" in seen.json["choices"][0]["message"]["content"]
    with (
        pytest.raises(TypeError, match="not both"),
        running_sandbox(make_sandbox(folder).settings, seed=3),
    ):
        pass


def test_nothing_is_left_of_stopped_servers(folder: Path):
    before = threading.active_count()
    for _ in range(3):
        with serve_in_thread(sandbox=make_sandbox(folder)) as server:
            exchange(server.url, request(OPENAI, asked()))
    gc.collect()  # a socket that was not closed is a warning, and so an error, now
    assert threading.active_count() == before


# -- the log ---------------------------------------------------------------------------------------


def test_the_log_says_who_asked_what_how_often(running: RunningSandbox):
    running.forget_calls()
    for text in ("What is 17 + 25?", "What is 17 + 25?", "Heads or tails?"):
        exchange(running.url, request(OPENAI, asked(text)))
    exchange(running.url, request(ANTHROPIC, asked("What is 17 + 25?", model="thinker")))
    told = running.calls(latest=1, prompts=True)
    assert told["total"] == 4
    assert told["endpoints"] == {OPENAI: 3, ANTHROPIC: 1}
    counted = {(row["model"], row["prompt"]): row["calls"] for row in told["prompts"]}
    assert counted == {
        ("able", "ours/sum"): 2,
        ("able", "ours/coin"): 1,
        ("thinker", "ours/sum"): 1,
    }
    able = told["models"]["able"]
    assert able["input_tokens"] == 11 + 11 + 4
    assert able["output_tokens"] == 64 + 64 + 2
    assert able["usd"] == pytest.approx((26 * 2 + 130 * 8) / 1e6)
    (last,) = told["latest"]
    assert (last["model"], last["prompt"], last["correct"]) == ("thinker", "ours/sum", [True])
    assert last["duration_s"] > 0


# -- bytes -----------------------------------------------------------------------------------------

TOOL = {"name": "forecast", "parameters": {"type": "object", "properties": {"town": {}}}}
GOLDEN_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_message": (OPENAI, {}),
    "openai_stream": (OPENAI, {"stream": True, "stream_options": {"include_usage": True}}),
    "openai_tools_stream": (
        OPENAI,
        {
            "stream": True,
            "tools": [{"type": "function", "function": TOOL}],
            "tool_choice": "required",
        },
    ),
    "openai_logprobs": (OPENAI, {"logprobs": True, "top_logprobs": 2}),
    "anthropic_message": (ANTHROPIC, {}),
    "anthropic_stream": (ANTHROPIC, {"stream": True}),
    "anthropic_tools_stream": (
        ANTHROPIC,
        {
            "stream": True,
            "tools": [{"name": "forecast", "input_schema": TOOL["parameters"]}],
            "tool_choice": {"type": "any"},
        },
    ),
    "anthropic_thinking_stream": (
        ANTHROPIC,
        {"stream": True, "thinking": {"type": "enabled", "budget_tokens": 1024}},
    ),
}


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_answers_are_these_bytes(folder: Path, name: str):
    """Golden files; write them anew with: python tests/sandbox/test_server.py"""
    assert golden(folder, name) == (GOLDEN / f"{name}.txt").read_bytes()


def golden(folder: Path | None, name: str) -> bytes:
    from orjson import dumps

    from zerorouter.sandbox import anthropic_wire, openai_wire

    path, fields = GOLDEN_CASES[name]
    wire: Wire = openai_wire if path == OPENAI else anthropic_wire
    ask: Ask = wire.read(asked("Name a port.", **fields))
    plan = make_sandbox(folder, answer_tokens=11).plan(ask)
    identity = Identity(key="0123456789ab", answer="able/port/0", created=1_767_225_600)
    if not ask.stream:
        return bytes(dumps(wire.message(plan, ask, identity))) + b"\n"
    return b"".join(wire.encode(chunk, dumps) for chunk in wire.chunks(plan, ask, identity))


def test_rules_are_kept_in_their_text_form(running: RunningSandbox):
    rules = ["able:429=2@0.5x3", "cut=4"]
    running.set_faults(rules)
    kept = exchange(running.url, request("/sandbox/faults", b"", method="GET")).json["rules"]
    running.set_faults([])
    assert kept == rules == [str(parse_rule(rule)) for rule in rules]


def wait_until(true: Any) -> None:
    """Poll until it is; fails after ten seconds."""
    deadline = time.perf_counter() + 10
    while not true():
        assert time.perf_counter() < deadline
        time.sleep(0.01)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for case in GOLDEN_CASES:
        (GOLDEN / f"{case}.txt").write_bytes(golden(None, case))
