"""Tokens of an answer, counted alike for all APIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zerorouter.gateway.wire.apis import Api

_LARGEST: Final = 10**12


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenUsage:
    """Tokens of one answer. Parts are contained in their totals.

    Attributes:
        input_tokens: All input, cached and newly cached tokens included. (Anthropic reports the
            three apart; they are added up here.)
        output_tokens: All output, reasoning included.
        cached_tokens: Input read from the prompt cache.
        cache_write_tokens: Input written to the prompt cache.
        cache_write_1h_tokens: The part of it that is kept for an hour, which costs more.
        reasoning_tokens: Output spent on reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def to_chat(self) -> dict[str, Any]:
        """The ``usage`` object of a chat completion."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
            "prompt_tokens_details": {
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": self.cache_write_tokens,
            },
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }

    def to_messages(self) -> dict[str, Any]:
        """The ``usage`` object of an Anthropic message."""
        fresh = self.input_tokens - self.cached_tokens - self.cache_write_tokens
        return {
            "input_tokens": max(fresh, 0),
            "cache_creation_input_tokens": self.cache_write_tokens,
            "cache_read_input_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"thinking_tokens": self.reasoning_tokens},
        }


def chat_usage(value: Any) -> TokenUsage | None:
    """The ``usage`` of a chat completion or of embeddings; None where it is none."""
    if not isinstance(value, Mapping) or not value:
        return None
    told = _part(value, "prompt_tokens_details")
    spent = _part(value, "completion_tokens_details")
    # DeepSeek tells its cache beside the rest, others in the details.
    cached = _count(told, "cached_tokens") or _count(value, "prompt_cache_hit_tokens")
    return TokenUsage(
        input_tokens=_count(value, "prompt_tokens"),
        output_tokens=_count(value, "completion_tokens"),
        cached_tokens=cached,
        cache_write_tokens=_count(told, "cache_write_tokens"),
        reasoning_tokens=_count(spent, "reasoning_tokens"),
    )


def answer_usage(api: Api, told: Mapping[str, Any]) -> TokenUsage | None:
    """The usage of an answer that came in one piece; None where it does not tell."""
    usage = told.get("usage")
    if api is Api.MESSAGES:
        return messages_usage(usage)
    return responses_usage(usage) if api is Api.RESPONSES else chat_usage(usage)


def messages_usage(value: Any, before: TokenUsage | None = None) -> TokenUsage | None:
    """The ``usage`` of an Anthropic message; None where it is none.

    Args:
        value: The object.
        before: What ``message_start`` told. The counts of a later event stand for it where they
            are present: they are totals so far.
    """
    if not isinstance(value, Mapping) or not value:
        return before
    old = before or TokenUsage()
    cached = _count(value, "cache_read_input_tokens", old.cached_tokens)
    written = _count(value, "cache_creation_input_tokens", old.cache_write_tokens)
    fresh = _count(
        value,
        "input_tokens",
        old.input_tokens - old.cached_tokens - old.cache_write_tokens,
    )
    hour = _count(
        _part(value, "cache_creation"), "ephemeral_1h_input_tokens", old.cache_write_1h_tokens
    )
    return TokenUsage(
        input_tokens=fresh + cached + written,
        output_tokens=_count(value, "output_tokens", old.output_tokens),
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(hour, written),
        reasoning_tokens=_count(
            _part(value, "output_tokens_details"), "thinking_tokens", old.reasoning_tokens
        ),
    )


def responses_usage(value: Any) -> TokenUsage | None:
    """The ``usage`` of ``/v1/responses``; None where it is none."""
    if not isinstance(value, Mapping) or not value:
        return None
    told = _part(value, "input_tokens_details")
    return TokenUsage(
        input_tokens=_count(value, "input_tokens"),
        output_tokens=_count(value, "output_tokens"),
        cached_tokens=_count(told, "cached_tokens"),
        cache_write_tokens=_count(told, "cache_write_tokens"),
        reasoning_tokens=_count(_part(value, "output_tokens_details"), "reasoning_tokens"),
    )


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if type(found) is dict or isinstance(found, Mapping) else {}


def _count(value: Mapping[str, Any], name: str, absent: int = 0) -> int:
    """A count of tokens; garbage counts as absent, for a wrong usage must not end a stream."""
    found = value.get(name)
    if type(found) is int and 0 <= found < _LARGEST:  # as nearly always
        return found
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < _LARGEST:
        return absent
    return int(found)
