"""``zerorouter import``: bring evaluation records into the data format."""

from __future__ import annotations

from pathlib import Path

import click

from zerorouter.cli.common import json_option, print_json, typed_errors

SOURCES = {"folder": "the project's own format, in Parquet, JSONL or CSV"}


@click.command("import")
@click.argument("source")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where to."
)
@json_option
@typed_errors
def command(source: str, path: Path, out: Path, as_json: bool) -> None:
    """Check the records at PATH and write them to a clean folder.

    SOURCE is 'folder': the project's own format (docs/data.md), in Parquet, JSONL or CSV.
    """
    from zerorouter.data.importing import import_folder
    from zerorouter.errors import UnknownNameError

    if source not in SOURCES:
        raise UnknownNameError("source", source, SOURCES)
    report = import_folder(path, out)
    if as_json:
        print_json(
            {
                "out": str(out),
                "n_prompts": report.n_prompts,
                "n_respondents": report.n_respondents,
                "n_responses": report.n_responses,
                "notes": [
                    {"dataset": note.dataset, "rule": note.rule, "count": note.count}
                    for note in report.notes
                ],
            }
        )
        return
    click.echo(str(report))
    click.echo(f"written to {out}")
