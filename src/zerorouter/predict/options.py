"""Reading the ask out of raw chat text: stem, options, and nothing of the wrapping.

The same question reaches a router as ``A) ...``, ``1. ...``, bullets or one line, below a system
sentence and above "answer with the letter". None of that changes how hard it is, so the features
describe what is left when the wrapping is taken off. Fitting and serving call the same code.

- A regular expression proposes labels in one pass; Python keeps consecutive runs of them. Both are
  linear in the text, whatever it holds.
- A list of steps is no list of options: numbers and bullets count only under a question.
- Spans, not copies: the stem and the options are slices of the text, so that tokens of the text
  can be dealt out to them.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from zerorouter.predict.wrapping import Span, is_instruction, trim_ask, trim_tail

MAX_OPTIONS: Final = 26
_MAX_OPTION_CHARS: Final = 1500
_MAX_LISTED_CHARS: Final = 400  # of a numbered or bulleted option: longer ones are paragraphs
_MAX_AFTER_CHARS: Final = 200  # options stand at the end: a longer text behind them is the ask
_MAX_RUNS: Final = 8  # of labels that are looked at: bounds the work on a text full of labels


@dataclass(frozen=True, slots=True)
class ParsedOptions:
    """A multiple-choice question taken apart.

    Attributes:
        stem: The question without its options and without instructions on how to answer.
        options: The options in order, without their labels.
        style: The label of the first option as written, such as ``"A)"``, ``"(a)"``, ``"1."``,
            ``"-"``; ``"line"`` for options listed without labels.
        stem_span: Where the stem stands in the text.
        option_spans: Where each option stands in the text.
    """

    stem: str
    options: tuple[str, ...]
    style: str
    stem_span: Span
    option_spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a text asks: ``stem`` and ``options`` as spans of ``text``.

    Attributes:
        text: The text as it came.
        stem_span: The question without wrapping, options and answer instructions.
        option_spans: One span for each option; empty for an open question.
        style: The label style of the options, ``""`` for an open question.
    """

    text: str
    stem_span: Span
    option_spans: tuple[Span, ...]
    style: str

    @property
    def stem(self) -> str:
        """The question alone."""
        return self.text[self.stem_span[0] : self.stem_span[1]]

    @property
    def options(self) -> tuple[str, ...]:
        """The options without their labels."""
        return tuple([self.text[start:end] for start, end in self.option_spans])

    @property
    def core(self) -> str:
        """Stem and options, one a line: the same text for every rendering of one question."""
        return "\n".join((self.stem, *self.options)) if self.option_spans else self.stem

    def canonical(self) -> Ask:
        """The same ask as if its text were the `core` alone: what to tokenise and embed."""
        parts = (self.stem, *self.options)
        spans = []
        start = 0
        for part in parts:
            spans.append((start, start + len(part)))
            start += len(part) + 1
        return Ask("\n".join(parts), spans[0], tuple(spans[1:]), self.style)


# --- options --------------------------------------------------------------------------------------

