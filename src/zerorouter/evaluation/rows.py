"""Result rows: the only source of every table and plot.

One row is one number: what was measured (metric), of which method under which policy, on which
data set and split, with how many anchors, and how sure it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from zerorouter.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured number.

    Attributes:
        dataset: Name of the data set.
        split: ``random``, ``time``, ``family``, ``task`` or ``time+task``.
        method: Method id.
        policy: Operating point, or ``""`` where none applies.
        n_anchors: Labels per newcomer; None means all labels.
        seed: Which repetition; None for an aggregate over repetitions.
        metric: Metric id.
        value: The number; None where it could not be had, and ``note`` says why.
        ci_low: Lower end of the 95% interval; aggregated rows always have one.
        ci_high: Its upper end.
        n: Observations behind it (prompts, or cells where a metric is per cell).
        note: Reason of a missing value, or a label such as ``derived cost``.
    """

    dataset: str
    split: str
    method: str
    metric: str
    value: float | None
    policy: str = ""
    n_anchors: int | None = None
    seed: int | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        for field in ("value", "ci_low", "ci_high"):
            number = getattr(self, field)
            if number is not None and not math.isfinite(number):
                object.__setattr__(self, field, None)


FIELDS = tuple(Row.__dataclass_fields__)


def write_rows(path: Path, rows: Iterable[Row], *, append: bool = False) -> None:
    """Write rows as JSON lines, in the documented order of fields."""
    with path.open("a" if append else "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n")


def read_rows(path: Path) -> Iterator[Row]:
    """Read rows back.

    Raises:
        DataError: a line is not a row; its number is named.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield Row(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {number}: not a result row: {error}") from error
