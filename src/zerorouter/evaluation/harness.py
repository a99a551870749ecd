"""The whole protocol: data sets x splits x repetitions x methods, judged and reported.

Jobs run in two processes, each outcome is saved as it comes, and a run that was killed goes on
where it stopped: an outcome is taken from disk when the data, the code's version and the plan
that made it are the same.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from zerorouter._version import __version__
from zerorouter.errors import ZeroRouterError
from zerorouter.evaluation.baselines import METHODS, find_method
from zerorouter.evaluation.benchmark import Benchmark, load_benchmark
from zerorouter.evaluation.judging import NOT_BASELINES, OURS, Judge, Repetition
from zerorouter.evaluation.rows import Row, write_rows
from zerorouter.evaluation.running import Outcome, run_job
from zerorouter.evaluation.splits import KINDS, Split, leaked_prompts, make_split
from zerorouter.evaluation.statistics import Acceptance, Cell, acceptance
from zerorouter.evaluation.verdicts import benchmarking_avoided
from zerorouter.predict.encoders import Encoder, MiniLMEncoder, minilm_dir

DEFAULT_ANCHORS = (0, 5, 10, 20, 50, 100, 200, 500)
_MAKING = ("running", "tuning", "splits", "benchmark", "costs")  # of outcomes
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

Tell = Callable[[str, float], None]  # (what is being done, share of all jobs done)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to evaluate.

    Attributes:
        folders: Folders of records, one data set each.
        splits: Kinds of split.
        methods: Method ids; empty for all.
        anchors: Labels per newcomer.
        n_draws: Draws of anchors.
        n_seeds: Repetitions of each split.
        cutoff: ``YYYY-MM`` of the release-date split; None for the named or the default one.
        replicates: Bootstrap replicates.
        workers: Processes.
    """

    folders: tuple[Path, ...]
    splits: tuple[str, ...] = KINDS
    methods: tuple[str, ...] = ()
    anchors: tuple[int, ...] = DEFAULT_ANCHORS
    n_draws: int = 3
    n_seeds: int = 3
    cutoff: str | None = None
    replicates: int = 2000
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))

    def method_ids(self) -> tuple[str, ...]:
        """The methods to run, in table order.

        Raises:
            UnknownNameError: one is not known.
        """
        for name in self.methods:
            find_method(name)
        return tuple(m for m in METHODS if not self.methods or m in self.methods)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One method on one split of one data set."""

    split: Split
    method: str
    path: Path


def evaluate(plan: Plan, out: Path, tell: Tell | None = None) -> list[Row]:
    """Run the plan; writes ``results.jsonl``, and the outcomes under ``work/``.

    Raises:
        DataError: records break their format.
        UnknownNameError: a method is not known.
    """
    rows, cells = collect(plan, out, tell)
    rows += verdict_rows(rows, cells, plan.method_ids())
    write_rows(out / "results.jsonl", rows)
    return rows


def collect(plan: Plan, out: Path, tell: Tell | None = None) -> tuple[list[Row], list[Cell]]:
    """Run the plan; the rows without verdicts, and the compared cells they will rest on."""
    report = tell or (lambda _stage, _share: None)
    methods = plan.method_ids()
    rows: list[Row] = []
    cells: list[Cell] = []
    out.mkdir(parents=True, exist_ok=True)
    n_datasets = len(plan.folders)
    for d, folder in enumerate(plan.folders):
        report(f"{folder.name}: reading records and features", d / n_datasets)
        benchmark = load_benchmark(folder, _encoders(methods))
        splits = list(_splits(benchmark, plan, rows))
        fingerprint = _fingerprint(benchmark, plan)
        jobs = [
            _Job(
                split=split,
                method=method,
                path=out / "work" / fingerprint / f"{split.kind}-{split.seed}-{method}.npz",
            )
            for split in splits
            for method in methods
        ]
        _run(benchmark, jobs, plan, lambda s, x, d=d: report(s, (d + 0.9 * x) / n_datasets))  # type: ignore[misc]
        for kind in dict.fromkeys(split.kind for split in splits):
            report(f"{benchmark.name}: judging the {kind} split", (d + 0.9) / n_datasets)
            judge = Judge(benchmark, _repetitions(jobs, kind), plan.replicates)
            rows += judge.rows()
            cells += judge.compared
    return rows, cells


def _splits(benchmark: Benchmark, plan: Plan, rows: list[Row]) -> Iterator[Split]:
    """Every split that the data allow; the others leave a row that says why."""
    for kind in plan.splits:
        for seed in range(plan.n_seeds):
            try:
                split = make_split(
                    kind,
                    seed,
                    groups=benchmark.groups,
                    tasks=benchmark.tasks,
                    cards=benchmark.models,
                    dataset=benchmark.name,
                    cutoff=plan.cutoff,
                )
            except ZeroRouterError as error:
                rows.append(
                    Row(
                        dataset=benchmark.name,
                        split=kind,
                        method="",
                        metric="status",
                        value=None,
                        note=str(error),
                    )
                )
                break
            if seed == 0:
                rows += _too_many_anchors(benchmark.name, split, plan.anchors)
            leaked = leaked_prompts(split, benchmark.groups)
            if leaked:
                raise AssertionError(
                    f"{leaked} training prompts have a twin among the test prompts"
                )
            yield split


def _too_many_anchors(dataset: str, split: Split, anchors: Sequence[int]) -> Iterator[Row]:
    """A row for each number of anchors beyond the prompts there are."""
    n_train = len(split.train)
    if not split.has_newcomers:
        return
    for n in anchors:
        if n >= n_train:
            yield Row(
                dataset=dataset,
                split=split.kind,
                method="",
                metric="status",
                value=None,
                n_anchors=n,
                note=f"{n} anchors were left out: the split has {n_train} training prompts",
            )


def _run(benchmark: Benchmark, jobs: Sequence[_Job], plan: Plan, tell: Tell) -> None:
    """Run the jobs whose outcomes are not on disk, in ``plan.workers`` processes."""
    waiting = [job for job in jobs if Outcome.load(job.path) is None]
    if not waiting:
        return
    # Long jobs first, so that no process is left alone with one at the end.
    waiting.sort(key=lambda job: not job.method.startswith("zerorouter"))
    start = time.monotonic()
    saved = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # two processes, one thread each
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            max_workers=plan.workers,
            mp_context=context,
            initializer=_begin,
            initargs=(benchmark,),
        ) as pool:
            futures = {pool.submit(_work, job, plan.anchors, plan.n_draws): job for job in waiting}
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                job = futures[future]
                left = (time.monotonic() - start) / done * (len(waiting) - done)
                tell(
                    f"{benchmark.name}: {job.split.kind} {job.split.seed}, {job.method} "
                    f"({done}/{len(waiting)}, about {left / 60:.0f} min left)",
                    done / len(waiting),
                )
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_benchmark: Benchmark | None = None  # of a worker process, set once when it starts


def _begin(benchmark: Benchmark) -> None:
    global _benchmark
    _benchmark = benchmark


def _work(job: _Job, anchors: Sequence[int], n_draws: int) -> None:
    assert _benchmark is not None
    run_job(_benchmark, job.split, job.method, anchors, n_draws).save(job.path)


def _repetitions(jobs: Sequence[_Job], kind: str) -> list[Repetition]:
    found: dict[int, tuple[Split, dict[str, Outcome]]] = {}
    for job in jobs:
        if job.split.kind != kind:
            continue
        outcome = Outcome.load(job.path)
        assert outcome is not None
        found.setdefault(job.split.seed, (job.split, {}))[1][job.method] = outcome
    return [Repetition(split=split, outcomes=o) for _, (split, o) in sorted(found.items())]


def verdict_rows(
    rows: Sequence[Row], cells: Sequence[Cell], methods: Sequence[str]
) -> Iterator[Row]:
    """The table `benchmarking avoided` and the acceptance rule's sentence."""
    yield from benchmarking_avoided(rows)
    if not cells:
        return
    baselines = [m for m in methods if m not in NOT_BASELINES]
    found = acceptance(cells, method=OURS, baselines=baselines)
    for judged in found.cells:
        yield Row(
            dataset=judged.cell.dataset.partition("/")[0],
            split=judged.cell.dataset.partition("/")[2],
            method=OURS,
            metric=f"corrected:{judged.cell.metric}@{judged.cell.policy}",
            policy=f"against={judged.cell.baseline}",
            value=judged.cell.comparison.difference,
            ci_low=judged.ci_low,
            ci_high=judged.ci_high,
            n=judged.cell.comparison.n,
            note=judged.verdict,
        )
    yield Row(
        dataset="",
        split="",
        method=OURS,
        metric="acceptance",
        value=float(found.allowed),
        note=_in_short(found),
    )


