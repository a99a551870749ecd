from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import special_ortho_group

from simulated_records import MODELS, fitted_folder, fitted_space, toy_router
from zerorouter.catalog import Catalog
from zerorouter.errors import CorruptArtifactError, UnknownNameError
from zerorouter.predict.prompt import read_prompt
from zerorouter.routing.estimates import Pool
from zerorouter.space import LatentSpace

PROMPTS = [
    "Work out 38 + 417 and write the sum.",
    "Put the words kettle, anchor in the order of the alphabet, last first.",
    "Which is a metal?\nA) zinc\nB) oak\nAnswer with the letter.",
    "What do bees do in winter?",
]


def read(space: LatentSpace):
    return space.reader().read([read_prompt(p) for p in PROMPTS])


# -- laws ------------------------------------------------------------------------------------


def rotated(space: LatentSpace, rotation: np.ndarray) -> LatentSpace:
    """The same space with theta and a turned jointly; the constant of the logit stays."""
    whole = np.eye(len(rotation) + 1)
    whole[:-1, :-1] = rotation
    turn = rotation.astype(np.float64)
    predictor = dataclasses.replace(
        space.predictor,
        item_weights=(space.predictor.item_weights @ whole.T).astype(np.float32),
        hidden=dataclasses.replace(
            space.predictor.hidden,
            readout=(space.predictor.hidden.readout @ whole.T).astype(np.float32),
        ),
        effect_covariance=(whole @ space.predictor.effect_covariance @ whole.T).astype(np.float32),
    )
    abilities = dataclasses.replace(
        space.abilities,
        mean=(space.abilities.mean @ turn.T).astype(np.float32),
        covariance=(turn @ space.abilities.covariance @ turn.T).astype(np.float32),
    )
    return dataclasses.replace(space, predictor=predictor, abilities=abilities)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("packaged", [False, True])
def test_rotating_theta_and_a_jointly_leaves_every_estimate_unchanged(seed, packaged):
    """The general dimension stays, since its discrimination is kept above zero."""
    space = LatentSpace.load() if packaged else fitted_space()
    rotation = np.eye(space.n_dims)
    rotation[1:, 1:] = special_ortho_group.rvs(space.n_dims - 1, random_state=seed)
    turned = rotated(space, rotation)
    specs = Catalog.load().pool().models if packaged else space.models
    tokens = np.full(len(PROMPTS), 50.0)
    before = Pool.of(specs, space).estimate(read(space), tokens)
    after = Pool.of(specs, turned).estimate(read(turned), tokens)
    np.testing.assert_allclose(after.p_correct, before.p_correct, atol=2e-5)
    np.testing.assert_allclose(after.cost_usd, before.cost_usd, rtol=1e-4)
    for old, new in zip(before.forecast.interval(), after.forecast.interval(), strict=True):
        np.testing.assert_allclose(new, old, atol=5e-5)


def test_a_prompt_reads_the_same_alone_as_among_others():
    space = fitted_space()
    together = read(space)
    for i, prompt in enumerate(PROMPTS):
        alone = space.reader().read([read_prompt(prompt)])
        np.testing.assert_array_equal(
            alone.items.discrimination[0], together.items.discrimination[i]
        )
        np.testing.assert_array_equal(alone.items.intercept[0], together.items.intercept[i])
        assert alone.support[0] == together.support[i]
        assert alone.domain[0] == together.domain[i]
        assert alone.log_length[0] == together.log_length[i]


def test_more_general_ability_never_lowers_p_correct():
    items = read(fitted_space()).items
    assert (items.discrimination[:, 0] > 0).all()


# -- on disk -----------------------------------------------------------------------------------


