"""Figures of a report, as pure functions of its rows.

A figure is data and layout in plotly's JSON, with colours left open: ``@0`` to ``@7``, ``@ink``,
``@muted`` are filled in by the page for light, dark and paper, ``@3/0.1`` with an opacity. Names
are escaped here, because plotly reads markup in text.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from zerorouter.evaluation.metrics.frontier import Frontier
from zerorouter.evaluation.reporting.measures import interval, measure, number, shown
from zerorouter.evaluation.reporting.tables import (
    CONTROLS,
    Line,
    Place,
    RowIndex,
    anchor_order,
    anchors_name,
    is_ours,
    onboarding_lines,
    onboarding_metrics,
    policy_parts,
)
from zerorouter.evaluation.rows import Row

Trace: TypeAlias = dict[str, Any]

SINGLE_MODELS = "single_models"

_LOOKS: Mapping[str, tuple[str, str]] = {
    "zerorouter": ("0", "solid"),
    "zerorouter_scores": ("0", "dash"),
    "zerorouter_full": ("0", "dot"),
    "zerorouter_onnx": ("0", "dashdot"),
    "zerorouter_paper": ("1", "solid"),
    "zerorouter_paper_tuned": ("1", "dash"),
    "knn": ("2", "solid"),
    "knn_warm": ("2", "dash"),
    "kmeans": ("3", "solid"),
    "avengers_pro": ("3", "dash"),
    "carrot": ("4", "solid"),
    "mirt": ("5", "solid"),
    "radar": ("5", "dash"),
    "mf": ("6", "solid"),
    "oracle": ("ink", "dash"),
    "best_single": ("ink", "solid"),
    "cheapest": ("ink", "dot"),
    "random": ("muted", "solid"),
    "length_only": ("muted", "dash"),
    "shuffled_labels": ("muted", "dot"),
    "random_features": ("muted", "dashdot"),
    SINGLE_MODELS: ("muted", "solid"),
}
"""Colour and dash of the known methods, the same in every figure of every report."""

_ARM_LOOKS: Mapping[str, tuple[str, str]] = {
    "i_optimal": ("solid", "circle"),
    "d_optimal": ("dash", "square"),
    "stratified": ("dot", "diamond"),
    "random": ("dashdot", "x"),
}
_QUIET = CONTROLS | {"random", "length_only"}
"""Methods that a figure starts without; a click on the legend brings them in."""

_HULL_STEPS = 12
_RELIABILITY_COUNTS = (0, 20, None)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a method is drawn."""

    color: str
    dash: str
    symbol: str = "circle"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        title: What it shows.
        caption: How to read it.
        data: Traces in plotly's JSON, colours open.
        layout: Layout in plotly's JSON, without theme.
        methods: Legend entries in their order, as (name, look, shown at first).
    """

    title: str
    caption: str
    data: tuple[Trace, ...]
    layout: dict[str, Any]
    methods: tuple[tuple[str, Look, bool], ...]


@dataclass(frozen=True, kw_only=True)
class ReliabilityPoint:
    """One bin: mean P(correct), frequency with its interval, and its observations."""

    p: float
    y: float
    low: float | None
    high: float | None
    n: float


@dataclass(frozen=True, kw_only=True)
class ReliabilityPanel:
    """One method's diagram: its bins by number of anchors."""

    method: str
    curves: Mapping[int | None, tuple[ReliabilityPoint, ...]]
    ece: Mapping[int | None, Row]


def look_of(line: Line) -> Look:
    """Colour and dash of a method; methods that are not known get one by their name."""
    spare = sum(line.method.encode())
    color, dash = _LOOKS.get(line.method, ("7", ("solid", "dash", "dot", "dashdot")[spare % 4]))
    symbol = "circle"
    if line.arm:
        dash, symbol = _ARM_LOOKS.get(line.arm, (dash, "cross"))
    return Look(color=f"@{color}", dash=dash, symbol=symbol)


# Frontiers


