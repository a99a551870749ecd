"""``zerorouter demo``: six very different prompts under each preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import (
    open_router,
    print_json,
    router_options,
    say,
    typed_errors,
)

if TYPE_CHECKING:
    from zerorouter.router import Router
    from zerorouter.routing.decision import Decision

_REPORT = (
    "Minutes of the works council, third quarter. The canteen contract was extended by a year. "
    "The bicycle shed will be roofed in spring. Absences fell from 4.1 to 3.8 percent. "
)
_WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_forecast",
        "description": "Weather forecast for a town and a day",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}, "day": {"type": "string"}},
        },
    },
}
PROMPTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("trivial arithmetic", "What is 17 + 25?", {}),
    (
        "hard proof",
        "Let $f$ be continuous on $[0,1]$ with $\\int_0^1 x^n f(x)\\,dx = 0$ for every "
        "non-negative integer $n$. Prove that $f$ is identically zero, and decide whether the "
        "claim survives if only the $n$ that are prime are allowed.",
        {},
    ),
    (
        "code",
        "What does this print, and why?\n```python\ndef f(s, n):\n    out = []\n    for i, c in "
        "enumerate(s):\n        if i % n == 0:\n            out.append(c.upper())\n        else:\n"
        "            out.insert(0, c)\n    return ''.join(out)\n\nprint(f('lanterns', 3))\n```",
        {},
    ),
    ("chat", "My neighbour's dog barks all night. How do I bring it up without a quarrel?", {}),
    (
        "long document",
        "Summarise the decisions in these minutes in five bullet points.\n\n" + _REPORT * 400,
        {},
    ),
    (
        "tool use",
        "Will I need an umbrella in Bergen on Friday?",
        {"tools": [_WEATHER_TOOL]},
    ),
)
PRESETS = ("quality", "balanced", "cost", "latency")


@click.command("demo")
@router_options
@typed_errors
def command(space: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Route six very different prompts under each preset, and show what it saves."""
    router = open_router(space, config_path)
    decided = {
        (label, preset): router.route(text, policy=preset, **options)
        for label, text, options in PROMPTS
        for preset in PRESETS
    }
    strongest = _strongest(router, [decided[label, "quality"] for label, _, _ in PROMPTS])
    if as_json:
        print_json(
            {
                "strongest": strongest,
                "decisions": [
                    {"prompt": label, **decision.to_dict()}
                    for (label, _), decision in decided.items()
                ],
            }
        )
        return
    _show(router, decided, strongest)


def _strongest(router: Router, decisions: list[Decision]) -> str:
    """The model with the largest mean P(correct) over the prompts, among those able to do all."""
    totals: dict[str, list[float]] = {name: [] for name in router.models}
    for decision in decisions:
        for candidate in decision.candidates:
            totals[candidate.model].append(candidate.p_correct)
    able = {name: sum(p) for name, p in totals.items() if len(p) == len(decisions)}
    return max(able, key=lambda name: able[name])


def _show(router: Router, decided: dict[tuple[str, str], Decision], strongest: str) -> None:
    from zerorouter.cli.common import width
    from zerorouter.cli.tables import Column, lines
    from zerorouter.routing.wording import percent, seconds, usd

    made = list(decided.values())
    head, *rows = lines(
        [
            Column("  policy", [f"  {preset}" for _, preset in decided]),
            Column("model", [d.model for d in made]),
            Column("P(correct), 90%", [_interval(d) for d in made]),
            Column("cost", [usd(d.cost_usd) for d in made], right=True),
            Column("latency", [seconds(d.latency_s) for d in made], right=True),
        ],
        width(),
    )
    click.secho(head, bold=True)
    for (label, preset), row in zip(decided, rows, strict=True):
        if preset == PRESETS[0]:
            click.secho(label, bold=True)
        click.echo(row)
    rivals = [
        next(c for c in decided[label, "quality"].candidates if c.model == strongest)
        for label, _, _ in PROMPTS
    ]
    always, n = sum(c.cost_usd for c in rivals), len(PROMPTS)
    right = sum(c.p_correct for c in rivals) / n
    click.echo()
    say(
        f"Always using the strongest model, {strongest}: {usd(always)} for these {n} prompts, "
        f"{percent(right)} expected right."
    )
    for preset in PRESETS:
        chosen = [decided[label, preset] for label, _, _ in PROMPTS]
        spent = sum(d.cost_usd for d in chosen)
        click.echo(
            f"  {preset:9s} {usd(spent):>8s}  {percent(sum(d.p_correct for d in chosen) / n)} "
            f"expected right, {_change(spent, always)}"
        )
    say(
        "Expected values under the space and the catalog in use; costs are output lengths from "
        f"records times list prices. Pool: {len(router.models)} models."
    )


def _interval(decision: Decision) -> str:
    from zerorouter.routing.wording import percent

    low, high = percent(decision.p_correct_low), percent(decision.p_correct_high)
    return f"{percent(decision.p_correct)} ({low} to {high})"


def _change(spent: float, always: float) -> str:
    share = 1 - spent / always
    return f"saves {100 * share:.0f}%" if share >= 0 else f"costs {-100 * share:.0f}% more"
