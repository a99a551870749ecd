from __future__ import annotations

import math

import numpy as np
import pytest

from zerorouter.errors import InputError
from zerorouter.evaluation.baselines._paper_space import (
    difficulty,
    fit_space,
    likelihood_slopes,
)
from zerorouter.evaluation.baselines.paper import (
    LINGUISTIC,
    PRESETS,
    SWEEP,
    ZeroRouterPaper,
    ZeroRouterPaperTuned,
)
from zerorouter.evaluation.contracts import (
    TUNING_BUDGET,
    Labels,
    Newcomers,
    PromptSet,
    TrainingSet,
)
from zerorouter.irt.model import log_loss
from zerorouter.linking import RespondentCard
from zerorouter.predict.features import PromptFeatures
from zerorouter.predict.structure import N_FEATURES

QUICK = {"n_dims": 3}


def everyone(fitted, prompts):
    """(M,) all models may be chosen."""
    return np.ones(fitted.predict(prompts).cost_usd.shape[1], dtype=bool)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def world(seed=0, *, n_models=12, n_prompts=400, priced=True, missing=0.1):
    """Prompts whose difficulty is in their features, answered by the paper's own model.

    Returns the training set and P (M, N). Better models are dearer and write more.
    """
    rng = np.random.default_rng(seed)
    embedding = rng.standard_normal((n_prompts, 8)).astype(np.float32)
    structure = rng.standard_normal((n_prompts, N_FEATURES)).astype(np.float32)
    weights = rng.standard_normal((8, 6)) * 0.35
    alpha = np.exp(embedding @ weights[:, :3] * 0.4 - 0.2)
    b = embedding @ weights[:, 3:] + 0.2 * rng.standard_normal((n_prompts, 3))
    skill = np.linspace(-1, 1, n_models)
    theta = skill[:, None] + 0.3 * rng.standard_normal((n_models, 3))
    s = np.einsum("nd,nd->n", alpha, b)
    p = sigmoid(theta @ alpha.T - s)
    scores = (rng.random(p.shape) < p).astype(float)
    scores[rng.random(p.shape) < missing] = np.nan
    tokens = np.exp(4 + 0.5 * skill[:, None] + 0.2 * s + 0.3 * rng.standard_normal(p.shape))
    price = np.exp(1 + 2 * skill)
    cost = tokens * price[:, None] / 1e6 if priced else np.full(p.shape, np.nan)
    data = TrainingSet(
        prompts=PromptSet(
            features=PromptFeatures(embedding=embedding, structure=structure),
            input_tokens=np.full(n_prompts, 50.0),
        ),
        models=tuple(
            RespondentCard(
                id=f"m{i}",
                model=f"m{i}",
                family="f",
                input_usd_per_mtok=float(price[i]) / 4 if priced else None,
                output_usd_per_mtok=float(price[i]) if priced else None,
            )
            for i in range(n_models)
        ),
        labels=Labels(
            scores=scores,
            output_tokens=np.where(np.isnan(scores), np.nan, tokens),
            cost_usd=np.where(np.isnan(scores), np.nan, cost),
        ),
        strata=np.arange(n_prompts) % 4,
        groups=np.arange(n_prompts),
    )
    return data, p


def fit(data, settings=QUICK, seed=0):
    return ZeroRouterPaper().fit(data, settings, np.random.default_rng(seed))


def newcomers_of(data, models, prompts):
    labels = data.labels.take(models=models).only(np.asarray(prompts, dtype=int))
    return Newcomers(models=tuple(data.models[int(i)] for i in models), labels=labels)


def test_the_space_recovers_probabilities_of_its_own_model():
    data, p = world(1, n_models=40, n_prompts=600, missing=0.3)
    space = fit_space(data.labels.scores, n_dims=3, rng=np.random.default_rng(0))
    s = difficulty(space.log_alpha, space.b)
    found = sigmoid(space.theta @ np.exp(space.log_alpha).T - s)
    assert np.sqrt(np.mean((found - p) ** 2)) < 0.11
    assert np.corrcoef(found.ravel(), p.ravel())[0, 1] > 0.9
    # Cells that were held back are forecast better than by each model's and prompt's mean.
    hidden = np.isnan(data.labels.scores)
    truth = (np.random.default_rng(1).random(p.shape) < p).astype(float)
    held = np.where(hidden, truth, np.nan)
    means = np.clip(np.nanmean(data.labels.scores, axis=0), 0.02, 0.98)
    assert log_loss(found, held) < log_loss(np.broadcast_to(means, p.shape), held) - 0.02


