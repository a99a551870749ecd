"""One request to an OpenAI-compatible endpoint: sent, streamed, measured, or failed in words.

The answer is streamed, since only a stream tells when the first token came. Whatever goes wrong
becomes a `CallError` that says whether trying again may help and whether it may have cost money.
Keys are read from the environment, held in memory, and taken out of every text that leaves here.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from zerorouter.errors import ConfigError, InputError, ZeroRouterError

if TYPE_CHECKING:
    import aiohttp

LONGEST_REPLY: Final = 2_000_000  # characters of one reply; what is longer is broken
LONGEST_LINE: Final = 4_000_000  # bytes of one line of a stream
LONGEST_TOLD: Final = 300  # characters of an endpoint's error that are passed on


Blame: TypeAlias = Literal["wait", "again", "retry", "prompt", "endpoint"]


class CallError(ZeroRouterError):
    """A request that brought no answer.

    Attributes:
        blame: ``wait`` (told to come later), ``again`` (it was asked in another dialect),
            ``retry`` (may go better), ``prompt`` (this prompt never will) or ``endpoint`` (no
            prompt will).
        charged: Whether it may have cost money.
        retry_after_s: How long the endpoint wants to be left alone, where it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        blame: Blame,
        charged: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        self.blame = blame
        self.charged = charged
        self.retry_after_s = retry_after_s
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a model is asked.

    Attributes:
        base_url: Such as ``https://api.openai.com/v1``; without credentials.
        model: The model's name there.
        api_key_env: Environment variable that holds the key; None for no key.
    """

    base_url: str
    model: str
    api_key_env: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"base URL {_without_credentials(self.base_url)!r}; wanted one such as "
                "https://api.example.com/v1"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InputError(
                "the base URL carries credentials, a query or a fragment, which would be written "
                "down; name the environment variable of the key with --api-key-env instead"
            )

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def key(self) -> str | None:
        """The key itself.

        Raises:
            ConfigError: the variable is not set.
        """
        if self.api_key_env is None:
            return None
        value = os.environ.get(self.api_key_env, "").strip()
        if not value:
            raise ConfigError(
                f"the environment variable {self.api_key_env} is not set; put the key of "
                f"{urlsplit(self.base_url).hostname} there"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        text: The visible answer.
        finish: The endpoint's word for why it ended.
        input_tokens: As billed; None where not told.
        output_tokens: As billed, hidden reasoning included; None where not told.
        ttft_s: Seconds to the first content; None where the endpoint did not stream.
        end_to_end_s: Seconds to the last byte.
    """

    text: str
    finish: str
    input_tokens: float | None
    output_tokens: float | None
    ttft_s: float | None
    end_to_end_s: float


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """Which optional fields requests carry.

    Attributes:
        limit: Field for the most output tokens.
        usage: Whether streams are asked for their usage.
    """

    limit: str = "max_tokens"
    usage: bool = True


