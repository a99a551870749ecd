r"""Learning while serving: scores, lengths and times in, a better picture of the models out.

Pure: a state and an event make the next state. What is learned lies on top of a space, which
itself never changes:

- **Ability.** A score y in [0, 1] for an answer of model u to prompt i is one look at the logit
  :math:`\eta = a_i \theta_u + \psi_i w_u + d_i + \omega_i \delta`. All that is uncertain enters
  through this one number, whose variance before the look is

  .. math:: s = a^T S_u a + \lambda_u |\psi|^2 + \sum_p \omega_p^2 v_p .

  Its mode :math:`\eta^*` under the Bernoulli likelihood (attenuated by the item's own effect, as
  in `irt.ability`) is found in one dimension; the Laplace approximation of the whole state is
  then a rank-one step: every part moves by its covariance with :math:`\eta` times
  :math:`(\eta^* - \hat\eta) / s`, and loses variance by the Fisher information at the mode. It is
  the iterated extended Kalman filter of a logistic observation (Fahrmeir & Kaufmann 1991), exact
  in its direction. Covariances *between* parts are dropped after each step (assumed density).
- **Difficulty of a neighbourhood.** :math:`\delta` holds a shift per prototype of
  `predict.neighbours`, shared by all models: where one fails beyond what its ability explains, all
  are expected to do worse on such prompts. :math:`\omega` is a compact kernel of the
  similarity to the prototypes, of unit length, so that distant prompts share nothing at all. How a
  failure is divided between ability and difficulty follows from what is less certain.
- **Lengths and times**: log-normal levels with forgetting, see `predict.serving_times`.

**Forgetting.** Before each step the information of what is touched decays by 1 - 1/window towards
what the population tells; means stay. So information is bounded, and a model that changed is
learned anew within about a window. **Drift** is raised by two CUSUMs of the predictive
log-likelihood ratio against a logit that is `alternative` higher or lower (Page 1954); it also
drops most of the model's information, so that the next scores count for much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from zerorouter.arrays import Float64Array, FloatArray
from zerorouter.errors import CorruptArtifactError, InputError
from zerorouter.irt.model import Abilities, Panel
from zerorouter.predict.serving_times import (
    EndpointTimes,
    LogTime,
    ServedRequest,
    Spread,
    TimesPrior,
    observe,
)
from zerorouter.routing.estimates import Pool
from zerorouter.space import LatentSpace, Shifts

Direction: TypeAlias = Literal["worse", "better"]

FORMAT: Final = "zerorouter-learned"
FORMAT_VERSION: Final = 1
LEAST_VARIANCE: Final = 1e-9
_STEPS: Final = 30
_FARTHEST: Final = 4.0  # logits that one step of the search may go
_LARGEST_LOGIT: Final = 30.0
_LENGTH_LEVEL: Final = 0.04  # variance of a known model's length level: its traffic may differ
_MOST_UPSTREAMS: Final = 16  # whose times are kept for a model


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """How fast is learned and forgotten.

    Attributes:
        window: Scores of a model that its ability rests on at most, give or take.
        neighbour_window: Scores in a neighbourhood that its shift rests on at most.
        weight: What one score counts; below 1 where scores are noisy.
        alternative: Logits by which drift is expected to move a model.
        threshold: Of the log-likelihood ratio at which drift is raised; exp of it is a lower
            bound of the mean number of scores between false alarms (Lorden 1971).
        kept_at_drift: Share of a model's information that outlives a drift.
        length_window: Answers that a length level rests on at most.
    """

    window: float = 500.0
    neighbour_window: float = 500.0
    weight: float = 1.0
    alternative: float = 1.0
    threshold: float = 7.0
    kept_at_drift: float = 0.1
    length_window: float = 200.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 2.0 if one.name.endswith("window") else 0.0
            if not (math.isfinite(value) and value >= least):
                raise InputError(f"{one.name} is {value!r}; a number >= {least:g} is wanted")


DEFAULTS: Final = LearningSettings()


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class ItemReading:
    """A prompt as the space reads it, before anything learned is added.

    Attributes:
        discrimination: (K,)
        intercept: Without the shift of its neighbourhood.
        guessing: Floor of P(correct).
        effect_scale: Multiplies the space's effect covariance.
        shift_variance: Of the error that prompts like this share, before anything is learned.
        facets: (R,), or None.
        similarity: (P,) cosines to the prototypes.
    """

    discrimination: FloatArray
    intercept: float
    guessing: float
    effect_scale: float
    shift_variance: float
    facets: FloatArray | None
    similarity: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A model that answers otherwise than it did.

    Attributes:
        direction: Which way.
        at_s: When it was raised, seconds since 1970.
        n_scores: Of the model until then.
    """

    direction: Direction
    at_s: float
    n_scores: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenEndpoint:
    """How fast one upstream serves a model.

    Attributes:
        times: What is known.
        at_s: When it was last seen, seconds since 1970.
    """

    times: EndpointTimes
    at_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelState:
    """What serving has taught of one model.

    Attributes:
        base: (K,) ability in the space when learning began; another one starts anew.
        mean: (K,)
        covariance: (K, K)
        leanings: (R,), or None.
        leaning_variance: Mean variance of a leaning.
        n_scores: Scores taken.
        log_loss: Mean log-loss of the forecasts, over about a window.
        worse: CUSUM against a logit that is lower.
        better: CUSUM against one that is higher.
        drift: Raised and not yet answered.
        length: Log length beyond the space's forecast.
        n_lengths: Answers whose length was taken.
        endpoints: Upstream -> its times.
    """

    base: Float64Array
    mean: Float64Array
    covariance: Float64Array
    leanings: Float64Array | None
    leaning_variance: float
    n_scores: int
    log_loss: float
    worse: float
    better: float
    drift: Drift | None
    length: LogTime
    n_lengths: int
    endpoints: Mapping[str, SeenEndpoint]

    @property
    def sd(self) -> Float64Array:
        """(K,) standard errors of the ability."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))

    @property
    def length_factor(self) -> float:
        """How much longer its answers are than the space forecasts."""
        return math.exp(self.length.mean)


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedState:
    """All that serving has taught, on top of one space.

    Attributes:
        space_version: The space's.
        version: Counts publications; 0 where nothing was learned yet.
        models: Name -> what is known of it.
        shift: (P,) change of the intercept near each prototype.
        variance: (P,) of the shifts.
        n_scores: Scores taken, of all models.
        note: Why this version was made, where it was not by learning.
    """

    space_version: str
    version: int
    models: Mapping[str, ModelState]
    shift: Float64Array
    variance: Float64Array
    n_scores: int = 0
    note: str = ""

    @property
    def drifted(self) -> dict[str, Drift]:
        """Models whose drift was raised and not yet answered."""
        return {name: m.drift for name, m in self.models.items() if m.drift is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Surprise:
    """How a score compared with the forecast.

    Attributes:
        p: P(correct) that was forecast.
        log_loss: Of the score.
        drift: Raised by this score.
    """

    p: float
    log_loss: float
    drift: Drift | None


class Ground:
    """What of a space learning starts from.

    Args:
        space: With the profiles that are in force.

    Attributes:
        space: The space.
        near_variance: Prior variance of a prompt's shift by its neighbourhood.
    """

    def __init__(self, space: LatentSpace) -> None:
        self.space = space
        self.near_variance = float(space.predictor.shift_variance[0])
        self.n_prototypes = len(space.predictor.prototypes.centroids)
        self._index = {name: i for i, name in enumerate(space.respondents)}
        self._population = space.population.covariance.astype(np.float64)
        self._effect = space.predictor.effect_covariance.astype(np.float64)
        # `np.median` would import numpy.ma.
        sd = space.styles.sd
        self._usual_length_sd = float(np.quantile(sd, 0.5)) if len(sd) else 0.5

    def __contains__(self, model: object) -> bool:
        return model in self._index

    def start(self) -> LearnedState:
        """Nothing learned."""
        return LearnedState(
            space_version=self.space.version,
            version=0,
            models=MappingProxyType({}),
            shift=np.zeros(self.n_prototypes),
            variance=np.full(self.n_prototypes, self.near_variance),
        )

    def model(self, name: str) -> ModelState:
        """A model as the space has it."""
        at = self._index[name]
        abilities = self.space.abilities
        mean = abilities.mean[at].astype(np.float64)
        leanings, variance = abilities.leanings, abilities.leaning_variance
        sd, usual = float(self.space.styles.sd[at]), self._usual_length_sd
        spread = Spread(
            level=max(sd**2 - usual**2, _LENGTH_LEVEL),
            pooled=max(sd**2 - usual**2, _LENGTH_LEVEL),
            noise=max(min(sd, usual) ** 2, 1e-4),
            noise_dof=8.0,
        )
        return ModelState(
            base=mean,
            mean=mean,
            covariance=abilities.covariance[at].astype(np.float64),
            leanings=None if leanings is None else leanings[at].astype(np.float64),
            leaning_variance=0.0 if variance is None else float(variance[at]),
            n_scores=0,
            log_loss=0.0,
            worse=0.0,
            better=0.0,
            drift=None,
            length=LogTime(
                mean=0.0,
                level_variance=spread.level,
                noise_variance=spread.noise,
                noise_weight=spread.noise_dof,
                prior=spread,
            ),
            n_lengths=0,
            endpoints=MappingProxyType({}),
        )

    def current(self, state: LearnedState) -> LearnedState:
        """The state without what was learned on top of another space, or of earlier profiles."""
        if (
            state.space_version != self.space.version
            or len(state.shift) != self.n_prototypes
            or not np.isfinite(state.shift).all()
        ):
            return replace(self.start(), version=state.version, note="the space is another one")
        kept = {n: m for n, m in state.models.items() if n in self and self._holds(n, m)}
        if len(kept) == len(state.models):
            return state
        return replace(state, models=MappingProxyType(kept))

    def weakest(self, name: str) -> Float64Array:
        """(K, K) information that is left of a model when all was forgotten."""
        covariance = self.space.abilities.covariance[self._index[name]].astype(np.float64)
        return _inverse(self._population + covariance)

    def effect_variance(self, item: ItemReading, ability: Float64Array) -> float:
        """Variance of the logit from one prompt to the next like it."""
        extended = np.append(ability, 1.0)
        near = item.effect_scale * float(extended @ self._effect @ extended)
        return max(near, 0.0) + max(item.shift_variance - self.near_variance, 0.0)

    def kernel(self, similarity: FloatArray) -> Float64Array:
        """(P,) weights of the prototypes' shifts for a prompt; unit length."""
        return Shifts.kernel(similarity).astype(np.float64)

    def _holds(self, name: str, model: ModelState) -> bool:
        own = self.space.abilities.mean[self._index[name]]
        return model.base.shape == own.shape and bool(np.allclose(model.base, own, atol=1e-5))


