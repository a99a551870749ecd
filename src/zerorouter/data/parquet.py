"""Parquet files as tables; the only module of the data layer that imports pyarrow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import Float32Array, FloatArray, IntArray
from zerorouter.data.tables import fault
from zerorouter.errors import DataError, require_extra

_TEXT_TYPES = ("string", "large_string", "string_view")


class ParquetTable:
    """A `zerorouter.data.tables.Table` over an Arrow table."""

    def __init__(self, path: Path, table: Any) -> None:
        self.path = path
        self.names: tuple[str, ...] = tuple(table.column_names)
        self.n_rows: int = table.num_rows
        self._table = table

    def where(self, row: int) -> str:
        """``row 1`` is the first."""
        return f"row {row + 1}"

    def texts(self, name: str) -> list[str | None]:
        """A text column; None where it is null."""
        self._require_text(name)
        column = self._table.column(name)
        try:
            values: list[str | None] = column.to_pylist()
        except UnicodeDecodeError:
            raise self._not_utf8(name, column) from None
        return values

    def codes(self, name: str) -> tuple[IntArray, tuple[str, ...]]:
        """A text column as int32 codes (n_rows,), -1 for null, into its distinct values."""
        import pyarrow as pa

        self._require_text(name)
        column = self._table.column(name)
        if pa.types.is_null(column.type):
            return np.full(self.n_rows, -1, dtype=np.int32), ()
        if not pa.types.is_dictionary(column.type):
            column = column.cast(pa.large_string()).dictionary_encode()
        if column.num_chunks == 0:
            return np.zeros(0, dtype=np.int32), ()
        # One dictionary for all chunks makes the codes comparable between them.
        encoded = column.unify_dictionaries()
        dictionary = encoded.chunk(0).dictionary
        try:
            values: list[str | None] = dictionary.to_pylist()
        except UnicodeDecodeError:
            raise self._not_utf8(name, column) from None
        codes = np.concatenate(
            [
                chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
                for chunk in encoded.chunks
            ]
        )
        return _distinct(codes, values)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A numeric column (n_rows,), NaN for null."""
        import pyarrow as pa

        column = self._table.column(name)
        kind = column.type
        if pa.types.is_null(kind):
            return np.full(self.n_rows, np.nan)
        if not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        ):
            raise self._wrong_type(name, "numbers")
        # safe=False: counts beyond 2**53 lose digits rather than fail.
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
        return values

    def _require_text(self, name: str) -> None:
        import pyarrow as pa

        kind = self._table.column(name).type
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not pa.types.is_null(kind) and str(inner) not in _TEXT_TYPES:
            raise self._wrong_type(name, "texts")

    def _wrong_type(self, name: str, wanted: str) -> Exception:
        return fault(
            self.path,
            column=name,
            found=f"values of the Parquet type {self._table.column(name).type}, from row 1 on",
            wanted=wanted,
            todo="convert the column when writing the file",
        )

    def _not_utf8(self, name: str, column: Any) -> Exception:
        row = next((i for i in range(len(column)) if not _readable(column[i])), 0)
        return fault(
            self.path,
            where=self.where(row),
            column=name,
            found="bytes that are not UTF-8",
            wanted="UTF-8 text",
            todo="convert the text when writing the file",
        )


def read_parquet(path: Path, wanted: Collection[str], coded: Collection[str]) -> ParquetTable:
    """Read the ``wanted`` columns of a file, those ``coded`` straight into dictionaries.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: The file is no Parquet file, or damaged.
    """
    require_extra("pyarrow", "fit", "reading Parquet files")
    import pyarrow as pa

    # ParquetFile rather than read_table, which imports the data set machinery (0.4 s).
    from pyarrow.parquet import ParquetFile, read_metadata

    try:
        metadata = read_metadata(path)
        # A nested column has the path of its leaf here, and so is not taken for a coded one.
        flat = {metadata.schema.column(i).path for i in range(metadata.num_columns)}
        encode = [name for name in coded if name in flat]
        with ParquetFile(path, metadata=metadata, read_dictionary=encode) as file:
            names = file.schema_arrow.names
            _require_distinct(path, names)
            table = file.read(columns=[name for name in names if name in wanted])
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from error
    return ParquetTable(path, table)


def _not_parquet(path: Path, error: Exception) -> DataError:
    return fault(
        path,
        found=f"a file that pyarrow cannot read ({error})",
        wanted="a Parquet file",
        todo="write it again, or give the records as .jsonl or .csv",
    )


def parquet_rows(path: Path, *, batch: int = 1024) -> Iterator[dict[str, Any]]:
    """Rows of a file as dictionaries, ``batch`` of them in memory at a time.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: The file is no Parquet file, or damaged.
    """
    require_extra("pyarrow", "fit", "reading Parquet files")
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            _require_distinct(path, file.schema_arrow.names)
            for rows in file.iter_batches(batch_size=batch):
                yield from rows.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _not_parquet(path, error) from error


def write_parquet(
    path: Path,
    texts: dict[str, Sequence[str | None]],
    coded: dict[str, tuple[IntArray, Sequence[str]]],
    numbers: dict[str, FloatArray],
) -> None:
    """Write text columns, coded text columns and numbers (NaN becomes null), in that order."""
    require_extra("pyarrow", "fit", "writing Parquet files")
    import pyarrow as pa
    from pyarrow.parquet import write_table

    columns = {name: pa.array(values, type=pa.string()) for name, values in texts.items()}
    for name, (codes, values) in coded.items():
        encoded = pa.DictionaryArray.from_arrays(
            pa.array(codes), pa.array(values, type=pa.string())
        )
        columns[name] = encoded.dictionary_decode()
    for name, amounts in numbers.items():
        columns[name] = _narrow(amounts)
    write_table(pa.table(columns), path, compression="zstd")


def _narrow(amounts: FloatArray | Float32Array) -> Any:
    """An Arrow array of ``amounts``: int32 where every known value is a small whole number."""
    import pyarrow as pa

    unknown = np.isnan(amounts)
    known = amounts[~unknown]
    if amounts.dtype == np.float32 and len(known) and _all_whole(known):
        whole = np.where(unknown, 0, amounts).astype(np.int32)
        return pa.array(whole, mask=unknown)
    return pa.array(amounts, mask=unknown)


def _all_whole(values: FloatArray) -> bool:
    return bool(np.all(values == np.floor(values)) and values.max() < 2**31)


def _distinct(
    codes: NDArray[np.int32], values: list[str | None]
) -> tuple[IntArray, tuple[str, ...]]:
    """Codes into distinct texts: a foreign dictionary may hold nulls, repeats and unused values."""
    place: dict[str, int] = {}
    new = [-1 if value is None else place.setdefault(value, len(place)) for value in values]
    return np.array([*new, -1], dtype=np.int32)[codes], tuple(place)


def _readable(scalar: Any) -> bool:
    try:
        scalar.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _require_distinct(path: Path, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise fault(
                path,
                column=name,
                found=f"{names.count(name)} columns of that name",
                wanted="one",
                todo="rename or remove the others",
            )
