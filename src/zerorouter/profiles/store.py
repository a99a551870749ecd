"""The folder of profiles."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote

from zerorouter.errors import ArtifactError, CorruptArtifactError, InputError, UnknownNameError
from zerorouter.paths import home_dir
from zerorouter.profiles.profile import REMEDY, Profile

FOLDER = "profiles"


class ProfileStore:
    """A folder of profiles, one file per model.

    Files are written whole or not at all. `stamp` changes when any of them does, so that a
    server can tell without reading them whether to load anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> ProfileStore:
        """The store under ``ZEROROUTER_HOME``."""
        return cls(home_dir() / FOLDER)

    def path(self, name: str) -> Path:
        """Where the profile of a model stands."""
        if not name.strip():
            raise InputError("a model without a name has no profile")
        quoted = quote(name, safe=" +=,@")
        if quoted.startswith("."):  # hidden files are none of the store's
            quoted = f"%2E{quoted[1:]}"
        return self.folder / f"{quoted}.json"

    def names(self) -> tuple[str, ...]:
        """Models with a profile, sorted."""
        return tuple(sorted(unquote(path.name.removesuffix(".json")) for path in self._files()))

    def load(self, name: str) -> Profile:
        """The profile of a model.

        Raises:
            UnknownNameError: it has none.
            ArtifactError: the file cannot be read.
        """
        path = self.path(name)
        if not path.is_file():
            raise UnknownNameError("profile", name, self.names())
        return _load(path)

    def find(self, name: str) -> Profile | None:
        """The profile of a model, or None."""
        return self.load(name) if self.path(name).is_file() else None

    def load_all(self) -> tuple[Profile, ...]:
        """Every profile, by name.

        Raises:
            ArtifactError: a file cannot be read.
        """
        return tuple(_load(path) for path in self._files())

    def save(self, profile: Profile) -> Path:
        """Write a profile in the place of the model's earlier one.

        Raises:
            ArtifactError: the folder cannot be written.
        """
        path = self.path(profile.name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, fresh = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self.folder)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(profile.to_json())
                    file.flush()
                    os.fsync(file.fileno())
                Path(fresh).chmod(0o644)
                Path(fresh).replace(path)
            except BaseException:
                Path(fresh).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ArtifactError(
                f"cannot write {path}: {error.strerror or error}; free some space, or choose "
                "another folder with ZEROROUTER_HOME"
            ) from error
        return path

    def remove(self, name: str) -> None:
        """Delete a model's profile.

        Raises:
            UnknownNameError: it has none.
        """
        path = self.path(name)
        if not path.is_file():
            raise UnknownNameError("profile", name, self.names())
        path.unlink()

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Names, times and sizes of the files."""
        facts = [(path.name, path.stat()) for path in self._files()]
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in facts)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.suffix == ".json" and not path.name.startswith(".")
        )


def _load(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptArtifactError(f"{path} cannot be read: {error}; {REMEDY}") from error
    return Profile.from_json(text, where=str(path))
