"""``/admin``: what is served, and reading the configuration again.

It has a token of its own, and a port of its own where the configuration names one. The token stands
in the environment variable that ``gateway.admin_token_env`` names; without it there is no
``/admin`` at all.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from zerorouter.errors import ConfigError
from zerorouter.gateway.asgi import Receive, Scope, Send
from zerorouter.gateway.failures import Refusal
from zerorouter.gateway.health import State
from zerorouter.gateway.serving import Gateway, bearer_of
from zerorouter.gateway.side import Asked, Handler, Reply, answer


class Admin:
    """The application under ``/admin``.

    Args:
        gateway: What is administered.
        token: What callers have to show; None closes it.
        reload: Reads the configuration again; raises `ConfigError` and keeps the old one.
    """

    def __init__(
        self, gateway: Gateway, token: str | None, reload: Callable[[], Awaitable[None]]
    ) -> None:
        self.gateway = gateway
        self._token = None if token is None else token.encode()
        self._reload = reload
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/admin/models"): self._models,
            ("GET", "/admin/upstreams"): self._upstreams,
            ("GET", "/admin/prices"): self._prices,
            ("GET", "/admin/config"): self._config,
            ("POST", "/admin/reload"): self._take_again,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await answer(
            self.gateway, self._serve(scope["method"]), scope, receive, send, wants_key=False
        )

    def _serve(self, method: str) -> Handler:
        async def serve(gateway: Gateway, asked: Asked) -> Reply:
            self._check(asked)
            handler = self._routes.get((method, asked.path.rstrip("/")))
            if handler is None:
                known = ", ".join(f"{m} {p}" for m, p in self._routes)
                raise Refusal.of(
                    404, f"{method} {asked.path[:200]}: there is nothing here; {known}"
                )
            return await handler(gateway, asked)

        return serve

    def _check(self, asked: Asked) -> None:
        if self._token is None:
            raise Refusal.of(
                404,
                "there is no /admin: set the variable "
                f"{self.gateway.setup.settings.admin_token_env} to a token and start again",
            )
        given = bearer_of(asked.headers).encode("latin-1", "replace")
        if not hmac.compare_digest(given, self._token):
            raise Refusal.of(401, "wanted the admin token, as Bearer token", code="invalid_api_key")

    async def _models(self, gateway: Gateway, asked: Asked) -> Reply:
        del asked
        setup = gateway.setup
        return Reply(
            value={
                "routed": list(setup.routed),
                "concrete": {
                    name: [
                        {"upstream": e.upstream.name, "served_as": e.served_as}
                        for e in setup.fleet.endpoints(name)
                    ]
                    for name in setup.concrete_names
                },
            }
        )

    async def _upstreams(self, gateway: Gateway, asked: Asked) -> Reply:
        del asked
        now, fleet = monotonic(), gateway.setup.fleet
        circuits: dict[str, list[dict[str, Any]]] = {name: [] for name in fleet.upstreams}
        for (upstream, model), circuit in fleet.circuits().items():
            if upstream in circuits:
                circuits[upstream].append(
                    {
                        "model": model,
                        "state": State(circuit.state(now)).name.lower(),
                        "failures": circuit.failures,
                        "ready_in_s": round(max(circuit.ready_at - now, 0), 3),
                    }
                )
        return Reply(
            value={
                name: {
                    "base_url": one.settings.base_url,
                    "api": one.settings.api,
                    "api_key_env": one.settings.api_key_env,
                    "circuits": circuits[name],
                }
                for name, one in fleet.upstreams.items()
            }
        )

    async def _prices(self, gateway: Gateway, asked: Asked) -> Reply:
        del asked
        setup = gateway.setup
        prices = {name: setup.price(name) for name in setup.concrete_names}
        return Reply(value={n: None if p is None else p.to_dict() for n, p in prices.items()})

    async def _config(self, gateway: Gateway, asked: Asked) -> Reply:
        del asked
        setup = gateway.setup
        return Reply(value={"version": setup.version, "config": setup.config.to_dict()})

    async def _take_again(self, gateway: Gateway, asked: Asked) -> Reply:
        del asked
        try:
            await self._reload()
        except ConfigError as error:
            raise Refusal.of(409, f"the configuration stays as it was: {error}") from error
        return Reply(value={"version": gateway.setup.version})
