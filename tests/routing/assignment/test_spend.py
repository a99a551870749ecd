from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.assignment.batches import batch, budget, ends
from zerorouter.errors import InfeasibleError, InputError
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offering import OWN_SD_LOG, cost_errors_of
from zerorouter.routing.assignment.offers import Bounds
from zerorouter.routing.assignment.spend import CostErrors, SpendSums, inflation, spend_of

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def drawn(cost, choice, errors, n, seed=0):
    """Realised sums of the model in the docstring of `spend`."""
    rng = np.random.default_rng(seed)
    m = int(choice.max()) + 1
    own = np.broadcast_to(errors.own_sd, (len(cost), m))[np.arange(len(cost)), choice]
    model = np.broadcast_to(errors.model_sd, m)
    factor = np.exp(own * rng.standard_normal((n, len(cost))) - own**2 / 2)
    shared = np.exp(model * rng.standard_normal((n, m)) - model**2 / 2)[:, choice]
    common = np.exp(
        errors.common_sd * rng.standard_normal((n, 1)) - np.square(errors.common_sd) / 2
    )
    bias = np.exp(np.broadcast_to(errors.bias, m))[choice]
    return (cost * bias * factor * shared * common).sum(axis=1)


@pytest.mark.parametrize(
    "errors",
    [
        CostErrors(own_sd=0.8),
        CostErrors(own_sd=0.5, model_sd=0.3),
        CostErrors(own_sd=0.3, model_sd=0.1, common_sd=0.4),
        CostErrors(own_sd=0.5, model_sd=0.2, common_sd=0.1, bias=0.3),
    ],
)
@pytest.mark.parametrize("n", [20, 400])
def test_the_quantile_of_the_sum_is_what_draws_stay_below(errors, n):
    rng = np.random.default_rng(1)
    cost, choice = np.exp(rng.normal(-5, 1, n)), rng.integers(0, 4, n)
    spend = spend_of(cost, choice, errors, 4)
    sums = drawn(cost, choice, errors, 20_000)
    assert sums.mean() == pytest.approx(spend.mean, rel=0.02)
    assert sums.std() == pytest.approx(spend.sd, rel=0.1)
    for q in (0.8, 0.95):
        assert np.mean(sums <= spend.quantile(q)) == pytest.approx(q, abs=0.025)


def test_errors_of_their_own_average_out_and_shared_ones_do_not():
    cost, choice = np.full(10_000, 0.01), np.zeros(10_000, dtype=int)
    own = spend_of(cost, choice, CostErrors(own_sd=0.8), 1)
    shared = spend_of(cost, choice, CostErrors(own_sd=0.0, model_sd=0.3), 1)
    assert own.quantile(0.95) < 1.02 * own.mean
    assert shared.quantile(0.95) > 1.5 * shared.mean


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.5, 0.99),
)
def test_inflated_costs_add_up_to_the_quantile(costs, own, model, common, q):
    m = len(costs)
    errors = CostErrors(own_sd=own, model_sd=model, common_sd=common)
    spend = spend_of(np.array(costs), np.arange(m), errors, m)
    inflated = inflation(spend, errors, q) @ spend.by_model
    assert inflated == pytest.approx(spend.quantile(q), rel=1e-6, abs=2e-3 * spend.mean)


def test_sums_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    cost, choice = rng.random(50), rng.integers(0, 3, 50)
    errors = CostErrors(own_sd=0.4, model_sd=0.2)
    parts = SpendSums.of(cost[:20], choice[:20], errors, 3) + SpendSums.of(
        cost[20:], choice[20:], errors, 3
    )
    assert parts.spend(errors).sd == pytest.approx(spend_of(cost, choice, errors, 3).sd)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [60, 1_500])
def test_an_assignment_keeps_its_budget_as_often_as_asked(n, confidence):
    offers = batch(n, 8, seed=2)
    errors = CostErrors(own_sd=0.6, model_sd=0.25, common_sd=0.1)
    usd = budget(offers, 0.3)
    found = assign(
        offers, Bounds(budget_usd=usd), confidence=confidence, cost_errors=errors, exact=False
    )
    cost = found.cost_usd
    kept = np.mean(drawn(cost, found.choice, errors, 10_000) <= usd)
    assert kept == pytest.approx(confidence, abs=0.02)
    assert found.totals.spend_at_confidence_usd <= usd
    assert found.totals.spend_at_confidence_usd > 0.97 * usd


def test_inflating_the_sum_wastes_less_than_inflating_each_cost():
    offers = batch(2_000, 8, seed=3)
    errors = CostErrors(own_sd=0.6, model_sd=0.05)
    usd = budget(offers, 0.2)
    whole = assign(offers, Bounds(budget_usd=usd), confidence=0.95, cost_errors=errors)
    each = batch(2_000, 8, seed=3, cost_usd=offers.cost_usd * np.exp(1.645 * 0.6 - 0.18))
    cell = assign(each, Bounds(budget_usd=usd))
    assert whole.totals.objective > cell.totals.objective + 5


