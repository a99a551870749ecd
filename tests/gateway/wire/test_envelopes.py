from __future__ import annotations

import json

import pytest
from anthropic.types.shared import ErrorResponse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.wire.streams import parse
from zerorouter.errors import (
    InputError,
    MissingPriceError,
    NoEligibleModelError,
    UnknownNameError,
    WireError,
)
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.envelopes import (
    Failure,
    error_body,
    error_event,
    error_object,
    failure_in,
    failure_of,
    read_error,
)


@pytest.mark.parametrize(
    ("status", "openai", "code", "anthropic"),
    [
        (400, "invalid_request_error", None, "invalid_request_error"),
        (401, "authentication_error", "invalid_api_key", "authentication_error"),
        (404, "invalid_request_error", "not_found", "not_found_error"),
        (413, "invalid_request_error", "request_too_large", "request_too_large"),
        (418, "invalid_request_error", None, "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"),
        (504, "timeout_error", "timeout", "timeout_error"),
        (529, "server_error", "overloaded", "overloaded_error"),
        (599, "server_error", "server_error", "api_error"),
    ],
)
def test_each_api_says_a_status_in_its_own_words(status, openai, code, anthropic):
    failure = Failure(status=status, message="no", request_id="r1")
    told = error_object(Api.CHAT, failure)["error"]
    assert (told["type"], told["code"], told["message"]) == (openai, code, "no")
    told = json.loads(error_body(Api.MESSAGES, failure))
    assert told == {
        "type": "error",
        "error": {"type": anthropic, "message": "no"},
        "request_id": "r1",
    }


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 504, 529])
def test_the_official_anthropic_package_takes_the_envelope(status):
    told = error_object(Api.MESSAGES, Failure(status=status, message="no"))
    assert TypeAdapter(ErrorResponse).validate_python(told).error.message == "no"


def test_errors_inside_streams_are_events_of_their_api():
    failure = Failure(status=502, message="gone", param="p")
    ((name, told),) = parse(error_event(Api.MESSAGES, failure))
    assert (name, told["error"]["type"]) == ("error", "api_error")
    ((name, told),) = parse(error_event(Api.CHAT, failure))
    assert (name, told["error"]["message"]) == (None, "gone")
    ((name, told),) = parse(error_event(Api.RESPONSES, failure, sequence_number=4))
    assert (name, told["type"], told["sequence_number"]) == ("error", "error", 4)


@pytest.mark.parametrize(
    ("status", "body", "message", "code", "reason"),
    [
        (
            400,
            b'{"error":{"message":"Too long","code":"context_length_exceeded","param":"messages"}}',
            "Too long",
            "context_length_exceeded",
            "context_length",
        ),
        (
            400,
            b'{"type":"error","error":{"type":"invalid_request_error",'
            b'"message":"prompt is too long: 210000 tokens > 200000 maximum"}}',
            "prompt is too long: 210000 tokens > 200000 maximum",
            None,
            "context_length",
        ),
        (
            429,
            b'{"error":{"message":"You ran out","code":"insufficient_quota"}}',
            "You ran out",
            "insufficient_quota",
            "quota",
        ),
        (
            404,
            b'{"error":{"message":"The model x does not exist","code":"model_not_found"}}',
            "The model x does not exist",
            "model_not_found",
            "model_not_found",
        ),
        (422, b'{"detail":"nope"}', "nope", None, None),
        (422, b'{"detail":[{"loc":["a"]}]}', '[{"loc":["a"]}]', None, None),
        (500, b'{"error":"boom"}', "boom", None, None),
        (500, b'{"message":"boom"}', "boom", None, None),
        (400, b'[{"error":{"code":400,"message":"bad","status":"INVALID"}}]', "bad", None, None),
        (502, b"<html>", "the upstream answered 502 with a page in HTML", None, None),
        (503, b"  ", "the upstream answered 503 without a word", None, None),
        (503, b"try\n later", "try later", None, None),
        (500, b"null", "the upstream answered 500", None, None),
    ],
)
def test_upstreams_errors_are_read_in_any_envelope(status, body, message, code, reason):
    failure = read_error(status, body)
    assert (failure.status, failure.message) == (status, message)
    assert (failure.code, failure.reason) == (code, reason)


def test_an_error_inside_a_stream_tells_its_status_in_words():
    assert failure_in({"type": "error", "error": {"type": "overloaded_error"}}).status == 529
    assert failure_in({"error": {"code": "rate_limit_exceeded", "message": "x"}}).status == 429
    assert failure_in({"error": {"code": 503, "message": "x"}}).status == 503
    assert failure_in({"error": {"message": "x"}}).status == 502


def test_keys_are_not_repeated_and_messages_are_bounded():
    body = json.dumps({"error": {"message": "bad key sk-proj-AbCdEf0123456789 given" * 400}})
    failure = read_error(401, body.encode())
    assert "AbCdEf" not in failure.message
    assert "[key]" in failure.message
    assert len(failure.message) <= 2_000


@given(st.binary(max_size=200), st.sampled_from([400, 429, 500]))
def test_reading_an_error_never_fails(body, status):
    failure = read_error(status, body)
    assert failure.status == status
    assert failure.message
    error_body(Api.CHAT, failure)


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (WireError("x", param="model", code="c"), 400, "c", "model"),
        (UnknownNameError("model", "gtp", ["gpt"]), 404, "model_not_found", "model"),
        (UnknownNameError("policy", "chep", ["cheap"]), 400, "unknown_policy", "policy"),
        (NoEligibleModelError("none"), 400, "no_eligible_model", None),
        (MissingPriceError("none"), 400, "missing_price", None),
        (InputError("bad"), 400, None, None),
    ],
)
def test_our_own_errors_have_a_status(error, status, code, param):
    failure = failure_of(error)
    assert (failure.status, failure.code, failure.param) == (status, code, param)
    assert failure.message == str(error)


def test_foreign_errors_say_nothing_of_themselves():
    failure = failure_of(RuntimeError("password=secret"), request_id="r")
    assert failure.status == 500
    assert "secret" not in failure.message
