"""Which respondents of different data sets are the same model.

Data sets spell one model in many ways and ask it in several: with a chain of thought, for the
bare answer, through function calling, at another host. The reviewed table in
``assets/aliases.json`` gives every (data set, name) pair of our records one respondent id:

* ``llama-3.1-8b-instruct`` is a model asked in the plain way (which in mmlu-pro, zeroeval and
  reasoning-gym, and in cruxeval's ``+cot`` rows, is with a chain of thought). The same id in two
  data sets is the same respondent, and links them.
* ``gpt-4o-2024-05-13#direct`` is the same model asked in another way: a respondent of its own,
  with its own ability, whose ``parent`` is the model.

Where the model has a catalog entry the id is its catalog name. Names the table does not know
stand for themselves, normalised. How the rows were decided: docs/decisions/0005.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from zerorouter.errors import CorruptArtifactError, NewerArtifactError

ALIASES_FORMAT = "zerorouter-aliases"
ALIASES_VERSION = 1

# Organisations that records and price maps put before a name, as `org/name` or `org_name`.
_ORGANISATIONS = (
    "openai|anthropic|google|meta-llama|meta|mistralai|mistral|deepseek-ai|deepseek|qwen|x-ai|xai|"
    "cohere|cohereforai|ai21|microsoft|nvidia|nousresearch|salesforce|thudm|meetkai|ibm-granite|"
    "databricks|snowflake|zero-one-ai|01-ai|amazon|moonshotai|z-ai|zai-org|wizardlm|nexusflow"
)
_ORGANISATION_PREFIX = re.compile(rf"^(?:{_ORGANISATIONS})_(?=.)")
_DECIMAL_UNDERSCORE = re.compile(r"(?<=\d)_(?=\d)")
_SEPARATORS = re.compile(r"[\s_]+")
_VENDOR_SPELLINGS = (
    (re.compile(r"^meta-(?=llama)"), ""),
    (re.compile(r"^llama-?v?(\d)p(\d)"), r"llama-\1.\2"),
    (re.compile(r"^llama(?=\d)"), "llama-"),
    (re.compile(r"^llama-(\d)-(\d)-(?=\d+b)"), r"llama-\1.\2-"),
    (re.compile(r"^qwen-(?=\d+\.\d)"), "qwen"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Respondent:
    """Who answered: a model, and the way it was asked.

    Attributes:
        id: ``model`` or ``model#variant``; unique over all data sets.
        model: The underlying model; its catalog name where it has an entry.
        variant: How it was asked: ``""`` (plainly), ``direct``, ``fc``, ``fc-any``, ``fc-auto``,
            ``prompt``, ``concise``, ``verbose`` or ``host-...``.
        parent: The respondent whose ability this one's prior leans on: the model asked plainly.
            None for that one itself. It need not have records of its own.
    """

    id: str
    model: str
    variant: str = ""
    parent: str | None = None

    @classmethod
    def from_id(cls, respondent_id: str) -> Respondent:
        """Split an id at its ``#``."""
        model, _, variant = respondent_id.partition("#")
        return cls(
            id=respondent_id, model=model, variant=variant, parent=model if variant else None
        )

    @property
    def variant_kind(self) -> str:
        """The variant without its detail: ``host`` for ``host-hyperbolic``."""
        return self.variant.partition("-")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class RespondentCard:
    """What is known of a respondent apart from its answers: the covariates of the prior.

    None is "not known", never zero. Prices are those of the time of the records.
    """

    id: str
    model: str
    family: str
    released: str | None = None
    params_b: float | None = None
    reasoning: bool = False
    is_base: bool = False
    context_tokens: int | None = None
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    price_kind: str | None = None


