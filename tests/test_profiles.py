"""Profiles: kept byte by byte, joined to the pool, followed into another space, and removed."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulated_records import MODELS, fitted_folder, fitted_space
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import (
    ArtifactError,
    CorruptArtifactError,
    NewerArtifactError,
    UnknownNameError,
)
from zerorouter.fitting.lengths import length_prior
from zerorouter.known_items import load_known_items
from zerorouter.onboarding.evidence import (
    Answer,
    PredictedItem,
    ReportedScore,
    Source,
    calibrated_index,
    key_of,
)
from zerorouter.onboarding.outlook import Targets
from zerorouter.prices import Price
from zerorouter.profiles import (
    AnswerLengths,
    Profile,
    ProfileStore,
    Speed,
    join,
    learned,
    refitted,
)
from zerorouter.router import Router
from zerorouter.space import LatentSpace

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)


@cache
def surroundings():
    space = fitted_space()
    return {
        "length_prior": length_prior(space.styles, [None] * len(space.respondents)),
        "targets": Targets.of_space(space, load_known_items()),
        "date": "2026-11-22",
    }


@cache
def profile(
    name: str = "newcomer", n: int = 40, seed: int = 0, price: Price | None = PRICE
) -> Profile:
    space = fitted_space()
    rng = np.random.default_rng(seed)
    at = rng.permutation(calibrated_index(space).position)[:n]
    given_ = tuple(
        Answer(
            ref=f"toy/q{i}",
            score=float(rng.random() < 0.6),
            key=key_of(space.calibrated.digests[i]),
            kind="arithmetic",
            tokens=float(rng.integers(5, 40)),
            log_length=3.0,
            input_tokens=20.0,
            ttft_s=0.2,
            end_to_end_s=0.5,
        )
        for i in at
    )
    source = Source(
        id=f"anchors:{seed}",
        kind="anchors",
        date="2026-11-22",
        space=space.version,
        answers=tuple(sorted(given_, key=lambda a: a.ref)),
        facts={"endpoint": "http://127.0.0.1/v1"},
    )
    card = ModelSpec(name=name, family="sim", price=price)
    return learned(space, card, [source] if n else [], **surroundings()).profile


def test_a_profile_is_the_same_bytes_after_reading():
    text = profile().to_json()
    again = Profile.from_json(text)
    assert again.to_json() == text
    assert again.sources == profile().sources
    np.testing.assert_allclose(again.ability, profile().ability, atol=1e-5)
    np.testing.assert_allclose(again.covariance, profile().covariance, atol=1e-7)


def test_a_profile_is_small_sorted_and_a_line_per_answer():
    text = profile().to_json()
    assert len(text) < 12_000
    table = json.loads(text)
    assert list(table)[:-1] == sorted(list(table)[:-1])
    lines = text.splitlines()
    assert sum('"ref": "toy/' in line for line in lines) == 40
    assert not any("Work out" in line or "Put the words" in line for line in lines)


def test_one_more_answer_changes_the_lines_it_touches():
    space = fitted_space()
    before = profile()
    source = before.sources[0]
    extra = Answer(
        ref="toy/zz", score=1.0, key=key_of(space.calibrated.digests[0]), kind="arithmetic"
    )
    more = dataclasses.replace(source, answers=(*source.answers, extra))
    after = learned(space, before.card, [more], earlier=before, **surroundings()).profile
    old, new = before.to_json().splitlines(), after.to_json().splitlines()
    unchanged = set(old) & set(new)
    assert len(unchanged) > len(old) - 15


def test_steps_in_any_order_make_the_same_profile():
    space = fitted_space()
    card = profile().card
    first, second = profile(seed=0).sources[0], profile(seed=1).sources[0]
    texts = set()
    for steps in ([[first], [second]], [[second], [first]], [[first, second]]):
        current = None
        for sources in steps:
            current = learned(space, card, sources, earlier=current, **surroundings()).profile
        texts.add(current.to_json())
    assert len(texts) == 1
    assert json.loads(texts.pop())["n_answers"] == 80


def test_a_source_that_comes_again_takes_the_place_of_the_old():
    again = learned(
        fitted_space(),
        profile().card,
        profile().sources,
        earlier=profile(),
        **surroundings(),
    ).profile
    assert again.to_json() == profile().to_json()


GOLDEN = """\
{
 "ability": [0.5, -0.25],
 "ability_covariance": [[0.04, 0.01], [0.01, 0.09]],
 "card": {"family": "nova", "name": "nova-1", "price": {"input_usd_per_mtok": 1.0, \
"kind": "list", "output_usd_per_mtok": 2.0}, "ttft_s": 0.3},
 "date": "2026-11-22",
 "expected_accuracy": {"code": [0.5, 0.4, 0.6], "law": [0.7, 0.6, 0.8]},
 "format": "zerorouter-profile",
 "leaning_variance": 0.5,
 "leanings": [0.1, -0.2],
 "lengths": {"n": 2, "offset": 0.1, "offset_sd": 0.2, "pivot": 5.0, "sd": 0.6, "slope": 0.0, \
"stretch": -0.1},
 "model": "nova-1",
 "n_answers": 2,
 "predictive_sd": 0.0812,
 "probation": true,
 "space": "2026-11-22-0c35ed9e",
 "speed": {"n": 2, "tpot_s": 0.01235, "ttft_s": 0.3457},
 "version": 1,
 "warnings": ["check the grader"],
 "sources": [
  {
   "date": "2026-11-22",
   "facts": {"anchors": "mine", "endpoint": "http://127.0.0.1/v1"},
   "id": "anchors:1",
   "kind": "anchors",
   "space": "2026-11-22-0c35ed9e",
   "answers": [
    {"end_to_end_s": 0.5, "key": "00ff00ff00ff00ff", "kind": "law", "log_length": 4.5, \
"ref": "mine/1", "score": 1.0, "tokens": 12.0, "ttft_s": 0.2},
    {"item": {"a": [1.0, 0.5], "c": 0.25, "d": -0.5, "facets": [0.01], "kind": "mine", \
"scale": 1.2, "shift": 0.3}, "kind": "mine", "ref": "mine/2", "score": 0.5}
   ]
  },
  {
   "date": "2026-11-20",
   "facts": {},
   "id": "score:gsm8k",
   "kind": "score",
   "reported": {"benchmark": "gsm8k", "score": 0.9},
   "space": "2026-11-22-0c35ed9e"
  }
 ]
}
"""


def golden_profile() -> Profile:
    version = "2026-11-22-0c35ed9e"
    item = PredictedItem(
        discrimination=(1.0, 0.5),
        intercept=-0.5,
        guessing=0.25,
        effect_scale=1.2,
        shift_variance=0.3,
        kind="mine",
        facets=(0.01,),
    )
    answered = (
        Answer(
            ref="mine/1",
            score=1.0,
            key="00ff00ff00ff00ff",
            kind="law",
            tokens=12.0,
            log_length=4.5,
            ttft_s=0.2,
            end_to_end_s=0.5,
        ),
        Answer(ref="mine/2", score=0.5, kind="mine", item=item),
    )
    reported = ReportedScore(benchmark="gsm8k", score=0.9)
    return Profile(
        card=ModelSpec(name="nova-1", family="nova", price=PRICE, ttft_s=0.3),
        space_version=version,
        date="2026-11-22",
        ability=np.array([0.5, -0.25]),
        covariance=np.array([[0.04, 0.01], [0.01, 0.09]]),
        leanings=np.array([0.1, -0.2]),
        leaning_variance=0.5,
        lengths=AnswerLengths(
            offset=0.1, offset_sd=0.2, slope=0.0, stretch=-0.1, pivot=5.0, sd=0.6, n=2
        ),
        speed=Speed(ttft_s=0.34567, tpot_s=0.012345, n=2),
        predictive_sd=0.08123,
        probation=True,
        expected_accuracy={"law": (0.7, 0.6, 0.8), "code": (0.5, 0.4, 0.6)},
        sources=(
            Source(
                id="anchors:1",
                kind="anchors",
                date="2026-11-22",
                space=version,
                answers=answered,
                facts={"endpoint": "http://127.0.0.1/v1", "anchors": "mine"},
            ),
            Source(
                id="score:gsm8k", kind="score", date="2026-11-20", space=version, reported=reported
            ),
        ),
        warnings=("check the grader",),
    )


def test_the_file_is_the_golden_one():
    """Byte by byte: whoever keeps profiles in git sees no change that is none."""
    assert golden_profile().to_json() == GOLDEN
    assert Profile.from_json(GOLDEN).sources == golden_profile().sources


# -- the store -----------------------------------------------------------------------------------


@given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=30))
def test_every_name_has_a_file_of_its_own(name):
    if not name.strip():
        return
    store = ProfileStore.__new__(ProfileStore)
    store.folder = Path("/profiles")
    path = store.path(name)
    assert path.parent == store.folder
    assert not path.name.startswith(".")


@pytest.mark.parametrize("name", ["a/b:c", "../../etc/passwd", ".hidden", "x y", "mödel", "a%2Fb"])
def test_odd_names_are_kept_and_found(tmp_path, name):
    store = ProfileStore(tmp_path / "profiles")
    own = dataclasses.replace(profile(), card=dataclasses.replace(profile().card, name=name))
    path = store.save(own)
    assert path.parent == store.folder
    assert store.names() == (name,)
    assert store.load(name).to_json() == own.to_json()
    store.remove(name)
    assert store.names() == ()


def test_a_name_without_a_profile_suggests_the_nearest(tmp_path):
    store = ProfileStore(tmp_path)
    store.save(profile())
    for call in (store.load, store.remove):
        with pytest.raises(UnknownNameError, match="did you mean 'newcomer'"):
            call("newcommer")
    assert store.find("newcommer") is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", CorruptArtifactError),
        ("{}", CorruptArtifactError),
        ('{"format": "zerorouter-profile"}', CorruptArtifactError),
        ('{"format": "zerorouter-profile", "version": 99}', NewerArtifactError),
        ('{"format": "zerorouter-profile", "version": 1}', CorruptArtifactError),
    ],
)
def test_a_file_that_is_no_profile_is_told_by_name(tmp_path, text, error):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(error, match=r"x\.json"):
        ProfileStore(tmp_path).load_all()


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "profiles").write_text("in the way")
    with pytest.raises(ArtifactError, match="ZEROROUTER_HOME"):
        ProfileStore(tmp_path / "profiles").save(profile())


def test_the_stamp_tells_of_every_change(tmp_path):
    store = ProfileStore(tmp_path)
    stamps = [store.stamp()]
    store.save(profile())
    stamps.append(store.stamp())
    store.save(profile(n=20))
    stamps.append(store.stamp())
    store.remove("newcomer")
    stamps.append(store.stamp())
    assert stamps[0] == stamps[3] == ()
    assert len(set(stamps)) == 3


def test_half_a_save_leaves_the_old_profile(tmp_path, monkeypatch):
    store = ProfileStore(tmp_path)
    store.save(profile())
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ArtifactError, match="No space left"):
        store.save(profile(n=20))
    assert store.load("newcomer").n_answers == 40
    assert [p.name for p in tmp_path.iterdir()] == ["newcomer.json"]


# -- the pool ------------------------------------------------------------------------------------


def router(*profiles: Profile) -> Router:
    return Router.load(fitted_folder(), catalog=Catalog(models=()), profiles=profiles)


def test_a_profiled_model_is_a_respondent_with_its_own_numbers():
    joined = join(fitted_space(), Catalog(models=()), [profile()])
    at = int(joined.space.index(["newcomer"])[0])
    np.testing.assert_allclose(joined.space.abilities.mean[at], profile().ability, atol=1e-5)
    np.testing.assert_allclose(joined.space.abilities.leanings[at], profile().leanings, atol=1e-5)
    assert joined.space.styles.offset[at] == pytest.approx(profile().lengths.offset)
    spec = joined.catalog.get("newcomer")
    assert spec.ttft_s == pytest.approx(profile().speed.ttft_s, abs=1e-4)
    assert 1 / spec.throughput_tok_s == pytest.approx(profile().speed.tpot_s, rel=1e-3)
    assert "40 requests" in spec.speed_source


def test_joining_leaves_everybody_else_as_they_were():
    prompt = "Work out 12 + 35 and write the sum."
    alone, together = router().estimates([prompt]), router(profile()).estimates([prompt])
    at = [together.models.index(name) for name in alone.models]
    np.testing.assert_array_equal(together.p_correct[:, at], alone.p_correct)
    np.testing.assert_array_equal(together.cost_usd[:, at], alone.cost_usd)


def test_a_profile_stands_in_for_what_the_space_knew():
    weakest, strongest = MODELS[-1], MODELS[0]
    space = fitted_space()
    own = dataclasses.replace(
        profile(),
        card=dataclasses.replace(profile().card, name=weakest),
        ability=space.abilities.mean[space.index([strongest])[0]].astype(float),
    )
    joined = join(space, Catalog(models=()), [own])
    assert len(joined.space.respondents) == len(space.respondents)
    at = int(joined.space.index([weakest])[0])
    np.testing.assert_allclose(joined.space.abilities.mean[at], own.ability)


def test_a_model_on_probation_is_chosen_on_its_lower_bound():
    """The same numbers, with and without probation: under every policy it is chosen less."""
    sure = dataclasses.replace(profile(), probation=False)
    unsure = dataclasses.replace(profile(), probation=True)
    prompts = [f"Work out {a} + {a * 7} and write the sum." for a in range(3, 60)]
    for policy in ("quality", "balanced", "cost"):
        chosen = [
            sum(d.model == "newcomer" for d in router(own).route_batch(prompts, policy=policy))
            for own in (sure, unsure)
        ]
        assert chosen[1] <= chosen[0]
    decision = router(unsure).route(prompts[0], policy="quality")
    told = {c["model"]: c for c in decision.to_dict()["candidates"]}
    expected = {
        c["model"]: c
        for c in router(sure).route(prompts[0], policy="quality").to_dict()["candidates"]
    }
    assert told["newcomer"]["utility"] < expected["newcomer"]["utility"]
    others = told.keys() - {"newcomer"}
    assert all(told[name]["utility"] == expected[name]["utility"] for name in others)


def test_a_model_without_a_price_stays_out_of_the_pool_and_is_told():
    joined = join(fitted_space(), Catalog(models=()), [profile(price=None)])
    assert not joined.catalog.get("newcomer").in_default_pool
    assert "--price-in" in joined.notes[0]
    assert "newcomer" not in router(profile(price=None)).models


def test_profiles_of_the_home_folder_are_loaded_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    ProfileStore.default().save(profile())
    assert "newcomer" in Router.load(fitted_folder(), catalog=Catalog(models=())).models
    ProfileStore.default().remove("newcomer")
    assert "newcomer" not in Router.load(fitted_folder(), catalog=Catalog(models=())).models


def another_version() -> LatentSpace:
    """The toy space as if it had been fitted anew, in another frame."""
    space = fitted_space()
    provenance = {**space.provenance, "version": "2027-01-01-ffffffff"}
    return dataclasses.replace(space, provenance=provenance)


def test_a_profile_follows_into_another_version_of_the_space():
    """Placed anew from its evidence: the same frame gives the same place."""
    space = another_version()
    moved = refitted(profile(), space)
    assert moved.space_version == space.version
    np.testing.assert_allclose(moved.ability, profile().ability, atol=1e-6)
    assert refitted(profile(), fitted_space()) is profile()


def test_evidence_that_does_not_follow_is_told_and_means_probation():
    own = profile()
    strange = dataclasses.replace(
        own.sources[0],
        answers=tuple(
            dataclasses.replace(a, key=f"{i:016x}") for i, a in enumerate(own.sources[0].answers)
        ),
    )
    lost = dataclasses.replace(own, sources=(strange,), probation=False)
    joined = join(another_version(), Catalog(models=()), [lost])
    assert joined.probation == {"newcomer"}
    assert "40 of 40 answers were told in another version" in joined.notes[0]


def test_a_card_alone_is_wide_and_on_probation():
    own = profile(n=0)
    assert own.probation
    assert own.speed is None
    assert own.n_answers == 0
    assert np.all(own.ability_sd >= 0.9 * profile().ability_sd)
