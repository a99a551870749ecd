from __future__ import annotations

import pytest
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter

from zerorouter.errors import WireError
from zerorouter.gateway.wire.translate_chat_request import MALFORMED_ARGUMENTS
from zerorouter.gateway.wire.translate_response import (
    chat_answer_to_message,
    message_to_chat_answer,
)

MESSAGE = TypeAdapter(Message)
COMPLETION = TypeAdapter(ChatCompletion)


def completion(message, finish="stop", **choice):
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1,
        "model": "acme-2",
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
            | choice
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 60},
        },
    }


def message(content, reason="end_turn"):
    return {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "sonata-3",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 9},
    }


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def test_a_completion_becomes_a_message():
    answer = completion({"content": "Deep.", "tool_calls": [CALL]}, "tool_calls")
    made = chat_answer_to_message(answer)
    assert made.notes == ()
    assert made.body == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "acme-2",
        "content": [
            {"type": "text", "text": "Deep."},
            {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 40,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 60,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }
    MESSAGE.validate_python(made.body)


def test_a_message_becomes_a_completion():
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "De"},
        {"type": "text", "text": "ep."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ]
    made = message_to_chat_answer(message(blocks, "tool_use"), created=5)
    assert made.notes == ()
    assert made.body["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Deep.",
                "refusal": None,
                "reasoning_content": "hm",
                "tool_calls": [{**CALL, "id": "toolu_1"}],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert made.body["usage"]["prompt_tokens"] == 100
    assert made.body["usage"]["prompt_tokens_details"]["cached_tokens"] == 60
    COMPLETION.validate_python(made.body)


@pytest.mark.parametrize(
    ("answer", "kwargs", "reason", "sequence"),
    [
        (completion({"content": "x"}), {}, "end_turn", None),
        (completion({"content": "x"}, "length"), {}, "max_tokens", None),
        (completion({"content": "x"}, "content_filter"), {}, "refusal", None),
        (completion({"content": None, "refusal": "No."}), {}, "refusal", None),
        (completion({"content": None, "tool_calls": [CALL]}), {}, "tool_use", None),
        (completion({"content": "x"}, "brand_new"), {}, "end_turn", None),
        (
            completion({"content": "x"}, stop_reason="##"),
            {"stop_sequences": ["##"]},
            "stop_sequence",
            "##",
        ),
    ],
)
def test_reasons_to_stop_are_translated(answer, kwargs, reason, sequence):
    made = chat_answer_to_message(answer, **kwargs).body
    assert (made["stop_reason"], made["stop_sequence"]) == (reason, sequence)
    MESSAGE.validate_python(made)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_reasons_to_stop_are_translated_back(reason, finish):
    made = message_to_chat_answer(message([{"type": "text", "text": "x"}], reason), created=1).body
    assert made["choices"][0]["finish_reason"] == finish
    COMPLETION.validate_python(made)


def test_reasoning_is_shown_where_it_is_wanted_and_noted_elsewhere():
    answer = completion({"content": "x", "reasoning_content": "hm"})
    shown = chat_answer_to_message(answer, thinking=True)
    assert shown.body["content"][0] == {"type": "thinking", "thinking": "hm", "signature": ""}
    MESSAGE.validate_python(shown.body)
    assert chat_answer_to_message(answer).notes == ("the reasoning text was left out",)


def test_arguments_that_are_no_object_are_kept_as_a_text():
    call = {"id": "c", "function": {"name": "f", "arguments": '{"a": 1'}}
    made = chat_answer_to_message(completion({"content": None, "tool_calls": [call]}, "length"))
    assert made.body["content"][0]["input"] == {MALFORMED_ARGUMENTS: '{"a": 1'}
    assert made.notes


def test_blocks_that_chat_does_not_know_are_noted():
    made = message_to_chat_answer(message([{"type": "server_tool_use"}]), created=1)
    assert made.body["choices"][0]["message"]["content"] == ""
    assert "server_tool_use" in made.notes[0]


def test_a_served_model_can_be_named():
    assert chat_answer_to_message(completion({"content": "x"}), model="m").body["model"] == "m"


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{"message": 3}]}])
def test_what_is_no_completion_is_an_error(answer):
    with pytest.raises(WireError, match="wanted a chat completion"):
        chat_answer_to_message(answer)


def test_what_is_no_message_is_an_error():
    with pytest.raises(WireError, match="wanted an Anthropic message"):
        message_to_chat_answer({}, created=1)


TEXT = st.text(max_size=8)


@given(TEXT, st.lists(st.dictionaries(TEXT, TEXT, max_size=2), max_size=3), st.booleans())
def test_a_message_there_and_back_says_the_same(text, inputs, is_cut):
    blocks = [{"type": "text", "text": text}] if text else []
    blocks += [
        {"type": "tool_use", "id": f"toolu_{k}", "name": f"f{k}", "input": given}
        for k, given in enumerate(inputs)
    ]
    reason = "max_tokens" if is_cut else "tool_use" if inputs else "end_turn"
    told = message(blocks, reason)
    back = chat_answer_to_message(message_to_chat_answer(told, created=1).body).body
    assert (back["content"], back["stop_reason"], back["id"]) == (blocks, reason, "msg_7")
    assert {**back["usage"], **told["usage"]} == back["usage"]
