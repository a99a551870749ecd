"""Inspect: logs it wrote itself, and every trap of its format."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data.logs.log_files import (
    FIXTURES,
    column,
    inspect_head,
    inspect_sample,
    scores,
    write_eval,
    write_inspect_json,
)
from zerorouter.data.logs import zipped
from zerorouter.data.logs.inspect import _sample
from zerorouter.data.logs.reading import read_logs
from zerorouter.data.logs.zipped import open_archive
from zerorouter.errors import DataError, MissingExtraError

LOGS = FIXTURES / "inspect"
QUESTION = "How many is 6 times 7?"


def read_one(tmp_path: Path, *samples: dict[str, Any], **options: Any):
    """A good sample, so that there is always something to read, and ``samples``."""
    good = inspect_sample(id="good", input="Good?")
    return read_logs([write_eval(tmp_path / "x.eval", [good, *samples])], **options)


# -- what the tool itself wrote ----------------------------------------------------------------


def test_the_archive_the_json_and_the_one_in_parts_say_the_same():
    names = ("sums_tiny-1.eval", "sums_tiny-1_json.json", "sums_tiny-1_chunked.eval")
    read = [read_logs([LOGS / name]) for name in names]
    for other in read[1:]:
        assert scores(other) == scores(read[0])
        assert other.n_samples.tolist() == read[0].n_samples.tolist()
        assert other.prompts.references == read[0].prompts.references
        for name in ("input_tokens", "output_tokens", "latency_s", "output_chars"):
            assert column(other, name) == column(read[0], name)


def test_epochs_are_averaged_with_tokens_and_times():
    logged = read_logs([LOGS / "sums_tiny-1.eval"])
    assert logged.respondents == ("openai-api/acme/tiny-1",)
    assert logged.n_samples.tolist() == [2, 2, 2, 2]
    assert logged.report.count("repeats") == 4
    assert column(logged, "output_tokens") == [28, 48, 28, 28]
    assert column(logged, "output_chars") == [28, 48, 28, 28]
    assert all(0 < seconds < 60 for seconds in column(logged, "latency_s"))
    assert sorted(scores(logged).values()) == [0.0, 1.0, 1.0, 1.0]


def test_epochs_of_different_scores_have_their_mean(tmp_path):
    second = inspect_sample(epoch=2, scores={"match": {"value": "I"}})
    third = inspect_sample(epoch=3, scores={"match": {"value": "P"}})
    logged = read_one(tmp_path, inspect_sample(), second, third)
    assert scores(logged)["acme/tiny-1", QUESTION] == 0.5


def test_the_system_prompt_and_earlier_turns_are_no_part_of_the_question():
    for name in ("sums_tiny-1.eval", "talks_tiny-1.eval", "sums_tiny-1_json.json"):
        for text in read_logs([LOGS / name]).prompts.texts:
            assert "worked examples" not in text
            assert "bench seats" not in text


def test_choices_keep_their_order_and_targets_are_letters():
    logged = read_logs([LOGS / "picks_tiny-1.json"])
    place = logged.prompts.texts.index("Which number is a prime?")
    assert logged.prompts.choices[place] == ("21", "33", "37", "39")
    assert logged.prompts.references[place] == "C"
    assert not any("ANSWER" in text for text in logged.prompts.texts)


def test_failed_samples_and_invalid_ones_are_not_administered():
    logged = read_logs([LOGS / "faults_tiny-1.eval"])
    assert len(logged.responses) == 1
    assert (logged.report.count("errored"), logged.report.count("invalidated")) == (1, 1)
    (note,) = [note for note in logged.report.notes if note.rule == "errored"]
    assert note.places == (f"{LOGS / 'faults_tiny-1.eval'}, samples/refused_epoch_1.json",)


def test_samples_at_a_limit_of_the_run_are_missing_not_wrong():
    with pytest.raises(DataError, match="2 answers cut off by a limit of the run"):
        read_logs([LOGS / "limited_tiny-1.eval"])


def test_runs_that_failed_are_left_out_whole():
    with pytest.raises(DataError, match=r"1 logs of runs that did not succeed.*status error"):
        read_logs([LOGS / "failed_tiny-1.eval"])
    both = read_logs([LOGS / "failed_tiny-1.eval", LOGS / "sums_tiny-2.eval"])
    assert [file.n_answers for file in both.report.files] == [0, 4]


def test_answers_cut_at_their_own_token_limit_are_kept_and_told():
    logged = read_logs([LOGS / "truncated_tiny-1.eval"])
    assert logged.responses.score.tolist() == [0.0, 0.0]
    assert logged.report.count("truncated_answer") == 2


def test_of_several_values_the_one_for_right_answers_counts():
    logged = read_logs([LOGS / "talks_tiny-1.eval"])
    assert logged.responses.score.tolist() == [1.0, 1.0]
    with pytest.raises(DataError, match="found no scored answer"):
        read_logs([LOGS / "talks_tiny-1.eval"], metric="graded/n_chars")  # 28, out of [0, 1]


def test_of_several_scorers_the_headline_counts_unless_another_is_asked_for():
    path = LOGS / "sums_tiny-1.eval"
    assert [n.detail for n in read_logs([path]).report.notes if n.rule == "metric"] == [
        "match of includes, match"
    ]
    assert read_logs([path], metric="includes").report.count("metric") == 0


def test_a_folder_of_logs_is_read_whole():
    logged = read_logs([LOGS])
    assert logged.respondents == ("openai-api/acme/tiny-1", "openai-api/acme/tiny-2")
    assert len(logged.report.files) == len(list(LOGS.iterdir()))
    assert logged.report.count("ignored_files") == 0


def test_nothing_of_the_machine_that_wrote_them_is_in_the_logs():
    found = []
    for path in FIXTURES.rglob("*"):
        if path.is_dir():
            continue
        texts = [path.read_bytes()]
        if path.suffix == ".eval":
            with open_archive(path) as archive:
                texts = [archive.read(name) for name in archive.names]
        found += [
            path
            for text in texts
            for word in (b"/tmp", b"/root", b"/home", b"127.0.0", b"site-packages", b"0x7")
            if word in text
        ]
    assert not found


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "score"),
    [
        *(("C", 1), ("P", 0.5), ("I", 0), ("N", 0), ("c", 1)),
        *(("yes", 1), ("No", 0), ("true", 1), ("FALSE", 0), (True, 1), (False, 0)),
        *((0.25, 0.25), (1, 1), ("0.75", 0.75), ({"acc": "C"}, 1), ({"only": 0.5}, 0.5)),
        ({"style": 1, "correct": 0}, 0),
    ],
)
def test_values_of_every_kind_are_scores(tmp_path, value, score):
    logged = read_one(tmp_path, inspect_sample(scores={"match": {"value": value}}))
    assert scores(logged)["acme/tiny-1", QUESTION] == score


@pytest.mark.parametrize(
    ("graded", "rule"),
    [
        ({"match": {"value": float("nan")}}, "no_score"),
        ({"match": {"value": "maybe"}}, "no_score"),
        ({"match": {"value": None}}, "no_score"),
        ({"match": {"value": "I", "reason": "grader_failed"}}, "no_score"),
        ({"match": {}}, "no_score"),
        ({"other": {"value": "C"}}, "no_score"),
        ({}, "no_score"),
        (None, "no_score"),
        ({"match": {"value": 3}}, "out_of_range"),
        ({"match": {"value": ["C", "I"]}}, "unclear_score"),
        ({"match": {"value": {"tone": 1, "style": 0}}}, "unclear_score"),
    ],
)
def test_what_is_no_score_is_missing(tmp_path, graded, rule):
    logged = read_one(tmp_path, inspect_sample(scores=graded))
    assert len(logged.responses) == 1
    assert logged.report.count(rule) == 1


def test_a_value_inside_a_score_may_be_asked_for(tmp_path):
    sample = inspect_sample(scores={"match": {"value": {"tone": 1, "style": 0}}})
    path = write_eval(tmp_path / "x.eval", [sample])
    assert read_logs([path], metric="match/tone").responses.score.tolist() == [1.0]
    assert read_logs([path], metric="match/style").responses.score.tolist() == [0.0]


def test_a_scorer_that_has_no_name_yet_is_the_runs(tmp_path):
    logged = read_one(tmp_path, inspect_sample(scores={"88F74D2C": {"value": "C"}}))
    assert scores(logged)["acme/tiny-1", QUESTION] == 1


def test_a_refusal_by_the_provider_is_an_error(tmp_path):
    output = {**inspect_sample()["output"], "error": "content filter"}
    assert read_one(tmp_path, inspect_sample(output=output)).report.count("errored") == 1


@pytest.mark.parametrize("status", ["started", "cancelled", "error", None])
@pytest.mark.parametrize("write", [write_eval, write_inspect_json])
def test_only_runs_that_succeeded_count(tmp_path, status, write):
    suffix = "eval" if write is write_eval else "json"
    path = write(tmp_path / f"x.{suffix}", [inspect_sample()], head=inspect_head(status=status))
    with pytest.raises(DataError, match=f"status {status}"):
        read_logs([path])


# -- tokens and times --------------------------------------------------------------------------

TOTAL = {"input_tokens": 100, "output_tokens": 50, "input_tokens_cache_read": 30, "total_cost": 0.5}


def test_one_turn_is_told_by_its_output_even_where_the_model_graded_itself(tmp_path):
    sample = inspect_sample(model_usage={"acme/tiny-1": TOTAL}, turn_count=1)
    logged = read_logs([write_eval(tmp_path / "x.eval", [sample])])
    assert column(logged, "output_tokens") == [7]
    assert column(logged, "latency_s") == [1.5]


def test_several_turns_are_told_by_their_total(tmp_path):
    sample = inspect_sample(model_usage={"acme/tiny-1": TOTAL}, turn_count=4)
    logged = read_logs([write_eval(tmp_path / "x.eval", [sample])])
    assert column(logged, "input_tokens") == [130]
    assert column(logged, "output_tokens") == [50]
    assert column(logged, "cost_usd") == [0.5]
    assert column(logged, "latency_s") == [3.0]


def test_older_logs_count_their_turns_by_messages(tmp_path):
    turn = {"role": "assistant", "content": "Let me see."}
    shot = {"role": "assistant", "content": "15", "source": "input"}
    for messages, tokens in (([turn, turn], 50), ([shot, turn], 7)):
        sample = inspect_sample(model_usage={"acme/tiny-1": TOTAL}, messages=messages)
        logged = read_logs([write_eval(tmp_path / "x.eval", [sample])])
        assert column(logged, "output_tokens") == [tokens]


def test_sizes_that_are_not_logged_are_not_known(tmp_path):
    sample = inspect_sample(output={}, model_usage={}, working_time=None, total_time=None)
    logged = read_logs([write_eval(tmp_path / "x.eval", [sample])])
    for name in ("input_tokens", "output_tokens", "latency_s", "output_chars", "cost_usd"):
        assert all(math.isnan(value) for value in column(logged, name))


# -- questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ([{"role": "user", "content": [{"type": "image", "image": "x"}]}], "media"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "audio"}]}],
            "media",
        ),
        ("attachment://4f5e", "media"),
        ([{"role": "user", "content": "attachment://4f5e"}], "media"),
        ([{"role": "system", "content": "x"}], "no_question"),
        ("  ", "no_question"),
        (None, "no_question"),
        ([], "no_question"),
    ],
)
def test_what_is_no_text_is_left_out(tmp_path, asked, rule):
    logged = read_one(tmp_path, inspect_sample(input=asked))
    assert len(logged.responses) == 1
    assert logged.report.count(rule) == 1


def test_text_in_parts_is_joined(tmp_path):
    parts = [{"type": "text", "text": "How many"}, {"type": "text", "text": "is 3 and 4?"}]
    logged = read_one(tmp_path, inspect_sample(input=[{"role": "user", "content": parts}]))
    assert "How many\nis 3 and 4?" in logged.prompts.texts


def test_an_empty_answer_is_kept_and_told(tmp_path):
    output = {**inspect_sample()["output"], "completion": " "}
    assert read_one(tmp_path, inspect_sample(output=output)).report.count("empty_answer") == 1


def test_a_log_without_a_model_needs_one_named(tmp_path):
    head = inspect_head(eval={"task": "sums"})
    path = write_eval(tmp_path / "x.eval", [inspect_sample()], head=head)
    with pytest.raises(DataError, match="no model in eval"):
        read_logs([path])
    assert read_logs([path], model="mine").respondents == ("mine",)


# -- archives ----------------------------------------------------------------------------------


def repacked(path: Path, to: Path, compression: int) -> Path:
    with open_archive(path) as archive, zipfile.ZipFile(to, "w", compression) as copy:
        for name in archive.names:
            copy.writestr(name, archive.read(name))
    return to


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_may_be_packed_in_any_known_way(tmp_path, compression):
    path = LOGS / "sums_tiny-1.eval"
    other = read_logs([repacked(path, tmp_path / "x.eval", compression)])
    assert scores(other) == scores(read_logs([path]))


def test_an_unknown_packing_is_refused(tmp_path):
    path = repacked(LOGS / "sums_tiny-1.eval", tmp_path / "x.eval", zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match=r"header.json: found a damaged member \(compression meth"):
        read_logs([path])


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_archive_says_so(tmp_path, kept):
    raw = (LOGS / "sums_tiny-1.eval").read_bytes()
    path = tmp_path / "x.eval"
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(DataError, match="found a ZIP archive that ends early") as caught:
        read_logs([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("raw", [b"", b"no archive at all", b"PK\x05\x06"])
def test_what_is_no_archive_says_so(tmp_path, raw):
    path = tmp_path / "x.eval"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="no ZIP archive"):
        read_logs([path])


def test_an_archive_that_is_no_log_says_so(tmp_path):
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thesis.tex", "years of work")
    with pytest.raises(DataError, match=r"a ZIP archive without header.json"):
        read_logs([path])


def test_a_run_that_never_ended_has_no_header(tmp_path):
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
        archive.writestr("samples/a_epoch_1.json", json.dumps(inspect_sample()))
    with pytest.raises(DataError, match="status started"):
        read_logs([path])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93])
def test_a_damaged_member_is_named(tmp_path, compression):
    path = tmp_path / "x.eval"
    if compression == 93:
        path.write_bytes((LOGS / "sums_tiny-1.eval").read_bytes())
    else:
        write_eval(path, [inspect_sample()], compression=compression)
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if i.filename.startswith("samples/"))
    raw = bytearray(path.read_bytes())
    raw[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0x5A
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError) as caught:
        read_logs([path])
    assert f"{path}, {info.filename}" in str(caught.value)


def test_a_member_that_is_written_again_counts_once(tmp_path):
    path = write_eval(tmp_path / "x.eval", [inspect_sample(scores={"match": {"value": "I"}})])
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("samples/a_epoch_1.json", json.dumps(inspect_sample()))
    logged = read_logs([path])
    assert (logged.responses.score.tolist(), logged.n_samples.tolist()) == ([1.0], [1])


def test_a_member_larger_than_the_limit_is_left_out(tmp_path, monkeypatch):
    small = inspect_sample(id="small", input="Small?")
    path = write_eval(tmp_path / "x.eval", [inspect_sample(store={"x": "y" * 9000}), small])
    monkeypatch.setattr("zerorouter.data.logs.inspect.MAX_MEMBER_BYTES", 5000)
    logged = read_logs([path])
    assert logged.prompts.texts == ("Small?",)
    assert logged.report.count("too_large") == 1


def test_no_member_unpacks_to_more_than_its_directory_promises(tmp_path, monkeypatch):
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 10_000_000)
    with open_archive(path) as archive:
        archive._members["bomb"].file_size = 10
        unpacked: list[int] = []
        whole = zipped._unpack
        monkeypatch.setattr(
            zipped, "_unpack", lambda *a: (r := whole(*a), unpacked.append(len(r)))[0]
        )
        with pytest.raises(DataError, match="checksum is wrong"):
            archive.read("bomb")
        assert unpacked == [11]


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    whole = importlib.import_module

    def missing(name: str, package: str | None = None):
        if name in names:
            raise ImportError(name)
        return whole(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)


def test_without_anything_that_unpacks_zstandard_the_install_line_is_told(monkeypatch):
    without(monkeypatch, "compression.zstd", "backports.zstd")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="pip install") as caught:
        read_logs([LOGS / "sums_tiny-1.eval"])
    assert "backports.zstd" in str(caught.value)


def test_pyarrow_unpacks_zstandard_where_nothing_else_does(monkeypatch):
    without(monkeypatch, "compression.zstd", "backports.zstd")
    assert len(read_logs([LOGS / "sums_tiny-1.eval"]).responses) == 4


def test_frames_are_unpacked_one_after_the_other():
    """What a decompressor of the standard library's kind does with several frames."""
    import pyarrow as pa

    class Unpacker:
        def decompress(self, data: bytes, limit: int) -> bytes:
            size = int.from_bytes(data[:4], "big")
            self.unused_data = data[4 + size :]
            self.eof = True
            return pa.decompress(data[4 : 4 + size], 5, codec="zstd", asbytes=True)[:limit]

    class Module:
        ZstdDecompressor = Unpacker

    def frame(text: bytes) -> bytes:
        packed = pa.compress(text, codec="zstd", asbytes=True)
        return len(packed).to_bytes(4, "big") + packed

    assert zipped._frames(Module, frame(b"hello") + frame(b"world"), 10) == b"helloworld"


