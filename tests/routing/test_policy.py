from __future__ import annotations

import math

import pytest

from zerorouter.errors import InputError, UnknownNameError
from zerorouter.routing.policy import POLICIES, Policy, find_policy


def test_the_presets_are_the_documented_numbers():
    assert {n: (p.value_of_correct_usd, p.value_of_second_usd) for n, p in POLICIES.items()} == {
        "quality": (10.0, 0.0),
        "balanced": (0.1, 0.0001),
        "cost": (0.005, 0.0),
        "latency": (0.1, 0.01),
    }
    assert not any(policy.has_bounds for policy in POLICIES.values())


def test_auto_is_balanced():
    assert find_policy("auto") is find_policy("balanced")


def test_a_policy_of_ones_own_wins_over_a_preset():
    mine = Policy(name="cost", value_of_correct_usd=1.0)
    assert find_policy("cost", {"cost": mine}) is mine
    assert find_policy(mine) is mine


def test_an_unknown_policy_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'qualty'; did you mean 'quality'"):
        find_policy("qualty")
    with pytest.raises(UnknownNameError, match="did you mean 'careful'"):
        find_policy("carefull", {"careful": Policy()})


@pytest.mark.parametrize("wanted", [5, b"cost", ["cost"]])
def test_what_is_neither_name_nor_policy_is_refused(wanted):
    with pytest.raises(InputError, match=f"of type {type(wanted).__name__}"):
        find_policy(wanted)


@pytest.mark.parametrize(
    "numbers",
    [
        {"value_of_correct_usd": -1},
        {"value_of_correct_usd": math.nan},
        {"value_of_second_usd": math.inf},
        {"value_of_second_usd": True},
        {"min_accuracy": 1.5},
        {"min_accuracy": math.nan},
        {"min_accuracy": "0.5"},
        {"max_cost_usd": -0.1},
        {"max_cost_usd": math.nan},
        {"max_latency_s": "1"},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(numbers):
    (field,) = numbers
    with pytest.raises(InputError, match=field):
        Policy(**numbers)


def test_bounds_of_a_request_replace_those_of_the_policy_and_leave_the_others():
    policy = Policy(min_accuracy=0.5, max_cost_usd=1.0)
    bounded = policy.bounded(min_accuracy=0.9)
    assert (bounded.min_accuracy, bounded.max_cost_usd) == (0.9, 1.0)
    assert policy.bounded() is policy
    with pytest.raises(InputError, match="min_accuracy is 2"):
        policy.bounded(min_accuracy=2)
