from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.tables import estimates
from zerorouter.errors import InputError, MissingPriceError, NoEligibleModelError
from zerorouter.irt.model import ResponseForecast
from zerorouter.routing.cascade import (
    Logits,
    OfferedSignal,
    SharedEffects,
    best_plan,
    follow,
    right_where_wrong,
)
from zerorouter.routing.policy import Policy
from zerorouter.routing.signals import (
    AgreementSignal,
    Answer,
    CallableSignal,
    PatternSignal,
    SignalQuality,
    screening,
)

BALANCED = Policy(value_of_correct_usd=1.0)
GOOD = SignalQuality(sensitivity=0.9, specificity=0.95)


def offered(quality=GOOD, **facts):
    return OfferedSignal(signal=CallableSignal(function=bool), quality=quality, **facts)


def table(p, cost, latency=None, effect=0.0):
    """Estimates of one prompt whose own effect has a variance."""
    plain = estimates(p, cost, latency)
    shape = plain.p_correct.shape
    probability = np.asarray(p, dtype=np.float64).reshape(shape)
    forecast = ResponseForecast(
        p_correct=plain.p_correct,
        logit=(np.log(probability / (1 - probability)) * np.sqrt(1 + np.pi / 8 * effect)).astype(
            np.float32
        ),
        effect_variance=np.full(shape, effect, dtype=np.float32),
        error_variance=np.zeros(shape, dtype=np.float32),
        guessing=np.zeros(1, dtype=np.float32),
    )
    return replace(plain, forecast=forecast)


def alike(m, correlation):
    return SharedEffects(correlation=np.full((m, m), correlation) + (1 - correlation) * np.eye(m))


# -- what two models get right together --------------------------------------------------------


def simulated(mean, variance, correlation, guessing, n=400_000):
    rng = np.random.default_rng(0)
    sd = np.sqrt(variance)
    cross = correlation * sd[0] * sd[1]
    effect = rng.multivariate_normal([0, 0], [[variance[0], cross], [cross, variance[1]]], n)
    p = guessing + (1 - guessing) / (1 + np.exp(-(mean + effect)))
    right = rng.random((n, 2)) < p
    return right[~right[:, 0], 1].mean()


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    ("mean", "variance"), [((0.5, 1.5), (1.0, 1.5)), ((-1.0, 2.0), (3.0, 0.8))]
)
@pytest.mark.parametrize("guessing", [0.0, 0.25])
def test_the_formula_agrees_with_simulation(correlation, mean, variance, guessing):
    logits = Logits(
        mean=np.array(mean),
        effect_variance=np.array(variance),
        error_variance=np.zeros(2),
        guessing=guessing,
    )
    told = right_where_wrong(logits, alike(2, correlation), np.array([0]), np.array([1]))[0]
    seen = simulated(np.array(mean), np.array(variance), correlation, guessing)
    assert told == pytest.approx(seen, abs=0.012)


def test_independent_models_learn_nothing_from_each_other():
    logits = Logits(
        mean=np.array([0.3, 1.0]), effect_variance=np.ones(2), error_variance=np.zeros(2)
    )
    told = right_where_wrong(logits, SharedEffects.independent(2), np.array([0]), np.array([1]))[0]
    assert told == pytest.approx(1 / (1 + np.exp(-1.0 / np.sqrt(1 + np.pi / 8))), abs=1e-6)


@given(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(-2, 2), st.floats(0.1, 4))
def test_the_more_models_share_the_less_one_rescues_the_other(one, two, mean, variance):
    logits = Logits(
        mean=np.array([mean, mean + 0.5]),
        effect_variance=np.full(2, variance),
        error_variance=np.zeros(2),
    )
    pair = np.array([0]), np.array([1])
    rescue = [right_where_wrong(logits, alike(2, c), *pair)[0] for c in sorted((one, two))]
    assert rescue[1] <= rescue[0] + 1e-9


