"""What the official clients can ask for, over upstreams of their own kind and of the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import anthropic
import openai
import pytest

from gateway.conftest import CLAUDE, GPT, fetch
from gateway.test_gateway_clients import ASK, PIXEL, TOOL, WEATHER
from zerorouter.gateway.running import RunningGateway
from zerorouter.sandbox import RunningSandbox

EITHER = pytest.mark.parametrize("model", [GPT, CLAUDE])
FUNCTION = {
    "type": "function",
    "function": {
        "name": TOOL["name"],
        "description": TOOL["description"],
        "parameters": TOOL["schema"],
    },
}
NATIVE = {"name": TOOL["name"], "description": TOOL["description"], "input_schema": TOOL["schema"]}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}


@pytest.fixture
def oa(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def an(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key="any", max_retries=0) as client:
        yield client


# -- answers of a form -----------------------------------------------------------------------------


@EITHER
def test_an_answer_in_json_by_a_schema(oa: openai.OpenAI, model: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
    answer = oa.chat.completions.create(model=model, messages=ASK, response_format=form)
    told = json.loads(answer.choices[0].message.content)
    assert set(told) == {"answer", "sure"}
    chunks = oa.chat.completions.create(
        model=model, messages=ASK, response_format=form, stream=True
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert set(json.loads(text)) == {"answer", "sure"}


def test_json_mode_is_passed_on_and_routed_to_a_model_that_has_it(
    oa: openai.OpenAI, gateway: RunningGateway
) -> None:
    raw = oa.chat.completions.with_raw_response.create(
        model="zerorouter/cost",
        messages=[{"role": "user", "content": "What is 17 * 23? Answer in JSON."}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(raw.parse().choices[0].message.content), dict)
    chosen = gateway.gateway.setup.catalog.get(raw.headers["x-zerorouter-model"])
    assert "json" in chosen.capabilities


@EITHER
def test_an_anthropic_answer_by_a_schema(an: anthropic.Anthropic, model: str) -> None:
    answer = an.messages.create(
        model=model,
        max_tokens=200,
        messages=ASK,
        extra_body={"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    )
    assert set(json.loads(answer.content[0].text)) == {"answer", "sure"}


# -- sampling and its bookkeeping ------------------------------------------------------------------


def test_several_answers_and_their_logprobs_come_as_the_upstream_gives_them(
    oa: openai.OpenAI,
) -> None:
    for model in (GPT, "zerorouter/auto"):
        answer = oa.chat.completions.create(
            model=model,
            messages=ASK,
            n=3,
            logprobs=True,
            top_logprobs=2,
            extra_headers={"x-zerorouter-allow": "gpt-*"},
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        told = answer.choices[2].logprobs
        assert told is not None
        assert told.content is not None
        assert len(told.content[0].top_logprobs) == 2
    chunks = list(
        oa.chat.completions.create(model=GPT, messages=ASK, n=2, logprobs=True, stream=True)
    )
    assert {c.choices[0].index for c in chunks if c.choices} == {0, 1}
    assert any(c.choices and c.choices[0].logprobs for c in chunks)


def test_what_an_upstream_of_the_other_kind_cannot_say_is_refused_or_noted(
    oa: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        oa.chat.completions.create(model=CLAUDE, messages=ASK, n=2)
    assert "n" in str(caught.value)
    raw = oa.chat.completions.with_raw_response.create(model=CLAUDE, messages=ASK, seed=7)
    assert raw.parse().choices[0].message.content
    assert "seed" in raw.headers["x-zerorouter-notes"]


@EITHER
@pytest.mark.parametrize("wanted", [True, False, None])
def test_a_streams_usage_comes_if_it_was_asked_for(
    oa: openai.OpenAI, model: str, wanted: bool | None
) -> None:
    more = {} if wanted is None else {"stream_options": {"include_usage": wanted}}
    chunks = list(oa.chat.completions.create(model=model, messages=ASK, stream=True, **more))
    told = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert len(told) == (1 if wanted else 0)
    assert all(chunk.choices for chunk in chunks[: -1 if wanted else None])
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "stop"
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert len({chunk.id for chunk in chunks}) == 1


@EITHER
def test_a_limit_on_tokens_is_kept_and_told(
    oa: openai.OpenAI, an: anthropic.Anthropic, model: str
) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = oa.chat.completions.create(model=model, messages=ASK, **{name: 2})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 2
    message = an.messages.create(model=model, messages=ASK, max_tokens=2)
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 2


# -- tools over several turns ----------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("stream", [False, True])
def test_openai_tools_go_round(oa: openai.OpenAI, model: str, stream: bool) -> None:
    messages: list = [{"role": "user", "content": WEATHER}]
    kwargs = {"model": model, "tools": [FUNCTION], "parallel_tool_calls": False}
    if stream:
        with oa.chat.completions.stream(messages=messages, **kwargs) as events:
            said = events.get_final_completion().choices[0].message
    else:
        said = oa.chat.completions.create(messages=messages, **kwargs).choices[0].message
    (call,) = said.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city"}
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump(exclude={"index"}, warnings=False)]},
        {"role": "tool", "tool_call_id": call.id, "content": "Rain, 4 degrees."},
    ]
    for entry in messages[1]["tool_calls"]:
        entry["function"].pop("parsed_arguments", None)
    answer = oa.chat.completions.create(messages=messages, **kwargs)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


@EITHER
@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_tools_go_round(an: anthropic.Anthropic, model: str, stream: bool) -> None:
    messages: list = [{"role": "user", "content": WEATHER}]
    kwargs = {"model": model, "max_tokens": 300, "tools": [NATIVE], "system": "Be brief."}
    if stream:
        with an.messages.stream(messages=messages, **kwargs) as events:
            said = events.get_final_message()
    else:
        said = an.messages.create(messages=messages, **kwargs)
    assert said.stop_reason == "tool_use"
    call = said.content[-1]
    assert set(call.input) == {"city"}
    messages += [
        {"role": "assistant", "content": [block.model_dump() for block in said.content]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": [{"type": "text", "text": "Rain, 4 degrees."}],
                }
            ],
        },
    ]
    answer = an.messages.create(messages=messages, **kwargs)
    assert answer.stop_reason == "end_turn"
    assert answer.content[0].text


# -- images ----------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("stream", [False, True])
def test_images_reach_models_of_both_kinds_from_both_clients(
    oa: openai.OpenAI, an: anthropic.Anthropic, sandbox: RunningSandbox, model: str, stream: bool
) -> None:
    without = an.messages.create(
        model=model, max_tokens=20, messages=[{"role": "user", "content": "What is this?"}]
    )
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    parts = [{"type": "text", "text": "What is this?"}, url]
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    blocks = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
    if stream:
        chunks = oa.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": parts}],
            stream=True,
            stream_options={"include_usage": True},
        )
        (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
        counts = [usage.prompt_tokens]
        with an.messages.stream(
            model=model, max_tokens=20, messages=[{"role": "user", "content": blocks}]
        ) as events:
            counts.append(events.get_final_message().usage.input_tokens)
    else:
        answer = oa.chat.completions.create(
            model=model, messages=[{"role": "user", "content": parts}]
        )
        message = an.messages.create(
            model=model, max_tokens=20, messages=[{"role": "user", "content": blocks}]
        )
        counts = [answer.usage.prompt_tokens, message.usage.input_tokens]
    # An image that got lost on the way would cost no tokens.
    assert min(counts) > without.usage.input_tokens + 20
    assert sandbox.calls()["total"] == 3


# -- asynchronous clients --------------------------------------------------------------------------


@EITHER
def test_async_clients_stream(gateway: RunningGateway, model: str) -> None:
    async def run() -> None:
        oa = openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="any", max_retries=0)
        an = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="any", max_retries=0)
        async with oa, an:
            whole = await oa.chat.completions.create(model=model, messages=ASK)
            stream = await oa.chat.completions.create(model=model, messages=ASK, stream=True)
            text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            assert text == whole.choices[0].message.content
            async with an.messages.stream(model=model, max_tokens=99, messages=ASK) as events:
                native = "".join([piece async for piece in events.text_stream])
            assert native == text
            with pytest.raises(openai.NotFoundError):
                await oa.chat.completions.create(model="never-heard-of", messages=ASK)
            with pytest.raises(anthropic.NotFoundError):
                await an.messages.create(model="never-heard-of", max_tokens=9, messages=ASK)

    asyncio.run(run())


# -- errors ----------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (404, "NotFoundError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (529, "InternalServerError"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_both_clients_raise_their_own_error_for_an_upstreams(
    oa: openai.OpenAI,
    an: anthropic.Anthropic,
    sandbox: RunningSandbox,
    model: str,
    status: int,
    kind: str,
    stream: bool,
) -> None:
    sandbox.set_faults([f"{status}=0" if status in (429, 529) else str(status)])
    with pytest.raises(getattr(openai, kind)) as caught:
        oa.chat.completions.create(model=model, messages=ASK, stream=stream)
    assert caught.value.status_code == status
    assert caught.value.request_id
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]
    expected = "OverloadedError" if status == 529 else kind
    with pytest.raises(getattr(anthropic, expected, anthropic.APIStatusError)) as native:
        an.messages.create(model=model, max_tokens=9, messages=ASK, stream=stream)
    assert native.value.status_code == status
    assert native.value.request_id
    assert native.value.body["type"] == "error"


def test_a_refused_key_is_an_authentication_error_for_both(
    tmp_path, monkeypatch: pytest.MonkeyPatch, start
) -> None:
    import time

    from zerorouter.gateway.keys import KeySettings, KeyStore
    from zerorouter.gateway.owners import books_dir

    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    good = KeyStore(books_dir()).make(KeySettings(name="a"), now_ns=time.time_ns())[0]
    gateway = start(books="kept")
    for key, fails in ((good, False), ("sk-of-somebody-else", True)):
        with (
            openai.OpenAI(base_url=gateway.openai_url, api_key=key, max_retries=0) as oa,
            anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as an,
        ):
            if not fails:
                assert oa.chat.completions.create(model=GPT, messages=ASK).choices
                assert an.messages.create(model=GPT, max_tokens=9, messages=ASK).content
                continue
            with pytest.raises(openai.AuthenticationError):
                oa.chat.completions.create(model=GPT, messages=ASK)
            with pytest.raises(anthropic.AuthenticationError):
                an.messages.create(model=GPT, max_tokens=9, messages=ASK)


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_routed_answers_carry_all_headers(gateway: RunningGateway, path: str, stream: bool) -> None:
    body = {"model": "zerorouter/auto", "messages": ASK, "max_tokens": 50, "stream": stream}
    if path == "/v1/responses":
        body = {"model": "zerorouter/auto", "input": "What is 17 * 23?", "stream": stream}
    answer = fetch(f"{gateway.url}{path}", body)
    assert answer.status == 200
    for name in (
        *("model", "decision-id", "policy", "p-correct", "expected-cost-usd", "overhead-ms"),
        *("attempts", "profile-version"),
    ):
        assert answer.headers[f"x-zerorouter-{name}"], name
    assert 0 < float(answer.headers["x-zerorouter-p-correct"]) < 1
    assert float(answer.headers["x-zerorouter-expected-cost-usd"]) > 0
    assert float(answer.headers["x-zerorouter-overhead-ms"]) >= 0
