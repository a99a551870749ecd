"""Anthropic's messages: requests read, answers written, as objects and as events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from zerorouter.sandbox.plan import Ask, Choice, Finish, Plan, Tool, Usage
from zerorouter.sandbox.requests import (
    bad,
    body_of,
    flag,
    is_list,
    last_user_text,
    read_messages,
    texts,
    whole,
)
from zerorouter.sandbox.text import pieces
from zerorouter.sandbox.wire import Chunk, Failure, Identity, grouped

NAME: Final = "anthropic"
_MOST_TOKENS: Final = 10_000_000
_MOST_STOPS: Final = 64
_STOP_REASONS: Final = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL: "tool_use",
    Finish.REFUSAL: "refusal",
}
_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


# -- reading ---------------------------------------------------------------------------------


def read(body: Any, sample: int | None = None, *, counting: bool = False) -> Ask:
    """The request of ``POST /v1/messages`` or ``/v1/messages/count_tokens``.

    Args:
        body: Its JSON.
        sample: Number of the sample, else 0.
        counting: Whether only tokens are counted; ``max_tokens`` may then be absent.

    Raises:
        RequestError: A field is wrong; fields that the sandbox does not use are not looked at.
    """
    fields = body_of(body)
    messages = fields.get("messages")
    if not is_list(messages):
        raise bad("messages", messages, "a list of messages")
    limit = whole(fields, "max_tokens", 1, _MOST_TOKENS)
    if limit is None and not counting:
        raise bad("max_tokens", None, "a whole number of tokens; the field is required")
    tools = _tools(fields)
    mode, name, parallel = _tool_choice(fields, tools)
    if mode == "auto" and _answers_tools(messages):
        mode = "none"  # the tool has answered; a second call would go on for ever
    prompt, input_tokens = read_messages(
        [*_system(fields.get("system")), *messages], fields.get("tools")
    )
    return Ask(
        model=fields["model"],
        text=last_user_text(messages),
        prompt=prompt,
        input_tokens=input_tokens,
        max_tokens=limit,
        stops=texts(fields, "stop_sequences", _MOST_STOPS),
        tools=tools,
        tool_mode=mode,
        tool_name=name,
        parallel_tools=parallel,
        json_schema=_json_schema(fields),
        thinking=_thinks(fields.get("thinking")),
        sample=sample or 0,
        stream=flag(fields, "stream"),
    )


def _system(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, str) and not is_list(value):
        raise bad("system", value, "a text or a list of text blocks")
    return [{"role": "system", "content": value}]


def _tools(fields: Mapping[str, Any]) -> tuple[Tool, ...]:
    listed = fields.get("tools")
    if listed is None:
        return ()
    if not is_list(listed):
        raise bad("tools", listed, "a list of tools")
    made = []
    for i, tool in enumerate(listed):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or not name:
            raise bad(f"tools.{i}.name", name, "the name of a tool")
        schema = tool.get("input_schema")
        made.append(Tool(name=name, schema=schema if isinstance(schema, dict) else {}))
    return tuple(made)


def _tool_choice(
    fields: Mapping[str, Any], tools: tuple[Tool, ...]
) -> tuple[Literal["none", "auto", "required"], str | None, bool]:
    choice = fields.get("tool_choice")
    if choice is None:
        return "auto", None, True
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise bad("tool_choice", choice, "an object of type auto, any, tool or none")
    if not tools:
        raise bad("tool_choice", choice, "no such field where no 'tools' are offered")
    parallel = choice.get("disable_parallel_tool_use") is not True
    if kind == "tool":
        name = choice.get("name")
        if name not in {tool.name for tool in tools}:
            raise bad("tool_choice.name", name, "the name of one of the tools")
        return "required", name, parallel
    if kind == "any":
        return "required", None, parallel
    return ("none" if kind == "none" else "auto"), None, parallel


def _answers_tools(messages: list[Any]) -> bool:
    content = messages[-1].get("content") if messages and isinstance(messages[-1], dict) else None
    return is_list(content) and any(
        isinstance(part, dict) and part.get("type") == "tool_result" for part in content
    )


def _json_schema(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    config = fields.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if wanted is None:
        return None
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    if not isinstance(schema, dict) or wanted.get("type") != "json_schema":
        raise bad("output_config.format", wanted, "an object of type json_schema with a schema")
    return schema or {"type": "object"}


def _thinks(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in ("enabled", "adaptive")


# -- writing ---------------------------------------------------------------------------------


def message(plan: Plan, ask: Ask, identity: Identity) -> dict[str, Any]:
    """The whole answer."""
    choice = plan.choices[0]
    return {
        "id": f"msg_{identity.key}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": _blocks(choice, identity),
        "stop_reason": _STOP_REASONS[choice.finish],
        "stop_sequence": choice.stop,
        "stop_details": _stop_details(choice),
        "usage": usage(plan.usage),
    }


def usage(used: Usage) -> dict[str, Any]:
    """The usage block; cached input stands beside the rest, not in it."""
    cached = used.cache_read_tokens + used.cache_write_tokens
    return {
        "input_tokens": used.input_tokens - cached,
        "cache_creation_input_tokens": used.cache_write_tokens,
        "cache_read_input_tokens": used.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write_tokens,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"thinking_tokens": used.reasoning_tokens},
        "service_tier": "standard",
    }


def _stop_details(choice: Choice) -> dict[str, Any] | None:
    if choice.finish is not Finish.REFUSAL:
        return None
    return {"type": "refusal", "category": None, "explanation": None}


def _blocks(choice: Choice, identity: Identity) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if choice.thinking:
        made.append(
            {"type": "thinking", "thinking": choice.thinking, "signature": _signature(identity)}
        )
    if choice.text:
        made.append({"type": "text", "text": choice.text})
    for k, call in enumerate(choice.tool_calls):
        try:
            arguments = json.loads(call.arguments)
        except ValueError:  # cut by the limit
            arguments = {}
        made.append(
            {
                "type": "tool_use",
                "id": f"toolu_{identity.key}{k:x}",
                "name": call.name,
                "input": arguments,
            }
        )
    return made


def _signature(identity: Identity) -> str:
    return f"sandbox-{identity.answer}"


def chunks(plan: Plan, ask: Ask, identity: Identity, chunk_tokens: int = 1) -> Iterator[Chunk]:
    """The answer as a stream's events."""
    choice = plan.choices[0]
    begun = {
        **message(plan, ask, identity),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {**usage(plan.usage), "output_tokens": 1, "output_tokens_details": None},
    }
    yield _event("message_start", {"message": begun}, 0.0)
    blocks = _blocks(choice, identity)
    deltas = [_deltas(block, choice, k, chunk_tokens) for k, block in enumerate(blocks)]
    total, sent = sum([len(parts) for parts in deltas]), 0
    for i, (block, parts) in enumerate(zip(blocks, deltas, strict=True)):
        place = sent / max(total - 1, 1)
        opened = {"index": i, "content_block": _opened(block)}
        yield _event("content_block_start", opened, min(place, 1.0))
        if i == 0:
            yield _event("ping", {}, place)
        for part in parts:
            place = sent / max(total - 1, 1)
            sent += 1
            data = {"index": i, "delta": part}
            yield _event("content_block_delta", data, place, content=True)
        yield _event("content_block_stop", {"index": i}, place)
    delta = {
        "stop_reason": _STOP_REASONS[choice.finish],
        "stop_sequence": choice.stop,
        "stop_details": _stop_details(choice),
    }
    used = usage(plan.usage)
    del used["cache_creation"], used["service_tier"]
    yield _event("message_delta", {"delta": delta, "usage": used}, 1.0)
    yield _event("message_stop", {}, 1.0)


