"""The official client against a running sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from sandbox.records import make_sandbox
from zerorouter.sandbox import RunningSandbox, serve_in_thread

SUM = [{"role": "user", "content": "What is 17 + 25?"}]
ANY = [{"role": "user", "content": "Anything at all?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "forecast",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}},
            "required": ["town"],
        },
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def client_of(server: RunningSandbox, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.openai_url, api_key="any", **{"max_retries": 0, "timeout": 10, **options}
    )


@pytest.fixture
def client(running: RunningSandbox) -> Iterator[openai.OpenAI]:
    with client_of(running) as made:
        yield made


def test_a_recorded_prompt_gets_its_answer_and_usage(client: openai.OpenAI):
    answer = client.chat.completions.create(model="able", messages=SUM)
    assert answer.object == "chat.completion"
    assert answer.model == "able"
    assert answer.choices[0].message.content == "42"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 64)
    assert answer.usage.total_tokens == 75
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_headers_tell_where_an_answer_comes_from_and_whether_it_is_right(client: openai.OpenAI):
    told = client.chat.completions.with_raw_response.create(model="able", messages=SUM, n=2)
    assert told.headers["x-sandbox-answer"] == "recorded"
    assert told.headers["x-sandbox-correct"] == "1,1"
    assert told.headers["x-sandbox-p-correct"] == "1.0000"
    assert told.headers["x-sandbox-prompt"] == "ours/sum"
    other = client.chat.completions.with_raw_response.create(model="able", messages=ANY)
    assert other.headers["x-sandbox-answer"] == "synthetic"
    assert told.headers["x-request-id"] != other.headers["x-request-id"]


def test_a_stream_joined_is_the_answer_without_one(client: openai.OpenAI):
    whole = client.chat.completions.create(model="able", messages=ANY)
    chunks = list(
        client.chat.completions.create(
            model="able", messages=ANY, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == (
        [None] * (len(chunks) - 2) + ["stop"]
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) == 40 + 3  # a chunk a token, the role, the end and the usage


def test_a_stream_has_no_usage_unless_asked(client: openai.OpenAI):
    chunks = list(client.chat.completions.create(model="able", messages=ANY, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_several_answers_come_with_their_index_and_take_turns_in_a_stream(client: openai.OpenAI):
    whole = client.chat.completions.create(model="able", messages=ANY, n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = ["", "", ""]
    order = []
    for chunk in client.chat.completions.create(model="able", messages=ANY, n=3, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        order.append(choice.index)
    assert texts == [choice.message.content for choice in whole.choices]
    assert order[:9] == [0, 1, 2] * 3
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 120


def test_the_limit_ends_an_answer_with_length(client: openai.OpenAI):
    for field in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model="able", messages=ANY, **{field: 7})
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 7


def test_a_stop_text_ends_an_answer(client: openai.OpenAI):
    answer = client.chat.completions.create(model="able", messages=ANY, stop=[" counts"])
    assert answer.choices[0].message.content == "[sandbox: synthetic answer,"
    assert answer.choices[0].finish_reason == "stop"


def test_log_probabilities_are_of_the_tokens_written(client: openai.OpenAI):
    answer = client.chat.completions.create(
        model="able", messages=ANY, logprobs=True, top_logprobs=3
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    for token in choice.logprobs.content:
        assert bytes(token.bytes or []).decode() == token.token
        best, *others = token.top_logprobs
        assert (best.token, best.logprob) == (token.token, token.logprob)
        assert len(others) == 2
        assert all(other.logprob < best.logprob <= 0 for other in others)
    streamed = []
    for chunk in client.chat.completions.create(
        model="able", messages=ANY, logprobs=True, top_logprobs=3, stream=True
    ):
        if chunk.choices[0].logprobs is not None:
            streamed += chunk.choices[0].logprobs.content or []
    assert streamed == choice.logprobs.content


def test_tools_are_called_and_their_results_answered(client: openai.OpenAI):
    messages: list[Any] = [{"role": "user", "content": "Use the forecast for Bergen."}]
    first = client.chat.completions.create(model="able", messages=messages, tools=[TOOL])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "forecast"
    assert json.loads(call.function.arguments) == {"town": "sandbox"}
    messages += [
        choice.message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
    ]
    second = client.chat.completions.create(model="able", messages=messages, tools=[TOOL])
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content


def test_a_streamed_call_is_put_together_again(client: openai.OpenAI):
    name, arguments, finish = "", "", None
    for chunk in client.chat.completions.create(
        model="able", messages=ANY, tools=[TOOL], tool_choice="required", stream=True
    ):
        choice = chunk.choices[0]
        finish = choice.finish_reason or finish
        for call in choice.delta.tool_calls or []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, json.loads(arguments), finish) == ("forecast", {"town": "sandbox"}, "tool_calls")


def test_a_custom_tool_gets_free_text(client: openai.OpenAI):
    answer = client.chat.completions.create(
        model="able",
        messages=ANY,
        tools=[{"type": "custom", "custom": {"name": "shell"}}],
        tool_choice={"type": "custom", "custom": {"name": "shell"}},
    )
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "custom"
    assert (call.custom.name, call.custom.input) == ("shell", "sandbox")


def test_the_client_parses_a_structured_answer(client: openai.OpenAI):
    class Reply(BaseModel):
        steps: list[str]
        answer: str

    parsed = client.chat.completions.parse(model="able", messages=SUM, response_format=Reply)
    assert parsed.choices[0].message.parsed == Reply(steps=["sandbox"], answer="42")
    refused = client.chat.completions.parse(
        model="able",
        messages=SUM,
        response_format=Reply,
        extra_headers={"x-sandbox-fault": "refusal"},
    )
    assert refused.choices[0].message.parsed is None
    assert refused.choices[0].message.refusal


def test_images_and_system_prompts_are_read_past(client: openai.OpenAI):
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "text", "text": "What is 17 + 25?"},
    ]
    answer = client.chat.completions.create(
        model="able",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": content},
        ],
    )
    assert answer.choices[0].message.content == "42"


def test_a_long_conversation_is_billed_as_cached_the_second_time(client: openai.OpenAI):
    start: list[Any] = [{"role": "user", "content": "Minutes of the works council. " * 400}]
    client.chat.completions.create(model="able", messages=start)
    longer = [*start, {"role": "assistant", "content": "Yes?"}, *ANY]
    used = client.chat.completions.create(model="able", messages=longer).usage
    assert used is not None
    assert used.prompt_tokens_details is not None
    cached = used.prompt_tokens_details.cached_tokens
    assert cached is not None
    assert 2_000 < cached < used.prompt_tokens


def test_embeddings_are_unit_vectors_of_the_text(client: openai.OpenAI):
    made = client.embeddings.create(model="any-embedding", input=["one", "two", "one"])
    first, second, third = (item.embedding for item in made.data)
    assert len(first) == 32
    assert first == third != second
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    plain = client.embeddings.create(
        model="any-embedding", input="one", encoding_format="float", dimensions=8
    )
    assert len(plain.data[0].embedding) == 8
    assert made.usage.prompt_tokens == 3
    tokens = client.embeddings.create(model="any-embedding", input=[[1, 2], [3]])
    assert tokens.usage.total_tokens == 3


def test_models_are_listed_and_shown(client: openai.OpenAI):
    names = [model.id for model in client.models.list()]
    assert names == ["able", "thinker"]
    card = client.models.retrieve("Able")
    assert (card.id, card.owned_by, card.created) == ("able", "ours", 1772323200)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/at-all")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "Only this."}]}, "messages"),
        ({"n": 0}, "n"),
        ({"n": 1_000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "hammer"}]}, "tools[0]"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(
    client: openai.OpenAI, fields: dict[str, Any], param: str
):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "able", "messages": ANY, **fields})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_model_is_a_404_with_the_nearest_name(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="did you mean 'able'") as caught:
        client.chat.completions.create(model="abel", messages=ANY)
    assert caught.value.code == "model_not_found"


def test_a_prompt_beyond_the_context_window_is_a_400(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="20000") as caught:
        client.chat.completions.create(
            model="able", messages=[{"role": "user", "content": "word " * 20_000}]
        )
    assert caught.value.code == "context_length_exceeded"


def test_the_async_client_asks_many_at_once(folder: Path):
    async def many(server: RunningSandbox) -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=server.openai_url, api_key="any", max_retries=0
        ) as client:

            async def one(i: int) -> str:
                text = ""
                stream = await client.chat.completions.create(
                    model="able",
                    messages=[{"role": "user", "content": f"Number {i % 20}?"}],
                    stream=True,
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
                return text

            return await asyncio.gather(*(one(i) for i in range(40)))

    # Slow starts hold the calls together, so that they meet.
    with serve_in_thread(sandbox=make_sandbox(folder, faults=["slow_start=0.3"])) as server:
        texts = asyncio.run(many(server))
        told = server.calls(prompts=True)
    assert texts[:20] == texts[20:]
    assert len(set(texts)) == 20
    assert told["total"] == 40
    assert told["peak_in_flight"] == 40
    assert {row["calls"] for row in told["prompts"]} == {2}


def test_time_passes_as_the_records_say(folder: Path):
    """2.5 s were recorded, of which 0.5 to the first token; a fifth of it is waited."""
    import time

    settings = {"time_scale": 0.2, "chunk_tokens": 1}
    prompts = [{"role": "user", "content": "What is 17 + 25?"}]
    with (
        serve_in_thread(sandbox=make_sandbox(folder, **settings)) as server,
        client_of(server) as client,
    ):
        begun = time.perf_counter()
        client.chat.completions.create(model="able", messages=prompts)
        assert time.perf_counter() - begun >= 0.5
        begun = time.perf_counter()
        stream = client.chat.completions.create(model="able", messages=ANY, stream=True)
        next(iter(stream))
        first = time.perf_counter() - begun
        list(stream)
        assert time.perf_counter() - begun > first > 0.02
