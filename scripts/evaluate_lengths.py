"""How well answer lengths are forecast, and what that is worth in routing.

    python scripts/evaluate_lengths.py --data DIR

Every figure is of prompts held out by duplicate group, five folds; newcomers are of families held
out. bfcl has counted tokens, routerbench-subset real dollars (its lengths are not on record, so
the log of the cost takes the length's place), zeroeval characters over four at list prices. The
tables are printed and written to ``docs/results/lengths.md``.

Routing value: every prompt is sent where ``V y - c`` is largest for the true y and the forecast
cost c; regret is what that loses against the true costs.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, IntArray
from zerorouter.catalog import Catalog
from zerorouter.evaluation.benchmark import Benchmark, load_benchmark
from zerorouter.fitting.lengths import LengthModel, fit_length_model
from zerorouter.irt.leanings import principal_facets
from zerorouter.irt.ridge import RidgeRegression
from zerorouter.predict.items import Standardiser
from zerorouter.predict.quantiles import normal_quantile
from zerorouter.predict.tokens import length_posterior

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "lengths.md"
DATASETS = ("bfcl", "routerbench-subset", "zeroeval")
VALUES = {  # dollars of a correct answer, where lengths decide anything
    "bfcl": (0.0003, 0.001, 0.003, 0.01),
    "routerbench-subset": (0.0003, 0.001, 0.003, 0.01),
    "zeroeval": (0.0001, 0.0003, 0.001, 0.003),
}
FOLDS = 5
N_BINS = 5
NEIGHBOURS = 30
N_FACETS = 64
PRIOR_CELLS = 5.0
LEAST_SHARE = 0.3  # of the prompts that a model must have answered
OUTPUTS = (0, 5, 20, 50)
REPLICATES = 2000
LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """One data set: M models, N prompts.

    Attributes:
        name: Of the data set.
        y: (M, N) logs of tokens or dollars; NaN where unknown.
        x: (N, D) standardised features.
        embedding: (N, E) unit vectors.
        scores: (M, N)
        groups: (N,) duplicate groups.
        families: (M,) names.
        models: (M,) ids.
        entered_usd: (M, N) dollars of the input; zero where y is the whole cost.
        unit_usd: (M,) dollars per unit of exp(y); NaN without a price.
    """

    name: str
    y: Float64Array
    x: Float32Array
    embedding: Float32Array
    scores: Float64Array
    groups: IntArray
    families: list[str]
    models: list[str]
    entered_usd: Float64Array
    unit_usd: Float64Array

    def difficulty(self, prompts: BoolArray, models: IntArray) -> tuple[Float64Array, Float64Array]:
        """Difficulty of some prompts by some models' scores, and of all prompts as read from them.

        Mean score after removing each model's own, in standard units; read by ridge regression.
        """
        scores = self.scores[models][:, prompts]
        away = scores - np.nanmean(scores, axis=1, keepdims=True)
        seen = ~np.isnan(away)
        raw = -np.where(seen, away, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        raw = (raw - raw.mean()) / (raw.std() or 1.0)
        return raw, np.clip(read(self.x[prompts], raw, self.x), -3.0, 3.0)


def read(x: Float32Array, target: Float64Array, new: Float32Array) -> Float64Array:
    """Ridge regression by evidence, applied to new prompts."""
    ridge = RidgeRegression(x)
    noise, variance = np.array([float(target.var()) + 1e-6]), np.array([1e-3])
    columns = target[:, None].astype(np.float32)
    for _ in range(20):
        weights, variance, fitted = ridge.fit(columns, noise, variance)
        noise = np.array([float(np.mean((columns - fitted) ** 2)) + 1e-6])
    out: Float64Array = (new @ weights[:-1, 0] + weights[-1, 0]).astype(np.float64)
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecasts:
    """What a method expects of (M, N) cells: the mean amount and two quantiles, as logs."""

    mean: Float64Array
    low: Float64Array
    high: Float64Array


Method: TypeAlias = Callable[[Data, BoolArray, BoolArray], Forecasts]


def log_normal(centre: Float64Array, sd: Float64Array) -> Forecasts:
    """Mean and quantiles of log-normals."""
    return Forecasts(
        mean=centre + sd**2 / 2,
        low=centre + normal_quantile(LOW) * sd,
        high=centre + normal_quantile(HIGH) * sd,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The length model of some models, and what it reads off all prompts of the data set."""

    model: LengthModel
    level: Float64Array
    difficulty: Float64Array
    facets: Float32Array


