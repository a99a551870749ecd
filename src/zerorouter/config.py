"""The configuration: one YAML file, versioned, in which an unknown key is an error.

Looked for as ``--config FILE``, then ``ZEROROUTER_CONFIG``, then ``config.yaml`` in the state
folder; without any of them the defaults hold. A whole one::

    version: 1
    space: ./my-space            # instead of the shipped one; relative to this file
    policy: careful              # used where a request names none
    policies:
      careful: {value_of_correct_usd: 0.05, value_of_second_usd: 0.0005, min_accuracy: 0.8}
    models:
      allow: ["gpt-4o*", "claude-*"]   # shell globs; without `allow`: all
      deny: ["*-preview"]
    prices:                      # USD per million tokens; these win over every price list
      gpt-4o-2024-08-06: {input_usd_per_mtok: 2.0, output_usd_per_mtok: 8.0, date: 2026-11}
    upstreams:                   # where models are served (docs/gateway.md)
      house: {base_url: "http://10.0.0.5:8000/v1", models: ["llama-3*"], api_key_env: HOUSE_KEY}
    gateway:
      port: 8080
      timeouts: {deadline_s: 300}

Secrets have no place here. `Config` is a plain frozen object; PyYAML and pydantic are imported
only when there is a file to read, since this stands on the cold path of every command.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zerorouter.catalog import Catalog, Price
from zerorouter.errors import CatalogError, ConfigError, UnknownNameError, nearest_name
from zerorouter.paths import home_dir
from zerorouter.serving_config import (
    APIS,
    BASE_URL,
    ENV_NAME,
    SECTIONS,
    GatewaySettings,
    UpstreamSettings,
    gateway_from_dict,
    plain_fields,
    to_dict,
    upstream_from_dict,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

CONFIG_VERSION = 1
DEFAULT_POLICY = "balanced"


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicySettings:
    """The numbers of a policy of one's own.

    Attributes:
        value_of_correct_usd: What a correct answer is worth.
        value_of_second_usd: What a second of waiting costs.
        min_accuracy: Least P(correct); None for no bound.
        max_cost_usd: Most a request may cost; None for no bound.
        max_latency_s: Longest a request may take; None for no bound.
        max_p95_latency_s: Longest that nineteen in twenty requests may take; None for no bound.
        confidence: At which P(correct) is taken; None for its expectation.
        objective: What is maximised: ``utility``, least ``cost`` or ``accuracy``.
        scalarisation: How the utility is made of its terms: ``sum`` or ``chebyshev``.
    """

    value_of_correct_usd: float
    value_of_second_usd: float = 0.0
    min_accuracy: float | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    max_p95_latency_s: float | None = None
    confidence: float | None = None
    objective: str = "utility"
    scalarisation: str = "sum"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the configuration says, checked.

    Attributes:
        path: The file it was read from; None for the defaults.
        space: Folder of the latent space; None for the shipped one.
        policy: Name of the policy for requests that name none.
        policies: Policies of one's own, by name.
        allow: Globs of the models to route to; None for the default pool.
        deny: Globs of the models never to route to; they win over ``allow``.
        prices: Prices that win over the catalog's, by model name.
        upstreams: Where models are served, by name.
        gateway: How the gateway listens and treats requests.
    """

    path: Path | None = None
    space: Path | None = None
    policy: str = DEFAULT_POLICY
    policies: Mapping[str, PolicySettings] = field(default_factory=lambda: MappingProxyType({}))
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=lambda: MappingProxyType({}))
    upstreams: Mapping[str, UpstreamSettings] = field(default_factory=lambda: MappingProxyType({}))
    gateway: GatewaySettings = field(default_factory=GatewaySettings)

    def to_dict(self) -> dict[str, Any]:
        """The file's own form, defaults written out: what `load_config` would read again."""
        return {
            "version": CONFIG_VERSION,
            "space": None if self.space is None else str(self.space),
            "policy": self.policy,
            "policies": {
                name: {
                    key: value
                    for key, field in PolicySettings.__dataclass_fields__.items()
                    if (value := getattr(settings, key)) is not None
                    and (key not in _WORDS or value != field.default)
                }
                for name, settings in self.policies.items()
            },
            "models": {
                "allow": None if self.allow is None else list(self.allow),
                "deny": list(self.deny),
            },
            "prices": {
                name: {k: v for k, v in price.to_dict().items() if k not in ("kind", "source")}
                for name, price in self.prices.items()
            },
            "upstreams": {name: to_dict(one) for name, one in self.upstreams.items()},
            "gateway": to_dict(self.gateway),
        }

    def apply_to(self, catalog: Catalog) -> Catalog:
        """The models to route to, at the prices to reckon with.

        With ``allow`` any model of the catalog may be named; without, it is the default pool.
        """
        try:
            priced = catalog.with_prices(self.prices)
        except UnknownNameError as error:
            raise ConfigError(f"{self.path}: prices: {error}") from error
        try:
            wanted = priced.pool() if self.allow is None else priced.select(self.allow)
        except UnknownNameError as error:
            raise ConfigError(f"{self.path}: models.allow: {error}") from error
        return wanted.select(exclude=self.deny)


