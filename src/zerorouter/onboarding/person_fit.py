r"""Does the pattern of answers fit the ability? And do the answers look like answers?

**Person fit.** With residuals :math:`r_i = y_i - P_i` and :math:`w_i = \log(P_i / (1 - P_i))`, the
log-likelihood statistic lz of Drasgow, Levine & Williams (1985) is the standardised
:math:`\sum r_i w_i`: very negative where hard items are right and easy ones wrong. Its null
distribution holds at the true ability; at an estimated one the residuals are not independent of
it. Snijders (2001) corrects for that by projecting :math:`w` off the directions that the estimate
has used up; for K dimensions (Albers, Meijer & Tendeiro 2016)

.. math:: \tilde w = w - R (R^T D R)^{-1} R^T D w, \qquad
          l_z^* = \frac{\sum r_i \tilde w_i}{\sqrt{\sum P_i (1 - P_i) \tilde w_i^2}},

with :math:`R_i = P_i' / (P_i (1 - P_i))` the gradient of an item's logit and D the diagonal of
:math:`P_i (1 - P_i)`. Close to standard normal from about 15 answers. Items the model is sure to
get right or wrong carry no weight, and scores between 0 and 1, which vary less than a coin does,
make it conservative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.irt.model import ItemParameters

FEWEST_ANSWERS = 15
MISFIT = -2.33  # one model in a hundred of those that fit
MEMORISED = 2.58  # standard errors by which published anchors beat fresh ones of their kind
SEVERAL = 0.1  # share of answers beyond which an oddity is no accident
MOST_UNREAD = 0.5  # share of answers in which the grader finds no answer


@dataclass(frozen=True, kw_only=True)
class PersonFit:
    """Fit of one respondent's answers.

    Attributes:
        statistic: l_z*; None with fewer than `FEWEST_ANSWERS` informative answers.
        surprises: Positions of the answers that speak most against the fit, worst first.
    """

    statistic: float | None
    surprises: tuple[int, ...]

    @property
    def misfits(self) -> bool:
        """Whether hard items are right and easy ones wrong beyond chance."""
        return self.statistic is not None and self.statistic < MISFIT


@dataclass(frozen=True, kw_only=True, slots=True)
class Conduct:
    """How often answers were odd.

    Attributes:
        n: Answers received.
        refused: Answers that decline.
        truncated: Answers cut at the token limit.
        empty: Answers without text.
        unread: Answers in which the grader found nothing to grade.
        wrong: Answers scored 0.
        expected: Sum of P(correct) over the graded answers.
    """

    n: int
    refused: int = 0
    truncated: int = 0
    empty: int = 0
    unread: int = 0
    wrong: int = 0
    expected: float = 0.0


def person_fit(items: ItemParameters, scores: FloatArray, theta: FloatArray) -> PersonFit:
    """l_z* of scores (N,) on items at the ability (K,) estimated from them."""
    p, slope, a = _curve(items, np.asarray(theta, dtype=np.float64))
    y = np.asarray(scores, dtype=np.float64)
    variance = p * (1 - p)
    weight = np.log(p / (1 - p))
    # Guess floors make P' smaller than P (1 - P): the gradient is told in units of the logit of P.
    direction = a * (slope / variance)[:, None]  # (N, K)
    weighted = direction * variance[:, None]
    gram = weighted.T @ direction + 1e-9 * np.eye(a.shape[1])
    left = weight - direction @ np.linalg.solve(gram, weighted.T @ weight)
    spread = float(np.sum(variance * left**2))
    contribution = (y - p) * left
    informative = int(np.sum(variance > 1e-3))
    statistic = None
    if informative >= FEWEST_ANSWERS and spread > 1e-9:
        statistic = float(contribution.sum() / math.sqrt(spread))
    worst = np.argsort(contribution)[:3]
    return PersonFit(
        statistic=statistic,
        surprises=tuple(int(i) for i in worst if contribution[i] < -1.0),
    )


def memorised(
    items: ItemParameters, scores: FloatArray, theta: FloatArray, published: FloatArray
) -> float | None:
    """Standard errors by which a model does better on published prompts than on fresh ones.

    Both are held against their expectation at the ability (K,). None where fewer than five
    of either were answered.
    """
    p, _, _ = _curve(items, np.asarray(theta, dtype=np.float64))
    residual = np.asarray(scores, dtype=np.float64) - p
    old = np.asarray(published, dtype=bool)
    if old.sum() < 5 or (~old).sum() < 5:
        return None
    variance = p * (1 - p)
    error = variance[old].sum() / old.sum() ** 2 + variance[~old].sum() / (~old).sum() ** 2
    return float((residual[old].mean() - residual[~old].mean()) / math.sqrt(error))


def warnings_of(
    fit: PersonFit, conduct: Conduct, refs: Sequence[str], memory: float | None = None
) -> list[str]:
    """Sentences for a person, the gravest first; empty where nothing is odd."""
    told = []
    n = max(conduct.n, 1)
    if conduct.n >= 5 and conduct.unread / n > MOST_UNREAD:
        told.append(
            f"the grader found no answer in {conduct.unread} of {conduct.n} replies; check the "
            "grader and the format the model answers in before trusting this estimate"
        )
    if conduct.n >= 10 and conduct.wrong == conduct.n and conduct.expected > 3:
        told.append(
            f"not one of {conduct.n} answers is right, where {conduct.expected:.0f} were to be "
            "expected; check the references, the grader and the endpoint"
        )
    for count, what, todo in (
        (conduct.empty, "empty", "the endpoint may need another parameter or more output tokens"),
        (conduct.truncated, "cut at the token limit", "raise --max-tokens and ask again (--fresh)"),
        (conduct.refused, "refusals", "they count as wrong, as they would for users"),
    ):
        if count / n > SEVERAL and count > 1:
            told.append(f"{count} of {conduct.n} answers were {what}; {todo}")
    if fit.misfits:
        shown = ", ".join(refs[i] for i in fit.surprises)
        told.append(
            f"person fit l_z* = {fit.statistic:.1f}: hard anchors are right and easy ones wrong "
            "more often than any ability explains; the model may know the anchors, or fail at "
            f"their format (such as {shown})"
        )
    if memory is not None and memory > MEMORISED:
        told.append(
            f"published anchors go {memory:.1f} standard errors better than fresh ones of the same "
            "kind: the model may have seen them; ask fresh seeds alone (--anchor-set fresh)"
        )
    return told


def _curve(
    items: ItemParameters, theta: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """P (N,), its slope in the logit (N,), attenuated discriminations (N, K)."""
    extended = np.append(theta, 1.0)
    v = items.effect_scale * float(extended @ items.effect_covariance @ extended)
    shrink = 1 / np.sqrt(1 + np.pi / 8 * (v + items.shift_variance).astype(np.float64))
    a = items.discrimination.astype(np.float64) * shrink[:, None]
    sigma = 0.5 + 0.5 * np.tanh(0.5 * (a @ theta + items.intercept * shrink))
    c = items.guessing.astype(np.float64)
    p = np.clip(c + (1 - c) * sigma, 1e-6, 1 - 1e-6)
    return p, (1 - c) * sigma * (1 - sigma), a
