r"""Graders: a reply and the reference in, a score out.

A grader first finds the answer in the reply, then compares. The answer is what stands between the
last ``<answer>`` tags if there are any, else what the reply settles on (``\boxed{}``, "the answer
is", "Answer:", ``####``), else, for letters and numbers, the last that stands there. What a grader
cannot find it says so (`Grade.found`), since a model that fails at a format is another thing than
one that is wrong.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Protocol

from zerorouter.errors import InputError, UnknownNameError

LONGEST_REPLY: Final = 200_000
"""Characters of a reply that are looked at; the end of a longer one counts."""

_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{")
_SETTLED = re.compile(
    r"(?:final\s+answer|correct\s+answer|correct\s+option|answer|solution|option|result)"
    r"[\s*_`\"']*(?:is|are|would\s+be|must\s+be|:|=)[\s*_`:\"']*([^\n]{1,400})",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^\s*#{4}\s*([^\n]{1,400})", re.MULTILINE)
_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?\s?(?:\$|€|£)?\s?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE][-+]?\d{1,3})?(?:\s?/\s?\d+)?%?"
)
_LONE_LETTER = re.compile(r"(?<![\w'])\(?\*{0,2}([A-Z])\*{0,2}\)?(?![\w'])")
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n?(.*?)```", re.DOTALL)
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader makes of a reply.

    Attributes:
        score: In [0, 1].
        found: Whether there was an answer to grade.
    """

    score: float
    found: bool = True


class Grader(Protocol):
    """Grades replies to one prompt."""

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """The answer is the reference, but for blanks, case and a closing full stop."""

    reference: str

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        whole = _end(reply)
        answer = settled(whole)
        wanted = _plain(self.reference)
        candidates = {_plain(whole), _plain(answer or ""), _plain(_last_line(whole))}
        return Grade(float(wanted in candidates), bool(whole.strip()))


@dataclass(frozen=True, slots=True)
class Contains:
    """The reference stands somewhere in the reply, whatever the case."""

    reference: str

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        whole = _end(reply)
        return Grade(float(_plain(self.reference) in _plain(whole)), bool(whole.strip()))


@dataclass(frozen=True, slots=True)
class Choice:
    """The letter, or the text, of the right option."""

    letter: str
    options: tuple[str, ...]

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        answer = self._letter(_end(reply))
        return Grade(float(answer == self.letter), answer is not None)

    def _letter(self, reply: str) -> str | None:
        letters = [chr(ord("A") + i) for i in range(len(self.options))]
        stated = settled(reply)
        for text in (stated, reply):
            if text is None:
                continue
            stripped = text.strip().strip("*_`\"'. ()[]:")
            if len(stripped) == 1 and stripped.upper() in letters:
                return stripped.upper()
            plain = _plain(text)
            for letter, option in zip(letters, self.options, strict=True):
                if plain == _plain(option):
                    return letter
            if text is stated:
                first = _LONE_LETTER.match(text.strip())
                if first and first[1] in letters:
                    return first[1]
        # "A" alone may be an article; a letter at the end of the last line is a choice.
        for line in reversed(reply.strip().splitlines()):
            found = [m[1] for m in _LONE_LETTER.finditer(line) if m[1] in letters]
            marked = [m for m in found if m not in ("A", "I")] or found
            if marked:
                return marked[-1]
        return None


@dataclass(frozen=True, slots=True)
class Number:
    """The last number stated is the reference, to within a tolerance.

    Attributes:
        reference: The right number.
        relative: Largest difference as a share of the reference.
        absolute: Largest difference.
    """

    reference: float
    relative: float = 0.0
    absolute: float = 0.0

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        whole = _end(reply)
        stated = settled(whole)
        value = _last_number(stated) if stated is not None else None
        if value is None:
            value = _last_number(whole)
        if value is None:
            return Grade(0.0, found=False)
        allowed = max(self.absolute, self.relative * abs(self.reference), _dust(self.reference))
        return Grade(float(abs(value - self.reference) <= allowed))


