from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from zerorouter.predict.tokens import (
    LONGEST,
    LengthProfile,
    fit_answer_lengths,
    fit_length_population,
    length_posterior,
)


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


@given(st.floats(0.05, 2), st.floats(0.01, 0.99))
def test_quantiles_are_those_of_the_log_normal(sd, q):
    profile = LengthProfile(offset=np.array([sd**2 / 2]), slope=np.zeros(1), sd=np.array([sd]))
    expected = profile.expected_tokens(np.array([5.0]), np.array([0.0]))
    found = profile.quantile(expected, q)[0, 0]
    assert found == pytest.approx(np.exp(5.0 + sd * norm.ppf(q)), rel=1e-6)


def test_without_a_spread_there_are_no_quantiles():
    profile = LengthProfile(offset=np.zeros(1), slope=np.zeros(1))
    with pytest.raises(ValueError, match="without sd"):
        profile.quantile(np.ones((1, 1)), 0.9)


def test_stretch_and_leanings_enter_where_they_are_told():
    profile = LengthProfile(
        offset=np.array([1.0, 1.0]),
        slope=np.zeros(2),
        stretch=np.array([0.5, 0.0]),
        leanings=np.array([[0.0, 2.0]], dtype=np.float32),
    )
    level, flat, facets = np.array([2.0]), np.zeros(1), np.array([[0.25]], dtype=np.float32)
    found = np.log(profile.expected_tokens(level, flat, facets))[0]
    np.testing.assert_allclose(found, [1 + 1.5 * 2.0, 1 + 2.0 + 0.25 * 2.0])


# -- the population and its newcomers --------------------------------------------------------------

FAMILIES = ("oak", "elm", "ash", "fir", "yew", "")


def population(seed, *, m=60, n=400, n_facets=4, missing=0.5):
    """Models of families with offsets of their own; what they wrote beyond the shared level."""
    rng = np.random.default_rng(seed)
    level, b = 5 + 0.6 * rng.standard_normal(n), rng.standard_normal(n)
    facets = rng.standard_normal((n, n_facets)) / np.sqrt(n_facets)
    family = [FAMILIES[i % 5] for i in range(m)]
    own = dict(zip(FAMILIES, [0.8, -0.6, 0.3, -0.3, 0.0, 0.0], strict=True))
    effects = np.column_stack(
        [
            [own[f] for f in family] + 0.1 * rng.standard_normal(m) - 0.5,
            0.15 * rng.standard_normal(m),
            0.2 * rng.standard_normal(m),
        ]
    )
    leanings = 0.3 * rng.standard_normal((m, n_facets))
    design = np.column_stack([np.ones(n), b, level - level.mean()])
    y = effects @ design.T + leanings @ facets.T + 0.3 * rng.standard_normal((m, n))
    y[rng.random(y.shape) < missing] = np.nan
    return y, level, b, facets, family, effects, leanings


def fitted(seed, **options):
    y, level, b, facets, family, *_ = population(seed, **options)
    return fit_length_population(
        y,
        level,
        b,
        facets,
        families=family,
        reasoning=np.zeros(len(y), dtype=bool),
        noise_sd=np.full(len(y), 0.3),
    )


def test_effects_leanings_and_their_population_are_recovered():
    *_, effects, leanings = population(0)
    found = fitted(0)
    np.testing.assert_allclose(found.effects, effects, atol=0.15)
    assert np.corrcoef(found.leanings.ravel(), leanings.ravel())[0, 1] > 0.9
    assert found.prior.leaning_variance == pytest.approx(0.09, rel=0.4)
    assert found.prior.mean[0] == pytest.approx(effects[:, 0].mean(), abs=0.2)
    assert found.prior.family_variance > found.prior.variance[0]
    shift = {name: value for name, (value, _) in found.prior.families.items()}
    assert shift["oak"] > shift["ash"] > shift["elm"]


def test_error_bars_of_newcomers_from_five_outputs_hold_the_truth():
    prior = fitted(1).prior
    y, level, b, facets, family, effects, _ = population(2, missing=0.0)
    inside, width = [], []
    for u in range(len(y)):
        found = length_posterior(
            prior, (y[u] + level)[:5], level[:5], b[:5], facets[:5], family=family[u]
        )
        inside.append(abs(found.offset - effects[u, 0]) < 1.645 * found.offset_sd)
        width.append(found.offset_sd)
    assert np.mean(inside) > 0.8
    assert np.mean(width) < 0.2


@given(st.integers(0, 40), st.sampled_from(FAMILIES), st.booleans())
def test_more_outputs_never_widen_the_error_bar_much_and_none_leave_the_prior(n, family, thinks):
    prior = fitted(1).prior
    y, level, b, *_ = population(3, missing=0.0)
    found = length_posterior(
        prior, (y[0] + level)[:n], level[:n], b[:n], family=family, reasoning=thinks
    )
    mean, variance = prior.of(family, reasoning=thinks)
    assert found.n_outputs == n
    assert found.offset_sd <= np.sqrt(variance[0]) * 1.001
    if n == 0:
        assert found.offset == mean[0]
        assert found.predictive_sd == pytest.approx(np.hypot(prior.noise_sd, np.sqrt(variance[0])))


def test_reasoning_models_are_a_pool_of_their_own():
    prior = fitted(1).prior
    plain, _ = prior.of("oak")
    mean, variance = prior.of("oak", reasoning=True)
    assert mean[0] == pytest.approx(np.log(8.0))
    assert variance[0] == 1.0
    assert mean[1:].tolist() == plain[1:].tolist()
    # Twenty counted answers settle what the assumption left open.
    level, flat = np.full(20, 5.0), np.zeros(20)
    found = length_posterior(prior, level + np.log(3.0), level, flat, reasoning=True)
    assert found.offset == pytest.approx(np.log(3.0), abs=0.15)
    assert found.offset_sd < 0.2


def test_unknown_outputs_count_for_nothing():
    prior = fitted(1).prior
    level, b = np.array([5.0, 6.0, 5.5]), np.array([0.0, 1.0, 0.5])
    some = np.array([5.2, np.nan, 5.6])
    whole = length_posterior(prior, some, level, b)
    kept = length_posterior(prior, some[[0, 2]], level[[0, 2]], b[[0, 2]])
    assert whole.n_outputs == kept.n_outputs == 2
    np.testing.assert_allclose(whole.mean, kept.mean)


def test_a_newcomers_profile_forecasts_with_its_doubt():
    prior = fitted(1).prior
    found = length_posterior(prior, np.array([5.4]), np.array([5.0]), np.array([0.0]))
    profile = found.profile()
    assert profile.sd is not None
    assert profile.sd[0] == pytest.approx(np.hypot(found.sd, found.offset_sd))
    level = np.array([found.pivot])
    expected = profile.expected_tokens(level, np.zeros(1))[0, 0]
    assert np.log(expected) == pytest.approx(found.pivot + found.offset + profile.sd[0] ** 2 / 2)
