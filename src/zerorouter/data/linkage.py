"""How data sets hang together: the respondents and the items they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import BoolArray
from zerorouter.data.disjoint import DisjointSets


@dataclass(frozen=True, kw_only=True, eq=False)
class Linkage:
    """What every pair of D data sets has in common.

    One scale for all needs links: two data sets in different components share neither a
    respondent nor an item, so abilities measured on them cannot be compared.

    Attributes:
        datasets: Their names, D of them.
        shared_respondents: Respondents with a score in both, (D, D); the diagonal counts all.
        shared_groups: Duplicate groups with an item in both, (D, D); the diagonal counts all.
            Items of one group need not be equally hard: options and tasks on a text may differ.
        components: Data sets connected by either, largest component first.
    """

    datasets: tuple[str, ...]
    shared_respondents: NDArray[np.int64]
    shared_groups: NDArray[np.int64]
    components: tuple[tuple[str, ...], ...]

    @property
    def connected(self) -> bool:
        """Whether all data sets lie on one scale."""
        return len(self.components) <= 1

    def __str__(self) -> str:
        lines = [f"{len(self.datasets)} data sets in {len(self.components)} component(s)"]
        lines += [f"  {' - '.join(component)}" for component in self.components]
        for i, left in enumerate(self.datasets):
            for j in range(i + 1, len(self.datasets)):
                models, items = self.shared_respondents[i, j], self.shared_groups[i, j]
                if models or items:
                    lines.append(f"  {left} + {self.datasets[j]}: {models} models, {items} items")
        return "\n".join(lines)


def link(
    datasets: tuple[str, ...], respondent_present: BoolArray, group_present: BoolArray
) -> Linkage:
    """Count what data sets share and find the components.

    Args:
        datasets: Names, D of them.
        respondent_present: Whether a respondent has a score in a data set, (M, D).
        group_present: Whether a duplicate group has an item in a data set, (G, D).
    """
    shared_respondents = _overlaps(respondent_present)
    shared_groups = _overlaps(group_present)
    sets = DisjointSets(len(datasets))
    for left, right in np.argwhere((shared_respondents > 0) | (shared_groups > 0)).tolist():
        sets.union(left, right)
    labels = sets.labels()
    components = [
        tuple(name for name, own in zip(datasets, labels, strict=True) if own == label)
        for label in range(int(labels.max(initial=-1)) + 1)
    ]
    return Linkage(
        datasets=datasets,
        shared_respondents=shared_respondents,
        shared_groups=shared_groups,
        components=tuple(sorted(components, key=len, reverse=True)),
    )


def _overlaps(present: BoolArray) -> NDArray[np.int64]:
    """For every pair of columns of ``present`` (R, D), the rows true in both, (D, D)."""
    # Float products go through BLAS; counts below 2**53 are exact.
    as_float = present.astype(np.float64)
    return np.rint(as_float.T @ as_float).astype(np.int64)
