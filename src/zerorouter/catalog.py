"""The catalog: which models are on offer, what they cost, how fast they are, what they can do.

`Catalog.load` reads the packaged ``assets/catalog.json`` (built by ``scripts/build_catalog.py``)
with plain `json` and dataclasses, since it stands on the cold path of ``zerorouter route``.
The *default pool* is the part with evaluation records behind it; the rest are models known only
from their cards, waiting to be onboarded. Prices are in USD per million tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any

from zerorouter.errors import CatalogError, UnknownNameError

CATALOG_FORMAT = "zerorouter-catalog"
CATALOG_VERSION = 1

CAPABILITIES: Mapping[str, str] = {
    "vision": "reads images",
    "audio": "hears audio",
    "video": "watches video",
    "documents": "reads PDF files",
    "tools": "calls functions natively",
    "json": "keeps to a JSON mode or a JSON schema",
}
"""The words of `ModelSpec.capabilities`. A capability that is not named is not promised."""

PRICE_KINDS: Mapping[str, str] = {
    "list": "the list price of the vendor or of a host",
    "size-tier": "a nominal hosted price for open weights of that size",
    "user": "set by the user; nothing overrides it",
}

_DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_MODEL_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What a model charges, with where and when that was read.

    Attributes:
        input_usd_per_mtok: USD per million input tokens.
        output_usd_per_mtok: USD per million output tokens, reasoning tokens included.
        cached_input_usd_per_mtok: USD per million input tokens read from the vendor's prompt
            cache; None where not known (then nothing is saved by it).
        kind: A word of `PRICE_KINDS`.
        source: Where the price stands.
        date: When it stood there, ``YYYY[-MM[-DD]]``; None where not known.
    """

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None
    kind: str = "list"
    source: str = ""
    date: str | None = None

    def __post_init__(self) -> None:
        _check_amount("price.input_usd_per_mtok", self.input_usd_per_mtok)
        _check_amount("price.output_usd_per_mtok", self.output_usd_per_mtok)
        if self.cached_input_usd_per_mtok is not None:
            _check_amount("price.cached_input_usd_per_mtok", self.cached_input_usd_per_mtok)
        if self.kind not in PRICE_KINDS:
            raise _wrong("price.kind", self.kind, f"one of {', '.join(PRICE_KINDS)}")
        if self.date is not None and not _fits(_DATE, self.date):
            raise _wrong("price.date", self.date, "YYYY, YYYY-MM or YYYY-MM-DD")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A model on offer.

    Attributes:
        name: The id by which policies, profiles and requests name it.
        vendor: Who made it.
        family: The line it belongs to; models of a family resemble each other.
        released: ``YYYY-MM`` or ``YYYY-MM-DD``; None where not known.
        params_b: Billions of parameters (all experts); None where not published.
        reasoning: Whether it thinks, at the price of output tokens, before it answers.
        price: None where not known: an error where a cost is needed, never zero.
        context_tokens: Longest prompt and answer together; None where not known.
        max_output_tokens: Longest answer; None where not known.
        capabilities: Words of `CAPABILITIES`.
        throughput_tok_s: Output tokens per second once it writes.
        ttft_s: Seconds to the first token.
        speed_source: Where the two speeds come from; ``pooled`` marks the median of its class.
        in_default_pool: Whether the shipped space has its ability and routes to it unasked.
    """

    name: str
    vendor: str = ""
    family: str = ""
    released: str | None = None
    params_b: float | None = None
    reasoning: bool = False
    price: Price | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    throughput_tok_s: float | None = None
    ttft_s: float | None = None
    speed_source: str = ""
    in_default_pool: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise _wrong("name", self.name, "a non-empty string")
        try:
            self._check()
        except CatalogError as error:
            raise CatalogError(f"model {self.name!r}: {error}") from None

    def _check(self) -> None:
        for key, text in (
            ("vendor", self.vendor),
            ("family", self.family),
            ("speed_source", self.speed_source),
        ):
            if not isinstance(text, str):
                raise _wrong(key, text, "a string")
        for key, flag in (
            ("reasoning", self.reasoning),
            ("in_default_pool", self.in_default_pool),
        ):
            if flag is not True and flag is not False:
                raise _wrong(key, flag, "true or false")
        if self.released is not None and not _fits(_MODEL_DATE, self.released):
            raise _wrong("released", self.released, "YYYY-MM or YYYY-MM-DD")
        if self.params_b is not None:
            _check_amount("params_b", self.params_b, positive=True)
        if self.throughput_tok_s is not None:
            _check_amount("throughput_tok_s", self.throughput_tok_s, positive=True)
        if self.ttft_s is not None:
            _check_amount("ttft_s", self.ttft_s)
        for key, limit in (
            ("context_tokens", self.context_tokens),
            ("max_output_tokens", self.max_output_tokens),
        ):
            if limit is not None and (type(limit) is not int or limit <= 0):
                raise _wrong(key, limit, "a whole number of tokens, 1 or more")
        if not self.capabilities <= CAPABILITIES.keys():
            unknown = sorted(self.capabilities - CAPABILITIES.keys())
            raise _wrong("capabilities", unknown[0], f"words of {', '.join(CAPABILITIES)}")

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> ModelSpec:
        """A spec from its JSON form; `CatalogError` names the model and the field."""
        name = row.get("name")
        label = f"model {name!r}" if isinstance(name, str) else "a model without a name"
        try:
            if unknown := row.keys() - _MODEL_KEYS:
                key = sorted(unknown)[0]
                raise CatalogError(
                    f"unknown field {key!r}; known: {', '.join(sorted(_MODEL_KEYS))}"
                )
            values = dict(row)
            if name is None:
                raise _wrong("name", name, "a non-empty string")
            if (price := values.get("price")) is not None:
                values["price"] = _price_from_dict(price)
            if "capabilities" in values:
                if not isinstance(words := values["capabilities"], list) or not all(
                    isinstance(word, str) for word in words
                ):
                    raise _wrong("capabilities", words, "a list of words")
                values["capabilities"] = frozenset(words)
        except CatalogError as error:
            raise CatalogError(f"{label}: {error}") from None
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: what is unknown or at its default is left out."""
        row: dict[str, Any] = {"name": self.name}
        for key in _MODEL_ORDER:
            value = getattr(self, key)
            if key == "price" and value is not None:
                row[key] = {
                    k: v for k in _PRICE_ORDER if (v := getattr(value, k)) is not None and v != ""
                }
            elif key == "capabilities":
                if value:
                    row[key] = sorted(value)
            elif value is not None and value != "" and value is not False:
                row[key] = value
        return row


