"""A budget per day for a stream of requests that nobody has counted.

    python examples/paced_budget.py [--budget 0.15]

Two days of traffic by a daily profile, with a burst on the second afternoon, pass a pacer that
knows neither. Every request is estimated by the router, gets the model that the price of a dollar
allows, and is settled with what it cost in the end (here: the estimate, scattered). Runs offline on
the space that ships with the package.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from zerorouter import Router
from zerorouter.routing.pacing import DAY_S, Pacer

PROMPTS = (
    "What is 17 * 23?",
    "Which planet has the most moons?",
    "Translate 'good morning, everyone' into Portuguese.",
    "Prove that the square root of 2 is irrational.",
    "A train leaves at 9:40 and arrives at 13:05. How long does it take?",
    "Write a Python function that merges overlapping intervals, with tests.",
    "Summarise the causes of the French Revolution in five sentences.",
    "In how many ways can 7 people sit at a round table if two of them must not be neighbours?",
    "Find the integral of x^2 * exp(-x) from 0 to infinity.",
    "Is 9.11 larger than 9.9? Answer yes or no.",
)


@dataclass(frozen=True, kw_only=True)
class Day:
    """What a day came to."""

    requests: int
    refused: int
    p_correct: float
    spent_usd: float


def arrivals(rng: np.random.Generator) -> list[float]:
    """Seconds since the start of some day: about 400 requests a day, 150 more in a burst."""
    hours = np.arange(48)
    rate = 4 + 30 * np.exp(-(((hours % 24) - 13) ** 2) / 18)
    times = [3600 * (h + rng.random()) for h in hours for _ in range(rng.poisson(rate[h]))]
    burst = DAY_S + 15 * 3600 + rng.exponential(300, 150)
    return sorted([*times, *burst.tolist()])


def replay(router: Router, budget_usd: float, seed: int = 0) -> tuple[Pacer, list[Day]]:
    """Both days through a pacer."""
    rng = np.random.default_rng(seed)
    estimates = router.estimates(PROMPTS)
    high = estimates.cost_quantile(0.95)  # what is set aside until the bill is known
    pacer = Pacer(budget_usd, "day")
    seen: list[list[float]] = [[], []]
    spent, refused = [0.0, 0.0], [0, 0]
    for now in arrivals(rng):
        i, day = int(rng.integers(len(PROMPTS))), int(now // DAY_S)
        pace = pacer.choose(now, estimates.p_correct[i], estimates.cost_usd[i], high[i])
        if pace.column is None:
            refused[day] += 1
            continue
        bill = estimates.cost_usd[i, pace.column] * math.exp(rng.normal(-0.045, 0.3))
        pacer.settle(pace, float(bill))
        spent[day] += float(bill)
        seen[day].append(float(estimates.p_correct[i, pace.column]))
    return pacer, [
        Day(
            requests=len(p) + lost,
            refused=lost,
            p_correct=float(np.mean(p)),
            spent_usd=dollars,
        )
        for p, lost, dollars in zip(seen, refused, spent, strict=True)
    ]


def main() -> None:
    """Print both days."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=0.15, metavar="USD")
    budget = parser.parse_args().budget
    pacer, days = replay(Router.load(), budget)
    for name, day in zip(("first day", "second day, with a burst"), days, strict=True):
        print(
            f"{name:<25} {day.requests:>4} requests, {day.refused} refused, "
            f"${day.spent_usd:.4f} of ${budget:.4f}, P(correct) {day.p_correct:.1%} in the mean"
        )
    print(f"a dollar now has to bring {pacer.price:.0f} correct answers")


if __name__ == "__main__":
    main()
