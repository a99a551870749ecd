from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.irt.leanings import leaning_variance, principal_facets, with_leanings
from zerorouter.irt.model import Abilities, ItemParameters, forecast

N, R = 1500, 3


def items(seed: int, n: int = N) -> ItemParameters:
    rng = np.random.default_rng(seed)
    exact = ItemParameters.exact(np.ones((n, 1)), rng.standard_normal(n))
    facets = rng.standard_normal((n, R)) / np.sqrt(R)
    return dataclasses.replace(exact, facets=facets.astype(np.float32))


def respondents(m: int) -> Abilities:
    return Abilities(mean=np.zeros((m, 1), np.float32), covariance=np.zeros((m, 1, 1), np.float32))


def answers(given_items: ItemParameters, leanings: np.ndarray, seed: int) -> np.ndarray:
    """(M, N) drawn answers of respondents with these leanings (M, R)."""
    leaning = dataclasses.replace(
        respondents(len(leanings)),
        leanings=leanings.astype(np.float32),
        leaning_variance=np.zeros(len(leanings), np.float32),
    )
    p = forecast(given_items, leaning).p_correct.T
    return (np.random.default_rng(seed).random(p.shape) < p).astype(float)


def test_planted_leanings_are_found():
    truth = np.array([[2.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
    asked = items(0)
    found = with_leanings(asked, respondents(2), answers(asked, truth, 1), 1.0)
    np.testing.assert_allclose(found.leanings, truth, atol=0.45)


def test_without_answers_there_are_no_leanings_and_all_of_the_variance_is_left():
    found = with_leanings(items(0), respondents(2), np.full((2, N), np.nan), 0.7)
    assert (found.leanings == 0).all()
    np.testing.assert_allclose(found.leaning_variance, 0.7)


def test_more_answers_leave_less_variance_and_open_the_gate_wider():
    truth = np.array([[2.0, 0.0, -2.0]])
    asked = items(2)
    scores = answers(asked, truth, 3)
    sizes, left = [], []
    for n in (0, 20, 200, N):
        seen = np.where(np.arange(N) < n, scores, np.nan)
        found = with_leanings(asked, respondents(1), seen, 0.3)
        sizes.append(float(np.linalg.norm(found.leanings)))
        left.append(float(found.leaning_variance[0]))
    assert sizes == sorted(sizes)
    assert left == sorted(left, reverse=True)


def test_no_variance_means_no_leanings():
    asked = items(4)
    found = with_leanings(asked, respondents(1), answers(asked, np.array([[3.0, 0, 0]]), 5), 0.0)
    assert (found.leanings == 0).all()


@pytest.mark.parametrize(("size", "least", "most"), [(0.0, 0.0, 0.1), (1.5, 0.3, 3.0)])
def test_the_variance_chosen_is_that_of_the_leanings_there_are(size, least, most):
    truth = size * np.random.default_rng(6).standard_normal((12, R))
    asked = items(7)
    chosen = leaning_variance(asked, respondents(12), answers(asked, truth, 8), np.arange(N))
    assert least <= chosen <= most


@given(st.integers(0, 50), st.integers(1, 6))
def test_facets_are_centred_with_mean_square_length_one(seed, n_facets):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((80, 6)) @ rng.standard_normal((6, 6)) + 3
    weights = principal_facets(x, n_facets)
    facets = x @ weights[:-1] + weights[-1]
    assert facets.shape == (80, n_facets)
    np.testing.assert_allclose(facets.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose((facets**2).sum(axis=1).mean(), 1, rtol=1e-3)


def test_a_respondent_with_leanings_is_less_certain_where_facets_are_long():
    asked = items(9, 2)
    stretched = dataclasses.replace(asked, facets=asked.facets * np.array([[1.0], [5.0]], "f4"))
    vague = with_leanings(stretched, respondents(1), np.full((1, 2), np.nan), 1.0)
    spread = forecast(stretched, vague).error_variance[:, 0]
    np.testing.assert_allclose(spread, (stretched.facets**2).sum(axis=1), rtol=1e-5)
