"""The four APIs that the gateway speaks."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Api(StrEnum):
    """A wire format, by the name it has in metrics and the ledger."""

    CHAT = "chat"
    """OpenAI's ``POST /v1/chat/completions``."""
    MESSAGES = "messages"
    """Anthropic's ``POST /v1/messages``."""
    RESPONSES = "responses"
    """OpenAI's ``POST /v1/responses``."""
    EMBEDDINGS = "embeddings"
    """OpenAI's ``POST /v1/embeddings``."""


PATHS: Final = {
    Api.CHAT: "/v1/chat/completions",
    Api.MESSAGES: "/v1/messages",
    Api.RESPONSES: "/v1/responses",
    Api.EMBEDDINGS: "/v1/embeddings",
}
