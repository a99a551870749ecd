from __future__ import annotations

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from zerorouter.fitting.teacher import FEATURE_SHARE, LEAST_LEAF, N_TREES, teach
from zerorouter.predict.forest import EXTREME, ForestReading


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)).astype(np.float32)
    y = 1 / (1 + np.exp(-np.column_stack([x[:, 0] * x[:, 1], x[:, 2]])))
    return x, y.astype(np.float32)


def test_flat_arrays_say_what_the_fitted_trees_say():
    x, y = drawn(0, 400)
    told = teach(x, y, 3).forest().logits(drawn(1, 5000)[0])
    trees = ExtraTreesRegressor(
        n_estimators=N_TREES,
        min_samples_leaf=LEAST_LEAF,
        max_features=FEATURE_SHARE,
        random_state=3,
    ).fit(x, y)
    p = np.clip(trees.predict(drawn(1, 5000)[0]), EXTREME, 1 - EXTREME)
    np.testing.assert_allclose(told, np.log(p / (1 - p)), atol=5e-3)  # leaves are float16


def test_a_forest_reading_is_the_same_alone_or_in_a_batch():
    x, y = drawn(0, 200)
    rng = np.random.default_rng(2)
    reading = ForestReading(
        forest=teach(x, y, 0).forest(),
        readout=rng.standard_normal((2, 3)).astype(np.float32),
        linear=rng.standard_normal((6, 3)).astype(np.float32),
    )
    together = reading(x)
    for i in range(0, 200, 20):
        np.testing.assert_array_equal(reading(x[i : i + 1])[0], together[i])
    np.testing.assert_allclose(
        together,
        reading.forest.logits(x) @ reading.readout
        + np.column_stack([x, np.ones(200)]) @ reading.linear,
        atol=1e-3,
    )
