"""A prompt cache as the vendors bill it: long beginnings that were sent before are cheap.

OpenAI caches by itself, from 1,024 tokens on, in steps of 128. Anthropic caches up to the blocks
that carry ``cache_control``, from 1,024 tokens on, and bills what is newly written. Entries live
until others push them out; the vendors' lifetimes of minutes are not played.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

from zerorouter.sandbox.answering import NO_CACHE, CacheUse

LEAST_TOKENS: Final = 1_024
STEP_TOKENS: Final = 128
_KEPT: Final = 65_536
_MOST_PARTS: Final = 2_000  # of a conversation whose beginnings are remembered


class PromptCache:
    """Remembers which beginnings of prompts each model has seen."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def use(self, wire: str, model: str, body: Mapping[str, Any], tokens: int) -> CacheUse:
        """What of a request is read from the cache and written to it; remembers the request.

        Args:
            wire: ``openai`` or ``anthropic``.
            model: The model's own name.
            body: The request.
            tokens: Its input tokens.
        """
        if tokens < LEAST_TOKENS:
            return NO_CACHE
        beginnings = list(_beginnings(wire, model, body))
        share = tokens / max(beginnings[-1][1], 1) if beginnings else 0.0
        sized = [(key, int(size * share), marked) for key, size, marked in beginnings]
        read = max([size for key, size, marked in sized if marked and key in self._seen], default=0)
        if wire == "openai":
            # The last token is always computed; steps are counted from the start of the prompt.
            read = min(read, tokens - 1) // STEP_TOKENS * STEP_TOKENS
            use = CacheUse(read_tokens=read if read >= LEAST_TOKENS else 0)
        else:
            written = max([size for _, size, marked in sized if marked], default=0)
            if written < LEAST_TOKENS:
                return NO_CACHE
            read = read if read >= LEAST_TOKENS else 0
            use = CacheUse(read_tokens=read, write_tokens=max(written - read, 0))
        for key, _, marked in sized:
            if marked:
                self._seen.pop(key, None)
                self._seen[key] = None
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return use


def _beginnings(
    wire: str, model: str, body: Mapping[str, Any]
) -> Iterator[tuple[bytes, int, bool]]:
    """Each beginning of a prompt: its key, its size in characters, whether it may be cached."""
    running = blake2b(f"{wire}\x1f{model}".encode("utf-8", "surrogatepass"), digest_size=16)
    size = 0
    automatic = wire == "openai" or "cache_control" in body
    for part in _parts(body):
        written = json.dumps(_bare(part), ensure_ascii=False).encode("utf-8", "surrogatepass")
        running.update(written)
        size += len(written)
        yield running.digest(), size, automatic or _marked(part)


def _parts(body: Mapping[str, Any]) -> Iterator[Any]:
    """Tools, system prompt and messages, in the order in which vendors read them."""
    parts: list[Any] = []
    for key in ("tools", "system", "instructions"):
        value = body.get(key)
        parts += value if isinstance(value, list) else [] if value is None else [value]
    messages = body.get("messages", body.get("input", ()))
    listed = messages if isinstance(messages, list) else [messages]
    for message in listed[:_MOST_PARTS]:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            parts += [{"role": message.get("role"), "part": part} for part in content]
        else:
            parts.append(message)
    yield from parts[:_MOST_PARTS]


def _marked(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    inner = part.get("part")
    return bool(
        part.get("cache_control") or (isinstance(inner, dict) and inner.get("cache_control"))
    )


def _bare(part: Any) -> Any:
    """The part without its mark, which may stand elsewhere the next time."""
    if not isinstance(part, dict):
        return part
    bare = {key: value for key, value in part.items() if key != "cache_control"}
    if isinstance(bare.get("part"), dict):
        bare["part"] = {k: v for k, v in bare["part"].items() if k != "cache_control"}
    return bare
