"""OpenAI's chat completions: requests read, answers written, as objects and as chunks."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from zerorouter.sandbox.draws import digest, normal, uniforms
from zerorouter.sandbox.plan import Ask, Choice, Finish, Plan, Tool, ToolCall, Usage
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
from zerorouter.sandbox.text import count, filler, pieces
from zerorouter.sandbox.wire import Chunk, Failure, Identity, grouped

NAME: Final = "openai"
EMBEDDING_DIMENSIONS: Final = 32
_MOST_CHOICES: Final = 128
_MOST_TOKENS: Final = 10_000_000
_MOST_INPUTS: Final = 2_048
_MOST_DIMENSIONS: Final = 4_096
_FINISH: Final = {
    Finish.STOP: "stop",
    Finish.STOP_SEQUENCE: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL: "tool_calls",
    Finish.REFUSAL: "stop",
}
_ERROR_TYPES: Final = {429: "requests", 500: "server_error"}
_ERROR_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


# -- reading ---------------------------------------------------------------------------------


def read(body: Any, sample: int | None = None) -> Ask:
    """The request of ``POST /v1/chat/completions``.

    Args:
        body: Its JSON.
        sample: Number of the first sample; else the request's ``seed``, else 0.

    Raises:
        RequestError: A field is wrong; fields that the sandbox does not use are not looked at.
    """
    fields = body_of(body)
    messages = fields.get("messages")
    if not is_list(messages):
        raise bad("messages", messages, "a list of messages")
    tools = _tools(fields)
    mode, name = _tool_choice(fields, tools)
    if mode == "auto" and messages and _role(messages[-1]) in ("tool", "function"):
        mode = "none"  # the tool has answered; a second call would go on for ever
    schema = _json_schema(fields.get("response_format"))
    prompt, input_tokens = read_messages(
        messages, fields.get("tools"), None if schema is None else fields["response_format"]
    )
    limit = whole(fields, "max_completion_tokens", 1, _MOST_TOKENS)
    if limit is None:
        limit = whole(fields, "max_tokens", 1, _MOST_TOKENS)
    if sample is None:
        sample = whole(fields, "seed", -(2**63), 2**63 - 1)
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad("stream_options", options, "an object")
    stream = flag(fields, "stream")
    if options is not None and not stream:
        raise bad("stream_options", options, "no such field where 'stream' is not true")
    return Ask(
        model=fields["model"],
        text=last_user_text(messages),
        prompt=prompt,
        input_tokens=input_tokens,
        n=whole(fields, "n", 1, _MOST_CHOICES) or 1,
        max_tokens=limit,
        stops=texts(fields, "stop", 4),
        tools=tools,
        tool_mode=mode,
        tool_name=name,
        parallel_tools=fields.get("parallel_tool_calls") is not False,
        json_schema=schema,
        top_logprobs=_top_logprobs(fields),
        sample=sample or 0,
        stream=stream,
        stream_usage=bool(options and options.get("include_usage")),
    )


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _tools(fields: Mapping[str, Any]) -> tuple[Tool, ...]:
    listed = fields.get("tools")
    if listed is None:
        return ()
    if not is_list(listed) or not listed:
        raise bad("tools", listed, "a list of at least one tool")
    made = []
    for i, tool in enumerate(listed):
        kind = tool.get("type") if isinstance(tool, dict) else None
        inner = tool.get(kind) if kind in ("function", "custom") else None
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(name, str) or not name:
            raise bad(f"tools[{i}]", tool, "a tool of type function or custom, with a name")
        assert isinstance(inner, dict)
        schema = inner.get("parameters")
        made.append(
            Tool(
                name=name,
                schema=None if kind == "custom" else schema if isinstance(schema, dict) else {},
            )
        )
    return tuple(made)


def _tool_choice(
    fields: Mapping[str, Any], tools: tuple[Tool, ...]
) -> tuple[Literal["none", "auto", "required"], str | None]:
    choice = fields.get("tool_choice")
    if choice is None:
        return "auto", None
    if not tools:
        raise bad("tool_choice", choice, "no such field where no 'tools' are offered")
    if choice in ("none", "auto", "required"):
        return choice, None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "allowed_tools" and isinstance(choice.get(kind), dict):
        mode = choice[kind].get("mode")
        if mode in ("auto", "required"):
            return mode, None
    inner = choice.get(kind) if kind in ("function", "custom") else None
    name = inner.get("name") if isinstance(inner, dict) else None
    if name not in {tool.name for tool in tools}:
        raise bad("tool_choice", choice, "none, auto, required or one of the tools")
    return "required", name


def _json_schema(response_format: Any) -> Mapping[str, Any] | None:
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {}
    if kind == "json_schema":
        inner = response_format.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, dict) else None
        if isinstance(schema, dict):
            return schema or {"type": "object"}
    raise bad("response_format", response_format, "text, json_object or json_schema with a schema")


def _top_logprobs(fields: Mapping[str, Any]) -> int | None:
    top = whole(fields, "top_logprobs", 0, 20)
    if flag(fields, "logprobs"):
        return top or 0
    if top is not None:
        raise bad("top_logprobs", top, "no such field where 'logprobs' is not true")
    return None


# -- writing ---------------------------------------------------------------------------------


def message(plan: Plan, ask: Ask, identity: Identity) -> dict[str, Any]:
    """The whole answer."""
    return {
        "id": f"chatcmpl-{identity.key}",
        "object": "chat.completion",
        "created": identity.created,
        "model": ask.model,
        "choices": [
            {
                "index": i,
                "message": _message(choice, ask, identity, i),
                "logprobs": None
                if ask.top_logprobs is None
                else _logprobs(pieces(choice.text), ask, identity, i, 0),
                "finish_reason": _FINISH[choice.finish],
            }
            for i, choice in enumerate(plan.choices)
        ],
        "usage": usage(plan.usage),
        "service_tier": "default",
        "system_fingerprint": f"fp_sandbox_{plan.source}",
    }


def usage(used: Usage) -> dict[str, Any]:
    """The usage block."""
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _message(choice: Choice, ask: Ask, identity: Identity, i: int) -> dict[str, Any]:
    refused = _refuses(choice, ask)
    made: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or choice.tool_calls else choice.text,
        "refusal": choice.text if refused else None,
        "annotations": [],
    }
    if choice.tool_calls:
        made["tool_calls"] = [
            _tool_call(call, f"call_{identity.key}{i:x}{k:x}")
            for k, call in enumerate(choice.tool_calls)
        ]
    return made


def _refuses(choice: Choice, ask: Ask) -> bool:
    """Only structured outputs have a field for refusals; else they are an answer like others."""
    return choice.finish is Finish.REFUSAL and bool(ask.json_schema)


def _tool_call(call: ToolCall, call_id: str) -> dict[str, Any]:
    if call.free:
        return {
            "id": call_id,
            "type": "custom",
            "custom": {"name": call.name, "input": call.arguments},
        }
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def chunks(plan: Plan, ask: Ask, identity: Identity, chunk_tokens: int = 1) -> Iterator[Chunk]:
    """The answer as a stream's chunks; the choices take turns."""
    head = {
        "id": f"chatcmpl-{identity.key}",
        "object": "chat.completion.chunk",
        "created": identity.created,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": f"fp_sandbox_{plan.source}",
    }
    tail = {"usage": None} if ask.stream_usage else {}

    def chunk(i: int, delta: Any, finish: str | None = None, logprobs: Any = None) -> Any:
        choice = {"index": i, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {**head, "choices": [choice], **tail}

    for i, choice in enumerate(plan.choices):
        begin = {"role": "assistant", "content": None if choice.tool_calls else "", "refusal": None}
        yield Chunk(event=None, data=chunk(i, begin), place=0.0)
    turns = [
        list(_deltas(choice, ask, identity, i, chunk_tokens))
        for i, choice in enumerate(plan.choices)
    ]
    for step in range(max([len(deltas) for deltas in turns])):
        for i, deltas in enumerate(turns):
            if step < len(deltas):
                delta, logprobs = deltas[step]
                place = step / max(len(deltas) - 1, 1)
                yield Chunk(
                    event=None, data=chunk(i, delta, logprobs=logprobs), place=place, content=True
                )
    for i, choice in enumerate(plan.choices):
        yield Chunk(event=None, data=chunk(i, {}, _FINISH[choice.finish]), place=1.0)
    if ask.stream_usage:
        data = {**head, "choices": [], "usage": usage(plan.usage)}
        yield Chunk(event=None, data=data, place=1.0)
    yield Chunk(event=None, data=None, place=1.0)


def _deltas(
    choice: Choice, ask: Ask, identity: Identity, i: int, chunk_tokens: int
) -> Iterator[tuple[dict[str, Any], Any]]:
    """The parts of an answer's content, and their log probabilities."""
    if choice.tool_calls:
        for k, call in enumerate(choice.tool_calls):
            whole_call = _tool_call(call, f"call_{identity.key}{i:x}{k:x}")
            field = "custom" if call.free else "function"
            key = "input" if call.free else "arguments"
            opened = {"index": k, **whole_call, field: {"name": call.name, key: ""}}
            yield {"tool_calls": [opened]}, None
            for part in grouped(pieces(call.arguments), chunk_tokens):
                yield {"tool_calls": [{"index": k, field: {key: "".join(part)}}]}, None
        return
    field = "refusal" if _refuses(choice, ask) else "content"
    at = 0
    for part in grouped(pieces(choice.text), chunk_tokens):
        yield {field: "".join(part)}, _logprobs(part, ask, identity, i, at)
        at += len(part)


def encode(chunk: Chunk, dumps: Any) -> bytes:
    """A chunk as server-sent event; the one without data ends the stream."""
    if chunk.data is None:
        return b"data: [DONE]\n\n"
    return b"data: " + bytes(dumps(chunk.data)) + b"\n\n"


def _logprobs(
    tokens: Sequence[str], ask: Ask, identity: Identity, i: int, start: int
) -> dict[str, Any] | None:
    """Made-up log probabilities: the written token is likely, the others share the rest."""
    if ask.top_logprobs is None:
        return None
    content = []
    for k, token in enumerate(tokens, start):
        draws = uniforms("logprob", identity.answer, i, k)
        share = 0.55 + 0.449 * draws[0] ** 0.5
        made = {**_token(token, share), "top_logprobs": []}
        if ask.top_logprobs:
            rest = [(1 - share) / 2 ** (j + 1) for j in range(ask.top_logprobs - 1)]
            words = filler(len(rest), int(draws[1] * 1_000))
            others = [_token(word, p) for word, p in zip(pieces(words), rest, strict=True)]
            made["top_logprobs"] = [_token(token, share), *others]
        content.append(made)
    return {"content": content, "refusal": None}


def _token(token: str, share: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": round(math.log(share), 6),
        "bytes": list(token.encode("utf-8", "surrogatepass")),
    }


def error(failure: Failure) -> dict[str, Any]:
    """The error envelope."""
    status = failure.status
    kind = _ERROR_TYPES.get(status)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": failure.message,
            "type": kind,
            "param": failure.param,
            "code": failure.code or _ERROR_CODES.get(status),
        }
    }


