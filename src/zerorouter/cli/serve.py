"""``zerorouter serve``: the gateway."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerorouter.cli.common import config_option, json_option, space_option, typed_errors

if TYPE_CHECKING:
    from zerorouter.gateway.running import Told


@click.command("serve")
@click.option("--host", help="Address to listen on; by default the configuration's, 127.0.0.1.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen on; by default the configuration's, 8080; 0 takes a free one.",
)
@click.option(
    "--sandbox",
    is_flag=True,
    help="Serve played models, started along: no key, no network, no bill.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Processes that serve; by default the configuration's, 1.",
)
@click.option("--no-books", is_flag=True, help="Keep no ledger, and want no keys.")
@click.option("--quiet", is_flag=True, help="Write no log lines to standard error.")
@space_option
@config_option
@json_option
@typed_errors
def command(
    host: str | None,
    port: int | None,
    sandbox: bool,
    workers: int | None,
    no_books: bool,
    quiet: bool,
    space: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Serve OpenAI's and Anthropic's APIs and send every request to the right model.

    Upstreams come from the configuration and from the usual variables (OPENAI_API_KEY,
    ANTHROPIC_API_KEY, ...). Runs until it is interrupted; the log goes to standard error, one JSON
    object a line.
    """
    gc.disable()  # what is made until it serves stays: looking through it takes 0.08 s
    from zerorouter.gateway.running import ServeOptions, serve

    def tell(told: Told) -> None:
        gc.enable()
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "url": told.url,
                        "openai_url": f"{told.url}/v1",
                        "admin_url": told.admin_url,
                        "has_keys": told.has_keys,
                        "upstreams": list(told.upstreams),
                        "models": told.n_models,
                        "pid": os.getpid(),
                    }
                )
            )
            return
        click.echo(f"The gateway listens on {told.url} (OpenAI clients: {told.url}/v1).")
        if not told.has_keys:
            click.echo(
                "There are no keys: it listens on this machine only and takes any client key."
            )
        if told.upstreams:
            named = ", ".join(told.upstreams)
            click.echo(f"Upstreams: {named}; {told.n_models} models to route to. Ctrl-C ends it.")
        else:
            click.echo(
                "No upstream is configured: set OPENAI_API_KEY or its like, name one under "
                "'upstreams:' in the configuration, or try --sandbox."
            )
        body = {
            "model": "zerorouter/auto",
            "messages": [{"role": "user", "content": "What is 17 * 23?"}],
        }
        key = " -H 'authorization: Bearer YOUR_KEY'" if told.has_keys else ""
        click.echo("Try:")
        click.echo(
            f"curl -i {told.url}/v1/chat/completions -H 'content-type: application/json'{key} "
            f"-d '{json.dumps(body)}'"
        )

    options = ServeOptions(
        config_path=config_path,
        space=None if space is None else str(space),
        host=host,
        port=port,
        sandbox=sandbox,
        silent=quiet,
        books="none" if no_books else "kept",
        workers=workers,
    )
    serve(options, on_ready=tell)


if __name__ == "__main__":
    command()
