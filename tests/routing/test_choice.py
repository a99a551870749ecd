from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.tables import NAMES, chosen, estimates, weigh
from zerorouter.errors import MissingPriceError
from zerorouter.routing import choice
from zerorouter.routing.policy import BEST, CHEAPEST, Policy

probability = st.floats(1 / 64, 63 / 64, width=32)
amount = st.floats(0, 1)
models = st.lists(
    st.tuples(probability, amount, st.floats(0, 100)), min_size=1, max_size=len(NAMES)
)
value = st.floats(0, 100)
modes = st.sampled_from(
    [
        {},
        {"scalarisation": "chebyshev"},
        {"confidence": 0.9},
        {"objective": "cost"},
        {"objective": "accuracy"},
    ]
)


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


@given(models, st.tuples(probability, amount, st.floats(0, 100)), value, st.floats(0, 1), modes)
def test_adding_a_model_never_re_ranks_the_others(rows, newcomer, v, second, mode):
    policy = Policy(value_of_correct_usd=v, value_of_second_usd=second, **mode)
    names = list(NAMES[: len(rows)])
    before = ranking(table(rows, names), policy)
    wider = ranking(table([*rows, newcomer], [*names, "new"]), policy)
    assert [name for name in wider if name != "new"] == before


@given(models, value, st.floats(0, 1), st.integers(-20, 20), modes)
def test_scaling_all_prices_and_both_values_together_changes_nothing(rows, v, second, k, mode):
    """By powers of two, which floating point multiplies exactly."""
    factor = 2.0**k
    policy = Policy(value_of_correct_usd=v, value_of_second_usd=second, **mode)
    scaled = Policy(value_of_correct_usd=factor * v, value_of_second_usd=factor * second, **mode)
    dearer = table([(p, factor * cost, latency) for p, cost, latency in rows])
    assert ranking(dearer, scaled) == ranking(table(rows), policy)


@given(models, value, st.floats(0, 1), st.floats(1e-3, 1e3), modes)
def test_scaling_by_any_factor_changes_no_choice_that_is_not_a_tie(rows, v, second, factor, mode):
    policy = Policy(value_of_correct_usd=v, value_of_second_usd=second, **mode)
    scaled = Policy(value_of_correct_usd=factor * v, value_of_second_usd=factor * second, **mode)
    plain = weigh(table(rows), policy)
    dearer = weigh(table([(p, factor * cost, latency) for p, cost, latency in rows]), scaled)
    at, top = plain.utility[dearer.chosen], plain.utility[plain.chosen]
    assert at == pytest.approx(top, rel=1e-9, abs=1e-9 * (1 + v))


@given(models, value, st.floats(0, 1))
def test_the_chebyshev_choice_is_never_dominated(rows, v, second):
    offers = table(rows)
    policy = Policy(value_of_correct_usd=v, value_of_second_usd=second, scalarisation="chebyshev")
    p, cost, latency = rows[weigh(offers, policy).chosen]
    for q, price, seconds in rows:
        assert not (v * q > v * p and price < cost and second * seconds < second * latency)


def test_chebyshev_weighs_the_largest_loss_where_the_sum_weighs_all():
    lopsided, even = (0.95, 0.6, 0.0), (0.6, 0.4, 0.0)  # loses .05 and .6; .4 and .4
    offers = table([lopsided, even])
    assert chosen(offers, Policy(value_of_correct_usd=1.0)) == "ada"
    assert chosen(offers, Policy(value_of_correct_usd=1.0, scalarisation="chebyshev")) == "bob"


# -- constraint mode -------------------------------------------------------------------------------


@given(models, st.floats(0, 1))
def test_the_cheapest_that_is_sure_enough_is_chosen(rows, floor):
    offers = table(rows)
    policy = dataclasses.replace(CHEAPEST, min_accuracy=floor)
    assume(choice.within_bounds(offers, policy).any())
    j = weigh(offers, policy).chosen
    enough = offers.p_correct[0] >= floor
    assert enough[j]
    assert offers.cost_usd[0, j] == offers.cost_usd[0, enough].min()


@given(models, amount, st.floats(0, 100))
def test_the_best_within_cost_and_latency_is_chosen(rows, cap, longest):
    offers = table(rows)
    policy = dataclasses.replace(BEST, max_cost_usd=cap, max_p95_latency_s=longest)
    inside = choice.within_bounds(offers, policy)[0]
    assume(inside.any())
    j = weigh(offers, policy).chosen
    assert inside[j]
    assert offers.p_correct[0, j] == offers.p_correct[0, inside].max()


