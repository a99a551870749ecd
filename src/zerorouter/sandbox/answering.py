"""The sandbox itself: a request in, the plan of its answer out.

`Sandbox.plan` is a function of the request and the settings alone, so every run repeats. The
answer comes from the records where the prompt and the model stand there, and is made up
otherwise: correctness drawn from P(correct), length and timing from the model's profile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from zerorouter.catalog import Catalog
from zerorouter.errors import UnknownNameError
from zerorouter.linking import load_aliases
from zerorouter.sandbox import schema
from zerorouter.sandbox.draws import digest, normal, uniforms
from zerorouter.sandbox.plan import Ask, Choice, Finish, Plan, Tool, ToolCall, Usage, limited
from zerorouter.sandbox.profiles import DEFAULT_P_CORRECT, Forecast, Forecaster, Profile
from zerorouter.sandbox.recordings import RecordedAnswer, RecordedPrompt, Recordings, folded
from zerorouter.sandbox.settings import SandboxSettings
from zerorouter.sandbox.text import count, filler, first_pieces
from zerorouter.sandbox.wrong import wrong_answer

# Shares and spreads of made-up answers. The records hold no figures to fit them on.
REASONING_SHARE: Final = 0.6  # of the output tokens of a model that thinks before it answers
TTFT_LOG_SD: Final = 0.3
TPOT_LOG_SD: Final = 0.1
_LONGEST_FOLDED: Final = 100_000  # characters
CALL_OVERHEAD_TOKENS: Final = 8  # of a tool call, beside its name and arguments


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUse:
    """What the prompt cache makes of a request: tokens read from it and written to it."""

    read_tokens: int = 0
    write_tokens: int = 0


NO_CACHE: Final = CacheUse()


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A request's prompt and model as the sandbox knows them.

    Attributes:
        profile: The model.
        key: Names the prompt: ``data set/prompt id``, or 16 hex digits of the text.
        prompt: The recorded prompt, or None.
        recorded: What the model scored there, or None.
        input_tokens: As recorded, else as estimated.
    """

    profile: Profile
    key: str
    prompt: RecordedPrompt | None
    recorded: RecordedAnswer | None
    input_tokens: int

    @classmethod
    def bare(cls, model: str, key: str, input_tokens: int) -> Subject:
        """One that nothing is known of."""
        return cls(
            profile=Profile(name=model),
            key=key,
            prompt=None,
            recorded=None,
            input_tokens=input_tokens,
        )