# What closes a label: "(A)", "[a]", "(1)" or "A)", "A.", "A:", "1.", bold or not. The expression
# starts at the closing mark, which is rarer than the white space in front of labels. Behind a label
# without brackets stands a blank or the end of bold print: "at 9.30" and "e.g." have none.
_LABEL_END = re.compile(
    r"[).:\]](?:(?=[\s*])(?:(?<=[\s*][A-Za-z\d].)|(?<=[\s*]\d\d.))"
    r"|(?<=[(\[][A-Za-z\d].)|(?<=[(\[]\d\d.))"
)
# A second label must exist: without one of these no run of labels does.
_SECOND = re.compile(r"[Bb2][).:\]]")
_BULLETS = re.compile(r"\n[ \t]{0,8}[-*•–+][ \t]")
_BULLET_LINE = re.compile(r"\n[ \t]{0,8}([-*•–+])[ \t]+([^\n]+)")
_HEADER = re.compile(
    r"(?:\A|\n|(?<=[.?!:])[ \t])[\s*#_>]*(?:(?:answer|the|your|possible|available|here\s+are|"
    r"choose\s+from|candidate)\s+)*(?:options|choices|answers|alternatives|candidates)(?:\s+are)?\s*:?[\s*_]*\Z",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"(?:\A|\n|(?<=[.?!:])[ \t])[*#_>]{0,3}(?:(?:answer|possible|available|the)[ \t]+){0,3}"
    r"(?:options|choices|alternatives)(?:[ \t]+are)?[ \t]*:[*_]{0,2}[ \t]*([^\n]*)",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"\?|_{2,}|\b(?:which|choose|select|pick|options?|choices?|identify|most\s+likely|correct)\b",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\b(?:which|choose|select|pick|options?|choices?)\b", re.IGNORECASE)
_AFTER_CUE = re.compile(r"\b(?:options?|choices?|letter|alternatives?|correct\s+answer)\b", re.I)
_ASKED_AFTER = re.compile(
    r"[\s*]*(?:so,?\s+)?(?:which|what)\b[^\n?]{0,60}\b(?:option|choice|answer|letter|one|alternative|these)"
    r"\b[^\n?]{0,60}\?[\s*]*",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"[\s*]*which\s+(?:option|choice|answer|alternative|one)\b[^\n?]{0,40}\?\s*", re.IGNORECASE
)
_TOLD = re.compile(r"(?:Answer|Respond|Reply|Choose|Select|Pick)\s")
_INLINE_INSTRUCTION = re.compile(rf"[.;,]?\s+(?=(?:Please\s+)?{_TOLD.pattern})")


class _Block(NamedTuple):
    """Options found in a text, before they are believed."""

    kind: str  # "upper", "lower", "number", "bullet", "line"
    style: str
    start: int  # of the first label: where the stem ends
    spans: tuple[Span, ...]
    inline: bool
    headed: bool = False

    def holds(self, other: _Block) -> bool:
        """Whether the other block is this one with its labels seen."""
        return self.start <= other.start <= self.spans[0][0] + 2


def parse_options(text: str) -> ParsedOptions | None:
    """Find the multiple-choice question that ``text`` ends with, whatever its rendering.

    Returns None for an ordinary request. Labels must run from A, a or 1 without a gap. Letters may
    stand at line starts or in one line; numbers and bullets count only below a question or a
    heading such as "Options:".
    """
    block = _find_block(text)
    if block is None:
        return None
    stem_span = _stem_span(text, block)
    return ParsedOptions(
        stem=text[stem_span[0] : stem_span[1]],
        options=tuple([text[start:end] for start, end in block.spans]),
        style=block.style,
        stem_span=stem_span,
        option_spans=block.spans,
    )


def _stem_span(text: str, block: _Block) -> Span:
    header = _header_start(text, block.start)
    span = trim_ask(text, 0, _without_asking(text, block.start if header < 0 else header))
    if span[1] - span[0] < 2:  # the question follows its options
        return trim_ask(text, block.spans[-1][1], len(text))
    start, end = span
    if text.find("\n", start, end) < 0 and text.find("!", start, end) < 0 and text[start] != "(":
        return span  # no introduction without one of these, and the expression takes its time
    intro = _INTRO.match(text, start, end)
    if intro is not None and end - intro.end() >= _MIN_STEM_CHARS:
        return intro.end(), end
    return span


# With a question and its options below, these in front of it say nothing: a line "I was asked
# this:", a short first paragraph, an exclamation, an aside in brackets. Numbers might.
_INTRO = re.compile(
    r"(?:[^\n:?\d]{1,80}:[ \t]*\n|[^\n?\d]{1,80}\n[ \t]*\n|[^\n?.:\d]{1,40}!\s"
    r"|\([A-Za-z ',]{8,40}\)\s)\s*"
)
_MIN_STEM_CHARS: Final = 15


def _header_start(text: str, end: int) -> int:
    """Where a heading such as "Options:" right above ``end`` begins, or -1."""
    floor = max(0, end - 80)
    above = text[floor:end].rstrip()
    if above[-1:] not in (":", "*", "s", "e", "_") or not any(map(above.__contains__, _HEADINGS)):
        return -1
    found = _HEADER.search(text, floor, end)
    return -1 if found is None else found.start()


_HEADINGS: Final = ("ption", "hoice", "nswer", "lternative", "andidate", "OPTION", "CHOICE")


def _without_asking(text: str, end: int) -> int:
    """Drop a line such as "Which option is correct?" between a stem and its options."""
    line = text.rfind("\n", max(0, end - 120), end) + 1
    if line > 1 and _ASKED.fullmatch(text, line, end):
        return line
    return end


def read_ask(text: str) -> Ask:
    """The ask of a raw text: wrapping and instructions off, options apart, open code alone."""
    block = _find_block(text)
    if block is not None:
        return Ask(text, _stem_span(text, block), block.spans, block.style)
    if "??" in text:
        code = open_assertion(text)
        if code is not None:
            return Ask(text, code, (), "")
    return Ask(text, trim_ask(text, 0, len(text)), (), "")


_CODE_START = re.compile(r"^(?:(?:async[ ]def|def|class|import|from|@)[ ]?\w)", re.MULTILINE)
_OPEN_ASSERTION = re.compile(r"^[ \t]*assert\b[^\n]*\?\?[^\n]*", re.MULTILINE)


def open_assertion(text: str) -> Span | None:
    """The span from the first line of code to the last ``assert`` that holds ``??``, or None.

    The prose around it only says how to fill the gap, and a fence or tag only wraps it.
    """
    start = end = -1
    for assertion in _OPEN_ASSERTION.finditer(text):
        # Of several functions, as in worked examples, the last one.
        first = _CODE_START.search(text, max(end, 0), assertion.start())
        if first is not None:
            start = first.start()
        end = assertion.end()
    return (start, end) if start >= 0 else None


# --- finding the block ----------------------------------------------------------------------------


def _find_block(text: str) -> _Block | None:
    candidates: list[_Block] = []
    if _SECOND.search(text):
        candidates += _labelled_blocks(text)
    if "\n" in text and _BULLETS.search(text):
        bullets = _bullet_block(text)
        if bullets is not None:
            candidates.append(bullets)
    if "ptions" in text or "hoices" in text or "PTIONS" in text or "lternatives" in text:
        listed = _listed_block(text)
        if listed is not None:
            candidates.append(listed)
    best: _Block | None = None
    for block in candidates:
        if not _believable(text, block):
            continue
        if best is None:
            best = block
            continue
        # "- A) x" and "Options: A) x": the letters are the labels.
        if abs(block.start - best.start) <= 4 or (block.headed and block.holds(best)):
            continue
        # The last block is the one asked about, unless it lies inside the other's options.
        later, earlier = (block, best) if block.start > best.start else (best, block)
        nested = later.start < earlier.spans[-1][0] or (
            (later.kind == "number" or (later.inline and not earlier.inline))
            and earlier.kind in ("upper", "lower")
            and later.start < earlier.spans[-1][1]
        )
        best = earlier if nested else later
    return best


def _labelled_blocks(text: str) -> list[_Block]:
    """All runs of consecutive labels, one pass over the text."""
    padded = "\n" + text  # so that every label has white space before it
    by_line: dict[str, _Run] = {}
    anywhere: dict[str, _Run] = {}
    done: list[_Run] = []
    for found in _LABEL_END.finditer(padded):
        end = found.end()
        start = end - 3 if padded[end - 3].isdigit() else end - 2
        style, index = _LABELS.get(padded[start:end], _NO_LABEL)
        opener = padded[start - 1]
        if opener in "([":
            start -= 1
            style = opener + style
            if style[-1] in ".:" or not (padded[start - 1] in "* " or padded[start - 1].isspace()):
                continue
        elif style[-1] == "]":
            continue
        run = anywhere.get(style)
        if index > 0 and run is None:
            continue  # nothing to go on with
        if padded[start - 1] == "*" or padded.startswith("*", end):
            start, end = _without_stars(padded, start, end)
        if not (opener in "([" or padded[end : end + 1].isspace()):
            continue
        opens_line = padded[start - 1] == "\n" or _opens_line(padded, start)
        place = (start - 1, end - 1)  # in the text without the padding
        if index == 0:
            if run is not None and style[1:] == ")":
                # The A of "m(g + A)" closes a bracket; it labels nothing.
                lead = padded[max(run.places[-1][1] + 1, start - 80) : end]
                if lead.count("(") >= lead.count(")") > 0:
                    continue
            for runs in (by_line, anywhere) if opens_line else (anywhere,):
                if style in runs:
                    done.append(runs[style])
                runs[style] = _Run(style, runs is by_line, [place])
            continue
        for begun in (by_line.get(style), run) if opens_line else (run,):
            if begun is not None and index == len(begun.places):
                begun.places.append(place)
    done += by_line.values()
    done += anywhere.values()
    found_runs = [run for run in done if len(run.places) > 1]
    found_runs.sort(key=_first_place)
    lined = [run for run in found_runs if run.by_line][-_MAX_RUNS:]
    starts = {run.places[0] for run in lined}
    inline = [run for run in found_runs if not run.by_line and run.places[0] not in starts]
    # Short runs are often parts of one option, "(a) ..., (b) ...": the longest are kept.
    inline.sort(key=_n_labels)
    return [_run_block(text, run) for run in (*lined, *inline[-_MAX_RUNS:])]


def _first_place(run: _Run) -> Span:
    return run.places[0]


def _n_labels(run: _Run) -> int:
    return len(run.places)


_NO_LABEL: Final = ("?", -1)  # such as digits that are not ASCII


def _labels() -> dict[str, tuple[str, int]]:
    """Every label with its closing mark: the first label of its style, and its place in a row."""
    rows = (string.ascii_uppercase, string.ascii_lowercase, [str(n) for n in range(1, 100)])
    labels = {
        label + closer: (f"{row[0]}{closer}", index)
        for row in rows
        for index, label in enumerate(row)
        for closer in ").:]"
    }
    zeros = {f"0{n}{closer}": (f"1{closer}", n - 1) for n in range(1, 10) for closer in ").:]"}
    return {**labels, **zeros}


_LABELS: Final = _labels()


def _without_stars(padded: str, start: int, end: int) -> Span:
    """A label with the marks of bold print around it."""
    while padded[start - 1] == "*":
        start -= 1
    while padded[end : end + 1] == "*":
        end += 1
    return start, end


_KINDS: Final = {"A": "upper", "a": "lower", "1": "number"}


@dataclass(slots=True)
class _Run:
    """Labels in a row while a text is scanned: the place of each label, and behind it."""

    style: str
    by_line: bool
    places: list[Span]

    @property
    def kind(self) -> str:
        """The kind of its labels; see `_Block`."""
        return _KINDS[self.style.lstrip("([")[0]]


def _opens_line(padded: str, start: int) -> bool:
    """Whether only bullets and blanks stand between a line's start and a label.

    Only a few characters back, so that one endless line costs no more than many short ones.
    """
    lead = padded[max(0, start - 8) : start]
    place = lead.rfind("\n")
    return place >= 0 and not lead[place:].strip(" \t\n>-*•")


def _run_block(text: str, run: _Run) -> _Block:
    places = run.places
    if run.by_line:
        places = [
            (_before_bullet(text, start) if text[start - 1 : start] != "\n" else start, end)
            for start, end in places
        ]
    spans = [
        _strip(text, label_end, next_start) for (_, label_end), (next_start, _) in pairwise(places)
    ]
    one_line = not run.by_line or "\n" not in text[spans[0][0] : spans[-1][1]].replace(
        "\n", "", len(spans) - 1
    )
    spans.append(_last_span(text, places[-1][1], one_line=one_line))
    start = _before_bullet(text, places[0][0])
    return _Block(run.kind, run.style, start, tuple(spans), not run.by_line)


def _before_bullet(text: str, start: int) -> int:
    while start > 0 and text[start - 1] in "-*•> \t":
        start -= 1
    return start


def _last_span(text: str, start: int, *, one_line: bool) -> Span:
    """The last option: to the end of its line or paragraph, without an instruction behind it."""
    while start < len(text) and text[start].isspace():
        start += 1
    end = text.find("\n" if one_line else "\n\n", start, start + _MAX_OPTION_CHARS)
    if end < 0:
        end = min(len(text), start + _MAX_OPTION_CHARS)
    glued = None
    if _TOLD.search(text, start, end):  # ten times as fast as the expression for all of it
        glued = _INLINE_INSTRUCTION.search(text, start, end)
    if glued is not None and is_instruction(text, glued.end()):
        end = glued.start()
    else:
        end = max(trim_tail(text, start, end), start)
    return _strip(text, start, end)


def _bullet_block(text: str) -> _Block | None:
    """The last unbroken list of bullets."""
    padded = "\n" + text
    run: list[re.Match[str]] = []
    best: list[re.Match[str]] = []
    for found in _BULLET_LINE.finditer(padded):
        if run and (found[1] != run[-1][1] or padded[run[-1].end() : found.start()].strip()):
            run = []
        run.append(found)
        if len(run) > 1:
            best = run
    if len(best) < 2:
        return None
    spans = tuple([_strip(text, found.start(2) - 1, found.end(2) - 1) for found in best])
    return _Block("bullet", best[0][1], max(0, best[0].start() - 1), spans, inline=False)


_SEPARATORS: Final = (" | ", "; ", " / ", ", ")
_QUOTED = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"")


