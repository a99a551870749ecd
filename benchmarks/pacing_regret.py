"""How well a budget per day is paced: regret and violation on replays of real records.

    python benchmarks/pacing_regret.py --data ../shared/data [--draws 5]

Requests are prompts of routerbench-subset (real dollars) and zeroeval (characters over four at
list prices); P(correct) and costs are forecast by ridge regressions on text features, fitted to
the other half of the prompts. Four days of traffic, about a thousand requests a day by a daily
profile that the pacer does not know, in three orders:

  shuffled   prompts in random order
  bursty     bursts of one task within minutes, day and night
  drifting   from cheap to dear prompts, while traffic doubles over the days

`regret` is what is missing of the offline optimum, the sum over days of the proven bound for a
batch that was known in advance; the objective is the expected number of right answers. `kept` tells
whether any day was overdrawn, by how much at worst, when bills are the real costs and only
forecasts are known beforehand: reserves are 95% quantiles.

  pacer            zerorouter.routing.pacing as it is
  textbook         the same with the gradient of one request, not of the last 64
  best fixed price the one price that is best in hindsight over all days, with the hard stop
  equal shares     the best model that costs no more than an equal share of the day's budget
  until it is gone the most accurate model until nothing is left
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.data.reading import read_folders
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.pacing import DAY_S, Pacer, PacingSettings

DAYS, PER_DAY = 4, 1_000
CHARS_PER_TOKEN = 4.0
HIDDEN = ("o1-mini-2024-09-12", "o1-preview-2024-09-12")  # their hidden tokens are not known
ORDERS = ("shuffled", "bursty", "drifting")
RIDGE = 3.0
ROW = "{:<20} {:<10} {:<17} {:>8} {:>9} {:>9} {:>9} {:>14}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """Prompts that can be replayed.

    Attributes:
        models: (M,)
        p: (N, M) forecast P(correct).
        cost: (N, M) forecast dollars.
        cost_sd: (M,) of the log of real over forecast costs.
        real: (N, M) dollars.
        score: (N, M)
        task: (N,)
    """

    models: tuple[str, ...]
    p: Float64Array
    cost: Float64Array
    cost_sd: Float64Array
    real: Float64Array
    score: Float64Array
    task: IntArray


def read_requests(data: Path, name: str, seed: int = 0) -> Requests:
    """Half of a data set, with forecasts learned on the other half."""
    matrix = read_folders([data / name])
    score = matrix.scores.T.astype(np.float64)
    if name == "zeroeval":
        chars = matrix.matrix("output_chars").T.astype(np.float64)
        given = np.array([len(text) for text in matrix.prompts.texts])
        rates = np.array(
            [
                [m.input_usd_per_mtok or np.nan, m.output_usd_per_mtok or np.nan]
                for m in matrix.models
            ]
        )
        cost = (given[:, None] * rates[:, 0] + np.maximum(chars, 4) * rates[:, 1]) / (
            CHARS_PER_TOKEN * 1e6
        )
        cost[:, [matrix.respondents.index(m) for m in HIDDEN]] = np.nan
    else:
        cost = matrix.matrix("cost_usd").T.astype(np.float64)
    known = np.isfinite(cost) & np.isfinite(score)
    columns = np.flatnonzero(known.mean(axis=0) > 0.99)
    rows = np.flatnonzero(known[:, columns].all(axis=1))
    prompts = matrix.prompts.take(rows)
    cost, score = cost[np.ix_(rows, columns)], score[np.ix_(rows, columns)]
    named = [task or "" for task in prompts.tasks]
    table = features(prompts.texts)
    order = np.random.default_rng(seed).permutation(len(rows))
    learn, replay = order[: len(order) // 2], order[len(order) // 2 :]
    log_cost = ridge(table[learn], np.log(cost[learn]))
    error = np.log(cost[learn]) - log_cost(table[learn])
    sd = error.std(axis=0)
    chance = ridge(table[learn], score[learn])
    names = sorted(set(named))
    return Requests(
        models=tuple(matrix.respondents[int(j)] for j in columns),
        p=np.clip(chance(table[replay]), 0.02, 0.98),
        cost=np.exp(log_cost(table[replay]) + sd**2 / 2),
        cost_sd=sd,
        real=cost[replay],
        score=score[replay],
        task=np.array([names.index(named[int(i)]) for i in replay]),
    )


def features(texts: Sequence[str]) -> Float64Array:
    """(N, F) what tells prompts' kinds and lengths apart, standardised."""
    rows = [
        [
            np.log(len(text)),
            np.log(1 + len(text.split())),
            np.log(1 + text.count("\n")),
            sum(c.isdigit() for c in text) / len(text),
            sum(c in "()[]{}=_" for c in text) / len(text),
            text.count("$") / len(text),
            text.count("\\") / len(text),
            float("def " in text or "assert" in text),
            float("_" in text),
            np.log(1 + text.count("A.") + text.count("A)")),
        ]
        for text in texts
    ]
    table = np.array(rows)
    return np.asarray((table - table.mean(axis=0)) / (table.std(axis=0) + 1e-9))


