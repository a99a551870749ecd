from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import WireError
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.members import members
from zerorouter.gateway.wire.peek import peek, rewritten, with_model
from zerorouter.gateway.wire.wishes import RequestWishes, read_wishes, wishes_from_headers
from zerorouter.predict.prompt import read_prompt

CHAT = (
    b'{ "model" : "zerorouter/auto",\n "messages":[{"role":"system","content":"Be brief."},'
    b'{"role":"user","content":"How deep is the lake? \\"model\\": x"}], "temperature":0.10,'
    b'"seed":123456789012345678901234567890,"made_up":{"model":"inner","deep":[[{"a":[1]}]]},'
    b'"stream":true,"zerorouter":{"policy":"cost","min_accuracy":0.8,"deny":["b-*"]},'
    b'"user":"u7"}'
)


def body(**fields: object) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    ).encode()


# -- reading -------------------------------------------------------------------------------------


def test_a_chat_request_is_read_in_one_look():
    request = peek(CHAT, Api.CHAT)
    assert (request.model, request.stream, request.include_usage) == (
        "zerorouter/auto",
        True,
        False,
    )
    assert request.user == "u7"
    assert request.wishes == RequestWishes(policy="cost", min_accuracy=0.8, deny=("b-*",))
    assert read_prompt(request.messages).text.startswith("How deep is the lake?")


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_tokens": 1e3}, 1000),
        ({}, None),
    ],
)
def test_the_output_limit_is_found_under_both_names(fields, limit):
    assert peek(body(**fields), Api.CHAT).max_tokens == limit


def test_an_anthropic_request_is_read_with_its_system_prompt_first():
    request = peek(
        body(
            max_tokens=9,
            system=[{"type": "text", "text": "Be kind."}],
            metadata={"user_id": "user_ab_account_cd_session_0f9e8d7c-1111"},
            output_config={"format": {"type": "json_schema", "schema": {}}},
        ),
        Api.MESSAGES,
    )
    assert [m["role"] for m in request.messages] == ["system", "user"]
    assert request.session_id == "0f9e8d7c-1111"
    prompt = read_prompt(request.messages, response_format=request.response_format)
    assert prompt.system_chars == len("Be kind.")
    assert "json" in prompt.requirements


def test_a_session_id_in_json_is_found_too():
    user = json.dumps({"device_id": "d", "session_id": "s-1"})
    assert peek(body(max_tokens=1, metadata={"user_id": user}), Api.MESSAGES).session_id == "s-1"


def test_anthropic_wants_max_tokens_unless_tokens_are_only_counted():
    with pytest.raises(WireError, match="max_tokens: found nothing"):
        peek(body(), Api.MESSAGES)
    assert peek(body(), Api.MESSAGES, counting=True).max_tokens is None


def test_a_responses_request_becomes_a_conversation():
    raw = json.dumps(
        {
            "model": "m",
            "instructions": "Be exact.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "What is due?"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "12"},
            ],
            "text": {"format": {"type": "json_object"}},
            "max_output_tokens": 4,
        }
    ).encode()
    request = peek(raw, Api.RESPONSES)
    prompt = read_prompt(
        request.messages, tools=request.tools, response_format=request.response_format
    )
    assert prompt.text == "What is due?"
    assert set(prompt.requirements) == {"json", "tools"}
    assert request.max_tokens == 4


def test_embeddings_need_an_input_and_have_no_conversation():
    assert peek(b'{"model":"e","input":["a","b"]}', Api.EMBEDDINGS).messages == ()
    with pytest.raises(WireError, match="input"):
        peek(b'{"model":"e"}', Api.EMBEDDINGS)


def test_media_are_found_also_in_results_of_tools():
    content = [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]},
        {"type": "document"},
        {"type": ["garbage"]},
    ]
    raw = body(messages=[{"role": "user", "content": content}], max_tokens=1)
    assert peek(raw, Api.MESSAGES).media == {"image", "document"}


@pytest.mark.parametrize(
    ("raw", "param", "words"),
    [
        (b"", None, "the body is empty"),
        (b"{", None, "no JSON"),
        (b"[]", None, "wanted a JSON object"),
        (b'{"model":NaN}', None, "no JSON"),
        (b'{"model":"\xff"}', None, "no JSON"),
        (b"[" * 100_000, None, "no JSON"),
        (b'{"messages":[]}', "model", "found nothing"),
        (b'{"model":3}', "model", "found 3"),
        (b'{"model":"m"}', "messages", "found nothing"),
        (b'{"model":"m","messages":[]}', "messages", r"found \[\]"),
        (b'{"model":"m","messages":[1]}', "messages.0", "found 1"),
        (b'{"model":"m","messages":[{"content":"x"}]}', "messages.0.role", "found nothing"),
        (body(stream="yes"), "stream", "true or false"),
        (body(stream_options=[]), "stream_options", "an object"),
        (body(stream_options={"include_usage": 1}), "stream_options.include_usage", "found 1"),
        (body(tools={}), "tools", "a list"),
        (body(max_tokens="9"), "max_tokens", "whole number"),
        (body(max_tokens=0), "max_tokens", "at least 1"),
        (body(n=True), "n", "whole number"),
        (body(user=4), "user", "a text"),
        (body(zerorouter={"max_cost": 1}), "zerorouter.max_cost", "did you mean 'max_cost_usd'"),
        (body(zerorouter={"min_accuracy": 2}), "zerorouter.min_accuracy", "from 0 to 1"),
        (body(zerorouter={"max_latency_s": True}), "zerorouter.max_latency_s", "found True"),
        (body(zerorouter={"allow": [1]}), "zerorouter.allow", "names or patterns"),
        (body(zerorouter="cost"), "zerorouter", "wanted an object"),
    ],
)
def test_what_is_wrong_is_named(raw, param, words):
    with pytest.raises(WireError, match=words) as caught:
        peek(raw, Api.CHAT)
    assert caught.value.param == param


