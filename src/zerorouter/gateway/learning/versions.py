"""Versions of what was learned, on disk: published whole or not at all, listed, gone back to.

    learned/current.json            what is in force
    learned/versions/00000042.json  the same, kept

Kept are the latest `LATEST`, then the last of each hour of a day, then the last of each day of a
month.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zerorouter.errors import CorruptArtifactError, StorageFullError, UnknownNameError
from zerorouter.learning import LearnedState, from_dict, to_dict

LATEST: Final = 10
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_DAYS: Final = 30


@dataclass(frozen=True, kw_only=True)
class Published:
    """A version as it stands on disk.

    Attributes:
        state: What was learned.
        at_s: When it was published, seconds since 1970.
        cursors: How far the events were read.
        recent: Decisions that were learned from last.
    """

    state: LearnedState
    at_s: float
    cursors: Mapping[str, int]
    recent: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The file's text."""
        table = {
            "at_s": self.at_s,
            "cursors": dict(self.cursors),
            "recent": list(self.recent),
            "learned": to_dict(self.state),
        }
        return json.dumps(table, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Published:
        """A version from its text.

        Raises:
            CorruptArtifactError: it is damaged.
        """
        try:
            table: dict[str, Any] = json.loads(text)
            return cls(
                state=from_dict(table["learned"], where=where),
                at_s=float(table["at_s"]),
                cursors={str(name): int(at) for name, at in table["cursors"].items()},
                recent=tuple(str(one) for one in table["recent"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptArtifactError(
                f"{where} is damaged ({type(error).__name__}: {error}); remove it, or go back to "
                "an earlier version"
            ) from error


class Versions:
    """The versions in a folder. One process writes at a time: the learner's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._current = folder / "current.json"
        self._kept = folder / "versions"

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes when another version is in force; None where there is none."""
        try:
            stat = self._current.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def current(self) -> Published | None:
        """What is in force; None where nothing was learned yet.

        Raises:
            CorruptArtifactError: it is damaged.
        """
        try:
            text = self._current.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptArtifactError(f"{self._current} cannot be read: {error}") from error
        return Published.from_json(text, where=str(self._current))

    def latest(self) -> tuple[Published | None, list[str]]:
        """What is in force, or the last version that can be read; and what was wrong."""
        wrong = []
        try:
            found = self.current()
        except CorruptArtifactError as error:
            wrong.append(str(error))
            found = None
        if found is None:
            for number in reversed(self.numbers()):
                try:
                    return self.load(number), wrong
                except CorruptArtifactError as error:
                    wrong.append(str(error))
        return found, wrong

    def numbers(self) -> tuple[int, ...]:
        """Versions that are kept, rising."""
        try:
            names = [path.stem for path in self._kept.iterdir() if path.suffix == ".json"]
        except OSError:
            return ()
        return tuple(sorted(int(name) for name in names if name.isdigit()))

    def load(self, number: int) -> Published:
        """A version that is kept.

        Raises:
            UnknownNameError: it is not kept.
            CorruptArtifactError: it is damaged.
        """
        path = self._path(number)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnknownNameError(
                "version", str(number), [str(n) for n in self.numbers()]
            ) from error
        return Published.from_json(text, where=str(path))

    def listed(self) -> list[dict[str, Any]]:
        """Each kept version in a few words, the latest first."""
        out: list[dict[str, Any]] = []
        for number in reversed(self.numbers()):
            try:
                found = self.load(number)
            except (CorruptArtifactError, UnknownNameError):
                out.append({"version": number, "damaged": True})
                continue
            state = found.state
            out.append(
                {
                    "version": number,
                    "at_s": round(found.at_s, 3),
                    "space": state.space_version,
                    "scores": state.n_scores,
                    "models": len(state.models),
                    "drifted": sorted(state.drifted),
                    "note": state.note,
                }
            )
        return out

    def publish(self, published: Published) -> None:
        """Put a version in force and keep it.

        Raises:
            StorageFullError: it cannot be written; the one before stays in force.
        """
        text = published.to_json()
        try:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._path(published.state.version), text)
            _write(self._current, text)
        except OSError as error:
            raise StorageFullError(
                f"cannot write {self.folder}: {error.strerror or error}; free some space, "
                "learning goes on by itself"
            ) from error
        self._prune(published.at_s)

    def _prune(self, now_s: float) -> None:
        numbers = self.numbers()
        seen: set[tuple[str, int]] = set()
        for number in reversed(numbers[:-LATEST]):
            path = self._path(number)
            with contextlib.suppress(OSError):
                at = path.stat().st_mtime
                age = now_s - at
                span = ("h", int(at // _HOUR_S)) if age < _DAY_S else ("d", int(at // _DAY_S))
                if span in seen or age > _DAYS * _DAY_S:
                    path.unlink()
                seen.add(span)

    def _path(self, number: int) -> Path:
        return self._kept / f"{number:08d}.json"


def _write(path: Path, text: str) -> None:
    handle, fresh = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
