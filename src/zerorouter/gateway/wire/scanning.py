"""What a passing answer says of itself: first token, end, usage, served model, errors.

A scanner looks on while the bytes go to the client unchanged. It never raises: what it cannot read
it counts, for the client shall get the upstream's bytes whether we understand them or not. It knows
no clock: `feed` says whether the first token has come, and its caller looks at the time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zerorouter.errors import WireError
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import loads
from zerorouter.gateway.wire.envelopes import Failure, failure_in
from zerorouter.gateway.wire.sse import DONE, EVENT_END, MOST_EVENT_BYTES, SSESplitter
from zerorouter.gateway.wire.usage import (
    TokenUsage,
    chat_usage,
    messages_usage,
    responses_usage,
)

_CHARS_PER_TOKEN: Final = 4.0


@dataclass(kw_only=True, slots=True)
class AnswerFacts:
    """What is known of an answer so far.

    Attributes:
        answer_id: The upstream's id of the answer.
        model: The model that the upstream says has served.
        finish_reason: Why it ended, in the upstream's own word.
        usage: Tokens, where the upstream has told.
        error: What an error inside the stream says.
        has_content: Whether the first token has come.
        content_chars: Characters of the answer so far: text, reasoning and tool arguments.
        n_events: Events of the stream.
        n_unreadable: Events that are no JSON object, or too long.
        is_complete: Whether the stream has come to the end that its API prescribes.
    """

    answer_id: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    error: Failure | None = None
    has_content: bool = False
    content_chars: int = 0
    n_events: int = 0
    n_unreadable: int = 0
    is_complete: bool = False

    def output_tokens(self) -> int:
        """Output tokens as told, else estimated from what has passed: broken-off streams."""
        if self.usage is not None and self.usage.output_tokens:
            return self.usage.output_tokens
        return round(self.content_chars / _CHARS_PER_TOKEN)

    def add_content(self, value: Any) -> None:
        """Count a piece of content."""
        if isinstance(value, str) and value:
            self.has_content = True
            self.content_chars += len(value)


class Scanner(ABC):
    """Looks on as a stream passes.

    Attributes:
        facts: What it has seen.
    """

    def __init__(self) -> None:
        self.facts = AnswerFacts()
        self._splitter = SSESplitter()

    def feed(self, data: bytes) -> bool:
        """Look at the next bytes.

        Returns:
            Whether they brought the answer's first token.
        """
        facts = self.facts
        had = facts.has_content
        try:
            events = self._splitter.feed(data)
        except WireError:
            facts.n_unreadable += 1
            return False
        for event in events:
            self._look(event.data)
        return facts.has_content and not had

    def finish(self) -> None:
        """Look at what the stream broke off in."""
        for event in self._splitter.finish():
            self._look(event.data)

    def _look(self, data: bytes) -> None:
        facts = self.facts
        facts.n_events += 1
        if data == DONE:
            facts.is_complete = True
            return
        try:
            told = loads(data)
        except ValueError:
            facts.n_unreadable += 1
            return
        if isinstance(told, dict):
            self.note(told)
        else:
            facts.n_unreadable += 1

    @abstractmethod
    def note(self, told: dict[str, Any]) -> None:
        """Take in one event's JSON."""


class ChatScanner(Scanner):
    """Chunks of OpenAI's chat completions."""

    def note(self, told: dict[str, Any]) -> None:
        """Take in one chunk."""
        facts = self.facts
        choices = told.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._note_choice(choice)
        if facts.model is None:
            _identify(facts, told)
        usage = told.get("usage")
        if usage:
            facts.usage = chat_usage(usage) or facts.usage
        if told.get("error"):
            facts.error = failure_in(told)

    def _note_choice(self, choice: dict[str, Any]) -> None:
        facts = self.facts
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            facts.finish_reason = reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        content = delta.get("content")
        if content:
            facts.add_content(content)
        if len(delta) > 1 or not content:
            for name in ("reasoning_content", "reasoning", "refusal"):
                facts.add_content(delta.get(name))
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                function = call.get("function") if isinstance(call, dict) else None
                if isinstance(function, dict):
                    facts.add_content(function.get("name"))
                    facts.add_content(function.get("arguments"))
            audio = delta.get("audio")
            if isinstance(audio, dict) and (audio.get("data") or audio.get("transcript")):
                facts.has_content = True
                facts.add_content(audio.get("transcript"))


