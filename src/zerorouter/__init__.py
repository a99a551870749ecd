"""ZeroRouter sends every prompt to the right LLM.

    from zerorouter import Router

    decision = Router.load().route("What is 17 * 23?", policy="cost")

Names are imported on first use: importing the package loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from zerorouter._version import __version__

if TYPE_CHECKING:
    from zerorouter.asking.job import onboard as onboard
    from zerorouter.calibrating import calibrate as calibrate
    from zerorouter.catalog import Catalog as Catalog
    from zerorouter.catalog import ModelSpec as ModelSpec
    from zerorouter.data.responses import ResponseMatrix as ResponseMatrix
    from zerorouter.errors import ZeroRouterError as ZeroRouterError
    from zerorouter.irt.anchors import select_anchors as select_anchors
    from zerorouter.router import Router as Router
    from zerorouter.routing.decision import Decision as Decision
    from zerorouter.routing.policy import Policy as Policy
    from zerorouter.space import LatentSpace as LatentSpace

_HOMES = {
    "Catalog": "zerorouter.catalog",
    "Decision": "zerorouter.routing.decision",
    "LatentSpace": "zerorouter.space",
    "ModelSpec": "zerorouter.catalog",
    "Policy": "zerorouter.routing.policy",
    "ResponseMatrix": "zerorouter.data.responses",
    "Router": "zerorouter.router",
    "ZeroRouterError": "zerorouter.errors",
    "calibrate": "zerorouter.calibrating",
    "onboard": "zerorouter.asking.job",
    "select_anchors": "zerorouter.irt.anchors",
}

__all__ = [
    "Catalog",
    "Decision",
    "LatentSpace",
    "ModelSpec",
    "Policy",
    "ResponseMatrix",
    "Router",
    "ZeroRouterError",
    "__version__",
    "calibrate",
    "onboard",
    "select_anchors",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'zerorouter' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