@pytest.mark.parametrize("without_others", [False, True])
def test_a_frame_that_is_damaged_is_told_whatever_unpacks_it(tmp_path, monkeypatch, without_others):
    if without_others:
        without(monkeypatch, "compression.zstd", "backports.zstd")
    whole = (LOGS / "sums_tiny-1.eval").read_bytes()
    with open_archive(LOGS / "sums_tiny-1.eval") as archive:
        info = next(m for n, m in archive._members.items() if n.startswith("samples/"))
    at = info.header_offset + 30 + len(info.filename) + info.compress_size // 2
    path = tmp_path / "damaged.eval"
    path.write_bytes(whole[:at] + bytes(b ^ 0xFF for b in whole[at : at + 8]) + whole[at + 8 :])
    with pytest.raises(DataError, match=re.escape(info.filename)):
        read_logs([path])


# -- samples are read without their bulk -------------------------------------------------------


def test_a_sample_without_its_bulk_is_the_sample():
    for path in LOGS.glob("*.eval"):
        with open_archive(path) as archive:
            for name in archive.names:
                if not name.endswith("_epoch_1.json"):
                    continue
                whole = json.loads(archive.read(name))
                read = _sample(path, name, archive.read(name))
                assert set(whole) - set(read) <= {"messages", "events", "attachments"}
                assert {key: whole[key] for key in read} == read


