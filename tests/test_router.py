from __future__ import annotations

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulated_records import MODELS, fitted_folder, fitted_space, toy_router
from zerorouter.catalog import Catalog, ModelSpec, Price
from zerorouter.config import Config, PolicySettings
from zerorouter.errors import (
    ConfigError,
    InputError,
    MissingPriceError,
    NoEligibleModelError,
    PromptError,
    UnknownNameError,
)
from zerorouter.predict.prompt import read_prompt
from zerorouter.router import Router
from zerorouter.routing.policy import Policy
from zerorouter.space import LatentSpace

EASY = "Work out 3 + 4 and write the sum (task 5)."
HARD = "Work out 4821 + 9377 + 1284 + 7719 + 6630 and write the sum."
PROMPTS = [
    EASY,
    HARD,
    "Put the words lantern, violin, copper in the order of the alphabet, last first.",
    "x",
    "Warum ist der Himmel blau? 空はなぜ青いのですか",
    "def f(n):\n    return n + 1\n\nassert f(3) == ??",
    "Which is a metal?\nA) zinc\nB) oak\nC) wool\nD) sand\nAnswer with the letter.",
    "A long letter. " * 3_000,
]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
PHOTO = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def text(words):
    return {"type": "text", "text": words}


def toy_specs(**changes: dict) -> tuple[ModelSpec, ...]:
    """The simulated models' cards, with changes by name (``-`` for ``_``)."""
    return tuple(
        dataclasses.replace(spec, **changes.get(spec.name.replace("-", "_"), {}))
        for spec in fitted_space().models
    )


def toy(**changes: dict) -> Router:
    return Router(fitted_space(), Catalog(models=toy_specs(**changes)))


@pytest.fixture(scope="module")
def shipped() -> Router:
    return Router.load()


@pytest.fixture(params=["toy", "shipped"])
def router(request, shipped) -> Router:
    return toy_router() if request.param == "toy" else shipped


# -- laws ------------------------------------------------------------------------------------


def plain(decision):
    return {key: value for key, value in decision.to_dict().items() if key != "decision_id"}


@pytest.mark.parametrize("policy", ["quality", "balanced", "cost", "latency"])
def test_a_batch_gives_the_same_decisions_as_its_singles(router, policy):
    batch = router.route_batch(PROMPTS, policy=policy)
    assert [plain(d) for d in batch] == [plain(router.route(p, policy=policy)) for p in PROMPTS]


