"""What learning while serving is worth, on newcomers of real records.

    python benchmarks/learning_value.py --data ../shared/data [--orders 5] [--markdown FILE]

A space is calibrated on zeroeval's models released up to 2024-06 and on three prompts of five
(groups of duplicates stay together). Every later model is then a newcomer of which only the card is
known. It serves another fifth of the prompts in random order, each answer is scored by the records,
and the last fifth, which nobody learns from, tells the log-loss of the forecasts after n scores.

  off            nothing is learned: the card's forecast
  ability        scores move the ability and its leanings, not the prompts' neighbourhoods
  learning       zerorouter.learning as it serves
  all at once    a fit of the same n answers in one go (irt.ability), for comparison

Second part: a newcomer that has learned from all its prompts is silently replaced by another model
under its name. Told are the scores until drift is raised, the log-loss on the new model's answers,
and false alarms without a change. Third part: what twenty scores of every other model on a task do
to the forecasts of a newcomer that nobody has scored.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from types import MappingProxyType

import numpy as np

from zerorouter.arrays import Float64Array, IntArray
from zerorouter.data.reading import read_folders
from zerorouter.data.responses import ResponseMatrix
from zerorouter.fitting import as_requests, fit_space
from zerorouter.irt.ability import ability_posterior
from zerorouter.irt.model import Abilities, ItemParameters, Panel
from zerorouter.learning import (
    Ground,
    ItemReading,
    LearnedState,
    LearningSettings,
    shifts_of,
    take_score,
)
from zerorouter.linking import load_aliases, respondent_cards
from zerorouter.onboarding.evidence import card_prior
from zerorouter.predict.items import PromptReadings
from zerorouter.space import LatentSpace

CUTOFF = "2024-06"
LEAST_SCORES = 1_500  # of a newcomer, so that it has answered more than one task
COUNTS = (0, 1, 5, 10, 20, 50, 100, 200, 500)
STEADY = LearningSettings(threshold=1e9)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """What is replayed.

    Attributes:
        space: Of the old models, with every newcomer placed by its card.
        newcomers: Names.
        scores: (newcomers, N) with NaN.
        readings: Of all N prompts.
        served: Prompts that are served and scored.
        held: Prompts that tell the log-loss.
        task: (N,)
        teachers: Everybody in the space, the newcomers included.
        taught: (teachers, N) their scores with NaN.
    """

    space: LatentSpace
    newcomers: tuple[str, ...]
    scores: Float64Array
    readings: PromptReadings
    served: IntArray
    held: IntArray
    task: np.ndarray
    teachers: tuple[str, ...]
    taught: Float64Array

    def item(self, i: int) -> ItemReading:
        """A prompt as the learner gets it."""
        items, cosines = self.readings.items, self.readings.similarity
        assert items.facets is not None
        assert cosines is not None
        return ItemReading(
            discrimination=items.discrimination[i],
            intercept=float(items.intercept[i]),
            guessing=float(items.guessing[i]),
            effect_scale=float(items.effect_scale[i]),
            shift_variance=float(items.shift_variance[i]),
            facets=items.facets[i],
            similarity=cosines[i],
        )

    def part(self, index: IntArray) -> PromptReadings:
        """The readings of some prompts."""
        assert self.readings.embedding is not None
        return PromptReadings(
            items=self.readings.items.take(index),
            domain=self.readings.domain[index],
            log_length=self.readings.log_length[index],
            support=self.readings.support[index],
            embedding=self.readings.embedding[index],
            prototypes=self.readings.prototypes,
        )


def set_stage(data: Path, seed: int) -> Stage:
    """Calibrate on the old, place the new."""
    matrix = read_folders([data / "zeroeval"], aliases=load_aliases())
    cards = respondent_cards()
    released = [getattr(cards.get(name), "released", None) or "" for name in matrix.respondents]
    old = np.array([bool(r) and r[:7] <= CUTOFF for r in released])
    enough = (~np.isnan(matrix.scores)).sum(axis=1) >= LEAST_SCORES
    new = np.array([bool(r) and r[:7] > CUTOFF for r in released]) & enough
    groups = np.unique(matrix.groups, return_inverse=True)[1]
    fifth = np.random.default_rng(seed).integers(0, 5, groups.max() + 1)[groups]
    began = process_time()
    space = fit_space(
        matrix.select(respondents=old, prompts=np.flatnonzero(fifth < 3)), cards=cards
    )
    print(f"calibrated on {old.sum()} models in {process_time() - began:.0f} s of CPU")
    names = tuple(n for n, is_new in zip(matrix.respondents, new, strict=True) if is_new)
    return Stage(
        space=_placed(space, names),
        newcomers=names,
        scores=matrix.scores[new].astype(np.float64),
        readings=_readings(space, matrix),
        served=np.flatnonzero(fifth == 3),
        held=np.flatnonzero(fifth == 4),
        task=np.array(matrix.prompts.tasks),
        teachers=tuple(n for n, is_in in zip(matrix.respondents, old | new, strict=True) if is_in),
        taught=matrix.scores[old | new].astype(np.float64),
    )


def _readings(space: LatentSpace, matrix: ResponseMatrix) -> PromptReadings:
    reader = space.reader()
    return reader.read(as_requests(matrix.prompts, 0))


def _placed(space: LatentSpace, names: Sequence[str]) -> LatentSpace:
    cards, facets = respondent_cards(), int(space.predictor.facet_weights.shape[1])
    priors = [card_prior(space, cards[name]) for name in names]
    n = len(names)
    others = Abilities(
        mean=np.array([p.mean for p in priors], dtype=np.float32),
        covariance=np.array([p.covariance for p in priors], dtype=np.float32),
        leanings=np.zeros((n, facets), np.float32),
        leaning_variance=np.full(n, space.leaning_variance, np.float32),
    )
    styles = {
        column: np.concatenate([values, np.zeros((n, *values.shape[1:]), np.float32)])
        for column, values in vars(space.styles).items()
        if values is not None
    }
    return replace(
        space,
        respondents=(*space.respondents, *names),
        abilities=space.abilities.joined(others),
        styles=replace(space.styles, **styles),
    )


def forecast(stage: Stage, state: LearnedState, model: str, index: IntArray) -> Float64Array:
    """P(correct) of a model on prompts, as the router would forecast it."""
    ground = Ground(stage.space)
    known = state.models.get(model) or ground.model(model)
    readings, shifts = stage.part(index), shifts_of(state, stage.space)
    if shifts is not None:
        readings = shifts.apply(readings)
    abilities = Abilities(
        mean=known.mean[None].astype(np.float32),
        covariance=known.covariance[None].astype(np.float32),
        leanings=None if known.leanings is None else known.leanings[None].astype(np.float32),
        leaning_variance=np.array([known.leaning_variance], dtype=np.float32),
    )
    panel = Panel.of(abilities, stage.space.predictor.effect_covariance)
    return panel.forecast(readings.items).p_correct[:, 0].astype(np.float64)


def log_loss(p: Float64Array, y: Float64Array) -> float:
    """Mean, over what was answered."""
    seen = ~np.isnan(y)
    q = np.clip(p[seen], 1e-4, 1 - 1e-4)
    return float(-np.mean(y[seen] * np.log(q) + (1 - y[seen]) * np.log1p(-q)))


def loss_of(stage: Stage, state: LearnedState, u: int, answers: int | None = None) -> float:
    """Log-loss of newcomer ``u`` on held prompts; on another model's answers where told."""
    y = stage.scores[u if answers is None else answers, stage.held]
    return log_loss(forecast(stage, state, stage.newcomers[u], stage.held), y)


