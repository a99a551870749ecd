from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.books.conftest import NOW
from zerorouter.errors import BooksError, BudgetError, StorageFullError
from zerorouter.gateway import books as books_module
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.books import Books
from zerorouter.gateway.budgets import DAY_NS
from zerorouter.gateway.counters import Counters
from zerorouter.gateway.ledger import AdminRow, LedgerSettings, RequestRow
from zerorouter.gateway.ledger.journal import segments


def opened(folder: Path, url: str | None = None, *, now: int = NOW) -> Books:
    settings = LedgerSettings(url=url, store_every_s=3600.0, segment_bytes=20_000)
    return Books.open(folder, now_ns=now, settings=settings)


def admit(books, key, worst, *, now=NOW):
    return books.admit(
        key, request_id=new_id(now), worst_nusd=worst, tokens=5, now_ns=now, mono_ns=0
    )


def row(held, cost, **fields):
    return RequestRow(
        id=held.request_id,
        started_ns=held.started_ns,
        key_id=held.key.id,
        cost_nusd=cost,
        **fields,
    )


def day_spent(books, key_id, *, now=NOW):
    usage = books.accounts.usage(key_id, now_ns=now)
    return usage.day_spent_nusd, usage.day_reserved_nusd


def ledger_sum(books):
    books.ledger.flush()
    return sum(r["cost_nusd"] or 0 for part in books.ledger.store.rows("requests") for r in part)


def test_a_request_is_admitted_kept_and_settled(tmp_path, make):
    books = opened(tmp_path)
    key = make(budget_day_usd=1e-6)
    held = admit(books, key, 600)
    assert books.finish(held, row(held, 250)) == 0
    assert day_spent(books, key.id) == (250, 0) == (ledger_sum(books), 0)
    books.close()


def test_books_opened_again_remember_what_was_spent(tmp_path, make, url):
    key = make(budget_day_usd=1e-6)
    for _ in range(2):
        books = opened(tmp_path / "books", url)
        held = admit(books, key, 500)
        books.finish(held, row(held, 500))
        books.close()
    (tmp_path / "books" / "counters").unlink()  # it is no archive
    books = opened(tmp_path / "books", url)
    assert day_spent(books, key.id) == (1000, 0)
    with pytest.raises(BudgetError):
        admit(books, key, 1)
    assert list((tmp_path / "books").glob("*.owner")) != []
    books.close()
    assert list((tmp_path / "books").glob("*.owner")) == []

    books = opened(tmp_path)
    key = make(budget_day_usd=1.0)
    held, other = admit(books, key, 1), admit(books, key, 1)
    with pytest.raises(BooksError, match="does not belong"):
        books.finish(held, row(other, 1))
    books.close()


def test_a_key_without_bounds_reserves_nothing_and_its_costs_are_known_all_the_same(tmp_path, make):
    books = opened(tmp_path)
    key = make()
    assert admit(books, key, None) is None
    row = RequestRow(id=new_id(NOW), started_ns=NOW, key_id=key.id, cost_nusd=70)
    assert books.finish(None, row) == 0
    books.finish(None, RequestRow(id=new_id(NOW), started_ns=NOW))  # nobody's
    assert day_spent(books, key.id) == (70, 0) == (ledger_sum(books), 0)
    bounded = replace(key, budget_day_nusd=100)  # as its owner may decide any time
    with pytest.raises(BudgetError):
        admit(books, bounded, 31)
    admit(books, bounded, 30)
    books.close()


def test_accounts_of_another_version_are_made_anew(tmp_path, make):
    books = opened(tmp_path)
    held = admit(books, key := make(budget_day_usd=1.0), 40)
    books.finish(held, row(held, 30))
    books.close()
    with (tmp_path / "counters").open("r+b") as file:
        file.seek(7)
        file.write(b"\x01")
    with pytest.raises(BooksError, match="another version"):
        Counters(tmp_path)
    after = opened(tmp_path)
    assert day_spent(after, key.id) == (30, 0)
    after.close()


