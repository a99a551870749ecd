"""Answers in one piece: a chat completion as an Anthropic message, and back.

Reasoning that an OpenAI-compatible upstream shows (``reasoning_content``) becomes a thinking block
only where the caller wants it: Anthropic signs such blocks, ours carry an empty signature, and an
Anthropic upstream refuses them when they come back with the next request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from zerorouter.errors import WireError
from zerorouter.gateway.wire.codec import dumps
from zerorouter.gateway.wire.translate_chat_request import arguments_of
from zerorouter.gateway.wire.translating import (
    CHAT_TO_STOP,
    STOP_TO_CHAT,
    Json,
    Notes,
    Translation,
    tool_id,
)
from zerorouter.gateway.wire.usage import TokenUsage, chat_usage, messages_usage

_CHAT_ID: Final = "chatcmpl-"
_MESSAGE_ID: Final = "msg_"


def chat_answer_to_message(
    answer: Mapping[str, Any],
    *,
    model: str | None = None,
    stop_sequences: Sequence[str] = (),
    thinking: bool = False,
) -> Translation:
    """Translate a chat completion into a message.

    Args:
        answer: The completion as parsed.
        model: What the message says of its model; by default what the completion says.
        stop_sequences: Those of the request. vLLM and others tell which one has ended the answer.
        thinking: Whether reasoning is shown as a thinking block.

    Raises:
        WireError: It is no chat completion.
    """
    notes = Notes()
    choice = first_choice(answer)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise WireError("the upstream's answer has no message; wanted a chat completion")
    content: list[Json] = []
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        if thinking:
            content.append({"type": "thinking", "thinking": reasoning, "signature": ""})
        else:
            notes.add("the reasoning text was left out")
    text = _text_of(message.get("content"))
    refusal = message.get("refusal")
    if text:
        content.append({"type": "text", "text": text})
    if isinstance(refusal, str) and refusal:
        content.append({"type": "text", "text": refusal})
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    for k, call in enumerate(calls):
        content.append(_tool_use(call, f"{answer.get('id')}-{k}", notes))
    for name in ("audio", "annotations", "function_call"):
        if message.get(name):
            notes.add(f"{name} of the answer was left out: messages do not know it")
    if isinstance(answer.get("choices"), list) and len(answer["choices"]) > 1:
        notes.add("answers after the first were left out")
    reason, sequence = stop_reason(
        choice.get("finish_reason"),
        has_calls=bool(calls),
        is_refusal=bool(refusal),
        matched=choice.get("stop_reason"),
        stop_sequences=stop_sequences,
    )
    usage = chat_usage(answer.get("usage"))
    if usage is None:
        notes.add("the upstream told no usage")
    body: Json = {
        "id": message_id(answer.get("id")),
        "type": "message",
        "role": "assistant",
        "model": model or str(answer.get("model") or ""),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": (usage or TokenUsage()).to_messages(),
    }
    return Translation(body=body, notes=notes.all())


def message_to_chat_answer(
    answer: Mapping[str, Any], *, created: int, model: str | None = None
) -> Translation:
    """Translate a message into a chat completion.

    Args:
        answer: The message as parsed.
        created: Unix seconds, which messages do not tell.
        model: What the completion says of its model; by default what the message says.

    Raises:
        WireError: It is no message.
    """
    notes = Notes()
    blocks = answer.get("content")
    if not isinstance(blocks, list):
        raise WireError("the upstream's answer has no content; wanted an Anthropic message")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            texts.append(str(block.get("text") or ""))
            if block.get("citations"):
                notes.add("citations were left out: chat completions do not know them")
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking") or ""))
        elif kind == "tool_use":
            calls.append(
                {
                    "id": tool_id(block.get("id") or ""),
                    "type": "function",
                    "function": {
                        "name": str(block.get("name") or ""),
                        "arguments": dumps(block.get("input") or {}).decode(),
                    },
                }
            )
        else:
            notes.add(f"{kind} of the answer was left out: chat completions do not know it")
    message: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": None,
    }
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    usage = messages_usage(answer.get("usage"))
    if usage is None:
        notes.add("the upstream told no usage")
    body: Json = {
        "id": chat_id(answer.get("id")),
        "object": "chat.completion",
        "created": created,
        "model": model or str(answer.get("model") or ""),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": STOP_TO_CHAT.get(str(answer.get("stop_reason")), "stop"),
            }
        ],
        "usage": (usage or TokenUsage()).to_chat(),
    }
    return Translation(body=body, notes=notes.all())


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of a chat completion.

    Raises:
        WireError: There is none.
    """
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return choices[0]
    raise WireError("the upstream's answer has no choices; wanted a chat completion")


def stop_reason(
    finish: Any,
    *,
    has_calls: bool,
    is_refusal: bool,
    matched: Any = None,
    stop_sequences: Sequence[str] = (),
) -> tuple[str, str | None]:
    """Anthropic's ``stop_reason`` and ``stop_sequence``.

    Args:
        finish: OpenAI's ``finish_reason``; words that are not known end the turn.
        has_calls: Some servers say "stop" after tool calls; clients wait for "tool_use".
        is_refusal: Whether the answer is a refusal.
        matched: The stop sequence that ended the answer, where the server tells.
        stop_sequences: Those that the client asked for.
    """
    reason = CHAT_TO_STOP.get(str(finish), "end_turn")
    if reason == "end_turn" and has_calls:
        reason = "tool_use"
    elif reason == "end_turn" and is_refusal:
        reason = "refusal"
    elif reason == "end_turn" and isinstance(matched, str) and matched in stop_sequences:
        return "stop_sequence", matched
    return reason, None


def message_id(given: Any) -> str:
    """An id as Anthropic's look, for the upstream's."""
    text = given if isinstance(given, str) and given else "unknown"
    return text if text.startswith(_MESSAGE_ID) else _MESSAGE_ID + text.removeprefix(_CHAT_ID)


def chat_id(given: Any) -> str:
    """An id as OpenAI's look, for the upstream's."""
    text = given if isinstance(given, str) and given else "unknown"
    return text if text.startswith(_CHAT_ID) else _CHAT_ID + text.removeprefix(_MESSAGE_ID)


def _text_of(content: Any) -> str:
    """Content of an answer: a text, or parts as Mistral and others send them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return "".join([text for text in texts if isinstance(text, str)])


def _tool_use(call: Any, spare_id: str, notes: Notes) -> Json:
    call = call if isinstance(call, Mapping) else {}
    function = call.get("function")
    if not isinstance(function, Mapping):
        custom = call.get("custom")
        custom = custom if isinstance(custom, Mapping) else {}
        function = {"name": custom.get("name"), "arguments": custom.get("input")}
    arguments, is_object = arguments_of(function.get("arguments") or "")
    if not is_object:
        notes.add("arguments that are no JSON object were given as a text")
    return {
        "type": "tool_use",
        "id": tool_id(call.get("id") or spare_id),
        "name": str(function.get("name") or ""),
        "input": arguments,
    }
