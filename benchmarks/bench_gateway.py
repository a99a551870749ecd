"""What the gateway adds: requests per second, CPU time per request, latency, memory, start.

    python benchmarks/bench_gateway.py [--seconds 3] [--rounds 3] [--books kept|none]
                                       [--litellm PYTHON] [--out FILE.md]
    python benchmarks/bench_gateway.py --client          # our way over aiohttp and its own, alone

Wanted: wrk, which puts the load on, and a C compiler for `fast_upstream.c`, which answers. The
gateway has the last core to itself, both others share the rest. Everything is measured in turns
(the upstream alone, the gateway, LiteLLM's proxy, and again), and of all rounds the best stands in
the table: on a machine that others use, too, it is the round that they disturbed least. CPU time
is that of all threads and children of the process, and means something in any round.

Added latency is the difference to wrk calling the upstream directly. A chunk's CPU time is that of
a stream whose chunks come one at a time, two milliseconds apart, minus that of an answer in one
piece.

LiteLLM's proxy is started from the interpreter given (``scripts/prepare_litellm.py`` makes an
environment with the pinned version), one worker, on the gateway's core, in front of the same
upstream; without it its rows are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

MODEL = "gpt-4o-mini-2024-07-18"
PACED = "paced-model"
ROUTED = "zerorouter/auto"
LITELLM_VERSION = "1.82.6"
LITELLM_KEY = "sk-bench"
N_CHUNKS = 32
PACE_US = 2_000
PATH = "/v1/chat/completions"
PROMPT = (
    "A train leaves Oslo at 08:15 and travels at 84 km/h towards Bergen, 463 km away; another "
    "leaves Bergen at 09:05 at 97 km/h. When and where do they meet, and which of the two has "
    "then covered the longer way? Explain each step in a sentence, and give the answer in a box."
)
TARGETS: Final = {
    "concrete": "7,000/s",
    "routed": "2,500/s",
    "routed stream": "1,800/s",
    "concrete 1": "p50 +0.2 ms, p99 +3 ms",
    "routed 1": "p50 +0.5 ms, p99 +3 ms",
}

# -- what the upstream says ------------------------------------------------------------------------


def whole_answer() -> bytes:
    """An HTTP answer in one piece."""
    message = {"role": "assistant", "content": "They meet at 11:12. " * 5}
    told = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 64, "completion_tokens": 30, "total_tokens": 94},
    }
    body = json.dumps(told).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def stream_pieces() -> list[bytes]:
    """The head of a streamed answer, then a chunk each, the last one with the end."""

    def chunked(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        told = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        return chunked(b"data: " + json.dumps(told).encode() + b"\n\n")

    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    words = [event({"content": f" word{i}"}) for i in range(N_CHUNKS - 2)]
    last = event({}, "stop") + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return [head, event({"role": "assistant", "content": ""}), *words, last]


# -- processes -------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, in seconds: all threads, and children that live."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
            children = (task / "children").read_text().split()
        except OSError:  # it has ended meanwhile
            continue
        total += sum(int(1e9 * cpu_s(int(child))) for child in children)
    return total / 1e9


def memory_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def pinned(cpus: set[int]) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, cpus)


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """Ends it at the end."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, kw_only=True)
class Server:
    """Something that serves.

    Attributes:
        name: In the table.
        port: Where.
        pid: Of its process.
        start_s: From its start to its first answer.
    """

    name: str
    port: int
    pid: int
    start_s: float = 0.0


@contextmanager
def upstream(folder: Path, cpus: set[int]) -> Iterator[Server]:
    """The upstream, compiled anew."""
    source = Path(__file__).with_name("fast_upstream.c")
    program = folder / "fast_upstream"
    subprocess.run(["cc", "-O2", "-o", program, source], check=True)
    (folder / "whole").write_bytes(whole_answer())
    (folder / "chunks").write_bytes(b"\0".join(stream_pieces()))
    command = [str(program), str(folder / "whole"), str(folder / "chunks"), str(PACE_US)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=pinned(cpus))
    with ended(started) as process:
        assert process.stdout is not None
        yield Server(name="upstream", port=int(process.stdout.readline()), pid=process.pid)


