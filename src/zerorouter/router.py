"""The router: a prompt in, a decision out.

    router = Router.load()
    decision = router.route("What is 17 * 23?", policy="cost")
    decision.model, decision.p_correct, decision.cost_usd

A router is immutable and safe to share between threads. Everything runs in process: encode,
predict item parameters, estimate, choose.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zerorouter.arrays import BoolArray, FloatArray
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.config import Config
from zerorouter.errors import (
    ConfigError,
    InputError,
    NoEligibleModelError,
    NoModelInBoundsError,
    UnknownNameError,
)
from zerorouter.paths import home_dir
from zerorouter.predict.encoders import Encoder
from zerorouter.predict.items import Accuracy, PromptReadings
from zerorouter.predict.prompt import Prompt, read_prompt
from zerorouter.predict.serving_times import EndpointTimes
from zerorouter.price_lists import with_kept_prices
from zerorouter.routing import choice
from zerorouter.routing.decision import Decision, Weighing
from zerorouter.routing.estimates import Estimates, Pool
from zerorouter.routing.policy import ALIASES, POLICIES, Policy, find_policy, policy_for_bounds
from zerorouter.space import LatentSpace

if TYPE_CHECKING:  # batches and profiles are no part of a cold `route`
    from zerorouter.learning import LearnedState
    from zerorouter.profiles import Profile
    from zerorouter.routing.assignment.assigning import Goal
    from zerorouter.routing.assignment.offers import Capacity, Offers
    from zerorouter.routing.assignment.result import Assignment
    from zerorouter.routing.assignment.spend import CostErrors
    from zerorouter.routing.cascade import OfferedSignal, Plan

Request: TypeAlias = str | Sequence[Mapping[str, Any]] | Prompt
TOOL_DOMAIN = "tool use"
_OFFER_BLOCK = 2_048  # prompts that are estimated at a time for a batch
_NOBODY = np.array([], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Which models a request may use.

    Attributes:
        models: Shell patterns of allowed names; empty allows the whole pool.
        exclude: Shell patterns of names to leave out.
    """

    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


_NO_WISHES = Wishes()


