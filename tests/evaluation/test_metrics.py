"""Metrics against arithmetic done by hand, public formulas, and slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.errors import DataError, MissingPriceError
from zerorouter.evaluation import metrics
from zerorouter.evaluation.metrics import Frontier

LOOP = settings(max_examples=60, deadline=None)
NAN = math.nan

cells = st.lists(
    st.tuples(
        st.integers(0, 8).map(lambda k: k / 8),  # probabilities with many ties
        st.sampled_from([0.0, 0.25, 1.0]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=25,
)
points = st.lists(
    st.tuples(st.integers(0, 30).map(float), st.integers(0, 20).map(lambda k: k / 20)),
    min_size=1,
    max_size=12,
)


def columns(rows):
    return tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True))


def naive_auc(p, y):
    """The definition, pair by pair."""
    won = total = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            mass = y[i] * (1 - y[j])
            total += mass
            won += mass * (p[i] > p[j]) + mass / 2 * (p[i] == p[j])
    return won / total if total else None


def naive_height(cost, quality, at):
    """The best of every mixture of two operating points that costs no more than ``at``."""
    heights = [q for c, q in zip(cost, quality, strict=True) if c <= at]
    for c0, q0 in zip(cost, quality, strict=True):
        for c1, q1 in zip(cost, quality, strict=True):
            if c0 <= at < c1:
                heights.append(q0 + (q1 - q0) * (at - c0) / (c1 - c0))
    return max(heights)


# --- probabilities ------------------------------------------------------------------------------


def test_log_loss_and_brier_by_hand():
    p, y = np.array([0.8, 0.4]), np.array([1.0, 0.0])
    assert metrics.log_loss(p, y) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert metrics.brier(p, y) == pytest.approx((0.2**2 + 0.4**2) / 2)  # 0.1


def test_fractional_scores_are_taken_as_they_are():
    p, y = np.array([0.8]), np.array([0.25])
    assert metrics.log_loss(p, y) == pytest.approx(-(0.25 * math.log(0.8) + 0.75 * math.log(0.2)))
    assert metrics.brier(p, y) == pytest.approx(0.55**2)


def test_a_sure_and_wrong_cell_costs_a_bounded_amount():
    assert metrics.log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-math.log(1e-6))


def test_auc_by_hand_with_a_tie():
    # right answers at .9 and .5, wrong ones at .5 and .1: (1 + 1 + 1/2 + 1) / 4
    p, y = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert metrics.auc(p, y) == pytest.approx(3.5 / 4)


def test_auc_of_fractional_scores_by_hand():
    # masses right / wrong: (.75, .25) at .9, (.25, .75) at .1
    # pairs: .75 x .25 tied, .75 x .75 won, .25 x .25 lost, .25 x .75 tied; all: 1 x 1
    p, y = np.array([0.9, 0.1]), np.array([0.75, 0.25])
    assert metrics.auc(p, y) == pytest.approx(0.1875 / 2 + 0.5625 + 0.1875 / 2)


@LOOP
@given(cells)
def test_auc_is_its_definition_pair_by_pair(rows):
    p, y, _ = columns(rows)
    assert metrics.auc(p, y) == pytest.approx(naive_auc(p, y))


@LOOP
@given(cells)
def test_auc_ignores_monotone_changes_of_the_probabilities(rows):
    p, y, w = columns(rows)
    assert metrics.auc(p, y, w) == pytest.approx(metrics.auc((p**3 + p) / 2, y, w))


@LOOP
@given(cells)
def test_auc_of_the_complement_is_the_complement(rows):
    p, y, _ = columns(rows)
    value = metrics.auc(p, y)
    if value is not None:
        assert metrics.auc(1 - p, y) == pytest.approx(1 - value)


@pytest.mark.parametrize("name", ["log_loss", "brier", "auc", "ece"])
@LOOP
@given(rows=cells)
def test_an_integer_weight_repeats_the_cell(name, rows):
    p, y, w = columns(rows)
    metric = getattr(metrics, name)
    repeated = np.repeat(np.arange(len(p)), w.astype(int))
    assert metric(p, y, w) == pytest.approx(metric(p[repeated], y[repeated]))


@pytest.mark.parametrize("name", ["log_loss", "brier", "auc", "ece"])
def test_replicates_are_the_metric_under_each_weight_vector(name):
    rng = np.random.default_rng(0)
    p, y = rng.random(40).round(1), rng.integers(0, 2, 40).astype(float)
    y[3] = NAN
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    many = metrics.PER_MODEL[name](p, y, weights)
    assert many.shape == (5,)
    for row, value in zip(weights, many, strict=True):
        assert getattr(metrics, name)(p, y, row) == pytest.approx(value)


@pytest.mark.parametrize("name", ["log_loss", "brier", "auc", "ece"])
def test_a_cell_never_administered_changes_nothing(name):
    metric = getattr(metrics, name)
    p, y = np.array([0.9, 0.2, 0.6]), np.array([1.0, 0.0, 1.0])
    with_hole = metric(np.array([0.9, 0.2, NAN, 0.6]), np.array([1.0, 0.0, NAN, 1.0]))
    assert with_hole == metric(p, y)


@pytest.mark.parametrize("name", ["log_loss", "brier", "auc", "ece"])
def test_no_cells_give_none(name):
    assert getattr(metrics, name)(np.array([0.5]), np.array([NAN])) is None


def test_auc_of_one_class_is_none_and_of_constants_a_half():
    assert metrics.auc(np.array([0.2, 0.9]), np.ones(2)) is None
    assert metrics.auc(np.array([0.2]), np.ones(1)) is None
    assert metrics.auc(np.full(4, 0.3), np.array([0.0, 1.0, 1.0, 0.0])) == 0.5


def test_a_method_may_not_skip_an_administered_cell():
    with pytest.raises(DataError, match="1 of 2 administered cells have no probability"):
        metrics.log_loss(np.array([0.5, NAN]), np.array([1.0, 0.0]))


@pytest.mark.parametrize(
    ("p", "y", "w"),
    [([0.5, 1.2], [1, 0], None), ([0.5], [1, 0], None), ([0.5], [1], [-1]), ([0.5], [1], [1, 1])],
)
def test_impossible_cells_are_refused(p, y, w):
    weights = None if w is None else np.array(w, dtype=float)
    with pytest.raises(DataError):
        metrics.brier(np.array(p), np.array(y, dtype=float), weights)


def test_calibration_error_by_hand():
    p, y = np.array([0.1, 0.1, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    # two bins of two cells: |.5 - .1| and |1 - .9|, each half of the mass
    assert metrics.ece(p, y, n_bins=2) == pytest.approx((0.4 + 0.1) / 2)
    assert metrics.ece(p, y, n_bins=2, binning="width") == pytest.approx(0.25)
    assert metrics.ece(p, y, n_bins=1) == pytest.approx(0.75 - 0.5)


def test_equal_mass_bins_split_what_equal_widths_do_not():
    p = np.array([0.96, 0.97, 0.98, 0.99])
    y = np.array([1.0, 1.0, 1.0, 0.0])
    # widths: one bin, |.75 - .975|; masses: |1 - .965| and |.5 - .985|, half each
    assert metrics.ece(p, y, n_bins=2, binning="width") == pytest.approx(0.225)
    assert metrics.ece(p, y, n_bins=2) == pytest.approx((0.035 + 0.485) / 2)


def test_reliability_bins_hold_all_cells_and_give_the_calibration_error():
    rng = np.random.default_rng(1)
    p = rng.random(300)
    y = (rng.random(300) < p**2).astype(float)
    curve = metrics.reliability(p, y)
    assert len(curve.n) == 15
    np.testing.assert_allclose(curve.n, 20)
    assert (np.diff(curve.mean_p) > 0).all()
    error = (curve.n * np.abs(curve.mean_y - curve.mean_p)).sum() / 300
    assert metrics.ece(p, y) == pytest.approx(error)


def test_constant_probabilities_fall_into_one_bin():
    curve = metrics.reliability(np.full(10, 0.3), np.arange(10) % 2.0)
    assert (curve.mean_p.tolist(), curve.mean_y.tolist(), curve.n.tolist()) == (
        [pytest.approx(0.3)],
        [0.5],
        [10],
    )
    assert len(metrics.reliability(np.array([0.3]), np.array([NAN])).n) == 0


def test_each_model_counts_the_same_and_those_without_the_metric_are_left_out():
    p = np.array([[0.9, 0.1, 0.5, 0.5], [0.4, 0.6, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    y = np.array([[1, 0, NAN, NAN], [1, 0, 1, 0], [1, 1, 1, 1]], dtype=float)
    found = metrics.average_over_models(metrics.auc_replicates, p, y)
    # 1; pairs of the second: .4<.6, .4<.5, .5<.6, .5=.5 -> 1/8; the third is all right
    np.testing.assert_allclose(found.per_model, [1.0, 0.125, NAN])
    assert found.value == pytest.approx((1 + 0.125) / 2)
    assert (found.n_models, found.n_cells) == (2, 6)
    nobody = metrics.average_over_models(metrics.auc_replicates, p[2:], y[2:])
    assert (nobody.value, nobody.n_models, nobody.n_cells) == (None, 0, 0)


def test_pooling_rewards_knowing_which_model_is_strong():
    p = np.array([[0.9, 0.9], [0.1, 0.1]])
    y = np.array([[1.0, 1.0], [0.0, NAN]])
    assert metrics.auc_pooled(p, y) == 1
    assert metrics.average_over_models(metrics.auc_replicates, p, y).value is None
    weights = np.array([[1.0, 1.0], [0.0, 1.0]])  # the second draws no wrong answer
    np.testing.assert_equal(metrics.auc_pooled_replicates(p, y, weights), [1, NAN])
    models = np.array([[1.0, 1.0], [1.0, 0.0]])
    np.testing.assert_equal(metrics.auc_pooled_replicates(p, y, weights, models), [1, NAN])


# --- frontiers ----------------------------------------------------------------------------------

COST = [3.0, 1.0, 4.0, 2.0]
ACCURACY = [0.6, 0.5, 0.8, 0.7]
# the hull runs (1, .5), (2, .7), (4, .8): slopes .2 and .05; (3, .6) lies below it


def test_the_hull_by_hand():
    cost, accuracy = Frontier.from_points(COST, ACCURACY).vertices
    assert (cost.tolist(), accuracy.tolist()) == ([1, 2, 4], [0.5, 0.7, 0.8])


def test_accuracy_along_the_hull_by_hand():
    curve = Frontier.from_points(COST, ACCURACY)
    at = {0.5: 0.25, 1: 0.5, 1.5: 0.6, 3: 0.75, 4: 0.8, 9: 0.8}  # half the money, half the answers
    for cost, accuracy in at.items():
        assert curve.accuracy_at(cost)[0] == pytest.approx(accuracy)


def test_cost_along_the_hull_by_hand():
    curve = Frontier.from_points(COST, ACCURACY)
    for accuracy, cost in {0.3: 1, 0.5: 1, 0.6: 1.5, 0.75: 3, 0.8: 4, 0.81: math.inf}.items():
        assert curve.cost_at(accuracy)[0] == pytest.approx(cost)


def test_aiq_by_hand():
    curve = Frontier.from_points(COST, ACCURACY)
    # 1 to 2: 1 x .6; 2 to 4: 2 x .75; 4 to 6: 2 x .8; below 1: triangle .5 x 1 x .5
    assert metrics.aiq(curve, 1, 4)[0] == pytest.approx((0.6 + 1.5) / 3)  # .7
    assert metrics.aiq(curve, 1, 6)[0] == pytest.approx((0.6 + 1.5 + 1.6) / 5)
    assert metrics.aiq(curve, 0, 4)[0] == pytest.approx((0.25 + 0.6 + 1.5) / 4)
    assert metrics.scalar(metrics.aiq(curve, 2, 2)) is None


@LOOP
@given(points)
def test_the_hull_rises_with_falling_slopes_and_is_the_best_mixture(rows):
    cost, quality = columns(rows)
    curve = Frontier.from_points(cost, quality)
    x, y = curve.vertices
    slopes = np.diff(y) / np.diff(x)
    assert (slopes > 0).all()
    assert (np.diff(slopes) <= 1e-9).all()
    for at in np.linspace(cost.min(), cost.max() + 3, 17):
        assert curve.accuracy_at(at)[0] == pytest.approx(naive_height(cost, quality, at))


@LOOP
@given(points)
def test_cost_is_the_inverse_of_accuracy(rows):
    curve = Frontier.from_points(*columns(rows))
    for accuracy in np.linspace(curve.accuracy[0, 0], curve.best_accuracy[0], 7):
        cost = curve.cost_at(accuracy)
        assert curve.accuracy_at(cost)[0] == pytest.approx(accuracy)


@LOOP
@given(points)
def test_aiq_is_the_mean_of_the_curve(rows):
    curve = Frontier.from_points(*columns(rows))
    grid = np.linspace(0, 40, 4001)
    heights = [curve.accuracy_at(c)[0] for c in grid[::40]]
    assert min(heights) <= metrics.aiq(curve, 0, 40)[0] + 1e-9
    middles = (grid[1:] + grid[:-1]) / 2
    slow = np.mean([curve.accuracy_at(c)[0] for c in middles[::10]])
    assert metrics.aiq(curve, 0, 40)[0] == pytest.approx(slow, abs=0.01)


@LOOP
@given(points, st.floats(0, 1))
def test_a_frontier_that_is_better_everywhere_has_the_larger_aiq(rows, more):
    cost, quality = columns(rows)
    below = metrics.aiq(Frontier.from_points(cost, quality), 0, 40)[0]
    assert metrics.aiq(Frontier.from_points(cost, quality + more), 0, 40)[0] >= below - 1e-12
    assert metrics.aiq(Frontier.from_points(cost * 0.9, quality), 0, 40)[0] >= below - 1e-12


def test_many_frontiers_at_once_are_each_what_they_are_alone():
    rng = np.random.default_rng(2)
    accuracy, cost = rng.random((9, 30)), rng.random((9, 30))
    weights = rng.integers(0, 3, (6, 30)).astype(float)
    many = Frontier.from_outcomes(accuracy, cost, weights)
    budgets = np.linspace(0.3, 0.7, 6)
    for row, budget in enumerate(budgets):
        repeated = np.repeat(np.arange(30), weights[row].astype(int))
        alone = Frontier.from_outcomes(accuracy[:, repeated], cost[:, repeated])
        assert many.accuracy_at(budgets)[row] == pytest.approx(alone.accuracy_at(budget)[0])
        assert many.cost_at(budgets)[row] == pytest.approx(alone.cost_at(budget)[0])
        assert many.mean_height(0.2, budgets + 0.1)[row] == pytest.approx(
            alone.mean_height(0.2, budget + 0.1)[0]
        )


def test_free_points_and_single_points_are_frontiers_too():
    free = Frontier.from_points([0.0, 2.0], [0.4, 0.8])
    assert free.accuracy_at(0)[0] == pytest.approx(0.4)
    assert metrics.aiq(free, 0, 2)[0] == pytest.approx(0.6)
    single = Frontier.from_points([2.0], [0.8])
    assert single.accuracy_at([1.0])[0] == pytest.approx(0.4)
    assert single.cost_at(0.8)[0] == 2


def test_unknown_costs_and_scores_are_errors_never_zeros():
    known = np.ones((1, 3))
    hole = np.array([[1.0, NAN, 1.0]])
    with pytest.raises(MissingPriceError, match="1 of 3 routed prompts have no known cost"):
        Frontier.from_outcomes(known, hole)
    with pytest.raises(DataError, match="complete blocks"):
        Frontier.from_outcomes(hole, known)
    with pytest.raises(DataError):
        Frontier.from_points([], [])
    with pytest.raises(DataError):
        metrics.mean_accuracy(np.empty((1, 0)))
    assert metrics.scalar(metrics.mean_latency_s(hole)) is None
    assert metrics.scalar(metrics.mean_cost_usd(known)) == 1


# --- decisions ----------------------------------------------------------------------------------

CURVE = Frontier.from_points(COST, ACCURACY)


@pytest.mark.parametrize(
    ("level", "saved"),
    [
        (1.0, 1 - 3 / 4),  # .75 is reached at 3
        (0.99, 1 - 2.85 / 4),  # .7425: 2 + .0425 / .05
        (0.95, 1 - 2.25 / 4),  # .7125: 2 + .0125 / .05
    ],
)
def test_cost_saved_against_a_best_single_model_of_75_percent_at_4_dollars(level, saved):
    assert metrics.cost_save(CURVE, 0.75, 4.0, level=level)[0] == pytest.approx(saved)


def test_cost_saved_is_negative_where_more_is_needed_and_none_where_nothing_is_enough():
    assert metrics.cost_save(CURVE, 0.8, 3.2)[0] == pytest.approx(1 - 4 / 3.2)
    never = metrics.cost_save(CURVE, 0.9, 4.0)
    assert never[0] == -math.inf
    assert metrics.scalar(never) is None
    assert metrics.scalar(metrics.cost_save(CURVE, 0.5, 0.0)) is None


def test_the_best_single_model_saves_nothing_against_itself():
    rng = np.random.default_rng(3)
    scores, cost = rng.random((1, 101)), rng.random((1, 101))
    weights = rng.integers(0, 3, (50, 101)).astype(float)
    curve = Frontier.from_outcomes(scores, cost, weights)
    accuracy = metrics.mean_accuracy(scores[0], weights)
    saved = metrics.cost_save(curve, accuracy, metrics.mean_cost_usd(cost[0], weights))
    np.testing.assert_allclose(saved, 0, atol=1e-12)


def test_performance_gain_by_hand():
    assert metrics.perf_gain(CURVE, 0.75)[0] == pytest.approx(0.8 / 0.75 - 1)
    assert metrics.scalar(metrics.perf_gain(CURVE, 0.0)) is None


# RouteLLM: weak .6, strong .8; accuracy at 0, 25, 50, 75 and 100% calls to the strong one
PAIR = {"weak": 0.6, "strong": 0.8, "weak_cost_usd": 1.0, "strong_cost_usd": 5.0}
ROUTED = Frontier.from_points([1.0, 2.0, 3.0, 4.0, 5.0], [0.6, 0.7, 0.76, 0.79, 0.8])


def test_performance_gap_recovered_by_hand():
    np.testing.assert_allclose(metrics.pgr([0.7, 0.8, 0.84], 0.6, 0.8), [0.5, 1.0, 1.2])
    assert metrics.scalar(metrics.pgr(0.7, 0.8, 0.8)) is None


def test_average_gap_recovered_is_that_of_routellm_s_trapezoids():
    # routellm/evals/evaluate.py: (trapz(accuracy) - weak) / (strong - weak)
    area = 0.25 * (0.65 + 0.73 + 0.775 + 0.795)  # .7375
    assert metrics.apgr(ROUTED, **PAIR)[0] == pytest.approx((area - 0.6) / 0.2)  # .6875


def test_call_performance_threshold_by_hand():
    assert metrics.cpt(ROUTED, **PAIR)[0] == pytest.approx(0.25)  # .7
    assert metrics.cpt(ROUTED, **PAIR, level=0.8)[0] == pytest.approx(0.5)  # .76
    assert metrics.scalar(metrics.cpt(ROUTED, **PAIR, level=1.1)) is None


def test_mixing_weak_and_strong_at_random_recovers_half_the_gap():
    """RouteLLM's random router: APGR .500, CPT(50%) near 50%, CPT(80%) near 80%."""
    mixed = Frontier.from_points([1.0, 5.0], [0.6, 0.8])
    assert metrics.apgr(mixed, **PAIR)[0] == pytest.approx(0.5)
    assert metrics.cpt(mixed, **PAIR, level=0.5)[0] == pytest.approx(0.5)
    assert metrics.cpt(mixed, **PAIR, level=0.8)[0] == pytest.approx(0.8)


