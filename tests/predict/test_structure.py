"""Structural features: those of a slow reference, equal in batches, blind to the rendering."""

from __future__ import annotations

import re
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.structure_reference import reference_features
from zerorouter.arrays import IntArray
from zerorouter.errors import InputError
from zerorouter.predict.encoders import PartPieces, StaticEncoder
from zerorouter.predict.options import read_ask
from zerorouter.predict.structure import (
    FEATURE_NAMES,
    MAX_CHARS,
    N_FEATURES,
    TokenStatistics,
    ask_features,
    structure_features,
    structure_features_windows,
    structure_matrix,
)
from zerorouter.predict.templates import TEMPLATES, render

N_WORDS, N_PIECES = 900, 100
PIECE = re.compile(r"[^\W_]+|[^\w\s]|_")

PROSE = "Why does ice float on water? Explain it to a child of ten years, please."
MATHS = "Find the sum of 1,250 and $\\frac{3}{4}$, rounded to 2.5 decimals: x^2 + 3x = 7."
CODE = """\
def tidy(words, limit):
    kept = []
    for word in words:
        if len(word) < limit:
            kept.append(word.strip().lower())
    return kept
assert tidy(['Ab ', 'cde'], 3) == ??"""
CHOICE = "Which of these metals is liquid at room temperature?"
LOOPS = """\
def count(text, limit):

    seen = {}
    for sign in text:
        if sign in seen:
            seen[sign] += 1
        elif sign.isalpha() and limit:
            seen.update({sign: 1})
        else:
            limit -= 1
    while limit > 0: limit = limit - 1

    return sorted([len(x) for x in seen.values()])[1:limit]
assert count(??, 4) == [1, (2, 'b')]"""
AMOUNTS = (
    "It takes 1,250 days.",
    "at about 7 of them",
    "not 0.5",
    "II and III",
    "$x^2$",
    "no metals",
)
METALS = ("mercury", "iron", "all of the above", "copper 29", "gold")
TEXTS = (
    PROSE,
    MATHS,
    CODE,
    render(CHOICE, METALS, "upper-paren-letter"),
    "",
    "世界はひとつ ¿qué? 🙂",
)


def statistics() -> TokenStatistics:
    rng = np.random.default_rng(0)
    size = N_WORDS + N_PIECES
    return TokenStatistics(
        log_frequency=rng.uniform(-14, -3, size).astype(np.float32),
        is_wordpiece=np.arange(size) >= N_WORDS,
    )


TOKENS = statistics()
STATIC = StaticEncoder.load()


def ids_of(text: str) -> IntArray:
    """A stand-in for WordPiece: words of more than six letters have a second piece."""
    ids: list[int] = []
    for piece in PIECE.findall(text.lower()):
        code = zlib.crc32(piece.encode("utf-8", "surrogatepass"))
        ids.append(code % N_WORDS)
        if len(piece) > 6:
            ids.append(N_WORDS + code % N_PIECES)
    return np.array(ids, dtype=np.int32)


def features(text: str, **context: int) -> dict[str, float]:
    row = structure_features(text, ids_of(text), TOKENS, **context)
    return dict(zip(FEATURE_NAMES, row.tolist(), strict=True))


def test_every_feature_has_a_name_of_its_own() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == N_FEATURES
    row = structure_features(PROSE, ids_of(PROSE), TOKENS)
    assert row.shape == (N_FEATURES,)
    assert row.dtype == np.float32


# What options, code, numbers and odd alphabets are made of.
FRAGMENTS = [
    "A) 7.5", "\nA) iron", "\nB) no", "\nC) 1e9", "\nD) None of the above.", "\n(a) neither",
    "\n(b) of the ring", "\n(c) I and II", "\n- 1,234", "\n- $x^2$", "?", "? ", ". ", ".\n", " ",
    "What is", "If the", "Find not all", "the ring of the third", "which isn't", "they’re", "“so”",
    "def f(x, y):\n    for i in x[1:2]:\n", "        x.append(i)\n", "    return x - 1\n",
    "assert f(1) == ??", "assert f(??) == [1, ('a', 2)]\nimport os", "while True: x += 1",
    "1,250", "0.5", "3.14", "12,34", "00", "9" * 17, "__", "...", "\\frac{1}{2}", "a=b", "!",
    "é ½ ² \u0663", "Привет", "κόσμε", "שלום", "世界", "🙂", "\ud800", "\x85", "\xa0", "\x1c",
    "k" * 300, "constantinople",
]  # fmt: skip


def assert_like_the_reference(text: str) -> None:
    """Tokens are those of the ask's own words, so each part is known to have its own."""
    ask = read_ask(text)
    dealt = [ids_of(part) for part in (ask.stem, *ask.options)]
    ends = np.cumsum([len(own) for own in dealt]).tolist()
    ids = np.concatenate(dealt)
    continues = TOKENS.is_wordpiece[ids]
    n_words = int((~continues[: ends[0]]).sum())
    row = ask_features(ask, ids, TOKENS, parts=PartPieces(ids, ends, n_words))
    wanted = reference_features(
        ask.stem,
        ask.options,
        TOKENS.log_frequency[ids].tolist(),
        continues.tolist(),
        list(pairwise([0, *ends])),
    )
    expected = [wanted.pop(name, 0.0) for name in FEATURE_NAMES]
    assert not wanted
    np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=12)), max_size=16))
