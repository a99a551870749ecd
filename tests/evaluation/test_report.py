"""Reports show what the rows say and nothing else, whatever the names in them."""

from __future__ import annotations

import io
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from zerorouter.errors import MissingExtraError
from zerorouter.evaluation.report import (
    markdown_tables,
    page,
    print_tables,
    summary,
    write_report,
)
from zerorouter.evaluation.reporting.figures import (
    frontier_figures,
    onboarding_figures,
    reliability_panels,
)
from zerorouter.evaluation.reporting.measures import interval, number, short_interval
from zerorouter.evaluation.reporting.tables import (
    Cell,
    Place,
    ReportTables,
    RowIndex,
    Table,
    report_tables,
)
from zerorouter.evaluation.rows import Row, read_rows, write_rows

GOLDEN = Path(__file__).parent / "report_terminal.txt"
META = {"date": "2026-05-14", "commit": "abc123", "seeds": [0, 1], "data_hashes": {"quiz": "9f"}}
EVIL = "</script><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
PLACE = Place("quiz", "time")
NO_REASON = "no labels: neighbours have nothing to go by"


def row(method: str, metric: str, value: float | None, **fields: Any) -> Row:
    """A row of the small report, with an interval of 0.01 to both sides."""
    place = {"dataset": "quiz", "split": "time"}
    ends: dict[str, Any] = {}
    if value is not None:
        ends = {"ci_low": value - 0.01, "ci_high": value + 0.01}
    return Row(**{**place, **ends, "n": 200, **fields}, method=method, metric=metric, value=value)


def scalar_rows() -> list[Row]:
    rows = []
    for method, loss in (("zerorouter", 0.44), ("knn", 0.55), ("oracle", 0.10)):
        for n, more in ((0, 0.06), (20, 0.02), (None, 0.0)):
            if method == "knn" and n == 0:
                rows.append(row(method, "log_loss", None, n_anchors=0, note=NO_REASON))
                continue
            rows.append(row(method, "log_loss", loss + more, n_anchors=n))
        rows.append(row(method, "cost_save_95", 0.9 - loss, note="derived cost"))
        rows.append(row(method, "overhead_p50_s", 0.0021, ci_low=0.0020, ci_high=0.0022))
    arm = {"n_anchors": 20, "policy": "anchors=i_optimal"}
    return [*rows, row("zerorouter", "log_loss", 0.455, **arm)]


def frontier_rows() -> list[Row]:
    points = [
        ("zerorouter", "value=0.1", 0.001, 0.60),
        ("zerorouter", "value=1", 0.004, 0.80),
        ("zerorouter", "balanced", 0.002, 0.65),
        ("knn", "balanced", 0.003, 0.66),
        ("single_models", "single:gpt-4o", 0.006, 0.79),
    ]
    return [
        made
        for method, policy, cost, accuracy in points
        for made in (
            row(
                method, "mean_cost_usd", cost, policy=policy, ci_low=cost * 0.9, ci_high=cost * 1.1
            ),
            row(method, "mean_accuracy", accuracy, policy=policy),
        )
    ]


def comparison_rows() -> list[Row]:
    verdicts = (
        ("knn", 0.05, "won"),
        ("mirt", -0.03, "lost"),
        ("carrot", 0.001, "tied"),
        ("random", 0.02, "inconclusive: 5 held-out families"),
        ("shuffled_labels", 0.2, "won"),
    )
    return [
        row("zerorouter", "difference:cost_save_95", value, policy=f"against={m}", note=note)
        for m, value, note in verdicts
    ]


def other_rows() -> list[Row]:
    bins = [
        made
        for i, p in enumerate((0.2, 0.5, 0.8))
        for made in (
            row("zerorouter", "reliability_p", p, policy=f"bin={i}"),
            row("zerorouter", "reliability_y", p + 0.02, policy=f"bin={i}"),
            row("zerorouter", "reliability_n", 50.0 * (i + 1), policy=f"bin={i}"),
        )
    ]
    exact = [
        made
        for n, calls in ((0, 0.0), (20, 20.0), (None, 1000.0))
        for made in (
            row("zerorouter", "calls", calls, n_anchors=n, ci_low=calls, ci_high=calls),
            row("zerorouter", "usd", calls * 0.003, n_anchors=n, ci_low=None, ci_high=None),
            row("zerorouter", "regret", 0.001 * (3 if n == 0 else 1), n_anchors=n),
        )
    ]
    words = [
        row("zerorouter", "verdict", None, note="Benchmarking is reduced, not eliminated."),
        row("zerorouter", "acceptance", None, note="One cell is lost, so no claim is made."),
        row("zerorouter_onnx", "status", None, note="its weights are missing"),
        row("", "dropped_prompts", 118.0, note="duplicate groups across the split", seed=0),
        row("zerorouter", "log_loss", 0.99, seed=1),
    ]
    return bins + exact + words


