"""What the caller wants: what a correct answer and a second are worth, and hard bounds.

Policies are in dollars. The utility of sending a prompt to a model is

    utility = value_of_correct_usd * P(correct) - cost_usd - value_of_second_usd * latency_s

and the model with the largest utility among those within the bounds is chosen. A policy can
thus be read: `balanced` gives up to a tenth of a cent for one percentage point of accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from zerorouter.errors import InputError, UnknownNameError


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
    """

    name: str = "custom"
    value_of_correct_usd: float = 0.1
    value_of_second_usd: float = 0.0
    min_accuracy: float | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a weight is negative or not finite, or a bound is out of range.
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
        for field in ("max_cost_usd", "max_latency_s"):
            bound = getattr(self, field)
            if bound is not None and not (_is_number(bound) and bound >= 0):
                raise InputError(f"{field} is {bound!r}; a number >= 0 is wanted")

    def bounded(
        self,
        *,
        min_accuracy: float | None = None,
        max_cost_usd: float | None = None,
        max_latency_s: float | None = None,
    ) -> Policy:
        """The same policy with the bounds that are given put in place of its own."""
        given = {
            "min_accuracy": min_accuracy,
            "max_cost_usd": max_cost_usd,
            "max_latency_s": max_latency_s,
        }
        changes = {key: value for key, value in given.items() if value is not None}
        return replace(self, **changes) if changes else self  # type: ignore[arg-type]

    @property
    def has_bounds(self) -> bool:
        """Whether any hard bound is set."""
        return not (
            self.min_accuracy is None and self.max_cost_usd is None and self.max_latency_s is None
        )


# The presets, by numbers. A correct answer to a prompt is worth ten cents to `balanced`
# users, ten dollars where quality is all, half a cent where cost is; a second of waiting is
# priced only where people wait.
POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "quality": Policy(name="quality", value_of_correct_usd=10.0, value_of_second_usd=0.0),
        "balanced": Policy(name="balanced", value_of_correct_usd=0.1, value_of_second_usd=0.0001),
        "cost": Policy(name="cost", value_of_correct_usd=0.005, value_of_second_usd=0.0),
        "latency": Policy(name="latency", value_of_correct_usd=0.1, value_of_second_usd=0.01),
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
