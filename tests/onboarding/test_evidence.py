"""Laws of evidence: order does not matter, steps sharpen, kinds of prompts do not pretend."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulated_records import fitted_space
from zerorouter.errors import InputError
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.leanings import with_leanings
from zerorouter.linking import RespondentCard
from zerorouter.onboarding import evidence
from zerorouter.onboarding.evidence import (
    Answer,
    PredictedItem,
    Prior,
    ReportedScore,
    Source,
    calibrated_index,
    key_of,
    mean_accuracy,
    place,
    prefix_of,
    prior_of,
    summarise,
)
from zerorouter.onboarding.published import Link, ScoreModel

SPACE = fitted_space()
CARD = RespondentCard(id="newcomer", model="newcomer", family="sim", params_b=7.0)


def answers(n: int, seed: int = 0, score: float | None = None) -> tuple[Answer, ...]:
    rng = np.random.default_rng(seed)
    at = rng.permutation(calibrated_index(SPACE).position)[:n]
    return tuple(
        Answer(
            ref=f"q{i}",
            score=float(rng.random() < 0.6) if score is None else score,
            key=key_of(SPACE.calibrated.digests[i]),
        )
        for i in at
    )


def source(id_: str, given_: tuple[Answer, ...], **changes) -> Source:
    told = {"kind": "anchors", "date": "2026-11-22", "space": SPACE.version, **changes}
    return Source(id=id_, answers=given_, **told)


def predicted(i: int, kind: str, shift: float) -> Answer:
    item = PredictedItem(
        discrimination=(1.0, 0.2, 0.0),
        intercept=0.1,
        guessing=0.0,
        effect_scale=0.5,
        shift_variance=shift,
        kind=kind,
        facets=tuple(0.01 * k for k in range(SPACE.calibrated.expected.facets.shape[1])),
    )
    return Answer(ref=f"{kind}{i}", score=float(i % 2), key=f"{i:016x}", kind=kind, item=item)


def placed(*sources: Source):
    return place(SPACE, prior_of(SPACE, CARD), sources)


def same(left, right) -> None:
    np.testing.assert_array_equal(left.posterior.mean, right.posterior.mean)
    np.testing.assert_array_equal(left.posterior.covariance, right.posterior.covariance)
    np.testing.assert_array_equal(left.abilities.leanings, right.abilities.leanings)


def test_answers_to_calibrated_items_give_the_bare_posterior():
    given_ = answers(60)
    found = placed(source("a", given_))
    prior = prior_of(SPACE, CARD)
    ordered = sorted(given_, key=lambda a: a.key)
    at = calibrated_index(SPACE).find(prefix_of([a.key for a in ordered]))
    expected = ability_posterior(
        SPACE.calibrated.items.take(at),
        np.array([a.score for a in ordered]),
        prior_mean=prior.mean,
        prior_covariance=prior.covariance,
        degrees_of_freedom=prior.degrees_of_freedom,
    )
    np.testing.assert_array_equal(found.posterior.mean, expected.mean)
    np.testing.assert_array_equal(found.posterior.covariance, expected.covariance)
    assert (found.n_calibrated, found.n_predicted, found.n_dropped) == (60, 0, 0)


ALL = (
    source("anchors:1", answers(20, 1)),
    source("anchors:2", answers(15, 2)),
    source("logs:1", tuple(predicted(i, "law", 0.4) for i in range(10)), kind="logs"),
    Source(
        id="score:x",
        kind="score",
        date="2026-11-22",
        space=SPACE.version,
        reported=ReportedScore(benchmark="x", score=0.7),
    ),
    source("logs:2", (), kind="logs", summary=summarise(SPACE, answers(80, 3))),
)


@pytest.fixture(autouse=True)
def _benchmark(monkeypatch):
    """The toy space's items are in no table: the first forty are the benchmark x."""
    monkeypatch.setattr(evidence, "score_model", lambda space: reading_x(space, sd=0.2))


def reading_x(space, *, sd: float) -> ScoreModel:
    """A score model of one benchmark with items; ``sd`` in logits."""
    k = space.n_dims
    return ScoreModel(
        benchmarks=("x",),
        loading=np.zeros((1, k)),
        offset=np.zeros(1),
        uncertainty=np.zeros((1, k + 1, k + 1)),
        variance=np.array([sd**2]),
        shared_variance=np.full(k, sd**2),
        n_models=np.ones(1),
        links={"x": Link(items=space.calibrated.items.take(np.arange(40)), offset_sd=0.3)},
    )


@settings(max_examples=10)
@given(st.permutations(range(len(ALL))))
def test_the_order_of_the_steps_does_not_matter(order):
    """To the last bit: the posterior is always that of all evidence, in one fixed order."""
    same(placed(*[ALL[i] for i in order]), placed(*ALL))


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(random):
    shuffled = list(ALL[0].answers)
    random.shuffle(shuffled)
    again = dataclasses.replace(ALL[0], answers=tuple(shuffled))
    same(placed(again, *ALL[1:]), placed(*ALL))


def test_each_step_sharpens():
    """Under a Gaussian prior exactly; the widths are those of the log determinant."""
    start = prior_of(SPACE, CARD)
    prior = Prior(mean=start.mean, covariance=start.covariance)
    widths = [np.linalg.slogdet(prior.covariance)[1]]
    for n in range(1, len(ALL) + 1):
        found = place(SPACE, prior, ALL[:n])
        widths.append(np.linalg.slogdet(found.posterior.covariance)[1])
    assert all(later < before for before, later in itertools.pairwise(widths))


