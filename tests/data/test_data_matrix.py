"""The response matrix: its checks, its parts and what it says of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from data.data_folders import MODELS, write_folder
from zerorouter.data.reading import read_folders
from zerorouter.data.report import LoadReport
from zerorouter.data.responses import (
    ModelRow,
    PromptTable,
    ResponseMatrix,
    ResponseTable,
)
from zerorouter.errors import DataError, UnknownNameError

NAN = np.nan


@pytest.fixture
def matrix() -> ResponseMatrix:
    return ResponseMatrix.from_scores(
        [[1.0, 0.0, NAN, 1.0], [1.0, 1.0, NAN, NAN], [1.0, 0.5, 0.0, NAN]],
        respondents=["ada", "bob", "cleo"],
    )


def test_observed_cells_are_those_with_a_score(matrix):
    assert matrix.n_observed == 8
    assert matrix.observed.sum() == 8
    assert not matrix.observed[0, 2]


def test_items_and_respondents_with_one_score_throughout_are_reported_and_kept(matrix):
    assert matrix.constant_items().tolist() == [0, 2, 3]
    assert matrix.constant_respondents().tolist() == [1]
    assert matrix.shape == (3, 4)


def test_an_item_without_scores_is_not_called_constant():
    matrix = ResponseMatrix.from_scores([[1.0, NAN], [0.0, NAN]])
    assert matrix.constant_items().tolist() == []


def test_side_columns_become_matrices_with_nan_where_unknown(tmp_path):
    matrix = read_folders([write_folder(tmp_path, models=MODELS)])
    np.testing.assert_array_equal(
        matrix.matrix("output_tokens"), np.float32([[7, NAN, NAN], [NAN, NAN, NAN]])
    )
    np.testing.assert_array_equal(matrix.matrix("score"), matrix.scores)
    assert matrix.matrix("cost_usd").dtype == np.float32


def test_an_unknown_side_column_is_refused_with_a_suggestion(matrix):
    with pytest.raises(UnknownNameError, match="did you mean 'output_chars'"):
        matrix.matrix("output_char")


def test_respondents_are_selected_by_name_index_or_mask(matrix):
    by_name = matrix.select(respondents=["cleo", "ada"])
    by_index = matrix.select(respondents=np.array([2, 0]))
    by_mask = matrix.select(respondents=np.array([True, False, True]))
    assert by_name.respondents == by_index.respondents == ("cleo", "ada")
    assert by_mask.respondents == ("ada", "cleo")
    np.testing.assert_array_equal(by_name.scores, matrix.scores[[2, 0]])
    assert [row.model for row in by_name.models] == ["cleo", "ada"]


def test_selected_prompts_keep_their_ids_groups_and_responses(matrix):
    part = matrix.select(prompts=np.array([3, 0]))
    assert part.prompts.ids == ("3", "0")
    assert part.groups.tolist() == [3, 0]
    np.testing.assert_array_equal(part.matrix("score"), part.scores)
    np.testing.assert_array_equal(part.scores, matrix.scores[:, [3, 0]])


def test_a_selection_out_of_range_twice_or_unknown_is_refused(matrix):
    with pytest.raises(DataError, match="prompt indices run from 0 to 4; wanted 0 to 3"):
        matrix.select(prompts=np.array([0, 4]))
    with pytest.raises(DataError, match="respondent is selected twice"):
        matrix.select(respondents=["ada", "ada"])
    with pytest.raises(DataError, match=r"prompt mask has shape \(2,\)"):
        matrix.select(prompts=np.array([True, False]))
    with pytest.raises(UnknownNameError, match="did you mean 'cleo'"):
        matrix.select(respondents=["cleoo"])


def test_a_selection_without_any_score_is_refused(matrix):
    with pytest.raises(DataError, match="none of the 2 cells has a score"):
        matrix.select(respondents=["ada", "bob"], prompts=np.array([2]))


@given(
    scores=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.one_of(st.just(NAN), st.floats(0, 1, width=32)),
    ),
    data=st.data(),
)
@settings(max_examples=50, deadline=None)
def test_selecting_equals_indexing_the_scores(scores, data):
    scores[0, 0] = 1.0  # something must be observed
    matrix = ResponseMatrix.from_scores(scores)
    m, n = scores.shape
    rows = np.array([0, *data.draw(st.sets(st.integers(1, m - 1)) if m > 1 else st.just([]))])
    columns = np.array([0, *data.draw(st.sets(st.integers(1, n - 1)) if n > 1 else st.just([]))])
    part = matrix.select(respondents=rows, prompts=columns)
    np.testing.assert_array_equal(part.scores, scores[np.ix_(rows, columns)])
    np.testing.assert_array_equal(part.matrix("score"), part.scores)
    assert part.n_observed == part.observed.sum()


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([[NAN, NAN]], "none of the 2 cells has a score"),
        ([[0.5, 2.0]], "scores run from 0.5 to 2.0"),
        ([[-1.0, 0.0]], "scores run from -1.0"),
        ([0.5, 0.5], r"scores have shape \(2,\)"),
        (np.zeros((0, 3)), "none of the 0 cells"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(scores, message):
    with pytest.raises(DataError, match=message):
        ResponseMatrix.from_scores(scores)


def test_parts_of_differing_shape_are_refused(matrix):
    with pytest.raises(DataError, match=r"wanted \(respondents, prompts\) = \(3, 4\)"):
        dataclasses.replace(matrix, scores=matrix.scores[:, :2])
    with pytest.raises(DataError, match="found 2 group ids and 3 model rows"):
        dataclasses.replace(matrix, groups=matrix.groups[:2])
    with pytest.raises(DataError, match="a respondent stands twice"):
        dataclasses.replace(matrix, respondents=("ada", "ada", "bob"))
    with pytest.raises(DataError, match="columns of one length"):
        dataclasses.replace(matrix.prompts, texts=("one",))
    with pytest.raises(DataError, match="columns of one length"):
        dataclasses.replace(matrix.responses, score=np.zeros(2, dtype=np.float32))


def test_a_prompt_id_stands_once_within_a_data_set_but_may_recur_across():
    table = PromptTable.of_texts(["a", "b"], ids=["x", "y"], dataset="one")
    joined = PromptTable.join([table, dataclasses.replace(table, dataset_names=("two",))])
    assert joined.keys == (("one", "x"), ("one", "y"), ("two", "x"), ("two", "y"))
    with pytest.raises(DataError, match="prompt 'x' stands twice in data set 'one'"):
        PromptTable.join([table, table])


def test_arrays_of_checked_tables_cannot_be_written(matrix):
    for values in (matrix.scores, matrix.groups, matrix.observed, matrix.responses.score):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_making_a_matrix_leaves_the_callers_array_writeable():
    scores = np.zeros((2, 2), dtype=np.float32)
    ResponseMatrix.from_scores(scores)
    scores[0, 0] = 1.0


def test_the_long_table_of_scores_holds_the_known_cells():
    table = ResponseTable.of_scores(np.array([[NAN, 0.5], [1.0, NAN]]))
    assert table.respondent.tolist() == [0, 1]
    assert table.prompt.tolist() == [1, 0]
    assert np.isnan(table.column("latency_s")).all()


def linked(respondents_by_set: dict[str, list[str]], groups: list[int]) -> ResponseMatrix:
    """One prompt a data set, answered by the respondents given."""
    names = sorted({name for given in respondents_by_set.values() for name in given})
    scores = [
        [1.0 if name in given else NAN for given in respondents_by_set.values()] for name in names
    ]
    prompts = PromptTable.join(
        [PromptTable.of_texts(["text"], dataset=dataset) for dataset in respondents_by_set]
    )
    return ResponseMatrix.from_scores(
        scores, respondents=names, prompts=prompts, groups=np.array(groups)
    )


def test_linkage_counts_shared_respondents_and_items_and_finds_components():
    matrix = linked({"a": ["x", "y"], "b": ["y", "z"], "c": ["w"], "d": ["v"]}, [0, 1, 2, 2])
    linkage = matrix.linkage()
    assert linkage.datasets == ("a", "b", "c", "d")
    assert linkage.shared_respondents[0].tolist() == [2, 1, 0, 0]
    assert linkage.shared_groups[2].tolist() == [0, 0, 1, 1]
    assert linkage.components == (("a", "b"), ("c", "d"))
    assert not linkage.connected
    assert "a + b: 1 models, 0 items" in str(linkage)
    assert "c + d: 0 models, 1 items" in str(linkage)


def test_linkage_is_of_the_data_sets_that_a_selection_left():
    matrix = linked({"a": ["x"], "b": ["x"], "c": ["w"]}, [0, 1, 2])
    linkage = matrix.select(respondents=["x"], prompts=np.array([0, 1])).linkage()
    assert linkage.datasets == ("a", "b")
    assert linkage.connected


def test_a_report_reads_as_sentences_and_refuses_unknown_rules():
    report = LoadReport(n_prompts=1200, n_respondents=2, n_responses=3)
    assert str(report) == "1,200 prompts, 2 models, 3 responses"
    with pytest.raises(KeyError):
        report.count("no_such_rule")


def test_tables_show_themselves_in_a_line(matrix):
    assert repr(matrix) == "ResponseMatrix(3 respondents, 4 prompts, 8 scores)"
    assert repr(matrix.prompts) == "PromptTable(4 prompts of prompts)"


def test_a_model_is_priced_only_with_both_prices():
    assert not ModelRow(model="m", input_usd_per_mtok=1.0).priced
    assert ModelRow(model="m", input_usd_per_mtok=0.0, output_usd_per_mtok=0.0).priced
