"""What reading evaluation records left out or merged, counted by rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "null_score": "responses without a score: not administered, left out",
        "same_score_repeats": "(prompt, model) pairs repeated with one score: collapsed into one",
        "averaged_repeats": "(prompt, model) pairs repeated with differing scores: averaged",
        "silent_respondents": "models without a single score: left out",
        "unanswered_prompts": "prompts without a single score: left out of the matrix",
        "unlisted_models": "models without a row in the model table: only the name is known",
        "unused_models": "rows of the model table whose model has no score: left out",
        "renamed_respondents": "models renamed by the alias table",
        "merged_respondents": "models merged with one of the same name (after aliases)",
        "unused_aliases": "aliases that match no model",
        "metadata_conflicts": "model facts on which data sets disagree: the first one kept",
    }
)
"""Every rule by which reading drops or merges something; the text says what was done."""


@dataclass(frozen=True, kw_only=True)
class LoadNote:
    """``count`` things were treated by ``rule`` (a key of `RULES`) in ``dataset``."""

    dataset: str
    rule: str
    count: int


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was read and what became of the rest.

    Attributes:
        n_prompts: Prompts kept.
        n_respondents: Respondents kept.
        n_responses: Responses kept, one per (prompt, respondent).
        notes: What each rule dropped or merged; rules that did nothing are absent.
    """

    n_prompts: int
    n_respondents: int
    n_responses: int
    notes: tuple[LoadNote, ...] = ()

    def count(self, rule: str) -> int:
        """How many things ``rule`` (a key of `RULES`) dropped or merged, over all data sets."""
        if rule not in RULES:
            raise KeyError(rule)
        return sum(note.count for note in self.notes if note.rule == rule)

    def __str__(self) -> str:
        kept = (
            f"{self.n_prompts:,} prompts, {self.n_respondents:,} models, "
            f"{self.n_responses:,} responses"
        )
        noted = [f"  {n.dataset}: {n.count:,} {RULES[n.rule]}" for n in self.notes]
        return "\n".join([kept, *noted])


def notes_for(dataset: str, counts: Mapping[str, int]) -> tuple[LoadNote, ...]:
    """Notes for the rules of ``counts`` that did something, in their given order."""
    return tuple(
        LoadNote(dataset=dataset, rule=rule, count=count) for rule, count in counts.items() if count
    )


def joined_notes(reports: Iterable[LoadReport]) -> tuple[LoadNote, ...]:
    """The notes of several reports, one after the other."""
    return tuple(note for report in reports for note in report.notes)
