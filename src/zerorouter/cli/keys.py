"""``zerorouter keys``: make, list and revoke the gateway's virtual keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerorouter.cli.common import (
    config_option,
    json_option,
    patterns,
    print_json,
    say,
    typed_errors,
)

if TYPE_CHECKING:
    from zerorouter.gateway.keys import KeyStore


@click.group("keys")
def command() -> None:
    """Make, list and revoke the gateway's virtual keys.

    They stand in the state folder (ZEROROUTER_HOME), only as hashes; a running gateway takes
    changes over by itself.
    """


@command.command("make")
@click.argument("name")
@click.option("--policy", metavar="NAME", help="Policy of requests that name none.")
@click.option("--models", metavar="GLOB,...", help="Models it may use (default: all).")
@click.option("--requests-per-minute", "--rpm", type=click.IntRange(min=1), metavar="N")
@click.option("--tokens-per-minute", "--tpm", type=click.IntRange(min=1), metavar="N")
@click.option("--budget-day", type=click.FloatRange(min=0), metavar="USD", help="Per UTC day.")
@click.option("--budget-month", type=click.FloatRange(min=0), metavar="USD", help="Per UTC month.")
@config_option
@json_option
@typed_errors
def make(
    name: str,
    policy: str | None,
    models: str | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    budget_day: float | None,
    budget_month: float | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a key called NAME and print it, this once."""
    import time

    from zerorouter.gateway.keys import KeySettings

    if policy is not None:
        _require_policy(policy, config_path)
    settings = KeySettings(
        name=name,
        policy=policy,
        models=patterns(models),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        budget_day_usd=budget_day,
        budget_month_usd=budget_month,
    )
    text, key = _store().make(settings, now_ns=time.time_ns())
    if as_json:
        print_json({"key": text, **key.to_dict()})
        return
    click.echo(text)
    click.echo("This key is shown only now; keep it in a safe place.", err=True)


@command.command("list")
@json_option
@typed_errors
def list_keys(as_json: bool) -> None:
    """List all keys, revoked ones included."""
    keys = _store().all()
    if as_json:
        print_json([key.to_dict() for key in keys])
        return
    from zerorouter.cli.tables import Column, show

    rows = [key.to_dict() for key in keys]

    def cells(name: str) -> list[str]:
        return ["" if row[name] is None else f"{row[name]:,g}" for row in rows]

    show(
        [
            Column("id", [key.id for key in keys]),
            Column("name", [key.name for key in keys]),
            Column("state", ["revoked" if key.revoked else "in force" for key in keys]),
            Column("$/day", cells("budget_day_usd"), right=True),
            Column("$/month", cells("budget_month_usd"), right=True),
            Column("requests/min", cells("requests_per_minute"), rank=1, right=True),
            Column("tokens/min", cells("tokens_per_minute"), rank=1, right=True),
            Column("policy", [key.policy or "" for key in keys], rank=2),
            Column("models", [" ".join(key.models) or "all" for key in keys], rank=3),
            Column("created", [key.created for key in keys], rank=4),
        ]
    )


@command.command("revoke")
@click.argument("name")
@json_option
@typed_errors
def revoke(name: str, as_json: bool) -> None:
    """Revoke the key of an id or a name."""
    import time

    key = _store().revoke(name, now_ns=time.time_ns())
    if as_json:
        print_json(key.to_dict())
    else:
        say(f"key {key.id} ({key.name}) is revoked since {key.revoked}")


def _require_policy(name: str, config_path: Path | None) -> None:
    """Refuse a policy that nobody has heard of: each request of the key would fail.

    Raises:
        UnknownNameError: So it is; the nearest name is suggested.
    """
    from zerorouter.config import load_config
    from zerorouter.errors import UnknownNameError
    from zerorouter.routing.policy import ALIASES, POLICIES

    known = [*POLICIES, *ALIASES, *load_config(config_path).policies]
    if name not in known:
        raise UnknownNameError("policy", name, known)


def _store() -> KeyStore:
    from zerorouter.gateway.keys import KeyStore
    from zerorouter.gateway.owners import books_dir

    return KeyStore(books_dir())
