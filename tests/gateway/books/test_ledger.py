from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.books.conftest import NOW
from zerorouter.errors import BooksError, InputError, StorageFullError
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.budgets import DAY_NS
from zerorouter.gateway.ledger import (
    AdminRow,
    AttemptRow,
    FeedbackRow,
    Ledger,
    LedgerSettings,
    RequestRow,
    Store,
    export,
)
from zerorouter.gateway.ledger.journal import segments

QUIET = 3600.0  # the thread waits so long: tests store when they say so


def a_request(i: int = 0, *, now: int = NOW, **fields: object) -> RequestRow:
    usual: dict[str, object] = {
        "key_id": "abc",
        "policy": "cost",
        "model": "m1",
        "asked_model": "zerorouter/auto",
        "status": 200,
        "input_tokens": 100,
        "cached_input_tokens": 40,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "cost_nusd": 1000 + i,
        "expected_cost_nusd": 900,
        "baseline_cost_nusd": 5000,
        "p_correct": 0.75,
        "ttft_s": 0.5,
        "tpot_s": 0.01,
        "latency_s": 1.5,
        "attempts": (
            AttemptRow(n=0, model="m0", upstream="u", started_ns=now, outcome="timeout"),
            AttemptRow(n=1, model="m1", upstream="u", started_ns=now, status=200, cost_nusd=1000),
        ),
    }
    return RequestRow(id=new_id(now), started_ns=now + i, **{**usual, **fields})  # type: ignore[arg-type]


def every(store: Store, table: str, **limits: str) -> list[dict[str, object]]:
    return [row for part in store.rows(table, **limits) for row in part]


@pytest.fixture
def open_ledger(tmp_path: Path, url: str):
    opened = []

    def open_it(owner: int = 7, **settings: object) -> Ledger:
        chosen = LedgerSettings(**{"url": url, "store_every_s": QUIET, **settings})  # type: ignore[arg-type]
        opened.append(Ledger.open(tmp_path, owner=owner, settings=chosen))
        return opened[-1]

    yield open_it
    for ledger in opened:
        ledger.close()


