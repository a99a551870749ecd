"""The cost forecast that baselines share: a model's mean answer at its price."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.evaluation.contracts import Labels, PromptSet
from zerorouter.linking import RespondentCard

PRIOR_CELLS = 5.0  # the pooled mean counts as this many of a model's own answers


class MeanCosts:
    """Input tokens at their price plus the model's mean output at its price.

    A model whose records carry dollars but whose card has no price is given its mean cost. Means
    are shrunk to the pooled one, which is all that is known of a newcomer without answers.
    """

    def __init__(self, models: Sequence[RespondentCard], labels: Labels) -> None:
        self.input_usd = np.array([_per_token(m.input_usd_per_mtok) for m in models])
        self.output_usd = np.array([_per_token(m.output_usd_per_mtok) for m in models])
        self.output_tokens = _shrunk_means(labels.output_tokens)  # (M,)
        self.mean_cost = _shrunk_means(labels.cost_usd)  # (M,)

    def predict(self, prompts: PromptSet) -> Float64Array:
        """(N, M) expected dollars; NaN where neither price nor cost is known."""
        priced = prompts.input_tokens[:, None] * self.input_usd
        priced = priced + self.output_tokens * self.output_usd
        return np.where(np.isnan(priced), self.mean_cost, priced)


def _shrunk_means(values: np.ndarray) -> Float64Array:
    """(M,) means of rows, shrunk to the mean over all cells; NaN if there is no cell at all."""
    seen = ~np.isnan(values)
    count = seen.sum(axis=1)
    total = np.where(seen, values, 0.0).sum(axis=1, dtype=np.float64)
    if not count.any():
        return np.full(len(values), math.nan)
    pooled = float(np.mean(total[count > 0] / count[count > 0]))
    out: Float64Array = (total + PRIOR_CELLS * pooled) / (count + PRIOR_CELLS)
    return out


def _per_token(usd_per_mtok: float | None) -> float:
    return math.nan if usd_per_mtok is None else usd_per_mtok / 1e6