def test_without_room_for_the_row_nothing_begins(tmp_path, make):
    settings = LedgerSettings(store_every_s=3600.0, min_free_bytes=1 << 60)
    books = Books.open(tmp_path, now_ns=NOW, settings=settings)
    books.ledger._check_space()
    with pytest.raises(StorageFullError):
        admit(books, make(), 1)
    books.close()


def test_rows_are_pruned_by_the_clock_given(tmp_path):
    settings = LedgerSettings(store_every_s=3600.0, retention_days=2)
    books = Books.open(tmp_path, now_ns=NOW, settings=settings)
    for day in range(4):
        books.keep(AdminRow(id=new_id(NOW), at_ns=NOW + day * DAY_NS, action="x"))
    books.ledger.flush()
    assert books.prune(now_ns=NOW + 3 * DAY_NS) == 2
    books.close()


def test_nothing_is_pruned_while_the_wall_clock_stands_elsewhere_than_at_the_start(
    tmp_path, monkeypatch
):
    class Clock:
        ahead_ns = 0
        monotonic_ns = staticmethod(time.monotonic_ns)

        @classmethod
        def time_ns(cls):
            return NOW + time.monotonic_ns() + cls.ahead_ns

    monkeypatch.setattr(books_module, "time", Clock)
    monkeypatch.setattr(books_module, "RECOVER_EVERY_S", 0.01)
    monkeypatch.setattr(books_module, "_PRUNE_EVERY", 1)
    settings = LedgerSettings(store_every_s=0.01, retention_days=2)
    books = Books.open(tmp_path, now_ns=Clock.time_ns(), settings=settings)
    pruned = []
    books.prune = lambda *, now_ns: pruned.append(now_ns)
    Clock.ahead_ns = 100 * DAY_NS
    time.sleep(0.1)  # what was on its way
    pruned.clear()
    looked = []
    books.recover = lambda: looked.append(1)
    until(lambda: len(looked) > 20)
    assert pruned == []
    Clock.ahead_ns = 0
    until(lambda: pruned)
    books.close()


def until(condition, at_most_s=60):
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


WORKER = """
import sys, time
from pathlib import Path
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.books import Books
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.ledger import LedgerSettings, RequestRow
NOW = @NOW
key = VirtualKey(id="abcabcabcabc", name="k", hash="", budget_day_nusd=10**15)
books = Books.open(Path(sys.argv[1]), now_ns=NOW, settings=LedgerSettings(
    url=sys.argv[2], store_every_s=0.005, segment_bytes=5_000))
print("ready", flush=True)
while True:
    held = books.admit(key, request_id=new_id(NOW), worst_nusd=1000, now_ns=NOW, mono_ns=0)
    books.finish(held, RequestRow(id=held.request_id, started_ns=NOW, key_id=key.id, cost_nusd=7))
    print(held.request_id, flush=True)
""".replace("@NOW", str(NOW))


def start(folder: Path, url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str], after: int) -> list[str]:
    """Kill it once so many requests were acknowledged; all the ids that it told."""
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().split()  # communicate() would leave out what is buffered
    process.wait(60)
    process.stdout.close()
    return [name for name in told if len(name) == 32]


def test_gateways_killed_while_they_write_lose_nothing_and_count_nothing_twice(tmp_path, url):
    folder = tmp_path / "books"
    acknowledged: list[str] = []
    for after in (1, 40, 150):
        both = [start(folder, url), start(folder, url)]
        for process in both:
            acknowledged += kill(process, after)
    books = opened(folder, url)
    books.ledger.flush()
    rows = {r["id"]: r for part in books.ledger.store.rows("requests") for r in part}
    assert set(acknowledged) <= rows.keys()
    assert len(set(acknowledged)) == len(acknowledged) >= 2 * (1 + 40 + 150)
    # At most one more of each that was killed, written or open but not told any more.
    assert len(rows) <= len(acknowledged) + 6
    assert {r["cost_nusd"] for r in rows.values() if r["outcome"] == "ok"} == {7}
    assert {r["cost_nusd"] for r in rows.values() if r["outcome"] == "lost"} <= {1000}
    assert day_spent(books, "abcabcabcabc") == (ledger_sum(books), 0)
    daily = [r for part in books.ledger.store.rows("daily") for r in part]
    assert sum(r["cost_nusd"] for r in daily) == ledger_sum(books)
    books.close()
    assert segments(folder / "journal") == []


