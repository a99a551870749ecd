from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.errors import CatalogError, InputError, MissingPriceError
from zerorouter.prices import (
    Price,
    PriceTier,
    TokenCounts,
    missing_price,
    request_cost_usd,
    require_price,
)

FULL = Price(
    input_usd_per_mtok=3.0,
    output_usd_per_mtok=15.0,
    cached_input_usd_per_mtok=0.3,
    cache_write_usd_per_mtok=3.75,
    reasoning_usd_per_mtok=20.0,
    audio_input_usd_per_mtok=6.0,
    tiers=(
        PriceTier(
            above_input_tokens=200_000,
            input_usd_per_mtok=6.0,
            output_usd_per_mtok=22.5,
            cached_input_usd_per_mtok=0.6,
            cache_write_usd_per_mtok=7.5,
        ),
    ),
    source="a page",
    date="2026-11-22",
)
PLAIN = Price(input_usd_per_mtok=3.0, output_usd_per_mtok=15.0)


def cost(price, **tokens):
    return request_cost_usd(price, TokenCounts(**tokens))


# -- what a request costs --------------------------------------------------------------------------


def test_a_plain_request_is_tokens_times_prices():
    assert cost(PLAIN, input_tokens=1_000, output_tokens=500) == pytest.approx(0.0105)


def test_each_kind_of_token_has_its_price():
    found = cost(
        FULL,
        input_tokens=100_000,
        output_tokens=3_000,
        cached_input_tokens=60_000,
        cache_write_tokens=10_000,
        audio_input_tokens=5_000,
        reasoning_tokens=2_000,
    )
    assert found == pytest.approx(
        (25_000 * 3 + 60_000 * 0.3 + 10_000 * 3.75 + 5_000 * 6 + 1_000 * 15 + 2_000 * 20) / 1e6
    )


def test_reasoning_counts_as_output_where_it_has_no_price_of_its_own():
    thinking = cost(PLAIN, input_tokens=10, output_tokens=900, reasoning_tokens=800)
    assert thinking == cost(PLAIN, input_tokens=10, output_tokens=900)


def test_where_no_cache_price_is_known_nothing_is_saved():
    warm = cost(PLAIN, input_tokens=10_000, output_tokens=0, cached_input_tokens=9_000)
    assert warm == cost(PLAIN, input_tokens=10_000, output_tokens=0)


def test_a_warm_cache_is_priced_as_the_vendor_does():
    cold = cost(FULL, input_tokens=100_000, output_tokens=0)
    warm = cost(FULL, input_tokens=100_000, output_tokens=0, cached_input_tokens=100_000)
    assert warm == pytest.approx(cold / 10)


def test_above_a_tier_the_whole_request_is_billed_at_it():
    just = cost(FULL, input_tokens=200_000, output_tokens=100)
    over = cost(FULL, input_tokens=200_001, output_tokens=100)
    assert just == pytest.approx((200_000 * 3 + 100 * 15) / 1e6)
    assert over == pytest.approx((200_001 * 6 + 100 * 22.5) / 1e6)


def test_the_highest_tier_below_the_input_holds():
    tiers = tuple(
        PriceTier(above_input_tokens=limit, input_usd_per_mtok=rate, output_usd_per_mtok=0.0)
        for limit, rate in ((32_000, 2.0), (128_000, 5.0))
    )
    price = dataclasses.replace(PLAIN, tiers=tiers)
    assert price.at(32_000) is price
    assert price.at(32_001) is tiers[0]
    assert price.at(10**6) is tiers[1]


count = st.floats(0, 1e6)


