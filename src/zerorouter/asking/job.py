"""Onboarding as one job: plan, quote, ask, grade, place, keep.

    result = onboard("my-model", base_url="http://127.0.0.1:8000/v1", price=Price(...))

Everything that was asked is in a journal under ``ZEROROUTER_HOME/runs`` and stays there: the same
call made again goes on where the last one ended, and never asks what has an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from zerorouter.asking.engine import Asking
from zerorouter.asking.http import Endpoint
from zerorouter.asking.journal import Journal
from zerorouter.asking.outcome import Onboarding, Progress
from zerorouter.asking.plan import Design
from zerorouter.asking.reported import reported_sources, shipped_source
from zerorouter.asking.run import Run
from zerorouter.asking.run_files import put_aside, run_path
from zerorouter.asking.sources import AnchorSource, FolderSource, GymSource
from zerorouter.asking.surroundings import Surroundings, per_thousand, surroundings
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import InputError, NoEligibleModelError
from zerorouter.known_items import load_known_items
from zerorouter.linking import load_aliases
from zerorouter.onboarding.design import Quote
from zerorouter.onboarding.evidence import Source
from zerorouter.paths import home_dir
from zerorouter.prices import Price
from zerorouter.profiles import Profile, ProfileStore, learned
from zerorouter.routing.policy import Policy

__all__ = ["Design", "Onboarding", "Progress", "default_max_tokens", "onboard"]


def onboard(
    name: str,
    *,
    base_url: str | None = None,
    api_key_env: str | None = None,
    upstream_model: str | None = None,
    card: ModelSpec | None = None,
    price: Price | None = None,
    design: Design | None = None,
    evidence: Sequence[Source] = (),
    scores: Mapping[str, float] | Sequence[tuple[str, float]] = (),
    max_tokens: int | None = None,
    budget_usd: float | None = None,
    concurrency: int = 8,
    requests_per_minute: float | None = None,
    timeout_s: float = 300.0,
    retries: int = 3,
    extra: Mapping[str, Any] | None = None,
    policy: str | Policy = "balanced",
    space: str | Path | None = None,
    home: Path | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    date: str | None = None,
    on_quote: Callable[[Quote, Design], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    notes: Sequence[str] = (),
) -> Onboarding:
    """Learn where a model stands and keep it as a profile.

    Args:
        name: The model's name here.
        base_url: OpenAI-compatible endpoint to ask; None to ask nothing.
        api_key_env: Environment variable that holds the endpoint's key.
        upstream_model: The model's name at the endpoint, by default ``name``.
        card: What is told of it; by default its catalog entry, else its name alone.
        price: In place of the card's.
        design: Which anchors, and how many.
        evidence: Further evidence, such as imported logs.
        scores: Published benchmark scores in [0, 1] by benchmark, see `reported_sources`.
        max_tokens: Most output tokens of an answer; by default 2,048, or 16,384 of a model that
            reasons.
        budget_usd: Dollars that asking may cost, whatever comes; None for no limit.
        concurrency: Requests under way at once.
        requests_per_minute: Pace; None for no limit.
        timeout_s: Longest time of one request.
        retries: Further attempts after a failed one.
        extra: Further fields of each request.
        policy: Whose traffic decides whether asking on is worth it.
        space: Folder of a space, by default ``ZEROROUTER_SPACE`` or the shipped one.
        home: State folder, by default ``ZEROROUTER_HOME``.
        fresh: Begin a new run; answers of earlier ones are put aside.
        dry_run: Plan and quote only.
        date: Today, ``YYYY-MM-DD``.
        on_quote: Called with the price before the first request; raise to stop.
        on_progress: Called after each answer.
        notes: What was noted of the evidence, to be passed on.

    Raises:
        InputError: an argument cannot be used.
        MissingPriceError: a budget was given without prices.
        ConfigError: the key is missing.
        MissingExtraError: a package is missing.
        ArtifactError: a file cannot be read or written.
        NoEligibleModelError: nothing was told, asked or known of the model.
    """
    if not name.strip() or len(name) > 200:
        raise InputError(f"the name {name[:40]!r}; wanted 1 to 200 characters")
    root = home or home_dir()
    store = ProfileStore(root / "profiles")
    around = surroundings(name, space=space, store=store, policy=policy, date=date)
    earlier = store.find(name)
    spec = _card(name, card, price, earlier, around.catalog)
    wanted = design or Design()
    told = [*evidence, *reported_sources(scores, around)]
    told += shipped_source(name, told, earlier, around)
    if base_url is None:
        return _without_asking(spec, told, earlier, around, store, dry_run, notes)
    endpoint = Endpoint(base_url=base_url, model=upstream_model or name, api_key_env=api_key_env)
    asking = Asking(
        endpoint=endpoint,
        price=spec.price,
        max_tokens=max_tokens or default_max_tokens(spec),
        budget_usd=budget_usd,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        timeout_s=timeout_s,
        retries=retries,
        extra=dict(extra or {}),
    )
    endpoint.key()  # a missing key is found before anything is made
    source = _source(wanted, around)
    if source.targets is not None:
        around = replace(around, targets=source.targets)
    run = Run(
        spec=spec,
        design=wanted,
        asking=asking,
        source=source,
        around=around,
        told=told,
        notes=notes,
        earlier=earlier,
        on_progress=on_progress or (lambda _progress: None),
    )
    price_told = run.quote()
    if dry_run:
        return run.result(None, quote_=price_told, dry_run=True)
    if on_quote is not None:
        on_quote(price_told, wanted)
    path = run_path(root, spec, asking, source)
    if fresh:
        put_aside(path)
    head = {
        "model": name,
        "endpoint": endpoint.base_url,
        "upstream_model": endpoint.model,
        "anchors": source.name,
        "space": around.space.version,
        "date": around.date,
    }
    with Journal.resume(path) if path.exists() else Journal.create(path, head) as journal:
        try:
            _to_end(run.ask(journal))
        finally:
            # What was answered is worth keeping, however the run ended.
            kept = run.keep(store)
        if kept is None:
            raise NoEligibleModelError(
                f"{name} answered nothing: {run.stopped or 'no prompt could be asked'}. Nothing "
                f"was placed; what happened is in {path}"
            )
        return run.result(journal, quote_=price_told, kept=kept)


def _to_end(job: Coroutine[Any, Any, None]) -> None:
    """Run to the end, also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(job)
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, job).result()


