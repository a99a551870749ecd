"""One request's connection: sending, waiting for the client or the clock, and breaking off."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

EXTENSION: Final = "zerorouter.sandbox"
"""ASGI extension under which our server hands over the connection's transport."""


class ClientLeft(Exception):  # noqa: N818  # an event of the protocol, not a failure
    """The client closed the connection."""


class Stopper:
    """Ends all waiting once the server is told to stop."""

    def __init__(self) -> None:
        self.stopped = False
        self._waiting: set[asyncio.Future[None]] = set()

    def stop(self) -> None:
        """End all waiting, now and from now on."""
        self.stopped = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def future(self) -> asyncio.Future[None]:
        """A future that is done when the server stops; to be given to `forget`."""
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.stopped:
            made.set_result(None)
        self._waiting.add(made)
        return made

    def forget(self, future: asyncio.Future[None]) -> None:
        """Nobody waits for it any more."""
        self._waiting.discard(future)


class Line:
    """The connection of one request.

    Args:
        scope: ASGI's scope.
        receive: ASGI's receive.
        send: ASGI's send.
        stopper: Ends its waiting when the server stops.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, stopper: Stopper) -> None:
        self._transport: asyncio.Transport | None = (
            scope.get("extensions", {}).get(EXTENSION, {}).get("transport")
        )
        self._receive = receive
        self._send = send
        self._stopper = stopper
        self._watch: asyncio.Task[None] | None = None
        self.begun = False

    # -- sending ---------------------------------------------------------------------------

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, last: bool = False) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        length = (b"content-length", b"%d" % len(body))
        await self.start(status, [*headers, length])
        await self.write(body, last=True)

    # -- waiting ---------------------------------------------------------------------------

    async def wait(self, seconds: float) -> None:
        """Wait; not at all once the server stops.

        Raises:
            ClientLeft: The client closed the connection meanwhile.
        """
        if seconds > 0:
            await self._wait(seconds)

    async def wait_for_end(self) -> None:
        """Wait until the client leaves or the server stops.

        Raises:
            ClientLeft: It was the client.
        """
        await self._wait(None)

    async def _wait(self, seconds: float | None) -> None:
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._gone())
        stop = self._stopper.future()
        try:
            await asyncio.wait(
                (self._watch, stop), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._stopper.forget(stop)
        if self._watch.done():
            raise ClientLeft

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # -- breaking off ----------------------------------------------------------------------

    async def close(self) -> None:
        """Close the connection in the middle of whatever it is in."""
        if self._transport is not None:
            self._transport.close()
        await self._closed()

    async def reset(self) -> None:
        """Close it with an RST, so that the client meets a connection error."""
        if self._transport is not None:
            _linger_no_more(self._transport)
            self._transport.abort()
        await self._closed()

    async def raw(self, data: bytes) -> None:
        """Send bytes past HTTP, then close."""
        if self._transport is not None:
            self._transport.write(data)
        await self.close()

    async def _closed(self) -> None:
        """Until the server knows, so that it does not report an unfinished answer."""
        if self._transport is None:
            raise ConnectionAbortedError("a fault of the sandbox broke the connection off")
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._gone())
        await self._watch

    def release(self) -> None:
        """The request is over."""
        if self._watch is not None:
            self._watch.cancel()


def _linger_no_more(transport: asyncio.Transport) -> None:
    """Make closing drop what is unsent and send RST (SO_LINGER with no time)."""
    found = transport.get_extra_info("socket")
    if found is None:
        return
    # The options belong to the connection, so a duplicate descriptor can set them; the loop's own
    # socket objects do not let us.
    with socket.socket(fileno=os.dup(found.fileno())) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
