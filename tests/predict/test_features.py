from __future__ import annotations

import numpy as np
import pytest

from zerorouter.predict.encoders import StaticEncoder
from zerorouter.predict.features import FeatureReader, guess_floor
from zerorouter.predict.prompt import read_prompt
from zerorouter.predict.structure import FEATURE_NAMES, N_FEATURES

TEXTS = [
    "How many bridges are there?",
    "Which is a metal?\nA) zinc\nB) oak\nC) wool\nD) sand\nAnswer with the letter.",
    "def f(x):\n    return 2 * x",
    "Ein langer Brief. " * 2_000,
    "?",
]


class Halves:
    """An encoder of another length that counts how it is called."""

    name, dim = "halves", 4

    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(len(texts))
        return np.full((len(texts), 4), 0.5, dtype=np.float32)


@pytest.fixture(scope="module")
def reader():
    return FeatureReader(StaticEncoder.load())


def prompts():
    return [read_prompt(text) for text in TEXTS]


def test_each_row_is_that_of_the_prompt_alone(reader):
    together = reader.read(prompts())
    for i, prompt in enumerate(prompts()):
        alone = reader.read([prompt])
        np.testing.assert_array_equal(alone.embedding[0], together.embedding[i])
        np.testing.assert_array_equal(alone.structure[0], together.structure[i])


def test_shapes_and_numbers_are_sound(reader):
    found = reader.read(prompts())
    assert found.embedding.shape == (len(TEXTS), reader.dim)
    assert found.structure.shape == (len(TEXTS), N_FEATURES)
    assert reader.n_features == reader.dim + N_FEATURES
    assert np.isfinite(found.embedding).all()
    assert np.isfinite(found.structure).all()
    np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-4)


def test_the_guess_floor_is_one_over_the_options_and_zero_for_open_questions(reader):
    assert reader.read(prompts()).guess_floor.tolist() == [0, 0.25, 0, 0, 0]


@pytest.mark.parametrize(("n", "floor"), [(0, 0.0), (1, 0.0), (2, 0.5), (10, 0.1)])
def test_a_single_option_is_no_choice(n, floor):
    structure = np.zeros((1, N_FEATURES), dtype=np.float32)
    structure[0, FEATURE_NAMES.index("n_options")] = n
    found = guess_floor(structure)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(floor)


def test_another_encoder_embeds_windows_and_leaves_the_structure_as_it_is(reader):
    encoder = Halves()
    other = FeatureReader(StaticEncoder.load(), encoder)
    assert (other.encoder_name, other.dim) == ("halves", 4)
    found = other.read(prompts())
    np.testing.assert_array_equal(found.structure, reader.read(prompts()).structure)
    np.testing.assert_allclose(found.embedding[3], 0.5, atol=1e-6)  # pooled to unit length
    assert encoder.calls == [len(prompt.windows) for prompt in prompts()]


def test_rows_are_taken_in_the_order_asked_for(reader):
    found = reader.read(prompts())
    taken = found.take(np.array([2, 0]))
    np.testing.assert_array_equal(taken.structure, found.structure[[2, 0]])
    assert len(taken) == 2


def test_no_prompts_give_no_rows(reader):
    assert len(reader.read([])) == 0
