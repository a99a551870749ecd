"""lm-evaluation-harness: logs it wrote itself, and every trap of its format."""

from __future__ import annotations

import json
import math
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.logs.log_files import (
    FIXTURES,
    column,
    fixture,
    rows_of,
    sample_row,
    scores,
    write_results,
    write_samples,
)
from zerorouter.data.logs.lm_eval import _row
from zerorouter.data.logs.reading import read_logs
from zerorouter.errors import DataError

LOGS = FIXTURES / "lm-eval"
SHOTS = ("A bench seats 3.", "Two kettles", "Which of these is wet?")


# -- what the tool itself wrote ----------------------------------------------------------------


def test_scores_agree_with_what_the_tool_reports():
    """Mean scores are the tool's own figures, of the filter and the metric that are taken."""
    wanted = {"zr_sums": "exact_match,flexible-extract", "zr_picks": "acc,none"}
    compared = 0
    for results in LOGS.glob("*/results_*.json"):
        told = json.loads(results.read_text(encoding="utf-8"))
        for task, figures in told["results"].items():
            date = results.stem.removeprefix("results_")
            logged = read_logs([results.parent / f"samples_{task}_{date}.jsonl"])
            assert logged.respondents == (told["model_name"],)
            key = wanted.get(task) or next(name for name in figures if name.startswith("exact_"))
            assert float(logged.responses.score.mean()) == pytest.approx(figures[key])
            compared += 1
    assert compared == 7


def test_a_folder_of_two_models_gives_two_respondents():
    logged = read_logs([LOGS])
    assert logged.respondents == ("acme/tiny-1", "acme/tiny-2")
    assert len(logged.report.files) == 7
    assert {file.format for file in logged.report.files} == {"lm-eval"}
    assert logged.report.n_answers == len(logged.responses) == 24
    assert logged.report.count("ignored_files") == 0  # results files are no stray files


def test_prompts_with_worked_examples_never_become_questions():
    logged = read_logs([LOGS])
    raw = "".join(path.read_text(encoding="utf-8") for path in LOGS.glob("*/samples_*"))
    for shot in SHOTS:
        assert shot in raw
        assert not any(shot in text for text in logged.prompts.texts)
    assert not any("Question:" in text or "Answer" in text for text in logged.prompts.texts)


def test_options_and_right_answers_come_from_the_document():
    for task in ("zr_picks", "zr_letters"):
        logged = read_logs([fixture(f"lm-eval/acme__tiny-1/samples_{task}_*")])
        (place,) = [i for i, text in enumerate(logged.prompts.texts) if "prime" in text]
        assert logged.prompts.texts[place] == "Which number is a prime?"
        assert logged.prompts.choices[place] == ("21", "33", "37", "39")
        # An index 2 in one log, the letter C in the other; never the option "2".
        assert logged.prompts.references[place] == "C"
        assert logged.prompts.tasks[place] == task


def test_an_unusual_field_is_known_by_the_tasks_template():
    logged = read_logs([fixture("lm-eval/*/samples_zr_riddles_*")])
    assert set(logged.prompts.texts) == {
        "What has a neck but no head?",
        "What gets wetter the more it dries?",
    }
    assert logged.report.count("no_question") == 0


def test_where_no_field_holds_the_question_the_last_user_message_does():
    logged = read_logs([fixture("lm-eval/*/samples_zr_hidden_*")])
    assert logged.prompts.texts[0] == (
        "A crate holds 7 jars of plum jam. How many jars are in 6 crates?"
    )
    assert logged.prompts.references == ("42", "100")


def test_generated_answers_have_a_length_and_likelihoods_none():
    generated = read_logs([fixture("lm-eval/acme__tiny-1/samples_zr_sums_*")])
    assert column(generated, "output_chars")[0] == len("Step by step: that makes 42.")
    likelihoods = read_logs([fixture("lm-eval/acme__tiny-1/samples_zr_picks_*")])
    assert all(math.isnan(chars) for chars in column(likelihoods, "output_chars"))
    for name in ("output_tokens", "latency_s", "cost_usd"):
        assert all(math.isnan(value) for value in column(generated, name))


