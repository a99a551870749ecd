"""Published scores: what they may and may not do to an ability, and how they are learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.errors import CalibrationError
from zerorouter.irt.model import ItemParameters
from zerorouter.onboarding.published import (
    LEAST_MODELS,
    Link,
    ScoreMatrix,
    ScoreModel,
    fit_scores,
    logit,
    mean_accuracy,
    rounding_variance,
)

K = 3
NAMES = ("items", "maths", "quiz", "trivia")
SCORES = st.floats(0.0, 1.0)
TOLD = st.dictionaries(st.sampled_from(NAMES), SCORES, max_size=len(NAMES))
UNLINKED = st.dictionaries(st.sampled_from(NAMES[1:]), SCORES, max_size=3)
MEANS = st.lists(st.floats(-2, 2), min_size=K, max_size=K)


def items(n: int = 60, *, easiness: float = 0.5) -> ItemParameters:
    rng = np.random.default_rng(2)
    return ItemParameters(
        discrimination=np.column_stack(
            [np.full(n, 1.0), 0.3 * rng.standard_normal((n, K - 1))]
        ).astype(np.float32),
        intercept=(easiness + rng.standard_normal(n)).astype(np.float32),
        guessing=np.full(n, 0.1, np.float32),
        effect_scale=np.full(n, 0.5, np.float32),
        shift_variance=np.zeros(n, np.float32),
        effect_covariance=(0.2 * np.eye(K + 1)).astype(np.float32),
    )


def model(*, variance: float = 0.1, shared: float = 0.1) -> ScoreModel:
    rng = np.random.default_rng(0)
    loading = np.column_stack([np.full(4, 0.8), 0.2 * rng.standard_normal((4, K - 1))])
    loading[0] = 0.0
    return ScoreModel(
        benchmarks=NAMES,
        loading=loading,
        offset=np.array([0.1, -0.5, 0.5, 0.0]),
        uncertainty=np.repeat(0.01 * np.eye(K + 1)[None], 4, axis=0),
        variance=np.full(4, variance),
        shared_variance=np.full(K, shared),
        n_models=np.full(4, 20.0),
        links={"items": Link(items=items(), offset_sd=0.3)},
    )


def prior(seed: int) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((K, K)) * 0.4
    return root @ root.T + 0.1 * np.eye(K)


def no_larger(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether ``other - one`` is positive semidefinite."""
    return bool(np.linalg.eigvalsh(other - one).min() >= -1e-9)


# -- laws ----------------------------------------------------------------------------------------


@given(told=TOLD, mean=MEANS, seed=st.integers(0, 50))
def test_a_score_only_sharpens(told, mean, seed):
    before = prior(seed)
    where, after = model().fold(told, np.array(mean), before)
    assert np.isfinite(where).all()
    assert no_larger(after, before)
    assert np.linalg.eigvalsh(after).min() > 0


@given(told=UNLINKED, more=SCORES, mean=MEANS, seed=st.integers(0, 50))
def test_each_further_score_sharpens(told, more, mean, seed):
    fewer = {name: score for name, score in told.items() if name != "trivia"}
    before = model().fold(fewer, np.array(mean), prior(seed))[1]
    after = model().fold({**fewer, "trivia": more}, np.array(mean), prior(seed))[1]
    assert no_larger(after, before)


@given(mean=MEANS, seed=st.integers(0, 50), names=st.sets(st.sampled_from(NAMES), min_size=1))
def test_scores_that_agree_with_the_card_move_it_little(mean, seed, names):
    """Told just what was expected, it stays where it is and is known better."""
    found, centre = model(), np.array(mean)
    told = {name: 1 / (1 + np.exp(-found.expected(name, centre)[0])) for name in names}
    agreeing = {name: score for name, score in told.items() if 0.01 < score < 0.99}
    where, _ = found.fold(agreeing, centre, prior(seed))
    np.testing.assert_allclose(where, centre, atol=1e-3)


@given(mean=MEANS, low=st.floats(0.05, 0.9), seed=st.integers(0, 20))
def test_a_higher_score_means_a_higher_ability(mean, low, seed):
    scale = np.diag(np.diagonal(prior(seed)))
    worse, better = (
        model().fold({"items": score}, np.array(mean), scale)[0] for score in (low, low + 0.05)
    )
    assert better[0] > worse[0]


