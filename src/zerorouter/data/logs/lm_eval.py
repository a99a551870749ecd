"""lm-evaluation-harness, ``--log_samples``: ``<out>/<model>/samples_<task>_<date>.jsonl``.

One row a document and filter. The document holds the question; the prompt, with its worked
examples, is looked at only where no field does. The model's name stands in ``results_<date>.json``
beside the samples, else in the folder's name. There are neither tokens nor latencies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from zerorouter.data.logs.json_files import json_object, lines, loads
from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.questions import last_user_message, question_of
from zerorouter.data.logs.records import LoggedAnswer, Notes, Question
from zerorouter.data.logs.scores import (
    LM_EVAL_FILTERS,
    LM_EVAL_METRICS,
    NO_SCORES,
    as_score,
    chosen,
)
from zerorouter.data.tables import fault

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d{2}-\d{2}T[\d.-]+))?\.jsonl")
_MAX_RESULTS_BYTES = 1 << 26
_TEXT = re.compile(rb'\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What the results file says of a task."""

    model: str | None = None
    n_shot: int | None = None
    template: str | None = None
    lower_is_better: frozenset[str] = frozenset()
    filters: tuple[str, ...] = ()


def looks_like(row: Mapping[str, Any]) -> bool:
    """Whether a JSONL row is one of lm-eval's samples."""
    return {"doc_id", "doc", "target"} <= row.keys() and bool({"resps", "arguments"} & row.keys())


