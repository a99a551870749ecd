"""Whether the gateway lives, and whether it is ready for traffic."""

from __future__ import annotations

from zerorouter._version import __version__
from zerorouter.gateway.serving import Gateway
from zerorouter.gateway.side import Asked, Reply


async def health(gateway: Gateway, asked: Asked) -> Reply:
    """``GET /health``: 200 as long as it answers at all."""
    del asked
    return Reply(value={"status": "stopping" if gateway.draining else "ok", "version": __version__})


async def ready(gateway: Gateway, asked: Asked) -> Reply:
    """``GET /ready``: 200 while it takes traffic and has an upstream to send it to."""
    del asked
    setup = gateway.setup
    upstreams = sorted(setup.fleet.upstreams)
    is_ready = bool(upstreams) and not gateway.draining
    why = "stopping" if gateway.draining else "no upstream is configured"
    return Reply(
        value={
            "status": "ready" if is_ready else why,
            "upstreams": upstreams,
            "models": len(setup.routed),
            "configuration": setup.version,
        },
        status=200 if is_ready else 503,
    )