def test_repeats_inside_a_row_are_one_answer_of_mean_length():
    logged = read_logs([fixture("lm-eval/*/samples_zr_riddles_*")])
    assert column(logged, "output_chars") == [len("a bottle"), len("a sponge")]
    assert logged.n_samples.tolist() == [1, 1]


# -- filters -----------------------------------------------------------------------------------


def test_one_filter_is_taken_and_the_rest_noted():
    path = fixture("lm-eval/acme__tiny-1/samples_zr_sums_*")
    logged = read_logs([path])
    assert logged.report.count("other_filter") == 4
    (note,) = [note for note in logged.report.notes if note.rule == "filter"]
    assert note.detail == "flexible-extract of strict-match, flexible-extract"
    other = read_logs([path], filter="strict-match")
    assert float(other.responses.score.mean()) == 0.25
    assert other.report.count("other_filter") == 4


def test_filters_are_found_without_a_results_file_too(tmp_path):
    path = fixture("lm-eval/acme__tiny-1/samples_zr_sums_*")
    folder = tmp_path / "acme__tiny-1"
    folder.mkdir()
    alone = read_logs([shutil.copy(path, folder)])
    assert scores(alone) == scores(read_logs([path]))
    assert alone.report.count("other_filter") == 4


def test_a_filter_that_is_not_there_is_refused():
    path = fixture("lm-eval/acme__tiny-1/samples_zr_sums_*")
    with pytest.raises(DataError, match=r"found the filters strict-match, flexible-extract"):
        read_logs([path], filter="majority")


def test_a_filter_of_unknown_name_is_taken_where_it_is_the_only_one(tmp_path):
    rows = [sample_row({"question": "What?"}, filter='my "own"')]
    assert read_logs([write_samples(tmp_path / "m", rows)]).responses.score.tolist() == [1.0]


def test_a_filters_name_may_be_spelled_with_escapes(tmp_path):
    rows = [
        sample_row({"question": "Q?"}, right, filter=name) for right, name in ((1, "ä"), (0, "b"))
    ]
    path = write_samples(tmp_path / "m", rows)
    path.write_text(path.read_text("utf-8").replace("ä", "\\u00e4"), encoding="utf-8")
    assert read_logs([path], filter="ä").responses.score.tolist() == [1.0]


# -- metrics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1, 1.0])
def test_a_metric_may_be_a_truth_value_or_a_number(tmp_path, value):
    path = write_samples(tmp_path / "m", [sample_row({"question": "What?"}, value)])
    assert read_logs([path]).responses.score.tolist() == [1.0]


def test_acc_is_taken_before_acc_norm_unless_the_other_is_asked_for(tmp_path):
    doc = {"question": "Which?", "choices": ["a", "b"], "answer": 0}
    row = sample_row(doc, metrics=["acc_norm", "acc"], acc=False, acc_norm=True, target="0")
    path = write_samples(tmp_path / "m", [row])
    logged = read_logs([path])
    assert logged.responses.score.tolist() == [0.0]
    assert [n.detail for n in logged.report.notes if n.rule == "metric"] == ["acc of acc_norm, acc"]
    assert read_logs([path], metric="acc_norm").responses.score.tolist() == [1.0]
    with pytest.raises(DataError, match="wanted the metric 'em'"):
        read_logs([path], metric="em")


