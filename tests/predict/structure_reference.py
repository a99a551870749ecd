"""The structural features once more, written to be read: the slow reference of `structure`.

One figure at a time, from the text itself, without tables over bytes or counts that are shared.
Tokens are dealt out by the caller, as (first, last) of the stem and of each option.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from itertools import pairwise
from math import log, log1p, sqrt

from zerorouter.predict.code_features import CONTAINER_METHODS, STRING_METHODS
from zerorouter.predict.cues import CUE_INDEX, CUE_NAMES

NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
OPENERS = {
    "opens_wh": "what which who how why when where",
    "opens_if": "if let suppose given assume consider for",
    "opens_find": (
        "find compute calculate determine evaluate solve simplify write prove show give explain "
        "describe"
    ),
    "opens_article": "a an the in on at",
}
SHARES = {
    "digit": "0123456789",
    "operator": "+*/=<>|~&%",
    "hyphen": "-",
    "tex": "\\^_",
    "dollar": "$",
    "brace": "{}",
    "bracket": "[]",
    "paren": "()",
    "quote": "\"'`",
    "comma": ",;",
    "period": ".",
    "colon": ":",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "newline": "\n",
    "space": " \t\r",
}
SCRIPTS = {  # first bytes of a character in UTF-8
    "latin": (0xC0, 0xCC),
    "greek": (0xCD, 0xCF),
    "cyrillic": (0xD0, 0xD3),
    "semitic_indic": (0xD4, 0xE1),
    "symbol": (0xE2, 0xE2),
    "cjk": (0xE3, 0xED),
    "astral": (0xEE, 0xFF),
}


def reference_features(
    stem: str,
    options: Sequence[str],
    log_frequency: Sequence[float],
    continues: Sequence[bool],
    cuts: Sequence[tuple[int, int]],
) -> dict[str, float]:
    """Features by name; those that are 0 may be left out.

    Args:
        stem: The question.
        options: Its options, empty for an open question.
        log_frequency: (T,) of every token.
        continues: (T,) whether a token continues a word.
        cuts: Where the tokens of the stem and of each option begin and end.
    """
    for curly, plain in zip("’‘“”–−", "''\"\"--", strict=True):
        stem = stem.replace(curly, plain)
    words = words_of(stem)
    n_tokens = cuts[0][1] - cuts[0][0]
    return {
        **sizes(stem, words, n_tokens),
        **shares(stem),
        **numbers(stem, words),
        **ending(stem, words),
        **rarity(words, log_frequency, continues, cuts),
        **(option_figures(options, words) if options else {}),
        **(code_figures(stem) if is_code(stem) else {}),
        **cues(words, [words_of(option) for option in options]),
    }


def words_of(text: str) -> list[str]:
    """Runs of letters in lower case; apostrophes are no letters and part nothing."""
    kept = ""
    for character in text:
        if not character.isascii() or character.isalpha():
            kept += character.lower() if character.isascii() else character
        elif character != "'":
            kept += " "
    return [word for word in kept.split(" ") if word]


def n_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def sizes(stem: str, words: list[str], n_tokens: int) -> dict[str, float]:
    n = len(words)
    sentences = 1 + stem.count(". ") + stem.count("? ") + stem.count(".\n")
    return {
        "log_chars": log1p(len(stem)),
        "log_words": log1p(n),
        "log_sentences": log(sentences),
        "log_tokens": log1p(n_tokens),
        "log_words_per_sentence": log1p(n / sentences),
        "mean_word_length": min(sum(map(n_bytes, words)) / max(n, 1), 20.0),
        "long_word_share": sum(n_bytes(word) > 6 for word in words) / max(n, 1),
        "very_long_word_share": sum(n_bytes(word) > 9 for word in words) / max(n, 1),
        "type_token_ratio": len(set(words)) / max(n, 1),
        "log_lines": log1p(stem.count("\n")),
    }


def shares(stem: str) -> dict[str, float]:
    n = max(len(stem), 1)
    found = {
        f"share_{name}": sum(character in members for character in stem) / n
        for name, members in SHARES.items()
    }
    firsts = [character.encode("utf-8", "surrogatepass")[0] for character in stem]
    for name, (low, high) in SCRIPTS.items():
        found[f"share_{name}"] = sum(low <= first <= high for first in firsts) / n
    roots = {"tex": "\\^_", "dollar": "$", "operator": SHARES["operator"], "question": "?"}
    for name, members in {**roots, "exclamation": "!", "equals": "="}.items():
        found[f"root_{name}"] = sqrt(sum(character in members for character in stem))
    return found


def numbers(stem: str, words: list[str]) -> dict[str, float]:
    found = NUMBER.findall(stem)
    if not found:
        return {}
    read = found[:200]
    values = [min(float(number.replace(",", "")), 1e15) for number in read]
    logs = [log1p(value) for value in values]
    n = len(read)
    return {
        "root_numbers": sqrt(len(found)),
        "numbers_per_word": min(len(found) / (len(words) + 1), 5.0),
        "number_log_max": max(logs),
        "number_log_mean": sum(logs) / n,
        "number_log_spread": max(logs) - min(logs),
        "number_decimal_share": sum("." in number for number in read) / n,
        "number_large_share": sum(value >= 1000 for value in values) / n,
        "number_small_share": sum(value <= 10 for value in values) / n,
        "number_distinct_share": len(set(read)) / n,
    }


def ending(stem: str, words: list[str]) -> dict[str, float]:
    last, before = stem[-1:], stem[-3:]
    blank = "__" in before or "..." in before
    begins = [
        place
        for place in range(len(stem) - 1)
        if stem[place] == "\n"
        or (place < len(stem) - 2 and stem[place : place + 2] in (". ", "? "))
    ]
    found = {
        "ends_question": last == "?",
        "ends_colon": last == ":",
        "ends_period": last == "." and not blank,
        "ends_blank": blank,
        "ends_word": last.isalnum(),
        "ends_dollar": "$" in before,
        "has_blank": "__" in stem,
        "log_last_sentence": log(len(stem) - max(begins, default=-1)),
    }
    for name, openers in OPENERS.items():
        found[name] = words[:1] != [] and words[0] in openers.split()
    return {name: float(value) for name, value in found.items()}


def rarity(
    words: list[str],
    log_frequency: Sequence[float],
    continues: Sequence[bool],
    cuts: Sequence[tuple[int, int]],
) -> dict[str, float]:
    first, last = cuts[0]
    own = sorted(log_frequency[first:last])
    n = len(own)
    if not n:
        return {}
    of_options = [statistics.fmean(log_frequency[a:b]) for a, b in cuts[1:] if b > a]
    return {
        "rarity_mean": statistics.fmean(own),
        "rarity_spread": statistics.pstdev(own),
        "rarity_rarest": own[0],
        "rarity_third_rarest": own[2] if n > 2 else own[-1],
        "rarity_rare_share": sum(value <= -10 for value in own) / n,
        "wordpiece_share": sum(continues[first:last]) / n,
        "tokens_per_word": min(n / max(len(words), 1), 10.0),
        "rarity_options": statistics.fmean(of_options) if of_options else 0.0,
        "rarity_options_range": max(of_options) - min(of_options) if of_options else 0.0,
    }


def option_figures(options: Sequence[str], stem_words: list[str]) -> dict[str, float]:
    n = len(options)
    words = [words_of(option) for option in options]
    distinct = [set(own) for own in words]
    union = set().union(*distinct)
    total = sum(map(len, distinct))
    lengths = [log1p(n_bytes(option)) for option in options]
    overlap = sorted(len(own & set(stem_words)) / max(len(own), 1) for own in distinct)
    found = [NUMBER.search(option) for option in options]
    written = [match[0] for match in found if match]
    values = sorted(log1p(min(float(number.replace(",", "")), 1e15)) for number in written)
    several = len(values) > 1
    lowered = [option.lower() for option in options]
    negations = {"not", "no", "never", "cannot", "neither", "nor", "without"}
    romans = [len(re.findall(r"\b(?:I{1,3}|IV|V)\b", option)) for option in options]
    return {
        "has_options": 1.0,
        "n_options": n,
        "option_log_length": statistics.fmean(lengths),
        "option_length_spread": statistics.pstdev(lengths),
        "option_log_longest": max(lengths),
        "option_log_shortest": min(lengths),
        "option_words": log1p(sum(map(len, words)) / n),
        "option_numeric_share": sum(
            match is not None and len(own) < 4 for match, own in zip(found, words, strict=True)
        )
        / n,
        "option_number_log_mean": statistics.fmean(values) if several else 0.0,
        "option_number_log_spread": values[-1] - values[0] if several else 0.0,
        "option_number_closest": (min(b - a for a, b in pairwise(values)) if several else 0.0),
        "option_decimal_share": sum("." in number for number in written) / n,
        "option_digits_mean": min(sum(len(number.strip("0.")) for number in written) / n, 10.0),
        "option_tex_share": sum(any(mark in option for mark in "\\$^") for option in options) / n,
        "option_all_above": float(any("all of the" in option for option in lowered)),
        "option_none_above": float(
            any("none of the" in option or "neither" in option for option in lowered)
        ),
        "option_roman_share": sum(romans) / n if any("II" in text for text in options) else 0.0,
        "option_upper_share": sum("A" <= option[:1] <= "Z" for option in options) / n,
        "option_negation_share": sum(bool(own & negations) for own in distinct) / n,
        "option_short_share": sum(len(own) < 3 for own in words) / n,
        "option_overlap_mutual": (
            (total - len(union)) / (total * (1 - 1 / n)) if total and n > 1 else 0.0
        ),
        "option_distinct_words": log1p(len(union)),
        "option_overlap_stem": sum(overlap) / n,
        "option_overlap_stem_max": overlap[-1],
        "option_overlap_stem_margin": overlap[-1] - overlap[-2] if n > 1 else 0.0,
        "option_sentence_share": sum(option.endswith(".") for option in options) / n,
    }


def is_code(stem: str) -> bool:
    marks = ("def ", "```", "function ", "class ", "#include", "public ", "return ")
    return any(mark in stem for mark in marks)


def code_figures(stem: str) -> dict[str, float]:
    lines = [line for line in stem.split("\n") if line.strip()]
    indents = [len(line) - len(line.lstrip()) for line in lines]
    unit = min([indent for indent in indents if indent], default=4)
    called = re.findall(r"\.(\w+)\(", stem)
    arguments = re.search(r"\bdef\s+\w+\s*\(([^()\n]{0,300})\)", stem)
    statements = sum(line.lstrip().startswith(("for ", "while ")) for line in lines)
    loops = len(re.findall(r"\b(?:for|while)\b", stem))
    changes = (".append(", ".pop(", ".remove(", ".insert(", ".extend(", ".update(", ".clear(")
    changes += (".sort(", ".reverse(", "del ", "+=", "-=")
    slices = re.findall(r"\[[^\[\]\n]{0,40}:[^\[\]\n]{0,40}\]", stem)
    n_arguments = 0
    if arguments and arguments[1].strip():
        n_arguments = arguments[1].count(",") + 1
    roots = {
        "code_functions": stem.count("def "),
        "code_loops": statements,
        "code_branches": len(
            re.findall(r"\b(?:if|elif|else|try|except|case|switch)\b", stem),
        ),
        "code_arguments": n_arguments,
        "code_comprehensions": max(loops - statements, 0),
        "code_slices": len(slices),
        "code_method_calls": len(called),
        "code_distinct_methods": len(set(called)),
        "code_string_calls": sum(name in STRING_METHODS for name in called),
        "code_container_calls": sum(name in CONTAINER_METHODS for name in called),
        "code_mutations": sum(stem.count(change) for change in changes),
        "code_returns": stem.count("return"),
        "code_arithmetic": sum(stem.count(f" {sign} ") for sign in "+-*%"),
        "code_nested_calls": stem.count("))"),
        "code_imports": stem.count("import "),
    }
    return {
        "has_code": 1.0,
        "code_log_lines": log1p(len(lines)),
        "code_depth": min(max(indents, default=0) / unit, 10.0),
        "code_mean_indent": min(sum(indents) / (4 * max(len(lines), 1)), 5.0),
        **{name: sqrt(count) for name, count in roots.items()},
        **assertion_figures(stem),
    }


def assertion_figures(stem: str) -> dict[str, float]:
    start = stem.rfind("assert ")
    if start < 0:
        return {}
    line = stem[start + 7 :].split("\n")[0][:4000]
    gap, equals = line.find("??"), line.rfind("==")
    literal = line[equals + 2 :]
    if gap > equals >= 0:
        literal = line[line.find("(") + 1 : equals]
    depths = [0]
    for character in literal:
        if character in "([{":
            depths.append(depths[-1] + 1)
        elif character in ")]}":
            depths.append(depths[-1] - 1)
    quoted = re.findall(r"'([^'\n]{0,400})'|\"([^\"\n]{0,400})\"", literal)
    return {
        "assert_open_output": float(gap > equals >= 0),
        "assert_open_input": float(0 <= gap < equals),
        "assert_arguments": sqrt(literal.count(",") + 1),
        "assert_log_length": log1p(len(literal)),
        "assert_log_text_length": log1p(sum(len(one) + len(two) for one, two in quoted)),
        "assert_depth": float(min(max(depths), 10)),
        "assert_number_share": sum(c.isdigit() for c in literal) / max(len(literal), 1),
        "assert_boolean": float(any(word in literal for word in ("True", "False", "None"))),
    }


def cues(stem_words: list[str], option_words: list[list[str]]) -> dict[str, float]:
    """Square roots of counts; a word that stands in an option counts half, and once."""
    groups = {word.replace("'", ""): places for word, places in CUE_INDEX.items()}
    counts = [0.0] * len(CUE_NAMES)
    for word in stem_words:
        for place in groups.get(word, ()):
            counts[place] += 1.0
    for word in set().union(*option_words):
        for place in groups.get(word, ()):
            counts[place] += 0.5
    return {name: sqrt(count) for name, count in zip(CUE_NAMES, counts, strict=True)}