@given(count, count, st.floats(0, 1), st.floats(0, 1))
def test_costs_are_never_negative_and_grow_with_the_answer(entered, written, cached, more):
    tokens = {"input_tokens": entered, "cached_input_tokens": cached * entered}
    short = cost(FULL, output_tokens=written * more, **tokens)
    assert 0 <= short <= cost(FULL, output_tokens=written, **tokens) + 1e-12


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-10, 10))
def test_costs_are_proportional_to_prices(entered, written, k):
    factor = 2.0**k
    dear = Price(input_usd_per_mtok=3 * factor, output_usd_per_mtok=15 * factor)
    tokens = {"input_tokens": entered, "output_tokens": written}
    assert cost(dear, **tokens) == factor * cost(PLAIN, **tokens)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ({"input_tokens": -1, "output_tokens": 1}, "input_tokens is -1"),
        ({"input_tokens": 1, "output_tokens": math.nan}, "output_tokens is nan"),
        ({"input_tokens": 1, "output_tokens": math.inf}, "output_tokens is inf"),
        ({"input_tokens": "5", "output_tokens": 1}, "a number of tokens"),
        ({"input_tokens": True, "output_tokens": 1}, "input_tokens is True"),
        ({"input_tokens": 5, "output_tokens": 1, "cached_input_tokens": 6}, "6 tokens are cached"),
        ({"input_tokens": 5, "output_tokens": 1, "reasoning_tokens": 2}, "2 reasoning tokens"),
    ],
)
def test_tokens_that_cannot_be_are_refused(tokens, says):
    with pytest.raises(InputError, match=says):
        TokenCounts(**tokens)


# -- prices as facts -------------------------------------------------------------------------------


@given(st.builds(Price, input_usd_per_mtok=count, output_usd_per_mtok=count))
def test_a_price_equals_its_own_round_trip(price):
    assert Price.from_dict(price.to_dict()) == price


def test_a_price_with_everything_equals_its_own_round_trip():
    told = FULL.to_dict()
    assert told["tiers"][0]["above_input_tokens"] == 200_000
    assert Price.from_dict(told) == FULL


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input_usd_per_mtok": -1.0}, "price.input_usd_per_mtok: found -1.0"),
        ({"output_usd_per_mtok": math.nan}, "price.output_usd_per_mtok: found nan"),
        ({"output_usd_per_mtok": None}, "price.output_usd_per_mtok: found None"),
        ({"reasoning_usd_per_mtok": "dear"}, "price.reasoning_usd_per_mtok"),
        ({"audio_input_usd_per_mtok": math.inf}, "price.audio_input_usd_per_mtok"),
        ({"kind": "guess"}, "price.kind"),
        ({"source": 5}, "price.source"),
        ({"date": "yesterday"}, "price.date"),
        ({"tiers": FULL.tiers * 2}, "by rising above_input_tokens"),
    ],
)
def test_a_price_that_is_none_is_refused_by_field(change, says):
    with pytest.raises(CatalogError, match=says):
        dataclasses.replace(FULL, **change)


@pytest.mark.parametrize(
    ("tier", "says"),
    [
        ({"above_input_tokens": 0}, "above_input_tokens: found 0"),
        ({"above_input_tokens": 1.5}, "above_input_tokens: found 1.5"),
        ({"input_usd_per_mtok": -2.0}, "price.tiers.input_usd_per_mtok"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_a_tier_that_is_none_is_refused_by_field(tier, says):
    row = FULL.to_dict()
    row["tiers"][0] |= tier
    with pytest.raises(CatalogError, match=says):
        Price.from_dict(row)


@pytest.mark.parametrize("tiers", [5, [5], [{"above_input_tokens": 5}]])
def test_tiers_that_are_no_list_of_tiers_are_refused(tiers):
    with pytest.raises(CatalogError, match=r"price\.tiers"):
        Price.from_dict({**PLAIN.to_dict(), "tiers": tiers})


def test_a_missing_price_is_an_error_that_tells_all_ways_to_set_one():
    assert require_price("ada", PLAIN) is PLAIN
    with pytest.raises(MissingPriceError) as caught:
        require_price("ada", None)
    text = str(caught.value)
    assert text == str(missing_price("ada"))
    for way in ("'ada' has no price", "'prices:'", "--prices-from FILE", "--exclude ada"):
        assert way in text
