"""The server: uvicorn, with what it lacks added at the connection.

- a limit on the time that a request's line and headers may take (slow loris)
- a connection that is lost ends its request at once: no task that waits for it is needed
- a stop that drains: no new connections, running streams get their time, then are ended in words
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from zerorouter import listening
from zerorouter.errors import require_extra
from zerorouter.gateway.logs import JsonLog, LoggingBridge
from zerorouter.gateway.settling import settle_at_start
from zerorouter.gateway.watching import EXTENSION, Watch

if TYPE_CHECKING:
    import uvicorn

    from zerorouter.gateway.serving import Gateway

PACKAGES: Final = ("aiohttp", "httptools", "orjson", "prometheus_client", "uvicorn")
KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 4_096
FLUSH_S: Final = 5.0
"""Time for a client to take what was written before its connection is closed."""
STUCK_S: Final = 120
"""After which the system closes a connection whose client takes nothing, or has vanished."""


def require_server() -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        MissingExtraError: One is missing; the message has the install line.
    """
    for module in PACKAGES:
        require_extra(module, "gateway", "The gateway")


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        host: Address to listen on.
        port: Its port; 0 for a free one.
        shared: Whether others of this user may listen on the same port; the kernel then deals
            connections out among them.

    Raises:
        ZeroRouterError: The address is taken, or no address of this machine.
    """
    options = []
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections take it over
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_S * 1000))
    if shared:
        options.append((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))
    return listening.bind(
        host,
        port,
        backlog=BACKLOG,
        advice="choose another port (--port, or PORT= with make), or 0 for a free one",
        options=tuple(options),
    )


def make_server(
    app: Any, *, head_s: float, drain_s: float, lifespan: bool, on_stop: Callable[[], None]
) -> uvicorn.Server:
    """A uvicorn server of our kind.

    Args:
        app: The ASGI application.
        head_s: Longest time for a request's line and headers.
        drain_s: Longest time for what is running when it stops.
        lifespan: Whether the application starts and stops with it.
        on_stop: Called when it is told to stop, before it drains.
    """
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        """One client's connection; is a `watching.Connection`."""

        watch: Watch | None = None
        _head_timer: asyncio.TimerHandle | None = None
        _in_head = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # Most heads come in one piece and need no timer.
            if self._in_head and self._head_timer is None:
                self._await_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head = True
            self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]

        def on_headers_complete(self) -> None:
            self._in_head = False
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._head_timer is not None:
                self._head_timer.cancel()
            if self.watch is not None:
                self.watch.leave()

        def close(self) -> None:
            if self.transport is not None:
                self.transport.close()
                if self.transport.get_write_buffer_size():  # it waits for a client to read
                    self.loop.call_later(FLUSH_S, self.transport.abort)

        def abort(self) -> None:
            if self.transport is not None:
                self.transport.abort()

        def _await_head(self) -> None:
            self._head_timer = self.loop.call_later(head_s, self._head_is_late)

        def _head_is_late(self) -> None:
            self._head_timer = None
            if self.transport.is_closing():
                return
            if self.cycle is not None and not self.cycle.response_complete:
                return  # a request is being served; the next one's head may wait for its turn
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            on_stop()
            await super().shutdown(sockets)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            with listening.stopped_by_signals(self.handle_exit):
                yield

    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="on" if lifespan else "off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(round(drain_s), 1),
        )
    )


def run_servers(
    servers: list[tuple[uvicorn.Server, socket.socket]],
    background: Callable[[], list[asyncio.Task[None]]],
    on_ready: Callable[[list[str]], None],
) -> None:
    """Serve until told to stop, on uvloop where it is installed.

    Args:
        servers: With their sockets; the first one takes the signals, the others stop with it.
        background: Starts tasks that run meanwhile.
        on_ready: Called with the URLs once connections are taken.
    """

    async def main() -> None:
        first = servers[0][0]
        serving = [asyncio.ensure_future(s.serve(sockets=[at])) for s, at in servers]
        while not all(s.started for s, _ in servers) and not any(t.done() for t in serving):
            await asyncio.sleep(0.002)
        tasks: list[asyncio.Task[None]] = []
        if all(s.started for s, _ in servers):
            tasks = background()
            settle_at_start(asyncio.get_running_loop())
            on_ready([listening.url_of(at) for _, at in servers])
        try:
            await serving[0]
        finally:
            for server, _ in servers[1:]:
                server.should_exit = True
            first.should_exit = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*serving[1:], *tasks, return_exceptions=True)

    listening.run_loop(main())


def take_library_logs(log: JsonLog) -> None:
    """Let what uvicorn, asyncio and aiohttp log go into ``log``."""
    bridge = LoggingBridge(log)
    for name in ("uvicorn.error", "asyncio", "aiohttp"):
        logger = logging.getLogger(name)
        logger.handlers = [bridge]
        logger.propagate = False
        logger.setLevel(logging.WARNING)


def stopping(gateway: Gateway) -> Callable[[], None]:
    """What is to happen as the server begins to stop."""

    def stop() -> None:
        gateway.draining = True

    return stop
