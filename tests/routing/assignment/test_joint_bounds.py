from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.assignment.batches import batch, budget, keeps
from zerorouter.errors import InfeasibleError
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.exact import solve_exact
from zerorouter.routing.assignment.joint import _Layout, _smoothed, evaluate_dual, minimise_dual
from zerorouter.routing.assignment.offers import Bounds, Capacity
from zerorouter.routing.assignment.programme import Prices, Programme, Side
from zerorouter.routing.assignment.repair import repaired
from zerorouter.routing.assignment.solution import Unreachable


def programme(n, m, seed, share=0.2, latency=0.9, load=2.0, tokens=None) -> Programme:
    """A budget, a mean latency and capacities that all bite."""
    offers = batch(n, m, seed)
    best = assign(offers, Bounds(budget_usd=budget(offers, share)), exact=False)
    return Programme(
        gain=offers.p_correct,
        sides=(
            Side(name="budget_usd", amount=offers.cost_usd, limit=budget(offers, share)),
            Side(
                name="max_mean_latency_s",
                amount=offers.latency_s,
                limit=latency * float(best.latency_s.sum()),
            ),
        ),
        request_limit=np.full(m, np.ceil(load * n / m) + 1),
        tokens=offers.tokens if tokens else None,
        token_limit=np.full(m, tokens * float(offers.tokens.mean()) * n / m if tokens else np.inf),
    )


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(2, 7), st.integers(0, 10_000), st.booleans())
def test_highs_certifies_bound_and_repair(n, m, seed, with_tokens):
    pytest.importorskip("scipy")
    p = programme(n, m, seed, tokens=4.0 if with_tokens else None)
    dual = minimise_dual(p)
    try:
        best = solve_exact(p, most_nodes=None)
    except Unreachable:
        assert repaired(p, dual.prices, dual.choice) is None
        return
    assert not dual.impossible
    assert dual.bound >= best.objective - 1e-9
    found = repaired(p, dual.prices, dual.choice)
    if found is not None:
        assert p.keeps(found)
        assert p.value(found) <= best.bound + 1e-6


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 10_000))
def test_every_value_of_the_dual_is_a_bound(m, seed):
    p = programme(30, m + 1, seed)
    rng = np.random.default_rng(seed)
    best = minimise_dual(p)
    found = repaired(p, best.prices, best.choice)
    if found is None:
        return
    for _ in range(5):
        prices = Prices(
            sides=rng.exponential(best.prices.sides + 0.01),
            requests=rng.exponential(best.prices.requests + 0.01),
            tokens=np.zeros(m + 1),
        )
        assert evaluate_dual(p, prices).bound >= p.value(found) - 1e-9


def test_large_batches_come_within_a_millionth():
    p = programme(6_000, 12, 3, tokens=3.0)
    dual = minimise_dual(p)
    found = repaired(p, dual.prices, dual.choice)
    assert found is not None
    assert p.keeps(found)
    assert (dual.bound - p.value(found)) / dual.bound < 1e-5


def test_beyond_the_sample_the_bound_is_as_tight():
    p = programme(40_000, 6, 4)
    dual = minimise_dual(p)
    found = repaired(p, dual.prices, dual.choice)
    assert found is not None
    assert (dual.bound - p.value(found)) / dual.bound < 1e-5


def test_the_slope_and_curvature_of_the_smoothed_dual_are_its_derivatives():
    p = programme(200, 4, 5, tokens=2.0)
    layout = _Layout.of(p)
    theta = np.random.default_rng(0).exponential(0.1, layout.size)
    here = _smoothed(p, layout, theta, 0.1)
    for i in range(layout.size):
        step = np.zeros(layout.size)
        step[i] = 1e-5
        up, down = (_smoothed(p, layout, theta + s * step, 0.1) for s in (1, -1))
        assert (up.value - down.value) / 2e-5 == pytest.approx(here.slope[i], abs=1e-6)
        assert (up.slope - down.slope) / 2e-5 == pytest.approx(here.curvature[i], abs=1e-4)