_WORDS = ("objective", "scalarisation")  # shown where they are not what they usually are


def load_config(path: str | Path | None = None) -> Config:
    """The configuration of a file, of the file the environment or the state folder has, or none.

    Raises:
        ConfigError: The file cannot be read or says something wrong; the message names the file,
            the key, what was found and what was wanted.
    """
    chosen = _find(path)
    if chosen is None:
        return Config()
    return config_from_dict(_read_yaml(chosen), path=chosen)


def config_from_dict(raw: Mapping[Any, Any], *, path: Path) -> Config:
    """What a file at ``path`` would say that holds ``raw``; the reverse of `Config.to_dict`.

    Raises:
        ConfigError: It says something wrong; see `load_config`.
    """
    where = str(path)
    _check_version(where, raw)
    from pydantic import ValidationError

    try:
        checked = _schema_model().model_validate(raw).model_dump()
    except ValidationError as error:
        raise ConfigError(_explain(where, error.errors(include_url=False))) from None
    return _as_config(path, checked)


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = _schema_model().model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "ZeroRouter configuration",
    }


def _find(path: str | Path | None) -> Path | None:
    named = path if path is not None else os.environ.get("ZEROROUTER_CONFIG") or None
    if named is not None:
        return Path(named).expanduser()
    usual = home_dir() / "config.yaml"
    return usual if usual.is_file() else None


def _as_config(path: Path, checked: Mapping[str, Any]) -> Config:
    space = checked["space"]
    models = checked["models"]
    return Config(
        path=path,
        space=None if space is None else path.parent / Path(space).expanduser(),
        policy=checked["policy"],
        policies=MappingProxyType(
            {name: PolicySettings(**numbers) for name, numbers in checked["policies"].items()}
        ),
        allow=None if models["allow"] is None else tuple(models["allow"]),
        deny=tuple(models["deny"]),
        prices=MappingProxyType(
            {name: _price(path, name, amounts) for name, amounts in checked["prices"].items()}
        ),
        upstreams=MappingProxyType(
            {name: upstream_from_dict(one) for name, one in checked["upstreams"].items()}
        ),
        gateway=gateway_from_dict(checked["gateway"]),
    )


def _price(path: Path, name: str, amounts: Mapping[str, Any]) -> Price:
    """A price of the user's own; without a date it is as old as the file."""
    told = {key: value for key, value in amounts.items() if value not in (None, [])}
    if "date" not in told:
        changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, tz=datetime.UTC)
        told["date"] = changed.date().isoformat()
    try:
        return Price.from_dict({**told, "kind": "user", "source": path.name})
    except CatalogError as error:
        raise ConfigError(f"{path}: prices.{name}: {error}") from error


# -- reading -------------------------------------------------------------------------------------


def _read_yaml(path: Path) -> dict[Any, Any]:
    """The file as plain objects; a key that stands twice is an error, not a silent override."""
    import yaml

    class UniqueKeyLoader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, str) and key in seen:
                    mark = key_node.start_mark
                    raise ConfigError(
                        f"{path}: line {mark.line + 1}, column {mark.column + 1}: "
                        f"the key {key!r} stands twice; keep one"
                    )
                seen.add(key if isinstance(key, str) else id(key))
            return super().construct_mapping(node, deep)

    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.load(text, Loader=UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_place(error)}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path}: found a {type(raw).__name__}; wanted keys and values, such as "
            f"'version: {CONFIG_VERSION}'"
        )
    return raw


