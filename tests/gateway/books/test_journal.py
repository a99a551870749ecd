from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.books.conftest import NOW
from zerorouter.errors import BooksError, InputError, StorageFullError
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.ledger import FeedbackRow, Journal, RequestRow
from zerorouter.gateway.ledger.journal import read, read_all, segments


def row(i: int = 0, **fields: object) -> RequestRow:
    return RequestRow(id=new_id(NOW + i), started_ns=NOW + i, **fields)  # type: ignore[arg-type]


def fill(journal: Journal) -> int:
    """Append until there is no room; how many were kept."""
    for i in range(10_000):
        try:
            journal.append(row(i))
        except StorageFullError:
            return i
    raise AssertionError("there is no limit")


def all_rows(folder: Path) -> list[tuple[str, dict[str, object]]]:
    return [
        found for segment in segments(folder) for part in read_all(segment) for found in part.rows
    ]


@pytest.fixture
def journal(tmp_path: Path):
    opened = Journal(tmp_path, owner=7, segment_bytes=4_000)
    yield opened
    opened.close()


def test_what_was_appended_is_read_back_over_all_segments(journal, tmp_path):
    rows = [row(i, model="m\n\x00é", p_correct=0.1 * i) for i in range(40)]
    for one in rows:
        journal.append(one)
    journal.append(FeedbackRow(id=new_id(NOW), received_ns=NOW, decision_id="d", score=1.0))
    found = all_rows(tmp_path)
    assert [kind for kind, _ in found] == ["request"] * 40 + ["feedback"]
    assert [fields["id"] for _, fields in found[:-1]] == [one.id for one in rows]
    assert found[3][1]["model"] == "m\n\x00é"
    assert found[3][1]["p_correct"] == rows[3].p_correct
    files = segments(tmp_path)
    assert len(files) > 5
    assert all(file.path.stat().st_size <= 4_000 for file in files)
    assert journal.total_bytes == sum(file.path.stat().st_size for file in files)
    assert files[0].path.stat().st_mode & 0o077 == 0


def test_a_part_at_a_time_loses_nothing_between(journal, tmp_path):
    for i in range(9):
        journal.append(row(i))
    first = segments(tmp_path)[0]
    parts = list(read_all(first, max_bytes=10))  # less than a row: one at a time
    assert all(len(part.rows) == 1 for part in parts)
    assert sum(len(part.rows) for part in parts) == len(read(first.path, 0, max_bytes=1 << 20).rows)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_last_line_that_was_cut_off_is_dropped(journal, tmp_path, cut):
    for i in range(3):
        journal.append(row(i))
    path = segments(tmp_path)[0].path
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    part = read(path, 0, max_bytes=1 << 20)
    assert len(part.rows) == 2
    assert part.damaged == []


def test_a_damaged_line_is_set_aside_and_the_others_are_read(journal, tmp_path):
    for i in range(3):
        journal.append(row(i))
    path = segments(tmp_path)[0].path
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"chat"', b'"chut"')
    path.write_bytes(b"".join(lines) + b"nonsense\n\n")
    part = read(path, 0, max_bytes=1 << 20)
    assert len(part.rows) == 2
    assert len(part.damaged) == 3


def test_a_write_that_stops_half_way_leaves_no_half_line(journal, tmp_path, monkeypatch):
    journal.append(row(0))
    genuine = os.write
    calls = []

    def full(handle, data):
        calls.append(len(data))
        if len(calls) == 1:
            return genuine(handle, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFullError, match="No space left"):
        journal.append(row(1))
    monkeypatch.setattr(os, "write", genuine)
    journal.append(row(2))
    assert [fields["started_ns"] for _, fields in all_rows(tmp_path)] == [NOW, NOW + 2]
    assert journal.appended == 2


FILL = """
import resource, sys
from pathlib import Path
from zerorouter.errors import StorageFullError
from zerorouter.gateway.ledger import Journal, RequestRow
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
journal = Journal(Path(sys.argv[1]), owner=7)
kept = 0
try:
    for i in range(100):
        journal.append(RequestRow(id=f"{i:032x}", started_ns=i))
        kept += 1
except StorageFullError:
    print(kept)
"""


def test_a_real_limit_of_the_system_loses_nothing_that_was_acknowledged(tmp_path):
    """The kernel itself refuses, in the middle of a line."""
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    found = all_rows(tmp_path)
    assert len(found) == int(done.stdout) > 2
    assert segments(tmp_path)[0].path.read_bytes().endswith(b"\n")


def test_a_full_file_system_loses_nothing_and_recovers(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount a small file system here")
    try:
        (disk / "ballast").write_bytes(bytes(32_000))
        journal = Journal(disk, owner=7)
        kept = fill(journal)
        (disk / "ballast").unlink()
        journal.append(row(kept))
        journal.close()
        assert [f["started_ns"] - NOW for _, f in all_rows(disk)] == list(range(kept + 1))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_beyond_its_limit_the_journal_takes_nothing_more(tmp_path):
    journal = Journal(tmp_path, owner=7, segment_bytes=1_000, max_bytes=3_000)
    assert fill(journal) > 2
    with pytest.raises(StorageFullError, match="database"):
        journal.append(row(99))
    first = segments(tmp_path)[0]
    journal.delete(first)
    journal.append(row(99))
    journal.close()
    with pytest.raises(BooksError, match="closed"):
        journal.append(row(100))


def test_rows_that_cannot_be_written_are_refused(journal):
    with pytest.raises(InputError, match="cannot be written"):
        journal.append(row(0, model="\ud800"))
    with pytest.raises(InputError, match="bytes"):
        journal.append(row(0, prompt="x" * (1 << 20)))
    assert journal.appended == 0


def test_threads_append_whole_lines(journal, tmp_path):
    def work(start):
        for i in range(100):
            journal.append(row(start + i))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = all_rows(tmp_path)
    assert len({fields["id"] for _, fields in found}) == len(found) == 400


APPEND = """
import sys
from pathlib import Path
from zerorouter.gateway.ledger import Journal, RequestRow
journal = Journal(Path(sys.argv[1]), owner=7, segment_bytes=3_000)
for i in range(10**9):
    journal.append(RequestRow(id=f"{i:032x}", started_ns=i))
    print(i, flush=True)
"""


def test_what_was_acknowledged_survives_sigkill(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", APPEND, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(100):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    told = 99 + len(process.stdout.read().split())
    process.wait(60)
    process.stdout.close()
    found = [int(fields["id"], 16) for _, fields in all_rows(tmp_path)]
    assert found == list(range(len(found)))
    assert told + 1 <= len(found) <= told + 2


def test_the_limit_on_file_sizes_is_not_ours():
    """Guards the test above: here nothing limits files, so that it tests what it says."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