def _listed_block(text: str) -> _Block | None:
    """Options behind "Options:", in that line or one a line below it."""
    found = list(_LISTED.finditer(text))
    if not found:
        return None
    last = found[-1]
    start, end = last.span(1)
    line = text[start:end]
    if line.strip(" *_"):
        spans = _split_line(text, start, end)
    else:
        stop = text.find("\n\n", end + 1)
        region_end = trim_tail(text, end, len(text) if stop < 0 else stop)
        spans = []
        place = end + 1
        for piece in text[end + 1 : region_end].split("\n"):
            if piece.strip():
                spans.append(_strip(text, place, place + len(piece)))
            place += len(piece) + 1
    if len(spans) < 2:
        return None
    return _Block("line", "line", last.start(), tuple(spans), inline=True, headed=True)


def _split_line(text: str, start: int, end: int) -> list[Span]:
    line = text[start:end]
    if line.lstrip().startswith("["):
        quoted = [
            (start + found.start() + 1, start + found.end() - 1) for found in _QUOTED.finditer(line)
        ]
        if len(quoted) > 1:
            return quoted
    end = max(trim_tail(text, start, end), start)
    line = text[start:end]
    for separator in _SEPARATORS:
        if separator in line:
            spans = []
            for piece in line.split(separator):
                spans.append(_strip(text, start, start + len(piece)))
                start += len(piece) + len(separator)
            return [span for span in spans if span[1] > span[0]]
    return []


