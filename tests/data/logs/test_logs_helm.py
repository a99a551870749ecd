"""HELM run directories."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from data.logs.log_files import FIXTURES, column, scores
from zerorouter.data.logs.helm import _task
from zerorouter.data.logs.reading import read_logs
from zerorouter.errors import DataError

RUN = FIXTURES / "helm" / "exam_tools"
MODEL = "acme/tiny-1"
ANGLE = "Which of these tools measures an angle?"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def change(path: Path, edit: Any) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    edit(told)
    path.write_text(json.dumps(told, indent=2), encoding="utf-8")


def test_scores_are_joined_with_questions_by_instance_and_trial():
    logged = read_logs([RUN])
    assert logged.respondents == (MODEL,)
    assert scores(logged) == {
        (MODEL, ANGLE): 0.5,  # right in one trial, wrong in the other
        (MODEL, "Was wiegt mehr?"): 0.0,
        (MODEL, "Which tool is blunt?"): 1.0,
    }
    assert logged.n_samples.tolist() == [2, 2, 1]


def test_perturbed_failed_and_unscored_requests_are_left_out():
    report = read_logs([RUN]).report
    assert report.count("perturbed") == 1
    assert report.count("errored") == 1
    assert report.count("unscored_request") == 1
    (note,) = [note for note in report.notes if note.rule == "perturbed"]
    assert note.places[0].startswith(f"{RUN / 'scenario_state.json'}, line ")


def test_the_question_is_the_instances_input_with_its_references_as_options():
    logged = read_logs([RUN])
    place = logged.prompts.texts.index(ANGLE)
    assert logged.prompts.choices[place] == ("ruler", "protractor", "scale", "sieve")
    assert logged.prompts.references[place] == "B"
    assert logged.prompts.tasks[place] == "exam/tools"
    assert not any("wet" in text or "Answer:" in text for text in logged.prompts.texts)


def test_times_count_only_where_nothing_was_cached(run):
    logged = read_logs([run])
    assert column(logged, "latency_s") == [0.5, 0.5, 0.5]  # not the 0.0001 of a cache
    change(
        run / "scenario_state.json",
        lambda told: [r["result"].update(cached=True) for r in told["request_states"]],
    )
    assert all(math.isnan(seconds) for seconds in column(read_logs([run]), "latency_s"))


def test_tokens_come_from_the_statistics():
    logged = read_logs([RUN])
    assert column(logged, "input_tokens") == [41, 41, 41]
    assert column(logged, "output_tokens") == [1, 1, 1]


def test_an_open_question_has_no_options_and_its_right_reference(run):
    change(run / "run_spec.json", lambda told: told["adapter_spec"].update(method="generation"))
    logged = read_logs([run])
    place = logged.prompts.texts.index(ANGLE)
    assert logged.prompts.choices[place] is None
    assert logged.prompts.references[place] == "protractor"
    assert logged.report.count("truncated_answer") == 1  # where more than a letter is asked for
    assert read_logs([RUN]).report.count("truncated_answer") == 0


def test_requests_of_one_option_each_have_no_sizes(run):
    method = "multiple_choice_separate_original"
    change(run / "run_spec.json", lambda told: told["adapter_spec"].update(method=method))
    logged = read_logs([run])
    assert scores(logged) == scores(read_logs([RUN]))
    assert logged.prompts.references[logged.prompts.texts.index(ANGLE)] == "B"
    for name in ("output_tokens", "input_tokens", "latency_s", "output_chars"):
        assert all(math.isnan(value) for value in column(logged, name))


def test_without_requests_the_instances_do(run):
    told = json.loads((run / "scenario_state.json").read_text(encoding="utf-8"))
    instances = [state["instance"] for state in told["request_states"]]
    (run / "scenario_state.json").unlink()
    with pytest.raises(DataError, match=r"neither scenario_state.json nor instances.json"):
        read_logs([run])
    (run / "instances.json").write_text(json.dumps(instances, indent=2), encoding="utf-8")
    logged = read_logs([run])
    assert scores(logged)[MODEL, "Was wiegt mehr?"] == 0.0
    assert all(math.isnan(seconds) for seconds in column(logged, "latency_s"))


def test_the_metric_is_chosen_from_a_reviewed_order_or_asked_for(run):
    def add(told: list[dict[str, Any]]) -> None:
        for row in told:
            name = {"name": "math_equiv_chain_of_thought", "split": "test"}
            row["stats"].append({"name": name, "count": 1, "sum": 0.25, "mean": 0.25})

    change(run / "per_instance_stats.json", add)
    assert set(scores(read_logs([run])).values()) == {0.25}
    assert scores(read_logs([run], metric="quasi_exact_match")) == scores(read_logs([RUN]))
    with pytest.raises(DataError, match="wanted the metric 'bleu'"):
        read_logs([run], metric="bleu")


def test_a_run_without_a_score_says_so(run):
    def drop(told: list[dict[str, Any]]) -> None:
        for row in told:
            row["stats"] = [s for s in row["stats"] if "match" not in s["name"]["name"]]

    change(run / "per_instance_stats.json", drop)
    with pytest.raises(DataError, match="found no metric that scores an answer"):
        read_logs([run])


def test_sums_and_counts_stand_in_for_a_mean(run):
    def drop(told: list[dict[str, Any]]) -> None:
        for row in told:
            for stat in row["stats"]:
                del stat["mean"]

    change(run / "per_instance_stats.json", drop)
    assert scores(read_logs([run])) == scores(read_logs([RUN]))


@pytest.mark.parametrize("name", ["run_spec.json", "per_instance_stats.json"])
def test_a_truncated_file_is_named_with_its_line(run, name):
    raw = (run / name).read_bytes()
    (run / name).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match=rf"{name}, line \d+"):
        read_logs([run])


def test_a_run_that_names_no_model_needs_one_named(run):
    change(run / "run_spec.json", lambda told: told.pop("adapter_spec"))
    with pytest.raises(DataError, match="no model in adapter_spec"):
        read_logs([run])
    assert read_logs([run], model="mine").respondents == ("mine",)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("mmlu:subject=anatomy,method=multiple_choice_joint,model=openai_gpt-4", "mmlu/anatomy"),
        ("gsm:model=acme_x,stop=none", "gsm"),
        ("legalbench:subset=abercrombie,model=x,eval_split=test", "legalbench/abercrombie"),
        ("plain", "plain"),
    ],
)
def test_the_task_is_the_scenario_without_the_model(name, task):
    assert _task(name) == task


def test_a_folder_of_runs_is_read_whole(tmp_path):
    shutil.copytree(RUN, tmp_path / "suite" / "one")
    shutil.copytree(RUN, tmp_path / "suite" / "two")
    change(
        tmp_path / "suite" / "two" / "run_spec.json",
        lambda told: told["adapter_spec"].update(model="acme/tiny-2"),
    )
    logged = read_logs([tmp_path])
    assert logged.respondents == ("acme/tiny-1", "acme/tiny-2")
    assert {file.format for file in logged.report.files} == {"helm"}


def test_pictures_are_left_out(run):
    def edit(told: dict[str, Any]) -> None:
        content = {"media_objects": [{"content_type": "image/png"}]}
        told["request_states"][0]["instance"]["input"] = {"text": "", "multimedia_content": content}

    change(run / "scenario_state.json", edit)
    assert read_logs([run]).report.count("media") == 1
