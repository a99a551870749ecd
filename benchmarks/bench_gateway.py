"""What the gateway adds: requests per second, CPU time per request, latency, memory, start.

    python benchmarks/bench_gateway.py [--seconds 4] [--connections 16] [--books none|kept]

Three processes: an upstream that writes ready-made bytes as soon as a request's body has come, the
gateway, and a client that writes ready-made requests over kept connections. With two cores or more
the gateway has one to itself. "per CPU s" is requests over the gateway's own CPU time, which means
something on a busy machine too; requests per second of the wall clock do so only on a quiet one.
Added latency is the difference to the same client calling the upstream directly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

MODEL = "gpt-4o-mini-2024-07-18"
TICKS = os.sysconf("SC_CLK_TCK")
N_CHUNKS = 32
PROMPT = (
    "A train leaves Oslo at 08:15 and travels at 84 km/h towards Bergen, 463 km away; another "
    "leaves Bergen at 09:05 at 97 km/h. When and where do they meet, and which of the two has "
    "then covered the longer way? Explain each step in a sentence, and give the answer in a box."
)
ROW = "{:<34} {:>9} {:>13} {:>11} {:>9} {:>9} {:>9}"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


# -- upstream ------------------------------------------------------------------------------------


def _whole() -> bytes:
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "They meet at 11:12. " * 5},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 64, "completion_tokens": 30, "total_tokens": 94},
        }
    ).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _chunks() -> list[bytes]:
    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        told = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        data = b"data: " + json.dumps(told).encode() + b"\n\n"
        return b"%x\r\n%b\r\n" % (len(data), data)

    words = [event({"content": f" word{i}"}) for i in range(N_CHUNKS - 2)]
    done = b"data: [DONE]\n\n"
    last = event({}, "stop") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done)
    return [event({"role": "assistant", "content": ""}), *words, last]


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Upstream(asyncio.Protocol):
    """Answers as soon as a body is whole; a stream's chunks are writes of their own."""

    whole = _whole()
    chunks = _chunks()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.held = b""
        self.streams: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        """Bytes."""
        self.held += data
        end = self.held.find(b"\r\n\r\n")
        if end < 0:
            return
        match = LENGTH.search(self.held, 0, end)
        size = end + 4 + (int(match[1]) if match else 0)
        if len(self.held) < size:
            return
        is_stream = b'"stream":true' in self.held
        self.held = self.held[size:]
        if is_stream:
            task = asyncio.get_running_loop().create_task(self.play())
            self.streams.add(task)
            task.add_done_callback(self.streams.discard)
        else:
            self.transport.write(self.whole)

    async def play(self) -> None:
        """Write a stream."""
        self.transport.write(HEAD)
        for chunk in self.chunks:
            self.transport.write(chunk)
            await asyncio.sleep(0)  # each chunk in a turn of its own, so that they come apart


async def serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- client --------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, ends_at: float, waits: list[float]) -> None:
        self.request = request
        self.ends_at = ends_at
        self.waits = waits
        self.bad = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.ask()

    def ask(self) -> None:
        """Ask once more."""
        self.held = b""
        self.size = -1
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Bytes."""
        self.held += data
        if self.size < 0:
            end = self.held.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self.held.startswith(b"HTTP/1.1 200"):
                self.bad += 1
            match = LENGTH.search(self.held, 0, end)
            self.size = end + 4 + int(match[1]) if match else 0
        if self.size and len(self.held) < self.size:
            return
        if not self.size and not self.held.endswith(b"\r\n0\r\n\r\n"):
            return
        now = time.perf_counter()
        self.waits.append(now - self.began)
        if now < self.ends_at:
            self.ask()
        elif not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of it."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("closed"))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measurement: requests, wall time, CPU time of the server, waiting times."""

    n: int
    seconds: float
    cpu_s: float
    waits: list[float]

    def wait(self, share: float) -> float:
        """A quantile of the waiting times, in seconds."""
        return self.waits[min(int(share * len(self.waits)), len(self.waits) - 1)]


async def load(port: int, request: bytes, connections: int, seconds: float, pid: int) -> Run:
    loop = asyncio.get_running_loop()
    for warm_up in (True, False):
        waits: list[float] = []
        cpu, began = cpu_s(pid), time.perf_counter()
        ends = began + (min(seconds, 1.0) if warm_up else seconds)
        made = [
            await loop.create_connection(lambda: Client(request, ends, waits), "127.0.0.1", port)  # noqa: B023
            for _ in range(connections)
        ]
        await asyncio.gather(*(client.done for _, client in made))
        took, used = time.perf_counter() - began, cpu_s(pid) - cpu
        if bad := sum(client.bad for _, client in made):
            raise SystemExit(f"{bad} requests were not answered with 200")
        for transport, _ in made:
            transport.close()
    waits.sort()
    return Run(n=len(waits), seconds=took, cpu_s=used, waits=waits)


