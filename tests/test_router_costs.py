"""The router's estimates of cost and latency, and constraint mode, on the simulated models."""

from __future__ import annotations

import base64
import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predict.test_media import png
from simulated_records import MODELS, fitted_space, toy_router
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import (
    InfeasibleError,
    InputError,
    MissingPriceError,
    NoEligibleModelError,
    UnknownNameError,
)
from zerorouter.predict.media import media_rules
from zerorouter.predict.prompt import CHARS_PER_TOKEN, read_prompt
from zerorouter.predict.serving_times import ServedRequest, observe
from zerorouter.prices import Price, PriceTier, TokenCounts, request_cost_usd
from zerorouter.router import Router
from zerorouter.routing.estimates import DEFAULT_TTFT_S, told_times
from zerorouter.routing.policy import Policy

EASY = "Work out 3 + 4 and write the sum (task 5)."
HARD = "Work out 4821 + 9377 + 1284 + 7719 + 6630 and write the sum."
LONG = "A long letter. " * 3_000


def toy(**changes) -> Router:
    """The simulated models with changes by name (``_`` for ``-``)."""
    specs = tuple(
        dataclasses.replace(spec, **changes.get(spec.name.replace("-", "_"), {}))
        for spec in fitted_space().models
    )
    return Router(fitted_space(), Catalog(models=specs))


def price_of(router, name) -> Price:
    price = router.catalog.get(name).price
    assert price is not None
    return price


# -- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [EASY, LONG])
@pytest.mark.parametrize("cached", [0.0, 5.0, 1e9])
def test_estimated_costs_are_those_of_the_price_function(prompt, cached):
    tier = PriceTier(
        above_input_tokens=1_000,
        input_usd_per_mtok=40.0,
        output_usd_per_mtok=90.0,
        cached_input_usd_per_mtok=4.0,
    )
    price = Price(
        input_usd_per_mtok=20.0,
        output_usd_per_mtok=60.0,
        cached_input_usd_per_mtok=2.0,
        tiers=(tier,),
    )
    router = toy(sim_00={"price": price})
    decision = router.route(prompt, models=["sim-00"], cached_tokens={"sim-00": cached})
    entered = read_prompt(prompt).n_chars / CHARS_PER_TOKEN
    table = decision.weighing.estimates
    tokens = TokenCounts(
        input_tokens=entered,
        output_tokens=float(table.output_tokens[0, 0]),
        cached_input_tokens=min(cached, entered),
    )
    assert decision.cost_usd == pytest.approx(request_cost_usd(price, tokens))


def test_tiers_hold_for_the_prompts_that_are_long_enough_alone_as_in_a_batch():
    tier = PriceTier(above_input_tokens=1_000, input_usd_per_mtok=99.0, output_usd_per_mtok=99.0)
    price = dataclasses.replace(price_of(toy_router(), "sim-00"), tiers=(tier,))
    router, plain = toy(sim_00={"price": price}), toy_router()
    both = router.estimates([EASY, LONG])
    assert both.cost_usd[0, 0] == plain.estimates([EASY]).cost_usd[0, 0]
    assert both.cost_usd[1, 0] > plain.estimates([LONG]).cost_usd[0, 0]
    np.testing.assert_array_equal(both.cost_usd[0], router.estimates([EASY]).cost_usd[0])
    np.testing.assert_array_equal(both.cost_usd[1], router.estimates([LONG]).cost_usd[0])
    np.testing.assert_array_equal(
        both.cost_usd[:, 1:], plain.estimates([EASY, LONG]).cost_usd[:, 1:]
    )


def test_a_warm_cache_makes_its_model_cheaper_and_can_win_it_the_request():
    router = toy(
        sim_05={
            "price": dataclasses.replace(
                price_of(toy_router(), "sim-05"), cached_input_usd_per_mtok=0.0
            )
        }
    )
    cold = router.route(LONG, policy="cost")
    warm = router.route(LONG, policy="cost", cached_tokens={"sim-05": 1e6})
    by_name = {c.model: c.cost_usd for c in cold.candidates}
    warmed = {c.model: c.cost_usd for c in warm.candidates}
    assert warmed["sim-05"] < by_name["sim-05"]
    assert {n: c for n, c in warmed.items() if n != "sim-05"} == {
        n: c for n, c in by_name.items() if n != "sim-05"
    }


@pytest.mark.parametrize("tokens", [-1, math.nan, math.inf])
def test_cached_tokens_that_cannot_be_are_refused(tokens):
    with pytest.raises(InputError, match=r"cached_tokens\['sim-00'\]"):
        toy_router().route(EASY, cached_tokens={"sim-00": tokens})
    with pytest.raises(UnknownNameError, match="did you mean"):
        toy_router().route(EASY, cached_tokens={"sim-0": 5})