def _in_short(found: Acceptance) -> str:
    """Two sentences; every cell has a row of its own."""
    tally = found.summary.split("\n", 1)[0]
    sentence = f"'{OURS} outperforms all baselines'"
    if found.allowed:
        return f"{tally} {sentence} may be written."
    first, more = found.reasons[0], len(found.reasons) - 1
    others = f" (and {more} more objections)" if more else ""
    return f"{tally} {sentence} may not be written: {first}{others}."


def _fingerprint(benchmark: Benchmark, plan: Plan) -> str:
    """Names the outcomes that a plan may take from disk."""
    told: dict[str, Any] = {
        "version": __version__,
        "code": _code_digest(),
        "data": benchmark.digest,
        "anchors": plan.anchors,
        "draws": plan.n_draws,
        "cutoff": plan.cutoff,
        "embeddings": sorted(benchmark.prompts.embeddings),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"{benchmark.name}-{digest[:12]}"


@cache
def _code_digest() -> str:
    """SHA-256 of the code that makes forecasts: an outcome of other code is never taken."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for folder in ("irt", "predict", "fitting", "evaluation/baselines"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    for name in (
        *(f"evaluation/{name}.py" for name in _MAKING),
        *("onboarding/published.py", "onboarding/benchmarks.py", "assets/benchmarks.yaml"),
        "covariates.py",
    ):
        digest.update((package / name).read_bytes())
    return digest.hexdigest()


def _encoders(methods: Sequence[str]) -> dict[str, Encoder]:
    """Encoders that a method asks for and that are there."""
    wanted = {METHODS[m].needs_embedding for m in methods} - {None}
    if "minilm" not in wanted or not minilm_dir().is_dir():
        return {}
    try:
        return {"minilm": MiniLMEncoder.load()}
    except (ZeroRouterError, ImportError):
        return {}
