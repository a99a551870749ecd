"""How often the 90% intervals of expected accuracy hold the truth, on models held out.

    python scripts/onboarding_coverage.py --data DIR

For zeroeval and mmlu-pro and every model with full records: a space is fitted without the model, on
calibration prompts only (70%, duplicate groups kept together; models are left out in folds).
Then anchors are drawn from the calibration prompts, the model is placed by its recorded
answers to them, and the interval of its mean score on all prompts that were not anchors is
compared with that mean. Twenty draws per model and number of anchors.

The last rows ask what is known of kinds of prompts that had no anchors: anchors come from one
task, and the interval is that of another one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.evaluation.benchmark import Benchmark, load_benchmark
from zerorouter.evaluation.splits import Split, make_split
from zerorouter.fitting.core import Fitted, fit
from zerorouter.fitting.evidence import Evidence, FittingSettings
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.anchors import AnchorStrategy, select_anchors
from zerorouter.irt.leanings import with_leanings
from zerorouter.irt.model import ItemParameters
from zerorouter.irt.population import DEGREES_OF_FREEDOM
from zerorouter.onboarding import outlook
from zerorouter.onboarding.design import select
from zerorouter.onboarding.outlook import Targets, accuracy_draws

DATASETS = ("zeroeval", "mmlu-pro")
COMPLETE = 0.995  # share of the prompts that a model with full records has answered
MOST_TARGETS = 400  # prompts by which a mean accuracy is told
N_DRAWS = 300  # of what is not known
FEWEST_OF_TASK = 100  # prompts of a task that is judged, and anchors' candidates in it


Case: TypeAlias = tuple[bool, float, float]
"""Whether the interval held, its width, the error of its mean."""
Found: TypeAlias = dict[tuple[int, float], list[Case]]
"""(n, misfit) -> cases."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A fit and the models it has not seen.

    Attributes:
        fitted: On the calibration prompts.
        held: Positions of the models left out.
        test: The other prompts as they are predicted.
    """

    fitted: Fitted
    held: IntArray
    test: ItemParameters


def folds(benchmark: Benchmark, split: Split, n: int) -> list[Fold]:
    """Fits without each fold of the models with full records."""
    share = benchmark.labels.observed.mean(axis=1)
    full = np.flatnonzero(share >= COMPLETE)
    fold = np.random.default_rng(5).permutation(len(full)) % n
    out = []
    train = split.train
    for f in range(n):
        began = time.perf_counter()
        held = full[fold == f]
        kept = np.setdiff1d(np.arange(len(benchmark.models)), held)
        with np.errstate(divide="ignore"):
            lengths = np.log(benchmark.labels.output_tokens[kept][:, train])
        evidence = Evidence(
            features=benchmark.prompts.features.take(train),
            scores=benchmark.labels.scores[kept][:, train],
            log_length=np.where(np.isfinite(lengths), lengths, np.nan),
            scored=np.ones(len(train), dtype=np.bool_),
            datasets=np.zeros(len(train), dtype=np.int64),
            tasks=benchmark.tasks[train],
            domains=np.zeros(len(train), dtype=np.int64),
            domain_names=("any",),
            groups=np.unique(benchmark.groups[train], return_inverse=True)[1],
            cards=tuple(benchmark.models[int(i)] for i in kept),
        )
        fitted = fit(evidence, FittingSettings(folds=3, fit_domains=False, seed=0))
        test = fitted.predictor.read(benchmark.prompts.features.take(split.test)).items
        out.append(Fold(fitted=fitted, held=held, test=test))
        took = time.perf_counter() - began
        print(
            f"{benchmark.name}: fold {f + 1} of {n}, {len(held)} models, {took:.0f} s", flush=True
        )
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Newcomer:
    """A held-out model in its fold.

    Attributes:
        fold: Without it.
        row: Its position in the benchmark.
        answers: (train,) scores on the calibration prompts.
        later: (test,) scores on the others.
        centre: (K,) where its card expects it.
    """

    fold: Fold
    row: int
    answers: Float64Array
    later: Float64Array
    centre: Float64Array


def newcomers(benchmark: Benchmark, split: Split, fitted: list[Fold]) -> list[Newcomer]:
    """All held-out models."""
    out = []
    for fold in fitted:
        prior = fold.fitted.population
        for row in fold.held:
            z = prior.table.rows([benchmark.models[int(row)]])
            scores = benchmark.labels.scores[int(row)].astype(np.float64)
            out.append(
                Newcomer(
                    fold=fold,
                    row=int(row),
                    answers=scores[split.train],
                    later=scores[split.test],
                    centre=(z @ prior.weights[:-1] + prior.weights[-1])[0],
                )
            )
    return out


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An expected accuracy with its 90% interval."""

    mean: float
    low: float
    high: float

    def case(self, truth: float) -> Case:
        """Whether it held the truth, how wide it was, how far off its mean."""
        held = bool(self.low <= truth <= self.high)
        return held, self.high - self.low, float(self.mean - truth)


