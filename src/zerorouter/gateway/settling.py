"""Telling the collector of cycles what is here to stay."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Final

LOADED_S: Final = 3.0
"""After the start; by then all is loaded that stays, the ledger's database included."""


def settle() -> None:
    """Let the collector skip all there is; called when a configuration has come into force.

    A space and its pool are some hundred thousand objects, which every full collection would walk
    through again. What the last configuration left behind is given up first. Only a process of
    the gateway's own is treated so: frozen cycles are never freed, and where the gateway runs in a
    thread they may be anybody's.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def settle_at_start(loop: asyncio.AbstractEventLoop) -> None:
    """Let the collector skip what a start has made; it looks through that once, a little later.

    That takes 0.04 s, for which the first requests do not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    gc.freeze()
    loop.call_later(LOADED_S, settle)
