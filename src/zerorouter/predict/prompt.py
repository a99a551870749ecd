"""Reading a request: from a string or chat messages to the `Prompt` that routing looks at.

Notable choices:

- Routing reads the *human ask*: the last user message in which a person said something. Tool
  results, assistant turns and the blocks that agent harnesses add (`HARNESS_BLOCKS`) are not the
  ask; a very short ask ("continue") is read together with the one before it.
- OpenAI chat messages and Anthropic messages are read by the same code, part by part. A part
  type that is not known is counted as media ``"other"`` and never an error: providers add types
  faster than routers are released.
- A long ask is read through bounded windows (head, evenly spaced chunks, tail), so memory and
  time stay bounded; `Prompt.is_abridged` and `Prompt.n_chars` say so.
- Lone surrogates become U+FFFD and NULs become spaces: both occur in the wild, and refusing a
  request that the upstream would have answered helps nobody.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from zerorouter.errors import PromptError
from zerorouter.predict.media import ImageSize, image_size

MAX_PROMPT_CHARS: Final = 20_000_000
"""Characters of a whole conversation beyond which it is refused: no model reads so much."""

LONG_TEXT_CHARS: Final = 12_000
"""An ask longer than this is read through windows."""
HEAD_CHARS: Final = 4_000
TAIL_CHARS: Final = 4_000
N_CHUNKS: Final = 4
CHUNK_CHARS: Final = 1_000

SHORT_ASK_CHARS: Final = 25
"""An ask shorter than this is read together with the asks before it."""

CHARS_PER_TOKEN: Final = 4.0
TOKENS_RELATIVE_SD: Final = 0.25
"""Characters per token run from about 3 (code, other scripts) to 5 (plain English)."""

CAPABILITIES: Final = ("audio", "documents", "json", "tools", "video", "vision")
"""Every word that `Prompt.requirements` can hold."""

HARNESS_BLOCKS: Final = (
    "bash-stderr",
    "bash-stdout",
    "command-message",
    "command-name",
    "environment_context",
    "environment_details",
    "function_results",
    "ide_opened_file",
    "ide_selection",
    "local-command-caveat",
    "local-command-stderr",
    "local-command-stdout",
    "system-reminder",
    "task-notification",
    "tool_result",
    "user-prompt-submit-hook",
)
"""Tags of blocks that coding agents write into user messages; they are cut out of the ask."""

ASK_WRAPPERS: Final = ("command-args", "user_query")
"""Tags that such agents put *around* the ask; only the tags are cut out."""


class TokenEstimate(NamedTuple):
    """A number of tokens and its standard deviation."""

    mean: float
    sd: float


MEDIA_TOKENS: Final[Mapping[str, TokenEstimate]] = {
    # An image costs 85 to 1,600 tokens by vendor, size and detail; a photo mostly 700 to 1,500.
    "image": TokenEstimate(900, 500),
    # 10 to 32 tokens a second by vendor, clips of about half a minute.
    "audio": TokenEstimate(600, 600),
    # About 260 to 300 tokens a second, clips of about half a minute.
    "video": TokenEstimate(8_000, 8_000),
    # 500 to 3,000 tokens a page, a handful of pages.
    "document": TokenEstimate(8_000, 8_000),
    "other": TokenEstimate(500, 500),
}
"""Typical input tokens of one media part. The vendors count differently and the request does not
say how large the medium is, hence deviations as large as the means."""

_MEDIA_OF_PART: Final = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "video": "video",
    "input_video": "video",
    "file": "document",
    "input_file": "document",
    "document": "document",
}
_CAPABILITY_OF_MEDIA: Final = {
    "image": "vision",
    "audio": "audio",
    "video": "video",
    "document": "documents",
}
_TEXT_PARTS: Final = {"text": "text", "input_text": "text", "output_text": "text"}
# Parts that are read by the model but written by no person; value: the fields that hold text.
_SILENT_PARTS: Final = {
    "thinking": ("thinking",),
    "redacted_thinking": (),
    "reasoning": ("text", "summary"),
    "refusal": ("refusal",),
}
_TOOL_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use", "function_call"})
_TOOL_RESULT_SUFFIX: Final = "tool_result"  # also web_search_tool_result and its like

_SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_UNREADABLE: Final = re.compile("[\x00\ud800-\udfff]")
_TAG_OPEN: Final = re.compile(rf"<({'|'.join(HARNESS_BLOCKS)})(?=[\s>])")
_WRAPPER_TAG: Final = re.compile(rf"</?(?:{'|'.join(ASK_WRAPPERS)})>")
_MAX_DEPTH: Final = 32  # of nested tool arguments and results; deeper text is not counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What routing knows of a request. Made by `read_prompt`.

    Attributes:
        windows: The human ask as the encoder and the structural features read it: one element
            for ordinary asks; head, evenly spaced chunks and tail for long ones. Clean Unicode.
        ask_chars: Characters of the ask before it was cut into windows.
        n_chars: Characters of the whole conversation with system prompt and tools; the bytes of
            media are not counted.
        n_turns: User messages in which a person said or attached something; at least 1.
        requirements: Capabilities a model needs, sorted, out of `CAPABILITIES`.
        media: Media parts by kind: ``image, audio, video, document, other``.
        system_chars: Characters of system and developer messages.
        n_tools: Tools declared for the request.
        images: Sizes of those images that are in the request itself.
    """

    windows: tuple[str, ...]
    ask_chars: int
    n_chars: int
    n_turns: int = 1
    requirements: tuple[str, ...] = ()
    media: Mapping[str, int] = field(default_factory=dict, hash=False)
    system_chars: int = 0
    n_tools: int = 0
    images: tuple[ImageSize, ...] = ()

    @property
    def text(self) -> str:
        """The human ask, bounded; empty only for a message made of media alone."""
        return self.windows[0] if len(self.windows) == 1 else "\n".join(self.windows)

    @property
    def chunks(self) -> tuple[str, ...]:
        """The windows between head and tail; none for ordinary asks."""
        return self.windows[1:-1]

    @property
    def is_abridged(self) -> bool:
        """Whether the ask was too long to be read whole."""
        return len(self.windows) > 1

    @property
    def media_tokens(self) -> TokenEstimate:
        """Input tokens of the media parts, by `MEDIA_TOKENS`.

        Parts of one kind err together (one vendor's way of counting), kinds independently.
        """
        mean = sum(n * MEDIA_TOKENS[kind].mean for kind, n in self.media.items())
        sds = [n * MEDIA_TOKENS[kind].sd for kind, n in self.media.items()]
        return TokenEstimate(mean, math.hypot(*sds))

    @property
    def input_tokens(self) -> TokenEstimate:
        """Input tokens of the whole request: text by `CHARS_PER_TOKEN`, plus the media."""
        text, media = self.n_chars / CHARS_PER_TOKEN, self.media_tokens
        return TokenEstimate(text + media.mean, math.hypot(text * TOKENS_RELATIVE_SD, media.sd))