def fit(data: Data, train: BoolArray, models: IntArray, *, n_facets: int = N_FACETS) -> Fit:
    """Fit some models' lengths on the training prompts."""
    raw, difficulty = data.difficulty(train, models)
    weights = principal_facets(data.x[train], max(n_facets, 1))
    facets = (data.x @ weights[:-1] + weights[-1]).astype(np.float32)
    model = fit_length_model(
        data.y[models][:, train],
        data.x[train],
        raw,
        facets[train] if n_facets else None,
        families=[data.families[int(i)] for i in models],
        reasoning=np.zeros(len(models), dtype=np.bool_),
    )
    return Fit(model=model, level=model.level(data.x), difficulty=difficulty, facets=facets)


def shared(*, own: bool = True, n_facets: int = N_FACETS) -> Method:
    """This project's: shared level, offset, slope, stretch, leanings; without ``own`` offsets."""

    def forecast(data: Data, train: BoolArray, test: BoolArray) -> Forecasts:
        found = fit(data, train, np.arange(len(data.y)), n_facets=n_facets)
        styles = found.model.styles()
        centre = found.level[test] + styles.offset[:, None].astype(np.float64)
        assert styles.stretch is not None
        assert styles.pivot is not None
        assert styles.smear is not None
        assert styles.leanings is not None
        if own:
            centre = centre + styles.slope[:, None] * found.difficulty[test]
            centre = centre + styles.stretch[:, None] * (found.level[test] - styles.pivot[:, None])
        if n_facets:
            centre = centre + styles.leanings @ found.facets[test].T
        sd = styles.sd[:, None].astype(np.float64)
        return Forecasts(
            mean=centre + styles.smear[:, None],
            low=centre + normal_quantile(LOW) * sd,
            high=centre + normal_quantile(HIGH) * sd,
        )

    return forecast


def separate(data: Data, train: BoolArray, test: BoolArray) -> Forecasts:
    """A ridge regression of its own for every model: nothing shared."""
    centre, sd = np.empty((len(data.y), test.sum())), np.empty((len(data.y), 1))
    for u, row in enumerate(data.y):
        seen = train & ~np.isnan(row)
        half = np.flatnonzero(seen)[::2]  # the spread on prompts that the regression has not seen
        rest = np.flatnonzero(seen)[1::2]
        sd[u] = np.std(row[rest] - read(data.x[half], row[half], data.x[rest]))
        centre[u] = read(data.x[seen], row[seen], data.x[test])
    return log_normal(centre, np.broadcast_to(sd, centre.shape))


def from_groups(data: Data, train: BoolArray, test: BoolArray, bins: IntArray) -> Forecasts:
    """Mean amounts and empirical quantiles per model and bin of prompts."""
    n_models, n_bins = len(data.y), int(bins.max()) + 1
    table = np.empty((3, n_models, n_bins))
    for u, row in enumerate(data.y):
        whole = row[train & ~np.isnan(row)]
        for b in range(n_bins):
            own = row[train & (bins == b) & ~np.isnan(row)]
            own = whole if len(own) < PRIOR_CELLS else own
            table[0, u, b] = np.log(np.mean(np.exp(own)))
            table[1:, u, b] = np.quantile(own, [LOW, HIGH])
    chosen = table[:, :, bins[test]]
    return Forecasts(mean=chosen[0], low=chosen[1], high=chosen[2])


def constant(data: Data, train: BoolArray, test: BoolArray) -> Forecasts:
    """Each model's mean."""
    return from_groups(data, train, test, np.zeros(len(data.x), dtype=np.int64))


def difficulty_bins(data: Data, train: BoolArray, test: BoolArray) -> Forecasts:
    """The paper's: each model's mean in each of five bins of difficulty."""
    _, difficulty = data.difficulty(train, np.arange(len(data.y)))
    edges = np.quantile(difficulty[train], np.linspace(0, 1, N_BINS + 1)[1:-1])
    return from_groups(data, train, test, np.searchsorted(edges, difficulty))


