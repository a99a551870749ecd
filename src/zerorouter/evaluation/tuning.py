"""Tuning on calibration data only, with the same budget for every method.

With all labels a method is judged by its log-loss on a quarter of the training prompts. For
newcomers with n labels onboarding is simulated: the latest quarter of the calibration models
plays the newcomers. A method without probabilities is judged by the height of the frontier that
its own operating points realise on the same quarter.
"""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import IntArray
from zerorouter.evaluation.contracts import (
    TUNING_BUDGET,
    FittedMethod,
    Method,
    Newcomers,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.metrics import Frontier, aiq, realised
from zerorouter.irt.model import log_loss

VALIDATION_SHARE = 0.25
PSEUDO_NEWCOMERS = 0.25


def tune(method: Method, data: TrainingSet, n_labels: int | None, seed: int) -> Settings:
    """The method's best settings for newcomers with ``n_labels``, or None for all labels."""
    candidates = list(method.candidates(n_labels))[:TUNING_BUDGET]
    if len(candidates) < 2:
        return candidates[0]
    rng = np.random.default_rng([seed, 11])
    n_groups = int(data.groups.max()) + 1
    held = (rng.random(n_groups) < VALIDATION_SHARE)[data.groups]
    if not held.any() or held.all():
        return candidates[0]
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    losses = []
    for candidate in candidates:
        if not method.has_probabilities:
            loss = -_frontier_height(method, candidate, data, train, validation, seed)
        elif n_labels is None:
            loss = _loss_with_all_labels(method, candidate, data, train, validation, seed)
        else:
            loss = _loss_of_newcomers(method, candidate, data, train, validation, n_labels, seed)
        losses.append(loss)
    return candidates[int(np.argmin(losses))]


def stratified_draw(strata: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """``n`` positions, each task represented in proportion, in random order."""
    order = rng.permutation(len(strata))
    # Rank within the task over its size: taking the smallest keeps every share alike.
    _, task, size = np.unique(strata[order], return_inverse=True, return_counts=True)
    rank = np.zeros(len(order))
    seen = np.zeros(len(size))
    for i, t in enumerate(task):
        rank[i] = (seen[t] + rng.random()) / size[t]
        seen[t] += 1
    chosen: IntArray = order[np.argsort(rank, kind="stable")[:n]]
    return chosen


def _loss_with_all_labels(
    method: Method,
    settings: Settings,
    data: TrainingSet,
    train: IntArray,
    validation: IntArray,
    seed: int,
) -> float:
    fitted = method.fit(data.take_prompts(train), settings, np.random.default_rng([seed, 13]))
    return _mean_loss(fitted, data, validation, np.arange(len(data.models)))


def _frontier_height(
    method: Method,
    settings: Settings,
    data: TrainingSet,
    train: IntArray,
    validation: IntArray,
    seed: int,
) -> float:
    """AIQ on the validation prompts that all models with known costs answered; 0 without any."""
    known = data.labels.observed & ~np.isnan(data.labels.cost_usd)
    eligible = known.mean(axis=1) >= 0.9 * known.mean(axis=1).max(initial=0.0)
    rows = validation[known[eligible][:, validation].all(axis=0)]
    if eligible.sum() < 2 or len(rows) < 2:
        return 0.0
    fitted = method.fit(data.take_prompts(train), settings, np.random.default_rng([seed, 13]))
    points = fitted.operating_points(data.prompts.take(rows), eligible)
    if not points:
        return 0.0
    choice = np.array([point.choice for point in points])
    cost = np.asarray(data.labels.cost_usd[:, rows], dtype=np.float64)
    frontier = Frontier.from_outcomes(
        realised(data.labels.scores[:, rows], choice), realised(cost, choice)
    )
    single = cost[eligible].mean(axis=1)
    return float(aiq(frontier, float(single.min()), float(single.max()))[0])


def _loss_of_newcomers(
    method: Method,
    settings: Settings,
    data: TrainingSet,
    train: IntArray,
    validation: IntArray,
    n_labels: int,
    seed: int,
) -> float:
    order = sorted(
        range(len(data.models)), key=lambda i: (data.models[i].released or "", data.models[i].id)
    )
    n_new = max(1, round(PSEUDO_NEWCOMERS * len(order)))
    old, new = np.array(sorted(order[:-n_new])), np.array(sorted(order[-n_new:]))
    if len(old) < 2:
        return 0.0
    part = data.take_prompts(train)
    fitted = method.fit(part.take_models(old), settings, np.random.default_rng([seed, 13]))
    rng = np.random.default_rng([seed, 19])
    anchors = stratified_draw(part.strata, n_labels, rng)
    joined = fitted.onboard(
        Newcomers(
            models=tuple(data.models[int(i)] for i in new),
            labels=part.labels.take(models=new).only(anchors),
        )
    )
    columns = len(old) + np.arange(len(new))
    return _mean_loss(joined, data, validation, new, columns)


def _mean_loss(
    fitted: FittedMethod,
    data: TrainingSet,
    validation: IntArray,
    models: IntArray,
    columns: IntArray | None = None,
) -> float:
    """Mean over models of their log-loss on the validation prompts."""
    p = fitted.predict(data.prompts.take(validation)).p_correct
    assert p is not None
    at = models if columns is None else columns
    losses = []
    for model, column in zip(models, at, strict=True):
        scores = data.labels.scores[model, validation]
        if not np.isnan(scores).all():
            losses.append(log_loss(p[:, column], scores))
    return float(np.mean(losses)) if losses else float("inf")
