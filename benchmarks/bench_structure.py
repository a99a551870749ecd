"""What the structural features of a prompt cost, in microseconds.

    python benchmarks/bench_structure.py [--runs 400]

One process, one thread, our own example texts. Tokens are taken as given: encoding needs them
anyway. Median and 95th percentile of single calls; "best" is the fastest of them, since the
machine is rarely ours alone.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from zerorouter.predict.encoders import StaticEncoder
from zerorouter.predict.options import read_ask
from zerorouter.predict.structure import N_FEATURES, TokenStatistics, structure_features

SHORT = "How many bridges cross the river between the two mills, and which one is older?"
MIDDLE = (
    "A ferry leaves the island at 9:40 and needs 55 minutes to the coast, where a bus waits for "
    "at most a quarter of an hour. The bus takes 1.5 hours to the city. If the ferry is late by x "
    "minutes, for which values of x does a passenger still arrive in the city before noon, and "
    "what would change in summer?"
)
LONG = MIDDLE + (
    " Write down the inequality first. Then consider the way back: the last bus leaves the city at "
    "17:20, the last ferry sails at 19:15 in winter and at 20:00 from May to September, and the "
    "crossing is slower against the current, by about a tenth. A family of two adults and three "
    "children wants to spend at least four hours in the city and to be home by nine. Tickets cost "
    "12.50 for an adult and half of that for a child, the bus is 3.20 each way for everyone, and "
    "there is a day ticket for groups of up to five people at 58. Which tickets should they buy, "
    "how long can they stay, and is there any day of the year on which the plan cannot work? State "
    "every assumption that you need, say which of them matter most, and give the answer to each of "
    "the questions in a sentence of its own. If the timetable leaves more than one solution, "
    "prefer the one with the longest stay, and among those the cheapest one for the whole family."
)
SHORT_OPTIONS = ("copper", "tin", "zinc", "lead", "iron", "gold", "silver", "nickel", "none", "all")
LONG_OPTIONS = tuple(
    f"at most {5 * place} minutes, or {place}.5 hours with the night bus" for place in range(1, 11)
)
CODE = """\
def merge(left, right, key):
    seen = {}
    for row in left + right:
        if row[key] not in seen or len(row) > len(seen[row[key]]):
            seen[row[key]] = row
    return sorted(seen.values(), key=lambda row: str(row[key]).lower())
assert merge([{'id': 1, 'x': 'A'}], [{'id': 1}, {'id': 0, 'x': 'b'}], 'id') == ??"""


def _choice(stem: str, options: tuple[str, ...]) -> str:
    rows = "\n".join([f"{chr(65 + place)}) {option}" for place, option in enumerate(options)])
    return f"{stem}\n{rows}\n\nAnswer with the letter of the right option."


TEXTS = {
    "16 tokens": SHORT,
    "64 tokens": MIDDLE,
    "256 tokens": LONG,
    "10 short options": _choice("Which metal do bronze and brass share?", SHORT_OPTIONS),
    "10 long options": _choice(MIDDLE, LONG_OPTIONS),
    "code": CODE,
    "12,000 characters": (LONG + "\n\n") * (12_000 // len(LONG)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    runs = parser.parse_args().runs
    encoder = StaticEncoder.load()
    tokens = TokenStatistics(
        log_frequency=encoder.log_frequency,
        is_wordpiece=encoder.is_wordpiece,
    )
    print(f"{N_FEATURES} features; microseconds")
    print(f"{'prompt':20s}  chars tokens    best     p50     p95     ask")
    for name, text in TEXTS.items():
        ids = encoder.token_ids(text)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            structure_features(text, ids, tokens)
            times.append(1e6 * (time.perf_counter() - start))
        asks = []
        for _ in range(runs):
            start = time.perf_counter()
            read_ask(text)
            asks.append(1e6 * (time.perf_counter() - start))
        p50, p95 = np.percentile(times, (50, 95))
        print(
            f"{name:20s} {len(text):6d} {len(ids):6d} {min(times):7.1f} {p50:7.1f} {p95:7.1f} "
            f"{np.median(asks):7.1f}"
        )


if __name__ == "__main__":
    main()
