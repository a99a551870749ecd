"""Passing a stream on: whole events, the upstream's bytes, and an end that clients understand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.envelopes import Failure, error_event
from zerorouter.gateway.wire.scanning import AnswerFacts, UsageChunkFilter, scanner_for
from zerorouter.gateway.wire.sse import MOST_EVENT_BYTES

if TYPE_CHECKING:
    from zerorouter.gateway.wire.translate_stream import StreamTranslator

_ENDS: Final = (b"\n\n", b"\n\r\n")


class WholeEvents:
    """Lets bytes pass up to the end of an event and keeps the beginning of the next one back.

    A stream that breaks off inside an event can then be ended with an error event. The bytes that
    pass are the upstream's.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What may pass now."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if data.endswith(_ENDS):
            return data
        at = max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)
        if len(data) - at > MOST_EVENT_BYTES:
            return data
        self._rest = data[at:]
        return data[:at]

    def finish(self) -> bytes:
        """What was kept back when the stream came to a good end."""
        rest, self._rest = self._rest, b""
        return rest


class Relay:
    """One stream on its way through, in the API that the client reads.

    Args:
        api: The upstream's API.
        translator: Turns it into the client's API; None where it is in that already.
        drops_usage: Whether the usage chunk is kept from the client, who did not ask for it.
    """

    __slots__ = ("_events", "_filter", "_scanner", "_translator")

    def __init__(
        self, api: Api, translator: StreamTranslator | None, *, drops_usage: bool = False
    ) -> None:
        self._translator = translator
        self._scanner = scanner_for(api) if translator is None else None
        self._events = WholeEvents()
        self._filter = UsageChunkFilter() if drops_usage else None

    @property
    def facts(self) -> AnswerFacts:
        """What is known of the answer so far."""
        if self._translator is not None:
            return self._translator.facts
        assert self._scanner is not None
        return self._scanner.facts

    def feed(self, chunk: bytes) -> bytes:
        """The client's bytes for the upstream's next ones; may be empty."""
        if self._scanner is None:
            assert self._translator is not None
            return self._translator.feed(chunk)
        self._scanner.feed(chunk)
        if self._filter is not None:
            chunk = self._filter.feed(chunk)
        return self._events.feed(chunk)

    def finish(self) -> bytes | None:
        """The last bytes as the upstream's stream ends; None if it ended too early."""
        if self._scanner is not None:
            self._scanner.finish()
        facts = self.facts
        if not facts.is_complete and facts.finish_reason is None and facts.error is None:
            return None
        if self._translator is not None:
            return self._translator.finish()
        if self._filter is not None:
            return self._events.feed(self._filter.finish()) + self._events.finish()
        return self._events.finish()

    def fail(self, api: Api, failure: Failure) -> bytes:
        """The client's last bytes where the stream does not come to its end."""
        if self._translator is not None:
            return self._translator.fail(failure)
        return error_event(api, failure)