@pytest.fixture
def rows() -> list[Row]:
    return scalar_rows() + frontier_rows() + comparison_rows() + other_rows()


def cells_of(report: ReportTables) -> list[Cell]:
    tables: list[Table] = [table for section in report.sections for table in section.tables]
    tables += [found.matrix for found in report.comparisons]
    tables += [t for t in (report.tally, report.failures, report.exclusions) if t is not None]
    return [cell for table in tables for line in table.lines for cell in line.cells]


def terminal(rows: list[Row], width: int = 100) -> str:
    out = io.StringIO()
    print_tables(rows, Console(file=out, width=width, color_system=None))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


class Reader(HTMLParser):
    """Reads a page, checks that every element is closed, and keeps what it holds."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def read_page(rows: list[Row]) -> Reader:
    return Reader(page(rows, META, plotly_js="/* plotly */"))


# Tables are the rows


def test_every_number_of_every_table_is_a_row(rows: list[Row]) -> None:
    shown = [cell.row for cell in cells_of(report_tables(rows)) if cell.row is not None]
    assert shown
    assert all(found in rows for found in shown)
    assert all(found.seed is None for found in shown)


def test_every_aggregated_number_is_shown_in_some_table(rows: list[Row]) -> None:
    shown = {cell.row for cell in cells_of(report_tables(rows))}
    drawn = re.compile(r"reliability_|status|acceptance|verdict|dropped_")
    swept = re.compile(r"value=|single:")
    for found in rows:
        if found.seed is None and not drawn.match(found.metric) and not swept.match(found.policy):
            assert found in shown, found


def test_rows_read_back_from_a_file_give_the_same_report(rows: list[Row], tmp_path: Path) -> None:
    write_rows(tmp_path / "results.jsonl", rows)
    back = list(read_rows(tmp_path / "results.jsonl"))
    assert page(back, META, plotly_js="") == page(rows, META, plotly_js="")
    assert terminal(back) == terminal(rows)


def test_the_order_of_rows_does_not_matter(rows: list[Row]) -> None:
    mixed = random.Random(0).sample(rows, len(rows))
    assert page(mixed, META, plotly_js="") == page(rows, META, plotly_js="")
    assert markdown_tables(mixed, META) == markdown_tables(rows, META)
    assert summary(mixed) == summary(rows)


def test_a_repeated_row_replaces_the_one_before(rows: list[Row]) -> None:
    again = replace(rows[0], value=0.123)
    shown = {cell.row for cell in cells_of(report_tables([*rows, again]))}
    assert again in shown
    assert rows[0] not in shown


def test_the_best_is_bold_and_a_ceiling_never_is(rows: list[Row]) -> None:
    best = [cell.row for cell in cells_of(report_tables(rows)) if cell.best and cell.row]
    assert {found.method for found in best if found.metric == "log_loss"} == {"zerorouter"}
    assert all(found.method != "oracle" for found in best)


def test_methods_stand_best_first(rows: list[Row]) -> None:
    (table,) = [
        table
        for table in report_tables(rows).sections[0].headline
        if table.title == "Prediction: quiz, release date, all labels"
    ]
    assert [line.label for line in table.lines] == ["oracle †", "zerorouter", "knn"]


def test_anchor_arms_are_lines_that_share_what_needs_no_anchors() -> None:
    arms = [
        row("zerorouter", "auc", 0.7, n_anchors=20, policy=f"anchors={arm}")
        for arm in ("stratified", "i_optimal")
    ]
    ends = [row("zerorouter", "auc", 0.6, n_anchors=0), row("zerorouter", "auc", 0.8)]
    (table,) = report_tables(arms + ends).sections[0].onboarding
    assert {line.label for line in table.lines} == {
        "zerorouter · stratified",
        "zerorouter · i_optimal",
    }
    assert all([cell.value for cell in line.cells] == [0.6, 0.7, 0.8] for line in table.lines)


def test_losses_and_ties_are_counted_like_wins_and_controls_are_not(rows: list[Row]) -> None:
    (found,) = report_tables(rows).comparisons
    assert dict(found.tally) == {"won": 1, "tied": 1, "lost": 1, "inconclusive": 1}
    assert [line.method for line in found.matrix.lines] == [
        "mirt",
        "random",
        "carrot",
        "knn",
        "shuffled_labels",
    ]
    for words in (terminal(rows), read_page(rows).text, markdown_tables(rows, META)):
        for verdict in ("won", "tied", "lost", "inconclusive"):
            assert verdict in words


def test_presets_of_comparisons_are_told_apart() -> None:
    cells = [
        row("zerorouter", "difference:cost_save", v, policy=f"against=knn;preset={p}", note="won")
        for p, v in (("cost", 0.1), ("quality", 0.2))
    ]
    (found,) = report_tables(cells).comparisons
    assert [head.split("\n")[-1] for head in found.matrix.heads] == ["cost", "quality"]
    assert [cell.value for cell in found.matrix.lines[0].cells] == [0.1, 0.2]


def test_benchmarking_avoided_tells_calls_and_the_sentence(rows: list[Row]) -> None:
    table = report_tables(rows).sections[0].benchmarking
    assert table is not None
    assert [line.label for line in table.lines] == [
        "zerorouter, 0 (card)",
        "zerorouter, 20",
        "zerorouter, all",
    ]
    assert [line.cells[1].text for line in table.lines] == ["100.0%", "98.0%", "0.0%"]
    assert table.notes[-1] == "Benchmarking is reduced, not eliminated."


# What is missing has a reason


def test_a_missing_value_is_shown_with_its_reason(rows: list[Row]) -> None:
    nan = row("mirt", "log_loss", float("nan"), note="the fit diverged")
    for words in (
        terminal([*rows, nan]),
        read_page([*rows, nan]).text,
        markdown_tables([*rows, nan], META),
    ):
        assert NO_REASON in words
        assert "the fit diverged" in words
        assert not re.search(r"\bnan\b", words, re.IGNORECASE)


def test_a_missing_value_without_a_reason_says_so() -> None:
    text = terminal([row("knn", "auc", None), row("mf", "auc", 0.7)])
    assert "no value, and no reason was given" in text


def test_methods_that_did_not_run_are_listed(rows: list[Row]) -> None:
    for words in (terminal(rows), read_page(rows).text, markdown_tables(rows, META)):
        assert "zerorouter" in words
        assert "its weights are missing" in words
        assert "duplicate groups across the split" in words


def test_derived_costs_are_labelled(rows: list[Row]) -> None:
    assert "saved at 95%: derived cost" in terminal(rows)


@pytest.mark.parametrize("given", [[], [row("knn", "auc", 0.7, seed=3)]])
def test_a_report_of_nothing_says_so(given: list[Row]) -> None:
    for words in (terminal(given), read_page(given).text, markdown_tables(given, {})):
        assert "nothing to show" in words
    assert "nothing to show" in summary(given)["remark"]


# The page


def test_the_page_is_well_formed_and_loads_nothing(rows: list[Row]) -> None:
    text = page(rows, META, plotly_js="/* plotly */")
    found = Reader(text)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_has_every_kind_of_figure(rows: list[Row]) -> None:
    index = RowIndex(rows)
    assert frontier_figures(index, PLACE)
    assert onboarding_figures(index, PLACE)
    assert reliability_panels(index, PLACE)
    found = read_page(rows)
    plots = [attributes for _, attributes in found.tags if attributes.get("class") == "plot"]
    data = {attributes["data-for"] for _, attributes in found.tags if "data-for" in attributes}
    assert plots
    assert {attributes["id"] for attributes in plots} == data
    assert any(attributes.get("class") == "curve" for _, attributes in found.tags)


def test_names_from_data_are_escaped_everywhere(rows: list[Row]) -> None:
    evil = [
        replace(
            found,
            dataset=EVIL,
            method=EVIL if found.method == "knn" else found.method,
            policy=found.policy.replace("knn", EVIL).replace("gpt-4o", EVIL),
            note=f"{found.note} {EVIL}",
        )
        for found in rows
    ]
    text = page(evil, {"commit": EVIL, EVIL: EVIL}, plotly_js="/* plotly */")
    found = Reader(text)
    plain = Reader(page(rows, META, plotly_js="/* plotly */"))
    assert not any(tag == "img" for tag, _ in found.tags)
    assert len([tag for tag, _ in found.tags if tag == "script"]) == len(
        [tag for tag, _ in plain.tags if tag == "script"]
    )
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert EVIL in found.text
    # Plotly reads markup in text, so what it is given is escaped once more.
    for script in found.scripts:
        if script.startswith("{"):
            hover = [t for trace in json.loads(script)["data"] for t in trace.get("hovertext", [])]
            assert not any("<img" in words for words in hover)


def test_names_cannot_break_the_terminal_or_markdown() -> None:
    given = [row("[bold]a\x1b[31m|b\n", "auc", 0.7), row("knn", "auc", 0.6)]
    text = terminal(given)
    assert "\x1b" not in text
    assert "[bold]a" in text
    lines = markdown_tables(given, {}).splitlines()
    (head,) = [line for line in lines if line.startswith("| method")]
    (line,) = [line for line in lines if "bold" in line]
    assert line.replace("\\|", "").count("|") == head.count("|")


def test_hulls_in_figures_never_fall() -> None:
    points = ((1e-4, 0.5), (2e-4, 0.4), (5e-4, 0.7), (1e-3, 0.65), (2e-3, 0.72))
    given = [
        made
        for i, (cost, accuracy) in enumerate(points)
        for made in (
            row("zerorouter", "mean_cost_usd", cost, policy=f"value={i}"),
            row("zerorouter", "mean_accuracy", accuracy, policy=f"value={i}"),
        )
    ]
    (figure,) = frontier_figures(RowIndex(given), PLACE)
    (line,) = [trace for trace in figure.data if trace["mode"] == "lines"]
    assert line["y"] == sorted(line["y"])
    assert line["x"] == sorted(line["x"])
    assert max(line["y"]) == 0.72
    marks = [trace for trace in figure.data if trace["mode"] == "markers"]
    assert sorted(zip(marks[0]["x"], marks[0]["y"], strict=True)) == sorted(points)


def test_a_free_point_is_told_rather_than_drawn_on_a_logarithmic_axis() -> None:
    given = [
        made
        for policy, cost in (("value=0", 0.0), ("value=1", 0.001), ("value=2", 0.002))
        for made in (
            row("zerorouter", "mean_cost_usd", cost, policy=policy),
            row("zerorouter", "mean_accuracy", 0.5 + 100 * cost, policy=policy),
        )
    ]
    (figure,) = frontier_figures(RowIndex(given), PLACE)
    assert min(cost for trace in figure.data for cost in trace["x"]) > 0
    assert "1 point at no cost" in figure.caption


# Files


def test_the_files_stand_beside_the_rows(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    from plotly.offline import get_plotlyjs

    write_report(rows, tmp_path / "report", {**META, "duration_s": float("nan")})
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert told["meta"]["commit"] == "abc123"
    assert told["meta"]["duration_s"] is None
    assert told["acceptance"] == ["One cell is lost, so no claim is made."]
    assert told["failures"][0]["reason"] == "its weights are missing"
    panels = {panel["n_anchors"]: panel["methods"] for panel in told["headline"][0]["panels"]}
    assert panels[None]["zerorouter"]["log_loss"]["value"] == 0.44
    assert panels[20]["zerorouter · i_optimal"]["log_loss"]["value"] == 0.455
    assert (tmp_path / "report" / "report.html").read_text().count(get_plotlyjs()) == 1


def test_without_plotly_the_summary_is_still_written(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zerorouter\[plot\]'"):
        write_report(rows, tmp_path, META)
    assert (tmp_path / "summary.json").exists()
    assert not (tmp_path / "report.html").exists()


def test_every_number_of_the_summary_is_a_row(rows: list[Row]) -> None:
    known = {(r.value, r.ci_low, r.ci_high) for r in rows if r.seed is None}

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if {"value", "ci_low", "ci_high"} <= value.keys():
                assert (value["value"], value["ci_low"], value["ci_high"]) in known
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(summary(rows))


# The terminal


def test_the_terminal_tables_are_as_they_were(rows: list[Row]) -> None:
    assert terminal(rows) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_tables_fit_the_terminal_and_lose_no_value(rows: list[Row], width: int) -> None:
    many = [
        replace(found, method=f"{found.method}_with_a_long_name", n_anchors=n)
        for found in rows
        for n in (0, 5, 10, 20, 50, 100, 200, 500, None)
        if found.metric == "log_loss" and not found.policy and found.seed is None
    ]
    text = terminal(rows + many, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text or width < 80


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (number(-0.0001, like=0.1), "0.000"),
        (number(0.012, "points", signed=True), "+1.2 pp"),
        (number(0.00031, "usd"), "$0.00031"),
        (number(1420, "count"), "1,420"),
        (number(0.9999e-3, "seconds"), "1.00 ms"),
        (interval(0.1, 0.2, "share"), "10.0% to 20.0%"),
        (interval(0.0020, 0.0022, "seconds"), "2.00 to 2.20 ms"),
        (short_interval(0.00090, 0.00098, "usd"), "0.00090–0.00098"),
        (short_interval(-0.01, 0.02, "points"), "-1.0 to 2.0"),
    ],
)
def test_numbers_read_well(text: str, wanted: str) -> None:
    assert text == wanted
