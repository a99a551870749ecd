from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data.data_folders import write_folder
from simulated_records import (
    MODELS,
    abilities,
    cards,
    fitted_space,
    prompts,
    responses,
    toy_router,
    write_records,
)
from zerorouter.calibrating import calibrate
from zerorouter.data.importing import data_digest
from zerorouter.data.reading import read_folder, read_folders
from zerorouter.errors import CalibrationError
from zerorouter.fitting import FittingSettings, as_requests, fit_space
from zerorouter.irt.model import forecast, log_loss
from zerorouter.linking import load_aliases, respondent_cards
from zerorouter.predict.prompt import read_prompt
from zerorouter.space import LatentSpace

ROOT = Path(__file__).resolve().parents[1]
FAST = FittingSettings(n_dims=2, folds=2, n_prototypes=32)


def ranks(values):
    return np.argsort(np.argsort(values))


# -- on simulated records --------------------------------------------------------------------------


def test_the_order_of_abilities_is_recovered():
    found = fitted_space().abilities.mean[:, 0]
    assert np.corrcoef(ranks(found), ranks(abilities()[:, 0]))[0, 1] > 0.9


def test_the_error_bars_hold_the_truth():
    """On the scale of the fit, which standardises the population."""
    space, truth = fitted_space(), abilities() @ [1.0, 0.5]  # half of the prompts are of words
    found, sd = space.abilities.mean[:, 0], space.abilities.sd[:, 0]
    scaled = found.mean() + (truth - truth.mean()) / truth.std() * found.std()
    assert np.mean(np.abs(scaled - found) < 2.5 * sd) > 0.8


def test_new_prompts_are_forecast_better_than_by_each_models_mean_rate():
    space = fitted_space()
    rows, difficulty, of_words = prompts(seed=99)
    answers = responses(difficulty, of_words, seed=98)
    score = np.array([r["score"] for r in answers]).reshape(len(MODELS), -1).T
    items = space.reader().read([read_prompt(row["text"]) for row in rows]).items
    rate = np.array([r["score"] for r in responses(*prompts()[1:])]).reshape(len(MODELS), -1)
    by_rate = np.broadcast_to(rate.mean(axis=1), score.shape)
    found = log_loss(forecast(items, space.abilities).p_correct, score)
    assert found < log_loss(by_rate, score) - 0.03


def test_longer_sums_are_predicted_to_be_harder():
    sums = ["Work out 3 + 4", "Work out 312 + 478 + 555", "Work out 4821 + 9377 + 1284 + 7719"]
    rows = [read_prompt(f"{s} and write the sum (task 5).") for s in sums]
    intercepts = fitted_space().reader().read(rows).items.intercept
    assert (np.diff(intercepts) < 0).all()


def test_far_texts_have_less_support_and_wider_intervals():
    near = toy_router().route("Work out 312 + 478 and write the sum (task 7).")
    far = toy_router().route("Sehr geehrte Damen und Herren, anbei die Nebenkostenabrechnung.")
    assert far.support < 0.05 < near.support
    assert any("unlike most calibrated prompts" in reason for reason in far.reasons)
    shift = fitted_space().predictor.shift_variance
    assert min(shift) >= 0
    width = {d: d.p_correct_high - d.p_correct_low for d in (near, far)}
    assert width[far] > 0


def test_domains_are_those_of_the_tasks():
    assert toy_router().route("Work out 11 + 12 and write the sum.").domain == "mathematics"
    other = "Put the words ribbon, anchor, candle in the order of the alphabet, last first."
    assert toy_router().route(other).domain == "general"


def test_answer_lengths_follow_difficulty():
    easy, hard = (
        toy_router().estimates([f"Work out {terms} and write the sum."]).output_tokens.mean()
        for terms in ("3 + 4", "4821 + 9377 + 1284 + 7719 + 6630")
    )
    assert 10 < easy < hard < 80


def test_models_with_prices_join_the_spaces_pool():
    assert [spec.name for spec in fitted_space().models] == list(MODELS)
    assert fitted_space().models[0].price.output_usd_per_mtok == 60.0


def test_provenance_tells_data_settings_and_diagnostics():
    provenance = fitted_space().provenance
    assert set(provenance["data"]) == {"toy"}
    assert len(provenance["data"]["toy"]) == 64
    fit = provenance["fit"]
    assert fit["status"] == "CONVERGED"
    assert fit["settings"]["n_dims"] == 3
    assert fit["cross_fit"]["log_loss"] <= fit["cross_fit"]["log_loss_before"]
    assert fitted_space().version.startswith("2026-01-01-")


