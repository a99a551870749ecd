from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.books.conftest import NOW
from zerorouter.cli import keys, ledger
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.keys import KeyStore
from zerorouter.gateway.ledger import Journal, Ledger, LedgerSettings, RequestRow
from zerorouter.gateway.owners import books_dir


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path / "home"))

    def call(command, *arguments: str, code: int = 0):
        result = CliRunner().invoke(command, list(arguments))
        assert result.exit_code == code, result.output + result.stderr
        return result

    return call


def test_a_key_is_made_listed_and_revoked(run):
    made = json.loads(
        run(
            keys.command,
            *("make", "team", "--budget-day", "0.5", "--models", "gpt*, claude*"),
            *("--requests-per-minute", "60", "--json"),
        ).stdout
    )
    store = KeyStore(books_dir())
    assert store.authenticate(made["key"], mono_ns=0).budget_day_nusd == 500_000_000
    (listed,) = json.loads(run(keys.command, "list", "--json").stdout)
    assert "key" not in listed
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert listed["models"] == ["gpt*", "claude*"]
    assert "in force" in run(keys.command, "list").stdout
    run(keys.command, "revoke", "team")
    assert json.loads(run(keys.command, "list", "--json").stdout)[0]["revoked"]
    assert "unknown key" in run(keys.command, "revoke", "nobody", code=1).stderr


def test_the_key_alone_goes_to_standard_output(run):
    result = run(keys.command, "make", "team")
    assert result.stdout.startswith("zr-")
    assert len(result.stdout.splitlines()) == 1
    assert "only now" in result.stderr
    error = json.loads(run(keys.command, "make", "team", "--json", code=1).stderr)
    assert error["error"]["type"] == "InputError"


def test_a_key_has_a_policy_that_there_is(run, tmp_path):
    config = tmp_path / "zr.yaml"
    config.write_text("version: 1\npolicies: {careful: {value_of_correct_usd: 1.0}}\n")
    said = run(keys.command, "make", "a", "--policy", "qality", code=1).stderr
    assert "did you mean 'quality'" in said
    run(keys.command, "make", "a", "--policy", "careful", code=1)
    run(keys.command, "make", "a", "--policy", "careful", "--config", str(config))
    made = run(keys.command, "make", "b", "--policy", "auto", "--rpm", "5", "--tpm", "7", "--json")
    told = json.loads(made.stdout)
    assert (told["requests_per_minute"], told["tokens_per_minute"]) == (5, 7)


def test_an_export_takes_in_what_a_killed_gateway_left(run, tmp_path):
    journal = Journal(books_dir() / "journal", owner=5)
    for i in range(3):
        journal.append(RequestRow(id=new_id(NOW), started_ns=NOW + i, cost_nusd=5))
    journal.close()
    out = tmp_path / "out.parquet"
    for _ in range(2):  # again: nothing twice
        told = json.loads(run(ledger.command, "export", "--out", str(out), "--json").stdout)
        assert told["rows"] == 3
    (day,) = json.loads(run(ledger.command, "daily", "--json").stdout)
    assert (day["requests"], day["cost_nusd"], day["day"]) == (3, 15, "2026-11-18")
    assert "2026-11-18" in run(ledger.command, "daily").stdout
    run(ledger.command, "export", "--out", str(tmp_path / "out.txt"), code=1)
    run(ledger.command, "export", code=2)


def test_pruning_keeps_the_days_it_is_told(run):
    today = time.time_ns()
    opened = Ledger.open(books_dir(), owner=5, settings=LedgerSettings(store_every_s=3600))
    for days in (0, 3, 40):
        at = today - days * 86_400_000_000_000
        opened.append(RequestRow(id=new_id(at), started_ns=at))
    opened.close()
    told = json.loads(run(ledger.command, "prune", "--keep-days", "30", "--json").stdout)
    assert told["deleted"] == 1
    assert len(json.loads(run(ledger.command, "daily", "--json").stdout)) == 3


def test_the_ledger_is_where_the_configuration_says(run, tmp_path, monkeypatch):
    config = tmp_path / "zr.yaml"
    elsewhere = tmp_path / "elsewhere.db"
    config.write_text(
        f"version: 1\ngateway:\n  ledger:\n    url: sqlite:///{elsewhere}\n    retention_days: 2\n"
    )
    today = time.time_ns()
    settings = LedgerSettings(url=f"sqlite:///{elsewhere}", store_every_s=3600)
    opened = Ledger.open(books_dir(), owner=5, settings=settings)
    for days in (0, 1, 2):
        at = today - days * 86_400_000_000_000
        opened.append(RequestRow(id=new_id(at), started_ns=at))
    opened.close()
    asked = ("--config", str(config), "--json")
    assert len(json.loads(run(ledger.command, "daily", *asked).stdout)) == 3
    assert json.loads(run(ledger.command, "prune", *asked).stdout)["deleted"] == 1
    run(ledger.command, "prune", code=2)  # nobody said how many days
    monkeypatch.setenv("ZEROROUTER_LEDGER_URL", f"sqlite:///{tmp_path / 'third.db'}")
    assert json.loads(run(ledger.command, "daily", *asked).stdout) == []
