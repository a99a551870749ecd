"""The one learner: events in, published versions out. It knows no gateway and no event loop."""

from __future__ import annotations

import base64
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from zerorouter.errors import BooksError, CorruptArtifactError, UnknownNameError, ZeroRouterError
from zerorouter.gateway.learning.decisions import Layout, item_of
from zerorouter.gateway.learning.events import EventReader
from zerorouter.gateway.learning.versions import Published, Versions
from zerorouter.learning import (
    DEFAULTS,
    Ground,
    LearnedState,
    LearningSettings,
    Served,
    answered,
    forgotten,
    take_score,
    take_served,
)
from zerorouter.predict.serving_times import EndpointTimes, ServedRequest
from zerorouter.space import LatentSpace

RECENT: Final = 512  # decisions that are not learned from twice, whatever a crash left behind
PUBLISH_EVERY_S: Final = 5.0

Times = Callable[[str], EndpointTimes | None]
OnEvent = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a step of the learner came to.

    Attributes:
        events: Read.
        published: The version that was put in force; None for none.
    """

    events: int
    published: int | None


def layout_of(space: LatentSpace) -> Layout:
    """The layout of decisions made in a space."""
    predictor = space.predictor
    return Layout(
        space=space.version,
        n_dims=predictor.n_dims,
        n_facets=int(predictor.facet_weights.shape[1]),
        n_prototypes=len(predictor.prototypes.centroids),
    )


class Learner:
    """Consumes the events of a folder and publishes versions; one process at a time.

    Args:
        folder: Holds ``events`` and the versions.
        space: With the profiles in force.
        times: What is told of a model's endpoint before it was seen.
        settings: Pace.
        on_event: Told of what a person should see: ``drift``, ``skipped``, ``version``,
            ``damaged``.
        publish_every_s: Between two versions at least.

    Attributes:
        state: What is known, published or not.
    """

    def __init__(
        self,
        folder: Path,
        space: LatentSpace,
        *,
        times: Times = lambda _model: None,
        settings: LearningSettings = DEFAULTS,
        on_event: OnEvent = lambda _name, _facts: None,
        publish_every_s: float = PUBLISH_EVERY_S,
    ) -> None:
        self._versions = Versions(folder)
        self._settings = settings
        self._on_event = on_event
        self._every_s = publish_every_s
        found, wrong = self._versions.latest()
        for message in wrong:
            on_event("damaged", {"message": message})
        self._newest = max((0 if found is None else found.state.version, *self._versions.numbers()))
        self._reader = EventReader(folder / "events", {} if found is None else found.cursors)
        self._recent: OrderedDict[str, None] = OrderedDict.fromkeys(
            () if found is None else found.recent
        )
        self._ground, self._layout, self._times = Ground(space), layout_of(space), times
        self.state = self._ground.start() if found is None else self._ground.current(found.state)
        self._dirty = bool(wrong) or (found is not None and self.state is not found.state)
        self._urgent = False
        self._published_at = 0.0

    @property
    def is_dirty(self) -> bool:
        """Whether something is known that was not published."""
        return self._dirty

    def take_space(self, space: LatentSpace, times: Times) -> None:
        """Go on with another space, or with other profiles in it."""
        self._ground, self._layout, self._times = Ground(space), layout_of(space), times
        state = self._ground.current(self.state)
        if state is not self.state:
            self.state, self._dirty = state, True

    def step(self, now_s: float, *, max_s: float = 0.1) -> Progress:
        """Read events for a while, and publish if it is time.

        Raises:
            BooksError: events cannot be read, or a version not be written; nothing is lost, the
                next step goes on.
        """
        n, until = 0, time.monotonic() + max_s
        while time.monotonic() < until:
            rows = self._reader.next()
            if not rows:
                break
            n += len(rows)
            for kind, fields in rows:
                self._take(kind, fields)
        due = self._urgent or now_s - self._published_at >= self._every_s
        return Progress(events=n, published=self.publish(now_s) if self._dirty and due else None)

    def publish(self, now_s: float) -> int:
        """Put what is known in force; returns its version.

        Raises:
            StorageFullError: it cannot be written.
        """
        version = self._newest + 1
        state = replace(self.state, version=version)
        self._versions.publish(
            Published(
                state=state, at_s=now_s, cursors=self._reader.cursors, recent=tuple(self._recent)
            )
        )
        self._newest, self._published_at = version, now_s
        self.state = replace(state, note="")
        self._dirty = self._urgent = False
        self._reader.sweep()
        return version

    # -- events ----------------------------------------------------------------------------------

    def _take(self, kind: str, fields: Mapping[str, Any]) -> None:
        try:
            if kind == "score":
                self._take_score(fields)
            elif kind == "served":
                for row in fields["rows"]:
                    self._take_served(row)
            elif kind == "command":
                self._take_command(fields)
        except (ZeroRouterError, KeyError, TypeError, ValueError) as error:
            # What was taken is never a reason to stop learning from the rest.
            self._on_event("skipped", {"kind": kind, "message": str(error)[:300]})
        self._dirty = True

    def _take_score(self, fields: Mapping[str, Any]) -> None:
        decision_id = str(fields["id"])
        if decision_id in self._recent:
            return
        self._recent[decision_id] = None
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        if fields["space"] != self._layout.space:
            raise BooksError(f"decision {decision_id} was made in another space")
        self.state, surprise = take_score(
            self.state,
            self._ground,
            str(fields["model"]),
            item_of(base64.b64decode(fields["record"]), self._layout),
            float(fields["score"]),
            at_s=float(fields["at_s"]),
            settings=self._settings,
        )
        if surprise.drift is not None:
            self._urgent = True
            self._on_event(
                "drift",
                {
                    "model": fields["model"],
                    "direction": surprise.drift.direction,
                    "scores": surprise.drift.n_scores,
                },
            )

    def _take_served(self, row: Mapping[str, Any]) -> None:
        model, request = str(row["model"]), None
        if row.get("end_to_end_s"):
            request = ServedRequest(
                output_tokens=float(row["output_tokens"]),
                end_to_end_s=float(row["end_to_end_s"]),
                ttft_s=row.get("ttft_s"),
                input_tokens=float(row.get("input_tokens") or 0.0),
            )
        self.state = take_served(
            self.state,
            self._ground,
            model,
            Served(
                upstream=str(row["upstream"]),
                request=request,
                log_ratio=row.get("log_ratio"),
                at_s=float(row["at_s"]),
            ),
            told=self._times(model),
            settings=self._settings,
        )

    def _take_command(self, fields: Mapping[str, Any]) -> None:
        action, self._urgent = str(fields["action"]), True
        if action == "rollback":
            number = int(fields["version"])
            try:
                found = self._versions.load(number).state
            except (UnknownNameError, CorruptArtifactError) as error:
                raise BooksError(f"not gone back: {error}") from error
            self.state = replace(self._ground.current(found), note=f"back to {number}")
        elif action == "forget":
            self.state = replace(
                forgotten(self.state, str(fields["model"])), note=f"forgot {fields['model']}"
            )
        elif action == "answered":
            self.state = answered(self.state, str(fields["model"]))
        elif action == "reset":
            self.state = replace(self._ground.start(), note="reset")
        else:
            raise BooksError(f"an event of the unknown action {action!r}")
        self._on_event("version", {"action": action, **{k: fields[k] for k in fields if k != "at"}})


def usable(state: LearnedState | None, space: LatentSpace) -> LearnedState | None:
    """What of a published state holds for a space with the profiles in force; None for nothing."""
    if state is None:
        return None
    current = Ground(space).current(state)
    learned = bool(current.models) or bool(current.shift.any())
    return current if learned or state.version else None
