"""What a sandbox is told: data, seed, speed, faults, keys and limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zerorouter.errors import InputError
from zerorouter.sandbox.faults import FaultRule, parse_rule

MEBIBYTE: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """Settings of a sandbox; the defaults need no data, no key and no waiting.

    Attributes:
        data: Folders of recorded answers (docs/data.md).
        seed: Seeds everything that is drawn.
        time_scale: Factor on latencies; 0 answers at once, 1 as slowly as the models do.
        models: Further names to serve, beside those of catalog, space and records.
        p_correct: P(correct) of every answer without a recorded score, in place of the latent
            space's estimate. The space is then not loaded, and lengths lie about 200 tokens.
        answer_tokens: Length of every answer without a recorded one, in place of the profile's.
        longest_answer_tokens: Most tokens of one answer without a recorded one.
        chunk_tokens: Tokens in one chunk of a stream.
        flush_chunks: Whether each chunk of a stream is a write of its own, also without delay.
        faults: Rules, as `FaultRule` or in their text form such as ``"gpt-4o*:429@0.1"``.
        api_keys: Keys to accept; without any, every request is served.
        prompt_cache: Whether long repeated beginnings of prompts are billed as cached.
        max_body_bytes: Longest request body; a longer one is refused with 413.
        max_held_bytes: Most bytes of all bodies being read or answered; beyond it, 503.
        body_timeout_s: Longest time a body may take to arrive; then 408.
        keep_calls: How many of the latest calls are remembered one by one.
        stop_timeout_s: How long running answers may take once the server is told to stop.

    Raises:
        InputError: A value is out of range, or a rule cannot be read.
    """

    data: tuple[Path, ...] = ()
    seed: int = 0
    time_scale: float = 0.0
    models: tuple[str, ...] = ()
    p_correct: float | None = None
    answer_tokens: int | None = None
    longest_answer_tokens: int = 8_192
    chunk_tokens: int = 1
    flush_chunks: bool = False
    faults: tuple[FaultRule | str, ...] = ()
    api_keys: frozenset[str] = frozenset()
    prompt_cache: bool = True
    max_body_bytes: int = 10 * MEBIBYTE
    max_held_bytes: int = 256 * MEBIBYTE
    body_timeout_s: float = 30.0
    keep_calls: int = 10_000
    stop_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("data", "models", "faults", "api_keys"):
            if isinstance(getattr(self, name), str | Path):
                raise InputError(f"{name} is one value; wanted a list, such as [{name}]")
        _set(self, "data", tuple(Path(folder) for folder in self.data))
        _set(self, "models", tuple(self.models))
        _set(self, "faults", tuple(rules_of(self.faults)))
        _set(self, "api_keys", frozenset(self.api_keys))
        _within("time_scale", self.time_scale, 0, 1_000)
        if self.p_correct is not None:
            _within("p_correct", self.p_correct, 0, 1)
        if self.answer_tokens is not None:
            _within("answer_tokens", self.answer_tokens, 1, 1_000_000)
        _within("longest_answer_tokens", self.longest_answer_tokens, 1, 1_000_000)
        _within("chunk_tokens", self.chunk_tokens, 1, 1_000_000)
        _within("max_body_bytes", self.max_body_bytes, 1, 2**40)
        _within("max_held_bytes", self.max_held_bytes, self.max_body_bytes, 2**40)
        _within("body_timeout_s", self.body_timeout_s, 0.001, 86_400)
        _within("keep_calls", self.keep_calls, 0, 10_000_000)
        _within("stop_timeout_s", self.stop_timeout_s, 0, 3_600)
        if "" in self.api_keys:
            raise InputError("api_keys has an empty key; wanted keys that a client can send")

    def __repr__(self) -> str:
        shown = [
            f"{name}={getattr(self, name)!r}"
            for name, field in self.__dataclass_fields__.items()
            if name != "api_keys" and getattr(self, name) != field.default
        ]
        keys = [f"api_keys=<{len(self.api_keys)}>"] if self.api_keys else []
        return f"SandboxSettings({', '.join(shown + keys)})"

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The fault rules, all of them read."""
        return tuple(rules_of(self.faults))


def rules_of(rules: Iterable[FaultRule | str]) -> list[FaultRule]:
    """Rules, those in text form read."""
    return [parse_rule(rule) if isinstance(rule, str) else rule for rule in rules]


def _set(settings: SandboxSettings, name: str, value: object) -> None:
    object.__setattr__(settings, name, value)


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name}: found {value!r}; wanted a number from {low:g} to {high:g}")
