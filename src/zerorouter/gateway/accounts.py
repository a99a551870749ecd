"""The one point where a request is let in: rate limits and budgets, by reserve then settle.

    accounts = Accounts(folder, owner=owner)
    reservation = accounts.reserve(key, request_id=new_id(now_ns), worst_nusd=..., tokens=...,
                                   now_ns=time.time_ns(), mono_ns=time.monotonic_ns())
    ...                                          # the request is answered
    accounts.settle(reservation, cost_nusd=..., tokens=...)      # or accounts.release(reservation)

A budget holds while ``spent + reserved + worst <= budget`` for the UTC day and the UTC month, in
whole nano-dollars; a request's money belongs to the day and the month in which it was let in. So
what is spent never exceeds a budget as long as no request costs more than it reserved; one that
does (an upstream that ignores ``max_tokens``) is booked at its true cost, and told of.

Every call takes a few microseconds and never waits for a disk, so it may be made on the event
loop. Threads and processes may call at once. Clocks are passed in. A wall clock that jumps, either
way, opens or closes no budget: each account remembers its last four days and three months, whatever
order they come in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerorouter.errors import BooksError, BudgetError, InputError, MissingPriceError, RateLimitError
from zerorouter.gateway.budgets import (
    DAY_NS,
    MAX_NUSD,
    NUSD,
    day_ends_ns,
    day_of,
    day_text,
    month_ends_ns,
    month_of,
    month_text,
    to_usd,
)
from zerorouter.gateway.counters import N_NUMBERS, Counters, OpenReservation
from zerorouter.gateway.keys import VirtualKey
from zerorouter.gateway.limits import Window, second_of

# Where the numbers of an account stand; a window is (which, spent, reserved), the latest first.
_DAYS: Final = 0
_N_DAYS: Final = 4
_MONTHS: Final = _DAYS + 3 * _N_DAYS
_N_MONTHS: Final = 3
assert _MONTHS + 3 * _N_MONTHS == N_NUMBERS
_REQUESTS: Final = 0  # windows of an account
_TOKENS: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Money and tokens put aside for a request; hand it to `settle` or `release`, once.

    Attributes:
        request_id: 32 hexadecimal digits, as `new_id` makes them.
        key: Whose account it is on.
        amount_nusd: What is put aside.
        tokens: What was counted against the limit of tokens.
        started_ns: When, ns since 1970 in UTC; its day and month are charged.
        place: Where it stands in the shared file.
        mono_s: When, in seconds of the monotonic clock.
    """

    request_id: str
    key: VirtualKey
    amount_nusd: int
    tokens: int
    started_ns: int
    place: int
    mono_s: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """How an account stands.

    Attributes:
        day: ``YYYY-MM-DD``.
        day_spent_nusd: Settled on that day.
        day_reserved_nusd: Of requests under way that began on it.
        month: ``YYYY-MM``.
        month_spent_nusd: Settled in that month.
        month_reserved_nusd: Of requests under way that began in it.
    """

    day: str
    day_spent_nusd: int
    day_reserved_nusd: int
    month: str
    month_spent_nusd: int
    month_reserved_nusd: int


