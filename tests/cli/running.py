"""Runs the command in this process, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from zerorouter.cli.main import command

_AWAY = {"ZEROROUTER_HOME": "/nonexistent", "ZEROROUTER_CONFIG": "", "ZEROROUTER_SPACE": ""}


def run(*args: str | Path, stdin: str | bytes | None = None, **env: str) -> Result:
    """In this process; whatever is no `SystemExit` is raised, so a traceback fails the test."""
    return CliRunner(catch_exceptions=False).invoke(
        command, [str(a) for a in args], input=stdin, env={**_AWAY, **env}, prog_name="zerorouter"
    )


def spawn(
    *args: str | bytes, stdin: bytes = b"", stdout: int = subprocess.PIPE, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """In a process of its own, as a shell would."""
    return subprocess.run(
        [sys.executable, "-m", "zerorouter", *args],
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, **_AWAY, **env},
        timeout=120,
    )
