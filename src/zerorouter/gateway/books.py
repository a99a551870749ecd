"""Keys, accounts and ledger of a state folder, opened together and put in order after a crash.

    books = Books.open(books_dir(), now_ns=...)          # once per process, after any fork
    key = books.keys.authenticate(text, mono_ns=...)
    reservation = books.admit(key, request_id=new_id(now_ns), worst_nusd=..., ...)
    ...
    books.finish(reservation, RequestRow(...))          # before the last byte goes out
    books.close()

`finish` first appends the row, which is the acknowledgement, then settles. So whatever a killed
process leaves is one of three, and `recover` treats each by rule:

1. A row in the journal that the database has not: it is stored (its id makes it count once).
2. An open reservation whose row is known: it is settled at the cost in the row.
3. An open reservation without a row: the request may have been billed, so all of it counts as
   spent, and a row with the outcome ``lost`` says so. A budget is never exceeded by crashing.

Keys without budget and limits reserve nothing; their costs are booked all the same, so that a
budget given later knows the day and the month.

The first process to open the folder makes the accounts anew from the ledger, so that both always
agree; the remains of a worker that dies among others are put in order by those, within seconds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerorouter.errors import BooksError
from zerorouter.gateway.accounts import Accounts, Reservation
from zerorouter.gateway.budgets import day_of, day_text
from zerorouter.gateway.counters import OpenReservation, discard_other_version
from zerorouter.gateway.keys import KeyStore, VirtualKey
from zerorouter.gateway.ledger.ledger import Ledger, LedgerSettings, OnEvent, orphans
from zerorouter.gateway.ledger.rows import LedgerRow, RequestRow
from zerorouter.gateway.owners import Owner, exclusive, forget, owners

RECOVER_EVERY_S: Final = 5.0
_PRUNE_EVERY: Final = 720  # of those: an hour
_STEADY_NS: Final = 3_600_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovered:
    """What `Books.recover` put in order.

    Attributes:
        segments: Segments of the journal taken over.
        settled: Reservations settled at the cost in their rows.
        lost: Reservations without a row, counted as spent.
    """

    segments: int = 0
    settled: int = 0
    lost: int = 0


class Books:
    """The books of this process.

    Attributes:
        keys: The virtual keys.
        accounts: Money and rate limits, shared by all processes.
        ledger: The rows.
        recovered: What was put in order on opening.
    """

    def __init__(
        self,
        folder: Path,
        owner: Owner,
        keys: KeyStore,
        accounts: Accounts,
        ledger: Ledger,
        *,
        retention_days: int | None = None,
    ) -> None:
        self.keys = keys
        self.accounts = accounts
        self.ledger = ledger
        self.recovered = Recovered()
        self._folder = folder
        self._owner = owner
        self._stop = threading.Event()
        self._retention_days = retention_days
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._thread = threading.Thread(target=self._watch, name="books", daemon=True)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        now_ns: int,
        settings: LedgerSettings | None = None,
        on_event: OnEvent | None = None,
    ) -> Books:
        """Open the books of a folder and put in order what dead processes left; blocks.

        Raises:
            MissingExtraError: a package is not installed.
            BooksError: a file or the database cannot be opened.
        """
        with contextlib.ExitStack() as undo:
            undo.enter_context(exclusive(folder))
            alone = not any(owners(folder).values())
            if alone:
                discard_other_version(folder)
            keys = KeyStore(folder)
            owner = Owner(folder)
            with contextlib.ExitStack() as failed:
                failed.callback(owner.close)
                ledger = Ledger.open(folder, owner=owner.id, settings=settings, on_event=on_event)
                failed.callback(ledger.close)
                accounts = Accounts(folder, owner=owner.id)
                failed.callback(accounts.close)
                books = cls(
                    folder,
                    owner,
                    keys,
                    accounts,
                    ledger,
                    retention_days=(settings or LedgerSettings()).retention_days,
                )
                books.recovered = books._recover()
                if alone:
                    accounts.rebuild(ledger.spent(now_ns=now_ns))
                failed.pop_all()
        books._thread.start()
        return books

    def admit(
        self,
        key: VirtualKey,
        *,
        request_id: str,
        worst_nusd: int | None,
        tokens: int = 0,
        now_ns: int,
        mono_ns: int,
    ) -> Reservation | None:
        """Let a request in: `Ledger.check`, then `Accounts.reserve` with these arguments.

        None where the key has no bounds: then nothing is reserved, and `finish` books the cost.

        Raises:
            StorageFullError: a row could not be kept, so the request is not begun.
            AccessError: a limit or a budget refuses it.
            MissingPriceError: the key has a budget and the model no price.
        """
        self.ledger.check()
        if not key.is_bounded:
            return None
        return self.accounts.reserve(
            key,
            request_id=request_id,
            worst_nusd=worst_nusd,
            tokens=tokens,
            now_ns=now_ns,
            mono_ns=mono_ns,
        )

    def finish(self, reservation: Reservation | None, row: RequestRow) -> int:
        """Keep a request's row, then settle; call it before the last byte, and when cancelled.

        The row's id, key and start are to be the reservation's. Returns by how much the cost
        exceeds the reservation, in nano-dollars (0 nearly always).

        Raises:
            StorageFullError: the row could not be kept: do not acknowledge. All that was reserved
                then counts as spent once the books are opened again.
            BooksError: the row is another request's.
        """
        if reservation is None:
            self.ledger.append(row)
            if row.key_id and row.cost_nusd:
                self.accounts.book(row.key_id, started_ns=row.started_ns, cost_nusd=row.cost_nusd)
            return 0
        if (row.id, row.key_id, row.started_ns) != (
            reservation.request_id,
            reservation.key.id,
            reservation.started_ns,
        ):
            raise BooksError(
                f"the row {row.id} does not belong to the reservation {reservation.request_id}: "
                "id, key_id and started_ns have to be the same"
            )
        self.ledger.append(row)
        tokens = (row.input_tokens or 0) + (row.output_tokens or 0)
        return self.accounts.settle(reservation, cost_nusd=row.cost_nusd or 0, tokens=tokens)

    def keep(self, row: LedgerRow) -> None:
        """Keep a row of feedback or of an admin action; call it before the 2xx.

        Raises:
            StorageFullError: there is no room: do not acknowledge.
        """
        self.ledger.append(row)

    def recover(self) -> Recovered:
        """Put in order what processes left that died; blocks. Done by itself every few seconds.

        Raises:
            BooksError: the database does not answer; all stays as it is until the next time.
        """
        with exclusive(self._folder):
            return self._recover()

    def close(self) -> None:
        """Store what there is and leave; a second time does nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with exclusive(self._folder):
            emptied = self.ledger.close()
            mine = any(r.owner == self._owner.id for r in self.accounts.open_reservations())
            self.accounts.close()
            # With something left open the file stays, unlocked: whoever opens next takes over.
            if emptied and not mine:
                self._owner.close()
            else:
                self._owner.abandon()

    def _recover(self) -> Recovered:
        """See `recover`; under `exclusive`."""
        alive = {owner for owner, held in owners(self._folder).items() if held}
        alive.add(self._owner.id)
        left = orphans(self._folder / "journal", lambda owner: owner not in alive)
        for segment in left:
            self.ledger.take_over(segment)
        opened = [r for r in self.accounts.open_reservations() if r.owner not in alive]
        settled, lost = self._settle(opened)
        for owner in owners(self._folder).keys() - alive:
            forget(self._folder, owner)
        return Recovered(segments=len(left), settled=settled, lost=lost)

    def _settle(self, opened: list[OpenReservation]) -> tuple[int, int]:
        if not opened:
            return 0, 0
        known = self.ledger.store.costs_of([found.request_id for found in opened])
        lost = [found for found in opened if found.request_id not in known]
        for found in lost:
            self.ledger.append(
                RequestRow(
                    id=found.request_id,
                    started_ns=found.started_ns,
                    key_id=found.key_id,
                    outcome="lost",
                    error="the gateway ended before the answer did; its worst case is counted",
                    estimated=True,
                    cost_nusd=found.amount_nusd,
                )
            )
        if lost:
            self.ledger.flush()
        for found in opened:
            self.accounts.settle_found(found, known.get(found.request_id, found.amount_nusd))
        return len(opened) - len(lost), len(lost)

    def prune(self, *, now_ns: int) -> int:
        """Delete rows older than the retention; returns how many. Done by itself every hour.

        Raises:
            BooksError: the database does not answer.
        """
        if self._retention_days is None:
            return 0
        return self.ledger.store.prune(day_text(day_of(now_ns) - self._retention_days + 1))

    def _watch(self) -> None:
        turns = 0
        while not self._stop.wait(RECOVER_EVERY_S):
            # The database may be away; the ledger's own thread tells of that.
            with contextlib.suppress(BooksError, OSError):
                self.recover()
                now_ns = time.time_ns()
                # A wall clock that jumped since the start is no reason to delete anything.
                steady = abs(now_ns - time.monotonic_ns() - self._offset_ns) < _STEADY_NS
                if turns % _PRUNE_EVERY == 0 and steady:
                    self.prune(now_ns=now_ns)
            turns += 1
