"""Onboarding jobs of the administrator: begun in the background, looked up and ended by any worker.

A job asks a configured upstream by `zerorouter.asking`; its status is a small file in the state
folder, and the process that runs it holds a lock as long as it does. A job whose process died is
``interrupted``: begin it again, and what was answered is not asked twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from zerorouter.errors import (
    BooksError,
    InputError,
    StorageFullError,
    UnknownNameError,
    ZeroRouterError,
)
from zerorouter.gateway.accounts import new_id
from zerorouter.prices import Price

MOST_JOBS: Final = 200  # that are kept; the oldest of those that ended go first
MOST_RUNNING: Final = 2
_ID: Final = re.compile(r"[0-9a-f]{32}")
_WRITE_EVERY_S: Final = 0.5
ENDED: Final = frozenset({"done", "failed", "cancelled", "interrupted"})


class _CancelledError(ZeroRouterError):
    """The administrator ended it."""


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """What is to be onboarded.

    Attributes:
        model: Our name.
        upstream: Name of the configured upstream that is asked.
        base_url: Of it.
        api_key_env: Environment variable of its key.
        served_as: The upstream's name of the model.
        anchors: Prompts to ask, at most.
        adaptive: Whether to stop as soon as enough is known.
        budget_usd: Most that asking may cost; None for no bound.
        price: In place of the catalog's.
        concurrency: Requests at a time.
    """

    model: str
    upstream: str
    base_url: str
    api_key_env: str | None
    served_as: str
    anchors: int
    adaptive: bool
    budget_usd: float | None
    price: Price | None
    concurrency: int = 4


class Jobs:
    """The jobs of a state folder.

    Args:
        folder: Of the jobs.
        on_done: Called with the model when one has a new profile; from the job's thread.
        space: Folder of the space in use; None for the usual one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_done: Callable[[str], None] = lambda _model: None,
        space: str | None = None,
    ) -> None:
        self._folder = folder
        self._on_done = on_done
        self._space = space
        self._running: dict[str, threading.Thread] = {}

    def begin(self, order: JobOrder) -> dict[str, Any]:
        """Begin a job in a thread; returns its status.

        Raises:
            InputError: it cannot be asked for, or enough are running.
            StorageFullError: it cannot be written down.
        """
        for job_id, thread in list(self._running.items()):
            if not thread.is_alive():
                del self._running[job_id]
        if len(self._running) >= MOST_RUNNING:
            raise InputError(f"{MOST_RUNNING} jobs are running; wait for one, or cancel it")
        for other in self.all():
            if other["model"] == order.model and other["status"] not in ENDED:
                raise InputError(f"job {other['id']} is at {order.model!r} already")
        self._prune()
        job_id = new_id(time.time_ns())
        status: dict[str, Any] = {
            "id": job_id,
            "model": order.model,
            "upstream": order.upstream,
            "status": "queued",
            "anchors": order.anchors,
            "adaptive": order.adaptive,
            "budget_usd": order.budget_usd,
            "begun_s": round(time.time(), 3),
        }
        self._write(status)
        thread = threading.Thread(
            target=self._run, args=(status, order), name=f"onboarding-{job_id[:8]}", daemon=True
        )
        self._running[job_id] = thread
        thread.start()
        return status

    def all(self) -> list[dict[str, Any]]:
        """Every job that is kept, the latest first."""
        if not self._folder.is_dir():
            return []
        found = [self._read(path.stem) for path in self._folder.glob("*.json")]
        return sorted((f for f in found if f is not None), key=lambda one: one["id"], reverse=True)

    def get(self, job_id: str) -> dict[str, Any]:
        """A job's status.

        Raises:
            UnknownNameError: there is none of that id.
        """
        found = self._read(job_id) if _ID.fullmatch(job_id) else None
        if found is None:
            raise UnknownNameError("job", job_id, [one["id"] for one in self.all()])
        return found

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Ask a job to end; it does after the next answer, and keeps what was answered.

        Raises:
            UnknownNameError: there is none of that id.
            StorageFullError: it cannot be written down.
        """
        found = self.get(job_id)
        if found["status"] not in ENDED:
            try:
                (self._folder / f"{job_id}.cancel").touch()
            except OSError as error:
                raise _unwritable(self._folder, error) from error
            found = {**found, "status": "cancelling"}
        return found

    def join(self, timeout_s: float) -> None:
        """Wait for this process's jobs."""
        for thread in list(self._running.values()):
            thread.join(timeout_s)

    # -- one job ---------------------------------------------------------------------------------

    def _run(self, status: dict[str, Any], order: JobOrder) -> None:
        import fcntl

        path = self._folder / f"{status['id']}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            status["status"] = "running"
            self._write(status)
            status |= {"status": "done", **self._ask(status, order)}
        except _CancelledError:
            status |= {"status": "cancelled"}
        except ZeroRouterError as error:
            status |= {"status": "failed", "error": str(error)[:1_000]}
        except Exception as error:
            status |= {"status": "failed", "error": f"{type(error).__name__} inside the gateway"}
        finally:
            status["ended_s"] = round(time.time(), 3)
            with contextlib.suppress(BooksError):  # else it will read as interrupted
                self._write(status)
            path.unlink(missing_ok=True)
            (self._folder / f"{status['id']}.cancel").unlink(missing_ok=True)
            os.close(handle)
        if status["status"] in ("done", "cancelled"):
            self._on_done(order.model)

    def _ask(self, status: dict[str, Any], order: JobOrder) -> dict[str, Any]:
        from zerorouter.asking.job import Design, Progress, onboard

        cancel = self._folder / f"{status['id']}.cancel"
        written = 0.0

        def on_progress(progress: Progress) -> None:
            nonlocal written
            if cancel.exists():
                raise _CancelledError("cancelled")
            now = time.monotonic()
            if now - written < _WRITE_EVERY_S:
                return
            written = now
            status["progress"] = {
                "n": progress.n,
                "total": progress.total,
                "ability": round(progress.ability, 3),
                "ability_sd": round(progress.ability_sd, 3),
                "spent_usd": progress.spent_usd,
                "left_s": progress.left_s,
            }
            self._write(status)

        result = onboard(
            order.model,
            base_url=order.base_url,
            api_key_env=order.api_key_env,
            upstream_model=order.served_as,
            price=order.price,
            design=Design(n=order.anchors, adaptive=order.adaptive),
            budget_usd=order.budget_usd,
            concurrency=order.concurrency,
            space=self._space,
            on_progress=on_progress,
        )
        return {"result": result.to_dict()}

    # -- files -----------------------------------------------------------------------------------

    def _read(self, job_id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(
                (self._folder / f"{job_id}.json").read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            return None
        # A job that was begun just now has no lock for a moment.
        fresh = job_id in self._running or time.time() - float(found["begun_s"]) < 2
        if found.get("status") not in ENDED and not fresh and not self._is_held(job_id):
            found["status"] = "interrupted"
        return found

    def _is_held(self, job_id: str) -> bool:
        import fcntl

        try:
            handle = os.open(self._folder / f"{job_id}.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _write(self, status: Mapping[str, Any]) -> None:
        path = self._folder / f"{status['id']}.json"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(".tmp")
            fresh.write_text(json.dumps(status), encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            raise _unwritable(self._folder, error) from error

    def _prune(self) -> None:
        ended = [one["id"] for one in self.all() if one["status"] in ENDED]
        for job_id in ended[MOST_JOBS:]:
            for suffix in ("json", "lock", "cancel"):
                (self._folder / f"{job_id}.{suffix}").unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> StorageFullError:
    return StorageFullError(f"cannot write {folder}: {error.strerror or error}; free some space")