class MessagesScanner(Scanner):
    """Events of Anthropic's messages."""

    _KEYS: Final = ("text", "partial_json", "thinking")

    def note(self, told: dict[str, Any]) -> None:
        """Take in one event."""
        facts = self.facts
        kind = told.get("type")
        if kind == "content_block_delta":
            delta = told.get("delta")
            if isinstance(delta, dict):
                for key in self._KEYS:
                    facts.add_content(delta.get(key))
        elif kind == "content_block_start":
            block = told.get("content_block")
            if isinstance(block, dict) and block.get("type") != "text":
                facts.add_content(block.get("name"))
        elif kind == "message_start":
            message = told.get("message")
            if isinstance(message, dict):
                _identify(facts, message)
                facts.usage = messages_usage(message.get("usage"))
        elif kind == "message_delta":
            delta = told.get("delta")
            reason = delta.get("stop_reason") if isinstance(delta, dict) else None
            if isinstance(reason, str):
                facts.finish_reason = reason
            facts.usage = messages_usage(told.get("usage"), facts.usage)
        elif kind == "message_stop":
            facts.is_complete = True
        elif kind == "error":
            facts.error = failure_in(told)


class ResponsesScanner(Scanner):
    """Events of OpenAI's responses."""

    _ENDS: Final = ("response.completed", "response.incomplete", "response.failed")

    def note(self, told: dict[str, Any]) -> None:
        """Take in one event."""
        facts = self.facts
        kind = told.get("type")
        if not isinstance(kind, str):
            if told.get("error"):
                facts.error = failure_in(told)
            return
        if kind.endswith(".delta"):
            facts.add_content(told.get("delta"))
        elif kind == "error":
            facts.error = failure_in(told)
        response = told.get("response")
        if isinstance(response, dict):
            if facts.model is None:
                _identify(facts, response)
            if kind in self._ENDS:
                facts.is_complete = True
                _note_response(facts, response)


def scanner_for(api: Api) -> Scanner:
    """A scanner for streams of ``api``; embeddings have none and get one that sees nothing."""
    if api is Api.MESSAGES:
        return MessagesScanner()
    return ResponsesScanner() if api is Api.RESPONSES else ChatScanner()


def _note_response(facts: AnswerFacts, response: Mapping[str, Any]) -> None:
    facts.usage = responses_usage(response.get("usage")) or facts.usage
    facts.finish_reason = _text(response.get("status"))
    details = response.get("incomplete_details")
    if isinstance(details, dict):
        facts.finish_reason = _text(details.get("reason")) or facts.finish_reason
    if response.get("error"):
        facts.error = failure_in(response)


def _identify(facts: AnswerFacts, told: Mapping[str, Any]) -> None:
    facts.model = _text(told.get("model")) or facts.model
    facts.answer_id = _text(told.get("id")) or facts.answer_id


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


class UsageChunkFilter:
    """Takes the usage chunk, which the client did not ask for, out of an OpenAI stream.

    Many clients read ``choices[0]`` of every chunk; the usage chunk has none. All other bytes
    pass as they are; an event that is not whole yet is held back.
    """

    __slots__ = ("_at", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> bytes:
        """The bytes that the client gets."""
        rest = self._rest
        if not rest and data.endswith(b"\n\n") and b'"usage"' not in data:
            return data
        rest += data
        kept: list[bytes] = []
        start = 0
        for end in EVENT_END.finditer(rest, self._at):
            block = bytes(rest[start : end.end()])
            if b'"usage"' not in block or not _is_usage_chunk(block):
                kept.append(block)
            start = end.end()
        del rest[:start]
        if len(rest) > MOST_EVENT_BYTES:  # no event stream: let it pass
            kept.append(self.finish())
        self._at = max(len(rest) - 2, 0)
        return b"".join(kept)

    def finish(self) -> bytes:
        """What was held back as the stream ended."""
        rest = bytes(self._rest)
        del self._rest[:]
        self._at = 0
        return rest


def _is_usage_chunk(block: bytes) -> bool:
    for event in SSESplitter().feed(block):
        try:
            told = loads(event.data)
        except ValueError:
            return False
        return isinstance(told, dict) and told.get("choices") == [] and bool(told.get("usage"))
    return False
