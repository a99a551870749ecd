from __future__ import annotations

import json

import pytest

from cli.running import run, spawn
from simulated_records import MODELS, fitted_folder

SUM = "Work out 38 + 417 and write the sum (task 5)."
PHOTO = '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]'
KEYS = [  # DESIGN 2.5: never to be renamed or removed
    *("decision_id", "model", "policy", "p_correct", "p_correct_low", "p_correct_high"),
    *("cost_usd", "latency_s", "difficulty", "domain", "requirements", "support", "fallbacks"),
    *("excluded", "candidates", "reasons", "counterfactual", "space_version"),
]
LATER = ["latency_p50_s", "latency_p95_s"]  # added since


def decide(*args, **options):
    result = run("route", *args, "--json", **options)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def toy(*args, **options):
    return decide(*args, "--space", fitted_folder(), **options)


def test_json_has_the_documented_keys():
    told = decide(SUM)
    assert list(told) == KEYS + LATER
    kinds = {key: type(value).__name__ for key, value in told.items()}
    assert {k for k, v in kinds.items() if v == "list"} == {
        *("requirements", "fallbacks", "excluded", "candidates", "reasons")
    }
    assert {k for k, v in kinds.items() if v == "float"} == {
        *("p_correct", "p_correct_low", "p_correct_high", "cost_usd", "latency_s"),
        *("difficulty", "support", *LATER),
    }


def test_json_follows_the_options():
    told = toy(
        *(SUM, "--policy", "quality", "--models", "sim-0*, sim-1*", "--exclude", "sim-00"),
        *("--min-accuracy", "0.5", "--max-cost", "1", "--max-latency", "100"),
    )
    assert told["policy"] == "quality"
    assert {"model": "sim-00", "reason": "on the deny list"} in told["excluded"]
    assert all(c["p_correct"] >= 0.5 for c in told["candidates"])


def test_bounds_without_a_policy_are_met_at_the_least_cost_or_with_the_best_model():
    cheap = toy(SUM, "--min-accuracy", "0.5")
    assert cheap["policy"] == "cheapest"
    assert cheap["cost_usd"] == min(c["cost_usd"] for c in cheap["candidates"])
    best = toy(SUM, "--max-cost", str(2 * cheap["cost_usd"]))
    assert best["policy"] == "best"
    assert best["p_correct"] == max(c["p_correct"] for c in best["candidates"])
    assert best["cost_usd"] <= 2 * cheap["cost_usd"]
    assert toy(SUM, "--max-latency", "1000")["policy"] == "balanced"
    assert toy(SUM, "--min-accuracy", "0.5", "--policy", "cost")["policy"] == "cost"


def test_p95_latency_and_confidence_are_bounds_of_the_command():
    free = toy(SUM, "--policy", "quality")
    told = toy(SUM, "--policy", "quality", "--max-p95-latency", str(free["latency_p95_s"]))
    assert told["latency_p95_s"] <= free["latency_p95_s"]
    sure = toy(SUM, "--min-accuracy", "0.5", "--confidence", "0.95")
    assert sure["p_correct"] >= toy(SUM, "--min-accuracy", "0.5")["p_correct"]
    assert run("route", SUM, "--confidence", "0.2").exit_code == 2


def test_quality_takes_the_strongest_of_the_simulated_models():
    assert toy(SUM, "--policy", "quality")["model"] == MODELS[0]


def test_a_dash_reads_standard_input():
    piped = toy("-", stdin=SUM.encode())
    named = toy(SUM)
    assert {**piped, "decision_id": ""} == {**named, "decision_id": ""}


def test_messages_are_read_as_a_conversation():
    told = decide("--messages", PHOTO)
    assert told["requirements"] == ["vision"]
    assert all(x["reason"] == "cannot: vision" for x in told["excluded"])


def test_the_environment_names_the_space():
    assert (
        toy(SUM)["space_version"]
        == decide(SUM, ZEROROUTER_SPACE=str(fitted_folder()))["space_version"]
    )


def test_what_is_printed_for_people():
    result = run("route", SUM, "--space", fitted_folder(), "--policy", "quality")
    model, *lines = result.stdout.splitlines()
    assert model == "sim-00"
    assert [line.split()[0] for line in lines[:4]] == ["P(correct)", "cost", "latency", "fallbacks"]
    assert "no allowed model is more likely to be right" in result.stdout
    assert "candidate" not in result.stdout


def test_explain_adds_candidates_exclusions_and_what_would_flip_the_choice():
    result = run(
        *("route", SUM, "--space", fitted_folder(), "--explain", "--exclude", "sim-03"),
    )
    assert "would be chosen if" in result.stdout
    assert sum(line.startswith("sim-") for line in result.stdout.splitlines()) >= 12
    assert "sim-03    on the deny list" in result.stdout


@pytest.mark.parametrize("columns", [40, 80, 100, 200])
def test_tables_keep_to_the_width_or_to_what_must_be_shown(columns):
    result = run("route", SUM, "--space", fitted_folder(), "--explain", COLUMNS=str(columns))
    table = [line for line in result.stdout.splitlines() if line.startswith(("candidate", "sim-"))]
    assert max(map(len, table[1:])) <= columns
    assert ("utility" in result.stdout) == (columns > 40)


def test_names_in_brackets_are_printed_as_they_are(tmp_path):
    """Markup of the terminal library must not swallow parts of a name."""
    config = tmp_path / "c.yaml"
    config.write_text(
        "version: 1\npolicies: {odd.name: {value_of_correct_usd: 1}}\npolicy: odd.name\n"
    )
    result = run("route", "[red]:fire:[/red] what?", "--config", config)
    assert result.exit_code == 0
    told = decide(SUM, "--config", config)
    assert told["policy"] == "odd.name"


