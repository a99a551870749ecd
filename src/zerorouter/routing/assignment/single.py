r"""One bound on one sum: a budget, and nothing else. Exact up to one prompt's last upgrade.

The dual has one multiplier. It is bracketed on a sample; one pass over all prompts then finds
the best model at both ends of the bracket. A prompt whose choice is the same at both ends keeps
it in between, since the largest of the lines :math:`g_{ij} - \lambda r_{ij}` is convex in
:math:`\lambda` and touches that line at both ends: only the few others are looked at again. Their
upgrades, the edges of each prompt's upper hull of (amount, gain), are sorted by gain per unit and
taken while they fit (Dantzig 1957; Sinha and Zoltners 1979 for one choice per group). What is left
open is less than one upgrade, so the gap shrinks as 1/N.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.routing.assignment.programme import Prices, Programme, Rows, Side
from zerorouter.routing.assignment.solution import Solution, Unreachable, no_prices

SAMPLE = 8_192  # prompts on which the multiplier is bracketed
SAMPLE_ERRORS = 3.5  # standard errors of the sample's usage that the bracket covers at first
WIDER = 3.0  # a bracket that missed is made this many times as wide
FEW = 0.01  # share of prompts that may be open when their upgrades are listed
MOST_CUTS = 60
TIED = 1 - 1e-6  # upgrades whose ratio equals the bracket's lower end belong to it
ROUNDING = (0.0, 1e-14, 1e-12, 1e-9)  # shares of the limit left free for the rounding of sums


@dataclass(frozen=True, kw_only=True, eq=False)
class _End:
    """Best choices of some prompts at one multiplier.

    Attributes:
        price: The multiplier.
        choice: (n,) columns.
        gain: (n,) what they gain.
        amount: (n,) what they use.
    """

    price: float
    choice: IntArray
    gain: Float64Array
    amount: Float64Array

    @cached_property
    def used(self) -> float:
        """What they use together."""
        return float(self.amount.sum())

    def take(self, index: IntArray | BoolArray) -> _End:
        """Some of the prompts."""
        return _End(
            price=self.price,
            choice=self.choice[index],
            gain=self.gain[index],
            amount=self.amount[index],
        )


def solve_single(programme: Programme) -> Solution:
    """The best choice under the programme's only side.

    Raises:
        Unreachable: even the least usage exceeds the limit.
    """
    (side,) = programme.sides
    if programme.dtype is np.float64:
        low = _greediest(programme, side)
        high = low if low.used <= side.limit else _thriftiest(programme, side)
        if high.used > side.limit:
            raise Unreachable(proven=True)
    else:
        low, high = _bracket(programme, side)
    return _between(programme, side, low, high)


def thriftiest_choice(programme: Programme, side: Side) -> IntArray:
    """(N,) the least usage, by the largest gain among equals."""
    return _thriftiest(programme, side).choice


def hull_edges(programme: Programme, side: Side, start: IntArray) -> Upgrades:
    """Every upgrade of every prompt, from the choice of least usage up to the largest gain."""
    return _upgrades(programme, side, np.arange(programme.n_prompts), start, 0.0)


# -- the ends of the bracket -------------------------------------------------------------------


def _bracket(p: Programme, side: Side) -> tuple[_End, _End]:
    """Multipliers between which the limit is met, guessed from a sample and checked on all."""
    rng = np.random.default_rng(0)
    sample = p.take(np.sort(rng.choice(p.n_prompts, size=min(SAMPLE, p.n_prompts), replace=False)))
    low: _End | None = None
    high: _End | None = None
    reach = SAMPLE_ERRORS
    while low is None or high is None:
        guesses = _sample_prices(sample, reach)
        wanted = [
            float(p.dtype(price))
            for price, known in zip(guesses, (low, high), strict=True)
            if known is None
        ]
        for end in _evaluate(p, side, sorted(set(wanted))):
            if end.used > side.limit:
                if end.price == np.inf:
                    raise Unreachable(proven=True)
                low = end if low is None or end.price > low.price else low
            else:
                if end.price == 0:
                    return end, end
                high = end if high is None or end.price < high.price else high
        reach *= WIDER
    return low, high


def _sample_prices(sample: Programme, reach: float) -> tuple[float, float]:
    """Multipliers at which the sample uses a little more and a little less than its limit."""
    (side,) = sample.sides
    thrifty, greedy = _thriftiest(sample, side), _greediest(sample, side)

    def price_at(limit: float) -> tuple[float, IntArray]:
        if greedy.used <= limit:
            return 0.0, greedy.choice
        if thrifty.used >= limit:
            return np.inf, thrifty.choice
        solved = _between(sample, side.with_limit(limit), greedy, thrifty)
        return float(solved.prices.sides[0]), solved.choice

    _, choice = price_at(side.limit)
    error = reach * float(side.of(slice(None), choice).std()) * np.sqrt(sample.n_prompts)
    return price_at(side.limit + error)[0], price_at(side.limit - error)[0]


def _evaluate(p: Programme, side: Side, prices: list[float]) -> list[_End]:
    """The best choices of all prompts at each multiplier, in one pass over the tables."""
    inner = [price for price in prices if 0 < price < np.inf]
    ends = _best_at(p, side, inner) if inner else []
    if 0.0 in prices:
        ends.append(_greediest(p, side))
    if np.inf in prices:
        ends.append(_thriftiest(p, side))
    return ends


def _best_at(
    p: Programme, side: Side, prices: list[float], rows: IntArray | None = None
) -> list[_End]:
    """The best choices of the given prompts at multipliers strictly between 0 and infinity."""
    scorers = [p.scorer(_prices(p, price)) for price in prices]
    n = p.n_prompts if rows is None else len(rows)
    ends = [_empty_end(price, n) for price in prices]
    done = 0
    for block in p.blocks(rows):
        filled = [
            _fill(end, done, p, side, block, scorer.best(block))
            for end, scorer in zip(ends, scorers, strict=True)
        ]
        done = filled[0]
    return ends


def _greediest(p: Programme, side: Side) -> _End:
    """Multiplier zero: the largest gain, by the least usage among equals."""
    end = _empty_end(0.0, p.n_prompts)
    done = 0
    for rows in p.blocks():
        gain, amount = p.gain_table(rows, p.dtype), side.table(rows, p.dtype)
        amount[gain < gain.max(axis=1, keepdims=True)] = np.inf
        done = _fill(end, done, p, side, rows, amount.argmin(axis=1))
    return end


def _thriftiest(p: Programme, side: Side) -> _End:
    """Multiplier infinity: the least usage, by the largest gain among equals."""
    end = _empty_end(np.inf, p.n_prompts)
    done = 0
    for rows in p.blocks():
        gain = p.gain_table(rows, p.dtype)
        amount = p.barred(side.table(rows, p.dtype), rows, np.inf)
        gain[amount > amount.min(axis=1, keepdims=True)] = -np.inf
        done = _fill(end, done, p, side, rows, gain.argmax(axis=1))
    return end


def _empty_end(price: float, n: int) -> _End:
    return _End(
        price=price, choice=np.empty(n, dtype=np.int32), gain=np.empty(n), amount=np.empty(n)
    )


def _fill(end: _End, start: int, p: Programme, side: Side, rows: Rows, choice: IntArray) -> int:
    """Write one block's choices, with what they gain and use while that is in the cache."""
    stop = start + len(choice)
    end.choice[start:stop] = choice
    end.gain[start:stop] = p.gains(rows, choice)
    end.amount[start:stop] = side.of(rows, choice)
    return stop


