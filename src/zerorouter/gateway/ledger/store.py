"""The ledger's database: SQLite by default, Postgres by URL, through SQLAlchemy Core.

Calls block: they belong in a thread. Rows are added in batches, each in one transaction with the
daily sums it changes; a row whose id is there already is left out, sums included, so that a batch
may be given again after a crash or a lost connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zerorouter.errors import BooksError, InputError, StorageFullError, require_extra
from zerorouter.gateway.budgets import day_from_text, day_of, day_text, month_of
from zerorouter.gateway.ledger.rows import MAX_TEXT
from zerorouter.gateway.ledger.tables import COUNTED, GROUP, SCHEMA_VERSION, SUMS, Tables, tables

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

EXPORTS: Final = ("requests", "attempts", "feedback", "admin", "daily")
_TIMES: Final = {"request": "started_ns", "feedback": "received_ns", "admin": "at_ns"}
_READ_ROWS: Final = 2_000
_IDS_PER_QUERY: Final = 500
_PRUNED_AT_ONCE: Final = 5_000
_POSTGRES_LOCK: Final = 0x7A65726F  # "zero", for creating the tables once


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What became of a batch.

    Attributes:
        new: Rows that were added.
        duplicates: Rows that were there already.
        rejected: Rows that no database takes, and why.
    """

    new: int
    duplicates: int
    rejected: list[tuple[str, dict[str, Any], str]]


