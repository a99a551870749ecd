"""Starting a gateway: from a configuration to a server, in the foreground or in a thread."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final

from zerorouter.config import Config, load_config
from zerorouter.errors import ConfigError, ZeroRouterError
from zerorouter.gateway.server import (
    bind,
    make_server,
    require_server,
    run_servers,
    stopping,
    take_library_logs,
)
from zerorouter.serving_config import UpstreamSettings

if TYPE_CHECKING:
    from zerorouter.gateway.bookkeeping import Bookkeeping
    from zerorouter.gateway.logs import JsonLog
    from zerorouter.gateway.serving import Gateway

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_START_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What the command line adds to the configuration.

    Attributes:
        config_path: The file; None for the usual place.
        space: Folder of a latent space, in place of the configuration's.
        host: In place of the configuration's.
        port: In place of the configuration's; 0 takes a free one.
        sandbox: Serve played models, started along; no upstream outside is called.
        environ: Where keys and tokens stand.
        log_to: Where the log goes; None for standard error.
        silent: Log nothing.
        config: A configuration, in place of the file's.
        books: ``kept`` under the state folder, or ``none``: no keys and no ledger.
    """

    config_path: Path | None = None
    space: str | None = None
    host: str | None = None
    port: int | None = None
    sandbox: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    log_to: BinaryIO | None = None
    silent: bool = False
    config: Config | None = None
    books: str = "kept"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is said once it serves.

    Attributes:
        url: Base URL, as Anthropic's client wants it.
        admin_url: Of ``/admin``; None where there is none.
        has_keys: Whether clients need a key.
        upstreams: Their names.
        n_models: That the router chooses from.
    """

    url: str
    admin_url: str | None
    has_keys: bool
    upstreams: tuple[str, ...]
    n_models: int


def serve(options: ServeOptions, *, on_ready: Callable[[Told], None] = lambda _: None) -> None:
    """Serve in the foreground until SIGINT or SIGTERM.

    Raises:
        MissingExtraError: The gateway's packages are not installed.
        ConfigError: The configuration is wrong.
        ZeroRouterError: The address is taken, or it is open to others and there are no keys.
    """
    _run(options, on_ready, lambda _: None)


class RunningGateway:
    """A gateway that serves in a thread of this process. Made by `serve_in_thread`.

    Attributes:
        url: Base URL.
        openai_url: Base URL with ``/v1``.
        gateway: What serves.
    """

    def __init__(self, told: Told, gateway: Gateway, stop: Callable[[], None]) -> None:
        self.url = told.url
        self.openai_url = f"{told.url}/v1"
        self.admin_url = told.admin_url
        self.gateway = gateway
        self.stop = stop

    def __enter__(self) -> RunningGateway:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve_in_thread(options: ServeOptions) -> RunningGateway:
    """Serve in a thread until `RunningGateway.stop`; see `serve` for what it raises."""
    ready = threading.Event()
    failed: list[BaseException] = []
    told: list[Told] = []
    parts: list[tuple[Gateway, Callable[[], None]]] = []

    def on_ready(what: Told) -> None:
        told.append(what)
        ready.set()

    def run() -> None:
        try:
            _run(options, on_ready, parts.append)
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="zerorouter-gateway", daemon=True)
    thread.start()
    if not ready.wait(_START_TIMEOUT_S) or failed or not told:
        raise next(iter(failed), None) or ZeroRouterError("the gateway did not start")
    gateway, ask_to_stop = parts[0]
    drain_s = gateway.setup.settings.timeouts.drain_s

    def stop() -> None:
        ask_to_stop()
        thread.join(drain_s + 15)

    return RunningGateway(told[0], gateway, stop)


def _run(
    options: ServeOptions,
    on_ready: Callable[[Told], None],
    on_made: Callable[[tuple[Gateway, Callable[[], None]]], None],
) -> None:
    require_server()
    from zerorouter.gateway.admin import Admin
    from zerorouter.gateway.app import GatewayApp
    from zerorouter.gateway.logs import JsonLog
    from zerorouter.gateway.metrics import Metrics
    from zerorouter.gateway.reloading import Reloader
    from zerorouter.gateway.serving import Gateway
    from zerorouter.gateway.setup import Setup, set_up

    with ExitStack() as stack:
        extra = _sandbox(stack) if options.sandbox else {}

        def read(earlier: Setup | None) -> Setup:
            config = options.config or load_config(options.config_path)
            if options.sandbox:
                config = replace(
                    config,
                    upstreams=MappingProxyType({}),
                    gateway=replace(config.gateway, detect_upstreams=False),
                )
            return set_up(
                config,
                options.environ,
                space=options.space,
                extra_upstreams=extra,
                earlier=earlier,
            )

        setup = read(None)
        settings = setup.settings
        log = JsonLog(options.log_to, level="silent" if options.silent else "info")
        books = _books(options, log)
        host = options.host or settings.host
        port = settings.port if options.port is None else options.port
        if not books.has_keys and host not in LOOPBACK:
            raise ConfigError(
                f"there are no keys, so the gateway listens on 127.0.0.1 only, not on {host}: "
                "anyone who reaches it could spend your money; make a key with 'zerorouter keys "
                "make', or leave the host out"
            )
        take_library_logs(log)
        gateway = Gateway(setup, books=books, metrics=Metrics(), log=log)
        path = options.config_path or setup.config.path
        reloader = Reloader(gateway, read, path)
        token = options.environ.get(settings.admin_token_env, "").strip() or None
        admin = Admin(gateway, token, reloader.reload)
        own_port = settings.admin_port is not None
        app = GatewayApp(gateway, None if own_port else admin)
        sockets = [bind(host, port)]
        kind = {"head_s": settings.timeouts.head_s, "drain_s": settings.timeouts.drain_s}
        servers = [(make_server(app, lifespan=True, on_stop=stopping(gateway), **kind), sockets[0])]
        if settings.admin_port is not None:
            at = bind(host, settings.admin_port)
            servers.append((make_server(admin, lifespan=False, on_stop=lambda: None, **kind), at))

        def ask_to_stop() -> None:
            servers[0][0].should_exit = True

        def background() -> list[asyncio.Task[None]]:
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(reloader.watch())]
            with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
                loop.add_signal_handler(
                    signal.SIGHUP, lambda: tasks.append(loop.create_task(reloader.try_reload()))
                )
            return tasks

        def tell(urls: list[str]) -> None:
            log.write(
                {"event": "started", "url": urls[0], "upstreams": list(setup.fleet.upstreams)}
            )
            on_ready(
                Told(
                    url=urls[0],
                    admin_url=None if token is None else f"{urls[-1]}/admin",
                    has_keys=books.has_keys,
                    upstreams=tuple(setup.fleet.upstreams),
                    n_models=len(setup.routed),
                )
            )

        on_made((gateway, ask_to_stop))
        run_servers(servers, background, tell)


def _books(options: ServeOptions, log: JsonLog) -> Bookkeeping:
    """Keys and ledger.

    Raises:
        MissingExtraError: A package of the ledger is not installed.
        BooksError: They cannot be opened.
    """
    from zerorouter.gateway.bookkeeping import KeptBooks, OpenBooks

    if options.books == "none":
        return OpenBooks()
    from zerorouter.gateway.books import Books
    from zerorouter.gateway.ledger.ledger import LedgerSettings
    from zerorouter.gateway.owners import books_dir

    def on_event(event: str, number: int) -> None:
        log.write({"event": f"ledger_{event}", "n": number}, level="warning")

    return KeptBooks(
        Books.open(books_dir(), now_ns=time.time_ns(), settings=LedgerSettings(), on_event=on_event)
    )


def _sandbox(stack: ExitStack) -> dict[str, UpstreamSettings]:
    """Start the sandbox in a thread; the upstreams that it is."""
    from zerorouter.sandbox import SandboxSettings, serve_in_thread

    running = stack.enter_context(serve_in_thread(SandboxSettings()))
    return sandbox_upstreams(running.url)


def sandbox_upstreams(url: str) -> dict[str, UpstreamSettings]:
    """A sandbox as two upstreams: Claude by Anthropic's API, all models by OpenAI's."""
    return {
        "sandbox-anthropic": UpstreamSettings(
            base_url=f"{url}/v1", api="anthropic", models=("claude-*",)
        ),
        "sandbox": UpstreamSettings(base_url=f"{url}/v1", models=("*",), embeddings=("*",)),
    }
