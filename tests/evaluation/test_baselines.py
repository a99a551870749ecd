"""What each baseline does that the common contract does not say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evaluation.synthetic import newcomers, with_scores, world
from zerorouter.errors import InputError, MissingPriceError, UnknownNameError
from zerorouter.evaluation.baselines import METHODS, find_method
from zerorouter.evaluation.baselines._clusters import closest, fit_centroids, sums_per_cluster
from zerorouter.evaluation.baselines._latent import _Problem
from zerorouter.evaluation.baselines._neighbours import Metric, by_mask, weights
from zerorouter.evaluation.baselines._pool import Costs
from zerorouter.evaluation.baselines._population import Population
from zerorouter.evaluation.baselines.avengers_pro import ALPHAS
from zerorouter.evaluation.baselines.best_single import AdditiveMeans
from zerorouter.evaluation.baselines.carrot import _ridge
from zerorouter.evaluation.baselines.knn import Knn
from zerorouter.evaluation.baselines.mf import MatrixFactorisation
from zerorouter.evaluation.baselines.shuffled_labels import ShuffledLabels
from zerorouter.evaluation.contracts import Labels, PromptSet
from zerorouter.irt.model import ItemParameters, log_loss
from zerorouter.linking import RespondentCard
from zerorouter.predict.features import PromptFeatures
from zerorouter.predict.structure import N_FEATURES


def fit(method_id, train, **settings):
    method = METHODS[method_id]()
    chosen = {**method.candidates(None)[0], **settings}
    return method.fit(train, chosen, np.random.default_rng(0))


def everyone(n):
    return np.ones(n, dtype=bool)


class TestRegistry:
    def test_an_unknown_method_is_named_with_the_nearest_known_one(self):
        with pytest.raises(UnknownNameError, match="knn_warm"):
            find_method("knn_wram")
        assert "nobody" not in METHODS

    def test_methods_are_imported_only_when_asked_for(self):
        code = (
            "import sys, zerorouter.evaluation.baselines as b; assert len(b.METHODS) > 10; "
            "print([m for m in sys.modules if m.startswith('zerorouter.evaluation.baselines.')])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", done.stderr


class TestRandom:
    def test_every_model_gets_its_share_and_seeds_differ(self):
        found = world(n_train=20, n_test=2000, n_models=4)
        points = fit("random", found.train).operating_points(found.test, everyone(4))
        for point in points:
            share = np.bincount(point.choice, minlength=4) / 2000
            assert (np.abs(share - 0.25) < 0.05).all()
        assert (points[0].choice != points[1].choice).mean() > 0.6


class TestCheapest:
    def test_the_lowest_price_wins_and_unknown_prices_never(self):
        found = world(n_models=3)
        cards = found.train.models
        unknown = replace(cards[0], input_usd_per_mtok=None, output_usd_per_mtok=None)
        labels = found.train.labels
        cost = labels.cost_usd.copy()
        cost[0] = np.nan
        train = replace(
            found.train,
            models=(unknown, cards[2], cards[1]),
            labels=replace(labels, cost_usd=cost),
        )
        (point,) = fit("cheapest", train).operating_points(found.test, everyone(3))
        assert (point.choice == 2).all()

    def test_without_any_price_it_says_so(self):
        found = world(priced=False)
        with pytest.raises(MissingPriceError, match="add prices"):
            fit("cheapest", found.train)


class TestBestSingle:
    def test_models_are_compared_on_common_prompts(self):
        """The second model was asked hard prompts too: its mean is lower, its level is not."""
        scores = np.full((2, 200), np.nan)
        rng = np.random.default_rng(0)
        scores[0, :100] = rng.random(100) < 0.8
        scores[1, :100] = rng.random(100) < 0.9
        scores[1, 100:] = rng.random(100) < 0.3
        assert np.nanmean(scores[0]) > np.nanmean(scores[1])
        level = AdditiveMeans(scores).level
        assert level[1] > level[0]

    def test_levels_are_plain_means_on_a_complete_matrix(self):
        scores = np.random.default_rng(1).random((4, 30))
        assert_allclose(AdditiveMeans(scores).level, scores.mean(axis=1), atol=1e-8)

    def test_five_lucky_answers_do_not_make_a_newcomer_the_best(self):
        found = world(seed=3, n_train=300, n_models=6)
        fitted = fit("best_single", found.train)
        (before,) = fitted.operating_points(found.test, everyone(6))
        labels = found.train.labels.take(models=[0]).only(np.arange(300))
        for n, wins in ((5, False), (300, True)):
            scores = np.full((1, 300), np.nan, dtype=np.float32)
            scores[0, :n] = 1.0
            lucky = replace(
                newcomers(found.train, [0], None), labels=replace(labels, scores=scores)
            )
            (after,) = fitted.onboard(lucky).operating_points(found.test, everyone(7))
            assert (after.choice == (6 if wins else before.choice[0])).all()

    def test_only_priced_models_are_chosen(self):
        found = world(n_models=3)
        best = int(np.argmax(found.train.labels.scores.mean(axis=1)))
        cards = list(found.train.models)
        cards[best] = replace(cards[best], input_usd_per_mtok=None)
        cost = found.train.labels.cost_usd.copy()
        cost[best] = np.nan
        train = replace(
            found.train,
            models=tuple(cards),
            labels=replace(found.train.labels, cost_usd=cost),
        )
        (point,) = fit("best_single", train).operating_points(found.test, everyone(3))
        assert (point.choice != best).all()


class TestOracle:
    def test_it_takes_the_cheapest_of_the_best_answers(self):
        found = world(seed=2, n_test=80)
        oracle = fit("oracle", found.train).reveal(found.test_labels)
        points = {p.policy: p.choice for p in oracle.operating_points(found.test, everyone(5))}
        scores, cost = found.test_labels.scores, found.test_labels.cost_usd
        at = np.arange(80)
        chosen = points["accuracy"]
        assert_array_equal(scores[chosen, at], scores.max(axis=0))
        for i in at:
            equals = scores[:, i] == scores[:, i].max()
            assert cost[chosen[i], i] == cost[equals, i].min()

    def test_no_operating_point_of_another_method_is_above_it(self):
        found = world(seed=2, n_test=80)
        oracle = fit("oracle", found.train).reveal(found.test_labels)
        ceiling = found.test_labels.scores.max(axis=0).mean()
        reached = [
            found.test_labels.scores[p.choice, np.arange(80)].mean()
            for p in oracle.operating_points(found.test, everyone(5))
        ]
        assert max(reached) == ceiling
        assert reached[1] < ceiling  # the lowest value of an answer buys the cheapest model

    def test_answers_to_other_prompts_are_refused(self):
        found = world()
        oracle = fit("oracle", found.train).reveal(found.test_labels)
        with pytest.raises(InputError, match="60"):
            oracle.operating_points(found.test.take(np.arange(3)), everyone(5))


class TestNeighbours:
    def test_weights_match_a_slow_reference(self):
        rng = np.random.default_rng(0)
        similarity = rng.random((7, 40)).astype(np.float32)
        found = weights(similarity.copy(), 5)
        for row, weight in zip(similarity, found, strict=True):
            order = np.argsort(-row)
            expected = np.zeros(40)
            expected[order[:5]] = row[order[:5]] - row[order[5]]
            assert_allclose(weight, expected, atol=1e-6)

    def test_copies_of_one_prompt_count_alike(self):
        similarity = np.array([[0.9, 0.9, 0.9, 0.1]], dtype=np.float32)
        assert_allclose(weights(similarity, 2), [[1, 1, 1, 0]])

    def test_all_prompts_count_where_there_are_no_more_than_k(self):
        similarity = np.array([[0.5, -1.0]], dtype=np.float32)
        found = weights(similarity, 5)
        assert (found > 0).all()
        assert found[0, 0] > found[0, 1]

    def test_models_with_the_same_prompts_share_a_search(self):
        observed = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=bool)
        groups = [(m.tolist(), p.tolist()) for m, p in by_mask(observed)]
        assert sorted(groups) == [([0, 2], [0, 1]), ([1], [0, 2])]

    def test_a_prompt_among_copies_of_itself_reads_their_scores(self):
        """Two clusters of copies: each model's forecast is its mean in the cluster."""
        rng = np.random.default_rng(0)
        two = np.eye(16)[[0, 1]]
        embedding = two[np.repeat([0, 1], 50)] + 1e-3 * rng.standard_normal((100, 16))
        scores = np.stack([np.repeat([1.0, 0.0], 50), np.repeat([0.2, 0.6], 50)])
        prompts = PromptSet(
            features=PromptFeatures(
                embedding=embedding.astype(np.float32),
                structure=np.zeros((100, N_FEATURES), dtype=np.float32),
            ),
            input_tokens=np.full(100, 50.0),
        )
        train = replace(
            world(n_train=100, n_models=2).train,
            prompts=prompts,
            labels=Labels(
                scores=scores.astype(np.float32),
                output_tokens=np.full((2, 100), 9.0),
                cost_usd=np.full((2, 100), np.nan),
            ),
        )
        fitted = fit("knn", train, k=20, smoothing=0.0)
        p = fitted.predict(prompts.take(np.array([3, 70]))).p_correct
        assert_allclose(p, [[0.999, 0.2], [0.001, 0.6]], atol=1e-4)

    def test_an_encoder_that_is_not_there_is_named(self):
        found = world()
        assert Metric.fit(found.test, encoder="minilm").encoder == "minilm"
        with pytest.raises(InputError, match="minilm"):
            Metric.fit(found.test, encoder="bert")

    def test_few_labels_narrow_the_neighbourhood(self):
        """With ten anchors a newcomer is still told apart on easy and hard prompts."""
        found = world(seed=8, n_train=400, n_test=300, signal=9.0)
        fitted = fit("knn", found.train.take_models(np.arange(4)))
        newcomer = newcomers(found.train, [4], np.arange(60))
        p = fitted.onboard(newcomer).predict(found.test).p_correct[:, 4]
        assert np.corrcoef(p, found.test_p[4])[0, 1] > 0.3


