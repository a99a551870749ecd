"""The router: a prompt in, a decision out.

    router = Router.load()
    decision = router.route("What is 17 * 23?", policy="cost")
    decision.model, decision.p_correct, decision.cost_usd

A router is immutable and safe to share between threads. Everything runs in process: encode,
predict item parameters, estimate, choose.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from zerorouter.arrays import BoolArray
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.config import Config
from zerorouter.errors import ConfigError, InputError, NoEligibleModelError, UnknownNameError
from zerorouter.predict.encoders import Encoder
from zerorouter.predict.items import PromptReadings
from zerorouter.predict.prompt import Prompt, read_prompt
from zerorouter.routing import choice
from zerorouter.routing.decision import Decision, Weighing
from zerorouter.routing.estimates import Estimates, Pool
from zerorouter.routing.policy import Policy, find_policy
from zerorouter.space import LatentSpace

Request: TypeAlias = str | Sequence[Mapping[str, Any]] | Prompt
TOOL_DOMAIN = "tool use"


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Which models a request may use.

    Attributes:
        models: Shell patterns of allowed names; empty allows the whole pool.
        exclude: Shell patterns of names to leave out.
    """

    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Router:
    """Routes prompts to the models of a pool. Made by `load` or from parts.

    Args:
        space: The latent space; every model of the pool is a respondent in it.
        catalog: Where the models' prices, speeds and capabilities stand.
        models: Names of the pool; by default the catalog's default pool.
        policies: Policies of the caller's own, by name.
        default_policy: What `route` uses when none is named.
        encoder: Another encoder, if the space was fitted with one.

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
    ) -> None:
        specs = _pool_of(catalog, space, models)
        self._space = space
        self._catalog = catalog
        self._reader = space.reader(encoder)
        self._pool = Pool.of(specs, space)
        self._offered = Catalog(models=specs)
        self._policies = dict(policies or {})
        self._default_policy = default_policy
        self._filter = lru_cache(maxsize=256)(self._eligible)
        find_policy(default_policy, self._policies)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        catalog: Catalog | None = None,
        models: Iterable[str] | None = None,
        policies: Mapping[str, Policy] | None = None,
        default_policy: str = "balanced",
    ) -> Router:
        """A router over a space on disk, by default the one that ships with the package.

        ``ZEROROUTER_SPACE`` names another default. Models that came with the records of
        a space of one's own join the pool; where the catalog knows one, its card holds.
        """
        space = _load_space(path)
        return cls(
            space,
            _joined(Catalog.load() if catalog is None else catalog, space),
            models=models,
            policies=policies,
            default_policy=default_policy,
        )

    @classmethod
    def from_config(cls, config: Config, *, space: str | Path | None = None) -> Router:
        """The router that a configuration asks for.

        Args:
            config: Names the space, the policies, the models to route to and their prices.
            space: Folder of a space, in place of the configuration's.

        Raises:
            ConfigError: it names a model or a policy that does not exist.
            NoEligibleModelError: it leaves no model.
        """
        latent = _load_space(space or config.space)
        catalog = _joined(Catalog.load(), latent)
        names = [name for name in config.apply_to(catalog).names if name in latent]
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
            )
        except UnknownNameError as error:
            raise ConfigError(f"{config.path}: policy: {error}") from error

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
        tools: Sequence[Any] | None = None,
        response_format: Any = None,
    ) -> Decision:
        """Choose the model for one prompt.

        Args:
            prompt: Text, or chat messages in OpenAI or Anthropic form.
            policy: A preset's name, the name of a policy of your own, or a `Policy`.
            models: Patterns of models to allow; empty for the whole pool.
            exclude: Patterns of models to leave out.
            min_accuracy: Least P(correct), in place of the policy's.
            max_cost_usd: Largest expected cost, in place of the policy's.
            max_latency_s: Largest expected latency, in place of the policy's.
            tools: The request's tool declarations.
            response_format: The request's response format.

        Raises:
            PromptError: the prompt cannot be read.
            UnknownNameError: the policy or an allowed model is unknown.
            NoEligibleModelError: filters or bounds leave no model.
            MissingPriceError: a candidate has no price.
        """
        read = _read(prompt, tools, response_format)
        wanted = self._policy(policy).bounded(
            min_accuracy=min_accuracy, max_cost_usd=max_cost_usd, max_latency_s=max_latency_s
        )
        wishes = _wishes(models, exclude)
        readings = self._reader.read((read,))
        estimates = self._pool.estimate(readings, np.array([read.input_tokens.mean]))
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
    ) -> list[Decision]:
        """Choose the model for each prompt; the same decisions as `route` makes one by one.

        Raises:
            InputError: a prompt cannot be routed; its position is named. No decision is
                returned then.
        """
        wanted = self._policy(policy).bounded(
            min_accuracy=min_accuracy, max_cost_usd=max_cost_usd, max_latency_s=max_latency_s
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
            except NoEligibleModelError as error:
                raise NoEligibleModelError(f"prompt {i}: {error}", error.excluded) from error
        return out

    def estimates(self, prompts: Iterable[Request]) -> Estimates:
        """P(correct), cost and latency of every model of the pool for each prompt."""
        return self._estimate(self._read_all(prompts))[1]

    # -- the parts of a decision -----------------------------------------------------------

    def _policy(self, wanted: str | Policy | None) -> Policy:
        return find_policy(wanted or self._default_policy, self._policies)

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
        tokens = np.array([prompt.input_tokens.mean for prompt in prompts])
        return readings, self._pool.estimate(readings, tokens)

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
        room = prompt.input_tokens.mean + estimates.output_tokens[0] <= self._pool.context_tokens
        eligible = eligible & room
        candidates = np.flatnonzero(eligible)
        if len(candidates) == 0:
            raise self._nothing_left(reasons, room)
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
            space_version=self._space.version,
            weighing=Weighing(
                estimates=estimates,
                utility=utility,
                allowed=allowed,
                chosen=j,
                policy=policy,
                filtered=reasons,
                crowded=np.flatnonzero(~room),
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


def _load_space(path: str | Path | None) -> LatentSpace:
    named = path or os.environ.get("ZEROROUTER_SPACE") or None
    return LatentSpace.load(None if named is None else Path(named))


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
    for given in (models, exclude):
        if isinstance(given, str):
            raise InputError(
                f"model patterns are the text {given!r}; a list of patterns is wanted, such as "
                f"[{given!r}]"
            )
    return Wishes(models=tuple(models), exclude=tuple(exclude))


def _difficulty(discrimination: np.ndarray, intercept: float) -> float:
    """MDIFF = -d / |a| of one item (Reckase 1985)."""
    return -intercept / max(float(np.sqrt(discrimination @ discrimination)), 1e-6)
