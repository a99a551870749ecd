"""Scores and served requests change what the gateway routes by, and outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.conftest import GPT, MINI, Start, fetch
from zerorouter.gateway.keys import KeySettings, KeyStore
from zerorouter.gateway.owners import books_dir
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox
from zerorouter.serving_config import LearningOptions

SUMS = [f"What is {i} * 23 + {i}?" for i in range(10, 40)]


def ask(gateway: RunningGateway, text: str, model: str = "zerorouter/auto", **more: object):
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    answer = fetch(f"{gateway.openai_url}/chat/completions", body)
    assert answer.status == 200, answer.body
    return answer


def score(gateway: RunningGateway, decision_id: str, value: float):
    return fetch(f"{gateway.openai_url}/feedback", {"decision_id": decision_id, "score": value})


def p_of(gateway: RunningGateway, model: str, text: str) -> float:
    told = fetch(f"{gateway.openai_url}/route", {"prompt": text, "allow": [model]}).json()
    return next(c["p_correct"] for c in told["candidates"] if c["model"] == model)


def fail(gateway: RunningGateway, model: str, texts: list[str]) -> None:
    for text in texts:
        told = fetch(f"{gateway.openai_url}/route", {"prompt": text, "allow": [model]}).json()
        assert score(gateway, told["decision_id"], 0.0).status == 200


def settled(gateway: RunningGateway, version: int = 0) -> int:
    learning = gateway.gateway.learning
    assert learning is not None
    learning.settle()
    assert learning.wait_for(version, 20), "no version was published"
    return learning.applied_version


def quick(gateway: RunningGateway) -> None:
    """Versions as soon as there is something new."""
    learning = gateway.gateway.learning
    assert learning is not None
    learning._publish_every_s = 0.0
    learning.settle()
    if learning._learner is not None:
        learning._learner._every_s = 0.0


def test_failures_of_one_model_lower_it_and_others_on_such_prompts_only(start: Start) -> None:
    gateway = start()
    quick(gateway)
    poem = "Write a short poem about the sea at night."
    before = {(m, t): p_of(gateway, m, t) for m in (GPT, MINI) for t in (SUMS[0], poem)}
    version = fetch(f"{gateway.openai_url}/route", {"prompt": poem}).json()["space_version"]
    assert "+" not in version
    fail(gateway, GPT, SUMS)
    settled(gateway)
    after = {key: p_of(gateway, *key) for key in before}
    assert after[GPT, SUMS[0]] < before[GPT, SUMS[0]] - 0.1
    assert after[MINI, SUMS[0]] < before[MINI, SUMS[0]] - 0.01
    fallen = before[MINI, SUMS[0]] - after[MINI, SUMS[0]]
    assert abs(after[MINI, poem] - before[MINI, poem]) < 0.05 * fallen
    answer = ask(gateway, SUMS[0])
    assert answer.headers["x-zerorouter-profile-version"].startswith(f"{version}+")


def test_a_decision_is_scored_once_by_its_key_and_unknown_ones_are_not_found(start: Start) -> None:
    gateway = start()
    decision = ask(gateway, "What is 2 + 2?").headers["x-zerorouter-decision-id"]
    first = score(gateway, decision, 0.5)
    assert first.status == 200
    assert first.json()["repeated"] is False
    assert first.json()["model"]
    assert score(gateway, decision, 0.5).json()["repeated"] is True
    refused = score(gateway, decision, 1.0)
    assert refused.status == 409
    assert refused.json()["error"]["code"] == "feedback_already_given"
    unknown = score(gateway, "00" * 12, 1.0)
    assert unknown.status == 404
    assert unknown.json()["error"]["code"] == "decision_not_found"
    assert (
        fetch(
            f"{gateway.openai_url}/feedback", {"decision_id": decision, "score": 1, "scoer": 1}
        ).status
        == 400
    )


def test_a_key_scores_its_own_decisions_only(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    store = KeyStore(books_dir())
    mine, theirs = (store.make(KeySettings(name=n), now_ns=1)[0] for n in ("mine", "theirs"))
    gateway = start(books="kept")
    mine_is, theirs_is = ({"authorization": f"Bearer {key}"} for key in (mine, theirs))
    told = fetch(f"{gateway.openai_url}/route", {"prompt": "Why?"}, headers=mine_is)
    body = {"decision_id": told.json()["decision_id"], "score": 1}
    url = f"{gateway.openai_url}/feedback"
    assert fetch(url, body).status == 401
    assert fetch(url, body, headers=theirs_is).status == 404
    assert fetch(url, body, headers=mine_is).status == 200
    gateway.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway" / "ledger.db")) as db:
        (row,) = db.execute("select decision_id, score, model from zr_feedback").fetchall()
    assert row[0] == body["decision_id"]
    assert row[1] == 1
    assert row[2] == told.json()["model"]


def test_nothing_is_learned_where_it_is_switched_off(start: Start) -> None:
    gateway = start(learning=LearningOptions(enabled=False))
    assert gateway.gateway.learning is None
    decision = ask(gateway, "What is 2 + 2?").headers["x-zerorouter-decision-id"]
    told = score(gateway, decision, 1)
    assert told.status == 200
    assert told.json()["model"] is None


def test_decisions_of_a_batch_can_be_scored(start: Start) -> None:
    gateway = start()
    told = fetch(f"{gateway.openai_url}/route/batch", {"prompts": ["one?", "two?"]}).json()
    for decision in told["decisions"]:
        assert score(gateway, decision["decision_id"], 1).status == 200


def test_lengths_and_times_of_served_requests_are_learned(start: Start) -> None:
    gateway = start()
    quick(gateway)
    for text in SUMS[:6]:
        only = {"allow": [GPT]}
        ask(gateway, text, stream=True, stream_options={"include_usage": True}, zerorouter=only)
        ask(gateway, text, zerorouter=only)
    settled(gateway)
    router = gateway.gateway.setup.router
    assert router is not None
    assert router.learned is not None
    known = router.learned.models[GPT]
    assert known.n_lengths >= 6
    # The sandbox writes twelve tokens, at once.
    assert known.length_factor < 0.7
    (seen,) = known.endpoints.values()
    assert seen.times.n_seen >= 6
    assert router.times(GPT).tpot.expectation < 0.01


class Server:
    """A gateway in processes of its own."""

    def __init__(self, home: Path, upstream: str, **environ: str) -> None:
        script = Path(__file__).with_name("learning_server.py")
        told = {"ZEROROUTER_HOME": str(home), "OPEN_KEY": "k", "CLAUDE_KEY": "k", **environ}
        self.process = subprocess.Popen(
            [sys.executable, str(script), upstream],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the log
            text=True,
            env={**os.environ, **told},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http"), self.url

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def end(self, how: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def decide(self, text: str) -> str:
        told = fetch(f"{self.url}/v1/route", {"prompt": text, "allow": [GPT]})
        return told.json()["decision_id"]

    def score(self, decision_id: str, value: float) -> dict:
        told = fetch(f"{self.url}/v1/feedback", {"decision_id": decision_id, "score": value})
        assert told.status == 200, told.body
        return told.json()

    def learned(self) -> dict:
        admin = {"authorization": "Bearer admin-token"}
        return fetch(f"{self.url}/admin/models", headers=admin).json()["learned"]

    def wait_for(self, scores: int, *, looks: int = 1) -> None:
        """Until so many looks in a row, each by a connection of its own, tell of the scores."""
        until, seen = time.monotonic() + 60, 0
        while seen < looks:
            assert time.monotonic() < until, self.learned()
            told = self.learned()["scores"]
            assert told <= scores, "a score was learned twice"
            seen = seen + 1 if told == scores else 0
            time.sleep(0.1 if not seen else 0.0)


def test_acknowledged_scores_survive_sigkill_and_are_learned_once(
    tmp_path: Path, sandbox: RunningSandbox
) -> None:
    first = Server(tmp_path, sandbox.url)
    decisions = [first.decide(text) for text in SUMS[:9]]
    for decision in decisions[:6]:
        assert first.score(decision, 0)["repeated"] is False
    first.end(signal.SIGKILL)
    with Server(tmp_path, sandbox.url) as again:
        # Decisions outlive it, too; what was scored stays scored.
        assert again.score(decisions[0], 0)["repeated"] is True
        for decision in decisions[6:]:
            assert again.score(decision, 0)["repeated"] is False
        again.wait_for(9)
        assert again.learned()["models"][GPT]["scores"] == 9


def test_workers_teach_one_learner_and_all_follow_it(
    tmp_path: Path, sandbox: RunningSandbox
) -> None:
    with Server(tmp_path, sandbox.url, WORKERS="2") as server:
        decisions = [server.decide(text) for text in SUMS[:16]]
        for decision in decisions:  # each by whichever worker takes the connection
            assert server.score(decision, 0)["repeated"] is False
        assert all(server.score(decision, 0)["repeated"] for decision in decisions)
        server.wait_for(16, looks=12)
        folder = tmp_path / "gateway" / "learning"
        assert len(list(folder.glob("remembered-*.bin"))) == 2
