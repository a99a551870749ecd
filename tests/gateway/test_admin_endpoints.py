"""``/admin``: what can be looked at and changed, by whom, and that changes hold."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.conftest import GPT, MINI, Answer, Start, fetch
from gateway.test_learning_serving import SUMS, fail, p_of, quick, settled
from zerorouter.gateway.jobs import ENDED
from zerorouter.gateway.running import RunningGateway
from zerorouter.gateway.switches import Switches

TOKEN = "admin-token-of-the-tests"
ADMIN = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def admin(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunningGateway:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    return start(books="kept", environ={"ZEROROUTER_ADMIN_TOKEN": TOKEN})


def call(
    gateway: RunningGateway, method: str, path: str, body: object = None, *, token: str = TOKEN
) -> Answer:
    assert gateway.admin_url is not None
    headers = {"authorization": f"Bearer {token}"}
    return fetch(f"{gateway.admin_url}/{path}", body, method=method, headers=headers)


def chat(gateway: RunningGateway, model: str, key: str = "") -> Answer:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}
    return fetch(f"{gateway.openai_url}/chat/completions", body, headers=headers)


def test_nothing_is_told_or_done_without_the_token(admin: RunningGateway) -> None:
    for method, path in (("GET", "models"), ("POST", "keys"), ("POST", "profiles/reset")):
        refused = call(admin, method, path, {} if method == "POST" else None, token="another")
        assert refused.status == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert TOKEN.encode() not in refused.body


def test_unknown_paths_and_methods_are_typed_errors(admin: RunningGateway) -> None:
    assert call(admin, "GET", "nonsense").status == 404
    assert call(admin, "PUT", "keys", {}).status == 405
    assert call(admin, "POST", "keys", {"nmae": "x"}).json()["error"]["code"] == "invalid_request"
    assert call(admin, "POST", "keys", b"{").status == 400


def test_a_model_that_is_switched_off_is_neither_routed_to_nor_served_by_name(
    admin: RunningGateway,
) -> None:
    assert GPT in call(admin, "GET", "models").json()["routed"]
    told = call(admin, "POST", f"models/{GPT}/disable")
    assert told.status == 200
    assert told.json()["off"] == [GPT]
    models = call(admin, "GET", "models").json()
    assert GPT not in models["routed"]
    assert models["off"] == [GPT]
    assert chat(admin, GPT).status == 404
    assert chat(admin, f"open-house/{GPT}").status == 404
    assert chat(admin, MINI).status == 200
    assert call(admin, "POST", f"models/{GPT}/enable").json()["off"] == []
    assert chat(admin, GPT).status == 200
    assert call(admin, "POST", "models/none-such/disable").status == 404


def test_a_switch_survives_a_restart(admin: RunningGateway, start: Start) -> None:
    call(admin, "POST", f"models/{GPT}/disable")
    admin.stop()
    again = start(books="kept", environ={"ZEROROUTER_ADMIN_TOKEN": TOKEN})
    assert chat(again, GPT).status == 404
    assert Switches.default().off() == {GPT}


def test_prices_are_set_and_dropped(admin: RunningGateway) -> None:
    before = call(admin, "GET", "prices").json()[GPT]
    price = {"input_usd_per_mtok": 7.5, "output_usd_per_mtok": 30.0}
    told = call(admin, "PUT", f"prices/{GPT}", price)
    assert told.status == 200
    assert told.json()["price"]["input_usd_per_mtok"] == 7.5
    assert call(admin, "GET", "prices").json()[GPT]["output_usd_per_mtok"] == 30.0
    assert call(admin, "DELETE", f"prices/{GPT}").json()["price"] == before
    assert call(admin, "DELETE", f"prices/{GPT}").status == 404
    assert call(admin, "PUT", f"prices/{GPT}", {"input_usd_per_mtok": -1}).status == 400
    assert call(admin, "PUT", "prices/none-such", price).status == 404


def test_keys_are_made_shown_once_and_revoked(admin: RunningGateway) -> None:
    made = call(admin, "POST", "keys", {"name": "team", "models": ["gpt-*"]})
    assert made.status == 201
    key = made.json()
    time.sleep(0.3)
    assert chat(admin, GPT).status == 401
    assert chat(admin, GPT, key["key"]).status == 200
    assert chat(admin, "claude-3-haiku-20240307", key["key"]).status == 403
    listed = call(admin, "GET", "keys")
    assert [one["name"] for one in listed.json()["keys"]] == ["team"]
    assert key["key"].encode() not in listed.body
    assert call(admin, "DELETE", f"keys/{key['id']}").json()["revoked"]
    time.sleep(0.3)
    assert chat(admin, GPT, key["key"]).status == 401
    assert call(admin, "DELETE", "keys/none-such").status == 404
    assert call(admin, "POST", "keys", {"name": "x", "policy": "none-such"}).status == 404
    assert call(admin, "POST", "keys", {"name": "x", "budget_day_usd": -1}).status == 400


def test_budgets_are_shown_with_what_is_spent_and_can_be_changed(admin: RunningGateway) -> None:
    key = call(admin, "POST", "keys", {"name": "team", "budget_day_usd": 5}).json()
    time.sleep(0.3)
    assert chat(admin, GPT, key["key"]).status == 200
    (budget,) = call(admin, "GET", "budgets").json()["budgets"]
    assert budget["budget_day_usd"] == 5
    assert 0 < budget["day_spent_usd"] < 1
    assert budget["day_reserved_usd"] == 0
    told = call(admin, "PUT", f"budgets/{key['id']}", {"budget_day_usd": 1e-9})
    assert told.json()["budget_day_usd"] == 1e-9
    time.sleep(0.3)
    refused = chat(admin, GPT, key["key"])
    assert refused.status == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert call(admin, "PUT", f"budgets/{key['id']}", {}).status == 400


def test_what_was_learned_is_listed_and_gone_back_to(admin: RunningGateway) -> None:
    quick(admin)
    untaught = p_of(admin, GPT, SUMS[0])
    fail(admin, GPT, SUMS[:1])
    first = settled(admin)
    taught = p_of(admin, GPT, SUMS[0])
    assert taught < untaught
    fail(admin, GPT, SUMS[1:25])
    settled(admin, first)
    assert p_of(admin, GPT, SUMS[0]) < taught
    models = call(admin, "GET", "models").json()["learned"]["models"]
    assert models[GPT]["scores"] == 25
    assert models[GPT]["drift"]["direction"] == "worse"
    listed = call(admin, "GET", "profiles").json()["versions"]
    assert first in [one["version"] for one in listed]
    told = call(admin, "POST", "profiles/rollback", {"version": first})
    assert told.status == 200, told.body
    assert told.json()["version"] > listed[0]["version"]
    assert p_of(admin, GPT, SUMS[0]) == pytest.approx(taught, abs=1e-6)
    assert call(admin, "POST", "profiles/rollback", {"version": 10**6}).status == 404
    assert call(admin, "POST", "profiles/reset").status == 200
    assert p_of(admin, GPT, SUMS[0]) == pytest.approx(untaught, abs=1e-6)


def test_a_drift_stands_in_metrics_until_it_is_acknowledged(admin: RunningGateway) -> None:
    quick(admin)
    fail(admin, GPT, SUMS)
    settled(admin)
    line = f'zerorouter_drift_state{{model="{GPT}"}}'
    assert f"{line} 1.0" in fetch(f"{admin.url}/metrics").body.decode()
    assert call(admin, "POST", f"models/{GPT}/acknowledge").status == 200
    text = fetch(f"{admin.url}/metrics").body.decode()
    assert f"{line} 0.0" in text
    assert 'zerorouter_drift_events_total{direction="worse"' in text
    assert call(admin, "POST", f"models/{MINI}/acknowledge").status == 404
    assert call(admin, "POST", f"models/{GPT}/forget").status == 200
    assert GPT not in call(admin, "GET", "models").json()["learned"]["models"]


def test_what_was_learned_survives_a_restart(admin: RunningGateway, start: Start) -> None:
    fail(admin, GPT, SUMS[:8])
    admin.stop()  # publishes
    again = start(books="kept", environ={"ZEROROUTER_ADMIN_TOKEN": TOKEN})
    assert settled(again) >= 1
    learned = call(again, "GET", "models").json()["learned"]
    assert learned["scores"] == 8
    assert learned["models"][GPT]["scores"] == 8


def test_an_onboarding_job_asks_an_upstream_and_its_model_is_routed_to(
    admin: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.setenv("OPEN_KEY", "sk-any")
    assert "house-model" not in call(admin, "GET", "models").json()["routed"]
    begun = call(
        admin,
        "POST",
        "onboarding",
        {
            "model": "house-model",
            "upstream": "open-house",
            "anchors": 6,
            "budget_usd": 1.0,
            "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0},
        },
    )
    assert begun.status == 202, begun.body
    job = begun.json()
    until = time.monotonic() + 90
    while job["status"] not in ENDED and time.monotonic() < until:
        time.sleep(0.2)
        job = call(admin, "GET", f"onboarding/{job['id']}").json()
    assert job["status"] == "done", job
    assert job["result"]["n_anchors"] == 6
    assert 0 < job["result"]["spent_usd"] < 1.0
    assert [one["id"] for one in call(admin, "GET", "onboarding").json()["jobs"]] == [job["id"]]
    until = time.monotonic() + 20
    while "house-model" not in call(admin, "GET", "models").json()["routed"]:
        assert time.monotonic() < until, "the new profile was not taken"
        time.sleep(0.2)


def test_jobs_are_refused_for_upstreams_that_cannot_be_asked(admin: RunningGateway) -> None:
    wrong = {"model": "m", "upstream": "none-such"}
    assert call(admin, "POST", "onboarding", wrong).status == 404
    native = {"model": "m", "upstream": "claude-house"}
    assert call(admin, "POST", "onboarding", native).status == 400
    costly = {"model": "m", "upstream": "open-house", "budget_usd": 0}
    assert call(admin, "POST", "onboarding", costly).status == 400
    url = {"model": "m", "upstream": "open-house", "base_url": "http://10.0.0.1"}
    assert call(admin, "POST", "onboarding", url).status == 400
    assert call(admin, "GET", "onboarding/" + "0" * 32).status == 404


def test_a_job_can_be_cancelled_and_keeps_what_was_answered(
    admin: RunningGateway, monkeypatch: pytest.MonkeyPatch, sandbox
) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.setenv("OPEN_KEY", "sk-any")
    sandbox.set_faults(["slow_start=0.3"])
    order = {
        "model": "house-model",
        "upstream": "open-house",
        "anchors": 200,
        "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0},
    }
    job = call(admin, "POST", "onboarding", order).json()
    assert call(admin, "POST", "onboarding", order).status == 400  # at it already
    until = time.monotonic() + 60
    while "progress" not in call(admin, "GET", f"onboarding/{job['id']}").json():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert call(admin, "DELETE", f"onboarding/{job['id']}").json()["status"] == "cancelling"
    while (status := call(admin, "GET", f"onboarding/{job['id']}").json())["status"] not in ENDED:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert status["status"] == "cancelled"
    assert 0 < status["progress"]["n"] < 200
