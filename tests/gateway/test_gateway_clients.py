"""The official clients against the gateway, over upstreams of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import openai
import pytest

from gateway.conftest import CLAUDE, GPT, MINI, fetch
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox

ASK = [{"role": "user", "content": "What is 17 * 23?"}]
WEATHER = "Use get_weather: what is the weather in Oslo?"
TOOL = {
    "name": "get_weather",
    "description": "Weather of a city.",
    "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def oa(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def an(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", [GPT, CLAUDE, "zerorouter/auto", "zerorouter/auto:quality"])
def test_openai_client_gets_an_answer_of_every_kind_of_model(oa: openai.OpenAI, model: str) -> None:
    raw = oa.chat.completions.with_raw_response.create(model=model, messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.model == raw.headers["x-zerorouter-model"]
    assert raw.headers["x-zerorouter-attempts"] == "1"
    assert ("x-zerorouter-decision-id" in raw.headers) == model.startswith("zerorouter/")


@pytest.mark.parametrize("model", [GPT, CLAUDE, "zerorouter/cost"])
def test_anthropic_client_gets_an_answer_of_every_kind_of_model(
    an: anthropic.Anthropic, model: str
) -> None:
    answer = an.messages.create(model=model, max_tokens=50, messages=ASK, system="Be brief.")
    assert answer.content[0].type == "text"
    assert answer.usage.output_tokens > 0
    assert answer.stop_reason in ("end_turn", "max_tokens")


@pytest.mark.parametrize("model", [GPT, CLAUDE, "zerorouter/latency"])
def test_streams_of_both_clients_say_what_a_whole_answer_says(
    oa: openai.OpenAI, an: anthropic.Anthropic, model: str
) -> None:
    concrete = oa.chat.completions.create(model=model, messages=ASK).model
    whole = oa.chat.completions.create(model=concrete, messages=ASK).choices[0].message.content
    chunks = list(
        oa.chat.completions.create(
            model=concrete, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    with an.messages.stream(model=concrete, max_tokens=500, messages=ASK) as stream:
        assert stream.get_final_text() == whole
        assert stream.get_final_message().usage.output_tokens > 0


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_called_through_both_apis(
    oa: openai.OpenAI, an: anthropic.Anthropic, model: str, stream: bool
) -> None:
    messages = [{"role": "user", "content": WEATHER}]
    function = {k: TOOL[k] for k in ("name", "description")} | {"parameters": TOOL["schema"]}
    kwargs = {"model": model, "messages": messages, "tool_choice": "required"}
    tools = [{"type": "function", "function": function}]
    if stream:
        name = ""
        for chunk in oa.chat.completions.create(**kwargs, tools=tools, stream=True):
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                name += call.function.name or ""
        assert name == "get_weather"
    else:
        answer = oa.chat.completions.create(**kwargs, tools=tools)
        assert answer.choices[0].message.tool_calls[0].function.name == "get_weather"
        assert answer.choices[0].finish_reason == "tool_calls"
    native = [{"name": TOOL["name"], "input_schema": TOOL["schema"]}]
    kwargs = {
        "model": model,
        "messages": messages,
        "max_tokens": 200,
        "tools": native,
        "tool_choice": {"type": "any"},
    }
    if stream:
        with an.messages.stream(**kwargs) as events:
            answer = events.get_final_message()
    else:
        answer = an.messages.create(**kwargs)
    assert answer.stop_reason == "tool_use"
    assert answer.content[-1].name == "get_weather"
    assert isinstance(answer.content[-1].input, dict)


def test_images_go_to_a_model_that_sees_them(
    oa: openai.OpenAI, an: anthropic.Anthropic, gateway: RunningGateway
) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    raw = oa.chat.completions.with_raw_response.create(
        model="zerorouter/cost", messages=[{"role": "user", "content": parts}]
    )
    chosen = raw.headers["x-zerorouter-model"]
    assert "vision" in gateway.gateway.setup.catalog.get(chosen).capabilities
    native = [
        {"type": "text", "text": "What is this?"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
        },
    ]
    answer = an.messages.create(
        model=GPT, max_tokens=20, messages=[{"role": "user", "content": native}]
    )
    assert answer.content


def test_async_clients_are_served_at_once(gateway: RunningGateway) -> None:
    async def run() -> None:
        oa = openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0)
        an = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="any", max_retries=0)
        async with oa, an:
            asks = [
                oa.chat.completions.create(model="zerorouter/auto", messages=ASK) for _ in range(8)
            ]
            native = [
                an.messages.create(model=CLAUDE, max_tokens=9, messages=ASK) for _ in range(8)
            ]
            answers = await asyncio.gather(*asks, *native)
            assert len(answers) == 16
            stream = await oa.chat.completions.create(model=MINI, messages=ASK, stream=True)
            assert [chunk async for chunk in stream]

    asyncio.run(run())


def test_embeddings_and_responses_are_passed_on(oa: openai.OpenAI) -> None:
    made = oa.embeddings.create(model="text-embedding-3-small", input="hello")
    assert len(made.data[0].embedding) > 0
    answer = oa.responses.create(model=GPT, input="What is 17 * 23?")
    assert answer.output_text
    with oa.responses.stream(model="zerorouter/auto", input="What is 17 * 23?") as stream:
        final = stream.get_final_response()
    assert final.output_text
    assert not final.model.startswith("claude")  # its upstream does not speak this API


def test_embeddings_are_not_routed(oa: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not routed"):
        oa.embeddings.create(model="zerorouter/auto", input="hello")


def test_models_are_listed_in_both_forms_with_virtual_ones(
    oa: openai.OpenAI, an: anthropic.Anthropic
) -> None:
    listed = {model.id: model for model in oa.models.list()}
    assert {"zerorouter/auto", "zerorouter/auto:quality", "zerorouter/cost", GPT, CLAUDE} <= set(
        listed
    )
    auto = listed["zerorouter/auto"].model_dump()
    assert {"tools", "response_format"} <= set(auto["supported_parameters"])
    assert "image" in auto["architecture"]["input_modalities"]
    assert "house-model" in listed
    assert GPT in {model.id for model in an.models.list()}
    assert oa.models.retrieve(GPT).id == GPT
    with pytest.raises(openai.NotFoundError):
        oa.models.retrieve("gpt-unheard-of")


def test_unknown_model_is_a_404_in_either_envelope(
    oa: openai.OpenAI, an: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        oa.chat.completions.create(model="nobody-has-heard-of-it", messages=ASK)
    assert caught.value.code == "model_not_found"
    assert caught.value.request_id
    with pytest.raises(anthropic.NotFoundError) as native:
        an.messages.create(model="nobody-has-heard-of-it", max_tokens=5, messages=ASK)
    assert native.value.body["error"]["type"] == "not_found_error"


def test_unknown_policy_names_the_nearest(oa: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="quality"):
        oa.chat.completions.create(model="zerorouter/qualty", messages=ASK)


def test_a_model_known_by_another_name_upstream_is_asked_by_that_name(
    oa: openai.OpenAI, sandbox: RunningSandbox
) -> None:
    raw = oa.chat.completions.with_raw_response.create(model="house-model", messages=ASK)
    assert raw.headers["x-zerorouter-model"] == "house-model"
    assert raw.parse().model == "o3-mini"
    assert sandbox.calls(latest=1)["latest"][0]["model"] == "o3-mini"


def test_count_tokens_is_asked_of_anthropic_and_estimated_elsewhere(
    an: anthropic.Anthropic,
) -> None:
    raw = an.messages.with_raw_response.count_tokens(model=CLAUDE, messages=ASK)
    assert raw.headers["x-zerorouter-token-count"] == "upstream"
    assert raw.parse().input_tokens > 0
    raw = an.messages.with_raw_response.count_tokens(model=GPT, messages=ASK)
    assert raw.headers["x-zerorouter-token-count"] == "estimated"
    assert 3 <= raw.parse().input_tokens <= 40


def test_wishes_come_in_headers_or_in_the_body_and_never_reach_the_upstream(
    oa: openai.OpenAI,
) -> None:
    raw = oa.chat.completions.with_raw_response.create(
        model="zerorouter/auto",
        messages=ASK,
        extra_headers={"x-zerorouter-policy": "quality", "x-zerorouter-allow": "claude-*"},
    )
    assert raw.headers["x-zerorouter-policy"] == "quality"
    assert raw.headers["x-zerorouter-model"].startswith("claude-")
    raw = oa.chat.completions.with_raw_response.create(
        model="zerorouter/auto",
        messages=ASK,
        extra_body={"zerorouter": {"deny": ["qwen*", "gemini*"], "policy": "cost"}},
    )
    assert not raw.headers["x-zerorouter-model"].startswith(("qwen", "gemini"))
    with pytest.raises(openai.BadRequestError, match="min_accuracy"):
        oa.chat.completions.create(
            model="zerorouter/auto", messages=ASK, extra_body={"zerorouter": {"min_acuracy": 0.9}}
        )
    with pytest.raises(openai.BadRequestError, match="out of reach"):
        oa.chat.completions.create(
            model="zerorouter/auto", messages=ASK, extra_body={"zerorouter": {"max_cost_usd": 1e-9}}
        )


def test_a_concrete_model_on_the_deny_list_is_refused(oa: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="deny list"):
        oa.chat.completions.create(
            model=GPT, messages=ASK, extra_headers={"x-zerorouter-deny": "gpt-*"}
        )


def test_requests_that_break_the_format_are_refused_by_field(gateway: RunningGateway) -> None:
    url = f"{gateway.openai_url}/chat/completions"
    for body, param in (
        (b'{"model": "zerorouter/auto"}', "messages"),
        (b'{"messages": []}', "model"),
        (b'{"model": "zerorouter/auto", "messages": [1]}', "messages.0"),
    ):
        answer = fetch(url, body)
        assert answer.status == 400
        assert answer.json()["error"]["param"] == param
    answer = fetch(url, b"{")
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    answer = fetch(url)
    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert fetch(f"{gateway.url}/nowhere").status == 404
