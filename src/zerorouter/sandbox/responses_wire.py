"""OpenAI's responses API: requests read, answers written, as objects and as events.

Text, functions and structured outputs; nothing is stored, so ``previous_response_id`` is not
looked at, and the tools that OpenAI runs itself are not offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from zerorouter.sandbox import openai_wire
from zerorouter.sandbox.plan import Ask, Choice, Finish, Plan, Tool, Usage
from zerorouter.sandbox.requests import (
    bad,
    body_of,
    flag,
    is_list,
    last_user_text,
    read_messages,
    whole,
)
from zerorouter.sandbox.text import pieces
from zerorouter.sandbox.wire import Chunk, Dumps, Failure, Identity, grouped

NAME: Final = openai_wire.NAME
_MOST_TOKENS: Final = 10_000_000


# -- reading ---------------------------------------------------------------------------------


def read(body: Any, sample: int | None = None) -> Ask:
    """The request of ``POST /v1/responses``.

    Args:
        body: Its JSON.
        sample: Number of the sample, else 0.

    Raises:
        RequestError: A field is wrong; fields that the sandbox does not use are not looked at.
    """
    fields = body_of(body)
    messages = _messages(fields)
    tools = _tools(fields)
    mode, name = _tool_choice(fields.get("tool_choice"), tools)
    if mode == "auto" and messages and messages[-1]["role"] == "tool":
        mode = "none"  # the tool has answered; a second call would go on for ever
    schema = _json_schema(fields.get("text"))
    prompt, input_tokens = read_messages(messages, fields.get("tools"))
    return Ask(
        model=fields["model"],
        text=last_user_text(messages),
        prompt=prompt,
        input_tokens=input_tokens,
        max_tokens=whole(fields, "max_output_tokens", 1, _MOST_TOKENS),
        tools=tools,
        tool_mode=mode,
        tool_name=name,
        parallel_tools=fields.get("parallel_tool_calls") is not False,
        json_schema=schema,
        sample=sample or 0,
        stream=flag(fields, "stream"),
    )


def _messages(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The input as chat messages."""
    given, made = fields.get("input"), list[dict[str, Any]]()
    if isinstance(instructions := fields.get("instructions"), str):
        made.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return [*made, {"role": "user", "content": given}]
    if not is_list(given):
        raise bad("input", given, "a text or a list of items")
    for i, item in enumerate(given):
        if not isinstance(item, dict):
            raise bad(f"input[{i}]", item, "an item")
        kind = item.get("type", "message")
        if kind == "message" and isinstance(item.get("role"), str):
            made.append({"role": item["role"], "content": item.get("content")})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            made.append({"role": "tool", "content": item.get("output")})
        elif kind == "message":
            raise bad(f"input[{i}].role", item.get("role"), "user, assistant, system or developer")
        else:  # calls, reasoning and whatever else an answer may have held
            made.append({"role": "assistant", "content": None, "tool_calls": [item]})
    return made


def _tools(fields: Mapping[str, Any]) -> tuple[Tool, ...]:
    listed = fields.get("tools")
    if listed is None:
        return ()
    if not is_list(listed):
        raise bad("tools", listed, "a list of tools")
    made = []
    for i, tool in enumerate(listed):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind != "function":
            raise bad(f"tools[{i}]", tool, "a tool of type function")
        assert isinstance(tool, dict)
        if not isinstance(name := tool.get("name"), str) or not name:
            raise bad(f"tools[{i}].name", name, "the name of a function")
        schema = tool.get("parameters")
        made.append(Tool(name=name, schema=schema if isinstance(schema, dict) else {}))
    return tuple(made)


def _tool_choice(
    choice: Any, tools: tuple[Tool, ...]
) -> tuple[Literal["none", "auto", "required"], str | None]:
    if choice is None:
        return "auto", None
    if choice in ("none", "auto", "required"):
        return choice, None
    name = choice.get("name") if isinstance(choice, dict) else None
    if name not in {tool.name for tool in tools}:
        raise bad("tool_choice", choice, "none, auto, required or one of the functions")
    return "required", name


def _json_schema(text: Any) -> Mapping[str, Any] | None:
    wanted = text.get("format") if isinstance(text, dict) else None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return {}
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    if kind == "json_schema" and isinstance(schema, dict):
        return schema or {"type": "object"}
    raise bad("text.format", wanted, "text, json_object or json_schema with a schema")


# -- writing ---------------------------------------------------------------------------------


def message(plan: Plan, ask: Ask, identity: Identity) -> dict[str, Any]:
    """The whole answer."""
    choice = plan.choices[0]
    cut = choice.finish is Finish.LENGTH
    return {
        **_begun(ask, identity),
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": _items(choice, identity),
        "usage": usage(plan.usage),
    }


def usage(used: Usage) -> dict[str, Any]:
    """The usage block."""
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": used.cache_read_tokens, "cache_write_tokens": 0},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def _begun(ask: Ask, identity: Identity) -> dict[str, Any]:
    return {
        "id": f"resp_{identity.key}",
        "object": "response",
        "created_at": identity.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": ask.max_tokens,
        "model": ask.model,
        "output": [],
        "parallel_tool_calls": ask.parallel_tools,
        "previous_response_id": None,
        "store": False,
        "tool_choice": ask.tool_mode,
        "tools": [],
        "metadata": {},
        "usage": None,
    }


