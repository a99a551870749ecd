"""Frames of JSON over a socket between the supervisor and a worker.

A frame is its length in bytes, four of them, the highest first, then a JSON object. The kinds:

| from the worker | to the worker |
| --- | --- |
| ``ready`` {told}, ``failed`` {message} | ``begin`` {options} |
| ``config`` {value}: what it serves by | |
| ``post`` {batch: [[topic, message]], dropped}, for the others | ``posted`` {batch} |
| ``scrape`` {id} | ``scraped`` {id, text} |
| ``text`` {id or null, text}: its metrics, asked for or not | ``render`` {id} |
| ``reload`` {id} | ``reload_done`` {id, errors} |
| ``reloaded`` {id, error} | ``do_reload`` {id} |
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

Frame: TypeAlias = dict[str, Any]

MOST_BYTES: Final = 256 << 20  # of a frame: more is a stray writer, not one of us
_LENGTH: Final = struct.Struct(">I")


def encode(frame: Frame) -> bytes:
    """A frame as it goes over the socket."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


def receive(connection: socket.socket) -> Frame:
    """The next frame of a blocking socket.

    Raises:
        EOFError: The other side has gone.
    """
    size = _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0]
    frame: Frame = json.loads(_exactly(connection, size))
    return frame


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("the other side has gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Channel(asyncio.Protocol):
    """One end, on an event loop.

    Args:
        on_frame: Called with each frame.
        on_lost: Called once, when the other side has gone.
    """

    def __init__(self, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self.lost = asyncio.Event()

    @classmethod
    async def over(
        cls,
        connection: socket.socket,
        on_frame: Callable[[Frame], None],
        on_lost: Callable[[], None],
    ) -> Channel:
        """A channel over a connected socket."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        _, made = await loop.create_unix_connection(lambda: cls(on_frame, on_lost), sock=connection)
        return made

    @property
    def waiting_bytes(self) -> int:
        """Written and not yet taken by the other side."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, frame: Frame) -> None:
        """Send a frame; nothing happens where the other side has gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def close(self) -> None:
        """Close it, what was sent first."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._held += data
        while (frame := self._next()) is not None:
            self._on_frame(frame)

    def _next(self) -> Frame | None:
        """The next whole frame of what has come."""
        held = self._held
        if len(held) < _LENGTH.size:
            return None
        size = _LENGTH.unpack_from(held)[0]
        if size > MOST_BYTES:
            self.close()
            return None
        end = _LENGTH.size + size
        if len(held) < end:
            return None
        body = bytes(held[_LENGTH.size : end])
        del held[:end]
        frame: Frame = json.loads(body)
        return frame

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`."""
        del exc
        self._transport = None
        self.lost.set()
        self._on_lost()
