"""``zerorouter assign``: the models of a whole file of prompts, under one budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerorouter.cli.common import (
    open_router,
    patterns,
    print_json,
    progress,
    router_options,
    say,
    typed_errors,
)

if TYPE_CHECKING:
    from zerorouter.routing.assignment.result import Totals


@click.command("assign")
@click.argument("prompts", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The assignment: .jsonl, .csv or .parquet.",
)
@click.option("--budget", type=float, metavar="USD", help="Most that all may cost.")
@click.option("--max-mean-latency", type=float, metavar="S", help="Largest mean latency.")
@click.option(
    "--max-p95-latency",
    type=float,
    metavar="S",
    help="Largest 95th percentile of the latency, over all prompts.",
)
@click.option("--min-accuracy", type=float, metavar="P", help="Least mean P(correct).")
@click.option(
    "--capacity",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Most requests and tokens of each model: .json, .yaml or .csv.",
)
@click.option(
    "--confidence",
    type=float,
    metavar="Q",
    help="Keep the budget with the spend that is realised, so likely (0.5 to 1).",
)
@click.option(
    "--goal",
    type=click.Choice(["accuracy", "cost"]),
    help="Most correct answers (default), or least cost (default with only --min-accuracy).",
)
@click.option("--policy", metavar="NAME", help="Seek the most utility under this policy.")
@click.option(
    "--jobs", is_flag=True, help="Rows of one group_id count only if all of them succeed."
)
@click.option("--models", metavar="GLOB,...", help="Only these models.")
@click.option("--exclude", metavar="GLOB,...", help="Not these models.")
@click.option(
    "--in-memory",
    type=click.IntRange(min=0),
    metavar="N",
    help="Hold the estimates of up to N prompts; longer files stream (default: 50,000).",
)
@router_options
@typed_errors
def command(
    prompts: Path,
    out: Path,
    budget: float | None,
    max_mean_latency: float | None,
    max_p95_latency: float | None,
    min_accuracy: float | None,
    capacity: Path | None,
    confidence: float | None,
    goal: str | None,
    policy: str | None,
    jobs: bool,
    models: str | None,
    exclude: str | None,
    in_memory: int | None,
    space: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Assign models to the PROMPTS of a file, jointly under bounds on the whole.

    PROMPTS is .jsonl or .parquet with prompt_id and text (or messages), and optionally weight and
    group_id. FILE gets prompt_id, model, p_correct, cost_usd, latency_s in the same order, whole
    or not at all.

    \b
    zerorouter assign prompts.jsonl --budget 20 --out assignment.csv
    zerorouter assign prompts.jsonl --min-accuracy 0.8 --out cheapest.jsonl
    """
    from zerorouter.bulk.capacities import read_capacities
    from zerorouter.bulk.files import IN_MEMORY, BulkSettings, assign_file
    from zerorouter.bulk.writing import check_place
    from zerorouter.errors import InputError
    from zerorouter.routing.assignment.offers import Bounds

    if policy is not None and goal is not None:
        raise click.UsageError("--policy seeks utility; leave --goal out")
    bounds = Bounds(
        budget_usd=budget,
        max_mean_latency_s=max_mean_latency,
        max_p95_latency_s=max_p95_latency,
        min_accuracy=min_accuracy,
        capacity={} if capacity is None else read_capacities(capacity),
    )
    if confidence is not None and budget is None:
        raise InputError("--confidence is about a budget; set --budget, or leave it out")
    check_place(out)
    settings = BulkSettings(
        goal="cost" if goal == "cost" else "accuracy" if goal else None,
        policy=policy,
        confidence=confidence,
        jobs=jobs,
        models=patterns(models),
        exclude=patterns(exclude),
        in_memory=IN_MEMORY if in_memory is None else in_memory,
    )
    with progress() as report:
        report("loading the space", 0.0)
        router = open_router(space, config_path)
        totals = assign_file(router, prompts, out, bounds, settings, report)
    if as_json:
        print_json(totals.to_dict())
    else:
        _show(totals, out)


def _show(totals: Totals, out: Path) -> None:
    from zerorouter.cli.tables import Column, show
    from zerorouter.routing.wording import percent, seconds, usd

    click.secho(f"{totals.n:,} prompts assigned: {out}", bold=True, fg="green")
    budget = "" if totals.budget_usd is None else f" of {usd(totals.budget_usd)}"
    say(f"spend       {usd(totals.spend_usd)}{budget}")
    if totals.spend_at_confidence_usd is not None and totals.confidence is not None:
        say(
            f"            {usd(totals.spend_at_confidence_usd)} at most, "
            f"{percent(totals.confidence)} likely"
        )
    say(f"P(correct)  {percent(totals.mean_p_correct)} in the mean")
    if totals.mean_latency_s is not None:
        tail = (
            "" if totals.p95_latency_s is None else f", 95% under {seconds(totals.p95_latency_s)}"
        )
        say(f"latency     {seconds(totals.mean_latency_s)} in the mean{tail}")
    # Below a millionth the gap is rounding: a bound that is true all the same reads better.
    gap = max(totals.gap, 1e-6)
    proof = "proven optimal" if totals.exact else f"at most {100 * gap:.2g}% below the best"
    say(f"optimality  {proof}")
    dollar = totals.multipliers.get("budget_usd")
    if dollar is not None and totals.goal == "accuracy":
        say(f"- one more dollar would bring about {dollar:.3g} more right answers")
    click.echo()
    names, counts = list(totals.by_model), list(totals.by_model.values())
    show(
        [
            Column("model", names),
            Column("prompts", [f"{count:,}" for count in counts], right=True),
            Column("share", [percent(count / totals.n) for count in counts], right=True),
        ]
    )
