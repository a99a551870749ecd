"""Raw tables with one face over Parquet, JSONL and CSV, and the words of their errors.

A `Table` hands out whole columns, already of the right type, and knows how to name a row, so
that checks above it are vectorised and still say where a fault lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.errors import DataError, nearest_name

ENCODINGS = ("parquet", "jsonl", "csv")


class Table(Protocol):
    """Columns of one file. Rows are counted from 0 here and named from 1 in messages."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def n_rows(self) -> int:
        """How many rows it has."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it has."""

    def where(self, row: int) -> str:
        """A row in words: ``row 7`` (data rows count from 1) or ``line 7`` of a JSONL file."""

    def texts(self, name: str) -> list[str | None]:
        """A text column; None where it is null. DataError where a value is no text."""

    def codes(self, name: str) -> tuple[IntArray, tuple[str, ...]]:
        """A text column as int32 codes (n_rows,), -1 for null, into its distinct values."""

    def numbers(self, name: str) -> Float64Array:
        """A numeric column (n_rows,), NaN for null. DataError where a value is no number."""


def fault(
    path: Path,
    *,
    found: str,
    wanted: str,
    todo: str,
    where: str | None = None,
    column: str | None = None,
) -> DataError:
    """The error for one fault: place, what was found, what was wanted, what to do."""
    place = [str(path)]
    if where is not None:
        place.append(where)
    if column is not None:
        place.append(f"column {column!r}")
    return DataError(f"{', '.join(place)}: found {found}; wanted {wanted}; {todo}")


def shown(value: object) -> str:
    """``value`` as a message shows it: short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def and_more(n_bad: int) -> str:
    """A remark for a message that names only the first of ``n_bad`` rows."""
    return f" (and {n_bad - 1:,} more rows like it)" if n_bad > 1 else ""


def require_columns(table: Table, required: Iterable[str]) -> None:
    """Raise `DataError` unless ``table`` has every one of ``required``."""
    for name in required:
        if name in table.names:
            continue
        near = nearest_name(name, table.names)
        advice = f"rename the column {near!r}" if near else "add the column"
        raise fault(
            table.path,
            column=name,
            found=f"the columns {', '.join(table.names) or '(none)'}",
            wanted=f"a column {name!r}",
            todo=advice,
        )


def optional_texts(table: Table, name: str) -> list[str | None]:
    """A text column, or all None where the table has none of that name."""
    return table.texts(name) if name in table.names else [None] * table.n_rows


def optional_amounts(table: Table, name: str) -> Float64Array:
    """A numeric column (n_rows,) of finite values from 0 up; all NaN where it is absent."""
    if name not in table.names:
        return np.full(table.n_rows, np.nan)
    values = table.numbers(name)
    check_rows(
        table,
        name,
        (values < 0) | np.isinf(values),
        values.tolist,
        wanted="a finite number from 0 up, or nothing where it is not known",
        todo="correct the value or leave it out",
    )
    return values


def required_texts(table: Table, name: str) -> list[str]:
    """A text column that may be neither null nor blank."""
    values = table.texts(name)
    return [_not_blank(table, name, row, value) for row, value in enumerate(values)]


def required_codes(table: Table, name: str) -> tuple[IntArray, tuple[str, ...]]:
    """A coded text column that may be neither null nor blank."""
    codes, values = table.codes(name)
    blank = np.array([not value.strip() for value in values] + [True])  # the last is for -1
    for row in np.flatnonzero(blank[codes])[:1].tolist():
        _not_blank(table, name, row, values[codes[row]] if codes[row] >= 0 else None)
    return codes, values


class _Listing(Protocol):
    def __call__(self) -> Sequence[object]: ...


def check_rows(
    table: Table, name: str, bad: BoolArray, values: _Listing, *, wanted: str, todo: str
) -> None:
    """Raise `DataError` for the first row where ``bad`` (n_rows,) holds.

    ``values`` is called only then, for the values to show.
    """
    rows = np.flatnonzero(bad)
    if len(rows):
        row = int(rows[0])
        raise fault(
            table.path,
            where=table.where(row),
            column=name,
            found=shown(values()[row]) + and_more(len(rows)),
            wanted=wanted,
            todo=todo,
        )


def _not_blank(table: Table, name: str, row: int, value: str | None) -> str:
    if value is None or not value.strip():
        raise fault(
            table.path,
            where=table.where(row),
            column=name,
            found="nothing" if value is None else f"the blank text {shown(value)}",
            wanted="a text",
            todo="fill it in or remove the row",
        )
    return value
