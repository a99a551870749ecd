"""How an upstream's answer begins: well, or in one of the ways that end the attempt.

Of a stream the first chunk is read, of anything else all of it; nothing goes to the client before.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zerorouter.gateway.connections import Answer
from zerorouter.gateway.dialects import Outgoing
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import loads
from zerorouter.gateway.wire.envelopes import MOST_ERROR_BYTES, Failure, read_error
from zerorouter.gateway.wire.scanning import scanner_for
from zerorouter.gateway.wire.usage import TokenUsage
from zerorouter.serving_config import MEBIBYTE, GatewaySettings

OUR_FAULT: Final = frozenset({401, 403})
"""Statuses that refuse the gateway's own key."""
_ELSEWHERE: Final = frozenset({401, 403, 404})
_STREAM_STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


@dataclass(kw_only=True, slots=True)
class Begun:
    """An answer that has begun, or an error that is the client's to have.

    Attributes:
        endpoint: Who answers.
        spoken: The API it answers in.
        sent: What the upstream was asked.
        response: The answer; None where it was read whole.
        status: Its status.
        content_type: Its type.
        headers: Its headers.
        first: The first bytes of a stream, or the whole body.
        failure: What an error answer says; None for an answer.
        parsed: The body, where it was read whole and is JSON.
    """

    endpoint: Endpoint
    spoken: Api
    sent: Outgoing
    status: int
    content_type: str
    headers: Mapping[str, str]
    first: bytes = b""
    response: Answer | None = None
    failure: Failure | None = None
    parsed: dict[str, Any] | None = None


class AttemptFailed(Exception):  # noqa: N818  # one try, not yet a failure
    """One try came to nothing.

    Attributes:
        outcome: The attempt's, as `AttemptRecord` has it.
        failure: What the client hears if nothing else succeeds.
        again: Whether the same endpoint may be tried again.
        retry_after_s: What the upstream asked for.
        usage: Tokens that it took all the same, where the upstream told.
    """

    def __init__(
        self,
        outcome: str,
        failure: Failure,
        *,
        again: bool,
        retry_after_s: float | None = None,
        usage: TokenUsage | None = None,
    ) -> None:
        self.outcome = outcome
        self.failure = failure
        self.again = again
        self.retry_after_s = retry_after_s
        self.usage = usage
        super().__init__(failure.message)

    @classmethod
    def of(cls, outcome: str, status: int, message: str, *, again: bool = True) -> AttemptFailed:
        """One in words."""
        return cls(outcome, Failure(status=status, message=message), again=again)


async def begin(
    endpoint: Endpoint,
    spoken: Api,
    sent: Outgoing,
    response: Answer,
    *,
    stream: bool,
    include_usage: bool,
    settings: GatewaySettings,
) -> Begun:
    """Read as much as tells whether this is an answer.

    Args:
        endpoint: Who answers.
        spoken: The API it answers in.
        sent: What it was asked.
        response: The answer, its head read.
        stream: Whether a stream was asked for.
        include_usage: Whether a chat stream was to end with its usage.
        settings: The gateway's.

    Raises:
        AttemptFailed: It is none, and the client need not hear of it yet.
    """
    name, headers = endpoint.upstream.name, response.headers
    begun = Begun(
        endpoint=endpoint,
        spoken=spoken,
        sent=sent,
        status=response.status,
        content_type=headers.get("content-type", ""),
        headers=headers,
    )
    if begun.status >= 300:
        return await _refused(begun, response, settings)
    if stream and begun.content_type.startswith("text/event-stream"):
        first = await response.content.readany()
        _check_stream(name, spoken, first)
        begun.first, begun.response = first, response
        return begun
    most = int(settings.limits.answer_mib * MEBIBYTE)
    body = await read_at_most(response, most)
    if body is None:
        response.close()
        raise AttemptFailed.of("too_long", 502, f"{name} answered with more than {most} bytes")
    if not body or begun.content_type.startswith(("application/json", "text/")):
        begun.parsed = _parsed(name, body)
    if stream and begun.parsed is not None:
        return _told_as_stream(begun, body, response, include_usage)
    begun.first = body
    return begun


def _told_as_stream(begun: Begun, body: bytes, response: Answer, include_usage: bool) -> Begun:
    """A whole answer where a stream was asked for: its events, with nothing to come after them."""
    from zerorouter.gateway.wire.whole_as_stream import whole_as_stream

    told = whole_as_stream(begun.spoken, begun.parsed or {}, include_usage=include_usage)
    if told is None:
        begun.first = body
    else:
        begun.first, begun.response, begun.parsed = told, response, None
    return begun


async def _refused(begun: Begun, response: Answer, settings: GatewaySettings) -> Begun:
    """An upstream's error: the client's to have, or one more try."""
    status, name = begun.status, begun.endpoint.upstream.name
    raw = await read_at_most(response, MOST_ERROR_BYTES)
    if raw is None:
        response.close()
    failure = read_error(status, raw or b"")
    wait = retry_after_s(response.headers)
    if status < 400:  # we follow no redirects: they would carry the key elsewhere
        failure = Failure(status=502, message=f"{name} redirects ({status}), wanted an answer")
        raise AttemptFailed("status", failure, again=False)
    if status in OUR_FAULT:
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


async def read_at_most(response: Answer, most: int) -> bytes | None:
    """The whole body; None if it is longer than ``most``."""
    length = response.headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        return None
    readany = response.content.readany
    first = await readany()
    size = len(first)
    parts = [first]
    while size <= most and (chunk := await readany()):
        size += len(chunk)
        parts.append(chunk)
    if size > most:
        return None
    return first if len(parts) == 1 else b"".join(parts)


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


def _parsed(name: str, body: bytes) -> dict[str, Any]:
    """The answer, parsed; refuse an answer that is no JSON object: a client would choke on it."""
    try:
        told = loads(body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        found = "nothing" if not body else "something that is no JSON object"
        raise AttemptFailed.of("garbage", 502, f"{name} answered 200 with {found}")
    return told


def _check_stream(name: str, spoken: Api, first: bytes) -> None:
    """Refuse a stream that begins with nothing, with garbage or with an error."""
    if not first:
        raise AttemptFailed.of("broken", 502, f"{name} ended the stream before it began")
    start = first.lstrip(b"\xef\xbb\xbf\r\n")[:8]
    if start and not any(start.startswith(s[: len(start)]) for s in _STREAM_STARTS):
        raise AttemptFailed.of("garbage", 502, f"{name} sent a stream that is no event stream")
    if b'"error"' not in first:
        return
    scanner = scanner_for(spoken)
    scanner.feed(first)
    if scanner.facts.error is not None and not scanner.facts.has_content:
        error = scanner.facts.error
        again = error.status >= 500 or error.status in (408, 409, 429)
        raise AttemptFailed("stream_error", error, again=again, usage=scanner.facts.usage)