class Router:
    """Routes prompts to the models of a pool. Made by `load` or from parts.

    Args:
        space: The latent space; every model of the pool is a respondent in it.
        catalog: Where the models' prices, speeds and capabilities stand.
        models: Names of the pool; by default the catalog's default pool.
        policies: Policies of the caller's own, by name.
        default_policy: What `route` uses when none is named.
        encoder: Another encoder, if the space was fitted with one.
        accuracy: ``full`` reads prompts by the forest behind the default's network: somewhat
            better estimates, at about twice the time.
        probation: Models that are to be chosen on a lower bound of P(correct).

    Raises:
        UnknownNameError: a model is not in the catalog or not in the space.
    """

    def __init__(
        self,
        space: LatentSpace,
        catalog: Catalog,
        *,
        models: Iterable[str] | None = None,
        policies: Mapping[str, Policy] | None = None,
        default_policy: str = "balanced",
        encoder: Encoder | None = None,
        accuracy: Accuracy = "fast",
        probation: Collection[str] = (),
    ) -> None:
        specs = _pool_of(catalog, space, models)
        self._space = space
        self._catalog = catalog
        self._reader = space.reader(encoder, accuracy)
        self._pool = Pool.of(specs, space, probation=probation)
        self._version = space.version
        self._learned: LearnedState | None = None
        self._offered = Catalog(models=specs)
        self._policies = dict(policies or {})
        self._default_policy = default_policy
        self._filter = lru_cache(maxsize=256)(self._eligible)
        usual = find_policy(default_policy, self._policies)
        # Whoever names a policy of their own as the default means it; the built-in default gives
        # way to constraint mode where a request has bounds and names no policy.
        self._default_gives_way = usual is POLICIES[ALIASES["auto"]]

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        catalog: Catalog | None = None,
        models: Iterable[str] | None = None,
        policies: Mapping[str, Policy] | None = None,
        default_policy: str = "balanced",
        accuracy: Accuracy = "fast",
        profiles: Iterable[Profile] | None = None,
    ) -> Router:
        """A router over a space on disk, by default the one that ships with the package.

        ``ZEROROUTER_SPACE`` names another default. Models that came with the records of
        a space of one's own join the pool; where the catalog knows one, its card holds. So do
        models with a profile: those under ``ZEROROUTER_HOME``, or the ``profiles`` given. Models
        of the catalog that are known by their cards alone (`card_only`) have to be named in
        ``models``.
        """
        bare = load_space(path)
        space, offered, probation = _with_profiles(
            bare, _joined(Catalog.load() if catalog is None else catalog, bare), profiles
        )
        if models is not None and not isinstance(models, str):
            models = tuple(models)
            space, probation = _with_card_only(space, models, probation)
        return cls(
            space,
            offered,
            models=models,
            policies=policies,
            default_policy=default_policy,
            accuracy=accuracy,
            probation=probation,
        )

    @classmethod
    def from_config(
        cls, config: Config, *, space: str | Path | None = None, asked: Sequence[str] = ()
    ) -> Router:
        """The router that a configuration asks for.

        Args:
            config: Names the space, the policies, the models to route to and their prices.
            space: Folder of a space, in place of the configuration's.
            asked: Patterns of models. Those that fit none of the pool bring in what else the
                configuration allows: models outside the default pool, and models known by their
                cards alone. So do the patterns of the configuration's allow list.

        Raises:
            ConfigError: it names a model or a policy that does not exist.
            NoEligibleModelError: it leaves no model.
        """
        bare = load_space(space or config.space)
        latent, offered, probation = _with_profiles(bare, _joined(Catalog.load(), bare), None)
        catalog = with_kept_prices(offered)
        names = [name for name in config.apply_to(catalog).names if name in latent]
        if asked or config.allow is not None:
            more = _asked_for((*(config.allow or ()), *asked), config, catalog, latent, names)
            latent, probation = _with_card_only(latent, more, probation)
            names += more
        if not names:
            raise NoEligibleModelError(
                f"{config.path or 'the default pool'}: no model is left whose ability the space "
                "knows; allow models that 'zerorouter models' lists, shorten the deny list, or "
                "calibrate with records whose models.csv has prices"
            )
        try:
            return cls(
                latent,
                catalog.with_prices(config.prices),
                models=names,
                policies={
                    name: Policy(name=name, **asdict(numbers))
                    for name, numbers in config.policies.items()
                },
                default_policy=config.policy,
                probation=probation,
            )
        except UnknownNameError as error:
            raise ConfigError(f"{config.path}: policy: {error}") from error

    def with_times(self, times: Mapping[str, EndpointTimes]) -> Router:
        """The same router with what has been learned of some models' speeds.

        Cheap enough to be called after every request: only the speeds are laid out anew.

        Raises:
            UnknownNameError: a model is not in the pool.
        """
        other = copy.copy(self)
        other._pool = self._pool.with_times(times)
        return other

    def times(self, model: str) -> EndpointTimes:
        """What is known of a model's speed: where `predict.serving_times.observe` starts.

        Raises:
            UnknownNameError: the model is not in the pool.
        """
        if model not in self._pool.models:
            raise UnknownNameError("model", model, self._pool.models)
        return self._pool.times[self._pool.models.index(model)]

    def narrowed(self, models: Collection[str]) -> Router:
        """The same router over some of its pool's models, as if it had been made for them alone.

        To be called on the router as it was loaded.

        Raises:
            UnknownNameError: one is not in the pool.
            NoEligibleModelError: there are none.
        """
        for name in models:
            if name not in self._pool.models:
                raise UnknownNameError("model", name, self._pool.models)
        specs = _pool_of(self._catalog, self._space, tuple(models))
        other = copy.copy(self)
        other._pool = Pool.of(specs, self._space, probation=self.probation & set(models))
        other._offered = Catalog(models=specs)
        other._filter = lru_cache(maxsize=256)(other._eligible)
        return other

    def with_learned(
        self, learned: LearnedState | None, upstreams: Mapping[str, str] | None = None
    ) -> Router:
        """The same router with what serving has taught on top of its space.

        To be called on the router as it was loaded: what was learned earlier is not taken off.

        Args:
            learned: See `learning`; None or another space's for nothing.
            upstreams: Model -> the upstream whose times count.
        """
        if learned is None or learned.space_version != self._space.version:
            return self
        from zerorouter.learning import applied, shifts_of

        other = copy.copy(self)
        other._pool = applied(self._pool, self._space, learned, upstreams or {})
        other._reader = self._reader.with_shifts(shifts_of(learned, self._space))
        other._version = f"{self._space.version}+{learned.version}"
        other._learned = learned
        other._filter = lru_cache(maxsize=256)(other._eligible)
        return other

    @property
    def learned(self) -> LearnedState | None:
        """What serving has taught it; None for nothing."""
        return self._learned

    @property
    def version(self) -> str:
        """Of what it knows: the space's, and with ``+`` that of what serving has taught."""
        return self._version

    @property
    def space(self) -> LatentSpace:
        """The latent space it reads prompts in."""
        return self._space

    @property
    def catalog(self) -> Catalog:
        """The catalog it takes prices, speeds and capabilities from."""
        return self._catalog

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the pool, sorted."""
        return self._pool.models

    @property
    def probation(self) -> frozenset[str]:
        """Models of the pool that are taken at a lower bound of P(correct) until more is known."""
        cautious = self._pool.cautious
        if cautious is None:
            return frozenset()
        return frozenset(n for n, on in zip(self._pool.models, cautious, strict=True) if on)

    def route(
        self,
        prompt: Request,
        *,
        policy: str | Policy | None = None,
        models: Sequence[str] = (),
        exclude: Sequence[str] = (),
        min_accuracy: float | None = None,
        max_cost_usd: float | None = None,
        max_latency_s: float | None = None,
        max_p95_latency_s: float | None = None,
        confidence: float | None = None,
        cached_tokens: Mapping[str, float] | None = None,
        tools: Sequence[Any] | None = None,
        response_format: Any = None,
    ) -> Decision:
        """Choose the model for one prompt.

        Args:
            prompt: Text, or chat messages in OpenAI or Anthropic form.
            policy: A preset's name, the name of a policy of your own, or a `Policy`. Where it is
                not named, bounds decide: with ``min_accuracy`` the cheapest model that keeps all
                bounds (`cheapest`), with ``max_cost_usd`` the one most likely to be right
                (`best`), otherwise the router's default.
            models: Patterns of models to allow; empty for the whole pool.
            exclude: Patterns of models to leave out.
            min_accuracy: Least P(correct), in place of the policy's.
            max_cost_usd: Largest expected cost, in place of the policy's.
            max_latency_s: Largest expected latency, in place of the policy's.
            max_p95_latency_s: Largest 95th percentile of the latency, in place of the policy's.
            confidence: Confidence at which P(correct) is taken, in place of the policy's.
            cached_tokens: Tokens of the request's prefix that a model's prompt cache already
                holds, by model, as in a session that it has served before; they are billed at
                its price of cached input.
            tools: The request's tool declarations.
            response_format: The request's response format.

        Raises:
            PromptError: the prompt cannot be read.
            UnknownNameError: the policy or an allowed model is unknown.
            NoEligibleModelError: filters or bounds leave no model.
            MissingPriceError: a candidate has no price.
        """
        read = _read(prompt, tools, response_format)
        wanted = self._policy(policy, min_accuracy, max_cost_usd).bounded(
            min_accuracy=min_accuracy,
            max_cost_usd=max_cost_usd,
            max_latency_s=max_latency_s,
            max_p95_latency_s=max_p95_latency_s,
            confidence=confidence,
        )
        wishes = _wishes(models, exclude)
        readings = self._reader.read((read,))
        held = None if cached_tokens is None else self._pool.cached_tokens(cached_tokens)
        estimates = self._pool.estimate(readings, self._pool.input_tokens((read,)), held)
        return self._decide(read, readings, 0, estimates, wanted, wishes)

    def route_batch(
        self,
        prompts: Iterable[Request],
        *,
        policy: str | Policy | None = None,
        models: Sequence[str] = (),
        exclude: Sequence[str] = (),
        min_accuracy: float | None = None,
        max_cost_usd: float | None = None,
        max_latency_s: float | None = None,
        max_p95_latency_s: float | None = None,
        confidence: float | None = None,
    ) -> list[Decision]:
        """Choose the model for each prompt; the same decisions as `route` makes one by one.

        Raises:
            InputError: a prompt cannot be routed; its position is named. No decision is
                returned then.
        """
        wanted = self._policy(policy, min_accuracy, max_cost_usd).bounded(
            min_accuracy=min_accuracy,
            max_cost_usd=max_cost_usd,
            max_latency_s=max_latency_s,
            max_p95_latency_s=max_p95_latency_s,
            confidence=confidence,
        )
        wishes = _wishes(models, exclude)
        if isinstance(prompts, str):
            raise InputError("prompts is one text; a list of prompts is wanted, or `route`")
        read = self._read_all(prompts)
        readings, estimates = self._estimate(read)
        out = []
        for i, prompt in enumerate(read):
            try:
                out.append(self._decide(prompt, readings, i, estimates.row(i), wanted, wishes))
            except NoModelInBoundsError as error:
                raise error.for_prompt(i) from error
            except NoEligibleModelError as error:
                raise NoEligibleModelError(f"prompt {i}: {error}", error.excluded) from error
        return out

    def estimates(self, prompts: Iterable[Request]) -> Estimates:
        """P(correct), cost and latency of every model of the pool for each prompt."""
        return self._estimate(self._read_all(prompts))[1]

    def offers(
        self,
        prompts: Iterable[Request],
        *,
        policy: str | Policy | None = None,
        models: Sequence[str] = (),
        exclude: Sequence[str] = (),
        prompt_ids: Sequence[str] | None = None,
    ) -> Offers:
        """What every model of the pool would do with each prompt of a batch, and which may.

        Prompts are worked off in blocks, so that only what an assignment needs is held for all.

        Args:
            prompts: The batch.
            policy: Whose utility the offers are to carry, if any.
            models: Patterns of models to allow; empty for the whole pool.
            exclude: Patterns of models to leave out.
            prompt_ids: Names of the prompts for messages; their positions by default.

        Raises:
            InputError: a prompt cannot be read, or there is none; its position is named.
            NoEligibleModelError: no model may take a prompt.
        """
        from zerorouter.routing.assignment.offering import offers_of
        from zerorouter.routing.assignment.offers import Offers

        if isinstance(prompts, str):
            raise InputError("prompts is one text; a list of prompts is wanted")
        wishes = _wishes(models, exclude)
        wanted = None if policy is None else self._policy(policy)
        read = self._read_all(prompts)
        if not read:
            raise InputError("there are no prompts to assign; at least one is wanted")
        parts = []
        for start in range(0, len(read), _OFFER_BLOCK):
            block = read[start : start + _OFFER_BLOCK]
            readings, estimates = self._estimate(block)
            allowed = np.empty((len(block), len(self._pool)), dtype=np.bool_)
            for i, prompt in enumerate(block):
                able, reasons = self._filter(prompt.requirements, wishes)
                size = estimates.output_tokens[i]
                if estimates.input_tokens is not None:
                    size = size + estimates.input_tokens[i]
                room = size <= self._pool.context_tokens
                allowed[i] = able & room
                if not allowed[i].any():
                    error = self._nothing_left(reasons, room)
                    name = start + i if prompt_ids is None else repr(prompt_ids[start + i])
                    raise NoEligibleModelError(f"prompt {name}: {error}", error.excluded)
            parts.append(
                offers_of(estimates, allowed, policy=wanted, support=np.asarray(readings.support))
            )
        return replace(Offers.stacked(parts), prompt_ids=prompt_ids)

    def assign(
        self,
        prompts: Iterable[Request],
        *,
        budget_usd: float | None = None,
        max_mean_latency_s: float | None = None,
        max_p95_latency_s: float | None = None,
        min_accuracy: float | None = None,
        capacity: Mapping[str, Capacity] | None = None,
        goal: Goal | None = None,
        policy: str | Policy | None = None,
        confidence: float | None = None,
        weights: Sequence[float] | None = None,
        models: Sequence[str] = (),
        exclude: Sequence[str] = (),
        exact: bool | None = None,
    ) -> Assignment:
        """Choose the models of a whole batch together, under bounds on the whole.

        Args:
            prompts: The batch; the assignment keeps its order.
            budget_usd: Most that the batch may cost.
            max_mean_latency_s: Largest mean latency.
            max_p95_latency_s: Largest 95th percentile of the latency over the batch.
            min_accuracy: Least mean P(correct).
            capacity: What models can take on, by name; ``"*"`` for all that are not named.
            goal: ``"accuracy"``, ``"cost"`` or ``"utility"``; see `assignment.assigning.assign`.
            policy: Whose utility is sought; implies the goal utility.
            confidence: With which the realised spend is to keep the budget; None for the expected.
            weights: What a correct answer to each prompt counts; one each by default.
            models: Patterns of models to allow; empty for the whole pool.
            exclude: Patterns of models to leave out.
            exact: Whether to end with branch and bound; None where it is worth it.

        Raises:
            InputError: a prompt or a bound cannot be used.
            NoEligibleModelError: no model may take a prompt.
            MissingPriceError: a model has no price.
            InfeasibleError: the bounds cannot all be kept; names the nearest value that can.
        """
        from zerorouter.routing.assignment.assigning import assign
        from zerorouter.routing.assignment.offers import Bounds

        offers = self.offers(prompts, policy=policy, models=models, exclude=exclude).narrowed()
        if weights is not None:
            offers = replace(offers, weight=np.asarray(weights, dtype=np.float64))
        return assign(
            offers,
            Bounds(
                budget_usd=budget_usd,
                max_mean_latency_s=max_mean_latency_s,
                max_p95_latency_s=max_p95_latency_s,
                min_accuracy=min_accuracy,
                capacity=capacity or {},
            ),
            goal="utility" if goal is None and policy is not None else goal,
            confidence=confidence,
            cost_errors=None
            if confidence is None
            else self.cost_errors(offers.models, offers.support),
            exact=exact,
        )

    def plan(
        self,
        prompt: Request,
        signals: Sequence[OfferedSignal],
        *,
        policy: str | Policy | None = None,
        models: Sequence[str] = (),
        exclude: Sequence[str] = (),
        tools: Sequence[Any] | None = None,
        response_format: Any = None,
    ) -> Plan:
        """The best plan for one prompt: a single model, or "A, then B if the signal says so".

        Bounds are those of the policy. A plan is followed with `routing.cascade.follow`.

        Args:
            prompt: Text, or chat messages in OpenAI or Anthropic form.
            signals: What may tell that A's answer is not good enough, and how well.
            policy: As in `route`; the router's default where it is not named.
            models: Patterns of models to allow; empty for the whole pool.
            exclude: Patterns of models to leave out.
            tools: The request's tool declarations.
            response_format: The request's response format.

        Raises:
            PromptError: the prompt cannot be read.
            UnknownNameError: the policy or an allowed model is unknown.
            NoEligibleModelError: filters or bounds leave no plan.
            MissingPriceError: a candidate has no price.
        """
        from zerorouter.routing.cascade import SharedEffects, best_plan

        read = _read(prompt, tools, response_format)
        wanted = self._policy(policy)
        estimates = self._estimate((read,))[1]
        able, reasons = self._filter(read.requirements, _wishes(models, exclude))
        size = estimates.output_tokens[0]
        if estimates.input_tokens is not None:
            size = size + estimates.input_tokens[0]
        room = size <= self._pool.context_tokens
        allowed = (able & room).nonzero()[0]
        if len(allowed) == 0:
            raise self._nothing_left(reasons, room)
        effects = SharedEffects.of(self._space, self._pool.models)
        return best_plan(estimates, wanted, signals, effects, allowed=allowed)

    def cost_errors(self, models: Sequence[str], support: FloatArray | None = None) -> CostErrors:
        """How far the estimated costs of a batch may be off.

        Args:
            models: Of the pool.
            support: (N,) of the prompts; None takes all of them for foreign.
        """
        from zerorouter.routing.assignment.offering import cost_errors_of

        columns = [self._pool.models.index(m) for m in models]
        return cost_errors_of(self._pool.lengths.sd, columns, support)

    # -- the parts of a decision -----------------------------------------------------------

    def _policy(
        self,
        wanted: str | Policy | None,
        min_accuracy: float | None = None,
        max_cost_usd: float | None = None,
    ) -> Policy:
        if wanted:
            return find_policy(wanted, self._policies)
        usual = find_policy(self._default_policy, self._policies)
        if not self._default_gives_way:
            return usual
        return policy_for_bounds(usual, min_accuracy=min_accuracy, max_cost_usd=max_cost_usd)

    def _read_all(self, prompts: Iterable[Request]) -> list[Prompt]:
        read = []
        for i, prompt in enumerate(prompts):
            try:
                read.append(_read(prompt, None, None))
            except InputError as error:
                raise type(error)(f"prompt {i}: {error}") from error
        return read

    def _estimate(self, prompts: Sequence[Prompt]) -> tuple[PromptReadings, Estimates]:
        readings = self._reader.read(prompts)
        return readings, self._pool.estimate(readings, self._pool.input_tokens(prompts))

    def _decide(
        self,
        prompt: Prompt,
        readings: PromptReadings,
        row: int,
        estimates: Estimates,
        policy: Policy,
        wishes: Wishes,
    ) -> Decision:
        """The decision for one prompt; ``estimates`` is its single row."""
        eligible, reasons = self._filter(prompt.requirements, wishes)
        size = estimates.output_tokens[0]
        if estimates.input_tokens is not None:
            size = size + estimates.input_tokens[0]
        room = size <= self._pool.context_tokens
        crowded = _NOBODY
        if np.count_nonzero(room) < len(room):  # hardly ever
            eligible, crowded = eligible & room, np.flatnonzero(~room)
        candidates = eligible.nonzero()[0]
        if len(candidates) == 0:
            raise self._nothing_left(reasons, room)
        if policy.needs_prices and not self._pool.has_prices:
            choice.require_prices(estimates, 0, candidates)
        allowed = candidates
        if policy.has_bounds:
            allowed = candidates[choice.within_bounds(estimates, policy)[0, candidates]]
            if len(allowed) == 0:
                raise choice.infeasible(estimates, 0, policy, candidates)
        utility = choice.utilities(estimates, policy)[0]
        j = choice.best(estimates, 0, utility, allowed)
        forecast = estimates.forecast
        low, high = forecast.interval_at(0, j)
        items = readings.items
        return Decision(
            decision_id=os.urandom(12).hex(),
            model=self._pool.models[j],
            policy=policy.name,
            p_correct=float(forecast.p_correct[0, j]),
            p_correct_low=low,
            p_correct_high=high,
            cost_usd=float(estimates.cost_usd[0, j]),
            latency_s=float(estimates.latency_s[0, j]),
            difficulty=_difficulty(items.discrimination[row], float(items.intercept[row])),
            domain=TOOL_DOMAIN
            if prompt.n_tools
            else self._space.predictor.domains[int(readings.domain[row])],
            requirements=prompt.requirements,
            support=float(readings.support[row]),
            space_version=self._version,
            weighing=Weighing(
                estimates=estimates,
                utility=utility,
                allowed=allowed,
                chosen=j,
                policy=policy,
                filtered=reasons,
                crowded=crowded,
                readings=readings,
                row=row,
            ),
        )

    def _eligible(
        self, requirements: tuple[str, ...], wishes: Wishes
    ) -> tuple[BoolArray, Mapping[str, str]]:
        """(M,) which models lists and capabilities leave, and why the others are out."""
        names = self._pool.models
        listed = set(self._named(wishes.models)) if wishes.models else set(names)
        kept = set(self._offered.select(exclude=wishes.exclude).names)
        needed = frozenset(requirements)
        reasons: dict[str, str] = {}
        for name, able in zip(names, self._pool.capabilities, strict=True):
            missing = needed - able
            if name not in listed:
                reasons[name] = "not among the allowed models"
            elif name not in kept:
                reasons[name] = "on the deny list"
            elif missing:
                reasons[name] = f"cannot: {', '.join(sorted(missing))}"
        return np.array([name not in reasons for name in names]), reasons

    def _named(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """Models of the pool that the patterns name."""
        try:
            return self._offered.select(patterns).names
        except UnknownNameError as error:
            outside = [p for p in patterns if _matches_any(self._catalog, p)]
            if error.name not in outside:
                raise
            raise NoEligibleModelError(
                f"{error.name!r} is in the catalog but not in the pool: its ability is not known, "
                "or it was left out; the pool is listed by 'zerorouter models'"
            ) from error

    def _nothing_left(self, reasons: Mapping[str, str], room: BoolArray) -> NoEligibleModelError:
        excluded = dict(reasons)
        for name, fits in zip(self._pool.models, room, strict=True):
            if not fits and name not in excluded:
                excluded[name] = "its context window is too small"
        counts: dict[str, int] = {}
        for reason in excluded.values():
            counts[reason] = counts.get(reason, 0) + 1
        told = "; ".join(
            f"{n} {reason}" for reason, n in sorted(counts.items(), key=lambda x: -x[1])
        )
        return NoEligibleModelError(
            f"no model of the pool of {len(self._pool)} is left: {told}; widen the allowed "
            "models, shorten the deny list, or add a model that can do it",
            excluded,
        )


def load_space(path: str | Path | None = None) -> LatentSpace:
    """The space of a folder, of ``ZEROROUTER_SPACE``, or the one that ships."""
    named = path or os.environ.get("ZEROROUTER_SPACE") or None
    return LatentSpace.load(None if named is None else Path(named))


def _with_profiles(
    space: LatentSpace, catalog: Catalog, profiles: Iterable[Profile] | None
) -> tuple[LatentSpace, Catalog, frozenset[str]]:
    """Space and catalog with profiled models in them, and those of them on probation."""
    if profiles is None and not (home_dir() / "profiles").is_dir():
        return space, catalog, frozenset()  # the usual case, and no part of a cold `route`
    from zerorouter.profiles import ProfileStore, join

    found = ProfileStore.default().load_all() if profiles is None else tuple(profiles)
    joined = join(space, catalog, found)
    return joined.space, joined.catalog, joined.probation


def _asked_for(
    patterns: Sequence[str],
    config: Config,
    catalog: Catalog,
    space: LatentSpace,
    pool: Sequence[str],
) -> list[str]:
    """Models outside the pool that patterns ask for, the configuration allows, and are known."""
    from zerorouter.card_only import asked_for, card_only_models

    allowed = catalog.select(config.allow, exclude=config.deny)
    known = card_only_models(space)
    return [
        name
        for name in asked_for(patterns, catalog, frozenset(pool))
        if name in allowed and (name in space or (known is not None and name in known))
    ]


def _with_card_only(
    space: LatentSpace, models: Sequence[str], probation: frozenset[str]
) -> tuple[LatentSpace, frozenset[str]]:
    """The space with those of the models that are known by their cards alone, on probation."""
    if all(name in space for name in models):
        return space, probation
    from zerorouter.card_only import card_only_models

    known = card_only_models(space)
    new = [name for name in models if name not in space and known is not None and name in known]
    if known is None or not new:
        return space, probation
    return known.join(space, new), probation | frozenset(new)


def _joined(catalog: Catalog, space: LatentSpace) -> Catalog:
    """The catalog with the models that came with the space's records, all in the pool."""
    return catalog.with_models(
        replace(catalog.get(own.name), in_default_pool=True) if own.name in catalog else own
        for own in space.models
    )


