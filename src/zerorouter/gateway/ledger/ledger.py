"""The ledger of a process: the journal in front, a thread that stores, the database behind."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from zerorouter.errors import BooksError, StorageFullError, require_extra
from zerorouter.gateway.ledger.journal import (
    MAX_BYTES,
    SEGMENT_BYTES,
    Journal,
    Read,
    Segment,
    read,
    read_all,
    segments,
)
from zerorouter.gateway.ledger.rows import MAX_TEXT, LedgerRow, RequestRow
from zerorouter.gateway.ledger.store import Store, spent_in_file, sqlite_url
from zerorouter.gateway.owners import exclusive, owners
from zerorouter.serving_config import MEBIBYTE, LedgerOptions

_READ_BYTES: Final = 1 << 20  # of the journal at once, so that memory is bounded
_LONGEST_PAUSE_S: Final = 5.0
_QUIET_S: Final = 1.0  # in which the gateway comes up, before a database file is opened
_PROMPT_CHARS: Final = 100_000

OnEvent = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """How the ledger is kept.

    Attributes:
        url: The database; None for ``ledger.db`` in the state folder.
        retention_days: UTC days that rows are kept, today included; None for ever. The daily sums
            stay in any case.
        store_prompts: Whether the texts of prompts are kept, at most 100,000 characters of each.
        store_every_s: How long the thread waits between two batches.
        sync_every_s: How long until the journal is put on disk.
        segment_bytes: Of a segment of the journal.
        max_journal_bytes: Of all segments of this process; beyond it nothing is acknowledged.
        min_free_bytes: Of the journal's disk; below it no new request should be let in.
    """

    url: str | None = None
    retention_days: int | None = None
    store_prompts: bool = False
    store_every_s: float = 0.2
    sync_every_s: float = 1.0
    segment_bytes: int = SEGMENT_BYTES
    max_journal_bytes: int = MAX_BYTES
    min_free_bytes: int = 16 << 20


def ledger_settings(options: LedgerOptions, environ: Mapping[str, str]) -> LedgerSettings:
    """The settings that the configuration and the environment amount to."""
    return LedgerSettings(
        url=environ.get(options.url_env, "").strip() or options.url,
        retention_days=options.retention_days,
        store_prompts=options.store_prompts,
        store_every_s=options.store_every_s,
        sync_every_s=options.sync_every_s,
        segment_bytes=int(options.segment_mib * MEBIBYTE),
        max_journal_bytes=int(options.journal_mib * MEBIBYTE),
        min_free_bytes=int(options.min_free_mib * MEBIBYTE),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerState:
    """How it stands, for metrics and readiness.

    Attributes:
        appended: Rows acknowledged by this process.
        stored: Of those, in the database.
        duplicates: Rows that were stored before.
        rejected: Rows that the database does not take; they are kept in ``rejected.jsonl``.
        damaged: Lines of the journal whose checksum is wrong; kept there, too.
        journal_bytes: Waiting or about to be deleted.
        error: What stands in the way now; None where all is well.
    """

    appended: int
    stored: int
    duplicates: int
    rejected: int
    damaged: int
    journal_bytes: int
    error: str | None


class Ledger:
    """Rows in, kept. Made by `open`, ended by `close`; threads may append at once.

    A database file of the state folder is opened by the thread, a second after the start: what
    that takes (0.13 s of CPU time, mostly imports) is not waited for. Any other database is opened
    at once, so that a start without it fails.

    ``on_event(name, n)`` is told of ``journal_error``, ``store_error``, ``rejected`` and
    ``damaged``, from whatever thread saw it.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store | Path,
        settings: LedgerSettings,
        *,
        on_event: OnEvent | None = None,
    ) -> None:
        self.journal = journal
        self._file = store if isinstance(store, Path) else None
        self._store = store if isinstance(store, Store) else None
        self._opening = threading.Lock()
        self._settings = settings
        self._on_event = on_event
        self._stored = self._duplicates = self._rejected = self._damaged = 0
        self._append_error: str | None = None
        self._store_error: str | None = None
        self._space_error: str | None = None
        self._at: tuple[int, int] = (1, 0)  # segment and position up to which all is stored
        self._work = threading.Lock()  # one storing at a time
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        owner: int,
        settings: LedgerSettings | None = None,
        on_event: OnEvent | None = None,
    ) -> Ledger:
        """The ledger of a state folder, its thread running.

        Raises:
            MissingExtraError: a package is not installed.
            BooksError: the database or the journal cannot be opened.
        """
        settings = settings or LedgerSettings()
        require_extra("sqlalchemy", "gateway", "the ledger")
        store: Store | Path = folder / "ledger.db"
        if settings.url or spent_in_file(folder / "ledger.db", now_ns=time.time_ns()) is None:
            store = Store(settings.url or sqlite_url(folder / "ledger.db"))
        journal = Journal(
            folder / "journal",
            owner=owner,
            segment_bytes=settings.segment_bytes,
            max_bytes=settings.max_journal_bytes,
        )
        ledger = cls(journal, store, settings, on_event=on_event)
        ledger._thread.start()
        return ledger

    @property
    def store(self) -> Store:
        """The database; opened now where it was not before.

        Raises:
            BooksError: it cannot be opened.
        """
        if self._store is None:
            with self._opening:
                if self._store is None:
                    assert self._file is not None
                    self._store = Store(sqlite_url(self._file))
        return self._store

    def spent(self, *, now_ns: int) -> dict[str, dict[int, int]]:
        """See `Store.spent`; of a file that is not open yet, without opening it for good.

        Raises:
            BooksError: the database does not answer.
        """
        if self._store is None and self._file is not None:
            spent = spent_in_file(self._file, now_ns=now_ns)
            if spent is not None:
                return spent
        return self.store.spent(now_ns=now_ns)

    @property
    def keeps_prompts(self) -> bool:
        """Whether the texts of prompts are kept."""
        return self._settings.store_prompts

    def append(self, row: LedgerRow) -> None:
        """Keep a row; when this returns it survives the process. Call it before acknowledging.

        It costs one ``write`` of the row and may be called on the event loop.

        Raises:
            StorageFullError: there is no room; the row is not kept, acknowledge nothing.
            InputError: the row cannot be written.
        """
        if isinstance(row, RequestRow):
            row = self._trimmed(row)
        try:
            self.journal.append(row)
        except StorageFullError as error:
            self._append_error = str(error)
            self._tell("journal_error", 1)
            raise
        self._append_error = None

    def _trimmed(self, row: RequestRow) -> RequestRow:
        if row.prompt is not None:
            kept = row.prompt[:_PROMPT_CHARS] if self._settings.store_prompts else None
            row = replace(row, prompt=kept)
        if row.error is not None and len(row.error) > MAX_TEXT:
            row = replace(row, error=row.error[:MAX_TEXT])
        return row

    def check(self) -> None:
        """Refuse before money is spent: to be called before a request is sent upstream.

        Raises:
            StorageFullError: the disk is nearly full, or the last row could not be kept.
        """
        problem = self._space_error or self._append_error
        if problem is not None:
            raise StorageFullError(problem)

    @property
    def state(self) -> LedgerState:
        """How it stands."""
        return LedgerState(
            appended=self.journal.appended,
            stored=self._stored,
            duplicates=self._duplicates,
            rejected=self._rejected,
            damaged=self._damaged,
            journal_bytes=self.journal.total_bytes,
            error=self._space_error or self._append_error or self._store_error,
        )

    def flush(self) -> None:
        """Store all that was appended before; blocks: call it in a thread.

        Raises:
            BooksError: the database does not take it. Nothing is lost: it waits in the journal.
        """
        with self._work:
            while self._store_some():
                pass

    def close(self) -> bool:
        """Store what there is and end; returns whether the journal is empty now.

        Where the database does not answer, the journal stays, for the next start to take over.
        """
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        emptied = False
        with contextlib.suppress(StorageFullError):
            self.journal.sync()
        try:
            self.flush()
            emptied = True
        except (BooksError, OSError) as error:
            self._store_error = str(error)
        self.journal.close()
        if emptied:
            number, _ = self.journal.position
            self.journal.segment(number).path.unlink(missing_ok=True)
        if self._store is not None:
            self._store.close()
        return emptied

    def take_over(self, segment: Segment) -> None:
        """Store the rows of a segment that a dead process left, and delete it.

        Raises:
            BooksError: the database does not take them; the segment stays.
        """
        with self._work:
            for part in read_all(segment, max_bytes=_READ_BYTES):
                self._keep(part)
        segment.path.unlink()

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = self._settings.store_every_s
        since_sync = 0.0
        if self._store is None:
            self._wake.wait(_QUIET_S)
        while not self._stop.is_set():
            self._wake.wait(pause)
            since_sync += pause
            self._check_space()
            try:
                if since_sync >= self._settings.sync_every_s:
                    since_sync = 0.0
                    self.journal.sync()
                _ = self.store  # before the first row comes: it takes a while
                # What comes meanwhile waits for the next turn: chasing it would make a transaction
                # of every row, and cost as much as serving the request.
                end = self.journal.position
                with self._work:
                    while self._at < end and self._store_some() and not self._stop.is_set():
                        pass
                self._store_error = None
                pause = self._settings.store_every_s
            except (BooksError, OSError) as error:
                self._store_error = str(error)
                self._tell("store_error", 1)
                pause = min(_LONGEST_PAUSE_S, 2 * pause)

    def _store_some(self) -> bool:
        """Store the next part of the journal; False where nothing is left."""
        writing, size = self.journal.position
        number, start = self._at
        segment = self.journal.segment(number)
        if number == writing and start >= size:
            return False
        part = read(segment.path, start, max_bytes=_READ_BYTES)
        if part.end > start:
            self._keep(part)
            self._at = (number, part.end)
            return True
        if number < writing:  # whole and stored
            self.journal.delete(segment)
            self._at = (number + 1, 0)
            return True
        return False

    def _keep(self, part: Read) -> None:
        stored = self.store.write(part.rows)
        self._stored += stored.new
        self._duplicates += stored.duplicates
        refused: list[dict[str, Any]] = [
            {"kind": kind, "row": row, "reason": reason} for kind, row, reason in stored.rejected
        ]
        refused += [{"line": line.decode("latin-1"), "reason": "damaged"} for line in part.damaged]
        if refused:
            self._set_aside(refused)
            self._rejected += len(stored.rejected)
            self._damaged += len(part.damaged)
            self._tell("rejected", len(stored.rejected))
            self._tell("damaged", len(part.damaged))

    def _set_aside(self, refused: list[dict[str, Any]]) -> None:
        """Keep what cannot be stored where a person can look at it."""
        lines = "".join(json.dumps(row) + "\n" for row in refused)
        path = self.journal.folder / "rejected.jsonl"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with open(handle, "w", encoding="ascii") as file:  # noqa: PTH123 - of a handle
                file.write(lines)
        except OSError as error:
            raise StorageFullError(f"cannot write {path}: {error.strerror or error}") from error

    def _check_space(self) -> None:
        try:
            disk = os.statvfs(self.journal.folder)
        except OSError as error:
            self._space_error = f"{self.journal.folder}: {error.strerror or error}"
            return
        free = disk.f_bavail * disk.f_frsize
        self._space_error = None
        if free < self._settings.min_free_bytes:
            self._space_error = (
                f"{self.journal.folder} has {free:,} bytes left, fewer than "
                f"{self._settings.min_free_bytes:,}; free some space: requests are refused until "
                "then, so that none is paid for without a record"
            )
        # A row that could not be kept is history once a small one can.
        if self._append_error is not None and self._space_error is None and self._probe():
            self._append_error = None

    def _probe(self) -> bool:
        path = self.journal.folder / f".probe-{os.getpid()}"
        try:
            path.write_bytes(bytes(4096))
        except OSError:
            return False
        finally:
            path.unlink(missing_ok=True)
        return self.journal.total_bytes < self._settings.max_journal_bytes // 2

    def _tell(self, name: str, n: int) -> None:
        if self._on_event is not None and n:
            self._on_event(name, n)


def take_in(store: Store, folder: Path) -> int:
    """Store what dead processes left in a state folder's journal; returns how many rows were new.

    Their files stay, since the money they had reserved is the next gateway's to put in order.

    Raises:
        BooksError: the database does not take them.
    """
    if not (folder / "journal").is_dir():
        return 0
    new = 0
    with exclusive(folder):
        alive = {owner for owner, held in owners(folder).items() if held}
        for segment in orphans(folder / "journal", lambda owner: owner not in alive):
            for part in read_all(segment, max_bytes=_READ_BYTES):
                new += store.write(part.rows).new
    return new


def orphans(folder: Path, dead: Callable[[int], bool]) -> list[Segment]:
    """Segments of a journal's folder whose owners are dead."""
    return [segment for segment in segments(folder) if dead(segment.owner)]
