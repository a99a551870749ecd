"""Figures of program text: nesting, loops, calls, and the assertion that is to be completed."""

from __future__ import annotations

import re
from math import log1p, sqrt
from typing import Final

CODE_NAMES: Final = (
    "has_code", "code_log_lines", "code_depth", "code_mean_indent", "code_functions",
    "code_loops", "code_branches", "code_arguments", "code_comprehensions", "code_slices",
    "code_method_calls", "code_distinct_methods", "code_string_calls", "code_container_calls",
    "code_mutations", "code_returns", "code_arithmetic", "code_nested_calls", "code_imports",
    "assert_open_output", "assert_open_input", "assert_arguments", "assert_log_length",
    "assert_log_text_length", "assert_depth", "assert_number_share", "assert_boolean",
)  # fmt: skip

_CALL = re.compile(r"\.(\w+)\(")
# Tables of words read better than lists of literals.
STRING_METHODS: Final = frozenset(
    """
    upper lower strip lstrip rstrip split rsplit join replace find rfind index startswith endswith
    isdigit isalpha isalnum isupper islower isspace isnumeric isdecimal isidentifier istitle title
    capitalize swapcase casefold zfill center ljust rjust format translate maketrans encode decode
    partition rpartition splitlines expandtabs removeprefix removesuffix count
    """.split()  # noqa: SIM905
)
CONTAINER_METHODS: Final = frozenset(
    """
    append extend insert pop remove sort reverse clear copy get keys values items update setdefault
    popitem fromkeys add discard union intersection
    """.split()  # noqa: SIM905
)
_MUTATING_METHODS: Final = frozenset(
    "append pop remove insert extend update clear sort reverse".split()  # noqa: SIM905
)
_KEYWORDS: Final = {
    **dict.fromkeys(("for", "while"), "loop"),
    **dict.fromkeys(("if", "elif", "else", "try", "except", "case", "switch"), "branch"),
}
_WORD = re.compile(r"\w+")
_BRACKETS: Final = b"()[]{}"
_NO_BRACKET: Final = bytes([code for code in range(256) if code not in _BRACKETS])
_ARGUMENTS = re.compile(r"\bdef\s+\w+\s*\(([^()\n]{0,300})\)")
_SLICE = re.compile(r"\[[^\[\]\n]{0,40}:[^\[\]\n]{0,40}\]")
_TEXT_LITERAL = re.compile(r"'([^'\n]{0,400})'|\"([^\"\n]{0,400})\"")


def looks_like_code(stem: str) -> bool:
    """Whether a text holds program text, cheaply."""
    return (
        "def " in stem
        or "return " in stem
        or "class " in stem
        or "function " in stem
        or "public " in stem
        or ("`" in stem and "```" in stem)  # one character is found in a tenth of the time
        or ("#" in stem and "#include" in stem)
    )


def code_features(stem: str) -> tuple[float, ...]:
    """Figures of the program text in a stem, in the order of `CODE_NAMES`."""
    rows = stem.split("\n")
    bodies = list(map(str.lstrip, rows))
    indents = [len(row) - len(body) for row, body in zip(rows, bodies, strict=True) if body]
    n_lines = len(indents)
    unit = min(filter(None, indents), default=4)
    called = _CALL.findall(stem)
    arguments = _ARGUMENTS.search(stem)
    # All words, then a dictionary: half the time of two expressions for words of their own.
    keywords = list(filter(None, map(_KEYWORDS.get, _WORD.findall(stem))))
    statements = sum([body.startswith(("for ", "while ")) for body in bodies])
    mutations = sum(map(_MUTATING_METHODS.__contains__, called))
    return (
        1.0,
        log1p(n_lines),
        min(max(indents, default=0) / unit, 10.0),
        min(sum(indents) / (4.0 * max(n_lines, 1)), 5.0),
        sqrt(stem.count("def ")),
        sqrt(statements),
        sqrt(keywords.count("branch")),
        sqrt(arguments[1].count(",") + 1) if arguments and arguments[1].strip() else 0.0,
        sqrt(max(keywords.count("loop") - statements, 0)),
        sqrt(len(_SLICE.findall(stem))),
        sqrt(len(called)),
        sqrt(len(set(called))),
        sqrt(sum(map(STRING_METHODS.__contains__, called))),
        sqrt(sum(map(CONTAINER_METHODS.__contains__, called))),
        sqrt(mutations + stem.count("del ") + stem.count("+=") + stem.count("-=")),
        sqrt(stem.count("return")),
        sqrt(stem.count(" + ") + stem.count(" - ") + stem.count(" * ") + stem.count(" % ")),
        sqrt(stem.count("))")),
        sqrt(stem.count("import ")),
        *_assertion(stem),
    )


def _assertion(stem: str) -> tuple[float, ...]:
    """The last assertion: which side is open, and how large the literals on the other are."""
    start = stem.rfind("assert ")
    if start < 0:
        return (0.0,) * 8
    end = stem.find("\n", start)
    line = stem[start + 7 : len(stem) if end < 0 else end][:4000]
    gap = line.find("??")
    equals = line.rfind("==")
    open_output = gap > equals >= 0
    literal = line[line.find("(") + 1 : equals] if open_output else line[equals + 2 :]
    texts = _TEXT_LITERAL.findall(literal)
    depth = deepest = 0
    for bracket in literal.encode("utf-8", "surrogatepass").translate(None, _NO_BRACKET):
        if bracket in b"([{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return (
        1.0 if open_output else 0.0,
        1.0 if 0 <= gap < equals else 0.0,
        sqrt(literal.count(",") + 1),
        log1p(len(literal)),
        log1p(sum([len(single) + len(double) for single, double in texts])),
        float(min(deepest, 10)),
        sum(map(str.isdigit, literal)) / max(len(literal), 1),
        1.0 if "True" in literal or "False" in literal or "None" in literal else 0.0,
    )
