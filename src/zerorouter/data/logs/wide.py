"""Wide tables: one row a prompt, one column a model, as RouterBench and its like publish them.

Of RouterBench's columns ``sample_id, prompt, eval_name, <model>, <model>|model_response,
<model>|total_cost`` the prompt is a list written as a text, and a model is whatever has one of the
two companions. In other wide tables every column of numbers that is not known for something else
is a model. CSV, JSONL and Parquet; a pickle is never opened.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from zerorouter.data.logs.json_files import json_object, lines, opened
from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.questions import reference_of
from zerorouter.data.logs.records import LoggedAnswer, Notes, Question, cleaned, number
from zerorouter.data.logs.scores import as_score
from zerorouter.data.parquet import parquet_rows
from zerorouter.data.plain import long_fields
from zerorouter.data.tables import fault, shown

TEXT_COLUMNS: Final = ("prompt", "question", "query", "text", "origin_query", "instruction")
TASK_COLUMNS: Final = ("eval_name", "task", "task_name", "dataset", "dataset_name", "category")
OPTION_COLUMNS: Final = ("choices", "options")
REFERENCE_COLUMNS: Final = ("reference", "answer", "target", "ground_truth")
COST, RESPONSE = "|total_cost", "|model_response"
_OTHER: Final = frozenset(
    {
        *("sample_id", "prompt_id", "id", "index", "idx", "oracle_model_to_route_to", "split"),
        *("subject", "level", "source", "embedding", "embedding_id", "task_id", "Unnamed: 0", ""),
    }
)
_LOOKED_AT = 200  # rows, before it is settled which columns are models


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    text: str
    task: str | None
    choices: str | None
    reference: str | None
    models: tuple[str, ...]


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of a wide table: a prompt and at least one model's score."""
    if _first(tuple(row), TEXT_COLUMNS) is None:
        return False
    if _companions(tuple(row)):
        return True
    if {"model", "score"} <= row.keys():
        return False  # a long table: one row a prompt and model
    scores = (_number(row[name]) for name in _others(tuple(row)))
    return any(score is not None and 0 <= score <= 1 for score in scores)


def first_row(path: Path) -> Mapping[str, Any]:
    """The first row of a table, empty where there is none.

    Raises:
        DataError: The file is no table.
        MissingExtraError: It is Parquet and pyarrow is not installed.
    """
    return next((row for _, row in _rows(path)), {})


