r"""How long a request takes: TTFT and TPOT of an endpoint, learned online, and quantiles of both.

.. math:: T = \text{TTFT}(n_{in}) + (L - 1)\,\text{TPOT}

TTFT (seconds to the first token) and TPOT (seconds per further token) are log-normal around
levels of their own. A level is known with an error that shrinks with every request seen and grows
back with time (a random walk), and so is the noise from request to request. `observe` is the pure
function state, request, elapsed time -> state; where only the end-to-end time was seen, as in
requests that do not stream, it moves both levels by their share of it (an extended Kalman step).

TTFT grows with the input: `PREFILL_S_PER_KTOK` seconds per 1,000 tokens beyond
`REFERENCE_INPUT_TOKENS`, the input length at which levels are told. That slope is *weakly
identified*: it rests on bfcl's end-to-end times alone, whose inputs hardly exceed 1,000 tokens
(docs/results/latency.md). The priors are those of ``fitting.serving_times``, fitted to
the catalog's request log and offers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.errors import InputError
from zerorouter.predict.quantiles import normal_quantile, student_quantile

REFERENCE_INPUT_TOKENS = 550.0
PREFILL_S_PER_KTOK = 0.1
SHORTEST_S = 1e-4
TAIL = 0.95
FARTHEST_STEP = 2.0  # standard deviations of a forecast; chosen on docs/results/latency.md's tables
LEAN_RATE = 0.2  # of the running mean of errors: the last five or so
STEADY_LEAN = 0.8  # standard deviations; twice what it reaches by chance
LARGEST_SURPRISE = 16.0  # variances of a forecast; likewise
LEAST_PREFILL_SHARE = 0.2  # of an observed TTFT that is left to the level, however long the input


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How far a time may be off, as variances of its natural log.

    Attributes:
        level: Of the endpoint's level around what was told of it.
        pooled: The same where a class median stands in for what nobody has told.
        noise: From request to request.
        noise_dof: How many requests the noise counts as.
    """

    level: float
    pooled: float
    noise: float
    noise_dof: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TimesPrior:
    """What is expected of endpoints nobody has timed, and how fast what was learned goes stale.

    Attributes:
        ttft: Spread of TTFT around a level that a vendor or a host has told.
        tpot: Spread of TPOT around such a level.
        drift_per_hour: Variance that a level's error gains in an hour without requests.
        half_life_hours: After which half of what was learned of the noise is forgotten.
        window: Requests that the noise and the level rest on at most.
    """

    ttft: Spread
    tpot: Spread
    drift_per_hour: float
    half_life_hours: float
    window: float


