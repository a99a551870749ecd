"""``zerorouter config``: show, check or describe the configuration."""

from __future__ import annotations

from pathlib import Path

import click

from zerorouter.cli.common import config_option, json_option, print_json, typed_errors


@click.group("config")
def command() -> None:
    """Show, check or describe the configuration."""


@command.command("show")
@config_option
@json_option
@typed_errors
def show(config_path: Path | None, as_json: bool) -> None:
    """Print the configuration in force, defaults written out."""
    from zerorouter.config import load_config

    config = load_config(config_path)
    if as_json:
        print_json(config.to_dict())
        return
    import yaml

    click.echo(f"# {config.path or 'no configuration file: these are the defaults'}")
    click.echo(yaml.safe_dump(config.to_dict(), sort_keys=False).rstrip())


@command.command("check")
@config_option
@json_option
@typed_errors
def check(config_path: Path | None, as_json: bool) -> None:
    """Check the configuration file, and that it names known policies and models."""
    from zerorouter.config import load_config
    from zerorouter.router import Router

    config = load_config(config_path)
    Router.from_config(config)
    if as_json:
        print_json({"ok": True, "path": None if config.path is None else str(config.path)})
    else:
        click.echo(f"{config.path or 'no configuration file; the defaults'}: ok")


@command.command("schema")
@json_option
@typed_errors
def schema(as_json: bool) -> None:
    """Print the JSON Schema of the configuration file."""
    del as_json  # the schema is JSON in any case
    from zerorouter.config import config_schema

    print_json(config_schema())
