"""From the dual's best choice to one that keeps every bound, at little loss.

The best choice at the multipliers misses the limits by the few prompts that lie on an edge. Each
move of one prompt to another model has a loss (in reduced gain, >= 0 at the multipliers) and
changes what is used. Moves that relieve a broken bound are made in order of loss per relief;
once all bounds hold, moves that gain are made in order of loss while they fit. Everything is
deterministic: ties go to the lower prompt and column.
"""

from __future__ import annotations

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.routing.assignment.programme import Prices, Programme, Usage

CORE_CELLS = 3_000_000  # pairs that are held at a time
FIRST_CORE = 4_000  # prompts nearest to an edge that are looked at first
ROUNDS = 200
GAIN_ROUNDS = 20
ROUNDING = (0.0, 1e-13, 1e-10)  # shares of each limit left free for the rounding of sums


def repaired(
    programme: Programme, prices: Prices, choice: IntArray, *, improve: bool = True
) -> IntArray | None:
    """A choice near ``choice`` that keeps every bound, or None where none was found.

    Args:
        programme: What is bounded.
        prices: Multipliers, by which moves are ordered.
        choice: (N,)
        improve: Whether to go on with moves that gain.
    """
    margins = _margins(programme, prices, choice)
    for spare in ROUNDING:
        found = _attempt(programme, prices, choice, margins, spare, improve)
        if found is None or programme.keeps(found):
            return found
    return None


def _margins(p: Programme, prices: Prices, choice: IntArray) -> Float64Array:
    """(N,) the least loss at which each prompt can be moved at all."""
    scorer = p.scorer(prices)
    margin = np.empty(p.n_prompts)
    for rows in p.blocks():
        score, columns = scorer(rows), choice[rows]
        every = np.arange(len(columns))
        mine = score[every, columns].copy()
        score[every, columns] = -np.inf
        margin[rows] = mine - score.max(axis=1)
    return margin


