"""What a model's card tells before the model answers anything: covariates of its ability."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array
from zerorouter.linking import RespondentCard

FAMILY = "family:"
# A family's effect is one of many. Twice the scale makes a ridge shrink it four-fold.
FAMILY_SCALE = 2.0
LEAST_SCALE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class CovariateTable:
    """Named covariates with the centre and scale of the cards they were fitted on.

    Attributes:
        names: (C,) ``family:...`` names mark families with an effect of their own.
        centre: (C,) means; what a card does not tell is put at them.
        scale: (C,) what to divide by.
    """

    names: tuple[str, ...]
    centre: Float32Array
    scale: Float32Array

    @classmethod
    def fit(cls, cards: Sequence[RespondentCard | None]) -> CovariateTable:
        """Centre and scale covariates over cards; families of more than one get an effect."""
        counts = Counter(card.family for card in cards if card is not None and card.family)
        families = sorted(family for family, count in counts.items() if count > 1)
        rows = [_facts(card, families) for card in cards]
        names = tuple(rows[0])
        raw = np.array([[row[name] for name in names] for row in rows])
        known = ~np.isnan(raw)
        centre = np.where(known, raw, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        scale = np.maximum(np.where(known, raw, centre).std(axis=0), LEAST_SCALE)
        scale[[name.startswith(FAMILY) for name in names]] = FAMILY_SCALE
        return cls(names=names, centre=centre.astype(np.float32), scale=scale.astype(np.float32))

    def rows(self, cards: Sequence[RespondentCard | None]) -> Float64Array:
        """(M, C) standardised covariates of cards; None is a model of which nothing is known."""
        families = [name.removeprefix(FAMILY) for name in self.names if name.startswith(FAMILY)]
        raw = np.empty((len(cards), len(self.names)))
        for i, card in enumerate(cards):
            facts = _facts(card, families)
            raw[i] = [facts[name] for name in self.names]
        out: Float64Array = np.where(np.isnan(raw), 0.0, (raw - self.centre) / self.scale)
        return out


def _facts(card: RespondentCard | None, families: Sequence[str]) -> dict[str, float]:
    """Raw covariates of a card; unknown facts are NaN."""
    log_params = released = log_price = log_context = math.nan
    if card is not None:
        log_params = math.log(card.params_b) if card.params_b else math.nan
        log_price = math.log(card.output_usd_per_mtok) if card.output_usd_per_mtok else math.nan
        log_context = math.log(card.context_tokens) if card.context_tokens else math.nan
        if card.released:
            year, month = int(card.released[:4]), card.released[5:7]
            released = year + (int(month) - 0.5) / 12 if month else year + 0.5
    variant = card.id.partition("#")[2] if card else ""
    facts = {
        "log_params_b": log_params,
        "released": released,
        "log_output_usd_per_mtok": log_price,
        "log_context_tokens": log_context,
        "unknown_params": float(math.isnan(log_params)),
        "unknown_released": float(math.isnan(released)),
        "unknown_price": float(math.isnan(log_price)),
        "reasoning": float(card is not None and card.reasoning),
        "base": float(card is not None and card.is_base),
        "direct": float(variant == "direct"),
    }
    for family in families:
        facts[FAMILY + family] = float(card is not None and card.family == family)
    return facts