def test_a_batch_gives_the_same_estimates_as_its_singles(router):
    batch = router.estimates(PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        single = router.estimates([prompt])
        for name in ("p_correct", "cost_usd", "latency_s"):
            whole, alone = getattr(batch, name)[i], getattr(single, name)[0]
            np.testing.assert_allclose(whole, alone, rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_any_text_is_routed_alone_as_in_a_batch(texts):
    router = toy_router()
    assert [plain(d) for d in router.route_batch(texts)] == [plain(router.route(t)) for t in texts]


def test_the_order_of_catalog_and_pool_is_irrelevant():
    shuffled = list(toy_specs())
    random.Random(4).shuffle(shuffled)
    names = [spec.name for spec in shuffled]
    other = Router(fitted_space(), Catalog(models=tuple(shuffled)), models=names[::-1])
    for prompt in PROMPTS:
        assert plain(other.route(prompt)) == plain(toy_router().route(prompt))


def test_the_order_of_respondents_in_the_space_is_irrelevant():
    space = fitted_space()
    order = np.random.default_rng(0).permutation(len(space.respondents))
    styles = {
        f.name: getattr(space.styles, f.name)[order] for f in dataclasses.fields(space.styles)
    }
    moved = dataclasses.replace(
        space,
        respondents=tuple(space.respondents[i] for i in order),
        abilities=space.abilities.take(order),
        styles=type(space.styles)(**styles),
    )
    other = Router(moved, Catalog(models=toy_specs()))
    for prompt in PROMPTS:
        assert plain(other.route(prompt)) == plain(toy_router().route(prompt))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(PROMPTS), st.floats(0, 1), st.floats(0, 1))
def test_valuing_correctness_less_never_raises_the_expected_cost(prompt, v, w):
    low, high = (
        toy_router().route(prompt, policy=Policy(value_of_correct_usd=value))
        for value in sorted((v, w))
    )
    assert low.cost_usd <= high.cost_usd
    assert low.p_correct <= high.p_correct


@pytest.mark.parametrize("factor", [2.0, 10.0, 100.0])
def test_scaling_all_prices_up_never_makes_the_choice_dearer(factor):
    def scaled(price: Price) -> Price:
        return dataclasses.replace(
            price,
            input_usd_per_mtok=factor * price.input_usd_per_mtok,
            output_usd_per_mtok=factor * price.output_usd_per_mtok,
        )

    specs = [dataclasses.replace(s, price=scaled(s.price)) for s in toy_specs()]
    dear = Router(fitted_space(), Catalog(models=tuple(specs)))
    for prompt in PROMPTS:
        before, after = toy_router().route(prompt), dear.route(prompt)
        assert after.cost_usd / factor <= before.cost_usd * (1 + 1e-9)


@pytest.mark.parametrize("policy", ["quality", "balanced", "cost", "latency"])
def test_adding_a_dominated_model_never_changes_the_decision(policy):
    """A weaker, dearer and slower twin joins the pool under each possible name."""
    space = fitted_space()
    for prompt in PROMPTS[:4]:
        before = toy_router().route(prompt, policy=policy)
        twin = toy_router().catalog.get(before.model)
        at = int(space.index([before.model])[0])
        mean = space.abilities.mean[at] - np.float32([0.01, 0, 0])
        for name in ("aaa", "zzz"):
            wider = dataclasses.replace(
                space,
                respondents=(*space.respondents, name),
                abilities=type(space.abilities)(
                    mean=np.vstack([space.abilities.mean, mean]),
                    covariance=np.concatenate(
                        [space.abilities.covariance, space.abilities.covariance[[at]]]
                    ),
                ),
                styles=type(space.styles)(
                    **{
                        f.name: np.concatenate([style, style[[at]]])
                        for f in dataclasses.fields(space.styles)
                        for style in [getattr(space.styles, f.name)]
                    }
                ),
            )
            slower = dataclasses.replace(twin, name=name, ttft_s=60.0)
            catalog = Catalog(models=(*toy_specs(), slower))
            assert Router(wider, catalog).route(prompt, policy=policy).model == before.model


def test_threads_may_share_a_router():
    router = toy_router()
    wanted = [plain(router.route(p)) for p in PROMPTS[:7]]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(router.route, PROMPTS[:7] * 20))
    assert [plain(d) for d in found] == wanted * 20


# -- what is chosen ------------------------------------------------------------------------------


def test_quality_prefers_the_strongest_model_and_cost_a_cheap_one():
    router = toy_router()
    assert router.route(HARD, policy="quality").model == MODELS[0]
    cheap = router.route(EASY, policy=Policy(value_of_correct_usd=1e-6))
    assert cheap.cost_usd == min(c.cost_usd for c in cheap.candidates)


def test_a_hard_prompt_is_less_likely_to_be_solved_and_called_harder():
    easy, hard = (toy_router().route(p, policy="quality") for p in (EASY, HARD))
    assert hard.p_correct < easy.p_correct
    assert hard.difficulty > easy.difficulty


def test_expected_cost_is_tokens_times_prices():
    router, prompt = toy_router(), read_prompt(HARD)
    table, decision = router.estimates([HARD]), router.route(HARD)
    price = router.catalog.get(decision.model).price
    j = table.models.index(decision.model)
    tokens = table.output_tokens[0, j]
    per_million = prompt.input_tokens.mean * price.input_usd_per_mtok
    per_million += tokens * price.output_usd_per_mtok
    assert decision.cost_usd == pytest.approx(per_million / 1e6)