class Accounts:
    """The accounts of all keys, shared by every process that opens the folder."""

    def __init__(self, folder: Path, *, owner: int) -> None:
        self.counters = Counters(folder)
        self._owner = owner

    def close(self) -> None:
        """Let go of the shared file; open reservations stay until they are recovered."""
        self.counters.close()

    def reserve(
        self,
        key: VirtualKey,
        *,
        request_id: str,
        worst_nusd: int | None,
        tokens: int = 0,
        now_ns: int,
        mono_ns: int,
    ) -> Reservation:
        """Let a request in, or say why not; what is refused counts against nothing.

        Args:
            key: The caller's.
            request_id: 32 hexadecimal digits; see `new_id`.
            worst_nusd: The most it can cost (`budgets.worst_nusd`); None without a price.
            tokens: What to count against tokens per minute until the real number is known.
            now_ns: Wall clock, ns since 1970 in UTC.
            mono_ns: Monotonic clock, ns.

        Raises:
            RateLimitError: too many requests or tokens.
            BudgetError: a budget would be exceeded.
            MissingPriceError: the key has a budget and the model no price.
            BooksError: the shared file is full, closed or damaged.
        """
        if worst_nusd is None and key.has_budget:
            raise _missing_price(key)
        amount = worst_nusd or 0
        if not (0 <= amount <= MAX_NUSD and 0 <= tokens < 2**31):
            raise InputError(f"a reservation of {amount} nano-dollars and {tokens} tokens")
        raw_id = _raw(request_id)
        day = day_of(now_ns)
        month = month_of(day)
        counters = self.counters
        with counters:
            account = counters.account(key.id)
            numbers = counters.numbers(account)
            windows = _admit_rates(key, counters, account, tokens, mono_ns)
            _to_front(numbers, _DAYS, _N_DAYS, day)
            _to_front(numbers, _MONTHS, _N_MONTHS, month)
            if key.has_budget:
                _admit_money(key, numbers, amount, now_ns, day, month)
            numbers[_DAYS + 2] += amount
            numbers[_MONTHS + 2] += amount
            place = counters.begin(
                account,
                numbers,
                request_id=raw_id,
                owner=self._owner,
                amount_nusd=amount,
                started_ns=now_ns,
                tokens=tokens,
                windows=windows,
            )
        return Reservation(
            request_id=request_id,
            key=key,
            amount_nusd=amount,
            tokens=tokens,
            started_ns=now_ns,
            place=place,
            mono_s=second_of(mono_ns),
        )

    def resize(
        self, reservation: Reservation, *, worst_nusd: int | None, now_ns: int
    ) -> Reservation:
        """Put another amount aside: before a fallback to a dearer model; returns the new one.

        The day and month it began in are charged. Give what attempts already cost as part of it.

        Raises:
            BudgetError: a budget would be exceeded; the old reservation stands.
            MissingPriceError: the key has a budget and the model no price.
            BooksError: the reservation is not open.
        """
        key = reservation.key
        if worst_nusd is None and key.has_budget:
            raise _missing_price(key)
        amount = worst_nusd or 0
        if not 0 <= amount <= MAX_NUSD:
            raise InputError(f"a reservation of {amount} nano-dollars")
        day = day_of(reservation.started_ns)
        month = month_of(day)
        more = amount - reservation.amount_nusd
        with self.counters as counters:
            self._require_open(reservation)
            account = counters.account(key.id)
            numbers = counters.numbers(account)
            _to_front(numbers, _DAYS, _N_DAYS, day)
            _to_front(numbers, _MONTHS, _N_MONTHS, month)
            if key.has_budget and more > 0:
                _admit_money(key, numbers, more, now_ns, day, month)
            numbers[_DAYS + 2] += more
            numbers[_MONTHS + 2] += more
            counters.resize(reservation.place, account, numbers, amount)
        return Reservation(
            request_id=reservation.request_id,
            key=key,
            amount_nusd=amount,
            tokens=reservation.tokens,
            started_ns=reservation.started_ns,
            place=reservation.place,
            mono_s=reservation.mono_s,
        )

    def settle(self, reservation: Reservation, *, cost_nusd: int, tokens: int | None = None) -> int:
        """Book what a request did cost; returns by how much that exceeds the reservation (or 0).

        Args:
            reservation: As `reserve` gave it.
            cost_nusd: All its attempts together.
            tokens: What they really took; None to leave the limit as announced.

        Raises:
            BooksError: the reservation is not open (settled or released before).
        """
        if not 0 <= cost_nusd <= MAX_NUSD:
            raise InputError(f"a cost of {cost_nusd} nano-dollars; 0 to a billion USD is wanted")
        key = reservation.key
        with self.counters as counters:
            self._require_open(reservation)
            account = counters.account(key.id)
            numbers = counters.numbers(account)
            windows: dict[int, Window] = {}
            if tokens is not None and key.tokens_per_minute is not None:
                # Too many were announced: that second gives them back. Too few: they came just now.
                window = windows[_TOKENS] = counters.window(account, _TOKENS)
                more = tokens - reservation.tokens
                window.add(more, reservation.mono_s if more < 0 else None)
            _book(numbers, reservation.started_ns, reservation.amount_nusd, cost_nusd)
            counters.end(reservation.place, account, numbers, windows=windows)
        return max(0, cost_nusd - reservation.amount_nusd)

    def book(self, key_id: str, *, started_ns: int, cost_nusd: int) -> None:
        """Book what a request did cost that had nothing reserved: its key has no bounds (yet).

        Raises:
            BooksError: the shared file is full, closed or damaged.
        """
        if not 0 <= cost_nusd <= MAX_NUSD:
            raise InputError(f"a cost of {cost_nusd} nano-dollars; 0 to a billion USD is wanted")
        with self.counters as counters:
            account = counters.account(key_id)
            numbers = counters.numbers(account)
            _book(numbers, started_ns, 0, cost_nusd)
            counters.put(account, numbers)

    def release(self, reservation: Reservation) -> None:
        """Give all of a reservation back: nothing was billed. The request still counted.

        Raises:
            BooksError: the reservation is not open.
        """
        self.settle(reservation, cost_nusd=0, tokens=0)

    def usage(self, key_id: str, *, now_ns: int) -> Usage:
        """How an account stands on the day and in the month of ``now_ns``."""
        day = day_of(now_ns)
        month = month_of(day)
        with self.counters as counters:
            known = key_id in counters.key_ids()
            numbers = counters.numbers(counters.account(key_id)) if known else [0] * N_NUMBERS
        _to_front(numbers, _DAYS, _N_DAYS, day)
        _to_front(numbers, _MONTHS, _N_MONTHS, month)
        return Usage(
            day=day_text(day),
            day_spent_nusd=numbers[_DAYS + 1],
            day_reserved_nusd=numbers[_DAYS + 2],
            month=month_text(month),
            month_spent_nusd=numbers[_MONTHS + 1],
            month_reserved_nusd=numbers[_MONTHS + 2],
        )

    # -- after a crash ---------------------------------------------------------------------------

    def open_reservations(self) -> list[OpenReservation]:
        """All that are open, of every process."""
        with self.counters as counters:
            return list(counters.open_reservations())

    def settle_found(self, found: OpenReservation, cost_nusd: int) -> None:
        """Settle what a dead process left open; nothing happens if it was settled since."""
        with self.counters as counters:
            if counters.is_open(found.place, bytes.fromhex(found.request_id)):
                account = counters.account(found.key_id)
                numbers = counters.numbers(account)
                _book(numbers, found.started_ns, found.amount_nusd, cost_nusd)
                counters.end(found.place, account, numbers)

    def rebuild(self, spent: Mapping[str, Mapping[int, int]]) -> None:
        """Begin anew from what the ledger says; only while no other process has the file open.

        Args:
            spent: For each key id, nano-dollars by day (as `budgets.day_of` counts); the days of
                each month of interest complete.
        """
        accounts = {}
        for key_id, by_day in spent.items():
            numbers = [0] * N_NUMBERS
            # The latest day is added last and so stands first, and months likewise.
            for day in sorted(by_day):
                _to_front(numbers, _DAYS, _N_DAYS, day)
                numbers[_DAYS + 1] += by_day[day]
                _to_front(numbers, _MONTHS, _N_MONTHS, month_of(day))
                numbers[_MONTHS + 1] += by_day[day]
            accounts[key_id] = numbers
        with self.counters as counters:
            counters.replace(accounts)

    def _require_open(self, reservation: Reservation) -> None:
        if not self.counters.is_open(reservation.place, bytes.fromhex(reservation.request_id)):
            raise BooksError(
                f"request {reservation.request_id}: its reservation is not open; each is settled "
                "or released once"
            )


