"""The project's own format as a log: a folder with ``prompts`` and ``responses``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.records import LoggedAnswer, Notes, Question
from zerorouter.data.reading import find_file, read_folder
from zerorouter.data.responses import SIDE_COLUMNS


def looks_like(folder: Path) -> bool:
    """Whether a folder holds prompts and responses."""
    return all(find_file(folder, stem) is not None for stem in ("prompts", "responses"))


def read(folder: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    """The scored answers of a folder; ``options`` have no meaning here.

    Raises:
        DataError: The records are wrong; the message names file, row and column.
        MissingExtraError: A Parquet file is met and pyarrow is not installed.
    """
    del options
    records = read_folder(folder)
    silent = records.report.count("null_score")
    if silent:
        notes.add("no_score", folder, count=silent)
    prompts, responses = records.prompts, records.responses
    questions = [
        Question(text=text, choices=choices or (), reference=reference, task=task)
        for text, choices, reference, task in zip(
            prompts.texts, prompts.choices, prompts.references, prompts.tasks, strict=True
        )
    ]
    sides = [responses.column(name).tolist() for name in SIDE_COLUMNS]
    for prompt, respondent, score, *values in zip(
        responses.prompt.tolist(),
        responses.respondent.tolist(),
        responses.score.tolist(),
        *sides,
        strict=True,
    ):
        yield LoggedAnswer(
            question=questions[prompt],
            respondent=records.respondents[respondent],
            score=score,
            **dict(zip(SIDE_COLUMNS, (float(value) for value in values), strict=True)),
        )
