from __future__ import annotations

import numpy as np
import pytest

from zerorouter.predict.neighbours import Prototypes


def unit(rng, n, centre, sd):
    x = centre + sd * rng.standard_normal((n, len(centre)))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(0)
    return np.vstack([unit(rng, 400, 5 * np.eye(16)[k], 0.5) for k in range(4)])


@pytest.fixture(scope="module")
def prototypes(clouds):
    return Prototypes.fit(clouds, n_prototypes=8, seed=0)


def test_centroids_are_unit_vectors_and_quantiles_rise(prototypes):
    np.testing.assert_allclose(np.linalg.norm(prototypes.centroids, axis=1), 1, atol=1e-5)
    assert (np.diff(prototypes.similarity_quantiles) >= 0).all()
    assert prototypes.similarity_quantiles.shape == (101,)


def test_support_of_prompts_like_the_calibrated_ones_is_uniform(clouds, prototypes):
    support = np.array([prototypes.support(row) for row in clouds[4::5]])
    assert ((support >= 0) & (support <= 1)).all()
    assert np.quantile(support, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.05)


def test_support_falls_with_distance(prototypes):
    rng = np.random.default_rng(1)
    near, beyond = 5 * np.eye(16)[0], np.eye(16)[9]
    supports = [
        np.mean(
            [prototypes.support(row) for row in unit(rng, 30, (1 - t) * near + 5 * t * beyond, 0.3)]
        )
        for t in (0.0, 0.3, 0.6, 1.0)
    ]
    assert supports == sorted(supports, reverse=True)
    assert supports[-1] == 0.0
    assert supports[0] > 0.4


def test_few_prompts_are_not_remembered_one_by_one(clouds):
    few = Prototypes.fit(clouds[::80], n_prototypes=256, seed=0)  # 20 prompts, 16 clustered
    assert len(few.centroids) == 4


def test_one_prompt_is_enough(clouds):
    alone = Prototypes.fit(np.repeat(clouds[:1], 5, axis=0), n_prototypes=8, seed=0)
    assert 0 <= alone.support(clouds[0]) <= 1


def test_the_same_seed_gives_the_same_centroids(clouds, prototypes):
    again = Prototypes.fit(clouds, n_prototypes=8, seed=0)
    np.testing.assert_array_equal(again.centroids, prototypes.centroids)
    other = Prototypes.fit(clouds, n_prototypes=8, seed=1)
    assert not np.array_equal(other.centroids, prototypes.centroids)
