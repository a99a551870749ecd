"""Onboarding over HTTP, against a real server on loopback."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asking.toy import (
    PRICE,
    UPSTREAM,
    make_sandbox,
    onboard_toy,
    recorded_score,
    write_toy,
)
from simulated_records import fitted_folder, fitted_space
from zerorouter.asking.job import Design, onboard
from zerorouter.asking.journal import Journal, read_journal
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import (
    ConfigError,
    InputError,
    MissingPriceError,
    NoEligibleModelError,
    ZeroRouterError,
)
from zerorouter.irt.ability import ability_posterior
from zerorouter.onboarding.evidence import calibrated_index, prefix_of, prior_of
from zerorouter.prices import TokenCounts, request_cost_usd
from zerorouter.profiles import ProfileStore, card_of
from zerorouter.router import Router
from zerorouter.sandbox import RunningSandbox, serve_in_thread


def calls(server: RunningSandbox) -> list[dict]:
    return server.calls(latest=10_000)["latest"]


def test_http_gives_the_estimates_of_the_offline_computation(server, tmp_path, toy_folder):
    """The same answers, straight from the records, through the bare formula."""
    result = onboard_toy(server.url, tmp_path, toy_folder, design={"n": 40})
    space = fitted_space()
    answers = result.profile.sources[0].answers
    assert len(answers) == 40
    scores = np.array([recorded_score(a.ref.partition("/")[2]) for a in answers])
    at = calibrated_index(space).find(prefix_of([a.key for a in answers]))
    assert (at >= 0).all()
    prior = prior_of(space, card_of(result.profile.card))
    order = np.argsort([a.key for a in answers])
    expected = ability_posterior(
        space.calibrated.items.take(at[order]),
        scores[order],
        prior_mean=prior.mean,
        prior_covariance=prior.covariance,
        degrees_of_freedom=prior.degrees_of_freedom,
    )
    np.testing.assert_array_equal(result.profile.ability, expected.mean)
    np.testing.assert_array_equal(result.profile.covariance, expected.covariance)


def test_the_newcomer_is_routed_to_at_once(server, tmp_path, toy_folder, monkeypatch):
    onboard_toy(server.url, tmp_path, toy_folder)
    monkeypatch.setenv("ZEROROUTER_HOME", str(tmp_path))
    router = Router.load(fitted_folder(), catalog=Catalog(models=()))
    assert "newcomer" in router.models
    candidates = router.route("Work out 3 + 4.").to_dict()["candidates"]
    assert "newcomer" in {candidate["model"] for candidate in candidates}


def test_measured_lengths_and_speeds_are_those_of_the_stream(server, tmp_path, toy_folder):
    server.set_faults([f"{UPSTREAM}:slow_start=0.05"])
    result = onboard_toy(server.url, tmp_path, toy_folder)
    answers = result.profile.sources[0].answers
    by_prompt = {row["prompt"]: row["output_tokens"] for row in calls(server)}
    assert [a.tokens for a in answers] == [by_prompt[a.ref] for a in answers]
    assert all(a.ttft_s is not None and 0.05 <= a.ttft_s <= a.end_to_end_s for a in answers)
    told = result.to_dict()
    assert told["ttft_s"] > 0.04
    assert told["tpot_s"] > 0


def test_the_spend_is_that_of_the_tokens_billed(server, tmp_path, toy_folder):
    result = onboard_toy(server.url, tmp_path, toy_folder)
    billed = sum(
        request_cost_usd(
            PRICE, TokenCounts(input_tokens=c["input_tokens"], output_tokens=c["output_tokens"])
        )
        for c in calls(server)
    )
    assert result.spent_usd == pytest.approx(billed)
    assert result.quote is not None
    assert result.quote.worst_usd > result.quote.usd_high > result.quote.usd > 0


def test_a_second_run_asks_nothing_and_tells_the_same(server, tmp_path, toy_folder):
    first = onboard_toy(server.url, tmp_path, toy_folder)
    server.forget_calls()
    second = onboard_toy(server.url, tmp_path, toy_folder)
    assert calls(server) == []
    assert second.profile.to_json() == first.profile.to_json()


def test_more_anchors_ask_only_the_further_ones(server, tmp_path, toy_folder):
    onboard_toy(server.url, tmp_path, toy_folder)
    server.forget_calls()
    result = onboard_toy(server.url, tmp_path, toy_folder, design={"n": 20})
    assert (len(calls(server)), result.n_anchors) == (8, 20)


def test_fresh_asks_anew_and_keeps_the_old_answers(server, tmp_path, toy_folder):
    onboard_toy(server.url, tmp_path, toy_folder)
    server.forget_calls()
    onboard_toy(server.url, tmp_path, toy_folder, fresh=True)
    assert len(calls(server)) == 12
    assert len(list((tmp_path / "runs").glob("newcomer-*.1.jsonl"))) == 1


@pytest.mark.parametrize("strategy", ["i_optimal", "d_optimal", "stratified", "random"])
def test_every_strategy_asks_as_many_as_wanted(server, tmp_path, toy_folder, strategy):
    result = onboard_toy(server.url, tmp_path, toy_folder, design={"n": 10, "strategy": strategy})
    assert result.n_anchors == len(calls(server)) == 10


def test_an_adaptive_run_stops_once_enough_is_known(server, tmp_path, toy_folder):
    result = onboard_toy(
        server.url,
        tmp_path,
        toy_folder,
        design={"n": 200, "adaptive": True, "target_sd": 0.09},
    )
    assert 10 <= result.n_anchors < 200
    assert result.profile.predictive_sd <= 0.09
    assert "was wanted" in result.stopped


def test_an_adaptive_run_gives_up_on_a_model_that_wins_no_traffic(server, tmp_path, toy_folder):
    dear = ModelSpec(
        name="newcomer",
        price=PRICE.__class__(input_usd_per_mtok=5_000.0, output_usd_per_mtok=20_000.0),
    )
    result = onboard_toy(
        server.url,
        tmp_path,
        toy_folder,
        card=dear,
        price=None,
        design={"n": 100, "adaptive": True, "target_sd": 0.01},
    )
    assert "wins any traffic is 0%" in result.stopped
    assert result.n_anchors < 30


# -- money -------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_a_budget_is_never_exceeded(server, tmp_path, toy_folder, concurrency):
    """Billed by the server's own count, at every concurrency."""
    budget = 0.008
    result = onboard_toy(
        server.url,
        tmp_path,
        toy_folder,
        design={"n": 300, "strategy": "random"},
        budget_usd=budget,
        concurrency=concurrency,
    )
    billed = sum(
        request_cost_usd(
            PRICE, TokenCounts(input_tokens=c["input_tokens"], output_tokens=c["output_tokens"])
        )
        for c in calls(server)
    )
    assert billed == pytest.approx(result.spent_usd)
    assert budget / 2 < billed <= budget
    assert result.stopped.startswith("the budget: the next request may cost up to $")
    assert 10 < result.n_anchors < 300


