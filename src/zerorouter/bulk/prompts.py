"""Files of prompts, read block by block: JSONL or Parquet, of any size.

A row has ``prompt_id`` and ``text`` or ``messages``, and may have ``tools``, ``response_format``,
``weight`` (what a correct answer counts, or what a job is worth) and ``group_id`` (the job that
a subtask belongs to). Columns of other names are ignored.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zerorouter.arrays import IntArray
from zerorouter.data.tables import fault, shown
from zerorouter.errors import InputError, PromptError, require_extra
from zerorouter.predict.prompt import Prompt, read_prompt

BLOCK = 1_024  # rows that are handed out at a time
LONGEST_LINE = 256_000_000  # bytes
COLUMNS = ("prompt_id", "text", "messages", "tools", "response_format", "weight", "group_id")
SUFFIXES = (".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRow:
    """One row of a file.

    Attributes:
        position: Counted from 0.
        where: The row in words.
        prompt_id: As given; numbers are turned into text.
        values: Its other columns.
    """

    position: int
    where: str
    prompt_id: str
    values: Mapping[str, Any]


class PromptFile:
    """A file of prompts.

    Args:
        path: ``.jsonl`` or ``.parquet``.

    Raises:
        DataError: there is no such file, or it is of another kind.
        MissingExtraError: it is a Parquet file and pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise fault(
                path,
                found="a folder" if path.is_dir() else "nothing there",
                wanted="a file of prompts, .jsonl or .parquet",
                todo="check the path",
            )
        if path.suffix.lower() not in SUFFIXES:
            raise fault(
                path,
                found=f"a file of the kind {path.suffix or '(none)'}",
                wanted="prompts as .jsonl or .parquet",
                todo="write them in one of these, one prompt a row",
            )
        self.is_parquet = path.suffix.lower() == ".parquet"
        if self.is_parquet:
            require_extra("pyarrow", "fit", "reading Parquet files")

    def scan(self) -> Scan:
        """Read the file once and check the ids.

        Raises:
            DataError: a row is malformed, an id is missing or stands twice, or there is no row.
        """
        digests = array("Q")
        has_groups, has_weights, total = False, False, 0.0
        for rows in self.blocks():
            for row in rows:
                digest = hashlib.blake2b(row.prompt_id.encode(), digest_size=8).digest()
                digests.append(int.from_bytes(digest, "little"))
                has_groups |= row.values.get("group_id") is not None
                has_weights |= row.values.get("weight") is not None
                total += self.weight(row)
        if not digests:
            raise fault(self.path, found="no row", wanted="at least one prompt", todo="add prompts")
        values = np.frombuffer(digests, dtype=np.uint64)
        if len(np.unique(values)) < len(values):
            self._refuse_repeats(values)
        return Scan(
            n_prompts=len(values),
            has_groups=has_groups,
            has_weights=has_weights,
            total_weight=total,
        )

    def _refuse_repeats(self, digests: np.ndarray) -> None:
        unique, count = np.unique(digests, return_counts=True)
        suspects = set(unique[count > 1].tolist())
        seen: dict[str, str] = {}
        for rows in self.blocks():
            for row in rows:
                digest = hashlib.blake2b(row.prompt_id.encode(), digest_size=8).digest()
                if int.from_bytes(digest, "little") not in suspects:
                    continue
                if row.prompt_id in seen:
                    raise fault(
                        self.path,
                        where=row.where,
                        column="prompt_id",
                        found=f"{row.prompt_id!r}, which {seen[row.prompt_id]} has as well",
                        wanted="ids that stand once",
                        todo="rename or remove one of the rows",
                    )
                seen[row.prompt_id] = row.where

    def blocks(self, positions: IntArray | None = None) -> Iterator[list[PromptRow]]:
        """Rows in order, at most `BLOCK` at a time.

        Args:
            positions: Rising positions of the rows that are wanted; None for all.
        """
        rows: Iterator[tuple[str, Any]] = self._jsonl_rows()
        if self.is_parquet:
            rows = self._parquet_rows()
        block: list[PromptRow] = []
        wanted = None if positions is None else iter(positions.tolist())
        following = None if wanted is None else next(wanted, None)
        for position, (where, raw) in enumerate(rows):
            if wanted is not None:
                if following is None:
                    break
                if position < following:
                    continue
                following = next(wanted, None)
            block.append(self._row(position, where, raw))
            if len(block) == BLOCK:
                yield block
                block = []
        if block:
            yield block

    def _jsonl_rows(self) -> Iterator[tuple[str, bytes]]:
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    raise fault(
                        self.path,
                        where=f"line {number}",
                        found=f"more than {LONGEST_LINE:,} bytes",
                        wanted="one prompt a line",
                        todo="split or shorten it",
                    )
                if not line.isspace():
                    yield f"line {number}", line

    def _parquet_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self.path) as file:
                names = [name for name in COLUMNS if name in file.schema_arrow.names]
                number = 0
                for batch in file.iter_batches(batch_size=BLOCK, columns=names):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"row {number}", row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise fault(
                self.path,
                found=f"a file that pyarrow cannot read ({error})",
                wanted="a Parquet file",
                todo="write it again, or give the prompts as .jsonl",
            ) from error

    def _row(self, position: int, where: str, raw: bytes | dict[str, Any]) -> PromptRow:
        values = raw if isinstance(raw, dict) else self._parsed(where, raw)
        name = values.get("prompt_id")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str) or not name.strip():
            raise fault(
                self.path,
                where=where,
                column="prompt_id",
                found="nothing" if name is None else shown(name),
                wanted="a text or a whole number",
                todo="give each prompt an id",
            )
        if values.get("text") is None and values.get("messages") is None:
            raise fault(
                self.path,
                where=where,
                found=f"the columns {', '.join(sorted(values)) or '(none)'}",
                wanted="'text' or 'messages'",
                todo="add the prompt",
            )
        return PromptRow(position=position, where=where, prompt_id=name, values=values)

    def _parsed(self, where: str, line: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise fault(
                self.path,
                where=where,
                found=f"{shown(line[:80])}, which is not JSON ({error})",
                wanted="one JSON object a line",
                todo="correct or remove the line",
            ) from error
        if not isinstance(parsed, dict):
            raise fault(
                self.path,
                where=where,
                found=f"a JSON {type(parsed).__name__}",
                wanted="one JSON object a line",
                todo='write rows as {"prompt_id": ..., "text": ...}',
            )
        return parsed

    # -- what rows mean ----------------------------------------------------------------------

    def prompt(self, row: PromptRow) -> Prompt:
        """The request of a row.

        Raises:
            PromptError: it cannot be read; the message names the row.
        """
        values = row.values
        messages: Any = values.get("messages")
        try:
            if isinstance(messages, str):  # Parquet has no column type for them
                messages = json.loads(messages)
            value = values["text"] if messages is None else messages
            return read_prompt(
                value,
                tools=_json(values.get("tools")),
                response_format=_json(values.get("response_format")),
            )
        except PromptError as error:
            raise PromptError(f"{self.path}, {row.where}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise PromptError(
                f"{self.path}, {row.where}: messages, tools or response_format is text that is no "
                f"JSON ({error}); wanted a list of messages"
            ) from error

    def weight(self, row: PromptRow) -> float:
        """What the row counts; 1 where it does not say.

        Raises:
            InputError: it is no number >= 0.
        """
        value = row.values.get("weight")
        if value is None:
            return 1.0
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{self.path}, {row.where}: the weight is {shown(value)}; a number")
        if not (math.isfinite(value) and value >= 0):
            raise InputError(
                f"{self.path}, {row.where}: the weight is {value}; a number >= 0 is wanted"
            )
        return float(value)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What one look at a file tells.

    Attributes:
        n_prompts: How many rows it has.
        has_groups: Whether any row belongs to a job.
        has_weights: Whether any row says what it counts.
        total_weight: What all rows count together.
    """

    n_prompts: int
    has_groups: bool
    has_weights: bool
    total_weight: float


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value
