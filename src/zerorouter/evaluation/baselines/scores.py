"""ZeroRouter whose newcomers also bring their published benchmark scores."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.evaluation.baselines.zerorouter import FittedZeroRouter, ZeroRouter
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Newcomers,
    Published,
    Settings,
    TrainingSet,
)
from zerorouter.onboarding.benchmarks import load_benchmarks
from zerorouter.onboarding.published import Link, ScoreModel, fit_scores, sample_of_items

OTHERWISE_ASKED = ("direct",)  # variants of a model that published scores do not speak of


class ZeroRouterScores(ZeroRouter):
    """The shipped method; before its first answer a newcomer is placed by card *and* scores.

    How scores read an ability is fitted inside the split, on the scores of the calibration models
    alone, whose abilities are those of the split's own space; items of benchmarks are those of the
    training prompts. What is published of a newcomer is what it brings, and teaches nothing.
    """

    id: ClassVar[str] = "zerorouter_scores"
    reference: ClassVar[str] = "this project; METHOD section 3.3, n=0"
    needs_published: ClassVar[bool] = True

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Fit the space, then what published scores say in it."""
        fitted = super().fit(data, settings, rng)
        assert isinstance(fitted, FittedZeroRouter)
        model = None
        if data.published is not None:
            model = _score_model(fitted, data.published)
        return FittedZeroRouterScores(**vars(fitted), score_model=model)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedZeroRouterScores(FittedZeroRouter):
    """The same with what scores tell.

    Attributes:
        score_model: How published scores read an ability; None without any.
    """

    score_model: ScoreModel | None = None

    def prior(self, newcomers: Newcomers) -> tuple[Float64Array, Float64Array]:
        """Card and published scores as one Gaussian, to whose tails answers are added."""
        centre, scale = self.by_card(newcomers.models)
        if self.score_model is None or newcomers.published is None:
            return centre, scale
        for i, card in enumerate(newcomers.models):
            if card.id.partition("#")[2] not in OTHERWISE_ASKED:
                told = newcomers.published.of(card.model)
                centre[i], scale[i] = self.score_model.fold(told, centre[i], scale[i])
        return centre, scale


def _score_model(fitted: FittedZeroRouter, published: Published) -> ScoreModel:
    """Loadings fitted on the calibration models alone."""
    at = {card.id: i for i, card in enumerate(fitted.models)}
    matrix = published.matrix
    matrix = matrix.without([name for name in matrix.models if name not in at])
    rows = np.array([at[name] for name in matrix.models], dtype=np.int64)
    abilities = fitted.abilities
    return fit_scores(
        matrix,
        abilities.mean[rows],
        abilities.covariance[rows],
        [True] * len(rows),
        _links(fitted, published),
    )


def _links(fitted: FittedZeroRouter, published: Published) -> dict[str, Link]:
    """Training items of benchmarks, where there are any."""
    items, links = fitted.fitted.calibration.items, {}
    for benchmark, link in load_benchmarks().links.items():
        named = [
            any(fnmatchcase(task, pattern) for pattern in link.tasks) for task in published.tasks
        ]
        of = np.flatnonzero(np.array(named)[fitted.training.strata])
        if len(of):
            links[benchmark] = Link(items=sample_of_items(items, of), offset_sd=link.alike)
    return links
