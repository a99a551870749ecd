from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zerorouter.predict.familiarity import Familiarity
from zerorouter.predict.features import PromptFeatures
from zerorouter.predict.items import LEAST_DISCRIMINATION, ItemPredictor, Standardiser
from zerorouter.predict.neighbours import Prototypes
from zerorouter.predict.structure import FEATURE_NAMES, N_FEATURES
from zerorouter.predict.student import HiddenLayer

DIM, K = 8, 2


def features(seed, n=30) -> PromptFeatures:
    rng = np.random.default_rng(seed)
    embedding = rng.standard_normal((n, DIM)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    structure = rng.standard_normal((n, N_FEATURES)).astype(np.float32)
    structure[:, FEATURE_NAMES.index("n_options")] = np.arange(n) % 3 * 2
    return PromptFeatures(embedding=embedding, structure=structure)


@pytest.fixture(scope="module")
def predictor() -> ItemPredictor:
    rng = np.random.default_rng(1)
    d = DIM + N_FEATURES
    return ItemPredictor(
        standardise=Standardiser.fit(features(0, 200)),
        item_weights=(0.1 * rng.standard_normal((d + 1, K + 1))).astype(np.float32),
        hidden=HiddenLayer(
            weights=(0.2 * rng.standard_normal((d + 1, 5))).astype(np.float32),
            readout=rng.standard_normal((5, K + 1)).astype(np.float32),
        ),
        forest=None,
        facet_weights=(0.1 * rng.standard_normal((d + 1, 4))).astype(np.float32),
        class_weights=(0.3 * rng.standard_normal((d + 1, 3))).astype(np.float32),
        length_weights=(0.1 * rng.standard_normal(d + 1)).astype(np.float32),
        class_domain=np.array([0, 1, 1]),
        class_block=np.array([0, 1, -1]),
        domains=("sums", "words"),
        block_intercepts=np.array([0.5, -2.0], dtype=np.float32),
        effect_covariance=np.eye(K + 1, dtype=np.float32),
        shift_variance=(0.1, 0.9),
        typical=np.array([1.0, 0.0, -0.5], dtype=np.float32),
        familiarity=Familiarity(
            discount=np.full(4, 0.01, dtype=np.float32),
            ordinary=np.linspace(0, 2.0 * d, 201, dtype=np.float32),
        ),
        prototypes=Prototypes.fit(features(0, 200).embedding, n_prototypes=8, seed=0),
    )


def slow(predictor: ItemPredictor, f: PromptFeatures):
    """The definition, in plain float64."""
    x = np.hstack([f.embedding, f.structure]).astype(np.float64)
    x = (x - predictor.standardise.centre) * predictor.standardise.inverse_scale
    x = np.column_stack([np.clip(x, -4, 4), np.ones(len(x))])
    units = np.maximum(x @ predictor.hidden.weights, 0)
    beta = x @ predictor.item_weights + units @ predictor.hidden.readout
    logits = x @ predictor.class_weights
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    of_block = np.append(predictor.block_intercepts, 0.0)[predictor.class_block]
    a = beta[:, :K].copy()
    a[:, 0] = np.maximum(a[:, 0], LEAST_DISCRIMINATION)
    by_domain = np.stack([odds[:, predictor.class_domain == k].sum(axis=1) for k in range(2)])
    return a, beta[:, K] + odds @ of_block, by_domain.argmax(axis=0), x @ predictor.length_weights


def test_readings_are_those_of_the_definition(predictor):
    f = features(5)
    found, (a, d, domain, level) = predictor.read(f), slow(predictor, f)
    np.testing.assert_allclose(found.items.discrimination, a, atol=1e-4)
    np.testing.assert_allclose(found.items.intercept, d, atol=1e-4)
    np.testing.assert_allclose(found.log_length, level, atol=1e-4)
    np.testing.assert_array_equal(found.domain, domain)
    x = np.column_stack([predictor.standardise(f), np.ones(len(f))])
    np.testing.assert_allclose(found.items.facets, x @ predictor.facet_weights, atol=1e-4)


def test_each_row_is_the_same_to_the_last_bit_alone_or_in_a_batch(predictor):
    f = features(6)
    together = predictor.read(f)
    for i in range(len(f)):
        alone = predictor.read(f.take(np.array([i])))
        np.testing.assert_array_equal(
            alone.items.discrimination[0], together.items.discrimination[i]
        )
        assert alone.items.intercept[0] == together.items.intercept[i]
        np.testing.assert_array_equal(alone.items.facets[0], together.items.facets[i])
        assert alone.log_length[0] == together.log_length[i]
        assert alone.support[0] == together.support[i]


def test_general_ability_always_helps_a_little(predictor):
    contrary = dataclasses.replace(
        predictor,
        item_weights=-np.abs(predictor.item_weights) - 5,
        hidden=HiddenLayer.none(DIM + N_FEATURES, K),
    )
    assert (contrary.read(features(7)).items.discrimination[:, 0] >= LEAST_DISCRIMINATION).all()


def test_the_farther_from_the_records_the_vaguer_and_the_more_typical(predictor):
    ordinary = features(8)
    farther = np.linspace(0.5, 4, len(ordinary), dtype=np.float32)[:, None]
    far = dataclasses.replace(ordinary, structure=ordinary.structure * farther)
    found = predictor.read(far)
    order = np.argsort(found.support)
    assert (np.diff(found.items.shift_variance[order]) <= 1e-6).all()
    assert found.items.shift_variance.min() == pytest.approx(0.1)
    assert found.items.shift_variance.max() == pytest.approx(1.0)
    strangest = found.items.shift_variance > 1.0 - 1e-6
    np.testing.assert_allclose(found.items.discrimination[strangest, 0], 1.0)
    np.testing.assert_allclose(found.items.intercept[strangest], -0.5)
    np.testing.assert_array_equal(found.items.facets[strangest], 0)


def test_options_set_the_guess_floor(predictor):
    guessing = predictor.read(features(9)).items.guessing
    np.testing.assert_allclose(guessing[:3], [0, 0.5, 0.25])


# -- standardising ---------------------------------------------------------------------------------


def test_standard_features_have_mean_zero_and_unit_scale():
    f = features(0, 5000)
    z = Standardiser.fit(f)(f)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-2)


def test_features_that_never_varied_are_ignored():
    f = features(0, 50)
    f.structure[:, 4] = 7.0
    standardise = Standardiser.fit(f)
    changed = features(1, 50)
    changed.structure[:, 4] = 1e6
    assert (standardise(changed)[:, DIM + 4] == 0).all()


def test_freak_values_are_clipped():
    f = features(0, 50)
    standardise = Standardiser.fit(f)
    f.structure[0, 3] = 1e30
    z = standardise(f)
    assert z.max() == 4.0
    assert np.isfinite(z).all()
