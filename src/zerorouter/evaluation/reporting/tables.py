"""Tables of a report, as pure functions of its rows.

Every number in a table is a `Cell` that carries the row it was read from; nothing is averaged or
estimated here. The one derived column, calls avoided, is a ratio of two rows' values.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zerorouter.evaluation.reporting.measures import (
    MEASURES,
    Measure,
    difference,
    measure,
    number,
    shown,
)
from zerorouter.evaluation.rows import Row
from zerorouter.evaluation.statistics import VERDICTS
from zerorouter.evaluation.verdicts import POLICY

SPLITS: Mapping[str, str] = {
    "random": "random prompts",
    "time": "release date",
    "family": "held-out families",
    "task": "held-out tasks",
    "time+task": "release date and tasks",
}
"""Splits in the order of sections, with their names for people."""

POOLED = frozenset({"", "pooled", "all"})
"""Data set names that mean "over all data sets"; they are shown last."""

CEILINGS = frozenset({"oracle"})
CONTROLS = frozenset({"shuffled_labels", "random_features"})
HEADLINE_ANCHORS = 20
"""Labels per newcomer of the second headline panel."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Prediction": ("log_loss", "brier", "auc", "ece"),
    "Savings": ("cost_save_100", "cost_save_99", "cost_save_95", "aiq"),
    "Operating points": ("accuracy_at_matched_cost", "perf_gain", "routerarena", "regret"),
    "One point": ("mean_accuracy", "mean_cost_usd", "mean_latency_s"),
    "Weak and strong model": ("pgr", "apgr", "cpt"),
    "Pooled ranking": ("auc_pooled",),
    "Service": ("overhead_p50_s", "overhead_p99_s"),
    "Safety": ("bad_newcomer_harm", "interval_coverage", "constraint_violation", "duality_gap"),
}
"""Headline tables: at most four columns each, so that intervals fit on a terminal."""

ONBOARDING = ("log_loss", "auc", "regret", "cost_save_100", "cost_save_99", "cost_save_95")
"""Metrics whose curves over anchors come first; others follow as `MEASURES` lists them."""

_NOT_SCALAR = re.compile(r"(reliability_|difference:|dropped_|excluded_|kept_)")
_WORDS_ONLY = frozenset({"status", "acceptance", "verdict"})
_COUNTED = frozenset({"calls", "usd"})
_EXCLUSION = re.compile(r"(dropped_|excluded_|kept_)")


NO_MEASURE = Measure(label="")


_MAX_REASONS = 6  # under a matrix; the page has each in its cell


class Place(NamedTuple):
    """Where rows belong: a section of the report."""

    dataset: str
    split: str

    @property
    def title(self) -> str:
        """The section's heading."""
        dataset = "all data sets" if self.dataset in POOLED else shown(self.dataset)
        return f"{dataset}, {split_name(self.split)}" if self.split else dataset


class Line(NamedTuple):
    """One line of a table: a method, and how its anchors were chosen where that was varied."""

    method: str
    arm: str = ""

    @property
    def label(self) -> str:
        """The line's heading."""
        return shown(f"{self.method} · {self.arm}" if self.arm else self.method)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One entry of a table.

    Attributes:
        row: The row that holds the number; None for words and for what was not measured.
        measure: How the number is read.
        text: Words instead of a number.
        order: What to sort by where there is no row.
        best: Whether no other method did better, by the point estimate.
        verdict: ``won``, ``tied``, ``lost`` or ``inconclusive`` for a comparison.
        footnote: Number of the note that says why the value is missing.
    """

    row: Row | None = None
    measure: Measure = NO_MEASURE
    text: str = ""
    order: float | None = None
    best: bool = False
    verdict: str = ""
    footnote: int = 0

    @property
    def value(self) -> float | None:
        """The number, if there is one."""
        return self.row.value if self.row is not None else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval, if there is one; a count that is known exactly needs none."""
        if self.row is None or self.row.ci_low is None or self.row.ci_high is None:
            return None
        if self.row.ci_low == self.row.ci_high == self.row.value:
            return None
        return self.row.ci_low, self.row.ci_high