def test_reasoning_tokens_are_billed_at_their_own_price_where_they_have_one():
    dear = dataclasses.replace(price_of(toy_router(), "sim-00"), reasoning_usd_per_mtok=600.0)
    thinks = toy(sim_00={"price": dear, "reasoning": True}).estimates([HARD])
    answers = toy(sim_00={"price": dear}).estimates([HARD])
    assert thinks.cost_usd[0, 0] > 5 * answers.cost_usd[0, 0]


def photo(width, height, detail="high"):
    data = base64.b64encode(png(width, height)).decode()
    address = {"url": f"data:image/png;base64,{data}", "detail": detail}
    return {"type": "image_url", "image_url": address}


def asked(*parts):
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


def test_an_image_costs_what_each_vendor_counts_for_its_size():
    can = {"capabilities": frozenset({"vision"})}
    specs = [dataclasses.replace(s, **can) for s in fitted_space().models]
    specs[0] = dataclasses.replace(specs[0], vendor="openai")
    specs[1] = dataclasses.replace(specs[1], vendor="anthropic")
    router = Router(fitted_space(), Catalog(models=tuple(specs)))
    tokens = router.estimates([asked(photo(200, 100)), asked(photo(2000, 1000)), EASY]).input_tokens
    text = len("What is this?") / CHARS_PER_TOKEN
    for row, (width, height) in enumerate([(200, 100), (2000, 1000)]):
        for column, vendor in ((0, "openai"), (1, "anthropic")):
            rule = media_rules(vendor, specs[column].name).image
            assert tokens[row, column] == pytest.approx(text + rule(width, height, "high"))
    assert tokens[0, 2] == tokens[1, 2] == pytest.approx(text + 900)  # nobody says how it counts
    assert (tokens[2] == len(EASY) / CHARS_PER_TOKEN).all()


def test_an_image_that_is_not_in_the_request_is_taken_for_one_of_usual_size():
    specs = [dataclasses.replace(s, vendor="openai") for s in fitted_space().models]
    router = Router(fitted_space(), Catalog(models=tuple(specs)))
    far = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    tokens = router.estimates([asked(far), asked(far, photo(64, 64))]).input_tokens
    assert tokens[0, 0] == pytest.approx(3.25 + 765)
    assert tokens[1, 0] == pytest.approx(3.25 + 765 + 255)


def test_a_cost_at_a_confidence_is_above_the_expected_one_and_below_the_longest_answer():
    router = toy(sim_00={"max_output_tokens": 60})
    table = router.estimates([EASY, HARD])
    high = table.cost_quantile(0.95)
    assert (high[:, 1:] > table.cost_usd[:, 1:]).all()
    price = price_of(router, "sim-00")
    most = (
        table.input_tokens * price.input_usd_per_mtok / 1e6 + 60 * price.output_usd_per_mtok / 1e6
    )
    assert (high[:, 0] <= most * (1 + 1e-9)).all()
    assert (table.cost_quantile(0.5) < high).all()


def test_best_whatever_it_costs_does_without_prices_and_everything_else_does_not():
    router = toy(sim_04={"price": None})
    assert router.route(EASY, policy="best").model in MODELS
    best = router.route(EASY, policy="best", models=["sim-04"])
    assert math.isnan(best.cost_usd)
    for options in ({"policy": "cheapest"}, {"policy": "best", "max_cost_usd": 1.0}, {}):
        with pytest.raises(MissingPriceError, match="--prices-from"):
            router.route(EASY, **options)


# -- latency ---------------------------------------------------------------------------------------


def test_percentiles_lie_around_the_expectation_and_follow_the_length():
    table = toy_router().estimates([EASY, HARD])
    assert (table.latency_p50_s < table.latency_p95_s).all()
    assert (table.latency_p95_s > table.latency_s).all()
    for quantile in (table.latency_p50_s, table.latency_p95_s):
        assert (
            np.sign(np.diff(quantile, axis=0)) == np.sign(np.diff(table.output_tokens, axis=0))
        ).all()
    decision = toy_router().route(HARD)
    assert decision.latency_p50_s < decision.latency_p95_s
    assert decision.to_dict()["latency_p95_s"] == decision.latency_p95_s


def test_the_p95_bound_is_kept_and_told():
    router = toy_router()
    free = router.route(HARD, policy="quality")
    table = router.estimates([HARD])
    fastest = float(table.latency_p95_s.min())
    bounded = router.route(HARD, policy="quality", max_p95_latency_s=fastest * 1.01)
    assert bounded.latency_p95_s <= fastest * 1.01
    with pytest.raises(NoEligibleModelError, match=r"max_p95_latency_s=0.001 is out of reach"):
        router.route(HARD, max_p95_latency_s=0.001)
    assert free.latency_p95_s >= fastest


