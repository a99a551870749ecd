"""Answer lengths: the shared level read from prompts, and each respondent's own style.

In four steps, each on what the last one left:

1. a two-way decomposition of the log lengths into prompt levels and respondents' offsets;
2. a ridge regression that reads the level from the prompt, its penalty by evidence;
3. each respondent's offset, slope on difficulty, stretch on the level *as it is read* and
   leanings, under the prior of its population (`predict.tokens.fit_length_population`);
4. the spread around all this on prompts whose level was read without them (leave-one-out), which
   is what a forecast for an unseen prompt is off by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from zerorouter.fitting.evidence import Evidence
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.linking import RespondentCard
from zerorouter.predict.tokens import (
    FIRST_VARIANCE,
    LEAST_STRETCH,
    REASONING_LENGTH_FACTOR,
    REASONING_LENGTH_SD,
    LengthPopulation,
    LengthPosterior,
    LengthPrior,
    fit_answer_lengths,
    fit_length_population,
)
from zerorouter.space import AnswerStyle

__all__ = [
    "REASONING_LENGTH_FACTOR",
    "REASONING_LENGTH_SD",
    "LengthModel",
    "Lengths",
    "fit_length_model",
    "fit_lengths",
    "length_prior",
    "style_of",
]

UNKNOWN_LENGTH_TOKENS = 300.0  # where no record has any length
EVIDENCE_ROUNDS = 20
SMEAR_PRIOR_CELLS = 50.0  # the log-normal smearing counts as if seen on so many outputs
SD_PRIOR_CELLS = 5.0  # a respondent's variance counts as if seen on so many cells of the pool


@dataclass(frozen=True, kw_only=True, eq=False)
class Lengths:
    """What was learned of answer lengths.

    Attributes:
        difficulty_scale: Mean and standard deviation of item intercepts.
        weights: (D+1,) readout of the log length level, the last the constant.
        styles: Each respondent's own.
    """

    difficulty_scale: tuple[float, float]
    weights: Float32Array
    styles: AnswerStyle


@dataclass(frozen=True, kw_only=True, eq=False)
class LengthModel:
    """Lengths of M respondents, apart from any space.

    Attributes:
        weights: (D+1,) readout of the level.
        population: Effects of the respondents and the prior of newcomers.
        sd: (M,) spread of the log length on unseen prompts.
        smear: (M,) log of the mean length over the median.
    """

    weights: Float32Array
    population: LengthPopulation
    sd: Float64Array
    smear: Float64Array

    def level(self, x: FloatArray) -> Float64Array:
        """(N,) levels of prompts with standardised features ``x`` (N, D)."""
        out: Float64Array = (x @ self.weights[:-1] + self.weights[-1]).astype(np.float64)
        return out

    def styles(self) -> AnswerStyle:
        """The respondents' part, as a space keeps it."""
        effects, prior = self.population.effects, self.population.prior
        # What is not known of the offset widens a forecast; for most it is next to nothing.
        doubt = self.population.variance[:, 0]
        return AnswerStyle(
            offset=effects[:, 0].astype(np.float32),
            slope=effects[:, 1].astype(np.float32),
            sd=np.sqrt(self.sd**2 + doubt).astype(np.float32),
            stretch=np.maximum(effects[:, 2], LEAST_STRETCH).astype(np.float32),
            pivot=np.full(len(effects), prior.pivot, dtype=np.float32),
            smear=(self.smear + doubt / 2).astype(np.float32),
            leanings=self.population.leanings.astype(np.float32),
        )


