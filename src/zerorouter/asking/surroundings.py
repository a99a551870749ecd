"""What a newcomer joins: the space, the pool it competes with, the prompts it is judged for."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.fitting.lengths import length_prior
from zerorouter.irt.model import Abilities
from zerorouter.known_items import load_known_items
from zerorouter.linking import load_aliases
from zerorouter.onboarding.outlook import Targets
from zerorouter.predict.tokens import LengthPosterior, LengthPrior, standard_difficulty
from zerorouter.profiles import ProfileStore, join
from zerorouter.routing.estimates import Pool
from zerorouter.routing.policy import Policy, find_policy
from zerorouter.space import LatentSpace


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """What a newcomer joins.

    Attributes:
        space: The space, without profiles.
        catalog: The catalog, without profiles.
        pool: The models it competes with, itself left out; None where there are none.
        abilities: Theirs, in the pool's order.
        length_prior: Of answer lengths.
        targets: Prompts it is judged for.
        policy: Whose traffic it may win.
        date: Today.
    """

    space: LatentSpace
    catalog: Catalog
    pool: Pool | None
    abilities: Abilities | None
    length_prior: LengthPrior
    targets: Targets
    policy: Policy
    date: str


def surroundings(
    name: str,
    *,
    space: str | Path | None = None,
    store: ProfileStore | None = None,
    catalog: Catalog | None = None,
    targets: Targets | None = None,
    policy: str | Policy = "balanced",
    date: str | None = None,
) -> Surroundings:
    """What the model ``name`` joins.

    Raises:
        ArtifactError: the space or a profile cannot be read.
    """
    named = space or os.environ.get("ZEROROUTER_SPACE") or None
    latent = LatentSpace.load(None if named is None else Path(named))
    offered = Catalog.load() if catalog is None else catalog
    offered = offered.with_models(
        replace(offered.get(own.name), in_default_pool=True) if own.name in offered else own
        for own in latent.models
    )
    others = [p for p in (store or ProfileStore.default()).load_all() if p.name != name]
    joined = join(latent, offered, others)
    specs = [
        spec
        for spec in joined.catalog.pool()
        if spec.name in joined.space and spec.name != name and spec.price is not None
    ]
    at = joined.space.index([spec.name for spec in sorted(specs, key=lambda spec: spec.name)])
    cards = [load_aliases().card(respondent) for respondent in latent.respondents]
    return Surroundings(
        space=latent,
        catalog=offered,
        pool=Pool.of(specs, joined.space) if specs else None,
        abilities=joined.space.abilities.take(at) if specs else None,
        length_prior=length_prior(latent.styles, cards),
        targets=targets or Targets.of_space(latent, load_known_items()),
        policy=find_policy(policy),
        date=date or datetime.date.today().isoformat(),
    )


def target_costs(
    spec: ModelSpec, around: Surroundings, lengths: LengthPosterior
) -> tuple[Float64Array, Float64Array]:
    """(T,) expected dollars and output tokens of the targets; dollars are NaN without a price."""
    targets, space = around.targets, around.space
    difficulty = standard_difficulty(targets.items.intercept, space.difficulty_scale)
    tokens = lengths.profile().expected_tokens(targets.log_length, difficulty)[:, 0]
    price = spec.price
    if price is None:
        return np.full(len(tokens), np.nan), tokens
    cost = targets.input_tokens * price.input_usd_per_mtok / 1e6
    return cost + tokens * price.output_usd_per_mtok / 1e6, tokens


def per_thousand(spec: ModelSpec, around: Surroundings, lengths: LengthPosterior) -> float | None:
    """Expected dollars of 1,000 prompts like the targets; None without a price."""
    if spec.price is None:
        return None
    return 1000 * float(target_costs(spec, around, lengths)[0].mean())
