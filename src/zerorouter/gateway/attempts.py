"""Calling upstreams until one begins to answer: retries, fallbacks, circuits.

Nothing has gone to the client until `Caller.call` returns: whatever fails before may be tried
again, at the same endpoint or at the next best, inside one deadline. What is tried again:

| what came | again | counts against the circuit |
| --- | --- | --- |
| 408, 409, 429 (`retries.statuses`) | yes | 429 and whatever names a Retry-After makes it rest |
| 5xx, no connection, timeouts, broken or unreadable answers, errors as first event | yes | yes |
| 401, 403, 404 | at another endpoint | yes for 401 and 403: our key is refused |
| other 4xx | no: the client's answer | no: the upstream is well |

Circuits that are open are passed over; if that leaves nothing, the least bad one is tried.
"""

from __future__ import annotations

import asyncio
import email.utils
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from zerorouter.errors import UntranslatableError
from zerorouter.gateway.dialects import Outgoing, outgoing, spoken_api
from zerorouter.gateway.health import least_bad
from zerorouter.gateway.records import AttemptRecord, RequestRecord
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.watching import ClientLeft, Late, TimedOut, Watch
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import loads
from zerorouter.gateway.wire.envelopes import MOST_ERROR_BYTES, Failure, read_error
from zerorouter.gateway.wire.peek import WireRequest
from zerorouter.gateway.wire.scanning import scanner_for
from zerorouter.serving_config import MEBIBYTE, GatewaySettings

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

_STREAM_STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_OUR_FAULT: Final = frozenset({401, 403})
_ELSEWHERE: Final = frozenset({401, 403, 404})


@dataclass(kw_only=True, slots=True)
class Begun:
    """An answer that has begun, or an error that is the client's to have.

    Attributes:
        endpoint: Who answers.
        spoken: The API it answers in.
        response: The answer; None where it was read whole.
        status: Its status.
        content_type: Its type.
        headers: Its headers.
        first: The first bytes of a stream, or the whole body.
        failure: What an error answer says; None for an answer.
        parsed: The body, where it was read whole and is JSON.
        sent: What the upstream was asked.
    """

    endpoint: Endpoint
    spoken: Api
    response: aiohttp.ClientResponse | None
    status: int
    content_type: str
    headers: Mapping[str, str]
    first: bytes
    failure: Failure | None = None
    parsed: dict[str, Any] | None = None
    sent: Outgoing | None = None


class AttemptFailed(Exception):  # noqa: N818  # one try, not yet a failure
    """One try came to nothing.

    Attributes:
        outcome: The attempt's, as `AttemptRecord` has it.
        failure: What the client hears if nothing else succeeds.
        again: Whether the same endpoint may be tried again.
        retry_after_s: What the upstream asked for.
    """

    def __init__(
        self, outcome: str, failure: Failure, *, again: bool, retry_after_s: float | None = None
    ) -> None:
        self.outcome = outcome
        self.failure = failure
        self.again = again
        self.retry_after_s = retry_after_s
        super().__init__(failure.message)


class NothingAnswered(Exception):  # noqa: N818
    """No upstream has answered.

    Attributes:
        failure: What the client hears: of the last attempt.
        retry_after_s: When it is worth another try.
    """

    def __init__(self, failure: Failure, retry_after_s: float | None) -> None:
        self.failure = failure
        self.retry_after_s = retry_after_s
        super().__init__(failure.message)


