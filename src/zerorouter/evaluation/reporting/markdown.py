"""The tables of a report in Markdown, for ``docs/results``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zerorouter.evaluation.reporting.measures import interval
from zerorouter.evaluation.reporting.provenance import facts
from zerorouter.evaluation.reporting.tables import Cell, Table, report_tables, spelled, superscript
from zerorouter.evaluation.rows import Row

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$])")


def markdown_tables(rows: Iterable[Row], meta: Mapping[str, Any]) -> str:
    """The same tables as in the terminal, as one Markdown document."""
    report = report_tables(rows)
    blocks: list[str] = ["# Evaluation results"]
    if report.remark:
        blocks.append(plain(report.remark))
    if report.acceptance or report.tally:
        blocks.append("## Verdict")
        blocks += [f"**{plain(sentence)}**" for sentence in report.acceptance]
        blocks += _table(report.tally) if report.tally else []
    told = facts(meta)
    if told:
        blocks.append("## What was run")
        blocks.append("\n".join(f"- {plain(name)}: {plain(text)}" for name, text in told))
    if report.comparisons:
        blocks.append("## Who wins where")
        for comparisons in report.comparisons:
            blocks += _table(comparisons.matrix)
    for section in report.sections:
        blocks.append(f"## {plain(section.place.title)}")
        for table in section.tables:
            blocks += _table(table)
        if section.benchmarking is None:
            blocks += [plain(sentence) for sentence in section.sentences]
    for table in filter(None, (report.failures, report.exclusions)):
        blocks.append(f"## {plain(table.title)}")
        blocks += _table(table, titled=False)
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is.

    >>> plain("a|b <i>")
    'a\\\\|b \\\\<i\\\\>'
    """
    return _SPECIAL.sub(r"\\\1", text)


def _table(table: Table, *, titled: bool = True) -> Iterator[str]:
    if titled:
        yield f"### {plain(table.title)}"
    yield "\n".join(_lines(table))
    if table.notes:
        yield "  \n".join(plain(note) for note in table.notes)


def _lines(table: Table) -> Iterator[str]:
    yield _line([plain(table.corner), *(plain(head.replace("\n", ", ")) for head in table.heads)])
    yield _line(["---", *(["---" if table.words else "---:"] * len(table.heads))])
    for line in table.lines:
        label = f"*{plain(line.label)}*" if line.aside else plain(line.label)
        yield _line([label, *(_cell(cell) for cell in line.cells)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if cell.text and cell.row is None:
        return plain(cell.text)
    if cell.footnote:
        return f"–{superscript(cell.footnote)}"
    if cell.value is None:
        return ""
    unit = cell.measure.unit
    text = plain(cell.text or spelled(cell))
    if cell.best:
        text = f"**{text}**"
    if cell.text:
        text = f"{cell.verdict or '?'} {text}"
    return text if cell.bounds is None else f"{text} ({plain(interval(*cell.bounds, unit))})"
