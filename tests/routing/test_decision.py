from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing.tables import NAMES, decide, estimates, weigh
from zerorouter.routing.choice import utilities, within_bounds
from zerorouter.routing.decision import _bound_flips, _price_flips, nearest_flip
from zerorouter.routing.policy import BEST, CHEAPEST, Policy

KEYS = [  # DESIGN 2.5: never to be renamed or removed
    *("decision_id", "model", "policy", "p_correct", "p_correct_low", "p_correct_high"),
    *("cost_usd", "latency_s", "difficulty", "domain", "requirements", "support", "fallbacks"),
    *("excluded", "candidates", "reasons", "counterfactual", "space_version"),
]
LATER = ["latency_p50_s", "latency_p95_s"]  # added since
OFFERS = estimates([0.6, 0.9, 0.8], [0.001, 0.1, 0.01], [1.0, 9.0, 2.0])
BALANCED = Policy(name="mine", value_of_correct_usd=0.1)


def test_its_json_has_the_documented_keys_in_the_documented_order():
    told = decide(OFFERS, BALANCED).to_dict()
    assert list(told) == KEYS + LATER
    assert list(told["candidates"][0]) == ["model", "p_correct", "cost_usd", "latency_s", "utility"]
    bounded = decide(OFFERS, dataclasses.replace(BALANCED, max_cost_usd=0.05)).to_dict()
    assert list(bounded["excluded"][0]) == ["model", "reason"]


def test_fallbacks_are_the_other_candidates_best_first():
    decision = decide(OFFERS, BALANCED)
    ranked = sorted(decision.candidates, key=lambda c: -c.utility)
    assert [c.model for c in decision.candidates] == [c.model for c in ranked]
    assert (decision.model, *decision.fallbacks) == tuple(c.model for c in ranked)


def test_models_outside_the_bounds_are_no_fallbacks_and_say_which_bound():
    policy = Policy(value_of_correct_usd=1.0, min_accuracy=0.7, max_cost_usd=0.05)
    decision = decide(OFFERS, policy)
    assert (decision.model, decision.fallbacks) == ("cyd", ())
    reasons = {x.model: x.reason for x in decision.excluded}
    assert reasons == {
        "ada": "P(correct) 0.60 is below 0.7",
        "bob": "costs $0.10, above $0.050",
    }
    slow = decide(OFFERS, Policy(value_of_correct_usd=1.0, max_latency_s=5.0))
    assert {x.model: x.reason for x in slow.excluded} == {"bob": "takes 9.0 s, above 5 s"}


def test_reasons_compare_with_the_strongest_model():
    told = decide(OFFERS, BALANCED).reasons
    assert told[0].startswith("cyd has the largest utility under 'mine': 80% likely to be right")
    assert "bob would be right 10.0 points more often and cost $0.10, 10.0 times as much" in told
    strongest = decide(OFFERS, Policy(value_of_correct_usd=100.0))
    assert "no allowed model is more likely to be right" in strongest.reasons


def test_reasons_tell_requirements_and_low_support_only_where_there_are_any():
    plain = " ".join(decide(OFFERS, BALANCED).reasons)
    assert "needs" not in plain
    assert "unlike" not in plain
    told = " ".join(decide(OFFERS, BALANCED, requirements=("vision",), support=0.01).reasons)
    assert "needs vision" in told
    assert "unlike most calibrated prompts (support 0.01)" in told


# -- the counterfactual ---------------------------------------------------------------------------

offers = st.lists(
    st.tuples(st.floats(1 / 64, 63 / 64, width=32), st.floats(0.0001, 1), st.floats(0, 50)),
    min_size=2,
    max_size=len(NAMES),
    unique_by=(lambda row: row[0], lambda row: row[1]),
)


def flipped(table, policy, flip, nudge=1e-6):
    """The choice once the told change is made and a little more."""
    if flip.cost_share is not None:
        cost = table.cost_usd.copy()
        cost[0, table.models.index(flip.model)] *= flip.cost_share * (1 - nudge)
        table = dataclasses.replace(table, cost_usd=cost)
    else:
        up = flip.value_of_correct_usd > policy.value_of_correct_usd
        value = flip.value_of_correct_usd * (1 + nudge if up else 1 - nudge)
        policy = dataclasses.replace(policy, value_of_correct_usd=value)
    return table.models[weigh(table, policy).chosen]


@given(offers, st.floats(0.001, 10), st.floats(0, 0.01))
def test_making_the_told_change_flips_the_choice_to_the_told_model(rows, value, second):
    p, cost, latency = zip(*rows, strict=True)
    table = estimates(p, cost, list(latency))
    policy = Policy(value_of_correct_usd=value, value_of_second_usd=second)
    weighing = weigh(table, policy)
    ranked = weighing.utility[weighing.order]
    assume(ranked[0] - ranked[1] > 1e-6)
    flip = nearest_flip(weighing)
    assume(flip is not None and flip.size < 20)
    changed = flipped(table, policy, flip)
    assert changed != table.models[weighing.chosen]
    rival, j = table.models.index(flip.model), table.models.index(changed)
    # Rivals that draw level within the nudge are equally good news.
    assert changed == flip.model or abs(p[rival] - p[j]) < 1e-3 or abs(cost[rival] - cost[j]) < 1e-3


