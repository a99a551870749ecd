"""How good decisions are: against the best single model, other methods, the oracle, and bounds.

Functions of a `Frontier` return (B,) numbers, one per weight vector: NaN where a metric is not
defined (no gap between weak and strong, say), and minus or plus infinity where a level is never
reached, which is worse than any number and must not drop out of a bootstrap. `scalar` turns a
single one of them into a float or None for a row.

*Best single* is the priced model with the highest mean score on the complete block of test
prompts, chosen once on the whole block; in a replicate its accuracy and cost are recomputed, its
identity is not.

Shapes: M models, N prompts, P operating points, B weight vectors.
"""

from __future__ import annotations

import math

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import DataError
from zerorouter.evaluation.metrics.frontier import Frontier

COST_SAVE_LEVELS = {"cost_save_100": 1.0, "cost_save_99": 0.99, "cost_save_95": 0.95}
"""Share of the best single model's accuracy that must be reached, by metric id."""

CPT_LEVEL = 0.5
"""The performance gap to recover in `cpt`; RouteLLM prints 50% and 80%."""

ARENA_BETA = 0.1
ARENA_COST_MAX = 200.0  # dollars per 1,000 queries
ARENA_COST_MIN = 0.0044


def scalar(values: FloatArray) -> float | None:
    """The one number of a (1,) result; None where it is undefined or never reached."""
    value = float(np.asarray(values).reshape(-1)[0])
    return value if math.isfinite(value) else None


# --- what a choice brought ----------------------------------------------------------------------


def realised(values: FloatArray, choice: IntArray) -> Float64Array:
    """What the chosen models brought: values (M, N) at choice (N,) or (P, N), same shape as it."""
    choice = np.asarray(choice)
    if choice.shape[-1] != values.shape[1]:
        raise DataError(f"choices {choice.shape} do not fit {values.shape[1]} prompts")
    if choice.size and (choice.min() < 0 or choice.max() >= len(values)):
        raise DataError(f"a choice lies outside the {len(values)} models")
    out: Float64Array = np.asarray(values, dtype=np.float64)[choice, np.arange(values.shape[1])]
    return out


def best_single(scores: FloatArray, cost_usd: FloatArray) -> int | None:
    """Row of the priced model with the best mean score; the cheaper one of equals.

    Args:
        scores: (M, N) complete block.
        cost_usd: (M, N); a model with any unknown cost is not priced.

    Returns:
        Its row, or None where no model is priced.
    """
    accuracy, cost = _single_models(scores, cost_usd)
    if np.isnan(cost).all():
        return None
    return int(np.lexsort((cost, -accuracy, np.isnan(cost)))[0])


def cheapest_single(scores: FloatArray, cost_usd: FloatArray) -> int | None:
    """Row of the priced model with the least mean cost; the better one of equals."""
    accuracy, cost = _single_models(scores, cost_usd)
    if np.isnan(cost).all():
        return None
    return int(np.lexsort((-accuracy, cost, np.isnan(cost)))[0])


def utility_usd(scores: FloatArray, cost_usd: FloatArray, value_usd: float) -> Float64Array:
    """``V y - c`` in dollars, elementwise: V is what a right answer is worth."""
    out: Float64Array = value_usd * np.asarray(scores, dtype=np.float64) - cost_usd
    return out


def oracle_utility_usd(scores: FloatArray, cost_usd: FloatArray, value_usd: float) -> Float64Array:
    """(N,) the best ``V y - c`` that any model brings on each prompt; (M, N) in.

    Models without a score or a cost on a prompt are no choice there.

    Raises:
        DataError: a prompt on which no model has both.
    """
    utility = utility_usd(scores, cost_usd, value_usd)
    best = np.where(np.isnan(utility), -math.inf, utility).max(axis=0)
    if not np.isfinite(best).all():
        raise DataError(f"{int(np.isinf(best).sum())} prompts have no model with score and cost")
    out: Float64Array = best
    return out


def regret_usd(ours: FloatArray, reference: FloatArray) -> Float64Array:
    """Reference utility minus ours, per prompt, in dollars; its mean is the metric ``regret``.

    Args:
        ours: (N,) or (P, N) `utility_usd` of our choices.
        reference: (N,) utility to be measured against: `oracle_utility_usd`, or that of the router
            with all labels (onboarding regret, which may be negative on a prompt).
    """
    out: Float64Array = np.asarray(reference, dtype=np.float64) - ours
    if np.isnan(out).any():
        raise DataError("regret needs the utility of every prompt; use complete, priced blocks")
    return out


def bad_newcomer_harm(without: FloatArray, joined: FloatArray) -> Float64Array:
    """(N,) loss per prompt when a newcomer joins: what the pool brought without it minus with it.

    Scores or utilities of the choices at the same value of an answer, before and after a poor but
    cheap newcomer (one that an oracle would leave alone) is onboarded from its anchors. Positive
    is harm; its mean is the metric.
    """
    out: Float64Array = np.asarray(without, dtype=np.float64) - joined
    if np.isnan(out).any():
        raise DataError("the harm of a newcomer needs every prompt's outcome, with and without it")
    return out


