"""Which prompts are in truth one, by invented examples and by law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerorouter.data.disjoint import DisjointSets
from zerorouter.data.duplicates import bare_question, code_body, duplicate_groups, folded
from zerorouter.data.responses import PromptTable

FUNCTION = "def f(word):\n    half = len(word) // 2\n\n    return word[half:] + word[:half]"


def groups_of(*texts: str) -> list[int]:
    return duplicate_groups(PromptTable.of_texts(texts)).tolist()


def same(left: str, right: str) -> bool:
    return len(set(groups_of(left, right))) == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Name the longest river.", "name  the\nlongest river"),
        ("What is “irony”, please?", 'What is "irony" please'),
        ("It’s a long–lost twin", "It's a long-lost twin"),
        ("Solve ｘ + 12 = 30 now", "Solve x + 12 = 30 now"),
        ("Strasse nach Norden", "STRAẞE NACH NORDEN"),
        ("Compute 10² + 7 for me", "Compute 10^2 + 7 for me"),
    ],
)
def test_case_space_and_punctuation_do_not_tell_prompts_apart(left, right):
    assert same(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("What is 3+4 in all?", "What is 3-4 in all?"),
        ("What is 1.5 doubled?", "What is 15 doubled?"),
        ("Sort the list [1,2,3]", "Sort the list [12,3]"),
        ("Compute 10² + 7 for me", "Compute 102 + 7 for me"),
        ("Add 12 and 3 quickly", "Add 1 and 23 quickly"),
        ("Derive f(x) by hand", "Derive fx by hand"),
        ("Evaluate 5! for me", "Evaluate 5 for me"),
        ("Play on:\n. . X .\n. O . .", "Play on:\n. X . .\n. . O ."),
    ],
)
def test_digits_and_operators_tell_prompts_apart(left, right):
    assert not same(left, right)


def test_options_are_no_part_of_the_question():
    table = PromptTable(
        ids=("a", "b"),
        texts=("Which holds for rivers?",) * 2,
        tasks=(None, None),
        choices_json=('["wet", "dry"]', '["long", "short"]'),
        references=(None, None),
        dataset=np.array([0, 0], dtype=np.int32),
        dataset_names=("x",),
    )
    assert duplicate_groups(table).tolist() == [0, 0]


def test_groups_run_across_data_sets():
    tables = [PromptTable.of_texts(["Where do storks winter?"], dataset=name) for name in "ab"]
    assert duplicate_groups(PromptTable.join(tables)).tolist() == [0, 0]


@pytest.mark.parametrize(
    "wrapped",
    [
        "Where do storks winter?\nA) Africa\nB) Iceland\nAnswer:",
        "Where do storks winter?\nA. Africa\nB. Iceland\nC. Peru\nAnswer with a letter only.",
        "Where do storks winter?\n(A) Africa\n(B) Iceland\n\nPlease reply with one letter",
        'Where do storks winter?\nA) Africa\nB) Iceland\nPrint only one of "A" or "B".\nAnswer:',
    ],
)
def test_a_question_in_a_choice_template_is_the_bare_question(wrapped):
    assert bare_question(wrapped) == "Where do storks winter?"
    assert same(wrapped, "Where do storks winter?")


@pytest.mark.parametrize(
    "text",
    [
        "Press the buttons to reach 8.\nA) add 2\nB) double",
        "Rank these:\nA) oak\nB) elm\nWhich of the two grows faster in clay soil?",
        "Only one option:\nA) this\nAnswer:",
    ],
)
def test_lettered_lines_without_an_answer_instruction_are_content(text):
    assert bare_question(text) is None


@pytest.mark.parametrize(
    "wrapped",
    [
        f"{FUNCTION}\nassert f('ab') == ??",
        f"{FUNCTION}\nassert f(??) == 'cd'",
        f"What comes out?\n\n[PYTHON]\n{FUNCTION}\nassert f('x') == ??\n[/PYTHON]",
        f"Predict the output of 3.\n\nHere is a reference code snippet for you.\n\n{FUNCTION}\n",
        FUNCTION.replace("\n\n", "  \n") + "\n\nassert f('a') == (\n ??)",
    ],
)
def test_a_function_is_known_in_any_of_its_wrappers(wrapped):
    assert same(wrapped, FUNCTION)


def test_a_constant_before_or_after_the_function_belongs_to_it():
    before = f"shift = 3\n{FUNCTION}\nassert f('ab') == ??"
    after = f"{FUNCTION}\nshift = 3\nassert f('ab') == ??"
    assert code_body(before).startswith("shift = 3")
    assert code_body(after).endswith("shift = 3")
    assert len(set(groups_of(before, after, FUNCTION))) == 3


def test_case_matters_in_code():
    assert not same(f"{FUNCTION}\nassert f(1) == ??", FUNCTION.replace("half", "HALF"))


def test_code_quoted_as_a_hint_does_not_join_prompts():
    hint = f"Here is a hint:\n```python\n{FUNCTION}\n```\n"
    assert not same(f"Decode the first message.\n{hint}", f"Decode the second one.\n{hint}")


def test_very_short_texts_group_only_when_exactly_equal():
    assert groups_of("2+2?", "2+2", "2+2?", "2 + 2?") == [0, 1, 0, 2]


def test_a_short_bare_question_is_no_key():
    options = "\nA) left\nB) right\nAnswer:"
    assert not same(f"Pick:{options}", f"Pick.{options.replace('left', 'up')}")


def test_groups_connect_through_chains_of_keys():
    bare = "Where do storks winter?"
    wrapped = f"{bare}\nA) Africa\nB) Iceland\nAnswer:"
    other = f"{bare}\nA) Peru\nB) Chad\nAnswer:"
    assert groups_of(wrapped, "Something else entirely", other) == [0, 1, 0]


def test_no_prompts_have_no_groups():
    groups = duplicate_groups(PromptTable.of_texts([]))
    assert groups.shape == (0,)
    assert groups.dtype == np.int32


texts = st.lists(
    st.sampled_from(
        [
            "Name the longest river.",
            "name the longest  river",
            "Name the longest river.\nA) Nile\nB) Tejo\nAnswer:",
            f"{FUNCTION}\nassert f('ab') == ??",
            f"{FUNCTION}\nassert f(??) == 'ab'",
            "2+2?",
            "2+2",
        ]
    )
    | st.text(max_size=12),
    max_size=12,
)


@given(texts=texts, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_groups_do_not_depend_on_the_order_of_prompts(texts, seed):
    order = np.random.default_rng(seed).permutation(len(texts))
    straight = np.array(groups_of(*texts), dtype=np.int64)
    shuffled = np.array(groups_of(*(texts[i] for i in order)), dtype=np.int64)
    # The same pairs are together, whatever the numbers.
    np.testing.assert_array_equal(
        shuffled[:, None] == shuffled[None, :],
        straight[order][:, None] == straight[order][None, :],
    )


@given(texts=texts)
@settings(max_examples=60, deadline=None)
def test_group_ids_count_up_in_order_of_appearance_and_equal_texts_share_one(texts):
    groups = groups_of(*texts)
    assert list(dict.fromkeys(groups)) == list(range(len(set(groups))))
    for text, group in zip(texts, groups, strict=True):
        assert group == groups[texts.index(text)]


@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_folding_white_space_again_changes_nothing(text):
    assert folded(f"  {text}\n") == folded(text)


@given(size=st.integers(1, 8), data=st.data())
@settings(max_examples=60, deadline=None)
def test_disjoint_sets_agree_with_reachability(size, data):
    member = st.integers(0, size - 1)
    links = data.draw(st.lists(st.tuples(member, member), max_size=10))
    sets = DisjointSets(size)
    reach = np.eye(size, dtype=bool)
    for left, right in links:
        sets.union(left, right)
        reach[left, right] = reach[right, left] = True
    for _ in range(size):
        reach = reach @ reach
    labels = sets.labels()
    np.testing.assert_array_equal(labels[:, None] == labels[None, :], reach)
