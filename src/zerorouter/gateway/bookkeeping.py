"""The request path's side of the books: who may come in, and what is written when it is over.

`OpenBooks` keeps none: every client key is accepted and thrown away. `KeptBooks` are the keys,
budgets and the ledger of `books.Books`.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from zerorouter.gateway.accounts import Accounts, new_id
from zerorouter.gateway.books import Books
from zerorouter.gateway.budgets import to_nusd
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.ledger.rows import AdminRow, AttemptRow, FeedbackRow, RequestRow
from zerorouter.gateway.records import RequestRecord
from zerorouter.gateway.wire.usage import TokenUsage

_NS = 1_000_000_000


class Bookkeeping(Protocol):
    """Keys, limits, budgets and the ledger, as the request path sees them."""

    @property
    def has_keys(self) -> bool:
        """Whether clients need a key."""

    @property
    def keeps_prompts(self) -> bool:
        """Whether the texts of prompts are kept."""

    def authenticate(self, secret: str) -> VirtualKey | None:
        """The key of a client; None where none is wanted.

        Raises:
            KeyRefusedError: No such key.
        """

    def check(self) -> None:
        """Refuse a request without a key while its row could not be kept.

        Raises:
            StorageFullError: So it is.
        """

    def reserve(
        self, record: RequestRecord, key: VirtualKey, *, worst_usd: float | None, tokens: int
    ) -> None:
        """Let a request in, and put aside what it can cost; again before a dearer fallback.

        Raises:
            AccessError: A limit or a budget stands against it.
            MissingPriceError: The key has a budget and the model no price.
            BooksError: The books cannot be kept.
        """

    def finish(self, record: RequestRecord) -> None:
        """A request is over: write its row and settle it, before its last byte goes out.

        Raises:
            BooksError: It could not be written.
        """

    def feedback(
        self, decision_id: str, score: float, key: VirtualKey | None, *, model: str | None = None
    ) -> None:
        """Keep a score for a decision, before it is acknowledged; once, however often it comes.

        Raises:
            BooksError: It could not be written.
        """

    def keep(self, action: str, target: str | None, detail: str | None) -> None:
        """Keep an action of an administrator, before it is acknowledged.

        Raises:
            BooksError: It could not be written.
        """

    def close(self) -> None:
        """Write what is waiting."""


class OpenBooks:
    """No keys, no ledger."""

    has_keys = False
    keeps_prompts = False

    def authenticate(self, secret: str) -> VirtualKey | None:
        """Everyone is welcome; the secret is thrown away."""
        del secret
        return None

    def check(self) -> None:
        """Nothing is kept."""

    def reserve(
        self, record: RequestRecord, key: VirtualKey, *, worst_usd: float | None, tokens: int
    ) -> None:
        """Nothing stands against it."""

    def finish(self, record: RequestRecord) -> None:
        """Nothing to write."""

    def feedback(
        self, decision_id: str, score: float, key: VirtualKey | None, *, model: str | None = None
    ) -> None:
        """Nothing to write."""

    def keep(self, action: str, target: str | None, detail: str | None) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing is waiting."""


