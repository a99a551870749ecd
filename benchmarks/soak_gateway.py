"""Sends 200,000 mixed requests through the gateway and checks that its memory stays level.

    python benchmarks/soak_gateway.py [N]

Three processes, as in life: upstreams of both kinds that now and then fail, refuse or break off;
the gateway with keys and ledger; and clients that route, name models, stream, translate, leave in
the middle, misspell models, wish, keep sessions and give feedback.

Exits with 1 where the gateway's resident memory grew by 20 MB or more after the first tenth, where
an answer was not what it should have been, or where the ledger has not one row for every request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

MOST_GROWTH_MB = 20.0
CONNECTIONS = 16
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
DECISION = re.compile(rb"x-zerorouter-decision-id: *([0-9a-f]+)", re.IGNORECASE)
WORDS = [
    *("why", "does", "a", "kettle", "sing", "prove", "that", "list", "the", "reasons", "sum", "of"),
    *(
        "3",
        "and",
        "48",
        "translate",
        "into",
        "French",
        "def",
        "return",
        "if",
        "x",
        ">",
        "7",
        "what",
    ),
    *("is", "tallest", "explain", "contract", "clause", "dose", "integral", "matrix", "sort"),
]
GPT, CLAUDE = "gpt-4o-mini-2024-07-18", "claude-3-haiku-20240307"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
OPEN_MODELS = ["gpt-*", "gemini-*", "gemma-*", "llama-*", "qwen*", "o1*", "o3*", "deepseek-*"]


# -- upstreams -----------------------------------------------------------------------------------


def _answer(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _stream(events: list[bytes]) -> list[bytes]:
    """A chunked stream in pieces: head, events, end."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    return [head + b"\r\n" + chunks[0], *chunks[1:], b"0\r\n\r\n"]


def _chat_event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": GPT}
    return b"data: " + json.dumps({**told, "choices": [choice]}).encode() + b"\n\n"


def _message_event(kind: str, **told: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **told})}\n\n".encode()


CHAT_USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
CHAT_WHOLE = _answer(
    json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": GPT,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "It is 391."},
                    "finish_reason": "stop",
                }
            ],
            "usage": CHAT_USAGE,
        }
    ).encode()
)
CHAT_STREAM = _stream(
    [
        _chat_event({"role": "assistant", "content": ""}),
        *(_chat_event({"content": f" word{i}"}) for i in range(6)),
        _chat_event({}, "stop"),
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"%b","choices":[],'
        b'"usage":%b}\n\n' % (GPT.encode(), json.dumps(CHAT_USAGE).encode()),
        b"data: [DONE]\n\n",
    ]
)
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": CLAUDE,
    "stop_sequence": None,
}
MESSAGE_WHOLE = _answer(
    json.dumps(
        {
            **MESSAGE,
            "content": [{"type": "text", "text": "It is 391."}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 20, "output_tokens": 8},
        }
    ).encode()
)
MESSAGE_STREAM = _stream(
    [
        _message_event(
            "message_start",
            message={
                **MESSAGE,
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 20, "output_tokens": 1},
            },
        ),
        _message_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(
            _message_event(
                "content_block_delta", index=0, delta={"type": "text_delta", "text": f" word{i}"}
            )
            for i in range(6)
        ),
        _message_event("content_block_stop", index=0),
        _message_event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 8},
        ),
        _message_event("message_stop"),
    ]
)
FAILED = _answer(b'{"error":{"message":"down","type":"server_error"}}', status="500 Oops")