@dataclass(frozen=True, kw_only=True)
class TableLine:
    """One line of a table.

    Attributes:
        label: Its heading.
        cells: One per column.
        method: The method it is about, or ``""``.
        aside: Whether it is a ceiling or a control, which never counts as best.
    """

    label: str
    cells: tuple[Cell, ...]
    method: str = ""
    aside: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that any renderer can draw.

    Attributes:
        title: What it shows.
        corner: Heading of the column of labels.
        heads: Headings of the other columns; a line break separates their parts.
        lines: Lines in their order.
        notes: Sentences below it.
        words: Whether its cells are words rather than numbers.
    """

    title: str
    corner: str
    heads: tuple[str, ...]
    lines: tuple[TableLine, ...]
    notes: tuple[str, ...] = ()
    words: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """All tables of one data set and split."""

    place: Place
    headline: tuple[Table, ...]
    presets: tuple[Table, ...]
    onboarding: tuple[Table, ...]
    benchmarking: Table | None
    sentences: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Them all, in their order."""
        avoided = (self.benchmarking,) if self.benchmarking else ()
        return (*self.headline, *self.presets, *self.onboarding, *avoided)


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """One method against every other, by one metric."""

    method: str
    metric: str
    matrix: Table
    tally: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ReportTables:
    """Everything that a report says, before it is rendered.

    Attributes:
        acceptance: Sentences of the acceptance rule.
        tally: How many comparisons were won, tied, lost and inconclusive, by metric.
        comparisons: Who wins where.
        sections: Data sets and splits.
        failures: Methods that could not run, with reasons.
        exclusions: What the leakage check and other rules left out.
        remark: Why there is nothing to show, or what is unusual about the rows.
    """

    acceptance: tuple[str, ...]
    tally: Table | None
    comparisons: tuple[Comparisons, ...]
    sections: tuple[Section, ...]
    failures: Table | None
    exclusions: Table | None
    remark: str = ""


