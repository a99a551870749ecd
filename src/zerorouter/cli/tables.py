"""Tables that fit: where the terminal is narrow, the least important columns are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from zerorouter.cli import common

GAP = 2  # columns of blank space between two of a table


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heading: What stands above it.
        cells: One text a row.
        rank: 0 for what must be shown; of the others the largest is left out first.
        right: Whether it is set to the right, as numbers are.
    """

    heading: str
    cells: Sequence[str]
    rank: int = field(default=0, kw_only=True)
    right: bool = field(default=False, kw_only=True)

    @property
    def width(self) -> int:
        """Width of its widest cell."""
        return max(map(len, (self.heading, *self.cells)))


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that fit into ``width``, in their order."""
    kept = list(columns)
    while sum(column.width + GAP for column in kept) - GAP > width:
        dropped = max(kept, key=lambda column: column.rank)
        if dropped.rank == 0:
            break
        kept.remove(dropped)
    return kept


def lines(columns: Sequence[Column], width: int) -> list[str]:
    """A plain table of the columns that fit, a line each for the headings and every row."""
    kept = fitting(columns, width)
    rows = zip(*((column.heading, *column.cells) for column in kept), strict=True)
    return [
        (" " * GAP)
        .join(
            cell.rjust(column.width) if column.right else cell.ljust(column.width)
            for column, cell in zip(kept, row, strict=True)
        )
        .rstrip()
        for row in rows
    ]


def show(columns: Sequence[Column]) -> None:
    """Print a table, its headings in bold."""
    head, *rows = lines(columns, common.width())
    click.secho(head, bold=True)
    for row in rows:
        click.echo(row)


def bar(mean: float, sd: float, low: float, high: float, width: int = 21) -> str:
    """A dot with a 90% error bar on a line from ``low`` to ``high``."""

    def at(value: float) -> int:
        share = (value - low) / max(high - low, 1e-9)
        return round(min(max(share, 0.0), 1.0) * (width - 1))

    left, middle, right = at(mean - 1.645 * sd), at(mean), at(mean + 1.645 * sd)
    cells = [" "] * width
    for i in range(left, right + 1):
        cells[i] = "─"
    cells[middle] = "●"
    return "".join(cells)