class TestKnnWarm:
    def test_five_answers_place_a_newcomer_where_cold_neighbours_cannot(self):
        found = world(seed=21, n_train=600, n_test=400, n_models=12, signal=6.0, own_signal=1.0)
        truth = found.test_labels.scores[11]
        old = found.train.take_models(np.arange(11))
        loss = {}
        for method_id in ("knn", "knn_warm"):
            fitted = fit(method_id, old)
            draws = [newcomers(found.train, [11], np.arange(i, i + 5)) for i in range(0, 100, 5)]
            loss[method_id] = np.mean(
                [
                    log_loss(fitted.onboard(some).predict(found.test).p_correct[:, 11], truth)
                    for some in draws
                ]
            )
        assert loss["knn_warm"] < loss["knn"] - 0.03

    def test_duplicates_of_an_anchor_do_not_tell_its_easiness(self):
        """A prompt whose copies are in its group reads the same easiness as without them."""
        found = world(seed=5, n_train=120)
        train = found.train
        twice = np.concatenate([np.arange(120), np.arange(120)])
        doubled = train.take_prompts(twice)  # groups repeat with the prompts
        joined = newcomers(doubled, [2], np.arange(120))
        once = fit("knn_warm", train, k=20).onboard(newcomers(train, [2], np.arange(120)))
        again = fit("knn_warm", doubled, k=20).onboard(joined)
        gap = again.predict(found.test).p_correct - once.predict(found.test).p_correct
        assert np.abs(gap).mean() < 0.05

    def test_models_that_answered_only_easy_prompts_are_not_taken_for_better(self):
        found = world(seed=6, n_train=400, n_test=200, n_models=8, own_signal=0.5)
        hard = found.train.prompts.input_tokens > np.median(found.train.prompts.input_tokens)
        scores = found.train.labels.scores.copy()
        scores[3, hard] = np.nan
        p = fit("knn_warm", with_scores(found.train, scores)).predict(found.test).p_correct
        raw, truth = np.nanmean(scores[3]), found.test_p[3].mean()
        assert abs(p[:, 3].mean() - truth) < 0.4 * abs(raw - truth)


