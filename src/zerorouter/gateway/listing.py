"""``GET /v1/models``: concrete models and virtual ones, with all that they can do.

Clients hide models whose parameters are not listed (PEERS section 2), so every model says what it
supports; a virtual one what any of its models supports, since requests are filtered by need.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from zerorouter.catalog import ModelSpec
from zerorouter.errors import UnknownNameError
from zerorouter.gateway.routing import is_virtual
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.setup import Setup
from zerorouter.gateway.side import Asked, Reply

_ALWAYS: Final = (
    *("frequency_penalty", "max_completion_tokens", "max_tokens", "n", "presence_penalty", "seed"),
    *("stop", "stream", "stream_options", "temperature", "top_p"),
)
_INPUTS: Final = {"vision": "image", "audio": "audio", "video": "video", "documents": "file"}


async def list_models(gateway: Gateway, asked: Asked) -> Reply:
    """All models that the client may name."""
    setup = gateway.setup
    key = asked.key
    names = [*setup.virtual_names, *setup.concrete_names] if setup.routed else setup.concrete_names
    shown = [n for n in names if is_virtual(n) or key is None or key.allows(n)]
    cards = [_card(setup, name) for name in shown]
    if b"anthropic-version" in asked.headers:
        ends = {"first_id": shown[0], "last_id": shown[-1]} if shown else {}
        return Reply(value={"data": [_native(c) for c in cards], "has_more": False, **ends})
    return Reply(value={"object": "list", "data": cards})


async def show_model(gateway: Gateway, asked: Asked) -> Reply:
    """``GET /v1/models/NAME``."""
    name = asked.path.removeprefix("/v1/models/")
    setup = gateway.setup
    if name not in setup.known_names or (
        asked.key is not None and not is_virtual(name) and not asked.key.allows(name)
    ):
        raise UnknownNameError("model", name, setup.known_names)
    card = _card(setup, name)
    return Reply(value=_native(card) if b"anthropic-version" in asked.headers else card)


def _card(setup: Setup, name: str) -> dict[str, Any]:
    if is_virtual(name):
        specs = [setup.catalog.get(model) for model in setup.routed]
        owner, created = "zerorouter", 0
    else:
        found = setup.catalog.get(name) if name in setup.catalog else ModelSpec(name=name)
        specs, owner, created = [found], found.vendor or "unknown", _created(found)
    able = frozenset[str]().union(*(spec.capabilities for spec in specs))
    context = max((s.context_tokens for s in specs if s.context_tokens), default=None)
    longest = max((s.max_output_tokens for s in specs if s.max_output_tokens), default=None)
    card: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": owner,
        "capabilities": sorted(able),
        "supported_parameters": _parameters(able),
        "context_length": context,
        "max_output_tokens": longest,
        "architecture": {
            "input_modalities": ["text", *sorted(_INPUTS[c] for c in able & _INPUTS.keys())],
            "output_modalities": ["text"],
        },
    }
    if is_virtual(name):
        card["routes_to"] = list(setup.routed)
    elif (price := setup.price(name)) is not None:
        card["pricing"] = {
            "input_usd_per_mtok": price.input_usd_per_mtok,
            "output_usd_per_mtok": price.output_usd_per_mtok,
        }
    return card


def _parameters(able: frozenset[str]) -> list[str]:
    further: list[str] = []
    if "tools" in able:
        further += ["parallel_tool_calls", "tool_choice", "tools"]
    if "json" in able:
        further += ["response_format", "structured_outputs"]
    return sorted([*_ALWAYS, *further])


def _created(spec: ModelSpec) -> int:
    if spec.released is None:
        return 0
    date = "-".join([*spec.released.split("-"), "01"][:3])
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


def _native(card: dict[str, Any]) -> dict[str, Any]:
    """The card in Anthropic's form; what that does not know stays beside it."""
    made = datetime.fromtimestamp(card["created"], tz=UTC)
    further = {k: v for k, v in card.items() if k not in ("id", "object", "created", "owned_by")}
    return {
        "type": "model",
        "id": card["id"],
        "display_name": card["id"],
        "created_at": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **further,
    }
