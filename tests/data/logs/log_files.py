"""The checked-in logs, and small ones written on the spot."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from zerorouter.data.logs.records import LoggedAnswers

FIXTURES = Path(__file__).parent / "fixtures"
DATE = "2026-03-04T05-06-07.890123"

Row = dict[str, Any]


def fixture(pattern: str) -> Path:
    """The one fixture whose path matches."""
    (path,) = FIXTURES.glob(pattern)
    return path


def rows_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sample_row(doc: Row, score: object = 1.0, **more: Any) -> Row:
    """One row of lm-eval's samples with a metric ``exact_match``, changed by ``more``."""
    row = {
        "doc_id": 0,
        "doc": doc,
        "target": "42",
        "arguments": {"gen_args_0": {"arg_0": "Q: the prompt\nA:", "arg_1": {"until": ["\n"]}}},
        "resps": [["It is 42."]],
        "filtered_resps": ["42"],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "0" * 64,
        "prompt_hash": "0" * 64,
        "target_hash": "0" * 64,
        "exact_match": score,
    }
    return {**row, **more}


def write_samples(
    folder: Path, rows: list[Row], *, task: str = "sums", date: str = DATE, compact: bool = False
) -> Path:
    """Write lm-eval samples; compact JSON is parsed whole by the reader, never cut."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{date}.jsonl"
    separators = (",", ":") if compact else None
    lines = [json.dumps(row, ensure_ascii=False, separators=separators) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
    return path


def write_results(folder: Path, told: Row, *, date: str = DATE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"results_{date}.json"
    path.write_text(json.dumps({"results": {}, **told}, indent=2), encoding="utf-8")
    return path


def inspect_head(**more: Any) -> Row:
    head = {
        "version": 2,
        "status": "success",
        "eval": {"task": "sums", "model": "acme/tiny-1"},
        "results": {"scores": [{"name": "match", "scorer": "match"}]},
    }
    return {**head, **more}


def inspect_sample(**more: Any) -> Row:
    usage = {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27}
    sample = {
        "id": "a",
        "epoch": 1,
        "input": "How many is 6 times 7?",
        "target": "42",
        "messages": [
            {"role": "user", "content": "How many is 6 times 7?"},
            {"role": "assistant", "content": "It is 42."},
        ],
        "output": {
            "model": "tiny-1",
            "choices": [{"message": {"content": "It is 42."}, "stop_reason": "stop"}],
            "completion": "It is 42.",
            "usage": usage,
            "time": 1.5,
        },
        "scores": {"match": {"value": "C"}},
        "model_usage": {"acme/tiny-1": usage},
        "events": [],
        "total_time": 4.0,
        "working_time": 3.0,
    }
    return {**sample, **more}


def write_eval(
    path: Path,
    samples: list[Row],
    *,
    head: Row | None = None,
    compression: int = zipfile.ZIP_DEFLATED,
    indent: int | None = 2,
) -> Path:
    """An ``.eval`` archive."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample, indent=indent, ensure_ascii=False))
        archive.writestr("header.json", json.dumps(head or inspect_head(), indent=2))
    return path


def write_inspect_json(path: Path, samples: list[Row], *, head: Row | None = None) -> Path:
    told = {**(head or inspect_head()), "samples": samples, "reductions": []}
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def scores(logged: LoggedAnswers) -> dict[tuple[str, str], float]:
    """Scores by respondent and question."""
    rows = logged.responses
    return {
        (logged.respondents[who], logged.prompts.texts[asked]): round(float(score), 6)
        for who, asked, score in zip(rows.respondent, rows.prompt, rows.score, strict=True)
    }


def column(logged: LoggedAnswers, name: str) -> list[float]:
    return [float(value) for value in logged.responses.column(name)]