def default_max_tokens(spec: ModelSpec) -> int:
    """Room for an answer: reasoning needs more of it."""
    room = 16_384 if spec.reasoning else 2_048
    return min(room, spec.max_output_tokens or room)


def _without_asking(
    spec: ModelSpec,
    told: Sequence[Source],
    earlier: Profile | None,
    around: Surroundings,
    store: ProfileStore,
    dry_run: bool,
    notes: Sequence[str],
) -> Onboarding:
    """A profile from a card and what else was told."""
    step = learned(
        around.space,
        spec,
        told,
        length_prior=around.length_prior,
        targets=around.targets,
        date=around.date,
        earlier=earlier,
        pool=around.abilities,
    )
    if not dry_run:
        store.save(step.profile)
    return Onboarding(
        profile=step.profile,
        step=step,
        quote=None,
        spent_usd=None if spec.price is None else 0.0,
        usd_per_1k_prompts=per_thousand(spec, around, step.lengths),
        rank=step.outlook.rank,
        pool_size=step.outlook.pool_size,
        covered={},
        wide=step.outlook.wide,
        stopped="nothing was asked of the model",
        dropped={},
        failed={},
        warnings=(),
        notes=tuple(notes),
        journal=None,
        dry_run=dry_run,
    )


def _source(design: Design, around: Surroundings) -> AnchorSource:
    reader = around.space.reader()
    if design.data is not None:
        return FolderSource(
            design.data, around.space, reader, grader=design.grader, seed=design.seed
        )
    return GymSource(
        around.space,
        reader,
        load_known_items(),
        anchor_set=design.anchor_set,
        seed=design.seed,
    )


def _card(
    name: str,
    card: ModelSpec | None,
    price: Price | None,
    earlier: Profile | None,
    catalog: Catalog,
) -> ModelSpec:
    """What is told of the model: now, before, or by the catalog."""
    spec = card
    if spec is None:
        spec = earlier.card if earlier else catalog.get(name) if name in catalog else None
    if spec is None:
        known = load_aliases().card(name)
        spec = ModelSpec(
            name=name,
            family=known.family if known else "",
            released=known.released if known else None,
            params_b=known.params_b if known else None,
            reasoning=bool(known and known.reasoning),
        )
    if spec.name != name:
        raise InputError(f"the card is that of {spec.name!r}, and {name!r} is to be onboarded")
    return replace(spec, price=price) if price is not None else spec
