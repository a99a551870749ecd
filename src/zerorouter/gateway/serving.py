"""A request's way through the gateway, from its first byte to its last.

    read -> key -> peek -> plan -> call upstreams -> pass the answer on -> books -> last byte

Everything happens in the request's own task: no queue, no thread. Whatever happens, the request
ends in one place (`Gateway._end`): books, metrics and one line of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from zerorouter.errors import MissingPriceError, ZeroRouterError
from zerorouter.gateway import dialects
from zerorouter.gateway.accounts import new_id
from zerorouter.gateway.asgi import JSON, Headers, Receive, Scope, Send, send_whole
from zerorouter.gateway.attempts import Begun, Caller, NothingAnswered
from zerorouter.gateway.bookkeeping import Bookkeeping
from zerorouter.gateway.failures import Refusal, refusal_of, send_failure
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.logs import JsonLog
from zerorouter.gateway.metrics import Metrics
from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.relaying import Relay
from zerorouter.gateway.routing import plan
from zerorouter.gateway.sessions import Sessions
from zerorouter.gateway.setup import Setup
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.watching import (
    ClientLeft,
    Connection,
    Late,
    TimedOut,
    Watch,
    connection_of,
)
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.envelopes import Failure, error_event
from zerorouter.gateway.wire.peek import WireRequest, peek
from zerorouter.gateway.wire.scanning import read_answer
from zerorouter.gateway.wire.usage import TokenUsage
from zerorouter.gateway.wire.wishes import HEADER_PREFIX, RequestWishes, wishes_from_headers
from zerorouter.prices import Price, TokenCounts, request_cost_usd
from zerorouter.serving_config import MEBIBYTE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from zerorouter.gateway.learning.service import LearningService

HEADER_BYTES: Final = HEADER_PREFIX.encode()
# What a client says that the upstream should hear, beside the body.
_FORWARDED: Final = (b"anthropic-beta", b"anthropic-version", b"openai-beta")
_RETURNED: Final = ("retry-after", "retry-after-ms", "openai-processing-ms")
_CLOSE: Final = (b"connection", b"close")
USUAL_MAX_TOKENS: Final = 4_096
"""Output tokens assumed of a request without a limit, to a model whose own limit is not known."""


class Gateway:
    """Serves requests.

    Attributes:
        setup: What the configuration in force amounts to; swapped as one.
        draining: Whether it is about to stop.
        running: Requests under way.
        learning: Learns from what is served; None for no learning.
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
        self.setup = setup
        self.books = books
        self.metrics = metrics
        self.log = log
        self.sessions = Sessions(setup.settings.sessions)
        self.draining = False
        self.running = 0
        self._held_bytes = 0
        self._caller: Caller | None = None
        self._pool: aiohttp.ClientSession | None = None
        metrics.before_scrape.append(self._refresh_gauges)
        self._tell_metrics(setup)

    # -- from start to stop ---------------------------------------------------------------------

    async def start(self) -> None:
        """Open the pool of connections; in the event loop that is going to serve."""
        import aiohttp

        from zerorouter._version import __version__

        if self._pool is not None:
            return
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=60, ttl_dns_cache=60, enable_cleanup_closed=False
        )
        self._pool = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self.setup.settings.timeouts.connect_s
            ),
            headers={
                "user-agent": f"zerorouter/{__version__}",
                # The scanner reads along; what is compressed it could not.
                "accept-encoding": "identity",
                "content-type": "application/json",
            },
            read_bufsize=2**18,
            trust_env=False,
        )
        self._caller = Caller(self._pool)
        if self.learning is not None:
            self.learning.start()

    async def stop(self) -> None:
        """Close connections and books."""
        self.draining = True
        if self._pool is not None:
            await self._pool.close()
            self._pool = self._caller = None
        if self.learning is not None:
            self.learning.stop()
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
        visit = _Visit(self, record, watch, connection, send)
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


