"""What a text looks like: about 210 figures that say more of its difficulty than its topic does.

Everything is read from the raw text by the code that also serves requests. Notable choices:

- The ask is cut out first (`options.read_ask`): labels, instructions, fences and preambles leave
  almost no trace, so the way a question is written down does not decide its difficulty.
- One byte string serves everything: a 256-entry table and one ``bincount`` count all classes of
  characters, a second table turns the text into lower-case words.
- Figures are logs, shares, square roots and means: all finite, none larger than about 20.
- Plain floats go into one list, and one array is made at the end: a NumPy call on a short prompt
  costs as much as twenty of Python's own operations.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p, sqrt
from typing import Final

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, IntArray
from zerorouter.errors import InputError
from zerorouter.predict.code_features import CODE_NAMES, code_features, looks_like_code
from zerorouter.predict.cues import CUE_INDEX, CUE_NAMES
from zerorouter.predict.options import Ask, read_ask

MAX_CHARS: Final = 12_000  # what is read of a text at most: its head and its tail
_MAX_NUMBERS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenStatistics:
    """What is known of each token of the vocabulary, apart from any prompt.

    Attributes:
        log_frequency: (V,) natural log of the share of running text that is this token.
        is_wordpiece: (V,) whether the token continues a word (``##`` in a WordPiece vocabulary).
    """

    log_frequency: Float32Array
    is_wordpiece: BoolArray

    def __post_init__(self) -> None:
        size = self.log_frequency.shape
        if len(size) != 1 or self.is_wordpiece.shape != size:
            raise InputError(
                f"token statistics disagree on the vocabulary: log_frequency {size}, is_wordpiece "
                f"{self.is_wordpiece.shape}; build both from one encoder"
            )


# --- tables over bytes ----------------------------------------------------------------------------

_CLASSES: Final[tuple[tuple[str, str], ...]] = (
    ("lower", "abcdefghijklmnopqrstuvwxyz"),
    ("upper", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    ("digit", "0123456789"),
    ("space", " \t\r"),
    ("newline", "\n"),
    ("operator", "+*/=<>|~&%"),
    ("hyphen", "-"),
    ("tex", "\\^_"),
    ("dollar", "$"),
    ("brace", "{}"),
    ("bracket", "[]"),
    ("paren", "()"),
    ("quote", "\"'`"),
    ("comma", ",;"),
    ("period", "."),
    ("question", "?"),
    ("exclamation", "!"),
    ("colon", ":"),
    ("other", "#@"),
)
# Lead bytes of UTF-8 tell scripts apart; continuation bytes are counted and left out.
_LEADS: Final[tuple[tuple[str, int, int], ...]] = (
    ("continuation", 0x80, 0xBF),
    ("latin", 0xC0, 0xCC),
    ("greek", 0xCD, 0xCF),
    ("cyrillic", 0xD0, 0xD3),
    ("semitic", 0xD4, 0xDF),
    ("indic", 0xE0, 0xE1),
    ("symbol", 0xE2, 0xE2),
    ("cjk", 0xE3, 0xED),
    ("astral", 0xEE, 0xFF),
)
_CLASS_OF: Final[dict[str, int]] = {
    name: place
    for place, name in enumerate([name for name, _ in _CLASSES] + [name for name, *_ in _LEADS])
}


def _class_table() -> bytes:
    table = bytearray([_CLASS_OF["other"]] * 256)
    for name, characters in _CLASSES:
        for character in characters:
            table[ord(character)] = _CLASS_OF[name]
    for name, first, last in _LEADS:
        table[first : last + 1] = bytes([_CLASS_OF[name]] * (last + 1 - first))
    return bytes(table)


def _word_table() -> bytes:
    """Letters in lower case, everything else a space; apostrophes are deleted apart."""
    table = bytearray(b" " * 256)
    for code in range(256):
        if chr(code).isascii() and chr(code).isalpha():
            table[code] = ord(chr(code).lower())
        elif code >= 0x80:
            table[code] = code
    return bytes(table)


def _basic_table() -> bytes:
    """0 white space, 1 part of a word, 2 a mark that is a token of its own."""
    table = bytearray(b"\x02" * 256)
    for code in range(256):
        if code <= 0x20 or 0x7F <= code <= 0xA0:
            table[code] = 0
        elif chr(code).isalnum():
            table[code] = 1
    return bytes(table)


_CLASS_TABLE: Final = _class_table()
_WORD_TABLE: Final = _word_table()
_BASIC_TABLE: Final = _basic_table()
_N_CLASSES: Final = len(_CLASS_OF)
_CUE_BYTES: Final = {word.replace("'", "").encode(): places for word, places in CUE_INDEX.items()}
_CURLY: Final = (("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("–", "-"), ("−", "-"))
_NUMBER = re.compile(rb"\d+(?:,\d{3})*(?:\.\d+)?")
_LARGEST: Final = 1e15  # of a number: a longer row of digits is no quantity

# --- names ----------------------------------------------------------------------------------------

_SIZE_NAMES: Final = (
    "log_chars", "log_words", "log_sentences", "log_tokens", "log_words_per_sentence",
    "mean_word_length", "long_word_share", "very_long_word_share", "type_token_ratio", "log_lines",
)  # fmt: skip
_SHARE_NAMES: Final = (
    "share_digit", "share_operator", "share_hyphen", "share_tex", "share_dollar", "share_brace",
    "share_bracket", "share_paren", "share_quote", "share_comma", "share_period", "share_colon",
    "share_upper", "share_newline", "share_space", "share_latin", "share_greek", "share_cyrillic",
    "share_semitic_indic", "share_symbol", "share_cjk", "share_astral", "root_tex", "root_dollar",
    "root_operator", "root_question", "root_exclamation", "root_equals",
)  # fmt: skip
_NUMBER_NAMES: Final = (
    "root_numbers", "numbers_per_word", "number_log_max", "number_log_mean", "number_log_spread",
    "number_decimal_share", "number_large_share", "number_small_share", "number_distinct_share",
)  # fmt: skip
_END_NAMES: Final = (
    "ends_question", "ends_colon", "ends_period", "ends_blank", "ends_word", "ends_dollar",
    "has_blank", "opens_wh", "opens_if", "opens_find", "opens_article", "log_last_sentence",
)  # fmt: skip
_TOKEN_NAMES: Final = (
    "rarity_mean", "rarity_spread", "rarity_rarest", "rarity_third_rarest", "rarity_rare_share",
    "wordpiece_share", "tokens_per_word", "rarity_options",
    "rarity_options_range",
)  # fmt: skip
_OPTION_NAMES: Final = (
    "has_options", "n_options", "option_log_length", "option_length_spread", "option_log_longest",
    "option_log_shortest", "option_words", "option_numeric_share", "option_number_log_mean",
    "option_number_log_spread", "option_number_closest", "option_decimal_share",
    "option_digits_mean", "option_tex_share", "option_all_above", "option_none_above",
    "option_roman_share", "option_upper_share", "option_negation_share", "option_short_share",
    "option_overlap_mutual", "option_distinct_words", "option_overlap_stem",
    "option_overlap_stem_max", "option_overlap_stem_margin", "option_sentence_share",
)  # fmt: skip
_CONTEXT_NAMES: Final = ("log_unread", "log_turns", "log_tools", "log_media")

FEATURE_NAMES: Final[tuple[str, ...]] = (
    *_SIZE_NAMES,
    *_SHARE_NAMES,
    *_NUMBER_NAMES,
    *_END_NAMES,
    *_TOKEN_NAMES,
    *_OPTION_NAMES,
    *CODE_NAMES,
    *_CONTEXT_NAMES,
    *CUE_NAMES,
)
N_FEATURES: Final = len(FEATURE_NAMES)
_FIRST_COUNT: Final = N_FEATURES - len(CUE_NAMES)

_NO_OPTIONS: Final = (0.0,) * len(_OPTION_NAMES)
_NO_CODE: Final = (0.0,) * len(CODE_NAMES)
_NO_NUMBERS: Final = (0.0,) * len(_NUMBER_NAMES)
_NO_TOKENS: Final = (0.0,) * len(_TOKEN_NAMES)


# --- the pass -------------------------------------------------------------------------------------


def structure_features(
    text: str,
    token_ids: IntArray,
    tokens: TokenStatistics,
    *,
    n_turns: int = 1,
    n_tools: int = 0,
    n_media: int = 0,
    n_chars: int | None = None,
) -> Float32Array:
    """The structural features of one text, (F,) in the order of `FEATURE_NAMES`.

    Args:
        text: The raw text; of more than `MAX_CHARS` characters the head and the tail are read.
        token_ids: (T,) tokens of the same text, without special tokens.
        tokens: Frequencies and vectors of the vocabulary.
        n_turns: Messages of the conversation.
        n_tools: Tools on offer.
        n_media: Images, audio and other parts that are not text.
        n_chars: Length of the whole prompt where ``text`` is only a part of it.
    """
    length = max(len(text), n_chars or 0)
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        text = text[:half] + "\n" + text[-half:]
    return ask_features(
        read_ask(text),
        token_ids,
        tokens,
        n_turns=n_turns,
        n_tools=n_tools,
        n_media=n_media,
        n_unread=max(length - len(text), 0),
    )


def ask_features(
    ask: Ask,
    token_ids: IntArray,
    tokens: TokenStatistics,
    *,
    n_turns: int = 1,
    n_tools: int = 0,
    n_media: int = 0,
    n_unread: int = 0,
) -> Float32Array:
    """The structural features (F,) of an ask that was read already; tokens are of ``ask.text``.

    With ``read_ask(text).canonical()`` one tokenisation serves these features and an embedding
    that depends on the rendering as little as they do. ``n_unread`` counts characters of the
    prompt that the ask was not read from.
    """
    features = _features(ask, token_ids, tokens)
    context = _FIRST_COUNT - len(_CONTEXT_NAMES)
    if n_unread > 0:
        features[context] = log1p(n_unread / max(len(ask.text), 1))
    if n_turns > 1:
        features[context + 1] = log(n_turns)
    if n_tools > 0:
        features[context + 2] = log1p(n_tools)
    if n_media > 0:
        features[context + 3] = log1p(n_media)
    result = np.array(features, dtype=np.float32)
    counts = result[_FIRST_COUNT:]
    np.sqrt(counts, out=counts)
    return result


def structure_features_windows(
    windows: Sequence[str],
    window_ids: Sequence[IntArray],
    tokens: TokenStatistics,
    *,
    n_turns: int = 1,
    n_tools: int = 0,
    n_media: int = 0,
    n_chars: int | None = None,
) -> Float32Array:
    """The structural features (F,) of a prompt given as windows, such as `Prompt.windows`.

    One window is the text itself. Of several, the first and the last are joined: instructions stand
    at the head, the question at the tail, and the middle of a long prompt is material.
    """
    if len(windows) != len(window_ids) or not windows:
        raise InputError(
            f"{len(windows)} windows came with {len(window_ids)} arrays of tokens; "
            "one array for each of at least one window is wanted"
        )
    if len(windows) == 1:
        text, ids = windows[0], window_ids[0]
    else:
        text = windows[0] + "\n" + windows[-1]
        ids = np.concatenate((window_ids[0], window_ids[-1]))
    return structure_features(
        text, ids, tokens, n_turns=n_turns, n_tools=n_tools, n_media=n_media, n_chars=n_chars
    )


def structure_matrix(
    texts: Sequence[str], ids_list: Sequence[IntArray], tokens: TokenStatistics
) -> Float32Array:
    """The structural features of many texts, (n, F); each row equals the single call."""
    if len(texts) != len(ids_list):
        raise InputError(
            f"{len(texts)} texts came with {len(ids_list)} arrays of tokens; as many are wanted"
        )
    matrix = np.empty((len(texts), N_FEATURES), dtype=np.float32)
    for row, (text, ids) in enumerate(zip(texts, ids_list, strict=True)):
        matrix[row] = structure_features(text, ids, tokens)
    return matrix


def _features(ask: Ask, ids: IntArray, tokens: TokenStatistics) -> list[float]:
    stem = ask.stem
    if not stem.isascii():
        for curly, plain in _CURLY:
            stem = stem.replace(curly, plain)
    raw = stem.encode("utf-8", "surrogatepass")
    counts = np.bincount(
        np.frombuffer(raw.translate(_CLASS_TABLE), dtype=np.uint8), minlength=_N_CLASSES
    ).tolist()
    words = raw.translate(_WORD_TABLE, b"'").split()
    lower = raw.lower()

    n_chars = len(stem)
    n_words = len(words)
    n_sentences = 1 + lower.count(b". ") + lower.count(b"? ") + lower.count(b".\n")
    cues = [0.0] * len(CUE_NAMES)
    for places in filter(None, map(_CUE_BYTES.get, words)):
        for place in places:
            cues[place] += 1.0

    out: list[float] = []
    stem_ids, option_cuts = _deal_tokens(ask, ids, tokens)
    out += _size(words, n_chars, n_words, n_sentences, len(stem_ids), counts)
    out += _shares(counts, n_chars, raw)
    out += _numbers(raw, n_words) if counts[_CLASS_OF["digit"]] else _NO_NUMBERS
    out += _ending(stem, lower, words)
    out += _rarity(stem_ids, option_cuts, ids, tokens, n_words)
    if ask.option_spans:
        out += _options(ask.options, words, cues)
    else:
        out += _NO_OPTIONS
    out += code_features(stem) if looks_like_code(stem) else _NO_CODE
    out += (0.0, 0.0, 0.0, 0.0)  # context: filled in by the caller
    out += cues
    return out


def _size(
    words: list[bytes],
    n_chars: int,
    n_words: int,
    n_sentences: int,
    n_tokens: int,
    counts: list[int],
) -> tuple[float, ...]:
    lengths = list(map(len, words))
    lengths.sort()
    per_word = 1.0 / (n_words or 1)
    return (
        log1p(n_chars),
        log1p(n_words),
        log(n_sentences),
        log1p(n_tokens),
        log1p(n_words / n_sentences),
        min(sum(lengths) * per_word, 20.0),
        (n_words - bisect_right(lengths, 6)) * per_word,
        (n_words - bisect_right(lengths, 9)) * per_word,
        len(set(words)) * per_word,
        log1p(counts[_CLASS_OF["newline"]]),
    )


def _shares(counts: list[int], n_chars: int, raw: bytes) -> tuple[float, ...]:
    (
        _, upper, digit, space, newline, operator, hyphen, tex, dollar, brace, bracket, paren,
        quote, comma, period, question, exclamation, colon, _, _, latin, greek, cyrillic, semitic,
        indic, symbol, cjk, astral,
    ) = counts  # fmt: skip
    per = 1.0 / (n_chars or 1)
    return (
        digit * per, operator * per, hyphen * per, tex * per, dollar * per, brace * per,
        bracket * per, paren * per, quote * per, comma * per, period * per, colon * per,
        upper * per, newline * per, space * per, latin * per, greek * per, cyrillic * per,
        (semitic + indic) * per, symbol * per, cjk * per, astral * per, sqrt(tex), sqrt(dollar),
        sqrt(operator), sqrt(question), sqrt(exclamation), sqrt(raw.count(b"=")),
    )  # fmt: skip


def _numbers(raw: bytes, n_words: int) -> tuple[float, ...]:
    found = _NUMBER.findall(raw)
    count = len(found)
    del found[_MAX_NUMBERS:]
    written = b" ".join(found)
    values = list(map(float, written.replace(b",", b"").split()))
    values.sort()
    if values[-1] > _LARGEST:
        values = [min(value, _LARGEST) for value in values]
    logs = list(map(log1p, values))
    per = 1.0 / len(values)
    return (
        sqrt(count),
        min(count / (n_words + 1), 5.0),
        logs[-1],
        sum(logs) * per,
        logs[-1] - logs[0],
        written.count(b".") * per,
        (len(values) - bisect_left(values, 1000.0)) * per,
        bisect_right(values, 10.0) * per,
        len(set(found)) * per,
    )


_OPENERS: Final[dict[bytes, int]] = {
    **dict.fromkeys((b"what", b"which", b"who", b"how", b"why", b"when", b"where"), 0),
    **dict.fromkeys((b"if", b"let", b"suppose", b"given", b"assume", b"consider", b"for"), 1),
    **dict.fromkeys(
        (b"find", b"compute", b"calculate", b"determine", b"evaluate", b"solve", b"simplify",
         b"write", b"prove", b"show", b"give", b"explain", b"describe"), 2,
    ),
    **dict.fromkeys((b"a", b"an", b"the", b"in", b"on", b"at"), 3),
}  # fmt: skip


def _ending(stem: str, lower: bytes, words: list[bytes]) -> tuple[float, ...]:
    last = stem[-1:]
    before = stem[-3:]
    blank = "__" in before or "..." in before
    opener = _OPENERS.get(words[0], -1) if words else -1
    sentence = max(stem.rfind(". ", 0, -1), stem.rfind("? ", 0, -1), stem.rfind("\n", 0, -1))
    return (
        1.0 if last == "?" else 0.0,
        1.0 if last == ":" else 0.0,
        1.0 if last == "." and not blank else 0.0,
        1.0 if blank else 0.0,
        1.0 if last.isalnum() else 0.0,
        1.0 if "$" in before else 0.0,
        1.0 if b"__" in lower else 0.0,
        1.0 if opener == 0 else 0.0,
        1.0 if opener == 1 else 0.0,
        1.0 if opener == 2 else 0.0,
        1.0 if opener == 3 else 0.0,
        log(len(stem) - sentence),
    )


# --- tokens ---------------------------------------------------------------------------------------


def _deal_tokens(
    ask: Ask, ids: IntArray, tokens: TokenStatistics
) -> tuple[IntArray, list[list[int]]]:
    """The tokens of the stem, and where each option begins and ends among all tokens.

    WordPiece first cuts a text at white space and around marks, and only continuations of a word
    carry ``##``. Counting such pieces up to a position therefore finds the token there; where the
    counts disagree (rare scripts, a truncated list) positions are scaled.
    """
    start, end = ask.stem_span
    if not ask.option_spans and start == 0 and len(ask.text) - end < 2:
        return ids, []
    # A blank in front makes the first character one like all others.
    kinds = np.frombuffer(
        (" " + ask.text).encode("latin-1", "replace").translate(_BASIC_TABLE), dtype=np.uint8
    )
    begins = np.flatnonzero(kinds[1:] > (kinds[:-1] & 1))
    places = begins.searchsorted(((start, end), *ask.option_spans))  # (1 + options, 2)
    firsts = np.flatnonzero(~tokens.is_wordpiece[ids])
    if len(firsts) != len(begins):
        places = places * len(firsts) // max(len(begins), 1)
    cuts = np.append(firsts, len(ids))[places].tolist()
    first, last = cuts[0]
    return ids[first:last], cuts[1:]


_RARE: Final = -10.0  # about one token in 22,000


def _rarity(
    stem_ids: IntArray,
    option_cuts: list[list[int]],
    ids: IntArray,
    tokens: TokenStatistics,
    n_words: int,
) -> tuple[float, ...]:
    count = len(stem_ids)
    if count == 0:
        return _NO_TOKENS
    frequencies = tokens.log_frequency[stem_ids]
    squares = float(frequencies @ frequencies) / count
    frequency = frequencies.tolist()
    frequency.sort()
    per = 1.0 / count
    mean = sum(frequency) * per
    pieces = int(np.count_nonzero(tokens.is_wordpiece[stem_ids]))
    in_options = apart = 0.0
    if option_cuts:
        running = tokens.log_frequency[ids].cumsum(dtype=np.float64).tolist()
        running.append(0.0)  # index -1: before the first
        means = [
            (running[last - 1] - running[first - 1]) / (last - first)
            for first, last in option_cuts
            if last > first
        ]
        if means:
            in_options = sum(means) / len(means)
            apart = max(means) - min(means)
    return (
        mean,
        sqrt(max(squares - mean * mean, 0.0)),
        frequency[0],
        frequency[2] if count > 2 else frequency[-1],
        bisect_right(frequency, _RARE) * per,
        pieces * per,
        min(count / (n_words or 1), 10.0),
        in_options,
        apart,
    )


# --- options --------------------------------------------------------------------------------------

_ROMAN = re.compile(r"\b(?:I{1,3}|IV|V)\b")
_NEGATION: Final = frozenset((b"not", b"no", b"never", b"cannot", b"neither", b"nor", b"without"))


def _options(
    options: tuple[str, ...], stem_words: list[bytes], cues: list[float]
) -> tuple[float, ...]:
    count = len(options)
    per = 1.0 / count
    stem_set = set(stem_words)
    seen: dict[bytes, int] = {}  # in how many options a word stands
    lengths: list[float] = []
    numbers: list[float] = []
    shared: list[float] = []
    decimals = digits = numeric = total = n_words = tex = negations = short = upper = dots = 0
    for option in options:
        raw = option.encode("utf-8", "surrogatepass")
        words = raw.translate(_WORD_TABLE, b"'").split()
        length = len(words)
        n_words += length
        short += length < 3
        lengths.append(log1p(len(raw)))
        found = _NUMBER.search(raw)
        if found is not None:
            number = found[0]
            numbers.append(log1p(min(float(number.replace(b",", b"")), _LARGEST)))
            decimals += b"." in number
            digits += len(number.strip(b"0."))
            numeric += length < 4
        tex += b"\\" in raw or b"$" in raw or b"^" in raw
        upper += raw[:1].isupper()
        dots += raw.endswith(b".")
        distinct = set(words)
        total += len(distinct)
        negations += not _NEGATION.isdisjoint(distinct)
        shared.append(len(distinct & stem_set) / (len(distinct) or 1))
        for word in distinct:
            seen[word] = seen.get(word, 0) + 1
    for places in filter(None, map(_CUE_BYTES.get, seen)):
        for place in places:
            cues[place] += 0.5

    number_mean = spread = closest = 0.0
    if len(numbers) > 1:
        numbers.sort()
        number_mean = sum(numbers) / len(numbers)
        spread = numbers[-1] - numbers[0]
        closest = min(map(float.__sub__, numbers[1:], numbers))
    lengths.sort()
    mean_length = sum(lengths) * per
    shared.sort()
    joined = "\n".join(options)
    lowered = joined.lower()
    return (
        1.0,
        float(count),
        mean_length,
        sqrt(sum([(length - mean_length) ** 2 for length in lengths]) * per),
        lengths[-1],
        lengths[0],
        log1p(n_words * per),
        numeric * per,
        number_mean,
        spread,
        closest,
        decimals * per,
        min(digits * per, 10.0),
        tex * per,
        1.0 if "all of the" in lowered else 0.0,
        1.0 if "none of the" in lowered or "neither" in lowered else 0.0,
        len(_ROMAN.findall(joined)) * per if "II" in joined else 0.0,
        upper * per,
        negations * per,
        short * per,
        (total - len(seen)) / (total * (1.0 - per)) if total and count > 1 else 0.0,
        log1p(len(seen)),
        sum(shared) * per,
        shared[-1],
        shared[-1] - shared[-2] if count > 1 else 0.0,
        dots * per,
    )