def _strip(text: str, start: int, end: int) -> Span:
    piece = text[start:end].rstrip(" \t\r\n;")
    end = start + len(piece)
    return end - len(piece.lstrip(" \t\r\n*")), end


def _believable(text: str, block: _Block) -> bool:
    """Whether a list is a set of options rather than steps, tasks or an enumeration."""
    spans = block.spans
    count = len(spans)
    if not 2 <= count <= MAX_OPTIONS:
        return False
    lengths = [end - start for start, end in spans]
    if max(lengths) > _MAX_OPTION_CHARS or 2 * lengths.count(0) > count:
        return False
    if (
        block.inline
        and not block.headed
        and any(start == end or text[start] in ",;)" for start, end in spans)
    ):
        return False  # "for (a) and 3 for (b)" names parts of the question
    before = text[max(0, block.start - 200) : block.start].rstrip()
    last_line = before[before.rfind("\n") + 1 :]
    asked = last_line.endswith(("?", "?)", "?*", '?"')) or (
        last_line.endswith((":", "_", "...")) and bool(_CUE.search(last_line))
    )
    headed = block.headed or _header_start(text, block.start) >= 0
    if not (asked or headed) and 2 * sum([text[end - 1] == "?" for _, end in spans]) > count:
        return False  # a list of questions
    after = text[spans[-1][1] : spans[-1][1] + 600].strip()
    asked_after = bool(_ASKED_AFTER.match(after))
    left = 0 if asked_after else trim_tail(after, 0, len(after))
    told = asked_after or (left == 0 and bool(_AFTER_CUE.search(after)))
    if left > _MAX_AFTER_CHARS:
        return False
    if headed:
        return True
    if block.kind in ("number", "bullet"):
        # Only right below a question, and nothing but an instruction below them.
        if told or (asked and _CHOICE.search(last_line)):
            return True
        return left == 0 and asked and max(lengths) <= _MAX_LISTED_CHARS
    if told:
        return True
    if block.style.endswith(":"):  # a dialogue and a table have such labels too
        if left > 0:
            return False
        enough = count >= 4
    elif block.inline:
        enough = count >= 3 and block.kind == "upper"
        if not enough and block.style == "A.":
            return False
    else:
        enough = count >= 4 or block.style in ("A)", "(A)")
    return enough or asked or bool(_CUE.search(before))