class RowIndex:
    """Rows by place and metric. Tables use aggregated rows only; of equal keys the last counts."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        by_key: dict[tuple[object, ...], Row] = {}
        for row in self.rows:
            if row.seed is None:
                key = (row.dataset, row.split, row.method, row.policy, row.n_anchors, row.metric)
                by_key[key] = row
        self.aggregated = tuple(by_key.values())
        grouped: dict[tuple[Place, str], list[Row]] = defaultdict(list)
        for row in self.aggregated:
            grouped[Place(row.dataset, row.split), row.metric].append(row)
        self._grouped = grouped

    def at(self, place: Place, metric: str) -> Sequence[Row]:
        """Aggregated rows of one metric at one place."""
        return self._grouped.get((place, metric), ())

    def metrics(self, place: Place) -> list[str]:
        """Metrics with rows at the place, known ones first and in their order."""
        found = {metric for where, metric in self._grouped if where == place}
        known = [metric for metric in MEASURES if metric in found]
        return known + sorted(found - set(known))

    def places(self) -> list[Place]:
        """Data sets and splits that have something to show, in the order of sections."""
        told = {place for place, metric in self._grouped if not _EXCLUSION.match(metric)}
        return sorted(told, key=place_order)


def place_order(place: Place) -> tuple[object, ...]:
    """Sort key: data sets by name, pooled ones last, splits in their usual order."""
    splits = list(SPLITS)
    rank = splits.index(place.split) if place.split in splits else len(splits)
    return place.dataset in POOLED, place.dataset, rank, place.split


def split_name(split: str) -> str:
    """A split as people call it."""
    return SPLITS.get(split, shown(split))


def anchors_name(n_anchors: int | None) -> str:
    """``all`` or the number of labels."""
    return "all" if n_anchors is None else str(n_anchors)


def anchor_order(n_anchors: int | None) -> float:
    """Sort key: by number, all labels last."""
    return float("inf") if n_anchors is None else n_anchors


def policy_parts(policy: str) -> dict[str, str]:
    """``against=knn;preset=cost`` as a mapping; words without ``=`` are kept as keys."""
    parts = (part.strip() for part in re.split("[,;]", policy))
    return {key: value for key, _, value in (part.partition("=") for part in parts if part)}


def is_preset(policy: str) -> bool:
    """Whether a policy is a named preset rather than a point of a sweep or a single model."""
    return bool(policy) and "=" not in policy and ":" not in policy


def is_ours(method: str) -> bool:
    """Whether a method is ours; the reproductions of the paper are baselines."""
    return method.startswith("zerorouter") and not method.startswith("zerorouter_paper")


def spelled(cell: Cell) -> str:
    """The number of a cell, as precise as its interval is."""
    if cell.value is None:
        return ""
    like = max(map(abs, cell.bounds)) if cell.bounds else 0.0
    return number(cell.value, cell.measure.unit, like=like)


def is_counted(method: str, opponent: str) -> bool:
    """Whether a comparison says anything about rivals: variants of a method and controls do not."""
    if opponent in CEILINGS | CONTROLS:
        return False
    return not (is_ours(method) and is_ours(opponent))


def report_tables(rows: Iterable[Row]) -> ReportTables:
    """All tables of a report."""
    index = RowIndex(rows)
    comparisons = _comparisons(index)
    sections = (_section(index, place) for place in index.places())
    return ReportTables(
        acceptance=_acceptance(index),
        tally=_tally(comparisons),
        comparisons=comparisons,
        sections=tuple(found for found in sections if found.tables or found.sentences),
        failures=_failures(index),
        exclusions=_exclusions(index),
        remark=_remark(index),
    )


def _remark(index: RowIndex) -> str:
    if not index.rows:
        return "There are no result rows, so there is nothing to show."
    if not index.aggregated:
        return (
            f"None of the {len(index.rows):,} result rows is aggregated over seeds (seed: null), "
            "so there is nothing to show; the run was probably cut short."
        )
    return ""


def _section(index: RowIndex, place: Place) -> Section:
    return Section(
        place=place,
        headline=_headline(index, place),
        presets=_presets(index, place),
        onboarding=_onboarding(index, place),
        benchmarking=_benchmarking(index, place),
        sentences=_sentences(index, place),
    )


# Methods by metrics


def _scalars(index: RowIndex, place: Place) -> list[str]:
    """Metrics of one number per method, or per method and number of anchors."""
    special = _WORDS_ONLY | _COUNTED
    return [
        metric
        for metric in index.metrics(place)
        if metric not in special and not _NOT_SCALAR.match(metric)
    ]


def lines_of(rows: Iterable[Row]) -> dict[Line, dict[int | None, Row]]:
    """Rows without a policy, or with an anchor arm, by line and number of anchors.

    With no labels and with all of them no anchors are chosen, so there the arms of a method share
    its row without a policy.
    """
    plain: dict[str, dict[int | None, Row]] = defaultdict(dict)
    arms: dict[Line, dict[int | None, Row]] = defaultdict(dict)
    for row in rows:
        if not row.policy:
            plain[row.method][row.n_anchors] = row
        elif set(policy_parts(row.policy)) == {"anchors"}:
            arms[Line(row.method, policy_parts(row.policy)["anchors"])][row.n_anchors] = row
    by_line = dict(arms)
    for method, found in plain.items():
        own = [line for line in arms if line.method == method]
        shared = {n: row for n, row in found.items() if n in (0, None)}
        for line in own:
            by_line[line] = shared | arms[line]
        if not own or set(found) - set(shared):
            by_line[Line(method)] = found
    return by_line


def _headline(index: RowIndex, place: Place) -> tuple[Table, ...]:
    metrics = _scalars(index, place)
    grouped = {name: [m for m in group if m in metrics] for name, group in GROUPS.items()}
    named = {metric for group in GROUPS.values() for metric in group}
    rest = [metric for metric in metrics if metric not in named]
    for start in range(0, len(rest), 4):
        grouped["Other" if not start else f"Other ({start // 4 + 1})"] = rest[start : start + 4]
    made = (
        _panel(index, place, name, group, n_anchors)
        for n_anchors in _panels(index, place, metrics)
        for name, group in grouped.items()
    )
    return tuple(table for table in made if table is not None)


def _panels(index: RowIndex, place: Place, metrics: Sequence[str]) -> list[int | None]:
    """Numbers of anchors that get headline tables: 20 or the nearest to it, and all labels."""
    counts = {row.n_anchors for metric in metrics for row in index.at(place, metric)}
    few = sorted(
        (n for n in counts if n is not None),
        key=lambda n: (n == 0, abs(n - HEADLINE_ANCHORS), n),
    )
    everything = [None] if None in counts else []
    return [*few[:1], *everything]


def _panel(
    index: RowIndex, place: Place, name: str, metrics: Sequence[str], n_anchors: int | None
) -> Table | None:
    found: dict[Line, dict[str, Row]] = defaultdict(dict)
    for metric in metrics:
        for line, by_count in lines_of(index.at(place, metric)).items():
            if n_anchors in by_count:
                # With all labels there are no anchors, and so no arms.
                key = Line(line.method) if n_anchors in (0, None) else line
                found[key][metric] = by_count[n_anchors]
    columns = [metric for metric in metrics if any(metric in cells for cells in found.values())]
    return _measured_table(f"{name}: {place.title}, {_given(n_anchors)}", found, columns)


def _presets(index: RowIndex, place: Place) -> tuple[Table, ...]:
    """A table per preset, and one of the points that only one method has under that name."""
    found: dict[tuple[str, int | None], dict[Line, dict[str, Row]]] = {}
    for metric in _scalars(index, place):
        for row in index.at(place, metric):
            if is_preset(row.policy):
                panel = found.setdefault((row.policy, row.n_anchors), defaultdict(dict))
                panel[Line(row.method)][metric] = row
    lonely: dict[int | None, dict[Line, dict[str, Row]]] = defaultdict(dict)
    made = []
    for preset, n_anchors in sorted(found, key=lambda key: (anchor_order(key[1]), key[0])):
        panel = found[preset, n_anchors]
        if len(panel) == 1:
            ((line, cells),) = panel.items()
            lonely[n_anchors][Line(line.method, preset)] = cells
        else:
            made.append(_preset_table(f"Preset {shown(preset)}", panel, place, n_anchors))
    made += [
        _preset_table("Own operating points", lonely[n], place, n)
        for n in sorted(lonely, key=anchor_order)
    ]
    return tuple(table for table in made if table is not None)


def _preset_table(
    name: str, found: Mapping[Line, Mapping[str, Row]], place: Place, n_anchors: int | None
) -> Table | None:
    measured = {metric for cells in found.values() for metric in cells}
    first = [m for m in ("mean_accuracy", "mean_cost_usd", "mean_latency_s") if m in measured]
    rest = sorted(measured - set(first), key=lambda m: (m not in MEASURES, m))
    return _measured_table(f"{name}: {place.title}, {_given(n_anchors)}", found, first + rest)


def _given(n_anchors: int | None) -> str:
    return "all labels" if n_anchors is None else f"{n_anchors} labels per newcomer"


def _onboarding(index: RowIndex, place: Place) -> tuple[Table, ...]:
    made = (_onboarding_table(index, place, metric) for metric in onboarding_metrics(index, place))
    return tuple(table for table in made if table is not None)


def onboarding_lines(
    index: RowIndex, place: Place, metric: str
) -> dict[Line, dict[int | None, Row]]:
    """Lines of the onboarding curve of a metric; empty below three counts, which have panels."""
    by_line = lines_of(index.at(place, metric))
    counts = {n for by_count in by_line.values() for n in by_count}
    if len(counts) < 3:
        return {}
    return {
        line: by_count for line, by_count in by_line.items() if any(n is not None for n in by_count)
    }


def onboarding_metrics(index: RowIndex, place: Place) -> list[str]:
    """Metrics that were measured at three numbers of anchors or more."""
    metrics = _scalars(index, place)
    ordered = [m for m in ONBOARDING if m in metrics] + [m for m in metrics if m not in ONBOARDING]
    return [metric for metric in ordered if onboarding_lines(index, place, metric)]


def _onboarding_table(index: RowIndex, place: Place, metric: str) -> Table | None:
    by_line = onboarding_lines(index, place, metric)
    if not by_line:
        return None
    counts = sorted({n for found in by_line.values() for n in found}, key=anchor_order)
    told = measure(metric)
    cells = {
        line: {anchors_name(n): row for n, row in found.items()} for line, found in by_line.items()
    }
    # Methods are ranked where newcomers are judged: at 20 labels, or the nearest count to it.
    ranked = _panels(index, place, [metric])[0]
    return _measured_table(
        f"Onboarding by {told.label}: {place.title}, by labels per newcomer",
        cells,
        [anchors_name(n) for n in counts],
        measures={anchors_name(n): told for n in counts},
        heads=[anchors_name(n) for n in counts],
        rank_by=anchors_name(ranked),
    )


def _measured_table(
    title: str,
    found: Mapping[Line, Mapping[str, Row]],
    columns: Sequence[str],
    *,
    measures: Mapping[str, Measure] | None = None,
    heads: Sequence[str] | None = None,
    rank_by: str | None = None,
) -> Table | None:
    if not found or not columns:
        return None
    read = {column: (measures or {}).get(column) or measure(column) for column in columns}
    notes = _Notes()
    best = {column: _best(found, column, read[column]) for column in columns}
    lines = []
    for line in sorted(found, key=_ranking(found, [rank_by] if rank_by else columns, read)):
        cells = tuple(
            _cell(found[line].get(column), read[column], best[column], line, notes)
            for column in columns
        )
        aside = line.method in CEILINGS | CONTROLS
        label = f"{line.label} †" if aside else line.label
        lines.append(TableLine(label=label, cells=cells, method=line.method, aside=aside))
    if any(line.aside for line in lines):
        notes.say("† a ceiling or a control, never the best")
    for sentence in _labels(found, columns, read):
        notes.say(sentence)
    return Table(
        title=title,
        corner="method",
        heads=tuple(heads or (read[column].label for column in columns)),
        lines=tuple(lines),
        notes=notes.sentences,
    )


class _Notes:
    """Numbered reasons first, then sentences, each once."""

    def __init__(self) -> None:
        self._reasons: list[str] = []
        self._sentences: list[str] = []

    def number(self, reason: str) -> int:
        if reason not in self._reasons:
            self._reasons.append(reason)
        return self._reasons.index(reason) + 1

    def say(self, sentence: str) -> None:
        if sentence not in self._sentences:
            self._sentences.append(sentence)

    @property
    def sentences(self) -> tuple[str, ...]:
        reasons = (f"{superscript(i)} {reason}" for i, reason in enumerate(self._reasons, 1))
        return (*reasons, *self._sentences)


def superscript(i: int) -> str:
    """A footnote mark: ``12`` as ``¹²``."""
    return str(i).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _cell(row: Row | None, read: Measure, best: float | None, line: Line, notes: _Notes) -> Cell:
    if row is None:
        return Cell(measure=read)
    if row.value is None:
        reason = shown(row.note) or "no value, and no reason was given"
        return Cell(row=row, measure=read, footnote=notes.number(reason))
    counts = line.method not in CEILINGS | CONTROLS
    return Cell(row=row, measure=read, best=counts and row.value == best)


def _best(found: Mapping[Line, Mapping[str, Row]], column: str, read: Measure) -> float | None:
    values = [
        cells[column].value
        for line, cells in found.items()
        if column in cells and line.method not in CEILINGS | CONTROLS
    ]
    numbers = [value for value in values if value is not None]
    if read.higher_is_better is None or len(numbers) < 2:
        return None
    return max(numbers) if read.higher_is_better else min(numbers)


def _ranking(
    found: Mapping[Line, Mapping[str, Row]], columns: Sequence[str], read: Mapping[str, Measure]
) -> Callable[[Line], tuple[object, ...]]:
    """Best first by the first column; lines without it follow, ranked by the next one."""

    def key(line: Line) -> tuple[object, ...]:
        for place, column in enumerate(columns):
            row = found[line].get(column)
            if row is not None and row.value is not None:
                return place, -row.value if read[column].higher_is_better else row.value, line.label
        return len(columns), 0.0, line.label

    return key


def _labels(
    found: Mapping[Line, Mapping[str, Row]], columns: Sequence[str], read: Mapping[str, Measure]
) -> list[str]:
    """Labels that values carry, such as "derived cost", with the columns they hold for."""
    carried: dict[str, list[str]] = defaultdict(list)
    bearers: dict[str, set[str]] = defaultdict(set)
    for line, cells in found.items():
        for column in columns:
            row = cells.get(column)
            if row is not None and row.value is not None and row.note:
                carried[row.note].append(column)
                bearers[row.note].add(line.label)
    sentences = []
    for note, found_in in sorted(carried.items()):
        heads = list(dict.fromkeys(read[c].label for c in columns if c in found_in))
        valued = {
            line.label
            for line, cells in found.items()
            if any(c in cells and cells[c].value is not None for c in found_in)
        }
        who = sorted(bearers[note])
        several = f" ({', '.join(who[:4])}{' …' * (len(who) > 4)})"
        about = "" if bearers[note] == valued else several
        sentences.append(f"{', '.join(heads)}{about}: {shown(note)}")
    return sentences


# Who wins where


def _comparisons(index: RowIndex) -> tuple[Comparisons, ...]:
    grouped: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in index.aggregated:
        if row.metric.startswith("difference:"):
            grouped[row.method, row.metric.removeprefix("difference:")].append(row)
    order = list(MEASURES)

    def rank(key: tuple[str, str]) -> tuple[object, ...]:
        method, metric = key
        return not is_ours(method), method, order.index(metric) if metric in order else 99, metric

    return tuple(_comparison(*key, grouped[key]) for key in sorted(grouped, key=rank))


def verdict_of(row: Row) -> str:
    """The verdict that a comparison's note opens with, or ``""`` where it names none."""
    word = re.split(r"\W", row.note.strip(), maxsplit=1)[0].lower()
    return word if word in VERDICTS else ""


