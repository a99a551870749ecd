"""``zerorouter models``: the catalog, with abilities and error bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerorouter.cli.common import print_json, router_options, say, typed_errors
from zerorouter.paths import home_dir

if TYPE_CHECKING:
    from zerorouter.arrays import Float32Array
    from zerorouter.catalog import Catalog, ModelSpec, PriceReport
    from zerorouter.space import LatentSpace


@click.command("models")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Also models outside the pool.")
@click.option(
    "--prices-from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take over the prices of a LiteLLM price map and keep them.",
)
@click.option(
    "--forget-prices", is_flag=True, help="Drop the kept prices; the catalog's count again."
)
@router_options
@typed_errors
def command(
    name: str | None,
    everything: bool,
    prices_from: Path | None,
    forget_prices: bool,
    space: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """List the catalog, or show the model NAME.

    Ability is a model's place on the general dimension of the latent space, in standard
    deviations of the population, with the half width of its 90% interval. Models outside the
    pool (--all) may be known by their cards and published scores alone: 'known by' says so, the
    interval is wide, and 'zerorouter route --models NAME' uses them all the same.

    Prices read with --prices-from are kept in the state folder (ZEROROUTER_HOME) and used from
    then on; those under 'prices:' in the configuration win over them.
    """
    from zerorouter.cli.common import open_router
    from zerorouter.price_lists import forget_prices as forget
    from zerorouter.price_lists import keep_prices

    if forget_prices:
        click.echo("kept prices dropped" if forget() else "no prices were kept", err=True)
    router = open_router(space, config_path)
    catalog, latent = router.catalog, router.space
    drifted = _drifted(latent.version)
    abilities = _Abilities.of(latent, catalog) if everything or name else _Abilities(latent)
    abilities = replace(abilities, probation=router.probation | abilities.card_only)
    report = kept_at = None
    if prices_from is not None:
        catalog, report = catalog.read_prices(prices_from)
        read = {name: price for name in report.matched if (price := catalog.get(name).price)}
        kept_at = keep_prices(read)
    if name is not None:
        spec = catalog.get(name)
        facts = _facts(spec, abilities)
        if as_json:
            print_json(facts | {"drift": drifted.get(name)})
        else:
            _show_one(spec, abilities)
            _tell_of(drifted, name)
            _show_report(report, catalog, kept_at)
        return
    shown = [spec for spec in catalog if everything or spec.name in router.models]
    if as_json:
        print_json([_facts(s, abilities) | {"drift": drifted.get(s.name)} for s in shown])
        return
    _show_all(shown, abilities, catalog)
    _tell_of(drifted)
    _show_report(report, catalog, kept_at)


def _drifted(space_version: str) -> dict[str, str]:
    """Models that a gateway of this state folder has found to be changed, and which way."""
    folder = home_dir() / "gateway" / "learning"
    if not (folder / "current.json").is_file():
        return {}
    from zerorouter.errors import CorruptArtifactError
    from zerorouter.gateway.learning.versions import Versions

    try:
        found = Versions(folder).current()
    except CorruptArtifactError:  # the gateway tells of it, and goes on from an earlier version
        return {}
    if found is None or found.state.space_version != space_version:
        return {}
    return {name: drift.direction for name, drift in found.state.drifted.items()}


def _tell_of(drifted: Mapping[str, str], name: str | None = None) -> None:
    for model, direction in sorted(drifted.items()):
        if name in (None, model):
            say(
                f"{model} answers {direction} than it did, as a gateway found: onboard it again, "
                "or acknowledge it at /admin (docs/learning.md)"
            )


@dataclass(frozen=True)
class _Abilities:
    """Abilities by name: those of the space, and those that cards alone tell."""

    space: LatentSpace
    card_only: frozenset[str] = frozenset()
    rests_on: Mapping[str, str] | None = None
    probation: frozenset[str] = frozenset()  # those chosen on a lower bound of P(correct)

    @classmethod
    def of(cls, space: LatentSpace, catalog: Catalog) -> _Abilities:
        """Those of the space, with the models of the catalog that are known by cards alone."""
        from zerorouter.card_only import card_only_models
        from zerorouter.profiles import ProfileStore

        basis = dict.fromkeys(space.respondents, "answers")
        known = card_only_models(space)
        new = [] if known is None else [n for n in catalog.names if n in known and n not in space]
        for profile in ProfileStore.default().load_all():
            n_scores = sum(source.n_scores for source in profile.sources)
            if not profile.n_answers:
                basis[profile.name] = _card_and(n_scores)
        if known is not None:
            space = known.join(space, new)
            basis |= {name: _card_and(known.scores_of(name)) for name in new}
        return cls(space, frozenset(new), basis)

    def find(self, name: str) -> tuple[Float32Array, Float32Array] | None:
        """Mean and standard error (K,), or None."""
        if name not in self.space:
            return None
        at = int(self.space.index([name])[0])
        return self.space.abilities.mean[at], self.space.abilities.sd[at]

    def basis(self, name: str) -> str:
        """What an ability rests on: answers, a card, or a card and so many published scores."""
        return (self.rests_on or {}).get(name, "")


def _card_and(n_scores: int) -> str:
    return f"card, {n_scores} score{'' if n_scores == 1 else 's'}" if n_scores else "card"


def _facts(spec: ModelSpec, abilities: _Abilities) -> dict[str, Any]:
    """The card as JSON, with what is known of the model's ability."""
    facts = spec.to_dict()
    facts["ability"] = facts["ability_sd"] = None
    if (found := abilities.find(spec.name)) is not None:
        facts["ability"] = [round(float(x), 4) for x in found[0]]
        facts["ability_sd"] = [round(float(x), 4) for x in found[1]]
        facts["known_by"] = abilities.basis(spec.name)
        facts["probation"] = spec.name in abilities.probation
    return facts


