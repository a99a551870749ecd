"""What both wire formats share, and what a wire format is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zerorouter.sandbox.plan import Ask, Plan

Dumps = Callable[[Any], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What makes an answer this one.

    Attributes:
        key: Unique over the server's life; goes into ids.
        answer: Names the answer's content: the same in every run.
        created: Unix seconds.
    """

    key: str
    answer: str
    created: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What an error says.

    Attributes:
        status: The HTTP status; in the middle of a stream the one it would have had.
        message: For people.
        request_id: The id of the request.
        code: OpenAI's word for it, None for the status's own.
        param: The field that is wrong, or None.
    """

    status: int
    message: str
    request_id: str
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """One event of a stream.

    Attributes:
        event: Its name, None in OpenAI's streams.
        data: Its JSON; None for the mark that ends a stream.
        place: When it comes: 0 with the first token, 1 with the last.
        content: Whether it carries a part of the answer.
    """

    event: str | None
    data: Any
    place: float
    content: bool = False


class Wire(Protocol):
    """An API's format: the modules `openai_wire`, `responses_wire` and `anthropic_wire`."""

    NAME: str

    def read(self, body: Any, sample: int | None = None) -> Ask:
        """The request."""

    def message(self, plan: Plan, ask: Ask, identity: Identity) -> dict[str, Any]:
        """The whole answer."""

    def chunks(
        self, plan: Plan, ask: Ask, identity: Identity, chunk_tokens: int = 1
    ) -> Iterator[Chunk]:
        """The answer as a stream."""

    def encode(self, chunk: Chunk, dumps: Dumps) -> bytes:
        """A chunk in bytes."""

    def error(self, failure: Failure) -> dict[str, Any]:
        """The error envelope."""

    def stream_error(self, failure: Failure) -> Chunk:
        """An error in the middle of a stream."""


def grouped(pieces: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """``pieces`` in groups of ``size``."""
    for start in range(0, len(pieces), size):
        yield pieces[start : start + size]
