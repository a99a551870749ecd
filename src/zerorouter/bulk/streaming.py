"""Assigning what comes in blocks: multipliers from a sample, corrected while it streams past.

The first pass has drawn a sample of the whole. Before each stretch of the second pass the
multipliers are solved for anew on the part of the sample that lies ahead, with what is left of
every bound (budget left over prompts left, and so on): an order that drifts is thus foreseen,
and what was spent too much or too little is made up for. A block may not take what the prompts
after it need at least, by the sample. The last prompts are held together and assigned jointly, so
that bounds are kept strictly and what is left is used.

The bound is exact although no more than a block was held: by weak duality any fixed multipliers
bound the best assignment, and those of the first solve, with a few larger and smaller ones,
are evaluated on every prompt that streams past.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.errors import InfeasibleError
from zerorouter.routing.assignment.assigning import Case
from zerorouter.routing.assignment.joint import minimise_dual
from zerorouter.routing.assignment.latency import ALLOWED_EXCESS
from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.assignment.programme import Prices, Programme, Usage
from zerorouter.routing.assignment.single import solve_single
from zerorouter.routing.assignment.solution import Unreachable
from zerorouter.routing.assignment.solving import least_usage, solve

STRETCHES = 64  # times that the multipliers are corrected
SPREAD = (0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.25)  # multiples at which the dual is read
LEAST_AHEAD = 300  # prompts of the sample that multipliers are solved on at least
RESERVE_ERRORS = (3.0, 1.0, 0.0, -2.0)  # standard errors added to what the rest needs at least


@dataclass(frozen=True, kw_only=True, eq=False)
class Left:
    """What is left of every bound.

    Attributes:
        sides: (K,)
        requests: (M,)
        tokens: (M,)
        n_prompts: Prompts yet to come.
    """

    sides: Float64Array
    requests: Float64Array
    tokens: Float64Array
    n_prompts: int

    def after(self, used: Usage, n: int) -> Left:
        """What is left once a block is assigned."""
        return Left(
            sides=self.sides - used.sides,
            requests=self.requests - used.requests,
            tokens=self.tokens - used.tokens,
            n_prompts=self.n_prompts - n,
        )

    def bind(self, programme: Programme, share: float = 1.0) -> Programme:
        """The programme under what is left, or under a share of it."""
        requests = np.maximum(self.requests, 0.0) * share
        tokens = np.maximum(self.tokens, 0.0) * share
        n = programme.n_prompts
        return replace(
            programme,
            sides=tuple(
                side.with_limit(float(limit) * share)
                for side, limit in zip(programme.sides, self.sides, strict=True)
            ),
            request_limit=np.where(requests < n, requests, np.inf),
            token_limit=np.where(np.isfinite(self.tokens), tokens, np.inf),
        )


class Stream:
    """Assigns blocks in order.

    Args:
        sample: Offers of a sample, in the stream's order.
        positions: (S,) rising positions of the sample in the stream.
        n_prompts: Prompts of the whole stream.
        bounds: Of the whole stream.
        case: Goal and inflation of costs; its offers are not used.
        total_weight: What all prompts count together; their number by default.
        caution: Share of what is left of each side that plans leave alone.
    """

    def __init__(
        self,
        sample: Offers,
        positions: IntArray,
        n_prompts: int,
        bounds: Bounds,
        case: Case,
        *,
        total_weight: float | None = None,
        caution: float = 0.0,
    ) -> None:
        self._case, self._bounds = case, bounds
        self._positions, self._caution = positions, caution
        self._sample = replace(case, offers=sample).programme(bounds)
        requests, tokens = bounds.of_models(sample.models)
        weight = n_prompts if total_weight is None else total_weight
        sides = np.array([_limit(bounds, s.name, n_prompts, weight) for s in self._sample.sides])
        self.left = Left(sides=sides, requests=requests, tokens=tokens, n_prompts=n_prompts)
        self._total = self.left
        self._n = n_prompts
        self._prices: Prices | None = None
        self._planned_at = -1
        self._least = [
            np.where(np.isfinite(table), table, np.inf).min(axis=1)
            for table in (
                self._sample.barred(side.table(slice(None)), slice(None), np.inf)
                for side in self._sample.sides
            )
        ]  # of each side, what each prompt of the sample takes at least
        self._plan()
        first = self._prices
        self._trial: list[Prices] = [] if first is None else [_times(first, k) for k in SPREAD]
        self._dual = np.zeros(len(self._trial))
        self._size = 0.0
        self._seen_last = False

    @property
    def done(self) -> int:
        """Prompts that have been assigned."""
        return self._n - self.left.n_prompts

    def bound(self) -> float:
        """The least of the dual's values, once every prompt was seen."""
        if not self._trial:
            return np.inf
        values = []
        for prices, value in zip(self._trial, self._dual, strict=True):
            total = float(value)
            for price, limit in (
                (prices.sides, self._total.sides),
                (prices.requests, self._total.requests),
                (prices.tokens, self._total.tokens),
            ):
                paid = price > 0
                total += float(price[paid] @ limit[paid])
            values.append(total)
        return min(values) + 1e-12 * self._size

    def programme(self, offers: Offers) -> Programme:
        """The programme of a block, before limits are set."""
        return replace(self._case, offers=offers).programme(self._bounds)

    def assign(self, offers: Offers) -> IntArray:
        """(n,) columns for a block that more is to follow.

        Raises:
            InfeasibleError: the block cannot be assigned within what is left.
        """
        free = self.programme(offers)
        self._look(free)
        if (self.done - self._planned_at) * STRETCHES >= self._n:
            self._plan()
        choice = self._within(free)
        self.left = self.left.after(free.usage(choice), free.n_prompts)
        return choice

    def finish(self, offers: Offers, limits: Float64Array | None = None) -> IntArray:
        """(n,) columns for the last prompts, assigned jointly within what is left.

        Args:
            offers: Of the last prompts.
            limits: (K,) in place of what is left of the sides.

        Raises:
            InfeasibleError: they cannot be assigned within what is left.
        """
        free = self.programme(offers)
        if not self._seen_last:  # an attempt under other limits has looked already
            self._look(free)
        self._seen_last = True
        left = self.left if limits is None else replace(self.left, sides=limits)
        try:
            choice = solve(left.bind(free), exact=False).choice
        except Unreachable:
            raise self._short() from None
        self.left = self.left.after(free.usage(choice), free.n_prompts)
        return choice

    # -- the parts ---------------------------------------------------------------------------

    def _plan(self) -> None:
        """Solve for the multipliers on the part of the sample that lies ahead."""
        self._planned_at = self.done
        ahead = np.flatnonzero(self._positions >= self.done)
        if len(ahead) < LEAST_AHEAD:
            ahead = np.arange(max(len(self._positions) - LEAST_AHEAD, 0), len(self._positions))
        part = self._sample.take(ahead)
        finite = np.where(np.isfinite(self.left.sides), np.abs(self.left.sides), 0.0)
        left = replace(self.left, sides=self.left.sides - self._caution * finite)
        bound = left.bind(part, len(ahead) / self.left.n_prompts)
        try:
            if bound.is_capped or len(bound.sides) > 1:
                dual = minimise_dual(bound)
                self._prices = None if dual.impossible else dual.prices
            else:
                self._prices = solve_single(bound).prices
        except Unreachable:
            self._prices = None

    def _within(self, free: Programme) -> IntArray:
        """The best choices at the multipliers, moved to where the limits are kept."""
        n_after = self.left.n_prompts - free.n_prompts
        for errors in RESERVE_ERRORS if self._prices is not None else ():
            reserve = self._reserve(n_after, errors)
            hard = replace(self.left, sides=self.left.sides - reserve).bind(free)
            choice = self._wanted(hard)
            if choice is not None:
                return choice
        # What is left is short: take the least of the first side, without any reserve.
        tight = self.left.bind(free)
        try:
            found = least_usage(tight, 0).choice if tight.sides else solve(tight).choice
        except Unreachable:
            raise self._short() from None
        if not tight.keeps(found):
            raise self._short()
        return found

    def _wanted(self, hard: Programme) -> IntArray | None:
        """The best choices at the multipliers within limits, or None where there are none."""
        assert self._prices is not None
        scorer = hard.scorer(self._prices)
        choice = np.concatenate([scorer.best(rows) for rows in hard.blocks()])
        if hard.keeps(choice):
            return choice
        priced = np.concatenate([scorer(rows).copy() for rows in hard.blocks()])
        reduced = replace(hard, gain=priced, gain_sign=1.0, largest_gain=None)
        try:
            return solve(reduced, exact=False).choice
        except Unreachable:
            return None

    def _reserve(self, n_after: int, errors: float) -> Float64Array:
        """(K,) what the prompts after the next block take at least, by the sample."""
        out = np.zeros(len(self._least))
        if n_after <= 0:
            return out
        later = self._positions >= self._n - n_after
        for k, least in enumerate(self._least):
            part = least[later] if later.sum() >= 30 else least
            error = errors * float(part.std()) * (n_after / np.sqrt(len(part)) + np.sqrt(n_after))
            out[k] = float(part.mean()) * n_after + error
        return out

    def _look(self, free: Programme) -> None:
        """Read the dual at the trial multipliers."""
        for i, prices in enumerate(self._trial):
            scorer = free.scorer(prices)
            for rows in free.blocks():
                top = scorer(rows).max(axis=1)
                self._dual[i] += float(top.sum(dtype=np.float64))
                self._size += float(np.abs(top).sum(dtype=np.float64))

    def _short(self) -> InfeasibleError:
        names = ", ".join(side.name for side in self._sample.sides if np.isfinite(side.limit))
        return InfeasibleError(
            f"no assignment was found for prompts from position {self.done:,} on within what is "
            f"left of {names or 'the capacities'}; loosen the bounds, or hold more prompts in "
            "memory, where bounds are shared out exactly",
            bound=names.partition(",")[0] or "capacity",
        )


def _times(prices: Prices, factor: float) -> Prices:
    return Prices(
        sides=prices.sides * factor,
        requests=prices.requests * factor,
        tokens=prices.tokens * factor,
    )


def _limit(bounds: Bounds, name: str, n: int, weight: float) -> float:
    """The limit of a side over the whole stream."""
    if name == "max_p95_latency_s":
        return ALLOWED_EXCESS * n
    value: float | None = getattr(bounds, name)
    if value is None:
        return np.inf
    return {"budget_usd": 1.0, "max_mean_latency_s": n, "min_accuracy": -weight}[name] * value
