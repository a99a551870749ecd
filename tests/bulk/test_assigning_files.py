"""Whole jobs: a file of prompts in, a file of assignments out."""

from __future__ import annotations

import csv
import json
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from simulated_records import prompts as simulated_prompts
from simulated_records import toy_router
from zerorouter.bulk import files
from zerorouter.bulk.capacities import read_capacities
from zerorouter.bulk.files import BulkSettings, assign_file
from zerorouter.errors import DataError, InfeasibleError, InputError, PromptError
from zerorouter.routing.assignment.offers import Bounds, Capacity

COLUMNS = ["prompt_id", "model", "p_correct", "cost_usd", "latency_s"]


@cache
def texts(n, seed=0):
    return [row["text"] for row in simulated_prompts(n, seed)[0]]


def write(path, texts, **extra):
    rows = [{"prompt_id": f"q{i}", "text": t} for i, t in enumerate(texts)]
    for name, values in extra.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def least(asked) -> float:
    return _least(tuple(sorted(asked)))


@cache
def _least(asked) -> float:
    return float(toy_router().offers(asked).cost_usd.min(axis=1).sum(dtype=np.float64))


def read(path):
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def short_streams(monkeypatch):
    """Streams as small as tests: blocks, sample and tail of a few hundred."""
    monkeypatch.setattr(files, "SAMPLE", 300)
    monkeypatch.setattr(files, "TAIL", 200)
    monkeypatch.setattr("zerorouter.bulk.prompts.BLOCK", 100)


def test_the_file_agrees_with_the_router_and_keeps_the_order(tmp_path):
    asked = texts(60)
    budget = 3 * least(asked)
    source = write(tmp_path / "p.jsonl", asked)
    totals = assign_file(toy_router(), source, tmp_path / "a.jsonl", Bounds(budget_usd=budget))
    rows = read(tmp_path / "a.jsonl")
    assert [list(row) for row in rows] == [COLUMNS] * 60
    assert [row["prompt_id"] for row in rows] == [f"q{i}" for i in range(60)]
    whole = toy_router().assign(asked, budget_usd=budget)
    assert [row["model"] for row in rows] == [row.model for row in whole.rows()]
    assert totals == whole.totals
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(totals.spend_usd)
    assert totals.spend_usd <= budget


