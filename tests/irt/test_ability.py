from __future__ import annotations

import numpy as np
import pytest

from irt.simulation import simulate
from zerorouter.irt.ability import ability_posterior, item_information
from zerorouter.irt.calibration import Convergence
from zerorouter.irt.model import ItemParameters


def posterior(items, scores, k=3):
    return ability_posterior(items, scores, prior_mean=np.zeros(k), prior_covariance=np.eye(k))


def test_no_answers_return_the_prior():
    truth = simulate(1, n_respondents=2, n_items=10)
    items = ItemParameters.exact(truth.a, truth.d)
    found = posterior(items, np.full(10, np.nan))
    np.testing.assert_allclose(found.mean, 0, atol=1e-9)
    np.testing.assert_allclose(found.covariance, np.eye(3), atol=1e-9)
    assert found.n_answers == 0


def test_more_answers_narrow_every_error_bar():
    truth = simulate(2, missing=0.0)
    items = ItemParameters.exact(truth.a, truth.d)
    few = posterior(items.take(slice(0, 20)), truth.scores[0, :20])
    many = posterior(items.take(slice(0, 400)), truth.scores[0, :400])
    assert (many.sd < few.sd).all()
    assert many.status is Convergence.CONVERGED


def test_intervals_cover_the_true_ability_as_often_as_they_say():
    truth = simulate(3, n_respondents=300, n_items=60, missing=0.0)
    items = ItemParameters.exact(truth.a, truth.d)
    off = []
    for theta, scores in zip(truth.theta, truth.scores, strict=True):
        found = ability_posterior(
            items,
            scores,
            prior_mean=truth.theta.mean(axis=0),
            prior_covariance=np.cov(truth.theta.T),
        )
        off.append((found.mean - theta) / found.sd)
    covered = np.mean(np.abs(off) < 1.645)
    assert 0.87 < covered < 0.93


def test_vague_items_tell_less_than_exact_ones():
    truth = simulate(4, n_items=40, missing=0.0)
    exact = ItemParameters.exact(truth.a, truth.d)
    vague = ItemParameters(
        discrimination=exact.discrimination,
        intercept=exact.intercept,
        guessing=exact.guessing,
        effect_scale=np.ones(40, dtype=np.float32),
        shift_variance=exact.shift_variance,
        effect_covariance=np.eye(4, dtype=np.float32) * 2,
    )
    assert (posterior(vague, truth.scores[0]).sd > posterior(exact, truth.scores[0]).sd).all()


@pytest.mark.parametrize("guessing", [0.0, 0.25])
def test_the_mode_is_a_maximum_of_the_posterior(guessing):
    truth = simulate(5, n_items=80, missing=0.0, guessing=guessing)
    items = ItemParameters.exact(truth.a, truth.d, np.full(80, guessing))
    found = posterior(items, truth.scores[0])

    def log_posterior(theta):
        p = guessing + (1 - guessing) / (1 + np.exp(-(truth.a @ theta + truth.d)))
        y = truth.scores[0]
        return np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)) - 0.5 * theta @ theta

    best = log_posterior(found.mean)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert log_posterior(found.mean + 0.05 * rng.standard_normal(3)) <= best + 1e-6


def test_information_peaks_where_difficulty_meets_ability_and_adds_over_items():
    a = np.array([[1.5]])
    items = ItemParameters.exact(a, np.array([-1.5]))  # difficulty 1
    grid = np.linspace(-3, 3, 121)
    along = [item_information(items, np.array([t]))[0, 0, 0] for t in grid]
    assert grid[int(np.argmax(along))] == pytest.approx(1.0, abs=0.051)
    assert max(along) == pytest.approx(1.5**2 / 4, rel=1e-6)


def test_a_guess_floor_takes_information_away():
    a, d = np.array([[1.5]]), np.array([0.0])
    plain = item_information(ItemParameters.exact(a, d), np.zeros(1))[0, 0, 0]
    floor = item_information(ItemParameters.exact(a, d, np.array([0.25])), np.zeros(1))[0, 0, 0]
    assert floor < plain
