"""One data set made ready for the harness: features, cards, labels, costs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zerorouter.arrays import BoolArray, Float32Array, Float64Array, IntArray
from zerorouter.data.importing import data_digest
from zerorouter.data.reading import read_folders
from zerorouter.data.responses import ModelRow, ResponseMatrix
from zerorouter.evaluation.contracts import Labels, PromptSet, Published
from zerorouter.fitting import as_requests
from zerorouter.fitting.records import SHORTEST_ANSWER_CHARS
from zerorouter.linking import RespondentCard, load_aliases, respondent_cards
from zerorouter.onboarding.benchmarks import published_beside, read_published
from zerorouter.predict.encoders import Encoder, StaticEncoder
from zerorouter.predict.features import FeatureReader
from zerorouter.predict.prompt import CHARS_PER_TOKEN

MOST_SHORT_ANSWERS = 0.05  # of a model's answers, above which its lengths are not believed
COMPLETE = 0.995  # share of a block's prompts that a model must have answered
TEMPLATE_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """A data set as methods and metrics need it.

    Attributes:
        name: Name of the data set.
        prompts: N prompts.
        models: (M,) cards.
        labels: Answers of all models on all prompts, (M, N).
        tasks: (N,) task numbers.
        task_names: Their names.
        groups: (N,) duplicate groups.
        cost_kind: ``real``, ``derived`` (characters / 4 at list price) or ``none``.
        has_lengths: (M,) whether a model's recorded lengths can be believed.
        digest: SHA-256 of the folder, and of the published scores.
        published: Published scores of models, from a table in the folder or beside it.
    """

    name: str
    prompts: PromptSet
    models: tuple[RespondentCard, ...]
    labels: Labels
    tasks: IntArray
    task_names: tuple[str, ...]
    groups: IntArray
    cost_kind: str
    has_lengths: BoolArray
    digest: str
    published: Published | None = None

    def routing_models(self) -> IntArray:
        """Models whose cost is known on nearly every prompt they could be asked: the block.

        Routing metrics use complete (prompt, model) blocks only. Models are taken in falling
        order of how many prompts they answered, as long as the block keeps at least 90% of the
        prompts of the widest ones.
        """
        both = self.labels.observed & ~np.isnan(self.labels.cost_usd)
        share = both.mean(axis=1)
        widest = share.max(initial=0.0)
        return np.flatnonzero((share >= COMPLETE * widest) & (share > 0) & self.has_lengths)


def load_benchmark(folder: Path, encoders: Mapping[str, Encoder] | None = None) -> Benchmark:
    """Read a folder of records.

    Raises:
        DataError: it breaks the format.
    """
    matrix = read_folders([folder], aliases=load_aliases())
    benchmark = as_benchmark(matrix, folder.resolve().name, data_digest(folder), encoders)
    table = published_beside(folder)
    if table is None:
        return benchmark
    return replace(
        benchmark,
        digest=hashlib.sha256(benchmark.digest.encode() + table.read_bytes()).hexdigest(),
        published=Published(
            matrix=read_published(table, load_aliases()),
            tasks=tuple(f"{benchmark.name}/{task}" for task in benchmark.task_names),
        ),
    )


def as_benchmark(
    matrix: ResponseMatrix,
    name: str,
    digest: str = "",
    encoders: Mapping[str, Encoder] | None = None,
) -> Benchmark:
    """The same from a response matrix of one data set."""
    requests = as_requests(matrix.prompts, TEMPLATE_SEED)
    reader = FeatureReader(StaticEncoder.load())
    embeddings: dict[str, Float32Array] = {}
    for encoder_name, encoder in (encoders or {}).items():
        embeddings[encoder_name] = (
            FeatureReader(StaticEncoder.load(), encoder).read(requests).embedding
        )
    prompts = PromptSet(
        features=reader.read(requests),
        input_tokens=np.array([request.input_tokens.mean for request in requests]),
        embeddings=embeddings,
    )
    cards = _cards(matrix)
    scores = np.asarray(matrix.scores, dtype=np.float64)
    tokens, has_lengths = _output_tokens(matrix)
    real = matrix.matrix("cost_usd").astype(np.float64)
    derived = _derived_costs(cards, prompts.input_tokens, tokens)
    has_real = ~np.isnan(real).all()
    cost = real if has_real else derived
    kind = "real" if has_real else "derived" if not np.isnan(derived).all() else "none"
    if kind != "derived":
        has_lengths = np.ones_like(has_lengths)
    names = [task or "" for task in matrix.prompts.tasks]
    task_names = tuple(sorted(set(names)))
    numbers = {task: i for i, task in enumerate(task_names)}
    return Benchmark(
        name=name,
        prompts=prompts,
        models=cards,
        labels=Labels(scores=scores, output_tokens=tokens, cost_usd=cost),
        tasks=np.array([numbers[task] for task in names]),
        task_names=task_names,
        groups=np.unique(matrix.groups, return_inverse=True)[1],
        cost_kind=kind,
        has_lengths=has_lengths,
        digest=digest,
    )


def _cards(matrix: ResponseMatrix) -> tuple[RespondentCard, ...]:
    known = respondent_cards()
    return tuple(
        _card(name, known.get(name), row)
        for name, row in zip(matrix.respondents, matrix.models, strict=True)
    )


def _card(name: str, known: RespondentCard | None, row: ModelRow) -> RespondentCard:
    """The reviewed card; prices of the records win, since costs are judged by them."""
    card = known or RespondentCard(
        id=name,
        model=name.partition("#")[0],
        family=row.family or "",
        released=row.released,
        params_b=row.params_b,
    )
    if row.priced:
        card = replace(
            card,
            input_usd_per_mtok=row.input_usd_per_mtok,
            output_usd_per_mtok=row.output_usd_per_mtok,
            price_kind=row.price_kind,
        )
    return card


def _output_tokens(matrix: ResponseMatrix) -> tuple[Float64Array, BoolArray]:
    """(M, N) output tokens and (M,) whether a model's lengths can be believed."""
    counted = matrix.matrix("output_tokens").astype(np.float64)
    chars = matrix.matrix("output_chars").astype(np.float64)
    counted[counted < 1] = np.nan
    short = (chars < SHORTEST_ANSWER_CHARS).sum(axis=1)
    asked = np.maximum((~np.isnan(chars)).sum(axis=1), 1)
    believed = short / asked <= MOST_SHORT_ANSWERS
    from_chars = np.where(believed[:, None], chars / CHARS_PER_TOKEN, np.nan)
    return np.where(np.isnan(counted), from_chars, counted), believed


def _derived_costs(
    cards: Sequence[RespondentCard], input_tokens: Float64Array, output_tokens: Float64Array
) -> Float64Array:
    """(M, N) dollars from prices; unknown where hidden reasoning tokens are not on record."""
    nan = float("nan")
    price_in = [nan if c.input_usd_per_mtok is None else c.input_usd_per_mtok / 1e6 for c in cards]
    price_out = [
        nan if c.output_usd_per_mtok is None or c.reasoning else c.output_usd_per_mtok / 1e6
        for c in cards
    ]
    entered = input_tokens * np.array(price_in)[:, None]
    return np.asarray(entered + output_tokens * np.array(price_out)[:, None])
