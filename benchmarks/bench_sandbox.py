"""How many requests the sandbox serves on one core, and what one costs it in CPU time.

    python benchmarks/bench_sandbox.py [--seconds 4] [--connections 16]

The server runs in a process of its own, on a core of its own where there are two. The client
writes ready-made requests over kept connections and reads answers by their length, so that it
costs less than what it measures; CPU time per request is the server's alone and holds on a busy
machine too. "spread" sends as many different prompts as there are requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

MODEL = "gpt-4o-mini-2024-07-18"
TICKS = os.sysconf("SC_CLK_TCK")
ROW = "{:<46} {:>10} {:>12} {:>10} {:>10}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One measurement: how the server is started and what it is asked."""

    label: str
    options: tuple[str, ...]
    stream: bool = False
    spread: bool = False
    path: str = "/v1/chat/completions"


CASES = (
    Case(label="chat, 8 tokens, fixed P", options=("--p-correct", "0.5", "--answer-tokens", "8")),
    Case(
        label="chat, 8 tokens, fixed P, spread",
        options=("--p-correct", "0.5", "--answer-tokens", "8"),
        spread=True,
    ),
    Case(label="chat, 8 tokens, P from the space", options=("--answer-tokens", "8")),
    Case(
        label="chat, 8 tokens, P from the space, spread",
        options=("--answer-tokens", "8"),
        spread=True,
    ),
    Case(
        label="messages, 8 tokens, fixed P",
        options=("--p-correct", "0.5", "--answer-tokens", "8"),
        path="/v1/messages",
    ),
    Case(
        label="chat stream, 32 chunks",
        options=("--p-correct", "0.5", "--answer-tokens", "32"),
        stream=True,
    ),
    Case(
        label="chat stream, 32 chunks, each flushed",
        options=("--p-correct", "0.5", "--answer-tokens", "32", "--flush-chunks"),
        stream=True,
    ),
)


def request(case: Case, port: int, text: str) -> bytes:
    body = json.dumps(
        {
            "model": MODEL,
            "max_tokens": 64,
            "stream": case.stream,
            "messages": [{"role": "user", "content": text}],
        }
    ).encode()
    head = (
        f"POST {case.path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"anthropic-version: 2023-06-01\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Asker(asyncio.Protocol):
    """Sends a request, waits for the whole answer, sends the next."""

    def __init__(self, requests: Iterator[bytes], stream: bool) -> None:
        self.requests, self.stream = requests, stream
        self.done = 0
        self.seen = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        """Send the next request once the answer is whole."""
        self.seen += data
        if self.complete():
            assert self.seen.startswith(b"HTTP/1.1 200"), bytes(self.seen[:300])
            self.done += 1
            self.seen.clear()
            self.transport.write(next(self.requests))

    def complete(self) -> bool:
        """Whether the answer is whole."""
        if self.stream:
            return self.seen.endswith(b"0\r\n\r\n")
        head = self.seen.find(b"\r\n\r\n")
        if head < 0:
            return False
        at = self.seen.find(b"content-length: ") + 16
        return len(self.seen) == head + 4 + int(self.seen[at : self.seen.find(b"\r", at)])


def requests_of(case: Case, port: int) -> Iterator[bytes]:
    if not case.spread:
        same = request(case, port, "What is 17 * 23?")
        while True:
            yield same
    number = 0
    while True:
        number += 1
        yield request(case, port, f"What is {number} * 23?")


async def load(case: Case, port: int, connections: int, seconds: float) -> int:
    loop = asyncio.get_running_loop()
    requests = requests_of(case, port)
    askers = []
    for _ in range(connections):
        _, asker = await loop.create_connection(
            lambda: Asker(requests, case.stream), "127.0.0.1", port
        )
        askers.append(asker)
    await asyncio.sleep(seconds)
    done = sum(asker.done for asker in askers)
    for asker in askers:
        asker.transport.abort()
    return done


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(case: Case, connections: int, seconds: float) -> tuple[float, float, float]:
    """Requests per second, CPU microseconds and CPU share of the server."""
    cores = sorted(os.sched_getaffinity(0))
    server = subprocess.Popen(
        [sys.executable, "-m", "zerorouter.cli.sandbox", "--port", "0", "--json", *case.options],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        os.sched_setaffinity(server.pid, {cores[-1]})
        assert server.stdout is not None
        port = int(json.loads(server.stdout.readline())["url"].rpartition(":")[2])
        uvloop.run(load(case, port, connections, 0.5))  # warm
        before, start = cpu_seconds(server.pid), time.perf_counter()
        done = uvloop.run(load(case, port, connections, seconds))
        wall = time.perf_counter() - start
        spent = cpu_seconds(server.pid) - before
        return done / wall, 1e6 * spent / max(done, 1), spent / wall
    finally:
        server.terminate()
        server.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[:-1]))
    print(ROW.format("", "req/s", "CPU us/req", "req/CPU s", "CPU share"))
    for case in CASES:
        os.sched_setaffinity(0, set(cores))
        rate, cost_us, share = measure(case, options.connections, options.seconds)
        print(
            ROW.format(
                case.label, f"{rate:.0f}", f"{cost_us:.0f}", f"{1e6 / cost_us:.0f}", f"{share:.2f}"
            )
        )


if __name__ == "__main__":
    main()
