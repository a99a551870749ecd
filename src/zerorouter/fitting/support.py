"""How much less is known of prompts unlike the calibrated ones."""

from __future__ import annotations

import math

import numpy as np

from zerorouter.arrays import Float32Array, IntArray
from zerorouter.irt.calibration import Calibration
from zerorouter.irt.problem import CalibrationProblem
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.predict.neighbours import Prototypes, strangeness

N_PROTOTYPES = 128  # enough to tell near from far ten times over


def fit_shift_variance(
    problem: CalibrationProblem,
    calibration: Calibration,
    tasks: IntArray,
    embedding: Float32Array,
) -> tuple[float, float]:
    """How far whole kinds of prompts lie from their prediction, near and far from the records.

    Item intercepts are predicted twice by regressions that did not see them: leaving out
    random groups of prompts, and leaving out whole tasks. The squared mean error of a task, less
    what its finite number of items explains, is regressed on its strangeness with both
    coefficients kept at zero or above. Returns them as (near, far).
    """
    from scipy.optimize import nnls

    rng = np.random.default_rng(problem.settings.seed)
    by_group = rng.integers(0, 5, int(problem.groups.max()) + 1)[problem.groups]
    by_task = rng.integers(0, 5, int(tasks.max()) + 1)[tasks]
    intercept = calibration.items.intercept
    slack = max(float(calibration.regression.ridge[-1]), 1e-3)
    target = intercept[:, None]
    noise = np.array([float(np.var(intercept))])
    rows, excess, weight = [], [], []
    for fold in (by_group, by_task):
        for f in np.unique(fold):
            held = fold == f
            if held.all():
                continue
            weights, _, _ = RidgeRegression(problem.features[~held]).fit(
                target[~held], noise, noise / slack
            )
            error = intercept[held] - (problem.features[held] @ weights[:-1, 0] + weights[-1, 0])
            others = Prototypes.fit(
                embedding[~held], n_prototypes=N_PROTOTYPES, seed=problem.settings.seed
            )
            labels = tasks[held]
            for task in np.unique(labels):
                of_task = np.flatnonzero(labels == task)
                n = len(of_task)
                if n < 5:
                    continue
                support = [others.support(row) for row in embedding[held][of_task[:40]]]
                rows.append([1.0, float(strangeness(np.array(support)).mean())])
                excess.append(float(error[of_task].mean() ** 2 - error[of_task].var() / n))
                weight.append(math.sqrt(min(n, 100)))
    if len(rows) < 10:
        return 0.05, 1.0  # too few tasks to learn from; a wide guess for strangers
    w = np.array(weight)
    solution, _ = nnls(np.array(rows) * w[:, None], np.array(excess) * w)
    return float(solution[0]), float(solution[1])
