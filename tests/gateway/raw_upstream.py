"""An upstream that says exactly what a test wants it to, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.contextmanager
def raw_upstream(talk: Talk) -> Iterator[tuple[str, threading.Event]]:
    """An upstream that says whatever ``talk`` writes once a request is read; its URL and an event.

    The event is set once a conversation was ended by the other side.
    """
    left = threading.Event()
    ready = threading.Event()
    where: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = [x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length")]
            await reader.readexactly(int(length.split(b":")[1]))
            await talk(reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            left.set()
        finally:
            writer.transport.abort()

    async def main() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(converse, "127.0.0.1", 0)
        where.append((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        ready.set()
        await stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn

    thread = threading.Thread(target=asyncio.run, args=[main()], daemon=True)
    thread.start()
    assert ready.wait(10)
    loop, stop, port = where[0]
    try:
        yield f"http://127.0.0.1:{port}", left
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
