"""Learning in a worker: what the request path calls, and the thread behind it.

    service = LearningService(gateway, folder)
    service.start() / service.stop()            # with the gateway
    service.observe(record)                     # each request that is over; microseconds
    service.feedback(decision_id, score, key_id)   # before the 2xx

Every worker runs one. They share a folder: decisions, events, versions. The worker that holds the
lock ``learner.lock`` runs the `Learner`; when it dies the lock falls free and another takes over,
from the last published version and the events that it had not covered. Every worker looks four
times a second for a version that it has not taken, lays its router out anew in the thread, and
swaps it in on the event loop: requests under way end with the one they began with.
"""

from __future__ import annotations

import base64
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from zerorouter.errors import ZeroRouterError
from zerorouter.gateway.failures import Refusal
from zerorouter.gateway.learning.decisions import CAPACITY, Decisions, digest_of
from zerorouter.gateway.learning.events import EventWriter
from zerorouter.gateway.learning.learner import Learner, layout_of, usable
from zerorouter.gateway.learning.versions import Versions
from zerorouter.gateway.owners import books_dir
from zerorouter.gateway.series import Counter, Gauge
from zerorouter.learning import DEFAULTS, LearnedState, LearningSettings, length_shift
from zerorouter.predict.serving_times import EndpointTimes
from zerorouter.router import Router

if TYPE_CHECKING:
    import asyncio

    from zerorouter.gateway.records import RequestRecord
    from zerorouter.gateway.serving import Gateway
    from zerorouter.routing.decision import Decision

