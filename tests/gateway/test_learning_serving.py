"""Scores and served requests change what the gateway routes by, and outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.conftest import GPT, MINI, Start, fetch
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox

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
    assert after[MINI, poem] == pytest.approx(before[MINI, poem], abs=1e-6)
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


def test_acknowledged_scores_survive_sigkill_and_are_learned_once(
    tmp_path: Path, sandbox: RunningSandbox
) -> None:
    script = Path(__file__).with_name("learning_server.py")
    environ = {**os.environ, "ZEROROUTER_HOME": str(tmp_path), "OPEN_KEY": "k", "CLAUDE_KEY": "k"}

    def begin() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, str(script), sandbox.url],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http"), url
        return process, url

    def state(url: str) -> dict:
        admin = {"authorization": "Bearer admin-token"}
        return fetch(f"{url}/admin/models", headers=admin).json()["learned"]

    process, url = begin()
    decisions = [
        fetch(f"{url}/v1/route", {"prompt": text, "allow": [GPT]}).json()["decision_id"]
        for text in SUMS[:9]
    ]
    for decision in decisions[:6]:
        answer = fetch(f"{url}/v1/feedback", {"decision_id": decision, "score": 0})
        assert answer.status == 200
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()

    process, url = begin()
    try:
        # Decisions outlive it, too; what was scored stays scored.
        again = fetch(f"{url}/v1/feedback", {"decision_id": decisions[0], "score": 0}).json()
        assert again["repeated"] is True
        for decision in decisions[6:]:
            told = fetch(f"{url}/v1/feedback", {"decision_id": decision, "score": 0})
            assert told.json()["repeated"] is False
        until = time.monotonic() + 30
        while state(url)["scores"] < 9 and time.monotonic() < until:
            time.sleep(0.1)
        assert state(url)["scores"] == 9
        assert state(url)["models"][GPT]["scores"] == 9
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
