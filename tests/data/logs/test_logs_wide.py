"""Wide tables, and LLMRouterBench's result files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.logs.log_files import FIXTURES, Row, column, scores
from zerorouter.data.logs.reading import read_logs
from zerorouter.errors import DataError

TABLE = FIXTURES / "wide" / "routerbench.csv"
RESULTS = FIXTURES / "wide" / "llmrouterbench.json"
PROMPT = (
    "Which of these tools measures an angle?\nA) ruler\nB) protractor\n"
    'Print only a single choice from "A" or "B" without explanation. Answer:'
)


def written(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".parquet":
        names = dict.fromkeys(name for row in rows for name in row)
        pq.write_table(pa.table({n: [row.get(n) for row in rows] for n in names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def test_routerbench_columns_are_models_with_their_responses_and_costs():
    logged = read_logs([TABLE])
    assert logged.respondents == ("acme/tiny-1", "acme/tiny-2")
    assert scores(logged) == {
        ("acme/tiny-1", PROMPT): 1.0,
        (
            "acme/tiny-1",
            "Was wiegt mehr – ein Pfund Blei oder ein Kilo Federn? 🪶",
        ): 0.5,
        ("acme/tiny-1", "Now one that is blunt."): 0.7,
        ("acme/tiny-2", PROMPT): 0.0,
    }
    assert column(logged, "cost_usd") == [5.5e-06, 2e-06, 1e-05, 1.1e-05]
    assert column(logged, "output_chars") == [1, len("beides"), len("a sawa mallet"), 11]
    assert logged.prompts.tasks[0] == "exam-tools"


def test_empty_cells_are_not_administered_and_scores_off_the_scale_left_out():
    report = read_logs([TABLE]).report
    (note,) = [note for note in report.notes if note.rule == "out_of_range"]
    assert note.places == (f"{TABLE}, line 4, column 'acme/tiny-2'",)
    assert report.count("no_score") == 0
    assert report.count("several_turns") == 1


def test_without_companions_columns_of_numbers_are_models():
    logged = read_logs([FIXTURES / "wide" / "scores.jsonl"])
    assert logged.respondents == ("acme/tiny-1", "acme/tiny-2")
    assert logged.responses.score.tolist() == [1.0, 0.0, 1.0]
    assert logged.prompts.choices[0] == ("ruler", "protractor", "scale", "sieve")
    assert logged.prompts.references == ("B", "a bottle")
    (note,) = logged.report.notes
    assert (note.rule, note.detail) == ("ignored_columns", "remark")


ROWS: list[Row] = [
    {"prompt": "One?", "task": "t", "options": '["a", "b"]', "answer": "b", "m": 0.25, "n": 1.0},
    {"prompt": "Two?", "task": "t", "options": None, "answer": None, "m": None, "n": 0.0},
]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_encoding_reads_the_same(tmp_path, suffix):
    logged = read_logs([written(tmp_path / f"x.{suffix}", ROWS)])
    assert scores(logged) == {("m", "One?"): 0.25, ("n", "One?"): 1.0, ("n", "Two?"): 0.0}
    assert logged.prompts.choices == (("a", "b"), None)
    assert logged.prompts.references == ("B", None)


def test_cells_that_are_no_numbers_are_noted_where_they_stand(tmp_path):
    rows = [{"prompt": f"{i}?", "m": 1, "m|total_cost": 0.1} for i in range(3)]
    rows[1]["m"] = "n/a"
    logged = read_logs([written(tmp_path / "x.csv", rows)])
    assert len(logged.responses) == 2
    (note,) = logged.report.notes
    assert (note.rule, note.places) == ("no_score", (f"{tmp_path / 'x.csv'}, line 3, column 'm'",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prompt,m\nA?,1\nB?\n", "line 3: found 1 cells; wanted 2"),
        ('prompt,m\nA?,1\n"B?"x,1\n', "line 3: found broken CSV"),
        ("prompt,m\nA?,1\n\xff?,1\n", "which is not UTF-8"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tmp_path, text, told):
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_logs([path])
    assert told in str(caught.value)


def test_a_damaged_parquet_file_says_so(tmp_path):
    path = written(tmp_path / "x.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="a file that pyarrow cannot read"):
        read_logs([path])


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt_id": "a", "text": "Q?"}],  # no scores
        [{"prompt": "Q?", "model": "m", "score": 1}],  # a long table
        [{"id": 1, "m": 1}],  # no prompts
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_other_tables_are_none(tmp_path, rows, suffix):
    with pytest.raises(DataError, match="a file of no format known here"):
        read_logs([written(tmp_path / f"x.{suffix}", rows)])


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch /tmp/opened'\ntR.")
    with pytest.raises(DataError, match="a pickle, which may run any program"):
        read_logs([path])


def test_a_hostile_list_is_only_text(tmp_path):
    prompt = "[__import__('os').getcwd()]"
    deep = "[" * 50_000 + "]"
    rows = [{"prompt": text, "m": 1, "m|total_cost": 0} for text in (prompt, deep, "['a', 1]")]
    logged = read_logs([written(tmp_path / "x.jsonl", rows)])
    assert logged.prompts.texts == (prompt, deep, "['a', 1]")


def test_llmrouterbench_asks_the_bare_query():
    logged = read_logs([RESULTS])
    assert logged.respondents == ("tiny-1",)
    assert scores(logged) == {
        ("tiny-1", "A crate holds 7 jars of plum jam. How many jars are in 6 crates?"): 1.0,
        ("tiny-1", "What gets wetter the more it dries?"): 0.0,
    }
    assert column(logged, "output_tokens") == [22, 18]
    assert column(logged, "cost_usd") == [0.0001, 0.0001]
    assert logged.report.count("no_score") == 1
    assert logged.report.count("empty_answer") == 1


def test_trial_runs_are_left_out(tmp_path):
    told = json.loads(RESULTS.read_text(encoding="utf-8"))
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**told, "demo": True}, indent=2), encoding="utf-8")
    with pytest.raises(DataError, match="1 logs of trial runs"):
        read_logs([path])


def test_older_result_files_are_named_by_their_folders(tmp_path):
    told = json.loads(RESULTS.read_text(encoding="utf-8"))
    del told["model_name"], told["dataset_name"]
    path = tmp_path / "bench" / "aime" / "test" / "tiny-9" / "1.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(told), encoding="utf-8")
    logged = read_logs([tmp_path])
    assert logged.respondents == ("tiny-9",)
    assert set(logged.prompts.tasks) == {"aime"}
    assert all(math.isnan(seconds) for seconds in column(logged, "latency_s"))
