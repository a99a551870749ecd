from __future__ import annotations

import numpy as np
import pytest

from zerorouter.errors import CalibrationError
from zerorouter.irt.model import Abilities, ItemParameters, forecast
from zerorouter.irt.recalibration import HeldOut, recalibrate


def held_out(seed, *, offset=0.0, slope=1.0, spread=1.0, n=1500, m=40, missing=0.3, floor=0.0):
    """Answers from items whose logits are a line in the forecast ones, with scattered effects."""
    rng = np.random.default_rng(seed)
    psi = np.array([[0.15, 0.05], [0.05, 0.5]])
    a, d = 0.8 + 0.3 * rng.random((n, 1)), 1.2 * rng.standard_normal(n)
    theta = rng.standard_normal((m, 1))
    items = ItemParameters(
        discrimination=a.astype(np.float32),
        intercept=d.astype(np.float32),
        guessing=np.full(n, floor, dtype=np.float32),
        effect_scale=np.ones(n, dtype=np.float32),
        shift_variance=np.zeros(n, dtype=np.float32),
        effect_covariance=psi.astype(np.float32),
    )
    abilities = Abilities(mean=theta.astype(np.float32), covariance=np.zeros((m, 1, 1), np.float32))
    effect = rng.multivariate_normal([0, 0], spread * psi, size=n)  # (n, 2)
    logit = offset + slope * (a * theta.T + d[:, None]) + effect @ np.vstack([theta.T, np.ones(m)])
    p = floor + (1 - floor) / (1 + np.exp(-logit))
    scores = (rng.random(p.shape) < p).astype(np.float32)
    scores[rng.random(p.shape) < missing] = np.nan
    return HeldOut.of(items, forecast(items, abilities), abilities, scores)


@pytest.mark.parametrize(
    "truth",
    [
        {"offset": 0.0, "slope": 1.0, "spread": 1.0},
        {"offset": 0.4, "slope": 0.6, "spread": 1.0},
        {"offset": -0.3, "slope": 1.3, "spread": 2.5},
        {"offset": 0.2, "slope": 0.8, "spread": 0.4, "floor": 0.2},
    ],
)
def test_it_recovers_what_was_simulated(truth):
    found = recalibrate([held_out(seed, **truth) for seed in (1, 2)])
    assert found.offset == pytest.approx(truth["offset"], abs=0.12)
    assert found.slope == pytest.approx(truth["slope"], rel=0.1)
    assert found.spread == pytest.approx(truth["spread"], rel=0.25)


def test_it_lowers_the_log_loss_of_overconfident_forecasts():
    found = recalibrate([held_out(3, offset=0.5, slope=0.5)])
    assert found.log_loss < found.log_loss_before - 0.02


def test_a_good_predictor_is_left_as_it_is():
    found = recalibrate([held_out(4, n=4000)])
    assert found.log_loss == pytest.approx(found.log_loss_before, abs=5e-4)


def test_it_does_not_matter_how_the_prompts_are_split():
    whole = held_out(5, slope=0.7)

    def part(rows):
        return HeldOut(
            logit=whole.logit[rows],
            variance=whole.variance[rows],
            direction=whole.direction,
            floor=whole.floor[rows],
            score=whole.score[rows],
            observed=whole.observed[rows],
        )

    together, apart = (
        recalibrate([whole]),
        recalibrate([part(slice(0, 400)), part(slice(400, None))]),
    )
    for name, value in together.facts().items():
        assert apart.facts()[name] == pytest.approx(value, abs=1e-4)


def test_the_correction_of_weights_is_the_line_in_the_logit():
    found = recalibrate([held_out(6, offset=0.4, slope=0.6, n=300)])
    rng = np.random.default_rng(0)
    weights, x = rng.standard_normal((5, 3)).astype(np.float32), rng.standard_normal((7, 4))
    theta = rng.standard_normal(2)

    def logit(w):
        beta = x @ w[:-1] + w[-1]
        return beta[:, :2] @ theta + beta[:, 2]

    expected = found.offset + found.slope * logit(weights)
    np.testing.assert_allclose(logit(found.correct(weights)), expected, rtol=1e-4, atol=1e-4)


def test_without_held_out_prompts_it_refuses_to_judge():
    with pytest.raises(CalibrationError, match="no prompt could be held out"):
        recalibrate([])
