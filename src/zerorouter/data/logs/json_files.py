"""JSON of any size read piece by piece: lines of a JSONL file, members and elements of a JSON file.

The standard library parses whole texts. A log's samples stand in one array of one object, or one a
line; they are parsed one at a time here, so memory is bounded by the largest of them.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from zerorouter.data.tables import fault, shown
from zerorouter.errors import DataError

MAX_VALUE_CHARS: Final = 1 << 28
"""The longest single value (a sample, a line) that is read; longer ones are refused."""

_CHUNK_CHARS = 1 << 18
_SPACE = " \t\n\r"
_NEAR_END = 16  # an error this near to the end of what was read may be for want of more
_parse = json.JSONDecoder().raw_decode


@cache
def _fast() -> Any:
    """orjson, which comes with the extra gateway, or None."""
    try:
        return importlib.import_module("orjson")
    except ImportError:
        return None


def loads(raw: bytes | str) -> Any:
    """``json.loads``, faster where orjson is installed.

    What orjson refuses and the standard library takes (NaN, half surrogate pairs) is read too.

    Raises:
        ValueError: ``raw`` is no JSON.
        RecursionError: It is nested too deeply.
    """
    fast = _fast()
    if fast is not None:
        try:
            return fast.loads(raw)
        except ValueError:
            pass
    return json.loads(raw)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 and lines without their ends; blank lines are skipped.

    Raises:
        DataError: The file cannot be read, or a line is longer than `MAX_VALUE_CHARS`.
    """
    with opened(path) as stream:
        number = 0
        while line := stream.readline(MAX_VALUE_CHARS + 1):
            number += 1
            if len(line) > MAX_VALUE_CHARS:
                raise fault(
                    path,
                    where=f"line {number}",
                    found=f"more than {MAX_VALUE_CHARS:,} bytes without a line end",
                    wanted="one JSON object a line",
                    todo="check that the file is a log",
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.rstrip(b"\r\n")
            if line and not line.isspace():
                yield number, line


def json_object(path: Path, where: str, raw: bytes | str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        DataError: ``raw`` is no JSON object, or not UTF-8; the message says ``where``.
    """
    try:
        parsed = loads(raw)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        start = raw[:200].decode("utf-8", "replace") if isinstance(raw, bytes) else raw[:200]
        raise fault(
            path,
            where=where,
            found=f"{shown(start)}, which is not JSON ({error})",
            wanted="one JSON object",
            todo="correct or remove it; a file that ends early was cut off while it was written",
        ) from error
    if not isinstance(parsed, dict):
        raise fault(
            path,
            where=where,
            found=f"a JSON {type(parsed).__name__}",
            wanted="one JSON object",
            todo="check that the file is a log",
        )
    return parsed


def members(path: Path, arrays: Collection[str] = ()) -> Iterator[tuple[str, Any, int]]:
    """The members of a file's JSON object in order: key, value and line.

    An array whose key is one of ``arrays`` is not read whole: each of its elements comes as a
    member of that key. A caller that has what it wants stops early, and no more is read.

    Raises:
        DataError: The file holds no JSON object, or is damaged from the line on that is named.
    """
    with _reading(path) as text:
        text.expect("{")
        if text.peek() == "}":
            return
        while True:
            line = text.line
            key = text.value()
            if not isinstance(key, str):
                text.fail("a key that is no text", "an object with named members")
            text.expect(":")
            if key in arrays and text.peek() == "[":
                yield from ((key, element, at) for element, at in text.elements())
            else:
                yield key, text.value(), line
            if text.expect(",}") == "}":
                return


def first_keys(path: Path, n: int, within: int) -> tuple[str, ...]:
    """The first ``n`` keys of a file's JSON object, as far as the first ``within`` characters tell.

    Nothing is raised for what is no JSON object or damaged: the keys before it are told.

    Raises:
        DataError: The file cannot be read.
    """
    keys: list[str] = []
    with _reading(path, within) as text, suppress(DataError, UnicodeDecodeError):
        text.expect("{")
        while len(keys) < n and text.peek() != "}":
            key = text.value()
            text.expect(":")
            keys.append(str(key))
            text.value()
            if text.expect(",}") == "}":
                break
    return tuple(keys)


def elements(path: Path) -> Iterator[tuple[Any, int]]:
    """The elements of a file's JSON array in order, each with its line.

    Raises:
        DataError: The file holds no JSON array, or is damaged from the line on that is named.
    """
    with _reading(path) as text:
        if text.peek() != "[":
            text.fail(repr(text.peek()) if text.peek() else "an empty file", "a JSON array")
        yield from text.elements()


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, with the operating system's refusals as our own error."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with stream:
        try:
            yield stream
        except OSError as error:
            raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the operating system does not hand out."""
    return fault(
        path,
        found=f"a file that cannot be read ({error.strerror or error})",
        wanted="a readable log",
        todo="check the path and its permissions",
    )


@contextmanager
def _reading(path: Path, within: int | None = None) -> Iterator[_Text]:
    with opened(path) as raw:
        text = _Text(path, io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""), within)
        try:
            yield text
        except UnicodeDecodeError as error:
            raise fault(
                path,
                where=f"after line {text.line}",
                found=f"the byte 0x{error.object[error.start]:02x}, which is not UTF-8",
                wanted="UTF-8 text",
                todo="convert the file, for example with iconv -t utf-8",
            ) from error


class _Text:
    """A file's text, or its first ``within`` characters, of which a window is in memory."""

    def __init__(self, path: Path, stream: IO[str], within: int | None = None) -> None:
        self._path = path
        self._stream = stream
        self._within = within
        self._window = ""
        self._at = 0
        self._line = 1
        self._counted = 0  # how far into the window lines are counted
        self._ended = False

    @property
    def line(self) -> int:
        """The line of the next character that counts, from 1."""
        self.peek()
        self._line += self._window.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def peek(self) -> str:
        """The next character that is no blank space; empty at the end."""
        while True:
            window, at = self._window, self._at
            while at < len(window) and window[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(window):
                return window[at]
            if not self._more():
                return ""

    def expect(self, allowed: str) -> str:
        """Take the next character, which must be one of ``allowed``."""
        found = self.peek()
        if not found or found not in allowed:
            wanted = " or ".join(repr(char) for char in allowed)
            self.fail(repr(found) if found else "the end of the file", wanted)
        self._at += 1
        return found

    def value(self) -> Any:
        """Take the next JSON value."""
        self.peek()
        while True:
            try:
                parsed, end = _parse(self._window, self._at)
            except json.JSONDecodeError as error:
                incomplete = (
                    error.msg.startswith("Unterminated string")
                    or error.pos >= len(self._window) - _NEAR_END
                )
                at = self._at
                if not (incomplete and self._more()):
                    self._at = min(self._at + error.pos - at, len(self._window))
                    self.fail(f"what is not JSON ({error.msg})", "a whole JSON file")
            except (RecursionError, ValueError) as error:
                self.fail(f"what cannot be read ({error})", "JSON of moderate depth")
            else:
                # A number near the end may go on: "1" may be "1.5", "1.5" may be "1.5e-3".
                settled = self._window[end - 1] in '}]"' or end + 3 < len(self._window)
                if settled or self._ended:
                    self._at = end
                    return parsed
                self._more()

    def elements(self) -> Iterator[tuple[Any, int]]:
        """Take the next array, element by element, each with its line."""
        self.expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            line = self.line
            yield self.value(), line
            if self.expect(",]") == "]":
                return

    def fail(self, found: str, wanted: str) -> NoReturn:
        """Raise the error for what stands here."""
        raise fault(
            self._path,
            where=f"line {self.line}",
            found=found,
            wanted=wanted,
            todo="write the log again; a file that ends early was cut off while it was written",
        )

    def _more(self) -> bool:
        """Read on: at least as much again as is waiting, so that retries stay few."""
        if self._ended:
            return False
        self._line += self._window.count("\n", self._counted, self._at)
        self._window, self._at, self._counted = self._window[self._at :], 0, 0
        if len(self._window) > MAX_VALUE_CHARS:
            self._ended = True
            self.fail(f"a value of more than {MAX_VALUE_CHARS:,} characters", "a log of samples")
        n_chars = max(_CHUNK_CHARS, len(self._window))
        if self._within is not None:
            n_chars = min(n_chars, self._within)
            self._within -= n_chars
        chunk = self._stream.read(n_chars)
        self._window += chunk
        self._ended = not chunk
        return bool(chunk)
