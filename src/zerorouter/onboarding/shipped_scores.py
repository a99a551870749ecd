"""The score model that ships, in the coordinates of a space.

``assets/scores`` holds loadings, offsets and variances (`published.ScoreModel`) and no score;
``scripts/build_scores.py`` makes it after every fit of the shipped space. Loadings are told in the
coordinates of the space they were fitted in; in any other space only benchmarks that have
calibrated items there can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from zerorouter.arrays import IntArray
from zerorouter.artifacts import load_folder, save_folder
from zerorouter.errors import CorruptArtifactError
from zerorouter.known_items import load_known_items
from zerorouter.onboarding.benchmarks import load_benchmarks
from zerorouter.onboarding.published import Link, ScoreModel, sample_of_items
from zerorouter.space import LatentSpace

FORMAT = "zerorouter-scores"
FORMAT_VERSION = 1
_ARRAYS = ("loading", "offset", "uncertainty", "variance", "n_models")


def save_scores(
    model: ScoreModel, folder: Path, *, space_version: str, provenance: Mapping[str, Any]
) -> None:
    """Write a score model, its links left out: they are found anew in each space.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    save_folder(
        folder,
        format_name=FORMAT,
        format_version=FORMAT_VERSION,
        arrays={name: getattr(model, name).astype(np.float32) for name in _ARRAYS},
        facts={
            "benchmarks": list(model.benchmarks),
            "shared_variance": round(model.shared_variance, 6),
            "space": space_version,
            "provenance": dict(provenance),
        },
    )


def load_scores(folder: Path) -> tuple[ScoreModel, str]:
    """A score model without links, and the version of the space that it was fitted in.

    Raises:
        ArtifactError: it is missing, damaged, or of a later version.
    """
    arrays, facts = load_folder(folder, format_name=FORMAT, newest_version=FORMAT_VERSION)
    try:
        figures: dict[str, Any] = {name: arrays[name].astype(np.float64) for name in _ARRAYS}
        model = ScoreModel(
            benchmarks=tuple(facts["benchmarks"]),
            shared_variance=float(facts["shared_variance"]),
            **figures,
        )
        return model, str(facts["space"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArtifactError(
            f"{folder} is incomplete ({type(error).__name__}: {error}); install ZeroRouter anew"
        ) from error


@cache
def _shipped() -> tuple[ScoreModel, str]:
    with resources.as_file(resources.files("zerorouter") / "assets" / "scores") as folder:
        return load_scores(folder)


@lru_cache(maxsize=4)
def score_model(space: LatentSpace) -> ScoreModel:
    """What published scores say in a space.

    Raises:
        ArtifactError: the shipped score model cannot be read.
    """
    model, version = _shipped()
    links = links_in(space)
    unlinked = load_benchmarks().links.keys() - links.keys()
    readable = [
        name in links or (version == space.version and name not in unlinked)
        for name in model.benchmarks
    ]
    return model.restricted(readable, links)


def links_in(space: LatentSpace) -> dict[str, Link]:
    """Benchmarks with calibrated items in a space, by the reviewed table."""
    found = {}
    for benchmark, link in load_benchmarks().links.items():
        at = benchmark_items(space, link.tasks)
        if len(at):
            items = sample_of_items(space.calibrated.items, at)
            found[benchmark] = Link(items=items, offset_sd=link.alike)
    return found


def benchmark_items(space: LatentSpace, tasks: Sequence[str]) -> IntArray:
    """Positions in ``space.calibrated`` of the items of tasks.

    Args:
        space: The space.
        tasks: Patterns of task names of the table of known items.
    """
    known = load_known_items()
    wanted = np.array(
        [any(fnmatchcase(task.name, pattern) for pattern in tasks) for task in known.tasks]
    )
    prefixes = known.prefix[wanted[known.task]]
    return np.flatnonzero(np.isin(space.calibrated.digests[:, 0], prefixes))