def new_id(now_ns: int) -> str:
    """A new request id: 32 hexadecimal digits, those of later milliseconds sorting later."""
    return f"{now_ns // 1_000_000:012x}{os.urandom(10).hex()}"


def _missing_price(key: VirtualKey) -> MissingPriceError:
    return MissingPriceError(
        f"the model has no price, and key {key.id} ({key.name}) has a budget; set the price under "
        "'prices:' in the configuration, or use a key without a budget"
    )


def _raw(request_id: str) -> bytes:
    try:
        raw = bytes.fromhex(request_id)
    except ValueError:
        raw = b""
    if len(raw) != 16 or len(request_id) != 32:
        raise InputError(f"request id {request_id!r}; 32 hexadecimal digits are wanted")
    return raw


def _admit_rates(
    key: VirtualKey, counters: Counters, account: int, tokens: int, mono_ns: int
) -> dict[int, Window]:
    """The windows of a key's limits with a request counted in; or refuse it, nothing written."""
    windows: dict[int, Window] = {}
    for which, units, limit, name in (
        (_REQUESTS, 1, key.requests_per_minute, "requests_per_minute"),
        (_TOKENS, tokens, key.tokens_per_minute, "tokens_per_minute"),
    ):
        if limit is None:
            continue
        window = windows[which] = counters.window(account, which)
        window.move_to(second_of(mono_ns))
        wait = window.wait_ns(units, limit, mono_ns)
        if wait != 0:
            word = name.partition("_")[0]
            advice = (
                f"try again in {wait / NUSD:.1f} s"
                if wait is not None
                else f"this request alone announces {units:,} {word}: shorten it or lower its "
                "max_tokens"
            )
            raise RateLimitError(
                f"key {key.id} ({key.name}) is limited to {limit:,} {word} a minute; {advice}",
                limit=name,
                retry_after_s=None if wait is None else wait / NUSD,
            )
        window.add(units)
    return windows


