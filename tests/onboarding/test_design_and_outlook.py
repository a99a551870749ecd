"""Which anchors next, when to stop, what it costs, and what a placement means."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simulated_records import fitted_space
from zerorouter.errors import InputError
from zerorouter.irt.ability import AbilityPosterior, ability_posterior
from zerorouter.irt.anchors import expected_covariance
from zerorouter.irt.calibration import Convergence
from zerorouter.irt.model import Abilities, ItemParameters
from zerorouter.known_items import load_known_items
from zerorouter.onboarding.design import Candidates, StopRule, choose, expected_costs, quote
from zerorouter.onboarding.outlook import (
    EVERYTHING,
    FAR_MISFIT_SD,
    MISFIT_SD,
    Targets,
    accuracy_draws,
    outlook,
    predictive_sd,
    traffic_chance,
)
from zerorouter.predict.tokens import LengthPosterior

N, K = 200, 2


def candidates(seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    a = np.column_stack([1.0 + 0.3 * rng.standard_normal(N), 0.5 * rng.standard_normal(N)])
    return Candidates(
        refs=tuple(f"q{i}" for i in range(N)),
        items=ItemParameters.exact(a, 1.5 * rng.standard_normal(N)),
        strata=np.arange(N) % 4,
        domains=("law",) * N,
        input_tokens=np.full(N, 100.0),
        log_length=rng.normal(5.0, 0.7, N),
        keys=("",) * N,
    )


def posterior(sd: float = 1.0, mean: float = 0.0) -> AbilityPosterior:
    return AbilityPosterior(
        mean=np.array([mean, 0.0]),
        covariance=np.diag([sd**2, sd**2]),
        n_answers=0,
        status=Convergence.CONVERGED,
    )


LENGTHS = LengthPosterior(
    mean=np.array([0.2, 0.05, 0.0]),
    covariance=np.diag([0.09, 0.001, 0.001]),
    leanings=np.zeros(0),
    sd=0.5,
    pivot=5.0,
    n_outputs=0,
)


def targets(n: int = 100) -> Targets:
    own = candidates(1)
    return Targets(
        items=own.items.take(np.arange(n)),
        group=np.arange(n) % 2,
        groups=("law", "code"),
        log_length=own.log_length[:n],
        input_tokens=own.input_tokens[:n],
    )


# -- choice --------------------------------------------------------------------------------------


def test_items_that_tell_little_of_ability_are_never_chosen():
    own = candidates()
    weak = np.flatnonzero(~own.sound())
    a = own.items.discrimination.copy()
    a[:50, 0] = -0.5
    own = dataclasses.replace(own, items=ItemParameters.exact(a, own.items.intercept))
    chosen = choose(
        own,
        N,
        mean=np.zeros(K),
        covariance=np.eye(K),
        strategy="d_optimal",
        rng=np.random.default_rng(0),
        open_=np.ones(N, dtype=bool),
    )
    assert not set(chosen) & {*range(50), *weak.tolist()}


def test_prompts_are_chosen_by_what_their_text_tells():
    """Not by calibrated discriminations, whose largest are overestimated; those still rule out."""
    own = candidates()
    a = own.items.discrimination.copy()
    a[:20, 0] = 9.0  # calibrated by luck
    a[20:30, 0] = 0.01  # calibrated as telling nothing
    lucky = dataclasses.replace(
        own, items=ItemParameters.exact(a, own.items.intercept), as_read=own.items
    )
    told = {
        "mean": np.zeros(K),
        "covariance": np.eye(K),
        "strategy": "i_optimal",
        "rng": np.random.default_rng(0),
    }
    sound = lucky.sound()
    by_text = choose(lucky, 20, **told, open_=np.ones(N, dtype=bool))
    np.testing.assert_array_equal(by_text, choose(own, 20, **told, open_=sound))
    by_luck = choose(dataclasses.replace(lucky, as_read=None), 20, **told, open_=sound)
    assert len(set(by_luck) & set(range(20))) > len(set(by_text) & set(range(20)))


def test_after_twenty_anchors_every_other_one_is_drawn_at_random():
    own = candidates()
    told = {
        "mean": np.zeros(K),
        "covariance": np.eye(K),
        "strategy": "i_optimal",
        "open_": np.ones(N, dtype=bool),
    }

    def chosen(n: int, seed: int, asked: int = 0) -> list[int]:
        rng = np.random.default_rng(seed)
        return choose(own, n, **told, rng=rng, asked=asked).tolist()

    assert chosen(20, 0) == chosen(20, 1)
    first, second = chosen(60, 0), chosen(60, 1)
    assert first[:40] == second[:40]
    assert first[:20] == chosen(20, 0)
    assert set(first[40:]) != set(second[40:])
    assert len(set(first)) == 60
    assert chosen(8, 0, asked=40)[:4] == chosen(8, 1, asked=40)[:4] == first[:4]
    assert chosen(8, 0, asked=40)[4:] != chosen(8, 1, asked=40)[4:]


def test_what_was_asked_is_not_chosen_again():
    own = candidates()
    open_ = np.ones(N, dtype=bool)
    seen: set[int] = set()
    for _ in range(10):
        chosen = choose(
            own,
            8,
            mean=np.zeros(K),
            covariance=np.eye(K),
            strategy="i_optimal",
            rng=np.random.default_rng(0),
            open_=open_,
        )
        assert not seen & set(chosen.tolist())
        seen |= set(chosen.tolist())
        open_[chosen] = False


def test_dearer_prompts_have_to_tell_more():
    own = candidates()
    cost = np.where(np.arange(N) < N // 2, 1.0, 10.0)
    told = {
        "mean": np.zeros(K),
        "covariance": np.eye(K),
        "strategy": "d_optimal",
        "rng": np.random.default_rng(0),
        "open_": np.ones(N, dtype=bool),
    }
    free, priced = choose(own, 20, **told), choose(own, 20, **told, cost_usd=cost)
    assert cost[priced].sum() < cost[free].sum()
    information = [
        -np.linalg.slogdet(
            expected_covariance(
                own.items, chosen, prior_mean=np.zeros(K), prior_covariance=np.eye(K)
            )
        )[1]
        for chosen in (free, priced)
    ]
    assert information[1] / cost[priced].sum() > information[0] / cost[free].sum()


# -- stopping ------------------------------------------------------------------------------------


def test_stop_rules():
    rule = StopRule(target_sd=0.05, least_chance=0.05, most=40, fewest=10)
    assert rule.verdict(9, 0.01, 0.0) is None
    assert rule.verdict(10, 0.06, 0.5) is None
    assert "known to within 0.049" in rule.verdict(10, 0.049, 0.5)
    assert "any traffic is 4%" in rule.verdict(12, 0.2, 0.04)
    assert rule.verdict(12, 0.2, None) is None
    assert "the most that were allowed" in rule.verdict(40, 0.2, 0.9)


@pytest.mark.parametrize("wrong", [{"target_sd": 0.0}, {"target_sd": 1.0}, {"most": 0}])
def test_stop_rules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InputError):
        StopRule(**wrong)


# -- price ---------------------------------------------------------------------------------------


def test_a_quotes_interval_holds_what_simulated_models_cost():
    own = candidates()
    chosen = np.arange(50)
    difficulty = np.zeros(N)
    told = quote(
        own,
        chosen,
        LENGTHS,
        difficulty,
        input_usd=1e-6,
        output_usd=4e-6,
        max_tokens=10_000,
        worst_usd=9.0,
        rng=np.random.default_rng(0),
    )
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(2_000):
        offset = rng.normal(0.2, 0.3)
        tokens = np.exp(own.log_length[chosen] + offset + 0.5 * rng.standard_normal(50))
        entered = own.input_tokens[chosen].sum() * (1 + 0.25 * rng.standard_normal())
        drawn.append(tokens.sum() * 4e-6 + entered * 1e-6)
    costs = np.array(drawn)
    assert 0.87 < np.mean((told.usd_low <= costs) & (costs <= told.usd_high)) < 0.93
    assert told.usd == pytest.approx(np.mean(costs), rel=0.05)
    assert told.worst_usd == 9.0
    expected = expected_costs(
        own, LENGTHS, difficulty, input_usd=1e-6, output_usd=4e-6, max_tokens=10_000
    )
    assert expected[chosen].sum() == pytest.approx(told.usd, rel=0.1)


def test_a_limit_of_tokens_limits_the_quote():
    told = {
        "input_usd": 1e-6,
        "output_usd": 4e-6,
        "worst_usd": 1.0,
    }
    own, chosen = candidates(), np.arange(50)
    short = quote(
        own, chosen, LENGTHS, np.zeros(N), max_tokens=10, rng=np.random.default_rng(0), **told
    )
    assert short.usd_high < 50 * 10 * 4e-6 + 2 * 50 * 100 * 1e-6


def test_without_a_price_there_is_no_quote():
    told = quote(
        candidates(),
        np.arange(5),
        LENGTHS,
        np.zeros(N),
        input_usd=None,
        output_usd=None,
        max_tokens=10,
        worst_usd=None,
        rng=np.random.default_rng(0),
    )
    assert (told.n, told.usd, told.usd_low, told.usd_high) == (5, None, None, None)


# -- outlook -------------------------------------------------------------------------------------


def test_accuracy_is_expected_higher_and_surer_of_a_better_known_better_model():
    weak = outlook(
        posterior(0.6, -1.0), posterior(0.6, -1.0).as_abilities(), targets(), prior_sd=np.ones(K)
    )
    strong = outlook(
        posterior(0.1, 1.0), posterior(0.1, 1.0).as_abilities(), targets(), prior_sd=np.ones(K)
    )
    for kind in ("law", "code"):
        low, high = weak.expected_accuracy[kind], strong.expected_accuracy[kind]
        assert low[0] < high[0]
        assert low[2] - low[1] > high[2] - high[1]
        assert low[1] <= low[0] <= low[2]
    assert weak.on_probation
    assert not strong.on_probation
    assert strong.wide == ()
    assert outlook(
        posterior(0.9), posterior(0.9).as_abilities(), targets(), prior_sd=np.ones(K)
    ).wide == (0, 1)


def test_kinds_without_answers_have_wider_intervals():
    own = posterior(0.1)
    told = outlook(
        own, own.as_abilities(), targets(), prior_sd=np.ones(K), covered={"law": 20, "code": 2}
    ).expected_accuracy
    widths = {kind: high - low for kind, (_, low, high) in told.items()}
    assert widths["code"] > 1.5 * widths["law"]
    assert FAR_MISFIT_SD > MISFIT_SD


def test_the_interval_of_a_known_ability_is_that_of_the_misfit_alone():
    own = posterior(1e-6)
    draws = accuracy_draws(own, targets(), n=4_000).mean(axis=1)
    none = accuracy_draws(own, targets(), misfit_sd=np.zeros(2), n=50).mean(axis=1)
    assert np.std(none) < 1e-5
    assert 0.01 < np.std(draws) < 0.06


def test_rank_counts_the_models_that_are_better():
    pool = Abilities(
        mean=np.array([[2.0, 0.0], [0.5, 0.0], [-1.0, 0.0]], np.float32),
        covariance=np.tile(np.eye(K, dtype=np.float32) * 0.01, (3, 1, 1)),
    )
    own = posterior(0.1, 0.0)
    told = outlook(own, own.as_abilities(), targets(), prior_sd=np.ones(K), pool=pool)
    assert (told.rank, told.pool_size) == (3, 4)


def test_predictive_sd_is_that_of_draws_of_the_ability():
    """The delta method against sampling, at a width where it should hold."""
    own = posterior(0.3)
    p = accuracy_draws(own, targets(), misfit_sd=np.zeros(2), n=4_000)
    assert predictive_sd(own, targets().items) == pytest.approx(
        np.sqrt(np.mean(p.var(axis=0))), rel=0.07
    )


def test_the_chance_of_traffic_falls_with_the_price_and_rises_with_the_value():
    p = accuracy_draws(posterior(0.5), targets())
    best = np.full(100, 0.055)
    seconds = np.ones(100)

    def chance(cost: float, value: float = 0.1) -> float:
        return traffic_chance(
            p,
            np.full(100, cost),
            seconds,
            best,
            value_of_correct_usd=value,
            value_of_second_usd=0.0,
        )

    assert chance(0.0) == 1.0
    assert chance(10.0) == 0.0
    steps = [chance(cost) for cost in (0.0, 0.02, 0.04, 0.06, 0.1)]
    assert steps == sorted(steps, reverse=True)
    assert chance(0.05, value=1.0) > chance(0.05)


def test_more_anchors_narrow_the_outlook():
    own = candidates(3)
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-(own.items.discrimination[:, 0] + own.items.intercept)))
    scores = (rng.random(N) < p).astype(float)
    widths = []
    for n in (0, 20, 200):
        found = ability_posterior(
            own.items.take(np.arange(n)),
            scores[:n],
            prior_mean=np.zeros(K),
            prior_covariance=np.eye(K),
        )
        widths.append(predictive_sd(found, targets().items))
    assert widths[0] > widths[1] > widths[2]


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Over simulated newcomers who are as the model says: 90% of them, of either kind."""
    rng = np.random.default_rng(11)
    own = candidates(5)
    wanted = targets()
    held = []
    for _ in range(250):
        theta = rng.standard_normal(2)
        at = rng.permutation(N)[:30]
        p = 1 / (1 + np.exp(-(own.items.discrimination[at] @ theta + own.items.intercept[at])))
        scores = (rng.random(30) < p).astype(float)
        found = ability_posterior(
            own.items.take(at), scores, prior_mean=np.zeros(K), prior_covariance=np.eye(K)
        )
        truth = 1 / (1 + np.exp(-(wanted.items.discrimination @ theta + wanted.items.intercept)))
        draws = accuracy_draws(found, wanted, misfit_sd=np.zeros(2), n=300)
        for g in range(2):
            low, high = np.quantile(draws[:, wanted.group == g].mean(axis=1), [0.05, 0.95])
            held.append(low <= truth[wanted.group == g].mean() <= high)
    assert 0.85 < np.mean(held) < 0.95


def test_a_space_of_ones_own_has_one_group_of_targets():
    told = Targets.of_space(fitted_space(), load_known_items())
    assert told.groups == (EVERYTHING,)
    assert len(told) == 300


def test_the_targets_of_the_shipped_space_are_its_domains_and_always_the_same():
    from zerorouter.space import LatentSpace

    first = Targets.of_space(LatentSpace.load(), load_known_items())
    again = Targets.of_space(LatentSpace.load(), load_known_items())
    assert {"mathematics", "law", "code", "puzzles"} <= set(first.groups)
    np.testing.assert_array_equal(first.items.intercept, again.items.intercept)
    assert np.bincount(first.group).max() <= 100
