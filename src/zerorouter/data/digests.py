"""The hash by which a space knows a calibrated item again, without keeping its text."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def question_digest(text: str, options: Sequence[str] = ()) -> bytes:
    """16 bytes that name a question with its options, however blank space and case fall.

    The first half of the SHA-256 of the text and each option, each folded by Unicode NFKC,
    case and runs of blank space, joined by a separator that no folded text contains.
    """
    folded = "\x1f".join(_folded(part) for part in (text, *options))
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).digest()[:16]


def digest_array(digests: Iterable[bytes]) -> NDArray[np.uint64]:
    """Digests as rows of two unsigned integers, (N, 2)."""
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
