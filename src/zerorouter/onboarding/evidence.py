r"""What is known of a model, and the one posterior that all of it makes up.

Evidence comes from three sources, in any order: answers to anchors, answers in evaluation logs and
reported benchmark scores, on top of a card. Each answer is kept as (item, score), and the
posterior is always that of *all* answers under the card's prior,

.. math:: p(\theta \mid \cdot) \propto t_\nu(\theta; m, S)
          \prod_i P_i(\theta)^{y_i} (1 - P_i(\theta))^{1 - y_i}
          N(s; h(\theta), R),

computed in one fixed order. Which source came first can therefore not matter, and a step only
sharpens. Its parts:

- *Items* calibrated in the space carry their own parameters; others carry predicted ones, whose
  errors are shared by prompts of a kind. Each kind gets a latent shift of its own with the
  predictor's variance: a thousand answers to one kind of prompt do not pretend to more than they
  tell.
- *Reported scores* :math:`s` sharpen the card (`published`): the mean P(correct) over a
  benchmark's items equals the score, up to other prompts, shots and graders; a benchmark without
  items has a learned loading. Card and scores together are the centre and scale of the Student
  prior, so that answers overrule both where they have to.
- *Leanings* (`irt.leanings`), what sets a model apart along the facets of prompts, are learned from
  the same answers once its ability is placed, as they are for respondents of the space.
- *Summaries*: the answers of a log of more than `MOST_ANSWERS` are kept as the Gaussian that
  their likelihood is by then, made under the population's prior without a card. A sample of them
  stays, for answer lengths, and for the day when the space is another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import Float64Array, FloatArray, IntArray
from zerorouter.covariates import CovariateTable
from zerorouter.errors import InputError
from zerorouter.irt.ability import AbilityPosterior, ability_posterior
from zerorouter.irt.leanings import with_leanings
from zerorouter.irt.model import Abilities, ItemParameters
from zerorouter.irt.population import DEGREES_OF_FREEDOM
from zerorouter.known_items import positions
from zerorouter.linking import RespondentCard
from zerorouter.onboarding.published import mean_accuracy as mean_accuracy
from zerorouter.onboarding.shipped_scores import score_model
from zerorouter.predict.domains import DOMAINS, domain_of_task
from zerorouter.space import LatentSpace

MOST_ANSWERS = 2_000
"""Answers of one source that a profile keeps one by one."""

KNOWN_DRIFT = 0.1
"""A respondent of the space that is onboarded again starts from its place there; its covariance is
widened by this share of the population's, since the endpoint may serve another version."""

ROUNDS = 8  # of the Student prior's width, as in `irt.ability`

