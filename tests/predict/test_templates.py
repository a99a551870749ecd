"""Renderings are deterministic, varied, and read back as the question they were made from."""

from __future__ import annotations

from collections import Counter

import pytest

from zerorouter.errors import UnknownNameError
from zerorouter.predict.options import read_ask
from zerorouter.predict.templates import TEMPLATES, parse_choices, render, template_for

STEM = "Which instrument has strings that are struck by hammers?"
OPTIONS = ("the violin", "the piano", "the oboe", "the drum", "the flute")
CODE = "def h(n):\n    return [n] * n\nassert h(2) == ??"
PLAIN = "A tap fills 9 litres in 3 minutes. How long does it take to fill 24 litres?"
CHAT = tuple([name for name in TEMPLATES if name.startswith("chat")])


@pytest.mark.parametrize("style", TEMPLATES)
def test_a_rendered_choice_is_read_back(style: str) -> None:
    for seed in range(8):
        ask = read_ask(render(STEM, OPTIONS, style, seed=seed))
        assert ask.options == OPTIONS
        assert ask.stem == STEM or (style in CHAT and ask.stem.endswith(STEM))


@pytest.mark.parametrize("style", TEMPLATES)
def test_rendered_code_is_read_back(style: str) -> None:
    for seed in range(4):
        assert read_ask(render(CODE, (), style, seed=seed)).stem == CODE


@pytest.mark.parametrize("style", [name for name in TEMPLATES if name not in CHAT])
def test_a_rendered_plain_question_is_read_back(style: str) -> None:
    for seed in range(4):
        assert read_ask(render(PLAIN, (), style, seed=seed)).stem == PLAIN


def test_code_loses_the_wrapper_of_its_record() -> None:
    wrapped = f"Some benchmark says what to do.\n\n[TAG]\n{CODE}\n[/TAG]"
    assert render(wrapped, (), "bare") == CODE


def test_renderings_differ() -> None:
    assert len({render(STEM, OPTIONS, style) for style in TEMPLATES}) == len(TEMPLATES)


def test_the_template_of_a_key_never_changes() -> None:
    assert template_for("prompt-1", 0) == template_for("prompt-1", 0)
    assert [template_for(f"prompt-{n}", 3) for n in range(4)] == [
        "upper-colon",
        "shots-upper-dot",
        "chat-upper-paren",
        "options-line",
    ]


def test_templates_are_drawn_about_equally() -> None:
    drawn = Counter([template_for(str(n), 7) for n in range(2000)])
    assert set(drawn) == set(TEMPLATES)
    assert max(drawn.values()) < 3 * min(drawn.values())


def test_an_unknown_style_is_named_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'bullets'"):
        render(STEM, OPTIONS, "bulets")


@pytest.mark.parametrize(
    ("column", "options"),
    [
        (None, ()),
        ("", ()),
        ("not json", ()),
        ('{"name": "tool"}', ()),
        ('[{"name": "tool"}]', ()),
        ('["x", "y"]', ("x", "y")),
    ],
)
def test_only_lists_of_texts_are_options(column: str | None, options: tuple[str, ...]) -> None:
    assert parse_choices(column) == options
