"""The ledger's tables, for SQLite and Postgres alike.

Amounts are whole nano-dollars (`BigInteger`), instants are ns since 1970 in UTC, days are texts
``YYYY-MM-DD``. ``daily`` holds the sums of each UTC day by key, policy and model; it is brought up
to date in the transaction that adds the rows, and outlives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy import Column, MetaData, Table

SCHEMA_VERSION: Final = 1

# Columns of `daily` that are sums: its name -> the request's field (None: counted otherwise).
SUMS: Final[dict[str, str | None]] = {
    "requests": None,
    "failures": None,
    "attempts": None,
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cached_input_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "cost_nusd": "cost_nusd",
    "unpriced": None,
    "expected_cost_nusd": "expected_cost_nusd",
    "baseline_cost_nusd": "baseline_cost_nusd",
    "p_correct_sum": "p_correct",
    "p_correct_n": None,
    "latency_s_sum": "latency_s",
    "latency_n": None,
    "ttft_s_sum": "ttft_s",
    "ttft_n": None,
}
COUNTED: Final = {"p_correct_n": "p_correct", "latency_n": "latency_s", "ttft_n": "ttft_s"}
FLOAT_SUMS: Final = ("p_correct_sum", "latency_s_sum", "ttft_s_sum")
GROUP: Final = ("day", "key_id", "policy", "model")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables by name."""

    metadata: MetaData
    meta: Table
    requests: Table
    attempts: Table
    feedback: Table
    admin: Table
    daily: Table


@cache
def tables() -> Tables:
    """The tables; SQLAlchemy is imported here."""
    from sqlalchemy import (
        BigInteger,
        Boolean,
        Column,
        Double,
        Index,
        Integer,
        MetaData,
        Table,
        Text,
        UniqueConstraint,
    )

    metadata = MetaData()

    def text(name: str, **settings: Any) -> Column[str]:
        return Column(name, Text, **settings)

    def whole(name: str, **settings: Any) -> Column[int]:
        return Column(name, BigInteger, **settings)

    def number(name: str) -> Column[float]:
        return Column(name, Double)

    def tokens() -> list[Column[int]]:
        return [
            whole("input_tokens"),
            whole("cached_input_tokens"),
            whole("cache_write_tokens"),
            whole("output_tokens"),
            whole("reasoning_tokens"),
        ]

    meta = Table("zr_meta", metadata, text("name", primary_key=True), text("value"))
    requests = Table(
        "zr_requests",
        metadata,
        text("id", primary_key=True),
        whole("started_ns", nullable=False),
        text("day", nullable=False),
        text("decision_id"),
        text("key_id"),
        text("policy"),
        text("session"),
        text("api", nullable=False),
        text("asked_model", nullable=False),
        text("model"),
        text("upstream"),
        Column("stream", Boolean, nullable=False),
        Column("status", Integer),
        text("outcome", nullable=False),
        text("error"),
        *tokens(),
        Column("estimated", Boolean, nullable=False),
        whole("cost_nusd"),
        whole("expected_cost_nusd"),
        whole("baseline_cost_nusd"),
        number("p_correct"),
        number("expected_output_tokens"),
        number("expected_latency_s"),
        number("latency_s"),
        number("ttft_s"),
        number("tpot_s"),
        number("overhead_s"),
        text("profile_version"),
        text("prompt"),
        Index("zr_requests_day", "day"),
        Index("zr_requests_decision", "decision_id"),
    )
    attempts = Table(
        "zr_attempts",
        metadata,
        text("request_id", primary_key=True),
        Column("n", Integer, primary_key=True, autoincrement=False),
        text("day", nullable=False),
        text("model", nullable=False),
        text("upstream", nullable=False),
        whole("started_ns", nullable=False),
        Column("status", Integer),
        text("outcome", nullable=False),
        text("error"),
        *tokens(),
        whole("cost_nusd"),
        number("ttft_s"),
        number("latency_s"),
        Index("zr_attempts_day", "day"),
    )
    feedback = Table(
        "zr_feedback",
        metadata,
        text("id", primary_key=True),
        whole("received_ns", nullable=False),
        text("day", nullable=False),
        text("decision_id", nullable=False),
        Column("score", Double, nullable=False),
        text("key_id"),
        text("model"),
        text("comment"),
        Index("zr_feedback_day", "day"),
        Index("zr_feedback_decision", "decision_id"),
    )
    admin = Table(
        "zr_admin",
        metadata,
        text("id", primary_key=True),
        whole("at_ns", nullable=False),
        text("day", nullable=False),
        text("action", nullable=False),
        text("target"),
        text("detail"),
        Index("zr_admin_day", "day"),
    )
    daily = Table(
        "zr_daily",
        metadata,
        *(text(name, nullable=False) for name in GROUP),
        *(
            Column(name, Double if name in FLOAT_SUMS else BigInteger, nullable=False)
            for name in SUMS
        ),
        UniqueConstraint(*GROUP),
    )
    return Tables(
        metadata=metadata,
        meta=meta,
        requests=requests,
        attempts=attempts,
        feedback=feedback,
        admin=admin,
        daily=daily,
    )
