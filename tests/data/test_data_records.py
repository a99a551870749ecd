"""The real evaluation records: what loads, and which prompts are one (METHOD section 5)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zerorouter.data.reading import read_folders
from zerorouter.data.responses import ResponseMatrix

pytestmark = pytest.mark.data

SHAPES = {  # prompts, models, responses
    "alpaca-eval": (805, 56, 45_070),
    "bfcl": (1_684, 71, 119_564),
    "cruxeval": (1_600, 37, 57_600),
    "mmlu-pro": (12_032, 29, 347_215),
    "reasoning-gym": (9_568, 11, 94_948),
    "routerbench-subset": (3_164, 11, 34_700),
    "zeroeval": (2_840, 56, 128_465),
}


@pytest.fixture(scope="module")
def matrix(records_dir: Path) -> ResponseMatrix:
    return read_folders([records_dir / name for name in SHAPES])


@pytest.fixture(scope="module")
def dataset(matrix: ResponseMatrix) -> np.ndarray:
    """The data set's name of each prompt, (N,)."""
    return np.array(matrix.prompts.dataset_names)[matrix.prompts.dataset]


def of_task(matrix: ResponseMatrix, prefix: str) -> np.ndarray:
    return np.array([task is not None and task.startswith(prefix) for task in matrix.prompts.tasks])


@pytest.mark.parametrize("name", SHAPES)
def test_every_data_set_loads_whole(matrix, dataset, name):
    part = matrix.select(prompts=dataset == name)
    n_models = int(part.observed.any(axis=1).sum())
    assert (len(part.prompts), n_models, part.n_observed) == SHAPES[name]


def test_nothing_was_dropped_and_models_of_one_name_were_merged(matrix):
    assert [note.rule for note in matrix.report.notes] == ["merged_respondents"]


def test_all_zeroeval_crux_items_stand_in_cruxeval_output(matrix):
    crux = set(matrix.groups[of_task(matrix, "zeroeval/crux")].tolist())
    output = set(matrix.groups[of_task(matrix, "cruxeval/output")].tolist())
    assert len(crux) == 800
    assert crux == output


def test_cruxeval_input_and_output_share_their_functions(matrix):
    inputs = Counter(matrix.groups[of_task(matrix, "cruxeval/input")].tolist())
    outputs = Counter(matrix.groups[of_task(matrix, "cruxeval/output")].tolist())
    assert inputs == outputs
    assert set(inputs.values()) == {1}


@pytest.mark.parametrize(
    ("name", "n_exact", "n_grouped"),
    [
        ("mmlu-pro", 390, 394),
        ("reasoning-gym", 461, 471),
        ("bfcl", 103, 105),
        ("routerbench-subset", 2, 6),
        ("alpaca-eval", 0, 0),
        ("zeroeval", 0, 0),
    ],
)
def test_repeated_texts_of_a_data_set_are_grouped(matrix, dataset, name, n_exact, n_grouped):
    inside = np.flatnonzero(dataset == name)
    texts = {matrix.prompts.texts[i] for i in inside}
    groups = set(matrix.groups[inside].tolist())
    print(
        f"\n{name}: {len(inside) - len(texts)} repeated texts, {len(inside) - len(groups)} grouped"
    )
    assert len(inside) - len(texts) == n_exact
    assert len(inside) - len(groups) == n_grouped


def test_sixteen_texts_stand_in_mmlu_pro_and_zeroeval(matrix, dataset):
    left = set(matrix.groups[dataset == "mmlu-pro"].tolist())
    right = set(matrix.groups[dataset == "zeroeval"].tolist())
    print(f"\nmmlu-pro and zeroeval share {len(left & right)} groups")
    assert len(left & right) == 16


def test_no_template_lumps_prompts_together(matrix):
    sizes = Counter(Counter(matrix.groups.tolist()).values())
    print(f"\ngroup sizes: {dict(sorted(sizes.items()))}")
    assert max(sizes) <= 6


def test_reasoning_gym_is_the_one_data_set_without_links_by_raw_names(matrix):
    linkage = matrix.linkage()
    print(f"\n{linkage}")
    assert linkage.components[1:] == (("reasoning-gym",),)
    at = {name: i for i, name in enumerate(linkage.datasets)}
    assert linkage.shared_groups[at["cruxeval"], at["zeroeval"]] == 800


def test_prices_are_known_of_the_data_sets_that_have_them(matrix):
    priced = {row.model for row in matrix.models if row.priced}
    assert len(priced) > 80
    assert all(row.released for row in matrix.models if row.model in priced)