def _comparison(method: str, metric: str, rows: Sequence[Row]) -> Comparisons:
    context_of = {id(row): _context(row) for row in rows}
    contexts = sorted(set(context_of.values()))
    by_opponent: dict[str, dict[tuple[object, ...], Row]] = defaultdict(dict)
    for row in rows:
        by_opponent[policy_parts(row.policy).get("against", row.policy)][context_of[id(row)]] = row
    read = difference(measure(metric))
    notes = _Notes()

    def hardest_first(opponent: str) -> tuple[object, ...]:
        seen = Counter(verdict_of(row) for row in by_opponent[opponent].values())
        losses_first = -seen["lost"], -seen["inconclusive"], -seen["tied"]
        return not is_counted(method, opponent), *losses_first, opponent

    lines = tuple(
        TableLine(
            label=shown(opponent) + " †" * (not is_counted(method, opponent)),
            cells=tuple(
                _verdict_cell(by_opponent[opponent].get(context), read, notes)
                for context in contexts
            ),
            method=opponent,
            aside=not is_counted(method, opponent),
        )
        for opponent in sorted(by_opponent, key=hardest_first)
    )
    counted = [line for line in lines if not line.aside]
    tally = Counter(cell.verdict for line in counted for cell in line.cells if cell.verdict)
    if len(counted) < len(lines):
        notes.say("† a variant, control or ceiling, not counted among the verdicts")
    reasons = sorted({shown(row.note) for row in rows if _says_more(row)})
    for reason in reasons[:_MAX_REASONS]:
        notes.say(reason)
    matrix = Table(
        title=f"{shown(method)} against each method, by {read.label}",
        corner="against",
        heads=tuple(str(context[-1]) for context in contexts),
        lines=lines,
        notes=(
            *notes.sentences,
            f"a positive difference means that {shown(method)} is better; intervals hold for all "
            "cells at once",
        ),
    )
    return Comparisons(
        method=method, metric=metric, matrix=matrix, tally={v: tally[v] for v in VERDICTS}
    )


