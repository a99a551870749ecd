"""``POST /v1/messages/count_tokens``: by the upstream where it can count, else estimated.

An estimate is marked: ``x-zerorouter-token-count: estimated``.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from zerorouter.gateway.heads import forwarded, wishes_of
from zerorouter.gateway.routing import plan
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.side import Asked, Reply
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.watching import Late, TimedOut
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.count_tokens import count_tokens as estimate
from zerorouter.gateway.wire.peek import WireRequest, peek, with_model

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_WAIT_S = 10.0
"""For an upstream's count; after it the estimate is given."""


async def count_tokens(gateway: Gateway, asked: Asked) -> Reply:
    """Tokens of a message that is not sent."""
    request = peek(asked.body, Api.MESSAGES, counting=True)
    setup = gateway.setup
    found = plan(setup, request, wishes_of(request, asked.headers), asked.key, None)
    for endpoint in found.first:
        if endpoint.upstream.count_tokens_url is None:
            continue
        counted = await _ask(gateway, endpoint, request, asked)
        if counted is not None:
            return Reply(value=counted, headers=[(b"x-zerorouter-token-count", b"upstream")])
    return Reply(
        value={"input_tokens": estimate(request.body)},
        headers=[(b"x-zerorouter-token-count", b"estimated")],
    )


async def _ask(
    gateway: Gateway, endpoint: Endpoint, request: WireRequest, asked: Asked
) -> bytes | None:
    """The upstream's answer; None where it gives none that is of use."""
    headers: Mapping[str, str] = {**endpoint.upstream.headers, **forwarded(asked.headers)}
    url = endpoint.upstream.count_tokens_url
    assert url is not None
    body = with_model(request, endpoint.served_as)
    asked.watch.limit(monotonic() + LONGEST_WAIT_S, Late.FIRST_BYTE)
    try:
        with asked.watch:
            return await gateway.caller.ask(url, body, headers)
    except TimedOut:
        return None
