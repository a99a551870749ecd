"""Cascades against direct routing at equal cost, on zeroeval with a signal of known quality.

    python benchmarks/cascade_value.py --data ../shared/data [--draws 3]

A space is fitted to half of the prompts; the other half is routed by its forecasts, once to the
best single model, once by `cascade.best_plan`, over a range of values of a correct answer.
Outcomes and lengths are the recorded ones (dollars: characters over four at list prices); the
signal is drawn so that it fires on wrong first answers with its sensitivity and on right ones with
one minus its specificity.

`at equal cost` is the accuracy of either way where its cost-quality frontier meets the dollars that
direct routing spends at three values of a correct answer; `told` is the accuracy that plans were
expected to have, once with what the models share, once as if they erred independently.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.catalog import Catalog
from zerorouter.data.reading import read_folders
from zerorouter.router import Router
from zerorouter.routing.cascade import (
    Logits,
    OfferedSignal,
    Plan,
    SharedEffects,
    best_plan,
    right_where_wrong,
)
from zerorouter.routing.estimates import Estimates
from zerorouter.routing.policy import Policy
from zerorouter.routing.signals import CallableSignal, SignalQuality

CHARS_PER_TOKEN = 4.0
HIDDEN = ("o1-mini-2024-09-12", "o1-preview-2024-09-12")  # their hidden tokens are not known
VALUES = np.geomspace(0.0003, 0.3, 10)  # dollars per correct answer
QUALITIES = ((0.6, 0.8), (0.7, 0.9), (0.8, 0.9), (0.9, 0.95))
AT = (0.001, 0.006, 0.04)  # values at which direct routing's dollars are compared
ROW = "{:<26} {:>9} {:>9} {:>9} {:>11} {:>10} {:>10} {:>10}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Prompts that were not fitted to, with what every model did.

    Attributes:
        estimates: What the space forecasts.
        effects: What its models share.
        score: (N, M) recorded.
        cost: (N, M) dollars of the recorded answers.
    """

    estimates: Estimates
    effects: SharedEffects
    score: Float64Array
    cost: Float64Array