@settings(max_examples=20)
@given(seed=st.integers(0, 50))
def test_no_number_of_scores_says_more_than_delta_allows(seed):
    """Endless exact scores place theta + delta, never theta."""
    names = tuple(f"b{i}" for i in range(200))
    rng = np.random.default_rng(seed)
    exact = ScoreModel(
        benchmarks=names,
        loading=rng.standard_normal((200, K)),
        offset=np.zeros(200),
        uncertainty=np.zeros((200, K + 1, K + 1)),
        variance=np.full(200, 1e-6),
        shared_variance=np.full(K, 0.2),
        n_models=np.full(200, 20.0),
    )
    scale = prior(seed)
    _, left = exact.fold(dict.fromkeys(names, 0.5), np.zeros(K), scale)
    floor = np.linalg.inv(np.linalg.inv(scale) + np.eye(K) / 0.2)
    assert no_larger(floor, left)
    np.testing.assert_allclose(left, floor, atol=0.01)


@given(told=TOLD, seed=st.integers(0, 50))
def test_names_that_are_not_known_are_skipped(told, seed):
    plain = model().fold(told, np.zeros(K), prior(seed))
    odd = model().fold({**told, "astrology": 0.99}, np.zeros(K), prior(seed))
    for one, other in zip(plain, odd, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_exact_score_of_linked_items_is_their_mean_accuracy():
    found = replace(model(variance=1e-9, shared=1e-9), uncertainty=np.zeros((4, K + 1, K + 1)))
    found = replace(found, offset=np.zeros(4))
    for score in (0.3, 0.5, 0.8):
        where, _ = found.fold({"items": score}, np.zeros(K), np.eye(K))
        assert mean_accuracy(items(), where)[0] == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_perfect_and_hopeless_scores_stay_finite_and_tell_little(score):
    where, left = model().fold({"quiz": score}, np.zeros(K), np.eye(K))
    middling = model().fold({"quiz": 0.5}, np.zeros(K), np.eye(K))[1]
    assert np.isfinite(where).all()
    assert np.trace(left) > np.trace(middling)
    assert rounding_variance(np.array([score]))[0] > 100 * rounding_variance(np.array([0.5]))[0]
    assert np.isfinite(logit(score))


def test_the_gradient_of_the_mean_accuracy_is_that_of_finite_differences():
    theta = np.array([0.3, -0.4, 0.2])
    quiet = replace(items(), effect_scale=np.zeros(60, np.float32))
    _, gradient = mean_accuracy(quiet, theta)
    for d, step in enumerate(1e-5 * np.eye(K)):
        up, down = (mean_accuracy(quiet, theta + s)[0] for s in (step, -step))
        assert gradient[d] == pytest.approx((up - down) / 2e-5, rel=1e-4)


# -- learning ------------------------------------------------------------------------------------


def simulated(seed: int = 0, *, n: int = 120, known_share: float = 0.5):
    """Models, half of them with known abilities, and scores of benchmarks of known loadings."""
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((n, K)) * [1.0, 0.5, 0.5]
    loading = np.array([[0.6, 0.3, 0.0], [1.2, 0.0, -0.3], [0.9, -0.2, 0.2]])
    offset = np.array([0.5, -1.0, 0.0])
    shown = theta + 0.3 * rng.standard_normal((n, K))
    exact = shown @ loading.T + offset
    linked = [logit(mean_accuracy(items(), row)[0]) + 0.4 for row in shown]
    logits = np.column_stack([linked, exact]) + 0.2 * rng.standard_normal((n, 4))
    scores = 1 / (1 + np.exp(-logits))
    scores[rng.random(scores.shape) < 0.3] = np.nan
    known = rng.random(n) < known_share
    means = np.where(known[:, None], theta, theta + 0.7 * rng.standard_normal((n, K)))
    covariances = np.where(known[:, None, None], 0.01, 0.5) * np.eye(K)
    matrix = ScoreMatrix(models=tuple(f"m{i}" for i in range(n)), benchmarks=NAMES, scores=scores)
    return matrix, means, covariances, known, theta, loading, offset


def learned(**options) -> ScoreModel:
    matrix, means, covariances, known, *_ = simulated(**options)
    links = {"items": Link(items=items(), offset_sd=0.5)}
    return fit_scores(matrix, means, covariances, list(known), links)


def test_loadings_offsets_and_noise_are_recovered():
    *_, loading, offset = simulated()
    found = learned()
    np.testing.assert_allclose(found.loading[1:], loading, atol=0.15)
    np.testing.assert_allclose(found.offset[1:], offset, atol=0.15)
    assert found.offset[0] == pytest.approx(0.4, abs=0.1)
    assert not found.loading[0].any()
    np.testing.assert_allclose(np.sqrt(found.variance), 0.2, atol=0.1)
    assert 0.2 < np.sqrt(found.shared_variance[0]) < 0.45


def test_learned_scores_place_models_that_the_fit_has_not_seen():
    found = learned()
    matrix, _, _, _, theta, *_ = simulated(seed=9)
    wide = np.diag([1.0, 0.25, 0.25])
    off, spread = [], []
    for i, name in enumerate(matrix.models):
        told = matrix.of(name)
        if len(told) < 2:
            continue
        mean, covariance = found.fold(told, np.zeros(K), wide)
        off.append(mean[0] - theta[i, 0])
        spread.append(np.sqrt(covariance[0, 0]))
    inside = np.mean(np.abs(off) < 1.645 * np.array(spread))
    assert np.sqrt(np.mean(np.square(off))) < 0.6
    assert 0.8 < inside < 0.99


def test_the_order_of_models_does_not_matter():
    matrix, means, covariances, known, *_ = simulated()
    order = np.random.default_rng(1).permutation(len(known))
    turned = ScoreMatrix(
        models=tuple(matrix.models[int(i)] for i in order),
        benchmarks=matrix.benchmarks,
        scores=matrix.scores[order],
    )
    one = fit_scores(matrix, means, covariances, list(known))
    other = fit_scores(turned, means[order], covariances[order], list(known[order]))
    np.testing.assert_allclose(one.loading, other.loading, atol=1e-8)
    np.testing.assert_allclose(one.variance, other.variance, atol=1e-8)


def test_benchmarks_of_few_models_are_left_out_unless_they_have_items():
    matrix, means, covariances, known, *_ = simulated()
    scores = matrix.scores.copy()
    for b, kept in ((0, 1), (1, LEAST_MODELS - 1), (2, LEAST_MODELS)):
        rows = np.flatnonzero(~np.isnan(scores[:, b]))
        scores[rows[kept:], b] = np.nan
    links = {"items": Link(items=items(), offset_sd=0.5)}
    found = fit_scores(replace(matrix, scores=scores), means, covariances, list(known), links)
    assert found.benchmarks == ("items", "quiz", "trivia")
    few = found.uncertainty[1].diagonal().sum()
    assert few > found.uncertainty[2].diagonal().sum()


def test_no_scores_at_all_leave_linked_benchmarks_at_their_priors():
    empty = ScoreMatrix(models=(), benchmarks=(), scores=np.empty((0, 0)))
    links = {"items": Link(items=items(), offset_sd=0.5)}
    found = fit_scores(empty, np.empty((0, K)), np.empty((0, K, K)), [], links)
    assert found.benchmarks == ("items",)
    assert found.offset[0] == 0
    assert found.uncertainty[0, K, K] == pytest.approx(0.25)


def test_abilities_of_other_models_are_refused():
    matrix, means, covariances, known, *_ = simulated()
    with pytest.raises(CalibrationError, match="120 models and abilities of 119"):
        fit_scores(matrix, means[1:], covariances[1:], list(known[1:]))


def test_a_restricted_model_reads_the_rest_as_before():
    whole = model()
    part = whole.restricted([False, True, False, True], {})
    assert part.benchmarks == ("maths", "trivia")
    told = {"maths": 0.7, "trivia": 0.4}
    for one, other in zip(
        whole.fold(told, np.zeros(K), np.eye(K)),
        part.fold(told, np.zeros(K), np.eye(K)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_matrix_tells_rows_and_drops_them():
    matrix, *_ = simulated()
    assert set(matrix.of("m0")) == {
        name for name, score in zip(NAMES, matrix.scores[0], strict=True) if not np.isnan(score)
    }
    assert matrix.of("nobody") == {}
    left = matrix.without(["m0", "nobody"])
    assert left.models == matrix.models[1:]
    assert left.scores.shape == (119, 4)
