"""Tests marked ``data`` read the evaluation records that ``ZEROROUTER_DATA`` points at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test sees the profiles or other state of whoever runs it.
os.environ["ZEROROUTER_HOME"] = "/nonexistent"

# The same examples on every run, and no clock: machines are shared.
settings.register_profile("zerorouter", derandomize=True, deadline=None)
settings.load_profile("zerorouter")


@pytest.fixture(scope="session")
def records_dir() -> Path:
    """The folder that holds one folder of records per data set."""
    return Path(os.environ["ZEROROUTER_DATA"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests on the records where those are absent, or end the session where they must be."""
    reason = _absence()
    if reason is None:
        return
    if os.environ.get("ZEROROUTER_REQUIRE_DATA") == "1":
        pytest.exit(f"ZEROROUTER_REQUIRE_DATA=1, but {reason}", returncode=1)
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=reason))


def _absence() -> str | None:
    folder = os.environ.get("ZEROROUTER_DATA")
    if not folder:
        return "ZEROROUTER_DATA is not set"
    if not (Path(folder) / "mmlu-pro").is_dir():
        return f"ZEROROUTER_DATA={folder} has no folder mmlu-pro"
    return None
