"""An estimate of input tokens, for upstreams that cannot count them.

Text is counted by the kind of its characters: words of ASCII letters by length, digits in groups of
three, punctuation one by one, Chinese, Japanese and Korean characters singly, other scripts by two
and a half characters. Media count as in `zerorouter.predict`. Frames of messages and tools are
added as OpenAI describes for its own models (three to four tokens a message,
https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from zerorouter.gateway.wire.codec import dumps
from zerorouter.predict.media import anthropic_area, image_size
from zerorouter.predict.prompt import MEDIA_TOKENS

_MESSAGE_FRAME: Final = 4
_TOOLS_FRAME: Final = 12
_TOOL_FRAME: Final = 8
_WHOLE_CHARS: Final = 200_000  # of a text; a longer one is judged by as much of it, evenly spread
_N_SAMPLES: Final = 20
_CHARS_PER_PIECE: Final = 6.5  # of a longer word, beyond its first piece
_PIECE: Final = re.compile(
    r"(?P<word> ?[A-Za-z]+)|(?P<number>\d{1,3})"
    r"|(?P<wide>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])"
    r"|(?P<other>[^\x00-\x7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+)"
    r"|(?P<mark> ?[!-/:-@\[-`{-~]{1,3})|(?P<blank>\s+)"
)
_MEDIA_OF_BLOCK: Final = {
    "image": "image",
    "image_url": "image",
    "document": "document",
    "file": "document",
    "input_audio": "audio",
}


def count_text(text: str) -> int:
    """Estimated tokens of a text."""
    if len(text) <= _WHOLE_CHARS:
        return math.ceil(_count(text))
    size = _WHOLE_CHARS // _N_SAMPLES
    step = (len(text) - size) // (_N_SAMPLES - 1)
    seen = sum([_count(text[k * step : k * step + size]) for k in range(_N_SAMPLES)])
    return math.ceil(seen * len(text) / (size * _N_SAMPLES))


def count_tokens(body: Mapping[str, Any]) -> int:
    """Estimated input tokens of an Anthropic or OpenAI chat request.

    Args:
        body: The request as parsed: ``messages``, and where they are there ``system``, ``tools``.
    """
    total = 0
    system = body.get("system")
    if system:
        total += _MESSAGE_FRAME + _count_content(system)
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, Mapping):
            total += _MESSAGE_FRAME + _count_content(message.get("content"))
            for name in ("tool_calls", "refusal", "reasoning_content"):
                if message.get(name):
                    total += _count_json(message[name])
    tools = body.get("tools")
    if isinstance(tools, list) and tools:
        total += _TOOLS_FRAME + sum([_TOOL_FRAME + _count_json(tool) for tool in tools])
    return max(total, 1)


def _count(text: str) -> float:
    total = 0.0
    for piece in _PIECE.finditer(text):
        kind = piece.lastgroup
        length = piece.end() - piece.start()
        if kind == "word":
            total += 1 + max(length - 8, 0) / _CHARS_PER_PIECE
        elif kind == "other":
            total += max(length / 2.5, 1)
        elif kind == "blank":
            total += 0 if length == 1 and piece[0] == " " else 0.5 + length / 16
        else:
            total += 1
    return total


def _count_content(content: Any) -> int:
    if isinstance(content, str):
        return count_text(content)
    return sum([_count_block(block) for block in content]) if isinstance(content, list) else 0


def _count_block(block: Any) -> int:
    if isinstance(block, str):
        return count_text(block)
    if not isinstance(block, Mapping):
        return 0
    kind = block.get("type")
    if isinstance(kind, str) and kind in _MEDIA_OF_BLOCK:
        return _count_media(kind, block)
    if kind in ("thinking", "redacted_thinking"):
        return 0  # earlier thinking is taken out of the context, and is not billed
    if isinstance(kind, str) and kind.endswith("tool_result"):
        return _MESSAGE_FRAME + _count_content(block.get("content"))
    if isinstance(block.get("text"), str):
        return count_text(block["text"])
    return sum([count_text(text) for text in _texts(block)])


def _count_media(kind: str, block: Mapping[str, Any]) -> int:
    source = block.get("source")
    if kind == "document" and isinstance(source, Mapping):
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            return count_text(source["data"])
        if source.get("type") == "content":
            return _count_content(source.get("content"))
    if _MEDIA_OF_BLOCK[kind] == "image":
        size = image_size(block)
        if size is not None:
            return math.ceil(anthropic_area(size.width, size.height))
    return math.ceil(MEDIA_TOKENS[_MEDIA_OF_BLOCK[kind]].mean)


def _count_json(value: Any) -> int:
    return count_text(dumps(value).decode("utf-8"))


def _texts(block: Mapping[str, Any]) -> Iterator[str]:
    """What a block of another type holds, but its id."""
    for name, value in block.items():
        if name in ("id", "type", "cache_control", "signature"):
            continue
        yield value if isinstance(value, str) else dumps(value).decode("utf-8")
