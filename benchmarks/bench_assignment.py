"""What a batch costs to assign: one budget, several bounds, small ones proven, jobs, streams.

    python benchmarks/bench_assignment.py [--small]

Estimates are given (float32), drawn so that dear models are better on most prompts and prices
span three orders of magnitude. One process, one thread. `wall` is what targets are about; `cpu` is
the same where the machine is not shared. `--small` leaves out the table of a million prompts.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import importlib.util
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.jobs import Jobs, assign_jobs
from zerorouter.routing.assignment.offers import Bounds, Capacity, Offers
from zerorouter.routing.assignment.spend import CostErrors

ROW = "{:<58} {:>8} {:>8} {:>10} {:>10}  {}"


def offers(n: int, m: int, *, latency: bool = False, seed: int = 0) -> Offers:
    """N prompts and M models, made in blocks so that nothing but the tables takes memory."""
    rng = np.random.default_rng(seed)
    price = np.sort(np.exp(rng.normal(-7, 1.5, m)))
    ability = 0.5 * np.log(price) + rng.normal(0, 0.5, m)
    ability -= ability.mean()
    speed = np.exp(rng.normal(0.5, 0.6, m))
    p = np.empty((n, m), dtype=np.float32)
    cost = np.empty((n, m), dtype=np.float32)
    seconds = np.empty((n, m), dtype=np.float32) if latency else None
    tokens = np.empty((n, m), dtype=np.float32) if latency else None
    for start in range(0, n, 20_000):
        rows = slice(start, min(start + 20_000, n))
        size = (rows.stop - start, m)
        difficulty = rng.normal(0, 1.5, (size[0], 1))
        length = np.exp(rng.normal(0, 0.7, (size[0], 1)) + rng.normal(0, 0.2, size))
        p[rows] = 1 / (1 + np.exp(difficulty - ability - rng.normal(0, 0.3, size)))
        cost[rows] = price * length
        if seconds is not None and tokens is not None:
            seconds[rows] = speed * length
            tokens[rows] = np.round(300 * length)
    return Offers(
        models=tuple(f"m{j:03d}" for j in range(m)),
        p_correct=p,
        cost_usd=cost,
        latency_s=seconds,
        latency_p95_s=None if seconds is None else seconds * np.float32(2.2),
        tokens=tokens,
    )


def ends(table: Offers) -> tuple[float, float]:
    """The least that the batch can cost, and what the most accurate choice costs."""
    low = high = 0.0
    for start in range(0, table.n_prompts, 20_000):
        rows = slice(start, start + 20_000)
        cost = table.cost_usd[rows]
        low += float(cost.min(axis=1).sum(dtype=np.float64))
        best = table.p_correct[rows].argmax(axis=1)[:, None]
        high += float(np.take_along_axis(cost, best, axis=1).sum(dtype=np.float64))
    return low, high


def timed(call: Callable[[], Any], runs: int = 3) -> tuple[Any, float, float]:
    """The result, and the best wall and CPU seconds of some runs."""
    spans = []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        found = call()
        spans.append((time.perf_counter() - wall, time.process_time() - cpu))
    return found, min(s[0] for s in spans), min(s[1] for s in spans)


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def verdict(*checks: tuple[str, bool]) -> str:
    return ", ".join(f"{what} {'ok' if holds else 'MISSED'}" for what, holds in checks)


def show(label: str, wall: float, cpu: float, gap: float, note: str = "") -> None:
    print(ROW.format(label, f"{wall:.2f}", f"{cpu:.2f}", f"{gap:.1e}", f"{peak_gb():.2f}", note))


def one_budget(n: int, m: int, *, targets: bool) -> None:
    table = offers(n, m)
    low, high = ends(table)
    for share in (0.001, 0.05, 0.3, 0.9):
        budget = low + share * (high - low)
        found, wall, cpu = timed(partial(assign, table, Bounds(budget_usd=budget), exact=False))
        t = found.totals
        assert t.spend_usd <= budget
        note = ""
        if targets:
            note = verdict(
                ("1.0 s", wall <= 1.0), ("gap 1e-5", t.gap < 1e-5), ("1.2 GB", peak_gb() < 1.2)
            )
        show(f"one budget, {n:,} x {m}, {share:.1%} of the way to the best", wall, cpu, t.gap, note)
    errors = CostErrors(own_sd=0.5, model_sd=0.2, common_sd=0.05)
    budget = low + 0.05 * (high - low)
    found, wall, cpu = timed(
        lambda: assign(
            table, Bounds(budget_usd=budget), confidence=0.95, cost_errors=errors, exact=False
        ),
        1,
    )
    show("  kept by the realised spend, 95% likely", wall, cpu, found.totals.gap)


def several(n: int, m: int, *, targets: bool) -> None:
    table = offers(n, m, latency=True)
    low, high = ends(table)
    budget = low + 0.1 * (high - low)
    free = assign(table, Bounds(budget_usd=budget), exact=False).totals
    assert free.mean_latency_s is not None
    assert free.p95_latency_s is not None
    cap = {"*": Capacity(requests=3 * n // m)}
    mean = 0.9 * free.mean_latency_s
    cases = {
        "budget and mean latency": Bounds(budget_usd=budget, max_mean_latency_s=mean),
        "budget, mean latency, capacities": Bounds(
            budget_usd=budget, max_mean_latency_s=mean, capacity=cap
        ),
        "budget, p95 latency, capacities": Bounds(
            budget_usd=budget, max_p95_latency_s=0.9 * free.p95_latency_s, capacity=cap
        ),
        "capacities in requests and tokens": Bounds(
            budget_usd=budget,
            max_mean_latency_s=mean,
            capacity={"*": Capacity(requests=3 * n // m, tokens=1000.0 * n / m)},
        ),
    }
    for label, bounds in cases.items():
        found, wall, cpu = timed(partial(assign, table, bounds, exact=False), 2)
        note = verdict(("5 s", wall <= 5.0), ("gap 1e-3", found.totals.gap < 1e-3))
        show(f"{label}, {n:,} x {m}", wall, cpu, found.totals.gap, note if targets else "")


def small() -> None:
    if importlib.util.find_spec("scipy") is None:
        print("HiGHS is left out: scipy is not installed here")
        return
    import scipy.optimize  # noqa: F401  # its import is no part of the time

    for n, m in ((100, 20), (1_000, 50)):
        table = offers(n, m, latency=True, seed=3)
        low, high = ends(table)
        bounds = Bounds(budget_usd=low + 0.1 * (high - low))
        dual, _, _ = timed(partial(assign, table, bounds, exact=False))
        found, wall, cpu = timed(partial(assign, table, bounds, exact=True))
        lost = (found.totals.objective - dual.totals.objective) / found.totals.objective
        proof = "proven" if found.totals.exact else "not proven"
        note = f"{proof}; the dual alone lost {lost:.1e} and bounded {dual.totals.gap:.1e}"
        show(f"one budget to the end by HiGHS, {n:,} x {m}", wall, cpu, found.totals.gap, note)


def jobs() -> None:
    rng = np.random.default_rng(1)
    n, g, m = 50_000, 10_000, 50
    p = rng.random((n, m)) ** 0.3
    cost = np.exp(rng.normal(-5, 1, (n, m))) * p**3
    table = Offers(models=tuple(f"m{j}" for j in range(m)), p_correct=p, cost_usd=cost)
    own = Jobs.of([i % g for i in range(n)])
    budget = 3 * float(cost.min(axis=1).sum())
    found, wall, cpu = timed(lambda: assign_jobs(table, own, budget_usd=budget), 2)
    show(
        f"{g:,} jobs of 5 subtasks, all needed, {m} models", wall, cpu, found.assignment.totals.gap
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--small", action="store_true", help="leave out the million prompts")
    args = parser.parse_args()
    print(ROW.format("", "wall s", "cpu s", "gap", "peak GB", ""))
    if not args.small:
        one_budget(1_000_000, 100, targets=True)
    one_budget(10_000, 100, targets=False)
    several(100_000, 100, targets=True)
    small()
    jobs()


if __name__ == "__main__":
    main()
