"""``zerorouter import``: bring evaluation records into the data format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import json_option, print_json, typed_errors

if TYPE_CHECKING:
    from zerorouter.data.logs.records import LogReport
    from zerorouter.data.report import LoadReport

SOURCES = {
    "folder": "the project's own format, in Parquet, JSONL or CSV",
    "lm-eval": "lm-evaluation-harness: samples_*.jsonl of --log_samples",
    "helm": "HELM: run folders with run_spec.json and scenario_state.json",
    "inspect": "Inspect: .eval and .json logs",
    "wide": "RouterBench-like tables (a column a model), LLMRouterBench results",
}


@click.command("import")
@click.argument("source")
@click.argument("path", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to."
)
@click.option("--model", metavar="NAME", help="The model of logs that name none.")
@click.option("--metric", metavar="NAME", help="The metric to take for the score.")
@click.option("--filter", metavar="NAME", help="The lm-eval filter to take.")
@json_option
@typed_errors
def command(
    source: str,
    path: tuple[Path, ...],
    out: Path,
    model: str | None,
    metric: str | None,
    filter: str | None,
    as_json: bool,
) -> None:
    """Check the records at PATH and write them to a clean folder.

    \b
    SOURCE is one of
      folder   the project's own format (docs/data.md)
      lm-eval  lm-evaluation-harness, samples of --log_samples
      helm     HELM run folders
      inspect  Inspect logs, .eval and .json
      wide     tables with a column a model, as RouterBench's

    PATH is a log or a folder of them, several of one model or of many; a data folder is one.
    What is taken for the question and the score, and what is left out: docs/logs.md.
    """
    from zerorouter.errors import UnknownNameError

    if source not in SOURCES:
        raise UnknownNameError("source", source, SOURCES)
    if source == "folder":
        given = {"--model": model, "--metric": metric, "--filter": filter}
        for name in (name for name, value in given.items() if value is not None):
            raise click.UsageError(f"{name} is for logs; a data folder names models and scores")
        if len(path) > 1:
            raise click.UsageError("a data folder is imported alone; give one PATH")
    from zerorouter.data import importing

    if source == "folder":
        records = importing.import_folder(path[0], out)
        text, told = str(records), _told_of_folder(records)
    else:
        logs = importing.import_logs(
            path, out, source=source, model=model, metric=metric, filter=filter
        )
        text, told = str(logs), _told_of_logs(logs, out)
    if as_json:
        print_json({"out": str(out), **told})
        return
    click.echo(text)
    click.echo(f"written to {out}")


def _told_of_folder(report: LoadReport) -> dict[str, Any]:
    return {
        "n_prompts": report.n_prompts,
        "n_respondents": report.n_respondents,
        "n_responses": report.n_responses,
        "notes": [
            {"dataset": note.dataset, "rule": note.rule, "count": note.count}
            for note in report.notes
        ],
    }


def _told_of_logs(report: LogReport, out: Path) -> dict[str, Any]:
    return {
        "n_prompts": report.n_questions,
        "n_respondents": report.n_respondents,
        "n_responses": report.n_answers,
        "logs": [
            {"path": log.path, "format": log.format, "n_answers": log.n_answers}
            for log in report.files
        ],
        "notes": [
            {
                "dataset": out.name,
                "rule": note.rule,
                "count": note.count,
                "detail": note.detail,
                "places": list(note.places),
            }
            for note in report.notes
        ],
    }