def _says_more(row: Row) -> bool:
    """Whether a comparison's note gives a reason beside its verdict."""
    return row.value is not None and bool(row.note) and row.note.strip().lower() not in VERDICTS


def _context(row: Row) -> tuple[object, ...]:
    parts = re.split("[,;]", row.policy)
    extra = [part for part in parts if part and not part.startswith("against=")]
    place = Place(row.dataset, row.split)
    head = place.title.split(", ", 1)
    head.append("all labels" if row.n_anchors is None else f"{row.n_anchors} labels")
    head += [shown(part.partition("=")[2] or part) for part in extra]
    return (*place_order(place), anchor_order(row.n_anchors), ",".join(extra), "\n".join(head))


def _verdict_cell(row: Row | None, read: Measure, notes: _Notes) -> Cell:
    if row is None:
        return Cell(measure=read)
    if row.value is None:
        reason = shown(row.note) or "no value, and no reason was given"
        return Cell(row=row, measure=read, verdict=verdict_of(row), footnote=notes.number(reason))
    text = number(row.value, read.unit, signed=True)
    return Cell(row=row, measure=read, text=text, verdict=verdict_of(row))


def _tally(comparisons: Sequence[Comparisons]) -> Table | None:
    if not comparisons:
        return None
    lines = tuple(
        TableLine(
            label=f"{shown(found.method)}, {measure(found.metric).label}",
            cells=tuple(
                Cell(text=str(found.tally[verdict]), order=found.tally[verdict], verdict=verdict)
                for verdict in VERDICTS
            ),
            method=found.method,
        )
        for found in comparisons
    )
    return Table(
        title="Comparisons by verdict", corner="method, metric", heads=VERDICTS, lines=lines
    )


