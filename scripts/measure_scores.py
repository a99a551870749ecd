"""What a card is worth before the first answer, and what published scores add to it.

    python scripts/measure_scores.py --data DIR [--part worth|models|scores ...]

- ``worth``: newcomers of zeroeval and mmlu-pro under the release-date and the leave-family-out
  split, placed by nothing, by their family, by their card, and by card and published scores. All
  is fitted inside the split, as the method `zerorouter_scores` does.
- ``models``: respondents of the shipped space left out one by one, of the score model and of the
  population prior, against where their answers put them.
- ``scores``: published scores told from the other scores of a model that the fit has not seen.

Each part leaves its figures in ``.work/scores``; the page docs/results/scores.md is written from
what is there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.card_only import places_of, read_scores
from zerorouter.evaluation.baselines.scores import (
    FittedZeroRouterScores,
    ZeroRouterScores,
)
from zerorouter.evaluation.benchmark import Benchmark, load_benchmark
from zerorouter.evaluation.contracts import Newcomers
from zerorouter.evaluation.metrics import auc
from zerorouter.evaluation.running import published_of, training_set
from zerorouter.evaluation.splits import N_FOLDS, make_split
from zerorouter.evaluation.statistics import resample
from zerorouter.evaluation.tuning import stratified_draw
from zerorouter.irt.population import fit_population
from zerorouter.linking import RespondentCard, load_aliases
from zerorouter.onboarding.published import fit_scores, mean_accuracy
from zerorouter.onboarding.shipped_scores import links_in
from zerorouter.space import LatentSpace

DATASETS = ("zeroeval", "mmlu-pro")
SPLITS = ("time", "family")
ANCHORS = (0, 5, 20)
DRAWS = 3
REPLICATES = 2000
FOLDS = 10
Z90 = 1.645
WORK = Path(".work/scores")
PAGE = Path("docs/results/scores.md")
NOBODY = RespondentCard(id="", model="", family="")


# -- what a card is worth ------------------------------------------------------------------------


def arms(fitted: FittedZeroRouterScores) -> dict[str, Callable[..., Any]]:
    """Ways of placing newcomers: (method, cards) of each."""
    bare = replace(fitted, score_model=None)

    def only(card: RespondentCard) -> RespondentCard:
        return RespondentCard(id=card.id, model=card.model, family=card.family)

    def nothing(card: RespondentCard) -> RespondentCard:
        return replace(NOBODY, id=card.id, model=card.model)

    return {
        "nothing": lambda card: (bare, nothing(card)),
        "family alone": lambda card: (bare, only(card)),
        "card (zerorouter)": lambda card: (bare, card),
        "card and scores (zerorouter_scores)": lambda card: (fitted, card),
    }


def worth(data: Path) -> Iterator[dict[str, Any]]:
    """Rows of the first table."""
    for name in DATASETS:
        benchmark = load_benchmark(data / name)
        for kind in SPLITS:
            start = time.perf_counter()
            losses, found = worth_of(benchmark, kind)
            for row in summarised(benchmark, losses, found):
                yield {"dataset": name, "split": kind, **row}
            print(f"{name} {kind}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def worth_of(
    benchmark: Benchmark, kind: str
) -> tuple[dict[tuple[str, int], Float64Array], dict[tuple[str, int], dict[str, list[float]]]]:
    """Per arm and number of answers: losses (M, N), and figures by newcomer."""
    m, n = benchmark.labels.scores.shape
    losses: dict[tuple[str, int], Float64Array] = {}
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for seed in range(N_FOLDS if kind == "family" else 1):
        split = make_split(
            kind,
            seed,
            groups=benchmark.groups,
            tasks=benchmark.tasks,
            cards=benchmark.models,
            dataset=benchmark.name,
        )
        if not split.has_newcomers:
            continue
        data = training_set(benchmark, split)
        fitted = ZeroRouterScores().fit(data, {}, np.random.default_rng([seed, 23]))
        assert isinstance(fitted, FittedZeroRouterScores)
        test = benchmark.prompts.take(split.test)
        published = published_of(benchmark, split)
        assert published is not None
        for arm, of in arms(fitted).items():
            for n_anchors in ANCHORS if "zerorouter" in arm else ANCHORS[:1]:
                drawn = []
                for draw in range(DRAWS if n_anchors else 1):
                    rng = np.random.default_rng([seed, draw, n_anchors, 2])
                    anchors = stratified_draw(data.strata, n_anchors, rng)
                    pairs = [of(benchmark.models[int(i)]) for i in split.newcomers]
                    labels = benchmark.labels.take(split.newcomers, split.train).only(anchors)
                    joined = pairs[0][0].onboard(
                        Newcomers(
                            models=tuple(card for _, card in pairs),
                            labels=labels,
                            published=published,
                        )
                    )
                    drawn.append(joined.predict(test).p_correct[:, len(split.calibration) :])
                key = (arm, n_anchors)
                loss = losses.setdefault(key, np.full((m, n), np.nan))
                of_model = found.setdefault(key, {"auc": [], "error": [], "has": [], "model": []})
                for j, u in enumerate(split.newcomers):
                    y = benchmark.labels.scores[u, split.test].astype(np.float64)
                    seen = ~np.isnan(y)
                    p = np.clip([d[:, j] for d in drawn], 1e-6, 1 - 1e-6)
                    cells = -(y * np.log(p) + (1 - y) * np.log1p(-p)).mean(axis=0)
                    loss[u, split.test] = cells
                    ranked = [auc(q[seen], y[seen]) for q in p]
                    of_model["auc"].append(float(np.mean([a for a in ranked if a is not None])))
                    off = [abs(float(q[seen].mean() - y[seen].mean())) for q in p]
                    of_model["error"].append(float(np.mean(off)))
                    of_model["has"].append(bool(published.of(benchmark.models[int(u)].model)))
                    of_model["model"].append(int(u))
    return losses, found


def summarised(
    benchmark: Benchmark,
    losses: dict[tuple[str, int], Float64Array],
    found: dict[tuple[str, int], dict[str, list[float]]],
) -> Iterator[dict[str, Any]]:
    """Means over newcomers, and the difference in log-loss to the card alone with its interval."""
    rng = np.random.default_rng(41)
    for (arm, n_anchors), loss in losses.items():
        of_model = found[arm, n_anchors]
        models = np.array(of_model["model"])
        families = [benchmark.models[int(u)].family or str(u) for u in models]
        drawn = resample(
            rng,
            loss.shape[1],
            groups=benchmark.groups,
            families=families,
            replicates=REPLICATES,
        )
        assert drawn.models is not None
        better = losses["card (zerorouter)", n_anchors][models] - loss[models]
        ones = np.ones((1, loss.shape[1]))
        difference = averaged(better, ones, np.ones((1, len(models))))
        replicates = averaged(better, drawn.prompts, drawn.models)
        has = np.array(of_model["has"])
        yield {
            "arm": arm,
            "n": n_anchors,
            "n_models": len(models),
            "n_scored": int(has.sum()),
            "log_loss": float(averaged(loss[models], ones, np.ones((1, len(models))))[0]),
            "log_loss_scored": float(averaged(loss[models[has]], ones, np.ones((1, has.sum())))[0])
            if has.any()
            else None,
            "auc": float(np.nanmean(of_model["auc"])),
            "error": float(np.mean(of_model["error"])),
            "error_scored": float(np.array(of_model["error"])[has].mean()) if has.any() else None,
            "better": float(difference[0]),
            "low": float(np.nanquantile(replicates, 0.025)),
            "high": float(np.nanquantile(replicates, 0.975)),
        }


def averaged(cells: Float64Array, prompts: Float64Array, models: Float64Array) -> Float64Array:
    """(B,) means over models (B, M) of their means over prompts (B, N) of cells (M, N)."""
    seen = ~np.isnan(cells)
    top = prompts @ np.where(seen, cells, 0.0).T
    count = prompts @ seen.T.astype(np.float64)
    by_model = np.divide(top, count, out=np.zeros_like(top), where=count > 0)
    weights = models * (count > 0)
    out: Float64Array = (by_model * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
    return out


# -- leave one model out -------------------------------------------------------------------------


def left_out_models(data: Path) -> Iterator[dict[str, Any]]:
    """Each respondent with published scores: placed without its answers, against its place."""
    space = LatentSpace.load()
    matrix, cards = read_scores(data / "catalog")
    links = links_in(space)
    everyone = [load_aliases().card(r) for r in space.respondents]
    covariates = space.population.table.rows(everyone)
    means, covariances, known = places_of(space, matrix.models, cards)
    for i, name in enumerate(matrix.models):
        told = matrix.of(name)
        if name not in space:
            continue
        at = int(space.index([name])[0])
        others = np.arange(len(space.respondents)) != at
        population = fit_population(space.abilities.mean[others], covariates[others])
        centre = population.mean(covariates[at][None])[0]
        rest = np.arange(len(matrix.models)) != i
        model = fit_scores(
            matrix.without([name]), means[rest], covariances[rest], np.array(known)[rest], links
        )
        truth = space.abilities.mean[at].astype(np.float64)
        own = space.abilities.covariance[at].astype(np.float64)
        unlinked = {b: s for b, s in told.items() if b not in links}
        for arm, scores in (("card", {}), ("unlinked scores", unlinked), ("all scores", told)):
            mean, covariance = model.fold(scores, centre, population.covariance)
            spread = np.sqrt(np.diagonal(covariance + own))
            row = {
                "model": name,
                "linked": known[i],
                "arm": arm,
                "n_scores": len(model.known(scores)),
                "error": (mean - truth).tolist(),
                "sd": np.sqrt(np.diagonal(covariance)).tolist(),
                "inside": (np.abs(mean - truth) <= Z90 * spread).tolist(),
            }
            for benchmark in ("gsm8k", "mmlu-pro", "math-l5", "cruxeval-o"):
                expected = mean_accuracy(links[benchmark].items, mean)[0]
                row[benchmark] = expected - mean_accuracy(links[benchmark].items, truth)[0]
            yield row


# -- leave scores out ----------------------------------------------------------------------------


def left_out_scores(data: Path) -> Iterator[dict[str, Any]]:
    """Each score of models of a fold that the fit has not seen, told from their other scores."""
    space = LatentSpace.load()
    matrix, cards = read_scores(data / "catalog")
    links = links_in(space)
    means, covariances, known = places_of(space, matrix.models, cards)
    fold = np.random.default_rng(5).permutation(len(matrix.models)) % FOLDS
    for f in range(FOLDS):
        rest = fold != f
        gone = [matrix.models[int(i)] for i in np.flatnonzero(~rest)]
        model = fit_scores(
            matrix.without(gone), means[rest], covariances[rest], np.array(known)[rest], links
        )
        counts = np.maximum((~np.isnan(matrix.scores[rest])).sum(axis=0), 1)
        usual = np.nansum(matrix.scores[rest], axis=0) / counts
        for i in np.flatnonzero(~rest):
            told = model.known(matrix.of(matrix.models[i]))
            for benchmark, score in told.items():
                others = {b: s for b, s in told.items() if b != benchmark}
                by_card = model.expected(benchmark, means[i])[0]
                mean, _ = model.fold(others, means[i], covariances[i])
                expected = model.expected(benchmark, mean)[0]
                yield {
                    "benchmark": benchmark,
                    "linked": benchmark in links,
                    "n_others": len(others),
                    "score": score,
                    "mean": float(usual[matrix.benchmarks.index(benchmark)]),
                    "card": 1 / (1 + float(np.exp(-by_card))),
                    "others": 1 / (1 + float(np.exp(-expected))),
                }


# -- the page ------------------------------------------------------------------------------------


def page() -> str:
    """The page, from the parts that were measured."""
    parts = [HEAD]
    if rows := _kept("worth"):
        parts += list(_worth_tables(rows))
    if rows := _kept("models"):
        parts.append(_model_table(rows))
    if rows := _kept("scores"):
        parts.append(_score_table(rows))
    return "\n\n".join(parts) + "\n"


HEAD = """# What a card and published scores are worth

