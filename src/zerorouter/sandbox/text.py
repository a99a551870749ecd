"""Text without meaning, and what counts as a token of it.

A *piece* stands for a token: a word of at most 16 characters with the blanks before it. Usage,
limits and streams all count pieces, so they agree with each other; they agree with no vendor's
tokenizer.
"""

from __future__ import annotations

import re
from typing import Final

_PIECE = re.compile(r"\s*\S{1,16}|\s+")
_NOTHING: Final = (
    "these words stand where an answer would stand and say nothing at all about the question "
    "because no model was asked for them they only have the length that such an answer has so "
    "that clients can count them stream them cut them and bill them as they would real ones"
)
_LAP: Final = [f" {word}" for word in _NOTHING.split()]
_ROUND: Final = "".join(_LAP)
_ENDS: Final = [0, *(len("".join(_LAP[: i + 1])) for i in range(len(_LAP)))]


def pieces(text: str) -> list[str]:
    """The pieces of a text; joined they are the text."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many pieces a text has."""
    return len(_PIECE.findall(text))


def first_pieces(text: str, n: int) -> str:
    """The first ``n`` pieces of a text."""
    return "".join(_PIECE.findall(text)[: max(n, 0)])


def filler(n: int, start: int = 0) -> str:
    """``n`` pieces of filler, each a blank and a word, from word ``start`` on."""
    if n <= 0:
        return ""
    lap = len(_LAP)
    first = start % lap
    rounds, last = divmod(first + n, lap)
    return (_ROUND * rounds + _ROUND[: _ENDS[last]])[_ENDS[first] :]