def test_slopes_are_the_derivatives_of_the_log_likelihood():
    rng = np.random.default_rng(0)
    theta, log_alpha = rng.standard_normal((4, 2)), rng.standard_normal((5, 2)) / 2
    b = rng.standard_normal((5, 2))
    scores = rng.random((4, 5))
    scores[0, 1] = scores[3, 3] = np.nan
    observed = ~np.isnan(scores)

    def log_likelihood(theta, log_alpha, b):
        logit = theta @ np.exp(log_alpha).T - difficulty(log_alpha, b)
        y = np.where(observed, scores, 0.0)
        return np.sum(observed * (y * logit - np.log1p(np.exp(logit))))

    centred = np.where(observed, scores - 0.5, 0.0).T
    found = likelihood_slopes(theta, np.exp(log_alpha), b, centred, 0.5 * observed.T)
    values = (theta, log_alpha, b)
    for which, slope in enumerate(found):
        for cell in np.ndindex(slope.shape):
            sides = []
            for side in (-1e-5, 1e-5):
                moved = [value.copy() for value in values]
                moved[which][cell] += side
                sides.append(log_likelihood(*moved))
            assert slope[cell] == pytest.approx((sides[1] - sides[0]) / 2e-5, abs=1e-6)


def test_prompts_that_fewer_models_solve_are_harder_and_models_that_solve_more_abler():
    scores = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 0.0]])
    space = fit_space(scores, n_dims=2, rng=np.random.default_rng(0))
    s = difficulty(space.log_alpha, space.b)
    assert s[0] < s[1] < s[2]
    assert space.theta[0].sum() < space.theta[1].sum()


def test_heads_forecast_unseen_prompts_better_than_means_do():
    data, p = world(2)
    train, test = np.arange(300), np.arange(300, 400)
    forecast = fit(data.take_prompts(train)).predict(data.prompts.take(test))
    assert forecast.p_correct.shape == (100, 12)
    assert np.isfinite(forecast.p_correct).all()
    assert np.isfinite(forecast.cost_usd).all()
    assert (forecast.cost_usd > 0).all()
    scores = data.labels.scores[:, test].T
    means = np.nanmean(data.labels.scores[:, train], axis=1)
    flat = np.broadcast_to(means, forecast.p_correct.shape)
    assert log_loss(forecast.p_correct, scores) < log_loss(flat, scores) - 0.01
    assert np.corrcoef(forecast.p_correct.ravel(), p[:, test].T.ravel())[0, 1] > 0.7


def test_the_published_system_has_twenty_dimensions_and_eleven_features():
    data, _ = world(3, n_prompts=60)
    fitted = fit(data, {})
    assert fitted.theta.shape == (12, 20)
    assert len(LINGUISTIC) == len(set(LINGUISTIC)) == 11
    assert fitted.heads.weights.shape == (8 + 11 + 1, 40)


def test_presets_come_first_and_order_accuracy_and_cost():
    data, p = world(4)
    prompts = data.prompts.take(np.arange(100))
    fitted = fit(data)
    points = fitted.operating_points(prompts, everyone(fitted, prompts))
    assert [point.policy for point in points[:3]] == list(PRESETS)
    assert len(points) == len(PRESETS) + len(SWEEP)
    forecast = fitted.predict(prompts)
    rows = np.arange(100)
    cost = {point.policy: forecast.cost_usd[rows, point.choice].mean() for point in points}
    best = {point.policy: forecast.p_correct[rows, point.choice].mean() for point in points}
    assert cost["paper_max_acc"] > cost["paper_min_cost"]
    assert best["paper_max_acc"] > best["paper_min_cost"]
    sweep = [point.policy for point in points[3:]]
    assert (np.diff([cost[name] for name in sweep]) >= -1e-12).all()
    assert (np.diff([best[name] for name in sweep]) >= -1e-12).all()
    really = {point.policy: p[point.choice, rows].mean() for point in points}
    assert really["paper_max_acc"] > really["paper_min_cost"]


