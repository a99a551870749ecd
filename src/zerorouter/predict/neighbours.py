"""Where the calibrated prompts lie.

A few hundred centroids of the calibrated prompts' embeddings stand for all of them; no row
per prompt is kept. What serving teaches of a neighbourhood is kept by them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, FloatArray

MOST_CLUSTERED = 6_000
LEAST_PER_PROTOTYPE = 4  # prompts; fewer would be remembered one by one


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Centroids of calibrated prompts.

    Attributes:
        centroids: (P, dim) unit vectors.
    """

    centroids: Float32Array

    @classmethod
    def fit(cls, embeddings: FloatArray, *, n_prototypes: int, seed: int) -> Prototypes:
        """K-means centroids of a spread-out sample of unit embeddings (N, dim)."""
        from sklearn.cluster import MiniBatchKMeans

        kept = embeddings[:: max(1, len(embeddings) // MOST_CLUSTERED)]
        means = MiniBatchKMeans(
            n_clusters=min(n_prototypes, max(1, len(kept) // LEAST_PER_PROTOTYPE)),
            n_init=1,
            max_iter=10,
            batch_size=4096,
            random_state=seed,
        ).fit(kept)
        centroids = means.cluster_centers_.astype(np.float32)
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
        return cls(centroids=centroids)

    def similarity(self, embeddings: Float32Array) -> Float32Array:
        """(N, P) cosines of unit embeddings (N, dim) to the centroids."""
        out = np.empty((len(embeddings), len(self.centroids)), dtype=np.float32)
        for i, embedding in enumerate(embeddings):
            np.dot(self.centroids, embedding, out=out[i])
        return out