def read(path: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    """The scored answers of a samples file.

    Raises:
        DataError: A line is no JSON object, the file names no model, or lacks what was asked for.
    """
    named = _NAME.fullmatch(path.name)
    task = named["task"] if named else path.stem
    run = _results(path, task, named["date"] if named else None)
    respondent = _respondent(path, run, notes, options, standard=named is not None)
    taken = _taken_filter(path, run, notes, options)
    choices_of_metric: dict[tuple[str, ...], str | None] = {}
    for number, raw in lines(path):
        if taken is not None and _filter_of(raw) not in (None, taken):
            notes.add("other_filter", f"{path}, line {number}")
            continue
        row, whole = _row(path, number, raw)
        metrics = _metric_names(row)
        if metrics not in choices_of_metric:
            choices_of_metric[metrics] = _metric(path, metrics, run, notes, options)
        metric = choices_of_metric[metrics]
        place = f"{path}, line {number}"
        score = as_score(row.get(metric)) if metric is not None else None
        if score is None:
            notes.add("no_score", place)
            continue
        if not 0 <= score <= 1:
            notes.add("out_of_range", place, detail=str(metric))
            continue
        question = _question(row, task, run)
        if question is None:
            if not whole:
                row = json_object(path, f"line {number}", raw)
            question = _from_prompt(row, task, run, notes, place)
            if question is None:
                continue
        chars = _output_chars(row.get("resps"))
        if chars == 0:
            notes.add("empty_answer", place)
        yield LoggedAnswer(
            question=question, respondent=respondent, score=score, output_chars=chars
        )


# -- rows ---------------------------------------------------------------------------------------

_PROMPT: Final = b', "arguments": {'
_REPLY: Final = b', "resps": ['
_FILTERED: Final = b', "filtered_resps": ['
_FILTER: Final = b', "filter": "'
_FILTER_KEY: Final = b'"filter":'


def _row(path: Path, number: int, raw: bytes) -> tuple[dict[str, Any], bool]:
    """A row, without its prompt where that can be cut out unparsed; and whether it is whole.

    Prompts with worked examples are most of a log. A quote behind a blank is never inside a JSON
    text (there it would be escaped), so the marks stand between members. A mark that stands again
    further on may be the row's own, and one inside another member leaves braces open: in both
    cases, and on any other doubt, all is parsed.
    """
    start = raw.find(_PROMPT)
    stop = raw.find(_REPLY, start)
    if 0 < start < stop and raw.find(_PROMPT, stop) < 0 and raw.find(_REPLY, stop + 1) < 0:
        again, rest = raw.find(_FILTERED, stop), raw.rfind(_FILTER)
        if not 0 < again < rest or raw.find(_FILTERED, again + 1) >= 0:
            again = rest = len(raw)
        try:
            row = loads(raw[:start] + raw[stop:again] + raw[rest:])
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(row, dict) and "resps" in row and "doc" in row:
                return row, False
    return json_object(path, f"line {number}", raw), True


def _metric_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    names = row.get("metrics")
    if isinstance(names, list):
        return tuple(name for name in names if isinstance(name, str))
    # Older rows list no metrics: there they are the numbers beside the known members.
    known = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter"}
    return tuple(
        name for name, value in row.items() if name not in known and isinstance(value, int | float)
    )


def _question(row: Mapping[str, Any], task: str, run: _Run) -> Question | None:
    document = row.get("doc")
    if not isinstance(document, dict):
        return None
    return question_of(
        document,
        task=task,
        target=row.get("target"),
        target_is_index=_is_likelihood(row.get("resps")),
        template=run.template,
    )


def _from_prompt(
    row: Mapping[str, Any], task: str, run: _Run, notes: Notes, place: str
) -> Question | None:
    """The question in the prompt, if no worked examples are mixed into it."""
    prompt = _first_prompt(row.get("arguments"))
    messages = _as_messages(prompt)
    if messages is not None:
        text, apart, media = last_user_message(messages)
        if media:
            notes.add("media", place)
            return None
    else:
        text, apart = (prompt if isinstance(prompt, str) else None), False
    if text is None or not text.strip():
        notes.add("no_question", place)
        return None
    if not apart and run.n_shot != 0:
        known = f"{run.n_shot} examples" if run.n_shot else "number of examples not known"
        notes.add("few_shot_prompt", place, detail=known)
        return None
    target = row.get("target")
    return Question(
        text=text, reference=target if isinstance(target, str) and target else None, task=task
    )


def _first_prompt(arguments: Any) -> Any:
    """The context of the first request: ``gen_args_0.arg_0``, in old logs ``[0][0]``."""
    if isinstance(arguments, dict):
        first = next(iter(arguments.values()), None)
        value = first.get("arg_0") if isinstance(first, dict) else None
    elif isinstance(arguments, list) and arguments and isinstance(arguments[0], list):
        value = arguments[0][0] if arguments[0] else None
    else:
        value = None
    # Chat prompts are JSON as text, in newer logs as the only element of a list.
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    return value


def _as_messages(prompt: Any) -> list[Any] | None:
    if isinstance(prompt, list):
        return prompt
    if isinstance(prompt, str) and prompt.startswith("[{"):
        try:
            parsed = json.loads(prompt)
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, list) else None
    return None


def _is_likelihood(replies: Any) -> bool:
    """Whether options were scored by likelihood: replies are pairs, and the target an index."""
    try:
        return isinstance(replies[0][0], list)
    except (TypeError, IndexError, KeyError):
        return False


def _output_chars(replies: Any) -> float:
    """Mean length of the generated texts; NaN where nothing was generated."""
    if not isinstance(replies, list):
        return float("nan")
    texts = [text for each in replies if isinstance(each, list) for text in each]
    sizes = [len(text) for text in texts if isinstance(text, str)]
    return sum(sizes) / len(sizes) if sizes and len(sizes) == len(texts) else float("nan")


# -- what to take -------------------------------------------------------------------------------


def _taken_filter(path: Path, run: _Run, notes: Notes, options: LogOptions) -> str | None:
    """The filter whose rows are taken; None where no row names one.

    Rows stand one filter after the other, so all must be known before the first row is read: from
    the results beside the samples, else by a look over the file.
    """
    there = run.filters
    if not there:
        told = dict.fromkeys(_filter_of(raw) for _, raw in lines(path))
        there = tuple(name for name in told if name is not None)
    if options.filter is not None and there and options.filter not in there:
        raise fault(
            path,
            found=f"the filters {', '.join(there)}",
            wanted=f"the filter {options.filter!r}",
            todo="name one of those",
        )
    taken = options.filter or chosen(there, LM_EVAL_FILTERS)
    if len(there) > 1:
        notes.add("filter", path, detail=f"{taken} of {', '.join(there)}")
    return taken


