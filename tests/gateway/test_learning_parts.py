"""Decisions, events and versions on disk: bounded, shared, and nothing lost or counted twice."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from gateway.conftest import GPT, MINI
from zerorouter.errors import CorruptArtifactError, StorageFullError, UnknownNameError
from zerorouter.gateway.learning.decisions import Decisions, digest_of, item_of
from zerorouter.gateway.learning.events import EventReader, EventWriter
from zerorouter.gateway.learning.learner import Learner, layout_of, usable
from zerorouter.gateway.learning.versions import LATEST, Published, Versions
from zerorouter.learning import Ground, take_score
from zerorouter.router import Router
from zerorouter.space import SHIFT_REACH, Shifts

PROMPTS = ["What is 17 * 23?", "Write a poem.", "Translate 'good morning' into French."]


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.load(profiles=())


def remembered(router: Router, folder: Path, text: str = PROMPTS[0], key: str = "") -> str:
    decisions = Decisions(folder, layout_of(router.space))
    decision = router.route(text)
    readings = decision.weighing.readings
    assert readings is not None
    decisions.remember(decision.decision_id, decision.model, readings, 0, key_id=key, at_s=5.0)
    decisions.close()
    return decision.decision_id


# -- decisions -------------------------------------------------------------------------------------


def test_a_remembered_decision_says_what_the_prompt_was_read_as(
    router: Router, tmp_path: Path
) -> None:
    decisions = Decisions(tmp_path, layout_of(router.space))
    made = {text: router.route(text) for text in PROMPTS}
    for decision in made.values():
        readings = decision.weighing.readings
        assert readings is not None
        decisions.remember(
            decision.decision_id, decision.model, readings, 0, key_id="0123456789ab", at_s=7.5
        )
    for decision in made.values():
        found = decisions.find(decision.decision_id)
        assert found is not None
        assert found.score is None
        assert found.key_id == "0123456789ab"
        assert found.model_digest == digest_of(decision.model)
        assert found.at_s == 7.5
        item, readings = item_of(found.record, decisions.layout), decision.weighing.readings
        assert readings is not None
        assert readings.similarity is not None
        assert readings.items.facets is not None
        np.testing.assert_allclose(item.discrimination, readings.items.discrimination[0])
        assert item.intercept == pytest.approx(float(readings.items.intercept[0]))
        assert item.shift_variance == pytest.approx(float(readings.items.shift_variance[0]))
        assert item.facets is not None
        np.testing.assert_allclose(item.facets, readings.items.facets[0], atol=1e-3)
        cosines = readings.similarity[0]
        near = cosines > cosines.max() - SHIFT_REACH
        np.testing.assert_allclose(item.similarity[near], cosines[near], atol=0.01)
        assert (item.similarity[cosines < cosines.max() - SHIFT_REACH - 0.02] == -1).all()
        kernels = Shifts.kernel(item.similarity), Shifts.kernel(cosines)
        np.testing.assert_allclose(*kernels, atol=0.05)
    assert decisions.find("00" * 12) is None
    assert decisions.find("zz") is None
    decisions.close()


def test_what_was_learned_is_not_learned_from_again(router: Router, tmp_path: Path) -> None:
    """A decision made by a taught router is remembered as the space alone reads its prompt."""
    ground = Ground(router.space)
    plain = router.route(PROMPTS[0])
    decisions = Decisions(tmp_path, layout_of(router.space))
    state = ground.start()
    shift, variance = state.shift + 0.8, state.variance / 2
    taught = router.with_learned(replace(state, shift=shift, variance=variance, version=1))
    moved = taught.route(PROMPTS[0])
    for decision in (plain, moved):
        readings = decision.weighing.readings
        assert readings is not None
        decisions.remember(decision.decision_id, GPT, readings, 0, key_id="", at_s=0.0)
    one, two = (decisions.find(d.decision_id) for d in (plain, moved))
    assert one is not None
    assert two is not None
    first, second = (item_of(found.record, decisions.layout) for found in (one, two))
    assert second.intercept == pytest.approx(first.intercept, abs=1e-5)
    assert second.shift_variance == pytest.approx(first.shift_variance, abs=1e-6)
    decisions.close()


def test_the_latest_decisions_are_kept_and_older_ones_forgotten(
    router: Router, tmp_path: Path
) -> None:
    layout = replace(layout_of(router.space), capacity=8)
    decisions = Decisions(tmp_path, layout)
    ids = []
    for i in range(20):
        decision = router.route(f"{PROMPTS[0]} {i}")
        readings = decision.weighing.readings
        assert readings is not None
        decisions.remember(decision.decision_id, GPT, readings, 0, key_id="", at_s=0.0)
        ids.append(decision.decision_id)
    assert [decisions.find(one) is not None for one in ids] == [False] * 12 + [True] * 8
    size = (tmp_path / "remembered-000.bin").stat().st_size
    assert size == layout.mapped_bytes + 8 * layout.record_bytes
    decisions.close()


def test_workers_find_each_others_decisions_and_a_score_is_claimed_once(
    router: Router, tmp_path: Path
) -> None:
    layout = layout_of(router.space)
    one, two = Decisions(tmp_path, layout), Decisions(tmp_path, layout)
    decision = router.route(PROMPTS[1])
    readings = decision.weighing.readings
    assert readings is not None
    one.remember(decision.decision_id, decision.model, readings, 0, key_id="", at_s=0.0)
    found = two.find(decision.decision_id)
    assert found is not None
    with two.claiming():
        two.claim(found, 0.25)
    again = one.find(decision.decision_id)
    assert again is not None
    assert again.score == 0.25
    one.close()
    two.close()


def test_decisions_outlive_their_worker_and_not_their_space(router: Router, tmp_path: Path) -> None:
    decision_id = remembered(router, tmp_path)
    layout = layout_of(router.space)
    again = Decisions(tmp_path, layout)
    assert again.find(decision_id) is not None
    again.close()
    other = Decisions(tmp_path, replace(layout, space="another"))
    assert other.find(decision_id) is None
    other.close()


# -- events ----------------------------------------------------------------------------------------


def test_events_come_back_in_each_writers_order_and_only_once(tmp_path: Path) -> None:
    writers = [EventWriter(tmp_path, segment_bytes=200) for _ in range(2)]
    for i in range(30):
        writers[i % 2].append("score", {"i": i})
    reader = EventReader(tmp_path, {})
    got = []
    while rows := reader.next(max_bytes=64):
        got += [fields["i"] for _, fields in rows]
    assert [i for i in got if i % 2 == 0] == list(range(0, 30, 2))
    assert [i for i in got if i % 2] == list(range(1, 30, 2))
    later = EventReader(tmp_path, reader.cursors)
    assert later.next() == []
    writers[0].append("score", {"i": 30})
    assert [fields["i"] for _, fields in later.next()] == [30]
    for writer in writers:
        writer.close()


def test_segments_are_deleted_once_read_and_left(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, segment_bytes=100)
    for i in range(10):
        writer.append("score", {"i": i, "text": "x" * 40})
    reader = EventReader(tmp_path, {})
    reader.sweep()
    assert len(list(tmp_path.glob("*.log"))) == 10  # nothing was read yet
    while reader.next():
        pass
    reader.sweep()
    assert len(list(tmp_path.glob("*.log"))) == 1  # the one that is written to
    writer.close()
    reader.sweep()
    assert list(tmp_path.glob("*.log")) == []
    assert reader.cursors == {}


def test_half_a_line_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.append("score", {"i": 1})
    writer.close()
    (path,) = tmp_path.glob("*.log")
    with path.open("ab") as file:
        file.write(b'00000000 ["score",{"i"')
    reader = EventReader(tmp_path, {})
    assert [fields["i"] for _, fields in reader.next()] == [1]
    assert reader.next() == []
    reader.sweep()
    assert list(tmp_path.glob("*.log")) == []


def test_a_full_disk_acknowledges_nothing_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = EventWriter(tmp_path)
    writer.append("score", {"i": 1})
    real = os.write

    def short(handle: int, data: bytes) -> int:
        return real(handle, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(StorageFullError, match="nothing was acknowledged"):
        writer.append("score", {"i": 2})
    monkeypatch.setattr(os, "write", real)
    writer.append("score", {"i": 3})
    writer.close()
    reader = EventReader(tmp_path, {})
    assert [fields["i"] for _, fields in reader.next()] == [1, 3]
    assert reader.damaged == 0


# -- versions --------------------------------------------------------------------------------------


def published(router: Router, version: int, at_s: float = 0.0) -> Published:
    state = replace(Ground(router.space).start(), version=version)
    return Published(state=state, at_s=at_s, cursors={"a.log": 7}, recent=("x",))


def test_versions_come_back_whole_and_are_thinned_out(router: Router, tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    assert versions.current() is None
    assert versions.stamp() is None
    now = 10 * 86_400.0
    for number in range(1, 31):
        versions.publish(published(router, number, now))
        path = tmp_path / "versions" / f"{number:08d}.json"
        os.utime(path, (now + number, now + number))
    back = versions.current()
    assert back is not None
    assert back.state.version == 30
    assert back.cursors == {"a.log": 7}
    assert back.recent == ("x",)
    # The latest ten, and of this hour's earlier ones the last.
    assert len(versions.numbers()) == LATEST + 1
    with pytest.raises(UnknownNameError):
        versions.load(3)
    assert versions.listed()[0]["version"] == 30


def test_a_damaged_version_gives_way_to_the_one_before(router: Router, tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    for number in (1, 2):
        versions.publish(published(router, number))
    (tmp_path / "current.json").write_text("{", encoding="utf-8")
    (tmp_path / "versions" / "00000002.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CorruptArtifactError):
        versions.current()
    found, wrong = versions.latest()
    assert found is not None
    assert found.state.version == 1
    assert len(wrong) == 2
    assert versions.listed()[0] == {"version": 2, "damaged": True}


# -- the learner -----------------------------------------------------------------------------------


class Bench:
    """A learner's folder with a writer in it."""

    def __init__(self, folder: Path, router: Router) -> None:
        self.folder, self.router = folder, router
        self.writer = EventWriter(folder / "events")
        self.told: list[tuple[str, dict]] = []

    def learner(self) -> Learner:
        return Learner(
            self.folder,
            self.router.space,
            times=self.router.times,
            on_event=lambda name, facts: self.told.append((name, facts)),
            publish_every_s=0.0,
        )

    def score(self, text: str, model: str, value: float, decision_id: str | None = None) -> str:
        decisions = Decisions(self.folder / "d", layout_of(self.router.space))
        decision = self.router.route(text)
        readings = decision.weighing.readings
        assert readings is not None
        decisions.remember(decision.decision_id, model, readings, 0, key_id="", at_s=0.0)
        found = decisions.find(decision.decision_id)
        assert found is not None
        name = decision_id or decision.decision_id
        self.writer.append(
            "score",
            {
                "id": name,
                "model": model,
                "score": value,
                "at_s": 1.0,
                "space": self.router.space.version,
                "record": base64.b64encode(found.record).decode(),
            },
        )
        decisions.close()
        return name


