"""What the admin endpoints read, check and change; `admin` has the routes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from zerorouter.errors import InputError, UnknownNameError
from zerorouter.gateway.accounts import Usage
from zerorouter.gateway.bookkeeping import OpenBooks
from zerorouter.gateway.budgets import to_usd
from zerorouter.gateway.jobs import JobOrder
from zerorouter.gateway.keys import KeySettings, VirtualKey
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.setup import Setup
from zerorouter.learning import ModelState
from zerorouter.price_lists import keep_prices, kept_prices
from zerorouter.prices import Price
from zerorouter.routing.policy import ALIASES, POLICIES

MOST_ANCHORS: Final = 1_000


def fields(
    body: Mapping[str, Any],
    *,
    required: Mapping[str, type] | None = None,
    optional: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """The fields of a body, checked; None counts as given.

    Raises:
        InputError: one is missing, unknown or of the wrong type.
    """
    wanted = {**(required or {}), **(optional or {})}
    for name in body:
        if name not in wanted:
            raise InputError(f"{name[:80]}: unknown; wanted {', '.join(wanted)}")
    for name in required or {}:
        if body.get(name) is None:
            raise InputError(f"{name}: missing")
    return {name: _checked(name, value, wanted[name]) for name, value in body.items()}


def _checked(name: str, value: Any, kind: type) -> Any:
    if value is None:
        return None
    if kind is float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise InputError(f"{name}: found {str(value)[:40]!r}; wanted a number")
        return float(value)
    if kind is int and isinstance(value, bool):
        raise InputError(f"{name}: found {value}; wanted a whole number")
    if kind is tuple:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InputError(f"{name}: found {str(value)[:40]!r}; wanted a list of texts")
        return tuple(value)
    if not isinstance(value, kind):
        words = {int: "a whole number", str: "a text", bool: "true or false", dict: "an object"}
        raise InputError(f"{name}: found {str(value)[:40]!r}; wanted {words[kind]}")
    return value


# -- what was learned ------------------------------------------------------------------------------


def learned(gateway: Gateway) -> dict[str, Any] | None:
    """What serving has taught, in a few numbers a model; None where nothing is learned."""
    learning = gateway.learning
    if learning is None:
        return None
    state = learning.learned
    if state is None:
        return {"version": 0, "scores": 0, "models": {}, "neighbourhoods_moved": 0}
    return {
        "version": state.version,
        "scores": state.n_scores,
        "models": {name: _model(known) for name, known in sorted(state.models.items())},
        "neighbourhoods_moved": int((abs(state.shift) > 0.05).sum()),
    }


def _model(known: ModelState) -> dict[str, Any]:
    drift = known.drift
    return {
        "scores": known.n_scores,
        "ability": [round(float(x), 4) for x in known.mean],
        "ability_sd": [round(float(x), 4) for x in known.sd],
        "ability_before": [round(float(x), 4) for x in known.base],
        "log_loss": round(known.log_loss, 4),
        "cusum": {"worse": round(known.worse, 3), "better": round(known.better, 3)},
        "drift": None
        if drift is None
        else {
            "direction": drift.direction,
            "at_s": round(drift.at_s, 3),
            "after_scores": drift.n_scores,
        },
        "length_factor": round(known.length_factor, 4),
        "lengths": known.n_lengths,
        "endpoints": {
            name: {
                "ttft_s": round(one.times.ttft.expectation, 6),
                "tpot_s": round(one.times.tpot.expectation, 6),
                "requests": one.times.n_seen,
            }
            for name, one in known.endpoints.items()
        },
    }


# -- prices ----------------------------------------------------------------------------------------


def price_of(body: Mapping[str, Any]) -> Price:
    """A price that a user sets.

    Raises:
        InputError: it is none.
    """
    return Price.from_dict({**body, "kind": "user"})


def keep_price(model: str, price: Price) -> None:
    """Keep a price in the state folder's list.

    Raises:
        CatalogError: the list cannot be read or written.
    """
    keep_prices({**kept_prices(), model: price})


def drop_price(model: str, *, dry: bool = False) -> bool:
    """Drop a price from the state folder's list; whether it was there.

    Raises:
        CatalogError: the list cannot be read or written.
    """
    kept = kept_prices()
    if model not in kept:
        return False
    if not dry:
        keep_prices({name: price for name, price in kept.items() if name != model})
    return True


# -- keys and budgets ------------------------------------------------------------------------------


def keeps_books(gateway: Gateway) -> bool:
    """Whether there are keys and accounts at all."""
    return not isinstance(gateway.books, OpenBooks)


def key_settings(body: Mapping[str, Any], setup: Setup) -> KeySettings:
    """What is asked for a new key.

    Raises:
        InputError: a field is wrong.
        UnknownNameError: no such policy.
    """
    told = fields(
        body,
        required={"name": str},
        optional={
            "policy": str,
            "models": tuple,
            "requests_per_minute": int,
            "tokens_per_minute": int,
            "budget_day_usd": float,
            "budget_month_usd": float,
        },
    )
    policies = [*POLICIES, *ALIASES, *setup.config.policies]
    if told.get("policy") is not None and told["policy"] not in policies:
        raise UnknownNameError("policy", told["policy"], policies)
    given = {name: value for name, value in told.items() if value is not None}
    return KeySettings(**given)


def usage(gateway: Gateway) -> Callable[[str, int], Usage | None]:
    """What a key has spent, by its id and the time."""
    accounts = getattr(gateway.books, "accounts", None)

    def of(key_id: str, now_ns: int) -> Usage | None:
        return None if accounts is None else accounts.usage(key_id, now_ns=now_ns)

    return of


def budget_of(
    key: VirtualKey, usage: Callable[[str, int], Usage | None], now_ns: int
) -> dict[str, Any]:
    """A key's budgets, and what is spent and reserved of them."""
    told = key.to_dict()
    out: dict[str, Any] = {name: told[name] for name in ("id", "name", "budget_day_usd")}
    out["budget_month_usd"] = told["budget_month_usd"]
    found = usage(key.id, now_ns)
    if found is not None:
        out |= {
            "day": found.day,
            "day_spent_usd": to_usd(found.day_spent_nusd),
            "day_reserved_usd": to_usd(found.day_reserved_nusd),
            "month": found.month,
            "month_spent_usd": to_usd(found.month_spent_nusd),
            "month_reserved_usd": to_usd(found.month_reserved_nusd),
        }
    return out


