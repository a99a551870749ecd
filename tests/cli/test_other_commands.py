"""``demo``, ``import`` and ``config``."""

from __future__ import annotations

import json

import pytest
import yaml

from cli.running import run
from data.data_folders import PROMPTS, RESPONSES, write_folder
from simulated_records import fitted_folder
from zerorouter.cli.demo import PRESETS
from zerorouter.cli.demo import PROMPTS as SHOWN

# -- demo --------------------------------------------------------------------------------------


def test_the_demo_decides_six_prompts_under_each_preset():
    told = json.loads(run("demo", "--json").stdout)
    pairs = [(d["prompt"], d["policy"]) for d in told["decisions"]]
    assert pairs == [(label, preset) for label, _, _ in SHOWN for preset in PRESETS]
    assert told["strongest"] in {c["model"] for c in told["decisions"][0]["candidates"]}


def test_the_demos_savings_are_those_of_its_decisions():
    told = json.loads(run("demo", "--json").stdout)
    text = run("demo").stdout
    by_preset = dict.fromkeys(PRESETS, 0.0)
    always = 0.0
    for decision in told["decisions"]:
        by_preset[decision["policy"]] += decision["cost_usd"]
        if decision["policy"] == "quality":
            costs = {c["model"]: c["cost_usd"] for c in decision["candidates"]}
            always += costs[told["strongest"]]
    for preset, spent in by_preset.items():
        line = next(
            x for x in text.splitlines() if x.startswith(f"  {preset} ") and "expected" in x
        )
        share = round(100 * (1 - spent / always))
        assert (f"saves {share}%" if share >= 0 else f"costs {-share}% more") in line


def test_the_presets_order_expected_cost_and_correctness():
    told = json.loads(run("demo", "--json").stdout)
    by = {(d["prompt"], d["policy"]): d for d in told["decisions"]}
    for label, _, _ in SHOWN:
        quality, balanced, cost = (by[label, p] for p in ("quality", "balanced", "cost"))
        assert quality["p_correct"] >= balanced["p_correct"] - 1e-6
        assert quality["p_correct"] >= cost["p_correct"] - 1e-6
        assert cost["cost_usd"] <= quality["cost_usd"]
        assert by[label, "latency"]["latency_s"] <= quality["latency_s"]
    assert by["tool use", "cost"]["requirements"] == ["tools"]
    assert by["long document", "cost"]["cost_usd"] > by["trivial arithmetic", "cost"]["cost_usd"]
    assert by["hard proof", "cost"]["difficulty"] > by["trivial arithmetic", "cost"]["difficulty"]


def test_the_demo_fits_a_terminal_of_80_columns():
    lines = run("demo", COLUMNS="80").stdout.splitlines()
    table = lines[: lines.index("")]
    assert max(map(len, table)) <= 80
    assert len(table) == 1 + 6 + 24


# -- import ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["jsonl", "csv", "parquet"])
def test_records_are_written_clean(tmp_path, encoding):
    folder = write_folder(tmp_path / "raw", encoding=encoding)
    result = run("import", "folder", folder, "--out", tmp_path / "clean", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["out"] == str(tmp_path / "clean")
    assert (told["n_prompts"], told["n_respondents"], told["n_responses"]) == (
        *(len(PROMPTS), 2, len(RESPONSES)),
    )
    assert (
        f"written to {tmp_path / 'again'}"
        in run("import", "folder", tmp_path / "clean", "--out", tmp_path / "again").stdout
    )


def test_a_missing_column_is_named_with_its_file_and_nothing_is_written(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "model"} for row in RESPONSES]
    folder = write_folder(tmp_path / "raw", responses=rows)
    result = run("import", "folder", folder, "--out", tmp_path / "clean")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "responses.jsonl, column 'model'" in result.stderr
    assert "add the column" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("place", ["taken", "/dev/null/clean"])
def test_a_place_that_cannot_be_taken_is_refused(tmp_path, place):
    folder = write_folder(tmp_path / "raw")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    result = run("import", "folder", folder, "--out", tmp_path / place)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["thesis.tex"]


def test_an_unknown_source_is_refused_with_the_nearest(tmp_path):
    result = run("import", "foldr", tmp_path, "--out", tmp_path / "clean")
    assert result.exit_code == 1
    assert "unknown source 'foldr'; did you mean 'folder'?" in result.stderr


# -- config ------------------------------------------------------------------------------------


def test_the_defaults_are_shown_as_a_file_that_reads_back(tmp_path):
    shown = run("config", "show").stdout
    assert "these are the defaults" in shown
    path = tmp_path / "c.yaml"
    path.write_text(shown)
    again = json.loads(run("config", "show", "--config", path, "--json").stdout)
    assert again == yaml.safe_load(shown) == json.loads(run("config", "show", "--json").stdout)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("policy: cost\n", "version: missing"),
        ("version: 1\npolcy: cost\n", "polcy: unknown key; did you mean 'policy'?"),
        ("version: 1\npolicy: cots\n", "policy: unknown policy 'cots'; did you mean 'cost'?"),
        ("version: 1\nmodels: {allow: [o3-mni]}\n", "models.allow: unknown model 'o3-mni'"),
        ("version: 1\nmodels: {deny: ['*']}\n", "no model is left"),
        ("version: 1\nspace: nowhere\n", "no zerorouter-space folder"),
        ("version: 9\n", "the file is for a later ZeroRouter"),
        (
            "version: 1\nprices: {nobody: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}\n",
            "nobody",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration_is_told_with_its_file(tmp_path, text, told):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    for command in (["config", "check"], ["route", "hi"], ["models"]):
        result = run(*command, "--config", path)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert told in result.stderr
        assert str(path.parent) in result.stderr


def test_a_good_configuration_is_ok(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"version: 1\nspace: {fitted_folder()}\nmodels: {{allow: ['sim-*']}}\n")
    assert run("config", "check", "--config", path).stdout == f"{path}: ok\n"
    assert json.loads(run("config", "check", "--config", path, "--json").stdout)["ok"] is True


def test_the_schema_knows_every_key():
    schema = json.loads(run("config", "schema").stdout)
    assert set(schema["properties"]) == {
        *("version", "space", "policy", "policies", "models", "prices", "upstreams", "gateway")
    }


def test_an_unknown_subcommand_is_wrong_usage():
    result = run("config", "shwo")
    assert result.exit_code == 2
    assert "shwo" in result.stderr