class Caller:
    """Calls upstreams over pooled connections.

    Args:
        session: The pool.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._urls: dict[str, URL] = {}

    async def call(
        self,
        request: WireRequest,
        endpoints: Iterator[Endpoint],
        *,
        routed: bool,
        settings: GatewaySettings,
        record: RequestRecord,
        watch: Watch,
        headers: Mapping[str, str],
        deadline: float,
        before: Callable[[Endpoint], None],
        wants_usage: bool = False,
    ) -> Begun:
        """The first answer that begins.

        Args:
            request: What is asked.
            endpoints: Where, best first; read only as far as needed.
            routed: Whether other models may serve.
            settings: The gateway's.
            record: Gets a row per attempt.
            watch: Over the request.
            headers: Further headers for the upstream.
            deadline: On the monotonic clock.
            before: Called before each attempt; what it raises ends the request.
            wants_usage: Whether a stream's usage must be known.

        Raises:
            NothingAnswered: All came to nothing.
            ClientLeft: The client has gone.
        """
        retries = settings.retries
        most = retries.per_model if routed else retries.attempts
        tries: dict[int, tuple[Endpoint, int]] = {}
        passed_over: list[Endpoint] = []
        last: AttemptFailed | None = None
        unspoken: UntranslatableError | None = None
        while len(record.attempts) < retries.attempts:
            endpoint = self._next(endpoints, request.api, passed_over)
            if endpoint is None and last is None and passed_over:
                endpoint = least_bad([(one, one.circuit) for one in passed_over])
            if endpoint is None:
                if last is None:
                    break
                endpoint = await self._once_more(tries, most, settings, watch, deadline)
                if endpoint is None:
                    break
            before(endpoint)
            try:
                return await self._attempt(
                    request, endpoint, settings, record, watch, headers, deadline, wants_usage
                )
            except UntranslatableError as error:
                unspoken = error
                continue
            except AttemptFailed as failed:
                last = failed
                count = tries.get(id(endpoint), (endpoint, 0))[1]
                tries[id(endpoint)] = (endpoint, count + 1 if failed.again else most)
                if monotonic() >= deadline:
                    break
        if last is None:
            if unspoken is not None:
                raise unspoken
            raise NothingAnswered(
                Failure(
                    status=404,
                    message=f"no upstream serves {request.model!r} by this API",
                    code="model_not_found",
                    param="model",
                ),
                None,
            )
        now = monotonic()
        waits = [one.circuit.rest_until - now for one, _ in tries.values()]
        wait = min((w for w in waits if w > 0), default=None)
        raise NothingAnswered(last.failure, wait)

    async def ask(self, url: str, body: bytes, headers: Mapping[str, str]) -> bytes | None:
        """One call without retries; the JSON of a 200, else None."""
        import aiohttp

        try:
            async with self._session.post(
                self._url(url), data=body, headers=headers, allow_redirects=False
            ) as response:
                raw = await _read_at_most(response, MOST_ERROR_BYTES)
                if raw is None:
                    response.close()
                return raw if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None

    def _next(
        self, endpoints: Iterator[Endpoint], api: Api, passed_over: list[Endpoint]
    ) -> Endpoint | None:
        """The next endpoint whose circuit admits a call."""
        now = monotonic()
        for endpoint in endpoints:
            if spoken_api(api, endpoint) is None:
                continue
            if endpoint.circuit.admits(now):
                return endpoint
            passed_over.append(endpoint)
        return None

    async def _once_more(
        self,
        tries: Mapping[int, tuple[Endpoint, int]],
        most: int,
        settings: GatewaySettings,
        watch: Watch,
        deadline: float,
    ) -> Endpoint | None:
        """Of the endpoints tried already the one that may soonest be tried again, after waiting."""
        retries = settings.retries
        left = [(one, n) for one, n in tries.values() if n < most]
        if not left:
            return None
        endpoint, n = min(left, key=lambda pair: (pair[0].circuit.rest_until, pair[1]))
        now = monotonic()
        asked = endpoint.circuit.rest_until - now
        wait = max(asked, retries.backoff_s * 2 ** (n - 1))
        if asked > retries.longest_wait_s or now + wait >= deadline:
            return None
        if wait > 0:
            watch.limit(deadline, Late.DEADLINE)
            try:
                with watch:
                    await asyncio.sleep(wait)
            except TimedOut:
                return None
        return endpoint

    async def _attempt(
        self,
        request: WireRequest,
        endpoint: Endpoint,
        settings: GatewaySettings,
        record: RequestRecord,
        watch: Watch,
        headers: Mapping[str, str],
        deadline: float,
        wants_usage: bool,
    ) -> Begun:
        spoken = spoken_api(request.api, endpoint)
        assert spoken is not None
        sent = outgoing(request, spoken, endpoint, wants_usage=wants_usage)
        circuit, upstream = endpoint.circuit, endpoint.upstream
        began = monotonic()
        attempt = AttemptRecord(
            upstream=upstream.name,
            model=endpoint.model,
            served_as=endpoint.served_as,
            started_s=began - record.started,
        )
        record.attempts.append(attempt)
        circuit.begin(began)
        limit = min(began + settings.timeouts.first_byte_s, deadline)
        watch.limit(limit, Late.DEADLINE if limit == deadline else Late.FIRST_BYTE)
        response: aiohttp.ClientResponse | None = None
        try:
            with watch:
                response = await self._session.post(
                    self._url(upstream.urls[spoken]),
                    # A large body goes out in pieces: one write of it would hold the loop up.
                    data=sent.body if len(sent.body) < MEBIBYTE else io.BytesIO(sent.body),
                    headers={**upstream.headers, **headers},
                    allow_redirects=False,
                )
                attempt.status = response.status
                begun = await self._begin(request, endpoint, spoken, response, settings)
        except BaseException as error:
            if response is not None:
                response.close()
            attempt.seconds = monotonic() - began
            failed = self._failed(error, attempt, endpoint)
            if failed is None:
                circuit.abandon()
                raise
            raise failed from error
        attempt.seconds = monotonic() - began
        attempt.outcome = "ok" if begun.failure is None else "status"
        begun.sent = sent
        circuit.succeed()
        return begun

    def _failed(
        self, error: BaseException, attempt: AttemptRecord, endpoint: Endpoint
    ) -> AttemptFailed | None:
        """What an error means for the attempt, its circuit noted; None for what is none of it."""
        import aiohttp

        now, circuit = monotonic(), endpoint.circuit
        name = endpoint.upstream.name
        if isinstance(error, ClientLeft):
            attempt.outcome = "left"
            return None
        if isinstance(error, AttemptFailed):
            attempt.outcome = error.outcome
            attempt.retry_after_s = rest = error.retry_after_s
            status = attempt.status or 0
            if rest is None and status == 429:
                rest = 1.0
            if rest is not None and status in (408, 409, 429, 503, 529):
                circuit.rest(now, rest)
            elif status >= 500 or status in _OUR_FAULT or status == 200:
                circuit.fail(now)
            else:
                circuit.abandon()
            return error
        if isinstance(error, TimedOut):
            attempt.outcome = error.late.value
            circuit.fail(now)
            told = {
                Late.FIRST_BYTE: f"{name} did not begin to answer in time",
                Late.DEADLINE: "the request's deadline passed",
            }.get(error.late, f"{name} took too long")
            return _attempt_failed(attempt.outcome, 504, told, again=error.late != Late.DEADLINE)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            attempt.outcome = "connect"
            circuit.fail(now)
            return _attempt_failed("connect", 504, f"{name} could not be reached in time")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientSSLError):
            attempt.outcome = "connect"
            circuit.fail(now)
            return _attempt_failed("connect", 502, f"{name} cannot be reached")
        if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
            attempt.outcome = "broken"
            circuit.fail(now)
            return _attempt_failed("broken", 502, f"{name} broke the connection off")
        attempt.outcome = "left" if isinstance(error, asyncio.CancelledError) else "internal"
        return None

    async def _begin(
        self,
        request: WireRequest,
        endpoint: Endpoint,
        spoken: Api,
        response: aiohttp.ClientResponse,
        settings: GatewaySettings,
    ) -> Begun:
        """Read as much as tells whether this is an answer: the first chunk, or all of it."""
        status, content_type = response.status, response.headers.get("content-type", "")
        begun = Begun(
            endpoint=endpoint,
            spoken=spoken,
            response=None,
            status=status,
            content_type=content_type,
            headers=response.headers,
            first=b"",
        )
        if status >= 300:
            return await self._refused(begun, response, settings)
        if request.stream and content_type.startswith("text/event-stream"):
            first = await response.content.readany()
            _check_stream(endpoint.upstream.name, spoken, first)
            begun.first, begun.response = first, response
            return begun
        most = int(settings.limits.answer_mib * MEBIBYTE)
        body = await _read_at_most(response, most)
        if body is None:
            response.close()
            raise _attempt_failed(
                "too_long", 502, f"{endpoint.upstream.name} answered with more than {most} bytes"
            )
        if not body or content_type.startswith(("application/json", "text/")):
            begun.parsed = _parsed(endpoint.upstream.name, body)
        begun.first = body
        return begun

    async def _refused(
        self, begun: Begun, response: aiohttp.ClientResponse, settings: GatewaySettings
    ) -> Begun:
        """An upstream's error: the client's to have, or one more try."""
        status, name = begun.status, begun.endpoint.upstream.name
        raw = await _read_at_most(response, MOST_ERROR_BYTES)
        if raw is None:
            response.close()
        failure = read_error(status, raw or b"")
        wait = retry_after_s(response.headers)
        if status < 400:  # we follow no redirects: they would carry the key elsewhere
            failure = Failure(status=502, message=f"{name} redirects ({status}), wanted an answer")
            raise AttemptFailed("status", failure, again=False)
        if status in _OUR_FAULT:
            failure = Failure(
                status=502,
                message=f"{name} refused the gateway's key ({status})",
                code="upstream_refused_key",
            )
            raise AttemptFailed("status", failure, again=False, retry_after_s=wait)
        if status >= 500 or status in settings.retries.statuses:
            quota = failure.reason == "quota"
            raise AttemptFailed("status", failure, again=not quota, retry_after_s=wait)
        if status in _ELSEWHERE:
            raise AttemptFailed("status", failure, again=False, retry_after_s=wait)
        begun.failure, begun.first = failure, raw or b""
        return begun

    def _url(self, text: str) -> URL:
        found = self._urls.get(text)
        if found is None:
            from yarl import URL

            found = self._urls[text] = URL(text, encoded=True)
        return found


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that an upstream asks to be left alone: ``retry-after-ms``, seconds or a date."""
    milliseconds, told = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds is not None:
            seconds = float(milliseconds) / 1000
        elif told is None:
            return None
        elif told.strip()[:1].isdigit():
            seconds = float(told)
        else:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else None