Written by `scripts/measure_scores.py --data ../shared/data`; docs/onboarding.md says how scores are
read. Published scores are those of llm-leaderboard (Jonathan Chavez Tamales, CC-BY-4.0)."""


def _worth_tables(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield """## Before the first answer

Newcomers of the release-date split (calibrated on models up to 2024-06) and of the
leave-family-out split (each family once, four folds), on held-out prompts; everything is fitted
inside the split. `error` is that of a newcomer's mean accuracy, in points. `better` is the log-loss
saved against the card alone with the same answers, and its 95% interval (2,000 resamples of prompt
groups and of families, or of models where there are fewer than 8 families). Models without
published scores are placed by their cards in the last rows, too. "Nothing" is the mean of the
population; "family alone" leaves out size, price, date and reasoning."""
    for dataset in DATASETS:
        for split in SPLITS:
            of = [r for r in rows if (r["dataset"], r["split"]) == (dataset, split)]
            if not of:
                continue
            title = "release date" if split == "time" else "families left out"
            lines = [
                f"### {dataset}, {title}: {of[0]['n_models']} newcomers, {of[0]['n_scored']} of "
                "them with published scores",
                "",
                "| answers | placed by | log-loss | better, 95% | AUC | error | log-loss, with "
                "scores alone | error, with scores alone |",
                "| --- | --- | --- | --- | --- | --- | --- | --- |",
            ]
            for row in sorted(of, key=lambda r: r["n"]):
                saved = f"{row['better']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
                if row["arm"].startswith("card (zero"):
                    saved = "–"
                lines.append(
                    f"| {row['n']} | {row['arm']} | {row['log_loss']:.4f} | {saved} | "
                    f"{row['auc']:.4f} | {100 * row['error']:.1f} | "
                    f"{_maybe(row['log_loss_scored'], 1, 4)} | "
                    f"{_maybe(row['error_scored'], 100, 1)} |"
                )
            yield "\n".join(lines)


def _maybe(value: float | None, factor: float, digits: int) -> str:
    return "–" if value is None else f"{factor * value:.{digits}f}"


def _model_table(rows: Sequence[dict[str, Any]]) -> str:
    n, n_linked = (len({row["model"] for row in of}) for of in (rows, _linked(rows)))
    lines = [
        f"""## One model left out: {n} respondents of the shipped space with published scores

