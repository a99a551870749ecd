"""How long reading evaluation records takes, from files to a checked response matrix.

Usage: ``python benchmarks/bench_loading.py [DATA_DIR]`` (default: ``ZEROROUTER_DATA``). Reads
every folder below it that holds responses. Each figure is the median of `REPEATS` runs in one
process; "first" is the run that also loads pyarrow. Peak memory is of the whole process.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from zerorouter.data.duplicates import duplicate_groups
from zerorouter.data.reading import combine, read_folder, read_folders

REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(work: Callable[[], object]) -> float:
    return statistics.median(seconds(work) for _ in range(REPEATS))


def main() -> None:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ZEROROUTER_DATA")
    if given is None:
        raise SystemExit("give the folder of data sets, or set ZEROROUTER_DATA")
    folders = sorted(file.parent for file in Path(given).glob("*/responses.*"))
    if not folders:
        raise SystemExit(f"no data set below {given}: wanted folders with responses")

    first = seconds(lambda: read_folders(folders))
    print(f"{'':24}{'responses':>12}{'median s':>10}")
    for folder in folders:
        n_responses = len(read_folder(folder).responses)
        took = median(lambda folder=folder: read_folder(folder))  # type: ignore[misc]
        print(f"{folder.name:24}{n_responses:>12,}{took:>10.3f}")
    records = [read_folder(folder) for folder in folders]
    matrix = combine(records)
    for name, took in (
        ("combine, with groups", median(lambda: combine(records))),
        ("duplicate groups alone", median(lambda: duplicate_groups(matrix.prompts))),
        ("all, files to matrix", median(lambda: read_folders(folders))),
        ("all, first run", first),
    ):
        print(f"{name:24}{matrix.n_observed:>12,}{took:>10.3f}")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{matrix.shape[0]} respondents x {matrix.shape[1]:,} prompts, peak {peak_mib:,.0f} MiB")


if __name__ == "__main__":
    main()
