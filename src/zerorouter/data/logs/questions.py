"""The bare question of a log's document: its text, its options, its right answer.

Tools store a document as its data set has it, so the question stands under many names. The tables
below say under which; they were reviewed against the tasks of lm-evaluation-harness. What a
document calls a passage or a context belongs to the question and is put in front of it. Prompts
are never taken apart: they hold instructions and worked examples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, Final

from zerorouter.data.logs.records import Question, cleaned

STEM_FIELDS: Final = (
    *("question", "Question", "QUESTION", "query", "problem", "Problem", "question_stem", "sent1"),
    *("goal", "instruction", "prompt", "input", "ctx", "sentence", "text"),
)
"""Fields that hold what is asked; the first that holds text counts."""

CONTEXT_FIELDS: Final = (
    *("passage", "context", "article", "narrative", "support", "story", "background"),
    *("body", "Body", "CONTEXTS"),
)
"""Fields that hold what the question is about: text, or a list of texts."""

OPTION_FIELDS: Final = ("choices", "options", "endings", "Choices", "Options")
"""Fields that hold options: a list, ``{"text": [...]}``, or texts by letter."""

OPTION_FAMILIES: Final = ("ending", "sol", "option", "choice", "opt")
"""Fields that are numbered, ``option1, option2, ...``, from 0 or from 1."""

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
_FIELD = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*(?:\||-?\}\})")
_MEDIA_PARTS: Final = ("image", "audio", "video", "document", "data")


def question_of(
    document: Mapping[str, Any],
    *,
    task: str | None,
    target: Any = None,
    target_is_index: bool = False,
    template: str | None = None,
) -> Question | None:
    """The question of a document, or None where no known field holds one.

    Args:
        document: As the data set has it.
        task: The benchmark's name.
        target: The right answer as the tool logged it: a text, a letter, or an option's index.
        target_is_index: Whether a number is an option's index rather than a text.
        template: How the tool wrote the question (lm-eval's ``doc_to_text``): names the field
            where that is none of `STEM_FIELDS`.
    """
    shape = _shape(tuple(document))
    stem = _first_text(document, shape.stems) or _by_template(document, template)
    if stem is None:
        return None
    if shape.contexts or shape.is_instruction:
        extra = document.get("input") if shape.is_instruction else None
        parts = [*_contexts(document, shape.contexts), stem, extra]
        stem = "\n\n".join(part.strip() for part in parts if isinstance(part, str) and part.strip())
    choices = _options_by(document, shape)
    return Question(
        text=cleaned(stem.strip()),
        choices=choices,
        reference=reference_of(target, choices, is_index=target_is_index),
        task=task,
    )


def options_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The options a document lists, in order; empty where it lists fewer than two."""
    return _options_by(document, _shape(tuple(document)))


def reference_of(target: Any, choices: Sequence[str], *, is_index: bool = False) -> str | None:
    """The right answer as text; of a choice its letter, whichever way the log spells it."""
    if isinstance(target, list | tuple):
        target = target[0] if len(target) == 1 else None
    if isinstance(target, bool) or not isinstance(target, str | int | float):
        return None
    text = str(target).strip()
    if not choices:
        return cleaned(text) or None
    index = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1
    if (isinstance(target, int) or is_index) and 0 <= index < min(len(choices), len(LETTERS)):
        return LETTERS[index]
    letter = _LETTER.fullmatch(text)
    if letter and letter[1].upper() in LETTERS[: len(choices)]:
        return letter[1].upper()
    places = [i for i, option in enumerate(choices) if option.strip() == text]
    if len(places) == 1 and places[0] < len(LETTERS):
        return LETTERS[places[0]]
    if 0 <= index < min(len(choices), len(LETTERS)):
        return LETTERS[index]
    return cleaned(text) or None


def last_user_message(messages: Any) -> tuple[str | None, bool, bool]:
    """What the user said last in a list of messages.

    Returns:
        The text (None where there is none), whether worked examples stand apart from it in
        earlier messages, and whether the message holds an image, a sound or a file.
    """
    if not isinstance(messages, list):
        return None, False, False
    said = [m for m in messages if isinstance(m, dict)]
    asked = [i for i, message in enumerate(said) if message.get("role") == "user"]
    if not asked:
        return None, False, False
    content = said[asked[-1]].get("content")
    apart = any(message.get("role") == "assistant" for message in said[: asked[-1]])
    if isinstance(content, str):
        return cleaned(content).strip() or None, apart, content.startswith("attachment://")
    texts, media = [], False
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        kind = str(part.get("type"))
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        media |= any(kind.startswith(name) or kind.endswith(name) for name in _MEDIA_PARTS)
    return cleaned("\n".join(texts)).strip() or None, apart, media


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """Where documents with the same fields keep what; each tuple in order of preference."""

    stems: tuple[str, ...]
    contexts: tuple[str, ...]
    options: tuple[str, ...]
    numbered: tuple[str, ...]  # fields with one option each
    is_instruction: bool  # then ``input`` is what the instruction is about


@lru_cache(maxsize=256)
def _shape(names: tuple[str, ...]) -> _Shape:
    numbered: tuple[str, ...] = ()
    for family in OPTION_FAMILIES:
        first = 0 if f"{family}0" in names else 1
        numbered = numbered or _run(names, [f"{family}{first + i}" for i in range(len(LETTERS))])
    return _Shape(
        stems=tuple(name for name in STEM_FIELDS if name in names),
        contexts=tuple(name for name in CONTEXT_FIELDS if name in names),
        options=tuple(name for name in (*OPTION_FIELDS, "mc1_targets") if name in names),
        numbered=numbered or _run(names, LETTERS),
        is_instruction="instruction" in names and "input" in names,
    )


def _run(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The first of ``wanted`` up to one that is not among ``names``, if they are several."""
    there = tuple(takewhile(names.__contains__, wanted))
    return there if len(there) > 1 else ()


def _first_text(document: Mapping[str, Any], names: Sequence[str]) -> str | None:
    for name in names:
        value = document[name]
        if isinstance(value, str) and value and not value.isspace():
            return value
    return None


def _contexts(document: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    texts: list[str] = []
    for name in names:
        value = document[name]
        if isinstance(value, dict):
            value = value.get("contexts")
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list) and all(isinstance(part, str) for part in value):
            texts.extend(value)
    return texts


def _options_by(document: Mapping[str, Any], shape: _Shape) -> tuple[str, ...]:
    for name in shape.options:
        options = _as_options(document[name])
        if options:
            return options
    return _as_options([document[name] for name in shape.numbered])


def _by_template(document: Mapping[str, Any], template: str | None) -> str | None:
    """The text of the fields a template names, options left out, or of the field it is."""
    if not template:
        return None
    names = [template] if template in document else _FIELD.findall(template)
    texts = [document[name] for name in dict.fromkeys(names) if name not in OPTION_FIELDS
             and isinstance(document.get(name), str)]  # fmt: skip
    return "\n".join(text for text in texts if text.strip()) or None


def _as_options(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        listed = value.get("text", value.get("choices"))
        if not isinstance(listed, list) and value and all(len(key) == 1 for key in value):
            listed = list(value.values())  # texts by letter
        value = listed
    if not isinstance(value, list) or len(value) < 2:
        return ()
    if not all(isinstance(option, str | int | float) for option in value):
        return ()
    return tuple([cleaned(str(option)) for option in value])
