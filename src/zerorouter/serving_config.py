"""What the configuration says about serving: upstreams, and how the gateway treats requests.

Each setting stands once, as a field with its bounds and what it is for; the schema of the file and
the checks are made from these (`config`). Secrets are named, never written: ``api_key_env: NAME``.
Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any

MEBIBYTE = 2**20
APIS = ("openai", "anthropic")


def _setting(
    default: Any, about: str, *, ge: float | None = None, le: float | None = None, pattern: str = ""
) -> Any:
    """A field with what the schema says of it."""
    bounds = {
        key: value for key, value in (("ge", ge), ("le", le), ("pattern", pattern)) if value
    } | ({"ge": 0} if ge == 0 else {})
    return field(default=default, metadata={"about": about, "bounds": bounds})


BASE_URL = r"^https?://[^\s/@?#]+(/[^\s?#@]*)?$"
ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamSettings:
    """An HTTP endpoint that serves models.

    Attributes:
        base_url: Where its API begins, ``/v1`` included where the API has one.
        api: ``openai`` (and whatever is compatible) or ``anthropic``.
        api_key_env: Environment variable with its key; None where it wants none.
        models: Globs of the model names it serves under these very names.
        names: Model name here -> its name there, where they differ.
        embeddings: Globs of embedding models it serves.
    """

    base_url: str
    api: str = "openai"
    api_key_env: str | None = None
    models: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    embeddings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long is waited, and for what."""

    connect_s: float = _setting(5.0, "for a connection to an upstream", ge=0.001, le=3600)
    first_byte_s: float = _setting(120.0, "for the first byte of an answer", ge=0.001, le=86_400)
    idle_s: float = _setting(60.0, "between two chunks of an answer", ge=0.001, le=86_400)
    deadline_s: float = _setting(600.0, "for a request, all attempts included", ge=0.001, le=86_400)
    head_s: float = _setting(15.0, "for a client's request line and headers", ge=0.001, le=3600)
    body_s: float = _setting(60.0, "for a client's body to arrive", ge=0.001, le=3600)
    drain_s: float = _setting(30.0, "for running streams when the gateway stops", ge=0, le=3600)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """What is tried again before the first byte has gone out."""

    attempts: int = _setting(4, "upstream calls for one request at most", ge=1, le=50)
    per_model: int = _setting(2, "of these to one model at most, for routed requests", ge=1, le=50)
    statuses: tuple[int, ...] = field(
        default=(408, 409, 429),
        metadata={"about": "upstream statuses below 500 worth another try", "bounds": {}},
    )
    backoff_s: float = _setting(0.25, "before the same model is tried again", ge=0, le=60)
    longest_wait_s: float = _setting(10.0, "that a Retry-After is waited for", ge=0, le=3600)


