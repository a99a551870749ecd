"""Does the spend that is realised keep the budget? Replays on real dollars (routerbench-subset).

    python benchmarks/spend_coverage.py --data ../shared/data [--draws 300]

In each draw, costs are learned on some prompts (a ridge regression of log dollars on a few features
of the text, per model), other prompts are assigned under a budget by what was learned, and then
their real costs are added up. How far predictions are off is learned by replaying that inside the
prompts that were learned on. Printed is how often the realised spend kept the budget, where costs
count

  expected         at their expectation,
  each inflated    at their own quantile, cell by cell,
  sum inflated     so that the quantile of the sum keeps the budget (`assign(confidence=...)`).

The first rows learn and spend on the same kinds of prompts. In the last, costs are learned on two
tasks and spent on a third: what models' requests share is then most of the error; it is learned
by predicting either of the two tasks from the other, so rests on two looks at it.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.data.reading import read_folders
from zerorouter.errors import InfeasibleError
from zerorouter.predict.quantiles import normal_quantile
from zerorouter.routing.assignment.assigning import assign
from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.assignment.spend import CostErrors, Replay

RIDGE = 3.0
FOLDS, REPLAYS = 5, 8
SHARES = (0.0, 0.8)  # of the way from twice the least spend to that of the most accurate
WAYS = ("expected", "each inflated", "sum inflated")
ROW = "{:<44} {:>6} {:<14} {:>9} {:>15} {:>9}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bills:
    """Prompts that every model has answered, with real dollars.

    Attributes:
        models: (M,)
        features: (N, F) of the prompt's text.
        cost: (N, M) dollars.
        score: (N, M)
        task: (N,) position in ``tasks``.
        tasks: Names.
    """

    models: tuple[str, ...]
    features: Float64Array
    cost: Float64Array
    score: Float64Array
    task: IntArray
    tasks: tuple[str, ...]


def read_bills(data: Path) -> Bills:
    """routerbench-subset, without prompts that some model was not asked."""
    matrix = read_folders([data / "routerbench-subset"])
    cost = matrix.matrix("cost_usd").T.astype(np.float64)
    score = matrix.scores.T.astype(np.float64)
    whole = np.flatnonzero(np.isfinite(cost).all(axis=1) & np.isfinite(score).all(axis=1))
    prompts = matrix.prompts.take(whole)
    named = [task or "" for task in prompts.tasks]
    tasks = tuple(sorted(set(named)))
    return Bills(
        models=matrix.respondents,
        features=features(prompts.texts),
        cost=cost[whole],
        score=score[whole],
        task=np.array([tasks.index(name) for name in named]),
        tasks=tasks,
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
            float("def " in text or "assert" in text),
            float("_" in text),
            np.log(1 + text.count("A.") + text.count("A)")),
        ]
        for text in texts
    ]
    table = np.array(rows)
    return np.asarray((table - table.mean(axis=0)) / (table.std(axis=0) + 1e-9))


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A ridge regression of log dollars on the features, per model."""

    weights: Float64Array  # (F + 1, M)
    variance: Float64Array  # (M,)

    @classmethod
    def of(cls, bills: Bills, rows: IntArray) -> Learned:
        """Fitted to the costs of some prompts."""
        design = _design(bills, rows)
        target = np.log(bills.cost[rows])
        pull = np.diag([0.0, *[RIDGE] * (design.shape[1] - 1)])
        weights = np.linalg.solve(design.T @ design + pull, design.T @ target)
        residual = target - design @ weights
        free = max(len(rows) - design.shape[1], 1)
        return cls(
            weights=np.asarray(weights, np.float64), variance=(residual**2).sum(axis=0) / free
        )

    def expected(self, bills: Bills, rows: IntArray) -> Float64Array:
        """(n, M) expected dollars, with the log-normal smearing."""
        return np.asarray(np.exp(_design(bills, rows) @ self.weights + self.variance / 2))