class _Visit:
    """One request while it is served."""

    __slots__ = (
        *("begun", "connection", "ended", "gateway", "must_close", "record", "relay", "send"),
        "watch",
    )

    def __init__(
        self,
        gateway: Gateway,
        record: RequestRecord,
        watch: Watch,
        connection: Connection | None,
        send: Send,
    ) -> None:
        self.gateway = gateway
        self.record = record
        self.watch = watch
        self.connection = connection
        self.send = send
        self.begun = False  # whether the client has got the first byte
        self.ended = False
        self.must_close = False
        self.relay: Relay | None = None

    async def run(
        self, body: bytes, headers: Mapping[bytes, bytes], key: VirtualKey | None
    ) -> None:
        """From the body to the last byte."""
        gateway, record = self.gateway, self.record
        setup = gateway.setup
        ready = monotonic()
        request = peek(body, record.api)
        record.requested, record.stream = request.model, request.stream
        record.max_tokens, record.n_answers = request.max_tokens, request.n
        wishes = wishes_of(request, headers)
        record.session_id = session = wishes.session_id or request.session_id
        cached = (
            None
            if session is None
            else gateway.sessions.cached_tokens(record.key_id, session, ready)
        )
        found = plan(setup, request, wishes, key, cached)
        record.decision = found.decision
        record.policy = None if found.decision is None else found.decision.policy
        self._reserve(setup, request, found.model, key)
        record.overhead_s = monotonic() - ready
        deadline = record.started + setup.settings.timeouts.deadline_s
        reserved_for = found.model

        def before(endpoint: Endpoint) -> None:
            nonlocal reserved_for
            if endpoint.model != reserved_for:
                self._reserve(setup, request, endpoint.model, key)
                reserved_for = endpoint.model

        begun = await gateway.caller.call(
            request,
            found.endpoints(setup),
            routed=found.decision is not None,
            settings=setup.settings,
            record=record,
            watch=self.watch,
            headers=forwarded(headers),
            deadline=deadline,
            before=before,
            wants_usage=key is not None and (key.has_budget or key.tokens_per_minute is not None),
        )
        record.model, record.upstream = begun.endpoint.model, begun.endpoint.upstream.name
        record.ttft_s = record.attempts[-1].seconds
        if begun.failure is not None:
            await self._refused_by_upstream(begun)
        elif begun.response is None:
            await self._whole(begun, request)
        else:
            await self._stream(begun, begun.response, request, deadline)

    # -- answers ----------------------------------------------------------------------------------

    async def _whole(self, begun: Begun, request: WireRequest) -> None:
        record = self.record
        facts = read_answer(begun.spoken, begun.parsed if begun.parsed is not None else b"")
        record.usage = facts.usage
        body = dialects.answer_body(begun, request)
        kind = JSON if begun.spoken is not record.api else _content_type(begun)
        headers = [kind, *self.headers(begun)]
        self._close_books(200, "ok")
        self.begun = True
        await send_whole(self.send, begun.status, headers, body)

    async def _refused_by_upstream(self, begun: Begun) -> None:
        """An upstream's error that is the client's: as it came, or in the client's envelope."""
        record, failure = self.record, begun.failure
        assert failure is not None
        record.error = failure.reason or failure.code or "upstream_refused"
        if begun.spoken is record.api and begun.content_type.startswith("application/json"):
            self._close_books(begun.status, "upstream")
            await send_whole(self.send, begun.status, [JSON, *self.headers(begun)], begun.first)
            return
        await self.fail(failure, "upstream")

    async def _stream(
        self,
        begun: Begun,
        response: aiohttp.ClientResponse,
        request: WireRequest,
        deadline: float,
    ) -> None:
        import aiohttp

        record, send, watch = self.record, self.send, self.watch
        relay = self.relay = Relay(
            begun.spoken,
            dialects.stream_translator(request, begun.spoken),
            drops_usage=begun.sent is not None and begun.sent.has_extra_usage,
        )
        idle = self.gateway.setup.settings.timeouts.idle_s
        readany, chunk = response.content.readany, begun.first
        failure: Failure | None = None
        circuit = begun.endpoint.circuit
        try:
            with watch:
                watch.limit(min(monotonic() + idle, deadline), Late.IDLE)
                headers = [_EVENT_STREAM, _NO_CACHE, *self.headers(begun)]
                self.begun = True
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                while chunk:
                    if passing := relay.feed(chunk):
                        await send(
                            {"type": "http.response.body", "body": passing, "more_body": True}
                        )
                    watch.limit(min(monotonic() + idle, deadline), Late.IDLE)
                    chunk = await readany()
                last = relay.finish()
            if last is None:
                failure = Failure(status=502, message="the upstream ended the stream too early")
        except TimedOut:
            late = Late.DEADLINE if monotonic() >= deadline else Late.IDLE
            told = {
                Late.DEADLINE: "the request's deadline passed",
                Late.IDLE: "nothing came in time",
            }
            failure = Failure(status=504, message=told[late])
            record.attempts[-1].outcome = late.value
        except (aiohttp.ClientError, OSError) as error:
            if watch.left:
                raise ClientLeft from error
            failure = Failure(status=502, message="the upstream broke the stream off")
        except ZeroRouterError as error:  # a stream that cannot be translated
            failure = Failure(status=502, message=str(error))
        finally:
            self._take_facts(relay, request)
            if chunk or failure is not None:
                response.close()
            else:
                response.release()
        if failure is not None:
            if record.attempts[-1].outcome == "ok":
                record.attempts[-1].outcome = "broken"
            circuit.fail(monotonic())
            await self._break_off(failure)
            return
        error_told = relay.facts.error
        record.error = None if error_told is None else "upstream_stream_error"
        self._close_books(200, "ok" if error_told is None else "broken")
        await send({"type": "http.response.body", "body": last, "more_body": False})

    def _take_facts(self, relay: Relay, request: WireRequest) -> None:
        """Tokens of a stream: as told, else estimated from what has passed."""
        facts, record = relay.facts, self.record
        usage = facts.usage
        if usage is None or (facts.content_chars and not usage.output_tokens):
            usage = TokenUsage(
                input_tokens=_input_tokens(record, request)
                if usage is None
                else usage.input_tokens,
                output_tokens=facts.output_tokens(),
            )
            record.is_estimated = True
        record.usage = usage

    async def _break_off(self, failure: Failure) -> None:
        """After the first byte: an error event in the client's format, then the end."""
        record = self.record
        record.error = record.error or "broken_stream"
        self._close_books(200, "broken")
        self.must_close = True
        told = replace(failure, request_id=record.request_id)
        event = (
            error_event(record.api, told)
            if self.relay is None
            else self.relay.fail(record.api, told)
        )
        await self.send({"type": "http.response.body", "body": event, "more_body": False})

    async def fail(
        self, failure: Failure, outcome: str = "refused", retry_after_s: float | None = None
    ) -> None:
        """Answer with an error of ours; after the first byte as an event."""
        record = self.record
        if self.watch.left:
            return
        if self.begun:
            if record.stream and not self.ended:
                await self._break_off(failure)
            else:
                self.must_close = True
            return
        record.error = record.error or failure.code or failure.reason or f"status_{failure.status}"
        self._close_books(failure.status, outcome)
        self.begun = True
        headers = self.headers(None)
        if failure.status in (408, 413):
            headers.append(_CLOSE)
        await send_failure(
            self.send,
            record.api,
            failure,
            request_id=record.request_id,
            headers=headers,
            retry_after_s=retry_after_s,
        )

    def left(self) -> None:
        """The client has gone."""
        record = self.record
        if record.attempts and record.attempts[-1].outcome in ("ok", "running"):
            record.attempts[-1].outcome = "left"
        self._close_quietly(499, "left")

    def end(self) -> None:
        """The request is over, one way or another."""
        if not self.ended:
            self._close_quietly(self.record.status or 500, "internal")
        if self.must_close and self.connection is not None:
            self.connection.close()

    def _close_quietly(self, status: int, outcome: str) -> None:
        """`_close_books` where nobody is left who could be told that they cannot be kept."""
        try:
            self._close_books(status, outcome)
        except ZeroRouterError as error:
            self.gateway.log_error(error, self.record)

    # -- books and headers ------------------------------------------------------------

    def _reserve(
        self, setup: Setup, request: WireRequest, model: str, key: VirtualKey | None
    ) -> None:
        if key is None:
            return
        price = setup.price(model)
        tokens_in = len(request.raw) // 3 + 1  # above what four characters a token would give
        spec = setup.catalog.get(model) if model in setup.catalog else None
        longest = (spec.max_output_tokens if spec else None) or USUAL_MAX_TOKENS
        tokens_out = (request.max_tokens or longest) * request.n
        worst = (
            None
            if price is None
            else _cost(price, TokenUsage(input_tokens=tokens_in, output_tokens=tokens_out))
        )
        if worst is None and key.has_budget:
            raise MissingPriceError(
                f"{model!r} has no price and the key has a budget; set it under 'prices:'"
            )
        self.gateway.books.reserve(self.record, key, worst_usd=worst, tokens=tokens_in + tokens_out)

    def _close_books(self, status: int, outcome: str) -> None:
        """Settle, write the row, count and log; before the last byte goes out."""
        if self.ended:
            return
        self.ended = True
        gateway, record = self.gateway, self.record
        now = monotonic()
        record.status, record.outcome, record.seconds = status, outcome, now - record.started
        usage = record.usage
        if usage is not None and record.model:
            price = gateway.setup.price(record.model)
            if price is not None:
                record.cost_usd = _cost(price, usage)
            if record.session_id is not None:
                gateway.sessions.note(
                    record.key_id, record.session_id, record.model, usage.total_tokens, now
                )
        gateway.metrics.count(record)
        gateway.log.write(record.to_log(), level="info" if outcome == "ok" else "warning")
        gateway.books.finish(record)
        if gateway.learning is not None:
            gateway.learning.observe(record)

    def headers(self, begun: Begun | None) -> Headers:
        """Our headers of an answer."""
        record = self.record
        request_id = record.request_id.encode()
        out: Headers = [
            (b"request-id" if record.api is Api.MESSAGES else b"x-request-id", request_id),
            (b"x-zerorouter-attempts", b"%d" % len(record.attempts)),
            (b"x-zerorouter-overhead-ms", b"%.3f" % (record.overhead_s * 1000)),
        ]
        if record.model:
            out.append((b"x-zerorouter-model", _header_text(record.model)))
        decision = record.decision
        if decision is not None:
            out += [
                (b"x-zerorouter-decision-id", decision.decision_id.encode()),
                (b"x-zerorouter-policy", _header_text(decision.policy)),
                (b"x-zerorouter-profile-version", _header_text(decision.space_version)),
            ]
            p_correct, cost_usd = decision.p_correct, decision.cost_usd
            weighed = decision.weighing.estimates
            if record.model != decision.model and record.model in weighed.models:
                at = weighed.models.index(record.model)
                p_correct = float(weighed.p_correct[0, at])
                cost_usd = float(weighed.cost_usd[0, at])
            out += [
                (b"x-zerorouter-p-correct", b"%.4f" % p_correct),
                (b"x-zerorouter-expected-cost-usd", b"%.8f" % cost_usd),
            ]
        if begun is not None:
            if begun.sent is not None and begun.sent.notes:
                notes = "; ".join(begun.sent.notes)[:1_000]
                out.append((b"x-zerorouter-notes", _header_text(notes)))
            for name in _RETURNED:
                if (value := begun.headers.get(name)) is not None:
                    out.append((name.encode(), _header_text(value)))
        return out


