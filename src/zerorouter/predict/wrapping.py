"""What surrounds an ask and does not change how hard it is, and how to take it off.

Two documented lists say it all: `INSTRUCTIONS` on how to answer, which open a sentence or a line
behind or before the ask, and `LEADS`, which introduce it (who the assistant is, that a question
follows, a greeting). Only whole sentences at the two ends are dropped, never the middle. A list
that misses a wording costs little: spaces are fitted on such wrappings too (`templates`).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]

_TAIL_CHARS: Final = 400  # how far back an answer instruction may start
_MAX_DROPPED: Final = 8  # sentences at either end

INSTRUCTIONS: Final = (
    # think step by step; let us work through this
    r"let(?:'|’)?s\s+(?:think|work|solve|reason|go|break)\b",
    r"(?:think|reason|work|solve|explain|proceed|go)\b[^\n]{0,80}?\b(?:step|carefully|careful)",
    r"take\s+(?:your\s+time|a\s+(?:deep\s+)?breath)",
    r"(?:show|explain|describe|give|lay\s+out|justify)\s+(?:me\s+)?(?:all\s+)?(?:of\s+)?"
    r"(?:your|the)\s+(?:work\b|working|reasoning|steps|thinking|thought|choice|answer)",
    # answer with the letter; reply with one option only
    r"(?:answer|respond|reply|choose|select|pick|print|output|indicate|name|mark|return)\b"
    r"[^\n]{0,100}?\b(?:letters?|options?|choices?|labels?|alternatives?|json"
    r"|(?:correct|right|best|final)\s+(?:answer|one)|(?:number|bullet)\s+of)\b",
    r"(?:answer|respond|reply)\s+(?:only|just|briefly|concisely|directly|in|with|by|using|to\s+the)\b",
    # give the final answer after ..., put it in \boxed{}
    r"(?:give|state|write|put|place|wrap|enclose|provide|report|return|end|finish|conclude|box|"
    r"present|output|print|mark)\b[^\n]{0,60}?\b(?:(?:final|correct|right|only\s+the|your|the)\s+"
    r"(?:answer|result|number|value|choice|letter|option|literal)|boxed)\b",
    r"(?:make\s+sure|be\s+sure|remember|ensure)\b[^\n]{0,80}?"
    r"\b(?:answer|letter|option|format|boxed)\b",
    r"(?:do\s+not|don(?:'|’)?t|no|without)\s+(?:any\s+|need\s+to\s+|an?\s+|other\s+)?"
    r"(?:explain|explanations?|reasoning|include|add|write|show|other\s+text|further\s+text)\b",
    r"(?:only|exactly|just)\s+one\b[^\n]{0,40}?\b(?:correct|right|answer|option)\b",
    r"there\s+is\s+(?:only|exactly|just)\s+one\s+(?:correct|right|answer)",
    r"(?:your|the)\s+(?:final\s+|last\s+)?(?:answer|response|reply|output|line)\s+"
    r"(?:should|must|has\s+to|needs\s+to)\b[^\n]{0,60}?"
    r"\b(?:letter|option|number|only|format|line|boxed)\b",
    # thanks
    r"(?:many\s+|a\s+lot\s+of\s+)?(?:thanks|thank\s+you|thx|cheers)\b[^\n]{0,40}$",
    # a prompt left open: "Answer:", "A:"
    r"(?:(?:the|your|my|final|correct|best)\s+)*(?:answer|solution|response|output|a)\s*(?:is\s*)?"
    r"(?::[^\w]*|[(\[]?)$",
)
"""How to answer, never what: "express the result as a fraction" stays, it is the problem's."""