@dataclass(frozen=True, kw_only=True, slots=True)
class Circuits:
    """When a failing upstream is left alone."""

    failures: int = _setting(5, "in a row that open the circuit", ge=1, le=1000)
    open_s: float = _setting(10.0, "until it is probed", ge=0.001, le=3600)
    longest_open_s: float = _setting(
        120.0, "that repeated failures lengthen it to", ge=1, le=86_400
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionSettings:
    """How long a session's model is remembered for the sake of its prompt cache."""

    keep: int = _setting(100_000, "sessions at most", ge=0, le=10_000_000)
    cache_lifetime_s: float = _setting(300.0, "that prompt caches last", ge=0, le=86_400)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestLimits:
    """What is taken of a client."""

    body_mib: float = _setting(32.0, "MiB of a request's body", ge=0.001, le=1024)
    held_mib: float = _setting(512.0, "MiB of all bodies held at a time", ge=0.001, le=65_536)
    answer_mib: float = _setting(64.0, "MiB of an answer without a stream", ge=0.001, le=1024)
    running: int = _setting(10_000, "requests at a time", ge=1, le=1_000_000)


# Without a password, which would be a secret in the file.
LEDGER_URL = r"^(sqlite:///[^\s]+|postgresql://([^\s:@/]+@)?[^\s@]+)$"


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerOptions:
    """How what was done and spent is kept; taken at the start only."""

    url: str | None = _setting(
        None, "its database; by default ledger.db in the state folder", pattern=LEDGER_URL
    )
    url_env: str = _setting(
        "ZEROROUTER_LEDGER_URL", "environment variable whose URL wins", pattern=ENV_NAME
    )
    retention_days: int | None = _setting(
        None, "UTC days that rows are kept, today included; the daily sums stay", ge=1, le=36_500
    )
    store_prompts: bool = _setting(False, "keep the texts of prompts, 100,000 characters of each")
    store_every_s: float = _setting(0.2, "between two batches", ge=0.001, le=60)
    sync_every_s: float = _setting(1.0, "until the journal is put on disk", ge=0.01, le=60)
    segment_mib: float = _setting(4.0, "MiB of a file of the journal", ge=0.001, le=1024)
    journal_mib: float = _setting(
        1024.0, "MiB of a worker's journal, beyond which nothing is acknowledged", ge=1, le=2**20
    )
    min_free_mib: float = _setting(
        16.0, "MiB free on the disk, below which no request is let in", ge=0, le=2**20
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningOptions:
    """What is learned of feedback and of what is served; taken at the start only."""

    enabled: bool = _setting(True, "learn while serving")
    window: float = _setting(
        500.0, "scores of a model that its ability rests on, give or take", ge=2, le=1_000_000
    )
    neighbour_window: float = _setting(
        500.0, "scores that the difficulty of a kind of prompts rests on", ge=2, le=1_000_000
    )
    weight: float = _setting(1.0, "what one score counts; below 1 where they are noisy", ge=0, le=1)
    drift_threshold: float = _setting(
        7.0, "of the log-likelihood ratio at which a model counts as changed", ge=1, le=100
    )
    publish_every_s: float = _setting(5.0, "between two versions at least", ge=0, le=3600)
    remember: int = _setting(
        131_072, "decisions of a worker that can still be scored", ge=1, le=16_777_216
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """How the gateway listens and treats requests.

    Attributes:
        timeouts: How long is waited.
        retries: What is tried again.
        circuits: When upstreams are left alone.
        sessions: What is remembered of sessions.
        limits: What is taken of clients.
        ledger: How what was done and spent is kept.
        learning: What is learned while serving.
    """

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8080, "port to listen on", ge=0, le=65_535)
    workers: int = _setting(1, "processes that serve", ge=1, le=256)
    detect_upstreams: bool = _setting(True, "take upstreams from OPENAI_API_KEY and its like")
    admin_token_env: str = _setting(
        "ZEROROUTER_ADMIN_TOKEN", "environment variable with the token of /admin", pattern=ENV_NAME
    )
    admin_port: int | None = _setting(None, "a port of its own for /admin", ge=1, le=65_535)
    watch_config: bool = _setting(True, "read the file again when it changes")
    traces: bool = _setting(False, "send OpenTelemetry traces; taken at the start only")
    timeouts: Timeouts = field(default_factory=Timeouts)
    retries: Retries = field(default_factory=Retries)
    circuits: Circuits = field(default_factory=Circuits)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    limits: RequestLimits = field(default_factory=RequestLimits)
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    learning: LearningOptions = field(default_factory=LearningOptions)


SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "timeouts": Timeouts,
        "retries": Retries,
        "circuits": Circuits,
        "sessions": SessionSettings,
        "limits": RequestLimits,
        "ledger": LedgerOptions,
        "learning": LearningOptions,
    }
)
"""Sections of ``gateway:`` in the file."""


def plain_fields(cls: type[Any]) -> tuple[Field[Any], ...]:
    """Fields of a section that hold values, not further sections."""
    return tuple(
        one for one in fields(cls) if one.name not in SECTIONS or cls is not GatewaySettings
    )


def gateway_from_dict(checked: Mapping[str, Any]) -> GatewaySettings:
    """The settings from what the schema let through."""
    values = dict(checked)
    for name, section in SECTIONS.items():
        values[name] = section(**{k: _frozen(v) for k, v in values[name].items()})
    return GatewaySettings(**values)


def upstream_from_dict(checked: Mapping[str, Any]) -> UpstreamSettings:
    """An upstream from what the schema let through."""
    values = {key: _frozen(value) for key, value in checked.items()}
    values["names"] = MappingProxyType(dict(checked["names"]))
    values["base_url"] = str(values["base_url"]).rstrip("/")
    return UpstreamSettings(**values)


def to_dict(settings: Any) -> dict[str, Any]:
    """The file's own form of one of these objects."""
    out: dict[str, Any] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        if one.name in SECTIONS and isinstance(settings, GatewaySettings):
            out[one.name] = to_dict(value)
        elif isinstance(value, tuple):
            out[one.name] = list(value)
        elif isinstance(value, Mapping):
            out[one.name] = dict(value)
        else:
            out[one.name] = value
    return out


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
