"""Importing: what is written reads back the same, whole or not at all."""

from __future__ import annotations

import errno
import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_folders import ENCODINGS, MODELS, RESPONSES, write_folder, write_rows
from zerorouter.data import importing
from zerorouter.data.importing import data_digest, import_folder
from zerorouter.data.reading import read_folder
from zerorouter.data.responses import SIDE_COLUMNS, Records
from zerorouter.errors import DataError


def assert_same_records(left: Records, right: Records) -> None:
    for name in ("ids", "texts", "tasks", "choices_json", "references"):
        assert getattr(left.prompts, name) == getattr(right.prompts, name), name
    assert left.respondents == right.respondents
    assert left.models == right.models
    for name in ("prompt", "respondent", "score", *SIDE_COLUMNS):
        np.testing.assert_array_equal(
            getattr(left.responses, name), getattr(right.responses, name), err_msg=name
        )


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("source", ENCODINGS)
@pytest.mark.parametrize("target", ["parquet", "jsonl"])
def test_what_is_imported_reads_back_the_same(tmp_path, source, target):
    folder = write_folder(tmp_path / "in", encoding=source, models=MODELS)
    report = import_folder(folder, tmp_path / "out", encoding=target)
    records = read_folder(tmp_path / "out")
    assert_same_records(records, read_folder(folder))
    assert report.n_responses == len(RESPONSES)
    assert files_of(tmp_path / "out") == ["models.csv", f"prompts.{target}", f"responses.{target}"]


number = st.one_of(st.none(), st.floats(0, 1e6, width=32))
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    texts=st.lists(text, min_size=1, max_size=4),
    cells=st.lists(
        st.tuples(st.integers(0, 3), text, st.floats(0, 1, width=32), number, number), min_size=1
    ),
    encoding=st.sampled_from(["parquet", "jsonl"]),
)
@settings(max_examples=40, deadline=None)
def test_any_records_survive_the_round_trip_exactly(texts, cells, encoding):
    prompts = [{"prompt_id": f"p{i}", "text": own, "task": own} for i, own in enumerate(texts)]
    responses = [
        {
            "prompt_id": f"p{place % len(texts)}",
            "model": model,
            "score": score,
            "cost_usd": cost,
            "output_chars": chars,
        }
        for place, model, score, cost, chars in cells
    ]
    with tempfile.TemporaryDirectory() as base:
        folder = write_folder(Path(base) / "in", prompts=prompts, responses=responses)
        import_folder(folder, Path(base) / "out", encoding=encoding)
        records = read_folder(Path(base) / "out")
        assert_same_records(records, read_folder(folder))
        assert records.report.count("averaged_repeats") == 0


def test_parquet_is_written_where_pyarrow_is_installed_and_jsonl_elsewhere(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "in", encoding="csv")
    import_folder(folder, tmp_path / "with")
    assert "prompts.parquet" in files_of(tmp_path / "with")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    import_folder(folder, tmp_path / "without")
    assert "prompts.jsonl" in files_of(tmp_path / "without")


def test_repeats_are_merged_and_reported_on_import(tmp_path):
    folder = write_folder(tmp_path / "in", responses=[*RESPONSES, RESPONSES[0] | {"score": 0.0}])
    report = import_folder(folder, tmp_path / "out")
    assert report.count("averaged_repeats") == 1
    assert read_folder(tmp_path / "out").responses.score[0] == 0.5


def test_an_empty_folder_may_be_the_target(tmp_path):
    (tmp_path / "out").mkdir()
    import_folder(write_folder(tmp_path / "in"), tmp_path / "out")
    assert len(files_of(tmp_path / "out")) == 2


def test_missing_parents_of_the_target_are_made(tmp_path):
    import_folder(write_folder(tmp_path / "in"), tmp_path / "far" / "down" / "out")
    assert files_of(tmp_path / "far" / "down") == ["out"]


def test_a_folder_with_something_in_it_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="found a folder that is not empty; wanted a new or empty"):
        import_folder(write_folder(tmp_path / "in"), tmp_path / "out")
    assert files_of(tmp_path / "out") == ["note.txt"]


def test_a_file_in_the_targets_place_is_never_overwritten(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="found a file"):
        import_folder(write_folder(tmp_path / "in"), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_wrong_records_leave_nothing_behind(tmp_path):
    folder = write_folder(tmp_path / "in", responses=[RESPONSES[0] | {"score": 7}])
    with pytest.raises(DataError, match="column 'score'"):
        import_folder(folder, tmp_path / "out")
    assert files_of(tmp_path) == ["in"]


def test_a_full_disk_leaves_nothing_behind_and_says_so(tmp_path, monkeypatch):
    def no_space(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(importing, "_sync", no_space)
    with pytest.raises(DataError, match="No space left on device"):
        import_folder(write_folder(tmp_path / "in"), tmp_path / "out")
    assert files_of(tmp_path) == ["in"]


def test_the_digest_is_of_names_and_bytes_of_the_records_alone(tmp_path):
    folder = write_folder(tmp_path / "one", models=MODELS)
    digest = data_digest(folder)
    assert len(digest) == 64
    (folder / "README.md").write_text("a note")
    shutil.copytree(folder, tmp_path / "two")
    assert data_digest(folder) == data_digest(tmp_path / "two") == digest
    write_rows(tmp_path / "two" / "responses.jsonl", RESPONSES[:3])
    assert data_digest(tmp_path / "two") != digest


def test_a_folder_without_records_has_no_digest(tmp_path):
    with pytest.raises(DataError, match="found no records"):
        data_digest(tmp_path)
