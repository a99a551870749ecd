"""Bring evaluation records into a clean folder of our own format.

Reading checks; writing happens in a temporary folder beside the target, which takes the
target's name only once every byte is on disk: the target is whole or absent.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from zerorouter.arrays import FloatArray
from zerorouter.data.logs.reading import read_logs
from zerorouter.data.logs.records import LogReport
from zerorouter.data.parquet import write_parquet
from zerorouter.data.reading import MODEL_COLUMNS, Duplicates, find_file, read_folder
from zerorouter.data.report import LoadReport
from zerorouter.data.responses import SIDE_COLUMNS, Records
from zerorouter.data.tables import fault

Encoding: TypeAlias = Literal["parquet", "jsonl"]

STEMS = ("models", "prompts", "responses")
_CHUNK_BYTES = 1 << 20


def import_folder(
    source_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    encoding: Encoding | None = None,
    duplicates: Duplicates = "average",
) -> LoadReport:
    """Read a folder of records, check it and write it clean.

    Args:
        source_path: A folder that `zerorouter.data.reading.read_folder` reads.
        out_dir: Where to write; absent or an empty folder.
        encoding: Of prompts and responses; Parquet where pyarrow is installed, else JSONL.
        duplicates: As for reading.

    Returns:
        What reading dropped or merged.

    Raises:
        DataError: The records are wrong, ``out_dir`` holds something already, or the disk
            refuses; nothing is left behind.
        MissingExtraError: Parquet is read or asked for and pyarrow is not installed.
    """
    target = Path(out_dir)
    _require_free(target)
    records = read_folder(source_path, duplicates=duplicates)
    _write(records, target, encoding)
    return records.report


def import_logs(
    paths: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    *,
    source: str | None = None,
    encoding: Encoding | None = None,
    model: str | None = None,
    metric: str | None = None,
    filter: str | None = None,
) -> LogReport:
    """Read evaluation logs of other tools and write them as a folder of our own format.

    Args:
        paths: Logs, or folders of them.
        out_dir: Where to write; absent or an empty folder. Its name becomes the data set's.
        source: The format expected, see `zerorouter.data.logs.detecting.SOURCES`.
        encoding: Of prompts and responses; Parquet where pyarrow is installed, else JSONL.
        model: Names the respondent of logs that name none.
        metric: The metric to take for the score.
        filter: The lm-eval filter to take.

    Returns:
        What was read, left out and averaged.

    Raises:
        DataError: A log is wrong, ``out_dir`` holds something already, or the disk refuses;
            nothing is left behind.
        UnknownNameError: There is no such source.
        MissingExtraError: A log, or Parquet if asked for, needs a package not installed.
    """
    target = Path(out_dir)
    _require_free(target)
    logged = read_logs(paths, source=source, model=model, metric=metric, filter=filter)
    _write(logged.as_records(target.resolve().name), target, encoding)
    return logged.report


def _write(records: Records, target: Path, encoding: Encoding | None) -> None:
    chosen = encoding or ("parquet" if importlib.util.find_spec("pyarrow") else "jsonl")
    with _appearing(target) as folder:
        if chosen == "parquet":
            _write_parquet(records, folder)
        else:
            _write_jsonl(records, folder)
        if records.models:
            _write_models(records, folder / "models.csv")


def data_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 over the names and bytes of a folder's record files, as 64 hexadecimal digits.

    Only ``prompts``, ``responses`` and ``models`` count, in sorted order; a note laid beside
    them changes nothing. The same records in another encoding have another digest.

    Raises:
        DataError: There are no such files, or more than one of a kind.
    """
    folder = Path(path)
    files = sorted(file for stem in STEMS if (file := find_file(folder, stem)) is not None)
    if not files:
        raise fault(
            folder,
            found="no records",
            wanted="a folder with prompts and responses",
            todo="check the path",
        )
    digest = hashlib.sha256()
    for file in files:
        # The length keeps bytes from wandering between neighbouring files unnoticed.
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _require_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise fault(
            target,
            found="a folder that is not empty" if target.is_dir() else "a file",
            wanted="a new or empty folder to write to",
            todo="choose another name or remove it first",
        )


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A temporary sibling of ``target`` that becomes ``target`` when the block succeeds."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        if target.is_dir():
            target.rmdir()  # fails where something was put there meanwhile
        temporary.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise fault(
            target,
            found=f"that it cannot be written ({error.strerror or error})",
            wanted="a place to write the records to",
            todo="check its permissions and the space left",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    """Have the bytes of a file, or the entries of a folder, on disk on return."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle on a folder
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_parquet(records: Records, folder: Path) -> None:
    prompts, responses = records.prompts, records.responses
    write_parquet(
        folder / "prompts.parquet",
        texts={
            "prompt_id": prompts.ids,
            "task": prompts.tasks,
            "text": prompts.texts,
            "choices": prompts.choices_json,
            "reference": prompts.references,
        },
        coded={},
        numbers={},
    )
    write_parquet(
        folder / "responses.parquet",
        texts={},
        coded={
            "prompt_id": (responses.prompt, prompts.ids),
            "model": (responses.respondent, records.respondents),
        },
        numbers={name: responses.column(name) for name in ("score", *SIDE_COLUMNS)},
    )


def _write_jsonl(records: Records, folder: Path) -> None:
    prompts, responses = records.prompts, records.responses
    columns = ("prompt_id", "task", "text", "choices", "reference")
    values = (prompts.ids, prompts.tasks, prompts.texts, prompts.choices_json, prompts.references)
    _write_lines(folder / "prompts.jsonl", columns, zip(*values, strict=True))
    numbers = ("score", *SIDE_COLUMNS)
    rows = zip(
        (prompts.ids[i] for i in responses.prompt.tolist()),
        (records.respondents[i] for i in responses.respondent.tolist()),
        *(_json_numbers(responses.column(name)) for name in numbers),
        strict=True,
    )
    _write_lines(folder / "responses.jsonl", ("prompt_id", "model", *numbers), rows)


def _write_lines(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    """One JSON object a row; columns without a value are left out of the row."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            known = {n: value for n, value in zip(columns, row, strict=True) if value is not None}
            stream.write(json.dumps(known, ensure_ascii=False) + "\n")


def _json_numbers(values: FloatArray) -> list[int | float | None]:
    """``values`` exactly: None for NaN, whole numbers without a decimal point."""
    whole = values == np.floor(values)
    return [
        None if value != value else int(value) if is_whole else value
        for value, is_whole in zip(values.tolist(), whole.tolist(), strict=True)
    ]


def _write_models(records: Records, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(MODEL_COLUMNS)
        writer.writerows(asdict(row).values() for row in records.models.values())
