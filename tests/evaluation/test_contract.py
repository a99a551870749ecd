"""The contract of every routing method: parametrised over `METHODS`, so new ones are picked up."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from evaluation.synthetic import World, freeze, newcomers, with_scores, world
from zerorouter.errors import ZeroRouterError
from zerorouter.evaluation.baselines import METHODS
from zerorouter.evaluation.contracts import TUNING_BUDGET, FittedMethod, Forecast, TrainingSet
from zerorouter.irt.model import log_loss

# Methods that learn nothing of prompts, by design.
CONTROLS = {"shuffled_labels", "random_features"}
ATOL = 1e-6
ALL = np.ones(5, dtype=bool)

all_methods = pytest.mark.parametrize("method_id", list(METHODS))
probabilistic = pytest.mark.parametrize(
    "method_id", [i for i in METHODS if METHODS[i].has_probabilities]
)


@cache
def small() -> World:
    found = world(seed=1, missing=0.1)
    freeze(found.train)
    return found


@cache
def fitted(method_id: str) -> FittedMethod:
    return fit(method_id, small().train)


def fit(method_id: str, train: TrainingSet, seed: int = 0) -> FittedMethod:
    method = METHODS[method_id]()
    return method.fit(train, method.candidates(None)[0], np.random.default_rng(seed))


def check(forecast: Forecast, n_prompts: int, n_models: int, *, has_p: bool) -> None:
    assert forecast.cost_usd.shape == (n_prompts, n_models)
    known = forecast.cost_usd[~np.isnan(forecast.cost_usd)]
    assert (known >= 0).all()
    assert np.isfinite(known).all()
    if not has_p:
        assert forecast.p_correct is None
        return
    assert forecast.p_correct is not None
    assert forecast.p_correct.shape == (n_prompts, n_models)
    assert np.isfinite(forecast.p_correct).all()
    assert (forecast.p_correct > 0).all()
    assert (forecast.p_correct < 1).all()


def same(one: Forecast, other: Forecast, *, atol: float = ATOL) -> None:
    np.testing.assert_allclose(one.cost_usd, other.cost_usd, rtol=1e-5, atol=1e-12)
    if one.p_correct is None:
        assert other.p_correct is None
    else:
        np.testing.assert_allclose(one.p_correct, other.p_correct, rtol=0, atol=atol)


@all_methods
class TestContract:
    def test_a_method_says_what_it_is(self, method_id):
        method = METHODS[method_id]
        assert method.id == method_id
        assert method.reference
        assert method.__doc__

    @pytest.mark.parametrize("n_labels", [None, 5, 100])
    def test_settings_stay_within_the_tuning_budget(self, method_id, n_labels):
        found = METHODS[method_id]().candidates(n_labels)
        assert 1 <= len(found) <= TUNING_BUDGET
        assert len({repr(sorted(s.items())) for s in found}) == len(found)

    def test_forecasts_have_a_column_for_each_model(self, method_id):
        has_p = METHODS[method_id].has_probabilities
        check(fitted(method_id).predict(small().test), 60, 5, has_p=has_p)

    def test_every_setting_fits_and_predicts(self, method_id):
        tiny = world(seed=2, n_train=40, n_test=6, n_models=3)
        method = METHODS[method_id]()
        tried = [*method.candidates(None), *method.candidates(10)]
        for settings in {repr(sorted(s.items())): s for s in tried}.values():
            found = method.fit(tiny.train, settings, np.random.default_rng(0))
            joined = found.onboard(newcomers(tiny.train, [1], np.arange(10)))
            check(joined.predict(tiny.test), 6, 4, has_p=method.has_probabilities)

    def test_a_batch_is_predicted_like_its_parts(self, method_id):
        found, test = fitted(method_id), small().test
        whole = found.predict(test)
        for part in (np.arange(7), np.arange(7, 60), np.array([31])):
            some = Forecast(
                p_correct=None if whole.p_correct is None else whole.p_correct[part],
                cost_usd=whole.cost_usd[part],
            )
            same(found.predict(test.take(part)), some)

    def test_the_order_of_prompts_does_not_matter(self, method_id):
        found, test = fitted(method_id), small().test
        order = np.random.default_rng(0).permutation(60)
        whole = found.predict(test)
        expected = Forecast(
            p_correct=None if whole.p_correct is None else whole.p_correct[order],
            cost_usd=whole.cost_usd[order],
        )
        same(found.predict(test.take(order)), expected)

    def test_the_same_seed_gives_the_same_fit(self, method_id):
        again = fit(method_id, small().train)
        same(again.predict(small().test), fitted(method_id).predict(small().test), atol=1e-12)

    def test_operating_points_choose_known_models(self, method_id):
        found, test = fitted(method_id), small().test
        points = found.operating_points(test, ALL)
        if points is None:
            assert METHODS[method_id].has_probabilities
            return
        assert points
        assert len({point.policy for point in points}) == len(points)
        order = np.random.default_rng(0).permutation(60)
        shuffled = found.operating_points(test.take(order), ALL)
        for point, other in zip(points, shuffled, strict=True):
            assert point.policy == other.policy
            assert point.choice.shape == (60,)
            assert ((point.choice >= 0) & (point.choice < 5)).all()
            np.testing.assert_array_equal(point.choice[order], other.choice)

    def test_operating_points_keep_to_the_eligible_models(self, method_id):
        eligible = np.array([False, True, False, True, False])
        for point in fitted(method_id).operating_points(small().test, eligible) or ():
            assert set(point.choice.tolist()) <= {1, 3}

    @pytest.mark.parametrize("n_anchors", [0, 5, 50, 160])
    def test_newcomers_join_without_moving_the_others(self, method_id, n_anchors):
        found, test, has_p = fitted(method_id), small().test, METHODS[method_id].has_probabilities
        anchors = np.random.default_rng(0).permutation(160)[:n_anchors]
        joined = found.onboard(newcomers(small().train, [0, 4], anchors))
        before, after = found.predict(test), joined.predict(test)
        check(after, 60, 7, has_p=has_p)
        assert not np.isnan(after.cost_usd).any()
        kept = None if after.p_correct is None else after.p_correct[:, :5]
        same(before, Forecast(p_correct=kept, cost_usd=after.cost_usd[:, :5]))
        for point in joined.operating_points(test, np.ones(7, dtype=bool)) or ():
            assert ((point.choice >= 0) & (point.choice < 7)).all()

    def test_newcomers_may_join_together_or_one_after_another(self, method_id):
        found, train = fitted(method_id), small().train
        anchors = np.arange(0, 160, 8)
        together = found.onboard(newcomers(train, [3, 1], anchors))
        one = found.onboard(newcomers(train, [3], anchors))
        same(
            one.onboard(newcomers(train, [1], anchors)).predict(small().test),
            together.predict(small().test),
        )

    def test_a_copy_of_a_model_is_predicted_like_it(self, method_id):
        found = fitted(method_id).onboard(newcomers(small().train, [3], None))
        p = found.predict(small().test).p_correct
        if p is None or method_id in CONTROLS:
            return
        assert np.mean(np.abs(p[:, 5] - p[:, 3])) < 0.06

    def test_missing_answers_are_not_wrong_answers(self, method_id):
        train = small().train
        hidden = np.random.default_rng(3).random(train.labels.scores.shape) < 0.4
        sparse = with_scores(train, np.where(hidden, np.nan, train.labels.scores))
        before = fitted(method_id).predict(small().test).p_correct
        after = fit(method_id, sparse).predict(small().test).p_correct
        if before is None:
            assert after is None
            return
        assert abs(float(np.mean(after - before))) < 0.04

    def test_fractional_scores_are_taken_as_they_are(self, method_id):
        found = world(seed=4, fractional=True)
        p = fit(method_id, found.train).predict(found.test).p_correct
        if p is not None:
            assert abs(float(p.mean()) - float(np.nanmean(found.train.labels.scores))) < 0.08

    @pytest.mark.parametrize(
        "bad",
        ["all_right", "all_wrong", "one_model", "one_prompt", "no_prices", "block_missing"],
    )
    def test_odd_data_works_or_raises_a_typed_error(self, method_id, bad):
        found = odd(bad)
        has_p, m = METHODS[method_id].has_probabilities, len(found.train.models)
        try:
            method = fit(method_id, found.train)
            forecast = method.predict(found.test)
            points = method.operating_points(found.test, np.ones(m, dtype=bool))
            joined = method.onboard(newcomers(found.train, [0], np.array([0])))
            after = joined.predict(found.test)
        except ZeroRouterError:
            return
        check(forecast, len(found.test), m, has_p=has_p)
        check(after, len(found.test), m + 1, has_p=has_p)
        if bad == "no_prices":
            assert np.isnan(forecast.cost_usd).all()
        for point in points or ():
            assert ((point.choice >= 0) & (point.choice < m)).all()

    def test_nothing_answered_at_all_is_a_typed_error_or_a_guess(self, method_id):
        train = small().train
        empty = with_scores(train, np.full(train.labels.scores.shape, np.nan))
        try:
            found = fit(method_id, empty).predict(small().test)
        except ZeroRouterError:
            return
        check(found, 60, 5, has_p=METHODS[method_id].has_probabilities)

    def test_a_model_that_never_answered_gets_a_guess(self, method_id):
        train = small().train
        scores = train.labels.scores.copy()
        scores[2] = np.nan
        try:
            found = fit(method_id, with_scores(train, scores)).predict(small().test)
        except ZeroRouterError:
            return
        check(found, 60, 5, has_p=METHODS[method_id].has_probabilities)


def odd(bad: str) -> World:
    found = world(seed=5, n_train=60, n_test=10, n_models=3, priced=bad != "no_prices")
    train = found.train
    if bad == "all_right":
        return replace(found, train=with_scores(train, np.ones_like(train.labels.scores)))
    if bad == "all_wrong":
        return replace(found, train=with_scores(train, np.zeros_like(train.labels.scores)))
    if bad == "one_model":
        return replace(found, train=train.take_models(np.array([1])))
    if bad == "one_prompt":
        return replace(found, train=train.take_prompts(np.array([0])))
    if bad == "block_missing":
        scores = train.labels.scores.copy()
        scores[0, :30], scores[1, 30:] = np.nan, np.nan
        return replace(found, train=with_scores(train, scores))
    return found


@cache
def large() -> World:
    return world(seed=11, n_train=700, n_test=500, n_models=6)


def gain(method_id: str) -> float:
    """By how much a method's log-loss on unseen prompts is below that of per-model means."""
    train, labels = large().train, large().test_labels
    mean = np.tile(train.labels.scores.mean(axis=1), (len(large().test), 1))
    p = fit(method_id, train).predict(large().test).p_correct
    assert p is not None
    return log_loss(mean, labels.scores.T) - log_loss(p, labels.scores.T)


@probabilistic
class TestSignal:
    def test_what_can_be_learned_is_learned_and_no_more(self, method_id):
        if method_id in CONTROLS:
            assert -0.02 < gain(method_id) < 0.003
        else:
            assert gain(method_id) > 0.01

    def test_a_newcomer_with_anchors_beats_one_without(self, method_id):
        found, train, labels = large(), large().train, large().test_labels
        strong = newcomers(train, [5], None)
        rest = train.take_models(np.arange(5))
        base = fit(method_id, rest)
        losses = []
        for n in (0, 300):
            anchors = np.random.default_rng(0).permutation(700)[:n]
            known = replace(strong, labels=strong.labels.only(anchors))
            p = base.onboard(known).predict(found.test).p_correct
            losses.append(log_loss(p[:, 5], labels.scores[5]))
        assert losses[1] < losses[0] + 0.005