class Sandbox:
    """Plays models. Made by `load` or from parts.

    Args:
        settings: What it is told.
        catalog: The models on offer, with speeds and prices.
        recordings: Recorded answers, or None.
        forecaster: Estimates of P(correct) and length; None leaves the settings' or the mean
            recorded score.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        catalog: Catalog,
        recordings: Recordings | None = None,
        forecaster: Forecaster | None = None,
    ) -> None:
        self.settings = settings
        self.recordings = recordings
        self._forecaster = forecaster
        names = dict.fromkeys([*catalog.names, *settings.models])
        rows = {}
        if forecaster is not None:
            names |= dict.fromkeys(forecaster.models)
        if recordings is not None:
            names |= dict.fromkeys(recordings.respondents)
            rows = dict(zip(recordings.respondents, recordings.models, strict=True))
        self._profiles = {
            name: Profile.of(
                name,
                catalog,
                row=rows.get(name),
                mean_score=None if recordings is None else recordings.mean_score(name),
            )
            for name in names
        }

    @classmethod
    def load(cls, settings: SandboxSettings) -> Sandbox:
        """A sandbox over the shipped catalog and space, and the settings' data folders.

        Raises:
            DataError: A data folder is wrong.
            ArtifactError: The space cannot be read.
        """
        forecaster = None
        if settings.p_correct is None:
            from zerorouter.router import Router

            forecaster = Forecaster(Router.load())
        return cls(
            settings,
            catalog=Catalog.load(),
            recordings=Recordings.load(settings.data) if settings.data else None,
            forecaster=forecaster,
        )

    @property
    def models(self) -> Mapping[str, Profile]:
        """The models it plays, by their own name."""
        return self._profiles

    def profile(self, name: str) -> Profile:
        """The model that a name means: its own, the records' spelling, or an alias.

        Raises:
            UnknownNameError: There is none; the nearest name is suggested.
        """
        found = self._profiles.get(name)
        if found is None and self.recordings is not None:
            found = self._profiles.get(self.recordings.respondent(name) or "")
        if found is None:
            found = self._profiles.get(load_aliases().resolve(name) or "")
        if found is None:
            raise UnknownNameError("model", name, self._profiles)
        return found

    def subject(self, ask: Ask) -> Subject:
        """Look up a request's model and prompt.

        Raises:
            UnknownNameError: No model has that name.
        """
        profile = self.profile(ask.model)
        prompt = recorded = None
        if self.recordings is not None:
            prompt = self.recordings.match(
                ask.text,
                [tool.name for tool in ask.tools],
                model=profile.name,
                asked_as=ask.model,
            )
        if prompt is None:
            return Subject(
                profile=profile,
                key=digest("prompt", _named(ask.text)).hex()[:16],
                prompt=None,
                recorded=None,
                input_tokens=ask.input_tokens,
            )
        assert self.recordings is not None
        recorded = self.recordings.answer(prompt, profile.name, ask.model)
        known = None if recorded is None else recorded.input_tokens
        return Subject(
            profile=profile,
            key=prompt.key,
            prompt=prompt,
            recorded=recorded,
            input_tokens=ask.input_tokens if known is None else known,
        )

    def plan(self, ask: Ask, *, subject: Subject | None = None, cache: CacheUse = NO_CACHE) -> Plan:
        """The answer to a request.

        Args:
            ask: The request.
            subject: What `subject` said of it, if that was asked before.
            cache: What the prompt cache makes of it.

        Raises:
            UnknownNameError: No model has that name.
        """
        own = self.subject(ask) if subject is None else subject
        if own.recorded is not None and own.recorded.output_tokens is not None:
            forecast = Forecast(p_correct=own.recorded.score)  # nothing of it will be looked at
        else:
            forecast = self._forecast(ask, own)
        score = forecast.p_correct if own.recorded is None else own.recorded.score
        choices: list[Choice] = []
        ttft_s = latency_s = 0.0
        for sample in range(ask.sample, ask.sample + ask.n):
            draws = uniforms(self.settings.seed, own.profile.name, own.key, sample)
            choice, first, last = self._answer(ask, own, forecast, score, draws)
            choices.append(choice)
            ttft_s, latency_s = max(ttft_s, first), max(latency_s, last)
        return Plan(
            model=own.profile.name,
            source="synthetic" if own.recorded is None else "recorded",
            prompt=own.key,
            p_correct=score,
            choices=tuple(choices),
            usage=Usage(
                input_tokens=own.input_tokens,
                cache_read_tokens=min(cache.read_tokens, own.input_tokens),
                cache_write_tokens=min(
                    cache.write_tokens, max(own.input_tokens - cache.read_tokens, 0)
                ),
                output_tokens=sum([choice.output_tokens for choice in choices]),
                reasoning_tokens=sum([choice.reasoning_tokens for choice in choices]),
            ),
            ttft_s=ttft_s,
            latency_s=max(latency_s, ttft_s),
        )

    # -- one answer ------------------------------------------------------------------------

    def _forecast(self, ask: Ask, own: Subject) -> Forecast:
        fixed = self.settings.p_correct
        if fixed is not None:
            return Forecast(p_correct=fixed)
        found = None
        if self._forecaster is not None:
            found = self._forecaster.forecast(ask.prompt, own.profile.name)
        if found is not None:
            return found
        mean = own.profile.mean_score
        return Forecast(p_correct=DEFAULT_P_CORRECT if mean is None else mean)

    def _answer(
        self, ask: Ask, own: Subject, forecast: Forecast, p: float, draws: tuple[float, ...]
    ) -> tuple[Choice, float, float]:
        """The answer, and its seconds to the first and to the last token."""
        limit = _least(ask.max_tokens, own.profile.max_output_tokens)
        calls = _tool_calls(ask, own)
        whole = _calling(calls) if calls else self._text_answer(ask, own, forecast, p, draws, limit)
        cut = limited(whole, limit)
        ttft_s, latency_s = _timing(own, draws, whole.output_tokens)
        share = (cut.output_tokens - 1) / max(whole.output_tokens - 1, 1)
        return cut, ttft_s, ttft_s + (latency_s - ttft_s) * min(share, 1.0)

    def _text_answer(
        self,
        ask: Ask,
        own: Subject,
        forecast: Forecast,
        p: float,
        draws: tuple[float, ...],
        limit: int | None,
    ) -> Choice:
        correct = draws[0] < p
        tokens, reasoning = self._lengths(ask, own, forecast, draws)
        start = int(draws[1] * 1_000)
        bare = _bare_answer(own.prompt, correct, draws[2])
        if bare is not None and limit is not None and tokens > limit:
            # The answer stands at the end of what a model writes: cut before it, it is not there.
            text, bare = filler(tokens - reasoning, start).lstrip(), None
        elif bare is not None:
            text = bare
        else:
            shown = tokens - reasoning
            text = _made_up(shown if limit is None else min(shown, limit), p, correct, start)
        if ask.json_schema is not None:
            text = _as_json(ask.json_schema, text)
            if own.recorded is None:
                tokens = reasoning + count(text)
        choice = Choice(
            text=text,
            finish=Finish.STOP,
            output_tokens=tokens,
            reasoning_tokens=reasoning,
            thinking=filler(reasoning, start).lstrip() if ask.thinking else "",
            correct=correct,
        )
        return _stopped(choice, ask.stops) if ask.stops else choice

    def _lengths(
        self, ask: Ask, own: Subject, forecast: Forecast, draws: tuple[float, ...]
    ) -> tuple[int, int]:
        """Output tokens, and how many of them are hidden reasoning."""
        thinks = own.profile.reasoning or ask.thinking
        recorded = own.recorded
        if recorded is not None and recorded.output_tokens is not None:
            total = recorded.output_tokens
            if not thinks:
                return total, 0
            visible = recorded.visible_tokens
            hidden = int(total * REASONING_SHARE) if visible is None else total - visible
            return total, max(hidden, 0)
        if self.settings.answer_tokens is not None:
            total = self.settings.answer_tokens
        else:
            sd = forecast.log_sd
            drawn = forecast.output_tokens * math.exp(sd * normal(draws[3]) - sd * sd / 2)
            total = max(round(drawn), 1)
            total = min(total, self.settings.longest_answer_tokens)
        return total, int(total * REASONING_SHARE) if thinks else 0


def _named(text: str) -> str:
    """The text as prompts are told apart by it: however blanks and case fall, unless huge."""
    return folded(text) if len(text) <= _LONGEST_FOLDED else text


def _least(*limits: int | None) -> int | None:
    return min([limit for limit in limits if limit is not None], default=None)


def _timing(own: Subject, draws: tuple[float, ...], tokens: int) -> tuple[float, float]:
    profile = own.profile
    recorded_s = None if own.recorded is None else own.recorded.latency_s
    if recorded_s is not None:
        return min(profile.ttft_s, recorded_s), recorded_s
    ttft_s = profile.ttft_s * _spread(draws[4], TTFT_LOG_SD)
    tpot_s = profile.tpot_s * _spread(draws[5], TPOT_LOG_SD)
    return ttft_s, ttft_s + (tokens - 1) * tpot_s


def _spread(uniform: float, log_sd: float) -> float:
    """A log-normal factor with mean 1."""
    return math.exp(log_sd * normal(uniform) - log_sd * log_sd / 2)


def _bare_answer(prompt: RecordedPrompt | None, correct: bool, draw: float) -> str | None:
    """The reference or a wrong answer; None for a prompt without a reference."""
    if prompt is None or prompt.reference is None:
        return None
    if correct:
        return prompt.reference
    return wrong_answer(prompt.reference, options=prompt.options, peers=prompt.peers, draw=draw)


def _made_up(n: int, p: float, correct: bool, start: int) -> str:
    """An answer of ``n`` pieces that says what it is."""
    told = f"[sandbox: synthetic answer, counts as {'right' if correct else 'wrong'}, P={p:.2f}]"
    words = count(told)
    return told + filler(n - words, start) if n >= words else first_pieces(told, max(n, 1))


def _as_json(wanted: Mapping[str, Any], text: str) -> str:
    made = schema.instance(wanted, answer=text) if wanted else {"answer": text}
    return json.dumps(made, ensure_ascii=False)


def _stopped(choice: Choice, stops: tuple[str, ...]) -> Choice:
    """The answer up to the first stop text in it, which is left out."""
    found = [(at, stop) for stop in stops if stop and (at := choice.text.find(stop)) >= 0]
    if not found:
        return choice
    at, stop = min(found)
    kept = choice.text[:at]
    return replace(
        choice,
        text=kept,
        finish=Finish.STOP_SEQUENCE,
        stop=stop,
        output_tokens=choice.reasoning_tokens + max(count(kept), 1),
    )


# -- tools -----------------------------------------------------------------------------------


def _calling(calls: tuple[ToolCall, ...]) -> Choice:
    tokens = sum([CALL_OVERHEAD_TOKENS + count(c.name) + count(c.arguments) for c in calls])
    return Choice(text="", finish=Finish.TOOL, output_tokens=tokens, tool_calls=calls)


def _tool_calls(ask: Ask, own: Subject) -> tuple[ToolCall, ...]:
    """The calls a request gets: of the tool it must call, or of those its text names.

    Where a call may be left out, a recorded answer is given in its place.
    """
    if not ask.tools or ask.tool_mode == "none":
        return ()
    if ask.tool_name is not None:
        return tuple([_call(tool) for tool in ask.tools if tool.name == ask.tool_name][:1])
    if ask.tool_mode == "auto" and own.recorded is not None:
        return ()
    named = [tool for tool in ask.tools if tool.name in ask.text]
    if not named and ask.tool_mode == "required":
        named = [ask.tools[0]]
    return tuple([_call(tool) for tool in (named if ask.parallel_tools else named[:1])])


def _call(tool: Tool) -> ToolCall:
    if tool.schema is None:
        return ToolCall(name=tool.name, arguments="sandbox", free=True)
    made = schema.instance({"type": "object", **tool.schema})
    arguments = made if isinstance(made, dict) else {}
    return ToolCall(name=tool.name, arguments=json.dumps(arguments, ensure_ascii=False))
