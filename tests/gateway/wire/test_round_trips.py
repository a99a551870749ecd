"""Chat requests and answers, translated to Anthropic's words and back, mean the same."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from zerorouter.gateway.wire.translate_chat_request import chat_to_messages
from zerorouter.gateway.wire.translate_request import messages_to_chat
from zerorouter.gateway.wire.translate_response import (
    chat_answer_to_message,
    message_to_chat_answer,
)

# Anthropic wants texts that are not blank, and joins what one side says in a row.
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9).map(lambda t: f"x{t}x")
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers(-9, 9) | st.none(), max_size=3)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
LINK = {"type": "image_url", "image_url": {"url": "https://lake.example/map.png"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f0", "description": "d", "parameters": SCHEMA}}


def parts(content):
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@st.composite
def conversations(draw):
    """User and assistant in turn, some turns with images, calls and their results."""
    messages = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(1, 3))):
        pieces = [{"type": "text", "text": draw(TEXT)}]
        pieces += draw(st.lists(st.sampled_from([IMAGE, LINK]), max_size=2))
        messages.append({"role": "user", "content": pieces})
        if draw(st.booleans()):
            calls = [
                {
                    "id": f"call_{turn}_{k}",
                    "type": "function",
                    "function": {"name": "f0", "arguments": json.dumps(draw(ARGUMENTS))},
                }
                for k in range(draw(st.integers(1, 2)))
            ]
            said = draw(st.none() | TEXT)
            messages.append({"role": "assistant", "content": said, "tool_calls": calls})
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)}
                for call in calls
            ]
        messages.append({"role": "assistant", "content": draw(TEXT)})
    return [*messages, {"role": "user", "content": [{"type": "text", "text": draw(TEXT)}]}]


def normal(message):
    """A message in one spelling: content in parts, arguments parsed."""
    told = {k: v for k, v in message.items() if v is not None}
    if "content" in told:
        told["content"] = parts(told["content"])
    for call in told.get("tool_calls", ()):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return told


@given(
    conversations(),
    st.fixed_dictionaries(
        {"max_tokens": st.integers(1, 9_999)},
        optional={
            "temperature": st.floats(0, 1),
            "top_p": st.floats(0, 1),
            "stop": st.lists(TEXT, min_size=1, max_size=3),
            "stream": st.just(True),
            "user": TEXT,
            "parallel_tool_calls": st.just(False),
            "tool_choice": st.sampled_from(
                ["auto", "required", {"type": "function", "function": {"name": "f0"}}]
            ),
        },
    ),
)
def test_a_chat_request_there_and_back_means_the_same(messages, fields):
    body = {"model": "m", "messages": messages, "tools": [TOOL], **fields}
    there = chat_to_messages(json.loads(json.dumps(body)), model="c")
    assert there.notes == ()
    back = messages_to_chat(there.body, model="m")
    assert back.notes == ()
    made = dict(back.body)
    made.pop("stream_options", None)  # Anthropic's streams always tell their usage
    if fields.get("parallel_tool_calls") is False and "tool_choice" not in fields:
        assert made.pop("tool_choice") == "auto"  # where Anthropic says so
    assert [normal(m) for m in made.pop("messages")] == [normal(m) for m in body.pop("messages")]
    assert made == body


@given(
    st.none() | TEXT,
    st.lists(ARGUMENTS, max_size=3),
    st.booleans(),
    st.integers(0, 999),
    st.integers(0, 99),
    st.integers(0, 99),
)
def test_a_completion_there_and_back_says_the_same(text, inputs, is_cut, fresh, cached, out):
    calls = [
        {
            "id": f"call_{k}",
            "type": "function",
            "function": {"name": f"f{k}", "arguments": json.dumps(given)},
        }
        for k, given in enumerate(inputs)
    ]
    said = {"role": "assistant", "content": text or (None if calls else "x"), "refusal": None}
    if calls:
        said["tool_calls"] = calls
    reason = "length" if is_cut else "tool_calls" if calls else "stop"
    told = {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": fresh + cached,
            "completion_tokens": out,
            "total_tokens": fresh + cached + out,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }
    there = chat_answer_to_message(json.loads(json.dumps(told)))
    back = message_to_chat_answer(there.body, created=5).body
    (choice,) = back["choices"]
    assert choice["finish_reason"] == reason
    assert normal(dict(choice["message"])) == normal(json.loads(json.dumps(said)))
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert back["usage"][name] == told["usage"][name]
    assert back["usage"]["prompt_tokens_details"]["cached_tokens"] == cached
    assert (back["id"], back["model"]) == ("chatcmpl-7", "m")
