"""A worker's line to the others, over a socket of the test."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from zerorouter.errors import ConfigError
from zerorouter.gateway.workers import member as member_module
from zerorouter.gateway.workers.channel import Channel, encode, receive
from zerorouter.gateway.workers.member import Member


class Line:
    """A member, and what the supervisor's end of its line has got."""

    def __init__(self, index: int = 1) -> None:
        self.member = Member(index, 2)
        self.got: list[dict[str, Any]] = []

    async def open(self, reload: Any = None) -> None:
        theirs, ours = socket.socketpair()
        self.theirs = await Channel.over(theirs, self.got.append, lambda: None)
        self.lost = asyncio.Event()
        self.ours = await Channel.over(ours, self.member.on_frame, self.lost.set)
        self.member.attach(
            self.ours, render=lambda: b"mine 1.0\n", reload=reload, config=lambda: {"a": 1}
        )

    async def until(self, kind: str) -> dict[str, Any]:
        while True:
            for frame in self.got:
                if frame["kind"] == kind:
                    self.got.remove(frame)
                    return frame
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.theirs.close()
        await asyncio.wait_for(self.lost.wait(), 10)


def test_messages_travel_together_and_in_order_and_a_failing_handler_stops_nobody() -> None:
    async def run() -> None:
        line, heard, failed = Line(), [], []
        line.member.on_error = failed.append
        line.member.to_others("before", [0])  # before there is a line
        await line.open()
        for i in range(3):
            line.member.to_others("session", ["key", i])
        batch: list[Any] = []
        while len(batch) < 4:
            batch += (await line.until("post"))["batch"]
        assert batch == [["before", [0]], *(["session", ["key", i]] for i in range(3))]

        def take(key: str, n: int) -> None:
            heard.append((key, n))
            if n == 1:
                raise ValueError("broken")

        line.member.on("session", take)
        line.theirs.send({"kind": "posted", "batch": [*batch, ["unknown", []]]})
        while len(heard) < 3:
            await asyncio.sleep(0.001)
        assert heard == [("key", 0), ("key", 1), ("key", 2)]
        assert [str(error) for error in failed] == ["broken"]
        await line.close()

    asyncio.run(run())


def test_messages_that_find_no_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_module, "MOST_WAITING", 2)
    member = Member(0, 2)
    for i in range(5):
        member.to_others("t", [i])
    assert member.dropped == 3


def test_metrics_and_reloads_are_asked_of_all_and_answered() -> None:
    async def run() -> None:
        wrong = False

        async def reload() -> None:
            if wrong:
                raise ConfigError("port: found -1")

        line = Line()
        await line.open(reload)
        asked = asyncio.ensure_future(line.member.scrape())
        number = (await line.until("scrape"))["id"]
        line.theirs.send({"kind": "scraped", "id": number, "text": "all 2.0\n"})
        assert await asked == b"all 2.0\n"

        line.theirs.send({"kind": "render", "id": 9})
        assert await line.until("text") == {"kind": "text", "id": 9, "text": "mine 1.0\n"}
        for expected in (None, "port: found -1"):
            line.theirs.send({"kind": "do_reload", "id": 3})
            assert (await line.until("reloaded"))["error"] == expected
            wrong = True

        asked_all = asyncio.ensure_future(line.member.reload_all())
        number = (await line.until("reload"))["id"]
        line.theirs.send({"kind": "reload_done", "id": number, "errors": ["a", "a", "b"]})
        with pytest.raises(ConfigError, match="a; b"):
            await asked_all
        await line.close()
        # Nobody answers any more: what it knows itself, and a clear word.
        assert await line.member.scrape() == b"mine 1.0\n"
        with pytest.raises(ConfigError, match="supervisor"):
            await line.member.reload_all()

    asyncio.run(run())


def test_frames_are_read_however_they_are_cut() -> None:
    frames = [{"kind": "x", "text": "é" * n} for n in (0, 1, 70_000)]
    data = b"".join(encode(frame) for frame in frames)
    for size in (1, 3, 4, 5, 1000, len(data)):
        got: list[dict[str, Any]] = []
        channel = Channel(got.append, lambda: None)
        for at in range(0, len(data) if size > 3 else 40, size):
            channel.data_received(data[at : at + size])
        assert got == (frames if size > 3 else frames[: len(got)])
        assert got
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode(frames[1]))
        assert receive(theirs) == frames[1]
        ours.close()
        with pytest.raises(EOFError):
            receive(theirs)
