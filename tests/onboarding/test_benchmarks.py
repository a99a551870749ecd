"""Names of benchmarks, what users tell of them, and tables of published scores."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from zerorouter.errors import DataError, InputError
from zerorouter.known_items import load_known_items
from zerorouter.linking import load_aliases
from zerorouter.onboarding.benchmarks import (
    checked_scores,
    load_benchmarks,
    published_beside,
    read_published,
)

KNOWN = ("gsm8k", "mmlu-pro", "gpqa")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("GSM8K", "gsm8k"),
        (" gsm-8k ", "gsm8k"),
        ("MMLU_Pro", "mmlu-pro"),
        ("HLE", "humanity's-last-exam"),
        ("GPQA Diamond", "gpqa"),
        ("never-heard-of", "never-heard-of"),
    ],
)
def test_spellings_mean_one_benchmark(spelling, name):
    assert load_benchmarks().canonical(spelling) == name


def test_synonyms_lead_to_a_benchmark_and_no_further():
    table = load_benchmarks()
    assert not table.synonyms.keys() & set(table.synonyms.values())
    assert not table.synonyms.keys() & table.links.keys()


def test_every_linked_benchmark_has_items_among_the_known_tasks():
    names = [task.name for task in load_known_items().tasks]
    for benchmark, link in load_benchmarks().links.items():
        for pattern in link.tasks:
            assert any(fnmatchcase(name, pattern) for name in names), (benchmark, pattern)


def test_scores_are_taken_under_their_benchmarks_names():
    assert checked_scores([("GSM-8K", 0.95), ("mmlu_pro", 0)], KNOWN) == {
        "gsm8k": 0.95,
        "mmlu-pro": 0.0,
    }


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([("gsm8k", 95)], r"gsm8k is 95; wanted a score from 0 to 1; did you mean gsm8k=0.95\?"),
        ([("gsm8k", -0.1)], r"gsm8k is -0.1; wanted a score from 0 to 1$"),
        ([("gsm8k", 950)], r"gsm8k is 950; wanted a score from 0 to 1$"),
        ([("gsm8k", float("nan"))], r"gsm8k is nan; wanted a score from 0 to 1$"),
        ([("gsm8k", float("inf"))], "gsm8k is inf; wanted"),
        ([("gsm8k", 0.9), ("GSM-8K", 0.8)], r"two scores, 0.9 and 0.8; tell one of them"),
        ([("gpqaa", 0.5)], r"unknown benchmark 'gpqaa'; did you mean 'gpqa'\? known here: gpqa, "),
        ([("gsm_8", 0.5)], r"did you mean 'gsm8k'\?"),
        ([("astrology", 0.5)], r"unknown benchmark 'astrology'; known here: gpqa, gsm8k, mmlu-pro"),
        ([("", 0.5)], "unknown benchmark ''"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_hint(told, message):
    with pytest.raises(InputError, match=message):
        checked_scores(told, KNOWN)


# -- tables --------------------------------------------------------------------------------------


def table(folder, *lines: str, head: str = "model_id,benchmark_id,normalized_score"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "published_scores.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_table_is_read_under_the_names_of_the_space(tmp_path):
    path = table(
        tmp_path,
        "gemini-1.5-pro,GSM-8K,0.9",
        "gemini-1.5-pro,mmlu,0.85",
        "nova,mmlu,0.5",
        "nova,gsm8k,",
    )
    found = read_published(path, load_aliases())
    assert found.of("gemini-1.5-pro-002") == {"gsm8k": 0.9, "mmlu": 0.85}
    assert found.of("nova") == {"mmlu": 0.5}


def test_a_plain_score_column_will_do_and_the_first_of_two_spellings_holds(tmp_path):
    path = table(
        tmp_path, "nova,bbh,0.4", "nova,big-bench-hard,0.6", head="model_id,benchmark_id,score"
    )
    assert read_published(path, load_aliases()).of("nova") == {"big-bench-hard": 0.4}


@pytest.mark.parametrize("score", ["1.2", "-0.1", "nan", "high"])
def test_a_score_that_is_none_is_refused_with_its_line(tmp_path, score):
    path = table(tmp_path, "nova,mmlu,0.5", f"nova,gpqa,{score}")
    with pytest.raises(DataError, match=f"line 3: the score is '{score}'"):
        read_published(path, load_aliases())


def test_a_missing_column_is_named(tmp_path):
    path = table(tmp_path, "nova,0.5", head="model_id,score")
    with pytest.raises(DataError, match="no column 'benchmark_id'"):
        read_published(path, load_aliases())


def test_the_table_is_found_in_the_folder_or_in_the_catalog_beside_it(tmp_path):
    records = tmp_path / "records"
    records.mkdir()
    assert published_beside(records) is None
    beside = table(tmp_path / "catalog")
    assert published_beside(records) == beside.resolve()
    within = table(records)
    assert published_beside(records) == within