def _pool_of(
    catalog: Catalog, space: LatentSpace, models: Iterable[str] | None
) -> tuple[ModelSpec, ...]:
    if isinstance(models, str):
        raise InputError(f"models is the text {models!r}; a list of names is wanted")
    if models is not None:
        specs = tuple(catalog.get(name) for name in models)
    else:
        specs = tuple(spec for spec in catalog.pool() if spec.name in space)
    if not specs:
        raise NoEligibleModelError(
            "the pool is empty: the space has no ability for any model on offer; allow models that "
            "'zerorouter models' lists, or calibrate with records whose models.csv has prices"
        )
    return specs


def _matches_any(catalog: Catalog, pattern: str) -> bool:
    try:
        return bool(catalog.select([pattern]))
    except UnknownNameError:
        return False


def _read(prompt: Request, tools: Sequence[Any] | None, response_format: Any) -> Prompt:
    if isinstance(prompt, Prompt):
        return prompt
    return read_prompt(prompt, tools=tools, response_format=response_format)


def _wishes(models: Sequence[str], exclude: Sequence[str]) -> Wishes:
    if models == () == exclude:
        return _NO_WISHES
    for given in (models, exclude):
        if isinstance(given, str):
            raise InputError(
                f"model patterns are the text {given!r}; a list of patterns is wanted, such as "
                f"[{given!r}]"
            )
    return Wishes(models=tuple(models), exclude=tuple(exclude))


def _difficulty(discrimination: np.ndarray, intercept: float) -> float:
    """MDIFF = -d / |a| of one item (Reckase 1985)."""
    return -intercept / max(math.sqrt(discrimination.dot(discrimination)), 1e-6)
