from __future__ import annotations

import math

import pytest

from zerorouter.routing.wording import percent, seconds, usd


@pytest.mark.parametrize(
    ("p", "told"),
    [(0.873, "87%"), (0.9949, "99%"), (0.996, ">99%"), (1.0, "100%"), (0.001, "<1%"), (0.0, "0%")],
)
def test_a_percentage_is_never_rounded_to_a_certainty(p, told):
    assert percent(p) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "$0"),
        (0.0000123, "$0.000012"),
        (0.05, "$0.050"),
        (1.5, "$1.50"),
        (1234.5, "$1,234.50"),
        (math.nan, "?"),
        (math.inf, "any sum"),
        (-0.002, "$-0.0020"),
    ],
)
def test_dollars_keep_two_significant_digits(value, told):
    assert usd(value) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0.44, "0.4 s"), (119.9, "119.9 s"), (90 * 60, "90.0 min")]
)
def test_long_waits_are_told_in_minutes(value, told):
    assert seconds(value) == told