def test_a_budget_counts_calls_that_may_have_been_charged(server, tmp_path, toy_folder):
    server.set_faults([f"{UPSTREAM}:cut=3@0.6"])
    result = onboard_toy(
        server.url,
        tmp_path,
        toy_folder,
        design={"n": 300, "strategy": "random"},
        budget_usd=0.008,
        retries=1,
    )
    state, _ = read_journal(result.journal)
    assert result.spent_usd <= 0.008
    assert result.spent_usd > sum(a.usd for a in state.answers.values())


def test_a_budget_too_small_for_one_question_asks_none(server, tmp_path, toy_folder):
    with pytest.raises(NoEligibleModelError, match="answered nothing: the budget"):
        onboard_toy(server.url, tmp_path, toy_folder, budget_usd=1e-6)
    assert calls(server) == []


def test_a_budget_without_prices_is_an_error(server, tmp_path, toy_folder):
    with pytest.raises(MissingPriceError, match="--price-in and --price-out"):
        onboard_toy(server.url, tmp_path, toy_folder, price=None, budget_usd=1.0)


def test_without_a_price_costs_are_unknown_not_zero(server, tmp_path, toy_folder):
    told = onboard_toy(server.url, tmp_path, toy_folder, price=None).to_dict()
    assert (told["spent_usd"], told["usd_per_1k_prompts"], told["quote"]["usd"]) == (None,) * 3


def test_a_dry_run_asks_and_writes_nothing(server, tmp_path, toy_folder):
    result = onboard_toy(server.url, tmp_path / "home", toy_folder, dry_run=True)
    assert result.quote.n == 12
    assert calls(server) == []
    assert not (tmp_path / "home").exists()


