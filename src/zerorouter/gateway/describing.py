"""``GET /openapi.json``: the published description of the HTTP interface.

It stands in ``openapi.yaml`` beside this module, written by hand; tests hold the gateway to it.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Any, Final

from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.side import Asked, Reply
from zerorouter.gateway.wire.codec import dumps

FILE: Final = Path(__file__).with_name("openapi.yaml")


@cache
def description() -> dict[str, Any]:
    """The OpenAPI 3.1 description."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    told: dict[str, Any] = yaml.load(FILE.read_text(encoding="utf-8"), Loader=loader)
    return told


@cache
def _in_bytes() -> bytes:
    return dumps(description())


async def describe(gateway: Gateway, asked: Asked) -> Reply:
    """``GET /openapi.json``; read in a thread the first time, for YAML takes a while."""
    del gateway, asked
    return Reply(value=await asyncio.get_running_loop().run_in_executor(None, _in_bytes))