class Upstream(asyncio.Protocol):
    """Answers by what the body says; one answer in fifty fails, one in fifty breaks off."""

    n = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection."""
        self.transport = cast(asyncio.WriteTransport, transport)
        self.held = b""

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
        request, self.held = self.held[:size], self.held[size:]
        Upstream.n += 1
        is_native = request.startswith(b"POST /v1/messages")
        is_stream = re.search(rb'"stream": ?true', request) is not None
        if Upstream.n % 50 == 0:
            self.transport.write(FAILED)
        elif is_stream:
            pieces = MESSAGE_STREAM if is_native else CHAT_STREAM
            asyncio.get_running_loop().create_task(self.play(pieces, Upstream.n % 50 == 25))
        else:
            self.transport.write(MESSAGE_WHOLE if is_native else CHAT_WHOLE)

    async def play(self, pieces: list[bytes], breaks_off: bool) -> None:
        """Write a stream, or the half of one."""
        for piece in pieces[: len(pieces) // 2] if breaks_off else pieces:
            if self.transport.is_closing():
                return
            self.transport.write(piece)
            await asyncio.sleep(0)
        if breaks_off:
            self.transport.close()


async def serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# -- clients -------------------------------------------------------------------------------------


class Left(Exception):  # noqa: N818  # the client's own doing
    """The client went away in the middle."""


class Client:
    """Asks one request after another over a kept connection."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(
        self, path: str, body: dict[str, Any], *, leave: bool = False
    ) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        told = json.dumps(body).encode()
        if self.writer is None or self.writer.is_closing():
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        self.writer.write(
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.key}\r\ncontent-length: {len(told)}\r\n\r\n".encode()
            + told
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if leave:
            self.writer.close()
            raise Left
        match = LENGTH.search(head)
        if match is not None:
            whole = await self.reader.readexactly(int(match[1]))
        else:
            parts = []
            try:
                while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                    parts.append((await self.reader.readexactly(size + 2))[:-2])
                await self.reader.readexactly(2)
            except asyncio.IncompleteReadError:
                self.writer.close()
            whole = b"".join(parts)
        # After an error event inside a stream the gateway closes the connection.
        broken = match is None and b'"error"' in whole
        if broken or b"connection: close" in head.lower() or self.reader.at_eof():
            self.writer.close()
        return status, head, whole


class Soak:
    """What was asked and what came of it."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key
        self.statuses: Counter[int] = Counter()
        self.asked = self.left = self.broken = self.feedback = 0

    async def run(self, first: int, last: int) -> None:
        """The requests from ``first`` to below ``last``, over all connections."""
        numbers = iter(range(first, last))
        await asyncio.gather(*(self._client(numbers) for _ in range(CONNECTIONS)))

    async def _client(self, numbers: Iterator[int]) -> None:
        client = Client(self.port, self.key)
        for i in numbers:
            await self._one(client, i)
        if client.writer is not None:
            client.writer.close()

    async def _one(self, client: Client, i: int) -> None:
        draw = random.Random(i)
        path, body = request(draw, i)
        leave = bool(body.get("stream")) and i % 20 == 7
        self.asked += 1
        try:
            status, head, told = await client.ask(path, body, leave=leave)
        except Left:
            self.left += 1
            return
        self.statuses[status] += 1
        if (unknown := i % 97 == 0) != (status == 404) or status not in (200, 404, 500):
            raise SystemExit(f"request {i}: found {status}: {told[:300]!r}")
        if status == 200 and body.get("stream"):
            ends = (b"[DONE]", b"message_stop")
            if not any(end in told[-60:] for end in ends):
                self.broken += 1
                if b'"error"' not in told:
                    raise SystemExit(f"request {i}: a stream without an end: {told[-300:]!r}")
        elif status == 200 and not unknown and b"It is 391." not in told:
            raise SystemExit(f"request {i}: found {told[:300]!r}")
        if i % 13 == 0 and (match := DECISION.search(head)) is not None:
            score = {"decision_id": match[1].decode(), "score": draw.choice([0, 0.5, 1])}
            status, _, told = await client.ask("/v1/feedback", score)
            if status != 200:
                raise SystemExit(f"feedback for request {i}: found {status}: {told[:300]!r}")
            self.feedback += 1


def request(draw: random.Random, i: int) -> tuple[str, dict[str, Any]]:
    """The i-th request: its path and body."""
    n_words = 4_000 if i % 2_000 == 1_999 else int(1 + draw.paretovariate(1.2)) % 200 + 1
    text = f"{i} " + " ".join(draw.choices(WORDS, k=n_words))
    model = ("zerorouter/auto", "zerorouter/cost", "zerorouter/auto:quality", GPT, CLAUDE)[i % 5]
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if i % 97 == 0:
        body["model"] = f"nobody-has-heard-of-{i}"
    if i % 3 == 0:
        body["stream"] = True
    wishes: dict[str, Any] = {}
    if i % 20 == 1:
        wishes["session_id"] = f"session-{i}"
    if i % 11 == 0 and body["model"].startswith("zerorouter/"):
        wishes["deny"] = [f"*{i % 3_000}-nothing*"]
    if wishes:
        body["zerorouter"] = wishes
    if i % 4 == 0:
        return MESSAGES, {**body, "max_tokens": 100}
    return CHAT, body


# -- the gateway ---------------------------------------------------------------------------------


@contextmanager
def process(*command: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A child that prints a line when it is ready."""
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            child.wait(60)


