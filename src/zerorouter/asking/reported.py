"""Published scores as evidence of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from zerorouter.asking.surroundings import Surroundings
from zerorouter.card_only import card_only_models
from zerorouter.onboarding.benchmarks import checked_scores
from zerorouter.onboarding.evidence import ReportedScore, Source, card_prior
from zerorouter.onboarding.shipped_scores import score_model
from zerorouter.profiles import Profile, card_of

SHIPPED = "scores:shipped"


def reported_sources(
    scores: Mapping[str, float] | Sequence[tuple[str, float]], around: Surroundings
) -> list[Source]:
    """Published scores as evidence: a source each, so that one that comes again replaces itself.

    Raises:
        InputError: a benchmark is not known or told twice, or a score is no number from 0 to 1.
    """
    if not scores:
        return []
    told = scores.items() if isinstance(scores, Mapping) else scores
    known = score_model(around.space).benchmarks
    return [
        Source(
            id=f"score:{benchmark}",
            kind="score",
            date=around.date,
            space=around.space.version,
            reported=ReportedScore(benchmark=benchmark, score=score),
        )
        for benchmark, score in sorted(checked_scores(told, known).items())
    ]


def shipped_source(
    name: str, told: Sequence[Source], earlier: Profile | None, around: Surroundings
) -> list[Source]:
    """What the catalog's published scores of a model say, unless a user has told its scores.

    Scores that a user tells take their place: the same score is not to count twice.
    """
    known = card_only_models(around.space)
    if known is None or name not in known or not (n := known.scores_of(name)):
        return []
    blank = Source(id=SHIPPED, kind="score", date=around.date, space=around.space.version)
    sources = [*told, *(earlier.sources if earlier else ())]
    if any(source.reported is not None for source in sources):
        return [blank] if any(source.id == SHIPPED for source in sources) else []
    prior = card_prior(around.space, card_of(around.catalog.get(name)))
    facts = {"n_scores": n, "source": "llm-leaderboard, CC-BY-4.0"}
    return [replace(blank, summary=known.summary(name, prior), facts=facts)]
