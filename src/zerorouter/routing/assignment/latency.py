r"""Latency bounds of a batch: its mean, and its 95th percentile as an allowed share of excess.

The latency of a random request of the batch lies below S with 95% exactly where the mean of the
requests' chances to take longer than S is at most 5%. Those chances, unlike a percentile, add
up, so ``p95 <= S`` becomes one more bound on a sum: :math:`\sum_i P(T_{i,x_i} > S) \le 0.05 N`.
Each latency is log-normal with a given mean and 95th percentile; with a mean alone it is taken
as certain, and the chance is 0 or 1.
"""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray

ALLOWED_EXCESS = 0.05
Z95 = 1.6448536269514722
_BLOCK = 10_000  # rows that are worked on at a time
LARGEST_SD = Z95  # of a log: a 95th percentile lies at most exp(Z95^2 / 2) = 3.9 times the mean


def log_sd(mean_s: FloatArray, p95_s: FloatArray) -> FloatArray:
    r"""Standard deviation of the log of a log-normal, from its mean and 95th percentile.

    The smaller root of :math:`\ln(p_{95}/m) = z\sigma - \sigma^2/2`; 0 where the percentile lies
    below the mean, `LARGEST_SD` where it lies farther above it than a log-normal's can.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(p95_s / mean_s)
    ratio = np.where(np.isfinite(ratio), ratio, 0.0)
    root: FloatArray = Z95 - np.sqrt(np.clip(Z95**2 - 2 * np.maximum(ratio, 0.0), 0.0, None))
    return root


def exceedance(mean_s: FloatArray, p95_s: FloatArray | None, limit_s: float) -> FloatArray:
    """Chance of each latency to exceed ``limit_s``, of the shape and kind of ``mean_s``."""
    out = np.empty_like(mean_s)
    if limit_s <= 0:
        out[...] = mean_s > limit_s
        return out
    limit_s = min(max(limit_s, 1e-30), 1e30)  # further out single precision has no numbers
    for start in range(0, len(mean_s), _BLOCK):
        rows = slice(start, start + _BLOCK)
        mean = mean_s[rows]
        if p95_s is None:
            out[rows] = mean > limit_s
            continue
        p95 = p95_s[rows]
        sd = log_sd(mean, p95)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.log(p95 / limit_s) / sd - Z95
        out[rows] = np.where(sd > 0, normal_cdf(np.where(sd > 0, z, 0.0)), mean > limit_s)
    return out


def percentile_95(mean_s: Float64Array, p95_s: Float64Array | None) -> float:
    """Seconds that 95% of a batch's requests (n,) stay below, to six digits."""
    if p95_s is None:
        return float(np.quantile(mean_s, 1 - ALLOWED_EXCESS, method="inverted_cdf"))
    low, high = 0.0, float(max(p95_s.max(), mean_s.max()))
    if high == 0 or float(exceedance(mean_s, p95_s, high).mean()) > ALLOWED_EXCESS:
        return high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if float(exceedance(mean_s, p95_s, middle).mean()) <= ALLOWED_EXCESS:
            high = middle
        else:
            low = middle
    return high


def normal_cdf(z: FloatArray) -> FloatArray:
    """The normal distribution function, to 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""
    x = np.abs(z) / np.sqrt(2.0)
    t = 1 / (1 + 0.3275911 * x)
    poly = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    tail = poly * np.exp(-x * x) / 2
    out: FloatArray = np.where(z > 0, 1 - tail, tail)
    return out
