"""Profiled models join a space and a catalog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.irt.model import Abilities
from zerorouter.onboarding.evidence import calibrated_index, place, prefix_of, prior_of
from zerorouter.profiles.learning import card_of, leanings_of
from zerorouter.profiles.profile import Profile
from zerorouter.space import LatentSpace


@dataclass(frozen=True, kw_only=True, eq=False)
class Joined:
    """A space and a catalog with profiles in them.

    Attributes:
        space: Every profiled model is a respondent.
        catalog: Every profiled model has an entry; those with a price are in the default pool.
        probation: Models to be chosen on a lower confidence bound.
        notes: What a person should know, such as evidence that the space cannot read.
    """

    space: LatentSpace
    catalog: Catalog
    probation: frozenset[str]
    notes: tuple[str, ...]


def join(space: LatentSpace, catalog: Catalog, profiles: Iterable[Profile]) -> Joined:
    """Put profiled models into the pool; a profile stands in for what the space knew of its model.

    A profile made in another version of the space is placed anew from its evidence.
    """
    current = [refitted(profile, space) for profile in profiles]
    if not current:
        return Joined(space=space, catalog=catalog, probation=frozenset(), notes=())
    notes = []
    for profile in current:
        if profile.card.price is None:
            notes.append(
                f"{profile.name} has a profile but no price and stays out of the pool; give one "
                "with 'zerorouter onboard --price-in USD --price-out USD'"
            )
        lost = _lost(profile, space)
        if lost:
            notes.append(
                f"{profile.name}: {lost} of {profile.n_answers} answers were told in another "
                "version of the space and do not count here; onboard it again"
            )
    return Joined(
        space=_with_respondents(space, current),
        catalog=catalog.with_models(_specs(catalog, current)),
        probation=frozenset(profile.name for profile in current if profile.probation),
        notes=tuple(notes),
    )


def refitted(profile: Profile, space: LatentSpace) -> Profile:
    """The profile in the coordinates of ``space``; itself where they are its own."""
    if profile.space_version == space.version and len(profile.ability) == space.n_dims:
        return profile  # a space's version names its bytes: facets are the same, too
    placement = place(space, prior_of(space, card_of(profile.card)), profile.sources)
    return replace(
        profile,
        ability=placement.posterior.mean,
        covariance=placement.posterior.covariance,
        **leanings_of(placement),
        space_version=space.version,
        probation=profile.probation or placement.n_dropped > 0,
    )


def _lost(profile: Profile, space: LatentSpace) -> int:
    """Answers of a profile that the space can make nothing of."""
    index = calibrated_index(space)
    lost = 0
    for source in profile.sources:
        if source.space == space.version:
            continue
        at = index.find(prefix_of([answer.key for answer in source.answers]))
        lost += source.n_answers - int(np.sum(at >= 0))
    return lost


def _with_respondents(space: LatentSpace, profiles: Sequence[Profile]) -> LatentSpace:
    names = [*space.respondents]
    at = {name: i for i, name in enumerate(names)}
    for profile in profiles:
        if profile.name not in at:
            at[profile.name] = len(names)
            names.append(profile.name)
    extra, k = len(names) - len(space.respondents), space.n_dims
    own = space.abilities
    mean = np.vstack([own.mean, np.zeros((extra, k), np.float32)])
    covariance = np.concatenate([own.covariance, np.zeros((extra, k, k), np.float32)])
    leanings, variance = own.leanings, own.leaning_variance
    if leanings is not None and variance is not None:
        leanings = np.vstack([leanings, np.zeros((extra, leanings.shape[1]), np.float32)])
        variance = np.append(variance, np.full(extra, space.leaning_variance, np.float32))
    styles = {
        column.name: np.concatenate([values, np.zeros((extra, *values.shape[1:]), np.float32)])
        for column in fields(space.styles)
        if (values := getattr(space.styles, column.name)) is not None
    }
    for profile in profiles:
        row = at[profile.name]
        mean[row], covariance[row] = profile.ability, profile.covariance
        if leanings is not None and variance is not None and profile.leanings is not None:
            leanings[row], variance[row] = profile.leanings, profile.leaning_variance
        for column, values in styles.items():
            # What a profile does not tell, such as leanings of the lengths, is none.
            values[row] = getattr(profile.lengths, column, 0.0)
    return replace(
        space,
        respondents=tuple(names),
        abilities=Abilities(
            mean=mean, covariance=covariance, leanings=leanings, leaning_variance=variance
        ),
        styles=replace(space.styles, **styles),
    )


def _specs(catalog: Catalog, profiles: Sequence[Profile]) -> Iterable[ModelSpec]:
    for profile in profiles:
        spec = profile.card
        if spec.name in catalog:
            # The catalog may have learned since, of prices for one; the profile's own facts win.
            told = {
                column.name: value
                for column in fields(spec)
                if (value := getattr(spec, column.name)) not in (None, "", False, frozenset())
            }
            spec = replace(catalog.get(spec.name), **told)
        if profile.speed is not None:
            spec = replace(
                spec,
                ttft_s=round(profile.speed.ttft_s, 4),
                throughput_tok_s=round(1 / max(profile.speed.tpot_s, 1e-6), 3),
                speed_source=f"measured on {profile.speed.n} requests, {profile.date}",
            )
        yield replace(spec, in_default_pool=spec.price is not None)
