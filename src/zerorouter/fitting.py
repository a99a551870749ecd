"""From evaluation records to a latent space: everything that is learned, in one place.

The order of work: prompts are rendered as requests and read by the code that serves; items,
respondents and the feature regression are calibrated jointly; what held-out prompts reveal
(probability calibration, the true size of item effects, how much wider to be far from the
records) is measured by cross-fitting and folded into the predictor; domain, answer-length and
support models are fitted beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, IntArray
from zerorouter.catalog import ModelSpec, Price
from zerorouter.covariates import CovariateTable
from zerorouter.data.digests import digest_array, question_digest
from zerorouter.data.responses import PromptTable, ResponseMatrix
from zerorouter.errors import CalibrationError, require_extra
from zerorouter.irt.calibration import CalibrationSettings
from zerorouter.irt.identification import rotate
from zerorouter.irt.model import ItemParameters
from zerorouter.irt.population import fit_population
from zerorouter.irt.problem import CalibrationProblem
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.linking import RespondentCard
from zerorouter.predict.domains import DOMAINS, domain_of_task
from zerorouter.predict.encoders import Encoder, StaticEncoder
from zerorouter.predict.features import FeatureReader, PromptFeatures
from zerorouter.predict.items import ItemPredictor, Standardiser
from zerorouter.predict.neighbours import Prototypes
from zerorouter.predict.prompt import Prompt, read_prompt
from zerorouter.predict.templates import render, template_for
from zerorouter.predict.tokens import fit_answer_lengths
from zerorouter.space import AnswerStyle, CalibratedItems, LatentSpace, PopulationPrior

Report = Callable[[str, float], None]  # (what is being done, share done)

CHARS_PER_TOKEN = 4.0
SHORTEST_ANSWER_CHARS = 20  # shorter records are final answers whose reasoning was not kept
# The records leave out the hidden tokens of reasoning models. Until a profile measures them
# they are assumed to write eight times the visible length, give or take a factor e.
REASONING_LENGTH_FACTOR = 8.0
REASONING_LENGTH_SD = 1.0


@dataclass(frozen=True, kw_only=True)
class FittingSettings:
    """How to fit a space.

    Attributes:
        n_dims: K, the number of latent dimensions.
        guess_floor: Whether options set a floor of one over their number.
        folds: Folds of the cross-fit.
        n_prototypes: Centroids that stand for the calibrated prompts.
        preference_datasets: Data sets whose scores are preferences, not correctness; their
            prompts shape domains, lengths and support, their scores nothing.
        length_datasets: Data sets whose answer lengths are learned from; None for all.
        max_iterations: Limit of each calibration.
        seed: Seed of templates, folds and centroids.
    """

    n_dims: int = 3
    guess_floor: bool = True
    folds: int = 5
    n_prototypes: int = 256
    preference_datasets: frozenset[str] = frozenset()
    length_datasets: frozenset[str] | None = None
    max_iterations: int = 200
    seed: int = 0


def fit_space(
    matrix: ResponseMatrix,
    *,
    cards: Mapping[str, RespondentCard] | None = None,
    settings: FittingSettings | None = None,
    encoder: Encoder | None = None,
    provenance: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> LatentSpace:
    """Fit a space to a response matrix.

    Args:
        matrix: Records of one or more data sets, respondents merged by alias.
        cards: What is known of respondents beyond the records' own ``models.csv``.
        settings: How to fit.
        encoder: Another encoder than the packaged static one.
        provenance: Facts to keep with the space, such as data hashes and attributions.
        report: Called with the stage and the share done.

    Raises:
        CalibrationError: the records cannot carry a fit.
        MissingExtraError: scipy or scikit-learn is missing (the extra ``fit``).
    """
    require_extra("scipy", "fit", "calibrating a space")
    require_extra("sklearn", "fit", "calibrating a space")
    chosen = settings or FittingSettings()
    tell = report or (lambda _stage, _share: None)
    scored = _scored_items(matrix, chosen)
    reader = FeatureReader(StaticEncoder.load(), encoder)
    features = _read_features(matrix.prompts, reader, chosen.seed, tell)
    standardise = Standardiser.fit(features)
    x = standardise(features)
    own_cards = [_card_of(matrix, i, cards or {}) for i in range(len(matrix.respondents))]
    table = CovariateTable.fit(own_cards)
    covariates = table.rows(own_cards)
    problem = CalibrationProblem(
        scores=np.asarray(matrix.scores)[:, scored],
        features=x[scored],
        blocks=_dense(matrix.prompts.dataset[scored]),
        groups=matrix.groups[scored],
        guessing=features.guess_floor[scored] if chosen.guess_floor else None,
        covariates=covariates,
        settings=CalibrationSettings(
            n_dims=chosen.n_dims, max_iterations=chosen.max_iterations, seed=chosen.seed
        ),
    )
    tell("calibrating items and respondents", 0.0)
    calibration = rotate(problem.calibrate())
    check = problem.cross_fit(
        chosen.folds, lambda share: tell("checking on held-out prompts", share)
    )
    population = fit_population(calibration.abilities.mean, covariates)
    tell("fitting domains", 0.0)
    class_weights, class_domain, class_block = _fit_classes(matrix.prompts, scored, x, chosen)
    tell("fitting support", 0.0)
    prototypes = Prototypes.fit(
        features.embedding, n_prototypes=chosen.n_prototypes, seed=chosen.seed
    )
    slack = max(float(calibration.regression.ridge[-1]), 1e-3)
    near, far = _shift_variance(
        problem,
        calibration.items.intercept,
        slack,
        _task_labels(matrix.prompts)[scored],
        features.embedding[scored],
        chosen.n_prototypes,
    )
    shift_variance = (near * check.slope**2, far * check.slope**2)
    tell("fitting answer lengths", 0.0)
    difficulty_scale, length_weights, styles = _fit_lengths(
        matrix, scored, x, calibration.items, cards or {}, chosen
    )
    predictor = ItemPredictor(
        standardise=standardise,
        item_weights=check.correct(calibration.regression.weights),
        class_weights=class_weights,
        length_weights=length_weights,
        class_domain=class_domain,
        class_block=class_block,
        domains=tuple(DOMAINS),
        block_intercepts=(check.slope * calibration.block_intercepts).astype(np.float32),
        effect_covariance=(check.spread * calibration.regression.effect_covariance).astype(
            np.float32
        ),
        shift_variance=shift_variance,
        prototypes=prototypes,
    )
    texts, options = matrix.prompts.texts, matrix.prompts.choices
    where = np.flatnonzero(scored)
    digests = digest_array(question_digest(texts[i], options[i] or ()) for i in where)
    facts = {
        "n_responses": calibration.n_responses,
        "n_items": int(scored.sum()),
        "n_respondents": len(matrix.respondents),
        "log_loss": round(calibration.log_loss, 5),
        "status": calibration.status.name,
        "n_iterations": calibration.n_iterations,
        "cross_fit": check.facts(),
        "shift_variance": [round(v, 4) for v in shift_variance],
        "population": {
            "penalty": round(population.penalty, 4),
            "explained_left_out": round(population.explained, 4),
        },
        "linkage": str(matrix.linkage()),
        "assumptions": {
            "reasoning_length_factor": REASONING_LENGTH_FACTOR,
            "reasoning_length_sd_log": REASONING_LENGTH_SD,
        },
        "settings": {
            "n_dims": chosen.n_dims,
            "guess_floor": chosen.guess_floor,
            "folds": chosen.folds,
            "n_prototypes": chosen.n_prototypes,
            "preference_datasets": sorted(chosen.preference_datasets),
            "length_datasets": None
            if chosen.length_datasets is None
            else sorted(chosen.length_datasets),
            "max_iterations": chosen.max_iterations,
            "seed": chosen.seed,
        },
    }
    return LatentSpace(
        predictor=predictor,
        respondents=matrix.respondents,
        abilities=calibration.abilities,
        styles=styles,
        difficulty_scale=difficulty_scale,
        population=PopulationPrior(
            table=table,
            weights=population.weights.astype(np.float32),
            covariance=population.covariance.astype(np.float32),
        ),
        calibrated=CalibratedItems(digests=digests, items=calibration.items),
        encoder_name=reader.encoder_name,
        models=_specs(matrix),
        provenance={**(provenance or {}), "fit": facts},
    )


# -- reading prompts as they will be served -------------------------------------------------


def as_requests(prompts: PromptTable, seed: int) -> list[Prompt]:
    """Each prompt rendered through a template drawn for its id, and read like a request.

    Questions of records come without the instructions and option labels of real requests;
    drawing among many renderings keeps the fit from learning one benchmark's format.
    """
    options = prompts.choices
    out = []
    for i, (prompt_id, text) in enumerate(zip(prompts.ids, prompts.texts, strict=True)):
        style = template_for(prompt_id, seed)
        out.append(read_prompt(render(text, options[i] or (), style, seed=seed)))
    return out


def _read_features(
    prompts: PromptTable, reader: FeatureReader, seed: int, tell: Report
) -> PromptFeatures:
    requests = as_requests(prompts, seed)
    n = len(requests)

    def told() -> Any:
        for i, request in enumerate(requests):
            if i % 256 == 0:
                tell("reading prompts", i / n)
            yield request

    return reader.read_each(told(), n)


def _scored_items(matrix: ResponseMatrix, settings: FittingSettings) -> BoolArray:
    """(N,) whether a prompt's scores enter the fit of P(correct)."""
    names = matrix.prompts.dataset_names
    unknown = settings.preference_datasets - set(names)
    if unknown:
        raise CalibrationError(
            f"no data set named {sorted(unknown)[0]!r} to take as preferences; found: "
            f"{', '.join(names)}"
        )
    preference = np.array([name in settings.preference_datasets for name in names])
    scored: BoolArray = ~preference[matrix.prompts.dataset]
    if len(matrix.respondents) < 2:
        raise CalibrationError(
            f"the records hold {len(matrix.respondents)} respondent; a space needs at least 2 "
            "that answered the same prompts"
        )
    if scored.sum() < 50:
        raise CalibrationError(
            f"{int(scored.sum())} prompts carry scores of correctness; a space needs at least 50"
        )
    return scored