def _attempt_failed(
    outcome: str, status: int, message: str, *, again: bool = True
) -> AttemptFailed:
    return AttemptFailed(outcome, Failure(status=status, message=message), again=again)


async def _read_at_most(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The whole body; None if it is longer than ``most``."""
    length = response.content_length
    if length is not None and length > most:
        return None
    parts: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > most:
            return None
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parsed(name: str, body: bytes) -> dict[str, Any]:
    """The answer, parsed; refuse an answer that is no JSON object: a client would choke on it."""
    try:
        told = loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        found = "nothing" if not body else "something that is no JSON object"
        raise _attempt_failed("garbage", 502, f"{name} answered 200 with {found}")
    return told


def _check_stream(name: str, spoken: Api, first: bytes) -> None:
    """Refuse a stream that begins with nothing, with garbage or with an error."""
    if not first:
        raise _attempt_failed("broken", 502, f"{name} ended the stream before it began")
    start = first.lstrip(b"\xef\xbb\xbf\r\n")[:8]
    if start and not any(start.startswith(s[: len(start)]) for s in _STREAM_STARTS):
        raise _attempt_failed("garbage", 502, f"{name} sent a stream that is no event stream")
    if b'"error"' not in first:
        return
    scanner = scanner_for(spoken)
    scanner.feed(first)
    if scanner.facts.error is not None and not scanner.facts.has_content:
        error = scanner.facts.error
        again = error.status >= 500 or error.status in (408, 409, 429)
        raise AttemptFailed("stream_error", error, again=again)