def _admit_money(
    key: VirtualKey, numbers: list[int], amount: int, now_ns: int, day: int, month: int
) -> None:
    for at, budget, window, ends_ns in (
        (_DAYS, key.budget_day_nusd, "day", day_ends_ns(day)),
        (_MONTHS, key.budget_month_nusd, "month", month_ends_ns(month)),
    ):
        if budget is None:
            continue
        left = budget - numbers[at + 1] - numbers[at + 2]
        if amount > left:
            never = amount > budget
            wait = None if never else max(0, ends_ns - now_ns) / NUSD
            advice = (
                "lower max_tokens, or have the budget raised"
                if never
                else f"the next UTC {window} begins in {wait:.0f} s"
            )
            raise BudgetError(
                f"key {key.id} ({key.name}) has {to_usd(max(0, left)):.9f} USD left of its "
                f"{to_usd(budget):g} USD a {window}, and this request may cost "
                f"{to_usd(amount):.9f} USD; {advice}",
                window=window,
                left_usd=to_usd(max(0, left)),
                wanted_usd=to_usd(amount),
                retry_after_s=wait,
            )


def _to_front(numbers: list[int], start: int, n: int, which: int) -> None:
    """Bring a window to the front of its list, a fresh one in place of the least recent."""
    if numbers[start] == which:
        return
    end = start + 3 * n
    places = range(start, end, 3)
    at = next((i for i in places if numbers[i] == which), None)
    if at is None:
        # One with open reservations is dropped only where all have some.
        idle = [i for i in places if numbers[i + 2] == 0]
        at = idle[-1] if idle else end - 3
        numbers[at : at + 3] = [which, 0, 0]
    window = numbers[at : at + 3]
    numbers[start + 3 : at + 3] = numbers[start:at]
    numbers[start : start + 3] = window


def _book(numbers: list[int], started_ns: int, reserved: int, cost: int) -> None:
    day = started_ns // DAY_NS
    for start, n, which in ((_DAYS, _N_DAYS, day), (_MONTHS, _N_MONTHS, month_of(day))):
        # Bookings keep the order of windows, unless theirs was forgotten.
        at = next((i for i in range(start, start + 3 * n, 3) if numbers[i] == which), None)
        if at is None:
            _to_front(numbers, start, n, which)
            at = start
        numbers[at + 1] += cost
        numbers[at + 2] = max(0, numbers[at + 2] - reserved)
