"""A whole answer told as a stream, for clients that asked for one of an upstream that has none.

Some upstreams and proxies answer ``"stream": true`` with one JSON object. A client that reads
events would find none in it, and take that for an empty answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import dumps
from zerorouter.gateway.wire.sse import DONE, encode_event


def whole_as_stream(api: Api, answer: Mapping[str, Any], *, include_usage: bool) -> bytes | None:
    """The stream that says what ``answer`` says; None where it is no answer of ``api``.

    Args:
        api: The API of the answer and of the stream: chat completions or messages.
        answer: The parsed answer.
        include_usage: Whether a chat stream ends with its usage.
    """
    if api is Api.CHAT and isinstance(answer.get("choices"), list):
        made = [encode_event(dumps(chunk)) for chunk in _chunks(answer, include_usage)]
        return b"".join([*made, encode_event(DONE)])
    if api is Api.MESSAGES and isinstance(answer.get("content"), list):
        return b"".join([encode_event(dumps(e), e["type"]) for e in _events(answer)])
    return None


def _chunks(answer: Mapping[str, Any], include_usage: bool) -> Iterator[dict[str, Any]]:
    head = {k: v for k, v in answer.items() if k not in ("choices", "usage", "object")}
    head["object"] = "chat.completion.chunk"
    for place, choice in enumerate(answer["choices"]):
        if not isinstance(choice, dict):
            continue
        message = choice.get("message")
        delta = dict(message) if isinstance(message, dict) else {}
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            delta["tool_calls"] = [
                {"index": i, **call} for i, call in enumerate(calls) if isinstance(call, dict)
            ]
        index = choice.get("index", place)
        said = {"index": index, "delta": delta, "finish_reason": None}
        if choice.get("logprobs") is not None:
            said["logprobs"] = choice["logprobs"]
        yield {**head, "choices": [said]}
        reason = choice.get("finish_reason") or "stop"
        yield {**head, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
    if include_usage and isinstance(answer.get("usage"), dict):
        yield {**head, "choices": [], "usage": answer["usage"]}


def _events(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    told = answer.get("usage")
    usage = dict(told) if isinstance(told, dict) else {}
    begun = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**usage, "input_tokens": usage.get("input_tokens") or 0, "output_tokens": 0}
    yield {"type": "message_start", "message": begun}
    blocks = [block for block in answer["content"] if isinstance(block, dict)]
    for index, block in enumerate(blocks):
        empty, deltas = _opened(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {
        "stop_reason": answer.get("stop_reason") or "end_turn",
        "stop_sequence": answer.get("stop_sequence"),
    }
    count = {"output_tokens": usage.get("output_tokens") or 0}
    yield {"type": "message_delta", "delta": delta, "usage": count}
    yield {"type": "message_stop"}


def _opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what then comes; blocks of other kinds come whole."""
    kind = block.get("type")
    if kind == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text") or ""}]
    if kind == "tool_use":
        told = dumps(block.get("input") or {}).decode()
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": told}]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": block.get("thinking") or ""}]
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, deltas
    return block, []
