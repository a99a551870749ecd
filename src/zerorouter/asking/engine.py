"""Asking many prompts at once, inside a budget, through rate limits, failures and kills.

Before each request its worst cost is set aside: every byte of the prompt a token, every token of
the answer that is allowed. A request whose worst cost does not fit waits for others to settle, and
is not sent if it never fits; so the budget holds whatever the endpoint answers, as long as it
keeps to the token limit and to its prices. A call that may have cost money but brought no usage
counts at its worst.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from zerorouter.asking.http import Caller, CallError, Dialects, Endpoint, Reply
from zerorouter.asking.journal import Journal, Received
from zerorouter.errors import InputError, MissingPriceError, require_extra
from zerorouter.predict.prompt import CHARS_PER_TOKEN
from zerorouter.prices import Price, TokenCounts, request_cost_usd

if TYPE_CHECKING:
    import aiohttp

OVERHEAD_TOKENS: Final = 128
"""Input tokens that an endpoint's chat template may add to the text, at the outside."""

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 30.0
LONGEST_WAIT_S: Final = 300.0
"""An endpoint that wants to be left alone for longer ends the run; it can be gone on with later."""

FAILURES_IN_A_ROW: Final = 5
"""Prompts given up one after another, without an answer between, that end the run."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How to ask.

    Attributes:
        endpoint: Where.
        price: Of the model; None where nobody has told it.
        max_tokens: Most output tokens of an answer.
        budget_usd: Dollars that the whole run may cost; None for no limit.
        concurrency: Requests under way at once.
        requests_per_minute: Pace; None for no limit.
        timeout_s: Longest time of one request.
        retries: Further attempts after one that failed; waiting for a rate limit is none.
        extra: Further fields of each request, such as ``temperature``.
    """

    endpoint: Endpoint
    price: Price | None = None
    max_tokens: int = 2_048
    budget_usd: float | None = None
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout_s: float = 300.0
    retries: int = 3
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("concurrency", 1), ("retries", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InputError(f"{name} is {value!r}; a whole number, {least} or more, is wanted")
        for name in ("budget_usd", "requests_per_minute", "timeout_s"):
            number = getattr(self, name)
            if number is not None and not 0 < number < 1e9:
                raise InputError(f"{name} is {number!r}; a number above 0 is wanted")
        if self.budget_usd is not None and self.price is None:
            raise MissingPriceError(
                f"a budget needs the prices of {self.endpoint.model!r}, and nobody has told them; "
                "give --price-in and --price-out in USD per million tokens"
            )

    def worst_usd(self, messages: Sequence[Mapping[str, str]]) -> float | None:
        """Dollars that a request can cost at most; None without a price."""
        if self.price is None:
            return None
        size = sum(len(message["content"].encode("utf-8", "replace")) for message in messages)
        size += OVERHEAD_TOKENS * len(messages)
        return worst_cost_usd(self.price, size, self.max_tokens)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One prompt to be asked.

    Attributes:
        ref: Its name.
        key: Key of its question.
        messages: What is sent.
    """

    ref: str
    key: str
    messages: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why asking ended before all prompts were asked.

    Attributes:
        reason: ``budget`` or ``endpoint``.
        told: A sentence.
    """

    reason: str
    told: str


def worst_cost_usd(price: Price, input_tokens: float, output_tokens: float) -> float:
    """Dollars of the dearest way to bill so many tokens: no cache hit, every tier tried."""
    worst = 0.0
    sizes = [input_tokens, *(min(input_tokens, t.above_input_tokens) for t in price.tiers)]
    for size in sizes:
        for thought in (0.0, output_tokens):
            for written in (0.0, size):
                counts = TokenCounts(
                    input_tokens=size,
                    output_tokens=output_tokens,
                    reasoning_tokens=thought,
                    cache_write_tokens=written,
                )
                worst = max(worst, request_cost_usd(price, counts))
    return worst


class Engine:
    """Asks prompts of one endpoint; use as an asynchronous context manager and call `run`.

    Args:
        asking: How to ask.
        journal: Where everything is recorded; its state decides what is still affordable.
        on_answer: Called with each answer once it is on disk.
    """

    def __init__(
        self, asking: Asking, journal: Journal, on_answer: Callable[[Received], None] | None = None
    ) -> None:
        require_extra("aiohttp", "anchors", "asking a model over HTTP")
        self.asking = asking
        self.journal = journal
        self.stop: Stop | None = None
        self._key = asking.endpoint.key()
        self._on_answer = on_answer or (lambda _received: None)
        self._jitter = random.Random(0)
        self._settled = asyncio.Condition()
        self._quiet_until = 0.0
        self._next_slot = 0.0
        self._failures = 0
        self._orphans = len(journal.state.open)  # of an earlier process: they never settle
        self._session: aiohttp.ClientSession | None = None
        self._dialects = Dialects(asking.endpoint)

    async def __aenter__(self) -> Engine:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.asking.concurrency),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def run(self, asks: Iterable[Ask]) -> Stop | None:
        """Ask prompts, as many at once as allowed; those on record already are not asked again.

        Returns why it ended early, or None.

        Raises:
            ArtifactError: the journal cannot be written.
        """
        state = self.journal.state
        waiting = [ask for ask in asks if ask.ref not in state.answers]
        if not waiting or self.stop is not None:
            return self.stop
        waiting.reverse()
        assert self._session is not None, "the engine is not open"
        caller = Caller(
            session=self._session,
            endpoint=self.asking.endpoint,
            key=self._key,
            max_tokens=self.asking.max_tokens,
            timeout_s=self.asking.timeout_s,
            extra=self.asking.extra,
            dialects=self._dialects,
        )
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.asking.concurrency, len(waiting))):
                    group.create_task(self._work(caller, waiting))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return self.stop

    async def _work(self, caller: Caller, waiting: list[Ask]) -> None:
        while waiting and self.stop is None:
            await self._one(caller, waiting.pop())

    async def _one(self, caller: Caller, ask: Ask) -> None:
        """Ask one prompt until it answers, is given up, or the run ends."""
        worst = self.asking.worst_usd(ask.messages)
        attempts = waits = 0
        while self.stop is None:
            await self._turn()
            if not await self._afford(worst):
                return
            call = await self.journal.intent(ask.ref, worst)
            try:
                reply = await caller.ask(ask.messages)
            except CallError as error:
                await self.journal.failure(call, str(error), worst if error.charged else 0.0)
                await self._notify()
                waits += error.blame == "wait"
                attempts += error.blame == "retry"
                spent = attempts > self.asking.retries or waits > self._patience
                if error.blame == "endpoint":
                    self._end("endpoint", str(error))
                elif error.blame == "prompt" or spent:
                    await self._give_up(ask, str(error), refused=error.blame == "prompt")
                    return
                elif error.blame != "again":
                    await self._pause(error, attempts + waits)
                continue
            received = self._received(ask, reply, worst)
            await self.journal.answer(call, received)
            self._failures = 0
            await self._notify()
            self._on_answer(received)
            return

    @property
    def _patience(self) -> int:
        """How often a prompt is put off by rate limits before it is given up."""
        return 3 + 2 * self.asking.retries

    async def _give_up(self, ask: Ask, told: str, *, refused: bool) -> None:
        await self.journal.give_up(ask.ref, told, refused=refused)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self._end("endpoint", f"{self._failures} prompts in a row brought nothing: {told}")

    def _received(self, ask: Ask, reply: Reply, worst: float | None) -> Received:
        counted = reply.input_tokens is not None and reply.output_tokens is not None
        chars = sum(len(message["content"]) for message in ask.messages)
        input_tokens, output_tokens = reply.input_tokens, reply.output_tokens
        if input_tokens is None:
            input_tokens = chars / CHARS_PER_TOKEN
        if output_tokens is None:
            output_tokens = max(len(reply.text) / CHARS_PER_TOKEN, 1.0)
        usd = None
        if self.asking.price is not None:
            counts = TokenCounts(input_tokens=input_tokens, output_tokens=output_tokens)
            # Without a count of the tokens nobody knows better than the worst.
            usd = request_cost_usd(self.asking.price, counts) if counted else worst
        return Received(
            ref=ask.ref,
            key=ask.key,
            text=reply.text,
            finish=reply.finish,
            usd=usd,
            input_tokens=round(input_tokens, 1),
            output_tokens=round(output_tokens, 1),
            counted=counted,
            ttft_s=None if reply.ttft_s is None else round(reply.ttft_s, 5),
            end_to_end_s=round(max(reply.end_to_end_s, 1e-5), 5),
            limit=self.asking.max_tokens,
        )

    # -- waiting -------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait until the pace and the endpoint's wish to be left alone allow a request."""
        clock = asyncio.get_running_loop().time
        if self.asking.requests_per_minute is not None:
            slot = max(self._next_slot, clock())
            self._next_slot = slot + 60.0 / self.asking.requests_per_minute
            await asyncio.sleep(slot - clock())
        while (left := self._quiet_until - clock()) > 0 and self.stop is None:
            await asyncio.sleep(min(left, 1.0))

    async def _pause(self, error: CallError, failures: int) -> None:
        """Wait before another attempt, or end the run where the endpoint wants too long a break."""
        after = error.retry_after_s
        if after is not None and after > LONGEST_WAIT_S:
            self._end("endpoint", f"{error}; it wants to be left alone for {after:.0f} s")
            return
        backoff = min(FIRST_BACKOFF_S * 2.0 ** (failures - 1), LONGEST_BACKOFF_S)
        pause = backoff * (0.5 + self._jitter.random()) if after is None else after
        if error.blame == "wait":  # a rate limit is everybody's
            clock = asyncio.get_running_loop().time
            self._quiet_until = max(self._quiet_until, clock() + pause)
        else:
            await asyncio.sleep(pause)

    async def _afford(self, worst: float | None) -> bool:
        """Wait until ``worst`` fits into the budget; False where it never will.

        Between the last look and the reservation, which is the first thing `Journal.intent`
        does, nothing is awaited: no other worker can get in between.
        """
        budget, state = self.asking.budget_usd, self.journal.state
        if budget is None or worst is None:
            return self.stop is None
        async with self._settled:
            while state.committed_usd + worst > budget:
                if self.stop is None and len(state.open) <= self._orphans:
                    self._end(
                        "budget",
                        f"the next request may cost up to ${worst:.4f}, and "
                        f"${state.committed_usd:.4f} of ${budget:.4f} are spent or set aside",
                    )
                if self.stop is not None:
                    return False
                await self._settled.wait()
        return self.stop is None

    async def _notify(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    def _end(self, reason: str, told: str) -> None:
        if self.stop is None:
            self.stop = Stop(reason=reason, told=told)
