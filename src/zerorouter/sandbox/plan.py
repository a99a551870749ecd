"""What a request asks for and what it will get, without any wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from zerorouter.predict.prompt import Prompt
from zerorouter.sandbox.text import first_pieces

REFUSAL = "I'm sorry, but I can't help with that."


class Finish(StrEnum):
    """Why an answer ends; each API has its own word for it."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOL = "tool"
    REFUSAL = "refusal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool on offer.

    Attributes:
        name: Its name.
        schema: JSON Schema of its arguments; None for a tool that takes free text.
    """

    name: str
    schema: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A request, read.

    Attributes:
        model: The name as the client wrote it.
        text: The last thing the user said, whole: what is looked up among recorded prompts.
        prompt: The request as routing reads it.
        input_tokens: Estimate for the whole request.
        n: How many answers.
        max_tokens: Most output tokens of an answer, hidden ones included; None for no limit.
        stops: Texts that end an answer.
        tools: Tools on offer.
        tool_mode: Whether a tool may or must be called.
        tool_name: The one tool that must be called, or None.
        parallel_tools: Whether several tools may be called at once.
        json_schema: The schema the answer shall fit; ``{}`` for any JSON object, None for text.
        thinking: Whether the answer shall show its reasoning.
        top_logprobs: Alternatives per token; None without log probabilities.
        sample: Number of the first answer's sample.
        stream: Whether the answer is streamed.
        stream_usage: Whether a stream ends with the usage (OpenAI).
    """

    model: str
    text: str
    prompt: Prompt
    input_tokens: int
    n: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_mode: Literal["none", "auto", "required"] = "auto"
    tool_name: str | None = None
    parallel_tools: bool = True
    json_schema: Mapping[str, Any] | None = None
    thinking: bool = False
    top_logprobs: int | None = None
    sample: int = 0
    stream: bool = False
    stream_usage: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        name: The tool.
        arguments: JSON text, or free text for a tool without a schema.
        free: Whether the tool takes free text.
    """

    name: str
    arguments: str
    free: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One answer.

    Attributes:
        text: What is visible of it.
        finish: Why it ends.
        output_tokens: Billed, hidden reasoning included.
        reasoning_tokens: The hidden part.
        thinking: Reasoning to show; empty where none was asked for.
        tool_calls: Calls in place of, or after, the text.
        stop: The stop text that ended it.
        correct: Whether it counts as correct; None for tool calls.
    """

    text: str
    finish: Finish
    output_tokens: int
    reasoning_tokens: int = 0
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    stop: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens of a request.

    Attributes:
        input_tokens: All of the input.
        cache_read_tokens: Input that was in the prompt cache.
        cache_write_tokens: Input newly written to it.
        output_tokens: All answers, reasoning included.
        reasoning_tokens: The hidden part of the output.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything about the answer to a request, before the first byte is sent.

    Attributes:
        model: The model's own name.
        source: ``recorded``: score, and where known tokens and time, stand in the records;
            ``synthetic``: correctness is drawn from P(correct).
        prompt: ``data set/prompt id`` of a recorded prompt, else 16 hex digits of the text.
        p_correct: Probability with which each answer was drawn correct; the recorded score, or
            the model's estimate.
        choices: The answers.
        usage: Tokens.
        ttft_s: Seconds to the first token, unscaled.
        latency_s: Seconds to the last token, unscaled.
    """

    model: str
    source: Literal["recorded", "synthetic"]
    prompt: str
    p_correct: float
    choices: tuple[Choice, ...]
    usage: Usage
    ttft_s: float
    latency_s: float


def spoiled(plan: Plan, how: Literal["empty", "truncated", "refusal"]) -> Plan:
    """The plan of a model that says nothing, stops halfway or declines."""
    choices = tuple([_SPOILED[how](choice) for choice in plan.choices])
    share = sum(c.output_tokens for c in choices) / max(plan.usage.output_tokens, 1)
    return replace(
        plan,
        choices=choices,
        usage=replace(
            plan.usage,
            output_tokens=sum(c.output_tokens for c in choices),
            reasoning_tokens=sum(c.reasoning_tokens for c in choices),
        ),
        latency_s=plan.ttft_s + (plan.latency_s - plan.ttft_s) * min(share, 1.0),
    )


def _emptied(_: Choice) -> Choice:
    return Choice(text="", finish=Finish.STOP, output_tokens=1, correct=False)


def _truncated(choice: Choice) -> Choice:
    # Half the characters: half the pieces of a short answer would be all of it or nothing.
    calls = choice.tool_calls[:1]
    return replace(
        choice,
        text=choice.text[: len(choice.text) // 2],
        tool_calls=tuple(
            [replace(call, arguments=call.arguments[: len(call.arguments) // 2]) for call in calls]
        ),
        finish=Finish.LENGTH,
        output_tokens=max(choice.output_tokens // 2, 1),
        reasoning_tokens=choice.reasoning_tokens // 2,
        stop=None,
        correct=False,
    )


def _refused(_: Choice) -> Choice:
    n = len(REFUSAL.split())
    return Choice(text=REFUSAL, finish=Finish.REFUSAL, output_tokens=n, correct=False)


_SPOILED = {"empty": _emptied, "truncated": _truncated, "refusal": _refused}


def limited(choice: Choice, max_tokens: int | None) -> Choice:
    """The answer cut at ``max_tokens``, reasoning first, as an upstream cuts it.

    The visible part of an answer that is cut keeps as many pieces as the limit leaves for it.
    """
    if max_tokens is None or choice.output_tokens <= max_tokens:
        return choice
    reasoning = min(choice.reasoning_tokens, max_tokens)
    room = max_tokens - reasoning
    calls = []
    for call in choice.tool_calls:
        kept = first_pieces(call.arguments, room)
        calls.append(replace(call, arguments=kept))
        if kept != call.arguments:
            break
    return replace(
        choice,
        text=first_pieces(choice.text, room),
        thinking=first_pieces(choice.thinking, reasoning),
        tool_calls=tuple(calls),
        finish=Finish.LENGTH,
        output_tokens=max_tokens,
        reasoning_tokens=reasoning,
        stop=None,
        correct=None if choice.correct is None else False,
    )