class AliasTable:
    """The reviewed alias table; call it as ``table(dataset, name) -> respondent id``."""

    def __init__(
        self,
        aliases: Mapping[str, Mapping[str, str]],
        cards: Iterable[RespondentCard] = (),
        *,
        synonyms: Mapping[str, str] | None = None,
        notes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._aliases = {dataset: dict(rows) for dataset, rows in aliases.items()}
        self._cards = {card.model: card for card in cards}
        self._notes = {dataset: dict(rows) for dataset, rows in (notes or {}).items()}
        self._synonyms = dict(synonyms or {})
        models = {
            Respondent.from_id(i).model for rows in self._aliases.values() for i in rows.values()
        }
        # A model's own id is a spelling of it; a reviewed synonym never overrides one.
        self._models = frozenset(models | self._cards.keys() | set(self._synonyms.values()))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets the table knows."""
        return tuple(self._aliases)

    def names(self, dataset: str) -> tuple[str, ...]:
        """The respondents of one data set as its records name them."""
        return tuple(self._aliases.get(dataset, ()))

    def canonical(self, dataset: str, name: str) -> Respondent:
        """The respondent behind a name of a data set.

        An unknown data set or name falls back to the spellings of `resolve`, then to the
        normalised name itself.

        >>> load_aliases().canonical("cruxeval", "gpt-4o").id
        'gpt-4o-2024-05-13#direct'
        >>> load_aliases().canonical("my-logs", "openai/GPT-4o-2024-08-06").id
        'gpt-4o-2024-08-06'
        """
        known = self._aliases.get(dataset, {}).get(name)
        if known is not None:
            return Respondent.from_id(known)
        return Respondent.from_id(self.resolve(name) or normalise_name(name))

    def __call__(self, dataset: str, name: str) -> str:
        """The respondent id behind a name of a data set."""
        return self.canonical(dataset, name).id

    def resolve(self, name: str) -> str | None:
        """The model that a free spelling means (a price map's, a log's, a user's), or None."""
        spelled = normalise_name(name)
        if spelled in self._models:
            return spelled
        return self._synonyms.get(spelled)

    def note(self, dataset: str, name: str) -> str:
        """Why a row is as it is; empty where it needs no reason."""
        return self._notes.get(dataset, {}).get(name, "")

    def respondents(self) -> tuple[Respondent, ...]:
        """Every respondent of the reviewed data sets, sorted by id."""
        ids = {
            i
            for dataset, rows in self._aliases.items()
            if dataset != "catalog"
            for i in rows.values()
        }
        return tuple(Respondent.from_id(i) for i in sorted(ids))

    def card(self, respondent_id: str) -> RespondentCard | None:
        """The card of a respondent (a variant has its model's), or None."""
        respondent = Respondent.from_id(respondent_id)
        card = self._cards.get(respondent.model)
        if card is None or card.id == respondent_id:
            return card
        return RespondentCard(
            id=respondent.id,
            model=card.model,
            family=card.family,
            released=card.released,
            params_b=card.params_b,
            reasoning=card.reasoning,
            is_base=card.is_base,
            context_tokens=card.context_tokens,
            input_usd_per_mtok=card.input_usd_per_mtok,
            output_usd_per_mtok=card.output_usd_per_mtok,
            price_kind=card.price_kind,
        )


def normalise_name(name: str) -> str:
    """A model name in the house spelling: lower case, no organisation, dashes, decimal points.

    >>> normalise_name("meta-llama/Meta-Llama-3_1-8B-Instruct")
    'llama-3.1-8b-instruct'
    >>> normalise_name("qwen_qwq-32b")
    'qwq-32b'
    """
    spelled = name.strip().lower()
    if "/" in spelled:
        spelled = spelled.rstrip("/").rpartition("/")[2]
    spelled = _ORGANISATION_PREFIX.sub("", spelled)
    spelled = _DECIMAL_UNDERSCORE.sub(".", spelled)
    spelled = _SEPARATORS.sub("-", spelled).replace("@", "-")
    for pattern, replacement in _VENDOR_SPELLINGS:
        spelled = pattern.sub(replacement, spelled)
    return spelled


@cache
def load_aliases() -> AliasTable:
    """The table the package ships."""
    return read_aliases(Path(__file__).with_name("assets") / "aliases.json")


def read_aliases(path: Path) -> AliasTable:
    """Read a table from a file of the shipped format."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptArtifactError(f"{path}: the alias table cannot be read: {error}") from error
    if not isinstance(table, dict) or table.get("format") != ALIASES_FORMAT:
        raise CorruptArtifactError(f"{path}: not an alias table; wanted format {ALIASES_FORMAT!r}")
    if table.get("version") != ALIASES_VERSION:
        raise NewerArtifactError(
            f"{path}: alias table version {table.get('version')!r}; this ZeroRouter reads "
            f"version {ALIASES_VERSION}: upgrade it"
        )
    try:
        return AliasTable(
            aliases=table["aliases"],
            cards=[RespondentCard(id=card["model"], **card) for card in table["cards"]],
            synonyms=table["synonyms"],
            notes=table["notes"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(f"{path}: the alias table is incomplete: {error!r}") from error


def respondent_cards() -> Mapping[str, RespondentCard]:
    """The card of every respondent in the reviewed data sets, by respondent id."""
    table = load_aliases()
    cards = {r.id: table.card(r.id) for r in table.respondents()}
    return MappingProxyType({i: card for i, card in cards.items() if card is not None})
