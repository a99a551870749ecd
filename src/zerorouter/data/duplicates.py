"""Prompts that are in truth one: groups which no split may cut apart.

Two prompts belong together when they share a key, and groups are the sets connected by shared
keys. A prompt has up to three keys:

1. *Its text*, folded: Unicode NFKC, case, runs of white space, double quotes and backticks,
   typographic quotes and dashes, and the sentence marks ``. , ; : ?`` where they end a word.
   Digits, operators, brackets, single quotes and marks inside a word stay: ``3+4`` is not
   ``3-4``, ``1.5`` is not ``15``, and ``f(x)`` is not ``fx``. The options and tools in
   ``choices`` are no part of it: one question with other options is still one question.
2. *Its bare question*: the text without a closing block of option lines (``A) ...``) that an
   instruction on how to answer follows, folded in the same way. Lettered lines without such
   an instruction are taken for a part of the question.
3. *Its code*, where the text is a Python function in a known wrapper: bare, between
   ``[PYTHON]`` and ``[/PYTHON]``, or as a reference snippet at the end. Assertions after the
   function are left out, so that tasks on its input and on its output are one; blank lines
   and trailing space do not count, case does. Code quoted elsewhere in a text, such as a hint
   that a hundred prompts share, is no key.

A key of fewer than 8 characters, spaces not counted, says too little: such a text groups only
with texts exactly equal to it, and such a bare question or code is no key at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zerorouter.data.disjoint import DisjointSets
from zerorouter.data.responses import PromptTable

SHORTEST_KEY: Final = 8
"""Characters, spaces not counted, below which a folded key is not trusted."""

_PLAIN_FORMS = {
    **dict.fromkeys("“”„«»", '"'),
    **dict.fromkeys("‘’‚", "'"),
    **dict.fromkeys("‐‑‒–—−", "-"),
    # NFKC would make 10² the number 102.
    **{power: f"^{digit}" for digit, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
}
_TYPOGRAPHIC = re.compile(f"[{''.join(_PLAIN_FORMS)}]")
# The look-behind follows the mark, so that the search runs from mark to mark.
_SENTENCE_MARK = re.compile(r"[.,;:?](?<=\w[.,;:?])(?!\S)")

_OPTION_MARKS = ("\nA)", "\nA.", "\n(A)")
_OPTION_LINES = re.compile(
    r"""
    \n \(? A [).] [ \t]+ [^\n]*                # option A on a line of its own
    (?: \n \(? [B-Z] [).] [ \t]+ [^\n]* )+      # the others below it
    \s* (?: print | answer | choose | select | pick | respond | reply | give | provide
           | please | only | output | return | write | the \s answer | your \s answer ) \b
    [^\n]{0,300} (?: \n [^\n]{0,40} ){0,2}      # what to answer with
    \Z
    """,
    re.VERBOSE | re.IGNORECASE,
)

_CODE_WRAPPERS = (
    re.compile(r"\[PYTHON\](.*)\[/PYTHON\]", re.DOTALL),
    re.compile(r"reference code snippet[^\n]*\n(.*)\Z", re.DOTALL),
    # Bare code: the text opens with a statement and defines a function.
    re.compile(r"\A\s*((?:def|class|import|from|async|@\w+|[A-Za-z_]\w*[ ]*=[^=]).*)\Z", re.DOTALL),
)
_FUNCTION = re.compile(r"^(?:async )?def \w+", re.MULTILINE)
_ASSERTION = re.compile(r"^assert\b", re.MULTILINE)


def duplicate_groups(prompts: PromptTable) -> NDArray[np.int32]:
    """Group ids of ``prompts``, int32 (N,): equal where two prompts are in truth one.

    Ids count from 0 in order of first appearance, across all data sets; which prompts share a
    group does not depend on the order of prompts. The rule stands at the top of this module.
    """
    sets = DisjointSets(len(prompts))
    first: dict[Hashable, int] = {}
    for place, text in enumerate(prompts.texts):
        for key in _keys(text):
            before = first.setdefault(key, place)
            if before != place:
                sets.union(before, place)
    return sets.labels()


def folded(text: str) -> str:
    """``text`` with everything folded away that does not change what is asked."""
    if text.isascii():
        plain = text.lower()
    else:
        typed = _TYPOGRAPHIC.sub(lambda found: _PLAIN_FORMS[found[0]], text)
        plain = unicodedata.normalize("NFKC", typed).casefold()
    unquoted = plain.replace('"', "").replace("`", "")
    return " ".join(_SENTENCE_MARK.sub("", unquoted).split())


def bare_question(text: str) -> str | None:
    """``text`` before its closing option lines and instruction; None where it has none."""
    if not any(mark in text for mark in _OPTION_MARKS):
        return None
    block = _OPTION_LINES.search(text)
    return None if block is None else text[: block.start()]


def code_body(text: str) -> str | None:
    """The Python source ``text`` is about, without assertions; None where there is none."""
    if "def " not in text:
        return None
    for wrapper in _CODE_WRAPPERS:
        inside = wrapper.search(text)
        if inside is not None and _FUNCTION.search(inside[1]):
            end = _ASSERTION.search(inside[1])
            source = inside[1][: end.start()] if end else inside[1]
            return "\n".join(line.rstrip() for line in source.splitlines() if line.strip())
    return None


def _keys(text: str) -> Iterator[Hashable]:
    own = folded(text)
    yield own if _trusted(own) else ("exact", text)
    question = bare_question(text)
    if question is not None and _trusted(key := folded(question)):
        yield key
    code = code_body(text)
    if code is not None and _trusted(code):
        yield ("code", code)


def _trusted(key: str) -> bool:
    # Most keys are long: count characters only where length alone does not tell.
    return len(key) >= 2 * SHORTEST_KEY or len("".join(key.split())) >= SHORTEST_KEY
