"""The sandbox over the evaluation records: what it answers is what was scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.records import ask
from zerorouter.catalog import Catalog
from zerorouter.data.reading import read_folder
from zerorouter.linking import load_aliases
from zerorouter.sandbox import Sandbox, SandboxSettings
from zerorouter.sandbox.recordings import Recordings, folded

EVERY = 97  # prompts; a fraction of them is asked of every model


@pytest.mark.data
@pytest.mark.parametrize("dataset", ["zeroeval", "mmlu-pro", "bfcl"])
def test_an_answer_equals_the_reference_just_where_the_records_say_it_was_right(
    records_dir: Path, dataset: str
):
    records = read_folder(records_dir / dataset)
    sandbox = Sandbox(
        SandboxSettings(p_correct=0.5),
        catalog=Catalog.load(),
        recordings=Recordings.load([records_dir / dataset]),
    )
    canonical = load_aliases()
    table, prompts = records.responses, records.prompts
    names = [canonical(dataset, name) for name in records.respondents]
    rows = zip(table.prompt.tolist(), table.respondent.tolist(), table.score.tolist(), strict=True)
    checked = 0
    for prompt, respondent, score in rows:
        reference = prompts.references[prompt]
        unique = names.count(names[respondent]) == 1  # else two runs of one model were averaged
        if prompt % EVERY or score not in (0, 1) or reference is None or not unique:
            continue
        plan = sandbox.plan(
            ask(
                _asked(prompts.texts[prompt], prompts.choices_json[prompt]),
                records.respondents[respondent],
                tools=_tools(prompts.choices_json[prompt]),
            )
        )
        if plan.prompt != f"{dataset}/{prompts.ids[prompt]}":
            twin = prompts.ids.index(plan.prompt.partition("/")[2])
            assert folded(prompts.texts[twin]) == folded(prompts.texts[prompt])
            continue  # the records hold one question twice
        assert plan.source == "recorded"
        assert (plan.choices[0].text == reference) == bool(score)
        assert plan.choices[0].correct == bool(score)
        checked += 1
    assert checked > 500


def _asked(text: str, choices_json: str | None) -> str:
    options = json.loads(choices_json or "[]")
    if not all(isinstance(option, str) for option in options):
        return text
    lettered = [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(options)]
    return "\n".join(["Answer the question.", "", text, *lettered])


def _tools(choices_json: str | None) -> list[dict[str, object]] | None:
    declared = json.loads(choices_json or "[]")
    listed = declared if isinstance(declared, list) else [declared]
    if not listed or not isinstance(listed[0], dict):
        return None
    return [{"type": "function", "function": {"name": tool["name"]}} for tool in listed]
