"""Streams: a chat completion's chunks as Anthropic's events, and back.

Both translators are state machines: `feed` takes the upstream's bytes in any pieces and returns the
client's, `finish` says what is left as the upstream closes. How the bytes were cut never changes
what comes out in all. A stream that breaks off ends in an error event in the client's format,
never as if it were whole. ``facts`` are those of the upstream's stream, as a scanner has them.

Tool calls: Anthropic's blocks follow one another, OpenAI's calls may in principle mix. A call is
passed on as it comes; when another begins while its arguments are not whole yet, the other waits
until the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from zerorouter.errors import WireError
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import dumps, loads
from zerorouter.gateway.wire.envelopes import Failure, error_event
from zerorouter.gateway.wire.scanning import (
    AnswerFacts,
    ChatScanner,
    MessagesScanner,
    Scanner,
)
from zerorouter.gateway.wire.sse import DONE, SSESplitter, encode_event
from zerorouter.gateway.wire.translate_response import (
    chat_id,
    message_id,
    stop_reason,
)
from zerorouter.gateway.wire.translating import STOP_TO_CHAT, Json, Notes, tool_id
from zerorouter.gateway.wire.usage import TokenUsage

MOST_HELD_CHARS: Final = 16 * 1024 * 1024
"""Arguments of tool calls that are kept at most; more is an error."""

_BROKEN_OFF: Final = "the upstream's stream broke off before its end"


class StreamTranslator(ABC):
    """What both directions share: bytes to events, errors, the end.

    Attributes:
        facts: What the upstream's stream says of itself.
    """

    _client: Api
    _scanner: Scanner

    def __init__(self) -> None:
        self._splitter = SSESplitter()
        self._notes = Notes()
        self._is_over = False
        self._out: list[bytes] = []

    @property
    def facts(self) -> AnswerFacts:
        """What the upstream's stream says of itself."""
        return self._scanner.facts

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out so far."""
        return self._notes.all()

    @property
    def is_over(self) -> bool:
        """Whether the client's stream has been ended; what comes after is ignored."""
        return self._is_over

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the upstream's next ones."""
        if self._is_over:
            return b""
        try:
            for event in self._splitter.feed(data):
                self._take(event.data)
        except WireError as error:
            self.facts.n_unreadable += 1
            self._fail(Failure(status=502, message=str(error)))
        return self._flush()

    def finish(self) -> bytes:
        """The client's last bytes, as the upstream has closed its stream."""
        try:
            for event in self._splitter.finish():
                self._take(event.data)
            if not self._is_over:
                self._close()
        except WireError as error:
            self._fail(Failure(status=502, message=str(error)))
        return self._flush()

    def fail(self, failure: Failure) -> bytes:
        """The client's last bytes where the gateway itself ends the stream, as on a deadline."""
        if self._is_over:
            return b""
        self._fail(failure)
        return self._flush()

    def _take(self, data: bytes) -> None:
        if self._is_over:
            return
        facts = self.facts
        facts.n_events += 1
        if data == DONE:
            facts.is_complete = True
            self._end()
            return
        try:
            told = loads(data)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            facts.n_unreadable += 1
            self._fail(Failure(status=502, message="the upstream sent an event that is no JSON"))
            return
        self._scanner.note(told)
        if facts.error is not None:
            self._fail(facts.error)
            return
        self._translate(told)

    def _fail(self, failure: Failure) -> None:
        self._out.append(error_event(self._client, failure))
        self._is_over = True

    def _flush(self) -> bytes:
        made = b"".join(self._out)
        self._out.clear()
        return made

    @abstractmethod
    def _translate(self, told: Json) -> None:
        """Take in one event."""

    @abstractmethod
    def _end(self) -> None:
        """The upstream has said that this was all."""

    @abstractmethod
    def _close(self) -> None:
        """The upstream has closed without saying so."""


@dataclass(slots=True)
class _Call:
    """A tool call on its way."""

    given_id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    n_sent: int = 0  # pieces of the arguments that the client has
    block: int | None = None  # the client's index of it, once begun
    is_closed: bool = False


