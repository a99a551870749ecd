"""The harness end to end on records of our own making."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import zerorouter
from zerorouter.evaluation.harness import Plan, evaluate
from zerorouter.evaluation.rows import read_rows
from zerorouter.evaluation.running import Outcome, cells_of
from zerorouter.evaluation.tuning import stratified_draw

METHODS = ("zerorouter", "random", "best_single", "knn", "oracle", "zerorouter_onnx")
WORDS = ["alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ivy", "juniper"]


def records(folder, *, n_prompts=240, n_models=9, prices=True, constant=False):
    """Arithmetic of two kinds; stronger models are right more often, and dearer."""
    rng = np.random.default_rng(5)
    folder.mkdir(parents=True)
    with (folder / "prompts.jsonl").open("w") as file:
        for i in range(n_prompts):
            a, b = rng.integers(10, 99, 2)
            text = (
                f"What is {a} + {b}?"
                if i % 2
                else f"A crate holds {a} {WORDS[i % 10]} twigs. How many do {b} crates hold?"
            )
            row = {"prompt_id": f"p{i}", "task": ("sum", "crates")[i % 2], "text": text}
            file.write(json.dumps(row) + "\n")
    with (folder / "responses.jsonl").open("w") as file:
        for m in range(n_models):
            for i in range(n_prompts):
                p = 1 / (1 + np.exp(-(0.6 * m - 2 + (1.5 if i % 2 else -0.5))))
                row = {
                    "prompt_id": f"p{i}",
                    "model": f"model-{m}",
                    "score": 1.0 if constant else float(rng.random() < p),
                    "output_chars": int(rng.integers(80, 400)),
                }
                file.write(json.dumps(row) + "\n")
    lines = ["model,family,released,params_b,input_usd_per_mtok,output_usd_per_mtok,price_kind"]
    for m in range(n_models):
        price = f"{0.1 * 2**m:g},{0.2 * 2**m:g},list" if prices else ",,"
        lines.append(f"model-{m},family-{m % 4},2024-{m + 1:02d},{m + 1},{price}")
    (folder / "models.csv").write_text("\n".join(lines) + "\n")
    return folder


def plan(folder, **changes):
    options = {
        "folders": (folder,),
        "splits": ("random", "time"),
        "methods": METHODS,
        "anchors": (0, 20),
        "n_draws": 1,
        "n_seeds": 1,
        "replicates": 100,
        "workers": 1,
    } | changes
    return Plan(**options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    base = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROROUTER_HOME", str(base / "home"))  # no MiniLM, whoever exported one
        yield base, evaluate(plan(records(base / "trees")), base / "out")


def one(rows, **wanted):
    found = [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def untimed(rows):
    """What does not depend on the clock."""
    return [r for r in rows if not r.metric.startswith("overhead")]


def test_rows_on_disk_are_the_rows_returned(run):
    base, rows = run
    assert list(read_rows(base / "out" / "results.jsonl")) == rows


def test_aggregated_rows_carry_intervals_that_hold_the_value(run):
    _, rows = run
    aggregated = [r for r in rows if r.seed is None and r.metric in ("log_loss", "cost_save_95")]
    assert aggregated
    for row in aggregated:
        if row.value is not None and row.ci_low is not None:
            assert row.ci_low <= row.value + 1e-9
            assert row.value <= row.ci_high + 1e-9


def test_the_oracle_is_the_ceiling_and_random_no_match(run):
    _, rows = run
    accuracy = {
        method: max(
            r.value
            for r in rows
            if r.method == method and r.metric == "mean_accuracy" and r.split == "random"
        )
        for method in ("oracle", "zerorouter", "random")
    }
    assert accuracy["oracle"] >= accuracy["zerorouter"] >= accuracy["random"]


def test_anchors_improve_the_forecasts_of_newcomers(run):
    _, rows = run
    losses = [
        one(rows, split="time", method="knn", metric="log_loss", n_anchors=n, seed=None).value
        for n in (20, None)
    ]
    assert losses[1] < losses[0]


def test_a_method_that_cannot_run_leaves_a_row_that_says_why(run):
    _, rows = run
    row = one(rows, split="random", method="zerorouter_onnx", metric="status")
    assert row.value is None
    assert "export_minilm" in row.note


def test_the_time_to_forecast_one_prompt_is_told(run):
    _, rows = run
    p50, p99 = (
        one(rows, split="random", method="knn", metric=f"overhead_{p}_s").value
        for p in ("p50", "p99")
    )
    assert 0 < p50 <= p99


def test_every_comparison_has_a_verdict_and_the_sentence_is_judged(run):
    _, rows = run
    verdicts = {r.note.split(";")[0] for r in rows if r.metric.startswith("difference:")}
    assert verdicts <= {"won", "tied", "lost", "inconclusive"}
    assert "written" in one(rows, metric="acceptance").note


def test_a_second_run_takes_outcomes_from_disk(run, monkeypatch):
    base, rows = run
    monkeypatch.setattr(
        "zerorouter.evaluation.harness.ProcessPoolExecutor",
        lambda *_a, **_k: pytest.fail("a job was run again"),
    )
    assert evaluate(plan(base / "trees"), base / "out") == rows


def test_a_damaged_outcome_is_run_again(run):
    base, rows = run
    victim = next((base / "out" / "work").rglob("random-0-knn.npz"))
    victim.write_bytes(victim.read_bytes()[:100])
    again = evaluate(plan(base / "trees"), base / "out")
    assert untimed(again) == untimed(rows)


def test_outcomes_of_other_code_are_not_taken(run, monkeypatch):
    base, _ = run
    made = len(list((base / "out" / "work").iterdir()))
    monkeypatch.setattr("zerorouter.evaluation.harness._code_digest", lambda: "another")
    few = plan(base / "trees", splits=("random",), methods=("random",))
    evaluate(few, base / "out")
    assert len(list((base / "out" / "work").iterdir())) == made + 1


def test_nothing_leaks_from_the_shipped_space(run, tmp_path, monkeypatch):
    """With the space folder out of reach every figure is the same."""
    base, rows = run

    def gone(*_args, **_kwargs):
        raise AssertionError("evaluate loaded the shipped space")

    monkeypatch.setattr(zerorouter.space.LatentSpace, "load", gone)
    fresh = evaluate(plan(base / "trees", splits=("random",), methods=("zerorouter",)), tmp_path)
    wanted = one(rows, split="random", method="zerorouter", metric="log_loss", seed=None)
    found = one(fresh, split="random", method="zerorouter", metric="log_loss", seed=None)
    assert found.value == pytest.approx(wanted.value, abs=1e-9)


def test_without_prices_cost_metrics_are_absent_with_the_reason(tmp_path):
    folder = records(tmp_path / "free", n_prompts=150, prices=False)
    rows = evaluate(
        plan(folder, splits=("random",), methods=("zerorouter", "knn")), tmp_path / "out"
    )
    assert not [r for r in rows if r.metric.startswith("cost_save")]
    assert any("no prices" in r.note for r in rows if r.metric == "status")
    assert [r for r in rows if r.metric == "log_loss" and r.method == "knn"]


def test_splits_that_the_data_do_not_allow_leave_a_row(tmp_path):
    folder = records(tmp_path / "undated", n_prompts=150)
    (folder / "models.csv").write_text("model\n" + "\n".join(f"model-{m}" for m in range(9)) + "\n")
    rows = evaluate(plan(folder, splits=("time", "family"), methods=("knn",)), tmp_path / "out")
    notes = {r.split: r.note for r in rows if r.metric == "status"}
    assert "released" in notes["time"]
    assert "family" in notes["family"]


def test_constant_scores_leave_reasons_instead_of_a_crash(tmp_path):
    folder = records(tmp_path / "flat", n_prompts=120, constant=True)
    rows = evaluate(plan(folder, splits=("random",), methods=("zerorouter",)), tmp_path / "out")
    assert any("every observed score" in r.note for r in rows if r.metric == "status")


def test_more_anchors_than_prompts_are_left_out_and_said_so(tmp_path):
    folder = records(tmp_path / "few", n_prompts=120)
    asked_for = plan(folder, splits=("time",), methods=("knn",), anchors=(0, 500))
    rows = evaluate(asked_for, tmp_path / "out")
    assert not [r for r in rows if r.n_anchors == 500 and r.metric == "log_loss"]
    row = one(rows, metric="status", n_anchors=500)
    assert "500 anchors were left out" in row.note
    asked = [cell.n_anchors for cell in cells_of((0, 20, 500), 2, 100)]
    assert asked == [None, 0, 20, 20]


def test_anchors_are_drawn_in_proportion_to_the_tasks():
    strata = np.array([0] * 300 + [1] * 100)
    drawn = stratified_draw(strata, 40, np.random.default_rng(0))
    assert len(set(drawn)) == 40
    assert 8 <= (strata[drawn] == 1).sum() <= 12


def test_an_outcome_survives_the_disk(tmp_path):
    outcome = Outcome(
        method="knn",
        p_known=np.full((3, 2), 0.5, dtype=np.float32),
        cost_known=np.zeros((3, 2), dtype=np.float32),
        p_new={"20.0": np.ones((3, 1), dtype=np.float32)},
        cost_new={"20.0": np.ones((3, 1), dtype=np.float32)},
        facts={"fit_s": 1.0},
    )
    outcome.save(tmp_path / "a" / "b.npz")
    back = Outcome.load(tmp_path / "a" / "b.npz")
    assert back is not None
    assert back.facts == {"fit_s": 1.0}
    np.testing.assert_array_equal(back.p_new["20.0"], outcome.p_new["20.0"])
    shutil.rmtree(tmp_path / "a")
    assert Outcome.load(tmp_path / "a" / "b.npz") is None


def test_every_method_with_settings_is_tuned_within_the_same_budget():
    from evaluation.synthetic import world
    from zerorouter.evaluation.baselines import METHODS as ALL
    from zerorouter.evaluation.contracts import TUNING_BUDGET
    from zerorouter.evaluation.tuning import tune

    assert all(
        len(list(m().candidates(n))) <= TUNING_BUDGET for m in ALL.values() for n in (None, 20)
    )
    method = ALL["avengers_pro"]()
    seen = []
    fit = method.fit
    method.fit = lambda data, settings, rng: seen.append(dict(settings)) or fit(data, settings, rng)
    chosen = tune(method, world().train, None, 0)
    assert len(seen) == len(list(method.candidates(None)))
    assert dict(chosen) in seen


def test_the_judge_s_fast_means_equal_the_metrics():
    """The matrix product over all draws gives what the plain functions give one by one."""
    from zerorouter.evaluation.judging import LINEAR
    from zerorouter.evaluation.metrics import brier, log_loss

    rng = np.random.default_rng(0)
    p, y = rng.random(50), (rng.random(50) < 0.5).astype(float)
    assert LINEAR["log_loss"](p, y).mean() == pytest.approx(log_loss(p, y))
    assert LINEAR["brier"](p, y).mean() == pytest.approx(brier(p, y))