def test_min_lat_sends_prompts_to_models_that_write_little():
    data, _ = world(5)
    fitted = fit(data)
    _, _, tokens = fitted.estimates(data.prompts)
    rows = np.arange(len(data.prompts))
    chosen = {
        point.policy: tokens[rows, point.choice].mean()
        for point in fitted.operating_points(data.prompts, everyone(fitted, data.prompts))
    }
    assert chosen["paper_min_lat"] <= chosen["paper_min_cost"]
    assert chosen["paper_min_lat"] < chosen["paper_max_acc"]


def test_without_prices_costs_are_nan_and_points_that_need_them_are_left_out():
    data, _ = world(6, priced=False)
    fitted = fit(data)
    assert np.isnan(fitted.predict(data.prompts).cost_usd).all()
    found = [
        point.policy
        for point in fitted.operating_points(data.prompts, everyone(fitted, data.prompts))
    ]
    assert found == ["paper_max_acc", "paper_min_lat"]


def test_an_unpriced_model_among_priced_ones_is_never_chosen():
    data, _ = world(7)
    cards = list(data.models)
    cards[-1] = RespondentCard(id="m11", model="m11", family="f")
    cost = data.labels.cost_usd.copy()
    cost[-1] = np.nan
    labels = Labels(
        scores=data.labels.scores, output_tokens=data.labels.output_tokens, cost_usd=cost
    )
    partly = TrainingSet(
        prompts=data.prompts,
        models=tuple(cards),
        labels=labels,
        strata=data.strata,
        groups=data.groups,
    )
    fitted = fit(partly)
    assert np.isnan(fitted.predict(data.prompts).cost_usd[:, -1]).all()
    for point in fitted.operating_points(data.prompts, everyone(fitted, data.prompts)):
        assert (point.choice != 11).all()


def test_dollars_on_record_stand_in_for_a_price():
    data, _ = world(8)
    cards = tuple(RespondentCard(id=m.id, model=m.model, family="f") for m in data.models)
    recorded = TrainingSet(
        prompts=data.prompts,
        models=cards,
        labels=data.labels,
        strata=data.strata,
        groups=data.groups,
    )
    cost = fit(recorded).predict(data.prompts).cost_usd
    real = np.nanmean(data.labels.cost_usd, axis=1)
    np.testing.assert_allclose(cost.mean(axis=0), real, rtol=0.15)


def test_harder_prompts_are_expected_to_take_longer_answers():
    data, _ = world(9)
    fitted = fit(data)
    profile = fitted.bins.tokens.pooled
    assert len(profile) == 5
    assert profile[-1] > 1.2 * profile[0]


@pytest.mark.parametrize("n", [100, 200])
def test_anchors_are_as_many_as_asked_for_and_distinct(n):
    data, _ = world(10)
    found = fit(data).select_anchors(n, np.random.default_rng(0))
    assert len(set(found.tolist())) == n
    assert found.min() >= 0
    assert found.max() < 400


def test_prompts_that_nobody_answered_are_no_anchors():
    data, _ = world(11, n_prompts=80)
    data.labels.scores[:, :50] = np.nan
    fitted = fit(data)
    assert (fitted.select_anchors(30, np.random.default_rng(0)) >= 50).all()
    with pytest.raises(InputError, match=r"31 anchors .* 30 eligible"):
        fitted.select_anchors(31, np.random.default_rng(0))
    assert np.isfinite(fitted.predict(data.prompts).p_correct).all()


def test_a_newcomer_without_answers_stands_at_the_mean_of_the_prior():
    data, _ = world(12)
    fitted = fit(data.take_models(np.arange(10)))
    after = fitted.onboard(newcomers_of(data, np.array([10, 11]), []))
    np.testing.assert_allclose(after.theta[10], fitted.space.theta_mean, atol=1e-6)
    np.testing.assert_array_equal(after.theta[10], after.theta[11])
    forecast = after.predict(data.prompts)
    assert forecast.p_correct.shape == (400, 12)
    assert np.isfinite(forecast.cost_usd).all()
    np.testing.assert_allclose(after.output_tokens[10], fitted.bins.tokens.pooled)


