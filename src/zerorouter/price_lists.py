"""Price lists: LiteLLM's price map read, and the prices that a user keeps.

Three lists may price a model; the later wins: the catalog, the list kept in the state folder
(``zerorouter models --prices-from FILE`` writes it), and ``prices:`` in the configuration.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import tempfile
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from zerorouter.catalog import Catalog, PriceReport, parse_json, read_text
from zerorouter.errors import CatalogError, ZeroRouterError
from zerorouter.paths import home_dir
from zerorouter.prices import Price, PriceTier

KEPT_FORMAT = "zerorouter-prices"
KEPT_VERSION = 1

# Our fields and LiteLLM's, in dollars per token there; the first that is given counts.
_TIERED: Mapping[str, tuple[str, ...]] = {
    "input_usd_per_mtok": ("input_cost_per_token",),
    "output_usd_per_mtok": ("output_cost_per_token",),
    "cached_input_usd_per_mtok": ("cache_read_input_token_cost", "input_cost_per_token_cache_hit"),
    "cache_write_usd_per_mtok": ("cache_creation_input_token_cost",),
}
_FLAT: Mapping[str, tuple[str, ...]] = {
    "reasoning_usd_per_mtok": ("output_cost_per_reasoning_token",),
    "audio_input_usd_per_mtok": ("input_cost_per_audio_token",),
}
_SAID = {"input_usd_per_mtok": "input", "output_usd_per_mtok": "output"}
_ABOVE = re.compile(r"_above_(\d+)k_tokens$")

# LiteLLM's `litellm_provider` of the vendors that sell their own models.
_OWN_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "openai": ("openai", "text-completion-openai"),
    "anthropic": ("anthropic",),
    "google": ("gemini", "vertex_ai-language-models"),
    "mistral": ("mistral",),
    "deepseek": ("deepseek",),
    "xai": ("xai",),
    "cohere": ("cohere", "cohere_chat"),
    "ai21": ("ai21",),
    "amazon": ("bedrock", "bedrock_converse", "amazon_nova"),
    "moonshotai": ("moonshot",),
    "qwen": ("dashscope",),
    "zai-org": ("zai",),
    "meta": ("meta_llama",),
}
_BEDROCK_VENDOR = re.compile(
    r"^(?:(?:us|eu|apac|jp|au|global|us-gov)\.)?"
    r"(?:anthropic|meta|mistral|cohere|ai21|amazon|deepseek|qwen|openai|moonshot|minimax)\.(?=[a-z])"
)
_VERSION_TAIL = re.compile(r"(?:-v\d+)?(?::\d+)?$")


# -- LiteLLM's price map -------------------------------------------------------------------------


def prices_from_litellm(
    path: str | Path, catalog: Catalog, date: str | None = None
) -> tuple[Catalog, PriceReport]:
    """Take over the prices of a LiteLLM price map (``model_prices_and_context_window.json``).

    The map is in USD per *token*; what it does not say is unknown, so an entry without both
    prices, or with both at zero, is passed over. Read are input, output, cached input, cache
    writes, reasoning and sound, and tiers above a context size, be they told by
    ``..._above_200k_tokens`` or by ``tiered_pricing``. Entries are matched by name: provider
    prefixes (``azure/``, ``bedrock/us-east-1/``, ``us.anthropic.``) and version tails (``-v2:0``)
    come off, then the alias table resolves the spelling (`linking.AliasTable.resolve`). Of several
    entries it takes the one spelled like the catalog name, else the vendor's own, else the host in
    the middle by output price. Prices of kind ``user`` stay.

    Args:
        path: The map.
        catalog: Whose models to price.
        date: When the map was read, ``YYYY-MM-DD``; by default the day the file was last changed.

    Raises:
        CatalogError: the file cannot be read, is no price map, or holds a price that is none.
    """
    from zerorouter.linking import load_aliases

    resolve = load_aliases().resolve
    where = str(path)
    entries = parse_json(read_text(Path(path)), where)
    if not isinstance(entries, dict):
        raise CatalogError(
            f"{where}: wanted LiteLLM's price map, an object of model entries; "
            f"found {type(entries).__name__}"
        )
    read = date or _changed(Path(path))
    offers: dict[str, list[tuple[int, float, str, Price]]] = {}
    for key, entry in entries.items():
        price = _litellm_price(where, key, entry, read)
        if price is None:
            continue
        bare = _strip_provider(key)
        name = bare if bare in catalog else resolve(bare)
        if name is None or name not in catalog:
            continue
        vendor = catalog.get(name).vendor
        own = str(entry.get("litellm_provider", "")) in _OWN_PROVIDERS.get(vendor, (vendor,))
        rank = 0 if key == name else 1 if own and bare == name else 2 if own else 3
        offers.setdefault(name, []).append((rank, price.output_usd_per_mtok, key, price))

    matched: dict[str, str] = {}
    prices: dict[str, Price] = {}
    kept: list[str] = []
    for name, found in offers.items():
        best = min(rank for rank, *_ in found)
        ranked = sorted(
            ((cost, key, price) for rank, cost, key, price in found if rank == best),
            key=lambda offer: offer[:2],
        )
        _, key, price = ranked[(len(ranked) - 1) // 2]
        old = catalog.get(name).price
        if old is not None and old.kind == "user":
            kept.append(name)
            continue
        matched[name] = key
        prices[name] = price
    report = PriceReport(
        matched=matched,
        unmatched=tuple(name for name in catalog.names if name not in offers),
        kept=tuple(kept),
        changed=tuple(n for n, p in prices.items() if not _same_price(catalog.get(n).price, p)),
    )
    return catalog.with_prices(prices), report


def _changed(path: Path) -> str:
    stamp = path.stat().st_mtime
    return datetime.datetime.fromtimestamp(stamp, tz=datetime.UTC).date().isoformat()


def _strip_provider(key: str) -> str:
    """A price map's key without its provider, region and version tail."""
    bare = key.rpartition("/")[2].lower()
    shorter = _BEDROCK_VENDOR.sub("", bare)
    if shorter != bare:
        shorter = _VERSION_TAIL.sub("", shorter)
    return shorter.replace("@", "-")