def without_neighbours(stage: Stage) -> LearnedState:
    """A state whose neighbourhoods are known, and so never move."""
    state = Ground(stage.space).start()
    return replace(state, variance=np.full_like(state.variance, 1e-9))


def at_once(stage: Stage, u: int, served: IntArray) -> float:
    """Log-loss after a fit of all answers in one go."""
    ground, name = Ground(stage.space), stage.newcomers[u]
    prior = ground.model(name)
    items: ItemParameters = stage.readings.items.take(served)
    fitted = ability_posterior(
        items,
        stage.scores[u, served],
        prior_mean=prior.mean,
        prior_covariance=prior.covariance,
    )
    known = replace(prior, mean=fitted.mean, covariance=fitted.covariance)
    state = replace(ground.start(), models=MappingProxyType({name: known}))
    return loss_of(stage, state, u)


def learning_curves(stage: Stage, orders: int) -> dict[str, Float64Array]:
    """Arm -> (newcomers, counts) log-loss, averaged over orders; NaN where prompts ran out."""
    ground = Ground(stage.space)
    arms = ("off", "ability", "learning", "all at once")
    out = {arm: np.full((len(stage.newcomers), len(COUNTS)), np.nan) for arm in arms}
    for u, name in enumerate(stage.newcomers):
        answered = stage.served[~np.isnan(stage.scores[u, stage.served])]
        told: dict[str, list[list[float]]] = {arm: [[] for _ in COUNTS] for arm in arms}
        for draw in range(orders):
            order = np.random.default_rng(draw).permutation(answered)
            for arm, state in (
                ("ability", without_neighbours(stage)),
                ("learning", ground.start()),
            ):
                for n, i in enumerate([*order.tolist(), -1]):
                    if n in COUNTS:
                        told[arm][COUNTS.index(n)].append(loss_of(stage, state, u))
                    if i >= 0:
                        score = float(stage.scores[u, i])
                        state, _ = take_score(state, ground, name, stage.item(i), score)
            for c, n in enumerate(COUNTS):
                if n <= len(order):
                    told["off"][c].append(loss_of(stage, ground.start(), u))
                    told["all at once"][c].append(at_once(stage, u, order[:n]))
        for arm in arms:
            out[arm][u] = [np.mean(row) if row else np.nan for row in told[arm]]
    return out


