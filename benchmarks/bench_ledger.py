"""What keys, budgets and the ledger add to a request, and how fast rows reach the database.

    python benchmarks/bench_ledger.py [--processes N]

One process, one thread unless said otherwise. Each figure is p50 and p99 over single calls, then
CPU time a call; on a shared machine the last is what means something. The SQLite line is the way
not taken (docs/decisions/): reserve and settle as two `BEGIN IMMEDIATE` transactions.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from zerorouter.gateway.accounts import Accounts, new_id
from zerorouter.gateway.books import Books
from zerorouter.gateway.keys import KeySettings, KeyStore, VirtualKey
from zerorouter.gateway.ledger import AttemptRow, Journal, LedgerSettings, RequestRow, Store
from zerorouter.gateway.ledger.journal import read_all, segments
from zerorouter.gateway.workers.merging import merge

ROW = "{:<66} {:>10} {:>10}  {}"


def measure(call: Callable[[], object], n: int = 20_000) -> tuple[float, float, float]:
    """Microseconds of a call: p50, p99, and of this thread's CPU time."""
    for _ in range(n // 20):
        call()
    spans = []
    cpu = time.thread_time_ns()
    for _ in range(n):
        start = time.perf_counter_ns()
        call()
        spans.append(time.perf_counter_ns() - start)
    used = (time.thread_time_ns() - cpu) / n
    spans.sort()
    return spans[n // 2] / 1e3, spans[n * 99 // 100] / 1e3, used / 1e3


def show(label: str, call: Callable[[], object], *, target_us: float | None = None) -> None:
    p50, p99, cpu = measure(call)
    verdict = f"{cpu:.1f} us CPU"
    if target_us is not None:
        verdict += f", target {target_us:g} us: {'ok' if cpu <= target_us else 'MISSED'}"
    print(ROW.format(label, f"{p50:.1f} us", f"{p99:.1f} us", verdict), flush=True)


def a_row(request_id: str, now_ns: int, key_id: str | None = None) -> RequestRow:
    """As long as real ones are."""
    attempt = AttemptRow(
        n=0,
        model="gpt-4o-2024-08-06",
        upstream="openai",
        started_ns=now_ns,
        status=200,
        input_tokens=812,
        output_tokens=211,
        cost_nusd=4_140_000,
        ttft_s=0.41,
        latency_s=2.9,
    )
    return RequestRow(
        id=request_id,
        started_ns=now_ns,
        decision_id=request_id,
        key_id=key_id,
        policy="balanced",
        asked_model="zerorouter/auto",
        model="gpt-4o-2024-08-06",
        upstream="openai",
        status=200,
        input_tokens=812,
        cached_input_tokens=512,
        output_tokens=211,
        reasoning_tokens=0,
        cost_nusd=4_140_000,
        expected_cost_nusd=4_000_000,
        p_correct=0.8123,
        ttft_s=0.41,
        tpot_s=0.0118,
        latency_s=2.9,
        overhead_s=0.0003,
        attempts=(attempt,),
    )


def accounts_and_keys(folder: Path) -> None:
    store = KeyStore(folder)
    now = time.time_ns()
    settings = KeySettings(
        name="bench",
        budget_day_usd=1e6,
        budget_month_usd=1e6,
        requests_per_minute=100_000_000,
        tokens_per_minute=100_000_000,
    )
    text, key = store.make(settings, now_ns=now)
    show("authenticate a key", lambda: store.authenticate(text, mono_ns=time.monotonic_ns()))
    accounts = Accounts(folder, owner=1)

    def both() -> None:
        now = time.time_ns()
        held = accounts.reserve(
            key,
            request_id=new_id(now),
            worst_nusd=1000,
            tokens=10,
            now_ns=now,
            mono_ns=time.monotonic_ns(),
        )
        accounts.settle(held, cost_nusd=500, tokens=9)

    show("reserve + settle (2 budgets, 2 limits)", both, target_us=100)
    show(
        "book the cost of a key without bounds",
        lambda: accounts.book(key.id, started_ns=time.time_ns(), cost_nusd=5),
    )
    accounts.close()


def metrics_of_workers(n: int) -> None:
    """What the supervisor does when metrics are asked for; no request waits for it."""
    series = "".join(f'm_bucket{{model="model-{i}",le="{i}"}} {i}.0\n' for i in range(1_000))
    text = "# TYPE m histogram\n" + series
    p50, _, cpu = measure(lambda: merge([text] * n), n=40)
    print(
        ROW.format(
            f"merge the metrics of {n} workers, 1,000 samples each",
            f"{p50 / 1e3:.1f} ms",
            "",
            f"{cpu / 1e3:.1f} ms CPU",
        ),
        flush=True,
    )


def the_way_not_taken(folder: Path) -> None:
    connection = sqlite3.connect(folder / "way.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE accounts (k TEXT PRIMARY KEY, spent INT, reserved INT)")
    connection.execute("INSERT INTO accounts VALUES ('k', 0, 0)")

    def both() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT spent, reserved FROM accounts WHERE k = 'k'").fetchone()
        connection.execute("UPDATE accounts SET reserved = reserved + 1 WHERE k = 'k'")
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE accounts SET reserved = reserved - 1, spent = spent + 1")
        connection.execute("COMMIT")

    show("  the same in SQLite, one budget and no limits", both)
    connection.close()


def journal_and_store(folder: Path, n: int = 20_000) -> None:
    journal = Journal(folder / "journal", owner=1)
    now = time.time_ns()
    row = a_row(new_id(now), now)
    show("append a row with an attempt to the journal", lambda: journal.append(row), target_us=30)
    show("make such a row", lambda: a_row("0" * 32, now))
    journal.close()
    for segment in segments(folder / "journal"):
        segment.path.unlink()
    journal = Journal(folder / "journal", owner=2)
    for i in range(n):
        journal.append(a_row(new_id(now + i), now + i))
    journal.close()
    store = Store(f"sqlite:///{folder / 'ledger.db'}")
    for label in ("store", "store again, all duplicates"):
        start, cpu = time.perf_counter(), time.process_time()
        for segment in segments(folder / "journal"):
            for part in read_all(segment):
                store.write(part.rows)
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        print(
            ROW.format(
                f"{label}: {n:,} requests, journal to SQLite",
                f"{n / wall:,.0f}/s",
                f"{used / n * 1e6:.1f} us",
                "(wall, then CPU a request)",
            ),
            flush=True,
        )
    store.close()


def whole(folder: Path) -> None:
    now = time.time_ns()
    books = Books.open(folder / "books", now_ns=now, settings=LedgerSettings())
    key = VirtualKey(id="0123456789ab", name="k", hash="", budget_day_nusd=10**17)

    def request() -> None:
        now = time.time_ns()
        held = books.admit(
            key,
            request_id=new_id(now),
            worst_nusd=10**7,
            tokens=10,
            now_ns=now,
            mono_ns=time.monotonic_ns(),
        )
        assert held is not None
        books.finish(held, a_row(held.request_id, now, key.id))

    show("admit + finish, the ledger's thread storing beside", request)
    books.close()


WORKER = """
import sys, time
from pathlib import Path
from zerorouter.gateway.accounts import Accounts, new_id
from zerorouter.gateway.keys import VirtualKey
key = VirtualKey(id="0123456789ab", name="k", hash="", budget_day_nusd=10**17)
accounts = Accounts(Path(sys.argv[1]), owner=int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for _ in range(20_000):
    now = time.time_ns()
    held = accounts.reserve(key, request_id=new_id(now), worst_nusd=9, now_ns=now, mono_ns=0)
    accounts.settle(held, cost_nusd=5)
print(time.perf_counter() - start)
"""


def together(folder: Path, n: int) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder / "together"), str(i + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    spans = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        assert process.stdout is not None
        spans.append(float(process.stdout.read()))
        process.wait()
    mean = sum(spans) / len(spans) / 20_000 * 1e6
    print(
        ROW.format(
            f"reserve + settle, {n} processes on one key at once", f"{mean:.1f} us", "", "(mean)"
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(ROW.format("", "p50", "p99", ""))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        accounts_and_keys(folder)
        the_way_not_taken(folder)
        journal_and_store(folder)
        whole(folder)
        together(folder, options.processes)
    metrics_of_workers(options.processes)


if __name__ == "__main__":
    main()