def test_models_that_err_together_are_mixed():
    """With large shared errors it pays to spread the risk over models of about equal worth."""
    n = 600
    rng = np.random.default_rng(7)
    p = np.column_stack([np.full(n, 0.1), np.full(n, 0.8), 0.8 + 0.02 * rng.standard_normal(n)])
    cost = np.tile([0.001, 0.0100, 0.0104], (n, 1))
    offers = batch(n, 3, p_correct=p, cost_usd=cost)
    errors = CostErrors(own_sd=0.1, model_sd=0.6)
    plain = assign(offers, Bounds(budget_usd=4.5), exact=False).totals.by_model
    careful = assign(
        offers, Bounds(budget_usd=4.5), confidence=0.95, cost_errors=errors, exact=False
    ).totals.by_model
    assert abs(careful["m001"] - careful["m002"]) < abs(plain["m001"] - plain["m002"])


def test_a_budget_that_the_quantile_cannot_keep_names_one_that_it_can():
    offers = batch(100, 5, seed=4)
    errors = CostErrors(own_sd=0.5, model_sd=0.4)
    least, _ = ends(offers)
    with pytest.raises(InfeasibleError) as caught:
        assign(offers, Bounds(budget_usd=1.05 * least), confidence=0.95, cost_errors=errors)
    nearest = caught.value.nearest
    assert nearest > 1.2 * least
    again = assign(offers, Bounds(budget_usd=nearest), confidence=0.95, cost_errors=errors)
    assert again.totals.spend_at_confidence_usd <= nearest


def test_errors_are_learned_from_costs_that_were_seen():
    rng = np.random.default_rng(5)
    predicted = np.exp(rng.normal(-5, 1, (4_000, 6)))
    model = 0.4 * rng.standard_normal(6)
    observed = predicted * np.exp(
        0.2 + model + 0.7 * rng.standard_normal(predicted.shape) - 0.7**2 / 2
    )
    errors = CostErrors.fit(predicted, observed)
    assert errors.own_sd == pytest.approx(np.full(6, 0.7), abs=0.03)
    assert errors.model_sd == pytest.approx(np.full(6, model.std()), abs=0.05)
    assert errors.common_sd == pytest.approx(abs(0.2 + model.mean()), abs=0.05)


def test_replays_show_the_bias_that_optimising_brings_in():
    """Half of the models' predictions are low by mistake; those are the ones that get chosen."""
    rng = np.random.default_rng(6)
    n, m = 3_000, 10
    real = np.exp(rng.normal(-5, 0.3, (n, m)))
    mistake = np.exp(0.3 * rng.standard_normal(m))
    predicted = real * mistake * np.exp(0.3 * rng.standard_normal((n, m)) + 0.045)
    replays = []
    for k in range(20):
        rows = rng.permutation(n)[:300]
        replays.append((rows, predicted[rows].argmin(axis=1)))
        del k
    errors = CostErrors.from_replays(predicted, real, replays, looks=5)
    used = np.bincount(np.concatenate([c for _, c in replays]), minlength=m) > 300
    assert (np.asarray(errors.bias)[used] > 0.2).all()
    assert errors.looks == 5


@pytest.mark.parametrize(
    "change",
    [{"own_sd": -1}, {"own_sd": np.nan}, {"model_sd": np.inf}, {"bias": np.nan}, {"looks": 0}],
)
def test_errors_out_of_range_are_refused(change):
    with pytest.raises(InputError):
        CostErrors(**{"own_sd": 0.5, **change})


def test_confidence_wants_errors_and_a_range():
    offers = batch(5, 2)
    with pytest.raises(InputError, match="no cost_errors"):
        assign(offers, Bounds(budget_usd=9), confidence=0.9)
    for confidence in (0.3, 1.0):
        with pytest.raises(InputError, match=r"from 0\.5 to 1"):
            assign(
                offers,
                Bounds(budget_usd=9),
                confidence=confidence,
                cost_errors=CostErrors(own_sd=0.1),
            )


@pytest.mark.data
def test_on_real_dollars_the_realised_spend_keeps_the_budget(records_dir):
    """Costs learned on one half of routerbench-subset, spent on the other."""
    coverage = runpy.run_path(str(BENCHMARKS / "spend_coverage.py"))
    bills = coverage["read_bills"](records_dir)
    draws = 25
    found = coverage["same_kind"](bills, len(bills.task) // 2, draws, 0.95)
    kept = np.mean([spent <= 1 for spent, _ in found["sum inflated"]])
    used = np.mean([spent for spent, _ in found["sum inflated"]])
    each = np.mean([spent for spent, _ in found["each inflated"]])
    assert kept >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / draws)
    assert used > 0.95
    assert used > each + 0.1


# -- how far a router's own costs may be off ----------------------------------------------------


def test_foreign_prompts_may_be_off_together_and_calibrated_ones_hardly():
    sd = np.full(4, 0.4)
    near = cost_errors_of(sd, [0, 2], np.linspace(0.2, 1.0, 50))
    half = cost_errors_of(sd, [0, 2], np.repeat([0.0, 0.8], 25))
    far = cost_errors_of(sd, [0, 2], np.zeros(50))
    assert near.common_sd < half.common_sd < far.common_sd
    assert near.model_sd < half.model_sd < far.model_sd
    assert np.array_equal(near.own_sd, sd[:2])
    unknown = cost_errors_of(None, [0, 2])
    assert unknown.common_sd == far.common_sd
    assert unknown.own_sd == OWN_SD_LOG
