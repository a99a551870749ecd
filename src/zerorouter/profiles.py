"""Profiles: what was learned of a model that joined after the space was fitted.

A profile is one small JSON file under ``ZEROROUTER_HOME/profiles``: where the model stands, how
certain that is, what it costs, how long and how fast it answers, and the evidence all of this rests
on, answer by answer. The evidence makes a later step exact (see `onboarding.evidence`) and lets a
profile follow when the space is refitted. Prompts are named, never quoted. Keys are sorted,
numbers rounded and every answer has a line of its own, so that versions compare line by line.

    store = ProfileStore.default()
    joined = join(space, catalog, store.load_all())   # what `Router.load` does
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from zerorouter.arrays import Float64Array
from zerorouter.catalog import Catalog, ModelSpec
from zerorouter.errors import (
    ArtifactError,
    CorruptArtifactError,
    InputError,
    NewerArtifactError,
    UnknownNameError,
)
from zerorouter.irt.model import Abilities
from zerorouter.linking import RespondentCard, load_aliases
from zerorouter.onboarding.evidence import (
    Answer,
    Placement,
    PredictedItem,
    ReportedScore,
    Source,
    Summary,
    calibrated_index,
    covered_kinds,
    place,
    prefix_of,
    prior_of,
)
from zerorouter.onboarding.outlook import Outlook, Targets, outlook
from zerorouter.paths import home_dir
from zerorouter.predict.serving_times import EndpointTimes, ServedRequest, observe
from zerorouter.predict.tokens import (
    LEAST_STRETCH,
    LengthPosterior,
    LengthPrior,
    length_posterior,
)
from zerorouter.routing.estimates import DEFAULT_TPOT_S, DEFAULT_TTFT_S, FARTHEST_DIFFICULTY
from zerorouter.space import LatentSpace

FORMAT = "zerorouter-profile"
FORMAT_VERSION = 1
FOLDER = "profiles"


@dataclass(frozen=True, kw_only=True)
class AnswerLengths:
    """How long a model's answers are, as `space.AnswerStyle` has it for one respondent.

    Attributes:
        offset: Log length relative to the shared level.
        offset_sd: Its standard error.
        slope: Change per unit of standardised difficulty.
        stretch: Change per unit by which the level exceeds the pivot.
        pivot: The level at which the stretch changes nothing.
        sd: Standard deviation of the log length of an unseen prompt.
        n: Answers it rests on.
    """

    offset: float
    offset_sd: float
    slope: float
    stretch: float
    pivot: float
    sd: float
    n: int

    @property
    def smear(self) -> float:
        """Log of the mean length over the median."""
        return self.sd**2 / 2


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast an endpoint answers.

    Attributes:
        ttft_s: Expected seconds to the first token.
        tpot_s: Expected seconds per further token.
        n: Requests it rests on.
    """

    ttft_s: float
    tpot_s: float
    n: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Profile:
    """What is known of one model.

    Attributes:
        card: Name, family, price and all else that was told of it.
        space_version: The space in which ``ability`` is told.
        date: ``YYYY-MM-DD`` of the last step.
        ability: (K,) posterior mean.
        covariance: (K, K) posterior covariance.
        leanings: (R,) along the facets of prompts; None where nothing is known of them.
        leaning_variance: Mean variance of a leaning.
        lengths: Of its answers.
        speed: Of its endpoint; None where nobody has timed it.
        predictive_sd: Root mean square standard error of P(correct) over reference prompts.
        probation: Whether it is to be chosen on a lower confidence bound.
        expected_accuracy: Kind of prompts -> mean and bounds of its 90% interval.
        sources: The evidence, sorted by id.
        warnings: What looked wrong.
    """

    card: ModelSpec
    space_version: str
    date: str
    ability: Float64Array
    covariance: Float64Array
    leanings: Float64Array | None
    leaning_variance: float
    lengths: AnswerLengths
    speed: Speed | None
    predictive_sd: float
    probation: bool
    expected_accuracy: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def ability_sd(self) -> Float64Array:
        """(K,) standard errors."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def n_answers(self) -> int:
        """Answers it rests on, of all sources."""
        return sum(source.n_answers for source in self.sources)

    def to_json(self) -> str:
        """The file's text."""
        return _written(self)

    @classmethod
    def from_json(cls, text: str, *, where: str = "profile") -> Profile:
        """A profile from its text; ``where`` names it in errors.

        Raises:
            CorruptArtifactError: it is damaged or of another format.
            NewerArtifactError: a later version wrote it.
        """
        try:
            table = json.loads(text)
        except ValueError as error:
            raise CorruptArtifactError(f"{where} is not JSON ({error}); {_REMEDY}") from error
        if not isinstance(table, dict) or table.get("format") != FORMAT:
            raise CorruptArtifactError(f"{where} is no model profile; {_REMEDY}")
        version = table.get("version")
        if not isinstance(version, int):
            raise CorruptArtifactError(f"{where} has no version; {_REMEDY}")
        if version > FORMAT_VERSION:
            raise NewerArtifactError(
                f"{where} has format version {version}, this ZeroRouter reads up to "
                f"{FORMAT_VERSION}; upgrade with: pip install -U zerorouter"
            )
        try:
            return _read(table)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptArtifactError(
                f"{where} is incomplete or inconsistent ({type(error).__name__}: {error}); "
                f"{_REMEDY}"
            ) from error


