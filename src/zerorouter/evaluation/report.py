"""The report of an evaluation: `summary.json`, `report.html`, and the same tables as text.

Rows are the only source of every table and figure; how each is drawn is in `reporting`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerorouter.errors import require_extra
from zerorouter.evaluation.reporting.markdown import markdown_tables
from zerorouter.evaluation.reporting.page import page
from zerorouter.evaluation.reporting.summary import summary
from zerorouter.evaluation.reporting.terminal import print_tables
from zerorouter.evaluation.rows import Row

__all__ = ["markdown_tables", "page", "print_tables", "summary", "write_report"]

SUMMARY_NAME = "summary.json"
PAGE_NAME = "report.html"


def write_report(rows: Sequence[Row], out: Path, meta: Mapping[str, Any]) -> None:
    """Write ``summary.json`` and ``report.html`` into the folder that holds the rows.

    Args:
        rows: All result rows.
        out: The report folder; it is made where it does not exist.
        meta: What was run: date, commit, data sets, splits, seeds, data hashes and so on.

    Raises:
        MissingExtraError: plotly is not installed; the summary is written all the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    told = {"meta": _plain(meta), **summary(rows)}
    text = json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    (out / SUMMARY_NAME).write_text(text, encoding="utf-8", errors="replace")
    require_extra("plotly", "plot", f"the page {PAGE_NAME}")
    from plotly.offline import get_plotlyjs

    html = page(rows, meta, plotly_js=get_plotlyjs())
    (out / PAGE_NAME).write_text(html, encoding="utf-8", errors="replace")


def _plain(value: Any) -> Any:
    """What was run in JSON's own words: nothing in it may cost a finished run its summary."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)
