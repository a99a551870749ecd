"""What a start of the command loads: little, nothing of the extras, and no socket."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

GUARD = """
import atexit, socket, sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
def find_what_is_installed(name, path=None, target=None):
    return None if name.partition(".")[0] in {forbidden!r} else find(name, path, target)
PathFinder.find_spec = staticmethod(find_what_is_installed)

def refuse(*_, **__):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

loaded = lambda: sorted({{name.partition(".")[0] for name in sys.modules}})
atexit.register(lambda: print("LOADED", *loaded(), file=sys.stderr))
sys.argv = ["zerorouter", *{args!r}]
from zerorouter.cli.main import main
main()
"""
EXTRAS = [
    *("scipy", "sklearn", "pyarrow", "onnxruntime", "pandas", "torch", "plotly", "joblib"),
    *("threadpoolctl", "transformers", "matplotlib"),
]


def guarded(*args: str, forbidden: list[str]) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """The command with imports refused; what it printed, and the packages it had loaded."""
    done = subprocess.run(
        [sys.executable, "-c", GUARD.format(forbidden=forbidden, args=list(args))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    told, _, loaded = done.stderr.partition("LOADED ")
    done.stderr = told
    return done, set(loaded.split())


@pytest.mark.parametrize(
    "args",
    [
        ["route", "What is 17 * 23?", "--json"],
        ["route", "What is 17 * 23?", "--explain"],
        ["models"],
        ["demo"],
        ["config", "show"],
        ["config", "check"],
    ],
)
def test_commands_run_on_the_core_alone(args):
    done, loaded = guarded(*args, forbidden=EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert not loaded & set(EXTRAS)


def test_help_loads_no_arrays_and_no_models():
    done, loaded = guarded("--help", forbidden=[*EXTRAS, "numpy", "tokenizers", "pydantic"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "Commands:" in done.stdout
    assert not loaded & {"numpy", "tokenizers", "pydantic", "rich", "yaml", "safetensors"}


def test_a_cold_route_leaves_out_what_it_does_not_need():
    _, loaded = guarded("route", "hi", forbidden=[])
    assert not loaded & {*EXTRAS, "pydantic", "tokenizers", "rich", "yaml"}


def test_a_missing_extra_answers_with_its_install_line(tmp_path):
    from simulated_records import write_records

    folder = write_records(tmp_path / "toy", n=60)
    done, _ = guarded(
        *("calibrate", str(folder), "--out", str(tmp_path / "s"), "--json"), forbidden=EXTRAS
    )
    assert done.returncode == 1
    error = json.loads(done.stderr)["error"]
    assert error["type"] == "MissingExtraError"
    assert "pip install 'zerorouter[fit]'" in error["message"]
    assert not (tmp_path / "s").exists()


def test_records_in_plain_files_are_imported_on_the_core_alone(tmp_path):
    from simulated_records import write_records

    folder = write_records(tmp_path / "toy", n=60)
    done, _ = guarded(
        *("import", "folder", str(folder), "--out", str(tmp_path / "clean")), forbidden=EXTRAS
    )
    assert done.returncode == 0, done.stderr
    assert {p.suffix for p in (tmp_path / "clean").iterdir()} <= {".jsonl", ".csv"}
