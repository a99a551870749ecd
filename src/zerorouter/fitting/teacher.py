"""The teacher: what the text of a prompt tells of its item parameters, beyond a linear reading.

A forest learns what respondents of a few typical abilities are expected to score on an item.
Expected scores are bounded, so that an item which everybody solves does not outweigh all others
as its unbounded intercept would, and they exist whoever answered which data set. Their logits
are linear in the item parameters (a, d), which is how they are turned back.

Extremely randomised trees (Geurts, Ernst & Wehenkel 2006) were ahead of linear, kernel and neural
regressions on held-out prompts, alone and in every mixture tried (docs/experiments.md). They are
too slow and too large to serve: `student` distils them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, IntArray
from zerorouter.irt.calibration import Calibration

N_REFERENCES = 8
N_TREES = 60
LEAST_LEAF = 4
FEATURE_SHARE = 0.3  # of the features tried at each split
EXTREME = 0.03  # expected scores are kept this far off 0 and 1 before a logit is taken
RIDGE = 0.05  # of the way back from logits to item parameters

Regressor = Callable[[Float32Array], Float32Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """Typical respondents.

    Attributes:
        design: (J, K+1) their abilities and a constant 1.
    """

    design: Float64Array

    @classmethod
    def of(cls, calibration: Calibration, seed: int) -> References:
        """Centres of the calibrated abilities."""
        from sklearn.cluster import KMeans

        abilities = calibration.abilities.mean.astype(np.float64)
        n = min(N_REFERENCES, len(np.unique(abilities, axis=0)))
        centres = KMeans(n, n_init=3, random_state=seed).fit(abilities).cluster_centers_
        return cls(design=np.column_stack([centres, np.ones(n)]))

    def expected_scores(self, calibration: Calibration, blocks: IntArray) -> Float32Array:
        """(N, J) expected scores on calibrated items, guessing and data set left aside."""
        items = calibration.items
        intercept = items.intercept - calibration.block_intercepts[blocks]
        beta = np.column_stack([items.discrimination, intercept])
        return np.asarray(1 / (1 + np.exp(-(beta @ self.design.T))), dtype=np.float32)

    @property
    def to_items(self) -> Float64Array:
        """(J, K+1) the map from logits of expected scores to item parameters."""
        gram = self.design.T @ self.design + RIDGE * np.eye(self.design.shape[1])
        return np.asarray(np.linalg.solve(gram, self.design.T).T)


def fit_forest(x: Float32Array, scores: Float32Array, seed: int) -> Regressor:
    """Learn expected scores (N, J) from features (N, D); the regressor returns their logits."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(
        n_estimators=N_TREES,
        min_samples_leaf=LEAST_LEAF,
        max_features=FEATURE_SHARE,
        random_state=seed,
    ).fit(x, scores)

    def logits(features: Float32Array) -> Float32Array:
        p = np.clip(forest.predict(features).reshape(len(features), -1), EXTREME, 1 - EXTREME)
        return np.asarray(np.log(p / (1 - p)), dtype=np.float32)

    return logits
