"""Multinomial regression of data set and domain on prompt features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, IntArray
from zerorouter.fitting.evidence import Evidence, FittingSettings

INVERSE_PENALTY = 0.002


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """C classes, each a pair of data set and domain.

    Attributes:
        weights: (D+1, C) readout of the class logits, the last row the constant.
        domain: (C,) domain of each class.
        block: (C,) calibrated block of each class, -1 where its data set has none.
    """

    weights: Float32Array
    domain: IntArray
    block: IntArray


def fit_classes(evidence: Evidence, x: Float32Array, settings: FittingSettings) -> Classes:
    """Fit the classes of prompts with standardised features ``x`` (N, D)."""
    if not settings.fit_domains:
        return Classes(
            weights=np.zeros((x.shape[1] + 1, 1), dtype=np.float32),
            domain=np.zeros(1, dtype=np.int32),
            block=np.full(1, -1, dtype=np.int32),
        )
    from sklearn.linear_model import LogisticRegression

    n_domains = len(evidence.domain_names)
    pairs = evidence.datasets.astype(np.int64) * n_domains + evidence.domains
    classes, label = np.unique(pairs, return_inverse=True)
    weights = np.zeros((x.shape[1] + 1, len(classes)), dtype=np.float32)
    if len(classes) > 1:
        model = LogisticRegression(
            C=INVERSE_PENALTY, max_iter=200, tol=1e-3, random_state=settings.seed
        )
        model.fit(x, label)
        if len(classes) == 2:  # sklearn keeps one row for two classes
            weights[:-1, 1], weights[-1, 1] = model.coef_[0], model.intercept_[0]
        else:
            weights[:-1], weights[-1] = model.coef_.T, model.intercept_
    calibrated = np.unique(evidence.datasets[evidence.scored])
    block_of = {int(dataset): block for block, dataset in enumerate(calibrated)}
    block = np.array([block_of.get(int(dataset), -1) for dataset in classes // n_domains])
    return Classes(
        weights=weights,
        domain=(classes % n_domains).astype(np.int32),
        block=block.astype(np.int32),
    )
