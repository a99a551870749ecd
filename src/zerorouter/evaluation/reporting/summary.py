"""The summary of a run for programs: headline numbers, verdicts, failures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zerorouter.evaluation.reporting.measures import shown
from zerorouter.evaluation.reporting.tables import (
    Comparisons,
    Section,
    Table,
    policy_parts,
    report_tables,
)
from zerorouter.evaluation.rows import Row

FORMAT = 1


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """What ``summary.json`` holds, every number read from an aggregated row."""
    report = report_tables(rows)
    return {
        "format": FORMAT,
        "remark": report.remark or None,
        "acceptance": list(report.acceptance),
        "headline": [_headline(section) for section in report.sections if section.headline],
        "who_wins_where": [
            {"method": found.method, "metric": found.metric, **found.tally, "cells": _cells(found)}
            for found in report.comparisons
        ],
        "benchmarking_avoided": [
            {
                "dataset": section.place.dataset,
                "split": section.place.split,
                "sentences": list(section.sentences),
                "lines": _avoided(section.benchmarking),
            }
            for section in report.sections
            if section.benchmarking or section.sentences
        ],
        "failures": [
            {"method": line.label, "where": line.cells[0].text, "reason": line.cells[1].text}
            for line in (report.failures.lines if report.failures else ())
        ],
        "exclusions": [
            {
                "where": line.label,
                "what": line.cells[0].text,
                "count": line.cells[1].order,
                "note": line.cells[2].text,
            }
            for line in (report.exclusions.lines if report.exclusions else ())
        ],
    }


def _headline(section: Section) -> dict[str, Any]:
    panels: dict[int | None, dict[str, dict[str, Any]]] = {}
    for table in section.headline:
        for line in table.lines:
            for cell in line.cells:
                if cell.row is not None:
                    methods = panels.setdefault(cell.row.n_anchors, {})
                    name = _line_name(cell.row)
                    methods.setdefault(name, {})[cell.row.metric] = _numbers(cell.row)
    return {
        "dataset": section.place.dataset,
        "split": section.place.split,
        "panels": [
            {"n_anchors": n, "methods": dict(sorted(methods.items()))}
            for n, methods in panels.items()
        ],
    }


def _line_name(row: Row) -> str:
    arm = policy_parts(row.policy).get("anchors")
    return f"{row.method} · {arm}" if arm and row.n_anchors else row.method


def _numbers(row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {
        "value": row.value,
        "ci_low": row.ci_low,
        "ci_high": row.ci_high,
        "n": row.n,
    }
    return told | ({"note": shown(row.note)} if row.note else {})


def _cells(found: Comparisons) -> list[dict[str, Any]]:
    return [
        {
            "dataset": cell.row.dataset,
            "split": cell.row.split,
            "n_anchors": cell.row.n_anchors,
            "policy": cell.row.policy,
            "against": line.method,
            "verdict": cell.verdict or None,
            **_numbers(cell.row),
        }
        for line in found.matrix.lines
        for cell in line.cells
        if cell.row is not None
    ]


def _avoided(table: Table | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    lines = []
    for line in table.lines:
        calls, avoided, dollars, regret = line.cells
        if calls.row is not None:
            lines.append(
                {
                    "method": line.method,
                    "n_anchors": calls.row.n_anchors,
                    "calls": calls.value,
                    "calls_avoided": avoided.order,
                    "usd": dollars.value,
                    "regret": _numbers(regret.row) if regret.row is not None else None,
                }
            )
    return lines
