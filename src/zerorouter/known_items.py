"""Where calibrated items come from, without their text: benchmark, task, and how to make them anew.

A space knows its items by the hash of their question alone. This table, shipped beside it,
tells of a hash its data set and task, so that expectations can be told per benchmark and domain,
and of the items that the PyPI package ``reasoning-gym`` generates again, generator, settings,
seed and place. It holds no text and no parameters: a refitted space needs no new table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import IntArray
from zerorouter.artifacts import load_folder, save_folder
from zerorouter.errors import CorruptArtifactError
from zerorouter.predict.domains import domain_of_task

FORMAT = "zerorouter-known-items"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What is known of the items of one task.

    Attributes:
        name: ``data set/task``.
        log_length: Mean predicted log length of answers, as `PromptReadings.log_length`.
        generator: Name of the reasoning-gym generator; empty for other tasks.
        settings: Its settings.
        seed: The seed its calibrated items were made with.
        size: How many items that data set held.
    """

    name: str
    log_length: float
    generator: str = ""
    settings: Mapping[str, Any] | None = None
    seed: int = 0
    size: int = 0

    @property
    def dataset(self) -> str:
        """The data set."""
        return self.name.partition("/")[0]

    @property
    def domain(self) -> str:
        """A name of `predict.domains.DOMAINS`."""
        return domain_of_task(self.name.partition("/")[2])


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownItems:
    """The table; rows are sorted by ``prefix``.

    Attributes:
        prefix: (N,) uint64, the first 64 bits of each question's digest.
        task: (N,) position in ``tasks``.
        place: (N,) place of the item in its generated data set; -1 where it cannot be made anew.
        chars: (N,) characters of the question.
        tasks: The tasks.
        package: Version of reasoning-gym with which the places hold.
        provenance: Sources and attributions.
    """

    prefix: NDArray[np.uint64]
    task: IntArray
    place: IntArray
    chars: IntArray
    tasks: tuple[TaskFacts, ...]
    package: str
    provenance: Mapping[str, Any]

    def find(self, digests: NDArray[np.uint64]) -> IntArray:
        """Rows of digests (N, 2); -1 where a digest is not in the table."""
        return positions(self.prefix, digests[:, 0])

    def save(self, folder: Path) -> None:
        """Write the table to a folder."""
        save_folder(
            folder,
            format_name=FORMAT,
            format_version=FORMAT_VERSION,
            arrays={
                "prefix": self.prefix.astype(np.uint64),
                "task": self.task.astype(np.uint16),
                "place": self.place.astype(np.int16),
                "chars": np.minimum(self.chars, 65_535).astype(np.uint16),
            },
            facts={
                "package": self.package,
                "provenance": dict(self.provenance),
                "tasks": [
                    {k: v for k, v in vars(task).items() if v not in ("", None, 0)}
                    for task in self.tasks
                ],
            },
        )

    @classmethod
    def load(cls, folder: Path) -> KnownItems:
        """Read a table.

        Raises:
            ArtifactError: it is missing, damaged, or of a later version.
        """
        arrays, facts = load_folder(folder, format_name=FORMAT, newest_version=FORMAT_VERSION)
        try:
            return cls(
                prefix=arrays["prefix"],
                task=arrays["task"].astype(np.int64),
                place=arrays["place"].astype(np.int64),
                chars=arrays["chars"].astype(np.int64),
                tasks=tuple(TaskFacts(**row) for row in facts["tasks"]),
                package=str(facts["package"]),
                provenance=dict(facts["provenance"]),
            )
        except (KeyError, TypeError) as error:
            raise CorruptArtifactError(
                f"{folder} is incomplete ({type(error).__name__}: {error}); install ZeroRouter anew"
            ) from error


@cache
def load_known_items() -> KnownItems:
    """The table the package ships."""
    with resources.as_file(resources.files("zerorouter") / "assets" / "anchors") as folder:
        return KnownItems.load(folder)


def positions(known: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> IntArray:
    """Where each of ``wanted`` (N,) stands in sorted ``known`` (R,); -1 where it does not."""
    if len(known) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)