# Printed by ``scripts/evaluate_latency.py`` from ``catalog/latency_requests.parquet`` and
# ``offers.csv``; a test on those tables compares them. Drift, half-life and window are chosen:
# the log has no clock to learn them from.
PRIOR = TimesPrior(
    ttft=Spread(level=0.20, pooled=0.95, noise=0.038, noise_dof=2.0),
    tpot=Spread(level=0.86, pooled=1.43, noise=0.0018, noise_dof=1.0),
    drift_per_hour=0.02,
    half_life_hours=6.0,
    window=100.0,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogTime:
    """A log-normal time.

    Attributes:
        mean: Of its natural log (seconds).
        level_variance: What is not known of ``mean``.
        noise_variance: From request to request.
        noise_weight: Requests that ``noise_variance`` rests on.
        prior: The spread it started with, and is forgotten towards.
        lean: Running mean of the last few forecast errors in standard deviations; away from 0
            where the endpoint has become faster or slower.
    """

    mean: float
    level_variance: float
    noise_variance: float
    noise_weight: float
    prior: Spread
    lean: float = 0.0

    @classmethod
    def told(cls, seconds: float, prior: Spread, *, pooled: bool = False) -> LogTime:
        """A time of which only an average is told, or that of its class."""
        level = prior.pooled if pooled else prior.level
        return cls(
            mean=math.log(max(seconds, SHORTEST_S)) - prior.noise / 2,
            level_variance=level,
            noise_variance=prior.noise,
            noise_weight=prior.noise_dof,
            prior=prior,
        )

    @property
    def sd(self) -> float:
        """Standard deviation of the log of the next request's time."""
        return math.sqrt(self.level_variance + self.noise_variance)

    @property
    def tail_sd(self) -> float:
        """The same for the 95th percentile: few requests leave the noise a Student's tail."""
        heavy = student_quantile(TAIL, round(max(self.noise_weight, 1.0), 1)) / normal_quantile(
            TAIL
        )
        return math.sqrt(self.level_variance + heavy**2 * self.noise_variance)

    @property
    def expectation(self) -> float:
        """Expected seconds of the next request, were the level known to be ``mean``.

        What is not known of the level widens the quantiles; it does not make a model that nobody
        has timed slower than what is told of it.
        """
        return math.exp(self.mean + self.noise_variance / 2)

    def aged(self, hours: float, settings: TimesPrior) -> LogTime:
        """After some time without requests: less is known."""
        keep, prior = 0.5 ** (hours / settings.half_life_hours), self.prior
        own = max(self.noise_weight - prior.noise_dof, 0.0)
        return replace(
            self,
            level_variance=min(
                self.level_variance + settings.drift_per_hour * hours,
                max(prior.level, self.level_variance),
            ),
            # What is forgotten of the noise gives way to the prior.
            noise_variance=keep * self.noise_variance + (1 - keep) * prior.noise,
            noise_weight=prior.noise_dof + keep * own,
            lean=keep * self.lean,
        )

    def moved(self, residual: float, total: float, share: float, settings: TimesPrior) -> LogTime:
        """After a request whose log time exceeded the forecast by ``residual``.

        Args:
            residual: Observed minus forecast, in logs.
            total: Variance of that forecast.
            share: Derivative of the forecast by this level: 1 where the time itself was seen.
            settings: Window of what is remembered.
        """
        # Tails are heavier than a log-normal's: a stuck request moves the level by no more than
        # an ordinary one, and must not rule the noise for long.
        reach = FARTHEST_STEP * math.sqrt(total)
        step = max(min(residual, reach), -reach)
        lean = self.lean + LEAN_RATE * share * (step / math.sqrt(total) - self.lean)
        # Errors that go on pointing one way are no noise: the level has changed.
        level = self.level_variance + self.noise_variance * max(lean**2 - STEADY_LEAN**2, 0.0)
        total += (level - self.level_variance) * share**2
        gain = level * share / total
        surprise = min(residual**2, LARGEST_SURPRISE * total)
        weight = min(self.noise_weight + share, settings.window)
        noise = self.noise_variance + (
            share / (self.noise_weight + share) * self.noise_variance * (surprise / total - 1)
        )
        return replace(
            self,
            mean=self.mean + gain * step,
            level_variance=max(level * (1 - gain * share), noise / settings.window),
            noise_variance=noise,
            noise_weight=weight,
            lean=lean,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointTimes:
    """What is known of an endpoint's speed.

    Attributes:
        ttft: Seconds to the first token, at `REFERENCE_INPUT_TOKENS`.
        tpot: Seconds per further token.
        n_seen: Requests it rests on.
    """

    ttft: LogTime
    tpot: LogTime
    n_seen: int = 0

    @classmethod
    def told(
        cls, ttft_s: float, tpot_s: float, *, pooled: bool = False, prior: TimesPrior = PRIOR
    ) -> EndpointTimes:
        """An endpoint of which a table tells the speed.

        Args:
            ttft_s: Average seconds to the first token.
            tpot_s: Average seconds per further token.
            pooled: Whether the figures are those of a class of models, not of this endpoint.
            prior: How far off such figures are.
        """
        return cls(
            ttft=LogTime.told(ttft_s, prior.ttft, pooled=pooled),
            tpot=LogTime.told(tpot_s, prior.tpot, pooled=pooled),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedRequest:
    """A request that was served, as the gateway saw it.

    Attributes:
        output_tokens: Tokens of the answer, at least 1, hidden reasoning included.
        end_to_end_s: Seconds from sending it to the last byte.
        ttft_s: Seconds to the first content; None where it did not stream.
        input_tokens: Tokens of the request.
    """

    output_tokens: float
    end_to_end_s: float
    ttft_s: float | None = None
    input_tokens: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.output_tokens) and self.output_tokens >= 1):
            raise InputError(f"output_tokens is {self.output_tokens!r}; 1 or more is wanted")
        if not (math.isfinite(self.end_to_end_s) and self.end_to_end_s > 0):
            raise InputError(f"end_to_end_s is {self.end_to_end_s!r}; seconds above 0 are wanted")
        if self.ttft_s is not None and not 0 < self.ttft_s <= self.end_to_end_s:
            raise InputError(
                f"ttft_s is {self.ttft_s!r}; seconds above 0 and at most end_to_end_s "
                f"({self.end_to_end_s!r}) are wanted"
            )
        if not (math.isfinite(self.input_tokens) and self.input_tokens >= 0):
            raise InputError(f"input_tokens is {self.input_tokens!r}; 0 or more is wanted")


def prefill_s(input_tokens: float) -> float:
    """Seconds that an input takes beyond one of `REFERENCE_INPUT_TOKENS`."""
    return PREFILL_S_PER_KTOK * max(input_tokens - REFERENCE_INPUT_TOKENS, 0.0) / 1000.0


def observe(
    state: EndpointTimes,
    request: ServedRequest,
    elapsed_s: float = 0.0,
    settings: TimesPrior = PRIOR,
) -> EndpointTimes:
    """What is known after one more request.

    Args:
        state: What was known.
        request: What was seen.
        elapsed_s: Seconds since the last request, over which knowledge went stale.
        settings: Forgetting.

    Raises:
        InputError: ``elapsed_s`` is negative or not finite.
    """
    state = after(state, elapsed_s, settings)
    ttft, tpot = state.ttft, state.tpot
    further, extra = request.output_tokens - 1, prefill_s(request.input_tokens)
    if request.ttft_s is not None:
        first = max(request.ttft_s - extra, LEAST_PREFILL_SHARE * request.ttft_s)
        ttft = _seen(ttft, first, settings)
        rest = request.end_to_end_s - request.ttft_s
        if further >= 1 and rest > 0:
            tpot = _seen(tpot, rest / further, settings)
        return replace(state, ttft=ttft, tpot=tpot, n_seen=state.n_seen + 1)
    whole = max(request.end_to_end_s - extra, LEAST_PREFILL_SHARE * request.end_to_end_s)
    start, write = math.exp(ttft.mean), further * math.exp(tpot.mean)
    share = start / (start + write)
    total = share**2 * (ttft.level_variance + ttft.noise_variance)
    total += (1 - share) ** 2 * (tpot.level_variance + tpot.noise_variance)
    residual = math.log(whole) - math.log(start + write)
    return replace(
        state,
        ttft=ttft.moved(residual, total, share, settings),
        tpot=tpot.moved(residual, total, 1 - share, settings),
        n_seen=state.n_seen + 1,
    )


def after(state: EndpointTimes, elapsed_s: float, settings: TimesPrior = PRIOR) -> EndpointTimes:
    """What is still known after some time without requests.

    Raises:
        InputError: ``elapsed_s`` is negative or not finite.
    """
    if not (math.isfinite(elapsed_s) and elapsed_s >= 0):
        raise InputError(f"elapsed_s is {elapsed_s!r}; seconds >= 0 are wanted")
    if elapsed_s == 0:
        return state
    hours = elapsed_s / 3600.0
    return replace(
        state, ttft=state.ttft.aged(hours, settings), tpot=state.tpot.aged(hours, settings)
    )


def _seen(time: LogTime, seconds: float, settings: TimesPrior) -> LogTime:
    residual = math.log(max(seconds, SHORTEST_S)) - time.mean
    return time.moved(residual, time.level_variance + time.noise_variance, 1.0, settings)


# -- quantiles of a latency -----------------------------------------------------------------------

_ROOT3 = math.sqrt(3.0)
# Gauss-Hermite with three nodes a side: exact for polynomials of degree five.
_NODES = np.array([-_ROOT3, 0.0, _ROOT3])
_WEIGHTS = np.outer([1 / 6, 2 / 3, 1 / 6], [1 / 6, 2 / 3, 1 / 6]).ravel()  # (9,)
_FARTHEST = 7.0  # logs of the ratio of the two parts; beyond, the larger one is the sum
_STEP = 0.125
_BLOCK = 1 << 16  # pairs at a time: bounded memory, and what is worked on stays in the cache


def sum_quantile(
    q: float,
    ttft_median_s: FloatArray,
    ttft_sd: FloatArray,
    writing_median_s: FloatArray,
    writing_sd: FloatArray,
) -> Float64Array:
    """The ``q``-quantile of TTFT + (L - 1) TPOT, elementwise, as `LatencyTable` tabulates it.

    The sum of two log-normals has no closed form. The log of the sum is described by its first
    three moments (nine Gauss-Hermite points) and its quantile by the Cornish-Fisher expansion:
    against 10^6 draws within 2.4% at the median and 5% at the 95th percentile for standard
    deviations of .2 to .9 and .3 to 1.4 (a Fenton-Wilkinson fit is off by 17% and 27%).

    Args:
        q: Between 0 and 1.
        ttft_median_s: Median seconds to the first token.
        ttft_sd: Standard deviation of its log.
        writing_median_s: Median seconds from the first token to the last.
        writing_sd: Standard deviation of their log.
    """
    z = normal_quantile(q)
    first = np.asarray(ttft_median_s)[..., None] * np.exp(np.asarray(ttft_sd)[..., None] * _NODES)
    write = np.asarray(writing_median_s)[..., None]
    rest = write * np.exp(np.asarray(writing_sd)[..., None] * _NODES)
    sums = first[..., :, None] + rest[..., None, :]
    logs = np.log(sums).reshape(*sums.shape[:-2], len(_WEIGHTS))
    mean = logs @ _WEIGHTS
    away = logs - mean[..., None]
    sd = np.sqrt(np.maximum(np.square(away) @ _WEIGHTS, 1e-18))
    skew = (away**3 @ _WEIGHTS) / sd**3
    out: Float64Array = np.exp(mean + sd * (z + (z * z - 1) * skew / 6))
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class LatencyTable:
    """Quantiles of the latencies of M models, tabulated once for their standard deviations.

    The log of the quantile, less the log of the TTFT's median, depends on the log of the ratio of
    the two medians alone; it is tabulated in steps of 1/8 and read off linearly (within 0.1%).

    Attributes:
        excess: (M, G) that log at the steps between -7 and 7.
    """

    excess: Float64Array

    @classmethod
    def of(cls, q: float, ttft_sd: Float64Array, writing_sd: Float64Array) -> LatencyTable:
        """Tabulate the ``q``-quantile for standard deviations (M,) of the logs."""
        n = round(2 * _FARTHEST / _STEP) + 1
        ratio = np.exp(np.linspace(-_FARTHEST, _FARTHEST, n))
        one = np.ones((len(ttft_sd), n))
        found = sum_quantile(q, one, ttft_sd[:, None], one * ratio, writing_sd[:, None])
        return cls(excess=np.log(found))

    def quantile(self, ttft_median_s: FloatArray, writing_median_s: FloatArray) -> Float64Array:
        """(N, M) seconds from medians (M,) or (N, M) of TTFT and (N, M) of writing."""
        start: FloatArray = np.maximum(ttft_median_s, SHORTEST_S)
        out: Float64Array = np.empty(writing_median_s.shape)
        step = max(_BLOCK // max(len(self.excess), 1), 1)
        for i in range(0, len(out), step):
            rows = slice(i, i + step)
            begun = start if start.ndim == 1 else start[rows]
            out[rows] = begun * self._factor(np.maximum(writing_median_s[rows], SHORTEST_S) / begun)
        return out

    def _factor(self, ratio: Float64Array) -> Float64Array:
        """(n, M) the quantile over the median of TTFT, for ratios of the medians (n, M)."""
        at = np.log(ratio, out=ratio)
        beyond = np.maximum(at - _FARTHEST, 0.0)
        at += _FARTHEST
        at *= 1 / _STEP
        n = self.excess.shape[1]
        np.clip(at, 0.0, n - 1.001, out=at)
        below = at.astype(np.int64)
        at -= below
        below += np.arange(len(self.excess)) * n
        flat = self.excess.ravel()
        low = flat[below]
        below += 1
        low += at * (flat[below] - low)
        low += beyond
        return np.exp(low, out=low)