def _show_all(specs: list[ModelSpec], abilities: _Abilities, catalog: Catalog) -> None:
    from zerorouter.cli.tables import Column, bar, show

    general = {
        spec.name: (float(found[0][0]), float(found[1][0]))
        for spec in specs
        if (found := abilities.find(spec.name)) is not None
    }
    low = min((m - 2 * s for m, s in general.values()), default=0.0)
    high = max((m + 2 * s for m, s in general.values()), default=1.0)
    listed = sorted(specs, key=lambda s: -general.get(s.name, (-9e9, 0.0))[0])
    known = [general.get(spec.name) for spec in listed]
    prices = [spec.price for spec in listed]
    show(
        [
            Column("model", [spec.name for spec in listed]),
            Column("released", [spec.released or "" for spec in listed], rank=3),
            Column(
                "ability, 90%",
                [f"{k[0]:+.2f} ± {1.645 * k[1]:.2f}" if k else "not yet" for k in known],
                right=True,
            ),
            *(
                [
                    Column(
                        "probation",
                        ["yes" if s.name in abilities.probation else "" for s in listed],
                        rank=1,
                    )
                ]
                if abilities.probation & {spec.name for spec in listed}
                else []
            ),
            *(
                [Column("known by", [abilities.basis(spec.name) for spec in listed])]
                if abilities.rests_on is not None
                else []
            ),
            Column("", [bar(*k, low, high) if k else "" for k in known], rank=4),
            Column(
                "$/M in", [f"{p.input_usd_per_mtok:g}" if p else "?" for p in prices], right=True
            ),
            Column(
                "$/M out", [f"{p.output_usd_per_mtok:g}" if p else "?" for p in prices], right=True
            ),
            Column(
                "tok/s",
                [f"{s.throughput_tok_s:.0f}" if s.throughput_tok_s else "" for s in listed],
                rank=2,
                right=True,
            ),
            Column(
                "context",
                [f"{s.context_tokens:,}" if s.context_tokens else "" for s in listed],
                rank=1,
                right=True,
            ),
            Column("can", [" ".join(sorted(s.capabilities)) for s in listed], rank=5),
        ]
    )
    if abilities.rests_on is not None:
        n = sum(spec.name in abilities.card_only for spec in specs)
        say(f"{len(specs)} models, {n} of them known by their cards alone: used when asked for")
    else:
        say(f"{len(specs)} models; the catalog holds {len(catalog)} (--all shows them)")


def _show_one(spec: ModelSpec, abilities: _Abilities) -> None:
    facts = {}
    for key, value in spec.to_dict().items():
        if key == "price":
            tiers = value.pop("tiers", [])
            value = ", ".join(f"{k} {v}" for k, v in value.items())
            for tier in tiers:
                rest = ", ".join(f"{k} {v}" for k, v in tier.items() if k != "above_input_tokens")
                value += f"; above {tier['above_input_tokens']:,} input tokens: {rest}"
        elif isinstance(value, list):
            value = ", ".join(value)
        facts[key] = str(value)
    if (found := abilities.find(spec.name)) is not None:
        for k, (m, s) in enumerate(zip(*found, strict=True)):
            label = "ability, general" if k == 0 else f"ability, specific {k}"
            facts[label] = f"{m:+.2f} ± {1.645 * s:.2f} (90%)"
        if spec.name in abilities.probation:
            facts["probation"] = "chosen on a lower bound of P(correct) until more is known of it"
        facts["known by"] = abilities.basis(spec.name)
    else:
        facts["ability"] = "not known yet: the model has not been onboarded"
    for key, value in facts.items():
        say(f"{key:18s}  {value}")


def _show_report(report: PriceReport | None, catalog: Catalog, kept_at: Path | None) -> None:
    if report is None:
        return
    click.echo(
        f"{len(report.matched)} of {len(catalog)} models found in the price map, "
        f"{len(report.changed)} prices changed, {len(report.kept)} of your own kept; "
        f"written to {kept_at}",
        err=True,
    )