def test_learned_speeds_change_the_latency_of_their_model_alone():
    router = toy_router()
    state = router.times("sim-03")
    for _ in range(60):
        state = observe(state, ServedRequest(output_tokens=101, end_to_end_s=32.0, ttft_s=2.0))
    slower = router.with_times({"sim-03": state})
    before, after = router.estimates([HARD]), slower.estimates([HARD])
    j = MODELS.index("sim-03")
    expected = 2.0 + (after.output_tokens[0, j] - 1) * 0.3
    assert after.latency_s[0, j] == pytest.approx(expected, rel=0.1)
    np.testing.assert_array_equal(np.delete(after.latency_s, j), np.delete(before.latency_s, j))
    assert router.estimates([HARD]).latency_s[0, j] == before.latency_s[0, j]  # it is immutable
    assert slower.route(HARD).to_dict().keys() == router.route(HARD).to_dict().keys()
    with pytest.raises(UnknownNameError):
        router.with_times({"sim-99": state})
    with pytest.raises(UnknownNameError):
        router.times("sim-99")


def test_long_inputs_take_longer_to_start():
    fast = toy(**{m.replace("-", "_"): {"ttft_s": 0.5} for m in MODELS})
    short, long = fast.estimates([EASY]), fast.estimates([LONG])
    prefill = (len(LONG) / CHARS_PER_TOKEN - 550) / 1000 * 0.1
    first = long.latency_s - np.maximum(long.output_tokens - 1, 0) * (1 / 80)
    np.testing.assert_allclose(first, 0.5 + prefill, rtol=1e-6)
    assert short.spreads.ttft_s == pytest.approx(0.5)


def test_thoughts_before_the_first_token_are_not_waited_for_twice():
    thinker = ModelSpec(name="t", reasoning=True, ttft_s=16.0, throughput_tok_s=60.0)
    assert told_times(thinker).ttft.expectation == pytest.approx(DEFAULT_TTFT_S)
    slow = dataclasses.replace(thinker, reasoning=False)
    assert told_times(slow).ttft.expectation == pytest.approx(16.0)


def test_speeds_of_a_class_are_less_certain_than_those_that_are_told():
    told = ModelSpec(name="a", ttft_s=1.0, throughput_tok_s=50.0, speed_source="offers: host")
    pooled = dataclasses.replace(told, speed_source="pooled: up to 40B")
    nobody = ModelSpec(name="a")
    assert told_times(pooled).tpot.sd > told_times(told).tpot.sd
    assert told_times(nobody).tpot.sd == told_times(pooled).tpot.sd


# -- constraint mode -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([EASY, HARD]), st.floats(0.05, 0.95))
def test_at_least_so_likely_to_be_right_at_the_least_cost(prompt, floor):
    router = toy_router()
    table = router.estimates([prompt])
    enough = table.p_correct[0] >= floor
    if not enough.any():
        with pytest.raises(InfeasibleError) as caught:
            router.route(prompt, min_accuracy=floor)
        assert caught.value.bound == "min_accuracy"
        assert caught.value.nearest == pytest.approx(float(table.p_correct.max()))
        return
    decision = router.route(prompt, min_accuracy=floor)
    assert decision.policy == "cheapest"
    assert decision.cost_usd == table.cost_usd[0, enough].min()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([EASY, HARD]), st.floats(0.1, 3.0), st.floats(0.5, 3.0))
def test_the_best_under_a_cost_and_a_p95_latency(prompt, dear, slow):
    router = toy_router()
    table = router.estimates([prompt])
    cap = dear * float(np.median(table.cost_usd))
    longest = slow * float(np.median(table.latency_p95_s))
    inside = (table.cost_usd[0] <= cap) & (table.latency_p95_s[0] <= longest)
    if not inside.any():
        return
    decision = router.route(prompt, max_cost_usd=cap, max_p95_latency_s=longest)
    assert decision.policy == "best"
    assert decision.p_correct == table.p_correct[0, inside].max()


def test_a_policy_that_is_named_or_configured_keeps_its_say():
    router = toy_router()
    assert router.route(EASY, policy="balanced", min_accuracy=0.1).policy == "balanced"
    assert router.route(EASY, max_latency_s=1e6).policy == "balanced"
    mine = Policy(name="mine", value_of_correct_usd=10.0)
    own = Router(
        fitted_space(),
        Catalog(models=fitted_space().models),
        policies={"mine": mine},
        default_policy="mine",
    )
    assert own.route(EASY, min_accuracy=0.1).policy == "mine"


def test_a_batch_says_which_prompt_cannot_be_done_and_what_would_do():
    with pytest.raises(InfeasibleError, match="prompt 1: no model keeps the bounds") as caught:
        toy_router().route_batch(
            [EASY, HARD], min_accuracy=float(toy_router().estimates([EASY]).p_correct.max()) - 1e-4
        )
    assert caught.value.bound == "min_accuracy"
    assert caught.value.model in MODELS
