"""LLMRouterBench result files: ``results/bench/<dataset>/<split>/<model>/<...>.json``.

One JSON object a data set and model, with a list of ``records``; the bare question is
``origin_query``, what was sent is ``prompt``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zerorouter.data.logs.json_files import members
from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.questions import reference_of
from zerorouter.data.logs.records import LoggedAnswer, Notes, Question, cleaned, number
from zerorouter.data.logs.scores import as_score
from zerorouter.data.tables import fault

KEYS = frozenset({"performance", "counts", "records", "dataset_name", "model_name", "time_taken"})
"""Members of which such a file has several near its beginning."""


def read(path: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    """The scored answers of a result file; ``options.metric`` has no meaning here.

    Raises:
        DataError: The file is damaged, or names no model.
    """
    head: dict[str, Any] = {}
    for key, value, line in members(path, arrays=("records",)):
        if key != "records":
            head[key] = value
            continue
        if head.get("demo") is True:
            notes.add("demo_log", path)
            return
        place = f"{path}, line {line}"
        answer = _answer(value, _model(path, head, options), _task(path, head), notes, place)
        if answer is not None:
            yield answer


def _answer(record: Any, model: str, task: str, notes: Notes, place: str) -> LoggedAnswer | None:
    row = record if isinstance(record, dict) else {}
    score = as_score(row.get("score"))
    if score is None:
        notes.add("no_score", place)
        return None
    if not 0 <= score <= 1:
        notes.add("out_of_range", place)
        return None
    text = row.get("origin_query")
    if not isinstance(text, str) or not text.strip():
        notes.add("no_question", place)
        return None
    reply = row.get("raw_output")
    chars = len(reply) if isinstance(reply, str) else math.nan
    if chars == 0:
        notes.add("empty_answer", place)
    return LoggedAnswer(
        question=Question(
            text=cleaned(text), reference=reference_of(row.get("ground_truth"), ()), task=task
        ),
        respondent=model,
        score=score,
        input_tokens=number(row.get("prompt_tokens")),
        output_tokens=number(row.get("completion_tokens")),
        cost_usd=number(row.get("cost")),
        output_chars=chars,
    )


def _model(path: Path, head: Mapping[str, Any], options: LogOptions) -> str:
    named = head.get("model_name") or options.model or path.absolute().parent.name
    if not isinstance(named, str) or not named:
        raise fault(path, found="no model_name", wanted="the model's name", todo="name it")
    return named


def _task(path: Path, head: Mapping[str, Any]) -> str:
    named = head.get("dataset_name")
    return named if isinstance(named, str) and named else path.absolute().parent.parent.parent.name
