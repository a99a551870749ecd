"""The three numbers that every decision rests on, for N prompts and M models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from zerorouter.catalog import ModelSpec
from zerorouter.errors import InputError, UnknownNameError
from zerorouter.irt.model import Panel, ResponseForecast, row_products
from zerorouter.predict.items import PromptReadings
from zerorouter.predict.media import MediaRules, media_rules
from zerorouter.predict.prompt import CHARS_PER_TOKEN, MEDIA_TOKENS, Prompt
from zerorouter.predict.quantiles import normal_quantile
from zerorouter.predict.serving_times import (
    PREFILL_S_PER_KTOK,
    REFERENCE_INPUT_TOKENS,
    TAIL,
    EndpointTimes,
    LatencyTable,
)
from zerorouter.predict.tokens import (
    FARTHEST_DIFFICULTY,
    LONGEST,
    REASONING_LENGTH_FACTOR,
    LengthProfile,
)
from zerorouter.prices import Price, PriceTier
from zerorouter.space import LatentSpace

# Speeds of a model that nobody has timed: the medians of the catalog.
DEFAULT_TTFT_S = 0.5
DEFAULT_TPOT_S = 0.0125

# A told TTFT of a reasoning model above this holds its hidden thoughts. They are counted in its
# output tokens already, so the class median of models that answer at once stands in.
LONGEST_PLAIN_TTFT_S = 2.0
_LENGTH_TERMS = 3  # of a prompt beyond those of the panel: difficulty, level, constant
HIDDEN_SHARE = 1 - 1 / REASONING_LENGTH_FACTOR  # of a reasoning model's output tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Spreads:
    """How far cost and latency of M models may be off; logs have these standard deviations.

    Attributes:
        length_sd: (M,) of output tokens.
        length_smear: (M,) log of their mean over their median.
        output_usd: (M,) or (N, M) dollars per output token.
        ttft_s: (M,) or (N, M) expected seconds to the first token.
        ttft_mean: (M,) log of the expected TTFT over its median.
        tpot_mean: (M,) log of the expected TPOT over its median.
        ttft_sd: (M,) of TTFT.
        tpot_sd: (M,) of TPOT.
        ttft_tail_sd: (M,) of TTFT for high quantiles.
        tpot_tail_sd: (M,) of TPOT for high quantiles.
        max_output_tokens: (M,) longest answers.
        tables: Tables of latencies by quantile, as far as they were asked for.
    """

    length_sd: Float64Array
    length_smear: Float64Array
    output_usd: Float64Array
    ttft_s: Float64Array
    ttft_mean: Float64Array
    tpot_mean: Float64Array
    ttft_sd: Float64Array
    tpot_sd: Float64Array
    ttft_tail_sd: Float64Array
    tpot_tail_sd: Float64Array
    max_output_tokens: Float64Array
    tables: dict[float, LatencyTable] = field(default_factory=dict)

    def table(self, q: float) -> LatencyTable:
        """Where ``q``-quantiles of latencies are read off; made once for a pool."""
        found = self.tables.get(q)
        if found is None:
            high = q >= 0.9
            found = self.tables[q] = LatencyTable.of(
                q,
                self.ttft_tail_sd if high else self.ttft_sd,
                np.hypot(self.length_sd, self.tpot_tail_sd if high else self.tpot_sd),
            )
        return found

    def row(self, rows: slice) -> Spreads:
        """Those of some prompts."""
        if self.output_usd.ndim == 1 and self.ttft_s.ndim == 1:
            return self
        return replace(
            self,
            output_usd=self.output_usd if self.output_usd.ndim == 1 else self.output_usd[rows],
            ttft_s=self.ttft_s if self.ttft_s.ndim == 1 else self.ttft_s[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """P(correct), cost and latency of every (prompt, model) pair.

    Attributes:
        models: (M,) names, in the order of the columns.
        forecast: (N, M) P(correct) and the error that it carries.
        cost_usd: (N, M) expected cost of the request in US dollars; NaN without a price.
        latency_s: (N, M) expected seconds to the last token.
        output_tokens: (N, M) expected output tokens.
        spreads: What quantiles rest on; None where only expectations are known.
        input_tokens: (N,) or (N, M) expected input tokens; None where not known.
        cautious: (M,) models on probation, taken at a lower bound of P(correct); None for none.
    """

    models: tuple[str, ...]
    forecast: ResponseForecast
    cost_usd: Float64Array
    latency_s: Float64Array
    output_tokens: Float64Array
    spreads: Spreads | None = None
    input_tokens: Float64Array | None = None
    cautious: BoolArray | None = None

    @property
    def p_correct(self) -> Float32Array:
        """(N, M) probability of a correct answer, all uncertainty integrated out."""
        return self.forecast.p_correct

    @property
    def n_prompts(self) -> int:
        """How many prompts there are."""
        return len(self.cost_usd)

    @cached_property
    def latency_p50_s(self) -> Float64Array:
        """(N, M) median latency; the expectation where no spread is known."""
        return self.latency_quantile(0.5)

    @cached_property
    def latency_p95_s(self) -> Float64Array:
        """(N, M) 95th percentile of the latency; the expectation where no spread is known."""
        return self.latency_quantile(TAIL)

    def latency_quantile(self, q: float) -> Float64Array:
        """(N, M) the ``q``-quantile of the seconds to the last token."""
        s = self.spreads
        if s is None:
            return self.latency_s
        writing_s = (self.latency_s - s.ttft_s) * np.exp(-s.tpot_mean - s.length_smear)
        return s.table(q).quantile(s.ttft_s * np.exp(-s.ttft_mean), writing_s)

    def cost_quantile(self, q: float) -> Float64Array:
        """(N, M) the ``q``-quantile of the cost: a budget at this confidence; NaN unpriced.

        Only the length of the answer is uncertain; input tokens and prices are taken as known.
        """
        s = self.spreads
        if s is None:
            return self.cost_usd
        longest = np.minimum(s.max_output_tokens, LONGEST)
        spread = np.exp(normal_quantile(q) * s.length_sd - s.length_smear)
        tokens = np.minimum(self.output_tokens * spread, longest)
        out: Float64Array = self.cost_usd + (tokens - self.output_tokens) * s.output_usd
        return out

    def row(self, index: int) -> Estimates:
        """The estimates of one prompt, as a table of one row."""
        rows = slice(index, index + 1)
        return Estimates(
            models=self.models,
            forecast=self.forecast.row(index),
            cost_usd=self.cost_usd[rows],
            latency_s=self.latency_s[rows],
            output_tokens=self.output_tokens[rows],
            spreads=None if self.spreads is None else self.spreads.row(rows),
            input_tokens=None if self.input_tokens is None else self.input_tokens[rows],
            cautious=self.cautious,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rates:
    """Dollars per token of M models at one context size, NaN without a price."""

    input_usd: Float64Array
    output_usd: Float64Array
    cached_usd: Float64Array

    @classmethod
    def of(cls, specs: Sequence[ModelSpec], input_tokens: float = 0.0) -> _Rates:
        prices = [spec.price for spec in specs]
        nan = float("nan")
        at = [None if price is None else price.at(input_tokens) for price in prices]
        return cls(
            input_usd=np.array([nan if p is None else p.input_usd_per_mtok / 1e6 for p in at]),
            output_usd=np.array(
                [
                    nan if p is None else _output_usd_per_mtok(p.output_usd_per_mtok, s) / 1e6
                    for p, s in zip(at, specs, strict=True)
                ]
            ),
            cached_usd=np.array(
                [
                    nan
                    if p is None
                    else (
                        p.input_usd_per_mtok
                        if p.cached_input_usd_per_mtok is None
                        else p.cached_input_usd_per_mtok
                    )
                    / 1e6
                    for p in at
                ]
            ),
        )


def _output_usd_per_mtok(listed: float, spec: ModelSpec) -> float:
    """The price of a mean output token: reasoning has its own price with a few vendors."""
    own = None if spec.price is None else spec.price.reasoning_usd_per_mtok
    if own is None or not spec.reasoning:
        return listed
    return HIDDEN_SHARE * own + (1 - HIDDEN_SHARE) * listed


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """M models on offer, laid out in columns.

    Attributes:
        models: (M,) names, sorted, so that no order of the catalog can matter.
        panel: Their abilities.
        lengths: Their answer lengths.
        difficulty_scale: Mean and sd by which lengths standardise difficulty.
        rates: Dollars per token below the first tier of any model.
        tiers: Context sizes above which somebody charges otherwise, rising, with the rates there.
        times: (M,) what is known of the endpoints' speeds.
        context_tokens: (M,) longest prompt and answer together, infinite where unknown.
        max_output_tokens: (M,) longest answer, infinite where unknown.
        capabilities: What each can do.
        media: How each counts media.
        cautious: (M,) models on probation; None where there are none.
    """

    models: tuple[str, ...]
    panel: Panel
    lengths: LengthProfile
    difficulty_scale: tuple[float, float]
    rates: _Rates
    tiers: tuple[tuple[int, _Rates], ...]
    times: tuple[EndpointTimes, ...]
    context_tokens: Float64Array
    max_output_tokens: Float64Array
    capabilities: tuple[frozenset[str], ...]
    media: tuple[MediaRules, ...]
    cautious: BoolArray | None = None

    @classmethod
    def of(
        cls,
        specs: Sequence[ModelSpec],
        space: LatentSpace,
        times: Mapping[str, EndpointTimes] | None = None,
        probation: Collection[str] = (),
    ) -> Pool:
        """Lay out models that are respondents of the space.

        Args:
            specs: The models.
            space: Where their abilities stand.
            times: What was learned of endpoints' speeds by model; the catalog tells the others.
            probation: Models that are to be taken at a lower bound of P(correct).

        Raises:
            UnknownNameError: the space does not know a model.
        """
        ordered = sorted(specs, key=lambda spec: spec.name)
        names = tuple(spec.name for spec in ordered)
        at = space.index(names)
        limits = sorted({tier.above_input_tokens for s in ordered for tier in _tiers(s.price)})
        learned = times or {}
        return cls(
            models=names,
            panel=Panel.of(space.abilities.take(at), space.predictor.effect_covariance),
            lengths=space.styles.profile(at),
            difficulty_scale=space.difficulty_scale,
            rates=_Rates.of(ordered),
            tiers=tuple((limit, _Rates.of(ordered, limit + 1)) for limit in limits),
            times=tuple(learned.get(s.name) or told_times(s) for s in ordered),
            context_tokens=_known([spec.context_tokens for spec in ordered], np.inf),
            max_output_tokens=_known([spec.max_output_tokens for spec in ordered], np.inf),
            capabilities=tuple(spec.capabilities for spec in ordered),
            media=tuple(media_rules(spec.vendor, spec.name) for spec in ordered),
            cautious=np.array([name in probation for name in names]) if probation else None,
        )

    def with_times(self, times: Mapping[str, EndpointTimes]) -> Pool:
        """The same pool with what has been learned of some endpoints' speeds.

        Raises:
            UnknownNameError: a model is not in the pool.
        """
        for name in times:
            if name not in self.models:
                raise UnknownNameError("model", name, self.models)
        return replace(
            self,
            times=tuple(times.get(n, old) for n, old in zip(self.models, self.times, strict=True)),
        )

    def __len__(self) -> int:
        return len(self.models)

    @cached_property
    def ttft_s(self) -> Float64Array:
        """(M,) expected seconds to the first token."""
        return np.array([times.ttft.expectation for times in self.times])

    @cached_property
    def tpot_s(self) -> Float64Array:
        """(M,) expected seconds per further token."""
        return np.array([times.tpot.expectation for times in self.times])

    @cached_property
    def has_prices(self) -> bool:
        """Whether every model has a price."""
        return not bool(np.isnan(self.rates.input_usd).any())

    @cached_property
    def _spreads(self) -> Spreads:
        """Below the first tier, for inputs that take no longer than the reference."""
        flat = np.zeros(len(self))
        sd, smear = self.lengths.sd, self.lengths.smear
        return Spreads(
            length_sd=flat if sd is None else sd,
            length_smear=flat if smear is None else smear,
            output_usd=self.rates.output_usd,
            ttft_s=self.ttft_s,
            ttft_mean=np.array([times.ttft.noise_variance / 2 for times in self.times]),
            tpot_mean=np.array([times.tpot.noise_variance / 2 for times in self.times]),
            ttft_sd=np.array([times.ttft.sd for times in self.times]),
            tpot_sd=np.array([times.tpot.sd for times in self.times]),
            ttft_tail_sd=np.array([times.ttft.tail_sd for times in self.times]),
            tpot_tail_sd=np.array([times.tpot.tail_sd for times in self.times]),
            max_output_tokens=self.max_output_tokens,
        )

    @cached_property
    def _first_limit(self) -> float:
        """Input tokens up to which nothing but `rates` and the told TTFT matters."""
        first = min((limit for limit, _ in self.tiers), default=np.inf)
        return float(min(first, REFERENCE_INPUT_TOKENS))

    def input_tokens(self, prompts: Sequence[Prompt]) -> Float64Array:
        """Expected input tokens: (N,), or (N, M) where media are counted by each vendor's rule."""
        text = np.array([prompt.n_chars / CHARS_PER_TOKEN for prompt in prompts])
        if not any(prompt.media for prompt in prompts):
            return text
        out = np.repeat(text[:, None], len(self), axis=1)
        for i, prompt in enumerate(prompts):
            if prompt.media:
                out[i] += self._media_tokens(prompt)
        return out

    def _media_tokens(self, prompt: Prompt) -> Float64Array:
        """(M,) tokens of a prompt's media."""
        out = np.empty(len(self))
        for j, rules in enumerate(self.media):
            typical = rules.typical()
            total = sum(
                n * typical.get(kind, MEDIA_TOKENS[kind].mean) for kind, n in prompt.media.items()
            )
            if rules.image is not None:  # those whose size is known are counted, not assumed
                total += sum(
                    rules.image(size.width, size.height, size.detail) - typical["image"]
                    for size in prompt.images
                )
            out[j] = total
        return out

    def cached_tokens(self, cached: Mapping[str, float]) -> Float64Array:
        """(1, M) tokens of a request's prefix that models' prompt caches already hold.

        Raises:
            UnknownNameError: a model is not in the pool.
            InputError: a number of tokens is negative or not finite.
        """
        out = np.zeros((1, len(self)))
        for name, tokens in cached.items():
            if name not in self.models:
                raise UnknownNameError("model", name, self.models)
            if not (np.isfinite(tokens) and tokens >= 0):
                raise InputError(
                    f"cached_tokens[{name!r}] is {tokens!r}; a number of tokens >= 0 is wanted"
                )
            out[0, self.models.index(name)] = tokens
        return out

    def estimate(
        self,
        readings: PromptReadings,
        input_tokens: FloatArray,
        cached_tokens: FloatArray | None = None,
    ) -> Estimates:
        """Estimates of every model for N prompts.

        Args:
            readings: What the predictor says of the prompts.
            input_tokens: (N,) expected input tokens, or (N, M) where vendors count differently.
            cached_tokens: (N, M) those that a model's prompt cache already holds.

        Cost is that of `prices.request_cost_usd` at the expected output length L: it is linear in
        L, so this is the expected cost. Latency is TTFT + (L - 1) TPOT at the same length.
        """
        m = len(self)
        linear = row_products(self._terms(readings), self._columns)
        tokens: Float64Array = np.exp(linear[:, 2 * m :], dtype=np.float64)
        np.minimum(tokens, self._longest, out=tokens)
        entered = np.asarray(input_tokens, dtype=np.float64)
        columns = entered if entered.ndim == 2 else entered[:, None]
        rates, spreads, start_s = self.rates, self._spreads, self._start_s
        longest = entered[0] if entered.shape == (1,) else entered.max(initial=0.0)
        if longest > self._first_limit:
            rates = self._rates_at(columns)
            late = np.maximum(columns - REFERENCE_INPUT_TOKENS, 0.0) * (PREFILL_S_PER_KTOK / 1000)
            spreads = replace(spreads, output_usd=rates.output_usd, ttft_s=self.ttft_s + late)
            start_s = start_s + late
        cost = tokens * rates.output_usd
        cost += columns * rates.input_usd
        if cached_tokens is not None:
            held = np.minimum(np.asarray(cached_tokens, dtype=np.float64), columns)
            cost -= held * (rates.input_usd - rates.cached_usd)
        latency = np.maximum(tokens, 1.0)
        latency *= self.tpot_s
        latency += start_s
        return Estimates(
            models=self.models,
            forecast=self.panel.integrated(readings.items, linear[:, :m], linear[:, m : 2 * m]),
            cost_usd=cost,
            latency_s=latency,
            output_tokens=tokens,
            spreads=spreads,
            input_tokens=entered,
            cautious=self.cautious,
        )

    def _terms(self, readings: PromptReadings) -> Float32Array:
        """(N, T + 3) the panel's terms of the prompts, then difficulty, level and a constant.

        `Panel.terms` in plain floats: for one prompt a NumPy call takes longer than its sums.
        """
        items, (mean, sd) = readings.items, self.difficulty_scale
        k = self.panel.n_dims
        end = k + self.panel.n_facets
        out = np.empty((items.n_items, len(self._columns)), dtype=np.float32)
        for i in range(len(out)):
            row = out[i]
            row[:k] = items.discrimination[i]
            a = row[:k].tolist()
            length = 0.0
            if end > k:
                facets = row[k:end]
                facets[:] = 0.0 if items.facets is None else items.facets[i]
                length = facets.dot(facets)
            d, level = float(items.intercept[i]), float(readings.log_length[i])
            difficulty = max(min((mean - d) / sd, FARTHEST_DIFFICULTY), -FARTHEST_DIFFICULTY)
            pairs = [first * second for first in a for second in a]
            row[end:] = (d, items.shift_variance[i], length, *pairs, difficulty, level, 1.0)
        return out

    @cached_property
    def _columns(self) -> Float32Array:
        """(T + 3, 3 M) the panel's columns and those of the log lengths, which share its facets."""
        lengths, end, m = self.lengths, len(self.panel.columns), len(self)
        out = np.zeros((end + _LENGTH_TERMS, 3 * m), dtype=np.float32)
        out[:end, : 2 * m] = self.panel.columns
        log_mean = out[:, 2 * m :]
        if lengths.leanings is not None and self.panel.n_facets:
            log_mean[self.panel.facet_terms] = lengths.leanings
        log_mean[end] = lengths.slope
        log_mean[end + 1] = lengths.growth
        log_mean[end + 2] = lengths.offset
        return out

    @cached_property
    def _longest(self) -> Float64Array:
        """(M,) output tokens beyond which no expectation goes."""
        return np.minimum(self.max_output_tokens, LONGEST)

    @cached_property
    def _start_s(self) -> Float64Array:
        """(M,) expected seconds to the first token, less those that it counts as one of L."""
        return self.ttft_s - self.tpot_s

    def _rates_at(self, input_tokens: Float64Array) -> _Rates:
        """Rates (N, M) of requests of these lengths, (N, 1) or (N, M)."""
        rates = self.rates
        for limit, above in self.tiers:
            beyond = input_tokens > limit
            if beyond.any():
                rates = _Rates(
                    input_usd=np.where(beyond, above.input_usd, rates.input_usd),
                    output_usd=np.where(beyond, above.output_usd, rates.output_usd),
                    cached_usd=np.where(beyond, above.cached_usd, rates.cached_usd),
                )
        return rates


def told_times(spec: ModelSpec) -> EndpointTimes:
    """What the catalog tells of an endpoint's speed; the catalog's medians where it does not."""
    ttft_s = DEFAULT_TTFT_S if spec.ttft_s is None else spec.ttft_s
    if spec.reasoning and ttft_s > LONGEST_PLAIN_TTFT_S:
        ttft_s = DEFAULT_TTFT_S
    tpot_s = 1 / spec.throughput_tok_s if spec.throughput_tok_s else DEFAULT_TPOT_S
    nobody = spec.ttft_s is None and spec.throughput_tok_s is None
    return EndpointTimes.told(
        ttft_s, tpot_s, pooled=nobody or spec.speed_source.startswith("pooled")
    )


def _tiers(price: Price | None) -> tuple[PriceTier, ...]:
    return () if price is None else price.tiers


def _known(values: Sequence[float | None], otherwise: float) -> Float64Array:
    return np.array([otherwise if value is None else float(value) for value in values])
