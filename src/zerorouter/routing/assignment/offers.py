"""What is to be assigned and what binds it: checked once, at the border."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import InputError, NoEligibleModelError, UnknownNameError
from zerorouter.prices import missing_price

EVERY_OTHER = "*"  # in a mapping of capacities: each model that is not named
_CHECKED_ROWS = 1_000
_TABLES = (
    *("p_correct", "cost_usd", "latency_s", "latency_p95_s", "tokens", "allowed", "weight"),
    *("utility", "support"),
)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What one model can take on.

    Attributes:
        requests: Most requests, or None for no limit.
        tokens: Most tokens, input and output together, or None for no limit.
    """

    requests: float | None = None
    tokens: float | None = None

    def __post_init__(self) -> None:
        for name in ("requests", "tokens"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise InputError(
                    f"a capacity of {name} is {value!r}; a finite number >= 0 is wanted, or none "
                    "for no limit"
                )


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a whole batch has to keep. Bounds that are None do not bind.

    Attributes:
        budget_usd: Most that the batch may cost.
        max_mean_latency_s: Largest mean latency.
        max_p95_latency_s: Largest 95th percentile of the latency, over the batch.
        min_accuracy: Least mean P(correct), weighted as the prompts are.
        capacity: What each model can take on; ``"*"`` stands for every model that is not named.
    """

    budget_usd: float | None = None
    max_mean_latency_s: float | None = None
    max_p95_latency_s: float | None = None
    min_accuracy: float | None = None
    capacity: Mapping[str, Capacity] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name, unit in (
            ("budget_usd", "dollars"),
            ("max_mean_latency_s", "seconds"),
            ("max_p95_latency_s", "seconds"),
        ):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise InputError(
                    f"{name} is {value!r}; a finite number of {unit} >= 0 is wanted; leave it out "
                    "for no bound"
                )
        floor = self.min_accuracy
        if floor is not None and not (_is_number(floor) and 0 <= floor <= 1):
            raise InputError(f"min_accuracy is {floor!r}; a probability between 0 and 1 is wanted")

    def of_models(self, models: Sequence[str]) -> tuple[Float64Array, Float64Array]:
        """(M,) request limits and (M,) token limits, infinite where free.

        Raises:
            UnknownNameError: a capacity names a model that is not there.
        """
        for name in self.capacity:
            if name != EVERY_OTHER and name not in models:
                raise UnknownNameError("model", name, models)
        other = self.capacity.get(EVERY_OTHER, Capacity())
        own = [self.capacity.get(name, other) for name in models]
        requests = [math.inf if c.requests is None else math.floor(c.requests) for c in own]
        tokens = [math.inf if c.tokens is None else float(c.tokens) for c in own]
        return np.array(requests, dtype=np.float64), np.array(tokens, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Offers:
    """N prompts and what M models would do with each.

    Arrays may be float32 or float64 and are never copied without need: a million prompts with a
    hundred models fit in memory once.

    Attributes:
        models: (M,) names.
        p_correct: (N, M) P(correct).
        cost_usd: (N, M) expected dollars.
        latency_s: (N, M) expected seconds, or None where no latency is asked about.
        latency_p95_s: (N, M) 95th percentiles of the latency, or None to take means as certain.
        tokens: (N, M) expected tokens, input and output; wanted where a token capacity is set.
        allowed: (N, M) which models may take which prompts, or None for all.
        weight: (N,) what a correct answer counts, or None for one each.
        utility: (N, M) what is sought where the goal is utility, or None.
        support: (N,) how close each prompt lies to calibrated ones, from 0 to 1, or None: how
            far its costs may be off depends on it (`offering.cost_errors_of`).
        prompt_ids: (N,) names of prompts for messages, or None for their positions.
    """

    models: tuple[str, ...]
    p_correct: FloatArray
    cost_usd: FloatArray
    latency_s: FloatArray | None = None
    latency_p95_s: FloatArray | None = None
    tokens: FloatArray | None = None
    allowed: BoolArray | None = None
    weight: FloatArray | None = None
    utility: FloatArray | None = None
    support: FloatArray | None = None
    prompt_ids: Sequence[str] | None = None

    @property
    def n_prompts(self) -> int:
        """N."""
        return len(self.p_correct)

    @property
    def n_models(self) -> int:
        """M."""
        return len(self.models)

    def check(self, *, prices: bool, latency: bool, tokens: bool) -> None:
        """Refuse what cannot be reckoned with.

        Args:
            prices: Whether costs matter.
            latency: Whether latencies matter.
            tokens: Whether tokens matter.

        Raises:
            InputError: shapes differ, there is no prompt, or a value is out of range.
            NoEligibleModelError: there is no model, or none for some prompt.
            MissingPriceError: a cost is missing.
        """
        if not self.models:
            raise NoEligibleModelError("the pool is empty; at least one model is wanted")
        shape = (self.n_prompts, self.n_models)
        tables = {
            "p_correct": self.p_correct,
            "cost_usd": self.cost_usd,
            "latency_s": self.latency_s,
            "latency_p95_s": self.latency_p95_s,
            "tokens": self.tokens,
            "allowed": self.allowed,
            "utility": self.utility,
        }
        for name, table in tables.items():
            if table is not None and table.shape != shape:
                raise InputError(f"{name} has the shape {table.shape}; {shape} is wanted")
        if self.n_prompts == 0:
            raise InputError("there are no prompts to assign; at least one is wanted")
        if latency and self.latency_s is None:
            raise InputError("a latency is bounded and no latency_s is given")
        if tokens and self.tokens is None:
            raise InputError("a capacity in tokens is set and no tokens are given")
        if self.weight is not None:
            self._check_weight()
        if self.allowed is not None:
            self._check_allowed()
        self._check_range("p_correct", self.p_correct, 1.0, "a probability from 0 to 1 is wanted")
        if prices:
            self._check_range("cost_usd", self.cost_usd, np.inf, "dollars >= 0 are wanted")
        if latency:
            assert self.latency_s is not None
            self._check_range("latency_s", self.latency_s, np.inf, "seconds >= 0 are wanted")
            if self.latency_p95_s is not None:
                self._check_range(
                    "latency_p95_s", self.latency_p95_s, np.inf, "seconds >= 0 are wanted"
                )
        if tokens and self.tokens is not None:
            self._check_range("tokens", self.tokens, np.inf, "tokens >= 0 are wanted")

    def take(self, rows: IntArray) -> Offers:
        """The offers of some of the prompts, in that order."""

        def part(table: Any) -> Any:
            return None if table is None else table[rows]

        return Offers(
            models=self.models,
            p_correct=self.p_correct[rows],
            cost_usd=self.cost_usd[rows],
            latency_s=part(self.latency_s),
            latency_p95_s=part(self.latency_p95_s),
            tokens=part(self.tokens),
            allowed=part(self.allowed),
            weight=part(self.weight),
            utility=part(self.utility),
            support=part(self.support),
            prompt_ids=None
            if self.prompt_ids is None
            else [self.prompt_ids[i] for i in rows.tolist()],
        )

    @classmethod
    def stacked(cls, parts: Sequence[Offers]) -> Offers:
        """The prompts of several offers by the same models, one after the other."""

        def joined(name: str) -> Any:
            tables = [getattr(part, name) for part in parts]
            return None if any(table is None for table in tables) else np.concatenate(tables)

        ids = [part.prompt_ids for part in parts]
        return cls(
            models=parts[0].models,
            **{name: joined(name) for name in _TABLES},
            prompt_ids=None
            if any(own is None for own in ids)
            else [name for own in ids for name in own or ()],
        )

    def narrowed(self) -> Offers:
        """The same without models that may take none of the prompts; all allowed is None."""
        if self.allowed is None:
            return self
        if self.allowed.all():
            return replace(self, allowed=None)
        used = self.allowed.any(axis=0)
        if used.all():
            return self

        def part(table: Any) -> Any:
            return None if table is None else np.ascontiguousarray(table[:, used])

        allowed = self.allowed[:, used]
        return replace(
            self,
            models=tuple(self.models[int(j)] for j in np.flatnonzero(used)),
            p_correct=part(self.p_correct),
            cost_usd=part(self.cost_usd),
            latency_s=part(self.latency_s),
            latency_p95_s=part(self.latency_p95_s),
            tokens=part(self.tokens),
            allowed=None if allowed.all() else allowed,
            utility=part(self.utility),
        )

    def named(self, row: int) -> str:
        """A prompt in words."""
        return f"prompt {row}" if self.prompt_ids is None else f"prompt {self.prompt_ids[row]!r}"

    def _check_weight(self) -> None:
        assert self.weight is not None
        if self.weight.shape != (self.n_prompts,):
            raise InputError(f"weight has the shape {self.weight.shape}; one a prompt is wanted")
        bad = ~(np.isfinite(self.weight) & (self.weight >= 0))
        if bad.any():
            row = int(bad.argmax())
            raise InputError(
                f"the weight of {self.named(row)} is {self.weight[row]}; a number >= 0 is wanted"
            )
        if not self.weight.any():
            raise InputError("all weights are 0; at least one prompt has to count")

    def _check_allowed(self) -> None:
        assert self.allowed is not None
        lost = ~self.allowed.any(axis=1)
        if lost.any():
            raise NoEligibleModelError(
                f"{self.named(int(lost.argmax()))}: none of the {self.n_models} models may take it"
                + (f" ({int(lost.sum()) - 1:,} more prompts like it)" if lost.sum() > 1 else "")
                + "; allow more models, or leave the prompt out"
            )

    def _check_range(self, name: str, table: FloatArray, most: float, wanted: str) -> None:
        """Every value that may be chosen is finite, >= 0 and at most ``most``."""
        for start in range(0, self.n_prompts, _CHECKED_ROWS):
            rows = slice(start, start + _CHECKED_ROWS)
            part = table[rows]
            # Two reductions, which NaN survives, cost a tenth of a mask.
            low, high = part.min(), part.max()
            if low >= 0 and high <= most and high < np.inf:
                continue
            bad = ~((part >= 0) & (part <= most) & np.isfinite(part))
            if self.allowed is not None:
                bad &= self.allowed[rows]
            if not bad.any():
                continue
            row, column = (int(i) for i in np.argwhere(bad)[0])
            value, model = float(part[row, column]), self.models[column]
            if name == "cost_usd" and math.isnan(value):
                raise missing_price(model)
            raise InputError(
                f"{name} of {model!r} for {self.named(start + row)} is {value}; {wanted}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
