"""Calls over pooled connections: what is written, what is read, and when a connection is kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from zerorouter.gateway.connections import MOST_AT_ONCE, Answer, Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 4\r\n\r\ndone"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Upstream:
    """A server that reads requests and answers each with the same bytes."""

    def __init__(self, said: bytes, *, closes: bool = False) -> None:
        self.said = said
        self.closes = closes
        self.connections = 0
        self.asked: list[tuple[bytes, bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                assert length is not None
                self.asked.append((head, await reader.readexactly(int(length[1]))))
                writer.write(self.said)
                if self.closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def run(
    upstream: Upstream, work: Callable[[Connections, str], Awaitable[None]], path: str = "/v1/chat"
) -> None:
    async def main() -> None:
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=4 * MOST_AT_ONCE)
        port = server.sockets[0].getsockname()[1]
        connections = Connections(connect_s=5, user_agent="zerorouter/test")
        try:
            await work(connections, f"http://127.0.0.1:{port}{path}")
        finally:
            await connections.close()
            server.close()

    asyncio.run(main())


async def whole(answer: Answer) -> bytes:
    parts = []
    while part := await answer.content.readany():
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("size", [2, MOST_AT_ONCE])
def test_a_request_says_what_is_needed_and_its_body_arrives_whole(size: int) -> None:
    upstream, body = Upstream(OK), b"x" * size

    async def work(connections: Connections, url: str) -> None:
        answer = await connections.post(url, body, {"authorization": "Bearer k"})
        assert (answer.status, answer.headers.get("content-type")) == (200, "text/plain")
        assert await whole(answer) == b"done"

    run(upstream, work, path="/v1/chat?a=%20b")
    ((head, came),) = upstream.asked
    assert came == body
    first, *lines = head.decode().lower().split("\r\n")
    assert first == "post /v1/chat?a=%20b http/1.1"
    told = dict(line.split(": ", 1) for line in lines if line)
    assert told.pop("host").startswith("127.0.0.1:")
    assert told == {
        "user-agent": "zerorouter/test",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": "bearer k",
        "content-length": str(size),
    }


def test_a_connection_is_used_again_once_its_answer_was_read() -> None:
    upstream = Upstream(OK)

    async def work(connections: Connections, url: str) -> None:
        for _ in range(3):
            await whole(await connections.post(url, b"{}", {}))

    run(upstream, work)
    assert (upstream.connections, len(upstream.asked)) == (1, 3)


def test_a_connection_is_not_used_again_where_the_answer_was_left_or_says_so() -> None:
    left, closing = Upstream(OK), Upstream(OK.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))

    async def leave(connections: Connections, url: str) -> None:
        for _ in range(2):
            (await connections.post(url, b"{}", {})).close()

    async def read(connections: Connections, url: str) -> None:
        for _ in range(2):
            await whole(await connections.post(url, b"{}", {}))

    left.said = OK[:-1]  # the last byte never comes
    run(left, leave)
    run(closing, read)
    assert (left.connections, closing.connections) == (2, 2)


def test_interim_answers_are_passed_over() -> None:
    async def work(connections: Connections, url: str) -> None:
        answer = await connections.post(url, b"{}", {})
        assert (answer.status, await whole(answer)) == (200, b"done")

    run(Upstream(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK), work)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    said = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"
    upstream = Upstream(said)

    async def work(connections: Connections, url: str) -> None:
        assert (await connections.post(url, b"{}", {})).status == 307
        large = await connections.post(url, b" " * MOST_AT_ONCE, {})
        assert large.status == 307
        large.close()

    run(upstream, work)
    assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", b""]
)
def test_what_is_no_answer_is_a_client_error(said: bytes) -> None:
    async def work(connections: Connections, url: str) -> None:
        with pytest.raises(aiohttp.ClientError):
            await connections.post(url, b"{}", {})

    run(Upstream(said, closes=True), work)


def test_an_answer_that_breaks_off_is_a_client_error() -> None:
    async def work(connections: Connections, url: str) -> None:
        answer = await connections.post(url, b"{}", {})
        with pytest.raises(aiohttp.ClientError):
            await whole(answer)
        answer.close()

    run(Upstream(OK[:-2], closes=True), work)


def test_nobody_there_is_a_connector_error() -> None:
    async def work(connections: Connections, _: str) -> None:
        with pytest.raises(aiohttp.ClientConnectorError):
            await connections.post("http://127.0.0.1:1/v1", b"{}", {})

    run(Upstream(OK), work)


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\0b"])
def test_a_header_cannot_begin_another_one(value: str) -> None:
    upstream = Upstream(OK)

    async def work(connections: Connections, url: str) -> None:
        with pytest.raises(ValueError, match="openai-beta"):
            await connections.post(url, b"{}", {"openai-beta": value})

    run(upstream, work)
    assert upstream.asked == []