def test_a_shift_that_prompts_share_is_shared_by_all_models():
    logits = Logits(
        mean=np.zeros(2), effect_variance=np.full(2, 0.1), error_variance=np.full(2, 2.0)
    )
    pair = np.array([0]), np.array([1])
    plain = right_where_wrong(logits, SharedEffects.independent(2), *pair)[0]
    shifted = replace(SharedEffects.independent(2), shift_variance=2.0)
    assert right_where_wrong(logits, shifted, *pair)[0] < plain - 0.1


def test_shared_effects_come_from_a_space():
    from simulated_records import MODELS, fitted_space

    effects = SharedEffects.of(fitted_space(), MODELS)
    assert effects.correlation.shape == (len(MODELS), len(MODELS))
    assert np.allclose(np.diagonal(effects.correlation), 1.0)
    assert np.allclose(effects.correlation, effects.correlation.T)
    assert effects.shift_variance >= 0


# -- plans -------------------------------------------------------------------------------------


def test_without_a_signal_the_best_single_model_is_the_plan():
    plan = best_plan(table([0.6, 0.9], [0.01, 0.5]), BALANCED, [], SharedEffects.independent(2))
    assert (plan.first, plan.second, plan.is_cascade) == ("ada", None, False)
    assert plan.utility == pytest.approx(0.6 - 0.01)
    assert plan.direct is None


def test_a_good_signal_makes_a_cascade_worth_it():
    plan = best_plan(
        table([0.7, 0.95], [0.001, 0.2]), BALANCED, [offered()], SharedEffects.independent(2)
    )
    assert (plan.first, plan.second) == ("ada", "bob")
    escalate = 0.9 * 0.3 + 0.05 * 0.7
    right = 0.95 * 0.7 + (0.05 * 0.7 + 0.9 * 0.3) * 0.95
    assert plan.p_escalate == pytest.approx(escalate, abs=1e-6)
    assert plan.p_correct == pytest.approx(right, abs=1e-6)
    assert plan.cost_usd == pytest.approx(0.001 + escalate * 0.2, abs=1e-6)
    assert plan.utility == pytest.approx(plan.p_correct - plan.cost_usd, abs=1e-6)
    assert plan.direct is not None
    assert plan.utility > plan.direct.utility
    assert "then bob if 'callable' fires (31% of the time)" in plan.describe()


def test_what_models_share_is_taken_off_the_promise():
    asked = table([0.7, 0.75], [0.001, 0.05], effect=9.0)
    hopeful = best_plan(asked, BALANCED, [offered()], SharedEffects.independent(2))
    honest = best_plan(asked, BALANCED, [offered()], alike(2, 0.999))
    assert honest.p_rescue < hopeful.p_rescue - 0.3
    assert honest.p_correct < hopeful.p_correct - 0.08


def test_where_nothing_is_rescued_the_direct_choice_is_better():
    asked = table([0.7, 0.75], [0.04, 0.05], effect=9.0)
    assert best_plan(asked, BALANCED, [offered()], SharedEffects.independent(2)).is_cascade
    dim = SignalQuality(sensitivity=0.4, specificity=0.7)
    assert not best_plan(asked, BALANCED, [offered(dim)], alike(2, 0.999)).is_cascade


def test_a_worthless_signal_is_not_used():
    blind = SignalQuality(sensitivity=0.5, specificity=0.5)
    plan = best_plan(
        table([0.7, 0.95], [0.1, 0.15]), BALANCED, [offered(blind)], SharedEffects.independent(2)
    )
    assert plan.first == "bob"
    assert not plan.is_cascade


probability = st.floats(0.02, 0.98)
amount = st.floats(0.0001, 0.5)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(probability, amount, st.floats(0.1, 30)), min_size=2, max_size=5),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.001, 5),
)
def test_a_plan_is_never_worse_than_the_best_single_model(rows, sens, spec, corr, value):
    p, cost, latency = zip(*rows, strict=True)
    asked = table(p, cost, list(latency), effect=2.0)
    policy = Policy(value_of_correct_usd=value, value_of_second_usd=0.001)
    quality = SignalQuality(sensitivity=sens, specificity=spec)
    effects = alike(len(rows), corr)
    plan = best_plan(asked, policy, [offered(quality)], effects)
    single = best_plan(asked, policy, [], effects)
    assert plan.utility >= single.utility
    assert 0 <= plan.p_correct <= 1
    assert 0 <= plan.p_escalate <= 1
    if plan.is_cascade:
        assert plan.direct == single


