"""How much less is known of prompts unlike the calibrated ones."""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import Float32Array, IntArray
from zerorouter.irt.calibration import Calibration
from zerorouter.irt.leanings import principal_facets
from zerorouter.irt.problem import CalibrationProblem
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.predict.familiarity import QUANTILES, Familiarity

RIDGE = 0.3  # lambda of the leverage, beside features of variance one
HELD_OUT = 5  # every fifth prompt measures what is ordinary
FOLDS = 5
MOST_WEIGHT = 100  # items of a task that count
LEAST = 5  # items of a task whose mean error says something
FOREIGN = 4.0  # variance of the intercept of a wholly foreign kind over that among known items,
SURE = 3  # believed as if that many foreign kinds had been seen


def fit_familiarity(x: Float32Array, facet_weights: Float32Array) -> Familiarity:
    """What is ordinary among prompts.

    Args:
        x: (N, D) their standardised features.
        facet_weights: (D+1, R) readout of their leading principal components.
    """
    held = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
    if held.sum() < 2:
        held = np.zeros(len(x), dtype=np.bool_)
    # The components that ordinary leverages are measured with have not seen these prompts.
    own = principal_facets(x[~held], facet_weights.shape[1])
    measured = x[held] if held.any() else x
    leverages = Familiarity(
        discount=_discount(x[~held], own), ordinary=np.zeros(0, dtype=np.float32)
    ).leverages(measured, measured @ own[:-1] + own[-1])
    return Familiarity(
        discount=_discount(x, facet_weights),
        ordinary=np.quantile(leverages, np.linspace(0, 1, QUANTILES)).astype(np.float32),
    )


def _discount(x: Float32Array, facet_weights: Float32Array) -> Float32Array:
    """(R,) see `Familiarity`."""
    facets = x @ facet_weights[:-1] + facet_weights[-1]
    length = np.square(facet_weights[:-1].astype(np.float64)).sum(axis=0)
    along = facets.var(axis=0, dtype=np.float64) / length  # eigenvalues: facets are rescaled
    return np.asarray(along / (along + RIDGE) / length, dtype=np.float32)


def fit_shift_variance(
    problem: CalibrationProblem,
    calibration: Calibration,
    x: Float32Array,
    tasks: IntArray,
    n_facets: int,
) -> tuple[float, float]:
    """How far whole kinds of prompts lie from their prediction, near and far from the records.

    Item intercepts are predicted twice by regressions that did not see them: leaving out
    random groups of prompts, and leaving out whole tasks. The squared mean error of a task, less
    what its finite number of items explains, is ``near`` on average over the former, and in the
    latter exceeds it by ``far`` times the squared strangeness. Returns (near, far).

    Records of a few tasks tell next to nothing of foreign ones. Such kinds are therefore taken to
    differ among themselves by more than known items do (`FOREIGN`) until tasks left out say
    otherwise.

    Args:
        problem: The items and their duplicate groups.
        calibration: Of these items.
        x: (N, D) their standardised features.
        tasks: (N,)
        n_facets: Components that familiarity looks at.
    """
    rng = np.random.default_rng(problem.settings.seed)
    by_group = rng.integers(0, FOLDS, int(problem.groups.max()) + 1)[problem.groups]
    by_task = rng.integers(0, FOLDS, int(tasks.max()) + 1)[tasks]
    intercept = calibration.items.intercept.astype(np.float64)
    variance = float(np.var(intercept))
    slack = max(float(calibration.regression.ridge[-1]), 1e-3)
    noise = np.array([variance])
    near = 0.0
    top, bottom = SURE * MOST_WEIGHT * FOREIGN * variance, float(SURE * MOST_WEIGHT)
    for fold, whole_tasks in ((by_group, False), (by_task, True)):
        # What the student says of an item was learned from others of its task.
        seen = x if whole_tasks else problem.features
        strange, excess, weight = [], [], []
        for f in np.unique(fold):
            held = fold == f
            if held.all():
                continue
            weights, _, _ = RidgeRegression(seen[~held]).fit(
                intercept[~held, None].astype(np.float32), noise, noise / slack
            )
            facets = principal_facets(x[~held], n_facets)
            others = fit_familiarity(x[~held], facets)
            leverage = others.leverages(x[held], x[held] @ facets[:-1] + facets[-1])
            rim = np.array([others.strangeness(h) for h in leverage.tolist()])
            read = seen[held] @ weights[:-1, 0] + weights[-1, 0]
            error = intercept[held] - ((1 - rim) * read + rim * float(intercept[~held].mean()))
            labels = tasks[held]
            for task in np.unique(labels):
                of_task = labels == task
                n = int(of_task.sum())
                if n < LEAST:
                    continue
                strange.append(float(np.square(rim[of_task]).mean()))
                excess.append(float(error[of_task].mean() ** 2 - error[of_task].var() / n))
                weight.append(float(min(n, MOST_WEIGHT)))
        s, e, w = np.array(strange), np.array(excess), np.array(weight)
        if whole_tasks:
            top, bottom = top + float(w * s @ (e - near)), bottom + float(w * s @ s)
        elif len(e):
            near = max(float(w @ e / w.sum()), 0.0)
    return near, max(top / bottom, 0.0)