# -- scores ----------------------------------------------------------------------------------------


def take_score(
    state: LearnedState,
    ground: Ground,
    model: str,
    item: ItemReading,
    score: float,
    *,
    at_s: float = 0.0,
    settings: LearningSettings = DEFAULTS,
) -> tuple[LearnedState, Surprise]:
    """What is known after one more score.

    Args:
        state: What was known.
        ground: What it rests on.
        model: Who answered.
        item: The prompt.
        score: In [0, 1].
        at_s: Now, seconds since 1970; stands in a drift that is raised.
        settings: Pace.

    Raises:
        InputError: the score is out of range, the item is not finite, or the space does not know
            the model.
    """
    if not (math.isfinite(score) and 0.0 <= score <= 1.0):
        raise InputError(f"a score of {score!r}; a number from 0 to 1 is wanted")
    if model not in ground:
        raise InputError(f"{model!r} has no place in the space; onboard it first")
    if not (np.isfinite(item.discrimination).all() and math.isfinite(item.intercept)):
        raise InputError("the item's parameters are not finite; the decision cannot be learned of")
    known = state.models.get(model) or ground.model(model)
    weights = ground.kernel(item.similarity)
    near = np.flatnonzero(weights)
    omega = weights[near]
    a = np.asarray(item.discrimination, dtype=np.float64)
    facets = None
    if item.facets is not None and known.leanings is not None:
        facets = np.asarray(item.facets, dtype=np.float64)

    covariance = _forgotten(known.covariance, ground.weakest(model), 1 / settings.window)
    lean = known.leaning_variance
    variance = state.variance[near]
    if ground.near_variance > 0:
        fade = omega**2 / settings.neighbour_window
        variance = 1 / ((1 - fade) / variance + fade / ground.near_variance)

    along = covariance @ a  # (K,) covariance of the ability with the logit
    length = 0.0 if facets is None else float(facets @ facets)
    spread = float(a @ along) + lean * length + float(omega**2 @ variance)
    logit = float(a @ known.mean) + item.intercept + float(omega @ state.shift[near])
    if facets is not None and known.leanings is not None:
        logit += float(facets @ known.leanings)
    effect = ground.effect_variance(item, known.mean)
    floor = min(max(item.guessing, 0.0), 0.999)

    logit = max(min(logit, _LARGEST_LOGIT), -_LARGEST_LOGIT)
    forecast = logit / math.sqrt(1 + math.pi / 8 * (effect + spread))
    p = _response(forecast, floor)
    loss = _log_loss(p, score)
    look = _Look(
        score=score,
        floor=floor,
        damping=1 / math.sqrt(1 + math.pi / 8 * effect),
        weight=settings.weight,
    )
    mode, information = look.mode(logit, spread)
    step = (mode - logit) / max(spread, LEAST_VARIANCE)
    shrink = information / (1 + spread * information)

    ratio_down = loss - _log_loss(_response(forecast - settings.alternative, floor), score)
    ratio_up = loss - _log_loss(_response(forecast + settings.alternative, floor), score)
    worse, better = max(known.worse + ratio_down, 0.0), max(known.better + ratio_up, 0.0)
    n = known.n_scores + 1
    raised: Drift | None = None
    covariance = covariance - shrink * np.outer(along, along)
    if max(worse, better) > settings.threshold:
        raised = Drift(direction="worse" if worse > better else "better", at_s=at_s, n_scores=n)
        worse = better = 0.0
        covariance = _forgotten(covariance, ground.weakest(model), 1 - settings.kept_at_drift)

    leanings = known.leanings
    if facets is not None and leanings is not None:
        leanings = leanings + lean * step * facets
        lean = max(lean - shrink * lean**2 * length / len(facets), LEAST_VARIANCE)
    learned = replace(
        known,
        mean=known.mean + step * along,
        covariance=(covariance + covariance.T) / 2,
        leanings=leanings,
        leaning_variance=lean,
        n_scores=n,
        log_loss=known.log_loss + (loss - known.log_loss) / min(n, settings.window),
        worse=worse,
        better=better,
        drift=raised or known.drift,
    )
    shift, all_variance = state.shift.copy(), state.variance.copy()
    shift[near] += step * omega * variance
    all_variance[near] = np.maximum(variance - shrink * (omega * variance) ** 2, LEAST_VARIANCE)
    after = replace(
        state,
        models=MappingProxyType({**state.models, model: learned}),
        shift=shift,
        variance=all_variance,
        n_scores=state.n_scores + 1,
    )
    return after, Surprise(p=p, log_loss=loss, drift=raised)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """The likelihood of one score as a function of the logit."""

    score: float
    floor: float
    damping: float
    weight: float

    def mode(self, centre: float, variance: float) -> tuple[float, float]:
        """Most likely logit under N(centre, variance), and the Fisher information there."""
        if variance <= LEAST_VARIANCE:
            return centre, 0.0
        at = centre
        for _ in range(_STEPS):
            force, information = self._derivatives(at)
            step = (force - (at - centre) / variance) / (information + 1 / variance)
            step = max(min(step, _FARTHEST), -_FARTHEST)
            at += step
            if abs(step) < 1e-9:
                break
        return at, self._derivatives(at)[1]

    def _derivatives(self, logit: float) -> tuple[float, float]:
        sigma = _sigmoid(self.damping * logit)
        p = min(max(self.floor + (1 - self.floor) * sigma, 1e-12), 1 - 1e-12)
        rise = (1 - self.floor) * sigma * (1 - sigma) * self.damping
        scale = self.weight / (p * (1 - p))
        return (self.score - p) * rise * scale, rise * rise * scale


