"""`Router.offers` and `Router.assign`: batches through the whole router."""

from __future__ import annotations

import numpy as np
import pytest

from simulated_records import MODELS, prompts, toy_router
from zerorouter.errors import InfeasibleError, InputError, NoEligibleModelError, PromptError
from zerorouter.routing.assignment.offers import Capacity
from zerorouter.routing.policy import Policy

TEXTS = [row["text"] for row in prompts(80)[0]]
PHOTO = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.fixture(scope="module")
def least() -> float:
    return float(toy_router().offers(TEXTS).cost_usd.min(axis=1).sum(dtype=np.float64))


def test_offers_are_the_estimates(least):
    offers, estimates = toy_router().offers(TEXTS), toy_router().estimates(TEXTS)
    assert offers.models == estimates.models
    assert np.allclose(offers.p_correct, estimates.p_correct)
    assert np.allclose(offers.cost_usd, estimates.cost_usd)
    assert np.allclose(offers.latency_p95_s, estimates.latency_p95_s)
    assert offers.allowed.all()
    assert offers.narrowed().allowed is None
    assert least > 0


def test_an_assignment_has_the_documented_words(least):
    found = toy_router().assign(TEXTS, budget_usd=3 * least).to_dict()
    documented = [
        *("n", "objective", "bound", "gap", "spend_usd", "budget_usd", "mean_latency_s"),
        *("mean_p_correct", "by_model"),
    ]
    assert set(documented) <= set(found)
    assert found["n"] == 80
    assert sum(found["by_model"].values()) == 80
    assert found["spend_usd"] <= found["budget_usd"]
    assert found["objective"] == pytest.approx(80 * found["mean_p_correct"])


def test_batches_and_blocks_make_no_difference(least, monkeypatch):
    whole = toy_router().assign(TEXTS, budget_usd=3 * least)
    monkeypatch.setattr("zerorouter.router._OFFER_BLOCK", 7)
    assert np.array_equal(toy_router().assign(TEXTS, budget_usd=3 * least).choice, whole.choice)


def test_an_ample_budget_agrees_with_the_best_routes():
    found = toy_router().assign(TEXTS, budget_usd=1e6)
    routed = toy_router().route_batch(TEXTS, policy="best")
    assert [row.p_correct for row in found.rows()] == pytest.approx(
        [decision.p_correct for decision in routed]
    )


def test_under_a_policy_without_bounds_it_routes():
    policy = Policy(value_of_correct_usd=0.05, value_of_second_usd=1e-5)
    found = toy_router().assign(TEXTS, policy=policy)
    routed = toy_router().route_batch(TEXTS, policy=policy)
    assert [row.model for row in found.rows()] == [decision.model for decision in routed]
    assert found.totals.goal == "utility"


def test_lists_and_capacities_are_kept(least):
    found = toy_router().assign(
        TEXTS,
        budget_usd=20 * least,
        exclude=["sim-0[0-3]"],
        capacity={"*": Capacity(requests=20)},
    )
    assert set(found.totals.by_model) <= set(MODELS[4:])
    assert max(found.totals.by_model.values()) <= 20


def test_weights_say_what_counts(least):
    weights = [10.0 if i < 20 else 0.1 for i in range(80)]
    plain = toy_router().assign(TEXTS, budget_usd=3 * least)
    weighted = toy_router().assign(TEXTS, budget_usd=3 * least, weights=weights)
    assert weighted.p_correct[:20].sum() > plain.p_correct[:20].sum()
    assert weighted.totals.objective == pytest.approx(float(weighted.p_correct @ weights))


def test_confidence_leaves_room_in_the_budget(least):
    plain = toy_router().assign(TEXTS, budget_usd=4 * least)
    careful = toy_router().assign(TEXTS, budget_usd=4 * least, confidence=0.9)
    assert careful.totals.spend_usd < plain.totals.spend_usd
    assert careful.totals.spend_at_confidence_usd <= 4 * least


def test_a_prompt_that_cannot_be_taken_is_named():
    with pytest.raises(PromptError, match="prompt 1"):
        toy_router().assign(["fine", " "], budget_usd=1.0)
    photo = [{"role": "user", "content": [PHOTO]}]
    with pytest.raises(NoEligibleModelError, match=r"prompt 1: .*cannot: vision"):
        toy_router().assign(["fine", photo], budget_usd=1.0)
    with pytest.raises(InputError, match="no prompts"):
        toy_router().assign([], budget_usd=1.0)
    with pytest.raises(InputError, match="one text"):
        toy_router().assign("just a text", budget_usd=1.0)


def test_a_budget_that_is_too_small_names_one_that_works(least):
    with pytest.raises(InfeasibleError) as caught:
        toy_router().assign(TEXTS, budget_usd=0.5 * least)
    assert caught.value.nearest == pytest.approx(least, rel=2e-3)
    toy_router().assign(TEXTS, budget_usd=caught.value.nearest)