@given(st.lists(st.tuples(probability, amount), min_size=2, max_size=4), st.floats(0.3, 1))
def test_a_better_signal_never_makes_a_worse_plan(rows, sensitivity):
    p, cost = zip(*rows, strict=True)
    asked, effects = table(p, cost, effect=1.0), alike(len(rows), 0.5)
    found = [
        best_plan(
            asked,
            BALANCED,
            [offered(SignalQuality(sensitivity=sensitivity, specificity=s))],
            effects,
        ).utility
        for s in (0.6, 0.8, 1.0)
    ]
    assert found[0] <= found[2] + 1e-9


def test_two_samples_are_paid_for_twice():
    sampling = OfferedSignal(signal=AgreementSignal(), quality=GOOD)
    plans = [
        best_plan(table([0.7, 0.95], [0.01, 0.2]), BALANCED, [s], SharedEffects.independent(2))
        for s in (offered(), sampling)
    ]
    assert plans[1].cost_usd - plans[0].cost_usd == pytest.approx(0.01)
    assert plans[1].latency_s == pytest.approx(plans[0].latency_s)


def test_what_looking_costs_is_part_of_the_plan():
    dear = offered(cost_usd=0.02, latency_s=3.0)
    plans = [
        best_plan(table([0.7, 0.95], [0.001, 0.2]), BALANCED, [s], SharedEffects.independent(2))
        for s in (offered(), dear)
    ]
    assert plans[1].cost_usd - plans[0].cost_usd == pytest.approx(0.02)
    assert plans[1].latency_s - plans[0].latency_s == pytest.approx(3.0)


def test_a_signal_is_used_only_on_models_whose_quality_is_known():
    known = OfferedSignal(signal=CallableSignal(function=bool), quality={"bob": GOOD})
    plan = best_plan(
        table([0.7, 0.72, 0.95], [0.001, 0.002, 0.2]),
        BALANCED,
        [known],
        SharedEffects.independent(3),
    )
    assert (plan.first, plan.second) == ("bob", "cyd")


def test_bounds_hold_for_plans():
    asked, effects = table([0.7, 0.95], [0.001, 0.2]), SharedEffects.independent(2)
    free = best_plan(asked, BALANCED, [offered()], effects)
    cheap = best_plan(asked, replace(BALANCED, max_cost_usd=0.01), [offered()], effects)
    assert not cheap.is_cascade
    floor = Policy(value_of_correct_usd=0.0, min_accuracy=0.9)
    cautious = best_plan(asked, floor, [offered()], effects)
    assert cautious.is_cascade
    assert free.p_correct >= 0.9
    with pytest.raises(NoEligibleModelError):
        best_plan(asked, replace(BALANCED, max_cost_usd=1e-6), [offered()], effects)


def test_a_bound_on_the_tail_of_the_latency_counts_both_models():
    asked, effects = table([0.7, 0.95], [0.001, 0.2], [2.0, 3.0]), SharedEffects.independent(2)
    assert best_plan(asked, replace(BALANCED, max_p95_latency_s=6.0), [offered()], effects).second
    tight = best_plan(asked, replace(BALANCED, max_p95_latency_s=4.0), [offered()], effects)
    assert not tight.is_cascade


def test_policies_that_are_no_sum_of_dollars_make_plans_too():
    asked, effects = table([0.7, 0.95], [0.001, 0.2]), SharedEffects.independent(2)
    worst = best_plan(asked, replace(BALANCED, scalarisation="chebyshev"), [offered()], effects)
    assert worst.utility == pytest.approx(-max(1 - worst.p_correct, worst.cost_usd), abs=0.05)
    cheapest = Policy(objective="cost", value_of_correct_usd=0.0, min_accuracy=0.93)
    assert best_plan(asked, cheapest, [offered()], effects).is_cascade


