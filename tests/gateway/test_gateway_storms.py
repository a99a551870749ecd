"""Upstreams, clients, disks and clocks at their worst: every request ends, nothing told is lost."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.conftest import CLAUDE, GPT, MINI, Answer, Start, config_for, fetch
from gateway.raw_upstream import CHUNK, EVENT, STREAM, raw_upstream
from gateway.test_gateway_faults import chat, wait_for
from zerorouter.gateway.keys import KeySettings, KeyStore
from zerorouter.gateway.owners import books_dir
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox
from zerorouter.serving_config import Circuits, Retries, Timeouts

ASK = [{"role": "user", "content": "What is 17 * 23?"}]
SLACK_S = 5.0
"""Over a deadline, for machines that are busy; what hangs, hangs for much longer."""

# -- deadlines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_in_a_storm_every_request_ends_by_its_deadline(
    start: Start, sandbox: RunningSandbox, model: str
) -> None:
    """Whatever mixture of failures all upstreams show at once, and afterwards all is well."""
    log = io.BytesIO()
    gateway = start(
        log_to=log,
        retries=Retries(backoff_s=0.01),
        circuits=Circuits(failures=3, open_s=0.05, longest_open_s=0.1),
        timeouts=Timeouts(first_byte_s=0.4, idle_s=0.4, deadline_s=1.5),
    )
    kinds = ("hang", "hang=2", "500", "429=1", "reset", "reset=2", "garbage", "garbage=3", "cut")
    sandbox.set_faults(
        [f"{kind}@0.2" for kind in (*kinds, "not_http", "no_body", "slow_start=0.3")]
    )
    bodies = [
        {
            "model": ("zerorouter/auto", model)[i % 2],
            "messages": [{"role": "user", "content": f"What is {i} * 23?"}],
            "max_tokens": 50,
            "stream": i % 3 == 0,
        }
        for i in range(60)
    ]
    paths = ("/v1/chat/completions", "/v1/messages")

    def ask(i: int) -> Answer | None:
        try:
            return fetch(f"{gateway.url}{paths[i % 4 == 0]}", bodies[i])
        except (OSError, http.client.HTTPException):  # a whole answer that broke off on its way
            return None

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(ask, range(60)))
    assert all(answers)
    wait_for(lambda: gateway.gateway.running == 0)
    sandbox.set_faults([])
    time.sleep(0.2)
    assert chat(gateway, model).status == 200
    gateway.stop()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == 61
    assert max(line["seconds"] for line in requests) < 1.5 + SLACK_S
    assert not [line for line in lines if line["event"] == "internal_error"]
    assert len({line["status"] for line in requests}) > 1  # the storm was one
    for answer in answers:
        assert answer is not None
        if answer.status == 200 and b"event-stream" in answer.headers["content-type"].encode():
            last = answer.body.rstrip().rsplit(b"\n\n", 1)[-1]
            assert b"[DONE]" in last or b"message_stop" in last or b'"error"' in last


@pytest.mark.parametrize("stream", [True, False])
def test_an_upstream_that_dribbles_for_ever_is_ended_at_the_deadline(
    start: Start, stream: bool
) -> None:
    async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{"
        writer.write(STREAM if stream else head)
        while True:
            writer.write(CHUNK if stream else b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    with raw_upstream(dribble) as (url, left):
        timeouts = Timeouts(first_byte_s=0.9, idle_s=0.5, deadline_s=1.0)
        gateway = start(config=config_for(url, timeouts=timeouts, retries=Retries(attempts=1)))
        began = time.monotonic()
        answer = chat(gateway, GPT, stream=stream)
        assert time.monotonic() - began < 1.0 + SLACK_S
        if stream:
            assert b"deadline" in answer.body.rsplit(b"\n\n", 2)[-2]
        else:
            assert answer.status == 504
        assert left.wait(5)
    wait_for(lambda: gateway.gateway.running == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="full queues drop connections there")
def test_an_upstream_that_takes_no_connection_is_given_up_in_time(start: Start) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # fill its queue, so that further connections wait for ever
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        timeouts = Timeouts(connect_s=0.3, deadline_s=30)
        config = config_for(
            f"http://127.0.0.1:{full.getsockname()[1]}",
            timeouts=timeouts,
            retries=Retries(attempts=2, backoff_s=0.01),
        )
        gateway = start(config=config)
        began = time.monotonic()
        answer = chat(gateway, GPT)
        assert time.monotonic() - began < 2 * 0.3 + SLACK_S
    assert answer.status == 504
    assert "could not be reached in time" in answer.json()["error"]["message"]
    assert answer.headers["x-zerorouter-attempts"] == "2"


def test_a_client_that_does_not_read_is_given_up_and_holds_little(start: Start) -> None:
    """Its upstream is not read either, and is let go once nothing has moved for too long."""
    sent = [0]

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        while True:
            writer.write(CHUNK * 500)
            await writer.drain()
            sent[0] += len(CHUNK) * 500

    with raw_upstream(flood) as (url, left):
        gateway = start(config=config_for(url, timeouts=Timeouts(idle_s=0.5, deadline_s=60)))
        host, port = gateway.url.removeprefix("http://").split(":")
        body = json.dumps({"model": GPT, "messages": ASK, "stream": True}).encode()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            assert left.wait(10)
            wait_for(lambda: gateway.gateway.running == 0)
        assert sent[0] < 64 << 20


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_garbage_in_the_middle_of_a_stream_ends_it_in_words(start: Start, api: str) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + CHUNK * 2)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"5\r\n\xff\xfe{[\x00\r\n")
        await writer.drain()

    with raw_upstream(talk) as (url, _):
        gateway = start(config=config_for(url))
        path = "/v1/chat/completions" if api == "chat" else "/v1/messages"
        body = {"model": GPT, "messages": ASK, "stream": True, "max_tokens": 50}
        answer = fetch(f"{gateway.url}{path}", body)
        assert answer.status == 200
        last = answer.body.rstrip().rsplit(b"\n\n", 1)[-1]
        assert b'"error"' in last
        assert b"\xff" not in answer.body


def test_an_answer_without_end_is_refused_at_its_limit(start: Start) -> None:
    from zerorouter.serving_config import RequestLimits

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
        writer.write(head + b'{"choices": "')
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    with raw_upstream(talk) as (url, left):
        limits = RequestLimits(answer_mib=1)
        gateway = start(config=config_for(url, limits=limits, retries=Retries(attempts=1)))
        answer = chat(gateway, GPT)
        assert answer.status == 502
        assert left.wait(5)


def test_events_are_passed_on_before_the_next_ones_come(start: Start) -> None:
    """No buffering: each event reaches the client before its upstream goes on."""
    goes_on = threading.Event()

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + CHUNK)
        await writer.drain()
        await asyncio.get_running_loop().run_in_executor(None, goes_on.wait, 10)
        writer.write(CHUNK + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()

    with raw_upstream(talk) as (url, _):
        gateway = start(config=config_for(url))
        host, port = gateway.url.removeprefix("http://").split(":")
        body = json.dumps({"model": GPT, "messages": ASK, "stream": True}).encode()
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            got = b""
            while EVENT not in got:
                got += client.recv(65_536)
            assert not goes_on.is_set()
            goes_on.set()
            while b"[DONE]" not in got:
                got += client.recv(65_536)
        assert got.count(EVENT) == 2


# -- books -----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    return tmp_path


def rows(what: str = "*") -> list[sqlite3.Row]:
    with contextlib.closing(sqlite3.connect(books_dir() / "ledger.db")) as database:
        database.row_factory = sqlite3.Row
        return database.execute(f"select {what} from zr_requests order by started_ns").fetchall()


@pytest.mark.usefixtures("home")
def test_with_the_disk_full_nothing_is_acknowledged_and_all_goes_on_afterwards(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = KeyStore(books_dir()).make(
        KeySettings(name="a", budget_day_usd=5.0), now_ns=time.time_ns()
    )[0]
    gateway = start(books="kept")
    url = f"{gateway.openai_url}/chat/completions"
    headers = {"authorization": f"Bearer {key}"}

    def ask(**more: object) -> Answer:
        return fetch(url, {"model": MINI, "messages": ASK, **more}, headers=headers)

    told = [ask()]
    genuine = os.write

    def full(handle: int, data: bytes) -> int:
        if str(books_dir()) in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return genuine(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        refused = [ask(), ask(), ask(stream=True)]
        feedback = fetch(
            f"{gateway.openai_url}/feedback",
            {"decision_id": "0" * 24, "score": 1},
            headers=headers,
        )
    assert feedback.status in (404, 503)
    for answer in refused:
        assert answer.status == 503
        assert answer.json()["error"]["code"] == "storage_full"
        assert int(answer.headers["retry-after"]) >= 1
    wait_for(lambda: ask().status == 200, every_s=0.2, at_most_s=20)
    told += [ask(), ask(stream=True)]
    gateway.stop()
    kept = {row["id"] for row in rows()}
    assert {answer.headers["x-request-id"] for answer in told} <= kept


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("jump_s", [-400 * 86_400, -3_600, 3_600, 400 * 86_400])
def test_a_clock_that_jumps_stops_no_request_and_loses_no_row(
    start: Start, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    key = KeyStore(books_dir()).make(
        KeySettings(name="a", budget_day_usd=5.0, requests_per_minute=100), now_ns=time.time_ns()
    )[0]
    gateway = start(books="kept", timeouts=Timeouts(deadline_s=20))
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "zerorouter/cost", "messages": ASK}
    genuine_ns, genuine = time.time_ns, time.time

    def ask() -> Answer:
        return fetch(f"{gateway.openai_url}/chat/completions", body, headers=headers)

    told = [ask()]
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: genuine_ns() + jump_s * 10**9)
        patch.setattr(time, "time", lambda: genuine() + jump_s)
        told += [ask(), ask()]
    told += [ask()]
    assert [answer.status for answer in told] == [200] * 4
    gateway.stop()
    assert {answer.headers["x-request-id"] for answer in told} == {row["id"] for row in rows("id")}


def test_what_a_killed_gateway_has_acknowledged_stands_in_the_ledger(tmp_path: Path) -> None:
    """A client's last byte, or its 2xx for feedback, comes after the row is safe."""
    env = {**os.environ, "ZEROROUTER_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "zerorouter.cli.serve", "--sandbox", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        told: list[str] = []
        scored: list[str] = []

        def ask(i: int) -> None:
            body = {"model": "zerorouter/cost", "messages": ASK, "stream": i % 2 == 0}
            try:
                while True:
                    answer = fetch(f"{url}/v1/chat/completions", body)
                    if answer.status == 200 and (i % 2 or b"[DONE]" in answer.body):
                        told.append(answer.headers["x-request-id"])
                    decision = answer.headers["x-zerorouter-decision-id"]
                    score = {"decision_id": decision, "score": 1}
                    if fetch(f"{url}/v1/feedback", score).status == 200:
                        scored.append(decision)
            except (OSError, ValueError, http.client.HTTPException):
                pass  # killed in the middle of an answer: nothing was acknowledged

        threads = [threading.Thread(target=ask, args=[i]) for i in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(told) >= 20 and len(scored) >= 5, at_most_s=60)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(30)
    for table, ids in (("requests", told), ("feedback", scored)):
        out = tmp_path / f"{table}.jsonl"
        export = ["-m", "zerorouter", "ledger", "export", "--table", table, "--out", str(out)]
        subprocess.run([sys.executable, *export], env=env, check=True, capture_output=True)
        kept = [json.loads(line) for line in out.read_text().splitlines()]
        assert set(ids) <= {row["id" if table == "requests" else "decision_id"] for row in kept}
        assert len({row["id"] for row in kept}) == len(kept)


# -- clients that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_upstream_call_before_anything_else_happens(
    start: Start, stream: bool
) -> None:
    """By the order of events: the upstream sees the end while it waits, with nothing to wake it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stream:
            writer.write(STREAM + CHUNK)
            await writer.drain()
        asked.set()
        if await reader.read(1) == b"":  # whoever called has gone; we have said nothing meanwhile
            raise ConnectionResetError

    asked = threading.Event()
    with raw_upstream(talk) as (url, left):
        gateway: RunningGateway = start(config=config_for(url))
        host, port = gateway.url.removeprefix("http://").split(":")
        body = json.dumps({"model": GPT, "messages": ASK, "stream": stream}).encode()
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            assert asked.wait(10)
            if stream:
                assert client.recv(100)
            assert not left.is_set()
        assert left.wait(2)  # 0.1 s on a quiet machine; all limits of time are far away
        wait_for(lambda: gateway.gateway.running == 0)