@given(offers, st.floats(0.001, 10))
def test_no_smaller_change_flips_the_choice(rows, value):
    p, cost, latency = zip(*rows, strict=True)
    table = estimates(p, cost, list(latency))
    policy = Policy(value_of_correct_usd=value)
    weighing = weigh(table, policy)
    flip = nearest_flip(weighing)
    assume(flip is not None and flip.size > 1e-3)
    ratio = np.exp(0.99 * flip.size)
    for changed in (value * ratio, value / ratio):
        again = weigh(table, dataclasses.replace(policy, value_of_correct_usd=changed))
        assert again.chosen == weighing.chosen
    for j in range(len(rows)):
        if j != weighing.chosen:
            cheaper = table.cost_usd.copy()
            cheaper[0, j] /= ratio
            again = weigh(dataclasses.replace(table, cost_usd=cheaper), policy)
            assert again.chosen == weighing.chosen


def test_it_is_told_in_words():
    assert decide(OFFERS, BALANCED).counterfactual == (
        "ada would be chosen if a correct answer were worth less than $0.045 (now $0.10)"
    )
    near = estimates([0.8, 0.8], [0.010, 0.011])
    assert decide(near, BALANCED).counterfactual == "bob would be chosen if it cost 9% less"


def test_where_nothing_flips_it_says_why():
    alone = decide(estimates([0.8], [0.01]), BALANCED)
    assert "no other model is allowed" in alone.counterfactual
    free = decide(estimates([0.8, 0.7], [0.0, 0.0]), Policy(value_of_correct_usd=0.0))
    assert "too far off" in free.counterfactual


def test_a_tie_in_utility_is_flipped_by_the_value_in_the_direction_of_the_rival():
    tie = decide(estimates([0.75, 0.5], [0.5, 0.25]), Policy(value_of_correct_usd=1.0))
    assert tie.model == "bob"
    assert "ada would be chosen if a correct answer were worth more than $1.00" in (
        tie.counterfactual
    )


@pytest.mark.parametrize("value", [0.001, 0.1, 10.0])
def test_the_interval_holds_the_estimate(value):
    decision = decide(OFFERS, Policy(value_of_correct_usd=value))
    assert decision.p_correct_low <= decision.p_correct <= decision.p_correct_high


# -- flips of bounds, of constraint mode and of the Chebyshev utility ------------------------------


def test_a_bound_is_told_where_loosening_it_is_the_smallest_change():
    table = estimates([0.6, 0.79, 0.95], [0.001, 0.002, 0.5])
    decision = decide(table, dataclasses.replace(CHEAPEST, min_accuracy=0.8))
    assert decision.model == "cyd"
    assert decision.counterfactual == "bob would be chosen if min_accuracy were 0.790 (now 0.800)"
    capped = decide(table, dataclasses.replace(BEST, max_cost_usd=0.4))
    assert capped.model == "bob"
    assert capped.counterfactual == "cyd would be chosen if max_cost_usd were $0.50 (now $0.40)"


def loosened(policy, flip, nudge=1e-6):
    up = flip.bound != "min_accuracy"
    return dataclasses.replace(
        policy, **{flip.bound: flip.bound_value * (1 + nudge if up else 1 - nudge)}
    )


@given(offers, st.floats(0.001, 10), st.floats(0.02, 0.98), st.floats(0.0001, 1))
def test_loosening_the_told_bound_flips_the_choice(rows, value, floor, cap):
    p, cost, latency = zip(*rows, strict=True)
    table = estimates(p, cost, list(latency))
    policy = Policy(value_of_correct_usd=value, min_accuracy=floor, max_cost_usd=cap)
    assume(within_bounds(table, policy).any())
    weighing = weigh(table, policy)
    for flip in _bound_flips(weighing):
        again = weigh(table, loosened(policy, flip))
        assert again.chosen != weighing.chosen
        assert again.utility[again.chosen] >= weighing.utility[table.models.index(flip.model)]


@given(offers, st.floats(0.001, 10), st.floats(0, 0.01), st.sampled_from(["sum", "chebyshev"]))
def test_at_the_told_price_a_rival_draws_level_however_the_utility_is_made(
    rows, value, second, scalarisation
):
    p, cost, latency = zip(*rows, strict=True)
    table = estimates(p, cost, list(latency))
    policy = Policy(
        value_of_correct_usd=value, value_of_second_usd=second, scalarisation=scalarisation
    )
    weighing = weigh(table, policy)
    for flip in _price_flips(weighing):
        j = table.models.index(flip.model)
        cheaper = table.cost_usd.copy()
        cheaper[0, j] *= flip.cost_share
        level = utilities(dataclasses.replace(table, cost_usd=cheaper), policy)[0, j]
        target = weighing.utility[weighing.chosen]
        assert level == pytest.approx(target, rel=1e-6, abs=1e-9 * (1 + value))


def test_reasons_say_what_was_sought():
    table = estimates([0.6, 0.9, 0.8], [0.001, 0.1, 0.01])
    cheap = decide(table, dataclasses.replace(CHEAPEST, min_accuracy=0.7))
    assert cheap.reasons[0].startswith("cyd is the cheapest model that keeps the bounds: 80%")
    best = decide(table, dataclasses.replace(BEST, max_cost_usd=0.05))
    assert best.reasons[0].startswith("cyd is the model most likely to be right that keeps")
    sure = decide(table, Policy(name="careful", value_of_correct_usd=1.0, confidence=0.9))
    assert "under 'careful', P(correct) taken at 0.9" in sure.reasons[0]


def test_percentiles_of_the_latency_are_the_expectation_where_no_spread_is_known():
    decision = decide(OFFERS, BALANCED)
    assert decision.latency_p50_s == decision.latency_p95_s == decision.latency_s


def test_a_model_too_slow_in_one_of_twenty_says_so():
    table = estimates([0.9, 0.8], [0.01, 0.01], [30.0, 1.0])
    decision = decide(table, Policy(value_of_correct_usd=1.0, max_p95_latency_s=5.0))
    assert {x.model: x.reason for x in decision.excluded} == {
        "ada": "takes up to 30.0 s (p95), above 5 s"
    }
