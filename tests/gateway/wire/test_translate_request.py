from __future__ import annotations

import contextlib
import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import UntranslatableError, WireError
from zerorouter.gateway.wire.translate_chat_request import (
    JSON_WISH,
    MALFORMED_ARGUMENTS,
    OPENING,
)
from zerorouter.gateway.wire.translate_request import (
    TOOL_ERROR_MARK,
    ChatDialect,
    MessagesDialect,
    chat_to_messages,
    messages_to_chat,
)

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
SCHEMA = {"type": "object", "properties": {"station": {"type": "string"}}}
USER = {"role": "user", "content": "hi"}


def to_chat(dialect=None, **fields):
    body = {"model": "virtual", "max_tokens": 50, "messages": [USER], **fields}
    before = copy.deepcopy(body)
    made = messages_to_chat(body, model="m", dialect=dialect)
    assert body == before
    return made


def to_messages(dialect=None, **fields):
    body = {"model": "virtual", "messages": [USER], **fields}
    before = copy.deepcopy(body)
    made = chat_to_messages(body, model="m", dialect=dialect)
    assert body == before
    return made


# -- Anthropic to OpenAI ---------------------------------------------------------------------------


def test_a_whole_anthropic_request_is_translated():
    made = to_chat(
        system=[{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
        temperature=0.5,
        top_p=0.9,
        stop_sequences=["###"],
        stream=True,
        metadata={"user_id": "u"},
        tools=[{"name": "level", "description": "Water level", "input_schema": SCHEMA}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": PNG},
                    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "I ask."},
                    {"type": "tool_use", "id": "toolu_1", "name": "level", "input": {"station": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "is_error": True,
                        "content": [
                            {"type": "text", "text": "dry"},
                            {"type": "image", "source": PNG},
                        ],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
    )
    assert made.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind.\n\nBe brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                    },
                    {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": "I ask.",
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "level", "arguments": '{"station":1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": TOOL_ERROR_MARK + "dry"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Attached to the result of tool call toolu_1:"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["###"],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "level",
                    "description": "Water level",
                    "parameters": SCHEMA,
                },
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "user": "u",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert made.notes == (
        "thinking was left out: only the model that thought can read it",
        "failed tool results say so in words",
        "images in tool results were moved into the user message after them",
    )


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_choices_of_tools_are_translated(choice, wanted):
    tools = [{"name": "f", "input_schema": SCHEMA}]
    assert to_chat(tools=tools, tool_choice=choice).body["tool_choice"] == wanted


def test_a_dialect_says_what_the_upstream_takes():
    dialect = ChatDialect(
        max_tokens_field="max_completion_tokens",
        reasoning_effort=True,
        reasoning_content=True,
        top_k=True,
        cache_control=True,
    )
    mark = {"type": "ephemeral"}
    made = to_chat(
        dialect,
        top_k=4,
        thinking={"type": "enabled", "budget_tokens": 8000},
        system=[{"type": "text", "text": "Long.", "cache_control": mark}],
        messages=[
            USER,
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]},
            USER,
        ],
    ).body
    assert made["max_completion_tokens"] == 50
    assert "max_tokens" not in made
    assert (made["reasoning_effort"], made["top_k"]) == ("medium", 4)
    assert made["messages"][0]["content"] == [
        {"type": "text", "text": "Long.", "cache_control": mark}
    ]
    assert made["messages"][2]["reasoning_content"] == "hm"


def test_what_is_lost_on_the_way_to_chat_is_noted():
    made = to_chat(
        top_k=3,
        made_up=1,
        thinking={"type": "enabled", "budget_tokens": 8000},
        metadata={"user_id": "u" * 100},
        system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
    )
    for word in ("top_k", "made_up", "effort", "hash", "cache_control"):
        assert any(word in note for note in made.notes), word
    assert len(made.body["user"]) == 64


def test_documents_are_translated_by_their_source():
    parts = to_chat(
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "document",
                        "title": "Report",
                        "source": {
                            "type": "base64",
                            "media_type": "application/pdf",
                            "data": "JVBERi0=",
                        },
                    },
                    {"type": "document", "source": {"type": "text", "data": "Plain."}},
                ],
            }
        ]
    ).body["messages"][0]["content"]
    file = {"filename": "Report", "file_data": "data:application/pdf;base64,JVBERi0="}
    assert parts == [{"type": "file", "file": file}, {"type": "text", "text": "Plain."}]


