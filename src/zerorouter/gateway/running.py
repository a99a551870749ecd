"""Starting a gateway: from a configuration to a server, in the foreground or in a thread."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from zerorouter.config import Config, config_from_dict, load_config
from zerorouter.errors import ConfigError, ZeroRouterError
from zerorouter.gateway.server import (
    bind,
    make_server,
    require_server,
    run_servers,
    stopping,
    take_library_logs,
)
from zerorouter.gateway.workers.channel import Channel
from zerorouter.gateway.workers.member import Member
from zerorouter.serving_config import GatewaySettings, UpstreamSettings

if TYPE_CHECKING:
    from zerorouter.gateway.bookkeeping import Bookkeeping
    from zerorouter.gateway.ledger import Ledger
    from zerorouter.gateway.logs import JsonLog
    from zerorouter.gateway.metrics import Metrics
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
        workers: Processes that serve; None for the configuration's number.
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
    workers: int | None = None


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


@dataclass(frozen=True, kw_only=True)
class Place:
    """What surrounds a gateway that is one of several workers.

    Attributes:
        member: Its line to the others.
        control: The socket of that line.
        sockets: To listen on: the gateway's, then that of ``/admin`` where it has its own.
        sandbox_url: Of played models; None without.
        last_good: The configuration that the workers before it served by, as its file would have
            it; taken where the file is wrong now.
    """

    member: Member
    control: socket.socket
    sockets: tuple[socket.socket, ...]
    sandbox_url: str | None = None
    last_good: dict[str, Any] | None = None


def serve(options: ServeOptions, *, on_ready: Callable[[Told], None] = lambda _: None) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, in as many processes as is asked.

    Raises:
        MissingExtraError: The gateway's packages are not installed.
        ConfigError: The configuration is wrong.
        ZeroRouterError: The address is taken, or it is open to others and there are no keys.
    """
    n_workers = options.workers
    if n_workers is None:
        config = options.config or load_config(options.config_path)
        n_workers = config.gateway.workers
    if n_workers == 1:
        _run(options, on_ready, lambda _: None)
        return
    from zerorouter.gateway.workers.starting import serve_with_workers

    serve_with_workers(options, n_workers, on_ready)


def serve_as_worker(
    options: ServeOptions, place: Place, *, on_ready: Callable[[Told], None]
) -> None:
    """Serve as one of several workers; see `serve` for what it raises."""
    _run(options, on_ready, lambda _: None, place)


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


def check_host(host: str, *, has_keys: bool) -> None:
    """Refuse to be open to others without keys.

    Raises:
        ConfigError: So it would be.
    """
    if not has_keys and host not in LOOPBACK:
        raise ConfigError(
            f"there are no keys, so the gateway listens on 127.0.0.1 only, not on {host}: "
            "anyone who reaches it could spend your money; make a key with 'zerorouter keys "
            "make', or leave the host out"
        )