def test_no_gap_means_no_gap_metrics():
    flat = {**PAIR, "strong": 0.6}
    assert metrics.scalar(metrics.apgr(ROUTED, **flat)) is None
    assert metrics.scalar(metrics.cpt(ROUTED, **flat)) is None
    same_cost = {**PAIR, "strong_cost_usd": 1.0}
    assert metrics.scalar(metrics.apgr(ROUTED, **same_cost)) is None
    assert metrics.scalar(metrics.cpt(ROUTED, **same_cost)) is None


@pytest.mark.parametrize(
    ("accuracy", "usd_per_1000", "published"),
    [
        (0.6688, 0.15, 0.6689),  # MIRT-BERT on the RouterArena leaderboard
        (0.7396, 10.02, 0.6432),  # GPT-5
        (0.6721, 2.06, 0.6387),  # CARROT
        (0.6634, 0.21, 0.6612),  # NIRT-BERT
    ],
)
def test_routerarena_score_is_that_of_the_leaderboard(accuracy, usd_per_1000, published):
    score = metrics.routerarena(accuracy, usd_per_1000 / 1000)[0]
    assert score == pytest.approx(published, abs=2e-4)  # costs are printed to the cent


def test_routerarena_score_at_the_ends_of_its_cost_range():
    # C = 1: 1.1 A / (.1 A + 1); C = 0: 0; beyond the ends the same
    assert metrics.routerarena(0.5, 0.0044 / 1000)[0] == pytest.approx(0.55 / 1.05)
    assert metrics.routerarena(0.5, 0.0)[0] == pytest.approx(0.55 / 1.05)
    assert metrics.routerarena(0.5, 0.2)[0] == 0
    assert metrics.routerarena(0.0, 1.0)[0] == 0
    assert metrics.scalar(metrics.routerarena(0.5, NAN)) is None


