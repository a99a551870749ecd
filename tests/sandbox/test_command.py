"""``zerorouter sandbox`` as a process, and what it says where its packages are missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox.raw import OPENAI, asked, exchange, request
from sandbox.records import CATALOG
from zerorouter.catalog import Catalog
from zerorouter.cli.sandbox import command
from zerorouter.errors import MissingExtraError
from zerorouter.sandbox import SandboxSettings, create_app, serve_in_thread

MODEL = next(spec.name for spec in Catalog.load())


@contextmanager
def process(*options: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; whatever it writes to standard error is a failure."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "zerorouter.cli.sandbox",
            "--port",
            "0",
            "--p-correct",
            "1",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(folder: Path, number: signal.Signals):
    with process("--json", "--data", str(folder), "--answer-tokens", "9") as running:
        assert running.stdout is not None
        told = json.loads(running.stdout.readline())
        assert told["pid"] == running.pid
        seen = exchange(told["url"], request(OPENAI, asked("What is 17 + 25?", model="Able")))
        assert seen.json["choices"][0]["message"]["content"] == "42"
        seen = exchange(told["url"], request(OPENAI, asked(model=MODEL)))
        assert seen.json["usage"]["completion_tokens"] == 9
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
        assert (running.returncode, out, err) == (0, "", "")


def test_the_command_prints_its_url_and_a_line_to_try():
    with process("--api-key-env", "SANDBOX_KEYS", SANDBOX_KEYS="sk-1,sk-2") as running:
        assert running.stdout is not None
        first, second = running.stdout.readline(), running.stdout.readline()
        url = first.split()[4]
        assert second.startswith(f"Try: curl {url}/v1/chat/completions ")
        assert "sk-1" not in first + second
        body = asked(model=MODEL)
        assert exchange(url, request(OPENAI, body)).status == 401
        opened = request(OPENAI, body, {"authorization": "Bearer sk-2"})
        assert exchange(url, opened).status == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fault", "slow_chunk"], "did you mean 'slow_chunks'"),
        (["--p-correct", "7"], "p_correct: found 7"),
        (["--data", "/nonexistent"], "/nonexistent"),
        (["--api-key-env", "NOT_SET_AT_ALL"], "NOT_SET_AT_ALL"),
    ],
)
def test_wrong_options_are_told_in_one_line(options: list[str], said: str):
    result = CliRunner().invoke(command, ["--p-correct", "1", *options])
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("module", ["starlette", "orjson", "uvicorn", "httptools"])
def test_a_missing_package_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, module: str
):
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == module else found(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'zerorouter\[gateway\]'"):
        serve_in_thread(SandboxSettings(p_correct=0.5))
    if module in ("starlette", "orjson"):
        with pytest.raises(MissingExtraError, match=module):
            create_app(SandboxSettings(p_correct=0.5))


def test_importing_the_package_imports_no_server():
    code = (
        "import sys, zerorouter.sandbox, zerorouter.cli.sandbox; "
        "print([m for m in ('starlette', 'uvicorn', 'orjson', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_our_catalog_is_not_the_shipped_one():
    """Guards the tests above: their models are not found by chance."""
    assert not set(CATALOG.names) & set(Catalog.load().names)