def read_prompt(
    value: str | Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    response_format: Any = None,
) -> Prompt:
    """Read a request's text or messages.

    Args:
        value: A plain prompt, or OpenAI or Anthropic chat messages. Anthropic's top-level
            ``system`` is handed over as a first message with that role.
        tools: The request's tool declarations, in any vendor's form; counted and measured.
        response_format: The request's ``response_format``; anything but plain text asks for
            the capability ``"json"``.

    Raises:
        PromptError: The prompt is empty, too long or not made of messages. The message names
            the position of what is wrong.
    """
    if isinstance(value, str):
        if not tools and response_format is None:
            return _read_text(value)
        reading = _Reading(n_chars=len(value))
        reading.hear(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        raise PromptError("the prompt is bytes; wanted str: decode it first, as UTF-8")
    elif isinstance(value, Sequence):
        reading = _read_messages(value)
    else:
        raise PromptError(
            f"the prompt is {_kind(value)}; wanted a str or a list of messages such as "
            '{"role": "user", "content": "..."}'
        )
    if tools:
        reading.n_tools = len(tools)
        reading.n_chars += _count_chars(tools)
        reading.capabilities.add("tools")
    if _wants_json(response_format):
        reading.n_chars += _count_chars(response_format)
        reading.capabilities.add("json")
    return reading.finish()


def _read_text(text: str) -> Prompt:
    """`read_prompt` of a plain text, the most frequent request, without the books of messages."""
    _require_size(len(text))
    ask = _without_harness(text) or text.strip()
    return Prompt(windows=_cleaned(ask), ask_chars=len(ask), n_chars=len(text))


def _require_size(n_chars: int) -> None:
    if n_chars > MAX_PROMPT_CHARS:
        raise PromptError(
            f"the prompt has {n_chars:,} characters; the limit is "
            f"{MAX_PROMPT_CHARS:,}: shorten it or split it into several requests"
        )


def _cleaned(ask: str, *, has_media: bool = False) -> tuple[str, ...]:
    """The windows of an ask in clean Unicode.

    Raises:
        PromptError: there is nothing in them, and no medium beside them.
    """
    windows = tuple([_clean(window) for window in _windows(ask)])
    if not has_media and not any(map(str.strip, windows)):
        raise PromptError(
            "the prompt is empty; wanted some text, or a message with an image, a sound, "
            "a video or a document"
        )
    return windows


@dataclass(kw_only=True, slots=True)
class _Reading:
    """What has been gathered so far; `finish` turns it into a `Prompt`."""

    n_chars: int = 0
    system_chars: int = 0
    n_turns: int = 0
    n_tools: int = 0
    asks: list[str] = field(default_factory=list)  # what a person said, in order
    user_texts: list[str] = field(default_factory=list)  # the same messages as they came
    tool_texts: list[str] = field(default_factory=list)
    media: defaultdict[str, int] = field(default_factory=partial(defaultdict, int))
    images: list[ImageSize] = field(default_factory=list)
    capabilities: set[str] = field(default_factory=set)

    def hear(self, text: str, *, has_media: bool = False) -> None:
        """Take in the text of one user message."""
        self.user_texts.append(text)
        said = _without_harness(text)
        if said:
            self.asks.append(said)
        self.n_turns += bool(said) or has_media

    def finish(self) -> Prompt:
        _require_size(self.n_chars)
        ask = _human_ask(self.asks) or _last_words(self.user_texts) or _last_words(self.tool_texts)
        windows = _cleaned(ask, has_media=bool(self.media))
        needed = self.capabilities
        if self.media:
            found = {_CAPABILITY_OF_MEDIA[k] for k in self.media if k in _CAPABILITY_OF_MEDIA}
            needed = needed | found
        return Prompt(
            windows=windows,
            ask_chars=len(ask),
            n_chars=self.n_chars,
            n_turns=max(self.n_turns, 1),
            requirements=tuple(sorted(needed)),
            media=dict(self.media),
            system_chars=self.system_chars,
            n_tools=self.n_tools,
            images=tuple(self.images),
        )


def _human_ask(asks: Sequence[str]) -> str:
    """The last thing a person said, led by what was said before it while that is very short."""
    ask = ""
    for earlier in reversed(asks):
        ask = f"{earlier}\n{ask}" if ask else earlier
        if len(ask) >= SHORT_ASK_CHARS:
            break
    return ask


def _last_words(texts: Sequence[str]) -> str:
    """The last text that is not blank: all there is when no person has said anything."""
    return next((text.strip() for text in reversed(texts) if text.strip()), "")


def _without_harness(text: str) -> str:
    """``text`` without the blocks that a harness wrote into it.

    One pass, linear in the text also where tags are opened and never closed: such a tag is left
    as it is, and its name is not looked for again.
    """
    if "</" not in text:  # nothing is closed, so there is no block
        return text.strip()
    kept: list[str] = []
    at, unclosed = 0, set[str]()
    for match in _TAG_OPEN.finditer(text):
        name = match[1]
        if match.start() < at or name in unclosed:
            continue
        closing = f"</{name}>"
        end = text.find(closing, match.end())
        if end < 0:
            unclosed.add(name)
            continue
        kept.append(text[at : match.start()])
        at = end + len(closing)
    kept.append(text[at:])
    return _WRAPPER_TAG.sub("", "".join(kept)).strip()


def _windows(ask: str) -> tuple[str, ...]:
    if len(ask) <= LONG_TEXT_CHARS:
        return (ask,)
    middle = len(ask) - HEAD_CHARS - TAIL_CHARS
    starts = (
        HEAD_CHARS + int(middle * (2 * i + 1) / (2 * N_CHUNKS)) - CHUNK_CHARS // 2
        for i in range(N_CHUNKS)
    )
    chunks = (ask[start : start + CHUNK_CHARS] for start in starts)
    return (ask[:HEAD_CHARS], *chunks, ask[-TAIL_CHARS:])


def _clean(text: str) -> str:
    if text.isascii() and "\0" not in text:  # both are quick looks at the string's header or bytes
        return text
    return _UNREADABLE.sub(lambda match: " " if match[0] == "\0" else "�", text)


def _read_messages(messages: Sequence[Any]) -> _Reading:
    if not messages:
        raise PromptError("the list of messages is empty; wanted at least one user message")
    reading = _Reading()
    has_user = False
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise PromptError(
                f"message {i} is {_kind(message)}; wanted an object with role and content"
            )
        role = message.get("role")
        if not isinstance(role, str):
            found = "has no role" if role is None else f"has a role that is {_kind(role)}"
            raise PromptError(f"message {i} {found}; wanted user, assistant, system or tool")
        has_user |= role == "user"
        _read_message(reading, role, message, i)
    if not has_user:
        raise PromptError(
            f"none of the {len(messages)} messages is from the user; wanted at least one "
            'with "role": "user"'
        )
    return reading


def _read_message(reading: _Reading, role: str, message: Mapping[str, Any], i: int) -> None:
    content = message.get("content")
    if content is None and role == "user":
        raise PromptError(f"message {i} (user) has no content; wanted text or a list of parts")
    calls = message.get("tool_calls") or message.get("function_call")
    if calls:
        reading.n_chars += _count_chars(calls)
        reading.capabilities.add("tools")

    has_media = False
    if isinstance(content, str):
        text, n_chars = content, len(content)
    else:
        texts: list[str] = []
        n_media = sum(reading.media.values())
        for part in _parts(content, i):
            _read_part(reading, part, texts, i)
        text = texts[0] if len(texts) == 1 else "\n".join(texts)
        n_chars = sum(map(len, texts))
        has_media = sum(reading.media.values()) > n_media
    reading.n_chars += n_chars
    if role == "user":
        reading.hear(text, has_media=has_media)
    elif role in _SYSTEM_ROLES:
        reading.system_chars += n_chars
    elif role != "assistant":  # tool, function, and whatever role comes next
        reading.tool_texts.append(text)


def _parts(content: Any, i: int) -> Iterator[str | Mapping[str, Any]]:
    """The parts of a message's content; a string is one part."""
    if content is None:
        return
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
        raise PromptError(
            f"the content of message {i} is {_kind(content)}; wanted text or a list of parts"
        )
    for j, part in enumerate(content):
        if not isinstance(part, str | Mapping):
            raise PromptError(
                f"part {j} of message {i} is {_kind(part)}; wanted an object with a type"
            )
        yield part


def _read_part(reading: _Reading, part: str | Mapping[str, Any], texts: list[str], i: int) -> None:
    """Add one part to ``texts`` if someone wrote it there, else to the counts."""
    if isinstance(part, str):
        texts.append(part)
        return
    kind = part.get("type")
    if not isinstance(kind, str):
        reading.media["other"] += 1
    elif kind in _TEXT_PARTS:
        text = part.get(_TEXT_PARTS[kind])
        if not isinstance(text, str):
            raise PromptError(
                f"a {kind} part of message {i} holds {_kind(text)} for text; wanted a str"
            )
        texts.append(text)
    elif kind in _MEDIA_OF_PART:
        reading.media[_MEDIA_OF_PART[kind]] += 1
        if _MEDIA_OF_PART[kind] == "image" and (size := image_size(part)) is not None:
            reading.images.append(size)
    elif kind in _TOOL_CALLS:
        reading.capabilities.add("tools")
        reading.n_chars += _count_chars(part.get("input")) + _count_chars(part.get("arguments"))
    elif kind in _SILENT_PARTS:
        reading.n_chars += sum(_count_chars(part.get(name)) for name in _SILENT_PARTS[kind])
    elif kind.endswith(_TOOL_RESULT_SUFFIX):
        _read_tool_result(reading, part.get("content"), i)
    else:
        reading.media["other"] += 1


def _read_tool_result(reading: _Reading, content: Any, i: int) -> None:
    """A tool's answer counts in size and media (a screenshot needs vision); it is not the ask."""
    reading.capabilities.add("tools")
    if not isinstance(content, str | list | tuple):  # vendors' own objects, errors, nothing
        reading.n_chars += _count_chars(content)
        return
    texts: list[str] = []
    for part in _parts(content, i):
        if isinstance(part, Mapping) and str(part.get("type")).endswith(_TOOL_RESULT_SUFFIX):
            reading.n_chars += _count_chars(part)  # results in results: no need to descend
        else:
            _read_part(reading, part, texts, i)
    reading.n_chars += sum(map(len, texts))
    reading.tool_texts.append("\n".join(texts))


def _count_chars(value: Any, depth: int = 0) -> int:
    """About the length of ``value`` as JSON, without writing it out."""
    if isinstance(value, str):
        return len(value)
    if value is None or depth > _MAX_DEPTH:
        return 0
    if isinstance(value, Mapping):
        return 2 + sum(
            len(str(key)) + 6 + _count_chars(item, depth + 1) for key, item in value.items()
        )
    if isinstance(value, Sequence):
        return 2 + sum(2 + _count_chars(item, depth + 1) for item in value)
    return 4  # a number or a truth value


def _wants_json(response_format: Any) -> bool:
    if isinstance(response_format, Mapping):
        return bool(response_format.get("type", "text") != "text")
    return response_format not in (None, "text")


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"
