from __future__ import annotations

import json

import pytest

from cli.running import run
from data.data_folders import write_folder
from simulated_records import MODELS, cards, fitted_folder, prompts, responses, write_records

ROWS, DIFFICULTY, OF_WORDS = prompts()
RESPONSES = responses(DIFFICULTY, OF_WORDS)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records") / "toy")


def test_records_become_a_space_that_routes(tmp_path, records):
    result = run("calibrate", records, "--out", tmp_path / "space", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["space"] == str(tmp_path / "space")
    assert (told["n_respondents"], told["n_items"], told["n_responses"]) == (12, 300, 3600)
    assert told["status"] == "CONVERGED"
    assert 0 < told["held_out_log_loss"] < 0.6
    routed = run(
        *("route", "Work out 91 + 32 + 77 and write the sum (task 5).", "--policy", "quality"),
        *("--space", tmp_path / "space", "--json"),
    )
    assert json.loads(routed.stdout)["model"] == MODELS[0]


def test_the_same_records_and_seed_give_the_same_files(tmp_path, records):
    spaces = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        run("calibrate", records, "--out", tmp_path / name, "--seed", seed)
        spaces.append(
            [(tmp_path / name / f).read_bytes() for f in ("arrays.safetensors", "manifest.json")]
        )
    assert spaces[0] == spaces[1]
    assert spaces[0] != spaces[2]


def test_progress_goes_to_standard_error_and_results_to_standard_output(tmp_path, records):
    result = run("calibrate", records, "--out", tmp_path / "space", "--dims", "1")
    assert "reading prompts ..." in result.stderr
    assert "..." not in result.stdout.replace('route "..."', "")
    assert "n_dims             1\n" in result.stdout
    assert f"--space {tmp_path / 'space'}" in result.stdout.replace("\n  ", " ")


def test_an_older_space_is_replaced(tmp_path, records):
    for dims in ("1", "2"):
        assert run("calibrate", records, "--out", tmp_path / "s", "--dims", dims).exit_code == 0
    assert (
        json.loads((tmp_path / "s" / "manifest.json").read_text())["provenance"]["fit"]["settings"][
            "n_dims"
        ]
        == 2
    )
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_records_without_prices_are_told_to_offer_no_model(tmp_path):
    folder = write_folder(tmp_path / "toy", prompts=ROWS, responses=RESPONSES)
    result = run("calibrate", folder, "--out", tmp_path / "space")
    assert result.exit_code == 0
    assert "note: models.csv of the records has no prices" in result.stderr
    routed = run("route", "hi", "--space", tmp_path / "space")
    assert routed.exit_code == 1
    assert "models.csv has prices" in routed.stderr


# -- bad records -----------------------------------------------------------------------------------


def without(rows, column):
    return [{key: value for key, value in row.items() if key != column} for row in rows]


def of(models):
    return [row for row in RESPONSES if row["model"] in models]


FEW = [row for row in RESPONSES if int(row["prompt_id"][1:]) < 30]
BAD = {
    "one model": (ROWS, of(["sim-00"]), "1 respondent; a space needs at least 2"),
    "all right": (ROWS, [{**r, "score": 1.0} for r in RESPONSES], "every observed score is 1"),
    "all wrong": (ROWS, [{**r, "score": 0.0} for r in RESPONSES], "every observed score is 0"),
    "few prompts": (ROWS[:30], FEW, "30 prompts carry scores"),
    "one prompt over and over": (
        [{**row, "text": "the same"} for row in ROWS],
        RESPONSES,
        "no prompt could be held out",
    ),
    "no scores": (ROWS, without(RESPONSES, "score"), "column 'score'"),
    "no texts": (without(ROWS, "text"), RESPONSES, "column 'text'"),
    "a score beyond 1": (ROWS, [{**RESPONSES[0], "score": 3.0}, *RESPONSES[1:]], "score"),
    "an unknown prompt": (ROWS, [{**RESPONSES[0], "prompt_id": "x"}, *RESPONSES[1:]], "'x'"),
}


@pytest.mark.parametrize("name", BAD)
def test_records_that_cannot_carry_a_fit_leave_nothing_behind(tmp_path, name):
    rows, answers, told = BAD[name]
    folder = write_folder(tmp_path / "toy", prompts=rows, responses=answers, models=cards())
    result = run("calibrate", folder, "--out", tmp_path / "space", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in json.loads(result.stderr)["error"]["message"]
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["/nonexistent", "--out", "{tmp}/s"], 1, "/nonexistent: found nothing there"),
        (["{records}"], 2, "Missing option '--out'"),
        (["--out", "{tmp}/s"], 2, "Missing argument 'FOLDERS...'"),
        (["{records}", "--out", "{tmp}/s", "--dims", "0"], 2, "0 is not in the range x>=1"),
        (["{records}", "--out", "{tmp}/s", "--seed", "-1"], 2, "-1 is not in the range x>=0"),
        (["{records}", "--out", "{tmp}/s", "--preference", "tea"], 1, "no data set named 'tea'"),
        (["{records}", "--out", "/dev/null/s"], 1, "/dev/null is not a folder"),
        (["{records}", "--out", "{records}"], 1, "exists and is not a zerorouter-space folder"),
    ],
)
def test_wrong_arguments_are_told_before_any_work(tmp_path, records, args, code, told):
    filled = [a.format(tmp=tmp_path, records=records) for a in args]
    before = sorted(p.name for p in records.iterdir())
    result = run("calibrate", *filled)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr
    assert "calibrating items" not in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert sorted(p.name for p in records.iterdir()) == before


# -- damaged spaces, seen from the command line ----------------------------------------------------


@pytest.mark.parametrize(
    ("file", "damage", "told"),
    [
        ("arrays.safetensors", lambda b: b[: len(b) // 2], "does not match the checksum"),
        ("arrays.safetensors", lambda b: b[:-9] + b"\x55" + b[-8:], "does not match the checksum"),
        ("manifest.json", lambda b: b[:-20], "is not JSON"),
        ("manifest.json", lambda b: b.replace(b"zerorouter-space", b"recipe"), "format 'recipe'"),
        ("manifest.json", lambda b: b.replace(b'"format_version": 3', b'"format_version": 9'),
         "upgrade with: pip install -U zerorouter"),
        ("manifest.json", lambda b: b.replace(b'"domains"', b'"dominas"'), "domains"),
    ],
)  # fmt: skip
def test_a_damaged_or_newer_space_is_one_line_and_exit_code_1(tmp_path, file, damage, told):
    import shutil

    shutil.copytree(fitted_folder(), tmp_path / "s")
    path = tmp_path / "s" / file
    path.write_bytes(damage(path.read_bytes()))
    for command in (["route", "hi"], ["models"], ["demo"]):
        result = run(*command, "--space", tmp_path / "s")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("error: ")
        assert told in result.stderr