Each is taken out of the score model and of the population prior, placed by its card and then by
its scores, and compared with where its own answers put it. Abilities are in the space's units (the
population's standard deviation of the general dimension is about 1); `inside` is the share of 90%
intervals that hold the answers' place (its own uncertainty counted in). The last columns are root
mean square errors of mean accuracy over the calibrated items, in points.

{n_linked} of them have answers in zeroeval, mmlu-pro or cruxeval. The other {n - n_linked} answered
the puzzles of reasoning-gym alone, which a single model links to the rest: cards and scores put
them a point of ability higher than the space does. They take part in the fit like models without
answers, and are shown apart.""",
        "",
        "| placed by | general: RMSE | 90% half width | inside | specific: RMSE | inside | gsm8k | "
        "mmlu-pro | math-l5 | cruxeval-o |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    parts = {"": _linked(rows), "puzzles alone: ": [row for row in rows if not row["linked"]]}
    arms = dict.fromkeys(row["arm"] for row in rows)
    for label, arm in ((label, arm) for label in parts for arm in arms):
        of = [row for row in parts[label] if row["arm"] == arm]
        error = np.array([row["error"] for row in of])
        sd = np.array([row["sd"] for row in of])
        inside = np.array([row["inside"] for row in of])
        cells = [
            f"{np.sqrt(np.mean(error[:, 0] ** 2)):.2f}",
            f"{Z90 * sd[:, 0].mean():.2f}",
            f"{inside[:, 0].mean():.0%}",
            f"{np.sqrt(np.mean(error[:, 1:] ** 2)):.2f}",
            f"{inside[:, 1:].mean():.0%}",
            *(
                f"{100 * np.sqrt(np.mean([row[b] ** 2 for row in of])):.1f}"
                for b in ("gsm8k", "mmlu-pro", "math-l5", "cruxeval-o")
            ),
        ]
        lines.append(f"| {label}{arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _linked(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["linked"]]


def _score_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        """## Published scores told from the others

