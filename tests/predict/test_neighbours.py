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


def test_centroids_are_unit_vectors_near_the_prompts(clouds, prototypes):
    np.testing.assert_allclose(np.linalg.norm(prototypes.centroids, axis=1), 1, atol=1e-5)
    assert ((clouds @ prototypes.centroids.T).max(axis=1) > 0.8).mean() > 0.95


def test_few_prompts_are_not_remembered_one_by_one(clouds):
    few = Prototypes.fit(clouds[::80], n_prototypes=256, seed=0)  # 20 prompts
    assert len(few.centroids) == 5


def test_one_prompt_is_enough(clouds):
    alone = Prototypes.fit(clouds[:1], n_prototypes=8, seed=0)
    np.testing.assert_allclose(alone.centroids, clouds[:1], atol=1e-6)


def test_the_same_seed_gives_the_same_centroids(clouds, prototypes):
    again = Prototypes.fit(clouds, n_prototypes=8, seed=0)
    np.testing.assert_array_equal(again.centroids, prototypes.centroids)
    other = Prototypes.fit(clouds, n_prototypes=8, seed=1)
    assert not np.array_equal(other.centroids, prototypes.centroids)