def line_of(child: subprocess.Popen[bytes]) -> bytes:
    """What a child says first."""
    assert child.stdout is not None
    return child.stdout.readline()


def resident_mb(pid: int) -> float:
    """Resident memory of a process, from the kernel."""
    told = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(told.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def configuration(port: int) -> str:
    """Both kinds of upstreams; circuits slow to open, for failures are meant to be met."""
    return json.dumps(
        {
            "version": 1,
            "upstreams": {
                "native": {
                    "base_url": f"http://127.0.0.1:{port}",
                    "api": "anthropic",
                    "models": ["claude-*"],
                },
                "open": {"base_url": f"http://127.0.0.1:{port}/v1", "models": OPEN_MODELS},
            },
            "gateway": {
                "detect_upstreams": False,
                "retries": {"backoff_s": 0.001},
                "circuits": {"failures": 1000},
            },
        }
    )


def count_rows(home: Path) -> int:
    """Rows of requests in the ledger."""
    (path,) = home.rglob("ledger.db")
    with sqlite3.connect(path) as database:
        return int(database.execute("select count(*) from zr_requests").fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("count", nargs="?", type=int, default=200_000)
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.upstream:
        asyncio.run(serve_upstream())
        return
    count = max(args.count, 1_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        process(str(Path(__file__)), "--upstream") as behind,
    ):
        home = Path(folder)
        env = {**os.environ, "ZEROROUTER_HOME": folder, "OPENBLAS_NUM_THREADS": "1"}
        path = home / "config.yaml"
        path.write_text(configuration(int(line_of(behind))), encoding="utf-8")
        make = [sys.executable, "-m", "zerorouter", "keys", "make", "soak", "--json"]
        limits = ["--budget-day", "1000000", "--requests-per-minute", "100000000"]
        made = subprocess.run([*make, *limits], env=env, capture_output=True, check=True)
        serve = ("-m", "zerorouter", "serve", "--port", "0", "--json", "--config", str(path))
        with process(*serve, env=env) as gateway:
            told = json.loads(line_of(gateway))
            soak = Soak(int(told["url"].rsplit(":", 1)[1]), json.loads(made.stdout)["key"])
            memory = run(soak, count, told["pid"])
            began = time.perf_counter()
            gateway.send_signal(signal.SIGTERM)
            if gateway.wait(60) != 0:
                sys.exit(f"FAILED: the gateway ended with {gateway.returncode}")
            print(f"stopped in {time.perf_counter() - began:.1f} s")
        rows = count_rows(home)
    growth = max(memory[1:]) - memory[0]
    print(
        f"growth {growth:.1f} MB (limit {MOST_GROWTH_MB:g}); "
        f"statuses {dict(sorted(soak.statuses.items()))}, "
        f"{soak.left:,} left in the middle, {soak.broken:,} streams ended by an error event, "
        f"{soak.feedback:,} feedbacks; {rows:,} rows of {soak.asked:,} requests"
    )
    if growth >= MOST_GROWTH_MB or rows != soak.asked:
        sys.exit("FAILED")
    print("ok")


def run(soak: Soak, count: int, pid: int) -> list[float]:
    """All requests in ten parts; resident megabytes after each."""
    memory: list[float] = []
    for part in range(10):
        start = time.perf_counter()
        asyncio.run(soak.run(part * count // 10, (part + 1) * count // 10))
        memory.append(resident_mb(pid))
        seconds = time.perf_counter() - start
        print(
            f"{(part + 1) * count // 10:>9,} requests  {count / 10 / seconds:7,.0f}/s  "
            f"{memory[-1]:7.1f} MB resident",
            flush=True,
        )
    return memory


if __name__ == "__main__":
    main()
