from __future__ import annotations

import numpy as np
import pytest

from zerorouter.errors import InputError, UnknownNameError
from zerorouter.irt.ability import ability_posterior, item_information
from zerorouter.irt.anchors import (
    STRATEGIES,
    expected_covariance,
    log_det_information,
    predictive_variance,
    select_anchors,
)
from zerorouter.irt.model import ItemParameters

OPTIMAL = ("d_optimal", "i_optimal")


def bank(seed, n=60, k=3, *, guessing=0.0, vague=False):
    rng = np.random.default_rng(seed)
    items = ItemParameters(
        discrimination=rng.normal(0.3, 1, (n, k)).astype(np.float32),
        intercept=rng.normal(0, 1.5, n).astype(np.float32),
        guessing=np.full(n, guessing, dtype=np.float32),
        effect_scale=(rng.random(n) if vague else np.zeros(n)).astype(np.float32),
        shift_variance=np.zeros(n, dtype=np.float32),
        effect_covariance=np.eye(k + 1, dtype=np.float32),
    )
    root = rng.standard_normal((k, k)) / 2
    prior = {
        "prior_mean": rng.normal(0, 0.5, k),
        "prior_covariance": root @ root.T + 0.5 * np.eye(k),
    }
    return items, prior


def select(items, n, prior, strategy, seed=0, **others):
    return select_anchors(
        items, n, strategy=strategy, rng=np.random.default_rng(seed), **prior, **others
    )


def value(items, chosen, prior, strategy, targets=None):
    """The criterion that a strategy pushes up."""
    if strategy == "d_optimal":
        return log_det_information(items, chosen, prior["prior_mean"], prior["prior_covariance"])
    return -float(np.mean(predictive_variance(targets or items, items, chosen, **prior)))


def brute_force(items, n, prior, strategy, cost, targets=None):
    chosen: list[int] = []
    for _ in range(n):
        now = value(items, np.array(chosen, dtype=int), prior, strategy, targets)
        gains = [
            -np.inf
            if i in chosen
            else (value(items, np.array([*chosen, i]), prior, strategy, targets) - now) / cost[i]
            for i in range(items.n_items)
        ]
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize("strategy", OPTIMAL)
@pytest.mark.parametrize("guessing", [0.0, 0.25])
@pytest.mark.parametrize("priced", [False, True])
def test_fast_updates_choose_what_trying_every_item_chooses(strategy, guessing, priced):
    items, prior = bank(1, guessing=guessing, vague=True)
    cost = np.random.default_rng(2).uniform(0.1, 3, items.n_items) if priced else None
    found = select(items, 12, prior, strategy, cost=cost)
    wanted = brute_force(items, 12, prior, strategy, np.ones(60) if cost is None else cost)
    assert found.tolist() == wanted


def test_chosen_targets_steer_i_optimal_anchors_and_nothing_else_does():
    items, prior = bank(3, n=40)
    targets, _ = bank(4, n=25)
    along = ItemParameters.exact(targets.discrimination * [1, 0.01, 0.01], targets.intercept)
    found = select(items, 8, prior, "i_optimal", targets=along)
    wanted = brute_force(items, 8, prior, "i_optimal", np.ones(40), along)
    assert found.tolist() == wanted
    common = select(items, 8, prior, "i_optimal")
    assert value(items, found, prior, "i_optimal", along) > value(
        items, common, prior, "i_optimal", along
    )


@pytest.mark.parametrize("strategy", OPTIMAL)
def test_greedy_anchors_are_worth_more_than_random_ones(strategy):
    for seed in range(5):
        items, prior = bank(seed, n=300, k=4)
        best = value(items, select(items, 20, prior, strategy), prior, strategy)
        random = [
            value(items, select(items, 20, prior, "random", seed=draw), prior, strategy)
            for draw in range(20)
        ]
        assert best > max(random)


@pytest.mark.parametrize("strategy", OPTIMAL)
def test_every_anchor_adds_and_each_adds_less_than_the_last_in_log_det(strategy):
    items, prior = bank(5)
    order = select(items, 60, prior, strategy)
    along = [value(items, order[:i], prior, "d_optimal") for i in range(61)]
    gains = np.diff(along)
    assert (gains >= 0).all()
    if strategy == "d_optimal":
        assert (np.diff(gains) <= 1e-9).all()
    spread = [value(items, order[:i], prior, "i_optimal") for i in range(61)]
    assert (np.diff(spread) >= 0).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_chosen_twice_and_ineligible_items_never(strategy):
    items, prior = bank(6)
    eligible = np.random.default_rng(0).random(60) < 0.7
    strata = np.arange(60) % 4
    n = int(eligible.sum())
    found = select(items, n, prior, strategy, eligible=eligible, strata=strata)
    assert sorted(found.tolist()) == np.flatnonzero(eligible).tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_more_anchors_than_exist_are_refused_with_both_numbers(strategy):
    items, prior = bank(7)
    with pytest.raises(InputError, match=r"61 anchors .* 60 eligible"):
        select(items, 61, prior, strategy, strata=np.zeros(60, dtype=int))
    with pytest.raises(InputError, match=r"-1 anchors"):
        select(items, -1, prior, strategy, strata=np.zeros(60, dtype=int))
    assert len(select(items, 0, prior, strategy, strata=np.zeros(60, dtype=int))) == 0