def neighbours(data: Data, train: BoolArray, test: BoolArray) -> Forecasts:
    """Each model's mean over the nearest prompts; the spread around it on the training prompts."""
    rows = np.flatnonzero(train)
    amount = np.exp(data.y)
    own = np.nanmean(amount[:, train], axis=1, keepdims=True)

    def near(prompts: IntArray, skip: int) -> Float64Array:
        similar = data.embedding[prompts] @ data.embedding[rows].T
        if skip:
            similar[np.arange(len(prompts)), np.arange(len(prompts))] = -2.0
        at = rows[np.argpartition(-similar, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]]
        cells = amount[:, at]
        seen = ~np.isnan(cells)
        total = np.where(seen, cells, 0.0).sum(axis=2) + PRIOR_CELLS * own
        out: Float64Array = np.log(total / (seen.sum(axis=2) + PRIOR_CELLS))
        return out

    mean = near(np.flatnonzero(test), 0)
    left = data.y[:, train] - near(rows, 1)
    low, high = np.nanquantile(left, [LOW, HIGH], axis=1)
    return Forecasts(mean=mean, low=mean + low[:, None], high=mean + high[:, None])


METHODS: Mapping[str, Method] = {
    "level, offset, slope, stretch, leanings (shipped)": shared(),
    "without the leanings": shared(n_facets=0),
    "level and offset alone": shared(own=False, n_facets=0),
    "a regression of its own per model": separate,
    "nearest prompts (kNN, k=30)": neighbours,
    "difficulty bins (the paper's)": difficulty_bins,
    "constant mean": constant,
}
SHIPPED = next(iter(METHODS))


# -- what is measured ------------------------------------------------------------------------------


def folds(groups: IntArray, seed: int = 0) -> Iterator[tuple[BoolArray, BoolArray]]:
    """(training, test) prompts; a duplicate group is never cut."""
    names, member = np.unique(groups, return_inverse=True)
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(names))[member]
    for k in range(FOLDS):
        yield fold != k, fold == k


