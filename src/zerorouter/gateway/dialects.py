"""From the client's API to the upstream's and back, where they differ; untouched where not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from zerorouter.gateway.upstreams import Endpoint
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import dumps
from zerorouter.gateway.wire.peek import WireRequest, with_model

if TYPE_CHECKING:
    from zerorouter.gateway.beginnings import Begun
    from zerorouter.gateway.wire.translate_stream import StreamTranslator

_OPENAI: Final = "https://api.openai.com/"
_OPENROUTER: Final = "https://openrouter.ai/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A request in an upstream's words.

    Attributes:
        body: What is sent.
        notes: What could not be said there and was left out.
        has_extra_usage: Whether the stream will end with a usage chunk that the client did not
            ask for.
    """

    body: bytes
    notes: tuple[str, ...] = ()
    has_extra_usage: bool = False


def spoken_api(api: Api, endpoint: Endpoint) -> Api | None:
    """The API in which an endpoint is asked on behalf of ``api``; None where it cannot be."""
    urls = endpoint.upstream.urls
    if api in urls:
        return api
    if api is Api.MESSAGES and Api.CHAT in urls:
        return Api.CHAT
    if api is Api.CHAT and Api.MESSAGES in urls:
        return Api.MESSAGES
    return None


def outgoing(
    request: WireRequest, spoken: Api, endpoint: Endpoint, *, wants_usage: bool
) -> Outgoing:
    """The request for an upstream.

    Args:
        request: The client's.
        spoken: The upstream's API.
        endpoint: The upstream.
        wants_usage: Whether a stream's usage must be known, for a budget hangs on it.

    Raises:
        WireError: The request breaks its own API's format.
        UntranslatableError: The upstream's API cannot say it.
    """
    if spoken is request.api:
        extra = (
            wants_usage and request.api is Api.CHAT and request.stream and not request.include_usage
        )
        if not extra and request.model == endpoint.served_as and "zerorouter" not in request.body:
            return Outgoing(body=request.raw)
        body = with_model(request, endpoint.served_as, include_usage=extra)
        return Outgoing(body=body, has_extra_usage=extra)
    told = {key: value for key, value in request.body.items() if key != "zerorouter"}
    if spoken is Api.CHAT:
        from zerorouter.gateway.wire.translate_request import messages_to_chat

        made = messages_to_chat(told, model=endpoint.served_as, dialect=_chat_dialect(endpoint))
    else:
        from zerorouter.gateway.wire.translate_chat_request import chat_to_messages

        made = chat_to_messages(told, model=endpoint.served_as)
    return Outgoing(body=dumps(made.body), notes=made.notes)


def answer_body(begun: Begun, request: WireRequest) -> bytes:
    """The client's answer out of the upstream's.

    Raises:
        WireError: The upstream's answer breaks its format.
    """
    if begun.spoken is request.api:
        return begun.first
    from zerorouter.gateway.wire.translate_response import (
        chat_answer_to_message,
        message_to_chat_answer,
    )

    answer = begun.parsed or {}
    if begun.spoken is Api.CHAT:
        made = chat_answer_to_message(
            answer, stop_sequences=_stops(request.body), thinking=_shows_thinking(request.body)
        )
    else:
        made = message_to_chat_answer(answer, created=int(time.time()))
    return dumps(made.body)


def stream_translator(request: WireRequest, spoken: Api) -> StreamTranslator | None:
    """What turns the upstream's stream into the client's; None where they are the same."""
    if spoken is request.api:
        return None
    from zerorouter.gateway.wire.translate_stream import (
        ChatToMessagesStream,
        MessagesToChatStream,
    )

    if spoken is Api.CHAT:
        from zerorouter.gateway.wire.count_tokens import count_tokens

        return ChatToMessagesStream(
            input_tokens=count_tokens(request.body),
            stop_sequences=_stops(request.body),
            thinking=_shows_thinking(request.body),
        )
    return MessagesToChatStream(created=int(time.time()), include_usage=request.include_usage)


def _chat_dialect(endpoint: Endpoint) -> Any:
    from zerorouter.gateway.wire.translate_request import ChatDialect

    base = endpoint.upstream.settings.base_url
    is_openai = base.startswith(_OPENAI)
    return ChatDialect(
        max_tokens_field="max_completion_tokens" if is_openai else "max_tokens",
        reasoning_effort=is_openai and endpoint.served_as.startswith(("o1", "o3", "o4", "gpt-5")),
        cache_control=base.startswith(_OPENROUTER),
        longest_tool_name=64 if is_openai else None,
    )


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    found = body.get("stop_sequences")
    return tuple(s for s in found if isinstance(s, str)) if isinstance(found, list) else ()


def _shows_thinking(body: Mapping[str, Any]) -> bool:
    found = body.get("thinking")
    return isinstance(found, dict) and found.get("type") in ("enabled", "adaptive")
