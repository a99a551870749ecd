"""Where the members of a JSON object stand in its bytes, so that one can be changed alone.

Everything else of a request then reaches the upstream as the client wrote it: order, spelling of
numbers, escapes, whitespace inside values. One regular expression walks over a whole member; only
values nested deeper than `_PATTERN_DEPTH` are walked bracket by bracket.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_PATTERN_DEPTH: Final = 12
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'


def _nested(depth: int) -> bytes:
    """A bracketed value with at most ``depth`` levels below it. Brackets are known to match."""
    below = rb"|" + _nested(depth - 1) if depth else b""
    return rb'[\[{](?:[^][{}"]++|' + _STRING + below + rb")*+[\]}]"


_VALUE: Final = rb'(?:[^][{}",\s]++|' + _STRING + rb"|" + _nested(_PATTERN_DEPTH) + rb")"
_KEY: Final = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_WHOLE_VALUE: Final = re.compile(_VALUE, re.DOTALL)
_TOKEN: Final = re.compile(_STRING + rb"|[][{}]", re.DOTALL)


class Member(NamedTuple):
    """One member of an object: its name, and its value's place in the bytes."""

    name: str
    start: int  # of the key
    value: int
    end: int


def members(raw: bytes) -> list[Member]:
    """The members of the object that ``raw`` is, in order, names that repeat included.

    Args:
        raw: A JSON object that a parser has accepted; anything else gives nonsense.
    """
    found = []
    at = raw.index(b"{") + 1
    while (key := _KEY.match(raw, at)) is not None:
        start, value = key.start(1), key.end()
        match = _WHOLE_VALUE.match(raw, value)
        end = match.end() if match is not None else _end_of_nested(raw, value)
        found.append(Member(_name(key[1]), start, value, end))
        at = end
    return found


def _name(quoted: bytes) -> str:
    if b"\\" not in quoted:
        return quoted[1:-1].decode("utf-8")
    from zerorouter.gateway.wire.codec import loads

    return str(loads(quoted))


def _end_of_nested(raw: bytes, at: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(raw, at):
        if token[0] in b"[{":
            depth += 1
        elif token[0] in b"]}":
            depth -= 1
            if depth == 0:
                return token.end()
    return len(raw)