class KeptBooks:
    """Keys, accounts and ledger of a folder."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.keeps_prompts = books.ledger.keeps_prompts

    @property
    def accounts(self) -> Accounts:
        """Money and rate limits."""
        return self._books.accounts

    @property
    def has_keys(self) -> bool:
        """Whether any key was ever made; with keys made and revoked nobody comes in."""
        keys = self._books.keys
        if len(keys) == 0:  # the first one may be made while it runs
            keys.look(time.monotonic_ns())
        return len(keys) > 0

    def authenticate(self, secret: str) -> VirtualKey | None:
        """The key of a client; None as long as there are no keys.

        Raises:
            KeyRefusedError: No such key.
        """
        if not self.has_keys:
            return None
        return self._books.keys.authenticate(secret, mono_ns=time.monotonic_ns())

    def check(self) -> None:
        """See `Bookkeeping.check`."""
        self._books.ledger.check()

    def reserve(
        self, record: RequestRecord, key: VirtualKey, *, worst_usd: float | None, tokens: int
    ) -> None:
        """See `Bookkeeping.reserve`. What earlier attempts can have cost stays put aside."""
        worst = None if worst_usd is None else to_nusd(worst_usd, up=True)
        held = record.reservation
        if held is None:
            record.reservation = self._books.admit(
                key,
                request_id=record.request_id,
                worst_nusd=worst,
                tokens=tokens,
                now_ns=record.started_ns,
                mono_ns=time.monotonic_ns(),
            )
        elif worst is None or worst > held.amount_nusd:
            record.reservation = self._books.accounts.resize(
                held, worst_nusd=worst, now_ns=time.time_ns()
            )

    def finish(self, record: RequestRecord) -> None:
        """See `Bookkeeping.finish`."""
        self._books.finish(record.reservation, row_of(record))

    def feedback(
        self, decision_id: str, score: float, key: VirtualKey | None, *, model: str | None = None
    ) -> None:
        """See `Bookkeeping.feedback`."""
        self._books.keep(
            FeedbackRow(
                id=decision_id,  # a decision is scored once: its row is kept once
                received_ns=time.time_ns(),
                decision_id=decision_id,
                score=score,
                key_id=None if key is None else key.id,
                model=model,
            )
        )

    def keep(self, action: str, target: str | None, detail: str | None) -> None:
        """See `Bookkeeping.keep`."""
        now_ns = time.time_ns()
        self._books.keep(
            AdminRow(id=new_id(now_ns), at_ns=now_ns, action=action, target=target, detail=detail)
        )

    def close(self) -> None:
        """Store what there is."""
        self._books.close()


def row_of(record: RequestRecord) -> RequestRow:
    """The ledger's row of a request that is over."""
    decision = record.decision
    attempts = tuple(
        AttemptRow(
            n=n,
            model=attempt.model,
            upstream=attempt.upstream,
            started_ns=record.started_ns + int(attempt.started_s * _NS),
            status=attempt.status,
            outcome=attempt.outcome,
            latency_s=attempt.seconds,
            cost_nusd=_nusd(attempt.cost_usd),
            **({} if attempt.usage is None else _tokens(attempt.usage)),
        )
        for n, attempt in enumerate(record.attempts)
    )
    expected: dict[str, float | int | None] = {}
    if decision is not None:
        estimates, at = decision.weighing.estimates, decision.weighing.chosen
        expected = {
            "expected_cost_nusd": _nusd(decision.cost_usd),
            "baseline_cost_nusd": _nusd(record.strongest_cost_usd),
            "p_correct": decision.p_correct,
            "expected_output_tokens": float(estimates.output_tokens[0, at]),
            "expected_latency_s": decision.latency_s,
        }
    return RequestRow(
        id=record.request_id,
        started_ns=record.started_ns,
        decision_id=None if decision is None else decision.decision_id,
        key_id=record.key_id or None,
        policy=record.policy,
        session=record.session_id,
        api=record.api.value,
        asked_model=record.requested,
        model=record.model or None,
        upstream=record.upstream or None,
        stream=record.stream,
        status=None if record.outcome == "left" else record.status,
        outcome=record.outcome,
        error=record.error,
        estimated=record.is_estimated,
        cost_nusd=_nusd(record.cost_usd),
        latency_s=record.seconds,
        ttft_s=record.ttft_s,
        tpot_s=record.tpot_s,
        overhead_s=record.overhead_s,
        profile_version=None if decision is None else decision.space_version,
        attempts=attempts,
        prompt=None if record.prompt is None else record.prompt.decode("utf-8", "replace"),
        **_tokens_of_all(record),
        **expected,  # type: ignore[arg-type]  # each by its name
    )


def _tokens(usage: TokenUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _tokens_of_all(record: RequestRecord) -> dict[str, Any]:
    """Tokens as billed, failed attempts included; nothing where none are known."""
    known = [attempt.usage for attempt in record.attempts if attempt.usage is not None]
    if not known and record.usage is not None:
        known = [record.usage]
    if len(known) < 2:
        return _tokens(known[0]) if known else {}
    each = [_tokens(usage) for usage in known]
    return {name: sum(one[name] for one in each) for name in each[0]}


def _nusd(usd: float | None) -> int | None:
    return None if usd is None or usd != usd else to_nusd(usd)