def test_matched_differences_swap_sign_with_the_methods():
    other = Frontier.from_points([2.0, 6.0], [0.6, 0.8])
    # at 4 dollars: .8 against .7; for .8: 4 dollars against 6; for .6: 1.5 against 2
    assert metrics.matched_cost_difference(CURVE, other, 4.0)[0] == pytest.approx(0.1)
    assert metrics.matched_cost_difference(other, CURVE, 4.0)[0] == pytest.approx(-0.1)
    assert metrics.matched_accuracy_saving(CURVE, other, 0.8)[0] == pytest.approx(1 - 4 / 6)
    assert metrics.matched_accuracy_saving(other, CURVE, 0.8)[0] == pytest.approx(-(1 - 4 / 6))
    assert metrics.matched_accuracy_saving(CURVE, other, 0.6)[0] == pytest.approx(0.25)


def test_never_reaching_an_accuracy_is_the_worst_saving_there_is():
    better = Frontier.from_points([9.0], [0.95])
    assert metrics.matched_accuracy_saving(CURVE, better, 0.9)[0] == -1
    assert metrics.matched_accuracy_saving(better, CURVE, 0.9)[0] == 1
    assert math.isnan(metrics.matched_accuracy_saving(CURVE, CURVE, 0.9)[0])
    free = Frontier.from_points([0.0], [0.5])
    assert metrics.matched_accuracy_saving(free, free, 0.5)[0] == 0