class TestClusters:
    def test_separate_clouds_are_found(self):
        rng = np.random.default_rng(0)
        centres = np.eye(8)[:4]
        x = (centres[np.arange(200) % 4] + 0.05 * rng.standard_normal((200, 8))).astype(np.float32)
        member = closest(x, fit_centroids(x, 4, np.random.default_rng(1)))
        assert len({tuple(np.unique(member[np.arange(200) % 4 == c])) for c in range(4)}) == 4

    def test_there_are_no_more_clusters_than_distinct_prompts(self):
        x = np.eye(3, dtype=np.float32)[[0, 0, 1, 2, 2]]
        assert len(fit_centroids(x, 50, np.random.default_rng(0))) == 3

    def test_sums_leave_missing_cells_out(self):
        values = np.array([[1.0, np.nan, 0.5, 0.0]])
        total, count = sums_per_cluster(np.array([0, 0, 1, 1]), values, 3)
        assert_allclose(total, [[1.0, 0.5, 0.0]])
        assert_array_equal(count, [[1, 2, 0]])


class TestAvengersPro:
    def test_the_ends_of_alpha_are_the_cheapest_and_the_most_accurate(self):
        found = world(seed=9, n_train=500, n_test=300)
        points = fit("avengers_pro", found.train).operating_points(found.test, everyone(5))
        assert len(points) == len(ALPHAS) == 21
        at = np.arange(300)
        accuracy = [found.test_p[p.choice, at].mean() for p in points]
        cost = [found.test_labels.cost_usd[p.choice, at].mean() for p in points]
        assert (points[0].choice == 0).all()
        assert cost[0] == min(cost)
        assert accuracy[-1] > found.test_p.mean(axis=1).max()

    def test_without_costs_accuracy_alone_decides(self):
        found = world(priced=False)
        points = fit("avengers_pro", found.train).operating_points(found.test, everyone(5))
        assert [p.policy for p in points] == ["alpha=1.00"]


