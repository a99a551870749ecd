"""Sending an answer as its plan, its timing and its faults want it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter
from typing import Any, Final
from urllib.parse import quote

from zerorouter.sandbox.faults import Trouble
from zerorouter.sandbox.line import Headers, Line
from zerorouter.sandbox.wire import Chunk, Dumps, Failure, Wire

GARBAGE: Final = b'{"\xff\xfe\x00garbage, not JSON: \xc3('
NOT_HTTP: Final = b"\x15\x03\x01\x00\x02\x02\x16 this is not HTTP\r\n\r\n"
FAULT_TEXT: Final = "The sandbox was told to fail here."
RESET_GRACE_S: Final = 0.02
_FLUSH_BYTES: Final = 32_768  # chunks without delay between them are joined up to this
_BODY_PIECES: Final = 8  # of a whole body that is sent slowly
JSON: Final = (b"content-type", b"application/json")
EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHING: Final = (b"cache-control", b"no-cache")


async def play_whole(
    line: Line, headers: Headers, body: bytes, trouble: Trouble, wait_s: float
) -> str:
    """Send an answer in one body; returns how it went, a word of `Call.outcome`.

    Raises:
        ClientLeft: The client closed the connection.
    """
    await line.wait(wait_s)
    own = [JSON, *headers]
    match trouble.ending:
        case "garbage":
            await line.whole(200, own, GARBAGE)
            return "broken"
        case "cut" | "reset" | "hang":
            await line.start(200, [*own, (b"content-length", b"%d" % len(body))])
            if trouble.after != 0:
                await line.write(body[: len(body) // 2])
            return await _break_off(line, trouble)
    if trouble.no_body:
        await line.whole(200, own, b"")
        return "broken"
    if not trouble.slow_chunk_s:
        await line.whole(200, own, body)
        return "answered"
    await line.start(200, [*own, (b"content-length", b"%d" % len(body))])
    size = max(-(-len(body) // _BODY_PIECES), 1)
    for at in range(0, len(body), size):
        await line.wait(trouble.slow_chunk_s if at else 0.0)
        await line.write(body[at : at + size], last=at + size >= len(body))
    return "answered"


async def play_stream(
    line: Line,
    headers: Headers,
    chunks: Iterator[Chunk],
    wire: Wire,
    dumps: Dumps,
    trouble: Trouble,
    failure: Failure,
    *,
    first_s: float,
    rest_s: float,
    flush: bool,
) -> str:
    """Send an answer as server-sent events; returns how it went.

    Args:
        line: The connection.
        headers: Headers of the answer.
        chunks: The events.
        wire: Their format.
        dumps: Objects to JSON.
        trouble: Faults.
        failure: What an error event says.
        first_s: Seconds to the first token.
        rest_s: Seconds from the first token to the last.
        flush: Whether each event is a write of its own.

    Raises:
        ClientLeft: The client closed the connection.
    """
    await line.wait(first_s)
    begun = perf_counter()
    await line.start(200, [EVENTS, NO_CACHING, *headers])
    if trouble.no_body:
        await line.write(b"", last=True)
        return "broken"
    breaking = _Breaking(trouble)
    if breaking.needs_length:
        listed = list(chunks)
        breaking.half_of(sum([chunk.content for chunk in listed]))
        chunks = iter(listed)
    steady = not rest_s and not trouble.slow_chunk_s and not flush
    joined = bytearray()
    for chunk in chunks:
        if breaking.now(chunk):
            await line.write(bytes(joined))
            return await _break_off(line, trouble, wire, dumps, failure)
        if steady:
            joined += wire.encode(chunk, dumps)
            if len(joined) > _FLUSH_BYTES:
                await line.write(bytes(joined))
                joined.clear()
            continue
        due_s = begun + rest_s * chunk.place - perf_counter()
        await line.wait(max(due_s, 0.0) + (trouble.slow_chunk_s if chunk.content else 0.0))
        await line.write(wire.encode(chunk, dumps))
        if flush:
            await asyncio.sleep(0)  # the loop joins what is written in one turn of it
    if breaking.wanted:  # fewer chunks than the fault was to wait for
        await line.write(bytes(joined))
        return await _break_off(line, trouble, wire, dumps, failure)
    await line.write(bytes(joined), last=True)
    return "answered"


async def play_nothing(line: Line, trouble: Trouble) -> str | None:
    """Faults that come before any byte; None where there is none of them.

    Raises:
        ClientLeft: The client closed the connection.
    """
    await line.wait(trouble.slow_start_s)
    if trouble.not_http:
        await line.raw(NOT_HTTP)
        return "broken"
    if trouble.after is None and trouble.ending in ("reset", "hang"):
        return await _break_off(line, trouble)
    return None


class _Breaking:
    """Counts chunks up to the one at which a stream breaks off."""

    def __init__(self, trouble: Trouble) -> None:
        self.wanted = trouble.ending is not None
        self.needs_length = self.wanted and trouble.after is None
        self._left = 0 if trouble.after is None else trouble.after
        if trouble.ending == "garbage" and trouble.after is None:
            self.needs_length = False

    def half_of(self, n: int) -> None:
        self._left = n // 2

    def now(self, chunk: Chunk) -> bool:
        """Whether the stream breaks off before this chunk."""
        if not self.wanted or not chunk.content:
            return False
        if self._left <= 0:
            return True
        self._left -= 1
        return False


async def _break_off(
    line: Line,
    trouble: Trouble,
    wire: Wire | None = None,
    dumps: Dumps | None = None,
    failure: Failure | None = None,
) -> str:
    match trouble.ending:
        case "reset":
            # An RST overtakes what is still on its way; let the client see what came before it.
            await line.wait(RESET_GRACE_S if line.begun else 0.0)
            await line.reset()
        case "hang":
            await line.wait_for_end()
            await line.close()
        case "garbage":
            await line.write(b"data: " + GARBAGE + b"\n\n", last=True)
        case "stream_error" if wire is not None and dumps is not None and failure is not None:
            await line.write(wire.encode(wire.stream_error(failure), dumps), last=True)
        case _:
            await line.close()
    return "broken"


def header_bytes(name: str, value: Any) -> tuple[bytes, bytes]:
    """A header; what has no place in one is percent-encoded."""
    return name.encode(), quote(str(value), safe=" !#$&'()*+,/:;=?@[]~%.-_").encode("ascii")