@pytest.fixture
def bench(tmp_path: Path, router: Router) -> Bench:
    return Bench(tmp_path, router)


def test_a_learner_that_is_killed_before_it_publishes_loses_and_doubles_nothing(
    bench: Bench,
) -> None:
    for text in PROMPTS:
        bench.score(text, GPT, 0.0)
    first = bench.learner()
    first._every_s = 1e9
    first._published_at = 0.0
    assert first.step(1.0).published is None  # read, not published: then it dies
    assert first.state.n_scores == 3
    second = bench.learner()
    assert second.state.n_scores == 0
    assert second.step(2.0).published == 1
    third = bench.learner()
    assert third.step(3.0).events == 0
    assert third.state.n_scores == 3
    np.testing.assert_array_equal(third.state.models[GPT].mean, first.state.models[GPT].mean)


def test_an_event_that_was_written_twice_counts_once(bench: Bench) -> None:
    name = bench.score(PROMPTS[0], GPT, 0.0)
    bench.score(PROMPTS[0], GPT, 0.0, name)
    learner = bench.learner()
    learner.step(1.0)
    bench.score(PROMPTS[0], GPT, 0.0, name)
    again = bench.learner()
    again.step(2.0)
    assert again.state.n_scores == 1


def test_it_learns_what_the_pure_steps_learn(bench: Bench, router: Router) -> None:
    bench.score(PROMPTS[0], GPT, 0.0)
    bench.score(PROMPTS[0], MINI, 1.0)
    learner = bench.learner()
    learner.step(1.0)
    ground = Ground(router.space)
    state = ground.start()
    decisions = Decisions(bench.folder / "e", layout_of(router.space))
    decision = router.route(PROMPTS[0])
    readings = decision.weighing.readings
    assert readings is not None
    decisions.remember(decision.decision_id, GPT, readings, 0, key_id="", at_s=0.0)
    found = decisions.find(decision.decision_id)
    assert found is not None
    item = item_of(found.record, decisions.layout)
    for model, score in ((GPT, 0.0), (MINI, 1.0)):
        state, _ = take_score(state, ground, model, item, score, at_s=1.0)
    np.testing.assert_allclose(learner.state.shift, state.shift)
    for model in (GPT, MINI):
        np.testing.assert_allclose(learner.state.models[model].mean, state.models[model].mean)
    decisions.close()


