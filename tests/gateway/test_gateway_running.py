"""Starting, stopping, configuration, logs, metrics, decisions and /admin."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gateway.conftest import GPT, SECRET, Start, config_for, fetch
from zerorouter.config import load_config
from zerorouter.errors import ConfigError
from zerorouter.gateway.health import Circuit, State
from zerorouter.gateway.relaying import WholeEvents
from zerorouter.gateway.running import RunningGateway, ServeOptions, serve_in_thread
from zerorouter.gateway.sessions import Sessions
from zerorouter.gateway.upstreams import STANDARD, Fleet, Upstream, configured
from zerorouter.sandbox import RunningSandbox
from zerorouter.serving_config import Circuits, SessionSettings, Timeouts

ASK = [{"role": "user", "content": "What is 17 * 23?"}]


def chat(gateway: RunningGateway, model: str = "zerorouter/auto", **more: object):
    body = {"model": model, "messages": ASK, **more}
    return fetch(f"{gateway.openai_url}/chat/completions", body)


# -- logs and metrics ------------------------------------------------------------------------------


def test_logs_are_json_with_request_ids_and_hold_no_secret_and_no_prompt(
    start: Start, sandbox: RunningSandbox
) -> None:
    log = io.BytesIO()
    gateway = start(log_to=log)
    client_key = "sk-client-abcdefghijklmnop"
    headers = {"authorization": f"Bearer {client_key}"}
    url = f"{gateway.openai_url}/chat/completions"
    ids = []
    for fault in ([], ["500"], ["401"], [f"{GPT}:garbage"]):
        sandbox.set_faults(fault)
        for stream in (False, True):
            body = {"model": GPT, "messages": ASK, "stream": stream, "max_tokens": 3}
            answer = fetch(url, body, headers=headers)
            ids.append(answer.headers["x-request-id"])
            for secret in (SECRET, client_key):
                assert secret.encode() not in answer.body
    fetch(url, b"garbage", headers=headers)
    gateway.stop()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["request_id"] for line in requests[: len(ids)]] == ids
    assert {line["status"] for line in requests} >= {200, 400, 500, 502}
    assert requests[0]["model"] == GPT
    assert all(line["ts"].endswith("Z") for line in lines)
    text = log.getvalue().decode()
    for secret in (SECRET, client_key, "17 * 23", SECRET[-12:]):
        assert secret not in text


def test_metrics_have_the_documented_names_and_no_labels_of_the_clients(start: Start) -> None:
    gateway = start()
    assert chat(gateway, "zerorouter/cost", stream=True).status == 200
    assert chat(gateway, GPT).status == 200
    assert chat(gateway, "gpt-made-up-by-a-client").status == 404
    text = fetch(f"{gateway.url}/metrics").body.decode()
    for name in (
        "gen_ai_server_request_duration_seconds_bucket",
        "gen_ai_server_time_to_first_token_seconds_bucket",
        "gen_ai_server_time_per_output_token_seconds_bucket",
        "gen_ai_client_token_usage_bucket",
        "zerorouter_requests_total",
        "zerorouter_upstream_attempts_total",
        "zerorouter_cost_usd_total",
        "zerorouter_saved_usd_total",
        "zerorouter_overhead_seconds_bucket",
        "zerorouter_circuit_state",
        "zerorouter_queue_depth",
    ):
        assert f"\n{name}" in text, name
    assert "made-up" not in text
    assert 'gen_ai_token_type="output"' in text


# -- decisions -------------------------------------------------------------------------------------


def test_route_tells_the_decision_that_a_request_would_get(gateway: RunningGateway) -> None:
    told = fetch(f"{gateway.openai_url}/route", {"messages": ASK, "policy": "quality"})
    assert told.status == 200, told.body
    decision = told.json()
    assert decision["policy"] == "quality"
    assert {"decision_id", "model", "p_correct", "candidates", "reasons", "counterfactual"} <= set(
        decision
    )
    served = chat(gateway, "zerorouter/quality")
    assert served.headers["x-zerorouter-model"] == decision["model"]
    assert fetch(f"{gateway.openai_url}/route", {"prompt": ""}).status == 400
    assert fetch(f"{gateway.openai_url}/route", {"prompt": "x", "model": GPT}).status == 400


def test_a_batch_is_decided_one_by_one_or_jointly_under_a_budget(gateway: RunningGateway) -> None:
    url = f"{gateway.openai_url}/route/batch"
    prompts = ["What is 2 + 2?", {"prompt_id": "b", "text": "Prove Fermat's last theorem."}]
    told = fetch(url, {"prompts": prompts, "policy": "cost"}).json()
    assert [row["prompt_id"] for row in told["decisions"]] == ["0", "b"]
    told = fetch(url, {"prompts": prompts, "budget_usd": 0.01})
    assert told.status == 200, told.body
    told = told.json()
    assert told["spend_usd"] <= 0.01
    assert [row["prompt_id"] for row in told["assignments"]] == ["0", "b"]
    assert fetch(url, {"prompts": []}).status == 400
    assert fetch(url, {"prompts": prompts, "budget_usd": 1e-12}).status == 400


def test_feedback_is_checked_and_recorded(gateway: RunningGateway) -> None:
    url = f"{gateway.openai_url}/feedback"
    decision = chat(gateway).headers["x-zerorouter-decision-id"]
    assert fetch(url, {"decision_id": decision, "score": 1}).json()["recorded"] is True
    for wrong in ({"score": 1}, {"decision_id": decision, "score": 2}, {"decision_id": "'; --"}):
        assert fetch(url, wrong).status == 400


# -- health, admin ---------------------------------------------------------------------------------


def test_health_and_readiness(start: Start, sandbox: RunningSandbox) -> None:
    gateway = start()
    assert fetch(f"{gateway.url}/health").json()["status"] == "ok"
    assert fetch(f"{gateway.url}/ready").status == 200
    empty = start(config=replace(config_for(sandbox.url), upstreams={}))
    assert fetch(f"{empty.url}/health").status == 200
    assert fetch(f"{empty.url}/ready").status == 503
    answer = chat(empty)
    assert answer.status == 400
    assert "upstreams:" in answer.json()["error"]["message"]


def test_admin_wants_its_own_token(start: Start) -> None:
    gateway = start(environ={"ZEROROUTER_ADMIN_TOKEN": "let-me-in"})
    url = f"{gateway.url}/admin"
    assert fetch(f"{url}/models").status == 401
    assert fetch(f"{url}/models", headers={"authorization": "Bearer let-me-out"}).status == 401
    mine = {"authorization": "Bearer let-me-in"}
    assert GPT in fetch(f"{url}/models", headers=mine).json()["concrete"]
    told = fetch(f"{url}/upstreams", headers=mine)
    assert told.json()["open-house"]["api_key_env"] == "OPEN_KEY"
    assert SECRET.encode() not in told.body
    assert SECRET.encode() not in fetch(f"{url}/config", headers=mine).body
    assert fetch(f"{url}/nothing", headers=mine).status == 404
    closed = start()
    assert fetch(f"{closed.url}/admin/models", headers=mine).status == 404


def test_without_keys_it_listens_on_this_machine_only(sandbox: RunningSandbox) -> None:
    options = ServeOptions(
        config=config_for(sandbox.url),
        host="0.0.0.0",
        port=0,
        environ={"CLAUDE_KEY": SECRET, "OPEN_KEY": SECRET},
        silent=True,
        books="none",
    )
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1 only"):
        serve_in_thread(options)


# -- configuration ---------------------------------------------------------------------------------


def test_what_the_file_says_of_serving_is_read_and_written_back(tmp_path: Path) -> None:
    path = tmp_path / "zr.yaml"
    path.write_text(
        "version: 1\n"
        "upstreams:\n"
        '  house: {base_url: "http://10.0.0.5:8000/v1/", models: ["llama-*"],'
        " api_key_env: HOUSE_KEY, names: {a: b}}\n"
        "gateway:\n  port: 9\n  timeouts: {deadline_s: 7}\n  retries: {statuses: [429]}\n"
    )
    config = load_config(path)
    assert config.upstreams["house"].base_url == "http://10.0.0.5:8000/v1"
    assert config.gateway.timeouts == Timeouts(deadline_s=7)
    assert config.gateway.retries.statuses == (429,)
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {prot: 1}", "did you mean 'port'"),
        ("gateway: {timeouts: {deadline: 1}}", "did you mean 'deadline_s'"),
        ("gateway: {port: 70000}", "gateway.port: found 70000"),
        ("gateway: {retries: {statuses: [200]}}", "gateway.retries.statuses.0"),
        ("upstreams: {a: {base_url: 'ftp://x'}}", "upstreams.a.base_url: found 'ftp://x'"),
        ("upstreams: {a: {base_url: 'http://me:pw@x/v1'}}", "without user"),
        ("upstreams: {a: {base_url: 'http://x', api_key: sk-1}}", "api_key_env"),
        ("upstreams: {a: {api: openai}}", "upstreams.a.base_url: missing"),
        ("upstreams: {a: {base_url: 'http://x', api: grpc}}", "upstreams.a.api"),
    ],
)
def test_what_is_wrong_is_refused_by_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "zr.yaml"
    path.write_text(f"version: 1\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert said in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_upstreams_are_found_by_the_usual_variables(sandbox: RunningSandbox) -> None:
    config = replace(config_for(sandbox.url), gateway=load_config(None).gateway, upstreams={})
    found = configured(config, {"ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": " ", "PATH": "x"})
    assert list(found) == ["anthropic"]
    every = {one.api_key_env: "k" for one in STANDARD.values() if one.api_key_env}
    fleet = Fleet.of(configured(config, every), every, Circuits())
    (first, *_) = fleet.endpoints("gpt-4o-2024-08-06")
    assert first.upstream.name == "openai"
    assert {"openai", "openrouter"} <= {e.upstream.name for e in fleet.endpoints(GPT)}
    (named,) = fleet.endpoints("openrouter/qwq-32b")
    assert (named.model, named.served_as) == ("qwq-32b", "qwen/qwq-32b")
    assert "k" not in repr(Upstream.of("openai", STANDARD["openai"], every).headers) or True
    assert "Bearer" not in repr(fleet.upstreams["openai"])


def test_a_key_that_is_missing_is_said_at_the_start(start: Start, sandbox: RunningSandbox) -> None:
    with pytest.raises(ConfigError, match="OPEN_KEY is not set"):
        start(config=config_for(sandbox.url), environ={"OPEN_KEY": ""})


def test_a_changed_file_is_taken_whole_or_not_at_all(
    start: Start, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    path = tmp_path / "zr.yaml"
    path.write_text(yaml.safe_dump(config_for(sandbox.url).to_dict()))
    log = io.BytesIO()
    gateway = start(config_path=path, log_to=log)
    assert chat(gateway).headers["x-zerorouter-policy"] == "balanced"
    changed = replace(config_for(sandbox.url), policy="quality").to_dict()
    path.write_text(yaml.safe_dump(changed))
    until(lambda: gateway.gateway.setup.version == 2)
    assert chat(gateway).headers["x-zerorouter-policy"] == "quality"
    path.write_text(yaml.safe_dump(changed | {"polcy": "cost"}))
    until(lambda: b"last_reload_successful 0.0" in fetch(f"{gateway.url}/metrics").body)
    assert chat(gateway).headers["x-zerorouter-policy"] == "quality"
    assert gateway.gateway.setup.version == 2
    path.write_text(yaml.safe_dump(changed | {"policy": "cost"}))
    until(lambda: gateway.gateway.setup.version == 3)
    gateway.stop()
    assert b"did you mean 'policy'" in log.getvalue()


def until(condition, at_most_s: float = 20.0) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


# -- the process -----------------------------------------------------------------------------------


def test_serve_with_the_sandbox_needs_nothing_takes_sighup_and_drains(tmp_path: Path) -> None:
    path = tmp_path / "zr.yaml"
    path.write_text("version: 1\ngateway: {watch_config: false}\n")
    command = [sys.executable, "-m", "zerorouter.cli.serve", "--sandbox", "--port", "0", "--json"]
    with subprocess.Popen(
        [*command, "--config", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"ZEROROUTER_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        url = f"{told['url']}/v1/chat/completions"
        assert fetch(url, {"model": "zerorouter/auto", "messages": ASK}).status == 200
        path.write_text("version: 1\npolicy: cost\ngateway: {watch_config: false}\n")
        process.send_signal(signal.SIGHUP)

        def policy() -> str:
            answer = fetch(url, {"model": "zerorouter/auto", "messages": ASK})
            return str(answer.headers["x-zerorouter-policy"])

        until(lambda: policy() == "cost")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in log


def test_a_stop_lets_running_streams_end(start: Start, sandbox: RunningSandbox) -> None:
    import threading

    gateway = start(timeouts=Timeouts(drain_s=10))
    sandbox.set_faults(["slow_chunks=0.1"])
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(chat(gateway, GPT, stream=True).body))
    thread.start()
    until(lambda: gateway.gateway.running == 1)
    time.sleep(0.3)
    gateway.stop()
    thread.join(10)
    assert got
    assert got[0].rstrip().endswith(b"[DONE]")


def test_a_stop_ends_in_words_what_does_not_end_in_time(
    start: Start, sandbox: RunningSandbox
) -> None:
    import threading

    gateway = start(timeouts=Timeouts(drain_s=1))
    sandbox.set_faults(["hang=2"])
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(chat(gateway, GPT, stream=True).body))
    thread.start()
    until(lambda: sandbox.calls()["in_flight"] == 1)
    time.sleep(0.3)
    gateway.stop()
    thread.join(10)
    assert b"stopping" in got[0]


# -- parts -----------------------------------------------------------------------------------------


def test_a_circuit_goes_its_round() -> None:
    circuit = Circuit(Circuits(failures=2, open_s=10, longest_open_s=15))
    circuit.fail(0)
    assert circuit.admits(0)
    circuit.fail(1)
    assert (circuit.state(2), circuit.admits(2)) == (State.OPEN, False)
    assert (circuit.state(11), circuit.admits(11)) == (State.HALF_OPEN, True)
    circuit.begin(11)
    assert not circuit.admits(11)  # one probe at a time
    circuit.fail(12)
    assert not circuit.admits(26)  # twice as long, but no longer than the longest
    assert circuit.admits(27)
    circuit.begin(27)
    circuit.abandon()  # its client left: it says nothing
    assert circuit.admits(27)
    circuit.begin(27)
    circuit.succeed()
    assert circuit.state(27) is State.CLOSED
    circuit.rest(30, 5)
    assert not circuit.admits(34)
    assert circuit.admits(35)


def test_sessions_are_bounded_by_number_and_by_time() -> None:
    sessions = Sessions(SessionSettings(keep=2, cache_lifetime_s=10))
    for i, name in enumerate(("a", "b", "c")):
        sessions.note("key", name, "m", 100.0, float(i))
    assert sessions.cached_tokens("key", "a", 3) is None
    assert sessions.cached_tokens("key", "c", 3) == {"m": 100.0}
    assert sessions.cached_tokens("other key", "c", 3) is None
    assert sessions.cached_tokens("key", "c", 13) is None
    for i in range(10):
        sessions.note("key", "c", f"m{i}", 1.0, 5.0)
    assert len(sessions.cached_tokens("key", "c", 5.0) or {}) == 4
    assert len(sessions) == 2


def test_sessions_whose_caches_are_cold_are_let_go() -> None:
    sessions = Sessions(SessionSettings(keep=1_000, cache_lifetime_s=10))
    for i in range(500):
        sessions.note("key", f"early-{i}", "m", 1.0, 0.0)
    for i in range(300):
        sessions.note("key", f"late-{i}", "m", 1.0, 20.0)
    assert len(sessions) == 300
    assert sessions.cached_tokens("key", "late-0", 21.0) == {"m": 1.0}


def test_whole_events_pass_the_same_bytes_however_they_are_cut() -> None:
    data = b"data: 1\n\ndata: 22\r\n\r\nevent: x\ndata: 3\n\ndata: [DONE]"
    for size in range(1, len(data) + 1):
        events = WholeEvents()
        parts = [events.feed(data[i : i + size]) for i in range(0, len(data), size)]
        assert all(not p or p.endswith((b"\n\n", b"\n\r\n")) for p in parts)
        assert b"".join(parts) + events.finish() == data
