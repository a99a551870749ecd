"""Estimates made up by hand, and what is weighed from them."""

from __future__ import annotations

import numpy as np

from zerorouter.irt.model import ResponseForecast
from zerorouter.routing import choice
from zerorouter.routing.decision import Decision, Weighing
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import Policy

NAMES = ("ada", "bob", "cyd", "dot", "eve", "fay", "gus", "hal")


def estimates(p, cost, latency=None, names=None) -> Estimates:
    """One prompt, M models."""
    shape = (1, len(p))
    row = np.asarray(p, dtype=np.float32).reshape(shape)
    return Estimates(
        models=tuple(names or NAMES[: len(p)]),
        forecast=ResponseForecast(
            p_correct=row,
            logit=np.log(row / (1 - row)),
            effect_variance=np.zeros(shape, dtype=np.float32),
            error_variance=np.full(shape, 0.04, dtype=np.float32),
            guessing=np.zeros(1, dtype=np.float32),
        ),
        cost_usd=np.asarray(cost, dtype=np.float64).reshape(shape),
        latency_s=np.asarray(latency or [1.0] * len(p), dtype=np.float64).reshape(shape),
        output_tokens=np.full(shape, 100.0),
    )


def weigh(table: Estimates, policy: Policy, allowed=None) -> Weighing:
    columns = np.arange(len(table.models)) if allowed is None else np.asarray(allowed)
    kept = columns[choice.within_bounds(table, policy)[0, columns]]
    utility = choice.utilities(table, policy)[0]
    return Weighing(
        estimates=table,
        utility=utility,
        allowed=kept,
        chosen=choice.best(table, 0, utility, kept),
        policy=policy,
        filtered={},
        crowded=np.array([], dtype=np.int64),
    )


def decide(table: Estimates, policy: Policy, **facts) -> Decision:
    weighing = weigh(table, policy)
    j = weighing.chosen
    low, high = table.forecast.interval_at(0, j)
    values = {
        "decision_id": "d",
        "model": table.models[j],
        "policy": policy.name,
        "p_correct": float(table.p_correct[0, j]),
        "p_correct_low": low,
        "p_correct_high": high,
        "cost_usd": float(table.cost_usd[0, j]),
        "latency_s": float(table.latency_s[0, j]),
        "difficulty": 0.5,
        "domain": "code",
        "requirements": (),
        "support": 0.5,
        "space_version": "v",
        "weighing": weighing,
    }
    return Decision(**{**values, **facts})


def chosen(table: Estimates, policy: Policy) -> str:
    return table.models[weigh(table, policy).chosen]
