"""What the sandbox knows of a model: how likely it is right, how long it writes, how fast."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.catalog import Catalog, ModelSpec, Price
from zerorouter.data.responses import ModelRow
from zerorouter.linking import Respondent
from zerorouter.predict.prompt import Prompt
from zerorouter.router import Router
from zerorouter.routing.estimates import DEFAULT_TPOT_S, DEFAULT_TTFT_S

DEFAULT_P_CORRECT: Final = 0.5
DEFAULT_ANSWER_TOKENS: Final = 200.0
DEFAULT_LENGTH_LOG_SD: Final = 0.5
_KEPT_FORECASTS: Final = 4_096


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A model that the sandbox plays.

    Attributes:
        name: Its own name.
        vendor: Who made it; may be empty.
        released: ``YYYY-MM[-DD]`` or None.
        reasoning: Whether it thinks before it answers.
        price: What it charges, None where not known.
        ttft_s: Seconds to the first token.
        tpot_s: Seconds per further token.
        context_tokens: Longest prompt and answer, None where not known.
        max_output_tokens: Longest answer, None where not known.
        mean_score: Mean recorded score, None without records.
    """

    name: str
    vendor: str = ""
    released: str | None = None
    reasoning: bool = False
    price: Price | None = None
    ttft_s: float = DEFAULT_TTFT_S
    tpot_s: float = DEFAULT_TPOT_S
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    mean_score: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        catalog: Catalog,
        *,
        row: ModelRow | None = None,
        mean_score: float | None = None,
    ) -> Profile:
        """From the catalog's card, a variant from its model's; what is missing from ``row``."""
        base = Respondent.from_id(name).model
        spec = catalog.get(base) if base in catalog else ModelSpec(name=name)
        price = spec.price
        if price is None and row is not None and row.priced:
            assert row.input_usd_per_mtok is not None
            assert row.output_usd_per_mtok is not None
            price = Price(
                input_usd_per_mtok=row.input_usd_per_mtok,
                output_usd_per_mtok=row.output_usd_per_mtok,
            )
        return cls(
            name=name,
            vendor=spec.vendor,
            released=spec.released or (row.released if row is not None else None),
            reasoning=spec.reasoning,
            price=price,
            ttft_s=DEFAULT_TTFT_S if spec.ttft_s is None else spec.ttft_s,
            tpot_s=1 / spec.throughput_tok_s if spec.throughput_tok_s else DEFAULT_TPOT_S,
            context_tokens=spec.context_tokens,
            max_output_tokens=spec.max_output_tokens,
            mean_score=mean_score,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What to expect of a model's answer to a prompt.

    Attributes:
        p_correct: P(correct).
        output_tokens: Expected tokens of the answer.
        log_sd: Standard deviation of their logarithm.
    """

    p_correct: float
    output_tokens: float = DEFAULT_ANSWER_TOKENS
    log_sd: float = DEFAULT_LENGTH_LOG_SD


class Forecaster:
    """The estimates of a router for every respondent of its space, the latest kept.

    Args:
        router: Its space and catalog are taken, its pool is not.
    """

    def __init__(self, router: Router) -> None:
        space, catalog = router.space, router.catalog
        unlisted = [ModelSpec(name=name) for name in space.respondents if name not in catalog]
        self._router = Router(space, catalog.with_models(unlisted), models=space.respondents)
        self._column = {name: j for j, name in enumerate(self._router.models)}
        sd = space.styles.sd[space.index(self._router.models)].astype(np.float64)
        self._log_sd = np.where(np.isfinite(sd), sd, DEFAULT_LENGTH_LOG_SD)
        self._kept: OrderedDict[Prompt, tuple[Float64Array, Float64Array]] = OrderedDict()

    @property
    def models(self) -> Sequence[str]:
        """Whose estimates there are."""
        return self._router.models

    def forecast(self, prompt: Prompt, model: str) -> Forecast | None:
        """What to expect of ``model``, or None where the space does not know it."""
        column = self._column.get(model)
        if column is None:
            return None
        p_correct, tokens = self._estimates(prompt)
        return Forecast(
            p_correct=float(p_correct[column]),
            output_tokens=max(float(tokens[column]), 1.0),
            log_sd=float(self._log_sd[column]),
        )

    def _estimates(self, prompt: Prompt) -> tuple[Float64Array, Float64Array]:
        found = self._kept.get(prompt)
        if found is not None:
            self._kept.move_to_end(prompt)
            return found
        estimates = self._router.estimates([prompt])
        made = estimates.p_correct[0].astype(np.float64), estimates.output_tokens[0]
        self._kept[prompt] = made
        if len(self._kept) > _KEPT_FORECASTS:
            self._kept.popitem(last=False)
        return made
