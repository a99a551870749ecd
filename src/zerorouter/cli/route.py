"""``zerorouter route``: choose the model for one prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import (
    console,
    open_router,
    patterns,
    print_json,
    read_prompt_text,
    router_options,
    typed_errors,
)
from zerorouter.errors import PromptError

if TYPE_CHECKING:
    from zerorouter.routing.decision import Decision


@click.command("route")
@click.argument("prompt")
@click.option(
    "--policy", metavar="NAME", help="quality, balanced (= auto), cost, latency, or yours."
)
@click.option("--max-cost", type=float, metavar="USD", help="Largest expected cost of the request.")
@click.option("--max-latency", type=float, metavar="S", help="Largest expected seconds.")
@click.option("--min-accuracy", type=float, metavar="P", help="Least P(correct), 0 to 1.")
@click.option("--models", metavar="GLOB,...", help="Only these models.")
@click.option("--exclude", metavar="GLOB,...", help="Not these models.")
@click.option("--messages", is_flag=True, help="PROMPT is a JSON list of chat messages.")
@click.option(
    "--explain", is_flag=True, help="Show every candidate and what would flip the choice."
)
@router_options
@typed_errors
def command(
    prompt: str,
    policy: str | None,
    max_cost: float | None,
    max_latency: float | None,
    min_accuracy: float | None,
    models: str | None,
    exclude: str | None,
    messages: bool,
    explain: bool,
    space: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Choose the model for PROMPT ('-' reads it from standard input).

    \b
    zerorouter route "What is 17 * 23?" --policy cost
    zerorouter route - --min-accuracy 0.8 --explain < question.txt
    """
    text = read_prompt_text(prompt)
    request = _messages(text) if messages else text
    router, config = open_router(space, config_path)
    decision = router.route(
        request,
        policy=policy,
        models=patterns(models) or config.allow or (),
        exclude=patterns(exclude) + config.deny,
        min_accuracy=min_accuracy,
        max_cost_usd=max_cost,
        max_latency_s=max_latency,
    )
    if as_json:
        print_json(decision.to_dict())
    else:
        _show(decision, explain)


def _messages(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise PromptError(
            f"--messages wants a JSON list of chat messages; the text is not JSON: {error}"
        ) from error


def _show(decision: Decision, explain: bool) -> None:
    from rich.table import Table

    from zerorouter.cli.wording import percent, seconds, usd

    out = console()
    out.print(f"[bold green]{decision.model}[/]")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    interval = f"{percent(decision.p_correct_low)} to {percent(decision.p_correct_high)}"
    table.add_row("P(correct)", f"{percent(decision.p_correct)}  (90% interval {interval})")
    table.add_row("cost", usd(decision.cost_usd))
    table.add_row("latency", seconds(decision.latency_s))
    table.add_row("domain", f"{decision.domain}, difficulty {decision.difficulty:+.1f}")
    table.add_row("fallbacks", ", ".join(decision.fallbacks[:3]) or "none")
    out.print(table)
    for reason in decision.reasons:
        out.print(f"- {reason}", soft_wrap=True)
    if not explain:
        return
    out.print(f"- {decision.counterfactual}", soft_wrap=True)
    candidates = Table("model", "P(correct)", "cost", "latency", "utility", title="candidates")
    for column in candidates.columns[1:]:
        column.justify = "right"
    for c in decision.candidates:
        candidates.add_row(
            c.model, percent(c.p_correct), usd(c.cost_usd), seconds(c.latency_s), f"{c.utility:.5f}"
        )
    out.print(candidates)
    if decision.excluded:
        excluded = Table("model", "why it was left out", title="excluded")
        for x in decision.excluded:
            excluded.add_row(x.model, x.reason)
        out.print(excluded)
