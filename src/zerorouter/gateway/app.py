"""The gateway as an ASGI application: one table from paths to what serves them.

Plain ASGI: a framework's router, middlewares and response objects would cost a request more than
everything else here that is not routing (docs/gateway.md has the measurement).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from zerorouter.gateway.admin import Admin
from zerorouter.gateway.asgi import Headers, Receive, Scope, Send, send_whole
from zerorouter.gateway.deciding import decide_batch, decide_one, take_feedback
from zerorouter.gateway.describing import describe
from zerorouter.gateway.failures import send_failure
from zerorouter.gateway.listing import list_models, show_model
from zerorouter.gateway.metrics import CONTENT_TYPE
from zerorouter.gateway.probing import health, ready
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.side import Asked, Reply, answer
from zerorouter.gateway.wire.apis import PATHS, Api
from zerorouter.gateway.wire.envelopes import Failure

Handler: TypeAlias = Callable[[Gateway, Asked], Awaitable[Reply]]

PASSED_ON: Final = {path: api for api, path in PATHS.items()}
"""Paths of requests that go to upstreams."""

ROUTES: Final[dict[str, dict[str, Handler]]] = {
    "/v1/models": {"GET": list_models},
    "/v1/route": {"POST": decide_one},
    "/v1/route/batch": {"POST": decide_batch},
    "/v1/feedback": {"POST": take_feedback},
}
OPEN: Final[dict[str, Handler]] = {
    "/health": health,
    "/ready": ready,
    "/openapi.json": describe,
}
"""Paths that want no key."""


class GatewayApp:
    """The application.

    Args:
        gateway: Serves requests.
        admin: Serves ``/admin``; None where that has a port of its own.
    """

    def __init__(self, gateway: Gateway, admin: Admin | None) -> None:
        from zerorouter.gateway.counting import count_tokens

        self.gateway = gateway
        self.admin = admin
        self._routes: dict[str, dict[str, Handler]] = {
            **ROUTES,
            "/v1/messages/count_tokens": {"POST": count_tokens},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._lifespan(receive, send)
                return
            raise RuntimeError(f"the gateway serves HTTP, not {scope['type']}")
        path, method = scope["path"], scope["method"]
        api = PASSED_ON.get(path)
        if api is not None and method == "POST":
            await self.gateway.serve(api, scope, receive, send)
            return
        handler = OPEN.get(path)
        if handler is not None and method in ("GET", "HEAD"):
            await answer(self.gateway, handler, scope, receive, send, wants_key=False)
        elif path == "/metrics" and method == "GET":
            scrape = self.gateway.scrape
            text = self.gateway.metrics.render() if scrape is None else await scrape()
            await send_whole(send, 200, [(b"content-type", CONTENT_TYPE)], text)
        elif path in self._routes and method in self._routes[path]:
            await answer(self.gateway, self._routes[path][method], scope, receive, send)
        elif path.startswith("/v1/models/") and method == "GET":
            await answer(self.gateway, show_model, scope, receive, send)
        elif self.admin is not None and path.startswith("/admin"):
            await self.admin(scope, receive, send)
        else:
            known = set(self._routes.get(path, ())) | ({"POST"} if api is not None else set())
            if path in OPEN or path == "/metrics" or path.startswith("/v1/models/"):
                known = {"GET"}
            await _nothing_here(scope, send, sorted(known))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.gateway.start()
                except Exception as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.gateway.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _nothing_here(scope: Scope, send: Send, allowed: list[str]) -> None:
    path, method = scope["path"], scope["method"]
    headers: Headers = []
    if allowed:
        told, status = f"{method} {path[:200]}: wanted {' or '.join(allowed)}", 405
        headers.append((b"allow", ", ".join(allowed).encode()))
    else:
        told, status = f"{method} {path[:200]}: there is nothing here", 404
    api = Api.MESSAGES if path.startswith("/v1/messages") else Api.CHAT
    await send_failure(
        send, api, Failure(status=status, message=told), request_id="", headers=headers
    )
