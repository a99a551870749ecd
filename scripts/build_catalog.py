"""Build the shipped catalog and alias table from the public tables and the reviewed one.

    python scripts/build_catalog.py --data DATA_DIR [--check]

reads ``DATA_DIR/catalog`` and the ``models.csv`` of the record folders (docs/data.md says where
they come from), joins them with ``scripts/catalog_sources.yaml`` and writes
``src/zerorouter/assets/catalog.json`` and ``aliases.json``. The same inputs give the same bytes;
``--check`` writes nothing and fails where the files on disk differ.

Which value wins:

* price: the vendor's list price of August 2026; else the price in the records; else the offer of
  the vendor; else the median over hosts.
* speed: the vendor's own offer; else the median over hosts; else the median of the models of the
  same class, marked ``pooled``.
* everything else: the reviewed table, the records, the model cards, in that order.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import yaml

from zerorouter.catalog import Catalog, ModelSpec, Price
from zerorouter.linking import ALIASES_FORMAT, ALIASES_VERSION, Respondent, normalise_name

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parent / "src" / "zerorouter" / "assets"

CATALOG_DATE = "2026-08"
LIST_SOURCE, LIST_DATE = "simonw/llm-prices", "2026-08"
OFFERS_SOURCE, OFFERS_DATE = "llm-leaderboard offers", "2025-10"
RECORDS_DATE = "2026-11"  # when the records' models.csv were read; they do not say more
SOURCES = (
    "Model cards and offers: llm-leaderboard by Jonathan Chavez Tamales, CC-BY-4.0, "
    "https://creativecommons.org/licenses/by/4.0/; changed: joined, renamed, corrected",
    "List prices: simonw/llm-prices, https://github.com/simonw/llm-prices",
    "Serving speeds of Llama 2: ray-project/llmperf-leaderboard, Apache-2.0",
)
RECORD_FOLDERS = (
    "mmlu-pro",
    "zeroeval",
    "reasoning-gym",
    "cruxeval",
    "alpaca-eval",
    "bfcl",
    "routerbench-subset",
)
# The provider column of a vendor that sells its own models; others are hosts.
OWN_PROVIDER = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "xai": "xai",
    "cohere": "cohere",
    "amazon": "bedrock",
}
# The tables' own aggregator, not a host: used only where nobody else offers the model.
AGGREGATOR = "zeroeval"
VENDOR_NAMES = {"meta-ai": "meta", "moonshot-ai": "moonshotai"}

Row = dict[str, str]


@dataclass(frozen=True)
class Tables:
    """The public tables, keyed by their own ids."""

    cards: dict[str, Row]
    offers: dict[str, list[Row]]
    list_prices: dict[str, Row]
    records: dict[str, dict[str, Row]]
    measured: dict[str, tuple[float, float]]
    """Measured (tokens per second, TTFT) medians by model."""


def read_tables(data: Path) -> Tables:
    """Everything under ``data`` that the catalog is made of."""
    offers: dict[str, list[Row]] = {}
    for row in _rows(data / "catalog" / "offers.csv"):
        offers.setdefault(row["model_id"], []).append(row)
    requests = pq.read_table(
        data / "catalog" / "latency_requests.parquet", columns=["model", "ttft_s", "tpot_s"]
    ).to_pydict()
    by_model: dict[str, list[tuple[float, float]]] = {}
    for model, ttft, tpot in zip(*requests.values(), strict=True):
        if ttft is not None and tpot is not None and tpot > 0:
            by_model.setdefault(model, []).append((1 / tpot, ttft))
    return Tables(
        cards={row["model_id"]: row for row in _rows(data / "catalog" / "models.csv")},
        offers=offers,
        list_prices={row["model_id"]: row for row in _rows(data / "catalog" / "list_prices.csv")},
        records={
            folder: {row["model"]: row for row in _rows(data / folder / "models.csv")}
            for folder in RECORD_FOLDERS
        },
        measured={
            model: (median(speed for speed, _ in seen), median(ttft for _, ttft in seen))
            for model, seen in by_model.items()
        },
    )


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _any_match(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def alias_rows(reviewed: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, str]]]:
    """The alias table as data set -> name -> (id, note)."""
    return {
        dataset: {
            name: (row, "") if isinstance(row, str) else (row[0], row[1])
            for name, row in rows.items()
        }
        for dataset, rows in reviewed["aliases"].items()
    }


def record_facts(tables: Tables, reviewed: Mapping[str, Any]) -> dict[str, Row]:
    """What the records say of each model, by our id; the plainly asked row of the first folder."""
    facts: dict[str, Row] = {}
    aliases = alias_rows(reviewed)
    for folder, models in tables.records.items():
        for name, row in models.items():
            if name not in aliases[folder]:
                raise SystemExit(f"{folder}/models.csv: {name!r} is not in the alias table")
            respondent = Respondent.from_id(aliases[folder][name][0])
            if row["family"] and (respondent.model not in facts):
                facts[respondent.model] = {**row, "folder": folder}
    return facts


# -- one model's facts ---------------------------------------------------------------------------


def list_price(tables: Tables, list_id: str) -> Price:
    """The vendor's list price of August 2026."""
    row = tables.list_prices[list_id]
    return Price(
        input_usd_per_mtok=float(row["input_usd_per_mtok"]),
        output_usd_per_mtok=float(row["output_usd_per_mtok"]),
        cached_input_usd_per_mtok=_number(row["cached_input_usd_per_mtok"]),
        source=f"{LIST_SOURCE}: {row['vendor']}/{list_id}",
        date=LIST_DATE,
    )


