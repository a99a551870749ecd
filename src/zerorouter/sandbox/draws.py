"""Chance that repeats: numbers drawn from a hash of what they are for.

A generator's state would make an answer depend on the requests before it; a hash of (seed, model,
prompt, sample) gives the same answer in any order and from any number of connections.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from statistics import NormalDist
from typing import Final

_EIGHT = struct.Struct("<8Q")
_NORMAL: Final = NormalDist()


def digest(*parts: object) -> bytes:
    """64 bytes that name ``parts``, each by its text."""
    key = "\x1f".join([str(part) for part in parts])
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=64).digest()


def uniforms(*parts: object) -> tuple[float, ...]:
    """Eight numbers between 0 and 1, both excluded, that depend on ``parts`` alone."""
    # 53 bits are what a float holds; half a step up keeps 0 out.
    return tuple([((word >> 11) + 0.5) * 2.0**-53 for word in _EIGHT.unpack(digest(*parts))])


def normal(uniform: float) -> float:
    """A standard normal number from a uniform one."""
    return _NORMAL.inv_cdf(uniform)
