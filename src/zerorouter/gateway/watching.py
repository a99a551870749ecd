"""One timer per request for every limit on time, and its end when the client leaves.

    watch = Watch(loop)
    watch.limit(monotonic() + 5, Late.FIRST_BYTE)
    with watch:
        ...            # cancelled when the limit passes, or when the client goes
    # raises TimedOut or ClientLeft

The timer is not moved with every chunk of a stream: it looks at the limit when it fires, and sets
itself again if that has moved meanwhile.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from time import monotonic
from types import TracebackType
from typing import Final, Protocol

from zerorouter.gateway.asgi import Scope

EXTENSION: Final = "zerorouter.connection"
"""ASGI extension under which our server hands over its connection."""


class Connection(Protocol):
    """What the gateway asks of a client's connection."""

    watch: Watch | None
    """Whose client this is."""

    def close(self) -> None:
        """Close it, after what has been written has gone out; not later than in a while."""

    def abort(self) -> None:
        """Close it now: its client takes nothing."""


class Late(StrEnum):
    """What took too long."""

    BODY = "body"
    FIRST_BYTE = "first_byte"
    IDLE = "idle"
    CLIENT = "client"
    DEADLINE = "deadline"


class TimedOut(Exception):  # noqa: N818  # an event, dealt with by whoever set the limit
    """A limit passed.

    Attributes:
        late: What took too long.
    """

    def __init__(self, late: Late) -> None:
        self.late = late
        super().__init__(late.value)


class ClientLeft(Exception):  # noqa: N818  # an event of the protocol, not a failure
    """The client closed the connection."""


class Watch:
    """Over one request, in the task that serves it.

    Attributes:
        left: Whether the client has gone.
    """

    __slots__ = (
        "_at",
        "_fired",
        "_handle",
        "_inside",
        "_late",
        "_loop",
        "_set_for",
        "_task",
        "left",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._set_for = 0.0
        self._at = 0.0
        self._late = Late.DEADLINE
        self._fired = False
        self._inside = False
        self.left = False

    def limit(self, at: float, late: Late) -> None:
        """From now on, ``at`` is too late; on the monotonic clock (event loops round theirs)."""
        self._at = at
        self._late = late
        if self._handle is None or at < self._set_for:
            if self._handle is not None:
                self._handle.cancel()
            self._set_for = at
            self._handle = self._loop.call_later(max(at - monotonic(), 0), self._ring)

    def leave(self) -> None:
        """The client has gone: whatever is being waited for ends now."""
        if not self.left:
            self.left = True
            self._interrupt()

    def close(self) -> None:
        """Stop the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __enter__(self) -> Watch:
        if self.left:
            raise ClientLeft
        if self._task is None:
            self._task = asyncio.current_task()
        self._inside = True
        self._fired = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside = False
        if not self._fired:
            if self.left and kind is not None and issubclass(kind, OSError):
                raise ClientLeft from None
            return
        assert self._task is not None
        asked_for_more = self._task.uncancel() > 0
        if kind is None or not issubclass(kind, asyncio.CancelledError):
            if self.left:
                raise ClientLeft from error
            return  # it came through just in time
        if asked_for_more:  # the server stops as well
            return
        if self.left:
            raise ClientLeft from None
        raise TimedOut(self._late) from None

    def _ring(self) -> None:
        wait = self._at - monotonic()
        if wait > 0:
            self._set_for = self._at
            self._handle = self._loop.call_later(wait, self._ring)
            return
        self._handle = None
        self._interrupt()

    def _interrupt(self) -> None:
        if self._inside and not self._fired and self._task is not None:
            self._fired = True
            self._task.cancel()


def connection_of(scope: Scope) -> Connection | None:
    """The connection, where the server hands it over."""
    extensions = scope.get("extensions")
    found: Connection | None = extensions.get(EXTENSION) if extensions else None
    return found
