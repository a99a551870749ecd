from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.assignment.batches import batch, budget
from zerorouter.errors import InfeasibleError, InputError
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.jobs import Jobs, assign_jobs
from zerorouter.routing.assignment.offers import Bounds

chance = st.integers(0, 8).map(lambda k: k / 8)
cost = st.integers(0, 6).map(lambda k: k / 4)


@st.composite
def tiny(draw):
    """A few subtasks in one to three jobs, with ties and hopeless pairs."""
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    cells = draw(st.lists(st.tuples(chance, cost), min_size=n * m, max_size=n * m))
    table = np.array(cells).reshape(n, m, 2)
    offers = batch(n, m, p_correct=table[:, :, 0].copy(), cost_usd=table[:, :, 1].copy())
    of = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    jobs = Jobs.of(of, {g: 1.0 + g for g in set(of)})
    low = float(offers.cost_usd.min(axis=1).sum())
    high = float(offers.cost_usd.max(axis=1).sum())
    return offers, jobs, low + draw(st.floats(0, 1.1)) * (high - low)


def worth(offers, jobs, choice):
    p = offers.p_correct[np.arange(len(choice)), choice]
    success = [p[jobs.job == g].prod() for g in range(len(jobs.names))]
    return float(jobs.weight @ success)


def best_by_trying(offers, jobs, usd):
    rows = np.arange(offers.n_prompts)
    return max(
        worth(offers, jobs, np.array(choice))
        for choice in itertools.product(range(offers.n_models), repeat=offers.n_prompts)
        if offers.cost_usd[rows, list(choice)].sum() <= usd
    )


@given(tiny())
def test_the_best_choice_is_found_and_the_dual_bounds_it(case):
    offers, jobs, usd = case
    best = best_by_trying(offers, jobs, usd)
    found = assign_jobs(offers, jobs, budget_usd=usd)
    totals = found.assignment.totals
    assert totals.objective == pytest.approx(best, abs=1e-9)
    assert totals.objective == pytest.approx(worth(offers, jobs, found.assignment.choice))
    assert totals.spend_usd <= usd
    by_dual = assign_jobs(offers, jobs, budget_usd=usd, exact=False).assignment.totals
    assert by_dual.objective <= best + 1e-9 <= by_dual.bound + 2e-9


def test_many_jobs_come_within_a_millionth_of_the_bound():
    rng = np.random.default_rng(0)
    p = rng.random((3_000, 12)) ** 0.3
    offers = batch(3_000, 12, p_correct=p, cost_usd=np.exp(rng.normal(-5, 1, p.shape)) * p**3)
    jobs = Jobs.of([i % 600 for i in range(3_000)])
    usd = 3 * float(offers.cost_usd.min(axis=1).sum())
    found = assign_jobs(offers, jobs, budget_usd=usd)
    assert found.assignment.totals.gap < 1e-5
    assert found.success.sum() == pytest.approx(found.assignment.totals.objective)
    assert found.spend_usd.sum() == pytest.approx(found.assignment.totals.spend_usd)


def test_a_chain_is_as_strong_as_its_weakest_link():
    """Two subtasks of one job: the money goes where it multiplies most, not where p gains most."""
    p = np.array([[0.5, 0.7], [0.1, 0.25]])
    offers = batch(2, 2, p_correct=p, cost_usd=np.array([[0.0, 1.0], [0.0, 1.0]]))
    one = Jobs.of(["g", "g"])
    together = assign_jobs(offers, one, budget_usd=1.0).assignment
    assert together.choice.tolist() == [0, 1]
    assert assign(offers, Bounds(budget_usd=1.0)).choice.tolist() == [1, 0]


def test_a_job_that_nobody_can_do_gets_the_cheapest_models():
    p = np.array([[0.0, 0.0], [0.9, 0.95], [0.4, 0.9]])
    offers = batch(3, 2, p_correct=p, cost_usd=np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]))
    found = assign_jobs(offers, Jobs.of(["lost", "lost", "fine"]), budget_usd=6.0)
    assert found.assignment.choice.tolist() == [0, 0, 1]
    assert found.success.tolist() == pytest.approx([0.0, 0.9])


def test_a_single_long_job_has_a_tight_bound():
    rng = np.random.default_rng(1)
    p = rng.random((40, 15)) ** 0.2
    offers = batch(40, 15, p_correct=p, cost_usd=np.exp(rng.normal(-5, 1, p.shape)) * p**3)
    usd = 6 * float(offers.cost_usd.min(axis=1).sum())
    found = assign_jobs(offers, Jobs.of(["job"] * 40), budget_usd=usd, exact=False)
    assert found.assignment.totals.gap < 0.05


def test_too_small_a_budget_names_the_least():
    offers = batch(6, 3)
    least = float(offers.cost_usd.min(axis=1).sum())
    with pytest.raises(InfeasibleError) as caught:
        assign_jobs(offers, Jobs.of([0] * 6), budget_usd=least / 2)
    nearest = caught.value.nearest
    assert nearest == pytest.approx(least, rel=1e-3)
    assign_jobs(offers, Jobs.of([0] * 6), budget_usd=nearest)


def test_barred_models_are_never_chosen():
    offers = batch(8, 4, seed=1, allowed=np.tile([False, True, True, False], (8, 1)))
    found = assign_jobs(offers, Jobs.of([0] * 8), budget_usd=budget(offers, 0.5))
    assert set(found.assignment.choice.tolist()) <= {1, 2}


def test_jobs_are_checked():
    with pytest.raises(InputError, match="'other', which has no subtask"):
        Jobs.of(["a"], {"other": 1.0})
    with pytest.raises(InputError, match="weight"):
        Jobs.of(["a"], {"a": -1.0})
    with pytest.raises(InputError, match="2 prompts are in jobs and 3 are offered"):
        assign_jobs(batch(3, 2), Jobs.of([0, 0]), budget_usd=1.0)