def read_held(data: Path, seed: int) -> Held:
    """Fit a space to half of zeroeval, forecast the other half."""
    from zerorouter.fitting import fit_space
    from zerorouter.linking import respondent_cards

    matrix = read_folders([data / "zeroeval"])
    priced = [
        m.priced and m.model not in HIDDEN and bool(seen > 0.99)
        for m, seen in zip(matrix.models, matrix.observed.mean(axis=1), strict=True)
    ]
    matrix = matrix.select(respondents=np.flatnonzero(priced))
    whole = np.flatnonzero(matrix.observed.all(axis=0))
    groups = np.unique(matrix.groups[whole])
    chosen = np.random.default_rng(seed).permutation(groups)[: len(groups) // 2]
    learn = whole[np.isin(matrix.groups[whole], chosen)]
    rest = whole[~np.isin(matrix.groups[whole], chosen)]
    space = fit_space(matrix.select(prompts=learn), cards=respondent_cards())
    router = Router(space, Catalog(models=space.models))
    columns = [matrix.respondents.index(name) for name in router.models]
    held = matrix.select(prompts=rest, respondents=np.array(columns))
    rates = np.array([[m.input_usd_per_mtok, m.output_usd_per_mtok] for m in held.models], float)
    given = np.array([len(text) for text in held.prompts.texts])
    chars = held.matrix("output_chars").T.astype(np.float64)
    return Held(
        estimates=router.estimates(list(held.prompts.texts)),
        effects=SharedEffects.of(space, router.models),
        score=held.scores.T.astype(np.float64),
        cost=(given[:, None] * rates[:, 0] + np.maximum(chars, 4) * rates[:, 1])
        / (CHARS_PER_TOKEN * 1e6),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A way of routing at one value of a correct answer, in the mean over prompts."""

    cost: float
    right: float
    told: float
    cascades: float
    escalated: float


def routed(
    held: Held,
    value: float,
    signals: list[OfferedSignal],
    effects: SharedEffects,
    rng: np.random.Generator,
) -> Point:
    """Plans for every prompt, and what came of them."""
    policy = Policy(value_of_correct_usd=value)
    names = held.estimates.models
    cost = right = told = 0.0
    cascades = escalated = 0
    n = len(held.score)
    for i in range(n):
        plan: Plan = best_plan(held.estimates, policy, signals, effects, row=i)
        first = names.index(plan.first)
        told += plan.p_correct
        cost += float(held.cost[i, first])
        outcome = float(held.score[i, first])
        draw = float(rng.random())
        if plan.second is not None and plan.signal is not None:
            cascades += 1
            (offered,) = [s for s in signals if s.signal is plan.signal]
            quality = offered.quality_of(plan.first)
            assert quality is not None
            fires = draw < (1 - quality.specificity if outcome > 0.5 else quality.sensitivity)
            if fires:
                escalated += 1
                second = names.index(plan.second)
                cost += float(held.cost[i, second])
                outcome = float(held.score[i, second])
        right += outcome
    return Point(
        cost=cost / n,
        right=right / n,
        told=told / n,
        cascades=cascades / n,
        escalated=escalated / n,
    )


def accuracy_at(points: list[Point], cost: float) -> float:
    """Accuracy where the frontier (non-decreasing, concave) meets a cost."""
    ordered = sorted(points, key=lambda p: (p.cost, -p.right))
    hull: list[Point] = []
    for point in ordered:
        if hull and point.right <= hull[-1].right:
            continue
        while len(hull) > 1 and (hull[-1].right - hull[-2].right) * (
            point.cost - hull[-2].cost
        ) <= (point.right - hull[-2].right) * (hull[-1].cost - hull[-2].cost):
            hull.pop()
        hull.append(point)
    return float(np.interp(cost, [p.cost for p in hull], [p.right for p in hull]))


def rescued(held: Held) -> None:
    """P(B right | A wrong) as told and as recorded, over pairs of models."""
    m = len(held.estimates.models)
    first, second = (a.ravel() for a in np.meshgrid(np.arange(m), np.arange(m), indexing="ij"))
    apart = first != second
    first, second = first[apart], second[apart]
    sums = {"shared": np.zeros(len(first)), "independent": np.zeros(len(first))}
    real, count = np.zeros(len(first)), np.zeros(len(first))
    alone = SharedEffects.independent(m)
    for i in range(len(held.score)):
        wrong = held.score[i, first] < 0.5
        logits = Logits.of(held.estimates, i)
        both: IntArray = np.flatnonzero(wrong)
        for name, effects in (("shared", held.effects), ("independent", alone)):
            sums[name][both] += right_where_wrong(logits, effects, first[both], second[both])
        real[both] += held.score[i, second[both]]
        count[both] += 1
    known = count >= 30
    print("\nP(second right | first wrong), mean over", int(known.sum()), "pairs of models:")
    for name, total in sums.items():
        told = total[known] / count[known]
        seen = real[known] / count[known]
        print(
            f"  {name:<12} told {told.mean():.3f}, recorded {seen.mean():.3f}, "
            f"mean absolute error {np.abs(told - seen).mean():.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("ZEROROUTER_DATA", "../shared/data"))
    )
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    if not (args.data / "zeroeval").is_dir():
        print(f"left out: no records at {args.data}/zeroeval")
        return
    if importlib.util.find_spec("sklearn") is None:
        print("left out: fitting needs scikit-learn (pip install 'zerorouter[fit]')")
        return
    lines: dict[str, list[list[float]]] = {}
    for draw in range(args.draws):
        held = read_held(args.data, draw)
        rng = np.random.default_rng(draw)
        direct = [routed(held, float(v), [], held.effects, rng) for v in VALUES]
        marks = [float(np.interp(np.log(v), np.log(VALUES), [p.cost for p in direct])) for v in AT]
        lines.setdefault("direct", []).append(
            [
                *(accuracy_at(direct, c) for c in marks),
                direct[5].told - direct[5].right,
                np.nan,
                0.0,
                0.0,
            ]
        )
        for sensitivity, specificity in QUALITIES:
            quality = SignalQuality(sensitivity=sensitivity, specificity=specificity)
            signals = [OfferedSignal(signal=CallableSignal(function=bool), quality=quality)]
            points = [routed(held, float(v), signals, held.effects, rng) for v in VALUES]
            alone = SharedEffects.independent(len(held.estimates.models))
            naive = routed(held, float(VALUES[5]), signals, alone, rng)
            lines.setdefault(f"signal {sensitivity:.2f} / {specificity:.2f}", []).append(
                [
                    *(accuracy_at(points, c) for c in marks),
                    points[5].told - points[5].right,
                    naive.told - naive.right,
                    points[5].cascades,
                    points[5].escalated,
                ]
            )
        if draw == 0:
            rescued(held)
            n, m = held.score.shape
            print(f"\n{n:,} prompts x {m} models held out, {args.draws} splits")
            print(
                ROW.format(
                    "sensitivity / specificity",
                    *(f"at ${c * 1e3:.2f}/k" for c in marks),
                    "told - real",
                    "naive",
                    "cascades",
                    "escalated",
                )
            )
    for label, rows in lines.items():
        mean = np.mean(rows, axis=0)
        naive_bias = "" if np.isnan(mean[4]) else f"{mean[4]:+.3f}"
        print(
            ROW.format(
                label,
                *(f"{a:.3f}" for a in mean[:3]),
                f"{mean[3]:+.3f}",
                naive_bias,
                f"{mean[5]:.0%}",
                f"{mean[6]:.0%}",
            )
        )


if __name__ == "__main__":
    main()