def _design(bills: Bills, rows: IntArray) -> Float64Array:
    return np.column_stack([np.ones(len(rows)), bills.features[rows]])


def replayed(bills: Bills, folds: Sequence[IntArray], rng: np.random.Generator) -> CostErrors:
    """Errors of predictions: each fold predicted from the others and assigned under budgets."""
    rows = np.concatenate(folds)
    predicted = np.empty((len(rows), len(bills.models)))
    replays: list[Replay] = []
    start = 0
    for k, fold in enumerate(folds):
        others = np.concatenate([f for i, f in enumerate(folds) if i != k])
        at = slice(start, start + len(fold))
        predicted[at] = Learned.of(bills, others).expected(bills, fold)
        p = accuracy(bills, others, fold)
        for _ in range(REPLAYS):
            part = np.sort(rng.permutation(len(fold))[: max(len(fold) * 2 // 3, 2)])
            offers = Offers(models=bills.models, p_correct=p[part], cost_usd=predicted[at][part])
            budget = budget_of(offers, float(rng.uniform(*SHARES)))
            choice = assign(offers, Bounds(budget_usd=budget), exact=False).choice
            replays.append((part + start, choice.astype(np.int64)))
        start += len(fold)
    return CostErrors.from_replays(predicted, bills.cost[rows], replays, looks=len(folds))


def budget_of(offers: Offers, share: float) -> float:
    """A budget that far between what is cheap and what is best."""
    cost, p = offers.cost_usd, offers.p_correct
    least = float(cost.min(axis=1).sum())
    best = float(np.take_along_axis(cost, p.argmax(axis=1)[:, None], axis=1).sum())
    return 2.0 * least + share * max(best - 2.0 * least, 0.0)


def accuracy(bills: Bills, rows: IntArray, wanted: IntArray) -> Float64Array:
    """(n, M) each model's share of right answers on the rows, by task where it was seen."""
    overall = bills.score[rows].mean(axis=0)
    table = np.tile(overall, (len(bills.tasks), 1))
    for t in range(len(bills.tasks)):
        of_task = rows[bills.task[rows] == t]
        if len(of_task):
            table[t] = (bills.score[of_task].sum(axis=0) + 5 * overall) / (len(of_task) + 5)
    # Shorter prompts are taken to be a little easier, so that prompts of a task differ.
    tilt = 0.02 * (bills.features[wanted, 0].mean() - bills.features[wanted, 0])
    return np.asarray(np.clip(table[bills.task[wanted]] + tilt[:, None], 0.01, 0.99))


def realised(
    bills: Bills,
    p: Float64Array,
    cost: Float64Array,
    errors: CostErrors,
    spent_on: IntArray,
    share: float,
    confidence: float,
) -> dict[str, tuple[float, float]]:
    """Realised spend over budget, and realised accuracy, of each way to count costs."""
    offers = Offers(models=bills.models, p_correct=p, cost_usd=cost)
    budget = budget_of(offers, share)
    own = np.broadcast_to(np.asarray(errors.own_sd, dtype=np.float64), len(bills.models))
    shared = np.broadcast_to(np.asarray(errors.model_sd, dtype=np.float64), len(bills.models))
    sd = np.sqrt(own**2 + shared**2 + errors.common_sd**2)
    each = np.exp(errors.bias + normal_quantile(confidence) * sd - sd**2 / 2)
    dear = Offers(models=bills.models, p_correct=p, cost_usd=cost * each)
    found = {}
    for way, table, level in (
        ("expected", offers, None),
        ("each inflated", dear, None),
        ("sum inflated", offers, confidence),
    ):
        try:
            choice = assign(
                table,
                Bounds(budget_usd=budget),
                confidence=level,
                cost_errors=None if level is None else errors,
                exact=False,
            ).choice
        except InfeasibleError:
            continue
        real = bills.cost[spent_on, choice].sum()
        right = bills.score[spent_on, choice].mean()
        found[way] = (float(real) / budget, float(right))
    return found


Found = dict[str, list[tuple[float, float]]]


def same_kind(bills: Bills, n_learn: int, draws: int, confidence: float) -> Found:
    """Learn on some prompts, spend on others like them."""
    out: Found = {way: [] for way in WAYS}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        order = rng.permutation(len(bills.features))
        rows, spent_on = order[:n_learn], order[len(order) // 2 :]
        errors = replayed(bills, np.array_split(rows, FOLDS), rng)
        cost = Learned.of(bills, rows).expected(bills, spent_on)
        p = accuracy(bills, rows, spent_on)
        share = float(rng.uniform(*SHARES))
        for way, value in realised(bills, p, cost, errors, spent_on, share, confidence).items():
            out[way].append(value)
    return out


def other_task(bills: Bills, draws: int, confidence: float) -> Found:
    """Learn on two tasks, spend on the third; errors from predicting one of the two."""
    out: Found = {way: [] for way in WAYS}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        third = draw % len(bills.tasks)
        parts = [
            rng.choice(np.flatnonzero(bills.task == t), size=200, replace=False)
            for t in range(len(bills.tasks))
            if t != third
        ]
        errors = replayed(bills, parts, rng)
        rows = np.concatenate(parts)
        spent_on = rng.choice(np.flatnonzero(bills.task == third), size=300, replace=False)
        cost = Learned.of(bills, rows).expected(bills, spent_on)
        p = accuracy(bills, rows, spent_on)
        share = float(rng.uniform(*SHARES))
        for way, value in realised(bills, p, cost, errors, spent_on, share, confidence).items():
            out[way].append(value)
    return out


def show(label: str, confidence: float, found: dict[str, list[tuple[float, float]]]) -> None:
    for way in WAYS:
        if not found[way]:
            print(ROW.format(label, f"{confidence:.0%}", way, "never possible", "", ""))
            continue
        spent, right = np.array(found[way]).T
        kept = f"{np.mean(spent <= 1):.0%}"
        used = f"{np.mean(spent):.3f} ({np.quantile(spent, 0.95):.3f})"
        print(ROW.format(label, f"{confidence:.0%}", way, kept, used, f"{np.mean(right):.3f}"))


def offsets_between_tasks(bills: Bills) -> None:
    """How far models' costs on one task lie from what another task teaches."""
    model, common = [], []
    for t in range(len(bills.tasks)):
        for u in range(len(bills.tasks)):
            if t != u:
                known, held = (np.flatnonzero(bills.task == k) for k in (t, u))
                expected = Learned.of(bills, known).expected(bills, held)
                errors = CostErrors.fit(expected, bills.cost[held])
                model.append(float(np.mean(errors.model_sd)))
                common.append(errors.common_sd)
    print(
        f"\nlearned on one task, seen on another: sd of models' offsets {np.mean(model):.2f} "
        f"({min(model):.2f} to {max(model):.2f}), common offset {np.mean(common):.2f} "
        f"({min(common):.2f} to {max(common):.2f}), in logs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ZEROROUTER_DATA", "../shared/data"))
    )
    parser.add_argument("--draws", type=int, default=300)
    args = parser.parse_args()
    if not (args.data / "routerbench-subset").is_dir():
        print(f"left out: no records at {args.data}/routerbench-subset")
        return
    bills = read_bills(args.data)
    print(f"{len(bills.task):,} prompts x {len(bills.models)} models, {args.draws} draws each")
    print(ROW.format("", "asked", "costs count", "kept", "spent/budget (95%)", "accuracy"))
    for n_learn in (50, 200, len(bills.task) // 2):
        for confidence in (0.8, 0.95):
            found = same_kind(bills, n_learn, args.draws, confidence)
            show(f"learned on {n_learn} prompts of the same kinds", confidence, found)
    for confidence in (0.8, 0.95):
        show(
            "learned on two tasks, spent on a third",
            confidence,
            other_task(bills, args.draws, confidence),
        )
    offsets_between_tasks(bills)


if __name__ == "__main__":
    main()
