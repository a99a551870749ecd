"""Splits that let nothing leak.

Prompts are split by duplicate group, models by release date or family, tasks by name. A split
says which prompts a method may learn from, which it is judged on, which models it is fitted to
and which join later. Anchors are drawn from the training prompts, so they never overlap tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, IntArray
from zerorouter.errors import DataError
from zerorouter.linking import RespondentCard

KINDS = ("random", "time", "family", "task", "time+task")
TEST_SHARE = 0.3
N_FOLDS = 4  # of families and of tasks; repetition s leaves out fold s mod 4
NEWCOMER_SHARE = 0.3  # of the models, where no cutoff is given
NAMED_CUTOFFS = {"zeroeval": "2024-06", "mmlu-pro": "2024-06"}
LEAST_MODELS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One repetition of one kind of split; all arrays are sorted positions.

    Attributes:
        kind: One of `KINDS`.
        seed: Which repetition.
        train: Prompts to learn from; anchors are drawn here.
        test: Prompts to be judged on.
        calibration: Models to fit to.
        newcomers: Models that join later; empty where all are known.
        dropped_prompts: Training prompts taken out because a twin is tested.
        dropped_models: Models taken out because what the split needs is not known of them.
    """

    kind: str
    seed: int
    train: IntArray
    test: IntArray
    calibration: IntArray
    newcomers: IntArray
    dropped_prompts: int
    dropped_models: int

    @property
    def has_newcomers(self) -> bool:
        """Whether the split is about onboarding."""
        return len(self.newcomers) > 0


def make_split(
    kind: str,
    seed: int,
    *,
    groups: IntArray,
    tasks: IntArray,
    cards: Sequence[RespondentCard],
    dataset: str = "",
    cutoff: str | None = None,
) -> Split:
    """Split a data set.

    Args:
        kind: One of `KINDS`.
        seed: Repetition; the same seed gives the same split.
        groups: (N,) duplicate groups.
        tasks: (N,) task of each prompt.
        cards: (M,) what is known of the models.
        dataset: Its name; METHOD names a cutoff for some.
        cutoff: ``YYYY-MM``: models released later are newcomers.

    Raises:
        DataError: the data lack what the split needs (dates, families, several tasks).
    """
    if kind not in KINDS:
        raise DataError(f"no split {kind!r}; wanted one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, 7])
    everyone = np.arange(len(cards))
    newcomers = np.zeros(len(cards), dtype=np.bool_)
    known = np.ones(len(cards), dtype=np.bool_)
    if kind in ("time", "time+task"):
        newcomers, known = _by_date(cards, cutoff or NAMED_CUTOFFS.get(dataset), dataset)
    elif kind == "family":
        newcomers, known = _by_family(cards, seed, dataset)
    if kind in ("task", "time+task"):
        test = _by_task(tasks, seed, dataset)
    else:
        n_groups = int(groups.max()) + 1
        test = (rng.random(n_groups) < TEST_SHARE)[groups]
    twins = np.isin(groups, np.unique(groups[test])) & ~test
    train = ~test & ~twins
    if not train.any() or not test.any():
        raise DataError(f"{dataset}: the {kind} split leaves no prompt on one side")
    calibration = known & ~newcomers
    if calibration.sum() < LEAST_MODELS:
        raise DataError(
            f"{dataset}: the {kind} split leaves {int(calibration.sum())} models to calibrate on; "
            f"at least {LEAST_MODELS} are needed: choose another --cutoff or --split"
        )
    return Split(
        kind=kind,
        seed=seed,
        train=np.flatnonzero(train),
        test=np.flatnonzero(test),
        calibration=everyone[calibration],
        newcomers=everyone[newcomers],
        dropped_prompts=int(twins.sum()),
        dropped_models=int((~known).sum()),
    )


def leaked_prompts(split: Split, groups: IntArray) -> int:
    """Training prompts that share a duplicate group with a test prompt; 0 by construction.

    The harness runs it on every split and stops where it is not 0.
    """
    return int(np.isin(groups[split.train], groups[split.test]).sum())


def default_cutoff(cards: Sequence[RespondentCard]) -> str | None:
    """The month that leaves about 30% of the dated models as newcomers, or None."""
    months = sorted(card.released[:7] for card in cards if card.released and len(card.released) > 4)
    if len(set(months)) < 2:
        return None
    at = months[max(int(len(months) * (1 - NEWCOMER_SHARE)) - 1, 0)]
    return at if at < months[-1] else sorted(set(months))[-2]


def _by_date(
    cards: Sequence[RespondentCard], cutoff: str | None, dataset: str
) -> tuple[BoolArray, BoolArray]:
    months = [card.released[:7] if card.released else "" for card in cards]
    known = np.array([len(month) == 7 for month in months])
    limit = cutoff or default_cutoff(cards)
    if limit is None or known.sum() < LEAST_MODELS + 1:
        raise DataError(
            f"{dataset}: the release-date split needs models released in different months; "
            f"{int(known.sum())} of {len(cards)} have a date; add 'released' to models.csv"
        )
    newcomers = known & np.array([month > limit for month in months])
    if not newcomers.any():
        raise DataError(
            f"{dataset}: no model was released after {limit}; choose an earlier --cutoff"
        )
    return newcomers, known


def _by_family(
    cards: Sequence[RespondentCard], seed: int, dataset: str
) -> tuple[BoolArray, BoolArray]:
    known = np.array([bool(card.family) for card in cards])
    families = sorted({card.family for card in cards if card.family})
    if len(families) < 3:
        raise DataError(
            f"{dataset}: the leave-family-out split needs at least 3 families; {len(families)} "
            "found; add 'family' to models.csv"
        )
    # The same folds for every repetition, so that all families are left out once in four.
    order = np.random.default_rng(17).permutation(len(families))
    fold = {families[int(f)]: i % N_FOLDS for i, f in enumerate(order)}
    left_out = np.array([fold.get(card.family) == seed % N_FOLDS for card in cards])
    return left_out & known, known


def _by_task(tasks: IntArray, seed: int, dataset: str) -> BoolArray:
    names = np.unique(tasks)
    if len(names) < 2:
        raise DataError(f"{dataset}: the leave-task-out split needs at least 2 tasks; 1 found")
    order = np.random.default_rng(17).permutation(len(names))
    n_folds = min(N_FOLDS, len(names))
    left_out = names[order][np.arange(len(names)) % n_folds == seed % n_folds]
    return np.isin(tasks, left_out)
