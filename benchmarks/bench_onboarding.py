"""What onboarding takes: seconds for 50 anchors, and anchors for a width.

    python benchmarks/bench_onboarding.py [--data DIR] [--models 8] [--draws 10]

The first part asks a sandbox on loopback that answers at once: everything else is ours. It is
measured from the first call of `onboard` in a fresh process to the saved profile, reading the
space, making prompts and importing included.

The second part needs evaluation records (``--data`` or ZEROROUTER_DATA): on models with full
records of zeroeval and mmlu-pro, which the space is fitted without, how many anchors bring
P(correct) to a width that 100 random ones reach. Adaptive: batches of eight, each I-optimal for
what is known by then, chosen by what prompts' texts tell as onboarding does.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.irt.ability import AbilityPosterior, ability_posterior
from zerorouter.irt.model import ItemParameters
from zerorouter.irt.population import DEGREES_OF_FREEDOM
from zerorouter.onboarding.design import select
from zerorouter.onboarding.outlook import predictive_sd

N_ANCHORS = 50
BATCH = 8
RANDOM_ANCHORS = 100
ROW = "{:<58} {:>10} {:>12}"

RUN = """
import json, sys, time
begun = time.perf_counter()
from pathlib import Path
from zerorouter.asking.job import Design, onboard
from zerorouter.prices import Price
told = json.loads(sys.argv[1])
result = onboard(
    "newcomer",
    base_url=told["url"],
    upstream_model=told["upstream"],
    price=Price(input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
    design=Design(n=told["n"], data=Path(told["data"]) if told["data"] else None),
    home=Path(told["home"]),
)
assert result.n_anchors == told["n"], result.stopped
print(time.perf_counter() - begun, time.process_time())
"""


def seconds(url: str, *, data: Path | None, runs: int) -> list[list[float]]:
    """Seconds on the clock and of the processor, of whole onboardings in processes of their own."""
    out = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as home:
            told = {
                "url": f"{url}/v1",
                "upstream": "gpt-4o-mini-2024-07-18",
                "n": N_ANCHORS,
                "data": None if data is None else str(data),
                "home": home,
            }
            done = subprocess.run(
                [sys.executable, "-c", RUN, json.dumps(told)],
                capture_output=True,
                text=True,
                check=True,
            )
            out.append([float(x) for x in done.stdout.split()])
    return out


def toy_folder(folder: Path) -> Path:
    """Two hundred sums with references, in the project's own format."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    prompts, responses = [], []
    for i in range(200):
        terms = rng.integers(2, 900, size=int(rng.integers(2, 7)))
        text = f"Add up {', '.join(map(str, terms))} (list {i})."
        prompts.append({"prompt_id": f"q{i}", "text": text, "reference": str(terms.sum())})
        responses.append(
            {
                "prompt_id": f"q{i}",
                "model": "gpt-4o-mini-2024-07-18",
                "score": int(rng.random() < 0.8),
                "output_tokens": 40,
            }
        )
    for name, rows in (("prompts", prompts), ("responses", responses)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def show_seconds(runs: int) -> None:
    """The first part."""
    from zerorouter.sandbox import SandboxSettings, serve_in_thread

    with tempfile.TemporaryDirectory() as root:
        folder = toy_folder(Path(root) / "sums")
        settings = SandboxSettings(data=(folder,), p_correct=0.7, answer_tokens=60)
        with serve_in_thread(settings) as server:
            for label, data in (
                ("a folder of one's own", folder),
                ("generated prompts of the shipped space", None),
            ):
                clock, processor = np.median(seconds(server.url, data=data, runs=runs), axis=0)
                mark = "3 s ok" if clock <= 3 else "3 s MISSED"
                print(ROW.format(f"{N_ANCHORS} anchors, {label}", f"{clock:.2f} s", mark))
                print(ROW.format("  of that on the processor", f"{processor:.2f} s", ""))


# -- anchors for a width -------------------------------------------------------------------------


def placed(
    items: ItemParameters,
    scores: Float64Array,
    mean: Float64Array,
    covariance: Float64Array,
) -> AbilityPosterior:
    """The posterior that onboarding computes."""
    return ability_posterior(
        items,
        scores,
        prior_mean=mean,
        prior_covariance=covariance,
        degrees_of_freedom=DEGREES_OF_FREEDOM,
    )


def anchors_needed(
    items: ItemParameters,
    as_read: ItemParameters,
    scores: Float64Array,
    targets: ItemParameters,
    mean: Float64Array,
    covariance: Float64Array,
    width: float,
    *,
    adaptive: bool,
    rng: np.random.Generator,
) -> int:
    """Anchors until P(correct) is known to within ``width``; at most 4 x `RANDOM_ANCHORS`."""
    open_ = ~np.isnan(scores)
    order = rng.permutation(np.flatnonzero(open_))
    chosen: list[int] = []
    while len(chosen) < 4 * RANDOM_ANCHORS:
        posterior = placed(items.take(np.array(chosen, int)), scores[chosen], mean, covariance)
        if chosen and predictive_sd(posterior, targets) <= width:
            break
        n = len(chosen)
        if adaptive:
            batch = select(
                as_read,
                BATCH,
                asked=n,
                mean=posterior.mean,
                covariance=posterior.covariance,
                rng=rng,
                strategy="i_optimal",
                targets=targets,
                eligible=open_,
            ).tolist()
        else:
            batch = order[n : n + BATCH].tolist()
        chosen += batch
        open_[batch] = False
    return len(chosen)


def show_anchors(data: Path, n_models: int, n_draws: int) -> None:
    """The second part."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
    coverage = importlib.import_module("onboarding_coverage")

    from zerorouter.evaluation.benchmark import load_benchmark
    from zerorouter.evaluation.splits import make_split

    for name in ("zeroeval", "mmlu-pro"):
        benchmark = load_benchmark(data / name)
        split = make_split(
            "random",
            0,
            groups=benchmark.groups,
            tasks=benchmark.tasks,
            cards=benchmark.models,
            dataset=name,
        )
        fitted_parts = coverage.folds(benchmark, split, 2)
        models = coverage.newcomers(benchmark, split, fitted_parts)[:n_models]
        show_widths(name, models, n_draws)


def show_widths(name: str, models: list[Any], n_draws: int) -> None:
    """Anchors that each way needs, for models of the coverage script."""
    ratios, counts = [], []
    for model in models:
        fitted = model.fold.fitted
        items, covariance = fitted.calibration.items, fitted.population.covariance
        for draw in range(n_draws):
            rng = np.random.default_rng([draw, model.row])
            answered = np.flatnonzero(~np.isnan(model.answers))
            first = rng.permutation(answered)[:RANDOM_ANCHORS]
            targets = fitted.expected.take(rng.permutation(len(model.answers))[:500])
            width = predictive_sd(
                placed(items.take(first), model.answers[first], model.centre, covariance),
                targets,
            )
            told = (
                *(items, fitted.expected, model.answers, targets),
                *(model.centre, covariance, width),
            )
            adaptive = anchors_needed(*told, adaptive=True, rng=rng)
            random = anchors_needed(*told, adaptive=False, rng=rng)
            ratios.append(adaptive / random)
            counts.append((adaptive, random))
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    mark = "60% ok" if middle <= 0.6 else "60% MISSED"
    adaptive_mean, random_mean = np.mean(counts, axis=0)
    label = f"{name}: adaptive {adaptive_mean:.0f}, random {random_mean:.0f} anchors"
    print(ROW.format(label, f"{middle:.0%}", mark))
    print(ROW.format("  a tenth of the runs below, a tenth above", f"{low:.0%}", f"{high:.0%}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ZEROROUTER_DATA"))
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(ROW.format("", "median", "target"))
    show_seconds(arguments.runs)
    if arguments.data is None:
        print("without --data or ZEROROUTER_DATA the anchors for a width are not measured")
    else:
        show_anchors(arguments.data, arguments.models, arguments.draws)


if __name__ == "__main__":
    main()
