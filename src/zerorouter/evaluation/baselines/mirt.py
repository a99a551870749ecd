"""`mirt`: multidimensional IRT whose items are predicted from the embedding (IRT-Router)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

from zerorouter.evaluation.baselines._latent import LatentMethod, Link
from zerorouter.evaluation.contracts import Settings


class Mirt(LatentMethod):
    r"""IRT-Router's MIRT (Song et al. 2025, arXiv 2506.01048).

    :math:`P = \sigma(a(x) \cdot \theta_u - b(x))` with positive discriminations and a scalar
    difficulty, both read linearly off the prompt's features. Deviations:

    - abilities are free parameters with a Gaussian prior, where the paper maps an embedding of
      the model's textual description to them; a newcomer's ability comes from its anchors
      (without any, the population's mean), not from its description;
    - softplus keeps discriminations positive (the paper: a sigmoid in its published form);
    - L2 penalties tuned on held-out prompts, full-batch L-BFGS instead of Adam;
    - our static encoder and structural features instead of BERT, and no warm-up by similar
      training queries.
    """

    id: ClassVar[str] = "mirt"
    reference: ClassVar[str] = "IRT-Router, MIRT (arXiv 2506.01048)"
    link: ClassVar[Link] = "mirt"
    defaults: ClassVar[Settings] = {
        "dims": 4,
        "ridge": 10000.0,
        "encoder": "static",
        "structure": True,
    }

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Penalty, dimensions (the paper: 25) and features."""
        del n_labels
        grid = itertools.product((10000.0, 3000.0, 30000.0), (4, 1))
        tried = [{**self.defaults, "ridge": r, "dims": k} for r, k in grid]
        return [*tried, {**self.defaults, "dims": 16}, {**self.defaults, "structure": False}]
