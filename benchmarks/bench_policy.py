"""What the decision costs once P(correct), cost and latency are estimated, for 50 models.

    python benchmarks/bench_policy.py [--runs 5000]

One process, one thread, the first 50 models of the shipped space, a prompt of 64 word pieces.
*The decision* is everything between the table of estimates and the `Decision`: lists,
capabilities and context, bounds, utilities, the choice and the record of it.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import dataclasses
import time
from collections.abc import Callable

import numpy as np

from zerorouter.predict.prompt import read_prompt
from zerorouter.router import Router, Wishes
from zerorouter.routing import choice
from zerorouter.routing.policy import BEST, CHEAPEST, POLICIES, Policy

N_MODELS = 50
PROMPT = (  # 64 word pieces
    "A ferry leaves the island at 9:40 and needs 55 minutes to the coast, where a bus waits for at "
    "most a quarter of an hour. If the ferry is late by x minutes, for which values of x does a "
    "passenger still arrive in the city before noon, and what would"
)
ROW = "{:<46} {:>9} {:>9} {:>9}  {:>12}"


def show(label: str, seconds: list[float], target_us: float | None = None) -> None:
    p50, p95, p99 = (1e6 * float(q) for q in np.percentile(seconds, [50, 95, 99]))
    target = (
        "" if target_us is None else f"{target_us:.0f} {'ok' if p50 <= target_us else 'MISSED'}"
    )
    print(ROW.format(label, f"{p50:.1f}", f"{p95:.1f}", f"{p99:.1f}", target))


def timed(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of so many calls."""
    clock = time.perf_counter
    for _ in range(200):
        call()
    spans = []
    for _ in range(runs):
        start = clock()
        call()
        spans.append(clock() - start)
    return spans


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=5000)
    runs = parser.parse_args().runs
    whole = Router.load()
    router = Router(whole.space, whole.catalog, models=whole.models[:N_MODELS])
    prompt = read_prompt(PROMPT)
    readings = router._reader.read((prompt,))
    pool, wishes = router._pool, Wishes()
    tokens = pool.input_tokens((prompt,))
    table = pool.estimate(readings, tokens)
    everyone = np.arange(N_MODELS)

    print(ROW.format("microseconds", "p50", "p95", "p99", "target p50"))

    def decide(policy: Policy) -> Callable[[], object]:
        return lambda: router._decide(prompt, readings, 0, table, policy, wishes)

    show("the decision, balanced", timed(decide(POLICIES["balanced"]), runs), 20)
    show("the decision, paper_max_acc", timed(decide(POLICIES["paper_max_acc"]), runs), 20)
    chebyshev = dataclasses.replace(POLICIES["balanced"], scalarisation="chebyshev")
    show("the decision, Chebyshev", timed(decide(chebyshev), runs))
    enough = float(np.median(table.p_correct))
    cheap = dataclasses.replace(CHEAPEST, min_accuracy=enough)
    show("at least p at the least cost", timed(decide(cheap), runs))
    sure = dataclasses.replace(cheap, confidence=0.9, min_accuracy=enough - 0.1)
    show("the same at confidence 0.9", timed(decide(sure), runs))
    capped = dataclasses.replace(
        BEST,
        max_cost_usd=float(np.median(table.cost_usd)),
        max_p95_latency_s=2 * float(np.median(table.latency_p95_s)),
    )

    def afresh() -> object:
        once = dataclasses.replace(table)  # percentiles are kept with a table: ask for them anew
        return router._decide(prompt, readings, 0, once, capped, wishes)

    show("the best under cost and p95 latency", timed(afresh, runs))
    print()
    show("the utilities alone", timed(lambda: choice.utilities(table, POLICIES["balanced"]), runs))
    utility = choice.utilities(table, POLICIES["balanced"])[0]
    show("the choice alone", timed(lambda: choice.best(table, 0, utility, everyone), runs))
    show("the estimates", timed(lambda: pool.estimate(readings, tokens), runs))
    show("input tokens of the request", timed(lambda: pool.input_tokens((prompt,)), runs))


if __name__ == "__main__":
    main()