def test_only_allowed_models_are_asked():
    asked = table([0.7, 0.95, 0.96], [0.001, 0.2, 0.1])
    plan = best_plan(
        asked, BALANCED, [offered()], SharedEffects.independent(3), allowed=np.array([0, 1])
    )
    assert {plan.first, plan.second} <= {"ada", "bob"}


def test_prices_and_shapes_are_checked():
    with pytest.raises(MissingPriceError, match="'bob'"):
        best_plan(table([0.7, 0.9], [0.1, np.nan]), BALANCED, [], SharedEffects.independent(2))
    with pytest.raises(InputError, match="shared effects are those of 3 models"):
        best_plan(table([0.7, 0.9], [0.1, 0.1]), BALANCED, [], SharedEffects.independent(3))
    with pytest.raises(InputError, match="cost and latency"):
        offered(cost_usd=-1.0)


def test_a_plan_is_plain_values_for_json():
    plan = best_plan(
        table([0.7, 0.95], [0.001, 0.2]), BALANCED, [offered()], SharedEffects.independent(2)
    )
    told = plan.to_dict()
    assert told["signal"] == "callable"
    assert told["direct"]["second"] is None
    assert set(told) >= {"first", "second", "p_correct", "cost_usd", "latency_s", "utility"}


# -- following ---------------------------------------------------------------------------------


def script(**answers):
    asked = []

    def ask(model, samples):
        asked.append((model, samples))
        return [Answer(text=text) for text in answers[model][:samples]]

    return ask, asked


def cascade_of(signal):
    return best_plan(
        table([0.7, 0.95], [0.001, 0.2]),
        BALANCED,
        [OfferedSignal(signal=signal, quality=GOOD)],
        SharedEffects.independent(2),
    )


def test_the_second_model_is_asked_only_where_the_signal_fires():
    plan = cascade_of(PatternSignal(pattern="suspicious"))
    ask, asked = script(ada=["looks clean"], bob=["clean"])
    assert follow(plan, ask).model == "ada"
    assert asked == [("ada", 1)]
    ask, asked = script(ada=["suspicious!"], bob=["forged"])
    found = follow(plan, ask)
    assert (found.model, found.answer.text, found.escalated) == ("bob", "forged", True)
    assert found.first.text == "suspicious!"
    assert asked == [("ada", 1), ("bob", 1)]


def test_agreement_asks_the_first_model_twice():
    plan = cascade_of(AgreementSignal())
    ask, asked = script(ada=["it is 4", "it is 5"], bob=["5"])
    assert follow(plan, ask).model == "bob"
    assert asked == [("ada", 2), ("bob", 1)]
    ask, _ = script(ada=["it is 4", "4"], bob=["5"])
    assert follow(plan, ask).answer.text == "it is 4"


def test_a_single_model_is_just_asked():
    plan = best_plan(table([0.9], [0.01]), BALANCED, [], SharedEffects.independent(1))
    ask, asked = script(ada=["7"])
    assert follow(plan, ask).answer.text == "7"
    assert asked == [("ada", 1)]


def test_no_answer_is_an_error():
    plan = cascade_of(PatternSignal(pattern="x"))
    ask, _ = script(ada=[], bob=[])
    with pytest.raises(InputError, match="ada gave no answer"):
        follow(plan, ask)


def test_screening_words_make_a_cascade():
    """A light model flags most suspicious items; only those go to the strong one."""
    right, quality = screening(recall=0.95, false_alarms=0.2, prevalence=0.1)
    plan = best_plan(
        table([right, 0.97], [0.0002, 0.01]),
        Policy(value_of_correct_usd=0.05),
        [OfferedSignal(signal=PatternSignal(pattern="suspicious"), quality=quality)],
        SharedEffects.independent(2),
    )
    assert plan.is_cascade
    assert plan.p_escalate == pytest.approx(0.1 * 0.95 + 0.9 * 0.2, abs=1e-4)
    assert plan.cost_usd < 0.01 / 3