@given(models, st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_more_confidence_never_takes_p_correct_higher(rows, c, d):
    offers = table(rows)
    low, high = (choice.probabilities(offers, Policy(confidence=level)) for level in sorted((c, d)))
    assert (high <= low + 1e-7).all()
    assert (low <= offers.p_correct).all()


def test_where_less_is_known_a_confident_bound_is_kept_by_others():
    offers = estimates([0.9, 0.85], [0.01, 0.02])
    unsure = np.array([[1.0, 0.01]], dtype=np.float32)  # as of a newcomer, or far from the records
    offers = dataclasses.replace(
        offers, forecast=dataclasses.replace(offers.forecast, error_variance=unsure)
    )
    mean = dataclasses.replace(CHEAPEST, min_accuracy=0.8)
    assert chosen(offers, mean) == "ada"
    assert chosen(offers, dataclasses.replace(mean, confidence=0.9)) == "bob"


def test_an_infeasible_confident_bound_says_at_which_confidence():
    offers = estimates([0.5, 0.75], [0.02, 0.3])
    policy = Policy(min_accuracy=0.74, confidence=0.95)
    error = choice.infeasible(offers, 0, policy, np.array([0, 1]))
    assert "min_accuracy=0.74 at confidence 0.95 is out of reach: the nearest is 0.6" in str(error)
    assert (error.bound, error.value, error.model) == ("min_accuracy", 0.74, "bob")
    assert error.nearest == pytest.approx(0.684, abs=0.005)


def test_bounds_that_contradict_each_other_name_one_model_that_misses_them_by_the_least():
    offers = estimates([0.5, 0.75], [0.02, 0.3], [1.0, 2.0])
    policy = Policy(min_accuracy=0.99, max_cost_usd=1e-6, max_latency_s=0.5)
    text = str(choice.infeasible(offers, 0, policy, np.array([0, 1])))
    assert text.endswith(
        "min_accuracy=0.99 is out of reach: the nearest is 0.5000 (ada) and "
        "max_cost_usd=1e-06 is out of reach: the nearest is 0.02000 (ada) and "
        "max_latency_s=0.5 is out of reach: the nearest is 1.000 (ada)"
    )


@given(models, st.floats(0.9, 1), st.floats(0, 0.01), st.floats(0, 1))
def test_what_an_infeasible_request_is_told_makes_it_feasible(rows, floor, cap, longest):
    offers = table(rows)
    policy = Policy(min_accuracy=floor, max_cost_usd=cap, max_latency_s=longest)
    assume(not choice.within_bounds(offers, policy).any())
    error = choice.infeasible(offers, 0, policy, np.arange(len(rows)))
    told = re.findall(r"(\w+)=\S+ is out of reach: the nearest is ([\d.]+) \((\w+)\)", str(error))
    if " and " in str(error):  # all of them together
        loosened = dataclasses.replace(policy, **{name: float(at) for name, at, _ in told})
        assert choice.within_bounds(offers, loosened)[0, offers.models.index(told[0][2])]
    else:  # each of them alone
        for name, at, model in told:
            loosened = dataclasses.replace(policy, **{name: float(at)})
            assert choice.within_bounds(offers, loosened)[0, offers.models.index(model)]


# -- newcomers -------------------------------------------------------------------------------------


@given(models, st.data(), modes)
def test_a_newcomer_is_taken_at_its_lower_bound_and_others_as_before(rows, data, mode):
    """Under every policy, and where the policy itself is surer, at the policy's bound."""
    offers = table(rows)
    new = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    on_probation = dataclasses.replace(offers, cautious=new)
    policy = Policy(**mode)
    p, usual = choice.probabilities(on_probation, policy), choice.probabilities(offers, policy)
    np.testing.assert_array_equal(p[:, ~new], usual[:, ~new])
    z = max(choice.CAUTION_Z, policy.confidence_z or 0.0)
    bound = offers.forecast.interval(z)[0]
    np.testing.assert_array_equal(p[:, new], bound[:, new])
    assert (choice.utilities(on_probation, policy) <= choice.utilities(offers, policy)).all()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(value_of_correct_usd=1.0),
        dataclasses.replace(BEST, max_cost_usd=1.0),
        dataclasses.replace(CHEAPEST, min_accuracy=0.75),
    ],
)
def test_a_newcomer_wins_what_it_would_win_once_its_posterior_is_tight(policy):
    """Better and cheaper, but little is known of it: it is chosen as soon as enough is."""
    offers = estimates([0.85, 0.8], [0.001, 0.002])
    new = np.array([True, False])

    def known_to_within(variance):
        errors = np.array([[variance, 0.0001]], dtype=np.float32)
        forecast = dataclasses.replace(offers.forecast, error_variance=errors)
        return dataclasses.replace(offers, forecast=forecast)

    wide, tight = known_to_within(1.0), known_to_within(0.0004)
    assert chosen(wide, policy) == "ada"
    assert chosen(dataclasses.replace(wide, cautious=new), policy) == "bob"
    assert chosen(dataclasses.replace(tight, cautious=new), policy) == "ada"