def _yaml_place(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if mark is None:
        return f"not valid YAML: {problem}"
    return f"line {mark.line + 1}, column {mark.column + 1}: not valid YAML: {problem}"


def _check_version(where: str, raw: Mapping[Any, Any]) -> None:
    found = raw.get("version")
    if found == CONFIG_VERSION and isinstance(found, int) and not isinstance(found, bool):
        return
    if "version" not in raw:
        raise ConfigError(f"{where}: version: missing; wanted 'version: {CONFIG_VERSION}'")
    advice = ""
    if isinstance(found, int) and not isinstance(found, bool) and found > CONFIG_VERSION:
        advice = ": the file is for a later ZeroRouter, upgrade it"
    raise ConfigError(f"{where}: version: found {found!r}; wanted {CONFIG_VERSION}{advice}")


# -- the schema ----------------------------------------------------------------------------------


@cache
def _schema_models() -> dict[tuple[str, ...], type[BaseModel]]:
    """The pydantic models by their place in the file; ``*`` stands for any name."""
    from typing import Annotated, Literal, get_type_hints

    from pydantic import BeforeValidator, ConfigDict, Field, create_model

    def no_switch(value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("wanted a number")
        return value

    def as_text(value: object) -> object:
        if isinstance(value, datetime.date):
            return value.isoformat()
        return str(value) if isinstance(value, int) else value  # a year alone

    strict_keys = ConfigDict(extra="forbid", allow_inf_nan=False)
    amount = Annotated[float, BeforeValidator(no_switch), Field(ge=0)]
    share = Annotated[float, BeforeValidator(no_switch), Field(ge=0, le=1)]
    name = Annotated[str, Field(min_length=1)]
    objective: Any = Literal["utility", "cost", "accuracy"]
    scalarisation: Any = Literal["sum", "chebyshev"]
    policy_name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]

    policy = create_model(
        "Policy",
        __config__=strict_keys,
        value_of_correct_usd=(amount, Field(description="what a correct answer is worth")),
        value_of_second_usd=(amount, Field(0.0, description="what a second of waiting costs")),
        min_accuracy=(share | None, Field(None, description="least P(correct)")),
        max_cost_usd=(amount | None, Field(None, description="most a request may cost")),
        max_latency_s=(amount | None, Field(None, description="longest it may take")),
        max_p95_latency_s=(amount | None, Field(None, description="longest its p95 may be")),
        confidence=(
            Annotated[float, BeforeValidator(no_switch), Field(ge=0.5, lt=1)] | None,
            Field(None, description="confidence at which P(correct) is taken"),
        ),
        objective=(objective, Field("utility", description="what is maximised")),
        scalarisation=(scalarisation, Field("sum", description="how the utility is made")),
    )
    tier = create_model(
        "PriceTier",
        __config__=strict_keys,
        above_input_tokens=(Annotated[int, Field(gt=0)], Field(description="input above which")),
        input_usd_per_mtok=(amount, Field(description="USD per million input tokens")),
        output_usd_per_mtok=(amount, Field(description="USD per million output tokens")),
        cached_input_usd_per_mtok=(amount | None, Field(None, description="of cached input")),
        cache_write_usd_per_mtok=(amount | None, Field(None, description="of cache writes")),
    )
    price = create_model(
        "Price",
        __config__=strict_keys,
        input_usd_per_mtok=(amount, Field(description="USD per million input tokens")),
        output_usd_per_mtok=(amount, Field(description="USD per million output tokens")),
        cached_input_usd_per_mtok=(amount | None, Field(None, description="of cached input")),
        cache_write_usd_per_mtok=(amount | None, Field(None, description="of cache writes")),
        reasoning_usd_per_mtok=(amount | None, Field(None, description="of reasoning tokens")),
        audio_input_usd_per_mtok=(amount | None, Field(None, description="of sound going in")),
        tiers=(list[tier], Field(default_factory=list, description="dearer for long inputs")),  # type: ignore[valid-type]
        date=(
            Annotated[str, BeforeValidator(as_text)] | None,
            Field(None, description="when it was read, YYYY[-MM[-DD]]"),
        ),
    )
    globs = Annotated[list[name], Field(min_length=1)]
    models = create_model(
        "Models",
        __config__=strict_keys,
        allow=(globs | None, Field(None, description="globs of the models to route to")),
        deny=(list[name], Field(default_factory=list, description="globs never to route to")),
    )
    base_url: Any = Annotated[str, Field(pattern=BASE_URL)]
    env_name: Any = Annotated[str, Field(pattern=ENV_NAME)]
    spoken: Any = Literal[APIS]
    upstream = create_model(
        "Upstream",
        __config__=strict_keys,
        base_url=(
            base_url,
            Field(description="where its API begins, such as https://api.openai.com/v1"),
        ),
        api=(spoken, Field("openai", description="the API it speaks")),
        api_key_env=(
            env_name | None,
            Field(None, description="environment variable with its key"),
        ),
        models=(list[name], Field(default_factory=list, description="globs of what it serves")),
        names=(
            dict[name, name],
            Field(default_factory=dict, description="model name here -> its name there"),
        ),
        embeddings=(list[name], Field(default_factory=list, description="globs of embedders")),
    )

    def section_model(title: str, section: type[Any], **further: Any) -> type[BaseModel]:
        """The model of one of the gateway's sections, made from its fields."""
        hints = get_type_hints(section)
        made: dict[str, Any] = {}
        for one in plain_fields(section):
            kind: Any = hints[one.name]
            bounds = one.metadata["bounds"]
            if kind == tuple[int, ...]:
                kind = list[Annotated[int, Field(ge=400, le=499)]]
            elif kind in (float, int):
                kind = Annotated[kind, BeforeValidator(no_switch), Field(**bounds)]
            elif kind == int | None:
                kind = Annotated[int, BeforeValidator(no_switch), Field(**bounds)] | None
            elif kind is str:
                kind = Annotated[str, Field(min_length=1, **bounds)]
            elif kind == str | None:
                kind = Annotated[str, Field(min_length=1, **bounds)] | None
            usual = list(one.default) if isinstance(one.default, tuple) else one.default
            made[one.name] = (kind, Field(usual, description=one.metadata["about"]))
        return create_model(title, __config__=strict_keys, **made, **further)

    sections = {key: section_model(key.title(), one) for key, one in SECTIONS.items()}
    gateway = section_model(
        "Gateway",
        GatewaySettings,
        **{key: (one, Field(default_factory=one)) for key, one in sections.items()},
    )
    root = create_model(
        "Config",
        __config__=strict_keys,
        version=(Literal[1], Field(description="the version of this format")),
        space=(name | None, Field(None, description="folder of the latent space")),
        policy=(policy_name, Field(DEFAULT_POLICY, description="policy where none is named")),
        policies=(dict[policy_name, policy], Field(default_factory=dict)),  # type: ignore[valid-type]
        models=(models, Field(default_factory=models)),
        prices=(dict[name, price], Field(default_factory=dict)),  # type: ignore[valid-type]
        upstreams=(dict[policy_name, upstream], Field(default_factory=dict)),  # type: ignore[valid-type]
        gateway=(gateway, Field(default_factory=gateway)),
    )
    places: dict[tuple[str, ...], type[BaseModel]] = {
        (): root,
        ("models",): models,
        ("policies", "*"): policy,
        ("prices", "*"): price,
        ("prices", "*", "tiers", "*"): tier,
        ("upstreams", "*"): upstream,
        ("gateway",): gateway,
        **{("gateway", key): one for key, one in sections.items()},
    }
    return places


def _schema_model() -> type[BaseModel]:
    return _schema_models()[()]


def _explain(where: str, errors: list[Any]) -> str:
    """All of pydantic's findings, in our words, one a line."""
    return "\n".join(f"{where}: {_explain_one(error)}" for error in errors)


def _explain_one(error: Mapping[str, Any]) -> str:
    place = [str(part) for part in error["loc"]]
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        # The value is not shown: a key that is not ours may well be a secret.
        return _unknown_key(place)
    if error["type"] == "missing":
        return f"{key}: missing; wanted a value"
    if place[-1:] == ["[key]"]:
        return f"{'.'.join(place[:-1])}: found the name {error['input']!r}; wanted " + _wanted(
            error
        )
    return f"{key}: found {_shorten(error['input'])}; wanted {_wanted(error)}"


def _wanted(error: Mapping[str, Any]) -> str:
    message = str(error["msg"])
    if error["type"] == "string_pattern_mismatch":
        if error["loc"][-1] == "base_url":
            return "a URL such as https://api.example.com/v1, without user, query or fragment"
        if error["loc"][-1] == "url":
            return (
                "sqlite:////path/to/file.db or postgresql://user@host/name; one with a password "
                "belongs into the variable that url_env names"
            )
        if str(error["loc"][-1]).endswith("_env"):
            return "the name of an environment variable"
        return "lower case letters, digits, '-', '_' or '.'"
    if error["type"] == "too_short":
        return "at least one entry; leave the key out where all are meant"
    if error["type"] == "model_type":
        return "keys and values"
    for prefix in ("Value error, wanted ", "Input should be ", "String should ", "List should "):
        if message.startswith(prefix):
            return message.removeprefix(prefix)
    return message[:1].lower() + message[1:]


def _unknown_key(place: list[str]) -> str:
    models = _schema_models()
    parent = tuple(place[:-1])
    below = ("tiers", "*") if "tiers" in parent else ()
    model = models.get(parent) or models.get((*parent[:1], "*", *below))
    known = list(model.model_fields) if model is not None else []
    near = nearest_name(place[-1], known)
    advice = f"did you mean {near!r}?" if near else f"known here: {', '.join(known)}"
    if near is None and any(word in place[-1].lower() for word in ("key", "token", "secret")):
        advice += " (secrets have no place in this file)"
    return f"{'.'.join(place)}: unknown key; {advice}"


def _shorten(value: object) -> str:
    # A password in a URL is not shown.
    shown = re.sub(r"://[^/]*@", "://...@", repr(value))
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
