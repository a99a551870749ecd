from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.data.reading import read_folder
from zerorouter.errors import InputError, UnknownNameError
from zerorouter.fitting import as_requests
from zerorouter.router import Router
from zerorouter.routing.policy import (
    BEST,
    CHEAPEST,
    PAPER_WEIGHTS,
    POLICIES,
    POOL_SCALE,
    Policy,
    PoolScale,
    find_policy,
    paper_policies,
    policy_for_bounds,
    weighted,
)


def test_the_presets_are_the_documented_numbers():
    dollars = ("quality", "balanced", "cost", "latency")
    numbers = {
        n: (POLICIES[n].value_of_correct_usd, POLICIES[n].value_of_second_usd) for n in dollars
    }
    assert numbers == {
        "quality": (10.0, 0.0),
        "balanced": (0.1, 0.0001),
        "cost": (0.005, 0.0),
        "latency": (0.1, 0.01),
    }
    assert set(POLICIES) == {*dollars, *PAPER_WEIGHTS, "cheapest", "best"}
    assert not any(policy.has_bounds for policy in POLICIES.values())


@pytest.mark.parametrize("name", POLICIES)
def test_the_table_of_the_documentation_has_every_preset(name):
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    assert f"| `{name}`" in page


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
        {"max_p95_latency_s": -1},
        {"confidence": 0.4},
        {"confidence": 1.0},
        {"confidence": True},
        {"objective": "speed"},
        {"scalarisation": "product"},
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


# -- constraint mode -------------------------------------------------------------------------------


def test_bounds_alone_ask_for_the_cheapest_or_the_best():
    usual = POLICIES["balanced"]

    def chosen(**bounds):
        return policy_for_bounds(usual, **{"min_accuracy": None, "max_cost_usd": None, **bounds})

    assert chosen(min_accuracy=0.8) is CHEAPEST
    assert chosen(min_accuracy=0.8, max_cost_usd=1.0) is CHEAPEST
    assert chosen(max_cost_usd=1.0) is BEST
    assert chosen() is usual


def test_what_weighs_nothing_cannot_be_scalarised():
    with pytest.raises(InputError, match="weighs nothing"):
        Policy(objective="cost", scalarisation="chebyshev")


def test_only_the_best_whatever_it_costs_does_without_prices():
    assert not BEST.needs_prices
    assert BEST.bounded(max_cost_usd=1.0).needs_prices
    assert CHEAPEST.needs_prices
    assert Policy().needs_prices


# -- the paper's weights ---------------------------------------------------------------------------

spread = st.floats(1e-4, 1e4)
weight = st.floats(0.01, 1.0)


@given(
    st.tuples(weight, weight, weight),
    st.builds(PoolScale, p_correct=spread, cost_usd=spread, latency_s=spread),
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 10), st.floats(0, 100)), min_size=2, max_size=6
    ),
)
def test_weights_rank_as_the_dollars_they_are_turned_into(weights, scale, rows):
    policy = weighted("mine", weights, scale)
    terms = np.array(rows) / [scale.p_correct, scale.cost_usd, scale.latency_s]
    by_weights = terms @ (np.array(weights) * [1, -1, -1])
    by_dollars = np.array(rows) @ [policy.value_of_correct_usd, -1, -policy.value_of_second_usd]
    np.testing.assert_allclose(
        by_dollars * weights[1] / scale.cost_usd, by_weights, rtol=1e-9, atol=1e-9
    )


def test_the_papers_presets_put_most_weight_where_their_names_say():
    found = paper_policies(PoolScale(p_correct=0.5, cost_usd=0.01, latency_s=10.0))
    accuracy, cost, latency = (found[name] for name in PAPER_WEIGHTS)
    assert accuracy.value_of_correct_usd == pytest.approx(8 * 0.01 / 0.5)
    assert cost.value_of_correct_usd == pytest.approx(0.125 * 0.01 / 0.5)
    assert latency.value_of_second_usd == pytest.approx(8 * 0.01 / 10.0)
    assert POLICIES["paper_max_acc"] == paper_policies()["paper_max_acc"]


def test_one_odd_model_hardly_moves_the_scale_of_a_pool():
    rng = np.random.default_rng(0)
    p, cost, latency = rng.random((3, 200, 40))
    plain = PoolScale.of(p, cost, latency)
    cost[:, 0] = 1e6
    odd = PoolScale.of(p, cost, latency)
    assert odd.cost_usd == pytest.approx(plain.cost_usd, rel=0.1)
    cost[:, 1] = np.nan  # without a price: no part of the pool
    assert PoolScale.of(p, cost, latency).cost_usd == pytest.approx(plain.cost_usd, rel=0.1)


def test_a_pool_without_spread_or_prices_has_no_scale():
    flat = np.ones((3, 4))
    with pytest.raises(InputError, match="a spread above 0"):
        PoolScale.of(flat, flat, flat)
    with pytest.raises(InputError, match="at least 2 to compare"):
        PoolScale.of(flat, np.full((3, 4), np.nan), flat)


def test_weights_need_one_on_cost_to_become_dollars():
    with pytest.raises(InputError, match="that on cost above 0"):
        weighted("free", (1.0, 0.0, 0.0))


@pytest.mark.data
def test_the_shipped_scale_is_still_about_that_of_the_shipped_pool(records_dir):
    requests = []
    for name in ("mmlu-pro", "zeroeval", "alpaca-eval"):
        read = as_requests(read_folder(records_dir / name).prompts, 0)
        requests += read[:: max(len(read) // 150, 1)]
    table = Router.load().estimates(requests)
    found = PoolScale.of(table.p_correct, table.cost_usd, table.latency_s)
    for field in ("p_correct", "cost_usd", "latency_s"):
        ratio = getattr(found, field) / getattr(POOL_SCALE, field)
        assert 1 / 1.6 < ratio < 1.6, (field, ratio)
