"""Routes 200,000 varied prompts and checks that neither memory nor time creeps up.

    python benchmarks/soak_router.py [N]

Exits with 1 where resident memory grew by 20 MB or more after the first tenth, or where one and the
same prompt takes twice as long at the end as after the first tenth (the best of many runs, since
the machine is rarely ours alone), or any decision was unsound.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import random
import sys
import time

from zerorouter.errors import NoEligibleModelError
from zerorouter.router import Router

MOST_GROWTH_MB = 20.0
MOST_SLOWDOWN = 2.0
WORDS = [
    *("why", "does", "a", "kettle", "sing", "prove", "that", "list", "the", "reasons", "sum", "of"),
    *("3", "and", "48", "translate", "into", "French", "def", "return", "if", "x", ">", "7", "∑"),
    *("über", "東京", "what", "is", "tallest", "\n\n", "-", "A)", "B)", "C)", '{"a":', "[1, 2]}"),
    *("explain", "contract", "clause", "dose", "integral", "matrix", "sort", "poem", "letter"),
]
POLICIES = ("quality", "balanced", "cost", "latency")


def resident_mb() -> float:
    """Resident memory of this process, from the kernel."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # not a real file
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def prompt(draw: random.Random, i: int) -> str:
    """A text of one to a few hundred words; one in a thousand is very long."""
    n = 20_000 if i % 1000 == 999 else int(1 + draw.paretovariate(1.2)) % 300 + 1
    return f"{i} " + " ".join(draw.choices(WORDS, k=n))


def best_us(router: Router) -> float:
    """The fastest of many routes of one prompt."""
    best = float("inf")
    for _ in range(2000):
        start = time.perf_counter()
        router.route("How many legs do 7 spiders and 4 beetles have together?")
        best = min(best, time.perf_counter() - start)
    return 1e6 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=200_000)
    count = max(parser.parse_args().count, 10)
    router, draw = Router.load(), random.Random(0)
    tenth = count // 10
    memory: list[float] = []
    first_us = 0.0
    refused = 0
    for part in range(10):
        start = time.perf_counter()
        for i in range(part * tenth, (part + 1) * tenth):
            # More deny lists than the router remembers; Python itself keeps 32,768 patterns.
            denied = (f"*{i % 3000}*",) if i % 7 == 0 else ()
            try:
                decision = router.route(
                    prompt(draw, i),
                    policy=POLICIES[i % 4],
                    exclude=denied,
                    max_cost_usd=0.001 if i % 11 == 0 else None,
                )
            except NoEligibleModelError:
                refused += 1
                continue
            if not (
                0 < decision.p_correct_low <= decision.p_correct <= decision.p_correct_high < 1
                and decision.cost_usd > 0
                and decision.latency_s > 0
            ):
                sys.exit(f"prompt {i}: an unsound decision: {decision}")
            if i % 50 == 0:
                decision.to_dict()
        span = (time.perf_counter() - start) / tenth
        first_us = first_us or best_us(router)
        memory.append(resident_mb())
        print(
            f"{(part + 1) * tenth:>9,} routes  {1e6 * span:7.1f} us each  "
            f"{memory[-1]:7.1f} MB resident",
            flush=True,
        )
    growth, slowdown = max(memory[1:]) - memory[0], best_us(router) / first_us
    print(
        f"growth {growth:.1f} MB (limit {MOST_GROWTH_MB:g}), "
        f"the same prompt takes {slowdown:.2f} times as long "
        f"(limit {MOST_SLOWDOWN:g}), {refused:,} refused by a cost bound"
    )
    if growth >= MOST_GROWTH_MB or slowdown >= MOST_SLOWDOWN:
        sys.exit("FAILED")
    print("ok")


if __name__ == "__main__":
    main()
