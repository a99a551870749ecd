"""Quality of P(correct) against microseconds per prompt, over sizes of the network that reads it.

    python scripts/quality_frontier.py --data DIR

Fits the space inside the random split (repetition 0) of zeroeval and mmlu-pro for each size, judges
P(correct) of the calibration models on the held-out prompts, and times the reading of single
prompts of 64 tokens, features included. Writes docs/results/frontier.md and frontier.svg.
"""

from __future__ import annotations

import argparse
import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zerorouter.arrays import FloatArray
from zerorouter.evaluation.baselines.zerorouter import ZeroRouter, ZeroRouterFull
from zerorouter.evaluation.benchmark import load_benchmark
from zerorouter.evaluation.metrics import auc, log_loss
from zerorouter.evaluation.running import training_set
from zerorouter.evaluation.splits import make_split
from zerorouter.predict.encoders import StaticEncoder
from zerorouter.predict.features import FeatureReader
from zerorouter.predict.prompt import read_prompt

DATASETS = ("zeroeval", "mmlu-pro")
SIZES = (0, 32, 64, 128, 256)
SHIPPED = "128 units"
TARGET = Path(__file__).parent.parent / "docs" / "results"
TEXT = (
    "A train leaves the station at 14:05 and travels 120 km at an average speed of 80 km/h before "
    "it stops for ten minutes. It then travels another 60 km at 90 km/h. At what time does it "
    "arrive, "
    "and what is the average speed over the whole trip including the stop?"
)
RUNS = 600


@dataclass(frozen=True)
class Point:
    """One way of reading prompts: its name, microseconds, log-losses and AUCs by data set."""

    name: str
    microseconds: float
    loss: tuple[float, ...]
    auc: tuple[float, ...]


def main() -> None:
    """Fit, judge, time, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for name in DATASETS:
        benchmark = load_benchmark(arguments.data / name)
        split = make_split(
            "random",
            0,
            groups=benchmark.groups,
            tasks=benchmark.tasks,
            cards=benchmark.models,
            dataset=name,
        )
        data, test = training_set(benchmark, split), benchmark.prompts.take(split.test)
        truth = benchmark.labels.take(split.calibration, split.test).scores
        for size in SIZES:
            fitted = ZeroRouter().fit(data, {"n_units": size}, np.random.default_rng([0, 23]))
            ways = [("linear" if size == 0 else f"{size} units", ZeroRouter.accuracy)]
            if size == SIZES[-1]:
                ways.append(("forest", ZeroRouterFull.accuracy))
            for label, accuracy in ways:
                p = vars(fitted)["fitted"].predictor
                method = type(fitted)(**{**vars(fitted), "accuracy": accuracy})
                forecast = method.predict(test).p_correct
                assert forecast is not None
                losses, areas = judged(forecast.T, truth)
                found.setdefault(label, []).append((reading_time(p, accuracy), losses, areas))
                print(f"{name:10s} {label:10s} {losses:.4f} {areas:.4f}", flush=True)
    points = [
        Point(
            name=label,
            microseconds=float(np.median([one[0] for one in of_sets])),
            loss=tuple(one[1] for one in of_sets),
            auc=tuple(one[2] for one in of_sets),
        )
        for label, of_sets in found.items()
    ]
    (TARGET / "frontier.md").write_text(table(points), encoding="utf-8")
    (TARGET / "frontier.svg").write_text(figure(points), encoding="utf-8")


def judged(p: FloatArray, truth: FloatArray) -> tuple[float, float]:
    """Mean log-loss and AUC over models (M, N)."""
    losses, areas = [], []
    for forecast, y in zip(p, truth, strict=True):
        seen = ~np.isnan(y)
        losses.append(log_loss(forecast[seen], y[seen]) or np.nan)
        areas.append(auc(forecast[seen], y[seen]) or np.nan)
    return float(np.mean(losses)), float(np.nanmean(areas))


def reading_time(predictor: object, accuracy: str) -> float:
    """Microseconds (median) from the text of a prompt to its item parameters."""
    reader, taken = FeatureReader(StaticEncoder.load()), []
    read = predictor.read  # type: ignore[attr-defined]
    for _ in range(RUNS):
        start = time.perf_counter()
        read(reader.read([read_prompt(TEXT)]), accuracy)
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken))


def table(points: list[Point]) -> str:
    """The page."""
    head = " | ".join(f"{name}, log-loss / AUC" for name in DATASETS)
    rows = []
    for point in points:
        name = f"**{point.name}** (shipped)" if point.name == SHIPPED else point.name
        quality = [f"{a:.4f} / {b:.4f}" for a, b in zip(point.loss, point.auc, strict=True)]
        rows.append(" | ".join([f"| {name}", f"{point.microseconds:.0f}", *quality]) + " |")
    today = datetime.date.today().isoformat()
    listed = "\n".join(rows)
    return f"""# Quality against microseconds

Random split (repetition 0), all labels, means over the calibration models on held-out prompts;
time from the text of a 64-token prompt to its item parameters, one thread, median of {RUNS}.
Measured on {today} with `python scripts/quality_frontier.py --data DATA`. `forest` is
`accuracy="full"`, the method `zerorouter_full` of the evaluation.

| reading | microseconds | {head} |
| --- | ---: | {" | ".join("---" for _ in DATASETS)} |
{listed}

![log-loss against microseconds](frontier.svg)
"""


def figure(points: list[Point]) -> str:
    """A panel per data set, log-loss against microseconds (log scale), as SVG."""
    width, height, margin = 420, 300, 56
    panels = []
    x = np.log([p.microseconds for p in points])
    for k, name in enumerate(DATASETS):
        y = np.array([p.loss[k] for p in points])
        across = margin + (x - x.min()) / max(np.ptp(x), 1e-9) * (width - 2 * margin)
        down = margin + (y.max() - y) / max(np.ptp(y), 1e-9) * (height - 2 * margin)
        marks = []
        for a, b, point in zip(across, down, points, strict=True):
            colour = "#1d4ed8" if point.name == SHIPPED else "#64748b"
            label = f"{point.name}, {point.microseconds:.0f} us, {point.loss[k]:.4f}"
            marks.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>')
            marks.append(f'<text x="{a + 7:.1f}" y="{b - 6:.1f}">{label}</text>')
        frame = f'width="{width}" height="{height - 48}" fill="none" stroke="#cbd5e1"'
        panels.append(
            f'<g transform="translate({k * (width + 60)},0)"><rect x="20" y="24" {frame}/>'
            f'<text x="24" y="16" font-weight="bold">{name}: log-loss, lower is better</text>'
            f'<text x="{width / 2}" y="{height - 6}">microseconds per prompt, log scale</text>'
            f"{''.join(marks)}</g>"
        )
    size = f'width="{2 * (width + 60) + 60}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" '
        'font-size="11" fill="#0f172a"><rect width="100%" height="100%" fill="#ffffff"/>'
        f"{''.join(panels)}</svg>\n"
    )


if __name__ == "__main__":
    main()