def test_csv_and_parquet_hold_the_same_rows(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow.parquet import read_table

    source, bounds = write(tmp_path / "p.jsonl", texts(20)), Bounds(budget_usd=1.0)
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assign_file(toy_router(), source, tmp_path / name, bounds)
    plain = read(tmp_path / "a.jsonl")
    assert read_table(tmp_path / "a.parquet").to_pylist() == plain
    spelled = [{k: str(v) for k, v in row.items()} for row in plain]
    assert read(tmp_path / "a.csv") == spelled


@pytest.mark.usefixtures("short_streams")
@pytest.mark.parametrize("order", ["as drawn", "short first", "short last"])
def test_a_stream_keeps_the_budget_and_comes_close_to_the_whole(tmp_path, order):
    asked = texts(900, seed=2)
    if order != "as drawn":
        asked = sorted(asked, key=len, reverse=order == "short last")
    budget = 3 * least(asked)
    source = write(tmp_path / "p.jsonl", asked)
    whole = toy_router().assign(asked, budget_usd=budget, exact=False).totals
    streamed = assign_file(
        toy_router(),
        source,
        tmp_path / "a.jsonl",
        Bounds(budget_usd=budget),
        BulkSettings(in_memory=0),
    )
    rows = read(tmp_path / "a.jsonl")
    assert [row["prompt_id"] for row in rows] == [f"q{i}" for i in range(900)]
    assert sum(row["cost_usd"] for row in rows) <= budget * (1 + 1e-12)
    assert streamed.spend_usd > 0.99 * budget
    assert streamed.bound >= whole.objective
    assert streamed.objective <= whole.bound
    assert streamed.gap < 0.006
    assert streamed.p95_latency_s == pytest.approx(whole.p95_latency_s, rel=0.02)


@pytest.mark.usefixtures("short_streams")
def test_a_stream_keeps_capacities_and_mean_latency(tmp_path):
    asked = texts(800, seed=3)
    free = toy_router().assign(asked, budget_usd=3 * least(asked), exact=False).totals
    bounds = Bounds(
        budget_usd=3 * least(asked),
        max_mean_latency_s=free.mean_latency_s * 1.001,
        capacity={"*": Capacity(requests=240)},
    )
    source = write(tmp_path / "p.jsonl", asked)
    found = assign_file(
        toy_router(), source, tmp_path / "a.jsonl", bounds, BulkSettings(in_memory=0)
    )
    assert max(found.by_model.values()) <= 240
    assert found.mean_latency_s <= bounds.max_mean_latency_s
    assert found.spend_usd <= bounds.budget_usd
    assert found.gap < 0.02


@pytest.mark.usefixtures("short_streams")
def test_a_stream_reaches_an_accuracy_floor_cheaply(tmp_path):
    asked = texts(800, seed=4)
    source = write(tmp_path / "p.jsonl", asked, weight=[1 + i % 3 for i in range(800)])
    bounds = Bounds(min_accuracy=0.5)
    streamed = assign_file(
        toy_router(), source, tmp_path / "a.jsonl", bounds, BulkSettings(in_memory=0)
    )
    whole = assign_file(toy_router(), source, tmp_path / "b.jsonl", bounds)
    p = np.array([row["p_correct"] for row in read(tmp_path / "a.jsonl")])
    assert np.average(p, weights=[1 + i % 3 for i in range(800)]) >= 0.5
    assert streamed.goal == "cost"
    assert whole.spend_usd <= streamed.spend_usd * (1 + 1e-6)
    assert streamed.spend_usd <= 1.02 * whole.spend_usd


@pytest.mark.usefixtures("short_streams")
def test_a_stream_keeps_the_budget_with_confidence(tmp_path):
    asked = texts(800, seed=5)
    budget = 4 * least(asked)
    source = write(tmp_path / "p.jsonl", asked)
    found = assign_file(
        toy_router(),
        source,
        tmp_path / "a.jsonl",
        Bounds(budget_usd=budget),
        BulkSettings(in_memory=0, confidence=0.95),
    )
    assert 0.97 * budget < found.spend_at_confidence_usd <= budget
    assert found.spend_usd < found.spend_at_confidence_usd
    assert found.gap < 0.01


@pytest.mark.usefixtures("short_streams")
def test_streams_are_deterministic(tmp_path):
    source = write(tmp_path / "p.jsonl", texts(700, seed=6))
    bounds = Bounds(budget_usd=0.2)
    for name in ("a.jsonl", "b.jsonl"):
        assign_file(toy_router(), source, tmp_path / name, bounds, BulkSettings(in_memory=0))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.usefixtures("short_streams")
def test_a_stream_that_cannot_be_names_what_would_do(tmp_path):
    asked = texts(700, seed=7)
    needed = least(asked)
    source = write(tmp_path / "p.jsonl", asked)
    with pytest.raises(InfeasibleError, match="by a sample of 300") as caught:
        assign_file(
            toy_router(),
            source,
            tmp_path / "a.jsonl",
            Bounds(budget_usd=0.5 * needed),
            BulkSettings(in_memory=0),
        )
    assert caught.value.nearest == pytest.approx(needed, rel=0.1)
    assert not list(tmp_path.glob("*a.jsonl*"))


@pytest.mark.usefixtures("short_streams")
def test_a_tight_stream_starts_again_rather_than_fail(tmp_path):
    asked = texts(800, seed=8)
    source = write(tmp_path / "p.jsonl", asked)
    found = assign_file(
        toy_router(),
        source,
        tmp_path / "a.jsonl",
        Bounds(budget_usd=1.0001 * least(asked)),
        BulkSettings(in_memory=0),
    )
    assert len(read(tmp_path / "a.jsonl")) == 800
    assert found.spend_usd <= 1.0001 * least(asked)


# -- jobs --------------------------------------------------------------------------------------


def test_jobs_are_scored_by_all_of_their_subtasks(tmp_path):
    asked = texts(24)
    source = write(
        tmp_path / "p.jsonl",
        asked,
        group_id=[f"job {i // 6}" for i in range(24)],
        weight=[1.0 + i // 6 for i in range(24)],
    )
    totals = assign_file(
        toy_router(),
        source,
        tmp_path / "a.jsonl",
        Bounds(budget_usd=8 * least(asked)),
        BulkSettings(jobs=True),
    )
    p = np.array([row["p_correct"] for row in read(tmp_path / "a.jsonl")]).reshape(4, 6)
    assert totals.objective == pytest.approx(float(p.prod(axis=1) @ np.arange(1, 5)))
    assert totals.goal == "jobs"
    apart = toy_router().assign(asked, budget_usd=8 * least(asked))
    alone = apart.p_correct.reshape(4, 6).prod(axis=1) @ np.arange(1, 5)
    assert totals.objective > alone


def test_a_job_has_one_weight_and_a_budget_alone(tmp_path):
    source = write(tmp_path / "p.jsonl", texts(2), group_id=["g", "g"], weight=[1, 2])
    with pytest.raises(InputError, match="a job has one weight"):
        assign_file(
            toy_router(), source, tmp_path / "a.csv", Bounds(budget_usd=1), BulkSettings(jobs=True)
        )
    source = write(tmp_path / "p.jsonl", texts(2), group_id=["g", "g"])
    with pytest.raises(InputError, match="under a budget and nothing else"):
        assign_file(
            toy_router(),
            source,
            tmp_path / "a.csv",
            Bounds(budget_usd=1, min_accuracy=0.5),
            BulkSettings(jobs=True),
        )


# -- whole or not at all -----------------------------------------------------------------------


def test_nothing_is_left_behind_where_a_prompt_is_broken(tmp_path):
    asked = [*texts(30), "   "]
    source = write(tmp_path / "p.jsonl", asked)
    (tmp_path / "a.csv").write_text("before")
    with pytest.raises(PromptError, match="line 31"):
        assign_file(toy_router(), source, tmp_path / "a.csv", Bounds(budget_usd=1.0))
    assert (tmp_path / "a.csv").read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"p.jsonl", "a.csv"}


@pytest.mark.usefixtures("short_streams")
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_nothing_is_left_behind_where_the_stream_breaks_off(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    source = write(tmp_path / "p.jsonl", [*texts(700), " "])
    with pytest.raises(PromptError):
        assign_file(
            toy_router(), source, tmp_path / name, Bounds(budget_usd=9.0), BulkSettings(in_memory=0)
        )
    assert {p.name for p in tmp_path.iterdir()} == {"p.jsonl"}


@pytest.mark.usefixtures("short_streams")
def test_while_it_is_written_the_old_file_stands(tmp_path):
    source = write(tmp_path / "p.jsonl", texts(700))
    (tmp_path / "a.jsonl").write_text("before")
    seen = set()

    def look(_stage, _share):
        seen.add((tmp_path / "a.jsonl").read_text())

    assign_file(
        toy_router(),
        source,
        tmp_path / "a.jsonl",
        Bounds(budget_usd=9.0),
        BulkSettings(in_memory=0),
        look,
    )
    assert seen == {"before"}
    assert len(read(tmp_path / "a.jsonl")) == 700


def test_a_full_disk_is_a_typed_error(tmp_path, monkeypatch):
    source = write(tmp_path / "p.jsonl", texts(5))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zerorouter.bulk.writing.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        assign_file(toy_router(), source, tmp_path / "a.jsonl", Bounds(budget_usd=9.0))
    assert {p.name for p in tmp_path.iterdir()} == {"p.jsonl"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("p.jsonl", "holds the prompts"),
        ("a.txt", r"the kind \.txt"),
        ("missing/a.csv", "there is no folder"),
        ("folder.csv", "is a folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, name, told):
    (tmp_path / "folder.csv").mkdir()
    source = write(tmp_path / "p.jsonl", texts(3))
    with pytest.raises(InputError, match=told):
        assign_file(toy_router(), source, tmp_path / name, Bounds(budget_usd=1.0))


def test_two_jobs_at_once_do_not_touch_each_other(tmp_path):
    source = write(tmp_path / "p.jsonl", texts(40))
    router = toy_router()
    jobs = [
        threading.Thread(
            target=assign_file,
            args=(router, source, tmp_path / f"{i}.jsonl", Bounds(budget_usd=9.0)),
        )
        for i in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


# -- capacities --------------------------------------------------------------------------------


def test_capacities_read_the_same_from_json_yaml_and_csv(tmp_path):
    wanted = {"a": Capacity(requests=10, tokens=500), "b": Capacity(requests=5), "*": Capacity()}
    (tmp_path / "c.json").write_text(
        '{"a": {"requests": 10, "tokens": 500}, "b": 5, "*": {"requests": null}}'
    )
    (tmp_path / "c.yaml").write_text("a: {requests: 10, tokens: 500}\nb: 5\n'*': {}\n")
    (tmp_path / "c.csv").write_text("model,requests,tokens\na,10,500\nb,5,\n*,,\n")
    for name in ("c.json", "c.yaml", "c.csv"):
        assert read_capacities(tmp_path / name) == wanted


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("c.json", "[1]", "a list"),
        ("c.json", "{", "cannot be parsed"),
        ("c.yaml", "a: [", "cannot be parsed"),
        ("c.json", '{"a": {"request": 1}}', "the key 'request'"),
        ("c.json", '{"a": "many"}', "'many'"),
        ("c.csv", "name,requests\na,1\n", "the columns name, requests"),
    ],
)
def test_capacities_that_are_wrong_are_named(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=told):
        read_capacities(tmp_path / name)
    (tmp_path / "n.json").write_text('{"a": -1}')
    with pytest.raises(InputError, match="a capacity of requests is -1"):
        read_capacities(tmp_path / "n.json")


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        BulkSettings().jobs = True
    assert replace(BulkSettings(), jobs=True).jobs
