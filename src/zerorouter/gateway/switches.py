"""Models that an administrator has switched off: a small file that all workers read.

Such a model is served neither by routing nor by its name, until it is switched on again.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from zerorouter.errors import BooksError, StorageFullError
from zerorouter.gateway.owners import books_dir, exclusive


class Switches:
    """The file of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "switched-off.json"

    @classmethod
    def default(cls) -> Switches:
        """Under ``ZEROROUTER_HOME``."""
        return cls(books_dir())

    def off(self) -> frozenset[str]:
        """Names of the models that are switched off.

        Raises:
            BooksError: the file cannot be read.
        """
        try:
            table = json.loads(self.path.read_text(encoding="utf-8"))
            names = table["off"]
            if table["version"] != 1 or not all(isinstance(name, str) for name in names):
                raise ValueError("of another version")
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BooksError(
                f"{self.path} cannot be read ({type(error).__name__}: {error}); remove it to "
                "switch all models on"
            ) from error
        return frozenset(names)

    def switch(self, model: str, *, on: bool) -> frozenset[str]:
        """Switch a model on or off; returns those that are off.

        Raises:
            BooksError: the file cannot be read.
            StorageFullError: it cannot be written.
        """
        with exclusive(self._folder, "switches.lock"):
            names = set(self.off())
            (names.discard if on else names.add)(model)
            try:
                handle, fresh = tempfile.mkstemp(prefix=".switches-", dir=self._folder)
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({"version": 1, "off": sorted(names)}, file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(fresh).replace(self.path)
            except OSError as error:
                raise StorageFullError(
                    f"cannot write {self.path}: {error.strerror or error}; nothing was changed"
                ) from error
        return frozenset(names)
