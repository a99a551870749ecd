r"""What a placement means: expected accuracy with error bars, rank, traffic to be won.

An interval of expected accuracy on a kind of prompts holds two errors: that of the ability, and
that of the space, in which a kind may suit a model better or worse than K dimensions can say. The
second is a shift :math:`\epsilon \sim N(0, \sigma^2)` of all logits of the kind, with
``MISFIT_SD`` where the model has answered prompts of the kind and ``FAR_MISFIT_SD`` where it has
not. Both were chosen so that 90% intervals hold 85-95% of the time on models the space has
not seen (``scripts/onboarding_coverage.py``; docs/results/onboarding.md has the tables).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.irt.ability import AbilityPosterior
from zerorouter.irt.anchors import predictive_variance
from zerorouter.irt.model import Abilities, ItemParameters, forecast
from zerorouter.known_items import KnownItems
from zerorouter.space import LatentSpace

MISFIT_SD = 0.25
FAR_MISFIT_SD = 0.95
FEW = 5  # anchors of a kind below which its own misfit has hardly been seen
PROBATION_SD = 0.07
"""A model whose P(correct) has a larger standard error, root mean square over prompts, is on
probation: it is chosen on a lower confidence bound."""

DRAWS = 400
PER_GROUP = 100
WIDE = 0.7  # share of the prior's standard deviation above which a dimension stays wide
LEAST_TRAFFIC = 0.01  # share of prompts that counts as winning any
EVERYTHING = "all prompts"


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Prompts that a model is to be judged for: stand-ins for the traffic to come.

    Like that traffic they are told as their text is read, calibrated prompts as if they had
    never been answered.

    Attributes:
        items: T prompts.
        group: (T,) position in ``groups``.
        groups: Names of kinds: domains, or tasks of the user's own data.
        log_length: (T,) level of log output lengths.
        input_tokens: (T,) tokens of the requests.
    """

    items: ItemParameters
    group: IntArray
    groups: tuple[str, ...]
    log_length: Float64Array
    input_tokens: Float64Array

    def __len__(self) -> int:
        return len(self.group)

    @classmethod
    def of_space(cls, space: LatentSpace, known: KnownItems, *, seed: int = 0) -> Targets:
        """Up to `PER_GROUP` calibrated prompts of each domain; the same ones every time.

        Where the table knows none of the space's items, as for a space of one's own, a sample
        of all of them is one group.
        """
        rng = np.random.default_rng(seed)
        row = known.find(space.calibrated.digests)
        domains = [task.domain for task in known.tasks]
        names = sorted({domains[int(task)] for task in known.task[row[row >= 0]]})
        if not names:
            n = space.calibrated.expected.n_items
            chosen = np.sort(rng.permutation(n)[: 10 * PER_GROUP])
            level = float(np.log(300.0))
            return cls(
                items=space.calibrated.expected.take(chosen),
                group=np.zeros(len(chosen), dtype=np.int64),
                groups=(EVERYTHING,),
                log_length=np.full(len(chosen), level),
                input_tokens=np.full(len(chosen), 250.0),
            )
        number = {name: i for i, name in enumerate(names)}
        of_task = np.array([number.get(domain, -1) for domain in domains])
        group = np.where(row >= 0, of_task[known.task[np.maximum(row, 0)]], -1)
        chosen = np.concatenate(
            [
                np.sort(rng.permutation(np.flatnonzero(group == g))[:PER_GROUP])
                for g in range(len(names))
            ]
        )
        levels = np.array([task.log_length for task in known.tasks])
        return cls(
            items=space.calibrated.expected.take(chosen),
            group=group[chosen],
            groups=tuple(names),
            log_length=levels[known.task[row[chosen]]],
            input_tokens=known.chars[row[chosen]] / 4.0,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """What is to be expected of a model.

    Attributes:
        expected_accuracy: Group -> mean, and bounds of its 90% interval.
        predictive_sd: Root mean square standard error of P(correct) over the targets.
        rank: Place among the pool's models by mean P(correct) over the targets, 1 the best.
        pool_size: Models it was ranked among, itself included.
        wide: Dimensions (from 0, the general one) of which little was learned.
    """

    expected_accuracy: Mapping[str, tuple[float, float, float]]
    predictive_sd: float
    rank: int
    pool_size: int
    wide: tuple[int, ...]

    @property
    def on_probation(self) -> bool:
        """Whether it is to be chosen on a lower confidence bound."""
        return self.predictive_sd > PROBATION_SD


def outlook(
    posterior: AbilityPosterior,
    abilities: Abilities,
    targets: Targets,
    *,
    prior_sd: FloatArray,
    covered: Mapping[str, int] | None = None,
    pool: Abilities | None = None,
) -> Outlook:
    """Judge a posterior.

    Args:
        posterior: Of the model's ability.
        abilities: The same as a respondent, with its leanings.
        targets: Prompts.
        prior_sd: (K,) standard deviations of the population.
        covered: Answers by group of the targets; None for plenty of each.
        pool: Abilities of the models it joins, without its own.
    """
    near = [covered is None or covered.get(name, 0) >= FEW for name in targets.groups]
    misfit = np.where(near, MISFIT_SD, FAR_MISFIT_SD)
    p = accuracy_draws(posterior, targets, abilities, misfit_sd=misfit)
    accuracy = {}
    for g, name in enumerate(targets.groups):
        of_group = p[:, targets.group == g].mean(axis=1)
        low, high = np.quantile(of_group, [0.05, 0.95])
        accuracy[name] = (float(of_group.mean()), float(low), float(high))
    mine = _mean_p(targets.items, abilities)[0]
    others = _mean_p(targets.items, pool) if pool is not None else np.zeros(0)
    return Outlook(
        expected_accuracy=accuracy,
        predictive_sd=predictive_sd(posterior, targets.items),
        rank=1 + int(np.sum(others > mine)),
        pool_size=len(others) + 1,
        wide=tuple(int(k) for k in np.flatnonzero(posterior.sd > WIDE * np.asarray(prior_sd))),
    )


def predictive_sd(posterior: AbilityPosterior, items: ItemParameters) -> float:
    """Root mean square standard error of P(correct) that the ability leaves over items."""
    nothing = np.zeros(0, dtype=np.int64)
    variance = predictive_variance(
        items,
        items,
        nothing,
        prior_mean=posterior.mean,
        prior_covariance=posterior.covariance,
    )
    return float(np.sqrt(np.mean(variance)))


def accuracy_draws(
    posterior: AbilityPosterior,
    targets: Targets,
    abilities: Abilities | None = None,
    *,
    misfit_sd: FloatArray | None = None,
    n: int = DRAWS,
    seed: int = 0,
) -> Float64Array:
    """(n, T) P(correct) of each target at draws of the ability and of each group's shift.

    A target's own effect is integrated out; the error that predicted prompts share, and the
    space's misfit, are drawn once per group. Leanings of ``abilities`` are taken at their mode.
    """
    rng = np.random.default_rng(seed)
    k, items = len(posterior.mean), targets.items
    root = np.linalg.cholesky(posterior.covariance + 1e-12 * np.eye(k))
    theta = posterior.mean + rng.standard_normal((n, k)) @ root.T
    extended = np.column_stack([theta, np.ones(n)])
    effect = np.einsum("nk,kl,nl->n", extended, items.effect_covariance.astype(float), extended)
    misfit = np.full(len(targets.groups), MISFIT_SD) if misfit_sd is None else misfit_sd
    sd = np.sqrt(misfit[targets.group] ** 2 + items.shift_variance.astype(np.float64))
    logit = theta @ items.discrimination.T.astype(np.float64) + items.intercept
    if abilities is not None and abilities.leanings is not None and items.facets is not None:
        logit += items.facets @ abilities.leanings[0].astype(np.float64)
    logit += rng.standard_normal((n, len(targets.groups)))[:, targets.group] * sd
    logit /= np.sqrt(1 + np.pi / 8 * effect[:, None] * items.effect_scale)
    c = items.guessing.astype(np.float64)
    out: Float64Array = c + (1 - c) * (0.5 + 0.5 * np.tanh(0.5 * logit))
    return out


def traffic_chance(
    p_draws: FloatArray,
    cost_usd: FloatArray,
    latency_s: FloatArray,
    best_utility: FloatArray,
    *,
    value_of_correct_usd: float,
    value_of_second_usd: float,
) -> float:
    """Chance that a model beats the pool on at least `LEAST_TRAFFIC` of the prompts.

    Args:
        p_draws: (n, T) P(correct) at draws of its ability.
        cost_usd: (T,) expected dollars per prompt.
        latency_s: (T,) expected seconds.
        best_utility: (T,) best utility of the other models, in dollars.
        value_of_correct_usd: Of the policy.
        value_of_second_usd: Of the policy.
    """
    utility = value_of_correct_usd * p_draws - cost_usd - value_of_second_usd * latency_s
    share = np.mean(utility > best_utility, axis=1)
    return float(np.mean(share >= LEAST_TRAFFIC))


def domain_counts(domains: Sequence[str]) -> dict[str, int]:
    """How many anchors each domain had, the largest first."""
    counts: dict[str, int] = {}
    for domain in domains:
        counts[domain] = counts.get(domain, 0) + 1
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _mean_p(items: ItemParameters, abilities: Abilities) -> Float64Array:
    """(M,) mean P(correct) over items, all uncertainty integrated out."""
    out: Float64Array = forecast(items, abilities).p_correct.mean(axis=0, dtype=np.float64)
    return out
