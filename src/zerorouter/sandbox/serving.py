"""Running the sandbox on uvicorn: in the foreground, in a thread, or around a block of code."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from zerorouter.errors import ZeroRouterError, require_extra
from zerorouter.listening import bind, run_loop, stopped_by_signals, url_of
from zerorouter.sandbox.answering import Sandbox
from zerorouter.sandbox.app import Service, create_app
from zerorouter.sandbox.line import EXTENSION
from zerorouter.sandbox.settings import SandboxSettings

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they close them, not we
_START_TIMEOUT_S = 60.0
_BACKLOG = 2_048


class RunningSandbox:
    """A sandbox that serves in a thread of this process. Made by `serve_in_thread`.

    Attributes:
        url: Base URL, as Anthropic's client wants it.
        openai_url: Base URL with ``/v1``, as OpenAI's client wants it.
        sandbox: Plans the answers.
    """

    def __init__(self, url: str, sandbox: Sandbox, stop: Callable[[], None]) -> None:
        self.url = url
        self.openai_url = f"{url}/v1"
        self.sandbox = sandbox
        self._stop = stop

    def calls(self, *, latest: int = 0, prompts: bool = False) -> dict[str, Any]:
        """What it was asked so far; see `CallLog.to_dict`."""
        query = urlencode({"latest": latest, "prompts": int(prompts)})
        return self._ask("GET", f"/sandbox/calls?{query}")

    def forget_calls(self) -> None:
        """Begin the counts anew."""
        self._ask("DELETE", "/sandbox/calls")

    def set_faults(self, rules: Iterable[str]) -> None:
        """Take other fault rules from now on."""
        self._ask("PUT", "/sandbox/faults", {"rules": list(rules)})

    def stop(self) -> None:
        """Stop serving: running answers go out at once, nothing hangs on. Twice does no harm."""
        self._stop()

    def __enter__(self) -> RunningSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        keys = sorted(self.sandbox.settings.api_keys)
        request = Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-api-key": keys[0]} if keys else {},
        )
        with urlopen(request, timeout=30) as response:
            told: dict[str, Any] = json.load(response)
        return told


def serve_in_thread(
    settings: SandboxSettings | None = None,
    *,
    sandbox: Sandbox | None = None,
    host: str = HOST,
    port: int = 0,
) -> RunningSandbox:
    """Serve in a thread of this process until `RunningSandbox.stop`.

    Args:
        settings: What it is told; the defaults if None.
        sandbox: A sandbox from parts, in place of the one that the settings make.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.

    Raises:
        MissingExtraError: The server's packages are not installed.
        ZeroRouterError: The address is taken.
    """
    _require_server()
    app = create_app(settings, sandbox=sandbox)
    service: Service = app.state.service
    listening = _bind(host, port)
    url = url_of(listening)
    ready, failed = threading.Event(), list[BaseException]()
    server = _server(app, service)

    def run() -> None:
        try:
            _run(server, listening, lambda _: ready.set())
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="zerorouter-sandbox", daemon=True)
    thread.start()
    if not ready.wait(_START_TIMEOUT_S) or failed:
        listening.close()
        raise ZeroRouterError(f"the sandbox did not start on {url}") from next(iter(failed), None)

    def stop() -> None:
        server.should_exit = True
        thread.join(service.settings.stop_timeout_s + 10)

    return RunningSandbox(url, service.sandbox, stop)


@contextmanager
def running_sandbox(
    settings: SandboxSettings | None = None, *, sandbox: Sandbox | None = None, **changes: Any
) -> Iterator[str]:
    """A sandbox on a free loopback port for the length of a ``with`` block; yields its base URL.

    Args:
        settings: What it is told.
        sandbox: A sandbox from parts.
        **changes: Fields of `SandboxSettings`, in place of ``settings``.
    """
    if changes:
        if settings is not None:
            raise TypeError("either settings or fields of them, not both")
        settings = SandboxSettings(**changes)
    with serve_in_thread(settings, sandbox=sandbox) as running:
        yield running.url


def serve(
    settings: SandboxSettings,
    *,
    host: str = HOST,
    port: int = 0,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve in the foreground until SIGINT or SIGTERM; running answers are finished first.

    Args:
        settings: What it is told.
        host: Address to bind.
        port: Port to bind; 0 takes a free one.
        on_ready: Called with the base URL once connections are taken.

    Raises:
        MissingExtraError: The server's packages are not installed.
        ZeroRouterError: The address is taken.
    """
    _require_server()
    app = create_app(settings)
    listening = _bind(host, port)
    _run(_server(app, app.state.service), listening, on_ready)


def _require_server() -> None:
    for module in ("starlette", "uvicorn", "httptools", "orjson"):
        require_extra(module, "gateway", "The sandbox's server")


def _bind(host: str, port: int) -> socket.socket:
    return bind(host, port, backlog=_BACKLOG, advice="choose another port, or 0 for a free one")


def _server(app: Any, service: Service) -> uvicorn.Server:
    """A uvicorn server whose requests know their transport, and whose stop ends all waiting."""
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.stopper.stop()
            await super().shutdown(sockets)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            with stopped_by_signals(self.handle_exit):
                yield

    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(round(service.settings.stop_timeout_s), 1),
        )
    )


def _run(server: uvicorn.Server, listening: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve on a socket, on uvloop where it is installed."""

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.002)
        if server.started:
            on_ready(url_of(listening))
        await serving

    run_loop(main())
