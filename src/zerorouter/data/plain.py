"""JSONL and CSV files as tables, read with the standard library alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.data.tables import fault, shown

_LONGEST_FIELD = 2**31 - 1  # characters of one CSV cell; the module's default is 131,072


class ListTable:
    """A `zerorouter.data.tables.Table` over lists of Python values.

    Args:
        path: The file.
        columns: Values by column name, None for null.
        n_rows: How many values each column has.
        row_names: Words for each row, or None for ``row 1``, ``row 2``, ...
        to_number: Turns a value into a float, or raises ValueError.
    """

    def __init__(
        self,
        path: Path,
        columns: dict[str, list[object]],
        *,
        n_rows: int,
        row_names: Sequence[str] | None,
        to_number: Callable[[object], float],
    ) -> None:
        self.path = path
        self.names: tuple[str, ...] = tuple(columns)
        self.n_rows = n_rows
        self._columns = columns
        self._row_names = row_names
        self._to_number = to_number

    def where(self, row: int) -> str:
        """The row in words."""
        return f"row {row + 1}" if self._row_names is None else self._row_names[row]

    def texts(self, name: str) -> list[str | None]:
        """A text column; None where it is null."""
        values = self._columns[name]
        texts = [value for value in values if value is None or isinstance(value, str)]
        if len(texts) < len(values):
            row = next(i for i, v in enumerate(values) if not (v is None or isinstance(v, str)))
            raise self._fault(row, name, f"{shown(values[row])} ({type(values[row]).__name__})")
        self._require_encodable(name, texts)
        return texts

    def codes(self, name: str) -> tuple[IntArray, tuple[str, ...]]:
        """A text column as int32 codes (n_rows,), -1 for null, into its distinct values."""
        place: dict[str, int] = {}
        codes = np.fromiter(
            (-1 if v is None else place.setdefault(v, len(place)) for v in self.texts(name)),
            dtype=np.int32,
            count=self.n_rows,
        )
        return codes, tuple(place)

    def numbers(self, name: str) -> Float64Array:
        """A numeric column (n_rows,), NaN for null."""
        values, to_number = self._columns[name], self._to_number
        numbers = np.full(self.n_rows, np.nan)
        for row, value in enumerate(values):
            if value is None:
                continue
            try:
                numbers[row] = to_number(value)
            except (ValueError, OverflowError):
                found = f"{shown(value)} ({type(value).__name__})"
                raise self._fault(row, name, found, wanted="a number") from None
        return numbers

    def _require_encodable(self, name: str, texts: list[str | None]) -> None:
        # JSON can spell half of a surrogate pair, which no file or request can carry on.
        try:
            "".join(text for text in texts if text is not None).encode()
        except UnicodeEncodeError:
            row = next(i for i, text in enumerate(texts) if text and not _encodable(text))
            raise self._fault(row, name, "half of a surrogate pair") from None

    def _fault(self, row: int, name: str, found: str, wanted: str = "a text") -> Exception:
        return fault(
            self.path,
            where=self.where(row),
            column=name,
            found=found,
            wanted=wanted,
            todo="correct the value",
        )


def read_jsonl(path: Path, nested: Collection[str]) -> ListTable:
    """Read one JSON object a line; blank lines are skipped, columns are the union of keys.

    Values of ``nested`` columns that are lists or objects are turned into JSON text.

    Raises:
        DataError: A line is no JSON object, or the file is not UTF-8.
    """
    objects: list[dict[str, object]] = []
    row_names: list[str] = []
    # Split at newlines only: texts may hold U+2028 and its like.
    for number, line in enumerate(_utf8(path).split("\n"), start=1):
        if line and not line.isspace():
            objects.append(_json_object(path, number, line))
            row_names.append(f"line {number}")
    names = dict.fromkeys(name for row in objects for name in row)
    columns = {name: [row.get(name) for row in objects] for name in names}
    for name in nested:
        if name in columns:
            columns[name] = [_json_text(value) for value in columns[name]]
    return ListTable(
        path, columns, n_rows=len(objects), row_names=row_names, to_number=_json_number
    )


def read_csv(path: Path) -> ListTable:
    """Read a CSV file with a header line; an empty cell is a null.

    Raises:
        DataError: There is no header, a row has too many or too few cells, the quoting is
            broken, or the file is not UTF-8.
    """
    rows = _csv_rows(path)
    header = next(rows, None)
    if header is None:
        raise fault(
            path, found="an empty file", wanted="a header line", todo="name the columns in line 1"
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise fault(
            path,
            where="header",
            column=twice,
            found=f"{header.count(twice)} columns of that name",
            wanted="one",
            todo="rename or remove the others",
        )
    body: list[list[str]] = []
    for cells in rows:
        if len(cells) != len(header):
            raise fault(
                path,
                where=f"row {len(body) + 1}",
                found=f"{len(cells)} cells",
                wanted=f"{len(header)}, as in the header",
                todo="quote cells that hold commas or line ends",
            )
        body.append(cells)
    columns: dict[str, list[object]] = {
        name: [row[place] or None for row in body] for place, name in enumerate(header)
    }
    return ListTable(path, columns, n_rows=len(body), row_names=None, to_number=_text_number)


def _utf8(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise fault(
            path,
            found=f"a file that cannot be read ({error.strerror})",
            wanted="a readable file",
            todo="check its permissions",
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise fault(
            path,
            where=f"line {line}",
            found=f"the byte 0x{raw[error.start]:02x}, which is not UTF-8",
            wanted="UTF-8 text",
            todo="convert the file, for example with iconv -t utf-8",
        ) from error


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise fault(
            path,
            where=f"line {number}",
            found=f"{shown(line)}, which is not JSON ({error})",
            wanted="one JSON object a line",
            todo="correct or remove the line",
        ) from error
    if not isinstance(parsed, dict):
        raise fault(
            path,
            where=f"line {number}",
            found=f"{shown(line)}, a JSON {type(parsed).__name__}",
            wanted="one JSON object a line",
            todo='write rows as {"column": value, ...}',
        )
    return parsed


def _json_text(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _json_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def _text_number(value: object) -> float:
    return float(str(value))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv_rows(path: Path) -> Iterator[list[str]]:
    """The non-empty rows of a CSV file, header first."""
    seen = -1
    with long_fields():
        reader = csv.reader(io.StringIO(_utf8(path), newline=""), strict=True)
        try:
            for cells in reader:
                if cells:
                    seen += 1
                    yield cells
        except csv.Error as error:
            raise fault(
                path,
                where=f"row {seen + 1} (line {reader.line_num})",
                found=f"broken CSV ({error})",
                wanted="comma-separated cells, quoted with double quotes",
                todo="correct the quoting there",
            ) from error


@contextmanager
def long_fields() -> Iterator[None]:
    """Lifts the csv module's limit of 131,072 characters a cell while the block runs."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
