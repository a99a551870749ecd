"""What a caller may decide about the reading of logs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Choices that replace the reading's own.

    Attributes:
        model: Names the respondent of logs that name none.
        metric: The metric to take for the score: lm-eval's and HELM's metric, Inspect's scorer
            or ``scorer/value``.
        filter: The lm-eval filter to take.
    """

    model: str | None = None
    metric: str | None = None
    filter: str | None = None