class TestBothDatabases:
    """The same tests on SQLite and on a real Postgres."""

    def test_a_row_comes_back_as_it_was_given(self, open_ledger):
        ledger = open_ledger()
        row = a_request(decision_id="d1", stream=True, session="s", error="x\0y")
        ledger.append(row)
        ledger.flush()
        (found,) = every(ledger.store, "requests")
        for name in RequestRow.__dataclass_fields__:
            if name not in ("attempts", "error"):
                assert found[name] == getattr(row, name), name
        assert found["error"] == "x�y"
        assert found["day"] == "2026-11-18"
        attempts = every(ledger.store, "attempts")
        assert [(a["request_id"], a["n"], a["outcome"]) for a in attempts] == [
            (row.id, 0, "timeout"),
            (row.id, 1, "ok"),
        ]
        assert ledger.store.request(decision_id="d1") == found
        assert ledger.store.request(request_id=row.id) == found
        assert ledger.store.request(request_id="0" * 32) is None

    def test_feedback_and_admin_actions_are_kept(self, open_ledger):
        ledger = open_ledger()
        ledger.append(FeedbackRow(id=new_id(NOW), received_ns=NOW, decision_id="d", score=0.5))
        ledger.append(AdminRow(id=new_id(NOW), at_ns=NOW, action="keys.make", target="k"))
        ledger.flush()
        assert every(ledger.store, "feedback")[0]["score"] == 0.5
        assert every(ledger.store, "admin")[0]["action"] == "keys.make"

    def test_prompts_are_kept_only_where_that_is_switched_on(self, open_ledger, tmp_path):
        ledger = open_ledger()
        ledger.append(a_request(prompt="my secret"))
        ledger.flush()
        assert every(ledger.store, "requests")[0]["prompt"] is None
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(b"my secret" in path.read_bytes() for path in files)
        ledger.close()
        keeping = open_ledger(owner=8, store_prompts=True)
        keeping.append(a_request(prompt="my secret"))
        keeping.flush()
        assert sorted(str(r["prompt"]) for r in every(keeping.store, "requests")) == [
            "None",
            "my secret",
        ]

    def test_a_batch_given_again_counts_once(self, open_ledger):
        ledger = open_ledger()
        rows = [a_request(i) for i in range(30)]
        batch = [("request", fields(row)) for row in rows]
        assert ledger.store.write(batch[:20]).new == 20
        again = ledger.store.write(batch)  # the first answer got lost, say
        assert (again.new, again.duplicates) == (10, 20)
        twice = ledger.store.write(batch + batch[:5])
        assert (twice.new, twice.duplicates) == (0, 35)
        (day,) = every(ledger.store, "daily")
        assert day["requests"] == 30
        assert day["cost_nusd"] == sum(row.cost_nusd or 0 for row in rows)

    def test_daily_sums_are_those_of_the_rows(self, open_ledger):
        ledger = open_ledger()
        for i in range(60):
            ledger.append(
                a_request(
                    i,
                    now=NOW + (i % 3) * DAY_NS,
                    model=("a", "b", None)[i % 2 + (i % 5 == 0)],
                    cost_nusd=None if i % 7 == 0 else i,
                    outcome="ok" if i % 4 else "timeout",
                )
            )
            if i % 25 == 0:
                ledger.flush()
        ledger.flush()
        rows, days = every(ledger.store, "requests"), every(ledger.store, "daily")
        assert sum(d["requests"] for d in days) == len(rows) == 60
        for day in days:
            mine = [
                r for r in rows if r["day"] == day["day"] and (r["model"] or "") == day["model"]
            ]
            assert day["requests"] == len(mine)
            assert day["attempts"] == 2 * len(mine)
            assert day["failures"] == sum(r["outcome"] != "ok" for r in mine)
            assert day["cost_nusd"] == sum(r["cost_nusd"] or 0 for r in mine)
            assert day["unpriced"] == sum(r["cost_nusd"] is None for r in mine)
            assert day["reasoning_tokens"] == 5 * len(mine)
            assert day["p_correct_sum"] == pytest.approx(0.75 * len(mine))
            assert day["ttft_n"] == len(mine)

    def test_retention_deletes_rows_and_keeps_the_sums(self, open_ledger):
        ledger = open_ledger()
        for i in range(10):
            ledger.append(a_request(now=NOW + i * DAY_NS))
        ledger.flush()
        before = every(ledger.store, "daily")
        assert ledger.store.prune("2026-11-23") == 5 * 3
        assert {r["day"] for r in every(ledger.store, "requests")} == {
            f"2026-11-{day}" for day in range(23, 28)
        }
        assert len(every(ledger.store, "attempts")) == 10
        assert every(ledger.store, "daily") == before
        with pytest.raises(InputError, match="no date"):
            ledger.store.prune("yesterday")

    def test_a_row_that_no_database_takes_is_set_aside_and_stops_nobody(
        self, open_ledger, tmp_path
    ):
        ledger = open_ledger()
        ledger.append(a_request(0))
        ledger.append(a_request(1, input_tokens=2**63))
        ledger.append(a_request(2, status="many"))
        ledger.append(a_request(3))
        ledger.flush()
        kept = every(ledger.store, "requests")
        left_out = {"many"} & {r["status"] for r in kept}  # SQLite keeps a text in a number's place
        assert len(kept) == 2 + len(left_out)
        aside = (tmp_path / "journal" / "rejected.jsonl").read_text().splitlines()
        assert len(aside) == ledger.state.rejected == 4 - len(kept)
        assert json.loads(aside[0])["row"]["input_tokens"] == 2**63
        assert sum(d["requests"] for d in every(ledger.store, "daily")) == len(kept)

    def test_two_writers_at_once_add_up(self, open_ledger):
        ledgers = [open_ledger(owner=1), open_ledger(owner=2)]

        def work(ledger: Ledger) -> None:
            for i in range(40):
                ledger.append(a_request(i, model=f"m{i % 3}"))
                if i % 4 == 0:
                    ledger.flush()
            ledger.flush()

        threads = [threading.Thread(target=work, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(every(ledgers[0].store, "requests")) == 80
        assert sum(d["requests"] for d in every(ledgers[0].store, "daily")) == 80

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.lists(st.integers(0, 25), max_size=20), max_size=5))
    def test_the_sum_is_that_of_distinct_rows_however_they_are_given(self, open_ledger, batches):
        store = open_ledger(owner=new_owner()).store
        before = sum(d["cost_nusd"] for d in every(store, "daily"))
        rows = [fields(a_request(cost_nusd=3**i)) for i in range(26)]
        for batch in batches:
            store.write([("request", rows[i]) for i in batch])
        added = sum(d["cost_nusd"] for d in every(store, "daily")) - before
        assert added == sum(3**i for i in set().union(*batches))

    def test_spent_by_key_and_day_spans_the_months_that_matter(self, open_ledger):
        ledger = open_ledger()
        for days, key in ((0, "abc"), (0, "abc"), (-20, "abc"), (-60, "abc"), (0, None), (1, "x")):
            ledger.append(a_request(now=NOW + days * DAY_NS, key_id=key, cost_nusd=7))
        ledger.flush()
        day = NOW // DAY_NS
        assert ledger.store.spent(now_ns=NOW) == {
            "abc": {day: 14, day - 20: 7},
            "x": {day + 1: 7},
        }

    @pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
    def test_an_export_holds_every_row_with_dollars(self, open_ledger, tmp_path, ending):
        ledger = open_ledger()
        for i in range(5):
            at = NOW + i * 1_000_000  # rows stand in the order of their milliseconds
            ledger.append(a_request(now=at, cost_nusd=1_500_000_000 if i else None))
        ledger.flush()
        path = tmp_path / f"out.{ending}"
        assert export(ledger.store, path) == 5
        rows = load(path)
        assert [row["cost_usd"] for row in rows] in (
            [None, 1.5, 1.5, 1.5, 1.5],
            ["", "1.5", "1.5", "1.5", "1.5"],
        )
        assert [row["id"] for row in rows] == [r["id"] for r in every(ledger.store, "requests")]
        assert export(ledger.store, path, table="attempts", since="2026-11-19") == 0
        assert load(path) == []
        for table in ("feedback", "admin", "daily"):
            export(ledger.store, path, table=table)