Ten folds of models: loadings, offsets and variances from nine, each score of the tenth told from
the model's other scores. Root mean square error in points of the score.""",
        "",
        "| benchmarks | scores | mean of the benchmark | card | card and the other scores |",
        "| --- | --- | --- | --- | --- |",
    ]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["benchmark"], []).append(row)
    groups = {
        "all": list(rows),
        "linked to items": [row for row in rows if row["linked"]],
        "learned": [row for row in rows if not row["linked"]],
    }
    most = sorted(by_name, key=lambda name: -len(by_name[name]))[:12]
    groups |= {name: by_name[name] for name in most}
    for label, of in groups.items():
        errors = [
            100 * np.sqrt(np.mean([(row[arm] - row["score"]) ** 2 for row in of]))
            for arm in ("mean", "card", "others")
        ]
        lines.append(f"| {label} | {len(of)} | " + " | ".join(f"{e:.1f}" for e in errors) + " |")
    return "\n".join(lines)


def _kept(part: str) -> list[dict[str, Any]]:
    path = WORK / f"{part}.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return found


PARTS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    "worth": worth,
    "models": left_out_models,
    "scores": left_out_scores,
}


def main() -> None:
    """Measure the parts and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for part in options.part or PARTS:
        rows = list(PARTS[part](options.data))
        (WORK / f"{part}.json").write_text(json.dumps(rows, indent=1) + "\n")
    options.page.write_text(page())


if __name__ == "__main__":
    main()
