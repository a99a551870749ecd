"""Graders: what counts as the answer, and when it is right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.asking.graders import GRADERS, Grade, grader_for, settled
from zerorouter.errors import InputError, UnknownNameError

OPTIONS = ("zinc", "oak wood", "wool", "sand")

CASES = [
    # exact
    ("exact", "Tejo", (), "Tejo", 1, True),
    ("exact", "Tejo", (), "  **tejo**.\n", 1, True),
    ("exact", "Tejo", (), "I think it is this one.\n\nTejo", 1, True),
    ("exact", "Tejo", (), "The answer is Tejo.", 1, True),
    ("exact", "Tejo", (), "<answer>\nTejo\n</answer> or maybe Douro", 1, True),
    ("exact", "Tejo", (), "Tejo or Douro", 0, True),
    ("exact", "Tejo", (), "", 0, False),
    # choice
    ("choice", "B", OPTIONS, "B", 1, True),
    ("choice", "(b)", OPTIONS, "b", 1, True),
    ("choice", "oak wood", OPTIONS, "The answer is (B).", 1, True),
    ("choice", "B", OPTIONS, "A metal? No. The correct answer is **B) oak wood**", 1, True),
    ("choice", "B", OPTIONS, "<answer>oak wood</answer>", 1, True),
    ("choice", "B", OPTIONS, "It is a wood, so \\boxed{B}", 1, True),
    ("choice", "B", OPTIONS, "A case of doubt.\nOption B", 1, True),
    ("choice", "B", OPTIONS, "First I took B, but the answer is C", 0, True),
    ("choice", "B", OPTIONS, "I do not know", 0, False),
    ("choice", "B", OPTIONS, "E", 0, False),
    # number
    ("number", "42", (), "17 + 25 = 42", 1, True),
    ("number", "# 42", (), "#### 42", 1, True),
    ("number", "1234.5", (), "That makes $1,234.50.", 1, True),
    ("number", "-3", (), "so x = −3", 1, True),
    ("number", "0.5", (), "The answer is 1/2", 1, True),
    ("number", "42", (), "The answer is 42, not 43.", 0, True),
    ("number", "42", (), "<answer>42</answer> (I checked it 3 times)", 1, True),
    ("number", "42", (), "forty-two", 0, False),
    ("number", "1e3", (), "1000", 1, True),
    # tolerance
    ("tolerance=0.01", "100", (), "about 100.9", 1, True),
    ("tolerance=0.01", "100", (), "about 101.1", 0, True),
    ("tolerance=0", "0.1", (), "0.1", 1, True),
    # contains
    ("contains", "blue whale", (), "It is the Blue\n Whale!", 1, True),
    ("contains", "blue whale", (), "a whale", 0, True),
    ("contains", "blue whale", (), " ", 0, False),
    # regex
    ("regex", r"\bcolou?r\b", (), "the color red", 1, True),
    ("regex", r"^\d{4}$", (), "in 1999", 0, True),
    # json
    ("json", '{"a": 1, "b": [2, 3]}', (), '```json\n{"b": [2.0, 3], "a": 1}\n```', 1, True),
    ("json", '{"a": 1}', (), 'Here you are: {"a": 1} - done', 1, True),
    ("json", "[1, true]", (), "[1, 1]", 0, True),
    ("json", '{"a": 1}', (), "no idea", 0, False),
    # auto
    ("auto", "B", OPTIONS, "Answer: B", 1, True),
    ("auto", "7", (), "7.0", 1, True),
    ("auto", '["x"]', (), '["x"]', 1, True),
    ("auto", "Paris", (), "Paris", 1, True),
]


@pytest.mark.parametrize(("name", "reference", "options", "reply", "score", "found"), CASES)
def test_replies_are_graded_as_a_person_would(name, reference, options, reply, score, found):
    assert grader_for(name, reference, options)(reply) == Grade(float(score), found)


def test_every_grader_has_a_case_and_a_line_of_help():
    assert {case[0].partition("=")[0] for case in CASES} | {"python"} == set(GRADERS)
    assert all(GRADERS.values())


def test_a_python_function_grades():
    grader = grader_for("python=asking.graders_of_tests:half", "yes")
    assert (grader("oh yes").score, grader("no").score) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("python=", "names no function"),
        ("python=asking.graders_of_tests", "names no function"),
        ("python=no.such.module:f", "No module named"),
        ("python=asking.graders_of_tests:missing", "has no attribute"),
        ("python=asking.graders_of_tests:not_a_function", "is a int; a function is wanted"),
    ],
)
def test_a_function_that_cannot_be_called_is_told(name, told):
    with pytest.raises(InputError, match=told):
        grader_for(name, "x")


def test_a_function_that_returns_no_score_is_told():
    with pytest.raises(InputError, match="returned 'well done'"):
        grader_for("python=asking.graders_of_tests:broken", "x")("reply")


@pytest.mark.parametrize(
    ("name", "reference", "options", "told"),
    [
        ("choice", "E", OPTIONS, "neither a letter from A to D nor one of the options"),
        ("choice", "A", ("one",), "1 options; a choice takes 2 to 26"),
        ("number", "many", (), "holds no number"),
        ("regex", "(", (), "no regular expression"),
        ("json", "{", (), "is not JSON"),
        ("contains", " ", (), "stands in every reply"),
        ("tolerance=2", "1", (), "wanted a share"),
        ("auto", " ", (), "is empty"),
    ],
)
def test_a_reference_that_a_grader_cannot_use_is_told(name, reference, options, told):
    with pytest.raises(InputError, match=told):
        grader_for(name, reference, options, where="prompt 3")


def test_an_unknown_grader_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'number'"):
        grader_for("numbr", "1")


@given(st.text(max_size=400))
def test_no_reply_breaks_a_grader(reply):
    for name, reference, options in [
        ("exact", "x", ()),
        ("choice", "A", OPTIONS),
        ("number", "1", ()),
        ("contains", "x", ()),
        ("regex", "x+", ()),
        ("json", '{"x": [1]}', ()),
    ]:
        assert grader_for(name, reference, options)(reply).score in (0.0, 1.0)


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_numbers_are_found_however_they_are_written(value, decimals):
    written = f"{value:,.{decimals}f}"
    assert grader_for("number", str(value))(f"It comes to {written}.").score == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_json_equals_itself_in_any_layout(value):
    grader = grader_for("json", json.dumps(value))
    assert grader(json.dumps(value, indent=3, sort_keys=True)).score == 1


def test_the_last_tag_counts_and_tags_count_before_words():
    assert settled("<answer>1</answer> The answer is 2 <ANSWER> 3 </ANSWER>") == "3"
    assert settled(r"\boxed{\frac{1}{2}} and \boxed{\sqrt{2}}") == r"\sqrt{2}"
    assert settled("nothing here") is None


def test_a_huge_reply_is_graded_in_linear_time():
    assert grader_for("number", "42")("answer " * 200_000 + "is 42").score == 1
