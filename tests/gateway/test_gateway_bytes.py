"""Bytes of streams through the whole gateway: untouched, or those on file in the other API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

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
