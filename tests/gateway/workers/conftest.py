"""Real processes: `zerorouter serve --workers N` over a sandbox in the test's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.conftest import SECRET, Answer, config_for, fetch
from zerorouter.sandbox import RunningSandbox

ASK = [{"role": "user", "content": "What is 17 * 23?"}]


@dataclass
class Served:
    """A gateway of several processes."""

    process: subprocess.Popen[bytes]
    url: str
    home: Path
    config: Path
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_bytes().splitlines(keepends=True)
        found = [json.loads(x) for x in lines if x.endswith(b"\n") and x.startswith(b"{")]
        return [line for line in found if line["event"] == name]

    def pids(self) -> dict[int, int]:
        """The process of each worker, the latest."""
        return {line["worker"]: line["pid"] for line in self.events("worker_started")}

    def chat(self, model: str = "zerorouter/cost", key: str = "", **more: object) -> Answer:
        return fetch(
            f"{self.url}/v1/chat/completions",
            {"model": model, "messages": ASK, **more},
            headers={"authorization": f"Bearer {key}"} if key else None,
        )

    def metric(self, name: str) -> float:
        """The sum over all its labels."""
        text = fetch(f"{self.url}/metrics").body.decode()
        lines = [x for x in text.splitlines() if x.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)


Start = Callable[..., Served]


@pytest.fixture
def serve(sandbox: RunningSandbox, tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway of two workers, and ends it."""
    running: list[Served] = []

    def start(*, settings: dict[str, object] | None = None, **gateway: object) -> Served:
        config = tmp_path / "zr.yaml"
        told = config_for(sandbox.url, **gateway).to_dict()
        config.write_text(yaml.safe_dump(told | (settings or {})))
        log = tmp_path / "log"
        command = [sys.executable, "-m", "zerorouter.cli.serve", "--workers", "2", "--port", "0"]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--json", "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=file,
                env={
                    **os.environ,
                    "ZEROROUTER_HOME": str(tmp_path / "home"),
                    "CLAUDE_KEY": SECRET,
                    "OPEN_KEY": SECRET,
                },
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        url = json.loads(line)["url"]
        served = Served(process, url, tmp_path / "home", config, log)
        running.append(served)
        return served

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()  # its workers stop by themselves
        one.process.wait(30)
        assert one.process.stdout is not None
        one.process.stdout.close()
        until(lambda one=one: not any(alive(pid) for pid in one.pids().values()))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool], at_most_s: float = 90.0) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
