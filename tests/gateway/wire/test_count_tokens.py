from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.gateway.wire.count_tokens import count_text, count_tokens

PROSE = "The ferry leaves at nine and needs an hour to reach the coast on a calm day. "


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        (PROSE, 15, 24),  # 17 words and a full stop
        ("def area(r):\n    return 3.14159 * r ** 2\n", 15, 26),
        ("湖有多深", 3, 6),
        ("Wie tief ist der See in Österreich?", 8, 14),
    ],
)
def test_texts_of_several_kinds_are_counted_about_right(text, low, high):
    assert low <= count_text(text) <= high


def test_a_very_long_text_is_judged_by_samples():
    whole = count_text(PROSE) * 10_000
    assert count_text(PROSE * 10_000) == pytest.approx(whole, rel=0.05)


@given(st.text(max_size=40), st.text(max_size=40))
def test_more_text_is_never_fewer_tokens_than_half(a, b):
    """Words may join at the seam; nothing is lost beyond that."""
    assert count_text(a + b) >= max(count_text(a), count_text(b)) // 2


def test_every_part_of_a_request_counts():
    bare = {"messages": [{"role": "user", "content": "hi"}]}
    base = count_tokens(bare)
    image = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": PROSE}
    call = {"type": "tool_use", "id": "t", "name": "level", "input": {"station": "north"}}
    for more in (
        {"system": PROSE},
        {"tools": [{"name": "level", "input_schema": {"type": "object"}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}]},
        {"messages": [*bare["messages"], {"role": "user", "content": [result]}]},
        {"messages": [*bare["messages"], {"role": "assistant", "content": [call]}]},
    ):
        assert count_tokens({**bare, **more}) > base + 3


def test_thinking_of_earlier_turns_does_not_count():
    block = {"type": "thinking", "thinking": PROSE, "signature": "x" * 400}
    with_it = {"messages": [{"role": "assistant", "content": [block]}]}
    without = {"messages": [{"role": "assistant", "content": []}]}
    assert count_tokens(with_it) == count_tokens(without)


@pytest.mark.parametrize(
    "body", [{}, {"messages": 3}, {"messages": [{"content": [7, {"type": []}]}]}]
)
def test_garbage_counts_as_something(body):
    assert count_tokens(body) >= 1
