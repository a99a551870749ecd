from __future__ import annotations

import json

import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from gateway.wire.streams import (
    CHAT_ERROR,
    CHAT_TEXT,
    CHAT_TOOLS,
    MESSAGE_ERROR,
    MESSAGE_TEXT,
    MESSAGE_TOOLS,
    chat_bytes,
    chat_chunk,
    golden,
    message_bytes,
    parse,
    pieces,
)
from zerorouter.gateway.wire import translate_stream
from zerorouter.gateway.wire.envelopes import Failure
from zerorouter.gateway.wire.scanning import ChatScanner, MessagesScanner
from zerorouter.gateway.wire.translate_stream import ChatToMessagesStream, MessagesToChatStream

ANTHROPIC_EVENT = TypeAdapter(RawMessageStreamEvent)
OPENAI_CHUNK = TypeAdapter(ChatCompletionChunk)

CASES = {
    "chat_text_as_messages.txt": (ChatToMessagesStream, {}, chat_bytes(CHAT_TEXT)),
    "chat_tools_as_messages.txt": (
        ChatToMessagesStream,
        {"thinking": True},
        chat_bytes(CHAT_TOOLS),
    ),
    "messages_tools_as_chat.txt": (
        MessagesToChatStream,
        {"created": 1790000000, "include_usage": True},
        message_bytes(MESSAGE_TOOLS),
    ),
    "messages_text_as_chat.txt": (
        MessagesToChatStream,
        {"created": 1790000000},
        message_bytes(MESSAGE_TEXT),
    ),
    "chat_error_as_messages.txt": (
        ChatToMessagesStream,
        {},
        chat_bytes(CHAT_ERROR, done=False),
    ),
    "messages_error_as_chat.txt": (
        MessagesToChatStream,
        {"created": 1790000000},
        message_bytes(MESSAGE_ERROR),
    ),
}


def run(translator, parts):
    return b"".join([translator.feed(part) for part in parts]) + translator.finish()


def to_messages(chunks, *, done=True, **kwargs):
    return parse(run(ChatToMessagesStream(**kwargs), [chat_bytes(chunks, done=done)]))


def to_chat(events, **kwargs):
    return parse(run(MessagesToChatStream(created=5, **kwargs), [message_bytes(events)]))


def call(index, arguments, call_id=None, name=None):
    piece = {"index": index, "function": {"arguments": arguments}}
    if call_id:
        piece |= {"id": call_id, "type": "function"}
    if name:
        piece["function"]["name"] = name
    return chat_chunk({"tool_calls": [piece]})


def blocks_of(events):
    """Content blocks, put together as the official client does; checks their order."""
    blocks, open_block = [], None
    for name, told in events:
        if name == "content_block_start":
            assert open_block is None
            assert told["index"] == len(blocks)
            open_block = told["index"]
            blocks.append({**told["content_block"], "_json": ""})
        elif name == "content_block_delta":
            assert told["index"] == open_block
            delta = told["delta"]
            if delta["type"] == "input_json_delta":
                blocks[-1]["_json"] += delta["partial_json"]
            else:
                blocks[-1][delta["type"].removesuffix("_delta")] += delta[
                    delta["type"].removesuffix("_delta")
                ]
        elif name == "content_block_stop":
            assert told["index"] == open_block
            open_block = None
    assert open_block is None
    return blocks


# -- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_bytes_are_those_on_file(name):
    make, kwargs, stream = CASES[name]
    assert run(make(**kwargs), [stream]) == golden(name)


@given(st.sampled_from(sorted(CASES)), st.lists(st.integers(0, 5000), max_size=12))
def test_cutting_the_upstreams_bytes_changes_nothing(name, cuts):
    make, kwargs, stream = CASES[name]
    assert run(make(**kwargs), pieces(stream, cuts)) == golden(name)


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("as_messages.txt")])
def test_the_official_anthropic_package_takes_every_event(name):
    for event, told in parse(golden(name)):
        if event not in ("ping", "error"):  # the client raises these itself
            assert ANTHROPIC_EVENT.validate_python(told).type == event


@pytest.mark.parametrize("name", ["messages_tools_as_chat.txt", "messages_text_as_chat.txt"])
def test_the_official_openai_package_takes_every_chunk(name):
    told = [data for _, data in parse(golden(name))]
    assert told.pop() == "[DONE]"
    for data in told:
        OPENAI_CHUNK.validate_python(data)


@pytest.mark.parametrize("name", CASES)
def test_facts_are_those_that_a_scanner_has(name):
    make, kwargs, stream = CASES[name]
    translator = make(**kwargs)
    run(translator, [stream])
    scanner = MessagesScanner() if make is MessagesToChatStream else ChatScanner()
    scanner.feed(stream)
    assert translator.facts == scanner.facts