def test_anchors_bring_a_newcomer_closer_to_the_truth_and_leave_the_others_alone():
    data, p = world(13)
    fitted = fit(data.take_models(np.arange(10)))
    before = fitted.predict(data.prompts)
    errors = []
    for n in (0, 20, 200):
        anchors = fitted.select_anchors(n, np.random.default_rng(0))
        after = fitted.onboard(newcomers_of(data, np.array([10, 11]), anchors))
        forecast = after.predict(data.prompts)
        np.testing.assert_array_equal(forecast.p_correct[:, :10], before.p_correct)
        np.testing.assert_array_equal(forecast.cost_usd[:, :10], before.cost_usd)
        assert after.scale == fitted.scale
        errors.append(np.mean(np.abs(forecast.p_correct[:, 10:] - p[10:].T)))
    assert errors[0] > errors[1]
    assert errors[0] > errors[2]


def test_the_same_generator_gives_the_same_fit_and_a_batch_equals_its_parts():
    data, _ = world(14, n_prompts=150)
    one, two = fit(data), fit(data)
    whole, again = one.predict(data.prompts), two.predict(data.prompts)
    np.testing.assert_array_equal(whole.p_correct, again.p_correct)
    np.testing.assert_array_equal(whole.cost_usd, again.cost_usd)
    half = one.predict(data.prompts.take(np.arange(70, 150)))
    np.testing.assert_allclose(half.p_correct, whole.p_correct[70:], atol=1e-12)
    np.testing.assert_allclose(half.cost_usd, whole.cost_usd[70:], rtol=1e-12)


def test_minilm_is_used_where_prompts_carry_it_and_missed_where_they_do_not():
    data, _ = world(15, n_prompts=100)
    other = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)
    prompts = PromptSet(
        features=data.prompts.features,
        input_tokens=data.prompts.input_tokens,
        embeddings={"minilm": other},
    )
    with_minilm = TrainingSet(
        prompts=prompts,
        models=data.models,
        labels=data.labels,
        strata=data.strata,
        groups=data.groups,
    )
    fitted = fit(with_minilm)
    assert fitted.heads.weights.shape[0] == 5 + 11 + 1
    with pytest.raises(InputError, match="minilm"):
        fitted.predict(data.prompts)


def test_the_tuned_variant_tries_as_many_settings_as_the_others_and_the_published_one():
    settings = ZeroRouterPaperTuned().candidates(None)
    assert len(settings) == TUNING_BUDGET
    assert len({tuple(s.items()) for s in settings}) == TUNING_BUDGET
    assert settings[0] == {"n_dims": 20, "prior_sd": None, "ridge": 300.0, "n_bins": 5}
    assert ZeroRouterPaper().candidates(100) == ({},)
    data, _ = world(16, n_prompts=80)
    for chosen in settings[3::4]:
        fitted = ZeroRouterPaperTuned().fit(data, chosen, np.random.default_rng(0))
        assert fitted.theta.shape[1] == chosen["n_dims"]
        assert np.isfinite(fitted.predict(data.prompts).p_correct).all()


def test_constant_scores_zero_costs_and_one_model_are_survived():
    data, _ = world(17, n_prompts=60)
    one = data.take_models(np.array([3]))
    for scores in (np.ones((1, 60)), np.zeros((1, 60)), np.full((1, 60), 0.5)):
        labels = Labels(
            scores=scores,
            output_tokens=np.full((1, 60), np.nan),
            cost_usd=np.zeros((1, 60)),
        )
        alone = TrainingSet(
            prompts=one.prompts,
            models=(RespondentCard(id="m", model="m", family="f"),),
            labels=labels,
            strata=one.strata,
            groups=one.groups,
        )
        fitted = fit(alone)
        forecast = fitted.predict(one.prompts)
        assert np.isfinite(forecast.p_correct).all()
        assert forecast.p_correct.mean() == pytest.approx(scores.mean(), abs=0.25)
        np.testing.assert_allclose(forecast.cost_usd, 0.0)
        assert all(
            (point.choice == 0).all()
            for point in fitted.operating_points(one.prompts, everyone(fitted, one.prompts))
        )
        assert math.isfinite(fitted.scale.accuracy)
