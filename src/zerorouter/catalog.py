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
from pathlib import Path
from typing import Any

from zerorouter.errors import CatalogError, UnknownNameError
from zerorouter.prices import PRICE_KINDS as PRICE_KINDS
from zerorouter.prices import Price as Price
from zerorouter.prices import check_amount, wrong

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

_MODEL_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")


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
            raise wrong("name", self.name, "a non-empty string")
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
                raise wrong(key, text, "a string")
        for key, flag in (
            ("reasoning", self.reasoning),
            ("in_default_pool", self.in_default_pool),
        ):
            if flag is not True and flag is not False:
                raise wrong(key, flag, "true or false")
        if self.released is not None and not _fits(_MODEL_DATE, self.released):
            raise wrong("released", self.released, "YYYY-MM or YYYY-MM-DD")
        if self.params_b is not None:
            check_amount("params_b", self.params_b, positive=True)
        if self.throughput_tok_s is not None:
            check_amount("throughput_tok_s", self.throughput_tok_s, positive=True)
        if self.ttft_s is not None:
            check_amount("ttft_s", self.ttft_s)
        for key, limit in (
            ("context_tokens", self.context_tokens),
            ("max_output_tokens", self.max_output_tokens),
        ):
            if limit is not None and (type(limit) is not int or limit <= 0):
                raise wrong(key, limit, "a whole number of tokens, 1 or more")
        if not self.capabilities <= CAPABILITIES.keys():
            unknown = sorted(self.capabilities - CAPABILITIES.keys())
            raise wrong("capabilities", unknown[0], f"words of {', '.join(CAPABILITIES)}")

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
                raise wrong("name", name, "a non-empty string")
            if (price := values.get("price")) is not None:
                values["price"] = Price.from_dict(price)
            if "capabilities" in values:
                if not isinstance(words := values["capabilities"], list) or not all(
                    isinstance(word, str) for word in words
                ):
                    raise wrong("capabilities", words, "a list of words")
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
                row[key] = value.to_dict()
            elif key == "capabilities":
                if value:
                    row[key] = sorted(value)
            elif value is not None and value != "" and value is not False:
                row[key] = value
        return row


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
            return cls.from_json(read_text(packaged), where="the packaged catalog")
        return cls.from_json(read_text(Path(path)), where=str(path))

    @classmethod
    def from_json(cls, text: str, *, where: str = "catalog") -> Catalog:
        """The catalog that `to_json` wrote; ``where`` names it in errors."""
        table = parse_json(text, where)
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

    def read_prices(self, path: str | Path, date: str | None = None) -> tuple[Catalog, PriceReport]:
        """With the prices of a LiteLLM price map; see `price_lists.prices_from_litellm`."""
        return prices_from_litellm(path, self, date)


def prices_from_litellm(
    path: str | Path, catalog: Catalog, date: str | None = None
) -> tuple[Catalog, PriceReport]:
    """`price_lists.prices_from_litellm`, which says what is read and how."""
    from zerorouter import price_lists  # routing never needs it

    return price_lists.prices_from_litellm(path, catalog, date)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.strip().lower())


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def read_text(path: Path) -> str:
    """A file's text; `CatalogError` names the file where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CatalogError(f"{path}: not UTF-8 text (byte {error.start})") from error


def parse_json(text: str, where: str) -> Any:
    """The object that a JSON text holds; ``where`` names it in the `CatalogError`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise CatalogError(f"{where}: not valid JSON: {error}") from error
