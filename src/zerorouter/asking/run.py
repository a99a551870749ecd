"""One run: ask in batches, grade and place after every answer, stop once enough is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from zerorouter.asking.choosing import Chooser
from zerorouter.asking.engine import Ask, Asking, Engine
from zerorouter.asking.grading import Graded, doubts, graded
from zerorouter.asking.journal import Journal, Received
from zerorouter.asking.outcome import Onboarding, Progress
from zerorouter.asking.plan import Design
from zerorouter.asking.run_files import fingerprint
from zerorouter.asking.sources import Anchor, AnchorSource
from zerorouter.asking.surroundings import Surroundings, per_thousand, target_costs
from zerorouter.catalog import ModelSpec
from zerorouter.errors import InputError
from zerorouter.onboarding.design import Quote, StopRule
from zerorouter.onboarding.evidence import Placement, Source, place, prior_of
from zerorouter.onboarding.outlook import (
    accuracy_draws,
    domain_counts,
    predictive_sd,
    traffic_chance,
)
from zerorouter.predict.items import PromptReadings
from zerorouter.profiles import Profile, ProfileStore, Step, answer_lengths, card_of, learned
from zerorouter.routing.choice import utilities
from zerorouter.routing.estimates import DEFAULT_TPOT_S, DEFAULT_TTFT_S

BATCH: Final = 8


@dataclass(kw_only=True, eq=False)
class Run:
    """A run under way.

    Attributes:
        spec: The model.
        design: Which anchors, and how many.
        asking: How to ask.
        source: Of the prompts.
        around: What the model joins.
        told: Further evidence that came with the run.
        notes: What was noted of it.
        earlier: The model's profile so far.
        on_progress: Called after each answer.
        stopped: Why asking ended.
        graded: Answers by ref.
        dropped: Prompts that were chosen and not asked, with the reason.
        anchors: Prompts made so far.
        again: Positions of prompts to be asked once more, since a lower limit cut their answers.
    """

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
    graded: dict[str, Graded] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.candidates = self.source.candidates
        self.position = {ref: i for i, ref in enumerate(self.candidates.refs)}
        self.chooser = Chooser(
            spec=self.spec,
            design=self.design,
            source=self.source,
            around=self.around,
            lengths=answer_lengths(
                self.around.space, self.spec, self._evidence(), self.around.length_prior
            ),
            max_tokens=self.asking.max_tokens,
            rng=np.random.default_rng(self.design.seed),
        )
        self.placement = self._place()
        self.began = time.monotonic()
        self.n_before = 0

    def quote(self) -> Quote:
        """The price of the anchors that would be asked first, or at most."""
        return self.chooser.quote(self.placement.posterior)

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
            chosen = first or self.chooser.choose(wanted, open_, self.placement.posterior).tolist()
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
        self.graded[anchor.ref] = graded(anchor, received)
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
            id=f"anchors:{fingerprint(self.spec, self.asking, self.source)}",
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
        return doubts(
            list(self.graded.values()),
            self.candidates.items,
            self.placement.posterior.mean,
            priced=self.spec.price is not None,
        )

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
