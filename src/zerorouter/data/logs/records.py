"""What is kept of an evaluation log: questions, scores, sizes, and what was left out and why.

``Q`` counts questions, ``M`` respondents, ``R`` answers. A question is known by its task and the
digest of its text with its options (`zerorouter.data.digests`), never by a prompt.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import FloatArray
from zerorouter.data.digests import digest_array, question_digest
from zerorouter.data.report import LoadReport
from zerorouter.data.responses import (
    SIDE_COLUMNS,
    PromptTable,
    Records,
    ResponseTable,
)
from zerorouter.errors import DataError, UnknownNameError

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # left out: not administered, never wrong
        "other_filter": "rows of a filter that was not taken: left out",
        "no_question": "rows that hold no question: left out",
        "few_shot_prompt": "rows whose only text is a prompt with worked examples: left out",
        "media": "questions with an image, a sound or a file: left out",
        "no_score": "answers without a score: not administered",
        "unclear_score": "answers with several values and no rule for which counts: left out",
        "out_of_range": "scores outside [0, 1]: left out",
        "errored": "answers that ended in an error: not administered",
        "limited": "answers cut off by a limit of the run: not administered",
        "invalidated": "answers marked invalid in the log: left out",
        "unfinished_log": "logs of runs that did not succeed: left out whole",
        "demo_log": "logs of trial runs: left out whole",
        "perturbed": "answers to perturbed questions: left out",
        "unscored_request": "requests without statistics: not administered",
        "too_large": "samples of more bytes than are read: left out",
        "ignored_files": "files that are no evaluation logs: left out",
        "ignored_columns": "columns that hold no scores: left out",
        # merged or chosen
        "metric": "files with several metrics: one was taken",
        "filter": "files with several filters: one was taken",
        "repeats": "questions a model answered more than once (repeats, epochs): averaged",
        "several_turns": "prompts of several turns: the last one taken for the question",
        "reference_conflict": "questions whose logs name different right answers: the first kept",
        # kept, but worth a look
        "guessed_model": "files that name no model: named after their folder",
        "empty_answer": "empty answers: kept as they were scored",
        "truncated_answer": "answers cut at their token limit: kept as they were scored",
    }
)
"""Every rule by which reading leaves out, merges or doubts something."""

_HALF_PAIR = re.compile("[\ud800-\udfff]")
_PLACES = 3  # kept for each rule
_MOST = 1e300  # whole numbers beyond have no float

_COLUMNS: Final = ("score", *SIDE_COLUMNS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question, bare.

    Attributes:
        text: What is asked, without worked examples, instructions or options.
        choices: The options in order; empty for an open question.
        reference: The right answer; of a choice its letter.
        task: The benchmark, or its part.
    """

    text: str
    choices: tuple[str, ...] = ()
    reference: str | None = None
    task: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedAnswer:
    """One scored answer; NaN means not known.

    Attributes:
        question: What was asked.
        respondent: Who answered, as the log names it.
        score: How right the answer was, in [0, 1].
        input_tokens, output_tokens, output_chars: Sizes of prompt and reply.
        cost_usd: Dollars paid.
        latency_s: Seconds from request to last token.
    """

    question: Question
    respondent: str
    score: float
    input_tokens: float = math.nan
    output_tokens: float = math.nan
    cost_usd: float = math.nan
    latency_s: float = math.nan
    output_chars: float = math.nan


@dataclass(frozen=True, kw_only=True)
class LogNote:
    """``count`` things were treated by ``rule`` (a key of `RULES`).

    Attributes:
        rule: A key of `RULES`.
        count: How many.
        detail: What was taken or found, where that says more than the rule; may be empty.
        places: The first few of them: file, and line or sample.
    """

    rule: str
    count: int
    detail: str = ""
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        first = f"; first: {self.places[0]}" if self.places else ""
        return f"{self.count:,} {RULES[self.rule]}{detail}{first}"


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """One log that was read: where, in which format, and how many answers it gave."""

    path: str
    format: str
    n_answers: int