# -- between the ends --------------------------------------------------------------------------


def _between(p: Programme, side: Side, low: _End, high: _End) -> Solution:
    """The best choice, given ends that use too much (``low``) and little enough (``high``)."""
    if low.used <= side.limit:  # nothing is bound
        return _solution(p, side, low, low)
    base = replace(
        high, choice=high.choice.copy(), gain=high.gain.copy(), amount=high.amount.copy()
    )
    rows = np.flatnonzero(low.choice != high.choice)
    below, above = low.take(rows), high.take(rows)
    for cut in range(MOST_CUTS):
        if len(rows) <= max(FEW * p.n_prompts, p.block_rows):
            break
        price = _next_price(p, below, above, bisect=cut % 3 == 2)
        if price is None:
            break
        (middle,) = _best_at(p, side, [price], rows)
        if base.used + middle.used - above.used <= side.limit:
            base.choice[rows], base.gain[rows] = middle.choice, middle.gain
            base.amount[rows] = middle.amount
            base = replace(base, price=price)  # forgets what it used
            above = middle
        else:
            below = middle
        still = above.choice != below.choice
        rows, below, above = rows[still], below.take(still), above.take(still)
    return _upgraded(p, side, base, rows, below.price)


def _next_price(p: Programme, below: _End, above: _End, *, bisect: bool) -> float | None:
    """Where the dual's tangents at the ends meet, or the middle; None where nothing is between."""
    low, high = below.price, above.price
    more = below.used - above.used
    price = float((below.gain.sum() - above.gain.sum()) / more) if more > 0 else np.nan
    if (bisect or not low < price < high) and np.isfinite(high):
        price = float(np.sqrt(low * high)) if low > 0 else high / 2
    price = float(p.dtype(price))
    return price if low < price < high else None


