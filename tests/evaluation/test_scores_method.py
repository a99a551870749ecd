"""The method `zerorouter_scores`: published scores of newcomers, and nothing else, come in."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from evaluation.synthetic import newcomers, world
from evaluation.test_harness import one, plan, records
from zerorouter.evaluation.baselines.scores import FittedZeroRouterScores, ZeroRouterScores
from zerorouter.evaluation.baselines.zerorouter import ZeroRouter
from zerorouter.evaluation.contracts import Newcomers, Published
from zerorouter.evaluation.harness import evaluate
from zerorouter.evaluation.reporting.tables import report_tables, spelled
from zerorouter.onboarding.published import ScoreMatrix

N_MODELS = 12
NOBODY_ASKED = np.array([], dtype=np.int64)


def matrix(models: list[str], scores: list[list[float]]) -> ScoreMatrix:
    return ScoreMatrix(
        models=tuple(models),
        benchmarks=("gsm8k", "quiz", "rare"),
        scores=np.array(scores, dtype=np.float64),
    )


@cache
def trained():
    """Models whose accuracy rises with their number, and published scores that tell it."""
    train = world(seed=4, n_models=N_MODELS, n_train=240, own_signal=0.0).train
    mean = np.nanmean(train.labels.scores, axis=1)
    told = [[float(m), float(np.clip(m + 0.1, 0, 1)), np.nan] for m in mean]
    published = Published(
        matrix=matrix([card.model for card in train.models], told),
        tasks=("zeroeval/gsm", "zeroeval/other"),
    )
    return replace(train, published=published), mean


@cache
def fitted() -> FittedZeroRouterScores:
    found = ZeroRouterScores().fit(trained()[0], {}, np.random.default_rng(0))
    assert isinstance(found, FittedZeroRouterScores)
    return found


def joining(scores: list[float] | None, models: tuple[int, ...] = (6,)) -> Newcomers:
    """Models as newcomers of whom nothing was asked."""
    arrived = newcomers(trained()[0], list(models), NOBODY_ASKED)
    if scores is None:
        return arrived
    names = [card.model for card in arrived.models]
    return replace(arrived, published=matrix(names, [scores] * len(names)))


def expected(found, arrived: Newcomers) -> np.ndarray:
    test = trained()[0].prompts
    return found.onboard(arrived).predict(test).p_correct[:, N_MODELS:].mean(axis=0)


def test_a_better_published_score_raises_the_forecast():
    low, high = (expected(fitted(), joining([s, s, np.nan]))[0] for s in (0.2, 0.9))
    assert high > low + 0.1


def test_without_published_scores_it_is_the_shipped_method():
    plain = ZeroRouter().fit(trained()[0], {}, np.random.default_rng(0))
    assert expected(fitted(), joining(None)) == pytest.approx(expected(plain, joining(None)))
    untold = joining([np.nan, np.nan, np.nan])
    assert expected(fitted(), untold) == pytest.approx(expected(plain, untold))


def test_a_benchmark_that_too_few_have_published_tells_nothing():
    assert expected(fitted(), joining([np.nan, np.nan, 0.99])) == pytest.approx(
        expected(fitted(), joining(None))
    )


def test_items_of_a_benchmark_are_those_of_its_tasks_in_the_training_prompts():
    model = fitted().score_model
    assert set(model.links) == {"gsm8k"}
    n = int((trained()[0].strata == 0).sum())
    assert 0 < model.links["gsm8k"].items.n_items <= n


def test_newcomers_scores_teach_nothing():
    """The score model is the same whatever they are: it is made before they come."""
    before = fitted().score_model.loading.copy()
    fitted().onboard(joining([0.01, 0.99, 0.5]))
    assert (fitted().score_model.loading == before).all()
    assert set(trained()[0].published.matrix.models).isdisjoint(
        card.model for card in joining([0.5] * 3).models
    )


def test_answers_outweigh_scores():
    """A model that is said to be strong and answers like a weak one is placed low."""
    train, mean = trained()
    weak = int(np.argmin(mean))
    boasting = [0.97, 0.97, np.nan]
    card_only = expected(fitted(), joining(boasting, (weak,)))[0]
    anchors = np.arange(0, 240, 3)
    arrived = newcomers(train, [weak], anchors)
    names = [card.model for card in arrived.models]
    known = expected(fitted(), replace(arrived, published=matrix(names, [boasting])))[0]
    assert known < card_only - 0.1
    assert abs(known - mean[weak]) < abs(card_only - mean[weak])


def test_scores_of_a_model_do_not_speak_of_it_asked_for_the_bare_answer():
    told = joining([0.95, 0.95, np.nan])
    card = replace(told.models[0], id=f"{told.models[0].id}#direct")
    direct = replace(told, models=(card,))
    assert expected(fitted(), direct) == pytest.approx(
        expected(fitted(), replace(direct, published=None))
    )


# -- through the harness -------------------------------------------------------------------------

METHODS = ("zerorouter", "zerorouter_scores", "knn")


def folder(path, models):
    """Records, and beside them a table of published scores of some of the models."""
    found = records(path / "trees", n_prompts=120)
    table = path / "catalog"
    table.mkdir()
    lines = ["model_id,benchmark_id,normalized_score"]
    lines += [f"model-{m},quiz,{0.1 + 0.09 * m:.2f}" for m in models]
    (table / "published_scores.csv").write_text("\n".join(lines) + "\n")
    return found


def run(path, models, **changes):
    options = {"splits": ("random", "time"), "methods": METHODS, "anchors": (0, 5)} | changes
    return evaluate(plan(folder(path, models), **options), path / "out")


def test_the_row_of_scores_stands_in_benchmarking_avoided(tmp_path):
    rows = run(tmp_path, range(9))
    told = [r for r in rows if r.metric == "calls" and r.method == "zerorouter_scores"]
    assert [(r.n_anchors, r.value) for r in told] == [(0, 0.0)]
    assert one(rows, metric="log_loss", method="zerorouter_scores", n_anchors=0, seed=None).value
    table = next(s.benchmarking for s in report_tables(rows).sections if s.benchmarking)
    line = next(line for line in table.lines if line.label.endswith("0 + published scores"))
    calls, avoided, _, regret = line.cells
    assert (spelled(calls), avoided.text) == ("0", "100.0%")
    assert spelled(regret) not in ("", "–")
    against = [r.policy for r in rows if r.metric.startswith("corrected:")]
    assert not any("zerorouter_scores" in policy for policy in against)


@pytest.mark.parametrize(
    ("models", "reason"),
    [((0, 1), "none of the 3 newcomers has published scores"), (None, "no published scores")],
)
def test_newcomers_without_published_scores_leave_a_reason(tmp_path, models, reason):
    if models is None:
        rows = evaluate(
            plan(
                records(tmp_path / "trees", n_prompts=120),
                splits=("time",),
                methods=METHODS[1:],
                anchors=(0,),
            ),
            tmp_path / "out",
        )
    else:
        rows = run(tmp_path, models, splits=("time",), methods=METHODS[1:])
    status = one(rows, metric="status", method="zerorouter_scores")
    assert reason in status.note


def test_a_split_without_newcomers_says_that_scores_are_of_no_use(tmp_path):
    rows = run(tmp_path, range(9), splits=("random",), methods=("random", "zerorouter_scores"))
    assert "no newcomers" in one(rows, metric="status", method="zerorouter_scores").note