def fields(row: RequestRow) -> dict[str, object]:
    import orjson

    found: dict[str, object] = orjson.loads(orjson.dumps(row))
    return found


def new_owner() -> int:
    import secrets

    return secrets.randbits(60)


def load(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            rows: list[dict[str, object]] = file.read().to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- SQLite alone: faults ------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path):
    settings = LedgerSettings(store_every_s=QUIET, segment_bytes=3_000)
    opened = Ledger.open(tmp_path, owner=7, settings=settings)
    yield opened
    opened.close()


def test_an_export_is_whole_or_not_at_all(ledger, tmp_path, monkeypatch):
    for i in range(3):
        ledger.append(a_request(i))
    ledger.flush()
    path = tmp_path / "out.jsonl"
    path.write_text("before\n")

    def broken(name, **_limits):
        yield [dict(r) for r in every(Store(f"sqlite:///{tmp_path / 'ledger.db'}"), name)]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.store, "rows", broken)
    with pytest.raises(StorageFullError):
        export(ledger.store, path)
    assert path.read_text() == "before\n"
    assert not list(tmp_path.glob(".out*"))
    with pytest.raises(InputError, match=r"\.parquet, \.csv and \.jsonl"):
        export(ledger.store, tmp_path / "out.xlsx")


def test_a_database_that_does_not_answer_loses_nothing(ledger, tmp_path, monkeypatch):
    told = []
    ledger._on_event = lambda name, n: told.append((name, n))
    genuine = ledger.store.write

    def away(_batch):
        raise BooksError("away")

    monkeypatch.setattr(ledger.store, "write", away)
    for i in range(30):
        ledger.append(a_request(i))
    with pytest.raises(BooksError):
        ledger.flush()
    assert len(segments(tmp_path / "journal")) > 3
    monkeypatch.setattr(ledger.store, "write", genuine)
    ledger.flush()
    assert len(every(ledger.store, "requests")) == ledger.state.stored == 30
    # All that is stored is deleted but the segment that is being written.
    assert len(segments(tmp_path / "journal")) == 1


