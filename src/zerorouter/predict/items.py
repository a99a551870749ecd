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
from zerorouter.predict.features import PromptFeatures, guess_floor
from zerorouter.predict.forest import ForestReading
from zerorouter.predict.neighbours import Prototypes
from zerorouter.predict.student import HiddenLayer

Accuracy: TypeAlias = Literal["fast", "full"]

CLIP = np.float32(4.0)  # standard deviations; a freak value must not decide alone
LEAST_DISCRIMINATION = np.float32(0.05)  # more general ability never lowers P(correct)


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
    """

    items: ItemParameters
    domain: IntArray
    log_length: Float32Array
    support: Float32Array


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

    def read(self, features: PromptFeatures, accuracy: Accuracy = "fast") -> PromptReadings:
        """Predict N prompts; each row is the same to the last bit alone or in a batch.

        Args:
            features: Of the prompts.
            accuracy: ``full`` reads (a, d) by the forest, where there is one.
        """
        n, k = len(features), self.n_dims
        standard = self.standardise(features)
        weights, constant = self._readout
        end_of_facets = k + 2 + self.facet_weights.shape[1]
        end_of_units = end_of_facets + self.hidden.n_units
        out = np.empty((n, len(constant)), dtype=np.float32)
        added = np.empty(k + 1, dtype=np.float32)
        odds = np.empty((n, len(self.class_domain)), dtype=np.float32)
        mixed = np.empty((n, self._mixing.shape[1]), dtype=np.float32)
        leverage = np.empty(n, dtype=np.float32)
        support = np.empty(n, dtype=np.float32)
        for i in range(n):  # row by row: a matrix product may round a row by its neighbours
            row = np.dot(standard[i], weights, out=out[i])
            row += constant
            units = row[end_of_facets:end_of_units]
            row[: k + 1] += np.dot(
                np.maximum(units, 0.0, out=units), self.hidden.readout, out=added
            )
            logits = row[end_of_units:]
            np.exp(logits - logits.max(), out=odds[i])
            np.dot(odds[i], self._mixing, out=mixed[i])
            leverage[i] = self.familiarity.leverage(standard[i], row[k + 2 : end_of_facets])
            support[i] = self.familiarity.support(leverage[i])
        if accuracy == "full" and self.forest is not None:
            out[:, : k + 1] = self.forest(standard)
        a, d, level = out[:, :k], out[:, k], out[:, k + 1]
        np.maximum(a[:, 0], LEAST_DISCRIMINATION, out=a[:, 0])
        d += mixed[:, 0] / mixed[:, 1]
        strangeness = self.familiarity.strangeness(leverage)
        if strangeness.any():
            known = 1 - strangeness[:, None]
            out[:, : k + 1] = known * out[:, : k + 1] + (1 - known) * self.typical
            out[:, k + 2 : end_of_facets] *= known
        near, far = self.shift_variance
        return PromptReadings(
            items=ItemParameters(
                discrimination=a,
                intercept=d,
                guessing=guess_floor(features.structure),
                effect_scale=np.ones_like(d),
                shift_variance=near + far * np.square(strangeness),
                effect_covariance=self.effect_covariance,
                facets=out[:, k + 2 : end_of_facets],
            ),
            domain=mixed[:, 2:].argmax(axis=1),
            log_length=level,
            support=support,
        )

    @cached_property
    def _readout(self) -> tuple[Float32Array, Float32Array]:
        """Weights (D, T) and constants (T,): a, d, level, facets, hidden units, class logits."""
        joined = np.hstack(
            [
                self.item_weights,
                self.length_weights[:, None],
                self.facet_weights,
                self.hidden.weights,
                self.class_weights,
            ]
        )
        return np.ascontiguousarray(joined[:-1]), joined[-1].copy()

    @cached_property
    def _mixing(self) -> Float32Array:
        """(C, 2 + domains) what class odds are summed into: intercept, total, each domain."""
        known = np.append(self.block_intercepts, np.float32(0.0))  # block -1 reads the 0
        member = self.class_domain[:, None] == np.arange(len(self.domains))
        columns = [known[self.class_block], np.ones(len(member)), *member.T]
        return np.ascontiguousarray(np.array(columns).T, dtype=np.float32)
