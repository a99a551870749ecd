"""What goes wrong in words of HTTP: our own errors as answers in the client's envelope."""

from __future__ import annotations

import math
from dataclasses import replace

from zerorouter.errors import (
    BooksError,
    BudgetError,
    KeyRefusedError,
    ModelForbiddenError,
    RateLimitError,
    StorageFullError,
)
from zerorouter.gateway.asgi import JSON, Headers, Send, send_whole
from zerorouter.gateway.wire.apis import Api
from zerorouter.gateway.wire.envelopes import Failure, error_body, failure_of


class Refusal(Exception):  # noqa: N818  # an answer, raised
    """An answer that is an error.

    Attributes:
        failure: What it says.
        retry_after_s: When it is worth another try; None where it is not said.
        headers: Further headers.
    """

    def __init__(
        self, failure: Failure, retry_after_s: float | None = None, headers: Headers | None = None
    ) -> None:
        self.failure = failure
        self.retry_after_s = retry_after_s
        self.headers: Headers = [] if headers is None else headers
        super().__init__(failure.message)

    @classmethod
    def of(
        cls,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        headers: Headers | None = None,
    ) -> Refusal:
        """A refusal in words."""
        failure = Failure(status=status, message=message, code=code, param=param)
        return cls(failure, retry_after_s, headers)


def refusal_of(error: Exception) -> Refusal:
    """How an error of ours is answered."""
    if isinstance(error, Refusal):
        return error
    wait: float | None = getattr(error, "retry_after_s", None)
    if isinstance(error, KeyRefusedError):
        return Refusal.of(401, str(error), code="invalid_api_key")
    if isinstance(error, ModelForbiddenError):
        return Refusal.of(403, str(error), code="model_not_allowed", param="model")
    if isinstance(error, RateLimitError):
        return Refusal.of(429, str(error), code="rate_limit_exceeded", retry_after_s=wait)
    if isinstance(error, BudgetError):
        return Refusal.of(429, str(error), code="insufficient_quota", retry_after_s=wait)
    if isinstance(error, StorageFullError):
        return Refusal.of(503, str(error), code="storage_full", retry_after_s=5)
    if isinstance(error, BooksError):
        return Refusal.of(503, "the books cannot be kept", code="books_unavailable")
    return Refusal(failure_of(error))


async def send_failure(
    send: Send,
    api: Api,
    failure: Failure,
    *,
    request_id: str,
    headers: Headers,
    retry_after_s: float | None = None,
) -> None:
    """Answer with an error in the envelope of ``api``."""
    told = replace(failure, request_id=request_id)
    extra = headers
    if retry_after_s is not None:
        extra = [*headers, (b"retry-after", b"%d" % max(math.ceil(retry_after_s), 1))]
    await send_whole(send, failure.status, [JSON, *extra], error_body(api, told))
