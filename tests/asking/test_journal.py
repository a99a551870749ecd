"""The journal: what is on record after kills, torn lines, full disks and second writers."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.asking.journal import Journal, Received, read_journal
from zerorouter.errors import ArtifactError, CorruptArtifactError, NewerArtifactError

HEAD = {"model": "m", "endpoint": "http://127.0.0.1:1/v1"}


def received(ref: str, usd: float | None = 0.5) -> Received:
    return Received(
        ref=ref,
        text=f"reply to {ref} — 答",
        finish="stop",
        usd=usd,
        input_tokens=3.0,
        output_tokens=4.0,
        counted=True,
        ttft_s=0.1,
        end_to_end_s=0.2,
        key="ab",
    )


async def ask(journal: Journal, ref: str, outcome: str = "answer") -> None:
    call = await journal.intent(ref, 2.0)
    if outcome == "answer":
        await journal.answer(call, received(ref))
    elif outcome == "failure":
        await journal.failure(call, "it broke", 1.0)


def written(path) -> Journal:
    with Journal.create(path, HEAD) as journal:
        asyncio.run(ask(journal, "a"))
        asyncio.run(ask(journal, "b", "failure"))
        asyncio.run(ask(journal, "c", "open"))
    return journal


def test_what_is_written_is_read_back(tmp_path):
    journal = written(tmp_path / "run.jsonl")
    state, size = read_journal(journal.path)
    assert state == journal.state
    assert state.head == HEAD
    assert state.answers == {"a": received("a")}
    assert (state.spent_usd, state.open, state.open_refs) == (1.5, {2: 2.0}, {2: "c"})
    assert state.committed_usd == 3.5
    assert size == journal.path.stat().st_size


def test_a_line_that_was_cut_off_is_dropped_and_the_run_goes_on(tmp_path):
    path = written(tmp_path / "run.jsonl").path
    whole = path.read_bytes()
    for cut in range(len(whole) - 40, len(whole)):
        path.write_bytes(whole[:cut])
        with Journal.resume(path) as journal:
            assert journal.state.answers.keys() == {"a"}
            asyncio.run(ask(journal, "d"))
        assert read_journal(path)[0].answers.keys() == {"a", "d"}


def test_every_prefix_of_a_journal_is_a_journal(tmp_path):
    """A kill can come at any byte: money is never counted for less than may have been spent."""
    path = written(tmp_path / "run.jsonl").path
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        state, size = read_journal(path)
        assert size <= cut
        lines = whole[:size].decode().splitlines()
        intents = sum('"kind": "intent"' in line for line in lines)
        settled = sum('"kind": "answer"' in line or '"kind": "failure"' in line for line in lines)
        assert len(state.open) == intents - settled


def test_damage_in_the_middle_is_told_with_its_line(tmp_path):
    path = written(tmp_path / "run.jsonl").path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{broken\n", *lines[3:]]))
    with pytest.raises(CorruptArtifactError, match=r"line 3 is damaged.*--fresh"):
        Journal.resume(path)


@pytest.mark.parametrize("text", ["", "\n", '{"kind": "run"}\n', "[]\n"])
def test_what_is_no_journal_is_told(tmp_path, text):
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(CorruptArtifactError):
        read_journal(path)


def test_a_journal_of_a_later_version_is_told(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"kind": "run", "format": "zerorouter-run", "version": 99}\n')
    with pytest.raises(NewerArtifactError, match="upgrade"):
        read_journal(path)


def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    with Journal.create(path, HEAD), pytest.raises(ArtifactError, match="in use"):
        Journal.resume(path)


def test_an_existing_journal_is_not_overwritten(tmp_path):
    path = written(tmp_path / "run.jsonl").path
    before = path.read_bytes()
    with pytest.raises(ArtifactError, match="cannot write"):
        Journal.create(path, HEAD)
    assert path.read_bytes() == before


def test_a_full_disk_ends_the_run_and_nothing_follows_half_a_line(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    real = os.write

    def full(file: int, payload: bytes) -> int:
        if payload.startswith(b"{"):
            return real(file, payload[:10])  # as many bytes as there was room for
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal.create(path, HEAD) as journal:
        asyncio.run(ask(journal, "a"))
        call = asyncio.run(journal.intent("b", 2.0))
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(ArtifactError, match=r"No space left on device.*run the same command"):
            asyncio.run(journal.answer(call, received("b")))
        monkeypatch.setattr(os, "write", real)
        with pytest.raises(ArtifactError, match="No space left"):
            asyncio.run(ask(journal, "c"))
    with Journal.resume(path) as again:
        assert again.state.answers.keys() == {"a"}
        assert again.state.open_refs == {1: "b"}


def test_lines_that_come_together_share_one_sync(tmp_path, monkeypatch):
    syncs = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: syncs.append(file) or real(file))

    async def many(journal: Journal) -> None:
        await asyncio.gather(*(ask(journal, str(i)) for i in range(40)))

    with Journal.create(tmp_path / "run.jsonl", HEAD) as journal:
        syncs.clear()
        asyncio.run(many(journal))
    assert 2 <= len(syncs) < 40  # 80 lines


@settings(max_examples=15)
@given(st.lists(st.sampled_from(["answer", "failure", "open"]), max_size=6))
def test_spend_is_the_sum_of_what_was_settled_and_set_aside(tmp_path_factory, outcomes):
    path = tmp_path_factory.mktemp("j") / "run.jsonl"
    with Journal.create(path, HEAD) as journal:
        for i, outcome in enumerate(outcomes):
            asyncio.run(ask(journal, str(i), outcome))
    worth = {"answer": 0.5, "failure": 1.0, "open": 2.0}
    assert read_journal(path)[0].committed_usd == sum(worth[o] for o in outcomes)