def _litellm_price(where: str, key: str, entry: object, date: str) -> Price | None:
    """The price of one entry, or None where it has none (a template, an image model, unknown)."""
    if key == "sample_spec" or key.startswith("ft:") or not isinstance(entry, dict):
        return None
    if entry.get("mode", "chat") not in ("chat", "completion", "responses"):
        return None
    label = f"{where}: entry {key!r}"
    base, tiers = _listed_tiers(label, entry)
    if base is None:
        base = _amounts(label, entry, _TIERED)
        tiers = _suffixed_tiers(label, entry, base)
    if not {"input_usd_per_mtok", "output_usd_per_mtok"} <= base.keys():
        return None
    if base["input_usd_per_mtok"] == base["output_usd_per_mtok"] == 0:
        return None
    return Price(
        **base,
        **_amounts(label, entry, _FLAT),
        tiers=tiers,
        source=f"{Path(where).name}: {key}",
        date=date,
    )


def _amounts(
    label: str, entry: Mapping[str, Any], fields: Mapping[str, tuple[str, ...]], suffix: str = ""
) -> dict[str, Any]:
    """Our fields that an entry fills, in dollars per million tokens."""
    out = {}
    for ours, theirs in fields.items():
        found = [entry[name + suffix] for name in theirs if entry.get(name + suffix) is not None]
        if not found:
            continue
        value = found[0]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not isfinite(value)
            or value < 0
        ):
            said = _SAID.get(ours, theirs[0] + suffix)
            raise CatalogError(
                f"{label}: {said} price: found {value!r}; wanted USD per token, 0 or more"
            )
        # Six digits hold every price there is and drop the dust of 1e-06 * 1e6.
        out[ours] = round(value * 1e6, 6)
    return out


def _suffixed_tiers(
    label: str, entry: Mapping[str, Any], base: Mapping[str, Any]
) -> tuple[PriceTier, ...]:
    """Tiers told by keys such as ``input_cost_per_token_above_200k_tokens``."""
    bases = {name for theirs in _TIERED.values() for name in theirs}
    limits = {
        int(match[1])
        for name in entry
        if (match := _ABOVE.search(name)) and name[: match.start()] in bases
    }
    tiers = []
    for limit in sorted(limits):
        amounts = {**base, **_amounts(label, entry, _TIERED, f"_above_{limit}k_tokens")}
        if {"input_usd_per_mtok", "output_usd_per_mtok"} <= amounts.keys():
            tiers.append(PriceTier(above_input_tokens=limit * 1000, **amounts))
    return tuple(tiers)


