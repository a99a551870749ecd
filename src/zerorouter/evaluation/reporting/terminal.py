"""The tables of a report in a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from zerorouter.evaluation.reporting.measures import (
    half_width,
    short_interval,
    without_zero,
)
from zerorouter.evaluation.reporting.tables import (
    Cell,
    ReportTables,
    Table,
    TableLine,
    is_ours,
    report_tables,
    spelled,
    superscript,
)
from zerorouter.evaluation.rows import Row

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Detail: TypeAlias = Literal["interval", "half", "value"]

GAP = 2  # columns of blank space between two of a table
MAX_LABEL = 36  # columns
MIN_WORDS = 24  # columns that a cell of words is given before it breaks

_VERDICT_STYLES = {"won": "blue", "lost": "yellow", "tied": "dim", "inconclusive": "dim italic"}


def print_tables(rows: Iterable[Row], console: Console) -> None:
    """Print every table of a report, as wide as the console allows."""
    report = report_tables(rows)
    if report.remark:
        console.print(report.remark, markup=False, highlight=False)
    _print_verdict(report, console)
    for section in report.sections:
        _heading(section.place.title, console)
        for table in section.tables:
            print_table(table, console)
        if section.benchmarking is None:
            for sentence in section.sentences:
                console.print(sentence, markup=False, highlight=False)
    for table in filter(None, (report.failures, report.exclusions)):
        _heading(table.title, console)
        print_table(table, console, titled=False)


def _print_verdict(report: ReportTables, console: Console) -> None:
    if not report.acceptance and report.tally is None:
        return
    _heading("Verdict", console)
    for sentence in report.acceptance:
        console.print(sentence, markup=False, highlight=False, style="bold")
    if report.acceptance:
        console.print()
    if report.tally is not None:
        print_table(report.tally, console)
    for comparisons in report.comparisons:
        print_table(comparisons.matrix, console)


def _heading(title: str, console: Console) -> None:
    from rich.text import Text

    console.print(Text(title.upper(), style="bold"))
    console.print(Text("═" * min(len(title), console.width), style="dim"))


def print_table(table: Table, console: Console, *, titled: bool = True) -> None:
    """Print one table with as much detail as fits; a table too wide even so is broken up."""
    from rich.text import Text

    if titled:
        console.print(Text(table.title, style="bold"))
    if table.words:
        _print_words(table, console)
    else:
        detail, parts = _fit(table, console.width)
        for i, part in enumerate(parts):
            if i:
                console.print()
            _print_columns(table, part, detail, console)
        if detail == "half":
            console.print(Text("± half the width of the 95% interval", style="dim"))
    for note in table.notes:
        console.print(Text(note, style="dim"))
    console.print()


def _fit(table: Table, width: int) -> tuple[Detail, list[list[int]]]:
    """How much each cell says, and which columns stand side by side."""
    label = _label_width(table)
    everything = list(range(len(table.heads)))
    detail: Detail = "value"
    for detail in _details(table):
        widths = [_column_width(table, i, detail) for i in everything]
        if label + sum(GAP + w for w in widths) <= width:
            return detail, [everything]
    parts: list[list[int]] = [[]]
    used = label
    for i in everything:
        if parts[-1] and used + GAP + widths[i] > width:
            parts.append([])
            used = label
        parts[-1].append(i)
        used += GAP + widths[i]
    return detail, parts


def _details(table: Table) -> Sequence[Detail]:
    bounded = any(cell.bounds and not cell.text for line in table.lines for cell in line.cells)
    # Without intervals nothing is gained by trying them.
    return ("interval", "half", "value") if bounded else ("value",)


def _label_width(table: Table) -> int:
    longest = max(len(text) for text in (table.corner, *(line.label for line in table.lines)))
    return min(longest, MAX_LABEL)


def _column_width(table: Table, i: int, detail: Detail) -> int:
    heads = table.heads[i].split("\n")
    cells = (_plain(line.cells[i], detail) for line in table.lines)
    return max(map(len, (*heads, *cells)))


def _plain(cell: Cell, detail: Detail) -> str:
    """The words of a cell; the value comes first, so that its end can be set apart."""
    value, rest = _parts(cell, detail)
    return value + rest


def _parts(cell: Cell, detail: Detail) -> tuple[str, str]:
    if cell.text:
        named = bool(cell.verdict) and cell.row is not None
        return (cell.verdict or "?", f" {cell.text}") if named else (cell.text, "")
    if cell.footnote:
        return "–", superscript(cell.footnote)
    if cell.value is None:
        return "", ""
    unit = cell.measure.unit
    value = spelled(cell)
    if cell.bounds is None or detail == "value":
        return value, ""
    if detail == "half":
        value = without_zero(value) if unit == "plain" else value
        return value, half_width(*cell.bounds, unit)
    return value, f" ({short_interval(*cell.bounds, unit)})"


def _print_columns(table: Table, columns: Sequence[int], detail: Detail, console: Console) -> None:
    from rich.table import Table as RichTable

    drawn = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    drawn.add_column(
        table.corner, no_wrap=True, overflow="ellipsis", max_width=MAX_LABEL, vertical="bottom"
    )
    for i in columns:
        drawn.add_column(table.heads[i], justify="right", no_wrap=True, overflow="ellipsis")
    for line in table.lines:
        drawn.add_row(_label(line), *(_text(line.cells[i], detail) for i in columns))
    console.print(drawn)


def _label(line: TableLine) -> Text:
    from rich.text import Text

    return Text(line.label, style="dim" if line.aside else "bold" if is_ours(line.method) else "")


def _text(cell: Cell, detail: Detail) -> Text:
    from rich.text import Text

    value, rest = _parts(cell, detail)
    style = _VERDICT_STYLES.get(cell.verdict, "bold" if cell.best else "")
    return Text.assemble((value, style), (rest, "" if cell.verdict else "dim"))


def _print_words(table: Table, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    drawn.add_column(table.corner, overflow="fold", max_width=MAX_LABEL)
    for head in table.heads:
        drawn.add_column(head, overflow="fold", min_width=min(len(head), MIN_WORDS))
    for line in table.lines:
        drawn.add_row(Text(line.label), *(Text(cell.text) for cell in line.cells))
    console.print(drawn)
