"""What is learned from evidence, in order: items and respondents, then everything beside them.

Items, respondents and the feature regression are calibrated jointly; what held-out prompts
reveal (probability calibration, the true size of item effects, how much wider to be far from
the records) is measured by cross-fitting and folded into the predictor; domain, answer-length
and support models are fitted beside it. The shipped space and the method `zerorouter` of the
evaluation harness are both fitted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zerorouter.arrays import Float32Array
from zerorouter.covariates import CovariateTable
from zerorouter.errors import require_extra
from zerorouter.fitting.domains import fit_classes
from zerorouter.fitting.evidence import Evidence, FittingSettings, Report
from zerorouter.fitting.lengths import fit_lengths
from zerorouter.fitting.support import fit_shift_variance
from zerorouter.irt.calibration import Calibration, CalibrationSettings
from zerorouter.irt.identification import rotate
from zerorouter.irt.population import PopulationFit, fit_population
from zerorouter.irt.problem import CalibrationProblem
from zerorouter.irt.recalibration import CrossFit
from zerorouter.predict.items import ItemPredictor, Standardiser
from zerorouter.predict.neighbours import Prototypes
from zerorouter.space import AnswerStyle, PopulationPrior


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What came of it.

    Attributes:
        predictor: Prompt features to item parameters and the rest.
        calibration: Items and respondents, in the canonical frame.
        check: What held-out prompts said.
        population: The prior of new respondents.
        population_fit: The same with its diagnostics.
        styles: Answer lengths of the respondents.
        difficulty_scale: Mean and standard deviation of item intercepts, for lengths.
    """

    predictor: ItemPredictor
    calibration: Calibration
    check: CrossFit
    population: PopulationPrior
    population_fit: PopulationFit
    styles: AnswerStyle
    difficulty_scale: tuple[float, float]

    def facts(self) -> dict[str, Any]:
        """Diagnostics for a manifest."""
        return {
            "n_responses": self.calibration.n_responses,
            "n_items": self.calibration.items.n_items,
            "log_loss": round(self.calibration.log_loss, 5),
            "status": self.calibration.status.name,
            "n_iterations": self.calibration.n_iterations,
            "cross_fit": self.check.facts(),
            "shift_variance": [round(v, 4) for v in self.predictor.shift_variance],
            "population": {
                "penalty": round(self.population_fit.penalty, 4),
                "explained_left_out": round(self.population_fit.explained, 4),
            },
        }


def fit(evidence: Evidence, settings: FittingSettings, report: Report | None = None) -> Fitted:
    """Learn a predictor and the respondents' places from evidence.

    Raises:
        CalibrationError: the evidence cannot carry a fit.
        MissingExtraError: scipy or scikit-learn is missing (the extra ``fit``).
    """
    require_extra("scipy", "fit", "calibrating a space")
    require_extra("sklearn", "fit", "calibrating a space")
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # One thread: sums keep one order, so that a seed gives the same space on every machine, and
    # the many small steps do not wait for threads that a busy machine does not run (2 s became
    # 35 s on two cores).
    with threadpool_limits(limits=1):
        return _fit(evidence, settings, report or (lambda _stage, _share: None))


def _fit(evidence: Evidence, settings: FittingSettings, tell: Report) -> Fitted:
    scored, features = evidence.scored, evidence.features
    standardise = Standardiser.fit(features)
    x = standardise(features)
    table = CovariateTable.fit(evidence.cards)
    covariates = table.rows(evidence.cards)
    blocks = np.unique(evidence.datasets[scored], return_inverse=True)[1]
    problem = CalibrationProblem(
        scores=evidence.scores[:, scored],
        features=x[scored],
        blocks=blocks,
        groups=evidence.groups[scored],
        guessing=features.guess_floor[scored] if settings.guess_floor else None,
        covariates=covariates,
        settings=CalibrationSettings(
            n_dims=settings.n_dims, max_iterations=settings.max_iterations, seed=settings.seed
        ),
    )
    tell("calibrating items and respondents", 0.0)
    calibration = rotate(problem.calibrate())
    check = problem.cross_fit(
        settings.folds, lambda share: tell("checking on held-out prompts", share)
    )
    population = fit_population(calibration.abilities.mean, covariates)
    tell("fitting domains", 0.0)
    classes = fit_classes(evidence, x, settings)
    tell("fitting support", 0.0)
    prototypes = Prototypes.fit(
        features.embedding, n_prototypes=settings.n_prototypes, seed=settings.seed
    )
    near, far = fit_shift_variance(
        problem, calibration, evidence.tasks[scored], features.embedding[scored]
    )
    tell("fitting answer lengths", 0.0)
    lengths = fit_lengths(evidence, x, calibration.items.intercept)
    predictor = ItemPredictor(
        standardise=standardise,
        item_weights=check.correct(calibration.regression.weights),
        class_weights=classes.weights,
        length_weights=lengths.weights,
        class_domain=classes.domain,
        class_block=classes.block,
        domains=evidence.domain_names,
        block_intercepts=_scaled(calibration.block_intercepts, check.slope),
        effect_covariance=_scaled(calibration.regression.effect_covariance, check.spread),
        shift_variance=(near * check.slope**2, far * check.slope**2),
        prototypes=prototypes,
    )
    return Fitted(
        predictor=predictor,
        calibration=calibration,
        check=check,
        population=PopulationPrior(
            table=table,
            weights=population.weights.astype(np.float32),
            covariance=population.covariance.astype(np.float32),
        ),
        population_fit=population,
        styles=lengths.styles,
        difficulty_scale=lengths.difficulty_scale,
    )


def _scaled(values: Float32Array, factor: float) -> Float32Array:
    return (factor * values).astype(np.float32)