def stream_error(failure: Failure) -> Chunk:
    """An error in the middle of a stream."""
    return Chunk(event=None, data=error(failure), place=1.0)


# -- models and embeddings ---------------------------------------------------------------------


def model_card(name: str, vendor: str, created: int) -> dict[str, Any]:
    """An entry of the list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": vendor or "sandbox"}


def embeddings(body: Any, seed: int) -> dict[str, Any]:
    """The answer to ``POST /v1/embeddings``: unit vectors that depend on the text alone.

    Raises:
        RequestError: A field is wrong.
    """
    fields = body_of(body)
    inputs = _inputs(fields.get("input"))
    dimensions = whole(fields, "dimensions", 1, _MOST_DIMENSIONS) or EMBEDDING_DIMENSIONS
    encoding = fields.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise bad("encoding_format", encoding, "float or base64")
    data = []
    for i, given in enumerate(inputs):
        vector = _vector(seed, fields["model"], given, dimensions)
        shown: Any = vector
        if encoding == "base64":
            shown = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode("ascii")
        data.append({"object": "embedding", "index": i, "embedding": shown})
    tokens = sum([count(given) if isinstance(given, str) else len(given) for given in inputs])
    return {
        "object": "list",
        "data": data,
        "model": fields["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _inputs(value: Any) -> list[str | list[int]]:
    listed = [value] if isinstance(value, str) else value
    if is_list(listed) and listed and all(isinstance(one, int) for one in listed):
        listed = [listed]
    if (
        not is_list(listed)
        or not 0 < len(listed) <= _MOST_INPUTS
        or not all(
            (isinstance(one, str) and one) or (is_list(one) and one and _are_tokens(one))
            for one in listed
        )
    ):
        raise bad("input", value, f"1 to {_MOST_INPUTS} texts or lists of tokens, none empty")
    return listed


def _are_tokens(values: list[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def _vector(seed: int, model: str, given: str | list[int], dimensions: int) -> list[float]:
    text = given if isinstance(given, str) else json.dumps(given)
    name = digest("embedding", seed, model, text).hex()
    raw: list[float] = []
    while len(raw) < dimensions:
        raw += [normal(u) for u in uniforms(name, len(raw))]
    raw = raw[:dimensions]
    length = sum([x * x for x in raw]) ** 0.5
    return [x / length for x in raw]
