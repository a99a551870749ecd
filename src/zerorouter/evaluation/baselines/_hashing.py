"""Randomness that belongs to a prompt: the same alone, in a batch and in any order."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from zerorouter.evaluation.contracts import PromptSet


def prompt_hashes(prompts: PromptSet, salt: int) -> NDArray[np.uint64]:
    """(N,) 64-bit hashes of what was read of each prompt; equal prompts have equal hashes."""
    rows = (
        np.ascontiguousarray(prompts.features.embedding, dtype=np.float32),
        np.ascontiguousarray(prompts.features.structure, dtype=np.float32),
        np.ascontiguousarray(prompts.input_tokens, dtype=np.float64),
    )
    key = salt.to_bytes(8, "little")
    out = np.empty(len(prompts), dtype=np.uint64)
    for i, row in enumerate(zip(*rows, strict=True)):
        digest = hashlib.blake2b(key=key, digest_size=8)
        for values in row:
            digest.update(values.tobytes())
        out[i] = int.from_bytes(digest.digest(), "little")
    return out


def salt_of(rng: np.random.Generator) -> int:
    """A salt drawn from a generator."""
    return int(rng.integers(2**63))
