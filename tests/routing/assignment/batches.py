"""Batches made up by the hundred, and the slow, certain way to assign them."""

from __future__ import annotations

import itertools

import numpy as np

from zerorouter.routing.assignment.offers import Bounds, Offers
from zerorouter.routing.assignment.programme import Programme, Side

NAMES = tuple(f"m{j:03d}" for j in range(200))


def batch(n: int, m: int, seed: int = 0, **changes) -> Offers:
    """Prices over three orders of magnitude; dear models are better on most prompts."""
    rng = np.random.default_rng(seed)
    price = np.exp(rng.normal(-7, 1.5, m))
    ability = 0.5 * np.log(price) + rng.normal(0, 0.5, m)
    difficulty = rng.normal(0, 1.5, (n, 1))
    logit = ability - ability.mean() - difficulty + rng.normal(0, 0.3, (n, m))
    length = np.exp(rng.normal(0, 0.7, (n, 1)) + rng.normal(0, 0.2, (n, m)))
    speed = np.exp(rng.normal(0.5, 0.6, m))
    tables = {
        "p_correct": 1 / (1 + np.exp(-logit)),
        "cost_usd": price * length,
        "latency_s": speed * length,
        "latency_p95_s": speed * length * 2.2,
        "tokens": np.round(100 * length),
    }
    return Offers(models=NAMES[:m], **{**tables, **changes})


def ends(offers: Offers) -> tuple[float, float]:
    """The least that a batch can cost, and what the most accurate choice costs."""
    cost, p = offers.cost_usd, offers.p_correct
    best = np.take_along_axis(cost, p.argmax(axis=1)[:, None], axis=1)
    return float(cost.min(axis=1).sum()), float(best.sum())


def budget(offers: Offers, share: float) -> float:
    """A budget that far from the least to the most that it makes sense to spend."""
    low, high = ends(offers)
    return low + share * (high - low)


def one_budget(offers: Offers, usd: float, **changes) -> Programme:
    """The programme of a budget alone."""
    free = np.full(offers.n_models, np.inf)
    values = {
        "gain": offers.p_correct,
        "sides": (Side(name="budget_usd", amount=offers.cost_usd, limit=usd),),
        "request_limit": free,
        "token_limit": free,
        "allowed": offers.allowed,
    }
    return Programme(**{**values, **changes})


def best_by_trying(programme: Programme) -> float:
    """The best of all choices, each tried; minus infinity where none keeps the bounds."""
    best = -np.inf
    for choice in itertools.product(range(programme.n_models), repeat=programme.n_prompts):
        at = np.array(choice)
        if programme.keeps(at):
            best = max(best, programme.value(at))
    return best


def keeps(offers: Offers, bounds: Bounds, choice: np.ndarray) -> bool:
    """Whether a choice keeps budget, mean latency and capacities, worked out anew."""
    rows = np.arange(len(choice))
    fine = True
    if bounds.budget_usd is not None:
        fine &= float(offers.cost_usd[rows, choice].sum()) <= bounds.budget_usd
    if bounds.max_mean_latency_s is not None:
        limit = bounds.max_mean_latency_s * (1 + 1e-12)
        fine &= float(offers.latency_s[rows, choice].mean()) <= limit
    requests, tokens = bounds.of_models(offers.models)
    counts = np.bincount(choice, minlength=offers.n_models)
    fine &= bool(np.all(counts <= requests))
    if np.isfinite(tokens).any():
        taken = np.bincount(choice, offers.tokens[rows, choice], minlength=offers.n_models)
        fine &= bool(np.all(taken <= tokens))
    return fine