LEADS: Final = (
    r"you(?:'re|\s+are)\s+(?:now\s+)?(?:an?|the)\s[^\n.]{0,60}?\b(?:assistant|expert|tutor|teacher|ai\b"
    r"|model|professor|student|specialist|solver|mathematician|scientist|programmer|examinee|scholar"
    r"|helper|chatbot|engineer|interpreter)",
    r"you\s+(?:will\s+be|are)\s+(?:given|shown|presented)\b",
    r"(?:the\s+following|below|here)\s+(?:is|are)\s+(?:an?|the|some|several|multiple|my|one)?\s*"
    r"[^\n.:]{0,40}?\b(?:questions?|problems?|examples?|functions?|programs?|snippets?|task)\b",
    r"(?:answer|solve|read|consider|complete|attempt|work\s+out|look\s+at|study)\s+(?:carefully\s+)?"
    r"(?:the|this|these|each)\s+(?:following\s+)?[^\n.:?]{0,40}?"
    r"\b(?:questions?|problems?|exercises?|functions?|programs?|snippets?|task)\b",
    r"(?:can|could|would|will)\s+you\s+(?:please\s+)?(?:help|assist|answer|solve)\b[^\n.?!\d]{0,50}"
    r"\b(?:this|with|me|question|problem)\b[^\n.?!\d]{0,30}(?=[.?!:])",
    r"(?:multiple[- ]choice|exam|quiz|test)\s+(?:questions?|problems?)?\s*\d*\s*[:.]",
    r"(?:system|instructions?)\s*:",
    r"(?:hi|hello|hey|dear|greetings|good\s+(?:morning|evening|afternoon))\b[^\n.?!:,\d]{0,30}[.!,:]",
    r"(?:just\s+)?(?:an?\s+)?(?:quick|short|small|simple)\s+(?:one|question)\b[^\n.?!:\d]{0,30}[.!:]",
    r"i(?:(?:'|’)m|\s+am|(?:'|’)ve|\s+have|\s+need|\s+got)?\s[^\n.?!:\d]{0,80}"
    r"\b(?:stuck|exam|homework|revising|studying|practising|practicing|quiz|question|help)\b"
    r"[^\n.?!:\d]{0,60}[.:!]",
)
"""Introductions in front of the ask; numbers never stand in one."""

_POLITE = (
    r"[\s*_#>(\[\"'-]*"
    r"(?:(?:please|now|then|finally|also|first|and|so|next|at\s+the\s+end)\b,?\s*)*"
)
_INSTRUCTION = re.compile(_POLITE + "(?:" + "|".join(INSTRUCTIONS) + ")", re.IGNORECASE)
_LEAD = re.compile(_POLITE + "(?:" + "|".join(LEADS) + ")", re.IGNORECASE)
_SENTENCE = re.compile(r"[^\n]{0,400}?(?:[.!?:](?=\s)|\n|$)\s*")
_GREETING = re.compile(r"[^\n]{0,40}?[.!:,](?=\s)\s*")
_HEADING = re.compile(r"#{1,6}[ \t]+[^\n]{1,60}\n\s*")
_BREAKS: Final = ("\n", ". ", "? ", "! ", ": ", "; ", ") ", '" ', "} ", "$ ")
# All marks of _BREAKS as one, so that two searches find the last break: a fifth of the time.
_CLOSERS: Final = bytes.maketrans(b'?!:;)"}$', b"........")

# Words one of which every instruction holds: substring tests are far cheaper than the expressions.
_TAIL_HINTS: Final = (
    "nswer", "step", "etter", "ption", "hoice", "xpla", "inal", "eason", "espon", "eply",
    "boxed", "A:", "olution", "utput", "carefully", "your", "Let", "nly", "hank", "heers", "thx",
)  # fmt: skip
# Every introduction and instruction opens with one of these, politeness included.
_FIRST_WORD = re.compile(r"[\s*_#>(\[\"'-]*([A-Za-z]+)")
_LEAD_WORDS: Final = frozenset(
    """
    please now then finally also first and so next at you the following below here answer solve
    read consider complete attempt work look study multiple exam quiz test system instruction
    instructions let lets think reason explain proceed go take show describe give lay justify
    respond reply choose select pick print output indicate name mark return state write put place
    wrap enclose provide report end finish conclude box present make be remember ensure do don no
    without only exactly just there your my final correct best solution response a can could would
    will hi hello hey dear greetings good quick short small simple an i
    """.split()  # noqa: SIM905 (a table of words reads better than a list of literals)
)
# Every instruction opens with one of these, politeness included; "is" may be glued to an answer.
_INSTRUCTION_WORDS: Final = frozenset(
    """
    please now then finally also first and so next at let lets think reason work solve explain
    proceed go take show describe give lay justify answer respond reply choose select pick print
    output indicate name mark return state write put place wrap enclose provide report end finish
    conclude box present make be remember ensure do don dont no without only exactly just there
    your the many a thanks thank thx cheers my final correct best solution response answeris
    solutionis responseis outputis ais
    """.split()  # noqa: SIM905
)
_GREETINGS: Final = frozenset(("hi", "hello", "hey", "dear", "greetings", "good"))
_MARKERS: Final = (
    "Question:", "question:", "QUESTION:", "Q:", "Problem:", "PROBLEM:", "User:", "Human:",
    "Exercise:", "Task:",
)  # fmt: skip
_MARKER_WORDS: Final = frozenset(("question", "q", "problem", "user", "human", "exercise", "task"))
_MARKER = re.compile(
    r"[\s*#>_]*(?:question|q|problem|user|human|exercise|task)(?:\s+\d{1,3})?[\s*]*[:.][\s*]+",
    re.IGNORECASE,
)


