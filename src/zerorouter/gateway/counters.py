"""What has been spent and what is reserved, in memory that all workers share.

One file, mapped by every process and changed under one lock of the system (`flock`), so that
budgets and rate limits are exact over any number of workers at a few microseconds a request (why
not a database: docs/decisions/). It is no archive: the ledger is, from which it is made anew
whenever the first process starts.

A process may be killed at any instruction. Every change is therefore first written as a whole to
a redo area, marked by one byte, then made; whoever takes the lock next makes a marked change
again, which alters nothing that was already made. So changes happen wholly or not at all, and
``flock`` falls free with its holder.

Layout, all numbers signed 64-bit::

    0     magic, version, boot id (16 bytes)
    64    first free reservation + 1, reservations ever used, accounts used
    512   redo area: mark (1 byte), length, then (offset, length, bytes) for each write
    4096  accounts, 704 bytes each:  key id (16 bytes), 21 numbers (see `accounts`); from 192 on two
          windows of 256 bytes, of requests and of tokens: the latest second, then 61 counts of 32
          bits (see `limits`)
    ...   reservations, 64 bytes each:  request id (16 bytes), owner, account, amount in
          nano-dollars, start in ns since 1970, tokens, next free + 1 (or -1: open)
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final

from zerorouter.errors import BooksError, StorageFullError
from zerorouter.gateway.limits import SECONDS, Window
from zerorouter.gateway.owners import exclusive

N_ACCOUNTS: Final = 16_384
N_RESERVATIONS: Final = 65_536
N_NUMBERS: Final = 21  # of an account
N_WINDOWS: Final = 2

_MAGIC: Final = b"zrbooks\x02"
_BOOT_AT: Final = 16
_HEAD_AT: Final = 64
_REDO_AT: Final = 512
_REDO_END: Final = 4_096
_ACCOUNTS_AT: Final = 4_096
_ACCOUNT_BYTES: Final = 704
_WINDOWS_AT: Final = 192  # in an account
_WINDOW_BYTES: Final = 256
_RESERVATION_BYTES: Final = 64
_RESERVATIONS_AT: Final = _ACCOUNTS_AT + N_ACCOUNTS * _ACCOUNT_BYTES
_FILE_BYTES: Final = _RESERVATIONS_AT + N_RESERVATIONS * _RESERVATION_BYTES

_HEAD = struct.Struct("=3q")
_NUMBERS = struct.Struct(f"={N_NUMBERS}q")
_WINDOW = struct.Struct(f"=q{SECONDS}i")
_RESERVATION = struct.Struct("=16s6q")
_WRITE = struct.Struct("=ii")
_LENGTH = struct.Struct("=i")
_OPEN: Final = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenReservation:
    """A reservation that was neither settled nor released.

    Attributes:
        place: Its place in the file.
        request_id: 32 hexadecimal digits.
        owner: The process that made it.
        key_id: The key whose account it is on.
        amount_nusd: What is reserved.
        started_ns: When it was made, ns since 1970 in UTC.
        tokens: Tokens it announced.
    """

    place: int
    request_id: str
    owner: int
    key_id: str
    amount_nusd: int
    started_ns: int
    tokens: int


class Counters:
    """The shared file. Every method but `close` is to be called inside ``with``.

    Attributes:
        path: The file.
        is_of_this_boot: Whether it was there before, written since the machine was started.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / "counters"
        self._thread_lock = threading.Lock()
        self._places: dict[str, int] = {}
        self._pid = os.getpid()
        self.is_of_this_boot = True
        with exclusive(folder, "counters.lock"):
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._map = self._open_map()
            except BaseException:
                os.close(self._handle)
                raise
        self._closed = False

    def _open_map(self) -> mmap.mmap:
        try:
            # Every page is claimed now: on a full disk, touching one that is not kills the process.
            os.posix_fallocate(self._handle, 0, _FILE_BYTES)
        except OSError as error:
            raise StorageFullError(
                f"{self.path}: no room for {_FILE_BYTES:,} bytes ({error.strerror}); free some "
                "space, or set ZEROROUTER_HOME to another disk"
            ) from error
        area = mmap.mmap(self._handle, _FILE_BYTES)
        boot = _boot_id()
        if area[:8] != _MAGIC:
            if area[:7] == _MAGIC[:7]:
                raise BooksError(
                    f"{self.path} was written by another version of ZeroRouter; stop all gateways "
                    "and remove it: it is made anew from the ledger"
                )
            area[:8] = _MAGIC
        if area[_BOOT_AT : _BOOT_AT + 16] != boot:
            # The machine was started since, perhaps after losing power: pages may be of different
            # ages, so no change is completed. The whole is about to be made anew in any case.
            area[_REDO_AT] = 0
            area[_BOOT_AT : _BOOT_AT + 16] = boot
            self.is_of_this_boot = False
        return area

    def close(self) -> None:
        """Let go of the file."""
        if not self._closed:
            self._closed = True
            self._map.close()
            os.close(self._handle)

    def __enter__(self) -> Counters:
        self._thread_lock.acquire()
        try:
            if os.getpid() != self._pid:
                raise BooksError("these books were opened before a fork; open them in each worker")
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            if self._map[_REDO_AT]:
                self._redo()
        except BaseException:
            self._thread_lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
        finally:
            self._thread_lock.release()

    # -- accounts --------------------------------------------------------------------------------

    def account(self, key_id: str) -> int:
        """The place of a key's account, made if there is none.

        Raises:
            BooksError: all places are taken, or the id is no 1 to 16 ASCII characters.
        """
        place = self._places.get(key_id)
        if place is not None:
            return place
        free, used, n_accounts = self._head()
        # Another process may have made it since.
        for i in range(n_accounts):
            self._places[self._key_id(i)] = i
        if key_id in self._places:
            return self._places[key_id]
        name = key_id.encode("ascii", "replace")
        if not 1 <= len(name) <= 16 or not key_id.isascii():
            raise BooksError(f"key id {key_id!r}: 1 to 16 ASCII characters are wanted")
        if n_accounts == N_ACCOUNTS:
            raise BooksError(
                f"{self.path} has room for {N_ACCOUNTS:,} keys, and all are taken; stop all "
                "gateways and remove it: it is made anew from the ledger for keys in use"
            )
        at = _ACCOUNTS_AT + n_accounts * _ACCOUNT_BYTES
        self.commit(
            (at, name.ljust(16, b"\0") + bytes(_ACCOUNT_BYTES - 16)),
            (_HEAD_AT, _HEAD.pack(free, used, n_accounts + 1)),
        )
        self._places[key_id] = n_accounts
        return n_accounts

    def numbers(self, account: int) -> list[int]:
        """The numbers of an account."""
        at = _ACCOUNTS_AT + account * _ACCOUNT_BYTES + 16
        return list(_NUMBERS.unpack_from(self._map, at))

    def window(self, account: int, which: int) -> Window:
        """What an account has used lately: 0 for requests, 1 for tokens."""
        last_s, *counts = _WINDOW.unpack_from(self._map, _window_at(account, which))
        return Window(last_s, counts)

    def key_ids(self) -> list[str]:
        """The keys that have accounts, by place."""
        n_accounts = self._head()[2]
        return [self._key_id(i) for i in range(n_accounts)]

    def _head(self) -> tuple[int, int, int]:
        """First free reservation + 1, reservations ever used, accounts."""
        free, used, n_accounts = _HEAD.unpack_from(self._map, _HEAD_AT)
        return free, used, n_accounts

    def _key_id(self, account: int) -> str:
        at = _ACCOUNTS_AT + account * _ACCOUNT_BYTES
        return self._map[at : at + 16].rstrip(b"\0").decode("ascii", "replace")

    def put(self, account: int, numbers: list[int]) -> None:
        """Change an account."""
        self.commit((_ACCOUNTS_AT + account * _ACCOUNT_BYTES + 16, _NUMBERS.pack(*numbers)))

    # -- reservations ----------------------------------------------------------------------------

    def begin(
        self,
        account: int,
        numbers: list[int],
        *,
        request_id: bytes,
        owner: int,
        amount_nusd: int,
        started_ns: int,
        tokens: int,
        windows: Mapping[int, Window] = MappingProxyType({}),
    ) -> int:
        """Change an account and open a reservation on it, in one; returns its place.

        ``windows`` are those that change, by which they are.

        Raises:
            BooksError: there are too many open reservations.
        """
        free, used, n_accounts = self._head()
        if free:
            place = free - 1
            following = int(_RESERVATION.unpack_from(self._map, _at(place))[6])
        elif used < N_RESERVATIONS:
            place, following, used = used, 0, used + 1
        else:
            raise BooksError(
                f"{N_RESERVATIONS:,} requests are under way, the most that the books can hold; "
                "try again when some have ended"
            )
        entry = _RESERVATION.pack(
            request_id, owner, account, amount_nusd, started_ns, tokens, _OPEN
        )
        self.commit(
            (_ACCOUNTS_AT + account * _ACCOUNT_BYTES + 16, _NUMBERS.pack(*numbers)),
            (_at(place), entry),
            (_HEAD_AT, _HEAD.pack(following, used, n_accounts)),
            *_packed(account, windows),
        )
        return place

    def is_open(self, place: int, request_id: bytes) -> bool:
        """Whether the reservation at a place is open and that request's."""
        entry = _RESERVATION.unpack_from(self._map, _at(place))
        return bool(entry[0] == request_id and entry[6] == _OPEN)

    def resize(self, place: int, account: int, numbers: list[int], amount_nusd: int) -> None:
        """Change an account and the amount of a reservation on it, in one."""
        name, owner, at, _, started_ns, tokens, state = _RESERVATION.unpack_from(
            self._map, _at(place)
        )
        entry = _RESERVATION.pack(name, owner, at, amount_nusd, started_ns, tokens, state)
        self.commit(
            (_ACCOUNTS_AT + account * _ACCOUNT_BYTES + 16, _NUMBERS.pack(*numbers)),
            (_at(place), entry),
        )

    def end(
        self,
        place: int,
        account: int,
        numbers: list[int],
        *,
        windows: Mapping[int, Window] = MappingProxyType({}),
    ) -> None:
        """Change an account and close a reservation on it, in one; ``windows`` as in `begin`."""
        free, used, n_accounts = self._head()
        self.commit(
            (_ACCOUNTS_AT + account * _ACCOUNT_BYTES + 16, _NUMBERS.pack(*numbers)),
            (_at(place), _RESERVATION.pack(bytes(16), 0, 0, 0, 0, 0, free)),
            (_HEAD_AT, _HEAD.pack(place + 1, used, n_accounts)),
            *_packed(account, windows),
        )

    def open_reservations(self) -> Iterator[OpenReservation]:
        """All that are open, of every process."""
        _, used, n_accounts = self._head()
        for place in range(min(used, N_RESERVATIONS)):
            name, owner, account, amount, started_ns, tokens, state = _RESERVATION.unpack_from(
                self._map, _at(place)
            )
            if state == _OPEN and 0 <= account < n_accounts and amount >= 0 <= started_ns:
                yield OpenReservation(
                    place=place,
                    request_id=name.hex(),
                    owner=owner,
                    key_id=self._key_id(account),
                    amount_nusd=amount,
                    started_ns=started_ns,
                    tokens=tokens,
                )

    def replace(self, accounts: dict[str, list[int]]) -> None:
        """Begin anew with these accounts and no reservation. Only while no other process is open.

        What keys used in the last seconds is kept, unless the machine was started since.
        Unlike all else this is no single change: it is repeated if it is cut short, since whoever
        starts first does it.
        """
        size = N_WINDOWS * _WINDOW_BYTES
        windows: dict[str, bytes] = {}
        if self.is_of_this_boot:
            for i, key_id in enumerate(self.key_ids()):
                at = _window_at(i, 0)
                windows[key_id] = self._map[at : at + size]
        nothing, unused = bytes(size), [0] * N_NUMBERS
        accounts = {**{k: unused for k, used in windows.items() if used != nothing}, **accounts}
        self._map[_HEAD_AT : _HEAD_AT + _HEAD.size] = _HEAD.pack(0, 0, 0)
        self._places = {}
        for i, (key_id, numbers) in enumerate(list(accounts.items())[:N_ACCOUNTS]):
            at = _ACCOUNTS_AT + i * _ACCOUNT_BYTES
            name = key_id.encode("ascii").ljust(16, b"\0")
            entry = (name + _NUMBERS.pack(*numbers)).ljust(_WINDOWS_AT, b"\0")
            entry += windows.get(key_id, nothing)
            self._map[at : at + len(entry)] = entry
            self._places[key_id] = i
        self._map[_HEAD_AT : _HEAD_AT + _HEAD.size] = _HEAD.pack(0, 0, len(self._places))

    # -- changes ---------------------------------------------------------------------------------

    def commit(self, *writes: tuple[int, bytes]) -> None:
        """Make the writes (offset, bytes) so that all of them happen or none."""
        area = self._map
        parts = [_WRITE.pack(at, len(data)) + data for at, data in writes]
        body = b"".join(parts)
        start = _REDO_AT + 1
        area[start : start + 4 + len(body)] = _LENGTH.pack(len(body)) + body
        area[_REDO_AT] = 1
        for at, data in writes:
            area[at : at + len(data)] = data
        area[_REDO_AT] = 0

    def _redo(self) -> None:
        """Make a change again whose maker died over it."""
        area = self._map
        at = _REDO_AT + 1 + _LENGTH.size
        end = at + _LENGTH.unpack_from(area, _REDO_AT + 1)[0]
        if not at <= end <= _REDO_END:
            raise BooksError(
                f"{self.path} is damaged; stop all gateways and remove it: it is made anew from "
                "the ledger"
            )
        while at < end:
            target, size = _WRITE.unpack_from(area, at)
            at += _WRITE.size
            area[target : target + size] = area[at : at + size]
            at += size
        area[_REDO_AT] = 0


def discard_other_version(folder: Path) -> None:
    """Remove a file that another version of ZeroRouter wrote. Only while no process is open."""
    path = folder / "counters"
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except FileNotFoundError:
        return
    if magic[:7] == _MAGIC[:7] and magic != _MAGIC:
        path.unlink()


def _at(place: int) -> int:
    return _RESERVATIONS_AT + place * _RESERVATION_BYTES


def _window_at(account: int, which: int) -> int:
    return _ACCOUNTS_AT + account * _ACCOUNT_BYTES + _WINDOWS_AT + which * _WINDOW_BYTES


def _packed(account: int, windows: Mapping[int, Window]) -> Iterator[tuple[int, bytes]]:
    for which, window in windows.items():
        yield _window_at(account, which), _WINDOW.pack(window.last_s, *window.counts)


def _boot_id() -> bytes:
    """Something that is another one after each start of the machine."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return bytes.fromhex(text.strip().replace("-", ""))
    except (OSError, ValueError):  # no Linux
        return bytes(16)
