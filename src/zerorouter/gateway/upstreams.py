"""Upstreams: where which model is served, from the configuration or the standard variables.

No URL ever comes from a request. A key is read from its environment variable when the upstreams
are laid out, kept in memory only, and shown by nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from zerorouter.config import Config
from zerorouter.errors import ConfigError
from zerorouter.gateway.health import Circuit
from zerorouter.gateway.wire.apis import Api
from zerorouter.serving_config import Circuits, UpstreamSettings

ANTHROPIC_VERSION: Final = "2023-06-01"


def _known(
    base_url: str,
    variable: str,
    *models: str,
    api: str = "openai",
    embeddings: tuple[str, ...] = (),
    names: Mapping[str, str] = MappingProxyType({}),
) -> UpstreamSettings:
    return UpstreamSettings(
        base_url=base_url,
        api=api,
        api_key_env=variable,
        models=models,
        embeddings=embeddings,
        names=names,
    )


# Base URLs as the providers' own documents give them for OpenAI's clients. `models` are the
# vendor's own names; hosts of others' models serve them under the names in `names`.
STANDARD: Final[Mapping[str, UpstreamSettings]] = MappingProxyType(
    {
        "openai": _known(
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            *("gpt-[0-9]*", "chatgpt-*", "o1*", "o3*", "o4*"),
            embeddings=("text-embedding-*",),
        ),
        "anthropic": _known(
            "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "claude-*", api="anthropic"
        ),
        "gemini": _known(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
            "gemini-*",
            embeddings=("gemini-embedding-*",),
        ),
        "mistral": _known(
            "https://api.mistral.ai/v1",
            "MISTRAL_API_KEY",
            *("mistral-large-*", "mistral-small-*", "mistral-medium-*", "open-m*"),
            *("codestral-*", "ministral-*", "pixtral-*", "magistral-*", "devstral-*"),
            embeddings=("mistral-embed", "codestral-embed*"),
        ),
        "deepseek": _known("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek-*"),
        "xai": _known("https://api.x.ai/v1", "XAI_API_KEY", "grok-*"),
        "groq": _known(
            "https://api.groq.com/openai/v1",
            "GROQ_API_KEY",
            names={
                "llama-3.3-70b-instruct": "llama-3.3-70b-versatile",
                "llama-3.1-8b-instruct": "llama-3.1-8b-instant",
            },
        ),
        "cerebras": _known(
            "https://api.cerebras.ai/v1",
            "CEREBRAS_API_KEY",
            names={
                "llama-3.3-70b-instruct": "llama-3.3-70b",
                "llama-3.1-8b-instruct": "llama3.1-8b",
            },
        ),
        "together": _known(
            "https://api.together.xyz/v1",
            "TOGETHER_API_KEY",
            names={
                "llama-3.3-70b-instruct": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
                "llama-4-maverick": "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
                "llama-4-scout": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
                "qwen2.5-72b-instruct": "Qwen/Qwen2.5-72B-Instruct-Turbo",
                "qwen2.5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct-Turbo",
            },
        ),
        "fireworks": _known(
            "https://api.fireworks.ai/inference/v1",
            "FIREWORKS_API_KEY",
            names={
                "llama-3.3-70b-instruct": "accounts/fireworks/models/llama-v3p3-70b-instruct",
                "llama-3.1-8b-instruct": "accounts/fireworks/models/llama-v3p1-8b-instruct",
                "qwen2.5-72b-instruct": "accounts/fireworks/models/qwen2p5-72b-instruct",
            },
        ),
        "openrouter": _known(
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
            names={
                "claude-3-5-haiku-20241022": "anthropic/claude-3.5-haiku",
                "claude-3-haiku-20240307": "anthropic/claude-3-haiku",
                "claude-sonnet-4-20250514": "anthropic/claude-sonnet-4",
                "deepseek-r1": "deepseek/deepseek-r1",
                "gemma-2-27b-it": "google/gemma-2-27b-it",
                "gemma-2-9b-it": "google/gemma-2-9b-it",
                "gemma-3-27b-it": "google/gemma-3-27b-it",
                "gpt-4o-2024-05-13": "openai/gpt-4o-2024-05-13",
                "gpt-4o-2024-08-06": "openai/gpt-4o-2024-08-06",
                "gpt-4o-mini-2024-07-18": "openai/gpt-4o-mini-2024-07-18",
                "grok-3-mini": "x-ai/grok-3-mini",
                "llama-3.1-405b-instruct": "meta-llama/llama-3.1-405b-instruct",
                "llama-3.1-70b-instruct": "meta-llama/llama-3.1-70b-instruct",
                "llama-3.1-8b-instruct": "meta-llama/llama-3.1-8b-instruct",
                "llama-3.3-70b-instruct": "meta-llama/llama-3.3-70b-instruct",
                "llama-4-maverick": "meta-llama/llama-4-maverick",
                "llama-4-scout": "meta-llama/llama-4-scout",
                "mistral-nemo-instruct-2407": "mistralai/mistral-nemo",
                "mistral-small-3.1-24b-instruct": "mistralai/mistral-small-3.1-24b-instruct",
                "o3-mini": "openai/o3-mini",
                "qwen2.5-72b-instruct": "qwen/qwen-2.5-72b-instruct",
                "qwen2.5-7b-instruct": "qwen/qwen-2.5-7b-instruct",
                "qwq-32b": "qwen/qwq-32b",
            },
        ),
    }
)
"""Upstreams by their standard variables, in the order in which they are preferred."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Upstream:
    """An upstream that is ready to be called.

    Attributes:
        name: How the configuration calls it.
        settings: What the configuration says.
        urls: URL by the API that is spoken there.
        headers: What every call carries, the key among it.
    """

    name: str
    settings: UpstreamSettings
    urls: Mapping[Api, str]
    headers: Mapping[str, str] = field(repr=False)
    count_tokens_url: str | None = None

    @property
    def speaks_anthropic(self) -> bool:
        """Whether it is to be called in Anthropic's words."""
        return self.settings.api == "anthropic"

    @classmethod
    def of(cls, name: str, settings: UpstreamSettings, environ: Mapping[str, str]) -> Upstream:
        """Lay it out.

        Raises:
            ConfigError: The variable that is to hold its key is not set.
        """
        key = None
        if settings.api_key_env is not None:
            key = environ.get(settings.api_key_env, "").strip()
            if not key:
                raise ConfigError(
                    f"upstreams.{name}.api_key_env: {settings.api_key_env} is not set; set it, or "
                    "leave the upstream out"
                )
            if not key.isascii() or not key.isprintable():
                raise ConfigError(
                    f"upstreams.{name}.api_key_env: {settings.api_key_env} holds characters that "
                    "no header can carry"
                )
        base = settings.base_url.rstrip("/")
        if settings.api == "anthropic":
            base = base if base.endswith("/v1") else f"{base}/v1"
            return cls(
                name=name,
                settings=settings,
                urls=MappingProxyType({Api.MESSAGES: f"{base}/messages"}),
                headers=MappingProxyType(
                    {"anthropic-version": ANTHROPIC_VERSION} | ({"x-api-key": key} if key else {})
                ),
                count_tokens_url=f"{base}/messages/count_tokens",
            )
        return cls(
            name=name,
            settings=settings,
            urls=MappingProxyType(
                {
                    Api.CHAT: f"{base}/chat/completions",
                    Api.RESPONSES: f"{base}/responses",
                    Api.EMBEDDINGS: f"{base}/embeddings",
                }
            ),
            headers=MappingProxyType({"authorization": f"Bearer {key}"} if key else {}),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Endpoint:
    """One model at one upstream.

    Attributes:
        model: Our name of it.
        served_as: The upstream's name of it.
        upstream: Where it is served.
        circuit: Whether it is fit to be called.
    """

    model: str
    served_as: str
    upstream: Upstream
    circuit: Circuit


def configured(config: Config, environ: Mapping[str, str]) -> dict[str, UpstreamSettings]:
    """The configuration's upstreams, then those of the standard variables that are set.

    One of the configuration's takes the place of a standard one of its name.
    """
    out = dict(config.upstreams)
    if config.gateway.detect_upstreams:
        for name, standard in STANDARD.items():
            if name not in out and environ.get(standard.api_key_env or "", "").strip():
                out[name] = standard
    return out


class Fleet:
    """All upstreams, and where each model is served.

    Args:
        upstreams: In order of preference.
        rules: Of circuits.
        earlier: A fleet whose circuits are carried over where upstream and model are the same.
        off: Models that are not served for now.
    """

    KEEP = 4_096

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        rules: Circuits,
        earlier: Fleet | None = None,
        off: frozenset[str] = frozenset(),
    ) -> None:
        self.off = off
        self.upstreams = {one.name: one for one in upstreams}
        self._rules = rules
        self._circuits: dict[tuple[str, str, str], Circuit] = {}
        self._found: dict[str, tuple[Endpoint, ...]] = {}
        if earlier is not None and earlier._rules == rules:
            self._circuits.update(earlier._circuits)

    @classmethod
    def of(
        cls,
        settings: Mapping[str, UpstreamSettings],
        environ: Mapping[str, str],
        rules: Circuits,
        earlier: Fleet | None = None,
        off: frozenset[str] = frozenset(),
    ) -> Fleet:
        """The fleet of these settings.

        Raises:
            ConfigError: A key is missing.
        """
        made = [Upstream.of(name, one, environ) for name, one in settings.items()]
        return cls(made, rules, earlier, off)

    def endpoints(self, model: str, *, embeds: bool = False) -> tuple[Endpoint, ...]:
        """Where a model is served, preferred first; empty where nowhere.

        ``UPSTREAM/NAME`` asks for a name at one upstream, as long as that serves it.
        """
        key = f"embed {model}" if embeds else model
        found = self._found.get(key)
        if found is None:
            found = tuple(e for e in self._look_for(model, embeds) if e.model not in self.off)
            if found and len(self._found) < self.KEEP:  # names come from requests: bounded
                self._found[key] = found
        return found

    def __contains__(self, model: str) -> bool:
        return bool(self.endpoints(model))

    def circuits(self) -> dict[tuple[str, str], Circuit]:
        """Circuits in use, by upstream and our name of the model."""
        return {(upstream, model): c for (upstream, model, _), c in self._circuits.items()}

    def _look_for(self, model: str, embeds: bool) -> Iterable[Endpoint]:
        for name, upstream in self.upstreams.items():
            wanted = model
            if (served := upstream.settings.names.get(model)) is not None and not embeds:
                yield self._endpoint(model, served, upstream)
                continue
            if model.startswith(f"{name}/"):
                wanted = model[len(name) + 1 :]
                if (served := upstream.settings.names.get(wanted)) is not None and not embeds:
                    yield self._endpoint(wanted, served, upstream)
                    continue
            globs = upstream.settings.embeddings if embeds else upstream.settings.models
            if any(fnmatchcase(wanted, glob) for glob in globs):
                yield self._endpoint(wanted, wanted, upstream)
            elif wanted is not model and wanted in upstream.settings.names.values() and not embeds:
                ours = next(k for k, v in upstream.settings.names.items() if v == wanted)
                yield self._endpoint(ours, wanted, upstream)

    def _endpoint(self, model: str, served_as: str, upstream: Upstream) -> Endpoint:
        key = (upstream.name, model, served_as)
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = Circuit(self._rules)
            if len(self._circuits) < self.KEEP:
                self._circuits[key] = circuit
        return Endpoint(model=model, served_as=served_as, upstream=upstream, circuit=circuit)