class TestCarrot:
    def test_primal_and_dual_ridge_agree(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((30, 20)).astype(np.float32)
        y = rng.standard_normal((2, 30))
        wide = np.hstack([x, np.zeros((30, 40), dtype=np.float32)])
        narrow = _ridge(x, y, np.zeros(2), 3.0)
        dual = _ridge(wide, y, np.zeros(2), 3.0)
        assert_allclose(dual[:20], narrow[:20], atol=1e-8)
        assert_allclose(dual[-1], narrow[-1], atol=1e-8)

    def test_costs_follow_the_prompt_better_than_the_mean_cost(self):
        found = world(seed=10, n_train=500, n_test=200)
        real = found.test_labels.cost_usd.T
        own = fit("carrot", found.train).predict(found.test).cost_usd
        mean = Costs(found.train).known.predict(found.test)
        assert np.abs(own - real).mean() < 0.8 * np.abs(mean - real).mean()

    def test_dollars_stand_in_for_missing_prices(self):
        found = world(seed=10, n_train=300)
        cards = tuple(
            replace(m, input_usd_per_mtok=None, output_usd_per_mtok=None)
            for m in found.train.models
        )
        fitted = fit("carrot", replace(found.train, models=cards))
        own, real = fitted.predict(found.test).cost_usd, found.test_labels.cost_usd.T
        assert_allclose(own.mean(axis=0), real.mean(axis=0), rtol=0.3)


class TestLatent:
    @pytest.mark.parametrize("link", ["mirt", "radar", "mf"])
    def test_gradients_match_finite_differences(self, link):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((40, 5)).astype(np.float32)
        y = (rng.random((40, 6)) < 0.5).astype(np.float32)
        mask = (rng.random((40, 6)) < 0.8).astype(np.float32)
        problem = _Problem(link, x, y * mask, mask, 2, 3.0)
        start = problem.start(rng)
        at = start + 0.3 * rng.standard_normal(len(start))
        _, gradient = problem.value_and_gradient(at)
        for i in rng.choice(len(at), 12, replace=False):
            step = np.zeros(len(at))
            step[i] = 1e-2
            up, _ = problem.value_and_gradient(at + step)
            down, _ = problem.value_and_gradient(at - step)
            assert_allclose(gradient[i], (up - down) / 2e-2, rtol=2e-2, atol=5e-3)

    def test_factorisation_recovers_directions_of_its_own_for_each_model(self):
        """One-dimensional RADAR cannot rank prompts differently for two models; MF can."""
        found = world(seed=12, n_train=500, n_test=500, n_models=6)
        loss = {
            i: log_loss(
                fit(i, found.train, ridge=1000.0).predict(found.test).p_correct,
                found.test_labels.scores.T,
            )
            for i in ("radar", "mf")
        }
        assert loss["mf"] < loss["radar"]

    def test_a_newcomer_without_anchors_is_the_average_model(self):
        found = world(seed=12, n_train=300, n_models=6)
        fitted = fit("mf", found.train, cards=False)
        p = fitted.onboard(newcomers(found.train, [0], np.array([], dtype=int)))
        p = p.predict(found.test).p_correct
        assert abs(p[:, 6].mean() - p[:, :6].mean()) < 0.05


class TestPopulation:
    def models(self, n):
        return [
            RespondentCard(
                id=f"m{i}", model=f"m{i}", family=f"f{i}", released=f"20{15 + i % 10}-06"
            )
            for i in range(n)
        ]

    def test_cards_shift_the_expectation(self):
        models = self.models(30)
        theta = np.array([[0.4 * (i % 10)] for i in range(30)])
        rng = np.random.default_rng(0)
        theta += 0.1 * rng.standard_normal(theta.shape)
        prior = Population.of(models, theta, cards=True)
        early, late = prior.expected([models[0], models[9]])
        assert late[0] - early[0] > 2
        assert prior.covariance[0, 0] < 0.3 * theta.var()

    def test_few_models_have_no_use_of_cards(self):
        models = self.models(3)
        prior = Population.of(models, np.array([[0.0], [1.0], [2.0]]), cards=True)
        assert prior.table is None
        assert_allclose(prior.expected(models), 1.0)

    def test_one_model_leaves_a_wide_prior(self):
        prior = Population.of(self.models(1), np.array([[0.3, -0.2]]))
        assert_allclose(prior.covariance, np.eye(2))

    def test_answers_move_a_newcomer_towards_them(self):
        prior = Population.of(self.models(3), np.array([[-1.0], [0.0], [1.0]]))
        items = ItemParameters.exact(np.ones((50, 1)), np.zeros(50))
        scores = np.vstack([np.ones(50), np.zeros(50), np.full(50, np.nan)])
        found = prior.place(items, self.models(3), scores)
        assert found.mean[0, 0] > 1 > -1 > found.mean[1, 0]
        assert found.mean[2, 0] == pytest.approx(0.0)
        assert found.covariance[0, 0, 0] < found.covariance[2, 0, 0]


class TestControls:
    def test_shuffling_keeps_each_model_s_scores_and_what_it_was_asked(self):
        seen = {}

        class Spy(Knn):
            def fit(self, data, settings, rng):
                seen["labels"] = data.labels
                return super().fit(data, settings, rng)

        class Shuffled(ShuffledLabels):
            inner = Spy

        train = world(seed=1, missing=0.3).train
        Shuffled().fit(train, {}, np.random.default_rng(0))
        before, after = train.labels.scores, seen["labels"].scores
        assert_array_equal(np.isnan(before), np.isnan(after))
        assert_allclose(np.nanmean(before, axis=1), np.nanmean(after, axis=1), rtol=1e-6)
        assert (before != after).mean() > 0.2

    def test_any_method_can_be_put_to_the_test(self):
        class Shuffled(ShuffledLabels):
            inner = MatrixFactorisation

        found = world(seed=13, n_train=500, n_test=300)
        fitted = Shuffled().fit(found.train, {}, np.random.default_rng(0))
        p = fitted.predict(found.test).p_correct
        mean = np.tile(found.train.labels.scores.mean(axis=1), (300, 1))
        scores = found.test_labels.scores.T
        assert log_loss(p, scores) > log_loss(mean, scores) - 0.003

    def test_noise_belongs_to_the_prompt(self):
        """Two prompts that read the same are forecast the same, wherever they stand."""
        found = world(seed=1)
        fitted = fit("random_features", found.train)
        p = fitted.predict(found.test.take(np.array([4, 9, 4]))).p_correct
        assert_array_equal(p[0], p[2])
        assert (p[0] != p[1]).any()


class TestLengthOnly:
    def test_only_the_number_of_tokens_matters(self):
        found = world(seed=1)
        fitted = fit("length_only", found.train)
        rng = np.random.default_rng(0)
        features = found.test.features
        other = replace(
            found.test,
            features=PromptFeatures(
                embedding=rng.permuted(features.embedding, axis=0),
                structure=rng.permuted(features.structure, axis=0),
            ),
        )
        assert_array_equal(fitted.predict(other).p_correct, fitted.predict(found.test).p_correct)
