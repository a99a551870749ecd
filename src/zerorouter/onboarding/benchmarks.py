"""Names of benchmarks: the reviewed table of links and spellings, and tables of published scores.

The table (``assets/benchmarks.yaml``) says which calibrated items stand for a benchmark and which
spellings mean the same one.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from zerorouter.errors import CorruptArtifactError, DataError, InputError, nearest_name
from zerorouter.linking import AliasTable
from zerorouter.onboarding.published import ScoreMatrix

PUBLISHED_FOLDER = "catalog"
PUBLISHED_FILE = "published_scores.csv"


@dataclass(frozen=True, kw_only=True)
class TaskLink:
    """Which calibrated items stand for a benchmark.

    Attributes:
        tasks: Patterns of ``data set/task``.
        alike: See `published.Link.offset_sd`.
    """

    tasks: tuple[str, ...]
    alike: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkTable:
    """The reviewed table.

    Attributes:
        links: By benchmark.
        synonyms: Other spelling -> benchmark.
    """

    links: Mapping[str, TaskLink]
    synonyms: Mapping[str, str]

    def canonical(self, name: str) -> str:
        """The benchmark that a spelling means: lower case, dashes, synonyms resolved.

        >>> load_benchmarks().canonical("MMLU_Pro"), load_benchmarks().canonical("GSM-8K")
        ('mmlu-pro', 'gsm8k')
        """
        spelled = "-".join(name.strip().lower().replace("_", "-").split())
        return self.synonyms.get(spelled, spelled)


@cache
def load_benchmarks() -> BenchmarkTable:
    """The table the package ships."""
    import yaml

    path = Path(__file__).parent.parent / "assets" / "benchmarks.yaml"
    try:
        table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return BenchmarkTable(
            links={
                name: TaskLink(tasks=tuple(row["tasks"]), alike=float(row["alike"]))
                for name, row in table["links"].items()
            },
            synonyms=dict(table["synonyms"]),
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise CorruptArtifactError(
            f"{path}: the table of benchmarks cannot be read ({error}); install ZeroRouter anew"
        ) from error


def checked_scores(told: Iterable[tuple[str, float]], known: Iterable[str]) -> dict[str, float]:
    """Scores that a user tells, by benchmark.

    Args:
        told: Names and scores as they were written.
        known: Benchmarks that can be read.

    Raises:
        InputError: a benchmark is not known (the nearest is suggested) or named twice, or a score
            is no number from 0 to 1.
    """
    table, names = load_benchmarks(), sorted(known)
    found: dict[str, float] = {}
    spelled: dict[str, str] = {}
    for name, value in told:
        benchmark = table.canonical(name)
        if benchmark not in names:
            near = nearest_name(benchmark, [*names, *table.synonyms])
            hint = "" if near is None else f"; did you mean {table.canonical(near)!r}?"
            raise InputError(
                f"unknown benchmark {name!r}{hint or ';'} known here: {', '.join(names)}"
            )
        if benchmark in found:
            raise InputError(
                f"{name} and {spelled[benchmark]} are one benchmark, and it has two scores, "
                f"{found[benchmark]:g} and {value:g}; tell one of them"
            )
        if math.isnan(value) or not 0 <= value <= 1:
            hint = f"; did you mean {name}={value / 100:g}?" if 1 < value <= 100 else ""
            raise InputError(f"{name} is {value:g}; wanted a score from 0 to 1{hint}")
        found[benchmark], spelled[benchmark] = float(value), name
    return found


# -- tables of published scores ------------------------------------------------------------------


def published_beside(folder: Path) -> Path | None:
    """The table of published scores that goes with a folder of records: in it, or beside it."""
    for place in (folder, folder.resolve().parent / PUBLISHED_FOLDER):
        if (path := place / PUBLISHED_FILE).is_file():
            return path
    return None


def read_published(path: Path, aliases: AliasTable) -> ScoreMatrix:
    """A table of published scores: ``model_id, benchmark_id, normalized_score`` (or ``score``).

    Models are named as the space names them. Of a benchmark that stands under two spellings the
    first score holds.

    Raises:
        DataError: a column is missing, or a score is no number from 0 to 1; file and row are named.
    """
    table = load_benchmarks()
    found: dict[tuple[str, str], float] = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or []
            column = "normalized_score" if "normalized_score" in columns else "score"
            for wanted in ("model_id", "benchmark_id", column):
                if wanted not in columns:
                    raise DataError(f"{path}: there is no column {wanted!r}")
            for row in reader:
                if not row[column]:
                    continue
                score = _score(row[column], f"{path}, line {reader.line_num}")
                model = aliases.canonical("catalog", row["model_id"]).id
                found.setdefault((model, table.canonical(row["benchmark_id"])), score)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    models = tuple(sorted({model for model, _ in found}))
    benchmarks = tuple(sorted({benchmark for _, benchmark in found}))
    scores = np.full((len(models), len(benchmarks)), np.nan)
    row_of = {name: i for i, name in enumerate(models)}
    column_of = {name: i for i, name in enumerate(benchmarks)}
    for (model, benchmark), score in found.items():
        scores[row_of[model], column_of[benchmark]] = score
    return ScoreMatrix(models=models, benchmarks=benchmarks, scores=scores)


def _score(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"{where}: the score is {text!r}; wanted a number from 0 to 1")
    return value