def _attempt(
    p: Programme,
    prices: Prices,
    choice: IntArray,
    margins: Float64Array,
    spare: float,
    improve: bool,
) -> IntArray | None:
    ledger = _Ledger(p, p.usage(choice), spare)
    out = choice.copy()
    most = max(CORE_CELLS // p.n_models, 1)
    size = min(FIRST_CORE, p.n_prompts)
    while True:
        # Movable prompts first; those of a model over its limit before others.
        crowded = ledger.crowded()[out]
        order = np.lexsort((margins, ~crowded)) if crowded.any() else np.argsort(margins)
        core = _Core(p, prices, out, np.sort(order[:size]), ledger)
        core.relieve()
        out[core.rows] = core.choice
        if not ledger.broken():
            break
        if size >= min(p.n_prompts, most) and (size >= p.n_prompts or not core.moved):
            return None
        size = min(size * 8, most, p.n_prompts)
    if improve:
        order = np.argsort(margins, kind="stable")
        core = _Core(p, prices, out, np.sort(order[: min(most, p.n_prompts)]), ledger)
        core.improve()
        out[core.rows] = core.choice
    return out


class _Ledger:
    """What is used and what is left of every bound; sides first, then requests, then tokens."""

    def __init__(self, p: Programme, used: Usage, spare: float) -> None:
        self.n_sides, self.n_models = len(p.sides), p.n_models
        self.used = np.concatenate([used.sides, used.requests, used.tokens])
        limit = np.concatenate([p.limits, p.request_limit, p.token_limit])
        self.limit = limit - spare * np.abs(np.where(np.isfinite(limit), limit, 0.0))
        self.limit[self.n_sides : self.n_sides + self.n_models] = p.request_limit  # do not round

    @property
    def slack(self) -> Float64Array:
        """(C,) what is left; negative where a bound is broken."""
        left: Float64Array = self.limit - self.used
        return left

    def broken(self) -> bool:
        """Whether any bound is broken."""
        return bool(np.any(self.used > self.limit))

    def crowded(self) -> BoolArray:
        """(M,) models over a limit of their own."""
        over = (self.used > self.limit)[self.n_sides :]
        return np.asarray(over[: self.n_models] | over[self.n_models :])


class _Core:
    """Some prompts with all that moving them would change, held at once."""

    def __init__(
        self, p: Programme, prices: Prices, choice: IntArray, rows: IntArray, ledger: _Ledger
    ) -> None:
        self.rows = rows
        self.choice = choice[rows].astype(np.int64)
        self.moved = False
        self._ledger = ledger
        self._gain = p.gain_table(rows)  # (n, M)
        self._sides = [side.table(rows) for side in p.sides]
        self._tokens = None if p.tokens is None else np.asarray(p.tokens[rows], dtype=np.float64)
        score = self._gain.copy()
        for table, price in zip(self._sides, prices.sides, strict=True):
            if price > 0:
                score -= price * table
        score -= prices.requests
        if self._tokens is not None and prices.tokens.any():
            score -= prices.tokens * self._tokens
        self._score = p.barred(score, rows, -np.inf)

    # Every (n, M) table below is the change that moving each prompt to each model would make.

    def _change(self, table: FloatArray) -> FloatArray:
        every = np.arange(len(self.choice))
        change: FloatArray = table - table[every, self.choice][:, None]
        return change

    def relieve(self) -> None:
        """Moves that relieve broken bounds, by loss per relief, until none is broken."""
        ledger = self._ledger
        for _ in range(ROUNDS):
            if not ledger.broken():
                return
            loss = np.maximum(-self._change(self._score), 0.0)
            relief, fits = self._relief()
            worth = np.full_like(loss, np.inf)
            np.divide(loss + 1e-15, relief, out=worth, where=fits & (relief > 0))
            best = worth.argmin(axis=1)
            least = worth[np.arange(len(best)), best]
            order = np.argsort(least, kind="stable")
            made = 0
            for i in order[: int(np.isfinite(least).sum())].tolist():
                if self._make(i, int(best[i]), relieving=True):
                    made += 1
                    if not ledger.broken():
                        return
            if not made:
                return

    def _relief(self) -> tuple[Float64Array, BoolArray]:
        """Shares of the excess that moves take away, and which moves break nothing else."""
        ledger = self._ledger
        slack, k, m = ledger.slack, ledger.n_sides, ledger.n_models
        n = len(self.choice)
        relief = np.zeros((n, m))
        fits = np.isfinite(self._score)
        fits[np.arange(n), self.choice] = False
        for side, table in enumerate(self._sides):
            change = self._change(table)
            if slack[side] < 0:
                relief += np.clip(-change / -slack[side], None, 1.0)
            else:
                fits &= change <= slack[side]
        left = slack[k : k + m]
        fits &= left >= 1
        relief += np.where(left < 0, 1 / np.maximum(-left, 1.0), 0.0)[self.choice][:, None]
        if self._tokens is not None:
            left = slack[k + m :]
            fits &= self._tokens <= left
            mine = self._tokens[np.arange(n), self.choice]
            share = np.where(left < 0, 1 / np.where(left < 0, -left, 1.0), 0.0)[self.choice]
            relief += np.minimum(mine * share, 1.0)[:, None]
        return relief, fits

    def improve(self) -> None:
        """Moves that gain and fit, by least loss, until there is none."""
        ledger = self._ledger
        k, m = ledger.n_sides, ledger.n_models
        for _ in range(GAIN_ROUNDS):
            slack = ledger.slack
            gain = self._change(self._gain)
            fits = (gain > 0) & np.isfinite(self._score)
            for side, table in enumerate(self._sides):
                fits &= self._change(table) <= slack[side]
            fits &= slack[k : k + m] >= 1
            if self._tokens is not None:
                fits &= self._tokens <= slack[k + m :]
            loss = np.where(fits, -self._change(self._score), np.inf)
            best = loss.argmin(axis=1)
            least = loss[np.arange(len(best)), best]
            order = np.argsort(least, kind="stable")[: int(np.isfinite(least).sum())]
            made = sum(self._make(i, int(best[i]), relieving=False) for i in order.tolist())
            if not made:
                return

    def take(self, wanted: IntArray) -> None:
        """Move each prompt to its wanted column (n,), in order, where that fits."""
        for i, to in enumerate(wanted.tolist()):
            self._make(i, int(to), relieving=False)

    def _make(self, i: int, to: int, *, relieving: bool) -> bool:
        """Move one prompt, if that breaks nothing; of broken bounds none may get worse."""
        ledger = self._ledger
        k, m, at = ledger.n_sides, ledger.n_models, int(self.choice[i])
        if to == at:
            return False
        used, limit = ledger.used, ledger.limit
        change = [(side, float(t[i, to] - t[i, at])) for side, t in enumerate(self._sides)]
        change += [(k + to, 1.0), (k + at, -1.0)]
        if self._tokens is not None:
            change += [
                (k + m + to, float(self._tokens[i, to])),
                (k + m + at, -float(self._tokens[i, at])),
            ]
        useful = not relieving
        for place, amount in change:
            after = used[place] + amount
            if after > limit[place] and amount > 0:
                return False
            useful |= amount < 0 and used[place] > limit[place]
        if not useful:
            return False
        for place, amount in change:
            used[place] += amount
        self.choice[i] = to
        self.moved = True
        return True


def relinked(programme: Programme, prices: Prices, start: IntArray, wanted: IntArray) -> IntArray:
    """From a choice that keeps every bound towards a better one that does not.

    Prompts are moved to their wanted models by gain per share of what is left while everything
    fits; then moves that gain are made.

    Args:
        programme: What is bounded.
        prices: Multipliers, by which the last moves are ordered.
        start: (N,) a choice that keeps every bound.
        wanted: (N,) another one.
    """
    p = programme
    rows = np.flatnonzero(start != wanted)
    more = p.gains(rows, wanted[rows]) - p.gains(rows, start[rows])
    rows, more = rows[more > 0], more[more > 0]
    for spare in ROUNDING:
        ledger = _Ledger(p, p.usage(start), spare)
        out = start.copy()
        taken = np.zeros(len(rows))
        for k, side in enumerate(p.sides):
            if np.isfinite(side.limit):
                change = side.of(rows, wanted[rows]) - side.of(rows, start[rows])
                taken += np.maximum(change, 0.0) / max(ledger.slack[k], 1e-300)
        order = rows[np.argsort(-more / (taken + 1e-300), kind="stable")]
        step = max(CORE_CELLS // p.n_models, 1)
        for begin in range(0, len(order), step):
            part = order[begin : begin + step]
            core = _Core(p, prices, out, part, ledger)
            core.take(wanted[part])
            out[core.rows] = core.choice
        final = repaired(p, prices, out)
        if final is not None:
            return final
    return start
