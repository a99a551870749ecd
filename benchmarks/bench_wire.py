"""What the gateway's wire layer costs: reading requests, rewriting them, watching streams.

    python benchmarks/bench_wire.py [--runs 20000]

One process, one thread. The request is a streamed chat of 64 word pieces; a chunk is one token of
an OpenAI stream or one event of Anthropic's, fed one by one as a network brings them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.count_tokens import count_tokens
from zerorouter.gateway.wire.peek import peek, with_model
from zerorouter.gateway.wire.scanning import ChatScanner, MessagesScanner, UsageChunkFilter
from zerorouter.gateway.wire.translate_request import chat_to_messages, messages_to_chat
from zerorouter.gateway.wire.translate_stream import ChatToMessagesStream, MessagesToChatStream

N_CHUNKS = 64
PROMPT = (
    "A ferry leaves the island at 9:40 and needs 55 minutes to the coast, where a bus waits for at "
    "most a quarter of an hour. If the ferry is late by x minutes, for which values of x does a "
    "passenger still arrive in the city before noon?"
)
ROW = "{:<46} {:>9} {:>9} {:>9}  {:>12}"


def chat_stream() -> list[bytes]:
    frame: dict[str, Any] = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "acme-large-2",
        "system_fingerprint": "fp_0",
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + json.dumps({**frame, "choices": [choice]}).encode() + b"\n\n"

    tokens = [chunk({"content": " token"}) for _ in range(N_CHUNKS)]
    return [chunk({"role": "assistant", "content": ""}), *tokens, chunk({}, "stop")]


def messages_stream() -> list[bytes]:
    def event(**told: Any) -> bytes:
        return f"event: {told['type']}\ndata: {json.dumps(told)}\n\n".encode()

    start: dict[str, Any] = {"id": "msg_0", "model": "sonata-3", "usage": {"input_tokens": 9}}
    text = {"type": "text_delta", "text": " token"}
    deltas = [event(type="content_block_delta", index=0, delta=text) for _ in range(N_CHUNKS)]
    block = {"type": "text", "text": ""}
    return [
        event(type="message_start", message=start),
        event(type="content_block_start", index=0, content_block=block),
        *deltas,
    ]


def show(label: str, seconds: list[float], target_us: float | None = None) -> None:
    p50, p95, p99 = (1e6 * float(q) for q in np.percentile(seconds, [50, 95, 99]))
    target = (
        "" if target_us is None else f"{target_us:.0f} {'ok' if p50 <= target_us else 'MISSED'}"
    )
    print(ROW.format(label, f"{p50:.2f}", f"{p95:.2f}", f"{p99:.2f}", target))


def timed(work: Callable[[], object], runs: int, parts: int = 1) -> list[float]:
    clock, found = time.perf_counter, []
    for _ in range(runs // 20):
        work()
    for _ in range(runs):
        start = clock()
        work()
        found.append((clock() - start) / parts)
    return found


def feeding(make: Callable[[], Any], stream: list[bytes]) -> Callable[[], None]:
    def work() -> None:
        fed = make().feed
        for part in stream:
            fed(part)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=20_000)
    runs = parser.parse_args().runs
    chat: dict[str, Any] = {
        "model": "zerorouter/auto",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": PROMPT},
        ],
        "temperature": 0.2,
        "stream": True,
    }
    anthropic: dict[str, Any] = {
        "model": "m",
        "max_tokens": 500,
        "system": "You are a helpful assistant.",
        "messages": [{"role": "user", "content": PROMPT}],
    }
    raw, raw_anthropic = json.dumps(chat).encode(), json.dumps(anthropic).encode()
    wishing = json.dumps({**chat, "zerorouter": {"policy": "cost"}}).encode()
    read, wished = peek(raw, Api.CHAT), peek(wishing, Api.CHAT)

    print(ROW.format("microseconds", "p50", "p95", "p99", "target"))
    show("peek, chat", timed(lambda: peek(raw, Api.CHAT), runs), 15)
    show("peek, chat with wishes", timed(lambda: peek(wishing, Api.CHAT), runs), 15)
    show("peek, messages", timed(lambda: peek(raw_anthropic, Api.MESSAGES), runs), 15)
    show("with_model", timed(lambda: with_model(read, "acme-large-2"), runs))
    show(
        "with_model, usage asked for",
        timed(lambda: with_model(read, "acme-large-2", include_usage=True), runs),
    )
    show("with_model, wishes taken out", timed(lambda: with_model(wished, "acme-large-2"), runs))
    show("request, chat to messages", timed(lambda: chat_to_messages(chat, model="m"), runs))
    show("request, messages to chat", timed(lambda: messages_to_chat(anthropic, model="m"), runs))
    show("count_tokens", timed(lambda: count_tokens(anthropic), runs))

    streams = max(runs // 50, 20)
    chunks, events = chat_stream(), messages_stream()
    for label, make, parts, target in (
        ("scanner, chat, per chunk", ChatScanner, chunks, 5),
        ("scanner, messages, per event", MessagesScanner, events, 5),
        ("usage chunk filter, per chunk", UsageChunkFilter, chunks, None),
        ("stream, chat to messages, per chunk", ChatToMessagesStream, chunks, None),
        (
            "stream, messages to chat, per event",
            lambda: MessagesToChatStream(created=0),
            events,
            None,
        ),
    ):
        work = feeding(make, parts)
        show(label, timed(work, streams, len(parts)), target)


if __name__ == "__main__":
    main()
