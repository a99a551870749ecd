from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.assignment.batches import batch, best_by_trying, budget, ends, one_budget
from zerorouter.routing.assignment import single
from zerorouter.routing.assignment.exact import solve_exact
from zerorouter.routing.assignment.joint import evaluate_dual
from zerorouter.routing.assignment.single import solve_single
from zerorouter.routing.assignment.solution import Unreachable

gains = st.integers(0, 8).map(lambda k: k / 8)
costs = st.integers(0, 6).map(lambda k: k / 4)


@st.composite
def tiny(draw):
    """A few prompts with values from a coarse grid, so that ties are common."""
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    cells = st.lists(st.tuples(gains, costs), min_size=n * m, max_size=n * m)
    table = np.array(draw(cells)).reshape(n, m, 2)
    share = draw(st.floats(0, 1.2))
    offers = batch(n, m, p_correct=table[:, :, 0].copy(), cost_usd=table[:, :, 1].copy())
    return one_budget(offers, budget(offers, share))


@given(tiny())
def test_the_choice_keeps_the_budget_and_no_choice_beats_the_bound(programme):
    best = best_by_trying(programme)
    if best == -np.inf:  # pragma: no cover  # budgets start at the least that works
        with pytest.raises(Unreachable):
            solve_single(programme)
        return
    found = solve_single(programme)
    assert programme.keeps(found.choice)
    assert found.objective == pytest.approx(programme.value(found.choice))
    assert found.objective <= best + 1e-12
    assert found.bound >= best - 1e-12


@given(tiny())
def test_what_is_lost_is_less_than_one_upgrade(programme):
    found = solve_single(programme)
    spread = programme.gain.max(axis=1) - programme.gain.min(axis=1)
    assert found.bound - found.objective <= spread.max() + 1e-9


@given(tiny())
def test_the_bound_is_a_value_of_the_dual(programme):
    found = solve_single(programme)
    assert evaluate_dual(programme, found.prices).bound == pytest.approx(found.bound, abs=1e-9)


def test_a_budget_for_the_best_everywhere_binds_nothing():
    offers = batch(200, 7)
    found = solve_single(one_budget(offers, ends(offers)[1] * 1.01))
    assert np.array_equal(found.choice, offers.p_correct.argmax(axis=1))
    assert found.gap < 1e-11
    assert found.prices.sides[0] == 0


def test_without_a_bound_equals_are_told_apart_by_cost():
    p = np.array([[0.5, 0.5, 0.4]])
    offers = batch(1, 3, p_correct=p, cost_usd=np.array([[3.0, 2.0, 1.0]]))
    assert solve_single(one_budget(offers, np.inf)).choice.tolist() == [1]


def test_the_least_budget_is_enough_and_a_cent_less_is_not():
    offers = batch(300, 9)
    least, _ = ends(offers)
    found = solve_single(one_budget(offers, least))
    assert np.array_equal(found.choice, offers.cost_usd.argmin(axis=1))
    with pytest.raises(Unreachable) as caught:
        solve_single(one_budget(offers, least * 0.999))
    assert caught.value.proven


def test_a_larger_budget_never_gains_less():
    offers = batch(150, 6, seed=3)
    found = [solve_single(one_budget(offers, budget(offers, s))) for s in np.linspace(0, 1, 40)]
    bounds = [f.bound for f in found]
    assert bounds == sorted(bounds)
    for smaller, larger in pairwise(found):
        assert larger.bound >= smaller.objective


@pytest.mark.parametrize("share", [0.0005, 0.02, 0.3, 0.9, 0.9999])
def test_large_tables_in_single_precision_agree_with_double(share):
    """The bracket, the cuts and the allowance for rounding; ten thousand times the sample's size
    would take too long here, so the sample is small."""
    offers = batch(9_000, 12, seed=4)
    usd = budget(offers, share)
    p32, c32 = offers.p_correct.astype(np.float32), offers.cost_usd.astype(np.float32)
    small = one_budget(
        batch(9_000, 12, cost_usd=c32.astype(float), p_correct=p32.astype(float)), usd
    )
    fast = one_budget(
        batch(9_000, 12, cost_usd=c32, p_correct=p32), usd, gain=p32, largest_gain=1.0
    )
    slow, quick = solve_single(small), solve_single(fast)
    assert fast.keeps(quick.choice)
    assert quick.gap < 2e-5
    assert quick.objective == pytest.approx(slow.objective, rel=5e-6)
    assert quick.bound >= slow.objective
    assert quick.bound >= slow.bound - 1e-6 * slow.bound


