"""The fit of answer lengths: what is read from prompts, and what forecasts are off by."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zerorouter.fitting.lengths import fit_length_model, length_prior, style_of
from zerorouter.linking import RespondentCard
from zerorouter.predict.tokens import length_posterior
from zerorouter.space import AnswerStyle


def simulate(seed, *, m=12, n=600, d=8, skewed=False):
    """Lengths whose level is read from features; the last model is heavy-tailed if ``skewed``."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    readable = 5 + x @ (0.3 * rng.standard_normal(d))
    level, b = readable + 0.3 * rng.standard_normal(n), rng.standard_normal(n)
    offset = np.linspace(-0.5, 0.5, m)
    noise = 0.3 * rng.standard_normal((m, n))
    if skewed:
        noise[-1] = 0.5 * (rng.gumbel(size=n) - np.euler_gamma)
    y = level + offset[:, None] + 0.1 * b + noise
    return y, x, b, readable, offset


def fit(y, x, b, facets=None, reasoning=None):
    return fit_length_model(
        y,
        x,
        b,
        facets,
        families=["a", "b", "c", "d"] * (len(y) // 4),
        reasoning=np.zeros(len(y), dtype=bool) if reasoning is None else reasoning,
    )


def test_levels_are_read_from_the_prompt_and_the_spread_is_that_of_unseen_prompts():
    y, x, b, readable, offset = simulate(0)
    half = np.arange(y.shape[1]) % 2 == 0
    model = fit(y[:, half], x[half], b[half])
    np.testing.assert_allclose(model.level(x[~half]), readable[~half], atol=0.2)
    styles = model.styles()
    centre = model.level(x[~half]) + styles.offset[:, None]
    error = (y[:, ~half] - centre).std(axis=1)
    np.testing.assert_allclose(styles.sd, error, rtol=0.15)  # .42, not the .30 around true levels
    np.testing.assert_allclose(styles.offset - styles.offset.mean(), offset, atol=0.05)


def test_forecast_amounts_add_up_to_real_ones_also_where_tails_are_heavy():
    y, x, b, *_ = simulate(1, n=3000, skewed=True)
    half = np.arange(y.shape[1]) % 2 == 0
    model = fit(y[:, half], x[half], b[half])
    made = model.styles().profile().expected_tokens(model.level(x[~half]), b[~half]).T
    ratio = made.sum(axis=1) / np.exp(y[:, ~half]).sum(axis=1)
    np.testing.assert_allclose(ratio, 1.0, atol=0.08)


def test_leanings_along_facets_are_learned_and_sharpen_the_forecast():
    y, x, b, *_ = simulate(2, n=1500)
    rng = np.random.default_rng(3)
    facets = x[:, :4] / 2
    own = 0.6 * rng.standard_normal((len(y), 4))
    y = y + own @ facets.T
    plain, leaning = fit(y, x, b), fit(y, x, b, facets)
    assert (
        np.corrcoef(
            (leaning.population.leanings - leaning.population.leanings.mean(axis=0)).ravel(),
            (own - own.mean(axis=0)).ravel(),
        )[0, 1]
        > 0.95
    )
    assert leaning.sd.mean() < plain.sd.mean() - 0.02


def test_models_that_reason_are_left_out_and_stand_at_the_assumption():
    y, x, b, *_ = simulate(4)
    thinks = np.zeros(len(y), dtype=bool)
    thinks[0] = True
    wild = y.copy()
    wild[0] += 3.0
    model = fit(wild, x, b, reasoning=thinks)
    np.testing.assert_array_equal(
        model.population.effects, fit(y, x, b, reasoning=thinks).population.effects
    )
    styles = model.styles()
    assert styles.offset[0] == pytest.approx(np.log(8.0))
    assert styles.sd[0] > 1.0


def test_a_respondent_without_lengths_is_placed_by_its_family():
    y, x, b, *_ = simulate(5, m=16)
    y[:8] += np.where(np.arange(8) % 4 == 0, 1.0, 0.0)[:, None]
    y[8:] += np.where(np.arange(8) % 4 == 0, 1.0, 0.0)[:, None]
    y[0] = np.nan
    styles = fit(y, x, b).styles()
    assert np.isfinite(styles.offset).all()
    assert styles.offset[0] > styles.offset[1]  # its family is the wordy one
    assert styles.sd[0] > styles.sd[1]


def test_without_any_length_everybody_is_expected_to_write_alike():
    y, x, b, *_ = simulate(6)
    model = fit(np.full_like(y, np.nan), x, b)
    expected = model.styles().profile().expected_tokens(model.level(x), b)
    np.testing.assert_allclose(expected, 300 * np.exp(0.5), rtol=1e-5)


# -- the prior that a space's respondents make up --------------------------------------------------


def cards(families, reasoning=()):
    return [
        RespondentCard(id=str(i), model=str(i), family=family, reasoning=i in reasoning)
        for i, family in enumerate(families)
    ]


def test_the_prior_of_a_space_is_that_of_its_fit():
    y, x, b, *_ = simulate(7, m=24)
    model = fit(y, x, b)
    found = length_prior(model.styles(), cards(["a", "b", "c", "d"] * 6))
    fitted = model.population.prior
    np.testing.assert_allclose(found.mean, fitted.mean, atol=0.1)
    assert found.pivot == pytest.approx(fitted.pivot)
    assert found.noise_sd == pytest.approx(float(np.sqrt(np.mean(model.sd**2))), rel=0.05)


def test_the_prior_leaves_out_respondents_that_reason():
    y, x, b, *_ = simulate(8)
    styles = fit(y, x, b).styles()
    wild = dataclasses.replace(
        styles, offset=np.where(np.arange(12) == 3, 9.0, styles.offset).astype(np.float32)
    )
    families = ["a", "b", "c", "d"] * 3
    kept = length_prior(wild, cards(families, reasoning={3}))
    assert kept.mean[0] == pytest.approx(length_prior(styles, cards(families)).mean[0], abs=0.1)


def test_a_newcomers_row_joins_the_styles_of_a_space():
    y, x, b, *_ = simulate(9)
    model = fit(y, x, b)
    styles = model.styles()
    prior = length_prior(styles, cards(["a", "b", "c", "d"] * 3))
    posterior = length_posterior(prior, y[2], model.level(x), b, family="c")
    joined = styles.joined(style_of(posterior))
    assert len(joined.offset) == len(styles.offset) + 1
    both = joined.profile(np.array([2, 12])).expected_tokens(model.level(x), b)
    np.testing.assert_allclose(both[:, 1], both[:, 0], rtol=0.1)


def test_styles_of_the_first_spaces_are_read_without_what_came_later():
    old = AnswerStyle(
        offset=np.array([0.5], np.float32),
        slope=np.array([0.1], np.float32),
        sd=np.array([0.4], np.float32),
    )
    expected = old.profile().expected_tokens(np.array([5.0]), np.array([1.0]))
    assert np.log(expected[0, 0]) == pytest.approx(5.0 + 0.5 + 0.1 + 0.08, rel=1e-6)
    assert old.joined(old).stretch is None
