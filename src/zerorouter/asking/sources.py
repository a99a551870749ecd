"""Where anchors come from: the shipped space's generated tasks, or a folder of the user's own.

A source offers candidates, whose parameters are known before any text is made, and makes the text
of those that are chosen. Two kinds:

- `GymSource`: tasks that ``reasoning-gym`` generates and grades. *Published* ones carry the
  parameters of the calibrated item with the same hash; a text with another hash is no such item
  and is dropped with a message. *Fresh* ones have a seed of their own: nobody can have seen
  them, and they carry the parameters of their generator, the mean of its calibrated items, with
  the variance within the generator for uncertainty.
- `FolderSource`: prompts with references in the project's data format. Those that the space
  calibrated carry their own parameters, the others what their text predicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

import numpy as np

from zerorouter.arrays import BoolArray, IntArray
from zerorouter.asking.generated import (
    UNSAFE_GENERATORS,
    VERSION,
    GeneratedPrompt,
    generate,
    require_package,
    system_prompt,
)
from zerorouter.asking.graders import Grade, Grader, grader_for, settled
from zerorouter.data.digests import digest_array, question_digest
from zerorouter.data.importing import data_digest
from zerorouter.data.reading import read_prompts
from zerorouter.errors import InputError, UnknownNameError
from zerorouter.irt.model import ItemParameters
from zerorouter.known_items import KnownItems, TaskFacts
from zerorouter.onboarding.design import Candidates
from zerorouter.onboarding.evidence import (
    PredictedItem,
    calibrated_index,
    joined_items,
    key_of,
    predicted_items,
)
from zerorouter.onboarding.outlook import Targets
from zerorouter.predict.prompt import CHARS_PER_TOKEN, read_prompt
from zerorouter.space import LatentSpace, SpaceReader

AnchorSet: TypeAlias = Literal["published", "fresh", "mixed"]
ANCHOR_SETS: Final[tuple[str, ...]] = get_args(AnchorSet)

FRESH_PLACES: Final = 10  # fresh prompts that each generator offers
FRESH_SEED: Final = 1_000_003  # far from the seeds of the calibrated prompts
FEWEST_OF_GENERATOR: Final = 5  # calibrated items that make up a generator's parameters
MOST_PROMPTS: Final = 2_000  # of a folder; a sample of a larger one is offered
BARE_CHARS: Final = 200  # of a reply that may be a bare answer
MOST_GROUPS: Final = 20  # tasks of a folder that the report tells apart

FOLDER_SYSTEM_PROMPT: Final = (
    "Think the question through before you settle on an answer. End your reply with the final "
    "answer alone between <answer> and </answer>: the letter for a multiple choice, the bare "
    "number for a calculation."
)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A prompt ready to be asked.

    Attributes:
        position: Among the source's candidates.
        ref: Its name.
        key: Key of its question.
        question: What is asked.
        grader: Grades replies.
        item: Predicted parameters; None for a calibrated item.
        log_length: The level of log output lengths that its text reads as.
        domain: A name of `predict.domains.DOMAINS`.
        kind: The group of the source's targets, or the domain.
        published: Whether it could be in a model's training data.
    """

    position: int
    ref: str
    key: str
    question: str
    grader: Grader
    item: PredictedItem | None
    log_length: float
    domain: str
    kind: str
    published: bool

    def messages(self, system: str) -> tuple[Mapping[str, str], ...]:
        """What is sent."""
        asked = {"role": "user", "content": self.question}
        return ({"role": "system", "content": system}, asked) if system else (asked,)


class AnchorSource(Protocol):
    """Offers prompts and makes those that are chosen."""

    @property
    def candidates(self) -> Candidates:
        """All prompts on offer."""
        ...

    @property
    def published(self) -> BoolArray:
        """(N,) which candidates could be in a model's training data."""
        ...

    @property
    def system(self) -> str:
        """The instruction that goes with every prompt."""
        ...

    @property
    def targets(self) -> Targets | None:
        """Prompts that the model is to be judged for; None for those of the space."""
        ...

    @property
    def name(self) -> str:
        """For people, and to know a run again."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Provenance."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of it."""
        ...

    def make(self, position: int) -> Anchor:
        """The prompt of a candidate.

        Raises:
            InputError: it cannot be made, or is another than was promised.
        """
        ...


# -- generated tasks ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """How one candidate is made."""

    task: TaskFacts
    seed: int
    place: int
    key: str  # of the question that it has to be; "" for a fresh one
    item: PredictedItem | None