def test_every_figure_is_that_of_the_slow_reference(pieces: list[str]) -> None:
    assert_like_the_reference("".join(pieces))
    assert_like_the_reference(" ".join(pieces))


@pytest.mark.parametrize("style", TEMPLATES)
def test_every_figure_of_a_rendering_is_that_of_the_slow_reference(style: str) -> None:
    cases = ((PROSE, ()), (MATHS, ()), (CODE, ()), (LOOPS, ()), (CHOICE, METALS), (CHOICE, AMOUNTS))
    for text, choices in cases:
        assert_like_the_reference(render(text, choices, style))


@given(st.lists(st.sampled_from([*FRAGMENTS, "Answer:", "Hi! "]), max_size=16).map("".join))
def test_tokens_dealt_by_the_tokeniser_and_found_in_the_text_are_the_same(text: str) -> None:
    words = STATIC.words
    ask = read_ask(text)
    parts = words.ids_of_parts((ask.stem, *ask.options))
    canonical = ask.canonical()
    if parts is None:
        assert not canonical.text.isascii() or not canonical.text.replace("\n", " ").isprintable()
        return
    statistics = TokenStatistics(
        log_frequency=STATIC.log_frequency,
        is_wordpiece=STATIC.is_wordpiece,
    )
    np.testing.assert_array_equal(
        ask_features(ask, parts.ids, statistics, parts=parts),
        ask_features(canonical, np.array(words.ids(canonical.text), dtype=np.int32), statistics),
    )


@given(st.text(max_size=400))
def test_any_text_has_finite_features(text: str) -> None:
    row = structure_features(text, ids_of(text), TOKENS)
    assert np.isfinite(row).all()


@given(st.text(alphabet=st.characters(categories=["Cs", "Cc", "Mn", "So"]), max_size=60))
def test_surrogates_controls_and_marks_have_finite_features(text: str) -> None:
    assert np.isfinite(structure_features(text, ids_of(text), TOKENS)).all()


@given(
    st.lists(
        st.sampled_from(["A) 7.5", "\n", "B) no", "C) 1e9", "?", "def f(x):", "assert ", "??"])
    )
)
def test_odd_mixtures_of_options_and_code_have_finite_features(pieces: list[str]) -> None:
    text = " ".join(pieces)
    assert np.isfinite(structure_features(text, ids_of(text), TOKENS)).all()


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "1,000." * 900, "\0" * 50, "\ud800\udfff", "\n" * 300, "$" * 999, "(" * 999, "??"],
)
def test_extreme_texts_have_moderate_features(text: str) -> None:
    row = structure_features(text, ids_of(text), TOKENS)
    assert np.isfinite(row).all()
    assert np.abs(row).max() < 120


@given(st.text(max_size=80), st.lists(st.integers(0, N_WORDS + N_PIECES - 1), max_size=80))
def test_tokens_that_do_not_fit_the_text_are_no_error(text: str, ids: list[int]) -> None:
    row = structure_features(
        f"Hello! {text}? (A) x (B) y (C) z", np.array(ids, dtype=np.int32), TOKENS
    )
    assert np.isfinite(row).all()


def test_a_batch_equals_its_rows_exactly() -> None:
    ids = [ids_of(text) for text in TEXTS]
    matrix = structure_matrix(TEXTS, ids, TOKENS)
    for row, text, own in zip(matrix, TEXTS, ids, strict=True):
        np.testing.assert_array_equal(row, structure_features(text, own, TOKENS))


def test_a_batch_needs_tokens_for_each_text() -> None:
    with pytest.raises(InputError, match="2 texts came with 1 arrays"):
        structure_matrix(["x", "y"], [ids_of("x")], TOKENS)


@pytest.mark.parametrize("style", [name for name in TEMPLATES if not name.startswith("chat")])
def test_features_of_a_choice_do_not_depend_on_its_rendering(style: str) -> None:
    bare = features(render(CHOICE, METALS, "bare"))
    other = features(render(CHOICE, METALS, style))
    assert other == pytest.approx(bare, abs=1e-4)


@pytest.mark.parametrize("style", TEMPLATES)
def test_features_of_code_do_not_depend_on_its_rendering(style: str) -> None:
    assert features(render(CODE, (), style)) == pytest.approx(features(CODE), abs=1e-4)


@pytest.mark.parametrize("text", TEXTS)
def test_the_canonical_ask_has_the_features_of_the_text(text: str) -> None:
    ask = read_ask(text).canonical()
    row = ask_features(ask, ids_of(ask.text), TOKENS)
    whole = structure_features(text, ids_of(text), TOKENS)
    np.testing.assert_allclose(row, whole, atol=1e-4)


