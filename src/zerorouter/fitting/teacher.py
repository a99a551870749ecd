"""The teacher: what the text of a prompt tells of its item parameters, beyond a linear reading.

A forest learns what respondents of a few typical abilities are expected to score on an item.
Expected scores are bounded, so that an item which everybody solves does not outweigh all others
as its unbounded intercept would, and they exist whoever answered which data set. Their logits
are linear in the item parameters (a, d), which is how they are turned back.

Extremely randomised trees (Geurts, Ernst & Wehenkel 2006) were ahead of linear, kernel and neural
regressions on held-out prompts, alone and in every mixture tried (docs/experiments.md). They are
four times as slow to serve as everything else together: `student` distils them, and only
``accuracy="full"`` asks the forest itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, IntArray
from zerorouter.irt.calibration import Calibration
from zerorouter.predict.forest import Forest, logits_of

N_REFERENCES = 8
N_TREES = 60
LEAST_LEAF = 4
FEATURE_SHARE = 0.3  # of the features tried at each split
RIDGE = 0.05  # of the way back from logits to item parameters


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A fitted forest.

    Attributes:
        trees: scikit-learn's own, which answers many questions at once the fastest.
    """

    trees: Any

    def logits(self, x: Float32Array) -> Float32Array:
        """(N, J) logits of the expected scores of N prompts with features (N, D)."""
        return logits_of(self.trees.predict(x).reshape(len(x), -1))

    def forest(self) -> Forest:
        """The same without scikit-learn, its leaves in half precision."""
        roots, features, thresholds, rights, leaves = [], [], [], [], []
        n_nodes = n_leaves = 0
        for estimator in self.trees.estimators_:
            tree = estimator.tree_
            is_leaf = tree.children_left < 0
            inner = np.flatnonzero(~is_leaf)
            assert (tree.children_left[inner] == inner + 1).all()  # depth first
            roots.append(n_nodes)
            right = tree.children_right.astype(np.int64) + n_nodes
            right[is_leaf] = n_leaves + np.arange(is_leaf.sum())
            features.append(np.where(is_leaf, -1, tree.feature))
            thresholds.append(tree.threshold)
            rights.append(right)
            leaves.append(tree.value[is_leaf, :, 0])
            n_nodes += len(is_leaf)
            n_leaves += int(is_leaf.sum())
        return Forest(
            roots=np.array(roots, dtype=np.int32),
            feature=np.concatenate(features).astype(np.int16),
            threshold=np.concatenate(thresholds).astype(np.float32),
            right=np.concatenate(rights).astype(np.int32),
            scores=np.concatenate(leaves).astype(np.float16),
        )


def teach(x: Float32Array, scores: Float32Array, seed: int) -> Teacher:
    """Learn expected scores (N, J) from features (N, D)."""
    from sklearn.ensemble import ExtraTreesRegressor

    trees = ExtraTreesRegressor(
        n_estimators=N_TREES,
        min_samples_leaf=LEAST_LEAF,
        max_features=FEATURE_SHARE,
        random_state=seed,
    )
    return Teacher(trees=trees.fit(x, scores))
