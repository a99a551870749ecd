from __future__ import annotations

from pathlib import Path

import pytest

from zerorouter.cli.sandbox import command
from zerorouter.sandbox import FAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_documented(fault: str):
    assert f"| `{fault}` |" in PAGE


@pytest.mark.parametrize("header", ["answer", "correct", "p-correct", "prompt", "fault", "sample"])
def test_every_header_is_documented(header: str):
    assert f"`x-sandbox-{header}`" in PAGE


def test_every_option_that_changes_answers_is_documented():
    own = {"--host", "--port", "--json", "--seed"}
    options = {param.opts[0] for param in command.params} - own
    assert {option for option in options if option not in PAGE} == set()
