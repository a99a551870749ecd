"""What the caller wants: what a correct answer and a second are worth, and hard bounds.

A policy is in one of two modes.

*Policy mode* is in dollars. The utility of sending a prompt to a model is

    utility = value_of_correct_usd * P(correct) - cost_usd - value_of_second_usd * latency_s

and the model with the largest utility among those within the bounds is chosen. A policy can
thus be read: `balanced` gives up to a tenth of a cent for one percentage point of accuracy. The
paper's presets are weights on accuracy, cost and latency, each divided by its spread over a
pool; since the spreads are fixed (`PoolScale`), weights are only another way to write down
dollars (`weighted`), and no model that joins the pool can re-rank the others.

*Constraint mode* (`cheapest`, `best`) weighs nothing: the cheapest model that is at least so
likely to be right, or the one most likely to be right within a cost and a latency.

docs/policies.md has the table of presets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from zerorouter.arrays import FloatArray
from zerorouter.errors import InputError, UnknownNameError
from zerorouter.predict.quantiles import normal_quantile

OBJECTIVES: Mapping[str, str] = MappingProxyType(
    {
        "utility": "the largest utility in dollars",
        "cost": "the least expected cost",
        "accuracy": "the largest P(correct)",
    }
)
SCALARISATIONS: Mapping[str, str] = MappingProxyType(
    {
        "sum": "what is lost by being wrong, paying and waiting is added up",
        "chebyshev": "only the largest of the three losses counts, the others break ties",
    }
)
AUGMENTATION = 1e-3
"""Share of the summed losses in the Chebyshev utility: it keeps dominated models from winning
ties (Steuer and Choo 1983)."""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Weights and bounds on accuracy, cost and latency.

    Attributes:
        name: How decisions refer to it.
        value_of_correct_usd: Dollars that a correct answer is worth.
        value_of_second_usd: Dollars that a second of waiting costs.
        min_accuracy: Least P(correct), or None.
        max_cost_usd: Largest expected cost of the request, or None.
        max_latency_s: Largest expected latency, or None.
        max_p95_latency_s: Largest 95th percentile of the latency, or None.
        confidence: Take P(correct) at this confidence: the lower bound that the truth exceeds
            with this probability, in bounds and objective alike. None takes the expectation.
        objective: A word of `OBJECTIVES`.
        scalarisation: A word of `SCALARISATIONS`: how the utility is made of its three terms.
    """

    name: str = "custom"
    value_of_correct_usd: float = 0.1
    value_of_second_usd: float = 0.0
    min_accuracy: float | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    max_p95_latency_s: float | None = None
    confidence: float | None = None
    objective: str = "utility"
    scalarisation: str = "sum"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a weight is negative or not finite, a bound is out of range, or a word is
                unknown.
        """
        for field in ("value_of_correct_usd", "value_of_second_usd"):
            value = getattr(self, field)
            if not (_is_number(value) and math.isfinite(value) and value >= 0):
                raise InputError(f"{field} is {value!r}; a finite number of dollars >= 0 is wanted")
        if self.min_accuracy is not None and not (
            _is_number(self.min_accuracy) and 0 <= self.min_accuracy <= 1
        ):
            raise InputError(
                f"min_accuracy is {self.min_accuracy!r}; a probability between 0 and 1 is wanted"
            )
        for field in ("max_cost_usd", "max_latency_s", "max_p95_latency_s"):
            bound = getattr(self, field)
            if bound is not None and not (_is_number(bound) and bound >= 0):
                raise InputError(f"{field} is {bound!r}; a number >= 0 is wanted")
        if self.confidence is not None and not (
            _is_number(self.confidence) and 0.5 <= self.confidence < 1
        ):
            raise InputError(
                f"confidence is {self.confidence!r}; a probability of at least 0.5 and below 1 "
                "is wanted, such as 0.9"
            )
        for field, words in (("objective", OBJECTIVES), ("scalarisation", SCALARISATIONS)):
            word = getattr(self, field)
            if word not in words:
                raise InputError(f"{field} is {word!r}; one of {', '.join(words)} is wanted")
        if self.objective != "utility" and self.scalarisation != "sum":
            raise InputError(
                f"scalarisation is {self.scalarisation!r}, but the objective {self.objective!r} "
                "weighs nothing; leave one of them out"
            )

    def bounded(
        self,
        *,
        min_accuracy: float | None = None,
        max_cost_usd: float | None = None,
        max_latency_s: float | None = None,
        max_p95_latency_s: float | None = None,
        confidence: float | None = None,
    ) -> Policy:
        """The same policy with the bounds that are given put in place of its own."""
        given = {
            "min_accuracy": min_accuracy,
            "max_cost_usd": max_cost_usd,
            "max_latency_s": max_latency_s,
            "max_p95_latency_s": max_p95_latency_s,
            "confidence": confidence,
        }
        changes = {key: value for key, value in given.items() if value is not None}
        return replace(self, **changes) if changes else self  # type: ignore[arg-type]

    @property
    def has_bounds(self) -> bool:
        """Whether any hard bound is set."""
        return not (
            self.min_accuracy is None
            and self.max_cost_usd is None
            and self.max_latency_s is None
            and self.max_p95_latency_s is None
        )

    @property
    def needs_prices(self) -> bool:
        """Whether costs matter; only the best whatever it costs can do without prices."""
        return self.objective != "accuracy" or self.max_cost_usd is not None

    @property
    def confidence_z(self) -> float:
        """Standard errors by which P(correct) is lowered at the policy's confidence."""
        return 0.0 if self.confidence is None else normal_quantile(self.confidence)


