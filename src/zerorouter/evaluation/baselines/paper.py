r"""ZeroRouter as published (arXiv 2601.06220, AAAI-26), rebuilt from what is known of it.

The authors' repository holds no code; METHOD.md section 2 lists what the abstracts say. What is
rebuilt here, in their order:

- **Space**: a D-dimensional 2PL, :math:`P = \sigma(\alpha_i \cdot (\theta_u - b_i))` with
  :math:`\alpha_i = \exp(\cdot) > 0` and D = 20, hierarchical Gaussian priors, stochastic
  variational inference: a mean-field Gaussian, one reparameterised draw per step, Adam.
- **Predictor**: in a second stage, log alpha and b (2D targets) are regressed on an embedding and
  11 linguistic features.
- **Anchors**: greedy log-det of the Fisher information; a newcomer's ability comes from its
  answers to anchors at their calibrated parameters.
- **Cost**: difficulty :math:`s = \alpha \cdot b` cut into bins; a model's mean output length in
  the bin, at its price.
- **Optimizer**: an integer programme with user weights and no coupling constraint, which is the
  argmax of each prompt; three presets.

Deviations and choices where the paper is silent:

1. DistilBERT's [CLS], trained end to end, is a frozen embedding: MiniLM where the prompts carry
   it, else the static encoder. The heads are ridge regressions in closed form, not networks.
2. The 11 features are not listed in the paper. These stand in for readability, vocabulary and
   syntax (`LINGUISTIC`); commas per character stand in for parse depth.
3. The constants of the priors are not known. As in py-irt, whose multidimensional 2PL the
   description follows, each dimension has a free mean and a Gamma(1, 1) prior on one over the
   standard deviation; these are point estimates here, distributions there.
4. The calibration models of the data at hand take the place of about 200 leaderboard models.
5. Information for the anchors is averaged over the ability's prior (the paper does not say where
   it is taken), items are taken as known exactly, and choice is greedy.
6. Ability is a Laplace posterior; with no answers it is the prior's mean.
7. Bins are quantiles of the *predicted* difficulty, which is what a new prompt is binned by, 5 of
   them: binning by the fitted one explained less of held-out lengths (.13 against .16 of their
   variance on zeroeval, .05 against .09 on mmlu-pro). Means are shrunk by `PRIOR_CELLS` answers
   towards the pool's profile over the bins times the model's own level, since 100 anchors leave
   a newcomer's bins nearly empty. A model without a price whose records carry dollars is given
   bin means of those.
8. The latency model is not known and records carry no latency: the expected output tokens stand
   in for seconds, as if every model wrote equally fast.
9. The weights of the presets are not published: 0.8 on what the preset is named for and 0.1 on
   each of the other two. Accuracy, cost and length are scaled by minimum and maximum over the
   pool (of the calibration models' means), fixed at the fit.
10. So that a frontier exists, `SWEEP` adds weights between accuracy and cost. Models without a
    known cost are never chosen; where no model has one, cost does not enter.
11. Probabilities are kept a thousandth away from 0 and 1, as in every baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, FloatArray, IntArray
from zerorouter.errors import InputError
from zerorouter.evaluation.baselines._paper_space import (
    MAX_LOG_ALPHA,
    PaperSpace,
    difficulty,
    fit_space,
)
from zerorouter.evaluation.baselines._pool import clip_p, is_priced, require_answers
from zerorouter.evaluation.contracts import (
    FittedMethod,
    Forecast,
    Labels,
    Method,
    Newcomers,
    OperatingPoint,
    PromptSet,
    Settings,
    TrainingSet,
)
from zerorouter.evaluation.costs import PRIOR_CELLS
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.anchors import select_anchors
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.linking import RespondentCard
from zerorouter.predict.features import PromptFeatures
from zerorouter.predict.items import Standardiser
from zerorouter.predict.structure import FEATURE_NAMES

LINGUISTIC = (
    "log_words",
    "log_sentences",
    "log_words_per_sentence",  # of the Flesch and LIX readability formulas
    "mean_word_length",  # of the automated readability index
    "long_word_share",  # of LIX: more than six letters
    "very_long_word_share",
    "type_token_ratio",
    "tokens_per_word",  # rare and compound words fall into pieces
    "rarity_mean",  # familiarity of words, as in the Dale-Chall formula
    "rarity_rare_share",
    "share_comma",  # clauses, for the depth of the parse
)
"""The 11 linguistic features, named as in `structure.FEATURE_NAMES`."""

PRESETS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "paper_max_acc": (0.8, 0.1, 0.1),
        "paper_min_cost": (0.1, 0.8, 0.1),
        "paper_min_lat": (0.1, 0.1, 0.8),
    }
)
"""Weights on scaled accuracy, cost and latency; the paper's own are not published."""

