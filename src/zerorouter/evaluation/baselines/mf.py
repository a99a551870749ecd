"""`mf`: matrix factorisation of models and prompts (EmbedLLM, RouteLLM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from zerorouter.evaluation.baselines._latent import LatentMethod, Link
from zerorouter.evaluation.contracts import Settings


class MatrixFactorisation(LatentMethod):
    r"""A model's embedding times a projection of the prompt's.

    EmbedLLM (Zhuang et al. 2024, arXiv 2410.02223) and the matrix factorisation of RouteLLM
    (Ong et al. 2024, arXiv 2406.18665): :math:`P = \sigma(w \cdot (m_u \odot W x))`, where w is
    absorbed in m. Deviations:

    - every model and the prompts have a bias of their own, without which a few dimensions are
      spent on overall levels;
    - Gaussian priors tuned on held-out prompts, full-batch L-BFGS instead of Adam with noise;
    - fewer dimensions than EmbedLLM's 232, which only suit its hundred models;
    - a newcomer's embedding is its Laplace posterior given its anchors under the population of
      the calibration models' (EmbedLLM refits everything; without anchors the mean model);
    - our static encoder and structural features instead of all-mpnet-base-v2.
    """

    id: ClassVar[str] = "mf"
    reference: ClassVar[str] = "EmbedLLM (arXiv 2410.02223), RouteLLM-MF (arXiv 2406.18665)"
    link: ClassVar[Link] = "mf"
    defaults: ClassVar[Settings] = {
        "dims": 4,
        "ridge": 30000.0,
        "encoder": "static",
        "structure": True,
        "cards": False,
    }
    tried: ClassVar[Sequence[Settings]] = (
        {},
        {"ridge": 10000.0},
        {"ridge": 100000.0},
        {"dims": 2},
        {"dims": 16},
        {"structure": False},
        {"structure": False, "ridge": 10000.0},
    )