# Sentences, benchmarking avoided, what is missing


def _acceptance(index: RowIndex) -> tuple[str, ...]:
    rows = [row for row in index.aggregated if row.metric == "acceptance" and row.note.strip()]
    rows.sort(key=lambda row: (row.dataset not in POOLED, *place_order(_place(row))))
    named = len({_place(row) for row in rows}) > 1
    told = []
    for row in rows:
        first, *rest = _lines_of_text(row.note)
        told += [f"{_place(row).title}: {first}" if named else first, *rest]
    return tuple(told)


def _lines_of_text(text: str) -> list[str]:
    return [shown(line) for line in text.splitlines() if line.strip()]


def _place(row: Row) -> Place:
    return Place(row.dataset, row.split)


def _sentences(index: RowIndex, place: Place) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            line for row in index.at(place, "verdict") for line in _lines_of_text(row.note)
        )
    )


def _benchmarking(index: RowIndex, place: Place) -> Table | None:
    calls = lines_of(index.at(place, "calls"))
    if not calls:
        return None
    dollars = lines_of(index.at(place, "usd"))
    regrets = lines_of(index.at(place, "regret"))
    for at_preset in index.at(place, "regret"):
        if at_preset.policy == POLICY:
            regrets.setdefault(Line(at_preset.method), {})[at_preset.n_anchors] = at_preset
    notes = _Notes()
    lines = []
    everything = next((row for by_n in calls.values() if (row := by_n.get(None))), None)
    for line in sorted(calls, key=lambda line: (not is_ours(line.method), line)):
        full = calls[line].get(None, everything)
        for n in sorted(calls[line], key=anchor_order):
            row = calls[line][n]
            cells = (
                _cell(row, measure("calls"), None, line, notes),
                _avoided(row, full),
                _cell(_matching(dollars, line, n), measure("usd"), None, line, notes),
                _cell(_matching(regrets, line, n), measure("regret"), None, line, notes),
            )
            label = f"{line.label}, {_labels_known(line.method, n)}"
            lines.append(TableLine(label=label, cells=cells, method=line.method))
    return Table(
        title=f"Benchmarking avoided: {place.title}",
        corner="method, labels per newcomer",
        heads=("calls", "avoided", "dollars", "regret"),
        lines=tuple(lines),
        notes=(*notes.sentences, *_sentences(index, place)),
    )