def _opened(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block without its content, as a stream begins it."""
    empty = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: empty.get(key, value) if key != "type" else value for key, value in block.items()}


def _deltas(
    block: Mapping[str, Any], choice: Choice, index: int, chunk_tokens: int
) -> list[dict[str, Any]]:
    """What a block's events add to it."""
    if block["type"] == "thinking":
        parts = [
            {"type": "thinking_delta", "thinking": "".join(part)}
            for part in grouped(pieces(block["thinking"]), chunk_tokens)
        ]
        return [*parts, {"type": "signature_delta", "signature": block["signature"]}]
    if block["type"] == "text":
        return [
            {"type": "text_delta", "text": "".join(part)}
            for part in grouped(pieces(block["text"]), chunk_tokens)
        ]
    before = sum([bool(choice.thinking), bool(choice.text)])
    arguments = choice.tool_calls[index - before].arguments
    # As written, also where the limit cut them: what arrives is then no whole JSON.
    return [
        {"type": "input_json_delta", "partial_json": ""},
        *(
            {"type": "input_json_delta", "partial_json": "".join(part)}
            for part in grouped(pieces(arguments), chunk_tokens)
        ),
    ]


def _event(name: str, fields: Mapping[str, Any], place: float, content: bool = False) -> Chunk:
    return Chunk(event=name, data={"type": name, **fields}, place=place, content=content)


def encode(chunk: Chunk, dumps: Any) -> bytes:
    """An event of the stream."""
    assert chunk.event is not None
    return b"event: " + chunk.event.encode() + b"\ndata: " + bytes(dumps(chunk.data)) + b"\n\n"


def error(failure: Failure) -> dict[str, Any]:
    """The error envelope."""
    status = failure.status
    kind = _ERROR_TYPES.get(status)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "api_error"
    return {
        "type": "error",
        "error": {"type": kind, "message": failure.message},
        "request_id": failure.request_id,
    }


def stream_error(failure: Failure) -> Chunk:
    """An error in the middle of a stream."""
    return Chunk(event="error", data=error(failure), place=1.0)


def model_card(name: str, released: str) -> dict[str, Any]:
    """An entry of the list of models."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": released,
        "lifecycle": "active",
    }