def test_progress_is_told_in_stages_with_rising_shares(tmp_path):
    told: list[tuple[str, float]] = []
    matrix = read_folders([write_records(tmp_path / "toy", n=80)])
    fit_space(matrix, settings=FAST, report=lambda stage, share: told.append((stage, share)))
    stages = list(dict.fromkeys(stage for stage, _ in told))
    assert stages[0] == "reading prompts"
    assert len(stages) >= 4
    for stage in stages:
        shares = [share for name, share in told if name == stage]
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] <= 1


def preferences(folder: Path, *, flipped: bool) -> Path:
    rows = [{"prompt_id": f"c{i}", "text": f"Tell a story about a {i}."} for i in range(60)]
    answers = [
        {"prompt_id": f"c{i}", "model": m, "score": float((i + k) % 2 == flipped)}
        for i in range(60)
        for k, m in enumerate(MODELS)
    ]
    return write_folder(folder, prompts=rows, responses=answers)


def test_scores_of_preferences_say_nothing_of_ability(tmp_path):
    toy = write_records(tmp_path / "toy", n=120)
    settings = FittingSettings(
        n_dims=1, folds=2, n_prototypes=16, preference_datasets=frozenset({"tales"})
    )
    found = [
        calibrate(
            [toy, preferences(tmp_path / str(flip) / "tales", flipped=flip)], settings=settings
        )
        for flip in (False, True)
    ]
    np.testing.assert_array_equal(found[0].abilities.mean, found[1].abilities.mean)
    assert found[0].provenance["fit"]["n_items"] == 120
    with pytest.raises(CalibrationError, match="0 prompts carry scores"):
        calibrate([tmp_path / "True" / "tales"], settings=settings)


def test_two_models_and_missing_cells_still_make_a_space(tmp_path):
    rows, difficulty, of_words = prompts(100)
    answers = [
        row
        for i, row in enumerate(responses(difficulty, of_words))
        if row["model"] in MODELS[::8] and i % 3
    ]
    folder = write_folder(tmp_path / "toy", prompts=rows, responses=answers, models=cards())
    space = calibrate([folder], settings=FAST)
    assert space.respondents == MODELS[::8]
    assert space.abilities.mean[0, 0] > space.abilities.mean[1, 0]


# -- on the real records ---------------------------------------------------------------------------


@pytest.mark.data
def test_prompts_of_real_records_are_forecast_better_than_by_each_models_mean_rate(records_dir):
    matrix = read_folders([records_dir / "zeroeval"], aliases=load_aliases())
    _, group = np.unique(matrix.groups, return_inverse=True)
    held = np.random.default_rng(0).random(group.max() + 1)[group] < 0.2
    seen, new = matrix.select(prompts=~held), matrix.select(prompts=held)
    space = fit_space(seen, cards=respondent_cards(), settings=FAST)
    at = [new.respondents.index(name) for name in space.respondents]
    scores = np.asarray(new.scores)[at].T
    items = space.reader().read(as_requests(new.prompts, seed=1)).items
    found = log_loss(forecast(items, space.abilities).p_correct, scores)
    rate = np.nanmean(np.asarray(seen.scores), axis=1)
    by_rate = log_loss(np.broadcast_to(rate, scores.shape), scores)
    print(f"\nzeroeval, held-out prompts: log-loss {found:.4f}, by mean rates {by_rate:.4f}")
    assert found < by_rate - 0.05


@pytest.mark.data
def test_the_shipped_space_was_fitted_on_these_records(records_dir):
    told = LatentSpace.load().provenance["data"]
    assert told == {name: data_digest(records_dir / name) for name in told}


@pytest.mark.data
def test_no_prompt_of_the_records_is_in_the_repository(records_dir):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    kept = [path.read_bytes() for path in paths if path.is_file()]
    everything = b"\0".join(kept)
    assert len(everything) > 1_000_000
    draw = random.Random(0)
    found = []
    for folder in sorted(records_dir.iterdir()):
        if not (folder / "prompts.parquet").is_file():
            continue
        texts = [text for text in read_folder(folder).prompts.texts if len(text) >= 60]
        for text in draw.sample(texts, min(100, len(texts))):
            middle = text[(len(text) - 60) // 2 :][:60]
            escaped = middle.replace("\n", "\\n").replace('"', '\\"')
            forms = {form.encode("utf-8", "replace") for form in (middle, escaped)}
            found += [(folder.name, form) for form in forms if form in everything]
    assert found == []
