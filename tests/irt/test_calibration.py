from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irt.simulation import simulate
from zerorouter.errors import CalibrationError
from zerorouter.irt.calibration import (
    CalibrationSettings,
    Convergence,
    calibrate,
    score_residual,
)
from zerorouter.irt.identification import procrustes_alignment, rotate
from zerorouter.irt.model import forecast, log_loss


def fit(truth, **changes):
    options = {"n_dims": 3, "max_iterations": 200} | changes
    return calibrate(
        truth.scores,
        features=truth.features,
        covariates=truth.covariates,
        settings=CalibrationSettings(**options),
    )


def test_abilities_are_recovered_up_to_rotation_and_origin():
    truth = simulate(1, n_items=3000)
    found = fit(truth)
    estimate = found.abilities.mean - found.abilities.mean.mean(axis=0)
    target = truth.theta - truth.theta.mean(axis=0)
    turned = estimate @ procrustes_alignment(estimate, target)
    for k in range(3):
        assert np.corrcoef(turned[:, k], target[:, k])[0, 1] > 0.93


def test_item_parameters_are_recovered_up_to_rotation():
    truth = simulate(2, n_respondents=150)
    found = fit(truth)
    shift = found.abilities.mean.mean(axis=0)
    turn = procrustes_alignment(
        found.abilities.mean - shift, truth.theta - truth.theta.mean(axis=0)
    )
    a = found.items.discrimination @ turn
    d = found.items.intercept + found.items.discrimination @ shift
    d_true = truth.d + truth.a @ truth.theta.mean(axis=0)
    assert np.corrcoef(d, d_true)[0, 1] > 0.95
    for k in range(3):
        assert np.corrcoef(a[:, k], truth.a[:, k])[0, 1] > 0.7


def test_held_out_cells_are_predicted_nearly_as_well_as_by_the_truth():
    truth = simulate(3)
    found = forecast(fit(truth).items, fit(truth).abilities).p_correct.T
    constant = np.full(truth.p.shape, np.nanmean(truth.scores))
    ours, best, worst = (log_loss(p, truth.held_out) for p in (found, truth.p, constant))
    assert best < ours < best + 0.25 * (worst - best)


def test_features_place_unseen_prompts():
    """With half of the items left out, their parameters follow from features alone."""
    truth = simulate(4, n_items=2000)
    half = np.arange(2000) < 1000
    found = calibrate(
        truth.scores[:, half],
        features=truth.features[half],
        settings=CalibrationSettings(n_dims=3, max_iterations=200),
    )
    extended = np.column_stack([truth.features[~half], np.ones(1000)])
    beta = extended @ found.regression.weights
    predicted = found.abilities.mean @ beta[:, :3].T + beta[:, 3]
    p = 1 / (1 + np.exp(-predicted))
    unseen = truth.scores[:, ~half]
    constant = np.full(p.shape, np.nanmean(truth.scores[:, half]))
    assert log_loss(p, unseen) < log_loss(constant, unseen) - 0.05


def test_the_population_prior_learns_what_covariates_tell():
    truth = simulate(5, n_respondents=200)
    found = rotate(fit(truth))
    expected = np.column_stack([truth.covariates, np.ones(200)]) @ found.population
    assert np.corrcoef(expected[:, 0], truth.covariates[:, 0])[0, 1] > 0.9


def test_a_respondent_with_no_answer_sits_at_its_prior_with_the_widest_bar():
    truth = simulate(6)
    truth.scores[7] = np.nan
    found = fit(truth)
    expected = np.append(truth.covariates[7], 1.0) @ found.population
    np.testing.assert_allclose(found.abilities.mean[7], expected, atol=0.05)
    assert found.abilities.sd[7].min() >= found.abilities.sd.max() - 1e-6


def test_blocks_linked_by_shared_respondents_come_onto_one_scale():
    """Two data sets share a few respondents; all abilities still compare across them."""
    truth = simulate(7, n_respondents=90, n_items=1600, n_dims=1, missing=0.1)
    blocks = (np.arange(1600) >= 800).astype(int)
    scores = truth.scores.copy()
    scores[:40, blocks == 1] = np.nan  # only in the first
    scores[50:, blocks == 0] = np.nan  # only in the second; 40 to 49 in both
    found = calibrate(
        scores, blocks=blocks, settings=CalibrationSettings(n_dims=1, max_iterations=300)
    )
    estimate = found.abilities.mean[:, 0]
    assert abs(np.corrcoef(estimate, truth.theta[:, 0])[0, 1]) > 0.95


def test_a_block_intercept_absorbs_a_harder_setting():
    truth = simulate(8, n_respondents=100)
    blocks = np.arange(1500) % 2
    rng = np.random.default_rng(0)
    harder = rng.random(truth.scores.shape) < 0.5
    scores = np.where((blocks == 1) & harder & ~np.isnan(truth.scores), 0.0, truth.scores)
    found = calibrate(
        scores,
        features=truth.features,
        blocks=blocks,
        settings=CalibrationSettings(n_dims=2),
    )
    assert found.block_intercepts[1] < found.block_intercepts[0] - 0.5
    assert abs(np.average(found.block_intercepts)) < 1e-6


def test_guess_floors_keep_probabilities_above_chance():
    truth = simulate(9, guessing=0.25)
    floor = np.full(1500, 0.25)
    found = calibrate(
        truth.scores, guessing=floor, settings=CalibrationSettings(n_dims=3, max_iterations=200)
    )
    p = forecast(found.items, found.abilities).p_correct
    assert p.min() >= 0.25
    plain = calibrate(truth.scores, settings=CalibrationSettings(n_dims=3, max_iterations=200))
    without = forecast(plain.items, plain.abilities).p_correct
    assert log_loss(p.T, truth.held_out) < log_loss(without.T, truth.held_out) + 0.002