def test_latency_is_the_first_token_and_the_rest_at_the_catalogs_speed():
    fast = toy(sim_00={"ttft_s": 2.0, "throughput_tok_s": 10.0})
    table = fast.estimates([HARD])
    assert table.latency_s[0, 0] == pytest.approx(2.0 + (table.output_tokens[0, 0] - 1) / 10.0)


def test_no_answer_is_expected_beyond_the_models_longest():
    short = toy(sim_00={"max_output_tokens": 5})
    assert short.estimates([HARD]).output_tokens[0, 0] == 5


def test_the_decision_is_of_its_policy_and_space():
    decision = toy_router().route(EASY, policy="cost")
    assert (decision.policy, decision.space_version) == ("cost", fitted_space().version)
    assert toy_router().route(EASY).policy == "balanced"
    ids = {toy_router().route(EASY).decision_id for _ in range(20)}
    assert len(ids) == 20


def test_a_policy_of_ones_own_is_found_by_name():
    mine = Policy(name="frugal", value_of_correct_usd=1e-6, max_latency_s=30.0)
    router = Router(fitted_space(), Catalog(models=toy_specs()), policies={"frugal": mine})
    assert router.route(EASY, policy="frugal").policy == "frugal"
    with pytest.raises(UnknownNameError, match="did you mean 'frugal'"):
        router.route(EASY, policy="frugl")


def test_bounds_of_the_request_are_kept():
    router = toy_router()
    free = router.route(HARD, policy="quality")
    cheaper = router.route(HARD, policy="quality", max_cost_usd=free.cost_usd * 0.6)
    assert cheaper.cost_usd <= free.cost_usd * 0.6
    assert free.model in {x.model for x in cheaper.excluded}
    sure = router.route(EASY, policy="cost", min_accuracy=0.9)
    assert min(c.p_correct for c in sure.candidates) >= 0.9


# -- lists, capabilities, context ------------------------------------------------------------------


def test_allow_and_deny_lists_take_patterns_and_tell_why_models_are_out():
    router = toy_router()
    decision = router.route(HARD, policy="quality", models=["sim-0[3-6]"], exclude=["sim-03"])
    assert [c.model for c in decision.candidates if c.model not in MODELS[4:7]] == []
    reasons = {x.model: x.reason for x in decision.excluded}
    assert reasons["sim-03"] == "on the deny list"
    assert reasons["sim-00"] == "not among the allowed models"
    assert set(reasons) | {c.model for c in decision.candidates} == set(MODELS)


def test_a_deny_list_that_leaves_nothing_is_told_with_counts():
    with pytest.raises(NoEligibleModelError, match="12 on the deny list") as caught:
        toy_router().route(EASY, exclude=["*"])
    assert set(caught.value.excluded) == set(MODELS)


def test_unknown_models_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="'sim-0'; did you mean 'sim-0"):
        toy_router().route(EASY, models=["sim-0"])


def test_a_model_outside_the_pool_is_told_apart_from_an_unknown_one(shipped):
    outside = next(n for n in shipped.catalog.names if n not in shipped.models)
    with pytest.raises(NoEligibleModelError, match="in the catalog but not in the pool"):
        shipped.route(EASY, models=[outside])


def test_lists_that_are_texts_are_refused():
    with pytest.raises(InputError, match="a list of patterns is wanted"):
        toy_router().route(EASY, exclude="sim-00")
    with pytest.raises(InputError, match="a list of names is wanted"):
        Router(fitted_space(), Catalog(models=toy_specs()), models="sim-00")
    with pytest.raises(InputError, match="a list of prompts is wanted"):
        toy_router().route_batch(EASY)


