"""Recorded answers: which prompt of a data folder a request repeats, and what was scored there."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from zerorouter.data.reading import combine, read_folder
from zerorouter.data.responses import ModelRow, PromptTable, ResponseMatrix, ResponseTable
from zerorouter.linking import load_aliases
from zerorouter.predict.prompt import CHARS_PER_TOKEN

# What a client may write before a question on its first line.
_LABEL = re.compile(r"^(?:question|prompt|problem|task|query|input|q)\s*\d*\s*[:.)]\s+")
_MOST_LINES: Final = 5_000  # of a request that are looked at as the first line of a prompt
_LONGEST_ASK: Final = 1_000_000  # characters; what is longer is no recorded prompt
_N_PEERS: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedPrompt:
    """A prompt of the records.

    Attributes:
        key: ``data set/prompt id``.
        reference: The right answer, None where there is none.
        options: Options of a multiple choice.
        peers: Right answers to other prompts of its task.
    """

    index: int
    key: str
    reference: str | None
    options: tuple[str, ...]
    peers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedAnswer:
    """One cell of the records; None means not known.

    Attributes:
        score: How right it was, in [0, 1].
        input_tokens: As billed.
        output_tokens: As billed; where not known, from ``output_chars``.
        visible_tokens: From ``output_chars``.
        latency_s: Seconds to the last token.
    """

    score: float
    input_tokens: int | None
    output_tokens: int | None
    visible_tokens: int | None
    latency_s: float | None


class Recordings:
    """An index over one or several data folders. Made by `load` or from a response matrix.

    A request repeats a recorded prompt where the prompt's text stands in it from the beginning of
    a line to the end of one, whatever stands around it; blanks, case and Unicode form do not
    matter. Of several such prompts the longest wins, then the one whose options or functions
    stand in the request as well.

    Args:
        matrix: The answers.
        prompts: All prompts to know, those without an answer too; by default the matrix's.
        raw_names: Respondents by (data set, name as its records spell it).
    """

    def __init__(
        self,
        matrix: ResponseMatrix,
        *,
        prompts: PromptTable | None = None,
        raw_names: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        table = matrix.prompts if prompts is None else prompts
        self._prompts = table
        self._responses = matrix.responses
        self.respondents = matrix.respondents
        self.models: tuple[ModelRow, ...] = matrix.models
        self._rows = {name: row for row, name in enumerate(matrix.respondents)}
        self._raw = dict(raw_names or {})
        self._folded = [folded(text) for text in table.texts]
        self._by_line: dict[str, list[int]] = defaultdict(list)
        for index, text in enumerate(table.texts):
            if line := _first_line(text):
                self._by_line[line].append(index)
        column = {key: i for i, key in enumerate(matrix.prompts.keys)}
        self._column = [column.get(key) for key in table.keys]
        self._n_columns = len(matrix.prompts)
        cells = _cells(matrix.responses, self._n_columns)
        self._order = np.argsort(cells, kind="stable")
        self._cells = cells[self._order]
        means = np.nanmean(matrix.scores, axis=1)
        self._mean = {name: float(means[row]) for name, row in self._rows.items()}

    @classmethod
    def load(cls, folders: Sequence[Path]) -> Recordings:
        """Read folders of the format in docs/data.md, linked by the packaged alias table.

        Raises:
            DataError: A folder is no data set; the message names file, row and column.
            MissingExtraError: A Parquet file is met and pyarrow is not installed.
        """
        records = [read_folder(folder) for folder in folders]
        aliases = load_aliases()
        raw = {
            (own.dataset, name): aliases(own.dataset, name)
            for own in records
            for name in own.respondents
        }
        return cls(
            combine(records, aliases),
            prompts=PromptTable.join([own.prompts for own in records]),
            raw_names=raw,
        )

    def __len__(self) -> int:
        return len(self._prompts)

    def mean_score(self, respondent: str) -> float | None:
        """Mean recorded score of a respondent, None for one that is not in the records."""
        return self._mean.get(respondent)

    def respondent(self, name: str) -> str | None:
        """The respondent a name of the records means, whichever data set it is from."""
        if name in self._rows:
            return name
        found = {own for (_, raw), own in self._raw.items() if raw == name}
        return min(found) if found else None

    def match(
        self, text: str, tools: Collection[str] = (), *, model: str = "", asked_as: str = ""
    ) -> RecordedPrompt | None:
        """The recorded prompt that ``text`` repeats, or None.

        Args:
            text: What the user said.
            tools: Names of the functions on offer; they tell prompts of one text apart.
            model: Of prompts that are alike in all this, one that it answered is taken.
            asked_as: As for `answer`.
        """
        if len(text) > _LONGEST_ASK:
            return None
        lines = [line for raw in text.split("\n") if (line := folded(raw))]
        if not lines:
            return None
        whole = " ".join(lines)
        ends = set[int]()
        starts: list[int] = []
        at = 0
        for line in lines:
            starts.append(at)
            at += len(line) + 1
            ends.add(at - 1)
        hits: list[int] = []
        for line, start in zip(lines[:_MOST_LINES], starts, strict=False):
            hits += self._hits(line, start, whole, ends)
            if bare := _LABEL.sub("", line, count=1):
                skipped = len(line) - len(bare)
                if skipped:
                    hits += self._hits(bare, start + skipped, whole, ends)
        if not hits:
            return None
        longest = max(len(self._folded[index]) for index in hits)
        close = sorted({index for index in hits if len(self._folded[index]) == longest})
        if len(close) > 1:
            likeness = [self._likeness(index, text, whole, tools) for index in close]
            best = max(likeness)
            close = [i for i, own in zip(close, likeness, strict=True) if own == best]
        if len(close) > 1 and model:
            close = [i for i in close if self._row(i, model, asked_as) is not None] or close
        return self.prompt(close[0])

    def prompt(self, index: int) -> RecordedPrompt:
        """The prompt at ``index``."""
        table = self._prompts
        own = table.references[index]
        peers = self._peers.get(_task(table, index), ())
        return RecordedPrompt(
            index=index,
            key="/".join(table.keys[index]),
            reference=own,
            options=table.choices[index] or (),
            peers=peers if own is not None else (),
        )

    def answer(
        self, prompt: RecordedPrompt, model: str, asked_as: str = ""
    ) -> RecordedAnswer | None:
        """What ``model`` scored there, or None where it was not asked.

        Args:
            prompt: A prompt of these records.
            model: A respondent.
            asked_as: The name in the request; where it is the records' own spelling in the
                prompt's data set it wins over ``model``.
        """
        row = self._row(prompt.index, model, asked_as)
        return None if row is None else _answer(self._responses, row)

    def _row(self, index: int, model: str, asked_as: str) -> int | None:
        """The response of a model to a prompt, as a row of the table."""
        dataset = self._prompts.dataset_names[int(self._prompts.dataset[index])]
        respondent = self._rows.get(self._raw.get((dataset, asked_as), model))
        column = self._column[index]
        if respondent is None or column is None:
            return None
        cell = respondent * self._n_columns + column
        at = int(np.searchsorted(self._cells, cell))
        if at == len(self._cells) or int(self._cells[at]) != cell:
            return None
        return int(self._order[at])

    @cached_property
    def _peers(self) -> dict[str, tuple[str, ...]]:
        """Distinct references of each task, the first few."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for index, reference in enumerate(self._prompts.references):
            peers = found[_task(self._prompts, index)]
            if reference and len(peers) < _N_PEERS:
                peers[reference] = None
        return {task: tuple(peers) for task, peers in found.items()}

    def _hits(self, line: str, start: int, whole: str, ends: set[int]) -> list[int]:
        return [
            index
            for index in self._by_line.get(line, ())
            if start + len(self._folded[index]) in ends
            and whole.startswith(self._folded[index], start)
        ]

    def _likeness(
        self, index: int, text: str, whole: str, tools: Collection[str]
    ) -> tuple[int, bool]:
        """How much else of the prompt stands in the request: options or functions, then case."""
        if options := self._prompts.choices[index]:
            n = sum(1 if folded(option) in whole else -1 for option in options)
        else:
            n = -len(_function_names(self._prompts.choices_json[index]) ^ set(tools))
        return n, self._prompts.texts[index].strip() in text


