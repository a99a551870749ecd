"""From a router's estimates to the offers of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array
from zerorouter.routing import choice
from zerorouter.routing.assignment.offers import Offers
from zerorouter.routing.assignment.spend import CostErrors
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import Policy

# Standard deviations of the log of what estimated costs are off by where nothing better is told:
# a cell's own error, one that a model's requests share, one that all share. The last two are
# printed by benchmarks/spend_coverage.py: models measured on one task, spending on another.
OWN_SD_LOG = 0.6
MODEL_SD_LOG = 0.3
COMMON_SD_LOG = 0.17


def offers_of(
    estimates: Estimates,
    allowed: BoolArray,
    *,
    policy: Policy | None = None,
    prompt_ids: Sequence[str] | None = None,
) -> Offers:
    """The offers of N prompts, in float32, which halves what a large batch takes.

    Args:
        estimates: Of the prompts.
        allowed: (N, M) which models may take which prompts.
        policy: Whose utility is sought, if utility is.
        prompt_ids: Names of the prompts for messages.
    """
    tokens = estimates.output_tokens
    if estimates.input_tokens is not None:
        given = estimates.input_tokens
        tokens = tokens + (given[:, None] if given.ndim == 1 else given)
    spread = estimates.spreads is not None
    return Offers(
        models=estimates.models,
        p_correct=np.asarray(estimates.p_correct, dtype=np.float32),
        cost_usd=estimates.cost_usd.astype(np.float32),
        latency_s=estimates.latency_s.astype(np.float32),
        latency_p95_s=estimates.latency_p95_s.astype(np.float32) if spread else None,
        tokens=tokens.astype(np.float32),
        allowed=allowed,
        utility=None if policy is None else choice.utilities(estimates, policy),
        prompt_ids=prompt_ids,
    )


def cost_errors_of(length_sd: Float64Array | None, columns: Sequence[int]) -> CostErrors:
    """How far estimated costs may be off: mostly by the length of the answers.

    Args:
        length_sd: (M,) of log output tokens, or None where it is not known.
        columns: Positions of the models that are asked about.
    """
    own = OWN_SD_LOG if length_sd is None else length_sd[list(columns)]
    return CostErrors(own_sd=own, model_sd=MODEL_SD_LOG, common_sd=COMMON_SD_LOG)
