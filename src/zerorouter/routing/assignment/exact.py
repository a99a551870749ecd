"""Proof by branch and bound (HiGHS, through SciPy) where an assignment is small enough.

A pair whose reduced gain lies farther below its prompt's best than the dual's bound lies above a
known choice is in no better choice, so it is left out (Lagrangian probing). What remains is
often so little that large assignments can be certified too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.errors import require_extra
from zerorouter.routing.assignment.programme import Prices, Programme
from zerorouter.routing.assignment.solution import (
    Solution,
    Unreachable,
    no_prices,
    relative_gap,
)

MOST_PAIRS = 8_000  # (prompt, model) pairs given to the solver unasked
MOST_NODES = 2_000  # of branch and bound; a count, since a time limit would not be deterministic
TIGHTER = (0.0, 2e-6, 1e-5)  # shares of the limits, tried where HiGHS overdraws by its tolerance
PROVEN = 1e-6  # relative gap below which a choice counts as optimal: HiGHS's own tolerance
SLACK = 1e-9  # of the objective, by which probing spares pairs that only just lose


def available() -> bool:
    """Whether SciPy is installed."""
    return importlib.util.find_spec("scipy") is not None


def surviving_pairs(
    programme: Programme, prices: Prices, bound: float, objective: float
) -> tuple[IntArray, IntArray]:
    """Rows and columns of the pairs that a choice better than ``objective`` may use."""
    scorer = programme.scorer(prices)
    room = max(bound - objective, 0.0) + SLACK * (abs(bound) + 1.0)
    found = []
    done = 0
    for rows in programme.blocks():
        score = scorer(rows)
        row, column = np.nonzero(score >= score.max(axis=1, keepdims=True) - room)
        found.append((row + done, column))
        done += len(score)
    row, column = (np.concatenate(part) for part in zip(*found, strict=True))
    return row, column


def solve_exact(
    programme: Programme,
    *,
    incumbent: Solution | None = None,
    most_nodes: int | None = MOST_NODES,
) -> Solution:
    """The best choice by branch and bound, or the best known one when nodes run out.

    Args:
        programme: What is bounded.
        incumbent: A choice that keeps the bounds, with multipliers; makes the problem smaller.
        most_nodes: Of branch and bound; None for no limit.

    While HiGHS works, the process's standard output is closed to all threads.

    Raises:
        Unreachable: no choice keeps the bounds.
        MissingExtraError: SciPy is not installed.
    """
    require_extra("scipy", "fit", "solving an assignment exactly")
    p = programme
    row: IntArray
    column: IntArray
    if incumbent is None:
        every = np.ones(p.gain.shape, dtype=np.bool_) if p.allowed is None else p.allowed
        row, column = (np.asarray(part) for part in np.nonzero(every))
    else:
        row, column = surviving_pairs(p, incumbent.prices, incumbent.bound, incumbent.objective)
    best, upper = incumbent, np.inf
    for tightened in TIGHTER:
        found = _branch_and_bound(p, row, column, tightened, most_nodes)
        if found is None:
            break
        choice, limit = found
        if tightened == 0:
            upper = limit
        if choice is None:
            break
        if p.keeps(choice):
            objective = p.value(choice)
            if best is None or objective > best.objective:
                prices = no_prices(p) if best is None else best.prices
                best = Solution(choice=choice, objective=objective, bound=upper, prices=prices)
            break
    if best is None:
        raise Unreachable(proven=found is None and tightened == 0)
    known = upper if incumbent is None else min(upper, incumbent.bound)
    bound = max(known, best.objective)
    proven = relative_gap(best.objective, bound) <= PROVEN
    return replace(best, bound=bound, exact=proven)


def _branch_and_bound(
    p: Programme, row: IntArray, column: IntArray, tightened: float, most_nodes: int | None
) -> tuple[IntArray | None, float] | None:
    """A choice, if one was found, and a bound on all; None where there is proven to be none."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    n, pairs = p.n_prompts, np.arange(len(row))
    one_each = csr_array((np.ones(len(row)), (row, pairs)), shape=(n, len(row)))
    constraints = [LinearConstraint(one_each, 1, 1)]
    amounts, limits = _limits(p, row, column)
    if amounts:
        # Each bound in units of its limit, since HiGHS's tolerance is absolute.
        scale = np.array([abs(limit) / n if limit else 1.0 for limit in limits])
        table = vstack(
            [csr_array((taken / unit)[None, :]) for taken, unit in zip(amounts, scale, strict=True)]
        )
        constraints.append(
            LinearConstraint(
                table.tocsr(), -np.inf, (np.array(limits) - tightened * np.abs(limits)) / scale
            )
        )
    gain = p.gains(row, column)
    unit = float(np.abs(gain).max(initial=0.0)) or 1.0
    options: dict[str, float] = {"mip_rel_gap": 1e-9}
    if most_nodes is not None:
        options["node_limit"] = most_nodes
    with _quiet():
        found = milp(
            -gain / unit,
            integrality=np.ones(len(row)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options=options,
        )
    if found.status == 2:
        return None
    upper = np.inf if found.mip_dual_bound is None else -unit * float(found.mip_dual_bound)
    if found.x is None:
        return None, upper
    choice = np.zeros(n, dtype=np.int32)
    taken = found.x > 0.5
    choice[row[taken]] = column[taken]
    return choice, upper


_stdout_lock = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep HiGHS from printing: asked to be silent, it still writes to the C standard output.

    That is known (jump-dev/HiGHS.jl issue 312) and would break the JSON that commands print.
    """
    with _stdout_lock:
        try:
            sys.stdout.flush()
            kept = os.dup(1)
        except (OSError, ValueError, AttributeError):  # there is no standard output
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            os.close(nowhere)


def _limits(
    p: Programme, row: IntArray, column: IntArray
) -> tuple[list[Float64Array], list[float]]:
    """Left sides over the pairs and right sides of every finite bound."""
    rows, limits = [], []
    for side in p.sides:
        if np.isfinite(side.limit):
            rows.append(side.of(row, column))
            limits.append(side.limit)
    for j in np.flatnonzero(np.isfinite(p.request_limit)).tolist():
        rows.append((column == j).astype(np.float64))
        limits.append(float(p.request_limit[j]))
    for j in np.flatnonzero(np.isfinite(p.token_limit)).tolist():
        assert p.tokens is not None
        tokens = np.asarray(p.tokens[row, column], dtype=np.float64)
        rows.append(np.where(column == j, tokens, 0.0))
        limits.append(float(p.token_limit[j]))
    return rows, limits
