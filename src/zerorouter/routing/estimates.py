"""The three numbers that every decision rests on, for N prompts and M models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray
from zerorouter.catalog import ModelSpec
from zerorouter.irt.model import Panel, ResponseForecast
from zerorouter.predict.items import PromptReadings
from zerorouter.predict.tokens import LengthProfile
from zerorouter.space import LatentSpace

# Speeds of a model that nobody has timed: the medians of the catalog.
DEFAULT_TTFT_S = 0.5
DEFAULT_TPOT_S = 0.0125
FARTHEST_DIFFICULTY = 3.0  # standard units; answer lengths are not extrapolated beyond


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """P(correct), cost and latency of every (prompt, model) pair.

    Attributes:
        models: (M,) names, in the order of the columns.
        forecast: (N, M) P(correct) and the error that it carries.
        cost_usd: (N, M) expected cost of the request in US dollars; NaN without a price.
        latency_s: (N, M) expected seconds to the last token.
        output_tokens: (N, M) expected output tokens.
    """

    models: tuple[str, ...]
    forecast: ResponseForecast
    cost_usd: Float64Array
    latency_s: Float64Array
    output_tokens: Float64Array

    @property
    def p_correct(self) -> Float32Array:
        """(N, M) probability of a correct answer, all uncertainty integrated out."""
        return self.forecast.p_correct

    @property
    def n_prompts(self) -> int:
        """How many prompts there are."""
        return len(self.cost_usd)

    def row(self, index: int) -> Estimates:
        """The estimates of one prompt, as a table of one row."""
        rows = slice(index, index + 1)
        return Estimates(
            models=self.models,
            forecast=self.forecast.row(index),
            cost_usd=self.cost_usd[rows],
            latency_s=self.latency_s[rows],
            output_tokens=self.output_tokens[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """M models on offer, laid out in columns.

    Attributes:
        models: (M,) names, sorted, so that no order of the catalog can matter.
        panel: Their abilities.
        lengths: Their answer lengths.
        difficulty_scale: Mean and sd by which lengths standardise difficulty.
        input_usd: (M,) dollars per input token, NaN without a price.
        output_usd: (M,) dollars per output token, NaN without a price.
        ttft_s: (M,) seconds to the first token.
        tpot_s: (M,) seconds per further token.
        context_tokens: (M,) longest prompt and answer together, infinite where unknown.
        max_output_tokens: (M,) longest answer, infinite where unknown.
        capabilities: What each can do.
    """

    models: tuple[str, ...]
    panel: Panel
    lengths: LengthProfile
    difficulty_scale: tuple[float, float]
    input_usd: Float64Array
    output_usd: Float64Array
    ttft_s: Float64Array
    tpot_s: Float64Array
    context_tokens: Float64Array
    max_output_tokens: Float64Array
    capabilities: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, specs: Sequence[ModelSpec], space: LatentSpace) -> Pool:
        """Lay out models that are respondents of the space.

        Raises:
            UnknownNameError: the space does not know a model.
        """
        ordered = sorted(specs, key=lambda spec: spec.name)
        names = tuple(spec.name for spec in ordered)
        at = space.index(names)
        styles = space.styles
        prices = [spec.price for spec in ordered]
        nan = float("nan")
        return cls(
            models=names,
            panel=Panel.of(space.abilities.take(at), space.predictor.effect_covariance),
            lengths=LengthProfile(
                offset=(styles.offset[at] + styles.sd[at] ** 2 / 2).astype(np.float64),
                slope=styles.slope[at].astype(np.float64),
            ),
            difficulty_scale=space.difficulty_scale,
            input_usd=np.array([p.input_usd_per_mtok / 1e6 if p else nan for p in prices]),
            output_usd=np.array([p.output_usd_per_mtok / 1e6 if p else nan for p in prices]),
            ttft_s=_known([spec.ttft_s for spec in ordered], DEFAULT_TTFT_S),
            tpot_s=_known(
                [1 / spec.throughput_tok_s if spec.throughput_tok_s else None for spec in ordered],
                DEFAULT_TPOT_S,
            ),
            context_tokens=_known([spec.context_tokens for spec in ordered], np.inf),
            max_output_tokens=_known([spec.max_output_tokens for spec in ordered], np.inf),
            capabilities=tuple(spec.capabilities for spec in ordered),
        )

    def __len__(self) -> int:
        return len(self.models)

    def estimate(self, readings: PromptReadings, input_tokens: FloatArray) -> Estimates:
        """Estimates of every model for N prompts.

        Args:
            readings: What the predictor says of the prompts.
            input_tokens: (N,) expected input tokens.

        Cost is input tokens times the input price plus expected output tokens times the output
        price. Latency is TTFT + (L - 1) TPOT at the expected output length L.
        """
        items = readings.items
        mean, sd = self.difficulty_scale
        difficulty = (mean - items.intercept.astype(np.float64)) / sd
        np.minimum(difficulty, FARTHEST_DIFFICULTY, out=difficulty)
        np.maximum(difficulty, -FARTHEST_DIFFICULTY, out=difficulty)
        tokens = self.lengths.expected_tokens(readings.log_length.astype(np.float64), difficulty)
        np.minimum(tokens, self.max_output_tokens, out=tokens)
        cost = tokens * self.output_usd
        cost += np.asarray(input_tokens, dtype=np.float64)[:, None] * self.input_usd
        latency = np.maximum(tokens - 1, 0.0) * self.tpot_s
        latency += self.ttft_s
        return Estimates(
            models=self.models,
            forecast=self.panel.forecast(items),
            cost_usd=cost,
            latency_s=latency,
            output_tokens=tokens,
        )


def _known(values: Sequence[float | None], otherwise: float) -> Float64Array:
    return np.array([otherwise if value is None else float(value) for value in values])