@pytest.mark.parametrize(
    ("request_", "options", "needs"),
    [
        (user(text("What is this?"), PHOTO), {}, "vision"),
        (user(PHOTO), {}, "vision"),
        (EASY, {"tools": [TOOL]}, "tools"),
        (EASY, {"response_format": {"type": "json_object"}}, "json"),
    ],
)
def test_only_models_that_can_are_candidates(request_, options, needs):
    able = toy(sim_05={"capabilities": frozenset({needs})})
    decision = able.route(request_, policy="quality", **options)
    assert decision.requirements == (needs,)
    assert (decision.model, decision.fallbacks) == ("sim-05", ())
    assert {x.reason for x in decision.excluded} == {f"cannot: {needs}"}
    with pytest.raises(NoEligibleModelError, match=f"12 cannot: {needs}"):
        toy_router().route(request_, **options)


def test_requests_that_declare_tools_are_tool_use_whatever_their_text():
    able = toy(sim_05={"capabilities": frozenset({"tools"})})
    assert able.route(EASY, tools=[TOOL]).domain == "tool use"
    assert able.route(EASY).domain == "mathematics"


def test_a_request_must_fit_into_the_context_with_its_answer():
    small = toy(sim_00={"context_tokens": 60})
    assert small.route(EASY, policy="quality").model == "sim-00"
    long = small.route(EASY + " " + "blah " * 100, policy="quality")
    assert long.model != "sim-00"
    assert {x.model: x.reason for x in long.excluded} == {
        "sim-00": "its context window is too small"
    }


def test_where_no_context_is_wide_enough_it_is_told():
    tiny = toy(**{name.replace("-", "_"): {"context_tokens": 10} for name in MODELS})
    with pytest.raises(NoEligibleModelError, match="12 its context window is too small"):
        tiny.route("many words " * 1000)


def test_a_missing_price_is_refused_unless_the_model_is_left_out():
    unpriced = toy(sim_04={"price": None})
    with pytest.raises(MissingPriceError, match="'sim-04' has no price"):
        unpriced.route(EASY)
    assert "sim-04" not in unpriced.route(EASY, exclude=["sim-04"]).fallbacks


def test_impossible_bounds_name_the_bound_the_nearest_value_and_its_model():
    with pytest.raises(NoEligibleModelError, match=r"max_cost_usd=1e-12 .* \(sim-11\)"):
        toy_router().route(EASY, max_cost_usd=1e-12)


# -- bad prompts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", "  \n\t ", [], [{"role": "user", "content": ""}]])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(PromptError, match="empty"):
        toy_router().route(prompt)


@pytest.mark.parametrize("prompt", [b"bytes", 5, None, {"role": "user", "content": "hi"}, [5]])
def test_what_is_neither_text_nor_messages_is_refused(prompt):
    with pytest.raises(PromptError, match="wanted"):
        toy_router().route(prompt)


def test_lone_surrogates_and_nuls_are_routed():
    assert toy_router().route("why \ud800 is \x00 this \udfff so?").model in MODELS


def test_ten_megabytes_are_routed_in_bounded_time_and_memory():
    import tracemalloc

    prompt = "why is the sky blue? " * 500_000
    router = toy_router()
    tracemalloc.start()
    decision = router.route(prompt)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert decision.model in MODELS
    assert peak < 15_000_000  # bytes; the prompt itself is 10.5 million


def test_a_bad_prompt_in_a_batch_is_named_by_its_position():
    with pytest.raises(PromptError, match="prompt 2: the prompt is empty"):
        toy_router().route_batch([EASY, HARD, " "])
    with pytest.raises(NoEligibleModelError, match="prompt 1: no model of the pool"):
        toy_router().route_batch([EASY, user(PHOTO)])


def test_an_empty_batch_is_an_empty_list():
    assert toy_router().route_batch([]) == []


# -- made from a configuration -------------------------------------------------------------------