_PRICE_ORDER = tuple(Price.__dataclass_fields__)
_MODEL_ORDER = tuple(key for key in ModelSpec.__dataclass_fields__ if key != "name")
_MODEL_KEYS = frozenset(ModelSpec.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceReport:
    """What became of a price list.

    Attributes:
        matched: Catalog name -> the entry of the list whose price it took.
        unmatched: Catalog names the list has no price for; they keep what they had.
        kept: Catalog names the list has a price for, but whose user-set price stays.
        changed: Catalog names whose price is another one now.
    """

    matched: Mapping[str, str]
    unmatched: tuple[str, ...]
    kept: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """An ordered, immutable set of models with unique names.

    Attributes:
        models: The models, in the order in which they are listed everywhere.
        date: When the catalog was put together.
        sources: Attributions of the public tables it was made from.
    """

    models: tuple[ModelSpec, ...]
    date: str | None = None
    sources: tuple[str, ...] = ()
    _by_name: dict[str, ModelSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, ModelSpec] = {}
        for position, model in enumerate(self.models):
            if model.name in by_name:
                raise CatalogError(
                    f"model {model.name!r}: name: found twice (again at position {position}); "
                    f"wanted unique names: remove or rename one"
                )
            by_name[model.name] = model
        object.__setattr__(self, "_by_name", by_name)

    # -- reading -------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path | None = None) -> Catalog:
        """The catalog of a JSON file, by default the packaged one."""
        if path is None:
            # importlib.resources would cost more than the reading itself.
            packaged = Path(__file__).with_name("assets") / "catalog.json"
            return cls.from_json(_read_text(packaged), where="the packaged catalog")
        return cls.from_json(_read_text(Path(path)), where=str(path))

    @classmethod
    def from_json(cls, text: str, *, where: str = "catalog") -> Catalog:
        """The catalog that `to_json` wrote; ``where`` names it in errors."""
        table = _parse_json(text, where)
        if not isinstance(table, dict) or table.get("format") != CATALOG_FORMAT:
            raise CatalogError(f"{where}: not a catalog; wanted format {CATALOG_FORMAT!r}")
        if (version := table.get("version")) != CATALOG_VERSION:
            raise CatalogError(
                f"{where}: catalog version {version!r}; this ZeroRouter reads version "
                f"{CATALOG_VERSION}"
            )
        rows = table.get("models")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CatalogError(f"{where}: models: wanted a list of objects")
        try:
            return cls(
                models=tuple(ModelSpec.from_dict(row) for row in rows),
                date=table.get("date"),
                sources=tuple(table.get("sources", ())),
            )
        except CatalogError as error:
            raise CatalogError(f"{where}: {error}") from None

    def to_json(self) -> str:
        """JSON with one model a line, so that two catalogs can be compared line by line."""
        head: dict[str, Any] = {"format": CATALOG_FORMAT, "version": CATALOG_VERSION}
        if self.date is not None:
            head["date"] = self.date
        if self.sources:
            head["sources"] = list(self.sources)
        lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}," for k, v in head.items()]
        rows = [f"  {json.dumps(m.to_dict(), ensure_ascii=False)}" for m in self.models]
        return "\n".join(["{", *lines, ' "models": [', ",\n".join(rows), " ]", "}"]) + "\n"

    # -- looking up ----------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(self._by_name)

    def get(self, name: str) -> ModelSpec:
        """The model of that name; `UnknownNameError` suggests the nearest one."""
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownNameError("model", name, self._by_name) from None

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    # -- narrowing and changing ------------------------------------------------------------------

    def pool(self) -> Catalog:
        """The default pool: the models that are routed to unless the user names others."""
        return replace(self, models=tuple(m for m in self.models if m.in_default_pool))

    def select(self, patterns: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> Catalog:
        """The models whose names match one of the shell globs and none of the excluded ones.

        Matching ignores case. A wanted pattern that matches nothing is an `UnknownNameError`
        (most likely a slip of the pen); an excluded one is not, since a list of what is not
        wanted may well be longer than the catalog.

        >>> Catalog.load().select(["gpt-4o*"], exclude=["*mini*"]).names
        ('gpt-4o-2024-05-13', 'gpt-4o-2024-08-06')
        """
        wanted = set(self._by_name)
        if patterns is not None:
            wanted = set()
            for pattern in patterns:
                hits = [name for name in self._by_name if _matches(name, pattern)]
                if not hits:
                    raise UnknownNameError("model", pattern, self._by_name)
                wanted.update(hits)
        return replace(
            self,
            models=tuple(
                m
                for m in self.models
                if m.name in wanted and not any(_matches(m.name, p) for p in exclude)
            ),
        )

    def with_models(self, models: Iterable[ModelSpec]) -> Catalog:
        """With these models added at the end, or in the place of the one of the same name."""
        by_name = dict(self._by_name)
        for model in models:
            by_name[model.name] = model
        return replace(self, models=tuple(by_name.values()))

    def with_prices(self, prices: Mapping[str, Price]) -> Catalog:
        """With these prices, by model name."""
        return self.with_models(
            [replace(self.get(name), price=price) for name, price in prices.items()]
        )

    def read_prices(self, path: str | Path) -> tuple[Catalog, PriceReport]:
        """With the prices of a LiteLLM price map; see `prices_from_litellm`."""
        return prices_from_litellm(path, self)


def prices_from_litellm(path: str | Path, catalog: Catalog) -> tuple[Catalog, PriceReport]:
    """Take over the prices of a LiteLLM price map (``model_prices_and_context_window.json``).

    The map is in USD per *token*; what it does not say is unknown, so an entry without both
    prices, or with both at zero, is passed over. Entries are matched by name: provider prefixes
    (``azure/``, ``bedrock/us-east-1/``, ``us.anthropic.``) and version tails (``-v2:0``) come
    off, then the alias table resolves the spelling (`zerorouter.linking.AliasTable.resolve`). Of
    several entries it takes the one spelled like the catalog name, else the vendor's own, else
    the host in the middle by output price. Prices of kind ``user`` stay. Dearer tiers for long
    contexts are not read.
    """
    from zerorouter.linking import load_aliases

    resolve = load_aliases().resolve
    where = str(path)
    entries = _parse_json(_read_text(Path(path)), where)
    if not isinstance(entries, dict):
        raise CatalogError(
            f"{where}: wanted LiteLLM's price map, an object of model entries; "
            f"found {type(entries).__name__}"
        )
    offers: dict[str, list[tuple[int, float, str, Price]]] = {}
    for key, entry in entries.items():
        price = _litellm_price(where, key, entry)
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


def _strip_provider(key: str) -> str:
    """A price map's key without its provider, region and version tail."""
    bare = key.rpartition("/")[2].lower()
    shorter = _BEDROCK_VENDOR.sub("", bare)
    if shorter != bare:
        shorter = _VERSION_TAIL.sub("", shorter)
    return shorter.replace("@", "-")


def _litellm_price(where: str, key: str, entry: object) -> Price | None:
    """The price of one entry, or None where it has none (a template, an image model, unknown)."""
    if key == "sample_spec" or key.startswith("ft:") or not isinstance(entry, dict):
        return None
    if entry.get("mode", "chat") not in ("chat", "completion", "responses"):
        return None
    per_token = [
        entry.get(name)
        for name in ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    ]
    if per_token[0] is None or per_token[1] is None or per_token[:2] == [0, 0]:
        return None
    for name, value in zip(("input", "output", "cached"), per_token, strict=True):
        if value is not None and (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not isfinite(value)
            or value < 0
        ):
            raise CatalogError(
                f"{where}: entry {key!r}: {name} price: found {value!r}; "
                "wanted USD per token, 0 or more"
            )
    # Twelve digits hold every price there is and drop the dust of 1e-06 * 1e6.
    in_out_cached = [None if v is None else round(v * 1e6, 6) for v in per_token]
    return Price(
        input_usd_per_mtok=in_out_cached[0] or 0.0,
        output_usd_per_mtok=in_out_cached[1] or 0.0,
        cached_input_usd_per_mtok=in_out_cached[2],
        source=f"{Path(where).name}: {key}",
    )


def _same_price(old: Price | None, new: Price) -> bool:
    return old is not None and (
        (old.input_usd_per_mtok, old.output_usd_per_mtok, old.cached_input_usd_per_mtok)
        == (new.input_usd_per_mtok, new.output_usd_per_mtok, new.cached_input_usd_per_mtok)
    )


def _price_from_dict(row: object) -> Price:
    if not isinstance(row, Mapping):
        raise _wrong("price", row, "an object")
    if unknown := row.keys() - Price.__dataclass_fields__.keys():
        raise CatalogError(
            f"price: unknown field {sorted(unknown)[0]!r}; known: {', '.join(_PRICE_ORDER)}"
        )
    for key in ("input_usd_per_mtok", "output_usd_per_mtok"):
        if key not in row:
            raise CatalogError(f"price.{key}: missing; wanted USD per million tokens")
    return Price(**row)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.strip().lower())


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _check_amount(key: str, value: float, *, positive: bool = False) -> None:
    number = isinstance(value, float | int) and value is not True and value is not False
    if number and isfinite(value) and (value > 0 or (value == 0 and not positive)):
        return
    raise _wrong(
        key, value, "a finite number above 0" if positive else "a finite number, 0 or more"
    )


def _wrong(key: str, found: object, wanted: str) -> CatalogError:
    return CatalogError(f"{key}: found {found!r}; wanted {wanted}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path}: not UTF-8 text (byte {error.start})") from error


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CatalogError(f"{where}: not valid JSON: {error}") from error
