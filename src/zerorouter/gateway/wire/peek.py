"""What routing needs of a request, read in one parse; and the request with another ``model``.

Only the fields that the gateway itself acts on are checked. All others are the upstream's
business and reach it as the client wrote them, byte for byte (see `members`).

Where a name stands twice in the object, parsers differ in which they take. The last is read here
and the last alone is sent on, so that what was checked is what the upstream sees.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zerorouter.errors import WireError
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import dumps, loads
from zerorouter.gateway.wire.members import members
from zerorouter.gateway.wire.wishes import NO_WISHES, RequestWishes, read_wishes

_LARGEST_WHOLE: Final = 2**31 - 1
_LONGEST_NAME: Final = 512
# As Claude Code writes metadata.user_id; newer versions write a JSON object with session_id.
_SESSION_IN_USER: Final = re.compile(r"_session_([0-9A-Za-z-]{8,64})$")
_MODEL: Final = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')
_MEDIA_WORDS: Final = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "file": "document",
    "input_file": "document",
    "document": "document",
}


@dataclass(kw_only=True, slots=True)  # not frozen: made for each request (docs/decisions/0010)
class WireRequest:
    """A request as the gateway looks at it. Made by `peek`; nothing in it may be changed.

    Attributes:
        api: The API that it came by.
        raw: The body as it came.
        body: The parsed body.
        model: The model asked for, concrete or virtual.
        stream: Whether the answer is to be streamed.
        include_usage: Whether an OpenAI stream is to end with a usage chunk. Anthropic's and
            responses' streams always tell.
        messages: The conversation as ``Router.route`` takes it, system text first; empty for
            embeddings.
        tools: Tool declarations, or None.
        response_format: What ``Router.route`` takes as such, or None.
        max_tokens: The limit on output tokens, or None.
        n: Answers asked for.
        user: The end user's id, or None.
        session_id: The conversation's id where the body tells one, or None.
        output_modalities: What the answer is made of where the body tells, such as
            ``("text", "audio")``; else empty.
        wishes: The ``zerorouter`` object.
    """

    api: Api
    raw: bytes
    body: dict[str, Any]
    model: str
    stream: bool
    include_usage: bool
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Any] | None
    response_format: Any
    max_tokens: int | None
    n: int
    user: str | None
    session_id: str | None
    output_modalities: tuple[str, ...]
    wishes: RequestWishes

    @property
    def media(self) -> frozenset[str]:
        """Kinds of media in the conversation: ``image, audio, video, document``."""
        found: set[str] = set()
        for message in self.messages:
            content = message.get("content")
            if isinstance(content, list):
                _find_media(content, found)
        return frozenset(found)


def peek(raw: bytes, api: Api, *, counting: bool = False) -> WireRequest:
    """Read a request's body.

    Args:
        raw: The body.
        api: The API that it came by.
        counting: Whether it came to ``count_tokens``, where Anthropic wants no ``max_tokens``.

    Raises:
        WireError: The body is no JSON object, or a field that is needed is missing or of the
            wrong type; ``param`` names it.
    """
    body = _object(raw)
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= _LONGEST_NAME:
        raise _bad("model", model, "the name of a model")
    stream = _flag(body, "stream")
    session = include_usage = None
    output: tuple[str, ...] = ()
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise _bad("tools", tools, "a list of tools")
    messages: Sequence[Mapping[str, Any]]
    n = 1
    if api is Api.CHAT:
        messages = _messages(body)
        options = body.get("stream_options")
        if options is not None:
            if not isinstance(options, dict):
                raise _bad("stream_options", options, "an object")
            include_usage = _flag(options, "include_usage", "stream_options.")
        limit = _whole(body, "max_completion_tokens", 1)
        if limit is None:
            limit = _whole(body, "max_tokens", 1)
        n = _whole(body, "n", 1) or 1
        user = _text(body, "user") or _text(body, "safety_identifier")
        session = _text(body, "prompt_cache_key")
        wanted = body.get("response_format")
        modalities = body.get("modalities")
        if isinstance(modalities, list):
            output = tuple([word for word in modalities if isinstance(word, str)])
    elif api is Api.MESSAGES:
        messages = _messages(body)
        system = body.get("system")
        if system is not None:
            if not isinstance(system, str | list):
                raise _bad("system", system, "a text or a list of text blocks")
            messages = [{"role": "system", "content": system}, *messages]
        limit = _whole(body, "max_tokens", 0)
        if limit is None and not counting:
            raise _bad("max_tokens", None, "a whole number of tokens; the field is required")
        user = _user_of(body)
        session = _session_of(user)
        config = body.get("output_config")
        wanted = config.get("format") if isinstance(config, dict) else None
        if wanted is None:
            wanted = body.get("output_format")
    elif api is Api.RESPONSES:
        messages = _conversation(body)
        limit = _whole(body, "max_output_tokens", 1)
        user = _text(body, "user") or _text(body, "safety_identifier")
        session = _conversation_id(body.get("conversation")) or _text(body, "prompt_cache_key")
        text = body.get("text")
        wanted = text.get("format") if isinstance(text, dict) else None
    else:
        given = body.get("input")
        if not isinstance(given, str | list) or not given:
            raise _bad("input", given, "a text, or a list of texts or tokens")
        messages, limit, wanted, user = (), None, None, _text(body, "user")
    given = body.get("zerorouter")
    wishes = NO_WISHES if given is None else read_wishes(given)
    return WireRequest(
        api=api,
        raw=raw,
        body=body,
        model=model,
        stream=stream,
        include_usage=bool(include_usage),
        messages=messages,
        tools=tools,
        response_format=wanted,
        max_tokens=limit,
        n=n,
        user=user,
        session_id=wishes.session_id or session,
        output_modalities=output,
        wishes=wishes,
    )


def with_model(request: WireRequest, model: str, *, include_usage: bool = False) -> bytes:
    """The request's body for an upstream that calls the model ``model``.

    The ``zerorouter`` object is left out. All else stands as the client wrote it.

    Args:
        request: The request.
        model: The name the upstream knows.
        include_usage: Ask an OpenAI stream for its usage chunk also where the client did not
            (`scanning.UsageChunkFilter` then keeps it from the client).
    """
    replace: dict[str, Any] = {"model": model}
    if include_usage and request.api is Api.CHAT and request.stream and not request.include_usage:
        options = request.body.get("stream_options") or {}
        replace["stream_options"] = {**options, "include_usage": True}
    quick = _with_model_in_place(request, replace)
    return rewritten(request.raw, replace, drop=("zerorouter",)) if quick is None else quick


def _with_model_in_place(request: WireRequest, replace: Mapping[str, Any]) -> bytes | None:
    """`rewritten` for ordinary bodies, without walking over them; None where it might be wrong.

    A name of the object that stands in the bytes but once, where no escape could spell it
    differently, stands there as that name: neither in a string nor in a nested object.
    """
    raw, body = request.raw, request.body
    if "zerorouter" in body or b"\\u00" in raw:
        return None
    for name in body:
        if raw.count(b'"' + name.encode("utf-8", "replace") + b'"') != 1:
            return None
    place = _MODEL.search(raw)
    if place is None:
        return None
    end = len(raw)
    tail = b""
    if "stream_options" in replace:
        if "stream_options" in body:
            return None
        end = raw.rindex(b"}")
        tail = b',"stream_options":' + dumps(replace["stream_options"]) + b"}"
    return raw[: place.start(1)] + dumps(replace["model"]) + raw[place.end(1) : end] + tail


def rewritten(raw: bytes, replace: Mapping[str, Any], drop: Collection[str] = ()) -> bytes:
    """A JSON object with members replaced or left out; the others keep order and bytes.

    Args:
        raw: The object, as a parser has accepted it.
        replace: New values; names that the object does not have are added at its end.
        drop: Names to leave out.
    """
    found = {}
    for member in members(raw):
        found[member.name] = member  # the last of a name, in the place of the first
    parts = [
        raw[member.start : member.value] + dumps(replace[name])
        if name in replace
        else raw[member.start : member.end]
        for name, member in found.items()
        if name not in drop
    ]
    parts += [
        dumps(name) + b":" + dumps(value) for name, value in replace.items() if name not in found
    ]
    return b"{" + b",".join(parts) + b"}"


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = loads(raw)
    except UnicodeDecodeError as error:
        raise WireError(
            f"the body is not UTF-8 (byte {error.start}); wanted a JSON object in UTF-8",
            code="invalid_json",
        ) from None
    except ValueError as error:
        found = f"the body is no JSON: {error}" if raw.strip() else "the body is empty"
        raise WireError(f"{found}; wanted a JSON object", code="invalid_json") from None
    if not isinstance(body, dict):
        raise WireError(f"the body is {_kind(body)}; wanted a JSON object", code="invalid_json")
    return body


def _messages(body: Mapping[str, Any]) -> list[Any]:
    found = body.get("messages")
    if not isinstance(found, list) or not found:
        raise _bad("messages", found, "a list with at least one message")
    for i, message in enumerate(found):
        if not isinstance(message, dict):
            raise _bad(f"messages.{i}", message, "an object with role and content")
        if not isinstance(message.get("role"), str):
            raise _bad(f"messages.{i}.role", message.get("role"), "user, assistant or system")
    return found


def _conversation(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The input of a responses request as chat messages."""
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise _bad("input", given, "a text or a list of items")
    made: list[Mapping[str, Any]] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        made.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        made.append({"role": "user", "content": given})
        return made
    for i, item in enumerate(given):
        if not isinstance(item, dict):
            raise _bad(f"input.{i}", item, "an object")
        kind = item.get("type")
        if isinstance(item.get("role"), str):
            made.append(item)
        elif isinstance(kind, str) and kind.endswith("_output"):
            output = item.get("output")
            content = output if isinstance(output, str | list) else dumps(output).decode()
            made.append({"role": "tool", "content": content})
        elif isinstance(kind, str) and kind.endswith("_call"):
            made.append({"role": "assistant", "content": None, "tool_calls": [item]})
        else:
            made.append({"role": "assistant", "content": [item]})
    return made