# -- respondents --------------------------------------------------------------------------------


def _card_of(
    matrix: ResponseMatrix, i: int, cards: Mapping[str, RespondentCard]
) -> RespondentCard | None:
    known = cards.get(matrix.respondents[i])
    if known is not None:
        return known
    row = matrix.models[i]
    if row.family is None and row.released is None and row.params_b is None and not row.priced:
        return None
    return RespondentCard(
        id=matrix.respondents[i],
        model=matrix.respondents[i],
        family=row.family or "",
        released=row.released,
        params_b=row.params_b,
        input_usd_per_mtok=row.input_usd_per_mtok,
        output_usd_per_mtok=row.output_usd_per_mtok,
        price_kind=row.price_kind,
    )


def _specs(matrix: ResponseMatrix) -> tuple[ModelSpec, ...]:
    """Catalog entries of respondents whose records give a price; they make the space's pool."""
    out = []
    for row, name in zip(matrix.models, matrix.respondents, strict=True):
        if not row.priced:
            continue
        out.append(
            ModelSpec(
                name=name,
                family=row.family or "",
                released=row.released,
                params_b=row.params_b,
                price=Price(
                    input_usd_per_mtok=row.input_usd_per_mtok or 0.0,
                    output_usd_per_mtok=row.output_usd_per_mtok or 0.0,
                    kind="size-tier" if row.price_kind == "size-tier" else "list",
                    source="models.csv of the records",
                ),
                in_default_pool=True,
            )
        )
    return tuple(out)