FOLDER: Final = "learning"
TICK_S: Final = 0.25
MOST_WAITING: Final = 64
"""Served requests that are handed on in a tick; more of them would teach nothing new."""
MOST_PER_MODEL: Final = 8
_COMPLAIN_EVERY_S: Final = 10.0
_TRUNCATED: Final = 0.999  # of max_tokens, from which an answer counts as cut off


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A score that was taken.

    Attributes:
        model: That it is about.
        is_new: False where the same score was given before.
    """

    model: str
    is_new: bool


class LearningService:
    """See the module.

    Args:
        gateway: Whose router is kept up to date.
        folder: Shared by all workers.
        settings: Pace.
        tick_s: Between two looks.
        publish_every_s: Between two versions at least.
        remember: Decisions of this worker that can still be scored.
    """

    def __init__(
        self,
        gateway: Gateway,
        folder: Path,
        *,
        settings: LearningSettings = DEFAULTS,
        tick_s: float = TICK_S,
        publish_every_s: float = 5.0,
        remember: int = CAPACITY,
    ) -> None:
        self._capacity = remember
        self.folder = folder
        self.versions = Versions(folder)
        self.errors = 0
        self.dropped = 0
        self.applied_version = 0
        self._gateway = gateway
        self._settings = settings
        self._tick_s, self._publish_every_s = tick_s, publish_every_s
        self._base: Router | None = None
        self._view: Router | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._decisions: Decisions | None = None
        self._names: dict[bytes, str] = {}
        self._events = EventWriter(folder / "events")
        self._waiting: deque[tuple[RequestRecord, float]] = deque()
        self._counts: dict[str, int] = {}
        self._lock_handle = -1
        self._learner: Learner | None = None
        self._learner_base: Router | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop, self._wake = threading.Event(), threading.Event()
        self._turn = threading.Condition()
        self._turns = 0
        self._complained_at = -math.inf
        self._thread = threading.Thread(target=self._run, name="learning", daemon=True)
        self._metrics = _Metrics(gateway)
        gateway.metrics.before_scrape.append(self._refresh)

    # -- from start to stop ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin; on the event loop that serves."""
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._take_router(self._gateway.setup.router)
        self._thread.start()

    def stop(self) -> None:
        """Hand on what is waiting, publish, and end; blocks for a moment."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._events.close()
        if self._decisions is not None:
            self._decisions.close()
            self._decisions = None

    # -- the request path ------------------------------------------------------------------------

    def observe(self, record: RequestRecord) -> None:
        """Take a request that is over: its decision is remembered, its times may be learned."""
        try:
            decision = record.decision
            if decision is not None and record.model:
                self.remember(decision, record.model, record.key_id)
            if record.outcome != "ok" or not record.upstream or record.usage is None:
                return
            seen = self._counts.get(record.model, 0)
            if seen >= MOST_PER_MODEL or len(self._waiting) >= MOST_WAITING:
                self.dropped += 1
                return
            self._counts[record.model] = seen + 1
            self._waiting.append((record, time.time()))
        except Exception as error:  # learning is never a reason to fail a request
            self._failed(error)

    def remember(self, decision: Decision, model: str, key_id: str) -> None:
        """Keep a decision for the score that may follow."""
        decisions, weighing = self._decisions, decision.weighing
        if decisions is None or weighing.readings is None:
            return
        decisions.remember(
            decision.decision_id,
            model,
            weighing.readings,
            weighing.row,
            key_id=key_id,
            at_s=time.time(),
        )

    def remember_all(self, decisions: Sequence[Decision], key_id: str) -> None:
        """Keep decisions that were only asked for, without an answer."""
        try:
            for decision in decisions:
                self.remember(decision, decision.model, key_id)
        except Exception as error:
            self._failed(error)

    def feedback(self, decision_id: str, score: float, key_id: str) -> Taken:
        """Take a score; when this returns it survives the process. Milliseconds at most.

        A second score for a decision is refused, the same one again is taken for a repetition of
        a request whose answer was lost.

        Raises:
            Refusal: 404 for a decision that is not known (any more) or was another key's, 409
                where it has another score.
            BooksError: the score cannot be kept.
        """
        decisions = self._decisions
        found = None if decisions is None else decisions.find(decision_id)
        if decisions is None or found is None or found.key_id != key_id:
            raise Refusal.of(
                404,
                f"decision {decision_id}: not known, or too long ago; a score has to follow its "
                f"decision within the next {layout_capacity(decisions):,} and come with the same "
                "key",
                code="decision_not_found",
                param="decision_id",
            )
        model = self._names.get(found.model_digest)
        if model is None:
            raise Refusal.of(
                404,
                f"decision {decision_id}: its model is no longer on offer",
                code="decision_not_found",
                param="decision_id",
            )
        with decisions.claiming():
            again = decisions.find(decision_id) or found
            if again.score is not None:
                if abs(again.score - score) < 1e-6:
                    return Taken(model=model, is_new=False)
                raise Refusal.of(
                    409,
                    f"decision {decision_id} has the score {again.score:g}; each is scored once",
                    code="feedback_already_given",
                    param="score",
                )
            self._events.append(
                "score",
                {
                    "id": decision_id,
                    "model": model,
                    "score": score,
                    "at_s": time.time(),
                    "space": decisions.layout.space,
                    "record": base64.b64encode(found.record).decode("ascii"),
                },
            )
            decisions.claim(again, score)
        self._metrics.scores.inc()
        return Taken(model=model, is_new=True)

    # -- people ----------------------------------------------------------------------------------

    def command(self, action: str, **fields: Any) -> None:
        """Have the learner do something: ``rollback`` (version), ``forget``, ``answered`` (model)
        or ``reset``; when this returns it is certain to be done.

        Raises:
            BooksError: it cannot be written down.
        """
        self._events.append("command", {"action": action, **fields, "at": time.time()})
        self._wake.set()

    def wait_for(self, version: int, timeout_s: float) -> bool:
        """Whether a version above ``version`` is in force here in time; blocks."""
        until = time.monotonic() + timeout_s
        with self._turn:
            while self.applied_version <= version:
                left = until - time.monotonic()
                if left <= 0 or not self._turn.wait(left):
                    return self.applied_version > version
        return True

    def settle(self, timeout_s: float = 5.0) -> None:
        """Wait until what was handed over before has gone through the thread; blocks."""
        with self._turn:
            wanted = self._turns + 2
            self._wake.set()
            until = time.monotonic() + timeout_s
            while self._turns < wanted and time.monotonic() < until:
                self._turn.wait(0.02)
                self._wake.set()

    @property
    def learned(self) -> LearnedState | None:
        """What is in force in this worker."""
        router = self._gateway.setup.router
        return None if router is None else router.learned

    @property
    def is_learner(self) -> bool:
        """Whether the learner runs in this process."""
        return self._learner is not None

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._tick_s)
            self._wake.clear()
            self._tick()
        self._tick(last=True)
        self._unlock()

    def _tick(self, *, last: bool = False) -> None:
        try:
            self._hand_on()
            base = self._base_router()
            if base is not None:
                self._learn(base, last=last)
                self._follow(base)
        except Exception as error:  # the thread goes on, whatever came
            self._failed(error)
        with self._turn:
            self._turns += 1
            self._turn.notify_all()

    def _hand_on(self) -> None:
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        self._counts.clear()
        rows = [row for record, at in waiting if (row := self._row(record, at)) is not None]
        if rows:
            self._events.append("served", {"rows": rows})

    def _row(self, record: RequestRecord, at_s: float) -> dict[str, Any] | None:
        usage, attempts = record.usage, record.attempts
        assert usage is not None
        seconds = record.seconds - (attempts[-1].started_s if attempts else 0.0)
        tokens = usage.output_tokens
        row: dict[str, Any] = {
            "model": record.model,
            "upstream": record.upstream,
            "at_s": at_s,
            "input_tokens": usage.input_tokens,
            "output_tokens": tokens,
        }
        if tokens >= 1 and seconds > 0:
            row["end_to_end_s"] = seconds
            first = record.ttft_s if record.stream else None
            row["ttft_s"] = None if first is None else min(max(first, 1e-6), seconds)
        decision = record.decision
        cut = record.max_tokens is not None and tokens >= _TRUNCATED * record.max_tokens
        if (
            decision is not None
            and tokens >= 1
            and record.n_answers == 1
            and not record.is_estimated
            and not cut
        ):
            row["log_ratio"] = self._log_ratio(decision, record.model, tokens)
        return row if len(row) > 5 else None

    def _log_ratio(self, decision: Decision, model: str, tokens: int) -> float | None:
        """Log of the tokens over the median that the space, unlearned, forecasts."""
        estimates = decision.weighing.estimates
        if model not in estimates.models or estimates.spreads is None:
            return None
        at = estimates.models.index(model)
        expected = float(estimates.output_tokens[0, at])
        if not expected > 0:
            return None
        smear = float(estimates.spreads.length_smear[at])
        return math.log(tokens) - math.log(expected) + smear + length_shift(self.learned, model)

    def _base_router(self) -> Router | None:
        """The router as it was loaded, whether or not a view of it is in force."""
        router = self._gateway.setup.router
        if router is None:
            return None
        if router is not self._view:
            self._take_router(router)
        return self._base

    def _take_router(self, router: Router | None) -> None:
        """Go on with a router that was just loaded."""
        if router is None:
            return
        self._base, self._view, self._stamp = router, None, None
        layout = replace(layout_of(router.space), capacity=self._capacity)
        if self._decisions is None or self._decisions.layout != layout:
            if self._decisions is not None:
                self._decisions.close()
            self._decisions = Decisions(self.folder, layout)
        self._names = {digest_of(name): name for name in router.space.respondents}

    def _learn(self, base: Router, *, last: bool) -> None:
        if self._learner is None:
            if not self._lock():
                return
            self._learner = Learner(
                self.folder,
                base.space,
                times=_times(base),
                settings=self._settings,
                on_event=self._told,
                publish_every_s=self._publish_every_s,
            )
            self._learner_base = base
        learner = self._learner
        if self._learner_base is not base:
            learner.take_space(base.space, _times(base))
            self._learner_base = base
        now = time.time()
        learner.step(now, max_s=1.0 if last else 0.1)
        if last and learner.is_dirty:
            learner.publish(now)

    def _follow(self, base: Router) -> None:
        """Take the version in force, if it is another one."""
        stamp = self.versions.stamp()
        if stamp is None or stamp == self._stamp:
            return
        found = self.versions.current()
        state = None if found is None else usable(found.state, base.space)
        view = base.with_learned(state, self._upstreams(base))
        self._stamp = stamp
        if view is base or self._loop is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._swap, base, view)

    def _swap(self, base: Router, view: Router) -> None:
        setup = self._gateway.setup
        if setup.router is not base and setup.router is not self._view:
            return  # the configuration was read again meanwhile: the next tick goes on with that
        self._view = view
        self._gateway.setup = replace(setup, router=view)
        state = view.learned
        with self._turn:
            self.applied_version = 0 if state is None else state.version
            self._turn.notify_all()

    def _upstreams(self, base: Router) -> Mapping[str, str]:
        """Model -> the upstream that is tried first."""
        fleet = self._gateway.setup.fleet
        return {
            name: found[0].upstream.name for name in base.models if (found := fleet.endpoints(name))
        }

    def _lock(self) -> bool:
        import fcntl

        handle = os.open(self.folder / "learner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock_handle = handle
        return True

    def _unlock(self) -> None:
        if self._lock_handle >= 0:
            os.close(self._lock_handle)
            self._lock_handle = -1
        self._learner = None

    # -- telling ---------------------------------------------------------------------------------

    def _told(self, name: str, facts: dict[str, Any]) -> None:
        level = "warning" if name in ("drift", "skipped", "damaged") else "info"
        self._gateway.log.write({"event": f"learning_{name}", **facts}, level=level)
        if name == "drift":
            self._metrics.drifts.labels(self._label(str(facts["model"])), facts["direction"]).inc()

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        now = time.monotonic()
        if now - self._complained_at < _COMPLAIN_EVERY_S:
            return
        self._complained_at = now
        if isinstance(error, ZeroRouterError):
            facts = {"event": "learning_failed", "message": str(error)}
            self._gateway.log.write(facts, level="error")
        else:
            self._gateway.log_error(error)

    def _label(self, model: str) -> str:
        return model if model in self._gateway.metrics.known else "other"

    def _refresh(self) -> None:
        metrics, state = self._metrics, self.learned
        metrics.version.set(self.applied_version)
        metrics.dropped.set(self.dropped)
        metrics.errors.set(self.errors)
        metrics.drifted.clear()
        if state is not None:
            for model, known in state.models.items():
                metrics.drifted.labels(self._label(model)).set(known.drift is not None)


def open_learning(gateway: Gateway, stack: ExitStack, *, kept: bool) -> LearningService | None:
    """The service of a gateway that is about to start; None where nothing is to be learned.

    Args:
        gateway: It.
        stack: Takes what has to be put away in the end.
        kept: Whether what is learned is to outlive the process, under the state folder.
    """
    options = gateway.setup.settings.learning
    if not options.enabled:
        return None
    chosen: dict[str, Any] = {
        "settings": LearningSettings(
            window=options.window,
            neighbour_window=options.neighbour_window,
            weight=options.weight,
            threshold=options.drift_threshold,
        ),
        "publish_every_s": options.publish_every_s,
        "remember": options.remember,
    }
    if kept:
        return LearningService(gateway, books_dir() / FOLDER, **chosen)
    folder = stack.enter_context(
        TemporaryDirectory(prefix="zerorouter-", ignore_cleanup_errors=True)
    )
    return LearningService(gateway, Path(folder), **chosen)


def layout_capacity(decisions: Decisions | None) -> int:
    """Decisions that are remembered."""
    return 0 if decisions is None else decisions.layout.capacity


def _times(router: Router) -> Any:
    known = frozenset(router.models)

    def times(model: str) -> EndpointTimes | None:
        return router.times(model) if model in known else None

    return times


class _Metrics:
    """What Prometheus is told of learning."""

    def __init__(self, gateway: Gateway) -> None:
        self.scores = Counter("zerorouter_feedback", "Scores taken.")
        self.drifts = Counter(
            "zerorouter_drift_events", "Models found to have changed.", ("model", "direction")
        )
        self.drifted = Gauge(
            "zerorouter_drift_state",
            "1 for a model that changed and was not looked after yet.",
            ("model",),
        )
        self.version = Gauge("zerorouter_profile_version", "Of what serving has taught.")
        self.dropped = Gauge(
            "zerorouter_learning_skipped", "Served requests that were not learned from."
        )
        self.errors = Gauge("zerorouter_learning_errors", "Errors of the learning thread.")
        gateway.metrics.series += [
            *(self.scores, self.drifts, self.drifted, self.version, self.dropped, self.errors)
        ]