def test_fractional_scores_tell_more_than_single_answers():
    """Fitted to probabilities instead of draws from them, the same model errs less."""
    truth = simulate(10)
    options = CalibrationSettings(n_dims=3, max_iterations=200)
    fractional = calibrate(np.where(np.isnan(truth.scores), np.nan, truth.p), settings=options)
    binary = calibrate(truth.scores, settings=options)
    errors = [
        np.mean(np.abs(forecast(fit.items, fit.abilities).p_correct.T - truth.p))
        for fit in (fractional, binary)
    ]
    assert errors[0] < 0.9 * errors[1]


def test_a_fit_says_when_it_did_not_converge():
    found = fit(simulate(11), max_iterations=3, tolerance=1e-9)
    assert found.status is Convergence.ITERATION_LIMIT
    assert "max_iterations" in found.status.value
    assert fit(simulate(11)).status is Convergence.CONVERGED


def test_a_fit_is_reproducible():
    truth = simulate(12)
    first, second = fit(truth), fit(truth)
    np.testing.assert_array_equal(first.abilities.mean, second.abilities.mean)
    np.testing.assert_array_equal(first.regression.weights, second.regression.weights)


def test_the_order_of_respondents_does_not_matter():
    truth = simulate(13)
    order = np.random.default_rng(0).permutation(len(truth.scores))
    one = calibrate(truth.scores, settings=CalibrationSettings(n_dims=1, max_iterations=300))
    other = calibrate(
        truth.scores[order], settings=CalibrationSettings(n_dims=1, max_iterations=300)
    )
    np.testing.assert_allclose(one.abilities.mean[order], other.abilities.mean, atol=1e-3)


def test_constant_items_and_respondents_stay_finite():
    """All-right, all-wrong and never-answered rows and columns shrink to their priors."""
    truth = simulate(14, n_respondents=30, n_items=200)
    scores = truth.scores
    scores[0], scores[1] = 1.0, 0.0
    scores[:, 0], scores[:, 1], scores[:, 2] = 1.0, 0.0, np.nan
    found = fit(truth)
    for values in (found.abilities.mean, found.items.discrimination, found.items.intercept):
        assert np.isfinite(values).all()
    assert np.abs(found.items.intercept).max() < 12


@pytest.mark.parametrize("guessing", [0.0, 0.2])
def test_the_gradient_is_the_derivative_of_the_log_likelihood(guessing):
    rng = np.random.default_rng(0)
    logit = rng.normal(size=(6, 5)) * 2
    y = rng.random((6, 5))
    mask = rng.random((6, 5)) < 0.7
    floor = np.full(6, guessing)

    def likelihood(x):
        p = guessing + (1 - guessing) / (1 + np.exp(-x))
        return (y * np.log(p) + (1 - y) * np.log(1 - p)) * mask

    h = 1e-5
    numeric = (likelihood(logit + h) - likelihood(logit - h)) / (2 * h)
    analytic = score_residual(
        logit.astype(np.float32),
        ((y - 0.5) * mask).astype(np.float32),
        (0.5 * mask).astype(np.float32),
        floor.astype(np.float32) if guessing else None,
    )
    np.testing.assert_allclose(analytic, numeric, atol=2e-5)


@given(
    seed=st.integers(0, 10_000),
    n_dims=st.integers(1, 4),
)
@settings(max_examples=25, deadline=None)
def test_rotating_theta_and_a_jointly_leaves_p_unchanged(seed, n_dims):
    rng = np.random.default_rng(seed)
    truth = simulate(seed, n_respondents=20, n_items=60, n_dims=n_dims)
    found = calibrate(
        truth.scores,
        features=truth.features,
        settings=CalibrationSettings(n_dims=n_dims, max_iterations=5),
    )
    before = forecast(found.items, found.abilities)
    turned = rotate(found)
    after = forecast(turned.items, turned.abilities)
    np.testing.assert_allclose(before.logit, after.logit, atol=1e-4)
    np.testing.assert_allclose(before.p_correct, after.p_correct, atol=1e-4)
    assert turned.items.discrimination[:, 0].mean() >= 0
    x = np.append(rng.standard_normal(20), 1.0)
    old = found.abilities.mean @ (x @ found.regression.weights)[:n_dims]
    old += (x @ found.regression.weights)[n_dims]
    new = turned.abilities.mean @ (x @ turned.regression.weights)[:n_dims]
    new += (x @ turned.regression.weights)[n_dims]
    np.testing.assert_allclose(old, new, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: np.full_like(s, np.nan), "no response was observed"),
        (lambda s: np.where(np.isnan(s), np.nan, 1.0), "every observed score is 1"),
        (lambda s: s * 2, "must lie in \\[0, 1\\]"),
        (lambda s: s[0], "shape"),
    ],
)
def test_matrices_that_cannot_be_fitted_are_refused(change, message):
    with pytest.raises(CalibrationError, match=message):
        calibrate(change(simulate(15, n_respondents=10, n_items=30).scores))


def test_mismatched_shapes_are_refused():
    scores = simulate(16, n_respondents=10, n_items=30).scores
    with pytest.raises(CalibrationError, match="feature rows"):
        calibrate(scores, features=np.zeros((29, 2)))
    with pytest.raises(CalibrationError, match="covariate rows"):
        calibrate(scores, covariates=np.zeros((9, 2)))
    with pytest.raises(CalibrationError, match="NaN or infinity"):
        calibrate(scores, features=np.full((30, 2), np.nan))
    with pytest.raises(CalibrationError, match="n_dims"):
        CalibrationSettings(n_dims=0)
