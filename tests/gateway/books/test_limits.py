from __future__ import annotations

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
from zerorouter.gateway.limits import Window, second_of
from zerorouter.prices import PriceTier, TokenCounts, request_cost_usd

S = 1_000_000_000


def asked(window: Window, units: int, per_minute: int, now_ns: int) -> int | None:
    """Let it in if it passes; the time to wait."""
    window.move_to(second_of(now_ns))
    wait = window.wait_ns(units, per_minute, now_ns)
    if wait == 0:
        window.add(units)
    return wait


@given(st.integers(1, 10**8), st.integers(0, 10**15))
def test_exactly_the_limit_passes_at_once(per_minute, now):
    window = Window()
    assert asked(window, per_minute, per_minute, now) == 0
    wait = asked(window, 1, per_minute, now)
    assert 60 * S < wait <= 61 * S
    assert asked(window, per_minute + 1, per_minute, now) is None


arrivals = st.lists(st.tuples(st.integers(0, 90 * S), st.integers(1, 50)), max_size=60)


@given(st.integers(1, 200), arrivals)
def test_no_60_seconds_ever_hold_more_than_the_limit(per_minute, gaps):
    """The slow way: every instant that was let in, and every window that begins at one."""
    window, now, held = Window(), 0, []
    for gap, units in gaps:
        now += gap
        if asked(window, units, per_minute, now) == 0:
            held.append((now, units))
        elif units <= per_minute:  # a second late at most: 61 whole seconds would be too many
            lately = sum(n for at, n in held if at // S > now // S - 61)
            assert lately + units > per_minute
    for start, _ in held:
        assert sum(n for at, n in held if start <= at < start + 60 * S) <= per_minute


@given(st.integers(1, 10**6), arrivals, st.integers(1, 10**6))
def test_after_the_wait_and_not_before_the_request_passes(per_minute, gaps, units):
    window, now = Window(), 0
    for gap, taken in gaps:
        now += gap
        asked(window, taken, per_minute, now)
    wait = Window(window.last_s, list(window.counts)).wait_ns(units, per_minute, now)
    if wait is None:
        assert units > per_minute
        return
    if wait:
        before = Window(window.last_s, list(window.counts))
        assert asked(before, units, per_minute, now + wait - 1) == 1
    assert asked(window, units, per_minute, now + wait) == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 50))
def test_a_clock_that_jumps_back_frees_nothing_and_is_waited_out(first, second, n):
    window = Window()
    for _ in range(n):
        assert asked(window, 1, n, max(first, second) * S) == 0
    wait = asked(window, 1, n, min(first, second) * S)
    assert 0 < wait <= 61 * S
    assert asked(window, n, n, min(first, second) * S + wait) == 0


@given(st.integers(0, 200), st.integers(-100, 100))
def test_what_was_announced_too_high_is_given_back_in_its_second(later, units):
    window = Window()
    window.move_to(100)
    window.add(60)
    window.move_to(100 + later)
    window.add(units, 100)
    assert sum(window.counts) == (max(60 + units, 0) if later < 61 else 0)


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
