"""``zerorouter evaluate``: compare routing methods on evaluation records."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path
from typing import Any

import click

from zerorouter.cli.common import json_option, print_json, progress, typed_errors, width

QUICK_ANCHORS = (0, 20, 200)


@click.command("evaluate")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Report."
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="KIND",
    help="random, time, family, task or time+task (repeatable; default: all).",
)
@click.option("--cutoff", metavar="YYYY-MM", help="Models released later are newcomers.")
@click.option("--methods", metavar="ID,...", help="Methods to run (default: all).")
@click.option("--anchors", metavar="N,...", help="Labels per newcomer (default: 0 to 500).")
@click.option("--draws", default=3, show_default=True, help="Draws of anchors.")
@click.option("--seeds", default=3, show_default=True, help="Repetitions of each split.")
@click.option("--replicates", default=2000, show_default=True, help="Bootstrap replicates.")
@click.option("--quick", is_flag=True, help="One repetition, one draw, few anchors.")
@json_option
@typed_errors
def command(
    folders: tuple[Path, ...],
    out: Path,
    splits: tuple[str, ...],
    cutoff: str | None,
    methods: str | None,
    anchors: str | None,
    draws: int,
    seeds: int,
    replicates: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Compare routing methods on folders of evaluation records.

    Writes results.jsonl, summary.json and report.html to the folder given by --out. A run
    that was stopped goes on where it stopped.
    """
    from zerorouter.errors import require_extra

    require_extra("sklearn", "fit", "evaluating")
    from zerorouter.cli.common import patterns
    from zerorouter.evaluation.harness import DEFAULT_ANCHORS, Plan, evaluate
    from zerorouter.evaluation.report import print_tables, write_report
    from zerorouter.evaluation.splits import KINDS

    plan = Plan(
        folders=folders,
        splits=_kinds(splits, KINDS),
        methods=patterns(methods),
        anchors=_numbers(anchors) or (QUICK_ANCHORS if quick else DEFAULT_ANCHORS),
        n_draws=1 if quick else draws,
        n_seeds=1 if quick else seeds,
        cutoff=cutoff,
        replicates=replicates,
    )
    with progress(quiet=as_json) as tell:
        rows = evaluate(plan, out, tell)
    write_report(rows, out, provenance(plan.folders, plan))
    if as_json:
        print_json({"out": str(out), "n_rows": len(rows), "summary": str(out / "summary.json")})
    else:
        from rich.console import Console

        print_tables(rows, Console(highlight=False, width=width()))
        click.echo(f"rows, summary and report are in {out}")


def provenance(folders: tuple[Path, ...], plan: Any) -> dict[str, Any]:
    """When, from which commit and on which data a report was made."""
    from zerorouter import __version__
    from zerorouter.data.importing import data_digest

    return {
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "commit": _commit(),
        "data": {folder.resolve().name: data_digest(folder) for folder in folders},
        "splits": list(plan.splits),
        "anchors": list(plan.anchors),
        "seeds": plan.n_seeds,
        "draws": plan.n_draws,
        "replicates": plan.replicates,
    }


def _commit() -> str:
    """The checkout's commit, where the package runs from one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def _kinds(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    from zerorouter.errors import UnknownNameError

    for kind in wanted:
        if kind not in known:
            raise UnknownNameError("split", kind, known)
    return wanted or known


def _numbers(text: str | None) -> tuple[int, ...]:
    from zerorouter.errors import InputError

    if not text:
        return ()
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(
            f"--anchors is {text!r}; whole numbers are wanted, such as 0,20,200"
        ) from None
    if numbers[0] < 0:
        raise InputError(f"--anchors holds {numbers[0]}; 0 is the least")
    return tuple(numbers)