@dataclass(frozen=True, slots=True)
class Regex:
    """The pattern is found in the reply. References come from the user, replies do not."""

    pattern: re.Pattern[str]

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        whole = _end(reply)
        return Grade(float(self.pattern.search(whole) is not None), bool(whole.strip()))


@dataclass(frozen=True, slots=True)
class Json:
    """The reply holds JSON equal to the reference; 1 equals 1.0, and keys have no order."""

    reference: Any

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        found = _json_in(_end(reply))
        if not found:
            return Grade(0.0, found=False)
        return Grade(float(any(_same_json(value, self.reference) for value in found)))


@dataclass(frozen=True, slots=True)
class Callback:
    """A function of the user's: ``grade(reply, reference) -> score``."""

    function: Callable[[str, str], Any]
    reference: str

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply.

        Raises:
            InputError: the function fails, or returns no score.
        """
        try:
            value = self.function(reply, self.reference)
        except Exception as error:
            raise InputError(
                f"the grader failed on a reply ({type(error).__name__}: {error}); correct it and "
                "run the same command again: answers on record are graded anew, none is asked again"
            ) from error
        if isinstance(value, Grade):
            return value
        if isinstance(value, bool):
            return Grade(float(value))
        if isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1:
            return Grade(float(value))
        raise InputError(
            f"the grader returned {value!r}; wanted a score from 0 to 1, True or False"
        )


GRADERS: Final = {
    "auto": "choice where there are options, number where the reference is one, JSON, else exact",
    "exact": "the answer is the reference, but for blanks and case",
    "choice": "the letter or the text of the right option",
    "number": "the last number is the reference",
    "contains": "the reference stands in the reply",
    "regex": "the reference is a pattern that is found in the reply",
    "json": "the reply holds JSON equal to the reference",
    "tolerance": "the last number lies within TOLERANCE of the reference: tolerance=0.01",
    "python": "a function of your own: python=MODULE:FUNCTION, called with reply and reference",
}


def grader_for(
    name: str, reference: str, options: Sequence[str] = (), *, where: str = "prompt"
) -> Grader:
    """A grader for one prompt.

    Args:
        name: A key of `GRADERS`, with a value after ``=`` where it takes one.
        reference: The right answer.
        options: Options of a multiple choice.
        where: Names the prompt in errors.

    Raises:
        UnknownNameError: no grader has that name.
        InputError: the reference is nothing that the grader can use.
    """
    kind, _, value = name.partition("=")
    if kind not in GRADERS:
        raise UnknownNameError("grader", kind, GRADERS)
    if kind == "auto":
        return _automatic(reference, options, where)
    if kind == "choice":
        return _choice(reference, options, where)
    if kind in ("number", "tolerance"):
        return Number(_reference_number(reference, where), relative=_tolerance(value))
    if kind == "contains":
        if not _plain(reference):
            raise InputError(f"{where}: an empty reference stands in every reply")
        return Contains(reference)
    if kind == "regex":
        try:
            return Regex(re.compile(reference))
        except re.error as error:
            raise InputError(f"{where}: {reference!r} is no regular expression: {error}") from error
    if kind == "json":
        try:
            return Json(json.loads(reference))
        except ValueError as error:
            raise InputError(f"{where}: the reference is not JSON: {error}") from error
    if kind == "python":
        return Callback(load_function(value), reference)
    return Exact(reference)


def load_function(path: str) -> Callable[[str, str], Any]:
    """The function that ``MODULE:FUNCTION`` names.

    Raises:
        InputError: it cannot be imported or called.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise InputError(f"python={path!r} names no function; wanted python=MODULE:FUNCTION")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"python={path}: {error}") from error
    if not callable(found):
        raise InputError(f"python={path} is a {type(found).__name__}; a function is wanted")
    return found  # type: ignore[no-any-return]  # what it returns is checked when it is called


# -- finding the answer ------------------------------------------------------------------------