SWEEP = tuple(float(w) for w in 1 / (1 + np.exp(-np.linspace(-5, 5, 21))))
"""Weights on accuracy, the rest on cost: evenly spaced log-odds."""

DEFAULTS: Settings = MappingProxyType({"n_dims": 20, "prior_sd": None, "ridge": 300.0, "n_bins": 5})

DECIMALS = 9  # of a difficulty: rounding in the last bit must not move a prompt to another bin


class ZeroRouterPaper(Method):
    """The published system with D = 20; see the module for every deviation.

    Settings: ``n_dims`` D; ``prior_sd``, the standard deviation of all three priors, None to learn
    one per dimension; ``ridge``, the penalty of the heads in units of prompts; ``n_bins`` of
    difficulty.
    """

    id = "zerorouter_paper"
    reference = "ZeroRouter, arXiv 2601.06220 (AAAI-26), rebuilt from its description"

    def fit(self, data: TrainingSet, settings: Settings, rng: np.random.Generator) -> _FittedPaper:
        """Calibrate the space, then fit the heads and the bins."""
        require_answers(data)
        chosen = {**DEFAULTS, **settings}
        space = fit_space(
            data.labels.scores,
            n_dims=int(chosen["n_dims"]),
            prior_sd=chosen["prior_sd"],
            rng=rng,
        )
        heads = _Heads.fit(data.prompts, space, float(chosen["ridge"]))
        hardness = difficulty(*heads.predict(data.prompts))
        bins = _Bins.fit(hardness, data, int(chosen["n_bins"]))
        fitted = _FittedPaper(
            space=space,
            heads=heads,
            bins=bins,
            theta=space.theta.astype(np.float64),
            output_tokens=bins.tokens.of(data.labels.output_tokens, bins.of_training),
            cost_usd=bins.recorded_cost(data.models, data.labels),
            prices=_prices(data.models),
            scale=_Scale(),
        )
        return replace(fitted, scale=_Scale.of(fitted, data.prompts))


class ZeroRouterPaperTuned(ZeroRouterPaper):
    """The same architecture with D, prior scale, ridge and bins tuned on calibration data."""

    id = "zerorouter_paper_tuned"
    reference = "ZeroRouter, arXiv 2601.06220 (AAAI-26), tuned on calibration data"

    def candidates(self, n_labels: int | None) -> Sequence[Settings]:
        """Twelve settings around the published one."""
        del n_labels
        return tuple(
            {"n_dims": n_dims, "prior_sd": prior_sd, "ridge": ridge, "n_bins": n_bins}
            for n_dims, prior_sd, ridge, n_bins in (
                (20, None, 300.0, 5),
                (20, None, 1000.0, 10),
                (20, None, 3000.0, 10),
                (20, 0.5, 300.0, 5),
                (20, 0.5, 1000.0, 10),
                (8, None, 300.0, 5),
                (8, 0.5, 300.0, 10),
                (8, 0.5, 1000.0, 5),
                (8, 0.1, 1000.0, 10),
                (3, None, 1000.0, 10),
                (3, 0.1, 300.0, 5),
                (1, None, 1000.0, 5),
            )
        )