def test_a_configuration_sets_space_policies_pool_and_prices():
    config = Config(
        space=fitted_folder(),
        policy="frugal",
        policies={"frugal": PolicySettings(value_of_correct_usd=1e-9, max_latency_s=1e6)},
        allow=("sim-0*",),
        deny=("sim-00",),
        prices={"sim-05": Price(input_usd_per_mtok=0, output_usd_per_mtok=0, kind="user")},
    )
    router = Router.from_config(config)
    assert router.models == MODELS[1:10]
    decision = router.route(EASY)
    assert (decision.policy, decision.model, decision.cost_usd) == ("frugal", "sim-05", 0.0)


def test_a_narrowed_router_decides_like_one_that_was_made_for_these_models():
    whole = Router.from_config(Config())
    some = whole.models[::3]
    narrowed, made = whole.narrowed(some), Router.from_config(Config(allow=some))
    assert narrowed.models == made.models == some
    for prompt in (EASY, HARD, [*user(text(HARD), PHOTO)]):
        ours, theirs = narrowed.route(prompt).to_dict(), made.route(prompt).to_dict()
        assert {**ours, "decision_id": ""} == {**theirs, "decision_id": ""}
    assert len(whole.models) > len(some)
    with pytest.raises(UnknownNameError):
        whole.narrowed(["gpt-nothing"])
    with pytest.raises(NoEligibleModelError):
        whole.narrowed([])


def test_a_configuration_leaves_the_whole_catalog_in_sight():
    router = Router.from_config(Config(deny=("gpt-*",)))
    assert router.catalog.names == Catalog.load().names
    assert not any(name.startswith("gpt-") for name in router.models)


def test_a_configuration_that_leaves_nothing_or_names_nobody_is_refused():
    with pytest.raises(NoEligibleModelError, match="no model is left"):
        Router.from_config(Config(deny=("*",)))
    with pytest.raises(ConfigError, match=r"allow.*gpt-9"):
        Router.from_config(Config(allow=("gpt-9*",)))
    with pytest.raises(ConfigError, match="policy: unknown policy 'carefull'"):
        Router.from_config(Config(policy="carefull"))


def test_models_of_the_catalog_keep_their_cards_in_a_space_of_ones_own():
    known = dataclasses.replace(toy_specs()[0], vendor="toys", ttft_s=9.0)
    router = Router.load(fitted_folder(), catalog=Catalog(models=(known,)))
    assert router.catalog.get("sim-00").vendor == "toys"
    assert router.models == MODELS


def test_a_space_without_models_on_offer_makes_no_router():
    strangers = Catalog(models=(ModelSpec(name="nobody", in_default_pool=True),))
    space = dataclasses.replace(fitted_space(), models=())
    with pytest.raises(NoEligibleModelError, match="the pool is empty"):
        Router(space, strangers)
    with pytest.raises(UnknownNameError, match="respondent 'nobody'"):
        Router(space, strangers, models=["nobody"])


def test_the_environment_names_another_default_space(monkeypatch):
    monkeypatch.setenv("ZEROROUTER_SPACE", str(fitted_folder()))
    assert Router.load(catalog=Catalog(models=())).models == MODELS
    assert isinstance(Router.load().space, LatentSpace)


# -- the shipped space ---------------------------------------------------------------------------


def test_the_shipped_pool_has_only_priced_models_with_a_context(shipped):
    assert len(shipped.models) >= 40
    for name in shipped.models:
        spec = shipped.catalog.get(name)
        assert spec.price is not None
        assert spec.context_tokens


def test_the_presets_differ_where_it_matters(shipped):
    proof = (
        "Prove that there are infinitely many primes of the form 4k + 3, then show that the same "
        "argument fails for 4k + 1."
    )
    by = {name: shipped.route(proof, policy=name) for name in ("quality", "balanced", "cost")}
    assert by["quality"].p_correct >= by["balanced"].p_correct >= by["cost"].p_correct
    assert by["quality"].cost_usd > by["balanced"].cost_usd >= by["cost"].cost_usd
    fast = shipped.route(proof, policy="latency")
    assert fast.latency_s <= by["balanced"].latency_s
