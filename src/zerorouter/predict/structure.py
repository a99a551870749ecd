"""What a text looks like: about 210 figures that say more of its difficulty than its topic does.

Everything is read from the raw text by the code that also serves requests. Notable choices:

- The ask is cut out first (`options.read_ask`): labels, instructions, fences and preambles leave
  almost no trace, so the way a question is written down does not decide its difficulty.
- One byte string serves everything: a 256-entry table and one ``bincount`` count all classes of
  characters and all cue words, a second table turns the text into lower-case words.
- Figures are logs, shares, square roots and means: all finite, none larger than about 20.
- Loops are left to methods of ``bytes`` and ``str`` and to ``map``; plain floats are packed into
  the row: a NumPy call on a short prompt costs as much as twenty of Python's own operations.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, log1p, sqrt
from typing import Final

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, IntArray
from zerorouter.errors import InputError
from zerorouter.predict.code_features import CODE_NAMES, code_features, looks_like_code
from zerorouter.predict.cues import CUE_INDEX, CUE_NAMES
from zerorouter.predict.encoders import PartPieces
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
_DIGIT: Final = _CLASS_OF["digit"]
_NEWLINE: Final = _CLASS_OF["newline"]
_LOWER: Final = b"abcdefghijklmnopqrstuvwxyz"
# The groups of a cue word as bytes, behind the classes, so that one count serves both.
_CUE_PLACES: Final = {
    word.replace("'", "").encode(): bytes([_N_CLASSES + place for place in places])
    for word, places in CUE_INDEX.items()
}
_N_PLACES: Final = _N_CLASSES + len(CUE_NAMES)
_HALF: Final = np.float32(0.5)
_CURLY: Final = (("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("–", "-"), ("−", "-"))
_NUMBER_TABLE: Final = bytes([code if chr(code) in "0123456789,." else 32 for code in range(256)])
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

_NO_NUMBERS: Final = (0.0,) * len(_NUMBER_NAMES)
_NO_TOKENS: Final = (0.0,) * len(_TOKEN_NAMES)

# Blocks of a row, each written at once: `pack_into` takes half the time of an array made of a list,
# and a block that a prompt does not have stays zero.
_FLOAT: Final = 4
_FIRST_OPTION: Final = FEATURE_NAMES.index(_OPTION_NAMES[0])
_FIRST_CODE: Final = FEATURE_NAMES.index(CODE_NAMES[0])
_FIRST_CONTEXT: Final = FEATURE_NAMES.index(_CONTEXT_NAMES[0])
_pack_common: Final = struct.Struct(f"{_FIRST_OPTION}f").pack_into
_pack_options: Final = struct.Struct(f"{len(_OPTION_NAMES)}f").pack_into
_pack_code: Final = struct.Struct(f"{len(CODE_NAMES)}f").pack_into


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
    parts: PartPieces | None = None,
    n_turns: int = 1,
    n_tools: int = 0,
    n_media: int = 0,
    n_unread: int = 0,
) -> Float32Array:
    """The structural features (F,) of an ask that was read already; tokens are of ``ask.text``.

    With ``read_ask(text).canonical()`` one tokenisation serves these features and an embedding
    that depends on the rendering as little as they do. ``parts`` are its stem and its options
    where they were tokenised one by one, which saves looking for them among the tokens.
    ``n_unread`` counts characters of the prompt that the ask was not read from.
    """
    row = np.zeros(N_FEATURES, dtype=np.float32)
    _fill(row, ask, token_ids, tokens, parts)
    if n_unread > 0:
        row[_FIRST_CONTEXT] = log1p(n_unread / max(len(ask.text), 1))
    if n_turns > 1:
        row[_FIRST_CONTEXT + 1] = log(n_turns)
    if n_tools > 0:
        row[_FIRST_CONTEXT + 2] = log1p(n_tools)
    if n_media > 0:
        row[_FIRST_CONTEXT + 3] = log1p(n_media)
    return row


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


def _fill(
    row: Float32Array,
    ask: Ask,
    ids: IntArray,
    tokens: TokenStatistics,
    parts: PartPieces | None,
) -> None:
    """Write everything but the context into a row of zeros."""
    block = row.data
    stem = ask.stem
    if not stem.isascii():
        for curly, plain in _CURLY:
            stem = stem.replace(curly, plain)
    raw = stem.encode("utf-8", "surrogatepass")
    spaced = raw.translate(_WORD_TABLE, b"'")
    words = spaced.split()
    n_words = len(words)
    n_letters = len(spaced) - spaced.count(b" ")
    distinct = set(words)
    if parts is None:
        cuts = _deal_tokens(ask, ids, tokens)
        n_continued = int(np.count_nonzero(tokens.is_wordpiece[ids[slice(*cuts[0])]]))
    else:
        cuts = list(pairwise((0, *parts.ends)))
        n_continued = parts.ends[0] - parts.n_words
    n_tokens = cuts[0][1] - cuts[0][0]

    # Places of classes and of cues are counted together; cues twice, since those of options, which
    # follow, weigh half. Lower-case letters are most of a text and fill no feature.
    cues = b"".join(filter(None, map(_CUE_PLACES.get, words)))
    places = raw.translate(_CLASS_TABLE, _LOWER) + cues + cues
    if ask.option_spans:
        figures, option_words = _options(ask.options, distinct)
        _pack_options(block, _FLOAT * _FIRST_OPTION, *figures)
        places += b"".join(filter(None, map(_CUE_PLACES.get, option_words)))
    counts = np.bincount(np.frombuffer(places, dtype=np.uint8), minlength=_N_PLACES)
    row[_FIRST_COUNT:] = counts[_N_CLASSES:]
    cue_counts = row[_FIRST_COUNT:]
    cue_counts *= _HALF
    np.sqrt(cue_counts, out=cue_counts)
    classes = counts[:_N_CLASSES].tolist()

    _pack_common(
        block,
        0,
        *_size(stem, words, n_letters, len(distinct), n_tokens, classes),
        *_shares(classes, stem),
        *(_numbers(raw, n_words) if classes[_DIGIT] else _NO_NUMBERS),
        *_ending(stem, words),
        *(
            _rarity(tokens.log_frequency.take(ids), cuts, n_words, n_continued)
            if n_tokens
            else _NO_TOKENS
        ),
    )
    if looks_like_code(stem):
        _pack_code(block, _FLOAT * _FIRST_CODE, *code_features(stem))


def _size(
    stem: str,
    words: list[bytes],
    n_letters: int,
    n_distinct: int,
    n_tokens: int,
    classes: list[int],
) -> tuple[float, ...]:
    n_words = len(words)
    n_sentences = 1 + stem.count(". ") + stem.count("? ") + stem.count(".\n")
    lengths = _lengths(words)
    per_word = 1.0 / (n_words or 1)
    return (
        log1p(len(stem)),
        log1p(n_words),
        log(n_sentences),
        log1p(n_tokens),
        log1p(n_words / n_sentences),
        min(n_letters * per_word, 20.0),
        len(lengths.translate(None, _TO_6)) * per_word,
        len(lengths.translate(None, _TO_9)) * per_word,
        n_distinct * per_word,
        log1p(classes[_NEWLINE]),
    )


_TO_6: Final = bytes(range(7))
_TO_9: Final = bytes(range(10))


def _lengths(words: list[bytes]) -> bytes:
    """The lengths of words, one byte each: counted without a sort or a loop over them."""
    try:
        return bytes(map(len, words))
    except ValueError:  # a row of more than 255 letters
        return bytes([min(len(word), 255) for word in words])


def _shares(classes: list[int], stem: str) -> tuple[float, ...]:
    (
        _, upper, digit, space, newline, operator, hyphen, tex, dollar, brace, bracket, paren,
        quote, comma, period, question, exclamation, colon, _, _, latin, greek, cyrillic, semitic,
        indic, symbol, cjk, astral,
    ) = classes  # fmt: skip
    per = 1.0 / (len(stem) or 1)
    return (
        digit * per, operator * per, hyphen * per, tex * per, dollar * per, brace * per,
        bracket * per, paren * per, quote * per, comma * per, period * per, colon * per,
        upper * per, newline * per, space * per, latin * per, greek * per, cyrillic * per,
        (semitic + indic) * per, symbol * per, cjk * per, astral * per, sqrt(tex), sqrt(dollar),
        sqrt(operator), sqrt(question), sqrt(exclamation), sqrt(stem.count("=")),
    )  # fmt: skip


def _numbers(raw: bytes, n_words: int) -> tuple[float, ...]:
    # Three times as fast as searching the whole text, most of which is no number.
    found = _NUMBER.findall(b" ".join(raw.translate(_NUMBER_TABLE).split()))
    count = len(found)
    del found[_MAX_NUMBERS:]
    written = b" ".join(found)
    values = sorted(map(float, written.replace(b",", b"").split()))
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


def _ending(stem: str, words: list[bytes]) -> tuple[float, ...]:
    last = stem[-1:]
    before = stem[-3:]
    blank = "__" in before or "..." in before
    opener = _OPENERS.get(words[0], -1) if words else -1
    sentence = max(stem.rfind(". ", 0, -1), stem.rfind("? ", 0, -1), stem.rfind("\n", 0, -1))
    return (
        last == "?",
        last == ":",
        last == "." and not blank,
        blank,
        last.isalnum(),
        "$" in before,
        "__" in stem,
        opener == 0,
        opener == 1,
        opener == 2,
        opener == 3,
        log(len(stem) - sentence),
    )


# --- tokens ---------------------------------------------------------------------------------------


def _deal_tokens(ask: Ask, ids: IntArray, tokens: TokenStatistics) -> Sequence[tuple[int, int]]:
    """Where the stem and each option begin and end among the tokens, (1 + options, 2).

    WordPiece first cuts a text at white space and around marks, and only continuations of a word
    carry ``##``. Counting such pieces up to a position therefore finds the token there; where the
    counts disagree (rare scripts, a truncated list) positions are scaled.
    """
    start, end = ask.stem_span
    if not ask.option_spans and start == 0 and len(ask.text) - end < 2:
        return ((0, len(ids)),)
    # A blank in front makes the first character one like all others.
    kinds = np.frombuffer(
        (" " + ask.text).encode("latin-1", "replace").translate(_BASIC_TABLE), dtype=np.uint8
    )
    begins = np.flatnonzero(kinds[1:] > (kinds[:-1] & 1))
    places = begins.searchsorted(((start, end), *ask.option_spans))  # (1 + options, 2)
    firsts = np.flatnonzero(~tokens.is_wordpiece[ids])
    if len(firsts) != len(begins):
        places = places * len(firsts) // max(len(begins), 1)
    return list(map(tuple, np.append(firsts, len(ids))[places].tolist()))


_RARE: Final = -10.0  # about one token in 22,000


def _rarity(
    frequencies: Float32Array,
    cuts: Sequence[tuple[int, int]],
    n_words: int,
    n_continued: int,
) -> tuple[float, ...]:
    """Figures of the tokens' log frequencies (T,); cuts are those of the stem and each option.

    Sums of so few float32 numbers are exact in double precision, so their order does not matter.
    """
    in_options = apart = 0.0
    if len(cuts) > 1:
        values = frequencies.tolist()
        means = [
            sum(values[first:last]) / (last - first) for first, last in cuts[1:] if last > first
        ]
        if means:
            in_options = sum(means) / len(means)
            apart = max(means) - min(means)
    frequencies = frequencies[slice(*cuts[0])]
    count = len(frequencies)
    squares = float(frequencies.dot(frequencies)) / count
    frequencies.sort()  # in place: the caller's copy, of which only sums were read above
    frequency = frequencies.tolist()
    per = 1.0 / count
    mean = sum(frequency) * per
    return (
        mean,
        sqrt(max(squares - mean * mean, 0.0)),
        frequency[0],
        frequency[2] if count > 2 else frequency[-1],
        bisect_right(frequency, _RARE) * per,
        n_continued * per,
        min(count / (n_words or 1), 10.0),
        in_options,
        apart,
    )


# --- options --------------------------------------------------------------------------------------

_ROMAN = re.compile(r"\b(?:I{1,3}|IV|V)\b")
_NO_DIGIT: Final = bytes([code for code in range(256) if chr(code) not in "0123456789"])
_NO_TEX: Final = bytes([code for code in range(256) if chr(code) not in "\\$^"])
_UPPER_TABLE: Final = bytes(
    [ord("A") if chr(code).isascii() and chr(code).isupper() else code for code in range(256)]
)
_APART: Final = b"\xff"  # stands around options; it occurs in no UTF-8, hence in none of them
# The first number behind each _APART and before the next, or nothing.
_FIRST_NUMBER = re.compile(rb"\xff[^\d\xff]*((?:\d+(?:,\d{3})*(?:\.\d+)?)?)")
_NO_OPTION_NUMBERS: Final = (0.0,) * 6
_NEGATION: Final = frozenset((b"not", b"no", b"never", b"cannot", b"neither", b"nor", b"without"))


def _options(
    options: tuple[str, ...], stem_words: set[bytes]
) -> tuple[tuple[float, ...], set[bytes]]:
    """Figures of the options, in the order of `_OPTION_NAMES`, and the words that stand in them.

    What can be is counted over one byte string of all options; a loop over ten costs 1 us a step.
    """
    count = len(options)
    per = 1.0 / count
    raws = [option.encode("utf-8", "surrogatepass") for option in options]
    joined = _APART + _APART.join(raws) + _APART
    words = list(map(bytes.split, joined.translate(_WORD_TABLE, b"'").split(_APART)[1:-1]))
    n_words = list(map(len, words))
    distinct = list(map(set, words))
    n_distinct = list(map(len, distinct))
    total = sum(n_distinct)
    seen: set[bytes] = set().union(*distinct)
    shared = [0.0] * count
    if in_stem := seen & stem_words:
        overlaps = map(len, map(in_stem.intersection, distinct))
        shared = sorted(
            [overlap / (n or 1) for overlap, n in zip(overlaps, n_distinct, strict=True)]
        )
    lengths = list(map(log1p, sorted(map(len, raws))))
    mean_length = sum(lengths) * per
    n_tex = n_roman = n_negated = 0
    if joined.translate(None, _NO_TEX):
        n_tex = sum([raw.translate(None, _NO_TEX) != b"" for raw in raws])
    if joined.find(b"II") >= 0:
        n_roman = len(_ROMAN.findall("\n".join(options)))
    if not _NEGATION.isdisjoint(seen):
        n_negated = sum([not _NEGATION.isdisjoint(own) for own in distinct])
    number_figures: tuple[float, ...] = _NO_OPTION_NUMBERS
    if joined.translate(None, _NO_DIGIT):
        numbers = _FIRST_NUMBER.findall(joined, 0, len(joined) - 1)
        number_figures = _option_numbers(numbers, n_words)
    lowered = joined.lower()  # `find` below, since "in" of bytes drops an exception on its way
    figures = (
        1.0,
        count,
        mean_length,
        sqrt(sum([(length - mean_length) ** 2 for length in lengths]) * per),
        lengths[-1],
        lengths[0],
        log1p(sum(n_words) * per),
        *number_figures,
        n_tex * per,
        lowered.find(b"all of the") >= 0,
        lowered.find(b"none of the") >= 0 or lowered.find(b"neither") >= 0,
        n_roman * per,
        joined.translate(_UPPER_TABLE).count(_APART + b"A") * per,
        n_negated * per,
        sum([n < 3 for n in n_words]) * per,
        (total - len(seen)) / (total * (1.0 - per)) if total and count > 1 else 0.0,
        log1p(len(seen)),
        sum(shared) * per,
        shared[-1],
        shared[-1] - shared[-2] if count > 1 else 0.0,
        joined.count(b"." + _APART) * per,
    )
    return figures, seen


def _option_numbers(numbers: list[bytes], n_words: list[int]) -> tuple[float, ...]:
    """From ``option_numeric_share`` to ``option_digits_mean``, of the options' first numbers."""
    per = 1.0 / len(n_words)
    written = b" ".join(numbers)
    values = sorted(map(float, written.replace(b",", b"").split()))
    if values[-1] > _LARGEST:
        values = [min(value, _LARGEST) for value in values]
    sizes = list(map(log1p, values))
    mean = spread = closest = 0.0
    if len(sizes) > 1:
        mean = sum(sizes) / len(sizes)
        spread = sizes[-1] - sizes[0]
        closest = min(map(float.__sub__, sizes[1:], sizes))
    return (
        sum([n < 4 for number, n in zip(numbers, n_words, strict=True) if number]) * per,
        mean,
        spread,
        closest,
        written.count(b".") * per,
        min(sum([len(number.strip(b"0.")) for number in numbers]) * per, 10.0),
    )
