"""What the translations between the two APIs share.

What one API says and the other cannot is either an `UntranslatableError`, where the answer would
not be what the client asked for, or left out with a note. Nothing is left out silently. The
gateway shows the notes in a header and the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from zerorouter.errors import UntranslatableError, WireError

Json = dict[str, Any]

CHAT_TO_STOP: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""OpenAI's ``finish_reason`` as Anthropic's ``stop_reason``."""

STOP_TO_CHAT: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Anthropic's ``stop_reason`` as OpenAI's ``finish_reason``."""

_LONGEST_ID: Final = 40  # OpenAI refuses longer ids of tool calls
_ODD_IN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")  # Anthropic refuses these


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """A body in the other API's words, and what was lost on the way.

    Attributes:
        body: The body.
        notes: What was left out or put differently, one sentence each, no repetitions.
    """

    body: Json
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Notes:
    """Sentences about what was lost, each once, in order."""

    said: dict[str, None] = field(default_factory=dict)

    def add(self, note: str) -> None:
        """Say it, once."""
        self.said[note] = None

    def all(self) -> tuple[str, ...]:
        """All that was said."""
        return tuple(self.said)


def tool_id(given: Any) -> str:
    """A tool call's id that both APIs take: the same one for the same id, always."""
    text = given if isinstance(given, str) else str(given)
    clean = _ODD_IN_ID.sub("_", text)
    if clean == text and 0 < len(text) <= _LONGEST_ID:
        return text
    return "call_" + sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def untranslatable(param: str, what: str, advice: str = "") -> UntranslatableError:
    """The error for what the upstream's API has no words for."""
    way_out = advice or "ask a model whose upstream speaks the API of the request, or leave it out"
    return UntranslatableError(f"{param}: {what}; {way_out}", param=param, code="untranslatable")


def malformed(param: str, found: object, wanted: str) -> WireError:
    """The error for a value that breaks the request's own API."""
    shown = "nothing" if found is None else repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return WireError(f"{param}: found {shown}; wanted {wanted}", param=param)


def text_of(value: Any, param: str) -> str:
    """A text that has to be there."""
    if not isinstance(value, str):
        raise malformed(param, value, "a text")
    return value


def object_of(value: Any, param: str) -> Mapping[str, Any]:
    """An object that has to be there."""
    if not isinstance(value, Mapping):
        raise malformed(param, value, "an object")
    return value


def list_of(value: Any, param: str) -> list[Any]:
    """A list that has to be there."""
    if not isinstance(value, list):
        raise malformed(param, value, "a list")
    return value
