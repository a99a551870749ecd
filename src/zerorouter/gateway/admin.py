"""``/admin``: models, prices, keys, budgets, onboarding jobs, versions of what was learned.

It has a token of its own, and a port of its own where the configuration names one. The token stands
in the environment variable that ``gateway.admin_token_env`` names; without it there is no
``/admin`` at all. Every change is in the ledger before it is acknowledged, and holds for all
workers.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias

from zerorouter.errors import (
    BooksError,
    ConfigError,
    InputError,
    MissingPriceError,
    UnknownNameError,
)
from zerorouter.gateway import administering
from zerorouter.gateway.asgi import Receive, Scope, Send
from zerorouter.gateway.failures import Refusal
from zerorouter.gateway.heads import bearer_of
from zerorouter.gateway.health import State
from zerorouter.gateway.jobs import Jobs
from zerorouter.gateway.keys import KeyStore
from zerorouter.gateway.learning.service import LearningService
from zerorouter.gateway.owners import books_dir
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.side import Asked, Handler, Reply, answer
from zerorouter.gateway.switches import Switches

PREFIX: Final = "/admin"
_APPLIED_S: Final = 10.0  # that a change of what was learned is waited for

Act: TypeAlias = Callable[[Asked, str], Awaitable[Reply]]


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
        self._jobs: Jobs | None = None
        # Method, first part, last part; what stands between is a name, which may have slashes.
        self._routes: dict[tuple[str, str, str], Act] = {
            ("GET", "models", ""): self._models,
            ("POST", "models", "enable"): partial(self._switch, on=True),
            ("POST", "models", "disable"): partial(self._switch, on=False),
            ("POST", "models", "acknowledge"): self._acknowledge,
            ("POST", "models", "forget"): self._forget,
            ("GET", "upstreams", ""): self._upstreams,
            ("GET", "prices", ""): self._prices,
            ("PUT", "prices", "*"): self._set_price,
            ("DELETE", "prices", "*"): self._drop_price,
            ("GET", "keys", ""): self._keys,
            ("POST", "keys", ""): self._make_key,
            ("DELETE", "keys", "*"): self._revoke_key,
            ("GET", "budgets", ""): self._budgets,
            ("PUT", "budgets", "*"): self._set_budget,
            ("GET", "onboarding", ""): self._list_jobs,
            ("POST", "onboarding", ""): self._begin_job,
            ("GET", "onboarding", "*"): self._show_job,
            ("DELETE", "onboarding", "*"): self._cancel_job,
            ("GET", "profiles", ""): self._versions,
            ("POST", "profiles", "rollback"): self._roll_back,
            ("POST", "profiles", "reset"): self._reset,
            ("GET", "config", ""): self._config,
            ("POST", "reload", ""): self._take_again,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await answer(
            self.gateway, self._serve(scope["method"]), scope, receive, send, wants_key=False
        )

    def _serve(self, method: str) -> Handler:
        async def serve(gateway: Gateway, asked: Asked) -> Reply:
            del gateway
            self._check(asked)
            act, name = self._find(method, asked.path)
            try:
                return await act(asked, name)
            except UnknownNameError as error:
                raise Refusal.of(404, str(error), code="not_found") from error
            except (InputError, MissingPriceError) as error:
                raise Refusal.of(400, str(error), code="invalid_request") from error

        return serve

    def _find(self, method: str, path: str) -> tuple[Act, str]:
        """What serves a path, and the name in it.

        Raises:
            Refusal: nothing does.
        """
        first, _, rest = path.rstrip("/").removeprefix(PREFIX).strip("/").partition("/")
        name, _, last = rest.rpartition("/")
        for key, told in (
            ((method, first, rest), ""),
            ((method, first, last), name),
            ((method, first, "*"), rest),
        ):
            act = self._routes.get(key)
            if act is not None and (key[2] != "*" or rest):
                return act, told
        of_path = {m for m, part, _ in self._routes if part == first}
        known = ", ".join(sorted({f"{PREFIX}/{part}" for _, part, _ in self._routes}))
        if of_path and method not in of_path:
            allowed = sorted(of_path)
            raise Refusal.of(
                405,
                f"{method} {path[:200]}: wanted {' or '.join(allowed)}",
                headers=[(b"allow", ", ".join(allowed).encode())],
            )
        raise Refusal.of(
            404, f"{method} {path[:200]}: there is nothing here; {known}", code="not_found"
        )

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

    # -- models ----------------------------------------------------------------------------------

    async def _models(self, asked: Asked, name: str) -> Reply:
        del asked, name
        setup = self.gateway.setup
        return Reply(
            value={
                "routed": list(setup.routed),
                "off": sorted(setup.fleet.off),
                "concrete": {
                    name: [
                        {"upstream": e.upstream.name, "served_as": e.served_as}
                        for e in setup.fleet.endpoints(name)
                    ]
                    for name in setup.concrete_names
                },
                "learned": administering.learned(self.gateway),
            }
        )

    async def _switch(self, asked: Asked, name: str, *, on: bool) -> Reply:
        del asked
        setup, switches = self.gateway.setup, Switches.default()
        known = {*setup.concrete_names, *setup.fleet.off, *switches.off()}
        if name not in known:
            raise UnknownNameError("model", name, sorted(known))
        self._note("models.enable" if on else "models.disable", name)
        before = switches.off()
        await self._in_thread(partial(switches.switch, name, on=on))
        try:
            await self._reload()
        except ConfigError as error:  # such as a pool that would be empty
            await self._in_thread(partial(switches.switch, name, on=name not in before))
            raise Refusal.of(409, f"all stays as it was: {error}") from error
        return Reply(value={"model": name, "on": on, "off": sorted(self.gateway.setup.fleet.off)})

    async def _acknowledge(self, asked: Asked, name: str) -> Reply:
        """Somebody has looked after a drift."""
        del asked
        return await self._teach("answered", name, model=name)

    async def _forget(self, asked: Asked, name: str) -> Reply:
        """Go on from what the space says of a model."""
        del asked
        return await self._teach("forget", name, model=name)

    # -- what was learned ------------------------------------------------------------------------

    async def _versions(self, asked: Asked, name: str) -> Reply:
        del asked, name
        learning = self._learning()
        listed = await self._in_thread(learning.versions.listed)
        return Reply(value={"version": learning.applied_version, "versions": listed})

    async def _roll_back(self, asked: Asked, name: str) -> Reply:
        del name
        body = administering.fields(asked.json(), required={"version": int})
        number, learning = int(body["version"]), self._learning()
        if number not in learning.versions.numbers():
            raise UnknownNameError(
                "version", str(number), [str(n) for n in learning.versions.numbers()]
            )
        return await self._teach("rollback", str(number), version=number)

    async def _reset(self, asked: Asked, name: str) -> Reply:
        del asked, name
        return await self._teach("reset", None)

    async def _teach(self, action: str, target: str | None, **what: Any) -> Reply:
        """Give the learner a command, and wait a little for what comes of it."""
        learning = self._learning()
        if "model" in what:
            state = learning.learned
            known = () if state is None else tuple(state.models)
            if what["model"] not in known:
                raise UnknownNameError("model that was learned of", what["model"], known)
        self._note(f"profiles.{action}", target)
        before = learning.applied_version
        learning.command(action, **what)
        done = await self._in_thread(partial(learning.wait_for, before, _APPLIED_S))
        value = {
            "action": action,
            "target": target,
            "version": learning.applied_version,
            "applied": done,
        }
        return Reply(value=value, status=200 if done else 202)

    def _learning(self) -> LearningService:
        learning = self.gateway.learning
        if learning is None:
            raise Refusal.of(409, "nothing is learned here")
        return learning

    # -- prices ----------------------------------------------------------------------------------

    async def _prices(self, asked: Asked, name: str) -> Reply:
        del asked, name
        setup = self.gateway.setup
        prices = {name: setup.price(name) for name in setup.concrete_names}
        return Reply(value={n: None if p is None else p.to_dict() for n, p in prices.items()})

    async def _set_price(self, asked: Asked, name: str) -> Reply:
        setup = self.gateway.setup
        if name not in setup.catalog:
            raise UnknownNameError("model", name, setup.catalog.names)
        if name in setup.config.prices:
            raise Refusal.of(409, f"the configuration sets the price of {name!r}; change it there")
        price = administering.price_of(asked.json())
        self._note("prices.set", name, price.to_dict())
        await self._in_thread(partial(administering.keep_price, name, price))
        await self._reload_for("prices")
        found = self.gateway.setup.price(name)
        return Reply(value={"model": name, "price": None if found is None else found.to_dict()})

    async def _drop_price(self, asked: Asked, name: str) -> Reply:
        del asked
        if not await self._in_thread(partial(administering.drop_price, name, dry=True)):
            raise UnknownNameError("kept price", name, ())
        self._note("prices.drop", name)
        await self._in_thread(partial(administering.drop_price, name))
        await self._reload_for("prices")
        found = self.gateway.setup.price(name)
        return Reply(value={"model": name, "price": None if found is None else found.to_dict()})

    # -- keys and budgets ------------------------------------------------------------------------

    async def _keys(self, asked: Asked, name: str) -> Reply:
        del asked, name
        return Reply(value={"keys": [key.to_dict() for key in self._store().all()]})

    async def _make_key(self, asked: Asked, name: str) -> Reply:
        del name
        settings = administering.key_settings(asked.json(), self.gateway.setup)
        self._note("keys.make", settings.name)
        text, key = await self._in_thread(
            partial(self._store().make, settings, now_ns=time.time_ns())
        )
        return Reply(value={"key": text, **key.to_dict()}, status=201)

    async def _revoke_key(self, asked: Asked, name: str) -> Reply:
        del asked
        store = self._store()
        store.find(name)
        self._note("keys.revoke", name)
        key = await self._in_thread(partial(store.revoke, name, now_ns=time.time_ns()))
        return Reply(value=key.to_dict())

    async def _budgets(self, asked: Asked, name: str) -> Reply:
        del asked, name
        now_ns = time.time_ns()
        usage = administering.usage(self.gateway)
        return Reply(
            value={
                "budgets": [
                    administering.budget_of(key, usage, now_ns)
                    for key in self._store().all()
                    if key.revoked is None
                ]
            }
        )

    async def _set_budget(self, asked: Asked, name: str) -> Reply:
        body = administering.fields(
            asked.json(), optional={"budget_day_usd": float, "budget_month_usd": float}
        )
        if not body:
            raise InputError("wanted budget_day_usd or budget_month_usd; null for no bound")
        store = self._store()
        now = store.find(name).to_dict()
        told = {k: body.get(k, now[k]) for k in ("budget_day_usd", "budget_month_usd")}
        self._note("budgets.set", name, told)
        key = await self._in_thread(
            partial(
                store.rebudget,
                name,
                day_usd=told["budget_day_usd"],
                month_usd=told["budget_month_usd"],
            )
        )
        return Reply(value=key.to_dict())

    def _store(self) -> KeyStore:
        if not administering.keeps_books(self.gateway):
            raise Refusal.of(409, "this gateway keeps no books, so it has no keys")
        return KeyStore(books_dir())

    # -- onboarding ------------------------------------------------------------------------------

    async def _list_jobs(self, asked: Asked, name: str) -> Reply:
        del asked, name
        return Reply(value={"jobs": await self._in_thread(self._job_list().all)})

    async def _begin_job(self, asked: Asked, name: str) -> Reply:
        del name
        order = administering.order_of(asked.json(), self.gateway.setup)
        self._note(
            "onboarding.begin",
            order.model,
            {"upstream": order.upstream, "budget_usd": order.budget_usd, "anchors": order.anchors},
        )
        status = await self._in_thread(partial(self._job_list().begin, order))
        return Reply(value=status, status=202)

    async def _show_job(self, asked: Asked, name: str) -> Reply:
        del asked
        return Reply(value=await self._in_thread(partial(self._job_list().get, name)))

    async def _cancel_job(self, asked: Asked, name: str) -> Reply:
        del asked
        self._job_list().get(name)
        self._note("onboarding.cancel", name)
        return Reply(value=await self._in_thread(partial(self._job_list().cancel, name)))

    def _job_list(self) -> Jobs:
        if self._jobs is None:
            loop = asyncio.get_running_loop()

            def on_done(model: str) -> None:
                self.gateway.log.write({"event": "onboarding_done", "model": model})
                asyncio.run_coroutine_threadsafe(self._reload_quietly(), loop)

            space = self.gateway.setup.config.space
            self._jobs = Jobs(
                self._learning().folder / "jobs",
                on_done=on_done,
                space=None if space is None else str(space),
            )
        return self._jobs

    async def _reload_quietly(self) -> None:
        try:
            await self._reload()
        except ConfigError as error:
            self.gateway.log.write(
                {"event": "profile_not_taken", "message": str(error)}, level="error"
            )

    # -- the rest --------------------------------------------------------------------------------

    async def _upstreams(self, asked: Asked, name: str) -> Reply:
        del asked, name
        now, fleet = monotonic(), self.gateway.setup.fleet
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

    async def _config(self, asked: Asked, name: str) -> Reply:
        del asked, name
        setup = self.gateway.setup
        return Reply(value={"version": setup.version, "config": setup.config.to_dict()})

    async def _take_again(self, asked: Asked, name: str) -> Reply:
        del asked, name
        await self._reload_for("the configuration")
        return Reply(value={"version": self.gateway.setup.version})

    async def _reload_for(self, what: str) -> None:
        try:
            await self._reload()
        except ConfigError as error:
            raise Refusal.of(409, f"{what}: the gateway goes on as it was: {error}") from error

    def _note(self, action: str, target: str | None, detail: dict[str, Any] | None = None) -> None:
        """Write an action down before it is done.

        Raises:
            BooksError: it cannot be: nothing is done.
        """
        told = None if detail is None else json.dumps(detail)
        self.gateway.books.keep(action, target, told)
        self.gateway.log.write({"event": "admin", "action": action, "target": target})

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(None, work)
        except OSError as error:
            raise BooksError(f"the state folder does not answer: {error}") from error
