"""Disjoint sets: which things hang together through pairwise links."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class DisjointSets:
    """A union-find over ``0 .. size - 1`` with path halving."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        """The representative of the set ``member`` lies in: its smallest member."""
        parent = self._parent
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def union(self, left: int, right: int) -> None:
        """Join the sets of ``left`` and ``right``."""
        left, right = self.find(left), self.find(right)
        # The smaller index stays the representative, so labels do not depend on link order.
        self._parent[max(left, right)] = min(left, right)

    def labels(self) -> NDArray[np.int32]:
        """Set numbers ``0, 1, ...`` in order of first appearance, shape (size,)."""
        roots = np.fromiter(
            (self.find(member) for member in range(len(self._parent))),
            dtype=np.int32,
            count=len(self._parent),
        )
        # A representative is the smallest member, so sorted roots are in order of appearance.
        return np.unique(roots, return_inverse=True)[1].astype(np.int32)