def offer_price(vendor: str, offers: list[Row]) -> Price | None:
    """The vendor's own offer, else the medians over hosts."""
    chosen, label = _own_or_hosts(vendor, [o for o in offers if o["input_usd_per_mtok"]])
    if not chosen:
        return None
    return Price(
        input_usd_per_mtok=round(median(float(o["input_usd_per_mtok"]) for o in chosen), 4),
        output_usd_per_mtok=round(median(float(o["output_usd_per_mtok"]) for o in chosen), 4),
        source=f"{OFFERS_SOURCE}: {label}",
        date=OFFERS_DATE,
    )


def _own_or_hosts(vendor: str, offers: list[Row]) -> tuple[list[Row], str]:
    own = [o for o in offers if o["provider"] == OWN_PROVIDER.get(vendor, vendor)]
    if own:
        return own[:1], own[0]["provider"]
    hosts = [o for o in offers if o["provider"] != AGGREGATOR] or offers
    if not hosts:
        return [], ""
    if len(hosts) == 1:
        return hosts, hosts[0]["provider"]
    return hosts, f"median of {len(hosts)} hosts"


@dataclass(frozen=True)
class Speed:
    """Tokens per second, TTFT and where each is from; None where no offer says."""

    throughput: float | None
    ttft: float | None
    source: str


def offer_speed(vendor: str, offers: list[Row], standing_in: str = "") -> Speed:
    """The vendor's own offer's speed, else the medians over hosts, figure by figure."""
    figures: list[float | None] = []
    labels: list[str] = []
    for column in ("throughput_tok_s", "latency_s"):
        chosen, label = _own_or_hosts(vendor, [o for o in offers if o[column]])
        figures.append(median(float(o[column]) for o in chosen) if chosen else None)
        labels.append(label)
    suffix = f" (of {standing_in})" if standing_in else ""
    if figures[0] is not None and figures[1] is not None and labels[0] != labels[1]:
        label = f"throughput {labels[0]}, ttft {labels[1]}"
    else:
        label = labels[0] or labels[1]
    source = f"{OFFERS_SOURCE}: {label}{suffix}" if label else ""
    return Speed(figures[0], figures[1], source)


def speed_class(params_b: float | None, reasoning: bool, price: Price | None) -> str:
    """The class whose median stands in for a speed nobody has published."""
    if reasoning:  # its first token comes after its thoughts, at some vendors
        return "reasoning, closed" if params_b is None else "reasoning, open weights"
    if params_b is not None:
        for limit in (4, 10, 40, 80):
            if params_b <= limit:
                return f"up to {limit}B"
        return "over 80B"
    if price is None:
        return "unpriced"
    for limit in (1, 5, 20):
        if price.output_usd_per_mtok <= limit:
            return f"up to ${limit}/Mtok out"
    return "over $20/Mtok out"