@dataclass(frozen=True, eq=False)
class Upgrades:
    """Edges of the upper hulls of some prompts, each prompt's in order of falling ratio.

    Attributes:
        row: (E,) the prompt.
        to: (E,) the column it is upgraded to.
        gain: (E,) gain over the column before.
        amount: (E,) usage over the column before.
        gain_there: (E,) gain of the column itself.
        amount_there: (E,) usage of the column itself.
    """

    row: IntArray
    to: IntArray
    gain: Float64Array
    amount: Float64Array
    gain_there: Float64Array
    amount_there: Float64Array

    @property
    def ratio(self) -> Float64Array:
        """(E,) gain per unit of usage."""
        return self.gain / self.amount

    def applied(self, base: _End, taken: IntArray) -> _End:
        """The end with the upgrades at ``taken`` made in that order."""
        out = replace(
            base, choice=base.choice.copy(), gain=base.gain.copy(), amount=base.amount.copy()
        )
        rows = self.row[taken]
        out.choice[rows] = self.to[taken]
        out.gain[rows] = self.gain_there[taken]
        out.amount[rows] = self.amount_there[taken]
        return out


def _upgraded(p: Programme, side: Side, base: _End, rows: IntArray, lowest: float) -> Solution:
    """Make the upgrades of the open rows by ratio while they fit."""
    edges = _upgrades(p, side, rows, base.choice[rows], TIED * lowest)
    order = np.lexsort((np.arange(len(edges.row)), -edges.ratio))
    for margin in ROUNDING:
        slack = side.limit - base.used - margin * abs(side.limit)
        taken, n_whole = _taken(edges, order, slack)
        upgraded = edges.applied(base, taken)
        if upgraded.used <= side.limit:
            break
    else:
        upgraded = base
    # All upgrades before the first that did not fit are a best choice at its ratio.
    price = float(edges.ratio[order[n_whole]]) if n_whole < len(order) else lowest
    whole = edges.applied(base, np.sort(order[:n_whole]))
    return _solution(p, side, upgraded, replace(whole, price=price))


def _taken(edges: Upgrades, order: IntArray, slack: float) -> tuple[IntArray, int]:
    """Edges that fit, as they stand in ``edges``, and how many of them fit without a break."""
    amount = edges.amount[order]
    n_whole = int(np.searchsorted(np.cumsum(amount), slack, side="right"))
    rest = order[n_whole:]
    if len(rest) == 0:
        return np.sort(order), n_whole
    taken = order[:n_whole].tolist()
    slack -= float(amount[:n_whole].sum())
    least = float(amount[n_whole:].min())
    blocked: set[int] = set()  # an upgrade is one over the column before: none is left out
    for edge, row, need in zip(
        rest.tolist(), edges.row[rest].tolist(), edges.amount[rest].tolist(), strict=True
    ):
        if slack < least:
            break
        if need <= slack and row not in blocked:
            taken.append(edge)
            slack -= need
        else:
            blocked.add(row)
    return np.sort(np.array(taken, dtype=np.int64)), n_whole


def _upgrades(
    p: Programme, side: Side, rows: IntArray, start: IntArray, least_ratio: float
) -> Upgrades:
    """Hull edges of the rows from the columns ``start`` up, down to the ratio given."""
    found: list[tuple[np.ndarray, ...]] = []
    for done in range(0, len(rows), p.block_rows):
        at = rows[done : done + p.block_rows]
        gain, amount = p.gain_table(at), side.table(at)
        column = start[done : done + len(at)].astype(np.int64)
        while len(gain):
            every = np.arange(len(gain))
            more_gain = gain - gain[every, column][:, None]
            more_used = amount - amount[every, column][:, None]
            ratio = np.full_like(gain, -np.inf)
            np.divide(more_gain, more_used, out=ratio, where=(more_gain > 0) & (more_used > 0))
            column = ratio.argmax(axis=1)
            steps = ratio[every, column] > least_ratio
            at, gain, amount, column = at[steps], gain[steps], amount[steps], column[steps]
            pick = np.flatnonzero(steps), column
            there = np.arange(len(gain)), column
            found.append((at, column, more_gain[pick], more_used[pick], gain[there], amount[there]))
    if not found:
        found = [tuple(np.zeros(0, dtype=np.int64) for _ in range(6))]
    return Upgrades(*(np.concatenate(column) for column in zip(*found, strict=True)))


# -- the proof ---------------------------------------------------------------------------------


def _solution(p: Programme, side: Side, chosen: _End, at_price: _End) -> Solution:
    """The solution, with the dual's value at a multiplier where ``at_price`` is best."""
    price = at_price.price
    bound = float(at_price.gain.sum())
    size = 0.0 if p.largest_gain is not None else float(np.abs(at_price.gain).sum())
    if price > 0:
        bound += price * (side.limit - at_price.used)
        size += price * float(np.abs(at_price.amount).sum())
    bound += p.rounding(size)
    objective = float(chosen.gain.sum())
    return Solution(
        choice=chosen.choice,
        objective=objective,
        bound=max(bound, objective),
        prices=_prices(p, price),
    )


def _prices(p: Programme, price: float) -> Prices:
    return replace(no_prices(p), sides=np.array([price]))