class ChatToMessagesStream(StreamTranslator):
    """OpenAI's chunks in, Anthropic's events out.

    Args:
        model: What the message says of its model; by default what the chunks say.
        input_tokens: Estimate of the input, which Anthropic tells at the start and OpenAI at the
            end; the true count comes with ``message_delta``.
        stop_sequences: Those of the request.
        thinking: Whether reasoning is shown as thinking blocks.
    """

    _client = Api.MESSAGES

    def __init__(
        self,
        *,
        model: str | None = None,
        input_tokens: int = 0,
        stop_sequences: Sequence[str] = (),
        thinking: bool = False,
    ) -> None:
        super().__init__()
        self._scanner = ChatScanner()
        self._model = model
        self._input_tokens = input_tokens
        self._stops = tuple(stop_sequences)
        self._thinking = thinking
        self._is_begun = False
        self._n_blocks = 0
        self._open: str | None = None  # type of the open block that is no tool's
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._n_held = 0
        self._waiting: list[tuple[str, str]] = []  # words that came inside a call
        self._is_refusal = False
        self._matched: Any = None

    # -- in --------------------------------------------------------------------------------------

    def _translate(self, told: Json) -> None:
        choices = told.get("choices")
        if not isinstance(choices, list):
            return
        if not self._is_begun:
            self._begin(told)
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            if choice.get("index", 0) != 0:
                self._notes.add("answers after the first were left out")
                continue
            if choice.get("stop_reason") is not None:
                self._matched = choice["stop_reason"]
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._delta(delta)

    def _delta(self, delta: Json) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            if self._thinking:
                self._say("thinking", reasoning)
            else:
                self._notes.add("the reasoning text was left out")
        for name in ("content", "refusal"):
            text = delta.get(name)
            if isinstance(text, list):  # parts, as Mistral sends them
                texts = [part.get("text") for part in text if isinstance(part, dict)]
                text = "".join([one for one in texts if isinstance(one, str)])
            if isinstance(text, str) and text:
                self._is_refusal |= name == "refusal"
                self._say("text", text)
        calls = delta.get("tool_calls")
        for k, piece in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(piece, dict):
                self._call_piece(piece, k)

    def _call_piece(self, piece: Json, place: int) -> None:
        index = piece.get("index")
        index = index if isinstance(index, int) else place
        given_id = piece.get("id")
        call = self._by_index.get(index)
        # Some servers number every call 0 and tell them apart by id alone.
        is_other = call is not None and bool(given_id) and call.given_id not in (None, given_id)
        if call is None or is_other:
            call = _Call()
            self._by_index[index] = call
            self._calls.append(call)
        if isinstance(given_id, str) and given_id:
            call.given_id = given_id
        function = piece.get("function")
        if isinstance(function, dict):
            if isinstance(function.get("name"), str) and not call.name:
                call.name = function["name"]
            arguments = function.get("arguments")
            if isinstance(arguments, dict):  # Ollama and others
                arguments = dumps(arguments).decode()
            if isinstance(arguments, str) and arguments:
                self._hold(arguments)
                call.arguments.append(arguments)
        self._pass_on()

    def _pass_on(self, *, is_end: bool = False) -> None:
        """Send what may be sent of the calls: whole ones in order, then the one that is running."""
        for k, call in enumerate(self._calls):
            if call.is_closed:
                if call.n_sent < len(call.arguments):
                    self._late(call)
                continue
            if call.block is None:
                if not call.name and not is_end:
                    return
                self._open_call(call, k)
            for part in call.arguments[call.n_sent :]:
                delta = {"type": "input_json_delta", "partial_json": part}
                self._event("content_block_delta", {"index": call.block, "delta": delta})
            call.n_sent = len(call.arguments)
            is_last = k == len(self._calls) - 1
            if not is_end and (is_last or not _is_whole(call)):
                return
            self._event("content_block_stop", {"index": call.block})
            call.is_closed = True

    def _hold(self, text: str) -> None:
        self._n_held += len(text)
        if self._n_held > MOST_HELD_CHARS:
            raise WireError(
                f"the upstream's tool calls have more than {MOST_HELD_CHARS:,} characters"
            )

    def _late(self, call: _Call) -> None:
        """A piece for a call whose arguments were whole: blanks are harmless, more is not."""
        late = "".join(call.arguments[call.n_sent :])
        call.n_sent = len(call.arguments)
        if late.strip():
            raise WireError("the upstream went on with a tool call that was already whole")

    def _open_call(self, call: _Call, k: int) -> None:
        self._close_block()
        call.block = self._n_blocks
        self._n_blocks += 1
        spare = f"{self.facts.answer_id or 'call'}-{k}"
        block = {
            "type": "tool_use",
            "id": tool_id(call.given_id or spare),
            "name": call.name,
            "input": {},
        }
        self._event("content_block_start", {"index": call.block, "content_block": block})

    # -- out -------------------------------------------------------------------------------------

    def _event(self, name: str, fields: Json) -> None:
        self._out.append(encode_event(dumps({"type": name, **fields}), name))

    def _begin(self, told: Json) -> None:
        self._is_begun = True
        usage = TokenUsage(input_tokens=self._input_tokens).to_messages()
        message: Json = {
            "id": message_id(told.get("id")),
            "type": "message",
            "role": "assistant",
            "model": self._model or str(told.get("model") or ""),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens_details": None},
        }
        self._event("message_start", {"message": message})
        self._event("ping", {})

    def _say(self, kind: str, text: str) -> None:
        """A piece of text or of thinking; inside a call that is not whole it has to wait."""
        self._waiting.append((kind, text))
        if any(not call.is_closed and not _is_whole(call) for call in self._calls):
            self._hold(text)
        else:
            self._say_what_waits()

    def _say_what_waits(self) -> None:
        for kind, text in self._waiting:
            self._write(kind, text)
        self._waiting.clear()

    def _write(self, kind: str, text: str) -> None:
        if self._open != kind:
            self._close_block()
            self._close_calls()
            block = {"type": kind, kind: ""}
            if kind == "thinking":
                block["signature"] = ""
            self._event("content_block_start", {"index": self._n_blocks, "content_block": block})
            self._open = kind
            self._n_blocks += 1
        delta = {"type": f"{kind}_delta", kind: text}
        self._event("content_block_delta", {"index": self._n_blocks - 1, "delta": delta})

    def _close_block(self) -> None:
        if self._open is not None:
            self._event("content_block_stop", {"index": self._n_blocks - 1})
            self._open = None

    def _close_calls(self) -> None:
        """Words after a call: the calls so far are whole."""
        if self._calls:
            self._pass_on(is_end=True)

    def _end(self) -> None:
        facts = self.facts
        if not self._is_begun:
            self._fail(Failure(status=502, message="the upstream's stream was empty"))
            return
        self._close_block()
        self._close_calls()
        self._say_what_waits()
        self._close_block()
        reason, sequence = stop_reason(
            facts.finish_reason,
            has_calls=bool(self._calls),
            is_refusal=self._is_refusal,
            matched=self._matched,
            stop_sequences=self._stops,
        )
        usage = facts.usage
        if usage is None:
            usage = TokenUsage(input_tokens=self._input_tokens, output_tokens=facts.output_tokens())
            self._notes.add("the upstream told no usage: it is estimated")
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        self._event("message_delta", {"delta": delta, "usage": usage.to_messages()})
        self._event("message_stop", {})
        self._is_over = True

    def _close(self) -> None:
        if self.facts.finish_reason is not None:  # only the end mark is missing
            self._end()
        else:
            self._fail(Failure(status=502, message=_BROKEN_OFF))


