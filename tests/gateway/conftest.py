"""A gateway over sandbox upstreams of both kinds, in threads of the test's process."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from zerorouter.config import Config
from zerorouter.sandbox import RunningSandbox, SandboxSettings
from zerorouter.sandbox import serve_in_thread as sandbox_in_thread
from zerorouter.serving_config import GatewaySettings, UpstreamSettings

pytest.importorskip("uvicorn")
pytest.importorskip("aiohttp")

from zerorouter.gateway.running import RunningGateway, ServeOptions, serve_in_thread

SECRET = "sk-upstream-0123456789abcdefghij"
GPT, MINI, CLAUDE = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "claude-3-haiku-20240307"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    body: object = None,
    *,
    method: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """One request by the standard library; a body that is no bytes is sent as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    if data is not None and not asked.has_header("Content-type"):
        asked.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(asked, timeout=60) as got:
            return Answer(got.status, dict(got.headers), got.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read())


Start = Callable[..., RunningGateway]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[RunningSandbox]:
    with sandbox_in_thread(SandboxSettings(answer_tokens=12, p_correct=0.7)) as running:
        yield running


@pytest.fixture(autouse=True)
def fresh(sandbox: RunningSandbox, request: pytest.FixtureRequest) -> Iterator[None]:
    """No faults, no calls, and no circuit of the shared gateway remembers anything."""
    sandbox.set_faults([])
    sandbox.forget_calls()
    if "gateway" in request.fixturenames:
        shared: RunningGateway = request.getfixturevalue("gateway")
        for circuit in shared.gateway.setup.fleet.circuits().values():
            circuit.succeed()
    yield
    sandbox.set_faults([])


def config_for(url: str, **gateway: object) -> Config:
    """OpenAI's and Anthropic's models where they belong, all others by OpenAI's API."""
    return Config(
        upstreams=MappingProxyType(
            {
                "claude-house": UpstreamSettings(
                    base_url=f"{url}/v1",
                    api="anthropic",
                    api_key_env="CLAUDE_KEY",
                    models=("claude-*",),
                ),
                "open-house": UpstreamSettings(
                    base_url=f"{url}/v1",
                    api_key_env="OPEN_KEY",
                    models=("gpt-*", "llama-*", "qwen*", "gemini-*"),
                    names=MappingProxyType({"house-model": "o3-mini"}),
                    embeddings=("text-embedding-*",),
                ),
            }
        ),
        gateway=replace(GatewaySettings(detect_upstreams=False), **gateway),  # type: ignore[arg-type]
    )


@pytest.fixture
def start(sandbox: RunningSandbox) -> Iterator[Start]:
    """Starts a gateway with the settings that are given, and stops it."""
    running: list[RunningGateway] = []

    def _start(
        *,
        config: Config | None = None,
        log_to: io.BytesIO | None = None,
        environ: dict[str, str] | None = None,
        books: str = "none",
        config_path: Path | None = None,
        **gateway: object,
    ) -> RunningGateway:
        if config is None and config_path is None:
            config = config_for(sandbox.url, **gateway)
        made = serve_in_thread(
            ServeOptions(
                config=config,
                config_path=config_path,
                port=0,
                environ={"CLAUDE_KEY": SECRET, "OPEN_KEY": SECRET, **(environ or {})},
                silent=log_to is None,
                log_to=log_to,
                books=books,
            )
        )
        running.append(made)
        return made

    yield _start
    for one in running:
        one.stop()


@pytest.fixture(scope="session")
def gateway(sandbox: RunningSandbox) -> Iterator[RunningGateway]:
    """One with everything at its default, shared; circuits are slow to open."""
    from zerorouter.serving_config import Circuits, Retries

    config = config_for(
        sandbox.url, circuits=Circuits(failures=1000), retries=Retries(backoff_s=0.01)
    )
    with serve_in_thread(
        ServeOptions(
            config=config,
            port=0,
            environ={"CLAUDE_KEY": SECRET, "OPEN_KEY": SECRET},
            silent=True,
            books="none",
        )
    ) as running:
        yield running
