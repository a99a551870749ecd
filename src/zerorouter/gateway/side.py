"""Answers that come from the gateway itself: a body in, a JSON value out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zerorouter.errors import WireError, ZeroRouterError
from zerorouter.gateway.asgi import JSON, Headers, Receive, Scope, Send, send_whole
from zerorouter.gateway.failures import Refusal, refusal_of, send_failure
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.watching import ClientLeft, TimedOut, Watch, connection_of
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import dumps, loads
from zerorouter.gateway.wire.envelopes import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request as these endpoints see it.

    Attributes:
        request_id: Ours.
        path: Of the URL.
        headers: Names in lower case.
        body: What was sent.
        key: The client's, or None.
        watch: Over the request.
    """

    request_id: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
    key: VirtualKey | None
    watch: Watch

    @property
    def api(self) -> Api:
        """Whose envelopes the client reads."""
        native = b"anthropic-version" in self.headers or self.path.startswith("/v1/messages")
        return Api.MESSAGES if native else Api.CHAT

    def json(self) -> dict[str, Any]:
        """The body as an object.

        Raises:
            WireError: It is none.
        """
        try:
            told = loads(self.body)
        except ValueError as error:
            raise WireError(
                f"the body is no JSON ({error}); wanted an object", code="invalid_json"
            ) from None
        if not isinstance(told, dict):
            raise WireError("the body is no object; wanted one in JSON", code="invalid_json")
        return told


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What is answered.

    Attributes:
        value: Becomes JSON, unless it is bytes, which are JSON already.
        status: The status.
        headers: Further headers.
    """

    value: Any
    status: int = 200
    headers: Headers = field(default_factory=list)


Handler: TypeAlias = Callable[[Gateway, Asked], Awaitable[Reply]]


async def answer(
    gateway: Gateway,
    handler: Handler,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    wants_key: bool = True,
) -> None:
    """Serve a request by ``handler``; errors are answered in the client's envelope."""
    record = gateway.new_record(Api.CHAT)
    watch = Watch(asyncio.get_running_loop())
    connection = connection_of(scope)
    if connection is not None:
        connection.watch = watch
    headers = dict(scope["headers"])
    own: Headers = [(b"x-request-id", record.request_id.encode())]
    asked = Asked(
        request_id=record.request_id,
        path=scope["path"],
        headers=headers,
        body=b"",
        key=None,
        watch=watch,
    )
    failure: Failure | None = None
    retry_after_s: float | None = None
    try:
        key = gateway.authenticate(headers) if wants_key else None
        body = (
            b""
            if scope["method"] in ("GET", "HEAD")
            else await gateway.read_body(headers, receive, watch)
        )
        asked = Asked(
            request_id=record.request_id,
            path=scope["path"],
            headers=headers,
            body=body,
            key=key,
            watch=watch,
        )
        reply = await handler(gateway, asked)
        written = reply.value if isinstance(reply.value, bytes) else dumps(reply.value)
        await send_whole(send, reply.status, [JSON, *own, *reply.headers], written)
    except ClientLeft:
        return
    except TimedOut as error:
        failure = Failure(status=408, message=f"the {error.late} took too long")
    except (ZeroRouterError, Refusal) as error:
        refusal = refusal_of(error)
        failure, retry_after_s = refusal.failure, refusal.retry_after_s
        own = [*own, *refusal.headers]
    except Exception as error:
        gateway.log_error(error, record)
        failure = refusal_of(RuntimeError()).failure
    finally:
        watch.close()
        if connection is not None and connection.watch is watch:
            connection.watch = None
    if failure is not None:
        await send_failure(
            send,
            asked.api,
            failure,
            request_id=record.request_id,
            headers=own,
            retry_after_s=retry_after_s,
        )
