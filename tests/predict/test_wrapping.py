"""The quick looks at a wrapping say what the expressions behind them say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.predict import wrapping
from zerorouter.predict.wrapping import INSTRUCTIONS, is_instruction, trim_ask, trim_tail

LETTER = re.compile(r"[A-Za-z]+")
PIECES = ["\n", ". ", "? ", "! ", ": ", "; ", ") ", '" ', "} ", "$ ", ".", " ", "ice", "Fog", "é"]


@pytest.mark.parametrize("expression", INSTRUCTIONS)
@settings(max_examples=30)
@given(data=st.data())
def test_the_first_word_of_every_instruction_is_known(expression: str, data: st.DataObject) -> None:
    pattern = re.compile(expression.replace("|’", ""), re.ASCII)
    text = data.draw(st.from_regex(pattern, alphabet=st.characters(max_codepoint=126)))
    start = pattern.search(text)
    assert start is not None
    word = LETTER.match(text, start.start())
    assert word is not None
    assert word[0].lower() in wrapping._INSTRUCTION_WORDS


def test_the_words_of_politeness_are_known() -> None:
    assert set(re.findall(r"[a-z]{2,}", wrapping._POLITE)) - {"the", "end"} <= (
        wrapping._INSTRUCTION_WORDS
    )


@given(st.from_regex(re.compile(wrapping._MARKER.pattern, re.ASCII), fullmatch=True))
def test_the_word_of_every_marker_is_known(marker: str) -> None:
    for text in (marker, marker.upper()):
        word = wrapping._FIRST_WORD.match(text)
        assert word is not None
        assert word[1].lower() in wrapping._MARKER_WORDS


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(0, 40))
def test_the_last_break_of_plain_text_is_found_at_once(text: str, end: int) -> None:
    text = text.replace("é", "e")
    marks = text.encode().translate(wrapping._CLOSERS)
    end = min(end, len(text))
    assert wrapping._last_break(marks, end) == wrapping._sentence_start(text, end)


INSTRUCTION = "Answer with the letter of the right option."


@given(st.lists(st.sampled_from([*PIECES, "Is it so? ", "Please answer briefly. "]), max_size=12))
def test_a_letter_beyond_ascii_in_front_changes_no_cut(pieces: list[str]) -> None:
    text = "".join(pieces).replace("é", "e") + INSTRUCTION
    plain = trim_tail("e ice. " + text, 0, len(text) + 7)
    other = trim_tail("é ice. " + text, 0, len(text) + 7)
    assert plain == other


@pytest.mark.parametrize("word", ["anſwer", "taĸe", "thinK", "lıst", "Tasĸ:"])
def test_letters_that_only_look_like_others_are_no_error(word: str) -> None:
    text = f"{word} only the letter."
    start, end = trim_ask(text, 0, len(text))
    assert 0 <= start <= end <= len(text)


def test_letters_that_fold_to_ascii_are_read_as_such() -> None:
    question = "Who wrote it? "
    assert is_instruction("Anſwer only with one letter.", 0)
    assert trim_tail(question + "Anſwer only with one letter.", 0, 42) == len(question) - 1