# -- calibration and its check ---------------------------------------------------------------


def _shift_variance(
    problem: CalibrationProblem,
    intercept: Float32Array,
    slack: float,
    tasks: IntArray,
    embedding: Float32Array,
    n_prototypes: int,
) -> tuple[float, float]:
    """How far whole kinds of prompts lie from their prediction, near and far from the records.

    Item intercepts are predicted twice by regressions that did not see them: leaving out
    random groups of prompts, and leaving out whole tasks. The squared mean error of a task, less
    what its finite number of items explains, is regressed on (1 - support)^2 with both
    coefficients kept at zero or above. Returns them as (near, far).
    """
    from scipy.optimize import nnls

    rng = np.random.default_rng(problem.settings.seed)
    by_group = rng.integers(0, 5, int(problem.groups.max()) + 1)[problem.groups]
    by_task = rng.integers(0, 5, int(tasks.max()) + 1)[tasks]
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
                embedding[~held], n_prototypes=n_prototypes, seed=problem.settings.seed
            )
            labels = tasks[held]
            for task in np.unique(labels):
                of_task = np.flatnonzero(labels == task)
                n = len(of_task)
                if n < 5:
                    continue
                support = [others.support(row) for row in embedding[held][of_task[:40]]]
                rows.append([1.0, float(np.mean((1 - np.array(support)) ** 2))])
                excess.append(float(error[of_task].mean() ** 2 - error[of_task].var() / n))
                weight.append(math.sqrt(min(n, 100)))
    if len(rows) < 10:
        return 0.05, 1.0  # too few tasks to learn from; a wide guess for strangers
    w = np.array(weight)
    solution, _ = nnls(np.array(rows) * w[:, None], np.array(excess) * w)
    return float(solution[0]), float(solution[1])


# -- domains -----------------------------------------------------------------------------------


def _fit_classes(
    prompts: PromptTable, scored: BoolArray, x: Float32Array, settings: FittingSettings
) -> tuple[Float32Array, IntArray, IntArray]:
    """Multinomial regression of (data set, domain) on features: weights (D+1, C) and maps."""
    from sklearn.linear_model import LogisticRegression

    names = list(DOMAINS)
    domain = np.array([names.index(domain_of_task(task or "")) for task in prompts.tasks])
    block_of_dataset = np.full(len(prompts.dataset_names), -1)
    present = np.unique(prompts.dataset[scored])
    block_of_dataset[present] = np.arange(len(present))
    pairs = prompts.dataset.astype(np.int64) * len(names) + domain
    classes, label = np.unique(pairs, return_inverse=True)
    dataset = classes // len(names)
    weights = np.zeros((x.shape[1] + 1, len(classes)), dtype=np.float32)
    if len(classes) > 1:
        model = LogisticRegression(C=0.002, max_iter=200, tol=1e-3, random_state=settings.seed)
        model.fit(x, label)
        if len(classes) == 2:  # sklearn keeps one row for two classes
            weights[:-1, 1], weights[-1, 1] = model.coef_[0], model.intercept_[0]
        else:
            weights[:-1], weights[-1] = model.coef_.T, model.intercept_
    return (
        weights,
        (classes % len(names)).astype(np.int32),
        block_of_dataset[dataset].astype(np.int32),
    )