@dataclass(frozen=True, kw_only=True)
class Change:
    """A silent change, and how it was taken.

    Attributes:
        gap: By how much the new model is worse, in accuracy on held prompts.
        alarm: Scores until drift was raised; None for never.
        losses: Arm -> log-loss at `AFTER` scores, on the new model's answers.
        own: What the new model's forecasts would be like with all its own scores.
    """

    gap: float
    alarm: int | None
    losses: dict[str, list[float]]
    own: float


AFTER = (0, 10, 20, 50, 100, 200, 300)


def changes(stage: Stage, orders: int) -> tuple[list[Change], int, int]:
    """Changes between newcomers; and false alarms of so many scores without one."""
    ground = Ground(stage.space)
    full = [u for u in range(len(stage.newcomers)) if _n_served(stage, u) >= max(AFTER)]
    taught: dict[int, LearnedState] = {}
    own: dict[int, float] = {}
    false_alarms = n_scores = 0
    for u in full:
        state = ground.start()
        for draw in range(2):  # twice through the prompts: it has served for a while
            for i in _order(stage, u, 100 + draw):
                score = float(stage.scores[u, i])
                state, told = take_score(state, ground, stage.newcomers[u], stage.item(i), score)
                false_alarms += told.drift is not None
                n_scores += 1
            if draw == 0:
                own[u] = loss_of(stage, state, u)
        taught[u] = state
    found = []
    rng = np.random.default_rng(7)
    for u in full:
        others = [v for v in full if v != u]
        for v in rng.choice(others, size=min(orders, len(others)), replace=False).tolist():
            both = ~np.isnan(stage.scores[u, stage.held]) & ~np.isnan(stage.scores[v, stage.held])
            accuracy = stage.scores[:, stage.held[both]].mean(axis=1)
            gap = float(accuracy[u] - accuracy[v])
            if gap < 0.08:
                continue
            losses: dict[str, list[float]] = {}
            alarm = None
            for arm, settings in (
                ("off", None),
                ("no alarm", STEADY),
                ("learning", LearningSettings()),
            ):
                state, told_losses = taught[u], []
                for n, i in enumerate([*_order(stage, v, 3)[: max(AFTER)], -1]):
                    if n in AFTER:
                        told_losses.append(loss_of(stage, state, u, answers=v))
                    if i < 0 or settings is None:
                        continue
                    state, told = take_score(
                        state,
                        ground,
                        stage.newcomers[u],
                        stage.item(i),
                        float(stage.scores[v, i]),
                        settings=settings,
                    )
                    if arm == "learning" and told.drift is not None and alarm is None:
                        alarm = n + 1
                losses[arm] = told_losses
            found.append(Change(gap=gap, alarm=alarm, losses=losses, own=own[v]))
    return found, false_alarms, n_scores


def _n_served(stage: Stage, u: int) -> int:
    return int((~np.isnan(stage.scores[u, stage.served])).sum())


def _order(stage: Stage, u: int, seed: int) -> list[int]:
    answered = stage.served[~np.isnan(stage.scores[u, stage.served])]
    return [int(i) for i in np.random.default_rng(seed).permutation(answered)]