def folded(text: str) -> str:
    """``text`` with Unicode form, case and runs of blanks evened out."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def _first_line(text: str) -> str:
    return next((line for raw in text.split("\n") if (line := folded(raw))), "")


def _cells(responses: ResponseTable, n_prompts: int) -> NDArray[np.int64]:
    """One number per (respondent, prompt) pair, (R,)."""
    return responses.respondent.astype(np.int64) * n_prompts + responses.prompt


def _task(table: PromptTable, index: int) -> str:
    return f"{int(table.dataset[index])}/{table.tasks[index]}"


def _function_names(choices_json: str | None) -> set[str]:
    try:
        declared: Any = json.loads(choices_json or "[]")
    except ValueError:
        return set()
    listed = declared if isinstance(declared, list) else [declared]
    return {str(one["name"]) for one in listed if isinstance(one, dict) and "name" in one}


def _answer(table: ResponseTable, row: int) -> RecordedAnswer:
    visible = _known(table.output_chars[row])
    visible_tokens = None if visible is None else max(math.ceil(visible / CHARS_PER_TOKEN), 1)
    # Some records hold zeros where nothing was counted; no answer has no tokens.
    output = _known(table.output_tokens[row]) or visible_tokens
    tokens = _known(table.input_tokens[row])
    return RecordedAnswer(
        score=float(table.score[row]),
        input_tokens=int(tokens) if tokens else None,
        output_tokens=None if output is None else max(int(output), 1),
        visible_tokens=visible_tokens,
        latency_s=_known(table.latency_s[row]),
    )


def _known(value: Any) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
