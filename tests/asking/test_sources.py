"""Where anchors come from: generated tasks of the shipped space, and folders."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from asking.toy import reference_of, write_toy
from data.data_folders import write_folder
from simulated_records import fitted_space
from zerorouter.asking.generated import UNSAFE_GENERATORS, VERSION, generate, system_prompt
from zerorouter.asking.graders import Grade
from zerorouter.asking.sources import FolderSource, GymSource, TagGrader, asked
from zerorouter.data.digests import question_digest
from zerorouter.errors import DataError, InputError, UnknownNameError
from zerorouter.known_items import KnownItems, load_known_items
from zerorouter.onboarding.evidence import calibrated_index, key_of, prefix_of
from zerorouter.space import LatentSpace

pytest.importorskip("reasoning_gym")


@cache
def shipped() -> LatentSpace:
    return LatentSpace.load()


@cache
def gym(anchor_set: str = "published") -> GymSource:
    return GymSource(shipped(), shipped().reader(), load_known_items(), anchor_set=anchor_set)


def positions(source: GymSource, generator: str) -> list[int]:
    return [i for i, ref in enumerate(source.candidates.refs) if f"/{generator}/" in ref]


def test_published_prompts_carry_the_parameters_of_the_item_with_their_hash():
    source = gym()
    assert len(source.candidates) > 5_000
    index = calibrated_index(shipped())
    at = index.find(prefix_of(source.candidates.keys))
    assert (at >= 0).all()
    expected = shipped().calibrated.items.take(at)
    np.testing.assert_array_equal(source.candidates.items.intercept, expected.intercept)
    np.testing.assert_array_equal(source.candidates.items.discrimination, expected.discrimination)


@pytest.mark.parametrize(
    "generator", ["gcd", "letter_counting", "knights_knaves", "base_conversion"]
)
def test_a_prompt_made_anew_has_the_hash_that_was_promised(generator):
    source = gym()
    for at in positions(source, generator)[::17]:
        anchor = source.make(at)
        assert anchor.key == key_of(question_digest(anchor.question)) == source.candidates.keys[at]
        assert anchor.item is None
        assert anchor.published
        assert VERSION not in anchor.ref
        assert "seed=45" in anchor.ref


def test_a_prompt_with_another_hash_is_dropped_with_a_message():
    known = load_known_items()
    at = positions(gym(), "gcd")[0]
    row = int(known.find(np.array([[int(gym().candidates.keys[at], 16), 0]], dtype=np.uint64))[0])
    place = known.place.copy()
    place[row] = (place[row] + 1) % 50  # as if the package drew in another order
    altered = dataclasses.replace(known, place=place)
    source = GymSource(shipped(), shipped().reader(), altered)
    at = source.candidates.keys.index(gym().candidates.keys[at])
    with pytest.raises(InputError, match=r"gcd/seed=45/\d+: the text .* has hash"):
        source.make(at)


def test_fresh_prompts_carry_their_generators_parameters_with_the_variance_within():
    source = gym("fresh")
    assert not source.published.any()
    at = positions(source, "gcd")
    anchor = source.make(at[0])
    index = calibrated_index(shipped())
    assert index.find(prefix_of([anchor.key]))[0] == -1, "a fresh prompt is none of the calibrated"
    own = [i for i in positions(gym(), "gcd") if "/easy/" in gym().candidates.refs[i]]
    published = gym().candidates.items.take(np.array(own))
    easy = [i for i in at if "/easy/" in source.candidates.refs[i]]
    fresh = source.candidates.items.take(np.array(easy))
    np.testing.assert_allclose(fresh.intercept, published.intercept.mean(), atol=0.05)
    psi = float(published.effect_covariance[-1, -1])
    assert (fresh.effect_scale * psi >= np.var(published.intercept) - 1e-3).all()
    assert (fresh.effect_scale > published.effect_scale.mean()).all()
    assert anchor.item is not None
    assert source.make(at[0]).question == anchor.question


def test_other_seeds_make_other_fresh_prompts():
    other = GymSource(shipped(), shipped().reader(), load_known_items(), anchor_set="fresh", seed=1)
    at = positions(gym("fresh"), "gcd")[0]
    assert other.make(at).question != gym("fresh").make(at).question


def test_a_mixed_set_holds_both():
    published = gym("mixed").published
    assert published.any()
    assert not published.all()


def test_no_grader_that_runs_answers_as_code_is_ever_used():
    for anchor_set in ("published", "fresh"):
        generators = {ref.split("/")[2] for ref in gym(anchor_set).candidates.refs}
        assert not generators & UNSAFE_GENERATORS
    for generator in UNSAFE_GENERATORS:
        with pytest.raises(InputError, match="runs answers as code"):
            generate(generator, {}, seed=45, size=50, place=0)


def test_the_reference_scores_one_and_an_unread_reply_is_told():
    anchor = gym().make(positions(gym(), "gcd")[0])
    reference = anchor.grader.prompt.reference
    assert anchor.grader(f"Well. <answer>{reference}</answer>") == Grade(1.0)
    assert anchor.grader(reference) == Grade(1.0)
    assert anchor.grader("I wonder. " * 100).found is False
    assert anchor.grader("") == Grade(0.0, found=False)


def test_a_grader_that_trips_scores_zero():
    class Tripping:
        def score_answer(self, answer, entry):
            raise RecursionError(answer, entry)

    made = dataclasses.replace(gym().make(positions(gym(), "gcd")[0]).grader.prompt)
    broken = dataclasses.replace(made, _dataset=Tripping())
    assert TagGrader(prompt=broken)("<answer>1</answer>") == Grade(0.0)


def test_the_instruction_is_the_one_of_the_records():
    assert "<answer>" in system_prompt()
    anchor = gym().make(positions(gym(), "gcd")[0])
    assert [m["role"] for m in anchor.messages(gym().system)] == ["system", "user"]


def test_nothing_of_the_packages_chatter_is_printed(capsys):
    for at in positions(gym(), "rearc")[:1]:
        gym().make(at)
    assert capsys.readouterr().out == ""


def test_a_space_without_these_tasks_says_what_to_do():
    space = fitted_space()
    with pytest.raises(InputError, match="--data DIR"):
        GymSource(space, space.reader(), load_known_items())


def test_an_unknown_anchor_set_is_told():
    with pytest.raises(UnknownNameError, match="did you mean 'fresh'"):
        GymSource(shipped(), shipped().reader(), load_known_items(), anchor_set="fres")


# -- the table of known items --------------------------------------------------------------------


def test_the_table_knows_every_calibrated_item_of_the_shipped_space():
    known = load_known_items()
    rows = known.find(shipped().calibrated.digests)
    assert (rows >= 0).all()
    assert {task.dataset for task in known.tasks} == {
        *("mmlu-pro", "zeroeval", "reasoning-gym", "cruxeval")
    }
    assert {known.tasks[int(t)].domain for t in known.task} > {"mathematics", "law", "code"}


def test_the_table_survives_saving(tmp_path):
    known = load_known_items()
    known.save(tmp_path / "table")
    again = KnownItems.load(tmp_path / "table")
    np.testing.assert_array_equal(again.prefix, known.prefix)
    np.testing.assert_array_equal(again.place, known.place)
    assert again.tasks == known.tasks


# -- folders -------------------------------------------------------------------------------------


def test_prompts_that_the_space_calibrated_carry_their_own_parameters(tmp_path):
    space = fitted_space()
    source = FolderSource(write_toy(tmp_path / "toy", 40), space, space.reader())
    at = calibrated_index(space).find(prefix_of(source.candidates.keys))
    np.testing.assert_array_equal(
        source.candidates.items.intercept, space.calibrated.items.intercept[at]
    )
    anchor = source.make(3)
    assert anchor.item is None
    assert anchor.grader(reference_of(anchor.question)) == Grade(1.0)


def test_other_prompts_carry_what_their_text_predicts_whatever_their_order(tmp_path):
    space = fitted_space()
    known = dict(zip(("prompt_id", "text"), ("q0", ""), strict=True))
    from asking.toy import toy_prompts

    known = toy_prompts()[0][0]
    rows = [
        {
            "prompt_id": "new",
            "text": "Work out 5 + 6 and write the sum, please.",
            "reference": "11",
        },
        {**known, "prompt_id": "old"},
        {"prompt_id": "another", "text": "Name a river.", "reference": "Tejo"},
    ]
    source = FolderSource(write_folder(tmp_path / "mine", prompts=rows), space, space.reader())
    assert source.candidates.refs == ("mine/new", "mine/old", "mine/another")
    at = calibrated_index(space).find(prefix_of(source.candidates.keys))
    assert list(at >= 0) == [False, True, False]
    assert source.candidates.items.intercept[1] == space.calibrated.items.intercept[at[1]]
    assert source.make(1).item is None
    assert source.make(0).item.intercept == pytest.approx(
        float(source.candidates.items.intercept[0]), abs=1e-4
    )
    assert source.targets.groups == ("mine", "mine/arithmetic")


def test_prompts_without_a_usable_reference_are_left_out_and_counted(tmp_path):
    space = fitted_space()
    rows = [
        {"prompt_id": "a", "text": "One?", "reference": "1"},
        {"prompt_id": "b", "text": "Two?"},
        {"prompt_id": "c", "text": "Three?", "reference": "many"},
    ]
    folder = write_folder(tmp_path / "mine", prompts=rows)
    source = FolderSource(folder, space, space.reader(), grader="number")
    assert source.candidates.refs == ("mine/a",)
    assert source.notes == [
        "2 prompts cannot be graded and are left out: prompt 2 has no reference"
    ]
    with pytest.raises(InputError, match="none of 3 prompts can be graded with 'choice'"):
        FolderSource(folder, space, space.reader(), grader="choice")


def test_a_large_folder_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr("zerorouter.asking.sources.MOST_PROMPTS", 20)
    space = fitted_space()
    folder = write_toy(tmp_path / "toy", 60)
    source = FolderSource(folder, space, space.reader())
    assert len(source.candidates) == 20
    assert source.notes == ["20 of 60 prompts are on offer, a sample"]
    assert source.candidates.refs == FolderSource(folder, space, space.reader()).candidates.refs


def test_a_folder_of_prompts_alone_will_do(tmp_path):
    folder = write_toy(tmp_path / "toy", 5)
    (folder / "responses.jsonl").unlink()
    space = fitted_space()
    assert len(FolderSource(folder, space, space.reader()).candidates) == 5
    with pytest.raises(DataError, match="wanted a folder with prompts"):
        FolderSource(tmp_path / "nowhere", space, space.reader())


def test_options_are_lettered_one_a_line():
    assert asked("Which?", ("x", "y")) == "Which?\n\nA) x\nB) y"
    assert asked("Which?", ()) == "Which?"


def test_prompts_that_repeat_are_on_offer_once(tmp_path):
    rows = [
        {"prompt_id": f"q{i}", "text": text, "reference": "5"}
        for i, text in enumerate(["What is 2 + 3?", "what  is 2 + 3?", "What is 1 + 4?"])
    ]
    folder = write_folder(tmp_path / "sums", prompts=rows, responses=[], models=[])
    source = FolderSource(folder, fitted_space(), fitted_space().reader())
    assert source.candidates.refs == ("sums/q0", "sums/q2")
    assert source.notes == ["1 prompts repeat others; asked once each"]


def test_prompts_are_chosen_by_what_their_text_tells_of_calibrated_items(toy_folder):
    """The parameters by which answers are judged stay the calibrated ones."""
    space = fitted_space()
    own = FolderSource(toy_folder, space, space.reader()).candidates
    at = calibrated_index(space).find(prefix_of(own.keys))
    assert (at >= 0).all()
    assert own.as_read is not None
    for parameters, told in (
        (own.items, space.calibrated.items),
        (own.as_read, space.calibrated.expected),
    ):
        np.testing.assert_array_equal(parameters.discrimination, told.discrimination[at])
        np.testing.assert_array_equal(parameters.intercept, told.intercept[at])
