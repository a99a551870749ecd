"""What the configuration says of workers and the ledger."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from zerorouter.config import config_schema, load_config
from zerorouter.errors import ConfigError
from zerorouter.gateway.ledger import LedgerSettings, ledger_settings
from zerorouter.serving_config import LedgerOptions


def written(path: Path, text: str) -> Path:
    file = path / "zr.yaml"
    file.write_text(f"version: 1\n{text}\n")
    return file


def test_the_ledgers_settings_are_read_and_written_back(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "gateway:\n  workers: 3\n  ledger:\n"
        "    {url: 'postgresql://me@db:5432/zr', retention_days: 90, store_prompts: true,\n"
        "     journal_mib: 2, segment_mib: 0.5, min_free_mib: 1, sync_every_s: 2}",
    )
    config = load_config(path)
    assert config.gateway.workers == 3
    found = ledger_settings(config.gateway.ledger, {})
    assert found == LedgerSettings(
        url="postgresql://me@db:5432/zr",
        retention_days=90,
        store_prompts=True,
        sync_every_s=2.0,
        segment_bytes=2**19,
        max_journal_bytes=2**21,
        min_free_bytes=2**20,
    )
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(path) == config


def test_nothing_said_is_the_ledgers_own_default_and_a_variable_wins() -> None:
    assert ledger_settings(LedgerOptions(), {}) == LedgerSettings()
    told = LedgerOptions(url="sqlite:///a.db", url_env="MY_LEDGER")
    environ = {"MY_LEDGER": "postgresql://me:secret@db/zr", "ZEROROUTER_LEDGER_URL": "sqlite:///b"}
    assert ledger_settings(told, environ).url == environ["MY_LEDGER"]
    assert ledger_settings(told, {"MY_LEDGER": " "}).url == "sqlite:///a.db"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gateway: {ledgr: {}}", "did you mean 'ledger'"),
        ("gateway: {ledger: {retention: 3}}", "did you mean 'retention_days'"),
        ("gateway: {ledger: {retention_days: 0}}", "gateway.ledger.retention_days: found 0"),
        ("gateway: {ledger: {url: 'mysql://h/d'}}", "postgresql://user@host/name"),
        ("gateway: {ledger: {url: 'postgresql://me:hunter2@h/d'}}", "url_env"),
        ("gateway: {ledger: {url_env: 'no name'}}", "name of an environment variable"),
        ("gateway: {ledger: {store_prompts: 3}}", "gateway.ledger.store_prompts"),
        ("gateway: {workers: 0}", "gateway.workers: found 0"),
        ("gateway: {workers: true}", "gateway.workers"),
    ],
)
def test_what_is_wrong_is_refused_and_no_password_is_shown(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_schema_describes_every_setting() -> None:
    schema = config_schema()
    ledger = schema["$defs"]["Ledger"]
    assert set(ledger["properties"]) == {one.name for one in fields(LedgerOptions)}
    assert all("description" in one for one in ledger["properties"].values())
    assert ledger["additionalProperties"] is False
    assert "workers" in schema["$defs"]["Gateway"]["properties"]
