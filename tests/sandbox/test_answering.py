from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.records import CATALOG, ask, make_sandbox
from zerorouter.catalog import Catalog
from zerorouter.errors import InputError, UnknownNameError
from zerorouter.router import Router
from zerorouter.sandbox import Sandbox, SandboxSettings
from zerorouter.sandbox.answering import CacheUse
from zerorouter.sandbox.plan import REFUSAL, Finish, Plan, spoiled
from zerorouter.sandbox.profiles import Forecaster
from zerorouter.sandbox.text import count

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["town"],
            },
        },
    }
    for name in ("forecast", "clock")
]


@pytest.fixture(scope="module")
def recorded(folder: Path) -> Sandbox:
    return make_sandbox(folder)


@pytest.fixture(scope="module")
def made_up() -> Sandbox:
    return make_sandbox()


def only(plan: Plan) -> Any:
    assert len(plan.choices) == 1
    return plan.choices[0]


# -- recorded answers --------------------------------------------------------------------------


def test_a_prompt_scored_right_gets_the_reference_with_recorded_tokens_and_latency(
    recorded: Sandbox,
):
    plan = recorded.plan(ask("What is 17 + 25?"))
    choice = only(plan)
    assert (choice.text, choice.finish, choice.correct) == ("42", Finish.STOP, True)
    assert (plan.source, plan.prompt, plan.p_correct) == ("recorded", "ours/sum", 1.0)
    assert (plan.usage.input_tokens, plan.usage.output_tokens) == (11, 64)
    assert (plan.ttft_s, plan.latency_s) == (0.5, 2.5)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("What is 6 * 7?\nCount.", "# 42"),
        (
            "Which town is the capital of Norway?\nA. Bergen\nB. Oslo\nC. Trondheim\nD. Tromsø",
            "B",
        ),
        ("Name the colour of coal.", "black"),
    ],
)
def test_a_prompt_scored_wrong_gets_another_answer_of_its_kind(
    recorded: Sandbox, text: str, right: str
):
    choice = only(recorded.plan(ask(text)))
    assert choice.correct is False
    assert choice.text != right
    assert len(choice.text) <= 10


def test_a_fractional_score_is_drawn_with_that_frequency(recorded: Sandbox):
    shares = [
        fmean([choice.correct for choice in recorded.plan(ask(text, n=128, seed=1)).choices])
        for text in ("Heads or tails?", "Write about ferries.")
    ]
    assert shares[0] == pytest.approx(0.3, abs=0.12)
    assert shares[1] == pytest.approx(0.6, abs=0.12)


def test_a_prompt_without_a_reference_gets_a_text_that_says_how_it_counts(recorded: Sandbox):
    choice = only(recorded.plan(ask("Write about ferries.")))
    assert f"counts as {'right' if choice.correct else 'wrong'}, P=0.60" in choice.text
    assert choice.output_tokens == 20


def test_a_model_that_was_not_asked_answers_by_its_probability(recorded: Sandbox, folder: Path):
    plan = recorded.plan(ask("Who was not asked?"))
    assert plan.source == "synthetic"
    assert plan.prompt == "ours/unasked"
    for p, right in ((1.0, True), (0.0, False)):
        choice = only(make_sandbox(folder, p_correct=p).plan(ask("Who was not asked?")))
        assert (choice.text == "nobody") is right


def test_an_answer_is_cut_before_it_is_reached_where_the_limit_is_below_its_length(
    recorded: Sandbox,
):
    """64 tokens were recorded for "42": at 10 the model had not come to it."""
    plan = recorded.plan(ask("What is 17 + 25?", max_tokens=10))
    choice = only(plan)
    assert (choice.finish, choice.correct, plan.usage.output_tokens) == (Finish.LENGTH, False, 10)
    assert "42" not in choice.text
    assert count(choice.text) == 10
    assert plan.latency_s < 2.5
    assert only(recorded.plan(ask("What is 17 + 25?", max_tokens=64))).text == "42"


def test_hidden_reasoning_of_a_recorded_answer_is_what_is_not_visible(recorded: Sandbox):
    choice = only(recorded.plan(ask("What is 17 + 25?", model="thinker")))
    assert (choice.output_tokens, choice.reasoning_tokens) == (50, 40)


def test_the_mean_recorded_score_stands_in_where_there_is_no_estimate(folder: Path):
    sandbox = make_sandbox(folder, p_correct=None)
    assert sandbox.recordings is not None
    assert sandbox.plan(ask("Unheard of?")).p_correct == sandbox.recordings.mean_score("able")
    assert make_sandbox(p_correct=None).plan(ask("Unheard of?")).p_correct == 0.5


# -- made-up answers ---------------------------------------------------------------------------


