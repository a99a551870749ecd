"""HELM run directories: ``run_spec.json``, ``scenario_state.json``, ``per_instance_stats.json``.

Scores and token counts stand in the statistics, questions and times in the requests; they belong
together by instance and trial. Perturbed instances are other questions and are left out. The
question is the instance's own input, never the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from zerorouter.data.logs.json_files import elements, json_object, members, unreadable
from zerorouter.data.logs.options import LogOptions
from zerorouter.data.logs.questions import LETTERS
from zerorouter.data.logs.records import LoggedAnswer, Notes, Question, cleaned, number
from zerorouter.data.logs.scores import HELM_METRICS, NO_SCORES, as_score, chosen
from zerorouter.data.tables import fault

SPEC: Final = "run_spec.json"
STATE: Final = "scenario_state.json"
INSTANCES: Final = "instances.json"
STATS: Final = "per_instance_stats.json"

# What a run's name says of the model and of how it was asked, not of the questions.
_NOT_THE_TASK: Final = frozenset(
    {
        *("model", "model_deployment", "method", "data_augmentation", "max_train_instances"),
        *("num_train_trials", "num_trials", "stop", "prompt", "instructions", "groups"),
        *("eval_split", "train_split", "max_eval_instances", "num_outputs", "temperature"),
    }
)
# Statistics of a request, not scores of its answer.
_SIZES: Final = frozenset(
    {
        *("num_references", "num_train_trials", "num_train_instances", "num_prompt_tokens"),
        *("num_completion_tokens", "num_output_tokens", "num_bytes", "num_perplexity_tokens"),
        *("logprob", "prompt_truncated", "inference_runtime", "inference_idealized_runtime"),
        *("inference_denoised_runtime", "batch_size", "training_co2_cost", "training_energy_cost"),
        *("max_prob", "predicted_index", "estimated_num_tokens_cost"),
    }
)

_Key: TypeAlias = tuple[str, int]  # instance and trial
_Means: TypeAlias = dict[str, float]  # by the statistic's name


def looks_like(folder: Path) -> bool:
    """Whether a folder is that of one run."""
    return (folder / SPEC).is_file() and (folder / STATS).is_file()


def read(folder: Path, notes: Notes, options: LogOptions) -> Iterator[LoggedAnswer]:
    """The scored answers of a run directory.

    Raises:
        DataError: A file is missing or damaged, or lacks what was asked for.
    """
    spec = _object(folder / SPEC)
    adapter = spec.get("adapter_spec")
    adapter = adapter if isinstance(adapter, dict) else {}
    respondent = adapter.get("model") or adapter.get("model_deployment") or options.model
    if not isinstance(respondent, str) or not respondent:
        raise fault(
            folder / SPEC,
            found="no model in adapter_spec",
            wanted="the model's name",
            todo="name it",
        )
    statistics = _statistics(folder / STATS)
    run = _Run(
        respondent=respondent,
        method=str(adapter.get("method", "")),
        metric=_metric(folder / STATS, statistics, notes, options),
        task=_task(str(spec.get("name") or folder.name)),
    )
    seen: set[_Key] = set()
    for instance, request, place in _requests(folder):
        if instance.get("perturbation"):
            notes.add("perturbed", place)
            continue
        key = _key(instance.get("id"), request)
        if key in seen:  # requests of one option each: the first stands for all
            continue
        seen.add(key)
        answer = _answer(instance, request.get("result"), statistics.get(key), run, notes, place)
        if answer is not None:
            yield answer


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What holds for all answers of a run."""

    respondent: str
    method: str
    metric: str
    task: str

    @property
    def asks_each_option(self) -> bool:
        """Whether each option is a request of its own: their sizes are not those of an answer."""
        return self.method.startswith("multiple_choice_separate") or self.method == "ranking_binary"

    @property
    def wants_one_token(self) -> bool:
        """Whether a letter is all that is asked for, so that every reply ends at its limit."""
        return self.method == "multiple_choice_joint"


def _answer(
    instance: Mapping[str, Any],
    result: Any,
    known: _Means | None,
    run: _Run,
    notes: Notes,
    place: str,
) -> LoggedAnswer | None:
    result = result if isinstance(result, dict) else {}
    score = None if known is None else known.get(run.metric)
    if result.get("success") is False or result.get("error"):
        notes.add("errored", place)
        return None
    if known is None or score is None:
        notes.add("unscored_request" if known is None else "no_score", place)
        return None
    if not 0 <= score <= 1:
        notes.add("out_of_range", place, detail=run.metric)
        return None
    question = _question(instance, run)
    if question is None:
        asked = instance.get("input")
        has_media = isinstance(asked, dict) and "multimedia_content" in asked
        notes.add("media" if has_media else "no_question", place)
        return None
    if run.asks_each_option:
        return LoggedAnswer(question=question, respondent=run.respondent, score=score)
    completion = _completion(result)
    text = completion.get("text")
    if isinstance(text, str) and not text.strip():
        notes.add("empty_answer", place)
    if _finish_reason(completion) == "length" and not run.wants_one_token:
        notes.add("truncated_answer", place)
    fresh = result.get("cached") is False
    return LoggedAnswer(
        question=question,
        respondent=run.respondent,
        score=score,
        input_tokens=number(known.get("num_prompt_tokens")),
        output_tokens=_output_tokens(known),
        latency_s=number(result.get("request_time")) if fresh else math.nan,
        output_chars=len(text) if isinstance(text, str) else math.nan,
    )


