"""Where ZeroRouter keeps what it writes: one folder, and nothing elsewhere unasked."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def home_dir() -> Path:
    """The state folder: ``ZEROROUTER_HOME``, else the platform's user data folder.

    Linux: ``$XDG_DATA_HOME/zerorouter`` or ``~/.local/share/zerorouter``; macOS:
    ``~/Library/Application Support/zerorouter``; Windows: ``%LOCALAPPDATA%\\zerorouter``.
    The folder need not exist; whoever writes to it makes it.
    """
    chosen = os.environ.get("ZEROROUTER_HOME")
    if chosen:
        return Path(chosen).expanduser()
    return _user_data_dir(sys.platform) / "zerorouter"


def _user_data_dir(platform: str) -> Path:
    if platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    xdg = os.environ.get("XDG_DATA_HOME")
    # The XDG specification says that a relative path here is to be ignored.
    return Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".local" / "share"
