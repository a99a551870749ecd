"""Published scores as evidence of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zerorouter.asking.surroundings import Surroundings
from zerorouter.onboarding.benchmarks import checked_scores
from zerorouter.onboarding.evidence import ReportedScore, Source
from zerorouter.onboarding.shipped_scores import score_model


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
