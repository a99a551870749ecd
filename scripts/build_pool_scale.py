"""What one unit of accuracy, cost and latency is in the paper's presets.

    python scripts/build_pool_scale.py --data DIR [--space DIR]

Estimates the default pool on prompts of the calibration sets, 1,000 of each, and prints the
spreads for ``POOL_SCALE`` in ``routing/policy.py``. They are set once and stay: a scale that
followed the pool would let a model that joins re-rank the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from zerorouter.data.reading import read_folder
from zerorouter.fitting import as_requests
from zerorouter.router import Router
from zerorouter.routing.policy import POOL_SCALE, PoolScale

DATASETS = ("mmlu-pro", "zeroeval", "reasoning-gym", "alpaca-eval")
N_PROMPTS = 1000  # of each data set
SEED = 0


def main() -> None:
    """Read prompts, estimate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--space", type=Path, help="another space than the shipped one")
    arguments = parser.parse_args()
    router, rng = Router.load(arguments.space), np.random.default_rng(SEED)
    requests = []
    for name in DATASETS:
        read = as_requests(read_folder(arguments.data / name).prompts, SEED)
        drawn = rng.permutation(len(read))[:N_PROMPTS]
        requests += [read[i] for i in sorted(drawn)]
    table = router.estimates(requests)
    found = PoolScale.of(table.p_correct, table.cost_usd, table.latency_s)
    print(f"{len(requests):,} prompts, {len(router.models)} models")
    print(f"found   {found}")
    print(f"shipped {POOL_SCALE}")


if __name__ == "__main__":
    main()
