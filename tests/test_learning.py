"""Laws of learning while serving."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.errors import CorruptArtifactError, InputError
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.model import Abilities, ItemParameters, Panel
from zerorouter.learning import (
    Drift,
    Ground,
    ItemReading,
    LearnedState,
    LearningSettings,
    Served,
    answered,
    applied,
    forgotten,
    from_dict,
    length_shift,
    take_score,
    take_served,
    to_dict,
)
from zerorouter.predict.serving_times import EndpointTimes, ServedRequest
from zerorouter.router import Router
from zerorouter.space import LatentSpace, Shifts

A, B = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"
SLOW = LearningSettings(window=1e9, neighbour_window=1e9, threshold=1e9)


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.load(profiles=())


@pytest.fixture(scope="module")
def space(router: Router) -> LatentSpace:
    return router.space


@pytest.fixture(scope="module")
def ground(space: LatentSpace) -> Ground:
    return Ground(space)


def vague(ground: Ground, name: str = A, sd: float = 1.0) -> LearnedState:
    """A state in which nobody knows anything about a model."""
    known = ground.model(name)
    k = len(known.mean)
    blank = replace(known, covariance=sd**2 * np.eye(k), leaning_variance=0.0)
    return replace(ground.start(), models=MappingProxyType({name: blank}))


def an_item(
    ground: Ground,
    a: tuple[float, ...] = (1.0, 0.2, -0.1),
    d: float = 0.0,
    *,
    floor: float = 0.0,
    effect_scale: float = 0.3,
    near: int = 0,
    facets: bool = False,
) -> ItemReading:
    similarity = np.zeros(ground.n_prototypes)
    similarity[near] = 0.9
    n_facets = ground.space.predictor.facet_weights.shape[1]
    return ItemReading(
        discrimination=np.array(a),
        intercept=d,
        guessing=floor,
        effect_scale=effect_scale,
        shift_variance=ground.near_variance,
        facets=np.full(n_facets, 0.1) if facets else None,
        similarity=similarity,
    )


def logit(state: LearnedState, name: str, item: ItemReading, ground: Ground) -> float:
    known = state.models.get(name) or ground.model(name)
    moved = ground.kernel(item.similarity) @ state.shift
    return float(item.discrimination @ known.mean) + item.intercept + float(moved)


loadings = st.tuples(st.floats(0.05, 4), st.floats(-3, 3), st.floats(-3, 3))
scores = st.floats(0, 1)
items = st.tuples(loadings, st.floats(-8, 8), st.floats(0, 0.5), st.integers(0, 20), st.booleans())


# -- scores ----------------------------------------------------------------------------------------


@given(loadings, st.floats(-4, 4), st.floats(0, 0.4))
@settings(max_examples=40, deadline=None)
def test_each_further_right_answer_raises_p_correct(ground, a, d, floor) -> None:
    item, state = an_item(ground, a, d, floor=floor), ground.start()
    before = logit(state, A, item, ground)
    for _ in range(12):
        state, _ = take_score(state, ground, A, item, 1.0)
        now = logit(state, A, item, ground)
        assert now > before
        before = now


@given(loadings, st.floats(-4, 4), scores)
@settings(max_examples=40, deadline=None)
def test_a_better_score_never_leads_to_a_lower_forecast(ground, a, d, score) -> None:
    item, start = an_item(ground, a, d), ground.start()
    less, _ = take_score(start, ground, A, item, score)
    more, _ = take_score(start, ground, A, item, min(score + 0.1, 1.0))
    assert logit(more, A, item, ground) >= logit(less, A, item, ground) - 1e-9


def test_many_steps_come_to_what_one_fit_of_all_answers_finds(ground: Ground) -> None:
    """Against `irt.ability`, the batch estimator, where there is no neighbourhood to share with."""
    rng = np.random.default_rng(3)
    n, k = 60, len(ground.model(A).mean)
    a = np.abs(rng.normal(1.0, 0.4, (n, k)))
    d, y = rng.normal(0, 1, n), rng.integers(0, 2, n).astype(float)
    exact = ItemParameters.exact(a, d)
    fitted = ability_posterior(
        exact, y, prior_mean=ground.model(A).mean, prior_covariance=np.eye(k)
    )
    state = vague(ground)
    state = replace(state, variance=np.full(ground.n_prototypes, 1e-12))
    for i in range(n):
        item = replace_item(an_item(ground, tuple(a[i]), d[i], effect_scale=0.0), shift=0.0)
        state, _ = take_score(state, ground, A, item, y[i], settings=SLOW)
    known = state.models[A]
    np.testing.assert_allclose(known.mean, fitted.mean, atol=0.35 * float(fitted.sd.min()))
    np.testing.assert_allclose(known.sd, fitted.sd, rtol=0.1)


def replace_item(item: ItemReading, *, shift: float) -> ItemReading:
    return ItemReading(
        discrimination=item.discrimination,
        intercept=item.intercept,
        guessing=item.guessing,
        effect_scale=item.effect_scale,
        shift_variance=shift,
        facets=item.facets,
        similarity=item.similarity,
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_order_of_scores_changes_little(ground, seed) -> None:
    rng = np.random.default_rng(seed)
    told = [
        (an_item(ground, tuple(rng.normal(0.8, 0.5, 3)), rng.normal(), near=int(rng.integers(4))),
         float(rng.integers(0, 2)))
        for _ in range(40)
    ]  # fmt: skip
    ends = []
    for order in (told, told[::-1], [told[i] for i in rng.permutation(len(told))]):
        state = vague(ground)
        for item, score in order:
            state, _ = take_score(state, ground, A, item, score, settings=SLOW)
        ends.append(state.models[A])
    for other in ends[1:]:
        assert np.all(np.abs(other.mean - ends[0].mean) < 0.5 * ends[0].sd)
        np.testing.assert_allclose(other.sd, ends[0].sd, rtol=0.25)


def test_without_forgetting_information_grows_and_with_it_it_stays_bounded(ground: Ground) -> None:
    item = an_item(ground, effect_scale=0.0)
    window = 50.0
    for forgets in (False, True):
        chosen = SLOW if not forgets else LearningSettings(window=window, threshold=1e9)
        state, information = ground.start(), []
        for i in range(1500):
            state, _ = take_score(state, ground, A, item, float(i % 2), settings=chosen)
            information.append(float(np.linalg.inv(state.models[A].covariance)[0, 0]))
        if forgets:
            # At most a quarter per score and unit of discrimination, over a window.
            weakest = float(ground.weakest(A)[0, 0])
            assert information[-1] <= weakest + window * 0.25 * 1.01
            assert information[-1] == pytest.approx(information[-200], rel=0.02)
        else:
            assert information[-1] > information[700] > information[100]


@given(st.lists(st.tuples(items, scores, st.sampled_from([A, B])), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_nothing_is_ever_nan_and_no_variance_negative(ground, told) -> None:
    state = ground.start()
    for (a, d, floor, near, facets), score, model in told:
        item = an_item(
            ground, tuple(25 * x for x in a), 10 * d, floor=floor, near=near, facets=facets
        )
        state, surprise = take_score(
            state, ground, model, item, score, settings=LearningSettings(threshold=1.0)
        )
        assert math.isfinite(surprise.log_loss)
        assert 0 < surprise.p < 1
        known = state.models[model]
        for part in (known.mean, known.covariance, known.leanings, state.shift):
            assert part is not None
            assert np.isfinite(part).all()
        assert np.linalg.eigvalsh(known.covariance).min() > 0
        assert (state.variance > 0).all()
        assert known.leaning_variance > 0


def test_failures_of_one_model_lower_others_there_and_nowhere_else(ground: Ground) -> None:
    here, there = an_item(ground, near=3), an_item(ground, near=200)
    state = ground.start()
    for _ in range(30):
        state, _ = take_score(state, ground, A, here, 0.0)
    assert logit(state, B, here, ground) < logit(ground.start(), B, here, ground) - 0.1
    assert logit(state, B, there, ground) == logit(ground.start(), B, there, ground)
    # Others share a part of it only: the rest is laid at the door of the model that failed.
    fallen_a = logit(ground.start(), A, here, ground) - logit(state, A, here, ground)
    fallen_b = logit(ground.start(), B, here, ground) - logit(state, B, here, ground)
    assert 0 < fallen_b < fallen_a


def test_the_less_is_known_of_a_model_the_less_its_failures_say_of_the_prompts(
    ground: Ground,
) -> None:
    item = an_item(ground, near=5)
    fallen = []
    for sd in (0.05, 1.0):
        state = vague(ground, sd=sd)
        for _ in range(10):
            state, _ = take_score(state, ground, A, item, 0.0, settings=SLOW)
        fallen.append(-float(state.shift.min()))
    assert fallen[0] > 1.5 * fallen[1]


def test_a_guess_floor_makes_right_answers_tell_less_and_wrong_ones_more_or_as_much(
    ground: Ground,
) -> None:
    for score, sharper in ((1.0, True), (0.0, False)):
        moved = []
        for floor in (0.0, 0.4):
            item = an_item(ground, d=0.5, floor=floor)
            state, _ = take_score(ground.start(), ground, A, item, score)
            moved.append(
                abs(logit(state, A, item, ground) - logit(ground.start(), A, item, ground))
            )
        if sharper:
            assert moved[1] < moved[0]
        else:
            assert moved[1] <= moved[0] + 1e-9


def test_scores_and_items_are_checked(ground: Ground) -> None:
    item = an_item(ground)
    for wrong in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(InputError, match="from 0 to 1"):
            take_score(ground.start(), ground, A, item, wrong)
    with pytest.raises(InputError, match="onboard"):
        take_score(ground.start(), ground, "nobody", item, 1.0)
    with pytest.raises(InputError, match="not finite"):
        take_score(ground.start(), ground, A, an_item(ground, d=math.nan), 1.0)
    with pytest.raises(InputError, match="window"):
        LearningSettings(window=1)


# -- drift -----------------------------------------------------------------------------------------


def run(ground: Ground, rng: np.random.Generator, chances: list[float]) -> list[Drift]:
    """Answers that are right with the chances of a model as forecast, times a factor."""
    state, raised = ground.start(), []
    for i, factor in enumerate(chances):
        item = an_item(ground, tuple(rng.normal(0.7, 0.3, 3)), rng.normal(1, 1), near=i % 40)
        _, told = take_score(state, ground, A, item, 1.0)
        right = float(rng.random() < told.p * factor)
        state, surprise = take_score(state, ground, A, item, right, at_s=float(i))
        if surprise.drift is not None:
            raised.append(surprise.drift)
    return raised


def test_a_silent_change_raises_drift_and_steady_service_does_not(ground: Ground) -> None:
    rng = np.random.default_rng(5)
    assert run(ground, rng, [1.0] * 400) == []
    raised = run(ground, rng, [1.0] * 200 + [0.3] * 60)
    assert raised
    assert raised[0].direction == "worse"
    assert 200 < raised[0].n_scores <= 245


def test_a_drift_stays_until_it_is_answered_and_widens_what_is_known(ground: Ground) -> None:
    item, state = an_item(ground, d=3.0), ground.start()
    sds = []
    while not state.drifted:
        state, _ = take_score(state, ground, A, item, 0.0, at_s=7.0)
        sds.append(float(state.models[A].sd[0]))
    assert state.drifted[A].direction == "worse"
    assert sds[-1] > 2 * sds[-2]
    state, _ = take_score(state, ground, A, item, 1.0)
    assert A in state.drifted
    assert not answered(state, A).drifted
    assert A not in forgotten(state, A).models


# -- lengths and times -----------------------------------------------------------------------------


def test_lengths_and_times_move_to_what_is_seen(router: Router, ground: Ground) -> None:
    state = ground.start()
    rng = np.random.default_rng(2)
    for i in range(80):
        seen = Served(
            upstream="house",
            request=ServedRequest(output_tokens=101, end_to_end_s=1.5, ttft_s=0.5),
            log_ratio=math.log(2.0) + 0.3 * rng.normal(),
            at_s=10.0 * i,
        )
        state = take_served(state, ground, A, seen, told=router.times(A))
    known = state.models[A]
    assert known.length_factor == pytest.approx(2.0, rel=0.15)
    times = known.endpoints["house"].times
    assert times.ttft.expectation == pytest.approx(0.5, rel=0.1)
    assert times.tpot.expectation == pytest.approx(0.01, rel=0.1)
    # And the router forecasts by it.
    taught = router.with_learned(replace(state, version=3))
    before, after = (
        router.estimates(["Why is the sky blue?"]),
        taught.estimates(["Why is the sky blue?"]),
    )
    at = router.models.index(A)
    assert after.output_tokens[0, at] == pytest.approx(
        before.output_tokens[0, at] * known.length_factor, rel=1e-6
    )
    assert taught.times(A).ttft.expectation == pytest.approx(0.5, rel=0.1)
    other = router.models.index(B)
    assert after.output_tokens[0, other] == before.output_tokens[0, other]
    assert length_shift(state, A) == pytest.approx(math.log(known.length_factor))
    assert length_shift(None, A) == 0.0


def test_upstreams_of_a_model_are_told_apart(router: Router, ground: Ground) -> None:
    state = ground.start()
    for upstream, seconds in (("fast", 0.2), ("slow", 4.0)):
        for i in range(30):
            request = ServedRequest(output_tokens=1, end_to_end_s=seconds, ttft_s=seconds)
            seen = Served(upstream=upstream, request=request, log_ratio=None, at_s=float(i))
            state = take_served(state, ground, A, seen, told=router.times(A))
    for upstream, seconds in (("fast", 0.2), ("slow", 4.0)):
        taught = router.with_learned(state, {A: upstream})
        assert taught.times(A).ttft.expectation == pytest.approx(seconds, rel=0.15)


def test_a_model_the_space_does_not_know_is_passed_over(ground: Ground) -> None:
    seen = Served(upstream="x", request=None, log_ratio=1.0, at_s=0.0)
    state = take_served(ground.start(), ground, "nobody", seen)
    assert not state.models


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_lengths_stay_finite_whatever_comes(ground, ratios) -> None:
    state = ground.start()
    for ratio in ratios:
        seen = Served(upstream="x", request=None, log_ratio=ratio, at_s=0.0)
        state = take_served(state, ground, A, seen)
        length = state.models[A].length
        assert math.isfinite(length.mean)
        assert length.level_variance > 0
        assert length.noise_variance > 0


# -- onto a router ---------------------------------------------------------------------------------


def test_nothing_learned_changes_nothing(router: Router, ground: Ground) -> None:
    prompts = ["What is 17 * 23?", "Write a poem about rain."]
    plain = router.estimates(prompts)
    taught = router.with_learned(ground.start()).estimates(prompts)
    np.testing.assert_array_equal(plain.p_correct, taught.p_correct)
    np.testing.assert_array_equal(plain.cost_usd, taught.cost_usd)


def test_what_is_learned_shows_in_decisions_and_their_version(
    router: Router, ground: Ground
) -> None:
    text = "What is 17 * 23?"
    decision = router.route(text)
    readings = decision.weighing.readings
    assert readings is not None
    assert readings.similarity is not None
    item = reading_of(readings, 0)
    state = ground.start()
    for _ in range(20):
        state, _ = take_score(state, ground, decision.model, item, 0.0)
    state = replace(state, version=9)
    taught = router.with_learned(state)
    again = taught.route(text)
    assert again.space_version == f"{router.space.version}+9"
    at = router.models.index(decision.model)
    p_then, p_now = (d.weighing.estimates.p_correct[0, at] for d in (decision, again))
    assert p_now < p_then - 0.1
    # The state forecasts what the router says.
    _, surprise = take_score(state, ground, decision.model, item, 1.0)
    assert surprise.p == pytest.approx(float(p_now), abs=0.02)
    # What was learned is kept out of what is learned from.
    moved = again.weighing.readings
    assert moved is not None
    assert moved.moved is not None
    assert float(moved.items.intercept[0] - moved.moved[0]) == pytest.approx(
        item.intercept, abs=1e-5
    )


def reading_of(readings, row: int) -> ItemReading:
    items = readings.items
    return ItemReading(
        discrimination=items.discrimination[row],
        intercept=float(items.intercept[row]),
        guessing=float(items.guessing[row]),
        effect_scale=float(items.effect_scale[row]),
        shift_variance=float(items.shift_variance[row]),
        facets=items.facets[row],
        similarity=readings.similarity[row],
    )


def test_another_space_is_not_taught(router: Router, ground: Ground) -> None:
    state = replace(ground.start(), space_version="another")
    assert router.with_learned(state) is router
    assert router.with_learned(None) is router
    fresh = ground.current(replace(state, version=5))
    assert fresh.space_version == router.space.version
    assert fresh.version == 5


def test_a_model_that_was_onboarded_again_starts_anew(ground: Ground) -> None:
    item = an_item(ground)
    state, _ = take_score(ground.start(), ground, A, item, 0.0)
    state, _ = take_score(state, ground, B, item, 0.0)
    other = replace(state.models[A], base=state.models[A].base + 1)
    stale = replace(state, models=MappingProxyType({**state.models, A: other}))
    assert set(ground.current(stale).models) == {B}
    assert ground.current(state) is state


def test_a_pool_is_laid_out_with_the_learned_uncertainty(router: Router, ground: Ground) -> None:
    item, state = an_item(ground), ground.start()
    for _ in range(5):
        state, _ = take_score(state, ground, A, item, 0.5)
    pool = applied(router._pool, router.space, state)
    taught = Panel.of(
        Abilities(mean=state.models[A].mean[None], covariance=state.models[A].covariance[None]),
        router.space.predictor.effect_covariance,
    )
    probe = ItemParameters.exact(np.eye(3), np.zeros(3))
    at = router.models.index(A)
    plain, now = router._pool.panel.forecast(probe), pool.panel.forecast(probe)
    alone = taught.forecast(probe)
    np.testing.assert_allclose(now.logit[:, at], alone.logit[:, 0], rtol=1e-5)
    np.testing.assert_allclose(now.error_variance[:, at], alone.error_variance[:, 0], rtol=1e-4)
    np.testing.assert_array_equal(
        np.delete(now.p_correct, at, 1), np.delete(plain.p_correct, at, 1)
    )


# -- the form on disk ------------------------------------------------------------------------------


def test_a_state_comes_back_from_json_and_goes_on_alike(router: Router, ground: Ground) -> None:
    item, state = an_item(ground, facets=True), ground.start()
    for i in range(12):
        state, _ = take_score(state, ground, A, item, float(i % 2), at_s=3.0)
        request = ServedRequest(output_tokens=10, end_to_end_s=1.0)
        seen = Served(upstream="u", request=request, log_ratio=0.2, at_s=float(i))
        state = take_served(state, ground, B, seen, told=router.times(B))
    text = json.dumps(to_dict(replace(state, version=4, note="why")), allow_nan=False)
    back = from_dict(json.loads(text))
    assert back.version == 4
    assert back.note == "why"
    assert json.dumps(to_dict(back)) == text
    one, _ = take_score(state, ground, A, item, 1.0)
    two, _ = take_score(back, ground, A, item, 1.0)
    np.testing.assert_array_equal(one.models[A].mean, two.models[A].mean)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.pop("shift"),
        lambda t: t.update(format="other"),
        lambda t: t.update(variance=[0.0] * len(t["variance"])),
        lambda t: t.update(shift=[1.0]),
        lambda t: t["models"][A].update(covariance=[[1.0]]),
        lambda t: t["models"][A]["length"].pop("prior"),
        lambda t: t.update(models=3),
    ],
)
def test_damage_is_a_typed_error(ground: Ground, damage) -> None:
    state, _ = take_score(ground.start(), ground, A, an_item(ground), 0.0)
    table = json.loads(json.dumps(to_dict(state)))
    damage(table)
    with pytest.raises(CorruptArtifactError, match="earlier version"):
        from_dict(table)


# -- the kernel ------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60))
def test_the_kernel_has_unit_length_and_forgets_what_is_far(cosines) -> None:
    similarity = np.array(cosines)
    weights = Shifts.kernel(similarity)
    assert weights @ weights == pytest.approx(1.0)
    assert (weights >= 0).all()
    assert (weights[similarity < similarity.max() - 0.2] == 0).all()
    assert weights[similarity.argmax()] == weights.max()


def test_times_may_be_left_alone(ground: Ground) -> None:
    request = ServedRequest(output_tokens=10, end_to_end_s=1.0)
    seen = Served(upstream="u", request=request, log_ratio=None, at_s=0.0)
    state = take_served(ground.start(), ground, A, seen, told=None)
    assert not state.models[A].endpoints
    told = EndpointTimes.told(1.0, 0.01)
    assert take_served(state, ground, A, seen, told=told).models[A].endpoints
