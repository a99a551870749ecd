"""The official clients through the gateway with a real LiteLLM proxy behind it.

Runs where ZEROROUTER_LITELLM_PYTHON names an interpreter that has LiteLLM 1.82.6;
scripts/prepare_litellm.py makes one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import anthropic
import openai
import pytest
import yaml

from gateway.conftest import CLAUDE, GPT, MINI, fetch
from zerorouter.config import Config
from zerorouter.gateway.running import RunningGateway, ServeOptions, serve_in_thread
from zerorouter.serving_config import GatewaySettings, Retries, UpstreamSettings

PYTHON = os.environ.get("ZEROROUTER_LITELLM_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON,
    reason="ZEROROUTER_LITELLM_PYTHON is not set; scripts/prepare_litellm.py makes an environment",
)

MASTER = "sk-proxy-0123456789abcdef"
ASK = [{"role": "user", "content": "What is 17 * 23?"}]
TEXT = "It is 391, says the proxy."
BUSY = "gemini-2.0-flash-001"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def _mock(name: str, said: str, **more: object) -> dict[str, object]:
    params = {"model": f"openai/{name}", "api_key": "sk-none", "mock_response": said, **more}
    return {"model_name": name, "litellm_params": params}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """LiteLLM's proxy with models that are played by itself."""
    folder = tmp_path_factory.mktemp("litellm")
    calls = [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
        }
    ]
    config = {
        "model_list": [
            _mock(MINI, TEXT),
            _mock(GPT, TEXT, mock_tool_calls=calls),
            _mock(CLAUDE, TEXT),
            _mock(BUSY, "litellm.RateLimitError"),
        ],
        "general_settings": {"master_key": MASTER},
        "litellm_settings": {"telemetry": False},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(PYTHON).parent / "litellm"), "--config", str(path)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
            },
        )
        try:
            url = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 120
            while True:
                try:
                    if fetch(f"{url}/health/liveliness").status == 200:
                        break
                except OSError:
                    pass
                assert process.poll() is None, (folder / "log").read_text()[-2_000:]
                assert time.monotonic() < end, "the proxy did not start"
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def gateway(proxy: str) -> Iterator[RunningGateway]:
    """Claude by the proxy's Anthropic API, all else by OpenAI's."""
    config = Config(
        upstreams=MappingProxyType(
            {
                "native": UpstreamSettings(
                    base_url=proxy, api="anthropic", api_key_env="PROXY_KEY", models=("claude-*",)
                ),
                "open": UpstreamSettings(
                    base_url=f"{proxy}/v1", api_key_env="PROXY_KEY", models=("gpt-*", BUSY)
                ),
                "keyless": UpstreamSettings(base_url=f"{proxy}/v1", models=("o3-mini",)),
            }
        ),
        gateway=GatewaySettings(detect_upstreams=False, retries=Retries(backoff_s=0.01)),
    )
    environ = {"PROXY_KEY": MASTER}
    options = ServeOptions(config=config, port=0, environ=environ, silent=True, books="none")
    with serve_in_thread(options) as running:
        yield running


@pytest.fixture
def oa(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def an(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as client:
        yield client


def test_it_is_the_pinned_version() -> None:
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    told = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1.82.6"


@pytest.mark.parametrize("model", [MINI, CLAUDE, "zerorouter/auto"])
def test_both_clients_get_its_answers_whole(
    oa: openai.OpenAI, an: anthropic.Anthropic, model: str
) -> None:
    raw = oa.chat.completions.with_raw_response.create(model=model, messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert raw.headers["x-zerorouter-model"]
    message = an.messages.create(model=model, max_tokens=50, messages=ASK)
    assert message.content[0].text == TEXT  # type: ignore[union-attr]
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("model", [MINI, "zerorouter/auto"])
def test_both_clients_get_its_streams(
    oa: openai.OpenAI, an: anthropic.Anthropic, model: str
) -> None:
    only = {"x-zerorouter-allow": "gpt-*"}
    chunks = list(
        oa.chat.completions.create(
            model=model,
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=only,
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert chunks[-1].usage is not None
    # Of Claude's API the proxy plays whole answers alone, whatever was asked for.
    for name in (CLAUDE, model):
        told = oa.chat.completions.create(model=name, messages=ASK, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in told if c.choices) == TEXT
    with an.messages.stream(model=CLAUDE, max_tokens=50, messages=ASK) as stream:
        assert stream.get_final_text() == TEXT
    with an.messages.stream(model=model, max_tokens=50, messages=ASK, extra_headers=only) as stream:
        assert stream.get_final_text() == TEXT
        assert stream.get_final_message().usage.output_tokens > 0


def test_its_tool_calls_come_through_both_apis(oa: openai.OpenAI, an: anthropic.Anthropic) -> None:
    answer = oa.chat.completions.create(model=GPT, messages=ASK, tools=[TOOL])  # type: ignore[list-item]
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == '{"city": "Oslo"}'  # type: ignore[union-attr]
    message = an.messages.create(
        model=GPT,
        max_tokens=50,
        messages=ASK,
        tools=[{"name": "get_weather", "input_schema": TOOL["function"]["parameters"]}],  # type: ignore[index,typeddict-item]
    )
    assert message.content[-1].input == {"city": "Oslo"}  # type: ignore[union-attr]


def test_its_errors_come_in_the_clients_envelope_and_are_tried_again(
    oa: openai.OpenAI, an: anthropic.Anthropic, gateway: RunningGateway
) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        oa.chat.completions.create(model=BUSY, messages=ASK)
    assert int(caught.value.response.headers["x-zerorouter-attempts"]) > 1
    with pytest.raises(anthropic.RateLimitError):
        an.messages.create(model=BUSY, max_tokens=5, messages=ASK)
    answer = fetch(
        f"{gateway.openai_url}/chat/completions",
        {"model": "zerorouter/auto", "messages": ASK, "zerorouter": {"deny": ["claude-*"]}},
    )
    assert answer.status == 200
    with pytest.raises(openai.InternalServerError) as refused:
        oa.chat.completions.create(model="o3-mini", messages=ASK)
    assert refused.value.code == "upstream_refused_key"