@dataclass(frozen=True, kw_only=True)
class TagGrader:
    """Grades what stands between the tags that the instruction asks for.

    A reply that settles on nothing is taken whole; it counts as an answer at all if it is
    right, or about as short as the reference.
    """

    prompt: GeneratedPrompt

    def __call__(self, reply: str) -> Grade:
        """The grade of a reply."""
        answer = settled(reply)
        if answer is not None:
            return Grade(self.prompt.score(answer))
        whole = reply.strip()
        score = self.prompt.score(whole) if whole else 0.0
        short = 0 < len(whole) <= max(BARE_CHARS, 2 * len(self.prompt.reference))
        return Grade(score, found=score > 0 or short)


class GymSource:
    """Tasks of ``reasoning-gym`` that the space has calibrated.

    Args:
        space: The space.
        reader: Reads prompts in it.
        known: The table of known items.
        anchor_set: ``published``, ``fresh`` or ``mixed``.
        seed: Draws the fresh prompts.

    Raises:
        UnknownNameError: there is no such set.
        InputError: the space knows none of these tasks.
        MissingExtraError: the package is missing.
    """

    def __init__(
        self,
        space: LatentSpace,
        reader: SpaceReader,
        known: KnownItems,
        *,
        anchor_set: str = "published",
        seed: int = 0,
    ) -> None:
        if anchor_set not in ANCHOR_SETS:
            raise UnknownNameError("anchor set", anchor_set, ANCHOR_SETS)
        require_package()
        if known.package != VERSION:
            raise InputError(
                f"the table of known items was made with reasoning-gym {known.package}, this "
                f"ZeroRouter makes prompts with {VERSION}; install ZeroRouter anew"
            )
        self._reader = reader
        self._domains = space.predictor.domains
        at = calibrated_index(space).find(known.prefix)  # (N,) where the space calibrated them
        usable = np.array(
            [bool(t.generator) and t.generator not in UNSAFE_GENERATORS for t in known.tasks]
        )
        rows = np.flatnonzero(usable[known.task] & (at >= 0))
        if len(rows) == 0:
            raise InputError(
                "this space knows none of the tasks that reasoning-gym makes; ask prompts of your "
                "own with --data DIR, or leave --space unset"
            )
        self.system = system_prompt()
        self.notes: list[str] = []
        self._places: list[_Place] = []
        positions: list[int] = []
        groups, chars = [], []
        if anchor_set != "fresh":
            for row in rows[known.place[rows] >= 0]:
                task = known.tasks[int(known.task[row])]
                key = f"{int(known.prefix[row]):016x}"
                place = int(known.place[row])
                self._places.append(
                    _Place(task=task, seed=task.seed, place=place, key=key, item=None)
                )
                positions.append(int(at[row]))
                groups.append(int(known.task[row]))
                chars.append(float(known.chars[row]))
        if anchor_set != "published":
            for number in np.unique(known.task[rows]):
                own = rows[known.task[rows] == number]
                if len(own) < FEWEST_OF_GENERATOR:
                    continue
                task = known.tasks[int(number)]
                item = generator_item(space, at[own], task.name)
                for place in range(FRESH_PLACES):
                    self._places.append(
                        _Place(task=task, seed=FRESH_SEED + seed, place=place, key="", item=item)
                    )
                    groups.append(int(number))
                    chars.append(float(known.chars[own].mean()))
        others = [place.item for place in self._places if place.item is not None]
        self.candidates = Candidates(
            refs=tuple(_ref(place) for place in self._places),
            items=joined_items(space, positions, others),
            strata=np.array(groups, dtype=np.int64),
            domains=tuple(place.task.domain for place in self._places),
            input_tokens=(np.array(chars) + len(self.system)) / CHARS_PER_TOKEN,
            log_length=np.array([place.task.log_length for place in self._places]),
            keys=tuple(place.key for place in self._places),
            as_read=items_as_read(space, positions, others),
        )
        self.published: BoolArray = np.array([bool(place.key) for place in self._places])
        self.targets: Targets | None = None
        self.name = f"reasoning-gym {VERSION}, {anchor_set}" + (
            f", seed {seed}" if anchor_set != "published" else ""
        )
        self.facts: Mapping[str, Any] = {"anchors": self.name}

    def make(self, position: int) -> Anchor:
        """The prompt of a candidate; a published one has to have the promised hash.

        Raises:
            InputError: it cannot be made, or is another than was promised.
        """
        place = self._places[position]
        task = place.task
        made = generate(
            task.generator,
            task.settings or {},
            seed=place.seed,
            size=max(task.size, FRESH_PLACES),
            place=place.place,
        )
        key = key_of(question_digest(made.question))
        if place.key and key != place.key:
            raise InputError(
                f"{_ref(place)}: the text that reasoning-gym makes has hash {key}, the calibrated "
                f"one {place.key}; another version of one of its packages may be installed"
            )
        reading = self._reader.read((read_prompt(made.question),))
        return Anchor(
            position=position,
            ref=_ref(place),
            key=key,
            question=made.question,
            grader=TagGrader(prompt=made),
            item=place.item,
            log_length=round(float(reading.log_length[0]), 3),
            domain=task.domain,
            kind=task.domain,
            published=bool(place.key),
        )


