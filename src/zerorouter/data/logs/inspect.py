"""Inspect: ``.eval`` (a ZIP archive) and ``.json`` (the same log whole).

The best source there is: tokens, times and costs stand beside the scores. Runs that did not
succeed, and samples that failed, were invalidated or hit a limit of the run, are not administered.
Epochs are repeats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zerorouter.data.logs.json_files import json_object, loads, members
from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.questions import last_user_message, reference_of
from zerorouter.data.logs.records import LoggedAnswer, Notes, Question, cleaned, number
from zerorouter.data.logs.scores import INSPECT_KEYS, grade_as_score
from zerorouter.data.logs.zipped import MAX_MEMBER_BYTES, Archive, open_archive
from zerorouter.data.tables import fault

HEADER: Final = "header.json"
START: Final = "_journal/start.json"

# A sample is one member, or, in parts, the "shell" of its own folder.
_SAMPLE: Final = re.compile(r"samples/.+_epoch_\d+(?:/sample)?\.json", re.DOTALL)
_UNNAMED_SCORER: Final = "88F74D2C"  # what Inspect writes until the scorer has its name
_BROKEN_SCORE: Final = frozenset({"grader_failed", "scoring_failed"})
_CUT_OFF: Final = frozenset({"max_tokens", "model_length"})
# Most of a sample's bytes, in the order in which Inspect writes them; nothing of them is needed.
_BULK: Final = tuple(
    b'\n  "' + mark for mark in (b'messages": [', b'events": [', b'attachments": {')
)
_MEMBER: Final = b'\n  "'
_TURNS: Final = b'\n  "turn_count": '


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What the head of a log says of all its samples."""

    model: str
    task: str | None
    scorer: str | None
    key: str | None = None  # of the scorer's several values