def intervals(
    newcomer: Newcomer, anchors: IntArray, targets: ItemParameters, misfits: list[float], seed: int
) -> list[Interval]:
    """The 90% interval of the mean accuracy on the targets after the anchors, by misfit."""
    fitted = newcomer.fold.fitted
    posterior = ability_posterior(
        fitted.calibration.items.take(anchors),
        newcomer.answers[anchors],
        prior_mean=newcomer.centre,
        prior_covariance=fitted.population.covariance,
        degrees_of_freedom=DEGREES_OF_FREEDOM,
    )
    leaning = with_leanings(
        fitted.expected.take(anchors),
        posterior.as_abilities(),
        newcomer.answers[anchors][None],
        fitted.leaning_variance,
    )
    n = targets.n_items
    wanted = Targets(
        items=replace(targets, shift_variance=np.zeros(n, np.float32)),
        group=np.zeros(n, dtype=np.int64),
        groups=("all",),
        log_length=np.zeros(n),
        input_tokens=np.zeros(n),
    )
    out = []
    for misfit in misfits:
        p = accuracy_draws(
            posterior, wanted, leaning, misfit_sd=np.array([misfit]), n=N_DRAWS, seed=seed
        )
        mean = p.mean(axis=1)
        low, high = np.quantile(mean, [0.05, 0.95])
        out.append(Interval(mean=float(mean.mean()), low=float(low), high=float(high)))
    return out


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to choose anchors.

    Attributes:
        label: For people.
        strategy: See `irt.anchors.select_anchors`.
        as_read: Whether by the parameters that prompts' texts tell, as onboarding does; else by
            the calibrated ones.
        asked: Anchors that were asked before, by which `onboarding.design.select` decides how many
            it draws at random; None where none are to be drawn.
    """

    label: str
    strategy: AnchorStrategy
    as_read: bool = True
    asked: int | None = None

    def choose(
        self, newcomer: Newcomer, n: int, among: BoolArray, rng: np.random.Generator
    ) -> IntArray:
        """Positions of ``n`` anchors."""
        fitted = newcomer.fold.fitted
        items = fitted.expected if self.as_read else fitted.calibration.items
        mean, covariance = newcomer.centre, fitted.population.covariance
        if self.asked is None:
            return select_anchors(
                items,
                n,
                prior_mean=mean,
                prior_covariance=covariance,
                rng=rng,
                strategy=self.strategy,
                eligible=among,
            )
        return select(
            items,
            n,
            asked=self.asked,
            mean=mean,
            covariance=covariance,
            strategy=self.strategy,
            rng=rng,
            eligible=among,
        )


ARMS = (
    Arm(label="random", strategy="random"),
    Arm(label="as onboarding chooses", strategy="i_optimal", asked=0),
    Arm(label="all I-optimal", strategy="i_optimal"),
    Arm(label="all I-optimal by calibrated parameters", strategy="i_optimal", as_read=False),
)


def everywhere(
    models: list[Newcomer], sizes: list[int], n_draws: int, arm: Arm, misfits: list[float]
) -> Found:
    """The cases of an arm: expected accuracy on all prompts but the anchors."""
    found = defaultdict(list)
    for model in models:
        fitted, answered = model.fold.fitted, ~np.isnan(model.answers)
        later = np.flatnonzero(~np.isnan(model.later))
        for n in sizes:
            for draw in range(n_draws):
                rng = np.random.default_rng([draw, model.row, n])
                # An optimal design has no draws of its own: each chooses among half the prompts.
                among = answered & (
                    rng.random(len(answered)) < (1.0 if arm.strategy == "random" else 0.5)
                )
                anchors = arm.choose(model, n, among, rng)
                rest = np.setdiff1d(np.flatnonzero(answered), anchors)
                truth = np.concatenate([model.answers[rest], model.later[later]]).mean()
                share = MOST_TARGETS / (len(rest) + len(later))
                targets = fitted.expected.take(rest[rng.random(len(rest)) < share]).joined(
                    model.fold.test.take(later[rng.random(len(later)) < share])
                )
                told = intervals(model, anchors, targets, misfits, draw)
                for misfit, one in zip(misfits, told, strict=True):
                    found[n, misfit].append(one.case(truth))
    return found


def elsewhere(
    benchmark: Benchmark,
    split: Split,
    models: list[Newcomer],
    sizes: list[int],
    n_draws: int,
    misfits: list[float],
) -> Found:
    """The same where anchors come from one task, for each other task."""
    found = defaultdict(list)
    tasks = benchmark.tasks[split.train]
    counts = np.bincount(tasks)
    usable = np.flatnonzero(counts >= FEWEST_OF_TASK)
    for model in models:
        answered = ~np.isnan(model.answers)
        for n in sizes:
            for draw in range(n_draws):
                rng = np.random.default_rng([draw, model.row, n, 1])
                own, other = rng.permutation(usable)[:2]
                anchors = rng.permutation(np.flatnonzero(answered & (tasks == own)))[:n]
                rest = np.flatnonzero(answered & (tasks == other))
                truth = model.answers[rest].mean()
                targets = model.fold.fitted.expected.take(rng.permutation(rest)[:MOST_TARGETS])
                told = intervals(model, anchors, targets, misfits, draw)
                for misfit, one in zip(misfits, told, strict=True):
                    found[n, misfit].append(one.case(float(truth)))
    return found


HEAD = (
    "| anchors chosen | n | 90% intervals that held | mean width | mean absolute error | cases |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def rows(label: str, found: Found, *, misfits: bool) -> list[str]:
    """A line of the table per number of anchors, and per misfit where several are tried."""
    out = []
    for (n, misfit), cases in sorted(found.items(), key=lambda pair: (pair[0][1], pair[0][0])):
        held, width, error = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
        inside = 0.85 <= held.mean() <= 0.95
        told = f"{held.mean():.1%}" if inside else f"**{held.mean():.1%}**"
        at = f", misfit {misfit:g}" if misfits else ""
        out.append(
            f"| {label}{at} | {n} | {told} | {width.mean():.3f} | {np.abs(error).mean():.3f} "
            f"| {len(cases)} |"
        )
    return out


def main() -> None:
    """Read the arguments, fit, draw, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--sizes", default="20,50,100")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--misfits", default="", help="further standard deviations to try")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    arguments = parser.parse_args()
    sizes = [int(n) for n in arguments.sizes.split(",")]
    further = [float(value) for value in filter(None, arguments.misfits.split(","))]
    for name in arguments.datasets.split(","):
        benchmark = load_benchmark(arguments.data / name)
        split = make_split(
            "random",
            0,
            groups=benchmark.groups,
            tasks=benchmark.tasks,
            cards=benchmark.models,
            dataset=name,
        )
        models = newcomers(benchmark, split, folds(benchmark, split, arguments.folds))
        tell(name, benchmark, split, models, sizes, arguments.draws, further)


def tell(
    name: str,
    benchmark: Benchmark,
    split: Split,
    models: list[Newcomer],
    sizes: list[int],
    n_draws: int,
    further: list[float],
) -> None:
    """Print the table of one data set, in Markdown."""
    near = sorted({outlook.MISFIT_SD, *further})
    far = sorted({outlook.FAR_MISFIT_SD, *further})
    print(f"\n{name}, {len(models)} models, {n_draws} draws each\n\n{HEAD}", flush=True)
    for arm in ARMS:
        found = everywhere(models, sizes, n_draws, arm, near)
        print("\n".join(rows(arm.label, found, misfits=bool(further))), flush=True)
    found = elsewhere(benchmark, split, models, sizes, n_draws, far)
    print("\n".join(rows("random, of another task", found, misfits=bool(further))), flush=True)


if __name__ == "__main__":
    main()
