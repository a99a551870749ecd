"""What a model's card tells before the model answers anything: covariates of its ability.

Few facts, because few models are calibrated and newcomers lie beyond them: size, release date,
whether it reasons, whether it is a base model, how it was asked, and its maker. A price that
tells nothing beyond size was found to mislead (a cheap host of a large model turns its sign),
so it serves only to guess the size of a model that keeps it secret; see docs/experiments.md.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array
from zerorouter.linking import RespondentCard

MAKER = "maker:"
# A maker's effect is one of many. Twice the scale makes a ridge shrink it four-fold.
MAKER_SCALE = 2.0
LEAST_SCALE = 1e-3
# ln(billions of parameters) from ln(US dollars per million output tokens): least squares over
# the 77 reviewed cards that tell both (correlation .76).
SIZE_AT_A_DOLLAR, SIZE_PER_LOG_DOLLAR = 3.91, 0.82
_MAKER_OF_FAMILY = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True, eq=False)
class CovariateTable:
    """Named covariates with the centre and scale of the cards they were fitted on.

    Attributes:
        names: (C,) ``maker:...`` names mark makers with an effect of their own.
        centre: (C,) means; what a card does not tell is put at them.
        scale: (C,) what to divide by.
    """

    names: tuple[str, ...]
    centre: Float32Array
    scale: Float32Array

    @classmethod
    def fit(cls, cards: Sequence[RespondentCard | None]) -> CovariateTable:
        """Centre and scale covariates over cards; makers of more than one get an effect."""
        counts = Counter(_maker(card) for card in cards if card is not None and card.family)
        makers = sorted(maker for maker, count in counts.items() if count > 1)
        rows = [_facts(card, makers) for card in cards]
        names = tuple(rows[0])
        raw = np.array([[row[name] for name in names] for row in rows])
        known = ~np.isnan(raw)
        centre = np.where(known, raw, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        scale = np.maximum(np.where(known, raw, centre).std(axis=0), LEAST_SCALE)
        scale[[name.startswith(MAKER) for name in names]] = MAKER_SCALE
        return cls(names=names, centre=centre.astype(np.float32), scale=scale.astype(np.float32))

    def rows(self, cards: Sequence[RespondentCard | None]) -> Float64Array:
        """(M, C) standardised covariates of cards; None is a model of which nothing is known."""
        makers = [name.removeprefix(MAKER) for name in self.names if name.startswith(MAKER)]
        raw = np.empty((len(cards), len(self.names)))
        for i, card in enumerate(cards):
            facts = _facts(card, makers)
            raw[i] = [facts[name] for name in self.names]
        out: Float64Array = np.where(np.isnan(raw), 0.0, (raw - self.centre) / self.scale)
        return out


def _facts(card: RespondentCard | None, makers: Sequence[str]) -> dict[str, float]:
    """Raw covariates of a card; unknown facts are NaN."""
    released = math.nan
    if card is not None and card.released:
        year, month = int(card.released[:4]), card.released[5:7]
        released = year + (int(month) - 0.5) / 12 if month else year + 0.5
    variant = card.id.partition("#")[2] if card else ""
    facts = {
        "log_params_b": math.nan if card is None else _log_size(card),
        "released": released,
        "reasoning": float(card is not None and card.reasoning),
        "base": float(card is not None and card.is_base),
        "direct": float(variant == "direct"),
    }
    for maker in makers:
        facts[MAKER + maker] = float(card is not None and _maker(card) == maker)
    return facts


def _log_size(card: RespondentCard) -> float:
    """ln(billions of parameters), guessed from the price where they are secret."""
    if card.params_b:
        return math.log(card.params_b)
    if card.output_usd_per_mtok:
        return SIZE_AT_A_DOLLAR + SIZE_PER_LOG_DOLLAR * math.log(card.output_usd_per_mtok)
    return math.nan


def _maker(card: RespondentCard) -> str:
    """The family without its generation: ``gpt-4o`` and ``gpt-3.5`` are both ``gpt``."""
    found = _MAKER_OF_FAMILY.match(card.family)
    return found.group() if found else card.family