def _labels_known(method: str, n_anchors: int | None) -> str:
    if method == "zerorouter_scores" and n_anchors is not None:
        return f"{n_anchors} + published scores"
    return "0 (card)" if n_anchors == 0 and is_ours(method) else anchors_name(n_anchors)


def _matching(
    by_line: Mapping[Line, Mapping[int | None, Row]], line: Line, n_anchors: int | None
) -> Row | None:
    """The row of the same line; else of the method's only arm, or of its stratified one."""
    if line in by_line:
        return by_line[line].get(n_anchors)
    others = sorted(other for other in by_line if other.method == line.method)
    stratified = [other for other in others if other.arm == "stratified"]
    chosen = stratified or others[:1]
    return by_line[chosen[0]].get(n_anchors) if chosen else None


def _avoided(row: Row, full: Row | None) -> Cell:
    if full is None or not full.value or row.value is None:
        return Cell()
    share = 1 - row.value / full.value
    return Cell(text=number(share, "share"), order=share)


def _failures(index: RowIndex) -> Table | None:
    where: dict[tuple[str, str], set[Place]] = defaultdict(set)
    for row in index.rows:
        if row.metric == "status" and row.value is None:
            where[row.method, shown(row.note) or "no reason was given"].add(_place(row))
    lines = tuple(
        TableLine(
            label=shown(method),
            cells=(Cell(text=_listed(places)), Cell(text=reason)),
            method=method,
        )
        for (method, reason), places in sorted(where.items(), key=lambda item: item[0])
    )
    if not lines:
        return None
    return Table(
        title="Did not run", corner="method", heads=("where", "reason"), lines=lines, words=True
    )


def _listed(places: Iterable[Place]) -> str:
    return "; ".join(place.title for place in sorted(places, key=place_order))


def _exclusions(index: RowIndex) -> Table | None:
    found = [row for row in index.rows if _EXCLUSION.match(row.metric)]
    found.sort(key=lambda row: (place_order(_place(row)), row.metric, row.seed or 0))
    lines = dict.fromkeys(
        TableLine(
            label=_place(row).title,
            cells=(
                Cell(text=shown(row.metric).replace("_", " ")),
                Cell(
                    text="–" if row.value is None else number(row.value, "count"), order=row.value
                ),
                Cell(text=shown(row.note)),
            ),
        )
        for row in found
    )
    if not lines:
        return None
    return Table(
        title="Leakage check and exclusions",
        corner="where",
        heads=("what", "count", "note"),
        lines=tuple(lines),
        words=True,
    )
