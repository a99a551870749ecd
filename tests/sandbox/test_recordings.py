from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.records import PROMPTS, RESPONSES, write_folder
from zerorouter.errors import DataError
from zerorouter.sandbox.recordings import Recordings

CAPITAL = "Which town is the capital of Norway?"


@pytest.fixture(scope="module")
def records(folder: Path) -> Recordings:
    return Recordings.load([folder])


def found(records: Recordings, text: str, tools: tuple[str, ...] = ()) -> str | None:
    match = records.match(text, tools)
    return None if match is None else match.key


@pytest.mark.parametrize(
    "text",
    [
        "What is 17 + 25?",
        "  what IS 17  +\t25? ",
        "Question: What is 17 + 25?",
        "Answer with a number.\n\nWhat is 17 + 25?\n\nThink step by step.",
        "Q3) What is 17 + 25?\r\nA:",
        "What is １７ + 25?",
    ],
)
def test_a_prompt_is_found_whatever_stands_around_it(records: Recordings, text: str):
    assert found(records, text) == "ours/sum"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "What is 17 + 25",
        "What is 17 + 25?1",
        "Say: What is 17 + 25?",
        "What is\n6 * 7?",
    ],
)
def test_a_part_of_a_prompt_or_of_a_line_is_no_prompt(records: Recordings, text: str):
    assert found(records, text) is None


def test_a_prompt_of_several_lines_is_found(records: Recordings):
    assert found(records, "Please:\nWhat is 6 * 7?\n\nCount.\nThanks.") == "ours/product"


def test_of_prompts_with_one_text_the_options_decide(records: Recordings):
    assert found(records, f"{CAPITAL}\nA. Bergen\nB. Oslo\nC. Trondheim\nD. Tromsø") == (
        "ours/capital"
    )
    assert found(records, f"{CAPITAL}\nA. Hamar\nB. Oslo\nC. Bodø\nD. Lillehammer") == (
        "ours/capital-again"
    )


def test_of_prompts_with_one_text_the_functions_decide(tmp_path: Path):
    def declared(*names: str) -> list[dict[str, str]]:
        return [{"name": name} for name in names]

    prompts = [
        {"prompt_id": "one", "text": "Is it warm?", "choices": declared("weather")},
        {"prompt_id": "two", "text": "Is it warm?", "choices": declared("weather", "clock")},
    ]
    responses = [{"prompt_id": p["prompt_id"], "model": "able", "score": 1} for p in prompts]
    records = Recordings.load([write_folder(tmp_path / "tools", prompts, responses)])
    assert found(records, "Is it warm?", ("weather",)) == "tools/one"
    assert found(records, "Is it warm?", ("clock", "weather")) == "tools/two"


def test_of_prompts_alike_in_all_the_one_the_model_answered_is_taken(tmp_path: Path):
    prompts = [{"prompt_id": name, "text": "Twice?", "reference": name} for name in ("a", "b")]
    responses = [
        {"prompt_id": "a", "model": "able", "score": 1},
        {"prompt_id": "b", "model": "thinker", "score": 1},
    ]
    records = Recordings.load([write_folder(tmp_path / "twice", prompts, responses)])
    for model, key in (("able", "twice/a"), ("thinker", "twice/b"), ("nobody", "twice/a")):
        match = records.match("Twice?", model=model)
        assert match is not None
        assert match.key == key


def test_the_longest_prompt_wins(tmp_path: Path):
    prompts = [
        {"prompt_id": "short", "text": "Read this."},
        {"prompt_id": "long", "text": "Read this.\nThen answer."},
    ]
    responses = [{"prompt_id": "short", "model": "able", "score": 1}]
    records = Recordings.load([write_folder(tmp_path / "nested", prompts, responses)])
    assert found(records, "Read this.\nThen answer.") == "nested/long"
    assert found(records, "Read this.\nThen sleep.") == "nested/short"


def test_a_prompt_that_nobody_answered_is_known_too(tmp_path: Path):
    prompts = [{"prompt_id": name, "text": f"Is it {name}?", "reference": name} for name in "ab"]
    responses = [{"prompt_id": "a", "model": "able", "score": 1}]
    records = Recordings.load([write_folder(tmp_path / "half", prompts, responses)])
    match = records.match("Is it b?")
    assert match is not None
    assert match.reference == "b"
    assert records.answer(match, "able") is None


def test_answers_carry_what_was_recorded(records: Recordings):
    prompt = records.match("What is 17 + 25?")
    assert prompt is not None
    answer = records.answer(prompt, "able")
    assert answer is not None
    assert (answer.score, answer.input_tokens, answer.output_tokens) == (1.0, 11, 64)
    assert (answer.latency_s, answer.visible_tokens) == (2.5, 10)
    assert records.answer(prompt, "nobody") is None


def test_unknown_token_counts_come_from_the_characters(records: Recordings):
    product, colour = (
        records.match("What is 6 * 7?\nCount."),
        records.match("Name the colour of snow."),
    )
    assert product is not None
    assert colour is not None
    by_characters, zero = records.answer(product, "able"), records.answer(colour, "able")
    assert by_characters is not None
    assert zero is not None
    assert by_characters.output_tokens == 11  # 41 characters by four, rounded up
    assert zero.output_tokens == 2  # 0 tokens are a count that was not made
    assert by_characters.input_tokens is None
    assert by_characters.latency_s is None


def test_a_model_is_known_by_the_records_own_spelling(records: Recordings):
    assert records.respondent("Able") == "able"
    assert records.respondent("able") == "able"
    assert records.respondent("nobody") is None


def test_names_of_a_data_set_win_where_two_data_sets_spell_two_models_alike(tmp_path: Path):
    """cruxeval's gpt-4o was asked for the bare answer; elsewhere the name means another."""
    prompts = [{"prompt_id": "p", "text": "One?", "reference": "1"}]
    crux = write_folder(
        tmp_path / "cruxeval", prompts, [{"prompt_id": "p", "model": "gpt-4o", "score": 0}]
    )
    ours = write_folder(
        tmp_path / "mine",
        [{**prompts[0], "text": "Two?"}],
        [{"prompt_id": "p", "model": "gpt-4o", "score": 1}],
    )
    records = Recordings.load([crux, ours])
    scores = {}
    for text in ("One?", "Two?"):
        prompt = records.match(text)
        assert prompt is not None
        answer = records.answer(prompt, "gpt-4o-2024-05-13", "gpt-4o")
        scores[text] = None if answer is None else answer.score
    assert scores["One?"] == 0.0


def test_mean_scores_are_over_what_was_scored(records: Recordings):
    scores = [row["score"] for row in RESPONSES if row["model"] == "Able"]
    assert records.mean_score("able") == pytest.approx(sum(scores) / len(scores))
    assert records.mean_score("nobody") is None


def test_a_huge_text_is_no_recorded_prompt(records: Recordings):
    assert records.match("What is 17 + 25?\n" + "x" * 1_000_001) is None


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="nowhere"):
        Recordings.load([tmp_path / "nowhere"])


def test_every_prompt_of_the_folder_finds_itself(records: Recordings):
    for prompt in PROMPTS:
        options = [f"{chr(65 + i)}. {o}" for i, o in enumerate(prompt.get("choices", ()))]
        key = found(records, "\n".join([prompt["text"], *options]))
        assert key == f"ours/{prompt['prompt_id']}"
