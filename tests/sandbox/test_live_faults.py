"""Every fault, as clients meet it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from sandbox.raw import ANTHROPIC, OPENAI, Seen, asked, connection, exchange, read_some, request
from zerorouter.sandbox import FAULTS, RunningSandbox
from zerorouter.sandbox.plan import REFUSAL
from zerorouter.sandbox.playing import FAULT_TEXT, GARBAGE, NOT_HTTP

ANY: Any = [{"role": "user", "content": "Anything at all?"}]


def ask(
    server: RunningSandbox, fault: str, path: str = OPENAI, timeout: float = 10, **fields: Any
) -> Seen:
    sent = request(path, asked(**fields), {"x-sandbox-fault": fault})
    return exchange(server.url, sent, timeout)


def events(seen: Seen) -> list[bytes]:
    return [event for event in seen.body.split(b"\n\n") if event]


@pytest.fixture
def client(running: RunningSandbox) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=running.openai_url, api_key="any", max_retries=0, timeout=5
    ) as made:
        yield made


# -- statuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (429, openai.RateLimitError, "requests"),
        (500, openai.InternalServerError, "server_error"),
        (503, openai.InternalServerError, "server_error"),
        (529, openai.InternalServerError, "server_error"),
        (409, openai.ConflictError, "invalid_request_error"),
    ],
)
def test_statuses_in_openai_envelope(
    client: openai.OpenAI, status: int, raised: type[openai.APIStatusError], kind: str
):
    with pytest.raises(raised) as caught:
        client.chat.completions.create(
            model="able", messages=ANY, extra_headers={"x-sandbox-fault": f"{status}=3"}
        )
    assert caught.value.status_code == status
    assert caught.value.type == kind
    assert caught.value.response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("status", "raised", "kind"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_statuses_in_anthropic_envelope(
    running: RunningSandbox, status: int, raised: type[anthropic.APIStatusError], kind: str
):
    with (
        anthropic.Anthropic(base_url=running.url, api_key="any", max_retries=0) as client,
        pytest.raises(raised) as caught,
    ):
        client.messages.create(
            model="able",
            max_tokens=9,
            messages=ANY,
            extra_headers={"x-sandbox-fault": str(status)},
        )
    body: Any = caught.value.body
    assert body["error"]["type"] == kind
    assert caught.value.status_code == status


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/messages/count_tokens"])
def test_the_other_endpoints_fail_too_when_told(running: RunningSandbox, path: str):
    body = {**asked(), "input": "text"}
    seen = exchange(running.url, request(path, body, {"x-sandbox-fault": "503"}))
    assert seen.status == 503


def test_a_client_that_retries_gets_through_a_rule_that_ends(running: RunningSandbox):
    running.forget_calls()
    running.set_faults(["able:429=0.01x2"])
    with openai.OpenAI(base_url=running.openai_url, api_key="any", max_retries=3) as client:
        answer = client.chat.completions.create(model="able", messages=ANY)
    running.set_faults([])
    assert answer.choices[0].finish_reason == "stop"
    told = running.calls()
    assert told["statuses"] == {"429": 2, "200": 1}
    assert told["faults"] == {"429": 2}


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_start_holds_back_even_the_status(running: RunningSandbox, stream: bool):
    sent = request(OPENAI, asked(stream=stream), {"x-sandbox-fault": "slow_start=0.3"})
    with connection(running.url) as line:
        line.sendall(sent)
        line.settimeout(0.15)
        with pytest.raises(TimeoutError):
            line.recv(1)
        line.settimeout(10)
        assert line.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(("stream", "least_s"), [(False, 0.35), (True, 0.5)])
def test_slow_chunks_arrive_whole_in_the_end(running: RunningSandbox, stream: bool, least_s: float):
    begun = time.perf_counter()
    slow = ask(running, "slow_chunks=0.05", stream=stream, max_tokens=10)
    assert time.perf_counter() - begun >= least_s
    assert slow.whole
    at_once = ask(running, "none", stream=stream, max_tokens=10)
    assert len(slow.body) == len(at_once.body)


@pytest.mark.parametrize("fault", ["hang", "hang=0", "hang=2"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_hang_says_nothing_more_until_the_client_leaves(
    running: RunningSandbox, fault: str, stream: bool
):
    running.forget_calls()
    with connection(running.url) as line:
        line.sendall(request(OPENAI, asked(stream=stream), {"x-sandbox-fault": fault}))
        seen = read_some(line, 0.4)
        assert running.calls()["in_flight"] == 1
    assert (seen == b"") == (fault == "hang")
    if stream and fault == "hang=2":
        assert seen.count(b'"content":"') == 3  # the first is the empty one beside the role
    deadline = time.perf_counter() + 5
    while running.calls()["in_flight"] and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert running.calls()["outcomes"] == {"left": 1}


# -- endings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_a_cut_stream_ends_in_the_middle_of_its_chunks(running: RunningSandbox, path: str):
    seen = ask(running, "cut", path, stream=True)
    whole = ask(running, "none", path, stream=True)
    assert (seen.status, seen.whole, seen.reset) == (200, False, False)
    assert 15 < len(events(seen)) < 30 < len(events(whole))
    assert b"[DONE]" not in seen.body
    assert b"message_stop" not in seen.body


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_stream_is_cut_after_so_many_chunks(running: RunningSandbox, after: int):
    seen = ask(running, f"cut={after}", stream=True)
    assert len(events(seen)) == 1 + after  # the role comes before


def test_a_fault_beyond_the_last_chunk_breaks_off_before_the_end(running: RunningSandbox):
    seen = ask(running, "cut=10000", stream=True)
    assert not seen.whole
    assert b"[DONE]" in seen.body


def test_a_cut_answer_stops_halfway_through_its_body(running: RunningSandbox):
    seen = ask(running, "cut")
    assert (seen.status, seen.whole, seen.reset) == (200, False, False)
    assert len(seen.body) == int(seen.headers["content-length"]) // 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_is_an_rst_before_the_first_byte(running: RunningSandbox, stream: bool):
    seen = ask(running, "reset", stream=stream)
    assert (seen.data, seen.reset) == (b"", True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_later_reset_is_an_rst_after_what_was_sent(running: RunningSandbox, stream: bool):
    seen = ask(running, "reset=3", stream=stream)
    assert (seen.status, seen.whole, seen.reset) == (200, False, True)
    if stream:
        assert len(events(seen)) == 4


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_garbage_is_no_json(running: RunningSandbox, path: str):
    body = ask(running, "garbage", path).body
    assert body == GARBAGE
    with pytest.raises(ValueError, match=r"utf|Expecting"):
        json.loads(body)
    streamed = ask(running, "garbage=2", path, stream=True)
    assert streamed.whole
    assert events(streamed)[-1] == b"data: " + GARBAGE


def test_not_http_is_not_http(running: RunningSandbox):
    assert ask(running, "not_http").data == NOT_HTTP


@pytest.mark.parametrize("stream", [False, True])
def test_no_body_is_a_200_with_nothing_in_it(running: RunningSandbox, stream: bool):
    seen = ask(running, "no_body", stream=stream)
    assert (seen.status, seen.body, seen.whole) == (200, b"", True)


def test_an_error_event_ends_a_stream_in_the_client_form(running: RunningSandbox):
    ours = events(ask(running, "stream_error=2", OPENAI, stream=True))
    assert len(ours) == 4
    assert json.loads(ours[-1].removeprefix(b"data: "))["error"]["message"] == FAULT_TEXT
    theirs = events(ask(running, "stream_error=2", ANTHROPIC, stream=True))
    assert theirs[-1].startswith(b"event: error\ndata: ")
    told = json.loads(theirs[-1].partition(b"data: ")[2])
    assert told["error"]["type"] == "overloaded_error"
    assert ask(running, "stream_error").status == 500


def test_the_openai_client_raises_where_a_stream_breaks(client: openai.OpenAI):
    for fault, raised in (
        ("cut=2", openai.APIConnectionError),
        ("reset=2", openai.APIConnectionError),
        ("stream_error=2", openai.APIError),
    ):
        stream = client.chat.completions.create(
            model="able", messages=ANY, stream=True, extra_headers={"x-sandbox-fault": fault}
        )
        received: list[Any] = []
        with pytest.raises(raised):
            received.extend(stream)
        assert len(received) == 3


# -- content -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "text", "finish"),
    [("empty", "", "stop"), ("refusal", REFUSAL, "stop"), ("truncated", None, "length")],
)
def test_spoilt_answers_look_like_answers(
    client: openai.OpenAI, fault: str, text: str | None, finish: str
):
    plain = client.chat.completions.create(model="able", messages=ANY)
    spoilt = client.chat.completions.with_raw_response.create(
        model="able", messages=ANY, extra_headers={"x-sandbox-fault": fault}
    )
    choice = spoilt.parse().choices[0]
    whole = plain.choices[0].message.content
    assert whole is not None
    assert choice.message.content == (whole[: len(whole) // 2] if text is None else text)
    assert choice.finish_reason == finish
    assert spoilt.headers["x-sandbox-correct"] == "0"


# -- rules and the log -----------------------------------------------------------------------------


def test_rules_by_probability_hit_that_share(running: RunningSandbox):
    running.set_faults(["able:500@0.25"])
    statuses = [
        exchange(running.url, request(OPENAI, asked(f"Number {i}?"))).status for i in range(200)
    ]
    again = [
        exchange(running.url, request(OPENAI, asked(f"Number {i}?"))).status for i in range(200)
    ]
    spared = exchange(running.url, request(OPENAI, asked(), {"x-sandbox-fault": "none"})).status
    running.set_faults([])
    assert 30 <= statuses.count(500) <= 70
    assert statuses != again  # a second attempt is drawn anew
    assert spared == 200


def test_wrong_rules_and_headers_are_refused(running: RunningSandbox):
    seen = ask(running, "sloww")
    assert seen.status == 400
    assert "x-sandbox-fault" in seen.json["error"]["message"]
    for rules in ("429", [429], ["sloww"], ["429@7"]):
        put = exchange(running.url, request("/sandbox/faults", {"rules": rules}, method="PUT"))
        assert put.status == 400
    got = exchange(running.url, request("/sandbox/faults", b"", method="GET"))
    assert got.json == {"rules": []}


def test_every_fault_leaves_its_name_in_the_log(running: RunningSandbox):
    running.forget_calls()
    for fault in FAULTS:
        if fault != "hang":
            ask(running, f"{fault}=0" if fault.startswith("slow") else fault, stream=True)
    told = running.calls(latest=100)
    assert set(told["faults"]) == set(FAULTS) - {"hang"}
    assert told["in_flight"] == 0
    outcomes = {call["faults"][0]: call["outcome"] for call in told["latest"]}
    broken = {"cut", "reset", "garbage", "not_http", "stream_error", "no_body"}
    assert {fault for fault, outcome in outcomes.items() if outcome == "broken"} == broken
    # An answer that was begun is billed in full, one that never was is not.
    tokens = {call["faults"][0]: call["output_tokens"] for call in told["latest"]}
    assert tokens["cut"] == 40
    assert tokens["not_http"] is None
