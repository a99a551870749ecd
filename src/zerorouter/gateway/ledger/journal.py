"""The journal: rows go to a local file first, and from there to the database.

What survives what:

- A row is handed to the system by ``write`` before it is acknowledged: it survives the process,
  however that ends (SIGKILL included).
- `Journal.sync` puts the file on disk; the ledger calls it every second. A machine that loses power
  may lose what was acknowledged since.
- A segment is deleted only after its rows are in the database for good.

The journal *is* the queue: the writer reads rows back from it, so nothing piles up in memory while
a database is slow or down, and starting after a crash is the usual way of reading. Segments are of
one process each, ``journal/<owner>-<number>.log``, a row a line::

    5f1c9d02 ["request",{"id":"0197...","started_ns":...}]

eight hexadecimal digits of the CRC-32 of what follows the blank. A last line that was cut off was
never acknowledged and is dropped; a damaged one further up is reported and set aside.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from zerorouter.errors import BooksError, InputError, StorageFullError, require_extra
from zerorouter.gateway.ledger.rows import KINDS, LedgerRow

SEGMENT_BYTES: Final = 4 << 20
MAX_BYTES: Final = 1 << 30
MAX_LINE_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A file of the journal.

    Attributes:
        path: The file.
        owner: The process that wrote it.
        number: The how-manieth of that process.
    """

    path: Path
    owner: int
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """Rows read from a segment.

    Attributes:
        rows: Kind and fields of each.
        end: Position after the last whole line that was read.
        damaged: Lines whose checksum or form is wrong.
    """

    rows: list[tuple[str, dict[str, Any]]]
    end: int
    damaged: list[bytes]


class Journal:
    """The journal of this process; threads may append at once.

    Attributes:
        folder: Where the segments are.
        total_bytes: Of the segments of this process that are not deleted yet.
        appended: Rows acknowledged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        owner: int,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        require_extra("orjson", "gateway", "the ledger")
        import orjson

        self.folder = folder
        self.total_bytes = 0
        self.appended = 0
        self._dumps = orjson.dumps
        self._owner = owner
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._handle = -1
        self._number = 0
        self._size = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            self._open_next()

    @property
    def position(self) -> tuple[int, int]:
        """Number of the segment that is written, and its size in bytes."""
        with self._lock:
            return self._number, self._size

    def append(self, row: LedgerRow) -> None:
        """Hand a row to the system; when this returns, it survives the process.

        Raises:
            StorageFullError: there is no room, or the database is so far behind that the journal
                has reached its limit. Nothing was written: do not acknowledge.
            InputError: the row cannot be written as JSON, or is larger than a mebibyte.
        """
        try:
            body = self._dumps((KINDS[type(row)], row))
        except (TypeError, ValueError) as error:
            raise InputError(f"a ledger row that cannot be written: {error}") from error
        if len(body) > MAX_LINE_BYTES:
            raise InputError(f"a ledger row of {len(body):,} bytes; at most {MAX_LINE_BYTES:,}")
        line = b"%08x %b\n" % (crc32(body), body)
        with self._lock:
            if self._handle < 0:
                raise BooksError("the ledger is closed")
            if self.total_bytes + len(line) > self._max_bytes:
                raise StorageFullError(
                    f"{self.folder} holds {self.total_bytes:,} bytes that the database has not "
                    f"taken yet, the most allowed; see that the database answers"
                )
            if self._size + len(line) > self._segment_bytes and self._size:
                self._open_next()
            self._write(line)

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.write(self._handle, line[done:])
        except OSError as error:
            # Half a line must not stand before the next one; shortening needs no room.
            if done:
                try:
                    os.ftruncate(self._handle, self._size)
                except OSError:  # then nothing more is written to this segment
                    self._size = self._segment_bytes
            raise self._unwritable(error) from error
        self._size += done
        self.total_bytes += done
        self.appended += 1

    def sync(self) -> None:
        """Put what was appended on disk.

        Raises:
            StorageFullError: the disk refuses.
        """
        with self._lock:
            if self._handle < 0:
                return
            handle = os.dup(self._handle)
        try:
            os.fdatasync(handle)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            os.close(handle)

    def delete(self, segment: Segment) -> None:
        """Delete a segment of this process whose rows are all stored."""
        size = segment.path.stat().st_size
        segment.path.unlink()
        with self._lock:
            self.total_bytes -= size

    def close(self) -> None:
        """Append no more. The segments stay."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1

    def segment(self, number: int) -> Segment:
        """One of this process's segments."""
        path = self.folder / f"{self._owner:016x}-{number:08d}.log"
        return Segment(path=path, owner=self._owner, number=number)

    def _open_next(self) -> None:
        path = self.segment(self._number + 1).path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._number, self._size = handle, self._number + 1, 0

    def _unwritable(self, error: OSError) -> StorageFullError:
        return StorageFullError(
            f"cannot write {self.folder}: {error.strerror or error}; nothing was acknowledged: "
            "free some space, the gateway goes on by itself"
        )


def segments(folder: Path) -> list[Segment]:
    """Every segment in a folder, by owner and number."""
    found = []
    for path in sorted(folder.glob("*.log")):
        owner, _, number = path.stem.partition("-")
        try:
            found.append(Segment(path=path, owner=int(owner, 16), number=int(number)))
        except ValueError:  # another program's file
            continue
    return found


def read(path: Path, start: int, *, max_bytes: int) -> Read:
    """The rows from a position on: about ``max_bytes`` of them, and at least one if there is one.

    Raises:
        OSError: the file cannot be read.
    """
    import orjson

    with path.open("rb") as file:
        file.seek(start)
        chunk = file.read(max_bytes)
        if chunk and b"\n" not in chunk:
            chunk += file.readline(2 * MAX_LINE_BYTES)
    end = chunk.rfind(b"\n") + 1
    rows: list[tuple[str, dict[str, Any]]] = []
    damaged = []
    for line in chunk[:end].split(b"\n")[:-1]:
        try:
            if int(line[:8], 16) != crc32(line[9:]):
                raise ValueError("the checksum is another")
            kind, fields = orjson.loads(line[9:])
            if not isinstance(kind, str) or not isinstance(fields, dict):
                raise ValueError("no row")
            rows.append((kind, fields))
        except ValueError:
            damaged.append(line)
    return Read(rows=rows, end=start + end, damaged=damaged)


def read_all(segment: Segment, *, max_bytes: int = 1 << 20) -> Iterator[Read]:
    """A whole segment, a part at a time."""
    at = 0
    while True:
        part = read(segment.path, at, max_bytes=max_bytes)
        if part.end == at:
            return
        at = part.end
        yield part