class MessagesToChatStream(StreamTranslator):
    """Anthropic's events in, OpenAI's chunks out.

    Args:
        created: Unix seconds, which Anthropic does not tell.
        include_usage: Whether the client wants the usage chunk.
        model: What the chunks say of their model; by default what the message says.
    """

    _client = Api.CHAT

    def __init__(
        self, *, created: int, include_usage: bool = False, model: str | None = None
    ) -> None:
        super().__init__()
        self._scanner = MessagesScanner()
        self._created = created
        self._include_usage = include_usage
        self._model = model
        self._is_begun = False
        self._calls: dict[int, _Call] = {}  # by Anthropic's index of the block
        self._is_finished = False

    def _translate(self, told: Json) -> None:
        kind, index = told.get("type"), told.get("index")
        index = index if isinstance(index, int) else -1
        if kind == "content_block_delta":
            self._delta(index, told.get("delta"))
        elif kind == "message_start":
            self._begin()
        elif kind == "content_block_start":
            self._start_block(index, told.get("content_block"))
        elif kind == "content_block_stop":
            self._stop_block(index)
        elif kind == "message_delta":
            delta = told.get("delta")
            reason = delta.get("stop_reason") if isinstance(delta, dict) else None
            if reason is not None:
                self._finish_choice(reason)
        elif kind == "message_stop":
            self._end()
        elif kind == "ping":
            self._out.append(b": ping\n\n")  # keeps the connection alive as well

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._chunk({"role": "assistant", "content": ""})

    def _start_block(self, index: int, block: Any) -> None:
        self._begin()
        if not isinstance(block, dict):
            return
        kind = block.get("type")
        if kind == "text":
            self._text("content", block.get("text"))
        elif kind == "thinking":
            self._text("reasoning_content", block.get("thinking"))
        elif kind == "tool_use":
            call = _Call(block=len(self._calls))
            given = block.get("input")
            if isinstance(given, dict) and given:  # some servers send it whole
                call.arguments.append(dumps(given).decode())
            self._calls[index] = call
            head = {
                "index": call.block,
                "id": tool_id(block.get("id") or f"{self.facts.answer_id}-{call.block}"),
                "type": "function",
                "function": {"name": str(block.get("name") or ""), "arguments": ""},
            }
            self._chunk({"tool_calls": [head]})
        else:
            self._notes.add(f"{kind} of the answer was left out: chat completions do not know it")

    def _delta(self, index: int, delta: Any) -> None:
        self._begin()
        if not isinstance(delta, dict):
            return
        kind = delta.get("type")
        if kind == "text_delta":
            self._text("content", delta.get("text"))
        elif kind == "thinking_delta":
            self._text("reasoning_content", delta.get("thinking"))
        elif kind == "input_json_delta":
            call = self._calls.get(index)
            part = delta.get("partial_json")
            if call is not None and isinstance(part, str) and part:
                call.n_sent += 1
                self._arguments(call, part)
        elif kind == "citations_delta":
            self._notes.add("citations were left out: chat completions do not know them")

    def _stop_block(self, index: int) -> None:
        call = self._calls.get(index)
        if call is not None and not call.is_closed:
            call.is_closed = True
            if not call.n_sent:
                self._arguments(call, "".join(call.arguments) or "{}")

    def _arguments(self, call: _Call, part: str) -> None:
        self._chunk({"tool_calls": [{"index": call.block, "function": {"arguments": part}}]})

    def _text(self, name: str, text: Any) -> None:
        if isinstance(text, str) and text:
            self._chunk({name: text})

    def _finish_choice(self, reason: Any) -> None:
        if not self._is_finished:
            self._begin()
            self._is_finished = True
            self._chunk({}, STOP_TO_CHAT.get(str(reason), "stop"))

    def _chunk(self, delta: Json, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        made = self._frame([choice])
        if self._include_usage:
            made["usage"] = None
        self._out.append(encode_event(dumps(made)))

    def _frame(self, choices: list[Json]) -> Json:
        facts = self.facts
        return {
            "id": chat_id(facts.answer_id),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model or facts.model or "",
            "choices": choices,
        }

    def _end(self) -> None:
        if not self._is_begun:
            self._fail(Failure(status=502, message="the upstream's stream was empty"))
            return
        self._finish_choice("end_turn")
        if self._include_usage:
            usage = self.facts.usage
            if usage is None:
                usage = TokenUsage(output_tokens=self.facts.output_tokens())
                self._notes.add("the upstream told no usage: it is estimated")
            self._out.append(encode_event(dumps({**self._frame([]), "usage": usage.to_chat()})))
        self._out.append(encode_event(DONE))
        self._is_over = True

    def _close(self) -> None:
        if self._is_finished:  # only message_stop is missing
            self._end()
        else:
            self._fail(Failure(status=502, message=_BROKEN_OFF))


def _is_whole(call: _Call) -> bool:
    """Whether the arguments so far are a JSON object."""
    try:
        return isinstance(loads("".join(call.arguments)), dict)
    except ValueError:
        return False
