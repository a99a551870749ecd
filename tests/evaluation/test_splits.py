from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import DataError
from zerorouter.evaluation.splits import (
    KINDS,
    default_cutoff,
    leaked_prompts,
    make_split,
)
from zerorouter.linking import RespondentCard


def card(name, family="", released=None):
    return RespondentCard(id=name, model=name, family=family, released=released)


CARDS = [card(f"m{i}", family=f"f{i % 6}", released=f"2024-{1 + i % 12:02d}") for i in range(24)]


def split(kind, seed=0, *, n=400, cards=CARDS, group_of=None, **options):
    rng = np.random.default_rng(seed)
    groups = np.arange(n) if group_of is None else group_of
    return make_split(
        kind, seed, groups=groups, tasks=rng.integers(0, 5, n), cards=cards, **options
    )


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 50), twins=st.integers(2, 5))
def test_a_duplicate_group_never_crosses_a_split(kind, seed, twins):
    groups = np.arange(400) // twins
    made = split(kind, seed, group_of=groups, cutoff="2024-06")
    assert leaked_prompts(made, groups) == 0
    assert not set(made.train) & set(made.test)
    assert not set(made.calibration) & set(made.newcomers)


def test_twins_of_test_prompts_in_other_tasks_are_dropped_and_counted():
    groups = np.arange(400)
    groups[200:] = groups[:200]  # every prompt has a twin, mostly in another task
    made = split("task", group_of=groups)
    assert made.dropped_prompts > 0
    assert len(made.train) + len(made.test) + made.dropped_prompts == 400


def test_models_released_after_the_cutoff_are_newcomers():
    made = split("time", cutoff="2024-06")
    assert all(CARDS[i].released <= "2024-06" for i in made.calibration)
    assert all(CARDS[i].released > "2024-06" for i in made.newcomers)


def test_models_of_unknown_date_take_no_part_in_the_date_split():
    cards = [*CARDS, card("undated", family="f0")]
    made = split("time", cards=cards, cutoff="2024-06")
    assert made.dropped_models == 1
    assert 24 not in made.calibration
    assert 24 not in made.newcomers


def test_the_default_cutoff_leaves_about_a_third_as_newcomers():
    limit = default_cutoff(CARDS)
    late = sum(c.released > limit for c in CARDS)
    assert 0.2 <= late / len(CARDS) <= 0.45


def test_a_family_is_left_out_whole_and_every_family_once_in_four_repetitions():
    left_out: list[str] = []
    for seed in range(4):
        made = split("family", seed)
        out = {CARDS[i].family for i in made.newcomers}
        assert not out & {CARDS[i].family for i in made.calibration}
        left_out += out
    assert sorted(left_out) == sorted({c.family for c in CARDS})


def test_a_task_is_left_out_whole():
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 5, 400)
    made = make_split("task", 0, groups=np.arange(400), tasks=tasks, cards=CARDS)
    assert not set(tasks[made.train]) & set(tasks[made.test])


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    np.testing.assert_array_equal(split("random", 3).test, split("random", 3).test)
    assert not np.array_equal(split("random", 3).test, split("random", 4).test)


@pytest.mark.parametrize(
    ("kind", "cards", "wanted"),
    [
        ("time", [card(f"m{i}", family="f") for i in range(9)], "'released'"),
        ("family", [card(f"m{i}", released="2024-01") for i in range(9)], "'family'"),
        ("random", CARDS[:2], "at least 3"),
    ],
)
def test_data_without_what_a_split_needs_are_told_what_to_add(kind, cards, wanted):
    with pytest.raises(DataError, match=wanted):
        split(kind, cards=cards)


def test_one_task_cannot_be_left_out():
    with pytest.raises(DataError, match="at least 2 tasks"):
        make_split("task", 0, groups=np.arange(50), tasks=np.zeros(50, int), cards=CARDS)


def test_a_cutoff_after_the_last_model_is_refused():
    with pytest.raises(DataError, match="earlier --cutoff"):
        split("time", cutoff="2030-01")
