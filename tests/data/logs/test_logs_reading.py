"""Finding logs, telling formats apart, and reading JSON piece by piece."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_folders import write_folder
from data.logs.log_files import (
    FIXTURES,
    column,
    inspect_sample,
    sample_row,
    scores,
    write_eval,
    write_samples,
)
from zerorouter.data.logs import json_files
from zerorouter.data.logs.detecting import SOURCES, find_logs, format_of
from zerorouter.data.logs.json_files import elements, first_keys, loads, members
from zerorouter.data.logs.reading import READERS, read_logs
from zerorouter.data.logs.records import (
    RULES,
    Gathering,
    LoggedAnswer,
    LoggedAnswers,
    Notes,
    Question,
)
from zerorouter.errors import DataError, UnknownNameError

# -- telling formats apart ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        ("lm-eval/*/samples_*", "lm-eval"),
        ("inspect/*", "inspect"),
        ("helm/*", "helm"),
        ("wide/*.csv", "wide"),
        ("wide/*.jsonl", "wide"),
        ("wide/*.json", "llmrouterbench"),
        ("lm-eval/*/results_*", None),
        ("README.md", None),
        ("lm-eval", None),
    ],
)
def test_formats_are_known_by_looking(pattern, known):
    found = {format_of(path) for path in FIXTURES.glob(pattern)}
    assert found == {known}


def test_a_log_is_known_without_its_name(tmp_path):
    for pattern, name, known in (
        ("inspect/sums_tiny-1.eval", "a.log", "inspect"),
        ("inspect/picks_tiny-1.json", "b.json", "inspect"),
        ("lm-eval/*/samples_zr_hidden_*", "c.jsonl", "lm-eval"),
    ):
        (path,) = FIXTURES.glob(pattern)
        assert format_of(Path(shutil.copy(path, tmp_path / name))) == known


def test_every_format_belongs_to_a_source_and_has_a_reader():
    assert {known for formats in SOURCES.values() for known in formats} == set(READERS)


def test_all_formats_may_be_mixed_in_one_folder():
    logged = read_logs([FIXTURES])
    assert {file.format for file in logged.report.files} == {
        *("lm-eval", "inspect", "helm", "wide", "llmrouterbench"),
    }
    (note,) = [note for note in logged.report.notes if note.rule == "ignored_files"]
    assert note.places == (str(FIXTURES / "README.md"),)
    assert sum(file.n_answers for file in logged.report.files) == logged.n_samples.sum()


def test_the_order_of_paths_changes_no_score():
    paths = [FIXTURES / name for name in ("lm-eval", "inspect", "helm", "wide")]
    forward, backward = read_logs(paths), read_logs(paths[::-1])
    assert forward.respondents == backward.respondents

    def by_id(logged):
        rows = zip(
            logged.responses.respondent,
            logged.responses.prompt,
            logged.responses.score,
            strict=True,
        )
        return {(who, logged.prompts.ids[asked]): float(right) for who, asked, right in rows}

    assert by_id(forward) == by_id(backward)


def test_a_data_folder_is_a_log_too(tmp_path):
    folder = write_folder(tmp_path / "records")
    logged = read_logs([folder])
    assert scores(logged) == {
        ("ada", "Name a river of Portugal."): 1.0,
        ("ada", "Which is a prime?"): 0.0,
        ("bob", "Name a river of Portugal."): 0.25,
        ("bob", "Say “olá”,\nthen wait."): pytest.approx(0.1),
    }
    assert logged.prompts.choices[logged.prompts.texts.index("Which is a prime?")] == ("21", "23")
    assert column(logged, "output_tokens")[0] == 7
    assert math.isnan(column(logged, "latency_s")[0])
    assert [file.format for file in read_logs([tmp_path]).report.files] == ["folder"]


def test_a_source_keeps_to_its_format():
    logged = read_logs([FIXTURES], source="helm")
    assert {file.format for file in logged.report.files} == {"helm"}
    assert logged.report.count("ignored_files") > 5
    with pytest.raises(DataError, match="found a log of the format inspect; wanted one of the for"):
        read_logs([FIXTURES / "inspect" / "sums_tiny-1.eval"], source="lm-eval")
    with pytest.raises(DataError, match="found no log of the format folder"):
        read_logs([FIXTURES / "inspect"], source="folder")
    with pytest.raises(UnknownNameError, match="did you mean 'inspect'"):
        read_logs([FIXTURES], source="inpsect")


def test_hidden_files_and_linked_folders_are_passed_over(tmp_path):
    write_samples(tmp_path / "logs" / "m", [sample_row({"question": "Q?"})])
    write_samples(tmp_path / "logs" / ".cache", [sample_row({"question": "No?"})])
    (tmp_path / "logs" / "loop").symlink_to(tmp_path / "logs")
    assert read_logs([tmp_path / "logs"]).prompts.texts == ("Q?",)


def test_a_damaged_log_in_a_folder_is_an_error_and_a_stray_file_is_not(tmp_path):
    write_samples(tmp_path / "m", [sample_row({"question": "Q?"})])
    (tmp_path / "notes.json").write_text("{ not json")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe")
    assert read_logs([tmp_path]).report.count("ignored_files") == 2
    write_eval(tmp_path / "x.eval", [inspect_sample()])
    (tmp_path / "x.eval").write_bytes((tmp_path / "x.eval").read_bytes()[:-60])
    with pytest.raises(DataError, match="ends early"):
        read_logs([tmp_path])


@pytest.mark.parametrize("name", ["gone", "thesis.tex"])
def test_what_is_no_log_is_refused_with_what_is(tmp_path, name):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"wanted (a log, or a folder|lm-eval's samples)"):
        read_logs([tmp_path / name])


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="found no evaluation log"):
        read_logs([tmp_path])
    (tmp_path / "samples_x_2026-01-01T00-00-00.1.jsonl").touch()
    with pytest.raises(DataError, match="found no evaluation log"):
        read_logs([tmp_path])


def test_one_path_is_not_a_list_of_paths():
    with pytest.raises(DataError, match="found one path"):
        read_logs(str(FIXTURES))


def test_no_paths_give_no_answers():
    with pytest.raises(DataError, match="no log: found no scored answer"):
        read_logs([])


def test_logs_are_found_one_by_one(tmp_path):
    """The second is looked at only when the first has been taken."""
    for name in ("a", "b"):
        write_samples(tmp_path / name, [sample_row({"question": "Q?"})])
    found = find_logs(tmp_path, Notes())
    assert next(found).path.parent.name == "a"
    shutil.rmtree(tmp_path / "b")
    with pytest.raises((DataError, StopIteration)):
        next(found)


def test_the_documented_example_runs(monkeypatch, capsys):
    root = Path(__file__).parents[3]
    monkeypatch.chdir(root)
    page = (root / "docs" / "logs.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/logs.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert f"print(answers)  # {printed[-1]}" in code


TOKENS = (b"null", b"[]", b"{}", b"-1", b"1e999", b'"x"', b"true", b'[[1], {"a": []}]', b"9" * 400)
FILES = sorted(
    [
        *FIXTURES.glob("lm-eval/*/samples_*"),
        *FIXTURES.glob("inspect/*"),
        *FIXTURES.glob("wide/*"),
        *FIXTURES.glob("helm/*/*.json"),
    ]
)


def put_in_place_of_a_value(raw: bytes, token: bytes, which: int) -> bytes:
    """``raw`` with ``token`` instead of some JSON value, as a log of another make may have it."""
    found = list(re.finditer(rb"(?<=: )[^\s]", raw))
    if not found:
        return token
    start = found[which % len(found)].start()
    text = raw[start:].decode("utf-8")
    try:
        _, length = json.JSONDecoder().raw_decode(text)
    except ValueError:  # inside a text
        length = 1
    return raw[:start] + token + text[length:].encode()


def read_or_refused(path: Path) -> LoggedAnswers | DataError:
    try:
        return read_logs([path], model="m")
    except DataError as error:
        return error


@settings(max_examples=120)
@given(
    source=st.sampled_from(FILES),
    kind=st.sampled_from(["value", "byte", "cut"]),
    which=st.integers(0, 2**20),
    token=st.sampled_from(TOKENS),
)
def test_a_damaged_log_is_read_or_refused_with_a_typed_error(
    tmp_path_factory, source, kind, which, token
):
    folder = tmp_path_factory.mktemp("damaged")
    raw = source.read_bytes()
    if kind == "cut":
        raw = raw[: which % len(raw)]
    elif kind == "byte" or source.suffix in (".eval", ".csv"):
        raw = bytes([*raw[: which % len(raw)], which % 256, *raw[which % len(raw) + 1 :]])
    else:
        raw = put_in_place_of_a_value(raw, token, which)
    target = folder / source.name
    if "helm" in source.parts:
        target = Path(shutil.copytree(source.parent, folder / "run"))
        (target / source.name).write_bytes(raw)
    else:
        target.write_bytes(raw)
    result = read_or_refused(target)
    if isinstance(result, DataError):
        assert str(folder) in str(result)
    else:
        assert all(text.strip() for text in result.prompts.texts)
        "".join([*result.prompts.texts, *result.respondents]).encode()


# -- the table of answers ----------------------------------------------------------------------


def test_the_sole_respondent_needs_no_name():
    one = read_logs([FIXTURES / "helm"])
    assert one.respondent() == one.respondent("acme/tiny-1") == "acme/tiny-1"
    two = read_logs([FIXTURES / "lm-eval"])
    assert two.respondent("acme/tiny-2") == "acme/tiny-2"
    with pytest.raises(DataError, match=r"answers of 2 models in the logs \(acme/tiny-1, acme/ti"):
        two.respondent()
    with pytest.raises(UnknownNameError, match="did you mean 'acme/tiny-2'"):
        two.respondent("acme/tiny-22")


score = st.floats(0, 1, width=32)
answers = st.lists(
    st.tuples(
        st.sampled_from("mno"), st.integers(0, 3), score, st.one_of(score, st.just(math.nan))
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50)
@given(answers)
def test_rows_are_means_over_repeats_in_any_order(given_answers):
    def gathered(rows):
        gathering = Gathering()
        for who, asked, right, seconds in rows:
            question = Question(text=f"Question {asked}?", task="t")
            gathering.add(
                LoggedAnswer(question=question, respondent=who, score=right, latency_s=seconds)
            )
        return gathering.finish()

    logged = gathered(given_answers)
    for index, (who, asked) in enumerate(
        zip(logged.responses.respondent, logged.responses.prompt, strict=True)
    ):
        same = [
            row
            for row in given_answers
            if row[0] == logged.respondents[who]
            and f"Question {row[1]}?" == logged.prompts.texts[asked]
        ]
        known = [row[3] for row in same if not math.isnan(row[3])]
        assert logged.n_samples[index] == len(same)
        assert logged.responses.score[index] == pytest.approx(
            math.fsum(row[2] for row in same) / len(same), abs=1e-6
        )
        expected = math.fsum(known) / len(known) if known else math.nan
        assert logged.responses.latency_s[index] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert logged.n_samples.sum() == len(given_answers)
    pairs = list(zip(logged.responses.respondent, logged.responses.prompt, strict=True))
    assert pairs == sorted(set(pairs))
    assert scores(gathered(given_answers[::-1])) == pytest.approx(scores(logged), abs=1e-6)


def test_every_note_has_a_rule_and_tells_where_it_began():
    report = read_logs([FIXTURES]).report
    assert report.notes
    for note in report.notes:
        assert note.rule in RULES
        assert 1 <= len(note.places) <= 3
        assert RULES[note.rule] in str(report)
        assert note.places[0] in str(note)
    with pytest.raises(KeyError):
        report.count("no such rule")


# -- JSON piece by piece -----------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
layout = st.sampled_from([None, 0, 2])


def read_small(path: Path, chunk: int, read):
    """``read`` with a window of few characters."""
    before = json_files._CHUNK_CHARS
    json_files._CHUNK_CHARS = chunk
    try:
        return read(path)
    finally:
        json_files._CHUNK_CHARS = before


@settings(max_examples=50)
@given(
    value=st.dictionaries(texts, json_values, max_size=5), indent=layout, chunk=st.integers(1, 9)
)
def test_members_are_those_of_the_object(tmp_path_factory, value, indent, chunk):
    path = tmp_path_factory.getbasetemp() / "members.json"
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")
    read = read_small(path, chunk, lambda p: [(key, item) for key, item, _ in members(p)])
    assert read == list(value.items())


@settings(max_examples=50)
@given(value=st.lists(json_values, max_size=5), indent=layout, chunk=st.integers(1, 9))
def test_elements_are_those_of_the_array_with_their_lines(tmp_path_factory, value, indent, chunk):
    path = tmp_path_factory.getbasetemp() / "elements.json"
    text = json.dumps(value, indent=indent)
    path.write_text(text, encoding="utf-8")
    read = read_small(path, chunk, lambda p: list(elements(p)))
    assert [element for element, _ in read] == value
    if indent is None:
        assert {line for _, line in read} <= {1}
    else:
        lines = text.split("\n")
        assert all(0 < line <= len(lines) for _, line in read)
        assert [line for _, line in read] == sorted(line for _, line in read)


@settings(max_examples=50)
@given(value=st.lists(json_values, min_size=1, max_size=5), data=st.data())
def test_a_cut_array_is_an_error_that_names_a_line(tmp_path_factory, value, data):
    path = tmp_path_factory.getbasetemp() / "cut.json"
    text = json.dumps(value, indent=1)
    path.write_text(text[: data.draw(st.integers(0, len(text) - 1))], encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.json, line \d+: found"):
        list(elements(path))


def test_nothing_is_read_beyond_what_is_wanted(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"samples": [1, 2, 3' + " " * 600_000 + "broken")
    found = members(path, ("samples",))
    assert [next(found)[1] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(DataError, match="wanted ',' or ']'"):
        next(found)


def test_a_value_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_VALUE_CHARS", 4000)
    monkeypatch.setattr(json_files, "_CHUNK_CHARS", 1000)
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": 1, "samples": ["x" * 20_000]}))
    with pytest.raises(DataError, match="a value of more than 4,000 characters"):
        list(members(path, ("samples",)))


def test_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"samples": [' + "[" * 100_000)
    with pytest.raises(DataError, match=r"x\.json, line 1"):
        list(members(path, ("samples",)))


def test_the_first_keys_are_told_of_large_and_of_damaged_files(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"version": 2, "status": "success", "eval": {"ids": [' + "1, " * 10_000)
    assert first_keys(path, 20, 100) == ("version", "status", "eval")
    assert first_keys(path, 2, 100) == ("version", "status")
    path.write_text("not json at all")
    assert first_keys(path, 20, 100) == ()
    path.write_bytes(b"\xff\xfe")
    assert first_keys(path, 20, 100) == ()


@pytest.mark.parametrize("fast", [True, False])
def test_what_one_parser_refuses_the_other_reads(monkeypatch, fast):
    if fast:
        pytest.importorskip("orjson")
    else:
        monkeypatch.setattr(json_files, "_fast", lambda: None)
    assert loads(b'{"a": [1, 2.5, "\xc3\xbc"]}') == {"a": [1, 2.5, "ü"]}
    assert math.isnan(loads(b'{"a": NaN}')["a"])
    assert loads('"\\ud800"') == "\ud800"
    with pytest.raises(ValueError, match="Expecting"):
        loads(b"{")
