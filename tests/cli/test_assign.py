from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from cli.running import run
from simulated_records import fitted_folder, prompts, toy_router


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt_id": f"q{i}", "text": row["text"]} for i, row in enumerate(prompts(40)[0])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def least():
    texts = [row["text"] for row in prompts(40)[0]]
    return float(toy_router().offers(texts).cost_usd.min(axis=1).sum())


def assign(source, *args, name="out.jsonl"):
    return run("assign", source, "--out", source.with_name(name), "--space", fitted_folder(), *args)


def test_an_assignment_is_written_and_told(source, least):
    result = assign(source, "--budget", str(3 * least))
    assert result.exit_code == 0
    assert "40 prompts assigned" in result.stdout
    assert "proven optimal" in result.stdout
    assert "loading the space" in result.stderr
    rows = [json.loads(line) for line in source.with_name("out.jsonl").read_text().splitlines()]
    assert [row["prompt_id"] for row in rows] == [f"q{i}" for i in range(40)]


def test_json_is_all_of_standard_output(source, least):
    result = assign(source, "--budget", str(3 * least), "--json")
    told = json.loads(result.stdout)
    assert told["n"] == 40
    assert told["gap"] <= 1e-6
    assert told["spend_usd"] <= told["budget_usd"]
    whole = toy_router().assign([row["text"] for row in prompts(40)[0]], budget_usd=3 * least)
    assert told["by_model"] == dict(whole.totals.by_model)


