"""Reading a folder: what is kept, what is merged, and what is refused with which words."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_folders import ENCODINGS, MODELS, PROMPTS, RESPONSES, Row, write_folder, write_rows
from zerorouter.data.reading import read_folder, read_folders
from zerorouter.data.responses import SIDE_COLUMNS
from zerorouter.errors import DataError, MissingExtraError


def refusal(folder: Path, **options: str) -> str:
    """The message with which ``folder`` is refused."""
    with pytest.raises(DataError) as caught:
        read_folder(folder, **options)
    return str(caught.value)


def with_row(rows: list[Row], place: int, **changes: object) -> list[Row]:
    return [row | changes if i == place else row for i, row in enumerate(rows)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_same_records(tmp_path, encoding):
    records = read_folder(write_folder(tmp_path / "set", encoding=encoding, models=MODELS))
    assert records.dataset == "set"
    assert records.prompts.ids == ("p1", "p2", "p3")
    assert records.prompts.texts == tuple(row["text"] for row in PROMPTS)
    assert records.prompts.tasks == ("geo", None, None)
    assert records.prompts.references == ("Tejo", None, None)
    assert records.prompts.choices == (None, ("21", "23"), None)
    assert records.respondents == ("ada", "bob")
    responses = records.responses
    assert responses.respondent.tolist() == [0, 0, 1, 1]
    assert responses.prompt.tolist() == [0, 1, 0, 2]
    assert responses.score.tolist() == [1.0, 0.0, 0.25, np.float32(0.1)]
    assert responses.cost_usd[0] == 1e-05
    np.testing.assert_array_equal(responses.output_tokens, [7, np.nan, np.nan, np.nan])
    assert records.models["ada"].released == "2024-05"
    assert records.models["ada"].priced
    assert not records.models["bob"].priced
    assert records.report.notes == ()


def test_unknown_columns_are_ignored_and_optional_ones_may_be_absent(tmp_path):
    folder = write_folder(
        tmp_path,
        encoding="csv",
        prompts=[{"prompt_id": "p", "text": "Sing.", "mood": "gay"}],
        responses=[{"prompt_id": "p", "model": "m", "score": 1, "judge": "me"}],
    )
    records = read_folder(folder)
    assert records.prompts.tasks == (None,)
    assert all(np.isnan(records.responses.column(name)).all() for name in SIDE_COLUMNS)


def test_choices_may_be_a_json_list_in_jsonl(tmp_path):
    prompts = with_row(PROMPTS, 1, choices=["zwölf", "dreizehn"])
    records = read_folder(write_folder(tmp_path, prompts=prompts))
    assert records.prompts.choices[1] == ("zwölf", "dreizehn")


def test_choices_that_are_no_list_of_texts_stay_raw(tmp_path):
    tools = '[{"name": "lights_on"}]'
    records = read_folder(write_folder(tmp_path, prompts=with_row(PROMPTS, 1, choices=tools)))
    assert records.prompts.choices[1] is None
    assert records.prompts.choices_json[1] == tools


def test_a_byte_order_mark_and_blank_lines_are_no_fault(tmp_path):
    folder = write_folder(tmp_path, encoding="jsonl")
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "prompts.jsonl").write_text("\n\n".join(lines) + "\n\n", encoding="utf-8-sig")
    assert len(read_folder(folder).prompts) == 3


def test_line_separators_inside_texts_do_not_split_lines(tmp_path):
    folder = write_folder(tmp_path)
    row = {"prompt_id": "p1", "text": "one\u2028two\u0085three"}
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as stream:
        for each in [row, *PROMPTS[1:]]:
            stream.write(json.dumps(each, ensure_ascii=False) + "\n")
    assert read_folder(folder).prompts.texts[0] == row["text"]


def test_a_csv_cell_may_be_longer_than_the_modules_default(tmp_path):
    limit = csv.field_size_limit()
    prompts = with_row(PROMPTS, 0, text="word " * 40_000)
    records = read_folder(write_folder(tmp_path, encoding="csv", prompts=prompts))
    assert len(records.prompts.texts[0]) == 200_000
    assert csv.field_size_limit() == limit


def test_a_null_score_is_not_administered_and_reported(tmp_path):
    responses = [*with_row(RESPONSES, 1, score=None)]
    records = read_folder(write_folder(tmp_path, responses=responses))
    assert len(records.responses) == 3
    assert records.report.count("null_score") == 1
    assert "not administered" in str(records.report)


def test_nan_in_parquet_counts_as_null(tmp_path):
    responses = with_row(RESPONSES, 1, score=float("nan"))
    records = read_folder(write_folder(tmp_path, encoding="parquet", responses=responses))
    assert records.report.count("null_score") == 1


def test_a_model_without_any_score_is_left_out_and_reported(tmp_path):
    silent = {"prompt_id": "p1", "model": "cleo", "score": None}
    records = read_folder(write_folder(tmp_path, responses=[silent, *RESPONSES]))
    assert records.respondents == ("ada", "bob")
    assert records.report.count("silent_respondents") == 1


def test_repeats_with_one_score_collapse_and_are_reported(tmp_path):
    again = RESPONSES[0] | {"output_tokens": 9, "latency_s": 2.0}
    records = read_folder(write_folder(tmp_path, responses=[*RESPONSES, again]))
    assert len(records.responses) == 4
    assert records.report.count("same_score_repeats") == 1
    assert records.responses.score[0] == 1.0
    assert records.responses.output_tokens[0] == 8.0  # the mean of 7 and 9
    assert records.responses.latency_s[0] == 2.0  # the one that is known


def test_repeats_with_differing_scores_are_averaged_over_all_their_rows(tmp_path):
    again = [RESPONSES[0] | {"score": score} for score in (1.0, 0.0, 0.0)]
    records = read_folder(write_folder(tmp_path, responses=[*RESPONSES, *again]))
    assert records.responses.score[0] == 0.5
    assert records.report.count("averaged_repeats") == 1
    assert records.report.count("same_score_repeats") == 0


def test_repeats_can_be_refused(tmp_path):
    folder = write_folder(tmp_path, responses=[*RESPONSES, RESPONSES[1]])
    message = refusal(folder, duplicates="error")
    assert "responses.jsonl, line 5, column 'prompt_id'" in message
    assert "line 2" in message


def test_models_missing_from_the_table_or_without_scores_are_reported(tmp_path):
    models = [MODELS[0], {"model": "cleo"}]
    records = read_folder(write_folder(tmp_path, models=models))
    assert records.report.count("unlisted_models") == 1
    assert records.report.count("unused_models") == 1


def test_foreign_dictionary_columns_with_repeats_and_unused_values_are_read(tmp_path):
    folder = write_folder(tmp_path, encoding="parquet")
    table = pq.read_table(folder / "responses.parquet")
    models = pa.DictionaryArray.from_arrays(
        pa.array([0, 2, 1, 1], type=pa.int8()), pa.array(["ada", "bob", "ada", "nobody"])
    )
    table = table.set_column(1, "model", models)
    pq.write_table(table, folder / "responses.parquet")
    assert read_folder(folder).respondents == ("ada", "bob")


def test_parquet_in_many_row_groups_reads_as_in_one(tmp_path):
    one = write_folder(tmp_path / "one", encoding="parquet")
    many = write_folder(tmp_path / "many", encoding="parquet")
    table = pq.read_table(one / "responses.parquet")
    pq.write_table(table, many / "responses.parquet", row_group_size=1)
    left, right = read_folder(one), read_folder(many)
    assert left.respondents == right.respondents
    np.testing.assert_array_equal(left.responses.score, right.responses.score)


# --- Faults -----------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    assert f"{tmp_path / 'no'}: found nothing there" in refusal(tmp_path / "no")


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    file = write_rows(tmp_path / "prompts.csv", PROMPTS)
    assert f"{file}: found a file; wanted a folder" in refusal(file)


@pytest.mark.parametrize("stem", ["prompts", "responses"])
def test_a_missing_file_is_named_with_what_stands_there_instead(tmp_path, stem):
    folder = write_folder(tmp_path)
    (folder / f"{stem}.jsonl").unlink()
    message = refusal(folder)
    assert f"no {stem} file among" in message
    assert f"{stem}.parquet or {stem}.jsonl or {stem}.csv" in message


def test_two_files_for_one_table_are_ambiguous(tmp_path):
    folder = write_folder(tmp_path)
    write_rows(folder / "prompts.parquet", PROMPTS)
    assert "both prompts.parquet and prompts.jsonl" in refusal(folder)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("stem", "column"),
    [
        ("prompts", "prompt_id"),
        ("prompts", "text"),
        ("responses", "prompt_id"),
        ("responses", "model"),
        ("responses", "score"),
    ],
)
def test_a_missing_column_is_named_with_those_found(tmp_path, encoding, stem, column):
    rows = {"prompts": PROMPTS, "responses": RESPONSES}
    rows[stem] = [{k: v for k, v in row.items() if k != column} for row in rows[stem]]
    message = refusal(write_folder(tmp_path, encoding=encoding, **rows))
    assert f"{stem}.{encoding}, column '{column}'" in message
    assert "found the columns" in message


def test_a_column_with_a_like_name_is_suggested(tmp_path):
    responses = [{"prompt_id": "p1", "model": "ada", "scores": 1.0}]
    message = refusal(write_folder(tmp_path, encoding="csv", responses=responses))
    assert "rename the column 'scores'" in message


@pytest.mark.parametrize(("encoding", "where"), [("jsonl", "line 3"), ("csv", "row 3")])
def test_a_text_in_a_number_column_is_named(tmp_path, encoding, where):
    responses = with_row(RESPONSES, 2, score="right")
    message = refusal(write_folder(tmp_path, encoding=encoding, responses=responses))
    assert f"responses.{encoding}, {where}, column 'score': found 'right'" in message
    assert "wanted a number" in message


@pytest.mark.parametrize("score", [True, "0.5", [1]])
def test_json_scores_are_numbers_and_nothing_else(tmp_path, score):
    message = refusal(write_folder(tmp_path, responses=with_row(RESPONSES, 2, score=score)))
    assert "line 3, column 'score'" in message
    assert type(score).__name__ in message


def test_an_integer_beyond_all_floats_is_refused(tmp_path):
    responses = with_row(RESPONSES, 2, output_tokens=10**400)
    message = refusal(write_folder(tmp_path, responses=responses))
    assert "line 3, column 'output_tokens'" in message


@pytest.mark.parametrize(
    ("stem", "column", "value"), [("prompts", "text", 3), ("responses", "score", "1.0")]
)
def test_a_parquet_column_of_the_wrong_type_is_named(tmp_path, stem, column, value):
    rows = {"prompts": PROMPTS, "responses": RESPONSES}
    rows[stem] = [row | {column: value} for row in rows[stem]]
    message = refusal(write_folder(tmp_path, encoding="parquet", **rows))
    assert f"{stem}.parquet, column '{column}': found values of the Parquet type" in message
    assert "from row 1 on" in message


def test_a_number_for_an_id_is_refused_in_jsonl(tmp_path):
    prompts = with_row(PROMPTS, 1, prompt_id=2)
    message = refusal(write_folder(tmp_path, prompts=prompts))
    assert "prompts.jsonl, line 2, column 'prompt_id': found 2 (int); wanted a text" in message


@pytest.mark.parametrize("score", [1.5, -0.01, float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("encoding", "where"), [("parquet", "row"), ("jsonl", "line"), ("csv", "row")]
)
def test_a_score_outside_the_unit_interval_is_named(tmp_path, encoding, where, score):
    responses = with_row(RESPONSES, 3, score=score)
    message = refusal(write_folder(tmp_path, encoding=encoding, responses=responses))
    assert f"responses.{encoding}, {where} 4, column 'score': found {score}" in message
    assert "wanted a number from 0 to 1" in message


def test_further_rows_with_the_same_fault_are_counted(tmp_path):
    responses = [row | {"score": 80.0} for row in RESPONSES]
    message = refusal(write_folder(tmp_path, responses=responses))
    assert "line 1, column 'score': found 80.0 (and 3 more rows like it)" in message


@pytest.mark.parametrize("column", SIDE_COLUMNS)
@pytest.mark.parametrize("value", [-1.0, float("inf")])
def test_negative_or_endless_amounts_are_named(tmp_path, column, value):
    responses = with_row(RESPONSES, 1, **{column: value})
    message = refusal(write_folder(tmp_path, encoding="csv", responses=responses))
    assert f"responses.csv, row 2, column '{column}': found {value}" in message


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("blank", [None, "", "  "])
@pytest.mark.parametrize(
    ("stem", "column"),
    [("prompts", "prompt_id"), ("prompts", "text"), ("responses", "model")],
)
def test_a_blank_id_or_text_is_named(tmp_path, encoding, blank, stem, column):
    rows = {"prompts": PROMPTS, "responses": RESPONSES}
    rows[stem] = with_row(rows[stem], 1, **{column: blank})
    message = refusal(write_folder(tmp_path, encoding=encoding, **rows))
    where = "line 2" if encoding == "jsonl" else "row 2"
    assert f"{stem}.{encoding}, {where}, column '{column}'" in message
    assert "wanted a text" in message


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_prompt_id_that_stands_twice_is_named_with_its_first_row(tmp_path, encoding):
    prompts = [*PROMPTS, PROMPTS[0] | {"text": "Another."}]
    message = refusal(write_folder(tmp_path, encoding=encoding, prompts=prompts))
    first, again = ("line 1", "line 4") if encoding == "jsonl" else ("row 1", "row 4")
    assert f"prompts.{encoding}, {again}, column 'prompt_id': found 'p1' again" in message
    assert f"after {first}" in message


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_response_to_an_unknown_prompt_is_named(tmp_path, encoding):
    responses = with_row(RESPONSES, 2, prompt_id="p9")
    message = refusal(write_folder(tmp_path, encoding=encoding, responses=responses))
    where = "line 3" if encoding == "jsonl" else "row 3"
    assert f"responses.{encoding}, {where}, column 'prompt_id': found 'p9'" in message


def test_a_line_that_is_not_json_is_named(tmp_path):
    folder = write_folder(tmp_path)
    with (folder / "responses.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"prompt_id": "p1", "model"\n')
    message = refusal(folder)
    assert "responses.jsonl, line 5: found" in message
    assert "not JSON" in message


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "null", "[" * 100_000])
def test_a_json_line_that_is_no_object_is_named(tmp_path, line):
    folder = write_folder(tmp_path)
    with (folder / "prompts.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    message = refusal(folder)
    assert "prompts.jsonl, line 4: found" in message
    assert len(message) < 500


def test_half_a_surrogate_pair_is_named(tmp_path):
    message = refusal(write_folder(tmp_path, prompts=with_row(PROMPTS, 1, text="a\ud83db")))
    assert "prompts.jsonl, line 2, column 'text': found half of a surrogate pair" in message


def test_a_csv_row_with_too_few_cells_is_named(tmp_path):
    folder = write_folder(tmp_path, encoding="csv")
    with (folder / "prompts.csv").open("a", encoding="utf-8") as stream:
        stream.write("p4,Too few\n")
    assert "prompts.csv, row 4: found 2 cells; wanted 5" in refusal(folder)


def test_broken_csv_quoting_is_named(tmp_path):
    folder = write_folder(tmp_path, encoding="csv")
    (folder / "prompts.csv").write_text('prompt_id,text\np1,fine\np2,"never closed\n')
    message = refusal(folder)
    assert "prompts.csv, row 2 (line 3): found broken CSV" in message


def test_a_csv_column_that_stands_twice_is_named(tmp_path):
    folder = write_folder(tmp_path, encoding="csv")
    (folder / "prompts.csv").write_text("prompt_id,text,text\np1,a,b\n")
    assert "prompts.csv, header, column 'text': found 2 columns" in refusal(folder)


def test_an_empty_csv_file_is_refused(tmp_path):
    folder = write_folder(tmp_path, encoding="csv")
    (folder / "responses.csv").write_text("")
    assert "responses.csv: found an empty file" in refusal(folder)


@pytest.mark.parametrize("encoding", ["jsonl", "csv"])
def test_bytes_that_are_not_utf8_are_named(tmp_path, encoding):
    folder = write_folder(tmp_path, encoding=encoding)
    path = folder / f"prompts.{encoding}"
    path.write_bytes(path.read_bytes().replace(b"river", b"r\xefver"))
    message = refusal(folder)
    line = 1 if encoding == "jsonl" else 2
    assert f"prompts.{encoding}, line {line}: found the byte 0xef" in message


@pytest.mark.parametrize("column", ["text", "prompt_id"])
def test_bytes_that_are_not_utf8_are_named_in_parquet(tmp_path, column):
    folder = write_folder(tmp_path, encoding="parquet")
    raw = {"prompt_id": [b"p1", b"p2", b"p3"], "text": [b"a", b"b", b"c"]}
    raw[column][1] = b"\xff\xfe"
    arrays = {
        name: pa.StringArray.from_buffers(
            3,
            pa.array(values, type=pa.binary()).buffers()[1],
            pa.array(values, type=pa.binary()).buffers()[2],
        )
        for name, values in raw.items()
    }
    pq.write_table(pa.table(arrays), folder / "prompts.parquet")
    message = refusal(folder)
    assert f"prompts.parquet, row 2, column '{column}': found bytes that are not UTF-8" in message


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really", b"\x00" * 100])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    folder = write_folder(tmp_path, encoding="parquet")
    (folder / "responses.parquet").write_bytes(content)
    message = refusal(folder)
    assert "responses.parquet: found a file that pyarrow cannot read" in message
    assert "wanted a Parquet file" in message


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_folder_without_a_single_score_is_refused(tmp_path, encoding):
    responses = [row | {"score": None} for row in RESPONSES]
    message = refusal(write_folder(tmp_path, encoding=encoding, responses=responses))
    assert f"responses.{encoding}, column 'score': found 4 rows, none with a score" in message


def test_a_header_without_rows_has_no_responses(tmp_path):
    folder = write_folder(tmp_path, encoding="csv")
    (folder / "responses.csv").write_text("prompt_id,model,score\n")
    assert "found 0 rows, none with a score" in refusal(folder)


@pytest.mark.parametrize("released", ["2024", "May 2024", "2024-13", "2024-02-30", "24-05"])
def test_a_release_date_that_is_none_is_named(tmp_path, released):
    models = with_row(MODELS, 0, released=released)
    message = refusal(write_folder(tmp_path, models=models))
    assert f"models.csv, row 1, column 'released': found {released!r}" in message


def test_a_negative_price_is_named(tmp_path):
    models = with_row(MODELS, 1, output_usd_per_mtok=-2)
    message = refusal(write_folder(tmp_path, models=models))
    assert "models.csv, row 2, column 'output_usd_per_mtok': found -2.0" in message


def test_a_model_that_stands_twice_in_the_table_is_named(tmp_path):
    message = refusal(write_folder(tmp_path, models=[*MODELS, MODELS[0]]))
    assert "models.csv, row 3, column 'model': found 'ada' again" in message


def test_parquet_without_pyarrow_answers_with_the_install_line(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, encoding="parquet")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'zerorouter\[fit\]'"):
        read_folder(folder)


# --- Several folders --------------------------------------------------------------------


def test_models_of_one_name_are_one_respondent_across_data_sets(tmp_path):
    first, second = write_folder(tmp_path / "first"), write_folder(tmp_path / "second")
    matrix = read_folders([first, second])
    assert matrix.respondents == ("ada", "bob")
    assert matrix.shape == (2, 6)
    assert matrix.prompts.dataset_names == ("first", "second")
    assert matrix.prompts.keys[3] == ("second", "p1")
    assert matrix.n_observed == 8
    assert matrix.groups.tolist() == [0, 1, 2, 0, 1, 2]
    assert matrix.report.count("merged_respondents") == 2


def test_aliases_merge_models_within_a_data_set_as_repeated_samples(tmp_path):
    matrix = read_folders([write_folder(tmp_path)], aliases={"bob": "ada", "cleo": "x"})
    assert matrix.respondents == ("ada",)
    np.testing.assert_array_equal(matrix.scores, np.float32([[0.625, 0.0, 0.1]]))
    assert matrix.report.count("averaged_repeats") == 1
    assert matrix.report.count("renamed_respondents") == 1
    assert matrix.report.count("unused_aliases") == 1


def test_aliases_may_depend_on_the_data_set(tmp_path):
    first, second = write_folder(tmp_path / "first"), write_folder(tmp_path / "second")
    matrix = read_folders([first, second], aliases=lambda dataset, name: f"{name}@{dataset}")
    assert matrix.respondents == ("ada@first", "ada@second", "bob@first", "bob@second")
    assert not matrix.linkage().shared_respondents[0, 1]


def test_a_blank_alias_is_refused(tmp_path):
    folder = write_folder(tmp_path)
    with pytest.raises(DataError, match="alias of model 'bob'"):
        read_folders([folder], aliases={"bob": ""})


def test_prompts_nobody_answered_are_left_out_of_the_matrix(tmp_path):
    prompts = [{"prompt_id": "p0", "text": "Nobody answered this."}, *PROMPTS]
    matrix = read_folders([write_folder(tmp_path, prompts=prompts)])
    assert matrix.prompts.ids == ("p1", "p2", "p3")
    assert matrix.report.count("unanswered_prompts") == 1
    np.testing.assert_array_equal(matrix.scores[0], np.float32([1.0, 0.0, np.nan]))


def test_facts_on_a_model_come_from_the_first_data_set_that_knows_them(tmp_path):
    first = write_folder(tmp_path / "a", models=[{"model": "ada", "released": "2024-01"}])
    second = write_folder(tmp_path / "b", models=MODELS)
    matrix = read_folders([first, second])
    assert matrix.models[0].released == "2024-01"
    assert matrix.models[0].family == "lovelace"
    assert matrix.report.count("metadata_conflicts") == 1


def test_folders_of_one_name_are_refused(tmp_path):
    first, second = write_folder(tmp_path / "a" / "x"), write_folder(tmp_path / "b" / "x")
    with pytest.raises(DataError, match="data sets of the same name"):
        read_folders([first, second])


def test_no_folder_and_a_lone_path_are_refused(tmp_path):
    with pytest.raises(DataError, match="found no data set"):
        read_folders([])
    with pytest.raises(DataError, match="wanted a list of folders"):
        read_folders(str(tmp_path))


scored = st.tuples(
    st.sampled_from(["p1", "p2", "p3"]),
    st.sampled_from(["ada", "bob", "cleo"]),
    st.one_of(st.none(), st.floats(0.0, 1.0, width=32)),
)


@given(
    rows=st.lists(scored, min_size=1, max_size=12),
    encoding=st.sampled_from(ENCODINGS),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_the_order_of_response_rows_is_irrelevant(rows, encoding, seed):
    responses = [dict(zip(("prompt_id", "model", "score"), row, strict=True)) for row in rows]
    responses.append({"prompt_id": "p1", "model": "ada", "score": 1.0})
    shuffled = random.Random(seed).sample(responses, len(responses))
    with tempfile.TemporaryDirectory() as base:
        folders = [Path(base) / "a" / "set", Path(base) / "b" / "set"]
        for folder, own in zip(folders, (responses, shuffled), strict=True):
            write_folder(folder, encoding=encoding, responses=own)
        left, right = (read_folders([folder]) for folder in folders)
    assert left.respondents == right.respondents
    assert left.prompts.keys == right.prompts.keys
    np.testing.assert_array_equal(left.scores, right.scores)
    assert left.report == right.report


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_order_of_prompt_rows_only_reorders_the_matrix(seed):
    shuffled = random.Random(seed).sample(PROMPTS, len(PROMPTS))
    with tempfile.TemporaryDirectory() as base:
        left = read_folders([write_folder(Path(base) / "a" / "set")])
        right = read_folders([write_folder(Path(base) / "b" / "set", prompts=shuffled)])
    order = [right.prompts.ids.index(own) for own in left.prompts.ids]
    np.testing.assert_array_equal(left.scores, right.scores[:, order])
