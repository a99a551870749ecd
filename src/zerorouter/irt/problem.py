"""A calibration with what is needed to refit it on parts: held-out checks come from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from zerorouter.irt.calibration import Calibration, CalibrationSettings, calibrate
from zerorouter.irt.model import ItemParameters, forecast
from zerorouter.irt.recalibration import CrossFit, HeldOut, recalibrate


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationProblem:
    """Scored items ready to be calibrated, whole or in part.

    Attributes:
        scores: (M, N) with NaN.
        features: (N, D) standardised.
        blocks: (N,) data set of each item, 0-based without gaps.
        groups: (N,) duplicate groups, which folds never cut.
        guessing: (N,) guess floors, or None.
        covariates: (M, C) standardised covariates of the respondents, or None.
        settings: How to calibrate.
    """

    scores: FloatArray
    features: Float32Array
    blocks: IntArray
    groups: IntArray
    guessing: Float32Array | None = None
    covariates: Float64Array | None = None
    settings: CalibrationSettings = field(default_factory=CalibrationSettings)

    def calibrate(self, kept: BoolArray | None = None) -> Calibration:
        """Calibrate all items, or those where ``kept``."""
        at: BoolArray | slice = slice(None) if kept is None else kept
        return calibrate(
            self.scores[:, at],
            features=self.features[at],
            covariates=self.covariates,
            blocks=self.blocks[at],
            guessing=None if self.guessing is None else self.guessing[at],
            settings=self.settings,
        )

    def predicted(self, calibration: Calibration, where: BoolArray) -> ItemParameters:
        """Items as the regression predicts them, as if they had no responses."""
        n, k = int(where.sum()), calibration.items.n_dims
        weights = calibration.regression.weights
        beta = self.features[where] @ weights[:-1] + weights[-1]
        guessing = np.zeros(n) if self.guessing is None else self.guessing[where]
        return ItemParameters(
            discrimination=beta[:, :k],
            intercept=beta[:, k] + calibration.block_intercepts[self.blocks[where]],
            guessing=guessing.astype(np.float32),
            effect_scale=np.ones(n, dtype=np.float32),
            shift_variance=np.zeros(n, dtype=np.float32),
            effect_covariance=calibration.regression.effect_covariance,
        )

    def cross_fit(self, n_folds: int, tell: Callable[[float], None] | None = None) -> CrossFit:
        """Refit without each fold of prompt groups and compare forecasts with its responses.

        ``tell`` is called with the share done.
        """
        rng = np.random.default_rng(self.settings.seed)
        _, group = np.unique(self.groups, return_inverse=True)
        fold = rng.integers(0, n_folds, group.max() + 1)[group]
        held_out = []
        for f in range(n_folds):
            if tell:
                tell(f / n_folds)
            held = fold == f
            if not held.any() or held.all():
                continue
            part = self.calibrate(~held)
            items = self.predicted(part, held)
            told = forecast(items, part.abilities)
            held_out.append(HeldOut.of(items, told, part.abilities, self.scores[:, held].T))
        return recalibrate(held_out)
