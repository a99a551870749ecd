"""What a decision costs: latency of `Router.route`, its parts, and batches.

    python benchmarks/bench_route.py [--runs 3000]

One process, one thread, a prompt of 64 word pieces, a pool of 50 models of the shipped space.
The parts are timed inside whole routes, where each finds the caches as the others left them;
alone in a loop each would look a third faster.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import time

import numpy as np

from zerorouter.predict.encoders import StaticEncoder
from zerorouter.predict.features import FeatureReader
from zerorouter.predict.prompt import read_prompt
from zerorouter.router import Router, Wishes
from zerorouter.routing.policy import find_policy

N_MODELS = 50
N_TOKENS = 64
WORDS = (
    "A ferry leaves the island at 9:40 and needs 55 minutes to the coast, where a bus waits for at "
    "most a quarter of an hour. If the ferry is late by x minutes, for which values of x does a "
    "passenger still arrive in the city before noon, and what would change in summer, when the "
    "last ferry sails an hour later?"
)
ROW = "{:<46} {:>9} {:>9} {:>9}  {:>12}"


def prompt_text() -> str:
    """The first words that make `N_TOKENS` word pieces."""
    encoder, words = StaticEncoder.load(), WORDS.split()
    for n in range(1, len(words) + 1):
        text = " ".join(words[:n])
        if len(encoder.token_ids(text)) >= N_TOKENS:
            return text
    raise AssertionError("too few words")


def show(label: str, seconds: list[float], target_us: float | None = None) -> None:
    p50, p95, p99 = (1e6 * float(q) for q in np.percentile(seconds, [50, 95, 99]))
    target = (
        "" if target_us is None else f"{target_us:.0f} {'ok' if p50 <= target_us else 'MISSED'}"
    )
    print(ROW.format(label, f"{p50:.1f}", f"{p95:.1f}", f"{p99:.1f}", target))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3000)
    runs = parser.parse_args().runs
    whole = Router.load()
    router = Router(whole.space, whole.catalog, models=whole.models[:N_MODELS])
    text, clock = prompt_text(), time.perf_counter
    for _ in range(200):
        router.route(text)

    times = []
    busy = time.process_time()
    for _ in range(runs):
        start = clock()
        router.route(text)
        times.append(clock() - start)
    busy = (time.process_time() - busy) / runs

    # The same steps as `Router.route`, with a look at the clock between them.
    features_of = FeatureReader(StaticEncoder.load())
    policy, wishes = find_policy("balanced"), Wishes()
    stages: list[list[float]] = [[], [], [], [], []]
    for _ in range(runs):
        t0 = clock()
        prompt = read_prompt(text)
        t1 = clock()
        features = features_of.read((prompt,))
        t2 = clock()
        readings = router.space.predictor.read(features)
        t3 = clock()
        estimates = router._pool.estimate(readings, np.array([prompt.input_tokens.mean]))
        t4 = clock()
        router._decide(prompt, readings, 0, estimates, policy, wishes)
        t5 = clock()
        for stage, span in zip(stages, np.diff([t0, t1, t2, t3, t4, t5]), strict=True):
            stage.append(float(span))

    print(ROW.format("microseconds", "p50", "p95", "p99", "target p50"))
    show(f"route, {N_TOKENS} tokens, {len(router.models)} models", times, 250)
    print(ROW.format("  processor time, mean", f"{1e6 * busy:.1f}", "", "", ""))
    show("  read the request", stages[0])
    show("  encode and structural features", stages[1])
    show("  predict item parameters, domain, support", stages[2])
    show("  estimate P(correct), cost, latency", stages[3])
    show("  filter, choose, decide", stages[4])
    show("  beyond the encoding", [sum(parts) for parts in zip(*stages[2:], strict=True)])

    explained = []
    for _ in range(min(runs, 500)):
        decision = router.route(text)
        start = clock()
        decision.to_dict()
        explained.append(clock() - start)
    show("a decision as JSON values, reasons and all", explained)

    texts = [f"{text} ({i})" for i in range(1000)]
    best = {}
    for label, call in (("estimates", router.estimates), ("route_batch", router.route_batch)):
        spans = []
        for _ in range(3):
            start = clock()
            call(texts)
            spans.append(clock() - start)
        best[label] = len(texts) / min(spans)
    print()
    for label, rate in best.items():
        target = 6000 if label == "estimates" else None
        mark = (
            "" if target is None else f"  target {target:,} {'ok' if rate >= target else 'MISSED'}"
        )
        print(f"{label + ', 1,000 prompts':<46} {rate:>9,.0f} prompts/s{mark}")


if __name__ == "__main__":
    main()
