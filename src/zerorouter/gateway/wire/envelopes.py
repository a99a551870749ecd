"""Errors as each API writes them: made for clients, read from upstreams.

Statuses, types and codes are those of the APIs' own documents and official clients (read in
November 2026): https://platform.openai.com/docs/guides/error-codes and
https://docs.anthropic.com/en/api/errors. Both clients raise by status alone, so the status is what
must be right; types and codes are for programs that look closer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zerorouter.errors import (
    InfeasibleError,
    InputError,
    MissingPriceError,
    NoEligibleModelError,
    UnknownNameError,
    WireError,
)
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.codec import dumps, loads
from zerorouter.gateway.wire.sse import encode_event

MOST_ERROR_BYTES: Final = 64 * 1024
"""More of an upstream's error body is not read."""

_LONGEST_MESSAGE: Final = 2_000

# status -> (OpenAI's type, OpenAI's code, Anthropic's type)
_WORDS: Final[Mapping[int, tuple[str, str | None, str]]] = {
    400: ("invalid_request_error", None, "invalid_request_error"),
    401: ("authentication_error", "invalid_api_key", "authentication_error"),
    402: ("insufficient_quota", "insufficient_quota", "billing_error"),
    403: ("permission_error", "permission_denied", "permission_error"),
    404: ("invalid_request_error", "not_found", "not_found_error"),
    405: ("invalid_request_error", "method_not_allowed", "invalid_request_error"),
    408: ("timeout_error", "timeout", "timeout_error"),
    409: ("conflict_error", "conflict", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large", "request_too_large"),
    415: ("invalid_request_error", "unsupported_media_type", "invalid_request_error"),
    422: ("invalid_request_error", "unprocessable", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_exceeded", "rate_limit_error"),
    500: ("server_error", "server_error", "api_error"),
    502: ("server_error", "bad_gateway", "api_error"),
    503: ("server_error", "overloaded", "overloaded_error"),
    504: ("timeout_error", "timeout", "timeout_error"),
    529: ("server_error", "overloaded", "overloaded_error"),
}
# Words of any provider's error type or code -> the status that it stands for, for errors inside a
# stream, which has answered 200 long ago.
_STATUS_OF_WORD: Final = {
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "insufficient_quota": 429,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
    "overloaded": 503,
    "api_error": 500,
    "server_error": 500,
}
_CONTEXT_WORDS: Final = re.compile(
    r"context.{0,20}(length|window|limit)|prompt is too long|too many (input )?tokens"
    r"|maximum.{0,30}tokens|input.{0,20}(too long|exceed)",
    re.IGNORECASE,
)
_QUOTA_WORDS: Final = re.compile(r"quota|credit balance|billing|out of credits", re.IGNORECASE)
_FILTER_WORDS: Final = re.compile(r"content[_ ](filter|policy|management)", re.IGNORECASE)
# Keys that providers repeat in "incorrect API key" and the like; they are ours, not the client's.
_SECRETS: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key|AIza|Bearer|hf|r8|pplx|nvapi)[-_ ]?[A-Za-z0-9*_.\-]{12,}"
)
_BLANKS: Final = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What an error says.

    Attributes:
        status: The HTTP status; inside a stream the one it would have had.
        message: For people; one line, bounded, without keys.
        code: A word for programs, or None for the status's own.
        param: The field that is wrong, or None.
        request_id: The id of the request, or None.
        reason: Of an upstream's error, what it is about where that matters for the next attempt:
            ``context_length, quota, content_filter, model_not_found``; else None.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    reason: str | None = None


# -- written -------------------------------------------------------------------------------------


def error_object(api: Api, failure: Failure) -> dict[str, Any]:
    """The body of an error answer, in the envelope of ``api``."""
    kind, code, anthropic_kind = _words(failure.status)
    if api is Api.MESSAGES:
        made: dict[str, Any] = {
            "type": "error",
            "error": {"type": anthropic_kind, "message": failure.message},
        }
        if failure.request_id is not None:
            made["request_id"] = failure.request_id
        return made
    if failure.reason == "quota" or failure.code == "insufficient_quota":
        kind = code = "insufficient_quota"
    elif failure.reason == "context_length":
        code = "context_length_exceeded"
    return {
        "error": {
            "message": failure.message,
            "type": kind,
            "param": failure.param,
            "code": failure.code or code,
        }
    }


def error_body(api: Api, failure: Failure) -> bytes:
    """`error_object` in bytes."""
    return dumps(error_object(api, failure))


def error_event(api: Api, failure: Failure, *, sequence_number: int = 0) -> bytes:
    """An error in the middle of a stream: the last bytes before it is closed.

    Args:
        api: The stream's API.
        failure: What has happened.
        sequence_number: Of the event, in streams of ``/v1/responses``.
    """
    made = error_object(api, failure)
    if api is Api.MESSAGES:
        return encode_event(dumps(made), "error")
    if api is Api.RESPONSES:
        told = made["error"]
        event = {
            "type": "error",
            "code": told["code"],
            "message": told["message"],
            "param": told["param"],
            "sequence_number": sequence_number,
        }
        return encode_event(dumps(event), "error")
    return encode_event(dumps(made))