def ridge(table: Float64Array, target: Float64Array) -> Callable[[Float64Array], Float64Array]:
    """A ridge regression with a constant, per column of the target."""
    design = np.column_stack([np.ones(len(table)), table])
    pull = np.diag([0.0, *[RIDGE] * table.shape[1]])
    weights = np.linalg.solve(design.T @ design + pull, design.T @ target)
    return lambda other: np.asarray(np.column_stack([np.ones(len(other)), other]) @ weights)


# -- traffic -----------------------------------------------------------------------------------


def profile(at_s: Float64Array) -> Float64Array:
    """Relative traffic by time of day: little at night, two humps by day."""
    hour = at_s % DAY_S / 3600
    return np.asarray(
        0.15 + np.exp(-((hour - 10.5) ** 2) / 6) + 0.8 * np.exp(-((hour - 15.5) ** 2) / 8)
    )


def times(n: int, growth: float, rng: np.random.Generator) -> Float64Array:
    """Rising arrival times over the days, traffic growing by that factor from end to end."""
    grid = np.linspace(0, DAYS * DAY_S, 20_000)
    rate = profile(grid) * growth ** (grid / grid[-1])
    weight = np.cumsum(rate)
    return np.sort(np.interp(rng.random(n), weight / weight[-1], grid))


def traffic(
    requests: Requests, order: str, rng: np.random.Generator
) -> tuple[Float64Array, IntArray]:
    """Arrival times and the prompts that arrive."""
    n = DAYS * PER_DAY
    rows = rng.integers(0, len(requests.task), n)
    if order == "shuffled":
        return times(n, 1.0, rng), rows
    if order == "drifting":
        dear = np.log(requests.cost[rows].mean(axis=1))
        dear = (dear - dear.mean()) / dear.std() + 0.5 * rng.standard_normal(n)
        return times(n, 2.0, rng), rows[np.argsort(dear)]
    starts = np.sort(rng.uniform(0, DAYS * DAY_S, 80))
    burst = np.sort(rng.integers(0, len(starts), n))
    at = starts[burst] + rng.exponential(120, n)
    task = rng.integers(0, requests.task.max() + 1, len(starts))[burst]
    for t in range(int(requests.task.max()) + 1):
        mine = np.flatnonzero(task == t)
        rows[mine] = rng.choice(np.flatnonzero(requests.task == t), len(mine))
    order_of = np.argsort(np.minimum(at, DAYS * DAY_S - 1), kind="stable")
    return np.minimum(at, DAYS * DAY_S - 1)[order_of], rows[order_of]


# -- ways to spend -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a way of spending came to, over all days."""

    expected: float
    right: float
    spent: float
    refused: float
    worst: float  # largest overdraft of a day, as a share of the budget


def paced(
    requests: Requests,
    at: Float64Array,
    rows: IntArray,
    budget: float,
    settings: PacingSettings,
    *,
    bills: bool,
) -> Outcome:
    """A pacer; with ``bills`` it knows forecasts and pays real costs."""
    pacer = Pacer(budget, "day", settings=settings)
    told = requests.cost if bills else requests.real
    reserve = np.exp(1.645 * requests.cost_sd - requests.cost_sd**2 / 2) if bills else 1.0
    choice = np.full(len(rows), -1)
    for i, (now, row) in enumerate(zip(at.tolist(), rows.tolist(), strict=True)):
        pace = pacer.choose(now, requests.p[row], told[row], told[row] * reserve)
        if pace.column is not None:
            choice[i] = pace.column
            pacer.settle(pace, float(requests.real[row, pace.column]))
    return outcome(requests, at, rows, choice, budget)


def greedily(
    requests: Requests, at: Float64Array, rows: IntArray, budget: float, score: Float64Array
) -> Outcome:
    """The best affordable model by a fixed score, until the day's budget is gone."""
    choice, spent, day = np.full(len(rows), -1), 0.0, -1
    for i, (now, row) in enumerate(zip(at.tolist(), rows.tolist(), strict=True)):
        if now // DAY_S != day:
            day, spent = now // DAY_S, 0.0
        able = np.where(requests.real[row] <= budget - spent, score[i], -np.inf)
        if np.isfinite(able.max()):
            choice[i] = int(able.argmax())
            spent += float(requests.real[row, choice[i]])
    return outcome(requests, at, rows, choice, budget)