def generator_item(space: LatentSpace, at: IntArray, kind: str) -> PredictedItem:
    """What is known of a prompt by its generator alone.

    The mean of the generator's calibrated items; the variance of their intercepts, and what is not
    known of each, for uncertainty; the error of the mean is shared by all of its prompts.
    """
    items = space.calibrated.items.take(at)
    own = float(items.effect_covariance[-1, -1]) or 1.0
    uncertain = float(items.effect_scale.mean()) * own
    within = float(np.var(items.intercept)) + uncertain
    facets = space.calibrated.expected.facets
    means = ItemParameters(
        discrimination=items.discrimination.mean(axis=0, keepdims=True),
        intercept=items.intercept.mean(keepdims=True),
        guessing=items.guessing.mean(keepdims=True),
        effect_scale=np.array([within / own], np.float32),
        shift_variance=np.array([within / len(at)], np.float32),
        effect_covariance=items.effect_covariance,
        facets=None if facets is None else facets[at].mean(axis=0, keepdims=True),
    )
    return predicted_items(means, [kind], space)[0]


def items_as_read(
    space: LatentSpace, positions: Sequence[int], others: Sequence[PredictedItem]
) -> ItemParameters:
    """What `joined_items` joins, calibrated items as if they had never been answered."""
    expected = space.calibrated.expected.take(np.asarray(positions, dtype=np.int64))
    told = space.calibrated.items.effect_covariance
    larger = np.trace(expected.effect_covariance) / max(float(np.trace(told)), 1e-12)
    rest = joined_items(space, [], others)
    stack = np.concatenate
    return ItemParameters(
        discrimination=stack([expected.discrimination, rest.discrimination]),
        intercept=stack([expected.intercept, rest.intercept]),
        guessing=stack([expected.guessing, rest.guessing]),
        effect_scale=stack([expected.effect_scale * np.float32(larger), rest.effect_scale]),
        shift_variance=stack([expected.shift_variance, rest.shift_variance]),
        effect_covariance=told,
    )


def _ref(place: _Place) -> str:
    """Generator, settings, seed and place of a prompt, in one word."""
    half = place.task.name.split("/")[1].removeprefix("rg_")
    return f"reasoning-gym/{half}/{place.task.generator}/seed={place.seed}/{place.place}"


# -- the user's own prompts --------------------------------------------------------------------