def test_options_are_described_apart_from_the_stem() -> None:
    found = features(render(CHOICE, METALS, "bare"))
    assert found["has_options"] == 1.0
    assert found["n_options"] == 5.0
    assert found["option_all_above"] == 1.0
    assert found["option_none_above"] == 0.0
    assert found["ends_question"] == 1.0
    assert found["log_chars"] == pytest.approx(np.log1p(len(CHOICE)))


def test_numeric_options_are_measured() -> None:
    found = features(render("How many?", ("1", "10", "100.5"), "bare"))
    assert found["option_numeric_share"] == 1.0
    assert found["option_decimal_share"] == pytest.approx(1 / 3)
    assert found["option_number_log_spread"] == pytest.approx(np.log1p(100.5) - np.log1p(1), 1e-5)


def test_an_open_question_has_no_option_figures() -> None:
    found = features(PROSE)
    assert [name for name, value in found.items() if "option" in name and value] == []


def test_prose_has_no_code_figures_and_code_has() -> None:
    assert not any(v for k, v in features(PROSE).items() if k.startswith(("code_", "assert_")))
    found = features(CODE)
    assert found["has_code"] == 1.0
    assert found["code_depth"] == 3.0
    assert found["code_arguments"] == pytest.approx(np.sqrt(2))
    assert found["code_loops"] == 1.0
    assert found["assert_open_output"] == 1.0
    assert found["assert_open_input"] == 0.0


def test_the_open_side_of_an_assertion_is_told_apart() -> None:
    found = features("def f(x):\n    return x\nassert f(??) == 'ab'")
    assert found["assert_open_input"] == 1.0
    assert found["assert_open_output"] == 0.0
    assert found["assert_log_text_length"] == pytest.approx(np.log1p(2))


def test_numbers_are_counted_and_sized() -> None:
    found = features(MATHS)
    assert found["number_log_max"] == pytest.approx(np.log1p(1250), 1e-5)
    assert found["root_numbers"] == pytest.approx(np.sqrt(7))
    assert found["number_decimal_share"] == pytest.approx(1 / 7)
    assert found["root_tex"] == pytest.approx(np.sqrt(2))


def test_cue_words_count_whatever_their_case_and_apostrophe() -> None:
    assert features("NOT that. It isn’t. It isn't.")["cue_not"] == pytest.approx(np.sqrt(3))


def test_scripts_are_told_apart() -> None:
    found = features("Привет κόσμε 世界 🙂")
    for name in ("share_cyrillic", "share_greek", "share_cjk", "share_astral"):
        assert found[name] > 0


def test_rarity_is_read_from_the_tokens_of_the_stem() -> None:
    text = "iron copper"
    frequency = TOKENS.log_frequency[ids_of(text)]
    wrapped = f"Hello! {text}\n\nAnswer with one word only."
    for found in (features(text), features(wrapped)):
        assert found["rarity_mean"] == pytest.approx(float(frequency.mean()), 1e-5)
        assert found["rarity_rarest"] == pytest.approx(float(frequency.min()), 1e-5)


def test_context_is_logged() -> None:
    found = features(PROSE, n_turns=4, n_tools=3, n_media=1, n_chars=10 * len(PROSE))
    assert found["log_turns"] == pytest.approx(np.log(4))
    assert found["log_tools"] == pytest.approx(np.log(4))
    assert found["log_media"] == pytest.approx(np.log(2))
    assert found["log_unread"] == pytest.approx(np.log(10))
    assert {**found, "log_turns": 0, "log_tools": 0, "log_media": 0, "log_unread": 0} == features(
        PROSE
    )


def test_of_a_long_text_head_and_tail_are_read() -> None:
    half = MAX_CHARS // 2
    head, tail = ("ice " * half)[:half], ("fog " * half)[:half]
    long = features(head + "sun " * 9000 + tail)
    assert long["log_unread"] > 1.0
    short = features(head + "\n" + tail)
    for name in ("log_chars", "log_words", "type_token_ratio"):
        assert long[name] == pytest.approx(short[name], abs=1e-3)


def test_one_window_is_the_text_and_more_are_joined_at_the_ends() -> None:
    np.testing.assert_array_equal(
        structure_features_windows([PROSE], [ids_of(PROSE)], TOKENS, n_tools=2),
        structure_features(PROSE, ids_of(PROSE), TOKENS, n_tools=2),
    )
    windows = [PROSE, "something in between", MATHS]
    joined = PROSE + "\n" + MATHS
    np.testing.assert_array_equal(
        structure_features_windows(windows, [ids_of(window) for window in windows], TOKENS),
        structure_features(joined, ids_of(joined), TOKENS),
    )


def test_windows_need_their_tokens() -> None:
    with pytest.raises(InputError, match="0 windows"):
        structure_features_windows([], [], TOKENS)
    with pytest.raises(InputError, match="1 windows came with 2"):
        structure_features_windows(["x"], [ids_of("x")] * 2, TOKENS)


def test_statistics_of_two_vocabularies_are_refused() -> None:
    with pytest.raises(InputError, match="disagree on the vocabulary"):
        TokenStatistics(
            log_frequency=TOKENS.log_frequency[:-1],
            is_wordpiece=TOKENS.is_wordpiece,
        )
