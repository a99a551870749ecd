"""The universal latent space on disk and in memory: a predictor and the respondents in it.

`LatentSpace.load()` reads the space that ships with the package; `save` writes a folder of
safetensors and JSON (see `artifacts`) with full provenance. A space holds no prompt text and
no response: calibrated items are kept by the hash of their question alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerorouter.arrays import Float32Array, FloatArray
from zerorouter.artifacts import Arrays, open_folder, save_folder
from zerorouter.catalog import ModelSpec
from zerorouter.covariates import CovariateTable
from zerorouter.errors import CorruptArtifactError, UnknownNameError
from zerorouter.irt.model import Abilities, ItemParameters
from zerorouter.predict.encoders import Encoder, StaticEncoder
from zerorouter.predict.familiarity import Familiarity
from zerorouter.predict.features import FeatureReader
from zerorouter.predict.forest import Forest, ForestReading
from zerorouter.predict.items import Accuracy, ItemPredictor, PromptReadings, Standardiser
from zerorouter.predict.neighbours import Prototypes
from zerorouter.predict.prompt import Prompt
from zerorouter.predict.student import HiddenLayer
from zerorouter.predict.tokens import LengthProfile

FORMAT = "zerorouter-space"
FORMAT_VERSION = 3
MOST_REMEMBERED = 10_000  # prompts of a batch whose cosines are kept, to learn from the answers
SHIFT_REACH = np.float32(0.15)  # of a cosine, within which prototypes count beside the nearest
_ZERO = np.float32(0.0)
_ITEM_ARRAYS = {
    *(f"calibrated.{name}" for name in ("digests", "discrimination", "intercept", "guessing")),
    *("calibrated.effect_scale", "calibrated.effect_covariance"),
    *(f"expected.{name}" for name in ("discrimination", "intercept", "facets")),
}
_LATER_STYLES = ("stretch", "pivot", "smear", "leanings")  # not in the first spaces


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedItems:
    """Items whose parameters were estimated from responses, without their text.

    Attributes:
        digests: (N, 2) uint64, the first 128 bits of the SHA-256 of the normalised question.
        items: Their parameters; ``effect_scale`` is the share of uncertainty left.
        expected: The same items as their text alone predicts them, each without its own answers;
            with the facets, along which a newcomer's leanings are learned from what its answers
            tell beyond this prediction.
    """

    digests: NDArray[np.uint64]
    items: ItemParameters
    expected: ItemParameters


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationPrior:
    """Where a respondent is expected to lie before it answers anything.

    ``theta ~ N(weights^T (z, 1), covariance)`` with z the standardised covariates of its card.

    Attributes:
        table: How a card becomes covariates.
        weights: (C+1, K), the last row the constant.
        covariance: (K, K)
    """

    table: CovariateTable
    weights: Float32Array
    covariance: Float32Array


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerStyle:
    """How long each respondent's answers are; see `predict.tokens`.

    Attributes:
        offset: (M,) log length relative to the shared level, pooled where unseen.
        slope: (M,) change per unit of standardised difficulty.
        sd: (M,) standard deviation of the log length of an unseen prompt.
        stretch: (M,) change per unit by which the level exceeds the pivot.
        pivot: (M,) level at which a stretch changes nothing.
        smear: (M,) log of the mean length over the median.
        leanings: (M, R) along the facets of the prompts.

    The last four are None in spaces that were fitted before there were any.
    """

    offset: Float32Array
    slope: Float32Array
    sd: Float32Array
    stretch: Float32Array | None = None
    pivot: Float32Array | None = None
    smear: Float32Array | None = None
    leanings: Float32Array | None = None

    def profile(self, at: slice | NDArray[np.int64] = slice(None)) -> LengthProfile:
        """What it takes to forecast output tokens of the respondents at ``at``."""
        offset, sd = self.offset[at].astype(np.float64), self.sd[at].astype(np.float64)
        smear = sd**2 / 2 if self.smear is None else self.smear[at].astype(np.float64)
        stretch = None
        if self.stretch is not None and self.pivot is not None:
            stretch = self.stretch[at].astype(np.float64)
            offset = offset - stretch * self.pivot[at]
        leanings = None
        if self.leanings is not None and self.leanings.shape[1]:
            leanings = np.ascontiguousarray(self.leanings[at].T)
        return LengthProfile(
            offset=offset + smear,
            slope=self.slope[at].astype(np.float64),
            stretch=stretch,
            leanings=leanings,
            sd=sd,
            smear=smear,
        )

    def joined(self, others: AnswerStyle) -> AnswerStyle:
        """These respondents and then the others; what either side lacks is dropped."""
        joined: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(others, name)
            if mine is None or theirs is None:
                joined[name] = None
                continue
            if mine.ndim == 2 and 0 in (mine.shape[1], theirs.shape[1]):
                # Whoever was fitted without leanings leans nowhere.
                width = max(mine.shape[1], theirs.shape[1])
                mine, theirs = (
                    style if style.shape[1] else np.zeros((len(style), width), np.float32)
                    for style in (mine, theirs)
                )
            joined[name] = np.concatenate([mine, theirs])
        return AnswerStyle(**joined)


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentSpace:
    """A fitted space.

    Attributes:
        predictor: Prompt features to item parameters.
        respondents: (M,) names.
        abilities: Posterior of each respondent.
        leaning_variance: s^2 of the prior of a newcomer's leanings (see `irt.leanings`).
        styles: Answer lengths of each respondent.
        difficulty_scale: Mean and standard deviation of item difficulty, which lengths use.
        population: The prior of new respondents.
        calibrated: Calibrated items by hash.
        encoder_name: The encoder it was fitted with.
        models: Cards of respondents that came with the records.
        provenance: Data hashes, settings, date, diagnostics, attributions.
    """

    predictor: ItemPredictor
    respondents: tuple[str, ...]
    abilities: Abilities
    leaning_variance: float
    styles: AnswerStyle
    difficulty_scale: tuple[float, float]
    population: PopulationPrior
    calibrated: CalibratedItems
    encoder_name: str
    models: tuple[ModelSpec, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Names the fit: its date and the start of its arrays' hash."""
        return str(self.provenance.get("version", "unsaved"))

    @property
    def n_dims(self) -> int:
        """K, the number of latent dimensions."""
        return self.predictor.n_dims

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.respondents)}

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def index(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Positions of respondents.

        Raises:
            UnknownNameError: one is not in the space.
        """
        for name in names:
            if name not in self._index:
                raise UnknownNameError("respondent", name, self.respondents)
        return np.array([self._index[name] for name in names], dtype=np.int64)

    def reader(self, encoder: Encoder | None = None, accuracy: Accuracy = "fast") -> SpaceReader:
        """Prompts to readings, with the packaged static encoder unless another is handed over.

        Args:
            encoder: The encoder that the space was fitted with, if it is not the packaged one.
            accuracy: ``full`` asks the forest itself, not its student: better and slower.

        Raises:
            CorruptArtifactError: the space was fitted with another encoder or other features.
        """
        features = FeatureReader(StaticEncoder.load(), encoder)
        if features.encoder_name != self.encoder_name:
            raise CorruptArtifactError(
                f"the space was fitted with the encoder {self.encoder_name!r}, this one is "
                f"{features.encoder_name!r}; calibrate anew, or use the encoder it was made with"
            )
        fitted = len(self.predictor.standardise.centre)
        if features.n_features != fitted:
            raise CorruptArtifactError(
                f"the space was fitted with {fitted} features of a prompt, this ZeroRouter reads "
                f"{features.n_features}; calibrate anew with 'zerorouter calibrate'"
            )
        if accuracy == "full" and self.predictor.forest is not None:
            _ = self.predictor.forest.forest  # read now rather than with the first prompt
        return SpaceReader(features, self.predictor, accuracy)

    def save(self, folder: Path) -> None:
        """Write the space to a folder, atomically."""
        p, prototypes = self.predictor, self.predictor.prototypes
        assert self.abilities.leanings is not None
        assert self.abilities.leaning_variance is not None
        expected = self.calibrated.expected
        assert expected.facets is not None
        save_folder(
            folder,
            format_name=FORMAT,
            format_version=FORMAT_VERSION,
            arrays={
                "standardise.centre": p.standardise.centre,
                "standardise.inverse_scale": p.standardise.inverse_scale,
                "predictor.item_weights": p.item_weights,
                "predictor.hidden_weights": p.hidden.weights,
                "predictor.hidden_readout": p.hidden.readout,
                **_forest_arrays(p.forest),
                "predictor.facet_weights": p.facet_weights,
                "predictor.class_weights": p.class_weights,
                "predictor.length_weights": p.length_weights,
                "predictor.class_domain": p.class_domain.astype(np.int32),
                "predictor.class_block": p.class_block.astype(np.int32),
                "predictor.block_intercepts": p.block_intercepts,
                "predictor.effect_covariance": p.effect_covariance,
                "prototypes.centroids": prototypes.centroids.astype(np.float16),
                "predictor.typical": p.typical,
                "familiarity.discount": p.familiarity.discount,
                "familiarity.ordinary": p.familiarity.ordinary,
                "abilities.mean": self.abilities.mean,
                "abilities.covariance": self.abilities.covariance,
                "abilities.leanings": self.abilities.leanings,
                "abilities.leaning_variance": self.abilities.leaning_variance,
                "styles.offset": self.styles.offset,
                "styles.slope": self.styles.slope,
                "styles.sd": self.styles.sd,
                **{
                    f"styles.{name}": value
                    for name in _LATER_STYLES
                    if (value := getattr(self.styles, name)) is not None
                },
                "population.centre": self.population.table.centre,
                "population.scale": self.population.table.scale,
                "population.weights": self.population.weights,
                "population.covariance": self.population.covariance,
                "calibrated.digests": self.calibrated.digests,
                "calibrated.discrimination": self.calibrated.items.discrimination.astype(
                    np.float16
                ),
                "calibrated.intercept": self.calibrated.items.intercept.astype(np.float16),
                "calibrated.guessing": self.calibrated.items.guessing.astype(np.float16),
                "calibrated.effect_scale": self.calibrated.items.effect_scale.astype(np.float16),
                "calibrated.effect_covariance": self.calibrated.items.effect_covariance,
                "expected.discrimination": expected.discrimination.astype(np.float16),
                "expected.intercept": expected.intercept.astype(np.float16),
                "expected.facets": expected.facets.astype(np.float16),
            },
            facts={
                "encoder": self.encoder_name,
                "respondents": list(self.respondents),
                "domains": list(p.domains),
                "models": [spec.to_dict() for spec in self.models],
                "covariates": list(self.population.table.names),
                "shift_variance": list(p.shift_variance),
                "leaning_variance": self.leaning_variance,
                "difficulty_scale": list(self.difficulty_scale),
                "provenance": dict(self.provenance),
            },
        )

    @classmethod
    def load(cls, folder: Path | None = None) -> LatentSpace:
        """Read a space; without ``folder`` the one that ships with the package.

        Raises:
            ArtifactError: it is missing, damaged, or of a later version.
        """
        if folder is not None:
            return cls._read(folder)
        with resources.as_file(resources.files("zerorouter") / "assets" / "space") as shipped:
            return cls._read(shipped)

    @classmethod
    def _read(cls, folder: Path) -> LatentSpace:
        arrays, facts = open_folder(folder, format_name=FORMAT, newest_version=FORMAT_VERSION)
        try:
            return cls._assemble(arrays, facts)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CorruptArtifactError(
                f"{folder} is incomplete or inconsistent ({type(error).__name__}: {error}); "
                "make it anew with 'zerorouter calibrate'"
            ) from error

    @classmethod
    def _assemble(cls, arrays: Arrays, facts: dict[str, Any]) -> LatentSpace:
        predictor = ItemPredictor(
            standardise=Standardiser(
                centre=arrays["standardise.centre"],
                inverse_scale=arrays["standardise.inverse_scale"],
            ),
            item_weights=arrays["predictor.item_weights"],
            hidden=HiddenLayer(
                weights=arrays["predictor.hidden_weights"],
                readout=arrays["predictor.hidden_readout"],
            ),
            forest=_forest_of(arrays),
            facet_weights=arrays["predictor.facet_weights"],
            class_weights=arrays["predictor.class_weights"],
            length_weights=arrays["predictor.length_weights"],
            class_domain=arrays["predictor.class_domain"],
            class_block=arrays["predictor.class_block"],
            domains=tuple(facts["domains"]),
            block_intercepts=arrays["predictor.block_intercepts"],
            effect_covariance=arrays["predictor.effect_covariance"],
            shift_variance=(float(facts["shift_variance"][0]), float(facts["shift_variance"][1])),
            typical=arrays["predictor.typical"],
            familiarity=Familiarity(
                discount=arrays["familiarity.discount"],
                ordinary=arrays["familiarity.ordinary"],
            ),
            prototypes=Prototypes(centroids=_wide(arrays, "prototypes.centroids")),
        )
        respondents = tuple(facts["respondents"])
        abilities = Abilities(
            mean=arrays["abilities.mean"],
            covariance=arrays["abilities.covariance"],
            leanings=arrays["abilities.leanings"],
            leaning_variance=arrays["abilities.leaning_variance"],
        )
        _require(
            len(respondents) == len(abilities.mean), "respondents and abilities differ in number"
        )
        _require(
            predictor.item_weights.shape
            == (len(predictor.standardise.centre) + 1, abilities.mean.shape[1] + 1),
            "the predictor and the abilities differ in dimensions",
        )
        mean, sd = facts["difficulty_scale"]
        return cls(
            predictor=predictor,
            respondents=respondents,
            abilities=abilities,
            leaning_variance=float(facts["leaning_variance"]),
            styles=AnswerStyle(
                offset=arrays["styles.offset"],
                slope=arrays["styles.slope"],
                sd=arrays["styles.sd"],
                **{name: arrays.get(f"styles.{name}") for name in _LATER_STYLES},
            ),
            difficulty_scale=(float(mean), float(sd)),
            population=PopulationPrior(
                table=CovariateTable(
                    names=tuple(facts["covariates"]),
                    centre=arrays["population.centre"],
                    scale=arrays["population.scale"],
                ),
                weights=arrays["population.weights"],
                covariance=arrays["population.covariance"],
            ),
            calibrated=_StoredItems(arrays, predictor.effect_covariance),
            encoder_name=str(facts["encoder"]),
            models=tuple(ModelSpec.from_dict(row) for row in facts["models"]),
            provenance=dict(facts["provenance"]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Shifts:
    """What serving has taught of the difficulty near each prototype (see `learning`).

    Attributes:
        shift: (P,) added to the intercepts of prompts near it.
        variance: (P,) what is not known of it.
        prior_variance: The same before anything was learned.
    """

    shift: Float32Array
    variance: Float32Array
    prior_variance: float

    @staticmethod
    def kernel(similarity: FloatArray) -> Float32Array:
        """(P,) weights of the shifts for a prompt with these cosines: few, of unit length.

        A prototype counts as far as its cosine comes within `SHIFT_REACH` of the nearest one's.
        """
        near = np.asarray(similarity, dtype=np.float32)
        weights: Float32Array = near - (np.maximum.reduce(near) - SHIFT_REACH)
        np.maximum(weights, _ZERO, out=weights)
        weights *= weights
        weights *= np.float32(1 / math.sqrt(weights.dot(weights)))
        return weights

    def apply(self, readings: PromptReadings) -> PromptReadings:
        """The readings with their intercepts moved, in place; they have to carry cosines."""
        cosines = readings.similarity
        assert cosines is not None
        items = readings.items
        intercept, variance = items.intercept, items.shift_variance
        left, moved = variance.copy(), np.empty(len(intercept), dtype=np.float32)
        for i, similarity in enumerate(cosines):
            weights = self.kernel(similarity)
            moved[i] = step = weights.dot(self.shift)
            intercept[i] += step
            weights *= weights
            variance[i] = max(variance[i] + weights.dot(self.variance) - self.prior_variance, 0.0)
        told = PromptReadings(
            items=items,
            domain=readings.domain,
            log_length=readings.log_length,
            support=readings.support,
            embedding=readings.embedding,
            prototypes=readings.prototypes,
            moved=moved,
            left=left,
        )
        vars(told)["similarity"] = cosines  # worked out already
        return told


class SpaceReader:
    """Prompts to readings of one space.

    Args:
        features: Reads prompts.
        predictor: Reads features.
        accuracy: See `ItemPredictor.read`.
        shifts: What serving has taught; None for nothing.
    """

    def __init__(
        self,
        features: FeatureReader,
        predictor: ItemPredictor,
        accuracy: Accuracy = "fast",
        shifts: Shifts | None = None,
    ) -> None:
        self._features = features
        self._predictor = predictor
        self._accuracy: Accuracy = accuracy
        self._shifts = shifts

    def with_shifts(self, shifts: Shifts | None) -> SpaceReader:
        """The same reader with other shifts."""
        return SpaceReader(self._features, self._predictor, self._accuracy, shifts)

    def read(self, prompts: Sequence[Prompt]) -> PromptReadings:
        """Readings of prompts; each row equals that of the prompt alone."""
        shifts = self._shifts
        readings = self._predictor.read(
            self._features.read(prompts),
            self._accuracy,
            with_similarity=shifts is not None or len(prompts) <= MOST_REMEMBERED,
        )
        return readings if shifts is None else shifts.apply(readings)


def _forest_arrays(reading: ForestReading | None) -> dict[str, NDArray[Any]]:
    if reading is None:
        return {}
    return {
        **{f"forest.{name}": array for name, array in vars(reading.forest).items()},
        "forest.readout": reading.readout,
        "forest.linear": reading.linear,
    }


def _forest_of(arrays: Arrays) -> ForestReading | None:
    return _StoredForest(arrays) if "forest.roots" in arrays else None


class _StoredItems(CalibratedItems):
    """Calibrated items that are read once they are asked for: routing does without them."""

    def __init__(self, arrays: Arrays, expected_covariance: Float32Array) -> None:
        _require(arrays.keys() >= _ITEM_ARRAYS, "arrays of the calibrated items are missing")
        vars(self).update(_arrays=arrays, _expected_covariance=expected_covariance)

    @cached_property
    def digests(self) -> NDArray[np.uint64]:
        found: NDArray[np.uint64] = vars(self)["_arrays"]["calibrated.digests"]
        return found

    @cached_property
    def items(self) -> ItemParameters:
        arrays: Arrays = vars(self)["_arrays"]
        return ItemParameters(
            discrimination=_wide(arrays, "calibrated.discrimination"),
            intercept=_wide(arrays, "calibrated.intercept"),
            guessing=_wide(arrays, "calibrated.guessing"),
            effect_scale=_wide(arrays, "calibrated.effect_scale"),
            shift_variance=np.zeros(len(self.digests), np.float32),
            effect_covariance=arrays["calibrated.effect_covariance"],
        )

    @cached_property
    def expected(self) -> ItemParameters:
        arrays: Arrays = vars(self)["_arrays"]
        return ItemParameters(
            discrimination=_wide(arrays, "expected.discrimination"),
            intercept=_wide(arrays, "expected.intercept"),
            guessing=_wide(arrays, "calibrated.guessing"),
            effect_scale=np.ones(len(self.digests), np.float32),
            shift_variance=np.zeros(len(self.digests), np.float32),
            effect_covariance=vars(self)["_expected_covariance"],
            facets=_wide(arrays, "expected.facets"),
        )


class _StoredForest(ForestReading):
    """A forest that is read once it is asked for: its student reads prompts mostly."""

    def __init__(self, arrays: Arrays) -> None:
        names = {f"forest.{name}" for name in (*_names(Forest), "readout", "linear")}
        _require(arrays.keys() >= names, "arrays of the forest are missing")
        vars(self).update(_arrays=arrays)

    @cached_property
    def forest(self) -> Forest:
        arrays: Arrays = vars(self)["_arrays"]
        return Forest(**{name: arrays[f"forest.{name}"] for name in _names(Forest)})

    @cached_property
    def readout(self) -> Float32Array:
        found: Float32Array = vars(self)["_arrays"]["forest.readout"]
        return found

    @cached_property
    def linear(self) -> Float32Array:
        found: Float32Array = vars(self)["_arrays"]["forest.linear"]
        return found


def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _wide(arrays: Arrays, name: str) -> Float32Array:
    return arrays[name].astype(np.float32)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
