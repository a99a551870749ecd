from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import CalibrationError, InputError
from zerorouter.fitting.serving_times import as_logs, fit_noise, fit_spread, level_variance
from zerorouter.predict.serving_times import (
    PREFILL_S_PER_KTOK,
    PRIOR,
    EndpointTimes,
    LatencyTable,
    ServedRequest,
    after,
    observe,
    prefill_s,
    sum_quantile,
)

HOUR = 3600.0
START = EndpointTimes.told(0.5, 0.01)


def requests(rng, n, *, ttft_s=0.8, tpot_s=0.03, sd=0.2, streamed=True):
    """Requests of an endpoint whose medians are these."""
    out = []
    for _ in range(n):
        length = int(rng.integers(20, 400))
        first = ttft_s * math.exp(sd * rng.standard_normal())
        whole = first + (length - 1) * tpot_s * math.exp(sd * rng.standard_normal())
        out.append(
            ServedRequest(
                output_tokens=length, end_to_end_s=whole, ttft_s=first if streamed else None
            )
        )
    return out


def learned(seen, state=START):
    for request in seen:
        state = observe(state, request)
    return state


# -- learning --------------------------------------------------------------------------------------


def test_what_is_told_is_what_is_expected():
    assert START.ttft.expectation == pytest.approx(0.5)
    assert START.tpot.expectation == pytest.approx(0.01)
    pooled = EndpointTimes.told(0.5, 0.01, pooled=True)
    assert pooled.ttft.expectation == pytest.approx(0.5)
    assert pooled.tpot.sd > START.tpot.sd


@pytest.mark.parametrize("streamed", [True, False])
def test_levels_and_noise_are_learned_from_requests(streamed):
    found = learned(requests(np.random.default_rng(0), 80, streamed=streamed))
    assert found.n_seen == 80
    assert math.exp(found.tpot.mean) == pytest.approx(0.03, rel=0.15)
    assert found.tpot.sd < 0.4 < START.tpot.sd
    if streamed:  # end to end alone tells little of a first token that takes a tenth of the time
        assert math.exp(found.ttft.mean) == pytest.approx(0.8, rel=0.15)
        assert math.sqrt(found.ttft.noise_variance) == pytest.approx(0.2, abs=0.08)


def test_observing_is_pure_and_repeatable():
    seen = requests(np.random.default_rng(1), 10)
    assert learned(seen) == learned(seen)
    assert EndpointTimes.told(0.5, 0.01) == START


def test_a_change_of_regime_is_followed():
    rng = np.random.default_rng(2)
    fast = learned(requests(rng, 100))
    slow = learned(requests(rng, 40, tpot_s=0.12), fast)
    assert math.exp(slow.tpot.mean) == pytest.approx(0.12, rel=0.3)


def test_a_few_requests_are_enough_to_notice_that_an_endpoint_has_slowed_down():
    rng = np.random.default_rng(2)
    fast = learned(requests(rng, 100))
    slow = learned(requests(rng, 10, tpot_s=0.12), fast)
    assert math.exp(slow.tpot.mean) > 0.08


def test_one_stuck_request_hardly_moves_a_level():
    known = learned(requests(np.random.default_rng(3), 50))
    stuck = observe(known, ServedRequest(output_tokens=100, end_to_end_s=900.0, ttft_s=890.0))
    assert stuck.ttft.expectation < 1.5 * known.ttft.expectation


def test_what_was_learned_goes_stale_and_what_was_told_does_not():
    known = learned(requests(np.random.default_rng(4), 50))
    days = after(known, 30 * 24 * HOUR)
    assert days.tpot.mean == known.tpot.mean
    assert days.tpot.level_variance == pytest.approx(PRIOR.tpot.level)
    assert days.tpot.noise_variance == pytest.approx(PRIOR.tpot.noise, rel=0.05)
    untouched = after(START, 1000 * HOUR)
    assert (untouched.ttft.mean, untouched.tpot.mean) == (START.ttft.mean, START.tpot.mean)
    assert untouched.tpot.sd == pytest.approx(START.tpot.sd)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_forgetting_in_two_steps_is_forgetting_in_one(a, b):
    known = learned(requests(np.random.default_rng(5), 20))
    once, twice = after(known, a + b), after(after(known, a), b)
    for name in ("level_variance", "noise_variance", "noise_weight"):
        assert getattr(twice.tpot, name) == pytest.approx(getattr(once.tpot, name), rel=1e-6)


times = st.floats(1e-3, 1e3)


@given(
    st.lists(
        st.tuples(st.integers(1, 10_000), times, times, st.booleans(), st.floats(0, 1e6)),
        min_size=1,
        max_size=20,
    )
)
def test_no_sequence_of_requests_breaks_the_state(rows):
    state = START
    for tokens, first, rest, streamed, elapsed in rows:
        request = ServedRequest(
            output_tokens=tokens, end_to_end_s=first + rest, ttft_s=first if streamed else None
        )
        state = observe(state, request, elapsed)
        for time in (state.ttft, state.tpot):
            assert math.isfinite(time.mean)
            assert time.level_variance > 0
            assert time.noise_variance > 0
            assert 0 < time.noise_weight <= PRIOR.window
            assert time.tail_sd >= time.sd * 0.999


@given(st.floats(0, 1e5))
def test_long_inputs_delay_the_first_token(input_tokens):
    expected = PREFILL_S_PER_KTOK * max(input_tokens - 550, 0) / 1000
    assert prefill_s(input_tokens) == pytest.approx(expected)


