"""What the commands share: options, errors, output and the opening of a router."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zerorouter.errors import PromptError, ZeroRouterError

if TYPE_CHECKING:
    from zerorouter.fitting import Report
    from zerorouter.router import Router

PIPED_WIDTH = 140  # columns

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file (default: $ZEROROUTER_CONFIG).",
)
space_option = click.option(
    "--space",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Latent space (default: $ZEROROUTER_SPACE, else the one that ships).",
)


def router_options(function: F) -> F:
    """Options of every command that opens a router: ``--space``, ``--config``, ``--json``."""
    return space_option(config_option(json_option(function)))


def typed_errors(function: F) -> F:
    """Print typed errors to standard error and exit with 1, as JSON if JSON was asked for."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ZeroRouterError as error:
            if kwargs.get("as_json"):
                told = {"error": {"type": type(error).__name__, "message": str(error)}}
                click.echo(json.dumps(told, ensure_ascii=False), err=True)
            else:
                click.echo(f"error: {error}", err=True)
            sys.exit(1)

    return run  # type: ignore[return-value]  # the wrapper keeps the signature


def print_json(value: Any) -> None:
    """One JSON document on standard output; NaN has no JSON form and becomes null."""
    click.echo(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value


def width() -> int:
    """Columns to print in: the terminal's, and a wide one's where output goes to a pipe."""
    return shutil.get_terminal_size((PIPED_WIDTH, 24)).columns


def say(text: str, **style: Any) -> None:
    """A sentence: wrapped at words on a terminal, one line in a pipe."""
    if sys.stdout.isatty():
        text = textwrap.fill(text, width(), subsequent_indent="  ", break_long_words=False)
    click.secho(text, **style)


def patterns(text: str | None) -> tuple[str, ...]:
    """Comma-separated shell patterns."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def read_prompt_text(argument: str) -> str:
    """The prompt of an argument; ``-`` reads standard input.

    Raises:
        PromptError: the bytes are not UTF-8.
    """
    if argument != "-":
        if any("\udc80" <= char <= "\udcff" for char in argument):
            raise PromptError(
                "the prompt on the command line is not valid UTF-8; encode it as UTF-8, or pipe it "
                "in with '-'"
            )
        return argument
    raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"standard input is not valid UTF-8: byte {error.start} is 0x{raw[error.start]:02x}; "
            "convert it first, for example with iconv -f LATIN1 -t UTF-8"
        ) from error


def open_router(space: Path | None, config_path: Path | None, asked: Sequence[str] = ()) -> Router:
    """The router that options and configuration ask for.

    Args:
        space: Folder of a space.
        config_path: Configuration file.
        asked: Patterns of models that may be outside the default pool.
    """
    from zerorouter.config import load_config
    from zerorouter.router import Router

    return Router.from_config(load_config(config_path), space=space, asked=asked)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Report]:
    """A progress display on standard error; yields a function (stage, share done).

    Without a terminal each stage is a line; ``quiet`` shows nothing.
    """
    if quiet:
        yield lambda _stage, _share: None
    elif sys.stderr.isatty():
        with _progress_bar() as tell:
            yield tell
    else:
        yield _stage_lines()


def _stage_lines() -> Report:
    told: list[str] = []

    def tell(stage: str, _share: float) -> None:
        if told[-1:] != [stage]:
            told.append(stage)
            click.echo(f"{stage} ...", err=True)

    return tell


@contextmanager
def _progress_bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:42s}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(stage: str, share: float) -> None:
            # A stage that reports no share pulses instead of standing still.
            bar.update(task, description=stage, completed=share, total=1.0 if share else None)

        yield tell
