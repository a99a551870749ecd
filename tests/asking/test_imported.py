"""Evidence from evaluation logs of the project's own format; other formats are `data.logs`'s."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from asking.toy import toy_prompts, write_toy
from data.data_folders import write_folder
from simulated_records import MODELS, fitted_folder, fitted_space
from zerorouter.asking import imported
from zerorouter.asking.imported import import_evidence
from zerorouter.asking.job import onboard
from zerorouter.errors import DataError, UnknownNameError
from zerorouter.linking import RespondentCard
from zerorouter.onboarding import evidence
from zerorouter.onboarding.evidence import place, prior_of
from zerorouter.prices import Price

DATE = "2026-11-22"
CARD = RespondentCard(id="newcomer", model="newcomer", family="")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("logs") / "toy")


def one_model(folder, model=MODELS[2], n=60, extra=()):
    rows, answers = toy_prompts()
    kept = {row["prompt_id"] for row in rows[:n]}
    own = [a for a in answers if a["prompt_id"] in kept and a["model"] == model]
    more = [
        {"prompt_id": row["prompt_id"], "model": model, "score": 1.0, "output_tokens": 30}
        for row in extra
    ]
    return write_folder(folder, prompts=[*rows[:n], *extra], responses=[*own, *more])


def test_answers_to_calibrated_prompts_count_with_their_parameters(tmp_path):
    found = import_evidence([one_model(tmp_path / "log")], fitted_space(), date=DATE)
    assert found.n_predicted == 0
    assert 50 <= found.n_calibrated <= 60  # repeated texts are one item
    placed = place(fitted_space(), prior_of(fitted_space(), CARD), [found.source])
    assert (placed.n_calibrated, placed.n_predicted) == (found.n_calibrated, 0)
    truth = fitted_space().abilities.mean[fitted_space().index([MODELS[2]])[0]]
    assert abs(placed.posterior.mean[0] - truth[0]) < 3 * placed.posterior.sd[0]


def test_other_prompts_count_with_predicted_parameters_and_both_numbers_are_told(tmp_path):
    extra = [
        {"prompt_id": f"x{i}", "text": f"Work out {i} + {i} and write it.", "task": "other"}
        for i in range(10)
    ]
    found = import_evidence([one_model(tmp_path / "log", extra=extra)], fitted_space(), date=DATE)
    assert found.n_predicted == 10
    facts = found.source.facts
    assert facts["answers_to_predicted_items"] == 10
    assert facts["answers_to_calibrated_items"] == found.n_calibrated
    kinds = {a.item.kind for a in found.source.answers if a.item is not None}
    assert kinds == {"other"}


def test_lengths_are_learned_from_logs_as_well(tmp_path):
    folder = one_model(tmp_path / "log")
    found = import_evidence([folder], fitted_space(), date=DATE)
    assert all(a.tokens and a.log_length is not None for a in found.source.answers)
    result = onboard(
        "newcomer",
        space=fitted_folder(),
        home=tmp_path / "home",
        evidence=[found.source],
        price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
        date=DATE,
    )
    assert result.profile.lengths.n == len(found.source.answers)
    assert result.stopped == "nothing was asked of the model"
    assert result.to_dict()["provenance"]["answers_to_calibrated_items"] == found.n_calibrated


def test_the_same_logs_again_change_nothing(tmp_path):
    folder = one_model(tmp_path / "log")
    first = import_evidence([folder], fitted_space(), date=DATE).source
    second = import_evidence([folder], fitted_space(), date=DATE).source
    assert first == second


def test_very_many_answers_are_kept_as_a_summary_and_a_sample(tmp_path, monkeypatch):
    whole = import_evidence([one_model(tmp_path / "log", n=300)], fitted_space(), date=DATE)
    monkeypatch.setattr(imported, "MOST_ANSWERS", 100)
    monkeypatch.setattr(imported, "KEPT_BESIDE_SUMMARY", 20)
    short = import_evidence([tmp_path / "log"], fitted_space(), date=DATE)
    assert short.source.summary is not None
    assert len(short.source.answers) == 20
    assert short.source.n_answers == whole.source.n_answers
    prior = prior_of(fitted_space(), CARD)
    exact = place(fitted_space(), prior, [whole.source]).posterior
    close = place(fitted_space(), prior, [short.source]).posterior
    assert np.all(np.abs(close.mean - exact.mean) < 0.35 * exact.sd)
    np.testing.assert_allclose(close.sd, exact.sd, rtol=0.15)


def test_too_many_unknown_questions_are_sampled_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(imported, "MOST_READ", 5)
    extra = [
        {"prompt_id": f"x{i}", "text": f"Work out {i} + {i} and write it.", "task": "other"}
        for i in range(10)
    ]
    found = import_evidence(
        [one_model(tmp_path / "log", n=5, extra=extra)], fitted_space(), date=DATE
    )
    assert found.n_predicted == 5
    assert any("10 questions are not calibrated; a sample of 5" in note for note in found.notes)


def test_logs_of_several_models_need_a_name(toy):
    with pytest.raises(DataError, match="12 models"):
        import_evidence([toy], fitted_space(), date=DATE)
    with pytest.raises(UnknownNameError, match="sim-99"):
        import_evidence([toy], fitted_space(), date=DATE, respondent="sim-99")
    found = import_evidence([toy], fitted_space(), date=DATE, respondent=MODELS[0])
    assert found.respondent == MODELS[0]


def test_logs_and_anchors_add_up(tmp_path):
    first = import_evidence([one_model(tmp_path / "a", n=40)], fitted_space(), date=DATE).source
    second = dataclasses.replace(
        import_evidence([one_model(tmp_path / "b", n=80)], fitted_space(), date=DATE).source,
        kind="anchors",
    )
    prior = prior_of(fitted_space(), CARD)
    both = place(fitted_space(), prior, [first, second]).posterior
    alone = place(fitted_space(), prior, [first]).posterior
    assert np.linalg.det(both.covariance) < np.linalg.det(alone.covariance)
    assert evidence.MOST_ANSWERS == 2_000
