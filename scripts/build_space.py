"""Fit the default space that ships with the package.

    python scripts/build_space.py --data DIR

Reads mmlu-pro, zeroeval, reasoning-gym and cruxeval, and alpaca-eval as preferences only; bfcl
and routerbench-subset stay out, they are for evaluation. The result is written to
``src/zerorouter/assets/space``. The same records, package and date give the same bytes on the
same machine; docs/decisions/0006-default-space.md tells how its settings were chosen.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import time
from pathlib import Path

from zerorouter.calibrating import calibrate
from zerorouter.cli.common import progress
from zerorouter.fitting import FittingSettings

DATASETS = ("mmlu-pro", "zeroeval", "reasoning-gym", "cruxeval", "alpaca-eval")
SETTINGS = FittingSettings(
    n_dims=3,
    preference_datasets=frozenset({"alpaca-eval"}),
    length_datasets=frozenset({"zeroeval", "alpaca-eval"}),
    seed=0,
)
ATTRIBUTIONS = {
    "mmlu-pro": "TIGER-AI-Lab/MMLU-Pro, Apache-2.0",
    "zeroeval": "WildEval/ZeroEval, Apache-2.0",
    "reasoning-gym": "open-thought/reasoning-gym-eval, Apache-2.0",
    "cruxeval": "facebookresearch/cruxeval, MIT",
    "alpaca-eval": "tatsu-lab/alpaca_eval, Apache-2.0",
    "catalog": "llm-leaderboard, JonathanChavezTamales, CC-BY-4.0",
}
TARGET = Path(__file__).parent.parent / "src" / "zerorouter" / "assets" / "space"


def main() -> None:
    """Read the arguments, fit, save, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    arguments = parser.parse_args()
    start = time.perf_counter()
    with progress() as tell:
        space = calibrate(
            [arguments.data / name for name in DATASETS],
            settings=SETTINGS,
            date=arguments.date,
            facts={"attributions": ATTRIBUTIONS},
            report=tell,
        )
    # The shipped catalog describes the models; the records' own cards would add host variants.
    dataclasses.replace(space, models=()).save(arguments.out)
    fit = space.provenance["fit"]
    print(f"space {space.version}: {fit['n_responses']:,} responses, {fit['n_items']:,} items,")
    print(
        f"{fit['n_respondents']} respondents; {fit['status']} in {fit['n_iterations']} iterations"
    )
    print(f"held-out prompts: {fit['cross_fit']}")
    print(f"shift variance (near, far): {fit['shift_variance']}")
    print(f"{time.perf_counter() - start:.0f} s; written to {arguments.out}")


if __name__ == "__main__":
    main()
