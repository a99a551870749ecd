"""Calls over aiohttp's pooled connections, without what its session does around each of them.

aiohttp's connector gives connections (pool, DNS, TLS) and its protocol reads answers. What lies
between, `ClientSession.post`, costs four times as much as both (60 us a call against 14, measured
by ``benchmarks/bench_gateway.py --client``): redirects, cookies, proxies, netrc, header mappings
and a task that writes the body, none of which the gateway wants. Here a request is one write of
ready-made bytes.

A large body goes the session's way, for it has to be written in pieces while the answer may come
already.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from aiohttp import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection

MOST_AT_ONCE: Final = 2**20
"""A body from this length on is written in pieces: one write of it would hold the loop up."""
_READ_BYTES: Final = 2**18
_KEPT: Final = 1_024  # URLs; they come from the configuration, so there are few
_UNSENDABLE: Final = re.compile(r"[\r\n\0]")


class Content(Protocol):
    """The body of an answer, as aiohttp reads it."""

    async def readany(self) -> bytes:
        """What has come, waiting for something; empty at the end."""


class Answer(Protocol):
    """An answer whose head has come. `aiohttp.ClientResponse` is one."""

    @property
    def status(self) -> int:
        """Its status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers; names in any case."""

    @property
    def content(self) -> Content:
        """Its body."""

    def close(self) -> None:
        """Leave it: the connection is closed."""

    def release(self) -> Any:
        """It was read to its end: the connection is free for the next one."""


class _Answer:
    """An answer that was read off a connection here."""

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self, connection: Connection, status: int, headers: Mapping[str, str], content: Any
    ) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self.content: Content = content

    def close(self) -> None:
        """See `Answer.close`."""
        self._connection.close()

    def release(self) -> None:
        """See `Answer.release`."""
        self._connection.release()


class Connections:
    """The gateway's connections to upstreams; made in the event loop that is going to use them.

    Args:
        connect_s: Longest time for a connection.
        user_agent: How the gateway calls itself.
    """

    def __init__(self, *, connect_s: float, user_agent: str) -> None:
        import aiohttp

        self._loop = asyncio.get_running_loop()
        self._timeout: ClientTimeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._always = {
            "user-agent": user_agent,
            "accept": "*/*",
            # The scanner reads along; what is compressed it could not.
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=60, ttl_dns_cache=60, enable_cleanup_closed=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            headers=self._always,
            read_bufsize=_READ_BYTES,
            trust_env=False,
        )
        self._connector = connector
        self._places: dict[str, tuple[ClientRequest, str]] = {}

    async def close(self) -> None:
        """Close all."""
        await self._session.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to a POST, its body still to be read. Redirects are not followed.

        Args:
            url: From the configuration.
            body: What is sent.
            headers: Beside those that every call has.

        Raises:
            aiohttp.ClientError: No connection, or it broke off.
            OSError: Likewise.
            ValueError: A header holds a line end.
        """
        place, head = self._places.get(url) or self._place(url)
        if len(body) >= MOST_AT_ONCE:
            return await self._session.post(
                place.url, data=io.BytesIO(body), headers=headers, allow_redirects=False
            )
        lines = [head]
        for name, value in headers.items():
            if _UNSENDABLE.search(value):
                raise ValueError(f"header {name}: its value holds a line end or a NUL")
            lines.append(f"{name}: {value}\r\n")
        lines.append(f"content-length: {len(body)}\r\n\r\n")
        request = "".join(lines).encode("latin-1") + body
        connection = await self._connect(place)
        try:
            protocol = connection.protocol
            assert protocol is not None
            assert protocol.transport is not None
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_bufsize=_READ_BYTES
            )
            protocol.transport.write(request)
            return await self._answer(connection)
        except BaseException:
            connection.close()
            raise

    async def _connect(self, place: ClientRequest) -> Connection:
        try:
            return await self._connector.connect(place, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            import aiohttp

            raise aiohttp.ConnectionTimeoutError(f"no connection to {place.url} in time") from error

    async def _answer(self, connection: Connection) -> Answer:
        """Read the head of the answer; interim ones are passed over."""
        from aiohttp.http_exceptions import HttpProcessingError

        protocol = connection.protocol
        assert protocol is not None
        try:
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    break
        except HttpProcessingError as error:
            import aiohttp

            raise aiohttp.ClientPayloadError(f"no HTTP: {error.message}") from error
        # Read to its end the connection is free, whoever reads it and whenever that is.
        content.on_eof(connection.release)
        return _Answer(connection, message.code, message.headers, content)

    def _place(self, url: str) -> tuple[ClientRequest, str]:
        """Where a URL leads, as aiohttp's connector wants to be told, and how a request begins."""
        import aiohttp
        from aiohttp.client_reqrep import ClientRequest
        from yarl import URL

        parsed = URL(url, encoded=True)
        place = ClientRequest(
            "POST",
            parsed,
            loop=self._loop,
            session=self._session,
            response_class=aiohttp.ClientResponse,
        )
        head = f"POST {parsed.raw_path_qs} HTTP/1.1\r\nhost: {place.headers['host']}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self._always.items())
        if len(self._places) >= _KEPT:  # of configurations that are no more
            self._places.clear()
        self._places[url] = made = (place, head)
        return made