def test_half_surrogate_pairs_are_no_reason_to_refuse():
    raw = b'{"model":"m","messages":[{"role":"user","content":"odd \\ud83d here"}]}'
    assert read_prompt(peek(raw, Api.CHAT).messages).text == "odd � here"
    assert b"\\ud83d" in with_model(peek(raw, Api.CHAT), "x")


# -- rewriting -----------------------------------------------------------------------------------


def test_only_the_model_changes():
    made = with_model(peek(CHAT, Api.CHAT), "acme/large")
    assert made == (
        b'{"model" : "acme/large","messages":[{"role":"system","content":"Be brief."},'
        b'{"role":"user","content":"How deep is the lake? \\"model\\": x"}],"temperature":0.10,'
        b'"seed":123456789012345678901234567890,"made_up":{"model":"inner","deep":[[{"a":[1]}]]},'
        b'"stream":true,"user":"u7"}'
    )


def test_an_ordinary_body_keeps_every_byte():
    raw = b' {"stream" :true, "model":\t"a" ,"messages":[ {"role":"user","content":"\xc3\xa9"} ]} '
    request = peek(raw, Api.CHAT)
    assert with_model(request, "b") == raw.replace(b'"a"', b'"b"')
    asked = json.loads(with_model(request, "b", include_usage=True))
    assert asked["stream_options"] == {"include_usage": True}


def test_usage_is_asked_for_once_and_beside_other_options():
    request = peek(body(stream=True, stream_options={"include_obfuscation": False}), Api.CHAT)
    options = json.loads(with_model(request, "b", include_usage=True))["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}
    plain = peek(body(), Api.CHAT)
    assert "stream_options" not in json.loads(with_model(plain, "b", include_usage=True))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}]}',
        b'{"\\u006dodel":"a","messages":[{"role":"user","content":"x"}],"x":{"model":"b"}}',
        b'{"x\\"model":1,"\\u006dodel":"a","messages":[{"role":"user","content":"x"}]}',
        b'{"x":"model","\\u006dodel":"a","messages":[{"role":"user","content":"x"}]}',
        b'{"m\\u006fdel":"a","messages":[{"role":"user","content":"x"}],"y":["model"]}',
    ],
)
def test_no_spelling_smuggles_another_model_past(raw):
    made = with_model(peek(raw, Api.CHAT), "safe")
    pairs = json.loads(made, object_pairs_hook=list)
    assert [value for name, value in pairs if name == "model"] == ["safe"]


def test_of_a_repeated_name_the_upstream_gets_what_was_checked():
    raw = b'{"model":"a","max_tokens":5,"messages":[{"role":"user","content":"x"}],"max_tokens":9}'
    request = peek(raw, Api.CHAT)
    pairs = json.loads(with_model(request, "b"), object_pairs_hook=list)
    assert [v for k, v in pairs if k == "max_tokens"] == [request.max_tokens] == [9]


def test_values_nested_deeper_than_the_pattern_are_walked():
    deep = b"[" * 300 + b'"]}\\""' + b"]" * 300
    raw = b'{"a":' + deep + b',"model":"m","z":1}'
    assert [raw[m.value : m.end] for m in members(raw)] == [deep, b'"m"', b"1"]


TEXTS = st.text('ab"\\{}[]:, \n\x1bé中', max_size=8)
SCALARS = st.sampled_from([None, True, 0, -1.5, 10**20, "model", '"model":"x"']) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = TEXTS | st.sampled_from(["model", "zerorouter", "stream"])
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_rewriting_means_the_same_as_parsing_changing_and_writing(value, escapes, indent):
    raw = json.dumps(value, ensure_ascii=escapes, indent=indent)
    raw_bytes = raw.encode("utf-8", "surrogatepass")
    made = json.loads(rewritten(raw_bytes, {"model": "x"}, ("zerorouter",)).decode())
    wanted = {**value, "model": "x"}
    wanted.pop("zerorouter", None)
    assert made == wanted
    assert list(made) == list(wanted)


@given(OBJECTS, st.booleans())
def test_the_quick_way_and_the_long_way_agree(value, escapes):
    value = {**value, "messages": [{"role": "user", "content": "x"}], "model": "m"}
    value.pop("zerorouter", None)
    try:
        request = peek(json.dumps(value, ensure_ascii=escapes).encode(), Api.CHAT)
    except WireError:
        return
    made = with_model(request, "n")
    assert json.loads(made) == json.loads(rewritten(request.raw, {"model": "n"}))


# -- wishes --------------------------------------------------------------------------------------


def test_wishes_come_from_headers_as_well_and_the_body_wins():
    headers = {
        "x-zerorouter-policy": "cost",
        "x-zerorouter-max-cost-usd": "0",
        "x-zerorouter-deny": "a-*, b",
        "x-zerorouter-unheard-of": "1",
    }
    told = wishes_from_headers(headers)
    assert told == RequestWishes(policy="cost", max_cost_usd=0.0, deny=("a-*", "b"))
    both = read_wishes({"policy": "quality", "deny": ["c"]}).over(told)
    assert both == RequestWishes(policy="quality", max_cost_usd=0.0, deny=("a-*", "b", "c"))


def test_a_wrong_header_is_named():
    with pytest.raises(WireError, match="x-zerorouter-min-accuracy: found 'much'"):
        wishes_from_headers({"x-zerorouter-min-accuracy": "much"})
