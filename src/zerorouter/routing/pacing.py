r"""A budget over time: how to spend per hour, day or month on requests that nobody has counted.

A dollar has a price :math:`\lambda` in correct answers, and each request goes to the model with
the largest :math:`p - \lambda c`. The price is the dual variable of the budget and is moved by
mirror descent with the entropy as its mirror, so multiplicatively (Balseiro, Lu and Mirrokni 2023):

.. math:: \lambda \leftarrow \lambda\,\exp\bigl(\eta\,(\hat c(\lambda) / \rho - 1)\bigr)

Two things make it quick where the textbook version is slow. The gradient :math:`\hat c` is what
the *last few dozen* requests would cost at the present price, not what the one at hand costs. And
the target :math:`\rho` is what is left over the requests still expected, so that what was spent too
much or too little is made up for. The expectation is learned online: requests by time of day,
times how busy this period is compared with what the hour led to expect.

The budget is a hard stop: what a request may cost is reserved before it is sent and settled after;
a request that no affordable model can take is refused. Part of what is left is kept for the
cheapest model, so that a surge nobody foresaw is served by it. Time is an argument everywhere, in
seconds since the epoch (UTC); a pacer never looks at a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.errors import InputError, MissingPriceError

DAY_S = 86_400
BINS = 24  # of a day
FIXED = {"hour": 3_600, "day": DAY_S}


@dataclass(frozen=True, kw_only=True)
class Period:
    """How a budget's time is cut: ``hour``, ``day`` or ``month``, or a number of seconds.

    Attributes:
        kind: ``"hour"``, ``"day"``, ``"month"`` or ``"seconds"``.
        length_s: Seconds of a period; 0 for months, whose lengths differ.
        offset_s: Where periods and days begin, in seconds east of UTC.
    """

    kind: str
    length_s: int
    offset_s: int = 0

    @classmethod
    def of(cls, period: str | float, *, offset_s: int = 0) -> Period:
        """The period of that name, or of that many seconds.

        Raises:
            InputError: there is no such period.
        """
        if isinstance(period, str):
            if period == "month":
                return cls(kind="month", length_s=0, offset_s=offset_s)
            if period in FIXED:
                return cls(kind=period, length_s=FIXED[period], offset_s=offset_s)
        elif (
            isinstance(period, (int, float))
            and not isinstance(period, bool)
            and math.isfinite(period)
            and period >= 1
        ):
            return cls(kind="seconds", length_s=int(period), offset_s=offset_s)
        raise InputError(
            f"the period is {period!r}; 'hour', 'day', 'month' or a number of seconds from 1 up "
            "is wanted"
        )

    def window(self, now_s: float) -> tuple[float, float]:
        """Where the period that holds ``now_s`` begins and ends."""
        local = now_s + self.offset_s
        if self.kind != "month":
            start = math.floor(local / self.length_s) * self.length_s
            return start - self.offset_s, start + self.length_s - self.offset_s
        year, month = _year_and_month(math.floor(local / DAY_S))
        following = (year, month + 1) if month < 12 else (year + 1, 1)
        return (
            float(_day_of(year, month) * DAY_S - self.offset_s),
            float(_day_of(*following) * DAY_S - self.offset_s),
        )


def _year_and_month(day: int) -> tuple[int, int]:
    """The year and month of a day counted from 1970-01-01, in the Gregorian calendar."""
    year = 1970 + day // 366
    while _day_of(year + 1, 1) <= day:
        year += 1
    month = next(m for m in range(12, 0, -1) if _day_of(year, m) <= day)
    return year, month


def _day_of(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month."""
    before = year - 1
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    past = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)[month - 1]
    in_years = 365 * (year - 1970) + (before // 4 - before // 100 + before // 400) - 477
    return in_years + past + (leap and month > 2)


@dataclass(frozen=True, kw_only=True)
class PacingSettings:
    """How a pacer learns.

    Attributes:
        step: How far the price moves at a request, as a share of its logarithmic error.
        recent: Requests on which a price is judged.
        memory_days: Days over which the times of day are averaged.
        level_requests: Requests after which a period's own busyness counts as much as the
            forecast for the hour.
        surge: How many times the expected requests the cheapest model is kept affordable for:
            a burst then meets weak answers rather than none.
        late_requests: Share of the requests so far for which it is kept affordable to the end.
        late_budget: Share of the budget that this may take at most.
        first_s: Seconds added to the time that the volume is judged by. Requests that come at
            once say nothing of what is still to come; the first is taken for one in so many
            seconds, until time has told.
        least_price: Price of a dollar, in correct answers, below which it never falls: one over
            what a correct answer is worth at most.
    """

    step: float = 0.2
    recent: int = 64
    memory_days: float = 7.0
    level_requests: float = 50.0
    surge: float = 1.5
    late_requests: float = 0.2
    late_budget: float = 0.01
    first_s: float = 60.0
    least_price: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise InputError(f"step is {self.step!r}; a number above 0, at most 1, is wanted")
        if self.recent < 1:
            raise InputError(f"recent is {self.recent!r}; at least 1 request is wanted")
        for name in ("memory_days", "level_requests", "first_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)!r}; a number above 0 is wanted")
        for name in ("least_price", "surge", "late_requests", "late_budget"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} is {value!r}; a number >= 0 is wanted")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a pacer answers for one request.

    Attributes:
        column: The chosen model's column, or None: the budget is spent and the request refused.
        reserved_usd: What was set aside; handed back by `Pacer.settle`.
        price: The price of a dollar that was applied, in correct answers.
        window: The period it was reserved in, by its start.
    """

    column: int | None
    reserved_usd: float
    price: float
    window: float


class Volume:
    """How many requests are still to come, learned from when they came.

    Args:
        settings: How it learns.
        offset_s: Where days begin, in seconds east of UTC.
    """

    def __init__(self, settings: PacingSettings, offset_s: int = 0) -> None:
        self._settings, self._offset_s = settings, offset_s
        self._rate = np.zeros(BINS)  # requests per second, by time of day
        self._seen_s = np.zeros(BINS)  # seconds it rests on, bounded by the memory
        self._last_s: float | None = None
        self._count = 0.0  # since the bin began
        self._bin_from_s = 0.0
        self.dispersion = 1.0  # variance of counts over their mean: 1 for independent requests

    def arrived(self, now_s: float) -> None:
        """Take note of a request."""
        self.advance(now_s)
        self._count += 1

    def advance(self, now_s: float) -> None:
        """Close the bins that have passed."""
        width = DAY_S / BINS
        if self._last_s is None:
            self._last_s = self._bin_from_s = now_s
            return
        now_s = max(now_s, self._last_s)
        # After years without a request only the last days are closed one by one.
        memory = self._settings.memory_days
        most = now_s - (memory + 1) * DAY_S
        if self._bin_from_s + width < most:
            self._close(self._bin_from_s + width)
            days = (most - self._bin_from_s) / DAY_S
            # Until the memory is full a day without requests counts like each day before it,
            # and from then on as one of those that are remembered.
            full = max(memory, 1.0) * width
            seen = np.minimum(self._seen_s + days * width, full)
            with_old = np.maximum(days - (full - self._seen_s) / width, 0.0)
            self._rate *= self._seen_s / np.maximum(seen, 1.0) * (1 - width / full) ** with_old
            self._seen_s = seen
            self._bin_from_s = most
        while (end := self._end_of_bin(self._bin_from_s)) <= now_s:
            self._close(end)
        self._last_s = now_s

    def _end_of_bin(self, at_s: float) -> float:
        width = DAY_S / BINS
        return (math.floor((at_s + self._offset_s) / width) + 1) * width - self._offset_s

    def _close(self, end_s: float) -> None:
        k = self._bin(self._bin_from_s)
        span = end_s - self._bin_from_s
        if span > 0:
            if self._seen_s.any():
                expected = max(float(self.rates()[k]) * span, 1.0)
                surprise = min((self._count - expected) ** 2 / expected, 1e6)
                # An hour more or less counts like any other, be it open or closed in part.
                share = min(span / (DAY_S / BINS), 1.0) / (BINS / 2)
                self.dispersion += share * (surprise - self.dispersion)
            most = self._settings.memory_days * DAY_S / BINS
            self._seen_s[k] = min(self._seen_s[k] + span, max(most, span))
            share = span / self._seen_s[k]
            self._rate[k] += share * (self._count / span - self._rate[k])
        self._count, self._bin_from_s = 0.0, end_s

    def _bin(self, at_s: float) -> int:
        return int((at_s + self._offset_s) % DAY_S // (DAY_S / BINS))

    def rates(self) -> Float64Array:
        """(BINS,) expected requests per second; hours never seen are like the mean hour."""
        rate, seen = self._rate.copy(), self._seen_s.copy()
        if self._last_s is None:
            return rate
        # What the open bin has shown so far.
        k, span = self._bin(self._bin_from_s), self._last_s - self._bin_from_s
        total = seen[k] + max(span, 1e-9)
        rate[k] = (rate[k] * seen[k] + self._count) / total
        seen[k] = total
        mean = float(rate @ seen / (seen.sum() + self._settings.first_s))
        # A bin seen for a quarter of its width counts half its own rate, half the mean.
        trust = seen / (seen + DAY_S / BINS / 4)
        return np.asarray(trust * rate + (1 - trust) * mean)

    def expected(self, from_s: float, to_s: float, rates: Float64Array | None = None) -> float:
        """Requests expected between two times by the time of day alone."""
        rates = self.rates() if rates is None else rates
        width = DAY_S / BINS
        span = max(to_s - from_s, 0.0)
        days = math.floor(span / DAY_S)
        total = days * width * float(rates.sum())
        at, end = from_s + days * DAY_S, to_s
        while at < end:
            stop = min(self._end_of_bin(at), end)
            total += float(rates[self._bin(at)]) * (stop - at)
            at = stop
        return total

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rate": self._rate.tolist(),
            "seen_s": self._seen_s.tolist(),
            "last_s": self._last_s,
            "count": self._count,
            "dispersion": self.dispersion,
            "bin_from_s": self._bin_from_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from plain values."""
        self._rate = np.array(state["rate"], dtype=np.float64)
        self._seen_s = np.array(state["seen_s"], dtype=np.float64)
        self._last_s = None if state["last_s"] is None else float(state["last_s"])
        self._count, self._bin_from_s = float(state["count"]), float(state["bin_from_s"])
        self.dispersion = float(state["dispersion"])
        if self._rate.shape != (BINS,) or self._seen_s.shape != (BINS,):
            raise ValueError(f"{len(self._rate)} bins; {BINS} are wanted")


class Pacer:
    """Spends a budget per period on requests as they come.

    Not safe to share between threads without a lock. `state` and `from_state` carry it over a
    restart.

    Args:
        budget_usd: Most that a period may cost.
        period: ``"hour"``, ``"day"``, ``"month"`` or a number of seconds.
        settings: How it learns.
        offset_s: Where periods and days begin, in seconds east of UTC.

    Raises:
        InputError: the budget is no number >= 0, or there is no such period.
    """

    def __init__(
        self,
        budget_usd: float,
        period: str | float,
        *,
        settings: PacingSettings | None = None,
        offset_s: int = 0,
    ) -> None:
        if not (math.isfinite(budget_usd) and budget_usd >= 0):
            raise InputError(f"budget_usd is {budget_usd!r}; a number of dollars >= 0 is wanted")
        self.budget_usd = float(budget_usd)
        self.period = Period.of(period, offset_s=offset_s)
        self._settings = settings or PacingSettings()
        self._volume = Volume(self._settings, offset_s)
        self._window = (math.inf, -math.inf)
        self._from_s = 0.0  # since when requests of this window are counted
        self._spent = self._reserved = 0.0
        self._arrived = 0
        self._log_price: float | None = None
        self._recent = _Recent(self._settings.recent)

    @property
    def spent_usd(self) -> float:
        """What the present period has cost so far."""
        return self._spent

    @property
    def left_usd(self) -> float:
        """What is neither spent nor reserved in the present period."""
        return self.budget_usd - self._spent - self._reserved

    @property
    def price(self) -> float:
        """Correct answers that a dollar has to bring now."""
        floor = self._settings.least_price
        return floor if self._log_price is None else max(math.exp(self._log_price), floor)

    def choose(
        self,
        now_s: float,
        p_correct: FloatArray,
        cost_usd: FloatArray,
        reserve_usd: FloatArray | None = None,
    ) -> Pace:
        """The model for the request at hand; what it may cost is set aside.

        Args:
            now_s: Seconds since the epoch; an earlier time than the last counts as the last.
            p_correct: (M,) P(correct).
            cost_usd: (M,) expected dollars.
            reserve_usd: (M,) what to set aside, such as a high quantile of the cost; by default
                the expectation. Models that the budget's rest cannot cover are left out.

        Raises:
            MissingPriceError: a cost is missing.
            InputError: a value is out of range.
        """
        p, cost = (np.asarray(v, dtype=np.float64) for v in (p_correct, cost_usd))
        reserve = cost if reserve_usd is None else np.asarray(reserve_usd, dtype=np.float64)
        _check(p, cost, reserve)
        self._enter(now_s)
        self._volume.arrived(now_s)
        self._arrived += 1
        self._recent.add(p, cost)
        ahead = self._adapt(now_s)
        score = p - self.price * cost
        # The cheapest may take all that is left, the others leave it something for a surge.
        kept = self._kept_usd(ahead)
        able = reserve <= max(self.left_usd - kept, 0.0)
        able[reserve.argmin()] = reserve.min() <= self.left_usd
        score[~able] = -np.inf
        column = int(score.argmax())
        if np.isneginf(score[column]):
            return Pace(column=None, reserved_usd=0.0, price=self.price, window=self._window[0])
        held = float(reserve[column])
        self._reserved += held
        return Pace(column=column, reserved_usd=held, price=self.price, window=self._window[0])

    def settle(self, pace: Pace, cost_usd: float) -> None:
        """Replace what was set aside by what was paid; also for requests that failed (0).

        A request of an earlier period is settled with that period, which is over.

        Raises:
            InputError: the cost is no number >= 0.
        """
        if not (math.isfinite(cost_usd) and cost_usd >= 0):
            raise InputError(f"cost_usd is {cost_usd!r}; a number of dollars >= 0 is wanted")
        if pace.window == self._window[0]:
            self._reserved = max(self._reserved - pace.reserved_usd, 0.0)
            self._spent += cost_usd

    def expected_requests(self, now_s: float) -> float:
        """Requests still expected in the period that holds ``now_s``."""
        self._enter(now_s)
        self._volume.advance(now_s)
        rates = self._volume.rates()
        start, end = self._window
        ahead = self._volume.expected(now_s, end, rates)
        begun = max(self._from_s, start)
        so_far = self._volume.expected(begun, now_s, rates)
        # Requests that come in bursts say less of the level: each burst counts once.
        k = self._settings.level_requests * max(self._volume.dispersion, 1.0)
        level = (self._arrived + k) / (so_far + k)
        return ahead * min(max(level, 0.1), 10.0)

    def _unforeseen(self, ahead: float) -> float:
        """Requests by which the forecast may be off: a standard deviation of the count."""
        spread = max(self._volume.dispersion, 1.0)
        return math.sqrt(spread * ahead) + math.sqrt(spread) - 1

    def _kept_usd(self, ahead: float) -> float:
        """Dollars that are kept for the cheapest model."""
        settings, least = self._settings, self._recent.least
        foreseen = settings.surge * (ahead + self._unforeseen(ahead)) * least
        late = min(
            settings.late_requests * self._arrived * least, settings.late_budget * self.budget_usd
        )
        return max(foreseen, late)

    def _enter(self, now_s: float) -> None:
        start, end = self._window
        if now_s < end:  # also where clocks disagree and it lies before the start
            return
        self._from_s = now_s if math.isinf(start) else max(self.period.window(now_s)[0], end)
        self._window = self.period.window(now_s)
        self._spent = self._reserved = 0.0
        self._arrived = 0

    def _adapt(self, now_s: float) -> float:
        """One step of mirror descent on the price; hands back the requests still expected."""
        recent = self._recent
        ahead = self.expected_requests(max(now_s, self._window[0]))
        # Running out costs more than leaving some: plan for a little more than is expected.
        planned = ahead + 0.5 * self._unforeseen(ahead) + 1.0  # the request at hand is one more
        target = max(self.left_usd, 0.0) / planned
        if self._log_price is None:
            self._log_price = recent.log_price_at(target)
        used = recent.cost_at(math.exp(self._log_price))
        # used / target - 1, from -1 to 1; however small the target is, nothing overflows
        error = 1.0 if used >= 2 * target else used / target - 1
        moved = self._log_price + self._settings.step * error
        low, high = recent.log_range()
        self._log_price = min(max(moved, low), high)
        return ahead

    # -- over a restart ----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Plain values for JSON, from which `from_state` goes on."""
        return {
            "format": "zerorouter-pacer",
            "budget_usd": self.budget_usd,
            "period": self.period.length_s if self.period.kind == "seconds" else self.period.kind,
            "offset_s": self.period.offset_s,
            "window": None if math.isinf(self._window[0]) else list(self._window),
            "from_s": self._from_s,
            "spent_usd": self._spent,
            "reserved_usd": self._reserved,
            "arrived": self._arrived,
            "log_price": self._log_price,
            "recent": self._recent.rows(),
            "volume": self._volume.state(),
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], *, settings: PacingSettings | None = None
    ) -> Pacer:
        """A pacer that goes on where another was; what it had reserved counts as spent.

        Raises:
            InputError: the state is not one that `state` has told.
        """
        if state.get("format") != "zerorouter-pacer":
            raise InputError(
                f"the state has the format {state.get('format')!r}; a pacer's is wanted"
            )
        try:
            pacer = cls(
                float(state["budget_usd"]),
                state["period"],
                settings=settings,
                offset_s=int(state["offset_s"]),
            )
            if state["window"] is not None:
                start, end = state["window"]
                pacer._window = (float(start), float(end))
            pacer._from_s = float(state["from_s"])
            # Whoever reserved it may have spent it: a budget is never overdrawn by a restart.
            pacer._spent = float(state["spent_usd"]) + float(state["reserved_usd"])
            pacer._arrived = int(state["arrived"])
            price = state["log_price"]
            pacer._log_price = None if price is None else float(price)
            for p, cost in state["recent"]:
                pacer._recent.add(np.array(p, np.float64), np.array(cost, np.float64))
            pacer._volume.restore(state["volume"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the state of a pacer is damaged ({type(error).__name__}: {error}); start anew"
            ) from error
        return pacer


class _Recent:
    """The last requests, laid out in tables; the oldest is overwritten.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._p = np.zeros((0, 0))  # minus infinity where a request had fewer models
        self._cost = np.zeros((0, 0))
        self._at = 0

    @property
    def least(self) -> float:
        """Mean cost of the cheapest model."""
        cost = np.where(np.isfinite(self._p), self._cost, np.inf)
        return float(cost.min(axis=1).mean()) if len(cost) else 0.0

    def add(self, p: Float64Array, cost: Float64Array) -> None:
        """Take in a request."""
        n, m = self._p.shape
        wide, tall = max(m, len(p)), min(n + 1, self._size)
        if (tall, wide) != (n, m):
            old_p, old_cost = self._p, self._cost
            self._p, self._cost = np.full((tall, wide), -np.inf), np.zeros((tall, wide))
            self._p[:n, :m], self._cost[:n, :m] = old_p, old_cost
        self._p[self._at], self._cost[self._at] = -np.inf, 0.0
        self._p[self._at, : len(p)], self._cost[self._at, : len(p)] = p, cost
        self._at = (self._at + 1) % self._size

    def rows(self) -> list[list[list[float]]]:
        """P(correct) and cost of each request, oldest first."""
        n = len(self._p)
        order = [(self._at + i) % n for i in range(n)] if n == self._size else range(n)
        known = np.isfinite(self._p)
        return [[self._p[i, known[i]].tolist(), self._cost[i, known[i]].tolist()] for i in order]

    def cost_at(self, price: float) -> float:
        """What a request costs in the mean at a price."""
        chosen = (self._p - price * self._cost).argmax(axis=1)
        return float(self._cost[np.arange(len(chosen)), chosen].mean())

    def log_range(self) -> tuple[float, float]:
        """Logs of prices beyond which no choice changes, with some room."""
        every = np.arange(len(self._p))
        best = self._p.argmax(axis=1)
        least = np.where(np.isfinite(self._p), self._cost, np.inf).argmin(axis=1)
        gain = self._p[every, best] - self._p[every, least]
        dearer = self._cost[every, best] - self._cost[every, least]
        real = (gain > 0) & (dearer > 0)
        if not real.any():
            return -30.0, 30.0
        ratio = gain[real] / dearer[real]
        return math.log(float(ratio.min())) - 7.0, math.log(float(ratio.max())) + 7.0

    def log_price_at(self, target: float) -> float:
        """The log of a price at which requests cost about so much."""
        low, high = self.log_range()
        for _ in range(30):
            middle = (low + high) / 2
            if self.cost_at(math.exp(middle)) > target:
                low = middle
            else:
                high = middle
        return high


def _check(p: Float64Array, cost: Float64Array, reserve: Float64Array) -> None:
    if p.ndim != 1 or len(p) == 0 or p.shape != cost.shape or p.shape != reserve.shape:
        raise InputError(
            f"p_correct, cost_usd and reserve_usd have the shapes {p.shape}, {cost.shape} and "
            f"{reserve.shape}; one number per model is wanted"
        )
    if np.isnan(cost).any() or np.isnan(reserve).any():
        raise MissingPriceError(
            "a model has no price and a budget needs one; leave it out or set its price"
        )
    if not (np.all((p >= 0) & (p <= 1)) and np.all(cost >= 0) and np.all(reserve >= 0)):
        raise InputError("probabilities from 0 to 1 and costs >= 0 are wanted")