def test_a_json_schema_is_asked_for_in_both_apis_words():
    wanted = {"type": "json_schema", "schema": SCHEMA}
    there = to_chat(output_config={"format": wanted}).body
    assert there["response_format"]["json_schema"]["schema"] == SCHEMA
    back = chat_to_messages(there, model="m").body
    assert back["output_config"] == {"format": wanted}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0"),
        ({"tools": [{"name": "x" * 65, "input_schema": {}}]}, "tools.0.name"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"max_tokens": 0}, "max_tokens"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            "messages.0.content.0.source",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages.0.content.0",
        ),
    ],
)
def test_what_chat_cannot_say_is_an_error(fields, param):
    with pytest.raises(UntranslatableError) as caught:
        to_chat(**fields)
    assert caught.value.param == param


# -- OpenAI to Anthropic ---------------------------------------------------------------------------


def test_a_whole_chat_request_is_translated():
    made = to_messages(
        max_tokens=9,
        max_completion_tokens=70,
        temperature=1.6,
        stop="###",
        stream=True,
        stream_options={"include_usage": True},
        user="u",
        tools=[{"type": "function", "function": {"name": "level", "parameters": SCHEMA}}],
        tool_choice="required",
        parallel_tool_calls=False,
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "What is this?"},
            {
                "role": "user",
                "content": [
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
                    },
                    {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
                    {"type": "text", "text": ""},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call:1",
                        "type": "function",
                        "function": {"name": "level", "arguments": '{"n":12345678901234567890123}'},
                    },
                    {"id": "call_2", "function": {"name": "level", "arguments": "[oops"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call:1", "content": "dry"},
            {"role": "tool", "tool_call_id": "call_2", "content": ""},
            {"role": "user", "content": "And now?"},
        ],
    )
    odd_id = made.body["messages"][1]["content"][0]["id"]
    assert odd_id.startswith("call_")
    assert made.body == {
        "model": "m",
        "max_tokens": 70,
        "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": PNG},
                    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "tool_use",
                        "id": odd_id,
                        "name": "level",
                        "input": {"n": 12345678901234567890123},
                    },
                    {
                        "type": "tool_use",
                        "id": "call_2",
                        "name": "level",
                        "input": {MALFORMED_ARGUMENTS: "[oops"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": odd_id, "content": "dry"},
                    {"type": "tool_result", "tool_use_id": "call_2"},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        "temperature": 1.0,
        "stop_sequences": ["###"],
        "tools": [{"name": "level", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "metadata": {"user_id": "u"},
        "stream": True,
    }
    assert made.notes == (
        "arguments that are no JSON object were given as a text",
        "temperature was lowered to 1, Anthropic's largest",
    )


def test_a_limit_is_set_where_the_client_sets_none():
    assert to_messages(MessagesDialect(default_max_tokens=77)).body["max_tokens"] == 77


def test_a_conversation_that_begins_with_the_assistant_gets_an_opening():
    made = to_messages(messages=[{"role": "assistant", "content": "Welcome."}, USER])
    assert made.body["messages"][0] == {"role": "user", "content": OPENING}
    assert made.notes


def test_a_beginning_of_an_answer_ends_without_blanks():
    made = to_messages(messages=[USER, {"role": "assistant", "content": "It is "}])
    assert made.body["messages"][-1]["content"] == "It is"


def test_json_is_asked_for_in_words_where_there_is_no_other_way():
    made = to_messages(response_format={"type": "json_object"})
    assert made.body["system"] == JSON_WISH
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    made = to_messages(MessagesDialect(structured_outputs=False), response_format=wanted)
    assert json.dumps(SCHEMA, separators=(",", ":")) in made.body["system"]
    assert made.notes == ("response_format json_schema is asked for in words",)


def test_only_allowed_tools_are_declared():
    tools = [{"type": "function", "function": {"name": n}} for n in ("f", "g")]
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "g"}}],
        },
    }
    made = to_messages(tools=tools, tool_choice=choice).body
    assert [tool["name"] for tool in made["tools"]] == ["g"]
    assert made["tool_choice"] == {"type": "any"}


