"""Wrong answers that no grader takes for right ones.

A wrong answer is of the kind of the right one: another letter of a multiple choice, another
number, the answer to another prompt of the same task. It never contains the right answer, since a
grader may look for that, and is never contained in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_STEPS: Final = (7, 11, 13, 29, 101)
_MOST_DIGITS: Final = 300


def wrong_answer(
    reference: str, *, options: Sequence[str] = (), peers: Sequence[str] = (), draw: float = 0.5
) -> str:
    """A wrong answer where ``reference`` is right.

    Args:
        reference: The right answer.
        options: The options of a multiple choice, whose letters are answers too.
        peers: Right answers to other prompts of the task.
        draw: A number in (0, 1) that chooses among what is possible.
    """
    for candidate in _candidates(reference.strip(), options, peers, draw):
        if _unlike(candidate, reference):
            return candidate
    raise AssertionError("one of the last three candidates is unlike any reference")


def _candidates(
    reference: str, options: Sequence[str], peers: Sequence[str], draw: float
) -> Iterable[str]:
    letters = [chr(ord("A") + i) for i in range(min(len(options), 26))]
    if len(reference) == 1 and reference.upper() in letters:
        yield from _from(letters, draw)
    elif any(_folded(option) == _folded(reference) for option in options):
        yield from _from(options, draw)
    if _NUMBER.fullmatch(reference.lstrip("#$ ").rstrip("%. ")):
        yield from _other_numbers(reference)
    yield from _from(peers, draw)
    # "?" is unlike whatever holds none; what holds one is unlike "no answer" if it is "?" itself,
    # and else unlike a longer text without one.
    yield from ("no answer", "?", "wrong" + "0" * len(_folded(reference)))


def _from(values: Sequence[str], draw: float) -> Iterable[str]:
    """Up to eight values, from the drawn one on."""
    start = int(draw * len(values))
    for i in range(min(len(values), 8)):
        yield values[(start + i) % len(values)].strip()


def _other_numbers(reference: str) -> Iterable[str]:
    """The number in ``reference`` made larger, the rest of the text kept."""
    found = _NUMBER.search(reference)
    assert found is not None
    digits = found[0].replace(",", "")
    if len(digits) > _MOST_DIGITS:
        return
    for step in _STEPS:
        # Well beyond any tolerance: at least the step, and a third of the number.
        if "." in digits:
            larger = f"{float(digits) + step + abs(float(digits)) / 3:.2f}"
        else:
            larger = str(int(digits) + step + abs(int(digits)) // 3)
        yield reference[: found.start()] + larger + reference[found.end() :]


def _unlike(candidate: str, reference: str) -> bool:
    ours, theirs = _folded(candidate), _folded(reference)
    if not ours or not theirs:
        return bool(ours)
    bare = theirs.lstrip("#$ ").rstrip("%. ") or theirs
    return bare not in ours and ours not in theirs


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