def _items(choice: Choice, identity: Identity) -> list[dict[str, Any]]:
    status = "incomplete" if choice.finish is Finish.LENGTH else "completed"
    if choice.tool_calls:
        return [
            {
                "type": "function_call",
                "id": f"fc_{identity.key}{k:x}",
                "call_id": f"call_{identity.key}{k:x}",
                "name": call.name,
                "arguments": call.arguments,
                "status": status,
            }
            for k, call in enumerate(choice.tool_calls)
        ]
    return [
        {
            "type": "message",
            "id": f"msg_{identity.key}",
            "role": "assistant",
            "status": status,
            "content": [_part(choice)],
        }
    ]


def _part(choice: Choice) -> dict[str, Any]:
    if choice.finish is Finish.REFUSAL:
        return {"type": "refusal", "refusal": choice.text}
    return {"type": "output_text", "text": choice.text, "annotations": [], "logprobs": []}


def chunks(plan: Plan, ask: Ask, identity: Identity, chunk_tokens: int = 1) -> Iterator[Chunk]:
    """The answer as a stream's events, numbered in order."""
    for number, chunk in enumerate(_events(plan, ask, identity, chunk_tokens)):
        chunk.data["sequence_number"] = number
        yield chunk


def _events(plan: Plan, ask: Ask, identity: Identity, chunk_tokens: int) -> Iterator[Chunk]:
    choice = plan.choices[0]
    for name in ("created", "in_progress"):
        yield _event(f"response.{name}", {"response": _begun(ask, identity)}, 0.0)
    items = _items(choice, identity)
    for i, item in enumerate(items):
        if item["type"] == "message":
            events = _message_events(item, choice, i, chunk_tokens)
        else:
            events = _call_events(item, i, chunk_tokens)
        for event in events:  # each item has its share of the time
            yield replace(event, place=(i + event.place) / len(items))
    end = message(plan, ask, identity)
    yield _event(f"response.{end['status']}", {"response": end}, 1.0)


def _message_events(
    item: Mapping[str, Any], choice: Choice, i: int, chunk_tokens: int
) -> Iterator[Chunk]:
    (part,) = item["content"]
    field = "refusal" if part["type"] == "refusal" else "text"
    kind = "response.refusal" if field == "refusal" else "response.output_text"
    place = {"item_id": item["id"], "output_index": i, "content_index": 0}
    more: dict[str, Any] = {} if field == "refusal" else {"logprobs": []}
    opened = {**item, "status": "in_progress", "content": []}
    yield _event("response.output_item.added", {"output_index": i, "item": opened}, 0.0)
    yield _event("response.content_part.added", {**place, "part": {**part, field: ""}}, 0.0)
    for delta, when in _paced(choice.text, chunk_tokens):
        yield _event(f"{kind}.delta", {**place, "delta": delta, **more}, when, content=True)
    yield _event(f"{kind}.done", {**place, field: choice.text, **more}, 1.0)
    yield _event("response.content_part.done", {**place, "part": part}, 1.0)
    yield _event("response.output_item.done", {"output_index": i, "item": dict(item)}, 1.0)


def _call_events(item: Mapping[str, Any], i: int, chunk_tokens: int) -> Iterator[Chunk]:
    kind, place = "response.function_call_arguments", {"item_id": item["id"], "output_index": i}
    opened = {**item, "status": "in_progress", "arguments": ""}
    yield _event("response.output_item.added", {"output_index": i, "item": opened}, 0.0)
    for delta, when in _paced(item["arguments"], chunk_tokens):
        yield _event(f"{kind}.delta", {**place, "delta": delta}, when, content=True)
    done = {**place, "name": item["name"], "arguments": item["arguments"]}
    yield _event(f"{kind}.done", done, 1.0)
    yield _event("response.output_item.done", {"output_index": i, "item": dict(item)}, 1.0)


def _paced(text: str, chunk_tokens: int) -> Iterator[tuple[str, float]]:
    parts = list(grouped(pieces(text), chunk_tokens))
    for k, part in enumerate(parts):
        yield "".join(part), k / max(len(parts) - 1, 1)


def _event(name: str, fields: Mapping[str, Any], place: float, content: bool = False) -> Chunk:
    return Chunk(event=name, data={"type": name, **fields}, place=place, content=content)


def encode(chunk: Chunk, dumps: Dumps) -> bytes:
    """An event of the stream."""
    assert chunk.event is not None
    return b"event: " + chunk.event.encode() + b"\ndata: " + bytes(dumps(chunk.data)) + b"\n\n"


error = openai_wire.error


def stream_error(failure: Failure) -> Chunk:
    """An error in the middle of a stream."""
    told = openai_wire.error(failure)["error"]
    data = {"code": told["code"], "message": told["message"], "param": told["param"]}
    return _event("error", {**data, "sequence_number": 0}, 1.0)
