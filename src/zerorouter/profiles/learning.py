"""Making a profile: new evidence and all earlier one become a posterior and its outlook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zerorouter.catalog import ModelSpec
from zerorouter.irt.model import Abilities
from zerorouter.linking import RespondentCard, load_aliases
from zerorouter.onboarding.evidence import (
    Placement,
    Source,
    calibrated_index,
    covered_kinds,
    place,
    prefix_of,
    prior_of,
)
from zerorouter.onboarding.outlook import Outlook, Targets, outlook
from zerorouter.predict.serving_times import EndpointTimes, ServedRequest, observe
from zerorouter.predict.tokens import (
    LEAST_STRETCH,
    LengthPosterior,
    LengthPrior,
    length_posterior,
    standard_difficulty,
)
from zerorouter.profiles.profile import AnswerLengths, Profile, Speed
from zerorouter.routing.estimates import DEFAULT_TPOT_S, DEFAULT_TTFT_S
from zerorouter.space import LatentSpace


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A profile and how it came about.

    Attributes:
        profile: The result.
        placement: Its posterior, the prior, and the counts of answers.
        outlook: What is to be expected of it.
        lengths: Posterior of its answer lengths.
    """

    profile: Profile
    placement: Placement
    outlook: Outlook
    lengths: LengthPosterior


def learned(
    space: LatentSpace,
    card: ModelSpec,
    sources: Sequence[Source],
    *,
    length_prior: LengthPrior,
    targets: Targets,
    date: str,
    earlier: Profile | None = None,
    pool: Abilities | None = None,
    warnings: Sequence[str] = (),
) -> Step:
    """A profile from new evidence and all earlier one; the order of steps does not matter.

    Args:
        space: The space, without profiles.
        card: What is told of the model now.
        sources: New evidence; a source whose id the earlier profile has takes its place.
        length_prior: Of answer lengths in the pool.
        targets: Prompts that the outlook is for.
        date: ``YYYY-MM-DD``.
        earlier: The model's profile so far.
        pool: Abilities of the other models, to rank it among.
        warnings: What looked wrong this time.
    """
    kept = {source.id: source for source in (earlier.sources if earlier else ())}
    kept.update({source.id: source for source in sources})
    evidence = tuple(kept[key] for key in sorted(kept))
    prior = prior_of(space, card_of(card))
    placement = place(space, prior, evidence)
    lengths = answer_lengths(space, card, evidence, length_prior)
    population_sd = np.sqrt(np.diagonal(space.population.covariance)).astype(np.float64)
    seen = outlook(
        placement.posterior,
        placement.abilities,
        targets,
        prior_sd=population_sd,
        covered=covered_kinds(evidence),
        pool=pool,
    )
    profile = Profile(
        card=card,
        space_version=space.version,
        date=date,
        ability=placement.posterior.mean,
        covariance=placement.posterior.covariance,
        **leanings_of(placement),
        lengths=AnswerLengths(
            offset=lengths.offset,
            offset_sd=lengths.offset_sd,
            slope=float(lengths.mean[1]),
            stretch=max(float(lengths.mean[2]), LEAST_STRETCH),
            pivot=lengths.pivot,
            sd=lengths.predictive_sd,
            n=lengths.n_outputs,
        ),
        speed=endpoint_speed(card, evidence),
        predictive_sd=seen.predictive_sd,
        probation=seen.on_probation,
        expected_accuracy=seen.expected_accuracy,
        sources=evidence,
        warnings=tuple(warnings),
    )
    return Step(profile=profile, placement=placement, outlook=seen, lengths=lengths)


def leanings_of(placement: Placement) -> dict[str, Any]:
    """The two fields of a profile that say how it leans."""
    found = placement.abilities
    if found.leanings is None or found.leaning_variance is None:
        return {"leanings": None, "leaning_variance": 0.0}
    return {
        "leanings": found.leanings[0].astype(np.float64),
        "leaning_variance": float(found.leaning_variance[0]),
    }


def card_of(spec: ModelSpec) -> RespondentCard:
    """A catalog entry as the card that the population prior reads.

    The reviewed card of a respondent that has one fills in what the entry does not tell.
    """
    reviewed = load_aliases().card(spec.name)
    price = spec.price
    return RespondentCard(
        id=spec.name,
        model=spec.name,
        family=spec.family or (reviewed.family if reviewed else ""),
        released=spec.released or (reviewed.released if reviewed else None),
        params_b=spec.params_b or (reviewed.params_b if reviewed else None),
        reasoning=spec.reasoning or bool(reviewed and reviewed.reasoning),
        is_base=bool(reviewed and reviewed.is_base),
        context_tokens=spec.context_tokens or (reviewed.context_tokens if reviewed else None),
        input_usd_per_mtok=price.input_usd_per_mtok if price else None,
        output_usd_per_mtok=price.output_usd_per_mtok if price else None,
        price_kind=price.kind if price else None,
    )


def answer_lengths(
    space: LatentSpace, card: ModelSpec, sources: Sequence[Source], prior: LengthPrior
) -> LengthPosterior:
    """Answer lengths from all answers whose tokens are known."""
    answers = [
        answer
        for source in sources
        for answer in source.answers
        if answer.tokens and answer.log_length is not None
    ]
    answers.sort(key=lambda answer: (answer.key, answer.ref, answer.tokens or 0.0))
    index = calibrated_index(space)
    at = index.find(prefix_of([answer.key for answer in answers]))
    intercepts = [
        float(index.items.intercept[position])
        if position >= 0
        else answer.item.intercept
        if answer.item is not None
        else space.difficulty_scale[0]
        for position, answer in zip(at, answers, strict=True)
    ]
    return length_posterior(
        prior,
        np.log([max(answer.tokens or 1.0, 1.0) for answer in answers]),
        np.array([answer.log_length for answer in answers], dtype=np.float64),
        standard_difficulty(np.array(intercepts), space.difficulty_scale),
        family=card.family,
        reasoning=card.reasoning,
    )


def endpoint_speed(card: ModelSpec, sources: Sequence[Source]) -> Speed | None:
    """Speed of the endpoint from all timed answers; None where there is none."""
    timed = [
        answer
        for source in sources
        for answer in source.answers
        if answer.end_to_end_s and answer.tokens and answer.tokens >= 1
    ]
    if not timed:
        return None
    timed.sort(key=lambda answer: (answer.ref, answer.end_to_end_s or 0.0))
    told = card.ttft_s is not None and card.throughput_tok_s is not None
    state = EndpointTimes.told(
        DEFAULT_TTFT_S if card.ttft_s is None else card.ttft_s,
        1 / card.throughput_tok_s if card.throughput_tok_s else DEFAULT_TPOT_S,
        pooled=not told,
    )
    for answer in timed:
        whole = answer.end_to_end_s or 0.0
        first = answer.ttft_s
        state = observe(
            state,
            ServedRequest(
                output_tokens=answer.tokens or 1.0,
                end_to_end_s=whole,
                ttft_s=first if first is not None and 0 < first <= whole else None,
                input_tokens=answer.input_tokens or 0.0,
            ),
        )
    return Speed(ttft_s=state.ttft.expectation, tpot_s=state.tpot.expectation, n=state.n_seen)
