"""Logs become data folders, from Python and from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cli.running import run
from data.data_folders import write_folder
from data.logs.log_files import FIXTURES, sample_row, write_samples
from zerorouter.cli.importing import SOURCES as LISTED
from zerorouter.data.importing import import_logs
from zerorouter.data.logs.detecting import SOURCES
from zerorouter.data.logs.reading import read_logs
from zerorouter.data.reading import read_folder
from zerorouter.data.responses import SIDE_COLUMNS
from zerorouter.errors import DataError


@pytest.mark.parametrize("encoding", ["parquet", "jsonl"])
@pytest.mark.parametrize("source", ["lm-eval", "inspect", "helm", "wide"])
def test_what_is_imported_reads_back_as_it_was_logged(tmp_path, source, encoding):
    report = import_logs([FIXTURES], tmp_path / "out", source=source, encoding=encoding)
    logged, records = read_logs([FIXTURES], source=source), read_folder(tmp_path / "out")
    assert records.respondents == logged.respondents
    assert records.prompts.ids == logged.prompts.ids
    assert records.prompts.texts == logged.prompts.texts
    assert records.prompts.choices == logged.prompts.choices
    assert records.prompts.references == logged.prompts.references
    for name in ("prompt", "respondent", "score", *SIDE_COLUMNS):
        np.testing.assert_array_equal(
            getattr(records.responses, name), getattr(logged.responses, name)
        )
    assert report.n_answers == len(records.responses)


def test_imported_logs_are_a_log_again(tmp_path):
    import_logs([FIXTURES / "inspect"], tmp_path / "out")
    again = read_logs([tmp_path / "out"])
    assert again.prompts.ids == read_logs([FIXTURES / "inspect"]).prompts.ids


def test_a_broken_log_leaves_nothing_behind(tmp_path):
    path = write_samples(tmp_path / "m", [sample_row({"question": "Q?"})])
    with path.open("a") as stream:
        stream.write("{\n")
    with pytest.raises(DataError, match="line 2"):
        import_logs([path], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_folder_with_something_in_it_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="a folder that is not empty"):
        import_logs([FIXTURES], tmp_path / "out")


# -- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "path", "n_models"),
    [
        ("lm-eval", "lm-eval", 2),
        ("inspect", "inspect", 2),
        ("helm", "helm", 1),
        ("wide", "wide", 3),
    ],
)
def test_each_source_is_a_command(tmp_path, source, path, n_models):
    result = run("import", source, FIXTURES / path, "--out", tmp_path / "out", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["n_respondents"] == n_models == len(read_folder(tmp_path / "out").respondents)
    assert told["out"] == str(tmp_path / "out")
    assert sum(log["n_answers"] for log in told["logs"]) >= told["n_responses"]
    assert all({"dataset", "rule", "count", "detail", "places"} <= set(n) for n in told["notes"])


def test_the_command_tells_what_it_left_out_and_where(tmp_path):
    text = run("import", "inspect", FIXTURES / "inspect", "--out", tmp_path / "out").stdout
    assert "answers that ended in an error: not administered" in text
    assert "samples/refused_epoch_1.json" in text
    assert f"written to {tmp_path / 'out'}" in text


def test_several_logs_are_imported_together(tmp_path):
    paths = sorted((FIXTURES / "lm-eval").iterdir())
    result = run("import", "lm-eval", *paths, "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["n_respondents"] == 2


def test_names_are_handed_through(tmp_path):
    row = sample_row({"question": "Q?"}, metrics=["em", "f1"], em=0, f1=0.5)
    path = write_samples(tmp_path / "m", [row]).rename(tmp_path / "mine.jsonl")
    options = ["--model", "acme/x", "--metric", "f1", "--filter", "none"]
    result = run("import", "lm-eval", path, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0
    records = read_folder(tmp_path / "out")
    assert (records.respondents, records.responses.score.tolist()) == (("acme/x",), [0.5])


def test_a_log_of_another_format_is_told_by_its_name(tmp_path):
    path = FIXTURES / "inspect" / "sums_tiny-1.eval"
    result = run("import", "helm", path, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "found a log of the format inspect" in result.stderr
    assert "import it as inspect" in result.stderr


@pytest.mark.parametrize(
    "more", [["--model", "x"], ["--metric", "x"], ["--filter", "x"], ["again"]]
)
def test_a_data_folder_takes_no_options_of_logs(tmp_path, more):
    folder = write_folder(tmp_path / "raw")
    result = run("import", "folder", folder, *more, "--out", tmp_path / "out")
    assert result.exit_code == 2


def test_the_command_lists_every_source():
    assert set(LISTED) == set(SOURCES)
    help_text = run("import", "--help").stdout
    assert all(f"    {name} " in help_text for name in SOURCES)
