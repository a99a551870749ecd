"""Writes small folders of evaluation records in each encoding."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ENCODINGS = ("parquet", "jsonl", "csv")

Row = dict[str, Any]

PROMPTS: list[Row] = [
    {"prompt_id": "p1", "text": "Name a river of Portugal.", "task": "geo", "reference": "Tejo"},
    {"prompt_id": "p2", "text": "Which is a prime?", "choices": '["21", "23"]'},
    {"prompt_id": "p3", "text": "Say “olá”,\nthen wait."},
]
RESPONSES: list[Row] = [
    {"prompt_id": "p1", "model": "ada", "score": 1.0, "output_tokens": 7, "cost_usd": 1e-05},
    {"prompt_id": "p2", "model": "ada", "score": 0.0, "output_chars": 40, "latency_s": 0.5},
    {"prompt_id": "p1", "model": "bob", "score": 0.25, "input_tokens": 11},
    {"prompt_id": "p3", "model": "bob", "score": 0.1},
]
MODELS: list[Row] = [
    {
        "model": "ada",
        "family": "lovelace",
        "released": "2024-05",
        "params_b": 8.0,
        "input_usd_per_mtok": 0.1,
        "output_usd_per_mtok": 0.4,
        "price_kind": "list",
    },
    {"model": "bob"},
]


def write_rows(path: Path, rows: list[Row], *, columns: list[str] | None = None) -> Path:
    """Write ``rows`` in the encoding of the path's suffix; absent values are null."""
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.table({n: [row.get(n) for row in rows] for n in names}), path)
    return path


def write_folder(
    folder: Path,
    *,
    encoding: str = "jsonl",
    prompts: list[Row] = PROMPTS,
    responses: list[Row] = RESPONSES,
    models: list[Row] | None = None,
) -> Path:
    """Write a whole data set and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / f"prompts.{encoding}", prompts)
    write_rows(folder / f"responses.{encoding}", responses)
    if models is not None:
        write_rows(folder / "models.csv", models, columns=list(MODELS[0]))
    return folder