# -- the configuration -----------------------------------------------------------------------------


def configured(tmp_path, text):
    path = tmp_path / "zerorouter.yaml"
    path.write_text(f"version: 1\nspace: {fitted_folder()}\n{text}")
    return path


def test_the_configuration_sets_policy_lists_and_prices(tmp_path):
    config = configured(
        tmp_path,
        "policy: frugal\n"
        "policies: {frugal: {value_of_correct_usd: 0.000001}}\n"
        "models: {allow: ['sim-0*'], deny: [sim-01]}\n"
        "prices: {sim-02: {input_usd_per_mtok: 0, output_usd_per_mtok: 0}}\n",
    )
    told = decide(SUM, "--config", config)
    assert (told["policy"], told["model"], told["cost_usd"]) == ("frugal", "sim-02", 0.0)
    weighed = {c["model"] for c in told["candidates"]}
    assert weighed == {*MODELS[:10]} - {"sim-01"}


def test_options_narrow_the_pool_of_the_configuration_and_never_widen_it(tmp_path):
    config = configured(tmp_path, "models: {deny: ['sim-00']}\n")
    assert decide(SUM, "--config", config, "--models", "sim-0[1-3]")["model"] != "sim-00"
    result = run("route", SUM, "--config", config, "--models", "sim-00")
    assert result.exit_code == 1
    assert "in the catalog but not in the pool" in result.stderr


def test_the_environment_names_the_configuration(tmp_path):
    config = configured(tmp_path, "policy: cost\n")
    assert decide(SUM, ZEROROUTER_CONFIG=str(config))["policy"] == "cost"


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([""], "the prompt is empty"),
        (["  \n "], "the prompt is empty"),
        ([SUM, "--policy", "qualty"], "unknown policy 'qualty'; did you mean 'quality'?"),
        ([SUM, "--models", "o3-mni"], "unknown model 'o3-mni'; did you mean 'o3-mini'?"),
        ([SUM, "--models", "gpt-4o"], "unknown model 'gpt-4o'; did you mean 'gpt-4o-2024-08-06'?"),
        ([SUM, "--exclude", "*"], "on the deny list"),
        ([SUM, "--max-cost", "1e-15"], "max_cost_usd=1e-15 is out of reach: the nearest is"),
        ([SUM, "--max-latency", "0"], "max_latency_s=0 is out of reach: the nearest is"),
        ([SUM, "--max-cost", "nan"], "max_cost_usd is nan"),
        ([SUM, "--space", "/nonexistent"], "no zerorouter-space folder at /nonexistent"),
        ([SUM, "--config", "/nonexistent"], "/nonexistent: cannot be read"),
        ([SUM, "--messages"], "--messages wants a JSON list of chat messages"),
        (["{}", "--messages"], "wanted a str or a list of messages"),
        (["[]", "--messages"], "the list of messages is empty"),
        (['[{"role": "user", "content": 5}]', "--messages"], "the content of message 0"),
        (["[" * 100_000, "--messages"], "--messages wants a JSON list"),
    ],
)
def test_bad_input_is_one_line_on_standard_error_and_exit_code_1(args, told):
    result = run("route", *args)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert told in result.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["route"], "Missing argument 'PROMPT'"),
        (["route", SUM, "--polcy", "cost"], "Did you mean '--policy'?"),
        (["route", SUM, "--min-accuracy", "2"], "2.0 is not in the range 0<=x<=1"),
        (["route", SUM, "--max-cost", "-1"], "-1.0 is not in the range x>=0"),
        (["route", SUM, "--max-latency", "soon"], "'soon' is not a valid float"),
        (["route", "two", "prompts"], "unexpected extra argument"),
        (["rout", SUM], "unknown command 'rout'; did you mean 'route'?"),
        (["fly"], "unknown command 'fly'; known: "),
    ],
)
def test_wrong_usage_is_exit_code_2(args, told):
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told.casefold() in result.stderr.casefold()


def test_errors_are_json_where_json_was_asked_for():
    result = run("route", "", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error["type"] == "PromptError"
    assert "empty" in error["message"]


def test_invalid_utf_8_is_told_with_its_place():
    result = run("route", "-", stdin=b"caf\xe9 au lait")
    assert result.exit_code == 1
    assert "not valid UTF-8: byte 3 is 0xe9" in result.stderr
    done = spawn("route", b"caf\xe9")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the prompt on the command line is not valid UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr


def test_odd_bytes_in_options_are_no_traceback():
    for option in ("--policy", "--models", "--space", "--config"):
        done = spawn("route", "hi", option, b"\xff")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.startswith(b"error: ")
        assert b"Traceback" not in done.stderr


def test_lone_surrogates_in_messages_are_routed():
    assert decide("--messages", r'[{"role": "user", "content": "\ud800 why?"}]')["model"]


def test_ten_megabytes_are_routed():
    told = decide("-", stdin=b"why is the sky blue? " * 500_000)
    assert "its context window is too small" in {x["reason"] for x in told["excluded"]}


# -- where the output goes -------------------------------------------------------------------------


def test_a_full_disk_is_an_error_and_no_traceback():
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device
        done = spawn("route", "hi", stdout=full.fileno())
    assert done.returncode == 1
    assert done.stderr == b"error: [Errno 28] No space left on device\n"


def test_a_reader_that_goes_away_is_no_error_message():
    import os

    reading, writing = os.pipe()
    os.close(reading)
    done = spawn("route", "hi", "--json", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_encoding_without_the_signs_is_no_failure():
    done = spawn("models", PYTHONIOENCODING="latin-1", COLUMNS="140")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\xb1" in done.stdout  # plus or minus
    assert b"\\u25cf" in done.stdout  # the dot of the error bars
