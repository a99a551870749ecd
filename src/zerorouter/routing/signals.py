"""Signals: what in a cheap model's answer calls for a strong one, and how far to trust them.

A signal looks at an answer and fires or does not. Its quality is two numbers: the sensitivity, how
often it fires on wrong answers, and the specificity, how often it stays silent on right ones.
Both are given, or learned from answers that were graded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from zerorouter.errors import InputError

LONGEST_SEARCH = 200_000  # characters of an answer that a pattern is searched in


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model answered.

    Attributes:
        text: The answer.
        token_logprobs: Natural log-probabilities of its tokens, where the upstream tells them.
        others: Further samples of the same model on the same prompt.
    """

    text: str
    token_logprobs: Sequence[float] | None = None
    others: tuple[str, ...] = ()


class Signal(Protocol):
    """Anything that can look at an answer."""

    @property
    def name(self) -> str:
        """How plans refer to it."""

    @property
    def samples(self) -> int:
        """How many answers of the first model it needs."""

    def fires(self, answer: Answer) -> bool:
        """Whether the answer calls for the second model."""


@dataclass(frozen=True, kw_only=True)
class PatternSignal:
    """Fires where a regular expression is found in the answer, or where it is not.

    Attributes:
        pattern: In the syntax of `re`; searched for in the first `LONGEST_SEARCH` characters.
        absent: Whether it fires where the pattern is *not* found.
        ignore_case: Whether letters match either case.
        name: How plans refer to it.
    """

    pattern: str
    absent: bool = False
    ignore_case: bool = True
    name: str = "pattern"
    samples: int = 1
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            compiled = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        except re.error as error:
            raise InputError(
                f"the pattern {self.pattern!r} is no regular expression: {error}; correct it"
            ) from error
        object.__setattr__(self, "_compiled", compiled)

    def fires(self, answer: Answer) -> bool:
        """Whether the answer calls for the second model."""
        found = self._compiled.search(answer.text[:LONGEST_SEARCH]) is not None
        return found != self.absent


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "in": lambda a, b: a in b,
}
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class JsonSignal:
    """Fires where a field of a JSON answer compares as told.

    The answer may be JSON alone, JSON in a fenced block, or prose around one JSON object.

    Attributes:
        path: Keys and list positions, joined by dots: ``"verdict.labels.0"``.
        comparison: ``==, !=, <, <=, >, >=`` or ``in``.
        value: What the field is compared with.
        unreadable: Whether it fires where there is no such field or no JSON.
        name: How plans refer to it.
    """

    path: str
    comparison: str
    value: Any
    unreadable: bool = True
    name: str = "json"
    samples: int = 1

    def __post_init__(self) -> None:
        if self.comparison not in _COMPARISONS:
            raise InputError(
                f"the comparison is {self.comparison!r}; one of {', '.join(_COMPARISONS)} is wanted"
            )
        if not self.path:
            raise InputError("the path is empty; the name of a field is wanted")

    def fires(self, answer: Answer) -> bool:
        """Whether the answer calls for the second model."""
        try:
            found = _json_in(answer.text)
            for key in self.path.split("."):
                found = found[int(key)] if isinstance(found, list) else found[key]
            return _COMPARISONS[self.comparison](found, self.value)
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return self.unreadable


def _json_in(text: str) -> Any:
    """The JSON value of an answer."""
    fenced = _FENCE.search(text)
    for part in (text, fenced[1] if fenced else ""):
        try:
            return json.loads(part)
        except ValueError:
            continue
    start = text.index("{")
    value, _ = json.JSONDecoder().raw_decode(text, start)
    return value


@dataclass(frozen=True, kw_only=True)
class LogprobSignal:
    """Fires where the mean log-probability of the answer's tokens is low.

    Attributes:
        below: It fires under this mean natural log-probability.
        unknown: Whether it fires where the upstream tells no log-probabilities.
        name: How plans refer to it.
    """

    below: float
    unknown: bool = True
    name: str = "logprob"
    samples: int = 1

    def fires(self, answer: Answer) -> bool:
        """Whether the answer calls for the second model."""
        if not answer.token_logprobs:
            return self.unknown
        return sum(answer.token_logprobs) / len(answer.token_logprobs) < self.below


