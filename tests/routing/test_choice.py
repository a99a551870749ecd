from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.tables import NAMES, chosen, estimates, weigh
from zerorouter.errors import MissingPriceError
from zerorouter.routing import choice
from zerorouter.routing.policy import Policy

probability = st.floats(1 / 64, 63 / 64, width=32)
amount = st.floats(0, 1)
models = st.lists(
    st.tuples(probability, amount, st.floats(0, 100)), min_size=1, max_size=len(NAMES)
)
value = st.floats(0, 100)


def table(rows, names=None):
    p, cost, latency = zip(*rows, strict=True)
    return estimates(p, cost, list(latency), names)


def test_utility_is_value_of_a_correct_answer_less_cost_and_waiting():
    policy = Policy(value_of_correct_usd=2.0, value_of_second_usd=0.01)
    found = choice.utilities(estimates([0.5], [0.3], [20.0]), policy)
    assert found[0, 0] == pytest.approx(2.0 * 0.5 - 0.3 - 0.2)


def test_the_model_of_largest_utility_is_chosen():
    weak, strong = (0.6, 0.001, 1.0), (0.9, 0.1, 1.0)
    offers = table([weak, strong])
    assert chosen(offers, Policy(value_of_correct_usd=0.1)) == "ada"
    assert chosen(offers, Policy(value_of_correct_usd=1.0)) == "bob"


def test_waiting_counts_where_it_has_a_price():
    offers = table([(0.9, 0.01, 30.0), (0.8, 0.01, 1.0)])
    assert chosen(offers, Policy(value_of_correct_usd=1.0)) == "ada"
    assert chosen(offers, Policy(value_of_correct_usd=1.0, value_of_second_usd=0.01)) == "bob"


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        ({"min_accuracy": 0.7}, "bc"),
        ({"max_cost_usd": 0.2}, "ab"),
        ({"max_latency_s": 2.0}, "ac"),
        ({"min_accuracy": 0.7, "max_cost_usd": 0.2}, "b"),
        ({}, "abc"),
    ],
)
def test_bounds_keep_what_meets_them_and_are_met_with_equality(bound, kept):
    offers = estimates([0.5, 0.75, 0.9], [0.1, 0.2, 0.3], [1.0, 3.0, 2.0])
    inside = choice.within_bounds(offers, Policy(**bound))[0]
    assert "".join("abc"[j] for j in np.flatnonzero(inside)) == kept


# -- laws ------------------------------------------------------------------------------------


@given(models, value, value)
def test_raising_the_cost_weight_never_raises_the_expected_cost(rows, v, w):
    """To weigh cost more is to value a correct answer less."""
    offers = table(rows)
    cost = {
        worth: offers.cost_usd[0, weigh(offers, Policy(value_of_correct_usd=worth)).chosen]
        for worth in (v, w)
    }
    assert cost[min(v, w)] <= cost[max(v, w)] + 1e-12


@given(models, value, st.floats(1, 1000))
def test_raising_all_prices_alike_never_raises_what_the_chosen_model_cost_before(rows, v, factor):
    policy = Policy(value_of_correct_usd=v)
    before = table(rows)
    after = table([(p, factor * cost, latency) for p, cost, latency in rows])
    cost = before.cost_usd[0]
    assert cost[weigh(after, policy).chosen] <= cost[weigh(before, policy).chosen] + 1e-12