def capabilities_of(card: Row | None, offers: list[Row]) -> frozenset[str]:
    """What the tables say a card-only model can do: true for every offer or for the card."""
    words = set()
    for word, column in (
        ("tools", "feature_function_calling"),
        ("json", "feature_structured_output"),
        ("vision", "input_modality_image"),
        ("audio", "input_modality_audio"),
        ("video", "input_modality_video"),
    ):
        said = [o[column] == "True" for o in offers if o[column]]
        if said and all(said):
            words.add(word)
    if card is not None and card["multimodal"] == "True":
        words.add("vision")
    return frozenset(words)


def token_limit(vendor: str, offers: list[Row], column: str) -> int | None:
    """The vendor's own limit, else the median of the hosts'."""
    chosen, _ = _own_or_hosts(vendor, [o for o in offers if o[column]])
    return _whole(median(float(o[column]) for o in chosen)) if chosen else None


# -- the catalog ---------------------------------------------------------------------------------


def reviewed_specs(tables: Tables, reviewed: Mapping[str, Any]) -> list[tuple[ModelSpec, Speed]]:
    """The models with records: reviewed facts over records over cards."""
    facts = record_facts(tables, reviewed)
    specs = []
    for name, entry in reviewed["models"].items():
        record = facts.get(name)
        card = tables.cards.get(entry.get("card", ""))
        offers = tables.offers.get(entry.get("card", ""), [])
        vendor = entry["vendor"]
        if "list" in entry:
            price: Price | None = list_price(tables, entry["list"])
        elif record is not None and record["input_usd_per_mtok"]:
            price = Price(
                input_usd_per_mtok=float(record["input_usd_per_mtok"]),
                output_usd_per_mtok=float(record["output_usd_per_mtok"]),
                kind=record["price_kind"],
                source=f"evaluation records: {record['folder']}",
                date=RECORDS_DATE,
            )
        else:
            price = offer_price(vendor, offers)
        released = record["released"] if record else None
        if (
            card is not None
            and card["release_date"]
            and released in (None, card["release_date"][:7])
        ):
            released = card["release_date"]
        params = _number(record["params_b"]) if record else None
        if params is None and card is not None and card["param_count"]:
            params = round(float(card["param_count"]) / 1e9, 2)
        if "speed" in entry:
            speed = offer_speed(vendor, tables.offers[entry["speed"]], entry["speed"])
        else:
            speed = offer_speed(vendor, offers)
        spec = ModelSpec(
            name=name,
            vendor=vendor,
            family=record["family"] if record else entry["family"],
            released=released,
            params_b=params,
            reasoning=entry.get("reasoning", False),
            price=price,
            context_tokens=entry.get("context") or token_limit(vendor, offers, "max_input_tokens"),
            max_output_tokens=entry.get("output")
            or token_limit(vendor, offers, "max_output_tokens"),
            capabilities=frozenset(entry["caps"]),
            in_default_pool="out" not in entry,
        )
        if spec.in_default_pool and spec.price is None:
            raise SystemExit(f"{name}: in the default pool without a price")
        specs.append((spec, speed))
    return specs


def card_only_specs(tables: Tables, reviewed: Mapping[str, Any]) -> list[tuple[ModelSpec, Speed]]:
    """Every other model that somebody sells: from its card, from the price list, or both."""
    rules = reviewed["card_only"]
    ids = {name: row[0] for name, row in alias_rows(reviewed)["catalog"].items()}
    specs = []
    listed = {entry["list"] for entry in reviewed["models"].values() if "list" in entry}
    listed |= set(rules["list_of_card"].values())
    for card_id, card in tables.cards.items():
        name = ids.get(card_id, normalise_name(card_id))
        offers = tables.offers.get(card_id, [])
        list_id = rules["list_of_card"].get(card_id)
        if name in reviewed["models"] or _any_match(card_id, rules["skip_cards"]):
            continue
        vendor = card["organization_id"]
        if _any_match(card_id, rules["sold_by_hosts"]):
            offers = [o for o in offers if o["provider"] != OWN_PROVIDER[vendor]]
        price = list_price(tables, list_id) if list_id else offer_price(vendor, offers)
        if price is None:
            continue
        spec = ModelSpec(
            name=name,
            vendor=vendor,
            family=family_of(name, rules),
            released=card["release_date"] or None,
            params_b=round(float(card["param_count"]) / 1e9, 2) if card["param_count"] else None,
            reasoning=is_reasoning(name, rules),
            price=price,
            context_tokens=token_limit(vendor, offers, "max_input_tokens"),
            max_output_tokens=token_limit(vendor, offers, "max_output_tokens"),
            capabilities=capabilities_of(card, offers) - not_capable(name, rules),
        )
        specs.append((spec, offer_speed(vendor, offers)))
    taken = {spec.name for spec, _ in specs} | set(reviewed["models"])
    for list_id, row in tables.list_prices.items():
        spelled = normalise_name(list_id)
        name = reviewed["synonyms"].get(spelled, spelled)
        if list_id in listed or name in taken or _any_match(list_id, rules["skip_lists"]):
            continue
        family, released, params_b, _ = reviewed["cards"].get(
            name, [family_of(name, rules), None, None, False]
        )
        spec = ModelSpec(
            name=name,
            vendor=VENDOR_NAMES.get(row["vendor"], row["vendor"]),
            family=family,
            released=released,
            params_b=params_b,
            reasoning=is_reasoning(name, rules),
            price=list_price(tables, list_id),
        )
        specs.append((spec, Speed(None, None, "")))
    return specs


