"""Whether the 90% intervals of P(correct) hold on groups of prompts that no fit has seen.

    python scripts/measure_intervals.py --data DIR [--out FILE]

An interval covers what is not known of a model and of this *kind* of prompt, not what varies from
one prompt to the next; it can therefore only be checked on groups. Spaces are fitted inside the
split, by the code that fits the shipped one:

- *random*: a part of the prompts is held out (mmlu-pro and zeroeval, repetition 0);
- *task*: whole tasks are held out (mmlu-pro, repetitions 0 to 3: every subject once);
- *data set*: whole data sets are held out, one of mmlu-pro, zeroeval, cruxeval and reasoning-gym
  at a time, together with all twins of their prompts; judged are respondents with answers in the
  others.

Groups are the tasks, and ten clusters of embeddings, within a data set. For each group and model
the mean score is set against the mean P(correct) with the means of both bounds, widened in
quadrature by the binomial noise of a group of that size. Besides the coverage stand two figures
that noise cannot prop up: the mean squared error of groups less what noise explains, and the
mean variance that the intervals claim. A ratio of 1 is an honest interval.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

import datetime
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zerorouter.arrays import BoolArray, FloatArray, IntArray
from zerorouter.data.reading import read_folders
from zerorouter.data.responses import ResponseMatrix
from zerorouter.evaluation.baselines.zerorouter import FittedZeroRouter, ZeroRouter
from zerorouter.evaluation.benchmark import Benchmark, load_benchmark
from zerorouter.evaluation.running import training_set
from zerorouter.evaluation.splits import make_split
from zerorouter.fitting import FittingSettings, as_requests, fit_space
from zerorouter.irt.model import Panel, ResponseForecast
from zerorouter.linking import load_aliases, respondent_cards
from zerorouter.predict.encoders import StaticEncoder
from zerorouter.predict.features import FeatureReader, PromptFeatures
from zerorouter.predict.items import ItemPredictor, PromptReadings

DATASETS = ("mmlu-pro", "zeroeval", "cruxeval", "reasoning-gym")
RANDOM = (("mmlu-pro", 0), ("zeroeval", 0))
TASKS = (("mmlu-pro", 0), ("mmlu-pro", 1), ("mmlu-pro", 2), ("mmlu-pro", 3))
Z = 1.645  # of the 90% interval
TARGET = (0.87, 0.93)
N_CLUSTERS = 10
LEAST = 20  # answers of a model in a group
REPLICATES = 1000
QUINTILES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Forecasts of N held-out prompts for M models, with what was answered.

    Attributes:
        regime: What was held out: ``random``, ``task`` or ``data set``.
        dataset: Where the prompts come from.
        repetition: Of the split.
        forecast: (N, M)
        scores: (N, M) with NaN.
        groups: (N,) for each way of grouping.
        support: (N,)
        strangeness: (N,)
    """

    regime: str
    dataset: str
    repetition: int
    forecast: ResponseForecast
    scores: FloatArray
    groups: Mapping[str, IntArray]
    support: FloatArray
    strangeness: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Pairs of a group and a model, C of them.

    Attributes:
        held: (C,) number of the fit and the way of grouping, and
        group: (C,) of the group within it: cells of one group share its error.
        observed: (C,) mean score.
        expected: (C,) mean P(correct).
        low, high: (C,) mean bounds.
        noise: (C,) standard deviation of the mean score of so many answers.
        support: (C,) mean support of the group's prompts.
        strangeness: (C,) mean strangeness.
    """

    held: IntArray
    group: IntArray
    observed: FloatArray
    expected: FloatArray
    low: FloatArray
    high: FloatArray
    noise: FloatArray
    support: FloatArray
    strangeness: FloatArray

    @property
    def covered(self) -> BoolArray:
        """(C,) whether the mean score lies within the widened interval."""
        below = np.hypot(self.expected - self.low, Z * self.noise)
        above = np.hypot(self.high - self.expected, Z * self.noise)
        error = self.observed - self.expected
        return np.asarray((error >= -below) & (error <= above))

    @property
    def width(self) -> FloatArray:
        """(C,) of the interval itself."""
        return np.asarray(self.high - self.low)

    @property
    def excess(self) -> FloatArray:
        """(C,) squared error less what noise explains."""
        return np.asarray((self.observed - self.expected) ** 2 - self.noise**2)

    @property
    def claimed(self) -> FloatArray:
        """(C,) variance of P(correct) that the interval stands for."""
        return np.asarray((self.width / (2 * Z)) ** 2)

    def take(self, at: BoolArray | IntArray) -> Cells:
        """The cells at ``at``."""
        return Cells(**{name: value[at] for name, value in vars(self).items()})

    @classmethod
    def stacked(cls, parts: Sequence[Cells]) -> Cells:
        """All parts one after another; fits keep apart."""
        first = np.cumsum([0, *(int(p.held.max(initial=-1)) + 1 for p in parts)])
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in cls.__dataclass_fields__
        }
        joined["held"] = np.concatenate(
            [part.held + shift for part, shift in zip(parts, first, strict=False)]
        )
        return cls(**joined)


def cells(held: Held, grouping: str) -> Cells:
    """Means over the groups of one way of grouping."""
    low, high = held.forecast.interval(Z)
    labels = held.groups[grouping]
    strange = held.strangeness
    rows = []
    for group in np.unique(labels):
        of = labels == group
        score = held.scores[of]
        seen = ~np.isnan(score)
        n = seen.sum(axis=0)  # (M,)
        kept = n >= LEAST
        if not kept.any():
            continue

        def mean(
            values: FloatArray, seen: BoolArray = seen, n: IntArray = n, kept: BoolArray = kept
        ) -> FloatArray:
            return np.asarray((np.where(seen, values, 0.0).sum(axis=0) / np.maximum(n, 1))[kept])

        p = held.forecast.p_correct[of].astype(np.float64)
        # Fractional scores are less noisy than single answers: the spread seen, where it is less.
        spread = np.minimum(mean(p * (1 - p)), mean((score - p) ** 2))
        rows.append(
            np.column_stack(
                [
                    np.full(kept.sum(), group),
                    mean(score),
                    mean(p),
                    mean(low[of].astype(np.float64)),
                    mean(high[of].astype(np.float64)),
                    np.sqrt(spread / n[kept]),
                    np.full(kept.sum(), held.support[of].mean()),
                    np.full(kept.sum(), strange[of].mean()),
                ]
            )
        )
    table = np.vstack(rows) if rows else np.empty((0, 8))
    return Cells(
        held=np.zeros(len(table), dtype=np.int64),
        group=table[:, 0].astype(np.int64),
        observed=table[:, 1],
        expected=table[:, 2],
        low=table[:, 3],
        high=table[:, 4],
        noise=table[:, 5],
        support=table[:, 6],
        strangeness=table[:, 7],
    )


def strangeness(predictor: ItemPredictor, readings: PromptReadings) -> FloatArray:
    """(N,) how foreign prompts are, from how wide they were made."""
    near, far = predictor.shift_variance
    return np.asarray(np.sqrt(np.maximum(readings.items.shift_variance - near, 0) / max(far, 1e-9)))


# -- fits inside the split -------------------------------------------------------------------------


def clusters(features: PromptFeatures) -> IntArray:
    """(N,) ten clusters of embeddings."""
    from sklearn.cluster import KMeans

    n = min(N_CLUSTERS, len(features))
    return np.asarray(KMeans(n, n_init=3, random_state=0).fit(features.embedding).labels_)


def within(benchmark: Benchmark, kind: str, seed: int) -> Held:
    """One repetition of a split of one data set."""
    split = make_split(
        kind,
        seed,
        groups=benchmark.groups,
        tasks=benchmark.tasks,
        cards=benchmark.models,
        dataset=benchmark.name,
    )
    rng = np.random.default_rng([split.seed, 23])
    fitted = ZeroRouter().fit(training_set(benchmark, split), {}, rng)
    assert isinstance(fitted, FittedZeroRouter)
    test = benchmark.prompts.take(split.test)
    predictor = fitted.fitted.predictor
    readings = predictor.read(test.features)
    panel = Panel.of(fitted.abilities, predictor.effect_covariance)
    return Held(
        regime=kind,
        dataset=benchmark.name,
        repetition=seed,
        forecast=panel.forecast(readings.items),
        scores=benchmark.labels.scores[np.ix_(split.calibration, split.test)].T,
        groups={"tasks": benchmark.tasks[split.test], "clusters": clusters(test.features)},
        support=readings.support,
        strangeness=strangeness(predictor, readings),
    )


def without(matrix: ResponseMatrix, dataset: str) -> Held:
    """A space fitted to all data sets but one, and its forecasts for that one."""
    names = matrix.prompts.dataset_names
    tested = matrix.prompts.dataset == names.index(dataset)
    twins = np.isin(matrix.groups, np.unique(matrix.groups[tested]))
    known = np.asarray((~np.isnan(matrix.scores[:, ~twins])).any(axis=1))
    space = fit_space(
        matrix.select(prompts=~twins, respondents=known),
        cards=respondent_cards(),
        settings=FittingSettings(seed=0),
    )
    held = matrix.select(prompts=tested, respondents=known)
    answered = np.flatnonzero((~np.isnan(held.scores)).sum(axis=1) >= LEAST)
    features = FeatureReader(StaticEncoder.load()).read(as_requests(held.prompts, 0))
    readings = space.predictor.read(features)
    panel = Panel.of(space.abilities.take(answered), space.predictor.effect_covariance)
    tasks = [task or "" for task in held.prompts.tasks]
    return Held(
        regime="data set",
        dataset=dataset,
        repetition=0,
        forecast=panel.forecast(readings.items),
        scores=np.asarray(held.scores[answered], dtype=np.float64).T,
        groups={
            "tasks": np.unique(tasks, return_inverse=True)[1],
            "clusters": clusters(features),
        },
        support=readings.support,
        strangeness=strangeness(space.predictor, readings),
    )


def measured(data: Path, regimes: Sequence[str]) -> Iterator[Held]:
    """All fits, one after another."""
    loaded: dict[str, Benchmark] = {}
    for regime, plan in (("random", RANDOM), ("task", TASKS)):
        for dataset, seed in plan if regime in regimes else ():
            if dataset not in loaded:
                loaded[dataset] = load_benchmark(data / dataset)
            yield within(loaded[dataset], regime, seed)
    loaded.clear()
    if "data-set" in regimes:
        matrix = read_folders([data / name for name in DATASETS], aliases=load_aliases())
        for dataset in DATASETS:
            yield without(matrix, dataset)


# -- tables ----------------------------------------------------------------------------------------


def _clustered(found: Cells) -> IntArray:
    """(C,) numbers of the groups of all fits, which are resampled whole."""
    pairs = np.column_stack([found.held, found.group])
    return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1]).ravel()


def coverage_interval(found: Cells) -> tuple[float, float]:
    """95% interval of the coverage, groups resampled: their cells share one error."""
    group = _clustered(found)
    n = np.bincount(group).astype(np.float64)
    hit = np.bincount(group, weights=found.covered)
    drawn = np.random.default_rng(7).integers(0, len(n), (REPLICATES, len(n)))
    shares = hit[drawn].sum(axis=1) / n[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


HEADER = (
    "| held out | groups | groups x models | coverage [95% interval] | mean width | "
    "error / noise / claimed (sd) | error / claimed (variance) |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def row(name: str, grouping: str, found: Cells) -> str:
    """One line of the table of coverages."""
    covered = float(found.covered.mean())
    low, high = coverage_interval(found)
    excess, claimed = float(found.excess.mean()), float(found.claimed.mean())
    noise = float(np.sqrt((found.noise**2).mean()))
    told = f"{100 * covered:.1f}%"
    if not TARGET[0] <= covered <= TARGET[1]:
        told = f"**{told}**"
    n_groups = len(np.unique(_clustered(found)))
    return (
        f"| {name} | {n_groups} {grouping} | {len(found.held)} | {told} "
        f"[{100 * low:.0f}, {100 * high:.0f}] | {found.width.mean():.3f} | "
        f"{np.sqrt(max(excess, 0)):.3f} / {noise:.3f} / {np.sqrt(claimed):.3f} | "
        f"{excess / max(claimed, 1e-9):.2f} |"
    )


def by_regime(all_held: Sequence[Held]) -> list[str]:
    """Coverage of every fit and of every kind of split."""
    lines = [HEADER]
    for regime in dict.fromkeys(held.regime for held in all_held):
        of_regime = [held for held in all_held if held.regime == regime]
        for grouping in ("tasks", "clusters"):
            parts = [cells(held, grouping) for held in of_regime]
            for held, part in zip(of_regime, parts, strict=True):
                if len(part.held):
                    name = f"{regime}: {held.dataset} {held.repetition}"
                    lines.append(row(name, grouping, part))
            lines.append(row(f"*{regime}, all*", grouping, Cells.stacked(parts)))
    return lines


def by_support(all_held: Sequence[Held], grouping: str) -> tuple[list[str], list[str]]:
    """The table by quintile of the groups' support, and sentences on the correlation."""
    from scipy.stats import spearmanr

    parts = Cells.stacked([cells(held, grouping) for held in all_held])
    order = np.argsort(parts.support, kind="stable")
    lines = [
        f"| {grouping} by support | support | strangeness | error (sd) | claimed (sd) | "
        "error / claimed | coverage | mean width |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for place, at in enumerate(np.array_split(order, QUINTILES)):
        part = parts.take(at)
        excess, claimed = float(part.excess.mean()), float(part.claimed.mean())
        lines.append(
            f"| {('lowest', 'second', 'third', 'fourth', 'highest')[place]} fifth | "
            f"{part.support.min():.2f} to {part.support.max():.2f} | "
            f"{part.strangeness.mean():.2f} | {np.sqrt(max(excess, 0)):.3f} | "
            f"{np.sqrt(claimed):.3f} | {excess / claimed:.2f} | "
            f"{100 * part.covered.mean():.1f}% | {part.width.mean():.3f} |"
        )
    told = []
    for regime in (*dict.fromkeys(held.regime for held in all_held), "all"):
        picked = [h for h in all_held if regime in (h.regime, "all")]
        part = Cells.stacked([cells(held, grouping) for held in picked])
        rank, chance = spearmanr(part.support, part.excess)
        wide, _ = spearmanr(part.width, part.excess)
        told.append(
            f"{regime}, {grouping}: Spearman of support with squared group error {rank:+.2f} "
            f"(p = {chance:.1g}, {len(part.held)} pairs), of the interval's width {wide:+.2f}."
        )
    return lines, told


def page(all_held: Sequence[Held], command: str) -> str:
    """The report in Markdown."""
    lines = [
        "## Coverage of the 90% intervals of P(correct)",
        "",
        f"Printed by `{command}` on {datetime.date.today().isoformat()}. Outside of "
        f"{TARGET[0]:.0%} to {TARGET[1]:.0%} in bold. Groups with fewer than {LEAST} answers of a "
        "model are left out; intervals resample groups.",
        "",
        *by_regime(all_held),
        "",
        "### Does support say where intervals must widen?",
        "",
    ]
    for grouping in ("tasks", "clusters"):
        table, told = by_support(all_held, grouping)
        lines += [*table, "", *[f"- {sentence}" for sentence in told], ""]
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--regimes", default="random,task,data-set")
    parser.add_argument("--out", type=Path, default=None, help="where to write the tables")
    arguments = parser.parse_args()
    found: list[Held] = []
    start = time.perf_counter()
    for held in measured(arguments.data, arguments.regimes.split(",")):
        found.append(held)
        spent = time.perf_counter() - start
        name = f"{held.regime} {held.dataset} {held.repetition}"
        print(f"{name}: done after {spent:.0f} s", file=sys.stderr, flush=True)
    told = page(found, "python scripts/measure_intervals.py --data DIR")
    print(told)
    if arguments.out is not None:
        arguments.out.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
