"""A request's way through the gateway, from its first byte to its last.

    read -> key -> `visits`: peek -> plan -> call upstreams -> pass the answer on -> books

Everything happens in the request's own task: no queue, no thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from zerorouter.errors import ZeroRouterError
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.asgi import Receive, Scope, Send
from zerorouter.gateway.attempts import Caller, NothingAnswered
from zerorouter.gateway.bookkeeping import Bookkeeping
from zerorouter.gateway.connections import Connections
from zerorouter.gateway.failures import Refusal, refusal_of
from zerorouter.gateway.heads import bearer_of
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.logs import JsonLog
from zerorouter.gateway.metrics import Metrics
from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.sessions import Sessions
from zerorouter.gateway.setup import Setup
from zerorouter.gateway.visits import Visit
from zerorouter.gateway.watching import (
    ClientLeft,
    Late,
    TimedOut,
    Watch,
    connection_of,
)
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.envelopes import Failure
from zerorouter.serving_config import MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zerorouter.gateway.learning.service import LearningService
    from zerorouter.gateway.tracing import Tracing


class Gateway:
    """Serves requests.

    Attributes:
        setup: What the configuration in force amounts to; swapped as one.
        draining: Whether it is about to stop.
        running: Requests under way.
        learning: Learns from what is served; None for no learning.
        tracing: Makes OpenTelemetry traces; None for none.
        scrape: The metrics of all workers, as Prometheus reads them; None for its own alone.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        books: Bookkeeping,
        metrics: Metrics,
        log: JsonLog,
    ) -> None:
        self.scrape: Callable[[], Awaitable[bytes]] | None = None
        self.learning: LearningService | None = None
        self.tracing: Tracing | None = None
        self.setup = setup
        self.books = books
        self.metrics = metrics
        self.log = log
        self.sessions = Sessions(setup.settings.sessions)
        self.draining = False
        self.running = 0
        self._held_bytes = 0
        self._caller: Caller | None = None
        self._connections: Connections | None = None
        metrics.before_scrape.append(self._refresh_gauges)
        self._tell_metrics(setup)

    # -- from start to stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Open the pool of connections; in the event loop that is going to serve."""
        from zerorouter._version import __version__

        if self._connections is not None:
            return
        self._connections = Connections(
            connect_s=self.setup.settings.timeouts.connect_s,
            user_agent=f"zerorouter/{__version__}",
        )
        self._caller = Caller(self._connections)
        if self.learning is not None:
            self.learning.start()

    async def stop(self) -> None:
        """Close connections and books."""
        self.draining = True
        if self._connections is not None:
            await self._connections.close()
            self._connections = self._caller = None
        if self.learning is not None:
            self.learning.stop()
        if self.tracing is not None:
            self.tracing.close()
        self.books.close()
        self.log.close()

    def take(self, setup: Setup) -> None:
        """Serve by another configuration from now on; what is under way ends by the old one."""
        self.setup = setup
        self.sessions.resized(setup.settings.sessions)
        self._tell_metrics(setup)

    # -- one request ----------------------------------------------------------------------------

    def new_record(self, api: Api) -> RequestRecord:
        """The record of a request that has just come in."""
        now_ns = time.time_ns()
        return RequestRecord(
            request_id=new_id(now_ns), api=api, started=monotonic(), started_ns=now_ns
        )

    async def serve(self, api: Api, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that is passed to upstreams."""
        record = self.new_record(api)
        watch = Watch(asyncio.get_running_loop())
        connection = connection_of(scope)
        if connection is not None:
            connection.watch = watch
        visit = Visit(self, record, watch, connection, send)
        self.running += 1
        held = 0
        try:
            headers = dict(scope["headers"])
            if self.running > self.setup.settings.limits.running:
                raise Refusal.of(503, "too many requests at a time", retry_after_s=1)
            key = self.authenticate(headers)
            record.key_id = "" if key is None else key.id
            body = await self.read_body(headers, receive, watch)
            held = len(body)
            self._held_bytes += held
            await visit.run(body, headers, key)
        except ClientLeft:
            visit.left()
        except NothingAnswered as error:
            await visit.fail(error.failure, "upstream", error.retry_after_s)
        except TimedOut as error:
            visit.must_close = True
            await visit.fail(Failure(status=408, message=f"the {error.late} took too long"))
        except (ZeroRouterError, Refusal) as error:
            refusal = refusal_of(error)
            await visit.fail(refusal.failure, "refused", refusal.retry_after_s)
        except asyncio.CancelledError:
            record.error = "stopping"
            await visit.fail(Failure(status=503, message="the gateway is stopping"), "broken")
        except Exception as error:
            self.log_error(error, record)
            await visit.fail(refusal_of(RuntimeError()).failure, "internal")
        finally:
            self.running -= 1
            self._held_bytes -= held
            watch.close()
            if connection is not None and connection.watch is watch:
                connection.watch = None
            visit.end()

    def authenticate(self, headers: Mapping[bytes, bytes]) -> VirtualKey | None:
        """The client's key, by Bearer token or ``x-api-key``.

        Raises:
            KeyRefusedError: There is none, or none that is known.
        """
        if not self.books.has_keys:
            return None
        return self.books.authenticate(bearer_of(headers))

    async def read_body(
        self, headers: Mapping[bytes, bytes], receive: Receive, watch: Watch
    ) -> bytes:
        """The whole body.

        Raises:
            Refusal: It is too long, or there is no room for it now.
            TimedOut: It took too long.
            ClientLeft: The client has gone.
        """
        limits = self.setup.settings.limits
        most = int(limits.body_mib * MEBIBYTE)
        room = int(limits.held_mib * MEBIBYTE) - self._held_bytes
        declared = headers.get(b"content-length", b"0")
        announced = int(declared) if declared.isdigit() else 0
        _check_size(announced, most, room)
        watch.limit(monotonic() + self.setup.settings.timeouts.body_s, Late.BODY)
        with watch:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            body: bytes = message.get("body", b"")
            if message.get("more_body"):
                parts, size = [body], len(body)
                while message.get("more_body"):
                    _check_size(size, most, room)
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                body = b"".join(parts)
        _check_size(len(body), most, room)
        return body

    @property
    def caller(self) -> Caller:
        """Calls upstreams."""
        if self._caller is None:
            raise RuntimeError("the gateway was not started")
        return self._caller

    def log_error(self, error: BaseException, record: RequestRecord | None = None) -> None:
        """Log an error that should not have happened: where, and of what kind, not what it says."""
        from zerorouter.gateway.logs import frames

        fields = {"event": "internal_error", "exception": type(error).__name__}
        if record is not None:
            fields["request_id"] = record.request_id
        self.log.write({**fields, "where": frames(error.__traceback__)}, level="error")

    def _refresh_gauges(self) -> None:
        now = monotonic()
        self.metrics.running.set(self.running)
        self.metrics.sessions.set(len(self.sessions))
        self.metrics.log_dropped.set(self.log.dropped)
        self.metrics.show_circuits(
            (upstream, model, circuit.state(now).value)
            for (upstream, model), circuit in self.setup.fleet.circuits().items()
        )

    def _tell_metrics(self, setup: Setup) -> None:
        self.metrics.known = frozenset(setup.concrete_names)


def _check_size(size: int, most: int, room: int) -> None:
    if size > most:
        raise Refusal.of(
            413,
            f"the body has more than {most:,} bytes; that is the limit",
            code="request_too_large",
        )
    if size > room:
        raise Refusal.of(503, "too many large requests at a time", retry_after_s=1)