def test_what_is_lost_on_the_way_to_messages_is_noted():
    made = to_messages(seed=4, logit_bias={}, made_up=1, reasoning_effort="high", n=1)
    for word in ("seed", "logit_bias", "made_up", "reasoning_effort"):
        assert any(word in note for note in made.notes), word


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages.0.content.0",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": 1}}]}]},
            "messages.0.content.0.file",
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0"),
    ],
)
def test_what_messages_cannot_say_is_an_error(fields, param):
    with pytest.raises(UntranslatableError) as caught:
        to_messages(**fields)
    assert caught.value.param == param


# -- laws ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10).filter(str.strip)
TEXT_BLOCK = TEXT.map(lambda t: {"type": "text", "text": t})
IMAGE = st.sampled_from([PNG, {"type": "url", "url": "https://x.example/i.png"}]).map(
    lambda source: {"type": "image", "source": source}
)
INPUT = st.dictionaries(TEXT, TEXT | st.integers(-(2**40), 2**40) | st.booleans(), max_size=3)
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
DOCUMENT = TEXT.map(lambda t: {"type": "document", "source": PDF, "title": t})


@st.composite
def conversations(draw):
    """Anthropic conversations in the plain form that Anthropic itself would give them."""
    messages, n_calls = [], 0
    for _ in range(draw(st.integers(1, 3))):
        words = draw(st.lists(TEXT_BLOCK | IMAGE | DOCUMENT, min_size=1, max_size=3))
        if messages and messages[-1]["role"] == "user":
            messages[-1]["content"] += words
        else:
            messages.append({"role": "user", "content": words})
        said = draw(st.lists(TEXT_BLOCK, max_size=2))
        calls = [
            {"type": "tool_use", "id": f"toolu_{n_calls + k}", "name": f"f{k}", "input": given}
            for k, given in enumerate(draw(st.lists(INPUT, max_size=2)))
        ]
        n_calls += len(calls)
        if said or calls:
            messages.append({"role": "assistant", "content": said + calls})
        if calls:
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": draw(TEXT)}
                for call in calls
            ]
            messages.append({"role": "user", "content": results})
    if messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": [draw(TEXT_BLOCK)]})
    return messages


def blocks(content):
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@given(
    conversations(),
    st.fixed_dictionaries(
        {"max_tokens": st.integers(1, 9999)},
        optional={
            "system": TEXT,
            "temperature": st.floats(0, 1),
            "top_p": st.floats(0, 1),
            "stop_sequences": st.lists(TEXT, min_size=1, max_size=3),
            "stream": st.just(True),
            "metadata": TEXT.map(lambda t: {"user_id": t}),
            "tool_choice": st.sampled_from(
                [
                    {"type": "auto"},
                    {"type": "any"},
                    {"type": "tool", "name": "f0"},
                    {"type": "none"},
                ]
            ),
        },
    ),
)
def test_an_anthropic_request_there_and_back_means_the_same(messages, fields):
    tools = [{"name": "f0", "description": "d", "input_schema": SCHEMA, "strict": True}]
    body = {"model": "m", "messages": messages, "tools": tools, **fields}
    there = messages_to_chat(body, model="c")
    assert there.notes == ()
    back = chat_to_messages(there.body, model="m")
    assert back.notes == ()
    made = back.body
    for message in [*made["messages"], *body["messages"]]:
        message["content"] = blocks(message["content"])
    assert made == body


JSON_VALUES = st.recursive(
    st.sampled_from([None, True, 3, 0.5, "user", "text", "x", "tool_use", "auto"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("role", "content", "type", "text", "tools", "tool_choice", "source", "input"),
                    *(
                        "id",
                        "name",
                        "tool_calls",
                        "function",
                        "messages",
                        "system",
                        "thinking",
                        "stop",
                    ),
                    *("output_config", "response_format", "metadata", "image_url", "modalities"),
                    *("reasoning_effort", "tool_use_id", "citations"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "system",
                "tools",
                "thinking",
                "modalities",
                "stop",
                "tool_choice",
                "metadata",
                "reasoning_effort",
                "response_format",
                "output_config",
            ]
        ),
        JSON_VALUES,
        max_size=3,
    ),
    st.lists(JSON_VALUES, max_size=2),
    st.sampled_from(["user", "assistant", "tool", None]),
)
def test_garbage_is_a_wire_error_and_nothing_else(fields, contents, role):
    messages = [{"role": role, "content": content} for content in contents]
    body = {"model": "m", "messages": messages, **fields}
    for translate in (messages_to_chat, chat_to_messages):
        with contextlib.suppress(WireError):
            assert translate(body, model="x").body["model"] == "x"
