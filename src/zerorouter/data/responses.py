"""Evaluation records as checked tables: prompts, responses, models and the response matrix.

``M`` counts respondents, ``N`` prompts, ``R`` responses. All arrays held here are read-only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zerorouter.arrays import BoolArray, Float32Array, FloatArray, IntArray
from zerorouter.data.linkage import Linkage, link
from zerorouter.data.report import LoadReport
from zerorouter.errors import DataError, UnknownNameError

SIDE_COLUMNS: Final = ("input_tokens", "output_tokens", "cost_usd", "latency_s", "output_chars")
"""Optional columns of responses; NaN means not known."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PromptTable:
    """N prompts of one or more data sets; (data set, prompt id) is the key.

    Attributes:
        ids: Prompt ids, unique within a data set.
        texts: What is sent to a model.
        tasks: The benchmark or subject, None where unknown.
        choices_json: The raw ``choices``: options or tool declarations as JSON, or None.
        references: The expected answer, None where there is none.
        dataset: Which of ``dataset_names`` each prompt comes from, int32 (N,).
        dataset_names: The data sets' names.

    Raises:
        DataError: The columns differ in length, or a key stands twice.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    tasks: tuple[str | None, ...]
    choices_json: tuple[str | None, ...]
    references: tuple[str | None, ...]
    dataset: NDArray[np.int32]
    dataset_names: tuple[str, ...]

    def __post_init__(self) -> None:
        columns = (self.texts, self.tasks, self.choices_json, self.references, self.dataset)
        lengths = {len(self.ids), *map(len, columns)}
        if len(lengths) > 1:
            raise DataError(
                f"a prompt table needs columns of one length; found {sorted(lengths)}; "
                "give every prompt a value, None where it is unknown"
            )
        names = len(self.dataset_names)
        if len(self.dataset) and not 0 <= self.dataset.min() <= self.dataset.max() < names:
            raise DataError(
                f"prompts point at data set {self.dataset.max()} of {names}; wanted an index "
                "into dataset_names"
            )
        object.__setattr__(self, "dataset", read_only(self.dataset, np.int32))
        keys = self.keys
        if len(set(keys)) < len(keys):
            twice = Counter(keys).most_common(1)[0][0]
            raise DataError(
                f"prompt {twice[1]!r} stands twice in data set {twice[0]!r}; wanted unique "
                "prompt ids within a data set; rename or remove one"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"PromptTable({len(self)} prompts of {', '.join(self.dataset_names)})"

    @classmethod
    def of_texts(
        cls, texts: Sequence[str], *, ids: Sequence[str] | None = None, dataset: str = "prompts"
    ) -> PromptTable:
        """A table of bare texts in one data set; ids default to ``"0", "1", ...``."""
        n = len(texts)
        return cls(
            ids=tuple(map(str, range(n)) if ids is None else ids),
            texts=tuple(texts),
            tasks=(None,) * n,
            choices_json=(None,) * n,
            references=(None,) * n,
            dataset=np.zeros(n, dtype=np.int32),
            dataset_names=(dataset,),
        )

    @classmethod
    def join(cls, tables: Sequence[PromptTable]) -> PromptTable:
        """Prompts of several tables in order; data sets of one name become one."""
        names = tuple(dict.fromkeys(name for table in tables for name in table.dataset_names))
        places = [
            np.array([names.index(name) for name in table.dataset_names], dtype=np.int32)
            for table in tables
        ]
        return cls(
            ids=tuple(x for table in tables for x in table.ids),
            texts=tuple(x for table in tables for x in table.texts),
            tasks=tuple(x for table in tables for x in table.tasks),
            choices_json=tuple(x for table in tables for x in table.choices_json),
            references=tuple(x for table in tables for x in table.references),
            dataset=np.concatenate(
                [place[table.dataset] for place, table in zip(places, tables, strict=True)]
                or [np.zeros(0, dtype=np.int32)]
            ),
            dataset_names=names,
        )

    @cached_property
    def keys(self) -> tuple[tuple[str, str], ...]:
        """(data set, prompt id) of every prompt."""
        names = self.dataset_names
        return tuple(
            (names[place], own) for place, own in zip(self.dataset.tolist(), self.ids, strict=True)
        )

    @cached_property
    def choices(self) -> tuple[tuple[str, ...] | None, ...]:
        """The options of every prompt whose ``choices_json`` is a list of texts, else None."""
        return tuple(map(_options, self.choices_json))

    def take(self, index: IntArray) -> PromptTable:
        """The prompts at ``index`` (n,), in that order; the data sets' names stay."""
        places = index.tolist()
        return replace(
            self,
            ids=tuple(self.ids[i] for i in places),
            texts=tuple(self.texts[i] for i in places),
            tasks=tuple(self.tasks[i] for i in places),
            choices_json=tuple(self.choices_json[i] for i in places),
            references=tuple(self.references[i] for i in places),
            dataset=self.dataset[index],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ResponseTable:
    """R scored responses, one row each; NaN in a side column means not known.

    Attributes:
        prompt: Index into a `PromptTable`, int32 (R,).
        respondent: Index into a tuple of respondents, int32 (R,).
        score: How right the response was, in [0, 1], float32 (R,).
        input_tokens, output_tokens, output_chars: Counts, float32 (R,).
        cost_usd: Dollars paid for the response, float64 (R,).
        latency_s: Seconds from request to last token, float32 (R,).
    """

    prompt: NDArray[np.int32]
    respondent: NDArray[np.int32]
    score: Float32Array
    input_tokens: Float32Array
    output_tokens: Float32Array
    cost_usd: NDArray[np.float64]
    latency_s: Float32Array
    output_chars: Float32Array

    def __post_init__(self) -> None:
        kinds: dict[str, type[np.generic]] = {
            "prompt": np.int32,
            "respondent": np.int32,
            "cost_usd": np.float64,
        }
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"a response table needs columns of one length; found {lengths}")
        for name in lengths:
            checked = read_only(getattr(self, name), kinds.get(name, np.float32))
            object.__setattr__(self, name, checked)

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def of_columns(
        cls, prompt: IntArray, respondent: IntArray, columns: Mapping[str, FloatArray]
    ) -> ResponseTable:
        """A table from ``"score"`` and any of `SIDE_COLUMNS`; absent ones are unknown."""
        unknown = np.full(len(prompt), np.nan, dtype=np.float32)

        def counted(name: str) -> Float32Array:
            return np.asarray(columns.get(name, unknown), dtype=np.float32)

        return cls(
            prompt=prompt.astype(np.int32, copy=False),
            respondent=respondent.astype(np.int32, copy=False),
            score=counted("score"),
            input_tokens=counted("input_tokens"),
            output_tokens=counted("output_tokens"),
            cost_usd=np.asarray(columns.get("cost_usd", unknown), dtype=np.float64),
            latency_s=counted("latency_s"),
            output_chars=counted("output_chars"),
        )

    @classmethod
    def of_scores(cls, scores: FloatArray) -> ResponseTable:
        """The known cells of a score matrix (M, N), with all side columns unknown."""
        respondent, prompt = np.nonzero(~np.isnan(scores))
        return cls.of_columns(prompt, respondent, {"score": scores[respondent, prompt]})

    def column(self, name: str) -> FloatArray:
        """``"score"`` or one of `SIDE_COLUMNS`, (R,).

        Raises:
            UnknownNameError: There is no such column.
        """
        if name != "score" and name not in SIDE_COLUMNS:
            raise UnknownNameError("column", name, ("score", *SIDE_COLUMNS))
        values: FloatArray = getattr(self, name)
        return values

    def take(self, rows: IntArray | BoolArray) -> ResponseTable:
        """The responses at ``rows``: indices in order, or a mask (R,)."""
        return ResponseTable(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """What is known of a model besides its answers; None means not known.

    Attributes:
        model: Its name among the respondents.
        family: Models of one family are held out together.
        released: ``YYYY-MM`` or ``YYYY-MM-DD``; such texts sort by date.
        params_b: Parameters in billions.
        input_usd_per_mtok, output_usd_per_mtok: Price per million tokens.
        price_kind: ``list`` (the vendor's) or ``size-tier`` (nominal for open weights).
    """

    model: str
    family: str | None = None
    released: str | None = None
    params_b: float | None = None
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    price_kind: str | None = None

    @property
    def priced(self) -> bool:
        """Whether both prices are known."""
        return self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """One data set as read from its folder.

    Attributes:
        dataset: Its name: the folder's.
        prompts: All its prompts, in the file's order, those without a response too.
        respondents: Models with at least one score, sorted by name.
        responses: One row per (respondent, prompt), sorted by that pair.
        models: Rows of the model table by model name, also of models without a score.
        report: What was dropped or merged.
    """

    dataset: str
    prompts: PromptTable
    respondents: tuple[str, ...]
    responses: ResponseTable
    models: Mapping[str, ModelRow]
    report: LoadReport


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ResponseMatrix:
    """Scores of M respondents on N prompts; NaN means not administered, never wrong.

    Attributes:
        respondents: Names, M of them, unique.
        prompts: N prompts.
        scores: In [0, 1] or NaN, float32 (M, N).
        groups: Duplicate group of each prompt, int32 (N,); a group never crosses a split.
        responses: The same cells in long format, with what is known besides the score.
        models: What is known of each respondent, M of them, in the same order.
        report: What reading dropped or merged.

    Raises:
        DataError: Shapes disagree, names repeat, scores leave [0, 1] or nothing is scored.
    """

    respondents: tuple[str, ...]
    prompts: PromptTable
    scores: Float32Array
    groups: NDArray[np.int32]
    responses: ResponseTable
    models: tuple[ModelRow, ...]
    report: LoadReport

    def __post_init__(self) -> None:
        shape = (len(self.respondents), len(self.prompts))
        if self.scores.shape != shape:
            raise DataError(
                f"scores have shape {self.scores.shape}; wanted (respondents, prompts) = {shape}"
            )
        if self.groups.shape != shape[1:] or len(self.models) != shape[0]:
            raise DataError(
                f"found {len(self.groups)} group ids and {len(self.models)} model rows; "
                f"wanted {shape[1]} and {shape[0]}: one per prompt and one per respondent"
            )
        if len(set(self.respondents)) < shape[0]:
            raise DataError("a respondent stands twice; merge its rows or rename one")
        # One pass, NaN ignored: min and max of the known cells, NaN where there are none.
        low = np.fmin.reduce(self.scores, axis=None, initial=np.nan)
        high = np.fmax.reduce(self.scores, axis=None, initial=np.nan)
        if np.isnan(low):
            raise DataError(
                f"none of the {self.scores.size} cells has a score; wanted at least one response"
            )
        if low < 0 or high > 1:
            raise DataError(f"scores run from {low} to {high}; wanted [0, 1]; rescale them")
        object.__setattr__(self, "scores", read_only(self.scores, np.float32))
        object.__setattr__(self, "groups", read_only(self.groups, np.int32))

    def __repr__(self) -> str:
        m, n = self.shape
        return f"ResponseMatrix({m} respondents, {n} prompts, {self.n_observed} scores)"

    @classmethod
    def from_scores(
        cls,
        scores: ArrayLike,
        *,
        respondents: Sequence[str] | None = None,
        prompts: PromptTable | None = None,
        groups: IntArray | None = None,
    ) -> ResponseMatrix:
        """A matrix from plain scores (M, N) with NaN for cells not administered.

        Respondents and prompts default to numbered names, ``groups`` (N,) to every prompt
        being its own group. Nothing is dropped, not even an empty row or column.

        Raises:
            DataError: As for the class.
        """
        table = np.asarray(scores, dtype=np.float32)
        if table.ndim != 2:
            raise DataError(f"scores have shape {table.shape}; wanted (respondents, prompts)")
        m, n = table.shape
        names = tuple(f"model-{i}" for i in range(m)) if respondents is None else tuple(respondents)
        responses = ResponseTable.of_scores(table)
        return cls(
            respondents=names,
            prompts=PromptTable.of_texts([f"prompt {i}" for i in range(n)])
            if prompts is None
            else prompts,
            scores=table,
            groups=np.arange(n, dtype=np.int32) if groups is None else groups.astype(np.int32),
            responses=responses,
            models=tuple(ModelRow(model=name) for name in names),
            report=LoadReport(n_prompts=n, n_respondents=m, n_responses=len(responses)),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(respondents, prompts)."""
        return len(self.respondents), len(self.prompts)

    @property
    def n_observed(self) -> int:
        """How many cells have a score."""
        return len(self.responses)

    @cached_property
    def observed(self) -> BoolArray:
        """Which cells have a score, (M, N)."""
        return read_only(~np.isnan(self.scores), np.bool_)

    def matrix(self, column: str) -> Float32Array:
        """A column of the responses as a matrix, float32 (M, N), NaN where not known.

        Raises:
            UnknownNameError: ``column`` is neither ``"score"`` nor one of `SIDE_COLUMNS`.
        """
        return as_matrix(self.responses, column, self.shape)

    def select(
        self,
        *,
        respondents: Sequence[str] | IntArray | BoolArray | None = None,
        prompts: IntArray | BoolArray | None = None,
    ) -> ResponseMatrix:
        """The sub-matrix of some respondents and prompts, in the order given.

        Args:
            respondents: Names, indices or a mask (M,); None takes all.
            prompts: Indices or a mask (N,); None takes all.

        Rows and columns that become empty stay, group ids keep their numbers, and the report
        stays that of the whole.

        Raises:
            UnknownNameError: A name is not among the respondents.
            DataError: An index is out of range or stands twice, or nothing scored is left.
        """
        rows = self._respondent_index(respondents)
        columns = _as_index(prompts, len(self.prompts), "prompt")
        new_row = np.full(len(self.respondents), -1, dtype=np.int32)
        new_row[rows] = np.arange(len(rows), dtype=np.int32)
        new_column = np.full(len(self.prompts), -1, dtype=np.int32)
        new_column[columns] = np.arange(len(columns), dtype=np.int32)
        row, column = new_row[self.responses.respondent], new_column[self.responses.prompt]
        kept = np.flatnonzero((row >= 0) & (column >= 0))
        return ResponseMatrix(
            respondents=tuple(self.respondents[i] for i in rows.tolist()),
            prompts=self.prompts.take(columns),
            scores=self.scores[np.ix_(rows, columns)],
            groups=self.groups[columns],
            responses=replace(self.responses.take(kept), respondent=row[kept], prompt=column[kept]),
            models=tuple(self.models[i] for i in rows.tolist()),
            report=self.report,
        )

    def constant_items(self) -> NDArray[np.int64]:
        """Indices of prompts whose known scores are all equal.

        They say nothing on discrimination. Reading keeps them, since an item that everyone
        solves still says something of a newcomer; calibration decides. Prompts without any
        score are not among them.
        """
        return _constant(self.scores)

    def constant_respondents(self) -> NDArray[np.int64]:
        """Indices of respondents whose known scores are all equal; kept like constant items."""
        return _constant(self.scores.T)

    def linkage(self) -> Linkage:
        """What the data sets present here share, and which of them hang together."""
        present = np.unique(self.prompts.dataset)
        columns = self.prompts.dataset[None, :] == present[:, None]  # (D, N)
        dataset = np.searchsorted(present, self.prompts.dataset)
        respondent_present = np.zeros((len(self.respondents), len(present)), dtype=np.bool_)
        respondent_present[self.responses.respondent, dataset[self.responses.prompt]] = True
        group = np.unique(self.groups, return_inverse=True)[1]
        group_present = np.zeros((int(group.max(initial=-1)) + 1, len(present)), dtype=np.bool_)
        for place, inside in enumerate(columns):
            group_present[group[inside], place] = True
        names = tuple(self.prompts.dataset_names[i] for i in present.tolist())
        return link(names, respondent_present, group_present)

    def _respondent_index(
        self, chosen: Sequence[str] | IntArray | BoolArray | None
    ) -> NDArray[np.int64]:
        if chosen is None or isinstance(chosen, np.ndarray):
            return _as_index(chosen, len(self.respondents), "respondent")
        place = {name: i for i, name in enumerate(self.respondents)}
        for name in chosen:
            if name not in place:
                raise UnknownNameError("respondent", name, self.respondents)
        index = np.array([place[name] for name in chosen], dtype=np.int64)
        return _as_index(index, len(place), "respondent")


def as_matrix(responses: ResponseTable, column: str, shape: tuple[int, int]) -> Float32Array:
    """Scatter a column of ``responses`` into a float32 matrix of ``shape`` (M, N).

    Raises:
        UnknownNameError: There is no such column.
    """
    values = np.full(shape, np.nan, dtype=np.float32)
    values[responses.respondent, responses.prompt] = responses.column(column)
    return values


def read_only(values: NDArray[Any], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """``values`` as a read-only array of ``dtype``, without a copy where none is needed."""
    view = np.asarray(values, dtype=dtype).view()
    view.flags.writeable = False
    return view


def _options(raw: str | None) -> tuple[str, ...] | None:
    if raw is None or not raw.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    texts = isinstance(parsed, list) and all(isinstance(option, str) for option in parsed)
    return tuple(parsed) if texts and parsed else None


def _constant(scores: Float32Array) -> NDArray[np.int64]:
    """Columns of ``scores`` (rows, columns) whose known values are all equal."""
    low = np.fmin.reduce(scores, axis=0, initial=np.nan)
    high = np.fmax.reduce(scores, axis=0, initial=np.nan)
    return np.flatnonzero(low == high)  # NaN, an empty column, equals nothing


def _as_index(chosen: IntArray | BoolArray | None, size: int, kind: str) -> NDArray[np.int64]:
    """Indices from indices or a mask, checked to be in range and unique."""
    if chosen is None:
        return np.arange(size, dtype=np.int64)
    if chosen.dtype == np.bool_:
        if chosen.shape != (size,):
            raise DataError(f"a {kind} mask has shape {chosen.shape}; wanted ({size},)")
        return np.flatnonzero(chosen)
    index = chosen.astype(np.int64)
    if index.size and not 0 <= index.min() <= index.max() < size:
        raise DataError(
            f"{kind} indices run from {index.min()} to {index.max()}; wanted 0 to {size - 1}"
        )
    if len(np.unique(index)) < len(index):
        raise DataError(f"a {kind} is selected twice; wanted each at most once")
    return index
