from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zerorouter.errors import InputError, MissingPriceError
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.pacing import DAY_S, Pacer, PacingSettings, Period, Volume

NOON = 1_000 * DAY_S + DAY_S / 2


def traffic(n, m=6, seed=0):
    """P(correct) and costs of requests, dear models better."""
    rng = np.random.default_rng(seed)
    price = np.geomspace(0.0005, 0.05, m)
    length = np.exp(rng.normal(0, 0.6, (n, 1)) + rng.normal(0, 0.1, (n, m)))
    logit = np.linspace(-0.5, 2.0, m) - rng.normal(0, 1.2, (n, 1))
    return 1 / (1 + np.exp(-logit)), price * length


def replayed(pacer, times, p, cost):
    """Columns, -1 where refused, with everything paid as told."""
    chosen = []
    for now, row, dollars in zip(times, p, cost, strict=True):
        pace = pacer.choose(now, row, dollars)
        chosen.append(-1 if pace.column is None else pace.column)
        if pace.column is not None:
            pacer.settle(pace, float(dollars[pace.column]))
    return np.array(chosen)


def spent(times, chosen, cost, length=DAY_S):
    """Dollars per period."""
    rows = np.arange(len(chosen))
    paid = np.where(chosen >= 0, cost[rows, chosen], 0.0)
    return np.bincount((np.asarray(times) // length).astype(int), paid)


# -- periods -----------------------------------------------------------------------------------


@given(st.integers(0, 4_000_000_000), st.integers(-12 * 3600, 14 * 3600))
def test_months_are_those_of_the_calendar(now, offset):
    start, end = Period.of("month", offset_s=offset).window(now)
    local = dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(seconds=offset)
    first = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + dt.timedelta(days=32)).replace(day=1)
    assert start == first.timestamp() - offset
    assert end == following.timestamp() - offset
    assert start <= now < end


@pytest.mark.parametrize(("period", "length"), [("hour", 3600), ("day", DAY_S), (900, 900)])
def test_fixed_periods_tile_the_time(period, length):
    kind = Period.of(period)
    start, end = kind.window(NOON + 17)
    assert end - start == length
    assert start <= NOON + 17 < end
    assert kind.window(end)[0] == end


def test_a_day_begins_where_the_offset_says():
    start, _ = Period.of("day", offset_s=3600).window(NOON)
    assert start % DAY_S == DAY_S - 3600


@pytest.mark.parametrize("period", ["week", 0, -5, True, float("nan"), None])
def test_a_period_nobody_knows_is_refused(period):
    with pytest.raises(InputError, match="the period is"):
        Period.of(period)


# -- the hard stop -----------------------------------------------------------------------------


@given(st.integers(0, 1_000), st.floats(0, 2), st.sampled_from(["hour", "day", 600]))
@example(0, 2.2250738585e-313, "hour")  # what is spent over such a target is no number
def test_no_period_is_ever_overdrawn(seed, budget, period):
    rng = np.random.default_rng(seed)
    p, cost = traffic(150, seed=seed)
    times = np.sort(NOON + rng.uniform(0, 4 * 3600, 150))
    pacer = Pacer(budget, period)
    chosen = replayed(pacer, times, p, cost)
    length = {"hour": 3600, "day": DAY_S}.get(period, period)
    assert spent(times, chosen, cost, length).max(initial=0) <= budget + 1e-9


def test_what_is_under_way_is_reserved():
    p, cost = np.array([0.5, 0.9]), np.array([0.4, 0.6])
    pacer = Pacer(1.0, "day")
    paces = [pacer.choose(NOON, p, cost) for _ in range(3)]
    held = [pace.reserved_usd for pace in paces]
    assert sum(held) <= 1.0
    assert paces[-1].column is None
    for pace in paces[:-1]:
        pacer.settle(pace, 0.1)
    assert pacer.spent_usd == pytest.approx(0.2)
    assert pacer.choose(NOON + 1, p, cost).column is not None


def test_reserves_are_what_is_held_not_the_expectation():
    pacer = Pacer(1.0, "day")
    tail = np.array([0.9])
    assert pacer.choose(NOON, np.array([0.9]), np.array([0.1]), tail).reserved_usd == 0.9
    assert pacer.choose(NOON, np.array([0.9]), np.array([0.1]), tail).column is None


def test_a_new_period_has_a_new_budget_and_old_bills_do_not_touch_it():
    p, cost = np.array([0.9]), np.array([1.0])
    pacer = Pacer(1.0, "day")
    first = pacer.choose(NOON, p, cost)
    assert pacer.choose(NOON + 10, p, cost).column is None
    second = pacer.choose(NOON + DAY_S, p, cost)
    assert second.column == 0
    pacer.settle(first, 5.0)
    assert pacer.left_usd == 0.0
    pacer.settle(second, 0.25)
    assert pacer.left_usd == 0.75


def test_a_budget_of_zero_refuses_what_costs_and_takes_what_is_free():
    pacer = Pacer(0.0, "hour")
    assert pacer.choose(NOON, np.array([0.9]), np.array([0.1])).column is None
    assert pacer.choose(NOON, np.array([0.9, 0.2]), np.array([0.1, 0.0])).column == 1


def test_time_that_runs_backwards_counts_as_standing_still():
    p, cost = traffic(30)
    pacer = Pacer(1.0, "day")
    for i in range(30):
        pacer.choose(NOON - 100 * i, p[i], cost[i])
    assert pacer.expected_requests(NOON) > 0


# -- pacing ------------------------------------------------------------------------------------


def offline(p, cost, times, budget):
    """The proven bound on what a batch per day could reach."""
    total = 0.0
    for day in np.unique(times // DAY_S):
        mine = times // DAY_S == day
        offers = Offers(models=tuple("abcdef"), p_correct=p[mine], cost_usd=cost[mine])
        total += assign(offers, Bounds(budget_usd=budget), exact=False).totals.bound
    return total


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_steady_traffic_comes_within_two_percent_of_the_offline_optimum(share):
    p, cost = traffic(3_000)
    times = np.sort(np.random.default_rng(1).uniform(0, 3 * DAY_S, 3_000))
    low, high = cost.min(axis=1).mean(), cost[np.arange(3_000), p.argmax(axis=1)].mean()
    budget = 1_000 * (low + share * (high - low))
    pacer = Pacer(budget, "day")
    chosen = replayed(pacer, times, p, cost)
    reached = p[np.arange(3_000), chosen].sum()
    assert (chosen >= 0).all()
    assert reached > 0.98 * offline(p, cost, times, budget)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_first_day_costs_no_more_than_learning_the_volume(share):
    """Before anything is known of the volume the first requests do not get the day's money."""
    p, cost = traffic(1_000, seed=7)
    times = np.sort(np.random.default_rng(8).uniform(0, DAY_S, 1_000))
    low, high = cost.min(axis=1).mean(), cost[np.arange(1_000), p.argmax(axis=1)].mean()
    budget = 1_000 * (low + share * (high - low))
    chosen = replayed(Pacer(budget, "day"), times, p, cost)
    rows = np.arange(1_000)
    assert (chosen >= 0).all()
    assert p[rows, chosen].sum() > 0.98 * offline(p, cost, times, budget)
    assert cost[rows, chosen][:30].sum() < 0.1 * budget


def test_requests_that_come_at_once_do_not_share_out_everything():
    p, cost = traffic(50, seed=9)
    pacer = Pacer(1_000 * float(cost.mean()), "day")
    chosen = replayed(pacer, np.full(50, NOON), p, cost)
    assert (chosen >= 0).all()
    assert pacer.left_usd > 0.7 * pacer.budget_usd


def test_traffic_that_doubles_is_still_served_to_the_end():
    p, cost = traffic(3_000, seed=2)
    times = np.concatenate(
        [np.linspace(0, DAY_S - 1, 1_000), np.linspace(DAY_S, 2 * DAY_S - 1, 2_000)]
    )
    pacer = Pacer(1_000 * cost.mean(), "day")
    chosen = replayed(pacer, times, p, cost)
    assert (chosen >= 0).all()
    assert spent(times, chosen, cost)[1] > 0.9 * pacer.budget_usd


def test_a_burst_meets_cheap_models_rather_than_none():
    p, cost = traffic(1_200, seed=3)
    # Forty an hour, and then two hundred within minutes before midnight.
    times = np.concatenate(
        [np.linspace(0, 0.98 * DAY_S, 1_000), np.linspace(0.985, 0.99, 200) * DAY_S]
    )
    pacer = Pacer(1_000 * cost.mean(), "day")
    chosen = replayed(pacer, times, p, cost)
    assert np.mean(chosen >= 0) > 0.98
    assert spent(times, chosen, cost)[0] > 0.95 * pacer.budget_usd


def test_the_price_rises_when_money_is_short_and_falls_when_it_is_not():
    p, cost = traffic(400, seed=4)
    times = NOON + np.arange(400.0)
    poor, rich = Pacer(0.05, "hour"), Pacer(1e3, "hour")
    replayed(poor, times, p, cost)
    best = replayed(rich, times, p, cost)
    assert poor.price > 10 * rich.price
    assert np.array_equal(best[-50:], p.argmax(axis=1)[-50:])


def test_no_dollar_is_spent_on_less_than_it_has_to_bring():
    """A rich budget does not make a dear model worth more than a correct answer is."""
    p, cost = traffic(200, seed=5)
    pacer = Pacer(1e6, "hour", settings=PacingSettings(least_price=1 / 0.05))
    chosen = replayed(pacer, NOON + np.arange(200.0), p, cost)
    assert np.array_equal(chosen, (p - cost / 0.05).argmax(axis=1))


def test_pools_of_different_sizes_may_follow_each_other():
    pacer = Pacer(1.0, "hour")
    for m in (3, 5, 2):
        p, cost = traffic(40, m=m, seed=m)
        replayed(pacer, NOON + np.arange(40.0), p, cost)
    assert pacer.price > 0


# -- volume ------------------------------------------------------------------------------------


def test_the_forecast_learns_the_hours_of_the_day():
    volume = Volume(PacingSettings())
    for day in range(5):
        for hour, count in ((9, 300), (15, 100), (22, 10)):
            for i in range(count):
                volume.arrived(day * DAY_S + hour * 3600 + i * 3600 / count)
    volume.advance(5 * DAY_S)
    morning = volume.expected(5 * DAY_S + 9 * 3600, 5 * DAY_S + 10 * 3600)
    evening = volume.expected(5 * DAY_S + 22 * 3600, 5 * DAY_S + 23 * 3600)
    assert morning == pytest.approx(300, rel=0.1)
    assert evening == pytest.approx(10, rel=0.5)
    assert volume.expected(5 * DAY_S, 6 * DAY_S) == pytest.approx(410, rel=0.1)
    assert volume.expected(5 * DAY_S, 35 * DAY_S) == pytest.approx(30 * 410, rel=0.1)


def test_a_long_silence_is_forgotten_quickly_and_costs_no_time():
    volume = Volume(PacingSettings())
    for i in range(1_000):
        volume.arrived(i * 60.0)
    volume.advance(20 * 365 * DAY_S)
    assert volume.expected(20 * 365 * DAY_S, (20 * 365 + 1) * DAY_S) < 100


@pytest.mark.parametrize("memory", [0.5, 1.0, 7.0])
def test_a_silence_in_one_step_is_a_silence_in_many(memory):
    """Days that are skipped are forgotten as if each hour had been looked at."""
    stepped, skipped = (Volume(PacingSettings(memory_days=memory)) for _ in range(2))
    for volume in (stepped, skipped):
        for i in range(500):
            volume.arrived(i * 60.0)
    end = 40 * DAY_S
    for hour in range(9, 40 * 24 + 1):
        stepped.advance(hour * 3600.0)
    skipped.advance(float(end))
    day = (end, end + DAY_S)
    assert skipped.expected(*day) == pytest.approx(stepped.expected(*day), rel=0.1, abs=0.1)


def test_bursts_raise_the_dispersion_and_even_traffic_does_not():
    even, bursty = Volume(PacingSettings()), Volume(PacingSettings())
    rng = np.random.default_rng(0)
    for at in np.sort(rng.uniform(0, 5 * DAY_S, 3_000)):
        even.arrived(float(at))
    starts = np.sort(rng.uniform(0, 5 * DAY_S, 60))
    for at in np.sort(np.repeat(starts, 50) + rng.exponential(60, 3_000)):
        bursty.arrived(float(at))
    assert even.dispersion < 5
    assert bursty.dispersion > 20


# -- over a restart ----------------------------------------------------------------------------


def test_a_restart_goes_on_as_if_nothing_had_happened():
    p, cost = traffic(300, seed=6)
    times = NOON + np.cumsum(np.random.default_rng(6).exponential(20, 300))
    whole = Pacer(2.0, "hour")
    first = replayed(whole, times[:150], p[:150], cost[:150])
    again = Pacer.from_state(json.loads(json.dumps(whole.state())))
    expected = replayed(whole, times[150:], p[150:], cost[150:])
    assert np.array_equal(replayed(again, times[150:], p[150:], cost[150:]), expected)
    assert len(first) == 150


def test_what_was_reserved_counts_as_spent_after_a_restart():
    pacer = Pacer(1.0, "day")
    pacer.choose(NOON, np.array([0.9]), np.array([0.7]))
    again = Pacer.from_state(pacer.state())
    assert again.spent_usd == pytest.approx(0.7)
    assert again.choose(NOON, np.array([0.9]), np.array([0.7])).column is None


@pytest.mark.parametrize(
    "change",
    [{"format": "other"}, {"volume": {}}, {"spent_usd": "much"}, {"period": "week"}, {"recent": 3}],
)
def test_a_damaged_state_is_refused(change):
    with pytest.raises(InputError):
        Pacer.from_state({**Pacer(1.0, "day").state(), **change})


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [-1, math.nan, math.inf])
def test_a_budget_is_a_number_from_zero_up(budget):
    with pytest.raises(InputError, match="budget_usd"):
        Pacer(budget, "day")


def test_requests_are_checked():
    pacer = Pacer(1.0, "day")
    with pytest.raises(MissingPriceError):
        pacer.choose(NOON, np.array([0.5]), np.array([np.nan]))
    with pytest.raises(InputError, match="shapes"):
        pacer.choose(NOON, np.array([0.5]), np.array([0.1, 0.2]))
    with pytest.raises(InputError, match="probabilities"):
        pacer.choose(NOON, np.array([1.5]), np.array([0.1]))
    pace = pacer.choose(NOON, np.array([0.5]), np.array([0.1]))
    with pytest.raises(InputError, match="cost_usd"):
        pacer.settle(pace, -1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 0},
        {"recent": 0},
        {"memory_days": 0},
        {"first_s": 0},
        {"surge": -1},
        {"late_requests": -0.1},
        {"late_budget": math.nan},
        {"least_price": math.inf},
    ],
)
def test_settings_are_checked(change):
    with pytest.raises(InputError):
        PacingSettings(**change)