def settled(reply: str) -> str | None:
    """What a reply settles on: tags first, then boxes, then words; None where it does not say."""
    tagged = _TAGGED.findall(reply)
    if tagged:
        return str(tagged[-1]).strip()
    boxes = list(_BOXED.finditer(reply))
    if boxes:
        inside = _braced(reply, boxes[-1].end())
        if inside is not None:
            return inside.strip()
    hashes = _HASHES.findall(reply)
    if hashes:
        return str(hashes[-1]).strip()
    words = _SETTLED.findall(reply)
    return str(words[-1]).strip() if words else None


def _braced(text: str, start: int) -> str | None:
    """The text from ``start`` to the brace that closes the one before it."""
    depth = 1
    for at in range(start, min(len(text), start + 2_000)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return None


def _end(reply: str) -> str:
    return reply[-LONGEST_REPLY:]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _plain(text: str) -> str:
    marks = "*`\"' "
    return _BLANKS.sub(" ", text.casefold()).strip(marks).rstrip(".").strip(marks)


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text.replace("\\,", "").replace("\\$", "$").replace("−", "-"))
    for raw in reversed(found):
        value = _as_number(raw)
        if value is not None:
            return value
    return None


def _as_number(raw: str) -> float | None:
    text = re.sub(r"[\s,$€£%]", "", raw.replace("−", "-"))
    top, slash, bottom = text.partition("/")
    try:
        value = Decimal(top)
        if slash:
            value /= Decimal(bottom)
        number = float(value)
    except (InvalidOperation, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _dust(reference: float) -> float:
    """Rounding of decimals: 1e-9 of the reference."""
    return 1e-9 * max(abs(reference), 1.0)


def _json_in(reply: str) -> list[Any]:
    """JSON values of a reply: tagged, fenced, whole, or from the first bracket to the last."""
    texts = [*_TAGGED.findall(reply), *_FENCE.findall(reply), reply]
    for left, right in (("{", "}"), ("[", "]")):
        start, end = reply.find(left), reply.rfind(right)
        if 0 <= start < end:
            texts.append(reply[start : end + 1])
    found = []
    for text in texts:
        try:
            found.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return found


def _same_json(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_json(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same_json, left, right))
    return bool(left == right)


# -- reading references ------------------------------------------------------------------------


def _automatic(reference: str, options: Sequence[str], where: str) -> Grader:
    if options:
        return _choice(reference, options, where)
    text = _reference_text(reference)
    if _NUMBER.fullmatch(text) and _as_number(text) is not None:
        return Number(_reference_number(reference, where))
    if reference.lstrip()[:1] in ("{", "["):
        try:
            return Json(json.loads(reference))
        except ValueError:
            pass
    if not _plain(reference):
        raise InputError(f"{where}: the reference is empty; nothing can be compared with it")
    return Exact(reference)


def _choice(reference: str, options: Sequence[str], where: str) -> Grader:
    letters = [chr(ord("A") + i) for i in range(min(len(options), 26))]
    if len(options) < 2 or len(options) > 26:
        raise InputError(f"{where}: {len(options)} options; a choice takes 2 to 26")
    bare = reference.strip().strip("().: ")
    if bare.upper() in letters and len(bare) == 1:
        return Choice(bare.upper(), tuple(options))
    for letter, option in zip(letters, options, strict=True):
        if _plain(option) == _plain(reference):
            return Choice(letter, tuple(options))
    raise InputError(
        f"{where}: the reference {reference[:60]!r} is neither a letter from A to {letters[-1]} "
        "nor one of the options"
    )


def _reference_text(reference: str) -> str:
    """A reference without what records write around it, such as ``# 42``."""
    return reference.strip().lstrip("# ").strip()


def _reference_number(reference: str, where: str) -> float:
    value = _last_number(_reference_text(reference))
    if value is None:
        raise InputError(f"{where}: the reference {reference[:60]!r} holds no number")
    return value


def _tolerance(value: str) -> float:
    if not value:
        return 0.0
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise InputError(f"tolerance={value!r}; wanted a share of the reference, such as 0.01")
    return number
