from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.sandbox.wrong import wrong_answer

DRAWS = st.floats(0.001, 0.999)


@given(
    st.text(min_size=1).filter(str.strip),
    st.lists(st.text(), max_size=6),
    st.lists(st.text(), max_size=6),
    DRAWS,
)
def test_a_wrong_answer_neither_holds_the_right_one_nor_is_held_by_it(
    reference: str, options: list[str], peers: list[str], draw: float
):
    wrong = wrong_answer(reference, options=options, peers=peers, draw=draw)
    ours, right = " ".join(wrong.casefold().split()), " ".join(reference.casefold().split())
    assert ours
    assert right not in ours
    assert ours not in right


@given(st.integers(2, 20), DRAWS, st.data())
def test_a_letter_is_answered_by_another_letter_of_the_choice(
    n: int, draw: float, data: st.DataObject
):
    letters = [chr(ord("A") + i) for i in range(n)]
    right = data.draw(st.sampled_from(letters))
    wrong = wrong_answer(right, options=[f"option {i}" for i in range(n)], draw=draw)
    assert wrong in letters
    assert wrong != right


@given(st.integers(-(10**9), 10**9), DRAWS)
def test_a_number_is_answered_by_a_number_far_off(number: int, draw: float):
    wrong = float(wrong_answer(str(number), draw=draw))
    assert abs(wrong - number) > max(5, 0.3 * abs(number))


@pytest.mark.parametrize(
    ("reference", "wrong"),
    [("# 2,125", "# 2840"), ("0.5", "7.67"), ("$3", "$11"), ("?", "no answer"), ("50%", "73%")],
)
def test_the_text_around_a_number_stays(reference: str, wrong: str):
    assert wrong_answer(reference) == wrong


def test_a_text_is_answered_by_the_answer_to_another_prompt():
    assert wrong_answer("white", peers=["white", "black", "off-white"], draw=0.1) == "black"


def test_the_text_of_an_option_is_answered_by_another_option():
    wrong = wrong_answer("Oslo", options=["Bergen", "Oslo"], draw=0.9)
    assert wrong == "Bergen"


def test_a_number_too_long_to_be_one_is_still_answered():
    assert wrong_answer("7" * 5_000) == "no answer"
