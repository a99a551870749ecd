"""A profile: what is known of one model, as an object and as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.catalog import ModelSpec
from zerorouter.errors import CorruptArtifactError, NewerArtifactError
from zerorouter.onboarding.evidence import Source

FORMAT = "zerorouter-profile"
FORMAT_VERSION = 1
REMEDY = "restore it, or remove the file and onboard the model again"


@dataclass(frozen=True, kw_only=True)
class AnswerLengths:
    """How long a model's answers are, as `space.AnswerStyle` has it for one respondent.

    Attributes:
        offset: Log length relative to the shared level.
        offset_sd: Its standard error.
        slope: Change per unit of standardised difficulty.
        stretch: Change per unit by which the level exceeds the pivot.
        pivot: The level at which the stretch changes nothing.
        sd: Standard deviation of the log length of an unseen prompt.
        n: Answers it rests on.
    """

    offset: float
    offset_sd: float
    slope: float
    stretch: float
    pivot: float
    sd: float
    n: int

    @property
    def smear(self) -> float:
        """Log of the mean length over the median."""
        return self.sd**2 / 2


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast an endpoint answers.

    Attributes:
        ttft_s: Expected seconds to the first token.
        tpot_s: Expected seconds per further token.
        n: Requests it rests on.
    """

    ttft_s: float
    tpot_s: float
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """What is known of one model.

    Attributes:
        card: Name, family, price and all else that was told of it.
        space_version: The space in which ``ability`` is told.
        date: ``YYYY-MM-DD`` of the last step.
        ability: (K,) posterior mean.
        covariance: (K, K) posterior covariance.
        leanings: (R,) along the facets of prompts; None where nothing is known of them.
        leaning_variance: Mean variance of a leaning.
        lengths: Of its answers.
        speed: Of its endpoint; None where nobody has timed it.
        predictive_sd: Root mean square standard error of P(correct) over reference prompts.
        probation: Whether it is to be chosen on a lower confidence bound.
        expected_accuracy: Kind of prompts -> mean and bounds of its 90% interval.
        sources: The evidence, sorted by id.
        warnings: What looked wrong.
    """

    card: ModelSpec
    space_version: str
    date: str
    ability: Float64Array
    covariance: Float64Array
    leanings: Float64Array | None
    leaning_variance: float
    lengths: AnswerLengths
    speed: Speed | None
    predictive_sd: float
    probation: bool
    expected_accuracy: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def ability_sd(self) -> Float64Array:
        """(K,) standard errors."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def n_answers(self) -> int:
        """Answers it rests on, of all sources."""
        return sum(source.n_answers for source in self.sources)

    def to_json(self) -> str:
        """The file's text."""
        from zerorouter.profiles.text_form import written

        return written(self)

    @classmethod
    def from_json(cls, text: str, *, where: str = "profile") -> Profile:
        """A profile from its text; ``where`` names it in errors.

        Raises:
            CorruptArtifactError: it is damaged or of another format.
            NewerArtifactError: a later version wrote it.
        """
        from zerorouter.profiles.text_form import read

        try:
            table = json.loads(text)
        except ValueError as error:
            raise CorruptArtifactError(f"{where} is not JSON ({error}); {REMEDY}") from error
        if not isinstance(table, dict) or table.get("format") != FORMAT:
            raise CorruptArtifactError(f"{where} is no model profile; {REMEDY}")
        version = table.get("version")
        if not isinstance(version, int):
            raise CorruptArtifactError(f"{where} has no version; {REMEDY}")
        if version > FORMAT_VERSION:
            raise NewerArtifactError(
                f"{where} has format version {version}, this ZeroRouter reads up to "
                f"{FORMAT_VERSION}; upgrade with: pip install -U zerorouter"
            )
        try:
            return read(table)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptArtifactError(
                f"{where} is incomplete or inconsistent ({type(error).__name__}: {error}); {REMEDY}"
            ) from error
