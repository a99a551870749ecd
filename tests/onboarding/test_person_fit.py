"""Person fit: a standard normal where the model fits, far below where hard and easy are swapped."""

from __future__ import annotations

import numpy as np
import pytest

from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.model import ItemParameters
from zerorouter.onboarding.person_fit import (
    MISFIT,
    Conduct,
    PersonFit,
    memorised,
    person_fit,
    warnings_of,
)


def items(n: int, rng: np.random.Generator, k: int = 2, guessing: float = 0.0) -> ItemParameters:
    a = np.column_stack([1.2 + 0.3 * rng.standard_normal(n), 0.6 * rng.standard_normal((n, k - 1))])
    return ItemParameters.exact(a, 1.5 * rng.standard_normal(n), np.full(n, guessing))


def right(own: ItemParameters, theta: np.ndarray) -> np.ndarray:
    sigma = 1 / (1 + np.exp(-(own.discrimination @ theta + own.intercept)))
    return own.guessing + (1 - own.guessing) * sigma


def estimate(own: ItemParameters, scores: np.ndarray) -> np.ndarray:
    k = own.n_dims
    return ability_posterior(own, scores, prior_mean=np.zeros(k), prior_covariance=np.eye(k)).mean


@pytest.mark.parametrize("n", [20, 50])
@pytest.mark.parametrize("guessing", [0.0, 0.2])
def test_the_statistic_is_standard_normal_at_an_estimated_ability(n, guessing):
    """Over 1,200 simulated respondents; the mean and spread of l_z* and its lower tail."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1_200):
        own = items(n, rng, guessing=guessing)
        theta = rng.standard_normal(2)
        scores = (rng.random(n) < right(own, theta)).astype(float)
        statistic = person_fit(own, scores, estimate(own, scores)).statistic
        if statistic is not None:
            found.append(statistic)
    assert len(found) > 1_000
    assert abs(np.mean(found)) < 0.25  # the shrinkage of the estimate leaves a little
    assert 0.85 < np.std(found) < 1.15
    assert np.mean(np.array(found) < MISFIT) < 0.035


def test_a_model_that_aces_hard_items_and_fails_easy_ones_misfits():
    rng = np.random.default_rng(1)
    flagged = 0
    for _ in range(50):
        own = items(40, rng)
        p = right(own, np.zeros(2))
        scores = (rng.random(40) < 1 - p).astype(float)
        fit = person_fit(own, scores, estimate(own, scores))
        flagged += fit.misfits
        for i in fit.surprises:
            assert (scores[i] > 0.5) == (p[i] < 0.5)
    assert flagged >= 45


def test_too_few_or_too_sure_answers_have_no_verdict():
    rng = np.random.default_rng(2)
    own = items(10, rng)
    assert person_fit(own, np.ones(10), np.zeros(2)).statistic is None
    sure = ItemParameters.exact(np.zeros((40, 2)), np.full(40, 15.0))
    assert person_fit(sure, np.ones(40), np.zeros(2)).statistic is None


def test_fractional_scores_are_no_misfit():
    """They vary less than coins do, which makes the statistic milder, never harsher."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(200):
        own = items(40, rng)
        p = right(own, rng.standard_normal(2))
        scores = rng.binomial(5, p) / 5
        found.append(person_fit(own, scores, estimate(own, scores)).statistic)
    assert np.std(found) < 0.7
    assert np.mean(np.array(found) < MISFIT) == 0


def test_published_anchors_that_go_better_than_fresh_ones_are_told():
    rng = np.random.default_rng(4)
    own = items(60, rng)
    p = right(own, np.zeros(2))
    published = np.arange(60) < 30
    honest = [
        memorised(own, (rng.random(60) < p).astype(float), np.zeros(2), published)
        for _ in range(400)
    ]
    assert abs(np.mean(honest)) < 0.2
    assert 0.85 < np.std(honest) < 1.15
    seen = np.where(published, 1.0, (rng.random(60) < p).astype(float))
    assert memorised(own, seen, np.zeros(2), published) > 2.58
    assert memorised(own, seen, np.zeros(2), np.ones(60)) is None


FINE = PersonFit(statistic=0.1, surprises=())
REFS = ("one", "two", "three")


def test_nothing_odd_is_told_of_a_sound_run():
    sound = Conduct(n=50, refused=1, truncated=2, empty=0, unread=3, wrong=20, expected=30.0)
    assert warnings_of(FINE, sound, REFS, memory=1.0) == []


@pytest.mark.parametrize(
    ("conduct", "told"),
    [
        (Conduct(n=50, unread=30), "the grader found no answer in 30 of 50 replies"),
        (Conduct(n=50, wrong=50, expected=25.0), "not one of 50 answers is right, where 25"),
        (Conduct(n=50, empty=6), "6 of 50 answers were empty"),
        (Conduct(n=50, truncated=6), "raise --max-tokens"),
        (Conduct(n=50, refused=6), "6 of 50 answers were refusals"),
    ],
)
def test_each_oddity_is_told_with_what_to_do(conduct, told):
    (warning,) = warnings_of(FINE, conduct, REFS)
    assert told in warning


def test_a_misfit_names_the_answers_that_surprise_most():
    (warning,) = warnings_of(PersonFit(statistic=-3.1, surprises=(2, 0)), Conduct(n=50), REFS)
    assert "l_z* = -3.1" in warning
    assert "such as three, one" in warning


def test_memory_points_to_fresh_seeds():
    (warning,) = warnings_of(FINE, Conduct(n=50), REFS, memory=3.2)
    assert "3.2 standard errors better than fresh ones" in warning
    assert "--anchor-set fresh" in warning
