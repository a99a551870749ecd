"""What a fit takes: evidence and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from zerorouter.arrays import BoolArray, FloatArray, IntArray
from zerorouter.linking import RespondentCard
from zerorouter.predict.features import PromptFeatures

Report: TypeAlias = Callable[[str, float], None]  # (what is being done, share done)


@dataclass(frozen=True, kw_only=True)
class FittingSettings:
    """How to fit a space.

    Attributes:
        n_dims: K, the number of latent dimensions.
        guess_floor: Whether options set a floor of one over their number.
        folds: Folds of the cross-fit.
        n_units: Units of the network that reads prompts; 0 for a linear reading.
        n_facets: R, principal directions of the features along which respondents may have
            leanings of their own.
        n_prototypes: Centroids that stand for the calibrated prompts.
        preference_datasets: Data sets whose scores are preferences, not correctness; their
            prompts shape domains, lengths and support, their scores nothing.
        length_datasets: Data sets whose answer lengths are learned from; None for all.
        fit_domains: Whether to fit the domain classifier; without it every prompt reads as the
            first domain and as an average data set.
        max_iterations: Limit of each calibration.
        seed: Seed of templates, folds and centroids.
    """

    n_dims: int = 3
    guess_floor: bool = True
    folds: int = 5
    n_units: int = 128
    n_facets: int = 64
    n_prototypes: int = 256
    preference_datasets: frozenset[str] = frozenset()
    length_datasets: frozenset[str] | None = None
    fit_domains: bool = True
    max_iterations: int = 200
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What M respondents did on N prompts, and what is known of both.

    Attributes:
        features: Of the prompts as requests show them.
        scores: (M, N) in [0, 1] with NaN.
        log_length: (M, N) natural log of output tokens with NaN.
        scored: (N,) whether a prompt's scores are of correctness and enter the calibration.
        datasets: (N,) data set of each prompt.
        tasks: (N,) task of each prompt.
        domains: (N,) position of its domain in ``domain_names``.
        domain_names: Names of the domains.
        groups: (N,) duplicate groups.
        cards: (M,) what is known of the respondents.
    """

    features: PromptFeatures
    scores: FloatArray
    log_length: FloatArray
    scored: BoolArray
    datasets: IntArray
    tasks: IntArray
    domains: IntArray
    domain_names: tuple[str, ...]
    groups: IntArray
    cards: tuple[RespondentCard | None, ...]
