from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.streams import (
    CHAT_TEXT,
    CHAT_TOOLS,
    MESSAGE_TOOLS,
    chat_bytes,
    chat_chunk,
    message_bytes,
    pieces,
)
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.scanning import (
    ChatScanner,
    MessagesScanner,
    ResponsesScanner,
    UsageChunkFilter,
    scanner_for,
)
from zerorouter.gateway.wire.usage import TokenUsage, answer_usage, chat_usage, messages_usage

RESPONSES = [
    {"type": "response.created", "response": {"id": "resp_1", "model": "acme", "status": "queued"}},
    {"type": "response.output_text.delta", "delta": "Deep."},
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "model": "acme",
            "status": "completed",
            "usage": {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 1},
            },
        },
    },
]


def facts_of(scanner, parts):
    for part in parts:
        scanner.feed(part)
    scanner.finish()
    return scanner.facts


def test_a_chat_stream_tells_model_end_and_usage():
    facts = facts_of(ChatScanner(), [chat_bytes(CHAT_TEXT)])
    assert (facts.model, facts.answer_id) == ("acme-large-2", "chatcmpl-lake7")
    assert (facts.finish_reason, facts.is_complete, facts.error) == ("stop", True, None)
    assert facts.usage == TokenUsage(
        input_tokens=120, output_tokens=9, cached_tokens=64, reasoning_tokens=2
    )


def test_a_messages_stream_tells_model_end_and_usage_with_the_cache():
    facts = facts_of(MessagesScanner(), [message_bytes(MESSAGE_TOOLS)])
    assert (facts.model, facts.finish_reason, facts.is_complete) == ("sonata-3", "tool_use", True)
    assert facts.usage == TokenUsage(
        input_tokens=100, output_tokens=57, cached_tokens=64, cache_write_tokens=6
    )


def test_a_responses_stream_tells_model_end_and_usage():
    facts = facts_of(ResponsesScanner(), [message_bytes(RESPONSES)])
    assert (facts.model, facts.finish_reason, facts.is_complete) == ("acme", "completed", True)
    assert facts.usage == TokenUsage(
        input_tokens=9, output_tokens=3, cached_tokens=4, reasoning_tokens=1
    )


def test_the_first_token_is_told_once_and_not_for_the_role():
    scanner = ChatScanner()
    came = [scanner.feed(chat_bytes([chunk], done=False)) for chunk in CHAT_TEXT]
    assert came == [False, True, False, False, False]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"refusal": "No."},
        {"role": "assistant", "content": "x"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"audio": {"data": "AAAA"}},
    ],
)
def test_every_kind_of_content_counts_as_the_first_token(delta):
    assert ChatScanner().feed(chat_bytes([chat_chunk(delta)]))


STREAMS = {
    Api.CHAT: chat_bytes(CHAT_TOOLS),
    Api.MESSAGES: message_bytes(MESSAGE_TOOLS),
    Api.RESPONSES: message_bytes(RESPONSES),
}


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 5000), max_size=10))
def test_cutting_a_stream_changes_no_fact(api, cuts):
    stream = STREAMS[api]
    assert facts_of(scanner_for(api), pieces(stream, cuts)) == facts_of(scanner_for(api), [stream])


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.binary(max_size=40), max_size=6))
def test_a_scanner_never_raises(api, parts):
    facts_of(scanner_for(api), [b"data: ", *parts, b"\n\n"])


JSON_VALUES = st.recursive(
    st.sampled_from([None, True, -3, 1.5, "error", "stop", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "choices", "delta", "usage", "message", "error", "response", "index"),
                    *(
                        "content_block",
                        "tool_calls",
                        "function",
                        "content",
                        "prompt_tokens",
                        "code",
                    ),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.sampled_from([*STREAMS]), JSON_VALUES, st.sampled_from(["message_start", "error", None]))
def test_a_scanner_survives_events_of_any_shape(api, value, kind):
    told = {**value, "type": kind} if isinstance(value, dict) and kind else value
    facts_of(scanner_for(api), [b"data: " + json.dumps(told).encode() + b"\n\n"])
    if isinstance(told, dict):
        answer_usage(api, told)


def test_an_error_inside_a_stream_is_read():
    told = {"error": {"message": "too busy", "type": "server_error", "code": 503}}
    facts = facts_of(ChatScanner(), [chat_bytes([CHAT_TEXT[1], told], done=False)])
    assert facts.error is not None
    assert (facts.error.status, facts.error.message, facts.is_complete) == (503, "too busy", False)


def test_a_broken_off_answer_is_estimated_from_what_has_passed():
    facts = facts_of(ChatScanner(), [chat_bytes([chat_chunk({"content": "x" * 400})], done=False)])
    assert facts.usage is None
    assert facts.output_tokens() == 100


@pytest.mark.parametrize(
    ("api", "body", "usage"),
    [
        (
            Api.CHAT,
            {"usage": {"prompt_tokens": 5, "completion_tokens": 2}},
            TokenUsage(input_tokens=5, output_tokens=2),
        ),
        (
            Api.MESSAGES,
            {
                "usage": {
                    "input_tokens": 5,
                    "cache_creation_input_tokens": 7,
                    "cache_read_input_tokens": 11,
                    "cache_creation": {"ephemeral_1h_input_tokens": 3},
                    "output_tokens": 2,
                    "output_tokens_details": {"thinking_tokens": 1},
                },
            },
            TokenUsage(
                input_tokens=23,
                output_tokens=2,
                cached_tokens=11,
                cache_write_tokens=7,
                cache_write_1h_tokens=3,
                reasoning_tokens=1,
            ),
        ),
        (
            Api.RESPONSES,
            {"usage": {"input_tokens": 5, "output_tokens": 2}},
            TokenUsage(input_tokens=5, output_tokens=2),
        ),
        (
            Api.EMBEDDINGS,
            {"data": [{}], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
            TokenUsage(input_tokens=5),
        ),
        (Api.CHAT, {"choices": []}, None),
        (Api.CHAT, {"usage": "much"}, None),
    ],
)
def test_an_answer_in_one_piece_tells_its_usage(api, body, usage):
    assert answer_usage(api, body) == usage


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_keeps_its_numbers_in_both_apis_words(fresh, cached, written, out, thought):
    usage = TokenUsage(
        input_tokens=fresh + cached + written,
        output_tokens=out,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=thought,
    )
    assert messages_usage(usage.to_messages()) == usage
    assert chat_usage(usage.to_chat()) == usage


def test_usage_that_is_garbage_counts_as_nothing():
    told = {"prompt_tokens": -4, "completion_tokens": "many", "prompt_tokens_details": []}
    assert chat_usage(told) == TokenUsage()


@given(st.lists(st.integers(0, 5000), max_size=10))
def test_the_usage_chunk_alone_is_taken_out(cuts):
    stream = chat_bytes(CHAT_TEXT)
    sieve = UsageChunkFilter()
    kept = b"".join([sieve.feed(part) for part in pieces(stream, cuts)]) + sieve.finish()
    assert kept == chat_bytes(CHAT_TEXT[:-1])


def test_a_usage_beside_content_stays():
    stream = chat_bytes([chat_chunk({"content": "x"}, usage={"prompt_tokens": 1})])
    assert UsageChunkFilter().feed(stream) == stream