# --- on the frontier ----------------------------------------------------------------------------


def aiq(
    frontier: Frontier, low_usd: FloatArray | float, high_usd: FloatArray | float
) -> Float64Array:
    """(B,) average quality: mean height of the frontier over a cost range.

    RouterBench, arXiv 2403.12031: ``AIQ = 1 / (c_max - c_min) * integral of the non-decreasing
    convex hull``, over one range for all methods compared: from the cheapest single model to the
    dearest point any method of the table may need (best single). NaN for an empty range.
    """
    return frontier.mean_height(low_usd, high_usd)


def accuracy_at_matched_cost(frontier: Frontier, budget_usd: FloatArray | float) -> Float64Array:
    """(B,) accuracy of the frontier at a mean cost per prompt.

    Budgets: the best single model's cost, or that of a baseline's operating point.
    """
    return frontier.accuracy_at(budget_usd)


def matched_cost_difference(
    ours: Frontier, theirs: Frontier, budget_usd: FloatArray | float
) -> Float64Array:
    """(B,) accuracy of ours minus theirs at one budget, both on their frontiers."""
    return ours.accuracy_at(budget_usd) - theirs.accuracy_at(budget_usd)


def matched_accuracy_saving(
    ours: Frontier, theirs: Frontier, accuracy: FloatArray | float
) -> Float64Array:
    """(B,) saving at one accuracy: ``(c_theirs - c_ours) / max(c_theirs, c_ours)``.

    The usual ``1 - c_ours / c_theirs`` where ours is cheaper, and minus the same with the names
    exchanged where it is dearer, so that swapping the methods swaps the sign and the number stays
    in [-1, 1]. Minus one where only theirs reaches the accuracy, one where only ours does, NaN
    where neither does, 0 where both are free.
    """
    our_cost, their_cost = ours.cost_at(accuracy), theirs.cost_at(accuracy)
    dearer = np.maximum(our_cost, their_cost)
    finite = np.isfinite(dearer)
    gap = np.where(finite, their_cost, 0) - np.where(finite, our_cost, 0)
    saving = np.divide(gap, dearer, out=np.zeros(len(gap)), where=finite & (dearer > 0))
    saving = np.where(np.isinf(our_cost), -1.0, saving)
    saving = np.where(np.isinf(their_cost), np.where(np.isinf(our_cost), math.nan, 1.0), saving)
    out: Float64Array = saving
    return out


def cost_save(
    frontier: Frontier,
    accuracy: FloatArray | float,
    cost_usd: FloatArray | float,
    *,
    level: float = 1.0,
) -> Float64Array:
    """(B,) ``1 - (least cost that reaches level x accuracy) / cost`` of the best single model.

    CostSave of LLMRouterBench (arXiv 2601.07206): cost cut while keeping the best single model's
    accuracy, here at 100%, 99% and 95% of it. The least cost is read off the frontier, so it may
    belong to a mixture of two operating points. Negative where the method needs more money; minus
    infinity where it never gets there (a row then has no value, and says so); NaN where the best
    single model is free.
    """
    least = frontier.cost_at(level * np.asarray(accuracy, dtype=np.float64))
    cost = np.broadcast_to(np.asarray(cost_usd, dtype=np.float64), least.shape)
    return 1 - _ratio(least, cost, cost > 0)


def perf_gain(frontier: Frontier, accuracy: FloatArray | float) -> Float64Array:
    """(B,) best accuracy of any operating point over that of the best single model, minus 1.

    PerfGain of LLMRouterBench (arXiv 2601.07206): "maximum performance improvement over the best
    single model", taken relative to that model. NaN where it never answers right.
    """
    single = np.broadcast_to(np.asarray(accuracy, dtype=np.float64), (len(frontier),))
    best = frontier.best_accuracy
    return _ratio(best, single, single > 0) - 1


def pgr(
    accuracy: FloatArray | float, weak: FloatArray | float, strong: FloatArray | float
) -> Float64Array:
    """Performance gap recovered, ``(r - weak) / (strong - weak)``, elementwise.

    RouteLLM, arXiv 2406.18665. In a pool of many, *weak* is the cheapest single model and *strong*
    the best single one; a router may exceed 1. NaN where strong is not better than weak.
    """
    accuracy, weak, strong = np.broadcast_arrays(
        np.atleast_1d(np.asarray(accuracy, dtype=np.float64)), weak, strong
    )
    gap = strong - weak
    return _ratio(accuracy - weak, gap, gap > 0)


def apgr(
    frontier: Frontier,
    *,
    weak: FloatArray | float,
    strong: FloatArray | float,
    weak_cost_usd: FloatArray | float,
    strong_cost_usd: FloatArray | float,
) -> Float64Array:
    """(B,) average `pgr` along the frontier from the weak model's cost to the strong one's.

    RouteLLM averages over the share of calls sent to the strong model. With more than two models
    there is no such share; the share of the extra money takes its place,
    ``(c - c_weak) / (c_strong - c_weak)``, which is the share of calls where there are two models
    with one cost each. Exact integral instead of RouteLLM's ten points or trapezoids. Mixing weak
    and strong at random has APGR 1/2. NaN where strong is not both better and dearer.
    """
    return pgr(frontier.mean_height(weak_cost_usd, strong_cost_usd), weak, strong)


