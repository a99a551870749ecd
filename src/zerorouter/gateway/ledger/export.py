"""The ledger as one file: Parquet, CSV or JSON lines, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from zerorouter.errors import InputError, StorageFullError, require_extra
from zerorouter.gateway.budgets import to_usd
from zerorouter.gateway.ledger.store import Store

Rows = Iterator[list[dict[str, Any]]]
Column = tuple[str, type]


def export(
    store: Store, path: Path, *, table: str = "requests", since: str = "", until: str = ""
) -> int:
    """Write a table of the ledger; returns how many rows.

    Each amount ``x_nusd`` has a column ``x_usd`` beside it. In Parquet, instants ``x_ns`` have a
    column ``x_at`` of timestamps in UTC.

    Args:
        store: The ledger's database.
        path: Ending in ``.parquet``, ``.csv`` or ``.jsonl``. An existing file is replaced.
        table: ``requests``, ``attempts``, ``feedback``, ``admin`` or ``daily``.
        since: First day, ``YYYY-MM-DD``, in UTC; empty for all.
        until: Last day; empty for all.

    Raises:
        InputError: no such table, no date, or another ending.
        MissingExtraError: Parquet is wanted and pyarrow is not installed.
        StorageFullError: the file cannot be written; what stood there before still does.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InputError(f"{path}: cannot export to {path.suffix!r}; .parquet, .csv and .jsonl can")
    columns = store.columns(table)
    rows = store.rows(table, since=since, until=until)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        n_rows = write(partial, columns, rows)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise StorageFullError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return n_rows


def _in_dollars(columns: list[Column]) -> dict[str, str]:
    """Names of the amounts, with those of their columns in dollars."""
    return {name: f"{name.removesuffix('_nusd')}_usd" for name, _ in columns if "_nusd" in name}


def _plain(columns: list[Column], rows: Rows) -> Iterator[dict[str, Any]]:
    amounts = _in_dollars(columns)
    for part in rows:
        for row in part:
            for nusd, usd in amounts.items():
                row[usd] = None if row[nusd] is None else to_usd(row[nusd])
            yield row


def _write_jsonl(path: Path, columns: list[Column], rows: Rows) -> int:
    n_rows = 0
    with path.open("x", encoding="utf-8") as file:
        for row in _plain(columns, rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            n_rows += 1
    return n_rows


def _write_csv(path: Path, columns: list[Column], rows: Rows) -> int:
    n_rows = 0
    names = [name for name, _ in columns] + list(_in_dollars(columns).values())
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in _plain(columns, rows):
            writer.writerow(row)
            n_rows += 1
    return n_rows


def _write_parquet(path: Path, columns: list[Column], rows: Rows) -> int:
    require_extra("pyarrow", "fit", "writing Parquet files")
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    fields = [(name, kinds[kind]) for name, kind in columns]
    fields += [(usd, pa.float64()) for usd in _in_dollars(columns).values()]
    instants = [name for name, _ in columns if name.endswith("_ns")]
    moment = pa.timestamp("ns", tz="UTC")
    schema = pa.schema(fields + [(f"{name.removesuffix('_ns')}_at", moment) for name in instants])
    n_rows = 0
    with ParquetWriter(path, schema, compression="zstd") as writer:
        for part in rows:
            found = list(_plain(columns, iter([part])))
            for row in found:
                for name in instants:
                    row[f"{name.removesuffix('_ns')}_at"] = row[name]
            writer.write_table(pa.Table.from_pylist(found, schema=schema))
            n_rows += len(found)
    return n_rows


_WRITERS: Final[dict[str, Callable[[Path, list[Column], Rows], int]]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
