"""Bytes of streams through the whole gateway: untouched, or those on file in the other API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

import anthropic
import openai
import pytest

from gateway.conftest import CLAUDE, GPT, Start, config_for, fetch
from gateway.raw_upstream import STREAM, raw_upstream
from gateway.wire.streams import (
    CHAT_ERROR,
    CHAT_TEXT,
    CHAT_TOOLS,
    MESSAGE_ERROR,
    MESSAGE_TEXT,
    MESSAGE_TOOLS,
    chat_bytes,
    golden,
    message_bytes,
)

ASK = [{"role": "user", "content": "How deep is the lake?"}]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def playing(told: bytes, width: int) -> Callable:
    """Play a stream in chunks of ``width`` bytes, each sent on its own."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        for at in range(0, len(told), width):
            piece = told[at : at + width]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    return talk


@pytest.mark.parametrize("width", [7, 100_000])
@pytest.mark.parametrize(
    ("path", "model", "told", "expected"),
    [
        (CHAT, GPT, chat_bytes(CHAT_TOOLS), None),
        (CHAT, GPT, chat_bytes(CHAT_TEXT).replace(b"\n", b"\r\n"), None),
        (CHAT, GPT, chat_bytes(CHAT_ERROR, done=False), None),
        (MESSAGES, CLAUDE, message_bytes(MESSAGE_TOOLS), None),
        (MESSAGES, CLAUDE, message_bytes(MESSAGE_ERROR), None),
        (MESSAGES, GPT, chat_bytes(CHAT_TOOLS), "chat_tools_as_messages.txt"),
        (MESSAGES, GPT, chat_bytes(CHAT_ERROR, done=False), "chat_error_as_messages.txt"),
        (CHAT, CLAUDE, message_bytes(MESSAGE_TOOLS), "messages_tools_as_chat.txt"),
        (CHAT, CLAUDE, message_bytes(MESSAGE_TEXT), "messages_text_as_chat.txt"),
        (CHAT, CLAUDE, message_bytes(MESSAGE_ERROR), "messages_error_as_chat.txt"),
    ],
)
def test_streams_are_the_upstreams_bytes_or_those_on_file(
    start: Start, path: str, model: str, told: bytes, expected: str | None, width: int
) -> None:
    body = {
        "model": model,
        "messages": ASK,
        "max_tokens": 500,
        "stream": True,
        "temperature": 0.5,
    }
    if expected == "chat_tools_as_messages.txt":  # reasoning is shown to those who asked for it
        body |= {"thinking": {"type": "enabled", "budget_tokens": 100}}
        del body["temperature"]
    if expected == "messages_tools_as_chat.txt":
        body["stream_options"] = {"include_usage": True}
    with raw_upstream(playing(told, width)) as (url, _):
        gateway = start(config=config_for(url))
        answer = fetch(f"{gateway.url}{path}", body)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    if expected is None:
        assert answer.body == told
        return
    # The time of the answer is the gateway's, and what the upstream has not told is estimated.
    dated = re.sub(rb'"created":\d+', b'"created":1790000000', answer.body)
    wanted = golden(expected)
    if path == MESSAGES:
        dated, wanted = (
            re.sub(
                rb'^(data: {"type":"message_start".*?"input_tokens":)\d+', rb"\1_", x, flags=re.M
            )
            for x in (dated, wanted)
        )
    assert dated == wanted


def whole(told: dict) -> Callable:
    """Answer with one JSON object, whatever was asked for."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps(told).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)

    return talk


CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "water_level", "arguments": '{"station": "north"}'},
}
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 5,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "I ask.", "tool_calls": [CALL]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "text", "text": "I ask."},
        {"type": "tool_use", "id": "call_1", "name": "water_level", "input": {"station": "north"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 4},
}


@pytest.mark.parametrize(("model", "told"), [(GPT, COMPLETION), (CLAUDE, MESSAGE)])
def test_a_whole_answer_where_a_stream_was_asked_for_is_told_as_one(
    start: Start, model: str, told: dict
) -> None:
    with raw_upstream(whole(told)) as (url, _):
        gateway = start(config=config_for(url))
        with (
            openai.OpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0) as oa,
            anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as an,
        ):
            with oa.chat.completions.stream(
                model=model, messages=ASK, stream_options={"include_usage": True}
            ) as events:
                answer = events.get_final_completion()
            with an.messages.stream(model=model, max_tokens=99, messages=ASK) as events:
                message = events.get_final_message()
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("I ask.", "tool_calls")
    assert choice.message.tool_calls[0].function.name == "water_level"
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"station": "north"}
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 4)
    assert [block.type for block in message.content][-2:] == ["text", "tool_use"]
    assert message.content[-1].input == {"station": "north"}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == 4
