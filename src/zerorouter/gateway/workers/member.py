"""A worker's end of the line to the supervisor: messages, metrics, reading the configuration.

    member.on("session", take)                 # take(*message) for each that another worker sends
    member.to_others("session", ["key", ...])  # a JSON list; some milliseconds of them go together

Messages may be lost (a worker that dies takes along what it had not sent, one that starts has not
heard what went before), so they are for what is good to know: the models that hold a session's
prompt cache. What must not be lost is shared by files: keys, accounts, ledger, what was learned.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from zerorouter.errors import ConfigError
from zerorouter.gateway.workers.channel import Channel, Frame

Handler: TypeAlias = Callable[..., None]

MOST_WAITING: Final = 10_000
FLUSH_EVERY_S: Final = 0.02
TELL_METRICS_EVERY_S: Final = 2.0
ANSWER_WITHIN_S: Final = 60.0
_MOST_UNREAD: Final = 32 << 20  # bytes that the supervisor has not taken: then messages are dropped


class Member:
    """A worker among several.

    Args:
        index: Which worker this is.
        count: How many there are.

    Attributes:
        dropped: Messages that found no room, since the supervisor was told last.
        on_error: Told of what a handler raised.
    """

    def __init__(self, index: int, count: int) -> None:
        self.index = index
        self.count = count
        self.dropped = 0
        self.on_error: Callable[[BaseException], None] = lambda _: None
        self._handlers: dict[str, Handler] = {}
        self._waiting: list[tuple[str, Sequence[Any]]] = []
        self._flush_at: asyncio.TimerHandle | None = None
        self._channel: Channel | None = None
        self._asked: dict[int, asyncio.Future[Frame]] = {}
        self._numbers = itertools.count(1)
        self._render: Callable[[], bytes] = bytes
        self._reload: Callable[[], Awaitable[None]] | None = None
        self._config: Callable[[], dict[str, Any]] = dict
        self._told = b""
        self._tasks: set[asyncio.Task[None]] = set()

    # -- messages --------------------------------------------------------------------------------

    def on(self, topic: str, handler: Handler) -> None:
        """Have ``handler`` called with each message of a topic, on the event loop."""
        self._handlers[topic] = handler

    def to_others(self, topic: str, message: Sequence[Any]) -> None:
        """Send to the other workers; on the event loop."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append((topic, message))
        if self._flush_at is None and self._channel is not None:
            loop = asyncio.get_running_loop()
            self._flush_at = loop.call_later(FLUSH_EVERY_S, self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        channel, waiting = self._channel, self._waiting
        if channel is None or not waiting:
            return
        self._waiting = []
        if channel.waiting_bytes > _MOST_UNREAD:
            self.dropped += len(waiting)
        else:
            channel.send({"kind": "post", "batch": waiting, "dropped": self.dropped})
            self.dropped = 0

    def _handle(self, topic: str, message: Sequence[Any]) -> None:
        handler = self._handlers.get(topic)
        if handler is None:
            return
        try:
            handler(*message)
        except Exception as error:
            self.on_error(error)

    # -- the line --------------------------------------------------------------------------------

    def attach(
        self,
        channel: Channel,
        *,
        render: Callable[[], bytes],
        reload: Callable[[], Awaitable[None]],
        config: Callable[[], dict[str, Any]],
    ) -> None:
        """Take the line up.

        Args:
            channel: To the supervisor.
            render: This process's metrics.
            reload: Reads the configuration again; raises `ConfigError`.
            config: The configuration in force: ``config`` as its file would have it, ``path``.
        """
        self._channel = channel
        self._render, self._reload, self._config = render, reload, config
        self._flush()

    def tell_config(self) -> None:
        """Tell the configuration in force, for whoever starts in this worker's place."""
        self._send({"kind": "config", "value": self._config()})

    def on_frame(self, frame: Frame) -> None:
        """Take a frame of the supervisor's."""
        kind = frame["kind"]
        if kind == "posted":
            for topic, message in frame["batch"]:
                self._handle(topic, message)
        elif kind == "render":
            self._send_text(frame["id"])
        elif kind in ("scraped", "reload_done"):
            asked = self._asked.pop(frame["id"], None)
            if asked is not None and not asked.done():
                asked.set_result(frame)
        elif kind == "do_reload":
            task = asyncio.get_running_loop().create_task(self._do_reload(frame["id"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def scrape(self) -> bytes:
        """The metrics of all workers; its own alone where the supervisor does not answer."""
        answer = await self._ask({"kind": "scrape"})
        return self._render() if answer is None else str(answer["text"]).encode()

    async def reload_all(self) -> None:
        """Have all workers read the configuration again.

        Raises:
            ConfigError: One of them could not.
        """
        answer = await self._ask({"kind": "reload"})
        if answer is None:
            raise ConfigError("the supervisor does not answer; send it SIGHUP")
        if answer["errors"]:
            raise ConfigError("; ".join(dict.fromkeys(answer["errors"])))

    async def tell_metrics(self) -> None:
        """Tell the metrics now and then, until cancelled: of a worker that dies they are kept."""
        while True:
            await asyncio.sleep(TELL_METRICS_EVERY_S)
            self.tell_metrics_now()

    def tell_metrics_now(self) -> None:
        """Tell the metrics, if they have changed since."""
        text = self._render()
        if text != self._told:
            self._told = text
            self._send({"kind": "text", "id": None, "text": text.decode()})

    def leave(self) -> None:
        """Say the last: messages and metrics."""
        self._flush()
        self.tell_metrics_now()

    async def _ask(self, frame: Frame) -> Frame | None:
        if self._channel is None or self._channel.lost.is_set():
            return None
        number = next(self._numbers)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send({**frame, "id": number})
        try:
            return await asyncio.wait_for(answer, ANSWER_WITHIN_S)
        except TimeoutError:
            return None
        finally:
            self._asked.pop(number, None)

    async def _do_reload(self, number: int | None) -> None:
        assert self._reload is not None
        problem = None
        try:
            await self._reload()
        except ConfigError as error:
            problem = str(error)
        self._send({"kind": "reloaded", "id": number, "error": problem})

    def _send_text(self, number: int) -> None:
        self._told = self._render()
        self._send({"kind": "text", "id": number, "text": self._told.decode()})

    def _send(self, frame: Frame) -> None:
        if self._channel is not None:
            self._channel.send(frame)
