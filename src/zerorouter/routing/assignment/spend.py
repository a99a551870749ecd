r"""What a batch will really cost: the sum of uncertain costs, and budgets that it keeps.

The cost of prompt i with model j is

.. math:: C_{ij} = c_{ij}\,\exp(\epsilon_{ij} + \delta_j + \gamma - \tfrac12(s_{ij}^2 + \tau_j^2
          + \kappa^2))

with expectation :math:`c_{ij}`: an error of its own with sd :math:`s_{ij}`, one that all requests
of a model share (its answers are longer than thought) with sd :math:`\tau_j`, and one shared
by all (the prompts are longer) with sd :math:`\kappa`, in logs, independent and normal. Inflating
every cost to its own 95% quantile would keep the budget and waste much of it, since the errors
of their own average out in a sum. What matters is the sum's own quantile. With
:math:`S_j = \sum_{i: x_i = j} c_{ij}` and :math:`Q_j`, :math:`V_j` the sums of :math:`c^2` and
:math:`c^2 e^{s^2}`,

.. math:: E[S^2] = e^{\kappa^2}\Bigl(\bigl(\textstyle\sum_j S_j\bigr)^2 +
          \sum_j (e^{\tau_j^2} - 1) S_j^2 + \sum_j e^{\tau_j^2} (V_j - Q_j)\Bigr)

and the quantile is that of the log-normal with these two moments (Fenton 1960), which is exact
where one shared error dominates and close to the normal where many small ones do.

A budget on that quantile is a bound on a norm. It is kept by linear costs inflated per model,
:math:`c_{ij} f_j`, with f the norm's slope at the solution: the quantile is then their sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.errors import InputError
from zerorouter.predict.quantiles import normal_quantile, student_quantile


@dataclass(frozen=True, kw_only=True, eq=False)
class CostErrors:
    """How far costs may be off, in natural logs.

    Attributes:
        own_sd: Standard deviation of each cell's own error: one number, (M,) or (N, M).
        model_sd: (M,) or one number, of the error that a model's requests share.
        common_sd: Of the error that all requests share.
        bias: (M,) or one number, by which costs are known to be told too low. Optimising brings
            some in by itself: what looks cheap by mistake is chosen more often.
        looks: On how many independent looks the shared errors rest; few give the quantiles of
            Student's t.
    """

    own_sd: float | FloatArray
    model_sd: float | FloatArray = 0.0
    common_sd: float = 0.0
    bias: float | FloatArray = 0.0
    looks: float = math.inf

    def __post_init__(self) -> None:
        for name in ("own_sd", "model_sd", "common_sd"):
            value = np.asarray(getattr(self, name))
            if not (np.all(np.isfinite(value)) and np.all(value >= 0)):
                raise InputError(f"{name} has a value that is no number >= 0")
        if not np.all(np.isfinite(np.asarray(self.bias))):
            raise InputError("bias has a value that is no number")
        if not self.looks >= 1:
            raise InputError(f"looks is {self.looks!r}; a number >= 1 is wanted")

    def take(self, rows: IntArray) -> CostErrors:
        """The errors of some of the prompts."""
        if np.ndim(self.own_sd) < 2:
            return self
        return replace(self, own_sd=np.asarray(self.own_sd)[rows])

    @classmethod
    def fit(cls, predicted: FloatArray, observed: FloatArray) -> CostErrors:
        """Errors from costs that were predicted and then seen on other prompts.

        What the mean log ratios of all models have in common is the common error; how far a
        model's lies from that, root mean square over models, is the sd of model errors, and at
        least the standard error of that model's mean: where predictions were fitted to these
        very costs, offsets vanish and the standard error is all that is left.

        Args:
            predicted: (n, M) expected dollars.
            observed: (n, M) dollars; NaN where a model was not asked.

        Raises:
            InputError: no model was seen twice.
        """
        own, mean, count = _log_ratios(predicted, observed)
        # With an expectation of 1 the log's own mean is minus half its variance.
        offset = mean + own / 2
        seen = count >= 2
        level = float(offset[seen].mean())
        between = float(np.mean((offset[seen] - level) ** 2)) if seen.sum() > 1 else 0.0
        sampling = own / np.maximum(count, 1)
        return cls(
            own_sd=np.sqrt(own),
            model_sd=np.sqrt(np.maximum(between, sampling)),
            common_sd=abs(level),
        )

    @classmethod
    def from_replays(
        cls,
        predicted: FloatArray,
        observed: FloatArray,
        replays: Sequence[Replay],
        *,
        looks: float,
    ) -> CostErrors:
        """Errors from assignments that were replayed on prompts with known costs.

        Replaying what is done with predictions brings in what residuals alone do not show: that a
        model is given the prompts it looks cheap on, and that prompts of a kind err together. Of
        each replay and model the log ratio of the sums is taken. Its mean is the bias, and what
        its variance exceeds that of the cells' own errors is the models' shared variance; what
        all models of a replay have in common is the common error.

        Args:
            predicted: (n, M) expected dollars, each row predicted without having been seen.
            observed: (n, M) dollars.
            replays: Rows that were assigned together, and their columns.
            looks: How many disjoint parts of the prompts were predicted apart.

        Raises:
            InputError: there are fewer than two replays.
        """
        if len(replays) < 2:
            raise InputError(f"{len(replays)} replays are given; two or more are wanted")
        own, _, _ = _log_ratios(predicted, observed)
        m = predicted.shape[1]
        ratio = np.full((len(replays), m), np.nan)
        noise, weight = np.zeros((len(replays), m)), np.zeros((len(replays), m))
        for r, (rows, choice) in enumerate(replays):
            expected, real = predicted[rows, choice], observed[rows, choice]
            sums = SpendSums.of(expected, choice, cls(own_sd=np.sqrt(own)), m)
            spent = np.bincount(choice, real, minlength=m)
            used = (sums.total > 0) & (spent > 0)
            ratio[r, used] = np.log(spent[used] / sums.total[used])
            noise[r, used] = sums.loose[used] / sums.total[used] ** 2
            weight[r] = sums.total / sums.total.sum()
        seen = ~np.isnan(ratio)
        filled = np.where(seen, ratio, 0.0)
        total = np.sum(weight * seen)
        level = float(np.sum(weight * filled) / total)
        # A model that replays hardly used is taken to err like the others.
        own_bias = (np.sum(weight * filled, axis=0) + 0.2 * level) / (
            np.sum(weight * seen, axis=0) + 0.2
        )
        apart = np.where(seen, ratio - own_bias, 0.0)
        shared = np.sum(weight * (apart**2 - noise) * seen) / total
        by_replay = np.sum(weight * apart, axis=1)
        common = float(np.mean(by_replay**2 - np.sum(weight**2 * (noise + shared), axis=1)))
        return cls(
            own_sd=np.sqrt(own),
            model_sd=float(np.sqrt(max(shared, float(np.mean(own)) / len(predicted)))),
            common_sd=float(np.sqrt(max(common, 0.0))),
            bias=own_bias,
            looks=looks,
        )


Replay: TypeAlias = "tuple[IntArray, IntArray]"
"""Rows (n,) that were assigned together, and the columns (n,) that they were given."""


def _log_ratios(
    predicted: FloatArray, observed: FloatArray
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """(M,) variances, means and counts of the log of observed over predicted costs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.asarray(observed, np.float64) / np.asarray(predicted, np.float64))
    ratio[~np.isfinite(ratio)] = np.nan
    count = np.sum(~np.isnan(ratio), axis=0).astype(np.float64)
    if not (count >= 2).any():
        raise InputError("no model has two observed costs; at least two are wanted")
    mean = np.where(np.isnan(ratio), 0.0, ratio).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(np.isnan(ratio), 0.0, ratio - mean) ** 2
    free = np.maximum(count - 1, 0)
    pooled = squares.sum() / max(float(free.sum()), 1.0)
    return (squares.sum(axis=0) + 5 * pooled) / (free + 5), mean, count


