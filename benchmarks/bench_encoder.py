"""What encoding costs: load time, microseconds per text, throughput, memory.

    python benchmarks/bench_encoder.py [--repeats 7]

One process, one thread. Times are the best of several repeats, since the machine is rarely
ours alone. The `tokenizers` package is timed beside our word pieces, and MiniLM (onnxruntime,
int8, one thread) where it was exported.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

from zerorouter.errors import ArtifactError, MissingExtraError
from zerorouter.predict.encoders import (
    Encoder,
    MiniLMEncoder,
    StaticEncoder,
    reference_tokenizer,
)
from zerorouter.predict.prompt import read_prompt

SENTENCE = (
    "The keeper of the old lighthouse writes down each evening how many ships have passed, "
    "which flags they flew, and whether the wind turned; after 37 years the 4,500 pages fill "
    "two shelves, and his niece would like to know what they reveal about storms in March, "
    "so how should she begin? "
)
LOAD = (
    "import time; t = time.perf_counter(); "
    "from zerorouter.predict.encoders import StaticEncoder; u = time.perf_counter(); "
    "e = StaticEncoder.load(); v = time.perf_counter(); e.encode(['a kite']); "
    "print(1e3 * (u - t), 1e3 * (v - u), 1e3 * (time.perf_counter() - v))"
)


def best_us(call: Callable[[], object], repeats: int) -> float:
    """Best time of one call in microseconds; calls are grouped to about 20 ms."""
    started = time.perf_counter()
    call()
    n = max(1, int(0.02 / (time.perf_counter() - started + 1e-9)))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(n):
            call()
        best = min(best, (time.perf_counter() - started) / n)
    return 1e6 * best


def text_of(encoder: StaticEncoder, n_tokens: int) -> str:
    words = (SENTENCE * (n_tokens // 40 + 1)).split()
    text = ""
    while len(encoder.token_ids(text)) < n_tokens:
        text += " " + words.pop(0)
    return text


def row(label: str, value: float, unit: str) -> None:
    print(f"{label:<58} {value:>10,.1f} {unit}")


def bench_texts(label: str, encoder: Encoder, texts: dict[int, str], repeats: int) -> None:
    for n_tokens, text in texts.items():
        one = best_us(lambda text=text: encoder.encode([text]), repeats)  # type: ignore[misc]
        row(f"{label}: one text of {n_tokens} tokens", one, "us")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats

    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", LOAD], capture_output=True, text=True, check=True
        )
        runs.append([float(field) for field in done.stdout.split()])
    names = ("import (numpy included)", "load", "first text")
    for name, times in zip(names, zip(*runs, strict=True), strict=True):
        row(f"static, fresh process: {name}", min(times), "ms")

    static = StaticEncoder.load()
    texts = {n: text_of(static, n) for n in (16, 64, 256)}
    bench_texts("static", static, texts, repeats)
    for n_tokens, text in texts.items():
        row(
            f"static: word pieces alone, {n_tokens} tokens",
            best_us(lambda text=text: static.words.ids(text), repeats),  # type: ignore[misc]
            "us",
        )
    curly = texts[64].replace("his", "his “own”").replace("years", "années")
    row(
        "static: one text of 64 tokens, some not ASCII",
        best_us(lambda: static.encode([curly]), repeats),
        "us",
    )
    batch = [texts[64] + str(i) for i in range(1_000)]
    seconds = best_us(lambda: static.encode(batch), repeats) / 1e6
    row("static: batch of 1,000 texts of 64 tokens", len(batch) / seconds, "texts/s")

    tokenizer = reference_tokenizer({w: i for i, w in enumerate(static.words.vocabulary)})
    for n_tokens, text in texts.items():
        row(
            f"tokenizers package: word pieces alone, {n_tokens} tokens",
            best_us(lambda text=text: tokenizer.encode(text).ids, repeats),  # type: ignore[misc]
            "us",
        )

    row("reading: a string of 64 tokens", best_us(lambda: read_prompt(texts[64]), repeats), "us")
    for n_chars in (100_000, 10_000_000):
        long = (SENTENCE * (n_chars // len(SENTENCE) + 1))[:n_chars]

        def whole_way(long: str = long) -> object:
            return static.encode_prompt(read_prompt(long).windows)

        row(f"reading and encoding {n_chars:,} characters", best_us(whole_way, repeats), "us")
        tracemalloc.start()
        whole_way()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        row(f"  its peak of further memory, {n_chars:,} characters", peak / 1e3, "kB")
    row("static: the table in memory", static.table.nbytes / 1e6, "MB")

    try:
        minilm = MiniLMEncoder.load()
    except (ArtifactError, MissingExtraError) as error:
        print(f"MiniLM is left out: {str(error).splitlines()[0]}")
        return
    bench_texts("MiniLM", minilm, texts, repeats)


if __name__ == "__main__":
    main()