def test_bulk_that_looks_like_members_is_no_trouble(tmp_path):
    nasty = '\n  "output": {"completion": "no"}, "events": [\n  "scores": {'
    sample = inspect_sample(input=nasty, messages=[{"role": "user", "content": nasty}])
    sample["events"] = [{"event": "model", "input": {"output": nasty, "events": [nasty]}}]
    for indent in (2, 4, None):
        logged = read_logs([write_eval(tmp_path / "x.eval", [sample], indent=indent)])
        assert logged.prompts.texts == (nasty.strip(),)
        assert column(logged, "output_chars") == [len("It is 42.")]


def test_a_broken_sample_is_named(tmp_path):
    path = write_eval(tmp_path / "x.eval", [])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("samples/a_epoch_1.json", '{\n  "id": "a",\n  "scores": {')
    with pytest.raises(DataError, match=r"samples/a_epoch_1.json: found .* which is not JSON"):
        read_logs([path])


# -- .json -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_truncated_json_log_is_named_with_its_line(tmp_path, kept):
    text = (LOGS / "sums_tiny-1_json.json").read_text(encoding="utf-8")
    path = tmp_path / "x.json"
    path.write_text(text[: int(len(text) * kept)], encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.json, line \d+: found"):
        read_logs([path])


def test_samples_are_read_one_by_one(monkeypatch):
    """With a window of a few characters everything still comes out the same."""
    monkeypatch.setattr("zerorouter.data.logs.json_files._CHUNK_CHARS", 7)
    small = read_logs([LOGS / "picks_tiny-1.json"])
    monkeypatch.undo()
    assert scores(small) == scores(read_logs([LOGS / "picks_tiny-1.json"]))


def test_a_json_log_without_samples_has_no_answers(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(inspect_head()), encoding="utf-8")
    with pytest.raises(DataError, match="found no scored answer"):
        read_logs([path])
