"""Evidence from evaluation logs: nothing is asked of the model.

Questions are known again by the hash of their bare text (`data.logs`). Those that the space
calibrated count with their own parameters, the others with what their text predicts; both
numbers are told. Of very many answers a profile keeps a summary and a sample.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zerorouter.arrays import IntArray
from zerorouter.asking.sources import asked
from zerorouter.data.logs.matching import match_items
from zerorouter.data.logs.reading import read_logs
from zerorouter.data.logs.records import LoggedAnswers
from zerorouter.data.responses import ResponseTable
from zerorouter.errors import InputError
from zerorouter.irt.model import ItemParameters
from zerorouter.onboarding.evidence import (
    MOST_ANSWERS,
    Answer,
    PredictedItem,
    Source,
    key_of,
    predicted_items,
    summarise,
)
from zerorouter.predict.prompt import read_prompt
from zerorouter.space import LatentSpace, SpaceReader

MOST_READ = 2_000
"""Texts of one import that are read: for parameters of other questions, and answer lengths."""

KEPT_BESIDE_SUMMARY = 500  # answers


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported:
    """Evidence and what became of the logs.

    Attributes:
        source: The evidence.
        respondent: Whose answers, as the logs name it.
        n_calibrated: Answers to calibrated items.
        n_predicted: Answers to other questions that count.
        notes: What was left out, and why.
    """

    source: Source
    respondent: str
    n_calibrated: int
    n_predicted: int
    notes: tuple[str, ...]


def import_evidence(
    paths: Sequence[str | os.PathLike[str]],
    space: LatentSpace,
    *,
    date: str,
    respondent: str | None = None,
    reader: SpaceReader | None = None,
    seed: int = 0,
) -> Imported:
    """Read logs of one model.

    Args:
        paths: Logs, or folders of them: lm-eval-harness, HELM, Inspect, our own format.
        space: The space.
        date: Today, ``YYYY-MM-DD``.
        respondent: Whose answers, where the logs hold several models'.
        reader: Of the space.
        seed: Draws samples of what is too much to read.

    Raises:
        DataError: a log is damaged or holds no score.
        UnknownNameError: the logs hold no answers of ``respondent``.
    """
    logged = read_logs(paths)
    name = logged.respondent(respondent)
    found = match_items(
        logged,
        space.calibrated.digests,
        respondent=name,
        uncertainty=space.calibrated.items.effect_scale,
    )
    rng = np.random.default_rng(seed)
    notes = [str(note) for note in logged.report.notes]
    unmatched = np.arange(len(found.unmatched))
    if len(unmatched) > MOST_READ:
        unmatched = np.sort(rng.permutation(len(unmatched))[:MOST_READ])
        notes.append(
            f"{len(found.unmatched):,} questions are not calibrated; "
            f"a sample of {MOST_READ:,} counts"
        )
    others = found.unmatched.take(unmatched)
    reading = _Reading.of(logged, others.prompt, space, reader or space.reader())
    answers = [
        _answer(logged, others, row, item=item, log_length=level)
        for row, (item, level) in enumerate(zip(reading.items, reading.log_length, strict=True))
    ]
    keys = [key_of(digest) for digest in space.calibrated.digests[found.positions]]
    answers += [
        _answer(logged, found.matched, row, key=keys[row]) for row in range(len(found.matched))
    ]
    if not answers:
        raise InputError(f"the logs hold no usable answer of {name!r}")
    answers.sort(key=lambda answer: (answer.ref, answer.key))
    digest = hashlib.sha256(
        "\n".join(f"{a.ref} {a.key} {a.score}" for a in answers).encode()
    ).hexdigest()
    summary = None
    kept = answers
    if len(answers) > MOST_ANSWERS:
        summary = summarise(space, answers)
        chosen = np.sort(rng.permutation(len(answers))[:KEPT_BESIDE_SUMMARY])
        kept = [answers[int(i)] for i in chosen]
    return Imported(
        source=Source(
            id=f"logs:{digest[:12]}",
            kind="logs",
            date=date,
            space=space.version,
            answers=tuple(_with_levels(kept, logged, space, reader or space.reader())),
            summary=summary,
            facts={
                "respondent": name,
                "formats": sorted({file.format for file in logged.report.files}),
                "answers_to_calibrated_items": len(found.matched),
                "answers_to_predicted_items": len(others),
            },
        ),
        respondent=name,
        n_calibrated=len(found.matched),
        n_predicted=len(others),
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What texts say of their items."""

    items: tuple[PredictedItem, ...]
    log_length: tuple[float, ...]

    @classmethod
    def of(
        cls, logged: LoggedAnswers, prompts: IntArray, space: LatentSpace, reader: SpaceReader
    ) -> _Reading:
        if len(prompts) == 0:
            return cls(items=(), log_length=())
        readings = reader.read([read_prompt(_text(logged, int(i))) for i in prompts])
        items: ItemParameters = readings.items
        kinds = [logged.prompts.tasks[int(i)] or "logs" for i in prompts]
        return cls(
            items=predicted_items(items, kinds, space),
            log_length=tuple(round(float(level), 3) for level in readings.log_length),
        )


def _with_levels(
    answers: Sequence[Answer], logged: LoggedAnswers, space: LatentSpace, reader: SpaceReader
) -> list[Answer]:
    """The answers, those with known tokens with the level that their text reads as."""
    prompt_of = {_ref(logged, i): i for i in range(len(logged.prompts))}
    wanted = [a for a in answers if a.tokens and a.log_length is None][:MOST_READ]
    if not wanted:
        return list(answers)
    levels = _Reading.of(
        logged, np.array([prompt_of[a.ref] for a in wanted]), space, reader
    ).log_length
    known = {a.ref: level for a, level in zip(wanted, levels, strict=True)}
    return [
        replace(a, log_length=known[a.ref]) if a.ref in known and a.log_length is None else a
        for a in answers
    ]


def _answer(
    logged: LoggedAnswers,
    table: ResponseTable,
    row: int,
    *,
    key: str | None = None,
    item: PredictedItem | None = None,
    log_length: float | None = None,
) -> Answer:
    prompt = int(table.prompt[row])
    return Answer(
        ref=_ref(logged, prompt),
        score=round(float(table.score[row]), 6),
        key=key_of(logged.digests[prompt]) if key is None else key,
        kind=logged.prompts.tasks[prompt] or "",
        item=item,
        tokens=_known(table.output_tokens[row]),
        log_length=log_length,
        input_tokens=_known(table.input_tokens[row]),
        end_to_end_s=_known(table.latency_s[row]),
    )


def _ref(logged: LoggedAnswers, prompt: int) -> str:
    task = logged.prompts.tasks[prompt]
    return f"{task}/{logged.prompts.ids[prompt]}" if task else logged.prompts.ids[prompt]


def _text(logged: LoggedAnswers, prompt: int) -> str:
    return asked(logged.prompts.texts[prompt], logged.prompts.choices[prompt] or ())


def _known(value: float) -> float | None:
    number = float(value)
    return None if math.isnan(number) or number <= 0 else round(number, 4)
