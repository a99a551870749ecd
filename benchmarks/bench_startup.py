"""What a start costs: import, help, a cold route, its peak memory, and the installed size.

    python benchmarks/bench_startup.py [--repeats 7]

Each figure is the median of fresh processes, beside it their least CPU time, which is what counts
where others use the machine, too; the bare interpreter is timed beside them. The size is that of
the files of this package and of all that its core requirements pull in, with the bytecode that
pip compiles.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import zerorouter

ROW = "{:<46} {:>10} {:>10} {:>10}  {}"
PEAK = (
    "import resource, subprocess, sys; "
    "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
ROUTE = [sys.executable, "-m", "zerorouter", "route", "What is 17 * 23?"]


def seconds(command: list[str], repeats: int) -> tuple[float, float]:
    """Median time of a command in a fresh process, and its least CPU time."""
    times, cpu_times = [], []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), children_cpu_s()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
        cpu_times.append(children_cpu_s() - cpu)
    return median(times), min(cpu_times)


def children_cpu_s() -> float:
    """CPU time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def core_distributions(name: str, seen: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """A distribution and what it requires without extras, each once."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return
    seen.add(key)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return  # a requirement of another platform or Python
    yield found
    for line in found.requires or ():
        requirement, _, marker = line.partition(";")
        if "extra" not in marker:
            required = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
            if required:
                yield from core_distributions(required[0], seen)


def size_mb(distribution: importlib.metadata.Distribution) -> float:
    """Megabytes of a distribution's files; of this one the package folder, however installed."""
    if distribution.name == "zerorouter":
        folder = Path(zerorouter.__file__).parent
        paths = list(folder.rglob("*"))
    else:
        paths = [Path(str(file.locate())) for file in distribution.files or ()]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def show(label: str, value: float, target: float, unit: str) -> None:
    verdict = "ok" if value <= target else "MISSED"
    print(ROW.format(label, f"{value:.1f} {unit}", "", f"{target:g} {unit}", verdict))


def show_times(label: str, times: tuple[float, float], target: float | None) -> None:
    told = [f"{one:.3f} s" for one in times]
    if target is None:
        print(ROW.format(label, *told, "", ""))
        return
    verdict = "ok" if times[0] <= target else "ok by CPU time" if times[1] <= target else "MISSED"
    print(ROW.format(label, *told, f"{target:g} s", verdict))


def beyond(times: tuple[float, float], bare: tuple[float, float]) -> tuple[float, float]:
    return times[0] - bare[0], times[1] - bare[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    python = [sys.executable, "-c"]
    bare = seconds([*python, "pass"], repeats)
    module = [sys.executable, "-m", "zerorouter"]
    seconds(ROUTE, 1)  # writes the bytecode

    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    print(ROW.format("", "median", "CPU", "target", ""))
    show_times("the bare interpreter", bare, None)
    imported = seconds([*python, "import zerorouter"], repeats)
    show_times("import zerorouter, beyond it", beyond(imported, bare), 0.15)
    with_router = seconds([*python, "from zerorouter import Router"], repeats)
    show_times("from zerorouter import Router, beyond it", beyond(with_router, bare), None)
    show_times("zerorouter --help", seconds([*module, "--help"], repeats), 0.2)
    show_times("zerorouter route, cold", seconds(ROUTE, repeats), 0.5)
    peak = subprocess.run([*python, PEAK, *ROUTE], capture_output=True, text=True, check=True)
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes on Linux
    show("zerorouter route, peak memory", float(peak.stdout) / unit, 150, "MB")

    sizes = {d.name: size_mb(d) for d in core_distributions("zerorouter", set())}
    show("installed size of the core", sum(sizes.values()), 170, "MB")
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {size:.1f}" for name, size in largest if size >= 1)
    print(f"  {told}; {len(sizes)} distributions")


if __name__ == "__main__":
    main()
