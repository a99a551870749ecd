"""`carrot`: two plug-in regressors, one of accuracy and one of cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, FloatArray
from zerorouter.evaluation.baselines._inputs import Inputs
from zerorouter.evaluation.baselines._neighbours import by_mask
from zerorouter.evaluation.baselines._pool import (
    Costs,
    Part,
    Pool,
    clip_p,
    pooled_mean,
    require_answers,
    shrunk_means,
)
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Labels,
    Method,
    Newcomers,
    PromptSet,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.costs import MeanCosts

DEFAULTS: Settings = {
    "ridge": 3000.0,
    "cost_ridge": 3000.0,
    "encoder": "static",
    "structure": True,
}


class Carrot(Method):
    """CARROT's plug-in rule (Somerstep et al. 2025, arXiv 2502.03261) with ridge regressors.

    Accuracy and cost of each model are regressed on the prompt's features, each model for
    itself, and the rule maximises the one minus a multiple of the other: the common sweep. The
    paper plugs in kNN or a fine-tuned RoBERTa; its kNN is our `knn`, so here the regressor is
    ridge on the static embedding and the structural features. Cost is the ridge forecast of log
    output tokens, with Duan's smearing, at the model's prices; where a model has no prices but
    the records carry dollars, the ridge forecast of log dollars. Without a length or a dollar it
    is the mean cost. Ridge starts from the model's own shrunk mean, so few labels bend it
    little; a newcomer without any answer is forecast as the mean of the calibration models.
    """

    id: ClassVar[str] = "carrot"
    reference: ClassVar[str] = "CARROT, ridge plug-ins (arXiv 2502.03261)"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Penalty and features. Costs keep their default: no score of ours tunes them."""
        del n_labels
        grid = itertools.product((3000.0, 300.0, 1000.0, 10000.0, 30000.0), (True, False))
        return [{**DEFAULTS, "ridge": ridge, "structure": s} for ridge, s in grid]

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> FittedMethod:
        """Regress scores and lengths."""
        del rng
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        inputs = Inputs.fit(
            data.prompts, encoder=str(chosen["encoder"]), structure=bool(chosen["structure"])
        )
        x = inputs(data.prompts)
        costs = Costs(data)
        centre = pooled_mean(data.labels.scores)
        ridge, cost_ridge = float(chosen["ridge"]), float(chosen["cost_ridge"])
        score = _ridge(x, data.labels.scores, shrunk_means(data.labels.scores, centre), ridge)
        known = _CostForecast(x, data.labels, costs.known, cost_ridge)
        old = _Regressed(inputs, score, known)

        def join(newcomers: Newcomers) -> Part:
            labels = newcomers.labels
            found = _ridge(x, labels.scores, shrunk_means(labels.scores, centre), ridge)
            silent = ~labels.observed.any(axis=1)
            found[:, silent] = score.mean(axis=1, keepdims=True)
            cost = _CostForecast(x, labels, costs.of(newcomers), cost_ridge)
            return _Regressed(inputs, found, cost)

        return Pool([old], join)


class _CostForecast:
    """Ridge forecasts of log output tokens and log dollars, and which of them to trust."""

    def __init__(
        self,
        x: Float32Array,
        labels: Labels,
        means: MeanCosts,
        ridge: float,
    ) -> None:
        self._means = means
        self._tokens = _LogRidge(x, labels.output_tokens, ridge)
        unpriced = np.isnan(means.input_usd + means.output_usd)
        self._dollars = _LogRidge(x, np.where(unpriced[:, None], labels.cost_usd, np.nan), ridge)

    def predict(self, x: Float32Array, prompts: PromptSet) -> Float64Array:
        """(N, M) dollars."""
        priced = prompts.input_tokens[:, None] * self._means.input_usd
        priced = priced + self._tokens.predict(x) * self._means.output_usd
        out = np.where(np.isnan(priced), self._dollars.predict(x), priced)
        return np.where(np.isnan(out), self._means.predict(prompts), out)


class _LogRidge:
    """Ridge on logs of positive amounts (M, N); forecasts never leave the range seen."""

    def __init__(self, x: Float32Array, amounts: FloatArray, ridge: float) -> None:
        usable = np.where(amounts > 0, amounts, np.nan)
        logs = np.log(usable)
        seen = ~np.isnan(logs)
        filled = np.where(seen, logs, 0.0)
        count = np.maximum(seen.sum(axis=1), 1)
        self._weights = _ridge(x, logs, filled.sum(axis=1) / count, ridge)
        fitted = (x @ self._weights[:-1] + self._weights[-1]).T
        smear = np.where(seen, np.exp(np.clip(filled - fitted, -5.0, 5.0)), 0.0)
        self._smearing = smear.sum(axis=1) / count  # Duan 1983
        self._low = np.where(seen, logs, np.inf).min(axis=1, initial=np.inf)
        self._high = np.where(seen, logs, -np.inf).max(axis=1, initial=-np.inf)
        self._known = seen.any(axis=1)

    def predict(self, x: Float32Array) -> Float64Array:
        """(N, M) expected amounts; NaN for models of which none was seen."""
        logs = x @ self._weights[:-1] + self._weights[-1]
        low = np.where(self._known, self._low, 0.0)
        high = np.where(self._known, self._high, 0.0)
        out: Float64Array = np.exp(np.clip(logs, low, high)) * self._smearing
        return np.where(self._known, out, np.nan)


class _Regressed(Part):
    def __init__(self, inputs: Inputs, weights: Float64Array, costs: _CostForecast) -> None:
        super().__init__()
        self._inputs, self._weights, self._costs = inputs, weights, costs

    def compute(self, prompts: PromptSet) -> Forecast:
        x = self._inputs(prompts)
        p = x @ self._weights[:-1] + self._weights[-1]
        return Forecast(p_correct=clip_p(p), cost_usd=self._costs.predict(x, prompts))


def _ridge(
    x: Float32Array, targets: FloatArray, centre: Float64Array, penalty: float
) -> Float64Array:
    """(F+1, M) weights of targets (M, N) less their centres (M,), the constants last.

    Models that know the same cells share one decomposition, in the smaller of primal and dual.
    """
    out = np.zeros((x.shape[1] + 1, len(targets)))
    out[-1] = centre
    for models, rows in by_mask(~np.isnan(targets)):
        known = x[rows].astype(np.float64)
        y = targets[np.ix_(models, rows)].T - centre[models]
        n, f = known.shape
        # The constant is refitted with the features centred on the rows that are known.
        offset = known.mean(axis=0)
        known -= offset
        if f <= n:
            gram = known.T @ known
            gram.flat[:: f + 1] += penalty
            weights = np.linalg.solve(gram, known.T @ y)
        else:
            gram = known @ known.T
            gram.flat[:: n + 1] += penalty
            weights = known.T @ np.linalg.solve(gram, y)
        out[:-1, models] = weights
        out[-1, models] -= offset @ weights
    return out
