"""Answer lengths: the shared level read from prompts, and each respondent's own style."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array
from zerorouter.fitting.evidence import Evidence
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.predict.tokens import fit_answer_lengths
from zerorouter.space import AnswerStyle

# The records leave out the hidden tokens of reasoning models. Until a profile measures them
# they are assumed to write eight times the visible length, give or take a factor e.
REASONING_LENGTH_FACTOR = 8.0
REASONING_LENGTH_SD = 1.0
UNKNOWN_LENGTH_TOKENS = 300.0  # where no record has any length
EVIDENCE_ROUNDS = 20


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


def fit_lengths(evidence: Evidence, x: Float32Array, intercept: Float32Array) -> Lengths:
    """Fit lengths of prompts with standardised features ``x`` (N, D).

    ``intercept`` is that of the scored prompts; the others count as of average difficulty.
    """
    scale = (float(np.mean(intercept)), float(np.std(intercept)) or 1.0)
    standard = np.zeros(len(x))
    standard[evidence.scored] = (scale[0] - intercept) / scale[1]
    reasoning = np.array([card is not None and card.reasoning for card in evidence.cards])
    log_length = evidence.log_length.copy()
    log_length[reasoning] = np.nan  # what is on record leaves out most of what is billed
    n = len(evidence.cards)
    if np.isnan(log_length).all():
        weights = np.zeros(x.shape[1] + 1, dtype=np.float32)
        weights[-1] = math.log(UNKNOWN_LENGTH_TOKENS)
        flat = np.zeros(n, dtype=np.float32)
        style = AnswerStyle(offset=flat, slope=flat, sd=np.ones_like(flat))
        return Lengths(difficulty_scale=scale, weights=weights, styles=style)
    lengths = fit_answer_lengths(log_length, standard)
    known = ~np.isnan(lengths.level)
    level = lengths.level[known].astype(np.float32)[:, None]
    ridge = RidgeRegression(x[known])
    noise, variance = np.array([float(level.var()) + 1e-6]), np.array([1e-3])
    for _ in range(EVIDENCE_ROUNDS):  # EM for the evidence; the noise follows the residuals
        readout, variance, fitted = ridge.fit(level, noise, variance)
        noise = np.array([float(np.mean((level - fitted) ** 2)) + 1e-6])
    seen = ~np.isnan(lengths.offset)
    sd = float(np.sqrt(np.nanmean(lengths.sd**2)))
    offset = np.where(seen, lengths.offset, 0.0)
    slope = np.where(seen, lengths.slope, 0.0)
    sds = np.where(seen, lengths.sd, math.hypot(sd, float(np.nanstd(lengths.offset))))
    offset[reasoning] = math.log(REASONING_LENGTH_FACTOR)
    sds[reasoning] = REASONING_LENGTH_SD
    return Lengths(
        difficulty_scale=scale,
        weights=readout[:, 0],
        styles=AnswerStyle(
            offset=offset.astype(np.float32),
            slope=slope.astype(np.float32),
            sd=sds.astype(np.float32),
        ),
    )