def answered(state: LearnedState, model: str) -> LearnedState:
    """The state without the model's drift: somebody has looked after it."""
    known = state.models.get(model)
    if known is None or known.drift is None:
        return state
    return _with(state, model, replace(known, drift=None, worse=0.0, better=0.0))


def forgotten(state: LearnedState, model: str) -> LearnedState:
    """The state without anything that was learned of a model."""
    return replace(
        state,
        models=MappingProxyType({name: m for name, m in state.models.items() if name != model}),
    )


# -- lengths and times -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """An answer as the gateway saw it.

    Attributes:
        upstream: That served it.
        request: Tokens and seconds; None where they tell nothing.
        log_ratio: Log of its output tokens over the median that the *space* forecasts; None where
            nothing was forecast.
        at_s: When, seconds since 1970.
    """

    upstream: str
    request: ServedRequest | None
    log_ratio: float | None
    at_s: float


def take_served(
    state: LearnedState,
    ground: Ground,
    model: str,
    served: Served,
    *,
    told: EndpointTimes | None = None,
    settings: LearningSettings = DEFAULTS,
) -> LearnedState:
    """What is known after one more answer.

    Args:
        state: What was known.
        ground: What it rests on.
        model: Who answered; one that the space does not know is passed over.
        served: The answer.
        told: What is known of the endpoint before it was seen; None to leave times alone.
        settings: Pace.
    """
    if model not in ground:
        return state
    known = state.models.get(model) or ground.model(model)
    length, n_lengths = known.length, known.n_lengths
    if served.log_ratio is not None and math.isfinite(served.log_ratio):
        length = length.moved(
            served.log_ratio - length.mean,
            length.level_variance + length.noise_variance,
            1.0,
            _length_prior(length, settings),
        )
        n_lengths += 1
    endpoints = known.endpoints
    if served.request is not None and told is not None:
        before = endpoints.get(served.upstream) or SeenEndpoint(times=told, at_s=served.at_s)
        elapsed = max(served.at_s - before.at_s, 0.0)
        seen = SeenEndpoint(times=observe(before.times, served.request, elapsed), at_s=served.at_s)
        if served.upstream in endpoints or len(endpoints) < _MOST_UPSTREAMS:
            endpoints = MappingProxyType({**endpoints, served.upstream: seen})
    return _with(
        state, model, replace(known, length=length, n_lengths=n_lengths, endpoints=endpoints)
    )


def _length_prior(length: LogTime, settings: LearningSettings) -> TimesPrior:
    return TimesPrior(
        ttft=length.prior,
        tpot=length.prior,
        drift_per_hour=0.0,
        half_life_hours=1.0,
        window=settings.length_window,
    )


# -- onto a pool -----------------------------------------------------------------------------------


def applied(
    pool: Pool,
    space: LatentSpace,
    learned: LearnedState,
    upstreams: Mapping[str, str] = MappingProxyType({}),
) -> Pool:
    """The pool with what was learned of its models.

    Args:
        pool: As the space and the catalog have it.
        space: Where it stands.
        learned: What was learned on top of that space.
        upstreams: Model -> upstream whose times count; by default the one seen last.
    """
    at = space.index(pool.models)
    own = space.abilities.take(at)
    mean, covariance = own.mean.copy(), own.covariance.copy()
    leanings = None if own.leanings is None else own.leanings.copy()
    variance = None if own.leaning_variance is None else own.leaning_variance.copy()
    lengths = pool.lengths
    offset = lengths.offset.copy()
    sd = None if lengths.sd is None else lengths.sd.copy()
    times: dict[str, EndpointTimes] = {}
    for j, name in enumerate(pool.models):
        known = learned.models.get(name)
        if known is None:
            continue
        mean[j], covariance[j] = known.mean, known.covariance
        if leanings is not None and variance is not None and known.leanings is not None:
            leanings[j], variance[j] = known.leanings, known.leaning_variance
        if known.n_lengths:
            offset[j] += known.length.mean
            if sd is not None:
                sd[j] = known.length.sd
        if known.endpoints:
            seen = known.endpoints.get(upstreams.get(name, "")) or max(
                known.endpoints.values(), key=lambda one: one.at_s
            )
            times[name] = seen.times
    abilities = Abilities(
        mean=mean, covariance=covariance, leanings=leanings, leaning_variance=variance
    )
    return replace(
        pool,
        panel=Panel.of(abilities, space.predictor.effect_covariance),
        lengths=replace(lengths, offset=offset, sd=sd),
        times=tuple(times.get(n, old) for n, old in zip(pool.models, pool.times, strict=True)),
    )


def shifts_of(learned: LearnedState, space: LatentSpace) -> Shifts | None:
    """What was learned of neighbourhoods, as the reader applies it; None for nothing."""
    if not learned.shift.any():
        return None
    return Shifts(
        shift=learned.shift.astype(np.float32),
        variance=learned.variance.astype(np.float32),
        prior_variance=float(space.predictor.shift_variance[0]),
    )


def length_shift(learned: LearnedState | None, model: str) -> float:
    """What `applied` adds to the model's log length."""
    known = None if learned is None else learned.models.get(model)
    return 0.0 if known is None or not known.n_lengths else known.length.mean