class Store:
    """An open database with the ledger's tables.

    Args:
        url: ``sqlite:////path/to/ledger.db`` or ``postgresql://user@host/name``.

    Raises:
        MissingExtraError: SQLAlchemy or the driver is not installed.
        BooksError: the database cannot be opened, or a later version made its tables.
    """

    def __init__(self, url: str) -> None:
        require_extra("sqlalchemy", "gateway", "the ledger")
        self._engine = _engine(url)
        self._tables: Tables = tables()
        with _translated(self._engine):
            self._make_tables()

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return str(self._engine.dialect.name)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # -- writing ---------------------------------------------------------------------------------

    def write(self, batch: Sequence[tuple[str, Mapping[str, Any]]]) -> Stored:
        """Add rows (kind and fields); all are safe on disk when this returns.

        Raises:
            StorageFullError: the database's disk is full; nothing was added.
            BooksError: the database does not answer; the batch may be given again.
        """
        prepared, rejected = self._prepare(batch)
        with _translated(self._engine):
            try:
                new = self._add(prepared)
            except _unfit_rows() as error:
                if _is_outage(error):
                    raise
                new = self._add_one_by_one(prepared, rejected)
        return Stored(new=new, duplicates=len(batch) - new - len(rejected), rejected=rejected)

    def _prepare(
        self, batch: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> tuple[dict[tuple[str, str], dict[str, Any]], list[tuple[str, dict[str, Any], str]]]:
        prepared: dict[tuple[str, str], dict[str, Any]] = {}
        rejected = []
        for kind, fields in batch:
            try:
                row = dict(fields)
                row["day"] = day_text(day_of(row[_TIMES[kind]]))
                prepared.setdefault((kind, row["id"]), row)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                rejected.append((kind, dict(fields), f"{type(error).__name__}: {error}"))
        return prepared, rejected

    def _add(self, rows: Mapping[tuple[str, str], dict[str, Any]]) -> int:
        """One transaction. Rows are taken for new, which they nearly always are."""
        from sqlalchemy.exc import IntegrityError

        if not rows:
            return 0
        try:
            with self._engine.begin() as connection:
                self._insert(connection, rows)
            return len(rows)
        except IntegrityError:
            with self._engine.begin() as connection:
                there = self._already_there(connection, rows)
                fresh = {key: row for key, row in rows.items() if key not in there}
                self._insert(connection, fresh)
            return len(fresh)

    def _add_one_by_one(
        self,
        rows: Mapping[tuple[str, str], dict[str, Any]],
        rejected: list[tuple[str, dict[str, Any], str]],
    ) -> int:
        """The slow way, for a batch with a row that does not fit."""
        new = 0
        for (kind, name), row in rows.items():
            try:
                new += self._add({(kind, name): row})
            except _unfit_rows() as error:
                if _is_outage(error):
                    raise
                rejected.append((kind, row, f"{type(error).__name__}: {str(error)[:MAX_TEXT]}"))
        return new

    def _insert(
        self, connection: Connection, rows: Mapping[tuple[str, str], dict[str, Any]]
    ) -> None:
        t = self._tables
        requests = [row for (kind, _), row in rows.items() if kind == "request"]
        attempts = [
            {**attempt, "request_id": row["id"], "day": row["day"]}
            for row in requests
            for attempt in row.get("attempts", ())
        ]
        for table, found in (
            (t.requests, requests),
            (t.attempts, attempts),
            (t.feedback, [row for (kind, _), row in rows.items() if kind == "feedback"]),
            (t.admin, [row for (kind, _), row in rows.items() if kind == "admin"]),
        ):
            if found:
                self._insert_into(connection, table, found)
        if requests:
            self._add_to_daily(connection, requests)

    def _insert_into(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        if self.dialect != "sqlite":
            connection.execute(table.insert(), _fitted(table, rows))
            return
        # A gateway's rows are stored on the core that serves: what SQLAlchemy does to each row's
        # parameters would cost twice what SQLite does.
        statement = str(table.insert().compile(self._engine))
        booleans = [i for i, c in enumerate(table.columns) if c.type.python_type is bool]
        names = [column.name for column in table.columns]
        whole = itemgetter(*names)
        found = []
        for row in rows:
            try:
                values = whole(row)
            except KeyError:  # of an older version's journal
                values = tuple([row.get(name) for name in names])
            for value in values:
                if type(value) is str and "\0" in value:
                    values = tuple([_clean(one) for one in values])
                    break
            for at in booleans:
                if values[at] not in (None, True, False):
                    raise TypeError(f"{table.name}: a flag that is neither true nor false")
            found.append(values)
        connection.exec_driver_sql(statement, found)

    def _already_there(
        self, connection: Connection, rows: Iterable[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        from sqlalchemy import select

        by_kind: dict[str, list[str]] = {}
        for kind, name in rows:
            by_kind.setdefault(kind, []).append(name)
        there: set[tuple[str, str]] = set()
        t = self._tables
        named = {"request": t.requests, "feedback": t.feedback, "admin": t.admin}
        for kind, ids in by_kind.items():
            table = named[kind]
            for part in _parts(ids):
                found = connection.execute(select(table.c.id).where(table.c.id.in_(part)))
                there.update((kind, str(name)) for (name,) in found)
        return there

    def _add_to_daily(self, connection: Connection, requests: Sequence[Mapping[str, Any]]) -> None:
        groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in requests:
            group = tuple([_clean(str(row.get(name) or "")) for name in GROUP])
            groups.setdefault(group, []).append(row)
        sums = {group: _sums(rows) for group, rows in groups.items()}
        table = self._tables.daily
        if self.dialect == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=list(GROUP),
            set_={name: table.c[name] + statement.excluded[name] for name in SUMS},
        )
        # In one order everywhere, so that two writers never wait for each other in a circle.
        for group in sorted(sums):
            connection.execute(statement, {**dict(zip(GROUP, group, strict=True)), **sums[group]})

    def prune(self, before: str) -> int:
        """Delete rows of days before ``YYYY-MM-DD``; the daily sums stay. Returns how many rows.

        Raises:
            InputError: no date.
        """
        day_from_text(before)
        from sqlalchemy import delete, select

        t = self._tables
        deleted = 0
        with _translated(self._engine):
            for table, key in (
                (t.attempts, "request_id"),
                (t.requests, "id"),
                (t.feedback, "id"),
                (t.admin, "id"),
            ):
                old = select(table.c[key]).where(table.c.day < before).limit(_PRUNED_AT_ONCE)
                statement = delete(table).where(table.c[key].in_(old))
                while True:  # a part at a time: the gateway's writer waits for each
                    with self._engine.begin() as connection:
                        gone = connection.execute(statement).rowcount
                    deleted += gone
                    if gone == 0:
                        break
        return deleted

    # -- reading ---------------------------------------------------------------------------------

    def costs_of(self, request_ids: Sequence[str]) -> dict[str, int]:
        """What the requests cost that are there, in nano-dollars; 0 where no price was known."""
        from sqlalchemy import select

        table = self._tables.requests
        costs = {}
        with _translated(self._engine), self._reading() as connection:
            for part in _parts(request_ids):
                query = select(table.c.id, table.c.cost_nusd).where(table.c.id.in_(part))
                costs.update({str(n): int(c or 0) for n, c in connection.execute(query)})
        return costs

    def spent(self, *, now_ns: int) -> dict[str, dict[int, int]]:
        """Nano-dollars by key id and day, for this month, the one before and whatever follows."""
        from sqlalchemy import func, select

        table = self._tables.daily
        query = (
            select(table.c.key_id, table.c.day, func.sum(table.c.cost_nusd))
            .where(table.c.day >= _month_before(now_ns), table.c.key_id != "")
            .group_by(table.c.key_id, table.c.day)
        )
        spent: dict[str, dict[int, int]] = {}
        with _translated(self._engine), self._reading() as connection:
            for key_id, day, nusd in connection.execute(query):
                spent.setdefault(key_id, {})[day_from_text(day)] = int(nusd)
        return spent

    def request(self, *, request_id: str = "", decision_id: str = "") -> dict[str, Any] | None:
        """The row of a request, by its id or its decision's; None where there is none (yet)."""
        from sqlalchemy import select

        table = self._tables.requests
        where = table.c.id == request_id if request_id else table.c.decision_id == decision_id
        with _translated(self._engine), self._reading() as connection:
            found = connection.execute(select(table).where(where).limit(1)).mappings().first()
        return None if found is None else dict(found)

    def columns(self, name: str) -> list[tuple[str, type]]:
        """Names of a table's columns with their Python types.

        Raises:
            InputError: no such table.
        """
        return [(c.name, c.type.python_type) for c in self._table(name).columns]

    def rows(
        self, name: str, *, since: str = "", until: str = ""
    ) -> Iterator[list[dict[str, Any]]]:
        """A table's rows in order of time, some thousand at once.

        Args:
            name: One of `EXPORTS`.
            since: First day, ``YYYY-MM-DD``; empty for all.
            until: Last day; empty for all.

        Raises:
            InputError: no such table, or no date.
        """
        from sqlalchemy import select

        table = self._table(name)
        query = select(table)
        if since:
            query = query.where(table.c.day >= day_text(day_from_text(since)))
        if until:
            query = query.where(table.c.day <= day_text(day_from_text(until)))
        for key in ("day", "key_id", "policy", "model") if name == "daily" else ("day",):
            query = query.order_by(table.c[key])
        if name != "daily":  # ids sort by time
            query = query.order_by(*table.primary_key.columns)
        with _translated(self._engine), self._reading() as connection:
            streamed = connection.execution_options(yield_per=_READ_ROWS).execute(query)
            for part in streamed.mappings().partitions():
                yield [dict(row) for row in part]

    def _table(self, name: str) -> Table:
        if name not in EXPORTS:
            raise InputError(f"no table {name!r} in the ledger; there are: {', '.join(EXPORTS)}")
        found: Table = getattr(self._tables, name)
        return found

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._engine.connect().execution_options(zr_reading=True) as connection:
            yield connection

    def _make_tables(self) -> None:
        from sqlalchemy import select, text

        meta = self._tables.meta
        with self._engine.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})"))
            self._tables.metadata.create_all(connection)
            found = connection.execute(select(meta.c.value).where(meta.c.name == "schema"))
            version = found.scalar()
            if version is None:
                connection.execute(meta.insert(), {"name": "schema", "value": str(SCHEMA_VERSION)})
        if version is not None and int(version) > SCHEMA_VERSION:
            raise BooksError(
                f"the ledger's tables are of version {version}, this ZeroRouter knows up to "
                f"{SCHEMA_VERSION}; upgrade with: pip install -U zerorouter"
            )


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return f"sqlite:///{path.absolute()}"


def spent_in_file(path: Path, *, now_ns: int) -> dict[str, dict[int, int]] | None:
    """What `Store.spent` says of a database file, without SQLAlchemy, whose import takes 0.13 s.

    None where only a `Store` can tell: the file is of another version, or cannot be read.
    """
    import sqlite3

    if not path.exists():
        return {}
    spent: dict[str, dict[int, int]] = {}
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as database:
            version = database.execute("SELECT value FROM zr_meta WHERE name = 'schema'").fetchone()
            if version != (str(SCHEMA_VERSION),):
                return None
            query = (
                "SELECT key_id, day, sum(cost_nusd) FROM zr_daily "
                "WHERE day >= ? AND key_id != '' GROUP BY key_id, day"
            )
            for key_id, day, nusd in database.execute(query, (_month_before(now_ns),)):
                spent.setdefault(key_id, {})[day_from_text(day)] = int(nusd)
    except sqlite3.Error:
        return None
    return spent


def _month_before(now_ns: int) -> str:
    """The first day of the month before this one."""
    first = month_of(day_of(now_ns)) - 1
    return f"{first // 12:04d}-{first % 12 + 1:02d}-01"


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BooksError(
            "the ledger's URL cannot be read; wanted sqlite:////path/to/file.db or "
            "postgresql://user:password@host/name"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        require_extra("psycopg", "postgres", "a ledger in Postgres")
        parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(parsed, pool_pre_ping=True, pool_size=2, max_overflow=3)
    if backend != "sqlite":
        raise BooksError(f"a ledger in {backend!r}; sqlite and postgresql are supported")
    if not parsed.database:
        raise BooksError("the ledger's URL names no file; wanted sqlite:////path/to/file.db")
    path = Path(parsed.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    engine = create_engine(parsed, connect_args={"timeout": 30.0})

    def connected(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # transactions are begun below, not guessed by the driver
        raw.execute("PRAGMA journal_mode=WAL")
        # A segment of the journal goes when its rows are here, so here they must be on disk.
        raw.execute("PRAGMA synchronous=FULL")

    def begun(connection: Any) -> None:
        reading = connection.get_execution_options().get("zr_reading", False)
        # A writer that has read cannot always become one: it takes its turn at once.
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a group of requests adds to its line of ``daily``."""
    total: dict[str, Any] = {
        name: sum([row.get(field) or 0 for row in rows])
        for name, field in SUMS.items()
        if field is not None
    }
    for name, field in COUNTED.items():
        total[name] = sum([row.get(field) is not None for row in rows])
    total["requests"] = len(rows)
    total["failures"] = sum([row.get("outcome", "ok") != "ok" for row in rows])
    total["attempts"] = sum([len(row.get("attempts", ())) for row in rows])
    total["unpriced"] = sum([row.get("cost_nusd") is None for row in rows])
    return total


def _fitted(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with exactly the table's columns; texts without what Postgres cannot hold."""
    names = tuple(column.name for column in table.columns)
    return [{name: _clean(row.get(name)) for name in names} for row in rows]


def _clean(value: Any) -> Any:
    return value.replace("\0", "�") if type(value) is str and "\0" in value else value


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_PER_QUERY):
        yield ids[start : start + _IDS_PER_QUERY]


def _unfit_rows() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError, OverflowError, TypeError, ValueError)


def _is_outage(error: Exception) -> bool:
    """Whether the database is at fault rather than the row."""
    from sqlalchemy.exc import DBAPIError, InternalError, OperationalError

    if isinstance(error, OperationalError | InternalError):
        return True
    if isinstance(error, DBAPIError):
        # Class 42 of SQLSTATE: tables that are not there, rights that are missing.
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or state.startswith("42")
    return False


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    """SQLAlchemy's errors as ours; a password in the URL is never shown."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        said = str(getattr(error, "orig", None) or error).strip()[:MAX_TEXT]
        state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
        full = "disk is full" in said or state == "53100"
        kind = StorageFullError if full else BooksError
        raise kind(
            f"the ledger {where} does not take it: {said}; rows wait in the journal meanwhile"
        ) from error
