"""Which format a log has, found by looking at it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from zerorouter.data.logs import helm, inspect, llmrouterbench, lm_eval, own, wide
from zerorouter.data.logs.json_files import first_keys, json_object, lines
from zerorouter.data.logs.records import Notes
from zerorouter.data.logs.zipped import open_archive
from zerorouter.data.tables import fault
from zerorouter.errors import DataError, MissingExtraError

Format: TypeAlias = Literal["lm-eval", "helm", "inspect", "wide", "llmrouterbench", "folder"]

SOURCES: Final[Mapping[str, tuple[Format, ...]]] = {
    "folder": ("folder",),
    "lm-eval": ("lm-eval",),
    "helm": ("helm",),
    "inspect": ("inspect",),
    "wide": ("wide", "llmrouterbench"),
}
"""The formats that each source of ``zerorouter import`` stands for."""

_SUFFIXES: Final = (".jsonl", ".json", ".eval", ".csv", ".parquet")
_PICKLES: Final = (".pkl", ".pickle")
_KEYS_LOOKED_AT = 20
_CHARS_LOOKED_AT = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """One log: a file, or the folder that is one."""

    path: Path
    format: Format


def find_logs(path: str | os.PathLike[str], notes: Notes) -> Iterator[Log]:
    """The logs at a path: the one that it is, or all below it, in the order of their names.

    Files of a folder that are no logs are noted and passed over.

    Raises:
        DataError: There is nothing at ``path``, or a file that is no log.
        MissingExtraError: ``path`` is a Parquet file and pyarrow is not installed.
    """
    start = Path(path)
    if start.is_dir():
        yield from _below(start, notes)
        return
    if not start.exists():
        raise fault(start, found="nothing there", wanted="a log, or a folder of them",
                    todo="check the path")  # fmt: skip
    found = format_of(start)
    if found is None:
        raise fault(
            start,
            found="a pickle, which may run any program when it is opened"
            if start.suffix in _PICKLES
            else "a file of no format known here",
            wanted="lm-eval's samples_*.jsonl, a HELM run folder, Inspect's .eval or .json, "
            "a wide table, or a folder with prompts and responses",
            todo="write it as CSV or Parquet"
            if start.suffix in _PICKLES
            else "check the path; docs/logs.md shows what each format looks like",
        )
    yield Log(path=start, format=found)


def format_of(path: Path) -> Format | None:
    """The format of a file or folder, None where it is no log.

    Raises:
        DataError: The file begins like a log and is damaged there, or cannot be read.
        MissingExtraError: It is a Parquet file and pyarrow is not installed.
    """
    if path.is_dir():
        return "helm" if helm.looks_like(path) else "folder" if own.looks_like(path) else None
    if path.suffix == ".eval":
        return "inspect"
    if path.suffix == ".json":
        return _json_format(path)
    if path.suffix == ".jsonl":
        return _jsonl_format(path)
    if path.suffix in (".csv", ".parquet"):
        return "wide" if wide.looks_like(wide.first_row(path)) else None
    if _is_zip(path):
        with open_archive(path) as archive:
            return "inspect" if inspect.is_log(archive) else None
    return None


def _below(folder: Path, notes: Notes) -> Iterator[Log]:
    found = format_of(folder)
    if found is not None:
        yield Log(path=folder, format=found)
        return
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise fault(
            folder,
            found=f"a folder that cannot be read ({error.strerror or error})",
            wanted="a folder of logs",
            todo="check its permissions",
        ) from error
    for path in inside:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from _below(path, notes)
            continue
        own_format = _quietly(path)
        if own_format is not None:
            yield Log(path=path, format=own_format)
        elif not _is_companion(path):
            notes.add("ignored_files", path)


def _quietly(path: Path) -> Format | None:
    """The format of a file met by the way; a damaged one whose name is a log's is an error."""
    if path.suffix not in _SUFFIXES:
        return None
    if path.suffix == ".jsonl" and path.name.startswith("samples_"):
        return "lm-eval" if path.stat().st_size else None
    try:
        return format_of(path)
    except (DataError, MissingExtraError):
        return None


def _is_companion(path: Path) -> bool:
    """Whether a file belongs to lm-eval's samples beside it."""
    return path.suffix == ".json" and path.name.startswith("results")


def _json_format(path: Path) -> Format | None:
    keys = set(first_keys(path, _KEYS_LOOKED_AT, _CHARS_LOOKED_AT))
    if {"status", "eval"} <= keys:
        return "inspect"
    if "records" in keys and len(llmrouterbench.KEYS & keys) >= 3:
        return "llmrouterbench"
    return None


def _jsonl_format(path: Path) -> Format | None:
    first = next(lines(path), None)
    if first is None:
        return None
    row = json_object(path, f"line {first[0]}", first[1])
    if lm_eval.looks_like(row):
        return "lm-eval"
    return "wide" if wide.looks_like(row) else None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"
