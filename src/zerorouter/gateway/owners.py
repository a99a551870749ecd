"""Who is alive: each process that keeps books holds the lock of a file of its own.

The system drops the lock however the process ends, so a file that can be locked belonged to one
that is gone, and what that one left open may be taken over. All of it happens under one lock of
the folder (`exclusive`), so that two processes never take over the same remains and a file that
was just made is never mistaken for an orphan.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zerorouter.paths import home_dir


def books_dir() -> Path:
    """Where the gateway keeps its books: ``gateway`` in the state folder."""
    return home_dir() / "gateway"


@contextmanager
def exclusive(folder: Path, name: str = "books.lock") -> Iterator[None]:
    """Hold a lock of the folder; waits until it is free."""
    import fcntl

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Owner:
    """This process among those that keep books in a folder. Make it under `exclusive`.

    Attributes:
        id: A random number that names it, below 2**62.
    """

    def __init__(self, folder: Path) -> None:
        import fcntl

        self.id = secrets.randbits(62)
        self._path = folder / owner_file(self.id)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def close(self) -> None:
        """Leave, with nothing open behind."""
        if self._handle >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1

    def abandon(self) -> None:
        """Leave with something open behind: the file stays and says so."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def owner_file(owner: int) -> str:
    """The name of an owner's file."""
    return f"{owner:016x}.owner"


def owners(folder: Path) -> dict[int, bool]:
    """Every owner that left a file, and whether it is alive. To be called under `exclusive`."""
    return {int(path.stem, 16): _is_held(path) for path in folder.glob("*.owner")}


def forget(folder: Path, owner: int) -> None:
    """Remove the file of a dead owner, all it left having been taken over."""
    (folder / owner_file(owner)).unlink(missing_ok=True)


def _is_held(path: Path) -> bool:
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # it left just now, in order
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