@pytest.mark.parametrize("strategy", OPTIMAL)
def test_the_order_of_the_candidates_does_not_matter(strategy):
    items, prior = bank(8, n=200)
    shuffled = np.random.default_rng(1).permutation(200)
    plain = select(items, 25, prior, strategy)
    turned = select(items.take(shuffled), 25, prior, strategy)
    assert shuffled[turned].tolist() == plain.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_generator_gives_the_same_anchors_and_a_shorter_list_is_a_prefix(strategy):
    items, prior = bank(9)
    strata = np.arange(60) % 3
    full = select(items, 30, prior, strategy, strata=strata)
    assert select(items, 30, prior, strategy, strata=strata).tolist() == full.tolist()
    assert select(items, 10, prior, strategy, strata=strata).tolist() == full[:10].tolist()


@pytest.mark.parametrize("strategy", OPTIMAL)
def test_only_ratios_of_prices_matter_and_dear_items_are_avoided(strategy):
    items, prior = bank(10)
    cost = np.random.default_rng(3).uniform(0.5, 2, 60)
    plain = select(items, 20, prior, strategy, cost=cost)
    assert select(items, 20, prior, strategy, cost=cost * 37.3).tolist() == plain.tolist()
    free_choice = select(items, 20, prior, strategy)
    assert cost[plain].mean() < cost[free_choice].mean()
    flat = select(items, 20, prior, strategy, cost=np.full(60, 0.02))
    assert flat.tolist() == free_choice.tolist()


def test_the_frame_of_the_latent_space_does_not_matter():
    items, prior = bank(11)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    turned = ItemParameters.exact(items.discrimination @ turn, items.intercept)
    frame = {
        "prior_mean": prior["prior_mean"] @ turn,
        "prior_covariance": turn.T @ prior["prior_covariance"] @ turn,
    }
    for strategy in OPTIMAL:
        plain = select(items, 15, prior, strategy)
        assert select(turned, 15, frame, strategy).tolist() == plain.tolist()


def test_every_prefix_of_a_stratified_set_is_in_proportion():
    items, prior = bank(12, n=200)
    strata = np.repeat([0, 1, 2], [100, 60, 40])
    order = select(items, 200, prior, "stratified", strata=strata)
    for n in range(1, 201):
        counts = np.bincount(strata[order[:n]], minlength=3)
        assert (np.abs(counts - n * np.array([0.5, 0.3, 0.2])) <= 2).all()
    with pytest.raises(InputError, match="need strata"):
        select(items, 5, prior, "stratified")


def test_information_at_a_point_is_that_of_the_ability_module():
    items, prior = bank(13, guessing=0.2)
    theta, covariance = prior["prior_mean"], prior["prior_covariance"]
    chosen = np.array([3, 1, 4, 15])
    precision = np.linalg.inv(covariance) + item_information(items.take(chosen), theta).sum(axis=0)
    found = log_det_information(items, chosen, theta, covariance, averaged=False)
    assert found == pytest.approx(np.linalg.slogdet(precision)[1])


def test_quadrature_agrees_with_averaging_over_many_abilities():
    items, prior = bank(14, n=5)
    draws = np.random.default_rng(0).multivariate_normal(
        prior["prior_mean"], prior["prior_covariance"], size=20_000
    )
    mean = np.mean([item_information(items, theta) for theta in draws], axis=0).sum(axis=0)
    precision = np.linalg.inv(prior["prior_covariance"])
    found = np.linalg.inv(expected_covariance(items, np.arange(5), **prior)) - precision
    np.testing.assert_allclose(found, mean, atol=0.02)


def test_anchors_are_credited_with_what_the_ability_posterior_makes_of_them():
    items, prior = bank(15, vague=True)
    chosen = select(items, 10, prior, "d_optimal")
    tight = {**prior, "prior_covariance": prior["prior_covariance"] * 1e-6}
    found = ability_posterior(items.take(chosen), np.full(10, 0.5), **tight)
    expected = expected_covariance(items, chosen, **tight)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-6)


def test_predictive_variance_is_the_spread_of_p_under_a_narrow_ability():
    items, prior = bank(16, guessing=0.25)
    narrow = {**prior, "prior_covariance": prior["prior_covariance"] * 1e-3}
    draws = np.random.default_rng(0).multivariate_normal(
        narrow["prior_mean"], narrow["prior_covariance"], size=20_000
    )
    logit = draws @ items.discrimination.T + items.intercept
    p = 0.25 + 0.75 / (1 + np.exp(-logit))
    found = predictive_variance(items, items, np.array([], dtype=int), **narrow)
    np.testing.assert_allclose(found, p.var(axis=0), rtol=0.06)


def test_vague_items_are_chosen_last():
    exact, prior = bank(17)
    vague = ItemParameters(
        discrimination=exact.discrimination,
        intercept=exact.intercept,
        guessing=exact.guessing,
        effect_scale=np.repeat([0.0, 50.0], 30).astype(np.float32),
        shift_variance=exact.shift_variance,
        effect_covariance=exact.effect_covariance,
    )
    for strategy in OPTIMAL:
        assert (select(vague, 10, prior, strategy) < 30).sum() >= 9


def test_what_cannot_be_used_is_named():
    items, prior = bank(18)
    with pytest.raises(UnknownNameError, match="did you mean 'd_optimal'"):
        select(items, 5, prior, "d-optimal")
    with pytest.raises(InputError, match="item 2 costs nan"):
        select(items, 5, prior, "d_optimal", cost=np.where(np.arange(60) == 2, np.nan, 1.0))
    with pytest.raises(InputError, match="items of 3 dimensions"):
        select(items, 5, {"prior_mean": np.zeros(2), "prior_covariance": np.eye(2)}, "d_optimal")
    with pytest.raises(InputError, match="mask of 60"):
        select(items, 5, prior, "random", eligible=np.ones(59, dtype=bool))