def _run(
    options: ServeOptions,
    on_ready: Callable[[Told], None],
    on_made: Callable[[tuple[Gateway, Callable[[], None]]], None],
    place: Place | None = None,
) -> None:
    require_server()
    from zerorouter.gateway.admin import Admin
    from zerorouter.gateway.app import GatewayApp
    from zerorouter.gateway.learning.service import open_learning
    from zerorouter.gateway.logs import JsonLog
    from zerorouter.gateway.metrics import Metrics
    from zerorouter.gateway.reloading import Reloader
    from zerorouter.gateway.serving import Gateway
    from zerorouter.gateway.setup import Setup, set_up

    with ExitStack() as stack:
        extra = _sandbox(stack, options, place)

        def lay_out(config: Config, earlier: Setup | None) -> Setup:
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

        def read(earlier: Setup | None) -> Setup:
            return lay_out(options.config or load_config(options.config_path), earlier)

        refused: ZeroRouterError | None = None
        try:
            setup = read(None)
        except ZeroRouterError as error:
            last_good = None if place is None else place.last_good
            if last_good is None:
                raise
            refused = error
            setup = lay_out(
                config_from_dict(last_good["config"], path=Path(last_good["path"])), None
            )
        settings = setup.settings
        log = JsonLog(options.log_to, level="silent" if options.silent else "info")
        metrics = Metrics()
        books = _books(options, settings, log, metrics)
        stack.callback(books.close)
        host = options.host or settings.host
        port = settings.port if options.port is None else options.port
        check_host(host, has_keys=books.has_keys)
        take_library_logs(log)
        member = None if place is None else place.member
        gateway = Gateway(setup, books=books, metrics=metrics, log=log)
        gateway.learning = open_learning(gateway, stack, kept=options.books == "kept")
        if settings.traces:
            from zerorouter.gateway.tracing import open_tracing

            gateway.tracing = open_tracing()
        if member is not None:
            member.on_error = gateway.log_error
            member.on("session", gateway.sessions.take)
            gateway.sessions.on_note = partial(member.to_others, "session")
        if refused is not None:
            metrics.config_ok.set(0)
            log.write({"event": "config_refused", "message": str(refused)}, level="error")
        path = options.config_path or setup.config.path
        reloader = Reloader(
            gateway,
            read,
            path,
            on_taken=(lambda: None) if member is None else member.tell_config,
        )
        token = options.environ.get(settings.admin_token_env, "").strip() or None
        admin = Admin(gateway, token, reloader.reload if member is None else member.reload_all)
        own_port = settings.admin_port is not None
        app = GatewayApp(gateway, None if own_port else admin)
        if place is not None:
            sockets = list(place.sockets)
        else:
            sockets = [bind(host, port)]
            if settings.admin_port is not None:
                stack.callback(sockets[0].close)
                sockets.append(bind(host, settings.admin_port))
        kind = {"head_s": settings.timeouts.head_s, "drain_s": settings.timeouts.drain_s}
        servers = [(make_server(app, lifespan=True, on_stop=stopping(gateway), **kind), sockets[0])]
        if len(sockets) > 1:
            of_admin = make_server(admin, lifespan=False, on_stop=lambda: None, **kind)
            servers.append((of_admin, sockets[1]))

        def ask_to_stop() -> None:
            servers[0][0].should_exit = True

        told: list[Told] = []

        async def keep_in_touch(place: Place) -> None:
            channel = await Channel.over(place.control, place.member.on_frame, ask_to_stop)
            place.member.attach(
                channel,
                render=metrics.render,
                reload=reloader.reload,
                config=lambda: {
                    "config": gateway.setup.config.to_dict(),
                    "path": str(gateway.setup.config.path),
                },
            )
            try:
                channel.send({"kind": "ready", "told": asdict(told[0])})
                if refused is None:
                    place.member.tell_config()
                await place.member.tell_metrics()
            finally:
                place.member.leave()
                channel.close()
                await channel.lost.wait()

        def background() -> list[asyncio.Task[None]]:
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(reloader.watch())]
            if place is not None:
                gateway.scrape = place.member.scrape
                tasks.append(loop.create_task(keep_in_touch(place)))
            with suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
                loop.add_signal_handler(
                    signal.SIGHUP, lambda: tasks.append(loop.create_task(reloader.try_reload()))
                )
            return tasks

        def tell(urls: list[str]) -> None:
            told.append(
                Told(
                    url=urls[0],
                    admin_url=None if token is None else f"{urls[-1]}/admin",
                    has_keys=books.has_keys,
                    upstreams=tuple(setup.fleet.upstreams),
                    n_models=len(setup.routed),
                )
            )
            if place is None:
                log.write(
                    {"event": "started", "url": urls[0], "upstreams": list(setup.fleet.upstreams)}
                )
            on_ready(told[0])

        on_made((gateway, ask_to_stop))
        run_servers(servers, background, tell)


def _books(
    options: ServeOptions, settings: GatewaySettings, log: JsonLog, metrics: Metrics
) -> Bookkeeping:
    """Keys and ledger.

    Raises:
        MissingExtraError: A package of the ledger is not installed.
        BooksError: They cannot be opened.
    """
    from zerorouter.gateway.bookkeeping import KeptBooks, OpenBooks

    if options.books == "none":
        return OpenBooks()
    from zerorouter.gateway.books import Books
    from zerorouter.gateway.ledger.ledger import ledger_settings
    from zerorouter.gateway.owners import books_dir

    def on_event(event: str, number: int) -> None:
        log.write({"event": f"ledger_{event}", "n": number}, level="warning")

    chosen = ledger_settings(settings.ledger, options.environ)
    books = Books.open(books_dir(), now_ns=time.time_ns(), settings=chosen, on_event=on_event)
    _show_ledger(books.ledger, metrics)
    return KeptBooks(books)


def _show_ledger(ledger: Ledger, metrics: Metrics) -> None:
    """Let the metrics tell how the ledger stands."""
    from zerorouter.gateway.series import Gauge

    waiting = Gauge("zerorouter_ledger_journal_bytes", "Of rows on their way to the database.")
    rejected = Gauge("zerorouter_ledger_rows_rejected", "Rows that the database does not take.")
    well = Gauge("zerorouter_ledger_successful", "Whether nothing stands in the ledger's way.")

    def refresh() -> None:
        state = ledger.state
        waiting.set(state.journal_bytes)
        rejected.set(state.rejected + state.damaged)
        well.set(state.error is None)

    metrics.series += [waiting, rejected, well]
    metrics.before_scrape.append(refresh)


def start_sandbox(stack: ExitStack) -> str:
    """Start the sandbox in a thread; its URL."""
    from zerorouter.sandbox import SandboxSettings, serve_in_thread

    return stack.enter_context(serve_in_thread(SandboxSettings())).url


def _sandbox(
    stack: ExitStack, options: ServeOptions, place: Place | None
) -> dict[str, UpstreamSettings]:
    """The upstreams that the sandbox is; none without."""
    if not options.sandbox:
        return {}
    url = None if place is None else place.sandbox_url
    return sandbox_upstreams(start_sandbox(stack) if url is None else url)


def sandbox_upstreams(url: str) -> dict[str, UpstreamSettings]:
    """A sandbox as two upstreams: Claude by Anthropic's API, all models by OpenAI's."""
    return {
        "sandbox-anthropic": UpstreamSettings(
            base_url=f"{url}/v1", api="anthropic", models=("claude-*",)
        ),
        "sandbox": UpstreamSettings(base_url=f"{url}/v1", models=("*",), embeddings=("*",)),
    }
