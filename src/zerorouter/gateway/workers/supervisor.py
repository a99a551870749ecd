"""The parent of the workers: it starts them, keeps their number up, and passes on what they say.

- Each worker has a listening socket of its own on the one port (SO_REUSEPORT: the kernel deals
  connections out evenly, also such as come all at once). The sockets are the supervisor's, so a
  connection that was dealt to a worker which dies waits for the one in its place.
- A worker that dies is started again: at once the first time, then after twice as long each time,
  up to `LONGEST_PAUSE_S`, until one has stood for `STEADY_S`.
- A stop is passed on; workers drain, and after the time for that and `GRACE_S` they are killed.
- A worker whose supervisor has died stops as if told to.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from zerorouter.errors import ZeroRouterError
from zerorouter.gateway.workers.channel import Channel, Frame
from zerorouter.gateway.workers.merging import merge

STEADY_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
GRACE_S: Final = 15.0
_RENDER_WITHIN_S: Final = 2.0
_RELOAD_WITHIN_S: Final = 45.0
_MOST_UNREAD: Final = 32 << 20  # bytes that a worker has not taken: then messages are dropped

Tell = Callable[[dict[str, Any]], None]


def pause_s(failures: int) -> float:
    """Seconds before a worker is started again that has died so often without standing."""
    return 0.0 if failures <= 1 else min(FIRST_PAUSE_S * 2.0 ** (failures - 2), LONGEST_PAUSE_S)


@dataclass(kw_only=True)
class _Slot:
    """A place for a worker."""

    index: int
    sockets: tuple[socket.socket, ...]
    process: asyncio.subprocess.Process | None = None
    channel: Channel | None = None
    is_ready: bool = False
    failures: int = 0
    problem: str | None = None
    text: str = ""


@dataclass(kw_only=True)
class _Answers:
    """Answers that are awaited of several workers."""

    open: set[int]
    errors: list[str] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, index: int, error: str | None = None) -> None:
        self.open.discard(index)
        if error is not None:
            self.errors.append(error)
        if not self.open:
            self.done.set()


class Supervisor:
    """Starts and keeps workers; `run` is its life.

    Args:
        sockets: Those of each worker.
        options: What every worker is told, beside its number and its sockets.
        inherited: Handles besides that the workers get.
        drain_s: How long workers may take to stop.
        on_ready: Called once when all serve, with what the first one told.
        tell: Called with each event, for the log.
    """

    def __init__(
        self,
        sockets: list[tuple[socket.socket, ...]],
        options: Mapping[str, Any],
        *,
        inherited: tuple[int, ...],
        drain_s: float,
        on_ready: Callable[[Mapping[str, Any]], None],
        tell: Tell,
    ) -> None:
        self._slots = [_Slot(index=i, sockets=s) for i, s in enumerate(sockets)]
        self._options = dict(options)
        self._inherited = inherited
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._tell = tell
        self._stopping = asyncio.Event()
        self._all_ready = False
        self._failure: ZeroRouterError | None = None
        self._config: dict[str, Any] | None = None
        self._dead = ""  # the metrics of workers that have ended, added up
        self._restarts = 0
        self._dropped = 0
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Answers] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is told to stop.

        Raises:
            ZeroRouterError: A worker could not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_all)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._slots:
                    group.create_task(self._keep(slot))
                group.create_task(self._end())
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
        if self._failure is not None:
            raise self._failure

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Pass a stop on to all; no new connections are taken from now on."""
        self._stopping.set()
        for slot in self._slots:
            for one in slot.sockets:
                one.close()
            if slot.process is not None:
                with suppress(ProcessLookupError):
                    slot.process.send_signal(number)

    async def _end(self) -> None:
        """Kill what has not stopped in time."""
        await self._stopping.wait()
        end = monotonic() + self._drain_s + GRACE_S
        while any(slot.process is not None for slot in self._slots):
            if monotonic() >= end:
                for slot in self._slots:
                    if slot.process is not None:
                        self._tell({"event": "worker_killed", "worker": slot.index})
                        with suppress(ProcessLookupError):
                            slot.process.kill()
                return
            await asyncio.sleep(0.02)

    # -- a worker --------------------------------------------------------------------------------

    async def _keep(self, slot: _Slot) -> None:
        """Keep a place taken."""
        while not self._stopping.is_set():
            began = monotonic()
            code = await self._live(slot)
            if self._stopping.is_set():
                return
            if not self._all_ready:
                self._give_up(slot, code)
                return
            stood = monotonic() - began >= STEADY_S
            slot.failures = 1 if stood else slot.failures + 1
            pause = pause_s(slot.failures)
            self._restarts += 1
            self._tell(
                {
                    "event": "worker_died",
                    "worker": slot.index,
                    "ended_by": _ended_by(code),
                    "message": slot.problem,
                    "again_in_s": pause,
                }
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _live(self, slot: _Slot) -> int:
        """Start a worker and see it through to its end; its exit code."""
        slot.problem = None
        handles = [one.fileno() for one in slot.sockets]
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # too many open files
            slot.problem = str(error)
            return 1
        try:
            slot.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # not what happens to lie in the current folder
                "-m",
                "zerorouter.gateway.workers.worker",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(), *handles, *self._inherited),
                process_group=0,  # Ctrl-C comes to us, and from us
            )
        except (OSError, ValueError) as error:  # no room for a process, or a stop came between
            slot.problem = str(error)
            ours.close()
            return 1
        finally:
            theirs.close()
        slot.channel = channel = await Channel.over(
            ours, lambda frame: self._on_frame(slot, frame), lambda: None
        )
        channel.send(
            {
                "kind": "begin",
                "options": {
                    **self._options,
                    "index": slot.index,
                    "count": len(self._slots),
                    "handles": handles,
                    "last_good": self._config,
                },
            }
        )
        if self._stopping.is_set():
            with suppress(ProcessLookupError):
                slot.process.terminate()
        code = await slot.process.wait()
        with suppress(TimeoutError):  # what it said last is still to be read
            await asyncio.wait_for(channel.lost.wait(), 5)
        channel.close()
        slot.process, slot.channel, slot.is_ready = None, None, False
        for answers in list(self._waiting.values()):
            answers.take(slot.index)
        if slot.text:
            self._dead = merge([], dead=[self._dead, slot.text])
            slot.text = ""
        return code

    def _give_up(self, slot: _Slot, code: int) -> None:
        """One could not start in the first place: neither will the others."""
        if self._failure is None:
            said = slot.problem or f"it ended by {_ended_by(code)}"
            self._failure = ZeroRouterError(
                said if slot.problem else f"worker {slot.index} did not start: {said}"
            )
        self.stop()

    # -- what workers say ------------------------------------------------------------------------

    def _on_frame(self, slot: _Slot, frame: Frame) -> None:
        kind = frame["kind"]
        if kind == "post":
            self._dropped += frame["dropped"]
            self._pass_on(slot, frame["batch"])
        elif kind == "text":
            slot.text = frame["text"]
            self._answered(slot, frame["id"])
        elif kind == "scrape":
            self._begin(self._scrape(slot, frame["id"]))
        elif kind == "reload":
            self._begin(self._reload(slot, frame["id"]))
        elif kind == "reloaded":
            self._answered(slot, frame["id"], frame["error"])
        elif kind == "config":
            self._config = frame["value"]
        elif kind == "ready":
            self._ready(slot, frame["told"])
        elif kind == "failed":
            slot.problem = frame["message"]

    def _ready(self, slot: _Slot, told: Mapping[str, Any]) -> None:
        slot.is_ready = True
        pid = None if slot.process is None else slot.process.pid
        self._tell({"event": "worker_started", "worker": slot.index, "pid": pid})
        if not self._all_ready and all(one.is_ready for one in self._slots):
            self._all_ready = True
            self._on_ready(told)

    def _pass_on(self, sender: _Slot, batch: list[Any]) -> None:
        for slot in self._slots:
            if slot is not sender and slot.is_ready and slot.channel is not None:
                if slot.channel.waiting_bytes > _MOST_UNREAD:
                    self._dropped += len(batch)
                else:
                    slot.channel.send({"kind": "posted", "batch": batch})

    async def _scrape(self, asker: _Slot, number: int) -> None:
        await self._ask_all({"kind": "render"}, within_s=_RENDER_WITHIN_S)
        texts = [slot.text for slot in self._slots if slot.text]
        text = merge([*texts, self._own_metrics()], dead=[self._dead])
        if asker.channel is not None:
            asker.channel.send({"kind": "scraped", "id": number, "text": text})

    async def _reload(self, asker: _Slot, number: int) -> None:
        errors = await self._ask_all({"kind": "do_reload"}, within_s=_RELOAD_WITHIN_S)
        if asker.channel is not None:
            asker.channel.send({"kind": "reload_done", "id": number, "errors": errors})

    def _reload_all(self) -> None:
        for slot in self._slots:
            if slot.is_ready and slot.channel is not None:
                slot.channel.send({"kind": "do_reload", "id": None})

    async def _ask_all(self, frame: Frame, *, within_s: float) -> list[str]:
        """Ask all that serve; what stood in the way of some."""
        slots = [slot for slot in self._slots if slot.is_ready and slot.channel is not None]
        number = next(self._numbers)
        answers = self._waiting[number] = _Answers(open={slot.index for slot in slots})
        for slot in slots:
            assert slot.channel is not None
            slot.channel.send({**frame, "id": number})
        try:
            await asyncio.wait_for(answers.done.wait(), within_s)
        except TimeoutError:
            answers.errors.append(f"of {len(slots)} workers {len(answers.open)} did not answer")
        finally:
            del self._waiting[number]
        return answers.errors

    def _answered(self, slot: _Slot, number: int | None, error: str | None = None) -> None:
        answers = None if number is None else self._waiting.get(number)
        if answers is not None:
            answers.take(slot.index, error)

    def _own_metrics(self) -> str:
        lines = []
        for name, kind, about, value in (
            ("zerorouter_workers", "gauge", "Workers that serve.", self._n_ready()),
            (
                "zerorouter_worker_restarts_total",
                "counter",
                "Workers started in the place of one that died; what such a one counted in its "
                "last two seconds is in the ledger alone.",
                self._restarts,
            ),
            (
                "zerorouter_worker_messages_dropped_total",
                "counter",
                "Messages between workers that found no room.",
                self._dropped,
            ),
        ):
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            lines.append(f"{name} {float(value)!r}")
        return "\n".join(lines) + "\n"

    def _n_ready(self) -> int:
        return sum(slot.is_ready for slot in self._slots)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def bind_shared(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets on one port, among which the kernel deals connections out.

    Raises:
        ZeroRouterError: The address is taken, also by another gateway that shares its port.
    """
    from zerorouter.gateway.server import bind

    # One that does not share finds out whether anybody listens there already.
    probe = bind(host, port)
    port = probe.getsockname()[1]
    probe.close()
    return [bind(host, port, shared=True) for _ in range(count)]


def _ended_by(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
