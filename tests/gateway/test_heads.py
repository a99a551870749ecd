"""Headers: the client's secret and what it wishes, and texts that a header can carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.gateway.heads import answer_headers, bearer_of, forwarded, header_text
from zerorouter.gateway.records import AttemptRecord, RequestRecord
from zerorouter.gateway.wire.apis import Api


@given(st.text(max_size=50))
def test_no_text_ends_a_header_or_leaves_ascii(text: str) -> None:
    made = header_text(text)
    assert len(made) == len(text)
    assert all(0x20 <= byte < 0x7F for byte in made)
    if text.isascii() and text.isprintable():
        assert made == text.encode()


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ({b"authorization": b"Bearer sk-1"}, "sk-1"),
        ({b"authorization": b"bearer  sk-1 "}, "sk-1"),
        ({b"authorization": b"Basic c2stMQ=="}, ""),
        ({b"x-api-key": b"sk-2", b"authorization": b"Bearer sk-1"}, "sk-2"),
        ({b"x-api-key": b"", b"authorization": b"Bearer sk-1"}, "sk-1"),
        ({}, ""),
    ],
)
def test_a_secret_is_taken_from_either_header(headers: dict[bytes, bytes], secret: str) -> None:
    assert bearer_of(headers) == secret


def test_an_upstream_hears_of_betas_and_of_nothing_else() -> None:
    headers = {b"authorization": b"Bearer sk-1", b"anthropic-beta": b"a,b", b"cookie": b"x"}
    assert forwarded(headers) == {"anthropic-beta": "a,b"}


@pytest.mark.parametrize(
    ("api", "name"), [(Api.CHAT, b"x-request-id"), (Api.MESSAGES, b"request-id")]
)
def test_an_answer_names_request_attempts_and_model(api: Api, name: bytes) -> None:
    record = RequestRecord(request_id="ab12", api=api, started=0.0, started_ns=0)
    record.model, record.overhead_s = "modèle", 0.00125
    record.attempts = [AttemptRecord(upstream="u", model="m", served_as="m", started_s=0.0)] * 2
    assert dict(answer_headers(record, None)) == {
        name: b"ab12",
        b"x-zerorouter-attempts": b"2",
        b"x-zerorouter-overhead-ms": b"1.250",
        b"x-zerorouter-model": b"mod?le",
    }
