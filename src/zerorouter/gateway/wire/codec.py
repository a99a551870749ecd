"""JSON in and out: orjson where it can, the standard library for what only that takes.

orjson refuses half surrogate pairs (``"\\ud800"``) and integers beyond 64 bits, both of which
clients send and upstreams accept; it reads such integers as floats. NaN and Infinity are no JSON
and are refused by both paths.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NoReturn


@cache
def _orjson() -> Any:
    """The package; a look-up here costs a tenth of the statement that would import it each time."""
    import orjson

    return orjson


def loads(data: bytes | bytearray | str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is no JSON, or is nested too deeply. `UnicodeDecodeError` is one of these.
    """
    orjson = _orjson()
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"\\u" not in data if not isinstance(data, str) else "\\u" not in data:
            raise
        try:
            return loads_exact(data)
        except ValueError:
            raise error from None


def loads_exact(data: bytes | bytearray | str) -> Any:
    """Parse JSON with integers of any length and half surrogate pairs; slower than `loads`.

    Raises:
        ValueError: It is no JSON, or is nested too deeply.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dumps(value: Any) -> bytes:
    """``value`` as compact JSON in UTF-8."""
    try:
        made: bytes = _orjson().dumps(value)
    except TypeError:  # half surrogate pairs, long integers
        made = json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    return made


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
