"""Jobs: one method on one split, tuned, fitted, and asked for its forecasts.

An outcome is what came out of a job, before any metric: forecasts for the test prompts. It is
saved as arrays and JSON, so that a killed run goes on where it stopped and metrics can be
computed anew without fitting.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, IntArray
from zerorouter.errors import ZeroRouterError
from zerorouter.evaluation.baselines import METHODS
from zerorouter.evaluation.benchmark import Benchmark
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Method,
    Newcomers,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.splits import Split
from zerorouter.evaluation.tuning import stratified_draw, tune
from zerorouter.onboarding.published import ScoreMatrix

FEW_LABELS = 50  # settings tuned for 20 labels are used up to here, those for 200 beyond
TUNED_FEW, TUNED_MANY = 20, 200
TIMED_PROMPTS = 50


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What newcomers were given: n labels (None: all) from one draw of anchors."""

    n_anchors: int | None
    draw: int = 0

    @property
    def key(self) -> str:
        """Its name in an array file."""
        return f"{'all' if self.n_anchors is None else self.n_anchors}.{self.draw}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Forecasts of one method on one split's test prompts.

    Attributes:
        method: Its id.
        reason: Why there is nothing; empty where it ran.
        p_known: (N, M) P(correct) of the calibration models, None without probabilities.
        cost_known: (N, M) their expected dollars.
        p_new: By cell key, (N, M') P(correct) of the newcomers.
        cost_new: By cell key, (N, M') their expected dollars.
        interval_known: (2, N, M) bounds of P(correct) at 90%, None without error bars.
        interval_new: By cell key, (2, N, M') the same of the newcomers.
        policies: Names of the method's own operating points.
        choices: (P, N) their choices among the calibration models.
        facts: Settings chosen, seconds taken.
    """

    method: str
    reason: str = ""
    p_known: Float32Array | None = None
    cost_known: Float32Array | None = None
    p_new: Mapping[str, Float32Array] = field(default_factory=dict)
    cost_new: Mapping[str, Float32Array] = field(default_factory=dict)
    interval_known: Float32Array | None = None
    interval_new: Mapping[str, Float32Array] = field(default_factory=dict)
    policies: tuple[str, ...] = ()
    choices: IntArray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the outcome; the file appears whole or not at all."""
        arrays: dict[str, np.ndarray] = {}
        for name in ("p_known", "cost_known", "interval_known", "choices"):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value
        arrays |= {f"p_new.{key}": value for key, value in self.p_new.items()}
        arrays |= {f"cost_new.{key}": value for key, value in self.cost_new.items()}
        arrays |= {f"interval_new.{key}": value for key, value in self.interval_new.items()}
        facts = {
            "method": self.method,
            "reason": self.reason,
            "policies": list(self.policies),
            "facts": dict(self.facts),
        }
        arrays["json"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub names no arrays
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Outcome | None:
        """Read an outcome back; None where there is none, or it is damaged."""
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            facts = json.loads(arrays.pop("json").tobytes())
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

        def cells(prefix: str) -> dict[str, Float32Array]:
            return {
                name.removeprefix(prefix): value
                for name, value in arrays.items()
                if name.startswith(prefix)
            }

        return cls(
            method=facts["method"],
            reason=facts["reason"],
            p_known=arrays.get("p_known"),
            cost_known=arrays.get("cost_known"),
            p_new=cells("p_new."),
            cost_new=cells("cost_new."),
            interval_known=arrays.get("interval_known"),
            interval_new=cells("interval_new."),
            policies=tuple(facts["policies"]),
            choices=arrays.get("choices"),
            facts=facts["facts"],
        )


def cells_of(anchors: Sequence[int], n_draws: int, n_train: int) -> list[Cell]:
    """Every number of labels with its draws; none and all need one draw alone."""
    out = [Cell(n_anchors=None)]
    for n in anchors:
        if n < n_train:
            out += [Cell(n_anchors=n, draw=draw) for draw in range(n_draws if n else 1)]
    return out


def training_set(benchmark: Benchmark, split: Split) -> TrainingSet:
    """What methods may learn from."""
    return TrainingSet(
        prompts=benchmark.prompts.take(split.train),
        models=tuple(benchmark.models[int(i)] for i in split.calibration),
        labels=benchmark.labels.take(split.calibration, split.train),
        strata=benchmark.tasks[split.train],
        groups=np.unique(benchmark.groups[split.train], return_inverse=True)[1],
        published=None
        if benchmark.published is None
        else benchmark.published.without(_names(benchmark, split.newcomers)),
    )


def published_of(benchmark: Benchmark, split: Split) -> ScoreMatrix | None:
    """What is published of the newcomers, and of nobody else; None where there is no table."""
    if benchmark.published is None:
        return None
    mine = set(_names(benchmark, split.newcomers))
    matrix = benchmark.published.matrix
    return matrix.without([name for name in matrix.models if name not in mine])


def _names(benchmark: Benchmark, models: IntArray) -> list[str]:
    """Models as published scores name them: however they were asked here."""
    return [benchmark.models[int(i)].model for i in models]


def run_job(
    benchmark: Benchmark,
    split: Split,
    method_id: str,
    anchors: Sequence[int],
    n_draws: int,
) -> Outcome:
    """Tune, fit and ask one method; a method that cannot run says why."""
    method = METHODS[method_id]()
    reason = _obstacle(method, benchmark, split)
    if reason:
        return Outcome(method=method_id, reason=reason)
    try:
        return _Job(benchmark, split, method).run(anchors, n_draws)
    except ZeroRouterError as error:
        return Outcome(method=method_id, reason=f"{type(error).__name__}: {error}")


def _obstacle(method: Method, benchmark: Benchmark, split: Split) -> str:
    if method.needs_prices and benchmark.cost_kind == "none":
        return "the data set has no prices and no costs"
    needed = method.needs_embedding
    if needed is not None and needed not in benchmark.prompts.embeddings:
        return f"the {needed} encoder's file is missing; make it with scripts/export_{needed}.py"
    return _nothing_published(benchmark, split) if method.needs_published else ""


def _nothing_published(benchmark: Benchmark, split: Split) -> str:
    """Why published scores say nothing here; empty where they say something."""
    if not split.has_newcomers:
        return "the split has no newcomers: published scores are of use before a model's answers"
    if benchmark.published is None:
        return (
            "no published scores: wanted published_scores.csv in the folder of records or in "
            "'catalog' beside it"
        )
    known = set(benchmark.published.matrix.models)
    # Families take turns: one turn whose newcomers have none is no reason to leave out the rest.
    joining = np.arange(len(benchmark.models)) if split.kind == "family" else split.newcomers
    if known.isdisjoint(_names(benchmark, joining)):
        return f"none of the {len(joining)} newcomers has published scores"
    return ""


class _Job:
    """One run; fits are kept by their settings, since several regimes may choose the same."""

    def __init__(self, benchmark: Benchmark, split: Split, method: Method) -> None:
        self.benchmark, self.split, self.method = benchmark, split, method
        self.data = training_set(benchmark, split)
        self.test = benchmark.prompts.take(split.test)
        self.fits: dict[str, FittedMethod] = {}
        self.chosen: dict[str, Settings] = {}

    def run(self, anchors: Sequence[int], n_draws: int) -> Outcome:
        start = time.perf_counter()
        known = self._fitted(None)
        reveal = getattr(known, "reveal", None)
        if reveal is not None:  # the oracle alone is shown the answers
            known = reveal(self.benchmark.labels.take(self.split.calibration, self.split.test))
        fitted_s = time.perf_counter() - start
        start = time.perf_counter()
        forecast = known.predict(self.test)
        predict_s = time.perf_counter() - start
        points = known.operating_points(self.test, self._eligible()) or ()
        p_new: dict[str, Float32Array] = {}
        cost_new: dict[str, Float32Array] = {}
        interval_new: dict[str, Float32Array] = {}
        if self.split.has_newcomers and self.method.has_probabilities and reveal is None:
            for cell in cells_of(anchors, n_draws, len(self.split.train)):
                new = self._onboarded(cell)
                own = slice(len(self.split.calibration), None)
                assert new.p_correct is not None
                p_new[cell.key] = _small(new.p_correct[:, own])
                cost_new[cell.key] = _small(new.cost_usd[:, own])
                if new.interval is not None:
                    interval_new[cell.key] = np.stack(new.interval)[:, :, own]
        return Outcome(
            method=self.method.id,
            p_known=None if forecast.p_correct is None else _small(forecast.p_correct),
            cost_known=_small(forecast.cost_usd),
            p_new=p_new,
            cost_new=cost_new,
            interval_known=None if forecast.interval is None else np.stack(forecast.interval),
            interval_new=interval_new,
            policies=tuple(point.policy for point in points),
            choices=np.array([p.choice for p in points], dtype=np.int32) if points else None,
            facts={
                "settings": {name: dict(s) for name, s in self.chosen.items()},
                "fit_s": round(fitted_s, 3),
                "predict_us_per_prompt": round(1e6 * predict_s / max(len(self.test), 1), 1),
                **self._overhead(known),
            },
        )

    def _overhead(self, fitted: FittedMethod) -> dict[str, float]:
        """Seconds to forecast one prompt alone, features given: median and 99th percentile."""
        if hasattr(fitted, "reveal") or self.method.id == "oracle":
            return {}
        taken = []
        for i in range(min(TIMED_PROMPTS, len(self.test))):
            prompt = self.test.take(np.array([i]))
            start = time.perf_counter()
            fitted.predict(prompt)
            taken.append(time.perf_counter() - start)
        p50, p99 = np.quantile(taken, [0.5, 0.99])
        return {"overhead_p50_s": float(p50), "overhead_p99_s": float(p99)}

    def _eligible(self) -> BoolArray:
        """(M,) calibration models of the routing block; all where there is none."""
        block = np.isin(self.split.calibration, self.benchmark.routing_models())
        return block if block.any() else np.ones_like(block)

    def _fitted(self, n_labels: int | None) -> FittedMethod:
        """The method fitted with settings tuned for so many labels."""
        regime = "all" if n_labels is None else "few" if n_labels <= FEW_LABELS else "many"
        if regime not in self.chosen:
            tuned_for = {"all": None, "few": TUNED_FEW, "many": TUNED_MANY}[regime]
            self.chosen[regime] = tune(self.method, self.data, tuned_for, self.split.seed)
        settings = self.chosen[regime]
        key = json.dumps(dict(settings), sort_keys=True, default=str)
        if key not in self.fits:
            rng = np.random.default_rng([self.split.seed, 23])
            self.fits[key] = self.method.fit(self.data, settings, rng)
        return self.fits[key]

    def _onboarded(self, cell: Cell) -> Forecast:
        """What is expected of all models, newcomers last, after the newcomers' anchors."""
        fitted = self._fitted(cell.n_anchors)
        labels = self.benchmark.labels.take(self.split.newcomers, self.split.train)
        if cell.n_anchors is not None:
            labels = labels.only(self._anchors(fitted, cell.n_anchors, cell.draw))
        newcomers = Newcomers(
            models=tuple(self.benchmark.models[int(i)] for i in self.split.newcomers),
            labels=labels,
            published=published_of(self.benchmark, self.split),
        )
        return fitted.onboard(newcomers).predict(self.test)

    def _anchors(self, fitted: FittedMethod, n: int, draw: int) -> IntArray:
        """The common stratified draw, unless the method chooses its own."""
        seed = [self.split.seed, draw, n]
        chosen = fitted.select_anchors(n, np.random.default_rng([*seed, 1])) if n else None
        if chosen is None:
            chosen = stratified_draw(self.data.strata, n, np.random.default_rng([*seed, 2]))
        return chosen


def _small(values: Float64Array) -> Float32Array:
    return np.asarray(values, dtype=np.float32)