def cpt(
    frontier: Frontier,
    *,
    weak: FloatArray | float,
    strong: FloatArray | float,
    weak_cost_usd: FloatArray | float,
    strong_cost_usd: FloatArray | float,
    level: float = CPT_LEVEL,
) -> Float64Array:
    """(B,) call-performance threshold: least share of the extra money with ``PGR >= level``.

    RouteLLM, arXiv 2406.18665, with the share of calls replaced as in `apgr`. Mixing weak and
    strong at random needs exactly ``level``. Below 0 where less than the weak model's cost is
    enough, infinite where the level is never reached, NaN where strong is not both better and
    dearer.
    """
    low, high, bottom, top = (
        np.broadcast_to(np.asarray(value, dtype=np.float64), (len(frontier),))
        for value in (weak, strong, weak_cost_usd, strong_cost_usd)
    )
    extra = top - bottom
    usable = (high > low) & (extra > 0)
    least = frontier.cost_at(low + level * (high - low)) - bottom
    return _ratio(least, extra, usable)


def routerarena(accuracy: FloatArray | float, cost_usd: FloatArray | float) -> Float64Array:
    """RouterArena score of operating points, elementwise, in [0, 1].

    ``S = (1 + beta) A C / (beta A + C)`` with beta = 0.1 and
    ``C = (log2 200 - log2 cost) / (log2 200 - log2 0.0044)``, cost in dollars per 1,000 queries,
    clipped to [0.0044, 200] (arXiv 2510.00202 and RouteWorks/RouterArena,
    llm_evaluation/run.py).

    Args:
        accuracy: Mean accuracy.
        cost_usd: Mean dollars per *one* prompt.
    """
    accuracy, cost = np.broadcast_arrays(
        np.atleast_1d(np.asarray(accuracy, dtype=np.float64)),
        1000 * np.asarray(cost_usd, dtype=np.float64),
    )
    span = math.log2(ARENA_COST_MAX) - math.log2(ARENA_COST_MIN)
    thrift = math.log2(ARENA_COST_MAX) - np.log2(np.clip(cost, ARENA_COST_MIN, ARENA_COST_MAX))
    thrift = thrift / span
    bottom = ARENA_BETA * accuracy + thrift
    top = (1 + ARENA_BETA) * accuracy * thrift
    score = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
    out: Float64Array = np.where(np.isnan(accuracy) | np.isnan(cost), math.nan, score)
    return out


# --- bounds and intervals -----------------------------------------------------------------------


def constraint_violation(realised_value: float, bound: float, *, upper: bool = True) -> float:
    """By how much a bound was broken, as a share of it; 0 where it was kept.

    Args:
        realised_value: What was spent, taken or reached on the test prompts.
        bound: The budget, cap or floor that was asked for; not 0.
        upper: Whether the bound is an upper one (cost, latency) or a floor (accuracy).
    """
    if bound == 0 or not math.isfinite(bound) or not math.isfinite(realised_value):
        raise DataError(f"a violation of {realised_value} against {bound} is not a share of it")
    excess = realised_value - bound if upper else bound - realised_value
    return max(0.0, excess) / abs(bound)


def duality_gap(objective: float, bound: float) -> float | None:
    """``(bound - objective) / |bound|`` of a maximised objective; None where the bound is 0.

    Raises:
        DataError: the objective lies above its bound, so the bound proves nothing.
    """
    gap = bound - objective
    if gap < -1e-9 * max(1.0, abs(bound)):
        raise DataError(f"the objective {objective} lies above its proven bound {bound}")
    return max(0.0, gap) / abs(bound) if bound else None


def interval_coverage(low: FloatArray, high: FloatArray, truth: FloatArray) -> float | None:
    """Share of the intervals, ends included, that hold the truth; None where there is none.

    For P(correct) the truths are mean scores of held-out groups of cells (a newcomer on a
    benchmark, a bin of difficulty), not single answers. Intervals whose truth is NaN are left out;
    an interval that is itself NaN counts as a miss.
    """
    low, high, truth = (np.asarray(x, dtype=np.float64) for x in (low, high, truth))
    seen: BoolArray = ~np.isnan(truth)
    if not seen.any():
        return None
    return float(((low <= truth) & (truth <= high))[seen].mean())


def _ratio(top: FloatArray, bottom: FloatArray, where: BoolArray) -> Float64Array:
    """Elementwise quotient, NaN where it is not defined."""
    out: Float64Array = np.divide(top, bottom, out=np.full(top.shape, math.nan), where=where)
    return out


def _single_models(scores: FloatArray, cost_usd: FloatArray) -> tuple[Float64Array, Float64Array]:
    """(M,) mean scores of a complete block, and mean costs, NaN without a price."""
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any() or scores.shape[1] == 0:
        raise DataError("single models are compared on complete, non-empty blocks only")
    return scores.mean(axis=1), np.asarray(cost_usd, dtype=np.float64).mean(axis=1)
