"""What headers say: the client's secret and wishes, what upstreams are to hear, our answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from zerorouter.gateway.asgi import Headers
from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.peek import WireRequest
from zerorouter.gateway.wire.wishes import HEADER_PREFIX, RequestWishes, wishes_from_headers

if TYPE_CHECKING:
    from zerorouter.gateway.beginnings import Begun

HEADER_BYTES: Final = HEADER_PREFIX.encode()
EVENT_STREAM: Final = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE: Final = (b"cache-control", b"no-cache")
CLOSE: Final = (b"connection", b"close")
# What a client says that the upstream should hear, beside the body.
_FORWARDED: Final = (b"anthropic-beta", b"anthropic-version", b"openai-beta")
# What an upstream says that the client should hear.
_RETURNED: Final = ("retry-after", "retry-after-ms", "openai-processing-ms")
_REQUEST_ID: Final = dict.fromkeys(Api, b"x-request-id") | {Api.MESSAGES: b"request-id"}
_KEPT: Final = 4_096


def bearer_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's secret; empty where there is none."""
    given = headers.get(b"x-api-key", b"")
    if not given:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else b""
    return given.decode("latin-1")


def wishes_of(request: WireRequest, headers: Mapping[bytes, bytes]) -> RequestWishes:
    """Wishes of the body, filled up with those of the headers."""
    told: dict[str, str] = {}
    for name, value in headers.items():
        if name.startswith(HEADER_BYTES):
            told[name.decode("latin-1")] = value.decode("latin-1")
    return request.wishes.over(wishes_from_headers(told)) if told else request.wishes


def forwarded(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Headers of a client that its upstream is to get."""
    out = {}
    for name in _FORWARDED:
        if name in headers:
            out[name.decode()] = headers[name].decode("latin-1")
    return out


@lru_cache(_KEPT)
def header_text(text: str) -> bytes:
    """``text`` as a header may carry it."""
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")


def answer_headers(record: RequestRecord, begun: Begun | None) -> Headers:
    """Our headers of an answer.

    Args:
        record: Of the request.
        begun: The upstream's answer; None where the answer is ours.
    """
    out: Headers = [
        (_REQUEST_ID[record.api], record.request_id.encode()),
        (b"x-zerorouter-attempts", b"%d" % len(record.attempts)),
        (b"x-zerorouter-overhead-ms", b"%.3f" % (record.overhead_s * 1000)),
    ]
    if record.model:
        out.append((b"x-zerorouter-model", header_text(record.model)))
    decision = record.decision
    if decision is not None:
        p_correct, cost_usd = decision.p_correct, decision.cost_usd
        if record.model != decision.model:
            weighed = decision.weighing.estimates
            if record.model in weighed.models:
                at = weighed.models.index(record.model)
                p_correct = float(weighed.p_correct[0, at])
                cost_usd = float(weighed.cost_usd[0, at])
        out += [
            (b"x-zerorouter-decision-id", decision.decision_id.encode()),
            (b"x-zerorouter-policy", header_text(decision.policy)),
            (b"x-zerorouter-profile-version", header_text(decision.space_version)),
            (b"x-zerorouter-p-correct", b"%.4f" % p_correct),
            (b"x-zerorouter-expected-cost-usd", b"%.8f" % cost_usd),
        ]
    if begun is not None:
        if begun.sent is not None and begun.sent.notes:
            out.append((b"x-zerorouter-notes", header_text("; ".join(begun.sent.notes)[:1_000])))
        for name in _RETURNED:
            if (value := begun.headers.get(name)) is not None:
                out.append((name.encode(), header_text(value)))
    return out


def content_type_of(begun: Begun) -> tuple[bytes, bytes]:
    """The type of an answer that is passed on as it came."""
    return (b"content-type", header_text(begun.content_type or "application/json"))