def trim_tail(text: str, start: int, end: int) -> int:
    """The end of ``text[start:end]`` without answer instructions behind the ask."""
    for _ in range(_MAX_DROPPED):
        while end > start and text[end - 1].isspace():
            end -= 1
        floor = max(start, end - _TAIL_CHARS)
        cut = _instruction_start(text[floor:end], whole=floor == start)
        if cut < 0:
            break
        end = floor + cut
    return end


def _instruction_start(tail: str, *, whole: bool) -> int:
    """Where the instruction that ``tail`` ends with begins, or -1.

    Cheap looks come first, since hardly any sentence is an instruction: at its first word, at the
    expression, and only then for a hint. ``whole`` says that nothing stands before the tail.
    """
    is_plain = tail.isascii()  # other letters may match in place of s, k and i
    marks = tail.encode().translate(_CLOSERS) if is_plain else b""
    cut = len(tail)
    for _ in range(3):
        cut = _last_break(marks, cut) if is_plain else _sentence_start(tail, cut)
        if cut < 0 or (cut == 0 and not whole):
            return -1
        word = _FIRST_WORD.match(tail, cut)
        likely = not is_plain or (word is not None and word[1].lower() in _INSTRUCTION_WORDS)
        if likely and _INSTRUCTION.match(tail, cut):
            return cut if any(map(tail.__contains__, _TAIL_HINTS)) else -1
        if len(tail) - cut > 12:  # a real sentence; shorter scraps belong to the one before
            return -1
    return -1


def is_instruction(text: str, place: int) -> bool:
    """Whether an instruction on how to answer begins at ``place``."""
    return _INSTRUCTION.match(text, place) is not None


def _sentence_start(tail: str, end: int) -> int:
    """Where the sentence or line that reaches up to ``end`` begins; -1 before the first."""
    if end <= 0:
        return -1
    stop = end - 2  # the last mark closes the sentence itself
    return max(
        [tail.rfind(mark, 0, stop) + len(mark) for mark in _BREAKS if mark in tail[:stop]] or [0]
    )


def _last_break(marks: bytes, end: int) -> int:
    """`_sentence_start` of a text in ASCII whose marks are full stops."""
    if end <= 0:
        return -1
    line = marks.rfind(b"\n", 0, end - 2) + 1
    stop = marks.rfind(b". ", 0, end - 2)
    return max(line, stop + 2) if stop >= 0 else line


def _trim_lead(text: str, start: int, end: int) -> int:
    """The start of ``text[start:end]`` without introductions and few-shot examples."""
    is_plain = text.isascii()  # other letters may match in place of s, k and i
    if text.count(":", start, end) > 1:
        start = _after_examples(text, start, end)
    for _ in range(_MAX_DROPPED):
        while start < end and text[start].isspace():
            start += 1
        word = _FIRST_WORD.match(text, start, end)
        opener = "" if word is None else word[1].lower()
        found = None
        if opener in _MARKER_WORDS or not is_plain:
            found = _MARKER.match(text, start, end)
        if found is None and text.startswith("#", start):
            found = _HEADING.match(text, start, end)
        if found is None:
            if opener not in _LEAD_WORDS:
                break
            if not (_LEAD.match(text, start, end) or _INSTRUCTION.match(text, start, end)):
                break
            pattern = _GREETING if opener in _GREETINGS else _SENTENCE
            found = pattern.match(text, start, end)
        if found is None or found.end() >= end or found.end() == start:
            break
        start = found.end()
    return start


def _after_examples(text: str, start: int, end: int) -> int:
    """Behind the last of several ``Question:`` marks: what stands before are worked examples."""
    for marker in _MARKERS:
        last = text.rfind(marker, start, end)
        if last <= start or end - last < len(marker) + 8:
            continue
        first = text.find(marker, start, last)
        if first >= 0 and text[last - 1] in "\n*# ":
            return last + len(marker)
    return start


def trim_ask(text: str, start: int, end: int) -> Span:
    """The ask inside ``text[start:end]``; the whole of it where trimming would leave nothing."""
    new_end = trim_tail(text, start, end)
    new_start = _trim_lead(text, start, new_end)
    while new_end > new_start and text[new_end - 1].isspace():
        new_end -= 1
    if new_end - new_start >= 2:
        return new_start, new_end
    while end > start and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end
