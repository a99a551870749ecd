"""Telling the collector of cycles what is here to stay."""

from __future__ import annotations

import gc
import threading


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