def test_every_bound_is_passed_on(source, tmp_path, least):
    (tmp_path / "caps.yaml").write_text("'*': {requests: 15, tokens: 1.0e+9}\n")
    result = assign(
        source,
        *("--budget", str(30 * least), "--max-mean-latency", "60", "--max-p95-latency", "300"),
        *("--min-accuracy", "0.2", "--capacity", tmp_path / "caps.yaml"),
        *("--confidence", "0.9", "--exclude", "sim-00", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert max(told["by_model"].values()) <= 15
    assert told["confidence"] == 0.9
    assert told["spend_at_confidence_usd"] <= told["budget_usd"]
    assert "sim-00" not in told["by_model"]


def test_an_accuracy_floor_alone_asks_for_the_least_cost(source):
    told = json.loads(assign(source, "--min-accuracy", "0.7", "--json").stdout)
    assert told["goal"] == "cost"
    assert told["mean_p_correct"] >= 0.7
    assert told["budget_usd"] is None


def test_jobs_need_all_of_their_rows(tmp_path, least):
    path = tmp_path / "jobs.jsonl"
    rows = [
        {"prompt_id": f"q{i}", "text": row["text"], "group_id": i // 8}
        for i, row in enumerate(prompts(40)[0])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = json.loads(assign(path, "--budget", str(9 * least), "--jobs", "--json").stdout)
    assert told["goal"] == "jobs"
    assert 0 < told["objective"] <= 5


def test_what_cannot_be_is_one_line_and_leaves_no_file(source, least):
    result = assign(source, "--budget", str(least / 2))
    assert result.exit_code == 1
    assert "budget_usd of at least" in result.stderr.splitlines()[-1]
    assert not source.with_name("out.jsonl").exists()
    error = json.loads(assign(source, "--budget", "0", "--json").stderr.splitlines()[-1])["error"]
    assert error["type"] == "InfeasibleError"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--budget", "-1"), "budget_usd is -1.0"),
        (("--budget", "nan"), "budget_usd is nan"),
        (("--budget", "inf"), "leave it out for no bound"),
        (("--max-mean-latency", "-1"), "max_mean_latency_s is -1.0"),
        (("--max-p95-latency", "nan"), "max_p95_latency_s is nan"),
        (("--min-accuracy", "nan"), "min_accuracy is nan"),
        (("--min-accuracy", "2"), "min_accuracy is 2.0"),
        (("--confidence", "0.9"), "--confidence is about a budget"),
        (("--budget", "1", "--confidence", "1.5"), "confidence is 1.5"),
        (("--budget", "1", "--capacity", "/nowhere.json"), "/nowhere.json"),
        (("--budget", "1", "--models", "nobody*"), "nobody*"),
        (("--budget", "1", "--policy", "fame"), "unknown policy 'fame'"),
        (("--budget", "1", "--exclude", "*"), "no model of the pool"),
    ],
)
def test_bad_input_is_a_clear_failure(source, args, told):
    result = assign(source, *args)
    assert result.exit_code == 1
    assert told in result.stderr
    assert not source.with_name("out.jsonl").exists()


# -- what cannot be done names what can ----------------------------------------------------------


def refused(source, *args):
    """The sentence of a failure that has left nothing behind."""
    before = set(source.parent.iterdir())
    result = assign(source, *args)
    assert result.exit_code == 1
    assert set(source.parent.iterdir()) == before
    return result.stderr.splitlines()[-1]


def number(text, after):
    """The number that follows some words."""
    return float(text.split(after, 1)[1].split()[0].rstrip(",;"))


@pytest.mark.parametrize("streamed", [(), ("--in-memory", "0")])
def test_a_budget_of_zero_names_the_least_that_works(source, least, streamed):
    told = refused(source, "--budget", "0", *streamed)
    nearest = number(told, "budget_usd of at least ")
    assert nearest == pytest.approx(least, rel=2e-3)
    assert assign(source, "--budget", str(nearest), *streamed).exit_code == 0


@pytest.mark.parametrize("streamed", [(), ("--in-memory", "0")])
def test_capacities_below_the_number_of_prompts_say_how_many_are_missing(
    source, tmp_path, streamed
):
    (tmp_path / "caps.json").write_text('{"*": {"requests": 3}}')
    told = refused(source, "--budget", "1", "--capacity", tmp_path / "caps.json", *streamed)
    assert "the capacities take 36 requests and there are 40 prompts; raise them by 4" in told


def test_token_capacities_that_are_too_small_name_a_factor_that_works(source, tmp_path):
    (tmp_path / "caps.json").write_text('{"*": {"tokens": 100}}')
    told = refused(source, "--budget", "100", "--capacity", tmp_path / "caps.json")
    factor = number(told, "capacities of ")
    (tmp_path / "caps.json").write_text(json.dumps({"*": {"tokens": 100 * factor}}))
    done = assign(source, "--budget", "100", "--capacity", tmp_path / "caps.json")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity"])
def test_capacities_that_are_no_numbers_are_refused(source, tmp_path, amount):
    (tmp_path / "caps.json").write_text('{"*": {"requests": ' + amount + "}}")
    told = refused(source, "--budget", "1", "--capacity", tmp_path / "caps.json")
    assert "a capacity of requests is" in told


def test_bounds_that_contradict_each_other_name_both_ways_out(source, least):
    bounds = ("--budget", str(1.2 * least), "--min-accuracy", "0.8")
    told = refused(source, *bounds)
    budget = number(told, "budget_usd of at least ")
    floor = number(told, "min_accuracy of at most ")
    assert assign(source, "--budget", str(budget), "--min-accuracy", "0.8").exit_code == 0
    done = assign(source, "--budget", str(1.2 * least), "--min-accuracy", str(floor))
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("bound", ["max-mean-latency", "max-p95-latency"])
def test_too_low_a_latency_names_the_lowest_that_works(source, bound):
    told = refused(source, f"--{bound}", "0.001")
    nearest = number(told, f"{bound.replace('-', '_')}_s of at least ")
    assert assign(source, f"--{bound}", str(nearest)).exit_code == 0


def test_a_missing_price_says_how_to_set_one(source, tmp_path):
    """The same pool where one model has no price; it may be left out, or given one."""
    folder = tmp_path / "unpriced"
    shutil.copytree(fitted_folder(), folder)
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_text())
    entry = next(m for m in told["models"] if m["name"] == "sim-03")
    entry["price"] = None
    manifest.write_text(json.dumps(told))
    args = ("assign", source, "--out", tmp_path / "out.csv", "--space", folder, "--budget", "1")
    result = run(*args)
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert "'sim-03' has no price" in line
    assert "prices:" in line
    assert "--exclude sim-03" in line
    assert not (tmp_path / "out.csv").exists()
    assert run(*args, "--exclude", "sim-03").exit_code == 0
    config = tmp_path / "config.yaml"
    price = "{input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
    config.write_text(f"version: 1\nprices:\n  sim-03: {price}\n")
    assert run(*args, "--config", config).exit_code == 0


@pytest.mark.parametrize("amount", ["-1", ".nan", ".inf", "free"])
def test_a_price_that_is_no_number_is_refused_by_its_place(source, tmp_path, amount):
    config = tmp_path / "config.yaml"
    price = f"{{input_usd_per_mtok: {amount}, output_usd_per_mtok: 2}}"
    config.write_text(f"version: 1\nprices:\n  sim-03: {price}\n")
    told = refused(source, "--budget", "1", "--config", config)
    assert "prices.sim-03.input_usd_per_mtok" in told


# -- whole or not at all -------------------------------------------------------------------------


# Who runs the tests in the background has SIGINT ignored, and so would the job.
LISTENING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from zerorouter.cli.main import main
main()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_stopped_half_way_leaves_what_stood_there(tmp_path, how):
    """Stopped while rows are being written beside the file that is to be replaced."""
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    texts = [row["text"] for row in prompts(300)[0]]
    with source.open("w") as file:
        for i in range(10_500):
            file.write(json.dumps({"prompt_id": f"q{i}", "text": texts[i % 300]}) + "\n")
    out.write_text("what stood there\n")
    args = ["assign", str(source), "--out", str(out), "--space", str(fitted_folder())]
    job = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *args, "--budget", "5", "--in-memory", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ZEROROUTER_HOME": str(tmp_path / "home"), "ZEROROUTER_CONFIG": ""},
    )
    try:
        deadline = time.monotonic() + 120
        while not any(part.stat().st_size for part in tmp_path.glob(".out.jsonl-*")):
            assert job.poll() is None, "it ended before it wrote"
            assert time.monotonic() < deadline, "nothing was written"
            time.sleep(0.002)
        job.send_signal(how)
        assert job.wait(60) != 0
    finally:
        job.kill()
        job.wait()
    assert out.read_text() == "what stood there\n"


def test_wrong_usage_is_told_apart(source):
    assert run("assign", source).exit_code == 2
    assert assign(source, "--budget", "much").exit_code == 2
    assert assign(source, "--goal", "cost", "--policy", "balanced").exit_code == 2


def test_a_place_of_another_kind_is_refused_before_anything_is_read(source):
    result = assign(source, "--budget", "1", name="out.xlsx")
    assert result.exit_code == 1
    assert ".jsonl, .csv or .parquet is wanted" in result.stderr
    assert "loading" not in result.stderr
