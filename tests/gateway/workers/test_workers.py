"""Two workers that serve as one: money, rates, rows, metrics, configuration, deaths and stops."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.conftest import GPT, MINI, SECRET, Answer, config_for, fetch
from gateway.workers.conftest import ASK, Served, Start, alive, until
from zerorouter.errors import ZeroRouterError
from zerorouter.gateway.books import Books
from zerorouter.gateway.keys import KeySettings, KeyStore
from zerorouter.gateway.workers.supervisor import LONGEST_PAUSE_S, bind_shared, pause_s
from zerorouter.sandbox import RunningSandbox
from zerorouter.serving_config import Timeouts


def make(home: Path, **settings: object) -> tuple[str, str]:
    """A key and its id."""
    store = KeyStore(home / "gateway")
    text, key = store.make(KeySettings(**settings), now_ns=time.time_ns())  # type: ignore[arg-type]
    return text, key.id


def rows(home: Path, table: str = "zr_requests") -> list[dict[str, Any]]:
    with sqlite3.connect(home / "gateway" / "ledger.db") as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute(f"select * from {table}")]
    database.close()
    return found


def spent(home: Path, key_id: str) -> tuple[int, int]:
    """What the accounts say once everything has ended: settled and reserved."""
    books = Books.open(home / "gateway", now_ns=time.time_ns())
    usage = books.accounts.usage(key_id, now_ns=time.time_ns())
    books.close()
    return usage.month_spent_nusd, usage.month_reserved_nusd


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_budgets_and_rates_are_exact_over_workers_and_metrics_add_up(
    serve: Start, home: Path
) -> None:
    budget_usd = 0.0004
    rich, rich_id = make(home, name="budgeted", budget_month_usd=budget_usd)
    slow, slow_id = make(home, name="slow", requests_per_minute=20)
    served = serve()

    def ask(key: str) -> Answer:
        return served.chat(MINI, key, max_tokens=12)

    with ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        of_slow = [answer.status for answer in pool.map(ask, [slow] * 80)]
        took = time.monotonic() - began
        of_rich = [answer.status for answer in pool.map(ask, [rich] * 120)]
    assert set(of_slow) == set(of_rich) == {200, 429}
    assert took < 60, "the machine is too slow for what is tested here"
    assert of_slow.count(200) == 20
    while ask(rich).status == 200:  # nothing else is reserved now: up to the last one
        of_rich.append(200)
    assert ask(rich).status == 429

    n_rich = of_rich.count(200)
    total = len(of_slow) + len(of_rich) + 2
    for _ in range(8):  # whoever answers
        assert served.metric("zerorouter_requests_total") == total
        assert served.metric("gen_ai_server_request_duration_seconds_count") == 20 + n_rich
    assert served.metric("zerorouter_workers") == 2
    assert served.stop() == 0

    done = rows(home)
    costs = [row["cost_nusd"] for row in done if row["key_id"] == rich_id and row["cost_nusd"]]
    assert len(costs) == n_rich
    assert len({row["id"] for row in done}) == len(done)
    assert sum(costs) <= budget_usd * 1e9
    worst = ((len(str(ASK)) + 200) // 3 * 0.15 + 12 * 0.6) * 1e3  # of one request, in nano-dollars
    assert budget_usd * 1e9 - sum(costs) < worst
    assert spent(home, rich_id) == (sum(costs), 0)
    assert sum(row["key_id"] == slow_id and row["status"] == 200 for row in done) == 20
    daily = rows(home, "zr_daily")
    assert sum(row["requests"] for row in daily) == len(done)
    assert sum(row["cost_nusd"] for row in daily) == sum(row["cost_nusd"] or 0 for row in done)


def test_killed_workers_lose_nothing_that_was_acknowledged_and_are_replaced(
    serve: Start, home: Path, request: pytest.FixtureRequest
) -> None:
    key, key_id = make(home, name="k", budget_day_usd=5.0)
    served = serve()
    acknowledged: list[str] = []
    scored: list[str] = []
    stop = threading.Event()

    def work(n: int) -> None:
        while not stop.is_set():
            with suppress(OSError, HTTPException):  # its worker was killed
                answer = served.chat("zerorouter/cost", key, stream=n % 2 == 0, max_tokens=12)
                whole = n % 2 or answer.body.rstrip().endswith(b"[DONE]")
                if answer.status == 200 and whole:
                    acknowledged.append(answer.headers["x-request-id"])
                    decision = answer.headers["x-zerorouter-decision-id"]
                    told = fetch(
                        f"{served.url}/v1/feedback",
                        {"decision_id": decision, "score": 1},
                        headers={"authorization": f"Bearer {key}"},
                    )
                    if told.status == 200:
                        scored.append(decision)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    request.addfinalizer(stop.set)
    until(lambda: len(served.pids()) == 2)
    for worker in (0, 1, 0):
        before = len(acknowledged)
        until(lambda before=before: len(acknowledged) > before + 30)
        seen = served.metric("zerorouter_requests_total")
        pid = served.pids()[worker]
        os.kill(pid, signal.SIGKILL)
        until(lambda worker=worker, pid=pid: served.pids()[worker] != pid)
        assert served.metric("zerorouter_requests_total") >= seen  # no counter ever falls
    stop.set()
    for thread in threads:
        thread.join(60)
    assert served.metric("zerorouter_worker_restarts_total") == 3
    assert {event["ended_by"] for event in served.events("worker_died")} == {"SIGKILL"}
    assert served.stop() == 0

    done = rows(home)
    ids = [row["id"] for row in done]
    assert len(set(ids)) == len(ids)
    assert set(acknowledged) <= set(ids)
    assert len(set(acknowledged)) == len(acknowledged)
    told = [row["decision_id"] for row in rows(home, "zr_feedback")]
    assert set(scored) <= set(told)
    total = sum(row["cost_nusd"] or 0 for row in done)
    assert spent(home, key_id) == (total, 0)
    lost = [row for row in done if row["outcome"] == "lost"]
    assert len(lost) <= 3 * len(threads)  # what was under way, counted at its worst
    assert sum(row["cost_nusd"] for row in rows(home, "zr_daily")) == total


def policies(served: Served) -> set[str]:
    """By which policy a dozen requests are routed, each over a connection of its own."""
    answers = [served.chat("zerorouter/auto") for _ in range(12)]
    assert {answer.status for answer in answers} == {200}
    return {answer.headers["x-zerorouter-policy"] for answer in answers}


def test_the_configuration_reaches_all_and_the_last_good_one_outlives_deaths(serve: Start) -> None:
    served = serve(watch_config=False)
    assert policies(served) == {"balanced"}
    told = yaml.safe_load(served.config.read_text())
    served.config.write_text(yaml.safe_dump(told | {"policy": "cost"}))
    served.process.send_signal(signal.SIGHUP)
    until(lambda: len(served.events("config_taken")) == 2)
    assert policies(served) == {"cost"}

    served.config.write_text(yaml.safe_dump(told | {"polcy": "quality"}))
    served.process.send_signal(signal.SIGHUP)
    until(lambda: len(served.events("config_refused")) == 2)
    assert "did you mean 'policy'" in served.events("config_refused")[0]["message"]
    assert served.metric("zerorouter_config_last_reload_successful") == 0
    pid = served.pids()[1]
    os.kill(pid, signal.SIGKILL)
    until(lambda: served.pids()[1] != pid)
    assert policies(served) == {"cost"}  # also of the one that could not read the file
    assert served.metric("zerorouter_config_last_reload_successful") == 0

    served.config.write_text(
        yaml.safe_dump(told | {"gateway": {**told["gateway"], "watch_config": True}})
    )
    served.process.send_signal(signal.SIGHUP)
    until(lambda: policies(served) == {"balanced"})
    assert served.metric("zerorouter_config_last_reload_successful") == 1
    served.config.write_text(yaml.safe_dump(told | {"policy": "quality"}))
    until(lambda: policies(served) == {"quality"})  # watched since
    assert served.stop() == 0


def test_a_stop_lets_streams_end_and_takes_nothing_new(
    serve: Start, sandbox: RunningSandbox
) -> None:
    served = serve(timeouts=Timeouts(drain_s=20))
    sandbox.set_faults(["slow_chunks=0.2"])
    with ThreadPoolExecutor(4) as pool:
        streams = [pool.submit(served.chat, GPT, stream=True) for _ in range(4)]
        until(lambda: sandbox.calls()["in_flight"] == 4)
        served.process.send_signal(signal.SIGTERM)
        bodies = [stream.result().body for stream in streams]
    assert all(body.rstrip().endswith(b"[DONE]") for body in bodies)
    assert served.process.wait(60) == 0
    assert not any(alive(pid) for pid in served.pids().values())
    with pytest.raises(OSError, match="refused"):
        served.chat(GPT)
    assert b"Traceback" not in served.log.read_bytes()


def test_workers_without_a_supervisor_stop(serve: Start) -> None:
    served = serve()
    until(lambda: len(served.pids()) == 2)
    pids = list(served.pids().values())
    served.process.kill()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_session_is_known_to_all_workers(serve: Start) -> None:
    """What is in a model's prompt cache is expected to cost less, whoever is asked next."""
    served = serve()
    ask = [{"role": "system", "content": "To be read first. " * 4_000}, *ASK]
    body = {"model": "zerorouter/auto", "messages": ask}
    body["zerorouter"] = {"session_id": "s", "allow": [MINI]}

    def expected_usd() -> float:
        answer = fetch(f"{served.url}/v1/chat/completions", body)
        assert answer.status == 200, answer.body
        return float(answer.headers["x-zerorouter-expected-cost-usd"])

    cold = expected_usd()
    time.sleep(0.5)
    assert max(expected_usd() for _ in range(12)) < cold
    assert served.metric("zerorouter_sessions") == 1
    assert served.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "OPEN_KEY is not set"),
        (["--host", "0.0.0.0"], "127.0.0.1 only"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_said(
    sandbox: RunningSandbox, tmp_path: Path, arguments: list[str], said: str
) -> None:
    config = tmp_path / "zr.yaml"
    config.write_text(yaml.safe_dump(config_for(sandbox.url).to_dict()))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "zerorouter.cli.serve",
            "--workers",
            "2",
            "--port",
            "0",
            "--config",
            str(config),
            *arguments,
        ],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "ZEROROUTER_HOME": str(tmp_path), "CLAUDE_KEY": SECRET},
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_another_gateway_shares_is_taken() -> None:
    ours = bind_shared("127.0.0.1", 0, 2)
    port = ours[0].getsockname()[1]
    assert {one.getsockname()[1] for one in ours} == {port}
    with pytest.raises(ZeroRouterError, match="cannot listen"):
        bind_shared("127.0.0.1", port, 2)
    for one in ours:
        one.close()
    for one in bind_shared("127.0.0.1", port, 1):
        one.close()


def test_one_that_dies_again_and_again_is_started_ever_later() -> None:
    pauses = [pause_s(n) for n in range(1, 20)]
    assert pauses[0] == 0
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_connection_that_waits_for_a_dead_worker_is_served_by_the_next(serve: Start) -> None:
    served = serve()
    host, port = served.url.removeprefix("http://").split(":")
    until(lambda: len(served.pids()) == 2)
    for pid in served.pids().values():
        os.kill(pid, signal.SIGKILL)
    waiting = [socket.create_connection((host, int(port))) for _ in range(8)]
    for one in waiting:
        one.settimeout(90)
        one.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    for one in waiting:
        with one:
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
    assert served.stop() == 0
