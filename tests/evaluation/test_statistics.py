"""The bootstrap against theory, and verdicts against cases made up by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.errors import DataError
from zerorouter.evaluation import metrics, statistics
from zerorouter.evaluation.statistics import (
    Cell,
    Comparison,
    acceptance,
    bootstrap_interval,
    compare,
    estimate,
    holm,
    holm_levels,
    paired_difference,
    pool,
    resample,
    verdict,
)

LOOP = settings(max_examples=60, deadline=None)
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=20)
METRIC = "accuracy_at_matched_cost"


def rng(seed=0):
    return np.random.default_rng(seed)


def comparison(centre, spread=0.01, *, n=500, seed=0, n_families=None):
    """Normal replicates around a centre."""
    noise = rng(seed).standard_normal(2000)
    return Comparison.from_replicates(
        centre, centre + spread * (noise - noise.mean()), n=n, n_families=n_families
    )


def cell(found, *, baseline="knn", dataset="zeroeval", policy="balanced", metric=METRIC):
    return Cell(dataset=dataset, baseline=baseline, policy=policy, metric=metric, comparison=found)


# --- resampling ---------------------------------------------------------------------------------


def test_every_replicate_draws_as_many_clusters_as_there_are():
    found = resample(rng(), 50, families=list("aabbcc"), n_draws=3, replicates=20)
    assert found.prompts.shape == (20, 50)
    assert (found.prompts.sum(axis=1) == 50).all()
    assert (found.models.sum(axis=1) == 6).all()
    assert (found.draws.sum(axis=1) == 3).all()


def test_the_same_seed_draws_the_same_weights():
    one, two, other = (resample(rng(s), 9, replicates=5).prompts for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_duplicates_are_drawn_together():
    groups = np.array([7, 3, 7, 3, 5])
    found = resample(rng(), 5, groups=groups, replicates=100)
    assert found.n_clusters == 3
    np.testing.assert_array_equal(found.prompts[:, 0], found.prompts[:, 2])
    np.testing.assert_array_equal(found.prompts[:, 1], found.prompts[:, 3])


def test_families_are_drawn_whole_only_if_there_are_eight():
    few = resample(rng(), 5, families=["a", "a", "b"], replicates=200)
    assert (few.n_families, few.model_unit) == (2, "model")
    assert (few.models[:, 0] != few.models[:, 1]).any()
    many = resample(rng(), 5, families=["a", *"abcdefgh"], replicates=200)
    assert (many.n_families, many.model_unit) == (8, "family")
    np.testing.assert_array_equal(many.models[:, 0], many.models[:, 1])


def test_means_by_hand():
    found = resample(rng(), 3, families=["a", "b"], n_draws=2, replicates=1)
    found.prompts[:], found.models[:], found.draws[:] = [1, 2, 0], [2, 0], [0, 2]
    values = np.array([[[9, 9, 9], [9, 9, 9]], [[1, 4, 9], [9, 9, 9]]], dtype=float)
    # second draw, first model: (1 x 1 + 2 x 4) / 3
    assert found.mean(values, ("draws", "models"))[0] == pytest.approx(3)
    values[1, 0, 1] = math.nan
    assert found.mean(values, ("draws", "models"))[0] == pytest.approx(1)
    values[1, 0] = math.nan
    assert math.isnan(found.mean(values, ("draws", "models"))[0])
    whole = found.whole().mean(values, ("draws", "models"))
    assert whole[0] == pytest.approx(9)


def test_a_mean_is_a_matrix_product():
    values = rng(1).random((4, 30))
    found = resample(rng(), 30, families=list("abcd"), replicates=50)
    slow = [
        np.average([np.average(row, weights=w) for row in values], weights=m)
        for w, m in zip(found.prompts, found.models, strict=True)
    ]
    np.testing.assert_allclose(found.mean(values, ("models",)), slow)


def test_an_average_skips_models_without_the_metric():
    found = resample(rng(), 3, families=["a", "b"], replicates=2)
    found.models[:] = 1
    values = np.array([[0.4, math.nan], [0.4, 0.6]])
    np.testing.assert_allclose(found.average(values, ("models",)), [0.4, 0.5])


def test_shapes_that_do_not_fit_are_refused():
    found = resample(rng(), 3, families=["a", "b"], replicates=2)
    with pytest.raises(DataError):
        found.mean(np.zeros(4))
    with pytest.raises(DataError):
        found.average(np.zeros((2, 3)), ("models",))
    with pytest.raises(DataError):
        found.average(np.zeros((2, 2)))
    with pytest.raises(DataError):
        resample(rng(), 0)
    with pytest.raises(DataError):
        resample(rng(), 3, groups=np.zeros(2, dtype=int))
    with pytest.raises(DataError):
        paired_difference(np.zeros(3), np.zeros(4), rng())


# --- intervals ----------------------------------------------------------------------------------


def test_the_interval_of_a_mean_covers_the_truth_about_95_times_in_100():
    covered = 0
    for seed in range(200):
        values = rng(seed).random(60)
        found = paired_difference(values, np.zeros(60), rng(1000 + seed), replicates=400)
        covered += found.ci_low <= 0.5 <= found.ci_high
    assert 0.89 <= covered / 200 <= 0.985


def test_the_interval_of_a_mean_is_as_wide_as_theory_says():
    values = rng(5).standard_normal(400)
    found = paired_difference(values, np.zeros(400), rng())
    width = 2 * 1.96 * values.std() / 20
    assert found.ci_high - found.ci_low == pytest.approx(width, rel=0.08)


def test_repeating_every_prompt_in_its_group_adds_no_certainty():
    values = rng(6).standard_normal(200)
    alone = paired_difference(values, np.zeros(200), rng())
    twice = np.concatenate([values, values])
    grouped = paired_difference(twice, 0 * twice, rng(), groups=np.tile(np.arange(200), 2))
    pretended = paired_difference(twice, 0 * twice, rng())
    width = alone.ci_high - alone.ci_low
    assert grouped.ci_high - grouped.ci_low == pytest.approx(width, rel=0.08)
    assert pretended.ci_high - pretended.ci_low < 0.8 * width
    assert (grouped.n, grouped.n_clusters) == (400, 200)


def test_models_that_differ_widen_the_interval():
    shift = np.linspace(-1, 1, 10)[:, None]
    values = shift + 0.1 * rng(7).standard_normal((10, 300))
    names = [f"f{i}" for i in range(10)]
    nested = paired_difference(values, 0 * values, rng(), axes=("models",), families=names)
    fixed = paired_difference(values, 0 * values, rng(), axes=("models",))
    assert nested.ci_high - nested.ci_low > 5 * (fixed.ci_high - fixed.ci_low)
    assert (nested.n_families, fixed.n_families) == (10, None)


def test_cells_missing_in_either_method_are_left_out_of_both():
    ours = np.array([1.0, math.nan, 0.0, 1.0])
    theirs = np.array([0.0, 1.0, math.nan, 1.0])
    found = paired_difference(ours, theirs, rng())
    assert (found.difference, found.n) == (0.5, 2)


def test_one_prompt_has_no_interval_and_no_verdict():
    found = paired_difference(np.array([1.0]), np.array([0.0]), rng())
    assert (found.difference, found.ci_low, found.p_value) == (1, None, None)
    assert verdict(found, margin=0.1, minimum_n=0) == "inconclusive"


def test_methods_alike_on_every_prompt_are_tied():
    values = rng(8).random(50)
    found = paired_difference(values, values, rng())
    assert (found.ci_low, found.ci_high, found.p_value) == (0, 0, 1)
    assert verdict(found, margin=0.01) == "tied"


def test_never_reaching_a_level_counts_as_worse_than_any_number():
    replicates = np.concatenate([np.full(100, -math.inf), np.full(1900, 0.2)])
    found = Comparison.from_replicates(0.2, replicates, n=100)
    assert (found.ci_low, found.ci_high) == (-math.inf, 0.2)
    assert verdict(found, margin=0.5) == "inconclusive"
    assert found.p_value == pytest.approx(2 * 100 / 2000)
    assert bootstrap_interval(0.2, replicates, n=100).ci_low is None


def test_too_many_undefined_replicates_leave_no_interval():
    replicates = np.concatenate([np.full(150, math.nan), np.full(1850, 0.2)])
    assert Comparison.from_replicates(0.2, replicates, n=100).ci_low is None
    few = np.concatenate([np.full(50, math.nan), np.full(1950, 0.2)])
    assert Comparison.from_replicates(0.2, few, n=100).ci_low == 0.2
    assert bootstrap_interval(None, replicates, n=100).value is None


def test_far_in_the_tail_the_interval_is_at_least_the_normal_one():
    found = comparison(0.05, 0.01)
    low, high = found.interval(1e-6)
    assert low <= 0.05 - 4.89 * 0.0097
    assert high >= 0.05 + 4.89 * 0.0097
    assert 1e-9 < found.p_value < 1e-4  # z = 5, beyond what 2,000 replicates can show


def test_estimate_and_compare_measure_a_metric_under_shared_weights():
    source = rng(9)
    y = (source.random((3, 200)) < 0.5).astype(float)
    good, bad = np.clip(0.5 + 0.3 * (y - 0.5), 0, 1), np.full((3, 200), 0.5)

    def auc_of(p):
        def statistic(weights):
            values = metrics.per_model(metrics.auc_replicates, p, y, weights.prompts)
            return weights.average(values, ("models",))

        return statistic

    found = resample(rng(), 200, families=list("abc"), replicates=300)
    assert estimate(auc_of(good), found).ci_low == 1
    gap = compare(auc_of(good), auc_of(bad), found)
    assert (gap.difference, gap.ci_low, gap.ci_high) == (0.5, 0.5, 0.5)
    assert (gap.n, gap.n_families) == (200, 3)


def test_two_infinities_leave_a_replicate_undefined_without_a_warning():
    found = resample(rng(), 40, replicates=100)

    def never(weights):
        return np.full(len(weights), -math.inf)

    assert compare(never, never, found).difference is None


# --- pooling ------------------------------------------------------------------------------------


def test_data_sets_count_the_same_whatever_their_size():
    pooled = pool([comparison(0.02, n=100, seed=1), comparison(0.06, n=9000, seed=2)])
    assert pooled.difference == pytest.approx(0.04)
    assert pooled.n == 9100


def test_pooling_narrows_even_if_all_were_resampled_from_one_seed():
    one = comparison(0.02)
    four = pool([one] * 4)
    assert four.ci_high - four.ci_low == pytest.approx((one.ci_high - one.ci_low) / 2, rel=0.1)


def test_pooling_leaves_out_what_could_not_be_measured():
    missing = Comparison.from_replicates(math.nan, np.full(2000, math.nan), n=100)
    assert pool([missing, comparison(0.02)]).difference == pytest.approx(0.02)
    assert pool([missing]).difference is None
    assert pool([]).difference is None
    short = Comparison.from_replicates(0.1, rng().random(50), n=100)
    with pytest.raises(DataError, match="replicates"):
        pool([short, comparison(0.02)])


# --- Holm ---------------------------------------------------------------------------------------


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, made to rise: .04 .06 .06 .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # .01 < .05/4; .02 >= .05/3 stops it
    assert holm_levels([0.03, 0.01, 0.04, 0.02]) == pytest.approx(
        [0.05 / 3, 0.05 / 4, 0.05 / 3, 0.05 / 3]
    )
    assert holm([0.01, None]) == pytest.approx([0.02, 1.0])
    assert holm([]) == []
    with pytest.raises(DataError):
        holm([1.5])


@LOOP
@given(p_lists)
def test_holm_is_monotone_and_never_below_the_p_values(p):
    adjusted = np.array(holm(p))
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    bonferroni = np.minimum(1, np.array(p) * len(p))
    assert (adjusted <= bonferroni + 1e-12).all()


@LOOP
@given(p_lists)
def test_levels_and_adjusted_values_reject_the_same_cells(p):
    by_level = np.array(p) < np.array(holm_levels(p))
    margin = np.abs(np.array(holm(p)) - 0.05) > 1e-9
    np.testing.assert_array_equal(by_level[margin], (np.array(holm(p)) < 0.05)[margin])


# --- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "spread", "expected"),
    [
        (0.05, 0.01, "won"),
        (-0.05, 0.01, "lost"),
        (0.0, 0.003, "tied"),
        (0.0, 0.02, "inconclusive"),
        (0.015, 0.01, "inconclusive"),
        (0.005, 0.001, "won"),  # small, but surely above zero
    ],
)
def test_verdicts(centre, spread, expected):
    assert verdict(comparison(centre, spread), margin=0.01) == expected


def test_too_few_prompts_are_inconclusive_however_clear():
    assert verdict(comparison(0.5, n=29), margin=0.01) == "inconclusive"
    assert verdict(comparison(0.5, n=30), margin=0.01) == "won"
    with pytest.raises(DataError):
        verdict(comparison(0.5), margin=-0.1)


@LOOP
@given(
    st.floats(-0.1, 0.1),
    st.floats(0.0001, 0.05),
    st.floats(0.0001, 0.3),
    st.integers(0, 5),
)
def test_swapping_the_methods_swaps_the_verdict(centre, spread, alpha, seed):
    found = comparison(centre, spread, seed=seed)
    opposite = {"won": "lost", "lost": "won"}
    ours = verdict(found, margin=0.02, alpha=alpha)
    assert verdict(found.swapped(), margin=0.02, alpha=alpha) == opposite.get(ours, ours)
    again = Comparison.from_replicates(-centre, -found.replicates, n=500)
    assert verdict(again, margin=0.02, alpha=alpha) == opposite.get(ours, ours)
    assert again.p_value == found.p_value


@LOOP
@given(st.floats(0.0001, 0.3), st.floats(0.0001, 0.3))
def test_a_stricter_level_never_narrows_the_interval(one, two):
    strict, lax = sorted((one, two))
    found = comparison(0.01, 0.01)
    assert found.interval(strict)[0] <= found.interval(lax)[0] + 1e-4
    assert found.interval(strict)[1] >= found.interval(lax)[1] - 1e-4


# --- acceptance ---------------------------------------------------------------------------------


def test_winning_everywhere_allows_the_sentence():
    found = acceptance(
        [
            cell(comparison(0.05, seed=s), baseline=b, dataset=d)
            for s, (b, d) in enumerate([("knn", "a"), ("knn", "b"), ("mf", "a"), ("mf", "b")])
        ],
        baselines=["knn", "mf"],
    )
    assert found.allowed
    assert found.counts() == {"won": 4, "tied": 0, "lost": 0, "inconclusive": 0}
    assert "zerorouter against 2 baselines in 4 cells: 4 won, 0 tied, 0 lost" in found.summary
    assert found.summary.endswith("zerorouter outperforms all baselines.")


def test_one_clear_loss_forbids_it_and_is_named():
    found = acceptance(
        [
            cell(comparison(0.2, seed=1), dataset="a"),
            cell(comparison(-0.05, seed=2), dataset="b"),
        ]
    )
    assert not found.allowed
    assert [j.verdict for j in found.cells] == ["won", "lost"]
    assert found.pooled[0].verdict == "won"
    assert "Per data set, lost: knn (b, balanced, accuracy_at_matched_cost): -0.05" in found.summary
    assert "may not be written: significantly worse than knn (b" in found.summary


def test_a_tie_with_one_baseline_forbids_it_and_is_named():
    found = acceptance([cell(comparison(0.05)), cell(comparison(0.0, 0.002), baseline="kmeans")])
    assert not found.allowed
    assert "Per data set, tied: kmeans (zeroeval" in found.summary
    assert any(r.startswith("against kmeans at balanced neither") for r in found.reasons)


def test_saving_cost_at_matched_accuracy_is_enough_where_accuracy_ties():
    found = acceptance(
        [
            cell(comparison(0.0, 0.002)),
            cell(comparison(0.3, 0.05), metric="cost_save"),
        ]
    )
    assert found.allowed


def test_every_preset_must_be_won():
    found = acceptance([cell(comparison(0.05)), cell(comparison(0.0, 0.05), policy="cost")])
    assert not found.allowed
    assert "against knn at cost" in found.reasons[0]


def test_pooling_decides_where_single_data_sets_are_too_small():
    cells = [cell(comparison(0.02, 0.012, seed=s), dataset=f"d{s}") for s in range(6)]
    found = acceptance(cells)
    assert found.counts()["inconclusive"] >= 3
    assert found.pooled[0].verdict == "won"
    assert found.allowed


def test_a_loss_that_correction_forgives_is_printed_all_the_same():
    cells = [cell(comparison(0.2, seed=s), dataset=f"d{s}") for s in range(3)]
    cells += [cell(comparison(0.0, 0.02, seed=s), dataset=f"e{s}") for s in range(20)]
    cells += [cell(comparison(-0.023, 0.01), dataset="bad")]
    found = acceptance(cells)
    assert found.cells[-1].verdict == "inconclusive"
    assert [j.cell.dataset for j in found.worse_before_correction] == ["bad"]
    assert "Worse before correction for many cells: knn (bad" in found.summary


def test_missing_baselines_and_empty_tables_forbid_it():
    assert acceptance([]).reasons == ("nothing was compared",)
    found = acceptance([cell(comparison(0.05))], baselines=["knn", "carrot"])
    assert found.reasons == ("carrot was not compared",)
    with pytest.raises(DataError, match="no margin"):
        acceptance([cell(comparison(0.05), metric="wisdom")])


def test_few_families_are_said():
    found = acceptance([cell(comparison(0.05, n_families=5))])
    assert "5 families" in found.summary
    assert "models, not families, were resampled" in found.summary


def test_what_cannot_be_measured_is_inconclusive():
    missing = Comparison.from_replicates(math.nan, np.full(2000, math.nan), n=100)
    found = acceptance([cell(missing)])
    assert not found.allowed
    assert found.cells[0].verdict == "inconclusive"
    assert "accuracy_at_matched_cost): not measurable, n = 100" in found.summary


def test_margins_exist_for_both_metrics_of_the_rule():
    assert set(statistics.MARGINS) == {"accuracy_at_matched_cost", "cost_save"}