_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> str:
    """The last number of an answer, or all of it in plain form where there is none."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "").rstrip(".") if found else plain_form(text)


def plain_form(text: str) -> str:
    """Letters and digits alone, in lower case."""
    return " ".join(re.findall(r"\w+", text.casefold()))


@dataclass(frozen=True, kw_only=True)
class AgreementSignal:
    """Fires where two samples of the first model do not agree.

    Attributes:
        key: What of an answer has to agree; by default its last number, else all of its words.
        name: How plans refer to it.
    """

    key: Callable[[str], object] = last_number
    name: str = "agreement"
    samples: int = 2

    def fires(self, answer: Answer) -> bool:
        """Whether the answer calls for the second model."""
        if not answer.others:
            raise InputError(
                "agreement needs two samples of an answer and got one; ask the first model twice"
            )
        keys = {self.key(text) for text in (answer.text, *answer.others)}
        return len(keys) > 1


@dataclass(frozen=True, kw_only=True)
class CallableSignal:
    """Fires where a function of one's own says so.

    Attributes:
        function: Given the answer; its result counts as true or false.
        name: How plans refer to it.
        samples: How many answers of the first model it needs.
    """

    function: Callable[[Answer], object]
    name: str = "callable"
    samples: int = 1

    def fires(self, answer: Answer) -> bool:
        """Whether the answer calls for the second model."""
        return bool(self.function(answer))


# -- quality -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SignalQuality:
    """How far a signal can be trusted.

    Attributes:
        sensitivity: P(fires | the first answer is wrong).
        specificity: P(stays silent | the first answer is right).
    """

    sensitivity: float
    specificity: float

    def __post_init__(self) -> None:
        for name in ("sensitivity", "specificity"):
            value = getattr(self, name)
            if isinstance(value, bool) or not 0 <= value <= 1:
                raise InputError(f"{name} is {value!r}; a probability from 0 to 1 is wanted")


@dataclass(frozen=True, kw_only=True)
class QualityRecord:
    """What has been seen of a signal on graded answers: counts, with a weak prior.

    The prior counts as one answer of each outcome, so a signal nobody has seen is worth nothing
    (sensitivity and specificity of one half).

    Attributes:
        wrong_fired, wrong_silent, right_fired, right_silent: Answers seen.
    """

    wrong_fired: float = 0.0
    wrong_silent: float = 0.0
    right_fired: float = 0.0
    right_silent: float = 0.0

    def seen(self, *, fired: bool, wrong: bool, weight: float = 1.0) -> QualityRecord:
        """With one more graded answer."""
        name = f"{'wrong' if wrong else 'right'}_{'fired' if fired else 'silent'}"
        return replace(self, **{name: getattr(self, name) + weight})

    @classmethod
    def of(cls, fired: Sequence[bool], wrong: Sequence[bool]) -> QualityRecord:
        """Of many graded answers."""
        record = cls()
        for f, w in zip(fired, wrong, strict=True):
            record = record.seen(fired=bool(f), wrong=bool(w))
        return record

    @property
    def quality(self) -> SignalQuality:
        """The posterior means."""
        return SignalQuality(
            sensitivity=(self.wrong_fired + 1) / (self.wrong_fired + self.wrong_silent + 2),
            specificity=(self.right_silent + 1) / (self.right_fired + self.right_silent + 2),
        )


def screening(
    *, recall: float, false_alarms: float, prevalence: float
) -> tuple[float, SignalQuality]:
    """P(correct) and signal quality of a screen, from the words screens are described in.

    A light model says of each item whether it is suspicious, and the signal fires where it says
    so. It is right on suspicious items that it flags and on clean ones that it lets pass; its
    wrong answers fire where they are false alarms, and stay silent where something was missed.

    Args:
        recall: P(flagged | suspicious).
        false_alarms: P(flagged | clean).
        prevalence: P(suspicious).

    Raises:
        InputError: one is no probability.
    """
    for name, value in (
        ("recall", recall),
        ("false_alarms", false_alarms),
        ("prevalence", prevalence),
    ):
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value!r}; a probability from 0 to 1 is wanted")
    caught, missed = prevalence * recall, prevalence * (1 - recall)
    alarmed, passed = (1 - prevalence) * false_alarms, (1 - prevalence) * (1 - false_alarms)
    right, wrong = caught + passed, missed + alarmed
    return right, SignalQuality(
        sensitivity=alarmed / wrong if wrong else 1.0,
        specificity=passed / right if right else 1.0,
    )