def test_a_slow_start_after_a_long_input_is_not_held_against_the_endpoint():
    known = learned(requests(np.random.default_rng(6), 50))
    extra = prefill_s(20_550)
    late = ServedRequest(
        output_tokens=50, end_to_end_s=4.0 + extra, ttft_s=0.8 + extra, input_tokens=20_550
    )
    assert observe(known, late).ttft.mean == pytest.approx(known.ttft.mean, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        {"output_tokens": 0},
        {"end_to_end_s": 0.0},
        {"end_to_end_s": math.inf},
        {"ttft_s": 2.0},
        {"ttft_s": 0.0},
        {"input_tokens": -1},
    ],
)
def test_a_request_that_cannot_have_been_is_refused(wrong):
    (field,) = wrong
    with pytest.raises(InputError, match=field):
        ServedRequest(**{"output_tokens": 5, "end_to_end_s": 1.0, **wrong})
    with pytest.raises(InputError, match="elapsed_s"):
        after(START, -1.0)


# -- quantiles -------------------------------------------------------------------------------------

sd_of_ttft, sd_of_writing = st.floats(0.05, 0.9), st.floats(0.05, 1.4)


@given(st.floats(0.01, 100), sd_of_ttft, st.floats(0.01, 100), sd_of_writing)
def test_higher_quantiles_are_longer_and_none_is_shorter_than_its_parts(a, s, b, t):
    at = [
        float(sum_quantile(q, np.array(a), np.array(s), np.array(b), np.array(t)))
        for q in (0.25, 0.5, 0.9, 0.95)
    ]
    assert at == sorted(at)
    assert at[1] > max(a, b) * 0.95
    assert at[3] > max(a * math.exp(1.6 * s), b * math.exp(1.6 * t))


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("s", "t"), [(0.2, 0.3), (0.5, 0.6), (0.9, 1.4)])
def test_quantiles_of_the_sum_are_those_of_many_draws(ratio, s, t):
    z = np.random.default_rng(7).standard_normal((2, 200_000))
    drawn = np.exp(s * z[0]) + ratio * np.exp(t * z[1])
    for q, off in ((0.5, 0.03), (0.95, 0.06)):
        found = sum_quantile(q, np.array(1.0), np.array(s), np.array(ratio), np.array(t))
        assert float(found) == pytest.approx(np.quantile(drawn, q), rel=off)


def test_the_table_reads_what_it_tabulates():
    rng = np.random.default_rng(8)
    start, s, t = rng.uniform(0.1, 3, 7), rng.uniform(0.1, 0.9, 7), rng.uniform(0.1, 1.4, 7)
    writing = np.exp(rng.uniform(-12, 12, (500, 7)))
    table = LatencyTable.of(0.95, s, t)
    exact = sum_quantile(0.95, start, s, writing, t)
    np.testing.assert_allclose(table.quantile(start, writing), exact, rtol=2e-3)


def test_rows_of_a_table_do_not_depend_on_each_other():
    rng = np.random.default_rng(9)
    s, t = rng.uniform(0.1, 0.9, 5), rng.uniform(0.1, 1.4, 5)
    table, start = LatencyTable.of(0.95, s, t), rng.uniform(0.1, 3, (40_000, 5))
    writing = np.exp(rng.uniform(-3, 5, (40_000, 5)))
    whole = table.quantile(start, writing)
    for i in (0, 13_107, 39_999):
        alone = table.quantile(start[i : i + 1], writing[i : i + 1])
        np.testing.assert_array_equal(alone[0], whole[i])


# -- the prior -------------------------------------------------------------------------------------


def test_the_prior_of_the_noise_is_recovered():
    rng = np.random.default_rng(10)
    variances = 0.04 * 6.0 / rng.chisquare(6.0, 400)
    found = fit_noise([np.sqrt(v) * rng.standard_normal(60) for v in variances])
    assert found.variance == pytest.approx(0.04, rel=0.15)
    assert found.dof == pytest.approx(6.0, rel=0.3)


def test_too_little_data_is_said_so():
    with pytest.raises(CalibrationError, match="1 endpoints"):
        fit_noise([np.zeros(20)])
    with pytest.raises(CalibrationError, match="3 hosts"):
        level_variance([np.zeros(2)])


@pytest.mark.data
def test_the_shipped_noise_is_that_of_the_request_log(records_dir: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(records_dir / "catalog" / "latency_requests.parquet").to_pydict()
    by_endpoint: dict[tuple[str, str], list[tuple[float, float]]] = {}
    columns = (table[name] for name in ("provider", "model", "ttft_s", "tpot_s"))
    for provider, model, first, rest in zip(*columns, strict=True):
        by_endpoint.setdefault((provider, model), []).append((first, rest))
    hosts: dict[str, list[tuple[float, float]]] = {}
    with (records_dir / "catalog" / "offers.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["latency_s"] and row["throughput_tok_s"]:
                told = (float(row["latency_s"]), 1 / float(row["throughput_tok_s"]))
                hosts.setdefault(row["model_id"], []).append(told)
    for column, shipped in ((0, PRIOR.ttft), (1, PRIOR.tpot)):
        seen = [as_logs(np.array(rows)[:, column]) for rows in by_endpoint.values()]
        told = [as_logs(np.array(rows)[:, column]) for rows in hosts.values()]
        found = fit_spread(seen, told, told)
        assert found.noise == pytest.approx(shipped.noise, rel=0.05)
        assert found.noise_dof == pytest.approx(shipped.noise_dof, rel=0.05)
        assert found.level == pytest.approx(shipped.level, rel=0.05)


def test_a_state_keeps_the_prior_it_started_with():
    wide = replace(PRIOR, tpot=replace(PRIOR.tpot, level=4.0))
    state = observe(
        EndpointTimes.told(0.5, 0.01, prior=wide), requests(np.random.default_rng(11), 1)[0]
    )
    assert after(state, 1000 * HOUR).tpot.level_variance == pytest.approx(4.0)