def fit_length_model(
    log_length: FloatArray,
    x: Float32Array,
    difficulty: FloatArray,
    facets: Float32Array | None = None,
    *,
    families: list[str],
    reasoning: BoolArray,
) -> LengthModel:
    """Fit lengths of M respondents on N prompts.

    Args:
        log_length: (M, N) natural logs of output tokens; NaN where unknown. Rows of respondents
            that reason are left out: what is on record leaves out most of what is billed.
        x: (N, D) standardised features.
        difficulty: (N,) in standard units.
        facets: (N, R) along which respondents may have leanings; None for none.
        families: (M,) family names; "" where unknown.
        reasoning: (M,) whether a respondent reasons.
    """
    b = np.asarray(difficulty, dtype=np.float64)
    y = np.array(log_length, dtype=np.float64)
    y[reasoning] = np.nan
    if np.isnan(y).all():
        return _nothing_known(y, x, facets, families)
    lengths = fit_answer_lengths(y, b)
    known = ~np.isnan(lengths.level)
    weights, unseen = _read_levels(x, lengths.level, known)
    noise = np.where(np.isnan(lengths.sd), np.sqrt(np.nanmean(lengths.sd**2)), lengths.sd)
    population = fit_length_population(
        (y - lengths.level)[:, known],
        unseen[known],
        b[known],
        None if facets is None else facets[known],
        families=families,
        reasoning=reasoning,
        noise_sd=np.maximum(noise, 1e-3),
    )
    effects, pivot = population.effects, population.prior.pivot
    centre = unseen + effects[:, :1] + effects[:, 1:2] * b + effects[:, 2:] * (unseen - pivot)
    if facets is not None:
        centre += population.leanings @ facets.T
    seen = ~np.isnan(y)
    n_cells = seen.sum(axis=1)
    squares = np.sum(np.where(seen, y - centre, 0.0) ** 2, axis=1)
    pooled = squares.sum() / n_cells.sum()
    variance = (squares + SD_PRIOR_CELLS * pooled) / (n_cells + SD_PRIOR_CELLS)
    written = np.where(seen, np.exp(np.where(seen, y, 0.0)), 0.0).sum(axis=1)
    medians = np.where(seen, np.exp(centre), 0.0).sum(axis=1)
    ratio = np.log(np.maximum(written, 1e-300) / np.maximum(medians, 1e-300))
    smear = (n_cells * np.where(n_cells > 0, ratio, 0.0) + SMEAR_PRIOR_CELLS * variance / 2) / (
        n_cells + SMEAR_PRIOR_CELLS
    )
    return LengthModel(weights=weights, population=population, sd=np.sqrt(variance), smear=smear)


def _nothing_known(
    y: Float64Array, x: Float32Array, facets: Float32Array | None, families: list[str]
) -> LengthModel:
    """Without any length everybody writes alike, give or take a factor e."""
    n = len(y)
    weights = np.zeros(x.shape[1] + 1, dtype=np.float32)
    weights[-1] = math.log(UNKNOWN_LENGTH_TOKENS)
    n_facets = 0 if facets is None else facets.shape[1]
    prior = LengthPrior(
        mean=np.zeros(3),
        variance=np.array(FIRST_VARIANCE),
        family_variance=0.0,
        noise_sd=1.0,
        pivot=float(weights[-1]),
    )
    del families
    return LengthModel(
        weights=weights,
        population=LengthPopulation(
            effects=np.zeros((n, 3)),
            variance=np.zeros((n, 3)),
            leanings=np.zeros((n, n_facets)),
            prior=prior,
        ),
        sd=np.ones(n),
        smear=np.full(n, 0.5),
    )


def fit_lengths(
    evidence: Evidence,
    x: Float32Array,
    intercept: Float32Array,
    facets: Float32Array | None = None,
) -> Lengths:
    """Fit lengths of prompts with standardised features ``x`` (N, D).

    Args:
        evidence: What respondents did, and their cards.
        x: (N, D) of all prompts.
        intercept: Of the scored prompts; the others count as of average difficulty.
        facets: (N, R) of all prompts, as the predictor reads them; None for no leanings.
    """
    scale = (float(np.mean(intercept)), float(np.std(intercept)) or 1.0)
    standard = np.zeros(len(x))
    standard[evidence.scored] = (scale[0] - intercept) / scale[1]
    families, reasoning = _cards(evidence.cards)
    model = fit_length_model(
        evidence.log_length, x, standard, facets, families=families, reasoning=reasoning
    )
    return Lengths(difficulty_scale=scale, weights=model.weights, styles=model.styles())