def informs_others(stage: Stage) -> list[tuple[str, int, float, float, float, float]]:
    """Per task: what the scores of all models but one do to that one's forecasts.

    Rows: task, scores, log-loss of the one before and after on the task, and on all other tasks.
    """
    ground = Ground(stage.space)
    out: list[tuple[str, int, float, float, float, float]] = []
    for task in sorted(set(stage.task.tolist())):
        here = stage.held[stage.task[stage.held] == task]
        away = stage.held[stage.task[stage.held] != task]
        told = []
        n_scores = 0
        for u, name in enumerate(stage.newcomers):
            state = ground.start()
            rng = np.random.default_rng(u)
            there = stage.served[stage.task[stage.served] == task]
            for v, other in enumerate(stage.teachers):
                if other == name or other not in ground:
                    continue
                scored = there[~np.isnan(stage.taught[v, there])]
                for i in rng.permutation(scored)[:20].tolist():
                    score = float(stage.taught[v, i])
                    state, _ = take_score(state, ground, other, stage.item(i), score)
            n_scores = max(n_scores, state.n_scores)
            row: list[float] = []
            for index in (here, away):
                y = stage.scores[u, index]
                if np.isnan(y).all():
                    row += [np.nan, np.nan]
                    continue
                for one in (ground.start(), replace(state, models=MappingProxyType({}))):
                    row.append(log_loss(forecast(stage, one, name, index), y))
            told.append(row)
        before, after, away_before, away_after = np.nanmean(np.array(told), axis=0).tolist()
        out.append((task, n_scores, before, after, away_before, away_after))
    return out


def main() -> None:
    """Run all three parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    stage = set_stage(given.data, given.seed)
    lines = [
        f"zeroeval, {len(stage.newcomers)} newcomers released after {CUTOFF}, "
        f"{len(stage.served)} prompts served, {len(stage.held)} held out, {given.orders} orders.",
        "",
        "## A newcomer that starts from its card: mean log-loss on held-out prompts after n scores",
        "",
        "| n | " + " | ".join(str(n) for n in COUNTS) + " |",
        "| --- |" + " --- |" * len(COUNTS),
    ]
    curves = learning_curves(stage, given.orders)
    whole = ~np.isnan(curves["learning"]).any(axis=1)
    for arm, losses in curves.items():
        row = " | ".join(f"{x:.3f}" for x in losses[whole].mean(axis=0))
        lines.append(f"| {arm} | {row} |")
    gain = curves["off"][whole] - curves["learning"][whole]
    spread = gain.std(axis=0, ddof=1) / np.sqrt(whole.sum())
    row = " | ".join(
        f"{m:+.3f} ± {1.96 * s:.3f}" for m, s in zip(gain.mean(0), spread, strict=True)
    )
    lines += [
        f"| off - learning, 95% | {row} |",
        "",
        f"{int(whole.sum())} newcomers with 500 scores.",
    ]
    found, false_alarms, n_scores = changes(stage, 4)
    alarms = [c.alarm for c in found if c.alarm is not None]
    lines += [
        "",
        "## A silent change to a worse model: mean log-loss on its answers after n scores of it",
        "",
        "| n | " + " | ".join(str(n) for n in AFTER) + " |",
        "| --- |" + " --- |" * len(AFTER),
    ]
    for arm in ("off", "no alarm", "learning"):
        mean = np.mean([c.losses[arm] for c in found], axis=0)
        lines.append(f"| {arm} | " + " | ".join(f"{x:.3f}" for x in mean) + " |")
    lines += [
        "",
        f"{len(found)} changes of 8 points of accuracy and more (mean "
        f"{np.mean([c.gap for c in found]):.2f}); its own forecasts after all its scores: "
        f"{np.mean([c.own for c in found]):.3f}. Drift raised in {len(alarms)} of {len(found)}, "
        f"after {np.median(alarms):.0f} scores in the median "
        f"({np.quantile(alarms, 0.9):.0f} at the 90th percentile). Without a change: "
        f"{false_alarms} alarms in {n_scores:,} scores.",
        "",
        "## What others' scores tell: log-loss of a newcomer nobody has scored",
        "",
        "| task | scores of others on it | there, before | after | elsewhere, before | after |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for task, n, *means in informs_others(stage):
        lines.append(f"| {task} | {n} | " + " | ".join(f"{x:.3f}" for x in means) + " |")
    text = "\n".join(lines)
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
