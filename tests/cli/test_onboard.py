"""``zerorouter onboard`` as a person or a program calls it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asking.test_imported import one_model
from asking.toy import UPSTREAM, make_sandbox, write_toy
from simulated_records import fitted_folder
from zerorouter.cli.onboard import command
from zerorouter.sandbox import RunningSandbox, serve_in_thread


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("cli") / "toy")


@pytest.fixture(scope="module")
def server(folder):
    with serve_in_thread(sandbox=make_sandbox(folder)) as running:
        yield running


def run(home: Path, *args: object, **env: str) -> Result:
    told = {
        "ZEROROUTER_HOME": str(home),
        "ZEROROUTER_SPACE": str(fitted_folder()),
        "ZEROROUTER_CONFIG": "",
        **env,
    }
    return CliRunner(catch_exceptions=False).invoke(command, [str(a) for a in args], env=told)


def asked(home: Path, server: RunningSandbox, folder: Path, *more: object) -> Result:
    return run(
        home,
        *("newcomer", "--base-url", f"{server.url}/v1", "--upstream-model", UPSTREAM),
        *("--data", folder, "--price-in", 1, "--price-out", 4, "--anchors", 12, *more),
    )


def test_a_run_tells_price_ability_accuracy_and_spend(server, folder, tmp_path):
    done = asked(tmp_path, server, folder)
    assert done.exit_code == 0
    assert re.search(r"12 prompts for about \$0\.00\d\d \(90%: .* at the very most", done.stderr)
    for told in (
        "placed by 12 answers",
        "general",
        "toy/arithmetic",
        "spent $0.0",
        "rank ",
        "1,000",
    ):
        assert told in done.stdout
    assert (tmp_path / "profiles" / "newcomer.json").is_file()


def test_json_is_one_document_and_nothing_else(server, folder, tmp_path):
    done = asked(tmp_path, server, folder, "--json")
    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert (told["model"], told["n_anchors"], told["dry_run"]) == ("newcomer", 12, False)


def test_a_dry_run_quotes_and_keeps_nothing(server, folder, tmp_path):
    server.forget_calls()
    done = asked(tmp_path / "home", server, folder, "--dry-run")
    assert "a dry run" in done.stdout
    assert "12 prompts for about $" in done.stdout
    assert not (tmp_path / "home").exists()
    assert server.calls(latest=10)["latest"] == []


def test_a_budget_ends_the_run_with_a_report(server, folder, tmp_path):
    done = asked(tmp_path, server, folder, "--budget", 0.003, "--max-tokens", 200, "--json")
    told = json.loads(done.stdout)
    assert told["stopped"].startswith("the budget: ")
    assert 0 < told["spent_usd"] <= 0.003


def test_logs_and_a_card_need_no_endpoint(tmp_path):
    log = one_model(tmp_path / "log")
    done = run(
        tmp_path, "newcomer", "--from-logs", log, "--json", "--price-in", 1, "--price-out", 1
    )
    told = json.loads(done.stdout)
    assert told["provenance"]["answers_to_calibrated_items"] > 50
    assert told["spent_usd"] == 0
    card = run(
        tmp_path, "other", "--family", "sim", "--params-b", 8, "--released", "2025", "--reasoning"
    )
    assert "placed by its card alone" in card.stdout
    assert "on probation" in card.stdout
    profile = json.loads((tmp_path / "profiles" / "other.json").read_text())
    assert profile["card"]["released"] == "2025-07"
    assert profile["card"]["reasoning"] is True


def test_several_logs_may_follow_one_option(tmp_path):
    first, second = one_model(tmp_path / "a", n=20), one_model(tmp_path / "b", n=40)
    done = run(tmp_path, "newcomer", "--from-logs", first, second, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["provenance"]["sources"][0]["n"] >= 35


def test_each_step_adds_to_the_profile(server, folder, tmp_path):
    run(tmp_path, "newcomer", "--from-logs", one_model(tmp_path / "log"))
    done = asked(tmp_path, server, folder, "--json")
    kinds = [source["kind"] for source in json.loads(done.stdout)["provenance"]["sources"]]
    assert sorted(kinds) == ["anchors", "logs"]


def test_a_profile_is_removed(server, folder, tmp_path):
    asked(tmp_path, server, folder)
    done = run(tmp_path, "newcomer", "--remove", "--json")
    assert json.loads(done.stdout) == {"removed": "newcomer"}
    assert not (tmp_path / "profiles" / "newcomer.json").exists()
    again = run(tmp_path, "newcomer", "--remove")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "unknown profile 'newcomer'" in again.stderr


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["x", "--from-scores", "gsm8k"], 2, "wanted BENCHMARK=SCORE"),
        (["x", "--from-scores", "nothing=0.5"], 1, "unknown benchmark"),
        (["x", "--price-in", "1"], 2, "go together"),
        (["x", "stray"], 2, "unexpected argument 'stray'"),
        (["x", "--base-url", "nowhere"], 1, "base URL"),
        (["x", "--base-url", "http://127.0.0.1:9/v1", "--budget", "1"], 1, "needs the prices"),
        (["x", "--from-logs", "/nonexistent"], 1, "/nonexistent"),
        (["x", "--params-b", "-1"], 1, "params_b"),
        (["x", "--released", "soon"], 1, "YYYY-MM"),
    ],
)
def test_wrong_use_is_told_in_a_line(tmp_path, args, code, told):
    done = run(tmp_path, *args)
    assert done.exit_code == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_endpoint_that_is_not_there_is_told_with_what_was_saved(folder, tmp_path):
    done = run(
        tmp_path,
        *("x", "--base-url", "http://127.0.0.1:9/v1", "--data", folder, "--retries", 0, "--json"),
    )
    assert done.exit_code == 1
    told = json.loads(done.stderr)["error"]
    assert "no connection" in told["message"]
    assert str(tmp_path / "runs") in told["message"]


def test_help_names_every_way_in():
    done = CliRunner().invoke(command, ["--help"])
    for option in ("--base-url", "--from-logs", "--from-scores", "--budget", "--dry-run"):
        assert option in done.output