@dataclass(frozen=True, kw_only=True)
class LogReport:
    """What was read and what became of the rest.

    Attributes:
        files: Each log with the answers it gave, before repeats are averaged.
        n_questions, n_respondents, n_answers: What is left.
        notes: What each rule did; rules that did nothing are absent.
    """

    files: tuple[LogFile, ...]
    n_questions: int
    n_respondents: int
    n_answers: int
    notes: tuple[LogNote, ...] = ()

    def count(self, rule: str) -> int:
        """How many things ``rule`` (a key of `RULES`) treated."""
        if rule not in RULES:
            raise KeyError(rule)
        return sum(note.count for note in self.notes if note.rule == rule)

    def __str__(self) -> str:
        kept = (
            f"{self.n_questions:,} questions, {self.n_respondents:,} models, "
            f"{self.n_answers:,} answers from {len(self.files):,} logs"
        )
        return "\n".join([kept, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedAnswers:
    """R answers of M respondents to Q questions.

    Attributes:
        prompts: Questions with at least one scored answer, Q of them, each once a task. Their ids
            hold the digest and so are the same in every log of the question.
        digests: (Q, 2) uint64, as in `zerorouter.space.CalibratedItems`.
        respondents: Names as the logs give them, sorted.
        responses: One row per (respondent, question), sorted by that pair; repeats are means.
        n_samples: How many logged answers each row is the mean of, int32 (R,).
        report: What was left out, and why.
    """

    prompts: PromptTable
    digests: NDArray[np.uint64]
    respondents: tuple[str, ...]
    responses: ResponseTable
    n_samples: NDArray[np.int32]
    report: LogReport

    def respondent(self, name: str | None = None) -> str:
        """``name`` if the logs know it, and without a name the only respondent there is.

        Raises:
            UnknownNameError: the logs hold no answer of ``name``.
            DataError: no name was given and the logs hold several respondents.
        """
        if name is not None:
            if name not in self.respondents:
                raise UnknownNameError("respondent of the logs", name, self.respondents)
            return name
        if len(self.respondents) != 1:
            listed = ", ".join(self.respondents[:5])
            more = f" and {len(self.respondents) - 5} more" if len(self.respondents) > 5 else ""
            raise DataError(
                f"found answers of {len(self.respondents)} models in the logs ({listed}{more}); "
                "wanted those of one; name it, or hand over its logs alone"
            )
        return self.respondents[0]

    def as_records(self, dataset: str) -> Records:
        """The same as one data set of the project's own format."""
        report = LoadReport(
            n_prompts=len(self.prompts),
            n_respondents=len(self.respondents),
            n_responses=len(self.responses),
        )
        return Records(
            dataset=dataset,
            prompts=PromptTable(
                ids=self.prompts.ids,
                texts=self.prompts.texts,
                tasks=self.prompts.tasks,
                choices_json=self.prompts.choices_json,
                references=self.prompts.references,
                dataset=self.prompts.dataset,
                dataset_names=(dataset,),
            ),
            respondents=self.respondents,
            responses=self.responses,
            models={},
            report=report,
        )


class Notes:
    """Gathers what the readers leave out."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, rule: str, place: object, *, detail: str = "", count: int = 1) -> None:
        """Note that ``rule`` treated ``count`` things at ``place`` (a file, with its line)."""
        before, places = self._found.get((rule, detail), (0, ()))
        if len(places) < _PLACES:
            places = (*places, str(place))
        self._found[rule, detail] = (before + count, places)

    def finish(self) -> tuple[LogNote, ...]:
        """The notes in the order of `RULES`."""
        order = list(RULES)
        return tuple(
            LogNote(rule=rule, count=count, detail=detail, places=places)
            for (rule, detail), (count, places) in sorted(
                self._found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
            )
        )


class Gathering:
    """Takes answers one by one and keeps of each only numbers, of each question its text once."""

    def __init__(self) -> None:
        self.notes = Notes()
        self._files: list[LogFile] = []
        self._questions: dict[tuple[str | None, bytes], int] = {}
        self._known: list[Question] = []
        self._respondents: dict[str, int] = {}
        self._question = array("i")
        self._respondent = array("i")
        self._columns = {name: array("d") for name in _COLUMNS}

    def add(self, answer: LoggedAnswer) -> None:
        """Take in one answer."""
        question = answer.question
        key = (question.task, question_digest(question.text, question.choices))
        index = self._questions.setdefault(key, len(self._known))
        if index == len(self._known):
            self._known.append(_clean(question))
        elif question.reference != self._known[index].reference:
            self._compare(index, question)
        self._question.append(index)
        respondent = self._respondents.get(answer.respondent)
        if respondent is None:
            respondent = self._respondents.setdefault(
                cleaned(answer.respondent), len(self._respondents)
            )
        self._respondent.append(respondent)
        columns = self._columns  # written out: this runs once for every answer there is
        columns["score"].append(answer.score)
        columns["input_tokens"].append(answer.input_tokens)
        columns["output_tokens"].append(answer.output_tokens)
        columns["cost_usd"].append(answer.cost_usd)
        columns["latency_s"].append(answer.latency_s)
        columns["output_chars"].append(answer.output_chars)

    def file(self, path: object, format_name: str, n_answers: int) -> None:
        """Note that a log was read."""
        self._files.append(LogFile(path=str(path), format=format_name, n_answers=n_answers))

    def __len__(self) -> int:
        return len(self._question)

    def finish(self) -> LoggedAnswers:
        """All answers, repeats averaged.

        Raises:
            DataError: There is no scored answer.
        """
        if not len(self):
            raise DataError(self._nothing())
        names = sorted(self._respondents)
        rank = np.empty(len(names), dtype=np.int64)
        rank[[self._respondents[name] for name in names]] = np.arange(len(names))
        question = np.frombuffer(self._question, dtype=np.int32).astype(np.int64)
        respondent = rank[np.frombuffer(self._respondent, dtype=np.int32)]
        cells, place, n_samples = np.unique(
            respondent * len(self._known) + question, return_inverse=True, return_counts=True
        )
        repeated = int(np.count_nonzero(n_samples > 1))
        if repeated:
            first = self._known[int(cells[np.argmax(n_samples > 1)] % len(self._known))]
            self.notes.add("repeats", repr(_shortened(first.text)), count=repeated)
        responses = ResponseTable.of_columns(
            cells % len(self._known),
            cells // len(self._known),
            {name: self._means(name, place, len(cells)) for name in _COLUMNS},
        )
        return LoggedAnswers(
            prompts=self._prompts(),
            digests=digest_array(digest for _, digest in self._questions),
            respondents=tuple(names),
            responses=responses,
            n_samples=n_samples.astype(np.int32),
            report=LogReport(
                files=tuple(self._files),
                n_questions=len(self._known),
                n_respondents=len(names),
                n_answers=len(cells),
                notes=self.notes.finish(),
            ),
        )

    def _compare(self, index: int, question: Question) -> None:
        known = self._known[index]
        if known.reference is None:
            self._known[index] = question
        elif question.reference is not None:
            self.notes.add("reference_conflict", repr(_shortened(question.text)))

    def _means(self, name: str, place: NDArray[np.int64], n_cells: int) -> FloatArray:
        """The mean of the known values of each cell, NaN where none is, (n_cells,)."""
        values = np.frombuffer(self._columns[name], dtype=np.float64)
        known = ~np.isnan(values)
        totals = np.bincount(place[known], weights=values[known], minlength=n_cells)
        counts = np.bincount(place[known], minlength=n_cells)
        means = np.full(n_cells, np.nan)
        np.divide(totals, counts, out=means, where=counts > 0)
        return means

    def _prompts(self) -> PromptTable:
        n = len(self._known)
        return PromptTable(
            ids=tuple(
                cleaned(digest.hex() if task is None else f"{task}-{digest.hex()}")
                for task, digest in self._questions
            ),
            texts=tuple(question.text for question in self._known),
            tasks=tuple(question.task for question in self._known),
            choices_json=tuple(_choices_json(question.choices) for question in self._known),
            references=tuple(question.reference for question in self._known),
            dataset=np.zeros(n, dtype=np.int32),
            dataset_names=("logs",),
        )

    def _nothing(self) -> str:
        read = ", ".join(file.path for file in self._files[:3]) or "no log"
        why = "".join(f"\n  {note}" for note in self.notes.finish())
        return (
            f"{read}: found no scored answer; wanted at least one; check that the run is complete "
            f"and its samples were logged{why}"
        )


_as_json = json.JSONEncoder(ensure_ascii=False).encode


def _choices_json(choices: tuple[str, ...]) -> str | None:
    return _as_json(choices) if choices else None


def _clean(question: Question) -> Question:
    """``question`` without blanks around it, and with nothing in it that a file cannot hold."""
    return Question(
        text=cleaned(question.text.strip()),
        choices=question.choices,
        reference=None if question.reference is None else cleaned(question.reference),
        task=None if question.task is None else cleaned(question.task),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def number(value: Any) -> float:
    """``value`` as a finite float from 0 up, NaN where it is none: side columns never fail."""
    if type(value) is float:
        return value if 0 <= value < math.inf else math.nan
    if type(value) is int:  # and no truth value
        return float(value) if 0 <= value < _MOST else math.nan
    return math.nan


def cleaned(text: str) -> str:
    """``text`` with half surrogate pairs, which no file can hold, replaced."""
    if text.isascii():
        return text
    return _HALF_PAIR.sub("\ufffd", text)
