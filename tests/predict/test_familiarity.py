from __future__ import annotations

import numpy as np
import pytest

from zerorouter.fitting.support import RIDGE, fit_familiarity
from zerorouter.irt.leanings import principal_facets
from zerorouter.predict.familiarity import Familiarity

D, R = 12, 4


def prompts(n: int, seed: int) -> np.ndarray:
    """Most of the variance lies along a few directions."""
    rng = np.random.default_rng(seed)
    sd = np.concatenate([[6.0, 5.0, 4.0, 3.0], np.full(D - R, 0.5)])
    x = sd * rng.standard_normal((n, D))
    if n > 1000:
        x -= x.mean(axis=0)  # as standardised features are
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> tuple[Familiarity, np.ndarray]:
    x = prompts(2000, 0)
    weights = principal_facets(x, R)
    return fit_familiarity(x, weights), weights


def leverages(fitted, x):
    familiarity, weights = fitted
    return familiarity.leverages(x, x @ weights[:-1] + weights[-1])


def strangeness(familiarity, of):
    return np.array([familiarity.strangeness(h) for h in of.tolist()])


def test_the_leverage_is_that_of_a_ridge_regression_on_the_leading_components(fitted):
    x, new = prompts(2000, 0).astype(np.float64), prompts(50, 1)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True))
    values, vectors = values[::-1][:R], vectors[:, ::-1][:, :R]
    z = (new - x.mean(axis=0)) @ vectors
    expected = (new**2).sum(axis=1) - (z**2) @ (values / (values + RIDGE))
    np.testing.assert_allclose(leverages(fitted, new), expected, rtol=0.05, atol=0.3)


def test_the_support_of_ordinary_prompts_is_uniform(fitted):
    familiarity, _ = fitted
    support = np.array([familiarity.support(h) for h in leverages(fitted, prompts(2000, 2))])
    assert ((support >= 0) & (support <= 1)).all()
    assert np.quantile(support, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.06)


def test_going_where_no_prompt_lies_lowers_support_and_going_along_them_does_not(fitted):
    familiarity, _ = fitted
    x = prompts(2000, 0)[:1]
    along, across = np.zeros((2, 1, D), dtype=np.float32)
    along[0, 0], across[0, -1] = 4.0, 4.0
    near, far = (
        familiarity.support(float(leverages(fitted, x + step)[0])) for step in (along, across)
    )
    assert far == 0.0
    assert near > 0.05


def test_strangeness_rises_from_nothing_to_one_at_the_rim(fitted):
    familiarity, _ = fitted
    ordinary = strangeness(familiarity, leverages(fitted, prompts(4000, 4)))
    assert 0.004 < (ordinary > 0).mean() < 0.05
    far = prompts(50, 5)
    far[:, R:] *= 10
    assert strangeness(familiarity, leverages(fitted, far)).min() == 1.0
    grid = strangeness(familiarity, np.linspace(-1, 100, 500))
    assert (np.diff(grid) >= 0).all()
    assert (grid >= 0).all()
    assert (grid <= 1).all()


def test_one_prompt_at_a_time_gives_the_same_leverage(fitted):
    familiarity, weights = fitted
    x = prompts(20, 6)
    facets = (x @ weights[:-1] + weights[-1]).astype(np.float32)
    alone = [familiarity.leverage(row, f) for row, f in zip(x, facets, strict=True)]
    np.testing.assert_allclose(alone, familiarity.leverages(x, facets), rtol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_handful_of_prompts_is_enough(n):
    x = prompts(n, 7)
    familiarity = fit_familiarity(x, principal_facets(x, R))
    assert np.isfinite(familiarity.ordinary).all()
    facets = np.zeros((n, len(familiarity.discount)))
    strange = strangeness(familiarity, familiarity.leverages(x, facets))
    assert np.isfinite(strange).all()