def test_metrics_that_are_lower_for_better_answers_are_never_taken(tmp_path):
    row = sample_row({"question": "What?"}, metrics=["edits", "em"], edits=0.0, em=1)
    path = write_samples(tmp_path / "m", [row])
    write_results(tmp_path / "m", {"higher_is_better": {"sums": {"edits": False, "em": True}}})
    assert read_logs([path]).responses.score.tolist() == [1.0]
    only = sample_row({"question": "What?"}, metrics=["word_perplexity"], word_perplexity=0.5)
    with pytest.raises(DataError, match="found no scored answer"):
        read_logs([write_samples(tmp_path / "n", [only])])


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (1.5, "out_of_range"),
        (-0.1, "out_of_range"),
        (10**400, "out_of_range"),
        (None, "no_score"),
        (float("nan"), "no_score"),
        ([1, 0], "no_score"),
        ("1.0", "no_score"),
    ],
)
def test_what_is_no_score_is_left_out_and_told_with_its_line(tmp_path, value, rule):
    rows = [sample_row({"question": "One?"}), sample_row({"question": "Two?"}, value)]
    path = write_samples(tmp_path / "m", rows)
    logged = read_logs([path])
    assert logged.prompts.texts == ("One?",)
    (note,) = [note for note in logged.report.notes if note.rule == rule]
    assert note.places == (f"{path}, line 2",)


# -- who answered ------------------------------------------------------------------------------


def test_the_folder_names_the_model_where_no_results_do(tmp_path):
    path = write_samples(tmp_path / "acme__tiny-1", [sample_row({"question": "What?"})])
    logged = read_logs([path])
    assert logged.respondents == ("acme/tiny-1",)
    assert logged.report.count("guessed_model") == 1
    assert read_logs([path], model="mine").respondents == ("mine",)


def test_results_of_another_date_still_name_the_model(tmp_path):
    path = write_samples(tmp_path / "out", [sample_row({"question": "What?"})])
    told = {"model_name": "acme/large", "n-shot": {"sums": 3}}
    write_results(tmp_path / "out", told, date="2025-01-01T00-00-00.0")
    assert read_logs([path], model="mine").respondents == ("acme/large",)


def test_results_that_name_different_models_name_none(tmp_path):
    folder = tmp_path / "acme__x"
    path = write_samples(folder, [sample_row({"question": "What?"})])
    write_results(folder, {"model_name": "a"}, date="2025-01-01T00-00-00.0")
    write_results(folder, {"model_name": "b"}, date="2025-01-02T00-00-00.0")
    assert read_logs([path]).respondents == ("acme/x",)


def test_results_with_a_name_of_ones_own_are_found_by_their_date(tmp_path):
    path = write_samples(tmp_path, [sample_row({"question": "What?"})])
    told = json.dumps({"results": {}, "model_name": "acme/large"})
    (tmp_path / f"mine_{path.stem.removeprefix('samples_sums_')}.json").write_text(told)
    assert read_logs([path]).respondents == ("acme/large",)


def test_a_file_of_another_name_needs_the_model_named(tmp_path):
    path = write_samples(tmp_path, [sample_row({"question": "What?"})]).rename(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="found samples that name no model"):
        read_logs([path])
    logged = read_logs([path], model="acme/tiny-1")
    assert (logged.respondents, logged.prompts.tasks) == (("acme/tiny-1",), ("x",))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"results": 3, "model_name": "  "}'])
def test_a_results_file_that_says_nothing_is_no_hindrance(tmp_path, text):
    path = write_samples(tmp_path / "acme__x", [sample_row({"question": "What?"})])
    write_results(tmp_path / "acme__x", {}).write_text(text)
    assert read_logs([path]).respondents == ("acme/x",)


# -- the question in the prompt ----------------------------------------------------------------