def frontier_figures(index: RowIndex, place: Place) -> list[Figure]:
    """One figure per number of anchors at which both accuracy and cost were measured."""
    accuracy = {_point_key(row): row for row in index.at(place, "mean_accuracy")}
    cost = {_point_key(row): row for row in index.at(place, "mean_cost_usd")}
    by_count: dict[int | None, dict[str, list[tuple[Row, Row]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for key in sorted(accuracy.keys() & cost.keys(), key=str):
        pair = (cost[key], accuracy[key])
        if all(row.value is not None for row in pair):
            by_count[pair[0].n_anchors][pair[0].method].append(pair)
    # Single models need no labels: they stand in every panel that has none of its own.
    singles = by_count.get(None, {}).get(SINGLE_MODELS, [])
    figures = []
    for n_anchors in sorted(by_count, key=anchor_order):
        found = by_count[n_anchors]
        if singles and SINGLE_MODELS not in found:
            found[SINGLE_MODELS] = singles
        figures.append(_frontier(place, n_anchors, found))
    return figures


def _point_key(row: Row) -> tuple[object, ...]:
    return row.method, row.policy, row.n_anchors


def _frontier(
    place: Place, n_anchors: int | None, found: Mapping[str, Sequence[tuple[Row, Row]]]
) -> Figure:
    traces: list[Trace] = []
    named: list[Trace] = []  # points with their names, above all lines
    methods: list[tuple[str, Look, bool]] = []
    free = 0
    for method in sorted(found, key=_drawing_order):
        pairs = [(cost, acc) for cost, acc in found[method] if (cost.value or 0.0) > 0]
        free += len(found[method]) - len(pairs)
        if not pairs:
            continue
        look = look_of(Line(method))
        if method == SINGLE_MODELS:
            look = replace(look, symbol="circle-open")
            named += _single_models(pairs)
        elif len(pairs) == 1:
            look = replace(look, symbol="diamond")
            named += _single_point(method, pairs[0], look)
        else:
            traces += _curve_of_points(method, pairs, look)
        methods.append((method, look, method not in _QUIET))
    labels = "all labels" if n_anchors is None else f"{n_anchors} labels per newcomer"
    caption = (
        "Lines are non-decreasing convex hulls, which mixtures of operating points reach; they "
        "bend because the cost axis is logarithmic. Small marks are the operating points."
    )
    if any(name == SINGLE_MODELS for name, _, _ in methods):
        caption += " Hollow circles are single models, named where none is cheaper and better."
    notes = {row.note for pairs in found.values() for pair in pairs for row in pair if row.note}
    if notes:
        caption += f" Costs and accuracies are labelled: {'; '.join(sorted(map(shown, notes)))}."
    if free:
        caption += f" {free} point{'s' * (free > 1)} at no cost cannot be drawn on this axis."
    return Figure(
        title=f"Cost and accuracy: {place.title}, {labels}",
        caption=caption,
        data=(*traces, *named),
        layout={
            "xaxis": {
                "type": "log",
                "title": {"text": "mean cost per prompt (logarithmic)"},
                **_dollar_ticks(traces + named),
            },
            "yaxis": {"title": {"text": "mean accuracy"}, "tickformat": ".0%"},
        },
        methods=tuple(_legend_order(methods)),
    )


def _dollar_ticks(traces: Iterable[Trace]) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 times the powers of ten, over the costs and a little beyond."""
    costs = [cost for trace in traces for cost in trace["x"]]
    if not costs:
        return {}
    low, high = math.log10(min(costs)), math.log10(max(costs))
    pad = 0.06 * max(high - low, 1.0)
    steps = (1, 2, 5) if high - low < 2.5 else (1, 3)
    ticks = [
        (step * 10.0**power, f"${step * 10.0**power:,.{max(0, -power)}f}")
        for power in range(math.floor(low - pad), math.ceil(high + pad) + 1)
        for step in steps
    ]
    return {
        "range": [low - pad, high + pad],
        "tickvals": [value for value, _ in ticks],
        "ticktext": [text for _, text in ticks],
    }


def _drawing_order(method: str) -> tuple[object, ...]:
    """Single models at the back, ours in front."""
    return method != SINGLE_MODELS, is_ours(method), method == "zerorouter", method


def _legend_order(methods: list[tuple[str, Look, bool]]) -> list[tuple[str, Look, bool]]:
    return sorted(methods, key=lambda entry: (not is_ours(entry[0]), not entry[2], entry[0]))


def _shared(method: str) -> Trace:
    return {
        "type": "scatter",
        "legendgroup": method,
        "name": escape(shown(method)),
        "visible": "legendonly" if method in _QUIET else True,
    }


def _single_point(method: str, pair: tuple[Row, Row], look: Look) -> list[Trace]:
    cost, accuracy = pair
    return [
        {
            **_shared(method),
            "mode": "markers+text",
            "x": [cost.value],
            "y": [accuracy.value],
            "text": [escape(shown(method))],
            "textposition": "top center",
            "textfont": {"color": look.color},
            "hovertext": [_point_text(cost, accuracy)],
            "hoverinfo": "text",
            "marker": {"color": look.color, "size": 11, "symbol": look.symbol},
        }
    ]


def _curve_of_points(method: str, pairs: Sequence[tuple[Row, Row]], look: Look) -> list[Trace]:
    points = [(cost.value or 0.0, acc.value or 0.0) for cost, acc in pairs]
    ours = is_ours(method)
    dense = _densely(_hull(points))
    widest = max(cost for cost, _ in points)
    if dense[-1][0] < widest:
        dense.append((widest, dense[-1][1]))
    line: Trace = {
        **_shared(method),
        "mode": "lines",
        "x": [cost for cost, _ in dense],
        "y": [accuracy for _, accuracy in dense],
        "hoverinfo": "skip",
        "line": {"color": look.color, "dash": look.dash, "width": 3.5 if ours else 1.75},
    }
    marks: Trace = {
        **_shared(method),
        "mode": "markers",
        "x": [cost for cost, _ in points],
        "y": [accuracy for _, accuracy in points],
        "hovertext": [_point_text(cost, acc) for cost, acc in pairs],
        "hoverinfo": "text",
        "marker": {"color": look.color, "size": 6 if ours else 5, "opacity": 0.75},
    }
    return [line, marks]


def _hull(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    costs, accuracies = zip(*points, strict=True)
    frontier = Frontier.from_points(np.array(costs), np.array(accuracies))
    corners = zip(*frontier.vertices, strict=True)
    return [(float(cost), float(accuracy)) for cost, accuracy in corners]


def _densely(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along the hull: straight in dollars, so not straight on a logarithmic axis."""
    dense = list(corners[:1])
    for (c0, a0), (c1, a1) in pairwise(corners):
        for step in range(1, _HULL_STEPS):
            cost = c0 * (c1 / c0) ** (step / _HULL_STEPS)
            dense.append((cost, a0 + (a1 - a0) * (cost - c0) / (c1 - c0)))
        dense.append((c1, a1))
    return dense


def _single_models(pairs: Sequence[tuple[Row, Row]]) -> list[Trace]:
    ordered = sorted(pairs, key=lambda pair: (pair[0].value or 0.0, -(pair[1].value or 0.0)))
    best = float("-inf")
    names = []
    for cost, accuracy in ordered:
        better = (accuracy.value or 0.0) > best
        best = max(best, accuracy.value or 0.0)
        names.append(escape(shown(cost.policy.removeprefix("single:"))) if better else "")
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "legendgroup": SINGLE_MODELS,
            "name": SINGLE_MODELS,
            "x": [cost.value for cost, _ in ordered],
            "y": [accuracy.value for _, accuracy in ordered],
            "text": names,
            "textposition": "bottom center",
            "textfont": {"color": "@muted", "size": 10},
            "hovertext": [_point_text(*pair) for pair in ordered],
            "hoverinfo": "text",
            "marker": {"symbol": "circle-open", "color": "@muted", "size": 8},
        }
    ]


def _point_text(cost: Row, accuracy: Row) -> str:
    name = f"{shown(cost.method)} · {shown(cost.policy)}" if cost.policy else shown(cost.method)
    return (
        f"{escape(name)}<br>accuracy {_with_interval(accuracy)}<br>"
        f"cost per prompt {_with_interval(cost)}"
    )


def _with_interval(row: Row) -> str:
    unit = measure(row.metric).unit
    if row.value is None:
        return escape(shown(row.note) or "unknown")
    text = number(row.value, unit)
    if row.ci_low is None or row.ci_high is None:
        return text
    return f"{text} ({interval(row.ci_low, row.ci_high, unit)})"


# Onboarding


def onboarding_figures(index: RowIndex, place: Place) -> list[Figure]:
    """One figure per metric that was measured at several numbers of anchors."""
    made = (_onboarding(index, place, metric) for metric in onboarding_metrics(index, place))
    return [figure for figure in made if figure.data]


def _onboarding(index: RowIndex, place: Place, metric: str) -> Figure:
    by_line = onboarding_lines(index, place, metric)
    counts = sorted({n for found in by_line.values() for n in found}, key=anchor_order)
    at = {n: float(i) for i, n in enumerate(counts)}
    bands: list[Trace] = []
    curves: list[Trace] = []
    methods: dict[str, tuple[str, Look, bool]] = {}
    for line in sorted(by_line, key=lambda line: (_drawing_order(line.method), line.arm)):
        rows = [by_line[line][n] for n in counts if n in by_line[line]]
        rows = [row for row in rows if row.value is not None]
        if not rows:
            continue
        look = look_of(line)
        quiet = line.method in _QUIET
        shared = {
            "type": "scatter",
            "legendgroup": line.method,
            "name": escape(line.label),
            "visible": "legendonly" if quiet else True,
        }
        band = _band(rows, at, look, ours=is_ours(line.method))
        if band:
            bands.append({**shared, **band})
        curves.append({**shared, **_curve(line, rows, at, look, metric)})
        methods.setdefault(line.method, (line.method, look_of(Line(line.method)), not quiet))
    read = measure(metric)
    better = {True: "higher is better", False: "lower is better", None: ""}[read.higher_is_better]
    title = f"{read.label} ({better})" if better else read.label
    arms = sorted({line.arm for line in by_line if line.arm})
    caption = "Bands are 95% intervals; the axis is ordinal."
    if arms:
        caption += f" Anchors chosen by: {', '.join(shown(arm) for arm in arms)}."
    yaxis: dict[str, Any] = {"title": {"text": escape(title)}}
    if read.unit == "share":
        yaxis["tickformat"] = ".0%"
    elif read.unit == "usd":
        yaxis["tickprefix"] = "$"
    return Figure(
        title=f"{read.label} by labels per newcomer: {place.title}",
        caption=caption,
        data=(*bands, *curves),
        layout={
            "xaxis": {
                "title": {"text": "labels per newcomer"},
                "tickvals": list(at.values()),
                "ticktext": [anchors_name(n) for n in counts],
            },
            "yaxis": yaxis,
        },
        methods=tuple(_legend_order(list(methods.values()))),
    )


def _band(
    rows: Sequence[Row], at: Mapping[int | None, float], look: Look, *, ours: bool
) -> Trace | None:
    sure = [
        (at[row.n_anchors], row.ci_low, row.ci_high)
        for row in rows
        if row.ci_low is not None and row.ci_high is not None
    ]
    if len(sure) < 2:
        return None
    return {
        "mode": "lines",
        "x": [x for x, _, _ in sure] + [x for x, _, _ in reversed(sure)],
        "y": [high for _, _, high in sure] + [low for _, low, _ in reversed(sure)],
        "fill": "toself",
        "fillcolor": f"{look.color}/{0.18 if ours else 0.08}",
        "line": {"width": 0, "color": look.color},
        "hoverinfo": "skip",
    }


def _curve(
    line: Line, rows: Sequence[Row], at: Mapping[int | None, float], look: Look, metric: str
) -> Trace:
    return {
        "mode": "lines+markers",
        "x": [at[row.n_anchors] for row in rows],
        "y": [row.value for row in rows],
        "hovertext": [
            f"{escape(line.label)}, {anchors_name(row.n_anchors)} labels<br>"
            f"{escape(measure(metric).label)} {_with_interval(row)}"
            for row in rows
        ],
        "hoverinfo": "text",
        "line": {
            "color": look.color,
            "dash": look.dash,
            "width": 3 if is_ours(line.method) else 1.75,
        },
        "marker": {"color": look.color, "symbol": look.symbol, "size": 6},
    }


# Reliability


def reliability_panels(index: RowIndex, place: Place) -> list[ReliabilityPanel]:
    """A diagram per method, ours first, with the bins at 0, 20 and all labels where known."""
    bins: dict[str, dict[int | None, dict[str, dict[str, Row]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for kind in ("reliability_p", "reliability_y", "reliability_n"):
        for row in index.at(place, kind):
            name = policy_parts(row.policy).get("bin")
            if name is not None and row.value is not None:
                bins[row.method][row.n_anchors][name][kind] = row
    ece = {
        (row.method, row.n_anchors): row for row in index.at(place, "ece") if row.value is not None
    }
    panels = []
    for method in sorted(bins, key=lambda m: (not is_ours(m), m in CONTROLS, m)):
        curves = {n: _points(bins[method][n]) for n in _chosen_counts(bins[method])}
        panels.append(
            ReliabilityPanel(
                method=method,
                curves={n: points for n, points in curves.items() if points},
                ece={n: ece[method, n] for n in curves if (method, n) in ece},
            )
        )
    return [panel for panel in panels if panel.curves]


def _chosen_counts(found: Mapping[int | None, object]) -> list[int | None]:
    usual = [n for n in _RELIABILITY_COUNTS if n in found]
    return usual or sorted(found, key=anchor_order)[:3]


def _points(bins: Mapping[str, Mapping[str, Row]]) -> tuple[ReliabilityPoint, ...]:
    points = []
    for found in bins.values():
        p, y = found.get("reliability_p"), found.get("reliability_y")
        if p is None or y is None or p.value is None or y.value is None:
            continue
        count = found.get("reliability_n")
        n = count.value if count is not None and count.value is not None else float(y.n)
        points.append(ReliabilityPoint(p=p.value, y=y.value, low=y.ci_low, high=y.ci_high, n=n))
    return tuple(sorted(points, key=lambda point: point.p))
