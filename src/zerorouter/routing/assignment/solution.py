"""What a solver hands back, and how it says that there is nothing to hand back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import IntArray
from zerorouter.routing.assignment.programme import Prices, Programme


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """A choice that keeps every bound, and a proof of how good it is.

    Attributes:
        choice: (N,) column of the model for each prompt.
        objective: Sum of its gains.
        bound: No choice that keeps the bounds has a larger sum.
        prices: The multipliers.
        exact: Whether it was proven optimal by branch and bound.
    """

    choice: IntArray
    objective: float
    bound: float
    prices: Prices
    exact: bool = False

    @property
    def gap(self) -> float:
        """How far the objective may lie below the best, relative to the bound; >= 0."""
        return relative_gap(self.objective, self.bound)


class Unreachable(Exception):  # noqa: N818  # control flow between solvers, no error for users
    """No choice keeps the bounds, or none was found.

    Attributes:
        proven: Whether it is known that there is none.
    """

    def __init__(self, *, proven: bool) -> None:
        self.proven = proven
        super().__init__("proven" if proven else "not found")


def relative_gap(objective: float, bound: float) -> float:
    """``(bound - objective) / |bound|``, 0 where they are equal."""
    if bound <= objective:
        return 0.0
    return (bound - objective) / max(abs(bound), np.finfo(np.float64).tiny)


def no_prices(programme: Programme) -> Prices:
    """Prices at which nothing costs anything."""
    m = programme.n_models
    return Prices(sides=np.zeros(len(programme.sides)), requests=np.zeros(m), tokens=np.zeros(m))
