"""``zerorouter ledger``: what the gateway did and what it cost, as files and tables."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zerorouter.cli.common import config_option, json_option, print_json, say, typed_errors

if TYPE_CHECKING:
    from zerorouter.gateway.ledger import LedgerSettings, Store

F = TypeVar("F", bound=Callable[..., Any])


@click.group("ledger")
def command() -> None:
    """Export, sum up or prune the gateway's ledger.

    What a killed gateway left in its journal is taken in first.
    """


def _range_options(function: F) -> F:
    since = click.option("--since", default="", metavar="YYYY-MM-DD", help="First UTC day.")
    until = click.option("--until", default="", metavar="YYYY-MM-DD", help="Last UTC day.")
    return since(until(_url_option(function)))


def _url_option(function: F) -> F:
    url = click.option(
        "--url",
        metavar="URL",
        help="Database (default: what the gateway takes: the configuration's gateway.ledger, "
        "$ZEROROUTER_LEDGER_URL, else ledger.db in the state folder).",
    )
    return url(config_option(function))


@command.command("export")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Ending in .parquet, .csv or .jsonl.",
)
@click.option(
    "--table",
    type=click.Choice(["requests", "attempts", "feedback", "admin", "daily"]),
    default="requests",
    show_default=True,
)
@_range_options
@json_option
@typed_errors
def export_table(
    out: Path,
    table: str,
    since: str,
    until: str,
    url: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Write a table of the ledger to a file, whole or not at all."""
    from zerorouter.gateway.ledger import export

    with _opened(url, config_path) as (store, _):
        n_rows = export(store, out, table=table, since=since, until=until)
    if as_json:
        print_json({"path": str(out), "table": table, "rows": n_rows})
    else:
        say(f"{n_rows:,} rows of {table} written to {out}")


@command.command("daily")
@_range_options
@json_option
@typed_errors
def daily(since: str, until: str, url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Print the sums of each UTC day by key, policy and model."""
    from zerorouter.gateway.budgets import to_usd

    with _opened(url, config_path) as (store, _):
        rows = [row for part in store.rows("daily", since=since, until=until) for row in part]
    if as_json:
        print_json(rows)
        return
    from zerorouter.cli.tables import Column, show

    def whole(name: str) -> list[str]:
        return [f"{row[name]:,}" for row in rows]

    show(
        [
            Column("day", [row["day"] for row in rows]),
            Column("key", [row["key_id"] for row in rows]),
            Column("policy", [row["policy"] for row in rows], rank=2),
            Column("model", [row["model"] for row in rows]),
            Column("requests", whole("requests"), right=True),
            Column("failures", whole("failures"), rank=1, right=True),
            Column("input", whole("input_tokens"), rank=3, right=True),
            Column("output", whole("output_tokens"), rank=3, right=True),
            Column("USD", [f"{to_usd(row['cost_nusd']):.6f}" for row in rows], right=True),
            Column("unpriced", whole("unpriced"), rank=4, right=True),
        ]
    )


@command.command("prune")
@click.option(
    "--keep-days",
    type=click.IntRange(min=1),
    metavar="N",
    help="UTC days to keep, today included (default: gateway.ledger.retention_days).",
)
@_url_option
@json_option
@typed_errors
def prune(keep_days: int | None, url: str | None, config_path: Path | None, as_json: bool) -> None:
    """Delete rows older than some days; the daily sums stay."""
    with _opened(url, config_path) as (store, settings):
        days = settings.retention_days if keep_days is None else keep_days
        if days is None:
            raise click.UsageError(
                "wanted --keep-days N, or gateway.ledger.retention_days in the configuration"
            )
        today = datetime.datetime.now(tz=datetime.UTC).date()
        before = (today - datetime.timedelta(days=days - 1)).isoformat()
        deleted = store.prune(before)
    if as_json:
        print_json({"before": before, "deleted": deleted})
    else:
        say(f"{deleted:,} rows of days before {before} deleted")


@contextmanager
def _opened(url: str | None, config_path: Path | None) -> Iterator[tuple[Store, LedgerSettings]]:
    """The database, with what dead processes left in the journal taken in."""
    from zerorouter.config import load_config
    from zerorouter.gateway.ledger import Store, ledger_settings, sqlite_url, take_in
    from zerorouter.gateway.owners import books_dir

    settings = ledger_settings(load_config(config_path).gateway.ledger, os.environ)
    folder = books_dir()
    store = Store(url or settings.url or sqlite_url(folder / "ledger.db"))
    try:
        take_in(store, folder)
        yield store, settings
    finally:
        store.close()