TEXTS = st.text(min_size=1, max_size=12)
ARGUMENTS = st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=2)
STEPS = st.lists(st.one_of(TEXTS.map(lambda t: ("text", t)), ARGUMENTS.map(lambda a: ("call", a))))


@given(STEPS, st.integers(1, 5))
def test_a_stream_there_and_back_says_the_same(steps, width):
    """Text and calls in any order, arguments in pieces: chat to messages to chat."""
    chunks, n_calls = [chat_chunk({"role": "assistant", "content": ""})], 0
    for kind, value in steps:
        if kind == "text":
            chunks.append(chat_chunk({"content": value}))
            continue
        written = json.dumps(value)
        chunks.append(call(n_calls, "", f"call_{n_calls}", f"f{n_calls}"))
        chunks += [call(n_calls, written[i : i + width]) for i in range(0, len(written), width)]
        n_calls += 1
    chunks.append(chat_chunk({}, "tool_calls" if n_calls else "stop"))
    there = run(ChatToMessagesStream(), [chat_bytes(chunks)])
    blocks_of(parse(there))
    back = [d for _, d in parse(run(MessagesToChatStream(created=1), [there])) if d != "[DONE]"]
    text, arguments = "", {}
    for told in back:
        delta = told["choices"][0]["delta"]
        text += delta.get("content") or ""
        for piece in delta.get("tool_calls") or ():
            arguments[piece["index"]] = (
                arguments.get(piece["index"], "") + piece["function"]["arguments"]
            )
    assert text == "".join([value for kind, value in steps if kind == "text"])
    assert [json.loads(a) for a in arguments.values()] == [v for k, v in steps if k == "call"]
    assert back[-1]["choices"][0]["finish_reason"] == ("tool_calls" if n_calls else "stop")


# -- OpenAI to Anthropic ---------------------------------------------------------------------------


def test_calls_that_mix_are_put_in_order():
    events = to_messages(
        [
            call(0, "", "c0", "f"),
            call(1, "", "c1", "g"),
            call(0, '{"a"'),
            call(1, '{"b"'),
            chat_chunk({"content": "Meanwhile."}),
            call(0, ": 1}"),
            call(1, ": 2}"),
            chat_chunk({}, "tool_calls"),
        ]
    )
    found = [(b["type"], b.get("name"), b["_json"] or b.get("text")) for b in blocks_of(events)]
    assert found == [
        ("tool_use", "f", '{"a": 1}'),
        ("tool_use", "g", '{"b": 2}'),
        ("text", None, "Meanwhile."),
    ]


def test_calls_told_apart_by_id_alone_are_two():
    events = to_messages([call(0, "{}", "x", "f"), call(0, "{}", "y", "g"), chat_chunk({}, "stop")])
    assert [b["id"] for b in blocks_of(events)] == ["x", "y"]
    assert dict(events)["message_delta"]["delta"]["stop_reason"] == "tool_use"


def test_a_call_without_id_or_arguments_is_a_call():
    events = to_messages([call(0, "", None, "f"), chat_chunk({}, "tool_calls")])
    (block,) = blocks_of(events)
    assert (block["name"], block["id"], block["_json"]) == ("f", "chatcmpl-lake7-0", "")


def test_a_call_that_goes_on_after_its_end_is_an_error():
    events = to_messages([call(0, "{}", "x", "f"), call(1, "{}", "y", "g"), call(0, ', "z": 1}')])
    assert events[-1][0] == "error"
    assert "already whole" in events[-1][1]["error"]["message"]


def test_reasoning_is_left_out_unless_it_is_wanted():
    translator = ChatToMessagesStream()
    events = parse(run(translator, [chat_bytes(CHAT_TOOLS)]))
    assert [b["type"] for b in blocks_of(events)] == ["text", "tool_use", "tool_use"]
    assert translator.notes == ("the reasoning text was left out",)


def test_a_stop_sequence_is_named_where_the_server_tells():
    end = chat_chunk({}, "stop")
    end["choices"][0]["stop_reason"] = "###"
    events = to_messages([chat_chunk({"content": "x"}), end], stop_sequences=["###"])
    delta = dict(events)["message_delta"]["delta"]
    assert delta == {"stop_reason": "stop_sequence", "stop_sequence": "###"}


def test_usage_that_is_not_told_is_estimated_with_a_note():
    translator = ChatToMessagesStream(input_tokens=33)
    stream = chat_bytes([chat_chunk({"content": "x" * 40}), chat_chunk({}, "stop")])
    events = dict(parse(run(translator, [stream])))
    assert events["message_start"]["message"]["usage"]["input_tokens"] == 33
    assert events["message_delta"]["usage"]["input_tokens"] == 33
    assert events["message_delta"]["usage"]["output_tokens"] == 10
    assert translator.notes == ("the upstream told no usage: it is estimated",)


