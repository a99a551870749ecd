"""How close a prompt lies to the calibrated ones.

A few hundred centroids of the calibrated prompts' embeddings stand for all of them; no row
per prompt is kept. `support` is the share of calibrated prompts that lie farther from their
nearest centroid than the prompt in question: 0.5 is an ordinary calibrated prompt, near 0 is
unlike anything calibrated.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zerorouter.arrays import Float32Array, FloatArray

QUANTILES = 101
FAMILIAR = 0.25  # support from which on a prompt counts as one of the calibrated kind
MOST_CLUSTERED = 6_000
LEAST_PER_PROTOTYPE = 4  # prompts; fewer would be remembered one by one


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Centroids of calibrated prompts and how near those prompts lie to them.

    Attributes:
        centroids: (P, dim) unit vectors.
        similarity_quantiles: (101,) rising cosine similarities of calibrated prompts to
            their nearest centroid.
    """

    centroids: Float32Array
    similarity_quantiles: Float32Array

    @classmethod
    def fit(cls, embeddings: FloatArray, *, n_prototypes: int, seed: int) -> Prototypes:
        """K-means centroids of unit embeddings, the likeness measured on held-out rows.

        Every fifth row is held out of the clustering, so that the quantiles describe prompts
        that did not shape the centroids; of the others a spread-out sample is enough.
        """
        from sklearn.cluster import MiniBatchKMeans

        held = np.arange(len(embeddings)) % 5 == 4
        kept = embeddings[~held]
        kept = kept[:: max(1, len(kept) // MOST_CLUSTERED)]
        means = MiniBatchKMeans(
            n_clusters=min(n_prototypes, max(1, len(kept) // LEAST_PER_PROTOTYPE)),
            n_init=1,
            max_iter=10,
            batch_size=4096,
            random_state=seed,
        ).fit(kept)
        centroids = means.cluster_centers_.astype(np.float32)
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
        nearest = (embeddings[held] @ centroids.T).max(axis=1)
        quantiles = np.quantile(nearest, np.linspace(0, 1, QUANTILES))
        return cls(centroids=centroids, similarity_quantiles=quantiles.astype(np.float32))

    def support(self, embedding: Float32Array) -> float:
        """Support of one unit embedding (dim,), in [0, 1]."""
        return self.support_of(self.centroids.dot(embedding))

    def support_of(self, similarity: Float32Array) -> float:
        """Support of a prompt whose cosines to the centroids are ``similarity`` (P,)."""
        nearest = float(np.maximum.reduce(similarity))
        return min(bisect_left(self._quantiles, nearest) / (QUANTILES - 1), 1.0)

    @cached_property
    def _quantiles(self) -> list[float]:
        """The quantiles in plain floats, a tenth of the time to search."""
        quantiles: list[float] = self.similarity_quantiles.tolist()
        return quantiles


def strangeness(support: FloatArray) -> Float32Array:
    """How foreign prompts of such support are, in [0, 1]: 0 for all but the outer quarter.

    Where a prompt lies among the calibrated ones tells nothing of how well it is predicted; the
    error of whole kinds of prompts sets in at the rim (docs/experiments.md).
    """
    out: Float32Array = np.square(np.maximum(1 - np.asarray(support, np.float32) / FAMILIAR, 0))
    return out


def strangeness_of(support: float) -> float:
    """`strangeness` of one prompt, in plain floats."""
    away = max(1.0 - support / FAMILIAR, 0.0)
    return away * away