def outcome(
    requests: Requests, at: Float64Array, rows: IntArray, choice: IntArray, budget: float
) -> Outcome:
    sent = choice >= 0
    cost = np.where(sent, requests.real[rows, choice], 0.0)
    per_day = np.bincount((at // DAY_S).astype(int), cost, minlength=DAYS)
    return Outcome(
        expected=float(requests.p[rows[sent], choice[sent]].sum()),
        right=float(requests.score[rows[sent], choice[sent]].sum() / len(rows)),
        spent=float(per_day.sum() / (budget * DAYS)),
        refused=float(1 - sent.mean()),
        worst=float(max(per_day.max() / budget - 1, 0.0)),
    )


def offline(requests: Requests, at: Float64Array, rows: IntArray, budget: float) -> float:
    """The bound on what any choice could have reached, day by day."""
    total = 0.0
    for day in range(DAYS):
        mine = rows[(at // DAY_S).astype(int) == day]
        if len(mine):
            offers = Offers(
                models=requests.models, p_correct=requests.p[mine], cost_usd=requests.real[mine]
            )
            total += assign(offers, Bounds(budget_usd=budget), exact=False).totals.bound
    return total


def best_price(requests: Requests, at: Float64Array, rows: IntArray, budget: float) -> Outcome:
    """The price that is best in hindsight."""
    ratio = np.median(np.ptp(requests.p, axis=1) / np.ptp(requests.real, axis=1))
    found = [
        greedily(requests, at, rows, budget, requests.p[rows] - price * requests.real[rows])
        for price in ratio * np.geomspace(0.01, 100, 80)
    ]
    return max(found, key=lambda o: o.expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ZEROROUTER_DATA", "../shared/data"))
    )
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    print(ROW.format("", "order", "way", "regret", "right", "spent", "refused", "real bills: kept"))
    for name in ("routerbench-subset", "zeroeval"):
        if not (args.data / name).is_dir():
            print(f"left out: no records at {args.data / name}")
            continue
        requests = read_requests(args.data, name)
        least = float(requests.real.min(axis=1).mean())
        best = float(
            np.take_along_axis(requests.real, requests.p.argmax(axis=1)[:, None], axis=1).mean()
        )
        budget = PER_DAY * (least + 0.25 * (best - least))
        for order in ORDERS:
            table: dict[str, list[tuple[float, Outcome, Outcome | None]]] = {}
            for draw in range(args.draws):
                rng = np.random.default_rng(draw)
                at, rows = traffic(requests, order, rng)
                optimum = offline(requests, at, rows, budget)
                share = (
                    np.where(requests.real[rows] <= budget / PER_DAY, requests.p[rows], -1.0)
                    - 1e-3 * requests.real[rows]
                )
                ways: dict[str, tuple[Outcome, Outcome | None]] = {}
                for way, settings in (
                    ("pacer", PacingSettings()),
                    ("textbook", PacingSettings(recent=1, step=0.05)),
                ):
                    ways[way] = (
                        paced(requests, at, rows, budget, settings, bills=False),
                        paced(requests, at, rows, budget, settings, bills=True),
                    )
                ways["best fixed price"] = (best_price(requests, at, rows, budget), None)
                ways["equal shares"] = (greedily(requests, at, rows, budget, share), None)
                ways["until it is gone"] = (
                    greedily(requests, at, rows, budget, requests.p[rows]),
                    None,
                )
                for way, (told, billed) in ways.items():
                    table.setdefault(way, []).append((1 - told.expected / optimum, told, billed))
            for way, found in table.items():
                known = [o for _, o, _ in found]
                bills = [b for _, _, b in found if b is not None]
                kept = ""
                if bills:
                    kept = f"{np.mean([b.worst <= 0 for b in bills]):.0%} "
                    kept += f"({max(b.worst for b in bills):.2%})"
                print(
                    ROW.format(
                        name,
                        order,
                        way,
                        f"{np.mean([r for r, _, _ in found]):.1%}",
                        f"{np.mean([o.right for o in known]):.3f}",
                        f"{np.mean([o.spent for o in known]):.1%}",
                        f"{np.mean([o.refused for o in known]):.1%}",
                        kept,
                    )
                )
                assert all(o.worst <= 1e-9 for o in known), "a hard stop was overrun"


if __name__ == "__main__":
    main()
