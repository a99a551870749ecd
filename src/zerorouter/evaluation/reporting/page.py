"""The page of a report: one file that opens without a network.

The verdict comes first, then what was run, who wins where, and a section per data set and split.
Plotly's JavaScript is passed in and stands in the page once; style and behaviour are `page.css`
and `page.js` beside this module. Reliability diagrams are plain SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from zerorouter.evaluation.reporting.figures import (
    Figure,
    Look,
    ReliabilityPanel,
    ReliabilityPoint,
    frontier_figures,
    onboarding_figures,
    reliability_panels,
)
from zerorouter.evaluation.reporting.html import Html, embedded_json, join, tag
from zerorouter.evaluation.reporting.measures import (
    MEASURES,
    interval,
    measure,
    number,
    short_interval,
    shown,
)
from zerorouter.evaluation.reporting.provenance import facts
from zerorouter.evaluation.reporting.tables import (
    POOLED,
    Cell,
    Comparisons,
    Place,
    ReportTables,
    RowIndex,
    Section,
    Table,
    TableLine,
    anchor_order,
    anchors_name,
    is_ours,
    report_tables,
    spelled,
    superscript,
)
from zerorouter.evaluation.rows import Row
from zerorouter.evaluation.statistics import VERDICTS

_MARKS = {"won": "▲", "tied": "=", "lost": "▼", "inconclusive": "?"}
_LEAD = 240  # characters of a line that is still set large
_WIDE = 6  # columns beyond which intervals stand below their values
_SVG = 150  # side of a reliability diagram, in its own units
_RELIABILITY_COLORS = ("var(--s1)", "var(--s0)", "var(--ink)")


def page(rows: Iterable[Row], meta: Mapping[str, Any], *, plotly_js: str) -> str:
    """The whole page.

    Args:
        rows: All result rows.
        meta: What was run.
        plotly_js: Plotly's minified bundle.
    """
    index = RowIndex(rows)
    report = report_tables(index.rows)
    body = _body(index, report, meta)
    title = "ZeroRouter evaluation"
    return "".join(
        (
            "<!DOCTYPE html>\n",
            tag(
                "html",
                tag(
                    "head",
                    tag("meta", charset="utf-8"),
                    tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                    tag("meta", name="color-scheme", content="light dark"),
                    tag("title", title),
                    tag("style", Html(_asset("page.css"))),
                ),
                tag(
                    "body",
                    body,
                    tag("script", Html(plotly_js)) if 'class="plot"' in body else None,
                    tag("script", Html(_asset("page.js"))),
                ),
                lang="en",
            ),
            "\n",
        )
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _body(index: RowIndex, report: ReportTables, meta: Mapping[str, Any]) -> Html:
    sections = [(f"s{i}", section) for i, section in enumerate(report.sections, 1)]
    blocks = [
        ("verdict", "Verdict", _verdict(report)),
        ("run", "What was run", _provenance(index, meta)),
        ("wins", "Who wins where", join(*map(_comparison, report.comparisons))),
        *((key, section.place.title, _section(index, section, key)) for key, section in sections),
        ("missing", "Left out", _missing(report)),
        ("reading", "How to read this", _glossary(index)),
    ]
    shown_blocks = [block for block in blocks if block[2]]
    return join(
        tag(
            "header",
            tag("p", "ZeroRouter", class_="brand"),
            tag("h1", "Evaluation report"),
            tag("p", _subtitle(index, meta), class_="sub"),
        ),
        tag(
            "nav",
            *(tag("a", title, href=f"#{key}") for key, title, _ in shown_blocks),
            aria_label="Sections",
        ),
        tag(
            "main",
            *(
                tag("section", tag("h2", title), content, id=key)
                for key, title, content in shown_blocks
            ),
        ),
    )


def _subtitle(index: RowIndex, meta: Mapping[str, Any]) -> str:
    places = index.places()
    datasets = len({place.dataset for place in places} - POOLED)
    methods = len({row.method for row in index.aggregated if row.metric in MEASURES})
    told = [
        shown(str(meta["date"])) if meta.get("date") else "",
        f"commit {shown(str(meta['commit']))[:12]}" if meta.get("commit") else "",
        _count(datasets, "data set"),
        _count(methods, "method"),
        _count(len(index.rows), "result row"),
    ]
    return " · ".join(filter(None, told))


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


# Verdict and comparisons


def _verdict(report: ReportTables) -> Html:
    sentences = [
        (section.place.title, sentence)
        for section in report.sections
        for sentence in section.sentences
    ]
    several = len(sentences) > 1
    blocks: list[str | None] = []
    if report.remark:
        blocks.append(tag("p", report.remark, class_="lead"))
    blocks += [
        tag("p", line, class_="lead" if len(line) <= _LEAD else "told")
        for line in report.acceptance
    ]
    if report.comparisons:
        blocks.append(tag("div", *map(_tally_bar, report.comparisons), class_="tallies"))
        blocks.append(_key())
    if sentences:
        blocks.append(tag("h3", "Does it avoid benchmarking?"))
        blocks += [
            tag("p", tag("b", f"{title}: ") if several else None, sentence)
            for title, sentence in sentences
        ]
    if not report.remark and not blocks:
        blocks.append(
            tag(
                "p",
                "These rows hold no comparisons, so no verdict is given; the numbers follow.",
                class_="lead",
            )
        )
    return join(*blocks)


def _tally_bar(found: Comparisons) -> Html:
    total = sum(found.tally.values())
    words = ", ".join(f"{found.tally[verdict]} {verdict}" for verdict in VERDICTS)
    parts = (
        tag(
            "span",
            f"{_MARKS[verdict]} {found.tally[verdict]}",
            class_=f"seg {verdict}",
            style=f"flex-grow:{found.tally[verdict]}",
            title=f"{found.tally[verdict]} {verdict}",
        )
        for verdict in VERDICTS
        if found.tally[verdict]
    )
    label = f"{shown(found.method)}, {measure(found.metric).label}"
    return tag(
        "div",
        tag("span", label, class_="tally-label"),
        tag("div", *parts, class_="bar", role="img", aria_label=words)
        if total
        else tag("span", "no verdicts", class_="muted"),
        tag("span", words, class_="tally-words"),
        class_="tally",
    )


def _key() -> Html:
    chips = (
        tag("span", f"{_MARKS[verdict]} {verdict}", class_=f"chip {verdict}")
        for verdict in VERDICTS
    )
    return tag("p", *chips, class_="key")


def _comparison(found: Comparisons) -> Html:
    table = found.matrix
    return tag(
        "div",
        tag("h3", table.title),
        _key(),
        tag("div", _table_element(table, _verdict_cell, "matrix"), class_="scroll"),
        _notes(table),
        class_="card",
    )


def _verdict_cell(cell: Cell, _scale: tuple[float, float] | None) -> Html:
    if cell.row is None:
        return tag("td", "", class_="none")
    title = shown(cell.row.note) or None
    if cell.value is None:
        return tag("td", f"–{superscript(cell.footnote)}", class_="none", title=title)
    verdict = cell.verdict or "none"
    bounds = short_interval(*cell.bounds, cell.measure.unit) if cell.bounds else "no interval"
    return tag(
        "td",
        tag("span", f"{_MARKS.get(cell.verdict, '·')} {cell.verdict or 'no verdict'} "),
        tag("b", cell.text),
        tag("span", bounds, class_="ci"),
        class_=f"v {verdict}",
        data_sort=cell.value,
        title=title,
    )


# Tables


def _table_card(table: Table) -> Html:
    return tag("div", _titled_table(table), class_="card")


def _titled_table(table: Table) -> Html:
    element = _table_element(table, _number_cell, "numbers")
    return join(tag("h3", table.title), tag("div", element, class_="scroll"), _notes(table))


def _folded(title: str, tables: Sequence[Table]) -> Html | None:
    if not tables:
        return None
    inside = (tag("div", _titled_table(table), class_="inside") for table in tables)
    return tag("details", tag("summary", title), *inside, class_="card")


def _table_element(table: Table, draw: Any, class_: str) -> Html:
    heads = (table.corner, *table.heads)
    scales = [_scale(line.cells[i] for line in table.lines) for i in range(len(table.heads))]
    head = tag("tr", *(tag("th", _sort_button(text), scope="col") for text in heads))
    lines = (
        tag(
            "tr",
            tag("th", line.label, scope="row"),
            *(draw(cell, scale) for cell, scale in zip(line.cells, scales, strict=True)),
            class_=_line_class(line) if class_ == "numbers" else None,
        )
        for line in table.lines
    )
    return tag(
        "table",
        tag("caption", table.title, class_="hidden"),
        tag("thead", head),
        tag("tbody", *lines),
        class_=" ".join((class_, *["words"] * table.words, *["wide"] * (len(heads) > _WIDE))),
    )


def _line_class(line: TableLine) -> str | None:
    if line.aside:
        return "aside"
    return "ours" if is_ours(line.method) else None


def _sort_button(text: str) -> Html:
    parts: list[str] = []
    for i, part in enumerate(text.split("\n")):
        parts += [tag("br"), part] if i else [part]
    return tag("button", *parts, type="button")


def _scale(cells: Iterable[Cell]) -> tuple[float, float] | None:
    """The range of a column that its small interval bars are drawn on."""
    ends = [end for cell in cells if cell.bounds and not cell.text for end in cell.bounds]
    if not ends or not max(ends) > min(ends):
        return None
    return min(ends), max(ends)


def _number_cell(cell: Cell, scale: tuple[float, float] | None) -> Html:
    if cell.text:
        return tag("td", cell.text, class_=None, data_sort=cell.order)
    if cell.footnote:
        reason = shown(cell.row.note) if cell.row else None
        return tag("td", f"–{superscript(cell.footnote)}", class_="none", title=reason)
    if cell.value is None:
        return tag("td", "", class_="none")
    unit = cell.measure.unit
    text = spelled(cell)
    value = tag("b", text) if cell.best else tag("span", text)
    if cell.bounds is None:
        return tag("td", value, data_sort=cell.value)
    low, high = cell.bounds
    return tag(
        "td",
        value,
        tag("span", interval(low, high, unit), class_="ci"),
        _whisker(cell.value, low, high, scale) if scale else None,
        data_sort=cell.value,
    )


def _whisker(value: float, low: float, high: float, scale: tuple[float, float]) -> Html:
    def at(x: float) -> float:
        return 100 * (x - scale[0]) / (scale[1] - scale[0])

    left, right, middle = (min(max(at(x), 0.0), 100.0) for x in (low, high, value))
    return tag(
        "span",
        tag("i", style=f"left:{left:.1f}%;width:{right - left:.1f}%"),
        tag("em", style=f"left:{middle:.1f}%"),
        class_="whisker",
        aria_hidden="true",
    )


def _notes(table: Table) -> Html | None:
    if not table.notes:
        return None
    return tag("ul", *(tag("li", note) for note in table.notes), class_="notes")


# One data set and split


def _section(index: RowIndex, section: Section, key: str) -> Html:
    place = section.place
    frontiers = frontier_figures(index, place)
    curves = onboarding_figures(index, place)
    panels = reliability_panels(index, place)
    benchmarking = section.benchmarking
    grid = [_figure(figure, f"{key}-o{i}") for i, figure in enumerate(curves)]
    heading = tag("h3", "Onboarding: quality by labels per newcomer", class_="band")
    return join(
        tag(
            "div",
            _legend(frontiers + curves),
            _frontiers(frontiers, key),
            *((heading, tag("div", *grid, class_="grid")) if grid else ()),
        ),
        _folded("The numbers behind these curves", section.onboarding),
        _benchmarking(benchmarking) if benchmarking else None,
        *map(_table_card, section.headline),
        _reliability(place, panels) if panels else None,
        _folded("Presets and other named operating points", section.presets),
    )


def _frontiers(figures: Sequence[Figure], key: str) -> Html | None:
    """All labels first and open; the panels with fewer follow, folded."""
    if not figures:
        return None
    ordered = [figures[-1], *figures[:-1]]
    drawn = [_figure(figure, f"{key}-f{i}", tall=True) for i, figure in enumerate(ordered)]
    folded = (
        tag(
            "details",
            tag("summary", "The same with fewer labels per newcomer"),
            tag("div", *drawn[1:], class_="grid"),
            class_="card",
        )
        if drawn[1:]
        else None
    )
    return join(drawn[0], folded)


def _benchmarking(table: Table) -> Html:
    *others, sentence = table.notes or ("",)
    rest = Table(
        title=table.title,
        corner=table.corner,
        heads=table.heads,
        lines=table.lines,
        notes=tuple(others),
    )
    return tag(
        "div",
        tag("h3", table.title),
        tag("div", _table_element(rest, _number_cell, "numbers"), class_="scroll"),
        tag("p", sentence, class_="sentence") if sentence else None,
        _notes(rest),
        class_="card",
    )


def _figure(figure: Figure, key: str, *, tall: bool = False) -> Html:
    spec = {"data": figure.data, "layout": figure.layout}
    return tag(
        "figure",
        tag("h3", figure.title),
        tag(
            "div",
            class_="plot",
            id=key,
            role="img",
            aria_label=f"{figure.title}. {figure.caption}",
            data_tall="1" if tall else None,
        ),
        tag("script", embedded_json(spec), type="application/json", data_for=key),
        tag("figcaption", figure.caption),
        class_="card",
    )


def _legend(figures: Sequence[Figure]) -> Html | None:
    entries: dict[str, tuple[Look, bool]] = {}
    for figure in figures:
        for name, look, visible in figure.methods:
            entries.setdefault(name, (look, visible))
    if not entries:
        return None
    order = sorted(entries, key=lambda name: (not is_ours(name), not entries[name][1], name))
    return tag(
        "div",
        *(_legend_entry(name, *entries[name]) for name in order),
        class_="legend",
        role="group",
        aria_label="Methods in the figures; press to show or hide",
    )


_SIGNS = {"diamond": "◆", "circle-open": "○"}
_DASHES = {"dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}


def _legend_entry(name: str, look: Look, visible: bool) -> Html:
    color = look.color.removeprefix("@")
    stroke = f"var(--s{color})" if color.isdigit() else f"var(--{color})"
    if look.symbol in _SIGNS:
        sign = tag("span", _SIGNS[look.symbol], style=f"color:{stroke}", aria_hidden="true")
        return _legend_button(name, sign, visible)
    swatch = tag(
        "svg",
        tag(
            "line",
            x1=0,
            y1=5,
            x2=26,
            y2=5,
            style=f"stroke:{stroke}",
            stroke_width=3,
            stroke_dasharray=_DASHES.get(look.dash),
        ),
        width=26,
        height=10,
        aria_hidden="true",
    )
    return _legend_button(name, swatch, visible)


def _legend_button(name: str, swatch: Html, visible: bool) -> Html:
    return tag(
        "button",
        swatch,
        shown(name),
        type="button",
        data_method=name,
        aria_pressed="true" if visible else "false",
    )


# Reliability diagrams


def _reliability(place: Place, panels: Sequence[ReliabilityPanel]) -> Html:
    counts = list(dict.fromkeys(n for panel in panels for n in panel.curves))
    counts.sort(key=anchor_order)
    colors = dict(zip(counts, _RELIABILITY_COLORS[-len(counts) :], strict=True))
    key = (
        tag(
            "span",
            tag("i", style=f"background:{colors[n]}"),
            "all labels" if n is None else f"{n} labels",
            class_="swatch",
        )
        for n in counts
    )
    return tag(
        "div",
        tag("h3", f"Reliability: {place.title}"),
        tag("p", *key, class_="key") if counts != [None] else None,
        tag("div", *(_diagram(panel, colors) for panel in panels), class_="small-multiples"),
        tag(
            "p",
            "Across: P(correct). Up: how often it was right, with 95% intervals. On the diagonal "
            "the two agree. Larger dots hold more observations.",
            class_="figcaption",
        ),
        class_="card",
    )


def _diagram(panel: ReliabilityPanel, colors: Mapping[int | None, str]) -> Html:
    most = max(point.n for points in panel.curves.values() for point in points)
    curves = (_reliability_curve(points, colors[n], most, n) for n, points in panel.curves.items())
    errors = " · ".join(
        f"{number(row.value)}"
        for row in (panel.ece.get(n) for n in panel.curves)
        if _has(row) and row is not None and row.value is not None
    )
    return tag(
        "figure",
        tag("figcaption", tag("b", shown(panel.method)), f" ECE {errors}" if errors else None),
        tag(
            "svg",
            tag("rect", x=0, y=0, width=_SVG, height=_SVG, class_="frame"),
            *(
                tag("line", x1=a, y1=b, x2=c, y2=d, class_="gridline")
                for k in (0.25, 0.5, 0.75)
                for a, b, c, d in ((k * _SVG, 0, k * _SVG, _SVG), (0, k * _SVG, _SVG, k * _SVG))
            ),
            tag("line", x1=0, y1=_SVG, x2=_SVG, y2=0, class_="diagonal"),
            *curves,
            viewBox=f"-4 -4 {_SVG + 8} {_SVG + 8}",
            role="img",
            aria_label=f"Reliability of {shown(panel.method)}",
        ),
    )


def _has(row: Row | None) -> bool:
    return row is not None and row.value is not None


def _reliability_curve(
    points: Sequence[ReliabilityPoint], color: str, most: float, n_anchors: int | None
) -> Html:
    def x(p: float) -> float:
        return round(_SVG * p, 1)

    def y(p: float) -> float:
        return round(_SVG * (1 - p), 1)

    path = " ".join(f"{'L' if i else 'M'}{x(q.p)} {y(q.y)}" for i, q in enumerate(points))
    bars = (
        tag("line", x1=x(q.p), y1=y(q.low), x2=x(q.p), y2=y(q.high), class_="error")
        for q in points
        if q.low is not None and q.high is not None
    )
    dots = (
        tag(
            "g",
            tag("circle", cx=x(q.p), cy=y(q.y), r=round(1.5 + 3.5 * math.sqrt(q.n / most), 1))
            if most > 0
            else None,
            tag(
                "title",
                f"{anchors_name(n_anchors)} labels: P(correct) {number(q.p)}, "
                f"frequency {number(q.y)}, {q.n:,.0f} observations",
            ),
        )
        for q in points
    )
    return tag("g", tag("path", d=path), *bars, *dots, class_="curve", style=f"--c:{color}")


# The rest


def _provenance(index: RowIndex, meta: Mapping[str, Any]) -> Html:
    places = index.places()
    told = facts(meta)
    names = {name for name, _ in told}
    if "Data sets" not in names and places:
        told.append(("Data sets", ", ".join(dict.fromkeys(shown(p.dataset) for p in places))))
    seeds = sorted({row.seed for row in index.rows if row.seed is not None})
    if "Seeds" not in names and seeds:
        told.append(("Seeds", ", ".join(map(str, seeds))))
    if not told:
        return Html("")
    return tag(
        "dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in told), class_="facts"
    )


def _missing(report: ReportTables) -> Html:
    return join(
        *(_table_card(table) for table in (report.failures, report.exclusions) if table is not None)
    )


def _glossary(index: RowIndex) -> Html:
    used = {row.metric.removeprefix("difference:") for row in index.aggregated}
    entries = [
        tag("div", tag("dt", read.label), tag("dd", read.meaning))
        for metric, read in MEASURES.items()
        if metric in used and read.meaning
    ]
    if not entries:
        return Html("")
    return join(
        tag(
            "p",
            "Intervals are 95% intervals. The best value of a column is bold; whether it is "
            "really better than another is judged under “Who wins where”, on paired differences. "
            "Press a heading to sort by its column, and a method above the figures to show or "
            "hide it.",
        ),
        tag("dl", *entries, class_="facts"),
    )
