"""What servers of this package have in common: sockets, signals, and the loop they run on."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType

from zerorouter.errors import ZeroRouterError


def bind(
    host: str,
    port: int,
    *,
    backlog: int,
    advice: str,
    options: tuple[tuple[int, int, int], ...] = (),
) -> socket.socket:
    """A listening socket.

    Args:
        host: Address to listen on.
        port: Its port; 0 for a free one.
        backlog: Connections that may wait to be taken.
        advice: What to do where the address is taken.
        options: Further options of the socket: level, name, value.

    Raises:
        ZeroRouterError: The address is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in options:
            listening.setsockopt(*option)
        listening.bind((host, port))
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise ZeroRouterError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; {advice}"
        ) from error
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket) -> str:
    """Where a socket listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def stopped_by_signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call ``stop`` for SIGINT and SIGTERM meanwhile; nothing in a thread, which gets none.

    uvicorn's own `capture_signals` raises the signal again once the server has stopped, which
    would end the process as if killed; a stop that was asked for ends well.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in asked]
    try:
        yield
    finally:
        for number, handler in zip(asked, before, strict=True):
            signal.signal(number, handler)


def run_loop(main: Coroutine[None, None, None]) -> None:
    """Run to the end, on uvloop where it is installed."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main)
