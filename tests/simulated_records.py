"""A small data set of our own: invented prompts of two kinds, answered by simulated models.

The truth is known: the models' abilities fall from ``sim-00`` to ``sim-11``, long sums are harder
than short ones, and word tasks lie on a dimension of their own. One fit of it is shared by
all tests, since it takes seconds.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from data.data_folders import Row, write_folder
from zerorouter.calibrating import calibrate
from zerorouter.catalog import Catalog
from zerorouter.router import Router
from zerorouter.space import LatentSpace

N_MODELS = 12
N_PROMPTS = 300
MODELS = tuple(f"sim-{i:02d}" for i in range(N_MODELS))  # from strongest to weakest
WORDS = (
    *("lantern", "harbour", "meadow", "copper", "violin", "saddle", "orchard", "pebble", "thimble"),
    *("walnut", "ribbon", "kettle", "anchor", "feather", "marble", "candle", "basket", "hammer"),
)


def prompts(n: int = N_PROMPTS, seed: int = 0) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """Rows, difficulties (n,), and whether each is a word task (n,)."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    difficulty, of_words = np.empty(n), np.arange(n) % 2 == 1
    for i in range(n):
        size = int(rng.integers(1, 5))
        if of_words[i]:
            chosen = rng.choice(WORDS, size=size + 1, replace=False)
            text = f"Put the words {', '.join(chosen)} in the order of the alphabet, last first."
            task = "letters"
        else:
            terms = rng.integers(10 ** (size - 1), 10**size, size=size + 1)
            text = f"Work out {' + '.join(map(str, terms))} and write the sum (task {i})."
            task = "arithmetic"
        rows.append({"prompt_id": f"q{i}", "text": text, "task": task})
        difficulty[i] = 0.9 * (size - 2.5)
    return rows, difficulty, of_words


def abilities() -> np.ndarray:
    """(M, 2) general ability, falling, and skill with words, unrelated to it."""
    general = np.linspace(1.8, -1.8, N_MODELS)
    words = np.random.default_rng(3).permutation(np.linspace(-1.0, 1.0, N_MODELS))
    return np.column_stack([general, words])


def responses(
    difficulty: np.ndarray, of_words: np.ndarray, seed: int = 1, models: tuple[str, ...] = MODELS
) -> list[Row]:
    """One row per model and prompt."""
    rng = np.random.default_rng(seed)
    logit = 1.2 * abilities() @ np.stack([np.ones_like(difficulty), of_words * 1.0]) - difficulty
    score = rng.random(logit.shape) < 1 / (1 + np.exp(-logit))
    tokens = np.exp(3 + 0.3 * difficulty + 0.2 * rng.standard_normal(logit.shape)).round()
    return [
        {
            "prompt_id": f"q{i}",
            "model": name,
            "score": float(score[m, i]),
            "output_tokens": int(tokens[m, i]),
        }
        for m, name in enumerate(models)
        for i in range(len(difficulty))
    ]


def cards(models: tuple[str, ...] = MODELS) -> list[Row]:
    """Prices that fall with ability."""
    return [
        {
            "model": name,
            "family": "sim",
            "released": "2024-06",
            "params_b": float(2 ** (6 - m / 2)),
            "input_usd_per_mtok": round(20.0 / 1.5**m, 3),
            "output_usd_per_mtok": round(60.0 / 1.5**m, 3),
            "price_kind": "list",
        }
        for m, name in enumerate(models)
    ]


def write_records(folder: Path, *, n: int = N_PROMPTS, seed: int = 0) -> Path:
    """The data set as a folder."""
    rows, difficulty, of_words = prompts(n, seed)
    return write_folder(
        folder, prompts=rows, responses=responses(difficulty, of_words, seed + 1), models=cards()
    )


@cache
def fitted_folder() -> Path:
    """A saved space fitted to the records, with the records beside it; made once."""
    root = Path(tempfile.mkdtemp(prefix="zerorouter-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    calibrate([write_records(root / "toy")], out=root / "space", date="2026-01-01")
    return root / "space"


@cache
def fitted_space() -> LatentSpace:
    """That space, read back."""
    return LatentSpace.load(fitted_folder())


@cache
def toy_router() -> Router:
    """A router over the twelve simulated models."""
    return Router.load(fitted_folder(), catalog=Catalog(models=()))
