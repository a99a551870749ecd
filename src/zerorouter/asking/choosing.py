"""Which prompts of a source a run asks next, and what asking them will cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.asking.engine import OVERHEAD_TOKENS, worst_cost_usd
from zerorouter.asking.plan import Design
from zerorouter.asking.sources import AnchorSource
from zerorouter.asking.surroundings import Surroundings
from zerorouter.catalog import ModelSpec
from zerorouter.irt.ability import AbilityPosterior
from zerorouter.onboarding.design import Quote, choose, expected_costs, quote
from zerorouter.predict.prompt import CHARS_PER_TOKEN
from zerorouter.predict.tokens import LengthPosterior, standard_difficulty

FRESH_SHARE: Final = 0.2  # of a mixed set


@dataclass(frozen=True, kw_only=True, eq=False)
class Chooser:
    """Chooses among a source's prompts for one model.

    Attributes:
        spec: The model.
        design: What was asked for.
        source: Of the prompts.
        around: What the model joins.
        lengths: What is known of its answers' lengths before the run.
        max_tokens: Most output tokens of an answer.
        rng: Draws, from one choice to the next.
    """

    spec: ModelSpec
    design: Design
    source: AnchorSource
    around: Surroundings
    lengths: LengthPosterior
    max_tokens: int
    rng: np.random.Generator

    def quote(self, posterior: AbilityPosterior) -> Quote:
        """The price of the anchors that would be asked first, or at most."""
        candidates = self.source.candidates
        n = min(self.design.n, int(candidates.sound().sum()))
        chosen = self.choose(n, np.ones(len(candidates), dtype=np.bool_), posterior)
        price = self.spec.price
        worst = None
        if price is not None:
            # Of texts that are not made yet the estimate stands in for their bytes.
            sizes = CHARS_PER_TOKEN * candidates.input_tokens[chosen] + 2 * OVERHEAD_TOKENS
            worst = sum(worst_cost_usd(price, float(size), self.max_tokens) for size in sizes)
        return quote(
            candidates,
            chosen,
            self.lengths,
            self._difficulty(),
            input_usd=None if price is None else price.input_usd_per_mtok / 1e6,
            output_usd=None if price is None else price.output_usd_per_mtok / 1e6,
            max_tokens=self.max_tokens,
            worst_usd=worst,
            rng=np.random.default_rng(self.design.seed + 1),
        )

    def choose(self, n: int, open_: BoolArray, posterior: AbilityPosterior) -> IntArray:
        """Up to n of the ``open_`` candidates (N,), best first; of a mixed set a share of each."""
        asked = int(np.count_nonzero(~open_))
        if self.design.anchor_set == "mixed" and self.design.data is None:
            published = self.source.published
            n_fresh = round(FRESH_SHARE * n)
            parts = [
                self._among(n_fresh, open_ & ~published, posterior, asked),
                self._among(n - n_fresh, open_ & published, posterior, asked),
            ]
            return np.concatenate(parts)
        return self._among(n, open_, posterior, asked)

    def _among(self, n: int, open_: BoolArray, posterior: AbilityPosterior, asked: int) -> IntArray:
        price = self.spec.price
        cost = None
        if price is not None and price.output_usd_per_mtok > 0:
            cost = expected_costs(
                self.source.candidates,
                self.lengths,
                self._difficulty(),
                input_usd=price.input_usd_per_mtok / 1e6,
                output_usd=price.output_usd_per_mtok / 1e6,
                max_tokens=self.max_tokens,
            )
        return choose(
            self.source.candidates,
            n,
            mean=posterior.mean,
            covariance=posterior.covariance,
            strategy=self.design.strategy,
            rng=self.rng,
            open_=open_,
            asked=asked,
            targets=self.around.targets.items,
            cost_usd=cost,
        )

    def _difficulty(self) -> Float64Array:
        return standard_difficulty(
            self.source.candidates.items.intercept, self.around.space.difficulty_scale
        )