class Dialects:
    """The dialect of an endpoint, found by asking: a refused field is renamed or left out, once."""

    def __init__(self, endpoint: Endpoint) -> None:
        vendor = urlsplit(endpoint.base_url).hostname == "api.openai.com"
        self.current = Dialect(limit="max_completion_tokens" if vendor else "max_tokens")
        self._refused: set[Dialect] = set()

    def adapt(self, used: Dialect, told: str) -> bool:
        """Whether to ask again after a request in ``used`` was refused with ``told``."""
        if used != self.current:
            return True  # another request has found out meanwhile
        self._refused.add(used)
        other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
        candidates = []
        if "stream_options" in told and used.usage:
            candidates.append(replace(used, usage=False))
        if "max_tokens" in told or "max_completion_tokens" in told:
            candidates.append(replace(used, limit=other[used.limit]))
        for candidate in candidates:
            if candidate not in self._refused:
                self.current = candidate
                return True
        return False


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Sends requests to one endpoint over one session.

    Attributes:
        session: Open client session.
        endpoint: Where to.
        key: Its key, or None.
        max_tokens: Most output tokens of an answer.
        timeout_s: Longest time of one request.
        extra: Further fields of each request.
        dialects: What the endpoint takes.
    """

    session: aiohttp.ClientSession
    endpoint: Endpoint
    key: str | None = field(repr=False)
    max_tokens: int
    timeout_s: float
    extra: Mapping[str, Any]
    dialects: Dialects

    async def ask(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        """Ask once.

        Raises:
            CallError: there is no whole answer.
        """
        import aiohttp

        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._ask(messages)
        except TimeoutError as error:
            raise CallError(
                f"no whole answer within {self.timeout_s:g} s", blame="retry", charged=True
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise CallError(self._clean(f"no connection: {error}"), blame="retry") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            told = self._clean(str(error)) or type(error).__name__
            raise CallError(f"the connection broke: {told}", blame="retry", charged=True) from error

    async def _ask(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        dialect = self.dialects.current
        headers = {"Accept": "text/event-stream, application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        body: dict[str, Any] = {
            **self.extra,
            "model": self.endpoint.model,
            "messages": list(messages),
            dialect.limit: self.max_tokens,
            "stream": True,
        }
        if dialect.usage:
            body["stream_options"] = {"include_usage": True}
        start = time.perf_counter()
        async with self.session.post(
            self.endpoint.url, json=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise await self._refusal(response, dialect)
            if "event-stream" in response.headers.get("Content-Type", ""):
                return await self._stream(response, start)
            return await self._whole(response, start)

    async def _stream(self, response: aiohttp.ClientResponse, start: float) -> Reply:
        parts: list[str] = []
        size, finish, ended = 0, "", False
        first: float | None = None
        usage: Mapping[str, Any] = {}
        async for data in _events(response):
            if data == "[DONE]":
                ended = True
                break
            event = self._json(data)
            if event.get("error"):
                raise CallError(
                    f"the stream broke off: {self._told(event)}", blame="retry", charged=True
                )
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                    continue
                delta = choice.get("delta") or {}
                finish = choice.get("finish_reason") or finish
                shown = _text(delta.get("content")) or _text(delta.get("refusal"))
                thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
                if (shown or thought) and first is None:
                    first = time.perf_counter()
                size += len(shown)
                if size > LONGEST_REPLY:
                    raise CallError("the reply does not end", blame="prompt", charged=True)
                parts.append(shown)
        if not (ended or finish):
            raise CallError("the stream was cut before its end", blame="retry", charged=True)
        done = time.perf_counter()
        return Reply(
            text="".join(parts),
            finish=str(finish or "stop"),
            input_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
            ttft_s=None if first is None else first - start,
            end_to_end_s=done - start,
        )

    async def _whole(self, response: aiohttp.ClientResponse, start: float) -> Reply:
        raw = await response.content.read(LONGEST_REPLY * 4)
        while chunk := await response.content.read(LONGEST_REPLY * 4):
            raw += chunk
            if len(raw) > LONGEST_REPLY * 4:
                raise CallError("the reply does not end", blame="prompt", charged=True)
        answer = self._json(raw.decode("utf-8", "replace"))
        if answer.get("error"):
            raise CallError(f"an error came: {self._told(answer)}", blame="retry", charged=True)
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise CallError("an answer without choices came", blame="retry", charged=True)
        message = choices[0].get("message") or {}
        usage = answer.get("usage") or {}
        return Reply(
            text=_text(message.get("content")) or _text(message.get("refusal")),
            finish=str(choices[0].get("finish_reason") or "stop"),
            input_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
            ttft_s=None,
            end_to_end_s=time.perf_counter() - start,
        )

    async def _refusal(self, response: aiohttp.ClientResponse, dialect: Dialect) -> CallError:
        raw = await response.content.read(65_536)
        status, text = response.status, raw.decode("utf-8", "replace")
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = {}
        told = self._told(parsed if isinstance(parsed, dict) else {}) or self._clean(text)
        message = f"HTTP {status}: {told or response.reason or 'no reason given'}"
        after = retry_after(response.headers.get("Retry-After"))
        if status == 429:
            if "insufficient_quota" in text or "credit" in text.lower():
                return CallError(message, blame="endpoint")
            return CallError(message, blame="wait", retry_after_s=after)
        if status in (503, 529):
            return CallError(message, blame="wait", retry_after_s=after)
        if status in (408, 409, 425) or status >= 500:
            return CallError(message, blame="retry", retry_after_s=after)
        if status in (400, 422) and self.dialects.adapt(dialect, text):
            return CallError(message, blame="again")
        if status in (400, 413, 422):
            return CallError(message, blame="prompt")
        if 300 <= status < 400:
            message = f"HTTP {status}: redirects are not followed; correct the base URL"
        return CallError(message, blame="endpoint")

    def _json(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CallError(
                f"bytes that are no JSON came: {self._clean(text[:80])!r}",
                blame="retry",
                charged=True,
            ) from error
        if not isinstance(value, dict):
            raise CallError(
                f"a JSON {type(value).__name__} came, no answer", blame="retry", charged=True
            )
        return value

    def _told(self, body: Mapping[str, Any]) -> str:
        """An endpoint's own words for an error."""
        error = body.get("error", body.get("detail", body.get("message", "")))
        if isinstance(error, dict):
            error = error.get("message") or json.dumps(error)
        return self._clean(error if isinstance(error, str) else json.dumps(error))

    def _clean(self, text: str) -> str:
        """Bounded, on one line, and without the key."""
        if self.key:
            text = text.replace(self.key, "***")
            if len(self.key) > 12:  # some endpoints echo its ends
                text = text.replace(self.key[:8], "***").replace(self.key[-8:], "***")
        return " ".join(text.split())[:LONGEST_TOLD]


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The data of server-sent events. A field may run over several lines; they are joined."""
    pending = b""
    data: list[str] = []
    async for chunk in response.content.iter_any():
        pending += chunk
        *lines, pending = pending.split(b"\n")
        if len(pending) > LONGEST_LINE:
            raise CallError("a line of the stream does not end", blame="retry", charged=True)
        for raw in lines:
            line = raw.rstrip(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].strip().decode("utf-8", "replace"))
            elif not line and data:
                yield "\n".join(data)
                data = []
            elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                told = line[:80].decode("utf-8", "replace")
                raise CallError(f"no event stream: {told!r}", blame="retry", charged=True)
    if data:
        yield "\n".join(data)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a ``Retry-After`` header, in either of its forms; None where there is none.

    >>> retry_after("1.5")
    1.5
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return max(seconds, 0.0) if seconds == seconds and seconds != float("inf") else None


def _text(content: Any) -> str:
    """Visible text of a content field, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def _count(usage: Any, key: str) -> float | None:
    value = usage.get(key) if isinstance(usage, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return float(value)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