def request_of(path: str, body: dict[str, Any]) -> bytes:
    told = json.dumps(body, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += f"authorization: Bearer sk-bench\r\naccept: */*\r\ncontent-length: {len(told)}\r\n\r\n"
    return head.encode() + told


# -- processes -----------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def pinned(cpus: set[int]) -> dict[str, Any]:
    return {"preexec_fn": lambda: os.sched_setaffinity(0, cpus)}


@contextmanager
def upstream(cpus: set[int]) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, __file__, "--upstream"], stdout=subprocess.PIPE, **pinned(cpus)
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def gateway(upstream_port: int, books: str, cpus: set[int]) -> Iterator[tuple[int, int, float]]:
    """Port, process and seconds from its start to its first answer."""
    with tempfile.TemporaryDirectory() as home:
        config = Path(home) / "config.yaml"
        url = f"http://127.0.0.1:{upstream_port}/v1"
        config.write_text(
            f'version: 1\nupstreams:\n  bench: {{base_url: "{url}", models: ["*"]}}\n'
            "gateway: {detect_upstreams: false, watch_config: false}\n"
        )
        env = {**os.environ, "ZEROROUTER_HOME": home}
        command = [sys.executable, "-m", "zerorouter.cli.serve", "--port", "0", "--json"]
        began = time.perf_counter()
        with (
            (Path(home) / "log").open("wb") as log,
            subprocess.Popen(
                [*command, "--config", str(config), *(["--no-books"] if books == "none" else [])],
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                **pinned(cpus),
            ) as process,
        ):
            assert process.stdout is not None
            try:
                told = json.loads(process.stdout.readline())
                port = int(told["url"].rpartition(":")[2])
                asyncio.run(load(port, request_of(PATH, body_of(MODEL)), 1, 0.0, process.pid))
                yield port, int(told["pid"]), time.perf_counter() - began
            finally:
                process.terminate()


PATH = "/v1/chat/completions"


def body_of(model: str, *, stream: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
    return body | ({"stream": True} if stream else {})


def show(label: str, run: Run, base: Run | None = None) -> None:
    away = (0.0, 0.0) if base is None else (base.wait(0.5), base.wait(0.99))
    print(
        ROW.format(
            label,
            f"{run.n / run.seconds:,.0f}",
            f"{run.n / run.cpu_s:,.0f}" if run.cpu_s else "-",
            f"{1e6 * run.cpu_s / run.n:,.0f}",
            f"{1e3 * run.wait(0.5):.3f}",
            f"{1e3 * (run.wait(0.5) - away[0]):.3f}",
            f"{1e3 * (run.wait(0.99) - away[1]):.3f}",
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--books", choices=("none", "kept"), default="kept")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if args.upstream:
        asyncio.run(serve_upstream())
        return
    cpus = sorted(os.sched_getaffinity(0))
    own, others = ({cpus[-1]}, set(cpus[:-1])) if len(cpus) > 1 else ({cpus[0]}, {cpus[0]})
    os.sched_setaffinity(0, others)
    load_average = os.getloadavg()[0]
    print(f"load average {load_average:.1f} on {len(cpus)} cores; books: {args.books}")
    with upstream(others) as behind:
        starts = []
        for _ in range(3):
            with gateway(behind, args.books, own) as (_, pid, start_s):
                starts.append(start_s)
        print(
            f"start to first answer: {min(starts):.2f} s (best of {[round(s, 2) for s in starts]})"
        )
        with gateway(behind, args.books, own) as (port, pid, _):
            print(f"idle memory: {memory_mb(pid):.0f} MB")
            print(ROW.format("", "req/s", "per CPU s", "us CPU", "p50 ms", "+p50 ms", "+p99 ms"))
            cases = (
                ("concrete", body_of(MODEL)),
                ("routed", body_of("zerorouter/auto")),
                (f"concrete, stream of {N_CHUNKS}", body_of(MODEL, stream=True)),
                (f"routed, stream of {N_CHUNKS}", body_of("zerorouter/auto", stream=True)),
            )
            for connections in (args.connections, 1):
                for label, body in cases:
                    request = request_of(PATH, body)
                    base = asyncio.run(load(behind, request, connections, args.seconds, pid))
                    run = asyncio.run(load(port, request, connections, args.seconds, pid))
                    show(f"{label}, {connections} conn.", run, base)
            print(f"memory after it all: {memory_mb(pid):.0f} MB")


if __name__ == "__main__":
    main()
