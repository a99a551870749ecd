"""Events of a stream (server-sent events) out of bytes that come in any pieces.

Lines end in LF or CRLF. Comments and fields other than ``event`` and ``data`` carry nothing for
the APIs here and are passed over. A lone CR as a line's end, which the standard allows and no
provider sends, is not read as one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from zerorouter.errors import WireError

MOST_EVENT_BYTES: Final = 16 * 1024 * 1024
"""A longer event is an error; images come in streams with some megabytes each."""

DONE: Final = b"[DONE]"
"""The data of the event that ends OpenAI's streams."""

EVENT_END: Final = re.compile(rb"\n\r?\n")
_BOM: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name, None where it has none, and its data, lines joined by LF."""

    name: str | None
    data: bytes


class SSESplitter:
    """Bytes in, whole events out. Holds at most one unfinished event.

    Args:
        most_bytes: The longest event that is taken.
    """

    __slots__ = ("_at", "_begun", "_most", "_rest")

    def __init__(self, most_bytes: int = MOST_EVENT_BYTES) -> None:
        self._most = most_bytes
        self._rest = bytearray()
        self._at = 0  # up to here no end of an event has been found
        self._begun = False

    def feed(self, data: bytes) -> list[Event]:
        """Events that ``data`` completes.

        Raises:
            WireError: The unfinished event is too long; the splitter has then forgotten it and
                reads what follows as if it were the rest of it.
        """
        if not self._begun:
            data = self._without_bom(data)
        if not self._rest and data.endswith(b"\n\n"):  # whole events, as providers flush them
            return _events(data)
        rest = self._rest
        rest += data
        events: list[Event] = []
        start = 0
        for end in EVENT_END.finditer(rest, self._at):
            event = _event(bytes(rest[start : end.start()]))
            if event is not None:
                events.append(event)
            start = end.end()
        if start:
            del rest[:start]
        if len(rest) > self._most:
            size = len(rest)
            del rest[:]
            self._at = 0
            raise WireError(
                f"an event of the stream has {size:,} bytes and more; the limit is "
                f"{self._most:,}: the upstream sends no event stream, or one event without end"
            )
        self._at = max(len(rest) - 2, 0)
        return events

    def finish(self) -> list[Event]:
        """The event that the stream broke off in, where it has data.

        The standard throws it away; servers that forget the last empty line are common.
        """
        rest = bytes(self._rest)
        del self._rest[:]
        self._at = 0
        event = _event(rest)
        return [] if event is None else [event]

    def _without_bom(self, data: bytes) -> bytes:
        whole = bytes(self._rest) + data
        if len(whole) < len(_BOM) and _BOM.startswith(whole):
            return data  # perhaps a mark in pieces; it is looked at again
        self._begun = True
        if not whole.startswith(_BOM):
            return data
        del self._rest[:]
        return whole[len(_BOM) :]


def encode_event(data: bytes, name: str | None = None) -> bytes:
    """An event in bytes; ``data`` holds no line end, as JSON does not."""
    if name is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def _events(data: bytes) -> list[Event]:
    if data.startswith(b"data: ") and data.count(b"\n") == 2:
        return [Event(None, data[6:-2])]
    blocks = EVENT_END.split(data)
    return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> Event | None:
    name: str | None = None
    data: bytes | None = None
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            part = line[6:] if line[5:6] == b" " else line[5:]
            part = part.removesuffix(b"\r")
            data = part if data is None else data + b"\n" + part
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
        elif line == b"data" or line == b"data\r":
            data = b"" if data is None else data + b"\n"
    return None if data is None else Event(name, data)
