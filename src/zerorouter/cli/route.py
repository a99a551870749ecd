"""``zerorouter route``: choose the model for one prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import (
    open_router,
    patterns,
    print_json,
    read_prompt_text,
    router_options,
    say,
    typed_errors,
)
from zerorouter.errors import PromptError

if TYPE_CHECKING:
    from zerorouter.routing.decision import Decision


@click.command("route")
@click.argument("prompt")
@click.option(
    "--policy",
    metavar="NAME",
    help="quality, balanced (= auto), cost, latency, cheapest, best, paper_max_acc, "
    "paper_min_cost, paper_min_lat, or yours.",
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Largest expected cost of the request.",
)
@click.option(
    "--max-latency", type=click.FloatRange(min=0), metavar="S", help="Largest expected seconds."
)
@click.option(
    "--max-p95-latency",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Largest 95th percentile of the seconds.",
)
@click.option("--min-accuracy", type=click.FloatRange(0, 1), metavar="P", help="Least P(correct).")
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, max_open=True),
    metavar="C",
    help="Take P(correct) at this confidence, such as 0.9.",
)
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
    max_p95_latency: float | None,
    min_accuracy: float | None,
    confidence: float | None,
    models: str | None,
    exclude: str | None,
    messages: bool,
    explain: bool,
    space: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Choose the model for PROMPT ('-' reads it from standard input).

    With bounds and no policy: --min-accuracy takes the cheapest model that keeps them,
    --max-cost the one most likely to be right.

    \b
    zerorouter route "What is 17 * 23?" --policy cost
    zerorouter route - --min-accuracy 0.8 --explain < question.txt
    """
    text = read_prompt_text(prompt)
    request = _messages(text) if messages else text
    router = open_router(space, config_path, asked=patterns(models))
    decision = router.route(
        request,
        policy=policy,
        models=patterns(models),
        exclude=patterns(exclude),
        min_accuracy=min_accuracy,
        max_cost_usd=max_cost,
        max_latency_s=max_latency,
        max_p95_latency_s=max_p95_latency,
        confidence=confidence,
    )
    if as_json:
        print_json(decision.to_dict())
    else:
        _show(decision, explain)


def _messages(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(
            f"--messages wants a JSON list of chat messages; the text is not JSON: {error}"
        ) from error


def _show(decision: Decision, explain: bool) -> None:
    from zerorouter.cli.tables import Column, show
    from zerorouter.routing.wording import percent, seconds, usd

    click.secho(decision.model, bold=True, fg="green")
    interval = f"{percent(decision.p_correct_low)} to {percent(decision.p_correct_high)}"
    say(f"P(correct)  {percent(decision.p_correct)}  (90% interval {interval})")
    say(f"cost        {usd(decision.cost_usd)}")
    say(
        f"latency     {seconds(decision.latency_s)}  (half within "
        f"{seconds(decision.latency_p50_s)}, 19 in 20 within {seconds(decision.latency_p95_s)})"
    )
    say(f"fallbacks   {', '.join(decision.fallbacks[:3]) or 'none'}")
    for reason in decision.reasons[1:]:  # the first says once more what stands above
        say(f"- {reason}")
    if not explain:
        return
    say(f"- {decision.counterfactual}")
    weighed = decision.candidates
    click.echo()
    show(
        [
            Column("candidate", [c.model for c in weighed]),
            Column("P(correct)", [percent(c.p_correct) for c in weighed], right=True),
            Column("cost", [usd(c.cost_usd) for c in weighed], right=True),
            Column("latency", [seconds(c.latency_s) for c in weighed], rank=2, right=True),
            Column("utility, $", [f"{c.utility:.5f}" for c in weighed], rank=1, right=True),
        ]
    )
    if decision.excluded:
        click.echo()
        show(
            [
                Column("left out", [x.model for x in decision.excluded]),
                Column("why", [x.reason for x in decision.excluded]),
            ]
        )
