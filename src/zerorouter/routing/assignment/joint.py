r"""Several bounds at once: budget, latency, accuracy floor and the models' capacities.

The dual function of `programme` is convex and piecewise linear in all multipliers. It is minimised
smoothed: the maximum over models becomes :math:`\tau \log \sum_j \exp(s_{ij}/\tau)` (Nesterov
2005), whose gradient and Hessian are the mean and covariance of what a soft choice uses, so that
Newton's method with the multipliers kept at or above zero (Bertsekas 1982) needs a handful of
steps at each :math:`\tau`. The first, large :math:`\tau` are worked off on a sample, the last
ones on all prompts. The bound that is reported is the unsmoothed dual's value at the last
multipliers, hence holds whatever the smoothing did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.routing.assignment.programme import Prices, Programme, Rows, chosen_cells

SAMPLES = (2_048, 16_384)  # prompts on which the smoothing is lowered first, each time further
FIRST_TEMPERATURE = 0.3  # in units of a prompt's spread of gains
LEAST_TEMPERATURE = 1e-10
COOLING = 0.4
NEAR = 20.0  # temperatures below the best beyond which a model has no share
FEW_IN_DOUBT, DOUBTS_PER_BOUND = 400, 10  # so few smoothed prompts carry no curvature: cold enough
STEPS = 8  # of Newton's method at each temperature
TOLERANCE = 1e-3  # share of a limit by which a soft choice may miss it
RIDGE = 1e-7
FARTHEST = 1e7  # multipliers beyond this many spreads per limit are those of an empty problem


@dataclass(frozen=True, kw_only=True, eq=False)
class Dual:
    """A minimiser of the dual and what it proves.

    Attributes:
        prices: The multipliers.
        choice: (N,) a best choice at them.
        bound: The dual's value there: no choice that keeps the bounds gains more.
        impossible: Whether the bound lies below the least gain of any choice at all, which
            proves that none keeps the bounds.
    """

    prices: Prices
    choice: IntArray
    bound: float
    impossible: bool


def minimise_dual(programme: Programme) -> Dual:
    """Multipliers whose bound is close to the least, and the choice that goes with them."""
    layout = _Layout.of(programme)
    theta, temperature = np.zeros(layout.size), FIRST_TEMPERATURE
    for size in SAMPLES if layout.size else ():
        if programme.n_prompts > 2 * size:
            rng = np.random.default_rng(0)
            rows = np.sort(rng.choice(programme.n_prompts, size=size, replace=False))
            theta, temperature = _cooled(programme.take(rows), layout, theta, temperature)
    if layout.size:
        theta, _ = _cooled(programme, layout, theta, temperature)
    return evaluate_dual(programme, layout.prices(programme, theta))


def evaluate_dual(programme: Programme, prices: Prices) -> Dual:
    """The dual's value at given multipliers, with its best choice."""
    p = programme
    scorer = p.scorer(prices)
    choice = np.empty(p.n_prompts, dtype=np.int32)
    least = 0.0
    for rows in p.blocks():
        choice[rows] = scorer.best(rows)
        gain = p.gain_table(rows)
        least += float(np.where(np.isneginf(gain), np.inf, gain).min(axis=1).sum())
    used = p.usage(choice)
    gains = p.gains(slice(None), choice)
    bound, size = float(gains.sum()), 0.0
    for price, use, limit in (
        (prices.sides, used.sides, p.limits),
        (prices.requests, used.requests, p.request_limit),
        (prices.tokens, used.tokens, p.token_limit),
    ):
        paid = price > 0
        bound += float(price[paid] @ (limit[paid] - use[paid]))
        size += float(price[paid] @ np.abs(use[paid]))
    if p.largest_gain is None:
        size += float(np.abs(gains).sum())
    bound += p.rounding(size)
    return Dual(prices=prices, choice=choice, bound=bound, impossible=bound < least)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layout:
    """Which bounds have a multiplier, and the units in which it is sought.

    Multipliers are sought in spreads of gain per share of the limit: all are then of order one.

    Attributes:
        sides: Positions of the finite sides.
        requests: Columns with a request limit.
        tokens: Columns with a token limit.
        unit: (C,) amount per prompt that counts as one, for each bound.
        level: (C,) limit per prompt in that unit.
        spread: A prompt's typical difference between its best and its worst gain.
    """

    sides: IntArray
    requests: IntArray
    tokens: IntArray
    unit: Float64Array
    level: Float64Array
    spread: float

    @property
    def size(self) -> int:
        """C, the number of multipliers."""
        return len(self.unit)

    @classmethod
    def of(cls, p: Programme) -> _Layout:
        sides = np.flatnonzero(np.isfinite(p.limits))
        requests = np.flatnonzero(np.isfinite(p.request_limit))
        tokens = np.flatnonzero(np.isfinite(p.token_limit))
        limit = np.concatenate([p.limits[sides], p.request_limit[requests], p.token_limit[tokens]])
        mean = limit / p.n_prompts
        # Squares of other units would leave the range of floats; such a bound is as good as none,
        # or as zero.
        size = np.abs(mean)
        unit = np.where((size > 1e-100) & (size < 1e100), size, 1.0)
        rows = np.arange(0, p.n_prompts, max(p.n_prompts // 1000, 1))[:1000]
        gain = p.gain_table(rows)
        known = np.where(np.isneginf(gain), np.nan, gain)
        spread = float(np.mean(np.nanmax(known, axis=1) - np.nanmin(known, axis=1)))
        for place, k in enumerate(sides):
            if mean[place] == 0:
                table = np.abs(p.barred(p.sides[k].table(rows), rows, 0.0))
                unit[place] = float(table.mean()) or 1.0
        return cls(
            sides=sides,
            requests=requests,
            tokens=tokens,
            unit=unit,
            level=mean / unit,
            spread=spread or 1.0,
        )

    def prices(self, p: Programme, theta: Float64Array) -> Prices:
        """Multipliers in the programme's own units."""
        k, r = len(self.sides), len(self.requests)
        price = theta * self.spread / self.unit
        sides, requests, tokens = (np.zeros(n) for n in (len(p.sides), p.n_models, p.n_models))
        sides[self.sides] = price[:k]
        requests[self.requests] = price[k : k + r]
        tokens[self.tokens] = price[k + r :]
        return Prices(sides=sides, requests=requests, tokens=tokens)


def _cooled(
    p: Programme, layout: _Layout, theta: Float64Array, temperature: float
) -> tuple[Float64Array, float]:
    """Newton's method at falling temperatures, until few prompts are in doubt."""
    few = FEW_IN_DOUBT + DOUBTS_PER_BOUND * layout.size
    while True:
        theta, n_doubtful = _newton(p, layout, theta, temperature)
        cold = n_doubtful <= min(few, p.n_prompts // 4) or temperature <= LEAST_TEMPERATURE
        if cold or theta.max() >= FARTHEST:
            return theta, temperature
        temperature *= COOLING


def _newton(
    p: Programme, layout: _Layout, theta: Float64Array, temperature: float
) -> tuple[Float64Array, int]:
    """Projected Newton steps on the smoothed dual; also how many prompts are in doubt."""
    here = _smoothed(p, layout, theta, temperature)
    noise = 1e-12 if p.dtype is np.float64 else 1e-6  # of the value, which is a sum of scores
    for _ in range(STEPS):
        free = (theta > 0) | (here.slope < 0)
        if not free.any() or np.abs(here.slope[free]).max() <= TOLERANCE:
            break
        curvature = here.curvature[np.ix_(free, free)]
        # Directions in which no soft choice changes have no curvature of their own.
        damping = RIDGE * (1 + np.trace(curvature) / len(curvature))
        direction = np.zeros_like(theta)
        direction[free] = -np.linalg.solve(
            curvature + damping * np.eye(len(curvature)), here.slope[free]
        )
        step = 1.0
        while True:
            there = np.clip(theta + step * direction, 0.0, FARTHEST)
            found = _smoothed(p, layout, there, temperature)
            expected = 1e-4 * float(here.slope @ (there - theta))
            if found.value <= here.value + expected + noise * (1 + abs(here.value)):
                break
            step /= 4
            if step < 1e-4:
                return theta, here.n_doubtful
        theta, here = there, found
    return theta, here.n_doubtful


@dataclass(frozen=True, kw_only=True, eq=False)
class _Smoothed:
    """The smoothed dual per prompt and spread, with its derivatives by the multipliers."""

    value: float
    slope: Float64Array
    curvature: Float64Array
    n_doubtful: int


def _smoothed(p: Programme, layout: _Layout, theta: Float64Array, temperature: float) -> _Smoothed:
    scorer = p.scorer(layout.prices(p, theta))
    heat = temperature * layout.spread
    sums = _Sums(layout)
    for rows in p.blocks():
        score = scorer(rows)
        every = np.arange(len(score))
        choice = score.argmax(axis=1)
        top = score[every, choice]
        score[every, choice] = -np.inf
        # Where the second best lies far below, the soft choice is the hard one.
        near = top - score.max(axis=1) < NEAR * heat
        score[every, choice] = top
        sums.add_hard(p, rows, choice, top, ~near)
        if near.any():
            at = np.arange(*rows.indices(p.n_prompts)) if isinstance(rows, slice) else rows
            sums.add_soft(p, at[near], score[near], heat)
    return sums.finished(p, theta, temperature)


class _Sums:
    """Gathers the smoothed dual over blocks of prompts."""

    def __init__(self, layout: _Layout) -> None:
        self._layout = layout
        self._k = len(layout.sides)
        self._r = self._k + len(layout.requests)
        self._value = 0.0
        self._n_doubtful = 0
        self._used = np.zeros(layout.size)  # what the soft choices use
        self._square = np.zeros((layout.size, layout.size))  # and its covariance

    def add_hard(
        self, p: Programme, rows: Rows, choice: IntArray, top: FloatArray, kept: BoolArray
    ) -> None:
        """Prompts of ``rows`` marked in ``kept`` whose choice is not in doubt."""
        layout, k, r = self._layout, self._k, self._r
        self._value += float(top[kept].sum(dtype=np.float64))
        for i, side in enumerate(layout.sides):
            self._used[i] += float(p.sides[side].of(rows, choice)[kept].sum())
        chosen = choice[kept]
        self._used[k:r] += np.bincount(chosen, minlength=p.n_models)[layout.requests]
        if p.tokens is not None and len(layout.tokens):
            tokens = chosen_cells(p.tokens, rows, choice)[kept]
            self._used[r:] += np.bincount(chosen, tokens, minlength=p.n_models)[layout.tokens]

    def add_soft(self, p: Programme, rows: IntArray, score: FloatArray, heat: float) -> None:
        """Prompts whose choice is spread by the smoothing; their scores are overwritten."""
        layout, k, r = self._layout, self._k, self._r
        used, square = self._used, self._square
        soft, level = _soft(score, heat)
        self._value += level
        self._n_doubtful += len(rows)
        tables = [p.sides[s].table(rows, soft.dtype.type) for s in layout.sides]
        weighed = [soft * table for table in tables]
        means = [w.sum(axis=1) for w in weighed]
        counts = soft[:, layout.requests]
        amounts = np.zeros((len(rows), 0), dtype=soft.dtype)
        if p.tokens is not None and len(layout.tokens):
            amounts = p.tokens[rows][:, layout.tokens].astype(soft.dtype)
        tokens = soft[:, layout.tokens] * amounts
        for i in range(k):
            used[i] += float(means[i].sum(dtype=np.float64))
            for j in range(i + 1):
                both = np.vdot(weighed[i], tables[j]) - means[i] @ means[j]
                square[i, j] += float(both)
            square[k:r, i] += weighed[i][:, layout.requests].sum(axis=0) - means[i] @ counts
            of_tokens = weighed[i][:, layout.tokens] * amounts
            square[r:, i] += of_tokens.sum(axis=0) - means[i] @ tokens
        held, kept = counts.sum(axis=0), tokens.sum(axis=0)
        used[k:r] += held
        used[r:] += kept
        square[k:r, k:r] += np.diag(held) - counts.T @ counts
        square[r:, r:] += np.diag((tokens * amounts).sum(axis=0)) - tokens.T @ tokens
        shared = layout.tokens[:, None] == layout.requests
        square[r:, k:r] += np.where(shared, kept[:, None], 0.0) - tokens.T @ counts

    def finished(self, p: Programme, theta: Float64Array, temperature: float) -> _Smoothed:
        """The mean over prompts, in the layout's units."""
        layout, n = self._layout, p.n_prompts
        square = np.tril(self._square) + np.tril(self._square, -1).T
        return _Smoothed(
            value=self._value / (n * layout.spread) + float(theta @ layout.level),
            slope=layout.level - self._used / (n * layout.unit),
            curvature=square / (n * np.outer(layout.unit, layout.unit) * temperature),
            n_doubtful=self._n_doubtful,
        )


def _soft(score: FloatArray, heat: float) -> tuple[FloatArray, float]:
    """Soft choices (n, M), overwriting the scores, and the sum of their smoothed maxima."""
    top = score.max(axis=1)
    score -= top[:, None]
    score /= score.dtype.type(heat)
    score[score < -NEAR] = -np.inf  # exactly nothing rather than denormal numbers, which are slow
    np.exp(score, out=score)
    total = score.sum(axis=1)
    score /= total[:, None]
    level = top.sum(dtype=np.float64) + heat * np.log(total).sum(dtype=np.float64)
    return score, float(level)