def test_no_evidence_leaves_the_prior():
    found = placed()
    prior = prior_of(SPACE, CARD)
    np.testing.assert_allclose(found.posterior.mean, prior.mean)
    np.testing.assert_allclose(found.posterior.covariance, prior.covariance)


def test_right_answers_lift_and_wrong_ones_lower_the_general_ability():
    high = placed(source("a", answers(30, score=1.0))).posterior.mean[0]
    low = placed(source("a", answers(30, score=0.0))).posterior.mean[0]
    assert low < placed().posterior.mean[0] < high


def test_a_thousand_answers_to_one_kind_tell_no_more_than_its_shared_error_allows():
    """Along the direction that the prompts measure, the shared shift is a floor."""
    shift = 0.5
    few = placed(source("a", tuple(predicted(i, "law", shift) for i in range(50))))
    many = placed(source("a", tuple(predicted(i, "law", shift) for i in range(1_000))))
    a = np.array([1.0, 0.2, 0.0])
    floor = 1 / (1 / shift + 1 / (a @ prior_of(SPACE, CARD).covariance @ a * 4))
    for found in (few, many):
        assert a @ found.posterior.covariance @ a > 0.5 * floor
    kinds = placed(source("a", tuple(predicted(i, f"kind{i % 50}", shift) for i in range(1_000))))
    assert kinds.posterior.sd[0] < 0.7 * many.posterior.sd[0]


def test_a_reported_score_pulls_the_mean_accuracy_to_it(monkeypatch):
    items = SPACE.calibrated.items.take(np.arange(40))
    for score in (0.3, 0.5, 0.7):
        told = dataclasses.replace(ALL[3], reported=ReportedScore(benchmark="x", score=score))
        monkeypatch.setattr(evidence, "score_model", lambda space: reading_x(space, sd=1e-3))
        exact = mean_accuracy(items, placed(told).posterior.mean)[0]
        assert exact == pytest.approx(score, abs=0.02)
        monkeypatch.setattr(evidence, "score_model", lambda space: reading_x(space, sd=50.0))
        vague = placed(told).posterior.mean
        np.testing.assert_allclose(vague, placed().posterior.mean, atol=0.02)


def test_a_score_that_the_space_cannot_read_changes_nothing():
    unread = dataclasses.replace(ALL[3], reported=ReportedScore(benchmark="y", score=0.9))
    found = placed(unread)
    assert (found.n_reported, placed(ALL[3]).n_reported) == (0, 1)
    same(found, placed())


def test_a_summary_stands_for_its_answers():
    """Against the answers themselves, with other evidence beside them."""
    many = answers(280, 7)
    exact = placed(source("logs", many), ALL[1])
    short = placed(source("logs", many[:10], summary=summarise(SPACE, many)), ALL[1])
    sd = exact.posterior.sd
    assert np.all(np.abs(short.posterior.mean - exact.posterior.mean) < 0.35 * sd)
    np.testing.assert_allclose(short.posterior.sd, sd, rtol=0.15)
    assert short.n_predicted == 280


def test_a_source_that_comes_again_counts_once():
    once = placed(ALL[0])
    twice = placed(*{s.id: s for s in (ALL[0], ALL[0])}.values())
    same(once, twice)


def test_evidence_of_another_version_counts_where_it_can():
    """Calibrated items are known by hash in every version, predictions only in their own."""
    old = dataclasses.replace(ALL[2], space="2020-01-01-other")
    found = placed(dataclasses.replace(ALL[0], space="2020-01-01-other"), old)
    assert (found.n_calibrated, found.n_predicted, found.n_dropped) == (20, 0, 10)
    same(found, placed(ALL[0]))
    lost = dataclasses.replace(ALL[4], space="2020-01-01-other", answers=answers(5, 3))
    found = placed(lost)
    assert (found.n_calibrated, found.n_dropped) == (5, 75)


def test_a_model_that_the_space_knows_starts_from_its_place_there():
    card = RespondentCard(id="sim-03", model="sim-03", family="sim")
    prior = prior_of(SPACE, card)
    at = int(SPACE.index(["sim-03"])[0])
    np.testing.assert_allclose(prior.mean, SPACE.abilities.mean[at])
    assert prior.degrees_of_freedom is None
    assert np.all(np.diag(prior.covariance) > np.diag(SPACE.abilities.covariance[at]))


def test_leanings_are_those_that_the_fit_learns_from_the_same_answers():
    given_ = answers(200, 4)
    found = placed(source("a", given_))
    scores = np.full((1, SPACE.calibrated.items.n_items), np.nan)
    at = calibrated_index(SPACE).find(prefix_of([a.key for a in given_]))
    scores[0, at] = [a.score for a in given_]
    expected = with_leanings(
        SPACE.calibrated.expected,
        found.posterior.as_abilities(),
        scores,
        SPACE.leaning_variance,
    )
    np.testing.assert_allclose(found.abilities.leanings, expected.leanings, atol=1e-4)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_outside_0_to_1_is_refused(score):
    with pytest.raises(InputError, match="wanted 0 to 1"):
        Answer(ref="q", score=score)
    with pytest.raises(InputError, match="from 0 to 1"):
        ReportedScore(benchmark="x", score=score)
