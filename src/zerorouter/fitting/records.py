"""From evaluation records to a latent space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.catalog import ModelSpec, Price
from zerorouter.data.digests import digest_array, question_digest
from zerorouter.data.responses import PromptTable, ResponseMatrix
from zerorouter.errors import CalibrationError
from zerorouter.fitting.core import fit
from zerorouter.fitting.evidence import Evidence, FittingSettings, Report
from zerorouter.fitting.lengths import REASONING_LENGTH_FACTOR, REASONING_LENGTH_SD
from zerorouter.linking import RespondentCard
from zerorouter.predict.domains import DOMAINS, domain_of_task
from zerorouter.predict.encoders import Encoder, StaticEncoder
from zerorouter.predict.features import FeatureReader, PromptFeatures
from zerorouter.predict.prompt import CHARS_PER_TOKEN, Prompt, read_prompt
from zerorouter.predict.templates import render, template_for
from zerorouter.space import CalibratedItems, LatentSpace

SHORTEST_ANSWER_CHARS = 20  # shorter records are final answers whose reasoning was not kept
LEAST_PROMPTS = 50


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
    chosen = settings or FittingSettings()
    tell = report or (lambda _stage, _share: None)
    scored = _scored_items(matrix, chosen)
    reader = FeatureReader(StaticEncoder.load(), encoder)
    prompts = matrix.prompts
    names = list(DOMAINS)
    domains = [names.index(domain_of_task(task or "")) for task in prompts.tasks]
    known = cards or {}
    evidence = Evidence(
        features=_read_features(prompts, reader, chosen.seed, tell),
        scores=np.asarray(matrix.scores),
        log_length=_log_lengths(matrix, chosen),
        scored=scored,
        datasets=prompts.dataset,
        tasks=_task_labels(prompts),
        domains=np.array(domains),
        domain_names=tuple(names),
        groups=matrix.groups,
        cards=tuple(_card_of(matrix, i, known) for i in range(len(matrix.respondents))),
    )
    fitted = fit(evidence, chosen, tell)
    options = prompts.choices
    digests = digest_array(
        question_digest(prompts.texts[i], options[i] or ()) for i in np.flatnonzero(scored)
    )
    facts = {
        **fitted.facts(),
        "n_respondents": len(matrix.respondents),
        "linkage": str(matrix.linkage()),
        "assumptions": {
            "reasoning_length_factor": REASONING_LENGTH_FACTOR,
            "reasoning_length_sd_log": REASONING_LENGTH_SD,
        },
        "settings": {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in asdict(chosen).items()
        },
    }
    return LatentSpace(
        predictor=fitted.predictor,
        respondents=matrix.respondents,
        abilities=fitted.abilities,
        leaning_variance=fitted.leaning_variance,
        styles=fitted.styles,
        difficulty_scale=fitted.difficulty_scale,
        population=fitted.population,
        calibrated=CalibratedItems(
            digests=digests, items=fitted.calibration.items, expected=fitted.expected
        ),
        encoder_name=reader.encoder_name,
        models=_specs(matrix),
        provenance={**(provenance or {}), "fit": facts},
    )


def with_version(space: LatentSpace, date: str) -> LatentSpace:
    """The space stamped with a version: its date and a hash of what it predicts with."""
    payload = space.predictor.item_weights.tobytes() + space.abilities.mean.tobytes()
    version = f"{date}-{hashlib.sha256(payload).hexdigest()[:8]}"
    return replace(space, provenance={**space.provenance, "version": version, "date": date})


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

    def told() -> Iterator[Prompt]:
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
    if scored.sum() < LEAST_PROMPTS:
        raise CalibrationError(
            f"{int(scored.sum())} prompts carry scores of correctness; a space needs at least "
            f"{LEAST_PROMPTS}"
        )
    return scored


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
