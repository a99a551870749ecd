"""Onboarding as one job: plan, quote, ask, grade, place, keep.

    result = onboard("my-model", base_url="http://127.0.0.1:8000/v1", price=Price(...))

Everything that was asked is in a journal under ``ZEROROUTER_HOME/runs`` and stays there: the same
call made again goes on where the last one ended, and never asks what has an answer.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from zerorouter.arrays import BoolArray, Float64Array, IntArray
from zerorouter.asking.engine import OVERHEAD_TOKENS, Ask, Asking, Engine, worst_cost_usd
from zerorouter.asking.graders import Grade
from zerorouter.asking.http import Endpoint
from zerorouter.asking.journal import Journal, Received
from zerorouter.asking.sources import Anchor, AnchorSource, FolderSource, GymSource
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import InputError, NoEligibleModelError, UnknownNameError
from zerorouter.fitting.lengths import length_prior
from zerorouter.irt.anchors import STRATEGIES, AnchorStrategy
from zerorouter.irt.model import Abilities, ItemParameters
from zerorouter.known_items import load_known_items
from zerorouter.linking import load_aliases
from zerorouter.onboarding.design import Quote, StopRule, choose, expected_costs, quote
from zerorouter.onboarding.evidence import (
    Answer,
    Placement,
    ReportedScore,
    Source,
    mean_accuracy,
    place,
    prior_of,
)
from zerorouter.onboarding.outlook import (
    Targets,
    accuracy_draws,
    domain_counts,
    predictive_sd,
    traffic_chance,
)
from zerorouter.onboarding.person_fit import Conduct, memorised, person_fit, warnings_of
from zerorouter.paths import home_dir
from zerorouter.predict.items import PromptReadings
from zerorouter.predict.prompt import CHARS_PER_TOKEN
from zerorouter.predict.tokens import LengthPosterior, LengthPrior
from zerorouter.prices import Price
from zerorouter.profiles import (
    Profile,
    ProfileStore,
    Step,
    answer_lengths,
    card_of,
    join,
    learned,
)
from zerorouter.routing.choice import utilities
from zerorouter.routing.estimates import (
    DEFAULT_TPOT_S,
    DEFAULT_TTFT_S,
    FARTHEST_DIFFICULTY,
    Pool,
)
from zerorouter.routing.policy import Policy, find_policy
from zerorouter.space import LatentSpace

RUNS: Final = "runs"
DEFAULT_ANCHORS: Final = 50
BATCH: Final = 8
FRESH_SHARE: Final = 0.2  # of a mixed set
_REFUSAL = re.compile(
    r"\b(?:i[’']?m sorry|i am sorry|i apologi[sz]e|sorry)\b.{0,60}\b(?:can[’']?t|cannot|unable)\b"
    r"|\bi (?:can[’']?t|cannot|am unable to|won[’']?t) "
    r"(?:help|assist|answer|comply|provide|do that)\b",
    re.IGNORECASE | re.DOTALL,
)
_REFUSAL_CHARS = 600  # a long reply that says sorry somewhere is an answer


@dataclass(frozen=True, kw_only=True)
class Design:
    """Which anchors, and how many.

    Attributes:
        n: Anchors to ask; with ``adaptive`` the most.
        adaptive: Whether to ask in batches until a stop rule is met.
        strategy: How anchors are chosen.
        anchor_set: ``published``, ``fresh`` or ``mixed``; of generated tasks.
        data: Folder of prompts of the user's own, in place of generated tasks.
        grader: For the folder's prompts, see `graders.GRADERS`.
        target_sd: Standard error of P(correct) at which an adaptive run ends.
        seed: Of everything that is drawn.
    """

    n: int = DEFAULT_ANCHORS
    adaptive: bool = False
    strategy: AnchorStrategy = "i_optimal"
    anchor_set: str = "published"
    data: Path | None = None
    grader: str = "auto"
    target_sd: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise InputError(f"{self.n!r} anchors; a whole number, 1 or more, is wanted")
        if self.strategy not in STRATEGIES:
            raise UnknownNameError("anchor strategy", self.strategy, STRATEGIES)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        n: Answers so far.
        total: Answers wanted; with adaptive choice the most.
        ability: General ability.
        ability_sd: Its standard error.
        predictive_sd: Standard error of P(correct).
        spent_usd: Dollars; None without a price.
        budget_usd: Dollars allowed; None for no limit.
        left_s: Seconds left at this pace; None before there is one.
    """

    n: int
    total: int
    ability: float
    ability_sd: float
    predictive_sd: float
    spent_usd: float | None
    budget_usd: float | None
    left_s: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Onboarding:
    """What came of it.

    Attributes:
        profile: The model's profile; saved, unless it was a dry run.
        step: How it was made; None for a dry run.
        quote: What asking was expected to cost; None where nothing was to be asked.
        spent_usd: What it cost, all earlier runs of the same journal included; None without a
            price.
        usd_per_1k_prompts: Expected dollars for 1,000 prompts; None without a price.
        rank: Place in the pool.
        pool_size: Models in it.
        covered: Anchors by domain.
        wide: Dimensions of which little was learned.
        stopped: Why asking ended.
        dropped: Prompts that were chosen and not asked, with the reason.
        failed: Prompts that were asked and brought nothing, with the reason.
        warnings: What looks wrong.
        notes: What a person should know.
        journal: Where the answers are.
        dry_run: Whether nothing was asked or kept.
    """

    profile: Profile
    step: Step | None
    quote: Quote | None
    spent_usd: float | None
    usd_per_1k_prompts: float | None
    rank: int
    pool_size: int
    covered: Mapping[str, int]
    wide: tuple[int, ...]
    stopped: str
    dropped: Mapping[str, str]
    failed: Mapping[str, str]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    journal: Path | None
    dry_run: bool = False

    @property
    def n_anchors(self) -> int:
        """Anchors whose answers count."""
        return sum(len(s.answers) for s in self.profile.sources if s.kind == "anchors")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of docs/onboarding.md."""
        profile, speed = self.profile, self.profile.speed
        told: dict[str, Any] = {
            "model": profile.name,
            "n_anchors": self.n_anchors,
            "spent_usd": _cents(self.spent_usd),
            "usd_per_1k_prompts": _cents(self.usd_per_1k_prompts),
            "ability": [round(float(x), 4) for x in profile.ability],
            "ability_sd": [round(float(x), 4) for x in profile.ability_sd],
            "expected_accuracy": {
                name: [round(x, 4) for x in values]
                for name, values in profile.expected_accuracy.items()
            },
            "ttft_s": None if speed is None else round(speed.ttft_s, 4),
            "tpot_s": None if speed is None else round(speed.tpot_s, 6),
            "rank_in_pool": self.rank,
            "pool_size": self.pool_size,
            "predictive_sd": round(profile.predictive_sd, 4),
            "probation": profile.probation,
            "domains_covered": dict(self.covered),
            "dimensions_wide": list(self.wide),
            "stopped": self.stopped,
            "dropped": dict(self.dropped),
            "failed": dict(self.failed),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "quote": None if self.quote is None else _quote_dict(self.quote),
            "dry_run": self.dry_run,
            "provenance": {
                "space": profile.space_version,
                "date": profile.date,
                "journal": None if self.journal is None else str(self.journal),
                "sources": [
                    {"id": s.id, "kind": s.kind, "date": s.date, "n": s.n_answers, **s.facts}
                    for s in profile.sources
                ],
            },
        }
        if self.step is not None:
            placed = self.step.placement
            told["provenance"]["answers_to_calibrated_items"] = placed.n_calibrated
            told["provenance"]["answers_to_predicted_items"] = placed.n_predicted
        return told


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
    scores: Mapping[str, float] | None = None,
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
        scores: Published benchmark scores in [0, 1], see `reported_sources`.
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
    told = [*evidence, *reported_sources(scores or {}, around)]
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
    run = _Run(
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
        _put_aside(path)
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


# -- published scores ----------------------------------------------------------------------------

BENCHMARKS: Final[Mapping[str, tuple[str, ...]]] = {
    "mmlu-pro": ("mmlu-pro/*",),
    "gsm8k": ("zeroeval/*gsm*",),
    "math-l5": ("zeroeval/*math*",),
    "cruxeval-o": ("cruxeval/*output*", "zeroeval/*crux*"),
    "cruxeval-i": ("cruxeval/*input*",),
}
"""Benchmarks with items in the shipped space: patterns of tasks in the table of known items."""

SCORE_SD: Final = 0.04
"""How far a reported score lies from the space's mean P(correct) of its items: prompts, shots and
harness differ. Scores of one benchmark by two parties differ by about as much."""


def reported_sources(scores: Mapping[str, float], around: Surroundings) -> list[Source]:
    """Published scores as evidence; one more term of the likelihood each.

    Raises:
        UnknownNameError: a benchmark has no items here.
        InputError: a score is no number from 0 to 1.
    """
    out = []
    for benchmark, score in sorted(scores.items()):
        tasks = BENCHMARKS.get(benchmark)
        if tasks is None:
            raise UnknownNameError("benchmark with items in the space", benchmark, BENCHMARKS)
        out.append(
            Source(
                id=f"score:{benchmark}",
                kind="score",
                date=around.date,
                space=around.space.version,
                reported=ReportedScore(
                    benchmark=benchmark, score=float(score), sd=SCORE_SD, tasks=tasks
                ),
            )
        )
    return out


# -- one run -------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False)
class _Graded:
    """An answer with its grade."""

    anchor: Anchor
    received: Received
    grade: Grade
    answer: Answer | None  # None where it does not count

    @property
    def truncated(self) -> bool:
        return self.received.finish == "length"


@dataclass(kw_only=True, eq=False)
class _Run:
    """A run under way."""

    spec: ModelSpec
    design: Design
    asking: Asking
    source: AnchorSource
    around: Surroundings
    told: Sequence[Source]
    notes: Sequence[str]
    earlier: Profile | None
    on_progress: Callable[[Progress], None]
    stopped: str = ""
    graded: dict[str, _Graded] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.candidates = self.source.candidates
        self.position = {ref: i for i, ref in enumerate(self.candidates.refs)}
        self.rng = np.random.default_rng(self.design.seed)
        self.lengths = answer_lengths(
            self.around.space, self.spec, self._evidence(), self.around.length_prior
        )
        self.placement = self._place()
        self.began = time.monotonic()
        self.n_before = 0

    # -- planning ------------------------------------------------------------------------------

    def quote(self) -> Quote:
        """The price of the anchors that would be asked first, or at most."""
        n = min(self.design.n, int(self.candidates.sound().sum()))
        chosen = self._choose(n, np.ones(len(self.candidates), dtype=np.bool_))
        price = self.spec.price
        worst = None
        if price is not None:
            # Of texts that are not made yet the estimate stands in for their bytes.
            sizes = CHARS_PER_TOKEN * self.candidates.input_tokens[chosen] + 2 * OVERHEAD_TOKENS
            worst = sum(
                worst_cost_usd(price, float(size), self.asking.max_tokens) for size in sizes
            )
        return quote(
            self.candidates,
            chosen,
            self.lengths,
            self._difficulty(self.candidates.items),
            input_usd=None if price is None else price.input_usd_per_mtok / 1e6,
            output_usd=None if price is None else price.output_usd_per_mtok / 1e6,
            max_tokens=self.asking.max_tokens,
            worst_usd=worst,
            rng=np.random.default_rng(self.design.seed + 1),
        )

    def _choose(self, n: int, open_: BoolArray) -> IntArray:
        """Up to n candidates, best first; of a mixed set a share of each kind."""
        if self.design.anchor_set == "mixed" and self.design.data is None:
            published = self.source.published
            n_fresh = round(FRESH_SHARE * n)
            parts = [
                self._choose_among(n_fresh, open_ & ~published),
                self._choose_among(n - n_fresh, open_ & published),
            ]
            return np.concatenate(parts)
        return self._choose_among(n, open_)

    def _choose_among(self, n: int, open_: BoolArray) -> IntArray:
        posterior, price = self.placement.posterior, self.spec.price
        cost = None
        if price is not None and price.output_usd_per_mtok > 0:
            cost = expected_costs(
                self.candidates,
                self.lengths,
                self._difficulty(self.candidates.items),
                input_usd=price.input_usd_per_mtok / 1e6,
                output_usd=price.output_usd_per_mtok / 1e6,
                max_tokens=self.asking.max_tokens,
            )
        return choose(
            self.candidates,
            n,
            mean=posterior.mean,
            covariance=posterior.covariance,
            strategy=self.design.strategy,
            rng=self.rng,
            open_=open_,
            targets=self.around.targets.items,
            cost_usd=cost,
        )

    def _difficulty(self, items: ItemParameters) -> Float64Array:
        mean, sd = self.around.space.difficulty_scale
        standard = (mean - items.intercept.astype(np.float64)) / sd
        out: Float64Array = np.clip(standard, -FARTHEST_DIFFICULTY, FARTHEST_DIFFICULTY)
        return out

    # -- asking --------------------------------------------------------------------------------

    async def ask(self, journal: Journal) -> None:
        """Ask until enough is known, the anchors or the money run out, or the endpoint fails."""
        self._recall(journal)
        self.n_before = len(self.graded)
        self.began = time.monotonic()
        rule = StopRule(
            target_sd=self.design.target_sd,
            most=self.design.n,
        )
        async with Engine(self.asking, journal, lambda received: self._take(received)) as engine:
            while True:
                left = self.design.n - self._n_settled(journal)
                verdict = self._verdict(rule) if self.design.adaptive else None
                if left <= 0 or verdict:
                    self.stopped = verdict or f"all {self.design.n} anchors were asked"
                    break
                asks = self._next(min(left, self._batch), journal)
                if not asks:
                    self.stopped = "no further prompt can be asked"
                    break
                stop = await engine.run(asks)
                if stop is not None:
                    what = "the budget" if stop.reason == "budget" else "the endpoint"
                    self.stopped = f"{what}: {stop.told}"
                    break
            await journal.finish(self.stopped)

    @property
    def _batch(self) -> int:
        """How many to choose before looking at the answers again; random draws need no look."""
        if self.design.adaptive:
            return BATCH
        optimal = self.design.strategy in ("i_optimal", "d_optimal")
        return max(BATCH, self.asking.concurrency) if optimal else self.design.n

    def _n_settled(self, journal: Journal) -> int:
        """Prompts that need not be asked: answered, or given up for good."""
        return len(self.graded) + len(journal.state.failed.keys() - self.graded.keys())

    def _recall(self, journal: Journal) -> None:
        """Take in what earlier runs of this journal brought."""
        for ref, received in list(journal.state.answers.items()):
            if received.finish == "length" and received.limit < self.asking.max_tokens:
                del journal.state.answers[ref]  # it was cut by a lower limit than today's
                if ref in self.position:
                    self.again.append(self.position[ref])
                continue
            at = self.position.get(ref)
            if at is None:
                self.dropped[ref] = "asked before, and not on offer in this space"
                continue
            try:
                self._anchor(at)
            except InputError as error:
                self.dropped[ref] = str(error)
                continue
            self._take(received, tell=False)
        if self.graded:
            self._update()

    def _next(self, n: int, journal: Journal) -> list[Ask]:
        """The next prompts, with others in the place of those that cannot be made."""
        state = journal.state
        open_ = np.array(
            [
                ref not in state.answers and ref not in state.failed and ref not in self.dropped
                for ref in self.candidates.refs
            ]
        )
        asks: list[Ask] = []
        while len(asks) < n:
            wanted = n - len(asks)
            first, self.again = self.again[:wanted], self.again[wanted:]
            chosen = first or self._choose(wanted, open_).tolist()
            if not chosen:
                break
            for at in chosen:
                open_[at] = False
                try:
                    anchor = self._anchor(at)
                except InputError as error:
                    self.dropped[self.candidates.refs[at]] = str(error)
                    continue
                asks.append(
                    Ask(
                        ref=anchor.ref,
                        key=anchor.key,
                        messages=anchor.messages(self.source.system),
                    )
                )
        return asks

    def _anchor(self, at: int) -> Anchor:
        ref = self.candidates.refs[at]
        if ref not in self.anchors:
            self.anchors[ref] = self.source.make(at)
        return self.anchors[ref]

    def _take(self, received: Received, *, tell: bool = True) -> None:
        """Grade an answer."""
        anchor = self.anchors[received.ref]
        grade = anchor.grader(received.text)
        counts = grade.found or received.finish != "length"
        answer = None
        if counts:
            answer = Answer(
                ref=anchor.ref,
                score=round(grade.score, 6),
                key=anchor.key,
                kind=anchor.kind,
                item=anchor.item,
                tokens=received.output_tokens,
                log_length=anchor.log_length,
                input_tokens=received.input_tokens,
                ttft_s=received.ttft_s,
                end_to_end_s=received.end_to_end_s,
            )
        self.graded[anchor.ref] = _Graded(
            anchor=anchor, received=received, grade=grade, answer=answer
        )
        if tell:
            self._update()
            self.on_progress(self._progress())

    def _update(self) -> None:
        self.placement = self._place()

    def _place(self) -> Placement:
        prior = prior_of(self.around.space, card_of(self.spec))
        return place(self.around.space, prior, self._evidence())

    def _evidence(self) -> list[Source]:
        """All evidence there is, what was just answered included."""
        kept = {s.id: s for s in (self.earlier.sources if self.earlier else ())}
        kept.update({s.id: s for s in self.told})
        if self.graded:
            own = self._as_source()
            kept[own.id] = own
        return [kept[key] for key in sorted(kept)]

    def _as_source(self) -> Source:
        answers = [g.answer for g in self.graded.values() if g.answer is not None]
        answers.sort(key=lambda answer: answer.ref)
        endpoint = self.asking.endpoint
        return Source(
            id=f"anchors:{_fingerprint(self.spec, self.asking, self.source)}",
            kind="anchors",
            date=self.around.date,
            space=self.around.space.version,
            answers=tuple(answers),
            facts={
                **self.source.facts,
                "endpoint": endpoint.base_url,
                "upstream_model": endpoint.model,
                "max_tokens": self.asking.max_tokens,
            },
        )

    def _verdict(self, rule: StopRule) -> str | None:
        sd = predictive_sd(self.placement.posterior, self.around.targets.items)
        n = len(self.graded)
        chance = self._chance() if n >= rule.fewest else None
        return rule.verdict(n, sd, chance)

    def _chance(self) -> float | None:
        """Chance that the model wins any traffic under the policy; None without a price."""
        price, pool = self.spec.price, self.around.pool
        if price is None or pool is None:
            return None
        targets = self.around.targets
        readings = PromptReadings(
            items=targets.items,
            domain=np.zeros(len(targets), dtype=np.int64),
            log_length=targets.log_length.astype(np.float32),
            support=np.ones(len(targets), dtype=np.float32),
        )
        theirs = pool.estimate(readings, targets.input_tokens)
        best = np.nanmax(utilities(theirs, self.around.policy), axis=1)
        lengths = answer_lengths(
            self.around.space, self.spec, self._evidence(), self.around.length_prior
        )
        cost, tokens = target_costs(self.spec, self.around, lengths)
        latency = (self.spec.ttft_s or DEFAULT_TTFT_S) + np.maximum(tokens - 1, 0) * (
            1 / self.spec.throughput_tok_s if self.spec.throughput_tok_s else DEFAULT_TPOT_S
        )
        return traffic_chance(
            accuracy_draws(self.placement.posterior, targets, self.placement.abilities),
            cost,
            latency,
            best,
            value_of_correct_usd=self.around.policy.value_of_correct_usd,
            value_of_second_usd=self.around.policy.value_of_second_usd,
        )

    def _progress(self) -> Progress:
        posterior = self.placement.posterior
        n, price = len(self.graded), self.spec.price
        done = n - self.n_before
        took = time.monotonic() - self.began
        left = None
        if done > 0:
            left = took / done * max(self.design.n - n, 0)
        spent = sum(g.received.usd or 0.0 for g in self.graded.values())
        return Progress(
            n=n,
            total=self.design.n,
            ability=float(posterior.mean[0]),
            ability_sd=float(posterior.sd[0]),
            predictive_sd=predictive_sd(posterior, self.around.targets.items),
            spent_usd=None if price is None else spent,
            budget_usd=self.asking.budget_usd,
            left_s=left,
        )

    # -- keeping -------------------------------------------------------------------------------

    def keep(self, store: ProfileStore) -> Step | None:
        """Write the profile; None where no answer counts."""
        if not any(g.answer is not None for g in self.graded.values()):
            return None
        step = learned(
            self.around.space,
            self.spec,
            [*self.told, self._as_source()],
            length_prior=self.around.length_prior,
            targets=self.around.targets,
            date=self.around.date,
            earlier=self.earlier,
            pool=self.around.abilities,
            warnings=self._warnings(),
        )
        store.save(step.profile)
        return step

    def _warnings(self) -> list[str]:
        graded = list(self.graded.values())
        counted = [(g, g.answer) for g in graded if g.answer is not None]
        if not counted:
            return []
        items = self.candidates.items.take(np.array([g.anchor.position for g, _ in counted]))
        scores = np.array([answer.score for _, answer in counted])
        theta = self.placement.posterior.mean
        fit = person_fit(items, scores, theta)
        published = np.array([g.anchor.published for g, _ in counted])
        conduct = Conduct(
            n=len(graded),
            refused=sum(_refuses(g.received) for g in graded),
            truncated=sum(g.truncated for g in graded),
            empty=sum(not g.received.text.strip() and not g.truncated for g in graded),
            unread=sum(
                not g.grade.found and not _refuses(g.received) and bool(g.received.text.strip())
                for g in graded
            ),
            wrong=sum(answer.score == 0 for _, answer in counted),
            expected=mean_accuracy(items, theta)[0] * items.n_items,
        )
        told = warnings_of(
            fit,
            conduct,
            [g.anchor.ref for g, _ in counted],
            memorised(items, scores, theta, published),
        )
        uncounted = sum(not g.received.counted for g in graded)
        if uncounted and self.spec.price is not None:
            told.append(
                f"the endpoint told no token counts for {uncounted} answers; their cost is taken "
                "at its worst"
            )
        return told

    def result(
        self,
        journal: Journal | None,
        *,
        quote_: Quote | None,
        kept: Step | None = None,
        dry_run: bool = False,
    ) -> Onboarding:
        """What came of it."""
        step = kept or learned(
            self.around.space,
            self.spec,
            list(self.told),
            length_prior=self.around.length_prior,
            targets=self.around.targets,
            date=self.around.date,
            earlier=self.earlier,
            pool=self.around.abilities,
        )
        notes = [*self.notes, *self.source.notes]
        spent = None
        if self.spec.price is not None:
            spent = 0.0 if journal is None else journal.state.committed_usd
        if journal is not None and journal.state.open:
            notes.append(
                f"{len(journal.state.open)} requests of a run that was killed count at their worst"
            )
        return Onboarding(
            profile=step.profile,
            step=step,
            quote=quote_,
            spent_usd=spent,
            usd_per_1k_prompts=per_thousand(self.spec, self.around, step.lengths),
            rank=step.outlook.rank,
            pool_size=step.outlook.pool_size,
            covered=domain_counts(
                [g.anchor.domain for g in self.graded.values() if g.answer is not None]
            ),
            wide=step.outlook.wide,
            stopped="dry run: nothing was asked" if dry_run else self.stopped,
            dropped=dict(self.dropped),
            failed={} if journal is None else dict(journal.state.failed),
            warnings=step.profile.warnings,
            notes=tuple(notes),
            journal=None if journal is None else journal.path,
            dry_run=dry_run,
        )


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


def target_costs(
    spec: ModelSpec, around: Surroundings, lengths: LengthPosterior
) -> tuple[Float64Array, Float64Array]:
    """(T,) expected dollars and output tokens of the targets; dollars are NaN without a price."""
    targets, space = around.targets, around.space
    mean, sd = space.difficulty_scale
    difficulty = np.clip(
        (mean - targets.items.intercept.astype(np.float64)) / sd,
        -FARTHEST_DIFFICULTY,
        FARTHEST_DIFFICULTY,
    )
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


def run_path(root: Path, spec: ModelSpec, asking: Asking, source: AnchorSource) -> Path:
    """Where the journal of a run stands: one file for a model, an endpoint and a set of prompts."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.name).strip(".-")[:60] or "model"
    return root / RUNS / f"{slug}-{_fingerprint(spec, asking, source)}.jsonl"


def _fingerprint(spec: ModelSpec, asking: Asking, source: AnchorSource) -> str:
    """Names what makes two runs the same: whose answers, to which prompts, asked how."""
    facts = [
        spec.name,
        asking.endpoint.base_url.rstrip("/"),
        asking.endpoint.model,
        source.name,
        source.system,
        json.dumps(asking.extra, sort_keys=True, default=str),
    ]
    return hashlib.sha256("\x1f".join(facts).encode()).hexdigest()[:12]


def _put_aside(path: Path) -> None:
    """Keep an earlier journal under another name."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_suffix(f".{number}.jsonl")).exists():
        number += 1
    path.replace(aside)


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


def _refuses(received: Received) -> bool:
    text = received.text.strip()
    if received.finish in ("content_filter", "refusal"):
        return True
    return len(text) <= _REFUSAL_CHARS and _REFUSAL.search(text) is not None


def _quote_dict(quote_: Quote) -> dict[str, Any]:
    return {
        "calls": quote_.n,
        "usd": _cents(quote_.usd),
        "usd_low": _cents(quote_.usd_low),
        "usd_high": _cents(quote_.usd_high),
        "worst_usd": _cents(quote_.worst_usd),
    }


def _cents(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
