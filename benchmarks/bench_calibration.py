"""What a calibration costs: 200 models x 20,000 items, eight dimensions, 30% missing.

    python benchmarks/bench_calibration.py [--repeats 3] [--models 200] [--items 20000]

One thread. The responses are simulated, so that the log-loss on the missing cells can be held
against that of the true probabilities, which nothing can beat.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import time
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array
from zerorouter.irt.calibration import CalibrationSettings, calibrate
from zerorouter.irt.model import forecast, log_loss

N_DIMS = 8
N_FEATURES = 535
MISSING = 0.3
ROW = "{:<24} {:>8} {:>8} {:>12} {:>11} {:>22} {:>14}"


@dataclass(frozen=True)
class Simulated:
    """Responses whose probabilities are known."""

    scores: Float32Array  # (M, N), NaN where missing
    held_out: Float32Array  # (M, N), NaN where not
    features: Float32Array  # (N, F)
    p: Float64Array  # (M, N)


def simulate(n_models: int, n_items: int, seed: int = 0) -> Simulated:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_items, N_FEATURES), dtype=np.float32)
    weights = rng.standard_normal((N_FEATURES, N_DIMS + 1)) * np.sqrt(0.25 / N_FEATURES)
    weights[:, -1] *= 2.0
    items = features @ weights + 0.3 * rng.standard_normal((n_items, N_DIMS + 1))
    items[:, 0] += 1.0
    theta = rng.standard_normal((n_models, N_DIMS))
    p = 1 / (1 + np.exp(-(theta @ items[:, :-1].T + items[:, -1])))
    answers = (rng.random(p.shape) < p).astype(np.float32)
    hidden = rng.random(p.shape) < MISSING
    return Simulated(
        scores=np.where(hidden, np.nan, answers).astype(np.float32),
        held_out=np.where(hidden, answers, np.nan).astype(np.float32),
        features=features,
        p=p,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--items", type=int, default=20_000)
    asked = parser.parse_args()
    truth = simulate(asked.models, asked.items)
    settings = CalibrationSettings(n_dims=N_DIMS)
    best = log_loss(truth.p, truth.held_out)
    rate = np.nanmean(truth.scores, axis=1)
    by_rate = log_loss(np.broadcast_to(rate[:, None], truth.scores.shape), truth.held_out)
    print(
        f"{asked.models} models x {asked.items:,} items, {N_DIMS} dimensions, {MISSING:.0%} missing"
    )
    print(
        ROW.format(
            "", "median s", "best s", "target s", "iterations", "held-out log-loss", "status"
        )
    )
    for label, features, target in (
        ("without features", None, 0.3),
        (f"with {N_FEATURES} features", truth.features, 1.0),
    ):
        times = []
        for _ in range(asked.repeats):
            start = time.perf_counter()
            fit = calibrate(truth.scores, features=features, settings=settings)
            times.append(time.perf_counter() - start)
        median = float(np.median(times))
        loss = log_loss(forecast(fit.items, fit.abilities).p_correct.T, truth.held_out)
        print(
            ROW.format(
                label,
                f"{median:.2f}",
                f"{min(times):.2f}",
                f"{target:.1f} {'ok' if median <= target else 'MISSED'}",
                fit.n_iterations,
                f"{loss:.4f}",
                fit.status.name,
            )
        )
    print(f"held-out log-loss of the truth {best:.4f}, of each model's mean rate {by_rate:.4f}")


if __name__ == "__main__":
    main()