SourceKind: TypeAlias = Literal["anchors", "logs", "score"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedItem:
    """Parameters of a prompt that was not calibrated, as they were predicted.

    Attributes:
        discrimination: (K,) numbers.
        intercept: Constant of the logit.
        guessing: Guess floor.
        effect_scale: Of the space's calibrated ``effect_covariance``.
        shift_variance: Variance of the error that prompts of one kind share.
        kind: Which prompts share it.
        facets: (R,) what leanings are about; empty where they are not known.
    """

    discrimination: tuple[float, ...]
    intercept: float
    guessing: float
    effect_scale: float
    shift_variance: float
    kind: str
    facets: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One graded answer. Its prompt is named, never kept.

    Attributes:
        ref: Names the prompt for people: generator and place, or data set and prompt id.
        score: In [0, 1].
        key: 16 hex digits, the first 64 bits of the question's digest.
        kind: What kind of prompt it was: a domain, or a task.
        item: Predicted parameters, used where the space has not calibrated ``key``.
        tokens: Output tokens, hidden reasoning included; None where not known.
        log_length: The shared level of log output lengths that the prompt reads as.
        input_tokens: Of the request; None where not known.
        ttft_s: Seconds to the first content.
        end_to_end_s: Seconds to the last byte.
    """

    ref: str
    score: float
    key: str = ""
    kind: str = ""
    item: PredictedItem | None = None
    tokens: float | None = None
    log_length: float | None = None
    input_tokens: float | None = None
    ttft_s: float | None = None
    end_to_end_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise InputError(f"answer {self.ref!r}: score {self.score!r}; wanted 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Many answers as a Gaussian likelihood of the ability, in one version of a space.

    Attributes:
        mean: (K,) where it peaks, under the population's prior.
        precision: (K, K) rows; the information of the answers alone.
        shift: (K,) the likelihood's linear term, ``precision @ peak of the likelihood``.
        n_answers: How many answers it stands for.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    shift: tuple[float, ...]
    n_answers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedScore:
    """A published score.

    Attributes:
        benchmark: Its name in the table of benchmarks.
        score: In [0, 1].
    """

    benchmark: str
    score: float

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise InputError(f"{self.benchmark} is {self.score!r}; wanted a score from 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One piece of evidence.

    Attributes:
        id: Names it: a source that comes again under the same id takes the old one's place.
        kind: ``anchors``, ``logs`` or ``score``.
        date: ``YYYY-MM-DD``.
        space: Version of the space in which predicted items and summaries are told.
        answers: Kept answers; where there is a summary, a sample of those it stands for.
        summary: Of more answers than are kept.
        reported: Of a published score.
        facts: Provenance for people: endpoint, package, counts. Never a key, never a text.
    """

    id: str
    kind: SourceKind
    date: str
    space: str
    answers: tuple[Answer, ...] = ()
    summary: Summary | None = None
    reported: ReportedScore | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_answers(self) -> int:
        """Answers it rests on."""
        return self.summary.n_answers if self.summary else len(self.answers)

    @property
    def n_scores(self) -> int:
        """Published scores it rests on: its own, or those that a shipped summary stands for."""
        return 1 if self.reported is not None else int(self.facts.get("n_scores", 0))

    def counted(self, version: str) -> tuple[Answer, ...]:
        """Answers that count one by one in that version of the space: none beside a summary."""
        return () if self.summary is not None and self.space == version else self.answers


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """An ability before any answer.

    Attributes:
        mean: (K,)
        covariance: (K, K)
        degrees_of_freedom: Of a Student prior; None for a Gaussian.
    """

    mean: Float64Array
    covariance: Float64Array
    degrees_of_freedom: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """A posterior and what it rests on.

    Attributes:
        posterior: Of the ability.
        abilities: The same as a respondent of the space, with its leanings.
        prior: What it started from.
        n_calibrated: Answers to items with calibrated parameters.
        n_predicted: Answers to items with predicted ones.
        n_dropped: Answers that this space cannot use: told in another version of it.
        n_reported: Reported scores that this space can read.
    """

    posterior: AbilityPosterior
    abilities: Abilities
    prior: Prior
    n_calibrated: int
    n_predicted: int
    n_dropped: int
    n_reported: int


def covered_kinds(sources: Sequence[Source]) -> Counter[str]:
    """Answers by kind of prompt: by the kind that each names and by the domain that it is of."""
    answers = [answer for source in sources for answer in source.answers]
    counts: Counter[str] = Counter()
    for answer in answers:
        domain = answer.kind if answer.kind in DOMAINS else domain_of_task(answer.kind)
        counts.update({answer.kind, domain} if answer.kind else ())
    return counts


# -- the prior ---------------------------------------------------------------------------------


def prior_of(space: LatentSpace, card: RespondentCard) -> Prior:
    """Where a model is expected: from its place in the space if it has one, else from its card."""
    if card.id in space:
        at = int(space.index([card.id])[0])
        return Prior(
            mean=space.abilities.mean[at].astype(np.float64),
            covariance=space.abilities.covariance[at].astype(np.float64)
            + KNOWN_DRIFT * space.population.covariance,
        )
    return card_prior(space, card)


def card_prior(space: LatentSpace, card: RespondentCard) -> Prior:
    """Where a model is expected from its card alone."""
    population = space.population
    table: CovariateTable = population.table
    z = table.rows([card])
    mean = z @ population.weights[:-1].astype(np.float64) + population.weights[-1]
    return Prior(
        mean=np.asarray(mean[0], dtype=np.float64),
        covariance=population.covariance.astype(np.float64),
        degrees_of_freedom=DEGREES_OF_FREEDOM,
    )


# -- calibrated items --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedIndex:
    """A space's calibrated items by the first 64 bits of their digest.

    Attributes:
        prefix: (N,) sorted, without repeats.
        position: (N,) position in ``space.calibrated``; of a question calibrated twice the item
            with the smaller uncertainty.
        items: All of them.
    """

    prefix: NDArray[np.uint64]
    position: IntArray
    items: ItemParameters

    def find(self, prefixes: NDArray[np.uint64]) -> IntArray:
        """Positions in ``space.calibrated``; -1 where an item is not calibrated."""
        at = positions(self.prefix, prefixes)
        found: IntArray = np.where(at >= 0, self.position[np.maximum(at, 0)], -1)
        return found if len(self.position) else np.full(len(prefixes), -1, dtype=np.int64)


@lru_cache(maxsize=4)
def calibrated_index(space: LatentSpace) -> CalibratedIndex:
    """The index of a space, made once."""
    prefix = space.calibrated.digests[:, 0]
    order = np.lexsort((space.calibrated.items.effect_scale, prefix))
    _, first = np.unique(prefix[order], return_index=True)
    chosen = order[first]
    return CalibratedIndex(
        prefix=prefix[chosen], position=chosen.astype(np.int64), items=space.calibrated.items
    )


def key_of(digest: bytes | NDArray[np.uint64]) -> str:
    """The key of a question: the first 64 bits of its digest in hexadecimal."""
    if isinstance(digest, bytes):
        return digest[:8].hex()
    return f"{int(digest[0]):016x}"


def prefix_of(keys: Sequence[str]) -> NDArray[np.uint64]:
    """Keys as the numbers that `CalibratedIndex.find` takes; 0, a hash of nothing, for ''."""
    return np.array([int(key, 16) if key else 0 for key in keys], dtype=np.uint64)


def predicted_items(
    items: ItemParameters, kinds: Sequence[str], space: LatentSpace
) -> tuple[PredictedItem, ...]:
    """What the predictor said of prompts, in the form that evidence keeps."""
    scale = _scale_to_calibrated(items, space)
    return tuple(
        PredictedItem(
            discrimination=_rounded(items.discrimination[i], 4),
            intercept=round(float(items.intercept[i]), 4),
            guessing=round(float(items.guessing[i]), 4),
            effect_scale=round(float(items.effect_scale[i]) * scale, 4),
            shift_variance=round(float(items.shift_variance[i]), 4),
            kind=kinds[i],
            facets=() if items.facets is None else _rounded(items.facets[i], 3),
        )
        for i in range(items.n_items)
    )


def _rounded(values: FloatArray, digits: int) -> tuple[float, ...]:
    """Plain numbers as they will stand in a profile, so that keeping them changes nothing."""
    return tuple(round(float(value), digits) for value in values)


def joined_items(
    space: LatentSpace, positions: Sequence[int], others: Sequence[PredictedItem]
) -> ItemParameters:
    """Calibrated items at ``positions``, then predicted ones, under one effect covariance.

    The covariance is that of the calibrated items; predicted scales are told in it already.
    """
    known = space.calibrated.items.take(np.asarray(positions, dtype=np.int64))
    if not others:
        return known
    stack = np.concatenate
    return ItemParameters(
        discrimination=stack(
            [known.discrimination, np.array([o.discrimination for o in others], np.float32)]
        ),
        intercept=stack([known.intercept, np.array([o.intercept for o in others], np.float32)]),
        guessing=stack([known.guessing, np.array([o.guessing for o in others], np.float32)]),
        effect_scale=stack(
            [known.effect_scale, np.array([o.effect_scale for o in others], np.float32)]
        ),
        shift_variance=stack(
            [known.shift_variance, np.array([o.shift_variance for o in others], np.float32)]
        ),
        effect_covariance=known.effect_covariance,
    )


def _scale_to_calibrated(items: ItemParameters, space: LatentSpace) -> float:
    """How much larger the predictor's effect covariance is than that of calibrated items."""
    ours = float(np.trace(space.calibrated.items.effect_covariance))
    return float(np.trace(items.effect_covariance)) / ours if ours > 0 else 1.0


# -- the posterior -----------------------------------------------------------------------------


def place(space: LatentSpace, prior: Prior, sources: Sequence[Source]) -> Placement:
    """The posterior of all evidence; the order of ``sources`` does not matter.

    Where all answers are to calibrated items it is `irt.ability.ability_posterior` of them.
    """
    ordered = sorted(sources, key=lambda source: source.id)
    index = calibrated_index(space)
    answers = sorted(
        (answer for source in ordered for answer in source.counted(space.version)),
        key=lambda answer: (answer.key, answer.ref, answer.score),
    )
    usable = {
        id(answer)
        for source in ordered
        if source.space == space.version
        for answer in source.answers
        if answer.item is not None
    }
    at = index.find(prefix_of([answer.key for answer in answers]))
    known = [i for i in range(len(answers)) if at[i] >= 0]
    foreign = [i for i in range(len(answers)) if at[i] < 0 and id(answers[i]) in usable]
    others = [item for i in foreign if (item := answers[i].item) is not None]
    items = joined_items(space, [int(at[i]) for i in known], others)
    scores = np.array([answers[i].score for i in (*known, *foreign)], dtype=np.float64)
    summaries = [s.summary for s in ordered if s.summary is not None and s.space == space.version]
    lost = sum(
        s.summary.n_answers - len(s.answers)
        for s in ordered
        if s.summary is not None and s.space != space.version
    )
    told = {s.reported.benchmark: s.reported.score for s in ordered if s.reported is not None}
    scored, n_reported = _with_scores(space, prior, told)
    kinds = [""] * len(known) + [item.kind for item in others]
    posterior = _posterior(scored, items, scores, kinds, summaries)
    samples = [
        answer
        for source in ordered
        if source.summary is not None and source.space == space.version
        for answer in source.answers
    ]
    return Placement(
        posterior=posterior,
        abilities=_leaning(space, posterior, [*(answers[i] for i in (*known, *foreign)), *samples]),
        prior=prior,
        n_calibrated=len(known),
        n_predicted=len(foreign) + sum(summary.n_answers for summary in summaries),
        n_dropped=len(answers) - len(known) - len(foreign) + lost,
        n_reported=n_reported,
    )


def _with_scores(space: LatentSpace, prior: Prior, told: Mapping[str, float]) -> tuple[Prior, int]:
    """The prior sharpened by published scores, and how many of them the space can read."""
    if not told:
        return prior, 0
    model = score_model(space)
    mean, covariance = model.fold(told, prior.mean, prior.covariance)
    return replace(prior, mean=mean, covariance=covariance), len(model.known(told))


def _leaning(
    space: LatentSpace, posterior: AbilityPosterior, answers: Sequence[Answer]
) -> Abilities:
    """The respondent with leanings, from answers to prompts whose facets are known."""
    expected = space.calibrated.expected
    if expected.facets is None:
        return posterior.as_abilities()
    at = calibrated_index(space).find(prefix_of([answer.key for answer in answers]))
    n_facets = expected.facets.shape[1]
    foreign = [
        (item, answer.score)
        for position, answer in zip(at, answers, strict=True)
        if position < 0 and (item := answer.item) is not None and len(item.facets) == n_facets
    ]
    known = np.flatnonzero(at >= 0)
    items = expected.take(at[known])
    scores = [answers[int(i)].score for i in known] + [score for _, score in foreign]
    if foreign:
        ratio = _scale_to_calibrated(expected, space)
        others = [item for item, _ in foreign]
        items = items.joined(
            ItemParameters(
                discrimination=np.array([o.discrimination for o in others], np.float32),
                intercept=np.array([o.intercept for o in others], np.float32),
                guessing=np.array([o.guessing for o in others], np.float32),
                effect_scale=np.array([o.effect_scale / ratio for o in others], np.float32),
                shift_variance=np.array([o.shift_variance for o in others], np.float32),
                effect_covariance=expected.effect_covariance,
                facets=np.array([o.facets for o in others], np.float32),
            ),
        )
    return with_leanings(
        items,
        posterior.as_abilities(),
        np.array([scores], dtype=np.float64).reshape(1, -1),
        space.leaning_variance,
    )


def summarise(space: LatentSpace, answers: Sequence[Answer]) -> Summary:
    """Many answers as one Gaussian likelihood, around the population at large."""
    nobody = RespondentCard(id="", model="", family="")
    prior = prior_of(space, nobody)
    gaussian = Prior(mean=prior.mean, covariance=prior.covariance)
    source = Source(id="summary", kind="logs", date="", space=space.version, answers=tuple(answers))
    posterior = place(space, gaussian, [source]).posterior
    prior_precision = np.linalg.inv(gaussian.covariance)
    precision = np.linalg.inv(posterior.covariance)
    told = precision - prior_precision
    # Rounding may leave a direction that nothing was told of a shade below nothing.
    values, vectors = np.linalg.eigh((told + told.T) / 2)
    told = (vectors * np.maximum(values, 0.0)) @ vectors.T
    shift = precision @ posterior.mean - prior_precision @ gaussian.mean
    return Summary(
        mean=tuple(posterior.mean.tolist()),
        precision=tuple(tuple(row) for row in told.tolist()),
        shift=tuple(shift.tolist()),
        n_answers=len(answers),
    )


def _posterior(
    prior: Prior,
    items: ItemParameters,
    scores: Float64Array,
    kinds: Sequence[str],
    summaries: Sequence[Summary],
) -> AbilityPosterior:
    names = sorted({kind for kind in kinds if kind})
    if not (names or summaries):
        return ability_posterior(
            items,
            scores,
            prior_mean=prior.mean,
            prior_covariance=prior.covariance,
            degrees_of_freedom=prior.degrees_of_freedom,
        )
    k, g = len(prior.mean), len(names)
    wide = _with_shifts(items, kinds, names)
    widening, theta = 1.0, prior.mean
    n = len(scores) + sum(summary.n_answers for summary in summaries)
    found = None
    for _ in range(ROUNDS if prior.degrees_of_freedom and n else 1):
        mean, covariance = _folded(prior, widening, summaries)
        found = ability_posterior(
            wide,
            scores,
            prior_mean=np.concatenate([mean, np.zeros(g)]),
            prior_covariance=_block(covariance, np.eye(g)),
            degrees_of_freedom=None,
        )
        theta = found.mean[:k]
        if not prior.degrees_of_freedom:
            break
        # The width of the card's prior, as in `irt.ability`; shifts have their own.
        assert found is not None
        off = theta - prior.mean
        solved = np.linalg.solve(prior.covariance, np.outer(off, off) + found.covariance[:k, :k])
        widening = (prior.degrees_of_freedom + float(np.trace(solved))) / (
            prior.degrees_of_freedom + k
        )
    assert found is not None
    return AbilityPosterior(
        mean=theta, covariance=found.covariance[:k, :k], n_answers=n, status=found.status
    )


def _with_shifts(
    items: ItemParameters, kinds: Sequence[str], names: Sequence[str]
) -> ItemParameters:
    """Items with one more dimension per kind, on which only prompts of the kind load."""
    g, n, k = len(names), items.n_items, items.n_dims
    loading = np.zeros((n, g), dtype=np.float32)
    for i, kind in enumerate(kinds):
        if kind:
            loading[i, names.index(kind)] = np.sqrt(max(float(items.shift_variance[i]), 0.0))
    effect = np.zeros((k + g + 1, k + g + 1), dtype=np.float32)
    own = [*range(k), k + g]
    effect[np.ix_(own, own)] = items.effect_covariance
    return ItemParameters(
        discrimination=np.hstack([items.discrimination, loading]),
        intercept=items.intercept,
        guessing=items.guessing,
        effect_scale=items.effect_scale,
        shift_variance=np.zeros(n, dtype=np.float32),
        effect_covariance=effect,
    )


def _folded(
    prior: Prior, widening: float, summaries: Sequence[Summary]
) -> tuple[Float64Array, Float64Array]:
    """Prior and summaries as one Gaussian."""
    precision = np.linalg.inv(widening * prior.covariance)
    shift = precision @ prior.mean
    for summary in summaries:
        precision = precision + np.array(summary.precision)
        shift = shift + np.array(summary.shift)
    covariance = np.linalg.inv(precision)
    return covariance @ shift, covariance


def _block(first: Float64Array, second: Float64Array) -> Float64Array:
    k, g = len(first), len(second)
    out = np.zeros((k + g, k + g))
    out[:k, :k] = first
    out[k:, k:] = second
    return out
