"""Whether intervals of P(correct) hold, judged on groups of prompts.

An interval covers what is not known of a model and of this *kind* of prompt, not what varies from
one answer to the next; it can only be checked on groups. A group's mean score is set against the
mean P(correct) with the means of both bounds, widened in quadrature by the binomial noise of as
many answers.
"""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray

N_GROUPS = 10
LEAST = 20  # answers of a model in a group
Z = 1.645  # of the 90% intervals that forecasts carry


def prompt_groups(embedding: FloatArray) -> IntArray:
    """(N,) clusters of alike prompts: the groups."""
    from sklearn.cluster import KMeans

    n = min(N_GROUPS, len(embedding))
    return np.asarray(KMeans(n, n_init=3, random_state=0).fit(embedding).labels_)


def covered(
    p: FloatArray, low: FloatArray, high: FloatArray, y: FloatArray, groups: IntArray
) -> Float64Array:
    """Which intervals held: 1 or 0 for each model and group, NaN where too few answers are.

    Args:
        p: (M, N) P(correct).
        low: (M, N) lower bounds of the 90% interval.
        high: (M, N) upper bounds.
        y: (M, N) scores, NaN where not asked.
        groups: (N,) numbers from 0 to `N_GROUPS` - 1.

    Returns:
        (M, `N_GROUPS`)
    """
    out = np.full((len(p), N_GROUPS), np.nan)
    for group in range(N_GROUPS):
        of = groups == group
        seen = ~np.isnan(y[:, of])
        n = seen.sum(axis=1)
        enough = n >= LEAST
        if not enough.any():
            continue
        n = n[enough]
        mean_y, mean_p, mean_low, mean_high = (
            np.where(seen, values[:, of].astype(np.float64), 0.0).sum(axis=1)[enough] / n
            for values in (y, p, low, high)
        )
        cells = p[:, of].astype(np.float64)
        # Fractional scores are less noisy than single answers: the spread seen, where it is less.
        spread = [
            np.where(seen, values, 0.0).sum(axis=1)[enough] / n
            for values in (cells * (1 - cells), (y[:, of] - cells) ** 2)
        ]
        noise = Z * np.sqrt(np.minimum(*spread) / n)
        error = mean_y - mean_p
        holds = (error >= -np.hypot(mean_p - mean_low, noise)) & (
            error <= np.hypot(mean_high - mean_p, noise)
        )
        out[enough, group] = holds
    return out


def shares(held: Float64Array, replicates: int) -> Float64Array:
    """(1 + B,) share of intervals (..., G) that held: as found, then with groups resampled."""
    rng = np.random.default_rng(47)
    flat = held.reshape(-1, held.shape[-1])
    total = (~np.isnan(flat)).sum(axis=0).astype(np.float64)
    kept = np.nansum(flat, axis=0)
    g = len(total)
    counts = np.vstack([np.ones(g), rng.multinomial(g, np.full(g, 1 / g), size=replicates)])
    bottom = counts @ total
    out = np.full(len(counts), np.nan)
    np.divide(counts @ kept, bottom, out=out, where=bottom > 0)
    return out
