"""Which anchors next, at what price, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import InputError
from zerorouter.irt.ability import AbilityPosterior
from zerorouter.irt.anchors import AnchorStrategy, select_anchors
from zerorouter.irt.calibration import Convergence
from zerorouter.irt.model import ItemParameters
from zerorouter.predict.tokens import LengthPosterior

BATCH = 8
FEWEST = 10  # anchors before any stop rule is looked at
LEAST_DISCRIMINATION = 0.1  # general discrimination below which an item tells little, or lies
QUOTE_DRAWS = 2_000
ALL_BY_DESIGN = 20
"""Anchors that are all chosen by an optimal design. Of further ones every other is drawn at random:
a design asks the kinds of prompts that it believes in, and by then what is wrong with them weighs
more than what one of them tells (docs/results/onboarding.md)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Prompts that can be asked.

    Attributes:
        refs: (N,) names.
        items: Their parameters, as answers to them will be judged.
        strata: (N,) group of each, for stratified choice and the report.
        domains: (N,) domain of each.
        input_tokens: (N,) expected tokens of the request.
        log_length: (N,) shared level of log output lengths.
        keys: (N,) keys of the questions where they are known before the text is made; else "".
        as_read: Their parameters as their text alone tells; None where nothing else is known. By
            these they are chosen: among thousands of calibrated items the most informative are
            those whose discrimination was overestimated, and an ability placed by them is told
            with more certainty than there is (docs/results/onboarding.md).
    """

    refs: tuple[str, ...]
    items: ItemParameters
    strata: IntArray
    domains: tuple[str, ...]
    input_tokens: Float64Array
    log_length: Float64Array
    keys: tuple[str, ...]
    as_read: ItemParameters | None = None

    def __len__(self) -> int:
        return len(self.refs)

    def sound(self) -> BoolArray:
        """(N,) those whose discrimination says more of ability than of something else."""
        return np.asarray(self.items.discrimination[:, 0] >= LEAST_DISCRIMINATION)


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When an adaptive run ends.

    Attributes:
        target_sd: Root mean square standard error of P(correct) over the targets that is enough.
        least_chance: Chance of winning any traffic below which asking on is not worth it.
        most: Anchors at most.
        fewest: Anchors before either rule counts.
    """

    target_sd: float = 0.05
    least_chance: float = 0.05
    most: int = 100
    fewest: int = FEWEST

    def __post_init__(self) -> None:
        if not 0 < self.target_sd < 1:
            raise InputError(f"target_sd is {self.target_sd!r}; wanted between 0 and 1")
        if self.most < 1:
            raise InputError(f"at most {self.most} anchors; wanted 1 or more")

    def verdict(self, n: int, predictive_sd: float, chance: float | None) -> str | None:
        """Why to stop after ``n`` anchors, or None to go on; ``chance`` None where unknown."""
        if n >= self.most:
            return f"{n} anchors, the most that were allowed"
        if n < self.fewest:
            return None
        if predictive_sd <= self.target_sd:
            return (
                f"P(correct) is known to within {predictive_sd:.3f}, "
                f"{self.target_sd:.3f} was wanted"
            )
        if chance is not None and chance < self.least_chance:
            return f"the chance that it wins any traffic is {chance:.0%}"
        return None


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What asking is going to cost.

    Attributes:
        n: Calls.
        usd: Expected dollars; None without a price.
        usd_low: 5th percentile.
        usd_high: 95th percentile.
        worst_usd: What no run can exceed: every answer as long as allowed.
    """

    n: int
    usd: float | None
    usd_low: float | None
    usd_high: float | None
    worst_usd: float | None


def choose(
    candidates: Candidates,
    n: int,
    *,
    mean: FloatArray,
    covariance: FloatArray,
    strategy: AnchorStrategy,
    rng: np.random.Generator,
    open_: BoolArray,
    asked: int = 0,
    targets: ItemParameters | None = None,
    cost_usd: FloatArray | None = None,
) -> IntArray:
    """Positions of up to ``n`` candidates to ask next, those chosen by design first.

    Args:
        candidates: All that could be asked.
        n: How many are wanted.
        mean: (K,) ability as it is known now.
        covariance: (K, K)
        strategy: See `irt.anchors.select_anchors`.
        rng: Draws what is drawn at random.
        open_: (N,) those not asked yet.
        asked: How many were asked before; see `select`.
        targets: Prompts whose predictive variance is to fall.
        cost_usd: (N,) expected dollars of asking each; information is then counted per dollar.
    """
    return select(
        candidates.items if candidates.as_read is None else candidates.as_read,
        n,
        asked=asked,
        mean=mean,
        covariance=covariance,
        strategy=strategy,
        rng=rng,
        eligible=open_ & candidates.sound(),
        strata=candidates.strata,
        targets=targets,
        cost_usd=cost_usd,
    )


def select(
    items: ItemParameters,
    n: int,
    *,
    asked: int,
    mean: FloatArray,
    covariance: FloatArray,
    strategy: AnchorStrategy,
    rng: np.random.Generator,
    eligible: BoolArray,
    strata: IntArray | None = None,
    targets: ItemParameters | None = None,
    cost_usd: FloatArray | None = None,
) -> IntArray:
    """Positions of up to ``n`` eligible items after ``asked`` others; see `choose`.

    An optimal strategy chooses the first `ALL_BY_DESIGN` anchors and every other one after them.
    """
    n = min(n, int(eligible.sum()))
    drawn = 0
    if strategy in ("i_optimal", "d_optimal"):
        drawn = sum(place >= ALL_BY_DESIGN and place % 2 == 1 for place in range(asked, asked + n))
    by_design = select_anchors(
        items,
        n - drawn,
        prior_mean=mean,
        prior_covariance=covariance,
        rng=rng,
        strategy=strategy,
        strata=strata,
        targets=targets,
        cost=cost_usd,
        eligible=eligible,
    )
    left = eligible.copy()
    left[by_design] = False
    return np.concatenate([by_design, rng.permutation(np.flatnonzero(left))[:drawn]])


def expected_costs(
    candidates: Candidates,
    lengths: LengthPosterior,
    difficulty: FloatArray,
    *,
    input_usd: float,
    output_usd: float,
    max_tokens: int,
) -> Float64Array:
    """(N,) expected dollars of asking each candidate, at dollars per token."""
    profile = lengths.profile()
    tokens = profile.expected_tokens(candidates.log_length, np.asarray(difficulty))[:, 0]
    out: Float64Array = candidates.input_tokens * input_usd
    return out + np.minimum(tokens, max_tokens) * output_usd


def quote(
    candidates: Candidates,
    chosen: Sequence[int] | IntArray,
    lengths: LengthPosterior,
    difficulty: FloatArray,
    *,
    input_usd: float | None,
    output_usd: float | None,
    max_tokens: int,
    worst_usd: float | None,
    rng: np.random.Generator,
) -> Quote:
    """The price of asking ``chosen``, with its 90% interval.

    Three things are uncertain: how many tokens four characters make (a quarter, for all prompts
    alike), how wordy the model is, and how long each answer turns out.
    """
    at = np.asarray(chosen, dtype=np.int64)
    if input_usd is None or output_usd is None or len(at) == 0:
        zero = None if input_usd is None else 0.0
        return Quote(n=len(at), usd=zero, usd_low=zero, usd_high=zero, worst_usd=worst_usd)
    level, b = candidates.log_length[at], np.asarray(difficulty)[at]
    design = np.column_stack([np.ones(len(at)), b, level - lengths.pivot])
    root = np.linalg.cholesky(lengths.covariance + 1e-12 * np.eye(3))
    effects = lengths.mean + rng.standard_normal((QUOTE_DRAWS, 3)) @ root.T
    log_tokens = level + effects @ design.T
    log_tokens += lengths.sd * rng.standard_normal(log_tokens.shape)
    tokens = np.minimum(np.exp(np.minimum(log_tokens, 20.0)), max_tokens)
    entered = candidates.input_tokens[at].sum() * (1 + 0.25 * rng.standard_normal(QUOTE_DRAWS))
    usd = tokens.sum(axis=1) * output_usd + np.maximum(entered, 0.0) * input_usd
    low, high = np.quantile(usd, [0.05, 0.95])
    return Quote(
        n=len(at),
        usd=float(usd.mean()),
        usd_low=float(low),
        usd_high=float(high),
        worst_usd=worst_usd,
    )


def as_posterior(mean: FloatArray, covariance: FloatArray) -> AbilityPosterior:
    """A prior in the form of a posterior without answers."""
    return AbilityPosterior(
        mean=np.asarray(mean, dtype=np.float64),
        covariance=np.asarray(covariance, dtype=np.float64),
        n_answers=0,
        status=Convergence.CONVERGED,
    )
