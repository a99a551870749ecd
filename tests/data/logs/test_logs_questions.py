"""Where documents keep their questions, and how a log becomes a calibrated item again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.logs.log_files import (
    FIXTURES,
    inspect_sample,
    sample_row,
    write_eval,
    write_inspect_json,
    write_samples,
)
from zerorouter.data.digests import digest_array, question_digest
from zerorouter.data.logs.matching import match_items
from zerorouter.data.logs.questions import options_of, question_of, reference_of
from zerorouter.data.logs.reading import read_logs
from zerorouter.data.logs.records import Gathering, LoggedAnswer, Question
from zerorouter.errors import DataError

ABC = ("ash", "beech", "cedar")
LISTED = list(ABC)


# -- documents ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "text", "options"),
    [
        ({"question": " Q? ", "answer": "#### 42"}, "Q?", ()),
        ({"question": "Q?", "choices": LISTED, "answer": 1}, "Q?", ABC),
        ({"question": "Q?", "options": LISTED, "answer_index": 1, "cot_content": "A:"}, "Q?", ABC),
        ({"question": "Q?", "choices": {"text": LISTED, "label": ["1", "2", "3"]}}, "Q?", ABC),
        ({"question": "Q?", "options": {"A": "ash", "B": "beech", "C": "cedar"}}, "Q?", ABC),
        ({"question": "Q?", "A": "ash", "B": "beech", "C": "cedar", "answer": "A"}, "Q?", ABC),
        ({"question": "Q?", "mc1_targets": {"choices": LISTED, "labels": [1, 0, 0]}}, "Q?", ABC),
        ({"problem": "Q?", "level": "Level 5", "type": "Algebra", "solution": "s"}, "Q?", ()),
        ({"Question": "Q?", "choices": LISTED, "Correct Answer": "ash"}, "Q?", ABC),
        ({"question_stem": "Q?", "choices": {"text": LISTED, "label": LISTED}}, "Q?", ABC),
        ({"query": "Q?", "ctx": "x", "choices": LISTED, "gold": 2}, "Q?", ABC),
        ({"goal": "Q?", "sol1": "ash", "sol2": "beech", "label": 0}, "Q?", ("ash", "beech")),
        ({"sent1": "Q?", "sent2": "", **{f"ending{i}": ABC[i] for i in range(3)}}, "Q?", ABC),
        ({"sentence": "Q _?", "option1": "ash", "option2": "elm"}, "Q _?", ("ash", "elm")),
        ({"input": "Q?", "target": "(A)"}, "Q?", ()),
        ({"passage": "P.", "question": "Q?"}, "P.\n\nQ?", ()),
        ({"title": "T", "context": "C.", "question": "Q?", "answers": {}}, "C.\n\nQ?", ()),
        ({"narrative": "N.", "question": "Q?", "choices": LISTED}, "N.\n\nQ?", ABC),
        ({"support": "", "question": "Q?"}, "Q?", ()),
        ({"body": "B.", "question": "Q?", "answer": "2 (trees)"}, "B.\n\nQ?", ()),
        ({"QUESTION": "Q?", "CONTEXTS": ["C.", "D."]}, "C.\n\nD.\n\nQ?", ()),
        ({"instruction": "Sort.", "input": "b a"}, "Sort.\n\nb a", ()),
        ({"instruction": "Sort.", "input": ""}, "Sort.", ()),
        (
            {"task_id": "H/0", "prompt": "def f():", "test": "assert", "entry_point": "f"},
            "def f():",
            (),
        ),
        ({"question": "Q?", "choices": [1, 2.5]}, "Q?", ("1", "2.5")),
        ({"question": "Q?", "choices": ["only"]}, "Q?", ()),
        ({"question": "Q?", "choices": [{"a": 1}, {"b": 2}]}, "Q?", ()),
        ({"question": "Q?", "options": "a ) 38 , b ) 27"}, "Q?", ()),
        ({"question": "", "query": "Q?"}, "Q?", ()),
        ({"question": {"stem": "Q?"}, "text": "T?"}, "T?", ()),
    ],
)
def test_fields_of_many_benchmarks(document, text, options):
    question = question_of(document, task="t")
    assert question is not None
    assert (question.text, question.choices) == (text, options)
    assert options_of(document) == options


@pytest.mark.parametrize("document", [{}, {"question": "  "}, {"question": 3}, {"riddle": "Q?"}])
def test_a_document_without_a_question_has_none(document):
    assert question_of(document, task="t") is None


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Riddle: {{riddle}}", "Q?"),
        ("riddle", "Q?"),
        ("{{ riddle|trim }}\n{{hint}}", "Q?\nH"),
        ("{{riddle}} {{choices}} {{riddle}}", "Q?"),
        ("{{missing}}", None),
        ("def ask(doc):\n    return doc['riddle']", None),
        (None, None),
    ],
)
def test_a_template_names_the_fields_of_other_documents(template, text):
    document = {"riddle": "Q?", "hint": "H", "choices": LISTED, "n": 3}
    question = question_of(document, task="t", template=template)
    assert (None if question is None else question.text) == text


@pytest.mark.parametrize(
    ("target", "is_index", "reference"),
    [
        *((1, False, "B"), ("1", True, "B"), ("B", False, "B"), ("(b)", False, "B")),
        *(("C.", False, "C"), ("beech", False, "B"), (["A"], False, "A"), ("2", False, "C")),
        *(("9", True, "9"), ("Z", False, "Z"), (None, False, None), (["A", "B"], False, None)),
        *((True, False, None), ("", False, None), (" elm ", False, "elm")),
    ],
)
def test_right_answers_of_every_spelling_become_letters(target, is_index, reference):
    assert reference_of(target, ABC, is_index=is_index) == reference


def test_a_number_among_options_that_are_numbers_is_a_text_unless_it_is_an_index():
    options = ("21", "2", "37", "39")
    assert reference_of("2", options) == "B"
    assert reference_of("2", options, is_index=True) == "C"
    assert reference_of(2, options) == "C"


def test_an_open_question_keeps_its_answer():
    assert reference_of("42", ()) == "42"
    assert reference_of(42, ()) == "42"
    assert reference_of(["x"], ()) == "x"


# -- the way back to a calibrated item ---------------------------------------------------------

word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
text = st.lists(word, min_size=1, max_size=6).map(" ".join).filter(str.strip)
items = st.lists(
    st.tuples(text, st.one_of(st.just([]), st.lists(text, min_size=2, max_size=5))),
    min_size=1,
    max_size=6,
)


def untidy(text: str) -> str:
    """The same question as another tool may hold it."""
    return f"\n {text.replace(' ', '  ')}\t"


def lm_eval_doc(question: str, options: list[str], kind: int) -> dict[str, object]:
    if not options:
        names = ("question", "problem", "input", "prompt", "query")
        return {names[kind % len(names)]: untidy(question)}
    labels = [chr(65 + i) for i in range(len(options))]
    return [
        {"question": untidy(question), "choices": options, "answer": 0},
        {"question": untidy(question), "options": options, "answer": "A"},
        {"question": untidy(question), "choices": {"text": options, "label": labels}},
        {"question": untidy(question), **dict(zip(labels, options, strict=True))},
    ][kind % 4]


def logs_of(folder: Path, drawn: list[tuple[str, list[str]]]) -> list[Path]:
    """The same items in the logs of every tool."""
    rows = [
        sample_row(lm_eval_doc(question, options, i), target="A", doc_id=i)
        for i, (question, options) in enumerate(drawn)
    ]
    samples = [
        inspect_sample(id=f"s{i}", input=untidy(question), choices=options or None, target="A")
        for i, (question, options) in enumerate(drawn)
    ]
    spoken = [
        {**sample, "input": [{"role": "user", "content": sample["input"]}]} for sample in samples
    ]
    records = [
        {"index": i, "origin_query": untidy(question), "score": 1.0}
        for i, (question, options) in enumerate(drawn)
        if not options
    ]
    told = {"performance": 1, "counts": 1, "model_name": "m", "dataset_name": "d"}
    path = folder / "router.json"
    path.write_text(json.dumps({**told, "records": records}), encoding="utf-8")
    return [
        write_samples(folder, rows),
        write_eval(folder / "a.eval", samples),
        write_inspect_json(folder / "b.json", spoken),
        *([path] if records else []),
    ]


@settings(max_examples=30)
@given(items)
def test_items_are_known_again_in_the_logs_of_every_tool(tmp_path_factory, drawn):
    """Rendered as lm-eval's documents, Inspect's samples or LLMRouterBench's records."""
    calibrated = digest_array(question_digest(question, options) for question, options in drawn)
    for path in logs_of(tmp_path_factory.mktemp("logs"), drawn):
        logged = read_logs([path], model="m")
        matched = match_items(logged, calibrated)
        assert matched.n_unmatched == 0, path
        assert matched.n_matched == len(logged.prompts)
        known = {tuple(row) for row in calibrated[matched.positions].tolist()}
        assert known == {tuple(row) for row in logged.digests.tolist()}


