"""What cannot be assigned is refused in words, with the nearest thing that can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routing.assignment.batches import batch, budget, ends
from zerorouter.errors import (
    InfeasibleError,
    InputError,
    MissingPriceError,
    NoEligibleModelError,
    UnknownNameError,
)
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offers import Bounds, Capacity, Offers

FINE = Bounds(budget_usd=100.0)


def with_cell(offers, name, value):
    table = getattr(offers, name).copy()
    table[3, 1] = value
    return replace(offers, **{name: table})


@pytest.mark.parametrize("value", [-0.1, np.inf])
def test_a_price_that_is_none_is_named(value):
    with pytest.raises(InputError, match="cost_usd of 'm001' for prompt 3 is"):
        assign(with_cell(batch(6, 3), "cost_usd", value), FINE)


def test_a_missing_price_says_how_to_set_one():
    with pytest.raises(MissingPriceError, match=r"'m001' has no price.*--exclude m001"):
        assign(with_cell(batch(6, 3), "cost_usd", np.nan), FINE)


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_a_probability_that_is_none_is_named(value):
    with pytest.raises(InputError, match="p_correct of 'm001' for prompt 3"):
        assign(with_cell(batch(6, 3), "p_correct", value), FINE)


def test_prompts_are_named_by_their_ids_where_they_have_some():
    offers = replace(batch(6, 3), prompt_ids=[f"id-{i}" for i in range(6)])
    with pytest.raises(InputError, match="prompt 'id-3'"):
        assign(with_cell(offers, "cost_usd", -1), FINE)


def test_latency_and_tokens_are_checked_only_where_they_matter():
    odd = with_cell(with_cell(batch(6, 3), "latency_s", np.nan), "tokens", -1.0)
    assign(odd, FINE)
    with pytest.raises(InputError, match="latency_s of 'm001'"):
        assign(odd, Bounds(budget_usd=9, max_mean_latency_s=1e9))
    with pytest.raises(InputError, match="tokens of 'm001'"):
        assign(odd, Bounds(capacity={"*": Capacity(tokens=1e9)}))
    bare = replace(batch(6, 3), latency_s=None, latency_p95_s=None, tokens=None)
    with pytest.raises(InputError, match="no latency_s is given"):
        assign(bare, Bounds(max_mean_latency_s=1.0))
    with pytest.raises(InputError, match="no tokens are given"):
        assign(bare, Bounds(capacity={"*": Capacity(tokens=1.0)}))


def test_an_empty_pool_and_an_empty_batch_are_refused():
    none = np.zeros((3, 0))
    with pytest.raises(NoEligibleModelError, match="the pool is empty"):
        assign(Offers(models=(), p_correct=none, cost_usd=none), FINE)
    none = np.zeros((0, 3))
    with pytest.raises(InputError, match="no prompts"):
        assign(Offers(models=("a", "b", "c"), p_correct=none, cost_usd=none), FINE)


def test_a_prompt_that_no_model_may_take_is_named():
    allowed = np.ones((6, 3), dtype=bool)
    allowed[4] = False
    with pytest.raises(NoEligibleModelError, match="prompt 4"):
        assign(batch(6, 3, allowed=allowed), FINE)


def test_shapes_have_to_agree():
    with pytest.raises(InputError, match=r"cost_usd has the shape \(5, 3\)"):
        assign(batch(6, 3, cost_usd=np.ones((5, 3))), FINE)
    with pytest.raises(InputError, match="weight has the shape"):
        assign(batch(6, 3, weight=np.ones(5)), FINE)
    for weight in (np.full(6, -1.0), np.full(6, np.nan), np.zeros(6)):
        with pytest.raises(InputError, match="weight"):
            assign(batch(6, 3, weight=weight), FINE)


@pytest.mark.parametrize(
    "bounds",
    [
        {"budget_usd": -1},
        {"budget_usd": float("nan")},
        {"budget_usd": float("inf")},
        {"budget_usd": True},
        {"budget_usd": "10"},
        {"max_mean_latency_s": -1},
        {"max_p95_latency_s": float("nan")},
        {"min_accuracy": 1.5},
        {"min_accuracy": -0.1},
    ],
)
def test_bounds_out_of_range_are_refused(bounds):
    (name,) = bounds
    with pytest.raises(InputError, match=name):
        Bounds(**bounds)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), True, "10"])
@pytest.mark.parametrize("unit", ["requests", "tokens"])
def test_capacities_out_of_range_are_refused(unit, amount):
    with pytest.raises(InputError, match=f"a capacity of {unit} is"):
        Capacity(**{unit: amount})


def test_a_capacity_for_an_unknown_model_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'm001'"):
        assign(batch(6, 3), Bounds(capacity={"m01": Capacity(requests=1)}))


def test_a_goal_nobody_knows_is_refused():
    with pytest.raises(InputError, match="the goal is 'fame'"):
        assign(batch(3, 2), FINE, goal="fame")
    with pytest.raises(InputError, match="the offers have none"):
        assign(batch(3, 2), FINE, goal="utility")


# -- the nearest that can be ---------------------------------------------------------------------


def nearest(offers, bounds, **given):
    with pytest.raises(InfeasibleError) as caught:
        assign(offers, bounds, **given)
    return caught.value


@pytest.mark.parametrize("usd", [0.0, 1e-9, 0.5])
def test_too_small_a_budget_names_the_least(usd):
    offers = batch(40, 5)
    least, _ = ends(offers)
    error = nearest(offers, Bounds(budget_usd=usd * least))
    assert error.bound == "budget_usd"
    assert least <= error.nearest <= least * 1.001
    assign(offers, Bounds(budget_usd=error.nearest))


def test_a_budget_of_zero_is_fine_where_something_is_free():
    offers = batch(10, 3, cost_usd=np.tile([0.0, 1.0, 2.0], (10, 1)))
    assert assign(offers, Bounds(budget_usd=0.0)).totals.by_model == {"m000": 10}


def test_too_high_an_accuracy_names_the_highest():
    offers = batch(40, 5)
    error = nearest(offers, Bounds(min_accuracy=0.999))
    assert error.bound == "min_accuracy"
    top = float(offers.p_correct.max(axis=1).mean())
    assert top * 0.999 <= error.nearest <= top
    assert assign(offers, Bounds(min_accuracy=error.nearest)).totals.goal == "cost"


def test_bounds_that_contradict_each_other_name_both_ways_out():
    offers = batch(60, 6, seed=1)
    low = assign(offers, Bounds(budget_usd=budget(offers, 0.05))).totals
    bounds = Bounds(budget_usd=low.spend_usd, min_accuracy=low.mean_p_correct + 0.05)
    error = nearest(offers, bounds)
    assert "budget_usd of at least" in str(error)
    assert "or min_accuracy of at most" in str(error)
    richer = replace(bounds, budget_usd=error.nearest)
    assert assign(offers, richer).totals.mean_p_correct >= bounds.min_accuracy


@pytest.mark.parametrize("bound", ["max_mean_latency_s", "max_p95_latency_s"])
def test_too_low_a_latency_names_the_lowest(bound):
    offers = batch(80, 5, seed=2)
    error = nearest(offers, Bounds(**{bound: 1e-6}))
    assert error.bound == bound
    assign(offers, Bounds(**{bound: error.nearest}))


def test_capacities_below_the_number_of_prompts_say_how_many_are_missing():
    error = nearest(batch(50, 4), Bounds(capacity={"*": Capacity(requests=10)}))
    assert (error.bound, error.value, error.nearest) == ("capacity", 40.0, 50.0)
    assert "raise them by 10 in all" in str(error)


def test_capacities_that_prompts_cannot_use_are_out_of_reach():
    """Room enough in all, but not in the only models that may take most prompts."""
    allowed = np.zeros((40, 4), dtype=bool)
    allowed[:, 0] = True
    allowed[:5] = True
    offers = batch(40, 4, allowed=allowed)
    error = nearest(offers, Bounds(capacity={"m000": Capacity(requests=20)}))
    assert error.bound == "capacity"
    assert error.nearest == pytest.approx(35 / 20, rel=0.01)


def test_token_capacities_that_are_too_small_are_out_of_reach():
    offers = batch(40, 3)
    least = float(offers.tokens.min(axis=1).sum())
    error = nearest(offers, Bounds(capacity={"*": Capacity(tokens=least / 10)}))
    assert error.bound == "capacity"
    assert error.nearest > 1


def test_three_bounds_none_of_which_alone_helps_are_all_told():
    offers = batch(60, 5, seed=3)
    error = nearest(offers, Bounds(budget_usd=1e-9, max_mean_latency_s=1e-6, min_accuracy=0.999))
    assert "each with the other bounds left out" in str(error)
    for name in ("budget_usd", "max_mean_latency_s", "min_accuracy"):
        assert name in str(error)