def length_prior(styles: AnswerStyle, cards: Sequence[RespondentCard | None]) -> LengthPrior:
    """The prior of newcomers that a space's own respondents make up.

    Args:
        styles: Those of the respondents.
        cards: What is known of them, in the same order.
    """
    families, reasoning = _cards(tuple(cards))
    # The styles stand for thousands of outputs each: three exact points pin down three effects.
    pivot = 0.0 if styles.pivot is None else float(np.mean(styles.pivot))
    stretch = np.zeros_like(styles.offset) if styles.stretch is None else styles.stretch
    offset, slope = styles.offset.astype(np.float64), styles.slope.astype(np.float64)
    relative = np.column_stack([offset - stretch, offset + slope, offset, offset + stretch])
    population = fit_length_population(
        relative,
        np.array([-1.0, 0.0, 0.0, 1.0]),
        np.array([0.0, 1.0, 0.0, 0.0]),
        families=families,
        reasoning=reasoning,
        noise_sd=np.full(len(families), 1e-3),
    )
    plain = ~reasoning
    noise = (
        float(np.sqrt(np.mean(styles.sd[plain].astype(np.float64) ** 2))) if plain.any() else 1.0
    )
    leaning = 0.0
    if styles.leanings is not None and styles.leanings.size and plain.any():
        leaning = float(np.mean(styles.leanings[plain].astype(np.float64) ** 2))
    return replace(population.prior, noise_sd=noise, pivot=pivot, leaning_variance=leaning)


def style_of(posterior: LengthPosterior) -> AnswerStyle:
    """A newcomer's row, to be joined to the styles of a space (`AnswerStyle.joined`)."""
    sd = posterior.predictive_sd

    def row(value: float) -> Float32Array:
        return np.array([value], dtype=np.float32)

    return AnswerStyle(
        offset=row(posterior.offset),
        slope=row(float(posterior.mean[1])),
        sd=row(sd),
        stretch=row(max(float(posterior.mean[2]), LEAST_STRETCH)),
        pivot=row(posterior.pivot),
        smear=row(sd**2 / 2),
        leanings=posterior.leanings[None, :].astype(np.float32),
    )


def _cards(cards: tuple[RespondentCard | None, ...]) -> tuple[list[str], BoolArray]:
    families = [card.family if card is not None else "" for card in cards]
    return families, np.array([card is not None and card.reasoning for card in cards], dtype=bool)


def _read_levels(
    x: Float32Array, level: Float64Array, known: BoolArray
) -> tuple[Float32Array, Float64Array]:
    """Weights (D+1,), and levels (N,) read by them without the prompt itself.

    Leave-one-out for a ridge regression is exact: the residual over one minus the leverage
    (Cook and Weisberg 1982). Prompts without a level have had no part in it anyway.
    """
    target = level[known].astype(np.float32)[:, None]
    ridge = RidgeRegression(x[known])
    noise, variance = np.array([float(target.var()) + 1e-6]), np.array([1e-3])
    for _ in range(EVIDENCE_ROUNDS):  # EM for the evidence; the noise follows the residuals
        penalty = float(noise[0] / variance[0])
        readout, variance, fitted = ridge.fit(target, noise, variance)
        noise = np.array([float(np.mean((target - fitted) ** 2)) + 1e-6])
    weights = readout[:, 0]
    read = (x @ weights[:-1] + weights[-1]).astype(np.float64)
    turned = (ridge.x - ridge.mean.astype(np.float32)) @ ridge.vectors.astype(np.float32)
    leverage = 1 / len(target) + (turned**2) @ (1 / (ridge.values + penalty)).astype(np.float32)
    unseen = read.copy()
    left = level[known] - read[known]
    unseen[known] = level[known] - left / np.maximum(1 - leverage, 0.05)
    return weights, unseen