def test_the_quote_can_stop_the_run(server, tmp_path, toy_folder):
    def refuse(quote, design):
        raise InputError(f"too dear: {quote.n} of {design.n}")

    with pytest.raises(InputError, match="too dear: 12 of 12"):
        onboard_toy(server.url, tmp_path, toy_folder, on_quote=refuse)
    assert calls(server) == []


# -- kills ---------------------------------------------------------------------------------------

KILLED_RUN = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from asking.toy import onboard_toy
onboard_toy({url!r}, Path({home!r}), Path({data!r}), space=Path({space!r}), design={{"n": 60}},
            concurrency={concurrency}, budget_usd=1.0)
"""


def broken(journal: Path) -> set[str]:
    """Prompts of which a call came to nothing, by the journal."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    refs = {row["call"]: row["ref"] for row in rows if row["kind"] == "intent"}
    return {refs[row["call"]] for row in rows if row["kind"] == "failure"}


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_run_goes_on_under_the_rules(server, tmp_path, toy_folder, seed):
    """SIGKILL after a random number of journal lines: nothing stored is asked again, open
    intents count as spent, and at most `concurrency` prompts are asked twice."""
    concurrency = 6
    server.set_faults([f"{UPSTREAM}:slow_start=0.05"])
    code = KILLED_RUN.format(
        path=[str(Path(__file__).parents[1])],
        url=server.url,
        home=str(tmp_path),
        data=str(toy_folder),
        space=str(fitted_folder()),
        concurrency=concurrency,
    )
    wanted = random.Random(seed).randint(8, 70)
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    journal = None
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = list((tmp_path / "runs").glob("*.jsonl")) if (tmp_path / "runs").is_dir() else []
        if found and found[0].read_bytes().count(b"\n") >= wanted:
            journal = found[0]
            break
        time.sleep(0.002)
    assert journal is not None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    before, _ = read_journal(journal)
    stored, open_refs = set(before.answers), set(before.open_refs.values())
    assert len(open_refs) <= concurrency
    first = Counter(c["prompt"] for c in calls(server))
    server.set_faults([])
    server.forget_calls()
    result = onboard_toy(
        server.url,
        tmp_path,
        toy_folder,
        design={"n": 60},
        concurrency=concurrency,
        budget_usd=1.0,
    )
    again = Counter(c["prompt"] for c in calls(server))
    assert not stored & again.keys(), "a stored answer was asked again"
    asked = first + again
    # A retry after a broken connection, as on a busy machine, is no consequence of the kill.
    twice = [prompt for prompt in asked if asked[prompt] > 1 and prompt not in broken(journal)]
    assert len(twice) <= concurrency
    assert set(twice) <= open_refs
    assert result.n_anchors == 60
    answered = sum(a.usd for a in read_journal(journal)[0].answers.values())
    assert result.spent_usd == pytest.approx(answered + sum(before.open.values()))
    if before.open:
        assert any("was killed" in note for note in result.notes)


def test_a_run_that_is_on_cannot_be_joined(server, tmp_path, toy_folder):
    result = onboard_toy(server.url, tmp_path, toy_folder)
    with (
        Journal.resume(result.journal),
        pytest.raises(ZeroRouterError, match="in use: another process"),
    ):
        onboard_toy(server.url, tmp_path, toy_folder)


# -- faults --------------------------------------------------------------------------------------

PASSING = [
    "429=0.01x5",
    "500x5",
    "resetx5",
    "cut=2x5",
    "garbagex5",
    "stream_errorx5",
    "no_bodyx5",
    "not_httpx5",
    "503=0.01x5",
    "slow_chunks=0.01x5",
]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_nothing_but_time(server, tmp_path, toy_folder, fault):
    server.set_faults([f"{UPSTREAM}:{fault}"])
    result = onboard_toy(server.url, tmp_path, toy_folder)
    assert (result.n_anchors, dict(result.failed)) == (12, {})


LASTING = {
    "429=0": "HTTP 429",
    "401": "HTTP 401",
    "404": "HTTP 404",
    "500": "HTTP 500",
    "reset": "the connection broke",
    "cut=0": "the stream was cut before its end|the connection broke",
    "garbage": "no JSON|no event stream",
    "stream_error": "the stream broke off",
    "no_body": "the stream was cut|no JSON",
    "not_http": "the connection broke",
    "429=4000": "wants to be left alone for 4000 s",
}