# -- after the fit -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _FittedPaper(FittedMethod):
    """The system knowing M models.

    Attributes:
        space: Calibrated items and the ability's prior.
        heads: Prompt to log alpha and b.
        bins: Difficulty bins with the pool's lengths and costs.
        theta: (M, D) abilities.
        output_tokens: (M, bins) mean output tokens.
        cost_usd: (M, bins) mean dollars on record, for models without a price; NaN without both.
        prices: (M, 2) dollars per input and output token, NaN where not known.
        scale: What a unit of accuracy, cost and length is worth.
    """

    space: PaperSpace
    heads: _Heads
    bins: _Bins
    theta: Float64Array
    output_tokens: Float64Array
    cost_usd: Float64Array
    prices: Float64Array
    scale: _Scale

    def predict(self, prompts: PromptSet) -> Forecast:
        """P(correct) by the heads, cost by the bins."""
        p, cost, _ = self.estimates(prompts)
        return Forecast(p_correct=p, cost_usd=cost)

    def estimates(self, prompts: PromptSet) -> tuple[Float64Array, Float64Array, Float64Array]:
        """P(correct), cost in dollars and output tokens of each pair, all (N, M)."""
        log_alpha, b = self.heads.predict(prompts)
        hardness = difficulty(log_alpha, b)
        # Not a matrix product, which may round a column by its neighbours.
        ability = np.einsum("nd,md->nm", np.exp(log_alpha), self.theta)
        p = clip_p(0.5 + 0.5 * np.tanh(0.5 * (ability - hardness[:, None])))
        where = self.bins.place(hardness)
        tokens = self.output_tokens[:, where].T
        cost = prompts.input_tokens[:, None] * self.prices[:, 0] + tokens * self.prices[:, 1]
        cost = np.where(np.isnan(cost), self.cost_usd[:, where].T, cost)
        return p, cost, tokens

    def onboard(self, newcomers: Newcomers) -> _FittedPaper:
        """Abilities from the answers at calibrated parameters, lengths from their bins."""
        space, labels = self.space, newcomers.labels
        theta = [
            ability_posterior(
                space.items, scores, prior_mean=space.theta_mean, prior_covariance=space.covariance
            ).mean
            for scores in labels.scores
        ]
        tokens = self.bins.tokens.of(labels.output_tokens, self.bins.of_training)
        cost = self.bins.recorded_cost(newcomers.models, labels)
        rows = np.array(theta).reshape(-1, self.theta.shape[1])
        return replace(
            self,
            theta=np.vstack([self.theta, rows]),
            output_tokens=np.vstack([self.output_tokens, tokens]),
            cost_usd=np.vstack([self.cost_usd, cost]),
            prices=np.vstack([self.prices, _prices(newcomers.models)]),
        )

    def select_anchors(self, n: int, rng: np.random.Generator) -> IntArray:
        """The greedy D-optimal set; the paper asks 100 or 200."""
        return select_anchors(
            self.space.items,
            n,
            strategy="d_optimal",
            prior_mean=self.space.theta_mean,
            prior_covariance=self.space.covariance,
            eligible=self.space.answered,
            rng=rng,
        )

    def operating_points(self, prompts: PromptSet, eligible: BoolArray) -> Sequence[OperatingPoint]:
        """The three presets and a sweep between accuracy and cost.

        A term without any figure (no prices, no lengths) is left out together with the points
        that rest on it; models without the figure are not chosen where it counts.
        """
        p, cost, tokens = self.estimates(prompts)
        scaled = (p / self.scale.accuracy, cost / self.scale.cost, tokens / self.scale.tokens)
        known = [True, bool(np.isfinite(scaled[1]).any()), bool(np.isfinite(scaled[2]).any())]
        wanted = [(name, weights, weights.index(max(weights))) for name, weights in PRESETS.items()]
        wanted += [(f"accuracy_weight={w:.4f}", (w, 1 - w, 0.0), 1) for w in SWEEP]
        return [
            OperatingPoint(policy=name, choice=_choice(scaled, weights, known, eligible))
            for name, weights, needs in wanted
            if known[needs]
        ]