_REMEDY = "restore it, or remove the file and onboard the model again"


# -- making one --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A profile and how it came about.

    Attributes:
        profile: The result.
        placement: Its posterior, the prior, and the counts of answers.
        outlook: What is to be expected of it.
        lengths: Posterior of its answer lengths.
    """

    profile: Profile
    placement: Placement
    outlook: Outlook
    lengths: LengthPosterior


def learned(
    space: LatentSpace,
    card: ModelSpec,
    sources: Sequence[Source],
    *,
    length_prior: LengthPrior,
    targets: Targets,
    date: str,
    earlier: Profile | None = None,
    pool: Abilities | None = None,
    warnings: Sequence[str] = (),
) -> Step:
    """A profile from new evidence and all earlier one; the order of steps does not matter.

    Args:
        space: The space, without profiles.
        card: What is told of the model now.
        sources: New evidence; a source whose id the earlier profile has takes its place.
        length_prior: Of answer lengths in the pool.
        targets: Prompts that the outlook is for.
        date: ``YYYY-MM-DD``.
        earlier: The model's profile so far.
        pool: Abilities of the other models, to rank it among.
        warnings: What looked wrong this time.
    """
    kept = {source.id: source for source in (earlier.sources if earlier else ())}
    kept.update({source.id: source for source in sources})
    evidence = tuple(kept[key] for key in sorted(kept))
    prior = prior_of(space, card_of(card))
    placement = place(space, prior, evidence)
    lengths = answer_lengths(space, card, evidence, length_prior)
    population_sd = np.sqrt(np.diagonal(space.population.covariance)).astype(np.float64)
    seen = outlook(
        placement.posterior,
        placement.abilities,
        targets,
        prior_sd=population_sd,
        covered=covered_kinds(evidence),
        pool=pool,
    )
    profile = Profile(
        card=card,
        space_version=space.version,
        date=date,
        ability=placement.posterior.mean,
        covariance=placement.posterior.covariance,
        **_leanings(placement),
        lengths=AnswerLengths(
            offset=lengths.offset,
            offset_sd=lengths.offset_sd,
            slope=float(lengths.mean[1]),
            stretch=max(float(lengths.mean[2]), LEAST_STRETCH),
            pivot=lengths.pivot,
            sd=lengths.predictive_sd,
            n=lengths.n_outputs,
        ),
        speed=endpoint_speed(card, evidence),
        predictive_sd=seen.predictive_sd,
        probation=seen.on_probation,
        expected_accuracy=seen.expected_accuracy,
        sources=evidence,
        warnings=tuple(warnings),
    )
    return Step(profile=profile, placement=placement, outlook=seen, lengths=lengths)


def _leanings(placement: Placement) -> dict[str, Any]:
    """The two fields of a profile that say how it leans."""
    found = placement.abilities
    if found.leanings is None or found.leaning_variance is None:
        return {"leanings": None, "leaning_variance": 0.0}
    return {
        "leanings": found.leanings[0].astype(np.float64),
        "leaning_variance": float(found.leaning_variance[0]),
    }


def card_of(spec: ModelSpec) -> RespondentCard:
    """A catalog entry as the card that the population prior reads.

    The reviewed card of a respondent that has one fills in what the entry does not tell.
    """
    reviewed = load_aliases().card(spec.name)
    price = spec.price
    return RespondentCard(
        id=spec.name,
        model=spec.name,
        family=spec.family or (reviewed.family if reviewed else ""),
        released=spec.released or (reviewed.released if reviewed else None),
        params_b=spec.params_b or (reviewed.params_b if reviewed else None),
        reasoning=spec.reasoning or bool(reviewed and reviewed.reasoning),
        is_base=bool(reviewed and reviewed.is_base),
        context_tokens=spec.context_tokens or (reviewed.context_tokens if reviewed else None),
        input_usd_per_mtok=price.input_usd_per_mtok if price else None,
        output_usd_per_mtok=price.output_usd_per_mtok if price else None,
        price_kind=price.kind if price else None,
    )


def answer_lengths(
    space: LatentSpace, card: ModelSpec, sources: Sequence[Source], prior: LengthPrior
) -> LengthPosterior:
    """Answer lengths from all answers whose tokens are known."""
    answers = [
        answer
        for source in sources
        for answer in source.answers
        if answer.tokens and answer.log_length is not None
    ]
    answers.sort(key=lambda answer: (answer.key, answer.ref, answer.tokens or 0.0))
    index = calibrated_index(space)
    at = index.find(prefix_of([answer.key for answer in answers]))
    intercepts = [
        float(index.items.intercept[position])
        if position >= 0
        else answer.item.intercept
        if answer.item is not None
        else space.difficulty_scale[0]
        for position, answer in zip(at, answers, strict=True)
    ]
    mean, sd = space.difficulty_scale
    difficulty = (mean - np.array(intercepts)) / sd
    return length_posterior(
        prior,
        np.log([max(answer.tokens or 1.0, 1.0) for answer in answers]),
        np.array([answer.log_length for answer in answers], dtype=np.float64),
        np.clip(difficulty, -FARTHEST_DIFFICULTY, FARTHEST_DIFFICULTY),
        family=card.family,
        reasoning=card.reasoning,
    )


def endpoint_speed(card: ModelSpec, sources: Sequence[Source]) -> Speed | None:
    """Speed of the endpoint from all timed answers; None where there is none."""
    timed = [
        answer
        for source in sources
        for answer in source.answers
        if answer.end_to_end_s and answer.tokens and answer.tokens >= 1
    ]
    if not timed:
        return None
    timed.sort(key=lambda answer: (answer.ref, answer.end_to_end_s or 0.0))
    told = card.ttft_s is not None and card.throughput_tok_s is not None
    state = EndpointTimes.told(
        DEFAULT_TTFT_S if card.ttft_s is None else card.ttft_s,
        1 / card.throughput_tok_s if card.throughput_tok_s else DEFAULT_TPOT_S,
        pooled=not told,
    )
    for answer in timed:
        whole = answer.end_to_end_s or 0.0
        first = answer.ttft_s
        state = observe(
            state,
            ServedRequest(
                output_tokens=answer.tokens or 1.0,
                end_to_end_s=whole,
                ttft_s=first if first is not None and 0 < first <= whole else None,
                input_tokens=answer.input_tokens or 0.0,
            ),
        )
    return Speed(ttft_s=state.ttft.expectation, tpot_s=state.tpot.expectation, n=state.n_seen)


# -- joining the pool --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Joined:
    """A space and a catalog with profiles in them.

    Attributes:
        space: Every profiled model is a respondent.
        catalog: Every profiled model has an entry; those with a price are in the default pool.
        probation: Models to be chosen on a lower confidence bound.
        notes: What a person should know, such as evidence that the space cannot read.
    """

    space: LatentSpace
    catalog: Catalog
    probation: frozenset[str]
    notes: tuple[str, ...]


def join(space: LatentSpace, catalog: Catalog, profiles: Iterable[Profile]) -> Joined:
    """Put profiled models into the pool; a profile stands in for what the space knew of its model.

    A profile made in another version of the space is placed anew from its evidence.
    """
    current = [refitted(profile, space) for profile in profiles]
    if not current:
        return Joined(space=space, catalog=catalog, probation=frozenset(), notes=())
    notes = []
    for profile in current:
        if profile.card.price is None:
            notes.append(
                f"{profile.name} has a profile but no price and stays out of the pool; give one "
                "with 'zerorouter onboard --price-in USD --price-out USD'"
            )
        lost = _lost(profile, space)
        if lost:
            notes.append(
                f"{profile.name}: {lost} of {profile.n_answers} answers were told in another "
                "version of the space and do not count here; onboard it again"
            )
    return Joined(
        space=_with_respondents(space, current),
        catalog=catalog.with_models(_specs(catalog, current)),
        probation=frozenset(profile.name for profile in current if profile.probation),
        notes=tuple(notes),
    )


def refitted(profile: Profile, space: LatentSpace) -> Profile:
    """The profile in the coordinates of ``space``; itself where they are its own."""
    if profile.space_version == space.version and len(profile.ability) == space.n_dims:
        return profile  # a space's version names its bytes: facets are the same, too
    placement = place(space, prior_of(space, card_of(profile.card)), profile.sources)
    return replace(
        profile,
        ability=placement.posterior.mean,
        covariance=placement.posterior.covariance,
        **_leanings(placement),
        space_version=space.version,
        probation=profile.probation or placement.n_dropped > 0,
    )


def _lost(profile: Profile, space: LatentSpace) -> int:
    """Answers of a profile that the space can make nothing of."""
    index = calibrated_index(space)
    lost = 0
    for source in profile.sources:
        if source.space == space.version:
            continue
        at = index.find(prefix_of([answer.key for answer in source.answers]))
        lost += source.n_answers - int(np.sum(at >= 0))
    return lost


def _with_respondents(space: LatentSpace, profiles: Sequence[Profile]) -> LatentSpace:
    names = [*space.respondents]
    at = {name: i for i, name in enumerate(names)}
    for profile in profiles:
        if profile.name not in at:
            at[profile.name] = len(names)
            names.append(profile.name)
    extra, k = len(names) - len(space.respondents), space.n_dims
    own = space.abilities
    mean = np.vstack([own.mean, np.zeros((extra, k), np.float32)])
    covariance = np.concatenate([own.covariance, np.zeros((extra, k, k), np.float32)])
    leanings, variance = own.leanings, own.leaning_variance
    if leanings is not None and variance is not None:
        leanings = np.vstack([leanings, np.zeros((extra, leanings.shape[1]), np.float32)])
        variance = np.append(variance, np.full(extra, space.leaning_variance, np.float32))
    styles = {
        column.name: np.concatenate([values, np.zeros((extra, *values.shape[1:]), np.float32)])
        for column in fields(space.styles)
        if (values := getattr(space.styles, column.name)) is not None
    }
    for profile in profiles:
        row = at[profile.name]
        mean[row], covariance[row] = profile.ability, profile.covariance
        if leanings is not None and variance is not None and profile.leanings is not None:
            leanings[row], variance[row] = profile.leanings, profile.leaning_variance
        for column, values in styles.items():
            # What a profile does not tell, such as leanings of the lengths, is none.
            values[row] = getattr(profile.lengths, column, 0.0)
    return replace(
        space,
        respondents=tuple(names),
        abilities=Abilities(
            mean=mean, covariance=covariance, leanings=leanings, leaning_variance=variance
        ),
        styles=replace(space.styles, **styles),
    )


def _specs(catalog: Catalog, profiles: Sequence[Profile]) -> Iterable[ModelSpec]:
    for profile in profiles:
        spec = profile.card
        if spec.name in catalog:
            # The catalog may have learned since, of prices for one; the profile's own facts win.
            told = {
                column.name: value
                for column in fields(spec)
                if (value := getattr(spec, column.name)) not in (None, "", False, frozenset())
            }
            spec = replace(catalog.get(spec.name), **told)
        if profile.speed is not None:
            spec = replace(
                spec,
                ttft_s=round(profile.speed.ttft_s, 4),
                throughput_tok_s=round(1 / max(profile.speed.tpot_s, 1e-6), 3),
                speed_source=f"measured on {profile.speed.n} requests, {profile.date}",
            )
        yield replace(spec, in_default_pool=spec.price is not None)


# -- files -------------------------------------------------------------------------------------


class ProfileStore:
    """A folder of profiles, one file per model.

    Files are written whole or not at all. `stamp` changes when any of them does, so that a
    server can tell without reading them whether to load anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> ProfileStore:
        """The store under ``ZEROROUTER_HOME``."""
        return cls(home_dir() / FOLDER)

    def path(self, name: str) -> Path:
        """Where the profile of a model stands."""
        if not name.strip():
            raise InputError("a model without a name has no profile")
        quoted = quote(name, safe=" +=,@")
        if quoted.startswith("."):  # hidden files are none of the store's
            quoted = f"%2E{quoted[1:]}"
        return self.folder / f"{quoted}.json"

    def names(self) -> tuple[str, ...]:
        """Models with a profile, sorted."""
        return tuple(sorted(unquote(path.name.removesuffix(".json")) for path in self._files()))

    def load(self, name: str) -> Profile:
        """The profile of a model.

        Raises:
            UnknownNameError: it has none.
            ArtifactError: the file cannot be read.
        """
        path = self.path(name)
        if not path.is_file():
            raise UnknownNameError("profile", name, self.names())
        return _load(path)

    def find(self, name: str) -> Profile | None:
        """The profile of a model, or None."""
        return self.load(name) if self.path(name).is_file() else None

    def load_all(self) -> tuple[Profile, ...]:
        """Every profile, by name.

        Raises:
            ArtifactError: a file cannot be read.
        """
        return tuple(_load(path) for path in self._files())

    def save(self, profile: Profile) -> Path:
        """Write a profile in the place of the model's earlier one.

        Raises:
            ArtifactError: the folder cannot be written.
        """
        path = self.path(profile.name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, fresh = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=self.folder)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(profile.to_json())
                    file.flush()
                    os.fsync(file.fileno())
                Path(fresh).chmod(0o644)
                Path(fresh).replace(path)
            except BaseException:
                Path(fresh).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ArtifactError(
                f"cannot write {path}: {error.strerror or error}; free some space, or choose "
                "another folder with ZEROROUTER_HOME"
            ) from error
        return path

    def remove(self, name: str) -> None:
        """Delete a model's profile.

        Raises:
            UnknownNameError: it has none.
        """
        path = self.path(name)
        if not path.is_file():
            raise UnknownNameError("profile", name, self.names())
        path.unlink()

    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Names, times and sizes of the files."""
        facts = [(path.name, path.stat()) for path in self._files()]
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in facts)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(
            path
            for path in self.folder.iterdir()
            if path.suffix == ".json" and not path.name.startswith(".")
        )


def _load(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptArtifactError(f"{path} cannot be read: {error}; {_REMEDY}") from error
    return Profile.from_json(text, where=str(path))


# -- the form on disk --------------------------------------------------------------------------


def _written(profile: Profile) -> str:
    lengths, speed = profile.lengths, profile.speed
    head: dict[str, Any] = {
        "ability": _rounded(profile.ability, 5),
        "ability_covariance": [_rounded(row, 7) for row in profile.covariance],
        "card": profile.card.to_dict(),
        "date": profile.date,
        "expected_accuracy": {
            name: _rounded(values, 4) for name, values in sorted(profile.expected_accuracy.items())
        },
        "format": FORMAT,
        "leaning_variance": round(profile.leaning_variance, 5),
        "leanings": None if profile.leanings is None else _rounded(profile.leanings, 4),
        "lengths": {
            column.name: round(value, 4) if isinstance(value, float) else value
            for column in fields(lengths)
            for value in [getattr(lengths, column.name)]
        },
        "model": profile.name,
        "n_answers": profile.n_answers,
        "predictive_sd": round(profile.predictive_sd, 4),
        "probation": profile.probation,
        "space": profile.space_version,
        "speed": None
        if speed is None
        else {"n": speed.n, "tpot_s": _digits(speed.tpot_s), "ttft_s": _digits(speed.ttft_s)},
        "version": FORMAT_VERSION,
        "warnings": list(profile.warnings),
    }
    lines = [f" {json.dumps(key)}: {_compact(value)}," for key, value in sorted(head.items())]
    sources = ",\n".join(_source_text(source) for source in profile.sources)
    return "\n".join(["{", *lines, ' "sources": [', *([sources] if sources else []), " ]", "}"]) + (
        "\n"
    )


def _source_text(source: Source) -> str:
    row: dict[str, Any] = {
        "date": source.date,
        "facts": dict(source.facts),
        "id": source.id,
        "kind": source.kind,
        "space": source.space,
    }
    if source.summary is not None:
        row["summary"] = {
            column.name: getattr(source.summary, column.name) for column in fields(Summary)
        }
    if source.reported is not None:
        row["reported"] = {
            column.name: getattr(source.reported, column.name) for column in fields(ReportedScore)
        }
    lines = [f"   {json.dumps(key)}: {_compact(value)}" for key, value in sorted(row.items())]
    if source.answers:
        answers = ",\n".join(f"    {_compact(_answer_row(a))}" for a in source.answers)
        lines.append(f'   "answers": [\n{answers}\n   ]')
    return "  {\n" + ",\n".join(lines) + "\n  }"


def _answer_row(answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {"ref": answer.ref, "score": answer.score}
    for column in ("key", "kind", "tokens", "log_length", "input_tokens", "ttft_s", "end_to_end_s"):
        value = getattr(answer, column)
        if value not in (None, ""):
            row[column] = value
    if answer.item is not None:
        item = answer.item
        row["item"] = {
            "a": list(item.discrimination),
            "d": item.intercept,
            "c": item.guessing,
            "scale": item.effect_scale,
            "shift": item.shift_variance,
            "kind": item.kind,
        }
        if item.facets:
            row["item"]["facets"] = list(item.facets)
    return row


def _read(table: Mapping[str, Any]) -> Profile:
    ability = np.array(table["ability"], dtype=np.float64)
    covariance = np.array(table["ability_covariance"], dtype=np.float64)
    if covariance.shape != (len(ability), len(ability)) or not np.isfinite(covariance).all():
        raise ValueError(f"an ability of {len(ability)} with a covariance of {covariance.shape}")
    speed = table["speed"]
    return Profile(
        card=ModelSpec.from_dict(table["card"]),
        space_version=str(table["space"]),
        date=str(table["date"]),
        ability=ability,
        covariance=covariance,
        leanings=None
        if table["leanings"] is None
        else np.array(table["leanings"], dtype=np.float64),
        leaning_variance=float(table["leaning_variance"]),
        lengths=AnswerLengths(**table["lengths"]),
        speed=None if speed is None else Speed(**speed),
        predictive_sd=float(table["predictive_sd"]),
        probation=bool(table["probation"]),
        expected_accuracy={
            name: (float(mean), float(low), float(high))
            for name, (mean, low, high) in table["expected_accuracy"].items()
        },
        sources=tuple(_read_source(row) for row in table["sources"]),
        warnings=tuple(table["warnings"]),
    )


def _read_source(row: Mapping[str, Any]) -> Source:
    summary, reported = row.get("summary"), row.get("reported")
    if summary is not None:
        summary = Summary(
            mean=tuple(summary["mean"]),
            precision=tuple(tuple(line) for line in summary["precision"]),
            shift=tuple(summary["shift"]),
            n_answers=int(summary["n_answers"]),
        )
    if reported is not None:
        reported = ReportedScore(
            benchmark=str(reported["benchmark"]),
            score=float(reported["score"]),
            sd=float(reported["sd"]),
            tasks=tuple(reported["tasks"]),
        )
    return Source(
        id=str(row["id"]),
        kind=row["kind"],
        date=str(row["date"]),
        space=str(row["space"]),
        facts=dict(row["facts"]),
        answers=tuple(_read_answer(answer) for answer in row.get("answers", ())),
        summary=summary,
        reported=reported,
    )


def _read_answer(row: Mapping[str, Any]) -> Answer:
    values = dict(row)
    item = values.pop("item", None)
    if item is not None:
        values["item"] = PredictedItem(
            discrimination=tuple(item["a"]),
            intercept=item["d"],
            guessing=item["c"],
            effect_scale=item["scale"],
            shift_variance=item["shift"],
            kind=item["kind"],
            facets=tuple(item.get("facets", ())),
        )
    return Answer(**values)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _rounded(values: Iterable[float], digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


def _digits(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
