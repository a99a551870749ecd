"""Keys, budgets and the ledger as the gateway's clients meet them."""

from __future__ import annotations

import http.server
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from gateway.conftest import CLAUDE, GPT, MINI, Start, config_for, fetch

pytest.importorskip("sqlalchemy")

from zerorouter.gateway.keys import KeySettings, KeyStore
from zerorouter.gateway.owners import books_dir
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox
from zerorouter.serving_config import LedgerOptions

ASK = [{"role": "user", "content": "What is 17 * 23?"}]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    return tmp_path


def make(**settings: object) -> str:
    store = KeyStore(books_dir())
    made = KeySettings(**{"name": "a key", **settings})  # type: ignore[arg-type]
    return store.make(made, now_ns=time.time_ns())[0]


def client_of(gateway: RunningGateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.openai_url, api_key=key, max_retries=0)


def ask(gateway: RunningGateway, key: str, model: str = MINI, **more: object):
    with client_of(gateway, key) as client:
        create = client.chat.completions.with_raw_response.create
        return create(model=model, messages=ASK, **more)  # type: ignore[call-overload]


@pytest.mark.usefixtures("home")
def test_with_keys_only_keys_come_in(start: Start) -> None:
    key = make()
    gateway = start(books="kept")
    assert ask(gateway, key).status_code == 200
    with pytest.raises(openai.AuthenticationError):
        ask(gateway, "zr-000000000000-" + "x" * 43)
    assert fetch(f"{gateway.openai_url}/models").status == 401
    assert fetch(f"{gateway.url}/health").status == 200


@pytest.mark.usefixtures("home")
def test_a_keys_models_and_policy_bound_what_is_routed(start: Start) -> None:
    key = make(models=("claude-*",), policy="quality")
    gateway = start(books="kept")
    answer = ask(gateway, key, "zerorouter/auto")
    assert answer.headers["x-zerorouter-policy"] == "quality"
    assert answer.headers["x-zerorouter-model"].startswith("claude-")
    with pytest.raises(openai.PermissionDeniedError):
        ask(gateway, key, GPT)
    with pytest.raises(openai.PermissionDeniedError):
        ask(gateway, key, "zerorouter/auto", extra_headers={"x-zerorouter-allow": "gpt-*"})
    with client_of(gateway, key) as client:
        listed = {model.id for model in client.models.list()}
    assert CLAUDE in listed
    assert GPT not in listed


@pytest.mark.usefixtures("home")
def test_a_budget_and_a_rate_end_with_429(start: Start) -> None:
    poor = make(name="poor", budget_day_usd=1e-6)
    slow = make(name="slow", requests_per_minute=1)
    gateway = start(books="kept")
    with pytest.raises(openai.RateLimitError) as caught:
        ask(gateway, poor, max_tokens=100)
    assert caught.value.code == "insufficient_quota"
    assert ask(gateway, slow).status_code == 200
    with pytest.raises(openai.RateLimitError) as caught:
        ask(gateway, slow)
    assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("home")
def test_every_request_has_a_row_with_its_money(start: Start) -> None:
    key = make(budget_day_usd=5.0)
    gateway = start(books="kept")
    assert ask(gateway, key, "zerorouter/cost").status_code == 200
    with client_of(gateway, key) as client:
        chunks = list(client.chat.completions.create(model=MINI, messages=ASK, stream=True))
    assert all(chunk.choices for chunk in chunks)  # the usage chunk is kept from the client
    with pytest.raises(openai.NotFoundError):
        ask(gateway, key, "nobody-has-heard-of-it")
    gateway.stop()
    with closing(sqlite3.connect(books_dir() / "ledger.db")) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute("select * from zr_requests order by started_ns").fetchall()
    assert [row["status"] for row in rows] == [200, 200, 404]
    routed, streamed, _ = rows
    assert routed["decision_id"]
    assert routed["p_correct"] > 0
    assert streamed["output_tokens"] == 12
    assert not streamed["estimated"]
    assert streamed["cost_nusd"] > 0


@pytest.mark.usefixtures("home")
def test_a_failed_attempt_that_took_tokens_is_paid_for(
    start: Start, sandbox: RunningSandbox
) -> None:
    key = make(budget_day_usd=5.0)
    with metered_error() as url:
        config = config_for(sandbox.url)
        failing = replace(config.upstreams["open-house"], base_url=f"{url}/v1", models=(MINI,))
        first = replace(config, upstreams={"a-failing-house": failing, **config.upstreams})
        gateway = start(books="kept", config=first)
        chunks = fetch(
            f"{gateway.openai_url}/chat/completions",
            {"model": MINI, "messages": ASK, "stream": True, "max_tokens": 12},
            headers={"authorization": f"Bearer {key}"},
        )
        assert chunks.status == 200
        assert chunks.headers["x-zerorouter-attempts"] == "2"
        gateway.stop()
    with closing(sqlite3.connect(books_dir() / "ledger.db")) as database:
        database.row_factory = sqlite3.Row
        (row,) = database.execute("select * from zr_requests").fetchall()
        failed, served = database.execute("select * from zr_attempts order by n").fetchall()
    assert failed["outcome"] == "stream_error"
    assert (failed["input_tokens"], failed["output_tokens"]) == (1000, 0)
    assert failed["cost_nusd"] == 150_000  # a thousand tokens at $0.15 the million
    assert served["cost_nusd"] > 0
    assert row["cost_nusd"] == failed["cost_nusd"] + served["cost_nusd"]
    assert row["input_tokens"] == 1000 + served["input_tokens"]


@contextmanager
def metered_error() -> Iterator[str]:
    """An upstream whose streams begin with their usage and an error."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            told = (
                b'data: {"id":"x","object":"chat.completion.chunk","model":"m","choices":[],'
                b'"usage":{"prompt_tokens":1000,"completion_tokens":0,"total_tokens":1000}}\n\n'
                b'data: {"error":{"message":"overloaded","type":"server_error","code":503}}\n\n'
            )
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("keep", [False, True])
def test_prompts_are_kept_only_where_the_configuration_says_so(start: Start, keep: bool) -> None:
    key = make()
    gateway = start(books="kept", ledger=LedgerOptions(store_prompts=keep))
    assert ask(gateway, key).status_code == 200
    gateway.stop()
    with closing(sqlite3.connect(books_dir() / "ledger.db")) as database:
        ((prompt,),) = database.execute("select prompt from zr_requests").fetchall()
    assert ("What is 17 * 23?" in (prompt or "")) is keep
    found = [p for p in books_dir().rglob("*") if p.is_file() and b"17 * 23" in p.read_bytes()]
    assert bool(found) is keep


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("with_key", [False, True])
def test_a_full_disk_refuses_requests_before_they_cost_and_is_said(
    start: Start, sandbox: RunningSandbox, with_key: bool
) -> None:
    headers = {"authorization": f"Bearer {make()}"} if with_key else None
    gateway = start(books="kept", ledger=LedgerOptions(min_free_mib=2**20, store_every_s=0.01))
    url, body = f"{gateway.openai_url}/chat/completions", {"model": MINI, "messages": ASK}
    answer = fetch(url, body, headers=headers)
    for _ in range(200):  # the disk is looked at by a thread
        if answer.status != 200:
            break
        time.sleep(0.02)
        answer = fetch(url, body, headers=headers)
    assert answer.status == 503, answer.body
    assert b"\nzerorouter_ledger_successful 0" in fetch(f"{gateway.url}/metrics").body
    assert "free some space" in answer.json()["error"]["message"]
    sandbox.forget_calls()
    assert fetch(url, body, headers=headers).status == 503
    assert sandbox.calls()["total"] == 0
