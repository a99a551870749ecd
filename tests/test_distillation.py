from __future__ import annotations

import numpy as np
import pytest

from zerorouter.fitting.distillation import LEAST_PROMPTS, distilled
from zerorouter.fitting.student import distil
from zerorouter.fitting.teacher import References, teach
from zerorouter.irt.calibration import CalibrationSettings
from zerorouter.irt.identification import rotate
from zerorouter.irt.problem import CalibrationProblem

D, M, UNITS = 6, 20, 64


def crooked(x: np.ndarray) -> np.ndarray:
    """An easiness that no linear reading of the features finds."""
    return 2.5 * np.sign(x[:, 0] * x[:, 1])


def problem(seed: int, n: int) -> CalibrationProblem:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, D)).astype(np.float32)
    theta = rng.standard_normal(M)
    p = 1 / (1 + np.exp(-(theta[:, None] + crooked(x))))
    return CalibrationProblem(
        scores=(rng.random((M, n)) < p).astype(np.float64),
        features=x,
        blocks=np.zeros(n, dtype=np.int64),
        groups=np.arange(n),
        settings=CalibrationSettings(n_dims=1),
    )


@pytest.fixture(scope="module")
def taught():
    given = problem(0, 900)
    return given, distilled(given, rotate(given.calibrate()), UNITS)


def correlation(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_what_is_crooked_is_read_out_of_fold(taught):
    given, result = taught
    straight = given.calibrate()
    linear = given.features @ straight.regression.weights[:-1]
    assert correlation(linear[:, -1], crooked(given.features)) < 0.3
    assert correlation(result.columns[:, -1], crooked(given.features)) > 0.6


def test_unseen_prompts_are_read_as_well_as_those_out_of_fold(taught):
    _, result = taught
    fresh = problem(1, 400).features
    assert correlation(result.read(fresh)[:, -1], crooked(fresh)) > 0.6


def test_the_collapsed_network_says_what_columns_and_weights_say(taught):
    given, result = taught
    rng = np.random.default_rng(2)
    width = result.columns.shape[1]
    weights = rng.standard_normal((width + D + 1, 2)).astype(np.float32)
    x = given.features[:50]
    hidden, linear = result.collapse(weights)
    extended = np.column_stack([x, np.ones(len(x))])
    collapsed = extended @ linear + np.maximum(extended @ hidden.weights, 0) @ hidden.readout
    apart = np.hstack([result.read(x), extended]) @ weights
    np.testing.assert_allclose(collapsed, apart, rtol=1e-3, atol=1e-2)


def test_the_same_seed_teaches_the_same(taught):
    given, result = taught
    again = distilled(given, rotate(given.calibrate()), UNITS)
    np.testing.assert_array_equal(again.columns, result.columns)
    np.testing.assert_array_equal(again.student.hidden, result.student.hidden)


def test_few_prompts_stay_with_the_linear_reading():
    given = problem(3, LEAST_PROMPTS - 1)
    result = distilled(given, rotate(given.calibrate()), UNITS)
    assert result.columns.shape == (LEAST_PROMPTS - 1, 0)
    weights = np.ones((D + 1, 2), dtype=np.float32)
    hidden, linear = result.collapse(weights)
    assert hidden.n_units == 0
    np.testing.assert_array_equal(linear, weights)


def test_a_student_comes_close_to_its_teacher():
    given = problem(4, 900)
    calibration = rotate(given.calibrate())
    references = References.of(calibration, 0)
    scores = references.expected_scores(calibration, given.blocks)
    teacher = teach(given.features, scores, 0)
    student = distil(teacher, given.features, UNITS, 0)
    fresh = problem(5, 300).features
    assert correlation(student(fresh).ravel(), teacher.logits(fresh).ravel()) > 0.85


def test_logits_of_expected_scores_lead_back_to_the_item_parameters():
    given = problem(6, 600)
    calibration = rotate(given.calibrate())
    references = References.of(calibration, 0)
    p = references.expected_scores(calibration, given.blocks).astype(np.float64)
    beta = np.log(p / (1 - p)) @ references.to_items
    np.testing.assert_allclose(beta[:, -1], calibration.items.intercept, atol=0.1)
