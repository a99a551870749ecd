"""What a budget for a whole batch comes to when the answers are in.

Each method's forecasts are handed to the one joint optimizer (`zerorouter.routing.assignment`)
with a budget that is a share of what the best single model costs. The budget is kept in
expectation; what is realised shows how honest the forecast costs are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.errors import ZeroRouterError
from zerorouter.evaluation.blocks import Block, weighted
from zerorouter.evaluation.metrics import constraint_violation, duality_gap, realised
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offers import Bounds, Offers

BUDGET_SHARES = (0.25, 0.5)  # of what the best single model costs


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A batch under one budget.

    Attributes:
        cost: (n,) realised dollars of the prompts.
        budget: Dollars per prompt.
        gap: Proven relative gap of the assignment.
    """

    cost: Float64Array
    budget: float
    gap: float

    def violations(self, weights: FloatArray) -> Float64Array:
        """(B,) by how much the budget is overspent under weights over the prompts (B, n)."""
        spent = weighted(self.cost, weights)
        return np.array([constraint_violation(float(s), self.budget) for s in spent])


def assigned(block: Block, p: FloatArray, cost_usd: FloatArray, share: float) -> Batch | None:
    """Assign the block's prompts by forecasts; None where the budget cannot be kept.

    Args:
        block: Models and prompts with what really happened.
        p: (n, m) forecast P(correct).
        cost_usd: (n, m) forecast dollars, NaN where unknown: such models take nothing.
        share: Of the best single model's real cost: the budget.
    """
    n = len(block.rows)
    budget = share * float(block.cost[block.strong].mean())
    known = ~np.isnan(cost_usd)
    try:
        found = assign(
            Offers(
                models=tuple(str(j) for j in range(p.shape[1])),
                p_correct=np.clip(p, 0.0, 1.0).astype(np.float64),
                cost_usd=np.where(known, cost_usd, 0.0).astype(np.float64),
                allowed=known,
            ),
            Bounds(budget_usd=budget * n),
            exact=False,
        )
    except ZeroRouterError:
        return None
    gap = duality_gap(found.totals.objective, found.totals.bound)
    return Batch(cost=realised(block.cost, found.choice), budget=budget, gap=gap or 0.0)
