from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.irt.model import Abilities, ItemParameters, forecast, log_loss, sigmoid


def one_item(a, d, *, c=0.0, scale=0.0, shift=0.0, psi=None):
    k = len(a)
    return ItemParameters(
        discrimination=np.array([a], dtype=np.float32),
        intercept=np.array([d], dtype=np.float32),
        guessing=np.array([c], dtype=np.float32),
        effect_scale=np.array([scale], dtype=np.float32),
        shift_variance=np.array([shift], dtype=np.float32),
        effect_covariance=np.eye(k + 1, dtype=np.float32) if psi is None else psi,
    )


def one_respondent(theta, sd=0.0):
    k = len(theta)
    return Abilities(
        mean=np.array([theta], dtype=np.float32),
        covariance=np.array([np.eye(k) * sd**2], dtype=np.float32),
    )


def test_known_values_follow_the_logistic():
    p = forecast(one_item([1.0, 0.5], -0.2), one_respondent([0.4, 1.0])).p_correct
    assert p[0, 0] == pytest.approx(1 / (1 + np.exp(-0.7)), abs=1e-6)


def test_probability_is_half_at_the_difficulty():
    item = one_item([1.6], 0.8)
    assert item.difficulty[0] == pytest.approx(-0.5)
    p = forecast(item, one_respondent([float(item.difficulty[0])])).p_correct
    assert p[0, 0] == pytest.approx(0.5, abs=1e-6)


def test_uncertainty_pulls_p_towards_the_middle():
    sure = forecast(one_item([1.0], 1.0), one_respondent([1.0]))
    vague = forecast(one_item([1.0], 1.0, scale=1.0), one_respondent([1.0], sd=1.0))
    assert 0.5 < vague.p_correct[0, 0] < sure.p_correct[0, 0]


def test_the_logit_variance_matches_a_simulation():
    rng = np.random.default_rng(0)
    psi = np.array([[0.3, 0.1], [0.1, 0.8]], dtype=np.float32)
    found = forecast(one_item([1.0], 0.5, scale=0.7, psi=psi), one_respondent([0.9], sd=0.0))
    draws = rng.multivariate_normal([1.0, 0.5], 0.7 * psi, size=200_000)
    logit = draws @ [0.9, 1.0]
    assert np.sqrt(found.effect_variance[0, 0]) == pytest.approx(logit.std(), rel=0.01)
    assert found.p_correct[0, 0] == pytest.approx((1 / (1 + np.exp(-logit))).mean(), abs=0.005)


def test_only_shared_errors_make_the_interval():
    """What varies from prompt to prompt is in P(correct) already; being unsure is not."""
    item_only = forecast(one_item([1.0], 0.3, scale=2.0), one_respondent([0.5]))
    low, high = item_only.interval()
    assert high[0, 0] - low[0, 0] == pytest.approx(0, abs=1e-6)
    for unsure in (
        forecast(one_item([1.0], 0.3, scale=2.0, shift=0.5), one_respondent([0.5])),
        forecast(one_item([1.0], 0.3, scale=2.0), one_respondent([0.5], sd=0.7)),
    ):
        low, high = unsure.interval()
        assert high[0, 0] - low[0, 0] > 0.1


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 0.5), st.floats(0, 3), st.floats(0, 3))
def test_intervals_hold_the_estimate_and_respect_the_floor(d, theta, c, scale, sd):
    found = forecast(one_item([1.0], d, c=c, scale=scale), one_respondent([theta], sd=sd))
    low, high = found.interval()
    assert c - 1e-6 <= low[0, 0] <= found.p_correct[0, 0] + 1e-6
    assert found.p_correct[0, 0] <= high[0, 0] + 1e-6
    assert found.interval_at(0, 0) == pytest.approx((low[0, 0], high[0, 0]), abs=2e-6)


def test_sigmoid_saturates_without_warnings():
    assert sigmoid(np.array([-1e6, 0.0, 1e6])).tolist() == [0.0, 0.5, 1.0]


def test_log_loss_takes_fractions_and_skips_missing_cells():
    p = np.array([[0.8, 0.5, 0.1]])
    y = np.array([[1.0, 0.5, np.nan]])
    assert log_loss(p, y) == pytest.approx((-np.log(0.8) + np.log(2)) / 2)
