r"""What a request costs: prices with their source and date, and the dollars of a token count.

Prices are in USD per million tokens. `request_cost_usd` is the one place where tokens become
money; the router forecasts with it and whoever settles a bill counts with it:

.. math:: c = (n_{in} - n_{read} - n_{write} - n_{audio})\,p_{in} + n_{read}\,p_{read}
              + n_{write}\,p_{write} + n_{audio}\,p_{audio}
              + (n_{out} - n_{think})\,p_{out} + n_{think}\,p_{think}

Reasoning tokens count as output, at the output price unless the model has a price of its own for
them. Above a context size with a dearer tier the *whole* request is billed at that tier: so do
Anthropic (above 200k input tokens), Google (128k, 200k) and OpenAI (272k). A price that is not
known is an error, never zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from zerorouter.errors import CatalogError, InputError, MissingPriceError

PRICE_KINDS: Mapping[str, str] = {
    "list": "the list price of the vendor or of a host",
    "size-tier": "a nominal hosted price for open weights of that size",
    "user": "set by the user; nothing overrides it",
}

_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceTier:
    """Other prices for the whole of a request whose input is longer than a limit.

    Attributes:
        above_input_tokens: The tier holds for requests with more input tokens than this.
        input_usd_per_mtok: In place of the price's own.
        output_usd_per_mtok: In place of the price's own.
        cached_input_usd_per_mtok: In place of the price's own; None where not known.
        cache_write_usd_per_mtok: In place of the price's own; None where not known.
    """

    above_input_tokens: int
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None

    def __post_init__(self) -> None:
        if type(self.above_input_tokens) is not int or self.above_input_tokens < 1:
            raise wrong(
                "price.tiers.above_input_tokens",
                self.above_input_tokens,
                "a whole number of tokens, 1 or more",
            )
        for key in TIER_AMOUNTS:
            if (value := getattr(self, key)) is not None:
                check_amount(f"price.tiers.{key}", value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What a model charges, with where and when that was read.

    Attributes:
        input_usd_per_mtok: USD per million input tokens.
        output_usd_per_mtok: USD per million output tokens, reasoning tokens included.
        cached_input_usd_per_mtok: USD per million input tokens read from the vendor's prompt
            cache; None where not known (then nothing is saved by it).
        cache_write_usd_per_mtok: USD per million input tokens written to that cache, where the
            vendor charges for it; None for the input price.
        reasoning_usd_per_mtok: USD per million reasoning tokens, where they have a price of their
            own; None for the output price.
        audio_input_usd_per_mtok: USD per million input tokens of sound; None for the input price.
        tiers: Dearer tiers for long inputs, by rising limit.
        kind: A word of `PRICE_KINDS`.
        source: Where the price stands.
        date: When it was read there, ``YYYY[-MM[-DD]]``; None where not known.
    """

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None
    reasoning_usd_per_mtok: float | None = None
    audio_input_usd_per_mtok: float | None = None
    tiers: tuple[PriceTier, ...] = ()
    kind: str = "list"
    source: str = ""
    date: str | None = None

    def __post_init__(self) -> None:
        for key in AMOUNTS:
            if (value := getattr(self, key)) is not None or key in REQUIRED:
                check_amount(f"price.{key}", value)
        limits = [tier.above_input_tokens for tier in self.tiers]
        if limits != sorted(set(limits)):
            raise wrong("price.tiers", limits, "tiers by rising above_input_tokens, each once")
        if self.kind not in PRICE_KINDS:
            raise wrong("price.kind", self.kind, f"one of {', '.join(PRICE_KINDS)}")
        if not isinstance(self.source, str):
            raise wrong("price.source", self.source, "a string")
        if self.date is not None and not (
            isinstance(self.date, str) and _DATE.fullmatch(self.date)
        ):
            raise wrong("price.date", self.date, "YYYY, YYYY-MM or YYYY-MM-DD")

    @classmethod
    def from_dict(cls, row: object) -> Price:
        """A price from its JSON form.

        Raises:
            CatalogError: it is no price; the message names the field.
        """
        values = _fields(row, "price", cls)
        for key in REQUIRED:
            if key not in values:
                raise CatalogError(f"price.{key}: missing; wanted USD per million tokens")
        if "tiers" in values:
            if not isinstance(tiers := values["tiers"], list):
                raise wrong("price.tiers", tiers, "a list of tiers")
            rows = [_fields(tier, "price.tiers", PriceTier) for tier in tiers]
            for tier in rows:
                for key in ("above_input_tokens", *REQUIRED):
                    if key not in tier:
                        raise CatalogError(f"price.tiers.{key}: missing")
            values["tiers"] = tuple(PriceTier(**tier) for tier in rows)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: what is unknown or empty is left out."""
        out = {k: v for k in _FIELDS if (v := getattr(self, k)) not in (None, "", ())}
        if self.tiers:
            out["tiers"] = [
                {k: v for k in _TIER_FIELDS if (v := getattr(tier, k)) is not None}
                for tier in self.tiers
            ]
        return out

    def at(self, input_tokens: float) -> Price | PriceTier:
        """The price or the tier that a request with so many input tokens is billed at."""
        for tier in reversed(self.tiers):
            if input_tokens > tier.above_input_tokens:
                return tier
        return self


REQUIRED = ("input_usd_per_mtok", "output_usd_per_mtok")
TIER_AMOUNTS = (*REQUIRED, "cached_input_usd_per_mtok", "cache_write_usd_per_mtok")
AMOUNTS = (*TIER_AMOUNTS, "reasoning_usd_per_mtok", "audio_input_usd_per_mtok")
_FIELDS = tuple(Price.__dataclass_fields__)
_TIER_FIELDS = tuple(PriceTier.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCounts:
    """The tokens of a request, forecast or billed.

    Attributes:
        input_tokens: All that goes in: text, media, cached or not. (Anthropic reports cached and
            written tokens beside its ``input_tokens``: add the three.)
        output_tokens: All that comes out, hidden reasoning included.
        cached_input_tokens: Those of the input that the vendor's cache already holds.
        cache_write_tokens: Those of the input that are written to it.
        audio_input_tokens: Those of the input that are sound.
        reasoning_tokens: Those of the output that are reasoning.
    """

    input_tokens: float
    output_tokens: float
    cached_input_tokens: float = 0.0
    cache_write_tokens: float = 0.0
    audio_input_tokens: float = 0.0
    reasoning_tokens: float = 0.0

    def __post_init__(self) -> None:
        for key in type(self).__dataclass_fields__:
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, float | int):
                raise InputError(f"{key} is {value!r}; a number of tokens is wanted")
            if not (isfinite(value) and value >= 0):
                raise InputError(f"{key} is {value!r}; a finite number of tokens >= 0 is wanted")
        special = self.cached_input_tokens + self.cache_write_tokens + self.audio_input_tokens
        if special > self.input_tokens:
            raise InputError(
                f"{special:g} tokens are cached, written or sound, of an input of "
                f"{self.input_tokens:g}; input_tokens has to count them all"
            )
        if self.reasoning_tokens > self.output_tokens:
            raise InputError(
                f"{self.reasoning_tokens:g} reasoning tokens are more than the "
                f"{self.output_tokens:g} output tokens, which have to count them"
            )


def request_cost_usd(price: Price, tokens: TokenCounts) -> float:
    """Dollars for a request; the formula stands at the top of this module."""
    rate = price.at(tokens.input_tokens)
    fresh, written = rate.input_usd_per_mtok, rate.cache_write_usd_per_mtok
    read, sound = rate.cached_input_usd_per_mtok, price.audio_input_usd_per_mtok
    thought = price.reasoning_usd_per_mtok
    n_plain = (
        tokens.input_tokens
        - tokens.cached_input_tokens
        - tokens.cache_write_tokens
        - tokens.audio_input_tokens
    )
    micro = n_plain * fresh
    micro += tokens.cached_input_tokens * (fresh if read is None else read)
    micro += tokens.cache_write_tokens * (fresh if written is None else written)
    micro += tokens.audio_input_tokens * (fresh if sound is None else sound)
    out = rate.output_usd_per_mtok
    micro += (tokens.output_tokens - tokens.reasoning_tokens) * out
    micro += tokens.reasoning_tokens * (out if thought is None else thought)
    return micro / 1e6


def require_price(name: str, price: Price | None) -> Price:
    """The price, or the error that says how to set one.

    Raises:
        MissingPriceError: there is none.
    """
    if price is None:
        raise missing_price(name)
    return price


def missing_price(name: str) -> MissingPriceError:
    """The error for a model whose cost is needed and whose price nobody has told."""
    return MissingPriceError(
        f"model {name!r} has no price, and a policy in dollars needs one; set it under "
        f"'prices:' in the configuration, read a price map with 'zerorouter models "
        f"--prices-from FILE', or leave the model out with --exclude {name}"
    )


def check_amount(key: str, value: object, *, positive: bool = False) -> None:
    """Refuse what is no finite amount.

    Raises:
        CatalogError: it is negative, not finite or no number; ``key`` names it.
    """
    number = isinstance(value, float | int) and value is not True and value is not False
    if number and isfinite(value) and (value > 0 or (value == 0 and not positive)):  # type: ignore[arg-type, operator]
        return
    raise wrong(key, value, "a finite number above 0" if positive else "a finite number, 0 or more")


def wrong(key: str, found: object, wanted: str) -> CatalogError:
    """The error of a field: what was found in it and what was wanted."""
    return CatalogError(f"{key}: found {found!r}; wanted {wanted}")


def _fields(row: object, where: str, kind: type[Any]) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise wrong(where, row, "an object")
    known = kind.__dataclass_fields__
    if unknown := row.keys() - known.keys():
        raise CatalogError(
            f"{where}: unknown field {sorted(unknown)[0]!r}; known: {', '.join(known)}"
        )
    return dict(row)