@pytest.mark.parametrize(("fault", "told"), LASTING.items())
def test_a_fault_that_lasts_ends_in_a_report_with_what_was_saved(
    server, tmp_path, toy_folder, fault, told
):
    onboard_toy(server.url, tmp_path, toy_folder, design={"n": 8})
    server.set_faults([f"{UPSTREAM}:{fault}"])
    result = onboard_toy(server.url, tmp_path, toy_folder, design={"n": 30}, retries=0)
    assert result.n_anchors == 8
    assert result.stopped.startswith("the endpoint: ")
    assert re.search(told, result.stopped)
    assert ProfileStore(tmp_path / "profiles").load("newcomer").n_answers == 8


def test_after_an_outage_the_same_command_asks_what_is_missing(server, tmp_path, toy_folder):
    server.set_faults([f"{UPSTREAM}:500"])
    with pytest.raises(NoEligibleModelError):
        onboard_toy(server.url, tmp_path, toy_folder, retries=0)
    server.set_faults([f"{UPSTREAM}:413x1"])
    refused = onboard_toy(server.url, tmp_path, toy_folder)
    assert (refused.n_anchors, len(refused.failed)) == (11, 1)
    server.forget_calls()
    again = onboard_toy(server.url, tmp_path, toy_folder)
    assert (again.n_anchors, calls(server)) == (11, [])


def test_a_fault_from_the_first_call_on_says_what_happened(server, tmp_path, toy_folder):
    server.set_faults([f"{UPSTREAM}:500"])
    with pytest.raises(NoEligibleModelError, match=r"answered nothing: the endpoint: .*HTTP 500"):
        onboard_toy(server.url, tmp_path, toy_folder, retries=0)
    assert not (tmp_path / "profiles").exists()


def test_a_model_that_hangs_times_out(server, tmp_path, toy_folder):
    server.set_faults([f"{UPSTREAM}:hang"])
    with pytest.raises(NoEligibleModelError, match=r"no whole answer within 0\.2 s"):
        onboard_toy(server.url, tmp_path, toy_folder, retries=0, timeout_s=0.2)


def test_one_prompt_that_fails_is_replaced_by_none_and_told(server, tmp_path, toy_folder):
    server.set_faults([f"{UPSTREAM}:413x1"])
    result = onboard_toy(server.url, tmp_path, toy_folder)
    assert len(result.failed) == 1
    assert "HTTP 413" in next(iter(result.failed.values()))
    assert result.n_anchors == 11


@pytest.mark.parametrize(
    ("fault", "warning"),
    [
        ("empty@0.5", "answers were empty"),
        ("truncated@0.5", "cut at the token limit"),
        ("refusal@0.5", "answers were refusals"),
    ],
)
def test_odd_answers_are_warned_of(server, tmp_path, toy_folder, fault, warning):
    server.set_faults([f"{UPSTREAM}:{fault}"])
    result = onboard_toy(server.url, tmp_path, toy_folder, design={"n": 20})
    assert any(warning in told for told in result.warnings)
    assert result.profile.warnings == result.warnings


def test_a_grader_that_matches_nothing_is_warned_of(server, tmp_path, toy_folder):
    result = onboard_toy(
        server.url,
        tmp_path,
        toy_folder,
        upstream_model="stranger",
        design={"n": 20, "grader": "python=asking.graders_of_tests:finds_nothing"},
    )
    assert any("the grader found no answer in 20 of 20" in told for told in result.warnings)


def test_a_grader_that_fails_ends_the_run_and_a_correct_one_grades_what_was_answered(
    server, tmp_path, toy_folder
):
    failing = {"n": 6, "grader": "python=asking.graders_of_tests:fails", "strategy": "random"}
    with pytest.raises(InputError, match=r"the grader failed on a reply \(ZeroDivisionError"):
        onboard_toy(server.url, tmp_path, toy_folder, design=failing, concurrency=1)
    assert len(calls(server)) == 1
    again = onboard_toy(server.url, tmp_path, toy_folder, design={"n": 6, "strategy": "random"})
    assert again.n_anchors == len(calls(server)) == 6