SCORES = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
DOLLARS = np.array([[0.3, 0.3, 0.3], [0.1, 0.1, 0.1]])


def test_choices_bring_the_scores_of_the_chosen_models():
    both = metrics.realised(SCORES, np.array([[0, 1, 1], [1, 1, 0]]))
    np.testing.assert_equal(both, [[1, 0, 1], [0, 0, 1]])
    np.testing.assert_equal(metrics.realised(DOLLARS, np.array([0, 1, 1])), [0.3, 0.1, 0.1])
    with pytest.raises(DataError):
        metrics.realised(SCORES, np.array([0, 1, 2]))
    with pytest.raises(DataError):
        metrics.realised(SCORES, np.array([0, 1]))


def test_regret_against_the_oracle_by_hand():
    # at 1 dollar an answer the oracle takes model 0, then 1 (cheaper and both wrong), then 1:
    # .7, -.1 and .9; always model 0: .7, -.3 and .7
    oracle = metrics.oracle_utility_usd(SCORES, DOLLARS, 1.0)
    np.testing.assert_allclose(oracle, [0.7, -0.1, 0.9])
    ours = metrics.utility_usd(SCORES[0], DOLLARS[0], 1.0)
    np.testing.assert_allclose(metrics.regret_usd(ours, oracle), [0, 0.2, 0.2], atol=1e-12)


