"""K-means on prompts, and what models score in each cluster."""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray, IntArray

ROUNDS = 50


def fit_centroids(x: Float32Array, k: int, rng: np.random.Generator) -> Float32Array:
    """(K, D) centroids of unit vectors by Lloyd's algorithm from a k-means++ start.

    Written out because the threads of scikit-learn's add up in no fixed order: the same seed is
    to give the same clusters. There are never more clusters than distinct prompts.
    """
    centroids = _spread_out(x, k, rng)
    member = np.full(len(x), -1)
    for _ in range(ROUNDS):
        nearest = closest(x, centroids)
        if np.array_equal(nearest, member):
            break
        member = nearest
        count = np.bincount(member, minlength=len(centroids))
        total = _sums_by(member, x, len(centroids))
        filled = count > 0
        centroids[filled] = total[filled] / count[filled, None]
    return centroids


def closest(x: Float32Array, centroids: Float32Array) -> IntArray:
    """(N,) index of each row's nearest centroid (Euclidean)."""
    return np.asarray(np.argmax(_nearness(x, centroids), axis=1))


def closest_few(x: Float32Array, centroids: Float32Array, n: int) -> IntArray:
    """(N, n) indices of each row's nearest centroids."""
    n = min(n, len(centroids))
    return np.asarray(np.argpartition(-_nearness(x, centroids), n - 1, axis=1)[:, :n])


def sums_per_cluster(member: IntArray, values: FloatArray, k: int) -> tuple[Float64Array, IntArray]:
    """Sums (M, K) of values (M, N) in each cluster and how many there were; NaN does not count."""
    observed = ~np.isnan(values)
    onto = np.zeros((values.shape[1], k))
    onto[np.arange(values.shape[1]), member] = 1.0
    count = (observed @ onto).astype(np.int64)
    return np.where(observed, values, 0.0).astype(np.float64) @ onto, count


def _nearness(x: Float32Array, centroids: Float32Array) -> Float32Array:
    """(N, K) half the negative squared distance, but for what a row shares with itself."""
    half = np.einsum("kd,kd->k", centroids, centroids) / np.float32(2)
    out: Float32Array = x @ centroids.T - half
    return out


def _spread_out(x: Float32Array, k: int, rng: np.random.Generator) -> Float32Array:
    """k-means++ (Arthur & Vassilvitskii 2007): starts drawn by squared distance from the others."""
    chosen = [int(rng.integers(len(x)))]
    distance = np.full(len(x), np.inf)
    while len(chosen) < min(k, len(x)):
        gap = x - x[chosen[-1]]
        distance = np.minimum(distance, np.einsum("nd,nd->n", gap, gap, dtype=np.float64))
        distance[chosen] = 0.0
        total = distance.sum()
        if total <= 1e-9:
            break
        at = int(np.searchsorted(np.cumsum(distance), rng.random() * total, side="right"))
        chosen.append(min(at, len(x) - 1))
    return x[chosen].copy()


def _sums_by(member: IntArray, x: Float32Array, k: int) -> Float32Array:
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(k))
    out = np.zeros((k, x.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(np.bincount(member, minlength=k))
    out[filled] = np.add.reduceat(x[order], starts[filled], axis=0)
    return out
