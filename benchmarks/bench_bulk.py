"""What a file of prompts costs to assign: estimates from text, and a stream longer than memory.

    python benchmarks/bench_bulk.py [--prompts 100000]

One process, one thread, the shipped space and pool, distinct prompts of 64 word pieces. `wall` is
what the target is about; `cpu` is the same where the machine is not shared. Files are written
to a temporary folder.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from zerorouter.bulk.files import BulkSettings, assign_file
from zerorouter.predict.encoders import StaticEncoder
from zerorouter.router import Router
from zerorouter.routing.assignment.offers import Bounds

N_TOKENS = 64
TARGET_S = 17.0  # for 100,000 prompts
WORDS = (
    "the a of train leaves city how many prove that integral function python return list are is "
    "between seven people table value time find what which color river war year because larger "
    "smaller equation solve compute sum product triangle angle area speed distance"
)
ROW = "{:<52} {:>8} {:>8} {:>9}  {}"


def texts(n: int, seed: int = 0) -> Iterator[str]:
    """Distinct prompts of about `N_TOKENS` word pieces."""
    draw = random.Random(seed)
    encoder = StaticEncoder.load()
    size = N_TOKENS
    while len(encoder.token_ids(_text(draw, size))) > N_TOKENS:
        size -= 1
    for _ in range(n):
        yield _text(draw, size)


def _text(draw: random.Random, size: int) -> str:
    known = WORDS.split()
    words = [draw.choice(known) for _ in range(size - 2)]
    return " ".join([*words, str(draw.randrange(10, 99)), "?"])


def peak_mb() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--prompts", type=int, default=100_000)
    n = parser.parse_args().prompts
    router = Router.load()
    router.offers(list(texts(500)))
    print(ROW.format("", "wall s", "cpu s", "peak", "target"))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "prompts.jsonl", Path(folder) / "out.csv"
        with source.open("w", encoding="utf-8") as file:
            for i, text in enumerate(texts(n)):
                file.write(json.dumps({"prompt_id": f"q{i}", "text": text}) + "\n")
        wall, cpu = time.perf_counter(), time.process_time()
        totals = assign_file(
            router, source, out, Bounds(budget_usd=1e-3 * n), BulkSettings(in_memory=0)
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        note = f"gap {totals.gap:.1e}, spend {totals.spend_usd / (1e-3 * n):.6f} of the budget"
        label = f"a stream of {n:,}, with its sample of 20,000"
        print(ROW.format(label, f"{wall:.1f}", f"{cpu:.1f}", peak_mb(), note))
    asked = list(texts(n, seed=1))
    wall, cpu = time.perf_counter(), time.process_time()
    offers = router.offers(asked)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    target = TARGET_S * n / 100_000
    note = f"{target:.1f} s {'ok' if wall <= target else 'MISSED'}"
    label = f"estimates of {n:,} prompts x {offers.n_models} models, from text"
    print(ROW.format(label, f"{wall:.1f}", f"{cpu:.1f}", peak_mb(), note))


if __name__ == "__main__":
    main()
