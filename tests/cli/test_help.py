from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from cli.running import run
from zerorouter import __version__
from zerorouter.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_help_is_what_the_commands_print():
    """If this fails: python scripts/generate_cli_docs.py"""
    script = runpy.run_path(str(ROOT / "scripts" / "generate_cli_docs.py"))
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == script["page"]()


@pytest.mark.parametrize("args", [["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_fits_a_terminal_of_80_columns(args):
    result = run(*args, COLUMNS="80")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_every_command_has_json():
    groups = {
        "config": ("show", "check", "schema"),
        "keys": ("make", "list", "revoke"),
        "ledger": ("export", "daily", "prune"),
    }
    for name in set(COMMANDS) - set(groups):
        assert "--json" in run(name, "--help").stdout
    for group, names in groups.items():
        for name in names:
            assert "--json" in run(group, name, "--help").stdout, (group, name)


def test_the_list_of_commands_agrees_with_their_own_first_lines():
    listed = run("--help").stdout
    for _, line in COMMANDS.values():
        assert line in listed


def test_no_arguments_show_the_help_as_wrong_usage():
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr + result.stdout


def test_the_version_is_told():
    assert run("--version").stdout == f"zerorouter, version {__version__}\n"
