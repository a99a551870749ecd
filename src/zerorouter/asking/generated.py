"""Prompts that the PyPI package ``reasoning-gym`` generates and grades.

A prompt is named by generator, settings, seed and place and made anew when it is asked; its text
is stored nowhere. The package is pinned, since another version may draw other prompts; whether a
prompt is the calibrated one is told by its hash alone.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from zerorouter.errors import InputError, require_extra

VERSION: Final = "0.1.25"

UNSAFE_GENERATORS: Final = frozenset(
    {
        *("binary_matrix", "codeio", "countdown", "intermediate_integration", "n_queens"),
        *("polynomial_multiplication", "puzzle24", "simple_integration", "spiral_matrix"),
        "string_insertion",
    }
)
"""Generators whose grader runs the model's answer as Python (``eval``, sympy's ``parse_expr``).
An answer comes from a stranger's endpoint: these are never asked."""

LONGEST_ANSWER: Final = 20_000  # characters handed to a grader; none of the references is near


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedPrompt:
    """One prompt with its grader.

    Attributes:
        question: What is asked.
        reference: One right answer; for a few generators there are others.
    """

    question: str
    reference: str
    _dataset: Any
    _entry: Mapping[str, Any]

    def score(self, answer: str | None) -> float:
        """The package's score of an answer, in [0, 1]; 0 where its grader trips over it."""
        given = None if answer is None else answer[:LONGEST_ANSWER]
        with _quiet():
            try:
                value = float(self._dataset.score_answer(given, self._entry))
            except Exception:  # the graders are hundreds, and answers are anything
                return 0.0
        return min(max(value, 0.0), 1.0) if value == value else 0.0


def require_package() -> None:
    """Raise where reasoning-gym is missing or of another version.

    Raises:
        MissingExtraError: it is not installed.
        InputError: it is another version.
    """
    require_extra("reasoning_gym", "anchors", "asking the anchors of the shipped space")
    found = importlib.metadata.version("reasoning-gym")
    if found != VERSION:
        raise InputError(
            f"reasoning-gym {found} is installed; anchors are made by {VERSION}: "
            "run: pip install 'zerorouter[anchors]'"
        )


def generate(
    generator: str, settings: Mapping[str, Any], *, seed: int, size: int, place: int
) -> GeneratedPrompt:
    """Make one prompt.

    Raises:
        InputError: the package cannot make it.
    """
    dataset = _dataset(generator, _frozen(settings), seed, size)
    with _quiet():
        try:
            entry = dataset[place]
        except Exception as error:
            raise InputError(
                f"reasoning-gym cannot make {generator} {place} (seed {seed}): {error}"
            ) from error
    return GeneratedPrompt(
        question=str(entry["question"]),
        reference=str(entry["answer"]),
        _dataset=dataset,
        _entry=entry,
    )


def system_prompt() -> str:
    """The instruction that the calibrated answers were given under."""
    with _quiet():
        from reasoning_gym.utils import SYSTEM_PROMPTS  # type: ignore[import-untyped]

    return str(SYSTEM_PROMPTS["default"]).strip()


@lru_cache(maxsize=256)
def _dataset(generator: str, settings: tuple[Any, ...], seed: int, size: int) -> Any:
    if generator in UNSAFE_GENERATORS:
        raise InputError(f"{generator} is not asked: its grader runs answers as code")
    with _quiet():
        import reasoning_gym  # type: ignore[import-untyped]

        try:
            return reasoning_gym.create_dataset(
                generator, seed=seed, size=size, **_thawed(settings)
            )
        except Exception as error:
            raise InputError(f"reasoning-gym cannot make {generator}: {error}") from error


def _frozen(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Settings as a key of a cache."""
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in sorted(settings.items())
    )


def _thawed(settings: tuple[Any, ...]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of the package's chatter reaches standard output, where results go."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
