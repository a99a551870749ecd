"""Assignments as files that appear whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from zerorouter.errors import InputError, require_extra

COLUMNS = ("prompt_id", "model", "p_correct", "cost_usd", "latency_s")
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".parquet")


class Sink(Protocol):
    """Takes rows in order."""

    def write(
        self,
        prompt_ids: Sequence[str],
        models: Sequence[str],
        p_correct: Sequence[float],
        cost_usd: Sequence[float],
        latency_s: Sequence[float | None],
    ) -> None:
        """Append some rows."""


def check_place(path: Path, source: Path | None = None) -> None:
    """Refuse a place that an assignment could not be written to; asked before hours of work.

    Args:
        path: Where the file is to appear.
        source: The file of prompts, which must not be replaced.

    Raises:
        InputError: the kind is unknown, or something stands in the way.
        MissingExtraError: it is a Parquet file and pyarrow is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path} is of the kind {path.suffix or '(none)'}; .jsonl, .csv or .parquet is wanted"
        )
    if path.suffix.lower() == ".parquet":
        require_extra("pyarrow", "fit", "writing Parquet files")
    if path.is_dir():
        raise InputError(f"{path} is a folder; the name of a file is wanted")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {path}: {folder} may not be written to")
    if source is not None and path.exists() and path.samefile(source):
        raise InputError(f"{path} holds the prompts; name another file for the assignment")


@contextmanager
def whole_file(path: Path) -> Iterator[Sink]:
    """A sink whose file takes its place once the block ends well, and is removed otherwise.

    Raises:
        InputError: the file cannot be written, for instance because the disk is full.
    """
    check_place(path)
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        with fresh.open("xb") as file:
            sink = _sink(path.suffix.lower(), file)
            try:
                yield sink
            except BaseException:
                sink.abandon()
                raise
            sink.finish()
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _sink(suffix: str, file: IO[bytes]) -> _Jsonl | _Csv | _Parquet:
    if suffix == ".csv":
        return _Csv(file)
    return _Parquet(file) if suffix == ".parquet" else _Jsonl(file)


class _Jsonl:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, *columns: Sequence[Any]) -> None:
        """Append some rows."""
        lines = [
            json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False)
            for row in zip(*columns, strict=True)
        ]
        if lines:
            self._file.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))

    def finish(self) -> None:
        """Nothing is left to write."""

    def abandon(self) -> None:
        """Nothing is held."""


class _Csv:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._rows([COLUMNS])

    def _rows(self, rows: Sequence[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))

    def write(self, *columns: Sequence[Any]) -> None:
        """Append some rows."""
        self._rows([["" if v is None else v for v in row] for row in zip(*columns, strict=True)])

    def finish(self) -> None:
        """Nothing is left to write."""

    def abandon(self) -> None:
        """Nothing is held."""


class _Parquet:
    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        texts = [(name, pa.string()) for name in COLUMNS[:2]]
        self._schema = pa.schema(texts + [(name, pa.float64()) for name in COLUMNS[2:]])
        self._writer = ParquetWriter(file, self._schema, compression="zstd")

    def write(self, *columns: Sequence[Any]) -> None:
        """Append some rows."""
        import pyarrow as pa

        arrays = [
            pa.array(list(column), type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.table(arrays, schema=self._schema))

    def finish(self) -> None:
        """Write the footer."""
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file."""
        with suppress(Exception):  # whatever went wrong before is what is told
            self._writer.close()