# -- answer lengths ----------------------------------------------------------------------------


def _fit_lengths(
    matrix: ResponseMatrix,
    scored: BoolArray,
    x: Float32Array,
    items: ItemParameters,
    cards: Mapping[str, RespondentCard],
    settings: FittingSettings,
) -> tuple[tuple[float, float], Float32Array, AnswerStyle]:
    """Difficulty scale, length readout (D+1,), and the answer style of each respondent."""
    scale = (float(np.mean(items.intercept)), float(np.std(items.intercept)) or 1.0)
    standard = np.zeros(len(scored))
    standard[scored] = (scale[0] - items.intercept) / scale[1]
    reasoning = np.array(
        [(card := cards.get(name)) is not None and card.reasoning for name in matrix.respondents]
    )
    log_length = _log_lengths(matrix, settings)
    log_length[reasoning] = np.nan  # what is on record leaves out most of what is billed
    n = len(matrix.respondents)
    weights = np.zeros(x.shape[1] + 1, dtype=np.float32)
    if np.isnan(log_length).all():
        weights[-1] = np.log(300.0)  # tokens; nothing on record says more
        flat = np.zeros(n, dtype=np.float32)
        return scale, weights, AnswerStyle(offset=flat, slope=flat, sd=np.ones_like(flat))
    lengths = fit_answer_lengths(log_length, standard)
    known = ~np.isnan(lengths.level)
    level = lengths.level[known].astype(np.float32)[:, None]
    ridge = RidgeRegression(x[known])
    noise, variance = np.array([level.var()]), np.array([1e-3])
    for _ in range(20):  # EM for the evidence; the noise follows the residuals
        readout, variance, fitted = ridge.fit(level, noise, variance)
        noise = np.array([float(np.mean((level - fitted) ** 2)) + 1e-6])
    weights[:] = readout[:, 0]
    seen = ~np.isnan(lengths.offset)
    spread = float(np.nanstd(lengths.offset))
    sd = float(np.sqrt(np.nanmean(lengths.sd**2)))
    unseen_sd = math.hypot(sd, spread)
    offset = np.where(seen, lengths.offset, 0.0)
    slope = np.where(seen, lengths.slope, 0.0)
    sds = np.where(seen, lengths.sd, unseen_sd)
    offset[reasoning] = math.log(REASONING_LENGTH_FACTOR)
    sds[reasoning] = REASONING_LENGTH_SD
    return (
        scale,
        weights,
        AnswerStyle(
            offset=offset.astype(np.float32),
            slope=slope.astype(np.float32),
            sd=sds.astype(np.float32),
        ),
    )


def _log_lengths(matrix: ResponseMatrix, settings: FittingSettings) -> Float64Array:
    """(M, N) log output tokens: counted ones first, else characters over four."""
    tokens = matrix.matrix("output_tokens").astype(np.float64)
    chars = matrix.matrix("output_chars").astype(np.float64)
    chars[chars < SHORTEST_ANSWER_CHARS] = np.nan
    length = np.where(tokens >= 1, tokens, chars / CHARS_PER_TOKEN)
    if settings.length_datasets is not None:
        names = matrix.prompts.dataset_names
        used = np.array([name in settings.length_datasets for name in names])
        length[:, ~used[matrix.prompts.dataset]] = np.nan
    out: Float64Array = np.log(length)
    return out


def _task_labels(prompts: PromptTable) -> IntArray:
    """(N,) a number per (data set, task)."""
    pairs = [(int(d), task) for d, task in zip(prompts.dataset, prompts.tasks, strict=True)]
    numbers = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return np.array([numbers[pair] for pair in pairs])


def _dense(labels: IntArray) -> IntArray:
    """Labels renumbered from 0 without gaps."""
    return np.unique(labels, return_inverse=True)[1]


def with_version(space: LatentSpace, date: str) -> LatentSpace:
    """The space stamped with a version: its date and a hash of what it predicts with."""
    import hashlib

    payload = space.predictor.item_weights.tobytes() + space.abilities.mean.tobytes()
    version = f"{date}-{hashlib.sha256(payload).hexdigest()[:8]}"
    return replace(space, provenance={**space.provenance, "version": version, "date": date})