def test_an_unknown_prompt_gets_an_answer_that_says_what_it_is(made_up: Sandbox):
    plan = made_up.plan(ask())
    choice = only(plan)
    assert plan.source == "synthetic"
    assert choice.text.startswith("[sandbox: synthetic answer, counts as ")
    assert "P=0.50]" in choice.text
    assert count(choice.text) == choice.output_tokens == plan.usage.output_tokens


@given(st.text(min_size=1, max_size=40).filter(str.strip), st.integers(0, 5), st.integers(1, 4))
def test_the_same_request_gets_the_same_answer_from_another_sandbox(text: str, seed: int, n: int):
    plans = [make_sandbox(seed=seed).plan(ask(text, n=n)) for _ in range(2)]
    assert plans[0] == plans[1]


def test_a_sample_does_not_depend_on_how_many_were_asked_for(made_up: Sandbox):
    together = made_up.plan(ask(n=5, seed=10)).choices
    alone = [only(made_up.plan(ask(seed=10 + i))) for i in range(5)]
    assert list(together) == alone
    assert len({choice.text for choice in together}) > 1


def test_another_seed_or_model_draws_anew_but_another_system_prompt_does_not(made_up: Sandbox):
    texts = {i: only(make_sandbox(seed=i).plan(ask())).text for i in range(3)}
    assert len(set(texts.values())) == 3
    assert only(made_up.plan(ask(model="thinker"))).text != texts[0]
    framed = replace(ask(), input_tokens=500)
    assert only(made_up.plan(framed)).text == texts[0]


@pytest.mark.parametrize("p", [0.0, 0.2, 0.9, 1.0])
def test_answers_are_correct_with_the_probability_they_state(p: float):
    sandbox = make_sandbox(p_correct=p)
    right = fmean([only(sandbox.plan(ask(f"Number {i}?"))).correct for i in range(400)])
    assert right == pytest.approx(p, abs=0.07)


def test_lengths_and_times_lie_about_the_profile_of_the_model(made_up: Sandbox):
    plans = [made_up.plan(ask(f"Number {i}?")) for i in range(600)]
    assert fmean([plan.usage.output_tokens for plan in plans]) == pytest.approx(200, rel=0.1)
    assert fmean([plan.ttft_s for plan in plans]) == pytest.approx(0.5, rel=0.1)
    tpot = [(p.latency_s - p.ttft_s) / (p.usage.output_tokens - 1) for p in plans]
    assert fmean(tpot) == pytest.approx(1 / 50, rel=0.05)


def test_a_model_that_thinks_bills_what_it_does_not_show(made_up: Sandbox):
    plan = made_up.plan(ask(model="thinker"))
    choice = only(plan)
    assert choice.reasoning_tokens == plan.usage.reasoning_tokens > 0
    assert count(choice.text) == choice.output_tokens - choice.reasoning_tokens


@given(st.integers(1, 400), st.sampled_from(["able", "thinker"]))
def test_no_answer_is_longer_than_its_limit(limit: int, model: str):
    choice = only(make_sandbox().plan(ask(model=model, max_tokens=limit)))
    assert choice.output_tokens <= limit
    assert choice.reasoning_tokens + count(choice.text) <= limit
    assert choice.finish is Finish.STOP or choice.output_tokens == limit


def test_a_model_has_a_limit_of_its_own():
    sandbox = make_sandbox(answer_tokens=9_000)
    choice = only(sandbox.plan(ask()))
    assert (choice.output_tokens, choice.finish) == (4_000, Finish.LENGTH)


def test_a_stop_text_ends_the_answer_and_is_left_out(made_up: Sandbox):
    choice = only(made_up.plan(ask(stop=["never", "counts"])))
    assert choice.text == "[sandbox: synthetic answer, "
    assert (choice.finish, choice.stop) == (Finish.STOP_SEQUENCE, "counts")
    assert choice.output_tokens == count(choice.text)


def test_json_mode_gives_an_object_and_a_schema_one_that_fits(made_up: Sandbox, recorded: Sandbox):
    plain = only(made_up.plan(ask(response_format={"type": "json_object"})))
    assert json.loads(plain.text)["answer"].startswith("[sandbox: synthetic answer")
    wanted = {
        "type": "json_schema",
        "json_schema": {
            "name": "reply",
            "schema": {
                "type": "object",
                "properties": {"steps": {"type": "integer"}, "answer": {"type": "string"}},
                "required": ["steps", "answer"],
            },
        },
    }
    fitted = only(recorded.plan(ask("What is 17 + 25?", response_format=wanted)))
    assert json.loads(fitted.text) == {"steps": 1, "answer": "42"}