def cross_fitted(data: Data, method: Method) -> Forecasts:
    """A method's forecasts of every cell, none of them by a fit that saw its prompt."""
    out = np.full((3, *data.y.shape), np.nan)
    for train, test in folds(data.groups):
        made = method(data, train, test)
        out[:, :, test] = made.mean, made.low, made.high
    return Forecasts(mean=out[0], low=out[1], high=out[2])


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How far forecasts are off.

    Attributes:
        rmse: Root mean square error of the log, its mean removed per method.
        mae: Mean absolute error of the log.
        coverage: Share of amounts between the 5% and the 95% quantile.
        below_high: Share of amounts below the 95% quantile.
        total: Sum of forecast amounts over the sum of true ones, a median over models.
        relative: Sum of absolute errors over the sum of true amounts, a median over models.
    """

    rmse: float
    mae: float
    coverage: float
    below_high: float
    total: float
    relative: float


def accuracy(y: Float64Array, made: Forecasts, centre: Float64Array | None = None) -> Accuracy:
    """Errors of log amounts (M, N); ``centre`` are log medians, else means less their bias."""
    seen = ~np.isnan(y) & ~np.isnan(made.mean)
    bias = np.array(
        [np.mean((y - made.mean)[u, s]) if s.any() else 0.0 for u, s in enumerate(seen)]
    )
    error = np.where(seen, y - (made.mean + bias[:, None] if centre is None else centre), np.nan)
    amount, expected = np.where(seen, np.exp(y), 0.0), np.where(seen, np.exp(made.mean), 0.0)
    total = np.maximum(amount.sum(axis=1), 1e-12)
    keep = seen.any(axis=1)
    return Accuracy(
        rmse=float(np.sqrt(np.nanmean(error**2))),
        mae=float(np.nanmean(np.abs(error))),
        coverage=float(np.mean(((y >= made.low) & (y <= made.high))[seen])),
        below_high=float(np.mean((y <= made.high)[seen])),
        total=float(np.median((expected.sum(axis=1) / total)[keep])),
        relative=float(np.median((np.abs(expected - amount).sum(axis=1) / total)[keep])),
    )


def block(data: Data) -> tuple[IntArray, IntArray]:
    """Priced models that answered (nearly) everything, and the prompts all of them answered."""
    whole = ~np.isnan(data.scores) & ~np.isnan(data.y)
    share = whole.mean(axis=1) * ~np.isnan(data.unit_usd)
    models = np.flatnonzero(share >= 0.995 * share.max())
    return models, np.flatnonzero(whole[models].all(axis=0))


def regrets(data: Data, log_mean: Float64Array, value: float) -> Float64Array:
    """(N,) dollars lost on each prompt of the block by choosing with forecast lengths."""
    models, prompts = block(data)
    at = np.ix_(models, prompts)
    entered, unit = data.entered_usd[at], data.unit_usd[models][:, None]
    true = entered + unit * np.exp(data.y[at])
    forecast = entered + unit * np.exp(log_mean[at])
    worth = value * data.scores[at]
    n = np.arange(len(prompts))
    ours, best = np.argmax(worth - forecast, axis=0), (worth - true).max(axis=0)
    out: Float64Array = best - (worth - true)[ours, n]
    return out


def interval(values: Float64Array, seed: int = 0) -> tuple[float, float, float]:
    """Mean of values (N,) with its 95% bootstrap interval over prompts."""
    rng = np.random.default_rng(seed)
    means = np.empty(REPLICATES)
    for start in range(0, REPLICATES, 100):
        drawn = rng.integers(0, len(values), (100, len(values)))
        means[start : start + 100] = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


# -- newcomers -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Onboarded:
    """Forecasts for newcomers from n outputs each, by method, and their error bars.

    Attributes:
        log_mean: Log expected amounts (M', N_test) by method.
        low: 5% quantiles of ours.
        high: 95% quantiles of ours.
        bar: (M',) whether 90% error bars held the offset that all outputs give.
    """

    log_mean: dict[str, Float64Array]
    low: Float64Array
    high: Float64Array
    bar: BoolArray


def onboard(
    data: Data, train: BoolArray, test: BoolArray, new: IntArray, n: int, rng: np.random.Generator
) -> Onboarded:
    """Place newcomers by n outputs each, on training prompts."""
    old = np.setdiff1d(np.arange(len(data.y)), new)
    known = fit(data, train, old)
    prior, level, difficulty = known.model.population.prior, known.level, known.difficulty
    rows = np.flatnonzero(train)
    amount = np.exp(data.y)
    pooled = np.nanmean(amount[old][:, train])
    edges = np.quantile(difficulty[train], np.linspace(0, 1, N_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, difficulty)
    ours, plain, binned, near = (np.empty((len(new), test.sum())) for _ in range(4))
    low, high, bar = np.empty_like(ours), np.empty_like(ours), np.empty(len(new), dtype=np.bool_)
    for i, u in enumerate(new):
        seen = rows[~np.isnan(data.y[u, rows])]
        asked = rng.choice(seen, min(n, len(seen)), replace=False)
        found, whole = (
            length_posterior(
                prior,
                data.y[u, at],
                level[at],
                difficulty[at],
                known.facets[at],
                family=data.families[int(u)],
            )
            for at in (asked, seen)
        )
        centre = np.log(
            found.profile().expected_tokens(level[test], difficulty[test], known.facets[test])
        )[:, 0]
        made = log_normal(centre - found.predictive_sd**2 / 2, np.array(found.predictive_sd))
        ours[i], low[i], high[i] = made.mean, made.low, made.high
        bar[i] = abs(found.offset - whole.offset) <= 1.645 * found.offset_sd
        given = amount[u, asked]
        mean = (given.sum() + PRIOR_CELLS * pooled) / (len(given) + PRIOR_CELLS)
        plain[i] = np.log(mean)
        for b in range(N_BINS):
            own = amount[u, asked[bins[asked] == b]]
            binned[i, bins[test] == b] = np.log(
                (own.sum() + PRIOR_CELLS * mean) / (len(own) + PRIOR_CELLS)
            )
        weight = np.maximum(data.embedding[test] @ data.embedding[asked].T, 0.0) ** 8
        near[i] = np.log(
            (weight @ given + PRIOR_CELLS * 0.01 * mean) / (weight.sum(axis=1) + PRIOR_CELLS * 0.01)
            if len(asked)
            else np.full(test.sum(), mean)
        )
    names = (
        "posterior (shipped)",
        "kernel over its own outputs",
        "difficulty bins",
        "shrunken mean",
    )
    made_by = dict(zip(names, (ours, near, binned, plain), strict=True))
    return Onboarded(log_mean=made_by, low=low, high=high, bar=bar)


def held_out_families(families: list[str], seed: int) -> IntArray:
    """About 30% of the models, whole families at a time."""
    rng = np.random.default_rng(seed)
    names = np.array([name or f"model {i}" for i, name in enumerate(families)])
    left: list[str] = []
    for name in rng.permutation(np.unique(names)):
        if np.isin(names, left).mean() >= 0.3:
            break
        left.append(str(name))
    return np.flatnonzero(np.isin(names, left))


# -- loading ---------------------------------------------------------------------------------------


def load(folder: Path) -> Data:
    """A data set with what routing by lengths needs."""
    b = load_benchmark(folder)
    x = Standardiser.fit(b.prompts.features)(b.prompts.features)
    n = len(b.prompts)
    if b.cost_kind == "real":
        y = np.log(np.where(b.labels.cost_usd > 0, b.labels.cost_usd, np.nan))
        entered, unit = np.zeros((len(b.models), n)), np.ones(len(b.models))
    else:
        tokens = b.labels.output_tokens
        y = np.log(np.where(tokens >= 1, tokens, np.nan))
        price = _prices(b)
        entered, unit = price[:, :1] * b.prompts.input_tokens, price[:, 1]
    plain = np.array([not card.reasoning for card in b.models])
    kept = np.flatnonzero(((~np.isnan(y)).mean(axis=1) > LEAST_SHARE) & plain)
    return Data(
        name=b.name,
        y=np.asarray(y, dtype=np.float64)[kept],
        x=x,
        embedding=b.prompts.features.embedding,
        scores=np.asarray(b.labels.scores, dtype=np.float64)[kept],
        groups=b.groups,
        families=[b.models[int(i)].family for i in kept],
        models=[b.models[int(i)].id for i in kept],
        entered_usd=entered[kept],
        unit_usd=unit[kept],
    )


def _prices(b: Benchmark) -> Float64Array:
    """(M, 2) dollars per token in and out: the records', else the catalog's; NaN without."""
    catalog = Catalog.load()
    out = np.full((len(b.models), 2), np.nan)
    for i, card in enumerate(b.models):
        if card.input_usd_per_mtok is not None and card.output_usd_per_mtok is not None:
            out[i] = card.input_usd_per_mtok / 1e6, card.output_usd_per_mtok / 1e6
        elif card.model in catalog and (price := catalog.get(card.model).price) is not None:
            out[i] = price.input_usd_per_mtok / 1e6, price.output_usd_per_mtok / 1e6
    return out


# -- the page --------------------------------------------------------------------------------------

UNITS = {
    "bfcl": "counted output tokens; catalog prices where a model has one",
    "routerbench-subset": "real dollars: the log of the whole cost is forecast",
    "zeroeval": "characters / 4 at list prices, the o1 models left out",
}


def known_models(data: Data) -> list[str]:
    """The two tables of models whose outputs on the training prompts are known."""
    made = {name: cross_fitted(data, method) for name, method in METHODS.items()}
    models, prompts = block(data)
    lines = [
        f"## {data.name}: {UNITS[data.name]}",
        "",
        f"{len(data.y)} models, {data.y.shape[1]:,} prompts, {int((~np.isnan(data.y)).sum()):,} "
        f"outputs. Routing block: {len(models)} priced models, {len(prompts):,} prompts.",
        "",
        "| method | RMSE of the log | MAE | in the 90% interval | below p95 | forecast / true "
        "total | error / total |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, forecasts in made.items():
        a = accuracy(data.y, forecasts)
        lines.append(
            f"| {name} | {a.rmse:.3f} | {a.mae:.3f} | {a.coverage:.3f} | {a.below_high:.3f} | "
            f"{a.total:.2f} | {a.relative:.2f} |"
        )
    lines += [
        "",
        "Regret of routing by forecast lengths, dollars per 1,000 prompts (given the true y; the "
        "oracle of lengths has none), and the regret that the shipped one saves, with its 95% "
        "interval over prompts:",
        "",
        "| method | " + " | ".join(f"V = ${v:g}" for v in VALUES[data.name]) + " |",
        "| --- |" + " --- |" * len(VALUES[data.name]),
    ]
    ours = {v: regrets(data, made[SHIPPED].mean, v) for v in VALUES[data.name]}
    for name, forecasts in made.items():
        cells = []
        for v in VALUES[data.name]:
            lost = regrets(data, forecasts.mean, v)
            cell = f"{1000 * lost.mean():.4f}"
            if name != SHIPPED:
                mean, low, high = interval(lost - ours[v])
                cell += f" ({1000 * mean:+.4f}: {1000 * low:+.4f} to {1000 * high:+.4f})"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def newcomers(data: Data, seeds: int = 3) -> list[str]:
    """The table of models of held-out families, from a few outputs each."""
    lines = [
        f"Newcomers of held-out families (30% of the models, {seeds} draws), RMSE of the log and "
        "regret at the second value above, newcomers by n outputs and all others by the shipped "
        "method:",
        "",
        "| outputs | method | RMSE | regret per 1,000 | in the 90% interval | offset in its bar |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    value = VALUES[data.name][1]
    rows: dict[tuple[int, str], list[tuple[float, float, float, float]]] = {}
    for seed in range(seeds):
        new = held_out_families(data.families, seed)
        train, test = next(folds(data.groups, seed))
        at = np.ix_(np.arange(len(data.y)), test)
        base = np.full_like(data.y, np.nan)
        base[at] = shared()(data, train, test).mean
        for n in OUTPUTS:
            found = onboard(data, train, test, new, n, np.random.default_rng([seed, n]))
            for name, log_mean in found.log_mean.items():
                y = data.y[np.ix_(new, test)]
                error = y - log_mean
                error = error - (np.nanmean(error) if name != "posterior (shipped)" else 0.0)
                if name == "posterior (shipped)":
                    sd = (found.high - found.low) / (2 * 1.645)
                    error = y - (log_mean - sd**2 / 2)
                table = base.copy()
                table[np.ix_(new, test)] = log_mean
                part = _only(data, test)
                lost = regrets(part, table[:, test], value)
                inside = (y >= found.low) & (y <= found.high)
                rows.setdefault((n, name), []).append(
                    (
                        float(np.sqrt(np.nanmean(error**2))),
                        1000 * float(lost.mean()),
                        float(inside[~np.isnan(y)].mean()),
                        float(found.bar.mean()),
                    )
                )
    for (n, name), values in rows.items():
        rmse, lost_mean, inside_mean, bar = np.mean(values, axis=0)
        is_ours = name == "posterior (shipped)"
        lines.append(
            f"| {n} | {name} | {rmse:.3f} | {lost_mean:.4f} | "
            f"{f'{inside_mean:.3f}' if is_ours else ''} | {f'{bar:.2f}' if is_ours else ''} |"
        )
    return [*lines, ""]


def _only(data: Data, prompts: BoolArray) -> Data:
    return Data(
        name=data.name,
        y=data.y[:, prompts],
        x=data.x[prompts],
        embedding=data.embedding[prompts],
        scores=data.scores[:, prompts],
        groups=data.groups[prompts],
        families=data.families,
        models=data.models,
        entered_usd=data.entered_usd[:, prompts],
        unit_usd=data.unit_usd,
    )


HEAD = """# Answer lengths

Written by `scripts/evaluate_lengths.py`; docs/costs.md says how lengths are modelled. All
figures are of held-out prompts (five folds by duplicate group). The RMSE is taken after each
model's mean error of the log is removed, since most methods forecast means of tokens, not of
logs; totals and errors of amounts are as they are.

The shipped parameters are fitted on zeroeval and alpaca-eval alone; bfcl and routerbench-subset
are refitted here inside their own folds. Reasoning models have no hidden tokens on record
anywhere, so nothing here is about them: eight times the visible length, give or take a factor e,
stays an assumption until a profile measures them.
"""


def main() -> None:
    """Read the data sets, print the tables and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--out", type=Path, default=PAGE)
    arguments = parser.parse_args()
    lines = [HEAD]
    for name in DATASETS:
        data = load(arguments.data / name)
        part = [*known_models(data), *newcomers(data)]
        print("\n".join(part), flush=True)
        lines += part
    arguments.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
