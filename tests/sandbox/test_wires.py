"""Laws of the wire formats: a stream carries just what the whole answer says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.raw import asked
from sandbox.records import make_sandbox
from zerorouter.sandbox import anthropic_wire, openai_wire, responses_wire
from zerorouter.sandbox.plan import spoiled
from zerorouter.sandbox.wire import Chunk, Identity, Wire

SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}, "days": {"type": "array"}}}
TEXTS = st.sampled_from(["Anything?", "Use the forecast.", "forecast, then clock"])
LIMITS = st.integers(1, 60)
SPOILING = st.sampled_from([None, "empty", "truncated", "refusal"])
SIZES = st.integers(1, 9)
SANDBOX = make_sandbox(answer_tokens=40)


def both(
    wire: Wire, body: dict[str, Any], how: Any, size: int
) -> tuple[dict[str, Any], list[Chunk]]:
    """The whole answer and the chunks of its stream."""
    ask = wire.read(body)
    plan = SANDBOX.plan(ask)
    plan = plan if how is None else spoiled(plan, how)
    identity = Identity(key="k", answer="a", created=0)
    chunks = list(wire.chunks(plan, ask, identity, size))
    places = [chunk.place for chunk in chunks if chunk.content]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places) or body.get("n", 1) > 1
    return wire.message(plan, ask, identity), chunks


@given(TEXTS, LIMITS, SPOILING, SIZES, st.integers(1, 4), st.booleans())
def test_openai_chunks_joined_are_the_answer(
    text: str, limit: int, how: Any, size: int, n: int, logprobs: bool
):
    tools = [
        {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
        for name in ("forecast", "clock")
    ]
    body = asked(text, max_tokens=limit, n=n, tools=tools, logprobs=logprobs, stream=True)
    whole, chunks = both(openai_wire, body, how, size)
    made: list[dict[str, Any]] = [{"text": "", "calls": {}, "logprobs": []} for _ in range(n)]
    for chunk in chunks[:-1]:
        (choice,) = chunk.data["choices"]
        own, delta = made[choice["index"]], choice["delta"]
        own["text"] += delta.get("content") or ""
        own["finish"] = choice["finish_reason"]
        own["logprobs"] += (choice["logprobs"] or {}).get("content", [])
        for call in delta.get("tool_calls", ()):
            seen = own["calls"].setdefault(call["index"], {"name": "", "arguments": ""})
            for key, part in call["function"].items():
                seen[key] += part
    assert chunks[-1].data is None
    for own, choice in zip(made, whole["choices"], strict=True):
        message = choice["message"]
        assert own["text"] == (message["content"] or "")
        assert own["finish"] == choice["finish_reason"]
        assert own["logprobs"] == ((choice["logprobs"] or {}).get("content") or [])
        calls = [call["function"] for call in message.get("tool_calls", ())]
        assert list(own["calls"].values()) == calls


@given(TEXTS, LIMITS, SPOILING, SIZES, st.booleans())
def test_anthropic_events_joined_are_the_answer(
    text: str, limit: int, how: Any, size: int, thinks: bool
):
    tools = [{"name": name, "input_schema": SCHEMA} for name in ("forecast", "clock")]
    body = asked(text, max_tokens=limit, tools=tools, stream=True)
    if thinks:
        body["thinking"] = {"type": "adaptive"}
    whole, chunks = both(anthropic_wire, body, how, size)
    blocks: list[dict[str, Any]] = []
    end: dict[str, Any] = {}
    for chunk in chunks:
        data = chunk.data
        assert data["type"] == chunk.event
        if data["type"] == "content_block_start":
            assert data["index"] == len(blocks)
            blocks.append({**data["content_block"], "json": ""})
        elif data["type"] == "content_block_delta":
            block, delta = blocks[data["index"]], data["delta"]
            for key in ("text", "thinking", "signature"):
                if key in delta:
                    block[key] += delta[key]
            block["json"] += delta.get("partial_json", "")
        elif data["type"] == "message_delta":
            end = data
    for block in blocks:
        written = block.pop("json")
        if block["type"] == "tool_use" and whole["stop_reason"] != "max_tokens":
            block["input"] = json.loads(written)
    if whole["stop_reason"] != "max_tokens":
        assert blocks == whole["content"]
    else:  # a call that was cut has no input outside of a stream
        assert [block["type"] for block in blocks] == [b["type"] for b in whole["content"]]
    assert end["delta"]["stop_reason"] == whole["stop_reason"]
    assert end["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


@given(TEXTS, LIMITS, SPOILING, SIZES)
def test_events_of_a_response_joined_are_the_answer(text: str, limit: int, how: Any, size: int):
    tools = [
        {"type": "function", "name": name, "parameters": SCHEMA} for name in ("forecast", "clock")
    ]
    body = {
        "model": "able",
        "input": text,
        "max_output_tokens": limit,
        "tools": tools,
        "stream": True,
    }
    whole, chunks = both(responses_wire, body, how, size)
    last = chunks[-1].data
    assert {**last["response"]} == whole
    joined: dict[str, str] = {}
    for chunk in chunks:
        if chunk.content:
            key = chunk.data["item_id"]
            joined[key] = joined.get(key, "") + chunk.data["delta"]
    for item in whole["output"]:
        if item["type"] == "function_call":
            said = item["arguments"]
        else:
            (part,) = item["content"]
            said = part.get("text", part.get("refusal"))
        assert joined.get(item["id"], "") == said