OPEN_ONE = """
import sys
from pathlib import Path
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.books import Books
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.ledger import LedgerSettings, RequestRow
NOW = @NOW
key = VirtualKey(id="abcabcabcabc", name="k", hash="", budget_day_nusd=10**15)
books = Books.open(Path(sys.argv[1]), now_ns=NOW, settings=LedgerSettings(store_every_s=3600))
for cost in (None, 30):
    held = books.admit(key, request_id=new_id(NOW), worst_nusd=1000, now_ns=NOW, mono_ns=0)
    if cost is not None:  # the row is kept, and death comes before the settlement
        books.keep(RequestRow(id=held.request_id, started_ns=NOW, key_id=key.id, cost_nusd=cost))
print("ready", flush=True)
sys.stdin.readline()
""".replace("@NOW", str(NOW))


@pytest.mark.parametrize("others_alive", [False, True])
def test_open_reservations_are_settled_at_their_rows_and_otherwise_count_in_full(
    tmp_path, others_alive
):
    alive = opened(tmp_path) if others_alive else None
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN_ONE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    if alive is not None:
        assert day_spent(alive, "abcabcabcabc") == (0, 2000)
        assert alive.recover().lost == 0  # it lives
    process.kill()
    process.communicate()
    books = alive or opened(tmp_path)
    found = books.recover() if alive else books.recovered
    assert (found.settled, found.lost) == (1, 1)
    assert day_spent(books, "abcabcabcabc") == (1030, 0)
    assert ledger_sum(books) == 1030
    outcomes = {r["outcome"] for part in books.ledger.store.rows("requests") for r in part}
    assert outcomes == {"ok", "lost"}
    assert books.recover().lost == 0
    books.close()


def test_a_process_that_leaves_with_requests_under_way_leaves_them_to_the_next(tmp_path, make):
    books = opened(tmp_path)
    key = make(budget_day_usd=1.0)
    admit(books, key, 40)
    books.close()
    after = opened(tmp_path)
    assert after.recovered.lost == 1
    assert day_spent(after, key.id) == (40, 0)
    after.close()


def test_a_database_that_is_away_leaves_the_journal_to_the_next_start(tmp_path, make, monkeypatch):
    books = opened(tmp_path)
    held = admit(books, key := make(budget_day_usd=1.0), 40)
    books.finish(held, row(held, 30))

    def away(_batch):
        raise BooksError("away")

    monkeypatch.setattr(books.ledger.store, "write", away)
    books.close()
    after = opened(tmp_path)
    assert after.recovered.segments == 1
    assert day_spent(after, key.id) == (30, 0) == (ledger_sum(after), 0)
    after.close()


def test_after_a_restart_of_the_machine_the_accounts_are_made_anew(tmp_path, make, monkeypatch):
    from zerorouter.gateway import counters

    books = opened(tmp_path)
    key = make(budget_day_usd=1.0)
    held = admit(books, key, 40)
    books.finish(held, row(held, 30))
    books.close()
    with (tmp_path / "counters").open("r+b") as file:  # pages of different ages
        file.seek(512)
        file.write(b"\x01" + bytes([255]) * 100)
        file.seek(64)
        file.write(b"\xff" * 16)
    monkeypatch.setattr(counters, "_boot_id", lambda: b"another boot ...")
    after = opened(tmp_path)
    assert day_spent(after, key.id) == (30, 0)
    admit(after, key, 1)
    after.close()