MESSAGES = [{"role": "user", "content": "Shot? 1\n\nHow many?"}]
APART = [
    {"role": "user", "content": "Shot?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "How many?"},
]


def prompted(value: object) -> dict[str, object]:
    return sample_row({"words": ["x"]}, arguments={"gen_args_0": {"arg_0": value, "arg_1": {}}})


@pytest.mark.parametrize("spell", [json.dumps, lambda m: [json.dumps(m)], lambda m: m])
def test_worked_examples_in_messages_of_their_own_are_passed_over(tmp_path, spell):
    path = write_samples(tmp_path / "m", [prompted(spell(APART))])
    assert read_logs([path]).prompts.texts == ("How many?",)


@pytest.mark.parametrize("value", [json.dumps(MESSAGES), [json.dumps(MESSAGES)], "Shot? 1\n\nHow?"])
def test_a_prompt_that_may_hold_worked_examples_is_left_out(tmp_path, value):
    path = write_samples(tmp_path / "m", [prompted(value), sample_row({"question": "Q?"})])
    logged = read_logs([path])
    assert logged.prompts.texts == ("Q?",)
    (note,) = [note for note in logged.report.notes if note.rule == "few_shot_prompt"]
    assert note.places == (f"{path}, line 1",)
    assert note.detail == "number of examples not known"
    write_results(tmp_path / "m", {"n-shot": {"sums": 2}, "model_name": "m"})
    assert read_logs([path]).report.count("few_shot_prompt") == 1
    write_results(tmp_path / "m", {"n-shot": {"sums": 0}, "model_name": "m"})
    assert len(read_logs([path]).prompts) == 2


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({}, "no_question"),
        ({"gen_args_0": {"arg_0": 7}}, "no_question"),
        ({"gen_args_0": {"arg_0": "  "}}, "no_question"),
        ([["Q?", {}]], "few_shot_prompt"),  # how older versions wrote it
        ({"gen_args_0": {"arg_0": '[{"role": "system", "content": "x"}]'}}, "no_question"),
        (
            {"gen_args_0": {"arg_0": [{"role": "user", "content": [{"type": "image_url"}]}]}},
            "media",
        ),
    ],
)
def test_a_row_without_a_question_is_left_out(tmp_path, arguments, rule):
    rows = [sample_row({"question": "Q?"}), sample_row({"x": 1}, arguments=arguments)]
    assert read_logs([write_samples(tmp_path / "m", rows)]).report.count(rule) == 1


# -- damaged and odd files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ('{"doc_id": 1, "doc": {"question": "half', "which is not JSON"),
        ("[1, 2]", "a JSON list"),
        ('{"doc_id": 1} trailing', "which is not JSON"),
        ("[" * 100_000, "which is not JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, told):
    path = write_samples(tmp_path / "m", [sample_row({"question": "Q?"})] * 2)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"\n\n{broken}\n")
    with pytest.raises(DataError) as caught:
        read_logs([path])
    assert f"{path}, line 5" in str(caught.value)
    assert told in str(caught.value)


def test_bytes_that_are_no_utf_8_are_named_with_their_line(tmp_path):
    path = write_samples(tmp_path / "m", [sample_row({"question": "Q?"})])
    path.write_bytes(path.read_bytes() + b'{"doc_id": 1, "doc": {"question": "\xff"}}\n')
    with pytest.raises(DataError, match="line 2"):
        read_logs([path])


def test_a_line_of_many_megabytes_is_read(tmp_path):
    long = "a very long passage " * 500_000
    row = sample_row({"passage": long, "question": "Which?"})
    logged = read_logs([write_samples(tmp_path / "m", [row])])
    assert logged.prompts.texts == (f"{long.strip()}\n\nWhich?",)


def test_a_line_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("zerorouter.data.logs.json_files.MAX_VALUE_CHARS", 5000)
    rows = [sample_row({"question": "Q?"}), sample_row({"question": "x" * 5000})]
    with pytest.raises(DataError, match=r"line 2: found more than 5,000 bytes without a line end"):
        read_logs([write_samples(tmp_path / "m", rows)])


