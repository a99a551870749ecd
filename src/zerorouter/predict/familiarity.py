"""How close a prompt lies to the calibrated ones.

Measured by *leverage*, the quantity that the variance of a ridge regression's prediction is
proportional to (Hoerl & Kennard 1970): with eigenvalues :math:`s_i` of the features' covariance
and :math:`z_i` the prompt's components,

.. math:: h(x) = |x|^2 - \\sum_i \\frac{s_i}{s_i + \\lambda} z_i^2 .

Large is what points where the calibrated prompts do not, and what is large altogether. Only the
leading components are looked at, which are the facets that the predictor reads anyway. Of the
measures tried it tells prompts of foreign tasks best (docs/experiments.md).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zerorouter.arrays import Float32Array, FloatArray

QUANTILES = 201  # in steps of half a percent
OUTSKIRTS, BEYOND = 195, 199  # the quantiles between which prompts turn strange


@dataclass(frozen=True, kw_only=True, eq=False)
class Familiarity:
    """What is ordinary among the calibrated prompts.

    Attributes:
        discount: (R,) how much of a squared facet does not count.
        ordinary: (201,) rising quantiles of the calibrated prompts' leverages.
    """

    discount: Float32Array
    ordinary: Float32Array

    def leverage(self, x: Float32Array, facets: Float32Array) -> float:
        """Of one prompt with standardised features (D,) and facets (R,)."""
        return float(np.dot(x, x)) - float(np.dot(np.square(facets), self.discount))

    def leverages(self, x: FloatArray, facets: FloatArray) -> FloatArray:
        """(N,) of prompts with standardised features (N, D) and facets (N, R)."""
        return np.asarray(np.square(x).sum(axis=1) - np.square(facets) @ self.discount)

    def support(self, leverage: float) -> float:
        """Share of the calibrated prompts whose leverage is larger: 0.5 is an ordinary prompt,
        0 is unlike anything calibrated."""
        return 1.0 - min(bisect_left(self._quantiles, leverage) / (QUANTILES - 1), 1.0)

    def strangeness(self, leverage: float) -> float:
        """How foreign a prompt is, in [0, 1]: 0 for all but one in forty of the calibrated.

        Where a prompt lies among the others tells little of how well it is predicted; the error
        of whole kinds of prompts sets in at the rim (docs/experiments.md).
        """
        first, width = self._rim
        return min(max((leverage - first) / width, 0.0), 1.0)

    @cached_property
    def _quantiles(self) -> list[float]:
        """The quantiles in plain floats, a tenth of the time to search."""
        quantiles: list[float] = self.ordinary.tolist()
        return quantiles

    @cached_property
    def _rim(self) -> tuple[float, float]:
        first, last = float(self.ordinary[OUTSKIRTS]), float(self.ordinary[BEYOND])
        return first, max(last - first, 1e-6)
