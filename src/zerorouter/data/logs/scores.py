"""Which of a log's metrics is taken for the score, and how its value is read.

A score says how right an answer was, in [0, 1]. Of several metrics the first of the tables below
counts; `zerorouter.data.logs.reading.read_logs` takes another by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

LM_EVAL_METRICS: Final = (
    # A verifier that reads mathematics or runs code knows more than equality of texts.
    *("math_verify", "pass@1", "pass_at_1", "exact_match", "prompt_level_strict_acc"),
    # acc is the model's own choice; acc_norm corrects it for the length of the options.
    *("acc", "acc_norm", "em", "exact", "f1"),
)

LM_EVAL_FILTERS: Final = (
    # An answer in the wrong form is right here and wrong for strict-match: it is ability, not
    # obedience to a format, that is measured.
    *("flexible-extract", "multi_choice_regex", "custom-extract"),
    # One sample, not a vote over many.
    *("score-first", "strict-match", "none"),
)

HELM_METRICS: Final = (
    *("chain_of_thought_correctness", "math_equiv_chain_of_thought", "math_equiv"),
    *("final_number_exact_match", "ifeval_strict_accuracy", "omni_math_accuracy"),
    *("exact_match", "quasi_exact_match", "prefix_exact_match", "quasi_prefix_exact_match"),
    *("classification_macro_f1", "f1_score", "wildbench_score_rescaled"),
)

INSPECT_KEYS: Final = ("correct", "accuracy", "acc", "score", "prompt_level_strict")
"""Of a scorer that gives several values, the one that counts."""

NO_SCORES: Final = frozenset(
    {
        *("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bypass"),
        *("brier_score", "ter", "likelihood_diff", "predicted_index", "max_prob"),
    }
)
"""Metrics that say nothing on how right an answer is, or are lower for better answers."""

_WORDS: Final = {"c": 1.0, "p": 0.5, "i": 0.0, "n": 0.0, "yes": 1.0, "no": 0.0}
_WORDS_OF_TRUTH: Final = {"true": 1.0, "false": 0.0}


def chosen(names: Iterable[str], order: Sequence[str]) -> str | None:
    """The first name of ``order`` among ``names``, else the first that may be a score."""
    there = [name for name in names if name not in NO_SCORES]
    ranked = [name for name in order if name in there]
    return ranked[0] if ranked else there[0] if there else None


def as_score(value: Any) -> float | None:
    """A number or truth value as a float; None for anything else and for NaN."""
    if not isinstance(value, int | float):  # bool is an int
        return None
    try:
        score = float(value)
    except OverflowError:
        return math.inf
    return None if math.isnan(score) else score


def grade_as_score(value: Any) -> float | None:
    """A value of Inspect: C, P, I, N, yes, no, true, false, or a number, also as a text."""
    if not isinstance(value, str):
        return as_score(value)
    text = value.strip().lower()
    known = _WORDS.get(text, _WORDS_OF_TRUTH.get(text))
    if known is not None:
        return known
    try:
        return as_score(float(text))
    except ValueError:
        return None
