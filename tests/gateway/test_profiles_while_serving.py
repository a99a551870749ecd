"""A profile that appears or goes while the gateway serves: the pool follows, without a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.conftest import Start, fetch
from zerorouter.asking.job import onboard
from zerorouter.prices import Price
from zerorouter.profiles import ProfileStore


def until(condition, at_most_s: float = 20.0) -> None:
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_an_onboarded_model_is_routed_to_and_a_removed_one_is_not(start: Start) -> None:
    running = start()
    gateway = running.gateway

    def models() -> tuple[str, ...]:
        return () if gateway.setup.router is None else gateway.setup.router.models

    assert "gpt-newcomer" not in models()
    onboard("gpt-newcomer", price=Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4))
    until(lambda: "gpt-newcomer" in models())
    ProfileStore.default().remove("gpt-newcomer")
    until(lambda: "gpt-newcomer" not in models())


def test_a_damaged_profile_changes_nothing(start: Start, home: Path) -> None:
    running = start()
    before = running.gateway.setup
    (home / "profiles").mkdir()
    (home / "profiles" / "gpt-broken.json").write_text("{")
    until(lambda: b"last_reload_successful 0.0" in fetch(f"{running.url}/metrics").body)
    assert running.gateway.setup is before