_EVENT_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_NO_CACHE: Final = (b"cache-control", b"no-cache")


def bearer_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's secret; empty where there is none."""
    given = headers.get(b"x-api-key", b"")
    if not given:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else b""
    return given.decode("latin-1")


def wishes_of(request: WireRequest, headers: Mapping[bytes, bytes]) -> RequestWishes:
    """Wishes of the body, filled up with those of the headers."""
    told = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers.items()
        if name.startswith(HEADER_BYTES)
    }
    return request.wishes.over(wishes_from_headers(told)) if told else request.wishes


def forwarded(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Headers of a client that its upstream is to get."""
    return {
        name.decode(): headers[name].decode("latin-1") for name in _FORWARDED if name in headers
    }


def _input_tokens(record: RequestRecord, request: WireRequest) -> int:
    """Estimated input: the decision's estimate for the model that served, else a count."""
    decision = record.decision
    if decision is not None and (counted := decision.weighing.estimates.input_tokens) is not None:
        models = decision.weighing.estimates.models
        if counted.ndim == 1:
            return int(counted[0])
        if record.model in models:
            return int(counted[0, models.index(record.model)])
    from zerorouter.gateway.wire.count_tokens import count_tokens

    return count_tokens(request.body)


def _check_size(size: int, most: int, room: int) -> None:
    if size > most:
        raise Refusal.of(
            413,
            f"the body has more than {most:,} bytes; that is the limit",
            code="request_too_large",
        )
    if size > room:
        raise Refusal.of(503, "too many large requests at a time", retry_after_s=1)


def _content_type(begun: Begun) -> tuple[bytes, bytes]:
    return (b"content-type", _header_text(begun.content_type or "application/json"))


def _header_text(text: str) -> bytes:
    """``text`` as a header may carry it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")


def _cost(price: Price, usage: TokenUsage) -> float:
    counts = TokenCounts(
        input_tokens=max(usage.input_tokens, usage.cached_tokens + usage.cache_write_tokens),
        output_tokens=max(usage.output_tokens, usage.reasoning_tokens),
        cached_input_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )
    return request_cost_usd(price, counts)