def test_going_back_is_a_new_version_and_keeps_later_events(bench: Bench) -> None:
    learner = bench.learner()
    bench.score(PROMPTS[0], GPT, 0.0)
    learner.step(1.0)
    bench.score(PROMPTS[1], GPT, 0.0)
    learner.step(2.0)
    bench.writer.append("command", {"action": "rollback", "version": 1, "at": 3.0})
    bench.score(PROMPTS[2], GPT, 0.0)
    assert learner.step(3.0).published == 3
    assert learner.state.n_scores == 2
    kept = Versions(bench.folder).load(3).state
    assert kept.note == "back to 1"
    assert bench.learner().state.version == 3


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("score", {"id": "1"}),
        ("score", {"id": "1", "space": "another"}),
        ("served", {"rows": [{"model": GPT}]}),
        ("command", {"action": "dance"}),
        ("command", {"action": "rollback", "version": 99}),
    ],
)
def test_what_cannot_be_read_is_told_of_and_passed_over(
    bench: Bench, kind: str, fields: dict
) -> None:
    bench.writer.append(kind, fields)
    bench.score(PROMPTS[0], GPT, 0.0)
    learner = bench.learner()
    learner.step(1.0)
    assert learner.state.n_scores == 1
    assert [name for name, _ in bench.told] == ["skipped"]


def test_damaged_state_is_told_of_and_learning_goes_on(bench: Bench) -> None:
    bench.score(PROMPTS[0], GPT, 0.0)
    bench.learner().step(1.0)
    (bench.folder / "current.json").write_text("garbage", encoding="utf-8")
    learner = bench.learner()
    assert learner.state.n_scores == 1
    assert bench.told[-1][0] == "damaged"
    assert learner.step(2.0).published == 2


def test_a_state_of_another_space_is_not_used(router: Router) -> None:
    ground = Ground(router.space)
    learned = replace(ground.start(), version=3, shift=ground.start().shift + 1)
    assert usable(learned, router.space) is learned
    assert usable(None, router.space) is None
    foreign = replace(learned, space_version="another", models=MappingProxyType({}))
    used = usable(foreign, router.space)
    assert used is not None
    assert not used.shift.any()


def test_versions_hold_no_text(bench: Bench) -> None:
    bench.score("A very secret question about Zanzibar?", GPT, 0.0)
    bench.learner().step(1.0)
    for path in bench.folder.rglob("*"):
        if path.is_file():
            assert b"Zanzibar" not in path.read_bytes()
    assert json.loads((bench.folder / "current.json").read_text())["learned"]["n_scores"] == 1
