"""Streams and requests of both APIs, contents of our own, for the tests beside this file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def chat_chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-lake7",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "acme-large-2",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **fields,
    }


def chat_bytes(chunks: Iterable[Any], *, done: bool = True) -> bytes:
    made = b"".join([b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks])
    return made + b"data: [DONE]\n\n" if done else made


def message_bytes(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    )


def parse(stream: bytes) -> list[tuple[str | None, Any]]:
    """Events by a slow and simple reading; [DONE] as a text."""
    found = []
    for block in stream.decode().replace("\r\n", "\n").split("\n\n"):
        name, data = None, []
        for line in block.split("\n"):
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data.append(line[6:])
        if data:
            text = "\n".join(data)
            found.append((name, text if text == "[DONE]" else json.loads(text)))
    return found


def pieces(data: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """``data`` cut at the given places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(places):
        yield data[start:end]


CHAT_TEXT = [
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "The lake is "}),
    chat_chunk({"content": "212 m deep – über alles."}),
    chat_chunk({}, "stop"),
    {
        **chat_chunk({}),
        "choices": [],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 9,
            "total_tokens": 129,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    },
]

CHAT_TOOLS = [
    chat_chunk({"role": "assistant", "content": None}),
    chat_chunk({"reasoning_content": "Two stations to ask."}),
    chat_chunk({"content": "I look it up."}),
    chat_chunk(
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_a1",
                    "type": "function",
                    "function": {"name": "water_level", "arguments": ""},
                }
            ]
        }
    ),
    chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"station":'}}]}),
    chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": ' "north"}'}}]}),
    chat_chunk(
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "call_b2",
                    "type": "function",
                    "function": {"name": "water_level", "arguments": '{"station": "south"}'},
                }
            ]
        }
    ),
    chat_chunk({}, "tool_calls"),
    {**chat_chunk({}), "choices": [], "usage": {"prompt_tokens": 80, "completion_tokens": 41}},
]

MESSAGE_TOOLS = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_lake7",
            "type": "message",
            "role": "assistant",
            "model": "sonata-3",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 30,
                "cache_read_input_tokens": 64,
                "cache_creation_input_tokens": 6,
                "output_tokens": 1,
            },
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {"type": "ping"},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "Ask the station."},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "c2lnbmVk"},
    },
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "text_delta", "text": "I look it up."},
    },
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "water_level", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": ""},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"station": "no'},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": 'rth"}'},
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {
            "type": "tool_use",
            "id": "toolu_2",
            "name": "list_stations",
            "input": {},
        },
    },
    {"type": "content_block_stop", "index": 3},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 57},
    },
    {"type": "message_stop"},
]

MESSAGE_TEXT = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_lake8",
            "type": "message",
            "role": "assistant",
            "model": "sonata-3",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 30, "cache_read_input_tokens": 64, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "The lake is "},
    },
    {"type": "ping"},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "212 m deep – über alles."},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
]

CHAT_ERROR = [
    *CHAT_TEXT[:2],
    {"error": {"message": "the model is out of room", "type": "server_error", "code": None}},
]
MESSAGE_ERROR = [
    *MESSAGE_TEXT[:3],
    {"type": "error", "error": {"type": "overloaded_error", "message": "too many callers"}},
]
