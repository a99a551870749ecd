"""Starting several workers: sockets, sandbox and log, then `supervisor.Supervisor`."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

from zerorouter.config import load_config
from zerorouter.errors import ZeroRouterError
from zerorouter.gateway.logs import JsonLog
from zerorouter.gateway.running import ServeOptions, Told, check_host, start_sandbox
from zerorouter.gateway.server import require_server
from zerorouter.gateway.workers.supervisor import Supervisor, bind_shared
from zerorouter.listening import url_of


class SharedStream:
    """Standard error, of which several processes write whole parts in turn.

    Args:
        lock: Handle of a file; held while one writes. Locks of this kind belong to processes, so
            all may have inherited the same handle.
    """

    def __init__(self, lock: int) -> None:
        self._lock = lock

    def write(self, data: bytes) -> int:
        """Write all of it."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""


def shared_log(lock: int, *, silent: bool) -> JsonLog:
    """A log to standard error that other processes write to as well."""
    stream = cast(BinaryIO, SharedStream(lock))
    return JsonLog(stream, level="silent" if silent else "info")


def serve_with_workers(
    options: ServeOptions, n_workers: int, on_ready: Callable[[Told], None]
) -> None:
    """Serve with several workers until SIGINT or SIGTERM.

    Raises:
        MissingExtraError: The gateway's packages are not installed.
        ConfigError: The configuration is wrong.
        ZeroRouterError: A worker cannot start.
    """
    require_server()
    if options.config is not None or options.log_to is not None:
        raise ZeroRouterError("several workers read their configuration from a file and log alike")
    settings = load_config(options.config_path).gateway
    host = options.host or settings.host
    port = settings.port if options.port is None else options.port
    check_host(host, has_keys=_has_keys(options))
    with ExitStack() as stack:
        lock = stack.enter_context(tempfile.TemporaryFile()).fileno()
        log = shared_log(lock, silent=options.silent)
        stack.callback(log.close)
        main = bind_shared(host, port, n_workers)
        url = url_of(main[0])
        sockets: list[tuple[socket.socket, ...]] = [(one,) for one in main]
        if settings.admin_port is not None:
            own = bind_shared(host, settings.admin_port, n_workers)
            sockets = [(one, other) for one, other in zip(main, own, strict=True)]
        for pair in sockets:
            for one in pair:
                stack.callback(one.close)
        config_path = None if options.config_path is None else str(options.config_path)
        sandbox_url = start_sandbox(stack) if options.sandbox else None

        def ready(told: Mapping[str, Any]) -> None:
            log.write({"event": "started", "url": url, "workers": n_workers, "pid": os.getpid()})
            on_ready(Told(**{**told, "upstreams": tuple(told["upstreams"])}))

        def tell(event: dict[str, Any]) -> None:
            log.write(event, level="info" if event["event"] == "worker_started" else "warning")

        async def run() -> None:
            await Supervisor(
                sockets,
                {
                    "config_path": config_path,
                    "space": options.space,
                    "host": options.host,
                    "sandbox": options.sandbox,
                    "silent": options.silent,
                    "books": options.books,
                    "sandbox_url": sandbox_url,
                    "log_lock": lock,
                },
                inherited=(lock,),
                drain_s=settings.timeouts.drain_s,
                on_ready=ready,
                tell=tell,
            ).run()

        asyncio.run(run())


def _has_keys(options: ServeOptions) -> bool:
    if options.books == "none":
        return False
    from zerorouter.gateway.keys import KeyStore
    from zerorouter.gateway.owners import books_dir

    return len(KeyStore(books_dir())) > 0
