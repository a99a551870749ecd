from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.predict.tokens import LONGEST, LengthProfile, fit_answer_lengths


def simulate(seed, *, m=20, n=800, missing=0.5):
    rng = np.random.default_rng(seed)
    level, b = 5 + 0.6 * rng.standard_normal(n), rng.standard_normal(n)
    offset, slope = 0.7 * rng.standard_normal(m), 0.2 * rng.standard_normal(m)
    sd = rng.uniform(0.2, 0.6, m)
    y = level + offset[:, None] + slope[:, None] * b + sd[:, None] * rng.standard_normal((m, n))
    y[rng.random(y.shape) < missing] = np.nan
    return y, b, offset - offset.mean(), slope - slope.mean(), sd


def test_offsets_slopes_and_scatter_are_recovered():
    y, b, offset, slope, sd = simulate(0)
    found = fit_answer_lengths(y, b)
    np.testing.assert_allclose(found.offset - found.offset.mean(), offset, atol=0.12)
    np.testing.assert_allclose(found.slope - found.slope.mean(), slope, atol=0.12)
    np.testing.assert_allclose(found.sd, sd, atol=0.06)


def test_offsets_are_relative_to_the_respondents_that_were_seen():
    found = fit_answer_lengths(*simulate(1)[:2])
    assert np.average(found.offset, weights=found.n_cells) == pytest.approx(0, abs=1e-9)


def test_a_wordy_respondent_is_told_apart_from_one_that_was_asked_wordy_questions():
    rng = np.random.default_rng(2)
    level = np.repeat([3.0, 7.0], 100)
    y = np.full((3, 200), np.nan)
    y[0, :100], y[1, 100:], y[2] = 3.0, 7.0, level  # the third ties both halves together
    found = fit_answer_lengths(y + 0.01 * rng.standard_normal(y.shape), np.zeros(200))
    np.testing.assert_allclose(found.offset, 0, atol=0.1)


def test_unseen_respondents_and_prompts_are_nan():
    y, b = simulate(3, m=4, n=50)[:2]
    y[2], y[:, 7] = np.nan, np.nan
    found = fit_answer_lengths(y, b)
    assert np.isnan(found.offset[2])
    assert np.isnan(found.level[7])
    assert not np.isnan(np.delete(found.offset, 2)).any()


def test_the_expectation_is_that_of_the_log_normal():
    rng = np.random.default_rng(4)
    draws = np.exp(5.0 + 0.3 + 0.5 * rng.standard_normal(400_000))
    profile = LengthProfile(offset=np.array([0.3 + 0.5**2 / 2]), slope=np.array([0.0]))
    found = profile.expected_tokens(np.array([5.0]), np.array([0.0]))
    assert found[0, 0] == pytest.approx(draws.mean(), rel=0.01)


@given(st.floats(-5, 50), st.floats(-3, 3), st.floats(0, 10), st.floats(0, 2))
def test_expected_lengths_are_positive_bounded_and_grow_with_the_level(level, b, offset, slope):
    profile = LengthProfile(offset=np.array([offset]), slope=np.array([slope]))
    short, long = profile.expected_tokens(np.array([level, level + 1]), np.array([b, b]))[:, 0]
    assert 0 < short <= long <= LONGEST
