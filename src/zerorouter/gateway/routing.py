"""From a request to the endpoints that are to serve it: virtual names, wishes, filters, the router.

A concrete model's name bypasses the router. ``zerorouter/auto``, ``zerorouter/auto:POLICY`` and
``zerorouter/POLICY`` are routed; what the request wishes wins over the name, the name over the
key's policy, that over the configuration's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from zerorouter.errors import (
    ModelForbiddenError,
    NoEligibleModelError,
    UnknownNameError,
    WireError,
)
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.setup import Setup
from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.peek import WireRequest
from zerorouter.gateway.wire.wishes import RequestWishes
from zerorouter.routing.decision import Decision

VIRTUAL: Final = "zerorouter/"
AUTO: Final = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Where a request is to go.

    Attributes:
        model: The first choice, our name.
        decision: The router's; None where a concrete model was asked for.
        first: Endpoints of the first choice.
    """

    model: str
    decision: Decision | None
    first: tuple[Endpoint, ...]

    def endpoints(self, setup: Setup) -> Iterator[Endpoint]:
        """Where to try, best first; the fallbacks are worked out once they are needed."""
        yield from self.first
        if self.decision is not None:
            for model in self.decision.fallbacks:
                yield from setup.fleet.endpoints(model)


def is_virtual(model: str) -> bool:
    """Whether the router is to choose."""
    return model.startswith(VIRTUAL)


def policy_of_name(model: str) -> str | None:
    """The policy that a virtual name asks for; None where it leaves it open."""
    name = model[len(VIRTUAL) :]
    if name == AUTO:
        return None
    return name[len(AUTO) + 1 :] if name.startswith(f"{AUTO}:") else name


def plan(
    setup: Setup,
    request: WireRequest,
    wishes: RequestWishes,
    key: VirtualKey | None,
    cached_tokens: Mapping[str, float] | None,
) -> Plan:
    """Where a request is to go.

    Raises:
        UnknownNameError: No such model, or no such policy.
        ModelForbiddenError: The key may not use the model.
        NoEligibleModelError: Filters or bounds leave no model.
        PromptError: The prompt cannot be read.
        MissingPriceError: A candidate has no price.
        WireError: Embeddings are not routed.
    """
    if not is_virtual(request.model):
        return concrete(setup, request.api, request.model, wishes, key)
    if request.api is Api.EMBEDDINGS:
        raise WireError(
            f"model: found {request.model!r}; wanted the name of an embedding model: vectors of "
            "different models cannot be compared, so embeddings are not routed",
            param="model",
        )
    decision = decide(setup, request, wishes, key, cached_tokens)
    return Plan(
        model=decision.model, decision=decision, first=setup.fleet.endpoints(decision.model)
    )


def concrete(
    setup: Setup, api: Api, model: str, wishes: RequestWishes, key: VirtualKey | None
) -> Plan:
    """The plan for a model that the client has named itself."""
    found = setup.fleet.endpoints(model, embeds=api is Api.EMBEDDINGS)
    if not found:
        raise UnknownNameError("model", model, setup.known_names)
    ours = found[0].model
    if key is not None:
        key.require_model(ours)
    if wishes.allow and not _matches(ours, wishes.allow):
        raise NoEligibleModelError(f"{ours!r} was asked for, and is not among the allowed models")
    if wishes.deny and _matches(ours, wishes.deny):
        raise NoEligibleModelError(f"{ours!r} was asked for, and is on the request's deny list")
    return Plan(model=ours, decision=None, first=found)


def decide(
    setup: Setup,
    request: WireRequest,
    wishes: RequestWishes,
    key: VirtualKey | None,
    cached_tokens: Mapping[str, float] | None,
) -> Decision:
    """The router's decision on a request; see `plan` for what it raises."""
    if "audio" in request.output_modalities:
        raise NoEligibleModelError(
            "an answer in sound was asked for; only text is routed: name a concrete model"
        )
    policy = wishes.policy or policy_of_name(request.model) or (key.policy if key else None)
    router = setup.router
    if router is None:
        raise NoEligibleModelError(
            "no upstream serves any model whose ability is known; name one with 'upstreams:' in "
            "the configuration, set its API key's variable, or ask for a concrete model"
        )
    return router.route(
        request.messages,
        policy=policy,
        models=_allowed(setup, wishes, key),
        exclude=_denied(setup, request, wishes),
        min_accuracy=wishes.min_accuracy,
        max_cost_usd=wishes.max_cost_usd,
        max_latency_s=wishes.max_latency_s,
        max_p95_latency_s=wishes.max_p95_latency_s,
        confidence=wishes.confidence,
        cached_tokens=cached_tokens,
        tools=request.tools,
        response_format=request.response_format,
    )


def _allowed(setup: Setup, wishes: RequestWishes, key: VirtualKey | None) -> tuple[str, ...]:
    """Patterns of models that both request and key allow."""
    globs = () if key is None else key.models
    if not globs:
        return wishes.allow
    assert setup.router is not None
    both = tuple(
        name
        for name in setup.router.models
        if _matches(name, globs) and (not wishes.allow or _matches(name, wishes.allow))
    )
    if not both:
        raise ModelForbiddenError(
            f"the key allows {', '.join(globs)}; none of these is on offer"
            + (f" and among {', '.join(wishes.allow)}" if wishes.allow else "")
        )
    return both


def _denied(setup: Setup, request: WireRequest, wishes: RequestWishes) -> tuple[str, ...]:
    """Patterns of models that may not serve.

    Among them those that cannot be reached by this API, and those whose longest answer is shorter
    than the request's limit: they would refuse it.

    Raises:
        NoEligibleModelError: No model answers with so many tokens.
    """
    denied = setup.not_spoken(request.api)
    if request.max_tokens is not None and (short := setup.too_short(request.max_tokens)):
        if len(short) == len(setup.routed):
            raise NoEligibleModelError(
                f"answers of up to {request.max_tokens:,} tokens were asked for; no model on offer "
                "answers at such length"
            )
        denied = (*denied, *short)
    return (*denied, *wishes.deny) if denied else wishes.deny


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
