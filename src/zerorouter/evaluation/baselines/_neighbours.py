"""Nearest neighbours among labelled prompts: similarities in chunks, weights that end softly.

A neighbour's weight is how far its cosine exceeds that of the (k+1)-th: a triangular kernel
whose width adapts to how densely the neighbourhood is filled (Samworth 2012 shows that
declining weights beat a plain vote). It does away with ties at the edge: a prompt that enters
or leaves the k nearest does so with weight zero, so rounding cannot flip a forecast. In our
trials it was also better than equal weights at every k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IntArray
from zerorouter.errors import InputError
from zerorouter.evaluation.contracts import PromptSet

CHUNK = 256  # prompts at a time: at most CHUNK x N similarities are held
CLIP = np.float32(4.0)  # standard deviations
OUT_OF_REACH = np.float32(-2.0)  # put in place of a similarity, it keeps a prompt from counting


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """Prompts as unit vectors whose products are similarities.

    The embedding is centred and scaled to unit length; standardised structural features, scaled
    to length ``structure``, are put beside it, and the whole to unit length again.

    Attributes:
        encoder: ``"static"``, or a key of `PromptSet.embeddings`.
        structure: Weight of the structural features beside the embedding; 0 leaves them out.
        centre: (D,) mean embedding.
        location: (F,) means of the structural features.
        inverse_scale: (F,) one over their standard deviations; 0 where one never varied.
    """

    encoder: str
    structure: float
    centre: Float32Array
    location: Float32Array
    inverse_scale: Float32Array

    @classmethod
    def fit(cls, prompts: PromptSet, *, encoder: str = "static", structure: float = 0.0) -> Metric:
        """Measure the centre and scales on prompts."""
        embedding = embedding_of(prompts, encoder)
        sd = prompts.features.structure.std(axis=0, dtype=np.float64)
        varied = sd > 1e-4
        centre = embedding.mean(axis=0, dtype=np.float64)
        if len(prompts) < 2:
            centre = np.zeros_like(centre)
        return cls(
            encoder=encoder,
            structure=structure,
            centre=centre.astype(np.float32),
            location=prompts.features.structure.mean(axis=0, dtype=np.float64).astype(np.float32),
            inverse_scale=np.where(varied, 1 / np.where(varied, sd, 1.0), 0.0).astype(np.float32),
        )

    def __call__(self, prompts: PromptSet) -> Float32Array:
        """(N, D) or (N, D + F) unit vectors."""
        meaning = _unit(embedding_of(prompts, self.encoder) - self.centre)
        if self.structure == 0:
            return meaning
        form = (prompts.features.structure - self.location) * self.inverse_scale
        form = _unit(np.clip(form, -CLIP, CLIP)) * np.float32(self.structure)
        return _unit(np.hstack([meaning, form]))


def embedding_of(prompts: PromptSet, encoder: str) -> Float32Array:
    """(N, D) embeddings by an encoder; ``"static"`` is the one every prompt set carries."""
    if encoder == "static":
        return prompts.features.embedding
    if encoder not in prompts.embeddings:
        known = ", ".join(["static", *sorted(prompts.embeddings)])
        raise InputError(f"prompts carry no embedding by {encoder!r}; found: {known}")
    return prompts.embeddings[encoder]


def _unit(rows: FloatArray) -> Float32Array:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    out: Float32Array = (rows / np.maximum(length, 1e-9)).astype(np.float32)
    return out


def chunks(n: int) -> Iterator[slice]:
    """Slices that cover ``n`` rows, `CHUNK` at a time."""
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))


def by_mask(observed: BoolArray) -> list[tuple[IntArray, IntArray]]:
    """Models grouped by which prompts they answered: (models, prompts) of each group.

    Models that answered nothing are in no group.
    """
    patterns, member = np.unique(np.packbits(observed, axis=1), axis=0, return_inverse=True)
    groups = [np.flatnonzero(member.ravel() == g) for g in range(len(patterns))]
    out = [(models, np.flatnonzero(observed[models[0]])) for models in groups]
    return [(models, prompts) for models, prompts in out if len(prompts)]


def weights(similarity: Float32Array, k: int) -> Float32Array:
    """(n, N) non-negative weights of the ``k`` nearest columns of each row; changes its input.

    With no more than ``k`` columns all of them count, by their cosine plus one.
    """
    n = similarity.shape[1]
    if k >= n:
        edge = np.full((len(similarity), 1), -1.0 - 1e-6, dtype=np.float32)
    else:
        edge = np.partition(similarity, n - k - 1, axis=1)[:, n - k - 1, None]
    similarity -= edge
    # Where the nearest is no nearer than the edge (copies of one prompt) all at the edge count.
    tied = np.flatnonzero(similarity.max(axis=1) <= 1e-6)
    at_edge = similarity[tied] >= -1e-6
    np.maximum(similarity, np.float32(0.0), out=similarity)
    similarity[tied] = at_edge
    return similarity


def weighted_means(weight: Float32Array, values: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Means (n, M) of ``values`` (M, N) under each row's weights, and Kish's effective n (n,)."""
    total = weight.sum(axis=1, dtype=np.float64)
    square = np.einsum("ij,ij->i", weight, weight, dtype=np.float64)
    mean = (weight @ np.asarray(values, dtype=np.float32).T) / np.maximum(total, 1e-12)[:, None]
    return mean.astype(np.float64), total**2 / np.maximum(square, 1e-24)
