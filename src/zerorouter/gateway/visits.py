"""One request while it is served: plan, upstream, answer, books.

    peek -> plan -> call upstreams -> pass the answer on -> books -> last byte

Whatever happens, `Visit.end` sees to it that the books are closed once: settled, written, counted
and logged, before the last byte goes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from zerorouter.errors import MissingPriceError, ZeroRouterError
from zerorouter.gateway import dialects
from zerorouter.gateway.asgi import JSON, Send, send_whole
from zerorouter.gateway.attempts import Call
from zerorouter.gateway.beginnings import Begun
from zerorouter.gateway.charging import charge, most_tokens, streamed_tokens, worst_usd
from zerorouter.gateway.connections import Answer
from zerorouter.gateway.failures import refusal_of, send_failure
from zerorouter.gateway.heads import (
    CLOSE,
    EVENT_STREAM,
    NO_CACHE,
    answer_headers,
    content_type_of,
    forwarded,
    wishes_of,
)
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.relaying import Relay
from zerorouter.gateway.routing import plan
from zerorouter.gateway.setup import Setup
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.watching import ClientLeft, Connection, Late, TimedOut, Watch
from zerorouter.gateway.wire.envelopes import Failure, error_event
from zerorouter.gateway.wire.peek import WireRequest, peek
from zerorouter.gateway.wire.usage import answer_usage

if TYPE_CHECKING:
    from zerorouter.gateway.serving import Gateway

_TOO_LATE: Final = {
    Late.DEADLINE: "the request's deadline passed",
    Late.IDLE: "nothing came in time",
}


class Visit:
    """One request while it is served.

    Args:
        gateway: Serves it.
        record: Of the request; filled in here.
        watch: Over the request.
        connection: The client's, where the server hands it over.
        send: Of ASGI.
    """

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
        if gateway.books.keeps_prompts:
            record.prompt = body
        if gateway.tracing is not None:
            record.traceparent = headers.get(b"traceparent")
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
        if key is not None:
            self._reserve(setup, request, found.model, key)
        else:
            gateway.books.check()
        record.overhead_s = monotonic() - ready
        reserved_for = found.model

        def before(endpoint: Endpoint) -> None:
            nonlocal reserved_for
            if endpoint.model != reserved_for or any(a.usage for a in record.attempts):
                if key is not None:
                    self._reserve(setup, request, endpoint.model, key)
                reserved_for = endpoint.model

        call = Call(
            request=request,
            routed=found.decision is not None,
            settings=setup.settings,
            record=record,
            watch=self.watch,
            headers=forwarded(headers),
            deadline=record.started + setup.settings.timeouts.deadline_s,
            before=before,
            wants_usage=key is not None and (key.has_budget or key.tokens_per_minute is not None),
        )
        begun = await gateway.caller.call(call, found.endpoints(setup))
        record.model, record.upstream = begun.endpoint.model, begun.endpoint.upstream.name
        record.ttft_s = record.attempts[-1].seconds
        if begun.failure is not None:
            await self._refused_by_upstream(begun, begun.failure)
        elif begun.response is None:
            await self._whole(begun, request)
        else:
            await self._stream(begun, begun.response, request, call.deadline)

    # -- answers ----------------------------------------------------------------------------------

    async def _whole(self, begun: Begun, request: WireRequest) -> None:
        record = self.record
        if begun.parsed is not None:
            record.usage = answer_usage(begun.spoken, begun.parsed)
        body = dialects.answer_body(begun, request)
        kind = JSON if begun.spoken is not record.api else content_type_of(begun)
        headers = [kind, *answer_headers(record, begun)]
        self._close_books(200, "ok")
        self.begun = True
        await send_whole(self.send, begun.status, headers, body)

    async def _refused_by_upstream(self, begun: Begun, failure: Failure) -> None:
        """An upstream's error that is the client's: as it came, or in the client's envelope."""
        record = self.record
        record.error = failure.reason or failure.code or "upstream_refused"
        if begun.spoken is record.api and begun.content_type.startswith("application/json"):
            self._close_books(begun.status, "upstream")
            headers = [JSON, *answer_headers(record, begun)]
            await send_whole(self.send, begun.status, headers, begun.first)
            return
        await self.fail(failure, "upstream")

    async def _stream(
        self, begun: Begun, response: Answer, request: WireRequest, deadline: float
    ) -> None:
        record, send = self.record, self.send
        relay = self.relay = Relay(
            begun.spoken,
            dialects.stream_translator(request, begun.spoken),
            drops_usage=begun.sent.has_extra_usage,
        )
        last: bytes | None = None
        is_over = False
        try:
            headers = [EVENT_STREAM, NO_CACHE, *answer_headers(record, begun)]
            self.begun = True
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            failure = await self._pass_on(relay, begun.first, response, deadline)
            is_over = failure is None
            if is_over and (last := relay.finish()) is None:
                failure = Failure(status=502, message="the upstream ended the stream too early")
        except ZeroRouterError as error:  # a stream that cannot be translated
            failure = Failure(status=502, message=str(error))
        finally:
            usage, estimated = streamed_tokens(relay.facts, record, request)
            record.usage, record.is_estimated = usage, record.is_estimated or estimated
            if is_over and last is not None:
                response.release()
            else:
                response.close()
        if failure is not None:
            if record.attempts[-1].outcome == "ok":
                record.attempts[-1].outcome = "broken"
            begun.endpoint.circuit.fail(monotonic())
            await self._break_off(failure)
            return
        told = relay.facts.error
        record.error = None if told is None else "upstream_stream_error"
        self._close_books(200, "ok" if told is None else "broken")
        await self._send_last(last or b"")

    async def _pass_on(
        self, relay: Relay, chunk: bytes, response: Answer, deadline: float
    ) -> Failure | None:
        """Pass a stream on until it ends; what stood in its way, or None.

        Raises:
            ClientLeft: The client has gone.
            ZeroRouterError: It cannot be translated.
        """
        import aiohttp

        send, watch, feed = self.send, self.watch, relay.feed
        idle, readany = self.gateway.setup.settings.timeouts.idle_s, response.content.readany
        try:
            with watch:
                watch.limit(min(monotonic() + idle, deadline), Late.IDLE)
                while chunk:
                    if passing := feed(chunk):
                        await send(
                            {"type": "http.response.body", "body": passing, "more_body": True}
                        )
                    watch.limit(min(monotonic() + idle, deadline), Late.IDLE)
                    chunk = await readany()
        except TimedOut:
            late = Late.DEADLINE if monotonic() >= deadline else Late.IDLE
            self.record.attempts[-1].outcome = late.value
            return Failure(status=504, message=_TOO_LATE[late])
        except (aiohttp.ClientError, OSError) as error:
            if watch.left:
                raise ClientLeft from error
            return Failure(status=502, message="the upstream broke the stream off")
        return None

    async def _break_off(self, failure: Failure) -> None:
        """After the first byte: an error event in the client's format, then the end."""
        record = self.record
        record.error = record.error or "broken_stream"
        self._close_quietly(200, "broken")
        self.must_close = True
        told = replace(failure, request_id=record.request_id)
        event = (
            error_event(record.api, told)
            if self.relay is None
            else self.relay.fail(record.api, told)
        )
        await self._send_last(event)

    async def _send_last(self, body: bytes) -> None:
        """The end of a stream; a client that does not take it in time is cut off."""
        idle = self.gateway.setup.settings.timeouts.idle_s
        self.watch.limit(monotonic() + idle, Late.CLIENT)
        try:
            with self.watch:
                await self.send({"type": "http.response.body", "body": body, "more_body": False})
        except TimedOut:
            if self.connection is not None:
                self.connection.abort()

    async def fail(
        self, failure: Failure, outcome: str = "refused", retry_after_s: float | None = None
    ) -> None:
        """Answer with an error of ours; after the first byte as an event."""
        record = self.record
        if self.watch.left:
            return
        if self.begun:
            if record.stream and not self.must_close:
                await self._break_off(failure)
            self.must_close = True
            return
        record.error = record.error or failure.code or failure.reason or f"status_{failure.status}"
        try:
            self._close_books(failure.status, outcome)
        except ZeroRouterError as error:  # what is answered now is that it cannot be kept
            refusal = refusal_of(error)
            failure, retry_after_s = refusal.failure, refusal.retry_after_s
        self.begun = True
        headers = answer_headers(record, None)
        if failure.status in (408, 413):
            headers.append(CLOSE)
        await send_failure(
            self.send,
            record.api,
            failure,
            request_id=record.request_id,
            headers=headers,
            retry_after_s=retry_after_s,
        )

    # -- the end ----------------------------------------------------------------------------------

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

    def _reserve(self, setup: Setup, request: WireRequest, model: str, key: VirtualKey) -> None:
        worst = worst_usd(setup, request, model)
        tokens = most_tokens(setup, request, model)
        if worst is None and key.has_budget:
            raise MissingPriceError(
                f"{model!r} has no price and the key has a budget; set it under 'prices:'"
            )
        record = self.record
        if worst is not None and record.attempts:  # some may have cost something, too
            charge(setup, record)
            worst += record.cost_usd or 0.0
        self.gateway.books.reserve(record, key, worst_usd=worst, tokens=tokens.total_tokens)

    def _close_books(self, status: int, outcome: str) -> None:
        """Settle, write the row, count and log; before the last byte goes out."""
        if self.ended:
            return
        self.ended = True
        gateway, record = self.gateway, self.record
        now = monotonic()
        record.status, record.outcome, record.seconds = status, outcome, now - record.started
        charge(gateway.setup, record)
        usage = record.usage
        if usage is not None and record.model and record.session_id is not None:
            gateway.sessions.note(
                record.key_id, record.session_id, record.model, usage.total_tokens, now
            )
        gateway.metrics.count(record)
        gateway.log.write(record.to_log(), level="info" if outcome == "ok" else "warning")
        gateway.books.finish(record)
        if gateway.learning is not None:
            gateway.learning.observe(record)
        if gateway.tracing is not None:
            gateway.tracing.observe(record)