@settings(max_examples=50)
@given(items, items)
def test_every_answer_is_matched_or_not_and_both_are_counted(drawn, others):
    calibrated = digest_array(question_digest(q, options) for q, options in drawn)
    known = {question_digest(q, options) for q, options in drawn}
    gathering = Gathering()
    for question, options in (*drawn, *others):
        asked = Question(text=question, choices=tuple(options))
        gathering.add(LoggedAnswer(question=asked, respondent="m", score=1.0))
    matched = match_items(gathering.finish(), calibrated)
    wanted = {question_digest(q, options) for q, options in (*drawn, *others)}
    assert matched.n_matched == len(known & wanted)
    assert matched.n_unmatched == len(wanted - known)
    assert matched.matched_samples.sum() + matched.unmatched_samples.sum() == len(drawn + others)
    assert len(set(matched.positions.tolist())) == matched.n_matched


def answered(*rows: tuple[str, str, str, float], tokens: float = 10.0):
    """Logged answers of (task, respondent, question, score)."""
    gathering = Gathering()
    for task, who, asked, right in rows:
        gathering.add(
            LoggedAnswer(
                question=Question(text=asked, task=task),
                respondent=who,
                score=right,
                output_tokens=tokens * right,
            )
        )
    return gathering.finish()


CALIBRATED = digest_array(question_digest(text) for text in ("a?", "b?", "a?", "c?"))


