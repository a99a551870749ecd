"""Models that are known by their cards alone: where they are expected, with wide bars.

``assets/card_only`` places every priced model of the catalog that has no records by its card and
its published scores (`onboarding.published`); ``scripts/build_scores.py`` makes it after every fit
of the shipped space. Such models stay out of the pool until they are onboarded or asked for by
name; then they are chosen on a lower bound of P(correct), like every newcomer.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from zerorouter.arrays import Float32Array, Float64Array, IntArray
from zerorouter.artifacts import load_folder, save_folder
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import CorruptArtifactError, DataError, UnknownNameError
from zerorouter.irt.model import Abilities
from zerorouter.linking import AliasTable, RespondentCard, load_aliases
from zerorouter.onboarding.benchmarks import (
    PUBLISHED_FILE,
    PUBLISHED_FOLDER,
    load_benchmarks,
    published_beside,
    read_published,
)
from zerorouter.onboarding.evidence import Prior, Summary, card_prior
from zerorouter.onboarding.published import ScoreMatrix
from zerorouter.profiles import card_of
from zerorouter.space import AnswerStyle, LatentSpace

FORMAT = "zerorouter-card-only"
FORMAT_VERSION = 1
_STYLE = "style."


@dataclass(frozen=True, kw_only=True, eq=False)
class CardOnly:
    """Models without records in one version of a space.

    Attributes:
        names: (M,) names.
        mean: (M, K) expected abilities.
        covariance: (M, K, K) how far off they may be.
        n_scores: (M,) published scores that they rest on beside the card.
        styles: Their answer lengths, as their kind of model has them.
        space_version: The space in whose coordinates all this is told.
    """

    names: tuple[str, ...]
    mean: Float32Array
    covariance: Float32Array
    n_scores: IntArray
    styles: AnswerStyle
    space_version: str

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def scores_of(self, name: str) -> int:
        """Published scores that a model's place rests on."""
        return int(self.n_scores[self.names.index(name)])

    def summary(self, name: str, prior: Prior) -> Summary:
        """What a model's published scores add to its card, as a Gaussian likelihood.

        Args:
            name: The model.
            prior: What its card in the catalog tells.
        """
        at = self.names.index(name)
        before = np.linalg.inv(prior.covariance)
        after = np.linalg.inv(self.covariance[at].astype(np.float64))
        # Rounding may leave a direction that nothing was told of a shade below nothing.
        values, vectors = np.linalg.eigh((after - before + (after - before).T) / 2)
        told = (vectors * np.maximum(values, 0.0)) @ vectors.T
        mean = self.mean[at].astype(np.float64)
        shift = (before + told) @ mean - before @ prior.mean
        return Summary(
            mean=tuple(mean.tolist()),
            precision=tuple(tuple(row) for row in told.tolist()),
            shift=tuple(shift.tolist()),
            n_answers=0,
        )

    def join(self, space: LatentSpace, names: Iterable[str]) -> LatentSpace:
        """The space with these models in it as respondents; those it knows already stay."""
        new = [name for name in dict.fromkeys(names) if name not in space]
        if not new:
            return space
        if missing := [name for name in new if name not in self.names]:
            raise UnknownNameError("model", missing[0], self.names)
        at = np.array([self.names.index(name) for name in new])
        own, leanings, variance = space.abilities, None, None
        if own.leanings is not None:
            leanings = np.zeros((len(new), own.leanings.shape[1]), np.float32)
            variance = np.full(len(new), space.leaning_variance, np.float32)
        arrived = Abilities(
            mean=self.mean[at],
            covariance=self.covariance[at],
            leanings=leanings,
            leaning_variance=variance,
        )
        styles: dict[str, Any] = {
            column.name: None if values is None else values[at]
            for column in fields(AnswerStyle)
            for values in [getattr(self.styles, column.name)]
        }
        return replace(
            space,
            respondents=(*space.respondents, *new),
            abilities=own.joined(arrived),
            styles=space.styles.joined(AnswerStyle(**styles)),
        )

    def save(self, folder: Path, *, provenance: Mapping[str, Any]) -> None:
        """Write them to a folder."""
        save_folder(
            folder,
            format_name=FORMAT,
            format_version=FORMAT_VERSION,
            arrays={
                "mean": self.mean.astype(np.float32),
                "covariance": self.covariance.astype(np.float32),
                "n_scores": self.n_scores.astype(np.int32),
                **{
                    f"{_STYLE}{column.name}": values.astype(np.float32)
                    for column in fields(AnswerStyle)
                    if (values := getattr(self.styles, column.name)) is not None
                },
            },
            facts={
                "names": list(self.names),
                "space": self.space_version,
                "provenance": dict(provenance),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> CardOnly:
        """Read them.

        Raises:
            ArtifactError: the folder is missing, damaged, or of a later version.
        """
        arrays, facts = load_folder(folder, format_name=FORMAT, newest_version=FORMAT_VERSION)
        try:
            return cls(
                names=tuple(facts["names"]),
                mean=arrays["mean"],
                covariance=arrays["covariance"],
                n_scores=arrays["n_scores"].astype(np.int64),
                styles=AnswerStyle(
                    **{
                        name.removeprefix(_STYLE): values
                        for name, values in arrays.items()
                        if name.startswith(_STYLE)
                    }
                ),
                space_version=str(facts["space"]),
            )
        except (KeyError, TypeError) as error:
            raise CorruptArtifactError(
                f"{folder} is incomplete ({type(error).__name__}: {error}); install ZeroRouter anew"
            ) from error


@cache
def _shipped() -> CardOnly:
    with resources.as_file(resources.files("zerorouter") / "assets" / "card_only") as folder:
        return CardOnly.load(folder)


def card_only_models(space: LatentSpace) -> CardOnly | None:
    """The shipped models without records; None in the coordinates of another space.

    Raises:
        ArtifactError: they cannot be read.
    """
    found = _shipped()
    return found if found.space_version == space.version else None


def asked_for(patterns: Iterable[str], catalog: Catalog, pool: Collection[str]) -> tuple[str, ...]:
    """Models outside the pool that patterns ask for, in the catalog's order.

    A pattern that fits a model of the pool speaks of the pool; one that fits none asks for what
    else the catalog has. Patterns that fit nothing at all ask for nothing: they are found out
    where the pool is filtered.
    """
    found: set[str] = set()
    for pattern in patterns:
        try:
            hits = catalog.select([pattern]).names
        except UnknownNameError:
            continue
        if not any(name in pool for name in hits):
            found.update(hits)
    return tuple(name for name in catalog.names if name in found)


# -- published models ----------------------------------------------------------------------------


def read_scores(folder: Path) -> tuple[ScoreMatrix, tuple[RespondentCard, ...]]:
    """The published scores of a folder and the cards of their models.

    Raises:
        DataError: there are none, or they break their format.
    """
    table = published_beside(folder)
    if table is None:
        raise DataError(f"{folder}: no {PUBLISHED_FILE} here or in '{PUBLISHED_FOLDER}' beside it")
    aliases = load_aliases()
    matrix = read_published(table, aliases)
    return matrix, published_cards(table, matrix.models, aliases)


def places_of(
    space: LatentSpace, names: Sequence[str], cards: Sequence[RespondentCard]
) -> tuple[Float64Array, Float64Array, list[bool]]:
    """(M, K) means and (M, K, K) covariances of models, and which of them answers tell.

    Respondents of the space stand where it has them, others where their cards put them. So do
    respondents of records of which no benchmark is linked (reasoning-gym's puzzles): what places
    them against the others is one model in common, and scores disagree with it by a point of
    ability and more (docs/results/scores.md).
    """
    linked = _respondents_of_links()
    means, covariances, known = [], [], []
    for name, card in zip(names, cards, strict=True):
        known.append(name in space and name in linked)
        if known[-1]:
            at = int(space.index([name])[0])
            means.append(space.abilities.mean[at].astype(np.float64))
            covariances.append(space.abilities.covariance[at].astype(np.float64))
        else:
            prior = card_prior(space, card)
            means.append(prior.mean)
            covariances.append(prior.covariance)
    return np.array(means), np.array(covariances), known


def _respondents_of_links() -> frozenset[str]:
    """Respondents of the record folders that the table of benchmarks links to."""
    aliases = load_aliases()
    folders = {
        pattern.partition("/")[0]
        for link in load_benchmarks().links.values()
        for pattern in link.tasks
    }
    return frozenset(aliases(folder, name) for folder in folders for name in aliases.names(folder))


def published_cards(
    path: Path, models: Sequence[str], aliases: AliasTable
) -> tuple[RespondentCard, ...]:
    """Cards of the models of a table of published scores.

    From the catalog, the reviewed cards, or the ``models.csv`` beside the table, in that order. A
    family that nobody names is the model's name, of which its maker is read.
    """
    catalog, beside = Catalog.load(), _models_beside(path, aliases)
    cards = []
    for name in models:
        if name in catalog:
            cards.append(card_of(catalog.get(name)))
        elif (card := aliases.card(name)) is not None:
            cards.append(card)
        else:
            cards.append(card_of(beside.get(name, ModelSpec(name=name, family=name))))
    return tuple(cards)


def _models_beside(path: Path, aliases: AliasTable) -> dict[str, ModelSpec]:
    table = path.with_name("models.csv")
    if not table.is_file():
        return {}
    found = {}
    with table.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if not (told := row.get("model_id")):
                continue
            name = aliases.canonical("catalog", told).id
            spec = ModelSpec(name=name, family=name, released=row.get("release_date") or None)
            params = row.get("param_count")
            found[name] = replace(spec, params_b=float(params) / 1e9) if params else spec
    return found
