"""Probability calibration: what held-out prompts reveal of a predictor.

Two things are measured. How far prompts lie from their prediction: answers of many
respondents to one prompt err together, by more than chance, and that excess is the variance
of the item effects (a moment estimator of a random effect). Then an offset and a slope of the
logit, by maximum likelihood (Platt 1999), with that variance integrated out. The order matters:
from the likelihood of single answers alone, slope and variance cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from zerorouter.errors import CalibrationError
from zerorouter.irt.model import Abilities, ItemParameters, ResponseForecast

ROUNDS = 4  # alternations of variance and line; they settle within two or three
NEWTON_STEPS = 25


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """What held-out prompts said of the predictor.

    The predicted logit mu with variance v becomes ``offset + slope mu`` with ``spread v``.

    Attributes:
        offset: In logits.
        slope: 1 where forecasts are neither over- nor underconfident.
        spread: Factor on the item effects' covariance.
        log_loss: Of held-out cells, after the correction, in nats.
        log_loss_before: Before it.
    """

    offset: float
    slope: float
    spread: float
    log_loss: float
    log_loss_before: float

    def correct(self, weights: Float32Array) -> Float32Array:
        """Item weights (D+1, K+1) with the line folded in."""
        out = weights * np.float32(self.slope)
        out[-1, -1] += np.float32(self.offset)
        return out

    def facts(self) -> dict[str, float]:
        """For a manifest."""
        return {name: round(value, 5) for name, value in self.__dict__.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Forecasts of n prompts that had no part in the fit, with what was answered.

    Attributes:
        logit: (n, M) forecast logits at the posterior means.
        variance: (n, M) variance of the logit by the item effects alone.
        direction: (M, K+1) extended abilities (theta, 1), scaled by the root of Psi: their
            products are the covariances of one item's logits between respondents.
        floor: (n, 1) guess floors.
        score: (n, M) answers, 0 where not observed.
        observed: (n, M)
    """

    logit: Float64Array
    variance: Float64Array
    direction: Float64Array
    floor: Float64Array
    score: Float64Array
    observed: BoolArray

    @classmethod
    def of(
        cls,
        items: ItemParameters,
        told: ResponseForecast,
        abilities: Abilities,
        scores: FloatArray,
    ) -> HeldOut:
        """Collect forecasts and scores, both (n, M)."""
        theta = abilities.mean.astype(np.float64)
        extended = np.column_stack([theta, np.ones(len(theta))])
        values, vectors = np.linalg.eigh(items.effect_covariance.astype(np.float64))
        direction = extended @ (vectors * np.sqrt(np.maximum(values, 0.0)))
        observed = ~np.isnan(scores)
        return cls(
            logit=told.logit.astype(np.float64),
            variance=np.broadcast_to(np.sum(direction**2, axis=1), scores.shape),
            direction=direction,
            floor=items.guessing[:, None].astype(np.float64),
            score=np.where(observed, scores, 0.0).astype(np.float64),
            observed=observed,
        )

    def probability(self, offset: float, slope: float, spread: float) -> tuple[Float64Array, ...]:
        """P(correct) and its derivative in the logit, both (n, M)."""
        damping = 1 / np.sqrt(1 + np.pi / 8 * spread * self.variance)
        sigma = 1 / (1 + np.exp(-(offset + slope * self.logit) * damping))
        rise = (1 - self.floor) * sigma * (1 - sigma) * damping
        return self.floor + (1 - self.floor) * sigma, rise


def recalibrate(held_out: Sequence[HeldOut]) -> CrossFit:
    """The correction that the held-out prompts call for.

    Raises:
        CalibrationError: there are none.
    """
    if not any(part.observed.any() for part in held_out):
        raise CalibrationError(
            "no prompt could be held out to check the fit on: all of them are near-duplicates of "
            "one another; add records of other prompts"
        )
    offset, slope, spread = 0.0, 1.0, 1.0
    before = _log_loss(held_out, offset, slope, spread)
    for _ in range(ROUNDS):
        spread = _spread(held_out, offset, slope, spread)
        offset, slope = _line(held_out, offset, slope, spread)
    return CrossFit(
        offset=offset,
        slope=slope,
        spread=spread,
        log_loss=_log_loss(held_out, offset, slope, spread),
        log_loss_before=before,
    )


def _spread(held_out: Sequence[HeldOut], offset: float, slope: float, spread: float) -> float:
    """Factor on the item effects' covariance that explains the excess of shared errors.

    With g the derivative of P in the logit and D the directions, the sum S of an item's
    residuals has variance sum(p (1 - p) - spread g^2 v) + spread |sum g D|^2.
    """
    excess = explained = 0.0
    for part in held_out:
        p, rise = part.probability(offset, slope, spread)
        seen = part.observed
        residual = np.where(seen, part.score - p, 0.0).sum(axis=1)  # (n,)
        rise = np.where(seen, rise, 0.0)
        own = np.where(seen, p * (1 - p), 0.0).sum(axis=1)
        shared = np.sum((rise @ part.direction) ** 2, axis=1) - (rise**2 * part.variance).sum(
            axis=1
        )
        excess += float(np.sum(residual**2 - own))
        explained += float(np.sum(shared))
    return float(np.clip(excess / max(explained, 1e-9), 0.05, 20.0))


def _line(
    held_out: Sequence[HeldOut], offset: float, slope: float, spread: float
) -> tuple[float, float]:
    """Offset and slope by Fisher scoring of the likelihood of single answers."""
    line = np.array([offset, slope])
    for _ in range(NEWTON_STEPS):
        gradient, information = np.zeros(2), np.eye(2) * 1e-6
        for part in held_out:
            p, rise = part.probability(line[0], line[1], spread)
            p = np.clip(p, 1e-9, 1 - 1e-9)
            force = np.where(part.observed, (part.score - p) * rise / (p * (1 - p)), 0.0)
            weight = np.where(part.observed, rise**2 / (p * (1 - p)), 0.0)
            gradient += [force.sum(), (force * part.logit).sum()]
            cross = float((weight * part.logit).sum())
            information += [
                [weight.sum(), cross],
                [cross, (weight * part.logit**2).sum()],
            ]
        step = np.linalg.solve(information, gradient)
        line += step
        if np.abs(step).max() < 1e-5:
            break
    return float(line[0]), float(line[1])


def _log_loss(held_out: Sequence[HeldOut], offset: float, slope: float, spread: float) -> float:
    total = count = 0.0
    for part in held_out:
        p = np.clip(part.probability(offset, slope, spread)[0], 1e-6, 1 - 1e-6)
        cells = part.score * np.log(p) + (1 - part.score) * np.log1p(-p)
        total -= float(cells[part.observed].sum())
        count += int(part.observed.sum())
    return total / max(count, 1.0)