def family_of(name: str, rules: Mapping[str, Any]) -> str:
    """The family of the first rule that takes the name, else the name itself."""
    return next((str(fam) for glob, fam in rules["families"] if fnmatchcase(name, glob)), name)


def not_capable(name: str, rules: Mapping[str, Any]) -> frozenset[str]:
    """Capabilities the tables claim for a card-only model and its vendor does not."""
    return frozenset(
        word for glob, words in rules["not_capable"] if fnmatchcase(name, glob) for word in words
    )


def is_reasoning(name: str, rules: Mapping[str, Any]) -> bool:
    """Whether a card-only model thinks unless told otherwise."""
    return _any_match(name, rules["reasoning"]) and not _any_match(name, rules["not_reasoning"])


def with_speeds(specs: list[tuple[ModelSpec, Speed]], tables: Tables) -> list[ModelSpec]:
    """Fill in the speeds, pooling by class where nobody says."""
    throughputs: dict[str, list[float]] = {}
    ttfts: dict[str, list[float]] = {}
    for spec, speed in specs:
        group = speed_class(spec.params_b, spec.reasoning, spec.price)
        if speed.throughput is not None:
            throughputs.setdefault(group, []).append(speed.throughput)
        if speed.ttft is not None:
            ttfts.setdefault(group, []).append(speed.ttft)
    for model, (throughput, ttft) in tables.measured.items():
        size = float(model.removeprefix("llama-2-").partition("b-")[0])
        group = speed_class(size, False, None)
        throughputs.setdefault(group, []).append(throughput)
        ttfts.setdefault(group, []).append(ttft)
    finished = []
    for spec, speed in specs:
        group = speed_class(spec.params_b, spec.reasoning, spec.price)
        pooled = [
            f"{label} pooled: {group}"
            for label, figure in (("throughput", speed.throughput), ("ttft", speed.ttft))
            if figure is None
        ]
        throughput = speed.throughput or median(throughputs[group])
        ttft = speed.ttft if speed.ttft is not None else median(ttfts[group])
        if len(pooled) == 2:
            pooled = [f"pooled: {group}"]
        source = "; ".join([*([speed.source] if speed.source else []), *pooled])
        finished.append(
            replace(
                spec,
                throughput_tok_s=round(throughput, 2),
                ttft_s=round(ttft, 3),
                speed_source=source,
            )
        )
    return finished


def build_catalog(tables: Tables, reviewed: Mapping[str, Any]) -> Catalog:
    """The catalog: the default pool first, then the rest, each by name."""
    specs = with_speeds(
        [*reviewed_specs(tables, reviewed), *card_only_specs(tables, reviewed)], tables
    )
    specs.sort(key=lambda spec: (not spec.in_default_pool, spec.name))
    return Catalog(models=tuple(specs), date=CATALOG_DATE, sources=SOURCES)


# -- the alias table -----------------------------------------------------------------------------