def _statistics(path: Path) -> dict[_Key, _Means]:
    """The means of each unperturbed instance and trial; a pair may stand in several rows."""
    found: dict[_Key, _Means] = {}
    for row, line in elements(path):
        if not isinstance(row, dict):
            raise fault(
                path,
                where=f"line {line}",
                found=f"a JSON {type(row).__name__}",
                wanted="objects with instance_id and stats",
                todo="check that the file is HELM's",
            )
        if row.get("perturbation"):
            continue  # noted where its request stands
        means = found.setdefault(_key(row.get("instance_id"), row), {})
        for stat in _objects(row.get("stats")):
            name, value = stat.get("name"), _mean(stat)
            if isinstance(name, dict) and not name.get("perturbation") and value is not None:
                means[str(name.get("name"))] = value
    return found


def _key(instance: Any, row: Mapping[str, Any]) -> _Key:
    trial = row.get("train_trial_index")
    return str(instance), trial if isinstance(trial, int) else 0


def _mean(stat: Mapping[str, Any]) -> float | None:
    mean = as_score(stat.get("mean"))
    total, count = as_score(stat.get("sum")), number(stat.get("count"))
    return total / count if mean is None and total is not None and count > 0 else mean


def _objects(values: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, and nothing of anything else."""
    listed = values if isinstance(values, list) else ()
    return [value for value in listed if isinstance(value, dict)]


def _metric(
    path: Path, statistics: Mapping[_Key, _Means], notes: Notes, options: LogOptions
) -> str:
    names = dict.fromkeys(
        name
        for known in statistics.values()
        for name in known
        if name not in _SIZES and not name.startswith("finish_reason")
    )
    if options.metric is not None:
        if options.metric not in names:
            raise fault(
                path,
                found=f"the metrics {', '.join(names) or '(none)'}",
                wanted=f"the metric {options.metric!r}",
                todo="name one of those",
            )
        return options.metric
    metric = chosen(names, HELM_METRICS)
    if metric is None:
        raise fault(
            path,
            found="no metric that scores an answer",
            wanted=f"one such as {HELM_METRICS[0]} or exact_match",
            todo="check that the run was evaluated, or name its metric",
        )
    others = [name for name in names if name not in NO_SCORES]
    if len(others) > 1:
        notes.add("metric", path, detail=f"{metric} of {', '.join(sorted(others))}")
    return metric


def _requests(folder: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    """Instances with the requests made of them; without requests, instances alone."""
    state, bare = folder / STATE, folder / INSTANCES
    if state.is_file():
        for key, request, line in members(state, arrays=("request_states",)):
            instance = request.get("instance") if isinstance(request, dict) else None
            if key == "request_states" and isinstance(instance, dict):
                yield instance, request, f"{state}, line {line}"
    elif bare.is_file():
        for instance, line in elements(bare):
            if isinstance(instance, dict):
                yield instance, {}, f"{bare}, line {line}"
    else:
        raise fault(
            folder,
            found=f"neither {STATE} nor {INSTANCES}",
            wanted="the questions of the run",
            todo=f"copy {STATE} as well",
        )


def _question(instance: Mapping[str, Any], run: _Run) -> Question | None:
    asked = instance.get("input")
    text = asked.get("text") if isinstance(asked, dict) else asked
    if not isinstance(text, str) or not text.strip():
        return None
    references = _objects(instance.get("references"))
    texts = [_output(reference) for reference in references]
    right = [i for i, each in enumerate(references) if _is_correct(each.get("tags"))]
    is_choice = run.method.startswith("multiple_choice") and len(texts) > 1
    if is_choice:
        reference = LETTERS[right[0]] if right and right[0] < len(LETTERS) else None
        choices = tuple(texts)
    else:
        reference, choices = (texts[right[0]] or None) if right else None, ()
    return Question(text=cleaned(text), choices=choices, reference=reference, task=run.task)


def _is_correct(tags: Any) -> bool:
    return isinstance(tags, list) and "correct" in tags


def _output(reference: Mapping[str, Any]) -> str:
    output = reference.get("output")
    text = output.get("text") if isinstance(output, dict) else output
    return cleaned(text) if isinstance(text, str) else ""


def _completion(result: Mapping[str, Any]) -> Mapping[str, Any]:
    completions = result.get("completions")
    first = completions[0] if isinstance(completions, list) and completions else None
    return first if isinstance(first, dict) else {}


def _finish_reason(completion: Mapping[str, Any]) -> str | None:
    reason = completion.get("finish_reason")
    return str(reason.get("reason")) if isinstance(reason, dict) else None


def _output_tokens(means: Mapping[str, float]) -> float:
    return number(means.get("num_output_tokens", means.get("num_completion_tokens")))


def _task(name: str) -> str:
    """``mmlu/anatomy`` of ``mmlu:subject=anatomy,method=...,model=...``."""
    scenario, _, arguments = name.partition(":")
    parts = [argument.partition("=") for argument in arguments.split(",") if "=" in argument]
    return "/".join([scenario, *(value for key, _, value in parts if key not in _NOT_THE_TASK)])


def _object(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return json_object(path, "line 1", raw)
