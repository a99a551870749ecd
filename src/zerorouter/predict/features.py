"""From prompts to the figures that the predictor reads: an embedding and structural features.

The same code runs at fit and at serving, on the same raw text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float32Array
from zerorouter.predict.encoders import Encoder, StaticEncoder, pool_windows
from zerorouter.predict.options import read_ask
from zerorouter.predict.prompt import Prompt
from zerorouter.predict.structure import FEATURE_NAMES, N_FEATURES, TokenStatistics, ask_features

_N_OPTIONS = FEATURE_NAMES.index("n_options")


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptFeatures:
    """What was read of N prompts.

    Attributes:
        embedding: (N, dim) unit vectors.
        structure: (N, F) structural features, in the order of `structure.FEATURE_NAMES`.
    """

    embedding: Float32Array
    structure: Float32Array

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def guess_floor(self) -> Float32Array:
        """(N,) one over the number of answer options; 0 for open questions."""
        return guess_floor(self.structure)

    def take(self, index: np.ndarray) -> PromptFeatures:
        """The prompts at ``index``, in that order."""
        return PromptFeatures(embedding=self.embedding[index], structure=self.structure[index])


def guess_floor(structure: Float32Array) -> Float32Array:
    """(N,) chance of guessing right, from the number of options that the text offers."""
    n_options = structure[:, _N_OPTIONS]
    floor: Float32Array = np.divide(n_options >= 2, np.maximum(n_options, 1), dtype=np.float32)
    return floor


def chance(structure: Float32Array) -> float:
    """`guess_floor` of one prompt, from its structural features (F,)."""
    n_options = float(structure[_N_OPTIONS])
    return 1.0 / n_options if n_options >= 2 else 0.0


class FeatureReader:
    """Reads features of prompts with one encoder.

    The structural features always use the word pieces of the static encoder, whichever
    encoder embeds, so that they mean the same under each.
    """

    def __init__(self, static: StaticEncoder, encoder: Encoder | None = None) -> None:
        self._static = static
        self._encoder = encoder
        self._statistics = TokenStatistics(
            log_frequency=static.log_frequency,
            is_wordpiece=static.is_wordpiece,
        )

    @property
    def encoder_name(self) -> str:
        """Names what a space was fitted with; another encoder needs another space."""
        return self._static.name if self._encoder is None else self._encoder.name

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._static.dim if self._encoder is None else self._encoder.dim

    @property
    def n_features(self) -> int:
        """Length of an embedding and the structural features together."""
        return self.dim + N_FEATURES

    def read(self, prompts: Sequence[Prompt]) -> PromptFeatures:
        """Features of prompts; each row equals that of the prompt alone."""
        return self.read_each(prompts, len(prompts))

    def read_each(self, prompts: Iterable[Prompt], n: int) -> PromptFeatures:
        """The same for ``n`` prompts made on the fly, which need not all be held at once."""
        embedding = np.empty((n, self.dim), dtype=np.float32)
        structure = np.empty((n, N_FEATURES), dtype=np.float32)
        for i, prompt in enumerate(prompts):
            windows = prompt.windows
            # Head and tail of a long ask: instructions stand at one, the question at the other.
            text = windows[0] if len(windows) == 1 else f"{windows[0]}\n{windows[-1]}"
            # The bare ask, whatever its labels and instructions, is tokenised once for both.
            ask = read_ask(text)
            parts = self._static.words.ids_of_parts((ask.stem, *ask.options))
            if parts is None or len(windows) > 1 or self._encoder is not None:
                ask = ask.canonical()
            ids = self._static.token_ids(ask.text) if parts is None else parts.ids
            structure[i] = ask_features(
                ask,
                ids,
                self._statistics,
                parts=parts,
                n_turns=prompt.n_turns,
                n_tools=prompt.n_tools,
                n_media=sum(prompt.media.values()) if prompt.media else 0,
                n_unread=max(prompt.ask_chars - len(text), 0),
            )
            if len(windows) > 1:
                embedding[i] = pool_windows((self._encoder or self._static).encode(windows))
            elif self._encoder is not None:
                embedding[i] = self._encoder.encode((ask.text,))[0]
            else:
                embedding[i] = self._static.embed(ids)
        return PromptFeatures(embedding=embedding, structure=structure)