def test_the_oracle_passes_over_unknown_cells_but_needs_one_known_per_prompt():
    scores = SCORES.copy()
    scores[0, 0] = NAN
    assert metrics.oracle_utility_usd(scores, DOLLARS, 1.0)[0] == pytest.approx(-0.1)
    scores[1, 0] = NAN
    with pytest.raises(DataError, match="1 prompts"):
        metrics.oracle_utility_usd(scores, DOLLARS, 1.0)
    with pytest.raises(DataError):
        metrics.regret_usd(np.array([NAN]), np.array([1.0]))


def test_the_best_single_model_is_the_best_priced_one():
    scores = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    cost = np.array([[9.0, NAN], [2.0, 2.0], [1.0, 1.0], [1.0, 1.0]])
    assert metrics.best_single(scores, cost) == 2  # as good as 1, and cheaper; 0 has no price
    assert metrics.cheapest_single(scores, cost) == 2  # as cheap as 3, and better
    assert metrics.best_single(scores, np.full((4, 2), NAN)) is None
    assert metrics.cheapest_single(scores, np.full((4, 2), NAN)) is None
    with pytest.raises(DataError, match="complete"):
        metrics.best_single(np.array([[1.0, NAN]]), np.ones((1, 2)))


def test_harm_is_what_was_lost():
    harm = metrics.bad_newcomer_harm(np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    np.testing.assert_equal(harm, [1, 0, 0])
    with pytest.raises(DataError):
        metrics.bad_newcomer_harm(np.array([NAN]), np.array([0.0]))


def test_violations_are_shares_of_the_bound():
    assert metrics.constraint_violation(1.2, 1.0) == pytest.approx(0.2)
    assert metrics.constraint_violation(0.9, 1.0) == 0
    assert metrics.constraint_violation(0.6, 0.8, upper=False) == pytest.approx(0.25)
    with pytest.raises(DataError):
        metrics.constraint_violation(1.0, 0.0)


def test_duality_gap_by_hand():
    assert metrics.duality_gap(95.0, 100.0) == pytest.approx(0.05)
    assert metrics.duality_gap(100.0 + 1e-9, 100.0) == 0
    assert metrics.duality_gap(0.0, 0.0) is None
    with pytest.raises(DataError, match="above its proven bound"):
        metrics.duality_gap(101.0, 100.0)


def test_coverage_by_hand():
    low, high = np.array([0.1, 0.4, 0.5, NAN]), np.array([0.3, 0.6, 0.5, NAN])
    truth = np.array([0.2, 0.7, 0.5, 0.5])
    assert metrics.interval_coverage(low, high, truth) == pytest.approx(2 / 4)
    assert metrics.interval_coverage(low[:1], high[:1], np.array([NAN])) is None


def test_every_public_name_exists():
    assert all(hasattr(metrics, name) for name in metrics.__all__)
