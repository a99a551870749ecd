"""A data folder and a running sandbox for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.records import make_sandbox, write_folder
from zerorouter.sandbox import RunningSandbox, serve_in_thread


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "ours")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[RunningSandbox]:
    """One server for the tests of a module; those that count calls begin the counts anew."""
    with serve_in_thread(sandbox=make_sandbox(folder, answer_tokens=40)) as server:
        yield server
