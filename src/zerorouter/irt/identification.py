r"""Fixing the rotation and origin that the response model leaves free.

Replacing :math:`\theta` by :math:`R^T(\theta - t)`, :math:`a` by :math:`R^T a` and :math:`d` by
:math:`d + a \cdot t`, with R orthonormal, changes no probability. The convention here:

- the mean ability of the respondents is zero;
- dimension 1 points along the mean discrimination of the items: the general dimension, on
  which more is better for nearly every item;
- the others are the principal axes of the discriminations orthogonal to it, in falling order
  of their share of the logits' variance, each signed so that its largest loading is positive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.irt.calibration import Calibration
from zerorouter.irt.model import Abilities, ItemParameters


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A change of the latent frame that leaves every probability as it was.

    Attributes:
        matrix: (K, K) orthonormal R; new abilities are ``(theta - shift) @ matrix``.
        shift: (K,) the old abilities' origin in the new frame.
    """

    matrix: Float64Array
    shift: Float64Array

    @property
    def on_parameters(self) -> Float64Array:
        """(K+1, K+1) T with new (a, d) = old (a, d) @ T."""
        k = len(self.shift)
        out = np.zeros((k + 1, k + 1))
        out[:k, :k] = self.matrix
        out[:k, k] = self.shift
        out[k, k] = 1.0
        return out

    def abilities(self, abilities: Abilities) -> Abilities:
        """Abilities in the new frame."""
        covariance = np.einsum(
            "ji,mjk,kl->mil", self.matrix, abilities.covariance.astype(np.float64), self.matrix
        )
        return Abilities(
            mean=((abilities.mean - self.shift) @ self.matrix).astype(np.float32),
            covariance=covariance.astype(np.float32),
        )

    def items(self, items: ItemParameters) -> ItemParameters:
        """Items in the new frame."""
        return replace(
            items,
            discrimination=(items.discrimination @ self.matrix).astype(np.float32),
            intercept=(items.intercept + items.discrimination @ self.shift).astype(np.float32),
            effect_covariance=self.covariance(items.effect_covariance),
        )

    def covariance(self, effect_covariance: FloatArray) -> np.ndarray:
        """(K+1, K+1) covariance of (a, d) in the new frame."""
        t = self.on_parameters
        return (t.T @ effect_covariance @ t).astype(np.float32)


def canonical_rotation(items: ItemParameters, abilities: Abilities) -> Rotation:
    """The rotation to the convention of this module."""
    k = items.n_dims
    a = items.discrimination.astype(np.float64)
    shift = abilities.mean.mean(axis=0, dtype=np.float64)
    general = a.mean(axis=0)
    norm = np.linalg.norm(general)
    general = general / norm if norm > 1e-12 else np.eye(k)[0]
    rest = a - np.outer(a @ general, general)
    centred = abilities.mean.astype(np.float64) - shift
    spread = centred.T @ centred / max(abilities.n_respondents, 1)
    # Axes are ordered by variance of the logits: items times the spread of the respondents.
    root = np.linalg.cholesky(spread + 1e-9 * np.eye(k))
    _, _, axes = np.linalg.svd(rest.T @ rest @ root @ root.T)
    matrix = np.linalg.qr(np.column_stack([general, axes.T[:, : k - 1]]))[0] if k > 1 else None
    if matrix is None:
        matrix = np.sign(general).reshape(1, 1)
    turned = a @ matrix
    largest = turned[np.argmax(np.abs(turned), axis=0), np.arange(k)]
    signs = np.where(largest < 0, -1.0, 1.0)
    signs[0] = 1.0 if turned[:, 0].mean() >= 0 else -1.0
    return Rotation(matrix=matrix * signs, shift=shift)


def rotate(calibration: Calibration, rotation: Rotation | None = None) -> Calibration:
    """The same fit in the canonical frame, or in the frame of ``rotation``."""
    turn = rotation or canonical_rotation(calibration.items, calibration.abilities)
    t = turn.on_parameters
    population = calibration.population.astype(np.float64)
    population[-1] -= turn.shift
    regression = calibration.regression
    return replace(
        calibration,
        abilities=turn.abilities(calibration.abilities),
        items=turn.items(calibration.items),
        regression=replace(
            regression,
            weights=(regression.weights @ t).astype(np.float32),
            effect_covariance=turn.covariance(regression.effect_covariance),
        ),
        population=(population @ turn.matrix).astype(np.float32),
    )


def procrustes_alignment(estimate: FloatArray, truth: FloatArray) -> Float64Array:
    """(K, K) orthonormal R that brings ``estimate @ R`` closest to ``truth``, both (n, K).

    Schönemann (1966). For comparing two fits, or a fit with a simulation.
    """
    u, _, vt = np.linalg.svd(np.asarray(estimate, dtype=np.float64).T @ truth)
    out: Float64Array = u @ vt
    return out