class FolderSource:
    """Prompts of a folder in the project's data format.

    Args:
        folder: Holds prompts with references.
        space: The space.
        reader: Reads prompts in it.
        grader: See `graders.GRADERS`.
        seed: Draws the sample of a large folder.

    Raises:
        DataError: the folder breaks the format.
        InputError: no prompt has a reference that the grader can use.
    """

    def __init__(
        self,
        folder: Path,
        space: LatentSpace,
        reader: SpaceReader,
        *,
        grader: str = "auto",
        seed: int = 0,
    ) -> None:
        prompts = read_prompts(folder)
        name = folder.resolve().name
        self.notes: list[str] = []
        kept, graders = self._gradable(prompts.texts, prompts.references, prompts.choices, grader)
        digest = [question_digest(prompts.texts[i], prompts.choices[i] or ()) for i in kept]
        first = {key: place for place, key in reversed(list(enumerate(digest)))}
        chosen = np.array(sorted(first.values()))
        if len(chosen) < len(kept):
            self.notes.append(f"{len(kept) - len(chosen):,} prompts repeat others; asked once each")
        if len(chosen) > MOST_PROMPTS:
            self.notes.append(f"{MOST_PROMPTS:,} of {len(chosen):,} prompts are on offer, a sample")
            chosen = np.random.default_rng(seed).permutation(chosen)[:MOST_PROMPTS]
            chosen.sort()
        kept, graders = [kept[i] for i in chosen], [graders[i] for i in chosen]
        digests = [digest[i] for i in chosen]
        options = [prompts.choices[i] or () for i in kept]
        self._questions = [
            asked(prompts.texts[i], own) for i, own in zip(kept, options, strict=True)
        ]
        self._graders = graders
        readings = reader.read([read_prompt(question) for question in self._questions])
        tasks = [prompts.tasks[i] or "" for i in kept]
        kinds = [
            task if task.startswith(f"{name}/") else f"{name}/{task}" if task else name
            for task in tasks
        ]
        self._predicted = predicted_items(readings.items, kinds, space)
        at = calibrated_index(space).find(digest_array(digests)[:, 0])
        self._calibrated = at >= 0
        known, foreign = np.flatnonzero(self._calibrated), np.flatnonzero(~self._calibrated)
        positions, others = at[known].tolist(), [self._predicted[int(i)] for i in foreign]
        items, plain = (make(space, positions, others) for make in (joined_items, items_as_read))
        order = np.argsort(np.concatenate([known, foreign]), kind="stable")
        domains = tuple(space.predictor.domains[int(d)] for d in readings.domain)
        # Bytes, not characters: other scripts take more tokens a character.
        chars = np.array([float(len(question.encode())) for question in self._questions])
        group_names = tuple(dict.fromkeys(kinds))
        labels = kinds if len(group_names) <= MOST_GROUPS else list(domains)
        groups = tuple(dict.fromkeys(labels))
        self._labels = labels
        self.system = FOLDER_SYSTEM_PROMPT
        self.candidates = Candidates(
            refs=tuple(f"{name}/{prompts.ids[i]}" for i in kept),
            items=items.take(order),
            strata=np.array([group_names.index(kind) for kind in kinds]),
            domains=domains,
            input_tokens=(chars + len(self.system)) / CHARS_PER_TOKEN,
            log_length=readings.log_length.astype(np.float64),
            keys=tuple(key_of(digest) for digest in digests),
            as_read=plain.take(order),
        )
        self.published: BoolArray = np.ones(len(kept), dtype=np.bool_)
        self.targets: Targets | None = Targets(
            items=readings.items,
            group=np.array([groups.index(label) for label in labels]),
            groups=groups,
            log_length=readings.log_length.astype(np.float64),
            input_tokens=chars / CHARS_PER_TOKEN,
        )
        # Not the grader: the same answers can be graded anew.
        self.name = f"{name} {data_digest(folder)[:12]}"
        self.facts: Mapping[str, Any] = {"anchors": name, "grader": grader}

    def make(self, position: int) -> Anchor:
        """The prompt of a candidate."""
        calibrated = bool(self._calibrated[position])
        return Anchor(
            position=position,
            ref=self.candidates.refs[position],
            key=self.candidates.keys[position],
            question=self._questions[position],
            grader=self._graders[position],
            item=None if calibrated else self._predicted[position],
            log_length=round(float(self.candidates.log_length[position]), 3),
            domain=self.candidates.domains[position],
            kind=self._labels[position],
            published=True,
        )

    def _gradable(
        self,
        texts: Sequence[str],
        references: Sequence[str | None],
        choices: Sequence[tuple[str, ...] | None],
        grader: str,
    ) -> tuple[list[int], list[Grader]]:
        """Prompts with a reference that the grader can use, and their graders."""
        kept, graders = [], []
        skipped, first = 0, ""
        for i, reference in enumerate(references):
            if reference is None or not reference.strip():
                skipped += 1
                first = first or f"prompt {i + 1} has no reference"
                continue
            try:
                graders.append(
                    grader_for(grader, reference, choices[i] or (), where=f"prompt {i + 1}")
                )
            except InputError as error:
                skipped += 1
                first = first or str(error)
                continue
            kept.append(i)
        if not kept:
            raise InputError(
                f"none of {len(texts)} prompts can be graded with {grader!r} ({first}); give "
                "references, or name another grader with --grader"
            )
        if skipped:
            self.notes.append(f"{skipped:,} prompts cannot be graded and are left out: {first}")
        return kept, graders


def asked(text: str, options: Sequence[str]) -> str:
    """A question with its options, lettered one a line."""
    if not options:
        return text
    lines = [f"{chr(ord('A') + i)}) {option}" for i, option in enumerate(options)]
    return "\n".join([text, "", *lines])


__all__ = [
    "ANCHOR_SETS",
    "Anchor",
    "AnchorSource",
    "FolderSource",
    "GymSource",
    "asked",
    "generator_item",
    "items_as_read",
]