@dataclass(frozen=True, kw_only=True, eq=False)
class Spend:
    """The distribution of a batch's realised spend.

    Attributes:
        mean: Expected dollars.
        sd: Standard deviation.
        by_model: (M,) expected dollars of each model.
        looks: See `CostErrors`.
    """

    mean: float
    sd: float
    by_model: Float64Array
    looks: float = math.inf

    def quantile(self, q: float) -> float:
        """Dollars that the realised spend stays below with probability ``q``."""
        if self.mean == 0 or self.sd == 0:
            return self.mean
        log_variance = math.log1p((self.sd / self.mean) ** 2)
        log_sd = math.sqrt(log_variance)
        z = normal_quantile(q) if math.isinf(self.looks) else student_quantile(q, self.looks)
        return self.mean * math.exp(z * log_sd - log_variance / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpendSums:
    """What the distribution of a spend rests on; sums of parts add up to those of the whole.

    Attributes:
        total: (M,) expected dollars of each model's prompts, bias included.
        loose: (M,) variance of their own errors.
    """

    total: Float64Array
    loose: Float64Array

    @classmethod
    def of(cls, cost: FloatArray, choice: IntArray, errors: CostErrors, n_models: int) -> SpendSums:
        """Sums of a choice.

        Args:
            cost: (n,) expected cost of each prompt with its model.
            choice: (n,) columns.
            errors: How far costs may be off.
            n_models: M.
        """
        factor = np.exp(np.broadcast_to(np.asarray(errors.bias, np.float64), n_models))
        c = np.asarray(cost, dtype=np.float64) * factor[choice]
        own = np.asarray(errors.own_sd, dtype=np.float64)
        if own.ndim == 2:
            sd = own[np.arange(len(c)), choice]
        else:
            sd = np.broadcast_to(own, n_models)[choice]
        total = np.bincount(choice, c, minlength=n_models)
        loose = np.bincount(choice, c**2 * np.expm1(sd**2), minlength=n_models)
        return cls(
            total=np.asarray(total, dtype=np.float64), loose=np.asarray(loose, dtype=np.float64)
        )

    def __add__(self, other: SpendSums) -> SpendSums:
        return SpendSums(total=self.total + other.total, loose=self.loose + other.loose)

    def times(self, factor: float) -> SpendSums:
        """Those of so many times as many prompts."""
        return SpendSums(total=self.total * factor, loose=self.loose * factor)

    def spend(self, errors: CostErrors) -> Spend:
        """The distribution."""
        shared = _variances(errors, len(self.total))
        square = math.exp(errors.common_sd**2) * float(
            self.total.sum() ** 2 + shared @ self.total**2 + (1 + shared) @ self.loose
        )
        mean = float(self.total.sum())
        sd = math.sqrt(max(square - mean**2, 0.0))
        return Spend(mean=mean, sd=sd, by_model=self.total, looks=errors.looks)


def spend_of(cost: FloatArray, choice: IntArray, errors: CostErrors, n_models: int) -> Spend:
    """The spend of a choice: `SpendSums.of` and `SpendSums.spend` in one."""
    return SpendSums.of(cost, choice, errors, n_models).spend(errors)


def _variances(errors: CostErrors, n_models: int) -> Float64Array:
    """(M,) relative variance of what each model's requests share."""
    sd = np.broadcast_to(np.asarray(errors.model_sd, dtype=np.float64), n_models)
    return np.asarray(np.expm1(sd**2), dtype=np.float64)


def inflation(spend: Spend, errors: CostErrors, q: float) -> Float64Array:
    """(M,) factors on each model's costs whose sum over the batch is the spend's quantile.

    The known bias is part of them.

    The slope of the quantile: a model's factor grows with the share of the variance that its
    requests bring in. Where the quantile lies below the mean, factors are below 1.
    """
    m = len(spend.by_model)
    known = np.exp(np.broadcast_to(np.asarray(errors.bias, dtype=np.float64), m))
    if spend.mean == 0 or spend.sd == 0:
        return np.asarray(known, dtype=np.float64)
    shared = _variances(errors, m)
    common = math.expm1(errors.common_sd**2)
    reach = (spend.quantile(q) - spend.mean) / spend.sd
    slope = ((1 + common) * shared * spend.by_model + common * spend.mean) / spend.sd
    explained = float(slope @ spend.by_model)
    rest = max(spend.sd - explained, 0.0) / spend.mean  # errors of their own, spread evenly
    return np.asarray(known * np.maximum(1 + reach * (slope + rest), 1e-3))
