"""`mirt`: multidimensional IRT whose items are predicted from the embedding (IRT-Router)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from zerorouter.evaluation.baselines._latent import LatentMethod, Link
from zerorouter.evaluation.contracts import Settings


class Mirt(LatentMethod):
    r"""IRT-Router's MIRT (Song et al. 2025, arXiv 2506.01048).

    :math:`P = \sigma(a(x) \cdot \theta_u - b(x))` with positive discriminations and a scalar
    difficulty, both read linearly off the prompt's features. Deviations:

    - abilities are free parameters with a Gaussian prior, where the paper maps an embedding of
      the model's textual description to them; a newcomer's ability starts from a regression on
      the facts of its card, which stand for the description, and is updated by its anchors;
    - softplus keeps discriminations positive (the paper: a sigmoid in its published form);
    - fewer dimensions than the paper's 25, L2 penalties tuned on held-out prompts, full-batch
      L-BFGS instead of Adam;
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
        "cards": True,
    }
    tried: ClassVar[Sequence[Settings]] = (
        {},
        {"ridge": 3000.0},
        {"ridge": 30000.0},
        {"dims": 1},
        {"dims": 1, "ridge": 30000.0},
        {"dims": 16},
        {"structure": False},
        {"structure": False, "ridge": 3000.0},
    )
