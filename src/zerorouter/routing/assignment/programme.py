r"""The integer programme behind every assignment, evaluated in blocks that stay in the cache.

.. math:: \max_x \sum_i g_{i,x_i} \quad\text{s.t.}\quad \sum_i r_{k,i,x_i} \le b_k,\;
          |\{i: x_i = j\}| \le q_j,\; \sum_{i: x_i = j} s_{ij} \le T_j

over one model :math:`x_i` per prompt. With multipliers :math:`\lambda, \mu, \nu \ge 0` the
Lagrangian falls apart into one argmax per prompt,

.. math:: f(\lambda, \mu, \nu) = \sum_i \max_j \bigl(g_{ij} - \textstyle\sum_k \lambda_k r_{kij}
          - \mu_j - \nu_j s_{ij}\bigr) + \lambda b + \mu q + \nu T,

and by weak duality every value of f is an upper bound on the best assignment. The bounds that
are reported are such values, with an allowance for the rounding of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray

Rows: TypeAlias = "slice | IntArray"

BLOCK_CELLS = 100_000  # cells of an array that are worked on at a time: 0.4 MB of float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """A bound on a sum over all prompts: ``sum_i factor * amount[i, x_i] <= limit``.

    Attributes:
        name: The bound's name in messages and in the multipliers.
        amount: (N, M)
        limit: Largest sum, may be infinite.
        factor: One number, or one per model (M,); a lower bound has a negative one.
    """

    name: str
    amount: FloatArray
    limit: float
    factor: float | Float64Array = 1.0

    def with_limit(self, limit: float) -> Side:
        """The same amounts under another limit."""
        return Side(name=self.name, amount=self.amount, limit=limit, factor=self.factor)

    def of(self, rows: Rows, choice: IntArray) -> Float64Array:
        """(n,) what each of the rows takes with its choice (n,)."""
        taken = chosen_cells(self.amount, rows, choice)
        if isinstance(self.factor, float):
            return taken * self.factor if self.factor != 1.0 else taken
        out: Float64Array = taken * self.factor[choice]
        return out

    def table(self, rows: Rows, dtype: Any = np.float64) -> FloatArray:
        """(n, M) a copy of what each of the rows would take with each model."""
        out: FloatArray = np.multiply(
            self.amount[rows], np.asarray(self.factor, dtype=dtype), dtype=dtype
        )
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Prices:
    """Multipliers, in units of gain per unit of what is bounded; all >= 0.

    Attributes:
        sides: (K,) of the sums over all prompts.
        requests: (M,) of each model's requests.
        tokens: (M,) of each model's tokens.
    """

    sides: Float64Array
    requests: Float64Array
    tokens: Float64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Usage:
    """What a choice takes: the left sides of the programme's bounds."""

    sides: Float64Array
    requests: Float64Array
    tokens: Float64Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Programme:
    """N prompts, M models, a gain and the bounds on it.

    Attributes:
        gain: (N, M); its sign is ``gain_sign``.
        gain_sign: 1.0 to maximise the sum of gains, -1.0 to minimise it.
        largest_gain: If given, scores are computed in float32: no absolute gain is larger, and all
            amounts are >= 0. If None, they are computed in float64.
        sides: Bounds on sums over all prompts.
        request_limit: (M,) most requests of each model, infinite where free.
        tokens: (N, M) tokens a request would take, or None where no token limit is set.
        token_limit: (M,) most tokens of each model, infinite where free.
        allowed: (N, M) which pairs may be chosen, or None for all.
    """

    gain: FloatArray
    sides: tuple[Side, ...]
    request_limit: Float64Array
    token_limit: Float64Array
    tokens: FloatArray | None = None
    allowed: BoolArray | None = None
    gain_sign: float = 1.0
    largest_gain: float | None = None

    @property
    def n_prompts(self) -> int:
        """N."""
        return len(self.gain)

    @property
    def n_models(self) -> int:
        """M."""
        return int(self.gain.shape[1])

    @property
    def block_rows(self) -> int:
        """Rows whose work fits in the cache."""
        return max(BLOCK_CELLS // self.n_models, 1)

    @property
    def dtype(self) -> type[np.float32 | np.float64]:
        """What scores are computed in."""
        return np.float64 if self.largest_gain is None else np.float32

    @cached_property
    def limits(self) -> Float64Array:
        """(K,) limits of the sides."""
        return np.array([side.limit for side in self.sides], dtype=np.float64)

    @cached_property
    def is_capped(self) -> bool:
        """Whether any model has a limit of its own."""
        return bool(np.isfinite(self.request_limit).any() or np.isfinite(self.token_limit).any())

    def blocks(self, rows: IntArray | None = None) -> Iterator[Rows]:
        """All rows, or the given ones, in blocks."""
        step = self.block_rows
        total = self.n_prompts if rows is None else len(rows)
        for start in range(0, total, step):
            yield (
                slice(start, min(start + step, total))
                if rows is None
                else rows[start : start + step]
            )

    def take(self, rows: IntArray) -> Programme:
        """The same models and limits on some of the prompts; limits are scaled to their number.

        A pair's amounts are copied as float64.
        """
        share = len(rows) / max(self.n_prompts, 1)
        return Programme(
            gain=np.asarray(self.gain[rows], dtype=np.float64),
            gain_sign=self.gain_sign,
            sides=tuple(
                Side(
                    name=side.name,
                    amount=np.asarray(side.amount[rows], dtype=np.float64),
                    limit=side.limit * share,
                    factor=side.factor,
                )
                for side in self.sides
            ),
            request_limit=self.request_limit * share,
            tokens=None if self.tokens is None else np.asarray(self.tokens[rows], np.float64),
            token_limit=self.token_limit * share,
            allowed=None if self.allowed is None else self.allowed[rows],
        )

    def gains(self, rows: Rows, choice: IntArray) -> Float64Array:
        """(n,) the gain of each of the rows with its choice (n,)."""
        taken = chosen_cells(self.gain, rows, choice)
        return taken if self.gain_sign == 1.0 else taken * self.gain_sign

    def gain_table(self, rows: Rows, dtype: Any = np.float64) -> FloatArray:
        """(n, M) a copy of the gains, minus infinity where a pair may not be chosen."""
        out = np.multiply(self.gain[rows], dtype(self.gain_sign), dtype=dtype)
        return self.barred(out, rows, -np.inf)

    def barred(self, table: FloatArray, rows: Rows, value: float) -> FloatArray:
        """``table`` (n, M) with ``value`` written where a pair may not be chosen."""
        if self.allowed is not None:
            table[~self.allowed[rows]] = value
        return table

    def value(self, choice: IntArray) -> float:
        """The sum of gains of a choice (N,)."""
        return float(self.gains(slice(None), choice).sum())

    def usage(self, choice: IntArray) -> Usage:
        """What a choice (N,) takes of everything that is bounded."""
        every = slice(None)
        m = self.n_models
        if self.tokens is None:
            tokens: Float64Array = np.zeros(m)
        else:
            taken = chosen_cells(self.tokens, every, choice)
            tokens = np.asarray(np.bincount(choice, taken, minlength=m), dtype=np.float64)
        return Usage(
            sides=np.array([side.of(every, choice).sum() for side in self.sides]),
            requests=np.bincount(choice, minlength=m).astype(np.float64),
            tokens=tokens,
        )

    def keeps(self, choice: IntArray) -> bool:
        """Whether a choice (N,) keeps every bound, without any tolerance."""
        used = self.usage(choice)
        return bool(
            np.all(used.sides <= self.limits)
            and np.all(used.requests <= self.request_limit)
            and np.all(used.tokens <= self.token_limit)
            and (self.allowed is None or self.allowed[np.arange(len(choice)), choice].all())
        )

    def rounding(self, size: float) -> float:
        r"""What the arithmetic of scores may hide from a dual value: add it, and it is a bound.

        With unit roundoff u a score of t terms is off by at most ``u (|g| + 3 sum |price x
        amount|)`` for t = 1 and so on. A pair that was passed over by rounding scores at least the
        chosen one's score less both errors; where amounts are >= 0, what it is charged is thus at
        most what the chosen one is charged plus the spread of gains. Taken over all prompts that
        is less than ``4 u t (2 N max |g| + charged)``. In float64 a flat 1e-12 of the sizes is
        generous.

        Args:
            size: Sum over all prompts of what the chosen pair is charged, in units of gain; in
                float64 with the absolute gains added.
        """
        if self.largest_gain is None:
            return 1e-12 * size
        u = float(np.finfo(np.float32).eps) / 2
        terms = len(self.sides) + 2 * self.is_capped
        return 4 * u * terms * (2 * self.largest_gain * self.n_prompts + size)

    def scorer(self, prices: Prices) -> Scorer:
        """The scores of the Lagrangian at these prices, block by block."""
        return Scorer(self, prices)


class Scorer:
    """Reduced gains at fixed prices; the arrays that it hands out are used again for the next."""

    def __init__(self, programme: Programme, prices: Prices) -> None:
        self._p = programme
        kind = programme.dtype
        self._dense = [
            (side.amount, np.asarray(-price * side.factor, dtype=kind))
            for side, price in zip(programme.sides, prices.sides, strict=True)
            if price > 0
        ]
        self._columns: NDArray[Any] | None = None
        if prices.requests.any():
            self._columns = np.asarray(prices.requests, dtype=kind)
        if programme.tokens is not None and prices.tokens.any():
            self._dense.append((programme.tokens, np.asarray(-prices.tokens, dtype=kind)))
        shape = (programme.block_rows, programme.n_models)
        self._out = np.empty(shape, dtype=kind)
        self._work = np.empty(shape, dtype=kind)

    def __call__(self, rows: Rows) -> FloatArray:
        """(n, M) scores of at most `Programme.block_rows` rows, minus infinity where barred."""
        p, gain = self._p, self._p.gain[rows]
        n = len(gain)
        out = self._out[:n]
        if not self._dense:
            np.multiply(gain, p.gain_sign, out=out, casting="same_kind")
        for i, (amount, factor) in enumerate(self._dense):
            if i == 0:
                np.multiply(amount[rows], factor, out=out)
                (np.add if p.gain_sign == 1.0 else np.subtract)(out, gain, out=out)
            else:
                work = self._work[:n]
                np.multiply(amount[rows], factor, out=work)
                out += work
        if self._columns is not None:
            out -= self._columns
        return p.barred(out, rows, -np.inf)

    def best(self, rows: Rows) -> IntArray:
        """(n,) the column of the largest score of each row."""
        found: IntArray = self(rows).argmax(axis=1)
        return found


def chosen_cells(table: FloatArray, rows: Rows, choice: IntArray) -> Float64Array:
    """(n,) the chosen cell of each of the rows."""
    if isinstance(rows, slice):
        rows = np.arange(*rows.indices(len(table)))
    return np.asarray(table[rows, choice], dtype=np.float64)