def test_only_the_respondent_asked_for_is_matched():
    logged = answered(("t", "m", "a?", 1), ("t", "n", "b?", 0), ("t", "n", "z?", 1))
    matched = match_items(logged, CALIBRATED, respondent="n")
    assert (matched.positions.tolist(), matched.matched.score.tolist()) == ([1], [0.0])
    assert logged.prompts.texts[matched.unmatched.prompt[0]] == "z?"
    assert str(matched) == "n: 1 answers to calibrated items, 1 to others"
    with pytest.raises(DataError, match="2 models"):
        match_items(logged, CALIBRATED)


def test_a_question_of_several_tasks_is_one_answer_weighted_by_its_samples():
    logged = answered(
        *(("s", "m", "b?", 1), ("s", "m", "b?", 1), ("s", "m", "b?", 1), ("t", "m", "b?", 0)),
        ("t", "m", "c?", 0.5),
    )
    assert logged.n_samples.tolist() == [3, 1, 1]
    matched = match_items(logged, CALIBRATED)
    assert matched.positions.tolist() == [1, 3]
    assert matched.matched.score.tolist() == [0.75, 0.5]
    assert matched.matched.output_tokens.tolist() == [7.5, 5.0]
    assert matched.matched_samples.tolist() == [4, 1]
    assert [logged.prompts.texts[i] for i in matched.matched.prompt] == ["b?", "c?"]


def test_of_two_items_with_one_text_the_better_known_is_taken():
    logged = answered(("t", "m", "A?", 1))
    assert match_items(logged, CALIBRATED).positions.tolist() == [0]
    uncertainty = np.array([0.9, 0.1, 0.3, 0.1])
    assert match_items(logged, CALIBRATED, uncertainty=uncertainty).positions.tolist() == [2]


def test_nothing_calibrated_matches_nothing():
    logged = answered(("t", "m", "a?", 1))
    matched = match_items(logged, digest_array([]))
    assert (matched.n_matched, matched.n_unmatched) == (0, 1)


def test_the_shipped_space_knows_none_of_our_invented_questions():
    from zerorouter.space import LatentSpace

    calibrated = LatentSpace.load().calibrated
    logged = read_logs([FIXTURES / "inspect"])
    for name in logged.respondents:
        matched = match_items(
            logged, calibrated.digests, respondent=name, uncertainty=calibrated.items.effect_scale
        )
        assert matched.n_matched == 0


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["mmlu-pro", "zeroeval", "reasoning-gym", "cruxeval"])
def test_real_questions_are_known_again_by_the_shipped_space(records_dir, tmp_path, dataset):
    from zerorouter.data.reading import read_folder
    from zerorouter.space import LatentSpace

    prompts = read_folder(records_dir / dataset).prompts
    chosen = range(0, len(prompts), max(1, len(prompts) // 200))
    drawn = [(prompts.texts[i], list(prompts.choices[i] or ())) for i in chosen]
    calibrated = LatentSpace.load().calibrated
    for path in logs_of(tmp_path, drawn):
        logged = read_logs([path], model="m")
        assert match_items(logged, calibrated.digests).n_unmatched == 0
