r"""How long the answers are.

.. math:: \log L_{ui} = \text{level}(x_i) + \text{offset}_u + \text{slope}_u\,b_i + \epsilon,
          \quad \epsilon \sim N(0, \sigma_u^2)

The level is shared by all models and read from the prompt, b is the prompt's difficulty in
standard units, the offset and slope are a model's own. The mean is
:math:`\exp(\cdot + \sigma_u^2/2)`, the log-normal smearing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray

LONGEST = 32_000.0  # tokens; expectations beyond the usual output limits are not meant
ALTERNATIONS = 30
OFFSET_PRIOR_CELLS = 5.0  # a model's offset and slope count as if this many cells were at 0


@dataclass(frozen=True, kw_only=True)
class AnswerLengths:
    """Fitted two-way decomposition of log output lengths.

    Attributes:
        level: (N,) shared log length of each prompt, NaN where none was seen.
        offset: (M,) log length of each respondent relative to the others, NaN where unseen.
        slope: (M,) change of log length per standard unit of difficulty.
        sd: (M,) standard deviation of the residual log length.
        n_cells: (M,) lengths that each respondent rests on.
    """

    level: Float64Array
    offset: Float64Array
    slope: Float64Array
    sd: Float64Array
    n_cells: Float64Array


def fit_answer_lengths(log_length: FloatArray, difficulty: FloatArray) -> AnswerLengths:
    """Alternate between prompt levels and respondents' offsets and slopes.

    Args:
        log_length: (M, N) natural logs of output tokens; NaN where unknown.
        difficulty: (N,) in standard units.
    """
    y = np.asarray(log_length, dtype=np.float64)
    seen = ~np.isnan(y)
    filled = np.where(seen, y, 0.0)
    per_item = np.maximum(seen.sum(axis=0), 1)
    n_cells = seen.sum(axis=1).astype(np.float64)
    offset, slope = np.zeros(len(y)), np.zeros(len(y))
    level = filled.sum(axis=0) / per_item
    b = np.asarray(difficulty, dtype=np.float64)
    design = np.stack([np.ones_like(b), b])  # (2, N)
    # Normal equations of each respondent: cells weighted by the mask, two unknowns.
    gram = np.einsum("pn,mn,qn->mpq", design, seen.astype(np.float64), design)
    gram += OFFSET_PRIOR_CELLS * np.eye(2)
    for _ in range(ALTERNATIONS):
        left = np.where(seen, y - level, 0.0)
        effects = np.linalg.solve(gram, (left @ design.T)[:, :, None])[:, :, 0]
        offset, slope = effects[:, 0], effects[:, 1]
        # The level takes the mean; what remains of it in the effects is removed.
        offset = offset - np.average(offset, weights=n_cells)
        slope = slope - np.average(slope, weights=n_cells)
        fitted = offset[:, None] + slope[:, None] * b
        level = np.where(seen, y - fitted, 0.0).sum(axis=0) / per_item
    residual = np.where(seen, y - level - offset[:, None] - slope[:, None] * b, 0.0)
    pooled = np.sqrt(np.sum(residual**2) / max(seen.sum(), 1))
    sd = np.sqrt((np.sum(residual**2, axis=1) + 5 * pooled**2) / (n_cells + 5))
    unseen = n_cells == 0
    return AnswerLengths(
        level=np.where(seen.any(axis=0), level, np.nan),
        offset=np.where(unseen, np.nan, offset),
        slope=np.where(unseen, np.nan, slope),
        sd=np.where(unseen, np.nan, sd),
        n_cells=n_cells,
    )


@dataclass(frozen=True, kw_only=True)
class LengthProfile:
    """What it takes to forecast output tokens of M models.

    Attributes:
        offset: (M,) including the smearing term sd^2 / 2.
        slope: (M,)
    """

    offset: Float64Array
    slope: Float64Array

    def expected_tokens(self, level: FloatArray, difficulty: FloatArray) -> Float64Array:
        """(N, M) expected output tokens for prompt levels (N,) and difficulties (N,)."""
        log_mean = level[:, None] + self.offset + self.slope * difficulty[:, None]
        out: Float64Array = np.minimum(np.exp(log_mean), LONGEST)
        return out
