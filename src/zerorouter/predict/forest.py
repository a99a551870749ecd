"""A forest of regression trees, evaluated with NumPy alone.

All trees lie one after another in flat arrays. A tree's nodes are stored depth first, so that a
node's left child follows it and only the right one needs an address. All prompts walk all trees
together, one level at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, FloatArray, IntArray

EXTREME = np.float32(0.03)  # expected scores are kept this far off 0 and 1 before a logit is taken
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest:
    """T trees over D features that forecast J expected scores in [0, 1].

    Attributes:
        roots: (T,) position of each tree's first node.
        feature: (V,) int16, the feature that a node asks about; -1 at a leaf.
        threshold: (V,) a prompt whose feature is not above it goes left.
        right: (V,) int32, position of the right child; at a leaf, the row of ``scores``.
        scores: (L, J) float16, mean expected scores at the leaves.
    """

    roots: IntArray
    feature: IntArray
    threshold: Float32Array
    right: IntArray
    scores: Float32Array

    def logits(self, x: Float32Array) -> Float32Array:
        """(N, J) logits of the expected scores of N prompts with features (N, D)."""
        parts = [
            self._scores(x[start : start + ROWS_AT_ONCE])
            for start in range(0, len(x), ROWS_AT_ONCE)
        ]
        return logits_of(np.concatenate(parts))

    def _scores(self, x: Float32Array) -> Float32Array:
        rows = np.repeat(np.arange(len(x)), len(self.roots))
        node = np.tile(self.roots, len(x))
        leaf = np.empty(len(node), dtype=np.int64)
        walking = np.arange(len(node))
        while len(walking):
            asked = self.feature[node]
            ended = asked < 0
            if ended.any():
                leaf[walking[ended]] = self.right[node[ended]]
                left = ~ended
                walking, node, rows, asked = walking[left], node[left], rows[left], asked[left]
            stays = x[rows, asked] <= self.threshold[node]
            node = np.where(stays, node + 1, self.right[node])
        found = self.scores[leaf].astype(np.float32)
        return np.asarray(found.reshape(len(x), len(self.roots), -1).mean(axis=1))


def logits_of(scores: FloatArray) -> Float32Array:
    """Logits of expected scores, those kept off 0 and 1."""
    p = np.clip(scores, EXTREME, 1 - EXTREME)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ForestReading:
    """Item parameters read by the forest itself, where its student would read them else.

    Attributes:
        forest: Features (N, D) to J expected scores.
        readout: (J, K+1) from their logits to the item parameters (a, d).
        linear: (D+1, K+1) what is added linearly, the last row the constant.
    """

    forest: Forest
    readout: Float32Array
    linear: Float32Array

    def __call__(self, x: Float32Array) -> Float32Array:
        """(N, K+1) item parameters of prompts with standardised features (N, D)."""
        told = np.empty((len(x), self.linear.shape[1]), dtype=np.float32)
        logits = self.forest.logits(x)
        for i in range(len(x)):  # row by row: a matrix product may round a row by its neighbours
            told[i] = logits[i] @ self.readout + x[i] @ self.linear[:-1] + self.linear[-1]
        return told
