"""What of a request decides where it goes, and what is kept of how it went."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.conftest import CLAUDE, GPT, MINI, Start, fetch
from zerorouter.gateway.owners import books_dir
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox

QUESTION = "A train goes 84 km/h for 3 hours, then 60 km/h for 2. How far does it go?"
REMINDER = (
    "<system-reminder>\nThe file src/app.py was modified by a linter. Do not mention this.\n"
    "Your todo list is empty.\n</system-reminder>\n"
)


def decide(gateway: RunningGateway, messages: list, **more: object) -> dict:
    answer = fetch(f"{gateway.openai_url}/route", {"messages": messages, **more})
    assert answer.status == 200, answer.body
    return answer.json()


def test_what_a_harness_says_around_the_human_ask_changes_nothing(gateway: RunningGateway) -> None:
    bare = decide(gateway, [{"role": "user", "content": QUESTION}])
    wrapped = [
        {"role": "user", "content": [{"type": "text", "text": REMINDER + QUESTION}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t1", "name": "read_file", "input": {"path": "a.py"}}
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "def f(x): return x\n" * 9},
                {"type": "text", "text": REMINDER},
            ],
        },
    ]
    told = decide(gateway, wrapped)
    assert told["p_correct"] == pytest.approx(bare["p_correct"], abs=0.02)
    assert told["difficulty"] == pytest.approx(bare["difficulty"], abs=0.1)
    other = decide(gateway, [{"role": "user", "content": "Write a sonnet about the sea."}])
    assert other["difficulty"] != pytest.approx(bare["difficulty"], abs=0.1)


def test_a_prompt_too_long_for_a_model_goes_to_one_with_room(gateway: RunningGateway) -> None:
    long = "The report goes on, and on, and on about the harvest. " * 20_000  # some 220,000 tokens
    told = decide(gateway, [{"role": "user", "content": f"{long}\nSum it up."}], policy="cost")
    chosen = gateway.gateway.setup.catalog.get(told["model"])
    assert chosen.context_tokens is None or chosen.context_tokens > 200_000
    excluded = {row["model"]: row["reason"] for row in told["excluded"]}
    assert MINI in excluded
    assert "context" in excluded[MINI] or "room" in excluded[MINI]


def test_a_model_that_cannot_answer_as_long_as_asked_is_not_chosen(
    gateway: RunningGateway,
) -> None:
    catalog = gateway.gateway.setup.catalog
    for limit in (100, 5_000, 20_000, 60_000):
        for name in ("max_tokens", "max_completion_tokens"):
            body = {
                "model": "zerorouter/cost",
                "messages": [{"role": "user", "content": QUESTION}],
                name: limit,
            }
            answer = fetch(f"{gateway.openai_url}/chat/completions", body)
            assert answer.status == 200, answer.body
            longest = catalog.get(answer.headers["x-zerorouter-model"]).max_output_tokens
            assert longest is None or longest >= limit
            told = decide(gateway, body["messages"], policy="cost", **{name: limit})
            assert told["model"] == answer.headers["x-zerorouter-model"]
            assert set(told["fallbacks"]).isdisjoint(
                name
                for name in gateway.gateway.setup.routed
                if (catalog.get(name).max_output_tokens or limit) < limit
            )
    body = {"model": "zerorouter/auto", "messages": body["messages"], "max_tokens": 2_000_000_000}
    answer = fetch(f"{gateway.openai_url}/chat/completions", body)
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "no_eligible_model"
    assert "2,000,000,000 tokens" in answer.json()["error"]["message"]


def test_a_switch_has_to_pay_for_the_lost_prompt_cache(start: Start) -> None:
    """The same request, but for its session, goes to the model that holds the session's cache."""
    gateway = start()
    context = "Background, to be read first: the harvest was good in most years. " * 3_000
    messages = [{"role": "system", "content": context}, {"role": "user", "content": QUESTION}]
    wishes = {"allow": [GPT, "gemini-1.5-pro-002"], "policy": "balanced"}
    cold = decide(gateway, messages, **wishes)
    (other,) = set(wishes["allow"]) - {cold["model"]}
    costs = {row["model"]: row["cost_usd"] for row in cold["candidates"]}
    served = fetch(
        f"{gateway.openai_url}/chat/completions",
        {"model": other, "messages": messages, "zerorouter": {"session_id": "s"}},
    )
    assert served.status == 200
    warm = decide(gateway, messages, **wishes, session_id="s")
    warmed = {row["model"]: row["cost_usd"] for row in warm["candidates"]}
    assert warmed[other] < 0.8 * costs[other]
    assert warmed[cold["model"]] == pytest.approx(costs[cold["model"]])
    stranger = decide(gateway, messages, **wishes, session_id="another")
    assert {row["model"]: row["cost_usd"] for row in stranger["candidates"]} == costs


def test_every_attempt_has_a_row(
    start: Start, sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    gateway = start(books="kept")
    body = {"model": "zerorouter/cost", "messages": [{"role": "user", "content": QUESTION}]}
    best = fetch(f"{gateway.openai_url}/chat/completions", body).headers["x-zerorouter-model"]
    sandbox.set_faults([f"{best}:503=0"])
    answer = fetch(f"{gateway.openai_url}/chat/completions", body)
    sandbox.set_faults([])
    assert answer.headers["x-zerorouter-attempts"] == "2"
    gateway.stop()
    request = answer.headers["x-request-id"]
    with closing(sqlite3.connect(books_dir() / "ledger.db")) as database:
        rows = database.execute(
            "select n, model, status, outcome from zr_attempts where request_id = ? order by n",
            [request],
        ).fetchall()
        told = database.execute(
            "select api, asked_model, model, outcome, p_correct, cost_nusd, expected_cost_nusd,"
            " ttft_s, session from zr_requests where id = ?",
            [request],
        ).fetchone()
    assert rows[0] == (0, best, 503, "status")
    assert rows[1] == (1, answer.headers["x-zerorouter-model"], 200, "ok")
    assert told[:4] == ("chat", "zerorouter/cost", answer.headers["x-zerorouter-model"], "ok")
    assert all(value > 0 for value in told[4:8])
    assert QUESTION.encode() not in (books_dir() / "ledger.db").read_bytes()


def test_a_concrete_model_of_the_other_api_is_refused_where_nothing_translates(
    gateway: RunningGateway,
) -> None:
    answer = fetch(f"{gateway.openai_url}/responses", {"model": CLAUDE, "input": QUESTION})
    assert answer.status == 404
    assert answer.json()["error"]["code"] == "model_not_found"
