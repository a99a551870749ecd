"""How well latencies are forecast: quantile coverage and error against simple baselines.

    python scripts/evaluate_latency.py --data DIR

Three questions, each a table; they are printed and written to ``docs/results/latency.md``:

1. the catalog's request log (TTFT and TPOT of real requests, January 2024), one endpoint at a
   time in the order of the log: every request is forecast from those before it;
2. bfcl's end-to-end times in a random order, with the length of the answer known and forecast;
3. the slope of the latency on input tokens in bfcl, and how weakly it is identified.

The prior of serving times is fitted to the catalog's tables and compared with the shipped one.
"""

from __future__ import annotations

import argparse
import csv
import math
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import least_squares

from zerorouter.arrays import Float64Array
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.fitting.serving_times import as_logs, fit_spread
from zerorouter.linking import load_aliases
from zerorouter.predict.quantiles import normal_quantile
from zerorouter.predict.serving_times import (
    PREFILL_S_PER_KTOK,
    PRIOR,
    TAIL,
    EndpointTimes,
    LogTime,
    ServedRequest,
    Spread,
    observe,
    sum_quantile,
)
from zerorouter.routing.estimates import told_times

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "latency.md"
SEEN = ((0, 1, "0"), (1, 5, "1 to 4"), (5, 20, "5 to 19"), (20, 10**9, "20 and more"))
MOST_REQUESTS = 200  # of an endpoint of bfcl
LEAST_FOR_LINE = 5
REPLICATES = 2000


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request of a record; ``ttft_s`` is None where only the whole was timed."""

    input_tokens: float
    output_tokens: float
    end_to_end_s: float
    ttft_s: float | None = None


Endpoint: TypeAlias = tuple[str, str]


# -- reading ---------------------------------------------------------------------------------------


def read_log(data: Path) -> dict[Endpoint, list[Request]]:
    """The request log by endpoint (provider, model), in its own order."""
    table = pq.read_table(data / "catalog" / "latency_requests.parquet").to_pydict()
    out: dict[Endpoint, list[Request]] = {}
    for i, endpoint in enumerate(zip(table["provider"], table["model"], strict=True)):
        out.setdefault(endpoint, []).append(
            Request(
                input_tokens=float(table["input_tokens"][i]),
                output_tokens=float(table["output_tokens"][i]),
                end_to_end_s=float(table["end_to_end_s"][i]),
                ttft_s=float(table["ttft_s"][i]),
            )
        )
    return out


def read_offers(data: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Told seconds to the first token and per token, by model over hosts."""
    out: dict[str, tuple[list[float], list[float]]] = {}
    with (data / "catalog" / "offers.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            told = out.setdefault(row["model_id"], ([], []))
            if row["latency_s"]:
                told[0].append(float(row["latency_s"]))
            if row["throughput_tok_s"]:
                told[1].append(1 / float(row["throughput_tok_s"]))
    return out


def read_bfcl(data: Path) -> dict[str, list[Request]]:
    """Requests of bfcl by respondent; those that were not timed or answered nothing are out."""
    table = pq.read_table(data / "bfcl" / "responses.parquet").to_pydict()
    out: dict[str, list[Request]] = {}
    columns = (table[name] for name in ("model", "input_tokens", "output_tokens", "latency_s"))
    for model, entered, written, seconds in zip(*columns, strict=True):
        if entered and written and written > 1 and seconds and seconds > 0.05:
            out.setdefault(model, []).append(
                Request(
                    input_tokens=float(entered),
                    output_tokens=float(written),
                    end_to_end_s=float(seconds),
                )
            )
    return {model: rows for model, rows in out.items() if len(rows) >= 100}


# -- forecasting -----------------------------------------------------------------------------------


def quantiles(state: EndpointTimes, length: float, length_sd: float = 0.0) -> tuple[float, float]:
    """(p50, p95) of a request whose answer has this expected length."""
    writing = (length - 1) * math.exp(state.tpot.mean - length_sd**2 / 2)
    out = []
    for q in (0.5, TAIL):
        ttft, tpot = (
            (state.ttft.sd, state.tpot.sd) if q < TAIL else (state.ttft.tail_sd, state.tpot.tail_sd)
        )
        out.append(
            float(
                sum_quantile(
                    q,
                    np.array(math.exp(state.ttft.mean)),
                    np.array(ttft),
                    np.array(writing),
                    np.hypot(length_sd, tpot),
                )
            )
        )
    return out[0], out[1]


def constant(seen: Sequence[Request]) -> tuple[float, float]:
    """(p50, p95) of the requests so far."""
    times = [r.end_to_end_s for r in seen]
    low, high = np.quantile(times, [0.5, TAIL])
    return float(low), float(high)


def line(seen: Sequence[Request], length: float) -> tuple[float, float]:
    """(p50, p95) by least squares on output tokens, with normal errors of one size."""
    x = np.array([[1.0, r.output_tokens] for r in seen])
    y = np.array([r.end_to_end_s for r in seen])
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    sd = float(np.sqrt(np.sum((y - x @ weights) ** 2) / max(len(y) - 2, 1)))
    middle = max(float(weights[0] + weights[1] * length), 1e-3)
    return middle, middle + normal_quantile(TAIL) * sd


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One forecast and what came: see `summary`."""

    method: str
    bucket: str
    below_p50: bool
    below_p95: bool
    log_error: float
    pinball: float


def outcome(method: str, n_seen: int, made: tuple[float, float], came: float) -> Outcome:
    """What became of one forecast."""
    bucket = next(name for low, high, name in SEEN if low <= n_seen < high)
    away = came - made[1]
    return Outcome(
        method=method,
        bucket=bucket,
        below_p50=came <= made[0],
        below_p95=came <= made[1],
        log_error=abs(math.log(came / made[0])),
        pinball=max(TAIL * away, (TAIL - 1) * away),
    )


def from_others(state_of: Sequence[tuple[float, float]]) -> EndpointTimes:
    """An endpoint of which nothing is told, by the medians (TTFT, TPOT) of other endpoints."""
    logs = np.log(np.array(state_of))
    parts = []
    for column, spread in zip(logs.T, (PRIOR.ttft, PRIOR.tpot), strict=True):
        wide = replace(spread, level=float(column.var()))
        time = LogTime.told(1.0, wide)
        parts.append(replace(time, mean=float(column.mean())))
    return EndpointTimes(ttft=parts[0], tpot=parts[1])


def replay_log(log: Mapping[Endpoint, list[Request]]) -> Iterator[Outcome]:
    """Every request forecast from the earlier ones of its endpoint, its length known."""
    medians = {}
    for endpoint, rows in log.items():
        first = [r.ttft_s for r in rows if r.ttft_s is not None]
        rest = [
            (r.end_to_end_s - r.ttft_s) / (r.output_tokens - 1)
            for r in rows
            if r.ttft_s is not None and r.output_tokens > 1
        ]
        medians[endpoint] = (float(np.median(first)), float(np.median(rest)))
    for endpoint, rows in log.items():
        start = from_others([m for other, m in medians.items() if other != endpoint])
        streamed = whole = start
        for n, request in enumerate(rows):
            came, length = request.end_to_end_s, request.output_tokens
            yield outcome("log-normal, TTFT seen", n, quantiles(streamed, length), came)
            yield outcome("log-normal, end to end seen", n, quantiles(whole, length), came)
            if n:
                yield outcome("constant quantiles", n, constant(rows[:n]), came)
            if n >= LEAST_FOR_LINE:
                yield outcome("linear in output tokens", n, line(rows[:n], length), came)
            streamed = observe(streamed, served(request))
            whole = observe(whole, served(replace(request, ttft_s=None)))


def served(request: Request) -> ServedRequest:
    """The request as the gateway would hand it on."""
    return ServedRequest(
        output_tokens=max(request.output_tokens, 1.0),
        end_to_end_s=request.end_to_end_s,
        ttft_s=request.ttft_s,
        input_tokens=request.input_tokens,
    )


def replay_bfcl(
    log: Mapping[str, list[Request]], specs: Mapping[str, ModelSpec], rng: np.random.Generator
) -> Iterator[Outcome]:
    """bfcl's requests in a random order, from what the catalog tells of the model or nothing."""
    nobody = ModelSpec(name="nobody")
    for model, rows in log.items():
        drawn = [rows[i] for i in rng.permutation(len(rows))[:MOST_REQUESTS]]
        state = told_times(specs.get(model, nobody))
        kind = "told by the catalog" if model in specs else "nothing told"
        for n, request in enumerate(drawn):
            came, length = request.end_to_end_s, request.output_tokens
            label = f"log-normal, {kind}" if n == 0 else "log-normal"
            yield outcome(label, n, quantiles(state, length), came)
            if n:
                yield outcome("constant quantiles", n, constant(drawn[:n]), came)
            if n >= LEAST_FOR_LINE:
                yield outcome("linear in output tokens", n, line(drawn[:n], length), came)
            if n >= LEAST_FOR_LINE:
                lengths = np.log([r.output_tokens for r in drawn[:n]])
                sd = float(lengths.std(ddof=1))
                mean = math.exp(float(lengths.mean()) + sd**2 / 2)
                yield outcome(
                    "log-normal, length forecast by its mean", n, quantiles(state, mean, sd), came
                )
            state = observe(state, served(request))


def summary(outcomes: Iterator[Outcome]) -> list[str]:
    """One row per method and number of requests seen."""
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for made in outcomes:
        rows.setdefault((made.method, made.bucket), []).append(made)
    order = [name for _, _, name in SEEN]
    lines = [
        "| requests seen | method | forecasts | below p50 | below p95 | error of the log | "
        "pinball at p95, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for bucket in order:
        for method, seen in rows:
            if seen != bucket:
                continue
            found = rows[method, bucket]
            lines.append(
                f"| {bucket} | {method} | {len(found):,} | "
                f"{np.mean([f.below_p50 for f in found]):.3f} | "
                f"{np.mean([f.below_p95 for f in found]):.3f} | "
                f"{np.mean([f.log_error for f in found]):.3f} | "
                f"{np.mean([f.pinball for f in found]):.3f} |"
            )
    return lines


# -- the slope on input tokens ---------------------------------------------------------------------


def slope(rows: Sequence[Request]) -> tuple[float, float]:
    """Seconds per 1,000 input tokens of one endpoint, and its standard error.

    Robust least squares on the log of ``a + b (L - 1) + c n_in / 1000``.
    """
    entered = np.array([r.input_tokens for r in rows]) / 1000
    length = np.array([r.output_tokens for r in rows])
    log_time = np.log([r.end_to_end_s for r in rows])

    def left(p: Float64Array) -> Float64Array:
        whole = np.exp(p[0]) + np.exp(p[1]) * (length - 1) + p[2] * entered
        out: Float64Array = np.log(np.maximum(whole, 1e-3)) - log_time
        return out

    found = least_squares(left, [math.log(0.5), math.log(0.01), 0.05], loss="soft_l1", f_scale=0.3)
    noise = float(np.mean(left(found.x) ** 2))
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * noise
    return float(found.x[2]), float(np.sqrt(covariance[2, 2]))


def slope_lines(log: Mapping[str, list[Request]]) -> list[str]:
    """The pooled slope with its interval over endpoints, and the spread behind it."""
    found = {model: slope(rows) for model, rows in log.items()}
    values = np.array([s for s, _ in found.values()])
    rng = np.random.default_rng(0)
    medians = np.median(values[rng.integers(0, len(values), (REPLICATES, len(values)))], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    quartiles = np.quantile(values, [0.1, 0.25, 0.75, 0.9])
    entered = np.concatenate([[r.input_tokens for r in rows] for rows in log.values()])
    spread = np.quantile(entered, [0.05, 0.5, 0.95])
    return [
        f"{len(values)} endpoints. Input tokens: median {spread[1]:.0f}, 90% between "
        f"{spread[0]:.0f} and {spread[2]:.0f}. Seconds per 1,000 input tokens, by endpoint:",
        "",
        "| median | its 95% interval over endpoints | 10% | 25% | 75% | 90% | negative | shipped |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {np.median(values):.3f} | {low:.3f} to {high:.3f} | {quartiles[0]:.2f} | "
        f"{quartiles[1]:.2f} | {quartiles[2]:.2f} | {quartiles[3]:.2f} | "
        f"{np.mean(values < 0):.0%} | {PREFILL_S_PER_KTOK} |",
        "",
        "It is weakly identified: inputs hardly exceed 1,000 tokens, longer inputs go with longer "
        "answers, and the slopes of endpoints differ twentyfold where they are not negative. The "
        "shipped slope is the rounded median; it counts beyond 550 tokens only, and what the "
        "gateway sees moves the level that it is added to.",
    ]


# -- the prior -------------------------------------------------------------------------------------


def prior_lines(
    log: Mapping[Endpoint, list[Request]], offers: Mapping[str, tuple[list[float], list[float]]]
) -> list[str]:
    """The spreads as fitted to the tables, beside the shipped ones."""
    fitted = fitted_spreads(log, offers)
    lines = [
        "| time | level variance | pooled | noise variance | noise dof |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found, shipped in zip(
        ("TTFT", "TPOT"), fitted, (PRIOR.ttft, PRIOR.tpot), strict=True
    ):
        for label, spread in ((f"{name}, fitted", found), (f"{name}, shipped", shipped)):
            lines.append(
                f"| {label} | {spread.level:.3f} | {spread.pooled:.3f} | {spread.noise:.4f} | "
                f"{spread.noise_dof:.2f} |"
            )
    return lines


def fitted_spreads(
    log: Mapping[Endpoint, list[Request]], offers: Mapping[str, tuple[list[float], list[float]]]
) -> tuple[Spread, Spread]:
    """Spreads of TTFT and TPOT by the catalog's tables."""
    first = [as_logs(np.array([r.ttft_s for r in rows], dtype=float)) for rows in log.values()]
    rest = [
        as_logs(
            np.array(
                [
                    (r.end_to_end_s - (r.ttft_s or 0.0)) / (r.output_tokens - 1)
                    for r in rows
                    if r.output_tokens > 1
                ]
            )
        )
        for rows in log.values()
    ]
    classes: dict[str, tuple[list[float], list[float]]] = {}
    for spec in Catalog.load():
        if "pooled" in spec.speed_source or not spec.throughput_tok_s or spec.ttft_s is None:
            continue
        told = classes.setdefault(_class_of(spec), ([], []))
        told[0].append(spec.ttft_s)
        told[1].append(1 / spec.throughput_tok_s)
    ttft = fit_spread(
        first,
        [as_logs(np.array(told[0])) for told in offers.values()],
        [as_logs(np.array(told[0])) for told in classes.values()],
    )
    tpot = fit_spread(
        rest,
        [as_logs(np.array(told[1])) for told in offers.values()],
        [as_logs(np.array(told[1])) for told in classes.values()],
    )
    return ttft, tpot


def _class_of(spec: ModelSpec) -> str:
    """The class whose median stands in for a speed; as ``build_catalog.speed_class`` has it."""
    if spec.reasoning:
        return "reasoning, closed" if spec.params_b is None else "reasoning, open weights"
    if spec.params_b is not None:
        return next((f"{b}B" for b in (4, 10, 40, 80) if spec.params_b <= b), "over 80B")
    if spec.price is None:
        return "unpriced"
    out = spec.price.output_usd_per_mtok
    return next((f"${usd}" for usd in (1, 5, 20) if out <= usd), "over $20")


HEAD = """# Latency

Written by `scripts/evaluate_latency.py`; docs/costs.md says how latency is modelled. Below p50 and
p95 should be 0.5 and 0.95 of what came. The error is the mean absolute error of the log of p50.

## The prior

Fitted to the request log and to what hosts tell of the same model and models of the same class.
Drift, half-life and window are chosen: the log has no clock.
"""


def main() -> None:
    """Read the records, print the tables and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    log, offers = read_log(arguments.data), read_offers(arguments.data)
    bfcl = read_bfcl(arguments.data)
    catalog, aliases = Catalog.load(), load_aliases()
    specs = {}
    for name in bfcl:
        model = aliases.canonical("bfcl", name).model
        if model in catalog and catalog.get(model).throughput_tok_s:
            specs[name] = catalog.get(model)
    n = sum(map(len, log.values()))
    lines = [
        HEAD,
        *prior_lines(log, offers),
        "",
        "## The request log, request by request",
        "",
        f"{n:,} requests of {len(log)} endpoints, 550 input tokens each, about 150 output tokens; "
        "the length of the answer is known. With nothing seen, levels are those of the other "
        "endpoints.",
        "",
        *summary(replay_log(log)),
        "",
        "## bfcl, end to end",
        "",
        f"{len(bfcl)} endpoints, up to {MOST_REQUESTS} requests of each in a random order; "
        f"{len(specs)} belong to models of the catalog. The length of the answer is known but in "
        "the rows that say otherwise, where it is only known to be log-normal like the earlier "
        "ones.",
        "",
        *summary(replay_bfcl(bfcl, specs, np.random.default_rng(0))),
        "",
        "## The slope on input tokens",
        "",
        *slope_lines(bfcl),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
