"""OpenAI's responses API, asked by the official client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from zerorouter.sandbox import RunningSandbox

ANY = "Anything at all?"
TOOL: Any = {
    "type": "function",
    "name": "forecast",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def client(running: RunningSandbox) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=running.openai_url, api_key="any", max_retries=0, timeout=10
    ) as made:
        yield made


def test_a_recorded_prompt_gets_its_answer_and_usage(client: openai.OpenAI):
    answer = client.responses.create(model="able", input="What is 17 + 25?")
    assert (answer.output_text, answer.status) == ("42", "completed")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 64)
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "What is 17 + 25?"}]},
    ]
    assert client.responses.create(model="able", input=items).output_text == "42"


def test_a_stream_accumulates_to_the_answer_without_one(client: openai.OpenAI):
    whole = client.responses.create(model="able", input=ANY)
    events = list(client.responses.create(model="able", input=ANY, stream=True))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.usage == whole.usage
    with client.responses.stream(model="able", input=ANY) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == whole.output_text


def test_the_limit_leaves_an_answer_incomplete(client: openai.OpenAI):
    answer = client.responses.create(model="able", input=ANY, max_output_tokens=7)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 7


def test_functions_are_called_and_their_results_answered(client: openai.OpenAI):
    first = client.responses.create(model="able", input="Use the forecast.", tools=[TOOL])
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("forecast", {"town": "sandbox"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    items: Any = [{"role": "user", "content": "Use the forecast."}, call.to_dict(), result]
    second = client.responses.create(model="able", input=items, tools=[TOOL])
    assert second.output[0].type == "message"
    with client.responses.stream(model="able", input="Use the forecast.", tools=[TOOL]) as stream:
        (streamed,) = stream.get_final_response().output
    assert streamed.type == "function_call"
    assert streamed.arguments == call.arguments


def test_the_client_parses_a_structured_answer(client: openai.OpenAI):
    class Reply(BaseModel):
        answer: str

    parsed = client.responses.parse(model="able", input="What is 17 + 25?", text_format=Reply)
    assert parsed.output_parsed == Reply(answer="42")


def test_an_error_event_ends_a_stream(client: openai.OpenAI):
    stream = client.responses.create(
        model="able", input=ANY, stream=True, extra_headers={"x-sandbox-fault": "stream_error=2"}
    )
    kinds = [event.type for event in stream]
    assert kinds[-1] == "error"
    assert kinds.count("response.output_text.delta") == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": 7}, "input"),
        ({"input": [{"type": "message"}]}, "input[0].role"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tool_choice": {"type": "function", "name": "clock"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
    ],
)
def test_a_wrong_field_is_a_400_that_names_it(
    client: openai.OpenAI, fields: dict[str, Any], param: str
):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "able", "input": ANY, **fields})
    assert caught.value.param == param