def test_a_saved_space_reads_back_the_same(tmp_path):
    space = fitted_space()
    space.save(tmp_path / "copy")
    again = LatentSpace.load(tmp_path / "copy")
    assert again.respondents == space.respondents
    assert again.provenance == space.provenance
    assert again.version == space.version
    assert again.models == space.models
    for before, after in (
        (space.predictor.item_weights, again.predictor.item_weights),
        (space.abilities.covariance, again.abilities.covariance),
        (space.population.weights, again.population.weights),
        (space.calibrated.digests, again.calibrated.digests),
        (read(space).items.intercept, read(again).items.intercept),
    ):
        np.testing.assert_array_equal(before, after)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        fitted_space().save(tmp_path / name)
    for file in ("arrays.safetensors", "manifest.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_space_holds_no_text_of_its_prompts():
    folder = fitted_folder()
    for file in folder.iterdir():
        payload = file.read_bytes()
        assert b"Work out" not in payload
        assert b"order of the alphabet" not in payload


@pytest.mark.parametrize(
    "change",
    [
        {"respondents": list(MODELS[:-1])},
        {"difficulty_scale": [0.0]},
        {"difficulty_scale": None},
        {"shift_variance": "wide"},
        {"models": [{"name": "x", "colour": "red"}]},
        {"provenance": 5},
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(tmp_path, change):
    fitted_space().save(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))
    with pytest.raises(CorruptArtifactError, match="incomplete or inconsistent"):
        LatentSpace.load(tmp_path / "s")


@pytest.mark.parametrize("fact", ["respondents", "domains", "encoder", "models", "provenance"])
def test_a_manifest_without_a_fact_is_refused_by_its_name(tmp_path, fact):
    fitted_space().save(tmp_path / "s")
    manifest = tmp_path / "s" / "manifest.json"
    facts = json.loads(manifest.read_text())
    del facts[fact]
    manifest.write_text(json.dumps(facts))
    with pytest.raises(CorruptArtifactError, match=fact):
        LatentSpace.load(tmp_path / "s")


# -- what fits together ----------------------------------------------------------------------------


def test_an_encoder_that_the_space_was_not_fitted_with_is_refused():
    class Other:
        name, dim = "other", 256

        def encode(self, texts):
            return np.ones((len(texts), 256), dtype=np.float32)

    with pytest.raises(CorruptArtifactError, match=r"fitted with the encoder 'static.*'other'"):
        fitted_space().reader(Other())


def test_a_space_of_another_set_of_features_is_refused():
    space = fitted_space()
    old = space.predictor.standardise
    fewer = dataclasses.replace(
        space.predictor,
        standardise=dataclasses.replace(
            old, centre=old.centre[:-1], inverse_scale=old.inverse_scale[:-1]
        ),
    )
    with pytest.raises(CorruptArtifactError, match="calibrate anew"):
        dataclasses.replace(space, predictor=fewer).reader()


def test_an_unknown_respondent_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'sim-1'; did you mean 'sim-1"):
        fitted_space().index(["sim-1"])
    assert "sim-11" in fitted_space()
    assert "sim-12" not in fitted_space()


# -- the shipped one -----------------------------------------------------------------------------


def test_the_shipped_space_says_where_it_comes_from():
    space = LatentSpace.load()
    assert space.version.startswith("20")
    assert set(space.provenance["data"]) >= {"mmlu-pro", "zeroeval", "reasoning-gym", "cruxeval"}
    assert not {"bfcl", "routerbench-subset"} & set(space.provenance["data"])
    assert space.provenance["fit"]["status"] == "CONVERGED"


def test_the_shipped_space_knows_every_model_of_the_default_pool():
    space = LatentSpace.load()
    assert [s.name for s in Catalog.load().pool() if s.name not in space] == []


def test_the_routers_reader_is_the_spaces():
    router = toy_router()
    found = router.estimates([PROMPTS[0]])
    expected = Pool.of(router.space.models, router.space).estimate(
        router.space.reader().read([read_prompt(PROMPTS[0])]),
        np.array([read_prompt(PROMPTS[0]).input_tokens.mean]),
    )
    np.testing.assert_array_equal(found.p_correct, expected.p_correct)
