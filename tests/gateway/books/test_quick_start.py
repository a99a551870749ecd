"""What a gateway leaves for later when it starts: the ledger's database."""

from __future__ import annotations

import subprocess
import sys
import time

from zerorouter.gateway.ledger import Ledger, RequestRow, Store, sqlite_url
from zerorouter.gateway.ledger.store import spent_in_file

DAY_NS = 86_400 * 10**9
NOW_NS = 1_795_000_000 * 10**9


def row(n: int, key_id: str | None, cost_nusd: int, days_ago: int) -> RequestRow:
    started_ns = NOW_NS - days_ago * DAY_NS
    return RequestRow(id=f"{n:032x}", started_ns=started_ns, key_id=key_id, cost_nusd=cost_nusd)


def test_spending_read_off_the_file_is_what_the_store_says(tmp_path):
    path = tmp_path / "ledger.db"
    assert spent_in_file(path, now_ns=NOW_NS) == {}
    ledger = Ledger.open(tmp_path, owner=1)
    for n, (key_id, days_ago) in enumerate(
        [("a", 0), ("a", 0), ("a", 31), ("b", 1), (None, 0), ("b", 400)]
    ):
        ledger.append(row(n, key_id, 7 + n, days_ago))
    assert ledger.close()
    store = Store(sqlite_url(path))
    expected = store.spent(now_ns=NOW_NS)
    store.close()
    assert set(expected) == {"a", "b"}
    assert spent_in_file(path, now_ns=NOW_NS) == expected


def test_a_file_that_is_no_ledger_of_this_version_is_left_to_the_store(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"no database at all")
    assert spent_in_file(path, now_ns=NOW_NS) is None
    path.write_bytes(b"")
    assert spent_in_file(path, now_ns=NOW_NS) is None


def test_rows_that_come_before_the_database_is_open_are_stored(tmp_path):
    ledger = Ledger.open(tmp_path, owner=1)
    ledger.append(row(1, "a", 5, 0))
    ledger.flush()
    assert ledger.spent(now_ns=NOW_NS) == ledger.store.spent(now_ns=NOW_NS) != {}
    assert ledger.close()


def test_the_database_is_opened_without_a_row_too(tmp_path):
    ledger = Ledger.open(tmp_path, owner=1)
    until = time.monotonic() + 60
    while spent_in_file(tmp_path / "ledger.db", now_ns=NOW_NS) is None or not (
        (tmp_path / "ledger.db").exists()
    ):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert ledger.close()


def test_opening_the_books_imports_no_sqlalchemy(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from zerorouter.gateway.books import Books\n"
        "books = Books.open(Path(sys.argv[1]), now_ns=time.time_ns())\n"
        "loaded = 'sqlalchemy' in sys.modules\n"
        "books.close()\n"
        "sys.exit(loaded)"
    )
    for _ in range(2):  # without a database, and with what the first one left
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
