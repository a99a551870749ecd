"""Run the evaluation protocol and write its tables.

    python scripts/reproduce.py --data DIR --out DIR [--quick]

Each data set is evaluated under its own plan, sized so that all of them together fit into an hour
on two cores. A run that was stopped goes on where it stopped. ``OUT/report.html`` shows
everything; the tables and the aggregated rows are written to ``docs/results``, unless the run was
a quick one.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from zerorouter.cli.common import progress
from zerorouter.cli.evaluate import QUICK_ANCHORS, provenance
from zerorouter.evaluation.harness import DEFAULT_ANCHORS, Plan, collect, verdict_rows
from zerorouter.evaluation.report import markdown_tables, write_report
from zerorouter.evaluation.rows import Row, write_rows
from zerorouter.evaluation.splits import KINDS
from zerorouter.evaluation.statistics import Cell

RESULTS = Path(__file__).parent.parent / "docs" / "results"


def plans(data: Path, *, quick: bool) -> list[Plan]:
    """One plan per data set."""
    full = [
        Plan(folders=(data / "zeroeval",), splits=KINDS, anchors=DEFAULT_ANCHORS),
        # Four times the prompts: two repetitions and draws, and fewer numbers of labels.
        Plan(
            folders=(data / "mmlu-pro",),
            splits=("random", "time", "task"),
            anchors=(0, 5, 20, 50, 200),
            n_seeds=2,
            n_draws=2,
        ),
        # Real dollars, few models, no family of more than a few: the hardest for a latent space.
        Plan(
            folders=(data / "routerbench-subset",),
            splits=("random", "time", "task"),
            anchors=(0, 20, 200),
            n_draws=2,
        ),
    ]
    if not quick:
        return full
    return [
        replace(full[0], splits=("random", "time"), anchors=QUICK_ANCHORS, n_seeds=1, n_draws=1)
    ]


def main() -> None:
    """Read the arguments, run every plan, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--out", type=Path, required=True, help="where outcomes and report go")
    parser.add_argument("--quick", action="store_true", help="one data set, in minutes")
    arguments = parser.parse_args()
    start = time.monotonic()
    rows: list[Row] = []
    cells: list[Cell] = []
    settings: dict[str, object] = {}
    hashes: dict[str, str] = {}
    chosen = plans(arguments.data, quick=arguments.quick)
    for plan in chosen:
        name = plan.folders[0].name
        with progress() as tell:
            found = collect(plan, arguments.out / name, tell)
        rows += found[0]
        cells += found[1]
        told = provenance(plan.folders, plan)
        hashes |= told.pop("data")
        settings[name] = {key: told[key] for key in ("splits", "anchors", "seeds", "draws")}
    rows += verdict_rows(rows, cells, chosen[0].method_ids())
    meta = {**provenance((), chosen[0]), "data": hashes, "plans": settings}
    for key in ("splits", "anchors", "seeds", "draws"):
        meta.pop(key)
    write_rows(arguments.out / "results.jsonl", rows)
    write_report(rows, arguments.out, meta)
    print(f"{time.monotonic() - start:.0f} s; report in {arguments.out}")
    if arguments.quick:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluation.md").write_text(markdown_tables(rows, meta), encoding="utf-8")
    write_rows(RESULTS / "evaluation.jsonl", [row for row in rows if row.seed is None])
    print(f"tables in {RESULTS}")


if __name__ == "__main__":
    main()