def test_more_anchors_than_there_are_asks_them_all(server, tmp_path):
    data = write_toy(tmp_path / "toy", 5)
    result = onboard_toy(server.url, tmp_path, data, design={"n": 50})
    assert (result.n_anchors, result.stopped) == (5, "no further prompt can be asked")


def test_a_running_event_loop_is_no_hindrance(server, tmp_path, toy_folder):
    async def notebook():
        return onboard_toy(server.url, tmp_path, toy_folder)

    assert asyncio.run(notebook()).n_anchors == 12


def test_answers_cut_by_a_low_limit_are_asked_again_under_a_higher_one(
    server, tmp_path, toy_folder
):
    low = onboard_toy(server.url, tmp_path, toy_folder, max_tokens=20)
    state, _ = read_journal(low.journal)
    cut = {ref for ref, a in state.answers.items() if a.finish == "length"}
    assert 0 < len(cut) < 12
    server.forget_calls()
    high = onboard_toy(server.url, tmp_path, toy_folder, max_tokens=500)
    assert {c["prompt"] for c in calls(server)} == cut
    assert high.n_anchors == 12


# -- what is told of a model ---------------------------------------------------------------------


def test_a_card_alone_makes_a_wide_profile(tmp_path):
    result = onboard("card-only", space=fitted_folder(), home=tmp_path, price=PRICE)
    assert result.profile.probation
    assert result.profile.n_answers == 0
    assert result.n_anchors == 0
    assert ProfileStore(tmp_path / "profiles").load("card-only").card.price == PRICE


def test_published_scores_of_a_benchmark_without_items_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown benchmark 'gsm8'"):
        onboard("x", space=fitted_folder(), home=tmp_path, scores={"gsm8": 0.9})


def test_the_key_comes_from_the_environment_and_goes_nowhere(
    tmp_path, toy_folder, monkeypatch, capsys
):
    key = "sk-test-0123456789abcdef"
    monkeypatch.setenv("TOY_KEY", key)
    with serve_in_thread(sandbox=make_sandbox(toy_folder, api_keys=frozenset({key}))) as server:
        result = onboard_toy(server.url, tmp_path, toy_folder, api_key_env="TOY_KEY")
        assert result.n_anchors == 12
        monkeypatch.setenv("TOY_KEY", key + "-wrong")
        with pytest.raises(NoEligibleModelError, match="HTTP 401") as refused:
            onboard_toy(server.url, tmp_path / "other", toy_folder, api_key_env="TOY_KEY")
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert key.encode() not in written
    assert key not in json.dumps(result.to_dict()) + str(refused.value) + capsys.readouterr().out


def test_a_key_that_is_not_set_is_found_before_anything_is_asked(server, tmp_path, toy_folder):
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        onboard_toy(server.url, tmp_path, toy_folder, api_key_env="NO_SUCH_KEY")
    assert calls(server) == []


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "http://user:pw@x/v1", "https://x/v1?key=1", "x/v1", "http:///v1"]
)
def test_a_base_url_that_is_none_or_carries_secrets_is_refused(tmp_path, toy_folder, url):
    with pytest.raises(InputError, match="base URL") as refused:
        onboard(
            "x", base_url=url, space=fitted_folder(), home=tmp_path, design=Design(data=toy_folder)
        )
    assert "pw" not in str(refused.value)


def test_progress_is_told_after_every_answer(server, tmp_path, toy_folder):
    seen = []
    onboard_toy(server.url, tmp_path, toy_folder, on_progress=seen.append, budget_usd=1.0)
    assert [p.n for p in seen] == list(range(1, 13))
    assert all(a.spent_usd <= b.spent_usd for a, b in itertools.pairwise(seen))
    assert seen[-1].left_s == 0
    assert seen[-1].budget_usd == 1.0


def test_the_json_has_the_fields_that_were_promised(server, tmp_path, toy_folder):
    told = onboard_toy(server.url, tmp_path, toy_folder).to_dict()
    promised = {
        *("model", "n_anchors", "spent_usd", "usd_per_1k_prompts", "ability", "ability_sd"),
        *("expected_accuracy", "ttft_s", "tpot_s", "rank_in_pool", "provenance"),
    }
    assert promised <= told.keys()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    for mean, low, high in told["expected_accuracy"].values():
        assert 0 <= low <= mean <= high <= 1
    assert 1 <= told["rank_in_pool"] <= told["pool_size"] == 13