def test_texts_keep_every_character_that_a_file_can_hold(tmp_path):
    text = "Wie  viele?\u2028 \U0001f3e0 \x00 “ü” ﬁ"
    row = sample_row({"question": text}, target="\ud800")
    logged = read_logs([write_samples(tmp_path / "m", [row], compact=True)])
    assert logged.prompts.texts == (text,)
    lone = json.dumps(sample_row({"question": "Q \ud800?"}, target="\ud800"))
    path = tmp_path / "n" / "samples_x_2026-01-01T00-00-00.1.jsonl"
    path.parent.mkdir()
    path.write_text(lone + "\n")
    logged = read_logs([path])
    assert logged.prompts.texts == ("Q \ufffd?",)
    "".join([*logged.prompts.texts, *filter(None, logged.prompts.references)]).encode()


def test_lines_may_end_as_on_windows_and_begin_with_a_mark(tmp_path):
    path = write_samples(tmp_path / "m", [sample_row({"question": "Q?"})] * 2)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_logs([path]).n_samples.tolist() == [2]


def test_the_same_samples_of_two_runs_are_averaged(tmp_path):
    folder = tmp_path / "acme__x"
    write_samples(folder, [sample_row({"question": "Q?"}, 1.0)], date="2026-01-01T00-00-00.1")
    write_samples(folder, [sample_row({"question": " q? "}, 0.0)], date="2026-01-02T00-00-00.1")
    logged = read_logs([folder])
    assert logged.responses.score.tolist() == [0.5]
    assert logged.n_samples.tolist() == [2]
    assert logged.report.count("repeats") == 1


def test_different_right_answers_to_one_question_are_told(tmp_path):
    rows = [sample_row({"question": "Q?"}), sample_row({"question": "Q?"}, target="43")]
    logged = read_logs([write_samples(tmp_path / "m", rows)])
    assert logged.prompts.references == ("42",)
    assert logged.report.count("reference_conflict") == 1


# -- the prompt is cut out unparsed ------------------------------------------------------------

names = st.sampled_from(["question", "arguments", "resps", "filtered_resps", "filter", "metrics"])
marks = st.sampled_from(
    [
        *(', "arguments": {', ', "resps": [', ', "filtered_resps": [', ', "filter": "'),
        *('"', "\\", '\\"', "}", "]", "x", "\n", "é"),
    ]
)
tricky = st.lists(marks, max_size=4).map("".join)
values = st.recursive(
    st.one_of(tricky, st.integers(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(names, tricky), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(doc=st.dictionaries(names, values, max_size=4), prompt=values, reply=tricky)
def test_a_cut_row_is_the_row_without_its_prompt(tmp_path_factory, doc, prompt, reply):
    """Whatever document, prompt and reply hold, nothing else is lost or changed."""
    row = sample_row(doc, resps=[[reply]], arguments={"gen_args_0": {"arg_0": prompt}})
    path = tmp_path_factory.getbasetemp() / "unused.jsonl"
    read, whole = _row(path, 1, json.dumps(row, ensure_ascii=False).encode())
    if whole:
        assert read == row
    else:
        cut = set(row) - set(read)
        assert "arguments" in cut
        assert cut <= {"arguments", "filtered_resps"}
        assert read == {key: value for key, value in row.items() if key in read}


def test_ordinary_rows_are_cut():
    for path in LOGS.glob("*/samples_*"):
        for number, row in enumerate(rows_of(path), start=1):
            read, whole = _row(path, number, json.dumps(row, ensure_ascii=False).encode())
            assert not whole
            assert "arguments" not in read


@settings(max_examples=40)
@given(st.lists(tricky, min_size=1, max_size=5))
def test_compact_and_ordinary_json_read_the_same(tmp_path_factory, texts):
    rows = [sample_row({"question": f"{i} {text}"}) for i, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("m")
    ordinary = read_logs([write_samples(folder / "a", rows)], model="m")
    compact = read_logs([write_samples(folder / "b", rows, compact=True)], model="m")
    assert ordinary.prompts.texts == compact.prompts.texts
    assert ordinary.responses.score.tolist() == compact.responses.score.tolist()