# -- the form on disk ------------------------------------------------------------------------------


def to_dict(state: LearnedState) -> dict[str, Any]:
    """The state in plain JSON values."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "space": state.space_version,
        "version": state.version,
        "n_scores": state.n_scores,
        "note": state.note,
        "shift": state.shift.tolist(),
        "variance": state.variance.tolist(),
        "models": {name: _model_to_dict(m) for name, m in sorted(state.models.items())},
    }


def from_dict(table: Any, *, where: str = "learned state") -> LearnedState:
    """A state from its JSON values.

    Raises:
        CorruptArtifactError: it is damaged, or of another format.
    """
    try:
        if table["format"] != FORMAT or table["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {table['format']!r} {table['format_version']!r}")
        state = LearnedState(
            space_version=str(table["space"]),
            version=int(table["version"]),
            n_scores=int(table["n_scores"]),
            note=str(table["note"]),
            shift=np.array(table["shift"], dtype=np.float64),
            variance=np.array(table["variance"], dtype=np.float64),
            models=MappingProxyType(
                {str(name): _model_from_dict(row) for name, row in table["models"].items()}
            ),
        )
        if state.shift.ndim != 1 or state.shift.shape != state.variance.shape:
            raise ValueError("shifts and variances differ in shape")
        if not (np.isfinite(state.shift).all() and (state.variance > 0).all()):
            raise ValueError("a shift is not finite, or a variance not positive")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptArtifactError(
            f"{where} is damaged or of another version ({type(error).__name__}: {error}); remove "
            "it to start from the space, or go back to an earlier version"
        ) from error
    return state


def _model_to_dict(model: ModelState) -> dict[str, Any]:
    drift = model.drift
    return {
        "base": model.base.tolist(),
        "mean": model.mean.tolist(),
        "covariance": model.covariance.tolist(),
        "leanings": None if model.leanings is None else model.leanings.tolist(),
        "leaning_variance": model.leaning_variance,
        "n_scores": model.n_scores,
        "log_loss": model.log_loss,
        "worse": model.worse,
        "better": model.better,
        "drift": None
        if drift is None
        else {"direction": drift.direction, "at_s": drift.at_s, "n_scores": drift.n_scores},
        "length": _time_to_dict(model.length),
        "n_lengths": model.n_lengths,
        "endpoints": {
            name: {
                "ttft": _time_to_dict(one.times.ttft),
                "tpot": _time_to_dict(one.times.tpot),
                "n_seen": one.times.n_seen,
                "at_s": one.at_s,
            }
            for name, one in sorted(model.endpoints.items())
        },
    }


def _model_from_dict(row: Mapping[str, Any]) -> ModelState:
    mean = np.array(row["mean"], dtype=np.float64)
    covariance = np.array(row["covariance"], dtype=np.float64)
    if covariance.shape != (len(mean), len(mean)) or not (
        np.isfinite(mean).all() and np.isfinite(covariance).all()
    ):
        raise ValueError(f"an ability of {len(mean)} with a covariance of {covariance.shape}")
    drift = row["drift"]
    return ModelState(
        base=np.array(row["base"], dtype=np.float64),
        mean=mean,
        covariance=covariance,
        leanings=None if row["leanings"] is None else np.array(row["leanings"], dtype=np.float64),
        leaning_variance=float(row["leaning_variance"]),
        n_scores=int(row["n_scores"]),
        log_loss=float(row["log_loss"]),
        worse=float(row["worse"]),
        better=float(row["better"]),
        drift=None if drift is None else Drift(**drift),
        length=_time_from_dict(row["length"]),
        n_lengths=int(row["n_lengths"]),
        endpoints=MappingProxyType(
            {
                str(name): SeenEndpoint(
                    times=EndpointTimes(
                        ttft=_time_from_dict(one["ttft"]),
                        tpot=_time_from_dict(one["tpot"]),
                        n_seen=int(one["n_seen"]),
                    ),
                    at_s=float(one["at_s"]),
                )
                for name, one in row["endpoints"].items()
            }
        ),
    )


def _time_to_dict(time: LogTime) -> dict[str, Any]:
    prior = time.prior
    return {
        "mean": time.mean,
        "level_variance": time.level_variance,
        "noise_variance": time.noise_variance,
        "noise_weight": time.noise_weight,
        "lean": time.lean,
        "prior": [prior.level, prior.pooled, prior.noise, prior.noise_dof],
    }


def _time_from_dict(row: Mapping[str, Any]) -> LogTime:
    level, pooled, noise, dof = (float(x) for x in row["prior"])
    return LogTime(
        mean=float(row["mean"]),
        level_variance=float(row["level_variance"]),
        noise_variance=float(row["noise_variance"]),
        noise_weight=float(row["noise_weight"]),
        lean=float(row["lean"]),
        prior=Spread(level=level, pooled=pooled, noise=noise, noise_dof=dof),
    )


# -- small things ----------------------------------------------------------------------------------


def _with(state: LearnedState, name: str, model: ModelState) -> LearnedState:
    return replace(state, models=MappingProxyType({**state.models, name: model}))


def _forgotten(covariance: Float64Array, weakest: Float64Array, share: float) -> Float64Array:
    """A covariance after ``share`` of its information has given way to the weakest there is."""
    return _inverse((1 - share) * _inverse(covariance) + share * weakest)


def _inverse(matrix: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(0.5 * x)


def _response(logit: float, floor: float) -> float:
    return min(max(floor + (1 - floor) * _sigmoid(logit), 1e-6), 1 - 1e-6)


def _log_loss(p: float, score: float) -> float:
    return -(score * math.log(p) + (1 - score) * math.log1p(-p))
