"""From a router's estimates to the offers of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray
from zerorouter.routing import choice
from zerorouter.routing.assignment.offers import Offers
from zerorouter.routing.assignment.spend import CostErrors
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import Policy

# What estimated costs are off by, in logs: the sd of a cell's own error where nothing better is
# told, and the sds of what a model's requests share and of what all share, for prompts of kinds
# that were calibrated and for foreign ones. From held-out prompts and tasks of zeroeval and
# routerbench-subset (docs/results/spend.md).
OWN_SD_LOG = 0.6
MODEL_SD_LOG = (0.1, 0.3)
COMMON_SD_LOG = (0.06, 0.5)
RIM = 0.05  # support below which a prompt counts as foreign, the more the closer to 0


def offers_of(
    estimates: Estimates,
    allowed: BoolArray,
    *,
    policy: Policy | None = None,
    support: FloatArray | None = None,
    prompt_ids: Sequence[str] | None = None,
) -> Offers:
    """The offers of N prompts, in float32, which halves what a large batch takes.

    Args:
        estimates: Of the prompts.
        allowed: (N, M) which models may take which prompts.
        policy: Whose utility is sought, if utility is.
        support: (N,) how close the prompts lie to calibrated ones.
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
        support=support,
        prompt_ids=prompt_ids,
    )


def cost_errors_of(
    length_sd: Float64Array | None, columns: Sequence[int], support: FloatArray | None = None
) -> CostErrors:
    """How far estimated costs of a batch may be off: mostly by the length of the answers.

    What requests share is small where prompts are of calibrated kinds, and large where they are
    not: whole kinds of prompts are then answered at greater length than thought.

    Args:
        length_sd: (M,) of log output tokens, or None where it is not known.
        columns: Positions of the models that are asked about.
        support: (N,) of the prompts; None takes all of them for foreign.
    """
    own = OWN_SD_LOG if length_sd is None else length_sd[list(columns)]
    foreign = 1.0
    if support is not None:
        foreign = float(np.mean(np.clip(1 - np.asarray(support, np.float64) / RIM, 0, 1)))
    # Either kind errs on its own, and touches its share of the batch alone.
    model_sd, common_sd = (
        math.hypot((1 - foreign) * near, foreign * far)
        for near, far in (MODEL_SD_LOG, COMMON_SD_LOG)
    )
    return CostErrors(own_sd=own, model_sd=model_sd, common_sd=common_sd)