def _choice(
    scaled: tuple[Float64Array, Float64Array, Float64Array],
    weights: tuple[float, float, float],
    known: Sequence[bool],
    eligible: BoolArray,
) -> IntArray:
    """(N,) argmax of the weighted sum: the integer programme without a coupling constraint."""
    utility = weights[0] * scaled[0]
    for term, weight, usable in zip(scaled[1:], weights[1:], known[1:], strict=True):
        if usable and weight > 0:
            utility = utility - weight * term
    best: IntArray = np.argmax(np.where(np.isnan(utility) | ~eligible, -np.inf, utility), axis=1)
    return best


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Maximum minus minimum over the calibration models' means; 1 where there is no spread.

    The minima themselves shift all models alike and never change a choice.
    """

    accuracy: float = 1.0
    cost: float = 1.0
    tokens: float = 1.0

    @classmethod
    def of(cls, fitted: _FittedPaper, prompts: PromptSet) -> _Scale:
        accuracy, cost, tokens = (_range(values) for values in fitted.estimates(prompts))
        return cls(accuracy=accuracy, cost=cost, tokens=tokens)


def _range(values: Float64Array) -> float:
    means = values.mean(axis=0)
    means = means[np.isfinite(means)]
    spread = float(means.max() - means.min()) if len(means) else 0.0
    return spread if spread > 0 else 1.0


def _prices(models: Sequence[RespondentCard]) -> Float64Array:
    """(M, 2) dollars per token in and out."""
    given = [(card.input_usd_per_mtok, card.output_usd_per_mtok) for card in models]
    rows = [[math.nan if price is None else price / 1e6 for price in pair] for pair in given]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


# -- heads -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Heads:
    """Ridge regressions of log alpha and b on embedding and linguistic features.

    Attributes:
        embedding: Name of the embedding in the prompt set; None for the reader's own.
        standardise: Applied to the features.
        weights: (F+1, 2D), the last row the constant.
    """

    embedding: str | None
    standardise: Standardiser
    weights: Float64Array

    @classmethod
    def fit(cls, prompts: PromptSet, space: PaperSpace, ridge: float) -> _Heads:
        embedding = "minilm" if "minilm" in prompts.embeddings else None
        features = _features(prompts, embedding).take(space.answered)
        standardise = Standardiser.fit(features)
        target = np.hstack([space.log_alpha, space.b])[space.answered]
        flat = np.ones(target.shape[1])
        weights, _, _ = RidgeRegression(standardise(features)).fit(target, flat * ridge, flat)
        return cls(embedding=embedding, standardise=standardise, weights=weights.astype(np.float64))

    def predict(self, prompts: PromptSet) -> tuple[Float64Array, Float64Array]:
        """Log alpha and b, each (N, D)."""
        x = self.standardise(_features(prompts, self.embedding)).astype(np.float64)
        out = x @ self.weights[:-1] + self.weights[-1]
        n_dims = out.shape[1] // 2
        return np.minimum(out[:, :n_dims], MAX_LOG_ALPHA), out[:, n_dims:]


def _features(prompts: PromptSet, embedding: str | None) -> PromptFeatures:
    if embedding is not None and embedding not in prompts.embeddings:
        raise InputError(
            f"the fit used the embedding {embedding!r}, these prompts carry "
            f"{sorted(prompts.embeddings) or 'none'}; embed them alike"
        )
    columns = [FEATURE_NAMES.index(name) for name in LINGUISTIC]
    return PromptFeatures(
        embedding=prompts.features.embedding
        if embedding is None
        else prompts.embeddings[embedding],
        structure=prompts.features.structure[:, columns],
    )


# -- difficulty bins ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Profile:
    """Means per bin over a pool of models, and how one model's are estimated beside them.

    Attributes:
        pooled: (bins,) mean over calibration models; NaN where no figure exists at all.
    """

    pooled: Float64Array

    @classmethod
    def fit(cls, values: FloatArray, bins: IntArray, n_bins: int) -> _Profile:
        total, count = _binned(values, bins, n_bins)
        seen = count > 0
        means = np.where(seen, total / np.maximum(count, 1), 0.0)
        models = seen.sum(axis=0)
        if not models.any():
            return cls(pooled=np.full(n_bins, math.nan))
        pooled = means.sum(axis=0) / np.maximum(models, 1)
        return cls(pooled=np.where(models > 0, pooled, pooled[models > 0].mean()))

    def of(self, values: FloatArray, bins: IntArray) -> Float64Array:
        """(M, bins) a model's means, shrunk to its level times the pool's profile."""
        total, count = _binned(values, bins, len(self.pooled))
        prior = PRIOR_CELLS * self.pooled.mean()
        # Nothing but zeros on record leaves 0 / 0, which is to be 0.
        level = (total.sum(axis=1) + prior) / np.maximum(count @ self.pooled + prior, 1e-300)
        expected = level[:, None] * self.pooled
        out: Float64Array = (total + PRIOR_CELLS * expected) / (count + PRIOR_CELLS)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bins:
    """Quantile bins of predicted difficulty.

    Attributes:
        edges: (bins - 1,) rising.
        of_training: (N,) bin of each training prompt.
        tokens: Profile of output tokens.
        cost: Profile of the dollars on record.
    """

    edges: Float64Array
    of_training: IntArray
    tokens: _Profile
    cost: _Profile

    @classmethod
    def fit(cls, hardness: Float64Array, data: TrainingSet, n_bins: int) -> _Bins:
        rounded = np.round(hardness, DECIMALS)
        edges = np.quantile(rounded, np.arange(1, n_bins) / n_bins)
        where = np.searchsorted(edges, rounded)
        return cls(
            edges=edges,
            of_training=where,
            tokens=_Profile.fit(data.labels.output_tokens, where, n_bins),
            cost=_Profile.fit(data.labels.cost_usd, where, n_bins),
        )

    def recorded_cost(self, models: Sequence[RespondentCard], labels: Labels) -> Float64Array:
        """(M, bins) mean dollars on record; NaN for models without a price or a dollar."""
        means = self.cost.of(labels.cost_usd, self.of_training)
        return np.where(is_priced(models, labels)[:, None], means, np.nan)

    def place(self, hardness: Float64Array) -> IntArray:
        """(N,) bin of each prompt."""
        return np.searchsorted(self.edges, np.round(hardness, DECIMALS))


def _binned(values: FloatArray, bins: IntArray, n_bins: int) -> tuple[Float64Array, Float64Array]:
    """Sums and counts of the known values, (M, bins)."""
    member = (bins[:, None] == np.arange(n_bins)).astype(np.float64)  # (N, bins)
    seen = ~np.isnan(values)
    return np.where(seen, values, 0.0) @ member, seen @ member
