"""A profile as the text of its file: sorted keys, rounded numbers, a line for every answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from zerorouter.catalog import ModelSpec
from zerorouter.onboarding.evidence import (
    Answer,
    PredictedItem,
    ReportedScore,
    Source,
    Summary,
)
from zerorouter.profiles.profile import FORMAT, FORMAT_VERSION, AnswerLengths, Profile, Speed


def written(profile: Profile) -> str:
    """The text of a profile."""
    lengths, speed = profile.lengths, profile.speed
    head: dict[str, Any] = {
        "ability": _rounded(profile.ability, 5),
        "ability_covariance": [_rounded(row, 7) for row in profile.covariance],
        "card": profile.card.to_dict(),
        "date": profile.date,
        "expected_accuracy": {
            name: _rounded(values, 4) for name, values in sorted(profile.expected_accuracy.items())
        },
        "format": FORMAT,
        "leaning_variance": round(profile.leaning_variance, 5),
        "leanings": None if profile.leanings is None else _rounded(profile.leanings, 4),
        "lengths": {
            column.name: round(value, 4) if isinstance(value, float) else value
            for column in fields(lengths)
            for value in [getattr(lengths, column.name)]
        },
        "model": profile.name,
        "n_answers": profile.n_answers,
        "predictive_sd": round(profile.predictive_sd, 4),
        "probation": profile.probation,
        "space": profile.space_version,
        "speed": None
        if speed is None
        else {"n": speed.n, "tpot_s": _digits(speed.tpot_s), "ttft_s": _digits(speed.ttft_s)},
        "version": FORMAT_VERSION,
        "warnings": list(profile.warnings),
    }
    lines = [f" {json.dumps(key)}: {_compact(value)}," for key, value in sorted(head.items())]
    sources = ",\n".join(_source_text(source) for source in profile.sources)
    return "\n".join(["{", *lines, ' "sources": [', *([sources] if sources else []), " ]", "}"]) + (
        "\n"
    )


def _source_text(source: Source) -> str:
    row: dict[str, Any] = {
        "date": source.date,
        "facts": dict(source.facts),
        "id": source.id,
        "kind": source.kind,
        "space": source.space,
    }
    if source.summary is not None:
        row["summary"] = {
            column.name: getattr(source.summary, column.name) for column in fields(Summary)
        }
    if source.reported is not None:
        row["reported"] = {
            column.name: getattr(source.reported, column.name) for column in fields(ReportedScore)
        }
    lines = [f"   {json.dumps(key)}: {_compact(value)}" for key, value in sorted(row.items())]
    if source.answers:
        answers = ",\n".join(f"    {_compact(_answer_row(a))}" for a in source.answers)
        lines.append(f'   "answers": [\n{answers}\n   ]')
    return "  {\n" + ",\n".join(lines) + "\n  }"


def _answer_row(answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {"ref": answer.ref, "score": answer.score}
    for column in ("key", "kind", "tokens", "log_length", "input_tokens", "ttft_s", "end_to_end_s"):
        value = getattr(answer, column)
        if value not in (None, ""):
            row[column] = value
    if answer.item is not None:
        item = answer.item
        row["item"] = {
            "a": list(item.discrimination),
            "d": item.intercept,
            "c": item.guessing,
            "scale": item.effect_scale,
            "shift": item.shift_variance,
            "kind": item.kind,
        }
        if item.facets:
            row["item"]["facets"] = list(item.facets)
    return row


def read(table: Mapping[str, Any]) -> Profile:
    """A profile from the parsed text.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is incomplete or inconsistent.
    """
    ability = np.array(table["ability"], dtype=np.float64)
    covariance = np.array(table["ability_covariance"], dtype=np.float64)
    if covariance.shape != (len(ability), len(ability)) or not np.isfinite(covariance).all():
        raise ValueError(f"an ability of {len(ability)} with a covariance of {covariance.shape}")
    speed = table["speed"]
    return Profile(
        card=ModelSpec.from_dict(table["card"]),
        space_version=str(table["space"]),
        date=str(table["date"]),
        ability=ability,
        covariance=covariance,
        leanings=None
        if table["leanings"] is None
        else np.array(table["leanings"], dtype=np.float64),
        leaning_variance=float(table["leaning_variance"]),
        lengths=AnswerLengths(**table["lengths"]),
        speed=None if speed is None else Speed(**speed),
        predictive_sd=float(table["predictive_sd"]),
        probation=bool(table["probation"]),
        expected_accuracy={
            name: (float(mean), float(low), float(high))
            for name, (mean, low, high) in table["expected_accuracy"].items()
        },
        sources=tuple(_read_source(row) for row in table["sources"]),
        warnings=tuple(table["warnings"]),
    )


def _read_source(row: Mapping[str, Any]) -> Source:
    summary, reported = row.get("summary"), row.get("reported")
    if summary is not None:
        summary = Summary(
            mean=tuple(summary["mean"]),
            precision=tuple(tuple(line) for line in summary["precision"]),
            shift=tuple(summary["shift"]),
            n_answers=int(summary["n_answers"]),
        )
    if reported is not None:
        reported = ReportedScore(
            benchmark=str(reported["benchmark"]),
            score=float(reported["score"]),
        )
    return Source(
        id=str(row["id"]),
        kind=row["kind"],
        date=str(row["date"]),
        space=str(row["space"]),
        facts=dict(row["facts"]),
        answers=tuple(_read_answer(answer) for answer in row.get("answers", ())),
        summary=summary,
        reported=reported,
    )


def _read_answer(row: Mapping[str, Any]) -> Answer:
    values = dict(row)
    item = values.pop("item", None)
    if item is not None:
        values["item"] = PredictedItem(
            discrimination=tuple(item["a"]),
            intercept=item["d"],
            guessing=item["c"],
            effect_scale=item["scale"],
            shift_variance=item["shift"],
            kind=item["kind"],
            facets=tuple(item.get("facets", ())),
        )
    return Answer(**values)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _rounded(values: Iterable[float], digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


def _digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
