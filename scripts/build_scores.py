"""Fit what published scores say in the shipped space, and place models that have no records by it.

    python scripts/build_scores.py --data DIR [--date YYYY-MM-DD]

Run it after `build_space.py`: loadings are told in the coordinates of that very space. Reads
``DIR/catalog`` (published scores and cards) and writes ``src/zerorouter/assets/scores`` (loadings,
offsets, variances: no score) and ``assets/card_only`` (where priced models without records are
expected). docs/results/scores.md says what both are worth.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zerorouter.card_only import CardOnly, places_of, read_scores
from zerorouter.catalog import Catalog
from zerorouter.fitting.lengths import length_prior, style_of
from zerorouter.linking import RespondentCard, load_aliases
from zerorouter.onboarding.evidence import prior_of
from zerorouter.onboarding.published import ScoreMatrix, ScoreModel, fit_scores
from zerorouter.onboarding.shipped_scores import links_in, save_scores
from zerorouter.profiles import card_of
from zerorouter.profiles.learning import answer_lengths
from zerorouter.space import AnswerStyle, LatentSpace

ASSETS = Path(__file__).parent.parent / "src" / "zerorouter" / "assets"
SOURCE = (
    "Published scores and model cards: llm-leaderboard by Jonathan Chavez Tamales, CC-BY-4.0, "
    "https://creativecommons.org/licenses/by/4.0/; changed: loadings, offsets and variances were "
    "fitted on them, and models placed by them"
)


def fit(space: LatentSpace, matrix: ScoreMatrix, cards: Sequence[RespondentCard]) -> ScoreModel:
    """The score model of a space."""
    means, covariances, known = places_of(space, matrix.models, cards)
    return fit_scores(matrix, means, covariances, known, links_in(space))


def card_only(
    space: LatentSpace, catalog: Catalog, model: ScoreModel, matrix: ScoreMatrix
) -> CardOnly:
    """Priced models of the catalog that have no records, by card and published scores."""
    specs = [spec for spec in catalog if spec.price is not None and spec.name not in space]
    lengths = length_prior(space.styles, [load_aliases().card(r) for r in space.respondents])
    means, covariances, counts = [], [], []
    styles: AnswerStyle | None = None
    for spec in specs:
        prior = prior_of(space, card_of(spec))
        told = matrix.of(spec.name)
        mean, covariance = model.fold(told, prior.mean, prior.covariance)
        means.append(mean)
        covariances.append(covariance)
        counts.append(len(model.known(told)))
        style = style_of(answer_lengths(space, spec, (), lengths))
        styles = style if styles is None else styles.joined(style)
    assert styles is not None
    return CardOnly(
        names=tuple(spec.name for spec in specs),
        mean=np.array(means, dtype=np.float32),
        covariance=np.array(covariances, dtype=np.float32),
        n_scores=np.array(counts, dtype=np.int64),
        styles=styles,
        space_version=space.version,
    )


def main() -> None:
    """Fit, place, save, and say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the record folders")
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    options = parser.parse_args()
    start = time.perf_counter()
    space = LatentSpace.load()
    matrix, cards = read_scores(options.data)
    model = fit(space, matrix, cards)
    provenance = {
        "date": options.date,
        "source": SOURCE,
        "n_models": len(matrix.models),
        "n_respondents": sum(name in space for name in matrix.models),
        "n_scores": int((~np.isnan(matrix.scores)).sum()),
    }
    save_scores(model, options.out / "scores", space_version=space.version, provenance=provenance)
    placed = card_only(space, Catalog.load(), model, matrix)
    placed.save(options.out / "card_only", provenance=provenance)
    print(
        f"space {space.version}: {len(model.benchmarks)} benchmarks, {len(model.links)} of them "
        f"linked to items; all scores of a model share {model.shared_variance**0.5:.2f} logits (sd)"
    )
    print(
        f"{len(placed.names)} models without records placed, {int((placed.n_scores > 0).sum())} "
        f"of them with published scores; {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