@contextmanager
def gateway(folder: Path, behind: Server, books: str, cpus: set[int]) -> Iterator[Server]:
    """Our gateway, with a state folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        config, url = Path(home) / "config.yaml", f"http://127.0.0.1:{behind.port}"
        config.write_text(
            "version: 1\nupstreams:\n"
            f'  bench: {{base_url: "{url}/v1", models: ["[!p]*"]}}\n'
            f'  paced: {{base_url: "{url}/paced/v1", models: ["{PACED}"]}}\n'
            "gateway: {detect_upstreams: false, watch_config: false}\n"
        )
        command = [sys.executable, "-m", "zerorouter.cli.serve", "--port", "0", "--json"]
        command += ["--config", str(config), *(["--no-books"] if books == "none" else [])]
        began = time.perf_counter()
        with (Path(home) / "log").open("wb") as log:
            started = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "ZEROROUTER_HOME": home},
                preexec_fn=pinned(cpus),
            )
            with ended(started) as process:
                assert process.stdout is not None
                told = json.loads(process.stdout.readline() or "{}")
                if not told:
                    raise SystemExit((Path(home) / "log").read_text()[-2_000:])
                port = int(told["url"].rpartition(":")[2])
                ask(port)
                start_s = time.perf_counter() - began
                yield Server(name="zerorouter", port=port, pid=int(told["pid"]), start_s=start_s)


@contextmanager
def litellm(folder: Path, python: str, behind: Server, cpus: set[int]) -> Iterator[Server]:
    """LiteLLM's proxy of the pinned version."""
    code = "import importlib.metadata as m; print(m.version('litellm'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if (version := found.stdout.strip()) != LITELLM_VERSION:
        raise SystemExit(f"{python} has litellm {version or 'not'}; wanted {LITELLM_VERSION}")

    def entry(name: str, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{behind.port}{path}"
        params = {"model": f"openai/{name}", "api_base": url, "api_key": "sk-none"}
        return {"model_name": name, "litellm_params": params}

    config = {
        "model_list": [entry(MODEL, "/v1"), entry(PACED, "/paced/v1")],
        "general_settings": {"master_key": LITELLM_KEY},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    command = [str(Path(python).parent / "litellm"), "--config", str(path)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    began = time.perf_counter()
    with (folder / "litellm.log").open("wb") as log:
        started = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={
                **os.environ,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
                "LITELLM_LOG": "ERROR",
            },
            preexec_fn=pinned(cpus),
        )
        with ended(started) as process:
            while True:
                try:
                    ask(port)
                    break
                except OSError as error:
                    if process.poll() is not None or time.perf_counter() - began > 900:
                        told = (folder / "litellm.log").read_text()[-2_000:]
                        raise SystemExit(f"litellm did not start: {told}") from error
                    time.sleep(0.05)
            start_s = time.perf_counter() - began
            yield Server(name="LiteLLM", port=port, pid=process.pid, start_s=start_s)


def body_of(model: str, *, stream: bool = False) -> str:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
    return json.dumps(body | ({"stream": True} if stream else {}), separators=(",", ":"))


def ask(port: int) -> None:
    """One request.

    Raises:
        OSError: It was not answered well.
    """
    headers = {"content-type": "application/json", "authorization": f"Bearer {LITELLM_KEY}"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH}", data=body_of(MODEL).encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=60) as got:
        got.read()


# -- load ------------------------------------------------------------------------------------------

SCRIPT = """
wrk.method = "POST"
wrk.path = "{path}"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %.1f %.1f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """A way to ask.

    Attributes:
        label: In the table.
        model: Asked for.
        stream: Whether a stream is asked for.
        connections: At a time.
        path: Of the URL, where the upstream is asked directly.
    """

    label: str
    model: str
    stream: bool = False
    connections: int = 16
    path: str = PATH


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measurement, or the best of several: requests a second, CPU time, waiting times."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float

    def best(self, other: Run | None) -> Run:
        """The better one in each."""
        if other is None:
            return self
        return Run(
            per_s=max(self.per_s, other.per_s),
            cpu_us=min(self.cpu_us, other.cpu_us),
            p50_ms=min(self.p50_ms, other.p50_ms),
            p99_ms=min(self.p99_ms, other.p99_ms),
        )


def measure(folder: Path, server: Server, load: Load, seconds: float, cpus: set[int]) -> Run:
    script = folder / "load.lua"
    body = body_of(load.model, stream=load.stream)
    script.write_text(SCRIPT.format(path=load.path, key=LITELLM_KEY, body=body))
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds:g}s", "--timeout", "30s"]
    command += ["-s", str(script), f"http://127.0.0.1:{server.port}"]
    before = cpu_s(server.pid)
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=pinned(cpus)
    )
    used = cpu_s(server.pid) - before
    found = re.search(r"RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", told.stdout)
    assert found is not None, told.stdout
    n, micro, bad, p50, p99 = (float(value) for value in found.groups())
    if bad or not n:
        raise SystemExit(f"{server.name}, {load.label}: {bad:.0f} of {n:.0f} requests failed")
    return Run(per_s=1e6 * n / micro, cpu_us=1e6 * used / n, p50_ms=p50 / 1e3, p99_ms=p99 / 1e3)


STREAM = f"stream of {N_CHUNKS}"
LOADS: Final = {
    "concrete": Load(label="a concrete model, 16 connections", model=MODEL),
    "routed": Load(label="routed, 16 connections", model=ROUTED),
    "concrete stream": Load(
        label=f"a concrete model, {STREAM}, 16 connections", model=MODEL, stream=True
    ),
    "routed stream": Load(label=f"routed, {STREAM}, 16 connections", model=ROUTED, stream=True),
    "paced": Load(
        label=f"{STREAM}, a chunk each {PACE_US / 1000:g} ms, 16 connections",
        model=PACED,
        stream=True,
    ),
    "concrete 1": Load(label="a concrete model, 1 connection", model=MODEL, connections=1),
    "routed 1": Load(label="routed, 1 connection", model=ROUTED, connections=1),
}
SAME: Final = {"routed": "concrete", "routed stream": "concrete stream", "routed 1": "concrete 1"}
"""What the upstream, and LiteLLM that routes nothing, are asked instead."""


def mean_overhead_us(server: Server, routed: str) -> float:
    """Mean time from a request's last byte to its upstream call, as the gateway's metric tells."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as got:
        text = got.read().decode()

    def number(name: str) -> float:
        found = re.search(
            rf'^zerorouter_overhead_seconds_{name}{{routed="{routed}"}} (\S+)', text, re.M
        )
        return float(found[1]) if found else 0.0

    return 1e6 * number("sum") / max(number("count"), 1.0)


# -- the table -------------------------------------------------------------------------------------


class Report:
    """Lines of Markdown, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        """Add a line."""
        self.lines.append(line)
        print(line, flush=True)

    def row(self, *cells: str) -> None:
        """Add a row of a table."""
        self.say(f"| {' | '.join(cells)} |")


def report_runs(report: Report, servers: list[Server], runs: dict[tuple[str, str], Run]) -> None:
    report.row(*("load", "server", "req/s", "CPU us", "p50 ms", "p99 ms"), "+p50", "+p99", "target")
    report.row(*["---"] * 9)
    for key, load in LOADS.items():
        direct = runs["upstream", SAME.get(key, key)]
        for server in servers:
            run = runs.get((server.name, key))
            if run is None:
                continue
            is_behind = server.name == "upstream"
            report.row(
                load.label,
                server.name,
                f"{run.per_s:,.0f}",
                "" if is_behind else f"{run.cpu_us:,.0f}",
                f"{run.p50_ms:.3f}",
                f"{run.p99_ms:.3f}",
                "" if is_behind else f"{run.p50_ms - direct.p50_ms:.3f}",
                "" if is_behind else f"{run.p99_ms - direct.p99_ms:.3f}",
                TARGETS.get(key, "") if server.name == "zerorouter" else "",
            )


def report_ratios(report: Report, runs: dict[tuple[str, str], Run]) -> None:
    for key, wanted in (("routed", 12), ("concrete", 30), ("routed stream", 40)):
        peer = runs.get(("LiteLLM", SAME.get(key, key)))
        if peer is not None:
            ours = runs["zerorouter", key]
            report.say(
                f"- {key}: {ours.per_s / peer.per_s:.1f} x LiteLLM's requests per second, "
                f"{peer.cpu_us / ours.cpu_us:.1f} x by CPU time (target {wanted} x)"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--books", choices=("none", "kept"), default="kept")
    parser.add_argument("--litellm", metavar="PYTHON", help="an interpreter that has LiteLLM")
    parser.add_argument("--out", type=Path, help="where the table goes, as Markdown")
    parser.add_argument("--client", action="store_true", help="our way over aiohttp and its own")
    args = parser.parse_args()
    for program in ("cc", "wrk"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing; wanted a C compiler and wrk (apt install wrk)")
    cpus = sorted(os.sched_getaffinity(0))
    own, others = ({cpus[-1]}, set(cpus[:-1])) if len(cpus) > 1 else ({cpus[0]}, {cpus[0]})
    report = Report()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind = stack.enter_context(upstream(folder, others))
        if args.client:
            uvloop.run(compare_clients(behind.port))
            return
        load = os.getloadavg()[0]
        report.say(
            f"{time.strftime('%Y-%m-%d')}, {len(cpus)} cores, load average {load:.1f} before; the "
            f"best of {args.rounds} rounds of {args.seconds:g} s; books {args.books}."
        )
        report.say()
        starts = []
        for _ in range(3):
            with gateway(folder, behind, args.books, own) as server:
                starts.append(server.start_s)
        ours = stack.enter_context(gateway(folder, behind, args.books, own))
        servers = [behind, ours]
        if args.litellm:
            servers.append(stack.enter_context(litellm(folder, args.litellm, behind, own)))
        idle = {one.name: memory_mb(one.pid) for one in servers[1:]}
        runs: dict[tuple[str, str], Run] = {}
        for _ in range(args.rounds):
            for key, one in LOADS.items():
                for server in servers:
                    if server.name != "zerorouter" and key in SAME:
                        continue
                    asked = one
                    if server is behind and key == "paced":
                        asked = Load(**{**vars(one), "path": f"/paced{PATH}"})
                    run = measure(folder, server, asked, args.seconds, others)
                    runs[server.name, key] = run.best(runs.get((server.name, key)))
        report_runs(report, servers, runs)
        report.say()
        for server in servers[1:]:
            chunk = (runs[server.name, "paced"].cpu_us - runs[server.name, "concrete"].cpu_us) / 32
            starting = min(starts) if server is ours else server.start_s
            after = memory_mb(server.pid)
            report.say(
                f"- {server.name}: {chunk:.1f} us of CPU per streamed chunk (target 25), "
                f"{starting:.2f} s from start to first answer (target 0.7), "
                f"{idle[server.name]:.0f} MB idle (target 150), {after:.0f} MB after"
            )
        routed, concrete = mean_overhead_us(ours, "yes"), mean_overhead_us(ours, "no")
        report.say(
            f"- zerorouter: from a request's last byte to the upstream call {routed:.0f} us routed "
            f"and {concrete:.0f} us for a concrete model, on average over all of it (its own "
            "metric, wall time)"
        )
        report_ratios(report, runs)
        if not args.litellm:
            report.say("- LiteLLM: left out, no interpreter was given (--litellm PYTHON)")
        report.say(f"- load average after: {os.getloadavg()[0]:.1f}")
    if args.out is not None:
        args.out.write_text("\n".join([*report.lines, ""]))


async def compare_clients(port: int) -> None:
    """CPU time of a call by `zerorouter.gateway.connections` and by aiohttp's session."""
    import aiohttp

    from zerorouter.gateway.connections import Connections

    url, body = f"http://127.0.0.1:{port}{PATH}", body_of(MODEL).encode()
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    connections = Connections(connect_s=5.0, user_agent="bench")

    async def ours() -> None:
        answer = await connections.post(url, body, {})
        await answer.content.readany()

    async with aiohttp.ClientSession(
        auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), headers=headers
    ) as session:

        async def theirs() -> None:
            answer = await session.post(url, data=body, allow_redirects=False)
            await answer.content.readany()

        for name, call in (("connections.post", ours), ("aiohttp's session.post", theirs)):
            found = []
            for _ in range(200):
                began = time.thread_time()
                for _ in range(20):
                    await call()
                found.append((time.thread_time() - began) / 20)
            found.sort()
            print(f"{name:<24} {1e6 * found[0]:6.1f} us best, {1e6 * found[100]:6.1f} us median")
    await connections.close()


if __name__ == "__main__":
    main()
