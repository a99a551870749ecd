r"""Leanings: what sets a respondent apart beyond its ability, along facets of the prompts.

A facet :math:`\psi_i \in R^R` of an item is read from its text; a respondent's leanings
:math:`w_u \sim N(0, s^2 I)` add :math:`\psi_i \cdot w_u` to its logit: the random
person-by-item-property interactions of explanatory item response theory (De Boeck & Wilson
2004, ch. 6). The prior gates them: a respondent of few answers keeps leanings near 0, one of
hundreds opens them up. Facets are scaled to a mean square length of 1, so that
:math:`s^2` is the variance that leanings add to the logit of an average item.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from zerorouter.irt.model import Abilities, ItemParameters, forecast

CANDIDATES = (0.0, 0.1, 0.3, 1.0, 3.0)
MOST_ANSWERS = 4000  # per respondent; a spread-out sample says enough of so few directions
NEWTON_STEPS = 4
PARTS = 2


def principal_facets(features: FloatArray, n_facets: int) -> Float32Array:
    """Weights (D+1, R) of the facets: leading principal components of features (N, D).

    Fewer than ``n_facets`` where the features have fewer dimensions.
    """
    x = np.asarray(features, dtype=np.float64)
    centre = x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True).reshape(len(centre), -1))
    n = min(n_facets, int((values > 1e-9).sum()))
    lead = vectors[:, ::-1][:, :n]
    # The sign of an eigenvector is arbitrary; the same data are to give the same bytes.
    lead = lead * np.where(lead[np.abs(lead).argmax(axis=0), np.arange(n)] < 0, -1.0, 1.0)
    lead /= max(float(np.sqrt(values[::-1][:n].sum())), 1e-9)
    return np.vstack([lead, -centre @ lead]).astype(np.float32)


def with_leanings(
    items: ItemParameters, abilities: Abilities, scores: FloatArray, variance: float
) -> Abilities:
    """Abilities with the posterior modes of their leanings.

    Args:
        items: (N, K) items with facets (N, R); uncertain ones count for less.
        abilities: Of M respondents.
        scores: (M, N) in [0, 1] with NaN.
        variance: s^2; 0 for no leanings.
    """
    assert items.facets is not None
    facets = items.facets.astype(np.float64)
    m, r = abilities.n_respondents, facets.shape[1]
    leanings, left = np.zeros((m, r)), np.full(m, variance)
    if variance > 0:
        for u in range(m):
            answered = np.flatnonzero(~np.isnan(scores[u]))
            answered = answered[:: max(1, len(answered) // MOST_ANSWERS)]
            if len(answered):
                mode, trace = _mode(
                    items.take(answered),
                    abilities.take(slice(u, u + 1)),
                    scores[u, answered],
                    facets[answered],
                    variance,
                )
                leanings[u], left[u] = mode, trace / r
    return Abilities(
        mean=abilities.mean,
        covariance=abilities.covariance,
        leanings=leanings.astype(np.float32),
        leaning_variance=left.astype(np.float32),
    )


def leaning_variance(
    items: ItemParameters, abilities: Abilities, scores: FloatArray, groups: IntArray
) -> float:
    """The s^2 under which leanings learned on some prompts forecast the others best.

    Args:
        items: (N, K) items as predicted without their own answers, with facets.
        abilities: Of M respondents.
        scores: (M, N) in [0, 1] with NaN.
        groups: (N,) duplicate groups, which are not cut.
    """
    _, group = np.unique(groups, return_inverse=True)
    part = np.random.default_rng(41).integers(0, PARTS, group.max() + 1)[group]
    losses = [
        sum(_held_out_loss(items, abilities, scores, part == p, s2) for p in range(PARTS))
        for s2 in CANDIDATES
    ]
    return CANDIDATES[int(np.argmin(losses))]


def _held_out_loss(
    items: ItemParameters, abilities: Abilities, scores: FloatArray, held: BoolArray, s2: float
) -> float:
    kept = np.where(held, np.nan, scores)
    learned = with_leanings(items, abilities, kept, s2)
    p = forecast(items.take(held), learned).p_correct.T.astype(np.float64)
    y = np.asarray(scores[:, held], dtype=np.float64)
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return float(-np.nansum(y * np.log(p) + (1 - y) * np.log1p(-p)))


def _mode(
    items: ItemParameters,
    respondent: Abilities,
    y: FloatArray,
    facets: Float64Array,
    variance: float,
) -> tuple[Float64Array, float]:
    """Newton's method from 0; returns the mode (R,) and the trace of the posterior covariance."""
    told = forecast(_without_facets(items), respondent)
    spread = told.effect_variance[:, 0] + told.error_variance[:, 0]
    damping = 1 / np.sqrt(1 + np.pi / 8 * spread.astype(np.float64))
    offset = told.logit[:, 0].astype(np.float64)
    floor = items.guessing.astype(np.float64)
    prior = np.eye(facets.shape[1]) / variance
    w = np.zeros(facets.shape[1])
    information = prior
    for _ in range(NEWTON_STEPS):
        sigma = 1 / (1 + np.exp(-np.clip((offset + facets @ w) * damping, -30, 30)))
        p = np.clip(floor + (1 - floor) * sigma, 1e-9, 1 - 1e-9)
        rise = (1 - floor) * sigma * (1 - sigma) * damping
        force = (y - p) * rise / (p * (1 - p))
        weight = rise**2 / (p * (1 - p))
        information = (facets.T * weight) @ facets + prior
        w = w + np.linalg.solve(information, facets.T @ force - w / variance)
    return w, float(np.trace(np.linalg.inv(information)))


def _without_facets(items: ItemParameters) -> ItemParameters:
    return replace(items, facets=None)