def _conversation_id(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("id")
    return value if isinstance(value, str) and value else None


def _user_of(body: Mapping[str, Any]) -> str | None:
    metadata = body.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise _bad("metadata", metadata, "an object")
    return _text(metadata, "user_id", "metadata.")


def _session_of(user: str | None) -> str | None:
    if user is None:
        return None
    if user.startswith("{"):
        try:
            told = loads(user)
        except ValueError:
            return None
        session = told.get("session_id") if isinstance(told, dict) else None
        return session if isinstance(session, str) and session else None
    match = _SESSION_IN_USER.search(user)
    return match[1] if match else None


def _find_media(content: list[Any], found: set[str]) -> None:
    for part in content:
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        if isinstance(kind, str) and kind in _MEDIA_WORDS:
            found.add(_MEDIA_WORDS[kind])
        elif isinstance(part.get("content"), list):  # a tool's result
            _find_media(part["content"], found)


def _flag(body: Mapping[str, Any], name: str, prefix: str = "") -> bool:
    value = body.get(name)
    if value is None or value is False:
        return False
    if value is not True:
        raise _bad(prefix + name, value, "true or false")
    return True


def _whole(body: Mapping[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # JavaScript writes 1e3
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(name, value, "a whole number")
    if not least <= value <= _LARGEST_WHOLE:
        raise _bad(name, value, f"a whole number of at least {least}")
    return value


def _text(body: Mapping[str, Any], name: str, prefix: str = "") -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _bad(prefix + name, value, "a text")
    return value or None


def _bad(param: str, found: object, wanted: str) -> WireError:
    shown = "nothing" if found is None else repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return WireError(f"{param}: found {shown}; wanted {wanted}", param=param)


def _kind(value: Any) -> str:
    return "null" if value is None else f"a JSON {type(value).__name__}"
