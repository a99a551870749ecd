"""``zerorouter demo``: six very different prompts under each preset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import (
    console,
    open_router,
    print_json,
    router_options,
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
    router, _ = open_router(space, config_path)
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
    from rich.table import Table

    from zerorouter.cli.wording import percent, seconds, usd

    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in ("prompt", "policy", "model", "P(correct)", "90% interval", "cost", "latency"):
        table.add_column(
            heading,
            justify="right" if heading in ("P(correct)", "cost", "latency") else "left",
            no_wrap=True,
        )
    spent = dict.fromkeys(PRESETS, 0.0)
    right = dict.fromkeys(PRESETS, 0.0)
    always = always_right = 0.0
    for label, _, _ in PROMPTS:
        for preset in PRESETS:
            d = decided[label, preset]
            spent[preset] += d.cost_usd
            right[preset] += d.p_correct
            table.add_row(
                label if preset == PRESETS[0] else "",
                preset,
                d.model,
                percent(d.p_correct),
                f"{percent(d.p_correct_low)} to {percent(d.p_correct_high)}",
                usd(d.cost_usd),
                seconds(d.latency_s),
            )
        table.add_section()
        row = next(c for c in decided[label, "quality"].candidates if c.model == strongest)
        always += row.cost_usd
        always_right += row.p_correct
    out = console()
    out.print(table)
    n = len(PROMPTS)
    out.print(
        f"Always using the strongest model, {strongest}: {usd(always)} for these {n} prompts, "
        f"{percent(always_right / n)} expected right.",
        soft_wrap=True,
    )
    for preset in PRESETS:
        out.print(
            f"  {preset:9s} {usd(spent[preset]):>10s}  {percent(right[preset] / n)} expected "
            f"right, {_change(spent[preset], always)}",
            soft_wrap=True,
        )
    out.print(
        "Expected values under the shipped space and catalog; costs are output lengths from "
        f"records times list prices. Pool: {len(router.models)} models.",
        soft_wrap=True,
    )


def _change(spent: float, always: float) -> str:
    share = 1 - spent / always
    return f"saves {100 * share:.0f}%" if share >= 0 else f"costs {-100 * share:.0f}% more"
