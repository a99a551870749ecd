"""Folders of evaluation records in, checked tables out.

A folder holds ``prompts``, ``responses`` and optionally ``models``, each as ``.parquet``,
``.jsonl`` or ``.csv``. Prompts need ``prompt_id`` and ``text``; responses ``prompt_id``,
``model`` and ``score``; models ``model``. All else may be absent, null or, in a CSV file, an
empty cell, and is then unknown; NaN counts as null; columns of other names are ignored.

What reading changes, and `LoadReport` counts:

- A response without a score was not administered: it is left out.
- A (prompt, model) pair that stands more than once is a repeated sample. Its score is the mean
  over its rows, which is the score itself where all agree, and so is each side column over its
  known values. With ``duplicates="error"`` such a pair is an error.
- A model without any score is left out. A prompt without any stays among the records of its
  data set and is left out of the matrix.
- Models of one name, after ``aliases``, are one respondent in all data sets; where two models
  of one data set become one, their responses are repeated samples of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import FloatArray, IntArray
from zerorouter.data.duplicates import duplicate_groups
from zerorouter.data.parquet import read_parquet
from zerorouter.data.plain import read_csv, read_jsonl
from zerorouter.data.report import LoadReport, joined_notes, notes_for
from zerorouter.data.responses import (
    SIDE_COLUMNS,
    ModelRow,
    PromptTable,
    Records,
    ResponseMatrix,
    ResponseTable,
    as_matrix,
)
from zerorouter.data.tables import (
    ENCODINGS,
    Table,
    check_rows,
    fault,
    optional_amounts,
    optional_texts,
    require_columns,
    required_codes,
    required_texts,
)
from zerorouter.errors import DataError

Aliases: TypeAlias = Mapping[str, str] | Callable[[str, str], str]
"""Respondent names by raw name, or a function of (data set, raw name); others stay."""

Duplicates: TypeAlias = Literal["average", "error"]

PROMPT_COLUMNS: Final = ("prompt_id", "task", "text", "choices", "reference")
RESPONSE_COLUMNS: Final = ("prompt_id", "model", "score", *SIDE_COLUMNS)
MODEL_COLUMNS: Final = tuple(field.name for field in fields(ModelRow))

_RELEASED = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?")


def read_folder(path: str | os.PathLike[str], *, duplicates: Duplicates = "average") -> Records:
    """Read and check one data set.

    Args:
        path: The folder; its name becomes the data set's.
        duplicates: What becomes of a (prompt, model) pair that stands more than once.

    Raises:
        DataError: A file, row or column is wrong; the message names it.
        MissingExtraError: A Parquet file is met and pyarrow is not installed.
    """
    folder = _folder(path, wanted="a folder with prompts and responses")
    dataset = folder.resolve().name
    prompts = _prompts(_table(_needed(folder, "prompts"), PROMPT_COLUMNS), dataset)
    response_file = _needed(folder, "responses")
    coded = ("prompt_id", "model")
    responses, names, counts = _responses(
        _table(response_file, RESPONSE_COLUMNS, coded), prompts, duplicates
    )
    model_file = find_file(folder, "models")
    models = {} if model_file is None else _models(_table(model_file, MODEL_COLUMNS))
    if models:
        counts["unlisted_models"] = len(set(names) - set(models))
        counts["unused_models"] = len(set(models) - set(names))
    report = LoadReport(
        n_prompts=len(prompts),
        n_respondents=len(names),
        n_responses=len(responses),
        notes=notes_for(dataset, counts),
    )
    return Records(
        dataset=dataset,
        prompts=prompts,
        respondents=names,
        responses=responses,
        models=models,
        report=report,
    )


def read_prompts(path: str | os.PathLike[str]) -> PromptTable:
    """The prompts of a folder alone, which then needs no responses.

    Raises:
        DataError: The folder or its prompts are wrong; the message names file, row and column.
        MissingExtraError: A Parquet file is met and pyarrow is not installed.
    """
    folder = _folder(path, wanted="a folder with prompts")
    return _prompts(_table(_needed(folder, "prompts"), PROMPT_COLUMNS), folder.resolve().name)


def _folder(path: str | os.PathLike[str], *, wanted: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise fault(
            folder,
            found="a file" if folder.exists() else "nothing there",
            wanted=wanted,
            todo="check the path",
        )
    return folder


def read_folders(
    paths: Sequence[str | os.PathLike[str]],
    aliases: Aliases | None = None,
    *,
    duplicates: Duplicates = "average",
) -> ResponseMatrix:
    """Read several data sets into one response matrix, see `read_folder` and `combine`."""
    if isinstance(paths, str | os.PathLike):
        raise DataError(f"found one path, {os.fspath(paths)!r}; wanted a list of folders")
    return combine([read_folder(path, duplicates=duplicates) for path in paths], aliases)


def combine(records: Sequence[Records], aliases: Aliases | None = None) -> ResponseMatrix:
    """One response matrix over several data sets.

    Args:
        records: Data sets with different names, in the order their prompts shall stand.
        aliases: Maps raw names of models to respondents, `Aliases`.

    Returns:
        Respondents sorted by name, prompts in the order given; duplicate groups run across
        data sets. Of facts on a model the first known one is kept.

    Raises:
        DataError: There is nothing to combine, two data sets have one name, or an alias is
            blank.
    """
    if not records:
        raise DataError("found no data set; wanted at least one folder of records")
    datasets = [own.dataset for own in records]
    if len(set(datasets)) < len(datasets):
        raise DataError(
            f"found data sets of the same name among {', '.join(datasets)}; wanted different "
            "folder names, since (data set, prompt id) is the key; rename a folder"
        )
    renamed = [[_alias(aliases, own.dataset, raw) for raw in own.respondents] for own in records]
    respondents = tuple(sorted({name for names in renamed for name in names}))
    place = {name: i for i, name in enumerate(respondents)}
    joined = PromptTable.join([own.prompts for own in records])

    parts, n_before, identical, averaged = [], 0, 0, 0
    for own, names in zip(records, renamed, strict=True):
        index = np.array([place[name] for name in names], dtype=np.int32)
        part = replace(own.responses, respondent=index[own.responses.respondent])
        if len(set(names)) < len(names):
            part, same, differing = _collapsed(part, len(own.prompts))
            identical, averaged = identical + same, averaged + differing
        parts.append(replace(part, prompt=part.prompt + np.int32(n_before)))
        n_before += len(own.prompts)
    responses = _concatenated(parts)

    answered = np.bincount(responses.prompt, minlength=n_before) > 0
    if not answered.all():
        new = np.cumsum(answered, dtype=np.int32) - np.int32(1)
        responses = replace(responses, prompt=new[responses.prompt])
        joined = joined.take(np.flatnonzero(answered))

    models, n_conflicts = _merged_models(records, renamed, respondents)
    n_names = sum(map(len, renamed))
    counts = {
        "renamed_respondents": sum(
            raw != name
            for own, names in zip(records, renamed, strict=True)
            for raw, name in zip(own.respondents, names, strict=True)
        ),
        "merged_respondents": n_names - len(respondents),
        "same_score_repeats": identical,
        "averaged_repeats": averaged,
        "unanswered_prompts": int(np.count_nonzero(~answered)),
        "unused_aliases": _n_unused(aliases, records),
        "metadata_conflicts": n_conflicts,
    }
    shape = (len(respondents), len(joined))
    report = LoadReport(
        n_prompts=shape[1],
        n_respondents=shape[0],
        n_responses=len(responses),
        notes=joined_notes(own.report for own in records) + notes_for("combined", counts),
    )
    return ResponseMatrix(
        respondents=respondents,
        prompts=joined,
        scores=as_matrix(responses, "score", shape),
        groups=duplicate_groups(joined),
        responses=responses,
        models=models,
        report=report,
    )


def find_file(folder: Path, stem: str) -> Path | None:
    """The file of ``folder`` named ``stem`` in one of the encodings, or None.

    Raises:
        DataError: There is more than one.
    """
    there = [folder / f"{stem}.{encoding}" for encoding in ENCODINGS]
    there = [path for path in there if path.is_file()]
    if len(there) > 1:
        raise fault(
            folder,
            found=f"both {there[0].name} and {there[1].name}",
            wanted=f"the {stem} in one file",
            todo="remove the one that is out of date",
        )
    return there[0] if there else None


def _needed(folder: Path, stem: str) -> Path:
    path = find_file(folder, stem)
    if path is None:
        inside = sorted(entry.name for entry in folder.iterdir())[:8]
        raise fault(
            folder,
            found=f"no {stem} file among {', '.join(inside) or 'no files'}",
            wanted=" or ".join(f"{stem}.{encoding}" for encoding in ENCODINGS),
            todo="add the file, or import the records with `zerorouter import`",
        )
    return path


def _table(path: Path, wanted: Sequence[str], coded: Sequence[str] = ()) -> Table:
    if path.suffix == ".parquet":
        return read_parquet(path, wanted, coded)
    if path.suffix == ".jsonl":
        return read_jsonl(path, nested=("choices",))
    return read_csv(path)


def _prompts(table: Table, dataset: str) -> PromptTable:
    require_columns(table, ("prompt_id", "text"))
    ids = required_texts(table, "prompt_id")
    first: dict[str, int] = {}
    for row, own in enumerate(ids):
        if first.setdefault(own, row) != row:
            raise fault(
                table.path,
                where=table.where(row),
                column="prompt_id",
                found=f"{own!r} again, after {table.where(first[own])}",
                wanted="every prompt once",
                todo="remove or rename one of them",
            )
    return PromptTable(
        ids=tuple(ids),
        texts=tuple(required_texts(table, "text")),
        tasks=tuple(optional_texts(table, "task")),
        choices_json=tuple(optional_texts(table, "choices")),
        references=tuple(optional_texts(table, "reference")),
        dataset=np.zeros(len(ids), dtype=np.int32),
        dataset_names=(dataset,),
    )


def _responses(
    table: Table, prompts: PromptTable, duplicates: Duplicates
) -> tuple[ResponseTable, tuple[str, ...], dict[str, int]]:
    """Responses in canonical order, the names of their respondents, and counts by rule."""
    require_columns(table, ("prompt_id", "model", "score"))
    prompt = _prompt_index(table, prompts)
    codes, names = required_codes(table, "model")
    score = table.numbers("score")
    check_rows(
        table,
        "score",
        (score < 0) | (score > 1),
        score.tolist,
        wanted="a number from 0 to 1",
        todo="rescale the scores (divide percentages by 100)",
    )
    sides = {name: optional_amounts(table, name) for name in SIDE_COLUMNS}

    kept = np.flatnonzero(~np.isnan(score))
    if not len(kept):
        raise fault(
            table.path,
            column="score",
            found=f"{table.n_rows} rows, none with a score",
            wanted="at least one response with a score",
            todo="check that the export is complete",
        )
    used = np.unique(codes[kept])
    order = sorted(used.tolist(), key=names.__getitem__)
    place = np.full(len(names), -1, dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)

    responses = ResponseTable.of_columns(
        prompt[kept],
        place[codes[kept]],
        {"score": score[kept], **{name: values[kept] for name, values in sides.items()}},
    )
    if duplicates == "error":
        _require_no_repeats(table, kept, responses, len(prompts))
    responses, identical, averaged = _collapsed(responses, len(prompts))
    counts = {
        "null_score": table.n_rows - len(kept),
        "same_score_repeats": identical,
        "averaged_repeats": averaged,
        "silent_respondents": len(names) - len(used),
    }
    return responses, tuple(names[code] for code in order), counts


def _prompt_index(table: Table, prompts: PromptTable) -> NDArray[np.int32]:
    """The prompt each response answers, int32 (n_rows,)."""
    codes, ids = required_codes(table, "prompt_id")
    place = {own: i for i, own in enumerate(prompts.ids)}
    known = np.array([place.get(own, -1) for own in ids], dtype=np.int32)
    prompt = known[codes] if len(ids) else np.zeros(0, dtype=np.int32)
    check_rows(
        table,
        "prompt_id",
        prompt < 0,
        lambda: [ids[code] for code in codes],
        wanted="the id of a prompt in the prompts file",
        todo="add the prompt or remove the responses",
    )
    return prompt


def _cells(responses: ResponseTable, n_prompts: int) -> NDArray[np.int64]:
    """One number per (respondent, prompt) pair, (R,)."""
    return responses.respondent.astype(np.int64) * n_prompts + responses.prompt


def _require_no_repeats(
    table: Table, kept: IntArray, responses: ResponseTable, n_prompts: int
) -> None:
    cells = _cells(responses, n_prompts)
    order = np.argsort(cells, kind="stable")
    again = order[1:][np.diff(cells[order]) == 0]
    if len(again):
        second = int(again.min())
        first = int(np.flatnonzero(cells == cells[second])[0])
        raise fault(
            table.path,
            where=table.where(int(kept[second])),
            column="prompt_id",
            found=f"the same prompt and model as in {table.where(int(kept[first]))}",
            wanted="every (prompt, model) pair once, as duplicates='error' asks",
            todo="remove the row, or allow repeated samples to be averaged",
        )


def _collapsed(responses: ResponseTable, n_prompts: int) -> tuple[ResponseTable, int, int]:
    """Responses sorted by (respondent, prompt), repeated pairs averaged.

    Also the number of pairs repeated with one score and with differing scores.
    """
    cells = _cells(responses, n_prompts)
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    if len(starts) == len(cells):
        return responses.take(order), 0, 0
    # Scores break ties, so that the mean does not depend on the order of rows.
    ordered = responses.take(np.lexsort((responses.score, cells)))
    repeated = np.diff(starts, append=len(cells)) > 1
    lowest = np.minimum.reduceat(ordered.score, starts)
    highest = np.maximum.reduceat(ordered.score, starts)
    n_averaged = int(np.count_nonzero(lowest < highest))
    columns = {name: _means(ordered.column(name), starts) for name in ("score", *SIDE_COLUMNS)}
    merged = ResponseTable.of_columns(ordered.prompt[starts], ordered.respondent[starts], columns)
    return merged, int(np.count_nonzero(repeated)) - n_averaged, n_averaged


def _means(values: FloatArray, starts: IntArray) -> NDArray[np.float64]:
    """The mean of the known values of each run that begins at ``starts``, NaN where none is."""
    known = ~np.isnan(values)
    totals = np.add.reduceat(np.where(known, values, 0.0).astype(np.float64), starts)
    n_known = np.add.reduceat(known.astype(np.int64), starts)
    means = np.full(len(starts), np.nan)
    np.divide(totals, n_known, out=means, where=n_known > 0)
    return means


def _concatenated(parts: Sequence[ResponseTable]) -> ResponseTable:
    return ResponseTable(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(ResponseTable)
        }
    )


def _models(table: Table) -> dict[str, ModelRow]:
    require_columns(table, ("model",))
    names = required_texts(table, "model")
    families = optional_texts(table, "family")
    released = optional_texts(table, "released")
    kinds = optional_texts(table, "price_kind")
    params = _optional_floats(table, "params_b")
    inputs = _optional_floats(table, "input_usd_per_mtok")
    outputs = _optional_floats(table, "output_usd_per_mtok")
    models: dict[str, ModelRow] = {}
    for row, name in enumerate(names):
        if name in models:
            raise fault(
                table.path,
                where=table.where(row),
                column="model",
                found=f"{name!r} again",
                wanted="every model once",
                todo="merge the rows",
            )
        when = released[row]
        if when is not None and not _is_release_date(when):
            raise fault(
                table.path,
                where=table.where(row),
                column="released",
                found=repr(when),
                wanted="a date as YYYY-MM or YYYY-MM-DD",
                todo="correct it or leave it empty",
            )
        models[name] = ModelRow(
            model=name,
            family=families[row],
            released=when,
            params_b=params[row],
            input_usd_per_mtok=inputs[row],
            output_usd_per_mtok=outputs[row],
            price_kind=kinds[row],
        )
    return models


def _optional_floats(table: Table, name: str) -> list[float | None]:
    values = optional_amounts(table, name)
    return [None if value != value else value for value in values.tolist()]


def _is_release_date(text: str) -> bool:
    parts = _RELEASED.fullmatch(text)
    if parts is None:
        return False
    try:
        date(int(parts[1]), int(parts[2]), int(parts[3] or 1))
    except ValueError:
        return False
    return True


def _alias(aliases: Aliases | None, dataset: str, raw: str) -> str:
    if aliases is None:
        return raw
    name = aliases(dataset, raw) if callable(aliases) else aliases.get(raw, raw)
    if not isinstance(name, str) or not name.strip():
        raise DataError(
            f"the alias of model {raw!r} in data set {dataset!r} is {name!r}; wanted a name; "
            "give the raw name back where there is no alias"
        )
    return name


def _n_unused(aliases: Aliases | None, records: Sequence[Records]) -> int:
    if aliases is None or callable(aliases):
        return 0
    return len(set(aliases) - {name for own in records for name in own.respondents})


def _merged_models(
    records: Sequence[Records], renamed: Sequence[Sequence[str]], respondents: Sequence[str]
) -> tuple[tuple[ModelRow, ...], int]:
    """A row for each respondent, the first known fact of each kind kept, and the conflicts."""
    facts: dict[str, dict[str, Any]] = {name: {} for name in respondents}
    n_conflicts = 0
    for own, names in zip(records, renamed, strict=True):
        for raw, name in zip(own.respondents, names, strict=True):
            row = own.models.get(raw, ModelRow(model=raw))
            for kind in MODEL_COLUMNS[1:]:
                value = getattr(row, kind)
                if value is not None and facts[name].setdefault(kind, value) != value:
                    n_conflicts += 1
    rows = tuple(ModelRow(model=name, **facts[name]) for name in respondents)
    return rows, n_conflicts
