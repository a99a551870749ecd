"""Realistic renderings of evaluation records, used when a space is fitted.

Records hold a question and its options apart; a request is one raw text. Each training prompt goes
through one rendering picked by a stable hash, so that no layout, instruction or preamble can come
to stand for difficulty. All wording here is our own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zerorouter.errors import UnknownNameError
from zerorouter.predict.options import open_assertion


@dataclass(frozen=True, slots=True)
class _Template:
    """One way in which people and harnesses write the same question."""

    layout: str  # of options
    instruction: str = ""  # "", "letter", "steps", "chat"
    prefix: str = ""  # "", "system", "shots", "marked", "chat"
    fence: bool = False


_TEMPLATES: Final[dict[str, _Template]] = {
    "bare": _Template("upper_paren"),
    "upper-paren-letter": _Template("upper_paren", "letter", fence=True),
    "upper-dot-steps": _Template("upper_dot", "steps", "marked"),
    "upper-bracket-system": _Template("upper_bracket", "letter", "system", fence=True),
    "upper-colon": _Template("upper_colon", "letter", "marked"),
    "lower-bracket": _Template("lower_bracket", "", "", fence=True),
    "lower-paren-steps": _Template("lower_paren", "steps", "system"),
    "number-dot-letter": _Template("number_dot", "letter", "marked", fence=True),
    "number-paren": _Template("number_paren", "letter"),
    "bullets": _Template("bullets", "letter"),
    "bullets-headed": _Template("bullets_headed", "", "system", fence=True),
    "inline-bracket": _Template("inline_bracket"),
    "inline-paren-letter": _Template("inline_paren", "letter", "marked"),
    "options-line": _Template("options_line", "", fence=True),
    "shots-upper-dot": _Template("upper_dot", "", "shots", fence=True),
    "shots-upper-paren-steps": _Template("upper_paren", "steps", "shots"),
    "chat-upper-paren": _Template("upper_paren", "", "chat"),
    "chat-upper-dot-thanks": _Template("upper_dot", "chat", "chat", fence=True),
    "chat-bullets-thanks": _Template("bullets", "chat", ""),
}
TEMPLATES: Final[tuple[str, ...]] = tuple(_TEMPLATES)

_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# The lists of `wrapping` do not know all of these, on purpose: what they miss in real requests
# must not surprise the predictor either. Few, since what they miss also blurs the fit.
_CHAT_OPENINGS: Final = (
    "Hi there, ",
    "This came up at work today and nobody was sure:\n",
    "# Practice\n\n",
    "Could you help me with this? ",
    "Saw this on a forum and have been thinking about it since. ",
)
_CHAT_CLOSINGS: Final = (
    "I keep changing my mind about this one, what would you say?",
    "Thanks, much appreciated!",
    "My colleague and I disagree, so a short reason would be nice too.",
)
_INSTRUCTION_TEXTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "choice": {
        "chat": _CHAT_CLOSINGS,
        "letter": (
            "Answer with the letter of the option you believe is right.",
            "Reply with just one option, nothing more.",
            "Pick the best option and give its label only.",
        ),
        "steps": (
            "Think it through step by step, then name your choice on the last line.",
            "Work carefully, step by step, and finish with the label of the correct option.",
        ),
    },
    "open": {
        "chat": _CHAT_CLOSINGS,
        "letter": (
            "Give only the final answer.",
            "Respond with the answer alone, without an explanation.",
        ),
        "steps": (
            "Please reason step by step and put the final answer on its own line.",
            "Show your working, then state the final answer after 'Answer:'.",
        ),
    },
    "code": {
        "chat": _CHAT_CLOSINGS,
        "letter": (
            "Reply with only the value that belongs in place of the question marks.",
            "Output just the completed assertion, without any explanation.",
        ),
        "steps": (
            "Trace the code step by step, then give the final answer.",
            "Think carefully about what each line does and finish with the completed assertion.",
        ),
    },
}
_SYSTEM_TEXTS: Final = (
    "You are a careful assistant with a broad education.",
    "You are an expert tutor. Answer the following question as well as you can.",
)
_SHOTS: Final[dict[str, str]] = {
    "choice": (
        "Question: Which of these animals lays eggs?\n{shot_options}\nAnswer: {shot_label}\n\n"
        "Question: "
    ),
    "open": (
        "Question: A box holds 4 pens and I buy 3 boxes. How many pens do I own?\nAnswer: 12\n\n"
        "Question: "
    ),
    "code": ("Question:\ndef f(x):\n    return x + 1\nassert f(4) == ??\nAnswer: 5\n\nQuestion:\n"),
}
_SHOT_OPTIONS: Final = ("cat", "hen", "whale")


def template_for(key: str, seed: int) -> str:
    """The template of ``TEMPLATES`` that a prompt id draws under a seed, the same on every run."""
    return TEMPLATES[_stable_hash(f"{seed}\x1f{key}") % len(TEMPLATES)]


def parse_choices(choices: str | None) -> tuple[str, ...]:
    """The options in a ``choices`` column: a JSON list of texts; anything else has none."""
    if not choices:
        return ()
    try:
        values = json.loads(choices)
    except ValueError:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return ()
    return tuple(values)


def render(text: str, choices: Sequence[str] = (), style: str = "bare", *, seed: int = 0) -> str:
    """Write a question as a user or a harness would.

    Args:
        text: The question of a record, or a function with an assertion to complete.
        choices: Its options, empty for an open question.
        style: One of `TEMPLATES`.
        seed: Picks among equivalent wordings of the same instruction.

    Raises:
        UnknownNameError: ``style`` is not a template.
    """
    template = _TEMPLATES.get(style)
    if template is None:
        raise UnknownNameError("template", style, TEMPLATES)
    code = None if choices or "??" not in text else open_assertion(text)
    kind = "choice" if choices else "code" if code else "open"
    if choices:
        body = _with_options(text, choices, template.layout)
    elif code:
        body = _code_body(text[code[0] : code[1]], template, seed)
    else:
        body = text
    parts = [_prefix(template, kind, text, seed) + body]
    if template.instruction:
        parts.append(_pick(_INSTRUCTION_TEXTS[kind][template.instruction], text, seed))
    elif template.prefix in ("shots", "marked"):
        parts.append("Answer:")
    return ("\n" if template.prefix == "shots" else "\n\n").join(parts)


def _pick(wordings: Sequence[str], text: str, seed: int) -> str:
    """One of the wordings, by a stable hash: no wording may go with the length of a prompt."""
    return wordings[_stable_hash(f"{seed}\x1f{len(wordings)}\x1f{text}") % len(wordings)]


def _stable_hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def _prefix(template: _Template, kind: str, text: str, seed: int) -> str:
    if template.prefix == "system":
        return _pick(_SYSTEM_TEXTS, text, seed) + "\n\n"
    if template.prefix == "chat":
        return _pick(_CHAT_OPENINGS, text, seed)
    if template.prefix == "marked":
        return "Question:\n" if kind == "code" else "Question: "
    if template.prefix == "shots":
        shots = _SHOTS[kind]
        if kind != "choice":
            return shots
        return shots.replace(
            "{shot_options}", _option_block(_SHOT_OPTIONS, template.layout)
        ).replace("{shot_label}", _label(1, template.layout))
    return ""


def _code_body(code: str, template: _Template, seed: int) -> str:
    if not template.fence:
        return code
    asked = (
        "What belongs in place of ?? so that the assertion holds?",
        "Fill in the ?? below.",
        "Here is a function and an unfinished assertion.",
    )
    return f"{_pick(asked, code, seed)}\n\n```python\n{code}\n```"


def _with_options(text: str, choices: Sequence[str], layout: str) -> str:
    block = _option_block(choices, layout)
    if layout.startswith("inline"):
        return f"{text} {block}"
    if layout == "bullets_headed":
        return f"{text}\n\nOptions:\n{block}"
    if layout == "bullets":
        return f"{text}\nWhich option is correct?\n{block}"
    return f"{text}\n{block}"


def _label(index: int, layout: str) -> str:
    upper = _LETTERS[index % 26]
    return {
        "upper_paren": f"{upper})",
        "upper_dot": f"{upper}.",
        "upper_bracket": f"({upper})",
        "upper_colon": f"{upper}:",
        "lower_bracket": f"({upper.lower()})",
        "lower_paren": f"{upper.lower()})",
        "number_dot": f"{index + 1}.",
        "number_paren": f"{index + 1})",
        "bullets": "-",
        "bullets_headed": "*",
        "inline_bracket": f"({upper})",
        "inline_paren": f"{upper})",
    }[layout]


def _option_block(choices: Sequence[str], layout: str) -> str:
    if layout == "options_line":
        joined = " ".join(choices)
        separator = next((mark for mark in (" | ", "; ", " / ") if mark not in joined), " | ")
        return "Options: " + separator.join(choices)
    joiner = " " if layout.startswith("inline") else "\n"
    return joiner.join(
        [f"{_label(index, layout)} {choice}" for index, choice in enumerate(choices)]
    )
