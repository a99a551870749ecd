"""The journal of a run: what was sent and what came back, a JSON object a line, only ever appended.

What survives what:

- Every line is handed to the operating system in one ``write`` before the run goes on: it survives
  the process, however that ends.
- A line is on disk (``fsync``) before the run goes on, too: an intent before its request is sent,
  an answer before it is counted. Lines that come together share one ``fsync``. So a machine that
  loses power loses nothing that was acknowledged.
- A last line that was cut off is dropped on reading. It can only be an intent whose request was
  never sent, or an answer that was not yet counted.

An intent without an outcome is *open*: the process died between sending and hearing. What it may
have cost counts as spent, and its prompt may be asked again. Each worker has at most one open
intent, so at most ``concurrency`` prompts are asked twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from zerorouter.errors import ArtifactError, CorruptArtifactError, NewerArtifactError

FORMAT: Final = "zerorouter-run"
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class Received:
    """An answer on record.

    Attributes:
        ref: The prompt.
        text: The reply.
        finish: Why it ended, in the endpoint's word.
        usd: What it cost; None without a price.
        input_tokens: As billed, else estimated.
        output_tokens: As billed, else estimated.
        counted: Whether the endpoint told the tokens.
        ttft_s: Seconds to the first content; None where it did not stream.
        end_to_end_s: Seconds to the last byte.
        key: Key of the question, for matching.
        limit: Most output tokens that were allowed.
    """

    ref: str
    text: str
    finish: str
    usd: float | None
    input_tokens: float
    output_tokens: float
    counted: bool
    ttft_s: float | None
    end_to_end_s: float
    key: str = ""
    limit: int = 0


@dataclass(kw_only=True)
class RunState:
    """What a journal tells.

    Attributes:
        head: Settings of the run.
        answers: Answers by prompt.
        failed: Prompts that were given up, with the reason. Those given up for want of an answer
            are asked again by another process, those that the endpoint refused are not.
        spent_usd: Dollars of all finished calls.
        open: Worst dollars of each open intent, by call.
        open_refs: Prompts of the open intents.
        calls: Calls made, retries and open intents included.
        finished: Whether the run ended by itself.
    """

    head: Mapping[str, Any]
    answers: dict[str, Received] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    spent_usd: float = 0.0
    open: dict[int, float] = field(default_factory=dict)
    open_refs: dict[int, str] = field(default_factory=dict)
    calls: int = 0
    finished: bool = False

    @property
    def committed_usd(self) -> float:
        """Dollars spent, open intents at their worst."""
        return self.spent_usd + sum(self.open.values())


class Journal:
    """An open journal; one process at a time.

    Use as a context manager. `record` returns once the line is on disk.
    """

    def __init__(self, path: Path, state: RunState) -> None:
        self.path = path
        self.state = state
        self._file: int | None = None
        self._written = 0
        self._synced = 0
        self._syncing: asyncio.Task[None] | None = None
        self._broken: ArtifactError | None = None

    @classmethod
    def create(cls, path: Path, head: Mapping[str, Any]) -> Journal:
        """Begin a journal; ``head`` tells what the run is.

        Raises:
            ArtifactError: the file exists or cannot be written.
        """
        journal = cls(path, RunState(head=dict(head)))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        journal._file = file
        journal._lock()
        journal._append({"kind": "run", "format": FORMAT, "version": FORMAT_VERSION, **head})
        journal._fsync()
        _fsync_folder(path.parent)
        return journal

    @classmethod
    def resume(cls, path: Path) -> Journal:
        """Open a journal to go on with it.

        Raises:
            ArtifactError: it cannot be opened, is damaged, or another process has it.
        """
        journal = cls(path, RunState(head={}))
        try:
            journal._file = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            journal._lock()
            journal.state, whole = read_journal(path)
            size = path.stat().st_size
            if whole < size:
                os.ftruncate(journal._file, whole)  # the line that was cut off
        except BaseException:
            journal.close()
            raise
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # -- writing -------------------------------------------------------------------------------

    async def intent(self, ref: str, worst_usd: float | None) -> int:
        """Record that a prompt is about to be sent; returns the number of the call."""
        call = self.state.calls
        self.state.calls += 1
        self.state.open[call] = worst_usd or 0.0
        self.state.open_refs[call] = ref
        await self._record({"kind": "intent", "call": call, "ref": ref, "worst_usd": worst_usd})
        return call

    async def answer(self, call: int, received: Received) -> None:
        """Record an answer; it is counted once it is on disk."""
        await self._record({"kind": "answer", "call": call, **vars(received)})
        self._settle(call, received.usd or 0.0)
        self.state.answers[received.ref] = received

    async def failure(self, call: int, reason: str, usd: float | None) -> None:
        """Record that a call brought nothing, and what it may have cost."""
        await self._record({"kind": "failure", "call": call, "reason": reason, "usd": usd})
        self._settle(call, usd or 0.0)

    async def give_up(self, ref: str, reason: str, *, refused: bool) -> None:
        """Record that a prompt is not asked any more: ever, or in this process."""
        row = {"kind": "given_up", "ref": ref, "reason": reason, "refused": refused}
        await self._record(row)
        self.state.failed[ref] = reason

    async def finish(self, reason: str) -> None:
        """Record that the run ended by itself."""
        await self._record({"kind": "finish", "reason": reason})
        self.state.finished = True

    def _settle(self, call: int, usd: float) -> None:
        self.state.open.pop(call, None)
        self.state.open_refs.pop(call, None)
        self.state.spent_usd += usd

    async def _record(self, row: Mapping[str, Any]) -> None:
        self._append(row)
        mine = self._written
        # Whoever comes while a sync is under way waits for the next one, together.
        while self._synced < mine:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.ensure_future(self._sync())
            await asyncio.shield(self._syncing)

    async def _sync(self) -> None:
        upto = self._written
        await asyncio.to_thread(self._fsync)
        self._synced = max(self._synced, upto)

    def _append(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=True, allow_nan=False, sort_keys=True) + "\n"
        payload = line.encode("ascii")
        assert self._file is not None, "the journal is closed"
        if self._broken is not None:
            raise self._broken  # half a line may stand at the end: nothing may follow it
        try:
            while payload:
                payload = payload[os.write(self._file, payload) :]
        except OSError as error:
            self._broken = _unwritable(self.path, error)
            raise self._broken from error
        self._written += 1

    def _fsync(self) -> None:
        if self._file is None:
            return
        try:
            os.fsync(self._file)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: two runs at once are the user's own affair there
            return
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ArtifactError(
                f"{self.path} is in use: another process is asking this model; wait for it to end"
            ) from error


def read_journal(path: Path) -> tuple[RunState, int]:
    """What a journal tells, and how many of its bytes are whole lines.

    Raises:
        ArtifactError: it cannot be read.
        CorruptArtifactError: a line in its middle is damaged.
        NewerArtifactError: a later version wrote it.
    """
    state: RunState | None = None
    whole = 0
    for number, (line, end) in enumerate(_lines(path), 1):
        try:
            row = json.loads(line)
            if number == 1:
                state = _begin(path, row)
            else:
                assert state is not None
                _apply(state, row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptArtifactError(
                f"{path}: line {number} is damaged ({type(error).__name__}: {error}); its answers "
                "cannot be trusted: move the file away, or start anew with --fresh"
            ) from error
        whole = end
    if state is None:
        raise CorruptArtifactError(f"{path} is empty; remove it, or start anew with --fresh")
    return state, whole


def _begin(path: Path, row: Mapping[str, Any]) -> RunState:
    if row.get("format") != FORMAT:
        raise ValueError("not the head of a run")
    if int(row["version"]) > FORMAT_VERSION:
        raise NewerArtifactError(
            f"{path} was written by a later version of ZeroRouter; upgrade with: "
            "pip install -U zerorouter"
        )
    hidden = ("kind", "format", "version")
    return RunState(head={key: value for key, value in row.items() if key not in hidden})


def _apply(state: RunState, row: Mapping[str, Any]) -> None:
    kind = row["kind"]
    if kind == "intent":
        state.open[int(row["call"])] = float(row["worst_usd"] or 0.0)
        state.open_refs[int(row["call"])] = str(row["ref"])
        state.calls = max(state.calls, int(row["call"]) + 1)
        state.finished = False
    elif kind in ("answer", "failure"):
        state.open.pop(int(row["call"]), None)
        state.open_refs.pop(int(row["call"]), None)
        state.spent_usd += float(row["usd"] or 0.0)
        if kind == "answer":
            values = {key: row[key] for key in Received.__dataclass_fields__ if key in row}
            received = Received(**values)
            state.answers[received.ref] = received
    elif kind == "given_up":
        if row["refused"]:
            state.failed[str(row["ref"])] = str(row["reason"])
    elif kind == "finish":
        state.finished = True
    else:
        raise ValueError(f"a line of kind {kind!r}")


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Whole lines with the position after each; a last line without an end is left out."""
    try:
        with path.open("rb") as file:
            end = 0
            for line in file:
                end += len(line)
                if line.endswith(b"\n"):
                    yield line, end
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error


def _fsync_folder(folder: Path) -> None:
    """Make the file's name durable, too; not every system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _unwritable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"cannot write {path}: {error.strerror or error}; what was answered before is kept there: "
        "free some space and run the same command again"
    )
