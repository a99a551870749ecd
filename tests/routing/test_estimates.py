"""A pool's one product against the parts that it is made of."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zerorouter.arrays import Float64Array
from zerorouter.catalog import Catalog
from zerorouter.predict.items import PromptReadings
from zerorouter.predict.prompt import read_prompt
from zerorouter.predict.tokens import LONGEST
from zerorouter.routing.estimates import FARTHEST_DIFFICULTY, Pool
from zerorouter.space import LatentSpace

PROMPTS = [
    "Work out 38 + 417 and write the sum.",
    "Which is a metal?\nA) zinc\nB) oak\nAnswer with the letter.",
    "Prove that every bounded monotone sequence converges, and say where completeness enters.",
    "Écris un poème sur la mer – “bref”.",
]


@pytest.fixture(scope="module")
def space() -> LatentSpace:
    return LatentSpace.load()


@pytest.fixture(scope="module")
def pool(space: LatentSpace) -> Pool:
    return Pool.of([spec for spec in Catalog.load().pool() if spec.name in space], space)


@pytest.fixture(scope="module")
def readings(space: LatentSpace) -> PromptReadings:
    return space.reader().read([read_prompt(text) for text in PROMPTS])


def tokens_by_parts(pool: Pool, readings: PromptReadings) -> Float64Array:
    mean, sd = pool.difficulty_scale
    difficulty = (mean - readings.items.intercept.astype(np.float64)) / sd
    tokens = pool.lengths.expected_tokens(
        readings.log_length.astype(np.float64),
        np.clip(difficulty, -FARTHEST_DIFFICULTY, FARTHEST_DIFFICULTY),
        readings.items.facets,
    )
    out: Float64Array = np.minimum(tokens, np.minimum(pool.max_output_tokens, LONGEST))
    return out


def test_the_forecast_is_that_of_the_panel(pool: Pool, readings: PromptReadings) -> None:
    ours = pool.estimate(readings, np.full(len(PROMPTS), 50.0)).forecast
    theirs = pool.panel.forecast(readings.items)
    for name in ("p_correct", "logit", "effect_variance", "error_variance", "guessing"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=2e-6)


def test_the_lengths_are_those_of_their_profile(pool: Pool, readings: PromptReadings) -> None:
    ours = pool.estimate(readings, np.full(len(PROMPTS), 50.0))
    np.testing.assert_allclose(ours.output_tokens, tokens_by_parts(pool, readings), rtol=5e-6)


@pytest.mark.parametrize("tokens", [50.0, 20_000.0])
def test_latency_is_ttft_and_the_further_tokens(
    pool: Pool, readings: PromptReadings, tokens: float
) -> None:
    ours = pool.estimate(readings, np.full(len(PROMPTS), tokens))
    assert ours.spreads is not None
    further = np.maximum(ours.output_tokens - 1, 0)
    np.testing.assert_allclose(
        ours.latency_s, ours.spreads.ttft_s + further * pool.tpot_s, rtol=1e-12
    )


def test_items_without_facets_are_estimated_too(pool: Pool, readings: PromptReadings) -> None:
    bare = dataclasses.replace(readings, items=dataclasses.replace(readings.items, facets=None))
    ours = pool.estimate(bare, np.full(len(PROMPTS), 50.0))
    expected = pool.panel.forecast(bare.items).p_correct
    np.testing.assert_allclose(ours.p_correct, expected, atol=2e-6)
    np.testing.assert_allclose(ours.output_tokens, tokens_by_parts(pool, bare), rtol=5e-6)


def test_cosines_are_worked_out_where_wanted(space: LatentSpace) -> None:
    readings = space.reader().read([read_prompt(text) for text in PROMPTS])
    assert readings.similarity is not None
    assert readings.embedding is not None
    expected = readings.embedding @ space.predictor.prototypes.centroids.T
    np.testing.assert_allclose(readings.similarity, expected, atol=1e-6)
    assert dataclasses.replace(readings, embedding=None).similarity is None
