from __future__ import annotations

import json

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
        (("--min-accuracy", "2"), "min_accuracy is 2.0"),
        (("--confidence", "0.9"), "--confidence is about a budget"),
        (("--budget", "1", "--confidence", "1.5"), "confidence is 1.5"),
        (("--budget", "1", "--capacity", "/nowhere.json"), "/nowhere.json"),
        (("--budget", "1", "--models", "nobody*"), "nobody*"),
        (("--budget", "1", "--policy", "fame"), "unknown policy 'fame'"),
    ],
)
def test_bad_input_is_a_clear_failure(source, args, told):
    result = assign(source, *args)
    assert result.exit_code == 1
    assert told in result.stderr
    assert not source.with_name("out.jsonl").exists()


def test_wrong_usage_is_told_apart(source):
    assert run("assign", source).exit_code == 2
    assert assign(source, "--budget", "much").exit_code == 2
    assert assign(source, "--goal", "cost", "--policy", "balanced").exit_code == 2


def test_a_place_of_another_kind_is_refused_before_anything_is_read(source):
    result = assign(source, "--budget", "1", name="out.xlsx")
    assert result.exit_code == 1
    assert ".jsonl, .csv or .parquet is wanted" in result.stderr
    assert "loading" not in result.stderr
