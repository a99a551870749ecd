"""Structured logs: one JSON object a line, written by a thread of its own.

The event loop hands lines over and never waits for a terminal, a pipe or a disk. What cannot be
written in time is dropped and counted. No line holds a prompt, an answer or a secret: lines are
made of named fields, never of headers or bodies.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any, BinaryIO, Final

from zerorouter.gateway.wire.codec import dumps

MOST_WAITING: Final = 20_000
_EVERY_S: Final = 0.05  # a wake-up of the thread for each line would cost more than the line


class JsonLog:
    """A log to a stream, by default standard error.

    Attributes:
        dropped: Lines that there was no room for.
    """

    def __init__(self, stream: BinaryIO | None = None, *, level: str = "info") -> None:
        self._stream = sys.stderr.buffer if stream is None else stream
        self._lines: list[bytes] = []
        self._silent = level == "silent"
        self._second = (0, "")
        self.dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zerorouter-log", daemon=True)
        if not self._silent:
            self._thread.start()

    def write(self, fields: dict[str, Any], *, level: str = "info") -> None:
        """Log one object; ``ts`` and ``level`` are added."""
        if self._silent:
            return
        if len(self._lines) >= MOST_WAITING:
            self.dropped += 1
            return
        fields["ts"] = self._instant(time.time())
        fields["level"] = level
        try:
            self._lines.append(dumps(fields))
        except (TypeError, ValueError):
            self._lines.append(b'{"event":"log_error"}')

    def close(self) -> None:
        """Write what is waiting, for a second at most."""
        if not self._silent:
            self._stop.set()
            self._thread.join(1)

    def _instant(self, now: float) -> str:
        """ISO 8601 in UTC, to the millisecond."""
        whole = int(now)
        second, text = self._second
        if second != whole:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
            self._second = (whole, text)
        return f"{text}.{int((now - whole) * 1000):03d}Z"

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += len(lines)


class LoggingBridge(logging.Handler):
    """Takes what libraries log by the standard library's `logging` into a `JsonLog`."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record: its logger, its text, and the kind of exception."""
        fields: dict[str, Any] = {
            "event": "library",
            "logger": record.name,
            "message": record.getMessage()[:2_000].strip(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = record.exc_info[0].__name__
            fields["where"] = frames(record.exc_info[2])
        self._log.write(fields, level=record.levelname.lower())


def frames(trace: Any) -> list[str]:
    """File, line and function of each frame: no values."""
    out = []
    while trace is not None:
        code = trace.tb_frame.f_code
        out.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return out[-12:]
