from __future__ import annotations

import numpy as np
import pytest

from zerorouter.evaluation.batches import assigned
from zerorouter.evaluation.blocks import Block
from zerorouter.evaluation.coverage import LEAST, N_GROUPS, covered, prompt_groups, shares


def answers(seed: int, m: int = 8, n: int = 4000):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.2, 0.9, (m, n))
    return p, (rng.random((m, n)) < p).astype(float), rng.integers(0, N_GROUPS, n)


def test_intervals_of_no_width_hold_as_often_as_chance_allows_when_the_forecast_is_right():
    p, y, groups = answers(0, m=40)
    held = covered(p, p, p, y, groups)
    assert held.shape == (40, N_GROUPS)
    assert np.nanmean(held) == pytest.approx(0.90, abs=0.04)


def test_forecasts_that_are_off_are_held_only_by_intervals_as_wide():
    p, y, groups = answers(1)
    off = p - 0.15
    assert np.nanmean(covered(off, off, off, y, groups)) < 0.1
    assert np.nanmean(covered(off, off - 0.2, off + 0.2, y, groups)) > 0.9


def test_groups_with_few_answers_are_not_judged():
    p, y, groups = answers(2)
    few = np.flatnonzero(groups == 3)[LEAST - 1 :]
    y[:, few] = np.nan
    held = covered(p, p, p, y, groups)
    assert np.isnan(held[:, 3]).all()
    assert not np.isnan(np.delete(held, 3, axis=1)).any()


def test_the_share_that_held_comes_with_replicates_over_groups():
    held = np.array([[1.0, 0.0, np.nan, 1.0]] * 3)
    found = shares(held, 500)
    assert found[0] == pytest.approx(2 / 3)
    assert 0.3 < np.nanmean(found[1:]) < 0.9
    assert np.isnan(shares(np.full((2, 4), np.nan), 5)[0])


def test_prompts_are_grouped_with_their_like():
    rng = np.random.default_rng(3)
    embedding = np.repeat(np.eye(N_GROUPS), 30, axis=0) + 0.01 * rng.standard_normal((300, 10))
    groups = prompt_groups(embedding).reshape(N_GROUPS, 30)
    assert (groups == groups[:, :1]).all()
    assert len(np.unique(groups)) == N_GROUPS


def block(seed: int, n: int = 300, m: int = 4):
    rng = np.random.default_rng(seed)
    ability = np.linspace(0.4, 0.9, m)
    p = np.clip(ability + 0.2 * rng.standard_normal((n, 1)), 0.05, 0.95)
    cost = np.array([1.0, 2.0, 5.0, 10.0])[:m] * rng.lognormal(0, 0.3, (n, m))
    scores = (rng.random((n, m)) < p).astype(float)
    made = Block(columns=np.arange(m), rows=np.arange(n), scores=scores.T, cost=cost.T)
    return made, p, cost


def test_a_budget_that_true_costs_keep_is_not_overspent():
    made, p, cost = block(0)
    batch = assigned(made, p, cost, 0.4)
    assert batch is not None
    assert batch.cost.mean() <= batch.budget * (1 + 1e-9)
    assert batch.violations(np.ones((1, len(p))))[0] == 0
    assert 0 <= batch.gap < 0.01


def test_costs_forecast_too_low_overspend_by_as_much():
    made, p, cost = block(1)
    batch = assigned(made, p, 0.5 * cost, 0.3)
    assert batch is not None
    assert batch.violations(np.ones((1, len(p))))[0] == pytest.approx(1.0, abs=0.1)


def test_models_of_unknown_cost_take_nothing_and_hopeless_budgets_give_nothing():
    made, p, cost = block(2)
    unknown = cost.copy()
    unknown[:, 3] = np.nan
    batch = assigned(made, p, unknown, 0.5)
    assert batch is not None
    assert not np.isin(np.round(batch.cost, 9), np.round(cost[:, 3], 9)).any()
    assert assigned(made, p, cost, 1e-6) is None
