from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.streams import pieces
from zerorouter.errors import WireError
from zerorouter.gateway.wire.sse import Event, SSESplitter, encode_event


def split(parts, **kwargs):
    splitter = SSESplitter(**kwargs)
    return [event for part in parts for event in splitter.feed(part)] + splitter.finish()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event(None, b"a")]),
        (b"data:a\r\n\r\n", [Event(None, b"a")]),
        (b"event: x\ndata: a\n\n", [Event("x", b"a")]),
        (b"data: a\ndata: b\n\ndata: c\n\n", [Event(None, b"a\nb"), Event(None, b"c")]),
        (b": hello\n\ndata: a\n\n", [Event(None, b"a")]),
        (b"id: 7\nretry: 10\ndata: a\nmore: b\n\n", [Event(None, b"a")]),
        (b"\n\n\ndata: a\n\n\n\n", [Event(None, b"a")]),
        (b"event: lonely\n\ndata: a\n\n", [Event(None, b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(None, b"a")]),
        (b"data:  two blanks\n\n", [Event(None, b" two blanks")]),
        (b"data\n\n", [Event(None, b"")]),
        (b"data: a\n\ndata: broken off", [Event(None, b"a"), Event(None, b"broken off")]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(stream, events):
    assert split([stream]) == events
    assert split([stream[i : i + 1] for i in range(len(stream))]) == events


LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:", b"data: b\xc3\xa9", b"event: e", b": c", b"", b"", b"id: 1", b"x"]
    ),
    max_size=12,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 999), max_size=8))
def test_cutting_a_stream_changes_nothing(lines, end, cuts):
    stream = end.join(lines)
    assert split(pieces(stream, cuts)) == split([stream])


@given(st.lists(st.sampled_from([b'{"a":1}', b"[DONE]", b"{}"]), max_size=5))
def test_what_is_encoded_is_read_back(datas):
    stream = b"".join([encode_event(data, "n") for data in datas])
    assert split([stream]) == [Event("n", data) for data in datas]


def test_an_event_without_end_is_an_error_and_memory_stays_bounded():
    splitter = SSESplitter(most_bytes=1_000)
    for _ in range(10):
        splitter.feed(b"data: " + b"x" * 94)
    with pytest.raises(WireError, match="the limit is 1,000"):
        splitter.feed(b"x")
    assert splitter.feed(b"\n\ndata: a\n\n") == [Event(None, b"a")]
