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


def links(text: str) -> list[str]:
    """Where the links outside of code lead, pages on the web left out."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    return [target for target in found if not target.startswith("http")]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:docs|benchmarks|scripts|examples|tests)/[\w./-]*\w", text)
    missing = [target for target in links(text) if not (page.parent / target).exists()]
    assert missing + [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_linked():
    readme = {(ROOT / target).resolve() for target in links(README)}
    index = ROOT / "docs" / "decisions" / "README.md"
    listed = set(links(index.read_text(encoding="utf-8")))
    assert set((ROOT / "docs").glob("*.md")) <= readme
    assert {page.name for page in index.parent.glob("0*.md")} <= listed


def test_every_figure_quoted_stands_in_the_results():
    results = (ROOT / "docs" / "results" / "evaluation.md").read_text(encoding="utf-8")
    section = README.split("## What is measured")[1].split("## Development")[0]
    quoted = set(re.findall(r"(?<![\d.])\.\d{3}\b", section))
    assert len(quoted) > 20
    assert {figure for figure in quoted if f"0{figure}" not in results} == set()
