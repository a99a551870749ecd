"""From linear to nonlinear reading: teach out of fold, distil, and hand both to the calibration.

The regression of item parameters on features sees, beside the features, what a student says of
each item, learned without that item's duplicate group. It therefore weighs linear and nonlinear
reading as they will be when serving, where no item has been seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, IntArray
from zerorouter.fitting.student import Student, distil
from zerorouter.fitting.teacher import References, teach
from zerorouter.irt.calibration import Calibration
from zerorouter.irt.problem import CalibrationProblem
from zerorouter.predict.forest import Forest, ForestReading
from zerorouter.predict.student import HiddenLayer

FOLDS = 3
LEAST_PROMPTS = 500  # fewer teach a forest next to nothing, and the reading stays linear
WEIGHT = 10.0  # of a student's column beside a feature's: so that the shared ridge spares it


@dataclass(frozen=True, kw_only=True, eq=False)
class Distilled:
    """What the student says of item parameters, in columns of equal scale.

    Attributes:
        columns: (N, K+1) of the training items, each out of its fold.
        student: Trained on everything.
        teacher: The same; None where there were too few prompts to teach.
        to_columns: (J, K+1) from its outputs to columns.
    """

    columns: Float32Array
    student: Student
    teacher: Forest | None
    to_columns: Float32Array

    @classmethod
    def nothing(cls, n_items: int, n_features: int) -> Distilled:
        """No columns at all: the reading stays linear."""
        return cls(
            columns=np.zeros((n_items, 0), dtype=np.float32),
            student=Student.without_units(n_features),
            teacher=None,
            to_columns=np.zeros((0, 0), dtype=np.float32),
        )

    def read(self, x: Float32Array) -> Float32Array:
        """(N, K+1) columns of unseen prompts with features (N, D)."""
        return np.asarray(self.student(x) @ self.to_columns)

    def collapse(self, weights: Float32Array) -> tuple[HiddenLayer, Float32Array]:
        """Fold item weights (K+1+D+1, K+1), on columns and features, into one network.

        Returns the hidden layer and the weights (D+1, K+1) of its linear part.
        """
        n_columns = self.columns.shape[1]
        through = self.to_columns @ weights[:n_columns]  # (J, K+1)
        linear = weights[n_columns:].copy()
        linear[:-1] += self.student.linear @ through
        linear[-1] += self.student.bias @ through
        return (
            HiddenLayer(
                weights=np.vstack([self.student.hidden, self.student.hidden_bias]),
                readout=(self.student.readout @ through).astype(np.float32),
            ),
            linear.astype(np.float32),
        )


def read_by_forest(taught: Distilled, weights: Float32Array) -> ForestReading | None:
    """The reading that uses the teacher itself; None where there is none."""
    if taught.teacher is None:
        return None
    n_columns = taught.columns.shape[1]
    return ForestReading(
        forest=taught.teacher,
        readout=(taught.to_columns @ weights[:n_columns]).astype(np.float32),
        linear=weights[n_columns:],
    )


def distilled(
    problem: CalibrationProblem,
    calibration: Calibration,
    n_units: int,
    tell: Callable[[float], None] | None = None,
) -> Distilled:
    """Teach and distil on the items of a problem and its (linear) calibration.

    Args:
        problem: The items with their features.
        calibration: Of these items on these features alone.
        n_units: Of the student; 0 leaves the reading linear.
        tell: Called with the share done.
    """
    seed = problem.settings.seed
    if n_units == 0 or len(problem.features) < LEAST_PROMPTS:
        return Distilled.nothing(*problem.features.shape)
    references = References.of(calibration, seed)
    scores = references.expected_scores(calibration, problem.blocks)
    x = problem.features
    fold = _folds(problem.groups, seed)
    outputs = np.empty_like(scores)
    for f in range(FOLDS):
        if tell:
            tell(f / (FOLDS + 1))
        held = fold == f
        if held.any() and not held.all():
            outputs[held] = distil(teach(x[~held], scores[~held], seed), x[~held], n_units, seed)(
                x[held]
            )
        else:
            outputs[held] = 0.0
    if tell:
        tell(FOLDS / (FOLDS + 1))
    to_items = references.to_items
    raw = outputs @ to_items
    scale = np.maximum(raw.std(axis=0), 1e-6)
    to_columns = (to_items * (WEIGHT / scale)).astype(np.float32)
    teacher = teach(x, scores, seed)
    return Distilled(
        columns=outputs @ to_columns,
        student=distil(teacher, x, n_units, seed),
        teacher=teacher.forest(),
        to_columns=to_columns,
    )


def _folds(groups: IntArray, seed: int) -> IntArray:
    _, group = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng([seed, 29]).integers(0, FOLDS, group.max() + 1)
    return np.asarray(fold[group])
