"""Replies with their grades, and what looks wrong with a run's answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.asking.graders import Grade
from zerorouter.asking.journal import Received
from zerorouter.asking.sources import Anchor
from zerorouter.irt.model import ItemParameters
from zerorouter.onboarding.evidence import Answer, mean_accuracy
from zerorouter.onboarding.person_fit import Conduct, memorised, person_fit, warnings_of

_REFUSAL: Final = re.compile(
    r"\b(?:i[’']?m sorry|i am sorry|i apologi[sz]e|sorry)\b.{0,60}\b(?:can[’']?t|cannot|unable)\b"
    r"|\bi (?:can[’']?t|cannot|am unable to|won[’']?t) "
    r"(?:help|assist|answer|comply|provide|do that)\b",
    re.IGNORECASE | re.DOTALL,
)
_REFUSAL_CHARS: Final = 600  # a long reply that says sorry somewhere is an answer


@dataclass(frozen=True, kw_only=True, eq=False)
class Graded:
    """An answer with its grade.

    Attributes:
        anchor: What was asked.
        received: What came.
        grade: What it is worth.
        answer: The evidence it makes; None where it does not count.
    """

    anchor: Anchor
    received: Received
    grade: Grade
    answer: Answer | None

    @property
    def truncated(self) -> bool:
        """Whether the token limit cut it."""
        return self.received.finish == "length"

    @property
    def refused(self) -> bool:
        """Whether it declines."""
        return refuses(self.received)


def graded(anchor: Anchor, received: Received) -> Graded:
    """Grade a reply. One that was cut before an answer was found does not count.

    Raises:
        InputError: a grader of the user's own fails.
    """
    grade = anchor.grader(received.text)
    counts = grade.found or received.finish != "length"
    answer = None
    if counts:
        answer = Answer(
            ref=anchor.ref,
            score=round(grade.score, 6),
            key=anchor.key,
            kind=anchor.kind,
            item=anchor.item,
            tokens=received.output_tokens,
            log_length=anchor.log_length,
            input_tokens=received.input_tokens,
            ttft_s=received.ttft_s,
            end_to_end_s=received.end_to_end_s,
        )
    return Graded(anchor=anchor, received=received, grade=grade, answer=answer)


def refuses(received: Received) -> bool:
    """Whether a reply declines to answer."""
    text = received.text.strip()
    if received.finish in ("content_filter", "refusal"):
        return True
    return len(text) <= _REFUSAL_CHARS and _REFUSAL.search(text) is not None


def doubts(
    replies: Sequence[Graded], candidates: ItemParameters, theta: Float64Array, *, priced: bool
) -> list[str]:
    """What looks wrong with a run's answers, a sentence each.

    Args:
        replies: All that were graded.
        candidates: Items of the source, by the anchors' positions.
        theta: (K,) the ability they lead to.
        priced: Whether the model has a price.
    """
    counted = [(g, g.answer) for g in replies if g.answer is not None]
    if not counted:
        return []
    items = candidates.take(np.array([g.anchor.position for g, _ in counted]))
    scores = np.array([answer.score for _, answer in counted])
    published = np.array([g.anchor.published for g, _ in counted])
    conduct = Conduct(
        n=len(replies),
        refused=sum(g.refused for g in replies),
        truncated=sum(g.truncated for g in replies),
        empty=sum(not g.received.text.strip() and not g.truncated for g in replies),
        unread=sum(
            not g.grade.found and not g.refused and bool(g.received.text.strip()) for g in replies
        ),
        wrong=sum(answer.score == 0 for _, answer in counted),
        expected=mean_accuracy(items, theta)[0] * items.n_items,
    )
    told = warnings_of(
        person_fit(items, scores, theta),
        conduct,
        [g.anchor.ref for g, _ in counted],
        memorised(items, scores, theta, published),
    )
    uncounted = sum(not g.received.counted for g in replies)
    if uncounted and priced:
        told.append(
            f"the endpoint told no token counts for {uncounted} answers; their cost is taken "
            "at its worst"
        )
    return told
