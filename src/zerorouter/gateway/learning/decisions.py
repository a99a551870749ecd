"""Decisions remembered for the scores that may follow: a bounded file per worker.

A decision is some 470 bytes: the item parameters of its prompt, its similarity to the prototypes
nearby, who answered and whose key asked. No text, and nothing that a text could be made from but
its rough topic. The latest `CAPACITY` of each worker are kept; older ones are written over, and a
score for one of those is a clear 404.

Files are found by all workers, so a score may come to any of them, and they outlive a SIGKILL.
Records go out by ``pwrite``; only the ids and the scores are mapped (12 bytes a decision), so that
what is remembered costs next to no memory::

    remembered-000.bin   header | position | ids (N, uint64) | scores (N, float32) | records
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zerorouter.errors import BooksError, StorageFullError
from zerorouter.gateway.owners import exclusive
from zerorouter.learning import ItemReading
from zerorouter.predict.items import PromptReadings
from zerorouter.space import SHIFT_REACH

CAPACITY: Final = 131_072
_HEADER: Final = 512
_POSITION: Final = struct.Struct("<Q")
_MOST_FILES: Final = 256
_ID_BYTES: Final = 12
_HEAD: Final = struct.Struct(f"<{_ID_BYTES}s6s32sd")  # id, key, model's digest, when
_SCALARS: Final = 4  # intercept, guessing, effect scale, shift variance
_COSINE: Final = np.float32(127.0)
_REACH: Final = _COSINE * (SHIFT_REACH + np.float32(0.01))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The shape of a record; another one makes a file unreadable, and it is begun anew.

    Attributes:
        space: Version of the space.
        n_dims: K.
        n_facets: R, 0 for none.
        n_prototypes: P.
        capacity: Decisions a file holds.
    """

    space: str
    n_dims: int
    n_facets: int
    n_prototypes: int
    capacity: int = CAPACITY

    @property
    def record_bytes(self) -> int:
        """Of a record."""
        numbers = 4 * (self.n_dims + _SCALARS) + 2 * self.n_facets + self.n_prototypes
        return _HEAD.size + numbers

    @property
    def mapped_bytes(self) -> int:
        """Of what stands before the records."""
        return _HEADER + _POSITION.size + 12 * self.capacity

    def header(self) -> bytes:
        """As it stands at the start of a file."""
        told = json.dumps(
            {
                "format": "zerorouter-decisions",
                "version": 1,
                "space": self.space,
                "dims": self.n_dims,
                "facets": self.n_facets,
                "prototypes": self.n_prototypes,
                "capacity": self.capacity,
            }
        ).encode()
        if len(told) > _HEADER:
            raise BooksError(f"the space's version {self.space[:40]!r}... is too long to be kept")
        return told.ljust(_HEADER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Remembered:
    """A decision that was found.

    Attributes:
        record: As it stands in the file.
        score: Given before; None for none.
        place: File and slot.
    """

    record: bytes
    score: float | None
    place: tuple[int, int]

    @property
    def key_id(self) -> str:
        """Public id of the key that asked; empty for none."""
        key: bytes = _HEAD.unpack_from(self.record)[1]
        return "" if key == bytes(6) else key.hex()

    @property
    def model_digest(self) -> bytes:
        """Of the model that answered."""
        digest: bytes = _HEAD.unpack_from(self.record)[2]
        return digest

    @property
    def at_s(self) -> float:
        """When it was decided, seconds since 1970."""
        at: float = _HEAD.unpack_from(self.record)[3]
        return at


def digest_of(model: str) -> bytes:
    """What stands for a model's name in a record."""
    return blake2b(model.encode(), digest_size=32).digest()


def item_of(record: bytes, layout: Layout) -> ItemReading:
    """The item parameters in a record.

    Raises:
        BooksError: it is of another layout.
    """
    if len(record) != layout.record_bytes:
        raise BooksError(
            f"a decision of {len(record)} bytes; {layout.record_bytes} are wanted: it was made "
            "with another space"
        )
    k, r = layout.n_dims, layout.n_facets
    numbers = np.frombuffer(record, np.float32, k + _SCALARS, _HEAD.size).astype(np.float64)
    at = _HEAD.size + 4 * (k + _SCALARS)
    facets = np.frombuffer(record, np.float16, r, at).astype(np.float64) if r else None
    cosines = np.frombuffer(record, np.int8, layout.n_prototypes, at + 2 * r)
    return ItemReading(
        discrimination=numbers[:k],
        intercept=float(numbers[k]),
        guessing=float(numbers[k + 1]),
        effect_scale=float(numbers[k + 2]),
        shift_variance=float(numbers[k + 3]),
        facets=facets,
        similarity=cosines.astype(np.float64) / float(_COSINE),
    )


class Decisions:
    """The remembered decisions of all workers; this one writes to a file of its own.

    Args:
        folder: Where the files are.
        layout: Of records.

    Raises:
        BooksError: there is no file left to take.
        StorageFullError: the file cannot be made.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.layout = layout
        self._folder = folder
        self._header = layout.header()
        self._draft = _Draft(layout)
        self._lock = threading.Lock()
        self._digests: dict[str, bytes] = {}
        self._others: dict[int, _File] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive(folder, "remembered.lock"):
            self._own = self._take()

    def remember(
        self,
        decision_id: str,
        model: str,
        readings: PromptReadings,
        row: int,
        *,
        key_id: str,
        at_s: float,
    ) -> None:
        """Keep a decision; readings have to carry similarities.

        Raises:
            OSError: the disk refuses.
        """
        items, cosines, layout = readings.items, readings.similarity, self.layout
        if cosines is None or cosines.shape[1] != layout.n_prototypes:
            return
        intercept = float(items.intercept[row])
        shift = float(items.shift_variance[row])
        if readings.moved is not None and readings.left is not None:
            intercept -= float(readings.moved[row])
            shift = float(readings.left[row])
        digest = self._digests.get(model)
        if digest is None:
            digest = digest_of(model)
            if len(self._digests) < 4_096:
                self._digests[model] = digest
        raw = bytes.fromhex(decision_id)
        with self._lock:
            draft, k = self._draft, layout.n_dims
            _HEAD.pack_into(
                draft.whole, 0, raw, bytes.fromhex(key_id) if key_id else b"", digest, at_s
            )
            numbers = draft.numbers
            numbers[:k] = items.discrimination[row]
            numbers[k] = intercept
            numbers[k + 1] = items.guessing[row]
            numbers[k + 2] = items.effect_scale[row]
            numbers[k + 3] = shift
            if layout.n_facets:
                assert items.facets is not None
                draft.facets[:] = items.facets[row]
            scaled = np.multiply(cosines[row], _COSINE, out=draft.scaled)
            # What is too far to count is not kept: all cosines together would tell the embedding.
            np.putmask(scaled, scaled < np.maximum.reduce(scaled) - _REACH, -_COSINE)
            draft.cosines[:] = draft.scaled
            self._own.append(raw, draft.whole)

    def find(self, decision_id: str) -> Remembered | None:
        """The decision of an id; None where it is not, or no longer, known."""
        try:
            raw = bytes.fromhex(decision_id)
        except ValueError:
            return None
        if len(raw) != _ID_BYTES:
            return None
        for file in self._files():
            found = file.find(raw)
            if found is not None:
                return found
        return None

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Nobody else finds and claims meanwhile."""
        with exclusive(self._folder, "claims.lock"):
            yield

    def claim(self, found: Remembered, score: float) -> None:
        """Note that a decision has its score; under `claiming`."""
        number, slot = found.place
        file = self._own if number == self._own.number else self._others[number]
        file.scores[slot] = score

    def close(self) -> None:
        """Let go of the files; what they hold stays."""
        self._own.close()
        for file in self._others.values():
            file.close()
        self._others.clear()

    def _take(self) -> _File:
        for number in range(_MOST_FILES):
            file = _File.take(self._path(number), number, self.layout, self._header)
            if file is not None:
                return file
        raise BooksError(f"{self._folder}: {_MOST_FILES} workers remember decisions already")

    def _files(self) -> Iterator[_File]:
        yield self._own
        for number in range(_MOST_FILES):
            path = self._path(number)
            if number == self._own.number:
                continue
            if not path.exists():
                return
            known = self._others.get(number)
            if known is not None and not known.holds(path):
                known.close()
                known = self._others.pop(number, None) and None
            if known is None:
                known = _File.look(path, number, self.layout, self._header)
                if known is None:
                    continue
                self._others[number] = known
            yield known

    def _path(self, number: int) -> Path:
        return self._folder / f"remembered-{number:03d}.bin"


class _Draft:
    """A record in the making, and its parts as arrays on the same memory."""

    def __init__(self, layout: Layout) -> None:
        self.whole = bytearray(layout.record_bytes)
        k, r = layout.n_dims, layout.n_facets
        self.numbers = np.frombuffer(self.whole, np.float32, k + _SCALARS, _HEAD.size)
        at = _HEAD.size + self.numbers.nbytes
        self.facets = np.frombuffer(self.whole, np.float16, r, at)
        self.cosines = np.frombuffer(self.whole, np.int8, layout.n_prototypes, at + 2 * r)
        self.scaled = np.empty(layout.n_prototypes, np.float32)


class _File:
    """One worker's decisions."""

    def __init__(self, path: Path, number: int, handle: int, layout: Layout) -> None:
        self.number = number
        self._path = path
        self._handle = handle
        self._layout = layout
        n = layout.capacity
        self._map = mmap.mmap(handle, layout.mapped_bytes)
        self._view = np.frombuffer(self._map, np.uint8)
        start = _HEADER + _POSITION.size
        self.ids: NDArray[np.uint64] = self._view[start : start + 8 * n].view(np.uint64)
        self.scores: NDArray[np.float32] = self._view[start + 8 * n : start + 12 * n].view(
            np.float32
        )

    @classmethod
    def take(cls, path: Path, number: int, layout: Layout, header: bytes) -> _File | None:
        """The file for writing; None where another process has it."""
        import fcntl

        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return None
            if os.pread(handle, _HEADER, 0) != header or (
                os.fstat(handle).st_size < layout.mapped_bytes
            ):
                # A new file in the old one's place: whoever looks at that one goes on safely.
                os.close(handle)
                return cls._anew(path, number, layout, header)
        except OSError as error:
            raise StorageFullError(
                f"cannot write {path}: {error.strerror or error}; free some space"
            ) from error
        return cls(path, number, handle, layout)

    @classmethod
    def _anew(cls, path: Path, number: int, layout: Layout, header: bytes) -> _File:
        import fcntl

        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        # What is mapped gets its room now: touching a page that the disk has none for would kill.
        os.posix_fallocate(handle, 0, layout.mapped_bytes)
        os.pwrite(handle, header, 0)
        fresh.replace(path)
        return cls(path, number, handle, layout)

    @classmethod
    def look(cls, path: Path, number: int, layout: Layout, header: bytes) -> _File | None:
        """Another worker's file, to be searched; None where it is of another layout."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        if os.pread(handle, _HEADER, 0) != header or os.fstat(handle).st_size < layout.mapped_bytes:
            os.close(handle)
            return None
        return cls(path, number, handle, layout)

    def holds(self, path: Path) -> bool:
        """Whether this is still the file at ``path``."""
        try:
            return os.fstat(self._handle).st_ino == path.stat().st_ino
        except OSError:
            return False

    def append(self, raw: bytes, record: bytearray) -> None:
        (position,) = _POSITION.unpack_from(self._map, _HEADER)
        slot = position % self._layout.capacity
        self.ids[slot] = 0
        os.pwrite(self._handle, record, self._layout.mapped_bytes + slot * len(record))
        self.scores[slot] = np.nan
        self.ids[slot] = int.from_bytes(raw[:8], "little")
        _POSITION.pack_into(self._map, _HEADER, position + 1)

    def find(self, raw: bytes) -> Remembered | None:
        size = self._layout.record_bytes
        for slot in np.flatnonzero(self.ids == int.from_bytes(raw[:8], "little")).tolist():
            record = os.pread(self._handle, size, self._layout.mapped_bytes + slot * size)
            if len(record) == size and record.startswith(raw):
                score = float(self.scores[slot])
                return Remembered(
                    record=record,
                    score=None if score != score else score,
                    place=(self.number, slot),
                )
        return None

    def close(self) -> None:
        if self._handle >= 0:
            del self.ids, self.scores, self._view
            with contextlib.suppress(BufferError):
                self._map.close()
            os.close(self._handle)
            self._handle = -1