def build_aliases(tables: Tables, reviewed: Mapping[str, Any], catalog: Catalog) -> str:
    """The alias table with the cards of all respondents, as JSON with one row a line."""
    aliases = alias_rows(reviewed)
    facts = record_facts(tables, reviewed)
    for folder, rows_of in tables.records.items():
        if gone := sorted(aliases[folder].keys() - rows_of.keys()):
            raise SystemExit(f"aliases.{folder}: {gone[0]!r} is not in the records")
    models = {
        Respondent.from_id(row[0]).model
        for dataset, rows in aliases.items()
        if dataset != "catalog"
        for row in rows.values()
    }
    if unused := sorted(set(reviewed["cards"]) - models):
        raise SystemExit(f"cards: {unused[0]!r} is no respondent")
    base = set(reviewed["base"])
    cards = [
        _card(m, facts.get(m), catalog, reviewed["cards"].get(m), m in base) for m in sorted(models)
    ]
    for spelling, target in reviewed["synonyms"].items():
        if spelling != normalise_name(spelling):
            raise SystemExit(f"synonyms: {spelling!r} is not in the normalised spelling")
        if target not in models and target not in catalog:
            raise SystemExit(f"synonyms: {target!r} is neither a catalog model nor a respondent")
    synonyms: dict[str, str] = dict(reviewed["synonyms"])
    # Card-only models are spellings of themselves too.
    known = models | set(synonyms.values())
    synonyms |= {m.name: m.name for m in catalog if m.name not in known and m.name not in synonyms}
    sections = [
        f' "format": {json.dumps(ALIASES_FORMAT)}',
        f' "version": {ALIASES_VERSION}',
        f' "sources": {json.dumps(list(SOURCES[:1]))}',
        ' "cards": [\n' + ",\n".join(f"  {json.dumps(card)}" for card in cards) + "\n ]",
        _section("aliases", {d: {n: r[0] for n, r in rows.items()} for d, rows in aliases.items()}),
        _section(
            "notes", {d: {n: r[1] for n, r in rows.items() if r[1]} for d, rows in aliases.items()}
        ),
        _section("synonyms", dict(sorted(synonyms.items()))),
    ]
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _section(name: str, value: Mapping[str, Any]) -> str:
    text = json.dumps(value, indent=1, sort_keys=name != "aliases", ensure_ascii=False)
    return f' "{name}": ' + text.replace("\n", "\n ")


def _card(
    model: str, record: Row | None, catalog: Catalog, reviewed: list[Any] | None, is_base: bool
) -> dict[str, Any]:
    spec = catalog.get(model) if model in catalog else None
    card: dict[str, Any] = {"model": model}
    if record is not None:
        card |= {"family": record["family"], "released": record["released"]}
        card["params_b"] = _number(record["params_b"])
    elif spec is not None:
        card |= {"family": spec.family, "released": spec.released, "params_b": spec.params_b}
    elif reviewed is not None:
        family, released, params_b, is_base = reviewed
        card |= {"family": family, "released": released, "params_b": params_b}
    else:
        raise SystemExit(f"{model}: no card; add one to the reviewed table")
    if spec is not None:
        card |= {"reasoning": spec.reasoning, "context_tokens": spec.context_tokens}
    card["is_base"] = is_base
    if record is not None and record["input_usd_per_mtok"]:
        card["input_usd_per_mtok"] = float(record["input_usd_per_mtok"])
        card["output_usd_per_mtok"] = float(record["output_usd_per_mtok"])
        card["price_kind"] = record["price_kind"]
    elif spec is not None and spec.price is not None:
        card["input_usd_per_mtok"] = spec.price.input_usd_per_mtok
        card["output_usd_per_mtok"] = spec.price.output_usd_per_mtok
        card["price_kind"] = spec.price.kind
    return {k: v for k, v in card.items() if v is not None and v is not False}


def main(argv: list[str] | None = None) -> int:
    """Write the two assets, or compare them with ``--check``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    default = os.environ.get("ZEROROUTER_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None)
    parser.add_argument("--check", action="store_true", help="compare with the files on disk")
    options = parser.parse_args(argv)
    tables = read_tables(Path(options.data))
    reviewed = yaml.safe_load((HERE / "catalog_sources.yaml").read_text(encoding="utf-8"))
    catalog = build_catalog(tables, reviewed)
    texts = {
        ASSETS / "catalog.json": catalog.to_json(),
        ASSETS / "aliases.json": build_aliases(tables, reviewed, catalog),
    }
    stale = [p for p, text in texts.items() if not p.exists() or p.read_text("utf-8") != text]
    if options.check:
        for path in stale:
            print(f"{path.name} differs from what the sources give: run {Path(__file__).name}")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    print(f"{len(catalog)} models, {len(catalog.pool())} in the default pool", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