# -- the paper's weights --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PoolScale:
    """What one unit of accuracy, cost and latency is: their spreads over a pool.

    Attributes:
        p_correct: Spread of P(correct) among the models on one prompt.
        cost_usd: Of the expected cost.
        latency_s: Of the expected latency.
    """

    p_correct: float
    cost_usd: float
    latency_s: float

    def __post_init__(self) -> None:
        for field in ("p_correct", "cost_usd", "latency_s"):
            value = getattr(self, field)
            if not (_is_number(value) and math.isfinite(value) and value > 0):
                raise InputError(f"{field} is {value!r}; a spread above 0 is wanted")

    @classmethod
    def of(cls, p_correct: FloatArray, cost_usd: FloatArray, latency_s: FloatArray) -> PoolScale:
        """The robust spreads of estimates (N, M): the range that nine in ten models lie in.

        Each model's deviation from the median model on the same prompt is taken, and of all
        deviations the 5th and the 95th percentile: minimum and maximum, as the paper normalises,
        without being ruled by one odd model. Models without a price do not count.

        Raises:
            InputError: there are too few models, or no spread at all.
        """
        priced = ~np.isnan(cost_usd).any(axis=0)
        if priced.sum() < 2:
            raise InputError(
                f"{int(priced.sum())} models have a price; a scale wants at least 2 to compare"
            )
        spreads = []
        for values in (p_correct, cost_usd, latency_s):
            table = np.asarray(values, dtype=np.float64)[:, priced]
            low, high = np.percentile(table - np.median(table, axis=1, keepdims=True), [5, 95])
            spreads.append(float(high - low))
        return cls(p_correct=spreads[0], cost_usd=spreads[1], latency_s=spreads[2])


# Of the default pool of November 2026 on 3,805 prompts of the calibration sets, as
# ``scripts/build_pool_scale.py`` prints it. Fixed: a model that joins or a price that changes
# leaves it as it is.
POOL_SCALE = PoolScale(p_correct=0.57, cost_usd=0.0135, latency_s=31.0)

PAPER_WEIGHTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "paper_max_acc": (0.8, 0.1, 0.1),
        "paper_min_cost": (0.1, 0.8, 0.1),
        "paper_min_lat": (0.1, 0.1, 0.8),
    }
)
"""Weights on scaled accuracy, cost and latency; the paper names the presets, not the numbers."""


def weighted(
    name: str, weights: tuple[float, float, float], scale: PoolScale = POOL_SCALE
) -> Policy:
    """The policy in dollars that ranks as weights on scaled accuracy, cost and latency do.

    ``w_a p / s_a - w_c c / s_c - w_t t / s_t`` times ``s_c / w_c`` is a utility in dollars.

    Raises:
        InputError: a weight is negative, or that on cost is zero: then nothing has a price.
    """
    accuracy, cost, latency = weights
    if not (cost > 0 and accuracy >= 0 and latency >= 0):
        raise InputError(f"weights are {weights!r}; numbers >= 0 are wanted, that on cost above 0")
    dollar = scale.cost_usd / cost
    return Policy(
        name=name,
        value_of_correct_usd=accuracy / scale.p_correct * dollar,
        value_of_second_usd=latency / scale.latency_s * dollar,
    )


def paper_policies(scale: PoolScale = POOL_SCALE) -> dict[str, Policy]:
    """The paper's three presets under a scale of one's own pool."""
    return {name: weighted(name, weights, scale) for name, weights in PAPER_WEIGHTS.items()}


# -- presets --------------------------------------------------------------------------------------

CHEAPEST = Policy(name="cheapest", value_of_correct_usd=0.0, objective="cost")
BEST = Policy(name="best", value_of_correct_usd=0.0, objective="accuracy")

# The presets, by numbers. A correct answer to a prompt is worth ten cents to `balanced`
# users, ten dollars where quality is all, half a cent where cost is; a second of waiting is
# priced only where people wait.
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "quality": Policy(name="quality", value_of_correct_usd=10.0, value_of_second_usd=0.0),
        "balanced": Policy(name="balanced", value_of_correct_usd=0.1, value_of_second_usd=0.0001),
        "cost": Policy(name="cost", value_of_correct_usd=0.005, value_of_second_usd=0.0),
        "latency": Policy(name="latency", value_of_correct_usd=0.1, value_of_second_usd=0.01),
        **paper_policies(),
        "cheapest": CHEAPEST,
        "best": BEST,
    }
)
ALIASES: Mapping[str, str] = MappingProxyType({"auto": "balanced"})


def find_policy(wanted: str | Policy, custom: Mapping[str, Policy] | None = None) -> Policy:
    """The policy of that name, the caller's own ones first.

    Raises:
        UnknownNameError: nobody has heard of it; the nearest name is suggested.
        InputError: it is neither a name nor a policy.
    """
    if isinstance(wanted, Policy):
        return wanted
    if not isinstance(wanted, str):
        raise InputError(
            f"the policy is of type {type(wanted).__name__}; a name or a Policy is wanted"
        )
    if custom and wanted in custom:
        return custom[wanted]
    found = POLICIES.get(ALIASES.get(wanted, wanted))
    if found is None:
        raise UnknownNameError("policy", wanted, [*POLICIES, *ALIASES, *(custom or ())])
    return found


def policy_for_bounds(
    usual: Policy, *, min_accuracy: float | None, max_cost_usd: float | None
) -> Policy:
    """The policy of a request that names bounds and no policy: constraint mode.

    At least so likely to be right: for the least money. At most so dear: the best there is.
    A bound on latency alone says nothing about money, so the usual policy weighs it.
    """
    if min_accuracy is not None:
        return CHEAPEST
    if max_cost_usd is not None:
        return BEST
    return usual
