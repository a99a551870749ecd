from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.catalog import Price
from zerorouter.errors import InputError
from zerorouter.gateway.budgets import (
    DAY_NS,
    day_ends_ns,
    day_from_text,
    day_of,
    day_text,
    month_ends_ns,
    month_of,
    month_text,
    to_nusd,
    to_usd,
    worst_nusd,
)
from zerorouter.gateway.limits import MINUTE_NS, drained, filled, wait_ns
from zerorouter.prices import PriceTier, TokenCounts, request_cost_usd

S = 1_000_000_000


@given(st.integers(1, 10**8))
def test_exactly_the_limit_passes_at_once(per_minute):
    level = filled(0, per_minute - 1, per_minute)
    assert wait_ns(level, 1, per_minute) == 0
    full = filled(level, 1, per_minute)
    assert wait_ns(full, 1, per_minute) == -(-MINUTE_NS // per_minute)


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.integers(0, 90 * S), st.integers(1, 50)), max_size=60),
)
def test_the_bucket_agrees_with_exact_fractions(per_minute, arrivals):
    """The slow way: units in the bucket as fractions."""
    now = level = last = 0
    held = Fraction(0)
    for gap, units in arrivals:
        now += gap
        held = max(Fraction(0), held - Fraction(gap * per_minute, MINUTE_NS))
        level, last = drained(level, last, now, per_minute), now
        passes = held + units <= per_minute
        assert (wait_ns(level, units, per_minute) == 0) == passes
        if passes:
            held += units
            level = filled(level, units, per_minute)
        assert Fraction(level, MINUTE_NS) == held
    assert drained(level, last, now + MINUTE_NS, per_minute) == 0


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_after_the_wait_and_not_before_the_request_passes(per_minute, taken, units):
    level = filled(0, min(taken, per_minute), per_minute)
    wait = wait_ns(level, units, per_minute)
    if wait is None:
        assert units > per_minute
        return
    assert wait_ns(drained(level, 0, wait, per_minute), units, per_minute) == 0
    if wait:
        assert wait_ns(drained(level, 0, wait - 1, per_minute), units, per_minute) > 0


def test_a_clock_that_jumps_back_drains_nothing():
    level = filled(0, 5, 10)
    assert drained(level, 100 * S, 0, 10) == level


@given(st.integers(0, 40_000))
def test_days_and_months_are_those_of_the_calendar(day):
    assert day_from_text(day_text(day)) == day
    assert day_of(day * DAY_NS) == day_of(day_ends_ns(day) - 1) == day
    month = month_of(day)
    assert day_text(day).startswith(month_text(month))
    last = day_of(month_ends_ns(month) - 1)
    assert month_of(last) == month
    assert month_of(last + 1) == month + 1


def test_money_rounds_up_where_it_is_reserved_and_to_the_nearest_where_it_is_paid():
    assert to_nusd(0.1) == to_nusd(0.1, up=True) == 100_000_000
    assert to_nusd(1.2e-9) == 1
    assert to_nusd(1.2e-9, up=True) == 2
    assert to_usd(to_nusd(0.000123456)) == 0.000123456
    for wrong in (-1.0, float("nan"), float("inf"), 2e9):
        with pytest.raises(InputError):
            to_nusd(wrong)


prices = st.builds(
    Price,
    input_usd_per_mtok=st.floats(0, 100),
    output_usd_per_mtok=st.floats(0, 100),
    cached_input_usd_per_mtok=st.none() | st.floats(0, 100),
    cache_write_usd_per_mtok=st.none() | st.floats(0, 100),
    reasoning_usd_per_mtok=st.none() | st.floats(0, 100),
    audio_input_usd_per_mtok=st.none() | st.floats(0, 100),
    tiers=st.just(())
    | st.builds(
        lambda a, b: (
            PriceTier(above_input_tokens=5_000, input_usd_per_mtok=a, output_usd_per_mtok=b),
        ),
        st.floats(0, 200),
        st.floats(0, 200),
    ),
)


@given(prices, st.integers(0, 10_000), st.integers(0, 10_000), st.data())
def test_no_request_within_its_tokens_costs_more_than_the_worst(price, n_in, n_out, data):
    read = data.draw(st.integers(0, n_in))
    written = data.draw(st.integers(0, n_in - read))
    sound = data.draw(st.integers(0, n_in - read - written))
    tokens = TokenCounts(
        input_tokens=n_in,
        output_tokens=n_out,
        cached_input_tokens=read,
        cache_write_tokens=written,
        audio_input_tokens=sound,
        reasoning_tokens=data.draw(st.integers(0, n_out)),
    )
    worst = worst_nusd(price, input_tokens=n_in, max_output_tokens=n_out)
    # Sums of floats in another order differ in the last place.
    assert to_nusd(request_cost_usd(price, tokens)) <= worst + 1 + worst * 1e-12
