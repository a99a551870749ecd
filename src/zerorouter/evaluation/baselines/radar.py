"""`radar`: a 2PL whose discrimination and difficulty are linear in the embedding (RADAR)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from zerorouter.evaluation.baselines._latent import LatentMethod, Link
from zerorouter.evaluation.contracts import Settings


class Radar(LatentMethod):
    r"""RADAR's response model (Fernandez et al. 2025, arXiv 2509.25426).

    :math:`P = \sigma(a(x)(\theta_u - b(x)))`, a and b linear in the prompt's features, one
    ability per model (the paper: per model and reasoning budget, which our records do not
    vary). Deviations:

    - abilities have a Gaussian prior and newcomers the Laplace posterior from their anchors; the
      paper picks those adaptively by Fisher information, here the common draw is used;
    - L2 penalties tuned on held-out prompts; structural features join the embedding;
    - the common sweep over the value of an answer, that is the paper's linear scalarisation; its
      Chebyshev scalarisation is left out.
    """

    id: ClassVar[str] = "radar"
    reference: ClassVar[str] = "RADAR, 2PL linear in the embedding (arXiv 2509.25426)"
    link: ClassVar[Link] = "radar"
    defaults: ClassVar[Settings] = {
        "dims": 1,
        "ridge": 10000.0,
        "encoder": "static",
        "structure": True,
        "cards": False,
    }
    tried: ClassVar[Sequence[Settings]] = (
        {},
        {"ridge": 3000.0},
        {"ridge": 30000.0},
        {"structure": False},
        {"structure": False, "ridge": 3000.0},
    )