def _listed_tiers(
    label: str, entry: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, tuple[PriceTier, ...]]:
    """Tiers told by ``tiered_pricing``: rows with a ``range`` of input tokens; else None."""
    rows = entry.get("tiered_pricing")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict)
        and isinstance(row.get("range"), list)
        and row["range"]
        and isinstance(row["range"][0], int | float)
        for row in rows
    ):
        return None, ()
    whole = _amounts(label, entry, _TIERED)
    steps = {
        int(row["range"][0]): {**whole, **_amounts(label, row, _TIERED)}
        for row in sorted(rows, key=lambda row: float(row["range"][0]))
    }
    if not steps or not all(
        {"input_usd_per_mtok", "output_usd_per_mtok"} <= amounts.keys()
        for amounts in steps.values()
    ):
        return None, ()
    (_, base), *above = steps.items()
    return base, tuple(PriceTier(above_input_tokens=limit, **amounts) for limit, amounts in above)


def _same_price(old: Price | None, new: Price) -> bool:
    if old is None:
        return False
    said = ("kind", "source", "date")
    return {k: v for k, v in old.to_dict().items() if k not in said} == {
        k: v for k, v in new.to_dict().items() if k not in said
    }


# -- the list that a user keeps -------------------------------------------------------------------


def kept_path() -> Path:
    """Where the kept list stands: ``prices.json`` in the state folder."""
    return home_dir() / "prices.json"


def keep_prices(prices: Mapping[str, Price], path: Path | None = None) -> Path:
    """Keep prices by model name, in place of those kept before; whole or not at all.

    Raises:
        CatalogError: the list cannot be written.
    """
    target = path or kept_path()
    rows = [
        f"  {json.dumps(name)}: {json.dumps(price.to_dict(), ensure_ascii=False)}"
        for name, price in sorted(prices.items())
    ]
    text = "\n".join(
        [
            "{",
            f' "format": "{KEPT_FORMAT}",',
            f' "version": {KEPT_VERSION},',
            ' "prices": {',
            ",\n".join(rows),
            " }",
            "}\n",
        ]
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(prefix=".prices-", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).replace(target)
        finally:
            Path(fresh).unlink(missing_ok=True)
    except OSError as error:
        raise CatalogError(
            f"{target}: the prices cannot be kept: {error.strerror or error}"
        ) from error
    return target


def forget_prices(path: Path | None = None) -> bool:
    """Remove the kept list; whether there was one.

    Raises:
        CatalogError: it cannot be removed.
    """
    target = path or kept_path()
    try:
        target.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CatalogError(f"{target}: cannot be removed: {error.strerror or error}") from error
    return True


def kept_prices(path: Path | None = None) -> dict[str, Price]:
    """The kept prices by model name; empty where none are kept.

    Raises:
        CatalogError: the list is damaged; the message says how to be rid of it.
    """
    target = path or kept_path()
    if not target.is_file():
        return {}
    remedy = "keep another with --prices-from FILE, or drop it with --forget-prices"
    try:
        table = parse_json(read_text(target), str(target))
        if not isinstance(table, dict) or table.get("format") != KEPT_FORMAT:
            raise CatalogError(f"{target}: not a list of kept prices")
        if table.get("version") != KEPT_VERSION:
            raise CatalogError(
                f"{target}: version {table.get('version')!r}; this ZeroRouter reads {KEPT_VERSION}"
            )
        rows = table.get("prices")
        if not isinstance(rows, dict):
            raise CatalogError(f"{target}: prices: wanted an object of prices by model")
        return {name: Price.from_dict(row) for name, row in rows.items()}
    except ZeroRouterError as error:
        raise CatalogError(f"{error}; {remedy}") from error


def with_kept_prices(catalog: Catalog, path: Path | None = None) -> Catalog:
    """The catalog at the kept prices; models it no longer holds are passed over."""
    prices = kept_prices(path)
    return catalog.with_prices({n: p for n, p in prices.items() if n in catalog})
