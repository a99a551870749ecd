"""A small network that reads item parameters from standardised features.

One hidden layer of rectified units: :math:`h = \\max(0, W^T x + b)`, read out linearly. It is
distilled from a far larger teacher (`zerorouter.fitting.teacher`) and costs a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array


@dataclass(frozen=True, kw_only=True, eq=False)
class HiddenLayer:
    """The nonlinear part of the reading; D features, H units, K dimensions.

    Attributes:
        weights: (D+1, H), the last row the constant.
        readout: (H, K+1) to the item parameters (a, d).
    """

    weights: Float32Array
    readout: Float32Array

    @classmethod
    def none(cls, n_features: int, n_dims: int) -> HiddenLayer:
        """A layer without units, which leaves the reading linear."""
        return cls(
            weights=np.zeros((n_features + 1, 0), dtype=np.float32),
            readout=np.zeros((0, n_dims + 1), dtype=np.float32),
        )

    @property
    def n_units(self) -> int:
        """H."""
        return int(self.weights.shape[1])
