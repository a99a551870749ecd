"""Does `Router.assign(confidence=...)` keep budgets as it stands? Replays on held-out zeroeval.

    python benchmarks/spend_by_space.py --data ../shared/data [--draws 300]

`benchmarks/spend_coverage.py` learns its own costs and errors; here everything is the product's: a
space is fitted to some prompts, `Router.offers` forecasts what the others cost, and
`Router.cost_errors` says how far that may be off. Batches of 300 held-out prompts are assigned
under budgets, and the dollars of the recorded answers (characters over four at list prices) are
added up. The o1 models are left out: their hidden tokens are not on record.

  half, mixed batches     fitted to one half, by group of duplicates; batches from the other
  half, batches of a task the same, each batch from one task
  a task never seen       fitted to two tasks, batches from the third
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.catalog import Catalog
from zerorouter.data.reading import read_folders
from zerorouter.data.responses import ResponseMatrix
from zerorouter.errors import InfeasibleError
from zerorouter.predict.prompt import CHARS_PER_TOKEN
from zerorouter.router import Router
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offers import Bounds, Offers

HIDDEN = ("o1-mini-2024-09-12", "o1-preview-2024-09-12")
BATCH = 300
SHARES = (0.0, 0.8)  # of the way from twice the least spend to that of the most accurate
ROW = "{:<34} {:>8} {:<14} {:>6} {:>8} {:>9} {:>9}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Prompts that were not fitted to, with what every model did.

    Attributes:
        router: With the fitted space.
        offers: What the space forecasts.
        cost: (N, M) dollars of the recorded answers.
        score: (N, M) recorded.
    """

    router: Router
    offers: Offers
    cost: Float64Array
    score: Float64Array


def records(data: Path) -> ResponseMatrix:
    """zeroeval with its priced models; every prompt answered by all of them."""
    matrix = read_folders([data / "zeroeval"])
    priced = [
        m.priced and m.model not in HIDDEN and bool(seen > 0.99)
        for m, seen in zip(matrix.models, matrix.observed.mean(axis=1), strict=True)
    ]
    matrix = matrix.select(respondents=np.flatnonzero(priced))
    return matrix.select(prompts=np.flatnonzero(matrix.observed.all(axis=0)))


def held_out(matrix: ResponseMatrix, learn: IntArray, rest: IntArray) -> Held:
    """Fit to some prompts, forecast the others."""
    from zerorouter.fitting import fit_space
    from zerorouter.linking import respondent_cards

    space = fit_space(matrix.select(prompts=learn), cards=respondent_cards())
    router = Router(space, Catalog(models=space.models))
    columns = [matrix.respondents.index(name) for name in router.models]
    held = matrix.select(prompts=rest, respondents=np.array(columns))
    rates = np.array([[m.input_usd_per_mtok, m.output_usd_per_mtok] for m in held.models], float)
    given = np.array([len(text) for text in held.prompts.texts])
    chars = held.matrix("output_chars").T.astype(np.float64)
    return Held(
        router=router,
        offers=router.offers(list(held.prompts.texts)).narrowed(),
        cost=(given[:, None] * rates[:, 0] + np.maximum(chars, 4) * rates[:, 1])
        / (CHARS_PER_TOKEN * 1e6),
        score=held.scores.T.astype(np.float64),
    )


def splits(matrix: ResponseMatrix) -> Iterator[tuple[bool, IntArray, IntArray]]:
    """Whether all tasks are known, prompts to fit to, prompts to spend on."""
    groups = np.unique(matrix.groups)
    for seed in range(2):
        chosen = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
        inside = np.isin(matrix.groups, chosen)
        yield True, np.flatnonzero(inside), np.flatnonzero(~inside)
    tasks = np.array([task or "" for task in matrix.prompts.tasks])
    for task in np.unique(tasks):
        yield False, np.flatnonzero(tasks != task), np.flatnonzero(tasks == task)


def budget_of(offers: Offers, share: float) -> float:
    """A budget that far between what is cheap and what is best."""
    cost, p = offers.cost_usd, offers.p_correct
    least = float(cost.min(axis=1).sum(dtype=np.float64))
    best = float(np.take_along_axis(cost, p.argmax(axis=1)[:, None], axis=1).sum(dtype=np.float64))
    return 2.0 * least + share * max(best - 2.0 * least, 0.0)


def spent(
    held: Held, rows: IntArray, share: float, level: float | None
) -> tuple[float, float] | None:
    """Realised spend over budget and realised accuracy; None where nothing keeps the budget."""
    offers = held.offers.take(rows)
    budget = budget_of(offers, share)
    try:
        choice = assign(
            offers,
            Bounds(budget_usd=budget),
            confidence=level,
            cost_errors=None
            if level is None
            else held.router.cost_errors(offers.models, offers.support),
            exact=False,
        ).choice
    except InfeasibleError:
        return None
    return float(held.cost[rows, choice].sum() / budget), float(held.score[rows, choice].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ZEROROUTER_DATA", "../shared/data"))
    )
    parser.add_argument("--draws", type=int, default=300)
    args = parser.parse_args()
    if not (args.data / "zeroeval").is_dir():
        print(f"left out: no records at {args.data}/zeroeval")
        return
    if importlib.util.find_spec("sklearn") is None:
        print("left out: fitting needs scikit-learn (pip install 'zerorouter[fit]')")
        return
    matrix = records(args.data)
    found: dict[tuple[str, float | None], list[tuple[float, float]]] = {}
    tasks = np.array([task or "" for task in matrix.prompts.tasks])
    for known, learn, rest in splits(matrix):
        held = held_out(matrix, learn, rest)
        names = np.unique(tasks[rest])
        for draw in range(args.draws):
            rng = np.random.default_rng(draw)
            share = float(rng.uniform(*SHARES))
            mixed = rng.choice(len(rest), size=BATCH, replace=False)
            kinds = {"a task never seen": mixed}
            if known:
                of_task = np.flatnonzero(tasks[rest] == names[draw % len(names)])
                alike = rng.choice(of_task, size=BATCH, replace=False)
                kinds = {"half, mixed batches": mixed, "half, batches of a task": alike}
            for name, rows in kinds.items():
                for level in (None, 0.8, 0.95):
                    came = spent(held, np.sort(rows), share, level)
                    if came is not None:
                        found.setdefault((name, level), []).append(came)
    print(f"{matrix.observed.shape[0]} models, batches of {BATCH}, {args.draws} draws per split")
    print(ROW.format("fitted to", "asked", "", "kept", "mean", "95% below", "accuracy"))
    for (name, level), rows_of in found.items():
        ratio, right = np.array(rows_of).T
        print(
            ROW.format(
                name,
                "-" if level is None else f"{level:.0%}",
                "expected" if level is None else "sum inflated",
                f"{np.mean(ratio <= 1):.0%}",
                f"{ratio.mean():.3f}",
                f"{np.quantile(ratio, 0.95):.3f}",
                f"{right.mean():.3f}",
            )
        )


if __name__ == "__main__":
    main()
