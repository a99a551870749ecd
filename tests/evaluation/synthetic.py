"""Small training sets whose truth is known: accuracy depends on directions of the embedding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zerorouter.evaluation.contracts import Labels, Newcomers, PromptSet, TrainingSet
from zerorouter.linking import RespondentCard
from zerorouter.predict.features import PromptFeatures
from zerorouter.predict.structure import FEATURE_NAMES, N_FEATURES

DIM = 16


@dataclass(frozen=True, kw_only=True)
class World:
    """Calibration prompts with answers, and test prompts with the truth."""

    train: TrainingSet
    test: PromptSet
    test_labels: Labels
    test_p: np.ndarray  # (M, N_test)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def world(
    seed: int = 0,
    *,
    n_train: int = 160,
    n_test: int = 60,
    n_models: int = 5,
    missing: float = 0.0,
    priced: bool = True,
    fractional: bool = False,
    signal: float = 6.0,
    own_signal: float | None = None,
) -> World:
    """Prompts on a sphere; one direction is hard for all, and each model has one of its own.

    Structural features are a noisy linear image of the embedding, and length follows the shared
    direction, so that every kind of method has something to learn.
    """
    rng = np.random.default_rng(seed)
    n = n_train + n_test
    embedding = unit(rng.standard_normal((n, DIM)))
    shared = unit(rng.standard_normal((1, DIM)))[0]
    own = unit(rng.standard_normal((n_models, DIM)))
    image = rng.standard_normal((DIM, N_FEATURES))
    structure = 3 * embedding @ image + 0.5 * rng.standard_normal((n, N_FEATURES))
    structure[:, FEATURE_NAMES.index("n_options")] = rng.choice([0.0, 0.0, 4.0], n)
    tokens = np.round(np.exp(4 + 2.5 * (embedding @ shared) + 0.1 * rng.standard_normal(n))) + 1
    level = np.linspace(-0.5, 1.5, n_models)
    apart = signal if own_signal is None else own_signal
    logit = level[:, None] - signal * embedding @ shared + apart * own @ embedding.T
    p = 1 / (1 + np.exp(-logit))
    scores = (rng.random(p.shape) < p).astype(np.float32)
    if fractional:
        scores = np.clip(p + 0.1 * rng.standard_normal(p.shape), 0, 1).astype(np.float32)
    output = np.exp(4 + 0.3 * np.arange(n_models)[:, None] + embedding @ shared)
    price = np.geomspace(0.2, 20.0, n_models)
    cost = (tokens * price[:, None] + output * price[:, None] * 4) / 1e6
    if not priced:
        cost = np.full_like(cost, np.nan)
    hidden = rng.random(scores.shape) < missing
    labels = Labels(
        scores=np.where(hidden, np.nan, scores).astype(np.float32),
        output_tokens=np.where(hidden, np.nan, output).astype(np.float32),
        cost_usd=np.where(hidden, np.nan, cost).astype(np.float32),
    )
    prompts = PromptSet(
        features=PromptFeatures(
            embedding=embedding.astype(np.float32), structure=structure.astype(np.float32)
        ),
        input_tokens=tokens,
        embeddings={"minilm": unit(embedding @ rng.standard_normal((DIM, 24))).astype(np.float32)},
    )
    cards = tuple(
        RespondentCard(
            id=f"model-{u}",
            model=f"model-{u}",
            family=f"family-{u % 3}",
            released=f"2024-{u % 12 + 1:02d}",
            params_b=None if u % 2 else 7.0 * (u + 1),
            input_usd_per_mtok=float(price[u]) if priced else None,
            output_usd_per_mtok=float(4 * price[u]) if priced else None,
        )
        for u in range(n_models)
    )
    first, last = np.arange(n_train), np.arange(n_train, n)
    train = TrainingSet(
        prompts=prompts.take(first),
        models=cards,
        labels=labels.take(prompts=first),
        strata=(embedding[first, 0] > 0).astype(np.int64),
        groups=np.arange(n_train),
    )
    return World(
        train=train,
        test=prompts.take(last),
        test_labels=labels.take(prompts=last),
        test_p=p[:, last],
    )


def newcomers(train: TrainingSet, models: list[int], anchors: np.ndarray | None) -> Newcomers:
    """Models of a training set as newcomers under other names, known on ``anchors`` alone."""
    index = np.array(models)
    labels = train.labels.take(models=index)
    return Newcomers(
        models=tuple(replace(train.models[u], id=f"new-{u}", model=f"new-{u}") for u in models),
        labels=labels if anchors is None else labels.only(anchors),
    )


def with_scores(train: TrainingSet, scores: np.ndarray) -> TrainingSet:
    """The same set with other scores."""
    return replace(train, labels=replace(train.labels, scores=scores.astype(np.float32)))


def freeze(train: TrainingSet) -> None:
    """Make every array of a training set read-only: whoever writes to an input raises."""
    for array in (
        train.prompts.features.embedding,
        train.prompts.features.structure,
        train.prompts.input_tokens,
        *train.prompts.embeddings.values(),
        train.labels.scores,
        train.labels.output_tokens,
        train.labels.cost_usd,
        train.strata,
        train.groups,
    ):
        array.flags.writeable = False
