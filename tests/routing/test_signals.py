from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import InputError
from zerorouter.routing.signals import (
    AgreementSignal,
    Answer,
    CallableSignal,
    JsonSignal,
    LogprobSignal,
    PatternSignal,
    QualityRecord,
    SignalQuality,
    last_number,
    plain_form,
    screening,
)


def answer(text, **facts):
    return Answer(text=text, **facts)


def test_a_pattern_fires_where_it_is_found_or_where_it_is_not():
    hedge = PatternSignal(pattern=r"\b(not sure|cannot)\b")
    assert hedge.fires(answer("I am Not Sure about that"))
    assert not hedge.fires(answer("It is 7."))
    boxed = PatternSignal(pattern=r"\\boxed", absent=True)
    assert boxed.fires(answer("It is 7."))
    assert not boxed.fires(answer(r"\boxed{7}"))
    strict = PatternSignal(pattern="SUSPICIOUS", ignore_case=False)
    assert not strict.fires(answer("suspicious"))


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(InputError, match="no regular expression"):
        PatternSignal(pattern="(")


@pytest.mark.parametrize(
    "text",
    [
        '{"verdict": {"labels": ["x", "y"]}, "score": 0.7}',
        'Here it is:\n```json\n{"verdict": {"labels": ["x", "y"]}, "score": 0.7}\n```\nDone.',
        'I think {"verdict": {"labels": ["x", "y"]}, "score": 0.7} says it all.',
    ],
)
def test_json_is_found_alone_fenced_or_in_prose(text):
    def fires(path, comparison, value):
        return JsonSignal(path=path, comparison=comparison, value=value).fires(answer(text))

    assert fires("score", ">", 0.5)
    assert not fires("score", ">=", 0.71)
    assert fires("verdict.labels.1", "==", "y")
    assert fires("verdict.labels.0", "!=", "y")
    assert fires("verdict.labels.0", "in", ["x", "z"])
    assert not fires("score", "<", 0.5)
    assert fires("score", "<=", 0.7)


@pytest.mark.parametrize(
    "text", ["no json", '{"other": 1}', '{"a": [1]}', '{"a": "text"}', "{" * 5_000, "[]"]
)
def test_json_that_cannot_be_read_fires_unless_told_otherwise(text):
    assert JsonSignal(path="a.3", comparison=">", value=1).fires(answer(text))
    assert not JsonSignal(path="a.3", comparison=">", value=1, unreadable=False).fires(answer(text))


def test_a_json_signal_is_checked():
    with pytest.raises(InputError, match="the comparison is '~'"):
        JsonSignal(path="a", comparison="~", value=1)
    with pytest.raises(InputError, match="the path is empty"):
        JsonSignal(path="", comparison="==", value=1)


def test_unsure_tokens_fire():
    signal = LogprobSignal(below=-0.5)
    assert signal.fires(answer("x", token_logprobs=[-0.1, -1.5]))
    assert not signal.fires(answer("x", token_logprobs=[-0.1, -0.2]))
    assert signal.fires(answer("x"))
    assert not LogprobSignal(below=-0.5, unknown=False).fires(answer("x"))


def test_samples_that_disagree_fire():
    signal = AgreementSignal()
    assert signal.samples == 2
    assert not signal.fires(answer("So it is 1,200.", others=("The answer: 1200",)))
    assert signal.fires(answer("So it is 1,200.", others=("The answer: 1,201",)))
    assert not signal.fires(answer("It is Paris!", others=("it is paris",)))
    with pytest.raises(InputError, match="two samples"):
        signal.fires(answer("alone"))


def test_a_function_decides_as_it_likes():
    signal = CallableSignal(function=lambda a: len(a.text) < 3)
    assert signal.fires(answer("no"))
    assert not signal.fires(answer("certainly"))


def test_numbers_and_words_are_compared_in_plain_form():
    assert last_number("from 3 to -4.50") == "-4.50"
    assert last_number("1,234,567.") == "1234567"
    assert plain_form("  Hello,  WORLD! ") == "hello world"


@given(st.text())
def test_signals_take_any_text(text):
    for signal in (
        PatternSignal(pattern="a|b"),
        JsonSignal(path="a.b", comparison="==", value=1),
        AgreementSignal(),
    ):
        assert signal.fires(answer(text, others=("x",))) in (True, False)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_json_signals_take_any_json(value):
    text = json.dumps({"a": value})
    assert JsonSignal(path="a", comparison=">", value=1).fires(answer(text)) in (True, False)


# -- quality -----------------------------------------------------------------------------------


def test_quality_is_learned_from_graded_answers():
    fired = [True] * 8 + [False] * 2 + [True] * 3 + [False] * 27
    wrong = [True] * 10 + [False] * 30
    quality = QualityRecord.of(fired, wrong).quality
    assert quality.sensitivity == pytest.approx(9 / 12)
    assert quality.specificity == pytest.approx(28 / 32)


def test_a_signal_that_nobody_has_seen_is_worth_nothing():
    assert QualityRecord().quality == SignalQuality(sensitivity=0.5, specificity=0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True])
def test_quality_is_two_probabilities(value):
    with pytest.raises(InputError, match="sensitivity"):
        SignalQuality(sensitivity=value, specificity=0.5)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_screen_in_either_set_of_words_is_the_same_screen(recall, alarms, prevalence):
    right, quality = screening(recall=recall, false_alarms=alarms, prevalence=prevalence)
    flagged = (1 - quality.specificity) * right + quality.sensitivity * (1 - right)
    assert right == pytest.approx(prevalence * recall + (1 - prevalence) * (1 - alarms))
    assert flagged == pytest.approx(prevalence * recall + (1 - prevalence) * alarms)


def test_a_screen_wants_probabilities():
    with pytest.raises(InputError, match="prevalence is 2"):
        screening(recall=0.9, false_alarms=0.1, prevalence=2)
