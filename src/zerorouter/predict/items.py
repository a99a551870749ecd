"""The predictor: prompt features to item parameters, domain, answer length and support.

All outputs are read from the standardised features by one matrix product:

- the item parameters (a, d), from the regression fitted with the responses, and from the units
  of one hidden layer, which a second, small product turns into what they add to (a, d);
- the facets along which respondents have leanings of their own;
- a class, that is a pair of data set and domain, by multinomial regression: its domain is
  shown to people, its data set tells which block's intercept to expect;
- the shared level of log answer lengths.

What the texts of the records taught does not carry over to prompts of a kind that was not among
them. The farther out a prompt lies (see `familiarity`), the more it is read as the typical item,
and the less is claimed to be known of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from zerorouter.arrays import Float32Array, IntArray
from zerorouter.irt.model import ItemParameters
from zerorouter.predict.familiarity import Familiarity
from zerorouter.predict.features import PromptFeatures, chance
from zerorouter.predict.forest import ForestReading
from zerorouter.predict.neighbours import Prototypes
from zerorouter.predict.student import HiddenLayer

Accuracy: TypeAlias = Literal["fast", "full"]

CLIP = np.float32(4.0)  # standard deviations; a freak value must not decide alone
LEAST_DISCRIMINATION = np.float32(0.05)  # more general ability never lowers P(correct)
_ZERO = np.float32(0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Standardiser:
    """Centres and scales features; those that never varied at fit are ignored.

    Attributes:
        centre: (D,)
        inverse_scale: (D,), zero for ignored features.
    """

    centre: Float32Array
    inverse_scale: Float32Array

    @classmethod
    def fit(cls, features: PromptFeatures) -> Standardiser:
        """Measure means and standard deviations over the prompts."""
        raw = np.hstack([features.embedding, features.structure])
        sd = raw.std(axis=0, dtype=np.float64)
        varied = sd > 1e-4
        inverse = np.where(varied, 1 / np.where(varied, sd, 1.0), 0.0)
        return cls(
            centre=raw.mean(axis=0, dtype=np.float64).astype(np.float32),
            inverse_scale=inverse.astype(np.float32),
        )

    def __call__(self, features: PromptFeatures) -> Float32Array:
        """(N, D) standardised features, clipped."""
        raw = np.concatenate((features.embedding, features.structure), axis=1)
        raw -= self.centre
        raw *= self.inverse_scale
        np.minimum(raw, CLIP, out=raw)
        return np.maximum(raw, -CLIP, out=raw)


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptReadings:
    """What the predictor says of N prompts, before any model is looked at.

    Attributes:
        items: Predicted item parameters with their uncertainty.
        domain: (N,) position in the predictor's ``domains``.
        log_length: (N,) shared level of the natural log of output tokens.
        support: (N,) see `familiarity`.
        embedding: (N, dim) what the prompts are embedded as, where cosines are wanted.
        prototypes: Where the calibrated prompts lie, likewise.
        moved: (N,) what was learned while serving and is in the intercepts; None for nothing.
        left: (N,) the shift variance without it.
    """

    items: ItemParameters
    domain: IntArray
    log_length: Float32Array
    support: Float32Array
    embedding: Float32Array | None = None
    prototypes: Prototypes | None = None
    moved: Float32Array | None = None
    left: Float32Array | None = None

    @cached_property
    def similarity(self) -> Float32Array | None:
        """(N, P) cosines to the prototypes, where wanted; worked out once somebody asks."""
        if self.embedding is None or self.prototypes is None:
            return None
        return self.prototypes.similarity(self.embedding)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reading:
    """The readouts behind each other: a, d, level, facets, hidden units, class logits.

    Features are clipped as they come, and centring and scaling stand in the weights: two passes
    over a prompt's features instead of four.

    Attributes:
        low: (D,) least value of each feature.
        high: (D,) largest.
        weights: (D, T)
        constant: (T,)
        facets: Where the facets stand in T; a, d and the level stand before them.
        units: Where the hidden units stand.
        logits: Where the class logits stand.
    """

    low: Float32Array
    high: Float32Array
    weights: Float32Array
    constant: Float32Array
    facets: slice
    units: slice
    logits: slice


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemPredictor:
    """Fitted readouts; made by `zerorouter.fitting`, kept in a space.

    Attributes:
        standardise: Applied to raw features first.
        item_weights: (D+1, K+1) linear readout of (a, d); the last row is the constant.
        hidden: What a hidden layer adds to it.
        forest: Another reading of (a, d), more accurate and slower; None where there is none.
        facet_weights: (D+1, R) readout of the facets.
        class_weights: (D+1, C) readout of the class logits.
        length_weights: (D+1,) readout of the log length level.
        class_domain: (C,) domain of each class.
        class_block: (C,) block (data set) of each class, -1 where it has no responses.
        domains: Names of the domains.
        block_intercepts: (B,)
        effect_covariance: (K+1, K+1) of what features do not tell.
        shift_variance: Two numbers (near, far): the error that similar prompts share has
            variance ``near + far`` times the squared strangeness.
        typical: (K+1,) mean item parameters (a, d) of the records.
        familiarity: What is ordinary among the calibrated prompts.
        prototypes: Where the calibrated prompts lie.
    """

    standardise: Standardiser
    item_weights: Float32Array
    hidden: HiddenLayer
    forest: ForestReading | None
    facet_weights: Float32Array
    class_weights: Float32Array
    length_weights: Float32Array
    class_domain: IntArray
    class_block: IntArray
    domains: tuple[str, ...]
    block_intercepts: Float32Array
    effect_covariance: Float32Array
    shift_variance: tuple[float, float]
    typical: Float32Array
    familiarity: Familiarity
    prototypes: Prototypes

    @property
    def n_dims(self) -> int:
        """K."""
        return int(self.item_weights.shape[1]) - 1

    def read(
        self,
        features: PromptFeatures,
        accuracy: Accuracy = "fast",
        *,
        with_similarity: bool = False,
    ) -> PromptReadings:
        """Predict N prompts; each row is the same to the last bit alone or in a batch.

        Args:
            features: Of the prompts.
            accuracy: ``full`` reads (a, d) by the forest, where there is one.
            with_similarity: Whether cosines to the prototypes are wanted.
        """
        n, k = len(features), self.n_dims
        reading = self._reading
        raw = np.concatenate((features.embedding, features.structure), axis=1)
        out = np.empty((n, len(reading.constant)), dtype=np.float32)
        if accuracy == "full" and self.forest is not None:
            items = self.forest(self.standardise(features))
        else:
            items = None
        np.maximum(raw, reading.low, out=raw)
        np.minimum(raw, reading.high, out=raw)
        domain = np.empty(n, dtype=np.int64)
        facts = np.ones((4, n), dtype=np.float32)
        scale, support, guessing, shift = facts
        near, far = self.shift_variance
        for i in range(n):  # row by row: a matrix product may round a row by its neighbours
            row = np.dot(raw[i], reading.weights, out=out[i])
            row += reading.constant
            units = row[reading.units]
            np.maximum(units, _ZERO, out=units)
            read = row[: k + 1]
            read += units.dot(self.hidden.readout)
            if items is not None:
                read[:] = items[i]
            logits = row[reading.logits]
            odds = np.exp(logits - np.maximum.reduce(logits))
            intercept, total, *shares = odds.dot(self._mixing).tolist()
            row[k] += intercept / total
            row[0] = max(row[0], LEAST_DISCRIMINATION)
            domain[i] = shares.index(max(shares))
            standard = raw[i] - self.standardise.centre
            standard *= self.standardise.inverse_scale
            leverage = self.familiarity.leverage(standard, row[reading.facets])
            support[i] = self.familiarity.support(leverage)
            strange = self.familiarity.strangeness(leverage)
            shift[i] = near
            if strange:
                read *= 1 - strange
                read += np.float32(strange) * self.typical
                row[reading.facets] *= 1 - strange
                shift[i] += far * strange**2
            guessing[i] = chance(features.structure[i])
        return PromptReadings(
            items=ItemParameters(
                discrimination=out[:, :k],
                intercept=out[:, k],
                guessing=guessing,
                effect_scale=scale,
                shift_variance=shift,
                effect_covariance=self.effect_covariance,
                facets=out[:, reading.facets],
            ),
            domain=domain,
            log_length=out[:, k + 1],
            support=support,
            embedding=features.embedding if with_similarity else None,
            prototypes=self.prototypes if with_similarity else None,
        )

    @cached_property
    def _reading(self) -> _Reading:
        """All readouts as one product with raw features."""
        joined = np.hstack(
            [
                self.item_weights,
                self.length_weights[:, None],
                self.facet_weights,
                self.hidden.weights,
                self.class_weights,
            ]
        ).astype(np.float64)
        centre = self.standardise.centre.astype(np.float64)
        inverse = self.standardise.inverse_scale.astype(np.float64)
        reach = np.divide(CLIP, inverse, out=np.full_like(inverse, np.inf), where=inverse > 0)
        facets = self.n_dims + 2
        units = facets + self.facet_weights.shape[1]
        logits = units + self.hidden.n_units
        return _Reading(
            low=(centre - reach).astype(np.float32),
            high=(centre + reach).astype(np.float32),
            weights=np.ascontiguousarray(inverse[:, None] * joined[:-1], dtype=np.float32),
            constant=(joined[-1] - (centre * inverse) @ joined[:-1]).astype(np.float32),
            facets=slice(facets, units),
            units=slice(units, logits),
            logits=slice(logits, joined.shape[1]),
        )

    @cached_property
    def _mixing(self) -> Float32Array:
        """(C, 2 + domains) what class odds are summed into: intercept, total, each domain."""
        known = np.append(self.block_intercepts, np.float32(0.0))  # block -1 reads the 0
        member = self.class_domain[:, None] == np.arange(len(self.domains))
        columns = [known[self.class_block], np.ones(len(member)), *member.T]
        return np.ascontiguousarray(np.array(columns).T, dtype=np.float32)
