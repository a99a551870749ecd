"""`Router.plan`: a cascade for one prompt, through the whole router."""

from __future__ import annotations

import numpy as np
import pytest

from simulated_records import MODELS, prompts, toy_router
from zerorouter.errors import InputError, NoEligibleModelError, PromptError, UnknownNameError
from zerorouter.routing.cascade import OfferedSignal, SharedEffects, best_plan
from zerorouter.routing.policy import Policy
from zerorouter.routing.signals import CallableSignal, SignalQuality

TEXTS = [row["text"] for row in prompts(12)[0]]
DOLLAR = Policy(value_of_correct_usd=0.05)
PHOTO = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def offered(sensitivity, specificity):
    quality = SignalQuality(sensitivity=sensitivity, specificity=specificity)
    return OfferedSignal(signal=CallableSignal(function=bool), quality=quality)


def test_without_a_signal_the_plan_is_the_routed_model():
    for text in TEXTS:
        plan = toy_router().plan(text, [], policy=DOLLAR)
        decision = toy_router().route(text, policy=DOLLAR)
        assert (plan.first, plan.is_cascade) == (decision.model, False)
        assert plan.p_correct == pytest.approx(decision.p_correct, abs=1e-6)
        assert plan.cost_usd == pytest.approx(decision.cost_usd)


def test_a_perfect_signal_makes_plans_that_beat_the_routed_model():
    plans = [toy_router().plan(text, [offered(1.0, 1.0)], policy=DOLLAR) for text in TEXTS]
    assert any(plan.is_cascade for plan in plans)
    for plan in plans:
        if plan.is_cascade:
            assert plan.direct is not None
            assert plan.utility > plan.direct.utility


def test_it_is_the_best_plan_of_the_estimates():
    router = toy_router()
    estimates = router.estimates([TEXTS[0]])
    effects = SharedEffects.of(router.space, router.models)
    signals = [offered(0.9, 0.9)]
    wanted = best_plan(estimates, DOLLAR, signals, effects)
    assert router.plan(TEXTS[0], signals, policy=DOLLAR).to_dict() == wanted.to_dict()


def test_lists_bounds_and_needs_hold_for_plans():
    allowed = MODELS[4:6]
    plan = toy_router().plan(TEXTS[0], [offered(1.0, 1.0)], policy=DOLLAR, models=list(allowed))
    assert {plan.first, plan.second} <= {*allowed, None}
    with pytest.raises(NoEligibleModelError, match="cannot: vision"):
        toy_router().plan([{"role": "user", "content": [PHOTO]}], [offered(1.0, 1.0)])
    with pytest.raises(NoEligibleModelError, match="bounds"):
        toy_router().plan(TEXTS[0], [offered(1.0, 1.0)], policy=Policy(max_cost_usd=0.0))


@pytest.mark.parametrize(
    ("prompt", "wishes", "error"),
    [
        (" ", {}, PromptError),
        ("fine", {"policy": "fame"}, UnknownNameError),
        ("fine", {"models": ["nobody"]}, UnknownNameError),
        ("fine", {"exclude": ["*"]}, NoEligibleModelError),
    ],
)
def test_bad_input_is_refused_in_words(prompt, wishes, error):
    with pytest.raises(error):
        toy_router().plan(prompt, [], **wishes)


def test_a_signals_own_cost_is_a_number():
    for cost in (-1.0, np.nan):
        with pytest.raises(InputError, match="cost and latency"):
            OfferedSignal(
                signal=CallableSignal(function=bool),
                quality=SignalQuality(sensitivity=1, specificity=1),
                cost_usd=cost,
            )
