"""``zerorouter``: one command, its subcommands imported only when they are called."""

from __future__ import annotations

import importlib
import io
import os
import sys

import click

from zerorouter._version import __version__

# name -> (module, one line for --help). Help of the whole is shown without importing any.
COMMANDS = {
    "route": ("zerorouter.cli.route", "Choose the model for one prompt."),
    "models": ("zerorouter.cli.models", "List the catalog, or show one model."),
    "demo": ("zerorouter.cli.demo", "Route six very different prompts under each preset."),
    "onboard": ("zerorouter.cli.onboard", "Take a new model into the pool."),
    "assign": ("zerorouter.cli.assign", "Assign a batch of prompts under one budget."),
    "serve": (
        "zerorouter.cli.serve",
        "Serve OpenAI's and Anthropic's APIs, routing every request.",
    ),
    "keys": ("zerorouter.cli.keys", "Make, list and revoke the gateway's keys."),
    "ledger": ("zerorouter.cli.ledger", "Export what the gateway booked."),
    "calibrate": ("zerorouter.cli.calibrate", "Fit a latent space to evaluation records."),
    "evaluate": ("zerorouter.cli.evaluate", "Compare routing methods on evaluation records."),
    "import": ("zerorouter.cli.importing", "Bring evaluation records into the data format."),
    "config": ("zerorouter.cli.config", "Show, check or describe the configuration."),
    "sandbox": ("zerorouter.cli.sandbox", "Serve models that are played, for trying clients out."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module only when it is invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of usefulness."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name suggested for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from zerorouter.errors import UnknownNameError

            raise click.UsageError(str(UnknownNameError("command", args[0], COMMANDS)), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zerorouter")
def command() -> None:
    """Send every prompt to the right LLM.

    Try: zerorouter route "What is 17 * 23?" --explain
    """


def main() -> None:
    """Entry point: what cannot be written is one line on standard error and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an encoding without "±" is no failure
    try:
        command(prog_name="zerorouter")
    except OSError as error:
        # Whatever is still buffered would fail again when the interpreter closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # which is `head` having read enough
            click.echo(f"error: {error}", err=True)
        sys.exit(1)
