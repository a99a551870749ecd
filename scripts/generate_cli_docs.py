"""Writes docs/cli.md: the help of every command, as the commands print it.

python scripts/generate_cli_docs.py           # writes the page
python scripts/generate_cli_docs.py --check   # fails where the page is out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from zerorouter.cli.main import command

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
WIDTH = 80  # columns
HEAD = """# Commands

Results go to standard output, progress and errors to standard error. Exit codes: 0 fine, 1 a
clear failure, 2 wrong usage. Every command has `--json`; its errors are then JSON as well.

This page is written by `scripts/generate_cli_docs.py` from the commands themselves.
"""


def commands(found: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every command below ``found`` with its full name and its help."""
    name = " ".join(path)
    context = click.Context(
        found,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **command.context_settings,
    )
    with context:
        yield name, found.get_help(context)
        if isinstance(found, click.Group):
            for child in found.list_commands(context):
                below = found.get_command(context, child)
                if below is not None:
                    yield from commands(below, (*path, child))


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, text in commands(command, ("zerorouter",)):
        parts.append(f"## {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if check:
        if written != page():
            sys.exit(f"{PAGE} is out of date; run: python scripts/generate_cli_docs.py")
        return
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