def read(path: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    """The scored answers of a table; ``options.metric`` has no meaning here.

    Raises:
        DataError: The table is damaged, or has no prompts or no models.
        MissingExtraError: It is Parquet and pyarrow is not installed.
    """
    del options
    rows = _rows(path)
    head = list(islice(rows, _LOOKED_AT))
    columns = _settled(path, [row for _, row in head], notes)
    for place, row in chain(head, rows):
        where = f"{path}, {place}"
        question = _question(row, columns, notes, where)
        if question is None:
            notes.add("no_question", where)
            continue
        for model in columns.models:
            value = _number(row.get(model))
            if value is None:
                if row.get(model) not in (None, ""):
                    notes.add("no_score", f"{where}, column {model!r}")
                continue
            if not 0 <= value <= 1:
                notes.add("out_of_range", f"{where}, column {model!r}")
                continue
            response = row.get(model + RESPONSE)
            chars = len(_spoken(response)) if isinstance(response, str) else math.nan
            if chars == 0:
                notes.add("empty_answer", f"{where}, column {model!r}")
            yield LoggedAnswer(
                question=question,
                respondent=model,
                score=value,
                cost_usd=number(_number(row.get(model + COST))),
                output_chars=chars,
            )


def _settled(path: Path, head: Sequence[Mapping[str, Any]], notes: Notes) -> _Columns:
    """Which column is what."""
    names = tuple(dict.fromkeys(name for row in head for name in row))
    text = _first(names, TEXT_COLUMNS)
    if text is None:
        raise fault(
            path,
            found=f"the columns {', '.join(names) or '(none)'}",
            wanted=f"a column of prompts: {', '.join(TEXT_COLUMNS)}",
            todo="rename the column",
        )
    task, reference = _first(names, TASK_COLUMNS), _first(names, REFERENCE_COLUMNS)
    choices = _first(names, OPTION_COLUMNS)
    models = _companions(names)
    if not models:
        others = [name for name in _others(names) if name not in (task, reference, choices)]
        models = [name for name in others if _is_scores(row.get(name) for row in head)]
        left = [name for name in others if name not in models]
        if left:
            notes.add("ignored_columns", path, detail=", ".join(left[:8]), count=len(left))
    if not models:
        raise fault(
            path,
            found=f"the columns {', '.join(names)}",
            wanted="a column of scores from 0 to 1 for each model",
            todo="name each after its model",
        )
    return _Columns(
        text=text, task=task, choices=choices, reference=reference, models=tuple(models)
    )


def _companions(names: Sequence[str]) -> list[str]:
    """Columns beside which the model's responses or costs stand."""
    there = set(names)
    return [name for name in names if {name + COST, name + RESPONSE} & there]


def _others(names: Sequence[str]) -> list[str]:
    """Columns that may be models by their name."""
    known = {*TEXT_COLUMNS, *TASK_COLUMNS, *OPTION_COLUMNS, *REFERENCE_COLUMNS, *_OTHER}
    return [name for name in names if name not in known and "|" not in name]


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _is_scores(values: Iterator[Any]) -> bool:
    known = [value for value in values if value not in (None, "")]
    return bool(known) and all(_number(value) is not None for value in known)


def _number(value: Any) -> float | None:
    """A cell as a number; texts count as they do in CSV, True and False too."""
    if isinstance(value, str):
        if value in ("True", "False"):
            return float(value == "True")
        try:
            return as_score(float(value))
        except ValueError:
            return None
    return as_score(value)


def _question(
    row: Mapping[str, Any], columns: _Columns, notes: Notes, where: str
) -> Question | None:
    value = row.get(columns.text)
    turns = value if isinstance(value, list) else _listed(value)
    if turns is not None:
        if len(turns) > 1:
            notes.add("several_turns", where)
        value = turns[-1] if turns else None
    if not isinstance(value, str) or not value.strip():
        return None
    choices = _options(row.get(columns.choices)) if columns.choices else ()
    task = row.get(columns.task) if columns.task else None
    return Question(
        text=cleaned(value),
        choices=choices,
        reference=reference_of(row.get(columns.reference), choices) if columns.reference else None,
        task=str(task) if task not in (None, "") else None,
    )


def _listed(value: Any) -> list[Any] | None:
    """The list that a text is, as RouterBench writes its prompts; None for any other text."""
    if not isinstance(value, str) or not value.startswith("[") or not value.endswith("]"):
        return None
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(parsed, list) and all(isinstance(turn, str) for turn in parsed):
        return parsed
    return None


def _spoken(response: str) -> str:
    turns = _listed(response)
    return response if turns is None else "".join(turns)


def _options(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = _listed(value)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return ()
    return tuple(cleaned(each) for each in value)


# -- rows of each encoding ----------------------------------------------------------------------


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows as they come, each with its place in words."""
    if path.suffix == ".parquet":
        for row_number, row in enumerate(parquet_rows(path), start=1):
            yield f"row {row_number}", row
    elif path.suffix == ".jsonl":
        for line_number, raw in lines(path):
            yield f"line {line_number}", json_object(path, f"line {line_number}", raw)
    else:
        yield from _csv_rows(path)


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with opened(path) as raw, long_fields():
        stream = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        reader = csv.reader(stream, strict=True)
        line = 1
        try:
            header = next(reader, [])
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise fault(
                        path,
                        where=f"line {line}",
                        found=f"{len(cells)} cells",
                        wanted=f"{len(header)}, as in the header",
                        todo="quote cells that hold commas or line ends",
                    )
                if cells:
                    yield f"line {line}", dict(zip(header, cells, strict=True))
                line = reader.line_num + 1
        except csv.Error as error:
            raise fault(
                path,
                where=f"line {line}",
                found=f"broken CSV ({error})",
                wanted="comma-separated cells, quoted with double quotes",
                todo="correct the quoting there",
            ) from error
        except UnicodeDecodeError as error:
            raise fault(
                path,
                where=f"after line {line}",
                found=f"the byte {shown(error.object[error.start : error.start + 1])}, which is "
                "not UTF-8",
                wanted="UTF-8 text",
                todo="convert the file, for example with iconv -t utf-8",
            ) from error
