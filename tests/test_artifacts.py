from __future__ import annotations

import json

import numpy as np
import pytest

from zerorouter.artifacts import ARRAYS, MANIFEST, load_folder, require_place, save_folder
from zerorouter.errors import ArtifactError, CorruptArtifactError, NewerArtifactError

ARRAY = {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "n": np.array([1, 2], np.uint64)}


def save(folder, arrays=ARRAY, name="toy", version=1, **facts):
    save_folder(folder, format_name=name, format_version=version, arrays=arrays, facts=facts)
    return folder


def load(folder, newest=1):
    return load_folder(folder, format_name="toy", newest_version=newest)


def edit(folder, **changes):
    path = folder / MANIFEST
    facts = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))


def test_what_is_saved_is_loaded(tmp_path):
    arrays, facts = load(save(tmp_path / "deep" / "down" / "f", colour="blå"))
    assert facts["colour"] == "blå"
    for name, value in ARRAY.items():
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == value.dtype


def test_arrays_of_any_memory_layout_are_kept(tmp_path):
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::-1]
    arrays, _ = load(save(tmp_path / "f", {"x": turned}))
    np.testing.assert_array_equal(arrays["x"], turned)


def test_a_save_replaces_an_older_one_and_leaves_nothing_else(tmp_path):
    save(tmp_path / "f", colour="red")
    save(tmp_path / "f", colour="green")
    assert load(tmp_path / "f")[1]["colour"] == "green"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_save_fills_an_empty_folder(tmp_path):
    (tmp_path / "f").mkdir()
    assert load(save(tmp_path / "f"))


@pytest.mark.parametrize("facts", [{"bad": float("nan")}, {"bad": object()}])
def test_facts_that_json_cannot_hold_leave_nothing_behind(tmp_path, facts):
    with pytest.raises((TypeError, ValueError)):
        save(tmp_path / "f", **facts)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_older_save(tmp_path, monkeypatch):
    save(tmp_path / "f", colour="red")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zerorouter.artifacts._write", full)
    with pytest.raises(ArtifactError, match="No space left"):
        save(tmp_path / "f", colour="green")
    assert load(tmp_path / "f")[1]["colour"] == "red"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


# -- places that are not ours ----------------------------------------------------------------------


def foreign_folder(folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")


def foreign_manifest(folder):
    foreign_folder(folder)
    (folder / MANIFEST).write_text('{"name": "a web app"}')


def other_format(folder):
    save(folder, name="something-else")


def with_a_stranger_inside(folder):
    save(folder)
    (folder / "thesis.tex").write_text("years of work")


def plain_file(folder):
    folder.write_text("years of work")


@pytest.mark.parametrize(
    "taken", [foreign_folder, foreign_manifest, other_format, with_a_stranger_inside, plain_file]
)
def test_a_place_that_something_else_has_is_left_alone(tmp_path, taken):
    taken(tmp_path / "f")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ArtifactError, match="exists and is not a toy folder; choose another"):
        save(tmp_path / "f")
    with pytest.raises(ArtifactError, match="exists and is not a toy folder; choose another"):
        require_place(tmp_path / "f", format_name="toy")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_place_under_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file is not a folder that can be written"):
        require_place(tmp_path / "file" / "f", format_name="toy")


def test_a_free_place_is_accepted(tmp_path):
    require_place(tmp_path / "not" / "yet" / "there", format_name="toy")
    require_place(save(tmp_path / "f"), format_name="toy")


# -- damage ----------------------------------------------------------------------------------------


def truncate(folder):
    payload = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(payload[: len(payload) // 2])


def flip_a_bit(folder):
    payload = bytearray((folder / ARRAYS).read_bytes())
    payload[-3] ^= 1
    (folder / ARRAYS).write_bytes(payload)


def mix_two_saves(folder):
    other = save(folder.parent / "other", {"x": np.zeros(3)})
    (folder / ARRAYS).write_bytes((other / ARRAYS).read_bytes())


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncate, "does not match the checksum"),
        (flip_a_bit, "does not match the checksum"),
        (mix_two_saves, "does not match the checksum"),
        (lambda f: (f / ARRAYS).unlink(), "cannot be read"),
        (lambda f: (f / MANIFEST).unlink(), "manifest.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text("{"), "is not JSON"),
        (lambda f: (f / MANIFEST).write_bytes(b'{"a": "\xff"}'), "is not JSON"),
        (lambda f: (f / MANIFEST).write_text("[1]"), "is of format 'list', 'toy' was wanted"),
        (lambda f: edit(f, format="recipe"), "is of format 'recipe', 'toy' was wanted"),
        (lambda f: edit(f, format_version=None), "has no format_version"),
        (lambda f: edit(f, format_version="1"), "has no format_version"),
        (lambda f: edit(f, arrays_sha256=None), "does not match the checksum"),
    ],
)
def test_damage_is_noticed_and_named(tmp_path, damage, told):
    folder = save(tmp_path / "f")
    damage(folder)
    with pytest.raises(CorruptArtifactError, match=told):
        load(folder)


def test_arrays_that_cannot_be_parsed_are_refused_even_with_a_right_checksum(tmp_path):
    import hashlib

    folder = save(tmp_path / "f")
    (folder / ARRAYS).write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
    edit(folder, arrays_sha256=hashlib.sha256((folder / ARRAYS).read_bytes()).hexdigest())
    with pytest.raises(CorruptArtifactError, match="cannot be parsed"):
        load(folder)


def test_a_later_version_is_told_apart_from_damage(tmp_path):
    with pytest.raises(NewerArtifactError, match=r"version 7, this ZeroRouter reads up to 1.*pip"):
        load(save(tmp_path / "f", version=7))


def test_no_folder_at_all_is_told_with_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match=r"no toy folder at .*nowhere; make one"):
        load(tmp_path / "nowhere")
