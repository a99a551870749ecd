"""The official client against a running sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from zerorouter.sandbox import RunningSandbox

SUM: Any = [{"role": "user", "content": "What is 17 + 25?"}]
ANY: Any = [{"role": "user", "content": "Anything at all?"}]
TOOL: Any = {
    "name": "forecast",
    "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}},
}
LONG = "Minutes of the works council. " * 400


@pytest.fixture
def client(running: RunningSandbox) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=running.url, api_key="any", max_retries=0, timeout=10
    ) as made:
        yield made


def test_a_recorded_prompt_gets_its_answer_and_usage(client: anthropic.Anthropic):
    answer = client.messages.create(model="able", max_tokens=100, messages=SUM)
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "able")
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == "42"
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 64)
    assert answer.usage.cache_read_input_tokens == 0
    assert answer.id.startswith("msg_")


def test_a_stream_accumulates_to_the_answer_without_one(client: anthropic.Anthropic):
    whole = client.messages.create(model="able", max_tokens=100, messages=ANY)
    with client.messages.stream(model="able", max_tokens=100, messages=ANY) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].type == "text"
    assert whole.content[0].type == "text"
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason == "end_turn"
    assert final.usage.output_tokens == whole.usage.output_tokens == 40
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_delta") == 40


def test_raw_events_come_in_order(client: anthropic.Anthropic):
    events = client.messages.create(model="able", max_tokens=3, messages=ANY, stream=True)
    kinds = [event.type for event in events]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_limits_and_stop_sequences_have_reasons_of_their_own(client: anthropic.Anthropic):
    cut = client.messages.create(model="able", max_tokens=7, messages=ANY)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 7)
    stopped = client.messages.create(
        model="able", max_tokens=100, messages=ANY, stop_sequences=[" counts"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " counts")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "forecast"}])
def test_tools_are_called_and_their_results_answered(
    client: anthropic.Anthropic, choice: dict[str, Any]
):
    first = client.messages.create(
        model="able", max_tokens=100, messages=ANY, tools=[TOOL], tool_choice=choice
    )
    (block,) = first.content
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("forecast", {"town": "sandbox"})
    assert first.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "Rain."}
    second = client.messages.create(
        model="able",
        max_tokens=100,
        messages=[
            *ANY,
            {"role": "assistant", "content": [block.to_dict()]},
            {"role": "user", "content": [result]},
        ],
        tools=[TOOL],
    )
    assert second.stop_reason == "end_turn"


def test_a_streamed_call_is_put_together_again(client: anthropic.Anthropic):
    with client.messages.stream(
        model="able", max_tokens=100, messages=ANY, tools=[TOOL], tool_choice={"type": "any"}
    ) as stream:
        final = stream.get_final_message()
    (block,) = final.content
    assert block.type == "tool_use"
    assert block.input == {"town": "sandbox"}
    assert final.stop_reason == "tool_use"


def test_thinking_is_shown_where_it_is_asked_for(client: anthropic.Anthropic):
    wanted: Any = {"type": "enabled", "budget_tokens": 1_024}
    answer = client.messages.create(model="able", max_tokens=2_000, messages=ANY, thinking=wanted)
    thinking, text = answer.content
    assert thinking.type == "thinking"
    assert thinking.thinking
    assert thinking.signature
    assert text.type == "text"
    assert answer.usage.output_tokens_details is not None
    assert 0 < answer.usage.output_tokens_details.thinking_tokens < answer.usage.output_tokens
    with client.messages.stream(
        model="able", max_tokens=2_000, messages=ANY, thinking=wanted
    ) as stream:
        streamed = stream.get_final_message().content
    assert [block.to_dict() for block in streamed] == [block.to_dict() for block in answer.content]


def test_marked_prompts_are_written_to_the_cache_and_read_from_it(client: anthropic.Anthropic):
    system: Any = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    first, second = (
        client.messages.create(
            model="able", max_tokens=9, system=system, messages=[{"role": "user", "content": ask}]
        ).usage
        for ask in ("One?", "Two?")
    )
    assert first.cache_read_input_tokens == 0
    assert first.cache_creation_input_tokens
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert second.cache_creation_input_tokens == 0
    assert second.input_tokens < 50


def test_tokens_are_counted_as_usage_counts_them(client: anthropic.Anthropic):
    for messages in (SUM, ANY):
        counted = client.messages.count_tokens(model="able", system="Be brief.", messages=messages)
        used = client.messages.create(
            model="able", max_tokens=9, system="Be brief.", messages=messages
        ).usage
        assert counted.input_tokens == used.input_tokens


def test_models_are_listed_and_shown(client: anthropic.Anthropic):
    page = client.models.list()
    assert [model.id for model in page] == ["able", "thinker"]
    card = client.models.retrieve("able")
    assert (card.type, card.created_at.year, card.created_at.month) == ("model", 2026, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": "text"},
        {"max_tokens": 0},
        {"tool_choice": {"type": "any"}},
        {"tools": [{"name": ""}]},
        {"system": 7},
        {"output_config": {"format": {"type": "xml"}}},
    ],
)
def test_a_wrong_field_is_a_400(client: anthropic.Anthropic, fields: dict[str, Any]):
    with pytest.raises(anthropic.BadRequestError, match=next(iter(fields))) as caught:
        client.messages.create(**{"model": "able", "max_tokens": 9, "messages": ANY, **fields})
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["request_id"] == caught.value.request_id


def test_an_unknown_model_is_a_404(client: anthropic.Anthropic):
    with pytest.raises(anthropic.NotFoundError, match="did you mean 'able'") as caught:
        client.messages.create(model="abel", max_tokens=9, messages=ANY)
    body: Any = caught.value.body
    assert body["error"]["type"] == "not_found_error"


def test_a_refusal_has_its_stop_reason(client: anthropic.Anthropic):
    answer = client.messages.create(
        model="able", max_tokens=99, messages=ANY, extra_headers={"x-sandbox-fault": "refusal"}
    )
    assert answer.stop_reason == "refusal"
    assert answer.stop_details is not None


def test_a_sample_number_draws_another_answer(client: anthropic.Anthropic):
    texts = set()
    for sample in ("0", "1", "2"):
        answer = client.messages.create(
            model="able", max_tokens=99, messages=ANY, extra_headers={"x-sandbox-sample": sample}
        )
        assert answer.content[0].type == "text"
        texts.add(answer.content[0].text)
    assert len(texts) == 3


def test_the_async_client_streams_many_at_once(running: RunningSandbox):
    async def many() -> list[str]:
        async with anthropic.AsyncAnthropic(
            base_url=running.url, api_key="any", max_retries=0
        ) as client:

            async def one() -> str:
                async with client.messages.stream(
                    model="able", max_tokens=99, messages=ANY
                ) as stream:
                    return await stream.get_final_text()

            return await asyncio.gather(*(one() for _ in range(20)))

    assert len(set(asyncio.run(many()))) == 1
