"""Responses drawn from the model itself, with everything known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zerorouter.irt.model import sigmoid


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """The truth behind a response matrix, and the matrix."""

    theta: np.ndarray  # (M, K)
    a: np.ndarray  # (N, K)
    d: np.ndarray  # (N,)
    features: np.ndarray  # (N, F)
    covariates: np.ndarray  # (M, C)
    p: np.ndarray  # (M, N)
    scores: np.ndarray  # (M, N) with NaN
    held_out: np.ndarray  # (M, N), NaN where in scores


def simulate(
    seed: int,
    *,
    n_respondents: int = 80,
    n_items: int = 1500,
    n_dims: int = 3,
    n_features: int = 20,
    missing: float = 0.3,
    effect_sd: float = 0.4,
    guessing: float = 0.0,
) -> Simulated:
    """A matrix whose items depend on features and whose respondents depend on covariates."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_items, n_features))
    weights = rng.standard_normal((n_features, n_dims + 1)) * np.sqrt(0.6 / n_features)
    weights[:, 0] *= 0.4
    base = np.zeros(n_dims + 1)
    base[0] = 1.2
    beta = base + features @ weights + effect_sd * rng.standard_normal((n_items, n_dims + 1))
    covariates = rng.standard_normal((n_respondents, 2))
    theta = rng.standard_normal((n_respondents, n_dims))
    theta[:, 0] += 0.8 * covariates[:, 0]
    logit = theta @ beta[:, :n_dims].T + beta[:, n_dims]
    p = guessing + (1 - guessing) * sigmoid(logit).astype(float)
    answers = (rng.random(p.shape) < p).astype(np.float32)
    hidden = rng.random(p.shape) < missing
    return Simulated(
        theta=theta,
        a=beta[:, :n_dims],
        d=beta[:, n_dims],
        features=features,
        covariates=covariates,
        p=p,
        scores=np.where(hidden, np.nan, answers).astype(np.float32),
        held_out=np.where(hidden, answers, np.nan).astype(np.float32),
    )
