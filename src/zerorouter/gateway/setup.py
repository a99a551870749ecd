"""What a configuration amounts to: router, upstreams and settings, swapped as one."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from zerorouter.catalog import Catalog
from zerorouter.config import Config
from zerorouter.gateway.dialects import spoken_api
from zerorouter.gateway.switches import Switches
from zerorouter.gateway.upstreams import Fleet, configured
from zerorouter.gateway.wire.apis import Api
from zerorouter.prices import Price
from zerorouter.router import Router
from zerorouter.routing.policy import ALIASES, POLICIES
from zerorouter.serving_config import GatewaySettings, UpstreamSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """One reading of the configuration, ready to serve.

    Attributes:
        config: What was read.
        fleet: The upstreams.
        router: Over the models that are both known and served; None where there is none.
        catalog: Of all models, at the prices in force.
        version: Counts readings.
    """

    config: Config
    fleet: Fleet
    router: Router | None
    catalog: Catalog
    version: int = 1
    _unspoken: dict[Api, tuple[str, ...]] = field(default_factory=dict, repr=False)
    _prices: dict[str, Price | None] = field(default_factory=dict, repr=False)
    _longest: list[tuple[float, str]] = field(default_factory=list, repr=False)
    _short: dict[int, tuple[str, ...]] = field(default_factory=dict, repr=False)

    @property
    def settings(self) -> GatewaySettings:
        """How requests are treated."""
        return self.config.gateway

    @property
    def routed(self) -> tuple[str, ...]:
        """Names of the models that the router chooses from."""
        return () if self.router is None else self.router.models

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names that a client may ask for, but for globs that match names nobody has listed."""
        return (*self.concrete_names, *self.virtual_names)

    @property
    def concrete_names(self) -> tuple[str, ...]:
        """Models of the catalog, and those that the configuration names, that are served."""
        named = {name for one in self.fleet.upstreams.values() for name in one.settings.names}
        listed = {*self.catalog.names, *self.routed, *named}
        for one in self.fleet.upstreams.values():
            listed |= {glob for glob in one.settings.models if not set(glob) & set("*?[")}
        return tuple(sorted(name for name in listed if name in self.fleet))

    @property
    def virtual_names(self) -> tuple[str, ...]:
        """Names that are routed."""
        policies = [*POLICIES, *self.config.policies]
        autos = ["auto", "auto:balanced", "auto:quality", "auto:cost", "auto:latency"]
        named = [*autos, *(p for p in policies if p not in ALIASES)]
        return tuple(f"zerorouter/{name}" for name in dict.fromkeys(named))

    def not_spoken(self, api: Api) -> tuple[str, ...]:
        """Routed models that no upstream can serve by this API."""
        found = self._unspoken.get(api)
        if found is None:
            found = tuple(
                name
                for name in self.routed
                if not any(spoken_api(api, one) for one in self.fleet.endpoints(name))
            )
            self._unspoken[api] = found
        return found

    def too_short(self, max_tokens: int) -> tuple[str, ...]:
        """Routed models that cannot answer with so many tokens: they would refuse the request."""
        if not self._longest:
            self._longest.extend(sorted((self._longest_answer(name), name) for name in self.routed))
        n = bisect_left(self._longest, (max_tokens, ""))
        found = self._short.get(n)
        if found is None:
            found = self._short[n] = tuple(name for _, name in self._longest[:n])
        return found

    def _longest_answer(self, model: str) -> float:
        """Tokens of the longest answer of a model; infinite where nobody knows."""
        if model not in self.catalog:
            return math.inf
        spec = self.catalog.get(model)
        return min(spec.max_output_tokens or math.inf, spec.context_tokens or math.inf)

    def price(self, model: str) -> Price | None:
        """What a model costs; None where nobody knows."""
        if model in self._prices:
            return self._prices[model]
        found = self.catalog.get(model).price if model in self.catalog else None
        if len(self._prices) < Fleet.KEEP:
            self._prices[model] = found
        return found


def set_up(
    config: Config,
    environ: Mapping[str, str],
    *,
    space: str | None = None,
    extra_upstreams: Mapping[str, UpstreamSettings] = MappingProxyType({}),
    earlier: Setup | None = None,
) -> Setup:
    """Lay a configuration out.

    Args:
        config: What was read.
        environ: Where keys stand.
        space: Folder of a space, in place of the configuration's.
        extra_upstreams: Upstreams besides; those of the configuration win.
        earlier: What is in force; its circuits are carried over.

    Raises:
        ConfigError: A key is missing, or a name is unknown.
    """
    upstreams = {**extra_upstreams, **configured(config, environ)}
    fleet = Fleet.of(
        upstreams,
        environ,
        config.gateway.circuits,
        None if earlier is None else earlier.fleet,
        Switches.default().off(),
    )
    router, catalog = _router(config, fleet, space)
    return Setup(
        config=config,
        fleet=fleet,
        router=router,
        catalog=catalog,
        version=1 if earlier is None else earlier.version + 1,
    )


def _router(config: Config, fleet: Fleet, space: str | None) -> tuple[Router | None, Catalog]:
    whole = Router.from_config(config, space=space)
    served = tuple(name for name in whole.models if name in fleet)
    if served == whole.models:
        return whole, whole.catalog
    return whole.narrowed(served) if served else None, whole.catalog
