"""The small set of domains in which a prompt is described to people.

A domain is read from the text by a classifier trained on the tasks of the calibration
records, whose names are mapped here; requests that declare tools are `tool use` whatever
their text.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

DOMAINS: dict[str, str] = {
    "mathematics": "calculation, algebra, proofs, word problems",
    "code": "writing, reading and predicting programs",
    "science": "physics, chemistry, biology, engineering",
    "health": "medicine, nutrition, anatomy",
    "law": "statutes, cases, legal reasoning",
    "business": "economics, finance, accounting, management",
    "humanities": "history, philosophy, language",
    "social science": "psychology, sociology, politics",
    "puzzles": "procedural logic, games, induction, symbol manipulation",
    "chat": "open-ended requests: advice, writing, explanation",
    "general": "knowledge questions of no single field",
    "tool use": "requests that declare tools",
}

# Task names of the calibration records and of common benchmarks; the first match counts.
_PATTERNS: tuple[tuple[str, str], ...] = (
    ("*computer*science*", "code"),
    ("*code*", "code"),
    ("*crux*", "code"),
    ("*mbpp*", "code"),
    ("*humaneval*", "code"),
    ("*bfcl*", "tool use"),
    ("*gsm*", "mathematics"),
    ("*/math*", "mathematics"),
    ("*arithmetic*", "mathematics"),
    ("*algebra*", "mathematics"),
    ("*geometry*", "mathematics"),
    ("*probability*", "mathematics"),
    ("rg_*", "puzzles"),
    ("*physics*", "science"),
    ("*chemistry*", "science"),
    ("*biology*", "science"),
    ("*engineering*", "science"),
    ("*arc-c*", "science"),
    ("*health*", "health"),
    ("*medic*", "health"),
    ("*law*", "law"),
    ("*econom*", "business"),
    ("*business*", "business"),
    ("*history*", "humanities"),
    ("*philosophy*", "humanities"),
    ("*psychology*", "social science"),
    ("*alpaca*", "chat"),
)


def domain_of_task(task: str) -> str:
    """The domain of a task of evaluation records, by its name; `general` where none fits."""
    name = task.casefold()
    for pattern, domain in _PATTERNS:
        if fnmatchcase(name, pattern):
            return domain
    return "general"
