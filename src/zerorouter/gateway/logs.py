"""Structured logs: one JSON object a line, written by a thread of its own.

The event loop hands lines over and never waits for a terminal, a pipe or a disk. What cannot be
written in time is dropped and counted. No line holds a prompt, an answer or a secret: lines are
made of named fields, never of headers or bodies.
"""

from __future__ import annotations

import datetime
import logging
import queue
import sys
import threading
import time
from typing import Any, BinaryIO, Final

from zerorouter.gateway.wire.codec import dumps

MOST_WAITING: Final = 20_000
_END: Final = None


class JsonLog:
    """A log to a stream, by default standard error.

    Attributes:
        dropped: Lines that there was no room for.
    """

    def __init__(self, stream: BinaryIO | None = None, *, level: str = "info") -> None:
        self._stream = sys.stderr.buffer if stream is None else stream
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._silent = level == "silent"
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="zerorouter-log", daemon=True)
        if not self._silent:
            self._thread.start()

    def write(self, fields: dict[str, Any], *, level: str = "info") -> None:
        """Log one object; ``ts`` and ``level`` are added."""
        if self._silent:
            return
        fields["ts"] = time.time()
        fields["level"] = level
        try:
            self._lines.put_nowait(fields)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what is waiting, for a second at most."""
        if not self._silent:
            try:
                self._lines.put(_END, timeout=1)
            except queue.Full:
                return
            self._thread.join(1)

    def _write(self) -> None:
        while True:
            batch = [self._lines.get()]
            while len(batch) < 1_000:
                try:
                    batch.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            lines = [_line(fields) for fields in batch if fields is not None]
            try:
                self._stream.write(b"".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += len(lines)
            if None in batch:
                return
            time.sleep(0.02)  # gathers lines: a wake-up for each would cost more than the line


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


def _line(fields: dict[str, Any]) -> bytes:
    moment = datetime.datetime.fromtimestamp(fields["ts"], tz=datetime.UTC)
    told = {**fields, "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    try:
        return dumps(told) + b"\n"
    except (TypeError, ValueError):
        return dumps({"event": "log_error", "ts": told["ts"]}) + b"\n"
