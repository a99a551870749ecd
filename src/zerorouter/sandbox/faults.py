"""Faults on purpose: which calls they hit and what they do there.

A fault is a word, some with a value: ``429=2``, ``slow_chunks=0.5``, ``cut``. A rule adds the
models it is for, a probability and how often at most: ``gpt-4o*:429=2@0.1x5``. Requests carry
faults of their own in the header ``x-sandbox-fault``, several with commas between them;
``none`` there keeps the rules away from a request.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from zerorouter.errors import InputError, UnknownNameError
from zerorouter.sandbox.draws import uniforms

FAULTS: Final[Mapping[str, str]] = {
    "slow_start": "waits SECONDS (1) before the first byte",
    "slow_chunks": "waits SECONDS (0.1) between chunks; a whole body goes out in eight pieces",
    "cut": "closes the connection after K chunks of a stream (half of them), or half a body",
    "reset": "resets the connection (RST) before the first byte, or after K chunks",
    "hang": "says nothing until the client leaves, before the first byte or after K chunks",
    "garbage": "sends bytes that are no JSON, as the body or after K chunks (0) of a stream",
    "not_http": "sends bytes that are no HTTP response",
    "stream_error": "sends an error event after K chunks (half); without a stream a 500",
    "no_body": "200 with nothing in it",
    "empty": "an answer without text",
    "truncated": "half an answer, marked as cut by the limit",
    "refusal": "the model declines",
}
"""Faults besides the statuses 400 to 599, whose value is the ``Retry-After`` in seconds."""

NO_FAULTS: Final = "none"
_DEFAULTS: Final = {"slow_start": 1.0, "slow_chunks": 0.1}
_SECONDS: Final = frozenset(_DEFAULTS)
_COUNTED: Final = frozenset({"cut", "reset", "hang", "garbage", "stream_error"})
_WITH_RETRY_AFTER: Final = frozenset({429, 503, 529})
_FAULT = re.compile(r"([a-z_]+|\d+)(?:=(\d+(?:\.\d+)?))?(?:@(\d*\.?\d+))?(?:x(\d+))?")
_LONGEST_WAIT_S: Final = 86_400.0
_KEPT_ATTEMPTS: Final = 65_536

Ending = Literal["cut", "reset", "hang", "garbage", "stream_error"]
Content = Literal["empty", "truncated", "refusal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultRule:
    """A fault and the calls it hits.

    Attributes:
        fault: A word of `FAULTS`, or a status from 400 to 599 in digits.
        value: Seconds or chunks, as `FAULTS` says; None for the default.
        model: Shell pattern of the models it is for.
        probability: Share of the calls it hits, drawn per prompt and attempt.
        times: How many calls it hits at most; None for no end.
    """

    fault: str
    value: float | None = None
    model: str = "*"
    probability: float = 1.0
    times: int | None = None

    def __post_init__(self) -> None:
        if self.status is None and self.fault not in FAULTS:
            raise UnknownNameError("fault", self.fault, [*FAULTS, "429", "500", "503", "529"])
        if self.value is not None:
            if self.status is None and self.fault not in _SECONDS | _COUNTED:
                raise InputError(f"the fault {self.fault!r} takes no value; found {self.value:g}")
            if self.fault in _COUNTED and self.value != int(self.value):
                raise InputError(f"{self.fault}: found {self.value:g}; wanted a number of chunks")
            if not 0 <= self.value <= _LONGEST_WAIT_S:
                raise InputError(
                    f"{self.fault}: found {self.value:g}; wanted 0 to {_LONGEST_WAIT_S:g}"
                )
        if not 0 <= self.probability <= 1:
            raise InputError(
                f"{self.fault}: found the probability {self.probability:g}; wanted 0 to 1"
            )
        if self.times is not None and self.times < 0:
            raise InputError(f"{self.fault}: found {self.times} times; wanted 0 or more")

    @property
    def status(self) -> int | None:
        """The HTTP status it answers with, or None."""
        if len(self.fault) == 3 and self.fault[0] in "45" and self.fault.isdecimal():
            return int(self.fault)
        return None

    def __str__(self) -> str:
        """The text form that `parse_rule` reads."""
        return "".join(
            [
                "" if self.model == "*" else f"{self.model}:",
                self.fault,
                "" if self.value is None else f"={self.value:g}",
                "" if self.probability == 1 else f"@{self.probability:g}",
                "" if self.times is None else f"x{self.times}",
            ]
        )


def parse_rule(text: str) -> FaultRule:
    """Read ``[MODEL:]FAULT[=VALUE][@PROBABILITY][xTIMES]``.

    >>> parse_rule("gpt-4o*:429=2@0.1x5").probability
    0.1

    Raises:
        InputError: The form or a number is wrong.
        UnknownNameError: There is no such fault.
    """
    model, colon, rest = text.strip().rpartition(":")
    found = _FAULT.fullmatch(rest)
    if found is None or (colon and not model):
        raise InputError(
            f"the fault rule {text!r} cannot be read; wanted "
            "[MODEL:]FAULT[=VALUE][@PROBABILITY][xTIMES], such as 'gpt-4o*:429=2@0.1'"
        )
    fault, value, probability, times = found.groups()
    return FaultRule(
        fault=fault,
        value=None if value is None else float(value),
        model=model or "*",
        probability=1.0 if probability is None else float(probability),
        times=None if times is None else int(times),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """The faults of one call, put together.

    Attributes:
        names: The faults, for the log.
        status: The error to answer with, or None.
        retry_after_s: Its ``Retry-After``, or None.
        slow_start_s: Seconds before the first byte.
        slow_chunk_s: Seconds between chunks.
        ending: How the answer breaks off, or None.
        after: After how many chunks; None for the fault's default.
        not_http: Whether bytes that are no HTTP are sent.
        no_body: Whether the body is empty.
        content: What becomes of the answer's content, or None.
    """

    names: tuple[str, ...] = ()
    status: int | None = None
    retry_after_s: float | None = None
    slow_start_s: float = 0.0
    slow_chunk_s: float = 0.0
    ending: Ending | None = None
    after: int | None = None
    not_http: bool = False
    no_body: bool = False
    content: Content | None = None

    @classmethod
    def of(cls, rules: Sequence[FaultRule]) -> Trouble:
        """Several faults as one; of two of a kind the first counts."""
        by_name = {rule.fault: rule for rule in reversed(rules)}
        failing = next((rule for rule in rules if rule.status is not None), None)
        retry_after = None
        if failing is not None:
            retry_after = failing.value
            if retry_after is None and failing.status in _WITH_RETRY_AFTER:
                retry_after = 1.0
        breaking = next((rule for rule in rules if rule.fault in _COUNTED), None)
        spoiling = next(
            (r.fault for r in rules if r.fault in ("empty", "truncated", "refusal")), None
        )
        return cls(
            names=tuple(rule.fault for rule in rules),
            status=None if failing is None else failing.status,
            retry_after_s=retry_after,
            slow_start_s=_seconds(by_name.get("slow_start")),
            slow_chunk_s=_seconds(by_name.get("slow_chunks")),
            ending=None if breaking is None else breaking.fault,  # type: ignore[arg-type]  # a word of _COUNTED
            after=None if breaking is None or breaking.value is None else int(breaking.value),
            not_http="not_http" in by_name,
            no_body="no_body" in by_name,
            content=spoiling,  # type: ignore[arg-type]  # one of the three words above
        )


NO_TROUBLE: Final = Trouble()


class FaultBox:
    """Chooses the faults of each call; counts what rules with an end have used up.

    A rule with a probability draws anew for each attempt of a prompt, from the prompt and the
    attempt's number: the same prompts meet the same faults in every run, whatever the order.
    """

    def __init__(self, rules: Iterable[FaultRule], seed: int) -> None:
        self._seed = seed
        self.replace(rules)

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The rules in force."""
        return self._rules

    def replace(self, rules: Iterable[FaultRule]) -> None:
        """Take other rules; counts and attempts start anew."""
        self._rules = tuple(rules)
        self._used = [0] * len(self._rules)
        self._by_chance = any(rule.probability < 1 for rule in self._rules)
        self._attempts: OrderedDict[tuple[str, str], int] = OrderedDict()

    def choose(self, model: str, prompt: str, header: str | None) -> Trouble:
        """The faults of a call.

        Args:
            model: The model's own name.
            prompt: Names the prompt.
            header: Faults that the request asks for.

        Raises:
            InputError: The header cannot be read.
        """
        if not self._rules and not header:
            return NO_TROUBLE
        asked = [] if header is None else [part.strip() for part in header.split(",")]
        hits = [parse_rule(part) for part in asked if part and part != NO_FAULTS]
        attempt = self._attempt(model, prompt) if self._by_chance or hits else 0
        hits = [
            rule for k, rule in enumerate(hits) if self._hit(rule, f"h{k}", model, prompt, attempt)
        ]
        if NO_FAULTS not in asked:
            for k, rule in enumerate(self._rules):
                spent = rule.times is not None and self._used[k] >= rule.times
                if not spent and self._hit(rule, str(k), model, prompt, attempt):
                    self._used[k] += 1
                    hits.append(rule)
        return Trouble.of(hits) if hits else NO_TROUBLE

    def _hit(self, rule: FaultRule, stream: str, model: str, prompt: str, attempt: int) -> bool:
        if rule.model != "*" and not fnmatchcase(model.lower(), rule.model.lower()):
            return False
        if rule.probability >= 1:
            return True
        drawn = uniforms(self._seed, "fault", stream, rule.fault, model, prompt, attempt)
        return drawn[0] < rule.probability

    def _attempt(self, model: str, prompt: str) -> int:
        """How many times the prompt was asked before; the least recently asked are forgotten."""
        key = (model, prompt)
        before = self._attempts.pop(key, 0)
        self._attempts[key] = before + 1
        if len(self._attempts) > _KEPT_ATTEMPTS:
            self._attempts.popitem(last=False)
        return before


def _seconds(rule: FaultRule | None) -> float:
    if rule is None:
        return 0.0
    return _DEFAULTS[rule.fault] if rule.value is None else rule.value