def test_an_end_without_the_end_mark_is_an_end():
    events = to_messages([chat_chunk({"content": "x"}), chat_chunk({}, "stop")], done=False)
    assert events[-1][0] == "message_stop"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (chat_bytes([chat_chunk({"content": "x"})], done=False), "broke off"),
        (b"", "broke off"),
        (b"data: [DONE]\n\n", "was empty"),
        (b"data: {oops\n\n", "no JSON"),
        (b"data: " + b"[1]" + b"\n\n", "no JSON"),
        (chat_bytes([{"error": {"message": "Overheated.", "code": 529}}]), "Overheated."),
    ],
)
def test_a_stream_that_fails_ends_in_an_error_event(stream, words):
    translator = ChatToMessagesStream()
    name, told = parse(run(translator, [stream]))[-1]
    assert name == told["type"] == "error"
    assert words in told["error"]["message"]
    assert translator.is_over
    assert translator.feed(chat_bytes(CHAT_TEXT)) == b""
    assert translator.finish() == b""


def test_the_gateway_can_end_a_stream_itself():
    translator = ChatToMessagesStream()
    translator.feed(chat_bytes(CHAT_TEXT[:2], done=False))
    ((name, told),) = parse(translator.fail(Failure(status=504, message="out of time")))
    assert (name, told["error"]["type"]) == ("error", "timeout_error")


def test_endless_arguments_are_an_error(monkeypatch):
    monkeypatch.setattr(translate_stream, "MOST_HELD_CHARS", 100)
    events = to_messages([call(0, "x" * 60, "c", "f"), call(0, "x" * 60)])
    assert events[-1][0] == "error"


# -- Anthropic to OpenAI ---------------------------------------------------------------------------


def test_no_usage_is_told_that_was_not_asked_for():
    told = [d for _, d in to_chat(MESSAGE_TOOLS) if d != "[DONE]"]
    assert not any("usage" in data for data in told)
    assert all(data["choices"] for data in told)


def test_an_input_sent_whole_is_sent_as_arguments():
    start = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    }
    events = [
        MESSAGE_TOOLS[0],
        start,
        {"type": "content_block_stop", "index": 0},
        *MESSAGE_TOOLS[-2:],
    ]
    told = [d for _, d in to_chat(events) if d != "[DONE]"]
    sent = "".join(
        [
            piece["function"]["arguments"]
            for data in told
            for piece in data["choices"][0]["delta"].get("tool_calls", [])
        ]
    )
    assert json.loads(sent) == {"a": 1}


def test_blocks_that_chat_does_not_know_are_left_out_with_a_note():
    translator = MessagesToChatStream(created=1)
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    run(translator, [message_bytes([MESSAGE_TOOLS[0], start, *MESSAGE_TOOLS[-2:]])])
    assert any("server_tool_use" in note for note in translator.notes)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (MESSAGE_TOOLS[:5], "broke off"),
        ([], "broke off"),
        (
            [*MESSAGE_TOOLS[:2], {"type": "error", "error": {"type": "overloaded_error"}}],
            "overloaded_error",
        ),
    ],
)
def test_an_anthropic_stream_that_fails_ends_in_an_error_chunk(events, words):
    last = to_chat(events)[-1][1]
    assert words in last["error"]["message"]
    assert last["error"]["code"] is not None


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2.5, "text", "tool_use", "x", "text_delta"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "index",
                        "delta",
                        "content_block",
                        "message",
                        "usage",
                        "choices",
                        "tool_calls",
                    ),
                    *(
                        "function",
                        "arguments",
                        "name",
                        "id",
                        "content",
                        "text",
                        "type",
                        "partial_json",
                    ),
                    *("stop_reason", "finish_reason", "input"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = sorted({event["type"] for event in MESSAGE_TOOLS})


@given(st.lists(VALUES, max_size=3), st.sampled_from(KINDS))
def test_events_of_any_shape_end_in_a_whole_stream_or_an_error(values, kind):
    told = [{**v, "type": kind} if isinstance(v, dict) else v for v in values]
    stream = b"".join([b"data: " + json.dumps(v).encode() + b"\n\n" for v in told])
    chat = parse(run(MessagesToChatStream(created=1), [stream]))
    assert chat[-1][1] == "[DONE]" or "error" in chat[-1][1]
    stream = b"".join([b"data: " + json.dumps(v).encode() + b"\n\n" for v in values])
    messages = parse(run(ChatToMessagesStream(), [stream]))
    assert messages[-1][0] in ("error", "message_stop")