# -- tools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "choice", "called"),
    [
        ("Will it rain?", None, []),
        ("Will it rain?", "auto", []),
        ("Use the forecast, please.", None, ["forecast"]),
        ("forecast or clock?", "auto", ["forecast", "clock"]),
        ("Use the forecast, please.", "none", []),
        ("Will it rain?", "required", ["forecast"]),
        ("Look at the clock.", "required", ["clock"]),
        ("Hm.", {"type": "function", "function": {"name": "clock"}}, ["clock"]),
    ],
)
def test_tools_are_called_when_they_must_be_or_are_named(
    made_up: Sandbox, text: str, choice: Any, called: list[str]
):
    fields = {} if choice is None else {"tool_choice": choice}
    answer = only(made_up.plan(ask(text, tools=TOOLS, **fields)))
    assert [call.name for call in answer.tool_calls] == called
    assert (answer.finish is Finish.TOOL) == bool(called)
    for call in answer.tool_calls:
        assert json.loads(call.arguments) == {"town": "sandbox", "days": 1}


def test_without_leave_for_several_calls_there_is_one(made_up: Sandbox):
    answer = only(made_up.plan(ask("forecast or clock?", tools=TOOLS, parallel_tool_calls=False)))
    assert [call.name for call in answer.tool_calls] == ["forecast"]


def test_a_limit_cuts_a_call_within_its_arguments(made_up: Sandbox):
    answer = only(made_up.plan(ask("forecast", tools=TOOLS, max_tokens=2)))
    assert answer.finish is Finish.LENGTH
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(answer.tool_calls[0].arguments)


# -- spoiling, names, settings ---------------------------------------------------------------------


def test_answers_are_spoiled_as_asked(made_up: Sandbox):
    plan = made_up.plan(ask(n=2))
    empty, half, refused = (spoiled(plan, how) for how in ("empty", "truncated", "refusal"))
    assert [c.text for c in empty.choices] == ["", ""]
    for whole, cut in zip(plan.choices, half.choices, strict=True):
        assert whole.text.startswith(cut.text)
        assert len(cut.text) == len(whole.text) // 2
        assert (cut.finish, cut.correct) == (Finish.LENGTH, False)
    assert refused.choices[0].text == REFUSAL
    for spoilt in (empty, half, refused):
        total = sum(choice.output_tokens for choice in spoilt.choices)
        assert spoilt.usage.output_tokens == total < plan.usage.output_tokens
        assert plan.ttft_s <= spoilt.latency_s < plan.latency_s


def test_models_go_by_their_own_name_the_records_name_and_aliases(recorded: Sandbox):
    assert recorded.profile("Able").name == "able"
    shipped = Sandbox(SandboxSettings(p_correct=0.5), catalog=Catalog.load())
    assert shipped.profile("openai/GPT-4o-2024-08-06").name == "gpt-4o-2024-08-06"
    with pytest.raises(UnknownNameError, match="'able'"):
        recorded.profile("abel")


def test_further_names_are_served(folder: Path):
    sandbox = make_sandbox(folder, models=["newcomer"])
    assert sandbox.plan(ask(model="newcomer")).model == "newcomer"


def test_cached_input_is_part_of_the_input(made_up: Sandbox):
    request = replace(ask(), input_tokens=2_000)
    used = made_up.plan(request, cache=CacheUse(read_tokens=1_500, write_tokens=900)).usage
    assert (used.cache_read_tokens, used.cache_write_tokens) == (1_500, 500)


def test_the_space_says_how_likely_its_models_are_right():
    """P(correct) and lengths of unknown prompts are the router's own estimates."""
    router = Router.load()
    forecaster = Forecaster(router)
    sandbox = Sandbox(SandboxSettings(), catalog=router.catalog, forecaster=forecaster)
    names = ("gpt-4o-2024-08-06", "gemma-2-2b-it")
    text = "Find all real x with x^4 - 4x^3 + 6x^2 - 4x = 15."
    estimates = router.estimates([text])
    for name in names:
        column = estimates.models.index(name)
        plan = sandbox.plan(ask(text, model=name))
        assert plan.p_correct == pytest.approx(float(estimates.p_correct[0, column]), abs=1e-6)
        forecast = forecaster.forecast(ask(text).prompt, name)
        assert forecast is not None
        assert forecast.output_tokens == pytest.approx(estimates.output_tokens[0, column])
    strong, weak = (sandbox.plan(ask(text, model=name)).p_correct for name in names)
    assert strong > weak
    assert forecaster.forecast(ask(text).prompt, "able") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_scale": -1},
        {"p_correct": 1.5},
        {"p_correct": True},
        {"answer_tokens": 0},
        {"faults": ["429@2"]},
        {"data": "folder"},
        {"api_keys": [""]},
        {"max_held_bytes": 1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]):
    with pytest.raises(InputError):
        SandboxSettings(**wrong)


def test_keys_are_not_shown():
    settings = SandboxSettings(api_keys=frozenset({"sk-secret"}), seed=7)
    assert "secret" not in repr(settings)
    assert "seed=7" in repr(settings)


def test_profiles_come_from_the_catalog(made_up: Sandbox):
    profile = made_up.profile("able")
    card = CATALOG.get("able")
    assert (profile.ttft_s, profile.tpot_s, profile.price) == (0.5, 1 / 50, card.price)