def failure_of(error: Exception, *, request_id: str | None = None) -> Failure:
    """What an error of our own says to a client; of a foreign one, nothing but that it happened."""
    status, code, param = 500, None, None
    if isinstance(error, WireError):
        status, code, param = 400, error.code, error.param
    elif isinstance(error, UnknownNameError):
        is_model = error.kind == "model"
        status = 404 if is_model else 400
        code = "model_not_found" if is_model else f"unknown_{error.kind}".replace(" ", "_")
        param = "model" if is_model else error.kind
    elif isinstance(error, NoEligibleModelError):
        status, code = 400, "no_eligible_model"
    elif isinstance(error, InfeasibleError):
        status, code, param = 400, "infeasible", error.bound
    elif isinstance(error, MissingPriceError):
        status, code = 400, "missing_price"
    elif isinstance(error, InputError):
        status = 400
    message = str(error) if status != 500 else "the gateway failed; the request id tells which log"
    return Failure(
        status=status, message=_clean(message), code=code, param=param, request_id=request_id
    )


def _words(status: int) -> tuple[str, str | None, str]:
    found = _WORDS.get(status)
    return found if found is not None else _WORDS[400 if status < 500 else 500]


# -- read ----------------------------------------------------------------------------------------


def read_error(status: int, body: bytes) -> Failure:
    """What an upstream's error answer says, in whatever envelope.

    Read are OpenAI's, Anthropic's, a bare ``message`` or ``detail`` (FastAPI's), lists of these
    (Gemini's), and texts; of a page in HTML only that it is one.

    Args:
        status: The HTTP status of the answer.
        body: Its body; only the first `MOST_ERROR_BYTES` are looked at.
    """
    try:
        told = loads(body[:MOST_ERROR_BYTES])
    except ValueError:
        text = body[:MOST_ERROR_BYTES].decode("utf-8", "replace").strip()
        if not text:
            message = f"the upstream answered {status} without a word"
        elif text.startswith("<"):
            message = f"the upstream answered {status} with a page in HTML"
        else:
            message = text
        return _failure(status, message, None, None, None, None)
    return failure_in(told, status=status)


def failure_in(told: Any, *, status: int | None = None) -> Failure:
    """What a parsed error body or error event says.

    Args:
        told: The JSON.
        status: The HTTP status; None inside a stream, where the error's own words tell it.
    """
    if isinstance(told, list) and told:
        told = told[0]
    envelope = told if isinstance(told, Mapping) else {}
    inner = envelope.get("error", envelope)
    if isinstance(inner, str):
        inner = {**envelope, "message": envelope.get("message") or inner}
    if not isinstance(inner, Mapping):
        inner = envelope
    kind, code = _word(inner.get("type")), _word(inner.get("code"))
    message = inner.get("message") or inner.get("detail") or envelope.get("message")
    if message is None and isinstance(told, str):
        message = told
    if status is None:
        status = _status_told(inner, kind, code)
    if not isinstance(message, str):
        known = kind or code
        message = dumps(message).decode() if message else None
        message = message or f"the upstream answered {status}" + (f": {known}" if known else "")
    request_id = envelope.get("request_id")
    return _failure(
        status,
        message,
        kind,
        code,
        _word(inner.get("param")),
        request_id if isinstance(request_id, str) else None,
    )


def _status_told(inner: Mapping[str, Any], kind: str | None, code: str | None) -> int:
    for value in (inner.get("code"), inner.get("status"), inner.get("status_code")):
        if isinstance(value, int) and 400 <= value < 600:
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit():
            number = int(value[:4])
            if 400 <= number < 600:
                return number
    for word in (code, kind):
        if word in _STATUS_OF_WORD:
            return _STATUS_OF_WORD[word]
    return 502


def _failure(
    status: int,
    message: str,
    kind: str | None,
    code: str | None,
    param: str | None,
    request_id: str | None,
) -> Failure:
    return Failure(
        status=status,
        message=_clean(message),
        code=code if code is not None and not code.isdigit() else None,
        param=param,
        request_id=request_id,
        reason=_reason(status, message, kind, code),
    )


def _reason(status: int, message: str, kind: str | None, code: str | None) -> str | None:
    words = f"{kind or ''} {code or ''}"
    if "context_length" in words or (status in (400, 413) and _CONTEXT_WORDS.search(message)):
        return "context_length"
    if "insufficient_quota" in words or "billing" in words or status == 402:
        return "quota"
    if status in (400, 403, 429) and _QUOTA_WORDS.search(message):
        return "quota"
    if _FILTER_WORDS.search(words) or (status == 400 and _FILTER_WORDS.search(message)):
        return "content_filter"
    if "model_not_found" in words or (status == 404 and "model" in message.lower()):
        return "model_not_found"
    return None


def _word(value: Any) -> str | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str | int):
        return str(value)[:200] or None
    return None


def _clean(message: str) -> str:
    """One bounded line that repeats no key."""
    line = _BLANKS.sub(" ", message[: 4 * _LONGEST_MESSAGE]).strip()
    line = _SECRETS.sub("[key]", line).encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 3]}..."