# -- onboarding ------------------------------------------------------------------------------------


def order_of(body: Mapping[str, Any], setup: Setup) -> JobOrder:
    """What is to be onboarded, against a configured upstream only.

    Raises:
        InputError: a field is wrong, or the upstream cannot be asked.
        UnknownNameError: no such upstream.
    """
    told = fields(
        body,
        required={"model": str, "upstream": str},
        optional={
            "served_as": str,
            "anchors": int,
            "adaptive": bool,
            "budget_usd": float,
            "price": dict,
            "concurrency": int,
        },
    )
    upstreams = setup.fleet.upstreams
    upstream = upstreams.get(told["upstream"])
    if upstream is None:
        raise UnknownNameError("upstream", told["upstream"], tuple(upstreams))
    if upstream.speaks_anthropic:
        raise InputError(
            f"upstream {upstream.name!r} speaks Anthropic's API; onboarding asks by OpenAI's: name "
            "an upstream that has it"
        )
    model = told["model"].strip()
    anchors, budget = told.get("anchors") or 50, told.get("budget_usd")
    concurrency = told.get("concurrency") or 4
    if not 1 <= len(model) <= 200:
        raise InputError("model: wanted 1 to 200 characters")
    if not 1 <= anchors <= MOST_ANCHORS:
        raise InputError(f"anchors: found {anchors}; wanted 1 to {MOST_ANCHORS:,}")
    if not 1 <= concurrency <= 64:
        raise InputError(f"concurrency: found {concurrency}; wanted 1 to 64")
    if budget is not None and budget <= 0:
        raise InputError(f"budget_usd: found {budget}; wanted more than 0")
    served_as = told.get("served_as") or upstream.settings.names.get(model, model)
    price = told.get("price")
    return JobOrder(
        model=model,
        upstream=upstream.name,
        base_url=upstream.settings.base_url,
        api_key_env=upstream.settings.api_key_env,
        served_as=served_as,
        anchors=anchors,
        adaptive=bool(told.get("adaptive")),
        budget_usd=budget,
        price=None if price is None else price_of(price),
        concurrency=concurrency,
    )
