"""Standardised inputs of the regressions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array
from zerorouter.evaluation.baselines._neighbours import CLIP, embedding_of
from zerorouter.evaluation.contracts import PromptSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Centred and scaled features, clipped at `CLIP` standard deviations.

    Attributes:
        encoder: See `Metric`.
        structure: Whether structural features stand beside the embedding.
        centre: (F,)
        inverse_scale: (F,), zero for features that never varied.
    """

    encoder: str
    structure: bool
    centre: Float32Array
    inverse_scale: Float32Array

    @classmethod
    def fit(cls, prompts: PromptSet, *, encoder: str, structure: bool) -> Inputs:
        """Measure means and standard deviations."""
        raw = _raw(prompts, encoder, structure)
        sd = raw.std(axis=0, dtype=np.float64)
        varied = sd > 1e-4
        return cls(
            encoder=encoder,
            structure=structure,
            centre=raw.mean(axis=0, dtype=np.float64).astype(np.float32),
            inverse_scale=np.where(varied, 1 / np.where(varied, sd, 1.0), 0.0).astype(np.float32),
        )

    def __call__(self, prompts: PromptSet) -> Float32Array:
        """(N, F) standardised features."""
        raw = _raw(prompts, self.encoder, self.structure)
        out: Float32Array = np.clip((raw - self.centre) * self.inverse_scale, -CLIP, CLIP)
        return out


def _raw(prompts: PromptSet, encoder: str, structure: bool) -> Float32Array:
    embedding = embedding_of(prompts, encoder)
    return np.hstack([embedding, prompts.features.structure]) if structure else embedding
