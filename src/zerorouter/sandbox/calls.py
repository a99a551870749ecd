"""What the sandbox was asked: counted, so that tests can hold it against what clients claim."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from zerorouter.catalog import Price
from zerorouter.sandbox.plan import Plan, Usage

_KEPT_PROMPTS: Final = 65_536


@dataclass(kw_only=True, slots=True)
class Call:
    """One request, while it runs and after.

    Attributes:
        number: Position among all calls, from 1.
        endpoint: The path it came to.
        begun_s: Seconds since the log was begun or cleared.
        started: The same moment on the process's own clock.
        concurrency: How many calls ran when it came, itself included.
        model: The model's own name; empty until known.
        prompt: The prompt's key; empty until known.
        stream: Whether a stream was asked for.
        status: The HTTP status sent, 0 for none.
        faults: What was done to it on purpose.
        outcome: ``answered``, ``error``, ``broken`` (by a fault) or ``left`` (by the client).
        duration_s: From the first to the last byte of it, as the sandbox saw it.
        usage: What a vendor would have billed; None where no answer was begun.
        correct: Of each answer.
    """

    number: int
    endpoint: str
    begun_s: float
    started: float
    concurrency: int
    model: str = ""
    prompt: str = ""
    stream: bool = False
    status: int = 0
    faults: tuple[str, ...] = ()
    outcome: str = "answered"
    duration_s: float | None = None
    usage: Usage | None = None
    correct: tuple[bool | None, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        used = self.usage
        return {
            "number": self.number,
            "endpoint": self.endpoint,
            "begun_s": round(self.begun_s, 6),
            "duration_s": None if self.duration_s is None else round(self.duration_s, 6),
            "concurrency": self.concurrency,
            "model": self.model,
            "prompt": self.prompt,
            "stream": self.stream,
            "status": self.status,
            "faults": list(self.faults),
            "outcome": self.outcome if self.duration_s is not None else "running",
            "input_tokens": used.input_tokens if used else None,
            "output_tokens": used.output_tokens if used else None,
            "correct": list(self.correct),
        }


@dataclass(kw_only=True, slots=True)
class _Tally:
    """Counts of one model."""

    price: Price | None
    calls: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def bill(self, used: Usage) -> None:
        self.input_tokens += used.input_tokens
        self.cache_read_tokens += used.cache_read_tokens
        self.cache_write_tokens += used.cache_write_tokens
        self.output_tokens += used.output_tokens
        self.reasoning_tokens += used.reasoning_tokens

    @property
    def usd(self) -> float | None:
        price = self.price
        if price is None:
            return None
        cached = price.cached_input_usd_per_mtok
        cached = price.input_usd_per_mtok if cached is None else cached
        fresh = self.input_tokens - self.cache_read_tokens
        return (
            fresh * price.input_usd_per_mtok
            + self.cache_read_tokens * cached
            + self.output_tokens * price.output_usd_per_mtok
        ) / 1e6

    def to_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "statuses": dict(self.statuses),
            "input_tokens": self.input_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "usd": self.usd,
        }


class CallLog:
    """Counts calls and keeps the latest. Safe to read from another thread.

    An answer is billed in full once it is begun, also where a fault or the client ends it early.

    Args:
        keep: How many calls are kept one by one.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._lock = Lock()
        self._numbers = 0
        self._in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but the calls that still run."""
        with self._lock:
            self._since = time.perf_counter()
            self._total = 0
            self._peak = self._in_flight
            self._outcomes: Counter[str] = Counter()
            self._statuses: Counter[str] = Counter()
            self._faults: Counter[str] = Counter()
            self._endpoints: Counter[str] = Counter()
            running = getattr(self, "_models", {})
            self._models: dict[str, _Tally] = {
                name: _Tally(price=old.price, in_flight=old.in_flight, peak_in_flight=old.in_flight)
                for name, old in running.items()
                if old.in_flight
            }
            self._prompts: OrderedDict[tuple[str, str], int] = OrderedDict()
            self._latest: deque[Call] = deque(maxlen=self._keep)

    def begin(self, endpoint: str) -> Call:
        """A call came in."""
        with self._lock:
            self._numbers += 1
            self._total += 1
            self._in_flight += 1
            self._peak = max(self._peak, self._in_flight)
            self._endpoints[endpoint] += 1
            now = time.perf_counter()
            call = Call(
                number=self._numbers,
                endpoint=endpoint,
                begun_s=now - self._since,
                started=now,
                concurrency=self._in_flight,
            )
            self._latest.append(call)
            return call

    def identify(self, call: Call, model: str, prompt: str, price: Price | None) -> None:
        """The call's model and prompt are known now."""
        with self._lock:
            call.model, call.prompt = model, prompt
            tally = self._models.get(model)
            if tally is None:
                tally = self._models[model] = _Tally(price=price)
            tally.calls += 1
            tally.in_flight += 1
            tally.peak_in_flight = max(tally.peak_in_flight, tally.in_flight)
            key = (model, prompt)
            self._prompts[key] = self._prompts.pop(key, 0) + 1
            if len(self._prompts) > _KEPT_PROMPTS:
                self._prompts.popitem(last=False)

    def bill(self, call: Call, plan: Plan) -> None:
        """The answer is begun."""
        with self._lock:
            call.usage = plan.usage
            call.correct = tuple([choice.correct for choice in plan.choices])
            if tally := self._models.get(call.model):
                tally.bill(plan.usage)

    def finish(self, call: Call) -> None:
        """The call is over."""
        with self._lock:
            call.duration_s = time.perf_counter() - call.started
            self._in_flight -= 1
            self._outcomes[call.outcome] += 1
            self._statuses[str(call.status)] += 1
            for fault in call.faults:
                self._faults[fault] += 1
            if tally := self._models.get(call.model):
                tally.in_flight -= 1
                tally.statuses[str(call.status)] += 1

    def to_dict(self, *, latest: int = 0, prompts: bool = False) -> dict[str, Any]:
        """For JSON.

        Args:
            latest: How many of the latest calls to list.
            prompts: Whether to list how often each prompt was asked (the latest 65,536).
        """
        with self._lock:
            told: dict[str, Any] = {
                "total": self._total,
                "in_flight": self._in_flight,
                "peak_in_flight": self._peak,
                "outcomes": dict(self._outcomes),
                "statuses": dict(self._statuses),
                "faults": dict(self._faults),
                "endpoints": dict(self._endpoints),
                "models": {name: tally.to_dict() for name, tally in self._models.items()},
            }
            if prompts:
                told["prompts"] = [
                    {"model": model, "prompt": prompt, "calls": n}
                    for (model, prompt), n in self._prompts.items()
                ]
            if latest:
                told["latest"] = [call.to_dict() for call in list(self._latest)[-latest:]]
            return told