def test_a_full_disk_under_the_database_keeps_the_rows_in_the_journal(ledger):
    """SQLite's own limit on pages makes it say what it says on a full disk."""
    from sqlalchemy import event

    def small(raw, *_):
        raw.execute("PRAGMA max_page_count = 1")

    engine = ledger.store._engine
    event.listen(engine, "checkout", small)
    for i in range(200):
        ledger.append(a_request(i, error="x" * 500))
    with pytest.raises(StorageFullError, match="full"):
        ledger.flush()
    event.remove(engine, "checkout", small)
    engine.dispose()
    ledger.flush()
    assert len(every(ledger.store, "requests")) == 200
    assert sum(d["requests"] for d in every(ledger.store, "daily")) == 200


def test_a_row_that_could_not_be_kept_stops_new_requests_until_there_is_room(ledger, monkeypatch):
    told = []
    ledger._on_event = lambda name, n: told.append((name, n))
    ledger.check()

    def full(_line):
        raise StorageFullError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.journal, "_write", full)
        with pytest.raises(StorageFullError):
            ledger.append(a_request())
    with pytest.raises(StorageFullError, match="no room"):
        ledger.check()
    assert told == [("journal_error", 1)]
    assert ledger.state.error == "no room"
    ledger._check_space()
    ledger.check()


def test_a_disk_that_is_nearly_full_stops_new_requests(tmp_path):
    settings = LedgerSettings(store_every_s=QUIET, min_free_bytes=1 << 60)
    ledger = Ledger.open(tmp_path, owner=7, settings=settings)
    ledger._check_space()
    with pytest.raises(StorageFullError, match="free some space"):
        ledger.check()
    ledger.append(a_request())  # what is under way is still kept
    ledger.close()


def test_the_thread_stores_by_itself(tmp_path):
    ledger = Ledger.open(tmp_path, owner=7, settings=LedgerSettings(store_every_s=0.01))
    ledger.append(a_request())
    done = threading.Event()
    for _ in range(1000):
        if ledger.state.stored == 1 or done.wait(0.02):
            break
    assert ledger.state.stored == 1
    assert ledger.close()
    assert segments(tmp_path / "journal") == []


def test_a_damaged_line_is_told_and_kept_aside(ledger, tmp_path):
    ledger.append(a_request())
    ledger.append(a_request())
    path = segments(tmp_path / "journal")[0].path
    path.write_bytes(path.read_bytes().replace(b"m1", b"m2", 1))
    ledger.flush()
    assert ledger.state.damaged == 1
    assert "m2" in (tmp_path / "journal" / "rejected.jsonl").read_text()
    assert len(every(ledger.store, "requests")) == 1


def test_a_database_of_a_later_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    store = Store(url)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE zr_meta SET value = '99'")
    store.close()
    with pytest.raises(BooksError, match="upgrade"):
        Store(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://h/d", "sqlite and postgresql"),
        ("sqlite://", "no file"),
    ],
)
def test_urls_that_lead_nowhere_are_refused(url, said):
    with pytest.raises(BooksError, match=said):
        Store(url)


def test_a_password_is_never_shown():
    with pytest.raises(BooksError) as caught:
        Store("postgresql://me:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(caught.value)


def test_the_database_is_readable_by_its_owner_alone(ledger, tmp_path):
    assert ledger.store.dialect == "sqlite"  # open now
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0
