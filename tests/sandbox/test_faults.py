from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import InputError, UnknownNameError
from zerorouter.sandbox.faults import FAULTS, NO_TROUBLE, FaultBox, FaultRule, parse_rule

STATUSES = [str(status) for status in range(400, 600)]
VALUED = ["429", "slow_start", "slow_chunks", "cut", "reset", "hang", "garbage", "stream_error"]
MODELS = st.from_regex(r"[a-z0-9*/.:-]{1,20}", fullmatch=True)


@st.composite
def rules(draw: st.DrawFn) -> FaultRule:
    fault = draw(st.sampled_from([*FAULTS, *STATUSES]))
    return FaultRule(
        fault=fault,
        value=draw(st.none() | st.integers(0, 999).map(float)) if fault in VALUED else None,
        model=draw(MODELS),
        probability=draw(st.integers(0, 100)) / 100,
        times=draw(st.none() | st.integers(0, 999)),
    )


@given(rules())
def test_a_rule_is_read_as_it_is_written(rule: FaultRule):
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    "text", ["", "429=", "429=x", "gpt:", ":429", "429@", "429@1.5", "cut=1.5", "empty=3", "429=-1"]
)
def test_a_rule_that_cannot_be_read_says_what_was_wanted(text: str):
    with pytest.raises(InputError, match=r"wanted|takes no value"):
        parse_rule(text)


@pytest.mark.parametrize("text", ["slow", "200", "600", "4290"])
def test_an_unknown_fault_is_refused_with_the_nearest_name(text: str):
    with pytest.raises(UnknownNameError, match="fault"):
        parse_rule(text)


def hits(box: FaultBox, n: int = 1_000, model: str = "able") -> list[bool]:
    return [bool(box.choose(model, f"p{i}", None).names) for i in range(n)]


def test_a_probability_hits_that_share_and_the_same_prompts_in_every_run():
    rule = parse_rule("429@0.3")
    first = hits(FaultBox([rule], seed=1))
    assert 0.25 < sum(first) / len(first) < 0.35
    assert first == hits(FaultBox([rule], seed=1))
    assert first != hits(FaultBox([rule], seed=2))


def test_which_prompts_are_hit_does_not_depend_on_their_order():
    forth, back = (FaultBox([parse_rule("429@0.3")], seed=1) for _ in range(2))
    names = [f"p{i}" for i in range(100)]
    assert {p for p in names if forth.choose("able", p, None).names} == {
        p for p in reversed(names) if back.choose("able", p, None).names
    }


def test_a_second_attempt_is_drawn_anew():
    box = FaultBox([parse_rule("500@0.5")], seed=1)
    first, second = hits(box, 200), hits(box, 200)
    assert first != second
    assert any(a and not b for a, b in zip(first, second, strict=True))


def test_a_rule_with_an_end_ends():
    box = FaultBox([parse_rule("503x3")], seed=0)
    assert sum(hits(box, 10)) == 3
    box.replace([parse_rule("503x1")])
    assert hits(box, 3) == [True, False, False]


def test_a_rule_is_for_its_models():
    box = FaultBox([parse_rule("gpt-4o*:429")], seed=0)
    assert box.choose("GPT-4o-mini", "p", None).status == 429
    assert box.choose("able", "p", None) is NO_TROUBLE


def test_a_header_adds_its_faults_and_none_keeps_the_rules_away():
    box = FaultBox([parse_rule("429")], seed=0)
    assert box.choose("able", "p", "slow_start=0.5").names == ("slow_start", "429")
    assert box.choose("able", "p", "none") is NO_TROUBLE
    assert box.choose("able", "p", "none, empty").names == ("empty",)
    with pytest.raises(UnknownNameError):
        box.choose("able", "p", "sloww")


def test_faults_of_a_call_are_put_together():
    box = FaultBox([], seed=0)
    trouble = box.choose("able", "p", "slow_start=2, slow_chunks, cut=3, truncated")
    assert (trouble.slow_start_s, trouble.slow_chunk_s) == (2.0, 0.1)
    assert (trouble.ending, trouble.after) == ("cut", 3)
    assert trouble.content == "truncated"
    assert trouble.status is None


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [("429", 1.0), ("429=7", 7.0), ("529", 1.0), ("500", None), ("500=4", 4.0)],
)
def test_retry_after_is_the_value_or_the_status_own(fault: str, seconds: float | None):
    assert FaultBox([], seed=0).choose("able", "p", fault).retry_after_s == seconds
