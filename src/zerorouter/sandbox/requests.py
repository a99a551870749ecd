"""What reading a request has in common for both APIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from zerorouter.errors import InputError, PromptError
from zerorouter.predict.prompt import Prompt, read_prompt

_TEXT_PARTS = ("text", "input_text")


class RequestError(InputError):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        code: OpenAI's word for it, or None.
        param: The field that is wrong, or None.
        retry_after_s: Seconds for ``Retry-After``, or None.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        super().__init__(message)

    @property
    def message(self) -> str:
        """What is told to the client."""
        return str(self.args[0])


def bad(param: str, found: object, wanted: str) -> RequestError:
    """A 400 for a field with a wrong value."""
    shown = repr(found)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return RequestError(400, f"{param}: found {shown}; wanted {wanted}", param=param)


def body_of(body: Any) -> Mapping[str, Any]:
    """The request as an object with a model."""
    if not isinstance(body, dict):
        raise RequestError(400, f"found a JSON {type(body).__name__}; wanted an object")
    if not isinstance(model := body.get("model"), str) or not model:
        raise bad("model", model, "the name of a model")
    return body


def whole(body: Mapping[str, Any], key: str, low: int, high: int) -> int | None:
    """A whole number of the request, None where it is absent or null."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise bad(key, value, f"a whole number from {low} to {high}")
    return value


def flag(body: Mapping[str, Any], key: str) -> bool:
    """A switch of the request, off where it is absent or null."""
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise bad(key, value, "true or false")
    return bool(value)


def texts(body: Mapping[str, Any], key: str, most: int) -> tuple[str, ...]:
    """A text or a list of texts of the request."""
    value = body.get(key)
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    if not is_list(listed) or len(listed) > most or not all(isinstance(t, str) for t in listed):
        raise bad(key, value, f"up to {most} texts")
    return tuple(listed)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether ``value`` is a JSON list."""
    return isinstance(value, list)


def read_messages(
    messages: Sequence[Any], tools: Any, response_format: Any = None
) -> tuple[Prompt, int]:
    """The request as routing reads it, and an estimate of its input tokens.

    Raises:
        RequestError: The messages are none.
    """
    try:
        prompt = read_prompt(
            messages, tools=tools if is_list(tools) else None, response_format=response_format
        )
    except PromptError as error:
        raise RequestError(400, str(error), param="messages") from error
    return prompt, max(round(prompt.input_tokens.mean), 1)


def last_user_text(messages: Sequence[Any]) -> str:
    """What the user said last, whole; tool results are not said by the user."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            if said := _joined(content):
                return said
    return ""


def _joined(content: Any) -> str:
    if not is_list(content):
        return ""
    return "\n".join(
        [
            part["text"]
            for part in content
            if isinstance(part, dict)
            and part.get("type") in _TEXT_PARTS
            and isinstance(part.get("text"), str)
        ]
    )
