"""Models known by their cards alone: outside the pool, in it when asked for, and wide."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from cli.running import run
from simulated_records import fitted_space
from zerorouter.card_only import (
    CardOnly,
    asked_for,
    card_only_models,
    places_of,
    published_cards,
    read_scores,
)
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.config import load_config
from zerorouter.errors import (
    CorruptArtifactError,
    DataError,
    NewerArtifactError,
    NoEligibleModelError,
    UnknownNameError,
)
from zerorouter.linking import load_aliases
from zerorouter.onboarding.shipped_scores import load_scores, save_scores, score_model
from zerorouter.profiles import card_of
from zerorouter.router import Router
from zerorouter.space import LatentSpace

SPACE = LatentSpace.load()
CATALOG = Catalog.load()
PROMPT = "What is 17 * 23?"


def shipped() -> CardOnly:
    found = card_only_models(SPACE)
    assert found is not None, "the space was fitted anew: run scripts/build_scores.py"
    return found


# -- what ships ----------------------------------------------------------------------------------


def test_the_score_model_that_ships_is_of_the_space_that_ships():
    """Whoever fits the space anew runs scripts/build_scores.py after it."""
    shipped()
    model = score_model(SPACE)
    assert len(model.benchmarks) > 80
    assert set(model.links) >= {"gsm8k", "mmlu-pro", "math", "cruxeval-o"}


def test_every_priced_model_of_the_catalog_has_a_place():
    known = shipped()
    for spec in CATALOG:
        assert (spec.price is None) or (spec.name in SPACE) or (spec.name in known)
    assert not any(name in SPACE for name in known.names)
    assert (known.n_scores > 0).sum() > 50


def test_their_bars_are_wide_and_narrower_with_scores():
    known = shipped()
    sd = np.sqrt(np.diagonal(known.covariance, axis1=1, axis2=2))
    prior = np.sqrt(np.diagonal(SPACE.population.covariance))
    assert (np.linalg.eigvalsh(known.covariance) > 0).all()
    assert (sd <= prior + 1e-4).all()
    bare = sd[known.n_scores == 0]
    np.testing.assert_allclose(bare, np.broadcast_to(prior, bare.shape), atol=1e-3)
    assert sd[known.n_scores > 5, 0].mean() < 0.8 * prior[0]
    assert sd[:, 0].min() > 3 * np.median(SPACE.abilities.sd[:, 0])


# -- joining -------------------------------------------------------------------------------------


def test_they_stay_out_of_the_default_pool():
    known = shipped()
    assert not any(name in known for name in Router.load().models)
    assert not any(spec.in_default_pool for spec in CATALOG if spec.name in known)


def test_joining_adds_respondents_and_leaves_the_others_alone():
    known = shipped()
    names = known.names[:2]
    joined = known.join(SPACE, [SPACE.respondents[0], *names, names[0]])
    assert joined.respondents == (*SPACE.respondents, *names)
    at = joined.index(names)
    np.testing.assert_array_equal(joined.abilities.mean[at], known.mean[:2])
    n = len(SPACE.respondents)
    np.testing.assert_array_equal(joined.abilities.covariance[:n], SPACE.abilities.covariance)
    np.testing.assert_array_equal(joined.styles.offset[:n], SPACE.styles.offset)
    assert joined.styles.leanings is None or len(joined.styles.leanings) == n + 2
    assert joined.version == SPACE.version
    assert known.join(SPACE, []) is SPACE


def test_a_model_that_nobody_placed_cannot_join():
    with pytest.raises(UnknownNameError):
        shipped().join(SPACE, ["never-heard-of"])


def test_in_another_space_there_are_none_and_only_linked_benchmarks_are_read():
    assert card_only_models(fitted_space()) is None
    assert score_model(fitted_space()).benchmarks == ()  # its items are in no table


def test_learned_loadings_hold_in_the_space_they_were_fitted_in_alone():
    other = dataclasses.replace(SPACE, provenance={**SPACE.provenance, "version": "another"})
    assert set(score_model(other).benchmarks) == set(score_model(SPACE).links)


def test_a_pattern_that_fits_the_pool_asks_for_nothing_else():
    specs = [ModelSpec(name=n) for n in ("gpt-4", "gpt-5", "gpt-5-mini", "opus")]
    catalog = Catalog(models=tuple(specs))
    pool = {"gpt-4"}
    assert asked_for(["gpt-*"], catalog, pool) == ()
    assert asked_for(["*"], catalog, pool) == ()
    assert asked_for(["gpt-5*"], catalog, pool) == ("gpt-5", "gpt-5-mini")
    assert asked_for(["GPT-5", "nothing-like-it"], catalog, pool) == ("gpt-5",)


# -- routing -------------------------------------------------------------------------------------

OUTSIDE = "gpt-5-2025-08-07"


def test_a_named_model_is_routed_to_on_its_lower_bound():
    router = Router.load(models=[OUTSIDE, "gpt-4o-2024-08-06"])
    assert set(router.models) == {OUTSIDE, "gpt-4o-2024-08-06"}
    decision = router.route(PROMPT, models=[OUTSIDE])
    assert decision.model == OUTSIDE
    assert 0 < decision.p_correct_low < decision.p_correct <= 1
    known = Router.load().estimates([PROMPT])
    joined = router.estimates([PROMPT])
    ours, theirs = joined.models.index("gpt-4o-2024-08-06"), known.models.index("gpt-4o-2024-08-06")
    assert joined.forecast.p_correct[0, ours] == pytest.approx(
        float(known.forecast.p_correct[0, theirs]), abs=1e-6
    )


def test_the_command_uses_what_is_asked_for():
    told = json.loads(run("route", PROMPT, "--models", OUTSIDE, "--json").stdout)
    assert told["model"] == OUTSIDE
    several = run("route", PROMPT, "--models", "gpt-5-*,gpt-4o-2024-08-06", "--json")
    names = {c["model"] for c in json.loads(several.stdout)["candidates"]}
    assert {OUTSIDE, "gpt-4o-2024-08-06"} < names
    pooled = json.loads(run("route", PROMPT, "--models", "gpt-*", "--json").stdout)
    assert OUTSIDE not in {c["model"] for c in pooled["candidates"]}


def test_a_configuration_may_ask_for_them_and_may_forbid_them(tmp_path):
    def configured(text: str, *asked: str) -> Router:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return Router.from_config(load_config(path), asked=asked)

    allowed = configured(f"version: 1\nmodels:\n  allow: [{OUTSIDE}, gpt-4o-*]\n")
    assert OUTSIDE in allowed.models
    assert not any(name in shipped() for name in configured("version: 1\n").models)
    denied = configured(f"version: 1\nmodels:\n  deny: [{OUTSIDE}]\n", OUTSIDE)
    assert OUTSIDE not in denied.models
    with pytest.raises(NoEligibleModelError, match="not in the pool"):
        denied.route(PROMPT, models=[OUTSIDE])
    narrow = configured("version: 1\nmodels:\n  allow: [gpt-4o-*]\n", OUTSIDE)
    assert OUTSIDE not in narrow.models


def test_the_list_marks_them():
    rows = {row["name"]: row for row in json.loads(run("models", "--all", "--json").stdout)}
    assert rows[OUTSIDE]["known_by"].startswith("card, ")
    assert rows["o3-mini"]["known_by"] == "answers"
    assert not rows[OUTSIDE].get("in_default_pool")
    assert rows[OUTSIDE]["ability_sd"][0] > 3 * rows["o3-mini"]["ability_sd"][0]
    told = run("models", "--all", COLUMNS="100").stdout
    assert "known by" in told.splitlines()[0]
    assert f"{len(shipped().names)} of them known by their cards alone" in told.splitlines()[-1]
    assert "card, " in run("models", OUTSIDE).stdout


# -- onboarding ----------------------------------------------------------------------------------


def onboarded(home: Path, *args: str):
    return run("onboard", "nova", *args, ZEROROUTER_HOME=str(home))


def ability(done) -> tuple[np.ndarray, np.ndarray]:
    told = json.loads(done.stdout)
    return np.array(told["ability"]), np.array(told["ability_sd"])


def test_scores_sharpen_a_card_step_by_step(tmp_path):
    card = ("--family", "nova", "--params-b", "70", "--released", "2025-03")
    _, first = ability(onboarded(tmp_path, *card, "--json"))
    mean, second = ability(onboarded(tmp_path, "--from-scores", "gsm8k=0.95", "--json"))
    _, third = ability(onboarded(tmp_path, "--from-scores", "gpqa=0.5,mmlu=0.85", "--json"))
    assert (second <= first + 1e-6).all()
    assert (third <= second + 1e-6).all()
    assert third[0] < 0.8 * first[0]
    again, same = ability(onboarded(tmp_path, "--from-scores", "gpqa=0.5", "--json"))
    np.testing.assert_allclose(same, third, atol=1e-6)
    low, _ = ability(onboarded(tmp_path, "--from-scores", "gsm8k=0.5,gpqa=0.2,mmlu=0.5", "--json"))
    assert low[0] < min(mean[0], again[0]) - 0.5
    told = onboarded(tmp_path, "--from-scores", "gpqa=0.5").stdout
    assert "placed by its card and 3 published scores" in told
    listed = run("models", "nova", ZEROROUTER_HOME=str(tmp_path)).stdout
    assert "card, 3 scores" in listed


def test_onboarding_starts_where_the_catalog_has_the_model(tmp_path):
    known, home = shipped(), str(tmp_path)
    at = known.names.index(OUTSIDE)
    mean, sd = ability(run("onboard", OUTSIDE, "--json", ZEROROUTER_HOME=home))
    np.testing.assert_allclose(mean, known.mean[at], atol=1e-3)
    np.testing.assert_allclose(sd, np.sqrt(np.diagonal(known.covariance[at])), atol=1e-3)
    row = json.loads(run("models", OUTSIDE, "--json", ZEROROUTER_HOME=home).stdout)
    assert row["known_by"] == f"card, {known.scores_of(OUTSIDE)} scores"
    assert OUTSIDE in run("route", PROMPT, "--explain", ZEROROUTER_HOME=home).stdout


def test_scores_that_a_user_tells_take_the_place_of_the_catalogs(tmp_path):
    home = str(tmp_path)
    direct = run("onboard", OUTSIDE, "--from-scores", "gpqa=0.6", "--json", ZEROROUTER_HOME=home)
    run("onboard", OUTSIDE, "--remove", ZEROROUTER_HOME=home)
    run("onboard", OUTSIDE, ZEROROUTER_HOME=home)
    later = run("onboard", OUTSIDE, "--from-scores", "gpqa=0.6", "--json", ZEROROUTER_HOME=home)
    for one, other in zip(ability(direct), ability(later), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "code", "message"),
    [
        ("gsm8k=95", 1, "did you mean gsm8k=0.95?"),
        ("gsm8k=95%", 2, "did you mean gsm8k=0.95?"),
        ("gsm8k=0.9,GSM-8K=0.8", 1, "one benchmark"),
        ("gpqaa=0.5", 1, "did you mean 'gpqa'?"),
        ("astrology=0.5", 1, "known here: agieval"),
        ("gsm8k=nan", 1, "from 0 to 1"),
        ("gsm8k", 2, "wanted BENCHMARK=SCORE"),
        ("gsm8k=high", 2, "wanted BENCHMARK=SCORE"),
    ],
)
def test_scores_that_make_no_sense_are_refused(tmp_path, scores, code, message):
    done = onboarded(tmp_path, "--from-scores", scores)
    assert done.exit_code == code
    assert message in done.stderr
    assert not (tmp_path / "profiles").exists()


# -- files ---------------------------------------------------------------------------------------


def test_both_files_come_back_as_they_were_saved(tmp_path):
    known = shipped()
    known.save(tmp_path / "card_only", provenance={"source": "test"})
    back = CardOnly.load(tmp_path / "card_only")
    assert (back.names, back.space_version) == (known.names, known.space_version)
    np.testing.assert_array_equal(back.covariance, known.covariance)
    np.testing.assert_array_equal(back.styles.offset, known.styles.offset)
    model = score_model(SPACE)
    save_scores(model, tmp_path / "scores", space_version="v", provenance={})
    read, version = load_scores(tmp_path / "scores")
    assert (read.benchmarks, version, dict(read.links)) == (model.benchmarks, "v", {})
    np.testing.assert_allclose(read.loading, model.loading, atol=1e-6)


@pytest.mark.parametrize("load", [CardOnly.load, load_scores])
def test_damaged_and_later_files_are_refused(tmp_path, load):
    shipped().save(tmp_path / "it", provenance={})
    if load is load_scores:
        save_scores(score_model(SPACE), tmp_path / "it2", space_version="v", provenance={})
    folder = tmp_path / ("it2" if load is load_scores else "it")
    manifest = folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "format_version": 99}))
    with pytest.raises(NewerArtifactError):
        load(folder)
    manifest.write_text(json.dumps({k: v for k, v in facts.items() if k != "space"}))
    with pytest.raises(CorruptArtifactError, match="incomplete"):
        load(folder)


# -- cards of published models -------------------------------------------------------------------


def test_cards_come_from_the_catalog_the_reviewed_table_or_the_models_beside(tmp_path):
    (tmp_path / "models.csv").write_text(
        "model_id,release_date,param_count\nnova-9b,2025-02-03,9000000000\nother,,\n"
    )
    path = tmp_path / "published_scores.csv"
    path.write_text("model_id,benchmark_id,score\nnova-9b,mmlu,0.5\n")
    cards = published_cards(path, ["gpt-4o-2024-08-06", "gemma-7b", "nova-9b", "x"], load_aliases())
    assert cards[0] == card_of(CATALOG.get("gpt-4o-2024-08-06"))
    assert cards[1].family == "gemma-1"
    assert (cards[2].released, cards[2].params_b, cards[2].family) == ("2025-02-03", 9.0, "nova-9b")
    assert (cards[3].model, cards[3].params_b) == ("x", None)
    matrix, told = read_scores(tmp_path)
    assert matrix.models == tuple(card.model for card in told) == ("nova-9b",)


def test_no_table_of_scores_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no published_scores\.csv"):
        read_scores(tmp_path)


def test_answers_place_respondents_of_linked_records_and_cards_all_others():
    names = ["gpt-4o-2024-08-06", "gemma-3-27b-it", OUTSIDE]
    cards = [card_of(CATALOG.get(name)) for name in names]
    means, covariances, known = places_of(SPACE, names, cards)
    assert known == [True, False, False]  # the second answered nothing but puzzles
    at = int(SPACE.index(names[:1])[0])
    np.testing.assert_allclose(means[0], SPACE.abilities.mean[at])
    assert covariances[1, 0, 0] > 10 * covariances[0, 0, 0]


# -- on the real table ---------------------------------------------------------------------------


@pytest.mark.data
def test_scores_of_a_model_left_out_are_told_better_by_its_others_than_by_its_card():
    """The shipped loadings, on the real table: one score in three told from the rest."""
    matrix, cards = read_scores(Path(os.environ["ZEROROUTER_DATA"]) / "catalog")
    assert len(matrix.models) == 164
    model = score_model(SPACE)
    means, covariances, _ = places_of(SPACE, matrix.models, cards)
    off = {"card": [], "others": []}
    for i, name in enumerate(matrix.models):
        told = model.known(matrix.of(name))
        kept = {b: s for j, (b, s) in enumerate(told.items()) if j % 3}
        where, _ = model.fold(kept, means[i], covariances[i])
        for benchmark in told.keys() - kept.keys():
            for arm, theta in (("card", means[i]), ("others", where)):
                expected = 1 / (1 + np.exp(-model.expected(benchmark, theta)[0]))
                off[arm].append(expected - told[benchmark])
    card, others = (np.sqrt(np.mean(np.square(off[arm]))) for arm in ("card", "others"))
    assert others < 0.85 * card