@given(models, value, st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_order_of_models_is_irrelevant(rows, v, second, random):
    policy = Policy(value_of_correct_usd=v, value_of_second_usd=second)
    named = list(zip(NAMES, rows, strict=False))
    shuffled = random.sample(named, len(named))
    straight = table(rows)
    mixed = table([row for _, row in shuffled], [name for name, _ in shuffled])
    assert chosen(straight, policy) == chosen(mixed, policy)
    assert ranking(straight, policy) == ranking(mixed, policy)


def ranking(offers, policy):
    return [offers.models[j] for j in weigh(offers, policy).order]


@given(models, value, st.floats(0, 1), st.data())
def test_adding_a_dominated_model_never_changes_the_decision(rows, v, second, data):
    policy = Policy(value_of_correct_usd=v, value_of_second_usd=second)
    names = list(NAMES[: len(rows)])
    p, cost, latency = rows[data.draw(st.integers(0, len(rows) - 1))]
    worse = (
        data.draw(st.floats(1 / 128, p, width=32, exclude_max=True)),
        cost + data.draw(st.floats(0, 1)),
        latency + data.draw(st.floats(0.001, 10)),
    )
    # Its name comes first in the alphabet, so that a tie by name would go its way.
    assert chosen(table([*rows, worse], [*names, "aaa"]), policy) == chosen(table(rows), policy)


@given(models, value)
def test_the_best_is_the_first_of_the_ranking(rows, v):
    weighing = weigh(table(rows), Policy(value_of_correct_usd=v))
    assert weighing.order[0] == weighing.chosen
    assert sorted(weighing.order) == list(range(len(rows)))


# -- ties --------------------------------------------------------------------------------------


def test_equal_utilities_go_to_the_cheaper_then_the_surer_then_the_faster_then_by_name():
    free = Policy(value_of_correct_usd=0.0)
    assert chosen(estimates([0.9, 0.5], [0.0, 0.0]), free) == "ada"
    assert chosen(estimates([0.5, 0.9], [0.0, 0.0]), free) == "bob"
    assert chosen(estimates([0.5, 0.5], [0.0, 0.0], [2.0, 1.0]), free) == "bob"
    assert chosen(estimates([0.5, 0.5], [0.0, 0.0], names=["zoe", "ada"]), free) == "ada"
    worth = Policy(value_of_correct_usd=1.0)
    assert chosen(estimates([0.75, 0.5], [0.5, 0.25]), worth) == "bob"  # both 0.25


# -- what cannot be done -------------------------------------------------------------------------


def test_a_missing_price_is_an_error_that_names_the_model_and_the_ways_out():
    offers = estimates([0.9, 0.8], [0.1, np.nan])
    with pytest.raises(MissingPriceError, match=r"'bob' has no price.*'prices:'.*--exclude bob"):
        choice.require_prices(offers, 0, np.array([0, 1]))
    choice.require_prices(offers, 0, np.array([0]))  # it is not a candidate: nothing to say


def test_an_infeasible_bound_is_told_with_the_nearest_value_and_its_model():
    offers = estimates([0.5, 0.75], [0.02, 0.3], [1.0, 2.0])
    error = choice.infeasible(offers, 0, Policy(min_accuracy=0.9), np.array([0, 1]))
    assert "min_accuracy=0.9 is out of reach: the nearest is 0.7500 (bob)" in str(error)


def test_of_two_bounds_each_is_loosened_alone():
    offers = estimates([0.5, 0.75], [0.02, 0.3])
    policy = Policy(min_accuracy=0.7, max_cost_usd=0.1)
    text = str(choice.infeasible(offers, 0, policy, np.array([0, 1])))
    assert "min_accuracy=0.7 is out of reach: the nearest is 0.5000 (ada)" in text
    assert "max_cost_usd=0.1 is out of reach: the nearest is 0.3000 (bob)" in text


@given(models, st.sampled_from(["min_accuracy", "max_cost_usd", "max_latency_s"]))
def test_the_nearest_value_that_is_told_really_is_feasible(rows, bound):
    offers = table(rows)
    beyond = {"min_accuracy": 1.0, "max_cost_usd": 0.0, "max_latency_s": 0.0}[bound]
    everyone = np.arange(len(rows))
    policy = Policy(**{bound: beyond})
    if choice.within_bounds(offers, policy).any():
        return
    text = str(choice.infeasible(offers, 0, policy, everyone))
    told, model = re.search(r"nearest is ([\d.]+) \((\w+)\)", text).groups()
    inside = choice.within_bounds(offers, Policy(**{bound: float(told)}))[0]
    assert inside[offers.models.index(model)]
