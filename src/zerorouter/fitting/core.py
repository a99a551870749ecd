"""What is learned from evidence, in order: items and respondents, then everything beside them.

Items, respondents and a linear feature regression are calibrated jointly; a nonlinear reading
of the prompts is distilled from that and joins the features of a second calibration
(`distillation`); respondents get leanings along facets of the prompts; what held-out prompts
reveal (probability calibration, the true size of item effects, how much wider to be far from
the records) is measured by cross-fitting and folded into the predictor; domain, answer-length
and support models are fitted beside it. The shipped space and the method `zerorouter` of the
evaluation harness are both fitted here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zerorouter.arrays import Float32Array
from zerorouter.covariates import CovariateTable
from zerorouter.errors import require_extra
from zerorouter.fitting.distillation import distilled, read_by_forest
from zerorouter.fitting.domains import fit_classes
from zerorouter.fitting.evidence import Evidence, FittingSettings, Report
from zerorouter.fitting.lengths import fit_lengths
from zerorouter.fitting.support import fit_familiarity, fit_shift_variance
from zerorouter.irt.calibration import Calibration, CalibrationSettings
from zerorouter.irt.identification import rotate
from zerorouter.irt.leanings import leaning_variance, principal_facets, with_leanings
from zerorouter.irt.model import Abilities, ItemParameters
from zerorouter.irt.population import PopulationFit, fit_population
from zerorouter.irt.problem import CalibrationProblem
from zerorouter.irt.recalibration import CrossFit
from zerorouter.predict.items import LEAST_DISCRIMINATION, ItemPredictor, Standardiser
from zerorouter.predict.neighbours import Prototypes
from zerorouter.space import AnswerStyle, PopulationPrior

# s^2 of a newcomer's leanings at least. What calibrated respondents have in common along a facet
# went into the items, so that their own leanings are smaller than a stranger's.
NEWCOMERS_LEANING = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What came of it.

    Attributes:
        predictor: Prompt features to item parameters and the rest.
        calibration: Items and respondents, in the canonical frame.
        expected: The items as their text predicts them, each out of its fold, with facets.
        abilities: Of the respondents, with their leanings.
        leaning_variance: s^2 of the prior of a newcomer's leanings.
        check: What held-out prompts said.
        population: The prior of new respondents.
        population_fit: The same with its diagnostics.
        styles: Answer lengths of the respondents.
        difficulty_scale: Mean and standard deviation of item intercepts, for lengths.
    """

    predictor: ItemPredictor
    calibration: Calibration
    expected: ItemParameters
    abilities: Abilities
    leaning_variance: float
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
            "leaning_variance": self.leaning_variance,
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
    linear = rotate(problem.calibrate())
    taught = distilled(
        problem, linear, settings.n_units, lambda share: tell("distilling the predictor", share)
    )
    problem = replace(problem, features=np.hstack([taught.columns, problem.features]))
    tell("calibrating items and respondents", 0.5)
    calibration = rotate(problem.calibrate())
    check = problem.cross_fit(
        settings.folds, lambda share: tell("checking on held-out prompts", share)
    )
    weights = check.correct(calibration.regression.weights)
    effect_covariance = _scaled(calibration.regression.effect_covariance, check.spread)
    tell("fitting leanings", 0.0)
    facet_weights = principal_facets(x[scored], settings.n_facets)
    facets = (x[scored] @ facet_weights[:-1] + facet_weights[-1]).astype(np.float32)
    expected = _as_unseen(problem, weights, calibration, check.slope, effect_covariance, facets)
    s2 = leaning_variance(expected, calibration.abilities, problem.scores, problem.groups)
    abilities = with_leanings(expected, calibration.abilities, problem.scores, s2)
    population = fit_population(calibration.abilities.mean, covariates)
    tell("fitting domains", 0.0)
    classes = fit_classes(evidence, x, settings)
    tell("fitting support", 0.0)
    prototypes = Prototypes.fit(
        features.embedding, n_prototypes=settings.n_prototypes, seed=settings.seed
    )
    near, far = fit_shift_variance(
        problem, calibration, x[scored], evidence.tasks[scored], settings.n_facets
    )
    tell("fitting answer lengths", 0.0)
    lengths = fit_lengths(
        evidence,
        x,
        calibration.items.intercept,
        (x @ facet_weights[:-1] + facet_weights[-1]).astype(np.float32),
    )
    hidden, item_weights = taught.collapse(weights)
    predictor = ItemPredictor(
        standardise=standardise,
        item_weights=item_weights,
        hidden=hidden,
        forest=read_by_forest(taught, weights),
        facet_weights=facet_weights,
        class_weights=classes.weights,
        length_weights=lengths.weights,
        class_domain=classes.domain,
        class_block=classes.block,
        domains=evidence.domain_names,
        block_intercepts=_scaled(calibration.block_intercepts, check.slope),
        effect_covariance=effect_covariance,
        shift_variance=(near * check.slope**2, far),
        typical=np.append(
            calibration.items.discrimination.mean(axis=0), calibration.items.intercept.mean()
        ).astype(np.float32),
        familiarity=fit_familiarity(x[scored], facet_weights),
        prototypes=prototypes,
    )
    return Fitted(
        predictor=predictor,
        calibration=calibration,
        expected=expected,
        abilities=abilities,
        leaning_variance=max(s2, NEWCOMERS_LEANING),
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


def _as_unseen(
    problem: CalibrationProblem,
    weights: Float32Array,
    calibration: Calibration,
    slope: float,
    effect_covariance: Float32Array,
    facets: Float32Array,
) -> ItemParameters:
    """The calibrated items as they would be predicted, had nobody answered them."""
    k = calibration.items.n_dims
    beta = problem.features @ weights[:-1] + weights[-1]
    n = len(beta)
    guessing = np.zeros(n) if problem.guessing is None else problem.guessing
    return ItemParameters(
        discrimination=np.hstack(
            [np.maximum(beta[:, :1], LEAST_DISCRIMINATION), beta[:, 1:k]]
        ).astype(np.float32),
        intercept=beta[:, k] + slope * calibration.block_intercepts[problem.blocks],
        guessing=guessing.astype(np.float32),
        effect_scale=np.ones(n, dtype=np.float32),
        shift_variance=np.zeros(n, dtype=np.float32),
        effect_covariance=effect_covariance,
        facets=facets,
    )


def _scaled(values: Float32Array, factor: float) -> Float32Array:
    return (factor * values).astype(np.float32)
