from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from zerorouter.errors import (
    BooksError,
    InputError,
    KeyRefusedError,
    ModelForbiddenError,
    UnknownNameError,
)
from zerorouter.gateway.keys import RELOAD_NS, KeySettings, KeyStore, hash_key


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path)


def test_a_made_key_is_let_in_and_a_changed_one_is_not(store, now):
    text, key = store.make(KeySettings(name="team", policy="cost"), now_ns=now)
    assert store.authenticate(text, mono_ns=0) == key
    assert key.policy == "cost"
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (other, "", "sk-123", text + "x", text.upper(), "zr-000000000000-" + text[16:]):
        with pytest.raises(KeyRefusedError, match="unknown API key"):
            store.authenticate(wrong, mono_ns=0)


def test_the_secret_stands_nowhere_on_disk_and_the_file_is_the_owners_alone(store, now, tmp_path):
    text, key = store.make(KeySettings(name="team"), now_ns=now)
    for path in tmp_path.iterdir():
        assert text.rpartition("-")[2].encode() not in path.read_bytes()
    assert hash_key(text) in store.path.read_text()
    assert store.path.stat().st_mode & 0o077 == 0
    assert "hash" not in key.to_dict()


def test_an_unknown_id_costs_a_comparison_too(store, now, monkeypatch):
    """What a stranger learns from the time is the same for a known and an unknown id."""
    import hmac

    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or False)
    text, _ = store.make(KeySettings(name="team"), now_ns=now)
    for sent in (text, "zr-ffffffffffff-" + "A" * 43, "nonsense"):
        with pytest.raises(KeyRefusedError):
            store.authenticate(sent, mono_ns=0)
    assert len(compared) == 3
    assert all(len(a) == len(b) == 64 for a, b in compared)


def test_a_revoked_key_is_refused_by_a_running_gateway(store, now, tmp_path):
    text, _ = store.make(KeySettings(name="team"), now_ns=now)
    running = KeyStore(tmp_path)
    running.authenticate(text, mono_ns=0)
    store.revoke("team", now_ns=now)
    with pytest.raises(KeyRefusedError, match="revoked"):
        running.authenticate(text, mono_ns=RELOAD_NS)


def test_a_name_is_used_once_among_keys_in_force(store, now):
    store.make(KeySettings(name="team"), now_ns=now)
    with pytest.raises(InputError, match="in force"):
        store.make(KeySettings(name="team"), now_ns=now)
    first = store.revoke("team", now_ns=now)
    store.make(KeySettings(name="team"), now_ns=now)
    assert store.revoke(first.id, now_ns=now + 10**12).revoked == first.revoked
    with pytest.raises(UnknownNameError, match="did you mean 'team'"):
        store.revoke("teem", now_ns=now)


def test_models_are_allowed_by_globs(make):
    key = make(models=("gpt-4o*", "claude-?"))
    assert key.allows("gpt-4o-mini")
    assert key.allows("claude-3")
    assert not key.allows("gpt-4")
    with pytest.raises(ModelForbiddenError, match="gpt-4o"):
        key.require_model("o1")
    assert make().allows("anything")


def test_a_damaged_or_vanished_file_lets_nobody_new_in_and_shuts_nobody_out(store, now):
    text, key = store.make(KeySettings(name="team"), now_ns=now)
    good = store.path.read_bytes()
    store.path.write_text("{")
    assert store.authenticate(text, mono_ns=0) == key
    assert "cannot be read" in str(store.error)
    store.path.unlink()
    assert store.authenticate(text, mono_ns=RELOAD_NS) == key
    assert len(store) == 1
    assert "gone" in str(store.error)
    store.path.write_bytes(good)
    store.authenticate(text, mono_ns=2 * RELOAD_NS)
    assert store.error is None


def test_a_damaged_file_refuses_to_start_and_is_never_overwritten(store, now):
    store.make(KeySettings(name="team"), now_ns=now)
    store.path.write_text('{"version": 1, "keys": [{"id": 3}]}')
    with pytest.raises(BooksError, match="restore it"):
        KeyStore(store.path.parent)
    with pytest.raises(BooksError):
        store.make(KeySettings(name="other"), now_ns=now)
    assert json.loads(store.path.read_text())["keys"] == [{"id": 3}]


def test_settings_out_of_range_are_refused(make):
    for wrong in (
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"requests_per_minute": 10**9},
        {"budget_day_usd": -1.0},
        {"budget_month_usd": float("nan")},
    ):
        with pytest.raises(InputError):
            make(**wrong)
    with pytest.raises(InputError):
        replace(make(), name="two\nlines")


def test_keys_made_by_several_processes_at_once_are_all_there(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from zerorouter.gateway.keys import KeySettings, KeyStore\n"
        "for i in range(10):\n"
        "    KeyStore(Path(sys.argv[1])).make(KeySettings(name=f'{sys.argv[2]}-{i}'), now_ns=0)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)]) for i in range(3)
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len({key.name for key in KeyStore(tmp_path).all()}) == 30
