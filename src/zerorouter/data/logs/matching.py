"""Logged answers, told apart by whether their question is a calibrated item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import FloatArray, IntArray
from zerorouter.data.logs.records import LoggedAnswers
from zerorouter.data.responses import SIDE_COLUMNS, ResponseTable


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedAnswers:
    """The answers of one respondent.

    ``matched`` and ``unmatched`` are rows as in `LoggedAnswers.responses`: ``prompt`` is an index
    into its ``prompts``, lengths and times stand beside the scores.

    Attributes:
        respondent: Who answered.
        positions: (m,) int64, the calibrated item of each matched row; each item once.
        matched: m answers to calibrated items.
        matched_samples: (m,) how many logged answers each is the mean of.
        unmatched: u answers to other questions, whose parameters have to be predicted from text.
        unmatched_samples: (u,) as ``matched_samples``.
    """

    respondent: str
    positions: NDArray[np.int64]
    matched: ResponseTable
    matched_samples: NDArray[np.int32]
    unmatched: ResponseTable
    unmatched_samples: NDArray[np.int32]

    @property
    def n_matched(self) -> int:
        """Answers to calibrated items."""
        return len(self.matched)

    @property
    def n_unmatched(self) -> int:
        """Answers to other questions."""
        return len(self.unmatched)

    def __str__(self) -> str:
        return (
            f"{self.respondent}: {self.n_matched:,} answers to calibrated items, "
            f"{self.n_unmatched:,} to others"
        )


def match_items(
    logged: LoggedAnswers,
    digests: NDArray[np.uint64],
    *,
    respondent: str | None = None,
    uncertainty: FloatArray | None = None,
) -> MatchedAnswers:
    """Find the calibrated items among the questions of one respondent.

    A question that was logged under several tasks is one item: its answers are averaged, each
    weighted by its samples. A question that was calibrated more than once (in two data sets) goes
    to the item known best.

    Args:
        logged: What `zerorouter.data.logs.reading.read_logs` gives.
        digests: (N, 2) uint64, those of the calibrated items.
        respondent: Whose answers; may be left out where the logs know only one respondent.
        uncertainty: (N,) of the calibrated items; of two with one digest the one with less is
            taken, the first of equals. Without it the first.

    Raises:
        UnknownNameError: The logs hold no answer of ``respondent``.
        DataError: No respondent was named and there are several.
    """
    name = logged.respondent(respondent)
    rows = np.flatnonzero(logged.responses.respondent == logged.respondents.index(name))
    position_of = _positions(logged.digests, digests, uncertainty)
    position = position_of[logged.responses.prompt[rows]]
    found = position >= 0
    positions, place = np.unique(position[found], return_inverse=True)
    matched, matched_samples = _merged(logged, rows[found], place, len(positions))
    return MatchedAnswers(
        respondent=name,
        positions=positions,
        matched=matched,
        matched_samples=matched_samples,
        unmatched=logged.responses.take(rows[~found]),
        unmatched_samples=logged.n_samples[rows[~found]],
    )


def _positions(
    wanted: NDArray[np.uint64], known: NDArray[np.uint64], uncertainty: FloatArray | None
) -> NDArray[np.int64]:
    """The calibrated item of each wanted digest, -1 where there is none, (Q,)."""
    order = np.arange(len(known))
    if uncertainty is not None:
        order = np.argsort(np.asarray(uncertainty), kind="stable")
    place: dict[tuple[int, int], int] = {}
    for position in order.tolist():
        high, low = known[position]
        place.setdefault((int(high), int(low)), position)
    return np.array([place.get((high, low), -1) for high, low in wanted.tolist()], dtype=np.int64)


def _merged(
    logged: LoggedAnswers, rows: IntArray, place: IntArray, n: int
) -> tuple[ResponseTable, NDArray[np.int32]]:
    """The rows of each item as one, weighted by samples."""
    responses = logged.responses.take(rows)
    weights = logged.n_samples[rows].astype(np.float64)
    samples = np.bincount(place, weights=weights, minlength=n).astype(np.int32)
    if len(rows) == n:
        order = np.argsort(place)
        return responses.take(order), samples
    first = np.zeros(n, dtype=np.int64)
    first[place[::-1]] = np.arange(len(rows))[::-1]  # the first row of each item
    columns: dict[str, FloatArray] = {}
    for name in ("score", *SIDE_COLUMNS):
        values = responses.column(name).astype(np.float64)
        known = ~np.isnan(values)
        weight = np.bincount(place[known], weights=weights[known], minlength=n)
        total = np.bincount(place[known], weights=(weights * values)[known], minlength=n)
        columns[name] = np.divide(total, weight, out=np.full(n, np.nan), where=weight > 0)
    merged = ResponseTable.of_columns(responses.prompt[first], responses.respondent[first], columns)
    return merged, samples