def read(path: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    """The scored answers of a log.

    Raises:
        DataError: The log is damaged or cut off, or names no model.
        MissingExtraError: Its members are packed with Zstandard, which nothing here can unpack.
    """
    if path.suffix == ".json":
        yield from _read_json(path, notes, options)
        return
    with open_archive(path) as archive:
        yield from _read_archive(path, archive, notes, options)


def is_log(archive: Archive) -> bool:
    """Whether a ZIP archive holds an Inspect log."""
    return HEADER in archive.names or START in archive.names


def _read_archive(
    path: Path, archive: Archive, notes: Notes, options: LogOptions
) -> Iterator[LoggedAnswer]:
    if not is_log(archive):
        raise fault(
            path,
            found=f"a ZIP archive without {HEADER}",
            wanted="an Inspect log",
            todo="check the path",
        )
    if HEADER not in archive.names:
        notes.add("unfinished_log", path, detail="status started")
        return
    head = json_object(path, HEADER, archive.read(HEADER))
    if not _succeeded(path, head.get("status"), notes):
        return
    run = _run(path, head, notes, options)
    for name in archive.names:
        if not _SAMPLE.fullmatch(name):
            continue
        place = f"{path}, {name}"
        if archive.size(name) > MAX_MEMBER_BYTES:
            notes.add("too_large", place)
            continue
        answer = _answer(_sample(path, name, archive.read(name)), run, notes, place)
        if answer is not None:
            yield answer


def _read_json(path: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    head: dict[str, Any] = {}
    run: _Run | None = None
    for key, value, line in members(path, arrays=("samples",)):
        if key != "samples":
            head[key] = value
            if key == "status" and not _succeeded(path, value, notes):
                return
            continue
        if run is None:
            run = _run(path, head, notes, options)
        if isinstance(value, dict):
            answer = _answer(value, run, notes, f"{path}, line {line}")
            if answer is not None:
                yield answer
    if "eval" not in head:
        raise fault(
            path,
            found=f"the members {', '.join(head) or '(none)'}",
            wanted="an Inspect log, with eval and samples",
            todo="check the path",
        )


def _sample(path: Path, name: str, raw: bytes) -> Mapping[str, Any]:
    """A sample, without its bulk where that can be cut out unparsed.

    Inspect indents its JSON by two. Line ends inside texts are escaped, so a line that begins with
    two blanks and a quote is a member of the sample itself, and reaches up to the next such line.
    Messages are kept where only they tell how many turns there were.
    """
    if raw.startswith(b"{" + _MEMBER):
        parts, done = [], 0
        for mark in _BULK if raw.rfind(_TURNS) >= 0 else _BULK[1:]:
            start = raw.find(mark, done)
            stop = raw.find(_MEMBER, start + 1) if start >= 0 else -1
            if stop >= 0:
                parts.append(raw[done:start])
                done = stop
        try:
            kept = loads(b"".join((*parts, raw[done:])))
        except (ValueError, RecursionError):
            pass  # parsed whole below, for the error to name the right place
        else:
            if isinstance(kept, dict):
                return kept
    return json_object(path, name, raw)


def _succeeded(path: Path, status: Any, notes: Notes) -> bool:
    if status == "success":
        return True
    notes.add("unfinished_log", path, detail=f"status {status}")
    return False


def _run(path: Path, head: Mapping[str, Any], notes: Notes, options: LogOptions) -> _Run:
    spec = head.get("eval")
    spec = spec if isinstance(spec, dict) else {}
    model = spec.get("model")
    if not isinstance(model, str) or model in ("", "none", "none/none"):
        model = options.model
    if not model:
        raise fault(path, found="no model in eval", wanted="the model's name", todo="name it")
    task = spec.get("task")
    task = task if isinstance(task, str) and task else None
    if options.metric is not None:
        scorer, _, key = options.metric.partition("/")
        return _Run(model=model, task=task, scorer=scorer, key=key or None)
    names = _scorers(head)
    if len(names) > 1:
        notes.add("metric", path, detail=f"{names[0]} of {', '.join(sorted(names))}")
    return _Run(model=model, task=task, scorer=names[0] if names else None)


def _scorers(head: Mapping[str, Any]) -> list[str]:
    """The scorers of a log, the one of its headline first."""
    results = head.get("results")
    results = results if isinstance(results, dict) else {}
    headline, listed = results.get("headline"), results.get("scores")
    told = [headline.get("scorer")] if isinstance(headline, dict) else []
    told += [
        score.get("scorer") or score.get("name")
        for score in (listed if isinstance(listed, list) else ())
        if isinstance(score, dict)
    ]
    return list(dict.fromkeys(name for name in told if isinstance(name, str)))


def _answer(sample: Mapping[str, Any], run: _Run, notes: Notes, place: str) -> LoggedAnswer | None:
    output = sample.get("output")
    output = output if isinstance(output, dict) else {}
    for rule, holds in (
        ("errored", sample.get("error") or output.get("error")),
        ("invalidated", sample.get("invalidation")),
        ("limited", sample.get("limit")),
    ):
        if holds:
            notes.add(rule, place)
            return None
    score = _score(sample.get("scores"), run, notes, place)
    if score is None:
        return None
    question = _question(sample, run, notes, place)
    if question is None:
        return None
    text = output.get("completion")
    if isinstance(text, str) and not text.strip():
        notes.add("empty_answer", place)
    if _stop_reason(output) in _CUT_OFF:
        notes.add("truncated_answer", place)
    usage, latency_s = _usage(sample, output, run.model)
    return LoggedAnswer(
        question=question,
        respondent=run.model,
        score=score,
        input_tokens=_input_tokens(usage),
        output_tokens=number(usage.get("output_tokens")),
        cost_usd=number(usage.get("total_cost")),
        latency_s=latency_s,
        output_chars=len(text) if isinstance(text, str) else math.nan,
    )


def _score(scores: Any, run: _Run, notes: Notes, place: str) -> float | None:
    """The score of the run's scorer; a note and None where there is none to take."""
    by_scorer = scores if isinstance(scores, dict) else {}
    name = run.scorer if run.scorer in by_scorer else None
    if name is None and _UNNAMED_SCORER in by_scorer:
        name = _UNNAMED_SCORER
    if name is None and run.scorer is None and by_scorer:
        name = next(iter(by_scorer))
    graded = by_scorer.get(name)
    if not isinstance(graded, dict) or graded.get("reason") in _BROKEN_SCORE:
        notes.add("no_score", place)
        return None
    value = graded.get("value")
    if isinstance(value, dict):
        key = run.key or next((key for key in INSPECT_KEYS if key in value), None)
        if key is None and len(value) == 1:
            key = next(iter(value))
        if key is None:
            notes.add("unclear_score", place, detail=f"{name} gives {', '.join(map(str, value))}")
            return None
        value = value.get(key)
    elif isinstance(value, list):
        notes.add("unclear_score", place, detail=f"{name} gives a list")
        return None
    score = grade_as_score(value)
    if score is None:
        notes.add("no_score", place)
        return None
    if not 0 <= score <= 1:
        notes.add("out_of_range", place, detail=str(name))
        return None
    return score


def _question(sample: Mapping[str, Any], run: _Run, notes: Notes, place: str) -> Question | None:
    asked = sample.get("input")
    media = False
    if isinstance(asked, str):
        text: str | None = cleaned(asked)
    else:
        text, _, media = last_user_message(asked)
    if media or (text or "").startswith("attachment://"):
        notes.add("media", place)
        return None
    if not text or not text.strip():
        notes.add("no_question", place)
        return None
    listed = sample.get("choices")
    choices = tuple(cleaned(str(option)) for option in listed) if isinstance(listed, list) else ()
    return Question(
        text=text,
        choices=choices,
        reference=reference_of(sample.get("target"), choices),
        task=run.task,
    )


def _usage(
    sample: Mapping[str, Any], output: Mapping[str, Any], model: str
) -> tuple[Mapping[str, Any], float]:
    """Tokens of the answer, and seconds.

    A sample of one turn is told by its output: the model's total may hold what it spent on
    grading itself. Of several turns the total counts, and the time the sample worked.
    """
    last, by_model = output.get("usage"), sample.get("model_usage")
    total = by_model.get(model) if isinstance(by_model, dict) else None
    worked = sample.get("working_time")
    worked_s = number(sample.get("total_time") if worked is None else worked)
    if _n_turns(sample) > 1 and isinstance(total, dict):
        return total, worked_s
    usage = last if isinstance(last, dict) else total if isinstance(total, dict) else {}
    latency_s = number(output.get("time"))
    return usage, worked_s if math.isnan(latency_s) else latency_s


def _n_turns(sample: Mapping[str, Any]) -> int:
    """How often the model answered: newer logs count it, in older ones its messages do."""
    counted = sample.get("turn_count")
    if isinstance(counted, int):
        return counted
    messages = sample.get("messages")
    return sum(
        isinstance(message, dict)
        and message.get("role") == "assistant"
        and message.get("source") != "input"
        for message in (messages if isinstance(messages, list) else ())
    )


def _input_tokens(usage: Mapping[str, Any]) -> float:
    """All tokens of the prompt: those read from or written to a cache are counted apart."""
    parts = ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")
    known = [number(usage[part]) for part in parts if usage.get(part) is not None]
    return sum(known) if known else math.nan


def _stop_reason(output: Mapping[str, Any]) -> str | None:
    choices = output.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return str(first.get("stop_reason")) if isinstance(first, dict) else None