def test_a_sample_that_misleads_is_made_up_for(monkeypatch):
    """One prompt in a thousand takes nearly all of the money, and the sample has none of them."""
    monkeypatch.setattr(single, "SAMPLE", 64)
    offers = batch(20_000, 6, seed=5)
    cost = offers.cost_usd.copy()
    cost[::1000] *= 1e5
    p32, c32 = offers.p_correct.astype(np.float32), cost.astype(np.float32)
    heavy = batch(20_000, 6, cost_usd=c32, p_correct=p32)
    for share in (1e-7, 1e-3, 0.5):
        programme = one_budget(heavy, budget(heavy, share), largest_gain=1.0)
        found = solve_single(programme)
        assert programme.keeps(found.choice)
        assert found.gap < 1e-3


def test_prompts_that_are_all_alike_are_split_at_the_multiplier():
    n = 10_000
    p = np.tile(np.array([0.5, 0.9], dtype=np.float32), (n, 1))
    c = np.tile(np.array([1.0, 2.0], dtype=np.float32), (n, 1))
    programme = one_budget(batch(n, 2, p_correct=p, cost_usd=c), 1.25 * n, largest_gain=1.0)
    found = solve_single(programme)
    assert int(found.choice.sum()) == n // 4
    assert found.gap < 1e-5


def test_barred_pairs_are_never_chosen():
    offers = batch(400, 6, seed=6)
    allowed = np.random.default_rng(0).random((400, 6)) < 0.5
    allowed[np.arange(400), np.random.default_rng(1).integers(0, 6, 400)] = True
    cost = np.where(allowed, offers.cost_usd, np.nan)  # where barred, nothing need be known
    p = np.where(allowed, offers.p_correct, np.nan)
    masked = batch(400, 6, seed=6, allowed=allowed, cost_usd=cost, p_correct=p)
    least = float(np.nanmin(cost, axis=1).sum())
    for usd in (least * 1.0001, least * 3, least * 1e3):
        found = solve_single(one_budget(masked, usd))
        assert allowed[np.arange(400), found.choice].all()
        assert np.isfinite(found.objective)
        assert found.gap < 0.01


def test_the_same_input_gives_the_same_choice():
    offers = batch(9_000, 8, seed=7)
    p32, c32 = offers.p_correct.astype(np.float32), offers.cost_usd.astype(np.float32)
    programme = one_budget(
        batch(9_000, 8, p_correct=p32, cost_usd=c32), budget(offers, 0.2), largest_gain=1.0
    )
    assert np.array_equal(solve_single(programme).choice, solve_single(programme).choice)


# -- HiGHS as the certificate ------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 10_000), st.floats(0, 1))
def test_highs_certifies_small_instances(n, m, seed, share):
    pytest.importorskip("scipy")
    offers = batch(n, m, seed=seed)
    programme = one_budget(offers, budget(offers, share))
    found = solve_single(programme)
    best = solve_exact(programme, most_nodes=None)  # all pairs, nothing handed over
    assert best.exact
    assert found.objective <= best.bound + 1e-6
    assert found.bound >= best.objective - 1e-9
    probed = solve_exact(programme, incumbent=found)  # pairs left out by probing
    assert probed.objective == pytest.approx(best.objective, rel=2e-6)
    assert programme.keeps(probed.choice)


def test_a_hundred_prompts_by_twenty_models_are_solved_to_the_end():
    pytest.importorskip("scipy")
    offers = batch(100, 20, seed=11)
    programme = one_budget(offers, budget(offers, 0.1))
    found = solve_single(programme)
    best = solve_exact(programme, incumbent=found)
    assert best.exact
    assert best.bound <= found.bound
    assert best.objective >= found.objective
    assert programme.keeps(best.choice)
