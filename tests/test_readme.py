"""What the README shows must run, and what it quotes must stand in the results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zerorouter.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_run(block, capsys):
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_commands_named_exist():
    named = set(re.findall(r"^\$? ?zerorouter (\w+)", README, re.MULTILINE))
    assert len(named) >= 5
    assert named <= set(COMMANDS)


def test_make_targets_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named <= targets


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_figure_quoted_stands_in_the_results():
    results = (ROOT / "docs" / "results" / "evaluation.md").read_text(encoding="utf-8")
    section = README.split("## What is measured")[1].split("## Development")[0]
    quoted = set(re.findall(r"(?<![\d.])\.\d{3}\b", section))
    assert len(quoted) > 20
    assert {figure for figure in quoted if f"0{figure}" not in results} == set()
