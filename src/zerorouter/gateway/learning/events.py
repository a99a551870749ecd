"""The queue between the workers and the one learner: a file that each worker appends to.

An event is a line as in the ledger's journal (CRC-32, kind, fields). It is handed to the system by
``write`` before its score is acknowledged, so it survives the process; the learner notes how far
it has read *in* the state that it publishes, so nothing is learned twice, however either ends.
Segments that were read, published and left by their writer are deleted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from zerorouter.errors import BooksError, StorageFullError
from zerorouter.gateway.ledger.journal import Segment, read, segments
from zerorouter.gateway.wire.codec import dumps

SEGMENT_BYTES: Final = 1 << 20
MAX_BYTES: Final = 256 << 20
"""Of all segments of a folder; beyond it the learner is so far behind that nothing is taken."""


class EventWriter:
    """Appends this process's events; threads may append at once.

    Args:
        folder: Of the events.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._owner = secrets.randbits(62)
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._handle = -1
        self._number = 0
        self._size = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Hand an event to the system; when this returns, it survives the process.

        Raises:
            StorageFullError: there is no room; acknowledge nothing.
        """
        body = dumps((kind, fields))
        line = b"%08x %b\n" % (crc32(body), body)
        with self._lock:
            if self._handle < 0 or self._size + len(line) > self._segment_bytes:
                self._open_next()
            try:
                written = os.write(self._handle, line)
                if written != len(line):
                    os.ftruncate(self._handle, self._size)
                    raise OSError("only a part was written")
            except OSError as error:
                raise self._unwritable(error) from error
            self._size += len(line)

    def close(self) -> None:
        """Append no more; the learner may delete what it has read."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = -1

    def _open_next(self) -> None:
        import fcntl

        waiting = sum(_size(segment.path) for segment in segments(self._folder))
        if waiting > MAX_BYTES:
            raise StorageFullError(
                f"{self._folder} holds {waiting:,} bytes that nothing was learned from yet, more "
                f"than {MAX_BYTES:,}; see in the log why the learner does not go on"
            )
        path = self._folder / f"{self._owner:016x}-{self._number + 1:08d}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise self._unwritable(error) from error
        if self._handle >= 0:
            os.close(self._handle)
        self._handle, self._number, self._size = handle, self._number + 1, 0

    def _unwritable(self, error: OSError) -> StorageFullError:
        return StorageFullError(
            f"cannot write {self._folder}: {error.strerror or error}; nothing was acknowledged"
        )


class EventReader:
    """Reads the events of all processes; the learner's.

    Args:
        folder: Of the events.
        cursors: File name -> position up to which all is learned, as last published.

    Attributes:
        damaged: Lines that could not be read.
    """

    def __init__(self, folder: Path, cursors: Mapping[str, int]) -> None:
        self._folder = folder
        self._cursors = dict(cursors)
        self.damaged = 0

    @property
    def cursors(self) -> dict[str, int]:
        """Where reading has come to, to be published with what was learned."""
        return dict(self._cursors)

    def next(self, *, max_bytes: int = 1 << 18) -> list[tuple[str, dict[str, Any]]]:
        """Some events that were not read yet, in each writer's order; empty for none.

        Raises:
            BooksError: a file cannot be read.
        """
        for segment in segments(self._folder):
            name = segment.path.name
            start = self._cursors.get(name, 0)
            try:
                if segment.path.stat().st_size <= start:
                    continue
                part = read(segment.path, start, max_bytes=max_bytes)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BooksError(f"{segment.path}: {error.strerror or error}") from error
            if part.end == start:
                continue
            self._cursors[name] = part.end
            self.damaged += len(part.damaged)
            return part.rows
        return []

    def sweep(self) -> None:
        """Delete segments that were read to their end and that nobody writes to.

        To be called after their cursors were published.
        """
        for segment in segments(self._folder):
            name = segment.path.name
            start = self._cursors.get(name, 0)
            with contextlib.suppress(OSError):
                # A writer that was killed may leave half a line: it was never acknowledged.
                if _is_left(segment) and read(segment.path, start, max_bytes=1024).end == start:
                    segment.path.unlink()
        names = {segment.path.name for segment in segments(self._folder)}
        self._cursors = {name: at for name, at in self._cursors.items() if name in names}


def _is_left(segment: Segment) -> bool:
    import fcntl

    try:
        handle = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
