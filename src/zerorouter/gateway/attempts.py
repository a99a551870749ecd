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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

from zerorouter.errors import UntranslatableError
from zerorouter.gateway.beginnings import OUR_FAULT, AttemptFailed, Begun, begin, read_at_most
from zerorouter.gateway.connections import Answer, Connections
from zerorouter.gateway.dialects import outgoing, spoken_api
from zerorouter.gateway.health import least_bad
from zerorouter.gateway.records import AttemptRecord, RequestRecord
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.watching import ClientLeft, Late, TimedOut, Watch
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.envelopes import MOST_ERROR_BYTES, Failure
from zerorouter.gateway.wire.peek import WireRequest
from zerorouter.serving_config import GatewaySettings


@dataclass(kw_only=True, slots=True)
class Call:
    """What is to be asked, and within what bounds.

    Attributes:
        request: The client's.
        routed: Whether other models may serve.
        settings: The gateway's.
        record: Gets a row per attempt.
        watch: Over the request.
        headers: Further headers for the upstream.
        deadline: On the monotonic clock.
        before: Called before each attempt; what it raises ends the request.
        wants_usage: Whether a stream's usage must be known.
    """

    request: WireRequest
    routed: bool
    settings: GatewaySettings
    record: RequestRecord
    watch: Watch
    headers: Mapping[str, str]
    deadline: float
    before: Callable[[Endpoint], None]
    wants_usage: bool = False


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
    """Calls upstreams.

    Args:
        connections: To them.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def call(self, call: Call, endpoints: Iterator[Endpoint]) -> Begun:
        """The first answer that begins.

        Args:
            call: What is asked.
            endpoints: Where, best first; read only as far as needed.

        Raises:
            NothingAnswered: All came to nothing.
            ClientLeft: The client has gone.
        """
        retries, attempts = call.settings.retries, call.record.attempts
        most = retries.per_model if call.routed else retries.attempts
        tries: dict[int, tuple[Endpoint, int]] = {}
        passed_over: list[Endpoint] = []
        last: AttemptFailed | None = None
        unspoken: UntranslatableError | None = None
        while len(attempts) < retries.attempts:
            endpoint = _next(endpoints, call.request.api, passed_over)
            if endpoint is None and last is None and passed_over:
                endpoint = least_bad([(one, one.circuit) for one in passed_over])
            if endpoint is None:
                if last is None:
                    break
                endpoint = await _once_more(call, tries, most)
                if endpoint is None:
                    break
            call.before(endpoint)
            try:
                return await self._attempt(call, endpoint)
            except UntranslatableError as error:
                unspoken = error
                continue
            except AttemptFailed as failed:
                last = failed
                count = tries.get(id(endpoint), (endpoint, 0))[1]
                tries[id(endpoint)] = (endpoint, count + 1 if failed.again else most)
                if monotonic() >= call.deadline:
                    break
        if last is None:
            if unspoken is not None:
                raise unspoken
            raise NothingAnswered(
                Failure(
                    status=404,
                    message=f"no upstream serves {call.request.model!r} by this API",
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

        response: Answer | None = None
        try:
            response = await self._connections.post(url, body, headers)
            raw = await read_at_most(response, MOST_ERROR_BYTES)
            return raw if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None
        finally:
            if response is not None:
                response.close()  # of one that was read to its end nothing is left to be closed

    async def _attempt(self, call: Call, endpoint: Endpoint) -> Begun:
        request, record, watch = call.request, call.record, call.watch
        circuit, upstream = endpoint.circuit, endpoint.upstream
        spoken = spoken_api(request.api, endpoint)
        assert spoken is not None
        sent = outgoing(request, spoken, endpoint, wants_usage=call.wants_usage)
        began = monotonic()
        attempt = AttemptRecord(
            upstream=upstream.name,
            model=endpoint.model,
            served_as=endpoint.served_as,
            started_s=began - record.started,
        )
        record.attempts.append(attempt)
        circuit.begin(began)
        limit = began + call.settings.timeouts.first_byte_s
        if limit < call.deadline:
            watch.limit(limit, Late.FIRST_BYTE)
        else:
            watch.limit(call.deadline, Late.DEADLINE)
        headers = {**upstream.headers, **call.headers} if call.headers else upstream.headers
        response: Answer | None = None
        try:
            with watch:
                response = await self._connections.post(upstream.urls[spoken], sent.body, headers)
                attempt.status = response.status
                begun = await begin(
                    endpoint,
                    spoken,
                    sent,
                    response,
                    stream=request.stream,
                    include_usage=request.include_usage
                    or sent.has_extra_usage
                    or spoken is not request.api,  # a translation always asks for it
                    settings=call.settings,
                )
        except BaseException as error:
            if response is not None:
                response.close()
            attempt.seconds = monotonic() - began
            failed = _failed(error, attempt, endpoint)
            if failed is None:
                circuit.abandon()
                raise
            raise failed from error
        attempt.seconds = monotonic() - began
        attempt.outcome = "ok" if begun.failure is None else "status"
        circuit.succeed()
        return begun


def _next(endpoints: Iterator[Endpoint], api: Api, passed_over: list[Endpoint]) -> Endpoint | None:
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
    call: Call, tries: Mapping[int, tuple[Endpoint, int]], most: int
) -> Endpoint | None:
    """Of the endpoints tried already the one that may soonest be tried again, after waiting."""
    retries = call.settings.retries
    left = [(one, n) for one, n in tries.values() if n < most]
    if not left:
        return None
    endpoint, n = min(left, key=lambda pair: (pair[0].circuit.rest_until, pair[1]))
    now = monotonic()
    asked = endpoint.circuit.rest_until - now
    wait = max(asked, retries.backoff_s * 2 ** (n - 1))
    if asked > retries.longest_wait_s or now + wait >= call.deadline:
        return None
    if wait > 0:
        call.watch.limit(call.deadline, Late.DEADLINE)
        try:
            with call.watch:
                await asyncio.sleep(wait)
        except TimedOut:
            return None
    return endpoint


def _failed(
    error: BaseException, attempt: AttemptRecord, endpoint: Endpoint
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
        attempt.usage = error.usage
        attempt.retry_after_s = rest = error.retry_after_s
        status = attempt.status or 0
        if rest is None and status == 429:
            rest = 1.0
        if rest is not None and status in (408, 409, 429, 503, 529):
            circuit.rest(now, rest)
        elif status >= 500 or status in OUR_FAULT or status == 200:
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
        return AttemptFailed.of(attempt.outcome, 504, told, again=error.late != Late.DEADLINE)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        attempt.outcome = "connect"
        circuit.fail(now)
        return AttemptFailed.of("connect", 504, f"{name} could not be reached in time")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientSSLError):
        attempt.outcome = "connect"
        circuit.fail(now)
        return AttemptFailed.of("connect", 502, f"{name} cannot be reached")
    if isinstance(error, aiohttp.ClientError | OSError | TimeoutError):
        attempt.outcome = "broken"
        circuit.fail(now)
        return AttemptFailed.of("broken", 502, f"{name} broke the connection off")
    attempt.outcome = "left" if isinstance(error, asyncio.CancelledError) else "internal"
    return None