def test_many_equal_prompts_are_spread_over_the_capacities():
    n = 3_000
    p = np.tile(np.array([0.9, 0.6, 0.5]), (n, 1))
    offers = batch(n, 3, p_correct=p, cost_usd=np.full((n, 3), 0.01))
    limits = {"m000": Capacity(requests=1000), "m001": Capacity(requests=500)}
    found = assign(offers, Bounds(capacity=limits))
    assert found.totals.by_model == {"m000": 1000, "m001": 500, "m002": 1500}
    assert found.totals.gap < 1e-9


def test_a_model_without_capacity_takes_nothing():
    offers = batch(50, 4, seed=2)
    found = assign(offers, Bounds(budget_usd=1e9, capacity={"m001": Capacity(requests=0)}))
    assert "m001" not in found.totals.by_model


@settings(max_examples=25)
@given(st.integers(3, 50), st.integers(2, 6), st.integers(0, 10_000), st.floats(0.02, 0.8))
def test_assignments_keep_every_bound_or_name_one_that_can_be_kept(n, m, seed, share):
    """Where bounds cannot be kept, the value that the error names works."""
    offers = batch(n, m, seed)
    bounds = Bounds(
        budget_usd=budget(offers, share),
        max_mean_latency_s=0.8 * float(offers.latency_s.min(axis=1).mean()) + 0.5,
        capacity={"*": Capacity(requests=max(n // m + 1, n // 2))},
    )
    error = None
    try:
        found = assign(offers, bounds)
    except InfeasibleError as caught:
        error = caught
    if error is not None:
        assert error.nearest is not None
        if error.bound == "capacity":
            return
        if "left out" in str(error):
            bounds = Bounds(**{error.bound: error.nearest})
        else:
            bounds = replace(bounds, **{error.bound: error.nearest})
        found = assign(offers, bounds)
    assert keeps(offers, bounds, found.choice)
    assert found.totals.objective <= found.totals.bound + 1e-9


def test_the_95th_percentile_is_kept_as_a_share_of_the_batch():
    """A few slow answers are allowed where they pay; a limit on each request would forbid them."""
    offers = batch(2_000, 8, seed=8)
    usd = budget(offers, 0.5)
    free = assign(offers, Bounds(budget_usd=usd))
    limit = 0.85 * free.totals.p95_latency_s
    found = assign(offers, Bounds(budget_usd=usd, max_p95_latency_s=limit))
    assert found.totals.p95_latency_s <= limit * (1 + 1e-5)
    assert found.totals.p95_latency_s > 0.98 * limit
    own = offers.latency_p95_s[np.arange(2_000), found.choice]
    assert (own > limit).any()
    each = replace(offers, allowed=offers.latency_p95_s <= limit)
    strict = assign(
        replace(each, allowed=each.allowed | ~each.allowed.any(axis=1)[:, None]),
        Bounds(budget_usd=usd),
    )
    assert found.totals.objective > strict.totals.objective


def test_the_95th_percentile_holds_for_drawn_latencies():
    offers = batch(3_000, 6, seed=9)
    free = assign(offers, Bounds(budget_usd=budget(offers, 0.4)))
    limit = 0.75 * free.totals.p95_latency_s
    found = assign(offers, Bounds(budget_usd=budget(offers, 0.4), max_p95_latency_s=limit))
    mean = offers.latency_s[np.arange(3_000), found.choice]
    tail = offers.latency_p95_s[np.arange(3_000), found.choice]
    rng = np.random.default_rng(0)
    # ln(p95 / mean) = z s - s^2 / 2
    z = 1.6448536269514722
    sd = z - np.sqrt(z**2 - 2 * np.log(tail / mean))
    drawn = mean * np.exp(sd * rng.standard_normal((200, 3_000)) - sd**2 / 2)
    assert np.quantile(drawn, 0.95) == pytest.approx(limit, rel=0.01)


def test_without_percentiles_of_its_own_a_latency_is_certain():
    offers = replace(batch(400, 5, seed=10), latency_p95_s=None)
    free = assign(offers, Bounds(budget_usd=budget(offers, 0.5)))
    limit = 0.8 * free.totals.p95_latency_s
    found = assign(offers, Bounds(budget_usd=budget(offers, 0.5), max_p95_latency_s=limit))
    assert np.mean(found.latency_s > limit) <= 0.05
    assert found.totals.p95_latency_s <= limit
