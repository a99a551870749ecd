"""HTTP on a bare socket: what a client sees when a server does not keep to the rules."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came back on a connection.

    Attributes:
        data: All bytes.
        reset: Whether the connection ended with an RST.
        body: The body, chunked encoding undone as far as it goes.
        whole: Whether the body arrived whole.
    """

    data: bytes
    reset: bool

    @property
    def status(self) -> int:
        line = self.data.split(b"\r\n", 1)[0].split()
        return int(line[1]) if line and line[0] == b"HTTP/1.1" else 0

    @property
    def headers(self) -> dict[str, str]:
        head = self.data.partition(b"\r\n\r\n")[0].decode("latin-1")
        rows = [line.partition(": ") for line in head.split("\r\n")[1:]]
        return {name.lower(): value for name, _, value in rows}

    @property
    def body(self) -> bytes:
        return self._unpacked()[0]

    @property
    def whole(self) -> bool:
        return self._unpacked()[1]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def _unpacked(self) -> tuple[bytes, bool]:
        rest = self.data.partition(b"\r\n\r\n")[2]
        if "content-length" in self.headers:
            return rest, len(rest) == int(self.headers["content-length"])
        body = b""
        while True:
            size, found, rest = rest.partition(b"\r\n")
            if not found or len(rest) < int(size, 16):
                return body + rest, False
            if int(size, 16) == 0:
                return body, True
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def request(
    path: str,
    body: Any,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    length: int | None = None,
) -> bytes:
    """A request's bytes; ``body`` may be bytes already."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {
        "host": "sandbox",
        "connection": "close",
        "anthropic-version": "2023-06-01",
        "content-length": str(len(raw) if length is None else length),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw


def asked(text: str = "Anything at all?", model: str = "able", **fields: Any) -> dict[str, Any]:
    """The body of a chat or message."""
    messages = [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 100, "messages": messages, **fields}


@contextmanager
def connection(url: str, timeout: float = 10) -> Iterator[socket.socket]:
    """A connection to a server."""
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), timeout=timeout) as line:
        yield line


def read_all(line: socket.socket) -> Seen:
    """Everything up to the end of the connection."""
    data = b""
    while True:
        try:
            got = line.recv(65_536)
        except ConnectionResetError:
            return Seen(data=data, reset=True)
        if not got:
            return Seen(data=data, reset=False)
        data += got


def read_some(line: socket.socket, quiet_s: float) -> bytes:
    """What comes until nothing has come for ``quiet_s``; the connection is still open then."""
    line.settimeout(quiet_s)
    data = b""
    while True:
        try:
            got = line.recv(65_536)
        except TimeoutError:
            return data
        assert got, "the connection was closed"
        data += got


def exchange(url: str, sent: bytes, timeout: float = 10) -> Seen:
    """Send a request and read all that comes back."""
    with connection(url, timeout) as line:
        line.sendall(sent)
        return read_all(line)
