"""Multiple-choice questions are found in raw text whatever their rendering, and little else is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerorouter.predict.options import MAX_OPTIONS, open_assertion, parse_options, read_ask

STEM = "Which planet of the solar system has the shortest year?"
OPTIONS = ("Mercury", "Venus", "the Earth", "Neptune")
GOLDEN = json.loads((Path(__file__).parent / "golden_asks.json").read_text("utf-8"))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _lines(label: str) -> str:
    """``label`` holds A, a or 1 where the label of the option goes."""
    rows = []
    for index, option in enumerate(OPTIONS):
        mark = label.replace("A", LETTERS[index]).replace("a", LETTERS[index].lower())
        rows.append(f"{mark.replace('1', str(index + 1))} {option}")
    return "\n".join(rows)


RENDERINGS = {
    "A)": f"{STEM}\n{_lines('A)')}",
    "A.": f"{STEM}\n{_lines('A.')}",
    "(A)": f"{STEM}\n\n{_lines('(A)')}",
    "A:": f"{STEM}\n{_lines('A:')}",
    "(a)": f"{STEM}\n{_lines('(a)')}",
    "a)": f"{STEM}\n{_lines('a)')}",
    "1.": f"{STEM}\n{_lines('1.')}",
    "1)": f"{STEM}\n{_lines('1)')}",
    "(1)": f"{STEM}\n{_lines('(1)')}",
    "dash": f"{STEM}\n{_lines('-')}",
    "star": f"{STEM}\n\n{_lines('*')}",
    "bold": f"{STEM}\n{_lines('**A)**')}",
    "bulleted letters": f"{STEM}\n{_lines('- A)')}",
    "headed": f"{STEM}\n\nOptions:\n{_lines('A)')}",
    "inline": f"{STEM} A) Mercury B) Venus C) the Earth D) Neptune",
    "inline brackets": f"{STEM} (A) Mercury (B) Venus (C) the Earth (D) Neptune",
    "inline lower": f"{STEM} (a) Mercury (b) Venus (c) the Earth (d) Neptune",
    "semicolons": f"{STEM}\nOptions: Mercury; Venus; the Earth; Neptune",
    "commas": f"{STEM} Options: Mercury, Venus, the Earth, Neptune",
    "bars": f"{STEM}\nChoices: Mercury | Venus | the Earth | Neptune",
    "python list": f"{STEM}\nOptions: ['Mercury', 'Venus', 'the Earth', 'Neptune']",
    "lines below a heading": f"{STEM}\nOptions:\nMercury\nVenus\nthe Earth\nNeptune",
    "asked in between": f"{STEM}\nWhich option is right?\n{_lines('-')}",
    "with Windows line ends": f"{STEM}\n{_lines('A)')}".replace("\n", "\r\n"),
}
WRAPPINGS = {
    "bare": "{}",
    "letter wanted": "{}\n\nAnswer with the letter of the correct option.",
    "steps wanted": "{}\n\nThink step by step, then give your answer.",
    "open end": "{}\nAnswer:",
    "marked": "Question: {}\nAnswer:",
    "system": "You are a helpful assistant.\n\nAnswer the following question.\n\n{}",
    "greeting": "Hello! {}\n\nThanks a lot!",
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("rendering", RENDERINGS)
def test_stem_and_options_are_the_same_for_every_rendering(rendering: str, wrapping: str) -> None:
    parsed = parse_options(WRAPPINGS[wrapping].format(RENDERINGS[rendering]))
    assert parsed is not None
    assert parsed.options == OPTIONS
    assert parsed.stem == STEM


@pytest.mark.parametrize(
    "opening",
    ["Quiz time, everyone!\n", "From page nine\n\n", "They asked us this:\n", "(just for fun) "],
)
def test_what_stands_in_front_of_a_choice_is_dropped_whatever_it_says(opening: str) -> None:
    parsed = parse_options(opening + RENDERINGS["A)"])
    assert parsed is not None
    assert parsed.stem == STEM


def test_style_is_the_first_label_as_written() -> None:
    styles = {
        name: parsed.style
        for name in ("A)", "A.", "(A)", "A:", "(a)", "a)", "1.", "1)", "dash", "bars")
        if (parsed := parse_options(RENDERINGS[name])) is not None
    }
    assert styles == {
        "A)": "A)", "A.": "A.", "(A)": "(A)", "A:": "A:", "(a)": "(a)", "a)": "a)", "1.": "1.",
        "1)": "1)", "dash": "-", "bars": "line",
    }  # fmt: skip


def test_spans_cut_the_parts_out_of_the_text() -> None:
    text = WRAPPINGS["system"].format(RENDERINGS["(A)"])
    parsed = parse_options(text)
    assert parsed is not None
    assert text[slice(*parsed.stem_span)] == parsed.stem
    assert tuple([text[slice(*span)] for span in parsed.option_spans]) == parsed.options


def test_up_to_26_options_are_read() -> None:
    rows = "\n".join([f"{letter}) value {index * 7}" for index, letter in enumerate(LETTERS)])
    parsed = parse_options(f"Which value is a prime?\n{rows}")
    assert parsed is not None
    assert len(parsed.options) == MAX_OPTIONS


def test_options_may_span_lines() -> None:
    parsed = parse_options(
        "Which haiku is about rain?\nA) Drops on the roof\nand none inside\nB) Dust on the road\n"
        "and no wind\nC) Salt on the shore\nand two gulls\n\nPick one option."
    )
    assert parsed is not None
    assert parsed.options[0] == "Drops on the roof\nand none inside"
    assert parsed.options[2] == "Salt on the shore\nand two gulls"


def test_statements_of_the_stem_are_not_its_options() -> None:
    parsed = parse_options(
        "Consider: (a) every square is a rhombus, (b) every rhombus is a square, (c) no rhombus "
        "has a right angle. Which of these hold?\nA) only (a)\nB) (a) and (b)\nC) (a) and (c)\n"
        "D) none"
    )
    assert parsed is not None
    assert parsed.options == ("only (a)", "(a) and (b)", "(a) and (c)", "none")


def test_numbered_statements_above_lettered_options_stay_in_the_stem() -> None:
    parsed = parse_options(
        "Which statements are true?\n1. Ice floats.\n2. Iron floats.\n3. Cork floats.\n"
        "A) 1 and 2\nB) 1 and 3\nC) 2 and 3"
    )
    assert parsed is not None
    assert parsed.options == ("1 and 2", "1 and 3", "2 and 3")
    assert "3. Cork floats." in parsed.stem


def test_a_closing_bracket_is_no_label() -> None:
    parsed = parse_options("What is the force? A) m(g + A) B) m(g - A) C) A/m D) none of these")
    assert parsed is not None
    assert parsed.options == ("m(g + A)", "m(g - A)", "A/m", "none of these")


def test_the_last_of_several_questions_is_the_one_asked() -> None:
    parsed = parse_options(
        "Question: Which is a metal?\nA) iron\nB) chalk\nC) paper\nAnswer: A\n\n"
        f"Question: {STEM}\n{_lines('A)')}\nAnswer:"
    )
    assert parsed is not None
    assert parsed.stem == STEM
    assert parsed.options == OPTIONS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Tell me a story about a fox.",
        "Please do the following:\n1. Read the file.\n2. Count the words.\n3. Print the result.",
        "My plan so far:\n- wake up early\n- go for a run\n- cook lunch\nTurn it into a poem.",
        "Answer these questions:\n1. Who wrote it?\n2. When was it written?\n3. Why?",
        "A: How are you?\nB: Fine, thanks.\nA: Glad to hear it.\nContinue the dialogue.",
        "We met J. B. Smith and A. B. Jones at plan B. They left at 2. It rained.",
        "def f(x):\n    return x[1:2]\n\n# a) fast\n# b) slow\nMake this function faster.",
        "How do I install it? I tried:\n1. pip install it\n2. conda install it\n3. a new laptop\n"
        "but each of them fails with an error about a missing compiler, and I have no idea what "
        "to do next, because the documentation says nothing at all about compilers, versions or "
        "laptops. The log is long and I did not keep it, sorry.",
        "Given the assignments:\n  A: 1\n  B: 0\n  C: 1\nwhat does the circuit below put out? "
        + "wire " * 60,
    ],
)
def test_ordinary_requests_have_no_options(text: str) -> None:
    assert parse_options(text) is None


@pytest.mark.parametrize(
    "instruction",
    [
        "Let's think step by step.",
        "Please reason step by step, and put your final answer within \\boxed{}.",
        "Give only the final answer.",
        "Do not explain your reasoning.",
        "Show your work.",
        "Answer:",
        "Respond with a single word.",
        "Your answer should be a single number.",
    ],
)
def test_answer_instructions_are_not_part_of_the_ask(instruction: str) -> None:
    question = "A shelf holds 14 jars and 5 of them are empty. How many hold something?"
    assert read_ask(f"{question} {instruction}").stem == question
    assert read_ask(f"{question}\n\n{instruction}\n").stem == question


def test_a_demand_on_the_result_itself_stays() -> None:
    text = "Solve 3x = 7. Express the result as a fraction."
    assert read_ask(text).stem == text


def test_a_text_that_is_all_instruction_is_kept() -> None:
    assert read_ask("Think step by step.").stem == "Think step by step."


def test_code_to_be_completed_is_read_without_the_prose_around_it() -> None:
    code = "def g(s):\n    return s[::-1]\nassert g('ab') == ??"
    for text in (
        code,
        f"Fill in the gap.\n\n```python\n{code}\n```\nThanks!",
        f"[CODE]\n{code}\n[/CODE]",
    ):
        assert read_ask(text).stem == code
        assert open_assertion(text) is not None
    assert open_assertion("What?? assert yourself") is None


@pytest.mark.parametrize("case", GOLDEN)
def test_a_text_is_cut_where_it_was_when_spaces_were_fitted(case: dict[str, Any]) -> None:
    """Odd labels, headings, wrappings and mixtures; another cut asks for fitting spaces anew."""
    ask = read_ask(case["text"])
    found = (list(ask.stem_span), [list(span) for span in ask.option_spans], ask.style)
    assert found == (case["stem"], case["options"], case["style"])


def test_core_joins_stem_and_options() -> None:
    cores = {read_ask(text).core for text in RENDERINGS.values()}
    assert cores == {"\n".join((STEM, *OPTIONS))}


def test_the_canonical_ask_is_the_core_with_its_spans() -> None:
    for text in RENDERINGS.values():
        ask = read_ask(text)
        canonical = ask.canonical()
        assert canonical.text == ask.core
        assert canonical.stem == STEM
        assert canonical.options == OPTIONS


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    ask = read_ask(text)
    start, end = ask.stem_span
    assert 0 <= start <= end <= len(text)
    for first, last in ask.option_spans:
        assert 0 <= first <= last <= len(text)


@given(st.lists(st.sampled_from(["A)", "(b)", "1.", "- ", "\n", "?", "Options:", "x", " "])))
def test_any_pile_of_labels_can_be_read(pieces: list[str]) -> None:
    ask = read_ask(" ".join(pieces))
    assert 0 <= ask.stem_span[0] <= ask.stem_span[1] <= len(ask.text)


ADVERSARIAL = {
    "labels": "A) x B) y " * 10_000,
    "line labels": "A) x\nB) y\nC) z\n" * 7_000,
    "spaces": " " * 100_000,
    "stars": "*" * 100_000 + " A) x B) y",
    "bullets": "\n- a" * 25_000,
    "headings": "Options: " * 11_000,
    "instructions": "Answer: only the letter.\n" * 4_000,
    "please": "please " * 14_000,
    "gaps": "def f(x):\nassert f(1)\n" + "??" * 45_000,
    "asserts": "def f(x):\n" + "assert ??\n" * 9_000,
    "questions": "Question: A. " * 8_000,
    "brackets": "(A) ( B) " * 11_000,
    "bold labels": "**A)** " * 14_000,
    "exclamations": "Oh! " * 25_000 + "?\nA) x\nB) y\nC) z",
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_hostile_texts_cost_no_more_than_linear_time(name: str) -> None:
    text = ADVERSARIAL[name]

    def seconds(piece: str) -> float:
        start = time.perf_counter()
        read_ask(piece)
        return time.perf_counter() - start

    # Linear work takes hundredths of a second and quadratic work minutes: no matter how busy the
    # machine, five seconds lie between them.
    assert min(seconds(text), seconds(text)) < 5.0