def _filter_of(line: bytes) -> str | None:
    """The filter that a row names, found without parsing the row.

    Inside a JSON text quotes are escaped, so the mark can stand for nothing but a key; the row's
    own comes after its document.
    """
    place = line.rfind(_FILTER_KEY)
    text = _TEXT.match(line, place + len(_FILTER_KEY)) if place >= 0 else None
    return _spoken(text[1]) if text else None


@lru_cache(maxsize=256)
def _spoken(text: bytes) -> str:
    """A JSON text; a broken one as it is, for its row to be named when it is parsed."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text.decode("utf-8", "replace")


def _metric(
    path: Path, names: tuple[str, ...], run: _Run, notes: Notes, options: LogOptions
) -> str | None:
    if options.metric is not None:
        if options.metric not in names:
            raise fault(
                path,
                found=f"the metrics {', '.join(names) or '(none)'}",
                wanted=f"the metric {options.metric!r}",
                todo="name one of those",
            )
        return options.metric
    there = [name for name in names if name not in run.lower_is_better]
    taken = chosen(there, LM_EVAL_METRICS)
    if len([name for name in there if name not in NO_SCORES]) > 1:
        notes.add("metric", path, detail=f"{taken} of {', '.join(names)}")
    return taken


# -- what stands beside the samples -------------------------------------------------------------


def _respondent(path: Path, run: _Run, notes: Notes, options: LogOptions, *, standard: bool) -> str:
    if run.model:
        return run.model
    if options.model:
        return options.model
    folder = path.absolute().parent.name
    if not standard or not folder:
        raise fault(
            path,
            found="samples that name no model, and no results_<date>.json beside them",
            wanted="the model's name",
            todo="name it, or hand over lm-eval's whole output folder",
        )
    model = folder.replace("__", "/")  # how lm-eval writes organisation/model as a folder
    notes.add("guessed_model", path, detail=model)
    return model


def _results(path: Path, task: str, date: str | None) -> _Run:
    """What the results of the same run say; of another date only the model's name is taken."""
    same, other = [], []
    for file in sorted(path.parent.glob("*.json")):
        if date is not None and file.stem.endswith(f"_{date}"):
            same.append(file)
        elif file.name.startswith("results"):
            other.append(file)
    for file in same:
        told = _results_file(file)
        if told is not None:
            return _run(told, task)
    models = {_run(told, task).model for told in map(_results_file, other) if told is not None}
    return _Run(model=models.pop() if len(models) == 1 else None)


def _results_file(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_RESULTS_BYTES:
            return None
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # a file that happens to lie there; the folder's name must do
    return told if isinstance(told, dict) and "results" in told else None


def _run(told: Mapping[str, Any], task: str) -> _Run:
    model = told.get("model_name")
    shots = _member(told, "n-shot", task)
    config = _member(told, "configs", task)
    template = config.get("doc_to_text") if isinstance(config, dict) else None
    better = _member(told, "higher_is_better", task)
    return _Run(
        model=model if isinstance(model, str) and model.strip() else None,
        n_shot=shots if isinstance(shots, int) else None,
        template=template if isinstance(template, str) else None,
        lower_is_better=frozenset(name for name, higher in better.items() if higher is False)
        if isinstance(better, dict)
        else frozenset(),
        filters=_filters(_member(told, "results", task)),
    )


def _filters(values: Any) -> tuple[str, ...]:
    """The filters of a task's results, whose keys are ``metric,filter``."""
    keys = [key for key in values if "," in key] if isinstance(values, dict) else []
    return tuple(dict.fromkeys(key.partition(",")[2] for key in keys))


def _member(told: Mapping[str, Any], name: str, task: str) -> Any:
    by_task = told.get(name)
    return by_task.get(task) if isinstance(by_task, dict) else None
