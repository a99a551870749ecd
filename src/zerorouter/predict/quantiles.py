"""Quantiles of the normal and Student distributions, without scipy, which serving does not need."""

from __future__ import annotations

import math
from functools import lru_cache


@lru_cache(maxsize=256)
def normal_quantile(q: float) -> float:
    """The standard normal quantile, to the last few digits.

    Newton's method on the distribution function `math.erf`, which converges from 0 for every q
    in (1e-12, 1 - 1e-12) since the function is convex below 0 and concave above.

    Raises:
        ValueError: ``q`` is no probability strictly between 0 and 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"a quantile is asked for at {q!r}; wanted a probability between 0 and 1")
    if q > 0.5:  # the lower tail keeps its digits
        return -normal_quantile(1 - q)
    z = 0.0
    for _ in range(200):
        below = 0.5 * math.erfc(-z / math.sqrt(2))
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        # From 0 the steps overshoot where the density has become small: halve the jump.
        step = max(min((below - q) / density, 1.0), -1.0)
        z -= step
        if abs(step) < 1e-14:
            break
    return z


@lru_cache(maxsize=1024)
def student_quantile(q: float, dof: float) -> float:
    """The quantile of Student's t, by the expansion in 1/dof (Abramowitz and Stegun, 26.7.5).

    Within 2% for at least 3 degrees of freedom and q between .01 and .99.
    """
    z, n = normal_quantile(q), max(dof, 2.0)
    z3, z5, z7, z9 = z**3, z**5, z**7, z**9
    return (
        z
        + (z3 + z) / (4 * n)
        + (5 * z5 + 16 * z3 + 3 * z) / (96 * n**2)
        + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n**3)
        + (79 * z9 + 776 * z7 + 1482 * z5 - 1920 * z3 - 945 * z) / (92160 * n**4)
    )
