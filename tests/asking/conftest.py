"""One folder of toy records and one server over it for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asking.toy import make_sandbox, write_toy
from zerorouter.sandbox import RunningSandbox, serve_in_thread


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture(scope="session")
def _server(toy_folder: Path) -> Iterator[RunningSandbox]:
    with serve_in_thread(sandbox=make_sandbox(toy_folder)) as server:
        yield server


@pytest.fixture
def server(_server: RunningSandbox) -> RunningSandbox:
    """The server, without faults and with its counts at zero."""
    _server.set_faults([])
    _server.forget_calls()
    return _server
